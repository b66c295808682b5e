/*
 * wolfSSL as a peer of tests/integration/test_peers.py (see tls_peer.h): its own TLS 1.2 and 1.3, its own ciphers. Suites are
 * OpenSSL names in a colon list.
 */
#include <stdio.h>
#include <string.h>
#include <wolfssl/options.h>
/* after options.h */
#include <wolfssl/ssl.h>

#include "tls_peer.h"

static WOLFSSL_CTX *ctx;
static WOLFSSL *tls;
static WOLFSSL_SESSION *session; /* of the connection before */
static const struct peer_args *args;

static bool complain(const char *what) {
    fprintf(stderr, "%s failed\n", what);
    return false;
}

static WOLFSSL_METHOD *method(void) {
    if (args->is_server) return args->only12 ? wolfTLSv1_2_server_method() : wolfTLSv1_3_server_method();
    return args->only12 ? wolfTLSv1_2_client_method() : wolfTLSv1_3_client_method();
}

bool peer_init(const struct peer_args *a) {
    args = a;
    wolfSSL_Init();
    ctx = wolfSSL_CTX_new(method());
    if (!ctx) return complain("wolfSSL_CTX_new");
    if (a->suites && wolfSSL_CTX_set_cipher_list(ctx, a->suites) != WOLFSSL_SUCCESS) return complain("cipher list");
    if (a->cert && wolfSSL_CTX_use_certificate_chain_file(ctx, a->cert) != WOLFSSL_SUCCESS) return complain(a->cert);
    if (a->key && wolfSSL_CTX_use_PrivateKey_file(ctx, a->key, WOLFSSL_FILETYPE_PEM) != WOLFSSL_SUCCESS) return complain(a->key);
    if (a->ca && wolfSSL_CTX_load_verify_locations(ctx, a->ca, NULL) != WOLFSSL_SUCCESS) return complain(a->ca);
    wolfSSL_CTX_set_verify(ctx, a->ca ? WOLFSSL_VERIFY_PEER : WOLFSSL_VERIFY_NONE, NULL);
    if (!a->is_server) wolfSSL_CTX_UseSessionTicket(ctx);
    return true;
}

void peer_done(void) {
    wolfSSL_SESSION_free(session);
    session = NULL;
    wolfSSL_CTX_free(ctx);
    wolfSSL_Cleanup();
}

static bool failed(struct peer_conn *c, const char *what, int ret) {
    char text[WOLFSSL_MAX_ERROR_SZ];
    int err = wolfSSL_get_error(tls, ret);
    return peer_fail(c, "%s: %d %s", what, err, wolfSSL_ERR_error_string((unsigned long)err, text));
}

bool peer_open(struct peer_conn *c) {
    tls = wolfSSL_new(ctx);
    if (!tls || wolfSSL_set_fd(tls, c->fd) != WOLFSSL_SUCCESS) return peer_fail(c, "wolfSSL_new");
    if (!args->is_server) {
        wolfSSL_check_domain_name(tls, PEER_NAME);
        wolfSSL_UseSNI(tls, WOLFSSL_SNI_HOST_NAME, PEER_NAME, strlen(PEER_NAME));
        if (session) wolfSSL_set_session(tls, session);
    }
    int r = args->is_server ? wolfSSL_accept(tls) : wolfSSL_connect(tls);
    if (r != WOLFSSL_SUCCESS) return failed(c, "handshake", r);
    c->version = wolfSSL_get_version(tls);
    c->cipher = wolfSSL_get_cipher_name(tls);
    c->resumed = wolfSSL_session_reused(tls);
    return true;
}

ssize_t peer_read(struct peer_conn *c, void *buf, size_t len) {
    int n = wolfSSL_read(tls, buf, (int)len);
    if (n > 0) return n;
    if (wolfSSL_get_error(tls, n) == WOLFSSL_ERROR_ZERO_RETURN) {
        c->clean = true;
        return 0;
    }
    failed(c, "read", n);
    return -1;
}

bool peer_write(struct peer_conn *c, const void *buf, size_t len) {
    int n = wolfSSL_write(tls, buf, (int)len);
    return n == (int)len || failed(c, "write", n);
}

bool peer_update(struct peer_conn *c) {
    int r = wolfSSL_update_keys(tls);
    c->updates_out++;
    return r == WOLFSSL_SUCCESS || failed(c, "key update", r);
}

void peer_shutdown(struct peer_conn *c) {
    (void)c;
    wolfSSL_shutdown(tls);
}

void peer_close(struct peer_conn *c) {
    if (!tls) return;
    if (!args->is_server && !c->error[0]) {
        wolfSSL_SESSION_free(session);
        session = wolfSSL_get1_session(tls);
    }
    wolfSSL_free(tls);
    tls = NULL;
}
