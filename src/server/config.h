/*
 * Configuration: redis.conf directives, from file, standard input, command line and CONFIG SET; CONFIG GET and REWRITE.
 *
 * One table (config_table.c) has a line per directive: name, alias, type, default, limits, flags. Numbers, booleans and enums are
 * relaxed atomics that any thread may read. Strings are read by config_str_dup() or under config_lock: CONFIG SET replaces them.
 * `struct config` is made by the main thread, changed by the I/O thread that runs CONFIG SET (under the lock, one CONFIG SET at a
 * time), freed at exit.
 */
#ifndef KETTLE_SERVER_CONFIG_H
#define KETTLE_SERVER_CONFIG_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/slice.h"

typedef _Atomic int64_t cfg_int; /* numbers, memory sizes (bytes), booleans (0/1), enums */

#define CONFIG_MAX_BIND 16
#define CONFIG_MAX_SAVE 32
enum { OBL_NORMAL = 0, OBL_REPLICA = 1, OBL_PUBSUB = 2, OBL_CLASSES = 3 };

struct config {
    pthread_mutex_t lock; /* strings and lists; order: after shard locks, before the log */

    /* network */
    cfg_int port, tls_port, tcp_backlog, tcp_keepalive, timeout, maxclients, protected_mode,
        unixsocketperm /* octal, 0: not set */;
    char *unixsocket;
    char *bind[CONFIG_MAX_BIND]; /* in order; a leading '-' means: not available is no error */
    int n_bind;
    char *bind_source_addr;
    cfg_int socket_mark_id, max_new_tls_connections_per_cycle, max_new_connections_per_cycle;
    /* TLS */
    char *tls_cert_file, *tls_key_file, *tls_key_file_pass, *tls_client_cert_file, *tls_client_key_file,
        *tls_client_key_file_pass;
    char *tls_dh_params_file, *tls_ca_cert_file, *tls_ca_cert_dir, *tls_protocols, *tls_ciphers, *tls_ciphersuites;
    cfg_int tls_auth_clients; /* 0 no, 1 yes, 2 optional */
    cfg_int tls_prefer_server_ciphers, tls_session_caching, tls_session_cache_size, tls_session_cache_timeout, tls_replication,
        tls_cluster;
    cfg_int tls_ktls;                   /* enum cfg_tls_ktls */
    cfg_int tls_handshake_timeout;      /* seconds; 0: none */
    cfg_int tls_ktls_accept_advisories; /* tls-ktls auto: the kernel although it has a hole that a peer can use */
    cfg_int ktls_rekey_after_records, tls_ktls_on_old_kernel;
    char *tls_key_log_file;        /* debugging only */
    char *tls_session_ticket_keys; /* file or directory; NULL: in memory */
    cfg_int tls_session_ticket_rotation /* seconds */, tls_session_tickets;
    char *tls_alt_cert_file, *tls_alt_key_file, *tls_alt_key_file_pass, *tls_crl_file, *tls_groups;
    cfg_int tls_auto_reload_interval; /* seconds; 0: off */
    cfg_int tls_auth_clients_user;    /* enum ktls_peer_user */
    cfg_int tls_prefer_chacha;        /* enum ktls_chacha */
    /* process */
    cfg_int daemonize, supervised, io_threads, databases, hz, dynamic_hz, always_show_logo, set_proc_title, loglevel,
        syslog_enabled, syslog_facility, crash_log_enabled, crash_memcheck_enabled, disable_thp, event_loop, shutdown_timeout,
        use_exit_on_panic, oom_score_adj /* enum cfg_oom_score_adj */;
    char *pidfile, *logfile, *syslog_ident, *dir, *proc_title_template, *locale_collate;
    /* clients */
    cfg_int proto_max_bulk_len, client_query_buffer_limit, maxmemory_clients, tracking_table_max_keys;
    struct {
        cfg_int hard, soft, soft_seconds;
    } obuf_limit[OBL_CLASSES];
    char *requirepass;
    cfg_int enable_debug_command, enable_protected_configs, enable_module_command; /* 0 no, 1 yes, 2 local */
    /* memory */
    cfg_int maxmemory, maxmemory_samples, maxmemory_eviction_tenacity, maxmemory_policy /* enum as Redis's */, lfu_log_factor,
        lfu_decay_time, lazyfree_lazy_eviction, lazyfree_lazy_expire, lazyfree_lazy_server_del, lazyfree_lazy_user_del,
        lazyfree_lazy_user_flush, active_expire_effort, activerehashing, jemalloc_bg_thread;
    /* encodings: data/limits.h */
    cfg_int hash_max_listpack_entries, hash_max_listpack_value, list_max_listpack_size, list_compress_depth,
        set_max_intset_entries, set_max_listpack_entries, set_max_listpack_value, zset_max_listpack_entries,
        zset_max_listpack_value, hll_sparse_max_bytes, stream_node_max_bytes, stream_node_max_entries;
    /* statistics */
    cfg_int busy_reply_threshold; /* ms */
    cfg_int slowlog_log_slower_than, slowlog_max_len, latency_tracking, latency_monitor_threshold;
    cfg_int notify_keyspace_events; /* config_event_bit()s */
    double latency_percentiles[16];
    int n_latency_percentiles;
    /* persistence */
    cfg_int rdbcompression, rdbchecksum, rdb_save_incremental_fsync, rdb_del_sync_files, stop_writes_on_bgsave_error,
        sanitize_dump_payload, key_load_delay /* us, for tests */, rdb_key_save_delay, appendonly, appendfsync,
        no_appendfsync_on_rewrite, auto_aof_rewrite_percentage, auto_aof_rewrite_min_size, aof_load_truncated,
        aof_use_rdb_preamble, aof_timestamp_enabled, aof_rewrite_incremental_fsync, aof_disable_auto_gc,
        propagation_error_behavior;
    struct cfg_save { /* save points: n_save of them */
        int64_t seconds, changes;
    } save[CONFIG_MAX_SAVE];
    cfg_int n_save;
    char *dbfilename, *appendfilename, *appenddirname;
    /* replication */
    cfg_int replica_ignore_disk_write_errors, replica_announced, repl_diskless_sync, repl_diskless_sync_delay,
        repl_diskless_sync_max_replicas, repl_diskless_load, repl_timeout, repl_disable_tcp_nodelay, repl_backlog_size,
        repl_backlog_ttl, replica_serve_stale_data, replica_read_only, replica_ignore_maxmemory, replica_priority,
        replica_announce_port, repl_ping_replica_period, min_replicas_to_write, min_replicas_max_lag, replica_lazy_flush;
    char *masterauth, *masteruser, *replica_announce_ip;
    /* everything of redis.conf whose subsystem is not part of this build yet: known, checked for type, kept for GET and REWRITE.
     * Index: the directive's place in the table. */
    char **other;

