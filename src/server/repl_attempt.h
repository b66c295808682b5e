/* One attempt to get the primary's stream: what its thread and thread 0 share. Between repl_link.c, repl_attempt.c and
 * repl_receive.c; nobody else includes it.
 *
 * An attempt is counted: the link, its thread and each message to thread 0 hold it. It is given up by attempt_cancel, at any
 * time; then its thread posts nothing more and ends soon, wherever it is (a name that is being looked up takes as long as it
 * takes, but touches nothing of the server's). */
#ifndef KETTLE_SERVER_REPL_ATTEMPT_H
#define KETTLE_SERVER_REPL_ATTEMPT_H

#include <pthread.h>

#include "base/clock.h"
#include "net/syncio.h"
#include "repl/replica_handshake.h"
#include "server/repl_link.h"
#include "server/server.h"

enum attempt_load { LOAD_DISK, LOAD_EMPTY, LOAD_SWAP }; /* repl-diskless-load, with `on-empty-db` decided */

struct repl_attempt {
    struct server *srv;
    _Atomic unsigned refs;
    uint64_t epoch;
    _Atomic bool cancelled;
    /* what to do: copied from the configuration, does not change */
    char *host, *user, *auth, *source, *announce_ip;
    int port, announce_port;
    struct ktls_ctx *tls; /* NULL: no TLS; a reference */
    int64_t timeout_us, started_us;
    bool is_refused; /* what was asked for by PSYNC */
    bool failover;
    char id[REPLICA_ID_LEN + 1]; /* "": no history */
    int64_t offset;              /* the first byte wanted, as PSYNC counts */
    /* between the threads */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    void (*step)(struct repl_attempt *a); /* that thread 0 is to run; NULL: none */
    int fd;                               /* of io, while it may be shut down by attempt_cancel; -1 */
    /* the thread's, and thread 0's during a step */
    struct syncio io;
    bool is_taken;     /* the connection is a client of thread 0 now */
    bool is_pre_psync; /* the primary knows only SYNC: answer.id is made up here */
    struct psync_reply answer;
    struct rdb_framing framing;
    enum attempt_load load;
    bool is_async;           /* LOAD_SWAP of the same history: the old data is served meanwhile */
    bool is_loading;         /* the server says so */
    bool must_wait;          /* link_step_loaded has done nothing: replicas of this server still read the old history */
    struct keyspace *data;   /* what is read, until it takes the place of the server's; then what was there before */
    struct slice *libraries; /* functions of the RDB; each from mem_alloc */
    int n_libraries;
    char temp[64];  /* LOAD_DISK: the file that is received, */
    char *path;     /* where it goes when it is whole, */
    int keep_errno; /* and why it could not */
    int stream_db;  /* selected in the stream, by the RDB; -1: not said */
};

/* repl_link_info.c */
int64_t link_fsynced_offset(struct server *srv); /* of the stream: what is in this server's append-only file, on the disk; -1:
                                                  * there is none */

/* repl_attempt.c */
int attempt_start(struct repl_attempt *a); /* its thread; 0 or -errno */
void attempt_cancel(struct repl_attempt *a);
void attempt_ref(struct repl_attempt *a);
void attempt_unref(struct repl_attempt *a);
/* Its thread: fn is run by thread 0, with all shards locked, while the attempt is still wanted. False: it is not. */
bool attempt_step(struct repl_attempt *a, void (*fn)(struct repl_attempt *a));
static inline bool attempt_is_cancelled(const struct repl_attempt *a) {
    return atomic_load(&((struct repl_attempt *)(uintptr_t)a)->cancelled);
}
static inline int64_t attempt_deadline(const struct repl_attempt *a) {
    return clock_mono_us() + a->timeout_us;
}
/* The reason why the last call on a->io failed. Valid until the thread's next call. */
const char *attempt_io_error(struct repl_attempt *a, int rc);

/* repl_receive.c: the answer was FULLRESYNC. True: everything is in place, but for the connection. Its thread. */
bool attempt_receive(struct repl_attempt *a);

/* repl_link.c: steps, run by thread 0 */
void link_note_state(struct repl_attempt *a, enum link_state state); /* any thread; nothing when it is cancelled */
void link_step_full(struct repl_attempt *a);                         /* FULLRESYNC: a transfer begins */
void link_step_begin_load(struct repl_attempt *a);
void link_step_loaded(struct repl_attempt *a); /* the data takes its place, and the connection is gone on with */
void link_step_continue(struct repl_attempt *a);
void link_step_failed(struct repl_attempt *a);
void link_run_step(struct io_thread *th, void *arg); /* a message to thread 0 */

#endif
