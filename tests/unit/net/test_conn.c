/* Connections, every case over tcp, unix, userspace TLS and (where the kernel has it) kernel TLS. */
#include "conn_test.h"
#include "net/syncio.h"

#include "base/clock.h"

/* ---- echo ---- */

static void echo(struct app *a, char *data, size_t len) {
    obuf_append(&a->c.out, data, len);
    conn_flush_later(&a->c);
}

static int echo_peer(struct peer *p) {
    char buf[64];
    for (int i = 0; i < 100; i++) {
        int n = snprintf(buf, sizeof(buf), "message %d", i);
        char got[64];
        if (!peer_write(p, buf, (size_t)n) || peer_read_upto(p, got, (size_t)n) != (size_t)n || memcmp(buf, got, (size_t)n) != 0)
            return -2;
    }
    peer_finish(p);
    return peer_read_upto(p, buf, 1) == 0 && p->err == 0 ? 1 : -3;
}

static void test_echo_then_clean_end(void **state) {
    (void)state;
    NEED_KIND();
    struct peer p = { 0 };
    app.on_data = echo;
    start_pair(&p, echo_peer, 5000000);
    run_to_close(&p);
    assert_int_equal(p.result, 1);
    assert_int_equal(app.n_open, 1);
    assert_int_equal(app.end, CONN_END_EOF);
    assert_string_equal(app.text, "");
    assert_int_equal(app.c.bytes_in, app.c.bytes_out);
    assert_int_equal(app.n_drained, 100);
    if (kind == KIND_UNIX) {
        assert_non_null(strstr(app.peer_text, "/s:0"));
    } else {
        assert_int_equal(strncmp(app.peer_text, "127.0.0.1:", 10), 0);
        assert_int_equal(strncmp(app.local_text, "127.0.0.1:", 10), 0);
    }
}

/* ---- bulk ---- */

enum { BULK_IN = 3 << 20, BULK_OUT = 9 << 20 };

static void produce(struct app *a, size_t n) {
    char chunk[10007];
    while (n > 0) {
        size_t part = n < sizeof(chunk) ? n : sizeof(chunk);
        fill_pattern(chunk, a->produced, part);
        obuf_append(&a->c.out, chunk, part);
        a->produced += part;
        n -= part;
    }
    conn_flush_later(&a->c);
}

static void collect_then_reply(struct app *a, char *data, size_t len) {
    buf_append(&a->in, data, len);
    if (a->in.len == BULK_IN) produce(a, BULK_OUT);
}

static int bulk_peer(struct peer *p) {
    char *data = malloc(BULK_OUT);
    fill_pattern(data, 0, BULK_IN);
    bool ok = true;
    for (size_t done = 0; ok && done < BULK_IN;) {
        size_t n = BULK_IN - done < 100003 ? BULK_IN - done : 100003;
        ok = peer_write(p, data + done, n);
        done += n;
    }
    sleep_ms(50); /* the server's socket fills up */
    ok = ok && peer_read_upto(p, data, BULK_OUT) == BULK_OUT && is_pattern(data, 0, BULK_OUT);
    free(data);
    peer_finish(p);
    return ok;
}

static void test_bulk_both_ways(void **state) {
    (void)state;
    NEED_KIND();
    struct peer p = { 0 };
    app.on_data = collect_then_reply;
    start_pair(&p, bulk_peer, 0);
    run_to_close(&p);
    assert_int_equal(p.result, 1);
    assert_int_equal(app.in.len, BULK_IN);
    assert_true(is_pattern(app.in.data, 0, BULK_IN));
    assert_int_equal(app.c.bytes_in, BULK_IN);
    assert_int_equal(app.c.bytes_out, BULK_OUT);
    assert_int_equal(app.n_drained, 1);
    assert_int_equal(app.end, CONN_END_EOF);
}

/* ---- many borrowed pieces ---- */

enum { N_REFS = 500, REF_LEN = 700 };
static char *ref_data;
static int n_released;

static void note_release(void *arg) {
    (void)arg;
    n_released++;
}

static void queue_refs(struct app *a) {
    for (int i = 0; i < N_REFS; i++) {
        char *p = ref_data + (size_t)i * REF_LEN;
        obuf_append_ref(&a->c.out, p, REF_LEN - 7, note_release, NULL);
        obuf_append(&a->c.out, p + REF_LEN - 7, 7);
    }
}

