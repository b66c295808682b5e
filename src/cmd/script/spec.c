/* Scripts and functions: the table, as redis-server 7.2 publishes it. */
#include "cmd/script/script_priv.h"

#define RUNS_LUA (CMD_NOSCRIPT | CMD_STALE | CMD_SKIP_MONITOR | CMD_MAY_REPLICATE | CMD_NO_MANDATORY_KEYS | CMD_MOVABLEKEYS)
#define SCRIPT_FLAGS (CMD_ALL_SHARDS | CMD_SCRIPT)
#define KEYS_COUNTED(flags_, notes_)                                                                                             \
    .keys = { { .flags = (flags_),                                                                                               \
                .begin = KEY_BEGIN_INDEX,                                                                                        \
                .index = 2,                                                                                                      \
                .find = KEY_FIND_KEYNUM,                                                                                         \
                .first_key = 1,                                                                                                  \
                .keystep = 1,                                                                                                    \
                .notes = (notes_) } }
#define RW_KEYS(notes) KEYS_COUNTED(KEY_RW | KEY_ACCESS | KEY_UPDATE, notes)
#define RO_KEYS(notes) KEYS_COUNTED(KEY_RO | KEY_ACCESS, notes)
#define NOTE_RW "We cannot tell how the keys will be used so we assume the worst, RW and UPDATE"
#define NOTE_RO "We cannot tell how the keys will be used so we assume the worst, RO and ACCESS"
#define DOC(summary_, since_, complexity_)                                                                                       \
    .summary = (summary_), .since = (since_), .complexity = (complexity_), .group = "scripting"

#define RUN_ARGS(first)                                                                                                          \
    {                                                                                                                            \
        { .name = (first), .type = ARG_STRING }, { .name = "numkeys", .type = ARG_INTEGER },                                     \
            { .name = "key", .type = ARG_KEY, .flags = ARG_OPTIONAL | ARG_MULTIPLE },                                            \
            { .name = "arg", .type = ARG_STRING, .flags = ARG_OPTIONAL | ARG_MULTIPLE }, { 0 },                                  \
    }
static const struct cmd_arg eval_args[] = RUN_ARGS("script");
static const struct cmd_arg evalsha_args[] = RUN_ARGS("sha1");
static const struct cmd_arg fcall_args[] = RUN_ARGS("function");

static const struct cmd_arg debug_modes[] = { { .name = "yes", .type = ARG_PURE_TOKEN, .token = "YES" },
                                              { .name = "sync", .type = ARG_PURE_TOKEN, .token = "SYNC" },
                                              { .name = "no", .type = ARG_PURE_TOKEN, .token = "NO" },
                                              { 0 } };
static const struct cmd_arg debug_args[] = { { .name = "mode", .type = ARG_ONEOF, .sub = debug_modes }, { 0 } };
static const struct cmd_arg flush_modes[] = { { .name = "async", .type = ARG_PURE_TOKEN, .token = "ASYNC" },
                                              { .name = "sync", .type = ARG_PURE_TOKEN, .token = "SYNC" },
                                              { 0 } };
static const struct cmd_arg script_flush_args[] = {
    { .name = "flush-type", .type = ARG_ONEOF, .since = "6.2.0", .flags = ARG_OPTIONAL, .sub = flush_modes }, { 0 }
};
static const struct cmd_arg function_flush_args[] = {
    { .name = "flush-type", .type = ARG_ONEOF, .flags = ARG_OPTIONAL, .sub = flush_modes }, { 0 }
};
static const struct cmd_history flush_history[] = { { "6.2.0", "Modes `ASYNC` and `SYNC`." }, { 0 } };
static const struct cmd_arg load_args[] = { { .name = "script", .type = ARG_STRING }, { 0 } };
static const struct cmd_arg exists_args[] = { { .name = "sha1", .type = ARG_STRING, .flags = ARG_MULTIPLE }, { 0 } };
static const struct cmd_arg delete_args[] = { { .name = "library-name", .type = ARG_STRING }, { 0 } };
static const struct cmd_arg function_load_args[] = {
    { .name = "replace", .type = ARG_PURE_TOKEN, .token = "REPLACE", .flags = ARG_OPTIONAL },
    { .name = "function-code", .type = ARG_STRING },
    { 0 }
};
static const struct cmd_arg policies[] = { { .name = "flush", .type = ARG_PURE_TOKEN, .token = "FLUSH" },
                                           { .name = "append", .type = ARG_PURE_TOKEN, .token = "APPEND" },
                                           { .name = "replace", .type = ARG_PURE_TOKEN, .token = "REPLACE" },
                                           { 0 } };
