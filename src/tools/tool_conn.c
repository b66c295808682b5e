/* Connections of the tools.
 *
 * Flow: tool_opts.c says where to; this file connects (net/connect) and moves requests and replies with net/syncio, which works
 * alike over tcp, kernel TLS and userspace TLS. kettle-cli stays here for its whole life; the benchmark
 * uses it up to the end of the handshake and takes the descriptor over.
 *
 * Replies are found with the skipper first, which resumes where it stopped, and only then made into a tree: parsing a tree anew
 * after each packet would be quadratic in the size of a large reply.
 * Threads: one at a time per connection. */
#include "tools/tool_conn.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "net/connect.h"

#define READ_CHUNK 65536
#define KEEPALIVE_S 15

int64_t tool_deadline(int64_t timeout_us) {
    return timeout_us > 0 ? clock_mono_us() + timeout_us : TOOL_NO_DEADLINE;
}

/* ---- open and close ---- */

int tool_tls_ctx_new(const struct tool_tls *tls, struct ktls_ctx **ret, char *err, size_t errlen) {
    struct ktls_ctx_opts opts = {
        .size = sizeof(opts),
        .role = KTLS_CLIENT,
        .policy = KTLS_POLICY_AUTO,
        .verify = tls->insecure ? KTLS_VERIFY_NONE : KTLS_VERIFY_REQUIRE,
        .cert_file = tls->cert_file,
        .key_file = tls->key_file,
        .ca_file = tls->ca_file,
        .ca_dir = tls->ca_dir,
        .ciphers = tls->ciphers,
        .ciphersuites = tls->ciphersuites,
        .num_tickets = -1,
        .session_reuse = tls->no_resume ? 0 : 2, /* what most servers send */
        .session_reuse_per_peer = tls->sessions,
    };
    return ktls_ctx_new(&opts, ret, err, errlen);
}

static void note_error(struct tool_conn *c, int rc) {
    if (rc == -ETIMEDOUT && c->tls_failed)
        snprintf(c->err, sizeof(c->err), "no answer to the handshake in time: is this a TLS port?");
    else
        net_error_text(&c->io, rc, c->err, sizeof(c->err));
}

int tool_conn_start(struct tool_conn *c, const struct tool_target *t, struct ktls_ctx *ctx, int64_t deadline_us) {
    buf_clear(&c->in);
    c->in_used = c->whole = 0;
    c->skip = (struct resp_skip){ 0 };
    c->err[0] = '\0';
    c->tls_failed = false;

    struct net_connect_opts o = {
        .host = t->host,
        .port = t->port,
        .unix_path = t->unix_path,
        .keepalive_s = KEEPALIVE_S,
        .tls = ctx,
        .server_name = t->tls.sni,
        .no_name_check = t->tls.no_verify_name,
    };
    return net_connect_start(&c->io, &o, deadline_us, c->err, sizeof(c->err));
}

int tool_conn_open(struct tool_conn *c, const struct tool_target *t, struct ktls_ctx *ctx, int64_t deadline_us) {
    int rc = tool_conn_start(c, t, ctx, deadline_us);
    if (rc != 0 || !ctx) return rc;
    rc = syncio_handshake(&c->io, deadline_us);
    if (rc != 0) {
        c->tls_failed = true;
        note_error(c, rc);
        tool_conn_close(c);
    }
    return rc;
}

void tool_conn_close(struct tool_conn *c) {
    if (c->io.fd >= 0) syncio_close(&c->io, tool_deadline(200 * 1000));
    buf_done(&c->in);
    c->in_used = c->whole = 0;
    c->skip = (struct resp_skip){ 0 };
}

ssize_t tool_io_read(struct syncio *io, void *buf, size_t len) {
    if (io->mem) return syncio_try_read(io, buf, len);
    if (io->tls) return ktls_read(io->tls, buf, len);
    ssize_t n = recv(io->fd, buf, len, MSG_DONTWAIT);
    return n >= 0 ? n : errno == EINTR ? -EAGAIN : -errno;
}

ssize_t tool_io_write(struct syncio *io, const void *buf, size_t len) {
    if (io->mem) return syncio_try_write(io, buf, len);
    if (io->tls) return ktls_write(io->tls, buf, len);
    ssize_t n = send(io->fd, buf, len, MSG_DONTWAIT | MSG_NOSIGNAL);
    return n >= 0 ? n : errno == EINTR ? -EAGAIN : -errno;
}

/* ---- requests and replies ---- */

int tool_conn_send(struct tool_conn *c, struct slice bytes, int64_t deadline_us) {
    int rc = syncio_write_full(&c->io, bytes.ptr, bytes.len, deadline_us);
    if (rc < 0) note_error(c, rc);
    return rc;
}

/* 1: a whole reply lies at in.data + in_used, *ret_len bytes. */
static int find_reply(struct tool_conn *c, size_t *ret_len) {
    size_t left = c->in.len - c->in_used;
    if (left == 0) return 0;
    if (c->whole > 0) { /* not looked through again for each attribute: a million of them would take for ever */
        *ret_len = c->whole;
        return 1;
    }
    int rc = resp_skip(&c->skip, c->in.data + c->in_used, left, ret_len);
    if (rc != 0) c->skip = (struct resp_skip){ 0 };
    return rc;
}

/* Room for more behind what is not yet handed out. */
static void make_room(struct tool_conn *c) {
    if (c->in_used > 0) {
        buf_consume(&c->in, c->in_used);
        c->in_used = 0;
    }
    buf_reserve(&c->in, READ_CHUNK);
}

