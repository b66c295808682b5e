/*
 * The keyspace: NDB databases over S shards (S a power of two, at most 64, so that a set of shards is one uint64_t).
 * shard = slot mod S, slot = the CRC16 cluster slot of the key: keys with one hash tag share a shard.
 *
 * Locking: each shard has one lock over everything in it, for all databases: dicts, expiry heaps, watched keys. Only the
 * dispatcher (cmd/) and the cron take locks, in ascending order of shards. Functions below that take a key assert that the
 * calling thread holds the lock of its shard (checked in asan/tsan builds and with -DKETTLE_ASSERT_LOCKS). SWAPDB and FLUSHALL
 * hold all locks.
 *
 * Expiry: a key whose time has passed (now > expire, as redis-server) is never returned by ks_find: it is deleted there, for
 * reads and writes alike, since the lock held is exclusive either way; ks_set_keep_expired makes it hide the key only. Active
 * expiry pops an exact min-heap per database and shard; no sampling. Fields of hashes expire likewise: ks_find takes away those
 * that are due, and the key when none is left; another heap leads the cycle to those that nobody looks at.
 *
 * Changing a key does not touch its watchers: the command does, with ks_touch_watched. Expiry and ks_swap do it by themselves.
 * Clients that wait for keys are told by the keyspace, see ks_signal_ready.
 */
#ifndef KETTLE_DATA_KEYSPACE_H
#define KETTLE_DATA_KEYSPACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/list.h"
#include "base/slice.h"
#include "data/object.h"

struct dict_stats;

#define KS_MAX_SHARDS 64
#define KS_NO_EXPIRE (-1)

struct keyspace;
struct entry; /* one key; stays at one address until it is deleted or its value replaced: what replaces it says where it is then
               */

/* Reasons given to hooks. */
enum ks_event { KS_EV_EXPIRED, KS_EV_EVICTED, KS_EV_DELETED };

struct ks_hooks {
    void *arg;
    /* A key expired and was deleted (lazily or actively); the shard's lock is held. */
    void (*expired)(void *arg, int db, struct slice key);
    /* ks_set made a key that was not there; the shard's lock is held. Event "new": families need not say so. */
    void (*added)(void *arg, int db, struct slice key);
    /* Fields of a hash expired and were taken away; the shard's lock is held, the names are valid during the call. is_key_gone:
     * it was the last of them, and the key went too. */
    void (*fields_expired)(void *arg, int db, struct slice key, const struct slice *fields, unsigned n, bool is_key_gone);
};

struct ks_opts {
    int n_dbs;    /* `databases` */
    int n_shards; /* power of two, 1..64 */
    struct ks_hooks hooks;
    bool one_thread; /* all of it is used by one thread only: locks are taken in name */
};

struct keyspace *ks_new(const struct ks_opts *opts);
struct keyspace *ks_free(struct keyspace *ks); /* NULL is fine; always NULL. No other thread may be using it; takes no locks */
int ks_n_dbs(const struct keyspace *ks);
int ks_n_shards(const struct keyspace *ks);

/* ---- shards and locks (dispatcher and cron only) ---- */
static inline uint64_t ks_all_mask(int n_shards) {
    return n_shards == 64 ? ~0ULL : (1ULL << n_shards) - 1;
}
int ks_shard_of(const struct keyspace *ks, struct slice key);
/* ks_shard_of of the key that the calling thread's next calls are mostly about: its slot and hash are computed once, and known by
 * the address and length of its bytes, which must not change until the next ks_hint. Once that cannot be promised any longer:
 * ks_no_hint. */
int ks_hint(const struct keyspace *ks, struct slice key);
void ks_no_hint(void);
/* The same in two steps: what was computed beforehand. */
struct ks_hint {
    struct slice key; /* ptr NULL: none */
    unsigned slot;
    bool hashed;
    uint64_t hash;
};
void ks_hint_make(struct ks_hint *ret, struct slice key);
void ks_use_hint(const struct ks_hint *h);
/* ks_hint for the first KS_HINTS of the keys argv[pos[0..n - 1]] of one command, which mostly asks for them in this order; has
 * them prefetched, as ks_prefetch. Returns the shards of all n. */
