/* Blocking I/O with one deadline for the whole operation.
 *
 * Place in the flow: beside the event loop: replication handshake, MIGRATE, cli, benchmark. Thread: the caller's, which is
 * what blocks.
 *
 * Every operation is: try, and if it is not complete look at the clock, and only if the socket had nothing wait for what time
 * is left. The clock is looked at after a success too: a peer that feeds one byte at a time never lets the socket run dry, and
 * SO_RCVTIMEO, which restarts with each byte, would wait for ever. */
#include "net/syncio.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "net/sock_wait.h"

static int time_left_ms(int64_t deadline_us) {
    if (deadline_us == INT64_MAX) return -1;
    int64_t left = deadline_us - clock_mono_us();
    if (left <= 0) return 0;
    int64_t ms = left / 1000 + (left % 1000 != 0);
    return ms > INT_MAX ? INT_MAX : (int)ms;
}

static bool expired(int64_t deadline_us) {
    return deadline_us != INT64_MAX && clock_mono_us() >= deadline_us;
}

int sock_wait(int fd, short events, int64_t deadline_us) {
    while (!expired(deadline_us)) {
        struct pollfd p = { .fd = fd, .events = events };
        int n = poll(&p, 1, time_left_ms(deadline_us));
        if (n > 0) return p.revents & POLLNVAL ? -EBADF : 0;
        if (n < 0 && errno != EINTR) return -errno;
    }
    return -ETIMEDOUT;
}

/* After -EAGAIN. */
static int wait_for(const struct syncio *s, short plain_events, int64_t deadline_us) {
    short events = plain_events;
    if (s->tls) events = ktls_conn_wants(s->tls) == KTLS_WANT_WRITE ? POLLOUT : POLLIN;
    return sock_wait(s->fd, events, deadline_us);
}

int syncio_handshake(struct syncio *s, int64_t deadline_us) {
    if (!s->tls) return 0;
    for (;;) {
        int r = ktls_handshake(s->tls);
        if (r <= 0) return r;
        if (expired(deadline_us)) return -ETIMEDOUT;
        r = sock_wait(s->fd, r == KTLS_WANT_WRITE ? POLLOUT : POLLIN, deadline_us);
        if (r < 0) return r;
    }
}

static ssize_t try_read(struct syncio *s, void *buf, size_t len) {
    if (s->tls) return ktls_read(s->tls, buf, len);
    ssize_t n = recv(s->fd, buf, len, MSG_DONTWAIT);
    return n < 0 ? -errno : n;
}

static ssize_t try_write(struct syncio *s, const void *buf, size_t len) {
    if (s->tls) return ktls_write(s->tls, buf, len);
    ssize_t n = send(s->fd, buf, len, MSG_DONTWAIT | MSG_NOSIGNAL);
    return n < 0 ? -errno : n;
}

ssize_t syncio_read_some(struct syncio *s, void *buf, size_t len, int64_t deadline_us) {
    for (;;) {
        ssize_t n = try_read(s, buf, len);
        if (n == -EINTR) continue;
        if (n != -EAGAIN) return n;
        int r = wait_for(s, POLLIN, deadline_us);
        if (r < 0) return r;
    }
}

int syncio_read_full(struct syncio *s, void *buf, size_t len, int64_t deadline_us) {
    size_t got = 0;
    while (got < len) {
        ssize_t n = syncio_read_some(s, (char *)buf + got, len - got, deadline_us);
        if (n <= 0) return n == 0 ? -ENODATA : (int)n;
        got += (size_t)n;
        if (got < len && expired(deadline_us)) return -ETIMEDOUT;
    }
    return 0;
}

int syncio_write_full(struct syncio *s, const void *buf, size_t len, int64_t deadline_us) {
    size_t sent = 0;
    while (sent < len) {
        ssize_t n = try_write(s, (const char *)buf + sent, len - sent);
        if (n == -EINTR) continue;
        if (n == -EAGAIN) {
            int r = wait_for(s, POLLOUT, deadline_us);
            if (r < 0) return r;
            continue;
        }
        if (n < 0) return (int)n;
        sent += (size_t)n;
        if (sent < len && expired(deadline_us)) return -ETIMEDOUT;
    }
    return 0;
}

/* Byte by byte: what follows the line belongs to the next reader, and there is nowhere to keep it. */
ssize_t syncio_read_line(struct syncio *s, char *buf, size_t cap, int64_t deadline_us) {
    size_t len = 0;
    for (;;) {
        char byte;
        int r = syncio_read_full(s, &byte, 1, deadline_us);
        if (r < 0) return r;
        if (byte == '\n') break;
        if (len + 1 >= cap) return -EMSGSIZE;
        buf[len++] = byte;
        if (expired(deadline_us)) return -ETIMEDOUT;
    }
    if (len && buf[len - 1] == '\r') len--;
    if (cap) buf[len] = '\0';
    return (ssize_t)len;
}

void syncio_close(struct syncio *s, int64_t deadline_us) {
    if (s->tls) {
        while (ktls_shutdown(s->tls) == KTLS_WANT_WRITE && sock_wait(s->fd, POLLOUT, deadline_us) == 0)
            ;
        s->tls = ktls_conn_free(s->tls);
    }
    if (s->fd >= 0) close(s->fd);
    s->fd = -1;
}
