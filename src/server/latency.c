/*
 * The latency monitor's memory. Place in the flow: whoever measures says latency_note; cmd_latency.c reads. Spikes of one second
 * are one sample, the worst of them.
 */
#include "server/latency.h"

#include <pthread.h>
#include <string.h>
#include <strings.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "server/server.h"

#define MAX_EVENTS 32 /* kinds there are in the source, and more */

struct event {
    const char *name;
    uint64_t max;
    int next; /* place of the next sample; what is there is the oldest */
    struct latency_sample ring[LATENCY_SAMPLES];
};

struct latency {
    pthread_mutex_t lock;
    int n;
    struct event *events[MAX_EVENTS];
};

struct latency *latency_new(void) {
    struct latency *l = mem_zalloc(sizeof *l);
    pthread_mutex_init(&l->lock, NULL);
    return l;
}

struct latency *latency_free(struct latency *l) {
    if (!l) return NULL;
    for (int i = 0; i < l->n; i++) mem_free(l->events[i]);
    pthread_mutex_destroy(&l->lock);
    mem_free(l);
    return NULL;
}

static int find(const struct latency *l, const char *name) {
    for (int i = 0; i < l->n; i++)
        if (strcasecmp(l->events[i]->name, name) == 0) return i;
    return -1;
}

static void add(struct event *e, int64_t now_s, uint64_t ms) {
    struct latency_sample *last = &e->ring[(e->next + LATENCY_SAMPLES - 1) % LATENCY_SAMPLES];
    if (ms > e->max) e->max = ms;
    if (last->time_s == now_s) {
        if (ms > last->ms) last->ms = ms;
        return;
    }
    e->ring[e->next] = (struct latency_sample){ now_s, ms };
    e->next = (e->next + 1) % LATENCY_SAMPLES;
}

void latency_note(struct server *srv, const char *name, uint64_t usec) {
    struct latency *l = srv->latency;
    int64_t threshold = cfg_get(&srv->cfg->latency_monitor_threshold), now_s;
    if (threshold <= 0 || usec / 1000 < (uint64_t)threshold) return;
    now_s = clock_wall_us() / 1000000;
    pthread_mutex_lock(&l->lock);
    int i = find(l, name);
    if (i < 0 && l->n < MAX_EVENTS) {
        i = l->n++;
        l->events[i] = mem_zalloc(sizeof *l->events[i]);
        l->events[i]->name = name;
    }
    if (i >= 0) add(l->events[i], now_s, usec / 1000);
    pthread_mutex_unlock(&l->lock);
}

static void copy(const struct event *e, struct latency_history *ret) {
    ret->event = e->name;
    ret->max = e->max;
    ret->n = 0;
    for (int i = 0; i < LATENCY_SAMPLES; i++) {
        const struct latency_sample *s = &e->ring[(e->next + i) % LATENCY_SAMPLES];
        if (s->time_s) ret->sample[ret->n++] = *s;
    }
}

bool latency_get(struct latency *l, int i, struct latency_history *ret) {
    pthread_mutex_lock(&l->lock);
    bool found = i < l->n;
    if (found) copy(l->events[i], ret);
    pthread_mutex_unlock(&l->lock);
    return found;
}

bool latency_find(struct latency *l, const char *name, struct latency_history *ret) {
    pthread_mutex_lock(&l->lock);
    int i = find(l, name);
    if (i >= 0) copy(l->events[i], ret);
    pthread_mutex_unlock(&l->lock);
    return i >= 0;
}

bool latency_reset(struct latency *l, const char *name) {
    pthread_mutex_lock(&l->lock);
    int i = find(l, name);
    if (i >= 0) {
        mem_free(l->events[i]);
        l->n--;
        memmove(&l->events[i], &l->events[i + 1], sizeof(l->events[0]) * (size_t)(l->n - i));
    }
    pthread_mutex_unlock(&l->lock);
    return i >= 0;
}
