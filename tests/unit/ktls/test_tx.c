/*
 * Half offload (KTLS_POLICY_TX): the kernel sends, userspace receives. Every suite, both versions, both roles; KeyUpdates from
 * either side; what the received records want said (alerts, answers) arrives under the kernel's key; the end in either direction.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include "ktls_test.h"

#include <sys/sendfile.h>

static struct ktls_ctx_opts tx_opts(int role) {
    return role == KTLS_SERVER ? server_opts(KTLS_POLICY_TX) : client_opts(KTLS_POLICY_TX);
}

static void open_tx(struct session *s, int role, int version, int cipher) {
    struct ktls_ctx_opts o = tx_opts(role);
    use_suite(&o, version, cipher);
    session_open(s, &o, version, suite_name(version, cipher));
    assert_int_equal(ktls_conn_mode(s->conn), KTLS_MODE_TX);
}

static void open_tx13(struct session *s) {
    open_tx(s, KTLS_SERVER, TLS1_3_VERSION, KTLS_AES_128_GCM);
}

static void both_ways(struct session *s, size_t len, unsigned seed) {
    static uint8_t a[100000], b[100000];
    pattern(a, len, seed);
    peer_write(&s->peer, a, len);
    assert_int_equal(lib_read(s->conn, b, len), 0);
    assert_memory_equal(a, b, len);
    pattern(a, len, seed + 1);
    for (size_t done = 0; done < len;) {
        ssize_t n = ktls_write(s->conn, a + done, len - done);
        assert_true(n > 0 || n == -EAGAIN);
        if (n > 0) done += (size_t)n;
        peer_feed(&s->peer);
    }
    peer_read(&s->peer, b, len);
    assert_memory_equal(a, b, len);
}

/* ---- The hand-over ---- */

static void test_tx_every_suite_version_and_role(void **state) {
    (void)state;
    NEED_KERNEL_TLS();
    struct ktls_stats before = stats_now();
    for (int role = 0; role < 2; role++)
        for (int v = TLS1_2_VERSION; v <= TLS1_3_VERSION; v++)
            for (int c = 0; c < KTLS_N_CIPHERS; c++) {
                long tx = tls_stat("TlsTxSw"), rx = tls_stat("TlsRxSw");
                struct session s;
                open_tx(&s, role, v, c);
                assert_int_equal(tls_stat("TlsTxSw") - tx, 1); /* the kernel has the one key and not the other */
                assert_int_equal(tls_stat("TlsRxSw") - rx, 0);
                both_ways(&s, 98304, (unsigned)c);
                both_ways(&s, 100, (unsigned)c);
                struct ktls_conn_info info = info_of(&s);
                assert_int_equal(info.reason, KTLS_REASON_NONE);
                assert_string_equal(info.cipher, v == TLS1_3_VERSION ? tls13_suites[c] : tls12_suites[c]);
                assert_int_equal(ktls_shutdown(s.conn), KTLS_DONE);
                assert_int_equal(peer_read_error(&s.peer), SSL_ERROR_ZERO_RETURN);
                session_end(&s);
            }
    assert_int_equal(stats_now().mode_tx - before.mode_tx, 16);
    assert_int_equal(stats_now().mode_kernel - before.mode_kernel, 0);
    assert_int_equal(stats_now().mode_user - before.mode_user, 0);
}

