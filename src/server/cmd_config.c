/*
 * CONFIG, and what a changed directive means for the running server. CONFIG SET and REWRITE run one at a time (config_set_lock),
 * on whichever I/O thread the client belongs to.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/log.h"
#include "base/crash.h"
#include "cmd/cmd_sort.h"
#include "cmd/figures.h"
#include "cmd/script/script.h"
#include "data/limits.h"
#include "server/repl_link.h"
#include "server/child.h"
#include "server/aof_server.h"
#include "server/client.h"
#include "server/snapshot.h"
#include "server/evict.h"
#include "server/observe.h"

#define MIN_BACKLOG 16384 /* of repl-backlog-size, when CONFIG SET sets it */

static struct server *server_of(struct cmd_ctx *c) {
    return c->eng->server;
}

/* ---- applying ---- */

static void apply_limits(struct config *cfg) {
#define LIMIT(name) atomic_store(&data_limits.name, cfg_get(&cfg->name))
    LIMIT(list_max_listpack_size);
    LIMIT(list_compress_depth);
    LIMIT(hash_max_listpack_entries);
    LIMIT(hash_max_listpack_value);
    LIMIT(set_max_intset_entries);
    LIMIT(set_max_listpack_entries);
    LIMIT(set_max_listpack_value);
    LIMIT(zset_max_listpack_entries);
    LIMIT(zset_max_listpack_value);
    LIMIT(stream_node_max_bytes);
    LIMIT(stream_node_max_entries);
    LIMIT(hll_sparse_max_bytes);
#undef LIMIT
}

void server_apply_all(struct server *srv) {
    struct config *cfg = srv->cfg;
    struct engine *e = &srv->eng;
    atomic_store(&e->proto_max_bulk_len, (uint64_t)cfg_get(&cfg->proto_max_bulk_len));
    atomic_store(&e->lazy_user_del, cfg_get(&cfg->lazyfree_lazy_user_del));
    atomic_store(&e->lazy_expire, cfg_get(&cfg->lazyfree_lazy_expire));
    atomic_store(&e->lazy_server_del, cfg_get(&cfg->lazyfree_lazy_server_del));
    atomic_store(&e->lazy_user_flush, cfg_get(&cfg->lazyfree_lazy_user_flush));
    atomic_store(&e->notify_on, (cfg_get(&cfg->notify_keyspace_events) & (config_event_bit('K') | config_event_bit('E'))) != 0);
    int64_t policy = cfg_get(&cfg->maxmemory_policy);
    ks_use_lfu(srv->ks, policy == CFG_VOLATILE_LFU || policy == CFG_ALLKEYS_LFU);
    ks_lfu_params(srv->ks, (int)cfg_get(&cfg->lfu_log_factor), (int)cfg_get(&cfg->lfu_decay_time));
    scripts_set_threshold(e->scripts, cfg_get(&cfg->busy_reply_threshold));
    figures_keep_latency(e->figures, cfg_get(&cfg->latency_tracking));
    crash_exit_on_panic(cfg_get(&cfg->use_exit_on_panic));
    apply_limits(cfg);
    repl_apply_config(srv);
    repl_link_apply_config(srv);
    observe_update(srv);
    mem_purge_in_background(cfg_get(&cfg->jemalloc_bg_thread));
    log_set_level((enum log_level)cfg_get(&cfg->loglevel));
    aof_apply_config(srv);
    acl_set_all_channels(e->acl, cfg_get(&cfg->acl_pubsub_default));
    snapshot_config_changed(srv);
}

static bool starts_with(const char *s, const char *prefix) {
    return strncmp(s, prefix, strlen(prefix)) == 0;
}

static bool wants_relisten(const char *name) {
    return !strcmp(name, "port") || !strcmp(name, "tls-port") || !strcmp(name, "bind");
}

static const char *apply_tls(struct server *srv) {
    static _Thread_local char err[512];
    const char *refusal = tls_refusal(&srv->tls, srv->cfg);
    if (refusal) return refusal;
    struct config *cfg = srv->cfg;
    bool wanted = cfg_get(&cfg->tls_port) || cfg_get(&cfg->tls_replication) || cfg_get(&cfg->tls_cluster);
    if (!wanted && !srv->tls.ctx) return NULL; /* checked when it is wanted */
    if (srv->tls.rollback_due) {               /* the old values again: their context is still in place */
        srv->tls.rollback_due = false;
        return NULL;
    }
    if (tls_reload(&srv->tls, srv->cfg, NULL, err, sizeof err) == 0) return NULL;
    srv->tls.rollback_due = true;
    log_warning("Failed applying the TLS configuration: %s", err);
    return "Unable to update TLS configuration. Check server logs.";
}

