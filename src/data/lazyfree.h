/* Memory given back off the hot path: one background thread for the process, started at the first use, runs the frees it is
 * handed, in order. Any thread may hand over; nothing here takes a lock. In a forked child the thread does not exist: what is
 * handed over there is not freed, which is right for a child that writes a snapshot and exits. */
#ifndef KETTLE_DATA_LAZYFREE_H
#define KETTLE_DATA_LAZYFREE_H

#include <stdint.h>

/* Calls fn(arg_take) on the background thread. `items` is what the statistics count: keys or values. fn must not call back
 * into a keyspace. When the thread cannot be started fn runs at once, in the caller. */
void lazyfree_push(void (*fn)(void *arg_take), void *arg_take, uint64_t items);
uint64_t lazyfree_pending(void); /* items handed over and not freed yet; relaxed */
uint64_t lazyfree_freed(void);   /* items freed since the start or the last reset; relaxed */
void lazyfree_reset_stats(void);
/* Waits until everything handed over so far is freed (shutdown, tests). Not for the background thread itself. */
void lazyfree_drain(void);

#endif
