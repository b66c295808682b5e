/*
 * The key log file: what it says is what the OpenSSL peer says of the same connection, in both modes, and nobody else may read
 * it.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include "ktls_test.h"

#include <sys/stat.h>

static char path[128];
static char peer_lines[4096]; /* each with a newline */
static int peer_count;

static void on_peer_line(const SSL *ssl, const char *line) {
    (void)ssl;
    size_t at = strlen(peer_lines);
    snprintf(peer_lines + at, sizeof peer_lines - at, "%s\n", line);
    peer_count++;
}

static size_t read_log(char *buf, size_t cap) {
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    size_t n = fread(buf, 1, cap - 1, f);
    fclose(f);
    buf[n] = 0;
    return n;
}

/* Every line of the one stands in the other, and there are as many. */
static void assert_same_lines(const char *log) {
    int n = 0;
    for (const char *p = log; *p; n++) {
        size_t len = strcspn(p, "\n") + 1;
        char line[600];
        assert_true(len < sizeof line);
        memcpy(line, p, len);
        line[len] = 0;
        if (!strstr(peer_lines, line)) fail_msg("the peer did not log: %s", line);
        p += len;
    }
    assert_int_equal(n, peer_count);
}

static void one_connection(enum ktls_policy policy, enum ktls_role role, int version) {
    char log[4096];
    struct ktls_stats before, after;
    struct session s;
    SSL_CTX *pc = peer_ctx(role == KTLS_CLIENT, version, NULL);
    struct ktls_ctx_opts o = role == KTLS_SERVER ? server_opts(policy) : client_opts(policy);
    o.keylog_file = path;
    SSL_CTX_set_keylog_callback(pc, on_peer_line);
    unlink(path);
    peer_lines[0] = 0;
    peer_count = 0;
    ktls_stats(&before);
    session_start(&s, &o, pc, 0, NULL);
    assert_int_equal(drive(s.conn, &s.peer), KTLS_DONE);
    assert_int_equal(ktls_conn_mode(s.conn), policy == KTLS_POLICY_OFF ? KTLS_MODE_USER : KTLS_MODE_KERNEL);
    read_log(log, sizeof log);
    assert_same_lines(log);
    static const char *const tls13[] = { "CLIENT_HANDSHAKE_TRAFFIC_SECRET ", "SERVER_HANDSHAKE_TRAFFIC_SECRET ",
                                         "CLIENT_TRAFFIC_SECRET_0 ", "SERVER_TRAFFIC_SECRET_0 " };
    for (int i = 0; version == TLS1_3_VERSION && i < 4; i++) assert_non_null(strstr(log, tls13[i]));
    if (version == TLS1_2_VERSION) assert_int_equal(strncmp(log, "CLIENT_RANDOM ", 14), 0);
    ktls_stats(&after);
    assert_int_equal(after.keylog_lines - before.keylog_lines, peer_count);
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    session_end(&s);
    SSL_CTX_free(pc);
}

static void every_connection(enum ktls_policy policy) {
    for (int role = 0; role < 2; role++) {
        one_connection(policy, (enum ktls_role)role, TLS1_3_VERSION);
        one_connection(policy, (enum ktls_role)role, TLS1_2_VERSION);
    }
}

static void test_keylog_user_mode(void **state) {
    (void)state;
    every_connection(KTLS_POLICY_OFF);
}

static void test_keylog_kernel_mode(void **state) {
    (void)state;
    NEED_KERNEL_TLS();
    every_connection(KTLS_POLICY_REQUIRE);
}

static void test_keylog_appends(void **state) {
    (void)state;
    char log[8192];
    struct ktls_ctx_opts o = server_opts(KTLS_POLICY_OFF);
    struct session s;
    o.keylog_file = path;
    unlink(path);
    session_open(&s, &o, TLS1_2_VERSION, NULL);
    session_end(&s);
    size_t first = read_log(log, sizeof log);
    session_open(&s, &o, TLS1_2_VERSION, NULL);
    session_end(&s);
    assert_int_equal(read_log(log, sizeof log), 2 * first);
}

static void test_keylog_none_without_a_file(void **state) {
    (void)state;
    struct ktls_ctx_opts o = server_opts(KTLS_POLICY_OFF);
    struct ktls_stats before, after;
    struct session s;
    ktls_stats(&before);
    o.keylog_file = "";
    setenv("SSLKEYLOGFILE", path, 1); /* the environment is no directive */
    unlink(path);
    session_open(&s, &o, TLS1_3_VERSION, NULL);
    session_end(&s);
    unsetenv("SSLKEYLOGFILE");
    ktls_stats(&after);
    assert_int_equal(after.keylog_lines, before.keylog_lines);
    assert_int_equal(access(path, F_OK), -1);
}

static void refused(const char *file, const char *why) {
    struct ktls_ctx_opts o = server_opts(KTLS_POLICY_OFF);
    struct ktls_ctx *ctx = NULL;
    char err[256];
    o.keylog_file = file;
    assert_int_equal(ktls_ctx_new(&o, &ctx, err, sizeof err), KTLS_ECONFIG);
    assert_null(ctx);
    if (!strstr(err, why)) fail_msg("'%s' does not say '%s'", err, why);
}

static void test_keylog_unsafe_files_are_refused(void **state) {
    (void)state;
    char link[160];
    snprintf(link, sizeof link, "%s.link", path);
    unlink(path);
    int fd = open(path, O_CREAT | O_WRONLY, 0600);
    assert_true(fd >= 0);
    assert_int_equal(fchmod(fd, 0640), 0);
    close(fd);
    refused(path, "may be read by others");
    assert_int_equal(chmod(path, 0600), 0);
    assert_int_equal(symlink(path, link), 0);
    refused(link, "not a regular file");
    unlink(link);
    unlink(path);
    assert_int_equal(mkfifo(path, 0600), 0);
    refused(path, ""); /* nobody reads: ENXIO; it is no file in any case */
    unlink(path);
    refused("/nonexistent/keys", "No such file");
    refused("/dev/null", "not a regular file");
}

static int setup(void **state) {
    setup_pki(state);
    snprintf(path, sizeof path, "%s/keylog", pki.dir);
    return 0;
}

static int teardown(void **state) {
    unlink(path);
    return teardown_pki(state);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_keylog_user_mode),
        cmocka_unit_test(test_keylog_kernel_mode),
        cmocka_unit_test(test_keylog_appends),
        cmocka_unit_test(test_keylog_none_without_a_file),
        cmocka_unit_test(test_keylog_unsafe_files_are_refused),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
