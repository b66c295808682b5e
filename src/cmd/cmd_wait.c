/*
 * WAIT and WAITAOF: as on a primary that has no replicas and no append-only file, which is what this server is. Nobody will ever
 * acknowledge anything, so who asks for a replica waits until the timeout. Session's I/O thread; no keys, no locks.
 */
#include <limits.h>

#include "cmd/cmd.h"

static void no_replica(struct reply *r) {
    reply_int(r, 0);
}

static void no_copy(struct reply *r) {
    reply_array(r, 2);
    reply_int(r, 0);
    reply_int(r, 0);
}

static void wait_for_nobody(struct cmd_ctx *c, int64_t wanted, int64_t deadline_us, void (*told)(struct reply *r)) {
    if (wanted > 0)
        cmd_block_on_keys(c, &(struct cmd_block){ .deadline_us = deadline_us, .timed_out = told });
    else
        told(c->r);
}

static void wait_command(struct cmd_ctx *c) {
    int64_t replicas, deadline_us;
    if (!cmd_arg_ll(c, c->argv[1], &replicas, NULL)) return;
    if (!cmd_arg_timeout(c, c->argv[2], CMD_TIMEOUT_MS, &deadline_us)) return;
    wait_for_nobody(c, replicas, deadline_us, no_replica);
}

static void waitaof_command(struct cmd_ctx *c) {
    int64_t local, replicas, deadline_us;
    if (!cmd_arg_ll_range(c, c->argv[1], 0, 1, &local, NULL)) return;
    if (!cmd_arg_ll_range(c, c->argv[2], 0, LONG_MAX, &replicas, "ERR value is out of range, must be positive")) return;
    if (!cmd_arg_timeout(c, c->argv[3], CMD_TIMEOUT_MS, &deadline_us)) return;
    if (local)
        reply_error(c->r, "ERR WAITAOF cannot be used when numlocal is set but appendonly is disabled.");
    else
        wait_for_nobody(c, replicas, deadline_us, no_copy);
}

static const char *const tips[] = { "request_policy:all_shards", "response_policy:agg_min", NULL };

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

const struct cmd_spec cmd_specs_wait[] = {
    { .name = "wait",
      .run = wait_command,
      .arity = 3,
      .flags = CMD_BLOCKING,
      .cats = CAT_CONNECTION,
      .summary = "Waits until replicas have what the connection wrote, or until a timeout.",
      .since = "3.0.0",
      .complexity = "O(1)",
      .group = "generic",
      .tips = tips,
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
      .tips = tips,
      .args = waitaof_args },
    { 0 },
};
