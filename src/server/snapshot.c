/* RDB snapshots. See snapshot.h. Place in the flow: commands (cmd_snapshot.c), thread 0's cron, start-up, shutdown.
 *
 * A snapshot is of one moment: all shards are locked, by SAVE until the file is written, by BGSAVE for as long as the fork takes.
 * Threads: any; what is not atomic is the child's job, made before the fork and taken apart on thread 0 when the child has ended.
 */
#include "server/snapshot.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"
#include "cmd/figures.h"
#include "server/child.h"
#include "server/latency.h"
#include "server/loading.h"
#include "server/propagate.h"
#include "server/refusal.h"
#include "server/replication.h"
#include "server/server.h"

#define RETRY_S 5 /* after a BGSAVE that failed */

struct snapshot {
    _Atomic int64_t last_save_s, last_try_s, took_s; /* took_s: of the latest BGSAVE, -1: none */
    _Atomic int64_t began_s;                         /* of the BGSAVE that runs, -1: none */
    _Atomic bool failed, scheduled;
    _Atomic uint64_t saves, dirty_saved; /* dirty_saved: figures_dirty at the moment of the last snapshot */
    _Atomic uint64_t dirty_forked;       /* the same at the fork */
    _Atomic uint64_t last_cow;           /* bytes; of the latest child, whether it wrote a file or to replicas */
    _Atomic uint64_t keys_loaded, keys_expired;
    struct rdb_file_found found; /* of the last file that was loaded */
};

struct job { /* of a child */
    struct server *srv;
    struct rdb_file_info info;
    char repl_id[REPL_ID_LEN + 1];
    struct rdb_save_opts opts;
    char *path;
};

struct snapshot *snapshot_new(void) {
    struct snapshot *s = mem_zalloc(sizeof *s);
    atomic_store(&s->last_save_s, clock_wall_ms() / 1000);
    atomic_store(&s->took_s, -1);
    atomic_store(&s->began_s, -1);
    return s;
}

struct snapshot *snapshot_free(struct snapshot *s) {
    mem_free(s);
    return NULL;
}

/* ---- what a file says ---- */

static enum rdb_access access_of(struct server *srv) {
    switch (cfg_get(&srv->cfg->maxmemory_policy)) {
    case CFG_VOLATILE_LRU:
    case CFG_ALLKEYS_LRU:
        return RDB_ACCESS_IDLE;
    case CFG_VOLATILE_LFU:
    case CFG_ALLKEYS_LFU:
        return RDB_ACCESS_FREQ;
    default:
        return RDB_ACCESS_NONE;
    }
}

void snapshot_info(struct server *srv, struct rdb_file_info *ret) {
    int64_t now_ms = clock_wall_ms();
    *ret = (struct rdb_file_info){
        .redis_ver = REDIS_COMPAT_VERSION,
        .ctime_s = now_ms / 1000,
        .used_mem = (int64_t)mem_used(),
        .access = access_of(srv),
        .now_ms = now_ms,
    };
}

/* A server that has never had replicas says nothing: nobody can go on from where it was. */
void snapshot_repl_info(struct server *srv, const struct propagate_point *pt, struct rdb_file_info *ret, char id[41]) {
    char id2[REPL_ID_LEN + 1];
    int64_t second;
    if (!pt->repl_offset) return;
    repl_copy_ids(srv->repl, id, id2, &second);
    ret->repl_id = id;
    ret->repl_offset = (int64_t)pt->repl_offset;
    ret->repl_stream_db = pt->repl_db < 0 ? 0 : pt->repl_db;
}

void snapshot_opts(struct server *srv, struct rdb_save_opts *ret) {
    *ret = (struct rdb_save_opts){
        .compress = cfg_get(&srv->cfg->rdbcompression) != 0,
        .checksum = cfg_get(&srv->cfg->rdbchecksum) != 0,
        .incremental_fsync = cfg_get(&srv->cfg->rdb_save_incremental_fsync) != 0,
    };
}

