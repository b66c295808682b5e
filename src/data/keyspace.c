/* The keyspace: finding, setting, deleting and expiring keys. Place in the flow: commands call it with their shards locked by the
 * dispatcher. Thread: the holder of the shard's lock.
 *
 * The other parts: keyspace_shard.c (locks, statistics, cron), keyspace_walk.c (SCAN, KEYS, RANDOMKEY, sampling), keyspace_db.c
 * (whole databases), keyspace_watch.c (WATCH), entry.c, expiry.c, dict.c.
 *
 * States of a key: live -> due (its time has passed; nobody sees it any more) -> deleted, at the next ks_find or by the expire
 * cycle, whichever comes first. Both ways end in expire_entry. */
#include "data/keyspace_priv.h"

#include <assert.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/hash.h"
#include "data/hash.h"

#define PREFETCH_MIN_ONE (64u << 10) /* the same for the keys of one command, whose hashes are there anyway */
#define OWN_MAX 16384                /* times of its own that a replica keeps, for each database of each shard */
#define PREFETCH_MIN (8u << 20) /* bytes of a database's tables: what may be in a cache anyway is not worth the instructions */

/* ---- making and freeing ---- */

static int log2_of(int n) {
    return __builtin_ctz((unsigned)n);
}

static void shard_init(struct shard *s, int n_dbs) {
    pthread_mutexattr_t attr;
    pthread_mutexattr_init(&attr);
    pthread_mutexattr_settype(&attr, PTHREAD_MUTEX_ADAPTIVE_NP);
    pthread_mutex_init(&s->lock, &attr);
    pthread_mutexattr_destroy(&attr);
    s->dbs = mem_calloc((size_t)n_dbs, sizeof(*s->dbs));
    block_table_init(&s->blocks);
}

struct keyspace *ks_new(const struct ks_opts *opts) {
    assert(opts->n_dbs > 0);
    assert(opts->n_shards > 0 && opts->n_shards <= KS_MAX_SHARDS && (opts->n_shards & (opts->n_shards - 1)) == 0);
    struct keyspace *ks = mem_zalloc(sizeof(*ks));
    ks->n_dbs = opts->n_dbs;
    ks->n_shards = opts->n_shards;
    ks->one_thread = opts->one_thread;
    ks->shard_bits = log2_of(opts->n_shards);
    ks->hooks = opts->hooks;
    ks->dict_type.key = entry_key_of;
    atomic_init(&ks->active_expire, true);
    ks->shards_mem = mem_zalloc(sizeof(struct shard) * (size_t)opts->n_shards + CACHE_LINE - 1);
    ks->shards = (struct shard *)(((uintptr_t)ks->shards_mem + CACHE_LINE - 1) & ~(uintptr_t)(CACHE_LINE - 1));
    for (int i = 0; i < ks->n_shards; i++) shard_init(&ks->shards[i], ks->n_dbs);
    return ks;
}

static void shard_done(struct shard *s) {
    for (struct shard_db *sd = s->all_dbs, *next; sd; sd = next) {
        next = sd->next;
        expiry_clear(&sd->expiry);
        expiry_clear(&sd->own);
        timeheap_clear(&sd->fields);
        dict_clear(&sd->dict, entry_free);
        mem_free(sd);
    }
    mem_free(s->dbs);
    watch_table_done(&s->watches);
    block_table_done(&s->blocks);
    pthread_mutex_destroy(&s->lock);
}

struct keyspace *ks_free(struct keyspace *ks) {
    if (!ks) return NULL;
    for (int i = 0; i < ks->n_shards; i++) shard_done(&ks->shards[i]);
    mem_free(ks->shards_mem);
    mem_free(ks);
    return NULL;
}

int ks_n_dbs(const struct keyspace *ks) {
    return ks->n_dbs;
}

int ks_n_shards(const struct keyspace *ks) {
    return ks->n_shards;
}

