/* conn_lend_output: another process writes to the socket meanwhile. Over every transport that can; userspace TLS says that it
 * cannot. */
#include "conn_test.h"

#include <sys/wait.h>

enum { BEFORE = 100000, LENT = (8 << 20) + 321, AFTER = 50000, TOTAL = BEFORE + LENT + AFTER };

static pid_t child;

/* ---- the other process ---- */

/* The part of the stream that is its own; for ever: until the socket fails. Exit status 0: all is written. */
static _Noreturn void write_in_child(int fd, bool for_ever) {
    static char data[65536];
    signal(SIGPIPE, SIG_IGN);
    alarm(240);
    close_range(3, (unsigned)fd - 1, 0); /* the peer's end is among them */
    close_range((unsigned)fd + 1, ~0U, 0);
    for (size_t done = 0; for_ever || done < LENT;) {
        struct pollfd pfd = { .fd = fd, .events = POLLOUT };
        size_t n = for_ever || LENT - done > sizeof(data) ? sizeof(data) : LENT - done;
        fill_pattern(data, BEFORE + done, n);
        poll(&pfd, 1, -1);
        ssize_t r = write(fd, data, n);
        if (r < 0 && errno != EAGAIN) _exit(1);
        if (r > 0) done += (size_t)r;
    }
    _exit(0);
}

static void start_child(struct app *a, bool for_ever) {
    child = fork();
    assert_true(child >= 0);
    if (child == 0) write_in_child(a->c.io.fd, for_ever);
}