/* The calls of a plain socket send; the reading side is fed from memory, as an event loop does it. */
static void test_tx_plain_send_and_memory_input(void **state) {
    (void)state;
    NEED_KERNEL_TLS();
    struct session s;
    char buf[8192];
    const void *out;
    open_tx13(&s);
    assert_int_equal(ktls_mem_start(s.conn), 0);
    struct iovec iov[2] = { { buf, 3 }, { buf + 3, 4 } };
    memcpy(buf, "one two", 7);
    assert_int_equal(writev(s.fd[1], iov, 2), 7);
    ktls_count_tx(s.conn, 7);
    FILE *f = tmpfile();
    fputs("three", f);
    fflush(f);
    off_t off = 0;
    assert_int_equal(sendfile(s.fd[1], fileno(f), &off, 5), 5);
    fclose(f);
    peer_read(&s.peer, buf, 12);
    assert_memory_equal(buf, "one twothree", 12);
    for (int i = 0; i < 3; i++) {
        peer_write(&s.peer, "hello", 5);
        wait_fd(s.fd[1], POLLIN, 1000);
        ssize_t n = recv(s.fd[1], buf, sizeof buf, 0);
        assert_true(n > 5); /* ciphertext */
        assert_int_equal(ktls_mem_input(s.conn, buf, (size_t)n), 0);
        assert_int_equal(ktls_read(s.conn, buf, sizeof buf), 5);
        assert_memory_equal(buf, "hello", 5);
        assert_int_equal(ktls_read(s.conn, buf, sizeof buf), -EAGAIN);
    }
    assert_int_equal(ktls_mem_output(s.conn, &out), 0);
    SSL_shutdown(s.peer.ssl);
    peer_flush(&s.peer);
    wait_fd(s.fd[1], POLLIN, 1000);
    ssize_t n = recv(s.fd[1], buf, sizeof buf, 0);
    assert_int_equal(ktls_mem_input(s.conn, buf, (size_t)n), 0);
    assert_int_equal(ktls_read(s.conn, buf, sizeof buf), 0);
    session_end(&s);
}

static void test_tx_cannot_be_asked_for_control_records(void **state) {
    (void)state;
    NEED_KERNEL_TLS();
    struct session s;
    open_tx13(&s);
    assert_int_equal(ktls_control(s.conn), -EINVAL);
    both_ways(&s, 1000, 3);
    session_end(&s);
}

/* Where the kernel cannot: userspace, with the reason. */
static void test_tx_fallback_has_its_reason(void **state) {
    (void)state;
    struct ktls_ctx_opts o = server_opts(KTLS_POLICY_TX);
    struct session s;
    struct ktls_probe probe;
    ktls_probe(&probe);
    o.ciphers = "ECDHE-ECDSA-AES128-SHA256";
    session_open(&s, &o, TLS1_2_VERSION, o.ciphers);
    assert_int_equal(info_of(&s).mode, KTLS_MODE_USER);
    assert_int_equal(info_of(&s).reason, probe.usable ? KTLS_REASON_CIPHER : probe.reason);
    both_ways(&s, 1000, 1);
    session_end(&s);
    o = server_opts(KTLS_POLICY_TX);
    o.on_old_kernel = KTLS_OLD_KERNEL_USERSPACE;
    session_open(&s, &o, TLS1_3_VERSION, NULL);
    if (can_rekey())
        assert_int_equal(info_of(&s).mode, KTLS_MODE_TX);
    else
        assert_int_equal(info_of(&s).reason, probe.usable ? KTLS_REASON_NO_REKEY : probe.reason);
    both_ways(&s, 1000, 1);
    session_end(&s);
}

/* ---- KeyUpdate ---- */

static void check_peer_key_update(int role, int cipher, int how) {
    struct session s;
    char buf[8];
    open_tx(&s, role, TLS1_3_VERSION, cipher);
    both_ways(&s, 5000, 1);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(SSL_write(s.peer.ssl, "before", 6), 6);
        assert_int_equal(SSL_key_update(s.peer.ssl, how), 1);
        assert_int_equal(SSL_write(s.peer.ssl, "behind", 6), 6);
        peer_flush(&s.peer);
        assert_int_equal(lib_read(s.conn, buf, 6), 0);
        assert_memory_equal(buf, "before", 6);
        assert_int_equal(lib_read(s.conn, buf, 6), 0);
        assert_memory_equal(buf, "behind", 6);
        both_ways(&s, 5000, (unsigned)i * 7);
    }
    struct ktls_conn_info info = info_of(&s);
    assert_int_equal(info.key_updates_in, 3);
    assert_int_equal(info.key_updates_out, how == SSL_KEY_UPDATE_REQUESTED ? 3 : 0);
    session_end(&s);
}

