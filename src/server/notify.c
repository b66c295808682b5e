/*
 * Keyspace notifications. Place in the flow: commands say what happened (cmd_notify), the keyspace says what ran out or is new;
 * here it becomes messages, posted like any other. On the thread that changed the key, under its shard's lock: so the events of
 * one key are posted in the order in which they happened.
 *
 * Switched off, cmd_notify looks at one atomic of the engine's and does not come here; the keyspace's hooks look at the
 * configuration first.
 */
#include "server/notify.h"

#include "cmd/effects.h"
#include "server/pubsub.h"
#include "server/server.h"
#include "server/topics.h"
#include "server/tracking.h"

static bool has_listeners(struct server *srv) {
    return topics_count(srv->pubsub->topics[PUBSUB_CHANNEL]) || topics_count(srv->pubsub->topics[PUBSUB_PATTERN]);
}

void notify_keyspace(void *arg, char cls, const char *event, int db, struct slice key) {
    struct server *srv = arg;
    unsigned on = (unsigned)cfg_get(&srv->cfg->notify_keyspace_events);
    if (!(on & config_event_bit(cls)) || !has_listeners(srv)) return;
    struct buf channel = { 0 };
    if (on & config_event_bit('K')) {
        buf_printf(&channel, "__keyspace@%d__:", db);
        buf_append(&channel, key.ptr, key.len);
        pubsub_publish(srv, PUBSUB_CHANNEL, buf_slice(&channel), slice_cstr(event));
    }
    if (on & config_event_bit('E')) {
        buf_clear(&channel);
        buf_printf(&channel, "__keyevent@%d__:%s", db, event);
        pubsub_publish(srv, PUBSUB_CHANNEL, buf_slice(&channel), key);
    }
    buf_done(&channel);
}

void notify_expired(void *arg, int db, struct slice key) {
    struct server *srv = arg;
    effects_deleted(&srv->eng, db, key, atomic_load_explicit(&srv->eng.lazy_expire, memory_order_relaxed));
    notify_keyspace(srv, 'x', "expired", db, key);
    tracking_gone(srv, key);
}

void notify_fields_expired(void *arg, int db, struct slice key, const struct slice *fields, unsigned n, bool is_key_gone) {
    struct server *srv = arg;
    effects_fields_deleted(&srv->eng, db, key, (int)n, fields);
    notify_keyspace(srv, 'h', "hexpired", db, key);
    if (is_key_gone) notify_keyspace(srv, 'g', "del", db, key);
}

void notify_evicted(void *arg, int db, struct slice key) {
    struct server *srv = arg;
    effects_deleted(&srv->eng, db, key, cfg_get(&srv->cfg->lazyfree_lazy_eviction));
    notify_keyspace(srv, 'e', "evicted", db, key);
    tracking_gone(srv, key);
}

void notify_added(void *srv, int db, struct slice key) {
    notify_keyspace(srv, 'n', "new", db, key);
}