char *snapshot_path(struct server *srv) {
    char *name = config_str_dup(srv->cfg, &srv->cfg->dbfilename);
    return name ? name : mem_strdup("dump.rdb");
}

static uint64_t dirty_now(const struct server *srv) {
    return figures_dirty(srv->eng.figures);
}

/* ---- outcomes ---- */

bool snapshot_has_save_points(const struct server *srv) {
    return cfg_get(&srv->cfg->n_save) > 0;
}

void snapshot_config_changed(struct server *srv) {
    refusal_set(srv, REFUSE_RDB_ERROR,
                atomic_load(&srv->snapshot->failed) && snapshot_has_save_points(srv) &&
                    cfg_get(&srv->cfg->stop_writes_on_bgsave_error));
}

static void note_outcome(struct server *srv, bool ok, uint64_t dirty) {
    struct snapshot *s = srv->snapshot;
    atomic_store(&s->failed, !ok);
    if (ok) {
        atomic_store(&s->dirty_saved, dirty);
        atomic_store(&s->last_save_s, clock_wall_ms() / 1000);
    }
    snapshot_config_changed(srv);
}

/* ---- how far it is ---- */

static void note_saved(void *saving, uint64_t done) {
    struct saving *s = saving;
    int64_t now = clock_mono_us();
    if (s->in_child) child_note_keys(s->srv, done); /* what a child says is not SAVE's to change */
    if (now - s->logged_us < PROGRESS_LOG_US) return;
    s->logged_us = now;
    log_notice("Saving: %.1f%% of %llu keys, %.1f seconds", s->total ? 100.0 * (double)done / (double)s->total : 100.0,
               (unsigned long long)s->total, (double)(now - s->began_us) / 1e6);
}

struct rdb_progress snapshot_progress(struct saving *ret, struct server *srv) {
    int64_t now = clock_mono_us(), delay_us = cfg_get(&srv->cfg->rdb_key_save_delay);
    *ret = (struct saving){ .srv = srv, .in_child = child_is_self(srv), .began_us = now, .logged_us = now };
    for (int db = 0; db < ks_n_dbs(srv->ks); db++) ret->total += ks_size(srv->ks, db);
    return (struct rdb_progress){ .arg = ret, .keys = note_saved, .delay_us = delay_us > 0 ? (uint64_t)delay_us : 0 };
}

/* ---- SAVE ---- */

bool snapshot_save(struct server *srv) {
    struct propagate_point pt;
    struct rdb_file_info info;
    struct rdb_save_opts o;
    struct saving saving;
    char err[1536], repl_id[REPL_ID_LEN + 1];
    char *path = snapshot_path(srv);
    uint64_t dirty = dirty_now(srv);
    propagate_get_point(srv, &pt);
    snapshot_info(srv, &info);
    snapshot_repl_info(srv, &pt, &info, repl_id);
    snapshot_opts(srv, &o);
    struct rdb_progress progress = snapshot_progress(&saving, srv);
    atomic_fetch_add(&srv->snapshot->saves, 1);
    int r = rdb_file_save(path, srv->ks, srv->eng.scripts, &info, &o, &progress, err, sizeof err);
    mem_free(path);
    if (r < 0) {
        log_warning("%s", err);
        return false;
    }
    log_notice("DB saved on disk");
    note_outcome(srv, true, dirty);
    return true;
}

void snapshot_flushed(void *srv) {
    child_kill(srv, CHILD_RDB);
    if (snapshot_has_save_points(srv)) snapshot_save(srv);
}

/* ---- BGSAVE ---- */

static bool still_wanted(void *srv) {
    return !child_is_orphan(srv);
}

int snapshot_write_in_child(struct server *srv, const char *path, const struct rdb_file_info *info,
                            const struct rdb_save_opts *opts) {
    char err[1536];
    struct saving saving;
    struct rdb_save_opts o = *opts;
    struct rdb_progress p = snapshot_progress(&saving, srv);
    o.may_replace = still_wanted;
    o.arg = srv;
    int r = rdb_file_save(path, srv->ks, srv->eng.scripts, info, &o, &p, err, sizeof err);
    if (r < 0) {
        log_warning("%s", err);
        return 1;
    }
    log_notice("DB saved on disk");
    child_log_cow(srv, "RDB");
    return 0;
}