static int refs_peer(struct peer *p) {
    char *data = malloc(N_REFS * REF_LEN);
    size_t n = peer_read_upto(p, data, N_REFS * REF_LEN);
    bool ok = n == N_REFS * REF_LEN && is_pattern(data, 0, n);
    free(data);
    peer_finish(p);
    return ok;
}

static void test_output_queued_in_on_open_from_references(void **state) {
    (void)state;
    NEED_KIND();
    struct peer p = { 0 };
    n_released = 0;
    ref_data = malloc(N_REFS * REF_LEN);
    fill_pattern(ref_data, 0, N_REFS * REF_LEN);
    app.on_open = queue_refs;
    start_pair(&p, refs_peer, 0);
    run_to_close(&p);
    free(ref_data);
    assert_int_equal(p.result, 1);
    assert_int_equal(n_released, N_REFS);
}

/* ---- on_drained that writes more ---- */

enum { STREAM = 200 };

static void stream_more(struct app *a) {
    if (a->n_drained < STREAM)
        produce(a, 5000);
    else
        conn_close_after_flush(&a->c, 1000000);
}

static void start_stream(struct app *a) {
    produce(a, 5000);
}

static int stream_peer(struct peer *p) {
    char *data = malloc(STREAM * 5000 + 1);
    size_t n = peer_read_upto(p, data, STREAM * 5000 + 1);
    bool ok = n == STREAM * 5000 && is_pattern(data, 0, n) && p->err == 0;
    free(data);
    return ok;
}

static void test_drained_callback_can_stream(void **state) {
    (void)state;
    NEED_KIND();
    struct peer p = { 0 };
    app.on_open = start_stream;
    app.on_drained = stream_more;
    start_pair(&p, stream_peer, 0);
    run_to_close(&p);
    assert_int_equal(p.result, 1);
    assert_int_equal(app.n_drained, STREAM);
    assert_int_equal(app.end, CONN_END_LOCAL);
}

/* ---- closing ---- */

static const char REFUSAL[] = "-ERR Protocol error: too big inline request\r\n";

static void refuse(struct app *a, char *data, size_t len) {
    (void)data;
    (void)len;
    assert_int_equal(a->n_data, 1); /* no more on_data once closing */
    obuf_append(&a->c.out, REFUSAL, sizeof(REFUSAL) - 1);
    conn_close_after_flush(&a->c, 2000000);
}

static int still_sending_peer(struct peer *p) {
    static char junk[20000];
    char got[256];
    for (int i = 0; i < 20; i++) { /* goes on after the server has made up its mind */
        if (!peer_write(p, junk, sizeof(junk))) return -2;
        sleep_ms(1);
    }
    size_t n = peer_read_upto(p, got, sizeof(got));
    return n == sizeof(REFUSAL) - 1 && memcmp(got, REFUSAL, n) == 0 && p->err == 0 ? 1 : -3;
}

static void test_error_reply_survives_a_peer_that_is_still_sending(void **state) {
    (void)state;
    NEED_KIND();
    struct peer p = { 0 };
    app.on_data = refuse;
    start_pair(&p, still_sending_peer, 0);
    run_to_close(&p);
    assert_int_equal(p.result, 1);
    assert_int_equal(app.end, CONN_END_LOCAL);
}

static void quit_reply(struct app *a, char *data, size_t len) {
    echo(a, data, len);
    conn_close_after_flush(&a->c, 5000000);
}

static int quit_peer(struct peer *p) {
    char got[16];
    if (!peer_write(p, "QUIT", 4)) return -2;
    int r = peer_read_upto(p, got, sizeof(got)) == 4 && p->err == 0 ? 1 : -3;
    close(p->fd);
    p->fd = -1;
    return r;
}

static void test_close_after_flush_ends_when_the_peer_closes(void **state) {
    (void)state;
    NEED_KIND();
    struct peer p = { 0 };
    app.on_data = quit_reply;
    start_pair(&p, quit_peer, 0);
    int64_t start = clock_mono_us();
    run_to_close(&p);
    assert_int_equal(p.result, 1);
    assert_int_equal(app.end, CONN_END_LOCAL);
    assert_true(clock_mono_us() - start < 4000000);
}

static void flood_and_close(struct app *a) {
    produce(a, 64u << 20);
    conn_close_after_flush(&a->c, 100000);
}

