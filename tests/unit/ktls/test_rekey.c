/*
 * The limit on records under one key, in both directions and every mode: keys are changed in time, or the connection ends in
 * order; KeyUpdates without end are not put up with; no record of ours is under the wrong key while sends are in flight.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include "ktls_test.h"

#include <sys/wait.h>
#include <time.h>

static void open_limited(struct session *s, enum ktls_policy policy, int version, uint64_t records) {
    struct ktls_ctx_opts o = server_opts(policy);
    o.rekey_after_records = records;
    o.max_key_updates_per_s = 1000000;
    session_open(s, &o, version, NULL);
}

/* ---- Counting ---- */

static void test_sequence_numbers_are_told_by_the_kernel(void **state) {
    (void)state;
    NEED_KERNEL_TLS();
    for (int v = TLS1_2_VERSION; v <= TLS1_3_VERSION; v++)
        for (int c = 0; c < KTLS_N_CIPHERS; c++) {
            struct ktls_ctx_opts o = server_opts(KTLS_POLICY_REQUIRE);
            struct session s;
            char buf[40000];
            uint64_t tx, rx;
            use_suite(&o, v, c);
            session_open(&s, &o, v, suite_name(v, c));
            struct ktls_conn_info info = info_of(&s);
            memset(buf, 'x', sizeof buf);
            assert_int_equal(ktls_write(s.conn, buf, 100), 100);
            assert_int_equal(ktls_write(s.conn, buf, sizeof buf), sizeof buf); /* three records */
            peer_read(&s.peer, buf, 100 + sizeof buf - 100);
            for (int i = 0; i < 7; i++) peer_write(&s.peer, "y", 1);
            assert_int_equal(lib_read(s.conn, buf, 7), 0);
            assert_int_equal(ktls_kernel_get_seq(s.fd[1], KTLS_TX, s.conn->version, s.conn->cipher, &tx), 0);
            assert_int_equal(ktls_kernel_get_seq(s.fd[1], KTLS_RX, s.conn->version, s.conn->cipher, &rx), 0);
            assert_int_equal(tx, info.tx_seq0 + 4);
            assert_int_equal(rx, info.rx_seq0 + 7);
            info = info_of(&s);
            assert_true(info.records_tx >= tx && info.records_rx >= rx);
            session_end(&s);
        }
}

static void test_userspace_counts_every_record(void **state) {
    (void)state;
    struct session s;
    char buf[40000];
    open_limited(&s, KTLS_POLICY_OFF, TLS1_3_VERSION, 0);
    struct ktls_conn_info before = info_of(&s);
    assert_int_equal(before.records_tx, before.tx_seq0);
    memset(buf, 'x', sizeof buf);
    assert_int_equal(ktls_write(s.conn, buf, sizeof buf), sizeof buf);
    peer_read(&s.peer, buf, sizeof buf);
    for (int i = 0; i < 7; i++) peer_write(&s.peer, "y", 1);
    assert_int_equal(lib_read(s.conn, buf, 7), 0);
    struct ktls_conn_info after = info_of(&s);
    assert_int_equal(after.records_tx - before.records_tx, 3);
    assert_int_equal(after.records_rx - before.records_rx, 7);
    session_end(&s);
}

static void test_limits_are_those_of_the_suite(void **state) {
    (void)state;
    static const uint64_t want[KTLS_N_CIPHERS] = { UINT64_C(1) << 24, UINT64_C(1) << 24, UINT64_C(1) << 48, UINT64_C(1) << 22 };
    for (int v = TLS1_2_VERSION; v <= TLS1_3_VERSION; v++)
        for (int c = 0; c < KTLS_N_CIPHERS; c++) {
            struct ktls_ctx_opts o = server_opts(KTLS_POLICY_AUTO);
            struct session s;
            use_suite(&o, v, c);
            session_open(&s, &o, v, suite_name(v, c));
            assert_true(s.conn->meter[KTLS_TX].limit == want[c] && s.conn->meter[KTLS_RX].limit == want[c]);
            assert_true(s.conn->meter[KTLS_TX].hard >= want[c]);
            if (c != KTLS_CHACHA20_POLY1305) assert_true(s.conn->meter[KTLS_TX].hard < UINT64_C(23726566));
            session_end(&s);
            o.rekey_after_records = 1000;
            session_open(&s, &o, v, suite_name(v, c));
            assert_int_equal(s.conn->meter[KTLS_TX].limit, 1000);
            session_end(&s);
        }
}

