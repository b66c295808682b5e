/* Keyspace notifications: events of keys as messages on __keyspace@<db>__:<key> and __keyevent@<db>__:<event>. */
#ifndef KETTLE_SERVER_NOTIFY_H
#define KETTLE_SERVER_NOTIFY_H

#include <stdbool.h>

#include "base/slice.h"

struct server;

/* Any thread, the key's shard locked; never blocks. cls: letter of the event's class in notify-keyspace-events. */
void notify_keyspace(void *srv, char cls, const char *event, int db, struct slice key);
void notify_expired(void *srv, int db, struct slice key); /* struct ks_hooks' */
void notify_fields_expired(void *srv, int db, struct slice key, const struct slice *fields, unsigned n,
                           bool is_key_gone);             /* struct ks_hooks' */
void notify_evicted(void *srv, int db, struct slice key); /* for who deletes keys to make room; before the key is freed */
void notify_added(void *srv, int db, struct slice key);   /* struct ks_hooks' */

#endif
