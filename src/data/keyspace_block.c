/* Keys that clients wait for (BLPOP and its relatives). Place in the flow: a command that must wait adds its client; whatever
 * makes a key signals it; the dispatcher serves, before it releases the locks. Thread: the holder of the shard's lock.
 *
 *   shard -- table of blocked_key by (database, key) -- waiters, first come first
 *        `-- ready: those of them that were signalled, in order
 *        `-- needs: which other shards' locks its waiters take to be run again
 *
 * A key nobody waits for costs a test for an empty table.
 *
 * Invariants
 * - A ks_wait is in the lists of all its keys or of none, and that changes only under the locks of w->mask, which has the shards
 *   of all these keys. So who is about to serve it has it to himself.
 * - needs[kind].mask of a shard is the union of the masks of those who wait for keys of that shard. A set of locks is closed when
 *   it has the needs of each of its shards; with such a set everybody who waits there can be served at once. Without it
 *   serving would have to let go of the lock that makes it strict, or to take one out of order.
 * - A signal that is not served under the locks it was made under stays in the shard, for whoever locks it next. */
#include "data/keyspace_priv.h"

#include "base/alloc.h"

#define BUCKETS_MIN 16

struct blocked_key {
    struct list node;       /* in its bucket */
    struct list ready_node; /* in the shard's ready list, or in none */
    struct list waiters;    /* ks_wait_key.node */
    unsigned n_nokey;       /* waiters with on_nokey */
    bool is_in_use;         /* being served: not to be freed */
    uint64_t signal;        /* order of signals */
    int db;
    size_t key_len;
    char key[];
};

static _Atomic uint64_t signals; /* gives signals of different shards their order; a clock would not tell two apart */

static struct slice key_of(const struct blocked_key *bk) {
    return (struct slice){ bk->key, bk->key_len };
}

static struct blocked_key *key_at(struct list *node) {
    return list_entry(node, struct blocked_key, node);
}

/* ---- the table ---- */

static struct list *bucket_of(const struct block_table *t, int db, struct slice key) {
    uint64_t hash = dict_hash(key) + (uint64_t)db * 0x9e3779b97f4a7c15ULL;
    return &t->buckets[hash & (t->n_buckets - 1)];
}

static struct blocked_key *find(const struct block_table *t, int db, struct slice key) {
    if (!t->n) return NULL;
    list_for_each(it, bucket_of(t, db, key)) {
        struct blocked_key *bk = key_at(it);
        if (bk->db == db && slice_eq(key_of(bk), key)) return bk;
    }
    return NULL;
}

static void table_grow(struct block_table *t) {
    struct block_table old = *t;
    t->n_buckets = old.n_buckets ? old.n_buckets * 2 : BUCKETS_MIN;
    t->buckets = mem_calloc(t->n_buckets, sizeof(*t->buckets));
    for (size_t i = 0; i < t->n_buckets; i++) list_init(&t->buckets[i]);
    for (size_t i = 0; i < old.n_buckets; i++) {
        list_for_each_safe(it, tmp, &old.buckets[i]) {
            list_remove(it);
            list_push_back(bucket_of(t, key_at(it)->db, key_of(key_at(it))), it);
        }
    }
    mem_free(old.buckets);
}

static struct blocked_key *make(struct block_table *t, int db, struct slice key) {
    struct blocked_key *bk = find(t, db, key);
    if (bk) return bk;
    if (t->n >= t->n_buckets) table_grow(t);
    bk = mem_zalloc(sizeof(*bk) + key.len);
    list_init(&bk->node);
    list_init(&bk->ready_node);
    list_init(&bk->waiters);
    bk->db = db;
    bk->key_len = key.len;
    if (key.len) memcpy(bk->key, key.ptr, key.len);
    list_push_back(bucket_of(t, db, key), &bk->node);
    t->n++;
    counter_add(&t->n_keys, 1);
    return bk;
}

static void drop_if_unused(struct block_table *t, struct blocked_key *bk) {
    if (bk->is_in_use || !list_empty(&bk->waiters)) return;
    list_remove(&bk->node);
    list_remove(&bk->ready_node);
    mem_free(bk);
    counter_sub(&t->n_keys, 1);
    if (--t->n > 0 || t->n_buckets <= BUCKETS_MIN) return;
    mem_free(t->buckets);
    t->buckets = NULL;
    t->n_buckets = 0;
}

void block_table_init(struct block_table *t) {
    list_init(&t->ready);
    list_init(&t->left);
}

