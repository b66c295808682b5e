/*
 * The connection after the handshake, when something else than data comes or must go: alerts, KeyUpdate, close_notify.
 *
 * Place in the flow: recv() on the socket gave EIO, the caller calls ktls_control(); or the record layer of user mode has met
 * such a record (ktls_user.c); or the caller rekeys or closes. Run by the connection's thread. Nothing blocks: what cannot be
 * sent now is remembered in conn->due, and ktls_flush() sends it. What goes out passes the gate (ktls_gate.c), because other
 * threads may be sending data. Records and keys are the kernel's or the layer's, by direction; here it makes no difference.
 *
 * KeyUpdate received (RFC 8446 4.6.3), in this order:
 *   1. the secret and key of the peer's next generation, TLS_RX with sequence number 0. From Linux 6.14 the kernel decrypts
 * nothing after the KeyUpdate until this is done, so no record meets the wrong key. Earlier kernels refuse (EBUSY): close_notify,
 * and the connection ends with KTLS_EKEYUPDATE; in mode TX it does when the peer asks for ours, which the kernel cannot follow.
 *   2. if the peer asked: our KeyUpdate under the old key, then TLS_TX with the next. No data of ours may go in between, which is
 * why ktls_control() returns KTLS_WANT_WRITE while it is unsent.
 *
 * The peek before every recvmsg is what makes a needless call harmless: a recvmsg with a control buffer would swallow data.
 */
#include "ktls_internal.h"
#include "ktls_usdt.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <string.h>

#define CONTROL_RECORDS_MAX 32 /* per call */

/* ---- Sending ---- */

/* 0; -EAGAIN: not now; -errno. */
static int send_control(struct ktls_conn *conn, uint8_t type, const uint8_t *data, size_t len, bool urgent) {
    if (ktls_in_kernel(conn, KTLS_TX)) return ktls_kernel_send_control(conn->fd, type, data, len);
    return ktls_user_send_control(conn, type, data, len, urgent);
}

static void note_alert_out(struct ktls_conn *conn, int alert) {
    conn->alert_out = alert;
    KTLS_COUNT(alerts_out);
    KTLS_PROBE3(alert__out, conn, conn->fd, alert);
}

void ktls_send_fatal(struct ktls_conn *conn, int alert) {
    uint8_t msg[2] = { 2, (uint8_t)alert };
    /* Sends in flight do not matter, what follows the alert is void; but it must not come between a KeyUpdate and its key. */
    pthread_mutex_lock(&conn->tx_lock);
    bool was_closed = atomic_exchange(&conn->tx_closed, true);
    conn->due = 0;
    atomic_fetch_or(&conn->gate, KTLS_GATE_SHUT);
    if (!was_closed) {
        if (ktls_in_kernel(conn, KTLS_TX)) ktls_kernel_clear_error(conn->fd);
        if (send_control(conn, KTLS_CT_ALERT, msg, sizeof msg, true) == 0) note_alert_out(conn, alert);
    }
    pthread_mutex_unlock(&conn->tx_lock);
}

int ktls_refuse(struct ktls_conn *conn, int err, int alert, const char *why) {
    ktls_send_fatal(conn, alert);
    return ktls_fail(conn, err, alert, conn->alert_out == alert, "%s (sent alert %s)", why, ktls_alert_name(alert));
}

/* RFC 5246 7.2.2: no_renegotiation is always a warning, after which it is the peer's to go on or not. Here the connection ends,
 * in order: who wants new keys under TLS 1.2 needs a new connection. */
int ktls_refuse_renegotiation(struct ktls_conn *conn, const char *why) {
    static const uint8_t msg[2] = { 1, KTLS_ALERT_NO_RENEGOTIATION };
    pthread_mutex_lock(&conn->tx_lock);
    bool sent = !conn->tx_closed && send_control(conn, KTLS_CT_ALERT, msg, sizeof msg, true) == 0;
    if (sent) note_alert_out(conn, KTLS_ALERT_NO_RENEGOTIATION);
    pthread_mutex_unlock(&conn->tx_lock);
    ktls_gate_due(conn, KTLS_DUE_CLOSE, false);
    ktls_gate_flush(conn);
    return ktls_fail(conn, KTLS_EPROTOCOL, KTLS_ALERT_NO_RENEGOTIATION, sent, "%s (sent alert no_renegotiation)", why);
}

static int set_key(struct ktls_conn *conn, enum ktls_dir dir, const struct ktls_keys *keys) {
    if (ktls_in_kernel(conn, dir)) return ktls_kernel_set_key(conn->fd, dir, conn->version, conn->cipher, keys, 0);
    return ktls_aead_set(&conn->layer->aead[dir], dir, conn->version, conn->cipher, keys, 0);
}

