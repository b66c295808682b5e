/* Event loop under pressure: more connections readable than there are buffers, completions that overflow their queue, readers
 * that pause while the peer floods, closing and stopping with requests in flight, a bounded number of accepted connections per
 * turn, a fork. Written for the io_uring back end, whose kernel side can go wrong in these ways; the epoll back end has to pass
 * as well. */
#include "net_test.h"

#include <dirent.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "net/listen.h"

static struct loop *loop;

static int setup(void **state) {
    (void)state;
    alarm(300);
    return loop_new(backend, &loop);
}

static int teardown(void **state) {
    (void)state;
    loop = loop_free(loop);
    return 0;
}

static void stop_fn(struct loop_timer *t) {
    (void)t;
    loop_stop(loop);
}

static void run_ms(int ms) {
    struct loop_timer stop = { .fn = stop_fn };
    loop_timer_set(loop, &stop, clock_mono_us() + ms * 1000);
    loop_run(loop);
    loop_timer_cancel(loop, &stop);
}

static int count_fds(void) {
    int n = 0;
    DIR *d = opendir("/proc/self/fd");
    while (readdir(d)) n++;
    closedir(d);
    return n;
}

/* False: this system does not grant so many descriptors. */
static bool want_fds(rlim_t n) {
    struct rlimit lim;
    getrlimit(RLIMIT_NOFILE, &lim);
    if (lim.rlim_max < n) return false;
    if (lim.rlim_cur < n) lim.rlim_cur = n;
    return setrlimit(RLIMIT_NOFILE, &lim) == 0;
}

/* ---- an io that keeps a stream of the pattern, and one that sends it ---- */

struct io {
    struct loop_io io;
    size_t got, to_send, sent;
    ssize_t last_recv, last_sent;
    int n_sent, n_closed;
    bool broken;        /* a byte was not that of the pattern */
    bool pause_at_once; /* each piece of data pauses the reading */
    struct iovec iov[2];
    char *data; /* freed, after being spoiled, when the io is closed */
};

static int open_ios;

static struct io *io_of(struct loop_io *io) {
    return (struct io *)io;
}

static void on_recv(struct loop_io *lio, char *data, ssize_t n) {
    struct io *io = io_of(lio);
    io->last_recv = n;
    if (n <= 0) return;
    if (!is_pattern(data, io->got, (size_t)n)) io->broken = true;
    io->got += (size_t)n;
    if (io->pause_at_once) loop_recv_stop(lio);
}

static void send_rest(struct io *io) {
    size_t left = io->to_send - io->sent, half = left / 2;
    io->iov[0] = (struct iovec){ io->data + io->sent, half };
    io->iov[1] = (struct iovec){ io->data + io->sent + half, left - half };
    loop_send(&io->io, io->iov, 2);
}

static void on_sent(struct loop_io *lio, ssize_t n) {
    struct io *io = io_of(lio);
    io->last_sent = n;
    io->n_sent++;
    if (n < 0) return;
    io->sent += (size_t)n;
    if (io->sent < io->to_send) send_rest(io);
}

static void on_poll(struct loop_io *lio, short revents) {
    (void)lio, (void)revents;
}

static void on_closed(struct loop_io *lio) {
    struct io *io = io_of(lio);
    io->n_closed++;
    open_ios--;
    if (io->data) memset(io->data, 'X', io->to_send); /* the kernel must not want it any more */
    free(io->data);
    io->data = NULL;
}

static const struct loop_io_ops ops = { on_recv, on_sent, on_poll, on_closed };

static void io_start(struct io *io, int fd, size_t to_send) {
    memset(io, 0, sizeof(*io));
    loop_io_init(&io->io, loop, fd, &ops);
    open_ios++;
    if (to_send) {
        io->to_send = to_send;
        io->data = malloc(to_send);
        fill_pattern(io->data, 0, to_send);
    }
}

static void io_finish(struct io *io) {
    loop_io_close(&io->io);
    run_ms(1);
    assert_int_equal(io->n_closed, 1);
}

