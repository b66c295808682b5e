/*
 * Full synchronization: who is served next, by what, and the one by a file. See repl_sync.h. Thread 0, but for what says that it
 * runs on the replica's thread.
 */
#include "server/repl_sync.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "server/child.h"
#include "server/client.h"
#include "server/loading.h"
#include "server/refusal.h"
#include "server/snapshot.h"

/* ---- making ---- */

struct sync_member *repl_sync_add(struct repl_sync *sy, struct replica *r) {
    if (sy->n == sy->cap) {
        sy->cap = sy->cap ? sy->cap * 2 : 4;
        sy->m = mem_realloc(sy->m, (size_t)sy->cap * sizeof *sy->m);
    }
    sy->m[sy->n] = (struct sync_member){ .r = r, .fd = -1 };
    return &sy->m[sy->n++];
}

static struct repl_sync *sync_new(struct server *srv) {
    static unsigned serial;
    struct repl_sync *sy = mem_zalloc(sizeof *sy);
    sy->srv = srv;
    sy->serial = ++serial;
    sy->report[0] = sy->report[1] = sy->relay_fd = sy->file_fd = -1;
    sy->capa = ~0u;
    return sy;
}

static void close_fd(int *fd) {
    if (*fd >= 0) close(*fd);
    *fd = -1;
}

struct repl_sync *repl_sync_free(struct repl_sync *sy) {
    struct repl *repl = sy->srv->repl;
    loop_timer_cancel(sy->srv->threads[0].loop, &sy->timer);
    backlog_reader_close(repl->backlog, &sy->start);
    for (int i = 0; i < sy->n; i++) {
        close_fd(&sy->m[i].fd);
        replica_unref(sy->m[i].r);
    }
    close_fd(&sy->report[0]);
    close_fd(&sy->report[1]);
    close_fd(&sy->relay_fd);
    close_fd(&sy->file_fd);
    if (repl->sync == sy) repl->sync = NULL;
    mem_free(sy->path);
    mem_free(sy->m);
    mem_free(sy);
    return NULL;
}

/* ---- what happens to the members, on their threads ---- */

static void refuse_posted(struct io_thread *th, void *arg) {
    struct replica *r = arg;
    (void)th;
    if (r->client) {
        reply_error(&r->client->s.reply, "ERR BGSAVE failed, replication can't continue");
        r->expected = r->client->conn.bytes_out + r->client->conn.out.bytes;
        client_close(r->client);
    }
    replica_unref(r);
}

void repl_sync_fail(struct repl_sync *sy, bool say_so) {
    for (int i = 0; i < sy->n; i++)
        io_thread_post(sy->m[i].r->th, say_so ? refuse_posted : replica_drop_posted, replica_ref(sy->m[i].r));
}

/* What is queued for it is no reply. */
static void queue(struct replica *r, const char *p, size_t n) {
    obuf_append(&r->client->conn.out, p, n);
    r->expected += n;
    conn_flush_later(&r->client->conn);
}

size_t repl_sync_prefix(const struct repl_sync *sy, char out[REPL_SYNC_PREFIX]) {
    return (size_t)snprintf(out, REPL_SYNC_PREFIX, "+FULLRESYNC %s %llu\r\n", sy->id, (unsigned long long)sy->offset);
}

static void fullresync_posted(struct io_thread *th, void *arg) {
    struct replica *r = arg;
    char line[120], id[REPL_ID_LEN + 1], id2[REPL_ID_LEN + 1];
    int64_t second;
    (void)th;
    repl_copy_ids(r->repl, id, id2, &second);
    int n = snprintf(line, sizeof line, "+FULLRESYNC %s %llu\r\n", id, (unsigned long long)r->start_offset);
    if (r->client && !r->is_pre_psync) queue(r, line, (size_t)n);
    replica_unref(r);
}

bool repl_sync_file_done(struct replica *r) {
    char name[300];
    pthread_mutex_lock(&r->repl->lock);
    replica_name(r, name, sizeof name);
    if (r->rdb_only) atomic_store(&r->state, REPLICA_ENDING);
    pthread_mutex_unlock(&r->repl->lock);
    if (r->rdb_only) {
        log_notice("RDB transfer completed, rdb only replica (%s) should be disconnected asap", name);
        client_close(r->client);
        return false;
    }
    log_notice("Synchronization with replica %s succeeded", name);
    return true;
}

void repl_sync_drained(struct replica *r) {
    enum replica_state state = replica_state(r);
    if (r->hold_serial && state == REPLICA_WAIT_START) {
        repl_sockets_try_hold(r);
    } else if (state == REPLICA_SENDING && !conn_sends_file(&r->client->conn)) {
        if (repl_sync_file_done(r)) replica_go_online(r);
    }
}

