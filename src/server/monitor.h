/* MONITOR: clients that are shown every command. Their list is their thread's; lines go to them by mail. */
#ifndef KETTLE_SERVER_MONITOR_H
#define KETTLE_SERVER_MONITOR_H

#include <stdbool.h>

#include "cmd/cmd.h"

struct client;
struct server;

int monitor_count(struct server *srv); /* any thread, cheap */
void monitor_start(struct client *c);  /* the client's thread */
void monitor_stop(struct client *c);   /* the client's thread; nothing when it does not monitor */
/* The command has run, or is about to. Any thread; locks may be held. */
void monitor_feed(struct server *srv, struct cmd_ctx *c);
void monitor_show(void *srv, struct cmd_ctx *c); /* engine_hooks.show */

#endif
