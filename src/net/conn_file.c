/* Connection, sending a file.
 *
 * Place in the flow: conn_send_step() has nothing queued and goes on with the file. Thread: the connection's.
 *
 * Where bytes leave as they are or the kernel encrypts them, sendfile(2) gives them to the socket without a copy here. It has no
 * completion to wait for: when the socket is full, one record's worth is read and sent the ordinary way, and the end of that send
 * says that there is room again. So the loop's receiving side, which cannot be polled beside (loop_poll), stays as it is.
 *
 * Userspace TLS: a piece at a time is read into memory that the queue gives back.
 *
 * STEP_BYTES a turn, then others have theirs. */
#include <errno.h>
#include <sys/sendfile.h>
#include <unistd.h>

#include "base/alloc.h"
#include "net/conn_priv.h"

#define STEP_BYTES (256 * 1024)
#define RECORD_BYTES 16384

void conn_drop_file(struct conn *c) {
    if (c->file_fd < 0) return;
    close(c->file_fd);
    c->file_fd = -1;
    c->file_left = 0;
}

void conn_send_file(struct conn *c, int fd, uint64_t off, uint64_t len) {
    if (c->state >= CONN_CLOSING || conn_sends_file(c)) {
        close(fd);
        return;
    }
    c->file_fd = fd;
    c->file_off = off;
    c->file_left = len;
    conn_flush_later(c);
}

static void file_failed(struct conn *c, int err) {
    conn_drop_file(c);
    conn_close(c, CONN_END_ERROR, err ? "reading a file to be sent failed" : "a file to be sent is shorter than it was");
}

/* Reads on into the queue. False: the connection has failed. */
static bool queue_piece(struct conn *c, size_t max) {
    size_t want = c->file_left < max ? (size_t)c->file_left : max;
    char *piece = mem_alloc(want);
    ssize_t n = pread(c->file_fd, piece, want, (off_t)c->file_off);
    if (n <= 0) {
        mem_free(piece);
        file_failed(c, n < 0 ? errno : 0);
        return false;
    }
    obuf_append_ref(&c->out, piece, (size_t)n, mem_free, piece);
    c->file_off += (uint64_t)n;
    c->file_left -= (uint64_t)n;
    return true;
}

/* False: the connection has failed, or the socket is full and a piece is queued. */
static bool send_some(struct conn *c) {
    size_t budget = STEP_BYTES;
    while (c->file_left && budget) {
        off_t off = (off_t)c->file_off;
        size_t want = c->file_left < budget ? (size_t)c->file_left : budget;
        ssize_t n = sendfile(c->io.fd, c->file_fd, &off, want);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0 && errno == EAGAIN) {
            if (queue_piece(c, RECORD_BYTES)) c->step_again = true;
            return false;
        }
        if (n == 0) {
            file_failed(c, 0);
            return false;
        }
        if (n < 0) {
            conn_io_failed(c, errno, "write");
            return false;
        }
        c->progress = true;
        c->file_off += (uint64_t)n;
        c->file_left -= (uint64_t)n;
        c->bytes_out += (uint64_t)n;
        budget -= (size_t)n;
        if (conn_kernel_sends(c) && ktls_count_tx(c->tls, (size_t)n)) conn_check_limits(c);
        if (c->state == CONN_CLOSING || c->write_shut || c->ctl_blocked) return false;
    }
    return true;
}

bool conn_file_step(struct conn *c) {
    if (c->file_fd < 0) return true;
    if (c->file_left == 0) {
        conn_drop_file(c);
        return true;
    }
    if (c->transport == CONN_TLS_USER) {
        if (queue_piece(c, STEP_BYTES)) conn_flush_later(c);
        return false;
    }
    if (send_some(c)) conn_flush_later(c);
    return false;
}
