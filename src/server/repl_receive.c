/*
 * A full synchronization, as the replica has it: the RDB is received and read into a keyspace of its own. Place in the flow: an
 * attempt's thread, after FULLRESYNC; thread 0 then puts the data in place (repl_link.c).
 *
 *   repl-diskless-load     the bytes go                                        the old data goes
 *   disabled               into a file, which then is dbfilename, and is read  when the file is here
 *   on-empty-db            the same; into the parser, where there was no data  -
 *   swapdb                 into the parser                                     when the new data is there
 *
 * A file takes dbfilename's place in the step that begins the loading, with all shards locked: no child of BGSAVE lives on that
 * would put its own over it, and SAVE comes before or is refused by LOADING. It is read through the descriptor it was written by.
 *
 * A file by length ends at the last byte that was announced, so what follows in the connection is the stream's. One that ends by
 * a mark is followed by nothing before the first REPLCONF ACK.
 *
 * Thread: the attempt's. Every wait for bytes ends repl-timeout after the last one.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "persist/rdb_file.h"
#include "server/child.h"
#include "server/loading.h"
#include "server/repl_attempt.h"

#define CHUNK (256 * 1024)
#define SYNC_EVERY (8 * 1024 * 1024) /* bytes of the file between two requests to have them written: no pile-up at its end */
#define NEWLINE_US 1000000           /* while it loads, the primary hears from the replica so often */
#define MAX_LIBRARIES 100000

