/*
 * Full synchronization to sockets (repl-diskless-sync). The crypto state of a kernel-TLS connection is in its socket, so the
 * forked child writes to the replica as if there were no TLS, and neither the parent nor a pipe sees the bytes. Meanwhile the
 * parent must send nothing on that connection, and must have nothing under way when the child begins:
 *
 *      thread 0                     the replica's thread                     the child
 *      ask all members  ----------> nothing queued? conn_lend_output
 *      all are ready    <---------- (a duplicate of the descriptor)
 *      all shard locks: readers opened, fork  -------------------------------> header, data set, end mark
 *      the child has ended <------------------------------------------------- what was sent to whom
 *      tell all members ----------> conn_reclaim_output, WAIT_ACK
 *
 * Where userspace does the records the connection is not held; the child writes into a socket pair, and the parent gives what it
 * reads to these replicas (repl_relay.c), whose threads encrypt it.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/rand.h"
#include "server/child.h"
#include "server/client.h"
#include "server/repl_sync.h"
#include "server/snapshot.h"

#define HOLD_US 2000000 /* who has not got rid of what is queued by then has to wait for the next one */
/* More under one key than TLS allows cannot be sent by the child, which knows no KeyUpdate: 2^24 records of 16 KiB are 256 GiB.
 */
#define DIRECT_MAX_BYTES (96ULL << 30)

struct answer {
    struct replica *r;
    unsigned serial;
    bool is_direct;
    int fd;
    uint64_t sent;
    bool ok;
};

static void post(struct io_thread *th, void (*fn)(struct io_thread *th, void *arg), struct answer a) {
    struct answer *copy = mem_alloc(sizeof *copy);
    *copy = a;
    io_thread_post(th, fn, copy);
}

/* ---- the replica's thread ---- */

static void release_posted(struct io_thread *th, void *arg) {
    struct answer *a = arg;
    struct replica *r = a->r;
    (void)th;
    r->hold_serial = 0;
    if (r->client && r->is_held) {
        r->is_held = false;
        r->expected += a->sent;
        atomic_fetch_add_explicit(&r->repl->bytes_out, a->sent, memory_order_relaxed);
        conn_reclaim_output(&r->client->conn, a->sent);
    }
    replica_unref(r);
    mem_free(a);
}

static void written_posted(struct io_thread *th, void *arg) {
    struct answer *a = arg;
    struct replica *r = replica_ref(a->r);
    bool ok = a->ok;
    release_posted(th, a);
    if (r->client && !conn_is_closing(&r->client->conn) && replica_state(r) == REPLICA_WAIT_END) {
        if (!ok)
            conn_close(&r->client->conn, CONN_END_LOCAL, "");
        else
            replica_wait_for_ack(r);
    }
    replica_unref(r);
}

void replica_wait_for_ack(struct replica *r) {
    char name[300];
    pthread_mutex_lock(&r->repl->lock);
    replica_name(r, name, sizeof name);
    pthread_mutex_unlock(&r->repl->lock);
    log_notice("Streamed RDB transfer with replica %s succeeded (socket). Waiting for REPLCONF ACK from replica to enable "
               "streaming",
               name);
    if (!repl_sync_file_done(r)) return;
    atomic_store(&r->ack_us, clock_mono_us());
    pthread_mutex_lock(&r->repl->lock);
    atomic_store(&r->state, REPLICA_WAIT_ACK);
    pthread_mutex_unlock(&r->repl->lock);
    if (r->has_loaded) replica_go_online(r);
}

static void ready_posted(struct io_thread *th, void *arg);

static void answer_ready(struct replica *r, bool is_direct, int fd) {
    unsigned serial = r->hold_serial;
    r->hold_serial = 0;
    post(&r->repl->srv->threads[0], ready_posted,
         (struct answer){ .r = replica_ref(r), .serial = serial, .is_direct = is_direct, .fd = fd });
}

