/* Event loop: timers, inbox across threads, receiving, sending to a full socket, closing inside callbacks, listeners. */
#include "net_test.h"

#include <stdatomic.h>
#include <sys/resource.h>

#include "base/rand.h"
#include "net/listen.h"
#include "net/loop.h"

static struct loop *loop;

static int setup(void **state) {
    (void)state;
    alarm(240);
    return loop_new(backend, &loop);
}

static int teardown(void **state) {
    (void)state;
    loop = loop_free(loop);
    return 0;
}

/* ---- timers ---- */

struct tick {
    struct loop_timer t;
    int id;
};
static int fired[1000];
static int n_fired;

static void note_tick(struct loop_timer *t) {
    fired[n_fired++] = list_entry(t, struct tick, t)->id;
}

static void stop_tick(struct loop_timer *t) {
    (void)t;
    loop_stop(loop);
}

static void stop_after_ms(struct loop_timer *t, int ms) {
    *t = (struct loop_timer){ .fn = stop_tick };
    loop_timer_set(loop, t, clock_mono_us() + ms * 1000);
}

static void test_backends(void **state) {
    (void)state;
    assert_string_equal(loop_backend_name(loop), backend == LOOP_EPOLL ? "epoll" : "io_uring");
    struct loop *l = NULL;
    assert_int_equal(loop_new(LOOP_AUTO, &l), 0);
    assert_string_equal(loop_backend_name(l), loop_uring_errno(l) ? "epoll" : "io_uring");
    assert_null(loop_free(l));
    assert_null(loop_free(NULL));
}

static void test_timers_fire_in_order(void **state) {
    (void)state;
    enum { N = 500 };
    static struct tick ticks[N];
    struct loop_timer stop;
    int64_t now = clock_mono_us();
    n_fired = 0;
    for (int i = 0; i < N; i++) {
        ticks[i] = (struct tick){ .t.fn = note_tick, .id = i };
        loop_timer_set(loop, &ticks[i].t, now + 1 + (int64_t)rand_below(20000));
    }
    for (int i = 0; i < N; i += 3) /* move */
        loop_timer_set(loop, &ticks[i].t, now + 1 + (int64_t)rand_below(20000));
    for (int i = 0; i < N; i += 5) { /* cancel, twice */
        loop_timer_cancel(loop, &ticks[i].t);
        loop_timer_cancel(loop, &ticks[i].t);
    }
    stop_after_ms(&stop, 30);
    loop_run(loop);
    assert_int_equal(n_fired, N - N / 5);
    for (int i = 1; i < n_fired; i++) assert_true(ticks[fired[i - 1]].t.when_us <= ticks[fired[i]].t.when_us);
    for (int i = 0; i < n_fired; i++) assert_int_not_equal(fired[i] % 5, 0);
}

static void test_timer_is_not_early(void **state) {
    (void)state;
    struct loop_timer stop;
    int64_t start = clock_mono_us();
    stop_after_ms(&stop, 15);
    loop_run(loop);
    assert_true(clock_mono_us() - start >= 15000);
    assert_true(clock_mono_us() - start < 1000000);
    assert_int_equal(stop.heap_pos, 0);
}

static int rearmed;

static void rearm(struct loop_timer *t) {
    if (++rearmed == 100)
        loop_stop(loop);
    else
        loop_timer_set(loop, t, 0);
}

static void test_timer_rearmed_for_the_past_does_not_starve(void **state) {
    (void)state;
    struct loop_timer t = { .fn = rearm };
    rearmed = 0;
    loop_timer_set(loop, &t, 0);
    loop_run(loop);
    assert_int_equal(rearmed, 100);
}

static void work_10_ms(struct loop_timer *t) {
    (void)t;
    for (int64_t until = clock_mono_us() + 10000; clock_mono_us() < until;) {
    }
}

