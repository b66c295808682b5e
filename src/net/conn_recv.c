/* Connection, receiving side.
 *
 * Place in the flow: the loop's on_recv ends here; plaintext goes on to the owner's on_data. Thread: the connection's.
 *
 * tcp, unix and kernel TLS are the same path: bytes are plaintext. Kernel TLS differs in what is not data:
 *
 *     recv         meaning                        here
 *     -EIO         a control record waits         ktls_control(): read on, end of stream, or an answer is due
 *     0            FIN without close_notify       truncation, said so; or no end at all: ktls_io_error() knows
 *     -EBADMSG..   a bad record                   ktls_io_error() sends the alert
 *
 * An answer that does not fit the socket (ctl_blocked): RFC 8446 4.6.3 wants our KeyUpdate before our next data, so sends are
 * held and reading stays off until ktls_flush() is through.
 *
 * tls-user lends the ciphertext to libktls and reads until it wants more, or until the owner pauses: what is left is found
 * again by conn_start_reading(). A client may send close_notify right behind its last command; the replies to what on_data
 * was given are sent before the end is acted upon, as they would be on a tcp connection.
 *
 * ktls-tx receives as tls-user. What the records want of the sending side, which is the kernel's, shows in ktls_flush() after
 * they were read: an answer that does not fit the socket is held as above. While closing they are still decrypted, and what they
 * say dropped: close_notify ends the wait, since no FIN of ours makes the peer close (conn_send.c). */
#include <errno.h>
#include <poll.h>

#include "net/conn_priv.h"

static void end_of_stream(struct conn *c, const char *text) {
    c->peer_eof = true;
    if (c->state == CONN_FLUSHING) {
        /* A half-closing peer still wants its replies. */
        if (c->write_shut) conn_close(c, CONN_END_LOCAL, "");
        return;
    }
    conn_flush_now(c);
    if (c->state == CONN_OPEN) conn_end_after_flush(c, CONN_END_EOF, text);
}

static void recv_on(struct conn *c) {
    bool wanted = c->state == CONN_OPEN ? !c->reading_paused : c->state == CONN_FLUSHING && !c->peer_eof && !c->notify_blocked;
    if (wanted && !c->ctl_blocked) loop_recv_start(&c->io);
}

void conn_control_result(struct conn *c, int r) {
    if (r == KTLS_WANT_WRITE && c->lent) r = KTLS_DONE; /* due when the other process is done with the socket */
    switch (r) {
    case KTLS_DONE:
    case KTLS_WANT_READ:
        recv_on(c);
        break;
    case KTLS_EOF:
        end_of_stream(c, "");
        break;
    case KTLS_WANT_WRITE:
        c->ctl_blocked = true;
        loop_send_hold(&c->io, true);
        loop_recv_stop(&c->io);
        loop_poll(&c->io, POLLOUT);
        break;
    default:
        conn_tls_failed(c, r);
        break;
    }
}

void conn_check_limits(struct conn *c) {
    int r = ktls_check_limits(c->tls);
    if (r == KTLS_ERECORDLIMIT)
        conn_end_at_limit(c);
    else if (r != KTLS_DONE)
        conn_control_result(c, r);
}

void conn_finish_control(struct conn *c) {
    int r = ktls_flush(c->tls);
    if (r == KTLS_DONE) {
        c->ctl_blocked = false;
        loop_send_hold(&c->io, false);
        conn_send_step(c);
    }
    if (c->state != CONN_CLOSING) conn_control_result(c, r);
}

/* ktls-tx: the peer's records still have something to say. */
static bool listens(const struct conn *c) {
    return c->transport == CONN_KTLS_TX && c->state != CONN_CLOSING && !c->lingering;
}

/* What the records that were read want answered, before any data. */
static void answer(struct conn *c) {
    int r = listens(c) && !c->ctl_blocked ? ktls_flush(c->tls) : KTLS_DONE;
    if (r != KTLS_DONE) conn_control_result(c, r);
}

/* Decrypts and delivers what there is, until it has none or the owner has enough. */
static void user_pump(struct conn *c) {
    while (c->state == CONN_OPEN && !c->reading_paused) {
        char *buf = c->into_len ? c->into : c->thread->scratch;
        ssize_t n = ktls_read(c->tls, buf, c->into_len ? c->into_len : LOOP_RECV_BUF);
        if (n > 0 || n == -EAGAIN) answer(c);
        if (c->state != CONN_OPEN) break;
        if (n > 0) {
            c->bytes_in += (uint64_t)n;
            c->ops->on_data(c, buf, (size_t)n);
            if (c->state == CONN_OPEN && ktls_count_rx(c->tls, 0)) conn_check_limits(c);
        } else if (n == -EAGAIN) {
            break;
        } else if (n == 0) {
            end_of_stream(c, "");
        } else {
            conn_tls_failed(c, (int)n);
        }
    }
    const void *out;
    if (c->state == CONN_OPEN && ktls_mem_output(c->tls, &out) > 0) conn_flush_later(c);
}

