/*
 * The keys of session tickets, from one TLS context to the next. The ring (libktls) is made when TLS is first configured and
 * given to every later context, so that a changed certificate costs no client its session; another tls-session-ticket-keys makes
 * another ring. Rotation and changed files happen in the ring; thread 0's cron makes them happen without traffic too, and
 * says in the log what became of them.
 */
#include <errno.h>
#include <string.h>

#include "base/alloc.h"
#include "base/log.h"
#include "server/tls.h"

static const char *text(const char *s) {
    return s ? s : "";
}

static struct ktls_tickets *present(struct tls_state *t) {
    pthread_mutex_lock(&t->lock);
    struct ktls_tickets *ring = t->tickets ? ktls_tickets_ref(t->tickets) : NULL;
    pthread_mutex_unlock(&t->lock);
    return ring;
}

int tls_tickets_get(struct tls_state *t, const char *path, int rotation_s, int lifetime_s, struct ktls_tickets **ret, char *err,
                    size_t errlen) {
    struct ktls_tickets_opts o = { .size = sizeof o, .path = path, .rotation_s = rotation_s, .lifetime_s = lifetime_s };
    if (t->tickets && strcmp(text(path), text(t->tickets_path)) == 0) {
        *ret = present(t);
        return 0;
    }
    return ktls_tickets_new(&o, ret, err, errlen);
}

void tls_tickets_use(struct tls_state *t, struct ktls_tickets *ring_take, const char *path, int rotation_s, int lifetime_s) {
    /* path may be the one that is freed */
    char *copy = path && *path ? mem_strdup(path) : NULL;
    if (ring_take) ktls_tickets_set_times(ring_take, rotation_s, lifetime_s);
    pthread_mutex_lock(&t->lock);
    struct ktls_tickets *old = t->tickets;
    t->tickets = ring_take;
    pthread_mutex_unlock(&t->lock);
    ktls_tickets_unref(old);
    mem_free(t->tickets_path);
    t->tickets_path = copy;
}

void tls_tickets_cron(struct tls_state *t) {
    char err[512];
    struct ktls_tickets *ring = present(t);
    if (!ring) return;
    int r = ktls_tickets_poll(ring, err, sizeof err);
    if (r == 1)
        log_verbose("TLS session ticket keys have changed: %d now", ktls_tickets_count(ring));
    else if (r == KTLS_ECONFIG)
        log_warning("TLS session ticket keys are as before, because the new ones are bad: %s", err);
    ktls_tickets_unref(ring);
}

int tls_tickets_count(struct tls_state *t) {
    struct ktls_tickets *ring = present(t);
    int n = ring ? ktls_tickets_count(ring) : 0;
    ktls_tickets_unref(ring);
    return n;
}
