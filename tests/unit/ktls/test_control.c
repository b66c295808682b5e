/*
 * After the hand-over: control records in and out of a kernel-TLS socket. Records that no well-behaved peer sends come from
 * raw_peer.h; the table of all of them, in both modes, is test_record_table.c.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include "raw_peer.h"

#include <sys/sendfile.h>
#include <sys/wait.h>

/* ---- A peer whose keys the test knows ---- */

static void open_forged(struct raw *f, struct session *s, enum ktls_role role) {
    struct ktls_ctx_opts o = role == KTLS_SERVER ? server_opts(KTLS_POLICY_REQUIRE) : client_opts(KTLS_POLICY_REQUIRE);
    raw_open(f, s, &o, TLS1_3_VERSION, KTLS_AES_128_GCM);
}

static void forge(struct raw *f, uint8_t type, const void *data, size_t len) {
    raw_record(f, type, data, len);
    raw_flush(f);
}

/* ---- As the caller of a plain socket sees it ---- */

static void test_control_close_notify_by_plain_recv(void **state) {
    (void)state;
    NEED_KERNEL_TLS();
    struct ktls_ctx_opts o = server_opts(KTLS_POLICY_REQUIRE);
    struct session s;
    char buf[8];
    session_open(&s, &o, TLS1_3_VERSION, NULL);
    peer_write(&s.peer, "last", 4);
    SSL_shutdown(s.peer.ssl);
    peer_flush(&s.peer);
    wait_fd(s.fd[1], POLLIN, 1000);
    assert_int_equal(recv(s.fd[1], buf, sizeof buf, 0), 4);
    wait_fd(s.fd[1], POLLIN, 1000);
    assert_int_equal(recv(s.fd[1], buf, sizeof buf, 0), -1);
    assert_int_equal(errno, EIO);
    assert_int_equal(ktls_control(s.conn), KTLS_EOF);
    assert_int_equal(ktls_control(s.conn), KTLS_EOF);
    struct ktls_conn_info info;
    ktls_conn_info(s.conn, &info);
    assert_int_equal(info.control_records, 1);
    assert_int_equal(ktls_shutdown(s.conn), KTLS_DONE);
    assert_int_equal(ktls_shutdown(s.conn), KTLS_DONE);
    assert_int_equal(peer_read_error(&s.peer), SSL_ERROR_ZERO_RETURN);
    assert_int_equal(ktls_write(s.conn, "x", 1), -EPIPE);
    session_end(&s);
}

static void test_control_needless_call_loses_no_data(void **state) {
    (void)state;
    NEED_KERNEL_TLS();
    struct ktls_ctx_opts o = server_opts(KTLS_POLICY_REQUIRE);
    struct session s;
    char buf[4];
    session_open(&s, &o, TLS1_3_VERSION, NULL);
    assert_int_equal(ktls_control(s.conn), KTLS_DONE);
    peer_write(&s.peer, "data", 4);
    wait_fd(s.fd[1], POLLIN, 1000);
    assert_int_equal(ktls_control(s.conn), KTLS_DONE);
    assert_int_equal(recv(s.fd[1], buf, 4, 0), 4);
    assert_memory_equal(buf, "data", 4);
    session_end(&s);
}

static void test_control_fin_without_close_notify_is_truncation(void **state) {
    (void)state;
    NEED_KERNEL_TLS();
    struct ktls_ctx_opts o = server_opts(KTLS_POLICY_REQUIRE);
    struct session s;
    session_open(&s, &o, TLS1_2_VERSION, NULL);
    shutdown(s.fd[0], SHUT_WR);
    assert_int_equal(lib_read_result(s.conn), KTLS_ETRUNCATED);
    session_end(&s);
}

/* ---- Alerts and violations ---- */

static void test_control_fatal_alert_is_named(void **state) {
    (void)state;
    NEED_KERNEL_TLS();
    static const struct {
        uint8_t alert;
        const char *text;
    } cases[] = { { 48, "peer sent fatal alert unknown_ca" },
                  { 116, "peer sent fatal alert certificate_required" },
                  { 80, "peer sent fatal alert internal_error" } };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct session s;
        struct raw f;
        open_forged(&f, &s, KTLS_SERVER);
        uint8_t msg[2] = { 2, cases[i].alert };
        forge(&f, 21, msg, 2);
        assert_int_equal(lib_read_result(s.conn), KTLS_EALERT);
        assert_string_equal(ktls_conn_error(s.conn)->text, cases[i].text);
        assert_int_equal(ktls_conn_error(s.conn)->alert, cases[i].alert);
        assert_int_equal(ktls_conn_error(s.conn)->alert_sent, 0);
        session_end(&s);
    }
}

