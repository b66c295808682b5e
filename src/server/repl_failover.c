/*
 * FAILOVER. See repl_failover.h. Place in the flow: the command pauses writes, thread 0's cron sees a replica come up to the
 * stream's end and follows it (repl_link_follow), the link tells how that went.
 */
#include "server/repl_failover.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "server/client.h"
#include "server/cmd_replication.h"
#include "server/repl_link.h"
#include "server/replica.h"

#define PAUSE_MS (10LL * 365 * 86400 * 1000) /* until it is over */

bool repl_failover_is_on(struct repl *r) {
    return atomic_load_explicit(&r->failover.state, memory_order_relaxed) != FAILOVER_NONE;
}

const char *repl_failover_state_name(struct repl *r) {
    static const char *const names[] = { "no-failover", "waiting-for-sync", "failover-in-progress" };
    return names[atomic_load(&r->failover.state)];
}

/* ---- pausing ---- */

static void resume_posted(struct io_thread *th, void *arg) {
    (void)arg;
    client_resume_paused(th);
}

/* What a CLIENT PAUSE had asked for before goes on. */
static void resume(struct repl *r) {
    struct server *srv = r->srv;
    int64_t now = clock_wall_ms();
    client_pause_end(srv, INT64_MAX);
    if (r->failover.before_until_ms > now) client_pause_begin(srv, r->failover.before_until_ms, r->failover.before_all);
    for (int t = 0; t < srv->n_threads; t++) io_thread_post(&srv->threads[t], resume_posted, NULL);
}

/* ---- the end ---- */

/* From one of these states to NONE, once. */
static bool leave(struct repl *r, enum failover_state from) {
    int state = (int)from;
    return atomic_compare_exchange_strong(&r->failover.state, &state, FAILOVER_NONE);
}

static void log_abort(struct repl *r, const char *why) {
    pthread_mutex_lock(&r->lock);
    if (r->failover.host)
        log_notice("FAILOVER to %s:%d aborted: %s", r->failover.host, r->failover.port, why);
    else
        log_notice("FAILOVER to any replica aborted: %s", why);
    pthread_mutex_unlock(&r->lock);
}

static void promote_again(struct repl *r) {
    struct engine *e = &r->srv->eng;
    struct io_thread *th = io_thread_self();
    uint64_t locked = 0;
    while (!(locked = engine_lock(e, ks_all_mask(ks_n_shards(e->ks)), false)))
        continue; /* scripts write nothing: they are paused */
    repl_link_promote(r->srv);
    engine_unlock(e, locked, th ? (unsigned)th->index : 0);
}

/* No lock is held. */
static bool abort_it(struct repl *r, const char *why) {
    bool waited = leave(r, FAILOVER_WAIT_FOR_SYNC), began = !waited && leave(r, FAILOVER_IN_PROGRESS);
    if (!waited && !began) return false;
    log_abort(r, why);
    if (began) promote_again(r);
    resume(r);
    return true;
}

static void rejected_posted(struct io_thread *th, void *arg) {
    (void)arg;
    abort_it(th->srv->repl, "Failover target rejected psync request");
}

void repl_failover_ended(struct repl *r, bool accepted) {
    if (!repl_failover_is_on(r)) return;
    if (!accepted) {
        io_thread_post(&r->srv->threads[0], rejected_posted, NULL);
    } else if (leave(r, FAILOVER_IN_PROGRESS)) {
        resume(r); /* writes that waited hear that this is a replica now */
    }
}

/* ---- who takes over ---- */

static bool is_target(const struct repl *r, const struct replica *one) {
    const char *ip = *one->ip ? one->ip : one->peer;
    return !r->failover.host || (strcasecmp(ip, r->failover.host) == 0 && one->port == r->failover.port);
}

