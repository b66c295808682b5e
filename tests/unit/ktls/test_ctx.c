/* Contexts: what is read from files, what is refused and how that is said; references; concurrent use. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include "ktls_test.h"

#include <pthread.h>

static void expect_refused(const struct ktls_ctx_opts *o, const char *word) {
    struct ktls_ctx *ctx = (void *)1;
    char err[256];
    assert_int_equal(ktls_ctx_new(o, &ctx, err, sizeof err), KTLS_ECONFIG);
    assert_ptr_equal(ctx, (void *)1);
    if (!strstr(err, word)) print_message("%s\n", err);
    assert_non_null(strstr(err, word));
    assert_int_equal(ktls_ctx_new(o, &ctx, NULL, 0), KTLS_ECONFIG);
    char tiny[8];
    assert_int_equal(ktls_ctx_new(o, &ctx, tiny, sizeof tiny), KTLS_ECONFIG);
    assert_true(strlen(tiny) < sizeof tiny);
}

static void test_ctx_refuses_bad_options(void **state) {
    (void)state;
    struct ktls_ctx_opts ok = server_opts(KTLS_POLICY_OFF), o;
    o = ok, o.cert_file = "/nonexistent/x.crt";
    expect_refused(&o, "cannot load certificate '/nonexistent/x.crt': No such file");
    o = ok, o.cert_file = pki.server_key;
    expect_refused(&o, "cannot load certificate");
    o = ok, o.key_file = pki.client_key;
    expect_refused(&o, pki.client_key);
    o = ok, o.key_file = NULL;
    expect_refused(&o, "without a key file");
    o = ok, o.cert_file = o.key_file = NULL;
    expect_refused(&o, "a server needs a certificate");
    o = ok, o.ca_file = pki.server_key;
    expect_refused(&o, "cannot load CA certificates from");
    o = ok, o.ciphers = "NO-SUCH-CIPHER";
    expect_refused(&o, "no usable cipher in 'NO-SUCH-CIPHER'");
    o = ok, o.ciphersuites = "TLS_NO_SUCH";
    expect_refused(&o, "no usable TLS 1.3 ciphersuite");
    o = ok, o.dh_params_file = pki.server_cert;
    expect_refused(&o, "no DH parameters in");
    o = ok, o.num_tickets = 9;
    expect_refused(&o, "num_tickets");
    o = ok, o.protocols = 1u << 20;
    expect_refused(&o, "no usable protocol version");
    o = ok, o.size = 3;
    expect_refused(&o, "size");
}

static void test_ctx_passphrase(void **state) {
    (void)state;
    struct ktls_ctx_opts o = server_opts(KTLS_POLICY_OFF);
    char path[96];
    snprintf(path, sizeof path, "%s/locked.key", pki.dir);
    FILE *f = fopen(pki.server_key, "r");
    EVP_PKEY *k = PEM_read_PrivateKey(f, NULL, NULL, NULL);
    fclose(f);
    char pass[] = "open sesame";
    f = fopen(path, "w");
    PEM_write_PrivateKey(f, k, EVP_aes_128_cbc(), (unsigned char *)pass, (int)strlen(pass), NULL, NULL);
    fclose(f);
    EVP_PKEY_free(k);
    o.key_file = path;
    expect_refused(&o, "cannot load private key");
    o.key_pass = "wrong";
    expect_refused(&o, "is the passphrase right?");
    o.key_pass = pass;
    ktls_ctx_unref(new_ctx(&o));
    unlink(path);
}

static void test_ctx_cert_info(void **state) {
    (void)state;
    struct ktls_ctx_opts o = server_opts(KTLS_POLICY_OFF), c = client_opts(KTLS_POLICY_OFF);
    struct ktls_ctx *ctx = new_ctx(&o);
    struct ktls_cert_info info;
    assert_int_equal(ktls_ctx_cert_info(ctx, &info), 0);
    assert_string_equal(info.subject, "CN=server,O=libktls test");
    assert_string_equal(info.issuer, "CN=Test CA,O=libktls test");
    assert_true(strlen(info.serial) >= 4);
    assert_int_equal(info.not_after - info.not_before, 86400 + 3600);
    assert_ptr_equal(ktls_ctx_ref(ctx), ctx);
    assert_null(ktls_ctx_unref(ctx));
    assert_null(ktls_ctx_unref(ctx));
    assert_null(ktls_ctx_unref(NULL));
    ctx = new_ctx(&c);
    assert_int_equal(ktls_ctx_cert_info(ctx, &info), -ENOENT);
    struct ktls_conn *conn;
    assert_int_equal(ktls_conn_new(ctx, -1, NULL, &conn), -EINVAL);
    assert_null(ktls_conn_free(NULL));
    ktls_ctx_unref(ctx);
}

/* A context outlives its last reference as long as a connection holds it. */
static void test_ctx_connection_keeps_it(void **state) {
    (void)state;
    struct ktls_ctx_opts o = server_opts(KTLS_POLICY_AUTO);
    struct session s;
    session_start(&s, &o, NULL, TLS1_3_VERSION, NULL);
    s.ctx = ktls_ctx_unref(s.ctx);
    assert_int_equal(drive(s.conn, &s.peer), KTLS_DONE);
    session_end(&s);
}

/* Four threads shake hands over one context. */
static struct ktls_ctx *shared;

static void *shake_many(void *arg) {
    SSL_CTX *pc = arg;
    size_t ok = 0;
    for (int i = 0; i < 25; i++) {
        int fd[2];
        struct ktls_conn *conn;
        struct peer p;
        tcp_pair(fd);
        if (ktls_conn_new(shared, fd[1], NULL, &conn) < 0) break;
        peer_init(&p, pc, false, fd[0]);
        ok += drive(conn, &p) == KTLS_DONE;
        ktls_conn_free(conn);
        peer_done(&p);
        close(fd[0]);
        close(fd[1]);
    }
    return (void *)ok;
}

static void test_ctx_many_threads(void **state) {
    (void)state;
    struct ktls_ctx_opts o = server_opts(KTLS_POLICY_AUTO);
    SSL_CTX *pc = peer_ctx(false, TLS1_3_VERSION, NULL);
    struct ktls_stats before, after;
    pthread_t t[4];
    shared = new_ctx(&o);
    ktls_stats(&before);
    for (int i = 0; i < 4; i++) pthread_create(&t[i], NULL, shake_many, pc);
    for (int i = 0; i < 4; i++) {
        void *ok;
        pthread_join(t[i], &ok);
        assert_int_equal((size_t)ok, 25);
    }
    ktls_stats(&after);
    assert_int_equal(after.handshakes_ok[KTLS_SERVER] - before.handshakes_ok[KTLS_SERVER], 100);
    assert_int_equal(after.mode_kernel + after.mode_user - before.mode_kernel - before.mode_user, 100);
    shared = ktls_ctx_unref(shared);
    SSL_CTX_free(pc);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ctx_refuses_bad_options), cmocka_unit_test(test_ctx_passphrase),
        cmocka_unit_test(test_ctx_cert_info),           cmocka_unit_test(test_ctx_connection_keeps_it),
        cmocka_unit_test(test_ctx_many_threads),
    };
    return cmocka_run_group_tests(tests, setup_pki, teardown_pki);
}
