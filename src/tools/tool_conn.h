/* A tool's connection to a server: tcp, unix or TLS, requests out, replies in, with deadlines. One thread at a time. */
#ifndef KETTLE_TOOLS_TOOL_CONN_H
#define KETTLE_TOOLS_TOOL_CONN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/slice.h"
#include "net/syncio.h"
#include "proto/resp_reply.h"
#include "tools/tool_opts.h"

#define TOOL_NO_DEADLINE INT64_MAX
#define TOOL_REPLY_ERROR 1 /* the server answered with an error: text in tool_conn.err */

struct tool_conn {
    struct syncio io;      /* fd -1: not connected */
    struct buf in;         /* received, not yet parsed */
    struct resp_skip skip; /* how far in.data has been looked at */
    size_t in_used;        /* bytes of in.data already handed out */
    size_t whole;          /* bytes behind them known to be whole values: the rest of a reply with attributes in front */
    bool tls_failed;       /* tool_conn_open: the handshake failed, not the connect */
    char err[400];         /* why the last call failed: one line, no secrets */
};

#define TOOL_CONN_INIT ((struct tool_conn){ .io = { .fd = -1 } })

/* A client context for the target's TLS options. Call ktls_ctx_unref on it. 0 or KTLS_E..., err filled. */
int tool_tls_ctx_new(const struct tool_tls *tls, struct ktls_ctx **ret, char *err, size_t errlen);

/* Connects and, with ctx not NULL, does the TLS handshake. c must be closed or fresh. 0 or -errno/KTLS_E*, c->err filled and c
 * closed. The text of a refused connection is the system's ("Connection refused"): scripts look for it. */
int tool_conn_open(struct tool_conn *c, const struct tool_target *t, struct ktls_ctx *ctx, int64_t deadline_us);
/* The first half of it: connected, with ctx a ktls_conn made, no byte of the handshake moved. For loops of their own. */
int tool_conn_start(struct tool_conn *c, const struct tool_target *t, struct ktls_ctx *ctx, int64_t deadline_us);
void tool_conn_close(struct tool_conn *c); /* close_notify, close; c may be opened again. Harmless on a closed one. */
static inline bool tool_conn_is_open(const struct tool_conn *c) {
    return c->io.fd >= 0;
}

/* 0 or negative, c->err filled; the connection is then useless. */
int tool_conn_send(struct tool_conn *c, struct slice bytes, int64_t deadline_us);
/* The next reply, push messages and attributes included. The caller frees *ret. 0; -ETIMEDOUT (a later call carries on);
 * -ENODATA "Server closed the connection"; -EPROTO; other negative. */
int tool_conn_recv(struct tool_conn *c, struct resp_value **ret, int64_t deadline_us);
/* The same without waiting. 1: *ret set; 0: not there yet, poll for reading; negative. */
int tool_conn_try_recv(struct tool_conn *c, struct resp_value **ret);
/* Sends one command and waits for its reply; push messages that come before it are dropped. */
int tool_conn_call(struct tool_conn *c, int argc, const struct slice *argv, struct resp_value **ret, int64_t deadline_us);
/* The same for C strings, NULL-terminated list. */
int tool_conn_callv(struct tool_conn *c, struct resp_value **ret, int64_t deadline_us, const char *first, ...)
    __attribute__((sentinel));

/* AUTH, SELECT, HELLO 3. 0; TOOL_REPLY_ERROR with the server's text in c->err; negative. */
int tool_conn_auth(struct tool_conn *c, const char *user, const char *pass, int64_t deadline_us);
int tool_conn_select(struct tool_conn *c, int db, int64_t deadline_us);
int tool_conn_hello(struct tool_conn *c, int version, int64_t deadline_us);

/* "no TLS", "TLSv1.3 TLS_AES_128_GCM_SHA256, records by the kernel", "..., records in userspace (no-ulp: ...)". */
void tool_conn_tls_text(const struct tool_conn *c, char *out, size_t cap);

/* Without waiting: bytes, 0 end of stream (read), -EAGAIN, -errno or KTLS_E*. For loops that poll by themselves. */
ssize_t tool_io_read(struct syncio *io, void *buf, size_t len);
ssize_t tool_io_write(struct syncio *io, const void *buf, size_t len);

/* now + timeout; timeout_us <= 0: none. */
int64_t tool_deadline(int64_t timeout_us);

#endif
