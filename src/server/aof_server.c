/*
 * The server's append-only file: state, appending, how replies wait for it, configuration, figures. See aof_server.h.
 *
 * Place in the flow: propagate.c gives each unit of effects to sink_append, with the unit's shards locked. An I/O thread calls
 * aof_before_sleep before it sends its turn's replies: without `always` what was appended is written by then. With `always` the
 * gate holds back, connection by connection, what was queued after something that is not on the disk yet; thread "aof" moves the
 * gate and wakes the loops. So loops go on executing while the disk works, and one fsync is for all clients.
 *
 * Invariant: who is `busy` may hold the file (aof_file_hold) and wait for shards; nobody waits for `busy`, so that it may be kept
 * while waiting for anything else.
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
#include "server/aof_priv.h"
#include "server/child.h"
#include "server/latency.h"
#include "server/propagate.h"
#include "server/refusal.h"
#include "server/repl_wait.h"

#define RETRY_WRITE_US 1000000

/* ---- paths ---- */

char *aof_dir(struct server *srv) {
    return config_str_dup(srv->cfg, &srv->cfg->appenddirname);
}

char *aof_manifest_name(struct server *srv) {
    char *name = config_str_dup(srv->cfg, &srv->cfg->appendfilename), *m = mem_asprintf("%s" AOF_MANIFEST_SUFFIX, name);
    mem_free(name);
    return m;
}

char *aof_file_path(struct server *srv, const char *name) {
    char *dir = aof_dir(srv), *path = aof_path(dir, name);
    mem_free(dir);
    return path;
}

int aof_make_dir(struct server *srv) {
    char *dir = aof_dir(srv);
    int r = mkdir(dir, 0755) == 0 || errno == EEXIST ? 0 : -errno;
    if (r) log_warning("Can't open or create append-only dir %s: %s", dir, strerror(-r));
    mem_free(dir);
    return r;
}

int aof_save_manifest(struct server *srv, const struct aof_manifest *m) {
    const char *what = "";
    char *dir = aof_dir(srv), *name = aof_manifest_name(srv);
    int r = aof_manifest_save(m, dir, name, &what);
    if (r) log_warning("Fail to persist the AOF manifest file %s (%s): %s", name, what, strerror(-r));
    mem_free(dir);
    mem_free(name);
    return r;
}

int64_t aof_size_of(struct server *srv, const char *name) {
    struct stat st;
    char *path = aof_file_path(srv, name);
    int64_t r = stat(path, &st) == 0 ? st.st_size : -errno;
    mem_free(path);
    return r;
}

int64_t aof_total_size(struct server *srv, const struct aof_manifest *m) {
    int64_t all = 0;
    for (int i = 0; i < aof_manifest_count(m); i++) {
        const char *name = aof_manifest_at(m, i)->name;
        int64_t start = clock_mono_us(), n = aof_size_of(srv, name);
        latency_note(srv, "aof-fstat", (uint64_t)(clock_mono_us() - start));
        if (n < 0) {
            log_warning("Unable to obtain the AOF file %s length. stat: %s", name, strerror((int)-n));
            return n;
        }
        all += n;
    }
    return all;
}

/* ---- appending ---- */

static uint64_t sink_append(void *arg, const struct slice *pieces, int n) {
    return aof_file_append(((struct aof *)arg)->file, pieces, n);
}

static uint64_t sink_offset(void *arg) {
    return atomic_load(aof_file_appended(((struct aof *)arg)->file));
}

void aof_sink(struct aof *a, bool on) {
    const struct propagate_sink sink = { .append = sink_append, .offset = sink_offset, .arg = a };
    propagate_set_sink(a->srv, EFFECT_AOF, on ? &sink : NULL);
    if (on) propagate_reselect(a->srv, EFFECT_AOF);
}

void aof_before_sleep(struct io_thread *th) {
    struct aof *a = th->srv->aof;
    if (aof_state_of(a) != AOF_OFF) aof_file_write(a->file);
}

static bool is_always(const struct server *srv) {
    return cfg_get(&srv->cfg->appendfsync) == CFG_FSYNC_ALWAYS;
}

bool aof_holds_replies(const struct server *srv) {
    return aof_state_of(srv->aof) != AOF_OFF && !is_always(srv) && aof_file_is_behind(srv->aof->file);
}

/* ---- the gate ---- */

static void look_again(struct io_thread *th, void *arg) {
    (void)th; /* it has been woken: before it sleeps it looks at the gate */
    (void)arg;
}

