/* Handshake and hand-over: both roles, versions, every cipher, userspace and kernel; sequence numbers; tickets; resumption. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include <linux/tls.h>

#include "ktls_test.h"

#ifndef SOL_TLS
#define SOL_TLS 282
#endif
#ifndef TLS_RX_EXPECT_NO_PAD
#define TLS_RX_EXPECT_NO_PAD 4
#endif

/* 100 KB each way, then close_notify each way. */
static void exchange(struct session *s) {
    enum { LEN = 100000 };
    uint8_t *a = malloc(LEN), *b = malloc(LEN);
    pattern(a, LEN, 1);
    size_t sent = 0, got = 0;
    while (got < LEN) {
        ssize_t n = sent < LEN ? ktls_write(s->conn, a + sent, LEN - sent) : -EAGAIN;
        if (n > 0) sent += (size_t)n;
        assert_true(n > 0 || n == -EAGAIN);
        peer_feed(&s->peer);
        int m;
        while (got < LEN && (m = SSL_read(s->peer.ssl, b + got, (int)(LEN - got))) > 0) got += (size_t)m;
    }
    assert_memory_equal(a, b, LEN);
    pattern(a, LEN, 99);
    memset(b, 0, LEN);
    for (size_t off = 0; off < LEN; off += LEN / 10) {
        peer_write(&s->peer, a + off, LEN / 10);
        assert_int_equal(lib_read(s->conn, b + off, LEN / 10), 0);
    }
    assert_memory_equal(a, b, LEN);
    free(a);
    free(b);
    SSL_shutdown(s->peer.ssl);
    peer_flush(&s->peer);
    assert_int_equal(lib_read_result(s->conn), 0);
    assert_int_equal(ktls_shutdown(s->conn), KTLS_DONE);
    assert_int_equal(peer_read_error(&s->peer), SSL_ERROR_ZERO_RETURN);
}

static void check_one(enum ktls_role role, enum ktls_policy policy, int version, int cipher, enum ktls_mode want) {
    struct ktls_ctx_opts o = role == KTLS_SERVER ? server_opts(policy) : client_opts(policy);
    struct session s;
    struct ktls_conn_info info;
    use_suite(&o, version, cipher);
    session_open(&s, &o, version, suite_name(version, cipher));
    assert_int_equal(ktls_conn_info(s.conn, &info), 0);
    if (info.mode != want)
        print_message("%s: mode %d, reason %s errno %d\n", info.cipher, info.mode, ktls_reason_name(info.reason),
                      info.reason_errno);
    assert_int_equal(info.mode, want);
    assert_int_equal(info.cipher_id, cipher);
    assert_string_equal(info.version, version == TLS1_3_VERSION ? "TLSv1.3" : "TLSv1.2");
    assert_int_equal(info.rx_seq0, version == TLS1_3_VERSION ? 0 : 1);
    if (role == KTLS_CLIENT) assert_int_equal(info.tx_seq0, version == TLS1_3_VERSION ? 0 : 1);
    if (role == KTLS_SERVER) assert_int_equal(info.tx_seq0, version == TLS1_3_VERSION ? 2 : 1);
    exchange(&s);
    session_end(&s);
}

static void check_all(enum ktls_policy policy, enum ktls_mode want) {
    for (int role = 0; role < 2; role++)
        for (int v = 0; v < 2; v++)
            for (int c = 0; c < KTLS_N_CIPHERS; c++)
                check_one((enum ktls_role)role, policy, v ? TLS1_3_VERSION : TLS1_2_VERSION, c, want);
}

static void test_handshake_user_every_suite_both_roles(void **state) {
    (void)state;
    check_all(KTLS_POLICY_OFF, KTLS_MODE_USER);
}

static void test_handshake_kernel_every_suite_both_roles(void **state) {
    (void)state;
    NEED_KERNEL_TLS();
    check_all(KTLS_POLICY_REQUIRE, KTLS_MODE_KERNEL);
    check_all(KTLS_POLICY_TX, KTLS_MODE_TX);
}

/* Both ends are libktls. */
static void check_self(enum ktls_policy policy, unsigned protocol, enum ktls_mode want) {
    struct ktls_ctx_opts so = server_opts(policy), co = client_opts(policy);
    so.protocols = co.protocols = protocol;
    struct ktls_ctx *sc = new_ctx(&so), *cc = new_ctx(&co);
    struct ktls_conn *s, *c;
    int fd[2], rs = 1, rc = 1;
    char buf[6];
    tcp_pair(fd);
    assert_int_equal(ktls_conn_new(sc, fd[1], NULL, &s), 0);
    assert_int_equal(ktls_conn_new(cc, fd[0], "server.test", &c), 0);
    for (int i = 0; i < 100 && (rs || rc); i++) {
        if (rc) rc = ktls_handshake(c);
        if (rs) rs = ktls_handshake(s);
        assert_true(rs >= 0 && rc >= 0);
        wait_fd(fd[0], POLLIN, 1);
    }
    assert_int_equal(ktls_conn_mode(s), want);
    assert_int_equal(ktls_conn_mode(c), want);
    struct ktls_conn_info info;
    ktls_conn_info(s, &info);
    assert_string_equal(info.server_name, "server.test");
    assert_int_equal(ktls_write(s, "hello\n", 6), 6); /* behind the session tickets */
    assert_int_equal(lib_read(c, buf, 6), 0);
    assert_memory_equal(buf, "hello\n", 6);
    assert_int_equal(ktls_write(c, "world\n", 6), 6);
    assert_int_equal(lib_read(s, buf, 6), 0);
    assert_memory_equal(buf, "world\n", 6);
    ktls_conn_free(s);
    ktls_conn_free(c);
    ktls_ctx_unref(sc);
    ktls_ctx_unref(cc);
    close(fd[0]);
    close(fd[1]);
}

