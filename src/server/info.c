/*
 * INFO: one function a section, in Redis's order. Reads relaxed atomics and short locks only; the figures of one call need not be
 * of one instant. Any I/O thread.
 */
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/counter.h"
#include "base/str.h"
#include "cmd/figures.h"
#include "cmd/script/script.h"
#include "server/child.h"
#include "server/aof_server.h"
#include "server/repl_link.h"
#include "server/client.h"
#include "server/evict.h"
#include "server/memory.h"
#include "server/snapshot.h"
#include "server/migrate.h"
#include "server/replication.h"
#include "server/topics.h"
#include "server/tracking.h"
#include "server/tracking_table.h"

#define RLX(x) ((unsigned long long)atomic_load_explicit(&(x), memory_order_relaxed))

/* One line a kind of listener, numbered as redis-server numbers the kinds. */
static void listener_line(struct server *srv, struct buf *o, int number, const char *name, int64_t port) {
    if (!port) return;
    buf_printf(o, "listener%d:name=%s", number, name);
    pthread_mutex_lock(&srv->cfg->lock);
    for (int i = 0; i < srv->cfg->n_bind; i++) buf_printf(o, ",bind=%s", srv->cfg->bind[i]);
    pthread_mutex_unlock(&srv->cfg->lock);
    buf_printf(o, ",port=%lld\r\n", (long long)port);
}

static void unix_listener_line(struct server *srv, struct buf *o, int number) {
    char *path = config_str_dup(srv->cfg, &srv->cfg->unixsocket);
    if (path) buf_printf(o, "listener%d:name=unix,bind=%s\r\n", number, path);
    mem_free(path);
}

static void section_server(struct server *srv, struct buf *o) {
    static const char *const supervisors[] = { "no", "upstart", "systemd" };
    struct utsname u;
    uname(&u);
    int64_t up = (clock_mono_us() - srv->start_mono_us) / 1000000, now = clock_wall_us();
    buf_printf(o,
               "# "
               "Server\r\nredis_version:%s\r\nkettle_version:%s\r\nserver_name:kettle\r\nredis_git_sha1:00000000\r\nredis_git_"
               "dirty:0\r\nredis_build_id:0\r\n",
               REDIS_COMPAT_VERSION, KETTLE_VERSION);
    buf_printf(
        o,
        "redis_mode:standalone\r\nos:%s %s %s\r\narch_bits:%d\r\nmonotonic_clock:POSIX clock_gettime\r\nmultiplexing_api:%s\r\n",
        u.sysname, u.release, u.machine, (int)(sizeof(long) * 8), loop_backend_name(srv->threads[0].loop));
    buf_printf(o,
               "atomicvar_api:c11-builtin\r\ngcc_version:%s\r\nopenssl_version:%s\r\nprocess_id:%ld\r\nprocess_supervised:"
               "%s\r\nrun_id:%s\r\ntcp_port:%lld\r\n",
               __VERSION__, OpenSSL_version(OPENSSL_VERSION_STRING), (long)getpid(), supervisors[srv->supervised], srv->run_id,
               (long long)cfg_get(&srv->cfg->port));
    buf_printf(o,
               "server_time_usec:%lld\r\nuptime_in_seconds:%lld\r\nuptime_in_days:%lld\r\nhz:%lld\r\nconfigured_hz:%lld\r\nlru_"
               "clock:%lld\r\n",
               (long long)now, (long long)up, (long long)(up / 86400), (long long)cfg_get(&srv->cfg->hz),
               (long long)cfg_get(&srv->cfg->hz), (long long)(now / 1000000 & 0xffffff));
    buf_printf(o, "executable:%s\r\nconfig_file:%s\r\nio_threads_active:%d\r\nio_threads:%d\r\n",
               srv->exec_path ? srv->exec_path : "", srv->cfg->config_file ? srv->cfg->config_file : "", srv->n_threads > 1,
               srv->n_threads);
    listener_line(srv, o, 0, "tcp", cfg_get(&srv->cfg->port));
    unix_listener_line(srv, o, 1);
    listener_line(srv, o, 2, "tls", cfg_get(&srv->cfg->tls_port));
    int64_t until = atomic_load(&srv->repl->shutdown_until_us), left = until - clock_mono_us();
    if (until) buf_printf(o, "shutdown_in_milliseconds:%lld\r\n", (long long)(left > 0 ? left / 1000 : 0));
}

