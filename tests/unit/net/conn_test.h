/* A connection under test and its peer. The server side (struct app over struct conn) runs on the main thread's loop; the peer
 * is a blocking client on a thread of its own, plain or OpenSSL, so that every test runs over tcp, userspace TLS, kernel TLS and
 * half offload alike. Kernel TLS is skipped where the kernel has none, and a test over it fails if the connection came out
 * otherwise. */
#ifndef KETTLE_TEST_CONN_H
#define KETTLE_TEST_CONN_H

#include "net_test.h"

#include <netinet/tcp.h>
#include <signal.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <sys/un.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "net/conn.h"

enum kind { KIND_TCP, KIND_UNIX, KIND_USER, KIND_KTLS, KIND_KTLS_TX };

static struct loop *loop;
static struct conn_thread thread;
static struct ktls_ctx *server_ctx;
static SSL_CTX *client_ctx;
static enum kind kind;

static bool is_tls(void) {
    return kind >= KIND_USER;
}

MAYBE_UNUSED static bool is_kernel_tls(void) { /* that sends, at least */
    return kind == KIND_KTLS || kind == KIND_KTLS_TX;
}

/* ---- the application on the server side ---- */

struct app {
    struct conn c;
    struct buf in;
    int n_open, n_data, n_drained, n_closed;
    enum conn_end end;
    char text[256], tls_text[128], peer_text[128], local_text[128];
    void (*on_open)(struct app *a);
    void (*on_data)(struct app *a, char *data, size_t len); /* NULL: kept in `in` */
    void (*on_drained)(struct app *a);
    struct loop_timer timer;
    size_t produced;
};

static struct app app;

static struct app *app_of(struct conn *c) {
    return list_entry(c, struct app, c);
}

static void app_open(struct conn *c) {
    struct app *a = app_of(c);
    a->n_open++;
    conn_tls_text(c, a->tls_text, sizeof(a->tls_text));
    conn_peer_text(c, a->peer_text, sizeof(a->peer_text));
    conn_local_text(c, a->local_text, sizeof(a->local_text));
    if (a->on_open) a->on_open(a);
}

static void app_data(struct conn *c, char *data, size_t len) {
    struct app *a = app_of(c);
    a->n_data++;
    if (a->on_data)
        a->on_data(a, data, len);
    else
        buf_append(&a->in, data, len);
}

static void app_drained(struct conn *c) {
    struct app *a = app_of(c);
    a->n_drained++;
    if (a->on_drained) a->on_drained(a);
}

static void app_closed(struct conn *c, enum conn_end why, const char *text) {
    struct app *a = app_of(c);
    a->n_closed++;
    a->end = why;
    snprintf(a->text, sizeof(a->text), "%s", text);
    loop_stop(loop);
}

static const struct conn_ops app_ops = { app_open, app_data, app_drained, app_closed };

/* ---- the peer ---- */

struct peer {
    pthread_t th;
    int fd;
    SSL *ssl;
    int (*fn)(struct peer *p); /* runs after the handshake; its result is the test's to check */
    bool no_handshake;
    int result;
    size_t got;
    int err; /* errno or SSL_get_error at the end of reading */
    char *sink;
};

/* Bytes > 0, 0 at the clean end, -1 otherwise. */
static ssize_t peer_read(struct peer *p, void *buf, size_t n) {
    if (!p->ssl) {
        ssize_t r = recv(p->fd, buf, n, 0);
        p->err = r < 0 ? errno : 0;
        return r;
    }
    int r = SSL_read(p->ssl, buf, (int)n);
    if (r > 0) return r;
    p->err = SSL_get_error(p->ssl, r);
    if (p->err == SSL_ERROR_ZERO_RETURN) p->err = 0;
    return p->err ? -1 : 0;
}

static bool peer_write(struct peer *p, const void *buf, size_t n) {
    if (!p->ssl) return send_all(p->fd, buf, n);
    return SSL_write(p->ssl, buf, (int)n) == (int)n;
}

