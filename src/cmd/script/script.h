/*
 * Scripts: EVAL and FUNCTION, on Lua 5.1. What the rest of the server sees of them; script_priv.h has the parts.
 *
 *   EVAL, FCALL (cmd_eval.c, cmd_function.c)        every shard is locked: scripts are atomic, and touch any key
 *     -> run.c         checks flags, runs the Lua function, replies
 *          sandbox*.c    the interpreter and what a script may see of it
 *          api.c         redis.call and its relatives: a command in the script's context, through dispatch_run
 *          convert.c     replies into Lua values, Lua values into replies
 *          msgpack.c, struct.c    libraries; cjson and bit are Debian's
 *     cache.c          EVAL's scripts by SHA1
 *     library.c        functions and their libraries; dump.c: as FUNCTION DUMP has them
 *
 * There are two interpreters, one for EVAL and one for functions, made at their first use. All of it is guarded by the locks of
 * all shards, held together; what says so is atomic.
 */
#ifndef KETTLE_CMD_SCRIPT_SCRIPT_H
#define KETTLE_CMD_SCRIPT_SCRIPT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/slice.h"

struct cmd_ctx;
struct engine;
struct scripts;

struct scripts *scripts_new(struct engine *e); /* cheap: no interpreter is made yet */
struct scripts *scripts_free(struct scripts *sc);

/* Libraries as files have them. All shards locked, or nobody else at work (loading, a forked child). */
void scripts_each_library(const struct scripts *sc, void (*fn)(void *arg, struct slice code), void *arg);
/* 0, or -EINVAL with *ret_error (mem_free). replace: in place of one of the same name. */
int scripts_add_library(struct scripts *sc, struct slice code, bool replace, char **ret_error);
void scripts_flush_libraries(struct scripts *sc, bool async);

struct scripts_figures {              /* INFO memory */
    uint64_t vm_eval, vm_functions;   /* bytes that the interpreters have */
    uint64_t scripts_eval, functions; /* bytes of the caches */
    uint64_t n_scripts, n_functions, n_libraries;
};
void scripts_figures_get(const struct scripts *sc, struct scripts_figures *ret); /* any thread, no lock */

/* ---- scripts that take long (control.c), for the dispatcher and the server ----
 *
 * A script runs on a stack of its own. Once it has run for busy-reply-threshold it stops now and then: its thread goes on with
 * its event loop, and continues it in the next turn. All shards stay locked, and ks_is_held says so: other commands are refused,
 * but for CMD_ALLOW_BUSY, those that wait for a lock give up. */

/* A copy that lives until the command is done: the thread has one. */
struct cmd_ctx *scripts_own_context(struct scripts *sc, const struct cmd_ctx *c);
/* dispatch_run(c), of a scripts_own_context. False: it is not done; scripts_continue. */
bool scripts_run(struct scripts *sc, struct cmd_ctx *c);
struct cmd_ctx *scripts_continue(struct scripts *sc, unsigned slot); /* NULL: it is still not done */
const char *scripts_busy_text(const struct scripts *sc);             /* any thread */
void scripts_set_threshold(struct scripts *sc, int64_t ms);          /* 0: none. Any thread */
void scripts_stop(struct scripts *sc);                               /* the server ends: whatever runs is ended. Any thread */

#endif
