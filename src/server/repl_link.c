/*
 * The link to the primary: what is followed, attempts and their steps, the end of the connection. See repl_link.h.
 *
 * Place in the flow: REPLICAOF, FAILOVER and start-up say what to follow; thread 0's cron starts attempts; an attempt's thread
 * has its steps run here; the client of kind PRIMARY tells when its connection has ended.
 *
 * Threads: each function says so in a header. Steps: thread 0, with all shards locked. Log lines are redis-server's.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "cmd/script/script.h"
#include "server/aof_server.h"
#include "server/client.h"
#include "server/loading.h"
#include "server/propagate.h"
#include "server/refusal.h"
#include "server/repl_apply.h"
#include "server/repl_attempt.h"
#include "server/tracking.h"

#define RETRY_US 1000000    /* between two attempts; between two acknowledgements */
#define HELD_RETRY_US 10000 /* between two looks whether a script has let go of the shards */
#define STOP_WAIT_S 2       /* for the attempts' threads, those given up too, at exit */
#define STOP_LOOK_US 1000

static void step_again(struct loop_timer *t);

struct repl_link *repl_link_new(struct server *srv) {
    struct repl_link *l = mem_zalloc(sizeof *l);
    l->srv = srv;
    l->repl = srv->repl;
    l->again.fn = step_again;
    srv->repl->link = l;
    return l;
}

struct repl_link *repl_link_free(struct repl_link *l) {
    if (!l) return NULL;
    mem_free(l->host);
    mem_free(l);
    return NULL;
}

static void update_refusals(struct repl_link *l) { /* lock held */
    const struct config *cfg = l->srv->cfg;
    bool is_replica = repl_is_replica(l->repl), is_up = repl_link_state(l) == LINK_CONNECTED;
    refusal_set(l->srv, REFUSE_READ_ONLY, is_replica && cfg_get(&cfg->replica_read_only));
    refusal_set(l->srv, REFUSE_STALE, is_replica && !is_up && !cfg_get(&cfg->replica_serve_stale_data));
}

static void set_state(struct repl_link *l, enum link_state state) { /* lock held; the role is set already */
    atomic_store_explicit(&l->state, state, memory_order_release);
    update_refusals(l);
}

void repl_link_apply_config(struct server *srv) {
    pthread_mutex_lock(&srv->repl->lock);
    update_refusals(srv->repl->link);
    pthread_mutex_unlock(&srv->repl->lock);
}

/* ---- what is followed ---- */

/* The attempt, if there is one, is given up. lock held; the caller cancels and lets go of what is returned. */
static struct repl_attempt *take_attempt(struct repl_link *l) {
    struct repl_attempt *a = l->attempt;
    l->attempt = NULL;
    return a;
}

static void give_up(struct repl_attempt *a) {
    if (!a) return;
    attempt_cancel(a);
    attempt_unref(a);
}

/* Whatever was loading does so no longer: its attempt is stale. */
static void end_loading(struct server *srv, bool was_loading) {
    if (was_loading) loading_end(srv);
}

/* A step left behind, for thread 0: what belongs to an older epoch is closed, a new attempt is begun. */
static void tidy_up(struct io_thread *th, void *arg) {
    struct repl_link *l = th->srv->repl->link;
    (void)arg;
    if (l->primary && !repl_apply_is_current(l->primary)) {
        struct client *c = l->primary;
        l->primary = NULL;
        conn_close(&c->conn, CONN_END_LOCAL, "");
    }
    l->cron_us = 0; /* do not wait for the second to pass */
    repl_link_cron(th->srv);
}

static void disconnect_blocked(struct server *srv) {
    for (int i = 0; i < srv->n_threads; i++) client_unblock_all(&srv->threads[i]);
}

