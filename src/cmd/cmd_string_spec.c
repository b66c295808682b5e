/*
 * Strings: the table. Arity, flags, key specs, categories, tips and argument trees are those that redis-server 7.2
 * publishes, for clients that route and check by them; the commands themselves are in cmd_string*.c and cmd_lcs.c.
 */
#include "cmd/cmd_string.h"

#define KEY_RANGE(flags_, first_, last_, step_)                                                                  \
    { .flags = (flags_), .begin = KEY_BEGIN_INDEX, .index = (first_), .find = KEY_FIND_RANGE, .lastkey = (last_), .keystep = (step_) }
#define KEY_ONE(flags_) .keys = { KEY_RANGE(flags_, 1, 0, 1) }

static const struct cmd_arg key_value_args[] = { { .name = "key", .type = ARG_KEY }, { .name = "value", .type = ARG_STRING }, { 0 } };
static const struct cmd_arg key_args[] = { { .name = "key", .type = ARG_KEY }, { 0 } };
static const struct cmd_arg decrby_args[] = { { .name = "key", .type = ARG_KEY }, { .name = "decrement", .type = ARG_INTEGER }, { 0 } };
static const struct cmd_arg getex_expiration_args[] = {
    { .name = "seconds", .type = ARG_INTEGER, .token = "EX" },
    { .name = "milliseconds", .type = ARG_INTEGER, .token = "PX" },
    { .name = "unix-time-seconds", .type = ARG_UNIX_TIME, .token = "EXAT" },
    { .name = "unix-time-milliseconds", .type = ARG_UNIX_TIME, .token = "PXAT" },
    { .name = "persist", .type = ARG_PURE_TOKEN, .token = "PERSIST" },
    { 0 },
};
static const struct cmd_arg getex_args[] = {
    { .name = "key", .type = ARG_KEY },
    { .name = "expiration", .type = ARG_ONEOF, .flags = ARG_OPTIONAL, .sub = getex_expiration_args },
    { 0 },
};
static const struct cmd_arg key_start_end_args[] = {
    { .name = "key", .type = ARG_KEY },
    { .name = "start", .type = ARG_INTEGER },
    { .name = "end", .type = ARG_INTEGER },
    { 0 },
};
static const struct cmd_arg incrby_args[] = { { .name = "key", .type = ARG_KEY }, { .name = "increment", .type = ARG_INTEGER }, { 0 } };
static const struct cmd_arg incrbyfloat_args[] = { { .name = "key", .type = ARG_KEY }, { .name = "increment", .type = ARG_DOUBLE }, { 0 } };
static const struct cmd_arg lcs_args[] = {
    { .name = "key1", .type = ARG_KEY },
    { .name = "key2", .type = ARG_KEY },
    { .name = "len", .type = ARG_PURE_TOKEN, .token = "LEN", .flags = ARG_OPTIONAL },
    { .name = "idx", .type = ARG_PURE_TOKEN, .token = "IDX", .flags = ARG_OPTIONAL },
    { .name = "min-match-len", .type = ARG_INTEGER, .token = "MINMATCHLEN", .flags = ARG_OPTIONAL },
    { .name = "withmatchlen", .type = ARG_PURE_TOKEN, .token = "WITHMATCHLEN", .flags = ARG_OPTIONAL },
    { 0 },
};
static const char *const tips_split[] = { "request_policy:multi_shard", NULL };
static const struct cmd_arg keys_args[] = { { .name = "key", .type = ARG_KEY, .flags = ARG_MULTIPLE }, { 0 } };
static const char *const tips_split_ok[] = { "request_policy:multi_shard", "response_policy:all_succeeded", NULL };
static const struct cmd_arg pairs_args[] = { { .name = "data", .type = ARG_BLOCK, .flags = ARG_MULTIPLE, .sub = key_value_args }, { 0 } };
static const struct cmd_arg psetex_args[] = {
    { .name = "key", .type = ARG_KEY },
    { .name = "milliseconds", .type = ARG_INTEGER },
    { .name = "value", .type = ARG_STRING },
    { 0 },
};
static const struct cmd_arg set_condition_args[] = {
    { .name = "nx", .type = ARG_PURE_TOKEN, .token = "NX" },
    { .name = "xx", .type = ARG_PURE_TOKEN, .token = "XX" },
    { 0 },
};
static const struct cmd_arg set_expiration_args[] = {
    { .name = "seconds", .type = ARG_INTEGER, .token = "EX", .since = "2.6.12" },
    { .name = "milliseconds", .type = ARG_INTEGER, .token = "PX", .since = "2.6.12" },
    { .name = "unix-time-seconds", .type = ARG_UNIX_TIME, .token = "EXAT", .since = "6.2.0" },
    { .name = "unix-time-milliseconds", .type = ARG_UNIX_TIME, .token = "PXAT", .since = "6.2.0" },
    { .name = "keepttl", .type = ARG_PURE_TOKEN, .token = "KEEPTTL", .since = "6.0.0" },
    { 0 },
};
static const struct cmd_arg set_args[] = {
    { .name = "key", .type = ARG_KEY },
    { .name = "value", .type = ARG_STRING },
    { .name = "condition", .type = ARG_ONEOF, .since = "2.6.12", .flags = ARG_OPTIONAL, .sub = set_condition_args },
    { .name = "get", .type = ARG_PURE_TOKEN, .token = "GET", .since = "6.2.0", .flags = ARG_OPTIONAL },
    { .name = "expiration", .type = ARG_ONEOF, .flags = ARG_OPTIONAL, .sub = set_expiration_args },
    { 0 },
};
static const struct cmd_history set_history[] = {
    { "2.6.12", "Options `EX`, `PX`, `NX` and `XX`." },
    { "6.0.0", "Option `KEEPTTL`." },
    { "6.2.0", "Options `GET`, `EXAT` and `PXAT`." },
    { "7.0.0", "`NX` and `GET` may be combined." },
    { 0 },
};
static const struct cmd_arg setex_args[] = {
    { .name = "key", .type = ARG_KEY },
    { .name = "seconds", .type = ARG_INTEGER },
    { .name = "value", .type = ARG_STRING },
    { 0 },
};
static const struct cmd_arg setrange_args[] = {
    { .name = "key", .type = ARG_KEY },
    { .name = "offset", .type = ARG_INTEGER },
    { .name = "value", .type = ARG_STRING },
    { 0 },
};

