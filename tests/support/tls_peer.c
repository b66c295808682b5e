/*
 * What the TLS peers of tests/integration/test_peers.py have in common (see tls_peer.h): arguments, sockets, echo, a little HTTP,
 * the client's comparison, JSON. One thread, blocking.
 */
#include "tls_peer.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#define CHUNK 40000
#define HTTP_MAX (256 * 1024)

static struct peer_args args = { .connections = 1 };
static char *to_send, *wanted; /* the files of --send and --expect */
static size_t to_send_len, wanted_len;

bool peer_fail(struct peer_conn *c, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(c->error, sizeof c->error, fmt, ap);
    va_end(ap);
    return false;
}

/* ---- Output ---- */

static void print_string(const char *name, const char *value) {
    printf("\"%s\": \"", name);
    for (; value && *value; value++) {
        if (*value == '"' || *value == '\\')
            printf("\\%c", *value);
        else
            putchar((unsigned char)*value < 32 || (unsigned char)*value > 126 ? '?' : *value);
    }
    printf("\", ");
}

static void report(const struct peer_conn *c) {
    printf("{");
    print_string("error", c->error);
    print_string("version", c->version);
    print_string("cipher", c->cipher);
    print_string("mode", c->mode);
    print_string("reason", c->reason);
    printf(
        "\"resumed\": %s, \"clean\": %s, \"updates_in\": %llu, \"updates_out\": %llu, \"bytes_in\": %llu, \"bytes_out\": %llu}\n",
        c->resumed ? "true" : "false", c->clean ? "true" : "false", c->updates_in, c->updates_out, c->bytes_in, c->bytes_out);
    fflush(stdout);
}

/* ---- Bytes ---- */

static bool put(struct peer_conn *c, const char *buf, size_t len) {
    while (len > 0) {
        size_t left = args.update_every ? (size_t)(c->next_update - c->bytes_out) : len, n = len < left ? len : left;
        if (!peer_write(c, buf, n)) return false;
        c->bytes_out += n;
        buf += n;
        len -= n;
        if (args.update_every == 0 || c->bytes_out < c->next_update) continue;
        c->next_update += args.update_every;
        if (!peer_update(c)) return false;
    }
    return true;
}

static ssize_t get(struct peer_conn *c, char *buf, size_t len) {
    ssize_t n = peer_read(c, buf, len);
    if (n > 0) c->bytes_in += (unsigned long long)n;
    return n;
}

/* ---- Server ---- */

static void echo(struct peer_conn *c) {
    static char buf[CHUNK];
    ssize_t n;
    while ((n = get(c, buf, sizeof buf)) > 0)
        if (!put(c, buf, (size_t)n)) return;
}

/* "GET /N": byte i is i*31 + i/251. Some clients name no number: 70,000. */
static bool http_pattern(struct peer_conn *c, size_t total) {
    static char buf[CHUNK];
    for (size_t at = 0; at < total;) {
        size_t n = 0;
        for (; n < sizeof buf && at < total; n++, at++) buf[n] = (char)(at * 31 + at / 251);
        if (!put(c, buf, n)) return false;
    }
    return true;
}

static bool http_answer(struct peer_conn *c, const char *request, const char *body, size_t body_len) {
    char head[128];
    bool post = strncmp(request, "POST", 4) == 0;
    size_t asked = strtoul(request + strcspn(request, "/") + 1, NULL, 10), total = post ? body_len : asked ? asked : 70000;
    int n = snprintf(head, sizeof head, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\nConnection: close\r\n\r\n", total);
    if (!put(c, head, (size_t)n)) return false;
    return post ? put(c, body, body_len) : http_pattern(c, total);
}

static void http(struct peer_conn *c) {
    static char buf[HTTP_MAX + 1];
    size_t len = 0;
    ssize_t n;
    while (len < HTTP_MAX && (n = get(c, buf + len, HTTP_MAX - len)) > 0) {
        len += (size_t)n;
        buf[len] = 0;
        const char *end = strstr(buf, "\r\n\r\n"), *length = strcasestr(buf, "content-length:");
        size_t body = length && length < end ? strtoul(length + 15, NULL, 10) : 0;
        if (!end || len < (size_t)(end + 4 - buf) + body) continue;
        http_answer(c, buf, end + 4, body);
        return;
    }
}

static void set_timeouts(int fd) {
    struct timeval tv = { .tv_sec = PEER_TIMEOUT_MS / 1000 };
    int one = 1;
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof tv);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
}

