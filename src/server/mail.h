/* Mail: what one I/O thread wants written to clients of another: messages, invalidations, MONITOR's lines. Each thread has one
 * mailbox; its own clients are written to through it as well, so that nobody's reply is cut in two and a command's own reply
 * comes before what the command caused. Mail of one sender arrives in the order in which it was posted. */
#ifndef KETTLE_SERVER_MAIL_H
#define KETTLE_SERVER_MAIL_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/inbox.h"

struct server;
struct io_thread;

struct mail { /* embed; msg.run is called on the receiving thread with its struct io_thread, and frees */
    struct inbox_msg msg;
    size_t size; /* bytes it keeps, roughly: counted while it waits */
};

struct mailbox { /* in struct io_thread; zero-initialise */
    struct inbox box;
    _Atomic size_t bytes; /* waiting */
    bool is_delivering;   /* the thread's own */
};

/* Any thread, locks may be held. Wakes the receiver, once a batch. */
void mail_post(struct io_thread *to, struct mail *m_take);
/* Runs what is there. The thread's own: between two commands, or outside of any. Nothing when it is called by what it runs: the
 * order would be another. */
void mail_deliver(struct io_thread *th);
/* At the end, when the thread does not run any more: the same for what was left over. */
void mail_done(struct io_thread *th);
/* True when threads other than th have more waiting than they should: who would send them more waits. Cheap. */
bool mail_is_backed_up(struct io_thread *th);

static inline bool mail_waits(const struct mailbox *m) {
    return atomic_load_explicit(&((struct mailbox *)(void *)(size_t)m)->box.head, memory_order_relaxed) != NULL;
}

#endif
