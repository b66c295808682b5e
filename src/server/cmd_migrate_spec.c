/*
 * MIGRATE: the table. Arity, flags, tips and argument tree are those that redis-server 7.2 publishes.
 */
#include "server/cmd_migrate.h"
#include "server/server.h"

static const struct cmd_arg key_args[] = {
    { .name = "key", .type = ARG_KEY, .key_spec_index = 0 },
    { .name = "empty-string", .type = ARG_PURE_TOKEN, .token = "" },
    { 0 },
};

static const struct cmd_arg auth2_args[] = {
    { .name = "username", .type = ARG_STRING },
    { .name = "password", .type = ARG_STRING },
    { 0 },
};

static const struct cmd_arg auth_args[] = {
    { .name = "auth", .type = ARG_STRING, .token = "AUTH", .since = "4.0.7", .display = "password" },
    { .name = "auth2", .type = ARG_BLOCK, .token = "AUTH2", .since = "6.0.0", .sub = auth2_args },
    { 0 },
};

static const struct cmd_arg args[] = {
    { .name = "host", .type = ARG_STRING },
    { .name = "port", .type = ARG_INTEGER },
    { .name = "key-selector", .type = ARG_ONEOF, .sub = key_args },
    { .name = "destination-db", .type = ARG_INTEGER },
    { .name = "timeout", .type = ARG_INTEGER },
    { .name = "copy", .type = ARG_PURE_TOKEN, .token = "COPY", .since = "3.0.0", .flags = ARG_OPTIONAL },
    { .name = "replace", .type = ARG_PURE_TOKEN, .token = "REPLACE", .since = "3.0.0", .flags = ARG_OPTIONAL },
    { .name = "authentication", .type = ARG_ONEOF, .flags = ARG_OPTIONAL, .sub = auth_args },
    { .name = "keys",
      .type = ARG_KEY,
      .key_spec_index = 1,
      .token = "KEYS",
      .since = "3.0.6",
      .flags = ARG_OPTIONAL | ARG_MULTIPLE,
      .display = "key" },
    { 0 },
};

static const struct cmd_history history[] = {
    { "3.0.0", "`COPY` and `REPLACE`." }, { "3.0.6", "`KEYS`." }, { "4.0.7", "`AUTH`." }, { "6.0.0", "`AUTH2`." }, { 0 },
};

static const char *const tips[] = { "nondeterministic_output", NULL };

const struct cmd_spec cmd_specs_migrate[] = {
    { .name = "migrate",
      .run = migrate_command,
      .arity = -6,
      .flags = CMD_WRITE,
      .cats = CAT_KEYSPACE | CAT_DANGEROUS,
      .keys = { { .flags = KEY_RW | KEY_ACCESS | KEY_DELETE,
                  .begin = KEY_BEGIN_INDEX,
                  .index = 3,
                  .find = KEY_FIND_RANGE,
                  .lastkey = 0,
                  .keystep = 1 },
                { .flags = KEY_RW | KEY_ACCESS | KEY_DELETE | KEY_INCOMPLETE,
                  .begin = KEY_BEGIN_KEYWORD,
                  .keyword = "KEYS",
                  .index = -2,
                  .find = KEY_FIND_RANGE,
                  .lastkey = -1,
                  .keystep = 1 } },
      .get_keys = migrate_get_keys,
      .summary = "Moves keys to another server, each as one step.",
      .since = "2.6.0",
      .complexity =
          "What DUMP and DEL of each key take here and RESTORE takes there, and the transfer of the data between the two",
      .group = "generic",
      .tips = tips,
      .args = args,
      .history = history },
    { 0 },
};
