/* A 4-ary min-heap. Place in the flow: EXPIRE and SET EX write it, the cron pops it. Thread: the holder of the shard's lock.
 *
 * Four children instead of two: half the levels, and the four are compared within one cache line (16 bytes each; the array starts
 * 3 items into the allocation, so that children 4i+1..4i+4 begin on a multiple of 4).
 *
 * Invariants: items[(i-1)/4].when_ms <= items[i].when_ms; the record of items[i].entry has heap_pos i and the same
 * time; an entry is in the heap exactly when it has a record.
 *
 * Rejected: sampling, as redis-server does it (keeps up to a quarter of the dead keys, and cannot say when the next one is due);
 * a timer wheel (no cheaper for keys that are due far apart, and TTLs reach from milliseconds to centuries). */
#include "data/expiry.h"

#include <assert.h>

#include "base/alloc.h"
#include "data/keyspace.h"

#define ARITY 4
#define PAD 3
#define CAP_MIN 13 /* with the pad: 16 items, 256 bytes */
#define SUM_SHIFT 6
#define SUM_MAX_MS (1LL << 43) /* the year 2248: later times count as this, or a few could overflow the sum */

static uint64_t sum_part(int64_t when_ms) {
    if (when_ms < 0) return 0;
    return (uint64_t)(when_ms < SUM_MAX_MS ? when_ms : SUM_MAX_MS) >> SUM_SHIFT;
}

static void heap_resize(struct expiry *x, uint32_t cap) {
    struct expiry_item *raw = x->items ? x->items - PAD : NULL;
    raw = mem_realloc(raw, ((size_t)cap + PAD) * sizeof(*raw));
    x->items = raw + PAD;
    x->cap = cap;
}

static inline void put(struct expiry *x, uint32_t i, struct expiry_item item) {
    x->items[i] = item;
    ttl_at(item.entry->ttl)->heap_pos = i;
}

static void sift_up(struct expiry *x, uint32_t i, struct expiry_item item) {
    while (i > 0) {
        uint32_t parent = (i - 1) / ARITY;
        if (x->items[parent].when_ms <= item.when_ms) break;
        put(x, i, x->items[parent]);
        i = parent;
    }
    put(x, i, item);
}

static void sift_down(struct expiry *x, uint32_t i, struct expiry_item item) {
    for (;;) {
        uint64_t first = (uint64_t)i * ARITY + 1;
        if (first >= x->n) break;
        uint64_t end = first + ARITY < x->n ? first + ARITY : x->n;
        uint32_t least = (uint32_t)first;
        for (uint32_t c = least + 1; c < end; c++) {
            if (x->items[c].when_ms < x->items[least].when_ms) least = c;
        }
        if (x->items[least].when_ms >= item.when_ms) break;
        put(x, i, x->items[least]);
        i = least;
    }
    put(x, i, item);
}

/* Puts the item where it belongs, starting from a place that is free to take. */
static void settle(struct expiry *x, uint32_t i, struct expiry_item item) {
    if (i > 0 && x->items[(i - 1) / ARITY].when_ms > item.when_ms)
        sift_up(x, i, item);
    else
        sift_down(x, i, item);
}

static void heap_remove(struct expiry *x, uint32_t i) {
    struct expiry_item last = x->items[--x->n];
    if (i < x->n) settle(x, i, last);
    if (x->cap > CAP_MIN && x->n < x->cap / 4) heap_resize(x, (x->cap - PAD) / 2);
}

static void heap_add(struct expiry *x, struct expiry_item item) {
    if (x->n == x->cap) {
        assert(x->cap < UINT32_MAX / 2);
        heap_resize(x, x->cap ? x->cap * 2 + PAD : CAP_MIN); /* with the pad a power of two again */
    }
    sift_up(x, x->n++, item);
}

void expiry_set(struct expiry *x, struct entry *e, int64_t when_ms) {
    int64_t old_ms = entry_expire_ms(e);
    if (old_ms == when_ms) return;
    struct ttl *t = e->ttl ? ttl_at(e->ttl) : NULL;
    if (t) {
        assert(t->heap_pos < x->n && x->items[t->heap_pos].entry == e);
        x->sum -= sum_part(old_ms);
    }
    if (when_ms == KS_NO_EXPIRE) {
        assert(t); /* it had another time */
        heap_remove(x, t->heap_pos);
        ttl_give(&x->free, e->ttl);
        e->ttl = 0;
        return;
    }
    x->sum += sum_part(when_ms);
    struct expiry_item item = { when_ms, e };
    if (t) {
        t->when_ms = when_ms;
        settle(x, t->heap_pos, item);
    } else {
        e->ttl = ttl_take(&x->free);
        ttl_at(e->ttl)->when_ms = when_ms;
        ttl_at(e->ttl)->is_own = 0;
        heap_add(x, item);
    }
}

void expiry_moved(struct expiry *x, struct entry *e) {
    const struct ttl *t = ttl_at(e->ttl);
    assert(t->heap_pos < x->n && x->items[t->heap_pos].when_ms == t->when_ms);
    x->items[t->heap_pos].entry = e;
}

struct entry *expiry_first(const struct expiry *x) {
    return x->n ? x->items[0].entry : NULL;
}

int64_t expiry_mean_ms(const struct expiry *x) {
    return x->n ? (int64_t)(x->sum / x->n) << SUM_SHIFT : 0;
}

size_t expiry_mem(const struct expiry *x) {
    return x->items ? ((size_t)x->cap + PAD) * sizeof(struct expiry_item) : 0;
}

void expiry_clear(struct expiry *x) {
    for (uint32_t i = 0; i < x->n; i++) ttl_give(&x->free, x->items[i].entry->ttl);
    ttl_give_back(&x->free);
    if (x->items) mem_free(x->items - PAD);
    *x = (struct expiry){ 0 };
}
