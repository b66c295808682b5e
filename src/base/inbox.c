/*
 * Inbox: a stack with one atomic head. Producers push with compare-and-swap; the consumer takes everything with one exchange and turns it round. Push needs release, take needs
 * acquire: what was written before the push is seen by the consumer.
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
    } while (!atomic_compare_exchange_weak_explicit(&box->head, &old, msg_take, memory_order_acq_rel, memory_order_relaxed));
    return old == NULL;
}

struct inbox_msg *inbox_take_all(struct inbox *box) {
    struct inbox_msg *at = atomic_exchange_explicit(&box->head, NULL, memory_order_acq_rel), *out = NULL;
    while (at) {
        struct inbox_msg *next = at->next;
        at->next = out;
        out = at;
        at = next;
    }
    return out;
}
