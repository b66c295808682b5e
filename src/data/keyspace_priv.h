/* Inside the keyspace: what keyspace*.c share. Nobody else includes it.
 *
 *     keyspace -- shards[S] -- dbs[n_dbs] -> shard_db: dict of entries + expiry heap, made at the first insertion
 *                          `- all_dbs     -> the same ones in a list, for the cron
 *                          `- watches     watched keys of the shard, all databases
 *                          `- blocks      keys that clients wait for, all databases
 *
 * All of a shard is guarded by its lock, except the atomics: those are written under the lock and read by anyone, relaxed, for
 * statistics and to skip what is empty. A shard_db lives until ks_free, so that such a reader never follows a stale pointer;
 * FLUSHALL empties it, SWAPDB exchanges pointers. */
#ifndef KETTLE_DATA_KEYSPACE_PRIV_H
#define KETTLE_DATA_KEYSPACE_PRIV_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/counter.h"
#include "data/dict.h"
#include "data/entry.h"
#include "data/expiry.h"
#include "data/keyspace.h"
#include "data/ttl_pool.h"
#include "data/timeheap.h"

#define CACHE_LINE 64

#if defined(KETTLE_ASSERT_LOCKS) || defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define KS_TRACK_OWNER 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define KS_TRACK_OWNER 1
#endif
#endif
#ifndef KS_TRACK_OWNER
#define KS_TRACK_OWNER 0
#endif

struct shard_db {
    struct dict dict;
    struct expiry expiry;
    struct expiry own;      /* times that clients of a replica have set, whose keys it deletes itself; at most OWN_MAX */
    struct timeheap fields; /* of entries: hashes with times of fields, see keyspace_fields.c */
    int db;                 /* its number; changes with SWAPDB */
    struct shard_db *next;  /* in shard.all_dbs */
    /* What shard_db_publish copies for readers without the lock. */
    _Atomic uint64_t n_keys, n_expires;
    _Atomic size_t table_bytes;
    _Atomic int64_t mean_expire_ms;
};

struct watch_table {
    struct list *buckets; /* of ks_watch.node; NULL when nothing was ever watched */
    size_t n_buckets, n;
};

struct block_needs {
    uint64_t mask;
    uint32_t count[KS_MAX_SHARDS]; /* waiters that need the shard */
};

struct block_table {      /* keyspace_block.c */
    struct list *buckets; /* of blocked_key.node; NULL when nothing is waited for */
    size_t n_buckets, n;
    struct list ready, left;   /* of blocked_key.ready_node; left: those that ks_serve could not serve, during its run */
    struct block_needs *needs; /* [2]: of all waiters, of those with on_nokey; NULL before any had one */
    _Atomic uint64_t n_keys, n_nokey_keys;
};

struct shard {
    _Alignas(CACHE_LINE) pthread_mutex_t lock;
    int64_t clock_ms;                                     /* of the last command, see ks_now */
    _Atomic int owner;                                    /* thread id of the holder, 0 for none; kept when KS_TRACK_OWNER */
    bool is_ready;                                        /* there may be something in blocks.ready */
    uint64_t needs;                                       /* blocks.needs[0].mask, where every command looks */
    _Alignas(CACHE_LINE) _Atomic(struct shard_db *) *dbs; /* [n_dbs], NULL where no key was ever set */
    struct shard_db *all_dbs;
    struct shard_db *expire_next; /* where the next expire cycle goes on */
    uint64_t needs_nokey;         /* blocks.needs[1].mask */
    struct block_table blocks;
    struct watch_table watches;
    int64_t now_ms; /* the latest now_ms given to ks_find: the clock of new entries */
    _Atomic uint64_t hits, misses, expired, expired_fields;
    _Atomic uint64_t own_expires; /* in the heaps `own` of its databases, when the last expire cycle began */
};

struct keyspace {
    int n_dbs, n_shards, shard_bits;
    bool one_thread;
    struct ks_hooks hooks;
    struct dict_type dict_type; /* of all dicts here; avoid_resize: a child process is active */
    _Atomic bool lfu, active_expire;
    _Atomic unsigned keep_expired; /* of enum ks_keep */
    _Atomic bool held;             /* ks_set_held */
    struct shard *shards;          /* on a cache line, somewhere at the start of: */
    void *shards_mem;
};

