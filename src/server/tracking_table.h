/* Which trackers have read which key: the table behind client-side caching. Any thread; locks are inside and innermost. */
#ifndef KETTLE_SERVER_TRACKING_TABLE_H
#define KETTLE_SERVER_TRACKING_TABLE_H

#include <stdint.h>

#include "base/slice.h"

struct tracker; /* counted, tracking.h */
struct tracking_table;
struct tracked; /* one key, and who has read it */

struct tracking_table *tracking_table_new(void);
struct tracking_table *tracking_table_free(struct tracking_table *t);                     /* NULL is fine; always NULL */
void tracking_table_add(struct tracking_table *t, struct slice key, struct tracker *who); /* takes a reference, once a key */
/* The key's entry, out of the table and the caller's to free; NULL: nobody has read it. */
struct tracked *tracking_table_take(struct tracking_table *t, struct slice key);
struct tracked *tracking_table_take_random(struct tracking_table *t); /* NULL: the table is empty, or nearly */
void tracking_table_clear(struct tracking_table *t);
uint64_t tracking_table_keys(const struct tracking_table *t);  /* no lock */
uint64_t tracking_table_items(const struct tracking_table *t); /* pairs of key and tracker; no lock */

struct slice tracked_key(const struct tracked *k);
void tracked_each(const struct tracked *k, void (*fn)(void *arg, struct tracker *who), void *arg);
void tracked_free(void *k); /* struct tracked */

#endif