/* A client without a certificate finishes a TLS 1.3 handshake and learns only then that it was refused. */
static void test_control_client_without_certificate_learns_after_handover(void **state) {
    (void)state;
    NEED_KERNEL_TLS();
    struct ktls_ctx_opts o = client_opts(KTLS_POLICY_REQUIRE);
    struct session s;
    SSL_CTX *pc = peer_ctx(true, TLS1_3_VERSION, NULL);
    SSL_CTX_set_verify(pc, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    session_start(&s, &o, pc, 0, NULL);
    assert_int_equal(drive(s.conn, &s.peer), KTLS_DONE);
    assert_false(peer_handshake(&s.peer));
    assert_int_equal(lib_read_result(s.conn), KTLS_EALERT);
    assert_string_equal(ktls_conn_error(s.conn)->text, "peer sent fatal alert certificate_required");
    session_end(&s);
    SSL_CTX_free(pc);
}

static void check_violation(enum ktls_role role, uint8_t type, const void *data, size_t len, int alert) {
    struct session s;
    struct raw f;
    open_forged(&f, &s, role);
    forge(&f, type, data, len);
    assert_int_equal(lib_read_result(s.conn), KTLS_EPROTOCOL);
    assert_int_equal(ktls_conn_error(s.conn)->alert, alert);
    assert_int_equal(ktls_conn_error(s.conn)->alert_sent, 1);
    expect_alert_at_peer(&s, alert);
    session_end(&s);
}

static void test_control_violations_are_answered_by_alert(void **state) {
    (void)state;
    NEED_KERNEL_TLS();
    check_violation(KTLS_SERVER, 22, "\1\0\0\1x", 5, 10);
    check_violation(KTLS_SERVER, 22, "\4\0\0\1x", 5, 10);
    check_violation(KTLS_CLIENT, 22, "\15\0\0\1x", 5, 10);
    check_violation(KTLS_SERVER, 22, "\30\0\0\1\2", 5, 47);
    check_violation(KTLS_SERVER, 21, "\2", 1, 10);
    check_violation(KTLS_SERVER, 24, "\1\0\0", 3, 10);
}

static void test_control_tickets_coalesced_and_fragmented(void **state) {
    (void)state;
    NEED_KERNEL_TLS();
    struct session s;
    struct raw f;
    struct ktls_stats before, after;
    char buf[4];
    uint8_t msgs[3 * TICKET_LEN(5)];
    for (size_t i = 0; i < 3; i++) put_ticket(msgs + i * TICKET_LEN(5), 5);
    open_forged(&f, &s, KTLS_CLIENT);
    ktls_stats(&before);
    forge(&f, 22, msgs, sizeof msgs - 10);
    forge(&f, 22, msgs + sizeof msgs - 10, 10);
    forge(&f, 23, "data", 4);
    assert_int_equal(lib_read(s.conn, buf, 4), 0);
    assert_memory_equal(buf, "data", 4);
    ktls_stats(&after);
    assert_int_equal(after.tickets_in - before.tickets_in, 3);
    session_end(&s);
}

static void test_control_flood_without_data_is_ended(void **state) {
    (void)state;
    NEED_KERNEL_TLS();
    struct session s;
    struct raw f;
    open_forged(&f, &s, KTLS_SERVER);
    for (int i = 0; i < 300; i++) forge(&f, 21, "\1\132", 2); /* user_canceled */
    usleep(20000);
    assert_int_equal(lib_read_result(s.conn), KTLS_EPROTOCOL);
    session_end(&s);
    open_forged(&f, &s, KTLS_SERVER); /* fewer are taken in, and the data behind them is there */
    char buf[4];
    for (int i = 0; i < 100; i++) forge(&f, 21, "\1\132", 2);
    forge(&f, 23, "data", 4);
    assert_int_equal(lib_read(s.conn, buf, 4), 0);
    session_end(&s);
}

static void test_control_renegotiation_is_refused(void **state) {
    (void)state;
    NEED_KERNEL_TLS();
    struct ktls_ctx_opts o = server_opts(KTLS_POLICY_REQUIRE);
    struct session s;
    session_open(&s, &o, TLS1_2_VERSION, NULL);
    SSL_renegotiate(s.peer.ssl);
    SSL_do_handshake(s.peer.ssl);
    peer_flush(&s.peer);
    assert_int_equal(lib_read_result(s.conn), KTLS_EPROTOCOL);
    assert_int_equal(ktls_conn_error(s.conn)->alert, KTLS_ALERT_NO_RENEGOTIATION);
    session_end(&s);
}

static void test_control_bad_record_is_answered_by_alert(void **state) {
    (void)state;
    NEED_KERNEL_TLS();
    struct session s;
    struct raw f;
    char buf[8];
    open_forged(&f, &s, KTLS_SERVER);
    f.seq[KTLS_TX] = 5;
    forge(&f, 23, "data", 4);
    wait_fd(s.fd[1], POLLIN, 1000);
    assert_int_equal(recv(s.fd[1], buf, sizeof buf, 0), -1);
    assert_int_equal(errno, EBADMSG);
    assert_int_equal(ktls_io_error(s.conn, EBADMSG), KTLS_EPROTOCOL);
    assert_int_equal(ktls_conn_error(s.conn)->alert, KTLS_ALERT_BAD_RECORD_MAC);
    expect_alert_at_peer(&s, KTLS_ALERT_BAD_RECORD_MAC);
    session_end(&s);
}

/* ---- KeyUpdate ---- */

static void both_ways(struct session *s, unsigned seed) {
    uint8_t a[5000], b[5000];
    pattern(a, sizeof a, seed);
    peer_write(&s->peer, a, sizeof a);
    assert_int_equal(lib_read(s->conn, b, sizeof b), 0);
    assert_memory_equal(a, b, sizeof a);
    pattern(a, sizeof a, seed + 1);
    assert_int_equal(ktls_write(s->conn, a, sizeof a), sizeof a);
    peer_read(&s->peer, b, sizeof b);
    assert_memory_equal(a, b, sizeof a);
}

/* The peer's KeyUpdate and data behind it in one segment; then both ways; several times; every suite; both roles. */
static void check_peer_key_update(enum ktls_role role, int cipher, int how) {
    struct ktls_ctx_opts o = role == KTLS_SERVER ? server_opts(KTLS_POLICY_REQUIRE) : client_opts(KTLS_POLICY_REQUIRE);
    struct session s;
    struct ktls_conn_info info;
    char buf[8];
    use_suite(&o, TLS1_3_VERSION, cipher);
    session_open(&s, &o, TLS1_3_VERSION, tls13_suites[cipher]);
    both_ways(&s, 1);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(SSL_write(s.peer.ssl, "before", 6), 6);
        assert_int_equal(SSL_key_update(s.peer.ssl, how), 1);
        assert_int_equal(SSL_write(s.peer.ssl, "behind", 6), 6);
        peer_flush(&s.peer);
        assert_int_equal(lib_read(s.conn, buf, 6), 0);
        assert_memory_equal(buf, "before", 6);
        assert_int_equal(lib_read(s.conn, buf, 6), 0);
        assert_memory_equal(buf, "behind", 6);
        both_ways(&s, (unsigned)i * 7);
    }
    ktls_conn_info(s.conn, &info);
    assert_int_equal(info.key_updates_in, 3);
    assert_int_equal(info.key_updates_out, how == SSL_KEY_UPDATE_REQUESTED ? 3 : 0);
    session_end(&s);
}