static void any_pair(bool tcp, int *server, int *client) {
    if (tcp) {
        tcp_pair(server, client);
        return;
    }
    int fds[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    *server = fds[0];
    *client = fds[1];
    set_nonblocking(*server);
}

/* ---- buffers ---- */

enum { CROWD = 1500, ROUNDS = 3 }; /* more than the back end has buffers at its most */

static void test_more_readable_than_buffers(void **state) {
    (void)state;
    if (!want_fds(CROWD * 2 + 100)) skip();
    struct io *ios = calloc(CROWD, sizeof(*ios));
    int *peers = calloc(CROWD, sizeof(int));
    char piece[3000];
    for (int i = 0; i < CROWD; i++) {
        int fd;
        any_pair(true, &fd, &peers[i]);
        io_start(&ios[i], fd, 0);
        loop_recv_start(&ios[i].io);
    }
    for (size_t round = 0; round < ROUNDS; round++) { /* the first finds them unarmed, the others armed and idle */
        fill_pattern(piece, round * sizeof(piece), sizeof(piece));
        for (int i = 0; i < CROWD; i++) assert_true(send_all(peers[i], piece, sizeof(piece)));
        int64_t until = clock_mono_us() + 20000000;
        size_t sum = 0;
        while (sum < CROWD * (round + 1) * sizeof(piece) && clock_mono_us() < until) {
            run_ms(5);
            sum = 0;
            for (int i = 0; i < CROWD; i++) sum += ios[i].got;
        }
        assert_int_equal(sum, CROWD * (round + 1) * sizeof(piece));
    }
    for (int i = 0; i < CROWD; i++) {
        assert_false(ios[i].broken);
        loop_io_close(&ios[i].io);
        close(peers[i]);
    }
    run_ms(1);
    assert_int_equal(open_ios, 0);
    free(ios);
    free(peers);
}

/* Two completions for each of 4,300 ios, submitted in one turn: the queue of the ring has 8,192 places. */
enum { FLOOD = 4300 };

static void test_more_completions_than_the_queue_holds(void **state) {
    (void)state;
    if (!want_fds(FLOOD * 2 + 100)) {
        print_message("not so many descriptors here\n");
        skip();
    }
    struct io *ios = calloc(FLOOD, sizeof(*ios));
    int *peers = calloc(FLOOD, sizeof(int));
    char piece[100];
    fill_pattern(piece, 0, sizeof(piece));
    for (int i = 0; i < FLOOD; i++) {
        int fd;
        any_pair(false, &fd, &peers[i]);
        io_start(&ios[i], fd, 50);
        assert_true(send_all(peers[i], piece, sizeof(piece)));
    }
    run_ms(1); /* the ring is open for requests from here on */
    for (int i = 0; i < FLOOD; i++) loop_recv_start(&ios[i].io);
    for (int i = 0; i < FLOOD; i++) send_rest(&ios[i]);
    size_t got = 0, sent = 0;
    for (int64_t until = clock_mono_us() + 20000000; got + sent < FLOOD * (100 + 50) && clock_mono_us() < until;) {
        run_ms(5);
        got = sent = 0;
        for (int i = 0; i < FLOOD; i++) got += ios[i].got, sent += ios[i].sent;
    }
    assert_int_equal(got, FLOOD * 100);
    assert_int_equal(sent, FLOOD * 50);
    for (int i = 0; i < FLOOD; i++) {
        assert_int_equal(recv(peers[i], piece, sizeof(piece), MSG_DONTWAIT), 50);
        assert_true(is_pattern(piece, 0, 50));
        assert_false(ios[i].broken);
        loop_io_close(&ios[i].io);
    }
    run_ms(1);
    assert_int_equal(open_ios, 0);
    for (int i = 0; i < FLOOD; i++) close(peers[i]);
    free(ios);
    free(peers);
}

/* ---- a reader that pauses ---- */

struct flooder {
    pthread_t th;
    int fd;
    size_t total;
    _Atomic size_t sent;
};

static void *flood(void *arg) {
    struct flooder *f = arg;
    char piece[65536];
    while (f->sent < f->total) {
        size_t n = f->total - f->sent < sizeof(piece) ? f->total - f->sent : sizeof(piece);
        fill_pattern(piece, f->sent, n);
        if (!send_all(f->fd, piece, n)) break;
        f->sent += n;
    }
    shutdown(f->fd, SHUT_WR);
    return NULL;
}

static void flooder_start(struct flooder *f, int fd, size_t total) {
    *f = (struct flooder){ .fd = fd, .total = total };
    pthread_create(&f->th, NULL, flood, f);
}

static void small_buffers(int a, int b) {
    int size = 65536;
    setsockopt(a, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
    setsockopt(b, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
}

static void paused_reader(bool tcp) {
    struct io io;
    struct flooder f;
    int fd, peer;
    any_pair(tcp, &fd, &peer);
    small_buffers(fd, peer);
    io_start(&io, fd, 0);
    loop_recv_start(&io.io);
    run_ms(5);
    loop_recv_stop(&io.io); /* what the kernel was asked for stays asked for */
    flooder_start(&f, peer, 64 << 20);
    run_ms(400);
    assert_int_equal(io.got, 0);
    assert_true(f.sent < 20 << 20); /* the sockets' buffers, and one round of the ring's at most */
    loop_recv_start(&io.io);
    for (int64_t until = clock_mono_us() + 30000000; io.last_recv != 0 || io.got == 0;) {
        run_ms(10);
        if (clock_mono_us() > until) break;
    }
    assert_int_equal(io.got, 64 << 20);
    assert_false(io.broken);
    assert_int_equal(io.last_recv, 0);
    pthread_join(f.th, NULL);
    io_finish(&io);
    close(peer);
}

static void test_paused_reader_holds_back_its_peer(void **state) {
    (void)state;
    paused_reader(true);
    paused_reader(false);
}

static void restart(struct loop_timer *t);

struct pauser {
    struct io io;
    struct loop_timer t;
};

static void restart(struct loop_timer *t) {
    struct pauser *p = list_entry(t, struct pauser, t);
    loop_recv_start(&p->io.io);
    loop_timer_set(loop, t, clock_mono_us());
}

static void test_pauses_in_mid_stream_keep_the_order(void **state) {
    (void)state;
    struct pauser p = { .t = { .fn = restart } };
    struct flooder f;
    int fd, peer;
    any_pair(true, &fd, &peer);
    io_start(&p.io, fd, 0);
    p.io.pause_at_once = true;
    loop_recv_start(&p.io.io);
    loop_timer_set(loop, &p.t, clock_mono_us());
    flooder_start(&f, peer, 16 << 20);
    for (int64_t until = clock_mono_us() + 30000000; p.io.last_recv != 0 || p.io.got == 0;) {
        run_ms(10);
        if (clock_mono_us() > until) break;
    }
    assert_int_equal(p.io.got, 16 << 20);
    assert_false(p.io.broken);
    loop_timer_cancel(loop, &p.t);
    pthread_join(f.th, NULL);
    io_finish(&p.io);
    close(peer);
}

/* Bytes are kept for a paused reader, and it is closed: nothing leaks, nothing is delivered. */
static void test_close_of_a_paused_reader(void **state) {
    (void)state;
    struct io io;
    int fd, peer;
    any_pair(true, &fd, &peer);
    io_start(&io, fd, 0);
    loop_recv_start(&io.io);
    run_ms(2);
    loop_recv_stop(&io.io);
    assert_true(send_all(peer, "abc", 3));
    run_ms(5);
    io_finish(&io);
    assert_int_equal(io.got, 0);
    char c;
    assert_true(recv(peer, &c, 1, 0) <= 0);
    close(peer);
}

/* ---- sends in flight ---- */

enum { SENDERS = 40, SEND_SIZE = 8 << 20 };

/* What the peer can still read is a beginning of what was to be sent: nothing was read from memory that had been given back. */
static void assert_prefix(int peer) {
    static char buf[1 << 16];
    size_t at = 0;
    for (;;) {
        ssize_t n = recv(peer, buf, sizeof(buf), 0);
        if (n <= 0) break;
        assert_true(is_pattern(buf, at, (size_t)n));
        at += (size_t)n;
    }
}

static void close_with_sends_in_flight(int run_before_ms) {
    static struct io ios[SENDERS];
    int peers[SENDERS];
    for (int i = 0; i < SENDERS; i++) {
        int fd;
        any_pair(i % 4 != 3, &fd, &peers[i]);
        io_start(&ios[i], fd, SEND_SIZE);
        loop_recv_start(&ios[i].io);
        send_rest(&ios[i]);
    }
    if (run_before_ms) run_ms(run_before_ms);
    for (int i = 0; i < SENDERS; i++) {
        loop_io_close(&ios[i].io);
        assert_int_equal(ios[i].n_closed, 0);
    }
    run_ms(1);
    for (int i = 0; i < SENDERS; i++) {
        assert_int_equal(ios[i].n_closed, 1);
        assert_true(ios[i].sent < SEND_SIZE);
        assert_prefix(peers[i]);
        close(peers[i]);
    }
}

static void test_close_with_sends_in_flight(void **state) {
    (void)state;
    close_with_sends_in_flight(20); /* they wait in the kernel for room */
    close_with_sends_in_flight(0);  /* not even submitted */
    assert_int_equal(open_ios, 0);
}

static void test_send_called_back_goes_on_where_it_was(void **state) {
    (void)state;
    struct io io;
    int fd, peer;
    any_pair(true, &fd, &peer);
    small_buffers(peer, fd);
    io_start(&io, fd, SEND_SIZE);
    send_rest(&io);
    run_ms(10);
    assert_true(loop_send_busy(&io.io));
    for (int i = 0; i < 3; i++) {
        loop_send_hold(&io.io, true);
        loop_send_hold(&io.io, true);
        size_t sent = io.sent;
        static char buf[1 << 20];
        set_nonblocking(peer);
        ssize_t n, sum = 0;
        for (int quiet = 0; quiet<3; quiet = n> 0 ? 0 : quiet + 1) { /* everything that is on its way: now there is room */
            run_ms(5);
            n = recv(peer, buf, sizeof(buf), 0);
            if (n > 0) assert_true(is_pattern(buf, io.got, (size_t)n));
            if (n > 0) io.got += (size_t)n, sum += n;
        }
        assert_true(sum > 0);
        run_ms(10);
        assert_int_equal(recv(peer, buf, 1, 0), -1);
        assert_true(io.sent - sent <= (size_t)sum); /* what was sent before it was held may be told later */
        loop_send_hold(&io.io, false);
        run_ms(10);
    }
    assert_true(io.got < SEND_SIZE);
    io_finish(&io);
    close(peer);
}

/* ---- listeners ---- */

struct accepted {
    struct loop_acceptor a;
    int n, most_in_turn, in_turn, stop_at;
    int fds[256];
};

static struct accepted *counting;

static void new_turn(void *arg) {
    (void)arg;
    if (counting) counting->in_turn = 0;
}

static void on_accept(struct loop_acceptor *a, int fd) {
    struct accepted *s = (struct accepted *)a;
    assert_true(fd >= 0);
    s->fds[s->n++] = fd;
    s->in_turn++;
    if (s->in_turn > s->most_in_turn) s->most_in_turn = s->in_turn;
    if (s->n == s->stop_at) loop_acceptor_stop(a);
}

static struct sockaddr_in address_of(int fd) {
    struct sockaddr_in sa;
    socklen_t len = sizeof(sa);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&sa, &len), 0);
    return sa;
}

static int client_to(const struct sockaddr_in *sa) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connect(fd, (const struct sockaddr *)sa, sizeof(*sa)) == 0) return fd;
    close(fd);
    return -1;
}

