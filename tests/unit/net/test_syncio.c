/* Blocking I/O with deadlines: whole transfers, lines, ends; silent, dripping and never-reading peers; plain and over TLS. */
#include "net_test.h"

#include <openssl/ssl.h>

#include "net/syncio.h"

struct peer {
    pthread_t th;
    int fd;
    void (*fn)(struct peer *p);
    _Atomic bool stop;
    size_t got;
};

static void *peer_main(void *arg) {
    struct peer *p = arg;
    p->fn(p);
    return NULL;
}

static void start(struct syncio *s, struct peer *p, void (*fn)(struct peer *)) {
    memset(s, 0, sizeof(*s));
    memset(p, 0, sizeof(*p));
    tcp_pair(&s->fd, &p->fd);
    p->fn = fn;
    pthread_create(&p->th, NULL, peer_main, p);
}

static void finish(struct syncio *s, struct peer *p) {
    syncio_close(s, clock_mono_us() + 100000);
    assert_int_equal(s->fd, -1);
    p->stop = true;
    pthread_join(p->th, NULL);
    if (p->fd >= 0) close(p->fd);
}

static int64_t in_ms(int ms) {
    return clock_mono_us() + ms * 1000;
}

enum { BIG = 5 << 20 };

static void echo_back(struct peer *p) {
    char buf[70000];
    ssize_t n;
    while ((n = recv(p->fd, buf, sizeof(buf), 0)) > 0 && send_all(p->fd, buf, (size_t)n)) p->got += (size_t)n;
}

static void silent(struct peer *p) {
    while (!p->stop) sleep_ms(5);
}

static void dripping(struct peer *p) {
    while (!p->stop && send_all(p->fd, "x", 1)) usleep(200);
}

static void flooding(struct peer *p) {
    char buf[1024];
    memset(buf, 'x', sizeof(buf));
    while (!p->stop && send_all(p->fd, buf, sizeof(buf)))
        ;
}

static void test_transfer(void **state) {
    (void)state;
    struct syncio s;
    struct peer p;
    start(&s, &p, echo_back);
    char *data = malloc(100000), *back = malloc(100000);
    for (size_t at = 0; at < BIG; at += 100000) {
        size_t n = BIG - at < 100000 ? BIG - at : 100000;
        fill_pattern(data, at, n);
        assert_int_equal(syncio_write_full(&s, data, n, INT64_MAX), 0);
        assert_int_equal(syncio_read_full(&s, back, n, in_ms(5000)), 0);
        assert_memory_equal(data, back, n);
    }
    assert_int_equal(syncio_read_full(&s, back, 0, 0), 0);
    free(data);
    free(back);
    finish(&s, &p);
}

static void say_lines(struct peer *p) {
    send_all(p->fd, "+OK\r\nplain\n\r\nrest of", 21);
    shutdown(p->fd, SHUT_WR);
}

static void test_lines(void **state) {
    (void)state;
    struct syncio s;
    struct peer p;
    char line[16];
    start(&s, &p, say_lines);
    assert_int_equal(syncio_read_line(&s, line, sizeof(line), in_ms(1000)), 3);
    assert_string_equal(line, "+OK");
    assert_int_equal(syncio_read_line(&s, line, sizeof(line), in_ms(1000)), 5);
    assert_string_equal(line, "plain");
    assert_int_equal(syncio_read_line(&s, line, sizeof(line), in_ms(1000)), 0);
    assert_string_equal(line, "");
    assert_int_equal(syncio_read_line(&s, line, sizeof(line), in_ms(1000)), -ENODATA);
    assert_int_equal(syncio_left(&s).len, 8);
    assert_int_equal(syncio_read_some(&s, line, sizeof(line), in_ms(1000)), 8); /* a line's beginning is not lost */
    assert_memory_equal(line, "rest of", 8);
    assert_int_equal(syncio_read_some(&s, line, sizeof(line), in_ms(1000)), 0);
    finish(&s, &p);
    start(&s, &p, say_lines);
    assert_int_equal(syncio_read_line(&s, line, 3, in_ms(1000)), -EMSGSIZE);
    assert_int_equal(syncio_read_full(&s, line, 16, in_ms(1000)), 0);
    assert_int_equal(syncio_read_full(&s, line, 16, in_ms(1000)), -ENODATA);
    finish(&s, &p);
}

