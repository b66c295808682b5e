/* Commands of replication: REPLCONF, PSYNC, SYNC, ROLE, FAILOVER, WAIT, WAITAOF. Session's I/O thread. */
#ifndef KETTLE_SERVER_CMD_REPLICATION_H
#define KETTLE_SERVER_CMD_REPLICATION_H

#include "cmd/cmd.h"

void replconf_command(struct cmd_ctx *c);
void psync_command(struct cmd_ctx *c); /* SYNC too */
void role_command(struct cmd_ctx *c);
void failover_command(struct cmd_ctx *c); /* repl_failover.c */
void wait_command(struct cmd_ctx *c);     /* repl_wait.c */
void waitaof_command(struct cmd_ctx *c);

#endif