/* The next generation's secret, and its key to where the records are done. */
static int rekey(struct ktls_conn *conn, enum ktls_dir dir) {
    struct ktls_keys keys;
    int r = ktls_next_secret(conn->cipher, conn->secret[dir]);
    if (r == 0) r = ktls_keys_tls13(conn->cipher, conn->secret[dir], &keys);
    if (r == 0) r = set_key(conn, dir, &keys);
    OPENSSL_cleanse(&keys, sizeof keys);
    ktls_burn_stack();
    return r;
}

static int send_key_update(struct ktls_conn *conn) {
    uint8_t msg[5] = { KTLS_HS_KEY_UPDATE, 0, 0, 1, conn->key_update_asks };
    int r = send_control(conn, KTLS_CT_HANDSHAKE, msg, sizeof msg, false);
    if (r == -EAGAIN) return KTLS_WANT_WRITE;
    if (r < 0) return ktls_fail(conn, r, -1, 0, "sending KeyUpdate: %s", ktls_strerror(r));
    conn->due &= ~KTLS_DUE_KEY_UPDATE;
    r = rekey(conn, KTLS_TX);
    if (r < 0) {
        /* The peer waits for the new key and we have none: not even an alert can be sent any more. */
        conn->tx_closed = true;
        conn->due = 0;
        return ktls_fail(conn, r, -1, 0, "changing the sending key: %s", ktls_strerror(r));
    }
    ktls_meter_reset(conn, KTLS_TX);
    conn->key_updates_out++;
    KTLS_COUNT(key_updates_out);
    KTLS_PROBE3(rekey__out, conn, conn->fd, conn->key_update_asks);
    return KTLS_DONE;
}

static int send_close(struct ktls_conn *conn) {
    static const uint8_t msg[2] = { 1, KTLS_ALERT_CLOSE_NOTIFY };
    int r = send_control(conn, KTLS_CT_ALERT, msg, sizeof msg, false);
    if (r == -EAGAIN) return KTLS_WANT_WRITE;
    conn->due &= ~KTLS_DUE_CLOSE;
    conn->tx_closed = true;
    if (r < 0) return r;
    note_alert_out(conn, KTLS_ALERT_CLOSE_NOTIFY);
    return KTLS_DONE;
}

int ktls_send_due(struct ktls_conn *conn) {
    int r = KTLS_DONE;
    if (conn->due & KTLS_DUE_KEY_UPDATE) r = send_key_update(conn);
    if (r == KTLS_DONE && (conn->due & KTLS_DUE_CLOSE)) r = send_close(conn);
    return r;
}

int ktls_key_update(struct ktls_conn *conn, int request_peer) {
    if (conn->mode == KTLS_MODE_NONE || conn->version != KTLS_TLS13) return -EOPNOTSUPP;
    if (conn->tx_closed) return -EPIPE;
    /* RFC 9846 4.7.3: who has asked does not ask again before the peer's KeyUpdate came. */
    bool asks = request_peer && !conn->update_asked;
    if (ktls_in_openssl(conn)) {
        if (conn->write_pending) return -EAGAIN;
        ERR_clear_error();
        if (SSL_key_update(conn->ssl, asks ? SSL_KEY_UPDATE_REQUESTED : SSL_KEY_UPDATE_NOT_REQUESTED) != 1) return -EINVAL;
        if (asks) conn->update_asked = true;
        return ktls_flush(conn); /* counted by the message callback */
    }
    if (!conn->can_rekey) return -EOPNOTSUPP;
    ktls_gate_due(conn, KTLS_DUE_KEY_UPDATE, asks);
    return ktls_flush(conn);
}

/* ---- Receiving ---- */

/* The kernel cannot take another key. */
static int end_key_update(struct ktls_conn *conn, int r) {
    KTLS_COUNT(closed_key_update);
    ktls_gate_due(conn, KTLS_DUE_CLOSE, false);
    ktls_gate_flush(conn);
    return ktls_fail(conn, KTLS_EKEYUPDATE, KTLS_ALERT_CLOSE_NOTIFY, conn->alert_out == KTLS_ALERT_CLOSE_NOTIFY,
                     "the peer sent KeyUpdate and this kernel cannot change keys (%s; Linux 6.14 or later can)",
                     ktls_strerror(r));
}

static int take_key_update(struct ktls_conn *conn, bool update_requested) {
    conn->key_updates_in++;
    KTLS_COUNT(key_updates_in);
    KTLS_PROBE3(rekey__in, conn, conn->fd, update_requested);
    if (ktls_key_update_flood(conn))
        return ktls_refuse(conn, KTLS_EPROTOCOL, KTLS_ALERT_UNEXPECTED_MESSAGE, "too many KeyUpdates");
    int r = rekey(conn, KTLS_RX);
    if (r == -ENOMEM) return ktls_fail(conn, r, -1, 0, "changing the receiving key: out of memory");
    if (r < 0 && !ktls_in_kernel(conn, KTLS_RX))
        return ktls_fail(conn, r, -1, 0, "changing the receiving key: %s", ktls_strerror(r));
    if (r < 0) return end_key_update(conn, r);
    ktls_meter_reset(conn, KTLS_RX);
    if (update_requested && !conn->can_rekey && !conn->tx_closed) return end_key_update(conn, -EBUSY);
    /* One answer serves however many requests came before it went out. */
    if (update_requested) ktls_gate_due(conn, KTLS_DUE_KEY_UPDATE, false);
    return KTLS_DONE;
}