/* Works for 10 of 60 ms. What it did not count as busy. */
static int64_t wait_of_a_run(void) {
    struct loop_timer stop, work = { .fn = work_10_ms };
    uint64_t turns, busy_us, turns_before, busy_us_before;
    loop_figures(loop, &turns_before, &busy_us_before);
    int64_t start = clock_mono_us();
    loop_timer_set(loop, &work, start + 5000);
    stop_after_ms(&stop, 60);
    loop_run(loop);
    int64_t took = clock_mono_us() - start;
    loop_figures(loop, &turns, &busy_us);
    assert_true(turns - turns_before >= 2);
    assert_in_range(busy_us - busy_us_before, 10000, took);
    return took - (int64_t)(busy_us - busy_us_before);
}

static void test_figures_leave_out_the_waiting(void **state) {
    (void)state;
    int64_t waited = 0;
    for (int i = 0; i < 50 && waited < 30000; i++) waited = wait_of_a_run(); /* on a busy machine the work takes longer */
    assert_true(waited >= 30000);
}

/* ---- inbox ---- */

enum { PRODUCERS = 4, PER_PRODUCER = 20000 };

struct post {
    struct inbox_msg msg;
    int producer, seq;
};

static int last_seq[PRODUCERS], total;

static void take_post(struct inbox_msg *msg, void *owner) {
    struct post *p = (struct post *)msg;
    assert_ptr_equal(owner, &total);
    assert_int_equal(p->seq, last_seq[p->producer] + 1);
    last_seq[p->producer] = p->seq;
    free(p);
    if (++total == PRODUCERS * PER_PRODUCER) loop_stop(loop);
}

static void *produce(void *arg) {
    for (int i = 1; i <= PER_PRODUCER; i++) {
        struct post *p = malloc(sizeof(*p));
        *p = (struct post){ .msg.run = take_post, .producer = (int)(intptr_t)arg, .seq = i };
        loop_post(loop, &p->msg);
        if (i % 1000 == 0) usleep(500); /* lets the loop fall asleep now and then */
    }
    return NULL;
}

static void test_inbox_from_many_threads(void **state) {
    (void)state;
    pthread_t th[PRODUCERS];
    memset(last_seq, 0, sizeof(last_seq));
    total = 0;
    loop_set_owner(loop, &total);
    for (intptr_t i = 0; i < PRODUCERS; i++) pthread_create(&th[i], NULL, produce, (void *)i);
    loop_run(loop);
    for (int i = 0; i < PRODUCERS; i++) pthread_join(th[i], NULL);
    assert_int_equal(total, PRODUCERS * PER_PRODUCER);
}

static void test_inbox_left_over_is_run_at_free(void **state) {
    (void)state;
    memset(last_seq, 0, sizeof(last_seq));
    total = 0;
    loop_set_owner(loop, &total);
    struct post *p = malloc(sizeof(*p));
    *p = (struct post){ .msg.run = take_post, .seq = 1 };
    loop_post(loop, &p->msg);
    loop = loop_free(loop);
    assert_int_equal(total, 1);
}

static void *stop_later(void *arg) {
    (void)arg;
    sleep_ms(20);
    loop_stop(loop);
    return NULL;
}

static void test_stop_from_another_thread(void **state) {
    (void)state;
    pthread_t th;
    pthread_create(&th, NULL, stop_later, NULL);
    loop_run(loop);
    pthread_join(th, NULL);
    loop_stop(loop); /* before the run: counts */
    loop_run(loop);
}

/* ---- ios ---- */

struct probe {
    struct loop_io io;
    char got[4096];
    size_t got_len;
    ssize_t last_recv;
    ssize_t sent;
    int n_recv, n_sent, n_poll, n_closed;
    short revents;
    bool inside_close;
    void (*after_recv)(struct probe *p);
    struct probe *other;
};

