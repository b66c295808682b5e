/*
 * Half offload (KTLS_MODE_TX): the kernel encrypts what is sent, OpenSSL decrypts what is received.
 *
 * Place in the flow: the handshake sets TLS_TX and not TLS_RX; from then on sending is that of kernel mode (ktls_io.c, the gate,
 * the limit), receiving that of user mode, and this file is between the two. Run by the thread that reads; what it sends passes
 * the gate, because others may be sending data.
 *
 *      send, writev, sendfile ---------------------------------------> TLS_TX --> socket
 *                       +---> gate, control record: alert, KeyUpdate ---^
 *                       | message callback
 *      data <------ SSL_read() <------------------------------------------------- socket, or ktls_mem_input()
 *                       |
 *                       +---> sink: records under a key and count that are no longer the connection's
 *
 * The SSL object stays for reading. What it wants to say it writes into a sink, but the message callback has seen it before it
 * was encrypted. An alert about a bad record goes out at once. A KeyUpdate of the peer's that asks for ours makes one due, as if
 * ktls_control() had met it: when no send is in flight it goes out under the old key, and the next key is derived from the secret
 * that this library keeps. (OpenSSL would answer with its next write, which never comes; should it answer, its sending key
 * changes, which nobody uses.)
 *
 * A kernel that cannot change keys cannot answer a KeyUpdate that asks: close_notify and KTLS_EKEYUPDATE, as in kernel mode. The
 * BIO gives OpenSSL nothing more then, so that no data behind the KeyUpdate is delivered. One that does not ask concerns
 * the receiving key only, and OpenSSL can change that anywhere.
 */
#include "ktls_internal.h"

#include <errno.h>

void ktls_half_enter(struct ktls_conn *conn) {
    conn->wire->sink = true;
    ktls_wipe_in_ssl(conn, KTLS_TX);
}

void ktls_half_alert(struct ktls_conn *conn, int level, int alert) {
    int saved = errno; /* from which ktls_ssl_result() tells what OpenSSL's call failed for */
    if (level == SSL3_AL_FATAL)
        ktls_send_fatal(conn, alert);
    else if (alert == KTLS_ALERT_NO_RENEGOTIATION) /* OpenSSL would read on, over any number of such requests */
        conn->renegotiated = conn->wire->halted = true;
    else if (alert != KTLS_ALERT_CLOSE_NOTIFY) /* that is ktls_shutdown()'s */
        ktls_send_warning(conn, alert);
    errno = saved;
}

void ktls_half_asked(struct ktls_conn *conn) {
    if (conn->tx_closed) return;
    if (conn->can_rekey)
        ktls_gate_due(conn, KTLS_DUE_KEY_UPDATE, false);
    else
        conn->no_answer = conn->wire->halted = true;
}

static int end_flood(struct ktls_conn *conn) {
    ktls_send_fatal(conn, KTLS_ALERT_UNEXPECTED_MESSAGE);
    return ktls_fail(conn, KTLS_EPROTOCOL, KTLS_ALERT_UNEXPECTED_MESSAGE, conn->alert_out == KTLS_ALERT_UNEXPECTED_MESSAGE,
                     "too many KeyUpdates (sent alert unexpected_message)");
}

static int end_unanswered(struct ktls_conn *conn) {
    KTLS_COUNT(closed_key_update);
    ktls_gate_due(conn, KTLS_DUE_CLOSE, false);
    ktls_gate_flush(conn);
    return ktls_fail(conn, KTLS_EKEYUPDATE, KTLS_ALERT_CLOSE_NOTIFY, conn->alert_out == KTLS_ALERT_CLOSE_NOTIFY,
                     "the peer sent KeyUpdate and asked for ours, and this kernel cannot change keys (Linux 6.14 or later can)");
}

ssize_t ktls_half_after_read(struct ktls_conn *conn, ssize_t n) {
    if (n == KTLS_EALERT) ktls_gate_close(conn); /* RFC 8446 6.2: both sides close at once */
    if (n < 0 && n != -EAGAIN) return n;
    if (conn->flooded) return end_flood(conn);
    if (conn->no_answer) return end_unanswered(conn);
    if (conn->renegotiated) return ktls_refuse_renegotiation(conn, "the peer asked for a renegotiation");
    int r = ktls_gate_flush(conn);
    if (n == -EAGAIN) conn->wants = KTLS_WANT_READ; /* a KeyUpdate that waits for room is the next write's */
    return r < 0 && n <= 0 ? r : n;                 /* data first: the error shows in the next call */
}