/* A peer that is still sending must not have our last record thrown away by a reset, which close() sends while bytes are unread.
 * Where the kernel decrypts nothing any more they cannot be read: what is left is to wait until the peer closes, and not by
 * poll(), which reports the error all the time. */
static void linger(int fd) {
    char rest[256];
    ssize_t n = 1;
    struct pollfd pfd = { .fd = fd, .events = POLLIN };
    shutdown(fd, SHUT_WR);
    while (n > 0 && poll(&pfd, 1, 200) > 0) n = recv(fd, rest, sizeof rest, 0);
    pfd.events = POLLRDHUP;
    for (int i = 0; n < 0 && i < 100 && poll(&pfd, 1, 0) >= 0 && !(pfd.revents & POLLRDHUP); i++) usleep(10000);
}

static void serve(int fd) {
    struct peer_conn c = { .fd = fd, .next_update = args.update_every };
    set_timeouts(fd);
    if (peer_open(&c)) {
        if (args.http)
            http(&c);
        else
            echo(&c);
        peer_shutdown(&c);
    }
    peer_close(&c);
    report(&c);
    linger(fd);
    close(fd);
}

static int run_server(void) {
    struct sockaddr_in addr = { .sin_family = AF_INET,
                                .sin_port = htons((uint16_t)args.port),
                                .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t len = sizeof addr;
    int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (fd < 0 || bind(fd, (struct sockaddr *)&addr, len) < 0 || listen(fd, 64) < 0 ||
        getsockname(fd, (struct sockaddr *)&addr, &len) < 0) {
        perror("listen");
        return 2;
    }
    printf("{\"listening\": %d}\n", ntohs(addr.sin_port));
    fflush(stdout);
    struct pollfd pfds[2] = { { .fd = fd, .events = POLLIN }, { .fd = 0, .events = POLLIN } };
    char c;
    while (poll(pfds, 2, -1) > 0) {
        if (pfds[1].revents && read(0, &c, 1) <= 0) return 0;
        int conn = pfds[0].revents ? accept4(fd, NULL, NULL, SOCK_CLOEXEC) : -1;
        if (conn >= 0) serve(conn);
    }
    return 1;
}

/* ---- Client ---- */

/* How much to send before waiting for the echo: small and large records, several in flight. */
static size_t piece(size_t at, size_t step) {
    static const size_t sizes[] = { 1, 13, 1000, 16384, 30000, 40000 };
    size_t left = to_send_len - at, n = sizes[step % (sizeof sizes / sizeof sizes[0])];
    if (args.lines) {
        const char *nl = memchr(to_send + at, '\n', left);
        return nl ? (size_t)(nl + 1 - (to_send + at)) : left;
    }
    return n < left ? n : left;
}

/* Reads until `upto` bytes of the expected stream have come, each compared. */
static bool expect_upto(struct peer_conn *c, size_t upto) {
    static char buf[CHUNK];
    while (c->bytes_in < upto) {
        size_t at = (size_t)c->bytes_in, room = upto - at;
        ssize_t n = get(c, buf, room < sizeof buf ? room : sizeof buf);
        if (n < 0) return false;
        if (n == 0) return peer_fail(c, "the stream ended after %zu bytes of %zu", at, wanted_len);
        if (memcmp(buf, wanted + at, (size_t)n) != 0) return peer_fail(c, "wrong bytes after %zu", at);
    }
    return true;
}

static bool exchange(struct peer_conn *c) {
    if (wanted_len != to_send_len) return put(c, to_send, to_send_len) && expect_upto(c, wanted_len);
    for (size_t at = 0, step = 0; at < to_send_len; step++) {
        size_t n = piece(at, step);
        if (!put(c, to_send + at, n)) return false;
        at += n;
        if (!expect_upto(c, at)) return false;
    }
    return true;
}

static bool save(struct peer_conn *c) {
    static char buf[CHUNK];
    FILE *f = fopen(args.save, "w");
    if (!f) return peer_fail(c, "%s: %s", args.save, strerror(errno));
    ssize_t n = put(c, to_send, to_send_len) ? 1 : -1;
    while (n > 0 && (n = get(c, buf, sizeof buf)) > 0)
        if (fwrite(buf, 1, (size_t)n, f) != (size_t)n) n = -1;
    fclose(f);
    return n == 0;
}

static int connect_to(int port) {
    struct sockaddr_in addr = { .sin_family = AF_INET,
                                .sin_port = htons((uint16_t)port),
                                .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && connect(fd, (struct sockaddr *)&addr, sizeof addr) == 0) return fd;
    perror("connect");
    exit(2);
}

static void one_connection(void) {
    struct peer_conn c = { .fd = connect_to(args.port), .next_update = args.update_every };
    char buf[64];
    set_timeouts(c.fd);
    if (peer_open(&c)) {
        bool ok = args.save ? save(&c) : exchange(&c);
        peer_shutdown(&c);
        /* Up to the end of the stream: the peer's close_notify, where it sends one. */
        while (ok && !args.save && peer_read(&c, buf, sizeof buf) > 0) continue;
        if (ok && !args.save && !c.clean) c.error[0] = 0; /* what was asked for had come; not all peers close in order */
    }
    peer_close(&c);
    report(&c);
    close(c.fd);
}

/* ---- Start ---- */

static char *read_file(const char *path, size_t *ret_len) {
    FILE *f = fopen(path, "r");
    char *data = NULL;
    size_t len = 0, cap = 0, n = 0;
    if (!f) {
        perror(path);
        exit(2);
    }
    do {
        len += n;
        if (len == cap) data = realloc(data, cap = cap ? cap * 2 : 65536);
        if (!data) exit(2);
    } while ((n = fread(data + len, 1, cap - len, f)) > 0);
    fclose(f);
    *ret_len = len;
    return data;
}

static void set_option(const char *name, const char *value) {
    if (!strcmp(name, "--port"))
        args.port = (int)strtol(value, NULL, 10);
    else if (!strcmp(name, "--connections"))
        args.connections = (int)strtol(value, NULL, 10);
    else if (!strcmp(name, "--update-every"))
        args.update_every = strtoul(value, NULL, 10);
    else if (!strcmp(name, "--version"))
        args.only12 = !strcmp(value, "1.2"), args.only13 = !strcmp(value, "1.3");
    else if (!strcmp(name, "--suites"))
        args.suites = value;
    else if (!strcmp(name, "--policy"))
        args.policy = value;
    else if (!strcmp(name, "--cert"))
        args.cert = value;
    else if (!strcmp(name, "--key"))
        args.key = value;
    else if (!strcmp(name, "--ca"))
        args.ca = value;
    else if (!strcmp(name, "--send"))
        args.send = value;
    else if (!strcmp(name, "--expect"))
        args.expect = value;
    else if (!strcmp(name, "--save"))
        args.save = value;
    else {
        fprintf(stderr, "unknown option %s\n", name);
        exit(2);
    }
}

static void parse(int argc, char **argv) {
    for (int i = 0; i < argc; i++) {
        if (!strcmp(argv[i], "--http"))
            args.http = true;
        else if (!strcmp(argv[i], "--lines"))
            args.lines = true;
        else if (i + 1 < argc)
            set_option(argv[i], argv[i + 1]), i++;
    }
}

static bool run_client(void) {
    if (!args.send || !peer_init(&args)) return false;
    to_send = read_file(args.send, &to_send_len);
    if (args.expect) wanted = read_file(args.expect, &wanted_len);
    for (int i = 0; i < args.connections; i++) one_connection();
    peer_done();
    free(to_send);
    free(wanted);
    to_send = wanted = NULL;
    to_send_len = wanted_len = 0;
    return true;
}

/* One client for each line of standard input. */
static int run_jobs(void) {
    static char line[4096];
    while (fgets(line, sizeof line, stdin)) {
        char *words[64], *rest = NULL;
        int n = 0;
        for (char *w = strtok_r(line, " \n", &rest); w && n < 64; w = strtok_r(NULL, " \n", &rest)) words[n++] = w;
        args = (struct peer_args){ .connections = 1 };
        parse(n, words);
        if (!run_client()) return 2;
        printf("{\"done\": true}\n");
        fflush(stdout);
    }
    return 0;
}

int main(int argc, char **argv) {
    signal(SIGPIPE, SIG_IGN);
    args.is_server = argc > 1 && !strcmp(argv[1], "server");
    if (!args.is_server && (argc < 2 || strcmp(argv[1], "client") != 0)) {
        fprintf(stderr, "usage: %s server|client OPTIONS (see tests/support/tls_peer.h)\n", argv[0]);
        return 2;
    }
    if (argc == 3 && !strcmp(argv[2], "--jobs")) return run_jobs();
    parse(argc - 2, argv + 2);
    if (!args.is_server) return run_client() ? 0 : 2;
    return peer_init(&args) ? run_server() : 2;
}
