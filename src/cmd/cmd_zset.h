/* The sorted set family: its commands (cmd_zset_spec.c lists them), and what they share with the geo family. All of it runs on
 * the dispatching thread with the shards of the named keys locked. */
#ifndef KETTLE_CMD_CMD_ZSET_H
#define KETTLE_CMD_CMD_ZSET_H

#include <stdbool.h>
#include <stdint.h>

#include "cmd/cmd.h"
#include "cmd/cmd_generic.h"
#include "data/zset.h"

/* ZADD's work for pairs that are parsed already. */
struct zset_pair {
    double score;
    struct slice member;
};
struct zset_changes {
    int64_t added, updated;
    bool any_done; /* a pair no condition forbade */
    double score;  /* afterwards, of the last of those */
};
/* Adds the pairs under key, with the effects; event: "zadd" or "zincr". False: an error was replied. Nothing is replied else. */
bool zset_add_pairs(struct cmd_ctx *c, struct slice key, const struct zset_pair *pairs, size_t n, unsigned flags,
                    const char *event, struct zset_changes *ret);

/* Puts a set made by a command under dst, replacing what is there, and replies its size; an empty one deletes the key. event:
 * "zunionstore"... */
void zset_store(struct cmd_ctx *c, struct slice dst, struct obj *o_take, const char *event);

/* The key's set has become empty: deletes the key and says so. */
void zset_delete_key(struct cmd_ctx *c, struct slice key);

/* An array of n members: RESP3 pairs them with their scores, RESP2 has them follow. */
void zset_reply_begin(struct cmd_ctx *c, uint64_t n, bool with_scores);
void zset_reply_item(struct cmd_ctx *c, const struct zset_item *item, bool with_scores);

/* "(1.5", "+inf"; replies the error and gives false. Geo has no use for it. */
bool zset_arg_score_range(struct cmd_ctx *c, struct slice min, struct slice max, struct zset_score_range *ret);
bool zset_arg_lex_range(struct cmd_ctx *c, struct slice min, struct slice max, struct zset_lex_range *ret);

void zset_zadd_command(struct cmd_ctx *c);
void zset_zincrby_command(struct cmd_ctx *c);
void zset_zrem_command(struct cmd_ctx *c);
void zset_zcard_command(struct cmd_ctx *c);
void zset_zscore_command(struct cmd_ctx *c);
void zset_zmscore_command(struct cmd_ctx *c);
void zset_zrank_command(struct cmd_ctx *c);
void zset_zrevrank_command(struct cmd_ctx *c);
void zset_zrandmember_command(struct cmd_ctx *c);
void zset_zscan_command(struct cmd_ctx *c);

void zset_zcount_command(struct cmd_ctx *c);
void zset_zlexcount_command(struct cmd_ctx *c);
void zset_zrange_command(struct cmd_ctx *c);
void zset_zrangestore_command(struct cmd_ctx *c);
void zset_zrevrange_command(struct cmd_ctx *c);
void zset_zrangebyscore_command(struct cmd_ctx *c);
void zset_zrevrangebyscore_command(struct cmd_ctx *c);
void zset_zrangebylex_command(struct cmd_ctx *c);
void zset_zrevrangebylex_command(struct cmd_ctx *c);
void zset_zremrangebyrank_command(struct cmd_ctx *c);
void zset_zremrangebyscore_command(struct cmd_ctx *c);
void zset_zremrangebylex_command(struct cmd_ctx *c);

void zset_zpopmin_command(struct cmd_ctx *c);
void zset_zpopmax_command(struct cmd_ctx *c);
void zset_zmpop_command(struct cmd_ctx *c);
void zset_bzpopmin_command(struct cmd_ctx *c);
void zset_bzpopmax_command(struct cmd_ctx *c);
void zset_bzmpop_command(struct cmd_ctx *c);

void zset_zunion_command(struct cmd_ctx *c);
void zset_zinter_command(struct cmd_ctx *c);
void zset_zdiff_command(struct cmd_ctx *c);
void zset_zunionstore_command(struct cmd_ctx *c);
void zset_zinterstore_command(struct cmd_ctx *c);
void zset_zdiffstore_command(struct cmd_ctx *c);
void zset_zintercard_command(struct cmd_ctx *c);

#endif
