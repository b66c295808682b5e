/* The commands that cmd_dump_spec.c lists. Dispatching thread, shards of the named keys locked. */
#ifndef KETTLE_CMD_CMD_DUMP_H
#define KETTLE_CMD_CMD_DUMP_H

#include "cmd/cmd_generic.h"

void dump_dump_command(struct cmd_ctx *c);
void dump_restore_command(struct cmd_ctx *c);

#endif
