/* Userspace mode: read, write, writev over a descriptor that is full or slow; the end of a connection; memory mode. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include "ktls_test.h"

static void open_user(struct session *s, int version) {
    struct ktls_ctx_opts o = server_opts(KTLS_POLICY_OFF);
    session_open(s, &o, version, NULL);
}

/* ---- Over the fd ---- */

/* The socket fills up in the middle of a record; the retry moves its buffer and has more to say. */
static void test_write_full_socket_retries_with_moved_buffer(void **state) {
    (void)state;
    struct session s;
    enum { LEN = 20000 };
    uint8_t *want = malloc(64 << 20), *back = malloc(64 << 20), *chunk = malloc(LEN);
    size_t sent = 0, got = 0;
    int small = 8192;
    open_user(&s, TLS1_3_VERSION);
    setsockopt(s.fd[1], SOL_SOCKET, SO_SNDBUF, &small, sizeof small);
    pattern(want, 64 << 20, 2);
    while (sent < (1u << 20)) {
        memcpy(chunk, want + sent, LEN);
        ssize_t n = ktls_write(s.conn, chunk, LEN);
        memset(chunk, 0xee, LEN); /* the buffer is the caller's again */
        if (n > 0) {
            sent += (size_t)n;
            continue;
        }
        assert_int_equal(n, -EAGAIN);
        assert_int_equal(ktls_conn_wants(s.conn), KTLS_WANT_WRITE);
        peer_feed(&s.peer);
        int m;
        while ((m = SSL_read(s.peer.ssl, back + got, 16384)) > 0) got += (size_t)m;
    }
    peer_read(&s.peer, back + got, sent - got);
    assert_memory_equal(want, back, sent);
    free(want);
    free(back);
    free(chunk);
    session_end(&s);
}

static void fill_socket(struct session *s, size_t *sent) {
    static uint8_t junk[16384];
    for (ssize_t n; (n = ktls_write(s->conn, junk, sizeof junk)) > 0;) *sent += (size_t)n;
}

static void test_write_retry_with_fewer_bytes_is_refused(void **state) {
    (void)state;
    struct session s;
    size_t sent = 0;
    open_user(&s, TLS1_3_VERSION);
    fill_socket(&s, &sent);
    assert_int_equal(ktls_write(s.conn, "x", 1), -EINVAL);
    session_end(&s);
}

static void test_shutdown_behind_unfinished_write_sends_it_whole(void **state) {
    (void)state;
    struct session s;
    size_t sent = 0;
    static uint8_t back[16384];
    int r;
    open_user(&s, TLS1_3_VERSION);
    fill_socket(&s, &sent);
    assert_int_equal(ktls_shutdown(s.conn), KTLS_WANT_WRITE);
    sent += 16384; /* the record that had been begun */
    while (sent > 0) {
        peer_read(&s.peer, back, sizeof back);
        sent -= sizeof back;
        ktls_shutdown(s.conn);
    }
    for (int i = 0; i < 100 && (r = ktls_shutdown(s.conn)) == KTLS_WANT_WRITE; i++) wait_fd(s.fd[1], POLLOUT, 100);
    assert_int_equal(ktls_shutdown(s.conn), KTLS_DONE);
    assert_int_equal(peer_read_error(&s.peer), SSL_ERROR_ZERO_RETURN);
    session_end(&s);
}

static void test_writev_pieces_become_one_record(void **state) {
    (void)state;
    struct session s;
    struct iovec iov[300];
    char ab[] = "ab", buf[600], rec[1024];
    open_user(&s, TLS1_2_VERSION);
    for (int i = 0; i < 300; i++) iov[i] = (struct iovec){ ab, 2 };
    iov[7].iov_len = 0;
    assert_int_equal(ktls_writev(s.conn, iov, 300), 598);
    wait_fd(s.fd[0], POLLIN, 1000);
    ssize_t n = recv(s.fd[0], rec, sizeof rec, MSG_PEEK);
    assert_int_equal(n, 5 + ((uint8_t)rec[3] << 8 | (uint8_t)rec[4])); /* one record, all of it */
    peer_read(&s.peer, buf, 598);
    for (int i = 0; i < 598; i++) assert_int_equal(buf[i], i % 2 ? 'b' : 'a');
    session_end(&s);
}

