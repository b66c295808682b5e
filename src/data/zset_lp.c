/* The small encoding of sorted sets. Place in the flow: zset.c. Thread: the holder of the shard's lock.
 *
 * Scores: a whole number is a listpack integer (so -0 becomes 0, as in redis-server), anything else the shortest text that reads
 * back equal, which the listpack stores as text, since it is never a canonical integer. */
#include "data/zset_lp.h"

#include <assert.h>
#include <math.h>

#include "data/ztree.h"

#define WHOLE_MAX 0x1p62 /* beyond this redis-server writes text */

bool zlp_parse_score(const unsigned char *p_score, double *ret_score) {
    int64_t whole;
    struct slice text;
    if (!lp_get_int(p_score, &whole, &text)) return str_to_double(text, ret_score);
    *ret_score = (double)whole;
    return true;
}

double zlp_score(const unsigned char *lp, const unsigned char *p) {
    double score = 0;
    bool ok = zlp_parse_score(lp_next(lp, p), &score);
    assert(ok);
    (void)ok;
    return score;
}

unsigned char *zlp_next(const unsigned char *lp, const unsigned char *p) {
    return lp_next(lp, lp_next(lp, p));
}

unsigned char *zlp_prev(const unsigned char *lp, const unsigned char *p) {
    unsigned char *score = lp_prev(lp, p);
    return score ? lp_prev(lp, score) : NULL;
}

unsigned char *zlp_at(const unsigned char *lp, uint64_t rank) {
    return lp_seek(lp, (long)rank * 2);
}

unsigned char *zlp_find(const unsigned char *lp, struct slice member) {
    return lp_find(lp, lp_first(lp), member, 1);
}

unsigned char *zlp_find_rank(const unsigned char *lp, struct slice member, uint64_t *ret_rank) {
    uint64_t rank = 0;
    for (unsigned char *p = lp_first(lp); p; p = zlp_next(lp, p), rank++) {
        if (!lp_eq(p, member)) continue;
        *ret_rank = rank;
        return p;
    }
    return NULL;
}

static int member_cmp(const unsigned char *p, struct slice member) {
    char tmp[STR_LL_MAX];
    return slice_cmp(lp_get(p, tmp), member);
}

/* ---- changing ---- */

static bool is_whole(double score, int64_t *ret) {
    if (!(fabs(score) <= WHOLE_MAX) || score != (double)(int64_t)score) return false;
    *ret = (int64_t)score;
    return true;
}

static unsigned char *put(unsigned char *lp, const unsigned char *before, double score, struct slice member) {
    int64_t whole;
    unsigned char *p;
    lp = before ? lp_insert(lp, before, LP_BEFORE, member, &p) : lp_append(lp, member);
    if (is_whole(score, &whole)) return before ? lp_insert_int(lp, p, LP_AFTER, whole, NULL) : lp_append_int(lp, whole);
    char text[ZSET_SCORE_MAX];
    struct slice s = { text, str_from_double(text, score) };
    return before ? lp_insert(lp, p, LP_AFTER, s, NULL) : lp_append(lp, s);
}

unsigned char *zlp_append(unsigned char *lp, double score, struct slice member) {
    return put(lp, NULL, score, member);
}

unsigned char *zlp_insert(unsigned char *lp, double score, struct slice member) {
    unsigned char *p = lp_first(lp);
    for (; p; p = zlp_next(lp, p)) {
        double other = zlp_score(lp, p);
        if (other > score || (other == score && member_cmp(p, member) > 0)) break;
    }
    return put(lp, p, score, member);
}

unsigned char *zlp_delete(unsigned char *lp, unsigned char *p) {
    return lp_delete(lp, p, 2, NULL);
}

/* ---- ranges ---- */

static bool above_min(double score, const struct zset_score_range *r) {
    return r->min_ex ? score > r->min : score >= r->min;
}

static bool below_max(double score, const struct zset_score_range *r) {
    return r->max_ex ? score < r->max : score <= r->max;
}

struct zset_ranks zlp_score_range(const unsigned char *lp, const struct zset_score_range *r) {
    struct zset_ranks ranks = { 0, 0 };
    for (unsigned char *p = lp_first(lp); p; p = zlp_next(lp, p)) {
        double score = zlp_score(lp, p);
        if (!below_max(score, r)) break;
        if (above_min(score, r))
            ranks.n++;
        else
            ranks.first++;
    }
    return ranks;
}

static bool within(const unsigned char *p, enum zset_lex_end end, struct slice bound, int sign) {
    if (end == ZSET_LEX_MIN || end == ZSET_LEX_MAX) return (end == ZSET_LEX_MIN) == (sign > 0);
    int d = member_cmp(p, bound) * sign;
    return end == ZSET_LEX_INCL ? d >= 0 : d > 0;
}

static bool lex_above_min(const unsigned char *p, const struct zset_lex_range *r) {
    return within(p, r->min_end, r->min, 1);
}

static bool lex_below_max(const unsigned char *p, const struct zset_lex_range *r) {
    return within(p, r->max_end, r->max, -1);
}

/* redis-server looks at both ends before it walks, which shows when scores are not all equal. */
static bool lex_is_out(const unsigned char *lp, const struct zset_lex_range *r) {
    const unsigned char *last = lp_last(lp);
    return !last || !lex_above_min(lp_prev(lp, last), r) || !lex_below_max(lp_first(lp), r);
}

static struct zset_ranks lex_from_end(const unsigned char *lp, const struct zset_lex_range *r) {
    struct zset_ranks ranks = { lp_count(lp) / 2, 0 };
    unsigned char *p = lp_prev(lp, lp_last(lp));
    for (; p && !lex_below_max(p, r); p = zlp_prev(lp, p)) ranks.first--;
    for (; p && lex_above_min(p, r); p = zlp_prev(lp, p)) {
        ranks.first--;
        ranks.n++;
    }
    return ranks;
}

static struct zset_ranks lex_from_start(const unsigned char *lp, const struct zset_lex_range *r) {
    struct zset_ranks ranks = { 0, 0 };
    unsigned char *p = lp_first(lp);
    for (; p && !lex_above_min(p, r); p = zlp_next(lp, p)) ranks.first++;
    for (; p && lex_below_max(p, r); p = zlp_next(lp, p)) ranks.n++;
    return ranks;
}

struct zset_ranks zlp_lex_range(const unsigned char *lp, const struct zset_lex_range *r, bool from_end) {
    if (lex_is_out(lp, r)) return (struct zset_ranks){ 0, 0 };
    return from_end ? lex_from_end(lp, r) : lex_from_start(lp, r);
}
