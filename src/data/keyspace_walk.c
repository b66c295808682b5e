/* Walks over keys and random picks. Place in the flow: KEYS, SCAN, RANDOMKEY, snapshots, eviction. Thread: the holder of the
 * locks named.
 *
 * A SCAN cursor is (cursor within the dict) << log2(shards) | shard. The dict's cursor is below its number of buckets, so the
 * whole stays about as small as the number of keys: clients that hold it in a double or a signed 64-bit integer are safe. Where a
 * shard ends, the cursor is the start of the next shard that has keys, and 0 after the last. */
#include "data/keyspace_priv.h"

#include "base/rand.h"

/* ---- all of a shard ---- */

static bool is_hidden(const struct shard_db *sd, const struct entry *e, int64_t now_ms) {
    return is_due(e, now_ms) || fields_all_due(sd, e, now_ms);
}

struct each_walk {
    const struct shard_db *sd;
    int64_t now_ms;
    bool (*fn)(void *arg, struct entry *e);
    void *arg;
};

static bool each_visit(void *arg, void *item) {
    const struct each_walk *w = arg;
    struct entry *e = item;
    return is_hidden(w->sd, e, w->now_ms) || w->fn(w->arg, e);
}

bool ks_each(struct keyspace *ks, int db, int shard, int64_t now_ms, bool (*fn)(void *arg, struct entry *e), void *arg) {
    KS_ASSERT_LOCKED(ks, shard);
    struct shard_db *sd = shard_db_get(ks, shard, db);
    struct each_walk w = { sd, now_ms, fn, arg };
    return !sd || dict_each(&sd->dict, each_visit, &w);
}

/* ---- SCAN ---- */

struct scan_walk {
    const struct shard_db *sd;
    int64_t now_ms;
    void (*fn)(void *arg, struct entry *e);
    void *arg;
};

static void scan_visit(void *arg, void *item) {
    const struct scan_walk *w = arg;
    struct entry *e = item;
    if (!is_hidden(w->sd, e, w->now_ms)) w->fn(w->arg, e);
}

int ks_scan_shard(const struct keyspace *ks, uint64_t cursor) {
    return (int)(cursor & (uint64_t)(ks->n_shards - 1));
}

/* Start of the first shard from `shard` on that has keys; 0 when none has. */
static uint64_t scan_start_of(const struct keyspace *ks, int db, int shard) {
    while (shard < ks->n_shards && !shard_db_size(ks, shard, db)) shard++;
    return shard < ks->n_shards ? (uint64_t)shard : 0;
}

uint64_t ks_scan(struct keyspace *ks, int db, uint64_t cursor, int64_t now_ms, void (*fn)(void *arg, struct entry *e),
                 void *arg) {
    int shard = ks_scan_shard(ks, cursor);
    KS_ASSERT_LOCKED(ks, shard);
    struct shard_db *sd = shard_db_get(ks, shard, db);
    struct scan_walk w = { sd, now_ms, fn, arg };
    uint64_t next = sd ? dict_scan(&sd->dict, cursor >> ks->shard_bits, scan_visit, &w) : 0;
    if (next) return next << ks->shard_bits | (uint64_t)shard;
    return scan_start_of(ks, db, shard + 1);
}

/* ---- random picks ---- */

/* A shard that has keys, each weighed by how many; all locked, so the sizes stand. -1 when the database is empty. */
static int random_shard(const struct keyspace *ks, int db) {
    uint64_t total = ks_size(ks, db);
    if (!total) return -1;
    uint64_t at = rand_below(total);
    int shard = 0;
    for (uint64_t n; at >= (n = shard_db_size(ks, shard, db)); shard++) at -= n;
    return shard;
}

/* Keys that are due are deleted on the way, so this ends. Where they must stay, at most so many are drawn; and of hashes whose
 * fields are all due, which may be too large to free here. */
struct entry *ks_random(struct keyspace *ks, int db, int64_t now_ms) {
    enum { TRIES_KEEPING = 100 };
    KS_ASSERT_ALL_LOCKED(ks);
    bool keep = ks_keeps(ks) != 0;
    for (int kept = 0; kept < TRIES_KEEPING;) {
        int shard = random_shard(ks, db);
        if (shard < 0) return NULL;
        struct shard_db *sd = shard_db_get(ks, shard, db);
        struct entry *e = dict_random(&sd->dict);
        if (!is_hidden(sd, e, now_ms)) return e;
        if (!keep && is_due(e, now_ms))
            expire_entry(ks, shard, sd, e, dict_hash(entry_key(e)));
        else
            kept++;
    }
    return NULL;
}

static unsigned sample_expiry(const struct expiry *x, struct entry **ret, unsigned n) {
    if (n > x->n) n = x->n;
    uint64_t at = n ? rand_below(x->n) : 0;
    for (unsigned i = 0; i < n; i++) ret[i] = x->items[(at + i) % x->n].entry;
    return n;
}

unsigned ks_sample(struct keyspace *ks, int db, int shard, bool only_volatile, struct entry **ret, unsigned n) {
    KS_ASSERT_LOCKED(ks, shard);
    struct shard_db *sd = shard_db_get(ks, shard, db);
    if (!sd) return 0;
    if (!only_volatile) {
        void *items[KS_SAMPLE_MAX];
        unsigned got = dict_sample(&sd->dict, items, n < KS_SAMPLE_MAX ? n : KS_SAMPLE_MAX);
        for (unsigned i = 0; i < got; i++) ret[i] = items[i];
        return got;
    }
    unsigned got = sample_expiry(&sd->expiry, ret, n);
    return got + sample_expiry(&sd->own, ret + got, n - got);
}

struct entry *ks_first_to_expire(struct keyspace *ks, int db, int shard) {
    KS_ASSERT_LOCKED(ks, shard);
    struct shard_db *sd = shard_db_get(ks, shard, db);
    if (!sd) return NULL;
    struct entry *e = expiry_first(&sd->expiry), *own = expiry_first(&sd->own);
    if (!e || !own) return e ? e : own;
    return entry_expire_ms(own) < entry_expire_ms(e) ? own : e;
}