#define KS_HINTS 64
uint64_t ks_hints(struct keyspace *ks, int db, const struct slice *argv, const int *pos, int n);
/* Whether the tables of a database are so large that look-ups wait for memory: ks_prefetch pays. A guess by one shard, another
 * one for each `any`. No lock needed. */
bool ks_is_large(const struct keyspace *ks, int db, unsigned any);
bool ks_is_one_thread(const struct keyspace *ks); /* ks_opts.one_thread */
/* Has what look-ups of n keys (at most KS_HINTS) will read brought into the processor's cache, where the tables are large. No
 * lock may be held; a shard that is locked by another thread is passed over. */
void ks_prefetch(struct keyspace *ks, int db, const struct ks_hint *h, int n);
void ks_lock(struct keyspace *ks, uint64_t mask); /* ascending order; not recursive */
void ks_unlock(struct keyspace *ks, uint64_t mask);
/* The time a command goes by, its shards locked: now_ms, but not before what the last holder of any of them went by. Threads read
 * clocks of their own, which may differ by less than a millisecond; a clock that was set back further is followed. */
int64_t ks_now(struct keyspace *ks, uint64_t locked, int64_t now_ms);
/* Somebody holds all locks and will not let go of them soon: a script that runs for long. Who waits for a lock by one of the
 * functions that say so gives up then. Set and cleared by the holder. */
void ks_set_held(struct keyspace *ks, bool held);
bool ks_is_held(const struct keyspace *ks);
bool ks_lock_unless_held(struct keyspace *ks, uint64_t mask); /* false: nothing is locked */
bool ks_trylock_shard(struct keyspace *ks, int shard);
/* In place of ks_unlock, when the same thread's next lock may well be the same one: it stays locked for everybody else, but the
 * thread counts as holding none. ks_lock_to_serve for just that shard takes it over; all others that lock or wait give it back
 * first, so that nobody waits for a lock with another one kept. False, and still locked: it is not the one that the thread
 * had before, more than one shard, somebody is to be served, it was kept KS_KEEP_MAX times without others having had a chance, or
 * there is one thread only. ks_let_go before anything that may take its time. */
#define KS_KEEP_MAX 16
bool ks_keep(struct keyspace *ks, uint64_t locked);
void ks_let_go(void);                                          /* nothing kept: nothing */
bool ks_is_locked_by_me(const struct keyspace *ks, int shard); /* for assertions; true when not tracked */

/* ---- entries; shard lock held ---- */
/* NULL when absent or expired. now_ms: wall clock of the command (constant for its duration, and for a whole transaction).
 * Updates the access clock unless KS_FIND_NO_TOUCH or a child is active. Counts keyspace_hits/misses unless KS_FIND_NO_STATS or
 * KS_FIND_WRITE. now_ms <= 0 finds every key, due or not: what a replica needs that applies its primary's stream. */
enum ks_find_flags { KS_FIND_READ = 0, KS_FIND_NO_TOUCH = 1, KS_FIND_NO_STATS = 2, KS_FIND_WRITE = 4 /* no hit/miss counting */ };
struct entry *ks_find(struct keyspace *ks, int db, struct slice key, int64_t now_ms, unsigned flags);
/* Inserts or replaces; the value's reference is taken: a small string lies in its entry from then on, and the object is gone.
 * keep_ttl: keep the old expiry, else cleared. Knows no time: a key that is due and was not looked up before is replaced like a
 * live one. */
struct entry *ks_set(struct keyspace *ks, int db, struct slice key, struct obj *val_take, bool keep_ttl);
/* The same for a string (an int where it looks like one, as obj_string_new); a small one costs one allocation with its key, or
 * none where it takes the place of one of about the same size. text is not to lie in the old value. */
