/* Watching commands run: MONITOR, the slow log, latency events. All hang on one hook of the engine, which is called for commands
 * that took at least engine.ran_from_us. */
#ifndef KETTLE_SERVER_OBSERVE_H
#define KETTLE_SERVER_OBSERVE_H

#include <stdbool.h>
#include <stdint.h>

#include "cmd/cmd.h"

struct server;

void observe_init(struct server *srv);
void observe_done(struct server *srv);
/* Thresholds or the number of monitors have changed. Any thread. */
void observe_update(struct server *srv);
void observe_ran(void *srv, struct cmd_ctx *c, uint64_t usec); /* engine_hooks.ran */
/* A command that waited is over; its client's thread. */
void observe_waited(struct server *srv, struct cmd_ctx *c, uint64_t usec);

/* Arguments that are secrets are shown as OBSERVE_REDACTED. One of these for a command: */
#define OBSERVE_REDACTED "(redacted)"
bool observe_is_secret(const struct cmd_ctx *c, int arg);

#endif
