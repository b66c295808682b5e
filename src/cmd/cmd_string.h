/* The string family: what its files share, and the commands that cmd_string_spec.c lists. Dispatching thread, shards of the keys
 * locked. */
#ifndef KETTLE_CMD_CMD_STRING_H
#define KETTLE_CMD_CMD_STRING_H

#include "cmd/cmd_generic.h"

/* A string value as a bulk reply. Large raw values are not copied: the reply holds a reference until it is sent. */
void string_reply_value(struct cmd_ctx *c, struct obj *o);
/* `len` bytes of it from `from` (within its length); the same. */
void string_reply_part(struct cmd_ctx *c, struct obj *o, size_t from, size_t len);

/* The value a command stores. A large argument is not copied but becomes the value; val stays valid as long as the value does. */
struct obj *string_new_value(struct cmd_ctx *c, struct slice val);
/* generic_put of it, in the client's database; without an object where it is small. */
struct entry *string_put(struct cmd_ctx *c, struct slice key, struct entry *old, struct slice val, bool keep_ttl);

/* SET's keys are read only with GET: what COMMAND GETKEYSANDFLAGS and key permissions go by. */
int string_set_keys(int argc, const struct slice *argv, int *pos, unsigned *flags, int cap);

void string_get_command(struct cmd_ctx *c);
void string_getdel_command(struct cmd_ctx *c);
void string_getex_command(struct cmd_ctx *c);
void string_getset_command(struct cmd_ctx *c);
void string_set_command(struct cmd_ctx *c);
void string_setnx_command(struct cmd_ctx *c);
void string_setex_command(struct cmd_ctx *c);
void string_psetex_command(struct cmd_ctx *c);

void string_append_command(struct cmd_ctx *c);
void string_getrange_command(struct cmd_ctx *c);
void string_setrange_command(struct cmd_ctx *c);
void string_strlen_command(struct cmd_ctx *c);

void string_mget_command(struct cmd_ctx *c);
void string_mset_command(struct cmd_ctx *c);
void string_msetnx_command(struct cmd_ctx *c);

void string_incr_command(struct cmd_ctx *c);
void string_decr_command(struct cmd_ctx *c);
void string_incrby_command(struct cmd_ctx *c);
void string_decrby_command(struct cmd_ctx *c);
void string_incrbyfloat_command(struct cmd_ctx *c);

void string_lcs_command(struct cmd_ctx *c);

#endif