static void section_clients(struct server *srv, struct buf *o) {
    size_t in_max = 0, out_max = 0;
    unsigned long long watching = 0, watched = 0, blocked = 0, timers = 0;
    uint64_t keys, nokey_keys;
    for (int t = 0; t < srv->n_threads; t++) {
        struct io_thread *th = &srv->threads[t];
        pthread_mutex_lock(&th->registry_lock);
        list_for_each(n, &th->clients) {
            struct client *c = list_entry(n, struct client, node);
            size_t q = RLX(c->qbuf_len), w = RLX(c->out_mem);
            if (q > in_max) in_max = q;
            if (w > out_max) out_max = w;
            watched += RLX(c->s.watch_count);
            watching += RLX(c->s.watch_count) > 0;
        }
        pthread_mutex_unlock(&th->registry_lock);
        blocked += counter_get(&th->n_blocked);
        timers += counter_get(&th->n_block_timers);
    }
    ks_blocked_keys(srv->ks, &keys, &nokey_keys);
    int64_t connected = atomic_load(&srv->n_clients) - atomic_load(&srv->repl->n_replicas); /* they have a count of their own */
    buf_printf(
        o,
        "# "
        "Clients\r\nconnected_clients:%lld\r\ncluster_connections:0\r\nmaxclients:%lld\r\nclient_recent_max_input_buffer:%zu\r\n",
        (long long)(connected > 0 ? connected : 0), (long long)cfg_get(&srv->cfg->maxclients), in_max);
    buf_printf(
        o,
        "client_recent_max_output_buffer:%zu\r\nblocked_clients:%llu\r\ntracking_clients:%llu\r\npubsub_clients:%llu\r\nwatching_"
        "clients:%llu\r\n",
        out_max, blocked, RLX(srv->tracking->clients), RLX(srv->pubsub->clients), watching);
    buf_printf(o,
               "clients_in_timeout_table:%llu\r\ntotal_watched_keys:%llu\r\ntotal_blocking_keys:%llu\r\ntotal_blocking_keys_on_"
               "nokey:%llu\r\n",
               timers, watched, (unsigned long long)keys, (unsigned long long)nokey_keys);
}

static void human(struct buf *o, const char *name, uint64_t n) {
    char text[64];
    str_from_bytes_human(text, sizeof text, n);
    buf_printf(o, "%s:%llu\r\n%s_human:%s\r\n", name, (unsigned long long)n, name, text);
}

static void memory_used(struct buf *o, const struct memory_figures *f) {
    size_t used = f->m.allocated;
    human(o, "used_memory", used);
    human(o, "used_memory_rss", f->m.rss);
    human(o, "used_memory_peak", f->peak);
    buf_printf(o, "used_memory_peak_perc:%.2f%%\r\nused_memory_overhead:%llu\r\nused_memory_startup:%llu\r\n",
               f->peak ? 100.0 * (double)used / (double)f->peak : 0, (unsigned long long)f->overhead,
               (unsigned long long)f->startup);
    buf_printf(o, "used_memory_dataset:%llu\r\nused_memory_dataset_perc:%.2f%%\r\n", (unsigned long long)f->dataset,
               f->net ? 100.0 * (double)f->dataset / (double)f->net : 0);
}

static void memory_ratios(struct buf *o, const struct memory_figures *f) {
    const struct mem_stats *m = &f->m;
    buf_printf(o, "allocator_frag_ratio:%.2f\r\nallocator_frag_bytes:%zu\r\n", memory_ratio(m->active, f->by_allocator),
               m->active > f->by_allocator ? m->active - f->by_allocator : 0);
    buf_printf(o, "allocator_rss_ratio:%.2f\r\nallocator_rss_bytes:%lld\r\n", memory_ratio(m->resident, m->active),
               (long long)m->resident - (long long)m->active);
    buf_printf(o, "rss_overhead_ratio:%.2f\r\nrss_overhead_bytes:%lld\r\n", memory_ratio(m->rss, m->resident),
               (long long)m->rss - (long long)m->resident);
    buf_printf(o, "mem_fragmentation_ratio:%.2f\r\nmem_fragmentation_bytes:%lld\r\n", memory_ratio(m->rss, m->allocated),
               (long long)m->rss - (long long)m->allocated);
}

