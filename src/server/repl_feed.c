/*
 * The stream to the replicas. Place in the flow: commands have run and propagate.c has appended to the backlog; before the thread
 * sleeps, each of its replicas that gets the stream is given what is new, by reference to the backlog's blocks, and it leaves
 * with the turn's replies. Other threads that have replicas are woken, once for all that they have not seen yet.
 *
 * A replica's output queue holds FEED_AHEAD at most; the rest stays in the backlog, behind the replica's reader, where all
 * replicas share it. So a slow replica costs no queue, and client-output-buffer-limit counts what its reader has yet to read.
 *
 * Thread: the replica's; repl_wake: any.
 */
#include "server/replica.h"
#include "server/repl_sync.h"

#include "base/clock.h"
#include "base/log.h"
#include "server/client.h"

#define FEED_AHEAD (256 * 1024) /* bytes in an output queue beyond which nothing is added */
#define FEED_PIECES 16

static void feed(struct replica *r) {
    struct client *c = r->client;
    struct backlog_piece piece[FEED_PIECES];
    if (conn_is_closing(&c->conn) || r->is_held) return;
    while (c->conn.out.bytes < FEED_AHEAD) {
        int n = backlog_read(r->repl->backlog, &r->reader, FEED_AHEAD, piece, FEED_PIECES);
        if (n == 0) break;
        for (int i = 0; i < n; i++) {
            obuf_append_ref(&c->conn.out, piece[i].ptr, piece[i].len, backlog_release, piece[i].ref);
            r->expected += piece[i].len;
            atomic_fetch_add_explicit(&r->repl->bytes_out, piece[i].len, memory_order_relaxed);
        }
    }
    atomic_store_explicit(&r->got, r->reader.offset, memory_order_relaxed);
    client_pushed(c);
}

void replica_go_online(struct replica *r) {
    struct io_thread *th = r->th;
    pthread_mutex_lock(&r->repl->lock);
    atomic_store(&r->state, REPLICA_ONLINE);
    pthread_mutex_unlock(&r->repl->lock);
    atomic_store(&r->ack_us, clock_mono_us());
    if (list_empty(&r->thread_node)) list_push_back(&th->replicas, &r->thread_node);
    atomic_fetch_or(&r->repl->replica_threads, 1ULL << th->index);
    repl_count_good(r->repl);
    feed(r);
}

void replica_drained(struct client *c) {
    struct replica *r = c->replica;
    if (replica_state(r) != REPLICA_ONLINE) repl_sync_drained(r);
    if (replica_state(r) == REPLICA_ONLINE && !list_empty(&r->thread_node) && r->reader.offset != repl_offset(r->repl)) feed(r);
}

size_t replica_pending(const struct client *c) {
    const struct replica *r = c->replica;
    /* Until its synchronization has begun the reader is thread 0's, which places it before it changes the state. */
    if (replica_state(r) == REPLICA_WAIT_START || !backlog_reader_is_open(&r->reader)) return 0;
    uint64_t end = repl_offset(r->repl);
    return end > r->reader.offset ? (size_t)(end - r->reader.offset) : 0;
}

bool replica_has_replied(const struct client *c) {
    const struct replica *r = c->replica;
    return replica_state(r) != REPLICA_NEW && c->conn.bytes_out + c->conn.out.bytes + c->conn.file_left != r->expected;
}

/* ---- waking ---- */

static void due_posted(struct io_thread *th, void *arg) {
    (void)th; /* before it sleeps it looks */
    (void)arg;
}

static void wake_threads(struct repl *repl, struct io_thread *me) {
    for (uint64_t m = atomic_load(&repl->replica_threads); m; m &= m - 1) {
        struct io_thread *th = &repl->srv->threads[__builtin_ctzll(m)];
        if (th != me && !atomic_exchange(&th->repl_due, true)) io_thread_post(th, due_posted, NULL);
    }
}

void repl_wake(struct repl *repl) {
    if (!io_thread_self()) wake_threads(repl, NULL);
}

void repl_before_sleep(struct io_thread *th) {
    struct repl *repl = th->srv->repl;
    uint64_t threads = atomic_load_explicit(&repl->replica_threads, memory_order_relaxed);
    if (__builtin_expect(threads == 0, 1)) return;
    atomic_store(&th->repl_due, false);
    uint64_t end = repl_offset(repl), told = atomic_load_explicit(&repl->told, memory_order_relaxed);
    if (end != told) {
        atomic_store_explicit(&repl->told, end, memory_order_relaxed);
        wake_threads(repl, th);
    }
    list_for_each_safe(n, tmp, &th->replicas) {
        struct replica *r = list_entry(n, struct replica, thread_node);
        if (r->reader.offset != end) feed(r);
    }
}
