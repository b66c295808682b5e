/* Listening and connecting: addresses, families, errors told in one line, options, deadlines. */
#include "net_test.h"

#include <netinet/tcp.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "net/listen.h"

static int port_of(int fd) {
    struct sockaddr_storage sa;
    socklen_t len = sizeof(sa);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&sa, &len), 0);
    return ntohs(sa.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&sa)->sin6_port : ((struct sockaddr_in *)&sa)->sin_port);
}

static bool flags_are_right(int fd) {
    return fcntl(fd, F_GETFL) & O_NONBLOCK && fcntl(fd, F_GETFD) & FD_CLOEXEC;
}

static void test_tcp_listen_and_connect(void **state) {
    (void)state;
    static const char *const addrs[] = { "127.0.0.1", "*", "::1", "::*", "localhost" };
    static const char *const hosts[] = { "127.0.0.1", "127.0.0.1", "::1", "::1", "localhost" };
    char err[200];
    for (int i = 0; i < 5; i++) {
        int l = listen_tcp(addrs[i], 0, 16, false, err, sizeof(err));
        if (l < 0 && strchr(hosts[i], ':')) /* a machine without IPv6 */
            continue;
        assert_true(l >= 0);
        assert_true(flags_are_right(l));
        int c = sock_connect_tcp(hosts[i], port_of(l), NULL, clock_mono_us() + 1000000, err, sizeof(err));
        assert_true(c >= 0);
        assert_true(flags_are_right(c));
        assert_int_equal(sock_tune(c, 300), 0);
        int v;
        socklen_t len = sizeof(v);
        getsockopt(c, IPPROTO_TCP, TCP_NODELAY, &v, &len);
        assert_true(v);
        getsockopt(c, IPPROTO_TCP, TCP_KEEPIDLE, &v, &len);
        assert_int_equal(v, 300);
        getsockopt(c, IPPROTO_TCP, TCP_KEEPINTVL, &v, &len);
        assert_int_equal(v, 100);
        assert_int_equal(sock_tune(c, 0), 0);
        assert_int_equal(sock_tune(c, 1), 0);
        close(c);
        close(l);
    }
}

static void test_both_families_share_a_port(void **state) {
    (void)state;
    char err[200];
    int six = listen_tcp("::*", 0, 16, false, err, sizeof(err));
    if (six < 0) skip();
    int four = listen_tcp("*", port_of(six), 16, false, err, sizeof(err));
    for (int i = 0; four == -EADDRINUSE && i < 20; i++) { /* free for IPv6 only: something else on this machine has it for IPv4 */
        close(six);
        six = listen_tcp("::*", 0, 16, false, err, sizeof(err));
        assert_true(six >= 0);
        four = listen_tcp("*", port_of(six), 16, false, err, sizeof(err));
    }
    assert_true(four >= 0);
    close(four);
    close(six);
}

static void test_reuseport(void **state) {
    (void)state;
    char err[200];
    int a = listen_tcp("127.0.0.1", 0, 16, true, err, sizeof(err));
    int b = listen_tcp("127.0.0.1", port_of(a), 16, true, err, sizeof(err));
    assert_true(a >= 0 && b >= 0);
    int c = listen_tcp("127.0.0.1", port_of(a), 16, false, err, sizeof(err));
    assert_int_equal(c, -EADDRINUSE);
    char want[200];
    snprintf(want, sizeof(want), "bind 127.0.0.1:%d: Address already in use", port_of(a));
    assert_string_equal(err, want);
    close(a);
    close(b);
}

static void test_bad_addresses(void **state) {
    (void)state;
    char err[200] = "";
    assert_true(listen_tcp("no.such.host.invalid", 0, 16, false, err, sizeof(err)) < 0);
    assert_non_null(strstr(err, "no.such.host.invalid"));
    assert_int_equal(listen_tcp("192.0.2.1", 0, 16, false, err, sizeof(err)), -EADDRNOTAVAIL);
    assert_int_equal(listen_tcp("192.0.2.1", 0, 16, false, NULL, 0), -EADDRNOTAVAIL);
}

static void test_connect_refused_and_source(void **state) {
    (void)state;
    char err[200] = "";
    int l = listen_tcp("127.0.0.1", 0, 16, false, err, sizeof(err)), port = port_of(l);
    int c = sock_connect_tcp("127.0.0.1", port, "127.0.0.2", clock_mono_us() + 1000000, err, sizeof(err));
    assert_true(c >= 0);
    struct sockaddr_in sa;
    socklen_t len = sizeof(sa);
    getsockname(c, (struct sockaddr *)&sa, &len);
    assert_int_equal(ntohl(sa.sin_addr.s_addr), 0x7f000002);
    close(c);
    assert_int_equal(sock_connect_tcp("127.0.0.1", port, "192.0.2.1", clock_mono_us() + 1000000, err, sizeof(err)),
                     -EADDRNOTAVAIL);
    close(l);
    assert_int_equal(sock_connect_tcp("127.0.0.1", port, NULL, clock_mono_us() + 1000000, err, sizeof(err)), -ECONNREFUSED);
    assert_string_equal(err, "connect: Connection refused");
}

static void test_connect_deadline(void **state) {
    (void)state;
    char err[200] = "";
    int l = listen_tcp("127.0.0.1", 0, 0, false, err, sizeof(err)), fds[8], n = 0;
    int64_t start = clock_mono_us();
    int r = 0;
    for (int i = 0; i < 8 && r >= 0; i++) { /* the backlog fills; then SYNs go unanswered */
        start = clock_mono_us();
        r = sock_connect_tcp("127.0.0.1", port_of(l), NULL, start + 100000, err, sizeof(err));
        if (r >= 0) fds[n++] = r;
    }
    assert_int_equal(r, -ETIMEDOUT);
    assert_in_range(clock_mono_us() - start, 100000, 1000000);
    while (n > 0) close(fds[--n]);
    close(l);
}

static void test_unix(void **state) {
    (void)state;
    char dir[] = "/tmp/kettle-net-XXXXXX", path[64], err[200];
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof(path), "%s/sock", dir);
    int l = listen_unix(path, 0700, 16, err, sizeof(err));
    assert_true(l >= 0 && flags_are_right(l));
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0700);
    int c = sock_connect_unix(path, err, sizeof(err));
    assert_true(c >= 0 && flags_are_right(c));
    close(c);
    close(l);
    l = listen_unix(path, 0, 16, err, sizeof(err)); /* over a former run's socket */
    assert_true(l >= 0);
    close(l);
    assert_int_equal(sock_connect_unix(path, err, sizeof(err)), -ECONNREFUSED);
    unlink(path);
    FILE *f = fopen(path, "w"); /* not ours to remove */
    fclose(f);
    assert_int_equal(listen_unix(path, 0, 16, err, sizeof(err)), -EADDRINUSE);
    unlink(path);
    rmdir(dir);
    char longer[300];
    memset(longer, 'x', sizeof(longer) - 1);
    longer[299] = '\0';
    assert_int_equal(listen_unix(longer, 0, 16, err, sizeof(err)), -ENAMETOOLONG);
    assert_int_equal(sock_connect_unix(longer, err, sizeof(err)), -ENAMETOOLONG);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tcp_listen_and_connect),
        cmocka_unit_test(test_both_families_share_a_port),
        cmocka_unit_test(test_reuseport),
        cmocka_unit_test(test_bad_addresses),
        cmocka_unit_test(test_connect_refused_and_source),
        cmocka_unit_test(test_connect_deadline),
        cmocka_unit_test(test_unix),
    };
    return cmocka_run_group_tests(tests, watchdog, NULL);
}
