/*
 * MEMORY, and the figures it shares with INFO. Runs on the client's I/O thread.
 */
#include <stdio.h>
#include <string.h>
#ifdef HAVE_JEMALLOC
#include <jemalloc/jemalloc.h>
#else
#include <malloc.h>
#endif

#include "cmd/script/script.h"
#include "server/aof_server.h"
#include "server/client.h"
#include "server/memory.h"
#include "server/replication.h"

#define DOCTOR_MIN_BYTES (5UL << 20) /* with less in use nothing can be said: redis-server's bounds, all of them */
#define DOCTOR_PEAK 1.5
#define DOCTOR_FRAGMENTATION 1.4
#define DOCTOR_ALLOCATOR 1.1
#define DOCTOR_WASTE_BYTES (10UL << 20)
#define DOCTOR_BYTES_PER_CLIENT (200UL << 10)
#define DOCTOR_SCRIPTS 1000

/* ---- figures ---- */

static uint64_t clients_memory(struct server *srv) {
    uint64_t sum = 0;
    for (int t = 0; t < srv->n_threads; t++) {
        struct io_thread *th = &srv->threads[t];
        pthread_mutex_lock(&th->registry_lock);
        list_for_each(n, &th->clients) sum += client_memory(list_entry(n, struct client, node));
        pthread_mutex_unlock(&th->registry_lock);
    }
    return sum;
}

double memory_ratio(size_t a, size_t b) {
    return b ? (double)a / (double)b : 1;
}

void memory_figures_get(struct server *srv, struct memory_figures *f) {
    struct scripts_figures s;
    memset(f, 0, sizeof *f);
    mem_stats_get(&f->m);
    f->by_allocator = f->m.allocated;
    f->m.allocated = mem_used();
    int64_t used = (int64_t)f->m.allocated;
    if (used > atomic_load(&srv->stats.peak_memory)) atomic_store(&srv->stats.peak_memory, used);
    f->peak = (uint64_t)atomic_load(&srv->stats.peak_memory);
    f->startup = (uint64_t)atomic_load(&srv->stats.startup_memory);
    f->clients = clients_memory(srv);
    scripts_figures_get(srv->eng.scripts, &s);
    f->scripts = s.scripts_eval;
    f->functions = s.functions;
    for (int d = 0; d < ks_n_dbs(srv->ks); d++) {
        f->keys += ks_size(srv->ks, d);
        if (ks_size(srv->ks, d)) f->tables += ks_overhead_bytes(srv->ks, d);
    }
    f->overhead = f->startup + f->clients + f->tables + f->scripts + f->functions + backlog_mem(srv->repl->backlog);
    f->dataset = f->m.allocated > f->overhead ? f->m.allocated - f->overhead : 0;
    f->net = f->m.allocated > f->startup ? f->m.allocated - f->startup : 0;
}

/* ---- MEMORY USAGE ---- */

static void memory_usage_command(struct cmd_ctx *c) {
    int64_t samples = 5; /* as redis-server */
    for (int i = 3; i < c->argc; i++) {
        if (!slice_ieq(c->argv[i], "samples") || i + 1 >= c->argc) {
            cmd_syntax_error(c);
            return;
        }
        if (!cmd_arg_ll(c, c->argv[++i], &samples, NULL)) return;
        if (samples < 0) {
            cmd_syntax_error(c);
            return;
        }
    }
    struct entry *e = ks_find(c->ks, c->db, c->argv[2], c->now_ms, KS_FIND_NO_TOUCH | KS_FIND_NO_STATS);
    if (!e) {
        reply_null(c->r);
    } else {
        reply_int(c->r, (int64_t)entry_mem_usage(e, (size_t)samples));
    }
}

/* ---- MEMORY STATS ---- */

static void put_int(struct cmd_ctx *c, const char *name, int64_t v) {
    reply_bulk_cstr(c->r, name);
    reply_int(c->r, v);
}

static void put_double(struct cmd_ctx *c, const char *name, double v) {
    reply_bulk_cstr(c->r, name);
    reply_double(c->r, v);
}

/* A database's tables: the keys' and that of the times; the cluster has none of its own here. */
static void put_db(struct cmd_ctx *c, int db) {
    char name[32];
    snprintf(name, sizeof name, "db.%d", db);
    reply_bulk_cstr(c->r, name);
    reply_map(c->r, 3);
    put_int(c, "overhead.hashtable.main", (int64_t)ks_overhead_bytes(c->ks, db));
    put_int(c, "overhead.hashtable.expires", (int64_t)(ks_expires(c->ks, db) * 2 * sizeof(void *)));
    put_int(c, "overhead.hashtable.slot-to-keys", 0);
}

