/*
 * The last handshake record and the first data records in one stream, cut in two at every byte boundary: whatever TCP does with
 * the segments, nothing is lost, doubled or out of order, because the handshake reads no byte past its last record.
 *
 *   KTLS_SPLIT_STRIDE=7    only every seventh boundary: where a handshake takes long
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include "ktls_test.h"

#define DATA_RECORDS 3
#define DATA_LEN (DATA_RECORDS * 21)

static uint8_t data[DATA_LEN];
static size_t stride = 1;

/* What the peer has to say now, then the data in records of 21 bytes. Returns the length. */
static size_t flight_with_data(struct peer *p, bool before_finished, uint8_t *out, size_t cap) {
    for (int i = 0; i < DATA_RECORDS; i++) {
        size_t n = 0;
        if (before_finished)
            assert_int_equal(SSL_write_early_data(p->ssl, data + i * 21, 21, &n), 1);
        else
            assert_int_equal(SSL_write(p->ssl, data + i * 21, 21), 21);
    }
    size_t len = peer_take(p, out, cap);
    assert_true(len > DATA_LEN && len < cap);
    return len;
}

/* Sends the first part, lets the library run, then the rest. */
static void deliver(struct session *s, const uint8_t *flight, size_t len, size_t cut) {
    int r = KTLS_WANT_READ;
    send_all(s->fd[0], flight, cut);
    if (cut > 0) {
        assert_true(wait_fd(s->fd[1], POLLIN, 1000));
        r = ktls_handshake(s->conn);
        assert_true(r == KTLS_WANT_READ || r == KTLS_DONE);
    }
    if (r == KTLS_WANT_READ) assert_false(wait_fd(s->fd[1], POLLIN, 0)); /* a record in part must not keep the socket readable */
    send_all(s->fd[0], flight + cut, len - cut);
    for (int i = 0; r == KTLS_WANT_READ && i < 100; i++) {
        assert_true(wait_fd(s->fd[1], POLLIN, 1000));
        r = ktls_handshake(s->conn);
    }
    assert_int_equal(r, KTLS_DONE);
}

static void check_data(struct session *s, enum ktls_mode want) {
    uint8_t got[DATA_LEN + 1];
    char buf[4];
    assert_int_equal(ktls_conn_mode(s->conn), want);
    assert_int_equal(lib_read(s->conn, got, DATA_LEN), 0);
    assert_memory_equal(got, data, DATA_LEN);
    assert_int_equal(ktls_read(s->conn, got, 1), -EAGAIN);
    assert_int_equal(ktls_write(s->conn, "pong", 4), 4);
    peer_handshake(&s->peer);
    peer_read(&s->peer, buf, 4);
    assert_memory_equal(buf, "pong", 4);
}

static SSL_SESSION *ticket;
static int keep_ticket(SSL *ssl, SSL_SESSION *sess) {
    (void)ssl;
    SSL_SESSION_free(ticket);
    ticket = sess;
    return 1;
}

/* The library is the server. TLS 1.2: the abbreviated handshake, in which the client speaks last, as in TLS 1.3. Returns the
 * flight's length. cut SIZE_MAX: byte by byte. */
static size_t server_case(struct ktls_ctx *ctx, SSL_CTX *pc, size_t cut, enum ktls_mode want) {
    struct session s = { .ctx = ktls_ctx_ref(ctx) };
    uint8_t flight[4096];
    tcp_pair(s.fd);
    assert_int_equal(ktls_conn_new(ctx, s.fd[1], NULL, &s.conn), 0);
    peer_init(&s.peer, pc, false, s.fd[0]);
    if (ticket) SSL_set_session(s.peer.ssl, ticket);
    assert_false(peer_handshake(&s.peer));
    wait_fd(s.fd[1], POLLIN, 1000);
    assert_int_equal(ktls_handshake(s.conn), KTLS_WANT_READ);
    wait_fd(s.fd[0], POLLIN, 1000);
    peer_feed(&s.peer);
    assert_int_equal(SSL_do_handshake(s.peer.ssl), 1);
    size_t len = flight_with_data(&s.peer, false, flight, sizeof flight);
    if (cut == SIZE_MAX) {
        size_t i = 0;
        int r = KTLS_WANT_READ;
        for (; r == KTLS_WANT_READ; i++) {
            send_all(s.fd[0], flight + i, 1);
            assert_true(wait_fd(s.fd[1], POLLIN, 1000));
            r = ktls_handshake(s.conn);
        }
        assert_int_equal(r, KTLS_DONE);
        send_all(s.fd[0], flight + i, len - i);
    } else {
        deliver(&s, flight, len, cut);
    }
    check_data(&s, want);
    session_end(&s);
    return len;
}

/* One full handshake, so that the peer has a session to resume. */
static void get_ticket(struct ktls_ctx *ctx, SSL_CTX *pc) {
    struct session s = { .ctx = ktls_ctx_ref(ctx) };
    char buf[4];
    tcp_pair(s.fd);
    assert_int_equal(ktls_conn_new(ctx, s.fd[1], NULL, &s.conn), 0);
    peer_init(&s.peer, pc, false, s.fd[0]);
    assert_int_equal(drive(s.conn, &s.peer), KTLS_DONE);
    assert_int_equal(ktls_write(s.conn, "pong", 4), 4);
    peer_read(&s.peer, buf, 4);
    SSL_shutdown(s.peer.ssl);
    session_end(&s);
    assert_non_null(ticket);
}