/* The figure that docs/KTLS.md gives. Not a test of speed: it only must not be a system call. */
static void test_counting_costs_little(void **state) {
    (void)state;
    NEED_KERNEL_TLS();
    struct session s;
    struct timespec a, b;
    uint64_t seq;
    open_limited(&s, KTLS_POLICY_REQUIRE, TLS1_3_VERSION, 0);
    s.conn->meter[KTLS_TX].check = UINT64_MAX;
    clock_gettime(CLOCK_MONOTONIC, &a);
    for (int i = 0; i < 1000000; i++) ktls_count_tx(s.conn, 100);
    clock_gettime(CLOCK_MONOTONIC, &b);
    double count = (double)(b.tv_sec - a.tv_sec) * 1e3 + (double)(b.tv_nsec - a.tv_nsec) / 1e6;
    clock_gettime(CLOCK_MONOTONIC, &a);
    for (int i = 0; i < 10000; i++) ktls_kernel_get_seq(s.fd[1], KTLS_TX, KTLS_TLS13, s.conn->cipher, &seq);
    clock_gettime(CLOCK_MONOTONIC, &b);
    double ask = ((double)(b.tv_sec - a.tv_sec) * 1e3 + (double)(b.tv_nsec - a.tv_nsec) / 1e6) * 100;
    print_message("ktls_count_tx %.1f ns, getsockopt(TLS_TX) %.1f ns\n", count, ask);
    session_end(&s);
}

/* ---- Sending ---- */

static void send_and_check(struct session *s, int n, size_t len) {
    uint8_t a[20000], b[20000];
    for (int i = 0; i < n; i++) {
        pattern(a, len, (unsigned)i);
        assert_int_equal(ktls_write(s->conn, a, len), len);
        peer_read(&s->peer, b, len);
        assert_memory_equal(a, b, len);
    }
}

static void check_tx_limit(enum ktls_policy policy) {
    struct session s;
    struct ktls_stats before = stats_now();
    open_limited(&s, policy, TLS1_3_VERSION, 10);
    send_and_check(&s, 100, 50);
    struct ktls_conn_info info = info_of(&s);
    assert_in_range(info.key_updates_out, 9, 11);
    assert_int_equal(info.rekeys_by_limit, info.key_updates_out);
    assert_int_equal(stats_now().rekeys_by_limit - before.rekeys_by_limit, info.key_updates_out);
    send_and_check(&s, 20, 20000); /* two records each */
    assert_in_range(info_of(&s).key_updates_out - info.key_updates_out, 3, 6);
    session_end(&s);
}

static void test_tx_limit_sends_key_update_kernel(void **state) {
    (void)state;
    NEED_REKEY();
    check_tx_limit(KTLS_POLICY_REQUIRE);
    check_tx_limit(KTLS_POLICY_TX);
}

static void test_tx_limit_sends_key_update_user(void **state) {
    (void)state;
    check_tx_limit(KTLS_POLICY_OFF);
}

/* As a caller that uses the socket itself. */
static void test_tx_limit_plain_send(void **state) {
    (void)state;
    NEED_REKEY();
    struct session s;
    uint8_t a[64], b[64];
    open_limited(&s, KTLS_POLICY_REQUIRE, TLS1_3_VERSION, 16);
    for (int i = 0; i < 200; i++) {
        pattern(a, sizeof a, (unsigned)i);
        assert_int_equal(send(s.fd[1], a, sizeof a, 0), sizeof a);
        if (ktls_count_tx(s.conn, sizeof a)) assert_int_equal(ktls_check_limits(s.conn), KTLS_DONE);
        peer_read(&s.peer, b, sizeof b);
        assert_memory_equal(a, b, sizeof a);
    }
    assert_in_range(info_of(&s).key_updates_out, 12, 15);
    session_end(&s);
}

/* ---- Receiving ---- */

static void receive_and_check(struct session *s, int n, size_t len) {
    uint8_t a[2000], b[2000], byte;
    for (int i = 0; i < n; i++) {
        pattern(a, len, (unsigned)i);
        peer_feed(&s->peer); /* our KeyUpdate, if there is one */
        assert_int_equal(SSL_read(s->peer.ssl, &byte, 1), -1);
        peer_write(&s->peer, a, len);
        assert_int_equal(lib_read(s->conn, b, len), 0);
        assert_memory_equal(a, b, len);
    }
}

