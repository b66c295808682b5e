/* Shards: locks, statistics, and what the cron does to them. Place in the flow: the dispatcher locks around commands; thread 0's
 * cron calls the cycles. Threads: any; each function says whether it takes a lock.
 *
 * Lock order: shards ascending, nothing else is locked while one is held here. */
#include "data/keyspace_priv.h"

#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/crash.h"
#include "base/log.h"
#include "data/hash.h"
#include "data/lazyfree.h"
#include "data/set.h"
#include "data/zset.h"

#define REHASH_BATCH 64 /* chains between two looks at the clock */

/* ---- locks ---- */

/* Cached: and so a child forked with locks held still owns them. */
static int thread_id(void) {
    static __thread int id;
    if (!id) id = gettid();
    return id;
}

static void set_owner(struct shard *s, int id) {
    if (KS_TRACK_OWNER) atomic_store_explicit(&s->owner, id, memory_order_relaxed);
}

static void shard_lock(const struct keyspace *ks, struct shard *s) {
    if (!ks->one_thread) pthread_mutex_lock(&s->lock);
    set_owner(s, KS_TRACK_OWNER ? thread_id() : 0);
}

static void shard_unlock(const struct keyspace *ks, struct shard *s) {
    set_owner(s, 0);
    if (!ks->one_thread) pthread_mutex_unlock(&s->lock);
}

#define HELD_LOOK_NS 10000000 /* between two looks at ks.held while waiting */

/* The lock is another's. */
__attribute__((noinline)) static bool shard_wait_unless_held(const struct keyspace *ks, struct shard *s) {
    while (!atomic_load_explicit(&ks->held, memory_order_acquire)) {
        struct timespec until;
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_nsec += HELD_LOOK_NS;
        if (until.tv_nsec >= 1000000000) {
            until.tv_nsec -= 1000000000;
            until.tv_sec++;
        }
        if (pthread_mutex_timedlock(&s->lock, &until) == 0) return true;
    }
    return false;
}

static bool shard_lock_unless_held(const struct keyspace *ks, struct shard *s) {
    if (!ks->one_thread && pthread_mutex_trylock(&s->lock) != 0 && !shard_wait_unless_held(ks, s)) return false;
    set_owner(s, KS_TRACK_OWNER ? thread_id() : 0);
    return true;
}

void ks_set_held(struct keyspace *ks, bool held) {
    atomic_store_explicit(&ks->held, held, memory_order_release);
}

bool ks_is_held(const struct keyspace *ks) {
    return atomic_load_explicit(&ks->held, memory_order_acquire);
}

/* The shard of a thread that may want it again at once. It is locked for all others; the thread itself counts as holding none. */
static __thread struct {
    struct keyspace *ks;
    uint64_t mask; /* 0: none is kept */
    uint64_t
        last;   /* what the command before had: only what comes twice running is kept, so that other pipelines hold no longer */
    unsigned n; /* how often in a row */
} kept;

bool ks_keep(struct keyspace *ks, uint64_t locked) {
    if (locked != kept.last || kept.n == KS_KEEP_MAX) {
        kept.last = locked;
        kept.n = 0;
        return false;
    }
    bool is_one = !(locked & (locked - 1));
    if (ks->one_thread || !is_one || ks->shards[__builtin_ctzll(locked)].is_ready) return false;
    kept.ks = ks;
    kept.mask = locked;
    kept.n++;
    return true;
}

static void let_go(void) {
    uint64_t mask = kept.mask;
    kept.mask = 0;
    kept.n = 0;
    ks_unlock(kept.ks, mask);
}

void ks_let_go(void) {
    if (__builtin_expect(kept.mask != 0, 0)) let_go();
}

/* What its waiters need cannot have changed meanwhile: it was locked. */
static bool take_kept(const struct keyspace *ks, uint64_t mask, bool creates) {
    const struct shard *s = &kept.ks->shards[__builtin_ctzll(kept.mask)];
    if (kept.mask == mask && kept.ks == ks && !((creates ? s->needs : s->needs_nokey) & ~mask)) {
        kept.mask = 0;
        return true;
    }
    let_go();
    return false;
}

bool ks_lock_unless_held(struct keyspace *ks, uint64_t mask) {
    ks_let_go();
    if (ks_is_held(ks)) return false;
    for (uint64_t m = mask; m; m &= m - 1)
        if (!shard_lock_unless_held(ks, &ks->shards[__builtin_ctzll(m)])) {
            ks_unlock(ks, mask & ~m);
            return false;
        }
    return true;
}

void ks_lock(struct keyspace *ks, uint64_t mask) {
    ks_let_go();
    for (uint64_t m = mask; m; m &= m - 1) shard_lock(ks, &ks->shards[__builtin_ctzll(m)]);
}

