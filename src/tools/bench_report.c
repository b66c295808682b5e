/* What the benchmark prints, in redis-benchmark's three forms: full, -q, --csv.
 *
 * Flow: main_benchmark.c calls bench_report() after each test; bench_run.c draws progress on terminals meanwhile.
 * Latencies are kept in microseconds and shown in milliseconds. The histogram answers "value of a percentile"; the opposite
 * question, how many were at or below a value, is answered by bisection over ranks. Threads: the main thread; counters of a
 * running test are read relaxed. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "tools/bench.h"

static double ms(uint64_t us) {
    return (double)us / 1000;
}

static double throughput(const struct bench_run *run) {
    int64_t took = run->end_us - run->start_us;
    return took > 0 ? (double)run->finished * 1e6 / (double)took : 0;
}

static double mean_ms(const struct bench_run *run) {
    return run->finished ? (double)run->latency_sum_us / (double)run->finished / 1000 : 0;
}

/* ---- full report ---- */

static double rank_percent(uint64_t rank, uint64_t n) {
    return 100.0 * (double)rank / (double)n;
}

/* How many values are <= us. */
static uint64_t count_upto(const struct hist *h, uint64_t us) {
    uint64_t n = hist_count(h), lo = 0, hi = n;
    while (lo < hi) {
        uint64_t mid = lo + (hi - lo + 1) / 2;
        if (hist_percentile(h, rank_percent(mid, n)) <= us)
            lo = mid;
        else
            hi = mid - 1;
    }
    return lo;
}

static void print_row(const struct bench_run *run, double percent, uint64_t us, uint64_t count) {
    printf("%3.3f%% <= %.*f milliseconds (cumulative count %" PRIu64 ")\n", percent, run->cfg->precision, ms(us), count);
}

/* Each step covers half of what was left above the one before. */
static void print_percentiles(const struct bench_run *run) {
    const struct hist *h = run->latency;
    uint64_t n = hist_count(h), count = 0;
    printf("Latency by percentile distribution:\n");
    for (double p = 0, step = 50; n > 0 && count<n; p += step, step = p> 0 ? (100 - p) / 2 : 50) {
        uint64_t us = hist_percentile(h, p);
        count = count_upto(h, us);
        print_row(run, p, us, count);
    }
    print_row(run, 100, hist_max(h), n);
}

static void print_cumulative(const struct bench_run *run) {
    const struct hist *h = run->latency;
    uint64_t n = hist_count(h), count = 0;
    printf("\nCumulative distribution of latencies:\n");
    for (uint64_t us = 100; n > 0 && count < n; us += us < 2000 ? 100 : 1000) {
        uint64_t upto = count_upto(h, us);
        if (upto != count || us == 100) print_row(run, rank_percent(upto, n), us, upto);
        count = upto;
    }
}

static void print_handshakes(const struct bench_run *run) {
    struct ktls_stats now;
    ktls_stats(&now);
    printf("  TLS handshakes: %" PRIu64 ", resumed: %" PRIu64 "\n",
           now.handshakes_ok[KTLS_CLIENT] - run->tls_before.handshakes_ok[KTLS_CLIENT],
           now.handshakes_resumed[KTLS_CLIENT] - run->tls_before.handshakes_resumed[KTLS_CLIENT]);
}

