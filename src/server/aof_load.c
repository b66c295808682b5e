/*
 * Loading the append-only file: base, then increments, each command run as a client's would be, by a session that nothing is
 * refused and for which nothing runs out (session.applies).
 *
 * Place in the flow: once before the server serves (the loader's thread), and DEBUG LOADAOF. Nobody else touches the keyspace
 * meanwhile. Files are not trusted: they are read by persist/aof_read.c, and only commands that change data are run.
 *
 * A file may end in the middle of a command or of a transaction, after a crash, and then is cut back to what is whole
 * (aof-load-truncated), but only the last one: a cut in the middle of the sequence would silently take away what other files rely
 * on.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "cmd/exec.h"
#include "cmd/script/script.h"
#include "persist/aof_read.h"
#include "persist/rdb_file.h"
#include "server/aof_priv.h"
#include "server/loading.h"
#include "server/refusal.h"

#define CHECK_TOOL "kettle-check-aof"
#define REPORT_EVERY (1 << 20) /* bytes between reports of progress */

enum file_result { FILE_OK, FILE_EMPTY, FILE_TRUNCATED, FILE_FAILED };

struct load {
    struct server *srv;
    struct session s;
    struct obuf out;
    const char *name; /* of the file, for the log */
    char *path;
    bool is_last, is_old_style;
    struct aof_reader r;
    int64_t before, reported; /* bytes of the files before this one; reported so far */
};

/* ---- commands ---- */

/* What has a place in a log: changes, and what surrounds them. The rest would need a client. */
static bool belongs_here(const struct cmd *cmd) {
    if (cmd->flags & (CMD_WRITE | CMD_SCRIPT)) return true;
    static const char *const others[] = { "select", "multi", "exec", "script|load", "script|flush", "pfcount", NULL };
    for (int i = 0; others[i]; i++)
        if (!strcmp(cmd->full_name, others[i])) return true;
    return false;
}

static bool apply(struct load *l) {
    struct engine *e = &l->srv->eng;
    const struct cmd *cmd = cmd_lookup_argv(e->table, l->r.argc, l->r.argv);
    struct slice name = l->r.argv[0];
    if (!cmd) {
        struct buf text = { 0 };
        str_quote(&text, (struct slice){ name.ptr, name.len < 64 ? name.len : 64 });
        log_warning("Unknown command %s reading the append only file %s", buf_cstr(&text), l->name);
        buf_done(&text);
        return false;
    }
    if (!belongs_here(cmd)) {
        log_warning("The append only file %s has a command that changes nothing, which is left out: %s", l->name, cmd->full_name);
        return true;
    }
    enum dispatch_result d = dispatch(e, &l->s, l->r.argc, l->r.argv);
    while (d == DISPATCH_SUSPENDED) d = dispatch_continue(e, &l->s);
    obuf_clear(&l->out);
    refusal_note_applied(l->srv, &l->s.reply, "server", "AOF-loading-client", cmd->full_name,
                         cfg_get(&l->srv->cfg->propagation_error_behavior) == CFG_PROPAGATION_PANIC);
    return true;
}

static bool note_progress(struct load *l, uint64_t bytes, uint64_t keys) {
    return loading_progress(l->srv, bytes, keys);
}

/* False: the server ends. */
static bool report(struct load *l, bool at_end) {
    int64_t at = l->before + l->r.offset;
    if (!at_end && at - l->reported < REPORT_EVERY) return true;
    l->reported = at;
    return note_progress(l, (uint64_t)at, 0);
}

/* ---- ends ---- */

static enum file_result bad_format(struct load *l) {
    log_warning("Bad file format reading the append only file %s: make a backup of your AOF file, then use " CHECK_TOOL
                " --fix <filename.manifest>",
                l->name);
    if (*l->r.err) log_warning("At offset %lld: %s", (long long)l->r.err_at, l->r.err);
    return FILE_FAILED;
}

