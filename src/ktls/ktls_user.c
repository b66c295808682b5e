/*
 * User mode: the connection where the kernel cannot. Everything is as in kernel mode but that this library and not the kernel
 * does the records.
 *
 * Place in the flow: ktls_read(), ktls_write() and ktls_mem_*() end here; records are those of ktls_layer.c, and what is not data
 * goes to ktls_control.c, from where answers come back by ktls_user_send_control(). Mode TX receives here too, and sends through
 * the kernel. Run by the connection's thread.
 *
 *     socket, or ktls_mem_input() ---> layer ---> data:  ktls_read()
 *                                        |
 *                                        +------> ktls_take_control() ---> due ---> gate
 *                                                                                     |
 *     socket, or ktls_mem_output() <-- queue <-- layer <--- ktls_write() <------------+
 *
 * Over the descriptor a record that did not fit the socket waits in the queue; conn->write_pending is how much data of the
 * caller's is in it, which is reported when it is gone, by the call that repeats it. Nothing is put behind it but a fatal alert.
 * Over memory the queue takes everything.
 *
 * Rejected: OpenSSL's record layer with its SSL object, for the life of the connection. It costs some 13 KB a connection and
 * more time for a small record than the cipher does, hides the keys from KeyUpdate, limits and ktls_export(), and sends alerts of
 * its own choice. It stays for suites that are not ours (ktls_user_needs_openssl()).
 */
#include "ktls_internal.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

/* Without a byte of data between. Records are counted, not calls: one that arrives alone, time and again, is no flood. */
#define CONTROL_RECORDS_MAX 256
#define RECEIVE_ROUNDS 16 /* of one read, while what comes is no data */

/* ---- Its beginning ---- */

const char *ktls_user_needs_openssl(const struct ktls_conn *conn) {
    if (conn->ssl_version != TLS1_2_VERSION && conn->ssl_version != TLS1_3_VERSION) return "an old version of TLS";
    if (conn->cipher == KTLS_CIPHER_OTHER) return "a suite without a record format of ours";
    if (SSL_get_current_compression(conn->ssl)) return "compression";
    const SSL_SESSION *s = SSL_get0_session(conn->ssl);
    if (s && SSL_SESSION_get_max_fragment_length(s) != TLSEXT_max_fragment_length_DISABLED) return "max_fragment_length";
    return NULL;
}

int ktls_user_start(struct ktls_conn *conn, const struct ktls_keys keys[KTLS_N_DIRS], const uint64_t seq[KTLS_N_DIRS]) {
    struct ktls_layer *l = ktls_layer_new();
    int r = l ? 0 : -ENOMEM;
    for (int dir = 0; r == 0 && dir < KTLS_N_DIRS; dir++)
        if (dir == KTLS_RX || !ktls_in_kernel(conn, KTLS_TX))
            r = ktls_aead_set(&l->aead[dir], (enum ktls_dir)dir, conn->version, conn->cipher, &keys[dir], seq[dir]);
    if (r < 0) {
        ktls_layer_free(l);
        return r;
    }
    conn->layer = l;
    return 0;
}

void ktls_keep_keys12(struct ktls_conn *conn, const struct ktls_keys keys[KTLS_N_DIRS]) {
    for (int dir = 0; dir < KTLS_N_DIRS; dir++) {
        if (ktls_in_kernel(conn, (enum ktls_dir)dir)) continue;
        memcpy(conn->secret[dir], keys[dir].key, KTLS_KEY_MAX);
        memcpy(conn->secret[dir] + KTLS_KEY_MAX, keys[dir].iv, KTLS_IV_LEN);
        conn->secret_len[dir] = KTLS_KEY_MAX + KTLS_IV_LEN;
    }
}

void ktls_keys_of_secret12(const uint8_t *secret, struct ktls_keys *ret) {
    memcpy(ret->key, secret, KTLS_KEY_MAX);
    memcpy(ret->iv, secret + KTLS_KEY_MAX, KTLS_IV_LEN);
}