static void check_rx_limit(enum ktls_policy policy) {
    struct session s;
    open_limited(&s, policy, TLS1_3_VERSION, 32);
    receive_and_check(&s, 400, 3);
    struct ktls_conn_info info = info_of(&s);
    print_message("400 records: %d KeyUpdates in, %d out\n", (int)info.key_updates_in, (int)info.key_updates_out);
    assert_in_range(info.key_updates_in, 11, 14);
    assert_in_range(info.key_updates_out, info.key_updates_in, info.key_updates_in + 1);
    receive_and_check(&s, 10, 2000);
    session_end(&s);
}

static void test_rx_limit_asks_for_the_peers_key_update_kernel(void **state) {
    (void)state;
    NEED_REKEY();
    check_rx_limit(KTLS_POLICY_REQUIRE);
    check_rx_limit(KTLS_POLICY_TX);
}

static void test_rx_limit_asks_for_the_peers_key_update_user(void **state) {
    (void)state;
    check_rx_limit(KTLS_POLICY_OFF);
}

/* Many bytes are not many records: no KeyUpdate, and the bound comes down. */
static void test_rx_bound_is_corrected(void **state) {
    (void)state;
    NEED_KERNEL_TLS();
    struct session s;
    static uint8_t a[16384], b[16384];
    open_limited(&s, KTLS_POLICY_REQUIRE, TLS1_3_VERSION, 1000);
    for (int i = 0; i < 50; i++) {
        pattern(a, sizeof a, (unsigned)i);
        peer_write(&s.peer, a, sizeof a);
        assert_int_equal(lib_read(s.conn, b, sizeof b), 0);
        assert_memory_equal(a, b, sizeof a);
    }
    struct ktls_conn_info info = info_of(&s);
    print_message("50 records of 16 KiB: bound %d\n", (int)info.records_rx);
    assert_int_equal(info.key_updates_out, 0);
    assert_true(info.records_rx < 50 + 16384);
    session_end(&s);
}

/* A peer that takes our KeyUpdate and does not answer it: asked once, then ended in order. */
static void check_peer_ignores(enum ktls_policy policy) {
    struct session s;
    struct ktls_stats before = stats_now();
    char buf[4];
    int r = 0, n;
    open_limited(&s, policy, TLS1_3_VERSION, 16);
    s.conn->meter[KTLS_RX].hard = 100;
    for (n = 0; n < 200 && r == 0; n++) { /* it writes without ever reading */
        if (SSL_write(s.peer.ssl, "abcd", 4) == 4) peer_flush(&s.peer);
        r = lib_read(s.conn, buf, 4);
    }
    print_message("ended after %d records: %s\n", n, ktls_conn_error(s.conn)->text);
    assert_int_equal(r, KTLS_ERECORDLIMIT);
    assert_in_range(n, 95, 105);
    assert_int_equal(info_of(&s).key_updates_out, 1);
    assert_int_equal(stats_now().closed_record_limit - before.closed_record_limit, 1);
    peer_feed(&s.peer);
    assert_int_equal(peer_read_error(&s.peer), SSL_ERROR_ZERO_RETURN);
    session_end(&s);
}

static void test_rx_limit_peer_that_ignores_is_ended_kernel(void **state) {
    (void)state;
    NEED_REKEY();
    check_peer_ignores(KTLS_POLICY_REQUIRE);
    check_peer_ignores(KTLS_POLICY_TX);
}

static void test_rx_limit_peer_that_ignores_is_ended_user(void **state) {
    (void)state;
    check_peer_ignores(KTLS_POLICY_OFF);
}

static void test_key_update_is_asked_for_once(void **state) {
    (void)state;
    NEED_REKEY();
    struct session s;
    char byte;
    open_limited(&s, KTLS_POLICY_REQUIRE, TLS1_3_VERSION, 0);
    assert_int_equal(ktls_key_update(s.conn, 1), KTLS_DONE);
    assert_int_equal(ktls_key_update(s.conn, 1), KTLS_DONE); /* changes our key; does not ask again */
    peer_feed(&s.peer);
    SSL_read(s.peer.ssl, &byte, 1);
    peer_write(&s.peer, "a", 1);
    assert_int_equal(lib_read(s.conn, &byte, 1), 0);
    assert_int_equal(info_of(&s).key_updates_in, 1);
    assert_int_equal(info_of(&s).key_updates_out, 2);
    session_end(&s);
}

