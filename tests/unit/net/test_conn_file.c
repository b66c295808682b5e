/* conn_send_file: a file between what is queued before and after it, over every transport; peers that are slow, that go away, a
 * file that is shorter than was promised. */
#include "conn_test.h"

#include <sys/mman.h>

enum { BEFORE = 100000, OFF = 777, FILE_LEN = (24 << 20) + 123, AFTER = 50000, TOTAL = BEFORE + FILE_LEN + AFTER };

static int file_fd;

/* OFF other bytes, then `len` of the stream. */
static int make_file(size_t len) {
    int fd = memfd_create("test", MFD_CLOEXEC);
    char *data = malloc(OFF + len);
    memset(data, '!', OFF);
    fill_pattern(data + OFF, BEFORE, len);
    assert_int_equal(write(fd, data, OFF + len), OFF + len);
    free(data);
    return fd;
}

static bool is_open(int fd) {
    return fcntl(fd, F_GETFD) >= 0;
}

/* Queued bytes, and a file of which `len` bytes are there and `promised` are wanted. */
static void send_file(struct app *a, size_t len, size_t promised) {
    queue_pattern(a, 0, BEFORE);
    file_fd = make_file(len);
    assert_false(conn_sends_file(&a->c));
    conn_send_file(&a->c, file_fd, OFF, promised);
    assert_true(conn_sends_file(&a->c));
}

static void open_with_file(struct app *a) {
    send_file(a, FILE_LEN, FILE_LEN);
}

/* ---- order ---- */

static void queue_the_rest(struct app *a) {
    assert_false(conn_sends_file(&a->c));
    assert_false(is_open(file_fd));
    assert_int_equal(a->c.bytes_out, BEFORE + FILE_LEN);
    queue_pattern(a, BEFORE + FILE_LEN, AFTER);
    conn_close_after_flush(&a->c, 20000000);
}

static int reading_peer(struct peer *p) {
    char *data = malloc(TOTAL + 1);
    sleep_ms(50); /* the server's socket fills up */
    size_t n = peer_read_upto(p, data, TOTAL + 1);
    bool ok = n == TOTAL && is_pattern(data, 0, n) && p->err == 0;
    free(data);
    peer_finish(p);
    return ok;
}

static void test_file_goes_between_what_is_queued(void **state) {
    (void)state;
    NEED_KIND();
    struct peer p = { 0 };
    app.on_open = open_with_file;
    app.on_drained = queue_the_rest;
    start_pair(&p, reading_peer, 0);
    run_to_close(&p);
    assert_int_equal(p.result, 1);
    assert_int_equal(app.n_drained, 1);
    assert_int_equal(app.c.bytes_out, TOTAL);
    assert_int_equal(app.end, CONN_END_LOCAL);
    assert_string_equal(app.text, "");
}

/* ---- nothing, and too much ---- */

static void empty_then_two(struct app *a) {
    if (a->n_drained == 1) { /* of an empty file */
        assert_int_equal(a->c.bytes_out, 0);
        assert_false(is_open(file_fd));
        send_file(a, 5000, 5000);
        int second = make_file(10);
        conn_send_file(&a->c, second, 0, 10); /* one at a time */
        assert_false(is_open(second));
        assert_true(is_open(file_fd));
        return;
    }
    conn_close(&a->c, CONN_END_LOCAL, "");
    int late = make_file(10);
    conn_send_file(&a->c, late, 0, 10);
    assert_false(is_open(late));
}

static void open_with_empty_file(struct app *a) {
    file_fd = make_file(0);
    conn_send_file(&a->c, file_fd, OFF, 0);
}

static int small_file_peer(struct peer *p) {
    char data[BEFORE + 5000 + 1];
    size_t n = peer_read_upto(p, data, sizeof(data));
    return n == sizeof(data) - 1 && is_pattern(data, 0, n);
}

static void test_empty_files_and_a_second_one(void **state) {
    (void)state;
    NEED_KIND();
    struct peer p = { 0 };
    app.on_open = open_with_empty_file;
    app.on_drained = empty_then_two;
    start_pair(&p, small_file_peer, 0);
    run_to_close(&p);
    assert_int_equal(p.result, 1);
    assert_int_equal(app.n_drained, 2);
}

/* ---- a peer that is slow ---- */

static _Atomic size_t n_heard;

static void hear(struct app *a, char *data, size_t len) {
    (void)data;
    (void)a;
    atomic_fetch_add(&n_heard, len);
}

static void open_with_file_and_close(struct app *a) {
    send_file(a, FILE_LEN, FILE_LEN);
    conn_close_after_flush(&a->c, 150000); /* for as long as nothing is taken */
}

/* Takes several times as long. */
static int slow_peer(struct peer *p) {
    const size_t all = BEFORE + FILE_LEN, piece = all / 40;
    char *data = malloc(all + 1);
    size_t n = 0;
    for (int i = 0; i < 40 && n == (size_t)i * piece; i++) {
        n += peer_read_upto(p, data + n, piece);
        sleep_ms(20);
    }
    n += peer_read_upto(p, data + n, all + 1 - n);
    bool ok = n == all && is_pattern(data, 0, n) && p->err == 0;
    free(data);
    return ok;
}

