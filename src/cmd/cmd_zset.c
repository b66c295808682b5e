/*
 * Sorted sets, member by member: ZADD with its relatives, ZREM, scores and ranks, random members, ZSCAN; and what the family
 * shares. Flow of a write: arguments parsed -> key found -> set changed -> effects -> reply. Nothing is changed before the last
 * error that can be replied, but for a sum that is not a number, which comes up in the middle of ZADD INCR's only pair.
 */
#include "cmd/cmd_zset.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "base/rand.h"
#include "cmd/pick.h"
#include "cmd/scan.h"

/* ---- shared ---- */

static bool lazy_server_del(const struct cmd_ctx *c) {
    return atomic_load_explicit(&c->eng->lazy_server_del, memory_order_relaxed);
}

void zset_delete_key(struct cmd_ctx *c, struct slice key) {
    ks_delete(c->ks, c->db, key, true);
    cmd_notify(c, 'g', "del", c->db, key);
}

void zset_store(struct cmd_ctx *c, struct slice dst, struct obj *o_take, const char *event) {
    struct entry *old = cmd_find_write(c, dst);
    uint64_t n = zset_len(o_take);
    if (n > 0) {
        generic_put(c, c->db, dst, old, o_take, false);
        cmd_modified(c, c->db, dst);
        cmd_notify(c, 'z', event, c->db, dst);
    } else {
        obj_unref(o_take);
        if (old != NULL) {
            ks_delete(c->ks, c->db, dst, lazy_server_del(c));
            cmd_modified(c, c->db, dst);
            cmd_notify(c, 'g', "del", c->db, dst);
        }
    }
    reply_int(c->r, (int64_t)n);
}

void zset_reply_begin(struct cmd_ctx *c, uint64_t n, bool with_scores) {
    reply_array(c->r, with_scores && c->r->resp < 3 ? n * 2 : n);
}

void zset_reply_item(struct cmd_ctx *c, const struct zset_item *item, bool with_scores) {
    if (with_scores && c->r->resp >= 3) reply_array(c->r, 2);
    reply_bulk_slice(c->r, item->member);
    if (with_scores) reply_double(c->r, item->score);
}

/* The set of argv[1] for reading; NULL: absent or an error was replied (*ret_err). */
static const struct obj *find_read(struct cmd_ctx *c, bool *ret_err) {
    struct entry *e = cmd_find_typed(c, c->argv[1], OBJ_ZSET, false, ret_err);
    return e ? entry_value(e) : NULL;
}

/* ---- ZADD, ZINCRBY ---- */

bool zset_add_pairs(struct cmd_ctx *c, struct slice key, const struct zset_pair *pairs, size_t n, unsigned flags,
                    const char *event, struct zset_changes *ret) {
    bool err;
    *ret = (struct zset_changes){ 0 };
    struct entry *e = cmd_find_typed(c, key, OBJ_ZSET, true, &err);
    if (err) return false;
    if (e == NULL && (flags & ZSET_XX)) return true;
    struct obj *o = e ? entry_value(e) : zset_new(n, pairs[0].member.len);
    if (e) zset_expect(o, n);
    for (size_t i = 0; i < n; i++) {
        enum zset_added added = zset_add(o, pairs[i].score, pairs[i].member, flags, &ret->score);
        if (added == ZSET_NAN) { /* only INCR can, and it has one pair, of a member that was there */
            reply_error(c->r, "ERR resulting score is not a number (NaN)");
            return false;
        }
        ret->added += added == ZSET_ADDED;
        ret->updated += added == ZSET_UPDATED;
        ret->any_done = ret->any_done || added != ZSET_NOTHING;
    }
    if (e == NULL) generic_put(c, c->db, key, NULL, o, false);
    if (ret->added + ret->updated == 0) return true;
    cmd_modified(c, c->db, key);
    cmd_dirty(c, (uint64_t)(ret->added + ret->updated - 1));
    cmd_notify(c, 'z', event, c->db, key);
    return true;
}

struct zadd {
    unsigned flags;
    bool ch;
    int first; /* argv position of the first score */
};

