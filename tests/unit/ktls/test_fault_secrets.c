/*
 * No traffic secret and no record key stays in memory when a connection ends because memory ran out, or because a socket call
 * failed, anywhere in its life. As test_secrets.c looks for them, after connections that fault_inject.h has made to fail.
 *
 * KTLS_FAULT_CYCLES: a fiftieth of it is the number of connections (default 12). KTLS_FAULT_SEED moves the points.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include "secret_search.h"

#include "fault_inject.h"

#include <signal.h>

static unsigned n_points = 12;
static uint64_t seed = 1;

struct connection {
    enum ktls_role role;
    enum ktls_policy policy;
    int version;
    int reuse; /* client: tickets that are waited for */
    struct ktls_ctx *ctx;
};

static int use(struct ktls_conn *conn, enum ktls_role role, int fd) {
    char buf[4];
    size_t got = 0;
    int r;
    while ((r = LIB(ktls_handshake(conn))) > 0)
        if (!wait_fd(fd, r == KTLS_WANT_WRITE ? POLLOUT : POLLIN, 3000)) return -ETIME;
    for (int i = 0; r == 0 && got < 4 && i < 100; i++) {
        ssize_t n = LIB(ktls_read(conn, buf + got, 4 - got));
        if (n > 0) got += (size_t)n;
        if (n < 0 && n != -EAGAIN) r = (int)n;
        if (n == -EAGAIN) wait_fd(fd, POLLIN, 30);
    }
    if (r == 0) r = LIB(ktls_key_update(conn, 0)) == -ENOMEM ? -ENOMEM : 0;
    ssize_t n = r == 0 ? LIB(ktls_write(conn, role == KTLS_SERVER ? "pong" : "ping", 4)) : r;
    return n < 0 ? (int)n : 0;
}

/* One connection with the fault. Its result; the report is in `wanted`. */
static int connect_once(const struct connection *k, struct fault f) {
    int fd[2], report[2], r;
    struct ktls_conn *conn = NULL;
    tcp_pair(fd);
    assert_int_equal(pipe(report), 0);
    pid_t pid = fork();
    if (pid == 0) {
        signal(SIGPIPE, SIG_IGN); /* the connection may end anywhere, and the report is wanted all the same */
        close(fd[1]);
        if (k->role == KTLS_SERVER) child(fd[0], report[1], k->version);
        child_server(fd[0], report[1]);
    }
    close(fd[0]);
    close(report[1]);
    alarm(60);
    fault_arm(f);
    r = LIB(ktls_conn_new(k->ctx, fd[1], k->role == KTLS_CLIENT ? "server.test" : NULL, &conn));
    if (r == 0 && k->reuse) r = LIB(ktls_conn_set_peer(conn, "a:1"));
    if (r == 0) r = use(conn, k->role, fd[1]);
    LIB(ktls_conn_free(conn));
    fault.kind = FAULT_NONE;
    shutdown(fd[1], SHUT_RDWR); /* the child has no more to wait for */
    assert_int_equal(read(report[0], &wanted, sizeof wanted), sizeof wanted);
    close(fd[1]);
    close(report[0]);
    waitpid(pid, NULL, 0);
    alarm(0);
    return r;
}

static void check_nothing_left(const struct connection *k, struct fault f, int r) {
    int found[N_NEEDLES], sum = 0;
    search(found, false);
    for (int i = 0; i < N_NEEDLES; i++) sum += found[i];
    if (sum == 0) return;
    print_message("%s %s %s: %s %u gave %s\n", k->role == KTLS_SERVER ? "server" : "client",
                  k->version == TLS1_3_VERSION ? "1.3" : "1.2",
                  k->policy == KTLS_POLICY_OFF  ? "user"
                  : k->policy == KTLS_POLICY_TX ? "tx"
                                                : "kernel",
                  fault_kind_name[f.kind], f.at, ktls_strerror(r));
    search(found, true);
    assert_int_equal(sum, 0);
}

