/*
 * What command families share: key look-up with type check, argument conversion, effects, HELP replies. Runs on the session's I/O
 * thread under the locks of the command.
 */
#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/str.h"
#include "cmd/effects.h"
#include "cmd/figures.h"

void cmd_modified(struct cmd_ctx *c, int db, struct slice key) {
    ks_touch_watched(c->ks, db, key);
    cmd_dirty(c, 1);
    if (c->eng->hooks.modified) c->eng->hooks.modified(c->eng->hooks.arg, c, db, key);
}

void cmd_set_expire(struct cmd_ctx *c, int db, struct entry *e, int64_t when_ms) {
    if (ks_keeps_foreign(c->ks) && !c->s->applies)
        ks_set_expire_own(c->ks, db, e, when_ms);
    else
        ks_set_expire(c->ks, db, e, when_ms);
}

void cmd_dirty(struct cmd_ctx *c, uint64_t n) {
    figures_add_dirty(c->eng->figures, c->s->slot, n);
}

void cmd_notify(struct cmd_ctx *c, char cls, const char *event, int db, struct slice key) {
    if (__builtin_expect(!atomic_load_explicit(&c->eng->notify_on, memory_order_relaxed), 1)) return;
    if (c->eng->hooks.notify) c->eng->hooks.notify(c->eng->hooks.arg, cls, event, db, key);
}

void cmd_propagate(struct cmd_ctx *c, int argc, const struct slice *argv) {
    unsigned to = effects_wanted(c);
    c->propagated = true;
    if (c->script && !c->script_repl) return;
    if (c->eng->hooks.propagate) c->eng->hooks.propagate(c->eng->hooks.arg, c, argc, argv);
    if (to && argc) effects_add(c->eng, c->s->slot, to, c->db, argc, argv, 0, NULL);
}

void cmd_propagate_to_replicas(struct cmd_ctx *c) {
    unsigned to = effects_wanted(c) & EFFECT_REPL;
    c->propagated = true;
    if (to) effects_add(c->eng, c->s->slot, to, c->db, c->argc, c->argv, 0, NULL);
}

bool cmd_propagates(const struct cmd_ctx *c) {
    return c->eng->hooks.propagate || effects_wanted(c);
}

int64_t cmd_clock_ms(const struct cmd_ctx *c) {
    return c->now_ms ? c->now_ms : clock_wall_ms();
}

struct entry *cmd_find_read(struct cmd_ctx *c, struct slice key) {
    struct entry *e = ks_find(c->ks, c->db, key, c->now_ms, c->s->no_touch ? KS_FIND_NO_TOUCH : KS_FIND_READ);
    if (!e) cmd_notify(c, 'm', "keymiss", c->db, key);
    return e;
}

struct entry *cmd_find_write(struct cmd_ctx *c, struct slice key) {
    return ks_find(c->ks, c->db, key, c->now_ms, KS_FIND_WRITE | (c->s->no_touch ? KS_FIND_NO_TOUCH : 0));
}

struct entry *cmd_find_typed(struct cmd_ctx *c, struct slice key, enum obj_type type, bool for_write, bool *ret_err) {
    struct entry *e = for_write ? cmd_find_write(c, key) : cmd_find_read(c, key);
    *ret_err = e && entry_value(e)->type != type;
    if (!*ret_err) return e;
    cmd_wrongtype(c);
    return NULL;
}

bool cmd_arg_ll(struct cmd_ctx *c, struct slice a, int64_t *ret, const char *msg) {
    if (str_to_ll(a, ret)) return true;
    reply_error(c->r, msg ? msg : "ERR value is not an integer or out of range");
    return false;
}

bool cmd_arg_ll_range(struct cmd_ctx *c, struct slice a, int64_t min, int64_t max, int64_t *ret, const char *msg) {
    int64_t v;
    if (!cmd_arg_ll(c, a, &v, msg)) return false;
    if (v >= min && v <= max) {
        *ret = v;
        return true;
    }
    if (msg) {
        reply_error(c->r, msg);
    } else {
        reply_errorf(c->r, "ERR value is out of range, value must between %lld and %lld", (long long)min, (long long)max);
    }
    return false;
}

bool cmd_arg_double(struct cmd_ctx *c, struct slice a, double *ret, const char *msg) {
    if (str_to_double(a, ret)) return true;
    reply_error(c->r, msg ? msg : "ERR value is not a valid float");
    return false;
}

void cmd_syntax_error(struct cmd_ctx *c) {
    reply_error(c->r, "ERR syntax error");
}

void cmd_wrongtype(struct cmd_ctx *c) {
    reply_error(c->r, "WRONGTYPE Operation against a key holding the wrong kind of value");
}

/* The command's name as the client typed it, which rename-command may have chosen. */
static void upper_name(const struct cmd_ctx *c, char *out, size_t cap) {
    size_t len = c->argv[0].len < cap ? c->argv[0].len : cap - 1;
    for (size_t i = 0; i < len; i++) out[i] = (char)toupper((unsigned char)c->argv[0].ptr[i]);
    out[len] = 0;
}

void cmd_unknown_sub(struct cmd_ctx *c) {
    char name[64];
    upper_name(c, name, sizeof name);
    struct slice sub = c->argc > 1 ? c->argv[1] : SLICE_LIT("");
    reply_errorf(c->r, "ERR unknown subcommand or wrong number of arguments for '%.*s'. Try %s HELP.",
                 (int)(sub.len < 128 ? sub.len : 128), sub.ptr, name);
}

void cmd_help(struct cmd_ctx *c, const char *const *lines) {
    char name[64];
    size_t n = 0;
    upper_name(c, name, sizeof name);
    while (lines[n]) n++;
    reply_array(c->r, n + 3);
    char head[128];
    snprintf(head, sizeof head, "%s <subcommand> [<arg> [value] [opt] ...]. Subcommands are:", name);
    reply_simple(c->r, head);
    for (size_t i = 0; i < n; i++) reply_simple(c->r, lines[i]);
    reply_simple(c->r, "HELP");
    reply_simple(c->r, "    Prints this help.");
}

bool cmd_check_string_len(struct cmd_ctx *c, uint64_t size, uint64_t append) {
    uint64_t max = atomic_load_explicit(&c->eng->proto_max_bulk_len, memory_order_relaxed);
    if (size <= max && append <= max - size) return true;
    reply_error(c->r, "ERR string exceeds maximum allowed size (proto-max-bulk-len)");
    return false;
}
