/* --rdb, --functions-rdb, --replica: what a replica asks of its primary.
 *
 * Flow: main() calls one of the two modes: REPLCONF, SYNC, the header of the RDB payload, the payload (into a file, or thrown
 * away), and for --replica the stream of commands behind it, a line of CSV for each. Messages are redis-cli's, on standard error.
 *
 *     $<length>            the payload has that many bytes
 *     $EOF:<40 bytes>      it ends where these 40 bytes come again
 *
 * A line that is written over tells how far it is, and how fast, when standard error is a terminal; else there is one now and
 * then. Threads: one. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/str.h"
#include "tools/cli.h"

#define EOF_MARK 40
#define CHUNK 65536
#define ACK_EVERY_US 1000000
#define SHOW_EVERY_US 250000           /* a terminal */
#define TELL_EVERY_US (10 * 1000000LL) /* anything else */

struct transfer {
    struct cli *cli;
    const char *path; /* NULL: thrown away */
    int fd;
    bool has_mark;
    char mark[EOF_MARK];
    uint64_t size, got; /* size: without a mark */
    struct buf held;    /* with a mark: what may be its beginning */
    bool is_over;
    int64_t began_us, told_us;
    uint64_t told_got;
    bool is_terminal, has_line; /* has_line: the cursor is behind a progress line */
};

/* ---- progress ---- */

static void rate_text(char *out, size_t cap, uint64_t bytes, int64_t us) {
    char number[64];
    str_from_bytes_human(number, sizeof(number), us > 0 ? (uint64_t)((double)bytes * 1e6 / (double)us) : bytes);
    snprintf(out, cap, "%s/s", number);
}

static void show(struct transfer *t, int64_t now_us) {
    char rate[80], got[64], size[120] = "";
    rate_text(rate, sizeof(rate), t->got - t->told_got, now_us - t->told_us);
    str_from_bytes_human(got, sizeof(got), t->got);
    if (!t->has_mark) {
        char number[64];
        str_from_bytes_human(number, sizeof(number), t->size);
        snprintf(size, sizeof(size), " of %s (%d%%)", number, t->size ? (int)((double)t->got * 100 / (double)t->size) : 100);
    }
    fprintf(stderr, "%s%llu bytes (%s)%s, %s%s", t->is_terminal ? "\r" : "", (unsigned long long)t->got, got, size, rate,
            t->is_terminal ? "\x1b[K" : "\n");
    fflush(stderr);
    t->has_line = t->is_terminal;
    t->told_us = now_us;
    t->told_got = t->got;
}

static void progress(struct transfer *t) {
    int64_t now_us = clock_mono_us();
    if (now_us - t->told_us >= (t->is_terminal ? SHOW_EVERY_US : TELL_EVERY_US)) show(t, now_us);
}

/* Messages begin on a line of their own. */
static void end_line(struct transfer *t) {
    if (t->has_line) fputc('\n', stderr);
    t->has_line = false;
}

/* ---- asking ---- */

static bool replconf(struct cli *c, const char *name, const char *value) {
    struct resp_value *v = NULL;
    fprintf(stderr, "sending REPLCONF %s %s\n", name, value);
    const struct slice argv[] = { SLICE_LIT("REPLCONF"), slice_cstr(name), slice_cstr(value) };
    v = cli_must_call(c, 3, argv);
    bool ok = !cli_is_error(v);
    if (!ok) fprintf(stderr, "REPLCONF %s error: %.*s\n", name, (int)v->str.len, v->str.ptr);
    resp_value_free(v);
    return ok;
}

static void die(struct transfer *t, const char *what, const char *why) __attribute__((noreturn));
static void die(struct transfer *t, const char *what, const char *why) {
    end_line(t);
    fprintf(stderr, "%s%s\n", what, why);
    exit(1);
}

/* The header, behind the empty lines that keep the connection alive while the other side prepares. */
static void ask(struct transfer *t) {
    char line[256];
    ssize_t n = 0;
    if (tool_conn_send(&t->cli->conn, SLICE_LIT("SYNC\r\n"), TOOL_NO_DEADLINE) != 0) die(t, "Error writing to master", "");
    while (n == 0) n = syncio_read_line(&t->cli->conn.io, line, sizeof(line), TOOL_NO_DEADLINE);
    if (n < 0) die(t, "Error reading bulk length while SYNCing", "");
    if (line[0] == '-') die(t, "SYNC with master failed: ", line);
    int64_t size;
    if (line[0] != '$') die(t, "SYNC with master failed: unexpected answer: ", line);
    if (n == 5 + EOF_MARK && strncmp(line, "$EOF:", 5) == 0) {
        t->has_mark = true;
        memcpy(t->mark, line + 5, EOF_MARK);
    } else if (str_to_ll((struct slice){ line + 1, (size_t)n - 1 }, &size) && size >= 0) {
        t->size = (uint64_t)size;
    } else {
        die(t, "SYNC with master failed: no length: ", line);
    }
}

/* ---- the payload ---- */

static void put(struct transfer *t, const char *p, size_t n) {
    t->got += n;
    int r = t->fd >= 0 ? file_write_all(t->fd, p, n) : 0;
    if (r) die(t, "Error writing data to file: ", strerror(-r));
}

/* What is behind the payload belongs to the stream. */
static void take_stream(struct transfer *t, const char *p, size_t n) {
    if (n > 0) buf_append(&t->cli->conn.in, p, n);
    t->is_over = true;
}

