/*
 * What a primary does once a second: PINGs in the stream, signs of life for replicas that wait for their file, replicas that have
 * fallen silent, the backlog nobody needs any more, the next full synchronization. Thread 0; what is to be done to a replica's
 * connection is posted to its thread.
 */
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "server/client.h"
#include "server/propagate.h"
#include "server/refusal.h"
#include "server/repl_sync.h"
#include "server/replica.h"

#define TURN_US 1000000

/* ---- to a replica's thread ---- */

/* It waits for its file: a newline says that we are still there. Not in the middle of what a child writes. */
static bool wants_newline(const struct replica *r) {
    enum replica_state state = replica_state(r);
    if (r->is_held || r->hold_serial) return false;
    return state == REPLICA_WAIT_START || (state == REPLICA_WAIT_END && !r->by_sockets);
}

static void sign_of_life_posted(struct io_thread *th, void *arg) {
    struct replica *r = arg;
    (void)th;
    if (r->client && !conn_is_closing(&r->client->conn) && wants_newline(r)) {
        obuf_append(&r->client->conn.out, "\n", 1);
        r->expected++;
        client_pushed(r->client);
    } else if (r->client && replica_state(r) == REPLICA_SENDING && r->client->conn.bytes_out != r->seen_out) {
        r->seen_out = r->client->conn.bytes_out;
        atomic_store(&r->progress_us, clock_mono_us());
    }
    replica_unref(r);
}

static void close_posted(struct io_thread *th, void *arg) {
    struct replica *r = arg;
    (void)th;
    if (r->client) conn_close(&r->client->conn, CONN_END_LOCAL, "");
    replica_unref(r);
}

static void close_replica(struct replica *r) {
    io_thread_post(r->th, close_posted, replica_ref(r));
}

void repl_disconnect_replicas(struct repl *repl) {
    pthread_mutex_lock(&repl->lock);
    list_for_each(n, &repl->replicas) close_replica(list_entry(n, struct replica, node));
    pthread_mutex_unlock(&repl->lock);
}

/* ---- good replicas ---- */

void repl_count_good(struct repl *repl) {
    const struct config *cfg = repl->srv->cfg;
    int64_t now = clock_mono_us(), max_lag_s = cfg_get(&cfg->min_replicas_max_lag);
    int good = 0;
    pthread_mutex_lock(&repl->lock);
    list_for_each(n, &repl->replicas) {
        struct replica *r = list_entry(n, struct replica, node);
        good += replica_state(r) == REPLICA_ONLINE && (now - atomic_load(&r->ack_us)) / 1000000 <= max_lag_s;
    }
    atomic_store(&repl->n_good, good);
    bool few = max_lag_s && good < cfg_get(&cfg->min_replicas_to_write) && !repl_is_replica(repl);
    refusal_set(repl->srv, REFUSE_FEW_REPLICAS, few);
    pthread_mutex_unlock(&repl->lock);
}

/* ---- the turn ---- */

static void ping(struct repl *repl) {
    static const struct slice argv[] = { { "PING", 4 } };
    int64_t period = cfg_get(&repl->srv->cfg->repl_ping_replica_period);
    if (repl_is_replica(repl) || atomic_load(&repl->n_replicas) == 0) return;
    if (period > 0 && repl->cron_turns % (uint64_t)period) return;
    if (repl_failover_is_on(repl)) return; /* the offset is to stand still */
    propagate_repl_command(repl->srv, -1, 1, argv);
}

static void give_signs_of_life(struct repl *repl) {
    pthread_mutex_lock(&repl->lock);
    list_for_each(n, &repl->replicas) {
        struct replica *r = list_entry(n, struct replica, node);
        if (replica_state(r) <= REPLICA_SENDING) io_thread_post(r->th, sign_of_life_posted, replica_ref(r));
    }
    pthread_mutex_unlock(&repl->lock);
}

static const char *timed_out(const struct replica *r, int64_t now_us, int64_t limit_us) {
    enum replica_state state = replica_state(r);
    bool acks = state == REPLICA_ONLINE || state == REPLICA_WAIT_ACK;
    if (acks && !r->is_pre_psync && now_us - atomic_load(&((struct replica *)(uintptr_t)r)->ack_us) > limit_us)
        return "streaming sync";
    if (state == REPLICA_SENDING && now_us - atomic_load(&((struct replica *)(uintptr_t)r)->progress_us) > limit_us)
        return "full sync";
    return NULL;
}

static void drop_silent(struct repl *repl) {
    int64_t now = clock_mono_us(), limit = cfg_get(&repl->srv->cfg->repl_timeout) * 1000000;
    pthread_mutex_lock(&repl->lock);
    list_for_each(n, &repl->replicas) {
        struct replica *r = list_entry(n, struct replica, node);
        const char *what = timed_out(r, now, limit);
        char name[300];
        if (!what) continue;
        log_warning("Disconnecting timedout replica (%s): %s", what, replica_name(r, name, sizeof name));
        close_replica(r);
    }
    pthread_mutex_unlock(&repl->lock);
}

/* Who asks after that cannot go on where he was: the stream has a gap. So the history gets another name. */
static void free_backlog(struct repl *repl) {
    struct server *srv = repl->srv;
    int64_t ttl = cfg_get(&srv->cfg->repl_backlog_ttl);
    if (ttl == 0 || repl_is_replica(repl) || atomic_load(&repl->n_replicas) || !backlog_is_open(repl->backlog)) return;
    pthread_mutex_lock(&repl->lock);
    bool due = clock_mono_us() - repl->no_replicas_since_us > ttl * 1000000;
    pthread_mutex_unlock(&repl->lock);
    if (!due) return;
    uint64_t locked = engine_lock(&srv->eng, ks_all_mask(ks_n_shards(srv->ks)), false);
    if (!locked) return;
    if (atomic_load(&repl->n_replicas) == 0) { /* PSYNC takes these locks too */
        repl_change_id(repl);
        repl_clear_id2(repl);
        backlog_close(repl->backlog);
        repl_update_sink(repl);
        log_notice("Replication backlog freed after %lld seconds without connected replicas.", (long long)ttl);
    }
    engine_unlock(&srv->eng, locked, 0);
}

void repl_cron(struct server *srv) {
    struct repl *repl = srv->repl;
    int64_t now = clock_mono_us();
    repl_failover_cron(repl);
    if (now - repl->cron_us < TURN_US) return;
    repl->cron_us = now;
    free_backlog(repl);
    if (atomic_load(&repl->n_replicas) > 0) {
        ping(repl);
        give_signs_of_life(repl);
        drop_silent(repl);
        repl_count_good(repl);
    }
    if (repl->sync || atomic_load(&repl->n_replicas) > 0) repl_sync_consider(srv);
    repl_sync_remove_file(repl, false);
    repl->cron_turns++;
}

void repl_apply_config(struct server *srv) {
    backlog_set_size(srv->repl->backlog, (uint64_t)cfg_get(&srv->cfg->repl_backlog_size));
    repl_count_good(srv->repl);
}