static const struct cmd_arg restore_args[] = { { .name = "serialized-value", .type = ARG_STRING },
                                               { .name = "policy", .type = ARG_ONEOF, .flags = ARG_OPTIONAL, .sub = policies },
                                               { 0 } };
static const struct cmd_arg list_args[] = {
    { .name = "library-name-pattern", .type = ARG_STRING, .token = "LIBRARYNAME", .flags = ARG_OPTIONAL },
    { .name = "withcode", .type = ARG_PURE_TOKEN, .token = "WITHCODE", .flags = ARG_OPTIONAL },
    { 0 }
};

static const char *const nodes_tips[] = { "request_policy:all_nodes", "response_policy:all_succeeded", NULL };
static const char *const and_tips[] = { "request_policy:all_shards", "response_policy:agg_logical_and", NULL };
static const char *const kill_tips[] = { "request_policy:all_shards", "response_policy:one_succeeded", NULL };
static const char *const shards_tips[] = { "request_policy:all_shards", "response_policy:all_succeeded", NULL };
static const char *const order_tips[] = { "nondeterministic_output_order", NULL };
static const char *const stats_tips[] = { "nondeterministic_output", "request_policy:all_shards", "response_policy:special",
                                          NULL };

static const struct cmd_spec script_subs[] = {
    { .name = "debug",
      .run = script_debug_command,
      .arity = 3,
      .cats = CAT_SCRIPTING,
      .flags = CMD_NOSCRIPT,
      DOC("Sets the debug mode of scripts.", "3.2.0", "O(1)"),
      .args = debug_args },
    { .name = "exists",
      .run = script_exists_command,
      .arity = -3,
      .cats = CAT_SCRIPTING,
      .flags = CMD_NOSCRIPT | CMD_ALL_SHARDS,
      DOC("Says which scripts are in the cache.", "2.6.0",
          "O(N) with N being the number of scripts to check (so checking a single script is an O(1) operation)."),
      .args = exists_args,
      .tips = and_tips },
    { .name = "flush",
      .run = script_flush_command,
      .arity = -2,
      .cats = CAT_SCRIPTING,
      .flags = CMD_NOSCRIPT | CMD_ALL_SHARDS,
      DOC("Empties the cache of scripts.", "2.6.0", "O(N) with N being the number of scripts in cache"),
      .args = script_flush_args,
      .history = flush_history,
      .tips = nodes_tips },
    { .name = "help",
      .run = script_help_command,
      .arity = 2,
      .cats = CAT_SCRIPTING,
      .flags = CMD_LOADING | CMD_STALE,
      DOC("Lists the subcommands.", "5.0.0", "O(1)") },
    { .name = "kill",
      .run = script_kill_command,
      .arity = 2,
      .cats = CAT_SCRIPTING,
      .flags = CMD_NOSCRIPT | CMD_ALLOW_BUSY,
      DOC("Ends the script that runs.", "2.6.0", "O(1)"),
      .tips = kill_tips },
    { .name = "load",
      .run = script_load_command,
      .arity = 3,
      .cats = CAT_SCRIPTING,
      .flags = CMD_NOSCRIPT | CMD_STALE | CMD_ALL_SHARDS,
      DOC("Puts a script into the cache.", "2.6.0", "O(N) with N being the length in bytes of the script body."),
      .args = load_args,
      .tips = nodes_tips },
    { 0 },
};

#define CHANGES_FUNCTIONS (CMD_NOSCRIPT | CMD_WRITE | CMD_ALL_SHARDS)