static void test_handshake_user_libktls_on_both_ends(void **state) {
    (void)state;
    check_self(KTLS_POLICY_OFF, KTLS_PROTO_TLS1_3, KTLS_MODE_USER);
    check_self(KTLS_POLICY_OFF, KTLS_PROTO_TLS1_2, KTLS_MODE_USER);
}

static void test_handshake_kernel_libktls_on_both_ends(void **state) {
    (void)state;
    NEED_KERNEL_TLS();
    struct ktls_stats before, after;
    ktls_stats(&before);
    check_self(KTLS_POLICY_REQUIRE, KTLS_PROTO_TLS1_3, KTLS_MODE_KERNEL);
    check_self(KTLS_POLICY_REQUIRE, KTLS_PROTO_TLS1_2, KTLS_MODE_KERNEL);
    ktls_stats(&after);
    assert_int_equal(after.tickets_in - before.tickets_in, 2);
    assert_int_equal(after.mode_kernel - before.mode_kernel, 4);
}

static void check_tickets(enum ktls_policy policy, int tickets) {
    struct ktls_ctx_opts o = server_opts(policy);
    struct session s;
    struct ktls_conn_info info;
    char buf[4];
    o.num_tickets = tickets;
    session_open(&s, &o, TLS1_3_VERSION, NULL);
    ktls_conn_info(s.conn, &info);
    assert_int_equal(info.tx_seq0, tickets);
    assert_int_equal(ktls_write(s.conn, "pong", 4), 4);
    peer_read(&s.peer, buf, 4);
    assert_memory_equal(buf, "pong", 4);
    session_end(&s);
}

static void test_tickets_any_number_sequence_is_right(void **state) {
    static const int counts[] = { 0, 1, 2, 4, 8 };
    (void)state;
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        check_tickets(KTLS_POLICY_OFF, counts[i]);
        if (kernel_usable()) check_tickets(KTLS_POLICY_REQUIRE, counts[i]);
        if (kernel_usable()) check_tickets(KTLS_POLICY_TX, counts[i]);
    }
    if (!kernel_usable()) print_message("no kernel TLS: userspace half only\n");
}

static SSL_SESSION *kept;
static int keep_session(SSL *ssl, SSL_SESSION *sess) {
    (void)ssl;
    SSL_SESSION_free(kept);
    kept = sess;
    return 1;
}

/* tickets false: TLS 1.2 by session id, from the server's cache. */
static void check_resumption(enum ktls_policy policy, int version, bool tickets) {
    struct ktls_ctx_opts o = server_opts(policy);
    struct ktls_ctx *ctx = new_ctx(&o);
    SSL_CTX *pc = peer_ctx(false, version, NULL);
    if (!tickets) SSL_CTX_set_options(pc, SSL_OP_NO_TICKET);
    SSL_CTX_set_session_cache_mode(pc, SSL_SESS_CACHE_CLIENT);
    SSL_CTX_sess_set_new_cb(pc, keep_session);
    for (int round = 0; round < 3; round++) {
        int fd[2];
        struct ktls_conn *conn;
        struct peer p;
        struct ktls_conn_info info;
        char buf[4];
        tcp_pair(fd);
        assert_int_equal(ktls_conn_new(ctx, fd[1], NULL, &conn), 0);
        peer_init(&p, pc, false, fd[0]);
        if (kept) SSL_set_session(p.ssl, kept);
        assert_int_equal(drive(conn, &p), KTLS_DONE);
        ktls_conn_info(conn, &info);
        assert_int_equal(info.resumed, round > 0);
        assert_int_equal(SSL_session_reused(p.ssl), round > 0);
        assert_int_equal(ktls_write(conn, "pong", 4), 4);
        peer_read(&p, buf, 4);
        peer_write(&p, "ping", 4);
        assert_int_equal(lib_read(conn, buf, 4), 0);
        assert_memory_equal(buf, "ping", 4);
        SSL_shutdown(p.ssl);
        ktls_conn_free(conn);
        peer_done(&p);
        close(fd[0]);
        close(fd[1]);
    }
    SSL_SESSION_free(kept);
    kept = NULL;
    SSL_CTX_free(pc);
    ktls_ctx_unref(ctx);
}

