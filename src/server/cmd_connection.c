/*
 * AUTH, HELLO, PING, ECHO, SELECT, QUIT, RESET: what a connection says about itself. Runs on the client's I/O thread, no shard
 * lock held.
 */
#include <limits.h>
#include <string.h>

#include "base/log.h"
#include "server/client.h"
#include "server/monitor.h"
#include "server/replication.h"
#include "server/tracking.h"

static bool try_auth(struct cmd_ctx *c, struct slice user, struct slice pass) {
    if (auth_login(client_of(c->s), user, pass, c->argv[0])) return true;
    reply_error(c->r, "WRONGPASS invalid username-password pair or user is disabled.");
    return false;
}

static bool default_has_no_password(struct cmd_ctx *c) {
    const struct acl_user *u = acl_get(c->eng->acl, SLICE_LIT(ACL_DEFAULT_USER));
    bool nopass = acl_user_has_nopass(u);
    acl_user_unref(u);
    return nopass;
}

static void auth_command(struct cmd_ctx *c) {
    if (c->argc > 3) {
        cmd_syntax_error(c);
        return;
    }
    struct slice user = c->argc == 3 ? c->argv[1] : SLICE_LIT(ACL_DEFAULT_USER);
    if (c->argc == 2 && default_has_no_password(c)) {
        reply_error(c->r, "ERR AUTH <password> called without any password configured for the default user. Are you sure your "
                          "configuration is correct?");
        return;
    }
    if (try_auth(c, user, c->argv[c->argc - 1])) reply_ok(c->r);
}

static bool name_is_valid(struct slice name) {
    for (size_t i = 0; i < name.len; i++)
        if (name.ptr[i] < '!' || name.ptr[i] > '~') return false;
    return true;
}

static bool set_name(struct cmd_ctx *c, struct slice name) {
    if (!name_is_valid(name)) {
        reply_error(c->r, "ERR Client names cannot contain spaces, newlines or special characters.");
        return false;
    }
    struct client *cl = client_of(c->s);
    client_set_string(cl, &cl->name, name);
    return true;
}

static void hello_reply(struct cmd_ctx *c) {
    struct server *srv = c->eng->server;
    reply_map(c->r, 7);
    reply_bulk_cstr(c->r, "server");
    reply_bulk_cstr(c->r, "redis");
    reply_bulk_cstr(c->r, "version");
    reply_bulk_cstr(c->r, REDIS_COMPAT_VERSION);
    reply_bulk_cstr(c->r, "proto");
    reply_int(c->r, c->r->resp);
    reply_bulk_cstr(c->r, "id");
    reply_int(c->r, (int64_t)c->s->id);
    reply_bulk_cstr(c->r, "mode");
    reply_bulk_cstr(c->r, "standalone");
    reply_bulk_cstr(c->r, "role");
    reply_bulk_cstr(c->r, repl_is_replica(srv->repl) ? "replica" : "master");
    reply_bulk_cstr(c->r, "modules");
    reply_array(c->r, 0);
}

static void hello_command(struct cmd_ctx *c) {
    int64_t ver = 0;
    int next = 1;
    if (c->argc >= 2) {
        if (!cmd_arg_ll(c, c->argv[next++], &ver, "ERR Protocol version is not an integer or out of range")) return;
        if (ver < 2 || ver > 3) {
            reply_error(c->r, "NOPROTO unsupported protocol version");
            return;
        }
    }
    struct slice user = { 0 }, pass = { 0 }, name = { 0 };
    bool has_auth = false, has_name = false;
    for (; next < c->argc; next++) {
        int more = c->argc - 1 - next;
        if (slice_ieq(c->argv[next], "auth") && more >= 2) {
            user = c->argv[next + 1];
            pass = c->argv[next + 2];
            has_auth = true;
            next += 2;
        } else if (slice_ieq(c->argv[next], "setname") && more) {
            name = c->argv[++next];
            has_name = true;
            if (!name_is_valid(name)) {
                reply_error(c->r, "ERR Client names cannot contain spaces, newlines or special characters.");
                return;
            }
        } else {
            reply_errorf(c->r, "ERR Syntax error in HELLO option '%.*s'", (int)c->argv[next].len, c->argv[next].ptr);
            return;
        }
    }
    if (has_auth && !try_auth(c, user, pass)) return;
    if (!c->s->authenticated && atomic_load(&c->eng->auth_required)) {
        reply_error(c->r, "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH "
                          "<user> <pass> option can be "
                          "used to authenticate the client and select the RESP protocol version at the same time");
        return;
    }
    if (has_name) set_name(c, name);
    if (ver) session_set_resp(c->s, (int)ver);
    hello_reply(c);
}