static enum file_result truncated(struct load *l, int64_t valid_up_to) {
    if (cfg_get(&l->srv->cfg->aof_load_truncated) && l->is_last) {
        log_warning("!!! Warning: short read while loading the AOF file %s!!!", l->name);
        log_warning("!!! Truncating the AOF %s at offset %llu !!!", l->name, (unsigned long long)valid_up_to);
        if (truncate(l->path, (off_t)valid_up_to) == 0) {
            log_warning("AOF %s loaded anyway because aof-load-truncated is enabled", l->name);
            return FILE_TRUNCATED;
        }
        log_warning("Error truncating the AOF file %s: %s", l->name, strerror(errno));
    }
    log_warning(
        "Unexpected end of file reading the append only file %s. You can: 1) Make a backup of your AOF file, then use " CHECK_TOOL
        " --fix <filename.manifest>. 2) Alternatively you can set the 'aof-load-truncated' configuration option "
        "to yes and restart the server.",
        l->name);
    if (!l->is_last) log_warning("Fatal error: the truncated file is not the last file");
    return FILE_FAILED;
}

static enum file_result read_failed(struct load *l) {
    log_warning("Unrecoverable error reading the append only file %s: %s", l->name, strerror(l->r.err_no));
    return FILE_FAILED;
}

/* ---- a file ---- */

static enum file_result run_commands(struct load *l) {
    int64_t valid = l->r.offset;
    for (;;) {
        enum aof_read what = aof_reader_next(&l->r);
        if (what == AOF_READ_COMMAND && !apply(l)) return FILE_FAILED;
        if (what == AOF_READ_COMMAND || what == AOF_READ_NOTE) {
            if (!l->s.in_multi) valid = l->r.offset;
            if (!report(l, false)) return FILE_FAILED;
            continue;
        }
        if (what == AOF_READ_BAD) return bad_format(l);
        if (what == AOF_READ_ERROR) return read_failed(l);
        if (what == AOF_READ_END && !l->s.in_multi) return FILE_OK;
        if (what == AOF_READ_END) log_warning("Revert incomplete MULTI/EXEC transaction from AOF file %s", l->name);
        session_end_multi(&l->s);
        return truncated(l, valid);
    }
}

static bool rdb_progress(void *arg, uint64_t bytes, uint64_t keys) {
    struct load *l = arg;
    return note_progress(l, (uint64_t)l->before + bytes, keys);
}

/* The file begins with an RDB: the base, or the preamble of an old-style file. */
static bool load_rdb(struct load *l, int fd, uint64_t size) {
    struct rdb_file_source src;
    struct rdb_in in;
    struct rdb_file_found found;
    char err[256] = "";
    struct rdb_load_opts o = { .now_ms = clock_wall_ms(),
                               .keep_expired = true,
                               .size = size,
                               .arg = l,
                               .progress = rdb_progress,
                               .n_threads = loading_threads(l->srv),
                               .note = loading_rdb_note,
                               .key_delay_us = cfg_get(&l->srv->cfg->key_load_delay) };
    log_notice(l->is_old_style ? "Reading RDB preamble from AOF file..." : "Reading RDB base file on AOF loading...");
    rdb_file_source_init(&src, &in, fd);
    int r = rdb_file_load(&in, l->srv->ks, false, l->srv->eng.scripts, &o, &found, err, sizeof err);
    rdb_file_source_done(&src);
    if (r == 0 && lseek(fd, (off_t)found.bytes, SEEK_SET) < 0) r = -errno;
    if (r) {
        log_warning(l->is_old_style ? "Error reading the RDB preamble of the AOF file %s, AOF loading aborted: %s"
                                    : "Error reading the RDB base file %s, AOF loading aborted: %s",
                    l->name, *err ? err : strerror(-r));
        return false;
    }
    l->r.offset = (int64_t)found.bytes;
    if (l->is_old_style) log_notice("Reading the remaining AOF tail...");
    return true;
}