static bool failed(struct repl_attempt *a, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static bool failed(struct repl_attempt *a, const char *fmt, ...) {
    char text[REPLICA_LINE_MAX + 512];
    va_list ap;
    if (attempt_is_cancelled(a)) return false;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    log_warning("%s", text);
    return false;
}

static struct repl_link *link_of(const struct repl_attempt *a) {
    return a->srv->repl->link;
}

/* ---- bytes ---- */

static void note_received(struct repl_attempt *a, size_t n) {
    struct repl_link *l = link_of(a);
    atomic_fetch_add_explicit(&a->srv->repl->file_bytes_in, n, memory_order_relaxed);
    int64_t now = clock_mono_us();
    atomic_store_explicit(&l->transfer_read, a->framing.got, memory_order_relaxed);
    atomic_store_explicit(&l->transfer_io_us, now, memory_order_relaxed);
    atomic_store_explicit(&l->last_io_us, now, memory_order_relaxed);
}

/* The next bytes of the RDB: how many; 0: it is whole; < 0: said why. */
static ssize_t receive(struct repl_attempt *a, char *buf, size_t cap) {
    size_t want = rdb_framing_wants(&a->framing, cap);
    if (want == 0) return 0;
    ssize_t n = syncio_read_some(&a->io, buf, want, attempt_deadline(a));
    if (n > 0) {
        rdb_framing_took(&a->framing, buf, (size_t)n);
        note_received(a, (size_t)n);
        return n;
    }
    if (n == -ETIMEDOUT)
        failed(a, "Timeout receiving bulk data from MASTER... If the problem persists try to set the 'repl-timeout' parameter in "
                  "redis.conf to a larger value.");
    else
        failed(a, "I/O error trying to sync with MASTER: %s", n == 0 ? "connection lost" : attempt_io_error(a, (int)n));
    return -1;
}

/* The line before the RDB; the primary sends newlines meanwhile to show that it lives. */
static bool await_announcement(struct repl_attempt *a) {
    char line[REPLICA_LINE_MAX];
    for (;;) {
        ssize_t n = syncio_read_line(&a->io, line, sizeof line, attempt_deadline(a));
        if (n < 0) return failed(a, "I/O error reading bulk count from MASTER: %s", attempt_io_error(a, (int)n));
        switch (replica_parse_announcement((struct slice){ line, (size_t)n }, &a->framing)) {
        case RDB_KEEPALIVE:
            atomic_store_explicit(&link_of(a)->transfer_io_us, clock_mono_us(), memory_order_relaxed);
            continue;
        case RDB_BY_LENGTH:
        case RDB_BY_MARK:
            return true;
        case RDB_REFUSED:
            return failed(a, "MASTER aborted replication with an error: %s", line + 1);
        default:
            return failed(
                a,
                "Bad protocol from MASTER, the first byte is not '$' (we received '%s'), are you sure the host and port "
                "are right?",
                line);
        }
    }
}

static void note_announcement(struct repl_attempt *a) {
    struct repl_link *l = link_of(a);
    const char *to = a->load == LOAD_DISK ? "disk" : "parser";
    atomic_store(&l->transfer_total, a->framing.total);
    note_received(a, 0);
    if (a->framing.by_mark)
        log_notice("MASTER <-> REPLICA sync: receiving streamed RDB from master with EOF to %s", to);
    else
        log_notice("MASTER <-> REPLICA sync: receiving %llu bytes from master to %s", (unsigned long long)a->framing.total, to);
}

/* ---- reading into the keyspace ---- */

struct source { /* of struct rdb_in: the connection */
    struct repl_attempt *a;
    char *chunk;
    bool has_failed; /* said why */
};

static bool more_from_primary(struct rdb_in *in) {
    struct source *s = in->arg;
    ssize_t n = receive(s->a, s->chunk, CHUNK);
    s->has_failed |= n < 0;
    if (n <= 0) return false;
    in->p = (unsigned char *)s->chunk;
    in->end = in->p + n;
    return true;
}

struct reader {
    struct repl_attempt *a;
    int64_t newline_us;
};

/* A newline is no command: the primary only sees that the replica is there. */
static void show_life(struct reader *r) {
    int64_t now = clock_mono_us();
    if (now - r->newline_us < NEWLINE_US) return;
    r->newline_us = now;
    syncio_try_write(&r->a->io, "\n", 1); /* no room: then not */
}

static bool on_progress(void *arg, uint64_t bytes, uint64_t keys) {
    struct reader *r = arg;
    if (attempt_is_cancelled(r->a)) return false;
    show_life(r);
    return loading_progress(r->a->srv, bytes, keys);
}

static void on_note(void *arg, enum log_level level, const char *text) {
    (void)arg;
    log_msg(level, "%s", text);
}

static bool on_library(void *arg, struct slice code, char **why) {
    struct repl_attempt *a = ((struct reader *)arg)->a;
    if (a->n_libraries == MAX_LIBRARIES) {
        *why = mem_strdup("there are too many");
        return false;
    }
    a->libraries = mem_realloc(a->libraries, (size_t)(a->n_libraries + 1) * sizeof *a->libraries);
    a->libraries[a->n_libraries++] = (struct slice){ mem_memdup0(code.ptr, code.len), code.len };
    return true;
}

static bool load(struct repl_attempt *a, struct rdb_in *in, uint64_t size, const bool *has_failed) {
    char err[512];
    struct reader r = { .a = a };
    struct rdb_file_found found;
    struct rdb_load_opts o = { .now_ms = clock_wall_ms(),
                               .keep_expired = true,
                               .size = size,
                               .arg = &r,
                               .progress = on_progress,
                               .note = on_note,
                               .library = on_library,
                               .n_threads = loading_threads(a->srv),
                               .key_delay_us = cfg_get(&a->srv->cfg->key_load_delay) };
    int64_t began = clock_mono_us();
    struct ks_opts ko = { .n_dbs = ks_n_dbs(a->srv->ks), .n_shards = ks_n_shards(a->srv->ks), .one_thread = true };
    a->data = ks_new(&ko);
    ks_use_lfu(a->data, ks_uses_lfu(a->srv->ks));
    ks_lock(a->data, ks_all_mask(ko.n_shards));
    int rc = rdb_file_load(in, a->data, true, NULL, &o, &found, err, sizeof err);
    ks_unlock(a->data, ks_all_mask(ko.n_shards));
    if (rc < 0) {
        if (!*has_failed) failed(a, "%s", err);
        return false;
    }
    a->stream_db = found.has_repl ? found.repl_stream_db : -1;
    log_notice("Done loading RDB, keys loaded: %llu, keys expired: %llu.", (unsigned long long)found.keys,
               (unsigned long long)found.expired);
    log_verbose("Loading took %.3f seconds", (double)(clock_mono_us() - began) / 1e6);
    return true;
}

/* What was there is freed here, not on the I/O thread, and before the new data takes its memory. */
static void free_old(struct repl_attempt *a) {
    ks_free(a->data);
    a->data = NULL;
}

/* ---- the step that begins it: thread 0, all shards locked ---- */

/* Whoever was let through before, SAVE among them, looks again, and finds LOADING. */
static void begin_load(struct repl_attempt *a) {
    link_step_begin_load(a);
    engine_move_gate(&a->srv->eng);
}

/* A file of the data set before is not wanted any more, and its child would cost memory for each page that the new one takes. */
static void step_begin_diskless(struct repl_attempt *a) {
    child_kill(a->srv, CHILD_RDB);
    begin_load(a);
}

static void end_saving(struct server *srv) {
    if (child_kind_now(srv) != CHILD_RDB) return;
    log_notice(
        "Replica is about to load the RDB file received from the master, but there is a pending RDB child running. Killing "
        "process %ld and removing its temp file to avoid any race",
        (long)child_pid(srv));
    child_kill(srv, CHILD_RDB);
}

static void step_begin_disk(struct repl_attempt *a) {
    end_saving(a->srv);
    if (rename(a->temp, a->path) == 0)
        begin_load(a);
    else
        a->keep_errno = errno;
}

/* ---- diskless ---- */

/* Behind the RDB there is the mark, and nothing else; or nothing, by length. */
static bool check_end(struct repl_attempt *a, struct rdb_in *in, char *chunk) {
    size_t left = (size_t)(in->end - in->p);
    if (left > REPLICA_MARK_LEN) return failed(a, "Replication stream EOF marker is broken");
    while (!rdb_framing_is_whole(&a->framing) && left < REPLICA_MARK_LEN) {
        ssize_t n = receive(a, chunk, REPLICA_MARK_LEN - left);
        if (n <= 0) return false;
        left += (size_t)n;
    }
    bool ok = rdb_framing_is_whole(&a->framing) && left == (a->framing.by_mark ? REPLICA_MARK_LEN : 0);
    return ok || failed(a, "Replication stream EOF marker is broken");
}

static bool receive_into_parser(struct repl_attempt *a) {
    if (!attempt_step(a, step_begin_diskless)) return false;
    free_old(a);
    log_notice("MASTER <-> REPLICA sync: Loading DB in memory");
    struct source s = { .a = a, .chunk = mem_alloc(CHUNK) };
    struct rdb_in in = { .more = more_from_primary, .arg = &s, .max_string = UINT64_MAX };
    bool ok = load(a, &in, a->framing.total, &s.has_failed) && check_end(a, &in, s.chunk);
    mem_free(s.chunk);
    if (!ok) failed(a, "Failed trying to load the MASTER synchronization DB from socket, check server logs.");
    return ok;
}

/* ---- by way of a file ---- */

/* The pages go to the disk while more is coming. */
static void have_written(int fd, uint64_t to, uint64_t *from) {
    if (to - *from < SYNC_EVERY) return;
    sync_file_range(fd, (off64_t)*from, (off64_t)(to - *from), SYNC_FILE_RANGE_WRITE);
    *from = to;
}

static bool receive_into_file(struct repl_attempt *a, int fd) {
    char *chunk = mem_alloc(CHUNK);
    uint64_t written_back = 0;
    ssize_t n;
    while ((n = receive(a, chunk, CHUNK)) > 0) {
        int r = file_write_all(fd, chunk, (size_t)n);
        if (r < 0) {
            failed(a, "Write error or short write writing to the DB dump file needed for MASTER <-> REPLICA synchronization: %s",
                   strerror(-r));
            n = -1;
            break;
        }
        have_written(fd, a->framing.got, &written_back);
    }
    mem_free(chunk);
    if (n < 0) return false;
    if (a->framing.by_mark && ftruncate(fd, (off_t)(a->framing.got - REPLICA_MARK_LEN)) < 0)
        return failed(a, "Error truncating the RDB file received from the master for SYNC: %s", strerror(errno));
    return true;
}

/* On the disk before it takes its place; then the server loads. */
static bool keep_file(struct repl_attempt *a, int fd) {
    if (fsync(fd) < 0)
        return failed(a, "Failed trying to sync the temp DB to disk in MASTER <-> REPLICA synchronization: %s", strerror(errno));
    if (!attempt_step(a, step_begin_disk)) return false;
    if (a->keep_errno)
        return failed(a, "Failed trying to rename the temp DB into %s in MASTER <-> REPLICA synchronization: %s", a->path,
                      strerror(a->keep_errno));
    file_sync_dir_of(a->path);
    return true;
}

static bool load_file(struct repl_attempt *a, int fd) {
    free_old(a);
    log_notice("MASTER <-> REPLICA sync: Loading DB in memory");
    if (lseek(fd, 0, SEEK_SET) < 0) return failed(a, "Fatal error: can't read the RDB file %s: %s", a->path, strerror(errno));
    struct stat st = { 0 };
    struct rdb_in in;
    struct rdb_file_source s;
    static const bool has_failed = false;
    if (fstat(fd, &st) < 0) st.st_size = 0;
    rdb_file_source_init(&s, &in, fd);
    bool ok = load(a, &in, (uint64_t)st.st_size, &has_failed);
    rdb_file_source_done(&s);
    if (!ok) failed(a, "Failed trying to load the MASTER synchronization DB from disk, check server logs.");
    return ok;
}

/* Without persistence of its own the server needs the file no longer. */
static bool file_is_wanted(struct server *srv) {
    return !cfg_get(&srv->cfg->rdb_del_sync_files) || repl_has_persistence(srv);
}

/* The attempt may have been given up, and another file be in its place by now. */
static void remove_file(struct repl_attempt *a, int fd) {
    struct stat ours, there;
    if (fstat(fd, &ours) != 0 || lstat(a->path, &there) != 0) return;
    if (ours.st_dev != there.st_dev || ours.st_ino != there.st_ino) return;
    log_notice("Removing the RDB file obtained from the master. This replica has persistence disabled");
    unlink(a->path);
}

static bool receive_by_disk(struct repl_attempt *a) {
    a->path = config_str_dup(a->srv->cfg, &a->srv->cfg->dbfilename);
    /* To the microsecond: an attempt that was given up may still have one, and removes it. */
    snprintf(a->temp, sizeof a->temp, "temp-%lld.%ld.rdb", (long long)clock_wall_us(), (long)getpid());
    unlink(a->temp);
    int fd = open(a->temp, O_CREAT | O_RDWR | O_EXCL | O_CLOEXEC, 0644);
    if (fd < 0) return failed(a, "Opening the temp file needed for MASTER <-> REPLICA synchronization: %s", strerror(errno));
    bool ok = receive_into_file(a, fd) && keep_file(a, fd);
    if (!ok) unlink(a->temp);
    bool is_to_go = ok && !file_is_wanted(a->srv);
    ok = ok && load_file(a, fd);
    if (is_to_go) remove_file(a, fd);
    close(fd);
    return ok;
}

/* After SYNC the announcement comes first: an error in its place is to leave the old history alone. */
static bool begin_transfer(struct repl_attempt *a) {
    if (a->is_pre_psync) return await_announcement(a) && attempt_step(a, link_step_full);
    return attempt_step(a, link_step_full) && await_announcement(a);
}

bool attempt_receive(struct repl_attempt *a) {
    if (!begin_transfer(a)) return false;
    note_announcement(a);
    return a->load == LOAD_DISK ? receive_by_disk(a) : receive_into_parser(a);
}