static void test_writev_large_pieces_keep_order(void **state) {
    (void)state;
    struct session s;
    enum { LEN = 150000 };
    static uint8_t a[LEN], b[LEN];
    size_t done = 0, got = 0;
    open_user(&s, TLS1_3_VERSION);
    pattern(a, LEN, 77);
    while (got < LEN) {
        struct iovec iov[3] = { { a + done, (LEN - done) / 3 }, { NULL, 0 }, { NULL, 0 } };
        iov[1] = (struct iovec){ a + done + iov[0].iov_len, (LEN - done) / 3 };
        iov[2] = (struct iovec){ a + done + 2 * iov[0].iov_len, LEN - done - 2 * iov[0].iov_len };
        if (done < LEN) {
            ssize_t n = ktls_writev(s.conn, iov, 3);
            assert_true(n > 0 || n == -EAGAIN);
            if (n > 0) done += (size_t)n;
        }
        peer_feed(&s.peer);
        int m;
        while (got < LEN && (m = SSL_read(s.peer.ssl, b + got, (int)(LEN - got))) > 0) got += (size_t)m;
    }
    assert_memory_equal(a, b, LEN);
    session_end(&s);
}

static void test_pending_tells_decrypted_bytes(void **state) {
    (void)state;
    struct session s;
    char buf[10];
    open_user(&s, TLS1_3_VERSION);
    peer_write(&s.peer, "0123456789", 10);
    wait_fd(s.fd[1], POLLIN, 1000);
    assert_int_equal(ktls_read(s.conn, buf, 4), 4);
    assert_int_equal(ktls_pending(s.conn), 6);
    assert_false(wait_fd(s.fd[1], POLLIN, 0));
    assert_int_equal(ktls_read(s.conn, buf, 10), 6);
    assert_int_equal(ktls_pending(s.conn), 0);
    assert_int_equal(ktls_read(s.conn, buf, 10), -EAGAIN);
    assert_int_equal(ktls_conn_wants(s.conn), KTLS_WANT_READ);
    session_end(&s);
}

static void test_read_end_of_stream(void **state) {
    (void)state;
    struct session s;
    char buf[4];
    open_user(&s, TLS1_3_VERSION);
    peer_write(&s.peer, "last", 4);
    SSL_shutdown(s.peer.ssl);
    peer_flush(&s.peer);
    assert_int_equal(lib_read(s.conn, buf, 4), 0);
    assert_int_equal(lib_read_result(s.conn), 0);
    assert_int_equal(lib_read_result(s.conn), 0);
    assert_int_equal(ktls_write(s.conn, "more", 4), 4); /* one direction only is closed */
    peer_read(&s.peer, buf, 4);
    session_end(&s);

    open_user(&s, TLS1_2_VERSION);
    shutdown(s.fd[0], SHUT_WR);
    assert_int_equal(lib_read_result(s.conn), KTLS_ETRUNCATED);
    session_end(&s);
}

