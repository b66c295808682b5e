/* What only TLS connections do: handshakes that fail or never come, truncation, data right behind the handshake, alerts. Over
 * userspace and (where the kernel has it) kernel TLS. */
#include "conn_test.h"

#include "ktls_internal.h"

static int idle_peer(struct peer *p) {
    char byte;
    peer_read_upto(p, &byte, 1);
    return 1;
}

static int plaintext_peer(struct peer *p) {
    char got[64];
    if (!peer_write(p, "PING\r\nPING\r\nPING\r\n", 18)) return -2;
    peer_read_upto(p, got, sizeof(got));
    return 1;
}

static int gone_peer(struct peer *p) {
    close(p->fd);
    p->fd = -1;
    return 1;
}

static void test_silent_peer_times_out(void **state) {
    (void)state;
    NEED_KIND();
    struct peer p = { .no_handshake = true };
    int64_t start = clock_mono_us();
    start_pair(&p, idle_peer, 60000);
    run_to_close(&p);
    assert_in_range(clock_mono_us() - start, 60000, 2000000);
    assert_int_equal(app.end, CONN_END_HANDSHAKE_TIMEOUT);
    assert_int_equal(app.n_open, 0);
}

/* Drips a valid start of a ClientHello: the deadline is for the whole handshake. */
static int dripping_peer(struct peer *p) {
    static const unsigned char hello[] = { 22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3 };
    for (int i = 0; i < 100; i++) {
        unsigned char zero = 0;
        if (!peer_write(p, i < (int)sizeof(hello) ? &hello[i] : &zero, 1)) break;
        sleep_ms(10);
    }
    return 1;
}

static void test_dripping_peer_times_out(void **state) {
    (void)state;
    NEED_KIND();
    struct peer p = { .no_handshake = true };
    int64_t start = clock_mono_us();
    start_pair(&p, dripping_peer, 100000);
    loop_run(loop);
    assert_in_range(clock_mono_us() - start, 100000, 700000);
    assert_int_equal(app.end, CONN_END_HANDSHAKE_TIMEOUT);
    peer_join(&p);
}

static void test_plaintext_to_a_tls_port(void **state) {
    (void)state;
    NEED_KIND();
    struct peer p = { .no_handshake = true };
    start_pair(&p, plaintext_peer, 0);
    run_to_close(&p);
    assert_int_equal(app.end, CONN_END_HANDSHAKE);
    assert_true(strlen(app.text) > 0);
    assert_int_equal(app.n_open, 0);
}

static void test_peer_gone_before_the_handshake(void **state) {
    (void)state;
    NEED_KIND();
    struct peer p = { .no_handshake = true };
    start_pair(&p, gone_peer, 0);
    run_to_close(&p);
    assert_int_equal(app.end, CONN_END_HANDSHAKE);
    assert_int_equal(app.n_open, 0);
}

static int truncating_peer(struct peer *p) {
    char got[8];
    if (!peer_write(p, "x", 1)) return -2;
    sleep_ms(20);
    shutdown(p->fd, SHUT_WR); /* no close_notify */
    peer_read_upto(p, got, sizeof(got));
    return 1;
}

static void test_truncation_is_told_from_a_clean_end(void **state) {
    (void)state;
    NEED_KIND();
    struct peer p = { 0 };
    start_pair(&p, truncating_peer, 0);
    run_to_close(&p);
    assert_int_equal(app.end, CONN_END_EOF);
    assert_string_equal(app.text, "connection truncated (no close_notify)");
}

/* TLS 1.2, records made by hand: OpenSSL sends none of length zero. */
static int empty_records_peer(struct peer *p) {
    static const struct {
        uint8_t type;
        const char *content;
        size_t len;
    } rec[] = { { 23, "one", 3 }, { 23, "", 0 }, { 21, "\1\132", 2 }, /* user_canceled */
                { 23, "", 0 },    { 23, "", 0 }, { 21, "\1\132", 2 }, { 23, "two", 3 }, { 23, "", 0 }, { 21, "\1\0", 2 } };
    uint8_t master[48], client_random[32], server_random[32], out[1024];
    struct ktls_keys own, server;
    char got[8];
    size_t len = 0;
    SSL_SESSION_get_master_key(SSL_get0_session(p->ssl), master, sizeof(master));
    SSL_get_client_random(p->ssl, client_random, 32);
    SSL_get_server_random(p->ssl, server_random, 32);
    if (ktls_keys_tls12(KTLS_AES_128_GCM, master, client_random, server_random, &own, &server) < 0) return -2;
    for (size_t i = 0; i < sizeof(rec) / sizeof(rec[0]); i++)
        len += (size_t)ktls_seal(KTLS_TLS12, KTLS_AES_128_GCM, &own, 1 + i, rec[i].type, (const uint8_t *)rec[i].content,
                                 rec[i].len, out + len);
    if (!send_all(p->fd, out, len)) return -2;
    peer_read_upto(p, got, sizeof(got));
    return p->err == 0 ? 1 : -2; /* close_notify */
}

