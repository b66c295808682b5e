/* Event loop, epoll back end: level-triggered readiness made into completions.
 *
 * Place in the flow: under loop.c, through loop_backend_ops. Thread: the loop's.
 *
 * What an io wants is in its flags; what the kernel was told is in `interest`. The two are brought together lazily, because an
 * epoll_ctl costs as much as a small send:
 *
 *   - to want more than registered: epoll_ctl now;
 *   - to want less: nothing, until an event nobody wants arrives, and then once. EPOLLIN stays registered while a connection
 *     lives, a pause without incoming bytes costs nothing. EPOLLOUT is taken back as soon as the send is through, because a
 *     writable socket would be reported at once;
 *   - EPOLLERR and EPOLLHUP cannot be masked: when they come and nobody wants anything, the fd leaves the epoll set until
 *     somebody does, or the loop would spin on them.
 *
 * A socket that is reported readable and then has nothing: Linux 6.1 does that as long as a kernel-TLS socket holds half a
 * record, and a peer could make us spin by sending one. It is watched edge-triggered (IO_EDGE) until something comes.
 *
 * Fairness: one recv of at most LOOP_RECV_BUF per ready fd and turn; LOOP_MAX_SENDS immediate sends per io and turn, after which
 * a send waits for the next turn's EPOLLOUT.
 *
 * Stale events: a closed io is flagged and stays valid to the end of the turn. An acceptor may be freed as soon as it is
 * stopped, so stopping one strikes it out of the events not yet dispatched.
 *
 * Rejected: edge-triggered mode. It needs a read until EAGAIN, one system call more per request. */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "net/loop_priv.h"

#define MAX_EVENTS 256

/* loop_io.flags */
#define IO_REGISTERED 1u
#define IO_RECV 2u /* receiving is on */
#define IO_SEND 4u /* a send is in flight */
#define IO_HELD 8u /* sends make no progress */
#define IO_CLOSED 16u
#define IO_EDGE 32u /* watched edge-triggered */

/* loop_acceptor.flags */
#define ACC_REGISTERED 1u

/* Low bit of the event's datum: an acceptor. Zero: the wake-up descriptor. */
#define TAG_ACCEPTOR ((uint64_t)1)

struct epoll_be {
    int fd;
    int n_events, next_event;        /* of the batch being dispatched */
    struct loop_acceptor *accepting; /* whose callback is running; NULL once it was stopped */
    struct epoll_event events[MAX_EVENTS];
    char recv_buf[LOOP_RECV_BUF];
};

static struct epoll_be *be_of(const struct loop *l) {
    return l->be;
}

static int epoll_open(struct loop *l) {
    int fd = epoll_create1(EPOLL_CLOEXEC);
    if (fd < 0) return -errno;
    struct epoll_event ev = { .events = EPOLLIN, .data.u64 = 0 };
    if (epoll_ctl(fd, EPOLL_CTL_ADD, l->wake_fd, &ev) < 0) {
        int err = -errno;
        close(fd);
        return err;
    }
    struct epoll_be *be = mem_alloc(sizeof(*be));
    be->fd = fd;
    be->n_events = be->next_event = 0;
    be->accepting = NULL;
    l->be = be;
    return 0;
}

static void epoll_shut(struct loop *l) {
    close(be_of(l)->fd);
    mem_free(l->be);
}

/* ---- interest ---- */

static uint32_t wanted(const struct loop_io *io) {
    uint32_t w = 0;
    if (io->flags & IO_RECV) w |= EPOLLIN;
    if ((io->flags & (IO_SEND | IO_HELD)) == IO_SEND) w |= EPOLLOUT;
    if (io->poll_events & POLLIN) w |= EPOLLIN;
    if (io->poll_events & POLLOUT) w |= EPOLLOUT;
    return w;
}

/* A descriptor epoll refuses (ENOMEM, ENOSPC of max_user_watches) would hang for ever: its connection ends instead. */
static void interest_failed(struct loop_io *io) {
    int err = errno;
    io->flags &= ~(IO_REGISTERED | IO_RECV);
    io->interest = 0;
    shutdown(io->fd, SHUT_RDWR);
    errno = err;
    loop_io_close(io);
}

static void set_interest(struct loop_io *io, uint32_t w) {
    uint32_t edge = io->flags & IO_EDGE ? EPOLLET : 0;
    struct epoll_event ev = { .events = w | edge, .data.u64 = (uint64_t)(uintptr_t)io };
    int op = io->flags & IO_REGISTERED ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;
    if (epoll_ctl(be_of(io->loop)->fd, op, io->fd, &ev) < 0) {
        interest_failed(io);
        return;
    }
    io->flags |= IO_REGISTERED;
    io->interest = w;
}

