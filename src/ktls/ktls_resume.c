/*
 * How a client comes to its sessions, and offers them again.
 *
 * Place in the flow: ktls_resume_offer() before the handshake, ktls_resume_handshake_ended() after it, ktls_resume_ticket() when
 * ktls_control() meets a NewSessionTicket. Run by the connection's thread; the store has its own lock.
 *
 * TLS 1.2: the session is complete when the handshake is. TLS 1.3: tickets come later, as handshake records, when the connection
 * belongs to the kernel, and OpenSSL has no call that takes such a message in plain text. So its object stays, cut off from the
 * socket, and the message is given to it the way it expects it:
 *
 *     socket --kernel decrypts--> NewSessionTicket --ktls_seal()--> record --queue--> SSL_read() --> ktls_on_new_session()
 *                                                    first RX key,                    (no data in it)
 *                                                    OpenSSL's own next sequence number
 *
 * The key is that of the hand-over and the count is of the records OpenSSL has seen: neither a KeyUpdate nor the data that the
 * kernel has decrypted meanwhile is known to it. Nothing it may want to send goes anywhere. The object is freed after
 * session_reuse tickets; a server that sends fewer keeps it alive as long as the connection.
 *
 * Rejected: parsing NewSessionTicket here and deriving the PSK. It needs the resumption master secret, which OpenSSL does not
 * tell, and an SSL_SESSION made by hand.
 */
#include "ktls_internal.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define PIECE_MAX 4096                /* of a ticket, as one record to OpenSSL; stack */
#define SESSION_LIFETIME_MAX_S 604800 /* RFC 8446 4.6.1 */

struct ktls_resume {
    struct ktls_keys rx;                          /* OpenSSL's receiving key */
    uint64_t seq;                                 /* number of the next record it expects */
    int left;                                     /* tickets still wanted */
    uint8_t secret[KTLS_N_DIRS][KTLS_SECRET_MAX]; /* what the object holds, to wipe it there */
};

/* ---- Sessions into the store ---- */

static int64_t cert_end(const SSL_SESSION *s) {
    /* OpenSSL's getter does not take a const session; it changes nothing. */
    union {
        const SSL_SESSION *in;
        SSL_SESSION *out;
    } cast = { .in = s };
    const X509 *x = SSL_SESSION_get0_peer(cast.out);
    struct tm tm;
    return x && ASN1_TIME_to_tm(X509_get0_notAfter(x), &tm) == 1 ? (int64_t)timegm(&tm) : INT64_MAX;
}

/* 0: not to be kept. */
static int64_t expiry(const struct ktls_conn *conn, const SSL_SESSION *s, bool tls13) {
    int64_t hint = (int64_t)SSL_SESSION_get_ticket_lifetime_hint(s);
    if (tls13 && hint == 0) return 0; /* RFC 8446 4.6.1: to be discarded immediately */
    if (hint == 0) hint = SSL_SESSION_get_timeout(s);
    if (hint > SESSION_LIFETIME_MAX_S) hint = SESSION_LIFETIME_MAX_S;
    int64_t end = (int64_t)SSL_SESSION_get_time(s) + hint;
    if (conn->ctx->verify != KTLS_VERIFY_NONE && cert_end(s) < end) end = cert_end(s);
    return end;
}

/* Takes the reference. */
static void keep(struct ktls_conn *conn, SSL_SESSION *s_take, bool tls13) {
    int64_t end = SSL_SESSION_is_resumable(s_take) ? expiry(conn, s_take, tls13) : 0;
    if (end > (int64_t)time(NULL))
        ktls_store_put(conn->ctx->store, conn->session_key, s_take, end);
    else
        SSL_SESSION_free(s_take);
}

void ktls_on_new_session(SSL *ssl, SSL_SESSION *session) {
    struct ktls_conn *conn = SSL_get_app_data(ssl);
    if (!conn || !conn->session_key || SSL_version(ssl) != TLS1_3_VERSION) return;
    /* A copy: SSL_free() of a connection that failed marks its own session as not resumable. */
    SSL_SESSION *copy = SSL_SESSION_dup(session);
    if (copy) keep(conn, copy, true);
}

/* ---- Around the handshake ---- */

int ktls_conn_set_peer(struct ktls_conn *conn, const char *peer) {
    if (conn->state != KTLS_STATE_NEW) return -EINVAL;
    if (!conn->ctx->store || !peer) return 0;
    char *copy = strdup(peer);
    if (!copy) return -ENOMEM;
    free(conn->session_key);
    conn->session_key = copy; /* ktls_resume_offer() makes the key of it */
    return 0;
}

