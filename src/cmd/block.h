/* Blocked clients: between the dispatcher, the server and block.c; not for command families, who have cmd.h ("blocking").
 *
 * A cmd_waiter is a command that waits, with all that is needed to run it again without its client: a copy of its arguments, a
 * snapshot of the session, an output queue. Whoever makes a key ready runs it, on whatever thread; the client's own thread puts
 * the reply where it belongs.
 *
 *             .-------------- blocks again -------.
 *             v                                   |
 *   WAITING --'-> SERVING (a key is ready) -------'---> SERVED ------------------.
 *      |--> UNBLOCKED_TIMEOUT, UNBLOCKED_ERROR (CLIENT UNBLOCK) -----------------+--> wake --> block_finish
 *      |--> UNBLOCKED_ROLE (this server becomes a replica) ----------------------|
 *      |--> TIMED_OUT (its own thread) --------------------------------------------------------^
 *      '--> DROPPED (its client is gone, or about to go; from SERVING too: the reply is lost as it is on a broken connection)
 *
 * Every step is a compare-and-swap: there is one winner. SERVING is left before the locks of wait.mask are
 * released, so that who holds them sees WAITING or an end. Owner: the session's thread, which alone frees it; it is in the
 * keyspace's tables until it is SERVED or its thread takes it out. */
#ifndef KETTLE_CMD_BLOCK_H
#define KETTLE_CMD_BLOCK_H

#include "cmd/dispatch.h"

enum block_state {
    BLOCK_WAITING,
    BLOCK_SERVING,
    BLOCK_SERVED,
    BLOCK_UNBLOCKED_TIMEOUT,
    BLOCK_UNBLOCKED_ERROR,
    BLOCK_UNBLOCKED_ROLE,
    BLOCK_TIMED_OUT,
    BLOCK_DROPPED
};

struct cmd_waiter {
    struct ks_wait wait;
    _Atomic int state; /* enum block_state */
    struct engine *eng;
    const struct cmd *cmd;
    int argc;
    struct slice *argv;
    struct session s; /* session_ghost */
    struct obuf out;  /* of s */
    void (*timed_out)(struct reply *r);
    void *job;                      /* what it waits for in place of keys, see cmd.h; never changes. NULL: keys */
    void (*job_dropped)(void *job); /* called by block_free; NULL: not wanted. The session's thread's */
    void (*conclude)(struct session *s);
    int64_t deadline_us;    /* monotonic; 0: none */
    uint64_t ticks;         /* that its runs took so far */
    uint64_t usec;          /* of all its runs, once SERVED */
    int denied, denied_pos; /* enum acl_verdict when it was served: rules have changed since it began to wait */
    bool is_orphan;         /* its session is gone, and a wake is under way: block_free when it comes. The session's thread's */
};

/* From WAITING to UNBLOCKED_*, or to DROPPED, at once and for good: it will not be served. The caller sees to it that it is not
 * freed meanwhile. After UNBLOCKED_* the caller wakes its thread. Any thread. Returns the state that it was in: another one than
 * WAITING (DROPPED: or SERVING) stays. SERVING: it may wait again in a moment. */
enum block_state block_claim(struct cmd_waiter *w, enum block_state to);

/* The rest: the session's thread, no lock held. */

/* The deadline has come. False: something else came first, and wakes. */
bool block_time_out(struct cmd_waiter *w);
/* After wake, or block_time_out: writes the reply to s->reply, takes the waiter out of all tables and frees it. */
void block_finish(struct session *s);
/* The session ends: no reply. Frees the waiter, or leaves that to the wake which is under way (is_orphan). */
void block_abandon(struct session *s);
void block_free(struct cmd_waiter *w);

#endif