/* ---- Where keys cannot be changed ---- */

/* ktls_write alone: every record that was accepted arrives, then close_notify. */
static void check_end_in_order(enum ktls_policy policy, int version) {
    struct session s;
    struct ktls_stats before = stats_now();
    uint8_t a[64], b[64];
    int n = 0;
    ssize_t r;
    open_limited(&s, policy, version, 32);
    pattern(a, sizeof a, 5);
    while ((r = ktls_write(s.conn, a, sizeof a)) == sizeof a) n++;
    print_message("ended after %d records: %s\n", n, ktls_conn_error(s.conn)->text);
    assert_int_equal(r, KTLS_ERECORDLIMIT);
    assert_in_range(n, 26, 32);
    assert_int_equal(ktls_write(s.conn, a, sizeof a), KTLS_ERECORDLIMIT);
    for (int i = 0; i < n; i++) {
        peer_read(&s.peer, b, sizeof b);
        assert_memory_equal(a, b, sizeof a);
    }
    assert_int_equal(peer_read_error(&s.peer), SSL_ERROR_ZERO_RETURN);
    assert_int_equal(stats_now().closed_record_limit - before.closed_record_limit, 1);
    session_end(&s);
}

static void test_limit_tls12_ends_in_order_kernel(void **state) {
    (void)state;
    NEED_KERNEL_TLS();
    check_end_in_order(KTLS_POLICY_REQUIRE, TLS1_2_VERSION);
    check_end_in_order(KTLS_POLICY_TX, TLS1_2_VERSION);
}

static void test_limit_tls12_ends_in_order_user(void **state) {
    (void)state;
    check_end_in_order(KTLS_POLICY_OFF, TLS1_2_VERSION);
}

static void test_limit_old_kernel_ends_in_order(void **state) {
    (void)state;
    NEED_NO_REKEY();
    check_end_in_order(KTLS_POLICY_REQUIRE, TLS1_3_VERSION);
    check_end_in_order(KTLS_POLICY_TX, TLS1_3_VERSION);
}

/* The peer's records count as well. */
static void test_limit_tls12_receiving_ends_in_order(void **state) {
    (void)state;
    NEED_KERNEL_TLS();
    struct session s;
    char buf[4];
    int r = 0, n;
    open_limited(&s, KTLS_POLICY_REQUIRE, TLS1_2_VERSION, 32);
    for (n = 0; n < 100 && r == 0; n++) {
        peer_write(&s.peer, "abcd", 4);
        r = lib_read(s.conn, buf, 4);
    }
    assert_int_equal(r, KTLS_ERECORDLIMIT);
    assert_in_range(n, 28, 33);
    assert_int_equal(peer_read_error(&s.peer), SSL_ERROR_ZERO_RETURN);
    session_end(&s);
}

/* Who asks is told, and may still send what it has. */
static void check_told(enum ktls_policy policy) {
    struct session s;
    uint8_t b[8];
    int n = 0;
    open_limited(&s, policy, TLS1_2_VERSION, 32);
    for (;; n++) {
        assert_int_equal(ktls_write(s.conn, "12345678", 8), 8);
        peer_read(&s.peer, b, 8);
        if (ktls_count_tx(s.conn, 0) && ktls_check_limits(s.conn) != KTLS_DONE) break;
        assert_true(n < 100);
    }
    int r = ktls_check_limits(s.conn);
    assert_int_equal(r, KTLS_ERECORDLIMIT);
    assert_string_equal(ktls_strerror(r), "KTLS_ERECORDLIMIT");
    for (int i = 0; i < 100; i++) {
        assert_int_equal(ktls_write(s.conn, "12345678", 8), 8);
        peer_read(&s.peer, b, 8);
    }
    assert_int_equal(ktls_check_limits(s.conn), KTLS_ERECORDLIMIT);
    assert_int_equal(ktls_shutdown(s.conn), KTLS_DONE);
    assert_int_equal(peer_read_error(&s.peer), SSL_ERROR_ZERO_RETURN);
    session_end(&s);
}

