/*
 * CLIENT: the table. Arity, flags, tips and argument trees are those that redis-server 7.2 publishes; the commands themselves are
 * in cmd_client.c.
 */
#include "server/cmd_client.h"

static const struct cmd_arg yes_no_args[] = {
    { .name = "yes", .type = ARG_PURE_TOKEN, .token = "YES" },
    { .name = "no", .type = ARG_PURE_TOKEN, .token = "NO" },
    { 0 },
};
static const struct cmd_arg caching_args[] = { { .name = "mode", .type = ARG_ONEOF, .sub = yes_no_args }, { 0 } };
static const struct cmd_arg on_off_args[] = {
    { .name = "on", .type = ARG_PURE_TOKEN, .token = "ON" },
    { .name = "off", .type = ARG_PURE_TOKEN, .token = "OFF" },
    { 0 },
};
static const struct cmd_arg enabled_args[] = { { .name = "enabled", .type = ARG_ONEOF, .sub = on_off_args }, { 0 } };
static const struct cmd_arg reply_modes[] = {
    { .name = "on", .type = ARG_PURE_TOKEN, .token = "ON" },
    { .name = "off", .type = ARG_PURE_TOKEN, .token = "OFF" },
    { .name = "skip", .type = ARG_PURE_TOKEN, .token = "SKIP" },
    { 0 },
};
static const struct cmd_arg reply_args[] = { { .name = "action", .type = ARG_ONEOF, .sub = reply_modes }, { 0 } };

static const struct cmd_arg kill_types[] = {
    { .name = "normal", .type = ARG_PURE_TOKEN, .token = "NORMAL" },
    { .name = "master", .type = ARG_PURE_TOKEN, .token = "MASTER", .since = "3.2.0" },
    { .name = "slave", .type = ARG_PURE_TOKEN, .token = "SLAVE" },
    { .name = "replica", .type = ARG_PURE_TOKEN, .token = "REPLICA", .since = "5.0.0" },
    { .name = "pubsub", .type = ARG_PURE_TOKEN, .token = "PUBSUB" },
    { 0 },
};
static const struct cmd_arg kill_new_args[] = {
    { .name = "client-id", .type = ARG_INTEGER, .token = "ID", .since = "2.8.12", .flags = ARG_OPTIONAL },
    { .name = "client-type", .type = ARG_ONEOF, .token = "TYPE", .since = "2.8.12", .flags = ARG_OPTIONAL, .sub = kill_types },
    { .name = "username", .type = ARG_STRING, .token = "USER", .flags = ARG_OPTIONAL },
    { .name = "addr", .type = ARG_STRING, .token = "ADDR", .flags = ARG_OPTIONAL, .display = "ip:port" },
    { .name = "laddr", .type = ARG_STRING, .token = "LADDR", .since = "6.2.0", .flags = ARG_OPTIONAL, .display = "ip:port" },
    { .name = "skipme", .type = ARG_ONEOF, .token = "SKIPME", .flags = ARG_OPTIONAL, .sub = yes_no_args },
    { 0 },
};
static const struct cmd_arg kill_forms[] = {
    { .name = "old-format", .type = ARG_STRING, .display = "ip:port", .deprecated_since = "2.8.12" },
    { .name = "new-format", .type = ARG_ONEOF, .flags = ARG_MULTIPLE, .sub = kill_new_args },
    { 0 },
};
static const struct cmd_arg kill_args[] = { { .name = "filter", .type = ARG_ONEOF, .sub = kill_forms }, { 0 } };
static const struct cmd_history kill_history[] = {
    { "2.8.12", "Several filters, by name." },
    { "2.8.12", "Filter `ID`." },
    { "3.2.0", "Type `master`." },
    { "5.0.0", "Type `replica`; `slave` is still understood." },
    { "6.2.0", "Filter `LADDR`." },
    { 0 },
};

