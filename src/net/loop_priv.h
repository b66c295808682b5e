/* Inside of the event loop, for loop.c and its back ends only. */
#ifndef KETTLE_NET_LOOP_PRIV_H
#define KETTLE_NET_LOOP_PRIV_H

#include <stdatomic.h>

#include "net/loop.h"

#define LOOP_ACCEPT_PAUSE_US 100000 /* after EMFILE and its like */
#define LOOP_MAX_SENDS 8            /* immediate sends of one io in one turn */
#define LOOP_MAX_ACCEPTS 64         /* of one listener in one turn, if it does not say */

/* What a back end does. All on the loop's thread. */
struct loop_backend_ops {
    const char *name;
    int (*open)(struct loop *l); /* makes l->be; 0 or -errno */
    void (*shut)(struct loop *l);
    void (*turn)(struct loop *l, int64_t timeout_us); /* waits (-1: for ever), refreshes l->now_us, dispatches events */
    /* Any may be NULL. All closed ios end in loop_io_closing(): after waiting, on the loop's thread; at once, before shut. */
    void (*settle)(struct loop *l);
    void (*abandon)(struct loop *l);
    void (*submit)(struct loop *l); /* may be NULL */
    void (*recv_start)(struct loop_io *io);
    void (*recv_stop)(struct loop_io *io);
    void (*recv_into)(struct loop_io *io); /* io->into was set; may be NULL */
    void (*send)(struct loop_io *io, const struct iovec *iov, int cnt);
    bool (*send_busy)(const struct loop_io *io);
    void (*send_hold)(struct loop_io *io, bool held);
    void (*poll)(struct loop_io *io, short events);
    void (*close)(struct loop_io *io); /* cancels; ends in loop_io_closing() */
    void (*accept_start)(struct loop_acceptor *a);
    void (*accept_stop)(struct loop_acceptor *a);
};

extern const struct loop_backend_ops loop_epoll_ops, loop_uring_ops;

struct loop {
    const struct loop_backend_ops *ops;
    void *be; /* the back end's own */
    struct inbox inbox;
    int wake_fd; /* eventfd: inbox no longer empty, or stop */
    atomic_bool stop;
    void *owner;
    int64_t now_us;
    int uring_errno; /* LOOP_AUTO: why it is not io_uring */
    unsigned turn_no;
    _Atomic uint64_t turns, busy_us; /* loop_figures; the loop's thread writes */
    bool yields;
    unsigned n_events;     /* of the last turn that had any; the back end's to set */
    int64_t yield_from_us; /* not before */
    void (*before_sleep)(void *arg);
    void *before_sleep_arg;
    struct list closing;      /* ios closed, on_closed not yet called */
    struct loop_timer **heap; /* 4-ary, heap_pos is index + 1 */
    unsigned heap_len, heap_cap;
};

/* The back end has let go of io: fd and callback follow at the end of the turn. */
void loop_io_closing(struct loop_io *io);
/* Counts one send of this turn; false: io has had its share. */
bool loop_may_send(struct loop_io *io);
/* sendmsg without SIGPIPE and without waiting: bytes or -errno. */
ssize_t loop_sendmsg(struct loop_io *io, const struct iovec *iov, int cnt);
static inline unsigned loop_max_accepts(const struct loop_acceptor *a) {
    return a->max_per_turn ? a->max_per_turn : LOOP_MAX_ACCEPTS;
}
/* accept(2): errors of the connection itself, already pending on it when it was taken. */
bool loop_is_peers_error(int err);
/* The back end is about to wait: see loop_set_yields. */
void loop_before_wait(struct loop *l);
/* The wake-up descriptor is readable. */
void loop_woken(struct loop *l);

#endif
