/* Sorted sets. A small one is a listpack of member, score, member, score... in order (OBJ_ENC_LISTPACK, Redis's bytes: scores are
 * integers, or the shortest decimal text); a larger one, or one with a long member, is a counted B+-tree for the order and a dict
 * for the members (OBJ_ENC_SKIPLIST, the name OBJECT ENCODING has for it). Limits: data_limits.zset_max_listpack_*.
 *
 * Order: by score, then by the members' bytes. Ranks count from 0 in that order. Scores are never NaN. Whatever range a command
 * speaks of, it is turned into ranks first (zset_score_range, zset_lex_range: O(log n)), and then walked or removed by rank.
 *
 * The holder of the lock of the key's shard calls. Nothing here deletes a key whose set has become empty: commands do. */
#ifndef KETTLE_DATA_ZSET_H
#define KETTLE_DATA_ZSET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/slice.h"
#include "base/str.h"
#include "data/lp_index.h"
#include "data/object.h"

#define ZSET_SCORE_MAX 64 /* room for any score as text */

struct zset_item {
    double score;
    struct slice member;
};

/* ---- sets ---- */
/* Empty, in the encoding that fits n members of which one is member_len bytes long: 0, 0 when nothing is known. */
struct obj *zset_new(size_t n, size_t member_len);
uint64_t zset_len(const struct obj *o);
/* Room for n members in all: goes over to the large encoding at once when they would not fit into the small one. */
void zset_expect(struct obj *o, size_t n);

enum zset_add_flag { ZSET_NX = 1, ZSET_XX = 2, ZSET_GT = 4, ZSET_LT = 8, ZSET_INCR = 16 };
enum zset_added {
    ZSET_NOTHING, /* a condition forbade it */
    ZSET_SAME,    /* it has that score already */
    ZSET_ADDED,
    ZSET_UPDATED,
    ZSET_NAN /* inf and -inf added up: nothing was changed */
};
/* score is not NaN. *ret_score (may be NULL): the score afterwards, for SAME, ADDED and UPDATED. */
enum zset_added zset_add(struct obj *o, double score, struct slice member, unsigned flags, double *ret_score);
bool zset_remove(struct obj *o, struct slice member);
bool zset_score(const struct obj *o, struct slice member, double *ret);
/* For many look-ups, as set_index_new; the score by an index. */
struct lp_index *zset_index_new(const struct obj *o, uint64_t n_lookups);
bool zset_index_score(const struct lp_index *x, const struct obj *o, struct slice member, double *ret);
/* *ret_score may be NULL. */
bool zset_rank(const struct obj *o, struct slice member, uint64_t *ret_rank, double *ret_score);

/* ---- ranges ---- */
struct zset_ranks { /* the members of rank first..first + n - 1 */
    uint64_t first, n;
};
struct zset_score_range {
    double min, max;
    bool min_ex, max_ex; /* the end itself is not in it */
};
enum zset_lex_end { ZSET_LEX_MIN, ZSET_LEX_MAX, ZSET_LEX_INCL, ZSET_LEX_EXCL }; /* '-', '+', "[...", "(..." */
struct zset_lex_range {
    enum zset_lex_end min_end, max_end;
    struct slice min, max; /* for INCL and EXCL */
};
struct zset_ranks zset_score_range(const struct obj *o, const struct zset_score_range *r);
/* Meant for sets whose scores are all equal. Where they are not, the small encoding answers as redis-server does, which looks
 * from one end (the high one with from_end) for the first member within the one bound, and goes on until the first that is
 * outside the other. */
struct zset_ranks zset_lex_range(const struct obj *o, const struct zset_lex_range *r, bool from_end);
void zset_remove_ranks(struct obj *o, struct zset_ranks r);

/* ---- walking; the set must not change meanwhile ---- */
struct zset_iter {
    const struct obj *o;
    unsigned char *p; /* listpack */
    struct {
        void *leaf;
        unsigned i;
    } at; /* tree */
    bool backwards;
    char tmp[STR_LL_MAX];
};
/* From the member of this rank on, upwards or downwards. A rank that no member has: nothing follows. */
void zset_iter_init(struct zset_iter *it, const struct obj *o, uint64_t rank, bool backwards);
bool zset_iter_next(struct zset_iter *it, struct zset_item *ret); /* valid until the next call */
/* A walk by a cursor that survives changes between its steps: the guarantee of dict_scan. cursor 0 starts; returns the next one,
 * 0 at the end. fn must not change the set. */
uint64_t zset_scan(const struct obj *o, uint64_t cursor, void (*fn)(void *arg, const struct zset_item *item), void *arg);

/* ---- building ---- */
/* Collects members in any order, each once, and makes a set of them in one go: no tree is searched for each. */
struct zset_builder;
struct zset_builder *zset_builder_new(void);
struct zset_builder *zset_builder_free(struct zset_builder *b); /* NULL is fine; always NULL */
/* The score of a member, to be read and set; one that is not there yet is added with score 0 (*ret_new). The pointer is valid
 * until the builder is finished or freed. The score set must not be NaN. */
double *zset_builder_at(struct zset_builder *b, struct slice member, bool *ret_new);
/* For members that are hardly ever there twice: looked up all together, at the end. A builder is filled by this or by
 * zset_builder_at; by this, zset_builder_settle is called before anything else is. */
void zset_builder_push(struct zset_builder *b, struct slice member, double score);
bool zset_builder_settle(struct zset_builder *b); /* false: a member is there twice; the builder is empty then */
bool zset_builder_remove(struct zset_builder *b, struct slice member);
uint64_t zset_builder_len(const struct zset_builder *b);
/* What it holds, in order; scores as they were set (the small encoding knows no -0). */
void zset_builder_each(const struct zset_builder *b, void (*fn)(void *arg, const struct zset_item *item), void *arg);
struct obj *zset_builder_finish(struct zset_builder *b_take); /* encoded by its size, maybe empty */

/* ---- what came from outside ---- */
/* A listpack (lp_is_valid has passed it) as a set; converted when it is beyond the limits. NULL, and lp_take is freed, when it is
 * none: an odd number of elements, a score that is not a number, members not in order or twice. */
struct obj *zset_from_listpack(unsigned char *lp_take);
const unsigned char *zset_listpack(const struct obj *o); /* the bytes of the small encoding; NULL: it is the large one */

void zset_avoid_resize(bool avoid); /* a child process is active: tables stay where they are */

extern const struct obj_ops zset_ops;
bool zset_check(const struct obj *o); /* for tests: every invariant */

#endif
