/*
 * A client's resumption: sessions of TLS 1.2, tickets of TLS 1.3 that come after the hand-over in whatever records, and the store
 * that keeps them. Each check runs in userspace and, where there is one, with the kernel.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include "resume_test.h"

#include <pthread.h>
#include <time.h>

static const enum ktls_policy policies[] = { KTLS_POLICY_OFF, KTLS_POLICY_REQUIRE, KTLS_POLICY_TX };

static int n_policies(void) {
    if (kernel_usable()) return 3;
    print_message("no kernel TLS: userspace half only\n");
    return 1;
}

static struct ktls_ctx *reuse_ctx(enum ktls_policy policy, int reuse, int per_peer) {
    struct ktls_ctx_opts o = client_opts(policy);
    o.session_reuse = reuse;
    o.session_reuse_per_peer = per_peer;
    return new_ctx(&o);
}

static SSL_CTX *server_ctx(int version, const char *suite, size_t tickets) {
    SSL_CTX *c = peer_ctx(true, version, suite);
    static const unsigned char id[] = "test";
    SSL_CTX_set_session_id_context(c, id, sizeof id);
    SSL_CTX_set_num_tickets(c, tickets);
    return c;
}

/* One connection of the library's client to an OpenSSL server. */
struct call {
    struct ktls_conn *conn;
    struct peer peer;
    int fd[2];
};

static void call_start(struct call *c, struct ktls_ctx *ctx, SSL_CTX *server, const char *peer) {
    tcp_pair(c->fd);
    assert_int_equal(ktls_conn_new(ctx, c->fd[1], "server.test", &c->conn), 0);
    if (peer) assert_int_equal(ktls_conn_set_peer(c->conn, peer), 0);
    peer_init(&c->peer, server, true, c->fd[0]);
}

static void call_end(struct call *c) {
    ktls_conn_free(c->conn);
    peer_done(&c->peer);
    close(c->fd[0]);
    close(c->fd[1]);
}

static void talk(struct call *c) {
    char buf[4];
    peer_write(&c->peer, "pong", 4);
    assert_int_equal(lib_read(c->conn, buf, 4), 0);
    assert_memory_equal(buf, "pong", 4);
    assert_int_equal(ktls_write(c->conn, "ping", 4), 4);
    peer_read(&c->peer, buf, 4);
    assert_memory_equal(buf, "ping", 4);
}

/* From connect to close. True: the handshake was resumed, as both sides say. */
static bool call_once(struct ktls_ctx *ctx, SSL_CTX *server, const char *peer) {
    struct call c;
    struct ktls_conn_info info;
    call_start(&c, ctx, server, peer);
    int r = drive(c.conn, &c.peer);
    if (r != KTLS_DONE) print_message("%s\n", ktls_conn_error(c.conn)->text);
    assert_int_equal(r, KTLS_DONE);
    ktls_conn_info(c.conn, &info);
    assert_int_equal(SSL_session_reused(c.peer.ssl), info.resumed);
    talk(&c);
    assert_int_equal(ktls_shutdown(c.conn), KTLS_DONE);
    call_end(&c);
    return info.resumed;
}

/* ---- TLS 1.3 ---- */

static void check_count(enum ktls_policy policy, size_t n, int cipher) {
    const char *suite = tls13_suites[cipher];
    struct ktls_ctx_opts o = client_opts(policy);
    o.session_reuse = 8;
    o.ciphersuites = suite;
    struct ktls_ctx *ctx = new_ctx(&o);
    SSL_CTX *server = server_ctx(TLS1_3_VERSION, suite, n);
    assert_false(call_once(ctx, server, "a:1"));
    assert_int_equal(ktls_store_count(ctx->store, NULL), n);
    for (size_t i = 0; i < 3; i++) assert_int_equal(call_once(ctx, server, "a:1"), n > 0);
    SSL_CTX_set_num_tickets(server, 0); /* OpenSSL sends no new one: each of the old is used once */
    for (size_t i = 0; i < n; i++) assert_true(call_once(ctx, server, "a:1"));
    assert_int_equal(ktls_store_count(ctx->store, NULL), 0);
    assert_false(call_once(ctx, server, "a:1"));
    SSL_CTX_free(server);
    ktls_ctx_unref(ctx);
}