const struct cmd_spec cmd_specs_string[] = {
    { .name = "append", .run = string_append_command, .arity = 3, .flags = CMD_WRITE | CMD_DENYOOM | CMD_FAST, .cats = CAT_STRING,
      KEY_ONE(KEY_RW | KEY_INSERT),
      .summary = "Adds bytes to the end of a string, creating the key if need be.", .since = "2.0.0",
      .complexity = "O(1) amortized over appends to the same key.", .group = "string",
      .args = key_value_args },
    { .name = "decr", .run = string_decr_command, .arity = 2, .flags = CMD_WRITE | CMD_DENYOOM | CMD_FAST, .cats = CAT_STRING,
      KEY_ONE(KEY_RW | KEY_ACCESS | KEY_UPDATE),
      .summary = "Subtracts one from an integer, taking an absent key as 0.", .since = "1.0.0", .complexity = "O(1)", .group = "string",
      .args = key_args },
    { .name = "decrby", .run = string_decrby_command, .arity = 3, .flags = CMD_WRITE | CMD_DENYOOM | CMD_FAST, .cats = CAT_STRING,
      KEY_ONE(KEY_RW | KEY_ACCESS | KEY_UPDATE),
      .summary = "Subtracts a given amount from an integer, taking an absent key as 0.", .since = "1.0.0", .complexity = "O(1)", .group = "string",
      .args = decrby_args },
    { .name = "get", .run = string_get_command, .arity = 2, .flags = CMD_READONLY | CMD_FAST, .cats = CAT_STRING,
      KEY_ONE(KEY_RO | KEY_ACCESS),
      .summary = "Reads a string.", .since = "1.0.0", .complexity = "O(1)", .group = "string",
      .args = key_args },
    { .name = "getdel", .run = string_getdel_command, .arity = 2, .flags = CMD_WRITE | CMD_FAST, .cats = CAT_STRING,
      KEY_ONE(KEY_RW | KEY_ACCESS | KEY_DELETE),
      .summary = "Reads a string and deletes its key.", .since = "6.2.0", .complexity = "O(1)", .group = "string",
      .args = key_args },
    { .name = "getex", .run = string_getex_command, .arity = -2, .flags = CMD_WRITE | CMD_FAST, .cats = CAT_STRING,
      KEY_ONE(KEY_RW | KEY_ACCESS | KEY_UPDATE),
      .summary = "Reads a string and sets or clears the expiry of its key.", .since = "6.2.0", .complexity = "O(1)", .group = "string",
      .args = getex_args },
    { .name = "getrange", .run = string_getrange_command, .arity = 4, .flags = CMD_READONLY, .cats = CAT_STRING,
      KEY_ONE(KEY_RO | KEY_ACCESS),
      .summary = "Reads the bytes between two offsets of a string.", .since = "2.4.0",
      .complexity = "O(N), N being the number of bytes read.", .group = "string",
      .args = key_start_end_args },
    { .name = "getset", .run = string_getset_command, .arity = 3, .flags = CMD_WRITE | CMD_DENYOOM | CMD_FAST, .cats = CAT_STRING,
      KEY_ONE(KEY_RW | KEY_ACCESS | KEY_UPDATE),
      .summary = "Writes a string and returns the one it replaces.", .since = "1.0.0", .complexity = "O(1)", .group = "string",
      .deprecated_since = "6.2.0", .replaced_by = "`SET` with the `!GET` argument", .args = key_value_args },
    { .name = "incr", .run = string_incr_command, .arity = 2, .flags = CMD_WRITE | CMD_DENYOOM | CMD_FAST, .cats = CAT_STRING,
      KEY_ONE(KEY_RW | KEY_ACCESS | KEY_UPDATE),
      .summary = "Adds one to an integer, taking an absent key as 0.", .since = "1.0.0", .complexity = "O(1)", .group = "string",
      .args = key_args },
    { .name = "incrby", .run = string_incrby_command, .arity = 3, .flags = CMD_WRITE | CMD_DENYOOM | CMD_FAST, .cats = CAT_STRING,
      KEY_ONE(KEY_RW | KEY_ACCESS | KEY_UPDATE),
      .summary = "Adds a given amount to an integer, taking an absent key as 0.", .since = "1.0.0", .complexity = "O(1)", .group = "string",
      .args = incrby_args },
    { .name = "incrbyfloat", .run = string_incrbyfloat_command, .arity = 3, .flags = CMD_WRITE | CMD_DENYOOM | CMD_FAST, .cats = CAT_STRING,
      KEY_ONE(KEY_RW | KEY_ACCESS | KEY_UPDATE),
      .summary = "Adds a given amount to a floating-point number, taking an absent key as 0.", .since = "2.6.0",
      .complexity = "O(1)", .group = "string",
      .args = incrbyfloat_args },
    { .name = "lcs", .run = string_lcs_command, .arity = -3, .flags = CMD_READONLY, .cats = CAT_STRING,
      .keys = { KEY_RANGE(KEY_RO | KEY_ACCESS, 1, 1, 1) },
      .summary = "Finds the longest common subsequence of two strings.", .since = "7.0.0",
      .complexity = "O(N*M), N and M being the lengths of the two strings.", .group = "string",
      .args = lcs_args },
    { .name = "mget", .run = string_mget_command, .arity = -2, .flags = CMD_READONLY | CMD_FAST, .cats = CAT_STRING,
      .keys = { KEY_RANGE(KEY_RO | KEY_ACCESS, 1, -1, 1) },
      .summary = "Reads several strings in one atomic step.", .since = "1.0.0", .complexity = "O(N), N being the number of keys.", .group = "string",
      .tips = tips_split, .args = keys_args },
    { .name = "mset", .run = string_mset_command, .arity = -3, .flags = CMD_WRITE | CMD_DENYOOM, .cats = CAT_STRING,
      .keys = { KEY_RANGE(KEY_OW | KEY_UPDATE, 1, -1, 2) },
      .summary = "Writes several strings in one atomic step.", .since = "1.0.1", .complexity = "O(N), N being the number of keys.", .group = "string",
      .tips = tips_split_ok, .args = pairs_args },
    { .name = "msetnx", .run = string_msetnx_command, .arity = -3, .flags = CMD_WRITE | CMD_DENYOOM, .cats = CAT_STRING,
      .keys = { KEY_RANGE(KEY_OW | KEY_INSERT, 1, -1, 2) },
      .summary = "Writes several strings in one atomic step, provided that none of the keys exists.", .since = "1.0.1",
      .complexity = "O(N), N being the number of keys.", .group = "string",
      .args = pairs_args },
    { .name = "psetex", .run = string_psetex_command, .arity = 4, .flags = CMD_WRITE | CMD_DENYOOM, .cats = CAT_STRING,
      KEY_ONE(KEY_OW | KEY_UPDATE),
      .summary = "Writes a string that expires after some milliseconds.", .since = "2.6.0", .complexity = "O(1)", .group = "string",
      .deprecated_since = "2.6.12", .replaced_by = "`SET` with the `PX` argument", .args = psetex_args },
    { .name = "set", .run = string_set_command, .arity = -3, .flags = CMD_WRITE | CMD_DENYOOM, .cats = CAT_STRING,
      KEY_ONE(KEY_RW | KEY_ACCESS | KEY_UPDATE | KEY_VARIABLE_FLAGS), .get_keys = string_set_keys,
      .summary = "Writes a string, whatever the key held before; optionally on a condition, with an expiry, or returning the old value.", .since = "1.0.0",
      .complexity = "O(1)", .group = "string",
      .args = set_args, .history = set_history },
    { .name = "setex", .run = string_setex_command, .arity = 4, .flags = CMD_WRITE | CMD_DENYOOM, .cats = CAT_STRING,
      KEY_ONE(KEY_OW | KEY_UPDATE),
      .summary = "Writes a string that expires after some seconds.", .since = "2.0.0", .complexity = "O(1)", .group = "string",
      .deprecated_since = "2.6.12", .replaced_by = "`SET` with the `EX` argument", .args = setex_args },
    { .name = "setnx", .run = string_setnx_command, .arity = 3, .flags = CMD_WRITE | CMD_DENYOOM | CMD_FAST, .cats = CAT_STRING,
      KEY_ONE(KEY_OW | KEY_INSERT),
      .summary = "Writes a string, provided that the key does not exist.", .since = "1.0.0", .complexity = "O(1)", .group = "string",
      .deprecated_since = "2.6.12", .replaced_by = "`SET` with the `NX` argument", .args = key_value_args },
    { .name = "setrange", .run = string_setrange_command, .arity = 4, .flags = CMD_WRITE | CMD_DENYOOM, .cats = CAT_STRING,
      KEY_ONE(KEY_RW | KEY_UPDATE),
      .summary = "Overwrites the bytes of a string from an offset on, lengthening it with zero bytes if need be.", .since = "2.2.0",
      .complexity = "O(1) for short values; otherwise O(M), M being the length of the value written.", .group = "string",
      .args = setrange_args },
    { .name = "strlen", .run = string_strlen_command, .arity = 2, .flags = CMD_READONLY | CMD_FAST, .cats = CAT_STRING,
      KEY_ONE(KEY_RO),
      .summary = "Counts the bytes of a string.", .since = "2.2.0", .complexity = "O(1)", .group = "string",
      .args = key_args },
    { .name = "substr", .run = string_getrange_command, .arity = 4, .flags = CMD_READONLY, .cats = CAT_STRING,
      KEY_ONE(KEY_RO | KEY_ACCESS),
      .summary = "Reads the bytes between two offsets of a string.", .since = "1.0.0",
      .complexity = "O(N), N being the number of bytes read.", .group = "string",
      .deprecated_since = "2.0.0", .replaced_by = "`GETRANGE`", .args = key_start_end_args },
    { .name = NULL },
};
