/*
 * INFO, TIME, SHUTDOWN, DEBUG, MEMORY, LOLWUT. Runs on the client's I/O thread.
 */
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"
#include "data/list.h"
#include "server/client.h"
#include "server/debug_value.h"

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

/* ---- SHUTDOWN ---- */

static void shutdown_command(struct cmd_ctx *c) {
    struct server *srv = server_of(c);
    bool save = false, nosave = false, abort_it = false, other = false;
    for (int i = 1; i < c->argc; i++) {
        struct slice a = c->argv[i];
        if (slice_ieq(a, "nosave")) {
            nosave = true;
        } else if (slice_ieq(a, "save")) {
            save = true;
        } else if (slice_ieq(a, "now") || slice_ieq(a, "force")) {
            other = true;
        } else if (slice_ieq(a, "abort")) {
            abort_it = true;
        } else {
            cmd_syntax_error(c);
            return;
        }
    }
    if ((abort_it && (save || nosave || other)) || (save && nosave)) {
        cmd_syntax_error(c);
    } else if (abort_it) {
        reply_error(c->r, "ERR No shutdown in progress."); /* it is never put off: there are no replicas to wait for */
    } else if (!nosave && ks_is_held(c->ks)) {
        dispatch_reply_busy(c);
    } else if (save) {
        log_warning("SHUTDOWN SAVE refused: this version has no RDB snapshots");
        reply_error(c->r, "ERR Errors trying to SHUTDOWN. Check logs.");
    } else {
        atomic_store(&srv->shutdown_asked, 2);
        /* As in redis-server, success is seen as the connection closing. */
        c->s->close_after_reply = true;
    }
}

/* ---- DEBUG ---- */

static void debug_sleep(struct cmd_ctx *c) {
    double s;
    if (c->argc != 3) {
        cmd_unknown_sub(c);
        return;
    }
    if (!str_to_double(c->argv[2], &s)) s = 0;
    if (s > 0) {
        /* Redis is one thread: everybody sleeps. So every shard is held. */
        if (!dispatch_lock(c, ks_all_mask(ks_n_shards(c->ks)))) {
            dispatch_reply_busy(c);
            return;
        }
        struct timespec ts = { .tv_sec = (time_t)s, .tv_nsec = (long)((s - (double)(time_t)s) * 1e9) };
        while (nanosleep(&ts, &ts) != 0) {
        }
        dispatch_unlock(c);
    }
    reply_ok(c->r);
}

static void debug_object(struct cmd_ctx *c) {
    if (c->argc != 3) {
        cmd_unknown_sub(c);
        return;
    }
    if (!dispatch_lock(c, 1ULL << ks_shard_of(c->ks, c->argv[2]))) {
        dispatch_reply_busy(c);
        return;
    }
    struct entry *e = ks_find(c->ks, c->db, c->argv[2], c->now_ms, KS_FIND_NO_TOUCH | KS_FIND_NO_STATS);
    if (!e) {
        reply_error(c->r, "ERR no such key");
    } else {
        const struct obj *o = entry_value(e);
        struct buf line = { 0 };
        buf_printf(&line, "Value at:%p refcount:%u encoding:%s serializedlength:%zu lru:%u lru_seconds_idle:%u", (const void *)o,
                   atomic_load(&((struct obj *)(uintptr_t)o)->refs), obj_encoding_name(o), debug_saved_len(o),
                   (unsigned)((c->now_ms / 1000 - entry_idle_s(e, c->now_ms)) & 0xffffff), entry_idle_s(e, c->now_ms));
        debug_append_facts(&line, o);
        reply_simple(c->r, buf_cstr(&line));
        buf_done(&line);
    }
    dispatch_unlock(c);
}

