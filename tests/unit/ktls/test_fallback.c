/* What ends a handshake and what sends it to userspace, and what is said about it. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include "ktls_test.h"

/* ---- Userspace, and why ---- */

static void expect_user(const struct ktls_ctx_opts *o, int version, const char *cipher, enum ktls_reason want) {
    struct session s;
    struct ktls_conn_info info;
    char buf[4];
    session_open(&s, o, version, cipher);
    ktls_conn_info(s.conn, &info);
    assert_int_equal(info.mode, KTLS_MODE_USER);
    assert_string_equal(ktls_reason_name(info.reason), ktls_reason_name(want));
    peer_write(&s.peer, "ping", 4);
    assert_int_equal(lib_read(s.conn, buf, 4), 0);
    assert_int_equal(ktls_write(s.conn, "pong", 4), 4);
    peer_read(&s.peer, buf, 4);
    assert_memory_equal(buf, "pong", 4);
    session_end(&s);
}

static void test_fallback_policy(void **state) {
    (void)state;
    struct ktls_ctx_opts o = server_opts(KTLS_POLICY_OFF);
    expect_user(&o, TLS1_3_VERSION, NULL, KTLS_REASON_POLICY);
}

static void test_fallback_without_kernel_tells_the_probes_reason(void **state) {
    (void)state;
    if (kernel_usable()) {
        print_message("skipped: this kernel has TLS\n");
        skip();
    }
    struct ktls_probe p;
    ktls_probe(&p);
    struct ktls_ctx_opts o = server_opts(KTLS_POLICY_AUTO);
    expect_user(&o, TLS1_3_VERSION, NULL, p.reason);
}

static void test_fallback_cbc_suite_is_cipher(void **state) {
    (void)state;
    NEED_KERNEL_TLS();
    struct ktls_ctx_opts o = server_opts(KTLS_POLICY_AUTO);
    o.ciphers = "ECDHE-ECDSA-AES128-SHA256";
    expect_user(&o, TLS1_2_VERSION, "ECDHE-ECDSA-AES128-SHA256", KTLS_REASON_CIPHER);
    o.ciphers = "ECDHE-ECDSA-AES128-CCM8@SECLEVEL=0"; /* a tag of 8 bytes */
    expect_user(&o, TLS1_2_VERSION, "ECDHE-ECDSA-AES128-CCM8@SECLEVEL=0", KTLS_REASON_CIPHER);
}

static void test_fallback_old_version_is_version(void **state) {
    (void)state;
    NEED_KERNEL_TLS();
    struct ktls_ctx_opts o = server_opts(KTLS_POLICY_AUTO);
    o.protocols = KTLS_PROTO_TLS1_1;
    o.ciphers = "ALL@SECLEVEL=0";
    expect_user(&o, TLS1_1_VERSION, "ALL@SECLEVEL=0", KTLS_REASON_VERSION);
}

static void test_fallback_max_fragment_length_is_record_limit(void **state) {
    (void)state;
    NEED_KERNEL_TLS();
    struct ktls_ctx_opts o = server_opts(KTLS_POLICY_AUTO);
    SSL_CTX *pc = peer_ctx(false, TLS1_3_VERSION, NULL);
    struct session s;
    struct ktls_conn_info info;
    SSL_CTX_set_tlsext_max_fragment_length(pc, TLSEXT_max_fragment_length_512);
    session_start(&s, &o, pc, 0, NULL);
    assert_int_equal(drive(s.conn, &s.peer), KTLS_DONE);
    ktls_conn_info(s.conn, &info);
    assert_int_equal(info.reason, KTLS_REASON_RECORD_LIMIT);
    session_end(&s);
    SSL_CTX_free(pc);
}

static void test_fallback_unix_socket_is_not_tcp(void **state) {
    (void)state;
    NEED_KERNEL_TLS();
    struct ktls_ctx_opts o = server_opts(KTLS_POLICY_AUTO);
    struct session s;
    struct ktls_conn_info info;
    session_start(&s, &o, NULL, TLS1_3_VERSION, NULL);
    int un[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, un), 0);
    dup2(un[0], s.fd[0]);
    dup2(un[1], s.fd[1]);
    close(un[0]);
    close(un[1]);
    assert_int_equal(drive(s.conn, &s.peer), KTLS_DONE);
    ktls_conn_info(s.conn, &info);
    assert_int_equal(info.mode, KTLS_MODE_USER);
    assert_int_equal(info.reason, KTLS_REASON_NOT_TCP);
    session_end(&s);
}