static int child_status(void) {
    int status = -1;
    assert_int_equal(waitpid(child, &status, 0), child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* ---- order ---- */

static _Atomic size_t n_heard;
static size_t heard_while_lent;

static void hear(struct app *a, char *data, size_t len) {
    (void)data;
    if (a->c.lent) heard_while_lent += len;
    atomic_fetch_add(&n_heard, len);
}

static void when_child_has_ended(struct loop_timer *t) {
    struct app *a = list_entry(t, struct app, timer);
    int status = 0;
    if (waitpid(child, &status, WNOHANG) == 0) {
        loop_timer_set(loop, t, clock_mono_us() + 2000);
        return;
    }
    assert_int_equal(status, 0);
    assert_int_equal(a->c.bytes_out, BEFORE); /* what was queued meanwhile is still there */
    assert_int_equal(a->c.out.bytes, AFTER);
    conn_reclaim_output(&a->c, LENT);
    assert_false(a->c.lent);
    conn_reclaim_output(&a->c, 1000); /* not lent: nothing */
    assert_int_equal(a->c.bytes_out, BEFORE + LENT);
}

static void open_with_output(struct app *a) {
    queue_pattern(a, 0, BEFORE);
    assert_false(conn_lend_output(&a->c)); /* something is still to be sent */
}

static void lend_once(struct app *a) {
    if (a->n_drained > 1) {                   /* of what was queued while it was lent */
        assert_true(conn_lend_output(&a->c)); /* again, for nothing */
        conn_reclaim_output(&a->c, 0);
        conn_close_after_flush(&a->c, 20000000);
        return;
    }
    assert_true(conn_can_lend(&a->c));
    assert_true(conn_lend_output(&a->c));
    assert_false(conn_lend_output(&a->c));
    start_child(a, false);
    queue_pattern(a, BEFORE + LENT, AFTER);
    conn_flush_now(&a->c);
    a->timer.fn = when_child_has_ended;
    loop_timer_set(loop, &a->timer, clock_mono_us() + 2000);
}

/* Reads slowly at first, and is heard before it takes what the child writes. */
static int talking_peer(struct peer *p) {
    char *data = malloc(TOTAL + 1);
    size_t n = peer_read_upto(p, data, BEFORE + 1000); /* from here on it is lent */
    bool ok = peer_write(p, "hello", 5);
    for (int waited = 0; ok && atomic_load(&n_heard) < 5; waited++) {
        sleep_ms(1);
        ok = waited < 10000;
    }
    for (int i = 0; ok && i < 10; i++) {
        n += peer_read_upto(p, data + n, 100000);
        sleep_ms(5);
    }
    if (ok) n += peer_read_upto(p, data + n, TOTAL + 1 - n);
    ok = ok && n == TOTAL && is_pattern(data, 0, n) && p->err == 0;
    free(data);
    peer_finish(p);
    return ok;
}

static void test_order_of_what_is_sent_before_while_and_after(void **state) {
    (void)state;
    NEED_KIND();
    struct peer p = { 0 };
    atomic_store(&n_heard, 0);
    heard_while_lent = 0;
    app.on_open = open_with_output;
    app.on_data = hear;
    app.on_drained = lend_once;
    start_pair(&p, talking_peer, 0);
    run_to_close(&p);
    loop_timer_cancel(loop, &app.timer);
    assert_int_equal(p.result, 1);
    assert_int_equal(heard_while_lent, 5);
    assert_int_equal(app.c.bytes_out, TOTAL);
    assert_int_equal(app.n_drained, 2);
    assert_int_equal(app.end, CONN_END_LOCAL);
    assert_string_equal(app.text, "");
}

/* ---- an end in the middle ---- */

static void lend_for_ever(struct app *a) {
    assert_true(conn_lend_output(&a->c));
    start_child(a, true);
}

static int leaving_peer(struct peer *p) {
    bool ok = peer_takes_pattern(p, BEFORE + 200000);
    peer_leave(p);
    return ok;
}

static void test_peer_that_closes_ends_the_other_process_too(void **state) {
    (void)state;
    NEED_KIND();
    struct peer p = { 0 };
    app.on_open = open_with_output;
    app.on_drained = lend_for_ever;
    start_pair(&p, leaving_peer, 0);
    run_to_close(&p);
    assert_int_equal(child_status(), 1);
    assert_int_equal(p.result, 1);
    assert_int_equal(app.c.bytes_out, BEFORE);
}

/* The peer says that it has said everything, and reads on: the connection ends, since the answer cannot be waited for. */
static int finishing_peer(struct peer *p) {
    bool ok = peer_takes_pattern(p, BEFORE + 200000);
    peer_finish(p);
    peer_drain(p);
    return ok;
}

static void test_end_of_the_peers_stream_ends_the_other_process_too(void **state) {
    (void)state;
    NEED_KIND();
    struct peer p = { 0 };
    app.on_open = open_with_output;
    app.on_drained = lend_for_ever;
    start_pair(&p, finishing_peer, 0);
    run_to_close(&p);
    assert_int_equal(child_status(), 1);
    assert_int_equal(p.result, 1);
}

static void close_on_data(struct app *a, char *data, size_t len) {
    (void)data;
    (void)len;
    conn_close_after_flush(&a->c, 20000000); /* nothing to wait for: at once */
    assert_true(conn_is_closing(&a->c));
    conn_reclaim_output(&a->c, 0); /* too late: nothing */
}

static int provoking_peer(struct peer *p) {
    bool ok = peer_takes_pattern(p, BEFORE + 200000) && peer_write(p, "x", 1);
    peer_drain(p);
    return ok;
}

static void test_close_here_ends_the_other_process_too(void **state) {
    (void)state;
    NEED_KIND();
    struct peer p = { 0 };
    app.on_open = open_with_output;
    app.on_data = close_on_data;
    app.on_drained = lend_for_ever;
    start_pair(&p, provoking_peer, 0);
    run_to_close(&p);
    assert_int_equal(child_status(), 1);
    assert_int_equal(p.result, 1);
    assert_int_equal(app.end, CONN_END_LOCAL);
}

/* ---- userspace TLS ---- */

static void refuse_to_lend(struct app *a) {
    assert_false(conn_can_lend(&a->c));
    assert_false(conn_lend_output(&a->c));
    queue_pattern(a, BEFORE, LENT); /* goes on as if it had not been asked for */
    conn_close_after_flush(&a->c, 20000000);
}

static int plain_peer(struct peer *p) {
    char *data = malloc(TOTAL);
    size_t n = peer_read_upto(p, data, TOTAL);
    bool ok = n == BEFORE + LENT && is_pattern(data, 0, n) && p->err == 0;
    free(data);
    peer_finish(p);
    return ok;
}

static void test_userspace_tls_cannot_lend(void **state) {
    (void)state;
    struct peer p = { 0 };
    app.on_open = open_with_output;
    app.on_drained = refuse_to_lend;
    start_pair(&p, plain_peer, 0);
    run_to_close(&p);
    assert_int_equal(p.result, 1);
}

#define over_lent(f) over(f, "tcp", 0), over(f, "unix", 1), over(f, "ktls", 3), over(f, "ktls_tx", 4)

int main(void) {
    const struct CMUnitTest tests[] = {
        over_lent(test_order_of_what_is_sent_before_while_and_after),
        over_lent(test_peer_that_closes_ends_the_other_process_too),
        over_lent(test_end_of_the_peers_stream_ends_the_other_process_too),
        over_lent(test_close_here_ends_the_other_process_too),
        over(test_userspace_tls_cannot_lend, "user_tls", 2),
    };
    return run_on_both_backends(tests);
}
