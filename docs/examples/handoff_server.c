/*
 * Handshake in one process, service in another: each connection is given to a program that is exec'd for it, as inetd did, and
 * goes on there where it stands. Usage: handoff_server PORT CERT.pem KEY.pem; serves an echo.
 *
 * The descriptor is inherited, the state goes through a pipe. Whoever sends both over a Unix socket (SCM_RIGHTS) instead can give
 * connections to a process that runs already: the restart of a server without its clients noticing. One connection after the
 * other, to stay short; KTLS_POLICY_REQUIRE, because the keys of userspace TLS cannot be handed over.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ktls.h"

static void wait_for(int fd, int want) {
    struct pollfd pfd = { .fd = fd, .events = want == KTLS_WANT_WRITE ? POLLOUT : POLLIN };
    poll(&pfd, 1, 10000);
}

/* The exec'd program: descriptor 3 is the connection, descriptor 0 the pipe. */
static int serve(struct ktls_ctx *ctx) {
    static char state[KTLS_EXPORT_MAX], buf[16384];
    struct ktls_conn *tls;
    ssize_t len = read(0, state, sizeof state), n;
    int r = len > 0 ? ktls_import(ctx, 3, state, (size_t)len, &tls) : -1;
    ktls_wipe(state, sizeof state);
    if (r < 0) return 1;
    while ((n = ktls_read(tls, buf, sizeof buf)) > 0 || n == -EAGAIN) {
        if (n == -EAGAIN) wait_for(3, KTLS_WANT_READ);
        for (ssize_t at = 0, m; at<n; at += m> 0 ? m : 0) {
            m = ktls_write(tls, buf + at, (size_t)(n - at));
            if (m == -EAGAIN)
                wait_for(3, KTLS_WANT_WRITE);
            else if (m < 0)
                return 1;
        }
    }
    while (ktls_shutdown(tls) == KTLS_WANT_WRITE) wait_for(3, KTLS_WANT_WRITE);
    ktls_conn_free(tls);
    return 0;
}

static void give(struct ktls_conn *tls, int fd, char **argv) {
    static char state[KTLS_EXPORT_MAX];
    int pipes[2];
    ssize_t len = ktls_export(tls, state, sizeof state);
    if (len < 0 || pipe(pipes) < 0) return;
    ssize_t sent = write(pipes[1], state, (size_t)len);
    ktls_wipe(state, sizeof state);
    if (sent == len && fork() == 0) {
        dup2(pipes[0], 0);
        dup2(fd, 3); /* without close-on-exec */
        close(pipes[1]);
        execl("/proc/self/exe", argv[0], "0", argv[2], argv[3], (char *)NULL);
        _exit(127);
    }
    close(pipes[0]);
    close(pipes[1]);
}

int main(int argc, char **argv) {
    struct ktls_ctx *ctx;
    struct ktls_conn *tls;
    char err[256];
    if (argc != 4) return fprintf(stderr, "usage: handoff_server PORT CERT.pem KEY.pem\n"), 2;
    struct ktls_ctx_opts opts = {
        .size = sizeof opts, .role = KTLS_SERVER, .policy = KTLS_POLICY_REQUIRE, .cert_file = argv[2], .key_file = argv[3]
    };
    if (ktls_ctx_new(&opts, &ctx, err, sizeof err) < 0) return fprintf(stderr, "%s\n", err), 1;
    if (strcmp(argv[1], "0") == 0) return serve(ctx);
    struct sockaddr_in addr = { .sin_family = AF_INET,
                                .sin_port = htons((uint16_t)atoi(argv[1])),
                                .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    int one = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (struct sockaddr *)&addr, sizeof addr) < 0 || listen(listener, 64) < 0) return perror("listen"), 1;
    for (;;) {
        int r = 0, fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd < 0 || ktls_conn_new(ctx, fd, NULL, &tls) < 0) continue;
        while ((r = ktls_handshake(tls)) > 0) wait_for(fd, r);
        if (r == KTLS_DONE) give(tls, fd, argv);
        ktls_conn_free(tls);
        close(fd);
        while (waitpid(-1, NULL, WNOHANG) > 0) continue;
    }
}
