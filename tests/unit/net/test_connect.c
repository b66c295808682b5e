/* Connections to other servers: over tcp, unix sockets and TLS; resumption; every failure's words; deadlines of a name server, a
 * handshake and a backlog that do not answer. */
#include "net_test.h"

#include <netdb.h>
#include <openssl/ssl.h>
#include <signal.h>

#include "net/connect.h"
#include "net/listen.h"
#include "net/resolve.h"

/* ---- a name server that does not answer: the calls of this program and of what is linked into it come here ---- */

static _Atomic int n_slow;
static _Atomic bool let_go;

int getaddrinfo(const char *host, const char *port, const struct addrinfo *hints, struct addrinfo **ret) {
    struct sockaddr_in *sa;
    if (host && strncmp(host, "slow", 4) == 0 && !(hints->ai_flags & AI_NUMERICHOST)) {
        n_slow++;
        while (!let_go) sleep_ms(2);
        n_slow--;
    }
    bool known = host && (!strcmp(host, "127.0.0.1") || (strchr("sf", host[0]) && !(hints->ai_flags & AI_NUMERICHOST)));
    if (!known) return EAI_NONAME;
    struct addrinfo *ai = calloc(1, sizeof(*ai) + sizeof(*sa));
    sa = (struct sockaddr_in *)(ai + 1);
    *sa = (struct sockaddr_in){ .sin_family = AF_INET, .sin_port = htons((uint16_t)strtol(port, NULL, 10)) };
    sa->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    ai->ai_family = AF_INET;
    ai->ai_socktype = SOCK_STREAM;
    ai->ai_addr = (struct sockaddr *)sa;
    ai->ai_addrlen = sizeof(*sa);
    *ret = ai;
    return 0;
}

void freeaddrinfo(struct addrinfo *ai) {
    free(ai);
}

/* ---- a server on a thread of its own: one connection after the other, one byte to each ---- */

struct peer {
    pthread_t th;
    int listener, port;
    SSL_CTX *tls; /* NULL: plain */
    int n_conns;
    _Atomic int resumed;
};

static void serve_one(struct peer *p, int fd) {
    char c;
    if (!p->tls) {
        send_all(fd, "x", 1);
        while (recv(fd, &c, 1, 0) > 0)
            ;
        return;
    }
    SSL *ssl = SSL_new(p->tls);
    SSL_set_fd(ssl, fd);
    if (SSL_accept(ssl) == 1 && SSL_write(ssl, "x", 1) == 1) {
        p->resumed += SSL_session_reused(ssl);
        while (SSL_read(ssl, &c, 1) > 0)
            ;
        SSL_shutdown(ssl);
    }
    SSL_free(ssl);
}

static void *peer_main(void *arg) {
    struct peer *p = arg;
    for (int i = 0; i < p->n_conns; i++) {
        int fd = accept(p->listener, NULL, NULL);
        serve_one(p, fd);
        close(fd);
    }
    return NULL;
}

static int port_of(int fd) {
    struct sockaddr_in sa;
    socklen_t len = sizeof(sa);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&sa, &len), 0);
    return ntohs(sa.sin_port);
}

static int listener(void) {
    char err[200];
    int fd = listen_tcp("127.0.0.1", 0, 16, false, err, sizeof(err));
    assert_true(fd >= 0);
    fcntl(fd, F_SETFL, 0);
    return fd;
}

static void start(struct peer *p, SSL_CTX *tls, int n_conns) {
    *p = (struct peer){ .tls = tls, .n_conns = n_conns, .listener = listener() };
    p->port = port_of(p->listener);
    pthread_create(&p->th, NULL, peer_main, p);
}

static void finish(struct peer *p) {
    pthread_join(p->th, NULL);
    close(p->listener);
}

static SSL_CTX *server_ctx(void) {
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *x = X509_new();
    ASN1_INTEGER_set(X509_get_serialNumber(x), 1);
    X509_gmtime_adj(X509_getm_notBefore(x), -3600);
    X509_gmtime_adj(X509_getm_notAfter(x), 86400);
    X509_set_pubkey(x, key);
    X509_sign(x, key, EVP_sha256());
    SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
    SSL_CTX_use_certificate(ctx, x);
    SSL_CTX_use_PrivateKey(ctx, key);
    X509_free(x);
    EVP_PKEY_free(key);
    return ctx;
}

