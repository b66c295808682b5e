/* Checking append-only files. See the header. Commands are read, not run: a file that passes can still have commands that the
 * server does not know. An RDB at the beginning is loaded into a keyspace of its own, which is then dropped. */
#include "persist/aof_check.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "data/keyspace.h"
#include "persist/aof_manifest.h"
#include "persist/aof_read.h"
#include "persist/rdb_file.h"

#define MAX_DATABASES 16384

enum verdict { OK, EMPTY, CUT, CUT_BY_TIME, FAILED };

struct check {
    const struct aof_check_opts *o;
    const char *name, *path; /* as shown */
    int fd;
    bool is_last;
    int64_t size, good; /* bytes; good: up to here it is whole */
    int64_t line;       /* of all files so far */
    int multi;
    char error[560];
};

static void say(const struct check *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static void say(const struct check *c, const char *fmt, ...) {
    char text[4096];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    c->o->say(c->o->arg, text);
}

/* ---- an RDB in front ---- */

/* Where it ends; -1: it is not sound, and that was said. */
static int64_t check_rdb(const struct check *c) {
    struct ks_opts ko = { .n_dbs = MAX_DATABASES, .n_shards = 1, .one_thread = true };
    struct keyspace *ks = ks_new(&ko);
    struct rdb_file_source src;
    struct rdb_in in;
    struct rdb_file_found found;
    struct rdb_load_opts lo = {
        .now_ms = clock_wall_ms(), .keep_expired = true, .no_functions = true, .size = (uint64_t)c->size
    };
    char err[256] = "";
    rdb_file_source_init(&src, &in, c->fd);
    int r = rdb_file_load(&in, ks, false, NULL, &lo, &found, err, sizeof err);
    rdb_file_source_done(&src);
    ks_free(ks);
    if (r) {
        say(c, "%s", *err ? err : strerror(-r));
        say(c, "RDB preamble of AOF file is not sane, aborting.");
        return -1;
    }
    say(c, "RDB preamble is OK, proceeding with AOF tail...");
    return (int64_t)found.bytes;
}

/* ---- commands ---- */

static void note_error(struct check *c, int64_t at, const char *text) {
    snprintf(c->error, sizeof c->error, "0x%16llx: %s", (unsigned long long)at, text);
}

/* False: it may not come here. */
static bool count_multi(struct check *c, const struct aof_reader *r, int64_t at) {
    char text[512];
    if (slice_ieq(r->argv[0], "multi")) {
        if (c->multi++ == 0) return true;
        snprintf(text, sizeof text, "Unexpected MULTI in AOF %.400s", c->path);
    } else if (slice_ieq(r->argv[0], "exec")) {
        if (--c->multi == 0) return true;
        snprintf(text, sizeof text, "Unexpected EXEC in AOF %.400s", c->path);
    } else {
        return true;
    }
    note_error(c, at + (r->argv[0].ptr - (r->buf.data + r->begun)), text); /* of the name */
    return false;
}

/* The annotation at offset `at` may be the one that the file is to end before. */
static enum verdict cut_by_time(struct check *c, struct slice note, int64_t at) {
    int64_t ts;
    if (!c->o->to_timestamp || note.len < 4 || memcmp(note.ptr, "#TS:", 4) != 0) return OK;
    if (!aof_note_timestamp(note, &ts)) {
        say(c, "Invalid timestamp annotation");
        return FAILED;
    }
    long long to = (long long)c->o->to_timestamp;
    if (ts <= c->o->to_timestamp) return OK;
    if (at == 0) {
        say(c, "AOF %s has nothing before timestamp %lld, aborting...", c->name, to);
        return FAILED;
    }
    if (!c->is_last) {
        say(c, "Failed to truncate AOF %s to timestamp %lld to offset %lld because it is not the last file.", c->name, to,
            (long long)at);
        say(c,
            "If you insist, please delete all files after this file according to the manifest file and delete the corresponding "
            "records in manifest file manually. Then re-run redis-check-aof.");
        return FAILED;
    }
    if (ftruncate(c->fd, (off_t)at) != 0) {
        say(c, "Failed to truncate AOF %s to timestamp %lld", c->name, to);
        return FAILED;
    }
    return CUT_BY_TIME;
}

/* Up to the end, or what is wrong first. OK: look at `good` and `error`. */
static enum verdict read_commands(struct check *c, int64_t from) {
    struct aof_reader r;
    enum verdict v = OK;
    aof_reader_init(&r, aof_read_fd, &c->fd);
    r.offset = c->good = from;
    for (;;) {
        int64_t at = r.offset;
        enum aof_read what = aof_reader_next(&r);
        if (what == AOF_READ_NOTE && (v = cut_by_time(c, r.argv[0], at)) != OK) break;
        if (what == AOF_READ_COMMAND && !count_multi(c, &r, at)) break;
        if (what == AOF_READ_COMMAND || what == AOF_READ_NOTE) {
            if (!c->multi) c->good = r.offset;
            continue;
        }
        if (what == AOF_READ_ERROR) {
            say(c, "Failed to read from AOF %s, aborting...", c->name);
            v = FAILED;
        } else if (what == AOF_READ_BAD && r.err_at == at && !strncmp(r.err, "Expected prefix", 15)) {
            say(c, "AOF %s format error", c->name);
        } else if (what == AOF_READ_BAD || (what == AOF_READ_TRUNCATED && *r.err)) {
            note_error(c, r.err_at, r.err);
        } else if (what == AOF_READ_END && c->multi) {
            note_error(c, at, "Reached EOF before reading EXEC for MULTI");
        }
        break;
    }
    c->line += r.lines;
    aof_reader_done(&r);
    return v;
}

static enum verdict cut(struct check *c, int64_t diff) {
    if (!c->o->fix) {
        say(c, "AOF %s is not valid. Use the --fix option to try fixing it.", c->name);
        return FAILED;
    }
    if (!c->is_last) {
        say(c, "Failed to truncate AOF %s because it is not the last file", c->name);
        return FAILED;
    }
    say(c, "This will shrink the AOF %s from %lld bytes, with %lld bytes, to %lld bytes", c->name, (long long)c->size,
        (long long)diff, (long long)c->good);
    if (!c->o->confirm(c->o->arg)) {
        say(c, "Aborting...");
        return FAILED;
    }
    if (ftruncate(c->fd, (off_t)c->good) != 0) {
        say(c, "Failed to truncate AOF %s", c->name);
        return FAILED;
    }
    return CUT;
}

static bool begins_with_rdb(int fd) {
    char magic[5];
    return pread(fd, magic, sizeof magic, 0) == (ssize_t)sizeof magic && memcmp(magic, "REDIS", 5) == 0;
}

static enum verdict check_open(struct check *c) {
    struct stat st;
    if (fstat(c->fd, &st) != 0) {
        say(c, "Cannot stat file: %s, aborting...", c->name);
        return FAILED;
    }
    c->size = st.st_size;
    if (c->size == 0) return EMPTY;
    int64_t from = begins_with_rdb(c->fd) ? check_rdb(c) : 0;
    if (from < 0 || lseek(c->fd, (off_t)from, SEEK_SET) < 0) return FAILED;
    enum verdict v = read_commands(c, from);
    if (v != OK) return v;
    if (*c->error) say(c, "%s", c->error);
    int64_t diff = c->size - c->good;
    if (diff == 0 && c->o->to_timestamp) {
        say(c, "Truncate nothing in AOF %s to timestamp %lld", c->name, (long long)c->o->to_timestamp);
        return OK;
    }
    say(c, "AOF analyzed: filename=%s, size=%lld, ok_up_to=%lld, ok_up_to_line=%lld, diff=%lld", c->name, (long long)c->size,
        (long long)c->good, (long long)c->line, (long long)diff);
    return diff ? cut(c, diff) : OK;
}

/* kind: "BASE AOF", "INCR AOF", "AOF". */
static bool check_file(const struct aof_check_opts *o, const char *path, const char *name, const char *kind, bool is_last,
                       int64_t *line) {
    struct check c = { .o = o, .name = name, .path = path, .is_last = is_last, .line = *line };
    c.fd = open(path, (o->fix || o->to_timestamp ? O_RDWR : O_RDONLY) | O_CLOEXEC);
    if (c.fd < 0) {
        say(&c, "Cannot open file %s: %s, aborting...", path, strerror(errno));
        return false;
    }
    enum verdict v = check_open(&c);
    close(c.fd);
    *line = c.line;
    if (v == OK) say(&c, "%s %s is valid", kind, name);
    if (v == EMPTY) say(&c, "%s %s is empty", kind, name);
    if (v == CUT) say(&c, "Successfully truncated AOF %s", name);
    if (v == CUT_BY_TIME) say(&c, "Successfully truncated AOF %s to timestamp %lld", name, (long long)o->to_timestamp);
    return v != FAILED;
}

/* ---- manifests ---- */

/* The first line that is no comment begins with "file". */
static bool is_manifest(const char *path) {
    char text[AOF_MANIFEST_LINE_MAX + 1];
    FILE *f = fopen(path, "re");
    bool is = false, more = f != NULL;
    while (more && fgets(text, sizeof text, f)) {
        if (text[0] == '#') continue;
        is = strncmp(text, "file", 4) == 0;
        more = false;
    }
    if (f) fclose(f);
    return is;
}

static bool check_listed(const struct aof_check_opts *o, const struct aof_manifest *m, const char *dir) {
    struct check c = { .o = o };
    int n = aof_manifest_count(m);
    int64_t line = 1;
    for (int i = 0; i < n; i++) {
        const struct aof_info *info = aof_manifest_at(m, i);
        char *path = aof_path(dir, info->name);
        bool is_base = info->part == AOF_PART_BASE;
        int fd = is_base ? open(path, O_RDONLY | O_CLOEXEC) : -1;
        if (is_base) say(&c, "Start to check BASE AOF (%s format).", fd >= 0 && begins_with_rdb(fd) ? "RDB" : "RESP");
        if (!is_base && info == m->incr[0]) say(&c, "Start to check INCR files.");
        if (fd >= 0) close(fd);
        bool ok = check_file(o, path, info->name, is_base ? "BASE AOF" : "INCR AOF", i == n - 1, &line);
        mem_free(path);
        if (!ok) return false;
    }
    say(&c, "All AOF files and manifest are valid");
    return true;
}

static bool check_manifest(const struct aof_check_opts *o, const char *path) {
    struct check c = { .o = o };
    struct aof_manifest *m = NULL;
    struct aof_manifest_error err;
    char *for_dir = mem_strdup(path), *for_name = mem_strdup(path), *dir = dirname(for_dir);
    say(&c, "Start checking Multi Part AOF");
    int r = aof_manifest_load(dir, basename(for_name), &m, &err);
    if (r && err.why) {
        say(&c, "\n*** FATAL AOF MANIFEST FILE ERROR ***");
        say(&c, "Reading the manifest file, at line %d", err.line);
        say(&c, ">>> '%s'", err.text);
        say(&c, "%s", err.why);
    } else if (r) {
        say(&c, "Fatal error: can't open the AOF manifest file %s for reading: %s", path, strerror(-r));
    }
    bool ok = r == 0 && check_listed(o, m, dir);
    aof_manifest_free(m);
    mem_free(for_dir);
    mem_free(for_name);
    return ok;
}

int aof_check(const char *path, const struct aof_check_opts *o) {
    struct check c = { .o = o };
    if (access(path, F_OK) != 0) {
        say(&c, "Cannot open file %s: %s, aborting...", path, strerror(errno));
        return 1;
    }
    if (is_manifest(path)) return check_manifest(o, path) ? 0 : 1;
    say(&c, "Start checking Old-Style AOF");
    int64_t line = 1;
    return check_file(o, path, path, "AOF", true, &line) ? 0 : 1;
}
