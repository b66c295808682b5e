/*
 * Keys that change every few records while four threads send at full speed, while both sides send, and while both change keys:
 * an OpenSSL peer decrypts and checks everything.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include "rekey_peer.h"

struct writer {
    pthread_t id;
    struct session *s;
    unsigned number;
    uint32_t messages;
    uint64_t refused; /* by the gate */
    int err;
};

static void *write_run(void *arg) {
    struct writer *w = arg;
    uint8_t msg[MSG_MAX];
    for (uint32_t i = 0; i < w->messages && w->err == 0; i++) {
        size_t len = make_msg(msg, w->number, i);
        int r;
        while ((r = ktls_tx_begin(w->s->conn)) == -EAGAIN) {
            w->refused++;
            wait_fd(w->s->fd[1], POLLOUT, 1);
        }
        if (r < 0) {
            w->err = r;
            break;
        }
        ssize_t n = send(w->s->fd[1], msg, len, MSG_NOSIGNAL);
        r = ktls_tx_end(w->s->conn, n > 0 ? (size_t)n : 0);
        if (n != (ssize_t)len) w->err = n < 0 ? -errno : -EIO;
        if (r < 0) w->err = r;
    }
    return NULL;
}

static uint64_t run_writers(struct session *s, struct writer *w, unsigned n, uint32_t messages) {
    uint64_t refused = 0;
    for (unsigned i = 0; i < n; i++) {
        w[i] = (struct writer){ .s = s, .number = i, .messages = messages };
        assert_int_equal(pthread_create(&w[i].id, NULL, write_run, &w[i]), 0);
    }
    return refused;
}

static uint64_t join_writers(struct writer *w, unsigned n) {
    uint64_t refused = 0;
    for (unsigned i = 0; i < n; i++) {
        pthread_join(w[i].id, NULL);
        if (w[i].err) print_message("writer %u: %s\n", i, ktls_strerror(w[i].err));
        assert_int_equal(w[i].err, 0);
        refused += w[i].refused;
    }
    return refused;
}

static uint64_t updates_out(struct session *s) {
    struct ktls_conn_info info;
    ktls_conn_info(s->conn, &info);
    return info.key_updates_out;
}

static void check_writers(enum ktls_policy policy, unsigned writers, uint32_t messages, uint64_t records, int cipher) {
    struct session s;
    struct writer w[WRITERS_MAX];
    struct peer_thread *p = calloc(1, sizeof *p);
    open_busy(&s, policy, records, cipher);
    peer_thread_start(p, &s, writers, messages, false);
    run_writers(&s, w, writers, messages);
    uint64_t refused = join_writers(w, writers);
    peer_thread_join(p);
    uint64_t n = updates_out(&s);
    print_message("%u writers, %u messages, a key for %d records: %d KeyUpdates, gate shut for %d tries\n", writers,
                  writers * messages, (int)records, (int)n, (int)refused);
    assert_true(n >= writers * messages / records / 2);
    free(p);
    session_end(&s);
}

static void test_four_writers_at_full_speed(void **state) {
    (void)state;
    NEED_REKEY();
    check_writers(KTLS_POLICY_REQUIRE, 4, 3000, 8, KTLS_AES_128_GCM);
    check_writers(KTLS_POLICY_REQUIRE, 4, 1000, 1, KTLS_CHACHA20_POLY1305);
    check_writers(KTLS_POLICY_REQUIRE, 4, 3000, 100, KTLS_AES_256_GCM);
    check_writers(KTLS_POLICY_TX, 4, 3000, 8, KTLS_AES_128_GCM);
}

/* ---- Both directions ---- */

struct reader {
    pthread_t id;
    struct session *s;
    struct checker in;
    uint32_t want;
    int err;
};

static void *read_run(void *arg) {
    struct reader *r = arg;
    uint8_t buf[16384];
    for (int idle = 0; r->in.messages < r->want && !r->in.wrong && idle < 3000; idle++) {
        ssize_t n = ktls_read(r->s->conn, buf, sizeof buf);
        if (n > 0) {
            check_bytes(&r->in, buf, (size_t)n);
            idle = 0;
        } else if (n == -EAGAIN) {
            wait_fd(r->s->fd[1], POLLIN, 10);
        } else {
            r->err = n < 0 ? (int)n : -ECONNRESET;
            break;
        }
    }
    return NULL;
}

