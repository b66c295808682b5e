/* Event loop, io_uring back end.
 *
 * Place in the flow: under loop.c, through loop_backend_ops. Thread: the loop's; the ring is made by whoever makes the loop and
 * switched on by the first turn, because the kernel lets only that thread submit (SINGLE_ISSUER).
 *
 * One system call a turn: io_uring_enter submits what the last turn queued (sends, receives to be armed, cancellations), runs the
 * completions and waits. A turn that submits sends does not wait: their completions come with the call.
 *
 *   - receive: multishot, into buffers the kernel takes from a ring of them. A connection that sends nothing holds none.
 *   - send: one request in flight an io; one that finds the socket full waits in the kernel.
 *   - accept: multishot; what comes beyond the turn's share waits in a queue, and nothing more is accepted until that is empty.
 *   - poll: one shot (handshakes).
 *
 * What keeps memory safe: every request in flight is a bit in io->flags (IN_*). A closed io is reported only when all of them are
 * back, so nothing it points to is freed while the kernel may use it. A listener may go at once: its requests point to a record
 * of the back end's own.
 *
 * Receiving that is stopped: bytes the kernel had taken already are kept (`stash`) and delivered when it is started again; the
 * first such byte has the request cancelled, so that a peer can make this grow by no more than one round of the kernel's
 * (as many buffers as there are, 16 MiB at the very most).
 *
 * The kernel runs our requests only inside io_uring_enter (DEFER_TASKRUN). Kernel TLS depends on it: between a KeyUpdate and the
 * new key no send of ours may slip in. Kernels without it (before 6.1) get epoll.
 *
 * Rejected: MSG_WAITALL and unreported successes for sends (kernel TLS refuses the former); zero-copy sends (likewise); waiting
 * for as many completions as there were sends (a full socket would hold up everyone else). */
#include <errno.h>
#include <liburing.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "net/loop_priv.h"

#define SQ_ENTRIES 1024u
#define CQ_ENTRIES 8192u
#define CQE_BATCH 128u
#define BUF_GROUP 0
#define BUF_SIZE 16384u              /* what one TLS record holds */
#define BUF_SLOTS 1024u              /* of the ring: at most so many buffers */
#define BUF_FIRST 64u                /* so many to begin with, and twice as many whenever the kernel found none */
#define SEND_MAX (1u << 30)          /* bytes of one piece: the request's length has 32 bits */
#define BUF_STRIDE (BUF_SIZE + 192u) /* the beginnings of the buffers must not all share a set of the cache */

/* loop_io.flags */
#define IO_RECV 1u /* receiving is on */
#define IO_SEND 2u /* a send is asked for and not reported */
#define IO_HELD 4u /* sends make no progress */
#define IO_CLOSED 8u
#define IN_RECV 16u /* requests the kernel has */
#define IN_SEND 32u
#define IN_POLL 64u
#define IN_ANY (IN_RECV | IN_SEND | IN_POLL)
#define IO_RECV_STOPPING 128u /* its cancellation is under way */
#define IO_POLL_STOPPING 256u
#define IO_KNOWN 512u /* the next bit says */
#define IO_UNIX 1024u
#define IO_SEND_STOPPING 2048u
#define IO_LARGE                                                                                                                 \
    4096u /* the peer sends what loop_recv_into is for: a multishot receive would take most of it before that is known */

/* Low bits of user_data: what the request is. */
enum tag { TAG_NONE, TAG_WAKE, TAG_RECV, TAG_SEND, TAG_POLL, TAG_ACCEPT };
#define TAG_MASK 7u

/* Received while receiving was stopped. */
struct uring_stash {
    char *data;
    size_t off, len, cap;
    bool ended;  /* behind the data: */
    ssize_t end; /* 0 or -errno */
};

/* Freed by tend_acceptors() and nobody else. */
struct uring_acceptor {
    struct list node;
    struct loop_acceptor *a; /* NULL: stopped */
    int fd;
    bool armed, stopping;  /* the kernel has the request; its cancellation is under way */
    unsigned turn, n_turn; /* connections reported in that turn */
    int *queue;            /* accepted and not yet reported */
    unsigned q_off, q_len, q_cap;
};

