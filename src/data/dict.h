/* A hash table of pointers to items that carry their own key. Grows and shrinks in small steps, so that no single operation is
 * slow; can be walked by a cursor that survives both. Keyed hash (base/hash.h): keys chosen by an attacker do not collide.
 *
 * No locking: the owner serialises all calls, dict_find included (it moves rehashing on).
 * The caller computes the key's hash once (dict_hash) and passes it along, so that find-then-insert hashes once. */
#ifndef KETTLE_DATA_DICT_H
#define KETTLE_DATA_DICT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/hash.h"
#include "base/slice.h"

struct dict_bucket;
struct dict_pool;

/* What the tables of one owner share. */
struct dict_type {
    struct slice (*key)(const void *item);
    /* A fifth less memory for the table, and chains of two buckets instead of one on average: for the members of collections. */
    bool dense;
    /* Set while a forked child shares our pages: tables then stay where they are unless badly overfull, and nothing is moved.
     * Any thread may set it. */
    _Atomic bool avoid_resize;
};

struct dict_table {
    struct dict_bucket *buckets; /* NULL when there is none */
    uint64_t mask;               /* number of buckets - 1 */
    uint64_t used;               /* items */
    uint64_t n_children;         /* overflow buckets */
    uint64_t max_chain;          /* most items one chain ever held: the bound for a fair random pick */
    struct dict_pool *pool;      /* has the overflow buckets; NULL in a small table, where each is an allocation */
};

/* May be copied by assignment: nothing points into it. */
struct dict {
    struct dict_type *type;
    struct dict_table t[2]; /* t[1] exists only while rehashing: items move from t[0] to t[1] */
    uint64_t rehash_at;     /* chains of t[0] below this one have moved */
    unsigned paused;        /* >0: a walk is on, nothing may move */
};

static inline uint64_t dict_hash(struct slice key) {
    return hash_bytes(key.ptr, key.len);
}

void dict_init(struct dict *d, struct dict_type *type); /* allocates nothing until the first insertion */
/* Forgets all items, calling free_item for each when not NULL, and frees the tables. The dict may be used again. */
void dict_clear(struct dict *d, void (*free_item)(void *item));

void *dict_find(struct dict *d, uint64_t hash, struct slice key); /* NULL when absent */
/* The place that holds the item, to put another one with the same key there. Valid until the next call. NULL when absent. */
void **dict_find_slot(struct dict *d, uint64_t hash, struct slice key);
/* For those who look up many: the cache line a look-up would read first; and the item it would read next, by the tag, which may
 * be another one's, or NULL. */
void dict_prefetch(const struct dict *d, uint64_t hash);
void *dict_probe(const struct dict *d, uint64_t hash);
void dict_insert(struct dict *d, uint64_t hash, void *item); /* the key must not be there */
/* A table for so many items at once; nothing when the dict has any. */
void dict_reserve(struct dict *d, uint64_t n);
/* For many items at once of which nearly all are different: collected, then put into a table made for their number, the places of
 * several being fetched meanwhile. */
struct dict_fill { /* zeroed: empty */
    void **items;  /* in the order in which they were added */
    size_t n, cap;
};
void dict_fill_add(struct dict_fill *f, void *item);
/* All of them into d, which is empty. False: two have the same key; then d is empty again, free_item was called for each item,
 * and f is empty. The list stays until dict_fill_done. */
bool dict_fill_into(struct dict_fill *f, struct dict *d, void (*free_item)(void *item));
void dict_fill_done(struct dict_fill *f, void (*free_item)(void *item)); /* free_item NULL: the items stay */
void *dict_remove(struct dict *d, uint64_t hash, struct slice key);      /* the item, now the caller's; NULL when absent */

static inline uint64_t dict_size(const struct dict *d) {
    return d->t[0].used + d->t[1].used;
}
static inline bool dict_is_rehashing(const struct dict *d) {
    return d->t[1].buckets != NULL;
}
uint64_t dict_n_buckets(const struct dict *d); /* of both tables, overflow not counted */
size_t dict_mem(const struct dict *d);         /* bytes of the tables */

/* How well filled a table is, for DEBUG. Sums: several dicts may be added to one. Looks at every bucket. */
#define DICT_STATS_CHAINS 50
struct dict_stats {                     /* zeroed: nothing yet */
    uint64_t places;                    /* for items: in chains' first buckets and those that overflow */
    uint64_t used, chains, in_use;      /* items; chains, and how many of them hold any */
    uint64_t longest;                   /* items of the fullest chain */
    uint64_t of_len[DICT_STATS_CHAINS]; /* chains by their number of items; the last: those and more */
};
void dict_stats_add(const struct dict *d, int table,
                    struct dict_stats *s); /* table 1: where a rehashing moves to, if there is one */

/* Calls fn for every item until it returns false; false then. fn may change neither the dict nor free items. */
bool dict_each(struct dict *d, bool (*fn)(void *arg, void *item), void *arg);
/* One step of a cursor walk: calls fn for some items, returns the next cursor, 0 at the end. Start with 0. Every item present
 * from the first call to the last is given at least once, however the table grows or shrinks between calls; some more than once.
 * The cursor is below the number of buckets. fn may look up, and change items, but neither insert nor remove. */
uint64_t dict_scan(struct dict *d, uint64_t cursor, void (*fn)(void *arg, void *item), void *arg);

void *dict_random(struct dict *d); /* each item as likely as any other; NULL when empty */
/* Up to n items from neighbouring buckets at a random place, each at most once: less fair than dict_random, much
 * cheaper per item. Returns how many (fewer than n only when there are not more, or the table is very sparse). */
unsigned dict_sample(struct dict *d, void **ret, unsigned n);

/* Rehashing, for the cron: starts one where the table is too full or too sparse; moves up to n chains. True when work is left. */
bool dict_rehash(struct dict *d, unsigned n_chains);

#endif
