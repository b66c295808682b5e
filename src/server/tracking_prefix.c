/*
 * Prefixes that BCAST clients listen to. Place in the flow: CLIENT TRACKING adds, a changed key asks whether any prefix matches,
 * the end of a turn (tracking_broadcast) walks them all. One lock for everything: changes are rare, readers share it.
 */
#include <pthread.h>
#include <stddef.h>
#include <string.h>

#include "base/alloc.h"
#include "data/dict.h"
#include "server/tracking.h"

struct prefix {
    struct list node, members;
    size_t len;
    char text[];
};

struct membership {
    struct list in_prefix, in_tracker;
    struct prefix *prefix;
    struct tracker *who;
};

struct prefixes {
    pthread_rwlock_t lock;
    struct dict by_text; /* look-ups move entries: under the lock for writing */
    struct list all;
    _Atomic uint64_t n;
};

static struct slice prefix_text(const void *item) {
    const struct prefix *p = item;
    return (struct slice){ p->text, p->len };
}

static struct dict_type prefix_type = { .key = prefix_text };

struct prefixes *prefixes_new(void) {
    struct prefixes *p = mem_zalloc(sizeof *p);
    pthread_rwlock_init(&p->lock, NULL);
    dict_init(&p->by_text, &prefix_type);
    list_init(&p->all);
    return p;
}

struct prefixes *prefixes_free(struct prefixes *p) {
    if (!p) return NULL;
    dict_clear(&p->by_text, mem_free);
    pthread_rwlock_destroy(&p->lock);
    mem_free(p);
    return NULL;
}

uint64_t prefixes_count(const struct prefixes *p) {
    return atomic_load_explicit(&((struct prefixes *)(uintptr_t)p)->n, memory_order_relaxed);
}

static struct prefix *prefix_make(struct prefixes *p, uint64_t hash, struct slice text) {
    struct prefix *one = mem_zalloc(sizeof *one + text.len);
    one->len = text.len;
    if (text.len) memcpy(one->text, text.ptr, text.len);
    list_init(&one->members);
    list_push_back(&p->all, &one->node);
    dict_insert(&p->by_text, hash, one);
    atomic_fetch_add_explicit(&p->n, 1, memory_order_relaxed);
    return one;
}

static bool is_member(const struct tracker *who, const struct prefix *one) {
    list_for_each(n, &who->prefixes) if (list_entry(n, struct membership, in_tracker)->prefix == one) return true;
    return false;
}

/* A tracker's own prefixes do not overlap, so it can be a member twice only of the empty one, alone. */
void prefixes_add(struct prefixes *p, struct slice text, struct tracker *who) {
    uint64_t hash = dict_hash(text);
    pthread_rwlock_wrlock(&p->lock);
    struct prefix *one = dict_find(&p->by_text, hash, text);
    if (!one) one = prefix_make(p, hash, text);
    if (text.len || !is_member(who, one)) {
        struct membership *m = mem_zalloc(sizeof *m);
        m->prefix = one;
        m->who = who;
        list_push_back(&one->members, &m->in_prefix);
        list_push_back(&who->prefixes, &m->in_tracker);
    }
    pthread_rwlock_unlock(&p->lock);
}

void prefixes_remove_all(struct prefixes *p, struct tracker *who) {
    pthread_rwlock_wrlock(&p->lock);
    list_for_each_safe(n, tmp, &who->prefixes) {
        struct membership *m = list_entry(n, struct membership, in_tracker);
        struct prefix *one = m->prefix;
        list_remove(&m->in_prefix);
        list_remove(&m->in_tracker);
        mem_free(m);
        if (!list_empty(&one->members)) continue;
        dict_remove(&p->by_text, dict_hash(prefix_text(one)), prefix_text(one));
        list_remove(&one->node);
        mem_free(one);
        atomic_fetch_sub_explicit(&p->n, 1, memory_order_relaxed);
    }
    pthread_rwlock_unlock(&p->lock);
}

void prefixes_of(struct prefixes *p, struct tracker *who, void (*fn)(void *arg, struct slice text), void *arg) {
    pthread_rwlock_rdlock(&p->lock);
    list_for_each(n, &who->prefixes) fn(arg, prefix_text(list_entry(n, struct membership, in_tracker)->prefix));
    pthread_rwlock_unlock(&p->lock);
}

bool prefixes_match(struct prefixes *p, struct slice key) {
    bool match = false;
    pthread_rwlock_rdlock(&p->lock);
    list_for_each(n, &p->all) {
        const struct prefix *one = list_entry(n, struct prefix, node);
        match = one->len <= key.len && (one->len == 0 || memcmp(one->text, key.ptr, one->len) == 0);
        if (match) break;
    }
    pthread_rwlock_unlock(&p->lock);
    return match;
}

void prefixes_each(struct prefixes *p, void (*begin)(void *arg, struct slice text), void (*fn)(void *arg, struct tracker *who),
                   void (*end)(void *arg), void *arg) {
    pthread_rwlock_rdlock(&p->lock);
    list_for_each(n, &p->all) {
        const struct prefix *one = list_entry(n, struct prefix, node);
        begin(arg, prefix_text(one));
        list_for_each(m, &one->members) fn(arg, list_entry(m, struct membership, in_prefix)->who);
        end(arg);
    }
    pthread_rwlock_unlock(&p->lock);
}
