/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What a server pays per request when the kernel encrypts and OpenSSL decrypts ("tx"), beside both in the kernel ("kernel") and
 * both in OpenSSL ("user"). Prints the server's CPU nanoseconds per request (schedstat; instructions under vm-run --icount).
 *
 * A bare server process with blocking I/O: nothing but the transport is in the figures. TLS 1.3, AES-128-GCM, loopback, one
 * connection; the client is the same in every mode. OpenSSL 3.0 itself puts only the sending direction of TLS 1.3 into the kernel
 * (SSL_OP_ENABLE_KTLS), which is exactly the half to be measured; the program checks that it did.
 *
 * Usage: half-offload CERT KEY [ROUNDS]; perf/half-offload builds and runs it.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
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
    SSL *ssl;              /* user, tx */
    struct ktls_conn *tls; /* kernel */
    bool kernel_tx;
};

static char buf[1 << 21];

static void die(const char *what) {
    fprintf(stderr, "half-offload: %s: %s\n", what, strerror(errno));
    ERR_print_errors_fp(stderr);
    exit(1);
}

/* ---- either end ---- */

static size_t take(struct end *e, size_t want) { /* at least one byte, at most what is asked */
    ssize_t n = e->ssl ? SSL_read(e->ssl, buf, (int)want) : recv(e->fd, buf, want, 0);
    if (n <= 0) die("receive");
    return (size_t)n;
}

static void take_all(struct end *e, size_t len) {
    while (len > 0) len -= take(e, len < sizeof buf ? len : sizeof buf);
}

static void give(struct end *e, size_t len) {
    for (size_t off = 0; off < len;) {
        size_t part = len - off;
        ssize_t n =
            e->ssl && !e->kernel_tx ? SSL_write(e->ssl, buf + off, (int)part) : send(e->fd, buf + off, part, MSG_NOSIGNAL);
        if (n <= 0) die("send");
        off += (size_t)n;
    }
}

static void wait_for(int fd, short events) {
    struct pollfd pfd = { .fd = fd, .events = events };
    if (poll(&pfd, 1, 30000) <= 0) die("poll");
}

static void kernel_end(struct end *e, bool server, const char *cert, const char *key) {
    struct ktls_ctx_opts opts = { .size = sizeof opts,
                                  .role = server ? KTLS_SERVER : KTLS_CLIENT,
                                  .policy = KTLS_POLICY_REQUIRE,
                                  .cert_file = server ? cert : NULL,
                                  .key_file = server ? key : NULL,
                                  .ciphersuites = SUITE,
                                  .protocols = KTLS_PROTO_TLS1_3,
                                  .num_tickets = 0 };
    struct ktls_ctx *ctx;
    char err[256];
    int r;
    if (ktls_ctx_new(&opts, &ctx, err, sizeof err) < 0 || ktls_conn_new(ctx, e->fd, NULL, &e->tls) < 0) {
        fprintf(stderr, "half-offload: %s\n", err);
        exit(1);
    }
    int flags = fcntl(e->fd, F_GETFL);
    fcntl(e->fd, F_SETFL, flags | O_NONBLOCK);
    while ((r = ktls_handshake(e->tls)) > 0 && r != KTLS_DONE) wait_for(e->fd, r == KTLS_WANT_WRITE ? POLLOUT : POLLIN);
    if (r != KTLS_DONE) die(ktls_conn_error(e->tls)->text);
    fcntl(e->fd, F_SETFL, flags);
}

static void openssl_end(struct end *e, enum mode mode, const char *cert, const char *key) {
    SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
    SSL_CTX_set_ciphersuites(ctx, SUITE);
    SSL_CTX_set_min_proto_version(ctx, TLS1_3_VERSION);
    SSL_CTX_set_num_tickets(ctx, 0);
    SSL_CTX_set_read_ahead(ctx, 1);
    SSL_CTX_set_default_read_buffer_len(ctx, 65536);
    if (mode == TX) SSL_CTX_set_options(ctx, SSL_OP_ENABLE_KTLS);
    if (SSL_CTX_use_certificate_chain_file(ctx, cert) != 1 || SSL_CTX_use_PrivateKey_file(ctx, key, SSL_FILETYPE_PEM) != 1)
        die(cert);
    e->ssl = SSL_new(ctx);
    SSL_set_fd(e->ssl, e->fd);
    if (SSL_accept(e->ssl) != 1) die("handshake");
    e->kernel_tx = mode == TX;
    if (BIO_get_ktls_recv(SSL_get_rbio(e->ssl)) || !!BIO_get_ktls_send(SSL_get_wbio(e->ssl)) != e->kernel_tx) {
        fprintf(stderr, "half-offload: OpenSSL did not put exactly the sending direction into the kernel\n");
        exit(1);
    }
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
    struct end e = { .fd = fd };
    double ns;
    if (mode == KERNEL)
        kernel_end(&e, true, cert, key);
    else
        openssl_end(&e, mode, cert, key);
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
    struct end e = { .fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0) };
    if (connect(e.fd, (struct sockaddr *)&addr, len) < 0) die("connect");
    setsockopt(e.fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    kernel_end(&e, false, NULL, NULL);
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
