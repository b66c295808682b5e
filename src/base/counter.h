/* Counters that one thread writes and many read: a load and a store, no locked instruction, and on no line that other writers
 * want. */
#ifndef KETTLE_BASE_COUNTER_H
#define KETTLE_BASE_COUNTER_H

#include <stdatomic.h>
#include <stdint.h>

/* By the writer only (whoever holds the lock that guards the counter, where that may change hands). */
static inline void counter_add(_Atomic uint64_t *c, uint64_t n) {
    atomic_store_explicit(c, atomic_load_explicit(c, memory_order_relaxed) + n, memory_order_relaxed);
}

static inline void counter_sub(_Atomic uint64_t *c, uint64_t n) {
    counter_add(c, 0 - n);
}

static inline uint64_t counter_get(const _Atomic uint64_t *c) {
    return atomic_load_explicit(c, memory_order_relaxed);
}

#endif