static void test_limit_told_may_send_its_last_words(void **state) {
    (void)state;
    check_told(KTLS_POLICY_OFF);
    NEED_KERNEL_TLS();
    check_told(KTLS_POLICY_REQUIRE);
    check_told(KTLS_POLICY_TX);
}

static void test_old_kernel_policy_userspace(void **state) {
    (void)state;
    NEED_KERNEL_TLS();
    struct ktls_ctx_opts o = server_opts(KTLS_POLICY_AUTO);
    struct session s;
    o.on_old_kernel = KTLS_OLD_KERNEL_USERSPACE;
    session_open(&s, &o, TLS1_3_VERSION, NULL);
    struct ktls_conn_info info = info_of(&s);
    assert_int_equal(info.mode, can_rekey() ? KTLS_MODE_KERNEL : KTLS_MODE_USER);
    assert_string_equal(ktls_reason_name(info.reason), can_rekey() ? "none" : "no-rekey");
    assert_int_equal(SSL_key_update(s.peer.ssl, SSL_KEY_UPDATE_REQUESTED), 1);
    peer_write(&s.peer, "a", 1);
    char byte;
    assert_int_equal(lib_read(s.conn, &byte, 1), 0);
    send_and_check(&s, 3, 100);
    session_end(&s);
    session_open(&s, &o, TLS1_2_VERSION, NULL); /* nobody can send KeyUpdate there */
    assert_int_equal(info_of(&s).mode, KTLS_MODE_KERNEL);
    session_end(&s);
}

/* ---- KeyUpdates without end ---- */

static void peer_key_updates(struct session *s, int n) {
    for (int i = 0; i < n; i++) {
        assert_int_equal(SSL_key_update(s->peer.ssl, SSL_KEY_UPDATE_NOT_REQUESTED), 1);
        SSL_do_handshake(s->peer.ssl);
        peer_flush(&s->peer);
    }
}

static void check_flood(enum ktls_policy policy, bool with_data) {
    struct ktls_ctx_opts o = server_opts(policy);
    struct session s;
    struct ktls_stats before = stats_now();
    char buf[8];
    o.max_key_updates_per_s = 20;
    session_open(&s, &o, TLS1_3_VERSION, NULL);
    ssize_t r = 0;
    int n = 0;
    while (r >= 0 && n < 100) { /* one byte of data each is no excuse */
        peer_key_updates(&s, 1);
        if (with_data) peer_write(&s.peer, "x", 1);
        wait_fd(s.fd[1], POLLIN, 1000);
        r = ktls_read(s.conn, buf, sizeof buf);
        if (r == -EAGAIN) r = 0;
        n++;
    }
    print_message("ended after %d: %s\n", n, ktls_conn_error(s.conn)->text);
    assert_int_equal(r, KTLS_EPROTOCOL);
    assert_in_range(n, 20, 62); /* a second may begin meanwhile */
    assert_int_equal(stats_now().key_update_floods - before.key_update_floods, 1);
    expect_alert_at_peer(&s, KTLS_ALERT_UNEXPECTED_MESSAGE);
    session_end(&s);
}

static void test_flood_of_key_updates_is_ended_kernel(void **state) {
    (void)state;
    NEED_REKEY();
    check_flood(KTLS_POLICY_REQUIRE, false);
    check_flood(KTLS_POLICY_REQUIRE, true);
    check_flood(KTLS_POLICY_TX, false);
    check_flood(KTLS_POLICY_TX, true);
}

static void test_flood_of_key_updates_is_ended_user(void **state) {
    (void)state;
    check_flood(KTLS_POLICY_OFF, false);
    check_flood(KTLS_POLICY_OFF, true);
}

/* All of it in the socket before the first read. */
static void test_flood_in_one_go_is_stopped(void **state) {
    (void)state;
    struct session s;
    char buf[8];
    struct ktls_ctx_opts o = server_opts(KTLS_POLICY_OFF);
    session_open(&s, &o, TLS1_3_VERSION, NULL);
    peer_key_updates(&s, 1000);
    peer_write(&s.peer, "x", 1);
    wait_fd(s.fd[1], POLLIN, 1000);
    assert_int_equal(ktls_read(s.conn, buf, sizeof buf), KTLS_EPROTOCOL);
    assert_int_equal(info_of(&s).key_updates_in, 101);
    session_end(&s);
}