#define timed(call, want_ms)                                                                                                     \
    do {                                                                                                                         \
        int64_t t0 = clock_mono_us();                                                                                            \
        assert_int_equal((call), -ETIMEDOUT);                                                                                    \
        assert_in_range(clock_mono_us() - t0, (want_ms)*1000, (want_ms)*1000 + 400000);                                          \
    } while (0)

static void test_silent_peer(void **state) {
    (void)state;
    struct syncio s;
    struct peer p;
    char buf[64];
    start(&s, &p, silent);
    timed(syncio_read_some(&s, buf, sizeof(buf), in_ms(60)), 60);
    timed(syncio_read_full(&s, buf, sizeof(buf), in_ms(60)), 60);
    timed(syncio_read_line(&s, buf, sizeof(buf), in_ms(60)), 60);
    assert_int_equal(syncio_read_some(&s, buf, sizeof(buf), clock_mono_us() - 1), -ETIMEDOUT);
    finish(&s, &p);
}

static void test_dripping_peer_does_not_extend_the_deadline(void **state) {
    (void)state;
    struct syncio s;
    struct peer p;
    char *buf = malloc(256 << 20);
    start(&s, &p, dripping);
    timed(syncio_read_full(&s, buf, 1 << 20, in_ms(80)), 80);
    timed(syncio_read_line(&s, buf, 1 << 20, in_ms(80)), 80);
    finish(&s, &p);
    start(&s, &p, flooding); /* the socket never runs dry */
    timed(syncio_read_line(&s, buf, 256 << 20, in_ms(20)), 20);
    p.stop = true;
    finish(&s, &p);
    free(buf);
}

static void test_peer_that_never_reads(void **state) {
    (void)state;
    struct syncio s;
    struct peer p;
    char *data = calloc(1, 64 << 20);
    start(&s, &p, silent);
    timed(syncio_write_full(&s, data, 64 << 20, in_ms(80)), 80);
    finish(&s, &p);
    free(data);
}

