/* Whole databases: sizes, FLUSHDB, SWAPDB. Place in the flow: DBSIZE, INFO, FLUSHALL, SWAPDB. Threads: sizes are read by anyone
 * without a lock; flush and swap hold all locks. */
#include "data/keyspace_priv.h"

#include <assert.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "data/lazyfree.h"

/* ---- sizes ---- */

uint64_t ks_size(const struct keyspace *ks, int db) {
    uint64_t n = 0;
    for (int i = 0; i < ks->n_shards; i++) n += shard_db_size(ks, i, db);
    return n;
}

uint64_t ks_shard_size(const struct keyspace *ks, int db, int shard) {
    return shard_db_size(ks, shard, db);
}

uint64_t ks_expires(const struct keyspace *ks, int db) {
    uint64_t n = 0;
    for (int i = 0; i < ks->n_shards; i++) {
        const struct shard_db *sd = shard_db_get(ks, i, db);
        if (sd) n += atomic_load_explicit(&sd->n_expires, memory_order_relaxed);
    }
    return n;
}

/* The mean is published as one number, not as sum and count: read apart, those could be off by a key and the result by years. */
int64_t ks_avg_ttl_ms(struct keyspace *ks, int db, int64_t now_ms) {
    double sum = 0, n = 0;
    for (int i = 0; i < ks->n_shards; i++) {
        const struct shard_db *sd = shard_db_get(ks, i, db);
        if (!sd) continue;
        double count = (double)atomic_load_explicit(&sd->n_expires, memory_order_relaxed);
        sum += count * (double)(atomic_load_explicit(&sd->mean_expire_ms, memory_order_relaxed) - now_ms);
        n += count;
    }
    return n > 0 && sum > 0 ? (int64_t)(sum / n) : 0;
}

size_t ks_overhead_bytes(const struct keyspace *ks, int db) {
    size_t bytes = 0;
    for (int i = 0; i < ks->n_shards; i++) {
        const struct shard_db *sd = shard_db_get(ks, i, db);
        if (sd) bytes += sizeof(*sd) + atomic_load_explicit(&sd->table_bytes, memory_order_relaxed);
    }
    return bytes;
}

void ks_table_stats(const struct keyspace *ks, int db, int table, struct dict_stats *ret) {
    memset(ret, 0, sizeof *ret);
    for (int i = 0; i < ks->n_shards; i++) {
        const struct shard_db *sd = shard_db_get(ks, i, db);
        if (sd) dict_stats_add(&sd->dict, table, ret);
    }
}

/* ---- flush ---- */

struct grave {
    struct dict dict;
    struct expiry expiry, own;
};

static void grave_free(void *arg) {
    struct grave *grave = arg;
    expiry_clear(&grave->expiry); /* points to entries, owns none */
    expiry_clear(&grave->own);
    dict_clear(&grave->dict, entry_free);
    mem_free(grave);
}

static uint64_t flush_db(struct keyspace *ks, int shard, int db, bool async) {
    struct shard_db *sd = shard_db_get(ks, shard, db);
    if (!sd) return 0;
    uint64_t n = dict_size(&sd->dict);
    if (!block_none(&ks->shards[shard])) block_signal_db(ks, shard, db, true);
    timeheap_clear(&sd->fields);
    if (n && async) {
        struct grave *grave = mem_alloc(sizeof(*grave));
        *grave = (struct grave){ sd->dict, sd->expiry, sd->own };
        dict_init(&sd->dict, &ks->dict_type);
        sd->expiry = sd->own = (struct expiry){ 0 };
        lazyfree_push(grave_free, grave, n);
    } else {
        expiry_clear(&sd->expiry);
        expiry_clear(&sd->own);
        dict_clear(&sd->dict, entry_free);
    }
    shard_db_publish(sd);
    atomic_store_explicit(&sd->mean_expire_ms, 0, memory_order_relaxed);
    return n;
}

uint64_t ks_flush(struct keyspace *ks, int db, bool async) {
    KS_ASSERT_ALL_LOCKED(ks);
    uint64_t n = 0;
    for (int shard = 0; shard < ks->n_shards; shard++) {
        if (db >= 0) {
            n += flush_db(ks, shard, db, async);
            continue;
        }
        for (const struct shard_db *sd = ks->shards[shard].all_dbs; sd; sd = sd->next) n += flush_db(ks, shard, sd->db, async);
    }
    return n;
}

/* ---- swap ---- */

void ks_swap(struct keyspace *ks, int a, int b) {
    KS_ASSERT_ALL_LOCKED(ks);
    if (a == b) return;
    watch_touch_swap(ks, a, b, clock_wall_ms());
    for (int i = 0; i < ks->n_shards; i++) {
        struct shard_db *was_a = shard_db_get(ks, i, a), *was_b = shard_db_get(ks, i, b);
        if (was_a) was_a->db = b;
        if (was_b) was_b->db = a;
        atomic_store_explicit(&ks->shards[i].dbs[a], was_b, memory_order_release);
        atomic_store_explicit(&ks->shards[i].dbs[b], was_a, memory_order_release);
        block_signal_db(ks, i, a, false);
        block_signal_db(ks, i, b, false);
    }
}

/* The structures stay where they are, since readers without a lock hold pointers to them: what they hold is exchanged. */
static void exchange_db(struct keyspace *ks, struct keyspace *other, int shard, int db) {
    struct shard_db *a = shard_db_get(ks, shard, db), *b = shard_db_get(other, shard, db);
    if (!a && !b) return;
    a = shard_db_make(ks, shard, db);
    b = shard_db_make(other, shard, db);
    struct shard_db was = { .dict = a->dict, .expiry = a->expiry, .own = a->own, .fields = a->fields };
    int64_t mean = atomic_load_explicit(&a->mean_expire_ms, memory_order_relaxed);
    a->dict = b->dict;
    a->expiry = b->expiry;
    a->own = b->own;
    a->fields = b->fields;
    b->dict = was.dict;
    b->expiry = was.expiry;
    b->own = was.own;
    b->fields = was.fields;
    a->dict.type = &ks->dict_type;
    b->dict.type = &other->dict_type;
    atomic_store_explicit(&a->mean_expire_ms, atomic_load_explicit(&b->mean_expire_ms, memory_order_relaxed),
                          memory_order_relaxed);
    atomic_store_explicit(&b->mean_expire_ms, mean, memory_order_relaxed);
    shard_db_publish(a);
    shard_db_publish(b);
}

void ks_exchange(struct keyspace *ks, struct keyspace *other) {
    KS_ASSERT_ALL_LOCKED(ks);
    KS_ASSERT_ALL_LOCKED(other);
    assert(ks->n_shards == other->n_shards && ks->n_dbs == other->n_dbs);
    watch_touch_exchange(ks, other, clock_wall_ms());
    for (int i = 0; i < ks->n_shards; i++) {
        for (int db = 0; db < ks->n_dbs; db++) exchange_db(ks, other, i, db);
        block_signal_db(ks, i, -1, false);
    }
}
