/*
 * kettle-server: makes the parts, wires them, runs thread 0, takes them apart again. Everything here runs on the main thread.
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/crash.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/rand.h"
#include "cluster/cluster.h"
#include "server/child.h"
#include "server/client.h"
#include "server/loading.h"
#include "server/refusal.h"
#include "server/snapshot.h"
#include "server/migrate.h"
#include "server/aof_server.h"
#include "server/notify.h"
#include "server/monitor.h"
#include "server/observe.h"
#include "server/propagate.h"
#include "server/evict.h"
#include "server/refusal.h"
#include "server/repl_apply.h"
#include "server/repl_link.h"
#include "server/repl_sync.h"
#include "server/replication.h"
#include "server/tracking.h"

/* gcc defines a macro for -fsanitize=thread, clang answers a question. */
#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define KETTLE_CLANG_TSAN 1
#endif
#endif
#ifndef KETTLE_CLANG_TSAN
#define KETTLE_CLANG_TSAN 0
#endif

static void print_version(void) {
    printf("Kettle server v=%s redis=%s malloc=%s bits=%d tls=%s\n", KETTLE_VERSION, REDIS_COMPAT_VERSION, mem_allocator_name(),
           (int)(sizeof(long) * 8), "yes");
}

static void print_usage(FILE *f) {
    fputs("Usage: kettle-server [/path/to/kettle.conf] [options] [-]\n"
          "       kettle-server - (read the configuration from standard input)\n"
          "       kettle-server -v or --version\n"
          "       kettle-server -h or --help\n\n"
          "Options are directives of the configuration file: --directive value [value ...].\n\n"
          "Examples:\n"
          "       kettle-server                                   (defaults)\n"
          "       echo 'maxmemory 128mb' | kettle-server -\n"
          "       kettle-server /etc/kettle/6379.conf\n"
          "       kettle-server --port 7777\n"
          "       kettle-server --port 0 --tls-port 6380 --tls-cert-file kettle.crt --tls-key-file kettle.key --tls-ca-cert-file "
          "ca.crt\n"
          "       kettle-server /etc/kettle.conf --loglevel verbose -\n",
          f);
}

static void register_commands(struct server *srv) {
    const struct cmd_spec *const families[] = {
        cmd_specs_connection, cmd_specs_acl,
        cmd_specs_client,     cmd_specs_server,
        cmd_specs_config,     cmd_specs_pubsub,
        cmd_specs_observe,    cmd_specs_snapshot,
        cmd_specs_migrate,    cmd_specs_replication,
        cmd_specs_replicaof,  cmd_specs_module,
        cmd_specs_cluster,    NULL,
    };
    srv->table = cmd_table_new();
    cmd_table_register_data(srv->table);
    for (int i = 0; families[i]; i++) cmd_table_register(srv->table, families[i]);
}

static int rename_commands(struct server *srv) {
    for (int i = 0; i < srv->cfg->n_renames; i++) {
        const struct cfg_rename *r = &srv->cfg->renames[i];
        int e = cmd_table_rename(srv->table, r->from, r->to);
        if (e == 0) continue;
        fprintf(stderr, "rename-command %s %s: %s\n", r->from, r->to,
                e == -ENOENT ? "No such command in rename-command" : "Target command name already exists");
        return e;
    }
    return 0;
}

