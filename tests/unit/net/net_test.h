/* What the net tests share: connected socket pairs, a peer that does blocking I/O on a thread of its own, a watchdog. cmocka's
 * assertions are for the main thread only: peers note what they saw, the test checks it after peer_join(). */
#ifndef KETTLE_TEST_NET_H
#define KETTLE_TEST_NET_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "ktls/ktls.h"
#include "net/loop.h"

#define MAYBE_UNUSED __attribute__((unused))

/* A connected TCP pair over loopback: server side non-blocking, client side blocking. */
MAYBE_UNUSED static void tcp_pair(int *server, int *client) {
    int l = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in sa = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t len = sizeof(sa);
    assert_int_equal(bind(l, (struct sockaddr *)&sa, sizeof(sa)), 0);
    assert_int_equal(listen(l, 1), 0);
    assert_int_equal(getsockname(l, (struct sockaddr *)&sa, &len), 0);
    *client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(*client, (struct sockaddr *)&sa, sizeof(sa)), 0);
    *server = accept4(l, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    assert_true(*server >= 0);
    close(l);
}

MAYBE_UNUSED static void set_nonblocking(int fd) {
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
}

/* The bytes of bulk tests are each test's own: following every one of them takes ThreadSanitizer minutes. */
#define NO_TSAN __attribute__((no_sanitize("thread")))

/* Byte i of the stream every bulk test sends. */
NO_TSAN static inline char pattern(size_t i) {
    return (char)(i * 2654435761u >> 13);
}

MAYBE_UNUSED NO_TSAN static void fill_pattern(char *p, size_t from, size_t n) {
    for (size_t i = 0; i < n; i++) p[i] = pattern(from + i);
}

/* True when the bytes are those of the stream at `from`. */
MAYBE_UNUSED NO_TSAN static bool is_pattern(const char *p, size_t from, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (p[i] != pattern(from + i)) return false;
    return true;
}

MAYBE_UNUSED static void sleep_ms(int ms) {
    usleep((unsigned)ms * 1000);
}

MAYBE_UNUSED static bool send_all(int fd, const void *p, size_t n) {
    for (size_t done = 0; done < n;) {
        ssize_t r = send(fd, (const char *)p + done, n - done, MSG_NOSIGNAL);
        if (r <= 0) return false;
        done += (size_t)r;
    }
    return true;
}

/* Reads until n bytes, the end or an error. Returns the bytes; *err is errno of the last recv, 0 at a clean end. */
MAYBE_UNUSED static size_t recv_upto(int fd, char *p, size_t n, int *err) {
    size_t done = 0;
    *err = 0;
    while (done < n) {
        ssize_t r = recv(fd, p + done, n - done, 0);
        if (r < 0) *err = errno;
        if (r <= 0) break;
        done += (size_t)r;
    }
    return done;
}

/* The test hangs instead of failing? Not longer than this. */
MAYBE_UNUSED static int watchdog(void **state) {
    (void)state;
    alarm(240);
    return 0;
}

/* Ends the test as skipped, with the reason, where the kernel cannot. */
#define NEED_KERNEL_TLS()                                                                                                        \
    do {                                                                                                                         \
        struct ktls_probe probe_;                                                                                                \
        ktls_probe(&probe_);                                                                                                     \
        if (!probe_.usable) {                                                                                                    \
            print_message("no kernel TLS here: %s (%s)\n", ktls_reason_name(probe_.reason), ktls_strerror(-probe_.err));         \
            skip();                                                                                                              \
        }                                                                                                                        \
    } while (0)

/* ---- both back ends of the loop, one after the other ---- */

MAYBE_UNUSED static enum loop_backend backend;

MAYBE_UNUSED static int setup_epoll(void **state) {
    (void)state;
    backend = LOOP_EPOLL;
    return 0;
}

MAYBE_UNUSED static int setup_uring(void **state) {
    (void)state;
    backend = LOOP_URING;
    return 0;
}

/* io_uring is left out, and said so, where the kernel has none: the epoll run counts. KETTLE_TEST_FILTER in the environment: only
 * the tests that it matches, for machines that are there for one kind of transport. */
#define run_on_both_backends(tests)                                                                                              \
    (cmocka_set_test_filter(getenv("KETTLE_TEST_FILTER")),                                                                       \
     cmocka_run_group_tests_name("epoll", tests, setup_epoll, NULL) +                                                            \
         (has_uring() ? cmocka_run_group_tests_name("io_uring", tests, setup_uring, NULL) : 0))

MAYBE_UNUSED static bool has_uring(void) {
    struct loop *l = NULL;
    int err = loop_new(LOOP_URING, &l);
    if (err) printf("[  SKIPPED ] io_uring: %s\n", strerror(-err));
    loop_free(l);
    return err == 0;
}

#endif