static void hang_up(struct peer *p) {
    struct linger reset = { .l_onoff = 1 };
    setsockopt(p->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
    close(p->fd);
    p->fd = -1;
}

static void test_reset(void **state) {
    (void)state;
    struct syncio s;
    struct peer p;
    char buf[8];
    start(&s, &p, hang_up);
    assert_int_equal(syncio_read_full(&s, buf, 8, in_ms(1000)), -ECONNRESET);
    assert_int_equal(syncio_write_full(&s, buf, 8, in_ms(1000)), -EPIPE);
    finish(&s, &p);
}

/* ---- over TLS: an OpenSSL server as the peer, in every mode ---- */

static SSL_CTX *peer_ctx;

static void make_peer_ctx(void) {
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *x = X509_new();
    ASN1_INTEGER_set(X509_get_serialNumber(x), 1);
    X509_gmtime_adj(X509_getm_notBefore(x), -3600);
    X509_gmtime_adj(X509_getm_notAfter(x), 86400);
    X509_set_pubkey(x, key);
    X509_sign(x, key, EVP_sha256());
    peer_ctx = SSL_CTX_new(TLS_server_method());
    SSL_CTX_use_certificate(peer_ctx, x);
    SSL_CTX_use_PrivateKey(peer_ctx, key);
    X509_free(x);
    EVP_PKEY_free(key);
}

static void tls_echo(struct peer *p) {
    SSL *s = SSL_new(peer_ctx);
    SSL_set_fd(s, p->fd);
    if (SSL_accept(s) == 1) {
        char buf[20000];
        int n;
        while ((n = SSL_read(s, buf, sizeof(buf))) > 0 && SSL_write(s, buf, n) == n) p->got += (size_t)n;
        p->got += SSL_get_error(s, n) == SSL_ERROR_ZERO_RETURN ? 1 : 0; /* close_notify came */
    }
    SSL_free(s);
}

static struct ktls_conn *client_conn(int fd, enum ktls_policy policy) {
    struct ktls_ctx *ctx = NULL;
    struct ktls_ctx_opts o = { .size = sizeof(o), .role = KTLS_CLIENT, .policy = policy, .num_tickets = -1 };
    assert_int_equal(ktls_ctx_new(&o, &ctx, NULL, 0), 0);
    struct ktls_conn *c = NULL;
    assert_int_equal(ktls_conn_new(ctx, fd, NULL, &c), 0);
    ktls_ctx_unref(ctx);
    return c;
}

static void tls_transfer(enum ktls_policy policy, enum ktls_mode mode) {
    struct syncio s;
    struct peer p;
    char data[30000], back[30000], line[16];
    start(&s, &p, tls_echo);
    s.tls = client_conn(s.fd, policy);
    assert_int_equal(syncio_handshake(&s, in_ms(5000)), 0);
    assert_int_equal(ktls_conn_mode(s.tls), mode);
    for (size_t i = 0; i < 50; i++) {
        fill_pattern(data, i * sizeof(data), sizeof(data));
        assert_int_equal(syncio_write_full(&s, data, sizeof(data), in_ms(5000)), 0);
        assert_int_equal(syncio_read_full(&s, back, sizeof(back), in_ms(5000)), 0);
        assert_memory_equal(data, back, sizeof(data));
    }
    assert_int_equal(syncio_write_full(&s, "a\r\nb\n", 5, in_ms(5000)), 0);
    assert_int_equal(syncio_read_line(&s, line, sizeof(line), in_ms(5000)), 1);
    assert_int_equal(syncio_read_line(&s, line, sizeof(line), in_ms(5000)), 1);
    assert_string_equal(line, "b");
    timed(syncio_read_line(&s, line, sizeof(line), in_ms(50)), 50);
    finish(&s, &p);
    assert_int_equal(p.got, 50 * sizeof(data) + 5 + 1);
}

static void test_tls_userspace(void **state) {
    (void)state;
    tls_transfer(KTLS_POLICY_OFF, KTLS_MODE_USER);
}

static void test_tls_kernel(void **state) {
    (void)state;
    NEED_KERNEL_TLS();
    tls_transfer(KTLS_POLICY_REQUIRE, KTLS_MODE_KERNEL);
}

static void test_tls_half_offload(void **state) {
    (void)state;
    NEED_KERNEL_TLS();
    tls_transfer(KTLS_POLICY_TX, KTLS_MODE_TX);
}

static void test_tls_handshake_deadline(void **state) {
    (void)state;
    struct syncio s;
    struct peer p;
    start(&s, &p, silent);
    s.tls = client_conn(s.fd, KTLS_POLICY_OFF);
    timed(syncio_handshake(&s, in_ms(60)), 60);
    finish(&s, &p);
    start(&s, &p, dripping);
    s.tls = client_conn(s.fd, KTLS_POLICY_OFF);
    assert_true(syncio_handshake(&s, in_ms(200)) < 0); /* not TLS: refused at once, or late by the deadline at most */
    finish(&s, &p);
}

static int setup(void **state) {
    make_peer_ctx();
    return watchdog(state);
}

static int teardown(void **state) {
    (void)state;
    SSL_CTX_free(peer_ctx);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_transfer),
        cmocka_unit_test(test_lines),
        cmocka_unit_test(test_silent_peer),
        cmocka_unit_test(test_dripping_peer_does_not_extend_the_deadline),
        cmocka_unit_test(test_peer_that_never_reads),
        cmocka_unit_test(test_reset),
        cmocka_unit_test(test_tls_userspace),
        cmocka_unit_test(test_tls_kernel),
        cmocka_unit_test(test_tls_half_offload),
        cmocka_unit_test(test_tls_handshake_deadline),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
