/*
 * Mbed TLS as a peer of tests/integration/test_peers.py (see tls_peer.h): its own TLS 1.2 and ciphers; Debian 12's version 2.28
 * has no TLS 1.3. Suites: one name as Mbed TLS has it, "TLS-ECDHE-ECDSA-WITH-AES-128-CCM". The server resumes by tickets and by
 * session identifiers.
 */
#include <mbedtls/ctr_drbg.h>
#include <mbedtls/entropy.h>
#include <mbedtls/error.h>
#include <mbedtls/net_sockets.h>
#include <mbedtls/ssl.h>
#include <mbedtls/ssl_cache.h>
#include <mbedtls/ssl_ticket.h>
#include <stdio.h>
#include <string.h>

#include "tls_peer.h"

static mbedtls_entropy_context entropy;
static mbedtls_ctr_drbg_context rng;
static mbedtls_ssl_config conf;
static mbedtls_x509_crt cert, ca;
static mbedtls_pk_context key;
static mbedtls_ssl_cache_context cache;
static mbedtls_ssl_ticket_context tickets;
static mbedtls_ssl_context tls;
static mbedtls_net_context net;
static mbedtls_ssl_session session; /* of the connection before */
static bool has_session;
static int suites[2];
static const struct peer_args *args;

static bool failed(struct peer_conn *c, const char *what, int r) {
    char text[128];
    mbedtls_strerror(r, text, sizeof text);
    return peer_fail(c, "%s: -0x%x %s", what, (unsigned)-r, text);
}

static int init_server(void) {
    mbedtls_ssl_cache_init(&cache);
    mbedtls_ssl_ticket_init(&tickets);
    mbedtls_ssl_conf_session_cache(&conf, &cache, mbedtls_ssl_cache_get, mbedtls_ssl_cache_set);
    mbedtls_ssl_conf_session_tickets_cb(&conf, mbedtls_ssl_ticket_write, mbedtls_ssl_ticket_parse, &tickets);
    return mbedtls_ssl_ticket_setup(&tickets, mbedtls_ctr_drbg_random, &rng, MBEDTLS_CIPHER_AES_256_GCM, 3600);
}

bool peer_init(const struct peer_args *a) {
    char text[128];
    int r;
    args = a;
    mbedtls_entropy_init(&entropy);
    mbedtls_ctr_drbg_init(&rng);
    mbedtls_ssl_config_init(&conf);
    mbedtls_x509_crt_init(&cert);
    mbedtls_x509_crt_init(&ca);
    mbedtls_pk_init(&key);
    mbedtls_ssl_session_init(&session);
    r = mbedtls_ctr_drbg_seed(&rng, mbedtls_entropy_func, &entropy, NULL, 0);
    if (r == 0)
        r = mbedtls_ssl_config_defaults(&conf, a->is_server ? MBEDTLS_SSL_IS_SERVER : MBEDTLS_SSL_IS_CLIENT,
                                        MBEDTLS_SSL_TRANSPORT_STREAM, MBEDTLS_SSL_PRESET_DEFAULT);
    if (r == 0 && a->cert) r = mbedtls_x509_crt_parse_file(&cert, a->cert);
    if (r == 0 && a->key) r = mbedtls_pk_parse_keyfile(&key, a->key, NULL);
    if (r == 0 && a->cert) r = mbedtls_ssl_conf_own_cert(&conf, &cert, &key);
    if (r == 0 && a->ca) r = mbedtls_x509_crt_parse_file(&ca, a->ca);
    mbedtls_ssl_conf_rng(&conf, mbedtls_ctr_drbg_random, &rng);
    mbedtls_ssl_conf_ca_chain(&conf, &ca, NULL);
    mbedtls_ssl_conf_authmode(&conf, a->ca ? MBEDTLS_SSL_VERIFY_REQUIRED : MBEDTLS_SSL_VERIFY_NONE);
    if (a->suites && !(suites[0] = mbedtls_ssl_get_ciphersuite_id(a->suites))) r = MBEDTLS_ERR_SSL_FEATURE_UNAVAILABLE;
    if (suites[0]) mbedtls_ssl_conf_ciphersuites(&conf, suites);
    if (r == 0 && a->is_server) r = init_server();
    if (r == 0) return true;
    mbedtls_strerror(r, text, sizeof text);
    fprintf(stderr, "%s\n", text);
    return false;
}

void peer_done(void) {
    mbedtls_ssl_session_free(&session);
    has_session = false;
    mbedtls_ssl_config_free(&conf);
    mbedtls_x509_crt_free(&cert);
    mbedtls_x509_crt_free(&ca);
    mbedtls_pk_free(&key);
    mbedtls_ctr_drbg_free(&rng);
    mbedtls_entropy_free(&entropy);
}

bool peer_open(struct peer_conn *c) {
    mbedtls_ssl_init(&tls);
    net.fd = c->fd;
    int r = mbedtls_ssl_setup(&tls, &conf);
    if (r == 0) r = mbedtls_ssl_set_hostname(&tls, PEER_NAME);
    if (r == 0 && has_session) r = mbedtls_ssl_set_session(&tls, &session);
    mbedtls_ssl_set_bio(&tls, &net, mbedtls_net_send, mbedtls_net_recv, NULL);
    if (r == 0) r = mbedtls_ssl_handshake(&tls);
    if (r != 0) return failed(c, "handshake", r);
    c->version = mbedtls_ssl_get_version(&tls);
    c->cipher = mbedtls_ssl_get_ciphersuite(&tls);
    return true;
}

ssize_t peer_read(struct peer_conn *c, void *buf, size_t len) {
    int n = mbedtls_ssl_read(&tls, buf, len);
    if (n > 0) return n;
    if (n == MBEDTLS_ERR_SSL_PEER_CLOSE_NOTIFY) c->clean = true;
    if (n == MBEDTLS_ERR_SSL_PEER_CLOSE_NOTIFY || n == 0) return 0;
    failed(c, "read", n);
    return -1;
}

bool peer_write(struct peer_conn *c, const void *buf, size_t len) {
    const unsigned char *p = buf;
    while (len > 0) {
        int n = mbedtls_ssl_write(&tls, p, len);
        if (n <= 0) return failed(c, "write", n);
        p += n;
        len -= (size_t)n;
    }
    return true;
}

bool peer_update(struct peer_conn *c) {
    return peer_fail(c, "TLS 1.2 has no KeyUpdate");
}

void peer_shutdown(struct peer_conn *c) {
    (void)c;
    mbedtls_ssl_close_notify(&tls);
}

void peer_close(struct peer_conn *c) {
    if (!args->is_server && !c->error[0]) {
        mbedtls_ssl_session_free(&session);
        mbedtls_ssl_session_init(&session);
        has_session = mbedtls_ssl_get_session(&tls, &session) == 0;
    }
    mbedtls_ssl_free(&tls);
}