void ks_unlock(struct keyspace *ks, uint64_t mask) {
    if (ks->one_thread && !KS_TRACK_OWNER) return;
    for (uint64_t m = mask; m; m &= m - 1) shard_unlock(ks, &ks->shards[__builtin_ctzll(m)]);
}

/* The only thread wants one shard of which nobody waits for a key: there is nothing to do. */
static bool needs_no_lock(const struct keyspace *ks, uint64_t mask) {
    return ks->one_thread && !KS_TRACK_OWNER && mask && !(mask & (mask - 1)) && !ks->shards[__builtin_ctzll(mask)].needs;
}

/* What a shard needs is known once it is locked, and stays so. Two rounds are rare, and each takes more: an end comes. */
uint64_t ks_lock_to_serve(struct keyspace *ks, uint64_t mask, bool creates) {
    if (needs_no_lock(ks, mask) && !ks_is_held(ks)) return mask;
    if (kept.mask && take_kept(ks, mask, creates)) return mask;
    while (!ks_is_held(ks)) {
        uint64_t needs = 0;
        for (uint64_t m = mask; m; m &= m - 1) {
            struct shard *s = &ks->shards[__builtin_ctzll(m)];
            if (!shard_lock_unless_held(ks, s)) {
                ks_unlock(ks, mask & ~m);
                return 0;
            }
            if (s->needs) needs |= creates ? s->needs : s->needs_nokey;
        }
        if (!(needs & ~mask)) return mask;
        ks_unlock(ks, mask);
        mask |= needs;
    }
    return 0;
}

bool ks_unlock_unless_ready(struct keyspace *ks, uint64_t mask) {
    for (uint64_t m = mask; m; m &= m - 1)
        if (ks->shards[__builtin_ctzll(m)].is_ready) return false;
    ks_unlock(ks, mask);
    return true;
}

int64_t ks_now(struct keyspace *ks, uint64_t locked, int64_t now_ms) {
    if (ks->one_thread && locked) locked = 1; /* there is one clock */
    for (uint64_t m = locked; m; m &= m - 1) {
        int64_t before = ks->shards[__builtin_ctzll(m)].clock_ms;
        if (before == now_ms + 1) now_ms = before;
    }
    for (uint64_t m = locked; m; m &= m - 1) ks->shards[__builtin_ctzll(m)].clock_ms = now_ms;
    return now_ms;
}

bool ks_trylock_shard(struct keyspace *ks, int shard) {
    struct shard *s = &ks->shards[shard];
    if (!ks->one_thread && pthread_mutex_trylock(&s->lock)) return false;
    set_owner(s, KS_TRACK_OWNER ? thread_id() : 0);
    return true;
}

bool ks_is_locked_by_me(const struct keyspace *ks, int shard) {
    if (!KS_TRACK_OWNER) return true;
    return atomic_load_explicit(&ks->shards[shard].owner, memory_order_relaxed) == thread_id();
}

_Noreturn void ks_lock_missing(const char *func, int shard) {
    log_warning("%s: shard %d is not locked by this thread", func, shard);
    crash_panic();
}

/* ---- settings ---- */

void ks_use_lfu(struct keyspace *ks, bool lfu) {
    atomic_store_explicit(&ks->lfu, lfu, memory_order_relaxed);
}

bool ks_uses_lfu(const struct keyspace *ks) {
    return atomic_load_explicit(&ks->lfu, memory_order_relaxed);
}

void ks_lfu_params(struct keyspace *ks, int log_factor, int decay_minutes) {
    (void)ks;
    entry_lfu_params(log_factor, decay_minutes);
}

void ks_set_active_expire(struct keyspace *ks, bool enabled) {
    atomic_store_explicit(&ks->active_expire, enabled, memory_order_relaxed);
}

void ks_set_keep_expired(struct keyspace *ks, unsigned keep) {
    atomic_store(&ks->keep_expired, keep);
}

bool ks_keeps_foreign(const struct keyspace *ks) {
    return ks_keeps(ks) & KS_KEEP_FOREIGN;
}

void ks_set_child_active(struct keyspace *ks, bool active) {
    atomic_store_explicit(&ks->dict_type.avoid_resize, active, memory_order_relaxed);
    hash_avoid_resize(active);
    set_avoid_resize(active);
    zset_avoid_resize(active);
}

/* ---- statistics ---- */

void ks_stats_get(const struct keyspace *ks, struct ks_stats *ret) {
    *ret = (struct ks_stats){ .lazyfree_pending = lazyfree_pending(), .lazyfreed = lazyfree_freed() };
    for (int i = 0; i < ks->n_shards; i++) {
        const struct shard *s = &ks->shards[i];
        ret->hits += atomic_load_explicit(&s->hits, memory_order_relaxed);
        ret->misses += atomic_load_explicit(&s->misses, memory_order_relaxed);
        ret->expired += atomic_load_explicit(&s->expired, memory_order_relaxed);
        ret->expired_fields += atomic_load_explicit(&s->expired_fields, memory_order_relaxed);
        ret->own_expires += atomic_load_explicit(&s->own_expires, memory_order_relaxed);
    }
}

