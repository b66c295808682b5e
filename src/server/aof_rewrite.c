/*
 * Rewriting the append-only file: a child writes what is in memory as a new base, the increments so far become history.
 *
 *   begin (any I/O thread)   a new increment is made and put into the manifest; then, with every shard locked: what is pending
 * goes to the old increment, the new one is switched to, fork. So base and new increment meet without a gap child
 * temp-rewriteaof-bg-PID.aof done (thread 0)          base renamed, manifest replaced (base new, older files history), history
 * deleted
 *
 * A crash leaves a manifest that loads at every point: the old base with both increments until the manifest is replaced, the new
 * base with the new increment after. With every shard locked nothing is synced: that is done before, with writes held, which
 * makes everysec's writers put off and always's replies wait, as for any fsync.
 *
 * AOF turned on at run time (AOF_WAIT_REWRITE): the increment has a temporary name and is in no manifest before its base is.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/thread.h"
#include "persist/aof_commands.h"
#include "persist/rdb_file.h"
#include "server/aof_priv.h"
#include "server/child.h"
#include "server/latency.h"
#include "server/propagate.h"
#include "server/snapshot.h"

#define LIMIT_FAILURES 3 /* from so many failures in a row on, rewrites wait */
#define LIMIT_MAX_MINUTES 60

/* ---- what the child writes ---- */

static int write_commands(struct server *srv, const char *path) {
    struct config *cfg = srv->cfg;
    struct rdb_file_sink f = { .fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644),
                               .incremental_fsync = cfg_get(&cfg->aof_rewrite_incremental_fsync) };
    if (f.fd < 0) {
        int err = errno;
        log_warning("Opening the temp file for AOF rewrite in rewriteAppendOnlyFile(): %s", strerror(err));
        return -err;
    }
    struct saving saving;
    const struct aof_commands_opts o = { .timestamp_s = cfg_get(&cfg->aof_timestamp_enabled) ? clock_wall_ms() / 1000 : 0,
                                         .sink = rdb_file_sink_write,
                                         .arg = &f,
                                         .progress = snapshot_progress(&saving, srv) };
    int r = aof_commands_write(srv->ks, srv->eng.scripts, &o);
    if (r == 0 && fsync(f.fd) != 0 && errno != EINVAL) r = -errno;
    if (close(f.fd) != 0 && r == 0) r = -errno;
    if (r) {
        log_warning("Write error writing append only file on disk: %s", strerror(-r));
        unlink(path);
    }
    return r;
}

static int write_rdb(struct server *srv, const char *path) {
    struct config *cfg = srv->cfg;
    struct rdb_file_info info;
    struct rdb_save_opts o;
    snapshot_info(srv, &info);
    snapshot_opts(srv, &o);
    info.aof_base = true;
    o.incremental_fsync = cfg_get(&cfg->aof_rewrite_incremental_fsync);
    struct saving saving;
    const struct rdb_progress p = snapshot_progress(&saving, srv);
    char err[256] = "";
    int r = rdb_file_save(path, srv->ks, srv->eng.scripts, &info, &o, &p, err, sizeof err);
    if (r) log_warning("Write error writing append only file on disk: %s", *err ? err : strerror(-r));
    return r;
}

int aof_write_base(struct server *srv, const char *path) {
    return cfg_get(&srv->cfg->aof_use_rdb_preamble) ? write_rdb(srv, path) : write_commands(srv, path);
}

static void temp_base(char *ret, size_t cap, pid_t pid) {
    snprintf(ret, cap, "temp-rewriteaof-bg-%d.aof", (int)pid);
}

static char *temp_incr(struct server *srv) {
    char *filename = config_str_dup(srv->cfg, &srv->cfg->appendfilename),
         *name = mem_asprintf(AOF_TEMP_PREFIX "%s.incr", filename);
    char *path = aof_file_path(srv, name);
    mem_free(filename);
    mem_free(name);
    return path;
}

static int child_main(void *arg, const struct propagate_point *at) {
    char path[64];
    (void)at;
    temp_base(path, sizeof path, getpid());
    if (aof_write_base(arg, path) != 0) return 1;
    log_notice("Successfully created the temporary AOF base file %s", path);
    child_log_cow(arg, "AOF rewrite");
    return 0;
}

/* ---- history ---- */

struct closing {
    int n, fd[];
};

static void close_files(struct closing *c) {
    for (int i = 0; i < c->n; i++) close(c->fd[i]); /* where a deleted file's blocks are given back, which may take long */
    mem_free(c);
}

static void *closing_main(void *arg) {
    thread_is_background();
    close_files(arg);
    return NULL;
}