static int make_engine(struct server *srv) {
#if defined(__SANITIZE_THREAD__) || KETTLE_CLANG_TSAN
    int n_shards = KS_MAX_SHARDS / 2; /* ThreadSanitizer's deadlock detector ends the process at 64 locks held */
#else
    int n_shards = KS_MAX_SHARDS;
#endif
    struct ks_opts o = {
        .n_dbs = (int)cfg_get(&srv->cfg->databases),
        .n_shards = n_shards,
        .hooks = { .arg = srv, .expired = notify_expired, .fields_expired = notify_fields_expired, .added = notify_added },
        .one_thread = cfg_get(&srv->cfg->io_threads) == 1
    };
    srv->ks = ks_new(&o);
    register_commands(srv);
    engine_init(&srv->eng, srv->ks, srv->table);
    srv->eng.server = srv;
    srv->eng.hooks.arg = srv;
    srv->eng.hooks.before = client_before_command;
    srv->eng.hooks.after = client_after_command;
    srv->eng.hooks.out_of_memory = client_out_of_memory;
    srv->eng.hooks.no_writes = refusal_of_write;
    srv->eng.hooks.is_stale = refusal_is_stale;
    srv->eng.hooks.notify = notify_keyspace;
    srv->eng.hooks.modified = tracking_modified;
    srv->eng.hooks.flushed = tracking_flushed;
    srv->eng.hooks.emptied = snapshot_flushed;
    srv->eng.hooks.read = tracking_read;
    srv->eng.hooks.propagate_unit = propagate_unit;
    srv->prop = propagate_new();
    srv->pubsub = pubsub_new();
    srv->tracking = tracking_new();
    srv->evict = evict_new();
    srv->children = children_new();
    srv->snapshot = snapshot_new();
    srv->loading = loading_new();
    srv->aof = aof_new(srv);
    srv->repl = repl_new(srv);
    srv->migrate = migrate_new();
    repl_link_new(srv);
    pthread_mutex_init(&srv->evict_lock, NULL);
    srv->eng.hooks.ran = observe_ran;
    srv->eng.hooks.show = monitor_show;
    observe_init(srv);
    srv->eng.hooks.wake = client_wake;
    srv->eng.hooks.applied = repl_apply_commit;
    srv->eng.hooks.denied = server_access_denied;
    acl_init(&srv->eng);
    return rename_commands(srv);
}

static int start_logging(struct config *cfg) {
    log_set_level((enum log_level)cfg_get(&cfg->loglevel));
    int r = log_set_file(cfg->logfile);
    if (r < 0) {
        fprintf(stderr, "Can't open the log file: %s\n", strerror(-r));
        return r;
    }
    if (cfg_get(&cfg->syslog_enabled)) log_set_syslog(true, cfg->syslog_ident, (int)cfg_get(&cfg->syslog_facility));
    return 0;
}

static int check_features(struct config *cfg);

/* TLS: say which path new connections will take, and what to do when it is not the kernel's. */
static int start_tls(struct server *srv) {
    struct config *cfg = srv->cfg;
    char err[512];
    tls_init(&srv->tls);
    const struct ktls_probe *p = &srv->tls.probe;
    bool wanted = cfg_get(&cfg->tls_port) || cfg_get(&cfg->tls_replication) || cfg_get(&cfg->tls_cluster);
    if (!wanted) return 0;
    if (cfg_get(&cfg->tls_ktls) == CFG_KTLS_YES && !p->usable) {
        log_warning("Fatal: tls-ktls is yes and this kernel (%s) cannot do TLS: %s (%s). %s", p->kernel,
                    ktls_reason_name(p->reason), strerror(p->err), ktls_reason_remedy(p->reason));
        return -EOPNOTSUPP;
    }
    const char *refusal = tls_refusal(&srv->tls, cfg);
    if (refusal) {
        log_warning("Fatal: %s", refusal);
        return -EINVAL;
    }
    int r = tls_load(&srv->tls, cfg, err, sizeof err);
    if (r) {
        log_warning("%s", err);
        log_warning("Failed to configure TLS. Check logs for more info.");
        return r;
    }
    if (cfg_get(&cfg->tls_ktls) == CFG_KTLS_NO) {
        log_notice("TLS: userspace (tls-ktls no)");
    } else if (tls_held_back(&srv->tls, cfg)) {
        log_notice("TLS: userspace (advisory)");
    } else if (cfg_get(&cfg->tls_ktls) == CFG_KTLS_TX && tls_kernel_sends(p)) {
        log_notice("TLS: kernel for what is sent (Linux %s encrypts, userspace decrypts%s)", p->kernel,
                   p->rekey == 0 ? "; KeyUpdate supported" : "; before Linux 6.14 a KeyUpdate that asks for another is not");
    } else if (p->usable) {
        log_notice("TLS: kernel (Linux %s encrypts and decrypts%s)", p->kernel,
                   p->rekey == 0 ? "; KeyUpdate supported" : "; no KeyUpdate before Linux 6.14");
    } else {
        log_warning("TLS: userspace, because the kernel %s cannot: %s (%s). %s", p->kernel, ktls_reason_name(p->reason),
                    strerror(p->err), ktls_reason_remedy(p->reason));
    }
    return 0;
}

