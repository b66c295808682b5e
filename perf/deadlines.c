/* How exact the deadlines of net/syncio are: many connections at a time, against peers that keep them waiting. For
 * perf/deadlines.sh.
 *
 * Usage: deadlines CERT KEY [TRIES [DEADLINE_MS]]     the table
 *        deadlines --count CERT KEY TRANSPORT         one read against a dripping peer, between two lines on stderr (for strace)
 *
 * The peer is another process (an OpenSSL server, blocking), so that what it does is not in the figures. The tries of a case
 * start 2.5 ms apart, each on a thread of its own. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "net/syncio.h"

enum { TRIES_MAX = 1000, DRIP_US = 50000, STAGGER_US = 2500, READ_SIZE = 4096, WRITE_SIZE = 32 << 20 };
enum transport { TCP, USER, KTLS, N_TRANSPORTS };
enum behaviour { SILENT, DRIP, MIDDLE, STUCK, N_BEHAVIOURS };

static const char *const transport_names[] = { "tcp", "tls-user", "tls-kernel" };
static const char *const behaviour_names[] = { "silent", "one byte each 50 ms", "stops in the middle of a record",
                                               "stops reading" };
static const char *cert_file, *key_file;

static void die(const char *what) {
    perror(what);
    exit(1);
}

/* ---- the peer ---- */

struct peer_end {
    int fd;
    SSL *ssl;
};