static void scripts_memory(struct buf *o, struct server *srv) {
    struct scripts_figures f;
    scripts_figures_get(srv->eng.scripts, &f);
    human(o, "used_memory_lua", f.vm_eval);
    buf_printf(o, "used_memory_vm_eval:%llu\r\nused_memory_scripts_eval:%llu\r\n", (unsigned long long)f.vm_eval,
               (unsigned long long)f.scripts_eval);
    buf_printf(o, "number_of_cached_scripts:%llu\r\nnumber_of_functions:%llu\r\nnumber_of_libraries:%llu\r\n",
               (unsigned long long)f.n_scripts, (unsigned long long)f.n_functions, (unsigned long long)f.n_libraries);
    buf_printf(o, "used_memory_vm_functions:%llu\r\n", (unsigned long long)f.vm_functions);
    human(o, "used_memory_vm_total", f.vm_eval + f.vm_functions);
    buf_printf(o, "used_memory_functions:%llu\r\n", (unsigned long long)f.functions);
    human(o, "used_memory_scripts", f.scripts_eval + f.functions);
}

static void section_memory(struct server *srv, struct buf *o) {
    static const char *const policies[] = { "noeviction",   "volatile-lru", "volatile-lfu", "volatile-random",
                                            "volatile-ttl", "allkeys-lru",  "allkeys-lfu",  "allkeys-random" };
    struct memory_figures f;
    struct ks_stats ks;
    memory_figures_get(srv, &f);
    struct repl_memory repl;
    repl_memory_get(srv->repl, &repl);
    ks_stats_get(srv->ks, &ks);
    buf_append_cstr(o, "# Memory\r\n");
    memory_used(o, &f);
    buf_printf(o, "allocator_allocated:%zu\r\nallocator_active:%zu\r\nallocator_resident:%zu\r\n", f.by_allocator, f.m.active,
               f.m.resident);
    human(o, "total_system_memory", (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE));
    scripts_memory(o, srv);
    human(o, "maxmemory", (uint64_t)cfg_get(&srv->cfg->maxmemory));
    buf_printf(o, "maxmemory_policy:%s\r\n", policies[cfg_get(&srv->cfg->maxmemory_policy) & 7]);
    memory_ratios(o, &f);
    uint64_t not_counted = repl_not_counted(srv->repl) + aof_buffer_bytes(srv);
    buf_printf(o,
               "mem_not_counted_for_evict:%llu\r\nmem_replication_backlog:%llu\r\nmem_total_replication_buffers:%llu\r\n"
               "mem_clients_slaves:%llu\r\nmem_clients_normal:%llu\r\nmem_cluster_links:0\r\nmem_aof_buffer:%zu\r\n"
               "mem_allocator:%s\r\nactive_defrag_running:0\r\n",
               (unsigned long long)not_counted, (unsigned long long)repl.backlog, (unsigned long long)repl.buffers,
               (unsigned long long)repl.replicas, (unsigned long long)f.clients, aof_buffer_bytes(srv), mem_allocator_name());
    buf_printf(o, "lazyfree_pending_objects:%llu\r\nlazyfreed_objects:%llu\r\n", (unsigned long long)ks.lazyfree_pending,
               (unsigned long long)ks.lazyfreed);
}

static void section_persistence(struct server *srv, struct buf *o) {
    buf_append_cstr(o, "# Persistence\r\n");
    snapshot_info_append(srv, o);
    aof_info(srv, o);
}

void server_traffic_get(struct server *srv, struct server_traffic *ret) {
    uint64_t file_in = RLX(srv->repl->file_bytes_in);
    *ret = (struct server_traffic){ .in = file_in, /* read by a thread that is no I/O thread */
                                    .repl_in = RLX(srv->repl->bytes_in) + file_in,
                                    .repl_out = RLX(srv->repl->bytes_out) };
    for (int t = 0; t < srv->n_threads; t++) {
        struct io_thread *th = &srv->threads[t];
        ret->in += RLX(th->bytes_in);
        ret->out += RLX(th->bytes_out);
        ret->reads += RLX(th->reads);
        ret->writes += RLX(th->writes);
        if (t == 0) continue; /* the main thread */
        ret->io_reads += RLX(th->reads);
        ret->io_writes += RLX(th->writes);
    }
}