/* Slot and hash of a key are asked for two or three times by a command. */
static __thread struct ks_hint hint;
/* Of a command with many keys, which asks for one after the other: the one it is likely to come to next. */
static __thread struct {
    int n, next;
    struct ks_hint hint[KS_HINTS];
} many;

static bool is_of(const struct ks_hint *h, struct slice key) {
    return key.ptr == h->key.ptr && key.len == h->key.len && key.ptr;
}

/* MSETNX goes through its keys twice: after the last one the first may come again. */
static bool take_next(struct slice key) {
    if (many.next == many.n) many.next = 0;
    if (!many.n || !is_of(&many.hint[many.next], key)) return false;
    hint = many.hint[many.next++];
    return true;
}

static bool is_hinted(struct slice key) {
    return is_of(&hint, key) || take_next(key);
}

int ks_hint(const struct keyspace *ks, struct slice key) {
    if (!is_hinted(key)) hint = (struct ks_hint){ .key = key, .slot = hash_slot(key.ptr, key.len) };
    return (int)(hint.slot & (unsigned)(ks->n_shards - 1));
}

void ks_hint_make(struct ks_hint *ret, struct slice key) {
    *ret = (struct ks_hint){ .key = key, .slot = hash_slot(key.ptr, key.len), .hashed = true, .hash = dict_hash(key) };
}

void ks_use_hint(const struct ks_hint *h) {
    hint = *h;
}

void ks_no_hint(void) {
    hint.key.ptr = NULL;
    many.n = many.next = 0;
}

int ks_shard_of(const struct keyspace *ks, struct slice key) {
    return (int)((is_hinted(key) ? hint.slot : hash_slot(key.ptr, key.len)) & (unsigned)(ks->n_shards - 1));
}

static uint64_t key_hash(struct slice key) {
    if (!is_hinted(key)) return dict_hash(key);
    if (!hint.hashed) hint.hash = dict_hash(key);
    hint.hashed = true;
    return hint.hash;
}

/* ---- one database of one shard ---- */

struct shard_db *shard_db_make(struct keyspace *ks, int shard, int db) {
    struct shard_db *sd = shard_db_get(ks, shard, db);
    if (sd) return sd;
    struct shard *s = &ks->shards[shard];
    sd = mem_zalloc(sizeof(*sd));
    dict_init(&sd->dict, &ks->dict_type);
    sd->db = db;
    sd->next = s->all_dbs;
    s->all_dbs = sd;
    atomic_store_explicit(&s->dbs[db], sd, memory_order_release);
    return sd;
}

void shard_db_publish(struct shard_db *sd) {
    atomic_store_explicit(&sd->n_keys, dict_size(&sd->dict), memory_order_relaxed);
    atomic_store_explicit(&sd->n_expires, sd->expiry.n + sd->own.n, memory_order_relaxed);
    atomic_store_explicit(&sd->table_bytes,
                          dict_mem(&sd->dict) + expiry_mem(&sd->expiry) + expiry_mem(&sd->own) + timeheap_mem(&sd->fields),
                          memory_order_relaxed);
}

static int64_t mean_of(const struct shard_db *sd) {
    if (!sd->own.n) return expiry_mean_ms(&sd->expiry);
    if (!sd->expiry.n) return expiry_mean_ms(&sd->own);
    int64_t foreign = expiry_mean_ms(&sd->expiry), own = expiry_mean_ms(&sd->own);
    return foreign + (int64_t)((double)(own - foreign) * sd->own.n / ((double)sd->own.n + sd->expiry.n));
}

/* As shard_db_publish, where times changed: this one divides. */
static void set_expire_in(struct expiry *x, struct shard_db *sd, struct entry *e, int64_t when_ms) {
    struct expiry *was = expiry_of(sd, e);
    if (e->ttl && was != x) expiry_set(was, e, KS_NO_EXPIRE);
    expiry_set(x, e, when_ms);
    if (e->ttl) ttl_at(e->ttl)->is_own = x == &sd->own;
    atomic_store_explicit(&sd->mean_expire_ms, mean_of(sd), memory_order_relaxed);
    shard_db_publish(sd);
}

