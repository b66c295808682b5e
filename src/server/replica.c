/*
 * Replicas: making, counting, naming. See replica.h.
 */
#include "server/replica.h"

#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "server/client.h"

/* Of "127.0.0.1:6379", "[::1]:6379": without the port and the brackets. */
static void host_of(const char *addr, char *out, size_t cap) {
    const char *colon = strrchr(addr, ':');
    size_t n = colon ? (size_t)(colon - addr) : strlen(addr);
    if (n >= 2 && addr[0] == '[' && addr[n - 1] == ']') {
        addr++;
        n -= 2;
    }
    snprintf(out, cap, "%.*s", (int)n, addr);
}

struct replica *replica_of(struct client *c) {
    if (c->replica) return c->replica;
    struct replica *r = mem_zalloc(sizeof *r);
    r->repl = c->srv->repl;
    atomic_init(&r->refs, 1);
    r->client = c;
    r->th = c->th;
    r->client_id = c->s.id;
    r->file_fd = -1;
    list_init(&r->node);
    list_init(&r->thread_node);
    host_of(c->addr, r->peer, sizeof r->peer);
    pthread_mutex_lock(&c->th->registry_lock);
    c->replica = r;
    pthread_mutex_unlock(&c->th->registry_lock);
    return r;
}

struct replica *replica_ref(struct replica *r) {
    atomic_fetch_add_explicit(&r->refs, 1, memory_order_relaxed);
    return r;
}

void replica_unref(struct replica *r) {
    if (r && atomic_fetch_sub_explicit(&r->refs, 1, memory_order_acq_rel) == 1) mem_free(r);
}

void replica_drop_posted(struct io_thread *th, void *arg) {
    struct replica *r = arg;
    (void)th;
    if (r->client) conn_close(&r->client->conn, CONN_END_LOCAL, "");
    replica_unref(r);
}

const char *replica_name(const struct replica *r, char *out, size_t cap) {
    const char *ip = *r->ip ? r->ip : r->peer;
    if (r->client && r->client->kind == LISTEN_UNIX && !*r->ip)
        snprintf(out, cap, "client id #%llu", (unsigned long long)r->client_id);
    else if (r->port)
        snprintf(out, cap, strchr(ip, ':') ? "[%s]:%d" : "%s:%d", ip, r->port);
    else
        snprintf(out, cap, "%s:<unknown-replica-port>", ip);
    return out;
}

void replica_enlist(struct replica *r, enum replica_state state) {
    struct repl *repl = r->repl;
    int64_t now = clock_mono_us();
    r->asked_us = now;
    atomic_store(&r->ack_us, now);
    atomic_store(&r->progress_us, now);
    r->expected = r->client->conn.bytes_out + r->client->conn.out.bytes;
    pthread_mutex_lock(&repl->lock);
    atomic_store(&r->state, state);
    if (list_empty(&r->node)) {
        list_push_back(&repl->replicas, &r->node);
        atomic_fetch_add(&repl->n_replicas, 1);
    }
    pthread_mutex_unlock(&repl->lock);
    atomic_fetch_or(&r->client->flags, CLIENT_REPLICA);
}

void replica_forget(struct client *c) {
    struct replica *r = c->replica;
    if (!r) return;
    struct repl *repl = r->repl;
    char name[300];
    pthread_mutex_lock(&repl->lock);
    bool was_replica = !list_empty(&r->node);
    replica_name(r, name, sizeof name);
    backlog_reader_close(repl->backlog, &r->reader);
    r->client = NULL;
    if (was_replica) {
        list_remove(&r->node);
        if (atomic_fetch_sub(&repl->n_replicas, 1) == 1) repl->no_replicas_since_us = clock_mono_us();
    }
    pthread_mutex_unlock(&repl->lock);
    if (was_replica) {
        log_notice("Connection with replica %s lost.", name);
        repl_count_good(repl);
    }
    list_remove(&r->thread_node);
    if (list_empty(&c->th->replicas)) atomic_fetch_and(&repl->replica_threads, ~(1ULL << c->th->index));
    pthread_mutex_lock(&c->th->registry_lock);
    c->replica = NULL;
    pthread_mutex_unlock(&c->th->registry_lock);
    replica_unref(r);
}
