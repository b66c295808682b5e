/*
 * ktls_read and ktls_write: one face for all modes; and user mode by OpenSSL's record layer.
 *
 * Place in the flow: optional in kernel mode, where the caller may as well use the socket itself; the only way in user mode
 * (ktls_user.c). Mode TX writes as kernel mode does and reads as user mode does. Run by the connection's thread.
 *
 * OpenSSL's records, for suites that are not ours: at most 16 KiB per SSL_write, that is one record; bytes are reported only when
 * OpenSSL has got rid of them all. So a write that gave -EAGAIN has an unfinished record behind it; conn->write_pending is its
 * length, and the retry repeats exactly that. Memory mode never gets there: its BIO takes everything.
 */
#include "ktls_internal.h"

#include <errno.h>
#include <openssl/err.h>
#include <string.h>
#include <sys/socket.h>

/* Without a byte of data between. Records are counted, not calls: one that arrives alone, time and again, is no flood. */
#define CONTROL_RECORDS_MAX 256

/* ---- Kernel mode ---- */

static ssize_t read_kernel(struct ktls_conn *conn, void *buf, size_t len) {
    uint64_t before = conn->control_records;
    for (int round = 0; round < CONTROL_RECORDS_MAX && conn->control_records - before < CONTROL_RECORDS_MAX; round++) {
        ssize_t n;
        if (conn->rx_closed) return 0;
        do n = recv(conn->fd, buf, len, MSG_DONTWAIT);
        while (n < 0 && errno == EINTR);
        if (n > 0 && ktls_record_is_half(&conn->reader)) return ktls_refuse_data_between(conn);
        if (n > 0) ktls_limit_leave(conn, KTLS_RX, (size_t)n);
        if (n > 0 || (n == 0 && len == 0)) return n;
        if (n < 0 && errno == EAGAIN) {
            conn->wants = KTLS_WANT_READ;
            return -EAGAIN;
        }
        int r = n < 0 && errno == EIO ? ktls_control(conn) : ktls_io_error(conn, n < 0 ? errno : 0);
        if (r < 0) return r;
        /* KTLS_WANT_WRITE: our KeyUpdate waits; the next write sends it first. Reading goes on. */
    }
    ktls_send_fatal(conn, KTLS_ALERT_UNEXPECTED_MESSAGE);
    return ktls_fail(conn, KTLS_EPROTOCOL, KTLS_ALERT_UNEXPECTED_MESSAGE, 1, "too many control records without data");
}

