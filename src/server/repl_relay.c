/*
 * Diskless full synchronization in userspace TLS: the child cannot encrypt for a connection whose state is in this process, so it
 * writes into a socket pair; what arrives here is handed to the threads of these replicas, who encrypt and send it.
 *
 *   child --> pair --> thread 0: one copy, counted --post--> output queue of each replica, by reference
 *                          ^                                         |
 *                          `--- reads on, when all have few left <---' sent: released
 *
 * Each replica may have RELAY_AHEAD bytes waiting. When one has more, the pair is not read until it has less; if it takes nothing
 * for a quarter of repl-timeout while another one waits for more, it is given up, as the child does with sockets it writes to
 * itself (repl/fanout.h).
 *
 * Thread 0, but for what says that it runs on the replica's thread. Counted: by thread 0 until the pair has ended, and by each
 * chunk that is on its way.
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "server/client.h"
#include "server/repl_sync.h"

#define RELAY_AHEAD (4 << 20)
#define LOOK_US 100000
#define STALL_SHARE 4

struct relay_member {
    struct replica *r; /* counted */
    struct repl_relay *relay;
    size_t skip;            /* of the stream's beginning; thread 0's */
    _Atomic size_t waiting; /* bytes in its queue */
    _Atomic bool is_gone;
    size_t seen;     /* thread 0's: what was waiting at the last look ... */
    int64_t seen_us; /* ... that differed from the one before */
};

struct repl_relay {
    struct loop_io io;
    struct server *srv;
    _Atomic unsigned refs;
    bool is_stopped;   /* the pair is not read */
    bool is_at_end;    /* nothing more is read */
    bool is_closed;    /* on_closed has come */
    bool is_known, ok; /* the child has ended */
    struct loop_timer look;
    int n;
    struct relay_member m[];
};

struct chunk { /* counted: bytes of the stream */
    _Atomic unsigned refs;
    size_t len;
    char bytes[];
};

struct piece { /* of a chunk, for one member */
    struct relay_member *m;
    struct chunk *chunk;
    size_t off, len;
};

static void unref(struct repl_relay *y) {
    if (atomic_fetch_sub_explicit(&y->refs, 1, memory_order_acq_rel) != 1) return;
    for (int i = 0; i < y->n; i++) replica_unref(y->m[i].r);
    mem_free(y);
}

static void look_posted(struct io_thread *th, void *arg);

/* ---- the replica's thread ---- */

/* Sent, or dropped with its queue. */
static void piece_done(void *arg) {
    struct piece *p = arg;
    struct relay_member *m = p->m;
    struct repl_relay *y = m->relay;
    size_t before = atomic_fetch_sub(&m->waiting, p->len);
    if (atomic_fetch_sub_explicit(&p->chunk->refs, 1, memory_order_acq_rel) == 1) mem_free(p->chunk);
    bool low = before >= RELAY_AHEAD / 2 && before - p->len < RELAY_AHEAD / 2;
    mem_free(p);
    if (low)
        io_thread_post(&y->srv->threads[0], look_posted, y); /* the count goes with it */
    else
        unref(y);
}

static void piece_posted(struct io_thread *th, void *arg) {
    struct piece *p = arg;
    struct replica *r = p->m->r;
    (void)th;
    if (!r->client || conn_is_closing(&r->client->conn) || replica_state(r) != REPLICA_WAIT_END) {
        atomic_store(&p->m->is_gone, true);
        piece_done(p);
        return;
    }
    obuf_append_ref(&r->client->conn.out, p->chunk->bytes + p->off, p->len, piece_done, p);
    r->expected += p->len;
    atomic_fetch_add_explicit(&r->repl->bytes_out, p->len, memory_order_relaxed);
    conn_flush_later(&r->client->conn);
}

static void complete_posted(struct io_thread *th, void *arg) {
    struct replica *r = arg;
    (void)th;
    if (r->client && !conn_is_closing(&r->client->conn) && replica_state(r) == REPLICA_WAIT_END) replica_wait_for_ack(r);
    replica_unref(r);
}

/* ---- thread 0 ---- */

static void drop(struct relay_member *m) {
    atomic_store(&m->is_gone, true);
    io_thread_post(m->r->th, replica_drop_posted, replica_ref(m->r));
}

static void finish_if_over(struct repl_relay *y) {
    if (!y->is_closed || !y->is_known) return;
    for (int i = 0; i < y->n; i++) {
        if (atomic_load(&y->m[i].is_gone)) continue;
        if (y->ok)
            io_thread_post(y->m[i].r->th, complete_posted, replica_ref(y->m[i].r)); /* behind its pieces */
        else
            drop(&y->m[i]);
    }
    loop_timer_cancel(y->srv->threads[0].loop, &y->look);
    unref(y);
}

static bool anyone_alive(const struct repl_relay *y) {
    for (int i = 0; i < y->n; i++)
        if (!atomic_load(&((struct repl_relay *)(uintptr_t)y)->m[i].is_gone)) return true;
    return false;
}