static void test_tls13_any_number_of_tickets_each_used_once(void **state) {
    (void)state;
    static const size_t counts[] = { 0, 1, 2, 4, 8 };
    for (int p = 0, n = n_policies(); p < n; p++)
        for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) check_count(policies[p], counts[i], KTLS_AES_128_GCM);
}

static void test_tls13_every_suite(void **state) {
    (void)state;
    for (int p = 0, n = n_policies(); p < n; p++)
        for (int cipher = 0; cipher < KTLS_N_CIPHERS; cipher++) check_count(policies[p], 2, cipher);
}

static void test_openssl_object_goes_after_the_last_wanted_ticket(void **state) {
    (void)state;
    NEED_KERNEL_TLS();
    struct ktls_ctx *ctx = reuse_ctx(KTLS_POLICY_REQUIRE, 2, 0);
    SSL_CTX *server = server_ctx(TLS1_3_VERSION, NULL, 4), *quiet = server_ctx(TLS1_3_VERSION, NULL, 1);
    struct call c;
    call_start(&c, ctx, server, "a:1");
    assert_int_equal(drive(c.conn, &c.peer), KTLS_DONE);
    assert_non_null(c.conn->ssl);
    talk(&c);
    assert_null(c.conn->ssl);
    assert_null(c.conn->wire);
    assert_null(c.conn->resume);
    assert_int_equal(ktls_store_count(ctx->store, NULL), 2);
    call_end(&c);
    call_start(&c, ctx, quiet, "b:1"); /* one of two: it stays, and close sends no garbage */
    assert_int_equal(drive(c.conn, &c.peer), KTLS_DONE);
    talk(&c);
    assert_non_null(c.conn->ssl);
    assert_int_equal(ktls_shutdown(c.conn), KTLS_DONE);
    assert_int_equal(peer_read_error(&c.peer), SSL_ERROR_ZERO_RETURN);
    call_end(&c);
    call_start(&c, ctx, server, NULL); /* no peer named: nothing is kept */
    assert_int_equal(drive(c.conn, &c.peer), KTLS_DONE);
    assert_null(c.conn->ssl);
    talk(&c);
    assert_int_equal(ktls_store_count(ctx->store, NULL), 3);
    call_end(&c);
    SSL_CTX_free(server);
    SSL_CTX_free(quiet);
    ktls_ctx_unref(ctx);
}

/* ---- Records of other shapes ---- */

static uint8_t server_secret[KTLS_SECRET_MAX];

static void on_server_keylog(const SSL *ssl, const char *line) {
    static const char label[] = "SERVER_TRAFFIC_SECRET_0 ";
    (void)ssl;
    if (strncmp(line, label, sizeof label - 1) != 0) return;
    const char *hex = strrchr(line, ' ') + 1;
    for (size_t n = 0; hex[2 * n] && n < KTLS_SECRET_MAX; n++) {
        unsigned v = 0;
        sscanf(hex + 2 * n, "%2x", &v);
        server_secret[n] = (uint8_t)v;
    }
}

/* Stands between the OpenSSL server and the socket: opens its records and seals them anew. */
struct relay {
    struct ktls_keys keys;
    uint64_t in, out;
    int fd;
};

static void relay_send(struct relay *r, uint8_t type, const uint8_t *data, size_t len) {
    uint8_t rec[KTLS_RECORD_DATA_MAX + KTLS_SEAL_OVERHEAD];
    ssize_t n = ktls_seal(KTLS_TLS13, KTLS_AES_128_GCM, &r->keys, r->out++, type, data, len, rec);
    assert_true(n > 0);
    send_all(r->fd, rec, (size_t)n);
}

/* What the server wants sent, its records' contents one behind the other. */
static size_t relay_take(struct relay *r, struct peer *p, uint8_t *out, uint8_t *ret_type) {
    static uint8_t wire[65536], text[20000];
    size_t len = peer_take(p, wire, sizeof wire), got = 0;
    for (size_t at = 0; at < len;) {
        size_t n = KTLS_RECORD_HEADER + ((size_t)wire[at + 3] << 8 | wire[at + 4]);
        ssize_t t = ktls_open(KTLS_TLS13, KTLS_AES_128_GCM, &r->keys, r->in++, wire + at, n, text, ret_type);
        assert_true(t >= 0);
        memcpy(out + got, text, (size_t)t);
        got += (size_t)t;
        at += n;
    }
    return got;
}