static int never_reads_peer(struct peer *p) {
    sleep_ms(400);
    (void)p;
    return 1;
}

static void test_close_after_flush_gives_up_at_the_deadline(void **state) {
    (void)state;
    NEED_KIND();
    struct peer p = { 0 };
    app.on_open = flood_and_close;
    start_pair(&p, never_reads_peer, 0);
    run_to_close(&p);
    assert_int_equal(p.result, 1);
    assert_int_equal(app.end, CONN_END_LOCAL);
    assert_string_equal(app.text, "output not taken in time");
}

#define SLOW_BYTES (12u << 20)

/* A piece takes its time in a virtual machine, and under ThreadSanitizer. */
static int64_t slow_deadline_us(void) {
#ifdef __SANITIZE_THREAD__
    return 1500000;
#else
    return getenv("KETTLE_VM") ? 1500000 : 150000;
#endif
}

static void reply_and_close(struct app *a) {
    produce(a, SLOW_BYTES);
    conn_close_after_flush(&a->c, slow_deadline_us());
}

/* Takes several times the deadline, and never pauses for as long as it. */
static int slow_reader_peer(struct peer *p) {
    size_t piece = SLOW_BYTES / 40, n = 0;
    char *data = malloc(SLOW_BYTES + 1);
    for (int i = 0; i < 40 && n == (size_t)i * piece; i++) {
        n += peer_read_upto(p, data + n, piece);
        sleep_ms(20);
    }
    n += peer_read_upto(p, data + n, SLOW_BYTES + 1 - n);
    bool ok = n == SLOW_BYTES && is_pattern(data, 0, n) && p->err == 0;
    free(data);
    return ok;
}

static void test_close_after_flush_waits_for_a_slow_reader(void **state) {
    (void)state;
    NEED_KIND();
    struct peer p = { 0 };
    app.on_open = reply_and_close;
    start_pair(&p, slow_reader_peer, 0);
    run_to_close(&p);
    assert_int_equal(p.result, 1);
    assert_int_equal(app.end, CONN_END_LOCAL);
    assert_string_equal(app.text, "");
}

static void close_now(struct app *a, char *data, size_t len) {
    (void)data;
    (void)len;
    obuf_append(&a->c.out, "dropped", 7);
    conn_close(&a->c, CONN_END_LOCAL, "killed");
    conn_close(&a->c, CONN_END_ERROR, "twice");
    conn_close_after_flush(&a->c, 1);
    conn_flush_later(&a->c);
    conn_flush_now(&a->c);
    conn_resume_reading(&a->c);
}

static int one_write_peer(struct peer *p) {
    char got[16];
    if (!peer_write(p, "x", 1)) return -2;
    return peer_read_upto(p, got, sizeof(got)) == 0 && p->err == 0 ? 1 : -3; /* in TLS: a close_notify came */
}

static void test_close_inside_on_data(void **state) {
    (void)state;
    NEED_KIND();
    struct peer p = { 0 };
    app.on_data = close_now;
    start_pair(&p, one_write_peer, 0);
    run_to_close(&p);
    assert_int_equal(p.result, 1);
    assert_int_equal(app.end, CONN_END_LOCAL);
    assert_string_equal(app.text, "killed");
    assert_int_equal(app.c.out.bytes, 0);
}

static int half_close_peer(struct peer *p) {
    char got[16];
    if (!peer_write(p, "a", 1) || !peer_write(p, "b", 1)) return -2;
    peer_finish(p); /* the commands, close_notify and FIN lie in the server's socket together */
    return peer_read_upto(p, got, sizeof(got)) == 2 && memcmp(got, "ab", 2) == 0 && p->err == 0 ? 1 : -3;
}

static void test_replies_reach_a_peer_that_half_closed(void **state) {
    (void)state;
    NEED_KIND();
    struct peer p = { 0 };
    app.on_data = echo;
    start_pair(&p, half_close_peer, 0);
    if (!is_tls()) sleep_ms(20);
    run_to_close(&p);
    assert_int_equal(p.result, 1);
    assert_int_equal(app.end, CONN_END_EOF);
    assert_string_equal(app.text, "");
}

static atomic_bool is_heard;

static void hear_it(struct app *a, char *data, size_t len) {
    (void)a, (void)data, (void)len;
    atomic_store(&is_heard, true);
}