void repl_link_follow(struct server *srv, struct slice host, int port, bool failover) {
    struct repl *r = srv->repl;
    struct repl_link *l = r->link;
    bool was_primary = !repl_is_replica(r);
    char *fresh = mem_memdup0(host.ptr, host.len);
    pthread_mutex_lock(&r->lock);
    atomic_fetch_add(&l->epoch, 1);
    struct repl_attempt *a = take_attempt(l);
    bool was_loading = a && a->is_loading;
    char *old = l->host;
    l->host = fresh;
    l->port = port;
    l->failover = failover;
    l->changed_us = clock_mono_us();
    if (was_primary) l->has_history = true;
    if (was_primary) l->stream_db = 0;
    if (repl_link_state(l) == LINK_CONNECTED) l->lost_us = clock_mono_us();
    atomic_store(&r->role, REPL_REPLICA);
    set_state(l, LINK_CONNECT);
    pthread_mutex_unlock(&r->lock);
    mem_free(old);
    give_up(a);
    end_loading(srv, was_loading);
    if (was_primary) {
        log_notice(
            "Before turning into a replica, using my own master parameters to synthesize a cached master: I may be able to "
            "synchronize with the new master with just a partial transfer.");
        disconnect_blocked(srv);
    }
    log_set_role('S');
    process_set_oom_score(srv);
    repl_update_sink(r);
    client_update_expiry(srv);
    io_thread_post(&srv->threads[0], tidy_up, NULL);
}

void repl_link_promote(struct server *srv) {
    struct repl *r = srv->repl;
    struct repl_link *l = r->link;
    if (!repl_is_replica(r)) return;
    pthread_mutex_lock(&r->lock);
    atomic_fetch_add(&l->epoch, 1);
    struct repl_attempt *a = take_attempt(l);
    bool was_loading = a && a->is_loading;
    char *old = l->host;
    l->host = NULL;
    l->port = 0;
    l->failover = l->has_history = false;
    l->changed_us = clock_mono_us();
    l->lost_us = 0;
    atomic_store(&r->role, REPL_PRIMARY);
    set_state(l, LINK_NONE);
    pthread_mutex_unlock(&r->lock);
    mem_free(old);
    give_up(a);
    end_loading(srv, was_loading);
    log_set_role('M');
    process_set_oom_score(srv);
    log_notice("Discarding previously cached master state.");
    repl_shift_id(r);
    repl_disconnect_replicas(r); /* they are to learn of the new id */
    repl_update_sink(r);
    propagate_reselect(srv, EFFECT_REPL);
    ks_forget_own(srv->ks);
    client_update_expiry(srv);
    io_thread_post(&srv->threads[0], tidy_up, NULL);
}

void repl_link_point(struct server *srv, uint64_t *ret_offset, int *ret_db) {
    struct repl *r = srv->repl;
    pthread_mutex_lock(&r->lock);
    *ret_offset = repl_offset(r);
    *ret_db = r->link->stream_db;
    pthread_mutex_unlock(&r->lock);
}

/* A replica goes on from there. A primary has a history of its own from now on, and replicas of the one that the file is of may
 * go on too, if they have no more than the file. */
void repl_link_set_history(struct server *srv, const char *id, int64_t offset, int db) {
    struct repl *r = srv->repl;
    bool is_replica = repl_is_replica(r);
    if (is_replica) repl_set_id(r, id);
    backlog_reset(r->backlog, (uint64_t)offset);
    backlog_open(r->backlog);
    pthread_mutex_lock(&r->lock);
    if (is_replica) {
        r->link->has_history = true;
        r->link->stream_db = db >= 0 ? db : 0;
    } else {
        memcpy(r->id2, id, REPL_ID_LEN);
        r->second_offset = offset + 1;
    }
    pthread_mutex_unlock(&r->lock);
    repl_update_sink(r);
}

void repl_link_start(struct server *srv) {
    char *text = config_other_dup(srv->cfg, "replicaof"), *space = text ? strrchr(text, ' ') : NULL;
    if (space && strcasecmp(text, "no one") != 0) {
        *space = '\0';
        atomic_store(&srv->repl->role, REPL_REPLICA); /* it was no primary before: there is no history but what a file says */
        repl_link_follow(srv, slice_cstr(text), (int)strtol(space + 1, NULL, 10), false);
    }
    mem_free(text);
}

