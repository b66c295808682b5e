/*
 * The directives: all of redis.conf 7.2, and Kettle's own (tls-ktls and others that begin with tls- or ktls-, event-loop). Those
 * whose subsystem is not part of this build are known, checked and kept (NO_FIELD), so that a stock redis.conf loads and CONFIG
 * GET/REWRITE tell the truth about it.
 */
#include <limits.h>
#include <stddef.h>
#include <syslog.h>

#include "base/log.h"
#include "ktls/ktls.h"
#include "server/config_priv.h"

#define F(field) offsetof(struct config, field)
#define BOOLD(n, field, d, fl)                                                                                                   \
    { .name = n, .kind = DIR_BOOL, .off = field, .def = d, .flags = fl }
#define INTD(n, field, lo, hi, d, fl)                                                                                            \
    { .name = n, .kind = DIR_INT, .off = field, .min = lo, .max = hi, .def = d, .flags = fl }
#define MEMD(n, field, lo, hi, d, fl)                                                                                            \
    { .name = n, .kind = DIR_MEM, .off = field, .min = lo, .max = hi, .def = d, .flags = fl }
#define ENUMD(n, field, en, d, fl)                                                                                               \
    { .name = n, .kind = DIR_ENUM, .off = field, .names = en, .def = d, .flags = fl }
#define STRD(n, field, d, fl)                                                                                                    \
    { .name = n, .kind = DIR_STR, .off = field, .def = d, .flags = fl }
#define ALIAS(a, ...)                                                                                                            \
    { .alias = a, __VA_ARGS__ }
#define I DIR_IMMUTABLE

static const struct dir_enum loglevels[] = { { "debug", LOG_LEVEL_DEBUG },     { "verbose", LOG_LEVEL_VERBOSE },
                                             { "notice", LOG_LEVEL_NOTICE },   { "warning", LOG_LEVEL_WARNING },
                                             { "nothing", LOG_LEVEL_NOTHING }, { 0 } };
static const struct dir_enum facilities[] = { { "user", LOG_USER },     { "local0", LOG_LOCAL0 },
                                              { "local1", LOG_LOCAL1 }, { "local2", LOG_LOCAL2 },
                                              { "local3", LOG_LOCAL3 }, { "local4", LOG_LOCAL4 },
                                              { "local5", LOG_LOCAL5 }, { "local6", LOG_LOCAL6 },
                                              { "local7", LOG_LOCAL7 }, { 0 } };
static const struct dir_enum auth_clients[] = { { "no", 0 }, { "yes", 1 }, { "optional", 2 }, { 0 } };
static const struct dir_enum ktls_modes[] = {
    { "auto", CFG_KTLS_AUTO }, { "yes", CFG_KTLS_YES }, { "no", CFG_KTLS_NO }, { "tx", CFG_KTLS_TX }, { 0 }
};
/* CN and URI are the names of Redis 8.6 and Valkey 9 */
static const struct dir_enum auth_clients_user[] = { { "off", KTLS_PEER_USER_OFF },
                                                     { "CN", KTLS_PEER_USER_CN },
                                                     { "URI", KTLS_PEER_USER_URI },
                                                     { "san-uri", KTLS_PEER_USER_URI },
                                                     { 0 } };
static const struct dir_enum chacha_modes[] = {
    { "auto", KTLS_CHACHA_AUTO }, { "yes", KTLS_CHACHA_FIRST }, { "no", KTLS_CHACHA_LISTED }, { 0 }
};
static const struct dir_enum old_kernels[] = { { "offload", KTLS_OLD_KERNEL_OFFLOAD },
                                               { "userspace", KTLS_OLD_KERNEL_USERSPACE },
                                               { 0 } };
static const struct dir_enum loops[] = {
    { "auto", CFG_LOOP_AUTO }, { "epoll", CFG_LOOP_EPOLL }, { "uring", CFG_LOOP_URING }, { 0 }
};
static const struct dir_enum supervisors[] = { { "no", CFG_SUPERVISED_NO },
                                               { "upstart", CFG_SUPERVISED_UPSTART },
                                               { "systemd", CFG_SUPERVISED_SYSTEMD },
                                               { "auto", CFG_SUPERVISED_AUTO },
                                               { 0 } };