void server_turns_get(const struct server *srv, struct server_turns *ret) {
    *ret = (struct server_turns){ 0 };
    for (int t = 0; t < srv->n_threads; t++) {
        uint64_t n, busy_us;
        loop_figures(srv->threads[t].loop, &n, &busy_us);
        ret->n += n;
        ret->busy_us += busy_us;
    }
}

static void stats_of_keys(struct server *srv, struct buf *o) {
    struct ks_stats ks;
    ks_stats_get(srv->ks, &ks);
    buf_printf(o,
               "sync_full:%llu\r\nsync_partial_ok:%llu\r\nsync_partial_err:%llu\r\nexpired_subkeys:%llu\r\nexpired_keys:%llu\r\n"
               "expired_stale_perc:0.00\r\n"
               "expired_time_cap_reached_count:%llu\r\nexpire_cycle_cpu_milliseconds:%llu\r\n",
               RLX(srv->repl->n_full), RLX(srv->repl->n_partial_ok), RLX(srv->repl->n_partial_err),
               (unsigned long long)ks.expired_fields, (unsigned long long)ks.expired, RLX(srv->stats.expire_time_cap),
               RLX(srv->stats.expire_us) / 1000);
    buf_printf(o,
               "evicted_keys:%llu\r\nevicted_clients:%llu\r\ntotal_eviction_exceeded_time:%llu\r\n"
               "current_eviction_exceeded_time:%llu\r\nkeyspace_hits:%llu\r\nkeyspace_misses:%llu\r\n",
               RLX(srv->stats.evicted_keys), RLX(srv->stats.evicted_clients),
               (unsigned long long)evict_exceeded_us(srv, true) / 1000, (unsigned long long)evict_exceeded_us(srv, false) / 1000,
               (unsigned long long)ks.hits, (unsigned long long)ks.misses);
    struct topics **topics = srv->pubsub->topics;
    buf_printf(o, "pubsub_channels:%llu\r\npubsub_patterns:%llu\r\npubsubshard_channels:%llu\r\n",
               (unsigned long long)topics_count(topics[PUBSUB_CHANNEL]), (unsigned long long)topics_count(topics[PUBSUB_PATTERN]),
               (unsigned long long)topics_count(topics[PUBSUB_SHARD]));
    struct child_figures f;
    child_figures_get(srv, &f);
    buf_printf(o, "latest_fork_usec:%llu\r\ntotal_forks:%llu\r\n", (unsigned long long)f.fork_usec, (unsigned long long)f.forks);
    buf_printf(o, "migrate_cached_sockets:%d\r\n", migrate_cached_links(srv));
    buf_printf(o, "slave_expires_tracked_keys:%llu\r\n", (unsigned long long)ks.own_expires);
    /* Of subsystems this version lacks. */
    buf_append_cstr(o, "active_defrag_hits:0\r\n"
                       "active_defrag_misses:0\r\nactive_defrag_key_hits:0\r\nactive_defrag_key_misses:0\r\n"
                       "total_active_defrag_time:0\r\ncurrent_active_defrag_time:0\r\n");
    buf_printf(o, "tracking_total_keys:%llu\r\ntracking_total_items:%llu\r\ntracking_total_prefixes:%llu\r\n",
               (unsigned long long)tracking_table_keys(srv->tracking->table),
               (unsigned long long)tracking_table_items(srv->tracking->table),
               (unsigned long long)prefixes_count(srv->tracking->prefixes));
}

static void stats_of_loops(struct server *srv, struct buf *o) {
    const struct server_stats *s = &srv->stats;
    struct server_turns turns;
    server_turns_get(srv, &turns);
    buf_printf(o,
               "eventloop_cycles:%llu\r\neventloop_duration_sum:%llu\r\neventloop_duration_cmd_sum:%llu\r\n"
               "instantaneous_eventloop_cycles_per_sec:%llu\r\ninstantaneous_eventloop_duration_usec:%llu\r\n",
               (unsigned long long)turns.n - RLX(s->turns_from), (unsigned long long)turns.busy_us - RLX(s->busy_us_from),
               (unsigned long long)figures_usec(srv->eng.figures), RLX(s->inst_turns), RLX(s->inst_turn_us));
}