/* The kernel's recv gives 0 for them when a control record follows, as for a FIN. */
static void test_empty_records_are_no_end(void **state) {
    (void)state;
    NEED_KIND();
    struct peer p = { 0 };
    SSL_CTX_set_max_proto_version(client_ctx, TLS1_2_VERSION);
    assert_int_equal(SSL_CTX_set_cipher_list(client_ctx, "ECDHE-ECDSA-AES128-GCM-SHA256"), 1);
    start_pair(&p, empty_records_peer, 0);
    run_to_close(&p);
    assert_int_equal(p.result, 1);
    assert_int_equal(app.end, CONN_END_EOF);
    assert_string_equal(app.text, "");
    assert_int_equal(app.in.len, 6);
    assert_memory_equal(app.in.data, "onetwo", 6);
    SSL_CTX_set_max_proto_version(client_ctx, TLS1_3_VERSION);
}

/* ---- Finished and data in the socket together ---- */

/* A client over memory BIOs, so that the test decides which bytes arrive together. */
static int coalescing_peer(struct peer *p) {
    SSL *s = SSL_new(client_ctx);
    BIO *in = BIO_new(BIO_s_mem()), *out = BIO_new(BIO_s_mem());
    SSL_set_bio(s, in, out);
    SSL_set_connect_state(s);
    char buf[20000];
    int r = -2;
    for (int flights = 0; SSL_do_handshake(s) != 1; flights++) {
        int n = BIO_read(out, buf, sizeof(buf));
        if (n > 0 && !send_all(p->fd, buf, (size_t)n)) goto done;
        ssize_t got = recv(p->fd, buf, sizeof(buf), 0);
        if (got <= 0) goto done;
        BIO_write(in, buf, (int)got);
    }
    char data[30000];
    fill_pattern(data, 0, sizeof(data));
    for (size_t i = 0; i < sizeof(data); i += 1000) SSL_write(s, data + i, 1000);
    SSL_shutdown(s); /* Finished, 30 records, close_notify: all in one send */
    int n;
    while ((n = BIO_read(out, buf, sizeof(buf))) > 0)
        if (!send_all(p->fd, buf, (size_t)n)) goto done;
    r = 1;
done:
    SSL_free(s);
    shutdown(p->fd, SHUT_WR);
    return r;
}

static void test_data_right_behind_finished_is_not_lost(void **state) {
    (void)state;
    NEED_KIND();
    for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
        SSL_CTX_set_max_proto_version(client_ctx, version);
        memset(&app, 0, sizeof(app));
        struct peer p = { .no_handshake = true };
        start_pair(&p, coalescing_peer, 0);
        run_to_close(&p);
        assert_int_equal(p.result, 1);
        assert_int_equal(app.in.len, 30000);
        assert_true(is_pattern(app.in.data, 0, 30000));
        assert_int_equal(app.end, CONN_END_EOF);
        assert_string_equal(app.text, "");
        buf_done(&app.in);
    }
}

/* ---- a record that does not authenticate ---- */

static int forging_peer(struct peer *p) {
    static const unsigned char bad[] = { 23, 3,  3,  0,  32, 1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11, 12, 13, 14,
                                         15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32 };
    char got[8];
    if (!send_all(p->fd, bad, sizeof(bad))) return -2;
    peer_read_upto(p, got, sizeof(got));
    return p->err == SSL_ERROR_SSL ? 1 : -3; /* the alert arrived, no reset in its place */
}