void repl_sockets_try_hold(struct replica *r) {
    struct conn *conn = &r->client->conn;
    if (!conn_can_lend(conn) || r->hold_relay) {
        answer_ready(r, false, -1);
        return;
    }
    if (!conn_lend_output(conn)) return; /* tried again when nothing is queued any more */
    int fd = fcntl(conn->io.fd, F_DUPFD_CLOEXEC, 0);
    if (fd < 0) {
        conn_reclaim_output(conn, 0);
        r->hold_serial = 0;
        return;
    }
    r->is_held = true;
    answer_ready(r, true, fd);
}

static void hold_posted(struct io_thread *th, void *arg) {
    struct answer *a = arg;
    struct replica *r = a->r;
    (void)th;
    if (r->client && replica_state(r) == REPLICA_WAIT_START) {
        r->hold_serial = a->serial;
        r->has_loaded = false;
        r->hold_relay = !a->is_direct;
        repl_sockets_try_hold(r);
    }
    replica_unref(r);
    mem_free(a);
}

/* ---- thread 0 ---- */

/* The child's word on each. Without it (it was killed) nothing is known to be complete. */
static void read_report(const struct repl_sync *sy, struct sync_report *rep, int n) {
    size_t want = (size_t)n * sizeof *rep, got = 0;
    for (int i = 0; i < n; i++) rep[i] = (struct sync_report){ .err = EIO };
    struct sync_report *fresh = mem_calloc((size_t)n + 1, sizeof *fresh);
    while (got < want) {
        ssize_t k = read(sy->report[0], (char *)fresh + got, want - got);
        if (k <= 0) break;
        got += (size_t)k;
    }
    if (got == want) memcpy(rep, fresh, want);
    mem_free(fresh);
}

static void sockets_done(void *arg, int pid, int status) {
    struct repl_sync *sy = arg;
    struct server *srv = sy->srv;
    bool ok = WIFEXITED(status) && WEXITSTATUS(status) == 0;
    int n_direct = 0;
    (void)pid;
    snapshot_transfer_ended(srv, CHILD_REPL);
    for (int i = 0; i < sy->n; i++) n_direct += sy->m[i].is_direct;
    struct sync_report *rep = mem_calloc((size_t)n_direct + 1, sizeof *rep);
    read_report(sy, rep, n_direct + 1);
    if (ok)
        log_notice("Background RDB transfer terminated with success");
    else
        log_warning("Background transfer error");
    for (int i = 0, at = 0; i < sy->n; i++) {
        if (!sy->m[i].is_direct) continue;
        const struct sync_report *one = &rep[at++];
        post(sy->m[i].r->th, written_posted,
             (struct answer){ .r = replica_ref(sy->m[i].r), .sent = one->sent, .ok = ok && one->err == 0 });
    }
    if (sy->relay) repl_relay_end(sy->relay, ok && rep[n_direct].err == 0);
    mem_free(rep);
    repl_sync_free(sy);
    repl_sync_consider_soon(srv);
}

static void let_go(struct repl_sync *sy) {
    for (int i = 0; i < sy->n; i++) post(sy->m[i].r->th, release_posted, (struct answer){ .r = replica_ref(sy->m[i].r) });
}

static void leave_out_unready(struct repl_sync *sy) {
    int kept = 0;
    for (int i = 0; i < sy->n; i++) {
        if (sy->m[i].is_ready) {
            sy->m[kept++] = sy->m[i];
            continue;
        }
        post(sy->m[i].r->th, release_posted, (struct answer){ .r = sy->m[i].r });
    }
    sy->n = kept;
}

/* A channel for the child's report, and one for the data where somebody needs the parent for it. 0 or -errno. */
static int open_channels(struct repl_sync *sy) {
    int pair[2], n_relayed = 0;
    if (pipe2(sy->report, O_CLOEXEC) != 0) return -errno;
    for (int i = 0; i < sy->n; i++) n_relayed += !sy->m[i].is_direct;
    if (n_relayed == 0) return 0;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) != 0) return -errno;
    sy->relay_fd = pair[1];
    sy->relay = repl_relay_new(sy, pair[0]);
    return 0;
}

static void sockets_prepare(void *arg, const struct propagate_point *pt) {
    repl_sync_look_up(arg, pt);
}