static void probe_recv(struct loop_io *io, char *data, ssize_t n) {
    struct probe *p = (struct probe *)io;
    assert_int_equal(p->n_closed, 0);
    p->n_recv++;
    p->last_recv = n;
    if (n > 0 && p->got_len + (size_t)n <= sizeof(p->got)) {
        memcpy(p->got + p->got_len, data, (size_t)n);
        p->got_len += (size_t)n;
    }
    if (p->after_recv) p->after_recv(p);
}

static void probe_sent(struct loop_io *io, ssize_t n) {
    struct probe *p = (struct probe *)io;
    p->n_sent++;
    p->sent = n;
}

static void probe_poll(struct loop_io *io, short revents) {
    struct probe *p = (struct probe *)io;
    p->n_poll++;
    p->revents = revents;
}

static void probe_closed(struct loop_io *io) {
    struct probe *p = (struct probe *)io;
    assert_false(p->inside_close);
    assert_int_equal(io->fd, -1);
    p->n_closed++;
}

static const struct loop_io_ops probe_ops = { probe_recv, probe_sent, probe_poll, probe_closed };

static void probe_init(struct probe *p, int *peer) {
    int fd;
    memset(p, 0, sizeof(*p));
    tcp_pair(&fd, peer);
    loop_io_init(&p->io, loop, fd, &probe_ops);
}

static void run_ms(int ms) {
    struct loop_timer stop;
    stop_after_ms(&stop, ms);
    loop_run(loop);
}

static void probe_done(struct probe *p, int peer) {
    loop_io_close(&p->io);
    loop_io_close(&p->io);
    run_ms(1);
    assert_int_equal(p->n_closed, 1);
    if (peer >= 0) close(peer);
}

static void test_recv_data_then_end(void **state) {
    (void)state;
    struct probe p;
    int peer;
    probe_init(&p, &peer);
    loop_recv_start(&p.io);
    assert_true(send_all(peer, "hello", 5));
    run_ms(10);
    assert_int_equal(p.n_recv, 1);
    assert_memory_equal(p.got, "hello", 5);
    close(peer);
    run_ms(10);
    assert_int_equal(p.n_recv, 2);
    assert_int_equal(p.last_recv, 0);
    run_ms(10); /* off after the end */
    assert_int_equal(p.n_recv, 2);
    probe_done(&p, -1);
}

/* Busy turns of a loop that lets others have the processor, then timers and a wait; an idle one does not spin. */
static void test_yielding_receives_and_sleeps(void **state) {
    (void)state;
    enum { N = 8, ROUNDS = 20 };
    struct probe p[N];
    int peer[N];
    loop_set_yields(loop, true);
    for (int i = 0; i < N; i++) {
        probe_init(&p[i], &peer[i]);
        loop_recv_start(&p[i].io);
    }
    for (int round = 1; round <= ROUNDS; round++) {
        for (int i = 0; i < N; i++) assert_true(send_all(peer[i], "x", 1));
        run_ms(2);
        for (int wait = 0; wait < 100 && p[N - 1].got_len < (size_t)round; wait++) run_ms(5);
        for (int i = 0; i < N; i++) assert_int_equal(p[i].got_len, round);
    }
    struct rusage before, after;
    getrusage(RUSAGE_THREAD, &before);
    run_ms(200);
    getrusage(RUSAGE_THREAD, &after);
    assert_true(after.ru_stime.tv_sec + after.ru_utime.tv_sec - before.ru_stime.tv_sec - before.ru_utime.tv_sec <= 1);
    assert_true(after.ru_nvcsw + after.ru_nivcsw - before.ru_nvcsw - before.ru_nivcsw < 50);
    for (int i = 0; i < N; i++) probe_done(&p[i], peer[i]);
}

static void test_recv_stopped_gets_nothing(void **state) {
    (void)state;
    struct probe p;
    int peer;
    probe_init(&p, &peer);
    loop_recv_start(&p.io);
    loop_recv_stop(&p.io);
    assert_true(send_all(peer, "abc", 3));
    run_ms(10);
    assert_int_equal(p.n_recv, 0);
    loop_recv_start(&p.io);
    run_ms(10);
    assert_int_equal(p.got_len, 3);
    probe_done(&p, peer);
}

