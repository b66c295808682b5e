/*
 * Periodic work. Every thread: idle clients, output limits over time, the end of a shutdown. Thread 0 besides: expiry, rehashing,
 * sampled figures, signals. Thread 0 takes one shard's lock at a time, for bounded work.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/time.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "cmd/figures.h"
#include "server/child.h"
#include "server/aof_server.h"
#include "server/client.h"
#include "server/evict.h"
#include "server/latency.h"
#include "server/loading.h"
#include "server/shutdown.h"
#include "server/snapshot.h"
#include "server/migrate.h"
#include "server/repl_link.h"
#include "server/replication.h"
#include "server/tracking.h"

#define EXPIRE_BATCH 100  /* keys deleted under one hold of a shard's lock, with active-expire-effort 1 */
#define EXPIRE_PERCENT 10 /* of the time between two turns of the cron, with effort 1 */
#define EXPIRE_PERCENT_STEP 4
#define REHASH_BUDGET_US 1000

static void check_clients(struct io_thread *th) {
    /* A tenth of the clients a turn at least, so that each is looked at once a second or so. */
    uint64_t n = atomic_load_explicit(&th->n_clients, memory_order_relaxed);
    uint64_t todo = n / 10 + 5 < n ? n / 10 + 5 : n;
    int64_t now = loop_now_us(th->loop); /* the turn's: one that took seconds made nobody idle who spoke in it */
    for (struct list *at = th->scan_at; todo > 0; todo--) {
        if (at == &th->clients) at = at->next;
        if (at == &th->clients) break;
        struct client *c = list_entry(at, struct client, node);
        at = at->next;
        th->scan_at = at;
        client_check_idle(c, now);
    }
}

static int64_t turn_us(struct server *srv) {
    int64_t hz = cfg_get(&srv->cfg->hz);
    return 1000000 / (hz > 0 ? hz : 10);
}

/* active-expire-effort, 1 to 10: the share of thread 0's time, which its clients do without, and for how long others wait for a
 * shard. What is due is found without looking, so there is no effort of looking (samples, redis-server's stale share). */
static int64_t expire_budget_us(struct server *srv, unsigned *ret_batch) {
    int64_t more = cfg_get(&srv->cfg->active_expire_effort) - 1;
    *ret_batch = (unsigned)(EXPIRE_BATCH + EXPIRE_BATCH / 4 * more);
    return turn_us(srv) * (EXPIRE_PERCENT + EXPIRE_PERCENT_STEP * more) / 100;
}

static void expire_and_rehash(struct server *srv) {
    int64_t start = clock_mono_us(), now_ms = clock_wall_ms();
    unsigned batch;
    int64_t budget = expire_budget_us(srv, &batch);
    int n = ks_n_shards(srv->ks);
    bool capped = false;
    unsigned expired = 0;
    for (int s = 0; s < n; s++) {
        bool more = true;
        while (more && clock_mono_us() - start < budget) {
            uint64_t locked = engine_lock(&srv->eng, 1ULL << s, false);
            if (!locked) return; /* a script takes long: the rest has time */
            expired += ks_expire_cycle(srv->ks, s, now_ms, batch, &more);
            engine_unlock(&srv->eng, locked, 0);
        }
        capped |= more;
    }
    uint64_t took = (uint64_t)(clock_mono_us() - start);
    atomic_fetch_add_explicit(&srv->stats.expire_us, took, memory_order_relaxed);
    if (expired) latency_note(srv, "expire-cycle", took); /* else it only waited for locks */
    if (capped) atomic_fetch_add_explicit(&srv->stats.expire_time_cap, 1, memory_order_relaxed);
    if (!cfg_get(&srv->cfg->activerehashing)) return;
    start = clock_mono_us();
    for (int s = 0; s < n && clock_mono_us() - start < REHASH_BUDGET_US; s++) ks_rehash_cycle(srv->ks, s, REHASH_BUDGET_US / 4);
}

static uint64_t us_of(struct timeval tv) {
    return (uint64_t)tv.tv_sec * 1000000 + (uint64_t)tv.tv_usec;
}

