/*
 * LATENCY: what the latency monitor has seen, and the histograms of commands. On the client's I/O thread.
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "cmd/figures.h"
#include "server/cmd_observe.h"
#include "server/latency.h"
#include "server/server.h"

static struct server *server_of(struct cmd_ctx *c) {
    return c->eng->server;
}

/* The event an argument names; the monitor's names are short. */
static bool find_event(struct cmd_ctx *c, struct slice arg, struct latency_history *ret) {
    char name[64];
    if (arg.len >= sizeof name) return false;
    memcpy(name, arg.ptr, arg.len);
    name[arg.len] = 0;
    return latency_find(server_of(c)->latency, name, ret);
}

void latency_latest_command(struct cmd_ctx *c) {
    struct latency_history h;
    struct reply_deferred d = reply_deferred_begin(c->r);
    size_t n = 0;
    for (int i = 0; latency_get(server_of(c)->latency, i, &h); i++, n++) {
        const struct latency_sample *last = &h.sample[h.n - 1];
        reply_array(c->r, 4);
        reply_bulk_cstr(c->r, h.event);
        reply_int(c->r, last->time_s);
        reply_int(c->r, (int64_t)last->ms);
        reply_int(c->r, (int64_t)h.max);
    }
    reply_deferred_array(c->r, d, n);
}

void latency_history_command(struct cmd_ctx *c) {
    struct latency_history h;
    if (!find_event(c, c->argv[2], &h)) h.n = 0;
    reply_array(c->r, (size_t)h.n);
    for (int i = 0; i < h.n; i++) {
        reply_array(c->r, 2);
        reply_int(c->r, h.sample[i].time_s);
        reply_int(c->r, (int64_t)h.sample[i].ms);
    }
}

void latency_reset_command(struct cmd_ctx *c) {
    struct latency *l = server_of(c)->latency;
    struct latency_history h;
    int64_t n = 0;
    if (c->argc == 2)
        while (latency_get(l, 0, &h)) n += latency_reset(l, h.event);
    for (int i = 2; i < c->argc; i++)
        if (find_event(c, c->argv[i], &h)) n += latency_reset(l, h.event);
    reply_int(c->r, n);
}

/* ---- GRAPH ---- */

#define GRAPH_COLS 80
#define GRAPH_ROWS 4
#define GRAPH_SHADES 3 /* of a row, by how much of it is filled */

static void age_label(char *out, size_t cap, int64_t seconds) {
    static const struct {
        int64_t seconds;
        char unit;
    } units[] = { { 86400, 'd' }, { 3600, 'h' }, { 60, 'm' }, { 1, 's' } };
    size_t i = 0;
    while (i < 3 && seconds < units[i].seconds) i++;
    snprintf(out, cap, "%lld%c", (long long)(seconds / units[i].seconds), units[i].unit);
}

/* One row of bars: how high each sample reaches into it. */
static void graph_row(struct buf *out, const struct latency_history *h, int from, int n, int row, uint64_t low, uint64_t range) {
    static const char shades[] = "_o#";
    const int steps = GRAPH_ROWS * GRAPH_SHADES;
    for (int i = from; i < from + n; i++) {
        int step = (int)((h->sample[i].ms - low) * (uint64_t)steps / range);
        if (step >= steps) step = steps - 1;
        int above = step - (GRAPH_ROWS - 1 - row) * GRAPH_SHADES;
        buf_append_char(out, above < 0 ? ' ' : above < GRAPH_SHADES ? shades[above] : '|');
    }
    buf_append_char(out, '\n');
}

/* Ages under the bars, written downwards. */
static void graph_labels(struct buf *out, const struct latency_history *h, int from, int n, int64_t now_s) {
    char label[GRAPH_COLS][24];
    bool more = true;
    for (int i = 0; i < n; i++) age_label(label[i], sizeof label[i], now_s - h->sample[from + i].time_s);
    for (int i = 0; i < n; i++) buf_append_char(out, ' ');
    buf_append_char(out, '\n');
    for (size_t row = 0; more; row++) {
        more = false;
        for (int i = 0; i < n; i++) more |= strlen(label[i]) > row;
        for (int i = 0; more && i < n; i++) buf_append_char(out, strlen(label[i]) > row ? label[i][row] : ' ');
        if (more) buf_append_char(out, '\n');
    }
}

void latency_graph_command(struct cmd_ctx *c) {
    struct latency_history h;
    struct buf out = { 0 };
    if (!find_event(c, c->argv[2], &h)) {
        reply_errorf(c->r, "ERR No samples available for event '%.*s'", (int)c->argv[2].len, c->argv[2].ptr);
        return;
    }
    uint64_t low = h.sample[0].ms, high = low;
    for (int i = 0; i < h.n; i++) {
        if (h.sample[i].ms < low) low = h.sample[i].ms;
        if (h.sample[i].ms > high) high = h.sample[i].ms;
    }
    buf_printf(&out, "%s - high %llu ms, low %llu ms (all time high %llu ms)\n", h.event, (unsigned long long)high,
               (unsigned long long)low, (unsigned long long)h.max);
    for (int i = 0; i < GRAPH_COLS; i++) buf_append_char(&out, '-');
    buf_append_char(&out, '\n');
    for (int from = 0; from < h.n; from += GRAPH_COLS) {
        int n = h.n - from < GRAPH_COLS ? h.n - from : GRAPH_COLS;
        if (from) buf_append_char(&out, '\n');
        for (int row = 0; row < GRAPH_ROWS; row++) graph_row(&out, &h, from, n, row, low, high > low ? high - low : 1);
        graph_labels(&out, &h, from, n, clock_wall_us() / 1000000);
    }
    reply_verbatim(c->r, out.data, out.len, "txt");
    buf_done(&out);
}

