/* Entries: layout, and the access clock that eviction judges by. Place in the flow: the keyspace makes and finds them.
 * Thread: the holder of the shard's lock.
 *
 * The clock's 32 bits mean seconds of the last access (LRU), or 24 bits as in redis-server's LFU: 16 bits of minutes, at which
 * the counter was last decayed, and a logarithmic counter of accesses of 8 bits. After a change of policy the old values are
 * noise for a while, as they are in redis-server. */
#include "data/entry.h"

#include <string.h>

#include "base/alloc.h"
#include "base/rand.h"
#include "data/expiry.h"
#include "data/keyspace.h"
#include "data/ttl_pool.h"

#define LFU_NEW 5 /* counter of a new key: enough to survive until its second access */
#define LFU_MAX 255
#define DICT_SLOT_BYTES 9 /* 64 bytes for 7 items */

/* For the process, not the keyspace: entry_lfu gets nothing but the entry. */
static _Atomic int lfu_log_factor = 10, lfu_decay_minutes = 1;

static size_t key_offset(size_t key_len) {
    return offsetof(struct entry, tail) + (key_len >= ENTRY_LONG_KEY ? sizeof(uint32_t) : 0);
}

struct entry *entry_new(struct slice key, struct obj *val_take, uint32_t clock) {
    struct entry *e = mem_alloc(key_offset(key.len) + key.len);
    e->value = val_take;
    e->ttl = 0;
    e->clock = clock;
    e->key_len_1 = key.len < ENTRY_LONG_KEY ? (uint8_t)key.len : ENTRY_LONG_KEY;
    const uint32_t len = (uint32_t)key.len;
    if (key.len >= ENTRY_LONG_KEY) memcpy(e->tail, &len, sizeof(len));
    if (key.len) memcpy((char *)e + key_offset(key.len), key.ptr, key.len);
    return e;
}

void entry_free(void *arg) {
    struct entry *e = arg;
    if (!e) return;
    obj_unref(e->value);
    mem_free(e);
}

void entry_free_lazy(struct entry *e) {
    obj_unref_lazy(e->value);
    mem_free(e);
}

struct slice entry_key(const struct entry *e) {
    if (e->key_len_1 < ENTRY_LONG_KEY) return (struct slice){ e->tail, e->key_len_1 };
    uint32_t len;
    memcpy(&len, e->tail, sizeof(len));
    return (struct slice){ e->tail + sizeof(len), len };
}

struct slice entry_key_of(const void *e) {
    return entry_key(e);
}

struct obj *entry_value(const struct entry *e) {
    return e->value;
}

struct obj **entry_value_slot(struct entry *e) {
    return &e->value;
}

int64_t entry_expire_ms(const struct entry *e) {
    return e->ttl ? ttl_at(e->ttl)->when_ms : KS_NO_EXPIRE;
}

size_t entry_mem_usage(const struct entry *e, size_t samples) {
    size_t size = mem_usable((void *)(uintptr_t)e) + DICT_SLOT_BYTES;
    if (e->ttl) size += sizeof(struct expiry_item) + sizeof(struct ttl);
    return size + (e->value ? obj_mem_usage(e->value, samples) : 0);
}

/* ---- access clock ---- */

void entry_lfu_params(int log_factor, int decay_minutes) {
    atomic_store_explicit(&lfu_log_factor, log_factor, memory_order_relaxed);
    atomic_store_explicit(&lfu_decay_minutes, decay_minutes, memory_order_relaxed);
}

static uint32_t lru_seconds(int64_t now_ms) {
    return (uint32_t)(now_ms / 1000);
}

static uint32_t lfu_minutes(int64_t now_ms) {
    return (uint32_t)(now_ms / 60000) & 0xffff;
}

/* One off for every decay period since the last access. Minutes wrap after 45 days. */
static uint32_t lfu_decayed(uint32_t clock, int64_t now_ms) {
    uint32_t counter = clock & LFU_MAX;
    uint32_t elapsed = (lfu_minutes(now_ms) - (clock >> 8)) & 0xffff;
    int decay = atomic_load_explicit(&lfu_decay_minutes, memory_order_relaxed);
    uint32_t periods = decay > 0 ? elapsed / (uint32_t)decay : 0;
    return periods < counter ? counter - periods : 0;
}

/* The higher the counter, the less likely an access raises it: 255 stands for about a million accesses at factor 10. */
static uint32_t lfu_raised(uint32_t counter) {
    if (counter == LFU_MAX) return counter;
    double above = counter > LFU_NEW ? counter - LFU_NEW : 0;
    double p = 1.0 / (above * atomic_load_explicit(&lfu_log_factor, memory_order_relaxed) + 1);
    return counter + ((double)(rand_u64() >> 11) * 0x1p-53 < p);
}

uint32_t entry_clock_now(bool lfu, int64_t now_ms) {
    return lfu ? lfu_minutes(now_ms) << 8 | LFU_NEW : lru_seconds(now_ms);
}

void entry_touch(struct entry *e, bool lfu, int64_t now_ms) {
    uint32_t clock = lfu ? lfu_minutes(now_ms) << 8 | lfu_raised(lfu_decayed(e->clock, now_ms)) : lru_seconds(now_ms);
    if (e->clock != clock) e->clock = clock; /* a read that changes nothing leaves the cache line clean */
}

uint32_t entry_idle_s(const struct entry *e, int64_t now_ms) {
    uint32_t idle = lru_seconds(now_ms) - e->clock;
    return (int32_t)idle < 0 ? 0 : idle; /* the wall clock stepped back */
}

uint8_t entry_lfu(const struct entry *e, int64_t now_ms) {
    return (uint8_t)lfu_decayed(e->clock, now_ms);
}

void entry_set_idle_s(struct entry *e, uint32_t idle_s, int64_t now_ms) {
    e->clock = lru_seconds(now_ms) - idle_s;
}

void entry_set_lfu(struct entry *e, uint8_t counter, int64_t now_ms) {
    e->clock = lfu_minutes(now_ms) << 8 | counter;
}