/* ---- Sending ---- */

/* The queue to the socket. KTLS_DONE: it is empty, or memory mode's. */
static int push(struct ktls_conn *conn) {
    struct ktls_queue *q = &conn->layer->out;
    while (!conn->layer->mem && ktls_queue_len(q) > 0) {
        ssize_t n = send(conn->fd, q->data + q->off, ktls_queue_len(q), MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno == EAGAIN) {
            conn->wants = KTLS_WANT_WRITE;
            return KTLS_WANT_WRITE;
        }
        if (n < 0 && errno != EINTR) return -errno;
        if (n > 0) ktls_queue_drop(q, (size_t)n);
    }
    return KTLS_DONE;
}

static int push_or_fail(struct ktls_conn *conn) {
    int r = push(conn);
    return r < 0 && conn->state != KTLS_STATE_FAILED ? ktls_fail(conn, r, -1, 0, "%s", strerrordesc_np(-r)) : r;
}

int ktls_user_flush(struct ktls_conn *conn) {
    int r = push_or_fail(conn);
    if (r != KTLS_DONE || conn->due == 0) return r;
    r = ktls_gate_flush(conn);
    return r == KTLS_DONE ? push_or_fail(conn) : r;
}

int ktls_user_send_control(struct ktls_conn *conn, uint8_t type, const uint8_t *data, size_t len, bool urgent) {
    union {
        const uint8_t *in;
        void *out;
    } cast = { .in = data }; /* only read */
    struct iovec iov = { cast.out, len };
    int r = push(conn);
    if (!urgent && r != KTLS_DONE) return r < 0 ? r : -EAGAIN;
    r = ktls_layer_put(conn->layer, type, &iov, 0, len);
    if (r < 0) return r;
    ktls_meter_add(conn, KTLS_TX, 1);
    r = push(conn);
    return r < 0 ? r : 0;
}

/* A record with the next len bytes of data. KTLS_DONE, KTLS_WANT_WRITE: it waits, errors. */
static int put_data(struct ktls_conn *conn, const struct iovec *iov, size_t skip, size_t len) {
    int r = ktls_layer_put(conn->layer, KTLS_CT_DATA, iov, skip, len);
    if (r < 0) return ktls_fail(conn, r, -1, 0, "TLS write: %s", ktls_strerror(r));
    ktls_meter_add(conn, KTLS_TX, 1);
    r = push_or_fail(conn);
    if (r >= 0) ktls_limit_leave(conn, KTLS_TX, 0);
    return r;
}

ssize_t ktls_user_writev(struct ktls_conn *conn, const struct iovec *iov, int iovcnt) {
    size_t total = 0, done = conn->write_pending;
    for (int i = 0; i < iovcnt; i++) total += iov[i].iov_len;
    if (total < done) return -EINVAL; /* the caller broke the retry rule */
    int r = ktls_user_flush(conn);
    if (r == KTLS_DONE) conn->write_pending = 0;
    while (r == KTLS_DONE && done < total) {
        size_t len = total - done < KTLS_RECORD_DATA_MAX ? total - done : KTLS_RECORD_DATA_MAX;
        r = put_data(conn, iov, done, len);
        if (r == KTLS_DONE) done += len;
        if (r == KTLS_WANT_WRITE) conn->write_pending = len;
        if (r == KTLS_WANT_WRITE && done > 0) return (ssize_t)done;
    }
    if (r < 0) return r;
    return r == KTLS_DONE ? (ssize_t)done : -EAGAIN;
}

/* ---- Receiving ---- */

/* More of it would not be the reader's fault. */
#define STOP 1

static int take_data(struct ktls_conn *conn, const struct ktls_found *f, size_t *got) {
    struct ktls_layer *l = conn->layer;
    if (ktls_record_is_half(&conn->reader)) return ktls_refuse_data_between(conn);
    conn->rx_bytes += f->len;
    ktls_layer_used(l, f, !f->direct);
    if (f->direct) *got += f->len;
    return 0;
}