/* The peer asks for our KeyUpdates with every second one of its own; our limits ask for its. */
static void check_both_ways(enum ktls_policy policy, unsigned writers, uint32_t messages, uint64_t records,
                            unsigned peer_rekeys_every) {
    struct session s;
    struct writer w[WRITERS_MAX];
    struct peer_thread *p = calloc(1, sizeof *p);
    struct reader *r = calloc(1, sizeof *r);
    open_busy(&s, policy, records, KTLS_AES_128_GCM);
    p->to_send = messages;
    p->rekey_every = peer_rekeys_every;
    *r = (struct reader){ .s = &s, .want = messages, .in.per_writer = messages };
    peer_thread_start(p, &s, writers, messages, false);
    assert_int_equal(pthread_create(&r->id, NULL, read_run, r), 0);
    run_writers(&s, w, writers, messages);
    join_writers(w, writers);
    pthread_join(r->id, NULL);
    if (r->err || r->in.wrong)
        print_message("reading: %s, %s, %s\n", ktls_strerror(r->err), r->in.wrong ? r->in.wrong : "",
                      ktls_conn_error(s.conn)->text);
    assert_int_equal(r->in.messages, messages);
    assert_null(r->in.wrong);
    peer_thread_join(p);
    struct ktls_conn_info info;
    ktls_conn_info(s.conn, &info);
    print_message("both ways, %u writers: %d KeyUpdates in, %d out\n", writers, (int)info.key_updates_in,
                  (int)info.key_updates_out);
    if (peer_rekeys_every) assert_true(info.key_updates_in >= messages / peer_rekeys_every);
    assert_true(info.key_updates_out >= info.key_updates_in / 4);
    free(p);
    free(r);
    session_end(&s);
}

static void test_both_ways_both_sides_change_keys(void **state) {
    (void)state;
    NEED_REKEY();
    static const enum ktls_policy policies[] = { KTLS_POLICY_REQUIRE, KTLS_POLICY_TX };
    for (int i = 0; i < 2; i++) {
        check_both_ways(policies[i], 1, 3000, 16, 7);
        check_both_ways(policies[i], 4, 2000, 8, 3);
        check_both_ways(policies[i], 4, 2000, 64, 0); /* ours alone, and the answers to them */
    }
}

/* Writers go on while the connection is being closed: close_notify is the last record. */
static void test_shutdown_under_way(void **state) {
    (void)state;
    NEED_KERNEL_TLS();
    struct session s;
    struct writer w[4];
    char buf[4096];
    struct ktls_ctx_opts o = server_opts(KTLS_POLICY_REQUIRE);
    session_open(&s, &o, TLS1_3_VERSION, NULL);
    run_writers(&s, w, 4, 1000000);
    int e = SSL_ERROR_WANT_READ;
    for (int i = 0, n; i < 2000 && e == SSL_ERROR_WANT_READ; i++) {
        if (i > 20) ktls_shutdown(s.conn);
        peer_feed(&s.peer);
        while ((n = SSL_read(s.peer.ssl, buf, sizeof buf)) > 0) {
        }
        e = SSL_get_error(s.peer.ssl, n);
        wait_fd(s.peer.fd, POLLIN, 10);
    }
    assert_int_equal(e, SSL_ERROR_ZERO_RETURN);
    for (int i = 0; i < 4; i++) {
        pthread_join(w[i].id, NULL);
        assert_true(w[i].err == -EPIPE || w[i].err == -EAGAIN || w[i].err == -EIO);
    }
    wait_fd(s.peer.fd, POLLIN, 20);
    assert_int_equal(recv(s.peer.fd, buf, sizeof buf, MSG_DONTWAIT), -1); /* nothing behind it */
    session_end(&s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_four_writers_at_full_speed),
        cmocka_unit_test(test_both_ways_both_sides_change_keys),
        cmocka_unit_test(test_shutdown_under_way),
    };
    return cmocka_run_group_tests(tests, setup_pki, teardown_pki);
}
