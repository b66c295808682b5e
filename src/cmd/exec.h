/* Between the dispatcher and EXEC: not for command families. Session's I/O thread. */
#ifndef KETTLE_CMD_EXEC_H
#define KETTLE_CMD_EXEC_H

#include "cmd/dispatch.h"

/* Shards of a command line's keys, as a mask. */
uint64_t dispatch_shards(const struct engine *e, const struct cmd *cmd, int argc, const struct slice *argv);
/* The command argv names, or NULL: cmd_lookup_argv with a memory of the session's last one. */
struct cmd *dispatch_look_up(struct engine *e, struct session *s, int argc, const struct slice *argv);
/* Where in argv the key is, of a command that has one key, always there, and is locked by the dispatcher. 0: it is not like that.
 */
int dispatch_single_key(const struct cmd *cmd);
/* Runs c->cmd with the locks the caller holds, and counts it (calls, time, errors). */
void dispatch_run(struct cmd_ctx *c);
/* engine_unlock, when the unit has ended already (effects_end). */
void engine_unlock_ended(struct engine *e, uint64_t locked, unsigned slot);

#endif
