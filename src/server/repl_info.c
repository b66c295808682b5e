/*
 * INFO replication, the primary's lines, and what replication holds in memory. Any I/O thread.
 */
#include "base/clock.h"
#include "server/client.h"
#include "server/replica.h"

static const char *state_name(enum replica_state state) {
    switch (state) {
    case REPLICA_WAIT_START:
    case REPLICA_WAIT_END:
        return "wait_bgsave";
    case REPLICA_SENDING:
        return "send_bulk";
    case REPLICA_ENDING:
        return "rdb_transmitted";
    default:
        return "online";
    }
}

static void replica_lines(struct repl *repl, struct buf *o) {
    int64_t now = clock_mono_us();
    int i = 0;
    pthread_mutex_lock(&repl->lock);
    list_for_each(n, &repl->replicas) {
        struct replica *r = list_entry(n, struct replica, node);
        enum replica_state state = replica_state(r);
        long long lag = state == REPLICA_ONLINE ? (long long)((now - atomic_load(&r->ack_us)) / 1000000) : 0;
        buf_printf(o, "slave%d:ip=%s,port=%d,state=%s,offset=%llu,lag=%lld\r\n", i++, *r->ip ? r->ip : r->peer, r->port,
                   state_name(state), (unsigned long long)atomic_load(&r->ack), lag);
    }
    pthread_mutex_unlock(&repl->lock);
}

void repl_info_replicas(struct server *srv, struct buf *o) {
    struct repl *repl = srv->repl;
    const struct config *cfg = srv->cfg;
    char id[REPL_ID_LEN + 1], id2[REPL_ID_LEN + 1];
    struct backlog_info b;
    int64_t second;
    repl_copy_ids(repl, id, id2, &second);
    backlog_info(repl->backlog, &b);
    buf_printf(o, "connected_slaves:%d\r\n", atomic_load(&repl->n_replicas));
    if (cfg_get(&cfg->min_replicas_to_write) && cfg_get(&cfg->min_replicas_max_lag))
        buf_printf(o, "min_slaves_good_slaves:%d\r\n", atomic_load(&repl->n_good));
    replica_lines(repl, o);
    buf_printf(o,
               "master_failover_state:%s\r\nmaster_replid:%s\r\nmaster_replid2:%s\r\nmaster_repl_offset:%llu\r\n"
               "second_repl_offset:%lld\r\n",
               repl_failover_state_name(repl), id, id2, (unsigned long long)b.end, (long long)second);
    buf_printf(o,
               "repl_backlog_active:%d\r\nrepl_backlog_size:%lld\r\nrepl_backlog_first_byte_offset:%llu\r\n"
               "repl_backlog_histlen:%llu\r\n",
               b.open, (long long)cfg_get(&cfg->repl_backlog_size), (unsigned long long)(b.open ? b.start + 1 : 0),
               (unsigned long long)(b.end - b.start));
}

/* The blocks are the backlog's up to its size; what goes beyond is there for replicas that are slow. */
void repl_memory_get(struct repl *repl, struct repl_memory *ret) {
    uint64_t size = (uint64_t)cfg_get(&repl->srv->cfg->repl_backlog_size);
    ret->buffers = backlog_mem(repl->backlog);
    ret->backlog = ret->buffers < size ? ret->buffers : size;
    ret->replicas = ret->buffers - ret->backlog;
}

uint64_t repl_not_counted(const struct repl *repl) {
    uint64_t mem = backlog_mem(repl->backlog), size = (uint64_t)cfg_get(&repl->srv->cfg->repl_backlog_size);
    return mem > size ? mem - size : 0;
}
