/* Blocking I/O with one deadline for the whole operation.
 *
 * Place in the flow: beside the event loop: replication handshake, MIGRATE, cli, benchmark. Thread: the caller's, which is
 * what blocks.
 *
 * Every operation is: try once, and from then on wait for what time is left and try again. A read that gave less than was asked
 * for has emptied the socket, so it is not followed by one that would only say so: a wake-up is one poll and one read. The clock
 * is looked at after a success too: a peer that feeds one byte at a time never lets the socket run dry, and SO_RCVTIMEO, which
 * restarts with each byte, would wait for ever.
 *
 * Linux 6.1 reports a kernel-TLS socket readable while all it holds is half a record. After a wake-up without a byte such a
 * socket is waited for by an edge-triggered epoll, which is told when the record is whole.
 *
 * What userspace decrypts comes over memory (ktls_mem_*), in userspace TLS and with half offload: whatever the socket has comes
 * in with one read, up to CIPHER_CHUNK, and in userspace TLS several records of ours leave with one write. */
#include "net/syncio.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "net/sock_wait.h"

#define CIPHER_CHUNK 65536 /* mem: ciphertext read at once; plaintext encrypted before it is sent */
#define LINE_CHUNK 512     /* read ahead for a line */

static bool expired(int64_t deadline_us) {
    return deadline_us != INT64_MAX && clock_mono_us() >= deadline_us;
}

/* ppoll and not poll: the latter's milliseconds would round the deadline up. */
int sock_wait(int fd, short events, int64_t deadline_us) {
    struct timespec ts, *left = NULL;
    for (;;) {
        if (deadline_us != INT64_MAX) {
            int64_t us = deadline_us - clock_mono_us();
            if (us <= 0) return -ETIMEDOUT;
            ts = (struct timespec){ .tv_sec = us / 1000000, .tv_nsec = us % 1000000 * 1000 };
            left = &ts;
        }
        struct pollfd p = { .fd = fd, .events = events };
        int n = ppoll(&p, 1, left, NULL);
        if (n > 0) return p.revents & POLLNVAL ? -EBADF : 0;
        if (n < 0 && errno != EINTR) return -errno;
    }
}

int syncio_handshake(struct syncio *s, int64_t deadline_us) {
    if (!s->tls) return 0;
    for (;;) {
        int r = ktls_handshake(s->tls);
        if (r < 0) return r;
        if (r == KTLS_DONE) break;
        if (expired(deadline_us)) return -ETIMEDOUT;
        r = sock_wait(s->fd, r == KTLS_WANT_WRITE ? POLLOUT : POLLIN, deadline_us);
        if (r < 0) return r;
    }
    if (ktls_conn_mode(s->tls) == KTLS_MODE_KERNEL) return 0;
    int r = ktls_mem_start(s->tls);
    s->mem = r == 0;
    return r;
}

/* ---- TLS over memory: receiving in userspace TLS and with half offload, sending in userspace TLS only ---- */

static bool sends_over_memory(const struct syncio *s) {
    return s->mem && ktls_conn_mode(s->tls) == KTLS_MODE_USER;
}