#define KS_ASSERT_LOCKED(ks, shard_index)                                                                                        \
    do {                                                                                                                         \
        if (KS_TRACK_OWNER && !ks_is_locked_by_me((ks), (shard_index))) ks_lock_missing(__func__, (shard_index));                \
    } while (0)
#define KS_ASSERT_ALL_LOCKED(ks)                                                                                                 \
    do {                                                                                                                         \
        for (int ks_i_ = 0; KS_TRACK_OWNER && ks_i_ < (ks)->n_shards; ks_i_++) KS_ASSERT_LOCKED((ks), ks_i_);                    \
    } while (0)
_Noreturn void ks_lock_missing(const char *func, int shard);

/* NULL when the database never had a key in this shard. Any thread, for the atomics; the rest under the lock. */
static inline struct shard_db *shard_db_get(const struct keyspace *ks, int shard, int db) {
    return atomic_load_explicit(&ks->shards[shard].dbs[db], memory_order_acquire);
}
static inline uint64_t shard_db_size(const struct keyspace *ks, int shard, int db) {
    const struct shard_db *sd = shard_db_get(ks, shard, db);
    return sd ? atomic_load_explicit(&sd->n_keys, memory_order_relaxed) : 0;
}
static inline bool is_due(const struct entry *e, int64_t now_ms) {
    return e->ttl && now_ms > ttl_at(e->ttl)->when_ms;
}

static inline struct expiry *expiry_of(struct shard_db *sd, const struct entry *e) {
    return e->ttl && ttl_at(e->ttl)->is_own ? &sd->own : &sd->expiry;
}
static inline unsigned ks_keeps(const struct keyspace *ks) {
    return atomic_load_explicit(&ks->keep_expired, memory_order_relaxed);
}

/* The same, made where there was none; shard lock held. */
struct shard_db *shard_db_make(struct keyspace *ks, int shard, int db);
/* After any change: sizes for the readers without the lock. */
void shard_db_publish(struct shard_db *sd);
/* The entry as it is, due or not; no statistics, no access. NULL when absent. */
struct entry *shard_db_peek(struct shard_db *sd, struct slice key);
/* Takes the entry out of dict and heap; the caller frees it. */
void shard_db_unlink(struct shard_db *sd, struct entry *e, uint64_t hash);
/* Deletes an entry that is due: counts it, touches its watchers, calls the hook, frees it. */
void expire_entry(struct keyspace *ks, int shard, struct shard_db *sd, struct entry *e, uint64_t hash);

/* keyspace_fields.c */
/* Around every change of an entry's value: detach while the old one is still there, reindex when the new one is. */
void fields_detach(struct shard_db *sd, struct entry *e);
void fields_reindex(struct shard_db *sd, struct entry *e);
/* Up to max due fields of a hash go, with their events; with the last one the key. True: e is gone. */
bool expire_fields(struct keyspace *ks, int shard, struct shard_db *sd, struct entry *e, int64_t now_ms, unsigned max,
                   unsigned *ret_n);
/* The same on the way of a look-up: all due fields, or none when they are many. */
bool expire_fields_lazily(struct keyspace *ks, int shard, struct shard_db *sd, struct entry *e, int64_t now_ms);
bool fields_have_due(const struct shard_db *sd, int64_t now_ms);
/* The key of a hash without a field that is not due: nobody is to see it, whether it has been removed or not. */
bool fields_all_due(const struct shard_db *sd, const struct entry *e, int64_t now_ms);
unsigned fields_expire_db(struct keyspace *ks, int shard, struct shard_db *sd, int64_t now_ms, unsigned max);

/* keyspace_watch.c */
void watch_touch(struct keyspace *ks, int shard, int db, struct slice key);
void watch_touch_swap(struct keyspace *ks, int a, int b, int64_t now_ms);               /* before the exchange */
void watch_touch_exchange(struct keyspace *ks, struct keyspace *other, int64_t now_ms); /* the same; of ks only */
void watch_table_done(struct watch_table *t);

/* keyspace_block.c */
void block_table_init(struct block_table *t);
void block_table_done(struct block_table *t);
/* The key was created or replaced; is_gone: deleted. */
void block_signal(struct keyspace *ks, int shard, int db, struct slice key, bool is_gone);
void block_signal_db(struct keyspace *ks, int shard, int db, bool nokey_only); /* every key waited for; db -1: of all */
static inline bool block_none(const struct shard *s) {
    return s->blocks.n == 0;
}

#endif