static void test_user_alert_is_named_and_renegotiation_refused(void **state) {
    (void)state;
    struct ktls_ctx_opts o = client_opts(KTLS_POLICY_OFF);
    struct session s;
    SSL_CTX *pc = peer_ctx(true, TLS1_3_VERSION, NULL);
    SSL_CTX_set_verify(pc, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    session_start(&s, &o, pc, 0, NULL);
    assert_int_equal(drive(s.conn, &s.peer), KTLS_DONE);
    peer_handshake(&s.peer);
    assert_int_equal(lib_read_result(s.conn), KTLS_EALERT);
    assert_string_equal(ktls_conn_error(s.conn)->text, "peer sent fatal alert certificate_required");
    session_end(&s);
    SSL_CTX_free(pc);
}

static void test_user_key_update_both_sides(void **state) {
    (void)state;
    struct session s;
    char buf[6];
    open_user(&s, TLS1_3_VERSION);
    SSL_key_update(s.peer.ssl, SSL_KEY_UPDATE_REQUESTED);
    peer_write(&s.peer, "behind", 6);
    assert_int_equal(lib_read(s.conn, buf, 6), 0);
    assert_int_equal(ktls_write(s.conn, "answer", 6), 6);
    peer_read(&s.peer, buf, 6);
    assert_int_equal(ktls_key_update(s.conn, 1), KTLS_DONE);
    assert_int_equal(ktls_write(s.conn, "second", 6), 6);
    peer_read(&s.peer, buf, 6);
    assert_memory_equal(buf, "second", 6);
    session_end(&s);
}

/* ---- Whose records ---- */

static void mem_to_peer(struct session *s);
static void mem_from_peer(struct session *s);

/* Data both ways, the peer's close_notify, ours. */
static void check_to_its_end(struct session *s, bool mem) {
    enum { LEN = 40000 };
    static uint8_t a[LEN], b[LEN];
    pattern(a, LEN, 4);
    if (mem) assert_int_equal(ktls_mem_start(s->conn), 0);
    for (size_t at = 0; at < LEN; at += 10000) {
        assert_int_equal(ktls_write(s->conn, a + at, 10000), 10000);
        if (mem) mem_to_peer(s);
        peer_read(&s->peer, b + at, 10000);
        assert_int_equal(SSL_write(s->peer.ssl, a + at, 10000), 10000);
        if (mem)
            mem_from_peer(s);
        else
            peer_flush(&s->peer);
        assert_int_equal(lib_read(s->conn, b + at, 10000), 0);
    }
    assert_memory_equal(a, b, LEN);
    SSL_shutdown(s->peer.ssl);
    if (mem)
        mem_from_peer(s);
    else
        peer_flush(&s->peer);
    assert_int_equal(lib_read_result(s->conn), 0);
    assert_int_equal(ktls_shutdown(s->conn), KTLS_DONE);
    if (mem) mem_to_peer(s);
    assert_int_equal(peer_read_error(&s->peer), SSL_ERROR_ZERO_RETURN);
}

/* Ours: the SSL object is gone, and an idle connection holds no buffer. */
static void test_records_are_ours_for_aead_suites(void **state) {
    (void)state;
    for (int v = TLS1_2_VERSION; v <= TLS1_3_VERSION; v++)
        for (int c = 0; c < KTLS_N_CIPHERS; c++)
            for (int mem = 0; mem < 2; mem++) {
                struct ktls_ctx_opts o = c % 2 ? client_opts(KTLS_POLICY_OFF) : server_opts(KTLS_POLICY_OFF);
                struct session s;
                use_suite(&o, v, c);
                session_open(&s, &o, v, suite_name(v, c));
                assert_null(s.conn->ssl);
                assert_null(s.conn->wire);
                char byte; /* tickets are on the socket, and not in memory */
                peer_feed(&s.peer);
                if (c % 2 && v == TLS1_3_VERSION && wait_fd(s.fd[1], POLLIN, 1000))
                    assert_int_equal(ktls_read(s.conn, &byte, 1), -EAGAIN);
                check_to_its_end(&s, mem);
                assert_null(s.conn->layer->in.data);
                assert_null(s.conn->layer->out.data);
                session_end(&s);
            }
}

/* OpenSSL's: what the record layer does not know. */
static void test_records_are_openssls_for_the_others(void **state) {
    (void)state;
    static const char *const suites[] = { "ECDHE-ECDSA-AES128-SHA256", "ECDHE-ECDSA-AES128-CCM8@SECLEVEL=0", "ALL@SECLEVEL=0",
                                          NULL };
    for (int i = 0; i < 4; i++)
        for (int mem = 0; mem < 2; mem++) {
            struct ktls_ctx_opts o = server_opts(KTLS_POLICY_OFF);
            struct session s;
            int version = i == 2 ? TLS1_1_VERSION : i == 3 ? TLS1_3_VERSION : TLS1_2_VERSION;
            o.ciphers = suites[i];
            if (i == 2) o.protocols = KTLS_PROTO_TLS1_1;
            SSL_CTX *pc = peer_ctx(false, version, suites[i]);
            if (i == 3) SSL_CTX_set_tlsext_max_fragment_length(pc, TLSEXT_max_fragment_length_512);
            session_start(&s, &o, pc, 0, NULL);
            assert_int_equal(drive(s.conn, &s.peer), KTLS_DONE);
            SSL_CTX_free(pc);
            assert_non_null(s.conn->ssl);
            assert_null(s.conn->layer);
            assert_int_equal(info_of(&s).reason, KTLS_REASON_POLICY);
            assert_int_equal(ktls_export(s.conn, NULL, 0), -EOPNOTSUPP);
            peer_feed(&s.peer);
            check_to_its_end(&s, mem);
            session_end(&s);
        }
}

/* ---- In memory ---- */

static void mem_to_peer(struct session *s) {
    const void *data;
    size_t len;
    while ((len = ktls_mem_output(s->conn, &data)) > 0) {
        size_t n = len > 100 ? len - 50 : len; /* not always all of it */
        assert_int_equal(BIO_write(s->peer.in, data, (int)n), n);
        ktls_mem_sent(s->conn, n);
    }
}

static void mem_from_peer(struct session *s) {
    char *data;
    long n = BIO_get_mem_data(s->peer.out, &data);
    for (long i = 0; i < n; i += 7) assert_int_equal(ktls_mem_input(s->conn, data + i, n - i < 7 ? (size_t)(n - i) : 7), 0);
    (void)BIO_reset(s->peer.out);
}

static void test_mem_mode_both_ways(void **state) {
    (void)state;
    struct session s;
    enum { LEN = 70000 };
    static uint8_t a[LEN], b[LEN];
    open_user(&s, TLS1_3_VERSION);
    assert_int_equal(ktls_mem_start(s.conn), 0);
    peer_feed(&s.peer); /* what was on the socket */
    pattern(a, LEN, 8);
    assert_int_equal(ktls_write(s.conn, a, LEN), LEN); /* never -EAGAIN */
    mem_to_peer(&s);
    size_t got = 0;
    int m;
    while ((m = SSL_read(s.peer.ssl, b + got, LEN)) > 0) got += (size_t)m;
    assert_int_equal(got, LEN);
    assert_memory_equal(a, b, LEN);

    memset(b, 0, LEN);
    assert_int_equal(SSL_write(s.peer.ssl, a, 16384), 16384);
    assert_int_equal(SSL_write(s.peer.ssl, a + 16384, 16384), 16384);
    mem_from_peer(&s);
    ssize_t n;
    for (got = 0; (n = ktls_read(s.conn, b + got, 1000)) > 0;) got += (size_t)n;
    assert_int_equal(n, -EAGAIN);
    assert_int_equal(got, 32768);
    assert_memory_equal(a, b, got);

    SSL_shutdown(s.peer.ssl);
    mem_from_peer(&s);
    assert_int_equal(ktls_read(s.conn, b, 1), 0);
    assert_int_equal(ktls_shutdown(s.conn), KTLS_DONE);
    mem_to_peer(&s);
    assert_int_equal(SSL_read(s.peer.ssl, b, 1), 0);
    assert_int_equal(SSL_get_shutdown(s.peer.ssl), SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
    session_end(&s);
}

static void test_mem_mode_truncation_and_rules(void **state) {
    (void)state;
    struct session s;
    char buf[8];
    open_user(&s, TLS1_2_VERSION);
    assert_int_equal(ktls_mem_start(s.conn), 0);
    SSL_write(s.peer.ssl, "data", 4);
    mem_from_peer(&s);
    assert_int_equal(ktls_mem_input(s.conn, NULL, 0), 0);
    assert_int_equal(ktls_read(s.conn, buf, sizeof buf), 4); /* what came before the end */
    assert_int_equal(ktls_read(s.conn, buf, sizeof buf), KTLS_ETRUNCATED);
    session_end(&s);

    struct ktls_ctx_opts o = server_opts(KTLS_POLICY_OFF);
    session_start(&s, &o, NULL, TLS1_3_VERSION, NULL);
    assert_int_equal(ktls_mem_start(s.conn), -EINVAL); /* before the handshake is done */
    assert_int_equal(ktls_write(s.conn, "x", 1), -ENOTCONN);
    session_end(&s);
}

static void test_mem_mode_bad_record_answers_with_alert(void **state) {
    (void)state;
    struct session s;
    char buf[8];
    char *data;
    open_user(&s, TLS1_3_VERSION);
    assert_int_equal(ktls_mem_start(s.conn), 0);
    peer_feed(&s.peer);
    SSL_write(s.peer.ssl, "data", 4);
    long n = BIO_get_mem_data(s.peer.out, &data);
    data[n - 1] ^= 1;
    mem_from_peer(&s);
    assert_int_equal(ktls_read(s.conn, buf, sizeof buf), KTLS_EPROTOCOL);
    assert_int_equal(ktls_conn_error(s.conn)->alert, KTLS_ALERT_BAD_RECORD_MAC);
    mem_to_peer(&s);
    ERR_clear_error();
    assert_true(SSL_read(s.peer.ssl, buf, sizeof buf) <= 0);
    assert_int_equal(ERR_GET_REASON(ERR_peek_error()), 1000 + KTLS_ALERT_BAD_RECORD_MAC);
    ERR_clear_error();
    session_end(&s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_write_full_socket_retries_with_moved_buffer),
        cmocka_unit_test(test_write_retry_with_fewer_bytes_is_refused),
        cmocka_unit_test(test_shutdown_behind_unfinished_write_sends_it_whole),
        cmocka_unit_test(test_writev_pieces_become_one_record),
        cmocka_unit_test(test_writev_large_pieces_keep_order),
        cmocka_unit_test(test_pending_tells_decrypted_bytes),
        cmocka_unit_test(test_read_end_of_stream),
        cmocka_unit_test(test_user_alert_is_named_and_renegotiation_refused),
        cmocka_unit_test(test_user_key_update_both_sides),
        cmocka_unit_test(test_records_are_ours_for_aead_suites),
        cmocka_unit_test(test_records_are_openssls_for_the_others),
        cmocka_unit_test(test_mem_mode_both_ways),
        cmocka_unit_test(test_mem_mode_truncation_and_rules),
        cmocka_unit_test(test_mem_mode_bad_record_answers_with_alert),
    };
    return cmocka_run_group_tests(tests, setup_pki, teardown_pki);
}
