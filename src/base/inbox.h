/* Many producers, one consumer: the way one thread asks another for something. Lock-free push (one compare-and-swap), the
 * consumer takes the whole batch, in the order of arrival. The producer that finds the box empty is told so, and wakes the owner:
 * one wake-up per batch. Messages are embedded in a structure of the producer's; ownership passes to the consumer with the push.
 */
#ifndef KETTLE_BASE_INBOX_H
#define KETTLE_BASE_INBOX_H

#include <stdatomic.h>
#include <stdbool.h>

struct inbox_msg {
    struct inbox_msg *next;
    void (*run)(struct inbox_msg *msg, void *owner); /* called on the owner's thread; frees the message if it must */
};

struct inbox {
    _Atomic(struct inbox_msg *) head; /* newest first */
};

void inbox_init(struct inbox *box);
/* Any thread. True when the box was empty: the caller must wake the owner. */
bool inbox_push(struct inbox *box, struct inbox_msg *msg_take);
/* Owner only: everything there is, oldest first, or NULL. */
struct inbox_msg *inbox_take_all(struct inbox *box);

#endif