static void test_forged_record_ends_with_an_alert(void **state) {
    (void)state;
    NEED_KIND();
    struct peer p = { 0 };
    start_pair(&p, forging_peer, 0);
    run_to_close(&p);
    assert_int_equal(app.end, CONN_END_TLS);
    assert_true(strlen(app.text) > 0);
    assert_int_equal(p.result, 1);
    assert_int_equal(app.n_data, 0);
}

/* ---- KeyUpdate, where both sides can ---- */

static void echo(struct app *a, char *data, size_t len) {
    obuf_append(&a->c.out, data, len);
    conn_flush_later(&a->c);
}

static int key_update_peer(struct peer *p) {
    char got[16];
    for (int i = 0; i < 5; i++) {
        if (!SSL_key_update(p->ssl, SSL_KEY_UPDATE_REQUESTED)) return -2;
        if (!peer_write(p, "rekeyed", 7) || peer_read_upto(p, got, 7) != 7 || memcmp(got, "rekeyed", 7) != 0) return -3;
    }
    peer_finish(p);
    return 1;
}

static void test_key_update_from_the_peer(void **state) {
    (void)state;
    NEED_KIND();
    struct ktls_probe probe;
    ktls_probe(&probe);
    SSL_CTX_set_min_proto_version(client_ctx, TLS1_3_VERSION);
    struct peer p = { 0 };
    app.on_data = echo;
    start_pair(&p, key_update_peer, 0);
    run_to_close(&p);
    if (is_kernel_tls() && probe.rekey != 0) {
        assert_int_equal(app.end, CONN_END_TLS); /* this kernel cannot rekey: closed in order */
        return;
    }
    assert_int_equal(p.result, 1);
    assert_int_equal(app.end, CONN_END_EOF);
    assert_string_equal(app.text, "");
}

/* The server's answer to a KeyUpdate has to wait for a full socket, and must come before its next data. */
enum { FLOOD = 24 << 20 };

static void flood(struct app *a, char *data, size_t len) {
    char *chunk = malloc(FLOOD);
    buf_append(&a->in, data, len);
    if (a->n_data == 1) {
        fill_pattern(chunk, 0, FLOOD);
        obuf_append(&a->c.out, chunk, FLOOD);
        conn_flush_later(&a->c);
    }
    free(chunk);
}

static int full_socket_peer(struct peer *p) {
    char *data = malloc(FLOOD);
    bool ok = peer_write(p, "go", 2);
    sleep_ms(100);
    for (int i = 0; ok && i < 3; i++) {
        ok = SSL_key_update(p->ssl, SSL_KEY_UPDATE_REQUESTED) && peer_write(p, "more", 4);
        sleep_ms(20);
    }
    ok = ok && peer_read_upto(p, data, FLOOD) == FLOOD && is_pattern(data, 0, FLOOD);
    free(data);
    peer_finish(p);
    return ok;
}

static void test_key_update_while_the_socket_is_full(void **state) {
    (void)state;
    NEED_KIND();
    struct ktls_probe probe;
    ktls_probe(&probe);
    if (is_kernel_tls() && probe.rekey != 0) {
        print_message("this kernel cannot rekey: %s\n", ktls_strerror(-probe.rekey));
        skip();
    }
    SSL_CTX_set_min_proto_version(client_ctx, TLS1_3_VERSION);
    struct peer p = { 0 };
    app.on_data = flood;
    start_pair(&p, full_socket_peer, 0);
    run_to_close(&p);
    assert_int_equal(p.result, 1);
    assert_int_equal(app.in.len, 14);
    assert_int_equal(app.end, CONN_END_EOF);
    assert_string_equal(app.text, "");
}

static int leaving_peer(struct peer *p) {
    peer_finish(p);
    return 1;
}

static void test_texts(void **state) {
    (void)state;
    NEED_KIND();
    struct peer p = { 0 };
    char text[128];
    SSL_CTX_set_min_proto_version(client_ctx, TLS1_3_VERSION);
    SSL_CTX_set_ciphersuites(client_ctx, "TLS_AES_128_GCM_SHA256");
    start_pair(&p, leaving_peer, 0);
    conn_tls_text(&app.c, text, sizeof(text));
    assert_string_equal(text, "handshake");
    run_to_close(&p);
    static const char *const path[] = { [KIND_USER] = "user", [KIND_KTLS] = "ktls", [KIND_KTLS_TX] = "ktls-tx" };
    snprintf(text, sizeof(text), "%s:TLSv1.3:TLS_AES_128_GCM_SHA256", path[kind]);
    assert_string_equal(app.tls_text, text);
}