static ssize_t write_kernel(struct ktls_conn *conn, const struct iovec *iov, int iovcnt) {
    union {
        const struct iovec *in;
        struct iovec *out;
    } cast = { .in = iov }; /* sendmsg does not write to it */
    struct msghdr msg = { .msg_iov = cast.out, .msg_iovlen = (size_t)iovcnt };
    int r = ktls_flush(conn);
    if (r < 0) return r;
    ssize_t n = -1;
    if (r == KTLS_DONE) {
        do n = sendmsg(conn->fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
        while (n < 0 && errno == EINTR);
        if (n > 0) ktls_limit_leave(conn, KTLS_TX, (size_t)n);
        if (n >= 0) return n;
        if (errno != EAGAIN) return ktls_io_error(conn, errno);
    }
    conn->wants = KTLS_WANT_WRITE;
    return -EAGAIN;
}

/* ---- OpenSSL's records ---- */

/* -EAGAIN for what must be waited for, else the error. */
static ssize_t user_result(struct ktls_conn *conn, int ret, const char *what) {
    int r = ktls_ssl_result(conn, ret, what);
    if (r < 0) return r;
    conn->wants = r;
    return -EAGAIN;
}

/* OpenSSL lets nobody send an alert of his own choice: close_notify has to do. */
static int end_flood(struct ktls_conn *conn) {
    if (ktls_shutdown(conn) == KTLS_WANT_WRITE) return -EAGAIN;
    return ktls_fail(conn, KTLS_EPROTOCOL, KTLS_ALERT_CLOSE_NOTIFY, 1, "too many KeyUpdates (sent alert close_notify)");
}

/* OpenSSL has sent no_renegotiation and would go on. */
static int end_renegotiation(struct ktls_conn *conn) {
    if (ktls_shutdown(conn) == KTLS_WANT_WRITE) return -EAGAIN;
    return ktls_fail(conn, KTLS_EPROTOCOL, KTLS_ALERT_NO_RENEGOTIATION, 1,
                     "the peer asked for a renegotiation (sent alert no_renegotiation)");
}

static ssize_t read_openssl(struct ktls_conn *conn, void *buf, size_t len) {
    if (conn->rx_closed) return 0;
    ktls_ssl_begin(conn);
    int n = SSL_read(conn->ssl, buf, len > INT32_MAX ? INT32_MAX : (int)len);
    if (n > 0) {
        ktls_limit_leave(conn, KTLS_RX, (size_t)n);
        return n;
    }
    if (conn->flooded) return end_flood(conn);
    if (conn->renegotiated) return end_renegotiation(conn);
    if (SSL_get_shutdown(conn->ssl) & SSL_RECEIVED_SHUTDOWN && conn->alert_in == KTLS_ALERT_CLOSE_NOTIFY) {
        conn->rx_closed = true;
        ERR_clear_error();
        return 0;
    }
    return user_result(conn, n, "TLS read");
}

/* One record; len is next_len()'s. */
static ssize_t write_record(struct ktls_conn *conn, const void *data, size_t len) {
    ktls_ssl_begin(conn);
    int n = SSL_write(conn->ssl, data, (int)len);
    if (n > 0) {
        conn->write_pending = 0;
        ktls_limit_leave(conn, KTLS_TX, (size_t)n);
        return n;
    }
    ssize_t r = user_result(conn, n, "TLS write");
    conn->write_pending = r == -EAGAIN ? len : 0;
    return r;
}

/* Length of the next record out of what is left; 0: the caller broke the retry rule. */
static size_t next_len(const struct ktls_conn *conn, size_t left) {
    if (conn->write_pending) return left >= conn->write_pending ? conn->write_pending : 0;
    return left < KTLS_RECORD_DATA_MAX ? left : KTLS_RECORD_DATA_MAX;
}

static ssize_t writev_openssl(struct ktls_conn *conn, const struct iovec *iov, int iovcnt) {
    uint8_t record[KTLS_RECORD_DATA_MAX];
    size_t total = 0, done = 0;
    for (int i = 0; i < iovcnt; i++) total += iov[i].iov_len;
    while (done < total) {
        size_t len = next_len(conn, total - done);
        if (len == 0) return -EINVAL;
        const void *from = record;
        if (iovcnt == 1)
            from = (const uint8_t *)iov[0].iov_base + done;
        else
            ktls_gather(record, len, iov, done);
        ssize_t n = write_record(conn, from, len);
        if (n < 0) return done > 0 && n == -EAGAIN ? (ssize_t)done : n;
        done += (size_t)n;
    }
    return (ssize_t)done;
}

/* ---- All modes ---- */

static int check_open(struct ktls_conn *conn) {
    if (conn->mode == KTLS_MODE_NONE) return -ENOTCONN;
    if (conn->state == KTLS_STATE_FAILED) return ktls_conn_error(conn)->err;
    return ktls_limit_enter(conn);
}

ssize_t ktls_read(struct ktls_conn *conn, void *buf, size_t len) {
    int r = check_open(conn);
    if (r < 0) return r;
    if (conn->mode == KTLS_MODE_KERNEL) return read_kernel(conn, buf, len);
    return conn->layer ? ktls_user_read(conn, buf, len) : read_openssl(conn, buf, len);
}

ssize_t ktls_writev(struct ktls_conn *conn, const struct iovec *iov, int iovcnt) {
    int r = check_open(conn);
    if (r < 0) return r;
    if (conn->tx_closed) return -EPIPE;
    if (ktls_in_kernel(conn, KTLS_TX)) return write_kernel(conn, iov, iovcnt);
    return conn->layer ? ktls_user_writev(conn, iov, iovcnt) : writev_openssl(conn, iov, iovcnt);
}

ssize_t ktls_write(struct ktls_conn *conn, const void *buf, size_t len) {
    union {
        const void *in;
        void *out;
    } cast = { .in = buf };
    struct iovec iov = { cast.out, len };
    return len == 0 ? check_open(conn) : ktls_writev(conn, &iov, 1);
}

size_t ktls_pending(const struct ktls_conn *conn) {
    if (conn->layer) return ktls_layer_pending(conn->layer);
    return conn->mode == KTLS_MODE_USER ? (size_t)SSL_pending(conn->ssl) : 0;
}

/* ---- Memory mode ---- */

int ktls_mem_start(struct ktls_conn *conn) {
    if (conn->mode != KTLS_MODE_USER && conn->mode != KTLS_MODE_TX) return -EINVAL;
    if (conn->layer)
        conn->layer->mem = true;
    else
        conn->wire->mode = KTLS_WIRE_MEM;
    return 0;
}

static struct ktls_queue *queue_in(struct ktls_conn *conn) {
    return conn->layer ? &conn->layer->in : &conn->wire->in;
}

static struct ktls_queue *queue_out(struct ktls_conn *conn) {
    return conn->layer ? &conn->layer->out : &conn->wire->out;
}

int ktls_mem_input(struct ktls_conn *conn, const void *data, size_t len) {
    int r = ktls_mem_keep(conn);
    if (r < 0) return r;
    if (len > 0) return ktls_queue_add(queue_in(conn), data, len);
    if (conn->layer)
        conn->layer->eof = true;
    else
        conn->wire->eof = true;
    return 0;
}

int ktls_mem_lend(struct ktls_conn *conn, void *data, size_t len) {
    if (!conn->layer || len == 0) return ktls_mem_input(conn, data, len);
    int r = ktls_mem_keep(conn);
    if (r == 0) ktls_layer_lend(conn->layer, data, len);
    return r;
}

int ktls_mem_keep(struct ktls_conn *conn) {
    return conn->layer && conn->layer->lent_len > 0 ? ktls_layer_keep(conn->layer) : 0;
}

size_t ktls_mem_output(struct ktls_conn *conn, const void **ret_data) {
    const struct ktls_queue *q = queue_out(conn);
    *ret_data = ktls_queue_len(q) > 0 ? q->data + q->off : NULL;
    return ktls_queue_len(q);
}

void ktls_mem_sent(struct ktls_conn *conn, size_t len) {
    ktls_queue_drop(queue_out(conn), len);
}