static enum file_result load_fd(struct load *l, int fd) {
    struct stat st;
    char magic[5];
    if (fstat(fd, &st) == 0 && st.st_size == 0) return FILE_EMPTY;
    aof_reader_init(&l->r, aof_read_fd, &fd);
    enum file_result r = FILE_OK;
    bool is_rdb = pread(fd, magic, sizeof magic, 0) == (ssize_t)sizeof magic && !memcmp(magic, "REDIS", 5);
    if (is_rdb && !load_rdb(l, fd, (uint64_t)st.st_size)) r = FILE_FAILED;
    if (r == FILE_OK) {
        atomic_store(&l->s.db, 0);
        r = run_commands(l);
    }
    report(l, true);
    l->before += l->r.offset;
    aof_reader_done(&l->r);
    return r;
}

static enum file_result load_file(struct load *l, const struct aof_info *info) {
    l->name = info->name;
    l->path = aof_file_path(l->srv, info->name);
    int fd = open(l->path, O_RDONLY | O_CLOEXEC);
    enum file_result r = FILE_FAILED;
    if (fd < 0) {
        log_warning(errno == ENOENT ? "The append log file %s doesn't exist: %s"
                                    : "Fatal error: can't open the append log file %s for reading: %s",
                    l->name, strerror(errno));
    } else {
        r = load_fd(l, fd);
        close(fd);
    }
    mem_free(l->path);
    l->path = NULL;
    return r;
}

/* ---- all of them ---- */

static bool load_files(struct load *l, const struct aof_manifest *m) {
    int n = aof_manifest_count(m);
    for (int i = 0; i < n; i++) {
        const struct aof_info *info = aof_manifest_at(m, i);
        int64_t start = clock_mono_us();
        bool is_base = info->part == AOF_PART_BASE;
        l->is_last = i == n - 1;
        l->is_old_style = is_base && !strstr(info->name, ".base.");
        enum file_result r = load_file(l, info);
        if (r == FILE_FAILED) return false;
        if (r != FILE_EMPTY)
            log_notice("DB loaded from %s file %s: %.3f seconds", is_base ? "base" : "incr", info->name,
                       (double)(clock_mono_us() - start) / 1e6);
    }
    return true;
}

static void session_begin(struct load *l, unsigned slot) {
    session_init(&l->s, &l->out, 0);
    l->s.applies = l->s.authenticated = true;
    l->s.effects_to = 0;
    l->s.slot = slot;
}

static enum aof_loaded load_all(struct server *srv, const struct aof_manifest *m, unsigned slot) {
    int64_t total = aof_total_size(srv, m), start = clock_mono_us();
    if (total < 0) return AOF_LOAD_FAILED;
    if (total == 0) return AOF_NOTHING;
    struct load *l = mem_zalloc(sizeof *l);
    l->srv = srv;
    session_begin(l, slot);
    loading_set_total(srv, (uint64_t)total);
    bool ok = load_files(l, m);
    session_done(&l->s, srv->ks);
    obuf_clear(&l->out);
    mem_free(l);
    if (!ok) return AOF_LOAD_FAILED;
    log_notice("DB loaded from append only file: %.3f seconds", (double)(clock_mono_us() - start) / 1e6);
    return AOF_LOADED;
}

/* ---- finding them ---- */

static bool load_manifest(struct server *srv, struct aof_manifest **ret) {
    struct aof_manifest_error err;
    char *dir = aof_dir(srv), *name = aof_manifest_name(srv);
    int r = aof_manifest_load(dir, name, ret, &err);
    if (r == -ENOENT) {
        log_debug("The AOF manifest file %s doesn't exist", name);
        *ret = aof_manifest_new();
        r = 0;
    } else if (err.why) {
        log_warning("*** FATAL AOF MANIFEST FILE ERROR ***");
        log_warning("Reading the manifest file, at line %d", err.line);
        log_warning(">>> '%s'", err.text);
        log_warning("%s", err.why);
    } else if (r) {
        log_warning("Fatal error: can't open the AOF manifest file %s for reading: %s", name, strerror(-r));
    }
    mem_free(dir);
    mem_free(name);
    return r == 0;
}

