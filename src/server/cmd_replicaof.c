/*
 * REPLICAOF and SLAVEOF. Place in the flow: whose primary this server is, or that it has none, changes here, with all shards
 * locked; the link does the rest (repl_link.c). Session's I/O thread.
 */
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/log.h"
#include "base/str.h"
#include "server/client.h"
#include "server/repl_failover.h"
#include "server/repl_link.h"

static void describe(struct client *c, struct buf *text) {
    pthread_mutex_lock(&c->th->registry_lock);
    client_format(c, text);
    pthread_mutex_unlock(&c->th->registry_lock);
}

/* What the configuration shows, and CONFIG REWRITE writes. */
static void note_in_config(struct server *srv, const char *host_port) {
    config_other_set(srv->cfg, "replicaof", host_port);
}

static void end_replication(struct cmd_ctx *c, struct server *srv) {
    struct buf text = { 0 };
    if (!repl_is_replica(srv->repl)) return;
    repl_link_promote(srv);
    note_in_config(srv, "");
    describe(client_of(c->s), &text);
    log_notice("MASTER MODE enabled (user request from '%s')", buf_cstr(&text));
    buf_done(&text);
}

static bool is_followed(struct server *srv, struct slice host, int port) {
    struct repl_link *l = srv->repl->link;
    pthread_mutex_lock(&srv->repl->lock);
    bool same = l->host && l->port == port && slice_ieq(host, l->host);
    pthread_mutex_unlock(&srv->repl->lock);
    return same;
}

static void follow(struct cmd_ctx *c, struct server *srv, struct slice host, int port) {
    struct buf text = { 0 };
    char *host_port = mem_asprintf("%.*s %d", (int)host.len, host.ptr, port);
    repl_link_follow(srv, host, port, false);
    note_in_config(srv, host_port);
    mem_free(host_port);
    describe(client_of(c->s), &text);
    log_notice("REPLICAOF %.*s:%d enabled (user request from '%s')", (int)host.len, host.ptr, port, buf_cstr(&text));
    buf_done(&text);
}

/* A host as it is written in the configuration and the log: one word. */
static bool is_host(struct slice s) {
    for (size_t i = 0; i < s.len; i++)
        if (s.ptr[i] <= ' ' || s.ptr[i] == 0x7f || s.ptr[i] == '"' || s.ptr[i] == '\'') return false;
    return s.len > 0 && s.len <= 255;
}

/* redis-server takes a monitor for a replica, too. */
static bool is_replicas(struct cmd_ctx *c) {
    return atomic_load_explicit(&client_of(c->s)->flags, memory_order_relaxed) & (CLIENT_MONITOR | CLIENT_REPLICA);
}

/* FAILOVER is about to change what is followed, or back again: its pause would never end. */
static bool is_failing_over(struct cmd_ctx *c, struct server *srv) {
    if (!repl_failover_is_on(srv->repl)) return false;
    reply_error(c->r, "ERR REPLICAOF not allowed while failing over.");
    return true;
}

/* False: there is nothing to do but the reply, which is written. */
static bool has_new_primary(struct cmd_ctx *c, struct server *srv, int64_t *ret_port) {
    if (is_replicas(c)) {
        reply_error(c->r, "ERR Command is not valid when client is a replica.");
        return false;
    }
    if (!cmd_arg_ll_range(c, c->argv[2], 0, 65535, ret_port, "ERR Invalid master port")) return false;
    if (!is_host(c->argv[1])) {
        reply_error(c->r, "ERR Invalid master host");
        return false;
    }
    if (!is_followed(srv, c->argv[1], (int)*ret_port)) return true;
    log_notice("REPLICAOF would result into synchronization with the master we are already connected with. No operation "
               "performed.");
    reply_simple(c->r, "OK Already connected to specified master");
    return false;
}

static void replicaof_command(struct cmd_ctx *c) {
    struct server *srv = c->eng->server;
    bool no_one = slice_ieq(c->argv[1], "no") && slice_ieq(c->argv[2], "one");
    int64_t port = 0;
    if (is_failing_over(c, srv) || (!no_one && !has_new_primary(c, srv, &port))) return;
    if (!dispatch_lock(c, ks_all_mask(ks_n_shards(c->ks)))) {
        dispatch_reply_busy(c);
        return;
    }
    bool refused = is_failing_over(c, srv); /* it may have begun before the locks were taken */
    if (!refused && no_one) end_replication(c, srv);
    if (!refused && !no_one) follow(c, srv, c->argv[1], (int)port);
    engine_move_gate(c->eng); /* what was let through under the old role asks again */
    dispatch_unlock(c);
    if (!refused) reply_ok(c->r);
}

#define FLAGS (CMD_ADMIN | CMD_NOSCRIPT | CMD_STALE | CMD_NO_ASYNC_LOADING | CMD_SELF_LOCK)

static const struct cmd_arg host_port_args[] = { { .name = "host", .type = ARG_STRING },
                                                 { .name = "port", .type = ARG_INTEGER },
                                                 { 0 } };
static const struct cmd_arg no_one_args[] = { { .name = "no", .type = ARG_PURE_TOKEN, .token = "NO" },
                                              { .name = "one", .type = ARG_PURE_TOKEN, .token = "ONE" },
                                              { 0 } };
static const struct cmd_arg forms[] = { { .name = "host-port", .type = ARG_BLOCK, .sub = host_port_args },
                                        { .name = "no-one", .type = ARG_BLOCK, .sub = no_one_args },
                                        { 0 } };
static const struct cmd_arg args[] = { { .name = "args", .type = ARG_ONEOF, .sub = forms }, { 0 } };

const struct cmd_spec cmd_specs_replicaof[] = {
    { .name = "replicaof",
      .run = replicaof_command,
      .arity = 3,
      .flags = FLAGS,
      .summary = "Makes this server a replica of another one, or a primary again.",
      .since = "5.0.0",
      .complexity = "O(1)",
      .group = "server",
      .args = args },
    { .name = "slaveof",
      .run = replicaof_command,
      .arity = 3,
      .flags = FLAGS,
      .summary = "Makes this server a replica of another one, or a primary again.",
      .since = "1.0.0",
      .complexity = "O(1)",
      .group = "server",
      .deprecated_since = "5.0.0",
      .replaced_by = "`REPLICAOF`",
      .args = args },
    { 0 },
};
