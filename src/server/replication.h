/* Replication, what both sides share: the stream's identity (replication ids, offset), the backlog, the replicas of this server.
 * The primary's side is in repl_*.c; the side of a replica (the link to its primary) hangs on `link`.
 *
 * Threads: docs/THREADS.md. In short: `lock` guards ids, role and the list of replicas; it is of the group of locks that are held
 * for a few instructions, one at a time. What decides where the stream stands (the beginning of a full synchronization, a change
 * of ids) is done with all shard locks held, so that no command writes meanwhile. */
#ifndef KETTLE_SERVER_REPLICATION_H
#define KETTLE_SERVER_REPLICATION_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"
#include "repl/backlog.h"
#include "server/repl_failover.h"

struct server;
struct client;
struct io_thread;
struct repl_link; /* E: the link to the primary; repl_link.h */

#define REPL_ID_LEN 40

enum repl_role { REPL_PRIMARY = 0, REPL_REPLICA };

/* The file of a full synchronization that nobody but replicas needs (rdb-del-sync-files): it is removed when they have it. Known
 * by its number, since another file may take its name. */
struct repl_sync_file {
    char *path; /* NULL: there is none; owned */
    uint64_t dev, ino;
};

struct repl {
    struct server *srv;
    pthread_mutex_t lock;
    _Atomic int role;          /* enum repl_role */
    char id[REPL_ID_LEN + 1];  /* master_replid; under lock */
    char id2[REPL_ID_LEN + 1]; /* master_replid2: the history before this one; all 0 when there is none; under lock */
    int64_t second_offset;     /* id2 is good for what PSYNC asks from below this on; -1: none; under lock */
    struct backlog *backlog;   /* never changes; open or closed. backlog_end() is master_repl_offset */
    struct repl_link *link;    /* the replica's side; NULL until there is one */
    /* replicas, replica.h */
    struct list replicas; /* that have asked to be synchronized; under lock */
    _Atomic int n_replicas;
    _Atomic int n_good;               /* get the stream, and have acknowledged something within min-replicas-max-lag */
    _Atomic uint64_t replica_threads; /* mask: I/O threads with replicas that get the stream */
    _Atomic uint64_t told;            /* offset up to which those threads have been woken */
    int64_t no_replicas_since_us;     /* monotonic; under lock */
    struct list waiting;              /* clients in WAIT and WAITAOF, repl_wait.c; under lock */
    _Atomic int n_waiting;
    struct repl_failover failover;
    _Atomic int64_t shutdown_until_us; /* repl_shutdown.c: monotonic; 0: not waiting for replicas */
    struct repl_sync *sync;            /* full synchronization under way, repl_sync.c; thread 0's */
    struct repl_sync_file sync_file;   /* thread 0's */
    int64_t cron_us;                   /* thread 0's: the last turn of repl_cron */
    unsigned cron_turns;
    _Atomic uint64_t n_full, n_partial_ok, n_partial_err; /* INFO stats sync_* */
    _Atomic uint64_t bytes_out;                           /* given to replicas: streams and files */
    _Atomic uint64_t bytes_in, file_bytes_in;             /* of the primary: its stream, its files */
};

struct repl *repl_new(struct server *srv); /* start-up: a new id, no history */
struct repl *repl_free(struct repl *r);    /* returns NULL */

bool repl_has_persistence(struct server *srv); /* save points, or an append-only file: its files are its own. Any thread */

/* ---- identity: all shard locks held, or before the threads start ---- */

void repl_change_id(struct repl *r); /* a new history begins (changeReplicationId) */
void repl_clear_id2(struct repl *r);
void repl_shift_id(struct repl *r); /* this server is promoted: id becomes id2, good up to where we are, and a new id */
void repl_set_id(struct repl *r, const char *id); /* of the primary; id2 is left alone */
void repl_copy_ids(struct repl *r, char id[REPL_ID_LEN + 1], char id2[REPL_ID_LEN + 1], int64_t *ret_second_offset);

/* ---- the primary's side ---- */

/* With all shard locks held, or before the threads run: the backlog was opened or closed, or the role has changed. */
void repl_update_sink(struct repl *r);
/* Opens the backlog with a new history when it is closed. All shard locks held. */
void repl_begin_history(struct repl *r);
void repl_disconnect_replicas(struct repl *r); /* all of them; they will connect again. Any thread */
void repl_count_good(struct repl *r);          /* n_good anew, and whether writes are refused. Any thread, repl->lock free */
void repl_cron(struct server *srv);            /* thread 0, each turn of its cron */
void repl_apply_config(struct server *srv);    /* CONFIG SET of repl-* */
struct buf;
struct repl_memory {
    uint64_t buffers, backlog, replicas; /* bytes: all blocks, what the backlog's size covers, the rest */
};
void repl_memory_get(struct repl *repl, struct repl_memory *ret);
uint64_t
repl_not_counted(const struct repl *repl); /* of used memory, for maxmemory: keys must not go because a replica is slow */
void repl_info_replicas(struct server *srv, struct buf *o); /* INFO replication's lines from connected_slaves on */

static inline bool repl_is_replica(const struct repl *r) {
    return atomic_load_explicit(&((struct repl *)(uintptr_t)r)->role, memory_order_relaxed) == REPL_REPLICA;
}
static inline uint64_t repl_offset(const struct repl *r) { /* master_repl_offset */
    return backlog_end(r->backlog);
}

#endif