struct uring_be {
    struct io_uring ring;
    bool enabled, wake_armed, woken;
    bool sends_queued;      /* since the last turn: it will not wait */
    unsigned n_cancelling;  /* closed ios and stopped listeners the kernel still has requests of */
    struct list ready;      /* ios with something to be done before the next wait */
    struct list cancelling; /* closed ios whose requests have been called back */
    struct list acceptors;
    struct io_uring_buf_ring *bufs;
    char *buf_mem;
    unsigned n_bufs;
    bool out_of_bufs;
    bool delivered;                 /* before the wait: a callback may have set a timer or queued output, so there is no wait */
    struct msghdr msgs[SQ_ENTRIES]; /* of the send in the same slot of the submission queue */
};

static struct uring_be *be_of(const struct loop *l) {
    return l->be;
}

static uint64_t tagged(const void *p, enum tag tag) {
    return (uint64_t)(uintptr_t)p | tag;
}

/* Asks for attend() before the next wait. */
static void want_attention(struct loop_io *io) {
    if (list_empty(&io->pending)) list_push_back(&be_of(io->loop)->ready, &io->pending);
}

/* NULL: no room and none to be had now; the caller comes back by want_attention. */
static struct io_uring_sqe *get_sqe(struct uring_be *be) {
    struct io_uring_sqe *sqe = io_uring_get_sqe(&be->ring);
    if (sqe || !be->enabled) return sqe;
    io_uring_submit(&be->ring);
    return io_uring_get_sqe(&be->ring);
}

/* ---- buffers ---- */

static char *buf_at(const struct uring_be *be, unsigned id) {
    return be->buf_mem + (size_t)id * BUF_STRIDE;
}

static void buf_give(struct uring_be *be, unsigned id) {
    io_uring_buf_ring_add(be->bufs, buf_at(be, id), BUF_SIZE, (unsigned short)id, io_uring_buf_ring_mask(BUF_SLOTS), 0);
    io_uring_buf_ring_advance(be->bufs, 1);
}

/* Doubles. */
static void bufs_grow(struct uring_be *be) {
    unsigned want = be->n_bufs ? be->n_bufs * 2 : BUF_FIRST;
    while (be->n_bufs < want && be->n_bufs < BUF_SLOTS) buf_give(be, be->n_bufs++);
}

