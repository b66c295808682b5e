/* The hash family: what its files share, and the commands that cmd_hash_spec.c lists. Dispatching thread, shards of the keys
 * locked. */
#ifndef KETTLE_CMD_CMD_HASH_H
#define KETTLE_CMD_CMD_HASH_H

#include "cmd/cmd_generic.h"
#include "data/hash.h"

/* The hash under key, made when absent. Its entry in *ret_e (may be NULL). NULL: WRONGTYPE was replied. */
struct obj *hash_for_write(struct cmd_ctx *c, struct slice key, struct entry **ret_e);
/* The hash under argv[1] for reading; NULL with *ret_err false: absent. */
struct obj *hash_for_read(struct cmd_ctx *c, bool *ret_err);
/* Sets a field; a large argument is not copied. True when it is new. */
bool hash_put_arg(struct cmd_ctx *c, struct obj *o, struct slice field, struct slice value, unsigned flags);
void hash_reply_value(struct cmd_ctx *c, const struct hash_pair *p);
/* After fields were deleted: the key goes with the last of them, with its event. True when it went. */
bool hash_drop_if_empty(struct cmd_ctx *c, struct slice key, const struct obj *o);

void hash_set_command(struct cmd_ctx *c);
void hash_setnx_command(struct cmd_ctx *c);
void hash_get_command(struct cmd_ctx *c);
void hash_mget_command(struct cmd_ctx *c);
void hash_del_command(struct cmd_ctx *c);
void hash_len_command(struct cmd_ctx *c);
void hash_strlen_command(struct cmd_ctx *c);
void hash_exists_command(struct cmd_ctx *c);
void hash_getall_command(struct cmd_ctx *c);
void hash_keys_command(struct cmd_ctx *c);
void hash_vals_command(struct cmd_ctx *c);
void hash_incrby_command(struct cmd_ctx *c);
void hash_incrbyfloat_command(struct cmd_ctx *c);

void hash_randfield_command(struct cmd_ctx *c);
void hash_scan_command(struct cmd_ctx *c);

void hash_expire_command(struct cmd_ctx *c);
void hash_pexpire_command(struct cmd_ctx *c);
void hash_expireat_command(struct cmd_ctx *c);
void hash_pexpireat_command(struct cmd_ctx *c);
void hash_ttl_command(struct cmd_ctx *c);
void hash_pttl_command(struct cmd_ctx *c);
void hash_expiretime_command(struct cmd_ctx *c);
void hash_pexpiretime_command(struct cmd_ctx *c);
void hash_persist_command(struct cmd_ctx *c);
void hash_getex_command(struct cmd_ctx *c);
void hash_setex_command(struct cmd_ctx *c);
void hash_getdel_command(struct cmd_ctx *c);

#endif