static void test_tx_key_update_from_peer(void **state) {
    (void)state;
    NEED_KERNEL_TLS();
    for (int role = 0; role < 2; role++)
        for (int c = 0; c < KTLS_N_CIPHERS; c++) {
            check_peer_key_update(role, c, SSL_KEY_UPDATE_NOT_REQUESTED); /* every kernel: it is not its key */
            if (can_rekey()) check_peer_key_update(role, c, SSL_KEY_UPDATE_REQUESTED);
        }
}

static void test_tx_key_update_ours_and_the_peers_answer(void **state) {
    (void)state;
    NEED_REKEY();
    for (int role = 0; role < 2; role++) {
        struct session s;
        open_tx(&s, role, TLS1_3_VERSION, KTLS_AES_256_GCM);
        for (int i = 0; i < 6; i++) {
            assert_int_equal(ktls_key_update(s.conn, i % 2), KTLS_DONE);
            both_ways(&s, 5000, (unsigned)i);
            both_ways(&s, 5000, (unsigned)i + 50);
        }
        assert_int_equal(info_of(&s).key_updates_out, 6);
        assert_int_equal(info_of(&s).key_updates_in, 3);
        session_end(&s);
    }
}

/* Each side asks in turn. */
static void test_tx_key_updates_crossing(void **state) {
    (void)state;
    NEED_REKEY();
    struct session s;
    open_tx13(&s);
    for (int i = 0; i < 20; i++) {
        if (i % 3 == 0) assert_int_equal(ktls_key_update(s.conn, 1), KTLS_DONE);
        assert_int_equal(SSL_key_update(s.peer.ssl, SSL_KEY_UPDATE_REQUESTED), 1);
        both_ways(&s, 3000, (unsigned)i);
    }
    struct ktls_conn_info info = info_of(&s);
    assert_true(info.key_updates_in >= 20 && info.key_updates_out >= 20);
    session_end(&s);
}

static void test_tx_key_update_answer_waits_for_room(void **state) {
    (void)state;
    NEED_REKEY();
    struct session s;
    static uint8_t junk[16384], back[16384];
    size_t sent = 0;
    char byte;
    int r;
    open_tx13(&s);
    SSL_key_update(s.peer.ssl, SSL_KEY_UPDATE_REQUESTED);
    SSL_do_handshake(s.peer.ssl);
    peer_flush(&s.peer);
    wait_fd(s.fd[1], POLLIN, 1000);
    for (int i = 0; i < 20; i++) { /* the receiver's window may still grow */
        for (ssize_t n; (n = send(s.fd[1], junk, sizeof junk, MSG_DONTWAIT)) > 0;) sent += (size_t)n;
        usleep(1000);
    }
    assert_int_equal(ktls_read(s.conn, &byte, 1), -EAGAIN);
    assert_int_equal(ktls_conn_wants(s.conn), KTLS_WANT_READ);
    r = ktls_flush(s.conn);
    print_message("with %zu bytes unread ktls_flush gave %s\n", sent, ktls_strerror(r));
    if (r == KTLS_WANT_WRITE) {
        ssize_t n = ktls_write(s.conn, "x", 1); /* a busy machine may find room by now */
        assert_true(n == -EAGAIN || n == 1);
        if (n == 1) sent++;
    }
    while (sent > 0) {
        size_t n = sent < sizeof back ? sent : sizeof back;
        peer_read(&s.peer, back, n);
        sent -= n;
    }
    for (int i = 0; i < 100 && (r = ktls_flush(s.conn)) == KTLS_WANT_WRITE; i++) wait_fd(s.fd[1], POLLOUT, 100);
    assert_int_equal(r, KTLS_DONE);
    both_ways(&s, 5000, 4);
    assert_int_equal(info_of(&s).key_updates_out, 1);
    session_end(&s);
}