static int bufs_open(struct uring_be *be) {
    size_t ring_size = BUF_SLOTS * sizeof(struct io_uring_buf), mem_size = (size_t)BUF_SLOTS * BUF_STRIDE;
    void *ring = mmap(NULL, ring_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (ring == MAP_FAILED) return -errno;
    /* Address space; memory only where something was received. */
    void *mem = mmap(NULL, mem_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (mem == MAP_FAILED) {
        int err = -errno;
        munmap(ring, ring_size);
        return err;
    }
    be->bufs = ring;
    be->buf_mem = mem;
    struct io_uring_buf_reg reg = { .ring_addr = (uint64_t)(uintptr_t)ring, .ring_entries = BUF_SLOTS, .bgid = BUF_GROUP };
    int r = io_uring_register_buf_ring(&be->ring, &reg, 0);
    if (r < 0) return r;
    io_uring_buf_ring_init(be->bufs);
    bufs_grow(be);
    return 0;
}

static void bufs_close(struct uring_be *be) {
    if (be->bufs) munmap(be->bufs, BUF_SLOTS * sizeof(struct io_uring_buf));
    if (be->buf_mem) munmap(be->buf_mem, (size_t)BUF_SLOTS * BUF_STRIDE);
}

/* ---- life ---- */

static void free_stash(struct loop_io *io) {
    if (io->stash) mem_free(io->stash->data);
    mem_free(io->stash);
    io->stash = NULL;
}

static void closing_done(struct loop_io *io) {
    list_remove(&io->pending);
    free_stash(io);
    loop_io_closing(io);
}

static int uring_open(struct loop *l) {
    struct uring_be *be = mem_zalloc(sizeof(*be));
    struct io_uring_params p = { .flags = IORING_SETUP_R_DISABLED | IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
                                          IORING_SETUP_SUBMIT_ALL | IORING_SETUP_CQSIZE,
                                 .cq_entries = CQ_ENTRIES };
    list_init(&be->ready);
    list_init(&be->cancelling);
    list_init(&be->acceptors);
    int r = io_uring_queue_init_params(SQ_ENTRIES, &be->ring, &p);
    if (r < 0) {
        mem_free(be);
        return r;
    }
    /* EXT_ARG: a timeout with the wait. Not an errno of the kernel's, but it is what is missing. */
    r = p.features & IORING_FEAT_EXT_ARG ? bufs_open(be) : -EOPNOTSUPP;
    if (r < 0) {
        io_uring_queue_exit(&be->ring);
        bufs_close(be);
        mem_free(be);
        return r;
    }
    io_uring_ring_dontfork(&be->ring);
    l->be = be;
    return 0;
}

/* The ring is given up, and with it what the kernel still has: on another thread than the loop's there is no waiting for it. */
static void uring_abandon(struct loop *l) {
    struct uring_be *be = be_of(l);
    io_uring_queue_exit(&be->ring);
    be->enabled = false;
    struct list *lists[] = { &be->ready, &be->cancelling };
    for (int i = 0; i < 2; i++) {
        list_for_each_safe(n, tmp, lists[i]) {
            struct loop_io *io = list_entry(n, struct loop_io, pending);
            io->flags &= ~IN_ANY;
            if (io->flags & IO_CLOSED) closing_done(io);
        }
    }
}

static void free_acceptor(struct uring_acceptor *ua) {
    while (ua->queue && ua->q_off < ua->q_len) close(ua->queue[ua->q_off++]);
    list_remove(&ua->node);
    mem_free(ua->queue);
    mem_free(ua);
}

static void uring_shut(struct loop *l) {
    struct uring_be *be = be_of(l);
    while (!list_empty(&be->acceptors)) free_acceptor(list_entry(be->acceptors.next, struct uring_acceptor, node));
    bufs_close(be);
    mem_free(be);
}

static void enable(struct uring_be *be) {
    /* io_uring_enable_rings() is missing in liburing 2.3's library */
    syscall(__NR_io_uring_register, be->ring.ring_fd, IORING_REGISTER_ENABLE_RINGS, NULL, 0);
    io_uring_register_ring_fd(&be->ring); /* spares a look-up of the descriptor with every call; optional */
    be->enabled = true;
}

static void arm_wake(struct loop *l) {
    struct uring_be *be = be_of(l);
    struct io_uring_sqe *sqe = get_sqe(be);
    if (!sqe) return;
    io_uring_prep_poll_multishot(sqe, l->wake_fd, POLLIN);
    io_uring_sqe_set_data64(sqe, TAG_WAKE);
    be->wake_armed = true;
}

/* ---- cancelling ---- */

/* Nothing but a failure is reported of a cancellation. */
static void finish_cancel(struct io_uring_sqe *sqe) {
    sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
    io_uring_sqe_set_data64(sqe, TAG_NONE);
}

/* True when asked for; no room: again later. */
static bool cancel_request(struct uring_be *be, uint64_t user_data) {
    struct io_uring_sqe *sqe = get_sqe(be);
    if (!sqe) return false;
    io_uring_prep_cancel64(sqe, user_data, 0);
    finish_cancel(sqe);
    return true;
}

static void uring_close(struct loop_io *io) {
    if (io->flags & IO_CLOSED) return;
    struct uring_be *be = be_of(io->loop);
    io->flags = (io->flags & IN_ANY) | IO_CLOSED;
    io->poll_events = 0;
    if (!(io->flags & IN_ANY)) {
        closing_done(io);
        return;
    }
    be->n_cancelling++;
    want_attention(io);
}

static bool cancel_all(struct loop_io *io) {
    struct io_uring_sqe *sqe = get_sqe(be_of(io->loop));
    if (!sqe) return false;
    io_uring_prep_cancel_fd(sqe, io->fd, IORING_ASYNC_CANCEL_ALL);
    finish_cancel(sqe);
    return true;
}

/* A request of a closed io is back. */
static void closed_request_back(struct loop_io *io) {
    if (io->flags & IN_ANY) return;
    be_of(io->loop)->n_cancelling--;
    closing_done(io);
}

/* ---- receiving ---- */

static void uring_recv_start(struct loop_io *io) {
    if (io->flags & IO_CLOSED) return;
    io->flags |= IO_RECV;
    if (io->stash || !(io->flags & IN_RECV)) want_attention(io);
}

static void uring_recv_stop(struct loop_io *io) {
    io->flags &= ~IO_RECV;
}

/* Linux 6.17 and later lose the end of a Unix stream that comes together with its last data, if the receive is multishot: the
 * socket says that nothing is left, and nothing happens to it afterwards (seen on 6.18). One receive at a time there. */
static bool is_unix(struct loop_io *io) {
    int domain = 0;
    socklen_t len = sizeof(domain);
    if (!(io->flags & IO_KNOWN)) {
        getsockopt(io->fd, SOL_SOCKET, SO_DOMAIN, &domain, &len);
        io->flags |= IO_KNOWN | (domain == AF_UNIX ? IO_UNIX : 0);
    }
    return io->flags & IO_UNIX;
}

static void arm_recv(struct loop_io *io) {
    struct io_uring_sqe *sqe = get_sqe(be_of(io->loop));
    if (!sqe) {
        want_attention(io);
        return;
    }
    if (io->into_len)
        io_uring_prep_recv(sqe, io->fd, io->into, io->into_len, 0);
    else if (io->flags & IO_LARGE || is_unix(io))
        io_uring_prep_recv(sqe, io->fd, NULL, BUF_SIZE, 0);
    else
        io_uring_prep_recv_multishot(sqe, io->fd, NULL, 0, 0);
    if (!io->into_len) {
        sqe->flags |= IOSQE_BUFFER_SELECT;
        sqe->buf_group = BUF_GROUP;
    }
    io_uring_sqe_set_data64(sqe, tagged(io, TAG_RECV));
    io->flags |= IN_RECV;
}

static void cancel_recv(struct loop_io *io) {
    if ((io->flags & (IN_RECV | IO_RECV_STOPPING)) == IN_RECV && cancel_request(be_of(io->loop), tagged(io, TAG_RECV)))
        io->flags |= IO_RECV_STOPPING;
}

/* What the multishot receive still brings comes in the ring's buffers. */
static void uring_recv_into(struct loop_io *io) {
    if (io->flags & IO_CLOSED) return;
    io->flags |= IO_LARGE;
    cancel_recv(io);
}

static void keep_for_later(struct loop_io *io, const char *data, ssize_t n) {
    if (!io->stash) io->stash = mem_zalloc(sizeof(*io->stash));
    struct uring_stash *s = io->stash;
    if (n > 0) {
        if (s->len + (size_t)n > s->cap) {
            s->cap = (s->len + (size_t)n) * 2;
            s->data = mem_realloc(s->data, s->cap);
        }
        memcpy(s->data + s->len, data, (size_t)n);
        s->len += (size_t)n;
    } else {
        s->ended = true;
        s->end = n;
    }
    cancel_recv(io);
}

static void deliver_stash(struct loop_io *io) {
    while (io->stash && (io->flags & (IO_RECV | IO_CLOSED)) == IO_RECV) {
        struct uring_stash *s = io->stash;
        size_t n = s->len - s->off;
        be_of(io->loop)->delivered = true;
        if (n > LOOP_RECV_BUF) n = LOOP_RECV_BUF;
        if (n > 0) {
            s->off += n;
            io->ops->on_recv(io, s->data + s->off - n, (ssize_t)n);
            continue;
        }
        bool ended = s->ended;
        ssize_t end = s->end;
        free_stash(io);
        if (!ended) return;
        io->flags &= ~IO_RECV;
        io->ops->on_recv(io, NULL, end);
    }
}

static void recv_done(struct loop_io *io, int res, unsigned cqe_flags) {
    struct uring_be *be = be_of(io->loop);
    unsigned id = cqe_flags >> IORING_CQE_BUFFER_SHIFT;
    char *buf = cqe_flags & IORING_CQE_F_BUFFER ? buf_at(be, id) : NULL;
    if (!(cqe_flags & IORING_CQE_F_MORE)) io->flags &= ~(IN_RECV | IO_RECV_STOPPING);
    if (io->flags & IO_CLOSED) {
        if (buf) buf_give(be, id);
        closed_request_back(io);
        return;
    }
    if (res == -ENOBUFS) be->out_of_bufs = true;
    bool nothing = res == -ECANCELED || res == -ENOBUFS || res == -EAGAIN || res == -EINTR;
    if (nothing) {
        /* armed again below */
    } else if (!(io->flags & IO_RECV) || io->stash) {
        keep_for_later(io, buf ? buf : io->into, res);
    } else {
        if (res <= 0) io->flags &= ~IO_RECV;
        bool into = io->into_len;
        io->ops->on_recv(io, buf ? buf : io->into, res);
        if (!into && !io->into_len) io->flags &= ~IO_LARGE;
    }
    if (buf) buf_give(be, id);
    if ((io->flags & (IO_RECV | IN_RECV | IO_CLOSED)) == IO_RECV) want_attention(io);
}

/* ---- sending ---- */

static void submit_send(struct loop_io *io) {
    struct uring_be *be = be_of(io->loop);
    struct io_uring_sqe *sqe = get_sqe(be);
    if (!sqe) {
        want_attention(io);
        return;
    }
    if (io->send_cnt == 1) {
        size_t len = io->send_iov->iov_len;
        io_uring_prep_send(sqe, io->fd, io->send_iov->iov_base, len < SEND_MAX ? len : SEND_MAX, MSG_NOSIGNAL);
    } else {
        struct msghdr *m = &be->msgs[sqe - be->ring.sq.sqes];
        *m = (struct msghdr){ .msg_iov = (struct iovec *)(uintptr_t)io->send_iov, .msg_iovlen = (size_t)io->send_cnt };
        io_uring_prep_sendmsg(sqe, io->fd, m, MSG_NOSIGNAL);
    }
    io_uring_sqe_set_data64(sqe, tagged(io, TAG_SEND));
    io->flags |= IN_SEND;
    be->sends_queued = true;
}

static bool uring_send_busy(const struct loop_io *io) {
    return io->flags & IO_SEND;
}

static void uring_send(struct loop_io *io, const struct iovec *iov, int cnt) {
    if (io->flags & IO_CLOSED) return;
    io->send_iov = iov;
    io->send_cnt = cnt;
    io->flags |= IO_SEND;
    if (!(io->flags & IO_HELD)) submit_send(io);
}

static void call_back_send(struct loop_io *io) {
    if ((io->flags & (IN_SEND | IO_SEND_STOPPING)) != IN_SEND) return;
    if (cancel_request(be_of(io->loop), tagged(io, TAG_SEND)))
        io->flags |= IO_SEND_STOPPING;
    else
        want_attention(io);
}

/* A send that waits in the kernel is called back before the kernel gets to run it again: cancellations go in first. */
static void uring_send_hold(struct loop_io *io, bool held) {
    if (io->flags & IO_CLOSED) return;
    if (!held) {
        io->flags &= ~IO_HELD;
        if ((io->flags & (IO_SEND | IN_SEND)) == IO_SEND) submit_send(io);
        return;
    }
    io->flags |= IO_HELD;
    call_back_send(io);
}

static void send_done(struct loop_io *io, int res) {
    io->flags &= ~(IN_SEND | IO_SEND_STOPPING);
    if (io->flags & IO_CLOSED) {
        closed_request_back(io);
        return;
    }
    if (res == -ECANCELED || res == -EAGAIN || res == -EINTR) {
        if (!(io->flags & IO_HELD)) submit_send(io);
        return;
    }
    io->flags &= ~IO_SEND;
    io->ops->on_sent(io, res);
}

/* ---- poll ---- */

static void arm_poll(struct loop_io *io) {
    struct io_uring_sqe *sqe = get_sqe(be_of(io->loop));
    if (!sqe) {
        want_attention(io);
        return;
    }
    io_uring_prep_poll_add(sqe, io->fd, (unsigned)io->poll_events);
    io_uring_sqe_set_data64(sqe, tagged(io, TAG_POLL));
    io->interest = (uint32_t)io->poll_events;
    io->flags |= IN_POLL;
}

static void uring_poll(struct loop_io *io, short events) {
    if (io->flags & IO_CLOSED) return;
    io->poll_events = events;
    if (events || io->flags & IN_POLL) want_attention(io); /* attend() sees whether there is anything to do */
}

static void poll_done(struct loop_io *io, int res) {
    io->flags &= ~(IN_POLL | IO_POLL_STOPPING);
    if (io->flags & IO_CLOSED) {
        closed_request_back(io);
        return;
    }
    if (!io->poll_events) return;
    short revents = res > 0 ? (short)(res & (io->poll_events | POLLERR | POLLHUP)) : 0;
    if (res < 0 && res != -ECANCELED) revents = POLLERR; /* the call that is tried next says what is wrong */
    if (!revents) {
        want_attention(io);
        return;
    }
    io->poll_events = 0;
    io->ops->on_poll(io, revents);
}

/* ---- what is to be done before the wait ---- */

static void attend(struct loop_io *io) {
    if (io->flags & IO_CLOSED) {
        if (cancel_all(io))
            list_push_back(&be_of(io->loop)->cancelling, &io->pending);
        else
            want_attention(io);
        return;
    }
    deliver_stash(io);
    if (io->flags & IO_CLOSED) return;
    if ((io->flags & (IO_RECV | IN_RECV)) == IO_RECV && !io->stash) arm_recv(io);
    if ((io->flags & (IO_SEND | IN_SEND | IO_HELD)) == IO_SEND) submit_send(io);
    if (io->flags & IO_HELD) call_back_send(io);
    if (io->poll_events && !(io->flags & IN_POLL)) arm_poll(io);
    if (io->flags & IN_POLL && (short)io->interest != io->poll_events && !(io->flags & IO_POLL_STOPPING) &&
        cancel_request(be_of(io->loop), tagged(io, TAG_POLL)))
        io->flags |= IO_POLL_STOPPING;
}

static void attend_all(struct uring_be *be) {
    struct list batch = LIST_INIT(batch);
    list_move_all(&batch, &be->ready); /* what asks again meanwhile waits for the next turn */
    while (!list_empty(&batch)) {
        struct list *n = batch.next;
        list_remove(n);
        attend(list_entry(n, struct loop_io, pending));
    }
}

/* ---- listeners ---- */

static struct uring_acceptor *find_acceptor(const struct loop_acceptor *a) {
    list_for_each_safe(n, tmp, &be_of(a->loop)->acceptors) {
        struct uring_acceptor *ua = list_entry(n, struct uring_acceptor, node);
        if (ua->a == a) return ua;
    }
    return NULL;
}

static void arm_acceptor(struct uring_be *be, struct uring_acceptor *ua) {
    struct io_uring_sqe *sqe = get_sqe(be);
    if (!sqe) return;
    io_uring_prep_multishot_accept(sqe, ua->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    io_uring_sqe_set_data64(sqe, tagged(ua, TAG_ACCEPT));
    ua->armed = true;
}

/* False: this turn has had its share of connections. */
static bool may_accept(const struct loop *l, struct uring_acceptor *ua) {
    if (ua->turn != l->turn_no) {
        ua->turn = l->turn_no;
        ua->n_turn = 0;
    }
    return ua->n_turn < loop_max_accepts(ua->a);
}

static void report_accepted(struct uring_acceptor *ua, int fd) {
    ua->n_turn++;
    ua->a->on_accept(ua->a, fd); /* may stop it */
}

/* What the kernel accepts in one go is not ours to say: the rest comes in the next turns. */
static void queue_accepted(struct uring_be *be, struct uring_acceptor *ua, int fd) {
    if (!ua->queue || ua->q_len == ua->q_cap) {
        ua->q_cap = ua->q_cap ? ua->q_cap * 2 : 64;
        ua->queue = mem_realloc(ua->queue, ua->q_cap * sizeof(int));
    }
    ua->queue[ua->q_len++] = fd;
    if (ua->armed && !ua->stopping) ua->stopping = cancel_request(be, tagged(ua, TAG_ACCEPT));
}

static void report_queued(struct loop *l, struct uring_acceptor *ua) {
    while (ua->a && ua->q_off < ua->q_len && may_accept(l, ua)) {
        be_of(l)->delivered = true;
        report_accepted(ua, ua->queue[ua->q_off++]);
    }
    if (ua->q_off < ua->q_len) return;
    mem_free(ua->queue);
    ua->queue = NULL;
    ua->q_off = ua->q_len = ua->q_cap = 0;
}

static void tend_acceptors(struct loop *l) {
    struct uring_be *be = be_of(l);
    list_for_each_safe(n, tmp, &be->acceptors) {
        struct uring_acceptor *ua = list_entry(n, struct uring_acceptor, node);
        if (ua->queue) report_queued(l, ua);
        if (!ua->a && !ua->armed)
            free_acceptor(ua);
        else if (ua->a && !ua->armed && !ua->queue && !ua->a->pause.heap_pos)
            arm_acceptor(be, ua);
    }
}

static void pause_over(struct loop_timer *t) {
    (void)t; /* the next turn arms what is neither armed nor paused */
}

static void uring_accept_start(struct loop_acceptor *a) {
    struct uring_acceptor *ua = mem_zalloc(sizeof(*ua));
    ua->a = a;
    ua->fd = a->fd;
    a->pause.fn = pause_over;
    list_push_back(&be_of(a->loop)->acceptors, &ua->node);
}

static void uring_accept_stop(struct loop_acceptor *a) {
    struct uring_be *be = be_of(a->loop);
    struct uring_acceptor *ua = find_acceptor(a);
    loop_timer_cancel(a->loop, &a->pause);
    ua->a = NULL;
    if (ua->armed) {
        be->n_cancelling++;
        if (!ua->stopping) ua->stopping = cancel_request(be, tagged(ua, TAG_ACCEPT));
        shutdown(a->fd, SHUT_RDWR); /* the request holds the socket: without this it would listen until the cancellation */
    }
    close(a->fd);
    a->fd = -1;
}

static void accept_done(struct loop *l, struct uring_acceptor *ua, int res, unsigned cqe_flags) {
    if (!(cqe_flags & IORING_CQE_F_MORE)) ua->armed = ua->stopping = false;
    if (!ua->a) {
        if (res >= 0) close(res);
        if (!ua->armed) be_of(l)->n_cancelling--;
        return;
    }
    if (res == -EAGAIN || res == -ECANCELED || (res < 0 && loop_is_peers_error(-res))) return;
    if (res < 0) { /* no descriptors, no memory */
        loop_timer_set(l, &ua->a->pause, l->now_us + LOOP_ACCEPT_PAUSE_US);
        ua->a->on_accept(ua->a, res);
    } else if (ua->queue || !may_accept(l, ua)) {
        queue_accepted(be_of(l), ua, res);
    } else {
        report_accepted(ua, res);
    }
}

/* ---- the turn ---- */

static void completion(struct loop *l, uint64_t data, int res, unsigned cqe_flags) {
    void *p = (void *)(uintptr_t)(data & ~(uint64_t)TAG_MASK);
    switch ((enum tag)(data & TAG_MASK)) {
    case TAG_NONE:
        break;
    case TAG_WAKE:
        be_of(l)->woken = true;
        if (!(cqe_flags & IORING_CQE_F_MORE)) be_of(l)->wake_armed = false;
        break;
    case TAG_RECV:
        recv_done(p, res, cqe_flags);
        break;
    case TAG_SEND:
        send_done(p, res);
        break;
    case TAG_POLL:
        poll_done(p, res);
        break;
    case TAG_ACCEPT:
        accept_done(l, p, res, cqe_flags);
        break;
    }
}

/* Taken out in batches: a callback may submit, and thereby fill the queue it came from. What completes meanwhile is taken too,
 * but not without end. */
static void reap(struct loop *l) {
    struct uring_be *be = be_of(l);
    struct io_uring_cqe *cqes[CQE_BATCH], copy[CQE_BATCH];
    unsigned left = CQ_ENTRIES;
    while (left > 0) {
        unsigned n = io_uring_peek_batch_cqe(&be->ring, cqes, left < CQE_BATCH ? left : CQE_BATCH);
        if (n == 0) break;
        for (unsigned i = 0; i < n; i++) copy[i] = *cqes[i];
        io_uring_cq_advance(&be->ring, n);
        for (unsigned i = 0; i < n; i++) completion(l, copy[i].user_data, copy[i].res, copy[i].flags);
        left -= n;
    }
    if (left < CQ_ENTRIES) l->n_events = CQ_ENTRIES - left;
}

static bool has_queued_connections(const struct uring_be *be) {
    list_for_each(n, &be->acceptors) {
        if (list_entry(n, struct uring_acceptor, node)->queue) return true;
    }
    return false;
}

/* With DEFER_TASKRUN nothing but our requests' first attempts runs here: no completion is handled, no callback is made. */
static void uring_submit(struct loop *l) {
    struct uring_be *be = be_of(l);
    if (be->enabled && be->sends_queued) io_uring_submit(&be->ring);
}

static void enter(struct uring_be *be, int64_t timeout_us) {
    struct io_uring_cqe *cqe;
    if (timeout_us == 0) {
        io_uring_submit_and_get_events(&be->ring);
    } else if (timeout_us < 0) {
        io_uring_submit_and_wait(&be->ring, 1);
    } else {
        struct __kernel_timespec ts = { .tv_sec = timeout_us / 1000000, .tv_nsec = timeout_us % 1000000 * 1000 };
        io_uring_submit_and_wait_timeout(&be->ring, &cqe, 1, &ts, NULL);
    }
}

static void uring_turn(struct loop *l, int64_t timeout_us) {
    struct uring_be *be = be_of(l);
    if (!be->enabled) enable(be);
    if (!be->wake_armed) arm_wake(l);
    if (be->out_of_bufs) bufs_grow(be);
    be->out_of_bufs = false;
    tend_acceptors(l);
    attend_all(be);
    bool hurry =
        has_queued_connections(be) || be->sends_queued || be->delivered || !list_empty(&be->ready) || !list_empty(&l->closing);
    be->sends_queued = be->delivered = false;
    if (!hurry && timeout_us) loop_before_wait(l);
    enter(be, hurry ? 0 : timeout_us);
    l->now_us = clock_mono_us();
    reap(l);
    if (be->woken) {
        be->woken = false;
        loop_woken(l);
    }
}

/* Until the kernel has given back every request of a closed io and of a stopped listener. */
static void uring_settle(struct loop *l) {
    struct uring_be *be = be_of(l);
    while (be->enabled && be->n_cancelling > 0) uring_turn(l, 100000);
}

const struct loop_backend_ops loop_uring_ops = {
    .name = "io_uring",
    .open = uring_open,
    .shut = uring_shut,
    .turn = uring_turn,
    .settle = uring_settle,
    .abandon = uring_abandon,
    .submit = uring_submit,
    .recv_start = uring_recv_start,
    .recv_stop = uring_recv_stop,
    .recv_into = uring_recv_into,
    .send = uring_send,
    .send_busy = uring_send_busy,
    .send_hold = uring_send_hold,
    .poll = uring_poll,
    .close = uring_close,
    .accept_start = uring_accept_start,
    .accept_stop = uring_accept_stop,
};
