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

#include <stddef.h>
#include <stdint.h>

struct engine;
struct scripts;

struct scripts *scripts_new(struct engine *e); /* cheap: no interpreter is made yet */
struct scripts *scripts_free(struct scripts *sc);

struct scripts_figures {              /* INFO memory */
    uint64_t vm_eval, vm_functions;   /* bytes that the interpreters have */
    uint64_t scripts_eval, functions; /* bytes of the caches */
    uint64_t n_scripts, n_functions, n_libraries;
};
void scripts_figures_get(const struct scripts *sc, struct scripts_figures *ret); /* any thread, no lock */

#endif