static void print_full(const struct bench_run *run) {
    const struct bench_cfg *cfg = run->cfg;
    const struct hist *h = run->latency;
    printf("====== %s ======\n", run->cmd->title);
    printf("  %ld requests completed in %.2f seconds\n", run->finished, (double)(run->end_us - run->start_us) / 1e6);
    printf("  %ld parallel clients\n", cfg->clients);
    printf("  %zu bytes payload\n", run->cmd->payload_len);
    printf("  keep alive: %d\n", cfg->keep_alive);
    if (cfg->save) printf("  host configuration \"save\": %s\n", cfg->save);
    if (cfg->appendonly) printf("  host configuration \"appendonly\": %s\n", cfg->appendonly);
    printf("  multi-thread: %s\n", cfg->threads > 0 ? "yes" : "no");
    if (cfg->threads > 0) printf("  threads: %ld\n", run->n_threads);
    if (run->tls_text[0]) printf("  TLS: %s\n", run->tls_text);
    if (run->tls_ctx) print_handshakes(run);
    if (cfg->cpu_of) bench_cpu_print(cfg->cpu_of, &run->cpu_before, &run->cpu_after);
    if (run->errors) printf("  errors: %" PRIu64 " (the first: %s)\n", run->errors, run->first_error);
    printf("\n");
    print_percentiles(run);
    print_cumulative(run);

    int prec = cfg->precision;
    printf("\nSummary:\n  throughput summary: %.2f requests per second\n  latency summary (msec):\n", throughput(run));
    printf("    %9s %9s %9s %9s %9s %9s\n", "avg", "min", "p50", "p95", "p99", "max");
    printf("    %9.*f %9.*f %9.*f %9.*f %9.*f %9.*f\n", prec, mean_ms(run), prec, ms(hist_min(h)), prec,
           ms(hist_percentile(h, 50)), prec, ms(hist_percentile(h, 95)), prec, ms(hist_percentile(h, 99)), prec, ms(hist_max(h)));
}

/* ---- short reports ---- */

void bench_csv_header(void) {
    printf("\"test\",\"rps\",\"avg_latency_ms\",\"min_latency_ms\",\"p50_latency_ms\",\"p95_latency_ms\",\"p99_latency_ms\","
           "\"max_latency_ms\"\n");
}

static void print_csv(const struct bench_run *run) {
    const struct hist *h = run->latency;
    int prec = run->cfg->precision;
    printf("\"%s\",\"%.2f\",\"%.*f\",\"%.*f\",\"%.*f\",\"%.*f\",\"%.*f\",\"%.*f\"\n", run->cmd->title, throughput(run), prec,
           mean_ms(run), prec, ms(hist_min(h)), prec, ms(hist_percentile(h, 50)), prec, ms(hist_percentile(h, 95)), prec,
           ms(hist_percentile(h, 99)), prec, ms(hist_max(h)));
}

void bench_report(const struct bench_run *run) {
    const struct bench_cfg *cfg = run->cfg;
    if (cfg->csv)
        print_csv(run);
    else if (cfg->quiet)
        printf("%s: %.2f requests per second, p50=%.*f msec\n", run->cmd->title, throughput(run), cfg->precision,
               ms(hist_percentile(run->latency, 50)));
    else
        print_full(run);
    fflush(stdout);
}

/* ---- progress ---- */

void bench_progress_clear(struct bench_progress *p) {
    if (p->width > 0) printf("%*s\r", p->width, "");
    p->width = 0;
    fflush(stdout);
}

void bench_progress_draw(struct bench_progress *p, const struct bench_run *run) {
    int64_t now = clock_mono_us();
    long finished = atomic_load_explicit(&run->finished, memory_order_relaxed);
    uint64_t sum = atomic_load_explicit(&run->latency_sum_us, memory_order_relaxed);
    double span = (double)(now - p->last_us) / 1e6, all = (double)(now - run->start_us) / 1e6;
    long n = finished - p->last_finished;

    printf("%*s\r", p->width, "");
    p->width =
        printf("%s: rps=%.1f (overall: %.1f) avg_msec=%.3f (overall: %.3f)\r", run->cmd->title, span > 0 ? (double)n / span : 0,
               all > 0 ? (double)finished / all : 0, n > 0 ? (double)(sum - p->last_sum_us) / (double)n / 1000 : 0,
               finished > 0 ? (double)sum / (double)finished / 1000 : 0);
    fflush(stdout);
    p->last_us = now;
    p->last_finished = finished;
    p->last_sum_us = sum;
}