static void wake_threads(struct server *srv) {
    for (int i = 0; i < srv->n_threads; i++) {
        struct io_thread *th = &srv->threads[i];
        if (th->loop && atomic_exchange(&th->conns.gate_waits, false)) io_thread_post(th, look_again, NULL);
    }
}

/* Thread "aof". UINT64_MAX: `always` was left meanwhile, and that stays. */
static void safe_up_to(void *arg, uint64_t offset) {
    struct aof *a = arg;
    uint64_t before = atomic_load(&a->gate.open);
    while (before != UINT64_MAX && before < offset && !atomic_compare_exchange_weak(&a->gate.open, &before, offset)) {
    }
    wake_threads(a->srv);
}

static void synced(void *arg) {
    repl_wait_acked(((struct aof *)arg)->srv->repl); /* WAITAOF */
}

static void set_gate(struct aof *a) {
    bool closes = is_always(a->srv) && aof_state_of(a) != AOF_OFF;
    if (!closes) {
        atomic_store(&a->gate.open, UINT64_MAX);
        wake_threads(a->srv);
    } else if (atomic_load(&a->gate.open) == UINT64_MAX) {
        atomic_store(&a->gate.open, aof_file_fsynced(a->file));
        safe_up_to(a, aof_file_fsynced(a->file)); /* it may have moved in between */
    }
}

/* ---- errors ---- */

static bool spares_disk(void *arg) {
    struct aof *a = arg;
    return cfg_get(&a->srv->cfg->no_appendfsync_on_rewrite) && child_is_active(a->srv);
}

static bool child_runs(void *arg) {
    return child_is_active(((struct aof *)arg)->srv);
}

static void note_latency(void *arg, const char *event, uint64_t usec) {
    latency_note(((struct aof *)arg)->srv, event, usec);
}

static void end_process(void *arg) {
    (void)arg;
    _exit(1);
}

/* Writes are refused meanwhile, and PING, so that monitoring sees it. */
static void note_error(void *arg, int err) {
    struct aof *a = arg;
    if (err) refusal_set_aof_error(a->srv, strerror(err));
    refusal_set(a->srv, REFUSE_AOF_ERROR, err != 0);
}

/* ---- life ---- */

struct aof *aof_new(struct server *srv) {
    struct aof *a = mem_zalloc(sizeof *a);
    const struct aof_file_hooks hooks = { .arg = a,
                                          .safe_up_to = safe_up_to,
                                          .synced = synced,
                                          .spare_disk = spares_disk,
                                          .child_runs = child_runs,
                                          .latency = note_latency,
                                          .error = note_error,
                                          .fatal = end_process };
    a->srv = srv;
    a->file = aof_file_new(&hooks);
    a->gate.mark = aof_file_appended(a->file);
    atomic_store(&a->gate.open, UINT64_MAX);
    a->manifest = aof_manifest_new();
    atomic_store(&a->rewrite_started_s, -1);
    atomic_store(&a->rewrite_last_s, -1);
    atomic_store(&a->rewrite_ok, true);
    return a;
}

void aof_end(struct aof *a) {
    if (aof_state_of(a) != AOF_OFF) {
        aof_file_hold(a->file);
        aof_file_close(a->file);
        aof_file_let_go(a->file);
    }
    aof_file_stop(a->file);
}

struct aof *aof_free(struct aof *a) {
    if (!a) return NULL;
    a->file = aof_file_free(a->file);
    a->manifest = aof_manifest_free(a->manifest);
    mem_free(a);
    return NULL;
}

struct conn_gate *aof_gate(struct aof *a) {
    return &a->gate;
}

bool aof_try_busy(struct aof *a) {
    return !atomic_exchange(&a->busy, true);
}

void aof_end_busy(struct aof *a) {
    atomic_store(&a->busy, false);
}

/* The first files of a server that had none. */
static int make_base(struct server *srv, struct aof_manifest *m) {
    char *filename = config_str_dup(srv->cfg, &srv->cfg->appendfilename);
    const char *name = aof_manifest_next_base(m, filename, cfg_get(&srv->cfg->aof_use_rdb_preamble));
    log_notice("Creating AOF base file %s on server start", name);
    char *path = aof_file_path(srv, name);
    int r = aof_write_base(srv, path);
    mem_free(path);
    mem_free(filename);
    return r;
}