/* One that has everything, and becomes the target. lock held; the offset does not move meanwhile. */
static bool find_synced(struct repl *r, uint64_t end) {
    list_for_each(n, &r->replicas) {
        struct replica *one = list_entry(n, struct replica, node);
        if (replica_state(one) != REPLICA_ONLINE || !is_target(r, one) || atomic_load(&one->ack) != end) continue;
        if (!r->failover.host) {
            r->failover.host = mem_strdup(*one->ip ? one->ip : one->peer);
            r->failover.port = one->port;
        }
        return true;
    }
    return false;
}

/* All shards are locked. False: nobody has everything yet. */
static bool hand_over(struct repl *r, bool forced) {
    pthread_mutex_lock(&r->lock);
    bool found = forced || find_synced(r, repl_offset(r));
    char *host = found ? mem_strdup(r->failover.host) : NULL;
    int port = r->failover.port;
    pthread_mutex_unlock(&r->lock);
    int waiting = FAILOVER_WAIT_FOR_SYNC;
    if (found && atomic_compare_exchange_strong(&r->failover.state, &waiting, FAILOVER_IN_PROGRESS)) {
        if (forced)
            log_notice("FAILOVER to %s:%d time out exceeded, failing over.", host, port);
        else
            log_notice("Failover target %s:%d is synced, failing over.", host, port);
        repl_link_follow(r->srv, slice_cstr(host), port, true);
    }
    mem_free(host);
    return found;
}

void repl_failover_cron(struct repl *r) {
    struct server *srv = r->srv;
    if (__builtin_expect(atomic_load_explicit(&r->failover.state, memory_order_relaxed) != FAILOVER_WAIT_FOR_SYNC, 1)) return;
    bool late = r->failover.deadline_us && clock_mono_us() >= r->failover.deadline_us;
    if (late && !r->failover.force) {
        abort_it(r, "Replica never caught up before timeout");
        return;
    }
    if (!late && atomic_load(&r->n_replicas) == 0) return;
    uint64_t locked = engine_lock(&srv->eng, ks_all_mask(ks_n_shards(srv->ks)), false);
    if (!locked) return;
    hand_over(r, late);
    engine_unlock(&srv->eng, locked, 0);
}

/* ---- FAILOVER ---- */

struct request {
    struct slice host;
    int64_t port, timeout_ms;
    bool has_timeout, force, abort;
};

static bool parse(struct cmd_ctx *c, struct request *q) {
    for (int i = 1; i < c->argc; i++) {
        if (slice_ieq(c->argv[i], "timeout") && i + 1 < c->argc && !q->has_timeout) {
            if (!cmd_arg_ll(c, c->argv[++i], &q->timeout_ms, NULL)) return false;
            if (q->timeout_ms <= 0) {
                reply_error(c->r, "ERR FAILOVER timeout must be greater than 0");
                return false;
            }
            q->has_timeout = true;
        } else if (slice_ieq(c->argv[i], "abort") && c->argc == 2) {
            q->abort = true;
        } else if (slice_ieq(c->argv[i], "to") && i + 2 < c->argc && !q->host.ptr) {
            q->host = c->argv[++i];
            if (!cmd_arg_ll_range(c, c->argv[++i], 0, 65535, &q->port, NULL)) return false;
        } else if (slice_ieq(c->argv[i], "force") && !q->force) {
            q->force = true;
        } else {
            cmd_syntax_error(c);
            return false;
        }
    }
    return true;
}

/* NULL: it may begin. lock held. */
static const char *check_target(struct repl *r, const struct request *q) {
    if (!q->host.ptr) return NULL;
    list_for_each(n, &r->replicas) {
        struct replica *one = list_entry(n, struct replica, node);
        if (!slice_ieq(q->host, *one->ip ? one->ip : one->peer) || one->port != q->port) continue;
        return replica_state(one) == REPLICA_ONLINE ? NULL : "ERR FAILOVER target replica is not online.";
    }
    return "ERR FAILOVER target HOST and PORT is not a replica.";
}