static void put_overheads(struct cmd_ctx *c, const struct memory_figures *f) {
    struct repl_memory repl;
    repl_memory_get(((struct server *)c->eng->server)->repl, &repl);
    put_int(c, "peak.allocated", (int64_t)f->peak);
    put_int(c, "total.allocated", (int64_t)f->m.allocated);
    put_int(c, "startup.allocated", (int64_t)f->startup);
    put_int(c, "replication.backlog", (int64_t)repl.backlog);
    put_int(c, "clients.slaves", (int64_t)repl.replicas);
    put_int(c, "clients.normal", (int64_t)f->clients);
    put_int(c, "cluster.links", 0);
    put_int(c, "aof.buffer", (int64_t)aof_buffer_bytes(c->eng->server));
    put_int(c, "lua.caches", (int64_t)f->scripts);
    put_int(c, "functions.caches", (int64_t)f->functions);
}

static void put_allocator(struct cmd_ctx *c, const struct mem_stats *m, size_t by_allocator) {
    put_int(c, "allocator.allocated", (int64_t)by_allocator);
    put_int(c, "allocator.active", (int64_t)m->active);
    put_int(c, "allocator.resident", (int64_t)m->resident);
    put_double(c, "allocator-fragmentation.ratio", memory_ratio(m->active, by_allocator));
    put_int(c, "allocator-fragmentation.bytes", (int64_t)m->active - (int64_t)by_allocator);
    put_double(c, "allocator-rss.ratio", memory_ratio(m->resident, m->active));
    put_int(c, "allocator-rss.bytes", (int64_t)m->resident - (int64_t)m->active);
    put_double(c, "rss-overhead.ratio", memory_ratio(m->rss, m->resident));
    put_int(c, "rss-overhead.bytes", (int64_t)m->rss - (int64_t)m->resident);
    put_double(c, "fragmentation", memory_ratio(m->rss, m->allocated));
    put_int(c, "fragmentation.bytes", (int64_t)m->rss - (int64_t)m->allocated);
}

static void memory_stats_command(struct cmd_ctx *c) {
    struct memory_figures f;
    size_t dbs = 0;
    memory_figures_get(c->eng->server, &f);
    for (int d = 0; d < ks_n_dbs(c->ks); d++) dbs += ks_size(c->ks, d) > 0;
    reply_map(c->r, 27 + dbs);
    put_overheads(c, &f);
    for (int d = 0; d < ks_n_dbs(c->ks); d++)
        if (ks_size(c->ks, d)) put_db(c, d);
    put_int(c, "overhead.total", (int64_t)f.overhead);
    put_int(c, "keys.count", (int64_t)f.keys);
    put_int(c, "keys.bytes-per-key", f.keys ? (int64_t)(f.net / f.keys) : 0);
    put_int(c, "dataset.bytes", (int64_t)f.dataset);
    put_double(c, "dataset.percentage", f.net ? 100.0 * (double)f.dataset / (double)f.net : 0);
    put_double(c, "peak.percentage", f.peak ? 100.0 * (double)f.m.allocated / (double)f.peak : 0);
    put_allocator(c, &f.m, f.by_allocator);
}

/* ---- MEMORY DOCTOR ---- */

struct finding {
    bool applies;
    const char *text;
};

static void memory_doctor_command(struct cmd_ctx *c) {
    struct memory_figures f;
    struct scripts_figures s;
    struct server *srv = c->eng->server;
    memory_figures_get(srv, &f);
    scripts_figures_get(c->eng->scripts, &s);
    uint64_t clients = (uint64_t)atomic_load_explicit(&srv->n_clients, memory_order_relaxed);
    const struct finding findings[] = {
        { (double)f.peak > DOCTOR_PEAK * (double)f.m.allocated,
          "Peak memory: more than half as much again was in use before. The allocator may keep pages of that time, so that the\n"
          "resident set stays large; they are reused when there is data again. MEMORY PURGE gives back what it can.\n" },
        { memory_ratio(f.m.rss, f.m.allocated) > DOCTOR_FRAGMENTATION && f.m.rss - f.m.allocated > DOCTOR_WASTE_BYTES,
          "Fragmentation: the resident set is more than 1.4 times what is in use. Values of changing sizes do that, or a peak\n"
          "that is over.\n" },
        { memory_ratio(f.m.active, f.by_allocator) > DOCTOR_ALLOCATOR && f.m.active - f.by_allocator > DOCTOR_WASTE_BYTES,
          "Allocator: pages are partly empty (allocator_frag_ratio in INFO memory).\n" },
        { memory_ratio(f.m.resident, f.m.active) > DOCTOR_ALLOCATOR && f.m.resident - f.m.active > DOCTOR_WASTE_BYTES,
          "Allocator: free pages are kept (allocator_rss_ratio in INFO memory). MEMORY PURGE gives them back.\n" },
        { memory_ratio(f.m.rss, f.m.resident) > DOCTOR_ALLOCATOR && f.m.rss - f.m.resident > DOCTOR_WASTE_BYTES,
          "Process: memory outside the allocator (rss_overhead_ratio in INFO memory): libraries, stacks, the interpreter.\n" },
        { clients && f.clients / clients > DOCTOR_BYTES_PER_CLIENT,
          "Clients: their buffers hold more than 200 KiB each on average. Look for large omem and qbuf in CLIENT LIST.\n" },
        { s.n_scripts > DOCTOR_SCRIPTS,
          "Scripts: more than 1,000 are cached. Programs that write values into their scripts instead of KEYS and ARGV do that;\n"
          "SCRIPT FLUSH empties the cache.\n" },
    };
    struct buf out = { 0 };
    if (f.m.allocated < DOCTOR_MIN_BYTES) {
        buf_append_cstr(&out, "There is too little data to say anything about its memory.\n");
    } else {
        for (size_t i = 0; i < sizeof findings / sizeof *findings; i++)
            if (findings[i].applies) buf_printf(&out, " * %s\n", findings[i].text);
        if (out.len == 0) buf_append_cstr(&out, "Nothing unusual was found about the memory of this server.\n");
    }
    reply_verbatim(c->r, out.data, out.len, "txt");
    buf_done(&out);
}

