/* Deadlines of blocking I/O against peers that keep it waiting, over tcp, userspace TLS, kernel TLS and half offload, many at a
 * time; keys that change meanwhile; and how many system calls a wake-up costs, counted by standing in front of the C library's.
 * How exact the deadlines are on an idle machine is perf/deadlines.sh's to say: the bounds here are loose. */
#include "net_test.h"

#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <sys/syscall.h>

#include "net/syncio.h"

enum transport { TCP, USER, KTLS, HALF };
enum behaviour { SILENT, DRIP, MIDDLE, STUCK, N_BEHAVIOURS };

static SSL_CTX *peer_ctx;

/* ---- counting: the calls of this program and of what is linked into it come here ---- */

static int counted_fd = -1;
static _Atomic int n_polls, n_reads;

int counted_ppoll(struct pollfd *fds, nfds_t n, const struct timespec *timeout, const sigset_t *mask) __asm__("ppoll");
int counted_ppoll(struct pollfd *fds, nfds_t n, const struct timespec *timeout, const sigset_t *mask) {
    struct timespec left = timeout ? *timeout : (struct timespec){ 0 };
    if (n == 1 && fds->fd == counted_fd) n_polls++;
    return (int)syscall(SYS_ppoll, fds, n, timeout ? &left : NULL, mask, sizeof(long));
}

ssize_t recv(int fd, void *buf, size_t len, int flags) {
    if (fd == counted_fd) n_reads++;
    return syscall(SYS_recvfrom, fd, buf, len, flags, NULL, NULL);
}

ssize_t recvmsg(int fd, struct msghdr *msg, int flags) {
    if (fd == counted_fd) n_reads++;
    return syscall(SYS_recvmsg, fd, msg, flags);
}

/* ---- the peer: a blocking server on a thread of its own ---- */

struct try {
    struct syncio io;
    pthread_t peer, th;
    int fd;
    SSL *ssl;
    enum behaviour how;
    _Atomic bool stop, ready;
    _Atomic int n_pieces; /* DRIP: so many, and then silent */
    int period_ms, result;
    int64_t took_us;
};

static void make_peer_ctx(void) {
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *x = X509_new();
    ASN1_INTEGER_set(X509_get_serialNumber(x), 1);
    X509_gmtime_adj(X509_getm_notBefore(x), -3600);
    X509_gmtime_adj(X509_getm_notAfter(x), 86400);
    X509_set_pubkey(x, key);
    X509_sign(x, key, EVP_sha256());
    peer_ctx = SSL_CTX_new(TLS_server_method());
    SSL_CTX_use_certificate(peer_ctx, x);
    SSL_CTX_use_PrivateKey(peer_ctx, key);
    SSL_CTX_set_num_tickets(peer_ctx, 0);
    X509_free(x);
    EVP_PKEY_free(key);
}

static void send_half(struct try *t) {
    char data[4096] = { 0 }, *record;
    if (!t->ssl) {
        send_all(t->fd, data, sizeof(data) / 2);
        return;
    }
    BIO *mem = BIO_new(BIO_s_mem());
    SSL_set0_wbio(t->ssl, mem);
    SSL_write(t->ssl, data, sizeof(data));
    long len = BIO_get_mem_data(mem, &record);
    send_all(t->fd, record, (size_t)len / 2);
}

static void *peer_main(void *arg) {
    struct try *t = arg;
    sigset_t pipe;
    sigemptyset(&pipe);
    sigaddset(&pipe, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &pipe, NULL);
    if (t->ssl && SSL_accept(t->ssl) != 1) return NULL;
    t->ready = true;
    if (t->how == MIDDLE) send_half(t);
    for (int i = 0; !t->stop; i++) {
        sleep_ms(t->period_ms);
        if (t->how != DRIP || i >= t->n_pieces) continue;
        if (t->ssl ? SSL_write(t->ssl, "x", 1) <= 0 : !send_all(t->fd, "x", 1)) break;
    }
    return NULL;
}

static struct ktls_conn *client_conn(int fd, enum transport tr) {
    struct ktls_ctx *ctx = NULL;
    struct ktls_ctx_opts o = { .size = sizeof(o), .role = KTLS_CLIENT, .num_tickets = -1 };
    struct ktls_conn *c = NULL;
    o.policy = tr == KTLS ? KTLS_POLICY_REQUIRE : tr == HALF ? KTLS_POLICY_TX : KTLS_POLICY_OFF;
    assert_int_equal(ktls_ctx_new(&o, &ctx, NULL, 0), 0);
    assert_int_equal(ktls_conn_new(ctx, fd, NULL, &c), 0);
    ktls_ctx_unref(ctx);
    return c;
}

