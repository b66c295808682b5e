/*
 * Sorted sets, range by range: ZRANGE with its five older relatives, ZRANGESTORE, ZCOUNT, ZLEXCOUNT, ZREMRANGEBY*.
 *
 * Whatever a range is of (ranks, scores, members), it is turned into ranks first, which costs O(log n) (zset_score_range,
 * zset_lex_range). So counts need no walk, LIMIT skips without walking, and one function each walks, stores and removes.
 */
#include <math.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "cmd/cmd_zset.h"

enum range_by { BY_RANK, BY_SCORE, BY_LEX };

/* A range as it was given. Ranks: from start to end, both counted from the end when negative. */
struct range {
    enum range_by by;
    int64_t start, end;
    struct zset_score_range score;
    struct zset_lex_range lex;
};

/* ---- reading range arguments ---- */

/* As strtod(3) reads it up to the first NUL, which is what redis-server takes: blanks before it, hexadecimal, nothing at all. */
static bool lax_double(struct slice s, double *ret) {
    char few[128], *text = few, *end;
    if (str_to_double(s, ret)) return true;
    if (s.len >= sizeof few) text = mem_alloc(s.len + 1);
    if (s.len) memcpy(text, s.ptr, s.len);
    text[s.len] = 0;
    double v = strtod(text, &end);
    bool ok = *end == 0 && !isnan(v);
    if (ok) *ret = v;
    if (text != few) mem_free(text);
    return ok;
}

static bool score_end(struct slice s, double *ret, bool *ret_ex) {
    *ret_ex = s.len > 0 && s.ptr[0] == '(';
    if (*ret_ex) s = (struct slice){ s.ptr + 1, s.len - 1 };
    return lax_double(s, ret);
}

bool zset_arg_score_range(struct cmd_ctx *c, struct slice min, struct slice max, struct zset_score_range *ret) {
    if (score_end(min, &ret->min, &ret->min_ex) && score_end(max, &ret->max, &ret->max_ex)) return true;
    reply_error(c->r, "ERR min or max is not a float");
    return false;
}

static bool lex_end(struct slice s, enum zset_lex_end *ret_end, struct slice *ret) {
    if (s.len == 0) return false;
    *ret = (struct slice){ s.ptr + 1, s.len - 1 };
    switch (s.ptr[0]) {
    case '-':
    case '+':
        *ret_end = s.ptr[0] == '-' ? ZSET_LEX_MIN : ZSET_LEX_MAX;
        return s.len == 1 || s.ptr[1] == 0;
    case '[':
    case '(':
        *ret_end = s.ptr[0] == '[' ? ZSET_LEX_INCL : ZSET_LEX_EXCL;
        return true;
    default:
        return false;
    }
}

bool zset_arg_lex_range(struct cmd_ctx *c, struct slice min, struct slice max, struct zset_lex_range *ret) {
    if (lex_end(min, &ret->min_end, &ret->min) && lex_end(max, &ret->max_end, &ret->max)) return true;
    reply_error(c->r, "ERR min or max not valid string range item");
    return false;
}

static bool range_args(struct cmd_ctx *c, enum range_by by, struct slice min, struct slice max, struct range *ret) {
    ret->by = by;
    switch (by) {
    case BY_RANK:
        return cmd_arg_ll(c, min, &ret->start, NULL) && cmd_arg_ll(c, max, &ret->end, NULL);
    case BY_SCORE:
        return zset_arg_score_range(c, min, max, &ret->score);
    default:
        return zset_arg_lex_range(c, min, max, &ret->lex);
    }
}

/* ---- ranges as ranks ---- */

static struct zset_ranks index_ranks(uint64_t len, int64_t start, int64_t end) {
    int64_t n = (int64_t)len;
    if (start < 0) start = start < -n ? 0 : start + n;
    if (end < 0) end += n;
    if (end >= n) end = n - 1;
    if (start > end || start >= n) return (struct zset_ranks){ 0, 0 };
    return (struct zset_ranks){ (uint64_t)start, (uint64_t)(end - start) + 1 };
}