/* ---- MEMORY MALLOC-STATS, PURGE ---- */

#ifdef HAVE_JEMALLOC
static void append_text(void *arg, const char *text) {
    buf_append_cstr(arg, text);
}

static void allocator_report(struct buf *out) {
    malloc_stats_print(append_text, out, NULL);
}

static bool purge(void) {
    char name[32];
    snprintf(name, sizeof name, "arena.%u.purge", (unsigned)MALLCTL_ARENAS_ALL);
    return mallctl("thread.tcache.flush", NULL, NULL, NULL, 0) == 0 && mallctl(name, NULL, NULL, NULL, 0) == 0;
}
#else
static void allocator_report(struct buf *out) {
    buf_append_cstr(out, "Stats not supported for the current allocator");
}

static bool purge(void) {
    malloc_trim(0);
    return true;
}
#endif

static void memory_malloc_stats_command(struct cmd_ctx *c) {
    struct buf out = { 0 };
    allocator_report(&out);
    reply_verbatim(c->r, out.data ? out.data : "", out.len, "txt");
    buf_done(&out);
}

static void memory_purge_command(struct cmd_ctx *c) {
    if (purge())
        reply_ok(c->r);
    else
        reply_error(c->r, "ERR Error purging dirty pages");
}

static void memory_help_command(struct cmd_ctx *c) {
    static const char *const lines[] = {
        "DOCTOR",
        "    What is unusual about the server's memory.",
        "MALLOC-STATS",
        "    The allocator's own report.",
        "PURGE",
        "    Has the allocator give back free pages.",
        "STATS",
        "    Where the memory is.",
        "USAGE <key> [SAMPLES <count>]",
        "    Bytes a key and its value take. Of large values about <count> elements",
        "    are looked at (5 when not given, 0: all).",
        NULL,
    };
    cmd_help(c, lines);
}

static const char *const nondet_tips[] = { "nondeterministic_output", "request_policy:all_shards", "response_policy:special",
                                           NULL };
static const char *const all_shards_tips[] = { "request_policy:all_shards", "response_policy:all_succeeded", NULL };
static const struct cmd_arg usage_args[] = { { .name = "key", .type = ARG_KEY },
                                             { .name = "count", .type = ARG_INTEGER, .token = "SAMPLES", .flags = ARG_OPTIONAL },
                                             { 0 } };

#define SUB(name_, run_, summary_, tips_)                                                                                        \
    {                                                                                                                            \
        .name = (name_), .run = (run_), .arity = 2, .summary = (summary_), .since = "4.0.0", .group = "server",                  \
        .complexity = "O(1)", .tips = (tips_)                                                                                    \
    }

const struct cmd_spec cmd_memory_subs[] = {
    { .name = "usage",
      .run = memory_usage_command,
      .arity = -3,
      .flags = CMD_READONLY,
      .keys = { { .flags = KEY_RO, .begin = KEY_BEGIN_INDEX, .index = 2, .find = KEY_FIND_RANGE, .keystep = 1 } },
      .summary = "Bytes a key and its value take.",
      .since = "4.0.0",
      .group = "server",
      .complexity = "O(N) where N is the number of samples.",
      .args = usage_args },
    SUB("doctor", memory_doctor_command, "What is unusual about the server's memory.", nondet_tips),
    SUB("stats", memory_stats_command, "Where the memory is.", nondet_tips),
    SUB("malloc-stats", memory_malloc_stats_command, "The allocator's own report.", nondet_tips),
    SUB("purge", memory_purge_command, "Has the allocator give back free pages.", all_shards_tips),
    { .name = "help",
      .run = memory_help_command,
      .arity = 2,
      .flags = CMD_LOADING | CMD_STALE,
      .summary = "Lists the subcommands.",
      .since = "4.0.0",
      .group = "server",
      .complexity = "O(1)" },
    { 0 },
};
