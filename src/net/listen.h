/* Listening sockets: TCP (IPv4, IPv6, SO_REUSEPORT) and unix. Any thread. */
#ifndef KETTLE_NET_LISTEN_H
#define KETTLE_NET_LISTEN_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* addr: literal or name; "*" all IPv4, "::*" all IPv6 (redis.conf). Returns the fd (non-blocking, close-on-exec) or -errno, err
 * (may be NULL) filled with one line. */
int listen_tcp(const char *addr, int port, int backlog, bool reuseport, char *err, size_t errlen);
int listen_unix(const char *path, mode_t perm /* 0: umask's */, int backlog, char *err, size_t errlen);
/* Options of an accepted TCP socket: TCP_NODELAY, keepalive (seconds, 0 off). 0 or -errno. */
int sock_tune(int fd, int keepalive_s);
/* Non-blocking connect, the look-up of a name included, done within deadline (monotonic us). fd or -errno (-ETIMEDOUT). source:
 * NULL or address to bind. */
int sock_connect_tcp(const char *host, int port, const char *source, int64_t deadline_us, char *err, size_t errlen);
int sock_connect_unix(const char *path, char *err, size_t errlen);

#endif
