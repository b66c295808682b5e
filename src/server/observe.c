/*
 * What is done with commands that have run. Place in the flow: dispatch_run, the shards still locked, so that MONITOR's lines
 * about one key come in the order of the commands; nothing here blocks: lines are posted, the slow log and latency events take a
 * lock of their own for a few instructions, and only for what was slow.
 *
 * A command that blocks is shown by MONITOR when it begins to wait, and counted as slow, if its runs were, when it is over.
 */
#include "server/observe.h"

#include "server/client.h"
#include "server/config_priv.h"
#include "server/latency.h"
#include "server/monitor.h"
#include "server/slowlog.h"

void observe_init(struct server *srv) {
    pthread_mutex_init(&srv->observe_lock, NULL);
    srv->slowlog = slowlog_new();
    srv->latency = latency_new();
    observe_update(srv);
}

void observe_done(struct server *srv) {
    srv->slowlog = slowlog_free(srv->slowlog);
    srv->latency = latency_free(srv->latency);
    pthread_mutex_destroy(&srv->observe_lock);
}

void observe_update(struct server *srv) {
    uint64_t from = UINT64_MAX;
    pthread_mutex_lock(&srv->observe_lock);
    int64_t slow = cfg_get(&srv->cfg->slowlog_log_slower_than), ms = cfg_get(&srv->cfg->latency_monitor_threshold);
    if (slow >= 0) from = (uint64_t)slow;
    if (ms > 0 && (ms > INT64_MAX / 1000 || (uint64_t)ms * 1000 < from))
        from = ms > INT64_MAX / 1000 ? from : (uint64_t)ms * 1000;
    if (monitor_count(srv)) from = 0;
    atomic_store_explicit(&srv->eng.ran_from_us, from, memory_order_relaxed);
    pthread_mutex_unlock(&srv->observe_lock);
}

static void note_slow(struct server *srv, const struct cmd_ctx *c, uint64_t usec, const char *event) {
    int64_t slow = cfg_get(&srv->cfg->slowlog_log_slower_than), max = cfg_get(&srv->cfg->slowlog_max_len);
    if (slow >= 0 && usec >= (uint64_t)slow && !(c->cmd->flags & CMD_SKIP_SLOWLOG)) slowlog_add(srv->slowlog, c, usec, max);
    latency_note(srv, event, usec);
}

void observe_ran(void *arg, struct cmd_ctx *c, uint64_t usec) {
    struct server *srv = arg;
    if (c->retry || !c->s->owner) return; /* on whatever thread: observe_waited comes; or loading */
    if (!c->blocked) note_slow(srv, c, usec, c->cmd->flags & CMD_FAST ? "fast-command" : "command");
    if (monitor_count(srv) && !(c->cmd->flags & (CMD_SKIP_MONITOR | CMD_ADMIN))) monitor_feed(srv, c);
}

void observe_waited(struct server *srv, struct cmd_ctx *c, uint64_t usec) {
    if (usec >= atomic_load_explicit(&srv->eng.ran_from_us, memory_order_relaxed)) note_slow(srv, c, usec, "command-unblocking");
}

/* ---- secrets ---- */

static bool is(const struct cmd_ctx *c, const char *name) {
    return strcmp(c->cmd->parent ? c->cmd->parent->spec->name : c->cmd->spec->name, name) == 0;
}

static bool is_sub(const struct cmd_ctx *c, const char *name) {
    return c->cmd->parent && strcmp(c->cmd->spec->name, name) == 0;
}

/* What follows the option `word`, up to `n` arguments of it. */
static bool follows(const struct cmd_ctx *c, int arg, const char *word, int n) {
    for (int i = arg - 1; i > 0 && i >= arg - n; i--)
        if (slice_ieq(c->argv[i], word)) return true;
    return false;
}

static bool is_secret_directive(struct slice name) {
    int i = directive_find(name);
    return i >= 0 && (directives[i].flags & DIR_SECRET);
}

bool observe_is_secret(const struct cmd_ctx *c, int arg) {
    if (arg == 0) return false;
    if (is(c, "auth")) return true;
    if (is(c, "hello")) return follows(c, arg, "auth", 2);
    if (is(c, "config") && is_sub(c, "set")) return arg >= 3 && (arg & 1) && is_secret_directive(c->argv[arg - 1]);
    if (is(c, "acl") && is_sub(c, "setuser")) return arg >= 2;
    if (is(c, "migrate")) return follows(c, arg, "auth", 1) || follows(c, arg, "auth2", 2);
    return false;
}