/* piece: bytes of handshake messages per record; 0: all of them in one. */
static void check_shape(enum ktls_policy policy, size_t piece) {
    static uint8_t tickets[20000];
    struct ktls_ctx_opts o = client_opts(policy);
    o.session_reuse = 4;
    o.ciphersuites = tls13_suites[KTLS_AES_128_GCM];
    struct ktls_ctx *ctx = new_ctx(&o);
    SSL_CTX *server = server_ctx(TLS1_3_VERSION, o.ciphersuites, 3);
    SSL_CTX_set_keylog_callback(server, on_server_keylog);
    struct call c;
    struct relay r = { .in = 0 };
    uint8_t type = 0;
    char buf[4];
    int lib = KTLS_WANT_READ;
    call_start(&c, ctx, server, "a:1");
    for (int i = 0; i < 100 && (lib != KTLS_DONE || !SSL_is_init_finished(c.peer.ssl)); i++) {
        if (lib != KTLS_DONE) lib = ktls_handshake(c.conn);
        wait_fd(c.fd[0], POLLIN, 5);
        peer_feed(&c.peer);
        SSL_do_handshake(c.peer.ssl);
        if (!SSL_is_init_finished(c.peer.ssl)) peer_flush(&c.peer);
    }
    assert_int_equal(lib, KTLS_DONE);
    ktls_keys_tls13(KTLS_AES_128_GCM, server_secret, &r.keys);
    r.fd = c.fd[0];
    size_t len = relay_take(&r, &c.peer, tickets, &type);
    assert_int_equal(type, KTLS_CT_HANDSHAKE);
    assert_int_equal(r.in, 3);
    if (piece == 0) piece = len;
    for (size_t at = 0, n; at < len; at += n) {
        n = len - at < piece ? len - at : piece;
        /* A kernel that rekeys takes any handshake record that begins with 24 for a KeyUpdate (docs/KTLS.md, limits). */
        while (at + n < len && tickets[at + n] == KTLS_HS_KEY_UPDATE) n++;
        relay_send(&r, type, tickets + at, n);
    }
    assert_int_equal(SSL_write(c.peer.ssl, "pong", 4), 4);
    assert_int_equal(relay_take(&r, &c.peer, tickets, &type), 4);
    relay_send(&r, type, tickets, 4);
    int got = lib_read(c.conn, buf, 4);
    if (got != 0) print_message("pieces of %zu: %s\n", piece, ktls_conn_error(c.conn)->text);
    assert_int_equal(got, 0);
    assert_memory_equal(buf, "pong", 4);
    assert_int_equal(ktls_store_count(ctx->store, NULL), 3);
    call_end(&c);
    SSL_CTX_set_keylog_callback(server, NULL);
    for (int i = 0; i < 3; i++) assert_true(call_once(ctx, server, "a:1"));
    SSL_CTX_free(server);
    ktls_ctx_unref(ctx);
}

static void test_tickets_in_records_of_any_shape(void **state) {
    (void)state;
    static const size_t pieces[] = { 0, 300, 100, 17, 7 };
    for (int p = 0, n = n_policies(); p < n; p++)
        for (size_t i = 0; i < sizeof pieces / sizeof pieces[0]; i++) check_shape(policies[p], pieces[i]);
}

/* ---- Tickets later in the connection ---- */

static void send_ticket(struct call *c) {
    assert_int_equal(SSL_new_session_ticket(c->peer.ssl), 1);
    assert_int_equal(SSL_do_handshake(c->peer.ssl), 1);
    peer_flush(&c->peer);
}

static void check_late(enum ktls_policy policy, int key_updates) {
    struct ktls_ctx *ctx = reuse_ctx(policy, 4, 0);
    SSL_CTX *server = server_ctx(TLS1_3_VERSION, NULL, 0);
    struct call c;
    call_start(&c, ctx, server, "a:1");
    assert_int_equal(drive(c.conn, &c.peer), KTLS_DONE);
    for (int i = 0; i < 5; i++) talk(&c); /* data that OpenSSL's object on our side never sees */
    for (int i = 0; i < key_updates; i++) {
        SSL_key_update(c.peer.ssl, i & 1 ? SSL_KEY_UPDATE_REQUESTED : SSL_KEY_UPDATE_NOT_REQUESTED);
        assert_int_equal(SSL_do_handshake(c.peer.ssl), 1);
        peer_flush(&c.peer);
        talk(&c);
    }
    send_ticket(&c);
    talk(&c);
    send_ticket(&c);
    talk(&c);
    assert_int_equal(ktls_store_count(ctx->store, NULL), 2);
    call_end(&c);
    assert_true(call_once(ctx, server, "a:1"));
    assert_true(call_once(ctx, server, "a:1"));
    assert_false(call_once(ctx, server, "a:1"));
    SSL_CTX_free(server);
    ktls_ctx_unref(ctx);
}