struct entry *ks_set_string(struct keyspace *ks, int db, struct slice key, struct slice text, bool keep_ttl);
/* For loading a file: keys that are not there yet. No hook is called, nobody who waits for a key is told. */
struct ks_load_item {
    struct slice key;
    struct obj *value; /* the reference is taken when the key is put in; NULL: a string, `text` */
    struct slice text;
    int64_t expire_ms;    /* absolute wall ms, or KS_NO_EXPIRE */
    int64_t idle_s, freq; /* access clock, -1: not known; by the policy one of them counts, or none */
    bool is_dup;          /* out: the key is there already, and was left alone; never with `replace` */
};
#define KS_LOAD_MAX 512
/* Between threads that load into one keyspace at a time: its own locks may be locks in name only, or another thread's. */
struct ks_gates;
struct ks_gates *ks_gates_new(void);
struct ks_gates *ks_gates_free(struct ks_gates *g); /* NULL is fine; always NULL */
struct ks_load_how {
    int64_t now_ms;
    bool replace;
    bool locked;            /* all shards are, by the caller or on its behalf; else those of the items are locked here */
    struct ks_gates *gates; /* of all threads that load; NULL: this one only */
};
/* n up to KS_LOAD_MAX, of one database. */
void ks_load(struct keyspace *ks, int db, struct ks_load_item *items, unsigned n, const struct ks_load_how *how);
/* Room for so many keys in a database that is empty, or is left as it is. No lock held: takes each shard's. */
void ks_reserve(struct keyspace *ks, int db, uint64_t n_keys, bool locked);
bool ks_delete(struct keyspace *ks, int db, struct slice key, bool lazy_free); /* true when it was there (expired or not) */
/* Another value for e, the live entry of the key; the reference is taken. The expiry stays. Returns where the entry is now: e is
 * not to be used any more, nor what pointed into it. lazy_free: of the old value, as ks_delete. */
struct entry *ks_replace(struct keyspace *ks, int db, struct slice key, struct entry *e, struct obj *val_take, bool lazy_free);
struct entry *ks_replace_string(struct keyspace *ks, int db, struct slice key, struct entry *e, struct slice text,
                                bool lazy_free); /* as ks_set_string */
/* obj_string_own for the string of *e, the live entry of the key: raw, its own, at least min_len bytes long. *e: where the entry
 * is now. From then on entry_value_slot may be used. */
char *ks_string_own(struct keyspace *ks, int db, struct slice key, struct entry **e, size_t min_len);
/* The times of fields of e's hash were changed: to be said before the lock is released. */
void ks_fields_changed(struct keyspace *ks, int db, struct entry *e);
/* Takes the value out (a small string: copies it) and deletes the key; the caller owns the reference. NULL when absent. */
struct obj *ks_steal(struct keyspace *ks, int db, struct slice key);

struct slice entry_key(const struct entry *e);
struct obj *entry_value(const struct entry *e); /* valid until it is replaced; not to be counted (obj_ref) unless it is raw */
/* To change in place what is no string, or has been made the entry's own by ks_string_own. To replace: ks_replace. */
struct obj **entry_value_slot(struct entry *e);
int64_t entry_expire_ms(const struct entry *e); /* absolute wall ms, or KS_NO_EXPIRE */
/* KS_NO_EXPIRE clears. O(log keys with TTL). A time in the past is fine: the key is due at once. */
void ks_set_expire(struct keyspace *ks, int db, struct entry *e, int64_t when_ms);
/* The same for a time that a client of a replica sets (KS_KEEP_FOREIGN): the key is the replica's own to delete, since the
 * primary may not know of it. A bounded number of keys; more are kept like others. Setting another time by ks_set_expire ends
 * that. */
void ks_set_expire_own(struct keyspace *ks, int db, struct entry *e, int64_t when_ms);
/* Times that were the replica's own are like all others from now on: all shards locked. */
void ks_forget_own(struct keyspace *ks);
/* Access clock: LRU seconds and LFU counter share 32 bits as the policy chooses. */
uint32_t entry_idle_s(const struct entry *e, int64_t now_ms);
uint8_t entry_lfu(const struct entry *e, int64_t now_ms);                /* logarithmic access counter, decayed */
void entry_set_idle_s(struct entry *e, uint32_t idle_s, int64_t now_ms); /* RESTORE IDLETIME, RDB */
void entry_set_lfu(struct entry *e, uint8_t counter, int64_t now_ms);    /* RESTORE FREQ, RDB */
void ks_use_lfu(struct keyspace *ks, bool lfu);                          /* maxmemory-policy *lfu*: atomic */
bool ks_uses_lfu(const struct keyspace *ks);
void ks_lfu_params(struct keyspace *ks, int log_factor,
                   int decay_minutes);                         /* for the process: entries do not know their keyspace */
size_t entry_mem_usage(const struct entry *e, size_t samples); /* key, entry, value (obj_ops.mem), table slot */