static void ping_command(struct cmd_ctx *c) {
    if (c->argc > 2) {
        reply_error(c->r, "ERR wrong number of arguments for 'ping' command");
    } else if (c->r->resp == 2 && pubsub_is_listening(client_of(c->s))) { /* looks like a message, so that it is taken for one */
        reply_array(c->r, 2);
        reply_bulk_cstr(c->r, "pong");
        reply_bulk_slice(c->r, c->argc == 2 ? c->argv[1] : SLICE_LIT(""));
    } else if (c->argc == 2) {
        reply_bulk_slice(c->r, c->argv[1]);
    } else {
        reply_simple(c->r, "PONG");
    }
}

static void echo_command(struct cmd_ctx *c) {
    reply_bulk_slice(c->r, c->argv[1]);
}

static void select_command(struct cmd_ctx *c) {
    int64_t db;
    if (!cmd_arg_ll_range(c, c->argv[1], INT_MIN, INT_MAX, &db, NULL)) return;
    if (db < 0 || db >= ks_n_dbs(c->ks)) {
        reply_error(c->r, "ERR DB index is out of range");
        return;
    }
    atomic_store_explicit(&c->s->db, (int)db, memory_order_relaxed);
    reply_ok(c->r);
}

static void quit_command(struct cmd_ctx *c) {
    reply_ok(c->r);
    c->s->close_after_reply = true;
}

static void reset_command(struct cmd_ctx *c) {
    struct client *cl = client_of(c->s);
    if (!session_discard(c->s, c->ks)) {
        dispatch_reply_busy(c);
        return;
    }
    pubsub_forget(cl);
    tracking_disable(cl);
    monitor_stop(cl);
    session_set_resp(c->s, 2);
    atomic_store(&c->s->db, 0);
    auth_forget(cl);
    if (c->s->reply_mode != REPLY_SKIP_THIS) { /* a skip is about this very reply */
        c->s->reply_mode = REPLY_ON;
        c->s->reply.muted = false;
    }
    c->s->no_touch = c->s->no_evict = false;
    atomic_fetch_and(&cl->flags, ~(unsigned)(CLIENT_NO_EVICT | CLIENT_NO_TOUCH));
    client_set_string(cl, &cl->name, (struct slice){ 0 });
    reply_simple(c->r, "RESET");
}

static const struct cmd_arg auth_args[] = {
    { .name = "username", .type = ARG_STRING, .flags = ARG_OPTIONAL, .since = "6.0.0" },
    { .name = "password", .type = ARG_STRING },
    { 0 },
};
static const struct cmd_arg hello_auth_args[] = { { .name = "username", .type = ARG_STRING },
                                                  { .name = "password", .type = ARG_STRING },
                                                  { 0 } };
