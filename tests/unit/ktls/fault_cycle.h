/*
 * One connection from context to close, between the library and an OpenSSL peer in the same thread, with one fault in it
 * (fault_inject.h), and what must be true of it however it ends:
 *
 *   - it ends: every loop is bounded, a watchdog stands behind;
 *   - its result is success or an error that says what it is, and stays that error;
 *   - every byte that arrives is the right one; who was not to be trusted never gets through;
 *   - a call that was interrupted or came up short is not noticed at all.
 *
 * What is left behind (memory, descriptors, secrets) test_faults.c looks at.
 */
#ifndef FAULT_CYCLE_H
#define FAULT_CYCLE_H

#include "ktls_test.h"

#include "fault_inject.h"

enum { /* struct cycle.ops */
       OP_KEY_UPDATE = 1,
       OP_PEER_KEY_UPDATE = 2,
       OP_HANDOFF = 4,
       OP_LIMIT = 8, /* a key is good for few records */
       OP_MEM = 16,  /* where OpenSSL reads: ktls_mem_* */
       OP_WRITEV = 32
};
enum trust { TRUST_PLAIN, TRUST_CERT, TRUST_BAD, N_TRUST }; /* certificate of the client, or address for name; out of date */
enum { PEER_FIN, PEER_RST, PEER_HALF, N_PEER_ENDS };        /* fault.err of FAULT_PEER */

#define IDLE_MAX 300 /* rounds of 1 ms without an end */
#define DATA_MAX 49152

struct cycle {
    enum ktls_role role;
    int version, cipher;
    enum ktls_policy policy;
    enum trust trust;
    bool resume, fresh_ctx;
    unsigned ops;
    size_t up, down; /* bytes, twice */
    struct fault fault;

    struct ktls_ctx *ctx;
    struct ktls_conn *conn;
    struct peer p;
    int fd[2]; /* 0: the peer's */
    bool peer_ready, peer_gone, peer_failed, done;
    enum ktls_mode mode; /* it came to */
    int result;
    const char *step; /* where result came */
    char text[256];   /* of the library's error */
    char wrong[700];
};

#define WRONG(c, ...) ((void)((c)->wrong[0] || snprintf((c)->wrong, sizeof(c)->wrong, __VA_ARGS__)))

static struct ktls_probe kernel; /* what it can */

/* ---- The peer ---- */

static SSL_SESSION *peer_session[2]; /* by version; of a client */

static int on_peer_session(SSL *ssl, SSL_SESSION *s) {
    SSL_SESSION **place = &peer_session[SSL_version(ssl) == TLS1_3_VERSION];
    SSL_SESSION_free(*place);
    *place = s;
    return 1;
}

static void on_peer_keylog(const SSL *ssl, const char *line) {
    const char *hex = strrchr(line, ' ') + 1;
    uint8_t secret[KTLS_SECRET_MAX] = { 0 };
    struct ktls_keys k;
    if (!strstr(line, "_TRAFFIC_SECRET_0 ")) return;
    for (size_t n = 0; n < KTLS_SECRET_MAX && hex[2 * n]; n++) {
        const char digits[3] = { hex[2 * n], hex[2 * n + 1], 0 };
        secret[n] = (uint8_t)strtoul(digits, NULL, 16);
    }
    enum ktls_cipher cipher = ktls_classify_cipher(SSL_get_current_cipher(ssl));
    for (int generation = 0; generation < 4; generation++) {
        add_needle(secret, *line == 'C' ? "a client traffic secret" : "a server traffic secret");
        if (ktls_keys_tls13(cipher, secret, &k) == 0) add_needle(k.key, *line == 'C' ? "a client key" : "a server key");
        ktls_next_secret(cipher, secret);
    }
}