/* ---- attempts ---- */

static char *text_or_null(struct config *cfg, char *const *field) {
    return config_str_dup(cfg, field);
}

static void take_settings(struct repl_attempt *a) {
    struct config *cfg = a->srv->cfg;
    a->user = text_or_null(cfg, &cfg->masteruser);
    a->auth = text_or_null(cfg, &cfg->masterauth);
    a->source = text_or_null(cfg, &cfg->bind_source_addr);
    a->announce_ip = text_or_null(cfg, &cfg->replica_announce_ip);
    int64_t port = cfg_get(&cfg->replica_announce_port);
    bool tls = cfg_get(&cfg->tls_replication);
    if (!port) port = tls && cfg_get(&cfg->tls_port) ? cfg_get(&cfg->tls_port) : cfg_get(&cfg->port);
    a->announce_port = (int)port;
    a->timeout_us = cfg_get(&cfg->repl_timeout) * 1000000;
    if (tls) a->tls = tls_client_ctx_get(&a->srv->tls);
}

/* lock held */
static struct repl_attempt *attempt_new(struct repl_link *l) {
    struct repl_attempt *a = mem_zalloc(sizeof *a);
    a->srv = l->srv;
    atomic_store(&a->refs, 1);
    a->epoch = atomic_load(&l->epoch);
    a->host = mem_strdup(l->host);
    a->port = l->port;
    a->failover = l->failover;
    if (l->has_history) memcpy(a->id, l->repl->id, REPL_ID_LEN);
    a->offset = (int64_t)repl_offset(l->repl) + 1;
    a->io.fd = a->fd = -1;
    a->stream_db = -1;
    a->started_us = clock_mono_us();
    pthread_mutex_init(&a->lock, NULL);
    pthread_cond_init(&a->changed, NULL);
    return a;
}

enum attempt_why { WHY_TIME, WHY_LOST, WHY_FAILED };

static void begin_attempt(struct repl_link *l, enum attempt_why why) {
    pthread_mutex_lock(&l->repl->lock);
    if (repl_link_state(l) != LINK_CONNECT || l->attempt) {
        pthread_mutex_unlock(&l->repl->lock);
        return;
    }
    struct repl_attempt *a = attempt_new(l);
    l->attempt = a;
    attempt_ref(a);
    set_state(l, LINK_CONNECTING);
    pthread_mutex_unlock(&l->repl->lock);
    take_settings(a);
    log_notice("%s to MASTER %s:%d%s", why == WHY_TIME ? "Connecting" : "Reconnecting", a->host, a->port,
               why == WHY_FAILED ? " after failure" : "");
    int r = 0;
    if (cfg_get(&l->srv->cfg->tls_replication) && !a->tls) {
        log_warning("Unable to connect to MASTER: tls-replication is on, and TLS is not configured");
        r = -EINVAL;
    }
    if (r == 0) r = attempt_start(a);
    if (r == 0) {
        log_notice("MASTER <-> REPLICA sync started");
    } else {
        if (r != -EINVAL) log_warning("Unable to connect to MASTER: %s", strerror(-r));
        pthread_mutex_lock(&l->repl->lock);
        struct repl_attempt *mine = l->attempt == a ? take_attempt(l) : NULL;
        if (mine) set_state(l, LINK_CONNECT);
        pthread_mutex_unlock(&l->repl->lock);
        attempt_unref(mine);
    }
    attempt_unref(a);
}

void link_note_state(struct repl_attempt *a, enum link_state state) {
    struct repl *r = a->srv->repl;
    pthread_mutex_lock(&a->lock); /* after attempt_cancel the server is not touched any more */
    bool wanted = !attempt_is_cancelled(a);
    if (wanted) {
        pthread_mutex_lock(&r->lock);
        if (r->link->attempt == a) set_state(r->link, state);
        pthread_mutex_unlock(&r->lock);
    }
    pthread_mutex_unlock(&a->lock);
}

