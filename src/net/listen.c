/* Sockets before there is a connection: listening, tuning, connecting.
 *
 * Place in the flow: start-up and CONFIG SET open listeners; replica links, MIGRATE, cli and benchmark connect. Thread: any,
 * each call stands alone. */
#include "net/listen.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "net/resolve.h"
#include "net/sock_wait.h"

#define KEEPALIVE_PROBES 3

/* "what: reason" into err; returns -e. */
__attribute__((format(printf, 4, 5))) static int report(int e, char *err, size_t errlen, const char *fmt, ...) {
    if (err && errlen) {
        va_list ap;
        va_start(ap, fmt);
        int n = vsnprintf(err, errlen, fmt, ap);
        va_end(ap);
        const char *desc = strerrordesc_np(e);
        if (n >= 0 && (size_t)n < errlen) snprintf(err + n, errlen - (size_t)n, ": %s", desc ? desc : "unknown error");
    }
    return -e;
}

static int close_report(int fd, int e, char *err, size_t errlen, const char *what) {
    close(fd);
    return report(e, err, errlen, "%s", what);
}

/* errno for a failed resolution. */
static int gai_errno(int gai) {
    return gai == EAI_SYSTEM ? errno : gai == EAI_MEMORY ? ENOMEM : gai == EAI_AGAIN ? EAGAIN : EADDRNOTAVAIL;
}

static int resolve(const char *host, int port, int family, int flags, struct addrinfo **ret, char *err, size_t errlen) {
    char service[8];
    snprintf(service, sizeof(service), "%d", port);
    struct addrinfo hints = { .ai_family = family, .ai_socktype = SOCK_STREAM, .ai_flags = flags | AI_NUMERICSERV };
    int gai = getaddrinfo(host, service, &hints, ret);
    if (gai == 0) return 0;
    int e = gai_errno(gai);
    if (err && errlen) snprintf(err, errlen, "%s: %s", host ? host : "*", gai_strerror(gai));
    return -e;
}

/* ---- listening ---- */

static int listen_on(const struct addrinfo *ai, int backlog, bool reuseport, const char *name, char *err, size_t errlen) {
    int fd = socket(ai->ai_family, ai->ai_socktype | SOCK_NONBLOCK | SOCK_CLOEXEC, ai->ai_protocol);
    if (fd < 0) return report(errno, err, errlen, "socket for %s", name);
    int one = 1;
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) < 0)
        return close_report(fd, errno, err, errlen, "SO_REUSEADDR");
    if (reuseport && setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof(one)) < 0)
        return close_report(fd, errno, err, errlen, "SO_REUSEPORT");
    /* "*" and "::*" may both be listened on: each takes its own family. */
    if (ai->ai_family == AF_INET6 && setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one)) < 0)
        return close_report(fd, errno, err, errlen, "IPV6_V6ONLY");
    if (bind(fd, ai->ai_addr, ai->ai_addrlen) < 0) return close_report(fd, errno, err, errlen, name);
    if (listen(fd, backlog) < 0) return close_report(fd, errno, err, errlen, name);
    return fd;
}

int listen_tcp(const char *addr, int port, int backlog, bool reuseport, char *err, size_t errlen) {
    bool any4 = !strcmp(addr, "*"), any6 = !strcmp(addr, "::*");
    const char *host = any4 || any6 ? NULL : addr;
    int family = any4 ? AF_INET : any6 ? AF_INET6 : AF_UNSPEC;
    struct addrinfo *list = NULL;
    int fd = resolve(host, port, family, AI_PASSIVE, &list, err, errlen);
    if (fd < 0) return fd;
    char name[128];
    snprintf(name, sizeof(name), strchr(addr, ':') && !any6 ? "bind [%s]:%d" : "bind %s:%d", addr, port);
    fd = -EADDRNOTAVAIL;
    for (struct addrinfo *ai = list; ai && fd < 0; ai = ai->ai_next) fd = listen_on(ai, backlog, reuseport, name, err, errlen);
    freeaddrinfo(list);
    return fd;
}

static int unix_addr(const char *path, struct sockaddr_un *sa, char *err, size_t errlen) {
    memset(sa, 0, sizeof(*sa));
    sa->sun_family = AF_UNIX;
    size_t len = strlen(path);
    if (len >= sizeof(sa->sun_path)) return report(ENAMETOOLONG, err, errlen, "unix socket %s", path);
    memcpy(sa->sun_path, path, len + 1);
    return 0;
}

