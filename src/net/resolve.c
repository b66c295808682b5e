/* Names to addresses, within a deadline.
 *
 * Place in the flow: before a connection is made: replica link, MIGRATE, tools. Thread: the caller's waits; the resolver's blocks
 * and then answers, or finds that nobody waits any more. Whoever of the two is the last frees what they share. */
#include "net/resolve.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include "base/alloc.h"
#include "base/thread.h"

#define MAX_LOOKUPS 16 /* threads at a time: a dead name server must not gather them without end */

struct lookup {
    pthread_mutex_t lock; /* of what follows */
    pthread_cond_t done;
    bool is_done, is_left; /* the answer is there; nobody waits for it */
    int result;
    struct addrinfo *list;
    char port[8];
    char host[];
};

static _Atomic int n_lookups;

static int report(int gai, const char *host, char *err, size_t errlen) {
    if (gai == 0) return 0;
    int e = gai == EAI_SYSTEM ? errno : gai == EAI_MEMORY ? ENOMEM : gai == EAI_AGAIN ? EAGAIN : EADDRNOTAVAIL;
    if (err && errlen) snprintf(err, errlen, "%s: %s", host, gai_strerror(gai));
    return -e;
}

static int look_up(const char *host, const char *port, int flags, struct addrinfo **ret) {
    struct addrinfo hints = { .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = flags | AI_NUMERICSERV };
    return getaddrinfo(host, port, &hints, ret);
}

static void lookup_free(struct lookup *l) {
    if (l->list) freeaddrinfo(l->list);
    pthread_mutex_destroy(&l->lock);
    pthread_cond_destroy(&l->done);
    mem_free(l);
}

static void *lookup_main(void *arg) {
    struct lookup *l = arg;
    struct addrinfo *list = NULL;
    int result = look_up(l->host, l->port, 0, &list);
    if (result == EAI_SYSTEM) result = EAI_AGAIN; /* errno is this thread's */
    atomic_fetch_sub(&n_lookups, 1);
    pthread_mutex_lock(&l->lock);
    l->result = result;
    l->list = result == 0 ? list : NULL;
    l->is_done = true;
    bool is_left = l->is_left;
    pthread_cond_signal(&l->done);
    pthread_mutex_unlock(&l->lock);
    if (is_left) lookup_free(l);
    return NULL;
}

static struct lookup *lookup_start(const char *host, const char *port) {
    if (atomic_fetch_add(&n_lookups, 1) >= MAX_LOOKUPS) {
        atomic_fetch_sub(&n_lookups, 1);
        return NULL;
    }
    struct lookup *l = mem_zalloc(sizeof(*l) + strlen(host) + 1);
    memcpy(l->host, host, strlen(host) + 1);
    snprintf(l->port, sizeof(l->port), "%s", port);
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_mutex_init(&l->lock, NULL);
    pthread_cond_init(&l->done, &attr);
    pthread_condattr_destroy(&attr);
    pthread_t th;
    if (thread_start(&th, lookup_main, l) == 0) {
        pthread_detach(th);
        return l;
    }
    atomic_fetch_sub(&n_lookups, 1);
    lookup_free(l);
    return NULL;
}

/* Frees l, or leaves that to its thread. A result of getaddrinfo(3), or -ETIMEDOUT. */
static int lookup_wait(struct lookup *l, int64_t deadline_us, struct addrinfo **ret) {
    struct timespec until = { .tv_sec = deadline_us / 1000000, .tv_nsec = deadline_us % 1000000 * 1000 };
    int r = 0;
    pthread_mutex_lock(&l->lock);
    while (!l->is_done && r == 0) r = pthread_cond_timedwait(&l->done, &l->lock, &until);
    bool is_done = l->is_done;
    l->is_left = !is_done;
    pthread_mutex_unlock(&l->lock);
    if (!is_done) return -ETIMEDOUT;
    r = l->result;
    *ret = l->list;
    l->list = NULL;
    lookup_free(l);
    return r;
}

int net_resolve(const char *host, int port, int64_t deadline_us, struct addrinfo **ret, char *err, size_t errlen) {
    char service[8];
    snprintf(service, sizeof(service), "%d", port);
    int gai = look_up(host, service, deadline_us == INT64_MAX ? 0 : AI_NUMERICHOST, ret);
    if (gai != EAI_NONAME || deadline_us == INT64_MAX) return report(gai, host, err, errlen);
    struct lookup *l = lookup_start(host, service);
    gai = l ? lookup_wait(l, deadline_us, ret) : EAI_AGAIN;
    if (gai != -ETIMEDOUT) return report(gai, host, err, errlen);
    if (err && errlen) snprintf(err, errlen, "%s: %s", host, strerrordesc_np(ETIMEDOUT));
    return -ETIMEDOUT;
}