void conn_receive_into(struct conn *c, char *buf, size_t len) {
    if (!conn_user_receives(c)) {
        loop_recv_into(&c->io, buf, len);
        return;
    }
    c->into = buf;
    c->into_len = len;
}

void conn_start_reading(struct conn *c) {
    if (conn_user_receives(c) && c->state == CONN_OPEN) user_pump(c);
    recv_on(c);
}

/* A kernel-TLS socket that failed gives its bad record's error for ever, the record cannot be taken off, and to close now would
 * be to reset: the alert gets the time of the lingering. */
static bool cannot_discard(const struct conn *c, ssize_t n) {
    return c->transport == CONN_KTLS && c->lingering && n < 0 && n != -ECONNRESET && n != -EPIPE && n != -ETIMEDOUT;
}

/* ktls-tx: looks for close_notify, and for a KeyUpdate to be answered before what is still to be sent. */
static void discard_records(struct conn *c, const char *data, ssize_t n) {
    ssize_t got = ktls_mem_input(c->tls, data, (size_t)n);
    while (got >= 0 && (got = ktls_read(c->tls, c->thread->scratch, LOOP_RECV_BUF)) > 0) continue;
    if (got == 0)
        end_of_stream(c, "");
    else if (got != -EAGAIN)
        conn_close(c, CONN_END_LOCAL, "");
    else
        answer(c);
}

/* The peer's bytes no longer matter, but must be taken off the socket. */
static void discard(struct conn *c, const char *data, ssize_t n) {
    if (cannot_discard(c, n)) return;
    if (n > 0 && listens(c)) {
        discard_records(c, data, n);
        if (c->state != CONN_FLUSHING || c->peer_eof) return;
    }
    if (n == -EIO && c->transport == CONN_KTLS) {
        conn_control_result(c, ktls_control(c->tls));
    } else if (n < 0) {
        conn_close(c, CONN_END_LOCAL, "");
    } else if (n == 0) {
        end_of_stream(c, "");
    } else {
        c->discarded += (size_t)n;
        if (c->discarded < CONN_DISCARD_MAX) return;
        if (c->write_shut)
            conn_close(c, CONN_END_LOCAL, "");
        else
            loop_recv_stop(&c->io);
    }
}

static void plain_end(struct conn *c) {
    if (c->transport != CONN_KTLS) {
        end_of_stream(c, "");
        return;
    }
    int r = ktls_io_error(c->tls, 0);
    if (r == KTLS_DONE)
        recv_on(c); /* records of length zero before a control record, which comes next */
    else if (r == KTLS_EOF || r == KTLS_ETRUNCATED)
        end_of_stream(c, r == KTLS_EOF ? "" : CONN_TRUNCATED_TEXT);
    else
        conn_tls_failed(c, r);
}

/* Decrypted where it lies: what the pump leaves, a record in part or what the owner does not want yet, is copied. */
static void user_input(struct conn *c, char *data, size_t len) {
    int err = ktls_mem_lend(c->tls, len ? data : NULL, len);
    if (err == 0) user_pump(c);
    if (err == 0) err = ktls_mem_keep(c->tls);
    if (err < 0) {
        conn_close(c, CONN_END_TLS, ktls_strerror(err));
        return;
    }
    if (len == 0 && c->state == CONN_OPEN && !c->reading_paused) conn_close(c, CONN_END_EOF, CONN_TRUNCATED_TEXT);
}

void conn_on_recv(struct loop_io *io, char *data, ssize_t n) {
    struct conn *c = conn_of(io);
    if (c->state != CONN_OPEN) {
        if (c->state == CONN_FLUSHING) discard(c, data, n);
    } else if (n == -EIO && c->transport == CONN_KTLS) {
        conn_control_result(c, ktls_control(c->tls));
    } else if (n < 0) {
        conn_io_failed(c, (int)-n, "read");
    } else if (conn_user_receives(c)) {
        user_input(c, data, (size_t)n);
    } else if (n == 0) {
        plain_end(c);
    } else {
        c->bytes_in += (uint64_t)n;
        bool check = c->transport == CONN_KTLS && ktls_count_rx(c->tls, (size_t)n);
        c->ops->on_data(c, data, (size_t)n);
        if (check && c->state != CONN_CLOSING) conn_check_limits(c);
    }
}
