/*
 * maxmemory-clients: connections that are closed because all of them together hold too much memory. See evict.h.
 *
 * Each thread keeps the sum of what its clients hold, moved on whenever a client's figures are published; so to find that the
 * limit holds takes as many loads as there are threads. When it does not, one thread looks at all clients and has the largest
 * closed by their owners: the others' order does not matter, and it is rare.
 */
#include <string.h>

#include "base/buf.h"
#include "base/log.h"
#include "server/client.h"
#include "server/evict.h"

/* The limit in bytes; 0: none. A negative setting is a share of maxmemory, in percent. */
static uint64_t limit_of(struct server *srv) {
    int64_t v = cfg_get(&srv->cfg->maxmemory_clients);
    if (v >= 0) return (uint64_t)v;
    return (uint64_t)((double)cfg_get(&srv->cfg->maxmemory) / 100.0 * (double)-v);
}

static uint64_t in_use(struct server *srv) {
    int64_t sum = 0;
    for (int t = 0; t < srv->n_threads; t++) sum += atomic_load_explicit(&srv->threads[t].clients_mem, memory_order_relaxed);
    return sum > 0 ? (uint64_t)sum : 0;
}

static void close_posted(struct io_thread *th, void *arg) {
    struct client *c = client_by_id(th, (uint64_t)(uintptr_t)arg);
    if (!c || conn_is_closing(&c->conn)) return;
    struct buf text = { 0 };
    client_format(c, &text);
    log_notice("Evicting client: %s", buf_cstr(&text));
    buf_done(&text);
    atomic_fetch_add_explicit(&th->srv->stats.evicted_clients, 1, memory_order_relaxed);
    conn_close(&c->conn, CONN_END_LOCAL, "");
}

/* Of the clients that may be closed, the one that holds the most. Its memory is no longer counted: it is as good as closed. */
static uint64_t pick_largest(struct server *srv, struct io_thread **ret_th) {
    uint64_t id = 0;
    int64_t most = 0;
    struct client *largest = NULL;
    for (int t = 0; t < srv->n_threads; t++) {
        struct io_thread *th = &srv->threads[t];
        pthread_mutex_lock(&th->registry_lock);
        list_for_each(n, &th->clients) {
            struct client *c = list_entry(n, struct client, node);
            int64_t mem = atomic_load_explicit(&c->mem_counted, memory_order_relaxed);
            unsigned flags = atomic_load_explicit(&c->flags, memory_order_relaxed);
            if ((flags & (CLIENT_NO_EVICT | CLIENT_CLOSING | CLIENT_PRIMARY | CLIENT_REPLICA)) || mem <= most) continue;
            most = mem;
            largest = c;
            id = c->s.id;
            *ret_th = th;
        }
        pthread_mutex_unlock(&th->registry_lock);
    }
    if (!largest) return 0;
    pthread_mutex_lock(&(*ret_th)->registry_lock); /* it may have gone since: looked for again, by its number */
    list_for_each(n, &(*ret_th)->clients) {
        struct client *c = list_entry(n, struct client, node);
        if (c->s.id != id) continue;
        atomic_fetch_or(&c->flags, CLIENT_CLOSING);
        atomic_fetch_sub(&(*ret_th)->clients_mem, atomic_exchange(&c->mem_counted, 0));
    }
    pthread_mutex_unlock(&(*ret_th)->registry_lock);
    return id;
}

void evict_clients(struct server *srv) {
    uint64_t limit = limit_of(srv), id;
    struct io_thread *th;
    if (limit == 0 || in_use(srv) <= limit || pthread_mutex_trylock(&srv->evict_lock) != 0) return;
    while (in_use(srv) > limit && (id = pick_largest(srv, &th)) != 0) io_thread_post(th, close_posted, (void *)(uintptr_t)id);
    pthread_mutex_unlock(&srv->evict_lock);
}