static void zadd_options(struct cmd_ctx *c, struct zadd *z) {
    static const struct {
        const char *word;
        unsigned flag;
    } words[] = { { "nx", ZSET_NX }, { "xx", ZSET_XX }, { "gt", ZSET_GT }, { "lt", ZSET_LT }, { "incr", ZSET_INCR } };
    for (z->first = 2; z->first < c->argc; z->first++) {
        struct slice a = c->argv[z->first];
        size_t i = 0, n = sizeof words / sizeof *words;
        while (i < n && !slice_ieq(a, words[i].word)) i++;
        if (i < n)
            z->flags |= words[i].flag;
        else if (slice_ieq(a, "ch"))
            z->ch = true;
        else
            return;
    }
}

static const char *zadd_refusal(const struct cmd_ctx *c, const struct zadd *z) {
    int n = c->argc - z->first;
    unsigned f = z->flags;
    if (n == 0 || n % 2) return "ERR syntax error";
    if ((f & ZSET_NX) && (f & ZSET_XX)) return "ERR XX and NX options at the same time are not compatible";
    if (((f & ZSET_GT) && (f & ZSET_NX)) || ((f & ZSET_LT) && (f & ZSET_NX)) || ((f & ZSET_GT) && (f & ZSET_LT)))
        return "ERR GT, LT, and/or NX options at the same time are not compatible";
    if ((f & ZSET_INCR) && n > 2) return "ERR INCR option supports a single increment-element pair";
    return NULL;
}

static bool zadd_pairs(struct cmd_ctx *c, int first, struct zset_pair *pairs, size_t n) {
    for (size_t i = 0; i < n; i++) {
        if (!cmd_arg_double(c, c->argv[first + (int)i * 2], &pairs[i].score, NULL)) return false;
        pairs[i].member = c->argv[first + (int)i * 2 + 1];
    }
    return true;
}

static void zadd(struct cmd_ctx *c, unsigned flags) {
    struct zadd z = { .flags = flags };
    struct zset_pair few[8], *pairs = few;
    struct zset_changes done;
    zadd_options(c, &z);
    const char *refusal = zadd_refusal(c, &z);
    if (refusal) {
        reply_error(c->r, refusal);
        return;
    }
    size_t n = (size_t)(c->argc - z.first) / 2;
    assert(n > 0);
    if (n > sizeof few / sizeof *few) pairs = mem_calloc(n, sizeof(*pairs));
    bool incr = z.flags & ZSET_INCR;
    if (zadd_pairs(c, z.first, pairs, n) && zset_add_pairs(c, c->argv[1], pairs, n, z.flags, incr ? "zincr" : "zadd", &done)) {
        if (!incr)
            reply_int(c->r, z.ch ? done.added + done.updated : done.added);
        else if (done.any_done)
            reply_double(c->r, done.score);
        else
            reply_null(c->r);
    }
    if (pairs != few) mem_free(pairs);
}

void zset_zadd_command(struct cmd_ctx *c) {
    zadd(c, 0);
}

void zset_zincrby_command(struct cmd_ctx *c) {
    zadd(c, ZSET_INCR);
}

/* ---- ZREM ---- */

void zset_zrem_command(struct cmd_ctx *c) {
    bool err;
    struct slice key = c->argv[1];
    struct entry *e = cmd_find_typed(c, key, OBJ_ZSET, true, &err);
    if (err) return;
    int64_t n = 0;
    bool is_empty = false;
    for (int i = 2; e && !is_empty && i < c->argc; i++) {
        if (!zset_remove(entry_value(e), c->argv[i])) continue;
        n++;
        is_empty = zset_len(entry_value(e)) == 0;
    }
    if (n) {
        cmd_notify(c, 'z', "zrem", c->db, key);
        if (is_empty) zset_delete_key(c, key);
        cmd_modified(c, c->db, key);
        cmd_dirty(c, (uint64_t)n - 1);
    }
    reply_int(c->r, n);
}

/* ---- ZCARD, ZSCORE, ZMSCORE, ZRANK, ZREVRANK ---- */

void zset_zcard_command(struct cmd_ctx *c) {
    bool err;
    const struct obj *o = find_read(c, &err);
    if (!err) reply_int(c->r, o ? (int64_t)zset_len(o) : 0);
}

static void reply_score(struct cmd_ctx *c, const struct obj *o, struct slice member) {
    double score;
    if (o && zset_score(o, member, &score))
        reply_double(c->r, score);
    else
        reply_null(c->r);
}

void zset_zscore_command(struct cmd_ctx *c) {
    bool err;
    const struct obj *o = find_read(c, &err);
    if (!err) reply_score(c, o, c->argv[2]);
}

