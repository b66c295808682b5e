/*
 * Eviction of keys. See evict.h. Place in the flow: before a command runs, on its I/O thread, and in thread 0's cron.
 *
 * As in redis-server the best key to evict is approximated: a few keys of a random place are looked at, the best are kept in a
 * small pool from one call to the next, the best of the pool goes. Random policies take a random key. A shard is locked only for
 * the look and for the deletion; what the pool remembers is a copy of the key, looked up again before it is deleted.
 *
 * Each I/O thread has a pool of its own, so nothing is shared but the keyspace.
 */
#include "server/evict.h"

#include <math.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/rand.h"
#include "data/lazyfree.h"
#include "server/latency.h"
#include "server/loading.h"
#include "server/notify.h"
#include "server/replication.h"

#define POOL 16
#define CHECK_EVERY 16       /* keys evicted between two looks at the clock */
#define LAZY_WAIT_US 1000    /* nap while the background thread frees what was evicted before */
#define TENACITY_STEP_US 50  /* up to 10 the time grows linearly: 500 microseconds at the default */
#define TENACITY_GROWTH 1.15 /* from there by 15% a step; 100: no limit */

struct candidate {
    uint64_t score; /* the higher the sooner it goes */
    int db;
    char *key; /* owned */
    size_t len;
};

struct pool {
    int n; /* ascending scores */
    struct candidate c[POOL];
};

struct evict {
    struct pool pools[MAX_IO_THREADS];
};

struct evict *evict_new(void) {
    return mem_zalloc(sizeof(struct evict));
}

static void pool_clear(struct pool *p) {
    for (int i = 0; i < p->n; i++) mem_free(p->c[i].key);
    p->n = 0;
}

struct evict *evict_free(struct evict *e) {
    if (!e) return NULL;
    for (int i = 0; i < MAX_IO_THREADS; i++) pool_clear(&e->pools[i]);
    mem_free(e);
    return NULL;
}

/* ---- policies ---- */

static bool is_volatile(int64_t policy) {
    return policy == CFG_VOLATILE_LRU || policy == CFG_VOLATILE_LFU || policy == CFG_VOLATILE_RANDOM ||
           policy == CFG_VOLATILE_TTL;
}

static bool is_random(int64_t policy) {
    return policy == CFG_VOLATILE_RANDOM || policy == CFG_ALLKEYS_RANDOM;
}

static uint64_t score_of(int64_t policy, const struct entry *e, int64_t now_ms) {
    if (policy == CFG_VOLATILE_TTL) return UINT64_MAX - (uint64_t)entry_expire_ms(e);
    if (policy == CFG_VOLATILE_LFU || policy == CFG_ALLKEYS_LFU) return 255u - entry_lfu(e, now_ms);
    return entry_idle_s(e, now_ms);
}

/* ---- the pool ---- */

static void pool_add(struct pool *p, uint64_t score, int db, struct slice key) {
    int at = 0;
    for (int i = 0; i < p->n; i++)
        if (p->c[i].db == db && slice_eq((struct slice){ p->c[i].key, p->c[i].len }, key)) return;
    while (at < p->n && p->c[at].score < score) at++;
    if (p->n == POOL) {
        if (at == 0) return; /* worse than all of them */
        mem_free(p->c[0].key);
        memmove(p->c, p->c + 1, (size_t)--at * sizeof *p->c);
    } else {
        memmove(p->c + at + 1, p->c + at, (size_t)(p->n - at) * sizeof *p->c);
        p->n++;
    }
    p->c[at] = (struct candidate){ score, db, mem_memdup0(key.ptr, key.len), key.len };
}

/* Looks at some keys of one shard, all databases. How many. */
static unsigned look_at_shard(struct server *srv, struct pool *p, int shard, int64_t policy, int64_t now_ms) {
    unsigned want = is_random(policy) ? 1 : (unsigned)cfg_get(&srv->cfg->maxmemory_samples), seen = 0;
    struct entry *found[KS_SAMPLE_MAX];
    for (int db = 0; db < ks_n_dbs(srv->ks); db++) {
        if (ks_shard_size(srv->ks, db, shard) == 0) continue;
        if (!ks_lock_unless_held(srv->ks, 1ULL << shard)) return 0;
        unsigned n = ks_sample(srv->ks, db, shard, is_volatile(policy), found, want < KS_SAMPLE_MAX ? want : KS_SAMPLE_MAX);
        for (unsigned i = 0; i < n; i++)
            pool_add(p, is_random(policy) ? rand_u64() : score_of(policy, found[i], now_ms), db, entry_key(found[i]));
        ks_unlock(srv->ks, 1ULL << shard);
        seen += n;
    }
    return seen;
}

/* From a random shard on, until one has keys of the kind. False: none has. */
static bool pool_fill(struct server *srv, struct pool *p, int64_t policy, int64_t now_ms) {
    int n = ks_n_shards(srv->ks), first = (int)rand_below((uint64_t)n);
    for (int i = 0; i < n; i++)
        if (look_at_shard(srv, p, (first + i) % n, policy, now_ms)) return true;
    return false;
}

/* ---- evicting ---- */