/* ---- steps ---- */

static bool is_current(struct repl_attempt *a) {
    struct repl_link *l = a->srv->repl->link;
    return !attempt_is_cancelled(a) && a->epoch == atomic_load(&l->epoch);
}

static void step_done(struct repl_attempt *a) {
    pthread_mutex_lock(&a->lock);
    a->step = NULL;
    pthread_cond_broadcast(&a->changed);
    pthread_mutex_unlock(&a->lock);
    attempt_unref(a);
}

void link_run_step(struct io_thread *th, void *arg) {
    struct repl_attempt *a = arg;
    struct server *srv = th->srv;
    struct repl_link *l = srv->repl->link;
    if (!is_current(a)) {
        attempt_unref(a);
        return;
    }
    uint64_t locked = engine_lock(&srv->eng, ks_all_mask(ks_n_shards(srv->ks)), true);
    if (!locked) {
        l->waiting = a;
        loop_timer_set(th->loop, &l->again, clock_mono_us() + HELD_RETRY_US);
        return;
    }
    if (is_current(a)) a->step(a);
    engine_unlock(&srv->eng, locked, 0);
    step_done(a);
}

static void step_again(struct loop_timer *t) {
    struct repl_link *l = list_entry(t, struct repl_link, again);
    struct repl_attempt *a = l->waiting;
    l->waiting = NULL;
    if (a) link_run_step(&l->srv->threads[0], a);
}

static bool is_empty(struct keyspace *ks) {
    for (int db = 0; db < ks_n_dbs(ks); db++)
        if (ks_size(ks, db)) return false;
    return true;
}

/* What the primary had to say of our history was no: it is not asked for again. */
void link_step_full(struct repl_attempt *a) {
    struct server *srv = a->srv;
    struct repl *r = srv->repl;
    struct repl_link *l = r->link;
    int64_t mode = cfg_get(&srv->cfg->repl_diskless_load);
    a->load = mode == CFG_DISKLESS_LOAD_SWAPDB                       ? LOAD_SWAP
              : mode == CFG_DISKLESS_LOAD_EMPTY && is_empty(srv->ks) ? LOAD_EMPTY
                                                                     : LOAD_DISK;
    pthread_mutex_lock(&r->lock);
    a->is_async = a->load == LOAD_SWAP && l->has_history && strcmp(r->id, a->answer.id) == 0;
    if (l->has_history) log_notice("Discarding previously cached master state.");
    l->has_history = l->failover = false;
    set_state(l, LINK_TRANSFER);
    pthread_mutex_unlock(&r->lock);
    if (a->failover) repl_failover_ended(r, true);
    atomic_store(&l->transfer_total, 0);
    atomic_store(&l->transfer_read, 0);
    atomic_store(&l->transfer_io_us, clock_mono_us());
}

static void exchange_data(struct repl_attempt *a) {
    struct server *srv = a->srv;
    tracking_flushed(srv, NULL, -1);
    ks_exchange(srv->ks, a->data);
}

static struct keyspace *empty_like(struct keyspace *ks) {
    struct ks_opts o = { .n_dbs = ks_n_dbs(ks), .n_shards = ks_n_shards(ks), .one_thread = true };
    return ks_new(&o);
}

static void with_data_locked(struct repl_attempt *a, void (*fn)(struct repl_attempt *)) {
    uint64_t all = ks_all_mask(ks_n_shards(a->data));
    ks_lock(a->data, all);
    fn(a);
    ks_unlock(a->data, all);
}

void link_step_begin_load(struct repl_attempt *a) {
    struct server *srv = a->srv;
    if (!a->is_async) repl_disconnect_replicas(srv->repl); /* what they have is not continued */
    if (a->load != LOAD_SWAP) {
        log_notice("MASTER <-> REPLICA sync: Flushing old data");
        a->data = empty_like(srv->ks);
        with_data_locked(a, exchange_data);
        scripts_flush_libraries(srv->eng.scripts, false);
    }
    loading_begin(srv, a->framing.total, a->is_async);
    a->is_loading = true;
}