/* "100", "1kb": from how many bytes on a list's element has a node of its own; 0: what list-max-listpack-size says. */
static void debug_packed_threshold(struct cmd_ctx *c) {
    if (c->argc != 3) {
        cmd_unknown_sub(c);
        return;
    }
    char *text = mem_memdup0(c->argv[2].ptr, c->argv[2].len);
    bool err = true;
    uint64_t bytes = strlen(text) == c->argv[2].len ? str_to_mem(text, &err) : 0;
    mem_free(text);
    if (err || !ql_set_packed_threshold(bytes))
        reply_error(c->r, "ERR argument must be a memory value bigger than 1 and smaller than 4gb");
    else
        reply_ok(c->r);
}

static void debug_set_active_expire(struct cmd_ctx *c) {
    if (c->argc != 3) {
        cmd_unknown_sub(c);
        return;
    }
    ks_set_active_expire(c->ks, !slice_eq(c->argv[2], SLICE_LIT("0")));
    reply_ok(c->r);
}

static void debug_command(struct cmd_ctx *c) {
    static const char *const lines[] = {
        "OBJECT <key>",
        "    Low-level facts about a key's value.",
        "QUICKLIST-PACKED-THRESHOLD <size>",
        "    Elements of lists of <size> bytes or more get a node of their own. 0: those larger than a node.",
        "SET-ACTIVE-EXPIRE <0|1>",
        "    Switch the deletion of expired keys that nobody asks for.",
        "SLEEP <seconds>",
        "    Stop the server for <seconds>; fractions allowed.",
        NULL,
    };
    struct slice sub = c->argv[1];
    if (slice_ieq(sub, "help")) {
        cmd_help(c, lines);
    } else if (slice_ieq(sub, "sleep")) {
        debug_sleep(c);
    } else if (slice_ieq(sub, "object")) {
        debug_object(c);
    } else if (slice_ieq(sub, "quicklist-packed-threshold")) {
        debug_packed_threshold(c);
    } else if (slice_ieq(sub, "set-active-expire")) {
        debug_set_active_expire(c);
    } else {
        cmd_unknown_sub(c);
    }
}

/* ---- MEMORY ---- */

static void memory_usage_command(struct cmd_ctx *c) {
    int64_t samples = 5; /* as redis-server */
    for (int i = 3; i < c->argc; i++) {
        if (!slice_ieq(c->argv[i], "samples") || i + 1 >= c->argc) {
            cmd_syntax_error(c);
            return;
        }
        if (!cmd_arg_ll(c, c->argv[++i], &samples, NULL)) return;
        if (samples < 0) {
            cmd_syntax_error(c);
            return;
        }
    }
    struct entry *e = ks_find(c->ks, c->db, c->argv[2], c->now_ms, KS_FIND_NO_TOUCH | KS_FIND_NO_STATS);
    if (!e) {
        reply_null(c->r);
    } else {
        reply_int(c->r, (int64_t)entry_mem_usage(e, (size_t)samples));
    }
}

static void memory_help_command(struct cmd_ctx *c) {
    static const char *const lines[] = { "USAGE <key> [SAMPLES <count>]", "    Bytes a key and its value take.", NULL };
    cmd_help(c, lines);
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
static const struct cmd_arg usage_args[] = { { .name = "key", .type = ARG_KEY },
                                             { .name = "count", .type = ARG_INTEGER, .token = "SAMPLES", .flags = ARG_OPTIONAL },
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

static const struct cmd_spec memory_subs[] = {
    { .name = "usage",
      .run = memory_usage_command,
      .arity = -3,
      .flags = CMD_READONLY,
      .keys = { { .flags = KEY_RO, .begin = KEY_BEGIN_INDEX, .index = 2, .find = KEY_FIND_RANGE, .keystep = 1 } },
      .summary = "Bytes a key and its value take.",
      .since = "4.0.0",
      .group = "server",
      .complexity = "O(N) where N is the number of samples.",
      .args = usage_args },
    { .name = "help",
      .run = memory_help_command,
      .arity = 2,
      .flags = CMD_LOADING | CMD_STALE,
      .summary = "Lists the subcommands.",
      .since = "4.0.0",
      .group = "server",
      .complexity = "O(1)" },
    { 0 },
};

const struct cmd_spec cmd_specs_server[] = {
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
      .subs = memory_subs,
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