static void check(struct connection k) {
    static const enum fault_kind kinds[] = { FAULT_ALLOC, FAULT_RECV, FAULT_SEND, FAULT_SETSOCKOPT, FAULT_SENDMSG };
    struct ktls_ctx_opts o = k.role == KTLS_SERVER ? server_opts(k.policy) : client_opts(k.policy);
    unsigned calls[FAULT_N_KINDS], failed = 0;
    o.session_reuse = k.reuse;
    o.no_session_cache = k.version == TLS1_2_VERSION;
    k.ctx = LIB(new_ctx(&o));
    for (int i = 0; i < 3; i++) assert_int_equal(connect_once(&k, (struct fault){ 0 }), 0);
    check_nothing_left(&k, (struct fault){ 0 }, 0);
    memcpy(calls, fault_calls, sizeof calls);
    for (unsigned i = 0; i < n_points; i++) {
        enum fault_kind kind = i % 2 ? FAULT_ALLOC : kinds[i / 2 % 5];
        struct fault f = { kind, 1 + (unsigned)((seed * 7919 + i * 2654435761u) % (calls[kind] + 1)), 1, ENOMEM };
        int r = connect_once(&k, f);
        failed += r < 0;
        check_nothing_left(&k, f, r);
    }
    LIB(ktls_ctx_unref(k.ctx));
    print_message("%u connections, %u failed\n", n_points, failed);
}

static void skip_if_sanitized(void) {
    if (!SANITIZED) return;
    print_message("skipped: sanitizers keep freed memory and map too much\n");
    skip();
}

static void test_fault_secrets_user_mode(void **state) {
    (void)state;
    skip_if_sanitized();
    check((struct connection){ KTLS_SERVER, KTLS_POLICY_OFF, TLS1_3_VERSION, 0, NULL });
    check((struct connection){ KTLS_SERVER, KTLS_POLICY_OFF, TLS1_2_VERSION, 0, NULL });
    check((struct connection){ KTLS_CLIENT, KTLS_POLICY_OFF, TLS1_3_VERSION, 0, NULL });
}

static void test_fault_secrets_kernel_mode(void **state) {
    (void)state;
    skip_if_sanitized();
    NEED_KERNEL_TLS();
    check((struct connection){ KTLS_SERVER, KTLS_POLICY_AUTO, TLS1_3_VERSION, 0, NULL });
    check((struct connection){ KTLS_SERVER, KTLS_POLICY_AUTO, TLS1_2_VERSION, 0, NULL });
    check((struct connection){ KTLS_CLIENT, KTLS_POLICY_AUTO, TLS1_3_VERSION, 2, NULL });
    check((struct connection){ KTLS_CLIENT, KTLS_POLICY_AUTO, TLS1_3_VERSION, 4, NULL });
}

static void test_fault_secrets_half_offload(void **state) {
    (void)state;
    skip_if_sanitized();
    NEED_KERNEL_TLS();
    check((struct connection){ KTLS_SERVER, KTLS_POLICY_TX, TLS1_3_VERSION, 0, NULL });
    check((struct connection){ KTLS_SERVER, KTLS_POLICY_TX, TLS1_2_VERSION, 0, NULL });
    check((struct connection){ KTLS_CLIENT, KTLS_POLICY_TX, TLS1_3_VERSION, 2, NULL });
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fault_secrets_user_mode),
        cmocka_unit_test(test_fault_secrets_kernel_mode),
        cmocka_unit_test(test_fault_secrets_half_offload),
    };
    const char *e = getenv("KTLS_FAULT_CYCLES");
    if (e && atoi(e) >= 50) n_points = (unsigned)atoi(e) / 50;
    if ((e = getenv("KTLS_FAULT_SEED"))) seed = strtoull(e, NULL, 10);
    fault_setup();
    return cmocka_run_group_tests(tests, setup_pki, teardown_pki);
}