static struct accepted *acceptor_open(unsigned max_per_turn) {
    struct accepted *s = calloc(1, sizeof(*s));
    s->a.fd = listen_tcp("127.0.0.1", 0, 256, true, NULL, 0);
    assert_true(s->a.fd >= 0);
    s->a.on_accept = on_accept;
    s->a.max_per_turn = max_per_turn;
    loop_acceptor_start(&s->a, loop);
    return s;
}

static void test_accepting_is_bounded_per_turn(void **state) {
    (void)state;
    static const unsigned limits[] = { 1, 7, 1000 };
    for (size_t k = 0; k < 3; k++) {
        struct accepted *s = counting = acceptor_open(limits[k]);
        int clients[100];
        struct sockaddr_in sa = address_of(s->a.fd);
        loop_set_before_sleep(loop, new_turn, NULL);
        for (int half = 0; half < 2; half++) { /* the second half comes to a listener that is armed and idle */
            for (int i = 0; i < 50; i++) clients[half * 50 + i] = client_to(&sa);
            for (int i = 0; i < 200 && s->n < (half + 1) * 50; i++) run_ms(2);
            assert_int_equal(s->n, (half + 1) * 50);
        }
        assert_in_range(s->most_in_turn, 1, limits[k]);
        loop_acceptor_stop(&s->a);
        counting = NULL;
        for (int i = 0; i < 100; i++) close(s->fds[i]), close(clients[i]);
        free(s);
        loop_set_before_sleep(loop, NULL, NULL);
        run_ms(1);
    }
}

