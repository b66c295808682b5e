/*
 * What replicas say: REPLCONF, PSYNC, SYNC; and ROLE. Place in the flow: a client of an I/O thread becomes a replica here. A
 * partial resynchronization begins at once, on the replica's own thread; a full one is thread 0's (repl_sync.c), which is told.
 *
 * PSYNC holds every shard while it decides: nothing is written between the look at the backlog and the reader's place in it, and
 * whoever frees the backlog (repl_cron.c) holds them too.
 */
#include "server/cmd_replication.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"
#include "server/client.h"
#include "server/repl_link.h"
#include "server/repl_sync.h"
#include "server/repl_wait.h"
#include "server/replica.h"

static struct server *server_of(struct cmd_ctx *c) {
    return c->eng->server;
}

/* ---- REPLCONF ---- */

static void take_options(struct replica *r, const struct replconf *rc) {
    pthread_mutex_lock(&r->repl->lock);
    if (rc->set & REPLCONF_PORT) r->port = rc->port;
    if (rc->set & REPLCONF_IP) snprintf(r->ip, sizeof r->ip, "%.*s", (int)rc->ip.len, rc->ip.ptr);
    if (rc->set & REPLCONF_CAPA) r->capa |= rc->capa;
    if (rc->set & REPLCONF_RDB_ONLY) r->rdb_only = rc->rdb_only;
    if (rc->set & REPLCONF_FILTER) r->filter = rc->filter;
    pthread_mutex_unlock(&r->repl->lock);
}

static void raise_to(_Atomic uint64_t *figure, int64_t v) {
    if (v >= 0 && (uint64_t)v > atomic_load_explicit(figure, memory_order_relaxed))
        atomic_store_explicit(figure, (uint64_t)v, memory_order_relaxed);
}

static void take_ack(struct replica *r, const struct replconf *rc) {
    raise_to(&r->ack, rc->ack);
    if (rc->set & REPLCONF_FACK) raise_to(&r->fack, rc->fack);
    int64_t before = atomic_exchange(&r->ack_us, clock_mono_us());
    if (replica_state(r) == REPLICA_WAIT_ACK)
        replica_go_online(r);
    else if (replica_state(r) == REPLICA_WAIT_END)
        r->has_loaded = true;                                         /* before the child's end was heard of */
    if (clock_mono_us() - before > 1000000) repl_count_good(r->repl); /* it may have been no good until now */
    repl_wait_acked(r->repl);
}

void replconf_command(struct cmd_ctx *c) {
    struct client *cl = client_of(c->s);
    struct replconf rc;
    char err[512];
    bool ok = replconf_parse(c->argc, c->argv, &rc, err, sizeof err);
    if (rc.set & (REPLCONF_PORT | REPLCONF_IP | REPLCONF_CAPA | REPLCONF_RDB_ONLY | REPLCONF_FILTER))
        take_options(replica_of(cl), &rc);
    if (!ok) {
        reply_error(c->r, err);
    } else if (rc.set & REPLCONF_ACK) {
        bool is_replica = atomic_load(&cl->flags) & CLIENT_REPLICA;
        if (is_replica && rc.ack >= 0) take_ack(cl->replica, &rc);
    } else if (!(rc.set & REPLCONF_GETACK)) {
        reply_ok(c->r);
    }
}

/* ---- PSYNC ---- */

static const char *name_of(struct replica *r, char *out, size_t cap) {
    pthread_mutex_lock(&r->repl->lock);
    replica_name(r, out, cap);
    pthread_mutex_unlock(&r->repl->lock);
    return out;
}

struct request {
    struct replica *r;
    const char *name;
    struct slice id;
    int64_t offset;
};

static void log_refusal(const struct request *q, const struct psync_history *h, enum psync_verdict v) {
    int len = (int)(q->id.len < 64 ? q->id.len : 64);
    switch (v) {
    case PSYNC_FULL_ASKED:
        log_notice("Full resync requested by replica %s", q->name);
        break;
    case PSYNC_FULL_OTHER_ID:
        log_notice(
            "Partial resynchronization not accepted: Replication ID mismatch (Replica asked for '%.*s', my replication IDs "
            "are '%s' and '%s')",
            len, q->id.ptr, h->id, h->id2);
        break;
    case PSYNC_FULL_PAST_ID2:
        log_notice("Partial resynchronization not accepted: Requested offset for second ID was %lld, but I can reply up to %lld",
                   (long long)q->offset, (long long)h->second_offset);
        break;
    default:
        log_notice("Unable to partial resync with replica %s for lack of backlog (Replica request was: %lld).", q->name,
                   (long long)q->offset);
        if (q->offset > (int64_t)h->end + 1)
            log_warning("Warning: replica %s tried to PSYNC with an offset that is greater than the master replication offset.",
                        q->name);
        break;
    }
}