/* ---- many handshakes at once ---- */

#define CROWD 8

static struct app crowd[CROWD];
static int crowd_closed, crowd_turns_with_more_than_one, opened_this_turn;

static void crowd_open(struct conn *c) {
    app_of(c)->n_open++;
    opened_this_turn++;
}

static void crowd_on_closed(struct conn *c, enum conn_end why, const char *text) {
    (void)text;
    app_of(c)->end = why;
    if (++crowd_closed == CROWD) loop_stop(loop);
}

static void crowd_before_sleep(void *arg) {
    if (opened_this_turn > 1) crowd_turns_with_more_than_one++;
    opened_this_turn = 0;
    conn_thread_flush(arg);
}

static int leaving_at_once_peer(struct peer *p) {
    peer_finish(p);
    return 1;
}

/* One handshake step uses up the turn's budget: the others wait for the next turn, and nobody is forgotten. */
static void test_handshakes_are_spread_over_turns(void **state) {
    (void)state;
    NEED_KIND();
    static const struct conn_ops ops = { crowd_open, app_data, app_drained, crowd_on_closed };
    struct conn_params params = { .tls_ctx = server_ctx };
    struct peer peers[CROWD];
    memset(crowd, 0, sizeof(crowd));
    memset(peers, 0, sizeof(peers));
    crowd_closed = crowd_turns_with_more_than_one = opened_this_turn = 0;
    thread.handshake_budget_us = 1;
    loop_set_before_sleep(loop, crowd_before_sleep, &thread);
    for (int i = 0; i < CROWD; i++) {
        int server;
        tcp_pair(&server, &peers[i].fd);
        peers[i].fn = leaving_at_once_peer;
        conn_start(&crowd[i].c, &thread, server, &ops, &params);
        pthread_create(&peers[i].th, NULL, peer_main, &peers[i]);
    }
    loop_run(loop);
    for (int i = 0; i < CROWD; i++) {
        peer_join(&peers[i]);
        assert_int_equal(peers[i].result, 1);
        assert_int_equal(crowd[i].n_open, 1);
        assert_int_equal(crowd[i].end, CONN_END_EOF);
    }
    assert_int_equal(crowd_turns_with_more_than_one, 0);
}

/* ---- a record that stays half there ---- */

static int half_turns;

static void count_half_turns(void *arg) {
    (void)arg;
    half_turns++;
    conn_thread_flush(&thread);
}

/* Linux 6.1 reports a kernel-TLS socket readable while all it has is half a record: the loop must neither spin nor miss
 * the other half. Between the halves the reading is paused once and started again. */
static int half_record_peer(struct peer *p) {
    char *record, byte;
    for (int i = 0; i < 3; i++) {
        BIO *mem = BIO_new(BIO_s_mem()), *sock = SSL_get_wbio(p->ssl);
        BIO_up_ref(sock);
        SSL_set0_wbio(p->ssl, mem);
        if (SSL_write(p->ssl, "0123456789", 10) != 10) return -2;
        long len = BIO_get_mem_data(mem, &record);
        if (!send_all(p->fd, record, 9)) return -3;
        sleep_ms(200);
        if (!send_all(p->fd, record + 9, (size_t)len - 9)) return -4;
        SSL_set0_wbio(p->ssl, sock);
        if (peer_read_upto(p, (char[16]){ 0 }, 10) != 10) return -5;
    }
    peer_finish(p);
    return peer_read_upto(p, &byte, 1) == 0 && p->err == 0 ? 1 : -6;
}

static void echo_back(struct app *a, char *data, size_t len) {
    obuf_append(&a->c.out, data, len);
    conn_flush_later(&a->c);
}

static void pause_and_resume(struct loop_timer *t) {
    (void)t;
    conn_pause_reading(&app.c);
    conn_resume_reading(&app.c);
}