static const struct cmd_arg list_types[] = {
    { .name = "normal", .type = ARG_PURE_TOKEN, .token = "NORMAL" },
    { .name = "master", .type = ARG_PURE_TOKEN, .token = "MASTER" },
    { .name = "replica", .type = ARG_PURE_TOKEN, .token = "REPLICA" },
    { .name = "pubsub", .type = ARG_PURE_TOKEN, .token = "PUBSUB" },
    { 0 },
};
static const struct cmd_arg list_args[] = {
    { .name = "client-type", .type = ARG_ONEOF, .token = "TYPE", .since = "5.0.0", .flags = ARG_OPTIONAL, .sub = list_types },
    { .name = "client-id", .type = ARG_INTEGER, .token = "ID", .since = "6.2.0", .flags = ARG_OPTIONAL | ARG_MULTIPLE },
    { 0 },
};
static const struct cmd_history list_history[] = {
    { "2.8.12", "Field `id`." },
    { "5.0.0", "Filter `TYPE`." },
    { "6.0.0", "Field `user`." },
    { "6.2.0", "Fields `argv-mem`, `tot-mem`, `laddr`, `redir`; filter `ID`." },
    { "7.0.0", "Fields `resp`, `multi-mem`, `rbs`, `rbp`." },
    { "7.0.3", "Field `ssub`." },
    { 0 },
};

static const struct cmd_arg pause_modes[] = {
    { .name = "write", .type = ARG_PURE_TOKEN, .token = "WRITE" },
    { .name = "all", .type = ARG_PURE_TOKEN, .token = "ALL" },
    { 0 },
};
static const struct cmd_arg pause_args[] = {
    { .name = "timeout", .type = ARG_INTEGER },
    { .name = "mode", .type = ARG_ONEOF, .since = "6.2.0", .flags = ARG_OPTIONAL, .sub = pause_modes },
    { 0 },
};
static const struct cmd_history pause_history[] = { { "6.2.0", "Modes `WRITE` and `ALL`." }, { 0 } };

static const struct cmd_arg info_attrs[] = {
    { .name = "libname", .type = ARG_STRING, .token = "LIB-NAME" },
    { .name = "libver", .type = ARG_STRING, .token = "LIB-VER" },
    { 0 },
};
static const struct cmd_arg setinfo_args[] = { { .name = "attr", .type = ARG_ONEOF, .sub = info_attrs }, { 0 } };
static const struct cmd_arg setname_args[] = { { .name = "connection-name", .type = ARG_STRING }, { 0 } };

static const struct cmd_arg tracking_args[] = {
    { .name = "status", .type = ARG_ONEOF, .sub = on_off_args },
    { .name = "client-id", .type = ARG_INTEGER, .token = "REDIRECT", .flags = ARG_OPTIONAL },
    { .name = "prefix", .type = ARG_STRING, .token = "PREFIX", .flags = ARG_OPTIONAL | ARG_MULTIPLE | ARG_MULTIPLE_TOKEN },
    { .name = "bcast", .type = ARG_PURE_TOKEN, .token = "BCAST", .flags = ARG_OPTIONAL },
    { .name = "optin", .type = ARG_PURE_TOKEN, .token = "OPTIN", .flags = ARG_OPTIONAL },
    { .name = "optout", .type = ARG_PURE_TOKEN, .token = "OPTOUT", .flags = ARG_OPTIONAL },
    { .name = "noloop", .type = ARG_PURE_TOKEN, .token = "NOLOOP", .flags = ARG_OPTIONAL },
    { 0 },
};
static const struct cmd_arg unblock_types[] = {
    { .name = "timeout", .type = ARG_PURE_TOKEN, .token = "TIMEOUT" },
    { .name = "error", .type = ARG_PURE_TOKEN, .token = "ERROR" },
    { 0 },
};
static const struct cmd_arg unblock_args[] = {
    { .name = "client-id", .type = ARG_INTEGER },
    { .name = "unblock-type", .type = ARG_ONEOF, .flags = ARG_OPTIONAL, .sub = unblock_types },
    { 0 },
};

static const char *const nondet_tips[] = { "nondeterministic_output", NULL };
static const char *const all_nodes_tips[] = { "request_policy:all_nodes", "response_policy:all_succeeded", NULL };