void snapshot_transfer_forked(struct server *srv) {
    atomic_store(&srv->snapshot->began_s, clock_wall_ms() / 1000);
}

void snapshot_transfer_ended(struct server *srv, enum child_kind kind) {
    struct snapshot *s = srv->snapshot;
    struct child_figures f;
    child_figures_get(srv, &f);
    atomic_store(&s->last_cow, f.last_cow[kind]);
    atomic_store(&s->took_s, clock_wall_ms() / 1000 - atomic_load(&s->began_s));
    atomic_store(&s->began_s, -1);
}

void snapshot_forked(struct server *srv) {
    struct snapshot *s = srv->snapshot;
    atomic_store(&s->dirty_forked, dirty_now(srv));
    snapshot_transfer_forked(srv);
    atomic_store(&s->last_try_s, clock_wall_ms() / 1000);
    atomic_fetch_add(&s->saves, 1);
}

void snapshot_ended(struct server *srv, const char *path, int pid, int status) {
    struct snapshot *s = srv->snapshot;
    bool ok = WIFEXITED(status) && WEXITSTATUS(status) == 0;
    if (ok)
        log_notice("Background saving terminated with success");
    else if (WIFEXITED(status) && !child_was_killed(status))
        log_warning("Background saving error");
    else
        log_warning("Background saving terminated by signal %d", WIFSIGNALED(status) ? WTERMSIG(status) : SIGUSR1);
    if (!ok) {
        char temp[4096];
        rdb_file_temp_path(temp, sizeof temp, path, pid);
        int64_t start = clock_mono_us();
        unlink(temp);
        latency_note(srv, "rdb-unlink-temp-file", (uint64_t)(clock_mono_us() - start));
    }
    if (!child_was_killed(status)) note_outcome(srv, ok, atomic_load(&s->dirty_forked));
    snapshot_transfer_ended(srv, CHILD_RDB);
}

/* ---- BGSAVE's own child ---- */

static struct job *job_new(struct server *srv) {
    struct job *j = mem_zalloc(sizeof *j);
    j->srv = srv;
    j->path = snapshot_path(srv);
    snapshot_info(srv, &j->info);
    snapshot_opts(srv, &j->opts);
    return j;
}

static struct job *job_free(struct job *j) {
    mem_free(j->path);
    mem_free(j);
    return NULL;
}

static void bgsave_prepare(void *arg, const struct propagate_point *pt) {
    struct job *j = arg;
    snapshot_repl_info(j->srv, pt, &j->info, j->repl_id);
}

static int bgsave_run(void *arg, const struct propagate_point *pt) {
    struct job *j = arg;
    (void)pt;
    return snapshot_write_in_child(j->srv, j->path, &j->info, &j->opts);
}

static void bgsave_forked(void *arg, const struct propagate_point *pt) {
    (void)pt;
    snapshot_forked(((struct job *)arg)->srv);
}

static void bgsave_done(void *arg, int pid, int status) {
    struct job *j = arg;
    snapshot_ended(j->srv, j->path, pid, status);
    job_free(j);
}

int snapshot_bgsave(struct server *srv, bool locked) {
    struct job *j = job_new(srv);
    struct child_opts o = { .kind = CHILD_RDB,
                            .locked = locked,
                            .prepare = bgsave_prepare,
                            .run = bgsave_run,
                            .forked = bgsave_forked,
                            .done = bgsave_done,
                            .arg = j };
    atomic_store(&srv->snapshot->last_try_s, clock_wall_ms() / 1000);
    pid_t pid = child_start(srv, &o);
    if (pid > 0) {
        log_notice("Background saving started by pid %ld", (long)pid);
        return 0;
    }
    if (pid != -EEXIST && pid != -EBUSY) {
        log_warning("Can't save in background: fork: %s", strerror(-pid));
        note_outcome(srv, false, 0);
    }
    job_free(j);
    return pid;
}