/* Reads until n bytes, the end or an error; p->got and p->err say what came. */
static size_t peer_read_upto(struct peer *p, char *buf, size_t n) {
    p->got = 0;
    p->err = 0;
    while (p->got < n) {
        ssize_t r = peer_read(p, buf + p->got, n - p->got);
        if (r <= 0) break;
        p->got += (size_t)r;
    }
    return p->got;
}

/* So many bytes come, and are the beginning of the pattern. */
MAYBE_UNUSED static bool peer_takes_pattern(struct peer *p, size_t n) {
    char *data = malloc(n);
    bool ok = peer_read_upto(p, data, n) == n && is_pattern(data, 0, n);
    free(data);
    return ok;
}

/* Whatever comes, to the end. */
MAYBE_UNUSED static void peer_drain(struct peer *p) {
    char data[16384];
    while (peer_read(p, data, sizeof(data)) > 0) {
    }
}

/* Without a word. */
MAYBE_UNUSED static void peer_leave(struct peer *p) {
    close(p->fd);
    p->fd = -1;
}

/* The clean end of this side's stream. */
MAYBE_UNUSED static void peer_finish(struct peer *p) {
    if (p->ssl) SSL_shutdown(p->ssl);
    shutdown(p->fd, SHUT_WR);
}

static void *peer_main(void *arg) {
    struct peer *p = arg;
    sigset_t pipe; /* OpenSSL's socket writes raise it; on the server's thread it would rightly end the test */
    sigemptyset(&pipe);
    sigaddset(&pipe, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &pipe, NULL);
    if (is_tls() && !p->no_handshake) {
        p->ssl = SSL_new(client_ctx);
        SSL_set_fd(p->ssl, p->fd);
        if (SSL_connect(p->ssl) != 1) {
            p->result = -1;
            return NULL;
        }
    }
    p->result = p->fn(p);
    return NULL;
}

static void peer_join(struct peer *p) {
    pthread_join(p->th, NULL);
    SSL_free(p->ssl);
    if (p->fd >= 0) close(p->fd);
}

/* ---- set-up ---- */

static void write_cert(const char *cert_path, const char *key_path) {
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *x = X509_new();
    X509_set_version(x, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(x), 1);
    X509_gmtime_adj(X509_getm_notBefore(x), -3600);
    X509_gmtime_adj(X509_getm_notAfter(x), 86400);
    X509_set_pubkey(x, key);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(x), "CN", MBSTRING_ASC, (const unsigned char *)"server", -1, -1, 0);
    X509_set_issuer_name(x, X509_get_subject_name(x));
    assert_true(X509_sign(x, key, EVP_sha256()) > 0);
    FILE *f = fopen(cert_path, "w");
    assert_int_equal(PEM_write_X509(f, x), 1);
    fclose(f);
    f = fopen(key_path, "w");
    assert_int_equal(PEM_write_PrivateKey(f, key, NULL, NULL, 0, NULL, NULL), 1);
    fclose(f);
    X509_free(x);
    EVP_PKEY_free(key);
}

static void make_contexts(void) {
    char dir[] = "/tmp/kettle-net-XXXXXX", cert[64], key[64], err[256] = "";
    assert_non_null(mkdtemp(dir));
    snprintf(cert, sizeof(cert), "%s/c", dir);
    snprintf(key, sizeof(key), "%s/k", dir);
    write_cert(cert, key);
    struct ktls_ctx_opts o = { .size = sizeof(o), .role = KTLS_SERVER, .cert_file = cert, .key_file = key, .num_tickets = -1 };
    o.policy = kind == KIND_KTLS ? KTLS_POLICY_REQUIRE : kind == KIND_KTLS_TX ? KTLS_POLICY_TX : KTLS_POLICY_OFF;
    int r = ktls_ctx_new(&o, &server_ctx, err, sizeof(err));
    unlink(cert);
    unlink(key);
    rmdir(dir);
    if (r < 0) print_message("ktls_ctx_new: %s\n", err);
    assert_int_equal(r, 0);
    client_ctx = SSL_CTX_new(TLS_client_method());
}