static void test_require_without_kernel_fails(void **state) {
    (void)state;
    struct ktls_ctx_opts o = server_opts(KTLS_POLICY_REQUIRE);
    struct session s;
    o.ciphers = "ECDHE-ECDSA-AES128-SHA256";
    session_start(&s, &o, NULL, TLS1_2_VERSION, "ECDHE-ECDSA-AES128-SHA256");
    assert_int_equal(drive(s.conn, &s.peer), KTLS_ENOKTLS);
    assert_non_null(strstr(ktls_conn_error(s.conn)->text, kernel_usable() ? "cipher" : "available"));
    assert_int_equal(ktls_handshake(s.conn), KTLS_ENOKTLS);
    session_end(&s);
}

/* ---- Not TLS ---- */

static void expect_not_tls(enum ktls_role role, const char *bytes, size_t len, const char *word) {
    struct ktls_ctx_opts o = role == KTLS_SERVER ? server_opts(KTLS_POLICY_AUTO) : client_opts(KTLS_POLICY_AUTO);
    struct session s;
    session_start(&s, &o, NULL, TLS1_3_VERSION, NULL);
    send_all(s.fd[0], bytes, len);
    wait_fd(s.fd[1], POLLIN, 1000);
    int r = KTLS_WANT_READ;
    for (int i = 0; i < 3 && r > 0; i++) r = ktls_handshake(s.conn);
    assert_int_equal(r, KTLS_ENOTTLS);
    if (!strstr(ktls_conn_error(s.conn)->text, word)) print_message("%s\n", ktls_conn_error(s.conn)->text);
    assert_non_null(strstr(ktls_conn_error(s.conn)->text, word));
    session_end(&s);
}

static void test_plaintext_is_named(void **state) {
    (void)state;
    expect_not_tls(KTLS_SERVER, "*1\r\n$4\r\nPING\r\n", 14, "Redis");
    expect_not_tls(KTLS_SERVER, "*", 1, "Redis");
    expect_not_tls(KTLS_SERVER, "PING\r\n", 6, "Redis");
    expect_not_tls(KTLS_SERVER, "GET / HTTP/1.1\r\n\r\n", 18, "HTTP");
    expect_not_tls(KTLS_SERVER, "\200\56\1\3\1\0", 6, "SSLv2");
    expect_not_tls(KTLS_SERVER, "\0\0\0\0\0\0", 6, "not a TLS record");
    expect_not_tls(KTLS_SERVER, "\26\1\1\0\5hello", 10, "not a TLS record");
    expect_not_tls(KTLS_CLIENT, "-ERR unknown command\r\n", 22, "Redis");
}

/* The n first bytes of a valid ClientHello record, then anything: never a crash, never a wait for more than a record. */
static void test_garbage_behind_a_good_header_is_a_protocol_error(void **state) {
    (void)state;
    static const char *const heads[] = { "\26\3\1\377\377", "\26\3\1\100\1", "\26\3\1\0\20", "\25\3\3\0\2", "\26\3\3\0\0" };
    for (size_t i = 0; i < sizeof heads / sizeof heads[0]; i++) {
        struct ktls_ctx_opts o = server_opts(KTLS_POLICY_AUTO);
        struct session s;
        static uint8_t junk[40000];
        pattern(junk, sizeof junk, 200);
        session_start(&s, &o, NULL, TLS1_3_VERSION, NULL);
        send_all(s.fd[0], heads[i], 5);
        send_all(s.fd[0], junk, sizeof junk);
        wait_fd(s.fd[1], POLLIN, 1000);
        int r = KTLS_WANT_READ;
        for (int k = 0; k < 50 && r > 0; k++) r = ktls_handshake(s.conn);
        print_message("%zu: %s: %s\n", i, ktls_strerror(r), ktls_conn_error(s.conn)->text);
        assert_true(r == KTLS_EPROTOCOL || r == KTLS_EALERT);
        session_end(&s);
    }
}

