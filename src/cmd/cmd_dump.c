/*
 * DUMP, RESTORE: a value as bytes that any Redis or Valkey takes, and back. The bytes are data/rdb.h's.
 *
 * A payload is peer's bytes: rdb_load_value checks every structure before it is used, whatever `sanitize-dump-payload` says.
 */
#include "cmd/cmd_dump.h"

#include <string.h>

#include "base/alloc.h"
#include "base/log.h"
#include "data/rdb.h"

#define COPY_MAX 4096 /* a smaller payload is copied into the reply */

void dump_dump_command(struct cmd_ctx *c) {
    struct entry *e = cmd_find_read(c, c->argv[1]);
    if (!e) {
        reply_null(c->r);
        return;
    }
    struct buf payload = { 0 };
    rdb_dump(&payload, entry_value(e));
    if (payload.len <= COPY_MAX) {
        reply_bulk_slice(c->r, buf_slice(&payload));
        buf_done(&payload);
        return;
    }
    size_t len;
    char *bytes = buf_steal(&payload, &len);
    reply_bulk_ref(c->r, bytes, len, mem_free, bytes);
}

struct restore_args {
    bool replace, abs_ttl;
    int64_t ttl_ms;
    int64_t idle_s, freq; /* -1: not given */
};

static bool restore_option(struct cmd_ctx *c, struct restore_args *a, int *i) {
    bool more = *i + 1 < c->argc;
    if (slice_ieq(c->argv[*i], "replace")) {
        a->replace = true;
    } else if (slice_ieq(c->argv[*i], "absttl")) {
        a->abs_ttl = true;
    } else if (slice_ieq(c->argv[*i], "idletime") && more && a->freq == -1) {
        if (!cmd_arg_ll(c, c->argv[++*i], &a->idle_s, NULL)) return false;
        if (a->idle_s < 0) {
            reply_error(c->r, "ERR Invalid IDLETIME value, must be >= 0");
            return false;
        }
    } else if (slice_ieq(c->argv[*i], "freq") && more && a->idle_s == -1) {
        if (!cmd_arg_ll(c, c->argv[++*i], &a->freq, NULL)) return false;
        if (a->freq < 0 || a->freq > 255) {
            reply_error(c->r, "ERR Invalid FREQ value, must be >= 0 and <= 255");
            return false;
        }
    } else {
        cmd_syntax_error(c);
        return false;
    }
    return true;
}

static bool parse_restore(struct cmd_ctx *c, struct restore_args *a) {
    *a = (struct restore_args){ .idle_s = -1, .freq = -1 };
    for (int i = 4; i < c->argc; i++)
        if (!restore_option(c, a, &i)) return false;
    if (!a->replace && cmd_find_write(c, c->argv[1])) {
        reply_error(c->r, "BUSYKEY Target key name already exists.");
        return false;
    }
    if (!cmd_arg_ll(c, c->argv[2], &a->ttl_ms, NULL)) return false;
    if (a->ttl_ms < 0) {
        reply_error(c->r, "ERR Invalid TTL value, must be >= 0");
        return false;
    }
    if (a->ttl_ms && !a->abs_ttl && __builtin_add_overflow(a->ttl_ms, cmd_clock_ms(c), &a->ttl_ms)) {
        reply_error(c->r, "ERR Invalid TTL value, must be >= 0");
        return false;
    }
    return true;
}

/* The payload's value; NULL after the error. */
static struct obj *load_payload(struct cmd_ctx *c, struct slice payload) {
    struct slice body;
    if (!rdb_check_payload(payload, &body)) {
        reply_error(c->r, "ERR DUMP payload version or checksum are wrong");
        return NULL;
    }
    const unsigned char *p = (const unsigned char *)body.ptr;
    struct rdb_in in = { .p = p, .end = p + body.len };
    unsigned type = rdb_get_u8(&in);
    struct obj *o = rdb_load_value(&in, type, 0);
    if (type >= RDB_HASH_ZIPMAP && type != RDB_HASH_METADATA)
        atomic_fetch_add_explicit(&c->eng->n_payloads_checked, 1, memory_order_relaxed);
    if (o && in.p != in.end) {
        rdb_fail(&in, "something follows the value");
        o = obj_unref(o);
    }
    if (o) return o;
    log_verbose("RESTORE: %s", in.err);
    reply_error(c->r, "ERR Bad data format");
    return NULL;
}

/* As given, but for a time that counts from now. */
static void propagate(struct cmd_ctx *c, const struct restore_args *a) {
    if (!a->ttl_ms || a->abs_ttl || !cmd_propagates(c)) return;
    char num[STR_LL_MAX];
    struct slice *argv = mem_calloc((size_t)c->argc + 1, sizeof *argv);
    memcpy(argv, c->argv, (size_t)c->argc * sizeof *argv);
    argv[2] = (struct slice){ num, str_from_ll(num, a->ttl_ms) };
    argv[c->argc] = SLICE_LIT("ABSTTL");
    cmd_propagate(c, c->argc + 1, argv);
    mem_free(argv);
}

void dump_restore_command(struct cmd_ctx *c) {
    struct restore_args a;
    struct slice key = c->argv[1];
    if (!parse_restore(c, &a)) return;
    struct obj *o = load_payload(c, c->argv[3]);
    if (!o) return;
    struct entry *old = cmd_find_write(c, key);
    if (a.ttl_ms && a.ttl_ms <= c->now_ms) { /* gone already */
        obj_unref(o);
        if (old) generic_delete_expired(c, key);
        reply_ok(c->r);
        return;
    }
    struct entry *e = generic_put(c, c->db, key, old, o, false);
    if (a.ttl_ms) cmd_set_expire(c, c->db, e, a.ttl_ms);
    if (a.idle_s >= 0 && !ks_uses_lfu(c->ks))
        entry_set_idle_s(e, (uint32_t)(a.idle_s < UINT32_MAX ? a.idle_s : UINT32_MAX), cmd_clock_ms(c));
    if (a.freq >= 0 && ks_uses_lfu(c->ks)) entry_set_lfu(e, (uint8_t)a.freq, cmd_clock_ms(c));
    propagate(c, &a);
    cmd_modified(c, c->db, key);
    cmd_notify(c, 'g', "restore", c->db, key);
    reply_ok(c->r);
}
