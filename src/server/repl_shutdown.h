/* A primary that ends gives its replicas time to get what they lack (shutdown-timeout). Writes are paused meanwhile. */
#ifndef KETTLE_SERVER_REPL_SHUTDOWN_H
#define KETTLE_SERVER_REPL_SHUTDOWN_H

#include <stdbool.h>

struct repl;
struct server;

bool repl_shutdown_is_wanted(struct repl *r); /* a replica lacks something, and shutdown-timeout is not 0. Any thread */
/* Thread 0, each turn of the cron while a shutdown is asked for. True: not yet. Begins with the first call. */
bool repl_shutdown_waits(struct server *srv);
void repl_shutdown_cancel(struct server *srv); /* it does not come to that: writes go on. Any thread */

#endif