/* backwards: indexes count from the top. */
static struct zset_ranks range_ranks(const struct obj *o, const struct range *r, bool backwards) {
    if (r->by == BY_SCORE) return zset_score_range(o, &r->score);
    if (r->by == BY_LEX) return zset_lex_range(o, &r->lex, backwards);
    uint64_t len = zset_len(o);
    struct zset_ranks ranks = index_ranks(len, r->start, r->end);
    if (backwards) ranks.first = len - ranks.first - ranks.n;
    return ranks;
}

/* LIMIT: a negative offset leaves nothing, a negative count takes all. */
static struct zset_ranks limit_ranks(struct zset_ranks r, int64_t offset, int64_t count, bool backwards) {
    if (offset < 0 || (uint64_t)offset >= r.n) return (struct zset_ranks){ 0, 0 };
    uint64_t n = r.n - (uint64_t)offset;
    if (count >= 0 && (uint64_t)count < n) n = (uint64_t)count;
    return (struct zset_ranks){ backwards ? r.first + (r.n - (uint64_t)offset - n) : r.first + (uint64_t)offset, n };
}

/* ---- ZRANGE and its relatives ---- */

#define AUTO (-1)

struct zrange {
    int by, backwards; /* AUTO: an option may say */
    int first;         /* argv position of the key to read */
    bool is_store, with_scores;
    int64_t offset, limit; /* limit -1: none was given, or one without effect */
};

static bool zrange_option(struct cmd_ctx *c, struct zrange *z, int *at) {
    struct slice a = c->argv[*at];
    if (!z->is_store && slice_ieq(a, "withscores")) {
        z->with_scores = true;
    } else if (slice_ieq(a, "limit") && c->argc - *at > 2) {
        if (!cmd_arg_ll(c, c->argv[*at + 1], &z->offset, NULL) || !cmd_arg_ll(c, c->argv[*at + 2], &z->limit, NULL)) return false;
        *at += 2;
    } else if (z->backwards == AUTO && slice_ieq(a, "rev")) {
        z->backwards = true;
    } else if (z->by == AUTO && slice_ieq(a, "bylex")) {
        z->by = BY_LEX;
    } else if (z->by == AUTO && slice_ieq(a, "byscore")) {
        z->by = BY_SCORE;
    } else {
        cmd_syntax_error(c);
        return false;
    }
    return true;
}

static bool zrange_options(struct cmd_ctx *c, struct zrange *z) {
    for (int i = z->first + 3; i < c->argc; i++)
        if (!zrange_option(c, z, &i)) return false;
    if (z->backwards == AUTO) z->backwards = false;
    if (z->by == AUTO) z->by = BY_RANK;
    if (z->limit != -1 && z->by == BY_RANK) {
        reply_error(c->r, "ERR syntax error, LIMIT is only supported in combination with either BYSCORE or BYLEX");
        return false;
    }
    if (z->with_scores && z->by == BY_LEX) {
        reply_error(c->r, "ERR syntax error, WITHSCORES not supported in combination with BYLEX");
        return false;
    }
    return true;
}

static void zrange_reply(struct cmd_ctx *c, const struct obj *o, struct zset_ranks ranks, const struct zrange *z) {
    struct zset_iter it;
    struct zset_item item;
    zset_reply_begin(c, ranks.n, z->with_scores);
    if (ranks.n == 0) return;
    zset_iter_init(&it, o, z->backwards ? ranks.first + ranks.n - 1 : ranks.first, z->backwards);
    for (uint64_t i = 0; i < ranks.n && zset_iter_next(&it, &item); i++) zset_reply_item(c, &item, z->with_scores);
}

static void zrange_store(struct cmd_ctx *c, const struct obj *o, struct zset_ranks ranks) {
    struct zset_builder *b = zset_builder_new();
    struct zset_iter it;
    struct zset_item item;
    bool is_new;
    if (ranks.n) zset_iter_init(&it, o, ranks.first, false);
    for (uint64_t i = 0; i < ranks.n && zset_iter_next(&it, &item); i++) *zset_builder_at(b, item.member, &is_new) = item.score;
    zset_store(c, c->argv[1], zset_builder_finish(b), "zrangestore");
}

