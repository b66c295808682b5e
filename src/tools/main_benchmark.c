/* kettle-benchmark: load for a server, and what it answered in how long.
 *
 * Flow: options; the server's persistence settings for the report; each test in turn (bench_run.c, bench_report.c). A test whose
 * command the server refuses is told and skipped; other errors are counted; either makes the exit status 1.
 * Threads: this is the main one; bench_run.c starts and joins the others for each test. */
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "base/alloc.h"
#include "tools/bench.h"

struct session {
    struct bench_cfg cfg;
    struct ktls_ctx *tls_ctx;
    bool tls_told, connection_failed;
};

/* The value of CONFIG GET; NULL where the server does not tell. The caller owns it. 0, or negative: the connection is lost. */
static int config_value(struct tool_conn *c, const char *name, char **ret) {
    struct resp_value *v = NULL;
    int rc = tool_conn_callv(c, &v, tool_deadline(5000000), "CONFIG", "GET", name, NULL);
    if (rc == 0 && v->n >= 2) *ret = mem_memdup0(v->el[1].str.ptr, v->el[1].str.len);
    resp_value_free(v);
    return rc;
}

/* Also the first attempt to connect: a wrong address is told once and before any thread. 0 or negative (told). */
static int ask_config(struct session *s) {
    struct tool_conn c = TOOL_CONN_INIT;
    const struct tool_target *t = &s->cfg.target;
    int rc = tool_conn_open(&c, t, s->tls_ctx, tool_deadline(30000000));
    if (rc != 0) {
        char where[300];
        tool_target_text(t, where, sizeof(where));
        if (c.tls_failed)
            fprintf(stderr, "Could not negotiate a TLS connection: %s\n", c.err);
        else
            fprintf(stderr, "Could not connect to Redis at %s: %s\n", where, c.err);
        return rc;
    }
    if (t->pass && tool_conn_auth(&c, t->user, t->pass, tool_deadline(5000000)) != 0) {
        fprintf(stderr, "Error from server: %s\n", c.err);
        tool_conn_close(&c);
        return -1;
    }
    rc = config_value(&c, "save", &s->cfg.save);
    if (rc == 0) rc = config_value(&c, "appendonly", &s->cfg.appendonly);
    if (rc != 0)
        fprintf(stderr, "Error reading from the server: %s\n", c.err);
    else if (!s->cfg.save)
        fprintf(stderr, "WARNING: Could not fetch server CONFIG\n");
    tool_conn_close(&c);
    return rc;
}

/* In the short forms there is no room for it between the results. */
static void tell_tls(struct session *s, const struct bench_run *run) {
    if (!s->tls_told && run->tls_text[0] && (s->cfg.quiet || s->cfg.csv)) fprintf(stderr, "TLS: %s\n", run->tls_text);
    s->tls_told = true;
}

/* 1 when anything went wrong. */
static int run_one(const struct bench_cmd *cmd, void *arg) {
    struct session *s = arg;
    struct bench_run run;
    if (s->connection_failed) return 1;
    int rc = bench_run_test(&s->cfg, s->tls_ctx, cmd, &run);
    if (rc != 0) {
        s->connection_failed = true;
        bench_run_done(&run);
        return 1;
    }
    tell_tls(s, &run);
    int bad = run.errors > 0;
    if (run.refused)
        fprintf(stderr, "%s: skipped. Error from server: %s\n", cmd->title, run.first_error);
    else
        bench_report(&run);
    if (bad && !run.refused)
        fprintf(stderr, "%s: %" PRIu64 " errors. Error from server: %s\n", cmd->title, run.errors, run.first_error);
    bench_run_done(&run);
    return bad;
}

static void raise_file_limit(long clients) {
    struct rlimit lim;
    rlim_t want = (rlim_t)clients + 100;
    if (getrlimit(RLIMIT_NOFILE, &lim) != 0 || lim.rlim_cur >= want) return;
    lim.rlim_cur = lim.rlim_max < want ? lim.rlim_max : want;
    setrlimit(RLIMIT_NOFILE, &lim);
}

int main(int argc, char **argv) {
    static struct session s;
    char err[300];
    int bad = 0;

    bench_opts_parse(&s.cfg, argc, argv);
    signal(SIGPIPE, SIG_IGN);
    raise_file_limit(s.cfg.clients);
    /* With -k 0 each connection leaves a session or two; room for those of all clients at once. */
    s.cfg.target.tls.sessions = s.cfg.clients < 512 ? 2 * (int)s.cfg.clients : 1024;
    if (s.cfg.target.tls.enabled && tool_tls_ctx_new(&s.cfg.target.tls, &s.tls_ctx, err, sizeof(err)) != 0) {
        fprintf(stderr, "Could not negotiate a TLS connection: %s\n", err);
        return 1;
    }
    if (ask_config(&s) != 0) return 1;
    if (s.cfg.idle) return bench_idle(&s.cfg, s.tls_ctx) != 0;
    if (s.cfg.csv) bench_csv_header();
    do {
        bad += bench_for_each_test(&s.cfg, run_one, &s);
    } while (s.cfg.loop && !s.connection_failed);
    mem_free(s.cfg.save);
    mem_free(s.cfg.appendonly);
    ktls_ctx_unref(s.tls_ctx);
    return bad > 0;
}
