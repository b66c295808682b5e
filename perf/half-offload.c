/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What a server pays per request when the kernel encrypts and OpenSSL decrypts ("tx"), beside both in the kernel ("kernel") and
 * both in OpenSSL ("user"). Prints the server's CPU nanoseconds per request (schedstat; instructions under vm-run --icount).
 *
 * A bare server process with blocking I/O: nothing but the transport is in the figures. Every mode is libktls's (KTLS_POLICY_TX,
 * _REQUIRE, _OFF), used as kettle-server uses it: where OpenSSL receives, over memory. TLS 1.3, AES-128-GCM, loopback, one
 * connection; the client is the same in every mode.
 *
 * Usage: half-offload CERT KEY [ROUNDS]; perf/half-offload.sh builds and runs it.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ktls.h"

#define SUITE "TLS_AES_128_GCM_SHA256"
#define ROUNDS_MAX 99
#define CHUNK 65536 /* ciphertext received at once; plaintext encrypted before it is sent */

enum mode { USER, TX, KERNEL, MODES };

/* A turn: the client sends `records` records of `up` bytes in one go and the server answers with `down` bytes for each, in one
 * go. */
static const struct load {
    const char *name;
    int records, up, down, turns;
} loads[] = {
    { "100 B request, 100 B reply", 1, 100, 100, 3000 },
    { "pipeline 16 in one record", 1, 1600, 1600, 2000 },
    { "16 records of 100 B in one go", 16, 100, 100, 600 },
    { "GET 16 KiB", 1, 50, 16384, 800 },
    { "GET 1 MiB", 1, 50, 1 << 20, 12 },
    { "SET 16 KiB", 1, 16384, 5, 800 },
    { "SET 1 MiB", 1, 1 << 20, 5, 12 },
};
#define LOADS ((int)(sizeof loads / sizeof loads[0]))

struct end {
    int fd;
    enum mode mode;
    struct ktls_conn *tls;
};

static char buf[1 << 21];

static void die(const char *what) {
    fprintf(stderr, "half-offload: %s: %s\n", what, strerror(errno));
    exit(1);
}

/* ---- either end ---- */

static size_t take(struct end *e, size_t want) { /* at least one byte, at most what is asked */
    static char cipher[CHUNK];
    ssize_t n;
    if (e->mode == KERNEL) {
        n = recv(e->fd, buf, want, 0);
        if (n > 0 && ktls_count_rx(e->tls, (size_t)n)) ktls_check_limits(e->tls);
    } else {
        while ((n = ktls_read(e->tls, buf, want)) == -EAGAIN) {
            n = recv(e->fd, cipher, sizeof cipher, 0);
            if (n <= 0 || ktls_mem_input(e->tls, cipher, (size_t)n) < 0) die("receive");
        }
    }
    if (n <= 0) die("receive");
    return (size_t)n;
}

static void take_all(struct end *e, size_t len) {
    while (len > 0) len -= take(e, len < sizeof buf ? len : sizeof buf);
}

static void send_all(int fd, const char *data, size_t len) {
    while (len > 0) {
        ssize_t n = send(fd, data, len, MSG_NOSIGNAL);
        if (n <= 0) die("send");
        data += n;
        len -= (size_t)n;
    }
}

static void give(struct end *e, size_t len) {
    if (e->mode != USER) {
        send_all(e->fd, buf, len);
        if (ktls_count_tx(e->tls, len)) ktls_check_limits(e->tls);
        return;
    }
    for (size_t off = 0; off < len;) {
        const void *data;
        ssize_t n = ktls_write(e->tls, buf + off, len - off < CHUNK ? len - off : CHUNK);
        if (n <= 0) die("send");
        size_t records = ktls_mem_output(e->tls, &data);
        send_all(e->fd, data, records);
        ktls_mem_sent(e->tls, records);
        off += (size_t)n;
    }
}

static void wait_for(int fd, short events) {
    struct pollfd pfd = { .fd = fd, .events = events };
    if (poll(&pfd, 1, 30000) <= 0) die("poll");
}

static void shake_hands(struct end *e, bool server, const char *cert, const char *key) {
    static const struct {
        enum ktls_policy policy;
        enum ktls_mode mode;
    } as[MODES] = { { KTLS_POLICY_OFF, KTLS_MODE_USER },
                    { KTLS_POLICY_TX, KTLS_MODE_TX },
                    { KTLS_POLICY_REQUIRE, KTLS_MODE_KERNEL } };
    struct ktls_ctx_opts opts = { .size = sizeof opts,
                                  .role = server ? KTLS_SERVER : KTLS_CLIENT,
                                  .policy = as[e->mode].policy,
                                  .cert_file = server ? cert : NULL,
                                  .key_file = server ? key : NULL,
                                  .ciphersuites = SUITE,
                                  .protocols = KTLS_PROTO_TLS1_3,
                                  .num_tickets = 0 };
    struct ktls_ctx *ctx;
    char err[256] = "";
    int r;
    if (ktls_ctx_new(&opts, &ctx, err, sizeof err) < 0 || ktls_conn_new(ctx, e->fd, NULL, &e->tls) < 0) {
        fprintf(stderr, "half-offload: %s\n", err);
        exit(1);
    }
    int flags = fcntl(e->fd, F_GETFL);
    fcntl(e->fd, F_SETFL, flags | O_NONBLOCK);
    while ((r = ktls_handshake(e->tls)) > 0 && r != KTLS_DONE) wait_for(e->fd, r == KTLS_WANT_WRITE ? POLLOUT : POLLIN);
    if (r != KTLS_DONE) die(ktls_conn_error(e->tls)->text);
    if (ktls_conn_mode(e->tls) != as[e->mode].mode) die("the connection came out in another mode");
    if (e->mode != KERNEL && ktls_mem_start(e->tls) < 0) die("ktls_mem_start");
    fcntl(e->fd, F_SETFL, flags);
}