static void section_stats(struct server *srv, struct buf *o) {
    struct server_stats *s = &srv->stats;
    struct server_traffic t;
    server_traffic_get(srv, &t);
    buf_printf(
        o, "# Stats\r\ntotal_connections_received:%llu\r\ntotal_commands_processed:%llu\r\ninstantaneous_ops_per_sec:%llu\r\n",
        RLX(s->connections), (unsigned long long)figures_commands(srv->eng.figures), RLX(s->inst_ops));
    buf_printf(o,
               "total_net_input_bytes:%llu\r\ntotal_net_output_bytes:%llu\r\ntotal_net_repl_input_bytes:%llu\r\n"
               "total_net_repl_output_bytes:%llu\r\n",
               (unsigned long long)t.in, (unsigned long long)t.out, (unsigned long long)t.repl_in,
               (unsigned long long)t.repl_out);
    buf_printf(o,
               "instantaneous_input_kbps:%.2f\r\ninstantaneous_output_kbps:%.2f\r\ninstantaneous_input_repl_kbps:%.2f\r\n"
               "instantaneous_output_repl_kbps:%.2f\r\nrejected_connections:%llu\r\n",
               (double)RLX(s->inst_in) / 1024, (double)RLX(s->inst_out) / 1024, (double)RLX(s->inst_repl_in) / 1024,
               (double)RLX(s->inst_repl_out) / 1024, RLX(s->rejected));
    stats_of_keys(srv, o);
    buf_printf(o, "unexpected_error_replies:%llu\r\ntotal_error_replies:%llu\r\ndump_payload_sanitizations:%llu\r\n",
               RLX(s->unexpected_errors), RLX(srv->eng.n_error_replies), RLX(srv->eng.n_payloads_checked));
    buf_printf(o,
               "total_reads_processed:%llu\r\ntotal_writes_processed:%llu\r\nio_threaded_reads_processed:%llu\r\nio_threaded_"
               "writes_processed:%llu\r\n",
               (unsigned long long)t.reads, (unsigned long long)t.writes, (unsigned long long)t.io_reads,
               (unsigned long long)t.io_writes);
    buf_printf(o,
               "client_query_buffer_limit_disconnections:%llu\r\nclient_output_buffer_limit_disconnections:%llu\r\n"
               "reply_buffer_shrinks:0\r\nreply_buffer_expands:0\r\n",
               RLX(s->query_buffer_closes), RLX(s->output_buffer_closes));
    const struct acl *a = srv->eng.acl;
    buf_printf(o,
               "acl_access_denied_auth:%llu\r\nacl_access_denied_cmd:%llu\r\nacl_access_denied_key:%llu\r\n"
               "acl_access_denied_channel:%llu\r\nacl_access_denied_tls_cert:%llu\r\n",
               (unsigned long long)acl_n_denied(a, ACL_DENIED_AUTH), (unsigned long long)acl_n_denied(a, ACL_DENIED_CMD),
               (unsigned long long)acl_n_denied(a, ACL_DENIED_KEY), (unsigned long long)acl_n_denied(a, ACL_DENIED_CHANNEL),
               (unsigned long long)acl_n_denied(a, ACL_DENIED_CERT));
    stats_of_loops(srv, o);
}

static void section_replication(struct server *srv, struct buf *o) {
    bool is_replica = repl_is_replica(srv->repl);
    buf_printf(o, "# Replication\r\nrole:%s\r\n", is_replica ? "slave" : "master");
    if (is_replica) repl_link_info(srv, o);
    repl_info_replicas(srv, o);
}

static void cpu_line(struct buf *o, const char *name, struct timeval tv) {
    buf_printf(o, "%s:%ld.%06ld\r\n", name, (long)tv.tv_sec, (long)tv.tv_usec);
}

static struct timeval us_to_timeval(unsigned long long us) {
    return (struct timeval){ .tv_sec = (time_t)(us / 1000000), .tv_usec = (suseconds_t)(us % 1000000) };
}