int ktls_resume_offer(struct ktls_conn *conn) {
    char *key;
    if (!conn->session_key) return 0;
    /* What was verified for one name, or for none, must not serve where another one is to be verified. */
    if (asprintf(&key, "%s\n%d%s", conn->session_key, conn->no_name_check, conn->name ? conn->name : "") < 0) return -ENOMEM;
    free(conn->session_key);
    conn->session_key = key;
    SSL_SESSION *s = ktls_store_take(conn->ctx->store, key, (int64_t)time(NULL));
    if (!s) return 0;
    if (SSL_set_session(conn->ssl, s) == 1) {
        conn->session_offered = true;
        KTLS_COUNT(sessions_offered);
    }
    SSL_SESSION_free(s);
    ERR_clear_error();
    return 0;
}

void ktls_resume_handshake_ended(struct ktls_conn *conn, int r) {
    if (!conn->session_key) return;
    if (r == 0) {
        SSL_SESSION *s = conn->ssl_version == TLS1_3_VERSION ? NULL : SSL_get1_session(conn->ssl);
        if (s) keep(conn, s, false);
    } else if (conn->session_offered && r <= KTLS_EALERT) {
        ktls_store_drop(conn->ctx->store, conn->session_key, false); /* a TLS 1.2 session would be offered again and again */
    }
}

/* ---- After the hand-over ---- */

/* Alerts of the cut-off object are not said to the peer, and not counted. */
static void on_info(const SSL *ssl, int where, int ret) {
    (void)ssl, (void)where, (void)ret;
}

/* An alert, which clears errno: it may be because memory ran out, and not the ticket's fault. */
static void on_message(int write_p, int version, int content_type, const void *buf, size_t len, SSL *ssl, void *arg) {
    struct ktls_conn *conn = arg;
    (void)version, (void)content_type, (void)buf, (void)len, (void)ssl;
    if (write_p && errno == ENOMEM) conn->no_memory = true;
}

bool ktls_resume_keep(struct ktls_conn *conn) {
    if (!conn->session_key || conn->version != KTLS_TLS13) return false;
    struct ktls_resume *r = calloc(1, sizeof *r);
    if (!r) return false;
    if (ktls_keys_tls13(conn->cipher, conn->secret[KTLS_RX], &r->rx) < 0) {
        free(r);
        return false;
    }
    memcpy(r->secret, conn->secret, sizeof r->secret);
    r->seq = conn->seq[KTLS_RX];
    r->left = conn->ctx->session_reuse;
    conn->resume = r;
    conn->wire->mode = KTLS_WIRE_MEM;
    SSL_set_msg_callback(conn->ssl, on_message);
    SSL_set_info_callback(conn->ssl, on_info); /* NULL would mean the context's */
    return true;
}

const uint8_t (*ktls_resume_secrets(const struct ktls_conn *conn))[KTLS_SECRET_MAX] {
    union {
        uint8_t (*in)[KTLS_SECRET_MAX];
        const uint8_t (*out)[KTLS_SECRET_MAX];
    } cast = { .in = conn->resume->secret };
    return cast.out;
}

void ktls_resume_end(struct ktls_conn *conn) {
    struct ktls_resume *r = conn->resume;
    if (!r) return;
    ktls_free_ssl(conn);
    conn->wire = ktls_wire_free(conn->wire);
    conn->resume = NULL;
    OPENSSL_cleanse(r, sizeof *r);
    free(r);
    ktls_burn_stack();
}

/* One record into OpenSSL's queue. */
static int feed(struct ktls_conn *conn, const uint8_t *data, size_t len) {
    struct ktls_resume *r = conn->resume;
    uint8_t rec[PIECE_MAX + KTLS_SEAL_OVERHEAD];
    ssize_t n = ktls_seal(KTLS_TLS13, conn->cipher, &r->rx, r->seq, KTLS_CT_HANDSHAKE, data, len, rec);
    if (n < 0) return (int)n;
    r->seq++;
    return ktls_queue_add(&conn->wire->in, rec, (size_t)n);
}

int ktls_resume_ticket(struct ktls_conn *conn, const uint8_t *body, size_t len) {
    struct ktls_resume *r = conn->resume;
    uint8_t first[PIECE_MAX], none[1];
    if (!r) return 0;
    first[0] = KTLS_HS_NEW_SESSION_TICKET;
    first[1] = (uint8_t)(len >> 16);
    first[2] = (uint8_t)(len >> 8);
    first[3] = (uint8_t)len;
    size_t part = len < sizeof first - 4 ? len : sizeof first - 4;
    memcpy(first + 4, body, part);
    int e = feed(conn, first, 4 + part);
    for (size_t at = part; e == 0 && at < len; at += part) {
        part = len - at < PIECE_MAX ? len - at : PIECE_MAX;
        e = feed(conn, body + at, part);
    }
    ktls_ssl_begin(conn);
    int got = e == 0 ? SSL_read(conn->ssl, none, sizeof none) : 0;
    bool waits = e == 0 && got <= 0 && SSL_get_error(conn->ssl, got) == SSL_ERROR_WANT_READ;
    bool no_memory = ktls_no_memory() || conn->no_memory || e == -ENOMEM;
    if (!waits || --r->left == 0) ktls_resume_end(conn);
    ktls_burn_stack();
    return waits || no_memory ? 0 : -EBADMSG;
}