    char *config_file; /* absolute path, or NULL */
    char *executable;  /* absolute path */
    /* rename-command pairs, in order; applied once at start-up */
    struct cfg_rename {
        char *from, *to;
    } * renames;
    int n_renames;
    /* ACL: `user` directives in order, until they have been carried out; aclfile is set once, before the threads */
    struct cfg_user {
        char *name;
        struct buf *rules; /* acl_rules_merge's */
        int n_rules;
    } * users;
    int n_users;
    char *aclfile;
    cfg_int acllog_max_len, acl_pubsub_default; /* 1: allchannels */
};

enum cfg_tls_ktls { CFG_KTLS_AUTO = 0, CFG_KTLS_YES, CFG_KTLS_NO, CFG_KTLS_TX };
enum cfg_maxmemory_policy {
    CFG_NOEVICTION = 0,
    CFG_VOLATILE_LRU,
    CFG_VOLATILE_LFU,
    CFG_VOLATILE_RANDOM,
    CFG_VOLATILE_TTL,
    CFG_ALLKEYS_LRU,
    CFG_ALLKEYS_LFU,
    CFG_ALLKEYS_RANDOM
};
enum cfg_fsync { CFG_FSYNC_NO = 0, CFG_FSYNC_EVERYSEC, CFG_FSYNC_ALWAYS };
enum cfg_diskless_load { CFG_DISKLESS_LOAD_DISABLED = 0, CFG_DISKLESS_LOAD_EMPTY, CFG_DISKLESS_LOAD_SWAPDB };
enum cfg_supervised { CFG_SUPERVISED_NO = 0, CFG_SUPERVISED_UPSTART, CFG_SUPERVISED_SYSTEMD, CFG_SUPERVISED_AUTO };
enum cfg_oom_score_adj { CFG_OOM_NO = 0, CFG_OOM_RELATIVE, CFG_OOM_ABSOLUTE };
enum cfg_propagation_error { CFG_PROPAGATION_IGNORE = 0, CFG_PROPAGATION_PANIC, CFG_PROPAGATION_PANIC_ON_REPLICAS };
enum cfg_event_loop { CFG_LOOP_AUTO = 0, CFG_LOOP_EPOLL, CFG_LOOP_URING };

