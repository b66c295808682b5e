/*
 * What the ktls tests share: certificates made on the spot, a TCP pair, and an OpenSSL peer over memory BIOs, so that a test
 * decides itself which bytes reach the socket and when.
 */
#ifndef KTLS_TEST_H
#define KTLS_TEST_H

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "ktls_internal.h"

#define MAYBE_UNUSED __attribute__((unused))

/* ---- Certificates -----------------------------------------------------------------------------------------------------------
 */

struct test_pki {
    char dir[64];
    EVP_PKEY *ca_key;
    X509 *ca;
    char ca_file[96], other_ca_file[96], server_cert[96], server_key[96], client_cert[96], client_key[96], expired_cert[96],
        expired_key[96];
};

static void write_pem(const char *path, X509 *x, EVP_PKEY *key, const char *pass) {
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    if (x) assert_int_equal(PEM_write_X509(f, x), 1);
    if (key)
        assert_int_equal(PEM_write_PrivateKey(f, key, pass ? EVP_aes_128_cbc() : NULL, NULL, 0, NULL, (void *)(uintptr_t)pass),
                         1);
    fclose(f);
}

static void add_ext(X509 *x, X509 *issuer, int nid, const char *value) {
    X509V3_CTX c;
    X509V3_set_ctx(&c, issuer, x, NULL, NULL, 0);
    X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, &c, nid, value);
    assert_non_null(e);
    X509_add_ext(x, e, -1);
    X509_EXTENSION_free(e);
}

/* ca NULL: self-signed CA. from_s, to_s: seconds from now. */
static X509 *make_cert(EVP_PKEY *key, X509 *ca, EVP_PKEY *ca_key, const char *cn, const char *san, long from_s, long to_s) {
    static long serial = 4096;
    X509 *x = X509_new();
    X509_set_version(x, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(x), serial++);
    X509_gmtime_adj(X509_getm_notBefore(x), from_s);
    X509_gmtime_adj(X509_getm_notAfter(x), to_s);
    X509_set_pubkey(x, key);
    X509_NAME *n = X509_get_subject_name(x);
    X509_NAME_add_entry_by_txt(n, "O", MBSTRING_ASC, (const unsigned char *)"libktls test", -1, -1, 0);
    X509_NAME_add_entry_by_txt(n, "CN", MBSTRING_ASC, (const unsigned char *)cn, -1, -1, 0);
    X509_set_issuer_name(x, ca ? X509_get_subject_name(ca) : n);
    if (!ca) add_ext(x, x, NID_basic_constraints, "critical,CA:TRUE");
    if (san) add_ext(x, ca, NID_subject_alt_name, san);
    assert_true(X509_sign(x, ca ? ca_key : key, EVP_sha256()) > 0);
    return x;
}

MAYBE_UNUSED static void leaf(struct test_pki *p, char *cert, char *key, const char *name, const char *san, long from_s,
                              long to_s) {
    snprintf(cert, 96, "%s/%s.crt", p->dir, name);
    snprintf(key, 96, "%s/%s.key", p->dir, name);
    EVP_PKEY *k = EVP_EC_gen("P-256");
    X509 *x = make_cert(k, p->ca, p->ca_key, name, san, from_s, to_s);
    write_pem(cert, x, NULL, NULL);
    write_pem(key, NULL, k, NULL);
    X509_free(x);
    EVP_PKEY_free(k);
}

static void pki_init(struct test_pki *p) {
    const char *tmp = getenv("TMPDIR");
    snprintf(p->dir, sizeof p->dir, "%s/ktls-test-XXXXXX", tmp && strlen(tmp) < 40 ? tmp : "/tmp");
    assert_non_null(mkdtemp(p->dir));
    p->ca_key = EVP_EC_gen("P-256");
    p->ca = make_cert(p->ca_key, NULL, NULL, "Test CA", NULL, -3600, 86400);
    snprintf(p->ca_file, sizeof p->ca_file, "%s/ca.crt", p->dir);
    write_pem(p->ca_file, p->ca, NULL, NULL);
    leaf(p, p->server_cert, p->server_key, "server", "DNS:server.test,IP:127.0.0.1", -3600, 86400);
    leaf(p, p->client_cert, p->client_key, "client", NULL, -3600, 86400);
    leaf(p, p->expired_cert, p->expired_key, "expired", "DNS:server.test", -7200, -3600);
    EVP_PKEY *k = EVP_EC_gen("P-256");
    X509 *other = make_cert(k, NULL, NULL, "Other CA", NULL, -3600, 86400);
    snprintf(p->other_ca_file, sizeof p->other_ca_file, "%s/other.crt", p->dir);
    write_pem(p->other_ca_file, other, NULL, NULL);
    X509_free(other);
    EVP_PKEY_free(k);
}