static void note_tls12_keys(SSL *ssl) {
    uint8_t master[48], cr[32], sr[32];
    struct ktls_keys c, s;
    SSL_SESSION_get_master_key(SSL_get_session(ssl), master, 48);
    SSL_get_client_random(ssl, cr, 32);
    SSL_get_server_random(ssl, sr, 32);
    if (ktls_keys_tls12(ktls_classify_cipher(SSL_get_current_cipher(ssl)), master, cr, sr, &c, &s) != 0) return;
    add_needle(c.key, "the client's key");
    add_needle(s.key, "the server's key");
}

static SSL_CTX *peer_contexts[2][2][N_TRUST]; /* by the library's role, version, trust */

static SSL_CTX *peer_context(const struct cycle *c) {
    bool is_server = c->role == KTLS_CLIENT;
    SSL_CTX **place = &peer_contexts[c->role][c->version == TLS1_3_VERSION][c->trust];
    if (*place) return *place;
    SSL_CTX *x = *place = peer_ctx(is_server, c->version, NULL);
    SSL_CTX_set_keylog_callback(x, on_peer_keylog);
    SSL_CTX_set_cipher_list(x, "ALL:@SECLEVEL=2");
    SSL_CTX_set_ciphersuites(x,
                             "TLS_AES_256_GCM_SHA384:TLS_AES_128_GCM_SHA256:TLS_CHACHA20_POLY1305_SHA256:TLS_AES_128_CCM_SHA256");
    const char *cert = is_server ? NULL : pki.client_cert, *key = is_server ? NULL : pki.client_key;
    if (c->trust == TRUST_BAD) cert = pki.expired_cert, key = pki.expired_key;
    if (cert && (is_server || c->trust != TRUST_PLAIN)) {
        assert_int_equal(SSL_CTX_use_certificate_chain_file(x, cert), 1);
        assert_int_equal(SSL_CTX_use_PrivateKey_file(x, key, SSL_FILETYPE_PEM), 1);
    }
    if (is_server) {
        SSL_CTX_set_session_id_context(x, (const uint8_t *)"peer", 4);
    } else if (c->trust == TRUST_PLAIN) {
        SSL_CTX_set_session_cache_mode(x, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
        SSL_CTX_sess_set_new_cb(x, on_peer_session);
    }
    return x;
}

static void free_peer_contexts(void) {
    for (int i = 0; i < 2 * 2 * N_TRUST; i++) SSL_CTX_free((&peer_contexts[0][0][0])[i]);
    for (int i = 0; i < 2; i++) SSL_SESSION_free(peer_session[i]);
}

/* Sends up to max bytes of what OpenSSL wants sent. */
static void peer_push_some(struct cycle *c, size_t max) {
    uint8_t buf[16384];
    while (max > 0) {
        char *data;
        long n = BIO_get_mem_data(c->p.out, &data);
        size_t len = n < 0 ? 0 : (size_t)n < max ? (size_t)n : max;
        if (len > sizeof buf) len = sizeof buf;
        ssize_t sent = len > 0 ? send(c->fd[0], data, len, MSG_NOSIGNAL | MSG_DONTWAIT) : 0;
        if (sent <= 0) return;
        BIO_read(c->p.out, buf, (int)sent);
        max -= (size_t)sent;
    }
}

static void peer_leave(struct cycle *c, int how) {
    struct linger reset = { 1, 0 };
    c->peer_gone = true;
    if (how == PEER_HALF) peer_push_some(c, BIO_ctrl_pending(c->p.out) / 2);
    if (how == PEER_RST) {
        setsockopt(c->fd[0], SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
        close(c->fd[0]);
        c->fd[0] = -1;
    } else {
        shutdown(c->fd[0], SHUT_WR);
    }
}

/* Each place where the peer does something is a step at which it may leave instead. */
static bool peer_here(struct cycle *c) {
    if (!c->peer_gone && fault_now(FAULT_PEER)) peer_leave(c, fault.err);
    return !c->peer_gone;
}

static void peer_pull(struct cycle *c) {
    char buf[16384];
    ssize_t n;
    while ((n = recv(c->fd[0], buf, sizeof buf, MSG_DONTWAIT)) > 0) BIO_write(c->p.in, buf, (int)n);
}

static void peer_push(struct cycle *c) {
    if (BIO_ctrl_pending(c->p.out) > 0 && peer_here(c)) peer_push_some(c, SIZE_MAX);
}

/* ---- The library's side ---- */

/* Notes the first error and looks whether it says what it is. */
static int took(struct cycle *c, const char *step, int r) {
    if (r >= 0 || c->result < 0) return r;
    c->result = r;
    c->step = step;
    if (strcmp(ktls_strerror(r), "unknown") == 0) WRONG(c, "%s: result %d has no name", step, r);
    if (!c->conn || c->conn->state != KTLS_STATE_FAILED) return r;
    const struct ktls_error *e = ktls_conn_error(c->conn);
    snprintf(c->text, sizeof c->text, "%s", e->text);
    if (e->err != r) WRONG(c, "%s gave %s, the error says %s: %s", step, ktls_strerror(r), ktls_strerror(e->err), e->text);
    if (!e->text[0] || strcmp(e->text, "no error") == 0) WRONG(c, "%s: an error without a text", step);
    return r;
}

static void wait_lib(const struct cycle *c, int idle, int want) {
    if (idle > 2) wait_fd(c->fd[1], want == KTLS_WANT_WRITE ? POLLOUT : POLLIN, 1);
}

static int do_connect(struct cycle *c) {
    bool is_server = c->role == KTLS_CLIENT;
    const char *name = !is_server ? NULL : c->trust == TRUST_CERT ? "127.0.0.1" : "server.test";
    tcp_pair(c->fd);
    peer_init(&c->p, peer_context(c), is_server, c->fd[0]);
    SSL_SESSION *offer = is_server || !c->resume ? NULL : peer_session[c->version == TLS1_3_VERSION];
    if (offer) { /* a copy: OpenSSL marks a TLS 1.3 session that was resumed as used up */
        SSL_SESSION *copy = SSL_SESSION_dup(offer);
        SSL_set_session(c->p.ssl, copy);
        SSL_SESSION_free(copy);
    }
    int r = took(c, "ktls_conn_new", LIB(ktls_conn_new(c->ctx, c->fd[1], name, &c->conn)));
    if (r < 0 && c->conn) WRONG(c, "ktls_conn_new failed and gave a connection");
    if (r == 0 && is_server && c->resume) r = took(c, "ktls_conn_set_peer", LIB(ktls_conn_set_peer(c->conn, "a:1")));
    return r;
}

static void peer_shake(struct cycle *c) {
    if (!peer_here(c) || c->peer_ready || c->peer_failed) return;
    peer_pull(c);
    ERR_clear_error();
    int n = SSL_do_handshake(c->p.ssl);
    c->peer_ready = n == 1;
    c->peer_failed = n != 1 && SSL_get_error(c->p.ssl, n) != SSL_ERROR_WANT_READ;
    if (c->peer_ready && c->version == TLS1_2_VERSION) note_tls12_keys(c->p.ssl);
    peer_push(c);
}

static int do_handshake(struct cycle *c) {
    int r = KTLS_WANT_READ;
    for (int idle = 0; idle < IDLE_MAX; idle++) {
        peer_shake(c);
        if (r > 0) r = took(c, "ktls_handshake", LIB(ktls_handshake(c->conn)));
        if (r < 0) return r;
        if (r == KTLS_DONE && (c->peer_ready || c->peer_gone)) {
            if (c->trust == TRUST_BAD) WRONG(c, "a peer that is not to be trusted got through");
            return 0;
        }
        if (r == KTLS_DONE && c->peer_failed) {
            WRONG(c, "the peer does not take what the library takes for a handshake");
            return 0;
        }
        wait_lib(c, idle, r);
    }
    WRONG(c, "ktls_handshake has no end");
    return -ETIME;
}

/* ---- Data ---- */

static bool over_memory(const struct cycle *c) {
    enum ktls_mode mode = ktls_conn_mode(c->conn);
    return c->ops & OP_MEM && (mode == KTLS_MODE_USER || mode == KTLS_MODE_TX);
}

/* Memory mode: the test is the one that moves the ciphertext. */
static int move_cipher(struct cycle *c) {
    char buf[8192];
    const void *data;
    if (!over_memory(c)) return 0;
    size_t len = LIB(ktls_mem_output(c->conn, &data));
    if (len > 0 && ktls_conn_mode(c->conn) == KTLS_MODE_TX) WRONG(c, "half offload: userspace has something to send");
    ssize_t n = len > 0 ? send(c->fd[1], data, len, MSG_NOSIGNAL | MSG_DONTWAIT) : 0;
    if (n > 0) LIB((ktls_mem_sent(c->conn, (size_t)n), 0));
    n = recv(c->fd[1], buf, sizeof buf, MSG_DONTWAIT);
    if (n < 0) return errno == EAGAIN ? 0 : -errno;
    int r = -ENOMEM;
    for (int tries = 0; tries < 3 && r == -ENOMEM; tries++) r = LIB(ktls_mem_input(c->conn, n ? buf : NULL, (size_t)n));
    return r;
}

struct stream {
    uint8_t sent[DATA_MAX];
    size_t len, at; /* of sent: gone */
    size_t chunk;   /* of a write that would block */
    size_t got;     /* at the other end */
};
static struct stream up, down;

static void check_got(struct cycle *c, struct stream *s, const uint8_t *data, size_t len, const char *who) {
    if (len > s->len - s->got || memcmp(data, s->sent + s->got, len) != 0) WRONG(c, "%s got other bytes than were sent", who);
    s->got += len < s->len - s->got ? len : s->len - s->got;
}

static int lib_write_some(struct cycle *c) {
    size_t left = up.len - up.at;
    if (left == 0) return 0;
    if (up.chunk == 0) up.chunk = 1 + (up.at * 7919 + up.len) % 17000;
    if (up.chunk > left) up.chunk = left;
    struct iovec two[2] = { { up.sent + up.at, up.chunk / 2 }, { up.sent + up.at + up.chunk / 2, up.chunk - up.chunk / 2 } };
    ssize_t n = c->ops & OP_WRITEV ? LIB(ktls_writev(c->conn, two, 2)) : LIB(ktls_write(c->conn, up.sent + up.at, up.chunk));
    if (n == -EAGAIN) return 0;
    if (n < 0) return took(c, "ktls_write", (int)n);
    if ((size_t)n > up.chunk) WRONG(c, "ktls_write took more than there was");
    up.at += (size_t)n;
    up.chunk = 0;
    return 0;
}

static int lib_read_some(struct cycle *c) {
    uint8_t buf[9000];
    ssize_t n = LIB(ktls_read(c->conn, buf, sizeof buf));
    if (n == -EAGAIN) return 0;
    if (n < 0) return took(c, "ktls_read", (int)n);
    if (n == 0) { /* only a close_notify says that */
        WRONG(c, "the library saw an end that the peer did not send");
        return -ENODATA;
    }
    check_got(c, &down, buf, (size_t)n, "the library");
    return 0;
}

static void peer_read_some(struct cycle *c) {
    uint8_t buf[16384];
    int n;
    peer_pull(c);
    ERR_clear_error();
    while ((n = SSL_read(c->p.ssl, buf, sizeof buf)) > 0) check_got(c, &up, buf, (size_t)n, "the peer");
    int e = SSL_get_error(c->p.ssl, n);
    c->peer_failed = e != SSL_ERROR_WANT_READ;
}

static int do_transfer(struct cycle *c) {
    up = (struct stream){ .len = c->up };
    down = (struct stream){ .len = c->down };
    pattern(up.sent, up.len, (unsigned)c->up);
    pattern(down.sent, down.len, (unsigned)c->down + 1);
    if (peer_here(c) && SSL_write(c->p.ssl, down.sent, (int)down.len) != (int)down.len) c->peer_failed = true;
    for (int idle = 0; idle < IDLE_MAX; idle++) {
        size_t before = up.at + up.got + down.got;
        peer_push(c);
        if (!c->peer_failed && peer_here(c)) peer_read_some(c);
        int r = took(c, "ktls_mem_input", move_cipher(c));
        if (r == 0 && c->wrong[0] == 0) r = lib_write_some(c);
        if (r == 0) r = lib_read_some(c);
        if (r == 0) r = took(c, "ktls_mem_input", move_cipher(c));
        if (r < 0 || c->wrong[0]) return r;
        if (up.got == up.len && down.got == down.len) return 0;
        if (up.at + up.got + down.got != before) idle = 0;
        wait_lib(c, idle, ktls_conn_wants(c->conn));
    }
    WRONG(c, "data stands still: %zu of %zu sent, %zu arrived; %zu of %zu received%s", up.at, up.len, up.got, down.got, down.len,
          c->peer_failed ? "; the peer has failed" : "");
    return -ETIME;
}

/* ---- What happens in mid-stream ---- */

static int do_flush(struct cycle *c, int r) {
    for (int idle = 0; r == KTLS_WANT_WRITE && idle < IDLE_MAX; idle++) {
        wait_lib(c, idle, KTLS_WANT_WRITE);
        r = LIB(ktls_flush(c->conn));
    }
    if (r == KTLS_WANT_WRITE) WRONG(c, "ktls_flush has no end");
    return took(c, "ktls_flush", r);
}

static int do_key_update(struct cycle *c) {
    int r = LIB(ktls_key_update(c->conn, c->up % 2));
    if (r == -EOPNOTSUPP && (c->version == TLS1_2_VERSION || kernel.rekey)) return 0;
    if (r == -EAGAIN) return 0; /* user mode, behind an unfinished write */
    r = do_flush(c, took(c, "ktls_key_update", r));
    return r < 0 ? r : took(c, "ktls_mem_input", move_cipher(c));
}

/* What failed has changed nothing, and may be tried again. */
static int do_handoff(struct cycle *c) {
    static uint8_t state[KTLS_EXPORT_MAX];
    struct ktls_conn *fresh = NULL;
    ssize_t n = -EAGAIN;
    int r = 0;
    for (int tries = 0; tries < 4 && n < 0 && r >= 0; tries++) {
        r = do_flush(c, LIB(ktls_flush(c->conn)));
        if (r >= 0) r = took(c, "ktls_mem_input", move_cipher(c)); /* what is to be sent must be gone */
        if (r >= 0) n = LIB(ktls_export(c->conn, state, sizeof state));
        if (n < 0 && n != -EAGAIN && n != -ENOMEM) r = (int)n;
    }
    if (r < 0 || n < 0) return took(c, "ktls_export", r < 0 ? r : (int)n);
    r = -1;
    for (int tries = 0; tries < 4 && r < 0; tries++) r = LIB(ktls_import(c->ctx, c->fd[1], state, (size_t)n, &fresh));
    ktls_wipe(state, sizeof state);
    LIB(ktls_conn_free(c->conn));
    c->conn = fresh;
    if (r == 0 && over_memory(c)) LIB(ktls_mem_start(fresh));
    return took(c, "ktls_import", r);
}

static int do_middle(struct cycle *c) {
    int r = 0;
    if (c->ops & OP_KEY_UPDATE) r = do_key_update(c);
    if (r >= 0 && c->ops & OP_HANDOFF) r = do_handoff(c);
    if (r >= 0 && c->ops & OP_PEER_KEY_UPDATE && c->version == TLS1_3_VERSION && peer_here(c))
        SSL_key_update(c->p.ssl, c->down % 2 ? SSL_KEY_UPDATE_REQUESTED : SSL_KEY_UPDATE_NOT_REQUESTED);
    return r;
}

/* ---- The end ---- */

static int do_close(struct cycle *c) {
    uint8_t buf[64];
    int r = KTLS_WANT_WRITE;
    for (int idle = 0; r == KTLS_WANT_WRITE && idle < IDLE_MAX; idle++) {
        r = took(c, "ktls_shutdown", LIB(ktls_shutdown(c->conn)));
        wait_lib(c, idle, KTLS_WANT_WRITE);
    }
    if (r == KTLS_WANT_WRITE) WRONG(c, "ktls_shutdown has no end");
    if (r < 0) return r;
    r = took(c, "ktls_mem_input", move_cipher(c));
    for (int i = 0; r == 0 && i < 20 && !c->peer_failed && peer_here(c); i++) {
        peer_read_some(c);
        if (!c->peer_failed) wait_fd(c->fd[0], POLLIN, 1);
    }
    if (!c->peer_gone && !(SSL_get_shutdown(c->p.ssl) & SSL_RECEIVED_SHUTDOWN)) WRONG(c, "no close_notify came");
    if (!peer_here(c)) return r;
    SSL_shutdown(c->p.ssl);
    peer_push(c);
    ssize_t n = -EAGAIN;
    for (int idle = 0; r == 0 && n == -EAGAIN && idle < IDLE_MAX; idle++) {
        r = took(c, "ktls_mem_input", move_cipher(c));
        n = LIB(ktls_read(c->conn, buf, sizeof buf));
        wait_lib(c, idle, KTLS_WANT_READ);
    }
    if (n > 0) WRONG(c, "data behind the last");
    if (n == -EAGAIN && r == 0) WRONG(c, "close_notify is not seen");
    return n < 0 ? took(c, "ktls_read", (int)n) : r;
}

/* A failed connection stays failed: whoever goes on calling gets an error, not a success and not a wait. */
static void check_stays_failed(struct cycle *c) {
    char byte;
    if (!c->conn || c->conn->state != KTLS_STATE_FAILED) return;
    if (ktls_conn_mode(c->conn) == KTLS_MODE_NONE && LIB(ktls_handshake(c->conn)) >= 0) WRONG(c, "ktls_handshake goes on");
    if (LIB(ktls_read(c->conn, &byte, 1)) >= 0) WRONG(c, "ktls_read goes on");
    if (LIB(ktls_write(c->conn, "x", 1)) >= 0) WRONG(c, "ktls_write goes on");
    if (LIB(ktls_control(c->conn)) >= 0) WRONG(c, "ktls_control goes on");
    if (LIB(ktls_check_limits(c->conn)) >= 0) WRONG(c, "ktls_check_limits goes on");
    if (LIB(ktls_export(c->conn, &byte, 1)) >= 0) WRONG(c, "ktls_export goes on");
    LIB(ktls_shutdown(c->conn));
}

/* ctx is there. Afterwards the connection and the sockets are not. */
static void run_connection(struct cycle *c) {
    int r = do_connect(c);
    if (r == 0) r = do_handshake(c);
    if (c->conn) c->mode = ktls_conn_mode(c->conn);
    if (r == 0 && over_memory(c)) r = took(c, "ktls_mem_start", LIB(ktls_mem_start(c->conn)));
    if (r == 0) r = do_transfer(c);
    if (r == 0) r = do_middle(c);
    if (r == 0) r = do_transfer(c);
    if (r == 0) r = do_close(c);
    c->done = r == 0;
    check_stays_failed(c);
    c->conn = LIB(ktls_conn_free(c->conn));
    peer_done(&c->p);
    if (c->fd[0] >= 0) close(c->fd[0]);
    close(c->fd[1]);
}

#endif
