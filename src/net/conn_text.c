/* Connection: what CLIENT LIST and the log say of it. Thread: the connection's. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "net/conn.h"

void conn_tls_text(const struct conn *c, char *out, size_t cap) {
    if (!c->tls) {
        snprintf(out, cap, "no");
        return;
    }
    struct ktls_conn_info info;
    if (ktls_conn_info(c->tls, &info) < 0) {
        snprintf(out, cap, "handshake");
        return;
    }
    static const char *const path[] = { [KTLS_MODE_KERNEL] = "ktls", [KTLS_MODE_USER] = "user", [KTLS_MODE_TX] = "ktls-tx" };
    snprintf(out, cap, "%s:%s:%s", path[info.mode], info.version, info.cipher);
}

static void inet_text(const struct sockaddr_storage *sa, char *out, size_t cap) {
    char ip[INET6_ADDRSTRLEN] = "?";
    if (sa->ss_family == AF_INET) {
        const struct sockaddr_in *in = (const struct sockaddr_in *)(const void *)sa;
        inet_ntop(AF_INET, &in->sin_addr, ip, sizeof(ip));
        snprintf(out, cap, "%s:%d", ip, ntohs(in->sin_port));
    } else if (sa->ss_family == AF_INET6) {
        const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)(const void *)sa;
        inet_ntop(AF_INET6, &in6->sin6_addr, ip, sizeof(ip));
        snprintf(out, cap, "[%s]:%d", ip, ntohs(in6->sin6_port));
    } else {
        snprintf(out, cap, "?:0");
    }
}

/* redis-server names both ends of a unix connection by the path of the listening socket: the client's end has no name. */
static void unix_text(int fd, char *out, size_t cap) {
    struct sockaddr_un sa = { 0 };
    socklen_t len = sizeof(sa) - 1;
    if (getsockname(fd, (struct sockaddr *)&sa, &len) < 0 || len <= offsetof(struct sockaddr_un, sun_path)) {
        snprintf(out, cap, "?:0");
        return;
    }
    snprintf(out, cap, "%s:0", sa.sun_path);
}

static void addr_text(const struct conn *c, bool peer, char *out, size_t cap) {
    struct sockaddr_storage sa = { 0 };
    socklen_t len = sizeof(sa);
    if (c->transport == CONN_UNIX) {
        unix_text(c->io.fd, out, cap);
        return;
    }
    int r = peer ? getpeername(c->io.fd, (struct sockaddr *)&sa, &len) : getsockname(c->io.fd, (struct sockaddr *)&sa, &len);
    if (r < 0) sa.ss_family = AF_UNSPEC;
    inet_text(&sa, out, cap);
}

void conn_peer_text(const struct conn *c, char *out, size_t cap) {
    addr_text(c, true, out, cap);
}

void conn_local_text(const struct conn *c, char *out, size_t cap) {
    addr_text(c, false, out, cap);
}