/* With 64 KiB between them there may be as many as the peer likes. */
static void check_frequent_rekey_with_data(enum ktls_policy policy) {
    struct ktls_ctx_opts o = server_opts(policy);
    struct session s;
    static uint8_t a[16384], b[65536];
    o.max_key_updates_per_s = 5;
    session_open(&s, &o, TLS1_3_VERSION, NULL);
    for (int i = 0; i < 40; i++) {
        peer_key_updates(&s, 1);
        for (int k = 0; k < 4; k++) peer_write(&s.peer, a, sizeof a);
        assert_int_equal(lib_read(s.conn, b, sizeof b), 0);
    }
    assert_int_equal(info_of(&s).key_updates_in, 40);
    session_end(&s);
}

static void test_frequent_key_updates_with_data_are_no_flood(void **state) {
    (void)state;
    check_frequent_rekey_with_data(KTLS_POLICY_OFF);
    NEED_REKEY();
    check_frequent_rekey_with_data(KTLS_POLICY_REQUIRE);
    check_frequent_rekey_with_data(KTLS_POLICY_TX);
}

/* ---- The gate ---- */

static void test_gate_key_update_waits_for_sends_in_flight(void **state) {
    (void)state;
    NEED_REKEY();
    struct session s;
    char buf[8];
    open_limited(&s, KTLS_POLICY_REQUIRE, TLS1_3_VERSION, 0);
    assert_int_equal(ktls_tx_begin(s.conn), 0);
    assert_int_equal(ktls_tx_begin(s.conn), 0);
    assert_int_equal(ktls_key_update(s.conn, 0), KTLS_WANT_WRITE);
    assert_int_equal(ktls_tx_begin(s.conn), -EAGAIN);
    assert_int_equal(ktls_flush(s.conn), KTLS_WANT_WRITE);
    assert_int_equal(send(s.fd[1], "ab", 2, 0), 2);
    assert_int_equal(ktls_tx_end(s.conn, 2), KTLS_DONE);
    assert_int_equal(info_of(&s).key_updates_out, 0);
    assert_int_equal(send(s.fd[1], "cd", 2, 0), 2);
    assert_int_equal(ktls_tx_end(s.conn, 2), KTLS_DONE);
    assert_int_equal(info_of(&s).key_updates_out, 1);
    assert_int_equal(ktls_tx_begin(s.conn), 0);
    assert_int_equal(send(s.fd[1], "ef", 2, 0), 2);
    assert_int_equal(ktls_shutdown(s.conn), KTLS_WANT_WRITE);
    assert_int_equal(ktls_tx_end(s.conn, 2), KTLS_DONE);
    assert_int_equal(ktls_tx_begin(s.conn), -EPIPE);
    peer_read(&s.peer, buf, 6);
    assert_memory_equal(buf, "abcdef", 6);
    assert_int_equal(peer_read_error(&s.peer), SSL_ERROR_ZERO_RETURN);
    session_end(&s);
}