static void log_start(struct server *srv, bool no_args) {
    log_notice("oO0OoO0OoO0Oo Kettle is starting oO0OoO0OoO0Oo");
    log_notice("Kettle version=%s, redis=%s, bits=%d, pid=%d, just started", KETTLE_VERSION, REDIS_COMPAT_VERSION,
               (int)(sizeof(long) * 8), (int)getpid());
    if (no_args) {
        log_warning("Warning: no config file specified, using the default config. In order to specify a config file use %s "
                    "/path/to/kettle.conf",
                    srv->argv[0]);
    } else {
        log_notice("Configuration loaded");
    }
}

static void log_initialized(struct server *srv) {
    log_notice("Server initialized (%d I/O thread%s, %s)", srv->n_threads, srv->n_threads == 1 ? "" : "s",
               loop_backend_name(srv->threads[0].loop));
    int refused = loop_uring_errno(srv->threads[0].loop);
    if (refused) log_notice("Event loop: epoll, because io_uring is not to be had here: %s", strerror(refused));
}

/* The data set is there. Thread 0. */
static void ready(struct server *srv) {
    struct config *cfg = srv->cfg;
    if (cfg_get(&cfg->port)) log_notice("Ready to accept connections tcp (port %lld)", (long long)cfg_get(&cfg->port));
    if (cfg_get(&cfg->tls_port)) log_notice("Ready to accept connections tls (port %lld)", (long long)cfg_get(&cfg->tls_port));
    if (cfg->unixsocket && *cfg->unixsocket) log_notice("Ready to accept connections unix (%s)", cfg->unixsocket);
    process_notify_ready(srv);
}

/* What others see of the server's end. Only I/O threads have ended for sure. */
static void end_files(struct server *srv) {
    if (srv->cfg->unixsocket && *srv->cfg->unixsocket) {
        log_notice("Removing the unix socket file.");
        unlink(srv->cfg->unixsocket);
    }
    child_cron(srv);
    repl_sync_remove_file(srv->repl, true);
    srv->aof = aof_free(srv->aof);
    process_remove_pidfile_at_exit(NULL);
}

static void tear_down(struct server *srv) {
    acl_done(&srv->eng);
    acl_log_done(&srv->acl_log);
    engine_done(&srv->eng);
    srv->table = cmd_table_free(srv->table);
    srv->ks = ks_free(srv->ks);
    srv->prop = propagate_free(srv->prop);
    srv->pubsub = pubsub_free(srv->pubsub);
    srv->tracking = tracking_free(srv->tracking);
    srv->evict = evict_free(srv->evict);
    srv->children = children_free(srv->children);
    srv->snapshot = snapshot_free(srv->snapshot);
    srv->loading = loading_free(srv->loading);
    srv->repl->link = repl_link_free(srv->repl->link);
    srv->repl = repl_free(srv->repl);
    srv->migrate = migrate_free(srv->migrate);
    pthread_mutex_destroy(&srv->evict_lock);
    observe_done(srv);
    tls_watch_stop(srv);
    tls_done(&srv->tls);
    srv->cfg = config_free(srv->cfg);
    mem_free(srv->exec_path);
    for (int i = 0; i < srv->argc; i++) mem_free(srv->argv[i]);
    mem_free(srv->argv);
}

static int handle_info_args(int argc, char **argv) {
    if (argc != 2 && !(argc >= 2 && (!strcmp(argv[1], "-v") || !strcmp(argv[1], "-h")))) return -1;
    if (!strcmp(argv[1], "-v") || !strcmp(argv[1], "--version")) {
        print_version();
        return 0;
    }
    if (!strcmp(argv[1], "-h") || !strcmp(argv[1], "--help")) {
        print_usage(stdout);
        return 0;
    }
    return -1;
}

static void init_server(struct server *srv, int argc, char **argv) {
    char path[PATH_MAX];
    srv->start_mono_us = clock_mono_us();
    srv->start_wall_ms = clock_wall_ms();
    rand_hex_id(srv->run_id, 40);
    atomic_store(&srv->next_client_id, 1);
    acl_log_init(&srv->acl_log);
    pthread_mutex_init(&srv->pause_lock, NULL);
    pthread_mutex_init(&srv->config_set_lock, NULL);
    srv->argc = argc;
    srv->argv = mem_calloc((size_t)argc + 1, sizeof *srv->argv);
    for (int i = 0; i < argc; i++) srv->argv[i] = mem_strdup(argv[i]);
    ssize_t n = readlink("/proc/self/exe", path, sizeof path - 1);
    if (n > 0) {
        path[n] = 0;
        srv->exec_path = mem_strdup(path);
    }
}