static void section_cpu(struct server *srv, struct buf *o) {
    struct rusage self, kids;
    getrusage(RUSAGE_SELF, &self);
    getrusage(RUSAGE_CHILDREN, &kids);
    buf_append_cstr(o, "# CPU\r\n");
    cpu_line(o, "used_cpu_sys", self.ru_stime);
    cpu_line(o, "used_cpu_user", self.ru_utime);
    cpu_line(o, "used_cpu_sys_children", kids.ru_stime);
    cpu_line(o, "used_cpu_user_children", kids.ru_utime);
    cpu_line(o, "used_cpu_sys_main_thread", us_to_timeval(RLX(srv->stats.main_sys_us)));
    cpu_line(o, "used_cpu_user_main_thread", us_to_timeval(RLX(srv->stats.main_user_us)));
}

static void section_modules(struct server *srv, struct buf *o) {
    (void)srv;
    buf_append_cstr(o, "# Modules\r\n");
}

struct figures_arg {
    struct server *srv;
    struct buf *o;
    const double *p; /* latencystats: percentiles */
    int n;
};

static void command_stats(struct cmd *c, void *arg) {
    struct figures_arg *a = arg;
    struct buf *o = a->o;
    uint64_t n, sum;
    figures_of(a->srv->eng.figures, c, &n, &sum);
    unsigned long long calls = n, us = sum, rejected = RLX(c->rejected), failed = RLX(c->failed);
    if (calls || rejected || failed)
        buf_printf(o, "cmdstat_%s:calls=%llu,usec=%llu,usec_per_call=%.2f,rejected_calls=%llu,failed_calls=%llu\r\n",
                   c->full_name, calls, us, calls ? (double)us / (double)calls : 0, rejected, failed);
    for (int i = 0; i < c->n_subs; i++) command_stats(c->subs[i], arg);
}

static void section_commandstats(struct server *srv, struct buf *o) {
    buf_append_cstr(o, "# Commandstats\r\n");
    cmd_each(srv->table, command_stats, &(struct figures_arg){ .srv = srv, .o = o });
}

static void error_line(void *arg, const char *code, uint64_t count) {
    buf_printf(arg, "errorstat_%s:count=%llu\r\n", code, (unsigned long long)count);
}

static void section_errorstats(struct server *srv, struct buf *o) {
    buf_append_cstr(o, "# Errorstats\r\n");
    engine_each_error(&srv->eng, error_line, o);
}

static void latency_stats(struct cmd *c, void *arg) {
    struct figures_arg *a = arg;
    struct hist *h = hist_new();
    figures_latency(a->srv->eng.figures, c, h);
    if (hist_count(h)) {
        buf_printf(a->o, "latency_percentiles_usec_%s:", c->full_name);
        for (int i = 0; i < a->n; i++) {
            char name[64];
            snprintf(name, sizeof name, "%.6f", a->p[i]);
            for (size_t k = strlen(name); k && (name[k - 1] == '0' || name[k - 1] == '.'); k--) {
                bool dot = name[k - 1] == '.';
                name[k - 1] = 0;
                if (dot) break;
            }
            buf_printf(a->o, "%sp%s=%.3f", i ? "," : "", name, (double)hist_percentile(h, a->p[i]));
        }
        buf_append_cstr(a->o, "\r\n");
    }
    hist_free(h);
    for (int i = 0; i < c->n_subs; i++) latency_stats(c->subs[i], arg);
}

static void section_latencystats(struct server *srv, struct buf *o) {
    double p[16];
    pthread_mutex_lock(&srv->cfg->lock);
    int n = srv->cfg->n_latency_percentiles;
    memcpy(p, srv->cfg->latency_percentiles, sizeof p);
    pthread_mutex_unlock(&srv->cfg->lock);
    buf_append_cstr(o, "# Latencystats\r\n");
    if (!cfg_get(&srv->cfg->latency_tracking)) return;
    struct figures_arg a = { srv, o, p, n };
    cmd_each(srv->table, latency_stats, &a);
}

static void section_cluster(struct server *srv, struct buf *o) {
    (void)srv;
    buf_append_cstr(o, "# Cluster\r\ncluster_enabled:0\r\n");
}

static void section_keyspace(struct server *srv, struct buf *o) {
    buf_append_cstr(o, "# Keyspace\r\n");
    for (int d = 0; d < ks_n_dbs(srv->ks); d++) {
        uint64_t keys = ks_size(srv->ks, d), vol = ks_expires(srv->ks, d);
        if (!keys && !vol) continue;
        buf_printf(o, "db%d:keys=%llu,expires=%llu,avg_ttl=%lld\r\n", d, (unsigned long long)keys, (unsigned long long)vol,
                   (long long)(vol ? ks_avg_ttl_ms(srv->ks, d, clock_wall_ms()) : 0));
    }
}