void block_table_done(struct block_table *t) {
    for (size_t i = 0; i < t->n_buckets; i++) {
        list_for_each_safe(it, tmp, &t->buckets[i]) {
            struct blocked_key *bk = key_at(it);
            list_for_each_safe(w, next, &bk->waiters) list_remove(w); /* theirs to free */
            list_remove(&bk->node);
            mem_free(bk);
        }
    }
    mem_free(t->buckets);
    mem_free(t->needs);
}

/* ---- needs ---- */

static void need_one_more(struct block_needs *n, uint64_t mask) {
    for (uint64_t m = mask; m; m &= m - 1) n->count[__builtin_ctzll(m)]++;
    n->mask |= mask;
}

static void need_one_less(struct block_needs *n, uint64_t mask) {
    for (uint64_t m = mask; m; m &= m - 1)
        if (--n->count[__builtin_ctzll(m)] == 0) n->mask &= ~(m & -m);
}

static void needs_change(struct keyspace *ks, int shard, const struct ks_wait *w,
                         void (*change)(struct block_needs *n, uint64_t mask)) {
    struct shard *s = &ks->shards[shard];
    uint64_t others = w->mask & ~(1ULL << shard);
    if (!others) return;
    if (!s->blocks.needs) s->blocks.needs = mem_calloc(2, sizeof(*s->blocks.needs));
    change(&s->blocks.needs[0], others);
    if (w->on_nokey) change(&s->blocks.needs[1], others);
    s->needs = s->blocks.needs[0].mask;
    s->needs_nokey = s->blocks.needs[1].mask;
}

uint64_t ks_wait_needs(const struct keyspace *ks, uint64_t locked, bool creates) {
    uint64_t needs = 0;
    for (uint64_t m = locked; m; m &= m - 1) {
        const struct shard *s = &ks->shards[__builtin_ctzll(m)];
        needs |= creates ? s->needs : s->needs_nokey;
    }
    return needs & ~locked;
}

/* ---- waiting ---- */

/* Shards of the keys waited for: w->mask may have more (a destination). */
static uint64_t waits_in(const struct keyspace *ks, const struct ks_wait *w) {
    uint64_t mask = 0;
    for (int i = 0; i < w->n_keys; i++) mask |= 1ULL << ks_shard_of(ks, w->keys[i].key);
    return mask;
}

/* A key named twice is waited for once: its last waiter is then this one. */
static void wait_for_key(struct keyspace *ks, struct ks_wait *w, struct ks_wait_key *k) {
    int shard = ks_shard_of(ks, k->key);
    KS_ASSERT_LOCKED(ks, shard);
    struct block_table *t = &ks->shards[shard].blocks;
    struct blocked_key *bk = make(t, w->db, k->key);
    list_init(&k->node);
    k->at = NULL;
    if (!list_empty(&bk->waiters) && list_entry(bk->waiters.prev, struct ks_wait_key, node)->wait == w) return;
    k->wait = w;
    k->at = bk;
    list_push_back(&bk->waiters, &k->node);
    if (w->on_nokey && bk->n_nokey++ == 0) counter_add(&t->n_nokey_keys, 1);
}

void ks_wait_add(struct keyspace *ks, struct ks_wait *w) {
    for (int i = 0; i < w->n_keys; i++) wait_for_key(ks, w, &w->keys[i]);
    for (uint64_t m = waits_in(ks, w); m; m &= m - 1) needs_change(ks, __builtin_ctzll(m), w, need_one_more);
    w->is_waiting = true;
}

static void leave_key(struct keyspace *ks, struct ks_wait *w, struct ks_wait_key *k) {
    struct blocked_key *bk = k->at;
    if (!bk) return;
    struct block_table *t = &ks->shards[ks_shard_of(ks, k->key)].blocks;
    list_remove(&k->node);
    k->at = NULL;
    if (w->on_nokey && --bk->n_nokey == 0) counter_sub(&t->n_nokey_keys, 1);
    drop_if_unused(t, bk);
}

void ks_wait_remove(struct keyspace *ks, struct ks_wait *w) {
    if (!w->is_waiting) return;
    uint64_t mask = waits_in(ks, w);
    for (uint64_t m = mask; m; m &= m - 1) KS_ASSERT_LOCKED(ks, __builtin_ctzll(m));
    for (int i = 0; i < w->n_keys; i++) leave_key(ks, w, &w->keys[i]);
    for (uint64_t m = mask; m; m &= m - 1) needs_change(ks, __builtin_ctzll(m), w, need_one_less);
    w->is_waiting = false;
}

/* ---- signals ---- */

