/*
 * Looking over the keyspace: KEYS, SCAN, RANDOMKEY.
 *
 * KEYS and RANDOMKEY run with every shard locked. SCAN takes the lock of one shard at a time and lets it go before the next, so
 * that a scan of millions of keys never stops writers of other shards; inside EXEC the transaction already holds all the locks it
 * needs, and dispatch_lock does nothing.
 *
 * The keys a SCAN finds are copied while the lock is held, because the reply names the next cursor first and the cursor is known
 * last.
 */
#include "cmd/cmd_generic.h"

#include "base/buf.h"
#include "cmd/scan.h"

static bool matches_all(struct slice pattern) {
    return pattern.len == 1 && pattern.ptr[0] == '*';
}

/* ---- KEYS ---- */

struct keys_walk {
    struct reply *r;
    struct slice pattern;
    bool all;
    size_t n;
};

static bool keys_visit(void *arg, struct entry *e) {
    struct keys_walk *w = arg;
    struct slice key = entry_key(e);
    if (w->all || str_glob(w->pattern, key, false)) {
        reply_bulk_slice(w->r, key);
        w->n++;
    }
    return true;
}

void generic_keys_command(struct cmd_ctx *c) {
    struct keys_walk w = { .r = c->r, .pattern = c->argv[1], .all = matches_all(c->argv[1]) };
    struct reply_deferred d = reply_deferred_begin(c->r);
    for (int shard = 0; shard < ks_n_shards(c->ks); shard++) ks_each(c->ks, c->db, shard, c->now_ms, keys_visit, &w);
    reply_deferred_array(c->r, d, w.n);
}

/* ---- SCAN ---- */

struct scan_walk {
    struct scan_opts opts;
    int64_t sampled;  /* keys seen, matching or not: what COUNT bounds */
    struct buf found; /* length (size_t) and bytes of each key */
    size_t n_found;
};

static void scan_visit(void *arg, struct entry *e) {
    struct scan_walk *w = arg;
    struct slice key = entry_key(e);
    w->sampled++;
    /* A name of no type matches nothing. */
    if (w->opts.type_name.ptr != NULL && !slice_ieq(w->opts.type_name, obj_type_name(entry_value(e)))) return;
    if (!scan_matches(&w->opts, key)) return;
    buf_append(&w->found, &key.len, sizeof(key.len));
    buf_append(&w->found, key.ptr, key.len);
    w->n_found++;
}

/* One lock per run of steps in one shard. False: a script has the locks, and nothing was seen. */
static bool scan_run(struct cmd_ctx *c, struct scan_walk *w, uint64_t *cursor) {
    int64_t steps_left = scan_max_steps(&w->opts);
    int shard = -1;
    do {
        int next = ks_scan_shard(c->ks, *cursor);
        if (next != shard && !c->in_exec) {
            if (shard >= 0) dispatch_unlock(c);
            if (!dispatch_lock(c, 1ULL << next)) return shard >= 0; /* the rest comes with the next call */
        }
        shard = next;
        *cursor = ks_scan(c->ks, c->db, *cursor, c->now_ms, scan_visit, w);
    } while (*cursor != 0 && --steps_left > 0 && w->sampled < w->opts.count);
    if (!c->in_exec) dispatch_unlock(c);
    return true;
}

void generic_scan_command(struct cmd_ctx *c) {
    uint64_t cursor;
    struct scan_walk w = { 0 };
    if (!scan_cursor(c, c->argv[1], &cursor) || !scan_options(c, 2, SCAN_TYPE, &w.opts)) return;
    if (!scan_run(c, &w, &cursor)) {
        dispatch_reply_busy(c);
        return;
    }

    struct reply_deferred d = scan_reply_begin(c, cursor);
    for (size_t at = 0; at < w.found.len;) {
        size_t len;
        memcpy(&len, w.found.data + at, sizeof(len));
        reply_bulk(c->r, w.found.data + at + sizeof(len), len);
        at += sizeof(len) + len;
    }
    reply_deferred_array(c->r, d, w.n_found);
    buf_done(&w.found);
}

/* ---- RANDOMKEY ---- */

void generic_randomkey_command(struct cmd_ctx *c) {
    struct entry *e = ks_random(c->ks, c->db, c->now_ms);
    if (e == NULL)
        reply_null(c->r);
    else
        reply_bulk_slice(c->r, entry_key(e));
}