/* Sends what OpenSSL has written. 0: all of it is gone; -EAGAIN, -errno. */
static int mem_flush(struct syncio *s) {
    const void *data;
    size_t len;
    while ((len = ktls_mem_output(s->tls, &data)) > 0) {
        ssize_t n = send(s->fd, data, len, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return -errno;
        ktls_mem_sent(s->tls, (size_t)n);
        if ((size_t)n < len) return -EAGAIN; /* full: trying again would only say so */
    }
    return 0;
}

/* From the socket to OpenSSL. True in *ret_dry: the socket has no more. 0, -EAGAIN, -errno. */
static int mem_fill(struct syncio *s, bool *ret_dry) {
    char cipher[CIPHER_CHUNK];
    ssize_t n;
    do n = recv(s->fd, cipher, sizeof(cipher), MSG_DONTWAIT);
    while (n < 0 && errno == EINTR);
    if (n < 0) return -errno;
    *ret_dry = (size_t)n < sizeof(cipher);
    if (n == 0) s->peer_end = true;
    return ktls_mem_input(s->tls, n ? cipher : NULL, (size_t)n);
}

static ssize_t mem_write(struct syncio *s, const void *buf, size_t len) {
    if (s->due == 0) {
        ssize_t n = ktls_write(s->tls, buf, len < CIPHER_CHUNK ? len : CIPHER_CHUNK);
        if (n <= 0) return n;
        s->due = (size_t)n;
    }
    int r = mem_flush(s);
    if (r < 0) return r;
    size_t n = s->due;
    s->due = 0;
    return (ssize_t)n;
}

/* ---- one attempt ---- */

/* What is here without a system call: the rest of a line's read, decrypted bytes. -EAGAIN: nothing. */
static ssize_t read_held(struct syncio *s, void *buf, size_t len) {
    if (s->line.len > 0) {
        size_t n = len < s->line.len ? len : s->line.len;
        memcpy(buf, s->line.data, n);
        buf_consume(&s->line, n);
        if (s->line.len == 0) buf_done(&s->line);
        return (ssize_t)n;
    }
    if (!s->mem) return -EAGAIN;
    ssize_t n = ktls_read(s->tls, buf, len);
    int r = n == -EAGAIN ? mem_flush(s) : 0; /* the answer to a KeyUpdate */
    return r < 0 && r != -EAGAIN ? r : n;
}

/* One read from the socket. *ret_dry: there is no more at the moment. */
static ssize_t read_socket(struct syncio *s, void *buf, size_t len, bool *ret_dry) {
    if (s->mem) {
        if (s->peer_end) return KTLS_ETRUNCATED;
        int r = mem_fill(s, ret_dry);
        return r < 0 ? r : read_held(s, buf, len);
    }
    ssize_t n;
    if (s->tls) {
        n = ktls_read(s->tls, buf, len);
    } else {
        do n = recv(s->fd, buf, len, MSG_DONTWAIT);
        while (n < 0 && errno == EINTR);
        if (n < 0) n = -errno;
    }
    *ret_dry = n == -EAGAIN || (n > 0 && (size_t)n < len);
    return n;
}

ssize_t syncio_try_read(struct syncio *s, void *buf, size_t len) {
    bool dry;
    ssize_t n = read_held(s, buf, len);
    return n == -EAGAIN ? read_socket(s, buf, len, &dry) : n;
}

ssize_t syncio_try_write(struct syncio *s, const void *buf, size_t len) {
    if (sends_over_memory(s)) return mem_write(s, buf, len);
    if (s->tls) return ktls_write(s->tls, buf, len);
    ssize_t n;
    do n = send(s->fd, buf, len, MSG_DONTWAIT | MSG_NOSIGNAL);
    while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : n;
}

/* ---- before a deadline ---- */

/* TLS over the descriptor itself (a handshake that was not ours) may want the other direction. */
static int wait_for(const struct syncio *s, short events, int64_t deadline_us) {
    if (s->tls && !s->mem && ktls_conn_mode(s->tls) == KTLS_MODE_USER)
        events = ktls_conn_wants(s->tls) == KTLS_WANT_WRITE ? POLLOUT : POLLIN;
    return sock_wait(s->fd, events, deadline_us);
}

/* As sock_wait for POLLIN, but not woken again for what was there already. */
static int edge_wait(struct syncio *s, int64_t deadline_us) {
    struct epoll_event ev = { .events = EPOLLIN | EPOLLET };
    if (!s->edge_fd) {
        int fd = epoll_create1(EPOLL_CLOEXEC);
        if (fd < 0 || epoll_ctl(fd, EPOLL_CTL_ADD, s->fd, &ev) < 0) {
            int err = -errno;
            if (fd >= 0) close(fd);
            return err;
        }
        s->edge_fd = fd + 1;
    }
    int r = sock_wait(s->edge_fd - 1, POLLIN, deadline_us);
    if (r == 0 && epoll_wait(s->edge_fd - 1, &ev, 1, 0) < 0 && errno != EINTR) r = -errno;
    return r;
}

static int wait_readable(struct syncio *s, bool in_vain, int64_t deadline_us) {
    bool kernel = s->tls && ktls_conn_mode(s->tls) == KTLS_MODE_KERNEL;
    return in_vain && kernel ? edge_wait(s, deadline_us) : wait_for(s, POLLIN, deadline_us);
}

/* At least `least` bytes, at most len, fewer only at the end of the stream. */
static ssize_t read_between(struct syncio *s, void *buf, size_t least, size_t len, int64_t deadline_us) {
    size_t got = 0;
    bool dry = false, in_vain = false;
    while (got < least) {
        ssize_t n = read_held(s, (char *)buf + got, len - got);
        if (n == -EAGAIN) {
            int r = dry ? wait_readable(s, in_vain, deadline_us) : 0;
            if (r < 0) return r;
            bool woken = dry;
            dry = true; /* of -EAGAIN too */
            n = read_socket(s, (char *)buf + got, len - got, &dry);
            in_vain = woken && n == -EAGAIN;
        }
        if (n == 0) break;
        if (n < 0 && n != -EAGAIN) return n;
        if (n > 0) got += (size_t)n;
        if (got < least && expired(deadline_us)) return -ETIMEDOUT;
    }
    return (ssize_t)got;
}

ssize_t syncio_read_some(struct syncio *s, void *buf, size_t len, int64_t deadline_us) {
    return read_between(s, buf, len ? 1 : 0, len, deadline_us);
}

int syncio_read_full(struct syncio *s, void *buf, size_t len, int64_t deadline_us) {
    ssize_t n = read_between(s, buf, len, len, deadline_us);
    if (n < 0) return (int)n;
    return (size_t)n == len ? 0 : -ENODATA;
}

int syncio_write_full(struct syncio *s, const void *buf, size_t len, int64_t deadline_us) {
    size_t sent = 0;
    while (sent < len) {
        ssize_t n = syncio_try_write(s, (const char *)buf + sent, len - sent);
        if (n < 0 && n != -EAGAIN) return (int)n;
        bool full = n == -EAGAIN || (!sends_over_memory(s) && (size_t)n < len - sent);
        if (n > 0) sent += (size_t)n;
        if (sent == len) break;
        if (expired(deadline_us)) return -ETIMEDOUT;
        int r = full ? wait_for(s, POLLOUT, deadline_us) : 0;
        if (r < 0) return r;
    }
    return 0;
}

/* Reads on behind what is kept. Bytes; 0 end of stream. */
static ssize_t read_more_of_line(struct syncio *s, int64_t deadline_us) {
    char more[LINE_CHUNK];
    struct buf kept = s->line; /* read_between would give it back */
    s->line = (struct buf){ 0 };
    ssize_t n = read_between(s, more, 1, sizeof(more), deadline_us);
    s->line = kept;
    if (n > 0) buf_append(&s->line, more, (size_t)n);
    return n;
}

ssize_t syncio_read_line(struct syncio *s, char *buf, size_t cap, int64_t deadline_us) {
    size_t seen = 0;
    for (;;) {
        const char *lf = s->line.len > seen ? memchr(s->line.data + seen, '\n', s->line.len - seen) : NULL;
        size_t len = lf ? (size_t)(lf - s->line.data) : s->line.len;
        if (len >= cap) return -EMSGSIZE;
        if (lf) {
            memcpy(buf, s->line.data, len);
            buf_consume(&s->line, len + 1);
            if (s->line.len == 0) buf_done(&s->line);
            if (len && buf[len - 1] == '\r') len--;
            buf[len] = '\0';
            return (ssize_t)len;
        }
        seen = len;
        if (seen && expired(deadline_us)) return -ETIMEDOUT;
        ssize_t n = read_more_of_line(s, deadline_us);
        if (n <= 0) return n == 0 ? -ENODATA : n;
    }
}

struct slice syncio_left(const struct syncio *s) {
    return buf_slice(&s->line);
}

static int say_goodbye(struct syncio *s) {
    int r = s->mem ? mem_flush(s) : 0; /* not in the middle of a record */
    if (r == 0) r = ktls_shutdown(s->tls);
    if (r == KTLS_DONE && s->mem) r = mem_flush(s);
    return r == KTLS_WANT_WRITE ? -EAGAIN : r;
}

void syncio_close(struct syncio *s, int64_t deadline_us) {
    if (s->tls) {
        while (say_goodbye(s) == -EAGAIN && sock_wait(s->fd, POLLOUT, deadline_us) == 0)
            ;
        s->tls = ktls_conn_free(s->tls);
    }
    buf_done(&s->line);
    if (s->edge_fd) close(s->edge_fd - 1);
    if (s->fd >= 0) close(s->fd);
    *s = (struct syncio){ .fd = -1 };
}
