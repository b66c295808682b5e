/* A 4-ary min-heap. Place in the flow: times of hash fields, and of the hashes that have such. Thread: the owner's.
 *
 * Invariant: items[(i-1)/4].when_ms <= items[i].when_ms. */
#include "data/timeheap.h"

#include <assert.h>

#include "base/alloc.h"

#define ARITY 4
#define CAP_MIN 4

static inline void put(struct timeheap *h, uint32_t i, struct timeheap_item item, timeheap_moved *moved) {
    h->items[i] = item;
    moved(item.what, i);
}

static void sift_up(struct timeheap *h, uint32_t i, struct timeheap_item item, timeheap_moved *moved) {
    while (i > 0) {
        uint32_t parent = (i - 1) / ARITY;
        if (h->items[parent].when_ms <= item.when_ms) break;
        put(h, i, h->items[parent], moved);
        i = parent;
    }
    put(h, i, item, moved);
}

static void sift_down(struct timeheap *h, uint32_t i, struct timeheap_item item, timeheap_moved *moved) {
    for (;;) {
        uint64_t first = (uint64_t)i * ARITY + 1;
        if (first >= h->n) break;
        uint64_t end = first + ARITY < h->n ? first + ARITY : h->n;
        uint32_t least = (uint32_t)first;
        for (uint32_t c = least + 1; c < end; c++)
            if (h->items[c].when_ms < h->items[least].when_ms) least = c;
        if (h->items[least].when_ms >= item.when_ms) break;
        put(h, i, h->items[least], moved);
        i = least;
    }
    put(h, i, item, moved);
}

/* Puts the item where it belongs, starting from a place that is free to take. */
static void settle(struct timeheap *h, uint32_t i, struct timeheap_item item, timeheap_moved *moved) {
    if (i > 0 && h->items[(i - 1) / ARITY].when_ms > item.when_ms)
        sift_up(h, i, item, moved);
    else
        sift_down(h, i, item, moved);
}

static void resize(struct timeheap *h, uint32_t cap) {
    h->items = mem_realloc(h->items, (size_t)cap * sizeof(*h->items));
    h->cap = cap;
}

void timeheap_add(struct timeheap *h, int64_t when_ms, void *what, timeheap_moved *moved) {
    if (h->n == h->cap) {
        assert(h->cap < UINT32_MAX / 2);
        resize(h, h->cap ? h->cap * 2 : CAP_MIN);
    }
    sift_up(h, h->n++, (struct timeheap_item){ when_ms, what }, moved);
}

void timeheap_change(struct timeheap *h, uint32_t at, int64_t when_ms, timeheap_moved *moved) {
    assert(at < h->n);
    struct timeheap_item item = { when_ms, h->items[at].what };
    settle(h, at, item, moved);
}

void timeheap_remove(struct timeheap *h, uint32_t at, timeheap_moved *moved) {
    assert(at < h->n);
    void *gone = h->items[at].what;
    struct timeheap_item last = h->items[--h->n];
    if (at < h->n) settle(h, at, last, moved);
    moved(gone, TIMEHEAP_NONE);
    if (!h->n)
        timeheap_clear(h);
    else if (h->cap > CAP_MIN && h->n < h->cap / 4)
        resize(h, h->cap / 2);
}

void timeheap_clear(struct timeheap *h) {
    mem_free(h->items);
    *h = (struct timeheap){ 0 };
}

/* Goes down from the root only below items that are due. Depth is log4 of 2^32 at most, 16. */
static uint64_t due_below(const struct timeheap *h, uint64_t i, int64_t now_ms, uint64_t max) {
    if (i >= h->n || !max || now_ms <= h->items[i].when_ms) return 0;
    uint64_t n = 1;
    for (uint64_t c = i * ARITY + 1; c <= i * ARITY + ARITY && n < max; c++) n += due_below(h, c, now_ms, max - n);
    return n;
}

uint64_t timeheap_due(const struct timeheap *h, int64_t now_ms, uint64_t max) {
    return due_below(h, 0, now_ms, max);
}