static void sample_cpu(struct server *srv) {
    struct rusage mine;
    if (getrusage(RUSAGE_THREAD, &mine) != 0) return;
    atomic_store_explicit(&srv->stats.main_sys_us, us_of(mine.ru_stime), memory_order_relaxed);
    atomic_store_explicit(&srv->stats.main_user_us, us_of(mine.ru_utime), memory_order_relaxed);
}

/* CONFIG RESETSTAT may have been in between: then there is nothing to be said. */
static void set_rate(_Atomic uint64_t *rate, uint64_t before, uint64_t now, int64_t dt_us) {
    if (now >= before) atomic_store(rate, (now - before) * 1000000 / (uint64_t)dt_us);
}

static void set_rates(struct server *srv, uint64_t ops, const struct server_traffic *t, const struct server_turns *turns,
                      int64_t dt_us) {
    struct server_stats *s = &srv->stats;
    const struct server_traffic *last = &srv->last_traffic;
    set_rate(&s->inst_ops, srv->last_ops, ops, dt_us);
    set_rate(&s->inst_in, last->in, t->in, dt_us);
    set_rate(&s->inst_out, last->out, t->out, dt_us);
    set_rate(&s->inst_repl_in, last->repl_in, t->repl_in, dt_us);
    set_rate(&s->inst_repl_out, last->repl_out, t->repl_out, dt_us);
    set_rate(&s->inst_turns, srv->last_turns.n, turns->n, dt_us);
    uint64_t n = turns->n - srv->last_turns.n;
    atomic_store(&s->inst_turn_us, n ? (turns->busy_us - srv->last_turns.busy_us) / n : 0);
}

static void sample(struct server *srv) {
    int64_t now = clock_mono_us(), dt = now - srv->last_sample_us;
    if (dt < 1000000) return;
    uint64_t ops = figures_commands(srv->eng.figures);
    struct server_traffic traffic;
    struct server_turns turns;
    server_traffic_get(srv, &traffic);
    server_turns_get(srv, &turns);
    if (srv->last_sample_us) set_rates(srv, ops, &traffic, &turns, dt);
    srv->last_ops = ops;
    srv->last_traffic = traffic;
    srv->last_turns = turns;
    srv->last_sample_us = now;
    sample_cpu(srv);
    tls_tickets_cron(&srv->tls);
    migrate_cron(srv);
    int64_t used = (int64_t)mem_used();
    if (used > atomic_load(&srv->stats.peak_memory)) atomic_store(&srv->stats.peak_memory, used);
}

static void cron_fired(struct loop_timer *t) {
    struct io_thread *th = list_entry(t, struct io_thread, cron);
    struct server *srv = th->srv;
    if (th->stopping) {
        client_free_gone(th);
        if (list_empty(&th->clients) || clock_mono_us() > th->stop_deadline_us) {
            list_for_each_safe(n, tmp, &th->clients) conn_close(&list_entry(n, struct client, node)->conn, CONN_END_LOCAL, "");
            if (list_empty(&th->clients) || clock_mono_us() > th->stop_deadline_us + 200000) {
                loop_stop(th->loop);
                return;
            }
        }
        loop_timer_set(th->loop, t, clock_mono_us() + 5000);
        return;
    }
    client_free_gone(th);
    if (atomic_load_explicit(&srv->cron_paused, memory_order_relaxed)) {
        if (th->index == 0) shutdown_cron(srv);
        loop_timer_set(th->loop, t, clock_mono_us() + 100000);
        return;
    }
    check_clients(th);
    if (th->index == 0) {
        srv->cron_loops++;
        bool is_loading = loading_is_on(srv); /* the keyspace is another thread's then */
        if (!is_loading) expire_and_rehash(srv);
        client_pause_end(srv, clock_wall_ms());
        if (!is_loading) evict_keys(srv, 0);
        child_cron(srv);
        snapshot_cron(srv);
        if (!is_loading) aof_cron(srv);
        tracking_trim(srv); /* CONFIG SET may have made the table smaller */
        sample(srv);
        repl_cron(srv);
        repl_link_cron(srv);
        tls_watch_tick(srv);
        shutdown_cron(srv);
    }
    loop_timer_set(th->loop, t, clock_mono_us() + turn_us(srv));
}

void cron_start(struct io_thread *th) {
    th->cron.fn = cron_fired;
    loop_timer_set(th->loop, &th->cron, clock_mono_us() + 1000);
}
