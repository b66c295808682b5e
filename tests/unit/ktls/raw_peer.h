/*
 * A peer that makes its records itself: OpenSSL shakes hands for it, then it takes the keys, writes whatever records a test
 * wants, well-formed or not, and takes apart what the library sends.
 *
 *     raw_open()                              handshake, keys
 *     raw_record(), raw_text(), raw_bytes()   into the queue
 *     raw_flush()                             the queue to the socket
 *     raw_take()                              what has come: data, alerts, KeyUpdates, the end
 */
#ifndef RAW_PEER_H
#define RAW_PEER_H

#include "ktls_test.h"

#define RAW_ALERTS_MAX 8
#define RAW_WARNING(alert) (0x100 | (alert))
#define RAW_FATAL(alert) (0x200 | (alert))

/* By the peer's own direction: KTLS_TX is what it sends. */
struct raw {
    struct session *s;
    enum ktls_version version;
    enum ktls_cipher cipher;
    uint8_t secret[KTLS_N_DIRS][KTLS_SECRET_MAX]; /* TLS 1.3 */
    struct ktls_keys keys[KTLS_N_DIRS];
    uint64_t seq[KTLS_N_DIRS];
    uint8_t out[262144], in[65536], data[4096];
    size_t out_len, in_len, data_len;
    uint16_t alert[RAW_ALERTS_MAX]; /* RAW_WARNING(), RAW_FATAL() */
    int n_alerts, key_updates;
    bool fin, reset;
    const char *wrong; /* a record that must not have come, or that does not open */
};

static void raw_on_keylog(const SSL *ssl, const char *line) {
    static const char *const label[2] = { "SERVER_TRAFFIC_SECRET_0 ", "CLIENT_TRAFFIC_SECRET_0 " };
    struct raw *r = SSL_get_app_data(ssl);
    for (int i = 0; i < 2; i++) {
        if (strncmp(line, label[i], strlen(label[i])) != 0) continue;
        uint8_t *to = r->secret[(i == 0) == (SSL_is_server(ssl) == 1) ? KTLS_TX : KTLS_RX];
        const char *hex = strrchr(line, ' ') + 1;
        for (size_t n = 0; hex[2 * n] && n < KTLS_SECRET_MAX; n++) {
            unsigned v = 0;
            sscanf(hex + 2 * n, "%2x", &v);
            to[n] = (uint8_t)v;
        }
    }
}

static void raw_take_keys(struct raw *r) {
    SSL *ssl = r->s->peer.ssl;
    if (r->version == KTLS_TLS13) {
        for (int dir = 0; dir < KTLS_N_DIRS; dir++)
            assert_int_equal(ktls_keys_tls13(r->cipher, r->secret[dir], &r->keys[dir]), 0);
        return;
    }
    uint8_t master[48], client_random[32], server_random[32];
    int own = SSL_is_server(ssl) ? KTLS_RX : KTLS_TX; /* whose keys come first: the client's */
    assert_int_equal(SSL_SESSION_get_master_key(SSL_get0_session(ssl), master, sizeof master), 48);
    SSL_get_client_random(ssl, client_random, 32);
    SSL_get_server_random(ssl, server_random, 32);
    assert_int_equal(ktls_keys_tls12(r->cipher, master, client_random, server_random, &r->keys[own], &r->keys[!own]), 0);
    r->seq[KTLS_TX] = r->seq[KTLS_RX] = 1; /* Finished was 0 */
}

/* The whole handshake; no session tickets, so that the sequence numbers are known. opts: the library's. */
MAYBE_UNUSED static void raw_open(struct raw *r, struct session *s, const struct ktls_ctx_opts *opts, int version,
                                  enum ktls_cipher cipher) {
    struct ktls_ctx_opts o = *opts;
    bool peer_is_server = o.role == KTLS_CLIENT;
    SSL_CTX *pc = peer_ctx(peer_is_server, version, suite_name(version, cipher));
    memset(r, 0, sizeof *r);
    r->s = s;
    r->version = version == TLS1_3_VERSION ? KTLS_TLS13 : KTLS_TLS12;
    r->cipher = cipher;
    o.num_tickets = 0;
    use_suite(&o, version, (int)cipher);
    SSL_CTX_set_num_tickets(pc, 0);
    SSL_CTX_set_keylog_callback(pc, raw_on_keylog);
    session_start(s, &o, pc, 0, NULL);
    SSL_set_app_data(s->peer.ssl, r);
    int e = drive(s->conn, &s->peer);
    if (e != KTLS_DONE) print_message("handshake: %s\n", ktls_conn_error(s->conn)->text);
    assert_int_equal(e, KTLS_DONE);
    SSL_CTX_free(pc);
    raw_take_keys(r);
}