static void pki_done(struct test_pki *p) {
    const char *files[] = { p->ca_file,     p->other_ca_file, p->server_cert,  p->server_key,
                            p->client_cert, p->client_key,    p->expired_cert, p->expired_key };
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) unlink(files[i]);
    rmdir(p->dir);
    X509_free(p->ca);
    EVP_PKEY_free(p->ca_key);
}

static struct test_pki pki;

MAYBE_UNUSED static int setup_pki(void **state) {
    (void)state;
    pki_init(&pki);
    return 0;
}

MAYBE_UNUSED static int teardown_pki(void **state) {
    (void)state;
    pki_done(&pki);
    return 0;
}

/* ---- Sockets ------------------------------------------------------------------------------------------------------------------
 */

MAYBE_UNUSED static void tcp_pair(int fd[2]) {
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t len = sizeof a;
    int one = 1, l = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(l, (struct sockaddr *)&a, len), 0);
    assert_int_equal(listen(l, 1), 0);
    assert_int_equal(getsockname(l, (struct sockaddr *)&a, &len), 0);
    fd[0] = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(connect(fd[0], (struct sockaddr *)&a, len), 0);
    fd[1] = accept(l, NULL, NULL);
    assert_true(fd[1] >= 0);
    close(l);
    for (int i = 0; i < 2; i++) {
        setsockopt(fd[i], IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        fcntl(fd[i], F_SETFL, O_NONBLOCK);
    }
}

MAYBE_UNUSED static bool wait_fd(int fd, short events, int ms) {
    struct pollfd p = { .fd = fd, .events = events };
    return poll(&p, 1, ms) > 0;
}

static void send_all(int fd, const void *data, size_t len) {
    const char *p = data;
    while (len > 0) {
        ssize_t n = send(fd, p, len, MSG_NOSIGNAL);
        if (n < 0 && errno == EAGAIN) {
            assert_true(wait_fd(fd, POLLOUT, 5000));
            continue;
        }
        assert_true(n > 0);
        p += n;
        len -= (size_t)n;
    }
}

/* ---- Kernel or not ---- */

MAYBE_UNUSED static bool kernel_usable(void) {
    struct ktls_probe p;
    ktls_probe(&p);
    return p.usable != 0;
}

/* Ends the test as skipped, with the reason, where the kernel cannot. */
#define NEED_KERNEL_TLS()                                                                                                        \
    do {                                                                                                                         \
        struct ktls_probe probe_;                                                                                                \
        ktls_probe(&probe_);                                                                                                     \
        if (!probe_.usable) {                                                                                                    \
            print_message("skipped: no kernel TLS here: %s (%s)\n", ktls_reason_name(probe_.reason),                             \
                          ktls_strerror(-probe_.err));                                                                           \
            skip();                                                                                                              \
        }                                                                                                                        \
    } while (0)

MAYBE_UNUSED static bool can_rekey(void) {
    struct ktls_probe p;
    ktls_probe(&p);
    return p.usable && p.rekey == 0;
}

#define NEED_REKEY()                                                                                                             \
    do {                                                                                                                         \
        NEED_KERNEL_TLS();                                                                                                       \
        if (!can_rekey()) {                                                                                                      \
            print_message("skipped: this kernel cannot change keys (Linux 6.14 or later can)\n");                                \
            skip();                                                                                                              \
        }                                                                                                                        \
    } while (0)

