/*
 * One stream into several sockets. See fanout.h.
 *
 * Place in the flow: a forked child (server/repl_child.c) serializes the data set into it. The stream's last `window` bytes are
 * in a ring; each socket has its place in it:
 *
 *      tail = the slowest      a fast one              end
 *        |-------------------------|--------------------|          end - tail <= window
 *
 * Where there is one socket only, large pieces do not pass through the ring.
 * Bytes go out in pieces of PUSH_BYTES, a multiple of a TLS record's size, so that kernel TLS makes full records of them.
 */
#include "repl/fanout.h"

#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "base/alloc.h"
#include "base/clock.h"

#define PUSH_BYTES (128 * 1024)
#define STRAIGHT_MIN (16 * 1024) /* a whole TLS record */
#define LOOK_MS 50               /* between two looks for those that stall, while nothing moves */

struct fanout {
    struct fanout_sink *sink;
    int n;
    struct fanout_opts o;
    struct pollfd *polls;
    char *ring;
    uint64_t end, pushed;
};

struct fanout *fanout_new(struct fanout_sink *sinks, int n, const struct fanout_opts *o) {
    struct fanout *f = mem_zalloc(sizeof *f);
    *f = (struct fanout){ .sink = sinks, .n = n, .o = *o };
    f->polls = mem_calloc((size_t)n + 1, sizeof *f->polls);
    f->ring = mem_alloc(o->window);
    for (int i = 0; i < n; i++) {
        sinks[i].pos = sinks[i].skip;
        sinks[i].sent = 0;
        sinks[i].err = 0;
        sinks[i].progress_us = clock_mono_us();
    }
    return f;
}

struct fanout *fanout_free(struct fanout *f) {
    if (!f) return NULL;
    mem_free(f->polls);
    mem_free(f->ring);
    mem_free(f);
    return NULL;
}

static bool is_behind(const struct fanout *f, const struct fanout_sink *s) {
    return !s->err && s->pos < f->end;
}

static uint64_t tail_of(const struct fanout *f) {
    uint64_t tail = f->end;
    for (int i = 0; i < f->n; i++)
        if (is_behind(f, &f->sink[i]) && f->sink[i].pos < tail) tail = f->sink[i].pos;
    return tail;
}

static bool any_alive(const struct fanout *f) {
    for (int i = 0; i < f->n; i++)
        if (!f->sink[i].err) return true;
    return false;
}

static void give_up(struct fanout_sink *s, int err) {
    s->err = err;
    shutdown(s->fd, SHUT_RDWR); /* who reads it on the other side of the fork hears of it */
}

/* What the socket takes now. */
static void push_one(struct fanout *f, struct fanout_sink *s) {
    while (is_behind(f, s)) {
        size_t at = (size_t)(s->pos % f->o.window), left = (size_t)(f->end - s->pos), first = f->o.window - at;
        if (left > PUSH_BYTES) left = PUSH_BYTES;
        if (first > left) first = left;
        struct iovec iov[2] = { { f->ring + at, first }, { f->ring, left - first } };
        struct msghdr m = { .msg_iov = iov, .msg_iovlen = left > first ? 2 : 1 };
        ssize_t n = sendmsg(s->fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) {
            if (errno != EAGAIN && errno != EWOULDBLOCK) give_up(s, errno);
            return;
        }
        s->pos += (uint64_t)n;
        s->sent += (uint64_t)n;
        s->progress_us = clock_mono_us();
    }
    s->progress_us = clock_mono_us(); /* it waits for us */
}

static void push(struct fanout *f) {
    for (int i = 0; i < f->n; i++)
        if (is_behind(f, &f->sink[i])) push_one(f, &f->sink[i]);
    f->pushed = f->end;
}

static void drop_stalled(struct fanout *f) {
    int64_t now = clock_mono_us();
    bool someone_waits = false;
    for (int i = 0; i < f->n; i++) someone_waits |= !f->sink[i].err && f->sink[i].pos >= f->end;
    for (int i = 0; i < f->n; i++) {
        struct fanout_sink *s = &f->sink[i];
        int64_t limit = someone_waits && f->o.stall_us < f->o.timeout_us ? f->o.stall_us : f->o.timeout_us;
        if (is_behind(f, s) && now - s->progress_us > limit) give_up(s, ETIMEDOUT);
    }
}

/* Until a socket that is behind takes something, or is given up. */
static void wait_for_room(struct fanout *f) {
    int n = 0;
    for (int i = 0; i < f->n; i++)
        if (is_behind(f, &f->sink[i])) f->polls[n++] = (struct pollfd){ .fd = f->sink[i].fd, .events = POLLOUT };
    poll(f->polls, (nfds_t)n, LOOK_MS);
    push(f);
    drop_stalled(f);
}

/* A socket alone is given the bytes from where they lie: nobody needs them after it. */
static int write_straight(struct fanout *f, const char *p, size_t n) {
    struct fanout_sink *s = f->sink;
    if (s->pos > f->end) { /* it has the first of them */
        size_t has = s->pos - f->end < n ? (size_t)(s->pos - f->end) : n;
        f->end += has;
        p += has;
        n -= has;
    }
    while (n > 0 && !s->err) {
        if (is_behind(f, s)) { /* what came in small pieces before */
            wait_for_room(f);
            continue;
        }
        ssize_t r = send(s->fd, p, n, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (r < 0 && errno == EINTR) continue;
        if (r < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
            struct pollfd room = { .fd = s->fd, .events = POLLOUT };
            poll(&room, 1, LOOK_MS);
            if (clock_mono_us() - s->progress_us > f->o.timeout_us) give_up(s, ETIMEDOUT);
        } else if (r < 0) {
            give_up(s, errno);
        } else {
            s->pos += (uint64_t)r;
            s->sent += (uint64_t)r;
            s->progress_us = clock_mono_us();
            f->end += (uint64_t)r;
            p += r;
            n -= (size_t)r;
        }
    }
    f->pushed = f->end;
    s->progress_us = clock_mono_us(); /* it waits for us */
    return s->err ? -EPIPE : 0;
}

int fanout_write(void *arg, const void *p, size_t n) {
    struct fanout *f = arg;
    const char *from = p;
    if (f->n == 1 && n >= STRAIGHT_MIN) return write_straight(f, from, n);
    while (n > 0) {
        if (!any_alive(f)) return -EPIPE;
        size_t room = f->o.window - (size_t)(f->end - tail_of(f)), at = (size_t)(f->end % f->o.window);
        if (room == 0) {
            wait_for_room(f);
            continue;
        }
        size_t fits = f->o.window - at;
        if (fits > room) fits = room;
        if (fits > n) fits = n;
        memcpy(f->ring + at, from, fits);
        from += fits;
        n -= fits;
        f->end += fits;
        if (f->end - f->pushed >= PUSH_BYTES || f->end - tail_of(f) == f->o.window) push(f);
    }
    return any_alive(f) ? 0 : -EPIPE;
}

int fanout_finish(struct fanout *f) {
    push(f);
    while (tail_of(f) < f->end) wait_for_room(f);
    return any_alive(f) ? 0 : -EPIPE;
}