static void test_ticket_in_mid_stream(void **state) {
    (void)state;
    for (int p = 0, n = n_policies(); p < n; p++) check_late(policies[p], 0);
}

static void test_ticket_after_key_updates(void **state) {
    (void)state;
    check_late(KTLS_POLICY_OFF, 3);
    if (!can_rekey()) {
        print_message("skipped: no kernel here that changes keys: userspace half only\n");
        return;
    }
    check_late(KTLS_POLICY_REQUIRE, 1);
    check_late(KTLS_POLICY_REQUIRE, 3);
    check_late(KTLS_POLICY_TX, 3);
}

/* What came before the connection was given away is kept; what comes after it is dropped, and harms nothing. */
static void test_tickets_before_an_export_are_kept_later_ones_dropped(void **state) {
    (void)state;
    NEED_KERNEL_TLS();
    static uint8_t buf[KTLS_EXPORT_MAX];
    struct ktls_ctx *ctx = reuse_ctx(KTLS_POLICY_REQUIRE, 4, 0);
    SSL_CTX *server = server_ctx(TLS1_3_VERSION, NULL, 2);
    struct ktls_conn *fresh = NULL;
    struct ktls_stats before, after;
    struct call c;
    call_start(&c, ctx, server, "a:1");
    assert_int_equal(drive(c.conn, &c.peer), KTLS_DONE);
    talk(&c);
    assert_int_equal(ktls_store_count(ctx->store, NULL), 2);
    ssize_t n = ktls_export(c.conn, buf, sizeof buf);
    assert_true(n > 0);
    assert_int_equal(ktls_import(ctx, c.fd[1], buf, (size_t)n, &fresh), 0);
    ktls_conn_free(c.conn);
    c.conn = fresh;
    ktls_stats(&before);
    assert_int_equal(SSL_new_session_ticket(c.peer.ssl), 1);
    talk(&c);
    ktls_stats(&after);
    assert_int_equal(after.tickets_in - before.tickets_in, 1);
    assert_int_equal(ktls_store_count(ctx->store, NULL), 2);
    call_end(&c);
    assert_true(call_once(ctx, server, "a:1"));
    SSL_CTX_free(server);
    ktls_ctx_unref(ctx);
}

static void test_malformed_ticket_is_answered_by_alert(void **state) {
    (void)state;
    NEED_KERNEL_TLS();
    static const uint8_t bad[] = "\4\0\0\13\0\0\1\0\0\0\0\0\1x\0"; /* a body that ends too early */
    struct ktls_ctx_opts o = client_opts(KTLS_POLICY_REQUIRE);
    struct ktls_stats before, after;
    o.session_reuse = 2;
    o.ciphersuites = tls13_suites[KTLS_AES_128_GCM];
    struct ktls_ctx *ctx = new_ctx(&o);
    SSL_CTX *server = server_ctx(TLS1_3_VERSION, o.ciphersuites, 0);
    SSL_CTX_set_keylog_callback(server, on_server_keylog);
    struct call c;
    call_start(&c, ctx, server, "a:1");
    assert_int_equal(drive(c.conn, &c.peer), KTLS_DONE);
    struct relay r = { .fd = c.fd[0] };
    ktls_keys_tls13(KTLS_AES_128_GCM, server_secret, &r.keys);
    ktls_stats(&before);
    relay_send(&r, KTLS_CT_HANDSHAKE, bad, sizeof bad - 1);
    assert_int_equal(lib_read_result(c.conn), KTLS_EPROTOCOL);
    assert_int_equal(ktls_conn_error(c.conn)->alert, KTLS_ALERT_DECODE_ERROR);
    ktls_stats(&after);
    assert_int_equal(after.alerts_out - before.alerts_out, 1);
    assert_int_equal(peer_read_error(&c.peer), SSL_ERROR_SSL);
    assert_int_equal(ktls_store_count(ctx->store, NULL), 0);
    call_end(&c);
    SSL_CTX_free(server);
    ktls_ctx_unref(ctx);
}

/* ---- TLS 1.2 ---- */