static void note_alert_in(struct ktls_conn *conn, int alert) {
    conn->alert_in = alert;
    KTLS_COUNT(alerts_in);
    KTLS_PROBE3(alert__in, conn, conn->fd, alert);
}

static int take_event(struct ktls_conn *conn, const struct ktls_event *ev) {
    switch (ev->kind) {
    case KTLS_EV_CLOSE_NOTIFY:
        conn->rx_closed = true;
        note_alert_in(conn, KTLS_ALERT_CLOSE_NOTIFY);
        return KTLS_EOF;
    case KTLS_EV_WARNING_ALERT:
        note_alert_in(conn, ev->alert);
        return KTLS_DONE;
    case KTLS_EV_FATAL_ALERT:
        note_alert_in(conn, ev->alert);
        conn->rx_closed = true; /* RFC 8446 6.2: both sides close at once */
        ktls_gate_close(conn);
        return ktls_fail(conn, KTLS_EALERT, ev->alert, 0, "peer sent fatal alert %s", ktls_alert_name(ev->alert));
    case KTLS_EV_KEY_UPDATE:
        return take_key_update(conn, ev->update_requested);
    case KTLS_EV_TICKET:
        KTLS_COUNT(tickets_in);
        if (ktls_resume_ticket(conn, ev->body, ev->body_len) == 0) return KTLS_DONE;
        return ktls_refuse(conn, KTLS_EPROTOCOL, KTLS_ALERT_DECODE_ERROR, "a malformed NewSessionTicket");
    case KTLS_EV_VIOLATION:
        if (ev->alert == KTLS_ALERT_NO_RENEGOTIATION) return ktls_refuse_renegotiation(conn, ev->why);
        break;
    }
    return ktls_refuse(conn, KTLS_EPROTOCOL, ev->alert, ev->why);
}

int ktls_refuse_data_between(struct ktls_conn *conn) {
    return ktls_refuse(conn, KTLS_EPROTOCOL, KTLS_ALERT_UNEXPECTED_MESSAGE, "data within a handshake message");
}

int ktls_take_control(struct ktls_conn *conn, uint8_t type, const uint8_t *data, size_t len) {
    conn->control_records++;
    KTLS_COUNT(control_records);
    KTLS_PROBE4(control__record, conn, conn->fd, type, len);
    if (ktls_record_is_half(&conn->reader) && conn->rx_bytes != conn->half_at) return ktls_refuse_data_between(conn);
    struct ktls_event ev;
    int r = KTLS_DONE, more;
    ktls_record_begin(&conn->reader, type, data, len);
    while (r == KTLS_DONE && (more = ktls_record_next(&conn->reader, &ev)) != 0)
        r = more < 0 ? ktls_fail(conn, more, -1, 0, "control record: out of memory") : take_event(conn, &ev);
    conn->half_at = conn->rx_bytes;
    return r;
}

/* Takes in the one control record that is at the head of the kernel's stream. */
static int take_record(struct ktls_conn *conn) {
    uint8_t buf[KTLS_RECORD_DATA_MAX + 1], type = 0;
    ssize_t n = ktls_kernel_recv_control(conn->fd, buf, sizeof buf, &type);
    if (n == -EAGAIN) return KTLS_DONE;
    if (n < 0) return ktls_io_error(conn, (int)-n);
    ktls_meter_add(conn, KTLS_RX, 1);
    return ktls_take_control(conn, type, buf, (size_t)n);
}

int ktls_control(struct ktls_conn *conn) {
    if (conn->mode != KTLS_MODE_KERNEL) return -EINVAL;
    if (conn->state == KTLS_STATE_FAILED) return ktls_conn_error(conn)->err;
    if (conn->rx_closed) return KTLS_EOF;
    for (int i = 0; i < CONTROL_RECORDS_MAX; i++) {
        int r = ktls_kernel_peek_control(conn->fd);
        if (r < 0) return ktls_io_error(conn, -r);
        if (r == 0) break;
        r = take_record(conn);
        if (r != KTLS_DONE) return r;
    }
    return ktls_gate_flush(conn);
}

