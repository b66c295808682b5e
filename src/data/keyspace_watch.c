/* Watched keys. Place in the flow: WATCH adds, whoever changes a key touches, EXEC asks. Thread: the holder of the shard's lock;
 * the `dirty` flags are atomics of the sessions' own.
 *
 * One table per shard for all databases: chains of ks_watch nodes, by (database, key). A key nobody watches costs a test for an
 * empty table.
 *
 * The rule for expiry is redis-server's (multi.c): a key that had already run out at WATCH was as good as absent, so deleting its
 * remains is no change (expired_at_watch, cleared then); one that runs out later is a change, seen by ks_watch_expired even if
 * nobody has deleted it yet. */
#include "data/keyspace_priv.h"

#include "base/alloc.h"

#define BUCKETS_MIN 16

static struct slice watch_key(const struct ks_watch *w) {
    return (struct slice){ w->key, w->key_len };
}

static struct ks_watch *watch_of(struct list *node) {
    return list_entry(node, struct ks_watch, node);
}

static void set_dirty(struct ks_watch *w) {
    atomic_store_explicit(w->dirty, true, memory_order_release);
}

static struct list *bucket_of(const struct watch_table *t, int db, struct slice key) {
    uint64_t hash = dict_hash(key) + (uint64_t)db * 0x9e3779b97f4a7c15ULL;
    return &t->buckets[hash & (t->n_buckets - 1)];
}

static struct list *buckets_new(size_t n) {
    struct list *buckets = mem_calloc(n, sizeof(*buckets));
    for (size_t i = 0; i < n; i++) list_init(&buckets[i]);
    return buckets;
}

static void table_grow(struct watch_table *t) {
    struct watch_table old = *t;
    t->n_buckets = old.n_buckets ? old.n_buckets * 2 : BUCKETS_MIN;
    t->buckets = buckets_new(t->n_buckets);
    for (size_t i = 0; i < old.n_buckets; i++) {
        list_for_each_safe(it, tmp, &old.buckets[i]) {
            const struct ks_watch *w = watch_of(it);
            list_remove(it);
            list_push_back(bucket_of(t, w->db, watch_key(w)), it);
        }
    }
    mem_free(old.buckets);
}

/* Nodes belong to the sessions, which are gone, or remove them later from no list. */
void watch_table_done(struct watch_table *t) {
    for (size_t i = 0; i < t->n_buckets; i++) {
        list_for_each_safe(it, tmp, &t->buckets[i]) list_remove(it);
    }
    mem_free(t->buckets);
    *t = (struct watch_table){ 0 };
}

void ks_watch_add(struct keyspace *ks, struct ks_watch *w, int64_t now_ms) {
    int shard = ks_shard_of(ks, watch_key(w));
    KS_ASSERT_LOCKED(ks, shard);
    struct watch_table *t = &ks->shards[shard].watches;
    if (t->n >= t->n_buckets) table_grow(t);
    const struct entry *e = shard_db_peek(shard_db_get(ks, shard, w->db), watch_key(w));
    w->expired_at_watch = e && is_due(e, now_ms);
    list_push_back(bucket_of(t, w->db, watch_key(w)), &w->node);
    t->n++;
}

void ks_watch_remove(struct keyspace *ks, struct ks_watch *w) {
    int shard = ks_shard_of(ks, watch_key(w));
    KS_ASSERT_LOCKED(ks, shard);
    if (list_empty(&w->node)) return;
    list_remove(&w->node);
    struct watch_table *t = &ks->shards[shard].watches;
    if (--t->n == 0 && t->n_buckets > BUCKETS_MIN) watch_table_done(t);
}

/* Deleting what was left of a key that had run out at WATCH changes nothing, once. Nor does a touch while it is still there. */
static void touch_one(struct ks_watch *w, struct shard_db *sd, int64_t now_ms) {
    if (!w->expired_at_watch) {
        set_dirty(w);
        return;
    }
    const struct entry *e = shard_db_peek(sd, watch_key(w));
    if (!e)
        w->expired_at_watch = false;
    else if (!is_due(e, now_ms))
        set_dirty(w);
}

