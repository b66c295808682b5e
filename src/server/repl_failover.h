/* FAILOVER: this primary hands its role to one of its replicas.
 *
 *   NONE --FAILOVER--> WAIT_FOR_SYNC --a replica has everything--> IN_PROGRESS --it accepts--> NONE (a replica of it)
 *                        | timeout, ABORT: NONE                      | it refuses, ABORT: NONE (a primary again)
 *
 * Writes are paused from the command to the end. State: under repl->lock; what is decided is decided on thread 0. */
#ifndef KETTLE_SERVER_REPL_FAILOVER_H
#define KETTLE_SERVER_REPL_FAILOVER_H

#include <stdbool.h>
#include <stdint.h>

struct cmd_ctx;
struct repl;

enum failover_state { FAILOVER_NONE, FAILOVER_WAIT_FOR_SYNC, FAILOVER_IN_PROGRESS };

struct repl_failover {
    _Atomic int state; /* enum failover_state */
    char *host;        /* NULL: whichever is first. Owned */
    int port;
    bool force;
    int64_t deadline_us;     /* monotonic; 0: none */
    int64_t before_until_ms; /* CLIENT PAUSE as it was */
    bool before_all;
};

bool repl_failover_is_on(struct repl *r);             /* any thread */
const char *repl_failover_state_name(struct repl *r); /* INFO's master_failover_state. Any thread */
void repl_failover_cron(struct repl *r);              /* thread 0 */
/* The target has said what it makes of PSYNC ... FAILOVER, or is not to be reached. Any thread; nothing when none is under way.
 */
void repl_failover_ended(struct repl *r, bool accepted);
/* On the target: PSYNC id offset FAILOVER. False: refused, and said so there. No lock held. */
bool repl_failover_accept(struct cmd_ctx *c);

#endif