#define CONN_FLAGS (CMD_NOSCRIPT | CMD_LOADING | CMD_STALE)
#define PER_CLIENT "O(N) where N is the number of client connections"
/* Name, function, arity, flags beyond CONN_FLAGS, summary, since, complexity; then what else there is. */
#define SUB(n, fn, ar, fl, sum, snc, cx, ...)                                                                                    \
    {                                                                                                                            \
        .name = n, .run = fn, .arity = ar, .flags = CONN_FLAGS | (fl), .cats = CAT_CONNECTION, .summary = sum, .since = snc,     \
        .complexity = cx, .group = "connection", __VA_ARGS__                                                                     \
    }

static const struct cmd_spec client_subs[] = {
    SUB("caching", client_caching_command, 3, 0, "Says whether the next command's keys are tracked.", "6.0.0", "O(1)",
        .args = caching_args),
    SUB("getname", client_getname_command, 2, 0, "Name of the connection.", "2.6.9", "O(1)", .args = NULL),
    SUB("getredir", client_getredir_command, 2, 0, "Client that receives this connection's invalidations.", "6.0.0", "O(1)",
        .args = NULL),
    { .name = "help",
      .run = client_help_command,
      .arity = 2,
      .flags = CMD_LOADING | CMD_STALE,
      .cats = CAT_CONNECTION,
      .summary = "Lists the subcommands.",
      .since = "5.0.0",
      .complexity = "O(1)",
      .group = "connection" },
    SUB("id", client_id_command, 2, 0, "Id of the connection.", "5.0.0", "O(1)", .args = NULL),
    SUB("info", client_info_command, 2, 0, "Facts about the connection.", "6.2.0", "O(1)", .tips = nondet_tips),
    SUB("kill", client_kill_command, -3, CMD_ADMIN, "Closes connections.", "2.4.0", PER_CLIENT, .args = kill_args,
        .history = kill_history),
    SUB("list", client_list_command, -2, CMD_ADMIN, "Lists connections.", "2.4.0", PER_CLIENT, .args = list_args,
        .history = list_history, .tips = nondet_tips),
    SUB("no-evict", client_no_evict_command, 3, CMD_ADMIN, "Spares the connection from client eviction.", "7.0.0", "O(1)",
        .args = enabled_args),
    SUB("no-touch", client_no_touch_command, 3, 0, "Keeps the connection's commands from changing LRU/LFU.", "7.2.0", "O(1)",
        .args = enabled_args),
    SUB("pause", client_pause_command, -3, CMD_ADMIN | CMD_SELF_LOCK, "Puts off commands of all connections.", "3.0.0", "O(1)",
        .args = pause_args, .history = pause_history),
    SUB("reply", client_reply_command, 3, 0, "Chooses whether replies are sent.", "3.2.0", "O(1)", .args = reply_args),
    SUB("setinfo", client_setinfo_command, 4, 0, "Records the client library's name or version.", "7.2.0", "O(1)",
        .args = setinfo_args, .tips = all_nodes_tips),
    SUB("setname", client_setname_command, 3, 0, "Names the connection.", "2.6.9", "O(1)", .args = setname_args,
        .tips = all_nodes_tips),
    SUB("tracking", client_tracking_command, -3, 0, "Switches client-side caching.", "6.0.0",
        "O(1). Some options may introduce additional complexity.", .args = tracking_args),
    SUB("trackinginfo", client_trackinginfo_command, 2, 0, "State of client-side caching.", "6.2.0", "O(1)", .args = NULL),
    SUB("unblock", client_unblock_command, -3, CMD_ADMIN, "Wakes a blocked client.", "5.0.0",
        "O(log N) where N is the number of client connections", .args = unblock_args),
    SUB("unpause", client_unpause_command, 2, CMD_ADMIN, "Ends a pause.", "6.2.0", "O(N) Where N is the number of paused clients",
        .args = NULL),
    { 0 },
};

const struct cmd_spec cmd_specs_client[] = {
    { .name = "client",
      .arity = -2,
      .subs = client_subs,
      .summary = "Commands about connections.",
      .since = "2.4.0",
      .group = "connection",
      .complexity = "Depends on subcommand." },
    { 0 },
};
