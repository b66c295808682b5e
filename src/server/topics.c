/*
 * Topics. See topics.h. Place in the flow: SUBSCRIBE adds, PUBLISH asks, PUBSUB lists.
 *
 * Channels are spread over SHARDS tables by their hash, each with a lock held for one look-up, so that publishers to different
 * channels do not meet. Patterns have one list, which every publisher walks: it holds the lock for reading. There the table is
 * for subscribing only (a look-up in a dict may move entries, so it is no reading).
 */
#include "server/topics.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <string.h>

#include "base/alloc.h"
#include "base/list.h"
#include "base/str.h"
#include "data/dict.h"

#define SHARDS 64

struct topic {        /* lives while it has either threads or listeners; is seen while it has listeners */
    struct list node; /* patterns with listeners: in topics.order */
    uint64_t threads, listeners;
    size_t len;
    char name[];
};

struct topic_shard {
    _Alignas(64) pthread_rwlock_t lock;
    struct dict names;
};

struct topics {
    bool patterns;
    int n_shards;
    _Atomic uint64_t n; /* those that have listeners */
    struct list order;  /* patterns; guarded by the lock of shard 0, the only one */
    struct dict_type type;
    struct topic_shard *shards;
    void *shards_mem;
};

static struct slice topic_name(const void *item) {
    const struct topic *t = item;
    return (struct slice){ t->name, t->len };
}

struct topics *topics_new(bool patterns) {
    struct topics *t = mem_zalloc(sizeof *t);
    t->patterns = patterns;
    t->n_shards = patterns ? 1 : SHARDS;
    t->type.key = topic_name;
    list_init(&t->order);
    t->shards_mem = mem_zalloc(sizeof(struct topic_shard) * (size_t)t->n_shards + 63);
    t->shards = (struct topic_shard *)(((uintptr_t)t->shards_mem + 63) & ~(uintptr_t)63);
    for (int i = 0; i < t->n_shards; i++) {
        pthread_rwlock_init(&t->shards[i].lock, NULL);
        dict_init(&t->shards[i].names, &t->type);
    }
    return t;
}

struct topics *topics_free(struct topics *t) {
    if (!t) return NULL;
    for (int i = 0; i < t->n_shards; i++) {
        dict_clear(&t->shards[i].names, mem_free);
        pthread_rwlock_destroy(&t->shards[i].lock);
    }
    mem_free(t->shards_mem);
    mem_free(t);
    return NULL;
}

static struct topic_shard *shard_of(struct topics *t, uint64_t hash) {
    return &t->shards[(hash >> 32) % (unsigned)t->n_shards];
}

static struct topic *topic_find_or_make(struct topic_shard *s, uint64_t hash, struct slice name) {
    struct topic *one = dict_find(&s->names, hash, name);
    if (one) return one;
    one = mem_zalloc(sizeof *one + name.len);
    one->len = name.len;
    if (name.len) memcpy(one->name, name.ptr, name.len);
    list_init(&one->node);
    dict_insert(&s->names, hash, one);
    return one;
}

static void count_more(struct topics *t, struct topic *one) {
    if (one->listeners++) return;
    if (t->patterns) list_push_back(&t->order, &one->node);
    atomic_fetch_add_explicit(&t->n, 1, memory_order_relaxed);
}

static void count_less(struct topics *t, struct topic *one) {
    if (--one->listeners) return;
    list_remove(&one->node);
    atomic_fetch_sub_explicit(&t->n, 1, memory_order_relaxed);
}

static void drop_unused(struct topic_shard *s, uint64_t hash, struct slice name, struct topic *one) {
    if (one->listeners || one->threads) return;
    dict_remove(&s->names, hash, name);
    mem_free(one);
}

void topics_add(struct topics *t, struct slice name, int thread, bool is_first) {
    uint64_t hash = dict_hash(name);
    struct topic_shard *s = shard_of(t, hash);
    pthread_rwlock_wrlock(&s->lock);
    struct topic *one = topic_find_or_make(s, hash, name);
    count_more(t, one);
    if (is_first) one->threads |= 1ULL << thread;
    pthread_rwlock_unlock(&s->lock);
}

void topics_remove(struct topics *t, struct slice name, int thread, bool is_last) {
    uint64_t hash = dict_hash(name);
    struct topic_shard *s = shard_of(t, hash);
    pthread_rwlock_wrlock(&s->lock);
    struct topic *one = dict_find(&s->names, hash, name);
    if (one) {
        if (is_last) one->threads &= ~(1ULL << thread);
        count_less(t, one);
        drop_unused(s, hash, name, one);
    }
    pthread_rwlock_unlock(&s->lock);
}

void topics_discount(struct topics *t, struct slice name) {
    uint64_t hash = dict_hash(name);
    struct topic_shard *s = shard_of(t, hash);
    pthread_rwlock_wrlock(&s->lock);
    struct topic *one = dict_find(&s->names, hash, name);
    if (one) count_less(t, one);
    pthread_rwlock_unlock(&s->lock);
}

void topics_mark(struct topics *t, struct slice name, int thread, bool on) {
    uint64_t hash = dict_hash(name), bit = 1ULL << thread;
    struct topic_shard *s = shard_of(t, hash);
    pthread_rwlock_wrlock(&s->lock);
    struct topic *one = topic_find_or_make(s, hash, name);
    one->threads = on ? one->threads | bit : one->threads & ~bit;
    drop_unused(s, hash, name, one);
    pthread_rwlock_unlock(&s->lock);
}

uint64_t topics_find(struct topics *t, struct slice name, uint64_t *ret_threads) {
    uint64_t hash = dict_hash(name);
    struct topic_shard *s = shard_of(t, hash);
    pthread_rwlock_wrlock(&s->lock); /* a look-up may move entries */
    const struct topic *one = dict_find(&s->names, hash, name);
    uint64_t n = one ? one->listeners : 0;
    if (ret_threads) *ret_threads = n ? one->threads : 0;
    pthread_rwlock_unlock(&s->lock);
    return n;
}

uint64_t topics_count(const struct topics *t) {
    return atomic_load_explicit(&((struct topics *)(uintptr_t)t)->n, memory_order_relaxed);
}

void topics_match(struct topics *t, struct slice channel,
                  void (*fn)(void *arg, struct slice pattern, uint64_t listeners, uint64_t threads), void *arg) {
    if (topics_count(t) == 0) return;
    pthread_rwlock_rdlock(&t->shards[0].lock);
    list_for_each(n, &t->order) {
        const struct topic *one = list_entry(n, struct topic, node);
        if (str_glob(topic_name(one), channel, false)) fn(arg, topic_name(one), one->listeners, one->threads);
    }
    pthread_rwlock_unlock(&t->shards[0].lock);
}

struct each_arg {
    struct slice pattern;
    void (*fn)(void *arg, struct slice name);
    void *arg;
};

static bool each_topic(void *arg, void *item) {
    const struct each_arg *a = arg;
    if (((const struct topic *)item)->listeners == 0) return true;
    if (!a->pattern.ptr || str_glob(a->pattern, topic_name(item), false)) a->fn(a->arg, topic_name(item));
    return true;
}

void topics_each(struct topics *t, struct slice pattern, void (*fn)(void *arg, struct slice name), void *arg) {
    struct each_arg a = { pattern, fn, arg };
    for (int i = 0; i < t->n_shards; i++) {
        pthread_rwlock_wrlock(&t->shards[i].lock);
        dict_each(&t->shards[i].names, each_topic, &a);
        pthread_rwlock_unlock(&t->shards[i].lock);
    }
}
