/*
 * INFO, TIME, LOLWUT; the table, with SHUTDOWN (shutdown.c), DEBUG (cmd_debug.c) and MEMORY (cmd_memory.c). Runs on the client's
 * I/O thread.
 */
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"
#include "server/aof_server.h"
#include "server/client.h"
#include "server/debug.h"
#include "server/memory.h"
#include "server/shutdown.h"

static struct server *server_of(struct cmd_ctx *c) {
    return c->eng->server;
}

static void info_command(struct cmd_ctx *c) {
    struct buf out = { 0 };
    info_append(server_of(c), &out, c->argc - 1, c->argv + 1);
    reply_verbatim(c->r, out.data ? out.data : "", out.len, "txt");
    buf_done(&out);
}

static void time_command(struct cmd_ctx *c) {
    int64_t us = clock_wall_us();
    reply_array(c->r, 2);
    reply_bulk_ll(c->r, us / 1000000);
    reply_bulk_ll(c->r, us % 1000000);
}

/* ---- LOLWUT ---- */

/* A kettle, with as much steam as the version asked for. */
static void lolwut_command(struct cmd_ctx *c) {
    static const char *const steam[] = { "        (  )   (   )  )\n", "         ) (   )  (  (\n", "         ( )  (    ) )\n" };
    static const char kettle[] = "        _______________\n      _/               \\__\n     / |    kettle      | \\\n     \\_|  "
                                 "              |_/\n       \\_______________/\n";
    int64_t rows = 3;
    if (c->argc >= 3 && slice_ieq(c->argv[1], "version") && !cmd_arg_ll(c, c->argv[2], &rows, NULL)) return;
    if (c->argc == 2 && !cmd_arg_ll(c, c->argv[1], &rows, NULL)) return;
    if (rows < 0) rows = 0;
    if (rows > 40) rows = 40;
    struct buf out = { 0 };
    for (int64_t i = 0; i < rows; i++) buf_append_cstr(&out, steam[i % 3]);
    buf_append_cstr(&out, kettle);
    buf_printf(&out, "\nRedis ver. %s, Kettle %s\n", REDIS_COMPAT_VERSION, KETTLE_VERSION);
    reply_verbatim(c->r, out.data, out.len, "txt");
    buf_done(&out);
}

static const char *const info_tips[] = { "nondeterministic_output", "request_policy:all_shards", "response_policy:special",
                                         NULL };
static const char *const nondet_tips[] = { "nondeterministic_output", NULL };
static const struct cmd_arg info_args[] = { { .name = "section", .type = ARG_STRING, .flags = ARG_OPTIONAL | ARG_MULTIPLE },
                                            { 0 } };
static const struct cmd_arg save_args[] = { { .name = "nosave", .type = ARG_PURE_TOKEN, .token = "NOSAVE" },
                                            { .name = "save", .type = ARG_PURE_TOKEN, .token = "SAVE" },
                                            { 0 } };
static const struct cmd_arg shutdown_args[] = {
    { .name = "save-selector", .type = ARG_ONEOF, .flags = ARG_OPTIONAL, .sub = save_args },
    { .name = "now", .type = ARG_PURE_TOKEN, .token = "NOW", .since = "7.0.0", .flags = ARG_OPTIONAL },
    { .name = "force", .type = ARG_PURE_TOKEN, .token = "FORCE", .since = "7.0.0", .flags = ARG_OPTIONAL },
    { .name = "abort", .type = ARG_PURE_TOKEN, .token = "ABORT", .since = "7.0.0", .flags = ARG_OPTIONAL },
    { 0 },
};
static const struct cmd_history shutdown_history[] = { { "7.0.0", "Options `NOW`, `FORCE` and `ABORT`." }, { 0 } };
static const struct cmd_arg lolwut_args[] = {
    { .name = "version", .type = ARG_INTEGER, .token = "VERSION", .flags = ARG_OPTIONAL }, { 0 }
};
static const struct cmd_history info_history[] = { { "7.0.0", "Takes several section names." }, { 0 } };

const struct cmd_spec cmd_specs_server[] = {
    { .name = "bgrewriteaof",
      .run = bgrewriteaof_command,
      .arity = 1,
      .flags = CMD_ADMIN | CMD_NOSCRIPT | CMD_NO_ASYNC_LOADING,
      .summary = "Rewrites the append-only file in the background.",
      .since = "1.0.0",
      .group = "server",
      .complexity = "O(1)" },
    { .name = "info",
      .run = info_command,
      .arity = -1,
      .cats = CAT_DANGEROUS,
      .flags = CMD_LOADING | CMD_STALE,
      .summary = "Facts and statistics of the server.",
      .since = "1.0.0",
      .group = "server",
      .complexity = "O(1)",
      .args = info_args,
      .tips = info_tips,
      .history = info_history },
    { .name = "time",
      .run = time_command,
      .arity = 1,
      .flags = CMD_LOADING | CMD_STALE | CMD_FAST,
      .summary = "The server's clock.",
      .since = "2.6.0",
      .group = "server",
      .complexity = "O(1)",
      .tips = nondet_tips },
    { .name = "shutdown",
      .run = shutdown_command,
      .arity = -1,
      .flags = CMD_ADMIN | CMD_NOSCRIPT | CMD_LOADING | CMD_STALE | CMD_NO_MULTI | CMD_ALLOW_BUSY,
      .summary = "Ends the server in order.",
      .since = "1.0.0",
      .group = "server",
      .args = shutdown_args,
      .history = shutdown_history,
      .complexity = "O(N) when saving, where N is the total number of keys in all databases when saving data, otherwise O(1)" },
    { .name = "debug",
      .run = debug_command,
      .arity = -2,
      .flags = CMD_ADMIN | CMD_NOSCRIPT | CMD_LOADING | CMD_STALE | CMD_PROTECTED | CMD_SELF_LOCK | CMD_SYSCMD,
      .summary = "Commands for testing a server.",
      .since = "1.0.0",
      .group = "server",
      .complexity = "Depends on subcommand." },
    { .name = "memory",
      .arity = -2,
      .subs = cmd_memory_subs,
      .summary = "Commands about memory.",
      .since = "4.0.0",
      .group = "server",
      .complexity = "Depends on subcommand." },
    { .name = "lolwut",
      .run = lolwut_command,
      .arity = -1,
      .flags = CMD_READONLY | CMD_FAST,
      .summary = "Draws a kettle, and says the version.",
      .since = "5.0.0",
      .group = "server",
      .args = lolwut_args },
    { 0 },
};