static void signal_key(struct shard *s, struct blocked_key *bk) {
    if (!list_empty(&bk->ready_node)) return;
    s->is_ready = true;
    bk->signal = atomic_fetch_add_explicit(&signals, 1, memory_order_relaxed);
    list_push_back(&s->blocks.ready, &bk->ready_node);
}

void block_signal(struct keyspace *ks, int shard, int db, struct slice key, bool is_gone) {
    struct shard *s = &ks->shards[shard];
    struct blocked_key *bk = find(&s->blocks, db, key);
    if (bk && (!is_gone || bk->n_nokey)) signal_key(s, bk);
}

void ks_signal_ready(struct keyspace *ks, int db, struct slice key) {
    int shard = ks_shard_of(ks, key);
    KS_ASSERT_LOCKED(ks, shard);
    if (!block_none(&ks->shards[shard])) block_signal(ks, shard, db, key, false);
}

void block_signal_db(struct keyspace *ks, int shard, int db, bool nokey_only) {
    struct shard *s = &ks->shards[shard];
    struct block_table *t = &s->blocks;
    for (size_t i = 0; t->n && i < t->n_buckets; i++) {
        list_for_each(it, &t->buckets[i]) {
            struct blocked_key *bk = key_at(it);
            if ((db < 0 || bk->db == db) && (bk->n_nokey || !nokey_only)) signal_key(s, bk);
        }
    }
}

/* ---- serving ---- */

bool ks_has_ready(const struct keyspace *ks, uint64_t locked) {
    for (uint64_t m = locked; m; m &= m - 1)
        if (!list_empty(&ks->shards[__builtin_ctzll(m)].blocks.ready)) return true;
    return false;
}

/* The one signalled first, out of the ready list of *ret_shard. NULL: none is left. */
static struct blocked_key *take_ready(struct keyspace *ks, uint64_t locked, int *ret_shard) {
    struct blocked_key *first = NULL;
    for (uint64_t m = locked; m; m &= m - 1) {
        const struct list *ready = &ks->shards[__builtin_ctzll(m)].blocks.ready;
        if (list_empty(ready)) continue;
        struct blocked_key *bk = list_entry(ready->next, struct blocked_key, ready_node);
        if (first && first->signal < bk->signal) continue;
        first = bk;
        *ret_shard = __builtin_ctzll(m);
    }
    if (first) list_remove(&first->ready_node);
    return first;
}

/* Whoever waits for the key when it starts is looked at once. False: somebody's other shards are not locked. */
static bool serve_key(struct keyspace *ks, int shard, struct blocked_key *bk, uint64_t locked, int64_t now_ms, ks_serve_fn *fn,
                      void *arg) {
    bool is_done = true;
    list_for_each_safe(it, next, &bk->waiters) {
        struct ks_wait *w = list_entry(it, struct ks_wait_key, node)->wait;
        const struct entry *e = shard_db_peek(shard_db_get(ks, shard, bk->db), key_of(bk));
        bool is_there = e && !is_due(e, now_ms);
        if (!is_there && !bk->n_nokey) break;
        if (!w->on_nokey && !(is_there && entry_obj(e)->type == w->type)) continue;
        if (w->mask & ~locked)
            is_done = false;
        else
            fn(arg, w);
    }
    return is_done;
}

void ks_serve(struct keyspace *ks, uint64_t locked, int64_t now_ms, ks_serve_fn *fn, void *arg) {
    int shard = 0;
    for (struct blocked_key *bk; (bk = take_ready(ks, locked, &shard));) {
        struct block_table *t = &ks->shards[shard].blocks;
        bk->is_in_use = true;
        bool is_done = serve_key(ks, shard, bk, locked, now_ms, fn, arg);
        bk->is_in_use = false;
        if (!is_done && list_empty(&bk->ready_node))
            list_push_back(&t->left, &bk->ready_node);
        else
            drop_if_unused(t, bk);
    }
    for (uint64_t m = locked; m; m &= m - 1) {
        struct shard *s = &ks->shards[__builtin_ctzll(m)];
        list_move_all(&s->blocks.ready, &s->blocks.left);
        s->is_ready = !list_empty(&s->blocks.ready);
    }
}

void ks_blocked_keys(const struct keyspace *ks, uint64_t *ret_keys, uint64_t *ret_nokey) {
    *ret_keys = *ret_nokey = 0;
    for (int i = 0; i < ks->n_shards; i++) {
        *ret_keys += atomic_load_explicit(&ks->shards[i].blocks.n_keys, memory_order_relaxed);
        *ret_nokey += atomic_load_explicit(&ks->shards[i].blocks.n_nokey_keys, memory_order_relaxed);
    }
}