static void sockets_forked(void *arg, const struct propagate_point *pt) {
    (void)pt;
    snapshot_transfer_forked(((struct repl_sync *)arg)->srv);
}

static pid_t start_child(struct repl_sync *sy) {
    int *fds = mem_calloc((size_t)sy->n + 2, sizeof *fds), n = 0;
    for (int i = 0; i < sy->n; i++)
        if (sy->m[i].is_direct) fds[n++] = sy->m[i].fd;
    if (sy->relay_fd >= 0) fds[n++] = sy->relay_fd;
    fds[n++] = sy->report[1];
    struct child_opts o = { .kind = CHILD_REPL,
                            .locked = true,
                            .keep_fds = fds,
                            .n_keep_fds = n,
                            .prepare = sockets_prepare,
                            .run = repl_child_sockets,
                            .forked = sockets_forked,
                            .done = sockets_done,
                            .arg = sy };
    pid_t pid = child_start(sy->srv, &o);
    mem_free(fds);
    return pid;
}

static void sockets_failed(struct repl_sync *sy) {
    log_warning("BGSAVE for replication failed");
    let_go(sy);
    repl_sync_fail(sy, true);
    if (sy->relay) repl_relay_end(sy->relay, false);
    repl_sync_free(sy);
}

static void go(struct repl_sync *sy) {
    struct server *srv = sy->srv;
    loop_timer_cancel(srv->threads[0].loop, &sy->timer);
    leave_out_unready(sy);
    uint64_t locked = sy->n ? engine_lock(&srv->eng, ks_all_mask(ks_n_shards(srv->ks)), false) : 0;
    if (!locked) { /* nobody is left, or a script has the shards: later */
        let_go(sy);
        repl_sync_free(sy);
        return;
    }
    rand_hex_id(sy->mark, 40);
    repl_sync_mark_begun(sy);
    int r = open_channels(sy);
    pid_t pid = r < 0 ? r : start_child(sy);
    engine_unlock(&srv->eng, locked, 0);
    if (pid < 0) {
        sockets_failed(sy);
        return;
    }
    log_notice("Background RDB transfer started by pid %d", (int)pid);
    for (int i = 0; i < sy->n; i++) {
        if (sy->m[i].fd >= 0) close(sy->m[i].fd); /* the child's now */
        sy->m[i].fd = -1;
    }
    close(sy->relay_fd);
    close(sy->report[1]);
    sy->relay_fd = sy->report[1] = -1;
}

static void ready_posted(struct io_thread *th, void *arg) {
    struct answer *a = arg;
    struct repl_sync *sy = th->srv->repl->sync;
    struct sync_member *m = NULL;
    if (sy && sy->serial == a->serial && sy->phase == SYNC_HOLDING)
        for (int i = 0; i < sy->n && !m; i++)
            if (sy->m[i].r == a->r && !sy->m[i].is_ready) m = &sy->m[i];
    if (!m) { /* too late */
        if (a->fd >= 0) close(a->fd);
        post(a->r->th, release_posted, (struct answer){ .r = a->r });
        mem_free(a);
        return;
    }
    m->is_ready = true;
    m->is_direct = a->is_direct;
    m->fd = a->fd;
    replica_unref(a->r);
    mem_free(a);
    if (--sy->n_awaited == 0) go(sy);
}

static void hold_expired(struct loop_timer *t) {
    go(list_entry(t, struct repl_sync, timer));
}

void repl_sockets_begin(struct repl_sync *sy) {
    struct loop *loop = sy->srv->threads[0].loop;
    bool direct = mem_used() < DIRECT_MAX_BYTES;
    sy->phase = SYNC_HOLDING;
    sy->n_awaited = sy->n;
    sy->timer.fn = hold_expired;
    loop_timer_set(loop, &sy->timer, clock_mono_us() + HOLD_US);
    for (int i = 0; i < sy->n; i++)
        post(sy->m[i].r->th, hold_posted,
             (struct answer){ .r = replica_ref(sy->m[i].r), .serial = sy->serial, .is_direct = direct });
}
