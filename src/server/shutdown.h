/* The last things a server does: SHUTDOWN, SIGTERM, SIGINT. */
#ifndef KETTLE_SERVER_SHUTDOWN_H
#define KETTLE_SERVER_SHUTDOWN_H

#include <stdbool.h>

struct cmd_ctx;
struct server;

enum shutdown_flag { SHUTDOWN_SAVE = 1, SHUTDOWN_NOSAVE = 2, SHUTDOWN_NOW = 4, SHUTDOWN_FORCE = 8 };

void shutdown_command(struct cmd_ctx *c);
void shutdown_cron(struct server *srv); /* thread 0: a signal has come */

#endif