/* Stopped while requests are in flight, connections wait in the backlog or in the back end's queue, from outside and from inside
 * of the callback, and freed at once. */
static void test_listener_stopped_with_connections_waiting(void **state) {
    (void)state;
    run_ms(1);
    int before = count_fds();
    for (int round = 0; round < 30; round++) {
        struct accepted *s = acceptor_open(1 + (unsigned)round % 3);
        struct sockaddr_in sa = address_of(s->a.fd);
        int clients[20], n_clients = round % 2 ? 20 : 0;
        s->stop_at = round % 4 == 3 ? 2 : 0;
        if (round % 3 == 0) run_ms(1); /* armed before they come */
        for (int i = 0; i < n_clients; i++) clients[i] = client_to(&sa);
        if (s->stop_at) {
            run_ms(10);
            assert_int_equal(s->n, 2);
        } else if (round % 5 == 0) {
            run_ms(1);
        }
        loop_acceptor_stop(&s->a);
        loop_acceptor_stop(&s->a);
        for (int i = 0; i < s->n; i++) close(s->fds[i]);
        free(s);
        run_ms(1);
        assert_int_equal(client_to(&sa), -1);
        for (int i = 0; i < n_clients; i++) close(clients[i]);
    }
    assert_int_equal(count_fds(), before);
}

