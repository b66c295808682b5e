/*
 * Bitmaps: the table. Arity, flags, key specs, categories, tips and argument trees are those that redis-server 7.2
 * publishes, for clients that route and check by them; the commands themselves are in cmd_bitmap*.c.
 */
#include "cmd/cmd_bitmap.h"

#define KEY_RANGE(flags_, first_, last_, step_)                                                                                  \
    {                                                                                                                            \
        .flags = (flags_), .begin = KEY_BEGIN_INDEX, .index = (first_), .find = KEY_FIND_RANGE, .lastkey = (last_),              \
        .keystep = (step_)                                                                                                       \
    }
#define KEY_ONE(flags_) .keys = { KEY_RANGE(flags_, 1, 0, 1) }
#define KEY_NOTED(flags_, notes_)                                                                                                \
    .keys = {                                                                                                                    \
        { .flags = (flags_), .begin = KEY_BEGIN_INDEX, .index = 1, .find = KEY_FIND_RANGE, .keystep = 1, .notes = (notes_) }     \
    }

static const struct cmd_arg unit_args[] = {
    { .name = "byte", .type = ARG_PURE_TOKEN, .token = "BYTE" },
    { .name = "bit", .type = ARG_PURE_TOKEN, .token = "BIT" },
    { 0 },
};
static const struct cmd_arg bitcount_range_args[] = {
    { .name = "start", .type = ARG_INTEGER },
    { .name = "end", .type = ARG_INTEGER },
    { .name = "unit", .type = ARG_ONEOF, .since = "7.0.0", .flags = ARG_OPTIONAL, .sub = unit_args },
    { 0 },
};
static const struct cmd_arg bitcount_args[] = {
    { .name = "key", .type = ARG_KEY },
    { .name = "range", .type = ARG_BLOCK, .flags = ARG_OPTIONAL, .sub = bitcount_range_args },
    { 0 },
};
static const struct cmd_history bitcount_history[] = { { "7.0.0", "Option `BYTE|BIT`." }, { 0 } };
static const struct cmd_arg bitfield_get_args[] = {
    { .name = "encoding", .type = ARG_STRING },
    { .name = "offset", .type = ARG_INTEGER },
    { 0 },
};
static const struct cmd_arg bitfield_overflow_args[] = {
    { .name = "wrap", .type = ARG_PURE_TOKEN, .token = "WRAP" },
    { .name = "sat", .type = ARG_PURE_TOKEN, .token = "SAT" },
    { .name = "fail", .type = ARG_PURE_TOKEN, .token = "FAIL" },
    { 0 },
};
static const struct cmd_arg bitfield_set_args[] = {
    { .name = "encoding", .type = ARG_STRING },
    { .name = "offset", .type = ARG_INTEGER },
    { .name = "value", .type = ARG_INTEGER },
    { 0 },
};
static const struct cmd_arg bitfield_incrby_args[] = {
    { .name = "encoding", .type = ARG_STRING },
    { .name = "offset", .type = ARG_INTEGER },
    { .name = "increment", .type = ARG_INTEGER },
    { 0 },
};
static const struct cmd_arg bitfield_verb_args[] = {
    { .name = "set-block", .type = ARG_BLOCK, .token = "SET", .sub = bitfield_set_args },
    { .name = "incrby-block", .type = ARG_BLOCK, .token = "INCRBY", .sub = bitfield_incrby_args },
    { 0 },
};
static const struct cmd_arg bitfield_write_args[] = {
    { .name = "overflow-block", .type = ARG_ONEOF, .token = "OVERFLOW", .flags = ARG_OPTIONAL, .sub = bitfield_overflow_args },
    { .name = "write-operation", .type = ARG_ONEOF, .sub = bitfield_verb_args },
    { 0 },
};
static const struct cmd_arg bitfield_operation_args[] = {
    { .name = "get-block", .type = ARG_BLOCK, .token = "GET", .sub = bitfield_get_args },
    { .name = "write", .type = ARG_BLOCK, .sub = bitfield_write_args },
    { 0 },
};
static const struct cmd_arg bitfield_args[] = {
    { .name = "key", .type = ARG_KEY },
    { .name = "operation", .type = ARG_ONEOF, .flags = ARG_OPTIONAL | ARG_MULTIPLE, .sub = bitfield_operation_args },
    { 0 },
};
static const struct cmd_arg bitfield_ro_args[] = {
    { .name = "key", .type = ARG_KEY },
    { .name = "get-block",
      .type = ARG_BLOCK,
      .token = "GET",
      .flags = ARG_OPTIONAL | ARG_MULTIPLE | ARG_MULTIPLE_TOKEN,
      .sub = bitfield_get_args },
    { 0 },
};
static const struct cmd_arg bitop_operation_args[] = {
    { .name = "and", .type = ARG_PURE_TOKEN, .token = "AND" },
    { .name = "or", .type = ARG_PURE_TOKEN, .token = "OR" },
    { .name = "xor", .type = ARG_PURE_TOKEN, .token = "XOR" },
    { .name = "not", .type = ARG_PURE_TOKEN, .token = "NOT" },
    { 0 },
};
static const struct cmd_arg bitop_args[] = {
    { .name = "operation", .type = ARG_ONEOF, .sub = bitop_operation_args },
    { .name = "destkey", .type = ARG_KEY },
    { .name = "key", .type = ARG_KEY, .key_spec_index = 1, .flags = ARG_MULTIPLE },
    { 0 },
};
static const struct cmd_arg bitpos_end_args[] = {
    { .name = "end", .type = ARG_INTEGER },
    { .name = "unit", .type = ARG_ONEOF, .since = "7.0.0", .flags = ARG_OPTIONAL, .sub = unit_args },
    { 0 },
};
static const struct cmd_arg bitpos_range_args[] = {
    { .name = "start", .type = ARG_INTEGER },
    { .name = "end-unit-block", .type = ARG_BLOCK, .flags = ARG_OPTIONAL, .sub = bitpos_end_args },
    { 0 },
};
static const struct cmd_arg bitpos_args[] = {
    { .name = "key", .type = ARG_KEY },
    { .name = "bit", .type = ARG_INTEGER },
    { .name = "range", .type = ARG_BLOCK, .flags = ARG_OPTIONAL, .sub = bitpos_range_args },
    { 0 },
};
static const struct cmd_history bitpos_history[] = { { "7.0.0", "Option `BYTE|BIT`." }, { 0 } };
static const struct cmd_arg getbit_args[] = { { .name = "key", .type = ARG_KEY },
                                              { .name = "offset", .type = ARG_INTEGER },
                                              { 0 } };
