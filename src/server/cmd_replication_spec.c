/*
 * REPLCONF, PSYNC, SYNC, ROLE, FAILOVER, WAIT, WAITAOF: the table. Arity, flags, tips and argument trees are those that
 * redis-server 7.2 publishes.
 */
#include "server/cmd_replication.h"
#include "server/server.h"

static const struct cmd_arg psync_args[] = {
    { .name = "replicationid", .type = ARG_STRING },
    { .name = "offset", .type = ARG_INTEGER },
    { 0 },
};

static const struct cmd_arg target_args[] = {
    { .name = "host", .type = ARG_STRING },
    { .name = "port", .type = ARG_INTEGER },
    { .name = "force", .type = ARG_PURE_TOKEN, .token = "FORCE", .flags = ARG_OPTIONAL },
    { 0 },
};
static const struct cmd_arg failover_args[] = {
    { .name = "target", .type = ARG_BLOCK, .token = "TO", .flags = ARG_OPTIONAL, .sub = target_args },
    { .name = "abort", .type = ARG_PURE_TOKEN, .token = "ABORT", .flags = ARG_OPTIONAL },
    { .name = "milliseconds", .type = ARG_INTEGER, .token = "TIMEOUT", .flags = ARG_OPTIONAL },
    { 0 },
};

static const struct cmd_arg wait_args[] = {
    { .name = "numreplicas", .type = ARG_INTEGER },
    { .name = "timeout", .type = ARG_INTEGER },
    { 0 },
};

static const struct cmd_arg waitaof_args[] = {
    { .name = "numlocal", .type = ARG_INTEGER },
    { .name = "numreplicas", .type = ARG_INTEGER },
    { .name = "timeout", .type = ARG_INTEGER },
    { 0 },
};

static const char *const wait_tips[] = { "request_policy:all_shards", "response_policy:agg_min", NULL };

#define INTERNAL (CMD_ADMIN | CMD_NOSCRIPT)

const struct cmd_spec cmd_specs_replication[] = {
    { .name = "failover",
      .run = failover_command,
      .arity = -1,
      .flags = CMD_ADMIN | CMD_NOSCRIPT | CMD_STALE | CMD_SELF_LOCK,
      .summary = "Hands the role of the primary to one of the replicas.",
      .since = "6.2.0",
      .complexity = "O(1)",
      .group = "server",
      .args = failover_args },
    { .name = "psync",
      .run = psync_command,
      .arity = -3,
      .flags = INTERNAL | CMD_NO_ASYNC_LOADING | CMD_NO_MULTI | CMD_SELF_LOCK,
      .summary = "Sent by a replica: it wants to go on from an offset.",
      .since = "2.8.0",
      .group = "server",
      .args = psync_args },
    { .name = "replconf",
      .run = replconf_command,
      .arity = -1,
      .flags = INTERNAL | CMD_SYSCMD | CMD_LOADING | CMD_STALE | CMD_ALLOW_BUSY,
      .summary = "Sent by a replica, and to it: what it can do, and how far it has come.",
      .since = "3.0.0",
      .complexity = "O(1)",
      .group = "server" },
    { .name = "role",
      .run = role_command,
      .arity = 1,
      .flags = CMD_NOSCRIPT | CMD_LOADING | CMD_STALE | CMD_FAST,
      .cats = CAT_ADMIN | CAT_DANGEROUS,
      .summary = "What this server is in replication.",
      .since = "2.8.12",
      .complexity = "O(1)",
      .group = "server" },
    { .name = "sync",
      .run = psync_command,
      .arity = 1,
      .flags = INTERNAL | CMD_NO_ASYNC_LOADING | CMD_NO_MULTI | CMD_SELF_LOCK,
      .summary = "Sent by an old replica: it wants everything.",
      .since = "1.0.0",
      .group = "server" },
    { .name = "wait",
      .run = wait_command,
      .arity = 3,
      .flags = CMD_BLOCKING,
      .cats = CAT_CONNECTION,
      .summary = "Waits until replicas have what the connection wrote, or until a timeout.",
      .since = "3.0.0",
      .complexity = "O(1)",
      .group = "generic",
      .tips = wait_tips,
      .args = wait_args },
    { .name = "waitaof",
      .run = waitaof_command,
      .arity = 4,
      .flags = CMD_BLOCKING,
      .cats = CAT_CONNECTION,
      .summary = "Waits until what the connection wrote is in append-only files, here and on replicas, or until a timeout.",
      .since = "7.2.0",
      .complexity = "O(1)",
      .group = "generic",
      .tips = wait_tips,
      .args = waitaof_args },
    { 0 },
};