void aof_delete_history(struct server *srv, struct aof_manifest *m) {
    bool is_kept = cfg_get(&srv->cfg->aof_disable_auto_gc);
    atomic_store(&srv->aof->has_history, m->n_history && is_kept);
    if (m->n_history == 0 || is_kept) return;
    struct closing *c = mem_alloc(sizeof *c + sizeof(int) * (size_t)m->n_history);
    pthread_t tid;
    c->n = 0;
    for (int i = 0; i < m->n_history; i++) {
        char *path = aof_file_path(srv, m->history[i]->name);
        int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
        if (fd >= 0) c->fd[c->n++] = fd;
        if (unlink(path) == 0)
            log_notice("Removing the history file %s in the background", m->history[i]->name);
        else if (errno != ENOENT)
            log_warning("Can't delete the history file %s: %s", m->history[i]->name, strerror(errno));
        mem_free(path);
    }
    aof_manifest_forget_history(m);
    aof_save_manifest(srv, m);
    if (thread_start(&tid, closing_main, c) == 0)
        pthread_detach(tid);
    else
        close_files(c);
}

/* ---- begin ---- */

struct plan {
    enum aof_state state;
    struct aof_manifest *manifest; /* AOF_ON: with the new increment */
    int fd;                        /* of it; -1: none is wanted */
};

/* The new increment, before anything is locked. 0 or -errno, logged: nothing has changed then. */
static int prepare(struct server *srv, struct plan *p) {
    if (p->state == AOF_OFF) return 0;
    char *path;
    if (p->state == AOF_WAIT_REWRITE) {
        path = temp_incr(srv);
        unlink(path); /* of a rewrite that failed: it may still be written to */
    } else {
        char *filename = config_str_dup(srv->cfg, &srv->cfg->appendfilename);
        p->manifest = aof_manifest_dup(srv->aof->manifest);
        path = aof_file_path(srv, aof_manifest_next_incr(p->manifest, filename));
        mem_free(filename);
    }
    p->fd = open(path, O_WRONLY | O_APPEND | O_TRUNC | O_CREAT | O_CLOEXEC, 0644);
    int r = p->fd < 0 ? -errno : 0;
    if (r) {
        log_warning("Can't open the append-only file %s: %s", path, strerror(-r));
    } else {
        log_notice("Creating AOF incr %sfile %s on background rewrite", p->state == AOF_WAIT_REWRITE ? "temp " : "",
                   strrchr(path, '/') ? strrchr(path, '/') + 1 : path);
        if (p->manifest) r = aof_save_manifest(srv, p->manifest);
        if (r) {
            unlink(path);
            close(p->fd);
            p->fd = -1;
        }
    }
    mem_free(path);
    return r;
}

/* Every shard is locked and writes are held. */
static int switch_files(struct server *srv, struct plan *p) {
    struct aof *a = srv->aof;
    if (p->state == AOF_OFF) return 0;
    int r = aof_file_switch(a->file, p->fd, 0);
    if (r) return r;
    p->fd = -1;
    if (p->manifest) {
        aof_manifest_free(a->manifest);
        a->manifest = p->manifest;
        p->manifest = NULL;
    }
    atomic_store(&a->state, p->state);
    aof_sink(a, true);
    return 0;
}

/* The new increment was not switched to: it is taken out of the manifest again. */
static void undo(struct server *srv, struct plan *p) {
    if (p->fd >= 0) close(p->fd);
    if (!p->manifest) return;
    char *path = aof_file_path(srv, aof_manifest_last_incr(p->manifest));
    if (aof_save_manifest(srv, srv->aof->manifest) == 0) unlink(path);
    mem_free(path);
    aof_manifest_free(p->manifest);
}

static void rewrite_done(void *arg, int pid, int status);

/* Writes are held. */
static int lock_and_fork(struct server *srv, struct plan *p) {
    uint64_t locked = engine_lock(&srv->eng, ks_all_mask(ks_n_shards(srv->ks)), false);
    if (!locked) return -EBUSY;
    int r = switch_files(srv, p);
    const struct child_opts o = { .kind = CHILD_AOF, .locked = true, .run = child_main, .done = rewrite_done, .arg = srv };
    pid_t pid = r == 0 ? child_start(srv, &o) : 0;
    struct io_thread *th = io_thread_self();
    engine_unlock(&srv->eng, locked, th ? (unsigned)th->index : 0);
    if (r) log_warning("The append-only file cannot be written, and so not be rewritten: %s", strerror(-r));
    if (pid < 0) log_warning("Can't rewrite append only file in background: fork: %s", strerror((int)-pid));
    if (r == 0 && pid > 0) log_notice("Background append only file rewriting started by pid %d", (int)pid);
    return r ? r : pid < 0 ? (int)pid : 0;
}

