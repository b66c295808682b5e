/* Blocking I/O with one exact deadline for the whole operation: poll for what is left, then non-blocking I/O. A peer that drips
 * bytes does not extend it. Same code for tcp, kernel TLS, half offload and userspace TLS. For the replication handshake,
 * MIGRATE, cli, benchmark. One thread at a time.
 *
 * Cost: one attempt when an operation begins; after that each wake-up is one poll and one read (or one write). TLS control
 * records cost what they cost. */
#ifndef KETTLE_NET_SYNCIO_H
#define KETTLE_NET_SYNCIO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/buf.h"
#include "ktls/ktls.h"

struct syncio {
    int fd;                /* non-blocking */
    struct ktls_conn *tls; /* NULL: plain; owned from the first call on */
    /* private: zero-initialise */
    bool mem;        /* userspace decrypts, over memory: set by syncio_handshake, and then only syncio_* may move bytes */
    bool peer_end;   /* mem: the stream's end was passed on */
    size_t due;      /* mem: bytes of syncio_try_write that are encrypted and not all sent */
    int edge_fd;     /* kernel TLS: an epoll descriptor plus one, see syncio.c; 0: none */
    struct buf line; /* read by syncio_read_line beyond its line: the next read has it */
};

/* deadline_us: clock_mono_us() time; INT64_MAX: none. Results: bytes or 0, -ETIMEDOUT, -ECONNRESET ..., KTLS_E*. After an error
 * of a write only syncio_close makes sense. */
int syncio_handshake(struct syncio *s, int64_t deadline_us);
ssize_t syncio_read_some(struct syncio *s, void *buf, size_t len, int64_t deadline_us); /* at least 1 byte; 0 end of stream */
/* 0; -ENODATA when the stream ends before len */
int syncio_read_full(struct syncio *s, void *buf, size_t len, int64_t deadline_us);
int syncio_write_full(struct syncio *s, const void *buf, size_t len, int64_t deadline_us);
/* Up to LF, CRLF cut, NUL added: its length. -EMSGSIZE: no LF within cap bytes, nothing is consumed; -ENODATA: the stream ends in
 * it. What was read behind the line is kept for the next read: who goes on with the descriptor itself asks syncio_left. */
ssize_t syncio_read_line(struct syncio *s, char *buf, size_t cap, int64_t deadline_us);
struct slice syncio_left(const struct syncio *s);
/* One attempt, no waiting: bytes, 0 end of stream, -EAGAIN, errors. Read until -EAGAIN before polling the descriptor. A write
 * that gave -EAGAIN must be repeated with the same bytes, at least as many. */
ssize_t syncio_try_read(struct syncio *s, void *buf, size_t len);
ssize_t syncio_try_write(struct syncio *s, const void *buf, size_t len);
void syncio_close(struct syncio *s, int64_t deadline_us); /* close_notify, close; fd -1, tls freed */

#endif