struct config *config_new(void);              /* Redis 7.2's defaults; io-threads: number of cores, at most 8 */
struct config *config_free(struct config *c); /* wipes passwords */

/* redis-server's command line: [file | -] [--directive value ...]; file "-" is standard input; --name may be followed by several
 * values; also `--port=1`-less forms as Redis takes them
 * ("--save ''", "--bind a b"). Prints Redis's "*** FATAL CONFIG FILE ERROR (Redis 7.2.4) ***" block on standard error and gives
 * -EINVAL when something is wrong. */
int config_load_args(struct config *c, int argc, char **argv);

/* What CONFIG SET asks of the running server once the new values are stored. Returns NULL when done, or an error text (static or
 * thread-local), with the name it is about in *ret_blamed: then every directive of the call is put back and apply is called again
 * for what had been applied. Called with
 * the CONFIG SET lock held, not c->lock. name: canonical directive name. */
struct config_apply {
    void *arg;
    const char *(*apply)(void *arg, const char *const *names, int n, const char **ret_blamed);
};

/* CONFIG GET: fn for every directive whose name or alias matches one of the patterns, sorted by name. */
void config_get(struct config *c, int n_patterns, const struct slice *patterns,
                void (*fn)(void *arg, const char *name, struct slice value), void *arg);
/* CONFIG SET name value [name value ...], all or nothing. 0 or -EINVAL with the text of Redis's error reply in err. */
int config_set(struct config *c, int n_pairs, const struct slice *pairs, const struct config_apply *apply, char *err,
               size_t errlen);
/* CONFIG REWRITE: keeps comments and order of the file, writes a temporary file beside it, fsync, rename. users: the lines of
 * `user` directives, in place of the file's. 0 or -errno; -ENOENT without a config file. */
int config_rewrite(struct config *c, struct slice users);
/* The file's text is replaced as a whole or not at all, crash or no crash. mode: of a file that is not there yet. 0 or -errno. */
int config_replace_file(const char *path, const struct buf *text, unsigned mode);
void config_drop_users(struct config *c);

char *config_str_dup(struct config *c,
                     char *const *field); /* copy under the lock, NULL when the field is NULL or ""; caller frees */
/* Value of a directive kept in `other`, as text; NULL when not set or not such a one. Caller frees. */
char *config_other_dup(struct config *c, const char *name);
/* Such a one follows what a command has done (REPLICAOF): CONFIG GET and REWRITE show it. Any thread. */
void config_other_set(struct config *c, const char *name, const char *text);
/* One parser entry point for the fuzz target: applies text as a config file. 0 or -EINVAL with err. */
int config_load_text(struct config *c, const char *text, size_t len, char *err, size_t errlen);

/* The bit of an event class in notify_keyspace_events, by its letter; 0: none. */
unsigned config_event_bit(char letter);

static inline int64_t cfg_get(const cfg_int *v) {
    return atomic_load_explicit((cfg_int *)(uintptr_t)v, memory_order_relaxed);
}

#endif