static const struct cmd_arg setbit_args[] = {
    { .name = "key", .type = ARG_KEY },
    { .name = "offset", .type = ARG_INTEGER },
    { .name = "value", .type = ARG_INTEGER },
    { 0 },
};

const struct cmd_spec cmd_specs_bitmap[] = {
    { .name = "bitcount",
      .run = bitmap_bitcount_command,
      .arity = -2,
      .flags = CMD_READONLY,
      .cats = CAT_BITMAP,
      KEY_ONE(KEY_RO | KEY_ACCESS),
      .summary = "Counts the one bits of a string or of a range of it.",
      .since = "2.6.0",
      .complexity = "O(N)",
      .group = "bitmap",
      .args = bitcount_args,
      .history = bitcount_history },
    { .name = "bitfield",
      .run = bitmap_bitfield_command,
      .arity = -2,
      .flags = CMD_WRITE | CMD_DENYOOM,
      .cats = CAT_BITMAP,
      KEY_NOTED(KEY_RW | KEY_ACCESS | KEY_UPDATE | KEY_VARIABLE_FLAGS, "Reads only, where every operation is a GET"),
      .get_keys = bitmap_field_keys,
      .summary = "Reads, sets and increments integers of any width at any bit offset of a string.",
      .since = "3.2.0",
      .complexity = "O(1) per operation.",
      .group = "bitmap",
      .args = bitfield_args },
    { .name = "bitfield_ro",
      .run = bitmap_bitfield_ro_command,
      .arity = -2,
      .flags = CMD_READONLY | CMD_FAST,
      .cats = CAT_BITMAP,
      KEY_ONE(KEY_RO | KEY_ACCESS),
      .summary = "Reads integers of any width at any bit offset of a string.",
      .since = "6.0.0",
      .complexity = "O(1) per operation.",
      .group = "bitmap",
      .args = bitfield_ro_args },
    { .name = "bitop",
      .run = bitmap_bitop_command,
      .arity = -4,
      .flags = CMD_WRITE | CMD_DENYOOM,
      .cats = CAT_BITMAP,
      .keys = { KEY_RANGE(KEY_OW | KEY_UPDATE, 2, 0, 1), KEY_RANGE(KEY_RO | KEY_ACCESS, 3, -1, 1) },
      .summary = "Stores the AND, OR, XOR or NOT of strings in a key.",
      .since = "2.6.0",
      .complexity = "O(N)",
      .group = "bitmap",
      .args = bitop_args },
    { .name = "bitpos",
      .run = bitmap_bitpos_command,
      .arity = -3,
      .flags = CMD_READONLY,
      .cats = CAT_BITMAP,
      KEY_ONE(KEY_RO | KEY_ACCESS),
      .summary = "Finds the first one bit or zero bit of a string or of a range of it.",
      .since = "2.8.7",
      .complexity = "O(N)",
      .group = "bitmap",
      .args = bitpos_args,
      .history = bitpos_history },
    { .name = "getbit",
      .run = bitmap_getbit_command,
      .arity = 3,
      .flags = CMD_READONLY | CMD_FAST,
      .cats = CAT_BITMAP,
      KEY_ONE(KEY_RO | KEY_ACCESS),
      .summary = "Reads one bit of a string.",
      .since = "2.2.0",
      .complexity = "O(1)",
      .group = "bitmap",
      .args = getbit_args },
    { .name = "setbit",
      .run = bitmap_setbit_command,
      .arity = 4,
      .flags = CMD_WRITE | CMD_DENYOOM,
      .cats = CAT_BITMAP,
      KEY_ONE(KEY_RW | KEY_ACCESS | KEY_UPDATE),
      .summary = "Sets or clears one bit of a string, returning what it was.",
      .since = "2.2.0",
      .complexity = "O(1)",
      .group = "bitmap",
      .args = setbit_args },
    { .name = NULL },
};