static void put_libraries(struct repl_attempt *a) {
    struct scripts *sc = a->srv->eng.scripts;
    scripts_flush_libraries(sc, false);
    for (int i = 0; i < a->n_libraries; i++) {
        char *why = NULL;
        if (scripts_add_library(sc, a->libraries[i], false, &why) < 0)
            log_warning("Failed creating function library: %s", why ? why : "");
        mem_free(why);
    }
}

/* The connection becomes a client; what blocking I/O has read of the stream already is its first input. */
static void go_on_as_client(struct repl_attempt *a, int db) {
    struct repl_link *l = a->srv->repl->link;
    struct slice left = syncio_left(&a->io);
    pthread_mutex_lock(&a->lock);
    a->fd = -1;
    pthread_mutex_unlock(&a->lock);
    l->primary = client_adopt(&a->srv->threads[0], a->io.fd, a->io.tls);
    repl_apply_begin(l->primary, a->epoch, db, left);
    a->io.fd = -1;
    a->io.tls = NULL;
    syncio_close(&a->io, 0);
    a->is_taken = true;
    int64_t now = clock_mono_us();
    atomic_store(&l->last_io_us, now);
    pthread_mutex_lock(&l->repl->lock);
    l->is_pre_psync = a->is_pre_psync;
    l->has_history = !a->is_pre_psync;
    l->failover = false;
    l->lost_us = 0;
    set_state(l, LINK_CONNECTED);
    struct repl_attempt *mine = take_attempt(l);
    pthread_mutex_unlock(&l->repl->lock);
    if (a->failover) repl_failover_ended(l->repl, true);
    attempt_unref(mine);
    if (!a->is_pre_psync || a->framing.by_mark) repl_link_send_ack(a->srv); /* behind a mark the stream waits for it */
}

/* Nobody begins to read meanwhile: PSYNC is refused while the link is down. */
static bool has_readers(struct repl *r) {
    struct backlog_info info;
    backlog_info(r->backlog, &info);
    return info.n_readers > 0;
}

void link_step_loaded(struct repl_attempt *a) {
    struct server *srv = a->srv;
    struct repl *r = srv->repl;
    a->must_wait = has_readers(r);
    if (a->must_wait) {
        repl_disconnect_replicas(r);
        return;
    }
    if (a->load == LOAD_SWAP) log_notice("MASTER <-> REPLICA sync: Swapping active DB with loaded DB");
    with_data_locked(a, exchange_data);
    put_libraries(a);
    repl_set_id(r, a->answer.id);
    repl_clear_id2(r);
    backlog_reset(r->backlog, (uint64_t)a->answer.offset);
    backlog_open(r->backlog);
    aof_data_replaced(srv);
    loading_end(srv);
    a->is_loading = false;
    if (a->load == LOAD_SWAP)
        log_notice("MASTER <-> REPLICA sync: Discarding old DB in background"); /* by the attempt's thread */
    log_notice("MASTER <-> REPLICA sync: Finished with success");
    process_notify_status(srv, "MASTER <-> REPLICA sync: Finished with success. Ready to accept connections in read-write mode.");
    go_on_as_client(a, a->stream_db >= 0 ? a->stream_db : 0);
    client_update_expiry(srv);
}

/* The same history under another name: the primary was promoted, or has another primary now. Who asks for the old one may go on
 * until here. */
static void take_new_id(struct repl *r, const char *id) {
    pthread_mutex_lock(&r->lock);
    memcpy(r->id2, r->id, REPL_ID_LEN);
    r->second_offset = (int64_t)repl_offset(r) + 1;
    memcpy(r->id, id, REPL_ID_LEN);
    pthread_mutex_unlock(&r->lock);
}