static void widen_interest(struct loop_io *io) {
    uint32_t w = wanted(io);
    if (w == 0) return;
    /* An edge may have passed: to ask again is to be told what is. */
    if (w & ~io->interest || !(io->flags & IO_REGISTERED) || io->flags & IO_EDGE) set_interest(io, w | (io->interest & EPOLLIN));
}

static void unregister(struct loop_io *io) {
    if (io->flags & IO_REGISTERED) epoll_ctl(be_of(io->loop)->fd, EPOLL_CTL_DEL, io->fd, NULL);
    io->flags &= ~IO_REGISTERED;
    io->interest = 0;
}

/* After an event was dispatched: take back what would be reported again in vain. `before` is what was wanted when it came: a
 * pause asked for during the event costs nothing until bytes arrive that nobody wants. */
static void narrow_interest(struct loop_io *io, uint32_t got, uint32_t before) {
    uint32_t now = wanted(io);
    if (got & (EPOLLERR | EPOLLHUP) && now == 0) {
        unregister(io);
        return;
    }
    uint32_t in_vain = ((got & ~before) | EPOLLOUT) & io->interest & ~now;
    if (in_vain) set_interest(io, io->interest & ~in_vain);
}

/* ---- recv, send, poll ---- */

static void epoll_recv_start(struct loop_io *io) {
    if (io->flags & IO_CLOSED) return;
    io->flags |= IO_RECV;
    widen_interest(io);
}

static void epoll_recv_stop(struct loop_io *io) {
    io->flags &= ~IO_RECV;
}

static void recv_once(struct loop_io *io) {
    char *buf = io->into_len ? io->into : be_of(io->loop)->recv_buf;
    size_t room = io->into_len ? io->into_len : LOOP_RECV_BUF;
    ssize_t n;
    do n = recv(io->fd, buf, room, MSG_DONTWAIT);
    while (n < 0 && errno == EINTR);
    if (n < 0) n = -errno;
    if ((n == -EAGAIN) != (bool)(io->flags & IO_EDGE)) {
        io->flags ^= IO_EDGE;
        set_interest(io, io->interest);
    }
    if (n == -EAGAIN || io->flags & IO_CLOSED) return;
    if (n <= 0) io->flags &= ~IO_RECV;
    io->ops->on_recv(io, buf, n);
}

static bool epoll_send_busy(const struct loop_io *io) {
    return io->flags & IO_SEND;
}

static void send_once(struct loop_io *io) {
    ssize_t n = loop_sendmsg(io, io->send_iov, io->send_cnt);
    if (n == -EAGAIN) {
        widen_interest(io);
        return;
    }
    io->flags &= ~IO_SEND;
    io->ops->on_sent(io, n);
}

static void epoll_send(struct loop_io *io, const struct iovec *iov, int cnt) {
    if (io->flags & IO_CLOSED) return;
    io->send_iov = iov;
    io->send_cnt = cnt;
    io->flags |= IO_SEND;
    if (io->flags & IO_HELD) return;
    if (loop_may_send(io))
        send_once(io);
    else
        widen_interest(io);
}

static void epoll_send_hold(struct loop_io *io, bool held) {
    if (held)
        io->flags |= IO_HELD;
    else
        io->flags &= ~IO_HELD;
    if (!held && io->flags & IO_SEND && !(io->flags & IO_CLOSED)) widen_interest(io);
}

static void epoll_poll(struct loop_io *io, short events) {
    if (io->flags & IO_CLOSED) return;
    io->poll_events = events;
    if (events) widen_interest(io);
}

static void poll_event(struct loop_io *io, uint32_t got) {
    short revents = 0;
    if (got & EPOLLIN) revents |= POLLIN;
    if (got & EPOLLOUT) revents |= POLLOUT;
    revents &= io->poll_events;
    if (got & EPOLLERR) revents |= POLLERR;
    if (got & EPOLLHUP) revents |= POLLHUP;
    if (!revents) return;
    io->poll_events = 0;
    io->ops->on_poll(io, revents);
}

static void epoll_close(struct loop_io *io) {
    if (io->flags & IO_CLOSED) return;
    /* Explicitly: a child process may hold the fd open, and would keep it in the set. */
    unregister(io);
    io->poll_events = 0;
    io->flags = IO_CLOSED;
    loop_io_closing(io);
}

static void io_event(struct loop_io *io, uint32_t got) {
    if (io->flags & IO_CLOSED) return;
    uint32_t bad = got & (EPOLLERR | EPOLLHUP), before = wanted(io);
    if (io->poll_events) poll_event(io, got);
    if (io->flags & IO_RECV && (got & EPOLLIN || bad)) recv_once(io);
    if ((io->flags & (IO_SEND | IO_HELD)) == IO_SEND && (got & EPOLLOUT || bad)) send_once(io);
    if (!(io->flags & IO_CLOSED)) narrow_interest(io, got, before);
}