static void check_tls12(enum ktls_policy policy, bool tickets) {
    struct ktls_ctx *ctx = reuse_ctx(policy, 2, 0);
    SSL_CTX *server = server_ctx(TLS1_2_VERSION, NULL, 2);
    if (!tickets) SSL_CTX_set_options(server, SSL_OP_NO_TICKET);
    assert_false(call_once(ctx, server, "a:1"));
    for (int i = 0; i < 4; i++) {
        assert_true(call_once(ctx, server, "a:1"));
        assert_int_equal(ktls_store_count(ctx->store, NULL), 1);
    }
    ktls_ctx_forget_sessions(ctx, "b:1");
    assert_true(call_once(ctx, server, "a:1"));
    ktls_ctx_forget_sessions(ctx, "a:1");
    assert_int_equal(ktls_store_count(ctx->store, NULL), 0);
    assert_false(call_once(ctx, server, "a:1"));
    SSL_CTX_free(server);
    ktls_ctx_unref(ctx);
}

static void test_tls12_tickets_and_session_ids_are_used_again(void **state) {
    (void)state;
    for (int p = 0, n = n_policies(); p < n; p++) {
        check_tls12(policies[p], true);
        check_tls12(policies[p], false);
    }
}

/* ---- Who may have which session ---- */

static bool call_as(struct ktls_ctx *ctx, SSL_CTX *server, const char *peer, const char *name, bool check) {
    struct call c;
    struct ktls_conn_info info;
    tcp_pair(c.fd);
    assert_int_equal(ktls_conn_new(ctx, c.fd[1], name, &c.conn), 0);
    assert_int_equal(ktls_conn_set_peer(c.conn, peer), 0);
    if (!check) ktls_conn_set_no_name_check(c.conn);
    peer_init(&c.peer, server, true, c.fd[0]);
    int r = drive(c.conn, &c.peer);
    ktls_conn_info(c.conn, &info);
    if (r == KTLS_DONE) {
        assert_int_equal(ktls_conn_set_peer(c.conn, peer), -EINVAL);
        talk(&c);
    } else {
        assert_int_equal(r, KTLS_EVERIFY);
    }
    call_end(&c);
    return r == KTLS_DONE && info.resumed;
}

static void test_session_is_only_for_the_same_peer_and_check(void **state) {
    (void)state;
    for (int p = 0, n = n_policies(); p < n; p++)
        for (int v = TLS1_2_VERSION; v <= TLS1_3_VERSION; v++) {
            struct ktls_ctx *ctx = reuse_ctx(policies[p], 4, 0);
            SSL_CTX *server = server_ctx(v, NULL, 2);
            assert_false(call_as(ctx, server, "a:1", "server.test", true));
            assert_false(call_as(ctx, server, "a:2", "server.test", true));
            assert_false(call_as(ctx, server, "a:1", "wrong.test", false));
            assert_false(call_as(ctx, server, "a:1", "wrong.test", true)); /* refused, and not resumed */
            assert_false(call_as(ctx, server, "a:1", "server.test", false));
            assert_true(call_as(ctx, server, "a:1", "server.test", true));
            assert_true(call_as(ctx, server, "a:1", "wrong.test", false));
            SSL_CTX_free(server);
            ktls_ctx_unref(ctx);
        }
}

static void test_server_that_forgot_gives_a_full_handshake(void **state) {
    (void)state;
    for (int p = 0, n = n_policies(); p < n; p++)
        for (int v = TLS1_2_VERSION; v <= TLS1_3_VERSION; v++) {
            struct ktls_ctx *ctx = reuse_ctx(policies[p], 4, 0);
            SSL_CTX *one = server_ctx(v, NULL, 2), *two = server_ctx(v, NULL, 2);
            struct ktls_stats before, after;
            assert_false(call_once(ctx, one, "a:1"));
            ktls_stats(&before);
            assert_false(call_once(ctx, two, "a:1"));
            ktls_stats(&after);
            assert_int_equal(after.sessions_offered - before.sessions_offered, 1);
            assert_int_equal(after.handshakes_resumed[KTLS_CLIENT], before.handshakes_resumed[KTLS_CLIENT]);
            assert_true(call_once(ctx, two, "a:1"));
            SSL_CTX_free(one);
            SSL_CTX_free(two);
            ktls_ctx_unref(ctx);
        }
}