/* ---- a fork while requests are in flight ---- */

static void test_fork_leaves_the_ring_alone(void **state) {
    (void)state;
    struct io io;
    int fd, peer;
    any_pair(true, &fd, &peer);
    io_start(&io, fd, SEND_SIZE);
    loop_recv_start(&io.io);
    send_rest(&io);
    run_ms(5);
    for (int i = 0; i < 3; i++) {
        pid_t pid = fork();
        if (pid == 0) {
            if (i == 1) usleep(20000);
            if (i == 2) close_range(3, ~0u, 0);
            _exit(7);
        }
        char piece[500];
        fill_pattern(piece, (size_t)i * 500, sizeof(piece));
        assert_true(send_all(peer, piece, sizeof(piece)));
        run_ms(10);
        int status = 0;
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(WEXITSTATUS(status), 7);
        run_ms(5);
        assert_int_equal(io.got, (size_t)(i + 1) * 500);
    }
    assert_false(io.broken);
    char *all = malloc(SEND_SIZE);
    size_t at = 0;
    set_nonblocking(peer);
    for (int64_t until = clock_mono_us() + 20000000; at < SEND_SIZE && clock_mono_us() < until; run_ms(1)) {
        ssize_t n;
        while (at < SEND_SIZE && (n = recv(peer, all + at, SEND_SIZE - at, 0)) > 0) at += (size_t)n;
    }
    assert_int_equal(at, SEND_SIZE);
    assert_true(is_pattern(all, 0, SEND_SIZE));
    free(all);
    io_finish(&io);
    close(peer);
}

#define loop_test(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        loop_test(test_more_readable_than_buffers),
        loop_test(test_more_completions_than_the_queue_holds),
        loop_test(test_paused_reader_holds_back_its_peer),
        loop_test(test_pauses_in_mid_stream_keep_the_order),
        loop_test(test_close_of_a_paused_reader),
        loop_test(test_close_with_sends_in_flight),
        loop_test(test_send_called_back_goes_on_where_it_was),
        loop_test(test_accepting_is_bounded_per_turn),
        loop_test(test_listener_stopped_with_connections_waiting),
        loop_test(test_fork_leaves_the_ring_alone),
    };
    return run_on_both_backends(tests);
}
