/*
 * A TLS echo server: poll(2), one thread, records encrypted by the kernel where it can. Usage: echo_server PORT CERT.pem KEY.pem
 *
 * The shape of any server over libktls: drive ktls_handshake() as poll says, then read and write. ktls_read and ktls_write serve
 * both modes; in KTLS_MODE_KERNEL recv(2) and send(2) on the descriptor would do as well (see sendfile_server.c).
 */
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "ktls.h"

#define CONNS_MAX 64

struct client {
    struct ktls_conn *tls; /* NULL: the slot is free */
    int open;              /* the handshake is done */
    char buf[16384];
    ssize_t len, sent; /* buf[sent..len) is still to be echoed */
};

static struct client clients[CONNS_MAX];
static struct pollfd pfds[CONNS_MAX + 1]; /* the last one is the listener */

static int listen_on(int port) {
    struct sockaddr_in addr = { .sin_family = AF_INET,
                                .sin_port = htons((uint16_t)port),
                                .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (fd >= 0 && bind(fd, (struct sockaddr *)&addr, sizeof addr) == 0 && listen(fd, 64) == 0) return fd;
    perror("listen");
    exit(1);
}

static void drop(int i, const char *why) {
    printf("[%d] closed: %s\n", i, why);
    ktls_shutdown(clients[i].tls);
    clients[i].tls = ktls_conn_free(clients[i].tls);
    close(pfds[i].fd);
    pfds[i].fd = -1;
}

static void add(struct ktls_ctx *ctx, int listener) {
    int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0) return;
    for (int i = 0; i < CONNS_MAX; i++) {
        if (clients[i].tls) continue;
        if (ktls_conn_new(ctx, fd, NULL, &clients[i].tls) < 0) break;
        clients[i].open = 0;
        clients[i].len = clients[i].sent = 0;
        pfds[i] = (struct pollfd){ .fd = fd, .events = POLLIN };
        return;
    }
    close(fd);
}

static void greet(int i) {
    struct ktls_conn_info info;
    ktls_conn_info(clients[i].tls, &info);
    printf("[%d] %s %s, records by %s (%s)\n", i, info.version, info.cipher,
           info.mode == KTLS_MODE_KERNEL ? "the kernel" : "OpenSSL", ktls_reason_name(info.reason));
    clients[i].open = 1;
}

/* Goes on until the socket would block. */
static void serve(int i) {
    struct client *c = &clients[i];
    if (!c->open) {
        int r = ktls_handshake(c->tls);
        if (r < 0) return drop(i, ktls_conn_error(c->tls)->text);
        pfds[i].events = r == KTLS_WANT_WRITE ? POLLOUT : POLLIN;
        if (r != KTLS_DONE) return;
        greet(i);
    }
    for (;;) {
        ssize_t n;
        if (c->sent < c->len) {
            n = ktls_write(c->tls, c->buf + c->sent, (size_t)(c->len - c->sent));
            if (n > 0) c->sent += n;
        } else {
            n = c->len = ktls_read(c->tls, c->buf, sizeof c->buf);
            c->sent = 0;
            if (n <= 0) c->len = 0;
            if (n == 0) return drop(i, "close_notify");
        }
        if (n == -EAGAIN) break;
        if (n < 0) return drop(i, ktls_conn_error(c->tls)->text);
    }
    pfds[i].events = ktls_conn_wants(c->tls) == KTLS_WANT_WRITE ? POLLOUT : POLLIN;
}

int main(int argc, char **argv) {
    struct ktls_ctx *ctx;
    char err[256];
    if (argc != 4) {
        fprintf(stderr, "usage: echo_server PORT CERT.pem KEY.pem\n");
        return 2;
    }
    struct ktls_ctx_opts opts = {
        .size = sizeof opts, .role = KTLS_SERVER, .cert_file = argv[2], .key_file = argv[3], .num_tickets = 2
    };
    if (ktls_ctx_new(&opts, &ctx, err, sizeof err) < 0) {
        fprintf(stderr, "%s\n", err);
        return 1;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    for (int i = 0; i < CONNS_MAX; i++) pfds[i].fd = -1;
    pfds[CONNS_MAX] = (struct pollfd){ .fd = listen_on(atoi(argv[1])), .events = POLLIN };
    while (poll(pfds, CONNS_MAX + 1, -1) > 0) {
        for (int i = 0; i < CONNS_MAX; i++)
            if (pfds[i].fd >= 0 && pfds[i].revents) serve(i);
        if (pfds[CONNS_MAX].revents) add(ctx, pfds[CONNS_MAX].fd);
    }
    return 1;
}