static void shard_db_set_expire(struct shard_db *sd, struct entry *e, int64_t when_ms) {
    set_expire_in(&sd->expiry, sd, e, when_ms);
}

struct entry *shard_db_peek(struct shard_db *sd, struct slice key) {
    return sd ? dict_find(&sd->dict, key_hash(key), key) : NULL;
}

void shard_db_unlink(struct shard_db *sd, struct entry *e, uint64_t hash) {
    fields_detach(sd, e);
    struct entry *removed = dict_remove(&sd->dict, hash, entry_key(e));
    assert(removed == e);
    (void)removed;
    if (e->ttl)
        shard_db_set_expire(sd, e, KS_NO_EXPIRE);
    else
        shard_db_publish(sd);
}

void expire_entry(struct keyspace *ks, int shard, struct shard_db *sd, struct entry *e, uint64_t hash) {
    shard_db_unlink(sd, e, hash);
    counter_add(&ks->shards[shard].expired, 1);
    struct slice key = entry_key(e);
    watch_touch(ks, shard, sd->db, key);
    if (!block_none(&ks->shards[shard])) block_signal(ks, shard, sd->db, key, true);
    if (ks->hooks.expired) ks->hooks.expired(ks->hooks.arg, sd->db, key);
    entry_free_lazy(e);
}

/* ---- keys ---- */

static void count_lookup(struct shard *s, bool is_hit, unsigned flags) {
    if (flags & (KS_FIND_NO_STATS | KS_FIND_WRITE)) return;
    counter_add(is_hit ? &s->hits : &s->misses, 1);
}

/* A forked child shares our pages: writing clocks would copy them all. */
static void touch(struct keyspace *ks, struct entry *e, int64_t now_ms, unsigned flags) {
    if (flags & KS_FIND_NO_TOUCH || atomic_load_explicit(&ks->dict_type.avoid_resize, memory_order_relaxed)) return;
    entry_touch(e, ks_uses_lfu(ks), now_ms);
}

struct entry *ks_find(struct keyspace *ks, int db, struct slice key, int64_t now_ms, unsigned flags) {
    int shard = ks_shard_of(ks, key);
    KS_ASSERT_LOCKED(ks, shard);
    struct shard *s = &ks->shards[shard];
    if (now_ms > 0) s->now_ms = now_ms;
    struct shard_db *sd = shard_db_get(ks, shard, db);
    uint64_t hash = key_hash(key);
    struct entry *e = sd ? dict_find(&sd->dict, hash, key) : NULL;
    if (e && is_due(e, now_ms)) {
        if (!ks_keeps(ks)) expire_entry(ks, shard, sd, e, hash);
        e = NULL;
    }
    if (e && sd->fields.n && entry_obj(e)->type == OBJ_HASH && now_ms > 0 && !ks_keeps(ks) &&
        expire_fields_lazily(ks, shard, sd, e, now_ms))
        e = NULL;
    if (e && !(flags & KS_FIND_WRITE) && fields_all_due(sd, e, now_ms)) e = NULL;
    count_lookup(s, e != NULL, flags);
    if (e) touch(ks, e, now_ms, flags);
    return e;
}

static bool is_large(const struct keyspace *ks, const struct shard_db *sd, size_t min) {
    return sd && atomic_load_explicit(&sd->table_bytes, memory_order_relaxed) * (size_t)ks->n_shards >= min;
}

bool ks_is_large(const struct keyspace *ks, int db, unsigned any) {
    return is_large(ks, shard_db_get(ks, (int)(any & (unsigned)(ks->n_shards - 1)), db), PREFETCH_MIN);
}

bool ks_is_one_thread(const struct keyspace *ks) {
    return ks->one_thread;
}

