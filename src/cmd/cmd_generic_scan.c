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
    struct slice pattern;   /* ptr NULL: every key */
    struct slice type_name; /* ptr NULL: every type; a name of no type matches nothing */
    int64_t count;
    int64_t sampled;  /* keys seen, matching or not: what COUNT bounds */
    struct buf found; /* length (size_t) and bytes of each key */
    size_t n_found;
};

static void scan_visit(void *arg, struct entry *e) {
    struct scan_walk *w = arg;
    struct slice key = entry_key(e);
    w->sampled++;
    if (w->type_name.ptr != NULL && !slice_ieq(w->type_name, obj_type_name(entry_value(e)))) return;
    if (w->pattern.ptr != NULL && !str_glob(w->pattern, key, false)) return;
    buf_append(&w->found, &key.len, sizeof(key.len));
    buf_append(&w->found, key.ptr, key.len);
    w->n_found++;
}

static bool scan_options(struct cmd_ctx *c, struct scan_walk *w) {
    for (int i = 2; i < c->argc; i += 2) {
        if (i + 1 == c->argc) {
            cmd_syntax_error(c);
            return false;
        }
        struct slice opt = c->argv[i], val = c->argv[i + 1];
        if (slice_ieq(opt, "count")) {
            if (!cmd_arg_ll(c, val, &w->count, NULL)) return false;
            if (w->count < 1) {
                cmd_syntax_error(c);
                return false;
            }
        } else if (slice_ieq(opt, "match")) {
            w->pattern = matches_all(val) ? (struct slice){ NULL, 0 } : val;
        } else if (slice_ieq(opt, "type")) {
            w->type_name = val;
        } else {
            cmd_syntax_error(c);
            return false;
        }
    }
    return true;
}

/* One lock per run of steps in one shard. At most count * 10 steps, so that a sparse table cannot make one call endless. */
static uint64_t scan_run(struct cmd_ctx *c, struct scan_walk *w, uint64_t cursor) {
    int64_t steps_left;
    if (__builtin_mul_overflow(w->count, (int64_t)10, &steps_left)) steps_left = INT64_MAX;
    int shard = -1;
    do {
        int next = ks_scan_shard(c->ks, cursor);
        if (next != shard && !c->in_exec) {
            if (shard >= 0) dispatch_unlock(c);
            dispatch_lock(c, 1ULL << next);
        }
        shard = next;
        cursor = ks_scan(c->ks, c->db, cursor, c->now_ms, scan_visit, w);
    } while (cursor != 0 && --steps_left > 0 && w->sampled < w->count);
    if (!c->in_exec) dispatch_unlock(c);
    return cursor;
}

/* Cursors are read as strtoul reads them, since that is what redis-server 7.2 takes: a sign, leading zeros, and nothing at all
 * are fine. */
static bool scan_cursor(struct slice s, uint64_t *ret) {
    uint64_t v = 0;
    bool minus = s.len > 0 && s.ptr[0] == '-';
    size_t i = s.len > 1 && (minus || s.ptr[0] == '+');
    for (; i < s.len; i++) {
        if (s.ptr[i] < '0' || s.ptr[i] > '9') return false;
        if (__builtin_mul_overflow(v, (uint64_t)10, &v) || __builtin_add_overflow(v, (uint64_t)(s.ptr[i] - '0'), &v))
            return false;
    }
    *ret = minus ? 0 - v : v;
    return true;
}

void generic_scan_command(struct cmd_ctx *c) {
    uint64_t cursor;
    if (!scan_cursor(c->argv[1], &cursor)) {
        reply_error(c->r, "ERR invalid cursor");
        return;
    }
    struct scan_walk w = { .count = 10 };
    if (!scan_options(c, &w)) return;
    cursor = scan_run(c, &w, cursor);

    char num[STR_LL_MAX];
    reply_array(c->r, 2);
    reply_bulk(c->r, num, str_from_ull(num, cursor));
    reply_array(c->r, w.n_found);
    for (size_t at = 0; at < w.found.len;) {
        size_t len;
        memcpy(&len, w.found.data + at, sizeof(len));
        reply_bulk(c->r, w.found.data + at + sizeof(len), len);
        at += sizeof(len) + len;
    }
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
