/*
 * Inbox: a stack with one atomic head. Producers (any thread) push with compare-and-swap; the owner takes everything with one
 * exchange and turns it round. As nobody ever takes a single message, there is no ABA problem.
 *
 * Push releases and take acquires: what was written before the push is seen by the consumer. No wake-up is lost: either the
 * owner sees the message, or its look came before the push in the order of changes of `head`, and then the producer found
 * the box empty and wakes the owner.
 */
#include "base/inbox.h"

#include <stddef.h>

void inbox_init(struct inbox *box) {
    atomic_store_explicit(&box->head, NULL, memory_order_relaxed);
}

bool inbox_push(struct inbox *box, struct inbox_msg *msg_take) {
    struct inbox_msg *old = atomic_load_explicit(&box->head, memory_order_relaxed);
    do {
        msg_take->next = old;
    } while (!atomic_compare_exchange_weak_explicit(&box->head, &old, msg_take, memory_order_release, memory_order_relaxed));
    return old == NULL;
}

struct inbox_msg *inbox_take_all(struct inbox *box) {
    /* The usual case, nothing there, must not take the cache line away from the producers. */
    if (!atomic_load_explicit(&box->head, memory_order_relaxed)) return NULL;
    struct inbox_msg *at = atomic_exchange_explicit(&box->head, NULL, memory_order_acquire), *out = NULL;
    while (at) {
        struct inbox_msg *next = at->next;
        at->next = out;
        out = at;
        at = next;
    }
    return out;
}