/* ---- the two processes ---- */

static long long cpu_ns(void) {
    long long ns = 0;
    FILE *f = fopen("/proc/self/schedstat", "r");
    if (!f || fscanf(f, "%lld", &ns) != 1) die("/proc/self/schedstat");
    fclose(f);
    return ns;
}

static void serve(int fd, enum mode mode, const char *cert, const char *key, const struct load *load, int report) {
    struct end e = { .fd = fd, .mode = mode };
    double ns;
    shake_hands(&e, true, cert, key);
    int warm = load->turns / 10 + 1;
    long long start = 0;
    for (int i = -warm; i < load->turns; i++) {
        if (i == 0) start = cpu_ns();
        take_all(&e, (size_t)load->records * (size_t)load->up);
        give(&e, (size_t)load->records * (size_t)load->down);
    }
    ns = (double)(cpu_ns() - start) / load->turns;
    if (write(report, &ns, sizeof ns) != sizeof ns) die("pipe");
    take(&e, 1); /* the client's last word: both sides are done */
    _exit(0);
}

static double measure(enum mode mode, const char *cert, const char *key, const struct load *load) {
    struct sockaddr_in addr = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t len = sizeof addr;
    int pipes[2], one = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    double ns;
    if (bind(listener, (struct sockaddr *)&addr, len) < 0 || listen(listener, 1) < 0 || pipe(pipes) < 0 ||
        getsockname(listener, (struct sockaddr *)&addr, &len) < 0)
        die("listen");
    pid_t pid = fork();
    if (pid == 0) {
        int fd = accept(listener, NULL, NULL);
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        serve(fd, mode, cert, key, load, pipes[1]);
    }
    struct end e = { .fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), .mode = KERNEL };
    if (connect(e.fd, (struct sockaddr *)&addr, len) < 0) die("connect");
    setsockopt(e.fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    shake_hands(&e, false, NULL, NULL);
    for (int i = -(load->turns / 10 + 1); i < load->turns; i++) {
        for (int r = 0; r < load->records; r++) {
            /* MSG_MORE would merge the records into one; corking the socket keeps them apart and together in TCP. */
            if (r == 0 && load->records > 1) setsockopt(e.fd, IPPROTO_TCP, TCP_CORK, &one, sizeof one);
            give(&e, (size_t)load->up);
        }
        int off = 0;
        if (load->records > 1) setsockopt(e.fd, IPPROTO_TCP, TCP_CORK, &off, sizeof off);
        take_all(&e, (size_t)load->records * (size_t)load->down);
    }
    if (read(pipes[0], &ns, sizeof ns) != sizeof ns) die("the server ended early");
    give(&e, 1);
    int status;
    if (waitpid(pid, &status, 0) != pid || status != 0) die("server");
    ktls_conn_free(e.tls);
    close(e.fd), close(listener), close(pipes[0]), close(pipes[1]);
    return ns;
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

int main(int argc, char **argv) {
    int rounds = argc > 3 ? atoi(argv[3]) : 5;
    if (argc < 3 || rounds < 1 || rounds > ROUNDS_MAX) {
        fprintf(stderr, "usage: half-offload CERT KEY [ROUNDS]\n");
        return 2;
    }
    printf("| Load | user | tx | kernel | tx / kernel | tx / user |\n|---|---|---|---|---|---|\n");
    for (int i = 0; i < LOADS; i++) {
        double ns[MODES][ROUNDS_MAX], median[MODES];
        for (int round = 0; round < rounds; round++)
            for (int m = 0; m < MODES; m++) ns[m][round] = measure((enum mode)m, argv[1], argv[2], &loads[i]);
        for (int m = 0; m < MODES; m++) {
            qsort(ns[m], (size_t)rounds, sizeof(double), by_value);
            median[m] = ns[m][rounds / 2];
        }
        printf("| %s | %.0f | %.0f | %.0f | %.2f | %.2f |\n", loads[i].name, median[USER], median[TX], median[KERNEL],
               median[TX] / median[KERNEL], median[TX] / median[USER]);
        fflush(stdout);
    }
    return 0;
}
