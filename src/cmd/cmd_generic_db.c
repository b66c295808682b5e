/*
 * Commands on whole databases: DBSIZE, FLUSHDB, FLUSHALL, SWAPDB. All but DBSIZE run with every shard locked; DBSIZE reads
 * counters and needs no lock.
 */
#include "cmd/cmd_generic.h"

#include <limits.h>

void generic_dbsize_command(struct cmd_ctx *c) {
    reply_int(c->r, (int64_t)ks_size(c->ks, c->db));
}

static bool flush_mode(struct cmd_ctx *c, bool *ret_async) {
    if (c->argc == 1)
        *ret_async = atomic_load_explicit(&c->eng->lazy_user_flush, memory_order_relaxed);
    else if (c->argc == 2 && slice_ieq(c->argv[1], "async"))
        *ret_async = true;
    else if (c->argc == 2 && slice_ieq(c->argv[1], "sync"))
        *ret_async = false;
    else {
        cmd_syntax_error(c);
        return false;
    }
    return true;
}

static void flush_dbs(struct cmd_ctx *c, int db) {
    bool async;
    if (!flush_mode(c, &async)) return;
    if (c->eng->hooks.flushed) c->eng->hooks.flushed(c->eng->hooks.arg, c, db);
    ks_touch_watched_all(c->ks, db); /* before: it marks the keys that exist */
    uint64_t n = ks_flush(c->ks, db, async);
    if (db < 0 && c->eng->hooks.emptied) c->eng->hooks.emptied(c->eng->hooks.arg);
    cmd_dirty(c, n);
    /* Said even when nothing was there: the log must empty a replica that has more than it should. */
    cmd_propagate(c, c->argc, c->argv);
    reply_ok(c->r);
}

void generic_flushdb_command(struct cmd_ctx *c) {
    flush_dbs(c, c->db);
}

void generic_flushall_command(struct cmd_ctx *c) {
    flush_dbs(c, -1);
}

void generic_swapdb_command(struct cmd_ctx *c) {
    int64_t a, b;
    if (!cmd_arg_ll_range(c, c->argv[1], INT_MIN, INT_MAX, &a, "ERR invalid first DB index") ||
        !cmd_arg_ll_range(c, c->argv[2], INT_MIN, INT_MAX, &b, "ERR invalid second DB index"))
        return;
    int n = ks_n_dbs(c->ks);
    if (a < 0 || a >= n || b < 0 || b >= n) {
        reply_error(c->r, "ERR DB index is out of range");
        return;
    }
    ks_swap(c->ks, (int)a, (int)b);
    cmd_dirty(c, 1);
    reply_ok(c->r);
}