static void set_pidfile(struct config *cfg, bool daemon) {
    const char *path = cfg->pidfile && *cfg->pidfile ? cfg->pidfile : NULL;
    if (!path && daemon) path = "/var/run/redis.pid";
    if (!path) return;
    int r = process_write_pidfile(path);
    if (r < 0) {
        log_warning("Failed to write PID file: %s", strerror(-r));
    } else {
        process_remove_pidfile_at_exit(path);
    }
}

static int start(struct server *srv, bool no_args) {
    struct config *cfg = srv->cfg;
    int r = start_logging(cfg);
    if (r < 0) return r;
    process_supervise(srv);
    bool daemon = cfg_get(&cfg->daemonize) && srv->supervised == CFG_SUPERVISED_NO;
    if (daemon) process_daemonize();
    log_start(srv, no_args);
    if (cfg_get(&cfg->crash_log_enabled)) crash_install("Kettle " KETTLE_VERSION);
    if ((r = process_raise_nofile(srv)) < 0) return r;
    process_disable_thp(srv);
    process_set_cpus(srv);
    if ((r = check_features(cfg)) < 0 || (r = make_engine(srv)) < 0) return r;
    server_apply_all(srv);
    process_set_oom_score(srv);
    if (!server_apply_locale(srv)) {
        bool is_chosen = cfg->locale_collate && *cfg->locale_collate;
        log_warning("%s: SORT ALPHA%s",
                    is_chosen ? "Fatal: locale-collate is invalid" : "The environment names an unknown locale",
                    is_chosen ? " would have no order" : " is in the order of bytes");
        if (is_chosen) return -EINVAL;
    }
    if ((r = server_acl_start(srv)) < 0) return r;
    process_banner(srv);
    if ((r = start_tls(srv)) < 0 || (r = io_threads_init(srv, (int)cfg_get(&cfg->io_threads))) < 0) return r;
    if ((r = io_threads_listen(srv)) < 0) return r;
    process_check_backlog(srv);
    set_pidfile(cfg, daemon);
    process_title_set(srv);
    process_signals(srv);
    atomic_store(&srv->stats.startup_memory, (int64_t)mem_used());
    return 0;
}

int main(int argc, char **argv) {
    mem_thread_begin();
    static struct server server; /* one; handed down, not reached for */
    struct server *srv = &server;
    int r = handle_info_args(argc, argv);
    if (r >= 0) return r;
    hash_seed_init();
    clock_init();
    init_server(srv, argc, argv);
    srv->cfg = config_new();
    if (config_load_args(srv->cfg, argc, argv) < 0) return 1;
    process_title_init(argc, argv);
    if (start(srv, argc == 1) < 0) return 1;
    repl_link_start(srv);
    log_initialized(srv);
    loading_start(srv, ready); /* before anybody is served: what is written to an empty data set would be lost */
    io_threads_start(srv);
    io_thread_run(&srv->threads[0]);
    bool have_ended = repl_link_stop(srv);
    loading_join(srv);
    have_ended &= migrate_wait(srv);
    io_threads_join(srv);
    int status = srv->exit_status;
    end_files(srv);
    if (!have_ended) {
        /* A name that is looked up, a host that does not answer: the thread would find freed memory, libraries' too (exit(3)). */
        log_notice("A connection to another server is still being made. Exiting without it.");
        log_warning("Kettle is now ready to exit, bye bye...");
        _exit(status);
    }
    tear_down(srv);
    log_warning("Kettle is now ready to exit, bye bye...");
    return status;
}

/* A directive that promises durability or a topology this version does not have must not be taken silently. */
static int check_features(struct config *cfg) {
    static const char *const refused[] = { "cluster-enabled", NULL };
    for (int i = 0; refused[i]; i++) {
        char *v = config_other_dup(cfg, refused[i]);
        bool on = v && !strcasecmp(v, "yes");
        mem_free(v);
        if (!on) continue;
        log_warning("Fatal: %s yes is not available in this version of Kettle.", refused[i]);
        return -EOPNOTSUPP;
    }
    return 0;
}