static void test_peer_closing_in_handshake_is_reset(void **state) {
    (void)state;
    struct ktls_ctx_opts o = server_opts(KTLS_POLICY_AUTO);
    struct session s;
    struct ktls_stats before, after;
    ktls_stats(&before);
    session_start(&s, &o, NULL, TLS1_3_VERSION, NULL);
    assert_int_equal(ktls_handshake(s.conn), KTLS_WANT_READ);
    shutdown(s.fd[0], SHUT_WR);
    wait_fd(s.fd[1], POLLIN, 1000);
    assert_int_equal(ktls_handshake(s.conn), -ECONNRESET);
    ktls_stats(&after);
    assert_int_equal(after.failed_reset - before.failed_reset, 1);
    session_end(&s);
}

/* ---- Certificates ---- */

static void use_cert(SSL_CTX *c, const char *cert, const char *key) {
    SSL_CTX_use_certificate_chain_file(c, cert);
    SSL_CTX_use_PrivateKey_file(c, key, SSL_FILETYPE_PEM);
}

/* The library is the client; cert/key are the server's. */
static void expect_client(const char *cert, const char *key, const char *ca, const char *name, bool no_name_check, int want,
                          const char *text) {
    struct ktls_ctx_opts o = client_opts(KTLS_POLICY_AUTO);
    struct session s;
    SSL_CTX *pc = peer_ctx(true, TLS1_3_VERSION, NULL);
    use_cert(pc, cert, key);
    o.ca_file = ca;
    session_start(&s, &o, pc, 0, NULL);
    ktls_conn_free(s.conn);
    assert_int_equal(ktls_conn_new(s.ctx, s.fd[1], name, &s.conn), 0);
    if (no_name_check) ktls_conn_set_no_name_check(s.conn);
    assert_int_equal(drive(s.conn, &s.peer), want);
    if (!strstr(ktls_conn_error(s.conn)->text, text)) print_message("%s\n", ktls_conn_error(s.conn)->text);
    assert_non_null(strstr(ktls_conn_error(s.conn)->text, text));
    session_end(&s);
    SSL_CTX_free(pc);
}

static void test_client_checks_certificate_and_name(void **state) {
    (void)state;
    const char *c = pki.server_cert, *k = pki.server_key, *ca = pki.ca_file;
    expect_client(c, k, ca, "server.test", false, KTLS_DONE, "no error");
    expect_client(c, k, ca, "127.0.0.1", false, KTLS_DONE, "no error");
    expect_client(c, k, ca, NULL, false, KTLS_DONE, "no error");
    expect_client(c, k, ca, "other.test", false, KTLS_EVERIFY, "hostname mismatch");
    expect_client(c, k, ca, "127.0.0.2", false, KTLS_EVERIFY, "IP address mismatch");
    expect_client(c, k, ca, "other.test", true, KTLS_DONE, "no error");
    expect_client(c, k, pki.other_ca_file, "server.test", false, KTLS_EVERIFY,
                  "certificate verify failed: unable to get local issuer");
    expect_client(pki.expired_cert, pki.expired_key, ca, "server.test", false, KTLS_EVERIFY,
                  "certificate verify failed: certificate has expired");
}

/* The library is the server; cert/key are the client's, NULL: none. */
static void expect_server(enum ktls_verify verify, int version, const char *cert, const char *key, const char *ca, int want,
                          const char *text) {
    struct ktls_ctx_opts o = server_opts(KTLS_POLICY_AUTO);
    struct session s;
    SSL_CTX *pc = peer_ctx(false, version, NULL);
    if (cert) use_cert(pc, cert, key);
    o.verify = verify;
    o.ca_file = ca;
    session_start(&s, &o, pc, 0, NULL);
    assert_int_equal(drive(s.conn, &s.peer), want);
    if (!strstr(ktls_conn_error(s.conn)->text, text)) print_message("%s\n", ktls_conn_error(s.conn)->text);
    assert_non_null(strstr(ktls_conn_error(s.conn)->text, text));
    if (want == KTLS_EVERIFY) assert_int_equal(ktls_conn_error(s.conn)->alert_sent, 1);
    session_end(&s);
    SSL_CTX_free(pc);
}

