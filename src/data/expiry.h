/* The keys with a time to live of one database in one shard, soonest first: a heap of (time, entry) in which each entry knows its
 * place. Guarded by the shard's lock. Zero-initialise to start. Holds no references: an entry is removed before it is freed. */
#ifndef KETTLE_DATA_EXPIRY_H
#define KETTLE_DATA_EXPIRY_H

#include <stddef.h>
#include <stdint.h>

#include "data/entry.h"
#include "data/ttl_pool.h"

struct expiry_item {
    int64_t when_ms; /* as in the entry's record */
    struct entry *entry;
};

struct expiry {
    struct expiry_item *items; /* item 0, the soonest; 3 items into its allocation: children share a cache line */
    uint32_t n, cap;
    uint64_t sum;         /* of the times, in units of 64 ms, for the average TTL */
    struct ttl_free free; /* numbers for records to come */
};

/* Sets, moves or (KS_NO_EXPIRE) takes away e's time. */
void expiry_set(struct expiry *x, struct entry *e, int64_t when_ms);
/* e, which has a time, took the place of another block with the same record. */
void expiry_moved(struct expiry *x, struct entry *e);
struct entry *expiry_first(const struct expiry *x); /* NULL when empty */
int64_t expiry_mean_ms(const struct expiry *x);     /* mean of the absolute times; 0 when empty */
size_t expiry_mem(const struct expiry *x);          /* bytes */
void expiry_clear(struct expiry *x); /* forgets all; entries are left with numbers that are no longer theirs; memory freed */

#endif
