/* One key of the keyspace, in one allocation with the bytes of its name and, where it is a small string, its value. For data/
 * only: others see struct entry through keyspace.h. Guarded by the lock of its shard. The key never changes.
 *
 * Three forms, by the first two bits of `word`; the other 30 are the access clock:
 *
 *     far    ttl | word | far | key_len_1 | (key's length, 4, when 255 or more) | key            17 bytes + key
 *     text   ttl | word | type, enc | key_len | emb_len | key | the string's bytes                12 bytes + key + string
 *     int    ttl | word | type, enc | key_len |    -    | integer | key                           20 bytes + key
 *
 * `word` is the `refs` of a struct obj that begins there, so that a near value (text, int) is read as an object like all others.
 * It has no count: those two bits say so, see obj_is_in_entry.
 *
 * A block of a near form has the size that the allocator would round it to, at most ENTRY_NEAR_MAX, so that a new string that
 * needs as much is written over the old one. Everything else that changes form or size makes another block, which the keyspace
 * puts in the place of this one: addresses of entries last until their values are replaced. */
#ifndef KETTLE_DATA_ENTRY_H
#define KETTLE_DATA_ENTRY_H

#include <stdint.h>

#include "base/slice.h"
#include "data/object.h"

#define ENTRY_LONG_KEY 255 /* key_len_1 of a key of this length or more: 4 bytes of length come before the key's own */
#define ENTRY_NEAR_MAX 192 /* bytes of a near block: three cache lines */
#define ENTRY_FORM_SHIFT 30
#define ENTRY_CLOCK_MASK ((1u << ENTRY_FORM_SHIFT) - 1)
enum entry_form { ENTRY_FAR, ENTRY_TEXT, ENTRY_INT };

/* Only what its form and key need is allocated: never copy a struct entry. */
struct entry {
    uint32_t ttl;  /* ttl_pool.h; 0: lives for ever */
    uint32_t word; /* form << 30 | clock. LRU: seconds of the last access. LFU: minutes of the last decay << 8 | counter */
    /* far only: */
    struct obj *far; /* one reference, owned */
    uint8_t key_len_1;
    char tail[];
};

/* What an entry is to hold. */
struct entry_val {
    enum entry_form form;
    struct obj *obj; /* far: the reference is taken. Else NULL, or a string whose only reference is taken, of which it is made */
    struct slice text; /* text */
    int64_t integer;   /* int */
};
/* Forms are far for what does not fit with the key; then an object is made, or the given one is taken. */
struct entry_val entry_val_string(struct slice key, struct slice text);
struct entry_val entry_val_obj(struct slice key, struct obj *val_take);

struct entry *entry_new(struct slice key, const struct entry_val *v, uint32_t clock);
/* Another value: in the same block, or in a new one that is returned, with key, clock and number of the expiry record; the tables
 * are then to be told, and the old block is freed by mem_free. *ret_old: the old value, NULL where it lay in the block. */
struct entry *entry_put(struct entry *e, const struct entry_val *v, struct obj **ret_old);
/* The quick way, for the usual case: false when text is to be put by entry_put. */
bool entry_overwrite(struct entry *e, struct slice text);
void entry_free(void *e); /* entry *; the value's reference is dropped; NULL is fine */
void entry_free_lazy(struct entry *e);
struct obj *entry_steal(struct entry *e); /* entry_free, but the value becomes the caller's (a near one: a copy) */
struct slice entry_key_of(const void *e); /* entry_key as struct dict_type wants it */
/* What a look-up that has read e's first bytes reads next; only for the processor's cache. */
const void *entry_next_line(const struct entry *e);

static inline enum entry_form entry_form_of(const struct entry *e) {
    return (enum entry_form)(e->word >> ENTRY_FORM_SHIFT);
}
static inline struct obj *entry_near(const struct entry *e) {
    return (struct obj *)(uintptr_t)&e->word;
}
static inline struct obj *entry_obj(const struct entry *e) {
    return entry_form_of(e) == ENTRY_FAR ? e->far : entry_near(e);
}

/* The access clock. */
uint32_t entry_clock_now(bool lfu, int64_t now_ms);          /* what a new entry starts with */
void entry_touch(struct entry *e, bool lfu, int64_t now_ms); /* an access */
void entry_lfu_params(int log_factor, int decay_minutes);

#endif