static int reset_peer(struct peer *p) {
    if (!peer_write(p, "x", 1)) return -2;
    for (int waited = 0; !atomic_load(&is_heard); waited++) {
        if (waited > 10000) return -3;
        sleep_ms(1);
    }
    struct linger reset = { .l_onoff = 1 };
    setsockopt(p->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
    close(p->fd);
    p->fd = -1;
    return 1;
}

static void test_reset_by_peer_is_an_error(void **state) {
    (void)state;
    NEED_KIND();
    struct peer p = { 0 };
    atomic_store(&is_heard, false);
    app.on_data = hear_it;
    start_pair(&p, reset_peer, 0);
    run_to_close(&p);
    assert_int_equal(p.result, 1);
    assert_int_equal(app.end, CONN_END_ERROR);
    assert_non_null(strstr(app.text, "eset"));
}

static void test_close_before_the_loop_runs(void **state) {
    (void)state;
    NEED_KIND();
    struct peer p = { 0 };
    start_pair(&p, one_write_peer, 0);
    conn_close(&app.c, CONN_END_LOCAL, "");
    run_to_close(&p);
    assert_int_equal(app.n_open, 0);
    assert_int_equal(app.end, CONN_END_LOCAL);
}

static int greeting_peer(struct peer *p) {
    char got[64];
    size_t n = peer_read_upto(p, got, sizeof(got));
    return n == sizeof(REFUSAL) - 1 && p->err == 0;
}

static void test_refused_at_once(void **state) { /* "max number of clients reached" */
    (void)state;
    struct peer p = { 0 };
    start_pair(&p, greeting_peer, 0);
    obuf_append(&app.c.out, REFUSAL, sizeof(REFUSAL) - 1);
    conn_close_after_flush(&app.c, 1000000);
    run_to_close(&p);
    assert_int_equal(app.n_open, 0);
    assert_int_equal(p.result, is_tls() ? -1 : 1);
}

/* ---- back-pressure ---- */

static bool paused;

static void resume_fire(struct loop_timer *t) {
    (void)t;
    paused = false;
    conn_resume_reading(&app.c);
}

static void pause_a_while(struct app *a, char *data, size_t len) {
    assert_false(paused);
    buf_append(&a->in, data, len);
    if (a->n_data > 20) return;
    paused = true;
    conn_pause_reading(&a->c);
    a->timer.fn = resume_fire;
    loop_timer_set(loop, &a->timer, loop_now_us(loop) + 2000);
}

static int pausing_peer(struct peer *p) {
    enum { N = 2 << 20 };
    char *data = malloc(N);
    fill_pattern(data, 0, N);
    bool ok = true;
    for (size_t i = 0; ok && i < N; i += 1024) ok = peer_write(p, data + i, 1024);
    free(data);
    peer_finish(p);
    return ok;
}

static void test_paused_reading_loses_nothing(void **state) {
    (void)state;
    NEED_KIND();
    struct peer p = { 0 };
    paused = false;
    app.on_data = pause_a_while;
    start_pair(&p, pausing_peer, 0);
    run_to_close(&p);
    assert_int_equal(p.result, 1);
    assert_int_equal(app.in.len, 2 << 20);
    assert_true(is_pattern(app.in.data, 0, app.in.len));
    assert_int_equal(app.end, CONN_END_EOF);
}

/* ---- taken over ---- */

enum { ADOPT_BYTES = 1 << 20 };

/* The first line is read by blocking I/O, what comes behind it by the loop. */
static int adopted_peer(struct peer *p) {
    char *data = malloc(ADOPT_BYTES), bye[4];
    fill_pattern(data, 0, ADOPT_BYTES);
    bool ok = peer_write(p, "hello\n", 6) && peer_write(p, data, ADOPT_BYTES);
    ok = ok && peer_read_upto(p, bye, 4) == 4 && memcmp(bye, "bye\n", 4) == 0;
    free(data);
    peer_finish(p);
    return ok;
}

static void say_bye(struct app *a, char *data, size_t len) {
    buf_append(&a->in, data, len);
    if (a->in.len < ADOPT_BYTES) return;
    obuf_append(&a->c.out, "bye\n", 4);
    conn_flush_later(&a->c);
}

static void test_adopted_connection_goes_on_where_blocking_io_stopped(void **state) {
    (void)state;
    NEED_KIND();
    struct peer p = { .fn = adopted_peer };
    struct syncio s = { 0 };
    char line[6];
    tcp_pair(&s.fd, &p.fd);
    if (is_tls()) assert_int_equal(ktls_conn_new(server_ctx, s.fd, NULL, &s.tls), 0);
    pthread_create(&p.th, NULL, peer_main, &p);
    assert_int_equal(syncio_handshake(&s, INT64_MAX), 0);
    assert_int_equal(syncio_read_full(&s, line, 6, INT64_MAX), 0);
    assert_memory_equal(line, "hello\n", 6);
    app.on_data = say_bye;
    conn_adopt(&app.c, &thread, s.fd, s.tls, &app_ops);
    run_to_close(&p);
    assert_int_equal(p.result, 1);
    assert_int_equal(app.n_open, 1);
    assert_int_equal(app.in.len, ADOPT_BYTES);
    assert_true(is_pattern(app.in.data, 0, app.in.len));
    assert_int_equal(app.end, CONN_END_EOF);
    assert_string_equal(app.text, "");
}

/* ---- the gate ---- */

static _Atomic uint64_t log_end;
static struct conn_gate gate = { .mark = &log_end };

static void open_gate(struct loop_timer *t) {
    uint64_t open = atomic_load(&gate.open), mark = atomic_load(&log_end);
    if (open < mark && atomic_load(&thread.gate_waits)) atomic_store(&gate.open, open + 1);
    loop_timer_set(loop, t, clock_mono_us() + 500);
}

/* Each request moves the mark, so that it is always ahead of the gate, which opens one step at a time. */
static void echo_gated(struct app *a, char *data, size_t len) {
    if (!thread.gate) {
        thread.gate = &gate;
        a->timer.fn = open_gate;
        loop_timer_set(loop, &a->timer, clock_mono_us() + 500);
    }
    assert_true(atomic_load(&gate.open) <= atomic_load(&log_end));
    atomic_fetch_add(&log_end, 1);
    obuf_append(&a->c.out, data, len);
    conn_flush_later(&a->c);
}

static void gated_open(struct app *a) {
    (void)a;
    atomic_store(&log_end, 100);
    atomic_store(&gate.open, 100);
}

enum { GATED = 200000 };

static int gated_peer(struct peer *p) {
    static char data[GATED];
    fill_pattern(data, 0, GATED);
    for (size_t at = 0; at < GATED; at += 1000) {
        if (!peer_write(p, data + at, 1000)) return -1;
        if (at % 20000 == 0) sleep_ms(1);
    }
    peer_finish(p);
    return peer_read_upto(p, data, GATED) == GATED && is_pattern(data, 0, GATED) ? 1 : -2;
}

static void test_replies_wait_for_the_gate(void **state) {
    (void)state;
    NEED_KIND();
    struct peer p = { 0 };
    app.on_data = echo_gated;
    app.on_open = gated_open;
    start_pair(&p, gated_peer, 0);
    run_to_close(&p);
    loop_timer_cancel(loop, &app.timer);
    thread.gate = NULL;
    assert_int_equal(p.result, 1);
    assert_int_equal(atomic_load(&gate.open), atomic_load(&log_end));
}

#define over_tcp(f) over(f, "tcp", 0), over_tls(f)

int main(void) {
    const struct CMUnitTest tests[] = {
        over_all(test_echo_then_clean_end),
        over_all(test_bulk_both_ways),
        over_all(test_output_queued_in_on_open_from_references),
        over_all(test_drained_callback_can_stream),
        over_all(test_error_reply_survives_a_peer_that_is_still_sending),
        over_all(test_close_after_flush_ends_when_the_peer_closes),
        over_all(test_close_after_flush_gives_up_at_the_deadline),
        over_all(test_close_after_flush_waits_for_a_slow_reader),
        over_all(test_close_inside_on_data),
        over_all(test_replies_reach_a_peer_that_half_closed),
        over_tcp(test_reset_by_peer_is_an_error),
        over_all(test_close_before_the_loop_runs),
        over_all(test_refused_at_once),
        over_all(test_paused_reading_loses_nothing),
        over_tcp(test_adopted_connection_goes_on_where_blocking_io_stopped),
        over_all(test_replies_wait_for_the_gate),
    };
    return run_on_both_backends(tests);
}