int listen_unix(const char *path, mode_t perm, int backlog, char *err, size_t errlen) {
    struct sockaddr_un sa;
    int r = unix_addr(path, &sa, err, errlen);
    if (r < 0) return r;
    struct stat st;
    if (lstat(path, &st) == 0 && S_ISSOCK(st.st_mode)) /* a former run's; anything else is not ours to remove */
        unlink(path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) return report(errno, err, errlen, "unix socket %s", path);
    char name[160];
    snprintf(name, sizeof(name), "unix socket %s", path);
    if (bind(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0) return close_report(fd, errno, err, errlen, name);
    if (perm && chmod(path, perm) < 0) return close_report(fd, errno, err, errlen, name);
    if (listen(fd, backlog) < 0) return close_report(fd, errno, err, errlen, name);
    return fd;
}

/* ---- tuning ---- */

int sock_tune(int fd, int keepalive_s) {
    int one = 1;
    if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)) < 0) return -errno;
    if (keepalive_s <= 0) return 0;
    /* As redis-server: first probe after the interval, the others a third of it apart, dead after three. */
    int interval = keepalive_s / KEEPALIVE_PROBES > 0 ? keepalive_s / KEEPALIVE_PROBES : 1, probes = KEEPALIVE_PROBES;
    if (setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one)) < 0 ||
        setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &keepalive_s, sizeof(keepalive_s)) < 0 ||
        setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof(interval)) < 0 ||
        setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof(probes)) < 0)
        return -errno;
    return 0;
}

/* ---- connecting ---- */

static int bind_source(int fd, int family, const char *source, char *err, size_t errlen) {
    struct addrinfo *list = NULL;
    int r = resolve(source, 0, family, AI_PASSIVE, &list, err, errlen);
    if (r < 0) return r;
    r = bind(fd, list->ai_addr, list->ai_addrlen) < 0 ? report(errno, err, errlen, "bind to source %s", source) : 0;
    freeaddrinfo(list);
    return r;
}

/* Waits for a connect under way. 0 or -errno. */
static int connect_wait(int fd, int64_t deadline_us) {
    int r = sock_wait(fd, POLLOUT, deadline_us);
    if (r < 0) return r;
    int e = 0;
    socklen_t len = sizeof(e);
    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &e, &len) < 0) return -errno;
    return -e;
}

static int connect_to(const struct addrinfo *ai, const char *source, int64_t deadline_us, char *err, size_t errlen) {
    int fd = socket(ai->ai_family, ai->ai_socktype | SOCK_NONBLOCK | SOCK_CLOEXEC, ai->ai_protocol);
    if (fd < 0) return report(errno, err, errlen, "socket");
    int r = source && *source ? bind_source(fd, ai->ai_family, source, err, errlen) : 0;
    if (r < 0) {
        close(fd);
        return r;
    }
    r = connect(fd, ai->ai_addr, ai->ai_addrlen) < 0 ? -errno : 0;
    if (r == -EINPROGRESS || r == -EINTR) r = connect_wait(fd, deadline_us);
    if (r < 0) return close_report(fd, -r, err, errlen, "connect");
    return fd;
}

int sock_connect_tcp(const char *host, int port, const char *source, int64_t deadline_us, char *err, size_t errlen) {
    struct addrinfo *list = NULL;
    int fd = net_resolve(host, port, deadline_us, &list, err, errlen);
    if (fd < 0) return fd;
    fd = -EADDRNOTAVAIL;
    for (struct addrinfo *ai = list; ai && fd < 0 && fd != -ETIMEDOUT; ai = ai->ai_next)
        fd = connect_to(ai, source, deadline_us, err, errlen);
    freeaddrinfo(list);
    return fd;
}

int sock_connect_unix(const char *path, char *err, size_t errlen) {
    struct sockaddr_un sa;
    int r = unix_addr(path, &sa, err, errlen);
    if (r < 0) return r;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) return report(errno, err, errlen, "unix socket %s", path);
    if (connect(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0) return close_report(fd, errno, err, errlen, path);
    return fd;
}