void zset_zmscore_command(struct cmd_ctx *c) {
    bool err;
    const struct obj *o = find_read(c, &err);
    if (err) return;
    reply_array(c->r, (size_t)c->argc - 2);
    for (int i = 2; i < c->argc; i++) reply_score(c, o, c->argv[i]);
}

static void zrank(struct cmd_ctx *c, bool reverse) {
    bool err, with_score = c->argc == 4;
    uint64_t rank;
    double score;
    if (c->argc > 4) {
        reply_errorf(c->r, "ERR wrong number of arguments for '%s' command", c->cmd->full_name);
        return;
    }
    if (with_score && !slice_ieq(c->argv[3], "withscore")) {
        cmd_syntax_error(c);
        return;
    }
    const struct obj *o = find_read(c, &err);
    if (err) return;
    bool found = o && zset_rank(o, c->argv[2], &rank, &score);
    if (!found) {
        if (with_score)
            reply_null_array(c->r);
        else
            reply_null(c->r);
        return;
    }
    if (with_score) reply_array(c->r, 2);
    reply_int(c->r, (int64_t)(reverse ? zset_len(o) - 1 - rank : rank));
    if (with_score) reply_double(c->r, score);
}

void zset_zrank_command(struct cmd_ctx *c) {
    zrank(c, false);
}

void zset_zrevrank_command(struct cmd_ctx *c) {
    zrank(c, true);
}

/* ---- ZRANDMEMBER ---- */

static void reply_at(struct cmd_ctx *c, const struct obj *o, uint64_t rank, bool with_scores) {
    struct zset_iter it;
    struct zset_item item;
    zset_iter_init(&it, o, rank, false);
    if (zset_iter_next(&it, &item)) zset_reply_item(c, &item, with_scores);
}

static void reply_repeating(struct cmd_ctx *c, const struct obj *o, uint64_t n, bool with_scores) {
    uint64_t len = zset_len(o);
    zset_reply_begin(c, n, with_scores);
    for (uint64_t i = 0; i < n; i++) reply_at(c, o, rand_below(len), with_scores);
}

/* A large part of the set: one walk, each member kept with the chance that makes it n in the end (Knuth, 3.4.2, algorithm S). */
static void reply_walking(struct cmd_ctx *c, const struct obj *o, uint64_t n, bool with_scores) {
    struct zset_iter it;
    struct zset_item item;
    uint64_t left = zset_len(o);
    zset_iter_init(&it, o, 0, false);
    for (; n && zset_iter_next(&it, &item); left--) {
        if (rand_below(left) >= n) continue;
        zset_reply_item(c, &item, with_scores);
        n--;
    }
}