static const enum ktls_mode mode_of[] = { [USER] = KTLS_MODE_USER, [KTLS] = KTLS_MODE_KERNEL, [HALF] = KTLS_MODE_TX };

static void try_open(struct try *t, enum transport tr, enum behaviour how, int period_ms) {
    int one = 1, small = 32768;
    memset(t, 0, sizeof(*t));
    tcp_pair(&t->io.fd, &t->fd);
    setsockopt(t->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    setsockopt(t->fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
    setsockopt(t->io.fd, SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
    t->how = how;
    t->period_ms = period_ms;
    t->n_pieces = 1000000;
    if (tr != TCP) {
        t->ssl = SSL_new(peer_ctx);
        SSL_set_fd(t->ssl, t->fd);
        t->io.tls = client_conn(t->io.fd, tr);
    }
    pthread_create(&t->peer, NULL, peer_main, t);
    assert_int_equal(syncio_handshake(&t->io, clock_mono_us() + 20000000), 0);
    while (!t->ready) sleep_ms(1);
    if (tr != TCP) assert_int_equal(ktls_conn_mode(t->io.tls), mode_of[tr]);
}

static void try_close(struct try *t) {
    syncio_close(&t->io, clock_mono_us());
    t->stop = true;
    pthread_join(t->peer, NULL);
    SSL_free(t->ssl);
    close(t->fd);
}

/* ---- deadlines ---- */

enum { TRIES = 10, DEADLINE_US = 200000, WRITE_SIZE = 8 << 20 };
static char *big;

static void *run_try(void *arg) {
    struct try *t = arg;
    char buf[4096];
    int64_t start = clock_mono_us();
    if (t->how == STUCK)
        t->result = syncio_write_full(&t->io, big, WRITE_SIZE, start + DEADLINE_US);
    else
        t->result = syncio_read_full(&t->io, buf, sizeof(buf), start + DEADLINE_US);
    t->took_us = clock_mono_us() - start;
    return NULL;
}

static void deadlines(enum transport tr) {
    static struct try tries[N_BEHAVIOURS][TRIES];
    big = calloc(1, WRITE_SIZE);
    for (int how = 0; how < N_BEHAVIOURS; how++)
        for (int i = 0; i < TRIES; i++) try_open(&tries[how][i], tr, (enum behaviour)how, 20);
    for (int how = 0; how < N_BEHAVIOURS; how++)
        for (int i = 0; i < TRIES; i++) pthread_create(&tries[how][i].th, NULL, run_try, &tries[how][i]);
    for (int how = 0; how < N_BEHAVIOURS; how++)
        for (int i = 0; i < TRIES; i++) pthread_join(tries[how][i].th, NULL);
    for (int how = 0; how < N_BEHAVIOURS; how++) {
        for (int i = 0; i < TRIES; i++) {
            struct try *t = &tries[how][i];
            assert_int_equal(t->result, -ETIMEDOUT);
            assert_in_range(t->took_us, DEADLINE_US, DEADLINE_US + 10000000);
            try_close(t);
        }
    }
    free(big);
}

/* ---- system calls ---- */

enum { PIECES = 20 };

/* Pieces that come one by one: one poll and one read each, one read to begin with, one poll that runs into the deadline. */
static void calls(enum transport tr) {
    struct try t;
    char buf[PIECES + 1];
    try_open(&t, tr, DRIP, 10);
    t.n_pieces = PIECES;
    n_polls = n_reads = 0;
    counted_fd = t.io.fd;
    assert_int_equal(syncio_read_full(&t.io, buf, PIECES + 1, clock_mono_us() + 1000000), -ETIMEDOUT);
    counted_fd = -1;
    assert_in_range(n_polls, 2, PIECES + 1); /* fewer, where two came at a time */
    assert_int_equal(n_reads, n_polls);
    try_close(&t);
}

/* Half a record, or half of what is waited for, and then nothing: Linux 6.1 reports a kernel-TLS socket readable all the while.
 */
static void calls_in_the_middle(enum transport tr) {
    struct try t;
    char buf[4096];
    try_open(&t, tr, MIDDLE, 10);
    sleep_ms(20);
    n_polls = n_reads = 0;
    counted_fd = t.io.fd;
    assert_int_equal(syncio_read_full(&t.io, buf, sizeof(buf), clock_mono_us() + 200000), -ETIMEDOUT);
    counted_fd = -1;
    assert_in_range(n_polls, 1, 4);
    assert_in_range(n_reads, 1, 4);
    try_close(&t);
}

/* A line and what follows it came in one piece: they are read in one piece. */
static void line_calls(enum transport tr) {
    struct try t;
    char line[64];
    try_open(&t, tr, SILENT, 10);
    const char *text = "+PONG\r\n$5\r\nhello\r\n";
    if (t.ssl)
        assert_int_equal(SSL_write(t.ssl, text, 18), 18);
    else
        assert_true(send_all(t.fd, text, 18));
    sleep_ms(20);
    n_polls = n_reads = 0;
    counted_fd = t.io.fd;
    int64_t until = clock_mono_us() + 5000000;
    assert_int_equal(syncio_read_line(&t.io, line, sizeof(line), until), 5);
    assert_string_equal(line, "+PONG");
    assert_int_equal(syncio_read_line(&t.io, line, sizeof(line), until), 2);
    assert_string_equal(line, "$5");
    assert_int_equal(syncio_read_full(&t.io, line, 7, until), 0);
    assert_memory_equal(line, "hello\r\n", 7);
    counted_fd = -1;
    assert_in_range(n_reads, 1, 2);
    assert_int_equal(syncio_left(&t.io).len, 0);
    try_close(&t);
}

/* ---- writes that are tried, not waited for (the cli's pipe mode) ---- */

static void tried_writes(enum transport tr) {
    enum { SIZE = 3 << 20 };
    struct try t;
    try_open(&t, tr, SILENT, 1);
    char *data = malloc(SIZE), *got = calloc(1, SIZE);
    size_t sent = 0, at = 0;
    fill_pattern(data, 0, SIZE);
    int full = 0;
    for (int64_t until = clock_mono_us() + 20000000; at < SIZE && clock_mono_us() < until;) {
        ssize_t n = sent < SIZE ? syncio_try_write(&t.io, data + sent, SIZE - sent) : -EAGAIN;
        if (n > 0) {
            sent += (size_t)n;
            continue;
        }
        assert_int_equal(n, -EAGAIN);
        full += sent < SIZE;
        n = t.ssl ? SSL_read(t.ssl, got + at, (int)(SIZE - at)) : read(t.fd, got + at, SIZE - at);
        assert_true(n > 0);
        at += (size_t)n;
    }
    assert_int_equal(sent, SIZE);
    assert_true(full > 0);
    assert_memory_equal(data, got, SIZE);
    free(data);
    free(got);
    try_close(&t);
}

/* ---- keys that change ---- */

static bool kernel_can_rekey(void) {
    struct ktls_probe p;
    ktls_probe(&p);
    return p.usable && p.rekey == 0;
}

static struct ktls_conn_info info_of(const struct try *t) {
    struct ktls_conn_info info;
    assert_int_equal(ktls_conn_info(t->io.tls, &info), 0);
    return info;
}

/* The peer's KeyUpdate, and data behind it, to and fro. how: does it ask for ours? */
static void key_updates(enum transport tr, int how) {
    enum { TIMES = 5, SIZE = 20000 };
    struct try t;
    char data[SIZE], got[SIZE];
    try_open(&t, tr, SILENT, 10);
    fill_pattern(data, 0, SIZE);
    for (int i = 0; i < TIMES; i++) {
        int64_t until = clock_mono_us() + 5000000;
        assert_int_equal(SSL_key_update(t.ssl, how), 1);
        assert_int_equal(SSL_write(t.ssl, data, SIZE / 2), SIZE / 2);
        assert_int_equal(syncio_read_full(&t.io, got, SIZE / 2, until), 0);
        assert_memory_equal(data, got, SIZE / 2);
        assert_int_equal(syncio_write_full(&t.io, data, SIZE, until), 0);
        for (int at = 0, n; at < SIZE; at += n) assert_true((n = SSL_read(t.ssl, got + at, SIZE - at)) > 0);
        assert_memory_equal(data, got, SIZE);
    }
    assert_int_equal(info_of(&t).key_updates_in, TIMES);
    assert_int_equal(info_of(&t).key_updates_out, how == SSL_KEY_UPDATE_REQUESTED ? TIMES : 0);
    try_close(&t);
}

/* A KeyUpdate that is all that comes does not extend a deadline; the kernel's answer does not wait for data. */
static void key_update_alone(enum transport tr) {
    struct try t;
    char byte;
    try_open(&t, tr, SILENT, 10);
    assert_int_equal(SSL_key_update(t.ssl, SSL_KEY_UPDATE_REQUESTED), 1);
    assert_int_equal(SSL_do_handshake(t.ssl), 1); /* sends it */
    sleep_ms(20);
    n_polls = n_reads = 0;
    counted_fd = t.io.fd;
    int64_t start = clock_mono_us();
    assert_int_equal(syncio_read_full(&t.io, &byte, 1, start + DEADLINE_US), -ETIMEDOUT);
    assert_in_range(clock_mono_us() - start, DEADLINE_US, DEADLINE_US + 10000000);
    counted_fd = -1;
    assert_in_range(n_polls, 1, 4);
    if (tr != USER) assert_int_equal(info_of(&t).key_updates_out, 1); /* OpenSSL answers with its next write */
    assert_int_equal(syncio_write_full(&t.io, "x", 1, clock_mono_us() + 5000000), 0);
    assert_int_equal(SSL_read(t.ssl, &byte, 1), 1);
    assert_int_equal(info_of(&t).key_updates_out, 1);
    try_close(&t);
}

/* The answer is due when the socket is full: what is read does not wait for it, and no data goes before it. */
static void key_update_while_full(enum transport tr) {
    enum { SIZE = 3 << 20 };
    struct try t;
    char word[4], *data = malloc(SIZE), *got = malloc(SIZE);
    size_t sent = 0, at = 0;
    ssize_t n;
    try_open(&t, tr, SILENT, 1);
    fill_pattern(data, 0, SIZE);
    while ((n = syncio_try_write(&t.io, data + sent, SIZE - sent)) > 0) sent += (size_t)n;
    assert_int_equal(n, -EAGAIN);
    assert_int_equal(SSL_key_update(t.ssl, SSL_KEY_UPDATE_REQUESTED), 1);
    assert_int_equal(SSL_write(t.ssl, "word", 4), 4);
    assert_int_equal(syncio_read_full(&t.io, word, 4, clock_mono_us() + 5000000), 0);
    assert_memory_equal(word, "word", 4);
    while (at < SIZE) {
        n = sent < SIZE ? syncio_try_write(&t.io, data + sent, SIZE - sent) : -EAGAIN;
        if (n > 0) sent += (size_t)n;
        if (n > 0) continue;
        assert_int_equal(n, -EAGAIN);
        assert_true((n = SSL_read(t.ssl, got + at, (int)(SIZE - at))) > 0);
        at += (size_t)n;
    }
    assert_memory_equal(data, got, SIZE);
    assert_int_equal(info_of(&t).key_updates_out, 1);
    free(data);
    free(got);
    try_close(&t);
}

/* A kernel that cannot change keys: an orderly end, not a deadline. */
static void key_update_ends_it(enum transport tr, int how) {
    struct try t;
    char byte;
    try_open(&t, tr, SILENT, 10);
    assert_int_equal(SSL_key_update(t.ssl, how), 1);
    assert_int_equal(SSL_write(t.ssl, "x", 1), 1);
    assert_int_equal(syncio_read_full(&t.io, &byte, 1, clock_mono_us() + 5000000), KTLS_EKEYUPDATE);
    assert_int_equal(SSL_read(t.ssl, &byte, 1), 0);
    assert_true(SSL_get_shutdown(t.ssl) & SSL_RECEIVED_SHUTDOWN);
    try_close(&t);
}

static void changing_keys(enum transport tr) {
    const int asks = SSL_KEY_UPDATE_REQUESTED, asks_not = SSL_KEY_UPDATE_NOT_REQUESTED;
    bool can = tr == USER || kernel_can_rekey();
    if (can || tr == HALF)
        key_updates(tr, asks_not);
    else
        key_update_ends_it(tr, asks_not);
    if (!can) {
        key_update_ends_it(tr, asks);
        return;
    }
    key_updates(tr, asks);
    key_update_alone(tr);
    key_update_while_full(tr);
}

static void everything(enum transport tr) {
    deadlines(tr);
    calls(tr);
    calls_in_the_middle(tr);
    line_calls(tr);
    tried_writes(tr);
    if (tr != TCP) changing_keys(tr);
}

static void test_over_tcp(void **state) {
    (void)state;
    everything(TCP);
}

static void test_over_userspace_tls(void **state) {
    (void)state;
    everything(USER);
}

static void test_over_kernel_tls(void **state) {
    (void)state;
    NEED_KERNEL_TLS();
    everything(KTLS);
}

static void test_over_half_offload(void **state) {
    (void)state;
    NEED_KERNEL_TLS();
    everything(HALF);
}

static int setup(void **state) {
    make_peer_ctx();
    return watchdog(state);
}

static int teardown(void **state) {
    (void)state;
    SSL_CTX_free(peer_ctx);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_over_tcp),
        cmocka_unit_test(test_over_userspace_tls),
        cmocka_unit_test(test_over_kernel_tls),
        cmocka_unit_test(test_over_half_offload),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