/* ---- listeners ---- */

/* Exclusive: where several loops share one listening socket (unix), one of them is woken, not all. */
static int acceptor_register(struct loop_acceptor *a) {
    struct epoll_event ev = { .events = EPOLLIN | EPOLLEXCLUSIVE, .data.u64 = (uint64_t)(uintptr_t)a | TAG_ACCEPTOR };
    if (epoll_ctl(be_of(a->loop)->fd, EPOLL_CTL_ADD, a->fd, &ev) < 0) return -errno;
    a->flags |= ACC_REGISTERED;
    return 0;
}

static void acceptor_unregister(struct loop_acceptor *a) {
    if (a->flags & ACC_REGISTERED) epoll_ctl(be_of(a->loop)->fd, EPOLL_CTL_DEL, a->fd, NULL);
    a->flags &= ~ACC_REGISTERED;
}

static void acceptor_pause_until(struct loop_acceptor *a, int64_t when_us) {
    acceptor_unregister(a);
    loop_timer_set(a->loop, &a->pause, when_us);
}

static void acceptor_resume(struct loop_timer *t) {
    struct loop_acceptor *a = list_entry(t, struct loop_acceptor, pause);
    if (acceptor_register(a) < 0) acceptor_pause_until(a, clock_mono_us() + LOOP_ACCEPT_PAUSE_US);
}

static void epoll_accept_start(struct loop_acceptor *a) {
    a->pause.fn = acceptor_resume;
    acceptor_resume(&a->pause);
}

static void epoll_accept_stop(struct loop_acceptor *a) {
    struct epoll_be *be = be_of(a->loop);
    acceptor_unregister(a);
    loop_timer_cancel(a->loop, &a->pause);
    if (be->accepting == a) be->accepting = NULL;
    for (int i = be->next_event; i < be->n_events; i++)
        if (be->events[i].data.u64 == ((uint64_t)(uintptr_t)a | TAG_ACCEPTOR)) be->events[i].events = 0;
    close(a->fd);
    a->fd = -1;
}

static void acceptor_event(struct loop_acceptor *a) {
    struct epoll_be *be = be_of(a->loop);
    be->accepting = a;
    for (unsigned i = 0; be->accepting == a && i < loop_max_accepts(a); i++) {
        int fd = accept4(a->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        int err = fd < 0 ? errno : 0;
        if (err == EAGAIN) break;
        if (loop_is_peers_error(err)) continue;
        if (err) /* no descriptors, no memory: the backlog stays, trying again at once would spin */
            acceptor_pause_until(a, a->loop->now_us + LOOP_ACCEPT_PAUSE_US);
        a->on_accept(a, err ? -err : fd);
        if (err) break;
    }
    be->accepting = NULL;
}

/* ---- the turn ---- */

static int timeout_ms(int64_t us) {
    if (us < 0) return -1;
    int64_t ms = us / 1000 + (us % 1000 != 0); /* up: a timer never fires early, and never spins through its last millisecond */
    return ms > 3600 * 1000 ? 3600 * 1000 : (int)ms;
}

static void epoll_turn(struct loop *l, int64_t timeout_us) {
    struct epoll_be *be = be_of(l);
    if (timeout_us) loop_before_wait(l);
    int n = epoll_wait(be->fd, be->events, MAX_EVENTS, timeout_ms(timeout_us));
    if (n > 0) l->n_events = (unsigned)n;
    l->now_us = clock_mono_us();
    be->n_events = n > 0 ? n : 0;
    bool woken = false;
    for (be->next_event = 0; be->next_event < be->n_events;) {
        struct epoll_event ev = be->events[be->next_event++];
        if (ev.events == 0) continue;
        if (ev.data.u64 == 0)
            woken = true;
        else if (ev.data.u64 & TAG_ACCEPTOR)
            acceptor_event((struct loop_acceptor *)(uintptr_t)(ev.data.u64 & ~TAG_ACCEPTOR));
        else
            io_event((struct loop_io *)(uintptr_t)ev.data.u64, ev.events);
    }
    be->n_events = 0;
    if (woken) loop_woken(l);
}

const struct loop_backend_ops loop_epoll_ops = {
    .name = "epoll",
    .open = epoll_open,
    .shut = epoll_shut,
    .turn = epoll_turn,
    .recv_start = epoll_recv_start,
    .recv_stop = epoll_recv_stop,
    .send = epoll_send,
    .send_busy = epoll_send_busy,
    .send_hold = epoll_send_hold,
    .poll = epoll_poll,
    .close = epoll_close,
    .accept_start = epoll_accept_start,
    .accept_stop = epoll_accept_stop,
};