/* Nothing behind the KeyUpdate is delivered, as in kernel mode; what was before it is. */
static void test_tx_key_update_that_asks_on_an_old_kernel(void **state) {
    (void)state;
    NEED_NO_REKEY();
    struct session s;
    struct ktls_stats before = stats_now();
    char buf[8];
    open_tx13(&s);
    assert_int_equal(ktls_key_update(s.conn, 0), -EOPNOTSUPP);
    SSL_write(s.peer.ssl, "before", 6);
    SSL_key_update(s.peer.ssl, SSL_KEY_UPDATE_REQUESTED);
    SSL_write(s.peer.ssl, "behind", 6);
    peer_flush(&s.peer);
    assert_int_equal(lib_read(s.conn, buf, 6), 0);
    assert_memory_equal(buf, "before", 6);
    assert_int_equal(lib_read_result(s.conn), KTLS_EKEYUPDATE);
    assert_int_equal(stats_now().closed_key_update - before.closed_key_update, 1);
    assert_int_equal(peer_read_error(&s.peer), SSL_ERROR_ZERO_RETURN); /* close_notify, not a reset */
    session_end(&s);
}

/* ---- What received records want said ---- */

static void check_bad_mac(int role, int version, int cipher) {
    struct session s;
    uint8_t rec[200];
    struct ktls_stats before = stats_now();
    open_tx(&s, role, version, cipher);
    both_ways(&s, 1000, 1);
    assert_int_equal(SSL_write(s.peer.ssl, "data", 4), 4);
    size_t n = peer_take(&s.peer, rec, sizeof rec);
    rec[n - 1] ^= 1;
    send_all(s.fd[0], rec, n);
    assert_int_equal(lib_read_result(s.conn), KTLS_EPROTOCOL);
    assert_int_equal(ktls_conn_error(s.conn)->alert, KTLS_ALERT_BAD_RECORD_MAC);
    assert_int_equal(ktls_conn_error(s.conn)->alert_sent, 1);
    assert_int_equal(info_of(&s).alert_out, KTLS_ALERT_BAD_RECORD_MAC);
    assert_int_equal(stats_now().alerts_out - before.alerts_out, 1);
    expect_alert_at_peer(&s, KTLS_ALERT_BAD_RECORD_MAC);
    assert_int_equal(ktls_write(s.conn, "x", 1), KTLS_EPROTOCOL);
    assert_int_equal(ktls_shutdown(s.conn), KTLS_DONE); /* the alert was the last word */
    assert_int_equal(stats_now().alerts_out - before.alerts_out, 1);
    session_end(&s);
}

static void test_tx_bad_mac_alert_goes_out_by_the_kernel(void **state) {
    (void)state;
    NEED_KERNEL_TLS();
    for (int role = 0; role < 2; role++)
        for (int v = TLS1_2_VERSION; v <= TLS1_3_VERSION; v++)
            for (int c = 0; c < KTLS_N_CIPHERS; c++) check_bad_mac(role, v, c);
}

/* The alert is under the key of the moment. */
static void test_tx_alert_after_key_updates(void **state) {
    (void)state;
    NEED_REKEY();
    struct session s;
    uint8_t rec[200];
    open_tx13(&s);
    for (int i = 0; i < 3; i++) assert_int_equal(ktls_key_update(s.conn, 0), KTLS_DONE);
    both_ways(&s, 1000, 1);
    assert_int_equal(SSL_write(s.peer.ssl, "data", 4), 4);
    size_t n = peer_take(&s.peer, rec, sizeof rec);
    rec[3] = 0x48; /* a record that claims 18 KiB */
    send_all(s.fd[0], rec, n);
    assert_int_equal(lib_read_result(s.conn), KTLS_EPROTOCOL);
    expect_alert_at_peer(&s, KTLS_ALERT_RECORD_OVERFLOW);
    session_end(&s);
}

