/*
 * The table behind client-side caching. Place in the flow: a read adds its keys, a change takes the key out and tells those who
 * had read it. The key's number of database plays no part, as in redis-server.
 *
 * SHARDS parts by the key's hash, each with a lock of its own that is held for one look-up. They need not be the keyspace's: that
 * a reader is entered before anybody can change what it has read, the keyspace's locks see to.
 *
 * Of one key there is mostly one reader, or a few: a reader alone is a pointer; more are a set with open addressing, so that the
 * ten-thousandth reader of a key costs no more than the second.
 */
#include "server/tracking_table.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <string.h>

#include "base/alloc.h"
#include "base/rand.h"
#include "data/dict.h"
#include "data/lazyfree.h"
#include "server/tracking.h"

#define SHARDS 64
#define SET_MIN 4

struct tracked {
    struct tracker *one;  /* while n is 1 */
    struct tracker **set; /* cap of them, a power of two, at most three quarters in use; NULL while n is 1 */
    unsigned n, cap;
    size_t len;
    char key[];
};

struct table_shard {
    _Alignas(64) pthread_mutex_t lock;
    struct dict keys;
    uint64_t items;
};

struct tracking_table {
    _Atomic uint64_t n_keys, n_items;
    struct table_shard *shards;
    void *shards_mem;
};

struct slice tracked_key(const struct tracked *k) {
    return (struct slice){ k->key, k->len };
}

static struct slice item_key(const void *item) {
    return tracked_key(item);
}

static struct dict_type tracked_type = { .key = item_key };

/* ---- the readers of one key ---- */

static unsigned place_of(const struct tracker *who, unsigned cap) {
    return (unsigned)(((uint64_t)(uintptr_t)who * 0x9e3779b97f4a7c15ULL) >> 32) & (cap - 1);
}

/* Where it is, or the free place where it belongs. */
static struct tracker **set_place(struct tracker **set, unsigned cap, const struct tracker *who) {
    unsigned i = place_of(who, cap);
    while (set[i] && set[i] != who) i = (i + 1) & (cap - 1);
    return &set[i];
}

static void set_grow(struct tracked *k) {
    unsigned cap = k->cap ? k->cap * 2 : SET_MIN;
    struct tracker **set = mem_calloc(cap, sizeof(struct tracker *));
    if (k->one) *set_place(set, cap, k->one) = k->one;
    for (unsigned i = 0; i < k->cap; i++)
        if (k->set[i]) *set_place(set, cap, k->set[i]) = k->set[i];
    mem_free(k->set);
    k->one = NULL;
    k->set = set;
    k->cap = cap;
}

/* False: it was there. */
static bool tracked_add(struct tracked *k, struct tracker *who) {
    if (k->n == 0) {
        k->one = who;
        k->n = 1;
        return true;
    }
    if (k->one == who) return false;
    if (k->one) set_grow(k);
    struct tracker **at = set_place(k->set, k->cap, who);
    if (*at) return false;
    if ((k->n + 1) * 4 > k->cap * 3) {
        set_grow(k);
        at = set_place(k->set, k->cap, who);
    }
    *at = who;
    k->n++;
    return true;
}

void tracked_each(const struct tracked *k, void (*fn)(void *arg, struct tracker *who), void *arg) {
    if (k->one) fn(arg, k->one);
    for (unsigned i = 0; i < k->cap; i++)
        if (k->set[i]) fn(arg, k->set[i]);
}

static void drop(void *arg, struct tracker *who) {
    (void)arg;
    tracker_unref(who);
}

void tracked_free(void *item) {
    struct tracked *k = item;
    if (!k) return;
    tracked_each(k, drop, NULL);
    mem_free(k->set);
    mem_free(k);
}

/* ---- the table ---- */

struct tracking_table *tracking_table_new(void) {
    struct tracking_table *t = mem_zalloc(sizeof *t);
    t->shards_mem = mem_zalloc(sizeof(struct table_shard) * SHARDS + 63);
    t->shards = (struct table_shard *)(((uintptr_t)t->shards_mem + 63) & ~(uintptr_t)63);
    for (int i = 0; i < SHARDS; i++) {
        pthread_mutex_init(&t->shards[i].lock, NULL);
        dict_init(&t->shards[i].keys, &tracked_type);
    }
    return t;
}

