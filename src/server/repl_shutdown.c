/*
 * The end of a primary: lagging replicas are waited for. See repl_shutdown.h. Place in the flow: shutdown.c, before the last
 * snapshot is written.
 */
#include "server/repl_shutdown.h"

#include "base/clock.h"
#include "base/log.h"
#include "server/client.h"
#include "server/replica.h"

#define PAUSE_MS (10LL * 365 * 86400 * 1000) /* until it is over */

static bool lags(const struct replica *r, uint64_t end) {
    enum replica_state state = replica_state(r);
    return (state == REPLICA_ONLINE || state == REPLICA_WAIT_ACK) && atomic_load(&((struct replica *)(uintptr_t)r)->ack) < end;
}

static bool any_lags(struct repl *r) {
    uint64_t end = repl_offset(r);
    bool any = false;
    pthread_mutex_lock(&r->lock);
    list_for_each(n, &r->replicas) any |= lags(list_entry(n, struct replica, node), end);
    pthread_mutex_unlock(&r->lock);
    return any;
}

bool repl_shutdown_is_wanted(struct repl *r) {
    return !repl_is_replica(r) && cfg_get(&r->srv->cfg->shutdown_timeout) > 0 && any_lags(r);
}

static void log_result(struct repl *r) {
    uint64_t end = repl_offset(r);
    int n = 0, in_sync = 0;
    pthread_mutex_lock(&r->lock);
    list_for_each(node, &r->replicas) {
        struct replica *one = list_entry(node, struct replica, node);
        char name[300];
        n++;
        if (!lags(one, end) && replica_state(one) == REPLICA_ONLINE) {
            in_sync++;
            continue;
        }
        log_notice("Lagging replica %s reported offset %lld behind master, lag=%lld, state=%s.",
                   replica_name(one, name, sizeof name), (long long)(end - atomic_load(&one->ack)),
                   (long long)((clock_mono_us() - atomic_load(&one->ack_us)) / 1000000),
                   replica_state(one) == REPLICA_ONLINE ? "online" : "wait_bgsave");
    }
    pthread_mutex_unlock(&r->lock);
    if (n) log_notice("%d of %d replicas are in sync when shutting down.", in_sync, n);
}

/* No write is under way any more when this returns, but for a script that takes long. */
static void pause_writes(struct server *srv) {
    client_pause_begin(srv, clock_wall_ms() + PAUSE_MS, false);
    engine_move_gate(&srv->eng);
    uint64_t locked = engine_lock(&srv->eng, ks_all_mask(ks_n_shards(srv->ks)), false);
    if (locked) engine_unlock(&srv->eng, locked, 0);
}

bool repl_shutdown_waits(struct server *srv) {
    struct repl *r = srv->repl;
    int64_t now = clock_mono_us(), until = atomic_load(&r->shutdown_until_us);
    if (until == 0) {
        if (!repl_shutdown_is_wanted(r)) return false;
        log_notice("Waiting for replicas before shutting down.");
        atomic_store(&r->shutdown_until_us, now + cfg_get(&srv->cfg->shutdown_timeout) * 1000000);
        pause_writes(srv);
        return true;
    }
    if (now < until && any_lags(r)) return true;
    log_result(r);
    return false;
}

static void resume_posted(struct io_thread *th, void *arg) {
    (void)arg;
    client_resume_paused(th);
}

void repl_shutdown_cancel(struct server *srv) {
    if (atomic_exchange(&srv->repl->shutdown_until_us, 0) == 0) return;
    client_pause_end(srv, INT64_MAX);
    for (int t = 0; t < srv->n_threads; t++) io_thread_post(&srv->threads[t], resume_posted, NULL);
}