static void test_tx_renegotiation_is_refused(void **state) {
    (void)state;
    NEED_KERNEL_TLS();
    struct session s;
    char buf[8];
    open_tx(&s, KTLS_SERVER, TLS1_2_VERSION, KTLS_AES_128_GCM);
    SSL_renegotiate(s.peer.ssl);
    SSL_do_handshake(s.peer.ssl);
    peer_flush(&s.peer);
    wait_fd(s.fd[1], POLLIN, 1000);
    assert_int_equal(ktls_read(s.conn, buf, sizeof buf),
                     KTLS_EPROTOCOL); /* the warning is said, and the connection ends in order */
    assert_int_equal(ktls_conn_error(s.conn)->alert, KTLS_ALERT_NO_RENEGOTIATION);
    ERR_clear_error();
    assert_int_equal(peer_read_error(&s.peer), SSL_ERROR_SSL); /* OpenSSL takes it for the end */
    assert_int_equal(ERR_GET_REASON(ERR_peek_error()), SSL_R_NO_RENEGOTIATION);
    ERR_clear_error();
    session_end(&s);
}

/* ---- The end ---- */

static void check_close(int role, int version) {
    struct session s;
    open_tx(&s, role, version, KTLS_AES_128_GCM); /* ours first */
    assert_int_equal(ktls_shutdown(s.conn), KTLS_DONE);
    assert_int_equal(ktls_shutdown(s.conn), KTLS_DONE);
    assert_int_equal(ktls_write(s.conn, "x", 1), -EPIPE);
    assert_int_equal(peer_read_error(&s.peer), SSL_ERROR_ZERO_RETURN);
    peer_write(&s.peer, "last", 4); /* the peer may go on */
    char buf[4];
    assert_int_equal(lib_read(s.conn, buf, 4), 0);
    SSL_shutdown(s.peer.ssl);
    peer_flush(&s.peer);
    assert_int_equal(lib_read_result(s.conn), 0);
    session_end(&s);
    open_tx(&s, role, version, KTLS_AES_128_GCM); /* the peer's first */
    SSL_shutdown(s.peer.ssl);
    peer_flush(&s.peer);
    assert_int_equal(lib_read_result(s.conn), 0);
    assert_int_equal(lib_read_result(s.conn), 0);
    assert_int_equal(ktls_write(s.conn, "done", 4), 4);
    peer_read(&s.peer, buf, 4);
    assert_int_equal(ktls_shutdown(s.conn), KTLS_DONE);
    assert_int_equal(peer_read_error(&s.peer), SSL_ERROR_ZERO_RETURN);
    session_end(&s);
    open_tx(&s, role, version, KTLS_AES_128_GCM); /* neither */
    shutdown(s.fd[0], SHUT_WR);
    assert_int_equal(lib_read_result(s.conn), KTLS_ETRUNCATED);
    session_end(&s);
}

static void test_tx_close_notify_both_ways(void **state) {
    (void)state;
    NEED_KERNEL_TLS();
    for (int role = 0; role < 2; role++)
        for (int v = TLS1_2_VERSION; v <= TLS1_3_VERSION; v++) check_close(role, v);
}