/* Three rounds, each of which has what the one before asked for: bucket, entry, value (or the end of the entry that it lies in).
 * All shards are locked from the first to the last, for about as long as two cache misses take: a lock a key and round costs more
 * than the look-ups do. They stay locked no longer, for the commands themselves: with 16 of 64 shards locked most of the time,
 * threads would wait for each other. Trying only, so in any order. */
static void prefetch(struct keyspace *ks, int db, const struct ks_hint *h, int n, size_t min) {
    const struct entry *e[KS_HINTS];
    const struct shard_db *sd[KS_HINTS];
    const unsigned low = (unsigned)(ks->n_shards - 1);
    uint64_t tried = 0, locked = 0;
    if (n < 2) return;
    ks_let_go();
    for (int i = 0; i < n; i++) {
        int shard = (int)(h[i].slot & low);
        uint64_t bit = 1ULL << shard;
        sd[i] = shard_db_get(ks, shard, db);
        if (is_large(ks, sd[i], min) && !(tried & bit)) {
            if (ks_trylock_shard(ks, shard)) locked |= bit;
            tried |= bit;
        }
        if (!(locked & bit)) sd[i] = NULL;
        if (sd[i]) dict_prefetch(&sd[i]->dict, h[i].hash);
    }
    for (int i = 0; i < n; i++) {
        e[i] = sd[i] ? dict_probe(&sd[i]->dict, h[i].hash) : NULL;
        __builtin_prefetch(e[i]);
    }
    for (int i = 0; i < n; i++)
        if (e[i]) __builtin_prefetch(entry_next_line(e[i]));
    ks_unlock(ks, locked);
}

void ks_prefetch(struct keyspace *ks, int db, const struct ks_hint *h, int n) {
    prefetch(ks, db, h, n, PREFETCH_MIN);
}

uint64_t ks_hints(struct keyspace *ks, int db, const struct slice *argv, const int *pos, int n) {
    const unsigned low = (unsigned)(ks->n_shards - 1);
    uint64_t mask = 0;
    ks_no_hint();
    for (int i = 0; i < n && i < KS_HINTS; i++) {
        ks_hint_make(&many.hint[i], argv[pos[i]]);
        mask |= 1ULL << (many.hint[i].slot & low);
    }
    for (int i = KS_HINTS; i < n; i++) mask |= 1ULL << (hash_slot(argv[pos[i]].ptr, argv[pos[i]].len) & low);
    many.n = n < 0 ? 0 : n < KS_HINTS ? n : KS_HINTS;
    prefetch(ks, db, many.hint, many.n, PREFETCH_MIN_ONE);
    return mask;
}

/* Another value for e, which may get another block by it: that takes e's place in the tables. Returns it. */
static struct entry *put(struct shard_db *sd, struct entry *e, struct slice key, const struct entry_val *v, bool lazy_free) {
    struct obj *old;
    fields_detach(sd, e);
    struct entry *now = entry_put(e, v, &old);
    if (now != e) {
        void **slot = dict_find_slot(&sd->dict, key_hash(key), key);
        assert(slot && *slot == e);
        *slot = now;
        if (now->ttl) expiry_moved(expiry_of(sd, now), now);
        mem_free(e);
    }
    if (lazy_free)
        obj_unref_lazy(old);
    else
        obj_unref(old);
    if (v->form == ENTRY_FAR) fields_reindex(sd, now);
    return now;
}

static struct entry *add(struct keyspace *ks, struct shard *s, struct shard_db *sd, struct slice key, uint64_t hash,
                         const struct entry_val *v) {
    if (!s->now_ms) s->now_ms = clock_wall_ms();
    struct entry *e = entry_new(key, v, entry_clock_now(ks_uses_lfu(ks), s->now_ms));
    dict_insert(&sd->dict, hash, e);
    fields_reindex(sd, e);
    shard_db_publish(sd);
    if (ks->hooks.added) ks->hooks.added(ks->hooks.arg, sd->db, key);
    return e;
}

