/* Loading. See loading.h. Threads: the loader's (start-up: "loader"; a replica's link), thread 0 at the end; figures: any. */
#include "server/repl_link.h"
#include "server/loading.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/thread.h"
#include "cmd/effects.h"
#include "server/aof_server.h"
#include "server/refusal.h"
#include "server/server.h"
#include "server/snapshot.h"

#define LOADER_SLOT MAX_IO_THREADS /* figures.h */

struct loading {
    _Atomic bool on, async, cancelled;
    _Atomic int64_t start_s;
    _Atomic uint64_t total, loaded, used_mem;
    int64_t start_us, logged_us; /* the loader's */
    /* start-up */
    pthread_t thread;
    bool is_started, is_aof;
    int result;
    void (*ready)(struct server *srv);
};

struct loading *loading_new(void) {
    return mem_zalloc(sizeof(struct loading));
}

struct loading *loading_free(struct loading *l) {
    mem_free(l);
    return NULL;
}

void loading_begin(struct server *srv, uint64_t total, bool is_async) {
    struct loading *l = srv->loading;
    l->start_us = l->logged_us = clock_mono_us();
    atomic_store(&l->start_s, clock_wall_ms() / 1000);
    atomic_store(&l->total, total);
    atomic_store(&l->loaded, 0);
    atomic_store(&l->used_mem, 0);
    atomic_store(&l->async, is_async);
    atomic_store(&l->on, true);
    refusal_set(srv, is_async ? REFUSE_ASYNC_LOADING : REFUSE_LOADING, true);
}

void loading_set_total(struct server *srv, uint64_t total) {
    atomic_store(&srv->loading->total, total);
}

void loading_set_used_mem(struct server *srv, uint64_t bytes) {
    atomic_store(&srv->loading->used_mem, bytes);
}

bool loading_progress(struct server *srv, uint64_t bytes, uint64_t keys) {
    struct loading *l = srv->loading;
    atomic_store_explicit(&l->loaded, bytes, memory_order_relaxed);
    int64_t now = clock_mono_us();
    if (now - l->logged_us >= PROGRESS_LOG_US) {
        uint64_t total = atomic_load(&l->total);
        l->logged_us = now;
        log_notice("Loading: %.1f%% of %.1f MB, %llu keys, %.1f seconds", total ? 100.0 * (double)bytes / (double)total : 0,
                   (double)(total ? total : bytes) / 1048576, (unsigned long long)keys, (double)(now - l->start_us) / 1e6);
    }
    return !atomic_load_explicit(&l->cancelled, memory_order_relaxed);
}

void loading_end(struct server *srv) {
    struct loading *l = srv->loading;
    atomic_store(&l->on, false);
    refusal_set(srv, REFUSE_LOADING, false);
    refusal_set(srv, REFUSE_ASYNC_LOADING, false);
}

bool loading_is_on(const struct server *srv) {
    return atomic_load(&srv->loading->on) && !atomic_load(&srv->loading->async);
}

bool loading_is_on_async(const struct server *srv) {
    return atomic_load(&srv->loading->on) && atomic_load(&srv->loading->async);
}

void loading_cancel(struct server *srv) {
    atomic_store(&srv->loading->cancelled, true);
}

unsigned loading_threads(const struct server *srv) {
    long cores = sysconf(_SC_NPROCESSORS_ONLN), n = srv->n_threads;
    if (cores < 2) return 0;
    if (n < 2) n = 2;
    if (n > RDB_LOAD_THREADS_MAX) n = RDB_LOAD_THREADS_MAX;
    return (unsigned)(n < cores ? n : cores);
}

bool loading_rdb_progress(void *srv, uint64_t bytes, uint64_t keys) {
    return loading_progress(srv, bytes, keys);
}

void loading_rdb_note(void *srv, enum log_level level, const char *text) {
    (void)srv;
    log_msg(level, "%s", text);
}

void loading_figures_get(const struct server *srv, struct loading_figures *ret) {
    const struct loading *l = srv->loading;
    *ret = (struct loading_figures){ .on = atomic_load(&l->on), .async = atomic_load(&l->async) };
    ret->start_s = atomic_load(&l->start_s);
    ret->total = atomic_load(&l->total);
    ret->loaded = atomic_load(&l->loaded);
    ret->rdb_used_mem = atomic_load(&l->used_mem);
    int64_t spent = clock_wall_ms() / 1000 - ret->start_s;
    ret->eta_s = ret->loaded && ret->total > ret->loaded
                     ? (int64_t)((double)spent * (double)(ret->total - ret->loaded) / (double)ret->loaded)
                     : 1;
}

/* ---- start-up ---- */

static void end_badly(struct server *srv) {
    log_warning("Fatal error loading the DB, check server logs. Exiting.");
    srv->exit_status = 1;
    io_threads_stop(srv);
}

static void loaded(struct io_thread *th, void *arg) {
    struct server *srv = th->srv;
    struct loading *l = srv->loading;
    (void)arg;
    const struct rdb_file_found *f = snapshot_found(srv);
    if (th->stopping) return;
    if (l->result == 0 && !l->is_aof && f->has_repl && f->repl_offset >= 0)
        repl_link_set_history(srv, f->repl_id, f->repl_offset, f->repl_stream_db);
    loading_end(srv);
    if (l->result < 0) {
        end_badly(srv);
        return;
    }
    if (!l->is_aof) log_notice("DB loaded from disk: %.3f seconds", (double)(clock_mono_us() - l->start_us) / 1e6);
    l->ready(srv);
}

static void *loader_main(void *arg) {
    struct server *srv = arg;
    pthread_setname_np(pthread_self(), "loader");
    effects_thread(LOADER_SLOT);
    srv->loading->result = srv->loading->is_aof ? aof_load_at_start(srv, LOADER_SLOT) : snapshot_load_at_start(srv);
    io_thread_post(&srv->threads[0], loaded, NULL);
    return NULL;
}

void loading_start(struct server *srv, void (*ready)(struct server *srv)) {
    struct loading *l = srv->loading;
    l->is_aof = cfg_get(&srv->cfg->appendonly);
    if (!l->is_aof && !snapshot_is_there(srv)) {
        ready(srv);
        return;
    }
    l->ready = ready;
    loading_begin(srv, 0, false);
    int r = thread_start(&l->thread, loader_main, srv);
    l->is_started = r == 0;
    if (r == 0) return;
    log_warning("Fatal: cannot start a thread: %s", strerror(-r));
    end_badly(srv);
}

void loading_join(struct server *srv) {
    struct loading *l = srv->loading;
    if (!l->is_started) return;
    loading_cancel(srv);
    pthread_join(l->thread, NULL);
    l->is_started = false;
}