static void check_all_resumptions(enum ktls_policy policy) {
    check_resumption(policy, TLS1_3_VERSION, true);
    check_resumption(policy, TLS1_2_VERSION, true);
    check_resumption(policy, TLS1_2_VERSION, false);
}

static void test_resumption_user(void **state) {
    (void)state;
    check_all_resumptions(KTLS_POLICY_OFF);
}

static void test_resumption_kernel_abbreviated_handshake(void **state) {
    (void)state;
    NEED_KERNEL_TLS();
    check_all_resumptions(KTLS_POLICY_REQUIRE);
    check_all_resumptions(KTLS_POLICY_TX);
}

/* A peer that sends data and FIN right behind its Finished: TCP_ULP would refuse the socket afterwards. */
static void test_handshake_kernel_peer_half_closes_behind_finished(void **state) {
    (void)state;
    NEED_KERNEL_TLS();
    struct ktls_ctx_opts o = server_opts(KTLS_POLICY_REQUIRE);
    struct session s;
    char buf[4];
    session_start(&s, &o, NULL, TLS1_3_VERSION, NULL);
    assert_false(peer_handshake(&s.peer));
    assert_int_equal(ktls_handshake(s.conn), KTLS_WANT_READ);
    peer_feed(&s.peer);
    assert_int_equal(SSL_do_handshake(s.peer.ssl), 1);
    assert_int_equal(SSL_write(s.peer.ssl, "ping", 4), 4);
    SSL_shutdown(s.peer.ssl);
    peer_flush(&s.peer);
    shutdown(s.fd[0], SHUT_WR);
    wait_fd(s.fd[1], POLLIN, 1000);
    usleep(20000);
    assert_int_equal(ktls_handshake(s.conn), KTLS_DONE);
    assert_int_equal(ktls_conn_mode(s.conn), KTLS_MODE_KERNEL);
    assert_int_equal(lib_read(s.conn, buf, 4), 0);
    assert_int_equal(lib_read_result(s.conn), 0);
    assert_int_equal(ktls_write(s.conn, "pong", 4), 4);
    peer_read(&s.peer, buf, 4);
    assert_memory_equal(buf, "pong", 4);
    session_end(&s);
}

/* So that it opens a record where the reader wants it; TLS 1.2 has no padding. */
static void test_handshake_kernel_expects_no_padding(void **state) {
    (void)state;
    NEED_KERNEL_TLS();
    struct ktls_probe probe;
    assert_int_equal(ktls_probe(&probe), 0);
    for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
        struct session s;
        struct ktls_ctx_opts o = server_opts(KTLS_POLICY_REQUIRE);
        session_open(&s, &o, version, NULL);
        int set = -1;
        socklen_t len = sizeof set;
        int r = getsockopt(s.fd[1], SOL_TLS, TLS_RX_EXPECT_NO_PAD, &set, &len);
        if (version == TLS1_3_VERSION) {
            assert_true(r < 0 ? probe.expect_no_pad : set == (probe.expect_no_pad == 0)); /* not where padded records suffer */
        } else {
            assert_true(r < 0 || set == 0);
        }
        session_end(&s);
    }
}

static void test_handshake_mutual_tls_tells_subject(void **state) {
    (void)state;
    struct ktls_ctx_opts o = server_opts(KTLS_POLICY_AUTO);
    struct session s;
    struct ktls_conn_info info;
    o.verify = KTLS_VERIFY_REQUIRE;
    SSL_CTX *pc = peer_ctx(false, TLS1_3_VERSION, NULL);
    SSL_CTX_use_certificate_chain_file(pc, pki.client_cert);
    SSL_CTX_use_PrivateKey_file(pc, pki.client_key, SSL_FILETYPE_PEM);
    session_start(&s, &o, pc, 0, NULL);
    assert_int_equal(drive(s.conn, &s.peer), KTLS_DONE);
    ktls_conn_info(s.conn, &info);
    assert_int_equal(info.peer_cert, 1);
    assert_string_equal(info.peer_subject, "CN=client,O=libktls test");
    assert_true(info.handshake_us > 0);
    session_end(&s);
    SSL_CTX_free(pc);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_handshake_user_every_suite_both_roles),
        cmocka_unit_test(test_handshake_kernel_every_suite_both_roles),
        cmocka_unit_test(test_handshake_user_libktls_on_both_ends),
        cmocka_unit_test(test_handshake_kernel_libktls_on_both_ends),
        cmocka_unit_test(test_tickets_any_number_sequence_is_right),
        cmocka_unit_test(test_resumption_user),
        cmocka_unit_test(test_resumption_kernel_abbreviated_handshake),
        cmocka_unit_test(test_handshake_kernel_peer_half_closes_behind_finished),
        cmocka_unit_test(test_handshake_kernel_expects_no_padding),
        cmocka_unit_test(test_handshake_mutual_tls_tells_subject),
    };
    return cmocka_run_group_tests(tests, setup_pki, teardown_pki);
}