static void test_key_update_from_peer_every_suite(void **state) {
    (void)state;
    NEED_REKEY();
    for (int role = 0; role < 2; role++)
        for (int c = 0; c < KTLS_N_CIPHERS; c++) {
            check_peer_key_update((enum ktls_role)role, c, SSL_KEY_UPDATE_NOT_REQUESTED);
            check_peer_key_update((enum ktls_role)role, c, SSL_KEY_UPDATE_REQUESTED);
        }
}

static void test_key_update_ours_and_the_peers_answer(void **state) {
    (void)state;
    NEED_REKEY();
    struct ktls_ctx_opts o = server_opts(KTLS_POLICY_REQUIRE);
    struct session s;
    struct ktls_conn_info info;
    session_open(&s, &o, TLS1_3_VERSION, NULL);
    for (int i = 0; i < 5; i++) {
        assert_int_equal(ktls_key_update(s.conn, i % 2), KTLS_DONE);
        both_ways(&s, (unsigned)i);
        both_ways(&s, (unsigned)i + 50);
    }
    ktls_conn_info(s.conn, &info);
    assert_int_equal(info.key_updates_out, 5);
    assert_int_equal(info.key_updates_in, 2);
    session_end(&s);
}

/* Through plain recv: nothing can be read behind a KeyUpdate before ktls_control() has set the new key. */
static void test_key_update_by_plain_recv(void **state) {
    (void)state;
    NEED_REKEY();
    struct ktls_ctx_opts o = server_opts(KTLS_POLICY_REQUIRE);
    struct session s;
    char buf[8];
    session_open(&s, &o, TLS1_3_VERSION, NULL);
    SSL_key_update(s.peer.ssl, SSL_KEY_UPDATE_REQUESTED);
    peer_write(&s.peer, "behind", 6);
    wait_fd(s.fd[1], POLLIN, 1000);
    assert_int_equal(recv(s.fd[1], buf, sizeof buf, 0), -1);
    assert_int_equal(errno, EIO);
    assert_int_equal(ktls_control(s.conn), KTLS_DONE);
    assert_int_equal(recv(s.fd[1], buf, sizeof buf, 0), 6);
    both_ways(&s, 3);
    session_end(&s);
}

