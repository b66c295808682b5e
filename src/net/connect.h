/* A connection to another server: name, TCP (or unix socket), TLS, all before one deadline. For the replica link, MIGRATE and the
 * tools, which go on with net/syncio.h. One thread at a time for each connection; contexts may be shared by all. */
#ifndef KETTLE_NET_CONNECT_H
#define KETTLE_NET_CONNECT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ktls/ktls.h"
#include "net/syncio.h"

struct net_connect_opts {
    const char *host; /* name or literal; not used with unix_path */
    int port;
    const char *unix_path;   /* NULL: TCP */
    const char *source;      /* address to bind first; NULL or "": none */
    int keepalive_s;         /* TCP keepalive, as sock_tune; 0: off */
    struct ktls_ctx *tls;    /* client context, borrowed; NULL: no TLS. Its session_reuse decides about resumption */
    const char *server_name; /* SNI, and the name looked for in the certificate; NULL: host (none with unix_path) */
    bool no_name_check;      /* the chain is verified, the name is not: what Redis does */
};

/* Connects and does the handshake. *s must be zeroed or closed; on success s->fd is open and syncio_* may be used; on failure it
 * is closed (fd -1). deadline_us: monotonic, INT64_MAX: none. TLS sessions are kept in the context and resumed, for each target
 * ("host:port" or the path).
 * 0; -errno (-ETIMEDOUT for the deadline), KTLS_E*: err (cap bytes, may not be NULL) is one line without the target's name in
 * front, "Connection refused" for instance. */
int net_connect(struct syncio *s, const struct net_connect_opts *o, int64_t deadline_us, char *err, size_t cap);
/* The first half: connected, with TLS a ktls_conn made, and no byte of the handshake moved. For loops of their own. */
int net_connect_start(struct syncio *s, const struct net_connect_opts *o, int64_t deadline_us, char *err, size_t cap);
/* The reason of a failure of syncio_* on s, as one line: libktls's own words where TLS is it. rc: its result, negative. */
void net_error_text(const struct syncio *s, int rc, char *err, size_t cap);

#endif