/* ---- iteration ---- */
/* Calls fn for every live key of a shard (lock held); fn returns false to stop. No changes inside fn. */
bool ks_each(struct keyspace *ks, int db, int shard, int64_t now_ms, bool (*fn)(void *arg, struct entry *e), void *arg);
/* SCAN. cursor 0 starts; returns the next cursor, 0 at the end. It visits part of ONE shard a call: the caller locks
 * ks_scan_shard(ks, cursor) around it and loops for COUNT. Redis's guarantee: what is there from start to end is seen at least
 * once, rehash or not. Cursors are about as small as the number of keys; any number a client makes up is safe. Empty shards are
 * skipped without a call. fn may look keys up and change values and expiries, but not insert or delete. */
int ks_scan_shard(const struct keyspace *ks, uint64_t cursor);
uint64_t ks_scan(struct keyspace *ks, int db, uint64_t cursor, int64_t now_ms, void (*fn)(void *arg, struct entry *e), void *arg);
/* A random live key of the database: all shards locked. NULL when empty. */
struct entry *ks_random(struct keyspace *ks, int db, int64_t now_ms);
/* For eviction: up to n (at most KS_SAMPLE_MAX) different entries from random neighbouring places of one shard (lock held), due
 * ones included; only_volatile: among those with a TTL. Returns how many. */
#define KS_SAMPLE_MAX 64
unsigned ks_sample(struct keyspace *ks, int db, int shard, bool only_volatile, struct entry **ret, unsigned n);
struct entry *ks_first_to_expire(struct keyspace *ks, int db,
                                 int shard); /* soonest, due or not; NULL when none has a TTL; lock held */

/* ---- whole databases ---- */
uint64_t ks_size(const struct keyspace *ks, int db);                  /* keys; relaxed atomics, no lock needed */
uint64_t ks_shard_size(const struct keyspace *ks, int db, int shard); /* the same for one shard */
uint64_t ks_expires(const struct keyspace *ks, int db);               /* keys with a TTL; the same */
int64_t ks_avg_ttl_ms(struct keyspace *ks, int db,
                      int64_t now_ms); /* exact to 64 ms a key as of the last change of a TTL; no lock needed */
uint64_t ks_flush(struct keyspace *ks, int db,
                  bool async); /* db -1: all. All shards locked. Returns keys removed; async frees in the background */
void ks_swap(struct keyspace *ks, int a, int b); /* all shards locked */
/* All databases at once: what `other` holds is put in place of what ks holds, and the other way round. Both of the same number of
 * databases and shards, all shards of both locked by the caller. Who watches or waits for keys of ks is told; of `other` nobody
 * does. O(shards * databases), whatever they hold. */
void ks_exchange(struct keyspace *ks, struct keyspace *other);

/* ---- watched keys (WATCH); shard lock held ---- */
struct ks_watch {        /* embedded in the session; one per watched key */
    struct list node;    /* in the shard's table, guarded by the shard's lock */
    _Atomic bool *dirty; /* set when the key is touched; read by the session's thread at EXEC */
    int db;
    bool expired_at_watch; /* it had already expired then: its lazy deletion is no touch */
    char *key;             /* owned, mem_alloc */
    size_t key_len;
};
/* db, key, key_len and dirty are the caller's to fill before; the rest is set here. A session watches a key once. */
void ks_watch_add(struct keyspace *ks, struct ks_watch *w, int64_t now_ms);
void ks_watch_remove(struct keyspace *ks, struct ks_watch *w); /* lock of its shard held; the key stays the caller's to free */
void ks_touch_watched(struct keyspace *ks, int db, struct slice key);
/* FLUSHDB/FLUSHALL (db -1: all), all locks held, called before the flush: marks the watched keys that exist. ks_swap marks by
 * itself. */
void ks_touch_watched_all(struct keyspace *ks, int db);
/* True when the watched key's TTL ran out since WATCH (EXEC must abort, as in Redis). */
bool ks_watch_expired(struct keyspace *ks, const struct ks_watch *w, int64_t now_ms);