int aof_rewrite_begin(struct server *srv, enum aof_state state) {
    struct aof *a = srv->aof;
    struct plan p = { .state = state, .fd = -1 };
    if (child_is_active(srv) || ks_is_held(srv->ks) || !aof_try_busy(a)) return -EBUSY;
    int r = aof_make_dir(srv);
    aof_file_hold(a->file);
    if (r == 0) r = prepare(srv, &p);
    if (r == 0) r = lock_and_fork(srv, &p);
    if (r) undo(srv, &p);
    aof_file_let_go(a->file);
    if (r == 0) {
        atomic_store(&a->scheduled, false);
        atomic_store(&a->rewrite_started_s, clock_wall_ms() / 1000);
        aof_apply_config(srv); /* the gate, when this turns it on */
    } else if (r != -EBUSY) {
        atomic_store(&a->rewrite_ok, false);
    }
    aof_end_busy(a);
    return r;
}

/* ---- done ---- */

static int timed_rename(struct server *srv, const char *from, const char *to) {
    int64_t start = clock_mono_us();
    int r = rename(from, to) == 0 ? 0 : -errno;
    latency_note(srv, "aof-rename", (uint64_t)(clock_mono_us() - start));
    return r;
}

static int rename_base(struct server *srv, struct aof_manifest *m, const char *temp) {
    char *filename = config_str_dup(srv->cfg, &srv->cfg->appendfilename);
    const char *name = aof_manifest_next_base(m, filename, cfg_get(&srv->cfg->aof_use_rdb_preamble));
    char *path = aof_file_path(srv, name);
    int r = timed_rename(srv, temp, path);
    if (r)
        log_warning("Error trying to rename the temporary AOF base file %s into %s: %s", temp, name, strerror(-r));
    else
        log_notice("Successfully renamed the temporary AOF base file %s into %s", temp, name);
    mem_free(path);
    mem_free(filename);
    return r;
}

static int rename_incr(struct server *srv, struct aof_manifest *m) {
    char *filename = config_str_dup(srv->cfg, &srv->cfg->appendfilename), *temp = temp_incr(srv);
    const char *name = aof_manifest_next_incr(m, filename), *shown = strrchr(temp, '/') ? strrchr(temp, '/') + 1 : temp;
    char *path = aof_file_path(srv, name);
    int r = timed_rename(srv, temp, path);
    if (r)
        log_warning("Error trying to rename the temporary AOF incr file %s into %s: %s", shown, name, strerror(-r));
    else
        log_notice("Successfully renamed the temporary AOF incr file %s into %s", shown, name);
    mem_free(path);
    mem_free(filename);
    mem_free(temp);
    return r;
}

/* The child has written the base. 0 or -errno, logged; then everything is as it was. */
static int adopt(struct server *srv, const char *temp) {
    struct aof *a = srv->aof;
    enum aof_state state = aof_state_of(a);
    struct aof_manifest *m = aof_manifest_dup(a->manifest);
    int r = rename_base(srv, m, temp);
    if (r == 0 && state == AOF_WAIT_REWRITE) r = rename_incr(srv, m);
    if (r == 0) {
        aof_manifest_retire_incr(m, state == AOF_OFF ? 0 : 1);
        r = aof_save_manifest(srv, m);
    }
    if (r) {
        char *path = aof_file_path(srv, m->base->name);
        unlink(path);
        mem_free(path);
        aof_manifest_free(m);
        return r;
    }
    aof_file_hold(a->file);
    aof_manifest_free(a->manifest);
    a->manifest = m;
    int64_t total = aof_total_size(srv, m);
    if (total >= 0) {
        aof_file_set_total(a->file, total);
        atomic_store(&a->base_size, total);
    }
    aof_file_let_go(a->file);
    if (state == AOF_WAIT_REWRITE) atomic_store(&a->state, AOF_ON);
    aof_delete_history(srv, m);
    return 0;
}

static void note_outcome(struct server *srv, bool ok, bool counts) {
    struct aof *a = srv->aof;
    if (ok) atomic_store(&a->failures, 0);
    if (!ok && counts) atomic_fetch_add(&a->failures, 1);
    if (ok || counts) atomic_store(&a->rewrite_ok, ok);
    int64_t started = atomic_exchange(&a->rewrite_started_s, -1);
    atomic_store(&a->rewrite_last_s, started < 0 ? -1 : clock_wall_ms() / 1000 - started);
    /* What is gathered is good for nothing without a base: again. */
    if (aof_state_of(a) == AOF_WAIT_REWRITE) atomic_store(&a->scheduled, true);
}