static struct entry *set(struct keyspace *ks, int db, struct slice key, const struct entry_val *v, bool keep_ttl) {
    int shard = ks_shard_of(ks, key);
    KS_ASSERT_LOCKED(ks, shard);
    struct shard *s = &ks->shards[shard];
    struct shard_db *sd = shard_db_make(ks, shard, db);
    uint64_t hash = key_hash(key);
    struct entry *e = dict_find(&sd->dict, hash, key);
    if (!block_none(s)) block_signal(ks, shard, db, key, false);
    if (!e) return add(ks, s, sd, key, hash, v);
    e = put(sd, e, key, v, false);
    if (!keep_ttl && e->ttl) shard_db_set_expire(sd, e, KS_NO_EXPIRE);
    return e;
}

struct entry *ks_set(struct keyspace *ks, int db, struct slice key, struct obj *val_take, bool keep_ttl) {
    const struct entry_val v = entry_val_obj(key, val_take);
    return set(ks, db, key, &v, keep_ttl);
}

struct entry *ks_set_string(struct keyspace *ks, int db, struct slice key, struct slice text, bool keep_ttl) {
    const struct entry_val v = entry_val_string(key, text);
    return set(ks, db, key, &v, keep_ttl);
}

static void set_access(struct keyspace *ks, struct entry *e, const struct ks_load_item *it, int64_t now_ms) {
    bool lfu = ks_uses_lfu(ks);
    if (it->freq >= 0 && lfu)
        entry_set_lfu(e, (uint8_t)it->freq, now_ms);
    else if (it->freq < 0 && it->idle_s >= 0 && !lfu)
        entry_set_idle_s(e, (uint32_t)(it->idle_s < UINT32_MAX ? it->idle_s : UINT32_MAX), now_ms);
}

static void load_one(struct keyspace *ks, struct shard_db *sd, struct ks_load_item *it, uint64_t hash, int64_t now_ms,
                     uint32_t clock, bool replace) {
    struct entry *e = dict_find(&sd->dict, hash, it->key);
    it->is_dup = e && !replace;
    if (it->is_dup) return;
    if (e) {
        shard_db_unlink(sd, e, hash);
        entry_free(e);
    }
    const struct entry_val v = it->value ? entry_val_obj(it->key, it->value) : entry_val_string(it->key, it->text);
    e = entry_new(it->key, &v, clock);
    dict_insert(&sd->dict, hash, e);
    if (it->value) fields_reindex(sd, e);
    if (it->expire_ms != KS_NO_EXPIRE) shard_db_set_expire(sd, e, it->expire_ms);
    set_access(ks, e, it, now_ms);
}

#define ROUNDS_TRYING 16 /* through the shards that are left, before one is waited for */

struct ks_gates {
    pthread_mutex_t shard[KS_MAX_SHARDS];
};

struct ks_gates *ks_gates_new(void) {
    struct ks_gates *g = mem_alloc(sizeof *g);
    for (int i = 0; i < KS_MAX_SHARDS; i++) pthread_mutex_init(&g->shard[i], NULL);
    return g;
}

struct ks_gates *ks_gates_free(struct ks_gates *g) {
    for (int i = 0; g && i < KS_MAX_SHARDS; i++) pthread_mutex_destroy(&g->shard[i]);
    mem_free(g);
    return NULL;
}

/* Those of the items that are in the shards of mask; order[0..n - 1] says which. Their shards are locked. As prefetch: buckets
 * are asked for all at once. They are all that an insertion reads. */
