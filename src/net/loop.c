/* Event loop: what does not depend on the back end: timers, inbox, deferred closing, the order of a turn.
 *
 * Place in the flow: everything an I/O thread does happens inside loop_run(). Thread: the loop's, but for loop_post and
 * loop_stop.
 *
 * A turn:
 *
 *     before-sleep hook   sends what the last turn produced
 *     closed ios          on_closed, after which their memory may be gone
 *     wait                not at all when a closing was just reported (its callback may have produced output)
 *     events              back end: recv, send, accept, poll
 *     inbox               only after a wake-up
 *     timers              due ones, at most as many as there were
 *
 * Why closing is deferred: one wait returns many events, and the callback of the first may close the object of the second.
 * A closed io stays valid to the end of the turn, flagged so that the back end skips it.
 *
 * The inbox and the wake-up: the producer that found the inbox empty writes the eventfd, after its push. The consumer reads
 * the eventfd before it takes the batch. A push between the two finds the box not empty, needs no wake-up, and is in the
 * batch; a push after the take finds it empty and writes again. So nothing sleeps in the box. */
#include "net/loop.h"

#include <errno.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/counter.h"
#include "net/loop_priv.h"

#define HEAP_ARITY 4
#define HEAP_FIRST 64
#define YIELD_MIN_EVENTS 4 /* in a turn: the loop is busy */
#define YIELD_MAX_US 5000  /* a slice or two of others */
#define YIELD_PAUSE_US 100000

static int open_backend(struct loop *l, enum loop_backend want) {
    if (want != LOOP_EPOLL) {
        l->ops = &loop_uring_ops;
        int err = l->ops->open(l);
        if (err == 0 || want == LOOP_URING) return err;
        l->uring_errno = -err;
    }
    l->ops = &loop_epoll_ops;
    return l->ops->open(l);
}

int loop_new(enum loop_backend want, struct loop **ret) {
    int wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (wake_fd < 0) return -errno;
    struct loop *l = mem_zalloc(sizeof(*l));
    l->wake_fd = wake_fd;
    inbox_init(&l->inbox);
    list_init(&l->closing);
    atomic_init(&l->stop, false);
    l->now_us = clock_mono_us();
    int err = open_backend(l, want);
    if (err < 0) {
        close(wake_fd);
        mem_free(l);
        return err;
    }
    *ret = l;
    return 0;
}

const char *loop_backend_name(const struct loop *l) {
    return l->ops->name;
}

int loop_uring_errno(const struct loop *l) {
    return l->uring_errno;
}

void loop_set_owner(struct loop *l, void *owner) {
    l->owner = owner;
}

int64_t loop_now_us(const struct loop *l) {
    return l->now_us;
}

void loop_set_before_sleep(struct loop *l, void (*fn)(void *arg), void *arg) {
    l->before_sleep = fn;
    l->before_sleep_arg = arg;
}

void loop_submit(struct loop *l) {
    if (l->ops->submit) l->ops->submit(l);
}

void loop_set_yields(struct loop *l, bool yields) {
    l->yields = yields;
}

/* With more busy threads than processors, the clients' among them, a thread that sleeps is woken by the first request that comes,
 * in place of the client that was about to send the next ones: turns of one request, each with a wake-up and two switches. One
 * that stays runnable comes back when those have run, and finds their requests together. Whoever computes for long on this
 * processor would keep it from coming back: after such a yield there is none for a while. */
void loop_before_wait(struct loop *l) {
    if (!l->yields || l->n_events < YIELD_MIN_EVENTS) return;
    int64_t began = clock_mono_us();
    if (began < l->yield_from_us) return;
    sched_yield();
    int64_t now = clock_mono_us();
    if (now - began > YIELD_MAX_US) l->yield_from_us = now + YIELD_PAUSE_US;
}

/* ---- inbox ---- */

/* Async-signal-safe. A full counter (EAGAIN) means the owner has been woken anyway. */
static void wake(struct loop *l) {
    int saved = errno;
    uint64_t one = 1;
    while (write(l->wake_fd, &one, sizeof(one)) < 0 && errno == EINTR)
        ;
    errno = saved;
}

void loop_post(struct loop *l, struct inbox_msg *msg_take) {
    if (inbox_push(&l->inbox, msg_take)) wake(l);
}

void loop_stop(struct loop *l) {
    atomic_store_explicit(&l->stop, true, memory_order_release);
    wake(l);
}