static const char *apply_maxclients(struct server *srv) {
    int64_t want = cfg_get(&srv->cfg->maxclients);
    process_raise_nofile(srv);
    if (cfg_get(&srv->cfg->maxclients) == want) return NULL;
    static _Thread_local char err[160];
    snprintf(err, sizeof err, "The operating system is not able to handle the specified number of clients, try with %lld",
             (long long)cfg_get(&srv->cfg->maxclients));
    return err;
}

/* The name in the call that a failure of one of its kind is about; there is one. */
static const char *first_of(const char *const *names, int n, bool (*is_kind)(const char *name)) {
    for (int i = 0; i < n; i++)
        if (is_kind(names[i])) return names[i];
    return names[0];
}

static bool is_tls(const char *name) {
    if (!strcmp(name, "ktls-rekey-after-records")) return true;
    return starts_with(name, "tls-") && strcmp(name, "tls-handshake-timeout") != 0 &&
           strcmp(name, "tls-auto-reload-interval") != 0;
}

static bool is_oom_score(const char *name) {
    return starts_with(name, "oom-score-adj");
}

bool server_apply_locale(struct server *srv) {
    char *name = config_str_dup(srv->cfg, &srv->cfg->locale_collate);
    bool ok = sort_set_locale(name ? name : "");
    mem_free(name);
    return ok;
}

const char *server_apply_config(void *arg, const char *const *names, int n, const char **ret_blamed) {
    struct server *srv = arg;
    struct config *cfg = srv->cfg;
    bool tls = false, relisten = false, pass = false, title = false, clients = false, memory = false, backlog = false,
         oom = false, locale = false;
    for (int i = 0; i < n; i++) {
        tls |= is_tls(names[i]);
        relisten |= wants_relisten(names[i]);
        pass |= !strcmp(names[i], "requirepass");
        title |= !strcmp(names[i], "proc-title-template") || wants_relisten(names[i]);
        clients |= !strcmp(names[i], "maxclients");
        memory |= !strcmp(names[i], "maxmemory");
        backlog |= !strcmp(names[i], "repl-backlog-size");
        oom |= is_oom_score(names[i]);
        locale |= !strcmp(names[i], "locale-collate");
    }
    const char *err = NULL;
    if (tls && (err = apply_tls(srv))) *ret_blamed = first_of(names, n, is_tls);
    if (!err && locale && !server_apply_locale(srv)) {
        *ret_blamed = "locale-collate";
        err = "Invalid locale name";
    }
    if (!err && oom && (err = process_set_oom_score(srv))) *ret_blamed = first_of(names, n, is_oom_score);
    if (!err && clients && (err = apply_maxclients(srv))) *ret_blamed = "maxclients";
    if (!err && relisten && !io_threads_relisten(srv)) {
        *ret_blamed = first_of(names, n, wants_relisten);
        err = !strcmp(*ret_blamed, "bind") ? "Failed to bind to specified addresses."
                                           : "Unable to listen on this port. Check server logs.";
    }
    if (err) return err;
    if (pass) {
        char *p = config_str_dup(cfg, &cfg->requirepass);
        auth_set_password(srv, p);
        if (p) mem_wipe(p, strlen(p));
        mem_free(p);
    }
    /* As by redis-server: CONFIG GET shows what it was raised to; what a configuration file says is left as it is. */
    if (backlog && cfg_get(&cfg->repl_backlog_size) < MIN_BACKLOG) atomic_store(&cfg->repl_backlog_size, MIN_BACKLOG);
    server_apply_all(srv);
    if (memory && evict_is_needed(srv))
        log_warning("WARNING: the new maxmemory value set via CONFIG SET (%lld) is smaller than the current memory usage (%zu). "
                    "This will result in key eviction and/or the inability to accept new write commands depending on the "
                    "maxmemory-policy.",
                    (long long)cfg_get(&cfg->maxmemory), mem_used());
    if (title) process_title_set(srv);
    return NULL;
}