void snapshot_schedule(struct server *srv) {
    atomic_store(&srv->snapshot->scheduled, true);
}

/* ---- cron ---- */

static bool may_try(const struct snapshot *s, int64_t now_s) {
    return !atomic_load(&s->failed) || now_s - atomic_load(&s->last_try_s) > RETRY_S;
}

static bool is_due(struct server *srv, int64_t now_s) {
    const struct snapshot *s = srv->snapshot;
    struct config *cfg = srv->cfg;
    struct cfg_save p[CONFIG_MAX_SAVE];
    if (!snapshot_has_save_points(srv)) return false;
    pthread_mutex_lock(&cfg->lock);
    int n = (int)cfg_get(&cfg->n_save);
    memcpy(p, cfg->save, sizeof *p * (size_t)n);
    pthread_mutex_unlock(&cfg->lock);
    int64_t changes = (int64_t)(dirty_now(srv) - atomic_load(&s->dirty_saved)), since = now_s - atomic_load(&s->last_save_s);
    for (int i = 0; i < n; i++) {
        if (changes < p[i].changes || since <= p[i].seconds) continue;
        log_notice("%lld changes in %lld seconds. Saving...", (long long)p[i].changes, (long long)p[i].seconds);
        return true;
    }
    return false;
}

void snapshot_cron(struct server *srv) {
    struct snapshot *s = srv->snapshot;
    int64_t now_s = clock_wall_ms() / 1000;
    if (child_is_active(srv) || loading_is_on(srv) || loading_is_on_async(srv) || !may_try(s, now_s)) return;
    bool scheduled = atomic_load(&s->scheduled);
    if (!scheduled && !is_due(srv, now_s)) return;
    if (snapshot_bgsave(srv, false) == 0) atomic_store(&s->scheduled, false);
}

/* ---- loading ---- */

bool snapshot_is_there(struct server *srv) {
    char *path = snapshot_path(srv);
    bool there = access(path, F_OK) == 0 || errno != ENOENT;
    mem_free(path);
    return there;
}

static void log_outcome(const struct rdb_file_found *f, const char *path, int r, const char *err) {
    if (r < 0) {
        log_warning("%s", err);
        log_warning("Terminating server after rdb file reading failure. (%s)", path);
        return;
    }
    log_notice("Done loading RDB, keys loaded: %llu, keys expired: %llu, empty keys skipped: %llu.", (unsigned long long)f->keys,
               (unsigned long long)f->expired, (unsigned long long)f->empty);
}

static void on_fact(void *srv, struct slice name, struct slice value) {
    int64_t v;
    if (slice_ieq(name, "used-mem") && str_to_ll(value, &v) && v > 0) loading_set_used_mem(srv, (uint64_t)v);
}

int snapshot_load(struct server *srv, const char *path, const struct rdb_load_opts *opts, bool locked) {
    struct rdb_load_opts o = *opts;
    struct rdb_file_source src;
    struct rdb_file_found found;
    struct rdb_in in;
    struct stat st;
    char err[1024];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        int e = errno;
        if (e != ENOENT) log_warning("Fatal error: can't open the RDB file %s for reading: %s", path, strerror(e));
        return -e;
    }
    if (fstat(fd, &st) == 0) o.size = (uint64_t)st.st_size;
    static const struct rdb_visit visit = { .aux = on_fact };
    o.visit = &visit;
    o.n_threads = loading_threads(srv);
    loading_set_total(srv, o.size);
    rdb_file_source_init(&src, &in, fd);
    int r = rdb_file_load(&in, srv->ks, locked, srv->eng.scripts, &o, &found, err, sizeof err);
    if (r < 0 && src.err) snprintf(err, sizeof err, "Error reading the RDB file %s: %s", path, strerror(src.err));
    rdb_file_source_done(&src);
    close(fd);
    if (r != -ECANCELED) log_outcome(&found, path, r, err);
    srv->snapshot->found = found;
    atomic_store(&srv->snapshot->keys_loaded, found.keys);
    atomic_store(&srv->snapshot->keys_expired, found.expired);
    return r;
}

