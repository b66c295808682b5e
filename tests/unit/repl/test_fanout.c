/* One stream into several sockets: everybody gets the same bytes, and one that is slow, stuck or gone does not stop the others.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/rand.h"
#include "repl/fanout.h"

#define TOTAL (3 << 20)
#define WINDOW (256 * 1024)

struct reader {
    int fd;
    size_t stop_after; /* bytes; then it closes, or does nothing any more */
    bool closes, is_slow;
    uint64_t from, got;
    bool is_wrong;
    pthread_t t;
};

static unsigned char byte_at(uint64_t i) {
    return (unsigned char)(i * 131 + (i >> 9));
}

static void *read_main(void *arg) {
    struct reader *r = arg;
    unsigned char buf[8192];
    while (r->got < r->stop_after) {
        ssize_t n = read(r->fd, buf, r->is_slow ? 700 : sizeof buf);
        if (n <= 0) break;
        for (ssize_t i = 0; i < n; i++) r->is_wrong |= buf[i] != byte_at(r->from + r->got + (uint64_t)i);
        r->got += (uint64_t)n;
        if (r->is_slow && r->got % 64 == 0) nanosleep(&(struct timespec){ .tv_nsec = 20000 }, NULL);
    }
    if (r->closes) {
        close(r->fd);
        r->fd = -1;
    }
    return NULL;
}

static int feed(struct fanout *f) {
    unsigned char buf[50000];
    uint64_t at = 0;
    int r = 0;
    while (at < TOTAL && r == 0) {
        size_t n = 1 + (size_t)rand_below(sizeof buf);
        if (n > TOTAL - at) n = (size_t)(TOTAL - at);
        for (size_t i = 0; i < n; i++) buf[i] = byte_at(at + i);
        r = fanout_write(f, buf, n);
        at += n;
    }
    return r ? r : fanout_finish(f);
}

static int run(struct reader *readers, struct fanout_sink *sinks, int n, int64_t stall_us, int64_t timeout_us) {
    for (int i = 0; i < n; i++) {
        int pair[2];
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
        readers[i].fd = pair[0];
        readers[i].from = sinks[i].skip;
        sinks[i].fd = pair[1];
        pthread_create(&readers[i].t, NULL, read_main, &readers[i]);
    }
    struct fanout_opts o = { .window = WINDOW, .stall_us = stall_us, .timeout_us = timeout_us };
    struct fanout *f = fanout_new(sinks, n, &o);
    int r = feed(f);
    fanout_free(f);
    for (int i = 0; i < n; i++) {
        close(sinks[i].fd);
        pthread_join(readers[i].t, NULL);
        if (readers[i].fd >= 0) close(readers[i].fd);
        assert_false(readers[i].is_wrong);
    }
    return r;
}

static void test_fanout_gives_everybody_the_same(void **state) {
    (void)state;
    struct reader r[3] = { { .stop_after = SIZE_MAX }, { .stop_after = SIZE_MAX, .is_slow = true }, { .stop_after = SIZE_MAX } };
    struct fanout_sink s[3] = { { .skip = 0 }, { .skip = 0 }, { .skip = 77 } };
    assert_int_equal(run(r, s, 3, 20000000, 20000000), 0);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(s[i].err, 0);
        assert_int_equal(s[i].sent, TOTAL - s[i].skip);
        assert_int_equal(r[i].got, TOTAL - s[i].skip);
    }
}

static void test_fanout_goes_on_without_who_is_gone_or_stuck(void **state) {
    (void)state;
    struct reader r[3] = { { .stop_after = SIZE_MAX }, { .stop_after = 100000 }, { .stop_after = 200000, .closes = true } };
    struct fanout_sink s[3] = { { 0 }, { 0 }, { 0 } };
    assert_int_equal(run(r, s, 3, 200000, 60000000), 0);
    assert_int_equal(s[0].err, 0);
    assert_int_equal(r[0].got, TOTAL);
    assert_int_equal(s[1].err, ETIMEDOUT);
    assert_true(s[2].err == EPIPE || s[2].err == ECONNRESET);
}

static void test_fanout_ends_when_nobody_is_left(void **state) {
    (void)state;
    struct reader r[2] = { { .stop_after = 1000, .closes = true }, { .stop_after = 1000 } };
    struct fanout_sink s[2] = { { 0 }, { 0 } };
    assert_int_equal(run(r, s, 2, 100000, 300000), -EPIPE);
    assert_int_equal(s[1].err, ETIMEDOUT);
}

/* Large pieces go straight to the socket then. */
static void test_fanout_of_one(void **state) {
    (void)state;
    for (int i = 0; i < 3; i++) {
        struct reader r = { .stop_after = SIZE_MAX, .is_slow = i == 1 };
        struct fanout_sink s = { .skip = i == 2 ? 70000 : 0 };
        assert_int_equal(run(&r, &s, 1, 20000000, 20000000), 0);
        assert_int_equal(s.err, 0);
        assert_int_equal(s.sent, TOTAL - s.skip);
        assert_int_equal(r.got, TOTAL - s.skip);
    }
    struct reader stuck = { .stop_after = 100000 }, gone = { .stop_after = 100000, .closes = true };
    struct fanout_sink s = { 0 };
    assert_int_equal(run(&stuck, &s, 1, 20000000, 300000), -EPIPE);
    assert_int_equal(s.err, ETIMEDOUT);
    s = (struct fanout_sink){ 0 };
    assert_int_equal(run(&gone, &s, 1, 20000000, 20000000), -EPIPE);
    assert_true(s.err == EPIPE || s.err == ECONNRESET);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fanout_gives_everybody_the_same),
        cmocka_unit_test(test_fanout_goes_on_without_who_is_gone_or_stuck),
        cmocka_unit_test(test_fanout_ends_when_nobody_is_left),
        cmocka_unit_test(test_fanout_of_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