void link_step_continue(struct repl_attempt *a) {
    struct repl *r = a->srv->repl;
    if (a->answer.id[0] && strcmp(a->answer.id, a->id) != 0) {
        log_warning("Master replication ID changed to %s", a->answer.id);
        take_new_id(r, a->answer.id);
        repl_disconnect_replicas(r);
    }
    backlog_open(r->backlog);
    go_on_as_client(a, r->link->stream_db);
    log_notice("MASTER <-> REPLICA sync: Master accepted a Partial Resynchronization.");
    process_notify_status(a->srv, "MASTER <-> REPLICA sync: Partial Resynchronization accepted. Ready to accept connections in "
                                  "read-write mode.");
}

void link_step_failed(struct repl_attempt *a) {
    struct repl_link *l = a->srv->repl->link;
    if (a->is_loading) loading_end(a->srv);
    a->is_loading = false;
    pthread_mutex_lock(&l->repl->lock);
    struct repl_attempt *mine = l->attempt == a ? take_attempt(l) : NULL;
    bool in_transfer = mine && repl_link_state(l) == LINK_TRANSFER;
    if (mine) set_state(l, LINK_CONNECT);
    pthread_mutex_unlock(&l->repl->lock);
    if (mine && a->failover && a->is_refused) repl_failover_ended(l->repl, false);
    /* A transfer is begun again at once, as by redis-server; but what fails at once must not have the primary save in a loop. */
    int64_t now = clock_mono_us();
    if (in_transfer && now - a->started_us >= RETRY_US && !a->srv->threads[0].stopping) {
        l->cron_us = now;
        begin_attempt(l, WHY_FAILED);
    }
    attempt_unref(mine);
}

/* ---- thread 0's cron ---- */

void repl_link_lost(struct client *c) {
    struct repl_link *l = c->srv->repl->link;
    if (l->primary != c) return;
    l->primary = NULL;
    if (!repl_apply_is_current(c)) return;
    log_notice("Connection with master lost.");
    pthread_mutex_lock(&l->repl->lock);
    l->lost_us = clock_mono_us();
    set_state(l, LINK_CONNECT);
    pthread_mutex_unlock(&l->repl->lock);
    log_notice("Caching the disconnected master state.");
    if (c->th->stopping) return;
    l->cron_us = clock_mono_us();
    begin_attempt(l, WHY_LOST);
}

void repl_link_cron(struct server *srv) {
    struct repl_link *l = srv->repl->link;
    int64_t now = clock_mono_us();
    if (srv->threads[0].stopping || (l->cron_us && now - l->cron_us < RETRY_US)) return;
    l->cron_us = now;
    bool is_starting = loading_is_on(srv) && !l->attempt; /* the file is read first: it may say from where to go on */
    if (repl_link_state(l) == LINK_CONNECT && !is_starting) begin_attempt(l, WHY_TIME);
    if (!l->primary || conn_is_closing(&l->primary->conn)) return;
    if (now - atomic_load(&l->last_io_us) > cfg_get(&srv->cfg->repl_timeout) * 1000000) {
        log_warning("MASTER timeout: no data nor PING received...");
        conn_close(&l->primary->conn, CONN_END_LOCAL, "");
        return;
    }
    if (!l->is_pre_psync) repl_link_send_ack(srv);
}

bool repl_link_stop(struct server *srv) {
    struct repl_link *l = srv->repl->link;
    pthread_mutex_lock(&srv->repl->lock);
    struct repl_attempt *a = take_attempt(l);
    pthread_mutex_unlock(&srv->repl->lock);
    loop_timer_cancel(srv->threads[0].loop, &l->again);
    if (l->waiting) attempt_unref(l->waiting);
    l->waiting = NULL;
    if (a) attempt_cancel(a);
    int64_t until = clock_mono_us() + STOP_WAIT_S * 1000000;
    while (atomic_load_explicit(&l->n_threads, memory_order_acquire) && clock_mono_us() < until) usleep(STOP_LOOK_US);
    if (a) attempt_unref(a);
    return atomic_load_explicit(&l->n_threads, memory_order_acquire) == 0;
}
