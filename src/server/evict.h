/* Making room: keys when maxmemory is exceeded (by maxmemory-policy), connections when their buffers exceed maxmemory-clients. */
#ifndef KETTLE_SERVER_EVICT_H
#define KETTLE_SERVER_EVICT_H

#include "base/alloc.h"
#include "server/aof_server.h"
#include "server/replication.h"
#include "server/server.h"

enum evict_result {
    EVICT_DONE,    /* below the limit */
    EVICT_RUNNING, /* the time for one call is over; the next command or the cron goes on */
    EVICT_FAILED   /* nothing can be evicted */
};

struct evict *evict_new(void);
struct evict *evict_free(struct evict *e); /* NULL is fine; always NULL. No other thread may use it */

/* maxmemory is not the primary's business: a replica with replica-ignore-maxmemory holds what its primary holds. */
bool evict_applies(struct server *srv);
/* Whether more memory is used than maxmemory allows. Any thread; a few loads. */
static inline bool evict_is_needed(struct server *srv) {
    int64_t limit = cfg_get(&srv->cfg->maxmemory);
    if (!limit || mem_used() <= (size_t)limit + repl_not_counted(srv->repl)) return false;
    return mem_used() > (size_t)limit + repl_not_counted(srv->repl) + aof_buffer_bytes(srv) && evict_applies(srv);
}
/* Evicts until there is room, or for as long as maxmemory-eviction-tenacity allows. Any I/O thread (slot: its index), no shard
 * locked. */
enum evict_result evict_keys(struct server *srv, unsigned slot);
/* Microseconds spent above maxmemory: in all, or since it was last exceeded (0: it is not). */
uint64_t evict_exceeded_us(struct server *srv, bool total);

/* Closes the connections that hold the most memory until the rest holds no more than maxmemory-clients. Any I/O thread; does
 * nothing but compare two figures as long as that is so. */
void evict_clients(struct server *srv);

#endif