static int conn_setup(void **state) {
    kind = *(const enum kind *)*state;
    alarm(240);
    assert_int_equal(loop_new(backend, &loop), 0);
    assert_int_equal(conn_thread_init(&thread, loop), 0);
    memset(&app, 0, sizeof(app));
    if (is_tls()) make_contexts();
    return 0;
}

static int conn_teardown(void **state) {
    (void)state;
    conn_thread_done(&thread);
    loop = loop_free(loop);
    server_ctx = ktls_ctx_unref(server_ctx);
    SSL_CTX_free(client_ctx);
    client_ctx = NULL;
    buf_done(&app.in);
    return 0;
}

/* A test over one kind of transport, as an element of a table of tests. */
MAYBE_UNUSED static const enum kind kinds[] = { KIND_TCP, KIND_UNIX, KIND_USER, KIND_KTLS, KIND_KTLS_TX };
#define over(f, name, i)                                                                                                         \
    { #f "_over_" name, f, conn_setup, conn_teardown, (void *)(uintptr_t)&kinds[i] }
#define over_all(f) over(f, "tcp", 0), over(f, "unix", 1), over_tls(f)
#define over_tls(f) over(f, "user_tls", 2), over(f, "ktls", 3), over(f, "ktls_tx", 4)

#define NEED_KIND()                                                                                                              \
    do {                                                                                                                         \
        if (is_kernel_tls()) NEED_KERNEL_TLS();                                                                                  \
    } while (0)

MAYBE_UNUSED static void queue_pattern(struct app *a, size_t from, size_t n) {
    char *data = malloc(n);
    fill_pattern(data, from, n);
    obuf_append(&a->c.out, data, n);
    free(data);
    conn_flush_later(&a->c);
}

static void unix_pair(int *server, int *client) {
    char dir[] = "/tmp/kettle-net-XXXXXX";
    struct sockaddr_un sa = { .sun_family = AF_UNIX };
    assert_non_null(mkdtemp(dir));
    snprintf(sa.sun_path, sizeof(sa.sun_path), "%s/s", dir);
    int l = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(l, (struct sockaddr *)&sa, sizeof(sa)), 0);
    assert_int_equal(listen(l, 1), 0);
    *client = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(*client, (struct sockaddr *)&sa, sizeof(sa)), 0);
    *server = accept4(l, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    close(l);
    unlink(sa.sun_path);
    rmdir(dir);
}

/* Brings up both ends; the peer starts at once. */
static void start_pair(struct peer *p, int (*fn)(struct peer *), int64_t handshake_timeout_us) {
    int server;
    p->fn = fn;
    if (kind == KIND_UNIX)
        unix_pair(&server, &p->fd);
    else
        tcp_pair(&server, &p->fd);
    struct conn_params params = { .tls_ctx = server_ctx,
                                  .is_unix = kind == KIND_UNIX,
                                  .handshake_timeout_us = handshake_timeout_us };
    conn_start(&app.c, &thread, server, &app_ops, &params);
    pthread_create(&p->th, NULL, peer_main, p);
}

/* Until on_closed, which every test must see exactly once. */
static void run_to_close(struct peer *p) {
    loop_run(loop);
    assert_int_equal(app.n_closed, 1);
    peer_join(p);
    if (app.n_open) {
        const char *want = kind == KIND_KTLS ? "ktls:" : kind == KIND_KTLS_TX ? "ktls-tx:" : kind == KIND_USER ? "user:" : "no";
        assert_int_equal(strncmp(app.tls_text, want, strlen(want)), 0);
    }
}

static void stop_fn(struct loop_timer *t) {
    (void)t;
    loop_stop(loop);
}

MAYBE_UNUSED static void run_ms(int ms) {
    struct loop_timer stop = { .fn = stop_fn };
    loop_timer_set(loop, &stop, clock_mono_us() + ms * 1000);
    loop_run(loop);
    loop_timer_cancel(loop, &stop);
}

#endif
