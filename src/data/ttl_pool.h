/* Records of keys that have a time to live, numbered, for the whole process: an entry holds a number of 4 bytes instead of the
 * time and its place in the expiry heap, which most keys would carry for nothing. A record stays at its address as long as its
 * number is taken. Number 0 is none.
 *
 * A record is read and written under the lock of its key's shard. Free numbers are kept by each expiry heap (struct ttl_free, the
 * same lock), which exchanges them with the process's in runs: that takes the pool's own lock, the innermost of all. */
#ifndef KETTLE_DATA_TTL_POOL_H
#define KETTLE_DATA_TTL_POOL_H

#include <stdatomic.h>
#include <stdint.h>

struct ttl {
    int64_t when_ms;   /* wall clock */
    uint32_t heap_pos; /* in the expiry heap */
    union {
        uint32_t next;   /* while it is free: the next free one */
        uint32_t is_own; /* while it is taken: 1 in the heap of a replica's own times, else 0; keyspace_priv.h */
    };
};

#define TTL_CHUNK_SHIFT 14
#define TTL_CHUNK (1u << TTL_CHUNK_SHIFT)

extern _Atomic(struct ttl *) ttl_chunks[1u << (32 - TTL_CHUNK_SHIFT)];

static inline struct ttl *ttl_at(uint32_t id) {
    return atomic_load_explicit(&ttl_chunks[id >> TTL_CHUNK_SHIFT], memory_order_acquire) + (id & (TTL_CHUNK - 1));
}

struct ttl_free { /* zeroed: none */
    uint32_t head, n;
};
uint32_t ttl_take(struct ttl_free *f);
void ttl_give(struct ttl_free *f, uint32_t id);
void ttl_give_back(struct ttl_free *f); /* all that f holds, to the process */

#endif
