/*
 * Certificates that renew themselves: every tls-auto-reload-interval seconds the files of the TLS context in use are looked at,
 * and when they have changed a new context takes its place.
 *
 * Place in the flow: the cron of thread 0 starts a check and later collects it; the check runs in a thread of its own, because
 * stat(2) may hang on a network file system and keys and revocation lists take time to read.
 *
 *   fingerprint as loaded ------------------------------------------> nothing to do
 *   another one, first seen ----------------------------------------> looked at again in half a second
 *   the same as then: the writer is done -> new context -> valid ---> in place, unless files changed while they were read
 *                                                        \-- not ---> logged once; tried again when the files change again
 *
 * Connections keep the context they began with: none is dropped.
 */
#include <errno.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/thread.h"
#include "server/server.h"

#define SETTLE_US 500000

/* What was out of date when it was loaded was told then. */
static void tell_stale(struct tls_state *t, const struct ktls_ctx *ctx, uint64_t generation) {
    struct tls_watch *w = &t->watch;
    struct ktls_cert_facts f;
    int stale = 0;
    for (int i = 0; ktls_ctx_cert_at(ctx, i, &f) == 0; i++) stale += f.ocsp == KTLS_OCSP_STALE;
    if (generation == w->told_generation && stale > w->told_stale)
        for (int i = 0; ktls_ctx_cert_at(ctx, i, &f) == 0; i++)
            if (f.ocsp == KTLS_OCSP_STALE)
                log_warning("TLS: the OCSP response for '%s' has gone out of date and is not stapled any more", f.file);
    w->told_generation = generation;
    w->told_stale = stale;
}

static void reload(struct server *srv, const struct ktls_files_state *st) {
    struct tls_watch *w = &srv->tls.watch;
    char err[512];
    pthread_mutex_lock(&srv->config_set_lock);
    int r = tls_reload(&srv->tls, srv->cfg, st->changed, err, sizeof err);
    pthread_mutex_unlock(&srv->config_set_lock);
    w->seen = 0;
    if (r == -EAGAIN) w->seen = st->now + 1; /* not settled: look again soon */
    w->failed = r && r != -EAGAIN ? st->now : 0;
}

static void check(struct server *srv) {
    struct tls_watch *w = &srv->tls.watch;
    struct ktls_files_state st;
    uint64_t generation = atomic_load_explicit(&srv->tls.generation, memory_order_relaxed);
    struct ktls_ctx *ctx = tls_ctx_get(&srv->tls), *client = tls_client_ctx_get(&srv->tls);
    if (!ctx) return; /* nor the other, then */
    tls_files_state(ctx, client, &st);
    tell_stale(&srv->tls, ctx, generation);
    ktls_ctx_unref(ctx);
    ktls_ctx_unref(client);
    if (st.now == st.loaded || st.now == w->failed) {
        w->seen = 0;
        if (st.now == st.loaded) w->failed = 0;
    } else if (st.now != w->seen) {
        w->seen = st.now;
    } else {
        reload(srv, &st);
    }
}

static void *check_thread(void *arg) {
    struct server *srv = arg;
    pthread_setname_np(pthread_self(), "tls_watch");
    check(srv);
    atomic_store_explicit(&srv->tls.watch.finished, true, memory_order_release);
    return NULL;
}

static void start_check(struct server *srv) {
    struct tls_watch *w = &srv->tls.watch;
    atomic_store_explicit(&w->finished, false, memory_order_relaxed);
    int r = thread_start(&w->thread, check_thread, srv);
    w->running = r == 0;
    w->last_us = clock_mono_us();
    if (r) log_warning("TLS files cannot be checked for changes now: %s", strerror(-r));
}

void tls_watch_tick(struct server *srv) {
    struct tls_watch *w = &srv->tls.watch;
    if (w->running) {
        if (!atomic_load_explicit(&w->finished, memory_order_acquire)) return;
        pthread_join(w->thread, NULL);
        w->running = false;
    }
    int64_t interval = cfg_get(&srv->cfg->tls_auto_reload_interval);
    if (interval && clock_mono_us() - w->last_us >= (w->seen ? SETTLE_US : interval * 1000000)) start_check(srv);
}

void tls_watch_stop(struct server *srv) {
    struct tls_watch *w = &srv->tls.watch;
    if (w->running) pthread_join(w->thread, NULL);
    w->running = false;
}