static int open_incr(struct server *srv, struct aof_manifest *m, int *ret_fd) {
    const char *name = aof_manifest_last_incr(m);
    bool is_new = !name;
    if (is_new) {
        char *filename = config_str_dup(srv->cfg, &srv->cfg->appendfilename);
        name = aof_manifest_next_incr(m, filename);
        mem_free(filename);
    }
    char *path = aof_file_path(srv, name);
    int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644), r = fd < 0 ? -errno : 0;
    mem_free(path);
    if (r) {
        log_warning("Can't open the append-only file %s: %s", name, strerror(-r));
        return r;
    }
    log_notice("%s AOF incr file %s on server start", is_new ? "Creating" : "Opening", name);
    *ret_fd = fd;
    return 0;
}

int aof_start(struct server *srv) {
    struct aof *a = srv->aof;
    if (!cfg_get(&srv->cfg->appendonly)) return 0;
    int fd = -1, r = aof_make_dir(srv);
    if (r == 0 && aof_manifest_count(a->manifest) == 0) r = make_base(srv, a->manifest);
    if (r == 0) r = open_incr(srv, a->manifest, &fd);
    if (r == 0) r = aof_save_manifest(srv, a->manifest);
    int64_t total = r == 0 ? aof_total_size(srv, a->manifest) : 0;
    if (total < 0) r = (int)total;
    if (r == 0) {
        aof_file_hold(a->file);
        r = aof_file_switch(a->file, fd, lseek(fd, 0, SEEK_END));
        aof_file_let_go(a->file);
    }
    if (r) {
        if (fd >= 0) close(fd);
        return r;
    }
    aof_file_set_total(a->file, total);
    atomic_store(&a->base_size, total);
    atomic_store(&a->state, AOF_ON);
    aof_delete_history(srv, a->manifest);
    aof_sink(a, true);
    aof_apply_config(srv);
    return 0;
}

bool aof_prepare_exit(struct server *srv, bool is_forced) {
    struct aof *a = srv->aof;
    enum aof_state state = aof_state_of(a);
    if (state == AOF_WAIT_REWRITE) { /* there is no file that has the data set yet */
        log_warning(is_forced ? "Writing initial AOF. Exit anyway." : "Writing initial AOF, can't exit.");
        if (!is_forced) return false;
    }
    /* Who is busy may hold the file and wait for the shards: then it is written when the threads have ended (aof_free). */
    if (state == AOF_OFF || !aof_try_busy(a)) return true;
    log_notice("Calling fsync() on the AOF file.");
    int r = aof_file_flush(a->file, true);
    if (r) log_warning("Fail to fsync the AOF file: %s.", strerror(-r));
    aof_end_busy(a);
    return true;
}

/* ---- configuration ---- */

void aof_apply_config(struct server *srv) {
    static const enum aof_fsync policy[] = { AOF_FSYNC_NO, AOF_FSYNC_EVERYSEC, AOF_FSYNC_ALWAYS };
    struct aof *a = srv->aof;
    aof_file_set_policy(a->file, policy[cfg_get(&srv->cfg->appendfsync)]);
    aof_file_set_timestamps(a->file, cfg_get(&srv->cfg->aof_timestamp_enabled));
    set_gate(a);
}

/* appendonly no. Busy, and no more at the end. False: not now. */
static bool stop(struct server *srv) {
    struct aof *a = srv->aof;
    uint64_t locked = engine_lock(&srv->eng, ks_all_mask(ks_n_shards(srv->ks)), false);
    if (!locked) {
        aof_end_busy(a);
        return false;
    }
    aof_sink(a, false);
    atomic_store(&a->state, AOF_OFF);
    engine_unlock(&srv->eng, locked, 0);
    aof_file_hold(a->file);
    aof_file_close(a->file);
    aof_file_let_go(a->file);
    set_gate(a);
    atomic_store(&a->scheduled, false);
    aof_end_busy(a); /* what ends with the child needs it */
    aof_rewrite_kill(srv);
    return true;
}

/* appendonly yes: on as soon as there is a base. */
static bool begin(struct server *srv) {
    struct aof *a = srv->aof;
    if (aof_rewrite_is_running(srv)) {
        log_warning("AOF was enabled but there is already an AOF rewriting in background. Stopping background AOF and starting a "
                    "rewrite now.");
        aof_rewrite_kill(srv);
    }
    int r = aof_rewrite_begin(srv, AOF_WAIT_REWRITE);
    if (r == 0) return true;
    if (r == -EBUSY) {
        atomic_store(&a->state, AOF_WAIT_REWRITE);
        atomic_store(&a->scheduled, true);
        log_notice("AOF was enabled but there is already another background operation. An AOF background was scheduled to start "
                   "when possible.");
        return true;
    }
    log_warning(
        "Redis needs to enable the AOF but can't trigger a background AOF rewrite operation. Check the above logs for more "
        "info about the error.");
    atomic_store(&srv->cfg->appendonly, false);
    return false;
}