struct tracking_table *tracking_table_free(struct tracking_table *t) {
    if (!t) return NULL;
    for (int i = 0; i < SHARDS; i++) {
        dict_clear(&t->shards[i].keys, tracked_free);
        pthread_mutex_destroy(&t->shards[i].lock);
    }
    mem_free(t->shards_mem);
    mem_free(t);
    return NULL;
}

static struct table_shard *shard_of(struct tracking_table *t, uint64_t hash) {
    return &t->shards[(hash >> 32) % SHARDS];
}

void tracking_table_add(struct tracking_table *t, struct slice key, struct tracker *who) {
    uint64_t hash = dict_hash(key);
    struct table_shard *s = shard_of(t, hash);
    pthread_mutex_lock(&s->lock);
    struct tracked *k = dict_find(&s->keys, hash, key);
    if (!k) {
        k = mem_zalloc(sizeof *k + key.len);
        k->len = key.len;
        if (key.len) memcpy(k->key, key.ptr, key.len);
        dict_insert(&s->keys, hash, k);
        atomic_fetch_add_explicit(&t->n_keys, 1, memory_order_relaxed);
    }
    if (tracked_add(k, who)) {
        tracker_ref(who);
        s->items++;
        atomic_fetch_add_explicit(&t->n_items, 1, memory_order_relaxed);
    }
    pthread_mutex_unlock(&s->lock);
}

/* Under the shard's lock. */
static void taken(struct tracking_table *t, struct table_shard *s, const struct tracked *k) {
    if (!k) return;
    s->items -= k->n;
    atomic_fetch_sub_explicit(&t->n_keys, 1, memory_order_relaxed);
    atomic_fetch_sub_explicit(&t->n_items, k->n, memory_order_relaxed);
}

struct tracked *tracking_table_take(struct tracking_table *t, struct slice key) {
    uint64_t hash = dict_hash(key);
    struct table_shard *s = shard_of(t, hash);
    pthread_mutex_lock(&s->lock);
    struct tracked *k = dict_remove(&s->keys, hash, key);
    taken(t, s, k);
    pthread_mutex_unlock(&s->lock);
    return k;
}

struct tracked *tracking_table_take_random(struct tracking_table *t) {
    unsigned from = (unsigned)rand_u64();
    struct tracked *k = NULL;
    for (unsigned i = 0; !k && i < SHARDS; i++) {
        struct table_shard *s = &t->shards[(from + i) % SHARDS];
        pthread_mutex_lock(&s->lock);
        k = dict_random(&s->keys);
        if (k) dict_remove(&s->keys, dict_hash(tracked_key(k)), tracked_key(k));
        taken(t, s, k);
        pthread_mutex_unlock(&s->lock);
    }
    return k;
}

static void grave_free(void *arg) {
    struct dict *grave = arg;
    dict_clear(grave, tracked_free);
    mem_free(grave);
}

/* FLUSHALL waits for this with everything locked: the freeing is done elsewhere. */
void tracking_table_clear(struct tracking_table *t) {
    for (int i = 0; i < SHARDS; i++) {
        struct table_shard *s = &t->shards[i];
        pthread_mutex_lock(&s->lock);
        uint64_t n = dict_size(&s->keys);
        if (n) {
            struct dict *grave = mem_alloc(sizeof *grave);
            *grave = s->keys;
            dict_init(&s->keys, &tracked_type);
            atomic_fetch_sub_explicit(&t->n_keys, n, memory_order_relaxed);
            atomic_fetch_sub_explicit(&t->n_items, s->items, memory_order_relaxed);
            s->items = 0;
            lazyfree_push(grave_free, grave, n);
        }
        pthread_mutex_unlock(&s->lock);
    }
}

uint64_t tracking_table_keys(const struct tracking_table *t) {
    return atomic_load_explicit(&((struct tracking_table *)(uintptr_t)t)->n_keys, memory_order_relaxed);
}

uint64_t tracking_table_items(const struct tracking_table *t) {
    return atomic_load_explicit(&((struct tracking_table *)(uintptr_t)t)->n_items, memory_order_relaxed);
}