static void load_some(struct keyspace *ks, int db, struct ks_load_item *items, const struct ks_hint *h, const uint16_t *order,
                      unsigned n, uint64_t mask, const struct ks_load_how *how) {
    const unsigned low = (unsigned)(ks->n_shards - 1);
    const uint32_t clock = entry_clock_now(ks_uses_lfu(ks), how->now_ms);
    for (unsigned k = 0; k < n; k++) {
        const struct ks_hint *hint_of = &h[order[k]];
        dict_prefetch(&shard_db_make(ks, (int)(hint_of->slot & low), db)->dict, hint_of->hash);
    }
    for (unsigned k = 0; k < n; k++) {
        unsigned i = order[k];
        ks_use_hint(&h[i]);
        load_one(ks, shard_db_get(ks, (int)(h[i].slot & low), db), &items[i], h[i].hash, how->now_ms, clock, how->replace);
    }
    for (uint64_t m = mask; m; m &= m - 1) shard_db_publish(shard_db_get(ks, __builtin_ctzll(m), db));
    ks_no_hint();
}

/* Shard after shard, from the first item's on. Those that another thread has at the moment are left for later: two threads that
 * waited for each other once would go on side by side, and wait at each shard. */
static void load_by_shard(struct keyspace *ks, int db, struct ks_load_item *items, const struct ks_hint *h, const uint16_t *order,
                          const uint16_t *from, const struct ks_load_how *how) {
    const unsigned n_shards = (unsigned)ks->n_shards, first = h[0].slot & (n_shards - 1);
    uint64_t left = 0;
    for (unsigned i = 0; i < n_shards; i++)
        if (from[i + 1] > from[i]) left |= 1ULL << i;
    for (unsigned k = 0; left; k++) {
        unsigned shard = (first + k) & (n_shards - 1);
        uint64_t mask = 1ULL << shard;
        if (!(left & mask)) continue;
        if (k >= ROUNDS_TRYING * n_shards)
            pthread_mutex_lock(&how->gates->shard[shard]);
        else if (pthread_mutex_trylock(&how->gates->shard[shard]) != 0)
            continue;
        if (!how->locked) ks_lock(ks, mask);
        load_some(ks, db, items, h, order + from[shard], (unsigned)(from[shard + 1] - from[shard]), mask, how);
        if (!how->locked) ks_unlock(ks, mask);
        pthread_mutex_unlock(&how->gates->shard[shard]);
        left &= ~mask;
    }
}

void ks_load(struct keyspace *ks, int db, struct ks_load_item *items, unsigned n, const struct ks_load_how *how) {
    struct ks_hint h[KS_LOAD_MAX];
    uint16_t order[KS_LOAD_MAX], from[KS_MAX_SHARDS + 2] = { 0 };
    const unsigned low = (unsigned)(ks->n_shards - 1);
    uint64_t mask = 0;
    for (unsigned i = 0; i < n; i++) {
        ks_hint_make(&h[i], items[i].key);
        mask |= 1ULL << (h[i].slot & low);
        order[i] = (uint16_t)i;
        from[(h[i].slot & low) + 2]++;
    }
    if (how->gates && n > 0) { /* sorted by shard, within one as they came */
        for (int i = 0; i < KS_MAX_SHARDS; i++) from[i + 2] = (uint16_t)(from[i + 2] + from[i + 1]);
        for (unsigned i = 0; i < n; i++) order[from[(h[i].slot & low) + 1]++] = (uint16_t)i;
        load_by_shard(ks, db, items, h, order, from, how);
        return;
    }
    if (!how->locked) ks_lock(ks, mask);
    load_some(ks, db, items, h, order, n, mask, how);
    if (!how->locked) ks_unlock(ks, mask);
}

void ks_reserve(struct keyspace *ks, int db, uint64_t n_keys, bool locked) {
    uint64_t each = n_keys / (uint64_t)ks->n_shards;
    each += each / 16; /* the shards' shares differ a little */
    for (int i = 0; each > 0 && i < ks->n_shards; i++) {
        if (!locked) ks_lock(ks, 1ULL << i);
        struct shard_db *sd = shard_db_make(ks, i, db);
        dict_reserve(&sd->dict, each);
        shard_db_publish(sd);
        if (!locked) ks_unlock(ks, 1ULL << i);
    }
}