static const char *check(struct repl *r, const struct request *q) {
    if (repl_is_replica(r)) return "ERR FAILOVER is not valid when server is a replica.";
    if (atomic_load(&r->n_replicas) == 0) return "ERR FAILOVER requires connected replicas.";
    if (q->force && (!q->has_timeout || !q->host.ptr))
        return "ERR FAILOVER with force option requires both a timeout and target HOST and IP.";
    pthread_mutex_lock(&r->lock);
    const char *why = check_target(r, q);
    pthread_mutex_unlock(&r->lock);
    return why;
}

/* All shards are locked. */
static void begin(struct cmd_ctx *c, struct repl *r, const struct request *q) {
    struct server *srv = r->srv;
    struct repl_failover *f = &r->failover;
    pthread_mutex_lock(&r->lock);
    mem_free(f->host);
    f->host = q->host.ptr ? mem_memdup0(q->host.ptr, q->host.len) : NULL;
    f->port = (int)q->port;
    f->force = q->force;
    f->deadline_us = q->has_timeout ? clock_mono_us() + q->timeout_ms * 1000 : 0;
    if (f->host)
        log_notice("FAILOVER requested to %s:%d.", f->host, f->port);
    else
        log_notice("FAILOVER requested to any replica.");
    pthread_mutex_unlock(&r->lock);
    f->before_until_ms = atomic_load(&srv->pause_until_ms);
    f->before_all = atomic_load(&srv->pause_all);
    client_pause_begin(srv, clock_wall_ms() + PAUSE_MS, false);
    atomic_store(&f->state, FAILOVER_WAIT_FOR_SYNC);
    engine_move_gate(c->eng); /* what was let through before the pause looks again */
}

/* With all shards locked, as REPLICAOF changes the role: so of the two, and of two FAILOVERs, the later one sees the other. */
static void request(struct cmd_ctx *c, struct repl *r, const struct request *q) {
    if (!dispatch_lock(c, ks_all_mask(ks_n_shards(c->ks)))) {
        dispatch_reply_busy(c);
        return;
    }
    const char *why = repl_failover_is_on(r) ? "ERR FAILOVER already in progress." : check(r, q);
    if (!why) begin(c, r, q);
    dispatch_unlock(c);
    if (why)
        reply_error(c->r, why);
    else
        reply_ok(c->r);
}

void failover_command(struct cmd_ctx *c) {
    struct repl *r = ((struct server *)c->eng->server)->repl;
    struct request q = { 0 };
    if (!parse(c, &q)) return;
    if (q.abort) {
        if (abort_it(r, "Failover manually aborted"))
            reply_ok(c->r);
        else
            reply_error(c->r, "ERR No failover in progress.");
    } else {
        request(c, r, &q);
    }
}

/* ---- on the target ---- */

bool repl_failover_accept(struct cmd_ctx *c) {
    struct repl *r = ((struct server *)c->eng->server)->repl;
    char id[REPL_ID_LEN + 1], id2[REPL_ID_LEN + 1];
    int64_t second;
    log_notice("Failover request received for replid %.*s.", (int)(c->argv[1].len < 64 ? c->argv[1].len : 64), c->argv[1].ptr);
    if (!repl_is_replica(r)) {
        reply_error(c->r, "ERR PSYNC FAILOVER can't be sent to a master.");
        return false;
    }
    repl_copy_ids(r, id, id2, &second);
    if (!slice_ieq(c->argv[1], id)) {
        reply_error(c->r, "ERR PSYNC FAILOVER replid must match my replid.");
        return false;
    }
    if (!dispatch_lock(c, ks_all_mask(ks_n_shards(c->ks)))) {
        dispatch_reply_busy(c);
        return false;
    }
    repl_link_promote(r->srv);
    dispatch_unlock(c);
    log_notice("MASTER MODE enabled (failover request from '%s')", client_of(c->s)->addr);
    return true;
}