#define NEED_NO_REKEY()                                                                                                          \
    do {                                                                                                                         \
        NEED_KERNEL_TLS();                                                                                                       \
        if (can_rekey()) {                                                                                                       \
            print_message("skipped: this kernel can change keys\n");                                                             \
            skip();                                                                                                              \
        }                                                                                                                        \
    } while (0)

/* Of /proc/net/tls_stat; -1: the kernel has none. */
MAYBE_UNUSED static long tls_stat(const char *name) {
    FILE *f = fopen("/proc/net/tls_stat", "r");
    char key[64];
    long v, got = -1;
    if (!f) return -1;
    while (fscanf(f, "%63s %ld", key, &v) == 2)
        if (strcmp(key, name) == 0) got = v;
    fclose(f);
    return got;
}

/* ---- The library's side ---- */

MAYBE_UNUSED static struct ktls_ctx_opts server_opts(enum ktls_policy policy) {
    return (struct ktls_ctx_opts){ .size = sizeof(struct ktls_ctx_opts),
                                   .role = KTLS_SERVER,
                                   .policy = policy,
                                   .cert_file = pki.server_cert,
                                   .key_file = pki.server_key,
                                   .ca_file = pki.ca_file,
                                   .num_tickets = 2 };
}

MAYBE_UNUSED static struct ktls_ctx_opts client_opts(enum ktls_policy policy) {
    return (struct ktls_ctx_opts){ .size = sizeof(struct ktls_ctx_opts),
                                   .role = KTLS_CLIENT,
                                   .policy = policy,
                                   .verify = KTLS_VERIFY_REQUIRE,
                                   .ca_file = pki.ca_file };
}

static struct ktls_ctx *new_ctx(const struct ktls_ctx_opts *o) {
    struct ktls_ctx *ctx = NULL;
    char err[256];
    int r = ktls_ctx_new(o, &ctx, err, sizeof err);
    if (r != 0) print_message("ktls_ctx_new: %s\n", err);
    assert_int_equal(r, 0);
    return ctx;
}

/* ---- The OpenSSL peer ---- */

struct peer {
    SSL_CTX *ctx;
    SSL *ssl;
    BIO *in, *out;
    int fd;
};

static SSL_CTX *peer_ctx(bool server, int version, const char *cipher) {
    SSL_CTX *c = SSL_CTX_new(server ? TLS_server_method() : TLS_client_method());
    assert_non_null(c);
    SSL_CTX_set_min_proto_version(c, version);
    SSL_CTX_set_max_proto_version(c, version);
    if (cipher && version == TLS1_3_VERSION) assert_int_equal(SSL_CTX_set_ciphersuites(c, cipher), 1);
    if (cipher && version != TLS1_3_VERSION) assert_int_equal(SSL_CTX_set_cipher_list(c, cipher), 1);
    if (server) {
        SSL_CTX_use_certificate_chain_file(c, pki.server_cert);
        SSL_CTX_use_PrivateKey_file(c, pki.server_key, SSL_FILETYPE_PEM);
    }
    return c;
}

static void peer_init(struct peer *p, SSL_CTX *ctx, bool server, int fd) {
    SSL_CTX_up_ref(ctx);
    *p = (struct peer){ .ctx = ctx, .ssl = SSL_new(ctx), .in = BIO_new(BIO_s_mem()), .out = BIO_new(BIO_s_mem()), .fd = fd };
    SSL_set_bio(p->ssl, p->in, p->out);
    if (server)
        SSL_set_accept_state(p->ssl);
    else
        SSL_set_connect_state(p->ssl);
}

static void peer_done(struct peer *p) {
    SSL_set_shutdown(p->ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN); /* or OpenSSL marks its session as not resumable */
    SSL_free(p->ssl);
    SSL_CTX_free(p->ctx);
}

/* What OpenSSL wants sent goes to the socket. */
static void peer_flush(struct peer *p) {
    char *data;
    long n = BIO_get_mem_data(p->out, &data);
    if (n > 0) send_all(p->fd, data, (size_t)n);
    (void)BIO_reset(p->out);
}