static struct shard_db *db_of(struct keyspace *ks, int db, struct slice key) {
    int shard = ks_shard_of(ks, key);
    KS_ASSERT_LOCKED(ks, shard);
    return shard_db_get(ks, shard, db);
}

struct entry *ks_replace(struct keyspace *ks, int db, struct slice key, struct entry *e, struct obj *val_take, bool lazy_free) {
    const struct entry_val v = entry_val_obj(key, val_take);
    return put(db_of(ks, db, key), e, key, &v, lazy_free);
}

struct entry *ks_replace_string(struct keyspace *ks, int db, struct slice key, struct entry *e, struct slice text,
                                bool lazy_free) {
    KS_ASSERT_LOCKED(ks, ks_shard_of(ks, key));
    if (entry_overwrite(e, text)) return e;
    const struct entry_val v = entry_val_string(key, text);
    return put(db_of(ks, db, key), e, key, &v, lazy_free);
}

char *ks_string_own(struct keyspace *ks, int db, struct slice key, struct entry **e, size_t min_len) {
    if (entry_form_of(*e) != ENTRY_FAR) {
        const struct entry_val v = { .form = ENTRY_FAR, .obj = obj_string_new_raw_of(entry_obj(*e), min_len) };
        *e = put(db_of(ks, db, key), *e, key, &v, false);
    }
    return obj_string_own(&(*e)->far, min_len);
}

/* The entry, out of all tables, or NULL. */
static struct entry *take_out(struct keyspace *ks, int db, struct slice key) {
    int shard = ks_shard_of(ks, key);
    KS_ASSERT_LOCKED(ks, shard);
    struct shard_db *sd = shard_db_get(ks, shard, db);
    if (!sd) return NULL;
    uint64_t hash = key_hash(key);
    struct entry *e = dict_find(&sd->dict, hash, key);
    if (!e) return NULL;
    shard_db_unlink(sd, e, hash);
    if (!block_none(&ks->shards[shard])) block_signal(ks, shard, db, key, true);
    return e;
}

bool ks_delete(struct keyspace *ks, int db, struct slice key, bool lazy_free) {
    struct entry *e = take_out(ks, db, key);
    if (!e) return false;
    if (lazy_free)
        entry_free_lazy(e);
    else
        entry_free(e);
    return true;
}

struct obj *ks_steal(struct keyspace *ks, int db, struct slice key) {
    struct entry *e = take_out(ks, db, key);
    return e ? entry_steal(e) : NULL;
}

void ks_set_expire(struct keyspace *ks, int db, struct entry *e, int64_t when_ms) {
    int shard = ks_shard_of(ks, entry_key(e));
    KS_ASSERT_LOCKED(ks, shard);
    shard_db_set_expire(shard_db_get(ks, shard, db), e, when_ms);
}

void ks_set_expire_own(struct keyspace *ks, int db, struct entry *e, int64_t when_ms) {
    int shard = ks_shard_of(ks, entry_key(e));
    KS_ASSERT_LOCKED(ks, shard);
    struct shard_db *sd = shard_db_get(ks, shard, db);
    bool has_room = sd->own.n < OWN_MAX || expiry_of(sd, e) == &sd->own;
    set_expire_in(has_room ? &sd->own : &sd->expiry, sd, e, when_ms);
}

static void forget_own(struct shard_db *sd) {
    while (sd->own.n) {
        struct entry *e = sd->own.items[sd->own.n - 1].entry; /* the last one moves no other */
        int64_t when_ms = entry_expire_ms(e);
        expiry_set(&sd->own, e, KS_NO_EXPIRE);
        expiry_set(&sd->expiry, e, when_ms);
    }
    expiry_clear(&sd->own);
    shard_db_publish(sd);
}

void ks_forget_own(struct keyspace *ks) {
    KS_ASSERT_ALL_LOCKED(ks);
    for (int i = 0; i < ks->n_shards; i++)
        for (struct shard_db *sd = ks->shards[i].all_dbs; sd; sd = sd->next)
            if (sd->own.cap) forget_own(sd);
}
