/*
 * Time to live: EXPIRE and its three siblings with NX, XX, GT, LT; TTL and its siblings; PERSIST.
 *
 * Every time a client gives becomes absolute wall milliseconds here, once, from c->now_ms: what is stored, compared and
 * replicated is that number, so that a replica or the AOF never adds a relative time to a clock of its own. A time that has
 * already passed deletes the key, and replicates the deletion.
 */
#include "cmd/cmd_generic.h"

void generic_expire_error(struct cmd_ctx *c) {
    reply_errorf(c->r, "ERR invalid expire time in '%s' command", c->cmd->full_name);
}

bool generic_abs_time(int64_t v, bool in_seconds, int64_t base_ms, int64_t *ret_ms) {
    int64_t ms = v;
    if (in_seconds && __builtin_mul_overflow(v, (int64_t)1000, &ms)) return false;
    if (__builtin_add_overflow(ms, base_ms, &ms)) return false;
    *ret_ms = ms;
    return true;
}

void generic_delete_expired(struct cmd_ctx *c, struct slice key) {
    bool lazy = atomic_load_explicit(&c->eng->lazy_expire, memory_order_relaxed);
    ks_delete(c->ks, c->db, key, lazy);
    struct slice argv[] = { lazy ? SLICE_LIT("UNLINK") : SLICE_LIT("DEL"), key };
    cmd_propagate(c, 2, argv);
    cmd_modified(c, c->db, key);
    cmd_notify(c, 'g', "del", c->db, key);
}

void generic_set_expire(struct cmd_ctx *c, struct entry *e, struct slice key, int64_t when_ms) {
    char num[STR_LL_MAX];
    cmd_set_expire(c, c->db, e, when_ms);
    struct slice argv[] = { SLICE_LIT("PEXPIREAT"), key, { num, str_from_ll(num, when_ms) } };
    cmd_propagate(c, 3, argv);
    cmd_modified(c, c->db, key);
    cmd_notify(c, 'g', "expire", c->db, key);
}

/* ---- EXPIRE, PEXPIRE, EXPIREAT, PEXPIREAT ---- */

enum expire_cond { EXPIRE_NX = 1, EXPIRE_XX = 2, EXPIRE_GT = 4, EXPIRE_LT = 8 };

static bool expire_conditions(struct cmd_ctx *c, unsigned *ret) {
    unsigned f = 0;
    for (int i = 3; i < c->argc; i++) {
        struct slice a = c->argv[i];
        if (slice_ieq(a, "nx"))
            f |= EXPIRE_NX;
        else if (slice_ieq(a, "xx"))
            f |= EXPIRE_XX;
        else if (slice_ieq(a, "gt"))
            f |= EXPIRE_GT;
        else if (slice_ieq(a, "lt"))
            f |= EXPIRE_LT;
        else {
            reply_errorf(c->r, "ERR Unsupported option %.*s", (int)a.len, a.ptr);
            return false;
        }
    }
    if ((f & EXPIRE_NX) && (f & (EXPIRE_XX | EXPIRE_GT | EXPIRE_LT))) {
        reply_error(c->r, "ERR NX and XX, GT or LT options at the same time are not compatible");
        return false;
    }
    if ((f & EXPIRE_GT) && (f & EXPIRE_LT)) {
        reply_error(c->r, "ERR GT and LT options at the same time are not compatible");
        return false;
    }
    *ret = f;
    return true;
}

/* A key without expiry counts as living for ever: never exceeded by GT, always undercut by LT. */
static bool expire_allowed(unsigned cond, int64_t current_ms, int64_t when_ms) {
    bool is_volatile = current_ms != KS_NO_EXPIRE;
    if ((cond & EXPIRE_NX) && is_volatile) return false;
    if ((cond & EXPIRE_XX) && !is_volatile) return false;
    if ((cond & EXPIRE_GT) && (!is_volatile || when_ms <= current_ms)) return false;
    if ((cond & EXPIRE_LT) && is_volatile && when_ms >= current_ms) return false;
    return true;
}

static void expire_generic(struct cmd_ctx *c, int64_t base_ms, bool in_seconds) {
    unsigned cond;
    int64_t v, when_ms;
    if (!expire_conditions(c, &cond) || !cmd_arg_ll(c, c->argv[2], &v, NULL)) return;
    if (!generic_abs_time(v, in_seconds, base_ms, &when_ms)) {
        generic_expire_error(c);
        return;
    }
    struct slice key = c->argv[1];
    struct entry *e = cmd_find_write(c, key);
    if (e == NULL || !expire_allowed(cond, entry_expire_ms(e), when_ms)) {
        reply_int(c->r, 0);
        return;
    }
    if (when_ms <= c->now_ms)
        generic_delete_expired(c, key);
    else
        generic_set_expire(c, e, key, when_ms);
    reply_int(c->r, 1);
}

void generic_expire_command(struct cmd_ctx *c) {
    expire_generic(c, cmd_clock_ms(c), true);
}

void generic_pexpire_command(struct cmd_ctx *c) {
    expire_generic(c, cmd_clock_ms(c), false);
}

void generic_expireat_command(struct cmd_ctx *c) {
    expire_generic(c, 0, true);
}

void generic_pexpireat_command(struct cmd_ctx *c) {
    expire_generic(c, 0, false);
}

/* ---- TTL, PTTL, EXPIRETIME, PEXPIRETIME, PERSIST ---- */

/* Seconds are rounded to the nearest, not down: a key just given 10 seconds has a TTL of 10. */
static void ttl_generic(struct cmd_ctx *c, int64_t base_ms, bool in_seconds) {
    struct entry *e = generic_peek(c, c->argv[1], true);
    if (e == NULL) {
        reply_int(c->r, -2);
        return;
    }
    int64_t when_ms = entry_expire_ms(e);
    if (when_ms == KS_NO_EXPIRE) {
        reply_int(c->r, -1);
        return;
    }
    int64_t left_ms = when_ms > base_ms ? when_ms - base_ms : 0;
    reply_int(c->r, in_seconds ? left_ms / 1000 + (left_ms % 1000 >= 500) : left_ms);
}

void generic_ttl_command(struct cmd_ctx *c) {
    ttl_generic(c, c->now_ms, true);
}

void generic_pttl_command(struct cmd_ctx *c) {
    ttl_generic(c, c->now_ms, false);
}

void generic_expiretime_command(struct cmd_ctx *c) {
    ttl_generic(c, 0, true);
}

void generic_pexpiretime_command(struct cmd_ctx *c) {
    ttl_generic(c, 0, false);
}

void generic_persist_command(struct cmd_ctx *c) {
    struct entry *e = cmd_find_write(c, c->argv[1]);
    if (e == NULL || entry_expire_ms(e) == KS_NO_EXPIRE) {
        reply_int(c->r, 0);
        return;
    }
    ks_set_expire(c->ks, c->db, e, KS_NO_EXPIRE);
    cmd_modified(c, c->db, c->argv[1]);
    cmd_notify(c, 'g', "persist", c->db, c->argv[1]);
    reply_int(c->r, 1);
}
