/* --latency, --latency-history: the round trip of PING, sampled; --intrinsic-latency: how long this machine's scheduler keeps a
 * busy process waiting, which bounds what any server on it can promise.
 *
 * Flow: main() calls one of them. On a terminal in the standard format the line is redrawn with each sample, for ever; otherwise
 * one line is printed when the interval is over.
 * Threads: one. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "tools/cli.h"

#define SAMPLE_EVERY_US (10 * 1000)

struct samples {
    int64_t min_us, max_us, total_us, count, start_us;
};

static void print_samples(const struct cli *c, const struct samples *s) {
    int64_t min = s->min_us / 1000, max = s->max_us / 1000;
    double avg = s->count ? (double)s->total_us / (double)s->count / 1000 : 0;
    if (c->cfg.output == CLI_STANDARD)
        printf("min: %" PRId64 ", max: %" PRId64 ", avg: %.2f (%" PRId64 " samples)", min, max, avg, s->count);
    else if (c->cfg.output == CLI_CSV)
        printf("%" PRId64 ",%" PRId64 ",%.2f,%" PRId64 "\n", min, max, avg, s->count);
    else
        printf("%" PRId64 " %" PRId64 " %.2f %" PRId64 "\n", min, max, avg, s->count);
}

static void add_sample(struct samples *s, int64_t us) {
    if (s->count == 0 || us < s->min_us) s->min_us = us;
    if (us > s->max_us) s->max_us = us;
    s->total_us += us;
    s->count++;
}

int cli_latency_mode(struct cli *c, bool history) {
    bool redraw = c->cfg.output == CLI_STANDARD;
    int64_t interval = c->cfg.interval_us > 0 ? c->cfg.interval_us : history ? 15000000 : 1000000;
    struct samples s = { .start_us = clock_mono_us() };
    struct slice ping = SLICE_LIT("PING");
    for (;;) {
        int64_t start = clock_mono_us();
        resp_value_free(cli_must_call(c, 1, &ping));
        int64_t now = clock_mono_us();
        add_sample(&s, now - start);
        if (redraw) {
            printf("\x1b[0G\x1b[2K");
            print_samples(c, &s);
        }
        if (now - s.start_us > interval && (history || !redraw)) {
            if (redraw)
                printf(" -- %.2f seconds range\n", (double)(now - s.start_us) / 1e6);
            else
                print_samples(c, &s);
            if (!history) return 0;
            s = (struct samples){ .start_us = now };
        }
        fflush(stdout);
        cli_sleep_us(SAMPLE_EVERY_US);
    }
}

/* Something to be late with: costs about as much as a short command and cannot be optimised away. */
static uint64_t busy_work(uint64_t x) {
    for (int i = 0; i < 32; i++) x = x * 6364136223846793005u + 1442695040888963407u;
    return x;
}

int cli_intrinsic_latency_mode(struct cli *c) {
    int64_t start = clock_mono_ns(), end = start + (int64_t)c->cfg.intrinsic_s * 1000000000, last = start;
    int64_t max_us = 0;
    uint64_t runs = 0;
    volatile uint64_t sink = 1;
    cli_catch_interrupt(true);
    while (last < end && !cli_interrupted) {
        sink = busy_work(sink);
        int64_t now = clock_mono_ns();
        if ((now - last) / 1000 > max_us) {
            max_us = (now - last) / 1000;
            printf("Max latency so far: %" PRId64 " microseconds.\n", max_us);
            fflush(stdout);
        }
        last = now;
        runs++;
    }
    double avg_us = runs ? (double)(last - start) / 1000 / (double)runs : 0;
    printf("\n%" PRIu64 " total runs (avg latency: %.4f microseconds / %.2f nanoseconds per run).\n", runs, avg_us,
           avg_us * 1000);
    printf("Worst run took %.0fx longer than the average latency.\n", avg_us > 0 ? (double)max_us / avg_us : 0);
    return 0;
}
