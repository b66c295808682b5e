/* kettle-benchmark's pieces: options, tests, load-making threads, reports. See each section for the threads. */
#ifndef KETTLE_TOOLS_BENCH_H
#define KETTLE_TOOLS_BENCH_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/hist.h"
#include "base/slice.h"
#include "tools/tool_conn.h"
#include "tools/tool_opts.h"

#define BENCH_RAND "__rand_int__" /* becomes twelve digits with -r */
#define BENCH_RAND_LEN 12

struct bench_cfg { /* constant once the threads run */
    struct tool_target target;
    long clients, requests, data_len, pipeline, threads; /* threads 0: one, and the report says "multi-thread: no" */
    long rps;                                            /* requests per second of all threads, at most; 0: no limit */
    long cpu_of;                                         /* process whose CPU time is reported, 0: none */
    uint64_t keyspace;
    uint64_t seed;
    bool random_keys, keep_alive, quiet, csv, loop, idle, show_errors, stdin_last, resp3, tracking;
    int precision;
    const char *tests; /* NULL: all */
    int argc;          /* a command of the user's */
    char **argv;
    char *save, *appendonly; /* the server's, for the report; NULL: not told */
};

/* ---- one test ---- */
struct bench_cmd {
    char *title;
    struct buf bytes; /* one request */
    size_t *rand_at;  /* offsets of BENCH_RAND in it */
    size_t n_rand;
    size_t payload_len; /* for the report */
};

struct bench_run;

/* ---- bench_cpu.c, main thread ---- */
struct bench_cpu {
    uint64_t run_ns, user_ticks, system_ticks; /* of the whole process, since its start */
};
/* What the process has used; waits until it rests, at most a few seconds. Zeros without a process, or without /proc. */
void bench_cpu_read(long pid, struct bench_cpu *ret);
void bench_cpu_print(long pid, const struct bench_cpu *before, const struct bench_cpu *after);

/* ---- bench_client.c: one thread, one epoll, its clients ---- */
struct bench_thread {
    struct bench_run *run;
    pthread_t tid;
    int epfd;
    unsigned index;
    long n_clients, n_ready, n_live;
    struct bench_client *clients;
    struct hist *latency; /* usec */
    uint64_t rng;
    /* --rps: when the next batch may leave, the time between two, and the clients that wait for it, first come first served */
    double due_us, interval_us;
    struct bench_client *waiting, **waiting_end;
    char *scratch;
    struct buf shared_out; /* the pipeline of requests when nothing in it is random */
    bool failed;           /* fail_text says why */
    char fail_text[900];
};

/* Shared by all threads of one test. */
struct bench_run {
    const struct bench_cfg *cfg;
    const struct bench_cmd *cmd;
    struct ktls_ctx *tls_ctx;
    struct buf login; /* AUTH, HELLO, SELECT, ... sent first on every connection */
    unsigned login_replies;
    struct bench_thread *threads;
    long n_threads;
    pthread_barrier_t ready, done;
    _Atomic long issued, finished;
    _Atomic uint64_t latency_sum_us, errors;
    _Atomic int64_t shown_us; /* when -e showed an error last */
    _Atomic bool stop;        /* refused by the server, or a thread failed */
    _Atomic bool refused;
    pthread_mutex_t lock; /* first_error, tls_text */
    char first_error[256];
    char tls_text[600];
    struct ktls_stats tls_before; /* the process's figures when the test began */
    int64_t start_us, end_us;
    struct bench_cpu cpu_before, cpu_after;
    struct hist *latency; /* merged, after the end */
};

void *bench_thread_main(void *arg); /* struct bench_thread */

/* ---- bench_run.c, main thread ---- */
/* Runs one test to its end. 0, or negative: connections failed (told on stderr). */
int bench_run_test(const struct bench_cfg *cfg, struct ktls_ctx *ctx, const struct bench_cmd *cmd, struct bench_run *run);
void bench_run_done(struct bench_run *run);
/* Opens the connections and waits for ever. Returns only on failure. */
int bench_idle(const struct bench_cfg *cfg, struct ktls_ctx *ctx);

/* ---- bench_tests.c, main thread ---- */
/* Calls fn for each selected test in turn, or once for the user's command. Returns the sum of fn's results. */
int bench_for_each_test(const struct bench_cfg *cfg, int (*fn)(const struct bench_cmd *cmd, void *arg), void *arg);
bool bench_is_test_name(const char *name, size_t len);

/* ---- bench_report.c, main thread ---- */
void bench_csv_header(void);
void bench_report(const struct bench_run *run);
/* One redrawn line on a terminal. */
struct bench_progress {
    int64_t last_us;
    long last_finished;
    uint64_t last_sum_us;
    int width;
};
void bench_progress_draw(struct bench_progress *p, const struct bench_run *run);
void bench_progress_clear(struct bench_progress *p);

/* ---- bench_opts.c, main thread ---- */
void bench_opts_parse(struct bench_cfg *cfg, int argc, char **argv);
void bench_usage(void);

#endif