static const struct dir_enum protections[] = { { "no", 0 }, { "yes", 1 }, { "local", 2 }, { 0 } };
static const struct dir_enum policies[] = {
    { "volatile-lru", CFG_VOLATILE_LRU },     { "volatile-lfu", CFG_VOLATILE_LFU }, { "volatile-random", CFG_VOLATILE_RANDOM },
    { "volatile-ttl", CFG_VOLATILE_TTL },     { "allkeys-lru", CFG_ALLKEYS_LRU },   { "allkeys-lfu", CFG_ALLKEYS_LFU },
    { "allkeys-random", CFG_ALLKEYS_RANDOM }, { "noeviction", CFG_NOEVICTION },     { 0 }
};
static const struct dir_enum fsyncs[] = {
    { "everysec", CFG_FSYNC_EVERYSEC }, { "always", CFG_FSYNC_ALWAYS }, { "no", CFG_FSYNC_NO }, { 0 }
};
static const struct dir_enum sanitize[] = { { "no", 0 }, { "yes", 1 }, { "clients", 2 }, { 0 } };
static const struct dir_enum diskless_load[] = { { "disabled", CFG_DISKLESS_LOAD_DISABLED },
                                                 { "on-empty-db", CFG_DISKLESS_LOAD_EMPTY },
                                                 { "swapdb", CFG_DISKLESS_LOAD_SWAPDB },
                                                 { 0 } };
static const struct dir_enum oom_modes[] = {
    { "no", CFG_OOM_NO }, { "yes", CFG_OOM_RELATIVE }, { "relative", CFG_OOM_RELATIVE }, { "absolute", CFG_OOM_ABSOLUTE }, { 0 }
};
static const struct dir_enum acl_defaults[] = { { "allchannels", 1 }, { "resetchannels", 0 }, { 0 } };
static const struct dir_enum endpoint_types[] = { { "ip", 0 }, { "hostname", 1 }, { "unknown-endpoint", 2 }, { 0 } };
static const struct dir_enum propagation[] = { { "ignore", CFG_PROPAGATION_IGNORE },
                                               { "panic", CFG_PROPAGATION_PANIC },
                                               { "panic-on-replicas", CFG_PROPAGATION_PANIC_ON_REPLICAS },
                                               { 0 } };