/* Takes what OpenSSL wants sent, for the test to send as it likes. */
MAYBE_UNUSED static size_t peer_take(struct peer *p, uint8_t *buf, size_t cap) {
    int n = BIO_read(p->out, buf, (int)cap);
    return n > 0 ? (size_t)n : 0;
}

/* What came in goes to OpenSSL. */
static void peer_feed(struct peer *p) {
    char buf[16384];
    ssize_t n;
    while ((n = recv(p->fd, buf, sizeof buf, MSG_DONTWAIT)) > 0) BIO_write(p->in, buf, (int)n);
}

MAYBE_UNUSED static bool peer_handshake(struct peer *p) {
    peer_feed(p);
    int r = SSL_do_handshake(p->ssl);
    peer_flush(p);
    return r == 1;
}

/* Both sides to the end. Returns the library's last result. */
MAYBE_UNUSED static int drive(struct ktls_conn *conn, struct peer *p) {
    int r = KTLS_WANT_READ;
    bool peer_ok = false;
    for (int i = 0; i < 100; i++) {
        if (!peer_ok) peer_ok = peer_handshake(p);
        if (r > 0) r = ktls_handshake(conn);
        if (r < 0 || (r == KTLS_DONE && peer_ok)) break;
        wait_fd(conn->fd, POLLIN, 1);
    }
    return r;
}

MAYBE_UNUSED static void peer_write(struct peer *p, const void *data, size_t len) {
    assert_int_equal(SSL_write(p->ssl, data, (int)len), (int)len);
    peer_flush(p);
}

/* Reads exactly len bytes of application data. */
MAYBE_UNUSED static void peer_read(struct peer *p, void *buf, size_t len) {
    size_t got = 0;
    for (int i = 0; got < len && i < 5000; i++) {
        int n = SSL_read(p->ssl, (char *)buf + got, (int)(len - got));
        if (n > 0) {
            got += (size_t)n;
            continue;
        }
        peer_flush(p);
        wait_fd(p->fd, POLLIN, 5);
        peer_feed(p);
    }
    assert_int_equal(got, len);
}

/* One SSL_read after waiting for input: returns SSL_get_error. */
MAYBE_UNUSED static int peer_read_error(struct peer *p) {
    char buf[64];
    for (int i = 0; i < 100; i++) {
        int n = SSL_read(p->ssl, buf, sizeof buf), e = SSL_get_error(p->ssl, n);
        if (e != SSL_ERROR_WANT_READ) return e;
        wait_fd(p->fd, POLLIN, 10);
        peer_feed(p);
    }
    return SSL_ERROR_WANT_READ;
}

/* Library: exactly len bytes, waiting as it asks. Returns 0 or the error; -ETIME when nothing came. */
MAYBE_UNUSED static int lib_read(struct ktls_conn *conn, void *buf, size_t len) {
    size_t got = 0;
    while (got < len) {
        ssize_t n = ktls_read(conn, (char *)buf + got, len - got);
        if (n > 0) {
            got += (size_t)n;
            continue;
        }
        if (n == 0) return -ECONNRESET;
        if (n != -EAGAIN) return (int)n;
        if (!wait_fd(conn->fd, ktls_conn_wants(conn) == KTLS_WANT_WRITE ? POLLOUT : POLLIN, 2000)) return -ETIME;
    }
    return 0;
}

/* The result of one read once the socket is readable. */
MAYBE_UNUSED static ssize_t lib_read_result(struct ktls_conn *conn) {
    char buf[64];
    for (int i = 0; i < 100; i++) {
        ssize_t n = ktls_read(conn, buf, sizeof buf);
        if (n != -EAGAIN) return n;
        wait_fd(conn->fd, POLLIN, 10);
    }
    return -EAGAIN;
}

/* ---- A whole connection ---- */

struct session {
    struct ktls_ctx *ctx;
    struct ktls_conn *conn;
    struct peer peer;
    int fd[2]; /* 0: the peer's, 1: the library's */
};

