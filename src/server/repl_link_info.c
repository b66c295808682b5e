/*
 * What the link shows of itself: INFO, ROLE, acknowledgements. Place in the
 * flow: commands of any thread, and thread 0's cron. Threads: any, but for repl_link_send_ack, thread 0.
 */
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/str.h"
#include "server/aof_server.h"
#include "server/client.h"
#include "server/repl_attempt.h"
#include "server/repl_link.h"

/* ---- acknowledgements ---- */

int64_t link_fsynced_offset(struct server *srv) {
    return aof_is_on(srv->aof) ? (int64_t)aof_fsynced_repl_offset(srv->aof) : -1;
}

void repl_link_send_ack(struct server *srv) {
    struct client *c = srv->repl->link->primary;
    char offset[24], fsynced[24];
    struct buf b = { 0 };
    if (!c || conn_is_closing(&c->conn)) return;
    size_t n = str_from_ll(offset, (int64_t)repl_offset(srv->repl));
    struct slice argv[5] = { SLICE_LIT("REPLCONF"), SLICE_LIT("ACK"), { offset, n }, SLICE_LIT("FACK") };
    int argc = 3;
    int64_t on_disk = link_fsynced_offset(srv);
    if (on_disk >= 0) {
        argv[4] = (struct slice){ fsynced, str_from_ll(fsynced, on_disk) };
        argc = 5;
    }
    replica_put_command(&b, argc, argv);
    obuf_append(&c->conn.out, b.data, b.len);
    buf_done(&b);
    conn_flush_later(&c->conn);
}

/* ---- INFO ---- */

static long long seconds_since(int64_t us) {
    return (long long)((clock_mono_us() - us) / 1000000);
}

static void info_transfer(struct repl_link *l, struct buf *o) {
    uint64_t total = atomic_load(&l->transfer_total), read = atomic_load(&l->transfer_read);
    buf_printf(o, "master_sync_total_bytes:%llu\r\n", (unsigned long long)total);
    buf_printf(o, "master_sync_read_bytes:%llu\r\n", (unsigned long long)read);
    buf_printf(o, "master_sync_left_bytes:%lld\r\n", (long long)total - (long long)read);
    buf_printf(o, "master_sync_perc:%.2f\r\n", total ? (double)read / (double)total * 100 : 0.0);
    buf_printf(o, "master_sync_last_io_seconds_ago:%lld\r\n", seconds_since(atomic_load(&l->transfer_io_us)));
}

void repl_link_info(struct server *srv, struct buf *o) {
    struct repl *r = srv->repl;
    struct repl_link *l = r->link;
    enum link_state state = repl_link_state(l);
    uint64_t offset = repl_offset(r);
    pthread_mutex_lock(&r->lock);
    char *host = mem_strdup(l->host ? l->host : "");
    int port = l->port;
    int64_t lost_us = l->lost_us;
    bool has_history = l->has_history;
    pthread_mutex_unlock(&r->lock);
    bool is_up = state == LINK_CONNECTED;
    buf_printf(o, "master_host:%s\r\nmaster_port:%d\r\nmaster_link_status:%s\r\n", host, port, is_up ? "up" : "down");
    buf_printf(o, "master_last_io_seconds_ago:%lld\r\n", is_up ? seconds_since(atomic_load(&l->last_io_us)) : -1);
    buf_printf(o, "master_sync_in_progress:%d\r\n", state == LINK_TRANSFER);
    buf_printf(o, "slave_read_repl_offset:%llu\r\nslave_repl_offset:%llu\r\n",
               is_up || has_history ? (unsigned long long)offset : 0, is_up || has_history ? (unsigned long long)offset : 0);
    if (state == LINK_TRANSFER) info_transfer(l, o);
    if (!is_up) buf_printf(o, "master_link_down_since_seconds:%lld\r\n", lost_us ? seconds_since(lost_us) : -1);
    buf_printf(o, "slave_priority:%lld\r\nslave_read_only:%lld\r\nreplica_announced:%lld\r\n",
               (long long)cfg_get(&srv->cfg->replica_priority), (long long)cfg_get(&srv->cfg->replica_read_only),
               (long long)cfg_get(&srv->cfg->replica_announced));
    mem_free(host);
}

/* ---- ROLE ---- */

void repl_link_role(struct repl *r, struct reply *reply) {
    static const char *const names[] = {
        [LINK_NONE] = "none",           [LINK_CONNECT] = "connect", [LINK_CONNECTING] = "connecting",
        [LINK_HANDSHAKE] = "handshake", [LINK_TRANSFER] = "sync",   [LINK_CONNECTED] = "connected"
    };
    struct repl_link *l = r->link;
    enum link_state state = repl_link_state(l);
    pthread_mutex_lock(&r->lock);
    char *host = mem_strdup(l->host ? l->host : "");
    int port = l->port;
    pthread_mutex_unlock(&r->lock);
    reply_array(reply, 5);
    reply_bulk_cstr(reply, "slave");
    reply_bulk_cstr(reply, host);
    reply_int(reply, port);
    reply_bulk_cstr(reply, names[state]);
    reply_int(reply, state == LINK_CONNECTED ? (int64_t)repl_offset(r) : -1);
    mem_free(host);
}