static const struct cmd_spec function_subs[] = {
    { .name = "delete",
      .run = function_delete_command,
      .arity = 3,
      .cats = CAT_SCRIPTING,
      .flags = CHANGES_FUNCTIONS,
      DOC("Deletes a library.", "7.0.0", "O(1)"),
      .args = delete_args,
      .tips = shards_tips },
    { .name = "dump",
      .run = function_dump_command,
      .arity = 2,
      .cats = CAT_SCRIPTING,
      .flags = CMD_NOSCRIPT | CMD_ALL_SHARDS,
      DOC("All libraries in the form that RESTORE takes.", "7.0.0", "O(N) where N is the number of functions") },
    { .name = "flush",
      .run = function_flush_command,
      .arity = -2,
      .cats = CAT_SCRIPTING,
      .flags = CHANGES_FUNCTIONS,
      DOC("Deletes all libraries.", "7.0.0", "O(N) where N is the number of functions deleted"),
      .args = function_flush_args,
      .tips = shards_tips },
    { .name = "help",
      .run = function_help_command,
      .arity = 2,
      .cats = CAT_SCRIPTING,
      .flags = CMD_LOADING | CMD_STALE,
      DOC("Lists the subcommands.", "7.0.0", "O(1)") },
    { .name = "kill",
      .run = function_kill_command,
      .arity = 2,
      .cats = CAT_SCRIPTING,
      .flags = CMD_NOSCRIPT | CMD_ALLOW_BUSY,
      DOC("Ends the function that runs.", "7.0.0", "O(1)"),
      .tips = kill_tips },
    { .name = "list",
      .run = function_list_command,
      .arity = -2,
      .cats = CAT_SCRIPTING,
      .flags = CMD_NOSCRIPT | CMD_ALL_SHARDS,
      DOC("Libraries and their functions.", "7.0.0", "O(N) where N is the number of functions"),
      .args = list_args,
      .tips = order_tips },
    { .name = "load",
      .run = function_load_command,
      .arity = -3,
      .cats = CAT_SCRIPTING,
      .flags = CHANGES_FUNCTIONS | CMD_DENYOOM,
      DOC("Makes a library of functions.", "7.0.0", "O(1) (considering compilation time is redundant)"),
      .args = function_load_args,
      .tips = shards_tips },
    { .name = "restore",
      .run = function_restore_command,
      .arity = -3,
      .cats = CAT_SCRIPTING,
      .flags = CHANGES_FUNCTIONS | CMD_DENYOOM,
      DOC("Libraries from a DUMP.", "7.0.0", "O(N) where N is the number of functions on the payload"),
      .args = restore_args,
      .tips = shards_tips },
    { .name = "stats",
      .run = function_stats_command,
      .arity = 2,
      .cats = CAT_SCRIPTING,
      .flags = CMD_NOSCRIPT | CMD_ALLOW_BUSY,
      DOC("What runs, and how many functions there are.", "7.0.0", "O(1)"),
      .tips = stats_tips },
    { 0 },
};

#define DEPENDS_SCRIPT "Depends on the script that is executed."
#define DEPENDS_FUNCTION "Depends on the function that is executed."

const struct cmd_spec cmd_specs_script[] = {
    { .name = "eval",
      .run = eval_command,
      .arity = -3,
      .cats = CAT_SCRIPTING,
      .flags = RUNS_LUA | SCRIPT_FLAGS,
      RW_KEYS(NOTE_RW),
      DOC("Runs a Lua script.", "2.6.0", DEPENDS_SCRIPT),
      .args = eval_args },
    { .name = "evalsha",
      .run = evalsha_command,
      .arity = -3,
      .cats = CAT_SCRIPTING,
      .flags = RUNS_LUA | SCRIPT_FLAGS,
      RW_KEYS(NULL),
      DOC("Runs a cached script, named by its SHA1.", "2.6.0", DEPENDS_SCRIPT),
      .args = evalsha_args },
    { .name = "eval_ro",
      .run = eval_ro_command,
      .arity = -3,
      .cats = CAT_SCRIPTING,
      .flags = (RUNS_LUA & ~CMD_MAY_REPLICATE) | SCRIPT_FLAGS | CMD_READONLY,
      RO_KEYS(NOTE_RO),
      DOC("Runs a Lua script that only reads.", "7.0.0", DEPENDS_SCRIPT),
      .args = eval_args },
    { .name = "evalsha_ro",
      .run = evalsha_ro_command,
      .arity = -3,
      .cats = CAT_SCRIPTING,
      .flags = (RUNS_LUA & ~CMD_MAY_REPLICATE) | SCRIPT_FLAGS | CMD_READONLY,
      RO_KEYS(NULL),
      DOC("Runs a cached script that only reads, named by its SHA1.", "7.0.0", DEPENDS_SCRIPT),
      .args = evalsha_args },
    { .name = "fcall",
      .run = fcall_command,
      .arity = -3,
      .cats = CAT_SCRIPTING,
      .flags = RUNS_LUA | SCRIPT_FLAGS,
      RW_KEYS(NOTE_RW),
      DOC("Calls a function.", "7.0.0", DEPENDS_FUNCTION),
      .args = fcall_args },
    { .name = "fcall_ro",
      .run = fcall_ro_command,
      .arity = -3,
      .cats = CAT_SCRIPTING,
      .flags = (RUNS_LUA & ~CMD_MAY_REPLICATE) | SCRIPT_FLAGS | CMD_READONLY,
      RO_KEYS(NOTE_RO),
      DOC("Calls a function that only reads.", "7.0.0", DEPENDS_FUNCTION),
      .args = fcall_args },
    { .name = "script",
      .arity = -2,
      .subs = script_subs,
      DOC("Commands about the cache of scripts.", "2.6.0", "Depends on subcommand.") },
    { .name = "function",
      .arity = -2,
      .subs = function_subs,
      DOC("Commands about functions.", "7.0.0", "Depends on subcommand.") },
    { 0 },
};