/* ---- TLS ---- */

static void tls_handshakes(struct server *srv, const struct ktls_stats *st, struct buf *o) {
    unsigned long long timeouts = RLX(srv->stats.tls_handshake_timeouts);
    buf_printf(o,
               "tls_handshakes_ok:%llu\r\ntls_handshakes_failed:%llu\r\ntls_handshakes_failed_alert:%llu\r\ntls_handshakes_"
               "failed_protocol:%llu\r\n",
               (unsigned long long)st->handshakes_ok[KTLS_SERVER],
               (unsigned long long)st->handshakes_failed[KTLS_SERVER] + timeouts, (unsigned long long)st->failed_alert,
               (unsigned long long)st->failed_protocol);
    buf_printf(o,
               "tls_handshakes_failed_verify:%llu\r\ntls_handshakes_failed_not_tls:%llu\r\ntls_handshakes_failed_reset:%"
               "llu\r\ntls_handshakes_failed_timeout:%llu\r\n",
               (unsigned long long)st->failed_verify, (unsigned long long)st->failed_not_tls,
               (unsigned long long)st->failed_reset, timeouts);
    buf_printf(o,
               "tls_handshakes_failed_other:%llu\r\ntls_handshakes_resumed:%llu\r\ntls_handshake_usec_p50:%llu\r\ntls_handshake_"
               "usec_p99:%llu\r\n",
               (unsigned long long)st->failed_other, (unsigned long long)st->handshakes_resumed[KTLS_SERVER],
               (unsigned long long)hist_percentile(srv->tls.handshake_us, 50),
               (unsigned long long)hist_percentile(srv->tls.handshake_us, 99));
}

static void tls_paths(struct server *srv, const struct ktls_stats *st, struct buf *o) {
    buf_printf(o,
               "tls_connections_ktls:%llu\r\ntls_connections_user:%llu\r\ntls_total_connections_ktls:%llu\r\ntls_total_"
               "connections_user:%llu\r\n",
               RLX(srv->tls.live_ktls), RLX(srv->tls.live_user), (unsigned long long)st->mode_kernel,
               (unsigned long long)st->mode_user);
    buf_printf(o, "tls_connections_ktls_tx:%llu\r\ntls_total_connections_ktls_tx:%llu\r\n", RLX(srv->tls.live_ktls_tx),
               (unsigned long long)st->mode_tx);
    static const char *const versions[] = { "tls10", "tls11", "tls12", "tls13", "other" };
    for (int i = 0; i < 5; i++)
        if (i >= 2 && i <= 3)
            buf_printf(o, "tls_version_%s:%llu\r\n", versions[i], (unsigned long long)st->version[i]);
        else if (st->version[i])
            buf_printf(o, "tls_version_%s:%llu\r\n", versions[i], (unsigned long long)st->version[i]);
    pthread_mutex_lock(&srv->tls.lock);
    for (int i = 0; i < srv->tls.n_ciphers; i++)
        buf_printf(o, "tls_cipher_%s:%llu\r\n", srv->tls.ciphers[i].name, (unsigned long long)srv->tls.ciphers[i].count);
    pthread_mutex_unlock(&srv->tls.lock);
    for (int r = 1; r < KTLS_N_REASONS; r++) {
        char name[64];
        snprintf(name, sizeof name, "%s", ktls_reason_name((enum ktls_reason)r));
        for (char *p = name; *p; p++)
            if (*p == '-') *p = '_';
        buf_printf(o, "tls_fallback_%s:%llu\r\n", name, (unsigned long long)st->reason[r]);
    }
}

static void tls_kernel_stat(struct buf *o) {
    char line[128], name[64];
    unsigned long long v;
    FILE *f = fopen("/proc/net/tls_stat", "re");
    if (!f) return;
    while (fgets(line, sizeof line, f))
        if (sscanf(line, "%63s %llu", name, &v) == 2) buf_printf(o, "tls_stat_%s:%llu\r\n", name, v);
    fclose(f);
}