/* The next record: data of it to buf, or kept at the layer's head. 0; STOP: there is none, or none that could be read behind what
 * there is already; errors. */
static int take_record(struct ktls_conn *conn, uint8_t *buf, size_t len, size_t *got) {
    struct ktls_found f;
    int r = ktls_layer_next(conn->layer, buf + *got, len - *got, *got > 0, &f);
    if (r == 0 || r == -ENOSPC) return STOP;
    if (r == -EPROTO) return ktls_refuse(conn, KTLS_EPROTOCOL, f.alert, f.why);
    if (r < 0) return ktls_fail(conn, r, -1, 0, "TLS read: %s", ktls_strerror(r));
    ktls_meter_add(conn, KTLS_RX, 1);
    if (f.type == KTLS_CT_DATA) return take_data(conn, &f, got);
    r = ktls_take_control(conn, f.type, f.content, f.len);
    ktls_layer_used(conn->layer, &f, false);
    return r < 0 ? r : 0;
}

/* What is here: bytes, 0 at the end of the stream, -EAGAIN, errors. An error behind data shows in the next call. */
static ssize_t take_all(struct ktls_conn *conn, uint8_t *buf, size_t len) {
    size_t got = 0;
    uint64_t first = conn->control_records;
    int r = 0;
    while (r == 0 && got < len && !conn->rx_closed) {
        size_t before = got;
        if (conn->layer->plain_len > 0)
            got += ktls_layer_give(conn->layer, buf + got, len - got);
        else if (conn->control_records - first >= CONTROL_RECORDS_MAX)
            r = ktls_refuse(conn, KTLS_EPROTOCOL, KTLS_ALERT_UNEXPECTED_MESSAGE, "too many control records without data");
        else
            r = take_record(conn, buf, len, &got);
        if (got > before) first = conn->control_records;
    }
    if (got > 0 || len == 0) return (ssize_t)got;
    if (r < 0) return r;
    return conn->rx_closed ? 0 : -EAGAIN;
}

static ssize_t stream_end(struct ktls_conn *conn) {
    KTLS_COUNT(truncated);
    return ktls_fail(conn, KTLS_ETRUNCATED, -1, 0, "TLS read: the peer closed without close_notify");
}

/* Whatever the socket has comes in with one call, into memory that is given back when it is read. */
static ssize_t receive(struct ktls_conn *conn, void *buf, size_t len, bool *ret_dry) {
    uint8_t cipher[KTLS_WIRE_BUF];
    ssize_t n;
    do n = recv(conn->fd, cipher, sizeof cipher, MSG_DONTWAIT);
    while (n < 0 && errno == EINTR);
    *ret_dry = n < 0 && errno == EAGAIN;
    if (*ret_dry) return -EAGAIN;
    if (n < 0) return ktls_fail(conn, -errno, -1, 0, "TLS read: %s", strerrordesc_np(errno));
    if (n == 0) return stream_end(conn);
    ktls_layer_lend(conn->layer, cipher, (size_t)n);
    n = take_all(conn, buf, len);
    int r = ktls_layer_keep(conn->layer);
    if (r < 0) r = ktls_fail(conn, r, -1, 0, "TLS read: out of memory");
    return r < 0 && n == -EAGAIN ? r : n;
}

ssize_t ktls_user_read(struct ktls_conn *conn, void *buf, size_t len) {
    ssize_t n = take_all(conn, buf, len);
    bool dry = conn->layer->mem;
    if (n == -EAGAIN && conn->layer->eof) n = stream_end(conn);
    for (int round = 0; n == -EAGAIN && !dry && round < RECEIVE_ROUNDS; round++) n = receive(conn, buf, len, &dry);
    if (n > 0) ktls_limit_leave(conn, KTLS_RX, 0);
    if (conn->due) ktls_flush(conn); /* what cannot be sent now is the next write's */
    if (n == -EAGAIN) conn->wants = KTLS_WANT_READ;
    return n;
}
