/* The latency monitor: spikes of at least latency-monitor-threshold milliseconds, by kind of event. One lock; any thread. */
#ifndef KETTLE_SERVER_LATENCY_H
#define KETTLE_SERVER_LATENCY_H

#include <stdbool.h>
#include <stdint.h>

struct latency;
struct server;

#define LATENCY_SAMPLES 160 /* of an event; at most one a second */

struct latency_sample {
    int64_t time_s; /* wall clock; 0: none */
    uint64_t ms;
};

struct latency_history {
    const char *event; /* static */
    uint64_t max;      /* of all time */
    int n;
    struct latency_sample sample[LATENCY_SAMPLES]; /* oldest first */
};

struct latency *latency_new(void);
struct latency *latency_free(struct latency *l); /* NULL is fine; always NULL */
/* Something took so long: counted when the monitor is on and it is long enough. event: static text, as redis-server names it
 * ("command", "fast-command", "expire-cycle", "eviction-cycle", ...). */
void latency_note(struct server *srv, const char *event, uint64_t usec);
/* Copies. The i-th event, in the order of their first spikes; false: there are not so many. */
bool latency_get(struct latency *l, int i, struct latency_history *ret);
bool latency_find(struct latency *l, const char *event, struct latency_history *ret);
bool latency_reset(struct latency *l, const char *event); /* false: no such event */

#endif