static void test_half_a_record_does_not_spin(void **state) {
    (void)state;
    NEED_KIND();
    struct peer p = { 0 };
    struct timespec before, after;
    app.on_data = echo_back;
    app.timer.fn = pause_and_resume;
    loop_timer_set(loop, &app.timer, clock_mono_us() + 300000);
    half_turns = 0;
    loop_set_before_sleep(loop, count_half_turns, NULL);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &before);
    start_pair(&p, half_record_peer, 5000000);
    run_to_close(&p);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &after);
    assert_int_equal(p.result, 1);
    assert_int_equal(app.n_data, 3);
    assert_in_range(half_turns, 1, 100);
    int64_t cpu_us = (after.tv_sec - before.tv_sec) * 1000000 + (after.tv_nsec - before.tv_nsec) / 1000;
    assert_true(cpu_us < 250000); /* of 600 ms; the handshakes included */
}

/* ---- a crowd in its handshakes, and one that is connected ---- */

enum { WAITING = 400, PINGS = 50 }; /* more than one batch of events holds */

static int steps_done, most_steps_between, steps_at_last_ping, pings, pinger_fd;

static void pinged(struct conn *c, char *data, size_t len) {
    (void)c, (void)data, (void)len;
    int between = steps_done - steps_at_last_ping;
    if (between > most_steps_between) most_steps_between = between;
    steps_at_last_ping = steps_done;
    if (++pings < PINGS) assert_true(send_all(pinger_fd, "ping", 4));
}

static void step_failed(struct conn *c, enum conn_end why, const char *text) {
    (void)c, (void)text;
    assert_int_equal(why, CONN_END_HANDSHAKE);
    if (++crowd_closed == WAITING) loop_stop(loop);
}

/* Each turn takes one step of the crowd's: those that failed are lingering. */
static void count_steps(void *arg) {
    struct app *waiting = arg;
    conn_thread_flush(&thread);
    steps_done = 0;
    for (int i = 0; i < WAITING; i++) steps_done += waiting[i].c.state != CONN_HANDSHAKE;
}

static void test_crowd_does_not_hold_up_the_connected(void **state) {
    (void)state;
    NEED_KIND();
    static const char not_a_hello[] = "\x16\x03\x01\x00\x04zzzz";
    static const struct conn_ops crowd_ops = { crowd_open, app_data, NULL, step_failed };
    static const struct conn_ops pinged_ops = { crowd_open, pinged, NULL, app_closed };
    struct conn_params tls = { .tls_ctx = server_ctx }, plain = { 0 };
    static struct app waiting[WAITING];
    int peers[WAITING], fd;
    memset(waiting, 0, sizeof(waiting));
    crowd_closed = steps_done = most_steps_between = steps_at_last_ping = pings = 0;
    thread.handshake_budget_us = 1;
    loop_set_before_sleep(loop, count_steps, waiting);
    for (int i = 0; i < WAITING; i++) {
        tcp_pair(&fd, &peers[i]);
        conn_start(&waiting[i].c, &thread, fd, &crowd_ops, &tls);
        if (i == WAITING / 2) run_ms(10); /* half of them wait for the socket, half have not begun */
    }
    for (int i = 0; i < WAITING; i++) assert_true(send_all(peers[i], not_a_hello, sizeof(not_a_hello) - 1));
    tcp_pair(&fd, &pinger_fd);
    conn_start(&app.c, &thread, fd, &pinged_ops, &plain);
    assert_true(send_all(pinger_fd, "ping", 4));
    loop_run(loop);
    assert_int_equal(pings, PINGS);
    assert_true(steps_done == WAITING);
    assert_in_range(most_steps_between, 1, 4); /* the turn that takes the bytes in, and the one before */
    for (int i = 0; i < WAITING; i++) close(peers[i]);
    conn_close(&app.c, CONN_END_LOCAL, "");
    loop_run(loop);
    close(pinger_fd);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        over_tls(test_silent_peer_times_out),
        over_tls(test_dripping_peer_times_out),
        over_tls(test_plaintext_to_a_tls_port),
        over_tls(test_peer_gone_before_the_handshake),
        over_tls(test_truncation_is_told_from_a_clean_end),
        over_tls(test_empty_records_are_no_end),
        over_tls(test_data_right_behind_finished_is_not_lost),
        over_tls(test_forged_record_ends_with_an_alert),
        over_tls(test_key_update_from_the_peer),
        over_tls(test_key_update_while_the_socket_is_full),
        over_tls(test_texts),
        over_tls(test_handshakes_are_spread_over_turns),
        over_tls(test_half_a_record_does_not_spin),
        over_tls(test_crowd_does_not_hold_up_the_connected),
    };
    return run_on_both_backends(tests);
}
