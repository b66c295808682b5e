/* Topics: which threads listen to which channel (or pattern), and how many clients. All threads share one table for each kind;
 * who the clients are is known to their own thread only (pubsub.c). Any thread; locks are inside and innermost. */
#ifndef KETTLE_SERVER_TOPICS_H
#define KETTLE_SERVER_TOPICS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/slice.h"

struct topics;

struct topics *topics_new(bool patterns);     /* patterns: topics_match is wanted, topics_find is not */
struct topics *topics_free(struct topics *t); /* NULL is fine; always NULL */
/* A client of thread (0..63) more; is_first: the thread had none. */
void topics_add(struct topics *t, struct slice name, int thread, bool is_first);
/* One less; is_last: the thread has none any more. */
void topics_remove(struct topics *t, struct slice name, int thread, bool is_last);
/* A client of any thread does not count any more; its thread has it until topics_mark or topics_remove says otherwise. */
void topics_discount(struct topics *t, struct slice name);
/* The thread has (or has no longer) clients that listen to name, none of which count. */
void topics_mark(struct topics *t, struct slice name, int thread, bool on);
/* Clients that listen to name and count, and their threads as a mask (may be NULL; 0 where none counts). */
uint64_t topics_find(struct topics *t, struct slice name, uint64_t *ret_threads);
uint64_t topics_count(const struct topics *t); /* topics that have a listener; cheap */
/* fn for each pattern that matches channel, in the order in which they were first subscribed to. fn takes no lock. */
void topics_match(struct topics *t, struct slice channel,
                  void (*fn)(void *arg, struct slice pattern, uint64_t listeners, uint64_t threads), void *arg);
/* fn for each topic whose name matches pattern (ptr NULL: all). fn takes no lock. */
void topics_each(struct topics *t, struct slice pattern, void (*fn)(void *arg, struct slice name), void *arg);

#endif