/* TLS 1.3: the client learns after its handshake that the server wants a certificate. No close_notify of ours after its alert. */
static void test_tx_fatal_alert_is_named(void **state) {
    (void)state;
    NEED_KERNEL_TLS();
    struct ktls_ctx_opts o = client_opts(KTLS_POLICY_TX);
    struct session s;
    SSL_CTX *pc = peer_ctx(true, TLS1_3_VERSION, NULL);
    SSL_CTX_set_verify(pc, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    session_start(&s, &o, pc, 0, NULL);
    SSL_CTX_free(pc);
    drive(s.conn, &s.peer);
    struct ktls_stats before = stats_now();
    assert_int_equal(lib_read_result(s.conn), KTLS_EALERT);
    assert_string_equal(ktls_conn_error(s.conn)->text, "peer sent fatal alert certificate_required");
    assert_int_equal(ktls_shutdown(s.conn), KTLS_DONE);
    assert_int_equal(stats_now().alerts_out - before.alerts_out, 0);
    session_end(&s);
}

static void test_tx_shutdown_full_socket_does_not_block(void **state) {
    (void)state;
    NEED_KERNEL_TLS();
    struct session s;
    static uint8_t junk[16384];
    size_t sent = 0, got = 0;
    int r, n, e = SSL_ERROR_WANT_READ;
    open_tx13(&s);
    for (int i = 0; i < 20; i++) {
        for (ssize_t k; (k = ktls_write(s.conn, junk, sizeof junk)) > 0;) sent += (size_t)k;
        usleep(1000);
    }
    r = ktls_shutdown(s.conn);
    assert_true(r == KTLS_WANT_WRITE || r == KTLS_DONE);
    for (int i = 0; i < 5000 && e == SSL_ERROR_WANT_READ; i++) {
        if (r == KTLS_WANT_WRITE) r = ktls_shutdown(s.conn);
        peer_feed(&s.peer);
        while ((n = SSL_read(s.peer.ssl, junk, sizeof junk)) > 0) got += (size_t)n;
        e = SSL_get_error(s.peer.ssl, n);
        wait_fd(s.fd[0], POLLIN, 5);
    }
    assert_int_equal(e, SSL_ERROR_ZERO_RETURN);
    assert_int_equal(got, sent);
    session_end(&s);
}

/* ---- Limits ---- */

static void test_tx_counts_are_the_kernels_and_our_own(void **state) {
    (void)state;
    NEED_KERNEL_TLS();
    struct session s;
    uint64_t seq;
    char buf[8];
    open_tx13(&s);
    struct ktls_conn_info before = info_of(&s);
    both_ways(&s, 40000, 1); /* 3 records in; the kernel makes as many or more of it */
    for (int i = 0; i < 7; i++) peer_write(&s.peer, "y", 1);
    assert_int_equal(lib_read(s.conn, buf, 7), 0);
    struct ktls_conn_info after = info_of(&s);
    assert_int_equal(after.records_rx - before.records_rx, 10);
    assert_int_equal(ktls_kernel_get_seq(s.fd[1], KTLS_TX, s.conn->version, s.conn->cipher, &seq), 0);
    assert_true(seq >= before.tx_seq0 + 3 && after.records_tx >= seq);
    session_end(&s);
}

static void open_limited(struct session *s, int version, uint64_t records) {
    struct ktls_ctx_opts o = server_opts(KTLS_POLICY_TX);
    o.rekey_after_records = records;
    o.max_key_updates_per_s = 1000000;
    session_open(s, &o, version, NULL);
    assert_int_equal(ktls_conn_mode(s->conn), KTLS_MODE_TX);
}

static void test_tx_limits_change_the_keys(void **state) {
    (void)state;
    NEED_REKEY();
    struct session s;
    open_limited(&s, TLS1_3_VERSION, 10);
    for (int i = 0; i < 100; i++) both_ways(&s, 50, (unsigned)i);
    struct ktls_conn_info info = info_of(&s);
    print_message("100 records each way, a key for 10: %d KeyUpdates in, %d out\n", (int)info.key_updates_in,
                  (int)info.key_updates_out);
    assert_in_range(info.key_updates_in, 8, 12);   /* asked for: what is received has its limit too */
    assert_in_range(info.key_updates_out, 10, 24); /* for both directions */
    assert_int_equal(info.rekeys_by_limit, info.key_updates_out);
    session_end(&s);
}

/* TLS 1.2, and TLS 1.3 where the kernel cannot change keys: every record that was accepted arrives, then close_notify. */
static void check_end_in_order(int version, bool sending) {
    struct session s;
    struct ktls_stats before = stats_now();
    char buf[8];
    ssize_t r = 8;
    int n = 0;
    open_limited(&s, version, 32);
    for (; r == 8 && n < 100; n++) {
        if (sending) {
            r = ktls_write(s.conn, "12345678", 8);
        } else {
            peer_write(&s.peer, "12345678", 8);
            r = lib_read(s.conn, buf, 8);
            if (r == 0) r = 8;
        }
    }
    assert_int_equal(r, KTLS_ERECORDLIMIT);
    assert_in_range(n, 26, 34);
    for (int i = 1; sending && i < n; i++) peer_read(&s.peer, buf, 8);
    assert_int_equal(peer_read_error(&s.peer), SSL_ERROR_ZERO_RETURN);
    assert_int_equal(stats_now().closed_record_limit - before.closed_record_limit, 1);
    session_end(&s);
}

static void test_tx_limits_end_in_order_where_keys_cannot_change(void **state) {
    (void)state;
    NEED_KERNEL_TLS();
    for (int sending = 0; sending < 2; sending++) {
        check_end_in_order(TLS1_2_VERSION, sending);
        if (!can_rekey()) check_end_in_order(TLS1_3_VERSION, sending);
    }
}

/* The kernel can send any alert, so it is the one of kernel mode. */
static void test_tx_flood_of_key_updates_is_ended(void **state) {
    (void)state;
    NEED_KERNEL_TLS();
    struct ktls_ctx_opts o = server_opts(KTLS_POLICY_TX);
    struct session s;
    struct ktls_stats before = stats_now();
    o.max_key_updates_per_s = 20;
    session_open(&s, &o, TLS1_3_VERSION, NULL);
    for (int i = 0; i < 200; i++) { /* all of it in the socket before the first read */
        assert_int_equal(SSL_key_update(s.peer.ssl, SSL_KEY_UPDATE_NOT_REQUESTED), 1);
        SSL_do_handshake(s.peer.ssl);
    }
    peer_flush(&s.peer);
    assert_int_equal(lib_read_result(s.conn), KTLS_EPROTOCOL);
    assert_in_range(info_of(&s).key_updates_in, 20, 43);
    assert_int_equal(stats_now().key_update_floods - before.key_update_floods, 1);
    expect_alert_at_peer(&s, KTLS_ALERT_UNEXPECTED_MESSAGE);
    session_end(&s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tx_every_suite_version_and_role),
        cmocka_unit_test(test_tx_plain_send_and_memory_input),
        cmocka_unit_test(test_tx_cannot_be_asked_for_control_records),
        cmocka_unit_test(test_tx_fallback_has_its_reason),
        cmocka_unit_test(test_tx_key_update_from_peer),
        cmocka_unit_test(test_tx_key_update_ours_and_the_peers_answer),
        cmocka_unit_test(test_tx_key_updates_crossing),
        cmocka_unit_test(test_tx_key_update_answer_waits_for_room),
        cmocka_unit_test(test_tx_key_update_that_asks_on_an_old_kernel),
        cmocka_unit_test(test_tx_bad_mac_alert_goes_out_by_the_kernel),
        cmocka_unit_test(test_tx_alert_after_key_updates),
        cmocka_unit_test(test_tx_renegotiation_is_refused),
        cmocka_unit_test(test_tx_close_notify_both_ways),
        cmocka_unit_test(test_tx_fatal_alert_is_named),
        cmocka_unit_test(test_tx_shutdown_full_socket_does_not_block),
        cmocka_unit_test(test_tx_counts_are_the_kernels_and_our_own),
        cmocka_unit_test(test_tx_limits_change_the_keys),
        cmocka_unit_test(test_tx_limits_end_in_order_where_keys_cannot_change),
        cmocka_unit_test(test_tx_flood_of_key_updates_is_ended),
    };
    return cmocka_run_group_tests(tests, setup_pki, teardown_pki);
}
