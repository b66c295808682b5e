/* MIGRATE: between the function and the table. */
#ifndef KETTLE_SERVER_CMD_MIGRATE_H
#define KETTLE_SERVER_CMD_MIGRATE_H

#include "cmd/cmd.h"

void migrate_command(struct cmd_ctx *c);
int migrate_get_keys(int argc, const struct slice *argv, int *pos, unsigned *flags, int cap);

#endif
