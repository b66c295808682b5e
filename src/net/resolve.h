/* Names to addresses, within a deadline. Any thread. */
#ifndef KETTLE_NET_RESOLVE_H
#define KETTLE_NET_RESOLVE_H

#include <netdb.h>
#include <stddef.h>
#include <stdint.h>

/* Addresses of stream sockets for host (name or literal) and port, in the order to try them. getaddrinfo(3) cannot be told when
 * to end: a name that is no literal is looked up on a thread of its own, which is left alone when deadline_us (monotonic;
 * INT64_MAX: none, and no thread) comes first; at most 16 are left so at a time, beyond them names are not looked up. *ret is the
 * caller's: freeaddrinfo. 0; -ETIMEDOUT; -EADDRNOTAVAIL, -EAGAIN, -ENOMEM, -errno with err (may be NULL) "host: reason". */
int net_resolve(const char *host, int port, int64_t deadline_us, struct addrinfo **ret, char *err, size_t errlen);

#endif
