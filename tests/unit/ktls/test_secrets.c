/*
 * No traffic secret and no record key stays in memory: after the hand-over only in struct ktls_conn (and only what KeyUpdate
 * needs), after ktls_conn_free() nowhere. All writable memory of the process is searched.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include "secret_search.h"

/* ---- The tests ---- */

static void check(enum ktls_policy policy, int version, enum ktls_mode want) {
    struct ktls_ctx_opts o = server_opts(policy);
    struct ktls_ctx *ctx = new_ctx(&o);
    struct ktls_conn *conn;
    int fd[2], report[2], r, found[N_NEEDLES];
    char buf[4];
    tcp_pair(fd);
    assert_int_equal(pipe(report), 0);
    pid_t pid = fork();
    if (pid == 0) {
        close(fd[1]);
        child(fd[0], report[1], version);
    }
    close(fd[0]);
    assert_int_equal(ktls_conn_new(ctx, fd[1], NULL, &conn), 0);
    while ((r = ktls_handshake(conn)) > 0) wait_fd(fd[1], r == KTLS_WANT_WRITE ? POLLOUT : POLLIN, 1000);
    assert_int_equal(r, KTLS_DONE);
    assert_int_equal(ktls_conn_mode(conn), want);
    assert_int_equal(lib_read(conn, buf, 4), 0);
    assert_int_equal(ktls_write(conn, "pong", 4), 4);
    assert_int_equal(read(report[0], &wanted, sizeof wanted), sizeof wanted);

    int secrets = version == TLS1_3_VERSION;
    search(found, false);
    print_message("in use: secrets %d %d, keys %d %d\n", found[0], found[1], found[2], found[3]);
    if (want == KTLS_MODE_KERNEL) {
        if (secrets) assert_int_equal(found[CLIENT_SECRET], 1); /* kept for KeyUpdate, in struct ktls_conn */
        if (secrets) assert_int_equal(found[SERVER_SECRET], 1);
        if (found[CLIENT_KEY] + found[SERVER_KEY] > 0) search(found, true);
        assert_int_equal(found[CLIENT_KEY], 0);
        assert_int_equal(found[SERVER_KEY], 0);
    } else if (want == KTLS_MODE_TX) {
        if (secrets) assert_int_equal(found[SERVER_SECRET], 1);
        if (secrets) assert_int_equal(found[CLIENT_SECRET], 1);
        assert_int_equal(found[SERVER_KEY], 0); /* the kernel's */
        assert_int_equal(found[CLIENT_KEY], secrets ? 1 : 2);
    } else {
        assert_int_equal(found[CLIENT_KEY], secrets ? 1 : 2); /* in use; TLS 1.2: and kept for ktls_export() */
        assert_int_equal(found[SERVER_KEY], secrets ? 1 : 2);
        if (secrets) assert_int_equal(found[CLIENT_SECRET], 1); /* kept for KeyUpdate */
        if (secrets) assert_int_equal(found[SERVER_SECRET], 1);
    }
    ktls_conn_free(conn);
    search(found, true);
    print_message("freed: secrets %d %d, keys %d %d\n", found[0], found[1], found[2], found[3]);
    assert_int_equal(found[CLIENT_SECRET], 0);
    assert_int_equal(found[SERVER_SECRET], 0);
    assert_int_equal(found[CLIENT_KEY], 0);
    assert_int_equal(found[SERVER_KEY], 0);
    close(fd[1]);
    close(report[0]);
    close(report[1]);
    waitpid(pid, NULL, 0);
    ktls_ctx_unref(ctx);
}

