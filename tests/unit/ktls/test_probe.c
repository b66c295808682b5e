/* The probe: consistent with itself, cached, repeatable, leaks no descriptor; and where the kernel counts TLS, the count is
 * believed. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include "ktls_test.h"

#include <sys/resource.h>

#include <dirent.h>

static int open_fds(void) {
    DIR *d = opendir("/proc/self/fd");
    int n = 0;
    assert_non_null(d);
    while (readdir(d)) n++;
    closedir(d);
    return n;
}

static void test_probe_is_consistent(void **state) {
    (void)state;
    struct ktls_probe p;
    int r = ktls_probe(&p), both = 0;
    for (int v = 0; v < KTLS_N_VERSIONS; v++)
        for (int c = 0; c < KTLS_N_CIPHERS; c++) both += !p.result[v][c][KTLS_TX] && !p.result[v][c][KTLS_RX];
    assert_int_equal(r, 0);
    assert_int_equal(p.usable, both > 0);
    assert_int_equal(p.usable, p.reason == KTLS_REASON_NONE);
    assert_int_equal(p.usable, p.err == 0);
    assert_true(strlen(p.kernel) > 0);
    if (p.usable) assert_true(p.rekey == 0 || p.rekey == EBUSY);
}

static void test_probe_again_repeats_and_leaks_nothing(void **state) {
    (void)state;
    struct ktls_probe a, b;
    ktls_probe(&a);
    int fds = open_fds();
    for (int i = 0; i < 5; i++) assert_int_equal(ktls_probe_again(&b), 0);
    assert_int_equal(open_fds(), fds);
    assert_memory_equal(&a, &b, sizeof a);
}

static void test_probe_really_uses_the_kernel(void **state) {
    (void)state;
    NEED_KERNEL_TLS();
    struct ktls_probe p;
    long tx = tls_stat("TlsTxSw"), rx = tls_stat("TlsRxSw");
    assert_true(tx >= 0);
    ktls_probe_again(&p);
    assert_true(tls_stat("TlsTxSw") >= tx + 8);
    assert_true(tls_stat("TlsRxSw") >= rx + 8);
}

static void test_handover_is_seen_by_the_kernels_counters(void **state) {
    (void)state;
    NEED_KERNEL_TLS();
    struct ktls_ctx_opts o = server_opts(KTLS_POLICY_REQUIRE);
    struct session s;
    long tx = tls_stat("TlsCurrTxSw"), rx = tls_stat("TlsCurrRxSw"), bad = tls_stat("TlsDecryptError");
    session_open(&s, &o, TLS1_3_VERSION, NULL);
    assert_int_equal(tls_stat("TlsCurrTxSw"), tx + 1);
    assert_int_equal(tls_stat("TlsCurrRxSw"), rx + 1);
    char buf[4];
    peer_write(&s.peer, "ping", 4);
    assert_int_equal(lib_read(s.conn, buf, 4), 0);
    session_end(&s);
    assert_int_equal(tls_stat("TlsDecryptError"), bad);
}

/* A process that is out of descriptors for a moment must not be in userspace for the rest of its life. */
static void test_probe_shortage_is_not_kept(void **state) {
    (void)state;
    struct ktls_probe before, during, after;
    struct rlimit limit, none;
    ktls_probe_again(&before);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    none = limit;
    none.rlim_cur = 0;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    int r = ktls_probe_again(&during);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
    assert_int_equal(r, -EMFILE);
    assert_int_equal(during.usable, 0);
    assert_int_equal(during.err, EMFILE);
    ktls_probe(&after);
    assert_memory_equal(&after, &before, sizeof before);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_probe_is_consistent),
        cmocka_unit_test(test_probe_again_repeats_and_leaks_nothing),
        cmocka_unit_test(test_probe_shortage_is_not_kept),
        cmocka_unit_test(test_probe_really_uses_the_kernel),
        cmocka_unit_test(test_handover_is_seen_by_the_kernels_counters),
    };
    return cmocka_run_group_tests(tests, setup_pki, teardown_pki);
}