/* recv gave 0. */
static int stream_end(struct ktls_conn *conn) {
    if (conn->rx_closed) return KTLS_EOF;
    int r = conn->mode == KTLS_MODE_KERNEL ? ktls_kernel_at_end(conn->fd) : 1;
    if (r == 0) return KTLS_DONE;
    if (r < 0) return ktls_io_error(conn, -r);
    KTLS_COUNT(truncated);
    return ktls_fail(conn, KTLS_ETRUNCATED, -1, 0, "the peer closed without close_notify");
}

static int socket_error(struct ktls_conn *conn, int err) {
    return ktls_fail(conn, -err, -1, 0, "%s", strerrordesc_np(err) ? strerrordesc_np(err) : "unknown error");
}

int ktls_io_error(struct ktls_conn *conn, int err) {
    if (conn->given) return -ESTALE;                                               /* not ours to judge, nor to count */
    if (err > 0 && !ktls_in_kernel(conn, KTLS_RX)) return socket_error(conn, err); /* no record was read: it is not about one */
    switch (err) {
    case 0:
        return stream_end(conn);
    case EBADMSG:
        return ktls_refuse(conn, KTLS_EPROTOCOL, KTLS_ALERT_BAD_RECORD_MAC, "a record failed authentication");
    case EMSGSIZE:
        return ktls_refuse(conn, KTLS_EPROTOCOL, KTLS_ALERT_RECORD_OVERFLOW, "a record is too long");
    case EINVAL:
        /* TLS 1.3 has nothing to negotiate in this field: it is out of its range (RFC 8446 5.2, 6.2). */
        return ktls_refuse(conn, KTLS_EPROTOCOL,
                           conn->version == KTLS_TLS13 ? KTLS_ALERT_DECODE_ERROR : KTLS_ALERT_PROTOCOL_VERSION,
                           "a record has a wrong version");
    case EKEYEXPIRED:
        /* The kernel stopped at a KeyUpdate that this library has not seen whole: it was cut into several records. */
        return ktls_refuse(conn, KTLS_EPROTOCOL, KTLS_ALERT_UNEXPECTED_MESSAGE, "a KeyUpdate in pieces");
    default:
        return socket_error(conn, err);
    }
}

/* ---- Every mode ---- */

/* OpenSSL's records: an SSL_write that would block has begun a record; OpenSSL takes nothing else before its end. It has
 * encrypted the bytes already and looks only at the length. */
static int finish_pending_write(struct ktls_conn *conn) {
    static uint8_t filler[KTLS_RECORD_DATA_MAX];
    if (conn->write_pending == 0) return KTLS_DONE;
    ktls_ssl_begin(conn);
    int n = SSL_write(conn->ssl, filler, (int)conn->write_pending);
    if (n > 0) {
        conn->write_pending = 0;
        return KTLS_DONE;
    }
    return ktls_ssl_result(conn, n, "TLS write");
}

int ktls_flush(struct ktls_conn *conn) {
    if (ktls_in_kernel(conn, KTLS_TX)) return ktls_gate_flush(conn);
    if (conn->layer) return ktls_user_flush(conn);
    if (conn->mode != KTLS_MODE_USER || conn->write_pending || conn->state == KTLS_STATE_FAILED) return KTLS_DONE;
    ktls_ssl_begin(conn);
    int n = SSL_do_handshake(conn->ssl); /* sends a KeyUpdate that is due, else does nothing */
    if (n == 1) return KTLS_DONE;
    int r = ktls_ssl_result(conn, n, "TLS flush");
    return r == KTLS_WANT_READ ? KTLS_DONE : r;
}

static int shutdown_openssl(struct ktls_conn *conn) {
    /* A peer that has closed its side without a word may still read ours (RFC 8446 6.1). */
    bool can_send = conn->state != KTLS_STATE_FAILED || ktls_conn_error(conn)->err == KTLS_ETRUNCATED;
    if (!SSL_is_init_finished(conn->ssl) || !can_send) return KTLS_DONE;
    int r = finish_pending_write(conn);
    if (r != KTLS_DONE) return r < 0 ? r : KTLS_WANT_WRITE;
    ktls_ssl_begin(conn);
    int n = SSL_shutdown(conn->ssl);
    if (n < 0) {
        r = ktls_ssl_result(conn, n, "TLS shutdown");
        if (r == KTLS_WANT_WRITE) {
            conn->wants = r;
            return r;
        }
        if (r < 0) return r;
    }
    conn->tx_closed = true;
    return KTLS_DONE;
}

int ktls_shutdown(struct ktls_conn *conn) {
    if (conn->mode == KTLS_MODE_NONE) return KTLS_DONE;
    if (conn->tx_closed) return conn->layer && conn->state != KTLS_STATE_FAILED ? ktls_flush(conn) : KTLS_DONE;
    if (ktls_in_openssl(conn)) return shutdown_openssl(conn);
    ktls_gate_due(conn, KTLS_DUE_CLOSE, false);
    return ktls_flush(conn);
}