static void test_mutual_tls_is_resumed_with_the_same_identity(void **state) {
    (void)state;
    for (int p = 0, n = n_policies(); p < n; p++)
        for (int v = TLS1_2_VERSION; v <= TLS1_3_VERSION; v++) {
            struct ktls_ctx_opts so = server_opts(policies[p]), co = client_opts(policies[p]);
            so.verify = KTLS_VERIFY_REQUIRE;
            so.protocols = co.protocols = v == TLS1_2_VERSION ? KTLS_PROTO_TLS1_2 : KTLS_PROTO_TLS1_3;
            co.cert_file = pki.client_cert;
            co.key_file = pki.client_key;
            co.session_reuse = 2;
            struct ktls_ctx *server = new_ctx(&so), *client = new_ctx(&co);
            for (int round = 0; round < 4; round++) { /* the library on both ends */
                int fd[2], a = KTLS_WANT_READ, b = KTLS_WANT_READ;
                struct ktls_conn *sc, *cc;
                struct ktls_conn_info info;
                char buf[4];
                tcp_pair(fd);
                assert_int_equal(ktls_conn_new(server, fd[0], NULL, &sc), 0);
                assert_int_equal(ktls_conn_new(client, fd[1], "server.test", &cc), 0);
                assert_int_equal(ktls_conn_set_peer(cc, "a:1"), 0);
                for (int i = 0; i < 100 && (a > 0 || b > 0); i++) {
                    if (b > 0) b = ktls_handshake(cc);
                    if (a > 0) a = ktls_handshake(sc);
                    usleep(500);
                }
                assert_int_equal(a, KTLS_DONE);
                assert_int_equal(b, KTLS_DONE);
                ktls_conn_info(sc, &info);
                assert_int_equal(info.resumed, round > 0);
                assert_int_equal(info.peer_cert, 1);
                assert_string_equal(info.peer_subject, "CN=client,O=libktls test");
                ktls_conn_info(cc, &info);
                assert_int_equal(info.resumed, round > 0);
                assert_int_equal(info.peer_cert, 1);
                assert_string_equal(info.peer_subject, "CN=server,O=libktls test");
                assert_int_equal(ktls_write(sc, "pong", 4), 4);
                assert_int_equal(lib_read(cc, buf, 4), 0);
                assert_int_equal(ktls_write(cc, "ping", 4), 4);
                assert_int_equal(lib_read(sc, buf, 4), 0);
                ktls_conn_free(sc);
                ktls_conn_free(cc);
                close(fd[0]);
                close(fd[1]);
            }
            ktls_ctx_unref(server);
            ktls_ctx_unref(client);
        }
}

/* ---- The store ---- */

static SSL_SESSION *make_session(int version) {
    SSL_SESSION *s = SSL_SESSION_new();
    static const unsigned char id[] = "0123456789abcdef";
    assert_int_equal(SSL_SESSION_set_protocol_version(s, version), 1);
    SSL_SESSION_set1_id(s, id, sizeof id - 1); /* without one it would not be resumable */
    return s;
}

static void test_store_is_bounded_and_forgets_the_oldest(void **state) {
    (void)state;
    struct ktls_store *st = ktls_store_new(3, 2);
    char key[16];
    for (int i = 0; i < 10; i++) {
        snprintf(key, sizeof key, "p%d", i);
        for (int k = 0; k < 5; k++) ktls_store_put(st, key, make_session(TLS1_3_VERSION), 1000 + k);
        SSL_SESSION *s = ktls_store_take(st, "p0", 10); /* p0 is asked for all the time: it stays */
        assert_non_null(s);
        SSL_SESSION_free(s);
        ktls_store_put(st, "p0", make_session(TLS1_3_VERSION), 1000);
    }
    assert_int_equal(ktls_store_count(st, NULL), 6);
    assert_int_equal(ktls_store_count(st, "p0"), 2);
    assert_int_equal(ktls_store_count(st, "p9"), 2);
    assert_int_equal(ktls_store_count(st, "p8"), 2);
    assert_int_equal(ktls_store_count(st, "p7"), 0);
    ktls_store_free(st);
}