/* ---- keys that clients wait for (BLPOP); shard lock held ---- */
struct blocked_key;
struct ks_wait_key {
    struct slice key; /* the caller's memory, as long as it waits */
    struct list node; /* the rest is the table's */
    struct ks_wait *wait;
    struct blocked_key *at;
};
struct ks_wait {              /* embedded in what stands for the client; filled by the caller */
    struct ks_wait_key *keys; /* n_keys of them, their `key` set */
    int n_keys, db;
    enum obj_type type; /* that a key must have to be ready */
    bool on_nokey;      /* ready too when a key is gone or of another type */
    bool is_waiting;    /* the table's */
    uint64_t mask;      /* shards to be locked when it is served, those of its keys included */
};
/* All of w->mask locked. */
void ks_wait_add(struct keyspace *ks, struct ks_wait *w);
void ks_wait_remove(struct keyspace *ks, struct ks_wait *w); /* nothing when it does not wait */
/* ks_lock for who may change keys: locks these shards and all that are needed besides, so that everybody can be served who waits
 * for a key in one of them. Returns what is locked. `creates`: the holder may make keys; else it can but delete them (expiry),
 * for which few wait. 0: nothing is locked, see ks_set_held. Before it unlocks it calls ks_serve, if there is anything ready
 * (cmd/block.c). */
uint64_t ks_lock_to_serve(struct keyspace *ks, uint64_t mask, bool creates);
/* ks_unlock, unless somebody is to be served first: false, and everything is still locked. */
bool ks_unlock_unless_ready(struct keyspace *ks, uint64_t mask);
/* What the waiters of these shards, which are locked, need besides. */
uint64_t ks_wait_needs(const struct keyspace *ks, uint64_t locked, bool creates);
/* The value of the key has more than before. ks_set signals by itself, and so does what deletes keys, for on_nokey. */
void ks_signal_ready(struct keyspace *ks, int db, struct slice key);
bool ks_has_ready(const struct keyspace *ks, uint64_t locked);
/* Calls fn for those who wait for ready keys of the locked shards: key by key as they became ready, each from the longest waiting
 * on. fn removes the one it is given, and no other, or leaves it; what it does may make more keys ready. */
typedef void ks_serve_fn(void *arg, struct ks_wait *w);
void ks_serve(struct keyspace *ks, uint64_t locked, int64_t now_ms, ks_serve_fn *fn, void *arg);
/* How many keys are waited for, and by someone with on_nokey. No lock. */
void ks_blocked_keys(const struct keyspace *ks, uint64_t *ret_keys, uint64_t *ret_nokey);

/* ---- background work: thread 0's cron ---- */
/* Deletes expired keys of one shard (locked), at most max_keys. Returns how many; *ret_more when due ones are left. */
unsigned ks_expire_cycle(struct keyspace *ks, int shard, int64_t now_ms, unsigned max_keys, bool *ret_more);
/* Moves rehashing and shrinking on for a shard, for at most budget_us. True when work is left. */
bool ks_rehash_cycle(struct keyspace *ks, int shard, int64_t budget_us);
void ks_set_active_expire(struct keyspace *ks, bool enabled); /* DEBUG SET-ACTIVE-EXPIRE */
enum ks_keep {
    KS_KEEP_ALL = 1,    /* while clients are paused: keys that are due are hidden, not deleted, and the expire cycle rests */
    KS_KEEP_FOREIGN = 2 /* on a replica: the same, but the cycle deletes keys whose time is its own */
};
void ks_set_keep_expired(struct keyspace *ks, unsigned keep); /* 0, or of enum ks_keep. Atomic */
bool ks_keeps_foreign(const struct keyspace *ks);
/* While a forked child writes a snapshot: no rehashing, no access clocks, so that pages stay shared. Atomic. */
void ks_set_child_active(struct keyspace *ks, bool active);

struct ks_stats {
    uint64_t hits, misses, expired, expired_fields;
    uint64_t own_expires; /* times that a replica has set itself, as of the last expire cycles */
    uint64_t lazyfree_pending, lazyfreed;
};
void ks_stats_get(const struct keyspace *ks, struct ks_stats *ret); /* relaxed sums */
void ks_stats_reset(struct keyspace *ks);
size_t ks_overhead_bytes(const struct keyspace *ks, int db); /* tables, without entries; approximate, no lock */
/* Of the tables of all shards (dict_stats_add), all of which are locked. */
void ks_table_stats(const struct keyspace *ks, int db, int table, struct dict_stats *ret);

#endif