/* A child writes more than the socket's buffer holds, the peer asks for a new key in the middle of it, and gets it afterwards. */
static void test_gate_is_held_for_another_process(void **state) {
    (void)state;
    NEED_REKEY();
    enum { BYTES = 4 << 20, PIECE = 1 << 16 };
    struct session s;
    static char sent[PIECE], got[PIECE];
    for (int i = 0; i < PIECE; i++) sent[i] = (char)(i * 7 + i / 251);
    open_limited(&s, KTLS_POLICY_REQUIRE, TLS1_3_VERSION, 0);
    assert_int_equal(ktls_tx_begin(s.conn), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        struct pollfd p = { .fd = s.fd[1], .events = POLLOUT };
        for (int at = 0; at < BYTES;) {
            ssize_t n = send(s.fd[1], sent + at % PIECE, (size_t)(PIECE - at % PIECE), MSG_NOSIGNAL);
            if (n > 0) at += (int)n;
            if (n < 0 && errno != EAGAIN) _exit(1);
            if (n < 0) poll(&p, 1, -1);
        }
        _exit(0);
    }
    for (int at = 0; at < BYTES; at += PIECE) {
        peer_read(&s.peer, got, PIECE);
        assert_memory_equal(got, sent, PIECE);
        if (at != BYTES / 2 / PIECE * PIECE) continue;
        assert_int_equal(SSL_key_update(s.peer.ssl, SSL_KEY_UPDATE_REQUESTED), 1);
        peer_write(&s.peer, "x", 1);
        ssize_t n;
        while ((n = recv(s.fd[1], got, 1, 0)) != 1) /* a record under the new key, behind the KeyUpdate */
            if (n < 0 && errno == EIO) assert_int_equal(ktls_control(s.conn), KTLS_WANT_WRITE);
        assert_int_equal(got[0], 'x');
        assert_int_equal(info_of(&s).key_updates_in, 1);
        assert_int_equal(info_of(&s).key_updates_out, 0);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    assert_int_equal(ktls_tx_end(s.conn, BYTES), KTLS_DONE);
    assert_int_equal(info_of(&s).key_updates_out, 1);
    assert_int_equal(send(s.fd[1], "after", 5, 0), 5);
    peer_read(&s.peer, got, 5);
    assert_memory_equal(got, "after", 5);
    session_end(&s);
}

static void test_gate_is_not_for_userspace(void **state) {
    (void)state;
    struct session s;
    open_limited(&s, KTLS_POLICY_OFF, TLS1_3_VERSION, 0);
    assert_int_equal(ktls_tx_begin(s.conn), -EINVAL);
    session_end(&s);
}

static void test_gate_tells_the_limit(void **state) {
    (void)state;
    NEED_KERNEL_TLS();
    struct session s;
    char buf[2];
    int r = KTLS_DONE, n = 0;
    open_limited(&s, KTLS_POLICY_REQUIRE, TLS1_2_VERSION, 32);
    for (; r == KTLS_DONE && n < 100; n++) {
        assert_int_equal(ktls_tx_begin(s.conn), 0);
        assert_int_equal(send(s.fd[1], "ab", 2, 0), 2);
        r = ktls_tx_end(s.conn, 2);
        peer_read(&s.peer, buf, 2);
    }
    assert_int_equal(r, KTLS_ERECORDLIMIT);
    assert_in_range(n, 26, 31);
    assert_int_equal(ktls_shutdown(s.conn), KTLS_DONE);
    assert_int_equal(peer_read_error(&s.peer), SSL_ERROR_ZERO_RETURN);
    session_end(&s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sequence_numbers_are_told_by_the_kernel),
        cmocka_unit_test(test_userspace_counts_every_record),
        cmocka_unit_test(test_limits_are_those_of_the_suite),
        cmocka_unit_test(test_counting_costs_little),
        cmocka_unit_test(test_tx_limit_sends_key_update_kernel),
        cmocka_unit_test(test_tx_limit_sends_key_update_user),
        cmocka_unit_test(test_tx_limit_plain_send),
        cmocka_unit_test(test_rx_limit_asks_for_the_peers_key_update_kernel),
        cmocka_unit_test(test_rx_limit_asks_for_the_peers_key_update_user),
        cmocka_unit_test(test_rx_bound_is_corrected),
        cmocka_unit_test(test_rx_limit_peer_that_ignores_is_ended_kernel),
        cmocka_unit_test(test_rx_limit_peer_that_ignores_is_ended_user),
        cmocka_unit_test(test_key_update_is_asked_for_once),
        cmocka_unit_test(test_limit_tls12_ends_in_order_kernel),
        cmocka_unit_test(test_limit_tls12_ends_in_order_user),
        cmocka_unit_test(test_limit_old_kernel_ends_in_order),
        cmocka_unit_test(test_limit_tls12_receiving_ends_in_order),
        cmocka_unit_test(test_limit_told_may_send_its_last_words),
        cmocka_unit_test(test_old_kernel_policy_userspace),
        cmocka_unit_test(test_flood_of_key_updates_is_ended_kernel),
        cmocka_unit_test(test_flood_of_key_updates_is_ended_user),
        cmocka_unit_test(test_flood_in_one_go_is_stopped),
        cmocka_unit_test(test_frequent_key_updates_with_data_are_no_flood),
        cmocka_unit_test(test_gate_key_update_waits_for_sends_in_flight),
        cmocka_unit_test(test_gate_is_held_for_another_process),
        cmocka_unit_test(test_gate_is_not_for_userspace),
        cmocka_unit_test(test_gate_tells_the_limit),
    };
    return cmocka_run_group_tests(tests, setup_pki, teardown_pki);
}