const struct directive directives[] = {
    /* network */
    { .name = "bind", .kind = DIR_BIND, .flags = DIR_MULTI_ARG, .off = NO_FIELD, .def = "* -::*" },
    INTD("port", F(port), 0, 65535, "6379", 0),
    INTD("tls-port", F(tls_port), 0, 65535, "0", 0),
    INTD("tcp-backlog", F(tcp_backlog), 0, INT_MAX, "511", I),
    INTD("tcp-keepalive", F(tcp_keepalive), 0, INT_MAX, "300", 0),
    INTD("timeout", F(timeout), 0, INT_MAX, "0", 0),
    INTD("maxclients", F(maxclients), 1, UINT_MAX, "10000", 0),
    BOOLD("protected-mode", F(protected_mode), "yes", 0),
    STRD("unixsocket", F(unixsocket), NULL, I),
    { .name = "unixsocketperm", .kind = DIR_OCTAL, .off = F(unixsocketperm), .min = 0, .max = 0777, .def = "0", .flags = I },
    STRD("bind-source-addr", F(bind_source_addr), NULL, 0),
    INTD("socket-mark-id", F(socket_mark_id), 0, UINT_MAX, "0", I),
    INTD("max-new-connections-per-cycle", F(max_new_connections_per_cycle), 1, 1000, "10", 0),
    INTD("max-new-tls-connections-per-cycle", F(max_new_tls_connections_per_cycle), 1, 1000, "1", 0),
    /* TLS */
    STRD("tls-cert-file", F(tls_cert_file), NULL, 0),
    STRD("tls-key-file", F(tls_key_file), NULL, 0),
    STRD("tls-key-file-pass", F(tls_key_file_pass), NULL, DIR_SECRET),
    STRD("tls-client-cert-file", F(tls_client_cert_file), NULL, 0),
    STRD("tls-client-key-file", F(tls_client_key_file), NULL, 0),
    STRD("tls-client-key-file-pass", F(tls_client_key_file_pass), NULL, DIR_SECRET),
    STRD("tls-dh-params-file", F(tls_dh_params_file), NULL, 0),
    STRD("tls-ca-cert-file", F(tls_ca_cert_file), NULL, 0),
    STRD("tls-ca-cert-dir", F(tls_ca_cert_dir), NULL, 0),
    STRD("tls-protocols", F(tls_protocols), NULL, DIR_MULTI_ARG),
    STRD("tls-ciphers", F(tls_ciphers), NULL, 0),
    STRD("tls-ciphersuites", F(tls_ciphersuites), NULL, 0),
    ENUMD("tls-auth-clients", F(tls_auth_clients), auth_clients, "yes", 0),
    BOOLD("tls-prefer-server-ciphers", F(tls_prefer_server_ciphers), "no", 0),
    BOOLD("tls-session-caching", F(tls_session_caching), "yes", 0),
    INTD("tls-session-cache-size", F(tls_session_cache_size), 0, INT_MAX, "20480", 0),
    INTD("tls-session-cache-timeout", F(tls_session_cache_timeout), 0, INT_MAX, "300", 0),
    BOOLD("tls-replication", F(tls_replication), "no", 0),
    BOOLD("tls-cluster", F(tls_cluster), "no", 0),
    ENUMD("tls-ktls", F(tls_ktls), ktls_modes, "auto", 0),
    INTD("tls-handshake-timeout", F(tls_handshake_timeout), 0, 86400, "10", 0),
    STRD("tls-session-ticket-keys", F(tls_session_ticket_keys), NULL, 0),
    INTD("tls-session-ticket-rotation", F(tls_session_ticket_rotation), 1, 31536000, "3600", 0),
    INTD("tls-session-tickets", F(tls_session_tickets), 0, 8, "2", 0),
    STRD("tls-alt-cert-file", F(tls_alt_cert_file), NULL, 0),
    STRD("tls-alt-key-file", F(tls_alt_key_file), NULL, 0),
    STRD("tls-alt-key-file-pass", F(tls_alt_key_file_pass), NULL, DIR_SECRET),
    { .name = "tls-sni-cert", .kind = DIR_LIST, .off = NO_FIELD, .min = 3, .flags = DIR_MULTI_ARG },
    { .name = "tls-ocsp-file", .kind = DIR_LIST, .off = NO_FIELD, .min = 1, .flags = DIR_MULTI_ARG },
    STRD("tls-crl-file", F(tls_crl_file), NULL, 0),
    STRD("tls-groups", F(tls_groups), NULL, 0),
    INTD("tls-auto-reload-interval", F(tls_auto_reload_interval), 0, INT_MAX, "0", 0),
    ENUMD("tls-auth-clients-user", F(tls_auth_clients_user), auth_clients_user, "off", 0),
    ENUMD("tls-prefer-chacha", F(tls_prefer_chacha), chacha_modes, "auto", 0),
    BOOLD("tls-ktls-accept-advisories", F(tls_ktls_accept_advisories), "no", 0),
    STRD("tls-key-log-file", F(tls_key_log_file), NULL, DIR_PROTECTED),
    INTD("ktls-rekey-after-records", F(ktls_rekey_after_records), 0, UINT_MAX, "0", 0),
    ENUMD("tls-ktls-on-old-kernel", F(tls_ktls_on_old_kernel), old_kernels, "offload", 0),
    /* process */
    BOOLD("daemonize", F(daemonize), "no", I),
    ENUMD("supervised", F(supervised), supervisors, "no", I),
    INTD("io-threads", F(io_threads), 1, 64, "1", I), /* the default is set by config_new: cores, at most 8 */
    BOOLD("io-threads-do-reads", NO_FIELD, "yes", I),
    INTD("databases", F(databases), 1, 16384, "16", I),
    INTD("hz", F(hz), 1, 500, "10", 0),
    BOOLD("dynamic-hz", F(dynamic_hz), "yes", 0),
    BOOLD("always-show-logo", F(always_show_logo), "no", I),
    BOOLD("set-proc-title", F(set_proc_title), "yes", I),
    STRD("proc-title-template", F(proc_title_template), "{title} {listen-addr} {server-mode}", 0),
    STRD("locale-collate", F(locale_collate), "", 0),
    ENUMD("loglevel", F(loglevel), loglevels, "notice", 0),
    STRD("logfile", F(logfile), "", I),
    BOOLD("syslog-enabled", F(syslog_enabled), "no", I),
    STRD("syslog-ident", F(syslog_ident), "redis", I),
    ENUMD("syslog-facility", F(syslog_facility), facilities, "local0", I),
    BOOLD("crash-log-enabled", F(crash_log_enabled), "yes", 0),
    BOOLD("crash-memcheck-enabled", F(crash_memcheck_enabled), "yes", 0),
    BOOLD("disable-thp", F(disable_thp), "yes", I),
    BOOLD("use-exit-on-panic", F(use_exit_on_panic), "no", 0),
    STRD("pidfile", F(pidfile), NULL, I),
    STRD("dir", F(dir), NULL, DIR_PROTECTED),
    ENUMD("event-loop", F(event_loop), loops, "auto", I),
    INTD("shutdown-timeout", F(shutdown_timeout), 0, INT_MAX, "10", 0),
    { .name = "shutdown-on-sigint", .kind = DIR_WORDS, .off = NO_FIELD, .def = "default", .flags = DIR_MULTI_ARG },
    { .name = "shutdown-on-sigterm", .kind = DIR_WORDS, .off = NO_FIELD, .def = "default", .flags = DIR_MULTI_ARG },
    ALIAS("server_cpulist", .name = "server-cpulist", .kind = DIR_STR, .off = NO_FIELD, .def = "", .flags = I),
    ALIAS("bio_cpulist", .name = "bio-cpulist", .kind = DIR_STR, .off = NO_FIELD, .def = "", .flags = I),
    ALIAS("aof_rewrite_cpulist", .name = "aof-rewrite-cpulist", .kind = DIR_STR, .off = NO_FIELD, .def = "", .flags = I),
    ALIAS("bgsave_cpulist", .name = "bgsave-cpulist", .kind = DIR_STR, .off = NO_FIELD, .def = "", .flags = I),
    /* clients */
    MEMD("proto-max-bulk-len", F(proto_max_bulk_len), 1024 * 1024, LONG_MAX, "536870912", 0),
    MEMD("client-query-buffer-limit", F(client_query_buffer_limit), 1024 * 1024, LONG_MAX, "1073741824", 0),
    { .name = "client-output-buffer-limit",
      .kind = DIR_OBUF_LIMIT,
      .off = NO_FIELD,
      .flags = DIR_MULTI_ARG,
      .def = "normal 0 0 0 slave 268435456 67108864 60 pubsub 33554432 8388608 60" },
    MEMD("maxmemory-clients", F(maxmemory_clients), -100, LONG_MAX, "0", DIR_PERCENT),
    INTD("tracking-table-max-keys", F(tracking_table_max_keys), 0, LONG_MAX, "1000000", 0),
    STRD("requirepass", F(requirepass), NULL, DIR_SECRET),
    ENUMD("enable-debug-command", F(enable_debug_command), protections, "no", I),
    ENUMD("enable-protected-configs", F(enable_protected_configs), protections, "no", I),
    ENUMD("enable-module-command", F(enable_module_command), protections, "no", I),
    /* memory */
    MEMD("maxmemory", F(maxmemory), 0, LONG_MAX, "0", 0),
    ENUMD("maxmemory-policy", F(maxmemory_policy), policies, "noeviction", 0),
    INTD("maxmemory-samples", F(maxmemory_samples), 1, 64, "5", 0),
    INTD("maxmemory-eviction-tenacity", F(maxmemory_eviction_tenacity), 0, 100, "10", 0),
    INTD("lfu-log-factor", F(lfu_log_factor), 0, INT_MAX, "10", 0),
    INTD("lfu-decay-time", F(lfu_decay_time), 0, INT_MAX, "1", 0),
    BOOLD("lazyfree-lazy-eviction", F(lazyfree_lazy_eviction), "no", 0),
    BOOLD("lazyfree-lazy-expire", F(lazyfree_lazy_expire), "no", 0),
    BOOLD("lazyfree-lazy-server-del", F(lazyfree_lazy_server_del), "no", 0),
    BOOLD("lazyfree-lazy-user-del", F(lazyfree_lazy_user_del), "no", 0),
    BOOLD("lazyfree-lazy-user-flush", F(lazyfree_lazy_user_flush), "no", 0),
    ALIAS("slave-lazy-flush", .name = "replica-lazy-flush", .kind = DIR_BOOL, .off = F(replica_lazy_flush), .def = "no"),
    INTD("active-expire-effort", F(active_expire_effort), 1, 10, "1", 0),
    BOOLD("activerehashing", F(activerehashing), "yes", 0),
    BOOLD("activedefrag", NO_FIELD, "no", 0),
    MEMD("active-defrag-ignore-bytes", NO_FIELD, 1, LONG_MAX, "104857600", 0),
    INTD("active-defrag-threshold-lower", NO_FIELD, 0, 1000, "10", 0),
    INTD("active-defrag-threshold-upper", NO_FIELD, 0, 1000, "100", 0),
    INTD("active-defrag-cycle-min", NO_FIELD, 1, 99, "1", 0),
    INTD("active-defrag-cycle-max", NO_FIELD, 1, 99, "25", 0),
    INTD("active-defrag-max-scan-fields", NO_FIELD, 1, LONG_MAX, "1000", 0),
    BOOLD("jemalloc-bg-thread", F(jemalloc_bg_thread), "yes", 0),
    ENUMD("oom-score-adj", F(oom_score_adj), oom_modes, "no", 0),
    { .name = "oom-score-adj-values", .kind = DIR_WORDS, .off = NO_FIELD, .def = "0 200 800", .flags = DIR_MULTI_ARG },
    /* statistics */
    INTD("slowlog-log-slower-than", F(slowlog_log_slower_than), -1, LONG_MAX, "10000", 0),
    INTD("slowlog-max-len", F(slowlog_max_len), 0, LONG_MAX, "128", 0),
    BOOLD("latency-tracking", F(latency_tracking), "yes", 0),
    INTD("latency-monitor-threshold", F(latency_monitor_threshold), 0, LONG_MAX, "0", 0),
    { .name = "latency-tracking-info-percentiles",
      .kind = DIR_PERCENTILES,
      .off = NO_FIELD,
      .def = "50 99 99.9",
      .flags = DIR_MULTI_ARG },
    /* encodings, scripts, notifications, ACL */
    ALIAS("hash-max-ziplist-entries", .name = "hash-max-listpack-entries", .kind = DIR_INT, .off = F(hash_max_listpack_entries),
          .max = LONG_MAX, .def = "512"),
    ALIAS("hash-max-ziplist-value", .name = "hash-max-listpack-value", .kind = DIR_MEM, .off = F(hash_max_listpack_value),
          .max = LONG_MAX, .def = "64"),
    ALIAS("list-max-ziplist-size", .name = "list-max-listpack-size", .kind = DIR_INT, .off = F(list_max_listpack_size),
          .min = INT_MIN, .max = INT_MAX, .def = "-2"),
    INTD("list-compress-depth", F(list_compress_depth), 0, INT_MAX, "0", 0),
    INTD("set-max-intset-entries", F(set_max_intset_entries), 0, LONG_MAX, "512", 0),
    INTD("set-max-listpack-entries", F(set_max_listpack_entries), 0, LONG_MAX, "128", 0),
    INTD("set-max-listpack-value", F(set_max_listpack_value), 0, LONG_MAX, "64", 0),
    ALIAS("zset-max-ziplist-entries", .name = "zset-max-listpack-entries", .kind = DIR_INT, .off = F(zset_max_listpack_entries),
          .max = LONG_MAX, .def = "128"),
    ALIAS("zset-max-ziplist-value", .name = "zset-max-listpack-value", .kind = DIR_MEM, .off = F(zset_max_listpack_value),
          .max = LONG_MAX, .def = "64"),
    MEMD("hll-sparse-max-bytes", F(hll_sparse_max_bytes), 0, LONG_MAX, "3000", 0),
    MEMD("stream-node-max-bytes", F(stream_node_max_bytes), 0, LONG_MAX, "4096", 0),
    INTD("stream-node-max-entries", F(stream_node_max_entries), 0, LONG_MAX, "100", 0),
    ALIAS("lua-time-limit", .name = "busy-reply-threshold", .kind = DIR_INT, .off = F(busy_reply_threshold), .max = LONG_MAX,
          .def = "5000"),
    { .name = "notify-keyspace-events", .kind = DIR_EVENTS, .off = F(notify_keyspace_events), .def = "" },
    STRD("aclfile", F(aclfile), "", I),
    INTD("acllog-max-len", F(acllog_max_len), 0, LONG_MAX, "128", 0),
    ENUMD("acl-pubsub-default", F(acl_pubsub_default), acl_defaults, "resetchannels", 0),
    STRD("ignore-warnings", NO_FIELD, "", 0),
    BOOLD("hide-user-data-from-log", NO_FIELD, "no", 0),
    /* persistence */
    { .name = "save", .kind = DIR_SAVE, .off = NO_FIELD, .def = "3600 1 300 100 60 10000", .flags = DIR_MULTI_ARG },
    STRD("dbfilename", F(dbfilename), "dump.rdb", DIR_PROTECTED),
    BOOLD("rdbcompression", F(rdbcompression), "yes", 0),
    BOOLD("rdbchecksum", F(rdbchecksum), "yes", I),
    BOOLD("rdb-save-incremental-fsync", F(rdb_save_incremental_fsync), "yes", 0),
    BOOLD("rdb-del-sync-files", F(rdb_del_sync_files), "no", 0),
    BOOLD("stop-writes-on-bgsave-error", F(stop_writes_on_bgsave_error), "yes", 0),
    ENUMD("sanitize-dump-payload", F(sanitize_dump_payload), sanitize, "no", 0),
    INTD("key-load-delay", F(key_load_delay), INT_MIN, INT_MAX, "0", 0),
    INTD("rdb-key-save-delay", F(rdb_key_save_delay), INT_MIN, INT_MAX, "0", 0),
    BOOLD("appendonly", F(appendonly), "no", 0),
    STRD("appendfilename", F(appendfilename), "appendonly.aof", I),
    STRD("appenddirname", F(appenddirname), "appendonlydir", I),
    ENUMD("appendfsync", F(appendfsync), fsyncs, "everysec", 0),
    BOOLD("no-appendfsync-on-rewrite", F(no_appendfsync_on_rewrite), "no", 0),
    INTD("auto-aof-rewrite-percentage", F(auto_aof_rewrite_percentage), 0, INT_MAX, "100", 0),
    MEMD("auto-aof-rewrite-min-size", F(auto_aof_rewrite_min_size), 0, LONG_MAX, "67108864", 0),
    BOOLD("aof-load-truncated", F(aof_load_truncated), "yes", 0),
    BOOLD("aof-use-rdb-preamble", F(aof_use_rdb_preamble), "yes", 0),
    BOOLD("aof-timestamp-enabled", F(aof_timestamp_enabled), "no", 0),
    BOOLD("aof-rewrite-incremental-fsync", F(aof_rewrite_incremental_fsync), "yes", 0),
    BOOLD("aof-disable-auto-gc", F(aof_disable_auto_gc), "no", 0),
    ENUMD("propagation-error-behavior", F(propagation_error_behavior), propagation, "ignore", 0),
    /* replication */
    { .name = "replicaof", .alias = "slaveof", .kind = DIR_WORDS, .off = NO_FIELD, .def = "", .flags = DIR_MULTI_ARG | I },
    STRD("masterauth", F(masterauth), "", DIR_SECRET),
    STRD("masteruser", F(masteruser), "", 0),
    ALIAS("slave-serve-stale-data", .name = "replica-serve-stale-data", .kind = DIR_BOOL, .off = F(replica_serve_stale_data),
          .def = "yes"),
    ALIAS("slave-read-only", .name = "replica-read-only", .kind = DIR_BOOL, .off = F(replica_read_only), .def = "yes"),
    ALIAS("slave-ignore-maxmemory", .name = "replica-ignore-maxmemory", .kind = DIR_BOOL, .off = F(replica_ignore_maxmemory),
          .def = "yes"),
    ALIAS("slave-priority", .name = "replica-priority", .kind = DIR_INT, .off = F(replica_priority), .max = INT_MAX,
          .def = "100"),
    ALIAS("slave-announce-ip", .name = "replica-announce-ip", .kind = DIR_STR, .off = F(replica_announce_ip), .def = ""),
    ALIAS("slave-announce-port", .name = "replica-announce-port", .kind = DIR_INT, .off = F(replica_announce_port), .max = 65535,
          .def = "0"),
    BOOLD("replica-ignore-disk-write-errors", F(replica_ignore_disk_write_errors), "no", 0),
    BOOLD("replica-announced", F(replica_announced), "yes", 0),
    BOOLD("repl-diskless-sync", F(repl_diskless_sync), "yes", 0),
    INTD("repl-diskless-sync-delay", F(repl_diskless_sync_delay), 0, INT_MAX, "5", 0),
    INTD("repl-diskless-sync-max-replicas", F(repl_diskless_sync_max_replicas), 0, INT_MAX, "0", 0),
    ENUMD("repl-diskless-load", F(repl_diskless_load), diskless_load, "disabled", 0),
    ALIAS("repl-ping-slave-period", .name = "repl-ping-replica-period", .kind = DIR_INT, .off = F(repl_ping_replica_period),
          .min = 1, .max = INT_MAX, .def = "10"),
    INTD("repl-timeout", F(repl_timeout), 1, INT_MAX, "60", 0),
    BOOLD("repl-disable-tcp-nodelay", F(repl_disable_tcp_nodelay), "no", 0),
    MEMD("repl-backlog-size", F(repl_backlog_size), 1, LONG_MAX, "1048576", 0),
    INTD("repl-backlog-ttl", F(repl_backlog_ttl), 0, LONG_MAX, "3600", 0),
    ALIAS("min-slaves-to-write", .name = "min-replicas-to-write", .kind = DIR_INT, .off = F(min_replicas_to_write),
          .max = INT_MAX, .def = "0"),
    ALIAS("min-slaves-max-lag", .name = "min-replicas-max-lag", .kind = DIR_INT, .off = F(min_replicas_max_lag), .max = INT_MAX,
          .def = "10"),
    /* cluster */
    BOOLD("cluster-enabled", NO_FIELD, "no", I),
    STRD("cluster-config-file", NO_FIELD, "nodes.conf", I),
    INTD("cluster-node-timeout", NO_FIELD, 0, LONG_MAX, "15000", 0),
    INTD("cluster-port", NO_FIELD, 0, 65535, "0", I),
    STRD("cluster-announce-ip", NO_FIELD, "", 0),
    STRD("cluster-announce-hostname", NO_FIELD, "", 0),
    STRD("cluster-announce-human-nodename", NO_FIELD, "", 0),
    INTD("cluster-announce-port", NO_FIELD, 0, 65535, "0", 0),
    INTD("cluster-announce-tls-port", NO_FIELD, 0, 65535, "0", 0),
    INTD("cluster-announce-bus-port", NO_FIELD, 0, 65535, "0", 0),
    ALIAS("cluster-slave-validity-factor", .name = "cluster-replica-validity-factor", .kind = DIR_INT, .off = NO_FIELD,
          .max = INT_MAX, .def = "10"),
    ALIAS("cluster-slave-no-failover", .name = "cluster-replica-no-failover", .kind = DIR_BOOL, .off = NO_FIELD, .def = "no"),
    INTD("cluster-migration-barrier", NO_FIELD, 0, INT_MAX, "1", 0),
    BOOLD("cluster-allow-replica-migration", NO_FIELD, "yes", 0),
    BOOLD("cluster-require-full-coverage", NO_FIELD, "yes", 0),
    BOOLD("cluster-allow-reads-when-down", NO_FIELD, "no", 0),
    BOOLD("cluster-allow-pubsubshard-when-down", NO_FIELD, "yes", 0),
    MEMD("cluster-link-sendbuf-limit", NO_FIELD, 0, LONG_MAX, "0", 0),
    ENUMD("cluster-preferred-endpoint-type", NO_FIELD, endpoint_types, "ip", 0),
    /* only in files */
    { .name = "user", .kind = DIR_USER, .off = NO_FIELD, .flags = DIR_MULTI_ARG | DIR_HIDDEN | I },
    { .name = "rename-command", .kind = DIR_RENAME, .off = NO_FIELD, .flags = DIR_MULTI_ARG | DIR_HIDDEN | I },
};

const int n_directives = (int)(sizeof directives / sizeof *directives);
