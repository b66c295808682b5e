/* Event loop, completion-style: one per I/O thread, used by that thread only, except loop_post and loop_stop. The caller says
 * "receive", "send", "accept" and is called back with the result; whether io_uring or epoll does it is the back end's business.
 * May be made, and freed after its run, by another thread than the one that runs it.
 *
 * Life of a loop_io: init -> recv_start/send... -> loop_io_close() -> on_closed (no callback after it; memory may then be freed;
 * the fd is closed by the loop just before). Every callback may call loop functions on any io, its own close included. The fd of
 * a loop_io is a non-blocking stream socket. */
#ifndef KETTLE_NET_LOOP_H
#define KETTLE_NET_LOOP_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "base/inbox.h"
#include "base/list.h"

struct loop;

enum loop_backend { LOOP_AUTO = 0, LOOP_EPOLL, LOOP_URING };

#define LOOP_RECV_BUF 65536   /* bytes received at once, at most */
#define LOOP_INTO_MAX 1048576 /* with loop_recv_into */
#define LOOP_IOV_MAX 64       /* pieces of one send, at most */

/* LOOP_AUTO: io_uring where the kernel has what it takes (Linux 6.1, and no seccomp profile or sysctl against it), else epoll.
 * 0 or -errno (-EMFILE ...; of io_uring_setup(2) for LOOP_URING: -EINVAL too old, -EPERM forbidden, -ENOSYS); *ret is untouched
 * on failure. Owned by the caller. */
int loop_new(enum loop_backend want, struct loop **ret);
/* Runs what is still in the inbox and reports what was closed, then frees: the owner must be alive, producers must have stopped,
 * and every io and acceptor must have been closed. NULL is fine; returns NULL. */
struct loop *loop_free(struct loop *l);
const char *loop_backend_name(const struct loop *l); /* "epoll", "io_uring" */
int loop_uring_errno(const struct loop *l);          /* LOOP_AUTO that became epoll: why. Else 0 */
/* Until loop_stop, then the inbox once more. A stop that came before the run counts. May be run again afterwards. */
void loop_run(struct loop *l);
void loop_stop(struct loop *l); /* any thread, signal handlers too */
/* Runs msg->run(msg, owner) on the loop's thread soon. Any thread. owner is what loop_set_owner gave. */
void loop_post(struct loop *l, struct inbox_msg *msg_take);
void loop_set_owner(struct loop *l, void *owner);
int64_t loop_now_us(const struct loop *l); /* monotonic, taken once a turn */
/* Turns so far, and the microseconds they took: from the end of a wait to the beginning of the next. What io_uring submits with
 * the wait counts as waiting. Any thread. */
void loop_figures(const struct loop *l, uint64_t *ret_turns, uint64_t *ret_busy_us);
/* Called once before each wait, after all events of the turn: the place to flush batched output. */
void loop_set_before_sleep(struct loop *l, void (*fn)(void *arg), void *arg);
/* Other threads of the process run loops too: a loop that was busy a moment ago lets others have the processor before it waits.
 */
void loop_set_yields(struct loop *l, bool yields);
/* Sends that were asked for start now and not only with the wait: before something that takes its time. */
void loop_submit(struct loop *l);

/* ---- timers ---- */
struct loop_timer {    /* embed; zero-initialise */
    int64_t when_us;   /* monotonic */
    unsigned heap_pos; /* 0: not armed */
    void (*fn)(struct loop_timer *t);
};
void loop_timer_set(struct loop *l, struct loop_timer *t, int64_t when_us); /* arms or moves; one shot */
void loop_timer_cancel(struct loop *l, struct loop_timer *t);

/* ---- connections ---- */
struct loop_io {
    struct loop *loop;
    int fd;
    const struct loop_io_ops *ops;
    /* back end's */
    struct list pending;
    unsigned flags;
    uint32_t interest;
    short poll_events;
    unsigned turn, turn_sends;
    const struct iovec *send_iov;
    int send_cnt;
    struct uring_stash *stash;
    char *into; /* loop_recv_into */
    size_t into_len;
};

struct loop_io_ops {
    /* n > 0: bytes, in memory of the loop's, valid during the call, or where loop_recv_into said. 0: end of stream. < 0: -errno
     * (-EIO on a kernel-TLS socket means a control record waits). After n <= 0 receiving is off until loop_recv_start. */
    void (*on_recv)(struct loop_io *io, char *data, ssize_t n);
    /* The send of loop_send is over: bytes sent (may be fewer than asked: send the rest again) or -errno. */
    void (*on_sent)(struct loop_io *io, ssize_t n);
    /* loop_poll's event; revents as poll(2). */
    void (*on_poll)(struct loop_io *io, short revents);
    void (*on_closed)(struct loop_io *io);
};

void loop_io_init(struct loop_io *io, struct loop *l, int fd, const struct loop_io_ops *ops);
void loop_recv_start(struct loop_io *io); /* multishot: until stopped, error or close */
void loop_recv_stop(struct loop_io *io);  /* back-pressure; nothing arrives after it returns */
/* From now on bytes are received into buf, len of them at most (fewer at a time), where the back end can: on_recv's data says
 * where they are. len 0: no more. From inside on_recv only, and buf must stay until the next call or on_closed: after each
 * receipt it is set again or ended. */
void loop_recv_into(struct loop_io *io, char *buf, size_t len);
/* One send in flight per io. The array and what it points to must stay until on_sent. The epoll back end tries at once and may
 * call on_sent before returning; a full socket completes later, and so does an io that has sent many times in this turn
 * (fairness). */
void loop_send(struct loop_io *io, const struct iovec *iov, int cnt);
bool loop_send_busy(const struct loop_io *io);
/* While held, a send in flight makes no progress and loop_send only queues: something else (a KeyUpdate) must go out first. */
void loop_send_hold(struct loop_io *io, bool held);
/* One sendmsg now, no callback: bytes or -errno (-EAGAIN: full, or io has had its share of this turn: loop_send then). Not while
 * a send is in flight. */
ssize_t loop_send_try(struct loop_io *io, const struct iovec *iov, int cnt);
/* Readiness once (handshakes): POLLIN and/or POLLOUT. Replaces a poll asked before. 0 cancels. Not together with recv_start. */
void loop_poll(struct loop_io *io, short events);
/* Cancels everything, closes the fd; then on_closed, always from the loop, never inside this call. Safe twice. */
void loop_io_close(struct loop_io *io);

/* ---- listeners ---- */
struct loop_acceptor {
    struct loop *loop;
    int fd; /* listening, non-blocking; closed by loop_acceptor_stop */
    /* fd: accepted, non-blocking, close-on-exec; the callback owns it. fd < 0: -errno (EMFILE: accepting pauses 100 ms by
     * itself). */
    void (*on_accept)(struct loop_acceptor *a, int fd);
    void *arg;
    unsigned max_per_turn;   /* connections reported in one turn, at most; 0: 64. May change at any time */
    unsigned flags;          /* back end's */
    struct loop_timer pause; /* back end's */
};
void loop_acceptor_start(struct loop_acceptor *a, struct loop *l);
void loop_acceptor_stop(
    struct loop_acceptor *a); /* the loop's thread; no callback after it, the memory may be freed. Safe twice */

#endif
