/* A replica of this server, as its primary sees it: a client that has sent SYNC or PSYNC, and where it stands.
 *
 *   NEW --PSYNC, full--> WAIT_START --> WAIT_END --file--> SENDING --------> ONLINE
 *    |                        ^            `--child writes to it--> WAIT_ACK ---^
 *    |                        `--- the child failed: next attempt
 *    `----PSYNC, partial-----------------------------------------------------> ONLINE
 *
 * The structure is counted, because thread 0, which runs full synchronizations, holds on to replicas whose connection may end
 * meanwhile on the I/O thread that owns it. `client` is set to NULL when that happens, under repl.lock; whoever holds the lock
 * may rely on what the client is, and only its own thread may touch its connection. */
#ifndef KETTLE_SERVER_REPLICA_H
#define KETTLE_SERVER_REPLICA_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "repl/backlog.h"
#include "repl/psync.h"
#include "server/replication.h"

enum replica_state {
    REPLICA_NEW,        /* has said REPLCONF, and not yet what it wants */
    REPLICA_WAIT_START, /* a full synchronization for it has yet to begin */
    REPLICA_WAIT_END,   /* the child writes the file, or writes to the replica */
    REPLICA_SENDING,    /* the file is sent */
    REPLICA_WAIT_ACK,   /* it was given everything by the child, and says so when it has loaded it */
    REPLICA_ONLINE,     /* gets the stream */
    REPLICA_ENDING      /* is to be closed: it wanted the file only, or is beyond help */
};

struct replica {
    struct repl *repl;
    _Atomic unsigned refs;
    struct client *client; /* NULL: gone. Changed by its thread, under repl->lock */
    struct io_thread *th;  /* the client's */
    uint64_t client_id;
    struct list node;        /* repl->replicas, from SYNC or PSYNC on; under repl->lock */
    struct list thread_node; /* th->replicas, once it gets the stream; its thread's */
    _Atomic int state;       /* enum replica_state; changed under repl->lock */
    /* REPLCONF; under repl->lock */
    int port;                       /* 0: it has not said */
    char ip[REPLCONF_IP_MAX + 1];   /* "": the connection's */
    char peer[REPLCONF_IP_MAX + 1]; /* the connection's */
    unsigned capa, filter;
    bool rdb_only;
    bool is_pre_psync; /* said SYNC: it sends no acknowledgements */
    /* figures; atomics */
    _Atomic uint64_t ack, fack;  /* offsets acknowledged: received, fsynced in its append-only file */
    _Atomic int64_t ack_us;      /* monotonic, of the last acknowledgement */
    _Atomic uint64_t got;        /* offset up to which it was given the stream (put into its output queue) */
    _Atomic int64_t progress_us; /* monotonic: the last time it took bytes of a full synchronization */
    /* its thread's; before ONLINE thread 0's, under repl->lock */
    struct backlog_reader reader;
    uint64_t start_offset; /* of its full synchronization */
    uint64_t expected;     /* bytes its output queue has been given since it became a replica: more are replies */
    uint64_t seen_out;     /* its thread's: conn.bytes_out when it was looked whether it takes its file */
    int64_t asked_us;      /* monotonic, of SYNC or PSYNC */
    int file_fd;           /* while it is to be sent; -1 */
    bool by_sockets;       /* as start_offset: a child writes to it, and not a file */
    bool is_held;          /* its thread's: its connection sends nothing, a child does */
    unsigned hold_serial;  /* its thread's: a full synchronization waits for its output to be held; 0: none */
    bool has_loaded;       /* its thread's: it has acknowledged what a child has just given it */
    bool hold_relay;       /* ... though not held, but given the data by the parent */
};

/* ---- replica.c ---- */

struct replica *replica_of(struct client *c); /* its thread: made when there is none yet */
struct replica *replica_ref(struct replica *r);
void replica_unref(struct replica *r);
/* Takes c->replica away from a client that ends. Its thread. */
void replica_forget(struct client *c);
/* For io_thread_post to its thread: ends its connection. arg: a reference, taken. */
void replica_drop_posted(struct io_thread *th, void *arg);
/* "127.0.0.1:6380", as logs show it. lock held. */
const char *replica_name(const struct replica *r, char *out, size_t cap);
static inline enum replica_state replica_state(const struct replica *r) {
    return (enum replica_state)atomic_load_explicit(&((struct replica *)(uintptr_t)r)->state, memory_order_acquire);
}
/* Into the list of replicas: CLIENT LIST says S from here on. Its thread; takes repl->lock. */
void replica_enlist(struct replica *r, enum replica_state state);

/* ---- repl_feed.c: on the replica's thread ---- */

void replica_go_online(struct replica *r);    /* reader is open: the stream follows what is queued */
void replica_wait_for_ack(struct replica *r); /* a child has given it everything; repl_sockets.c */
void replica_drained(struct client *c);
/* What the replica has still to get, in bytes: client-output-buffer-limit counts it. */
size_t replica_pending(const struct client *c);
bool replica_has_replied(const struct client *c); /* it was replied something to: it has sent what replicas do not send */
void repl_before_sleep(struct io_thread *th);     /* tells other threads that there is something to be sent, and sends */
void repl_wake(struct repl *repl);                /* for threads that have no loop. Any thread */

#endif