/* Connects, does not shake hands. peer_context may be NULL: made for version and cipher. */
static void session_start(struct session *s, const struct ktls_ctx_opts *o, SSL_CTX *peer_context, int version,
                          const char *cipher) {
    bool peer_is_server = o->role == KTLS_CLIENT;
    SSL_CTX *pc = peer_context ? peer_context : peer_ctx(peer_is_server, version, cipher);
    tcp_pair(s->fd);
    s->ctx = new_ctx(o);
    assert_int_equal(ktls_conn_new(s->ctx, s->fd[1], peer_is_server ? "server.test" : NULL, &s->conn), 0);
    peer_init(&s->peer, pc, peer_is_server, s->fd[0]);
    if (!peer_context) SSL_CTX_free(pc);
}

MAYBE_UNUSED static void session_end(struct session *s) {
    s->conn = ktls_conn_free(s->conn);
    s->ctx = ktls_ctx_unref(s->ctx);
    peer_done(&s->peer);
    close(s->fd[0]);
    close(s->fd[1]);
}

MAYBE_UNUSED static void session_open(struct session *s, const struct ktls_ctx_opts *o, int version, const char *cipher) {
    session_start(s, o, NULL, version, cipher);
    int r = drive(s->conn, &s->peer);
    if (r != KTLS_DONE) print_message("handshake: %s\n", ktls_conn_error(s->conn)->text);
    assert_int_equal(r, KTLS_DONE);
}

MAYBE_UNUSED static struct ktls_conn_info info_of(const struct session *s) {
    struct ktls_conn_info info;
    assert_int_equal(ktls_conn_info(s->conn, &info), 0);
    return info;
}

MAYBE_UNUSED static struct ktls_stats stats_now(void) {
    struct ktls_stats st;
    ktls_stats(&st);
    return st;
}

/* The peer's SSL gets a fatal alert of that description, under the key it expects. */
MAYBE_UNUSED static void expect_alert_at_peer(struct session *s, int alert) {
    ERR_clear_error();
    assert_int_equal(peer_read_error(&s->peer), SSL_ERROR_SSL);
    assert_int_equal(ERR_GET_REASON(ERR_peek_error()), 1000 + alert);
    ERR_clear_error();
}

/* Bytes that show loss, doubling and disorder. */
MAYBE_UNUSED static void pattern(uint8_t *buf, size_t len, unsigned seed) {
    for (size_t i = 0; i < len; i++) buf[i] = (uint8_t)((i * 31 + i / 251 + seed) & 0xff);
}

/* A NewSessionTicket message (RFC 8446 4.6.1) with a ticket of n bytes, below 200: TICKET_LEN(n) in all. */
#define TICKET_LEN(n) (17 + (n))
MAYBE_UNUSED static void put_ticket(uint8_t *out, size_t n) {
    static const uint8_t head[] = { 4, 0, 0, 0, 0, 0, 28, 32, 1, 2, 3, 4, 0, 0, 0 }; /* lifetime, age_add, no nonce */
    memcpy(out, head, sizeof head);
    out[3] = (uint8_t)(TICKET_LEN(n) - 4);
    out[14] = (uint8_t)n;
    memset(out + 15, 't', n);
    memset(out + 15 + n, 0, 2); /* no extensions */
}

/* Suites by enum ktls_cipher. */
MAYBE_UNUSED static const char *const tls13_suites[KTLS_N_CIPHERS] = { "TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384",
                                                                       "TLS_CHACHA20_POLY1305_SHA256", "TLS_AES_128_CCM_SHA256" };
MAYBE_UNUSED static const char *const tls12_suites[KTLS_N_CIPHERS] = {
    "ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-ECDSA-CHACHA20-POLY1305", "ECDHE-ECDSA-AES128-CCM"
};

MAYBE_UNUSED static const char *suite_name(int version, int cipher) {
    return version == TLS1_3_VERSION ? tls13_suites[cipher] : tls12_suites[cipher];
}

/* The library's options for one suite, so that both ends have it on. */
MAYBE_UNUSED static void use_suite(struct ktls_ctx_opts *o, int version, int cipher) {
    if (version == TLS1_3_VERSION)
        o->ciphersuites = tls13_suites[cipher];
    else
        o->ciphers = tls12_suites[cipher];
}

#endif