static void run_inbox(struct loop *l) {
    struct inbox_msg *m = inbox_take_all(&l->inbox);
    while (m) {
        struct inbox_msg *next = m->next; /* run() may free m */
        m->run(m, l->owner);
        m = next;
    }
}

bool loop_is_peers_error(int err) {
    return err == ECONNABORTED || err == EINTR || err == EPROTO || err == ENETDOWN || err == ENOPROTOOPT || err == EHOSTDOWN ||
           err == ENONET || err == EHOSTUNREACH || err == ENETUNREACH;
}

void loop_woken(struct loop *l) {
    uint64_t count;
    while (read(l->wake_fd, &count, sizeof(count)) < 0 && errno == EINTR)
        ;
    run_inbox(l);
}

/* ---- timers: a 4-ary heap, half as deep as a binary one and kinder to the cache ---- */

static void heap_put(struct loop *l, unsigned i, struct loop_timer *t) {
    l->heap[i] = t;
    t->heap_pos = i + 1;
}

static void sift_up(struct loop *l, unsigned i, struct loop_timer *t) {
    while (i > 0) {
        unsigned parent = (i - 1) / HEAP_ARITY;
        if (l->heap[parent]->when_us <= t->when_us) break;
        heap_put(l, i, l->heap[parent]);
        i = parent;
    }
    heap_put(l, i, t);
}

static void sift_down(struct loop *l, unsigned i, struct loop_timer *t) {
    for (;;) {
        unsigned first = i * HEAP_ARITY + 1, least = i;
        int64_t best = t->when_us;
        for (unsigned c = first; c < first + HEAP_ARITY && c < l->heap_len; c++) {
            if (l->heap[c]->when_us < best) {
                best = l->heap[c]->when_us;
                least = c;
            }
        }
        if (least == i) break;
        heap_put(l, i, l->heap[least]);
        i = least;
    }
    heap_put(l, i, t);
}

void loop_timer_set(struct loop *l, struct loop_timer *t, int64_t when_us) {
    if (t->heap_pos) {
        int64_t before = t->when_us;
        t->when_us = when_us;
        if (when_us < before)
            sift_up(l, t->heap_pos - 1, t);
        else
            sift_down(l, t->heap_pos - 1, t);
        return;
    }
    if (l->heap_len == l->heap_cap) {
        l->heap_cap = l->heap_cap ? l->heap_cap * 2 : HEAP_FIRST;
        l->heap = mem_realloc(l->heap, l->heap_cap * sizeof(struct loop_timer *));
    }
    t->when_us = when_us;
    sift_up(l, l->heap_len++, t);
}

void loop_timer_cancel(struct loop *l, struct loop_timer *t) {
    if (!t->heap_pos) return;
    unsigned i = t->heap_pos - 1;
    t->heap_pos = 0;
    struct loop_timer *last = l->heap[--l->heap_len];
    if (last == t) return;
    if (i > 0 && last->when_us < l->heap[(i - 1) / HEAP_ARITY]->when_us)
        sift_up(l, i, last);
    else
        sift_down(l, i, last);
}

/* A timer that arms itself again for now waits for the next turn: I/O gets its share. */
static void run_timers(struct loop *l) {
    unsigned budget = l->heap_len;
    while (budget-- > 0 && l->heap_len > 0 && l->heap[0]->when_us <= l->now_us) {
        struct loop_timer *t = l->heap[0];
        loop_timer_cancel(l, t);
        t->fn(t);
    }
}

/* ---- the turn ---- */

void loop_io_closing(struct loop_io *io) {
    list_push_back(&io->loop->closing, &io->pending);
}

/* True when any was reported. A callback may close more: they are taken in too. */
static bool report_closed(struct loop *l) {
    bool any = false;
    while (!list_empty(&l->closing)) {
        struct loop_io *io = list_entry(l->closing.next, struct loop_io, pending);
        list_remove(&io->pending);
        if (io->fd >= 0) close(io->fd);
        io->fd = -1;
        io->ops->on_closed(io);
        any = true;
    }
    return any;
}

/* *ret_at_us: the time, where it had to be asked for; else untouched. */
static int64_t wait_time_us(const struct loop *l, bool hurry, int64_t *ret_at_us) {
    if (hurry || atomic_load_explicit(&l->stop, memory_order_acquire)) return 0;
    if (l->heap_len == 0) return -1;
    *ret_at_us = clock_mono_us();
    int64_t left = l->heap[0]->when_us - *ret_at_us;
    return left > 0 ? left : 0;
}