static void test_slow_reader_gets_all_of_it_before_the_close(void **state) {
    (void)state;
    NEED_KIND();
    struct peer p = { 0 };
    app.on_open = open_with_file_and_close;
    start_pair(&p, slow_peer, 0);
    run_to_close(&p);
    assert_int_equal(p.result, 1);
    assert_int_equal(app.end, CONN_END_LOCAL);
    assert_string_equal(app.text, "");
    assert_false(is_open(file_fd));
}

/* Reads nothing before the server has heard it. */
static int talking_peer(struct peer *p) {
    for (size_t i = 1; i <= 10; i++) {
        sleep_ms(10);
        if (!peer_write(p, "x", 1)) return -2;
        for (int waited = 0; atomic_load(&n_heard) < i; waited++) {
            if (waited > 10000) return -3;
            sleep_ms(1);
        }
    }
    return reading_peer(p);
}

static void test_receiving_goes_on_while_the_socket_is_full(void **state) {
    (void)state;
    NEED_KIND();
    struct peer p = { 0 };
    atomic_store(&n_heard, 0);
    app.on_open = open_with_file;
    app.on_data = hear;
    app.on_drained = queue_the_rest;
    start_pair(&p, talking_peer, 0);
    run_to_close(&p);
    assert_int_equal(p.result, 1);
    assert_int_equal(app.c.bytes_in, 10);
}

/* ---- a peer that goes away ---- */

static int leaving_peer(struct peer *p) {
    bool ok = peer_takes_pattern(p, BEFORE + 200000);
    peer_leave(p);
    return ok;
}

static void test_peer_that_closes_in_the_middle(void **state) {
    (void)state;
    NEED_KIND();
    struct peer p = { 0 };
    app.on_open = open_with_file;
    start_pair(&p, leaving_peer, 0);
    run_to_close(&p);
    assert_int_equal(p.result, 1);
    assert_int_equal(app.n_drained, 0);
    assert_true(app.end != CONN_END_LOCAL);
    assert_in_range(app.c.bytes_out, BEFORE + 200000, BEFORE + FILE_LEN - 1);
    assert_false(is_open(file_fd));
}

/* ---- a file that is shorter ---- */

enum { SHORT = 300000 };

static void open_with_short_file(struct app *a) {
    send_file(a, SHORT, SHORT + 1);
}

/* What came is of the stream, and no more than there was. */
static int short_peer(struct peer *p) {
    char *data = malloc(TOTAL);
    size_t n = peer_read_upto(p, data, TOTAL);
    bool ok = n <= BEFORE + FILE_LEN / 2 && is_pattern(data, 0, n);
    free(data);
    return ok;
}

static void check_short(const struct peer *p) {
    assert_int_equal(p->result, 1);
    assert_int_equal(app.n_drained, 0);
    assert_int_equal(app.end, CONN_END_ERROR);
    assert_string_equal(app.text, "a file to be sent is shorter than it was");
    assert_false(is_open(file_fd));
}

static void test_file_that_is_too_short_ends_the_connection(void **state) {
    (void)state;
    NEED_KIND();
    struct peer p = { 0 };
    app.on_open = open_with_short_file;
    start_pair(&p, short_peer, 0);
    run_to_close(&p);
    check_short(&p);
    assert_in_range(p.got, 0, BEFORE + SHORT);
}

static atomic_bool is_cut;

static void cut_file(struct loop_timer *t) {
    (void)t;
    assert_true(conn_sends_file(&app.c));
    assert_int_equal(ftruncate(file_fd, OFF + FILE_LEN / 2), 0);
    atomic_store(&is_cut, true);
}

static void open_with_file_and_cut(struct app *a) {
    send_file(a, FILE_LEN, FILE_LEN);
    a->timer.fn = cut_file;
    loop_timer_set(loop, &a->timer, clock_mono_us() + 30000);
}

/* Reads nothing before the file is cut: what the socket takes is less than the half of it. */
static int late_short_peer(struct peer *p) {
    for (int waited = 0; !atomic_load(&is_cut); waited++) {
        if (waited > 10000) return -2;
        sleep_ms(1);
    }
    return short_peer(p);
}

static void test_file_that_is_cut_meanwhile(void **state) {
    (void)state;
    NEED_KIND();
    struct peer p = { 0 };
    atomic_store(&is_cut, false);
    app.on_open = open_with_file_and_cut;
    start_pair(&p, late_short_peer, 0);
    run_to_close(&p);
    check_short(&p);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        over_all(test_file_goes_between_what_is_queued),
        over_all(test_empty_files_and_a_second_one),
        over_all(test_slow_reader_gets_all_of_it_before_the_close),
        over_all(test_receiving_goes_on_while_the_socket_is_full),
        over_all(test_peer_that_closes_in_the_middle),
        over_all(test_file_that_is_too_short_ends_the_connection),
        over_all(test_file_that_is_cut_meanwhile),
    };
    signal(SIGPIPE, SIG_IGN); /* sendfile cannot be told not to raise it; the server ignores it too */
    return run_on_both_backends(tests);
}
