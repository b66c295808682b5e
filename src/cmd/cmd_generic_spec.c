/*
 * Generic keys and whole databases: the table. Arity, flags, key specs, categories, tips and argument trees are those that redis-server 7.2
 * publishes, for clients that route and check by them; the commands themselves are in cmd_generic*.c.
 */
#include "cmd/cmd_generic.h"

#define KEY_RANGE(flags_, first_, last_, step_)                                                                  \
    { .flags = (flags_), .begin = KEY_BEGIN_INDEX, .index = (first_), .find = KEY_FIND_RANGE, .lastkey = (last_), .keystep = (step_) }
#define KEY_ONE(flags_) .keys = { KEY_RANGE(flags_, 1, 0, 1) }

static const struct cmd_arg copy_args[] = {
    { .name = "source", .type = ARG_KEY },
    { .name = "destination", .type = ARG_KEY, .key_spec_index = 1 },
    { .name = "destination-db", .type = ARG_INTEGER, .token = "DB", .flags = ARG_OPTIONAL },
    { .name = "replace", .type = ARG_PURE_TOKEN, .token = "REPLACE", .flags = ARG_OPTIONAL },
    { 0 },
};
static const char *const tips_all_sum[] = { "request_policy:all_shards", "response_policy:agg_sum", NULL };
static const char *const tips_split_sum[] = { "request_policy:multi_shard", "response_policy:agg_sum", NULL };
static const struct cmd_arg keys_args[] = { { .name = "key", .type = ARG_KEY, .flags = ARG_MULTIPLE }, { 0 } };
static const struct cmd_history exists_history[] = { { "3.0.3", "Several keys at once." }, { 0 } };
static const struct cmd_arg expire_condition_args[] = {
    { .name = "nx", .type = ARG_PURE_TOKEN, .token = "NX" },
    { .name = "xx", .type = ARG_PURE_TOKEN, .token = "XX" },
    { .name = "gt", .type = ARG_PURE_TOKEN, .token = "GT" },
    { .name = "lt", .type = ARG_PURE_TOKEN, .token = "LT" },
    { 0 },
};
static const struct cmd_arg expire_args[] = {
    { .name = "key", .type = ARG_KEY },
    { .name = "seconds", .type = ARG_INTEGER },
    { .name = "condition", .type = ARG_ONEOF, .since = "7.0.0", .flags = ARG_OPTIONAL, .sub = expire_condition_args },
    { 0 },
};
static const struct cmd_history expire_history[] = { { "7.0.0", "Options `NX`, `XX`, `GT` and `LT`." }, { 0 } };
static const struct cmd_arg expireat_args[] = {
    { .name = "key", .type = ARG_KEY },
    { .name = "unix-time-seconds", .type = ARG_UNIX_TIME },
    { .name = "condition", .type = ARG_ONEOF, .since = "7.0.0", .flags = ARG_OPTIONAL, .sub = expire_condition_args },
    { 0 },
};
static const struct cmd_arg key_args[] = { { .name = "key", .type = ARG_KEY }, { 0 } };
static const char *const tips_all_ok[] = { "request_policy:all_shards", "response_policy:all_succeeded", NULL };
static const struct cmd_arg flush_type_args[] = {
    { .name = "async", .type = ARG_PURE_TOKEN, .token = "ASYNC", .since = "4.0.0" },
    { .name = "sync", .type = ARG_PURE_TOKEN, .token = "SYNC", .since = "6.2.0" },
    { 0 },
};
static const struct cmd_arg flush_args[] = {
    { .name = "flush-type", .type = ARG_ONEOF, .flags = ARG_OPTIONAL, .sub = flush_type_args },
    { 0 },
};
static const struct cmd_history flush_history[] = { { "4.0.0", "Option `ASYNC`." }, { "6.2.0", "Option `SYNC`." }, { 0 } };
static const char *const tips_keys[] = { "request_policy:all_shards", "nondeterministic_output_order", NULL };
static const struct cmd_arg pattern_args[] = { { .name = "pattern", .type = ARG_PATTERN }, { 0 } };
static const struct cmd_arg move_args[] = { { .name = "key", .type = ARG_KEY }, { .name = "db", .type = ARG_INTEGER }, { 0 } };
static const char *const tips_varies[] = { "nondeterministic_output", NULL };
static const struct cmd_arg pexpire_args[] = {
    { .name = "key", .type = ARG_KEY },
    { .name = "milliseconds", .type = ARG_INTEGER },
    { .name = "condition", .type = ARG_ONEOF, .since = "7.0.0", .flags = ARG_OPTIONAL, .sub = expire_condition_args },
    { 0 },
};
static const struct cmd_arg pexpireat_args[] = {
    { .name = "key", .type = ARG_KEY },
    { .name = "unix-time-milliseconds", .type = ARG_UNIX_TIME },
    { .name = "condition", .type = ARG_ONEOF, .since = "7.0.0", .flags = ARG_OPTIONAL, .sub = expire_condition_args },
    { 0 },
};
static const struct cmd_history ttl_history[] = { { "2.8.0", "Reply -2 for an absent key." }, { 0 } };
static const char *const tips_randomkey[] = { "request_policy:all_shards", "response_policy:special", "nondeterministic_output", NULL };
static const struct cmd_arg rename_args[] = { { .name = "key", .type = ARG_KEY }, { .name = "newkey", .type = ARG_KEY, .key_spec_index = 1 }, { 0 } };
static const struct cmd_history renamenx_history[] = { { "3.2.0", "Equal names are no longer an error." }, { 0 } };
static const char *const tips_scan[] = { "nondeterministic_output", "request_policy:special", "response_policy:special", NULL };
static const struct cmd_arg scan_args[] = {
    { .name = "cursor", .type = ARG_INTEGER },
    { .name = "pattern", .type = ARG_PATTERN, .token = "MATCH", .flags = ARG_OPTIONAL },
    { .name = "count", .type = ARG_INTEGER, .token = "COUNT", .flags = ARG_OPTIONAL },
    { .name = "type", .type = ARG_STRING, .token = "TYPE", .since = "6.0.0", .flags = ARG_OPTIONAL },
    { 0 },
};
static const struct cmd_history scan_history[] = { { "6.0.0", "Option `TYPE`." }, { 0 } };
static const struct cmd_arg swapdb_args[] = { { .name = "index1", .type = ARG_INTEGER }, { .name = "index2", .type = ARG_INTEGER }, { 0 } };