/* ---- commands ---- */

struct pairs {
    struct buf names; /* array of struct pair */
    struct buf text;  /* grows, so pairs hold offsets */
    size_t n;
};

struct pair {
    size_t name_off, name_len, val_off, val_len;
};

static void collect(void *arg, const char *name, struct slice value) {
    struct pairs *p = arg;
    struct pair one = { .name_off = p->text.len, .name_len = strlen(name) };
    buf_append(&p->text, name, one.name_len);
    one.val_off = p->text.len;
    one.val_len = value.len;
    buf_append(&p->text, value.ptr, value.len);
    buf_append(&p->names, &one, sizeof one);
    p->n++;
}

static void config_get_command(struct cmd_ctx *c) {
    struct pairs p = { 0 };
    config_get(server_of(c)->cfg, c->argc - 2, c->argv + 2, collect, &p);
    const struct pair *at = (const struct pair *)(const void *)p.names.data;
    reply_map(c->r, p.n);
    for (size_t i = 0; i < p.n; i++) {
        reply_bulk(c->r, p.text.data + at[i].name_off, at[i].name_len);
        reply_bulk(c->r, p.text.data + at[i].val_off, at[i].val_len);
    }
    if (p.text.data) mem_wipe(p.text.data, p.text.len); /* it may hold passwords */
    buf_done(&p.names);
    buf_done(&p.text);
}

static void config_set_command(struct cmd_ctx *c) {
    struct server *srv = server_of(c);
    char err[1024];
    if (c->argc & 1) {
        cmd_syntax_error(c);
        return;
    }
    const struct config_apply apply = { srv, server_apply_config };
    pthread_mutex_lock(&srv->config_set_lock);
    int r = config_set(srv->cfg, (c->argc - 2) / 2, c->argv + 2, &apply, err, sizeof err);
    pthread_mutex_unlock(&srv->config_set_lock);
    if (r) {
        reply_errorf(c->r, "ERR %s", err);
    } else if (!aof_follow_config(srv, c->in_exec)) {
        reply_error(
            c->r,
            "ERR CONFIG SET failed (possibly related to argument 'appendonly') - Unable to turn on AOF. Check server logs.");
    } else {
        reply_ok(c->r);
    }
}

static void config_rewrite_command(struct cmd_ctx *c) {
    struct server *srv = server_of(c);
    struct buf users = { 0 };
    bool with_users = !srv->cfg->aclfile || !*srv->cfg->aclfile; /* else they are ACL SAVE's */
    if (with_users) acl_save_text(c->eng->acl, &users, true);
    pthread_mutex_lock(&srv->config_set_lock);
    int r = config_rewrite(srv->cfg, (struct slice){ users.data ? users.data : "", users.len });
    pthread_mutex_unlock(&srv->config_set_lock);
    if (users.data) mem_wipe(users.data, users.cap);
    buf_done(&users);
    if (r == -ENOENT && !srv->cfg->config_file) {
        reply_error(c->r, "ERR The server is running without a config file");
    } else if (r) {
        log_warning("CONFIG REWRITE failed: %s", strerror(-r));
        reply_errorf(c->r, "ERR Rewriting config file: %s", strerror(-r));
    } else {
        log_notice("CONFIG REWRITE executed with success.");
        reply_ok(c->r);
    }
}

