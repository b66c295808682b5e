/* Blocking I/O with one exact deadline for the whole operation: poll for what is left, then non-blocking I/O. A peer that drips
 * bytes does not extend it. Same code for tcp, kernel TLS and userspace TLS. For the replication handshake, MIGRATE, cli,
 * benchmark. One thread at a time. */
#ifndef KETTLE_NET_SYNCIO_H
#define KETTLE_NET_SYNCIO_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "ktls/ktls.h"

struct syncio {
    int fd;                /* non-blocking */
    struct ktls_conn *tls; /* NULL: plain */
};

/* deadline_us: clock_mono_us() time; INT64_MAX: none. Results: bytes or 0, -ETIMEDOUT, -ECONNRESET ..., KTLS_E*. */
int syncio_handshake(struct syncio *s, int64_t deadline_us);
ssize_t syncio_read_some(struct syncio *s, void *buf, size_t len, int64_t deadline_us); /* at least 1 byte; 0 end of stream */
int syncio_read_full(struct syncio *s, void *buf, size_t len,
                     int64_t deadline_us); /* 0; -ENODATA when the stream ends before len */
int syncio_write_full(struct syncio *s, const void *buf, size_t len, int64_t deadline_us);
ssize_t syncio_read_line(struct syncio *s, char *buf, size_t cap,
                         int64_t deadline_us);            /* up to LF, CRLF cut, NUL added; -EMSGSIZE */
void syncio_close(struct syncio *s, int64_t deadline_us); /* close_notify, close; fd -1, tls freed */

#endif