static int note_read(struct tool_conn *c, ssize_t n) {
    if (n > 0) {
        c->in.len += (size_t)n;
        return 0;
    }
    if (n == 0) {
        snprintf(c->err, sizeof(c->err), "Server closed the connection");
        return -ENODATA;
    }
    note_error(c, (int)n);
    return (int)n;
}

static int protocol_error(struct tool_conn *c) {
    unsigned char b = (unsigned char)c->in.data[c->in_used];
    if (strchr("+-:$*_,#!=(%~|>", b) && b)
        snprintf(c->err, sizeof(c->err), "Protocol error, malformed reply");
    else if (b > 0x20 && b < 0x7f)
        snprintf(c->err, sizeof(c->err), "Protocol error, got \"%c\" as reply type byte", b);
    else if (b == 0x15 && !c->io.tls) /* a TLS alert */
        snprintf(c->err, sizeof(c->err), "Protocol error, got \"\\x15\" as reply type byte: is this a TLS port? (--tls)");
    else
        snprintf(c->err, sizeof(c->err), "Protocol error, got \"\\x%02x\" as reply type byte", b);
    return -EPROTO;
}

static int take_reply(struct tool_conn *c, size_t len, struct resp_value **ret) {
    size_t used;
    if (resp_value_parse(c->in.data + c->in_used, len, &used, ret) != 1) return protocol_error(c);
    c->in_used += used;
    c->whole = len - used;
    return 0;
}

int tool_conn_recv(struct tool_conn *c, struct resp_value **ret, int64_t deadline_us) {
    size_t len = 0;
    int rc;
    while ((rc = find_reply(c, &len)) == 0) {
        make_room(c);
        rc = note_read(c, syncio_read_some(&c->io, c->in.data + c->in.len, c->in.cap - c->in.len, deadline_us));
        if (rc != 0) return rc;
    }
    return rc < 0 ? protocol_error(c) : take_reply(c, len, ret);
}

int tool_conn_try_recv(struct tool_conn *c, struct resp_value **ret) {
    size_t len = 0;
    int rc;
    while ((rc = find_reply(c, &len)) == 0) {
        make_room(c);
        ssize_t n = tool_io_read(&c->io, c->in.data + c->in.len, c->in.cap - c->in.len);
        if (n == -EAGAIN) return 0;
        if ((rc = note_read(c, n)) != 0) return rc;
    }
    rc = rc < 0 ? protocol_error(c) : take_reply(c, len, ret);
    return rc == 0 ? 1 : rc;
}

int tool_conn_call(struct tool_conn *c, int argc, const struct slice *argv, struct resp_value **ret, int64_t deadline_us) {
    struct buf out = { 0 };
    resp_write_command(&out, argc, argv);
    int rc = tool_conn_send(c, buf_slice(&out), deadline_us);
    buf_done(&out);

    struct resp_value *v;
    while (rc == 0 && (rc = tool_conn_recv(c, &v, deadline_us)) == 0) {
        if (v->type != RESP_T_PUSH && v->type != RESP_T_ATTR) {
            *ret = v;
            break;
        }
        resp_value_free(v);
    }
    return rc;
}

int tool_conn_callv(struct tool_conn *c, struct resp_value **ret, int64_t deadline_us, const char *first, ...) {
    struct slice argv[16];
    int argc = 0;
    va_list ap;
    va_start(ap, first);
    for (const char *s = first; s && argc < 16; s = va_arg(ap, const char *)) argv[argc++] = slice_cstr(s);
    va_end(ap);
    return tool_conn_call(c, argc, argv, ret, deadline_us);
}

/* ---- session set-up ---- */

static int check_reply(struct tool_conn *c, int rc, struct resp_value *v) {
    if (rc != 0) return rc;
    if (v->type == RESP_T_ERROR || v->type == RESP_T_BLOB_ERROR) {
        snprintf(c->err, sizeof(c->err), "%.*s", (int)v->str.len, v->str.ptr);
        rc = TOOL_REPLY_ERROR;
    }
    resp_value_free(v);
    return rc;
}

int tool_conn_auth(struct tool_conn *c, const char *user, const char *pass, int64_t deadline_us) {
    struct resp_value *v = NULL;
    int rc = user ? tool_conn_callv(c, &v, deadline_us, "AUTH", user, pass, NULL)
                  : tool_conn_callv(c, &v, deadline_us, "AUTH", pass, NULL);
    return check_reply(c, rc, v);
}

int tool_conn_select(struct tool_conn *c, int db, int64_t deadline_us) {
    struct resp_value *v = NULL;
    char num[16];
    snprintf(num, sizeof(num), "%d", db);
    int rc = tool_conn_callv(c, &v, deadline_us, "SELECT", num, NULL);
    return check_reply(c, rc, v);
}

int tool_conn_hello(struct tool_conn *c, int version, int64_t deadline_us) {
    struct resp_value *v = NULL;
    char num[16];
    snprintf(num, sizeof(num), "%d", version);
    int rc = tool_conn_callv(c, &v, deadline_us, "HELLO", num, NULL);
    return check_reply(c, rc, v);
}

void tool_conn_tls_text(const struct tool_conn *c, char *out, size_t cap) {
    struct ktls_conn_info info;
    if (!c->io.tls || ktls_conn_info(c->io.tls, &info) != 0) {
        snprintf(out, cap, "no TLS");
        return;
    }
    if (info.mode == KTLS_MODE_KERNEL) {
        snprintf(out, cap, "%s %s, records by the kernel", info.version, info.cipher);
        return;
    }
    const char *remedy = ktls_reason_remedy(info.reason);
    snprintf(out, cap, "%s %s, records in userspace (%s%s%s)", info.version, info.cipher, ktls_reason_name(info.reason),
             *remedy ? ": " : "", remedy);
}