/* Thread 0. status: waitpid(2)'s. */
static void rewrite_done(void *arg, int pid, int status) {
    struct server *srv = arg;
    struct aof *a = srv->aof;
    char temp[64], written[128];
    struct child_figures figures;
    temp_base(temp, sizeof temp, pid);
    bool ok = WIFEXITED(status) && WEXITSTATUS(status) == 0;
    while (!aof_try_busy(a)) sched_yield(); /* appendonly no on another thread: a few instructions, or the shards */
    if (ok) {
        log_notice("Background AOF rewrite terminated with success");
        ok = adopt(srv, temp) == 0;
        if (ok) log_notice("Background AOF rewrite finished successfully");
    } else if (WIFSIGNALED(status)) {
        log_warning("Background AOF rewrite terminated by signal %d", WTERMSIG(status));
    } else {
        log_warning("Background AOF rewrite terminated with error");
    }
    if (ok) atomic_fetch_add(&a->rewrites, 1);
    child_figures_get(srv, &figures);
    atomic_store(&a->last_cow, figures.last_cow[CHILD_AOF]);
    rdb_file_temp_path(written, sizeof written, temp, pid);
    unlink(written); /* when it was killed */
    unlink(temp);
    note_outcome(srv, ok, !child_was_killed(status));
    aof_end_busy(a);
}

bool aof_rewrite_is_running(struct server *srv) {
    return child_kind_now(srv) == CHILD_AOF;
}

void aof_rewrite_kill(struct server *srv) {
    child_kill(srv, CHILD_AOF);
}

/* ---- by itself ---- */

/* Thread 0. True: it has failed too often, and waits. */
static bool is_limited(struct aof *a) {
    int64_t now = clock_wall_ms() / 1000;
    if (atomic_load(&a->failures) < LIMIT_FAILURES) {
        a->retry_minutes = 0;
        a->retry_at_s = 0;
        return false;
    }
    if (a->retry_at_s) {
        if (now < a->retry_at_s) return true;
        a->retry_at_s = 0;
        return false;
    }
    a->retry_minutes = a->retry_minutes ? a->retry_minutes * 2 : 1;
    if (a->retry_minutes > LIMIT_MAX_MINUTES) a->retry_minutes = LIMIT_MAX_MINUTES;
    a->retry_at_s = now + a->retry_minutes * 60;
    log_warning("Background AOF rewrite has repeatedly failed and triggered the limit, will retry in %u minutes",
                a->retry_minutes);
    return true;
}

static bool has_grown(struct aof *a) {
    struct config *cfg = a->srv->cfg;
    int64_t percent = cfg_get(&cfg->auto_aof_rewrite_percentage);
    struct aof_file_state st;
    if (aof_state_of(a) != AOF_ON || !percent) return false;
    aof_file_state_get(a->file, &st);
    if (st.total <= cfg_get(&cfg->auto_aof_rewrite_min_size)) return false;
    int64_t base = atomic_load(&a->base_size), growth = (int64_t)((double)st.total * 100 / (double)(base ? base : 1)) - 100;
    if (growth < percent || is_limited(a)) return false;
    log_notice("Starting automatic rewriting of AOF on %lld%% growth", (long long)growth);
    return true;
}

/* aof-disable-auto-gc was yes, and is no now. */
static void delete_kept_history(struct server *srv) {
    struct aof *a = srv->aof;
    if (!atomic_load(&a->has_history) || cfg_get(&srv->cfg->aof_disable_auto_gc) || !aof_try_busy(a)) return;
    aof_delete_history(srv, a->manifest);
    aof_end_busy(a);
}

void aof_rewrite_cron(struct server *srv) {
    struct aof *a = srv->aof;
    delete_kept_history(srv);
    if (child_is_active(srv)) return;
    if (atomic_load(&a->scheduled) ? !is_limited(a) : has_grown(a)) aof_rewrite_begin(srv, aof_state_of(a));
}

void bgrewriteaof_command(struct cmd_ctx *c) {
    struct server *srv = c->eng->server;
    struct aof *a = srv->aof;
    if (aof_rewrite_is_running(srv)) {
        reply_error(c->r, "ERR Background append only file rewriting already in progress");
        return;
    }
    int r = child_is_active(srv) || c->in_exec ? -EBUSY : aof_rewrite_begin(srv, aof_state_of(a));
    if (r == 0) {
        reply_simple(c->r, "Background append only file rewriting started");
    } else if (r == -EBUSY) {
        atomic_store(&a->scheduled, true);
        atomic_store(&a->failures, 0); /* who asks by hand does not wait */
        reply_simple(c->r, "Background append only file rewriting scheduled");
    } else {
        reply_error(c->r, "ERR Can't execute an AOF background rewriting. Please check the server logs for more information.");
    }
}
