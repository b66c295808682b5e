/* One key of the keyspace, in one allocation with the bytes of its name. For data/ only: others see struct entry through
 * keyspace.h. Guarded by the lock of its shard. Stays at one address from insertion to deletion; the key never changes. */
#ifndef KETTLE_DATA_ENTRY_H
#define KETTLE_DATA_ENTRY_H

#include <stdint.h>

#include "base/slice.h"
#include "data/object.h"

#define ENTRY_LONG_KEY 255 /* key_len_1 of a key of this length or more: 4 bytes of length come before the key's own */

/* 17 bytes, then the key. Only these are allocated: never copy a struct entry. */
struct entry {
    struct obj *value; /* one reference, owned */
    uint32_t clock;    /* LRU: seconds of the last access. LFU: minutes of the last decay << 8 | counter */
    uint32_t ttl;      /* ttl_pool.h; 0: lives for ever */
    uint8_t key_len_1;
    char tail[];
};

struct entry *entry_new(struct slice key, struct obj *val_take, uint32_t clock);
void entry_free(void *e); /* entry *; the value's reference is dropped; NULL is fine */
void entry_free_lazy(struct entry *e);
struct slice entry_key_of(const void *e); /* entry_key as struct dict_type wants it */

/* The access clock. */
uint32_t entry_clock_now(bool lfu, int64_t now_ms);          /* what a new entry starts with */
void entry_touch(struct entry *e, bool lfu, int64_t now_ms); /* an access */
void entry_lfu_params(int log_factor, int decay_minutes);

#endif