static void server_cuts(enum ktls_policy policy, int version, enum ktls_mode want) {
    struct ktls_ctx_opts o = server_opts(policy);
    struct ktls_ctx *ctx = new_ctx(&o);
    SSL_CTX *pc = peer_ctx(false, version, NULL);
    if (version == TLS1_2_VERSION) {
        SSL_CTX_set_session_cache_mode(pc, SSL_SESS_CACHE_CLIENT);
        SSL_CTX_sess_set_new_cb(pc, keep_ticket);
        get_ticket(ctx, pc);
    }
    size_t len = server_case(ctx, pc, SIZE_MAX, want);
    for (size_t cut = 0; cut <= len; cut += stride) server_case(ctx, pc, cut, want);
    print_message("%zu boundaries\n", len / stride + 1);
    SSL_SESSION_free(ticket);
    ticket = NULL;
    SSL_CTX_free(pc);
    ktls_ctx_unref(ctx);
}

/* The library is the client; the server speaks: its flight and, in TLS 1.3, data before it has seen the client's Finished. */
static size_t client_case(const struct ktls_ctx_opts *o, SSL_CTX *pc, int version, size_t cut, enum ktls_mode want) {
    struct session s;
    uint8_t flight[8192];
    session_start(&s, o, pc, 0, NULL);
    assert_int_equal(ktls_handshake(s.conn), KTLS_WANT_READ);
    wait_fd(s.fd[0], POLLIN, 1000);
    peer_feed(&s.peer);
    size_t n;
    if (version == TLS1_3_VERSION) {
        assert_int_equal(SSL_read_early_data(s.peer.ssl, flight, 1, &n), SSL_READ_EARLY_DATA_FINISH);
    } else {
        assert_int_not_equal(SSL_do_handshake(s.peer.ssl), 1);
        peer_flush(&s.peer);
        wait_fd(s.fd[1], POLLIN, 1000);
        assert_int_equal(ktls_handshake(s.conn), KTLS_WANT_READ);
        wait_fd(s.fd[0], POLLIN, 1000);
        peer_feed(&s.peer);
        assert_int_equal(SSL_do_handshake(s.peer.ssl), 1);
    }
    size_t len = flight_with_data(&s.peer, version == TLS1_3_VERSION, flight, sizeof flight);
    deliver(&s, flight, len, cut < len ? cut : len);
    check_data(&s, want);
    session_end(&s);
    return len;
}

static void client_cuts(enum ktls_policy policy, int version, enum ktls_mode want) {
    struct ktls_ctx_opts o = client_opts(policy);
    SSL_CTX *pc = peer_ctx(true, version, NULL);
    size_t len = client_case(&o, pc, version, 0, want), cut = 0;
    for (; cut <= len; cut += stride)
        len = client_case(&o, pc, version, cut, want); /* the length of a signature varies by a byte or two */
    print_message("%zu boundaries\n", cut / stride);
    SSL_CTX_free(pc);
}

static void test_split_user_server(void **state) {
    (void)state;
    server_cuts(KTLS_POLICY_OFF, TLS1_3_VERSION, KTLS_MODE_USER);
    server_cuts(KTLS_POLICY_OFF, TLS1_2_VERSION, KTLS_MODE_USER);
}

static void test_split_user_client(void **state) {
    (void)state;
    client_cuts(KTLS_POLICY_OFF, TLS1_3_VERSION, KTLS_MODE_USER);
    client_cuts(KTLS_POLICY_OFF, TLS1_2_VERSION, KTLS_MODE_USER);
}

static void test_split_kernel_server(void **state) {
    (void)state;
    NEED_KERNEL_TLS();
    server_cuts(KTLS_POLICY_REQUIRE, TLS1_3_VERSION, KTLS_MODE_KERNEL);
    server_cuts(KTLS_POLICY_REQUIRE, TLS1_2_VERSION, KTLS_MODE_KERNEL);
    server_cuts(KTLS_POLICY_TX, TLS1_3_VERSION, KTLS_MODE_TX);
    server_cuts(KTLS_POLICY_TX, TLS1_2_VERSION, KTLS_MODE_TX);
}

static void test_split_kernel_client(void **state) {
    (void)state;
    NEED_KERNEL_TLS();
    client_cuts(KTLS_POLICY_REQUIRE, TLS1_3_VERSION, KTLS_MODE_KERNEL);
    client_cuts(KTLS_POLICY_REQUIRE, TLS1_2_VERSION, KTLS_MODE_KERNEL);
    client_cuts(KTLS_POLICY_TX, TLS1_3_VERSION, KTLS_MODE_TX);
    client_cuts(KTLS_POLICY_TX, TLS1_2_VERSION, KTLS_MODE_TX);
}

int main(void) {
    const char *e = getenv("KTLS_SPLIT_STRIDE");
    if (e && atol(e) > 0) stride = (size_t)atol(e);
    pattern(data, sizeof data, 5);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_split_user_server),
        cmocka_unit_test(test_split_user_client),
        cmocka_unit_test(test_split_kernel_server),
        cmocka_unit_test(test_split_kernel_client),
    };
    return cmocka_run_group_tests(tests, setup_pki, teardown_pki);
}
