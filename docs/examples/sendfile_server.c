/*
 * Sends one file to every TLS client with sendfile(2): the kernel reads, encrypts and sends it, no byte passes through this
 * process. Usage: sendfile_server PORT CERT.pem KEY.pem FILE
 *
 * One connection after the other, to stay short. KTLS_POLICY_REQUIRE: without kernel TLS there is nothing to show here.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ktls.h"

static int listen_on(int port) {
    struct sockaddr_in addr = { .sin_family = AF_INET,
                                .sin_port = htons((uint16_t)port),
                                .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (fd >= 0 && bind(fd, (struct sockaddr *)&addr, sizeof addr) == 0 && listen(fd, 64) == 0) return fd;
    perror("listen");
    exit(1);
}

static void wait_for(int fd, int want) {
    struct pollfd pfd = { .fd = fd, .events = want == KTLS_WANT_WRITE ? POLLOUT : POLLIN };
    poll(&pfd, 1, 10000);
}

/* Handshake, file, close_notify. The descriptor is an ordinary socket once ktls_handshake() is done. */
static void serve(struct ktls_ctx *ctx, int fd, int file, off_t size) {
    struct ktls_conn *tls;
    off_t at = 0;
    int r;
    if (ktls_conn_new(ctx, fd, NULL, &tls) < 0) return;
    while ((r = ktls_handshake(tls)) > 0) wait_for(fd, r);
    if (r < 0) printf("%s\n", ktls_conn_error(tls)->text);
    while (r == KTLS_DONE && at < size) {
        ssize_t n = sendfile(fd, file, &at, (size_t)(size - at));
        if (n < 0 && errno == EAGAIN)
            wait_for(fd, KTLS_WANT_WRITE);
        else if (n <= 0)
            break;
    }
    while (ktls_shutdown(tls) == KTLS_WANT_WRITE) wait_for(fd, KTLS_WANT_WRITE);
    printf("%lld of %lld bytes sent\n", (long long)at, (long long)size);
    ktls_conn_free(tls);
}

int main(int argc, char **argv) {
    struct ktls_ctx *ctx;
    struct stat st;
    char err[256];
    if (argc != 5) {
        fprintf(stderr, "usage: sendfile_server PORT CERT.pem KEY.pem FILE\n");
        return 2;
    }
    int file = open(argv[4], O_RDONLY | O_CLOEXEC);
    if (file < 0 || fstat(file, &st) < 0) {
        fprintf(stderr, "%s: %s\n", argv[4], strerror(errno));
        return 1;
    }
    struct ktls_ctx_opts opts = {
        .size = sizeof opts, .role = KTLS_SERVER, .policy = KTLS_POLICY_REQUIRE, .cert_file = argv[2], .key_file = argv[3]
    };
    if (ktls_ctx_new(&opts, &ctx, err, sizeof err) < 0) {
        fprintf(stderr, "%s\n", err);
        return 1;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    int listener = listen_on(atoi(argv[1]));
    for (;;) {
        int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd < 0) continue;
        serve(ctx, fd, file, st.st_size);
        close(fd);
    }
}