static void test_server_checks_client_certificate(void **state) {
    (void)state;
    for (int i = 0; i < 2; i++) {
        int v = i ? TLS1_3_VERSION : TLS1_2_VERSION;
        expect_server(KTLS_VERIFY_REQUIRE, v, pki.client_cert, pki.client_key, pki.ca_file, KTLS_DONE, "no error");
        expect_server(KTLS_VERIFY_REQUIRE, v, NULL, NULL, pki.ca_file, KTLS_EVERIFY, "the peer sent no certificate");
        expect_server(KTLS_VERIFY_OPTIONAL, v, NULL, NULL, pki.ca_file, KTLS_DONE, "no error");
        expect_server(KTLS_VERIFY_REQUIRE, v, pki.client_cert, pki.client_key, pki.other_ca_file, KTLS_EVERIFY,
                      "unable to get local issuer");
        expect_server(KTLS_VERIFY_OPTIONAL, v, pki.client_cert, pki.client_key, pki.other_ca_file, KTLS_EVERIFY,
                      "unable to get local issuer");
        expect_server(KTLS_VERIFY_REQUIRE, v, pki.expired_cert, pki.expired_key, pki.ca_file, KTLS_EVERIFY,
                      "certificate has expired");
    }
}

static void test_peer_alert_in_handshake_is_named(void **state) {
    (void)state;
    struct ktls_ctx_opts o = server_opts(KTLS_POLICY_AUTO);
    struct session s;
    SSL_CTX *pc = peer_ctx(false, TLS1_3_VERSION, NULL);
    SSL_CTX_set_verify(pc, SSL_VERIFY_PEER, NULL); /* the peer knows no CA */
    session_start(&s, &o, pc, 0, NULL);
    assert_int_equal(drive(s.conn, &s.peer), KTLS_EALERT);
    assert_string_equal(ktls_conn_error(s.conn)->text, "peer sent fatal alert unknown_ca");
    assert_int_equal(ktls_conn_error(s.conn)->alert, 48);
    session_end(&s);
    SSL_CTX_free(pc);
}

static void test_no_common_version_names_the_alert_sent(void **state) {
    (void)state;
    struct ktls_ctx_opts o = server_opts(KTLS_POLICY_AUTO);
    struct session s;
    o.protocols = KTLS_PROTO_TLS1_3;
    session_start(&s, &o, NULL, TLS1_2_VERSION, NULL);
    assert_int_equal(drive(s.conn, &s.peer), KTLS_EPROTOCOL);
    assert_non_null(strstr(ktls_conn_error(s.conn)->text, "unsupported protocol (sent alert protocol_version)"));
    session_end(&s);
}

static void test_names_cover_every_value(void **state) {
    (void)state;
    for (int i = 0; i < KTLS_N_REASONS; i++) {
        assert_non_null(ktls_reason_name((enum ktls_reason)i));
        assert_string_not_equal(ktls_reason_name((enum ktls_reason)i), "unknown");
        assert_non_null(ktls_reason_remedy((enum ktls_reason)i));
    }
    for (int e = KTLS_ECONFIG; e <= KTLS_EALERT; e++) assert_memory_equal(ktls_strerror(e), "KTLS_E", 6);
    assert_string_equal(ktls_strerror(-ECONNRESET), "ECONNRESET");
    assert_string_equal(ktls_strerror(-100000), "unknown");
    assert_string_equal(ktls_alert_name(40), "handshake_failure");
    assert_string_equal(ktls_alert_name(255), "unknown");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fallback_policy),
        cmocka_unit_test(test_fallback_without_kernel_tells_the_probes_reason),
        cmocka_unit_test(test_fallback_cbc_suite_is_cipher),
        cmocka_unit_test(test_fallback_old_version_is_version),
        cmocka_unit_test(test_fallback_max_fragment_length_is_record_limit),
        cmocka_unit_test(test_fallback_unix_socket_is_not_tcp),
        cmocka_unit_test(test_require_without_kernel_fails),
        cmocka_unit_test(test_plaintext_is_named),
        cmocka_unit_test(test_garbage_behind_a_good_header_is_a_protocol_error),
        cmocka_unit_test(test_peer_closing_in_handshake_is_reset),
        cmocka_unit_test(test_client_checks_certificate_and_name),
        cmocka_unit_test(test_server_checks_client_certificate),
        cmocka_unit_test(test_peer_alert_in_handshake_is_named),
        cmocka_unit_test(test_no_common_version_names_the_alert_sent),
        cmocka_unit_test(test_names_cover_every_value),
    };
    return cmocka_run_group_tests(tests, setup_pki, teardown_pki);
}