/* All shards are locked. True: it goes on from where it was. */
static bool try_partial(struct cmd_ctx *c, const struct request *q) {
    struct replica *r = q->r;
    struct repl *repl = r->repl;
    char id[REPL_ID_LEN + 1], id2[REPL_ID_LEN + 1];
    struct psync_history h = { .id = id, .id2 = id2 };
    struct backlog_info info;
    uint64_t from = 0;
    repl_copy_ids(repl, id, id2, &h.second_offset);
    backlog_info(repl->backlog, &info);
    h.has_backlog = info.open;
    h.start = info.start;
    h.end = info.end;
    enum psync_verdict v = psync_decide(&h, q->id, q->offset, &from);
    if (v != PSYNC_CONTINUE || !backlog_reader_open(repl->backlog, &r->reader, from)) {
        log_refusal(q, &h, v == PSYNC_CONTINUE ? PSYNC_FULL_NOT_KEPT : v);
        return false;
    }
    if (r->capa & REPLICA_CAPA_PSYNC2) {
        char line[80];
        int n = snprintf(line, sizeof line, "+CONTINUE %s\r\n", id);
        reply_raw(c->r, line, (size_t)n);
    } else {
        reply_raw(c->r, "+CONTINUE\r\n", 11);
    }
    replica_enlist(r, REPLICA_ONLINE);
    raise_to(&r->ack, (int64_t)from);
    log_notice("Partial resynchronization request from %s accepted. Sending %llu bytes of backlog starting from offset %lld.",
               q->name, (unsigned long long)(info.end - from), (long long)q->offset);
    return true;
}

static void begin_full(struct replica *r) {
    struct repl *repl = r->repl;
    int on = 0;
    if (cfg_get(&repl->srv->cfg->repl_disable_tcp_nodelay) && r->client->kind != LISTEN_UNIX &&
        setsockopt(r->client->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) != 0)
        log_debug("TCP_NODELAY of a replica: %s", strerror(errno));
    atomic_fetch_add(&repl->n_full, 1);
    repl_begin_history(repl);
    replica_enlist(r, REPLICA_WAIT_START);
}

/* What stands against it, before anything is looked at. NULL: nothing. */
static const char *refusal(struct cmd_ctx *c, struct replica *r) {
    (void)c;
    struct repl *repl = server_of(c)->repl;
    if (repl_failover_is_on(repl)) return "NOMASTERLINK Can't SYNC while failing over";
    if (repl_is_replica(repl) && !repl_link_is_up(repl)) return "NOMASTERLINK Can't SYNC while not connected with my master";
    if (r->filter && !(r->capa & REPLICA_CAPA_EOF)) return "ERR Filtered replica requires EOF capability";
    return NULL;
}

void psync_command(struct cmd_ctx *c) {
    struct client *cl = client_of(c->s);
    bool is_psync = c->argc > 1;
    char name[300];
    if (atomic_load(&cl->flags) & CLIENT_REPLICA) return;
    if (c->argc > 3 && slice_ieq(c->argv[3], "failover") && !repl_failover_accept(c)) return;
    struct replica *r = replica_of(cl);
    const char *why = refusal(c, r);
    if (why) {
        reply_error(c->r, why);
        return;
    }
    struct request q = { .r = r, .name = name_of(r, name, sizeof name) };
    if (is_psync) {
        q.id = c->argv[1];
        if (!cmd_arg_ll(c, c->argv[2], &q.offset, NULL)) return;
    }
    if (!dispatch_lock(c, ks_all_mask(ks_n_shards(c->ks)))) {
        dispatch_reply_busy(c);
        return;
    }
    log_notice("Replica %s asks for synchronization", name);
    r->is_pre_psync = !is_psync;
    bool partial = is_psync && try_partial(c, &q);
    if (!partial) begin_full(r);
    dispatch_unlock(c);
    if (partial) {
        atomic_fetch_add(&r->repl->n_partial_ok, 1);
        replica_go_online(r);
    } else {
        if (is_psync && !slice_eq(q.id, SLICE_LIT("?"))) atomic_fetch_add(&r->repl->n_partial_err, 1);
        repl_sync_wanted(r);
    }
}

/* ---- ROLE ---- */

static void reply_number_text(struct reply *r, uint64_t v) {
    char text[24];
    int n = snprintf(text, sizeof text, "%llu", (unsigned long long)v);
    reply_bulk(r, text, (size_t)n);
}

static void role_of_primary(struct cmd_ctx *c, struct repl *repl) {
    reply_array(c->r, 3);
    reply_bulk_cstr(c->r, "master");
    reply_int(c->r, (int64_t)repl_offset(repl));
    struct reply_deferred d = reply_deferred_begin(c->r);
    size_t count = 0;
    pthread_mutex_lock(&repl->lock);
    list_for_each(n, &repl->replicas) {
        struct replica *r = list_entry(n, struct replica, node);
        enum replica_state state = replica_state(r);
        if (state != REPLICA_ONLINE && state != REPLICA_WAIT_ACK) continue;
        reply_array(c->r, 3);
        reply_bulk_cstr(c->r, *r->ip ? r->ip : r->peer);
        reply_number_text(c->r, (uint64_t)r->port);
        reply_number_text(c->r, atomic_load(&r->ack));
        count++;
    }
    pthread_mutex_unlock(&repl->lock);
    reply_deferred_array(c->r, d, count);
}

void role_command(struct cmd_ctx *c) {
    struct repl *repl = server_of(c)->repl;
    if (repl_is_replica(repl))
        repl_link_role(repl, c->r);
    else
        role_of_primary(c, repl);
}