static const struct cmd_arg hello_block[] = {
    { .name = "protover", .type = ARG_INTEGER },
    { .name = "auth", .type = ARG_BLOCK, .token = "AUTH", .flags = ARG_OPTIONAL, .sub = hello_auth_args },
    { .name = "clientname", .type = ARG_STRING, .token = "SETNAME", .flags = ARG_OPTIONAL },
    { 0 },
};
static const struct cmd_arg hello_args[] = {
    { .name = "arguments", .type = ARG_BLOCK, .flags = ARG_OPTIONAL, .sub = hello_block }, { 0 }
};
static const struct cmd_arg message_arg[] = { { .name = "message", .type = ARG_STRING }, { 0 } };
static const struct cmd_arg opt_message_arg[] = { { .name = "message", .type = ARG_STRING, .flags = ARG_OPTIONAL }, { 0 } };
static const struct cmd_arg index_arg[] = { { .name = "index", .type = ARG_INTEGER }, { 0 } };
static const struct cmd_history auth_history[] = { { "6.0.0", "Takes a username too (ACL style)." }, { 0 } };
static const struct cmd_history hello_history[] = { { "6.2.0", "The protocol version became optional." }, { 0 } };
static const char *const ping_tips[] = { "request_policy:all_shards", "response_policy:all_succeeded", NULL };

const struct cmd_spec cmd_specs_connection[] = {
    { .name = "auth",
      .run = auth_command,
      .arity = -2,
      .cats = CAT_CONNECTION,
      .flags = CMD_NOSCRIPT | CMD_LOADING | CMD_STALE | CMD_FAST | CMD_NO_AUTH | CMD_ALLOW_BUSY,
      .summary = "Authenticates the connection.",
      .since = "1.0.0",
      .group = "connection",
      .complexity = "O(N) where N is the number of passwords defined for the user",
      .args = auth_args,
      .history = auth_history },
    { .name = "hello",
      .run = hello_command,
      .arity = -1,
      .cats = CAT_CONNECTION,
      .flags = CMD_NOSCRIPT | CMD_LOADING | CMD_STALE | CMD_FAST | CMD_NO_AUTH | CMD_ALLOW_BUSY,
      .summary = "Chooses the protocol version; may authenticate and name the connection too.",
      .since = "6.0.0",
      .group = "connection",
      .complexity = "O(1)",
      .args = hello_args,
      .history = hello_history },
    { .name = "ping",
      .run = ping_command,
      .arity = -1,
      .cats = CAT_CONNECTION,
      .flags = CMD_FAST,
      .summary = "Answers PONG, or the message given.",
      .since = "1.0.0",
      .group = "connection",
      .complexity = "O(1)",
      .args = opt_message_arg,
      .tips = ping_tips },
    { .name = "echo",
      .run = echo_command,
      .arity = 2,
      .cats = CAT_CONNECTION,
      .flags = CMD_LOADING | CMD_STALE | CMD_FAST,
      .summary = "Answers with the message given.",
      .since = "1.0.0",
      .group = "connection",
      .complexity = "O(1)",
      .args = message_arg },
    { .name = "select",
      .run = select_command,
      .arity = 2,
      .cats = CAT_CONNECTION,
      .flags = CMD_LOADING | CMD_STALE | CMD_FAST,
      .summary = "Chooses the database of the connection.",
      .since = "1.0.0",
      .group = "connection",
      .complexity = "O(1)",
      .args = index_arg },
    { .name = "quit",
      .run = quit_command,
      .arity = -1,
      .cats = CAT_CONNECTION,
      .flags = CMD_NOSCRIPT | CMD_LOADING | CMD_STALE | CMD_FAST | CMD_NO_AUTH | CMD_ALLOW_BUSY | CMD_NEVER_QUEUED,
      .summary = "Closes the connection.",
      .since = "1.0.0",
      .group = "connection",
      .complexity = "O(1)",
      .deprecated_since = "7.2.0",
      .replaced_by = "just closing the connection" },
    { .name = "reset",
      .run = reset_command,
      .arity = 1,
      .cats = CAT_CONNECTION,
      .flags =
          CMD_NOSCRIPT | CMD_LOADING | CMD_STALE | CMD_FAST | CMD_NO_AUTH | CMD_ALLOW_BUSY | CMD_NEVER_QUEUED | CMD_SELF_LOCK,
      .summary = "Puts the connection back into the state of a new one.",
      .since = "6.2.0",
      .group = "connection",
      .complexity = "O(1)" },
    { 0 },
};