static int turns;

static void count_turn(void *arg) {
    (void)arg;
    turns++;
}

static void test_hang_up_nobody_waits_for_does_not_spin(void **state) {
    (void)state;
    struct probe p;
    int peer;
    probe_init(&p, &peer);
    loop_recv_start(&p.io);
    loop_recv_stop(&p.io);
    struct linger reset = { .l_onoff = 1 };
    setsockopt(peer, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
    assert_true(send_all(peer, "abc", 3));
    close(peer); /* RST: EPOLLIN, EPOLLERR and EPOLLHUP at once */
    turns = 0;
    loop_set_before_sleep(loop, count_turn, NULL);
    run_ms(30);
    assert_in_range(turns, 1, 10);
    loop_set_before_sleep(loop, NULL, NULL);
    loop_recv_start(&p.io); /* still found out when somebody asks */
    run_ms(10);
    assert_int_equal(p.last_recv, -ECONNRESET);
    probe_done(&p, -1);
}

enum { BIG = 8 << 20 };
static char *sink;

static void *read_slowly(void *arg) {
    int fd = (int)(intptr_t)arg, err;
    sleep_ms(20);
    size_t got = 0;
    while (got < BIG) {
        size_t n = recv_upto(fd, sink + got, BIG - got < 300000 ? BIG - got : 300000, &err);
        if (n == 0) break;
        got += n;
        usleep(300);
    }
    return (void *)(intptr_t)got;
}

struct sender {
    struct loop_io io;
    struct iovec iov[3];
    char *data;
    size_t done;
    int sends, partial;
};

static void send_rest(struct sender *s) {
    size_t left = BIG - s->done, third = left / 3;
    s->iov[0] = (struct iovec){ s->data + s->done, third };
    s->iov[1] = (struct iovec){ s->data + s->done + third, third };
    s->iov[2] = (struct iovec){ s->data + s->done + 2 * third, left - 2 * third };
    s->sends++;
    loop_send(&s->io, s->iov, 3);
}

static void sender_sent(struct loop_io *io, ssize_t n) {
    struct sender *s = (struct sender *)io;
    assert_true(n > 0);
    assert_false(loop_send_busy(io));
    if (s->done + (size_t)n < BIG) s->partial++;
    s->done += (size_t)n;
    if (s->done < BIG)
        send_rest(s);
    else
        loop_stop(loop);
}

static void ignore_closed(struct loop_io *io) {
    (void)io;
}

static void test_send_to_a_full_socket_completes_in_parts(void **state) {
    (void)state;
    static const struct loop_io_ops ops = { .on_sent = sender_sent, .on_closed = ignore_closed };
    struct sender s = { .data = malloc(BIG) };
    int fd, peer;
    tcp_pair(&fd, &peer);
    loop_io_init(&s.io, loop, fd, &ops);
    fill_pattern(s.data, 0, BIG);
    sink = malloc(BIG);
    pthread_t th;
    pthread_create(&th, NULL, read_slowly, (void *)(intptr_t)peer);
    send_rest(&s);
    loop_run(loop);
    void *got;
    pthread_join(th, &got);
    assert_int_equal((intptr_t)got, BIG);
    assert_true(is_pattern(sink, 0, BIG));
    assert_true(s.partial > 0);
    loop_io_close(&s.io);
    run_ms(1);
    close(peer);
    free(s.data);
    free(sink);
}

static void test_send_error_is_reported_without_signal(void **state) {
    (void)state;
    struct probe p;
    int peer;
    probe_init(&p, &peer);
    shutdown(p.io.fd, SHUT_WR);
    struct iovec iov = { (void *)(uintptr_t) "x", 1 };
    loop_send(&p.io, &iov, 1);
    run_ms(5);
    assert_int_equal(p.n_sent, 1);
    assert_int_equal(p.sent, -EPIPE);
    probe_done(&p, peer);
}

static void test_send_held_waits(void **state) {
    (void)state;
    struct probe p;
    int peer;
    probe_init(&p, &peer);
    struct iovec iov = { (void *)(uintptr_t) "xyz", 3 };
    loop_send_hold(&p.io, true);
    loop_send(&p.io, &iov, 1);
    run_ms(5);
    assert_int_equal(p.n_sent, 0);
    assert_true(loop_send_busy(&p.io));
    loop_send_hold(&p.io, false);
    run_ms(5);
    assert_int_equal(p.n_sent, 1);
    assert_int_equal(p.sent, 3);
    probe_done(&p, peer);
}

static void test_poll_is_one_shot(void **state) {
    (void)state;
    struct probe p;
    int peer;
    probe_init(&p, &peer);
    loop_poll(&p.io, POLLIN);
    run_ms(5);
    assert_int_equal(p.n_poll, 0);
    assert_true(send_all(peer, "x", 1));
    run_ms(5);
    assert_int_equal(p.n_poll, 1);
    assert_int_equal(p.revents, POLLIN);
    run_ms(5);
    assert_int_equal(p.n_poll, 1);
    loop_poll(&p.io, POLLIN | POLLOUT);
    run_ms(5);
    assert_int_equal(p.n_poll, 2);
    assert_int_equal(p.revents, POLLIN | POLLOUT);
    loop_poll(&p.io, POLLOUT);
    loop_poll(&p.io, 0);
    run_ms(5);
    assert_int_equal(p.n_poll, 2);
    assert_int_equal(p.n_recv, 0);
    probe_done(&p, peer);
}

static void close_self(struct probe *p) {
    p->inside_close = true;
    loop_io_close(&p->io);
    p->inside_close = false;
}

static void test_close_inside_on_recv(void **state) {
    (void)state;
    struct probe p;
    int peer;
    probe_init(&p, &peer);
    p.after_recv = close_self;
    loop_recv_start(&p.io);
    assert_true(send_all(peer, "abc", 3));
    run_ms(10);
    assert_int_equal(p.n_recv, 1);
    assert_int_equal(p.n_closed, 1);
    char c;
    assert_int_equal(recv(peer, &c, 1, 0), 0);
    close(peer);
}

static void close_other(struct probe *p) {
    close_self(p->other);
}

static void test_close_of_another_ready_io(void **state) {
    (void)state;
    struct probe a, b;
    int pa, pb;
    probe_init(&a, &pa);
    probe_init(&b, &pb);
    a.other = &b;
    b.other = &a;
    a.after_recv = b.after_recv = close_other;
    loop_recv_start(&a.io);
    loop_recv_start(&b.io);
    assert_true(send_all(pa, "a", 1) && send_all(pb, "b", 1)); /* both ready in one batch */
    sleep_ms(5);
    run_ms(10);
    assert_int_equal(a.n_recv + b.n_recv, 1);
    assert_int_equal(a.n_closed + b.n_closed, 1);
    struct probe *left = a.n_closed ? &b : &a;
    probe_done(left, -1);
    close(pa);
    close(pb);
}

static void test_calls_on_a_closed_io_do_nothing(void **state) {
    (void)state;
    struct probe p;
    int peer;
    probe_init(&p, &peer);
    assert_true(send_all(peer, "x", 1));
    loop_io_close(&p.io);
    struct iovec iov = { (void *)(uintptr_t) "x", 1 };
    loop_recv_start(&p.io);
    loop_poll(&p.io, POLLIN);
    loop_send(&p.io, &iov, 1);
    assert_int_equal(p.n_closed, 0);
    run_ms(5);
    assert_int_equal(p.n_closed, 1);
    assert_int_equal(p.n_recv + p.n_poll + p.n_sent, 0);
    close(peer);
}

/* ---- listeners ---- */

struct accepted {
    struct loop_acceptor a;
    int n, errors, last_error, stop_at;
    int fds[64];
};

static void on_accept(struct loop_acceptor *a, int fd) {
    struct accepted *s = (struct accepted *)a;
    if (fd < 0) {
        s->errors++;
        s->last_error = fd;
        return;
    }
    assert_true(fcntl(fd, F_GETFL) & O_NONBLOCK);
    assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    s->fds[s->n++] = fd;
    if (s->n == s->stop_at) loop_acceptor_stop(a);
}

static int port_of(int fd) {
    struct sockaddr_in sa;
    socklen_t len = sizeof(sa);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&sa, &len), 0);
    return ntohs(sa.sin_port);
}