/* The clock is not read for this: a turn that does not wait, because something hurries, ends where the next one begins. Without a
 * timer nobody knows when the wait began, and the turn counts as none. */
static void turn_and_count(struct loop *l, bool hurry) {
    int64_t began = l->now_us, ended = -1;
    int64_t wait_us = wait_time_us(l, hurry, &ended);
    if (ended >= 0) counter_add(&l->busy_us, (uint64_t)(ended - began));
    counter_add(&l->turns, 1);
    l->ops->turn(l, wait_us);
    if (ended < 0 && wait_us == 0) counter_add(&l->busy_us, (uint64_t)(l->now_us - began));
}

void loop_figures(const struct loop *l, uint64_t *ret_turns, uint64_t *ret_busy_us) {
    *ret_turns = counter_get(&l->turns);
    *ret_busy_us = counter_get(&l->busy_us);
}

void loop_run(struct loop *l) {
    l->now_us = clock_mono_us(); /* the first turn begins here, however long ago the loop was made */
    while (!atomic_load_explicit(&l->stop, memory_order_acquire)) {
        if (l->before_sleep) l->before_sleep(l->before_sleep_arg);
        bool hurry = report_closed(l);
        l->turn_no++;
        turn_and_count(l, hurry);
        run_timers(l);
    }
    run_inbox(l);
    if (l->before_sleep) l->before_sleep(l->before_sleep_arg);
    do
        if (l->ops->settle) l->ops->settle(l);
    while (report_closed(l));
    atomic_store_explicit(&l->stop, false, memory_order_release);
}

struct loop *loop_free(struct loop *l) {
    if (!l) return NULL;
    run_inbox(l);
    if (l->ops->abandon) l->ops->abandon(l);
    report_closed(l);
    l->ops->shut(l);
    close(l->wake_fd);
    mem_free(l->heap);
    mem_free(l);
    return NULL;
}

/* ---- connections and listeners: the back end's, but for what is the same everywhere ---- */

void loop_io_init(struct loop_io *io, struct loop *l, int fd, const struct loop_io_ops *ops) {
    *io = (struct loop_io){ .loop = l, .fd = fd, .ops = ops };
    list_init(&io->pending);
}

void loop_recv_start(struct loop_io *io) {
    io->loop->ops->recv_start(io);
}

void loop_recv_into(struct loop_io *io, char *buf, size_t len) {
    io->into = buf;
    io->into_len = len < LOOP_INTO_MAX ? len : LOOP_INTO_MAX;
    if (len && io->loop->ops->recv_into) io->loop->ops->recv_into(io);
}

void loop_recv_stop(struct loop_io *io) {
    io->loop->ops->recv_stop(io);
}

void loop_send(struct loop_io *io, const struct iovec *iov, int cnt) {
    io->loop->ops->send(io, iov, cnt);
}

bool loop_send_busy(const struct loop_io *io) {
    return io->loop->ops->send_busy(io);
}

void loop_send_hold(struct loop_io *io, bool held) {
    io->loop->ops->send_hold(io, held);
}

bool loop_may_send(struct loop_io *io) {
    if (io->turn != io->loop->turn_no) {
        io->turn = io->loop->turn_no;
        io->turn_sends = 0;
    }
    return io->turn_sends++ < LOOP_MAX_SENDS;
}

ssize_t loop_sendmsg(struct loop_io *io, const struct iovec *iov, int cnt) {
    struct msghdr m = { .msg_iov = (struct iovec *)(uintptr_t)iov, .msg_iovlen = (size_t)cnt };
    ssize_t n;
    do n = sendmsg(io->fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT);
    while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : n;
}

ssize_t loop_send_try(struct loop_io *io, const struct iovec *iov, int cnt) {
    return loop_may_send(io) ? loop_sendmsg(io, iov, cnt) : -EAGAIN;
}

void loop_poll(struct loop_io *io, short events) {
    io->loop->ops->poll(io, events);
}

void loop_io_close(struct loop_io *io) {
    io->loop->ops->close(io);
}

void loop_acceptor_start(struct loop_acceptor *a, struct loop *l) {
    a->loop = l;
    a->flags = 0;
    a->pause = (struct loop_timer){ 0 };
    l->ops->accept_start(a);
}

void loop_acceptor_stop(struct loop_acceptor *a) {
    if (a->loop && a->fd >= 0) a->loop->ops->accept_stop(a);
}