/* reuse tickets wanted of two: with 2 OpenSSL's object is gone once they came, with 4 it holds its secrets to the end. */
static void check_reuse(int reuse) {
    struct ktls_ctx_opts o = client_opts(KTLS_POLICY_REQUIRE);
    o.session_reuse = reuse;
    struct ktls_ctx *ctx = new_ctx(&o);
    struct ktls_conn *conn;
    int fd[2], report[2], r, found[N_NEEDLES];
    char buf[4];
    tcp_pair(fd);
    assert_int_equal(pipe(report), 0);
    pid_t pid = fork();
    if (pid == 0) {
        close(fd[1]);
        child_server(fd[0], report[1]);
    }
    close(fd[0]);
    assert_int_equal(ktls_conn_new(ctx, fd[1], "server.test", &conn), 0);
    assert_int_equal(ktls_conn_set_peer(conn, "a:1"), 0);
    while ((r = ktls_handshake(conn)) > 0) wait_fd(fd[1], r == KTLS_WANT_WRITE ? POLLOUT : POLLIN, 1000);
    assert_int_equal(r, KTLS_DONE);
    assert_int_equal(lib_read(conn, buf, 4), 0);
    assert_int_equal(ktls_write(conn, "ping", 4), 4);
    assert_int_equal(read(report[0], &wanted, sizeof wanted), sizeof wanted);
    assert_int_equal(ktls_store_count(ctx->store, NULL), 2);
    for (int freed = 0; freed < 2; freed++) {
        int kept = freed ? 0 : 1;
        search(found, freed);
        print_message("%d of 2 tickets, %s: secrets %d %d, keys %d %d\n", reuse, freed ? "freed" : "in use", found[0], found[1],
                      found[2], found[3]);
        if (reuse == 2 || freed) {
            assert_int_equal(found[CLIENT_SECRET], kept);
            assert_int_equal(found[SERVER_SECRET], kept);
            assert_int_equal(found[CLIENT_KEY], 0);
            assert_int_equal(found[SERVER_KEY], 0);
        } else {
            assert_true(found[SERVER_SECRET] > 1); /* the search does find things */
        }
        if (!freed) ktls_conn_free(conn);
    }
    close(fd[1]);
    close(report[0]);
    close(report[1]);
    waitpid(pid, NULL, 0);
    ktls_ctx_unref(ctx);
}

#define SKIP_IF_SANITIZED()                                                                                                      \
    do {                                                                                                                         \
        if (SANITIZED) {                                                                                                         \
            print_message("skipped: sanitizers keep freed memory and map too much\n");                                           \
            skip();                                                                                                              \
        }                                                                                                                        \
    } while (0)

static void test_secrets_user_mode(void **state) {
    (void)state;
    SKIP_IF_SANITIZED();
    check(KTLS_POLICY_OFF, TLS1_3_VERSION, KTLS_MODE_USER);
    check(KTLS_POLICY_OFF, TLS1_2_VERSION, KTLS_MODE_USER);
}

static void test_secrets_kernel_mode(void **state) {
    (void)state;
    SKIP_IF_SANITIZED();
    NEED_KERNEL_TLS();
    check(KTLS_POLICY_REQUIRE, TLS1_3_VERSION, KTLS_MODE_KERNEL);
    check(KTLS_POLICY_REQUIRE, TLS1_2_VERSION, KTLS_MODE_KERNEL);
}

static void test_secrets_half_offload(void **state) {
    (void)state;
    SKIP_IF_SANITIZED();
    NEED_KERNEL_TLS();
    check(KTLS_POLICY_TX, TLS1_3_VERSION, KTLS_MODE_TX);
    check(KTLS_POLICY_TX, TLS1_2_VERSION, KTLS_MODE_TX);
}

static void test_secrets_kernel_mode_client_that_takes_tickets(void **state) {
    (void)state;
    SKIP_IF_SANITIZED();
    NEED_KERNEL_TLS();
    check_reuse(2);
    check_reuse(4);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_secrets_user_mode),
        cmocka_unit_test(test_secrets_kernel_mode),
        cmocka_unit_test(test_secrets_half_offload),
        cmocka_unit_test(test_secrets_kernel_mode_client_that_takes_tickets),
    };
    return cmocka_run_group_tests(tests, setup_pki, teardown_pki);
}