static void config_resetstat_command(struct cmd_ctx *c) {
    struct server *srv = server_of(c);
    engine_reset_stats(c->eng);
    acl_reset_denied(c->eng->acl);
    ks_stats_reset(c->ks);
    struct server_stats *s = &srv->stats;
    _Atomic uint64_t *counters[] = { &s->connections,         &s->rejected,
                                     &s->query_buffer_closes, &s->output_buffer_closes,
                                     &s->idle_closes,         &s->tls_handshake_timeouts,
                                     &s->expire_us,           &s->expire_time_cap,
                                     &s->evicted_keys,        &s->evicted_clients,
                                     &s->eviction_us,         &s->unexpected_errors };
    for (size_t i = 0; i < sizeof counters / sizeof *counters; i++) atomic_store(counters[i], 0);
    _Atomic uint64_t *of_repl[] = { &srv->repl->n_full,    &srv->repl->n_partial_ok, &srv->repl->n_partial_err,
                                    &srv->repl->bytes_out, &srv->repl->bytes_in,     &srv->repl->file_bytes_in };
    struct server_turns turns;
    for (size_t i = 0; i < sizeof of_repl / sizeof *of_repl; i++) atomic_store(of_repl[i], 0);
    for (int t = 0; t < srv->n_threads; t++) {
        struct io_thread *th = &srv->threads[t];
        atomic_store(&th->bytes_in, 0);
        atomic_store(&th->bytes_out, 0);
        atomic_store(&th->reads, 0);
        atomic_store(&th->writes, 0);
    }
    server_turns_get(srv, &turns); /* the loops' own counters are their threads' */
    atomic_store(&s->turns_from, turns.n);
    atomic_store(&s->busy_us_from, turns.busy_us);
    hist_reset(srv->tls.handshake_us);
    child_figures_reset(srv);
    aof_reset_stats(srv);
    reply_ok(c->r);
}

static void config_help_command(struct cmd_ctx *c) {
    static const char *const lines[] = {
        "GET <pattern> [<pattern> ...]",
        "    Directives matching glob patterns, with their values.",
        "SET <directive> <value> [<directive> <value> ...]",
        "    Change directives, all of them or none.",
        "RESETSTAT",
        "    Zero what INFO counts.",
        "REWRITE",
        "    Write the running configuration into the configuration file.",
        NULL,
    };
    cmd_help(c, lines);
}

#define FLAGS (CMD_ADMIN | CMD_NOSCRIPT | CMD_LOADING | CMD_STALE)
static const struct cmd_arg get_args[] = { { .name = "parameter", .type = ARG_STRING, .flags = ARG_MULTIPLE }, { 0 } };
static const struct cmd_arg set_pair[] = { { .name = "parameter", .type = ARG_STRING },
                                           { .name = "value", .type = ARG_STRING },
                                           { 0 } };
static const struct cmd_arg set_args[] = { { .name = "data", .type = ARG_BLOCK, .flags = ARG_MULTIPLE, .sub = set_pair }, { 0 } };
static const struct cmd_history multi_history[] = { { "7.0.0", "Takes several directives in one call." }, { 0 } };

static const char *const all_nodes_tips[] = { "request_policy:all_nodes", "response_policy:all_succeeded", NULL };

static const struct cmd_spec config_subs[] = {
    { .name = "get",
      .run = config_get_command,
      .arity = -3,
      .flags = FLAGS,
      .summary = "Reads configuration directives.",
      .since = "2.0.0",
      .group = "server",
      .complexity = "O(N) when N is the number of configuration parameters provided",
      .args = get_args,
      .history = multi_history },
    { .name = "set",
      .run = config_set_command,
      .arity = -4,
      .flags = FLAGS,
      .summary = "Changes configuration directives.",
      .since = "2.0.0",
      .group = "server",
      .complexity = "O(N) when N is the number of configuration parameters provided",
      .args = set_args,
      .tips = all_nodes_tips,
      .history = multi_history },
    { .name = "resetstat",
      .run = config_resetstat_command,
      .arity = 2,
      .flags = FLAGS,
      .summary = "Zeroes the statistics.",
      .tips = all_nodes_tips,
      .since = "2.0.0",
      .group = "server",
      .complexity = "O(1)" },
    { .name = "rewrite",
      .run = config_rewrite_command,
      .arity = 2,
      .flags = FLAGS,
      .summary = "Writes the running configuration to its file.",
      .tips = all_nodes_tips,
      .since = "2.8.0",
      .group = "server",
      .complexity = "O(1)" },
    { .name = "help",
      .run = config_help_command,
      .arity = 2,
      .flags = CMD_LOADING | CMD_STALE,
      .summary = "Lists the subcommands.",
      .since = "5.0.0",
      .group = "server",
      .complexity = "O(1)" },
    { 0 },
};

const struct cmd_spec cmd_specs_config[] = {
    { .name = "config",
      .arity = -2,
      .subs = config_subs,
      .summary = "Commands about the configuration.",
      .since = "2.0.0",
      .group = "server",
      .complexity = "Depends on subcommand." },
    { 0 },
};
