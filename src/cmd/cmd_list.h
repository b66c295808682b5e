/* The list family: what its files share, and the commands that cmd_list_spec.c lists. Dispatching thread, shards of the keys
 * locked. */
#ifndef KETTLE_CMD_CMD_LIST_H
#define KETTLE_CMD_CMD_LIST_H

#include "cmd/cmd_generic.h"
#include "data/list.h"

/* "LEFT" or "RIGHT"; replies the syntax error and gives false for anything else. */
bool list_end_arg(struct cmd_ctx *c, struct slice a, enum list_end *ret);
/* An argument as a new element of o: a large one is not copied but becomes the element. To be put in at once: argv may refer to
 * its memory. */
struct list_value list_arg_value(struct cmd_ctx *c, const struct obj *o, struct slice a);
void list_reply_elem(struct cmd_ctx *c, const struct list_elem *e);
/* An array of n elements from `index` on, towards the tail or the head; they exist. */
void list_reply_range(struct cmd_ctx *c, const struct obj *o, uint64_t index, uint64_t n, bool backward);
/* n elements are gone from that end of key's list o: effects, and the end of the key when that was all. */
void list_popped(struct cmd_ctx *c, struct slice key, struct obj *o, enum list_end end, uint64_t n);
/* Replies [key, [elements]] and takes them; replicates LPOP or RPOP with their number. */
void list_pop_with_key(struct cmd_ctx *c, struct slice key, struct obj *o, enum list_end end, uint64_t count);

/* The keys and options of LMPOP, from argv[at], the number of keys, on. */
struct list_mpop {
    const struct slice *keys;
    int n_keys;
    enum list_end end;
    uint64_t count;
};
bool list_mpop_args(struct cmd_ctx *c, int at, struct list_mpop *ret);
/* Pops from the first list that has elements. False: there is none, nothing was replied. True: popped, or an error was replied.
 */
bool list_mpop(struct cmd_ctx *c, const struct list_mpop *m);
/* LMOVE once the source is known to be there: src is the entry of argv[1], the destination argv[2]. False: replied an error. */
bool list_move(struct cmd_ctx *c, struct entry *src, enum list_end from, enum list_end to);

void list_lpush_command(struct cmd_ctx *c);
void list_rpush_command(struct cmd_ctx *c);
void list_lpushx_command(struct cmd_ctx *c);
void list_rpushx_command(struct cmd_ctx *c);
void list_llen_command(struct cmd_ctx *c);
void list_lindex_command(struct cmd_ctx *c);
void list_linsert_command(struct cmd_ctx *c);
void list_lset_command(struct cmd_ctx *c);
void list_lrange_command(struct cmd_ctx *c);
void list_ltrim_command(struct cmd_ctx *c);
void list_lrem_command(struct cmd_ctx *c);
void list_lpos_command(struct cmd_ctx *c);

void list_lpop_command(struct cmd_ctx *c);
void list_rpop_command(struct cmd_ctx *c);
void list_lmpop_command(struct cmd_ctx *c);
void list_lmove_command(struct cmd_ctx *c);
void list_rpoplpush_command(struct cmd_ctx *c);

void list_blpop_command(struct cmd_ctx *c);
void list_brpop_command(struct cmd_ctx *c);
void list_blmpop_command(struct cmd_ctx *c);
void list_blmove_command(struct cmd_ctx *c);
void list_brpoplpush_command(struct cmd_ctx *c);

#endif