bool aof_follow_config(struct server *srv, bool in_exec) {
    struct aof *a = srv->aof;
    bool want = cfg_get(&srv->cfg->appendonly), ok = true;
    if (want == (aof_state_of(a) != AOF_OFF)) return true;
    if (in_exec || (!want && !aof_try_busy(a))) {
        atomic_store(&a->follow, true);
        return true;
    }
    if (want) {
        ok = begin(srv);
    } else {
        if (!stop(srv)) atomic_store(&a->follow, true);
    }
    return ok;
}

void aof_data_replaced(struct server *srv) {
    if (aof_is_on(srv->aof)) atomic_store(&srv->aof->replaced, true);
}

static void begin_anew(struct server *srv) {
    struct aof *a = srv->aof;
    if (!atomic_load(&a->replaced)) return;
    if (aof_state_of(a) == AOF_OFF) {
        atomic_store(&a->replaced, false);
    } else if (aof_try_busy(a) && stop(srv)) {
        atomic_store(&a->replaced, false);
        begin(srv);
    }
}

void aof_cron(struct server *srv) {
    struct aof *a = srv->aof;
    if (atomic_exchange(&a->follow, false)) aof_follow_config(srv, false);
    begin_anew(srv);
    int64_t now = clock_mono_us();
    if (aof_state_of(a) != AOF_OFF && (!aof_file_error(a->file) || now - a->retry_write_us >= RETRY_WRITE_US)) {
        a->retry_write_us = now;
        aof_file_write(a->file);
    }
    aof_rewrite_cron(srv);
}

/* ---- figures ---- */

bool aof_is_on(const struct aof *a) {
    return aof_state_of(a) != AOF_OFF;
}

uint64_t aof_fsynced_offset(struct aof *a) {
    return aof_file_fsynced(a->file);
}

void aof_note_repl(struct aof *a, uint64_t repl_offset) {
    if (aof_state_of(a) != AOF_OFF) aof_file_note_repl(a->file, repl_offset);
}

uint64_t aof_fsynced_repl_offset(struct aof *a) {
    return aof_file_repl_fsynced(a->file);
}

size_t aof_buffer_bytes(const struct server *srv) {
    return aof_file_pending(srv->aof->file);
}

void aof_info(struct server *srv, struct buf *o) {
    struct aof *a = srv->aof;
    struct aof_file_state st;
    aof_file_state_get(a->file, &st);
    bool on = aof_is_on(a);
    int64_t started = atomic_load(&a->rewrite_started_s);
    buf_printf(o,
               "aof_enabled:%d\r\naof_rewrite_in_progress:%d\r\naof_rewrite_scheduled:%d\r\naof_last_rewrite_time_sec:%lld\r\n"
               "aof_current_rewrite_time_sec:%lld\r\naof_last_bgrewrite_status:%s\r\naof_rewrites:%llu\r\n"
               "aof_rewrites_consecutive_failures:%llu\r\naof_last_write_status:%s\r\naof_last_cow_size:%llu\r\n"
               "module_fork_in_progress:0\r\nmodule_fork_last_cow_size:0\r\n",
               on, aof_rewrite_is_running(srv), atomic_load(&a->scheduled), (long long)atomic_load(&a->rewrite_last_s),
               (long long)(started < 0 ? -1 : clock_wall_ms() / 1000 - started), atomic_load(&a->rewrite_ok) ? "ok" : "err",
               (unsigned long long)atomic_load(&a->rewrites), (unsigned long long)atomic_load(&a->failures),
               st.write_err || st.fsync_err ? "err" : "ok", (unsigned long long)atomic_load(&a->last_cow));
    if (!on) return;
    buf_printf(o,
               "aof_current_size:%lld\r\naof_base_size:%lld\r\naof_pending_rewrite:0\r\naof_buffer_length:%llu\r\n"
               "aof_pending_bio_fsync:%d\r\naof_delayed_fsync:%llu\r\n",
               (long long)st.total, (long long)atomic_load(&a->base_size), (unsigned long long)(st.appended - st.written),
               st.fsync_runs, (unsigned long long)st.delayed_fsyncs);
}

void aof_reset_stats(struct server *srv) {
    aof_file_reset_stats(srv->aof->file);
}