struct file_post {
    struct replica *r;
    int fd;
    uint64_t size;
};

static void file_posted(struct io_thread *th, void *arg) {
    struct file_post *p = arg;
    struct replica *r = p->r;
    char line[40];
    (void)th;
    if (r->client && replica_state(r) == REPLICA_WAIT_END && !conn_is_closing(&r->client->conn)) {
        pthread_mutex_lock(&r->repl->lock);
        atomic_store(&r->state, REPLICA_SENDING);
        pthread_mutex_unlock(&r->repl->lock);
        atomic_store(&r->progress_us, clock_mono_us());
        queue(r, line, (size_t)snprintf(line, sizeof line, "$%llu\r\n", (unsigned long long)p->size));
        r->expected += p->size;
        atomic_fetch_add_explicit(&r->repl->bytes_out, p->size, memory_order_relaxed);
        conn_send_file(&r->client->conn, p->fd, 0, p->size);
    } else {
        close(p->fd);
    }
    replica_unref(r);
    mem_free(p);
}

/* ---- by a file ---- */

void repl_sync_mark_begun(struct repl_sync *sy) {
    struct repl *repl = sy->srv->repl;
    sy->offset = repl_offset(repl);
    backlog_reader_open(repl->backlog, &sy->start, sy->offset);
    propagate_reselect(sy->srv, EFFECT_REPL);
    pthread_mutex_lock(&repl->lock);
    memcpy(sy->id, repl->id, sizeof sy->id);
    for (int i = 0; i < sy->n; i++) {
        struct replica *r = sy->m[i].r;
        if (!r->client || replica_state(r) != REPLICA_WAIT_START) continue;
        backlog_reader_copy(repl->backlog, &r->reader, &sy->start);
        r->start_offset = sy->offset;
        r->by_sockets = sy->to_sockets;
        atomic_store(&r->state, REPLICA_WAIT_END);
    }
    pthread_mutex_unlock(&repl->lock);
    sy->phase = SYNC_RUNNING;
}

static void send_file(struct repl_sync *sy, int fd, uint64_t size) {
    for (int i = 0; i < sy->n; i++) {
        struct file_post *p = mem_alloc(sizeof *p);
        *p = (struct file_post){ .r = replica_ref(sy->m[i].r), .fd = fcntl(fd, F_DUPFD_CLOEXEC, 0), .size = size };
        if (p->fd >= 0) {
            io_thread_post(p->r->th, file_posted, p);
            continue;
        }
        log_warning("SYNC failed. Can't open/stat DB after BGSAVE: %s", strerror(errno));
        io_thread_post(p->r->th, replica_drop_posted, p->r);
        mem_free(p);
    }
}

/* What the child is to know: it cannot ask then. All shard locks are held. */
void repl_sync_look_up(struct repl_sync *sy, const struct propagate_point *pt) {
    const struct config *cfg = sy->srv->cfg;
    snapshot_info(sy->srv, &sy->info);
    snapshot_opts(sy->srv, &sy->opts);
    sy->info.version = 10; /* Redis 7.0's, who would not even look at what 7.2 writes, though nothing in it is new to him */
    sy->info.functions_only = sy->filter & REPLICA_NO_DATA;
    sy->info.no_functions = sy->filter & REPLICA_NO_FUNCTIONS;
    sy->info.repl_id = sy->id;
    sy->info.repl_offset = (int64_t)sy->offset;
    sy->info.repl_stream_db = pt->repl_db < 0 ? 0 : pt->repl_db; /* -1: the next change is preceded by SELECT */
    sy->timeout_us = cfg_get(&cfg->repl_timeout) * 1000000;
}

static void file_prepare(void *arg, const struct propagate_point *pt) {
    struct repl_sync *sy = arg;
    repl_sync_look_up(sy, pt);
    sy->path = snapshot_path(sy->srv);
}

static int file_run(void *arg, const struct propagate_point *pt) {
    struct repl_sync *sy = arg;
    (void)pt;
    return snapshot_write_in_child(sy->srv, sy->path, &sy->info, &sy->opts);
}

static void file_forked(void *arg, const struct propagate_point *pt) {
    (void)pt;
    snapshot_forked(((struct repl_sync *)arg)->srv);
}

static void forget_file(struct repl_sync_file *f) {
    mem_free(f->path);
    *f = (struct repl_sync_file){ 0 };
}

/* The file is there, and is looked after if it is there for replicas only. */
static void note_file(struct repl_sync *sy, const struct stat *st) {
    struct repl_sync_file *f = &sy->srv->repl->sync_file;
    forget_file(f);
    if (!cfg_get(&sy->srv->cfg->rdb_del_sync_files) || repl_has_persistence(sy->srv)) return;
    *f = (struct repl_sync_file){ .path = mem_strdup(sy->path), .dev = (uint64_t)st->st_dev, .ino = (uint64_t)st->st_ino };
}

