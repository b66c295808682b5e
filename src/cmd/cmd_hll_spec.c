/*
 * HyperLogLogs: the table. Arity, flags, key specs, categories and argument trees are those that redis-server 7.2 publishes, for
 * clients that route and check by them; the commands themselves are in cmd_hll*.c.
 */
#include "cmd/cmd_hll.h"

#define KEY_RANGE(flags_, first_, last_, step_)                                                                                  \
    {                                                                                                                            \
        .flags = (flags_), .begin = KEY_BEGIN_INDEX, .index = (first_), .find = KEY_FIND_RANGE, .lastkey = (last_),              \
        .keystep = (step_)                                                                                                       \
    }
#define KEY_ONE(flags_) .keys = { KEY_RANGE(flags_, 1, 0, 1) }

static const struct cmd_arg pfadd_args[] = { { .name = "key", .type = ARG_KEY },
                                             { .name = "element", .type = ARG_STRING, .flags = ARG_OPTIONAL | ARG_MULTIPLE },
                                             { 0 } };
static const struct cmd_arg pfcount_args[] = { { .name = "key", .type = ARG_KEY, .flags = ARG_MULTIPLE }, { 0 } };
static const struct cmd_arg pfdebug_args[] = { { .name = "subcommand", .type = ARG_STRING },
                                               { .name = "key", .type = ARG_KEY },
                                               { 0 } };
static const struct cmd_arg pfmerge_args[] = {
    { .name = "destkey", .type = ARG_KEY },
    { .name = "sourcekey", .type = ARG_KEY, .key_spec_index = 1, .flags = ARG_OPTIONAL | ARG_MULTIPLE },
    { 0 }
};

const struct cmd_spec cmd_specs_hll[] = {
    { .name = "pfadd",
      .run = hll_pfadd_command,
      .arity = -2,
      .flags = CMD_WRITE | CMD_DENYOOM | CMD_FAST,
      .cats = CAT_HYPERLOGLOG,
      KEY_ONE(KEY_RW | KEY_INSERT),
      .summary = "Adds elements to a HyperLogLog, creating it if need be.",
      .since = "2.8.9",
      .complexity = "O(1) for each element.",
      .group = "hyperloglog",
      .args = pfadd_args },
    { .name = "pfcount",
      .run = hll_pfcount_command,
      .arity = -2,
      .flags = CMD_READONLY | CMD_MAY_REPLICATE,
      .cats = CAT_HYPERLOGLOG,
      .keys = { { .flags = KEY_RW | KEY_ACCESS,
                  .begin = KEY_BEGIN_INDEX,
                  .index = 1,
                  .find = KEY_FIND_RANGE,
                  .lastkey = -1,
                  .keystep = 1,
                  .notes = "Written in that the count is kept with the value" } },
      .summary = "Estimates how many different elements were added to HyperLogLogs, taken together.",
      .since = "2.8.9",
      .complexity = "O(1) for one key, O(N) with a far larger constant for N keys.",
      .group = "hyperloglog",
      .args = pfcount_args },
    { .name = "pfdebug",
      .run = hll_pfdebug_command,
      .arity = 3,
      .flags = CMD_WRITE | CMD_DENYOOM | CMD_ADMIN | CMD_SYSCMD,
      .cats = CAT_HYPERLOGLOG,
      .keys = { KEY_RANGE(KEY_RW | KEY_ACCESS, 2, 0, 1) },
      .summary = "Shows or changes the inside of a HyperLogLog.",
      .since = "2.8.9",
      .complexity = "N/A",
      .group = "hyperloglog",
      .args = pfdebug_args },
    { .name = "pfmerge",
      .run = hll_pfmerge_command,
      .arity = -2,
      .flags = CMD_WRITE | CMD_DENYOOM,
      .cats = CAT_HYPERLOGLOG,
      .keys = { KEY_RANGE(KEY_RW | KEY_ACCESS | KEY_INSERT, 1, 0, 1), KEY_RANGE(KEY_RO | KEY_ACCESS, 2, -1, 1) },
      .summary = "Writes the union of HyperLogLogs to a key.",
      .since = "2.8.9",
      .complexity = "O(N), N being the number of keys; the constant is large.",
      .group = "hyperloglog",
      .args = pfmerge_args },
    { .name = "pfselftest",
      .run = hll_pfselftest_command,
      .arity = 1,
      .flags = CMD_ADMIN | CMD_SYSCMD,
      .cats = CAT_HYPERLOGLOG,
      .summary = "Checks the implementation of HyperLogLogs.",
      .since = "2.8.9",
      .complexity = "N/A",
      .group = "hyperloglog" },
    { 0 },
};