static const struct cmd_spec object_subs[] = {
    { .name = "encoding", .run = generic_object_encoding_command, .arity = 3, .flags = CMD_READONLY, .cats = CAT_KEYSPACE,
      .keys = { KEY_RANGE(KEY_RO, 2, 0, 1) },
      .summary = "Names the internal representation of a value.", .since = "2.2.3", .complexity = "O(1)", .group = "generic",
      .tips = tips_varies, .args = key_args },
    { .name = "freq", .run = generic_object_freq_command, .arity = 3, .flags = CMD_READONLY, .cats = CAT_KEYSPACE,
      .keys = { KEY_RANGE(KEY_RO, 2, 0, 1) },
      .summary = "Tells the logarithmic access counter of a key.", .since = "4.0.0", .complexity = "O(1)", .group = "generic",
      .tips = tips_varies, .args = key_args },
    { .name = "help", .run = generic_object_help_command, .arity = 2, .flags = CMD_LOADING | CMD_STALE, .cats = CAT_KEYSPACE,
      .summary = "Lists the subcommands.", .since = "6.2.0", .complexity = "O(1)", .group = "generic" },
    { .name = "idletime", .run = generic_object_idletime_command, .arity = 3, .flags = CMD_READONLY, .cats = CAT_KEYSPACE,
      .keys = { KEY_RANGE(KEY_RO, 2, 0, 1) },
      .summary = "Tells how long a key has not been used.", .since = "2.2.3", .complexity = "O(1)", .group = "generic",
      .tips = tips_varies, .args = key_args },
    { .name = "refcount", .run = generic_object_refcount_command, .arity = 3, .flags = CMD_READONLY, .cats = CAT_KEYSPACE,
      .keys = { KEY_RANGE(KEY_RO, 2, 0, 1) },
      .summary = "Tells how many references a value has.", .since = "2.2.3", .complexity = "O(1)", .group = "generic",
      .tips = tips_varies, .args = key_args },
    { .name = NULL },
};