static bool is_needed(struct repl *repl) {
    bool needed = false;
    pthread_mutex_lock(&repl->lock);
    list_for_each(n, &repl->replicas) {
        enum replica_state state = replica_state(list_entry(n, struct replica, node));
        needed |= state == REPLICA_WAIT_START || state == REPLICA_WAIT_END || state == REPLICA_SENDING;
    }
    pthread_mutex_unlock(&repl->lock);
    return needed;
}

void repl_sync_remove_file(struct repl *repl, bool at_end) {
    struct repl_sync_file *f = &repl->sync_file;
    struct stat st;
    if (!f->path) return;
    if (!cfg_get(&repl->srv->cfg->rdb_del_sync_files)) {
        forget_file(f);
        return;
    }
    if (repl_has_persistence(repl->srv) || (!at_end && is_needed(repl))) return;
    /* SAVE may have put another file in its place, CONFIG SET dir another directory. */
    if (lstat(f->path, &st) == 0 && (uint64_t)st.st_dev == f->dev && (uint64_t)st.st_ino == f->ino) {
        log_notice("Removing the RDB file used to feed replicas in a persistence-less instance");
        unlink(f->path);
    }
    forget_file(f);
}

static bool is_success(int status) {
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

/* Later the path may lead to another file, of a SAVE on another thread, to which sy->offset does not belong. */
static void file_collected(void *arg, int status) {
    struct repl_sync *sy = arg;
    if (is_success(status)) sy->file_fd = open(sy->path, O_RDONLY | O_CLOEXEC);
    sy->file_errno = errno;
}

static void file_done(void *arg, int pid, int status) {
    struct repl_sync *sy = arg;
    struct server *srv = sy->srv;
    struct stat st;
    bool ok = is_success(status);
    snapshot_ended(srv, sy->path, pid, status);
    errno = sy->file_errno;
    if (!ok) {
        log_warning("SYNC failed. BGSAVE child returned an error");
        repl_sync_fail(sy, false);
    } else if (sy->file_fd < 0 || fstat(sy->file_fd, &st) != 0) {
        log_warning("SYNC failed. Can't open/stat DB after BGSAVE: %s", strerror(errno));
        repl_sync_fail(sy, false);
    } else {
        note_file(sy, &st);
        send_file(sy, sy->file_fd, (uint64_t)st.st_size);
    }
    repl_sync_free(sy);
    repl_sync_consider_soon(srv);
}

/* False: not now. */
static bool begin_file(struct repl_sync *sy) {
    struct server *srv = sy->srv;
    struct child_opts o = { .kind = CHILD_RDB,
                            .locked = true,
                            .prepare = file_prepare,
                            .run = file_run,
                            .forked = file_forked,
                            .collected = file_collected,
                            .done = file_done,
                            .arg = sy };
    uint64_t locked = engine_lock(&srv->eng, ks_all_mask(ks_n_shards(srv->ks)), false);
    if (!locked) return false;
    repl_sync_mark_begun(sy);
    pid_t pid = child_start(srv, &o);
    engine_unlock(&srv->eng, locked, 0);
    if (pid < 0) {
        log_warning("BGSAVE for replication failed");
        repl_sync_fail(sy, true);
        return false;
    }
    log_notice("Background saving started by pid %d", (int)pid);
    for (int i = 0; i < sy->n; i++) io_thread_post(sy->m[i].r->th, fullresync_posted, replica_ref(sy->m[i].r));
    return true;
}

/* ---- who is next ---- */

struct candidates {
    int n;
    int64_t idle_us; /* of who has waited longest */
    unsigned filter, capa;
};

/* All that want the same as the first: repl->lock is held. */
static struct candidates look(struct repl *repl, struct repl_sync *add_to) {
    struct candidates w = { .capa = ~0u };
    int64_t now = clock_mono_us();
    list_for_each(n, &repl->replicas) {
        struct replica *r = list_entry(n, struct replica, node);
        if (replica_state(r) != REPLICA_WAIT_START) continue;
        if (w.n == 0) w.filter = r->filter;
        if (r->filter != w.filter) continue;
        w.n++;
        w.capa &= r->capa;
        if (now - r->asked_us > w.idle_us) w.idle_us = now - r->asked_us;
        if (add_to) repl_sync_add(add_to, replica_ref(r));
    }
    return w;
}

static bool is_time(const struct config *cfg, const struct candidates *w) {
    int64_t max = cfg_get(&cfg->repl_diskless_sync_max_replicas);
    if (w->n == 0) return false;
    if (!cfg_get(&cfg->repl_diskless_sync)) return true;
    return w->idle_us >= cfg_get(&cfg->repl_diskless_sync_delay) * 1000000 || (max && w->n >= max);
}

/* Nobody is left that the child writes to. It is killed, and `done` follows. */
static void give_up_if_alone(struct repl_sync *sy) {
    bool any = false;
    if (!sy->to_sockets || sy->phase != SYNC_RUNNING) return;
    pthread_mutex_lock(&sy->srv->repl->lock);
    for (int i = 0; i < sy->n; i++) any |= sy->m[i].r->client != NULL;
    pthread_mutex_unlock(&sy->srv->repl->lock);
    if (any) return;
    log_notice("Diskless rdb transfer, last replica dropped, killing fork child.");
    child_kill(sy->srv, CHILD_REPL);
}

/* While data is loaded it is none that a replica could go on from; replicas of the data before are being closed. */
static bool may_begin(struct server *srv) {
    bool is_ending = atomic_load_explicit(&srv->refusals, memory_order_relaxed) & REFUSE_ENDING;
    return !is_ending && !loading_is_on(srv) && !loading_is_on_async(srv) && !child_is_active(srv);
}

void repl_sync_consider(struct server *srv) {
    struct repl *repl = srv->repl;
    if (repl->sync) give_up_if_alone(repl->sync);
    if (repl->sync || !may_begin(srv)) return;
    struct repl_sync *sy = sync_new(srv);
    pthread_mutex_lock(&repl->lock);
    struct candidates w = look(repl, sy);
    pthread_mutex_unlock(&repl->lock);
    if (!is_time(srv->cfg, &w)) {
        repl_sync_free(sy);
        return;
    }
    sy->capa = w.capa;
    sy->filter = w.filter;
    /* What has no end mark cannot be sent before its length is known; what is left out is left out of no file of ours. */
    sy->to_sockets = (cfg_get(&srv->cfg->repl_diskless_sync) || w.filter) && (w.capa & REPLICA_CAPA_EOF);
    repl->sync = sy;
    log_notice("Starting BGSAVE for SYNC with target: %s", sy->to_sockets ? "replicas sockets" : "disk");
    if (sy->to_sockets)
        repl_sockets_begin(sy);
    else if (!begin_file(sy))
        repl_sync_free(sy);
}

static void consider_posted(struct io_thread *th, void *arg) {
    (void)arg;
    repl_sync_consider(th->srv);
}

void repl_sync_consider_soon(struct server *srv) {
    io_thread_post(&srv->threads[0], consider_posted, NULL);
}

/* A file is being written for others: it is good for this one too. */
static bool attach(struct repl_sync *sy, struct replica *r) {
    struct repl *repl = r->repl;
    if ((r->capa & sy->capa) != sy->capa || r->filter != sy->filter) return false;
    pthread_mutex_lock(&repl->lock);
    if (r->client) {
        backlog_reader_copy(repl->backlog, &r->reader, &sy->start);
        r->start_offset = sy->offset;
        r->by_sockets = false;
        atomic_store(&r->state, REPLICA_WAIT_END);
    }
    pthread_mutex_unlock(&repl->lock);
    repl_sync_add(sy, replica_ref(r));
    io_thread_post(r->th, fullresync_posted, replica_ref(r));
    return true;
}

static void wanted_posted(struct io_thread *th, void *arg) {
    struct replica *r = arg;
    struct server *srv = th->srv;
    const struct config *cfg = srv->cfg;
    struct repl_sync *sy = srv->repl->sync;
    if (!r->client || replica_state(r) != REPLICA_WAIT_START) {
        /* gone, or served already */
    } else if (sy && !sy->to_sockets) {
        if (attach(sy, r))
            log_notice("Waiting for end of BGSAVE for SYNC");
        else
            log_notice("Can't attach the replica to the current BGSAVE. Waiting for next BGSAVE for SYNC");
    } else if (sy) {
        log_notice("Current BGSAVE has socket target. Waiting for next BGSAVE for SYNC");
    } else if (child_is_active(srv)) {
        log_notice("No BGSAVE in progress, but another BG operation is active. BGSAVE for replication delayed");
    } else {
        if (cfg_get(&cfg->repl_diskless_sync) && (r->capa & REPLICA_CAPA_EOF) && cfg_get(&cfg->repl_diskless_sync_delay))
            log_notice("Delay next BGSAVE for diskless SYNC");
        repl_sync_consider(srv);
    }
    replica_unref(r);
}

void repl_sync_wanted(struct replica *r) {
    io_thread_post(&r->repl->srv->threads[0], wanted_posted, replica_ref(r));
}