/* ---- Sending ---- */

MAYBE_UNUSED static void raw_bytes(struct raw *r, const void *data, size_t len) {
    assert_true(r->out_len + len <= sizeof r->out);
    memcpy(r->out + r->out_len, data, len);
    r->out_len += len;
}

/* A record of that outer type and version around the text as it is: TLS 1.3 content, type, padding. */
static void raw_text(struct raw *r, uint8_t outer_type, unsigned version, const void *text, size_t len) {
    size_t body = len + 16 + (r->version == KTLS_TLS12 && r->cipher != KTLS_CHACHA20_POLY1305 ? 8 : 0);
    const uint8_t header[KTLS_RECORD_HEADER] = { outer_type, (uint8_t)(version >> 8), (uint8_t)version, (uint8_t)(body >> 8),
                                                 (uint8_t)body };
    assert_true(r->out_len + len + 64 <= sizeof r->out);
    ssize_t n =
        ktls_seal_text(r->version, r->cipher, &r->keys[KTLS_TX], r->seq[KTLS_TX]++, header, text, len, r->out + r->out_len);
    assert_true(n > 0);
    r->out_len += (size_t)n;
}

/* A record as it should be; TLS 1.3: with that much padding. */
static void raw_padded(struct raw *r, uint8_t type, const void *data, size_t len, size_t padding) {
    static uint8_t text[65536];
    assert_true(len + 1 + padding <= sizeof text);
    memcpy(text, data, len);
    text[len] = type;
    memset(text + len + 1, 0, padding);
    if (r->version == KTLS_TLS13)
        raw_text(r, KTLS_CT_DATA, 0x303, text, len + 1 + padding);
    else
        raw_text(r, type, 0x303, text, len);
}

MAYBE_UNUSED static void raw_record(struct raw *r, uint8_t type, const void *data, size_t len) {
    raw_padded(r, type, data, len, 0);
}

MAYBE_UNUSED static void raw_flush(struct raw *r) {
    send_all(r->s->fd[0], r->out, r->out_len);
    r->out_len = 0;
}

/* After a KeyUpdate in that direction. */
static void raw_next_key(struct raw *r, enum ktls_dir dir) {
    assert_int_equal(ktls_next_secret(r->cipher, r->secret[dir]), 0);
    assert_int_equal(ktls_keys_tls13(r->cipher, r->secret[dir], &r->keys[dir]), 0);
    r->seq[dir] = 0;
}

/* ---- Receiving ---- */

static void raw_content(struct raw *r, uint8_t type, const uint8_t *p, size_t len) {
    if (type == KTLS_CT_ALERT && len == 2 && r->n_alerts < RAW_ALERTS_MAX) {
        r->alert[r->n_alerts++] = (uint16_t)(p[0] << 8 | p[1]);
    } else if (type == KTLS_CT_HANDSHAKE && len == 5 && p[0] == KTLS_HS_KEY_UPDATE) {
        r->key_updates++;
        raw_next_key(r, KTLS_RX);
    } else if (type == KTLS_CT_DATA && r->data_len + len <= sizeof r->data) {
        memcpy(r->data + r->data_len, p, len);
        r->data_len += len;
    } else {
        r->wrong = "a record that nobody asked for";
    }
}

/* Takes in what has come, without waiting. */
MAYBE_UNUSED static void raw_take(struct raw *r) {
    static uint8_t text[65536];
    ssize_t n;
    while ((n = recv(r->s->fd[0], r->in + r->in_len, sizeof r->in - r->in_len, MSG_DONTWAIT)) > 0) {
        size_t at = 0;
        r->in_len += (size_t)n;
        while (!r->wrong && r->in_len - at >= KTLS_RECORD_HEADER) {
            size_t len = KTLS_RECORD_HEADER + ((size_t)r->in[at + 3] << 8 | r->in[at + 4]);
            uint8_t type = 0;
            if (r->in_len - at < len) break;
            ssize_t got = ktls_open(r->version, r->cipher, &r->keys[KTLS_RX], r->seq[KTLS_RX]++, r->in + at, len, text, &type);
            if (got < 0)
                r->wrong = "a record that does not open";
            else
                raw_content(r, type, text, (size_t)got);
            at += len;
        }
        memmove(r->in, r->in + at, r->in_len - at);
        r->in_len -= at;
    }
    if (n == 0) r->fin = true;
    if (n < 0 && errno != EAGAIN) r->reset = true;
}

#endif
