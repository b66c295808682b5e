/*
 * The libktls side of tests/integration/test_peers.py (see tls_peer.h): echo or HTTP server, checking client, over the public
 * header and nothing else of the project. --policy kernel: KTLS_POLICY_AUTO, and the tests look at "mode"; user: userspace;
 * tx: half offload.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "ktls.h"
#include "tls_peer.h"

static struct ktls_ctx *ctx;
static struct ktls_conn *tls; /* of the one connection */
static const struct peer_args *args;
static char peer_name[32];

static enum ktls_policy policy_of(const char *name) {
    if (name && !strcmp(name, "user")) return KTLS_POLICY_OFF;
    return name && !strcmp(name, "tx") ? KTLS_POLICY_TX : KTLS_POLICY_AUTO;
}

bool peer_init(const struct peer_args *a) {
    char err[256];
    struct ktls_ctx_opts opts = { .size = sizeof opts,
                                  .role = a->is_server ? KTLS_SERVER : KTLS_CLIENT,
                                  .policy = policy_of(a->policy),
                                  .verify = a->ca ? KTLS_VERIFY_REQUIRE : KTLS_VERIFY_NONE,
                                  .protocols = a->only12   ? KTLS_PROTO_TLS1_2
                                               : a->only13 ? KTLS_PROTO_TLS1_3
                                                           : 0,
                                  .cert_file = a->cert,
                                  .key_file = a->key,
                                  .ca_file = a->ca,
                                  .ciphers = a->only13 ? NULL : a->suites,
                                  .ciphersuites = a->only13 ? a->suites : NULL,
                                  .num_tickets = 2,
                                  .session_reuse = a->is_server ? 0 : 2 };
    args = a;
    snprintf(peer_name, sizeof peer_name, "localhost:%d", a->port);
    if (ktls_ctx_new(&opts, &ctx, err, sizeof err) == 0) return true;
    fprintf(stderr, "%s\n", err);
    return false;
}

void peer_done(void) {
    ctx = ktls_ctx_unref(ctx);
}

static bool failed(struct peer_conn *c, const char *what, long result) {
    const struct ktls_error *e = ktls_conn_error(tls);
    return peer_fail(c, "%s: %s: %s", what, ktls_strerror((int)result), e->text);
}

static bool wait_for(struct peer_conn *c, int want) {
    struct pollfd pfd = { .fd = c->fd, .events = want == KTLS_WANT_WRITE ? POLLOUT : POLLIN };
    return poll(&pfd, 1, PEER_TIMEOUT_MS) > 0 || peer_fail(c, "timed out");
}

bool peer_open(struct peer_conn *c) {
    struct ktls_conn_info info;
    int r;
    fcntl(c->fd, F_SETFL, O_NONBLOCK);
    c->mode = "none";
    if (ktls_conn_new(ctx, c->fd, args->is_server ? NULL : PEER_NAME, &tls) < 0) return peer_fail(c, "ktls_conn_new");
    if (!args->is_server && ktls_conn_set_peer(tls, peer_name) < 0) return peer_fail(c, "ktls_conn_set_peer");
    while ((r = ktls_handshake(tls)) > 0)
        if (!wait_for(c, r)) return false;
    if (r < 0) return failed(c, "handshake", r);
    ktls_conn_info(tls, &info);
    c->version = info.version;
    c->cipher = info.cipher;
    c->resumed = info.resumed;
    static const char *const mode[] = { [KTLS_MODE_KERNEL] = "kernel", [KTLS_MODE_USER] = "user", [KTLS_MODE_TX] = "tx" };
    c->mode = mode[info.mode];
    c->reason = ktls_reason_name(info.reason);
    return true;
}

ssize_t peer_read(struct peer_conn *c, void *buf, size_t len) {
    for (;;) {
        ssize_t n = ktls_read(tls, buf, len);
        if (n == 0) c->clean = true;
        if (n >= 0) return n;
        if (n != -EAGAIN) {
            failed(c, "read", n);
            return -1;
        }
        if (!wait_for(c, ktls_conn_wants(tls))) return -1;
    }
}

bool peer_write(struct peer_conn *c, const void *buf, size_t len) {
    const char *p = buf;
    while (len > 0) {
        ssize_t n = ktls_write(tls, p, len);
        if (n > 0) {
            p += n;
            len -= (size_t)n;
            continue;
        }
        if (n != -EAGAIN) return failed(c, "write", n);
        if (!wait_for(c, ktls_conn_wants(tls))) return false;
    }
    return true;
}

bool peer_update(struct peer_conn *c) {
    int r = ktls_key_update(tls, 1);
    while (r == KTLS_WANT_WRITE) {
        if (!wait_for(c, r)) return false;
        r = ktls_flush(tls);
    }
    return r == KTLS_DONE || failed(c, "key update", r);
}

void peer_shutdown(struct peer_conn *c) {
    while (ktls_shutdown(tls) == KTLS_WANT_WRITE)
        if (!wait_for(c, KTLS_WANT_WRITE)) return;
}

void peer_close(struct peer_conn *c) {
    struct ktls_conn_info info;
    if (tls && ktls_conn_info(tls, &info) == 0) {
        c->updates_in = info.key_updates_in;
        c->updates_out = info.key_updates_out;
    }
    tls = ktls_conn_free(tls);
}
