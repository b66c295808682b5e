/* The link to the primary: this server as a replica.
 *
 *   NONE --REPLICAOF--> CONNECT --cron--> CONNECTING --connected--> HANDSHAKE --+CONTINUE------------------> CONNECTED
 *    ^                   ^  ^  \_____ an attempt, on a thread of its own ____/    \--+FULLRESYNC-> TRANSFER --/  |
 *    |                   |  `----------- it failed: again after a second ----------------------------'           |
 *    `--REPLICAOF NO ONE `------------------------------- the connection ended -----------------------------------'
 *
 * Two sides. An attempt (repl_attempt.c, repl_receive.c) is a thread that connects, shakes hands, receives and reads the RDB into
 * a keyspace of its own, with blocking I/O before exact deadlines; the live keyspace it never touches. What changes the server it
 * asks thread 0 to do, under all shard locks: to empty the data set, to put the new one in its place, to go on with the
 * connection. That then is a client of thread 0 whose commands are applied and counted (repl_apply.c).
 *
 * Threads: `epoch` moves with every change of what is followed, under all shard locks. What belongs to an older one is stale: an
 * attempt stops, a client of kind PRIMARY applies nothing more. Fields under repl->lock or atomics, but where it says otherwise.
 */
#ifndef KETTLE_SERVER_REPL_LINK_H
#define KETTLE_SERVER_REPL_LINK_H

#include "base/buf.h"
#include "base/slice.h"
#include "net/loop.h"
#include "proto/reply.h"
#include "server/replication.h"

struct client;
struct repl_attempt;

enum link_state { LINK_NONE, LINK_CONNECT, LINK_CONNECTING, LINK_HANDSHAKE, LINK_TRANSFER, LINK_CONNECTED };

struct repl_link {
    struct server *srv;
    struct repl *repl;
    _Atomic int state; /* enum link_state; changed under repl->lock */
    _Atomic uint64_t epoch;
    _Atomic unsigned n_threads; /* of attempts, given up or not, that have not ended */
    char *host;                 /* NULL: a primary. Under repl->lock; owned */
    int port;
    bool failover;              /* the next PSYNC asks the other side to take over; under repl->lock */
    bool is_pre_psync;          /* the primary knows only SYNC, and no acknowledgements; thread 0's */
    bool has_history;           /* id and offset are worth asking for: PSYNC may go on from there; under repl->lock */
    int stream_db;              /* selected in the stream where the offset is; under repl->lock */
    int64_t lost_us;            /* monotonic, since when the link is down; 0: never up. Under repl->lock */
    int64_t changed_us;         /* monotonic, of the last REPLICAOF; under repl->lock */
    _Atomic int64_t last_io_us; /* monotonic: something came from the primary */
    _Atomic uint64_t transfer_total, transfer_read; /* bytes of the RDB; total 0: not known */
    _Atomic int64_t transfer_io_us;
    struct repl_attempt *attempt; /* the one under way; under repl->lock */
    /* thread 0's */
    struct client *primary; /* while CONNECTED */
    int64_t cron_us;
    struct loop_timer again; /* an attempt's step waits for a script to give the shards back */
    struct repl_attempt *waiting;
};

struct repl_link *repl_link_new(struct server *srv); /* start-up, once srv->repl is there; sets srv->repl->link */
struct repl_link *repl_link_free(struct repl_link *l);
/* Start-up, before threads run: `replicaof` of the configuration. Nothing is asked for before data was loaded. */
void repl_link_start(struct server *srv);
/* The server ends: what is under way is given up. Main thread, thread 0's loop has ended. False: a thread is left that cannot be
 * woken (it connects, or has a name looked up): nothing of the server's may be freed. */
bool repl_link_stop(struct server *srv);

/* ---- any I/O thread, with all shard locks held ---- */

/* Becomes a replica of host:port, or of another one than now. failover: PSYNC asks it to take over. */
void repl_link_follow(struct server *srv, struct slice host, int port, bool failover);
/* Becomes a primary (REPLICAOF NO ONE, PSYNC FAILOVER): the history goes on under a new id. Nothing when it is one. */
void repl_link_promote(struct server *srv);
/* Where the stream of the primary stands: the offset applied, and the database selected there. For the RDB of a replica. */
void repl_link_point(struct server *srv, uint64_t *ret_offset, int *ret_db);
/* Start-up, data was loaded from an RDB that says where it stood. Any thread, before the end of loading. */
void repl_link_set_history(struct server *srv, const char *id, int64_t offset, int db);

/* ---- any thread ---- */

static inline enum link_state repl_link_state(const struct repl_link *l) {
    return l ? (enum link_state)atomic_load_explicit(&((struct repl_link *)(uintptr_t)l)->state, memory_order_relaxed)
             : LINK_NONE;
}
static inline bool repl_link_is_up(const struct repl *r) {
    return repl_link_state(r->link) == LINK_CONNECTED;
}
void repl_link_apply_config(struct server *srv);          /* CONFIG SET of replica-read-only and its like */
void repl_link_info(struct server *srv, struct buf *o);   /* INFO replication's lines of a replica, master_host.. */
void repl_link_role(struct repl *r, struct reply *reply); /* ROLE's reply of a replica */

/* ---- thread 0 ---- */

void repl_link_cron(struct server *srv);
void repl_link_send_ack(struct server *srv); /* REPLCONF ACK, now */

void repl_link_lost(struct client *c); /* the connection of a client of kind PRIMARY has ended */

#endif
