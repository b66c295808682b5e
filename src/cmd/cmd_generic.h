/* Shared by the string, bitmap and generic-key families: storing a value with its events, the expiry error, and the commands that
 * cmd_generic_spec.c lists. All of it runs on the dispatching thread with the shards of the named keys locked. */
#ifndef KETTLE_CMD_CMD_GENERIC_H
#define KETTLE_CMD_CMD_GENERIC_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "cmd/cmd.h"
#include "cmd/dispatch.h"

/* Puts val under key: in place of `old` (the live entry of that key, as found by cmd_find_write) or, with old NULL, as a new key,
 * which raises the "new" event. keep_ttl: the expiry of `old` stays. The reference is taken (of a small string the object is
 * gone: ks_set). Returns the entry; `old` is not to be used any more. The caller says cmd_modified and the command's own event.
 */
struct entry *generic_put(struct cmd_ctx *c, int db, struct slice key, struct entry *old, struct obj *val_take, bool keep_ttl);
/* The same for a string in the client's database, without an object where it is small. */
struct entry *generic_put_string(struct cmd_ctx *c, struct slice key, struct entry *old, struct slice text, bool keep_ttl);

/* "ERR invalid expire time in '<command>' command". */
void generic_expire_error(struct cmd_ctx *c);

/* Time argument -> absolute milliseconds. base_ms: 0 for absolute times, now for relative ones; in_seconds: the unit of v. False
 * on overflow, *ret_ms untouched. */
bool generic_abs_time(int64_t v, bool in_seconds, int64_t base_ms, int64_t *ret_ms);

/* A key given an expiry that has already passed: deletes it, says "del", replicates DEL (UNLINK under lazyfree-lazy-expire). The
 * key must exist. */
void generic_delete_expired(struct cmd_ctx *c, struct slice key);

/* Sets the expiry of a live key, says "expire", replicates PEXPIREAT. */
void generic_set_expire(struct cmd_ctx *c, struct entry *e, struct slice key, int64_t when_ms);

/* Looks a key up without moving its access clock (EXISTS, TYPE, TTL, OBJECT). notify_miss: raises "keymiss". */
struct entry *generic_peek(struct cmd_ctx *c, struct slice key, bool notify_miss);

/* A database index given as an argument: replies the error and gives false when it is no integer or names no database. */
bool generic_db_arg(struct cmd_ctx *c, struct slice a, int *ret_db);

void generic_del_command(struct cmd_ctx *c);
void generic_unlink_command(struct cmd_ctx *c);
void generic_exists_command(struct cmd_ctx *c);
void generic_touch_command(struct cmd_ctx *c);
void generic_type_command(struct cmd_ctx *c);
void generic_rename_command(struct cmd_ctx *c);
void generic_renamenx_command(struct cmd_ctx *c);
void generic_copy_command(struct cmd_ctx *c);
void generic_move_command(struct cmd_ctx *c);

void generic_expire_command(struct cmd_ctx *c);
void generic_pexpire_command(struct cmd_ctx *c);
void generic_expireat_command(struct cmd_ctx *c);
void generic_pexpireat_command(struct cmd_ctx *c);
void generic_ttl_command(struct cmd_ctx *c);
void generic_pttl_command(struct cmd_ctx *c);
void generic_expiretime_command(struct cmd_ctx *c);
void generic_pexpiretime_command(struct cmd_ctx *c);
void generic_persist_command(struct cmd_ctx *c);

void generic_keys_command(struct cmd_ctx *c);
void generic_scan_command(struct cmd_ctx *c);
void generic_randomkey_command(struct cmd_ctx *c);

void generic_object_encoding_command(struct cmd_ctx *c);
void generic_object_freq_command(struct cmd_ctx *c);
void generic_object_idletime_command(struct cmd_ctx *c);
void generic_object_refcount_command(struct cmd_ctx *c);
/* The value is one of those that redis-server has once for all keys, and says INT_MAX of. The key's shard is locked. */
bool generic_is_shared_integer(const struct keyspace *ks, const struct obj *o);
void generic_object_help_command(struct cmd_ctx *c);

void generic_dbsize_command(struct cmd_ctx *c);
void generic_flushdb_command(struct cmd_ctx *c);
void generic_flushall_command(struct cmd_ctx *c);
void generic_swapdb_command(struct cmd_ctx *c);

#endif
