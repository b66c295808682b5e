/*
 * WAIT and WAITAOF. Place in the flow: a client of an I/O thread blocks here (client_block.c) with what it waits for in its
 * struct client; an acknowledgement, on the thread of whatever replica it came from, posts to the threads of those whose wish has
 * come true; there the reply is counted anew and written.
 *
 * repl->lock guards the list of those who wait. A client is in it from before it blocks until it is told, unblocked or gone.
 */
#include "server/repl_wait.h"

#include <limits.h>

#include "base/clock.h"
#include "cmd/block.h"
#include "server/aof_server.h"
#include "server/client.h"
#include "server/cmd_replication.h"
#include "server/propagate.h"
#include "server/replica.h"

/* ---- counting ---- */

/* repl->lock is held. */
static int64_t count_acks(struct repl *repl, uint64_t offset, bool fsynced) {
    int64_t n = 0;
    list_for_each(node, &repl->replicas) {
        struct replica *r = list_entry(node, struct replica, node);
        n += replica_state(r) == REPLICA_ONLINE && atomic_load(fsynced ? &r->fack : &r->ack) >= offset;
    }
    return n;
}

static bool has_aof(const struct server *srv) {
    return aof_is_on(srv->aof);
}

/* Of what the client wrote, in this server's append-only file for good. */
static int64_t local_copies(const struct client *c) {
    return has_aof(c->srv) && aof_fsynced_offset(c->srv->aof) >= c->wait.aof_offset;
}

/* repl->lock is held. */
static bool is_fulfilled(struct repl *repl, const struct client *c) {
    const struct client_wait *w = &c->wait;
    if (w->local > 0 && local_copies(c) < w->local) return false;
    return count_acks(repl, c->wait.offset, w->is_aof) >= w->replicas;
}

static void reply_counts(struct session *s) {
    struct client *c = client_of(s);
    struct repl *repl = c->srv->repl;
    if (c->wait.is_aof && c->wait.local > 0 && !has_aof(c->srv)) {
        reply_error(&s->reply, "ERR WAITAOF cannot be used when numlocal is set but appendonly is disabled.");
        return;
    }
    pthread_mutex_lock(&repl->lock);
    int64_t n = count_acks(repl, c->wait.offset, c->wait.is_aof);
    pthread_mutex_unlock(&repl->lock);
    if (c->wait.is_aof) {
        reply_array(&s->reply, 2);
        reply_int(&s->reply, local_copies(c));
    }
    reply_int(&s->reply, n);
}

/* ---- waiting ---- */

void repl_wait_forget(struct client *c) {
    struct repl *repl = c->srv->repl;
    if (!c->waits_for_acks) return;
    c->waits_for_acks = false;
    pthread_mutex_lock(&repl->lock);
    list_remove(&c->wait_node);
    atomic_fetch_sub(&repl->n_waiting, 1);
    pthread_mutex_unlock(&repl->lock);
}

/* The client's thread: it is no longer blocked, whatever ended that. */
static void conclude(struct session *s) {
    repl_wait_forget(client_of(s));
    reply_counts(s);
}

/* True: it waits. Whoever acknowledges from now on sees it. */
static bool enlist(struct client *c) {
    struct repl *repl = c->srv->repl;
    pthread_mutex_lock(&repl->lock);
    atomic_fetch_add(&repl->n_waiting, 1);
    bool done = is_fulfilled(repl, c);
    if (done)
        atomic_fetch_sub(&repl->n_waiting, 1);
    else
        list_push_back(&repl->waiting, &c->wait_node);
    pthread_mutex_unlock(&repl->lock);
    c->waits_for_acks = !done;
    return !done;
}

static void wait_for(struct cmd_ctx *c, int64_t deadline_us) {
    struct client *cl = client_of(c->s);
    if (!cmd_can_block(c) || !enlist(cl)) {
        reply_counts(c->s);
        return;
    }
    cl->th->wants_acks = true;
    cmd_block_on_keys(c, &(struct cmd_block){ .deadline_us = deadline_us, .conclude = conclude });
}

void wait_command(struct cmd_ctx *c) {
    struct client *cl = client_of(c->s);
    int64_t replicas, deadline_us;
    if (repl_is_replica(cl->srv->repl)) {
        reply_error(c->r, "ERR WAIT cannot be used with replica instances. Please also note that since Redis 4.0 if a replica is "
                          "configured to be writable (which is not the default) writes to replicas are just local and are not "
                          "propagated.");
        return;
    }
    if (!cmd_arg_ll(c, c->argv[1], &replicas, NULL)) return;
    if (!cmd_arg_timeout(c, c->argv[2], CMD_TIMEOUT_MS, &deadline_us)) return;
    cl->wait = (struct client_wait){ .replicas = replicas, .offset = c->s->repl_offset };
    wait_for(c, deadline_us);
}

void waitaof_command(struct cmd_ctx *c) {
    struct client *cl = client_of(c->s);
    int64_t local, replicas, deadline_us;
    if (!cmd_arg_ll_range(c, c->argv[1], 0, 1, &local, NULL)) return;
    if (!cmd_arg_ll_range(c, c->argv[2], 0, LONG_MAX, &replicas, "ERR value is out of range, must be positive")) return;
    if (!cmd_arg_timeout(c, c->argv[3], CMD_TIMEOUT_MS, &deadline_us)) return;
    if (repl_is_replica(cl->srv->repl)) {
        reply_error(c->r, "ERR WAITAOF cannot be used with replica instances. Please also note that writes to replicas are just "
                          "local and are not propagated.");
        return;
    }
    if (local && !has_aof(cl->srv)) {
        reply_error(c->r, "ERR WAITAOF cannot be used when numlocal is set but appendonly is disabled.");
        return;
    }
    cl->wait = (struct client_wait){
        .replicas = replicas, .local = local, .is_aof = true, .offset = c->s->repl_offset, .aof_offset = c->s->aof_offset
    };
    wait_for(c, deadline_us);
}

/* ---- acknowledgements ---- */

static void fulfilled_posted(struct io_thread *th, void *arg) {
    struct client *c = client_by_id(th, (uint64_t)(uintptr_t)arg);
    if (c && c->s.waiter && c->waits_for_acks) client_block_end(c);
}

void repl_wait_acked(struct repl *repl) {
    if (atomic_load(&repl->n_waiting) == 0) return;
    pthread_mutex_lock(&repl->lock);
    list_for_each(n, &repl->waiting) {
        struct client *c = list_entry(n, struct client, wait_node);
        if (is_fulfilled(repl, c)) io_thread_post(c->th, fulfilled_posted, (void *)(uintptr_t)c->s.id);
    }
    pthread_mutex_unlock(&repl->lock);
}

void repl_wait_before_sleep(struct io_thread *th) {
    static const struct slice argv[] = { { "REPLCONF", 8 }, { "GETACK", 6 }, { "*", 1 } };
    if (__builtin_expect(!th->wants_acks, 1)) return;
    th->wants_acks = false;
    if (atomic_load(&th->srv->repl->n_replicas) > 0) propagate_repl_command(th->srv, -1, 3, argv);
}