static void test_store_expired_are_dropped_newest_first(void **state) {
    (void)state;
    struct ktls_store *st = ktls_store_new(3, 4);
    SSL_SESSION *a = make_session(TLS1_3_VERSION), *b = make_session(TLS1_3_VERSION), *s;
    ktls_store_put(st, "p", a, 100);
    ktls_store_put(st, "p", b, 200);
    ktls_store_put(st, "p", make_session(TLS1_3_VERSION), 50);
    s = ktls_store_take(st, "p", 60);
    assert_ptr_equal(s, b);
    SSL_SESSION_free(s);
    assert_int_equal(ktls_store_count(st, "p"), 1);
    assert_null(ktls_store_take(st, "p", 100));
    assert_int_equal(ktls_store_count(st, "p"), 0);
    assert_null(ktls_store_take(st, "other", 0));
    for (int i = 0; i < 3; i++) ktls_store_put(st, "p", make_session(TLS1_2_VERSION), 100);
    assert_int_equal(ktls_store_count(st, "p"), 1); /* of TLS 1.2 the last */
    for (int i = 0; i < 3; i++) {
        s = ktls_store_take(st, "p", 60);
        assert_non_null(s);
        SSL_SESSION_free(s);
    }
    ktls_store_put(st, "p\n1x", make_session(TLS1_2_VERSION), 100);
    ktls_store_drop(st, "p\n", true);
    assert_int_equal(ktls_store_count(st, NULL), 1);
    ktls_store_drop(st, NULL, false);
    assert_int_equal(ktls_store_count(st, NULL), 0);
    ktls_store_free(st);
}

static void *hammer(void *arg) {
    struct ktls_store *st = arg;
    for (int i = 0; i < 2000; i++) {
        char key[16];
        snprintf(key, sizeof key, "p%d", i % 7);
        ktls_store_put(st, key, make_session(i & 1 ? TLS1_2_VERSION : TLS1_3_VERSION), 1000);
        SSL_SESSION_free(ktls_store_take(st, key, 10));
        if (i % 100 == 0) ktls_store_drop(st, key, false);
    }
    return NULL;
}

static void test_store_many_threads(void **state) {
    (void)state;
    struct ktls_store *st = ktls_store_new(4, 3);
    pthread_t t[4];
    for (int i = 0; i < 4; i++) pthread_create(&t[i], NULL, hammer, st);
    for (int i = 0; i < 4; i++) pthread_join(t[i], NULL);
    assert_in_range(ktls_store_count(st, NULL), 0, 12);
    ktls_store_free(st);
}

static void test_options_out_of_range_are_refused(void **state) {
    (void)state;
    struct ktls_ctx *ctx = NULL;
    char err[256];
    struct ktls_ctx_opts o = client_opts(KTLS_POLICY_OFF);
    o.session_reuse = 9;
    assert_int_equal(ktls_ctx_new(&o, &ctx, err, sizeof err), KTLS_ECONFIG);
    assert_non_null(strstr(err, "session_reuse"));
    o.session_reuse = 1;
    o.session_reuse_peers = 5000;
    assert_int_equal(ktls_ctx_new(&o, &ctx, err, sizeof err), KTLS_ECONFIG);
    o.session_reuse_peers = 0;
    o.session_reuse_per_peer = -1;
    assert_int_equal(ktls_ctx_new(&o, &ctx, err, sizeof err), KTLS_ECONFIG);
    assert_null(ctx);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tls13_any_number_of_tickets_each_used_once),
        cmocka_unit_test(test_tls13_every_suite),
        cmocka_unit_test(test_openssl_object_goes_after_the_last_wanted_ticket),
        cmocka_unit_test(test_tickets_in_records_of_any_shape),
        cmocka_unit_test(test_ticket_in_mid_stream),
        cmocka_unit_test(test_ticket_after_key_updates),
        cmocka_unit_test(test_tickets_before_an_export_are_kept_later_ones_dropped),
        cmocka_unit_test(test_malformed_ticket_is_answered_by_alert),
        cmocka_unit_test(test_tls12_tickets_and_session_ids_are_used_again),
        cmocka_unit_test(test_session_is_only_for_the_same_peer_and_check),
        cmocka_unit_test(test_server_that_forgot_gives_a_full_handshake),
        cmocka_unit_test(test_mutual_tls_is_resumed_with_the_same_identity),
        cmocka_unit_test(test_store_is_bounded_and_forgets_the_oldest),
        cmocka_unit_test(test_store_expired_are_dropped_newest_first),
        cmocka_unit_test(test_store_many_threads),
        cmocka_unit_test(test_options_out_of_range_are_refused),
    };
    return cmocka_run_group_tests(tests, setup_pki, teardown_pki);
}