static struct ktls_ctx *client_ctx(enum ktls_verify verify) {
    struct ktls_ctx *ctx = NULL;
    struct ktls_ctx_opts o = { .size = sizeof(o), .role = KTLS_CLIENT, .verify = verify, .num_tickets = -1, .session_reuse = 2 };
    assert_int_equal(ktls_ctx_new(&o, &ctx, NULL, 0), 0);
    return ctx;
}

static int64_t in_ms(int ms) {
    return clock_mono_us() + ms * 1000;
}

static void read_byte_and_close(struct syncio *s) {
    char c = 0;
    assert_int_equal(syncio_read_full(s, &c, 1, in_ms(5000)), 0);
    assert_int_equal(c, 'x');
    syncio_close(s, in_ms(1000));
    assert_int_equal(s->fd, -1);
}

static void test_tcp_and_unix(void **state) {
    (void)state;
    struct peer p;
    struct syncio s;
    char err[200] = "", dir[] = "/tmp/kettle-net-XXXXXX", path[64];
    start(&p, NULL, 3);
    struct net_connect_opts o = { .host = "127.0.0.1", .port = p.port, .keepalive_s = 15 };
    assert_int_equal(net_connect(&s, &o, in_ms(5000), err, sizeof(err)), 0);
    read_byte_and_close(&s);
    o.source = "127.0.0.1";
    o.host = "fast"; /* by name: on the resolver's thread with a deadline, without one on this */
    assert_int_equal(net_connect(&s, &o, in_ms(5000), err, sizeof(err)), 0);
    read_byte_and_close(&s);
    assert_int_equal(net_connect(&s, &o, INT64_MAX, err, sizeof(err)), 0);
    read_byte_and_close(&s);
    finish(&p);

    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof(path), "%s/sock", dir);
    p = (struct peer){ .n_conns = 1, .listener = listen_unix(path, 0, 4, err, sizeof(err)) };
    fcntl(p.listener, F_SETFL, 0);
    pthread_create(&p.th, NULL, peer_main, &p);
    o = (struct net_connect_opts){ .unix_path = path };
    assert_int_equal(net_connect(&s, &o, in_ms(5000), err, sizeof(err)), 0);
    read_byte_and_close(&s);
    finish(&p);
    unlink(path);
    rmdir(dir);
    assert_int_equal(net_connect(&s, &o, in_ms(5000), err, sizeof(err)), -ENOENT);
    assert_string_equal(err, "No such file or directory");
}

static void test_tls_is_resumed(void **state) {
    (void)state;
    struct peer p;
    struct syncio s;
    char err[200] = "";
    struct ktls_ctx *ctx = client_ctx(KTLS_VERIFY_NONE);
    SSL_CTX *sctx = server_ctx();
    start(&p, sctx, 3);
    struct net_connect_opts o = { .host = "127.0.0.1", .port = p.port, .tls = ctx, .no_name_check = true };
    for (int i = 0; i < 3; i++) {
        assert_int_equal(net_connect(&s, &o, in_ms(5000), err, sizeof(err)), 0);
        struct ktls_conn_info info;
        assert_int_equal(ktls_conn_info(s.tls, &info), 0);
        assert_int_equal(info.resumed, i > 0);
        read_byte_and_close(&s);
    }
    finish(&p);
    assert_int_equal(p.resumed, 2);
    ktls_ctx_unref(ctx);
    SSL_CTX_free(sctx);
}