const struct cmd_spec cmd_specs_generic[] = {
    { .name = "copy", .run = generic_copy_command, .arity = -3, .flags = CMD_WRITE | CMD_DENYOOM, .cats = CAT_KEYSPACE,
      .keys = { KEY_RANGE(KEY_RO | KEY_ACCESS, 1, 0, 1), KEY_RANGE(KEY_OW | KEY_UPDATE, 2, 0, 1) },
      .summary = "Copies a value to another key, in the same database or another.", .since = "6.2.0",
      .complexity = "O(N), N being the elements of a collection; O(1) for strings.", .group = "generic",
      .args = copy_args },
    { .name = "dbsize", .run = generic_dbsize_command, .arity = 1, .flags = CMD_READONLY | CMD_FAST, .cats = CAT_KEYSPACE,
      .summary = "Counts the keys of the selected database.", .since = "1.0.0", .complexity = "O(1)", .group = "server",
      .tips = tips_all_sum },
    { .name = "del", .run = generic_del_command, .arity = -2, .flags = CMD_WRITE, .cats = CAT_KEYSPACE,
      .keys = { KEY_RANGE(KEY_RM | KEY_DELETE, 1, -1, 1) },
      .summary = "Deletes keys.", .since = "1.0.0",
      .complexity = "O(N), N being the number of keys; a key with a collection adds O(M) for its M elements.", .group = "generic",
      .tips = tips_split_sum, .args = keys_args },
    { .name = "exists", .run = generic_exists_command, .arity = -2, .flags = CMD_READONLY | CMD_FAST, .cats = CAT_KEYSPACE,
      .keys = { KEY_RANGE(KEY_RO, 1, -1, 1) },
      .summary = "Counts how many of the named keys exist.", .since = "1.0.0", .complexity = "O(N), N being the number of keys.", .group = "generic",
      .tips = tips_split_sum, .args = keys_args, .history = exists_history },
    { .name = "expire", .run = generic_expire_command, .arity = -3, .flags = CMD_WRITE | CMD_FAST, .cats = CAT_KEYSPACE,
      KEY_ONE(KEY_RW | KEY_UPDATE),
      .summary = "Gives a key a time to live in seconds.", .since = "1.0.0", .complexity = "O(1)", .group = "generic",
      .args = expire_args, .history = expire_history },
    { .name = "expireat", .run = generic_expireat_command, .arity = -3, .flags = CMD_WRITE | CMD_FAST, .cats = CAT_KEYSPACE,
      KEY_ONE(KEY_RW | KEY_UPDATE),
      .summary = "Lets a key expire at a Unix time in seconds.", .since = "1.2.0", .complexity = "O(1)", .group = "generic",
      .args = expireat_args, .history = expire_history },
    { .name = "expiretime", .run = generic_expiretime_command, .arity = 2, .flags = CMD_READONLY | CMD_FAST, .cats = CAT_KEYSPACE,
      KEY_ONE(KEY_RO | KEY_ACCESS),
      .summary = "Tells the Unix time in seconds at which a key expires.", .since = "7.0.0", .complexity = "O(1)", .group = "generic",
      .args = key_args },
    { .name = "flushall", .run = generic_flushall_command, .arity = -1, .flags = CMD_WRITE | CMD_ALL_SHARDS, .cats = CAT_KEYSPACE | CAT_DANGEROUS,
      .summary = "Deletes every key of every database.", .since = "1.0.0",
      .complexity = "O(N), N being the number of keys in all databases.", .group = "server",
      .tips = tips_all_ok, .args = flush_args, .history = flush_history },
    { .name = "flushdb", .run = generic_flushdb_command, .arity = -1, .flags = CMD_WRITE | CMD_ALL_SHARDS, .cats = CAT_KEYSPACE | CAT_DANGEROUS,
      .summary = "Deletes every key of the selected database.", .since = "1.0.0",
      .complexity = "O(N), N being the number of keys in it.", .group = "server",
      .tips = tips_all_ok, .args = flush_args, .history = flush_history },
    { .name = "keys", .run = generic_keys_command, .arity = 2, .flags = CMD_READONLY | CMD_ALL_SHARDS | CMD_TOUCHES_ARBITRARY_KEYS, .cats = CAT_KEYSPACE | CAT_DANGEROUS,
      .summary = "Lists the keys that match a pattern.", .since = "1.0.0",
      .complexity = "O(N), N being the number of keys in the database.", .group = "generic",
      .tips = tips_keys, .args = pattern_args },
    { .name = "move", .run = generic_move_command, .arity = 3, .flags = CMD_WRITE | CMD_FAST, .cats = CAT_KEYSPACE,
      KEY_ONE(KEY_RW | KEY_ACCESS | KEY_UPDATE),
      .summary = "Moves a key to another database.", .since = "1.0.0", .complexity = "O(1)", .group = "generic",
      .args = move_args },
    { .name = "object", .arity = -2,
      .summary = "Container of the commands that look at how a value is held.", .since = "2.2.3",
      .complexity = "Depends on the subcommand.", .group = "generic",
      .subs = object_subs },
    { .name = "persist", .run = generic_persist_command, .arity = 2, .flags = CMD_WRITE | CMD_FAST, .cats = CAT_KEYSPACE,
      KEY_ONE(KEY_RW | KEY_UPDATE),
      .summary = "Takes the expiry off a key.", .since = "2.2.0", .complexity = "O(1)", .group = "generic",
      .args = key_args },
    { .name = "pexpire", .run = generic_pexpire_command, .arity = -3, .flags = CMD_WRITE | CMD_FAST, .cats = CAT_KEYSPACE,
      KEY_ONE(KEY_RW | KEY_UPDATE),
      .summary = "Gives a key a time to live in milliseconds.", .since = "2.6.0", .complexity = "O(1)", .group = "generic",
      .args = pexpire_args, .history = expire_history },
    { .name = "pexpireat", .run = generic_pexpireat_command, .arity = -3, .flags = CMD_WRITE | CMD_FAST, .cats = CAT_KEYSPACE,
      KEY_ONE(KEY_RW | KEY_UPDATE),
      .summary = "Lets a key expire at a Unix time in milliseconds.", .since = "2.6.0", .complexity = "O(1)", .group = "generic",
      .args = pexpireat_args, .history = expire_history },
    { .name = "pexpiretime", .run = generic_pexpiretime_command, .arity = 2, .flags = CMD_READONLY | CMD_FAST, .cats = CAT_KEYSPACE,
      KEY_ONE(KEY_RO | KEY_ACCESS),
      .summary = "Tells the Unix time in milliseconds at which a key expires.", .since = "7.0.0", .complexity = "O(1)", .group = "generic",
      .args = key_args },
    { .name = "pttl", .run = generic_pttl_command, .arity = 2, .flags = CMD_READONLY | CMD_FAST, .cats = CAT_KEYSPACE,
      KEY_ONE(KEY_RO | KEY_ACCESS),
      .summary = "Tells how many milliseconds a key has left to live.", .since = "2.6.0", .complexity = "O(1)", .group = "generic",
      .tips = tips_varies, .args = key_args, .history = ttl_history },
    { .name = "randomkey", .run = generic_randomkey_command, .arity = 1, .flags = CMD_READONLY | CMD_ALL_SHARDS | CMD_TOUCHES_ARBITRARY_KEYS, .cats = CAT_KEYSPACE,
      .summary = "Names one key at random.", .since = "1.0.0", .complexity = "O(1)", .group = "generic",
      .tips = tips_randomkey },
    { .name = "rename", .run = generic_rename_command, .arity = 3, .flags = CMD_WRITE, .cats = CAT_KEYSPACE,
      .keys = { KEY_RANGE(KEY_RW | KEY_ACCESS | KEY_DELETE, 1, 0, 1), KEY_RANGE(KEY_OW | KEY_UPDATE, 2, 0, 1) },
      .summary = "Gives a key another name, replacing what had that name.", .since = "1.0.0", .complexity = "O(1)", .group = "generic",
      .args = rename_args },
    { .name = "renamenx", .run = generic_renamenx_command, .arity = 3, .flags = CMD_WRITE | CMD_FAST, .cats = CAT_KEYSPACE,
      .keys = { KEY_RANGE(KEY_RW | KEY_ACCESS | KEY_DELETE, 1, 0, 1), KEY_RANGE(KEY_OW | KEY_INSERT, 2, 0, 1) },
      .summary = "Gives a key another name, provided that it is free.", .since = "1.0.0", .complexity = "O(1)", .group = "generic",
      .args = rename_args, .history = renamenx_history },
    { .name = "scan", .run = generic_scan_command, .arity = -2, .flags = CMD_READONLY | CMD_SELF_LOCK | CMD_TOUCHES_ARBITRARY_KEYS, .cats = CAT_KEYSPACE,
      .summary = "Lists the keys a few at a time, by cursor.", .since = "2.8.0",
      .complexity = "O(1) per call, O(N) for a whole iteration over N keys.", .group = "generic",
      .tips = tips_scan, .args = scan_args, .history = scan_history },
    { .name = "swapdb", .run = generic_swapdb_command, .arity = 3, .flags = CMD_WRITE | CMD_FAST | CMD_ALL_SHARDS, .cats = CAT_KEYSPACE | CAT_DANGEROUS,
      .summary = "Exchanges the contents of two databases.", .since = "4.0.0",
      .complexity = "O(N), N being the number of clients that watch or block on keys of either.", .group = "server",
      .args = swapdb_args },
    { .name = "touch", .run = generic_touch_command, .arity = -2, .flags = CMD_READONLY | CMD_FAST, .cats = CAT_KEYSPACE,
      .keys = { KEY_RANGE(KEY_RO, 1, -1, 1) },
      .summary = "Marks keys as just used and counts those that exist.", .since = "3.2.1",
      .complexity = "O(N), N being the number of keys.", .group = "generic",
      .tips = tips_split_sum, .args = keys_args },
    { .name = "ttl", .run = generic_ttl_command, .arity = 2, .flags = CMD_READONLY | CMD_FAST, .cats = CAT_KEYSPACE,
      KEY_ONE(KEY_RO | KEY_ACCESS),
      .summary = "Tells how many seconds a key has left to live.", .since = "1.0.0", .complexity = "O(1)", .group = "generic",
      .tips = tips_varies, .args = key_args, .history = ttl_history },
    { .name = "type", .run = generic_type_command, .arity = 2, .flags = CMD_READONLY | CMD_FAST, .cats = CAT_KEYSPACE,
      KEY_ONE(KEY_RO),
      .summary = "Names the type of the value of a key.", .since = "1.0.0", .complexity = "O(1)", .group = "generic",
      .args = key_args },
    { .name = "unlink", .run = generic_unlink_command, .arity = -2, .flags = CMD_WRITE | CMD_FAST, .cats = CAT_KEYSPACE,
      .keys = { KEY_RANGE(KEY_RM | KEY_DELETE, 1, -1, 1) },
      .summary = "Deletes keys and frees large values in the background.", .since = "4.0.0",
      .complexity = "O(1) per key before the reply; the background work is linear in the allocations of the values.", .group = "generic",
      .tips = tips_split_sum, .args = keys_args },
    { .name = NULL },
};