/* Deletes the candidate if it is still there and still of the kind. */
static bool evict_one(struct server *srv, const struct candidate *c, int64_t policy, unsigned slot) {
    struct slice key = { c->key, c->len };
    int shard = ks_shard_of(srv->ks, key);
    uint64_t locked = engine_lock(&srv->eng, 1ULL << shard, false);
    if (!locked) return false;
    struct entry *e = ks_find(srv->ks, c->db, key, 0, KS_FIND_NO_TOUCH | KS_FIND_NO_STATS);
    bool go = e && (!is_volatile(policy) || entry_expire_ms(e) != KS_NO_EXPIRE);
    if (go) {
        int64_t start = clock_mono_us();
        ks_touch_watched(srv->ks, c->db, key);
        ks_delete(srv->ks, c->db, key, cfg_get(&srv->cfg->lazyfree_lazy_eviction));
        notify_evicted(srv, c->db, key);
        latency_note(srv, "eviction-del", (uint64_t)(clock_mono_us() - start));
    }
    engine_unlock(&srv->eng, locked, slot);
    return go;
}

/* One key. False: there is none to evict. */
static bool evict_next(struct server *srv, struct pool *p, int64_t policy, unsigned slot) {
    for (;;) {
        if (!pool_fill(srv, p, policy, clock_wall_ms())) pool_clear(p);
        if (p->n == 0) return false;
        while (p->n > 0) {
            struct candidate best = p->c[--p->n];
            bool gone = evict_one(srv, &best, policy, slot);
            mem_free(best.key);
            if (!gone) continue; /* deleted by others meanwhile */
            atomic_fetch_add_explicit(&srv->stats.evicted_keys, 1, memory_order_relaxed);
            return true;
        }
    }
}

static int64_t time_limit_us(struct server *srv) {
    int64_t tenacity = cfg_get(&srv->cfg->maxmemory_eviction_tenacity);
    if (tenacity <= 10) return TENACITY_STEP_US * tenacity;
    return tenacity < 100 ? (int64_t)(10 * TENACITY_STEP_US * pow(TENACITY_GROWTH, (double)(tenacity - 10))) : INT64_MAX;
}

/* Nothing is left to evict, but what was may still be on its way through the background thread. */
static enum evict_result wait_for_lazyfree(struct server *srv, int64_t start_us, int64_t limit_us) {
    int64_t from = clock_mono_us();
    bool needed = true;
    while (lazyfree_pending() > 0 && clock_mono_us() - start_us < limit_us && (needed = evict_is_needed(srv)))
        usleep(LAZY_WAIT_US);
    latency_note(srv, "eviction-lazyfree", (uint64_t)(clock_mono_us() - from));
    return needed && evict_is_needed(srv) ? EVICT_FAILED : EVICT_DONE;
}

static enum evict_result run(struct server *srv, unsigned slot, int64_t policy) {
    struct pool *p = &srv->evict->pools[slot];
    int64_t start = clock_mono_us(), limit = time_limit_us(srv);
    for (unsigned n = 1; evict_is_needed(srv); n++) {
        if (!evict_next(srv, p, policy, slot)) return wait_for_lazyfree(srv, start, limit);
        if (n % CHECK_EVERY == 0 && clock_mono_us() - start >= limit) return EVICT_RUNNING;
    }
    return EVICT_DONE;
}

/* Keeps account of the time above the limit. */
static void note_time(struct server *srv, bool is_over) {
    int64_t now = clock_mono_us(), since = atomic_load(&srv->stats.eviction_since_us);
    if (is_over && since == 0) atomic_compare_exchange_strong(&srv->stats.eviction_since_us, &since, now);
    if (!is_over && since && atomic_compare_exchange_strong(&srv->stats.eviction_since_us, &since, 0))
        atomic_fetch_add_explicit(&srv->stats.eviction_us, (uint64_t)(now - since), memory_order_relaxed);
}

bool evict_applies(struct server *srv) {
    return !(repl_is_replica(srv->repl) && cfg_get(&srv->cfg->replica_ignore_maxmemory));
}

enum evict_result evict_keys(struct server *srv, unsigned slot) {
    int64_t policy = cfg_get(&srv->cfg->maxmemory_policy);
    if (!evict_is_needed(srv)) {
        if (atomic_load_explicit(&srv->stats.eviction_since_us, memory_order_relaxed)) note_time(srv, false);
        return EVICT_DONE;
    }
    if (policy == CFG_NOEVICTION) return EVICT_FAILED;
    if (loading_is_on(srv)) return EVICT_RUNNING;  /* the keyspace is another thread's */
    if (ks_is_held(srv->ks)) return EVICT_RUNNING; /* by a script */
    if (atomic_load_explicit(&srv->pause_until_ms, memory_order_relaxed) > clock_wall_ms())
        return EVICT_RUNNING; /* CLIENT PAUSE */
    ks_let_go();
    int64_t start = clock_mono_us();
    enum evict_result r = run(srv, slot, policy);
    note_time(srv, r != EVICT_DONE);
    latency_note(srv, "eviction-cycle", (uint64_t)(clock_mono_us() - start));
    return r;
}

uint64_t evict_exceeded_us(struct server *srv, bool total) {
    int64_t since = atomic_load(&srv->stats.eviction_since_us);
    uint64_t now = since ? (uint64_t)(clock_mono_us() - since) : 0;
    return total ? atomic_load(&srv->stats.eviction_us) + now : now;
}