static void section_tls(struct server *srv, struct buf *o) {
    static const char *const modes[] = { "auto", "yes", "no", "tx" };
    struct ktls_stats st;
    unsigned long long kin = 0, kout = 0;
    ktls_stats(&st);
    for (int t = 0; t < srv->n_threads; t++) {
        kin += RLX(srv->threads[t].ktls_bytes_in);
        kout += RLX(srv->threads[t].ktls_bytes_out);
    }
    const struct ktls_probe *p = &srv->tls.probe;
    buf_printf(
        o,
        "# TLS\r\ntls_port:%lld\r\ntls_ktls_mode:%s\r\ntls_kernel_usable:%d\r\ntls_kernel_reason:%s\r\ntls_kernel_rekey:%d\r\n",
        (long long)cfg_get(&srv->cfg->tls_port), modes[cfg_get(&srv->cfg->tls_ktls)], p->usable,
        p->usable ? "" : ktls_reason_name(p->reason), p->usable && p->rekey == 0);
    char cves[16 * TLS_MAX_ADVISORIES];
    tls_advisory_names(&srv->tls, cves, sizeof cves);
    buf_printf(o, "tls_kernel_advisories:%s\r\n", cves);
    tls_handshakes(srv, &st, o);
    tls_paths(srv, &st, o);
    buf_printf(o,
               "tls_control_records:%llu\r\ntls_alerts_in:%llu\r\ntls_alerts_out:%llu\r\ntls_key_updates_in:%llu\r\ntls_key_"
               "updates_out:%llu\r\ntls_closed_key_update:%llu\r\ntls_truncated:%llu\r\ntls_tickets_in:%llu\r\ntls_key_log_lines:"
               "%llu\r\n",
               (unsigned long long)st.control_records, (unsigned long long)st.alerts_in, (unsigned long long)st.alerts_out,
               (unsigned long long)st.key_updates_in, (unsigned long long)st.key_updates_out,
               (unsigned long long)st.closed_key_update, (unsigned long long)st.truncated, (unsigned long long)st.tickets_in,
               (unsigned long long)st.keylog_lines);
    buf_printf(o, "tls_rekeys_by_limit:%llu\r\ntls_closed_record_limit:%llu\r\ntls_key_update_floods:%llu\r\n",
               (unsigned long long)st.rekeys_by_limit, (unsigned long long)st.closed_record_limit,
               (unsigned long long)st.key_update_floods);
    buf_printf(o, "tls_kernel_bytes_in:%llu\r\ntls_kernel_bytes_out:%llu\r\n", kin, kout);
    buf_printf(o, "tls_ticket_keys:%d\r\ntls_tickets_unknown:%llu\r\ntls_tickets_refused:%llu\r\n", tls_tickets_count(&srv->tls),
               (unsigned long long)st.tickets_unknown, (unsigned long long)st.tickets_refused);
    info_tls_certificates(srv, o);
    tls_kernel_stat(o);
}

static const struct {
    const char *name;
    void (*fn)(struct server *srv, struct buf *o);
    bool by_default;
} sections[] = {
    { "server", section_server, true },
    { "clients", section_clients, true },
    { "memory", section_memory, true },
    { "persistence", section_persistence, true },
    { "stats", section_stats, true },
    { "replication", section_replication, true },
    { "cpu", section_cpu, true },
    { "modules", section_modules, true },
    { "commandstats", section_commandstats, false },
    { "errorstats", section_errorstats, true },
    { "latencystats", section_latencystats, false },
    { "cluster", section_cluster, true },
    { "keyspace", section_keyspace, true },
    { "tls", section_tls, true },
};

void info_append(struct server *srv, struct buf *out, int n, const struct slice *names) {
    bool first = true;
    for (size_t i = 0; i < sizeof sections / sizeof *sections; i++) {
        bool want = n == 0 && sections[i].by_default;
        for (int k = 0; k < n && !want; k++) {
            /* "all" leaves out what modules say of themselves, not the section that lists them. */
            want = slice_ieq(names[k], sections[i].name) || slice_ieq(names[k], "everything") || slice_ieq(names[k], "all") ||
                   (slice_ieq(names[k], "default") && sections[i].by_default);
        }
        if (!want) continue;
        if (!first) buf_append_cstr(out, "\r\n");
        first = false;
        sections[i].fn(srv, out);
    }
}
