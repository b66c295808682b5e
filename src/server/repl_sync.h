/* Full synchronization. One at a time, for all replicas that wait for one and want the same; thread 0 runs it:
 *
 *                        .-- a file ------> child writes it ------> each replica's thread sends it       (repl_sync.c)
 *   repl_sync_consider --|
 *                        `-- to sockets --> each thread holds its connection's output --> child writes   (repl_sockets.c)
 *                                           to them; in userspace TLS to the parent, who encrypts        (repl_relay.c)
 *
 * The stream that follows begins where the data set was when the child was forked: the backlog's readers are opened there, under
 * the same hold of all shard locks. */
#ifndef KETTLE_SERVER_REPL_SYNC_H
#define KETTLE_SERVER_REPL_SYNC_H

#include <stdbool.h>
#include <stdint.h>

#include "net/loop.h"
#include "repl/backlog.h"
#include "server/propagate.h"
#include "server/replica.h"
#include "server/snapshot.h"

struct repl_relay;

enum sync_phase { SYNC_HOLDING, SYNC_RUNNING };

struct sync_member {
    struct replica *r; /* counted */
    bool is_ready;     /* its thread has said so */
    bool is_direct;    /* the child writes to its socket */
    int fd;            /* a duplicate of it, until the child has it; -1 */
};

struct repl_sync { /* thread 0's */
    struct server *srv;
    unsigned serial;
    bool to_sockets;
    enum sync_phase phase;
    unsigned capa, filter; /* of all its members */
    int n, cap, n_awaited;
    struct sync_member *m;
    struct backlog_reader start; /* while it runs: who comes late begins there as well */
    uint64_t offset;
    char id[REPL_ID_LEN + 1];
    char mark[41]; /* sockets: what the end is known by */
    int report[2]; /* the child's, about its sockets */
    int relay_fd;  /* the child's end; -1 */
    struct repl_relay *relay;
    struct loop_timer timer;
    /* what the child is to know, looked up before the fork */
    char *path;
    int file_fd, file_errno; /* of the file at that path, once it is written; -1, and why */
    struct rdb_file_info info;
    struct rdb_save_opts opts;
    int64_t timeout_us;
};

/* ---- repl_sync.c ---- */

void repl_sync_wanted(struct replica *r);    /* its thread: it is in WAIT_START */
void repl_sync_consider(struct server *srv); /* thread 0: begins one if it is time */
/* The same as a message: for a child's end, which may come with the shards locked (child_kill). Any thread. */
void repl_sync_consider_soon(struct server *srv);
void repl_sync_drained(struct replica *r); /* its thread: nothing is queued any more */
/* Thread 0, or who takes the server apart: rdb-del-sync-files. at_end: no replica needs a file any more. */
void repl_sync_remove_file(struct repl *repl, bool at_end);
/* Between the files, thread 0: */
struct repl_sync *repl_sync_free(struct repl_sync *sy);
void repl_sync_look_up(struct repl_sync *sy, const struct propagate_point *pt); /* child_opts.prepare */
void repl_sync_mark_begun(struct repl_sync *sy);                                /* all shard locks held */
void repl_sync_fail(struct repl_sync *sy, bool say_so);                         /* its members are closed */
struct sync_member *repl_sync_add(struct repl_sync *sy, struct replica *r_ref);
/* The replica's thread: its file, or the child's stream, is complete. False: it wanted no more, and is closed. */
bool repl_sync_file_done(struct replica *r);

#define REPL_SYNC_PREFIX 100
size_t repl_sync_prefix(const struct repl_sync *sy, char out[REPL_SYNC_PREFIX]); /* "+FULLRESYNC id offset\r\n": its length */

/* ---- repl_sockets.c ---- */

void repl_sockets_begin(struct repl_sync *sy);
void repl_sockets_try_hold(struct replica *r); /* its thread */

/* ---- repl_child.c: in the child ---- */

int repl_child_sockets(void *sync, const struct propagate_point *pt); /* child_opts.run */

struct sync_report { /* one a direct member, then one for the relay; through sync.report */
    uint64_t sent;
    int err;
};

/* ---- repl_relay.c ---- */

/* Takes fd (the parent's end), reads it on thread 0, and gives what comes to the members that are not direct. */
struct repl_relay *repl_relay_new(struct repl_sync *sy, int fd_take);
/* The child has ended: what is still to be read is the rest. ok: of everything. The relay ends by itself. */
void repl_relay_end(struct repl_relay *y, bool ok);

#endif