static int rank_cmp(const void *a, const void *b) {
    const uint64_t *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

static uint64_t drop_twins(uint64_t *ranks, uint64_t n) {
    uint64_t kept = 0;
    for (uint64_t i = 0; i < n; i++)
        if (kept == 0 || ranks[kept - 1] != ranks[i]) ranks[kept++] = ranks[i];
    return kept;
}

/* A small part: ranks drawn until enough are different, then shuffled. */
static void reply_drawing(struct cmd_ctx *c, const struct obj *o, uint64_t n, bool with_scores) {
    uint64_t len = zset_len(o), have = 0, *ranks = mem_calloc(n, sizeof(*ranks));
    while (have < n) {
        for (uint64_t i = have; i < n; i++) ranks[i] = rand_below(len);
        qsort(ranks, n, sizeof(*ranks), rank_cmp);
        have = drop_twins(ranks, n);
    }
    for (uint64_t i = n; i > 0; i--) {
        uint64_t k = rand_below(i), rank = ranks[k];
        ranks[k] = ranks[i - 1];
        reply_at(c, o, rank, with_scores);
    }
    mem_free(ranks);
}

static void reply_different(struct cmd_ctx *c, const struct obj *o, uint64_t n, bool with_scores) {
    uint64_t len = zset_len(o);
    zset_reply_begin(c, n < len ? n : len, with_scores);
    if (n >= len) {
        struct zset_iter it;
        struct zset_item item;
        zset_iter_init(&it, o, len - 1, true);
        while (zset_iter_next(&it, &item)) zset_reply_item(c, &item, with_scores);
    } else if (n > len / 16 || o->enc == OBJ_ENC_LISTPACK) {
        reply_walking(c, o, n, with_scores);
    } else {
        reply_drawing(c, o, n, with_scores);
    }
}

/* The count and WITHSCORES; false: an error was replied. */
static bool zrandmember_args(struct cmd_ctx *c, int64_t *ret_count, bool *ret_with_scores) {
    if (!cmd_arg_ll_range(c, c->argv[2], -INT64_MAX, INT64_MAX, ret_count, NULL)) return false;
    if (c->argc > 4 || (c->argc == 4 && !slice_ieq(c->argv[3], "withscores"))) {
        cmd_syntax_error(c);
        return false;
    }
    *ret_with_scores = c->argc == 4;
    if (*ret_with_scores && (*ret_count < -INT64_MAX / 2 || *ret_count > INT64_MAX / 2)) {
        reply_error(c->r, "ERR value is out of range");
        return false;
    }
    return pick_allows(c, *ret_count);
}

void zset_zrandmember_command(struct cmd_ctx *c) {
    bool err, with_scores = false, has_count = c->argc > 2;
    int64_t count = 1;
    if (has_count && !zrandmember_args(c, &count, &with_scores)) return;
    const struct obj *o = find_read(c, &err);
    if (err) return;
    if (!has_count) {
        if (o)
            reply_at(c, o, rand_below(zset_len(o)), false);
        else
            reply_null(c->r);
    } else if (!o || count == 0) {
        reply_array(c->r, 0);
    } else if (count < 0) {
        reply_repeating(c, o, (uint64_t)-count, with_scores);
    } else {
        reply_different(c, o, (uint64_t)count, with_scores);
    }
}

/* ---- ZSCAN ---- */

struct zscan {
    struct zset_item *items;
    size_t n, cap;
};

static void zscan_visit(void *arg, const struct zset_item *item) {
    struct zscan *s = arg;
    if (s->n == s->cap) {
        s->cap = s->cap ? s->cap * 2 : 32;
        s->items = mem_realloc(s->items, s->cap * sizeof(*s->items));
    }
    s->items[s->n++] = *item;
}

/* redis-server writes the scores of its large encoding as "%.17Lg" here, and those of the small one as they are stored. */
static void reply_scanned_score(struct cmd_ctx *c, double score) {
    char text[ZSET_SCORE_MAX];
    if (isinf(score))
        reply_bulk_cstr(c->r, score < 0 ? "-inf" : "inf");
    else
        reply_bulk(c->r, text, (size_t)snprintf(text, sizeof text, "%.17Lg", (long double)score));
}

static void reply_scanned_large(struct cmd_ctx *c, const struct obj *o, uint64_t cursor, const struct scan_opts *opts) {
    struct zscan s = { 0 };
    int64_t steps_left = scan_max_steps(opts);
    do {
        cursor = zset_scan(o, cursor, zscan_visit, &s);
    } while (cursor != 0 && --steps_left > 0 && s.n < (uint64_t)opts->count);
    struct reply_deferred d = scan_reply_begin(c, cursor);
    size_t n = 0;
    for (size_t i = 0; i < s.n; i++) {
        if (!scan_matches(opts, s.items[i].member)) continue;
        reply_bulk_slice(c->r, s.items[i].member);
        reply_scanned_score(c, s.items[i].score);
        n += 2;
    }
    reply_deferred_array(c->r, d, n);
    mem_free(s.items);
}

static void reply_scanned_small(struct cmd_ctx *c, const struct obj *o, const struct scan_opts *opts) {
    struct zset_iter it;
    struct zset_item item;
    size_t n = 0;
    struct reply_deferred d = scan_reply_begin(c, 0);
    zset_iter_init(&it, o, 0, false);
    while (zset_iter_next(&it, &item)) {
        char text[ZSET_SCORE_MAX];
        if (!scan_matches(opts, item.member)) continue;
        reply_bulk_slice(c->r, item.member);
        reply_bulk(c->r, text, str_from_double(text, item.score));
        n += 2;
    }
    reply_deferred_array(c->r, d, n);
}

void zset_zscan_command(struct cmd_ctx *c) {
    uint64_t cursor;
    struct scan_opts opts;
    bool err;
    if (!scan_cursor(c, c->argv[2], &cursor)) return;
    const struct obj *o = find_read(c, &err);
    if (err) return;
    if (!o)
        scan_reply_empty(c);
    else if (!scan_options(c, 3, 0, &opts))
        return;
    else if (o->enc == OBJ_ENC_LISTPACK)
        reply_scanned_small(c, o, &opts);
    else
        reply_scanned_large(c, o, cursor, &opts);
}
