/* What the tests of resumption share: one connection between the library and an OpenSSL peer, with sessions kept and offered. */
#ifndef RESUME_TEST_H
#define RESUME_TEST_H

#include "ktls_test.h"

static SSL_SESSION *latest; /* of an OpenSSL client */
static int n_new;

MAYBE_UNUSED static int on_new(SSL *ssl, SSL_SESSION *s) {
    (void)ssl;
    SSL_SESSION_free(latest);
    latest = s;
    n_new++;
    return 1;
}

/* An OpenSSL client that keeps sessions. */
MAYBE_UNUSED static SSL_CTX *client_ctx(int version, const char *cert, const char *key) {
    SSL_CTX *c = peer_ctx(false, version, NULL);
    SSL_CTX_set_session_cache_mode(c, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(c, on_new);
    if (cert) {
        assert_int_equal(SSL_CTX_use_certificate_chain_file(c, cert), 1);
        assert_int_equal(SSL_CTX_use_PrivateKey_file(c, key, SSL_FILETYPE_PEM), 1);
    }
    return c;
}

/* The library as the server: handshake, data both ways, close. offer may be NULL. The library's result. */
MAYBE_UNUSED static int visit(struct ktls_ctx *ctx, SSL_CTX *client, SSL_SESSION *offer, struct ktls_conn_info *info) {
    int fd[2];
    struct ktls_conn *conn;
    struct peer p;
    char buf[4];
    n_new = 0;
    tcp_pair(fd);
    assert_int_equal(ktls_conn_new(ctx, fd[1], NULL, &conn), 0);
    peer_init(&p, client, false, fd[0]);
    if (offer) { /* a copy: OpenSSL marks a TLS 1.3 session that was resumed as used up */
        SSL_SESSION *copy = SSL_SESSION_dup(offer);
        SSL_set_session(p.ssl, copy);
        SSL_SESSION_free(copy);
    }
    int r = drive(conn, &p);
    ktls_conn_info(conn, info);
    if (r == KTLS_DONE) {
        assert_int_equal(SSL_session_reused(p.ssl), info->resumed);
        assert_int_equal(ktls_write(conn, "pong", 4), 4);
        peer_read(&p, buf, 4);
        assert_memory_equal(buf, "pong", 4);
        peer_write(&p, "ping", 4);
        assert_int_equal(lib_read(conn, buf, 4), 0);
        assert_memory_equal(buf, "ping", 4);
    }
    ktls_conn_free(conn);
    peer_done(&p);
    close(fd[0]);
    close(fd[1]);
    return r;
}

/* The session of the last visit, the caller's. */
MAYBE_UNUSED static SSL_SESSION *take_latest(void) {
    SSL_SESSION *s = latest;
    latest = NULL;
    return s;
}

MAYBE_UNUSED static void forget_latest(void) {
    SSL_SESSION_free(take_latest());
}

#endif
