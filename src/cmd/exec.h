/* Between the dispatcher and EXEC: not for command families. Session's I/O thread. */
#ifndef KETTLE_CMD_EXEC_H
#define KETTLE_CMD_EXEC_H

#include "cmd/dispatch.h"

/* Shards of a command line's keys, as a mask. */
uint64_t dispatch_shards(const struct engine *e, const struct cmd *cmd, int argc, const struct slice *argv);
/* Runs c->cmd with the locks the caller holds, and counts it (calls, time, errors). */
void dispatch_run(struct cmd_ctx *c);

#endif