void watch_touch(struct keyspace *ks, int shard, int db, struct slice key) {
    const struct shard *s = &ks->shards[shard];
    const struct watch_table *t = &s->watches;
    if (!t->n) return;
    struct shard_db *sd = shard_db_get(ks, shard, db);
    list_for_each(it, bucket_of(t, db, key)) {
        struct ks_watch *w = watch_of(it);
        if (w->db == db && slice_eq(watch_key(w), key)) touch_one(w, sd, s->now_ms);
    }
}

void ks_touch_watched(struct keyspace *ks, int db, struct slice key) {
    int shard = ks_shard_of(ks, key);
    KS_ASSERT_LOCKED(ks, shard);
    watch_touch(ks, shard, db, key);
}

bool ks_watch_expired(struct keyspace *ks, const struct ks_watch *w, int64_t now_ms) {
    int shard = ks_shard_of(ks, watch_key(w));
    KS_ASSERT_LOCKED(ks, shard);
    if (w->expired_at_watch) return false;
    const struct entry *e = shard_db_peek(shard_db_get(ks, shard, w->db), watch_key(w));
    return e && is_due(e, now_ms);
}

/* ---- whole databases ---- */

/* The watched database loses what it holds and gets `after` in its place (NULL: nothing). */
static void touch_replaced(struct ks_watch *w, struct shard_db *before, struct shard_db *after, int64_t now_ms) {
    bool was_there = shard_db_peek(before, watch_key(w));
    const struct entry *e = shard_db_peek(after, watch_key(w));
    if (!was_there && !e) return;
    bool will_be_due = e && is_due(e, now_ms);
    if (w->expired_at_watch && !e)
        w->expired_at_watch = false; /* the remains go: no change */
    else if (w->expired_at_watch && will_be_due)
        return; /* run out before and after */
    else if (!was_there && will_be_due)
        w->expired_at_watch = true; /* absent, then run out: no change */
    else
        set_dirty(w);
}

void ks_touch_watched_all(struct keyspace *ks, int db) {
    KS_ASSERT_ALL_LOCKED(ks);
    for (int shard = 0; shard < ks->n_shards; shard++) {
        const struct watch_table *t = &ks->shards[shard].watches;
        for (size_t i = 0; t->n && i < t->n_buckets; i++) {
            list_for_each(it, &t->buckets[i]) {
                struct ks_watch *w = watch_of(it);
                if (db < 0 || w->db == db) touch_replaced(w, shard_db_get(ks, shard, w->db), NULL, 0);
            }
        }
    }
}

void watch_touch_swap(struct keyspace *ks, int a, int b, int64_t now_ms) {
    for (int shard = 0; shard < ks->n_shards; shard++) {
        const struct watch_table *t = &ks->shards[shard].watches;
        struct shard_db *sd_a = shard_db_get(ks, shard, a), *sd_b = shard_db_get(ks, shard, b);
        for (size_t i = 0; t->n && i < t->n_buckets; i++) {
            list_for_each(it, &t->buckets[i]) {
                struct ks_watch *w = watch_of(it);
                if (w->db == a) touch_replaced(w, sd_a, sd_b, now_ms);
                if (w->db == b) touch_replaced(w, sd_b, sd_a, now_ms);
            }
        }
    }
}

void watch_touch_exchange(struct keyspace *ks, struct keyspace *other, int64_t now_ms) {
    for (int shard = 0; shard < ks->n_shards; shard++) {
        const struct watch_table *t = &ks->shards[shard].watches;
        for (size_t i = 0; t->n && i < t->n_buckets; i++) {
            list_for_each(it, &t->buckets[i]) {
                struct ks_watch *w = watch_of(it);
                touch_replaced(w, shard_db_get(ks, shard, w->db), shard_db_get(other, shard, w->db), now_ms);
            }
        }
    }
}