void ks_stats_reset(struct keyspace *ks) {
    for (int i = 0; i < ks->n_shards; i++) {
        struct shard *s = &ks->shards[i];
        atomic_store_explicit(&s->hits, 0, memory_order_relaxed);
        atomic_store_explicit(&s->misses, 0, memory_order_relaxed);
        atomic_store_explicit(&s->expired, 0, memory_order_relaxed);
        atomic_store_explicit(&s->expired_fields, 0, memory_order_relaxed);
    }
    lazyfree_reset_stats();
}

/* ---- cron ---- */

static bool first_is_due(const struct expiry *x, int64_t now_ms) {
    const struct entry *e = expiry_first(x);
    return e && is_due(e, now_ms);
}

static bool has_due(const struct keyspace *ks, const struct shard_db *sd, int64_t now_ms) {
    if (first_is_due(&sd->own, now_ms)) return true;
    return !ks_keeps(ks) && (first_is_due(&sd->expiry, now_ms) || fields_have_due(sd, now_ms));
}

static unsigned expire_heap(struct keyspace *ks, int shard, struct shard_db *sd, const struct expiry *x, int64_t now_ms,
                            unsigned max) {
    unsigned n = 0;
    for (; n < max && first_is_due(x, now_ms); n++) {
        struct entry *e = expiry_first(x);
        expire_entry(ks, shard, sd, e, dict_hash(entry_key(e)));
    }
    return n;
}

/* Deletes up to max due keys, then fields, of one database: on a replica those that are its own. */
static unsigned expire_db(struct keyspace *ks, int shard, struct shard_db *sd, int64_t now_ms, unsigned max) {
    unsigned n = expire_heap(ks, shard, sd, &sd->own, now_ms, max);
    if (ks_keeps(ks)) return n;
    n += expire_heap(ks, shard, sd, &sd->expiry, now_ms, max - n);
    return n + fields_expire_db(ks, shard, sd, now_ms, max - n);
}

/* Starts where the last one stopped, so that a database with endless due keys does not starve the others. */
static unsigned expire_shard(struct keyspace *ks, int shard, int64_t now_ms, unsigned max, bool *ret_more) {
    struct shard *s = &ks->shards[shard];
    struct shard_db *first = s->expire_next ? s->expire_next : s->all_dbs, *sd = first;
    unsigned n = 0;
    if (!sd) return 0;
    do {
        n += expire_db(ks, shard, sd, now_ms, max - n);
        s->expire_next = sd->next;
        if (n == max && has_due(ks, sd, now_ms)) *ret_more = true;
        sd = sd->next ? sd->next : s->all_dbs;
    } while (sd != first && n < max);
    for (sd = s->all_dbs; sd && !*ret_more; sd = sd->next) *ret_more = has_due(ks, sd, now_ms);
    return n;
}

/* Counted here, and not with each change, since only a replica with writers of its own has any. */
static void publish_own(struct shard *s) {
    uint64_t n = 0;
    for (const struct shard_db *sd = s->all_dbs; sd; sd = sd->next) n += sd->own.n;
    atomic_store_explicit(&s->own_expires, n, memory_order_relaxed);
}

unsigned ks_expire_cycle(struct keyspace *ks, int shard, int64_t now_ms, unsigned max_keys, bool *ret_more) {
    *ret_more = false;
    publish_own(&ks->shards[shard]);
    bool is_off = !atomic_load_explicit(&ks->active_expire, memory_order_relaxed) || (ks_keeps(ks) & KS_KEEP_ALL);
    if (is_off || !max_keys) return 0;
    KS_ASSERT_LOCKED(ks, shard);
    return expire_shard(ks, shard, now_ms, max_keys, ret_more);
}

static bool rehash_shard(struct shard *s, int64_t until_us) {
    bool is_left = false;
    for (struct shard_db *sd = s->all_dbs; sd; sd = sd->next) {
        bool more;
        do {
            more = dict_rehash(&sd->dict, REHASH_BATCH);
        } while (more && clock_mono_us() < until_us);
        is_left |= more;
        shard_db_publish(sd);
        if (more) break; /* out of time */
    }
    return is_left;
}

bool ks_rehash_cycle(struct keyspace *ks, int shard, int64_t budget_us) {
    struct shard *s = &ks->shards[shard];
    int64_t until_us = clock_mono_us() + budget_us;
    ks_let_go();
    if (ks_is_held(ks) || !shard_lock_unless_held(ks, s)) return false;
    bool is_left = rehash_shard(s, until_us);
    shard_unlock(ks, s);
    return is_left;
}