static int client_of(int port) {
    struct sockaddr_in sa = { .sin_family = AF_INET,
                              .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                              .sin_port = htons((uint16_t)port) };
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
    return fd;
}

static void acceptor_open(struct accepted *s) {
    char err[200];
    memset(s, 0, sizeof(*s));
    s->a.fd = listen_tcp("127.0.0.1", 0, 64, true, err, sizeof(err));
    assert_true(s->a.fd >= 0);
    s->a.on_accept = on_accept;
    loop_acceptor_start(&s->a, loop);
}

static void test_accept_and_stop_in_callback(void **state) {
    (void)state;
    struct accepted *s = malloc(sizeof(*s));
    acceptor_open(s);
    s->stop_at = 3;
    int clients[5];
    for (int i = 0; i < 5; i++) clients[i] = client_of(port_of(s->a.fd));
    run_ms(10);
    assert_int_equal(s->n, 3);
    assert_int_equal(s->a.fd, -1);
    loop_acceptor_stop(&s->a);
    for (int i = 0; i < 3; i++) close(s->fds[i]);
    for (int i = 0; i < 5; i++) close(clients[i]);
    free(s);
    run_ms(5);
}

static void test_accept_out_of_descriptors_pauses(void **state) {
    (void)state;
    struct accepted s;
    acceptor_open(&s);
    int client = client_of(port_of(s.a.fd));
    struct rlimit old, none;
    getrlimit(RLIMIT_NOFILE, &old);
    none = old;
    none.rlim_cur = 3;
    setrlimit(RLIMIT_NOFILE, &none);
    turns = 0;
    loop_set_before_sleep(loop, count_turn, NULL);
    run_ms(50);
    loop_set_before_sleep(loop, NULL, NULL);
    setrlimit(RLIMIT_NOFILE, &old);
    assert_int_equal(s.errors, 1);
    assert_int_equal(s.last_error, -EMFILE);
    assert_in_range(turns, 1, 10);
    run_ms(120);
    assert_int_equal(s.n, 1);
    close(s.fds[0]);
    close(client);
    loop_acceptor_stop(&s.a);
}

#define loop_test(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        loop_test(test_backends),
        loop_test(test_timers_fire_in_order),
        loop_test(test_timer_is_not_early),
        loop_test(test_timer_rearmed_for_the_past_does_not_starve),
        loop_test(test_figures_leave_out_the_waiting),
        loop_test(test_inbox_from_many_threads),
        loop_test(test_inbox_left_over_is_run_at_free),
        loop_test(test_stop_from_another_thread),
        loop_test(test_recv_data_then_end),
        loop_test(test_yielding_receives_and_sleeps),
        loop_test(test_recv_stopped_gets_nothing),
        loop_test(test_hang_up_nobody_waits_for_does_not_spin),
        loop_test(test_send_to_a_full_socket_completes_in_parts),
        loop_test(test_send_error_is_reported_without_signal),
        loop_test(test_send_held_waits),
        loop_test(test_poll_is_one_shot),
        loop_test(test_close_inside_on_recv),
        loop_test(test_close_of_another_ready_io),
        loop_test(test_calls_on_a_closed_io_do_nothing),
        loop_test(test_accept_and_stop_in_callback),
        loop_test(test_accept_out_of_descriptors_pauses),
    };
    return run_on_both_backends(tests);
}