static void zrange(struct cmd_ctx *c, struct zrange z) {
    struct range range = { 0 };
    bool err;
    z.limit = -1;
    if (!zrange_options(c, &z)) return;
    bool swapped = z.backwards && z.by != BY_RANK; /* given as max, min */
    struct slice a = c->argv[z.first + 1], b = c->argv[z.first + 2];
    if (!range_args(c, (enum range_by)z.by, swapped ? b : a, swapped ? a : b, &range)) return;
    struct entry *e = cmd_find_typed(c, c->argv[z.first], OBJ_ZSET, false, &err);
    if (err) return;
    struct zset_ranks ranks = { 0, 0 };
    if (e) ranks = range_ranks(entry_value(e), &range, z.backwards);
    if (z.by != BY_RANK) ranks = limit_ranks(ranks, z.offset, z.limit, z.backwards);
    if (z.is_store)
        zrange_store(c, e ? entry_value(e) : NULL, ranks);
    else
        zrange_reply(c, e ? entry_value(e) : NULL, ranks, &z);
}

void zset_zrange_command(struct cmd_ctx *c) {
    zrange(c, (struct zrange){ .by = AUTO, .backwards = AUTO, .first = 1 });
}

void zset_zrangestore_command(struct cmd_ctx *c) {
    zrange(c, (struct zrange){ .by = AUTO, .backwards = AUTO, .first = 2, .is_store = true });
}

void zset_zrevrange_command(struct cmd_ctx *c) {
    zrange(c, (struct zrange){ .by = BY_RANK, .backwards = true, .first = 1 });
}

void zset_zrangebyscore_command(struct cmd_ctx *c) {
    zrange(c, (struct zrange){ .by = BY_SCORE, .backwards = false, .first = 1 });
}

void zset_zrevrangebyscore_command(struct cmd_ctx *c) {
    zrange(c, (struct zrange){ .by = BY_SCORE, .backwards = true, .first = 1 });
}

void zset_zrangebylex_command(struct cmd_ctx *c) {
    zrange(c, (struct zrange){ .by = BY_LEX, .backwards = false, .first = 1 });
}

void zset_zrevrangebylex_command(struct cmd_ctx *c) {
    zrange(c, (struct zrange){ .by = BY_LEX, .backwards = true, .first = 1 });
}

/* ---- ZCOUNT, ZLEXCOUNT ---- */

static void count(struct cmd_ctx *c, enum range_by by) {
    struct range range = { 0 };
    bool err;
    if (!range_args(c, by, c->argv[2], c->argv[3], &range)) return;
    struct entry *e = cmd_find_typed(c, c->argv[1], OBJ_ZSET, false, &err);
    if (!err) reply_int(c->r, e ? (int64_t)range_ranks(entry_value(e), &range, false).n : 0);
}

void zset_zcount_command(struct cmd_ctx *c) {
    count(c, BY_SCORE);
}

void zset_zlexcount_command(struct cmd_ctx *c) {
    count(c, BY_LEX);
}

/* ---- ZREMRANGEBY* ---- */

static void remove_range(struct cmd_ctx *c, enum range_by by, const char *event) {
    struct range range = { 0 };
    struct slice key = c->argv[1];
    bool err;
    if (!range_args(c, by, c->argv[2], c->argv[3], &range)) return;
    struct entry *e = cmd_find_typed(c, key, OBJ_ZSET, true, &err);
    if (err) return;
    struct zset_ranks ranks = { 0, 0 };
    if (e) ranks = range_ranks(entry_value(e), &range, false);
    if (ranks.n) {
        bool all = ranks.n == zset_len(entry_value(e)); /* then the key goes, and its set with it */
        if (!all) zset_remove_ranks(entry_value(e), ranks);
        cmd_modified(c, c->db, key);
        cmd_dirty(c, ranks.n - 1);
        cmd_notify(c, 'z', event, c->db, key);
        if (all) zset_delete_key(c, key);
    }
    reply_int(c->r, (int64_t)ranks.n);
}

void zset_zremrangebyrank_command(struct cmd_ctx *c) {
    remove_range(c, BY_RANK, "zremrangebyrank");
}

void zset_zremrangebyscore_command(struct cmd_ctx *c) {
    remove_range(c, BY_SCORE, "zremrangebyscore");
}

void zset_zremrangebylex_command(struct cmd_ctx *c) {
    remove_range(c, BY_LEX, "zremrangebylex");
}
