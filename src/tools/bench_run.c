/* One test from start to end: threads up, everybody connected, go, watch, stop, add up.
 *
 * Flow: main_benchmark.c calls bench_run_test() for each test; bench_client.c has what the threads do. The four meetings at the
 * barriers are: all connected; go; all done; close. Time is taken between the middle two, so connecting and closing do not count.
 * Threads: the main thread; it only sleeps and draws while the others work. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/rand.h"
#include "tools/bench.h"

#define WATCH_US (10 * 1000)
#define DRAW_US (250 * 1000)

static void add_login(struct bench_run *run, int argc, const struct slice *argv) {
    resp_write_command(&run->login, argc, argv);
    run->login_replies++;
}

static void make_login(struct bench_run *run) {
    const struct tool_target *t = &run->cfg->target;
    char db[16];
    if (t->pass && t->user)
        add_login(run, 3, (struct slice[]){ SLICE_LIT("AUTH"), slice_cstr(t->user), slice_cstr(t->pass) });
    else if (t->pass)
        add_login(run, 2, (struct slice[]){ SLICE_LIT("AUTH"), slice_cstr(t->pass) });
    if (run->cfg->resp3) add_login(run, 2, (struct slice[]){ SLICE_LIT("HELLO"), SLICE_LIT("3") });
    if (t->db != 0) {
        snprintf(db, sizeof(db), "%d", t->db);
        add_login(run, 2, (struct slice[]){ SLICE_LIT("SELECT"), slice_cstr(db) });
    }
    if (run->cfg->tracking) add_login(run, 3, (struct slice[]){ SLICE_LIT("CLIENT"), SLICE_LIT("TRACKING"), SLICE_LIT("on") });
}

static void run_init(struct bench_run *run, const struct bench_cfg *cfg, struct ktls_ctx *ctx, const struct bench_cmd *cmd) {
    memset(run, 0, sizeof(*run));
    run->cfg = cfg;
    run->cmd = cmd;
    run->tls_ctx = ctx;
    ktls_stats(&run->tls_before);
    run->n_threads = cfg->threads > 0 ? cfg->threads : 1;
    if (run->n_threads > cfg->clients) run->n_threads = cfg->clients;
    run->threads = mem_calloc((size_t)run->n_threads, sizeof(*run->threads));
    pthread_mutex_init(&run->lock, NULL);
    pthread_barrier_init(&run->ready, NULL, (unsigned)run->n_threads + 1);
    pthread_barrier_init(&run->done, NULL, (unsigned)run->n_threads + 1);
    make_login(run);
    uint64_t seed = cfg->seed ? cfg->seed : rand_u64();
    for (long i = 0; i < run->n_threads; i++) {
        struct bench_thread *t = &run->threads[i];
        t->run = run;
        t->index = (unsigned)i;
        t->rng = seed + (uint64_t)i * 0x9e3779b97f4a7c15u;
        t->latency = hist_new();
        t->n_clients = cfg->clients / run->n_threads + (i < cfg->clients % run->n_threads);
    }
}

/* 0 or -errno: a thread could not be started; those that run are then waiting at the barrier for ever, so the caller must exit.
 */
static int start_threads(struct bench_run *run) {
    for (long i = 0; i < run->n_threads; i++) {
        int rc = pthread_create(&run->threads[i].tid, NULL, bench_thread_main, &run->threads[i]);
        if (rc != 0) {
            fprintf(stderr, "Could not start a thread: %s\n", strerror(rc));
            return -rc;
        }
    }
    return 0;
}

static void sleep_us(long us) {
    struct timespec ts = { us / 1000000, us % 1000000 * 1000 };
    nanosleep(&ts, NULL);
}

static bool any_failed(const struct bench_run *run) {
    return atomic_load(&run->stop);
}

static void watch(struct bench_run *run) {
    struct bench_progress p = { .last_us = run->start_us };
    bool draw = isatty(STDOUT_FILENO) && !run->cfg->csv;
    int64_t next_draw = run->start_us + DRAW_US;
    while (!any_failed(run) && atomic_load_explicit(&run->finished, memory_order_relaxed) < run->cfg->requests) {
        sleep_us(WATCH_US);
        if (draw && clock_mono_us() >= next_draw) {
            bench_progress_draw(&p, run);
            next_draw += DRAW_US;
        }
    }
    bench_progress_clear(&p);
}

static int add_up(struct bench_run *run) {
    int rc = 0;
    run->latency = hist_new();
    for (long i = 0; i < run->n_threads; i++) {
        struct bench_thread *t = &run->threads[i];
        pthread_join(t->tid, NULL);
        hist_merge(run->latency, t->latency);
        if (t->failed && rc == 0) {
            fprintf(stderr, "%s\n", t->fail_text);
            rc = -ECONNABORTED;
        }
    }
    return rc;
}

int bench_run_test(const struct bench_cfg *cfg, struct ktls_ctx *ctx, const struct bench_cmd *cmd, struct bench_run *run) {
    run_init(run, cfg, ctx, cmd);
    int rc = start_threads(run);
    if (rc != 0) return rc;
    pthread_barrier_wait(&run->ready);
    bench_cpu_read(cfg->cpu_of, &run->cpu_before);
    run->start_us = clock_mono_us();
    pthread_barrier_wait(&run->ready);
    if (cmd && isatty(STDOUT_FILENO) && !cfg->csv) watch(run);
    pthread_barrier_wait(&run->done);
    run->end_us = clock_mono_us();
    bench_cpu_read(cfg->cpu_of, &run->cpu_after);
    pthread_barrier_wait(&run->done);
    return add_up(run);
}

void bench_run_done(struct bench_run *run) {
    for (long i = 0; i < run->n_threads; i++) hist_free(run->threads[i].latency);
    if (run->latency) hist_free(run->latency);
    mem_free(run->threads);
    if (run->login.data) mem_wipe(run->login.data, run->login.len);
    buf_done(&run->login);
    pthread_barrier_destroy(&run->ready);
    pthread_barrier_destroy(&run->done);
    pthread_mutex_destroy(&run->lock);
}

int bench_idle(const struct bench_cfg *cfg, struct ktls_ctx *ctx) {
    struct bench_run run;
    printf("Creating %ld idle connections and waiting forever (Ctrl+C when done)\n", cfg->clients);
    fflush(stdout);
    int rc = bench_run_test(cfg, ctx, NULL, &run);
    bench_run_done(&run);
    return rc;
}
