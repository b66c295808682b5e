/* WAIT and WAITAOF: clients that wait until replicas, or files, have what they wrote. */
#ifndef KETTLE_SERVER_REPL_WAIT_H
#define KETTLE_SERVER_REPL_WAIT_H

struct client;
struct io_thread;
struct repl;

/* A replica has acknowledged something, or something of ours has been fsynced: who has waited for that is told. Any thread; a
 * load when nobody waits. */
void repl_wait_acked(struct repl *r);
void repl_wait_forget(struct client *c);           /* its thread: it waits no more */
void repl_wait_before_sleep(struct io_thread *th); /* asks the replicas for their offsets, once a turn */

#endif