static bool is_there(const char *path) {
    return access(path, F_OK) == 0;
}

/* An old-style file `appendfilename` becomes the base: the manifest that says so comes first, so that a crash in between is found
 * by the next start (a manifest of just that base, and the file still where it was). */
static bool upgrade(struct server *srv, struct aof_manifest *m, const char *filename) {
    if (aof_make_dir(srv) != 0) return false;
    char *dir = aof_dir(srv), *to = aof_path(dir, filename);
    bool ok = true;
    if (!m->base) {
        aof_manifest_set_base(m, filename);
        ok = aof_save_manifest(srv, m) == 0;
    }
    if (ok && rename(filename, to) != 0) {
        log_warning("Error trying to move the old AOF file %s into dir %s: %s", filename, dir, strerror(errno));
        ok = false;
    }
    if (ok) log_notice("Successfully migrated an old-style AOF configuration (%s) into the AOF directory (%s).", filename, dir);
    mem_free(to);
    mem_free(dir);
    return ok;
}

static bool upgrade_if_old(struct server *srv, struct aof_manifest *m) {
    char *filename = config_str_dup(srv->cfg, &srv->cfg->appendfilename), *inside = aof_file_path(srv, filename);
    bool half_done = m->base && m->n_incr == 0 && !strcmp(m->base->name, filename) && !is_there(inside);
    bool ok = true;
    if (is_there(filename) && (aof_manifest_count(m) == 0 || half_done)) ok = upgrade(srv, m, filename);
    mem_free(inside);
    mem_free(filename);
    return ok;
}

enum aof_loaded aof_load(struct server *srv, unsigned slot) {
    struct aof *a = srv->aof;
    struct aof_manifest *m = NULL;
    if (!load_manifest(srv, &m)) return AOF_LOAD_FAILED;
    a->manifest = aof_manifest_free(a->manifest);
    a->manifest = m;
    if (!upgrade_if_old(srv, m)) return AOF_LOAD_FAILED;
    if (aof_manifest_count(m) == 0) return AOF_NOTHING;
    return load_all(srv, m, slot);
}

int aof_load_at_start(struct server *srv, unsigned slot) {
    return aof_load(srv, slot) == AOF_LOAD_FAILED ? -EIO : aof_start(srv);
}

/* ---- DEBUG LOADAOF ---- */

/* Nobody but this thread touches the keyspace once LOADING is set: who was let through before looks again. */
void debug_loadaof(struct cmd_ctx *c) {
    struct server *srv = c->eng->server;
    struct aof *a = srv->aof;
    if (c->in_exec || c->script) {
        reply_error(c->r, "ERR DEBUG LOADAOF is not possible inside a transaction or a script");
        return;
    }
    if (!aof_try_busy(a)) {
        reply_error(c->r, "ERR the append only file is being rewritten or turned on or off");
        return;
    }
    if (aof_state_of(a) != AOF_OFF) aof_file_flush(a->file, true);
    if (!dispatch_lock(c, ks_all_mask(ks_n_shards(c->ks)))) {
        aof_end_busy(a);
        dispatch_reply_busy(c);
        return;
    }
    loading_begin(srv, 0, false);
    engine_move_gate(c->eng);
    ks_touch_watched_all(c->ks, -1);
    ks_flush(c->ks, -1, false);
    scripts_flush_libraries(c->eng->scripts, false);
    dispatch_unlock(c);
    enum aof_loaded r = aof_load(srv, c->s->slot);
    loading_end(srv);
    aof_end_busy(a);
    if (r == AOF_LOAD_FAILED) {
        log_warning("DEBUG LOADAOF: the data set is lost. Exiting.");
        _exit(1);
    }
    log_warning("Append Only File loaded by DEBUG LOADAOF");
    reply_ok(c->r);
}
