/*
 * Full synchronization to sockets, in the forked child: only the thread that forked lives, the data set is as it was at the fork.
 * It writes to all the replicas' sockets at once (repl/fanout.h).
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/file.h"
#include "persist/rdb_file.h"
#include "repl/fanout.h"
#include "server/child.h"
#include "server/repl_sync.h"
#include "server/server.h"
#include "server/snapshot.h"

#define WINDOW_BYTES (16 << 20) /* the fastest replica may be so far ahead of the slowest */
#define STALL_SHARE 4           /* who takes nothing for a quarter of repl-timeout, while others wait for him, is given up */

/* The sockets, and the pair to the parent as the last one where there is one. Returns how many. */
static int collect(const struct repl_sync *sy, uint64_t prefix, struct fanout_sink *sinks) {
    int n = 0;
    for (int i = 0; i < sy->n; i++) {
        if (!sy->m[i].is_direct) continue;
        sinks[n++] = (struct fanout_sink){ .fd = sy->m[i].fd, .skip = sy->m[i].r->is_pre_psync ? prefix : 0 };
    }
    if (sy->relay_fd >= 0) sinks[n++] = (struct fanout_sink){ .fd = sy->relay_fd };
    return n;
}

static void report(const struct repl_sync *sy, const struct fanout_sink *sinks, int n) {
    struct sync_report *rep = mem_calloc((size_t)n + 1, sizeof *rep);
    for (int i = 0; i < n; i++) rep[i] = (struct sync_report){ .sent = sinks[i].sent, .err = sinks[i].err };
    if (sy->relay_fd < 0) n++; /* the parent reads one for the relay in any case */
    file_write_all(sy->report[1], rep, (size_t)n * sizeof *rep);
    mem_free(rep);
}

static int write_all(struct repl_sync *sy, struct fanout *f, const char *head, size_t head_len) {
    struct server *srv = sy->srv;
    struct saving saving;
    struct rdb_progress progress = snapshot_progress(&saving, srv);
    struct rdb_out out = { .sink = fanout_write, .arg = f, .compress = sy->opts.compress, .checksum = sy->opts.checksum };
    int r = fanout_write(f, head, head_len);
    if (r == 0) r = rdb_file_write(&out, srv->ks, srv->eng.scripts, &sy->info, &progress);
    rdb_out_done(&out);
    if (r == 0) r = fanout_write(f, sy->mark, 40);
    if (r == 0) r = fanout_finish(f);
    return r;
}

int repl_child_sockets(void *arg, const struct propagate_point *pt) {
    struct repl_sync *sy = arg;
    (void)pt;
    char head[REPL_SYNC_PREFIX + 60];
    size_t prefix = repl_sync_prefix(sy, head), len = prefix;
    len += (size_t)snprintf(head + prefix, sizeof head - prefix, "$EOF:%s\r\n", sy->mark);
    struct fanout_sink *sinks = mem_calloc((size_t)sy->n + 1, sizeof *sinks);
    int n = collect(sy, prefix, sinks);
    struct fanout_opts o = { .window = WINDOW_BYTES, .stall_us = sy->timeout_us / STALL_SHARE, .timeout_us = sy->timeout_us };
    struct fanout *f = fanout_new(sinks, n, &o);
    int r = write_all(sy, f, head, len);
    report(sy, sinks, n);
    if (r == 0) child_log_cow(sy->srv, "RDB");
    fanout_free(f);
    mem_free(sinks);
    return r == 0 ? 0 : 1;
}
