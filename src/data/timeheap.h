/* A min-heap of (time, item), soonest first, for owners whose items know their place in it: every function that moves items calls
 * `moved` with the new place, TIMEHEAP_NONE for one that leaves. Holds no references. Zero-initialise to start; allocates nothing
 * until the first insertion. No locking: the owner serialises. The keyspace's own heap of keys is expiry.h. */
#ifndef KETTLE_DATA_TIMEHEAP_H
#define KETTLE_DATA_TIMEHEAP_H

#include <stddef.h>
#include <stdint.h>

#define TIMEHEAP_NONE UINT32_MAX

struct timeheap_item {
    int64_t when_ms;
    void *what;
};

struct timeheap {
    struct timeheap_item *items;
    uint32_t n, cap;
};

typedef void timeheap_moved(void *what, uint32_t at);

void timeheap_add(struct timeheap *h, int64_t when_ms, void *what, timeheap_moved *moved);
void timeheap_change(struct timeheap *h, uint32_t at, int64_t when_ms, timeheap_moved *moved); /* another time for the item at */
void timeheap_remove(struct timeheap *h, uint32_t at, timeheap_moved *moved);
void timeheap_clear(struct timeheap *h); /* forgets all without a word to the items; memory freed */
/* How many are due (now_ms > when_ms), counting no further than max. O(result). */
uint64_t timeheap_due(const struct timeheap *h, int64_t now_ms, uint64_t max);

static inline size_t timeheap_mem(const struct timeheap *h) {
    return (size_t)h->cap * sizeof(struct timeheap_item);
}

#endif