/* ---- DOCTOR ---- */

static const struct {
    const char *event, *text;
} advice[] = {
    { "command",
      "SLOWLOG GET shows which commands are slow; slowlog-log-slower-than says from when on. Commands on large values, and "
      "deleting large values (UNLINK does it in the background), are the usual ones." },
    { "fast-command", "Commands that take microseconds took milliseconds, so something else held the processor: look for other "
                      "processes, a host that is overcommitted, swapping, or transparent huge pages." },
    { "expire-cycle", "Many keys run out at the same moment. Spread their times, or lower active-expire-effort." },
    { "eviction-cycle", "Keys are evicted faster than room is made cheaply. Raise maxmemory, or set lazyfree-lazy-eviction." },
};

static void diagnose(struct buf *out, int number, const struct latency_history *h) {
    uint64_t sum = 0, deviation = 0;
    int64_t span = clock_wall_us() / 1000000 - h->sample[0].time_s;
    for (int i = 0; i < h->n; i++) sum += h->sample[i].ms;
    uint64_t mean = sum / (uint64_t)h->n;
    for (int i = 0; i < h->n; i++) deviation += h->sample[i].ms > mean ? h->sample[i].ms - mean : mean - h->sample[i].ms;
    buf_printf(
        out, "%d. %s: %d latency spikes (average %llums, mean deviation %llums, period %.2f sec). Worst all time event %llums.\n",
        number, h->event, h->n, (unsigned long long)mean, (unsigned long long)(deviation / (uint64_t)h->n), (double)span / h->n,
        (unsigned long long)h->max);
}

void latency_doctor_command(struct cmd_ctx *c) {
    struct server *srv = server_of(c);
    struct latency_history h;
    struct buf out = { 0 }, hints = { 0 };
    int n = 0;
    for (; latency_get(srv->latency, n, &h); n++) {
        if (n == 0) buf_append_cstr(&out, "The server has seen latency spikes:\n\n");
        diagnose(&out, n + 1, &h);
        for (size_t k = 0; k < sizeof advice / sizeof *advice; k++)
            if (strcmp(advice[k].event, h.event) == 0) buf_printf(&hints, "- %s: %s\n", h.event, advice[k].text);
    }
    if (n && hints.len) buf_append_cstr(&out, "\nWhat may help:\n\n");
    buf_append(&out, hints.data, hints.len);
    if (n == 0)
        buf_append_cstr(&out, cfg_get(&srv->cfg->latency_monitor_threshold)
                                  ? "No latency spikes have been seen.\n"
                                  : "The latency monitor is switched off. CONFIG SET latency-monitor-threshold <milliseconds> "
                                    "switches it on.\n");
    reply_verbatim(c->r, out.data, out.len, "txt");
    buf_done(&out);
    buf_done(&hints);
}

/* ---- HISTOGRAM ---- */

#define FIRST_BOUND_NS 1024

/* The bounds of redis-server's: powers of two of nanoseconds, each the top of a histogram bucket, in whole microseconds. */
static uint64_t bound_us(unsigned i) {
    uint64_t ns = (uint64_t)FIRST_BOUND_NS << i;
    return (ns + ns / 128 - 1) / 1000;
}

static void histogram_reply(struct cmd_ctx *c, struct cmd *cmd, const struct hist *h, uint64_t calls) {
    uint64_t total = hist_count(h), seen = 0;
    size_t n = 0;
    reply_bulk_cstr(c->r, cmd->full_name);
    reply_map(c->r, 2);
    reply_bulk_cstr(c->r, "calls");
    reply_int(c->r, (int64_t)calls);
    reply_bulk_cstr(c->r, "histogram_usec");
    struct reply_deferred d = reply_deferred_begin(c->r);
    for (unsigned i = 0; seen < total && i < 40; i++) {
        uint64_t upto = hist_count_upto(h, bound_us(i));
        if (upto == seen) continue;
        reply_int(c->r, (int64_t)bound_us(i));
        reply_int(c->r, (int64_t)upto);
        seen = upto;
        n++;
    }
    reply_deferred_map(c->r, d, n);
}

struct histograms {
    struct cmd_ctx *c;
    size_t n;
};

static void histogram_of(struct cmd *cmd, void *arg) {
    struct histograms *a = arg;
    for (int i = 0; i < cmd->n_subs; i++) histogram_of(cmd->subs[i], arg);
    struct hist *h = hist_new();
    figures_latency(a->c->eng->figures, cmd, h);
    uint64_t calls = hist_count(h);
    if (calls) {
        histogram_reply(a->c, cmd, h, calls);
        a->n++;
    }
    hist_free(h);
}

void latency_histogram_command(struct cmd_ctx *c) {
    struct histograms a = { .c = c };
    struct reply_deferred d = reply_deferred_begin(c->r);
    if (c->argc == 2) cmd_each(c->eng->table, histogram_of, &a);
    for (int i = 2; i < c->argc; i++) {
        struct cmd *cmd = cmd_lookup_original(c->eng->table, c->argv[i]);
        if (cmd) histogram_of(cmd, &a);
    }
    reply_deferred_map(c->r, d, a.n);
}

void latency_help_command(struct cmd_ctx *c) {
    static const char *const lines[] = {
        "DOCTOR",
        "    What the spikes may come from, in words.",
        "GRAPH <event>",
        "    The spikes of <event>, drawn.",
        "HISTORY <event>",
        "    Time and milliseconds of the spikes of <event>.",
        "LATEST",
        "    The last spike of each event, and the worst ever.",
        "RESET [<event> ...]",
        "    Forget the spikes of these events, or of all.",
        "HISTOGRAM [<command> ...]",
        "    How long commands took: counts up to powers of two.",
        NULL,
    };
    cmd_help(c, lines);
}