static void test_words_of_failures(void **state) {
    (void)state;
    struct peer p;
    struct syncio s = { 0 };
    char err[200] = "";
    int l = listener();
    struct net_connect_opts o = { .host = "127.0.0.1", .port = port_of(l) };
    close(l);
    assert_int_equal(net_connect(&s, &o, in_ms(5000), err, sizeof(err)), -ECONNREFUSED);
    assert_string_equal(err, "Connection refused");
    assert_int_equal(s.fd, -1);
    o.host = "nobody";
    assert_int_equal(net_connect(&s, &o, in_ms(5000), err, sizeof(err)), -EADDRNOTAVAIL);
    assert_string_equal(err, gai_strerror(EAI_NONAME));
    assert_int_equal(net_connect(&s, &o, INT64_MAX, err, sizeof(err)), -EADDRNOTAVAIL);
    assert_string_equal(err, gai_strerror(EAI_NONAME));

    start(&p, NULL, 1); /* says "x" instead of a ServerHello */
    o = (struct net_connect_opts){ .host = "127.0.0.1", .port = p.port, .tls = client_ctx(KTLS_VERIFY_NONE) };
    assert_int_equal(net_connect(&s, &o, in_ms(5000), err, sizeof(err)), KTLS_ENOTTLS);
    assert_non_null(strstr(err, "TLS"));
    assert_true(s.fd == -1 && s.tls == NULL);
    ktls_ctx_unref(o.tls);
    finish(&p);

    SSL_CTX *sctx = server_ctx();
    start(&p, sctx, 1);
    o = (struct net_connect_opts){ .host = "127.0.0.1", .port = p.port, .tls = client_ctx(KTLS_VERIFY_REQUIRE) };
    assert_int_equal(net_connect(&s, &o, in_ms(5000), err, sizeof(err)), KTLS_EVERIFY);
    assert_non_null(strstr(err, "certificate"));
    ktls_ctx_unref(o.tls);
    finish(&p);
    SSL_CTX_free(sctx);
}

#define timed(call, want_ms)                                                                                                     \
    do {                                                                                                                         \
        int64_t t0 = clock_mono_us();                                                                                            \
        assert_int_equal((call), -ETIMEDOUT);                                                                                    \
        assert_in_range(clock_mono_us() - t0, (want_ms)*1000, (want_ms)*1000 + 400000);                                          \
    } while (0)

static void test_deadlines(void **state) {
    (void)state;
    struct syncio s;
    char err[200] = "";
    int l = listener(); /* its kernel accepts, nobody answers the handshake */
    struct net_connect_opts o = { .host = "127.0.0.1", .port = port_of(l), .tls = client_ctx(KTLS_VERIFY_NONE) };
    timed(net_connect(&s, &o, in_ms(60), err, sizeof(err)), 60);
    o.host = "slow";
    timed(net_connect(&s, &o, in_ms(60), err, sizeof(err)), 60);
    assert_string_equal(err, "Connection timed out");
    ktls_ctx_unref(o.tls);
    close(l);
}

static void test_look_ups_do_not_gather_without_end(void **state) {
    (void)state;
    struct addrinfo *list = NULL;
    char err[200] = "";
    int i = n_slow, r = -ETIMEDOUT; /* one is left of the test before */
    for (; i < 100 && r == -ETIMEDOUT; i++) r = net_resolve("slow", 1, in_ms(20), &list, err, sizeof(err));
    assert_int_equal(r, -EAGAIN);
    assert_int_equal(i, 17);
    assert_int_equal(net_resolve("127.0.0.1", 1, in_ms(20), &list, err, sizeof(err)), 0); /* needs none */
    freeaddrinfo(list);
    let_go = true;
    for (i = 0; i < 2000 && n_slow > 0; i++) sleep_ms(5);
    assert_int_equal(n_slow, 0);
    for (i = 0; i < 2000 && (r = net_resolve("slow", 1, in_ms(5000), &list, err, sizeof(err))) == -EAGAIN; i++) sleep_ms(5);
    assert_int_equal(r, 0);
    freeaddrinfo(list);
}

static int setup(void **state) {
    signal(SIGPIPE, SIG_IGN);
    return watchdog(state);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tcp_and_unix),
        cmocka_unit_test(test_tls_is_resumed),
        cmocka_unit_test(test_words_of_failures),
        cmocka_unit_test(test_deadlines),
        cmocka_unit_test(test_look_ups_do_not_gather_without_end),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