static void take_marked(struct transfer *t, const char *p, size_t n) {
    buf_append(&t->held, p, n);
    const char *end = memmem(t->held.data, t->held.len, t->mark, EOF_MARK);
    size_t sure = end ? (size_t)(end - t->held.data) : t->held.len >= EOF_MARK ? t->held.len - (EOF_MARK - 1) : 0;
    put(t, t->held.data, sure);
    if (end) take_stream(t, end + EOF_MARK, t->held.len - sure - EOF_MARK);
    buf_consume(&t->held, sure);
}

static void take(struct transfer *t, const char *p, size_t n) {
    if (t->has_mark) {
        take_marked(t, p, n);
        return;
    }
    size_t mine = n < t->size - t->got ? n : (size_t)(t->size - t->got);
    put(t, p, mine);
    if (t->got == t->size) take_stream(t, p + mine, n - mine);
}

static void receive(struct transfer *t) {
    static char chunk[CHUNK];
    t->is_terminal = isatty(STDERR_FILENO);
    t->began_us = t->told_us = clock_mono_us();
    t->is_over = !t->has_mark && t->size == 0;
    while (!t->is_over) {
        ssize_t n = syncio_read_some(&t->cli->conn.io, chunk, sizeof(chunk), TOOL_NO_DEADLINE);
        if (n <= 0) die(t, "Error reading RDB payload while SYNCing", "");
        take(t, chunk, (size_t)n);
        progress(t);
    }
    if (t->is_terminal) { /* the last word: all of it, and the rate over all */
        t->told_us = t->began_us;
        t->told_got = 0;
        show(t, clock_mono_us());
    }
    end_line(t);
    buf_done(&t->held);
}

/* ---- modes ---- */

int cli_rdb_mode(struct cli *c) {
    struct transfer t = { .cli = c, .path = c->cfg.rdb_file, .fd = -1 };
    bool to_stdout = strcmp(t.path, "-") == 0;
    if (cli_connect(c, false) != 0) return 1;
    replconf(c, "capa", "eof");
    replconf(c, "rdb-only", "1");
    if (c->cfg.functions_only && !replconf(c, "rdb-filter-only", "functions")) {
        fprintf(stderr, "Failed requesting functions only RDB from server, aborting\n");
        return 1;
    }
    ask(&t);
    if (t.has_mark)
        fprintf(stderr, "SYNC sent to master, writing bytes of bulk transfer until EOF marker to '%s'\n", t.path);
    else
        fprintf(stderr, "SYNC sent to master, writing %llu bytes to '%s'\n", (unsigned long long)t.size, t.path);
    t.fd = to_stdout ? STDOUT_FILENO : open(t.path, O_CREAT | O_WRONLY | O_TRUNC | O_CLOEXEC, 0644);
    if (t.fd < 0) {
        fprintf(stderr, "Error opening '%s': %s\n", t.path, strerror(errno));
        return 1;
    }
    receive(&t);
    if (t.has_mark)
        fprintf(stderr, "Transfer finished with success after %llu bytes\n", (unsigned long long)t.got);
    else
        fprintf(stderr, "Transfer finished with success.\n");
    if (!to_stdout && ((fsync(t.fd) != 0 && errno != EINVAL) || close(t.fd) != 0)) {
        fprintf(stderr, "Fail to fsync '%s': %s\n", t.path, strerror(errno));
        return 1;
    }
    return 0;
}

/* With a mark the stream begins once this has come; and not if it comes before the other side's child has ended. */
static void acknowledge(struct cli *c) {
    struct buf out = { 0 };
    resp_write_command(&out, 3, (const struct slice[]){ SLICE_LIT("REPLCONF"), SLICE_LIT("ACK"), SLICE_LIT("0") });
    tool_conn_send(&c->conn, buf_slice(&out), TOOL_NO_DEADLINE);
    buf_done(&out);
}

/* Commands as they come, until the connection ends. */
static int follow(struct cli *c, bool ack) {
    for (;;) {
        struct resp_value *v = NULL;
        struct buf line = { 0 };
        if (ack) acknowledge(c);
        int rc = tool_conn_recv(&c->conn, &v, ack ? tool_deadline(ACK_EVERY_US) : TOOL_NO_DEADLINE);
        if (ack && rc == -ETIMEDOUT) continue;
        if (rc != 0) break;
        ack = false;
        cli_format(&line, &c->cfg, v, false);
        cli_print(&line);
        buf_done(&line);
        resp_value_free(v);
    }
    fprintf(stderr, "Error: %s\n", c->conn.err);
    return 1;
}

int cli_replica_mode(struct cli *c) {
    struct transfer t = { .cli = c, .fd = -1 };
    if (cli_connect(c, false) != 0) return 1;
    replconf(c, "capa", "eof");
    replconf(c, "rdb-filter-only", ""); /* neither keys nor functions */
    ask(&t);
    if (t.has_mark)
        fprintf(stderr, "SYNC with master, discarding bytes of bulk transfer until EOF marker...\n");
    else
        fprintf(stderr, "SYNC with master, discarding %llu bytes of bulk transfer...\n", (unsigned long long)t.size);
    receive(&t);
    if (t.has_mark) {
        fprintf(stderr, "SYNC done after %llu bytes. Logging commands from master.\n", (unsigned long long)t.got);
        fprintf(stderr, "sending REPLCONF ACK 0\n");
    } else {
        fprintf(stderr, "SYNC done. Logging commands from master.\n");
    }
    c->cfg.output = CLI_CSV;
    return follow(c, t.has_mark);
}
