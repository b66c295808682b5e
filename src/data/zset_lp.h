/* The small encoding of sorted sets: member, score, member, score... in a listpack, in order. Used by zset.c only. Everything
 * walks; sets that are not small have the other encoding. `p` is a member's element throughout. */
#ifndef KETTLE_DATA_ZSET_LP_H
#define KETTLE_DATA_ZSET_LP_H

#include "data/listpack.h"
#include "data/zset.h"

double zlp_score(const unsigned char *lp, const unsigned char *p);
unsigned char *zlp_next(const unsigned char *lp, const unsigned char *p); /* NULL at the end */
unsigned char *zlp_prev(const unsigned char *lp, const unsigned char *p);
unsigned char *zlp_at(const unsigned char *lp, uint64_t rank);
unsigned char *zlp_find(const unsigned char *lp, struct slice member);
unsigned char *zlp_find_rank(const unsigned char *lp, struct slice member, uint64_t *ret_rank);
unsigned char *zlp_insert(unsigned char *lp, double score, struct slice member); /* in its place; the new address of lp */
unsigned char *zlp_append(unsigned char *lp, double score, struct slice member);
unsigned char *zlp_delete(unsigned char *lp, unsigned char *p);
struct zset_ranks zlp_score_range(const unsigned char *lp, const struct zset_score_range *r);
struct zset_ranks zlp_lex_range(const unsigned char *lp, const struct zset_lex_range *r, bool from_end);
/* Whether the score after p is one; *ret_score it. */
bool zlp_parse_score(const unsigned char *p_score, double *ret_score);

#endif
