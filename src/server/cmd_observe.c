/*
 * MONITOR and SLOWLOG. On the client's I/O thread.
 */
#include "server/cmd_observe.h"

#include "base/str.h"
#include "server/client.h"
#include "server/monitor.h"
#include "server/slowlog.h"

static struct slowlog *slowlog_of(struct cmd_ctx *c) {
    return ((struct server *)c->eng->server)->slowlog;
}

void monitor_command(struct cmd_ctx *c) {
    struct client *cl = client_of(c->s);
    if (c->in_exec || c->deny_blocking) { /* its lines would be no replies */
        reply_error(c->r, "ERR MONITOR isn't allowed for DENY BLOCKING client");
        return;
    }
    if (atomic_load(&cl->flags) & CLIENT_MONITOR) return; /* no reply, as redis-server */
    monitor_start(cl);
    reply_ok(c->r);
}

void slowlog_get_command(struct cmd_ctx *c) {
    int64_t count = 10;
    if (c->argc > 3) {
        cmd_unknown_sub(c);
        return;
    }
    if (c->argc == 3 && (!str_to_ll(c->argv[2], &count) || count < -1)) {
        reply_error(c->r, "ERR count should be greater than or equal to -1");
        return;
    }
    slowlog_reply(slowlog_of(c), c->r, count);
}

void slowlog_len_command(struct cmd_ctx *c) {
    reply_int(c->r, slowlog_len(slowlog_of(c)));
}

void slowlog_reset_command(struct cmd_ctx *c) {
    slowlog_reset(slowlog_of(c));
    reply_ok(c->r);
}

void slowlog_help_command(struct cmd_ctx *c) {
    static const char *const lines[] = {
        "GET [<count>]",
        "    The last <count> entries (default: 10, -1: all): id, time, microseconds,",
        "    arguments, client address and name.",
        "LEN",
        "    Number of entries.",
        "RESET",
        "    Forget all entries.",
        NULL,
    };
    cmd_help(c, lines);
}