static void peer_open(struct peer_end *p, const struct sockaddr_in *sa, SSL_CTX *ctx) {
    int one = 1;
    int small = 65536; /* or 200 of them would fill gigabytes of socket buffers, and the filling be what is measured */
    p->fd = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(p->fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
    if (connect(p->fd, (const struct sockaddr *)sa, sizeof(*sa)) < 0) die("connect");
    setsockopt(p->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    if (!ctx) return;
    p->ssl = SSL_new(ctx);
    SSL_set_fd(p->ssl, p->fd);
    if (SSL_accept(p->ssl) != 1) exit(2);
}

/* The first half of a record, or of the bytes that are waited for. */
static void send_half(struct peer_end *p) {
    char data[READ_SIZE] = { 0 }, *record;
    if (!p->ssl) {
        if (write(p->fd, data, sizeof(data) / 2) < 0) exit(3);
        return;
    }
    BIO *mem = BIO_new(BIO_s_mem());
    SSL_set0_wbio(p->ssl, mem);
    SSL_write(p->ssl, data, sizeof(data));
    long len = BIO_get_mem_data(mem, &record);
    if (write(p->fd, record, (size_t)len / 2) < 0) exit(3);
}

static void peer_act(struct peer_end *ends, int n, enum behaviour how) {
    for (int i = 0; how == MIDDLE && i < n; i++) send_half(&ends[i]);
    while (how == DRIP) {
        for (int i = 0; i < n; i++) {
            ssize_t r = ends[i].ssl ? SSL_write(ends[i].ssl, "x", 1) : send(ends[i].fd, "x", 1, MSG_NOSIGNAL);
            if (r < 0 && !ends[i].ssl && errno != EPIPE && errno != ECONNRESET) exit(3);
        }
        usleep(DRIP_US);
    }
    for (;;) pause();
}

static void peer_main(const struct sockaddr_in *sa, int n, enum transport tr, enum behaviour how, int go) {
    SSL_CTX *ctx = NULL;
    char byte;
    signal(SIGPIPE, SIG_IGN);
    if (tr != TCP) {
        ctx = SSL_CTX_new(TLS_server_method());
        SSL_CTX_set_num_tickets(ctx, 0);
        if (SSL_CTX_use_certificate_chain_file(ctx, cert_file) != 1 ||
            SSL_CTX_use_PrivateKey_file(ctx, key_file, SSL_FILETYPE_PEM) != 1)
            exit(4);
    }
    struct peer_end *ends = calloc((size_t)n, sizeof(*ends));
    for (int i = 0; i < n; i++) peer_open(&ends[i], sa, ctx);
    if (read(go, &byte, 1) == 1) peer_act(ends, n, how);
    exit(0);
}

/* ---- the tries ---- */

struct try {
    pthread_t th;
    struct syncio io;
    int64_t start_at_us, deadline_us, took_us;
    enum behaviour how;
    int result;
};

static char *big;

static void *run_try(void *arg) {
    struct try *t = arg;
    char buf[READ_SIZE];
    int64_t wait_us = t->start_at_us - clock_mono_us();
    if (wait_us > 0) usleep((unsigned)wait_us);
    int64_t start = clock_mono_us();
    t->result = t->how == STUCK ? syncio_write_full(&t->io, big, WRITE_SIZE, start + t->deadline_us)
                                : syncio_read_full(&t->io, buf, sizeof(buf), start + t->deadline_us);
    t->took_us = clock_mono_us() - start;
    return NULL;
}

static struct ktls_ctx *client_ctx(enum transport tr) {
    struct ktls_ctx *ctx = NULL;
    struct ktls_ctx_opts o = { .size = sizeof(o), .role = KTLS_CLIENT, .num_tickets = -1 };
    o.policy = tr == KTLS ? KTLS_POLICY_REQUIRE : KTLS_POLICY_OFF;
    if (tr != TCP && ktls_ctx_new(&o, &ctx, NULL, 0) < 0) die("ktls_ctx_new");
    return ctx;
}

static void open_try(struct try *t, int listener, struct ktls_ctx *ctx) {
    t->io.fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (t->io.fd < 0) die("accept");
    int small = 65536;
    setsockopt(t->io.fd, SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
    if (!ctx) return;
    if (ktls_conn_new(ctx, t->io.fd, NULL, &t->io.tls) < 0) die("ktls_conn_new");
    int r = syncio_handshake(&t->io, clock_mono_us() + 10000000);
    if (r < 0) {
        fprintf(stderr, "handshake: %s\n", ktls_conn_error(t->io.tls)->text);
        exit(1);
    }
}

/* Opens n connections to a fresh peer process. Its pid; *ret_go: one byte there, and it begins. */
static pid_t open_all(struct try *tries, int n, enum transport tr, enum behaviour how, int *ret_go) {
    struct sockaddr_in sa = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t len = sizeof(sa);
    int go[2], listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (bind(listener, (struct sockaddr *)&sa, sizeof(sa)) < 0 || listen(listener, 16) < 0) die("listen");
    getsockname(listener, (struct sockaddr *)&sa, &len);
    if (pipe(go) < 0) die("pipe");
    pid_t pid = fork();
    if (pid == 0) {
        close(go[1]);
        close(listener);
        peer_main(&sa, n, tr, how, go[0]);
    }
    close(go[0]);
    struct ktls_ctx *ctx = client_ctx(tr);
    for (int i = 0; i < n; i++) open_try(&tries[i], listener, ctx);
    ktls_ctx_unref(ctx);
    close(listener);
    *ret_go = go[1];
    return pid;
}

static void close_all(struct try *tries, int n, pid_t pid, int go) {
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    close(go);
    for (int i = 0; i < n; i++) syncio_close(&tries[i].io, 0);
}

static int by_time(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return x < y ? -1 : x > y;
}

/* True when all ended with ETIMEDOUT and 99% of them between the deadline and 20 ms behind it. */
static bool run_case(enum transport tr, enum behaviour how, int n, int deadline_ms) {
    static struct try tries[TRIES_MAX];
    static int64_t took[TRIES_MAX];
    int go, timed_out = 0, early = 0;
    memset(tries, 0, sizeof(tries));
    pid_t pid = open_all(tries, n, tr, how, &go);
    if (write(go, "g", 1) != 1) die("peer");
    usleep(20000);
    int64_t base = clock_mono_us() + 20000;
    for (int i = 0; i < n; i++) {
        tries[i].how = how;
        tries[i].deadline_us = deadline_ms * 1000;
        tries[i].start_at_us = base + i * STAGGER_US;
        if (pthread_create(&tries[i].th, NULL, run_try, &tries[i]) != 0) die("thread");
    }
    for (int i = 0; i < n; i++) {
        pthread_join(tries[i].th, NULL);
        timed_out += tries[i].result == -ETIMEDOUT;
        early += tries[i].took_us < tries[i].deadline_us;
        took[i] = tries[i].took_us;
    }
    close_all(tries, n, pid, go);
    qsort(took, (size_t)n, sizeof(took[0]), by_time);
    int p99 = (n * 99 + 99) / 100 - 1;
    bool good = timed_out == n && early == 0 && took[p99] <= (deadline_ms + 20) * 1000;
    printf("| %s | %s | %d | %.2f | %.2f | %.2f | %.2f | %s |\n", transport_names[tr], behaviour_names[how], timed_out,
           (double)took[0] / 1000, (double)took[n / 2] / 1000, (double)took[p99] / 1000, (double)took[n - 1] / 1000,
           good ? "yes" : "no");
    fflush(stdout);
    return good;
}

/* A dripping peer and one read that runs into its deadline: the calls between the two lines are counted by the script. */
static int count_calls(const char *transport) {
    static struct try t;
    enum transport tr = TCP;
    int go;
    while (tr < N_TRANSPORTS && strcmp(transport_names[tr], transport) != 0) tr++;
    if (tr == N_TRANSPORTS) return 1;
    pid_t pid = open_all(&t, 1, tr, DRIP, &go);
    t.deadline_us = 5000000;
    if (write(go, "g", 1) != 1 || write(STDERR_FILENO, "begin\n", 6) != 6) return 1;
    run_try(&t);
    if (write(STDERR_FILENO, "end\n", 4) != 4) return 1;
    close_all(&t, 1, pid, go);
    return t.result == -ETIMEDOUT ? 0 : 1;
}

int main(int argc, char **argv) {
    signal(SIGPIPE, SIG_IGN);
    if (argc == 5 && strcmp(argv[1], "--count") == 0) {
        cert_file = argv[2];
        key_file = argv[3];
        return count_calls(argv[4]);
    }
    if (argc < 3) return 2;
    cert_file = argv[1];
    key_file = argv[2];
    int tries = argc > 3 ? atoi(argv[3]) : 200, deadline_ms = argc > 4 ? atoi(argv[4]) : 500;
    if (tries < 1 || tries > TRIES_MAX) return 2;
    big = calloc(1, WRITE_SIZE);
    struct ktls_probe probe;
    bool kernel = ktls_probe(&probe) == 0 && probe.usable, good = true;
    printf("| transport | peer | ETIMEDOUT, of %d | first, ms | median | p99 | last | %d to %d ms "
           "|\n|---|---|---|---|---|---|---|---|\n",
           tries, deadline_ms, deadline_ms + 20);
    for (int tr = TCP; tr < N_TRANSPORTS; tr++)
        for (int how = SILENT; how < N_BEHAVIOURS && (tr != KTLS || kernel); how++)
            good = run_case((enum transport)tr, (enum behaviour)how, tries, deadline_ms) && good;
    if (!kernel) printf("\nNo kernel TLS here: %s.\n", ktls_reason_name(probe.reason));
    return good ? 0 : 1;
}