/* Our answer finds the socket full: no data may pass before it. */
static void test_key_update_answer_waits_for_room(void **state) {
    (void)state;
    NEED_REKEY();
    struct ktls_ctx_opts o = server_opts(KTLS_POLICY_REQUIRE);
    struct session s;
    static uint8_t junk[16384], back[16384];
    size_t sent = 0;
    session_open(&s, &o, TLS1_3_VERSION, NULL);
    SSL_key_update(s.peer.ssl, SSL_KEY_UPDATE_REQUESTED);
    SSL_do_handshake(s.peer.ssl);
    peer_flush(&s.peer);
    wait_fd(s.fd[1], POLLIN, 1000);
    for (int i = 0; i < 20; i++) { /* the receiver's window may still grow */
        for (ssize_t n; (n = send(s.fd[1], junk, sizeof junk, MSG_DONTWAIT)) > 0;) sent += (size_t)n;
        usleep(1000);
    }
    int r = ktls_control(s.conn);
    print_message("with %zu bytes unread ktls_control gave %s\n", sent, ktls_strerror(r));
    assert_true(r == KTLS_WANT_WRITE || r == KTLS_DONE);
    if (r == KTLS_WANT_WRITE) {
        /* A busy machine may find room by now: then the KeyUpdate went first, or the peer could not read on. */
        ssize_t n = ktls_write(s.conn, "x", 1);
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
    both_ways(&s, 4);
    session_end(&s);
}

static void test_key_update_in_pieces_is_refused_or_taken(void **state) {
    (void)state;
    NEED_KERNEL_TLS();
    struct session s;
    struct raw f;
    open_forged(&f, &s, KTLS_SERVER);
    forge(&f, 22, "\30\0", 2);
    forge(&f, 22, "\0\1\0", 3);
    usleep(20000);
    ssize_t r = lib_read_result(s.conn);
    print_message("a KeyUpdate in two records: %s: %s\n", ktls_strerror((int)r), ktls_conn_error(s.conn)->text);
    assert_true(r == KTLS_EPROTOCOL || r == KTLS_EKEYUPDATE);
    session_end(&s);
}

static void test_key_update_on_old_kernel_closes_in_order(void **state) {
    (void)state;
    NEED_NO_REKEY();
    struct ktls_ctx_opts o = server_opts(KTLS_POLICY_REQUIRE);
    struct session s;
    struct ktls_stats before, after;
    session_open(&s, &o, TLS1_3_VERSION, NULL);
    assert_int_equal(ktls_key_update(s.conn, 1), -EOPNOTSUPP);
    ktls_stats(&before);
    SSL_key_update(s.peer.ssl, SSL_KEY_UPDATE_NOT_REQUESTED);
    SSL_do_handshake(s.peer.ssl);
    peer_flush(&s.peer);
    assert_int_equal(lib_read_result(s.conn), KTLS_EKEYUPDATE);
    ktls_stats(&after);
    assert_int_equal(after.closed_key_update - before.closed_key_update, 1);
    assert_int_equal(peer_read_error(&s.peer), SSL_ERROR_ZERO_RETURN); /* close_notify, not a reset */
    session_end(&s);
}

static void test_key_update_tls12_is_not_supported(void **state) {
    (void)state;
    NEED_KERNEL_TLS();
    struct ktls_ctx_opts o = server_opts(KTLS_POLICY_REQUIRE);
    struct session s;
    session_open(&s, &o, TLS1_2_VERSION, NULL);
    assert_int_equal(ktls_key_update(s.conn, 0), -EOPNOTSUPP);
    session_end(&s);
}

/* ---- Sending
 * ------------------------------------------------------------------------------------------------------------------------------
 */

static void test_shutdown_full_socket_does_not_block(void **state) {
    (void)state;
    NEED_KERNEL_TLS();
    struct ktls_ctx_opts o = server_opts(KTLS_POLICY_REQUIRE);
    struct session s;
    static uint8_t junk[16384], back[16384];
    size_t sent = 0;
    int r;
    session_open(&s, &o, TLS1_3_VERSION, NULL);
    pattern(junk, sizeof junk, 9);
    for (ssize_t n; (n = ktls_write(s.conn, junk, sizeof junk)) > 0;) sent += (size_t)n;
    r = ktls_shutdown(s.conn);
    print_message("with %zu bytes unread ktls_shutdown gave %s\n", sent, ktls_strerror(r));
    assert_true(r == KTLS_WANT_WRITE || r == KTLS_DONE);
    while (sent > 0) {
        size_t n = sent < sizeof back ? sent : sizeof back;
        peer_read(&s.peer, back, n);
        sent -= n;
    }
    for (int i = 0; i < 100 && (r = ktls_shutdown(s.conn)) == KTLS_WANT_WRITE; i++) wait_fd(s.fd[1], POLLOUT, 100);
    assert_int_equal(r, KTLS_DONE);
    assert_int_equal(peer_read_error(&s.peer), SSL_ERROR_ZERO_RETURN);
    session_end(&s);
}

static void test_plain_socket_calls_writev_sendfile_fork(void **state) {
    (void)state;
    NEED_KERNEL_TLS();
    struct ktls_ctx_opts o = server_opts(KTLS_POLICY_REQUIRE);
    struct session s;
    char a[64], buf[64];
    struct iovec iov[64];
    o.num_tickets = 0;
    session_open(&s, &o, TLS1_3_VERSION, NULL);
    for (int i = 0; i < 64; i++) {
        a[i] = (char)i;
        iov[i] = (struct iovec){ &a[i], 1 };
    }
    assert_int_equal(writev(s.fd[1], iov, 64), 64);
    usleep(10000);
    uint8_t rec[256];
    assert_int_equal(recv(s.fd[0], rec, sizeof rec, MSG_PEEK), 5 + 64 + 1 + 16); /* one record */
    peer_read(&s.peer, buf, 64);
    assert_memory_equal(buf, a, 64);

    char path[128];
    snprintf(path, sizeof path, "%s/file", pki.dir);
    int file = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    static uint8_t big[100000], back[100000];
    pattern(big, sizeof big, 3);
    assert_int_equal(write(file, big, sizeof big), sizeof big);
    off_t at = 0;
    size_t got = 0;
    while (got < sizeof big) {
        if (at < (off_t)sizeof big) sendfile(s.fd[1], file, &at, sizeof big - (size_t)at);
        peer_feed(&s.peer);
        int m = SSL_read(s.peer.ssl, back + got, (int)(sizeof back - got));
        if (m > 0) got += (size_t)m;
    }
    assert_memory_equal(big, back, sizeof big);
    close(file);
    unlink(path);

    pid_t pid = fork();
    if (pid == 0) _exit(send(s.fd[1], "child", 5, 0) == 5 ? 0 : 1);
    int st;
    waitpid(pid, &st, 0);
    assert_int_equal(st, 0);
    assert_int_equal(send(s.fd[1], "parent", 6, 0), 6);
    peer_read(&s.peer, buf, 11);
    assert_memory_equal(buf, "childparent", 11);
    session_end(&s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_control_close_notify_by_plain_recv),
        cmocka_unit_test(test_control_needless_call_loses_no_data),
        cmocka_unit_test(test_control_fin_without_close_notify_is_truncation),
        cmocka_unit_test(test_control_fatal_alert_is_named),
        cmocka_unit_test(test_control_client_without_certificate_learns_after_handover),
        cmocka_unit_test(test_control_violations_are_answered_by_alert),
        cmocka_unit_test(test_control_tickets_coalesced_and_fragmented),
        cmocka_unit_test(test_control_flood_without_data_is_ended),
        cmocka_unit_test(test_control_renegotiation_is_refused),
        cmocka_unit_test(test_control_bad_record_is_answered_by_alert),
        cmocka_unit_test(test_key_update_from_peer_every_suite),
        cmocka_unit_test(test_key_update_ours_and_the_peers_answer),
        cmocka_unit_test(test_key_update_by_plain_recv),
        cmocka_unit_test(test_key_update_answer_waits_for_room),
        cmocka_unit_test(test_key_update_in_pieces_is_refused_or_taken),
        cmocka_unit_test(test_key_update_on_old_kernel_closes_in_order),
        cmocka_unit_test(test_key_update_tls12_is_not_supported),
        cmocka_unit_test(test_shutdown_full_socket_does_not_block),
        cmocka_unit_test(test_plain_socket_calls_writev_sendfile_fork),
    };
    return cmocka_run_group_tests(tests, setup_pki, teardown_pki);
}