static bool anyone_full(const struct repl_relay *y) {
    for (int i = 0; i < y->n; i++) {
        struct relay_member *m = (struct relay_member *)(uintptr_t)&y->m[i];
        if (!atomic_load(&m->is_gone) && atomic_load(&m->waiting) >= RELAY_AHEAD) return true;
    }
    return false;
}

static void drop_stalled(struct repl_relay *y) {
    int64_t now = clock_mono_us(), limit = cfg_get(&y->srv->cfg->repl_timeout) * 1000000;
    bool someone_waits = false;
    for (int i = 0; i < y->n; i++) someone_waits |= !atomic_load(&y->m[i].is_gone) && atomic_load(&y->m[i].waiting) == 0;
    if (someone_waits) limit /= STALL_SHARE;
    for (int i = 0; i < y->n; i++) {
        struct relay_member *m = &y->m[i];
        size_t waiting = atomic_load(&m->waiting);
        if (waiting != m->seen || waiting == 0 || m->seen_us == 0) {
            m->seen = waiting;
            m->seen_us = now;
        } else if (!atomic_load(&m->is_gone) && now - m->seen_us > limit) {
            drop(m);
        }
    }
}

/* Nobody is left: the child's writes fail. */
static void give_up(struct repl_relay *y) {
    if (y->is_at_end) return;
    y->is_at_end = true;
    loop_io_close(&y->io);
}

static void look(struct repl_relay *y) {
    if (y->is_at_end) return;
    drop_stalled(y);
    if (!anyone_alive(y)) {
        give_up(y);
    } else if (y->is_stopped && !anyone_full(y)) {
        y->is_stopped = false;
        loop_recv_start(&y->io);
    }
}

static void look_fired(struct loop_timer *t) {
    struct repl_relay *y = list_entry(t, struct repl_relay, look);
    look(y);
    if (!y->is_at_end) loop_timer_set(y->io.loop, t, clock_mono_us() + LOOK_US);
}

static void look_posted(struct io_thread *th, void *arg) {
    (void)th;
    look(arg);
    unref(arg);
}

static void hand_out(struct repl_relay *y, const char *data, size_t len) {
    struct chunk *chunk = mem_alloc(sizeof *chunk + len);
    atomic_init(&chunk->refs, 1);
    chunk->len = len;
    memcpy(chunk->bytes, data, len);
    for (int i = 0; i < y->n; i++) {
        struct relay_member *m = &y->m[i];
        size_t off = m->skip < len ? m->skip : len;
        m->skip -= off;
        if (atomic_load(&m->is_gone) || off == len) continue;
        struct piece *p = mem_alloc(sizeof *p);
        *p = (struct piece){ .m = m, .chunk = chunk, .off = off, .len = len - off };
        atomic_fetch_add_explicit(&chunk->refs, 1, memory_order_relaxed);
        atomic_fetch_add_explicit(&y->refs, 1, memory_order_relaxed);
        atomic_fetch_add(&m->waiting, p->len);
        io_thread_post(m->r->th, piece_posted, p);
    }
    if (atomic_fetch_sub_explicit(&chunk->refs, 1, memory_order_acq_rel) == 1) mem_free(chunk);
}

static void on_recv(struct loop_io *io, char *data, ssize_t n) {
    struct repl_relay *y = list_entry(io, struct repl_relay, io);
    if (n <= 0) {
        give_up(y);
        return;
    }
    hand_out(y, data, (size_t)n);
    if (anyone_full(y)) {
        y->is_stopped = true;
        loop_recv_stop(io);
    }
}

static void on_sent(struct loop_io *io, ssize_t n) {
    (void)io; /* nothing is sent */
    (void)n;
}

static void on_poll(struct loop_io *io, short revents) {
    (void)io;
    (void)revents;
}

static void on_closed(struct loop_io *io) {
    struct repl_relay *y = list_entry(io, struct repl_relay, io);
    y->is_at_end = y->is_closed = true;
    finish_if_over(y);
}

static const struct loop_io_ops relay_ops = {
    .on_recv = on_recv, .on_sent = on_sent, .on_poll = on_poll, .on_closed = on_closed
};

struct repl_relay *repl_relay_new(struct repl_sync *sy, int fd) {
    struct io_thread *th = &sy->srv->threads[0];
    struct repl_relay *y = mem_zalloc(sizeof *y + (size_t)sy->n * sizeof *y->m);
    char head[REPL_SYNC_PREFIX];
    size_t prefix = repl_sync_prefix(sy, head);
    y->srv = sy->srv;
    atomic_init(&y->refs, 1);
    for (int i = 0; i < sy->n; i++) {
        struct replica *r = sy->m[i].r;
        if (sy->m[i].is_direct) continue;
        y->m[y->n++] = (struct relay_member){ .r = replica_ref(r), .relay = y, .skip = r->is_pre_psync ? prefix : 0 };
    }
    loop_io_init(&y->io, th->loop, fd, &relay_ops);
    loop_recv_start(&y->io);
    y->look.fn = look_fired;
    loop_timer_set(th->loop, &y->look, clock_mono_us() + LOOK_US);
    return y;
}

void repl_relay_end(struct repl_relay *y, bool ok) {
    y->is_known = true;
    y->ok = ok;
    if (!ok) give_up(y);
    finish_if_over(y);
}
