/* The set family: what its files share, and the commands that cmd_set_spec.c lists. Dispatching thread, shards of the keys
 * locked. */
#ifndef KETTLE_CMD_CMD_SET_H
#define KETTLE_CMD_CMD_SET_H

#include "cmd/cmd_generic.h"
#include "data/set.h"

/* The set under argv[1] for reading; NULL with *ret_err false: absent. */
struct obj *set_for_read(struct cmd_ctx *c, bool *ret_err);
void set_reply_member(struct cmd_ctx *c, const struct set_member *m);
/* After members were removed: the key goes with the last of them, with its event. True when it went. */
bool set_drop_if_empty(struct cmd_ctx *c, struct slice key, const struct obj *o);

void set_add_command(struct cmd_ctx *c);
void set_rem_command(struct cmd_ctx *c);
void set_move_command(struct cmd_ctx *c);
void set_card_command(struct cmd_ctx *c);
void set_members_command(struct cmd_ctx *c);
void set_ismember_command(struct cmd_ctx *c);
void set_mismember_command(struct cmd_ctx *c);

void set_pop_command(struct cmd_ctx *c);
void set_randmember_command(struct cmd_ctx *c);
void set_scan_command(struct cmd_ctx *c);

void set_inter_command(struct cmd_ctx *c);
void set_intercard_command(struct cmd_ctx *c);
void set_interstore_command(struct cmd_ctx *c);
void set_union_command(struct cmd_ctx *c);
void set_unionstore_command(struct cmd_ctx *c);
void set_diff_command(struct cmd_ctx *c);
void set_diffstore_command(struct cmd_ctx *c);

#endif