const struct rdb_file_found *snapshot_found(const struct server *srv) {
    return &srv->snapshot->found;
}

int snapshot_load_at_start(struct server *srv) {
    struct rdb_load_opts o = {
        .now_ms = clock_wall_ms(),
        .keep_expired = repl_is_replica(srv->repl), /* the primary says when they end */
        .progress = loading_rdb_progress,
        .note = loading_rdb_note,
        .arg = srv,
        .key_delay_us = cfg_get(&srv->cfg->key_load_delay),
    };
    char *path = snapshot_path(srv);
    int r = snapshot_load(srv, path, &o, false);
    mem_free(path);
    return r == -ENOENT ? 0 : r;
}

/* ---- figures ---- */

int64_t snapshot_last_save_s(const struct server *srv) {
    return atomic_load(&srv->snapshot->last_save_s);
}

static void loading_lines(struct server *srv, struct buf *o) {
    struct loading_figures f;
    loading_figures_get(srv, &f);
    buf_printf(o, "loading:%d\r\nasync_loading:%d\r\n", f.on && !f.async, f.on && f.async);
    if (!f.on) return;
    buf_printf(o,
               "loading_start_time:%lld\r\nloading_total_bytes:%llu\r\nloading_rdb_used_mem:%llu\r\nloading_loaded_bytes:%llu\r\n"
               "loading_loaded_perc:%.2f\r\nloading_eta_seconds:%lld\r\n",
               (long long)f.start_s, (unsigned long long)f.total, (unsigned long long)f.rdb_used_mem,
               (unsigned long long)f.loaded, f.total ? 100.0 * (double)f.loaded / (double)f.total : 0, (long long)f.eta_s);
}

static void child_lines(const struct child_figures *f, struct buf *o) {
    buf_printf(o,
               "current_cow_peak:%llu\r\ncurrent_cow_size:%llu\r\ncurrent_cow_size_age:%llu\r\ncurrent_fork_perc:%.2f\r\n"
               "current_save_keys_processed:%llu\r\ncurrent_save_keys_total:%llu\r\n",
               (unsigned long long)f->cow_peak, (unsigned long long)f->cow_size, (unsigned long long)f->cow_age_s,
               f->keys_total ? 100.0 * (double)f->keys_done / (double)f->keys_total : 0, (unsigned long long)f->keys_done,
               (unsigned long long)f->keys_total);
}

void snapshot_info_append(struct server *srv, struct buf *o) {
    const struct snapshot *s = srv->snapshot;
    struct child_figures f;
    child_figures_get(srv, &f);
    int64_t began = atomic_load(&s->began_s);
    bool runs = child_is_saving(srv);
    loading_lines(srv, o);
    child_lines(&f, o);
    buf_printf(o,
               "rdb_changes_since_last_save:%llu\r\nrdb_bgsave_in_progress:%d\r\nrdb_last_save_time:%lld\r\n"
               "rdb_last_bgsave_status:%s\r\nrdb_last_bgsave_time_sec:%lld\r\nrdb_current_bgsave_time_sec:%lld\r\n",
               (unsigned long long)(dirty_now(srv) - atomic_load(&s->dirty_saved)), runs, (long long)snapshot_last_save_s(srv),
               atomic_load(&s->failed) ? "err" : "ok", (long long)atomic_load(&s->took_s),
               runs && began >= 0 ? (long long)(clock_wall_ms() / 1000 - began) : -1LL);
    buf_printf(
        o, "rdb_saves:%llu\r\nrdb_last_cow_size:%llu\r\nrdb_last_load_keys_expired:%llu\r\nrdb_last_load_keys_loaded:%llu\r\n",
        (unsigned long long)atomic_load(&s->saves), (unsigned long long)atomic_load(&s->last_cow),
        (unsigned long long)atomic_load(&s->keys_expired), (unsigned long long)atomic_load(&s->keys_loaded));
}
