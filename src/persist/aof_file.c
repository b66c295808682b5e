/* The append-only file that is being written. See the header for the way of the bytes.
 *
 * Two buffers: commands append to `pending` (buf_lock, a copy long); who writes takes it as a whole (`out`, write_lock) and
 * writes without keeping anybody from appending. What could not be written stays in `out`, so that the order is kept.
 *
 * A descriptor is closed by thread "aof" only: files that were switched away from wait in `retired` until they are synced, and
 * `fsynced` moves only when all of them and the open one are. So an fsync needs no lock, and never meets a closed descriptor.
 *
 * Gathering (always): when an fsync ends, those who waited for it hear of it and most of them write again within moments; an
 * fsync begun at once would be for few of them, and the rest would wait for all of it. So thread "aof" waits until about as many
 * units have come as there were, for half as long as an fsync takes at most, and for less when that turns out to be in vain. A
 * lone client is never waited for.
 *
 * Blocks ahead (always): an fsync of a file that has just grown has to find room for it, which takes as long again as the rest.
 * So blocks are reserved beyond its end (fallocate(2), the size stays), and given back when the file is closed.
 *
 * everysec: redis-server puts write(2) off while an fsync runs, because it may have to wait for it, and so a crash of the process
 * alone can cost what was acknowledged meanwhile. Here it is tried: only where a write has turned out to wait it is put off, for
 * the next minute, and for two seconds at most each time.
 *
 * Sleeping and waking: thread "aof" sets `asleep` before it looks for work for the last time; who makes work looks at `asleep`
 * after. Both sequentially consistent, so one of them sees the other. */
#include "persist/aof_file.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/thread.h"

#define DELAYED_US 2000000 /* an fsync that takes longer is counted, and not waited for */
#define STALL_US 50000     /* a write(2) beside an fsync that takes so long had to wait for it */
#define STALL_MEMORY_US 60000000
#define SYNC_EVERY_US 1000000
#define GATHER_MAX_US 2000
#define AHEAD_MIN (1 << 20) /* bytes reserved at a time */
#define AHEAD_MAX (16 << 20)
#define LOG_EVERY_US 30000000 /* errors of write(2) come with every attempt */
#define KEEP_BUFFER (1 << 20) /* a larger one is given back when it is empty */

/* Thread "aof": at work; waiting for the second to end; waiting for something to do. */
enum sleep { AWAKE, DOZING, ASLEEP };

struct aof_file {
    struct aof_file_hooks hooks;
    _Atomic int policy;
    /* appending */
    pthread_mutex_t buf_lock;
    struct buf pending;
    int64_t annotated_s;
    uint64_t pending_repl;
    _Atomic bool timestamps;
    _Atomic uint64_t appended, units; /* bytes; units they consist of */
    /* writing; write_lock */
    pthread_mutex_t write_lock;
    struct buf out;
    size_t out_off;
    uint64_t out_repl, out_units; /* up to the end of out */
    int fd;
    int *retired, n_retired;
    int64_t reserved; /* bytes of the file that have blocks; -1: that is not to be had */
    int64_t logged_us;
    _Atomic bool is_held; /* nothing is written but by who holds it; changed under write_lock */
    _Atomic int64_t size, total;
    _Atomic uint64_t written, written_repl;
    _Atomic size_t buffered;
    _Atomic int write_err;
    _Atomic int64_t stalls_until_us, delay_noted_us; /* monotonic */
    /* syncing */
    _Atomic uint64_t fsynced, fsynced_repl;
    _Atomic uint64_t delayed_fsyncs;
    _Atomic int64_t sync_since_us; /* an fsync has been running since; 0: none is */
    _Atomic bool to_sync;          /* there are retired files */
    _Atomic int fsync_err;
    int64_t synced_us;        /* thread "aof" */
    struct {                  /* the same: gathering */
        uint64_t units, goal; /* on the disk; worth the next fsync */
        int64_t sync_us;      /* what an fsync takes, smoothed */
        int64_t ended_us;
        unsigned patience; /* halvings of the time */
    } gather;
    _Atomic uint64_t gather_goal; /* of `units`; 0: nothing is gathered */
    pthread_mutex_t wake_lock;
    pthread_cond_t wake;
    _Atomic int asleep; /* enum sleep */
    _Atomic bool stopping;
    bool has_thread;
    pthread_t tid;
};

static bool is_always(const struct aof_file *f) {
    return atomic_load_explicit(&f->policy, memory_order_relaxed) == AOF_FSYNC_ALWAYS;
}

static void note_latency(struct aof_file *f, const char *event, int64_t since_us) {
    if (f->hooks.latency) f->hooks.latency(f->hooks.arg, event, (uint64_t)(clock_mono_us() - since_us));
}

/* A write(2), by its own name and by what else the disk had to do (LATENCY, as redis-server's). */
static void note_write(struct aof_file *f, int64_t since_us, bool fsync_ran) {
    const char *beside = fsync_ran                                                  ? "aof-write-pending-fsync"
                         : f->hooks.child_runs && f->hooks.child_runs(f->hooks.arg) ? "aof-write-active-child"
                                                                                    : "aof-write-alone";
    note_latency(f, beside, since_us);
    note_latency(f, "aof-write", since_us);
}

/* errno, or 0: it works again. */
static void set_error(struct aof_file *f, _Atomic int *which, int err) {
    if (atomic_exchange(which, err) != err && f->hooks.error) f->hooks.error(f->hooks.arg, aof_file_error(f));
}

static void die(struct aof_file *f) {
    if (f->hooks.fatal) f->hooks.fatal(f->hooks.arg);
    _exit(1);
}

/* ---- appending ---- */

/* In front of a unit, never inside of one. */
static void annotate(struct aof_file *f) {
    int64_t now = clock_wall_ms() / 1000;
    if (now <= f->annotated_s) return;
    f->annotated_s = now;
    buf_printf(&f->pending, "#TS:%lld\r\n", (long long)now);
}

uint64_t aof_file_append(struct aof_file *f, const struct slice *pieces, int n) {
    pthread_mutex_lock(&f->buf_lock);
    size_t before = f->pending.len;
    if (atomic_load_explicit(&f->timestamps, memory_order_relaxed)) annotate(f);
    for (int i = 0; i < n; i++) buf_append(&f->pending, pieces[i].ptr, pieces[i].len);
    uint64_t end = atomic_load_explicit(&f->appended, memory_order_relaxed) + (f->pending.len - before);
    atomic_store_explicit(&f->units, atomic_load_explicit(&f->units, memory_order_relaxed) + 1, memory_order_relaxed);
    atomic_store_explicit(&f->appended, end, memory_order_release);
    pthread_mutex_unlock(&f->buf_lock);
    return end;
}

void aof_file_note_repl(struct aof_file *f, uint64_t repl_offset) {
    pthread_mutex_lock(&f->buf_lock);
    f->pending_repl = repl_offset;
    pthread_mutex_unlock(&f->buf_lock);
}

/* ---- writing; write_lock held ---- */

static void take_pending(struct aof_file *f) {
    buf_clear(&f->out);
    f->out_off = 0;
    if (f->out.cap > KEEP_BUFFER) buf_done(&f->out);
    pthread_mutex_lock(&f->buf_lock);
    struct buf empty = f->out;
    f->out = f->pending;
    f->pending = empty;
    f->out_repl = f->pending_repl;
    f->out_units = atomic_load_explicit(&f->units, memory_order_relaxed);
    pthread_mutex_unlock(&f->buf_lock);
    atomic_store_explicit(&f->buffered, f->out.cap + empty.cap, memory_order_relaxed);
}

static void advance(struct aof_file *f, size_t n) {
    f->out_off += n;
    atomic_fetch_add_explicit(&f->size, (int64_t)n, memory_order_relaxed);
    atomic_fetch_add_explicit(&f->total, (int64_t)n, memory_order_relaxed);
    if (f->out_off == f->out.len) atomic_store(&f->written_repl, f->out_repl);
    atomic_fetch_add(&f->written, n);
}

static void reserve_ahead(struct aof_file *f, int64_t need) {
    int64_t size = atomic_load_explicit(&f->size, memory_order_relaxed), more = size / 4;
    if (f->reserved < 0 || size + need <= f->reserved) return;
    if (more < AHEAD_MIN) more = AHEAD_MIN;
    if (more > AHEAD_MAX) more = AHEAD_MAX;
    int64_t end = size + need + more;
    f->reserved = fallocate(f->fd, FALLOC_FL_KEEP_SIZE, (off_t)size, (off_t)(end - size)) == 0 ? end : -1;
}

/* What is reserved and not used. */
static void give_back_ahead(struct aof_file *f) {
    int64_t size = atomic_load_explicit(&f->size, memory_order_relaxed);
    if (f->reserved > size && ftruncate(f->fd, (off_t)size) != 0)
        log_warning("Blocks beyond the end of the AOF file stay reserved. ftruncate: %s", strerror(errno));
    f->reserved = 0;
}

/* All that is left of out, or what can be had. *ret_err: errno of what stopped it. */
static size_t write_out(struct aof_file *f, int *ret_err) {
    size_t done = 0, all = f->out.len - f->out_off;
    *ret_err = 0;
    while (done < all) {
        ssize_t n = write(f->fd, f->out.data + f->out_off + done, all - done);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) {
            *ret_err = n < 0 ? errno : ENOSPC;
            break;
        }
        done += (size_t)n;
    }
    return done;
}

static bool may_log(struct aof_file *f) {
    int64_t now = clock_mono_us();
    if (f->logged_us && now - f->logged_us < LOG_EVERY_US) return false;
    f->logged_us = now;
    return true;
}

/* done of all bytes were written, then err. Nothing of them stays, unless they cannot be taken back. */
static void write_failed(struct aof_file *f, size_t done, int err) {
    bool log = may_log(f);
    if (done == 0) {
        if (log) log_warning("Error writing to the AOF file: %s", strerror(err));
    } else {
        if (log)
            log_warning("Short write while writing to the AOF file: (nwritten=%lld, expected=%lld)", (long long)done,
                        (long long)(f->out.len - f->out_off));
        if (ftruncate(f->fd, atomic_load(&f->size)) == 0) {
            done = 0;
        } else if (log) {
            log_warning("Could not remove short write from the append-only file.  Redis may refuse to load the AOF the next time "
                        "it starts.  ftruncate: %s",
                        strerror(errno));
        }
    }
    if (is_always(f)) {
        log_warning("Can't recover from AOF write error when the AOF fsync policy is 'always'. Exiting...");
        die(f);
    }
    if (done) advance(f, done);
    set_error(f, &f->write_err, err);
}

/* 0, or -errno: what is left is tried again by the next call. */
static int write_all(struct aof_file *f) {
    if (f->fd < 0) return 0;
    for (;;) {
        if (f->out_off == f->out.len) take_pending(f);
        if (f->out_off == f->out.len) {
            atomic_store(&f->written_repl, f->out_repl);
            return 0;
        }
        int err;
        int64_t start = clock_mono_us();
        bool fsync_runs = atomic_load_explicit(&f->sync_since_us, memory_order_relaxed) != 0;
        if (is_always(f)) reserve_ahead(f, (int64_t)(f->out.len - f->out_off));
        size_t done = write_out(f, &err);
        note_write(f, start, fsync_runs);
        if (err) {
            write_failed(f, done, err);
            return -err;
        }
        advance(f, done);
        if (atomic_load_explicit(&f->write_err, memory_order_relaxed)) {
            log_warning("AOF write error looks solved. The server can write again.");
            set_error(f, &f->write_err, 0);
        }
    }
}

/* ---- waking ---- */

/* soon: not at the end of the second that it sleeps through. */
static void wake(struct aof_file *f, bool soon) {
    int asleep = atomic_load(&f->asleep);
    if (asleep == AWAKE || (asleep == DOZING && !soon)) return;
    pthread_mutex_lock(&f->wake_lock);
    pthread_cond_signal(&f->wake);
    pthread_mutex_unlock(&f->wake_lock);
}

bool aof_file_is_behind(const struct aof_file *f) {
    return atomic_load_explicit(&f->appended, memory_order_acquire) != atomic_load_explicit(&f->written, memory_order_acquire);
}

/* everysec, an fsync runs: whether it has done so for two seconds more. */
static bool note_delay(struct aof_file *f, int64_t since, int64_t now) {
    int64_t noted = atomic_load_explicit(&f->delay_noted_us, memory_order_relaxed), from = noted > since ? noted : since;
    if (now - from < DELAYED_US || !atomic_compare_exchange_strong(&f->delay_noted_us, &noted, now)) return false;
    atomic_fetch_add_explicit(&f->delayed_fsyncs, 1, memory_order_relaxed);
    log_notice("Asynchronous AOF fsync is taking too long (disk is busy?). Writing the AOF buffer without waiting for fsync to "
               "complete, this may slow down Redis.");
    return true;
}

/* True: not now. */
static bool postpone(struct aof_file *f, int64_t now) {
    if (atomic_load_explicit(&f->is_held, memory_order_relaxed)) return true; /* who holds it writes when it lets go */
    int64_t since = atomic_load_explicit(&f->sync_since_us, memory_order_relaxed);
    if (since == 0 || atomic_load_explicit(&f->policy, memory_order_relaxed) != AOF_FSYNC_EVERYSEC) return false;
    return !note_delay(f, since, now) && now < atomic_load_explicit(&f->stalls_until_us, memory_order_relaxed);
}

void aof_file_write(struct aof_file *f) {
    if (!aof_file_is_behind(f)) return;
    if (is_always(f)) {
        if (atomic_load(&f->units) >= atomic_load(&f->gather_goal)) wake(f, true);
        return;
    }
    int64_t now = clock_mono_us();
    if (postpone(f, now)) return;
    bool beside = atomic_load_explicit(&f->sync_since_us, memory_order_relaxed) != 0;
    pthread_mutex_lock(&f->write_lock);
    if (!atomic_load(&f->is_held)) write_all(f);
    pthread_mutex_unlock(&f->write_lock);
    if (beside && clock_mono_us() - now >= STALL_US) atomic_store(&f->stalls_until_us, now + STALL_MEMORY_US);
    wake(f, false);
}

/* ---- thread "aof" ---- */

static bool wants_sync(const struct aof_file *f) {
    return atomic_load(&f->written) != atomic_load(&f->fsynced);
}

/* Whether there is something to do; else in *ret_us how long to sleep, 0: until woken. */
static bool has_work(struct aof_file *f, int64_t *ret_us) {
    *ret_us = 0;
    if (atomic_load(&f->stopping) || atomic_load(&f->to_sync)) return true;
    int policy = atomic_load(&f->policy);
    if (policy == AOF_FSYNC_ALWAYS) return wants_sync(f) || (aof_file_is_behind(f) && !atomic_load(&f->is_held));
    if (policy == AOF_FSYNC_NO || !wants_sync(f)) return false;
    int64_t left = f->synced_us + SYNC_EVERY_US - clock_mono_us();
    *ret_us = left;
    return left <= 0;
}

static struct timespec time_in(int64_t us) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    us += t.tv_nsec / 1000;
    t.tv_sec += us / 1000000;
    t.tv_nsec = us % 1000000 * 1000;
    return t;
}

static void sleep_until_work(struct aof_file *f) {
    int64_t us;
    if (has_work(f, &us)) return;
    pthread_mutex_lock(&f->wake_lock);
    for (;;) {
        atomic_store(&f->asleep, ASLEEP);
        if (has_work(f, &us)) break;
        if (us == 0) {
            pthread_cond_wait(&f->wake, &f->wake_lock);
            continue;
        }
        atomic_store(&f->asleep, DOZING);
        if (is_always(f)) continue; /* since it was looked at */
        struct timespec until = time_in(us);
        pthread_cond_timedwait(&f->wake, &f->wake_lock, &until);
    }
    atomic_store(&f->asleep, AWAKE);
    pthread_mutex_unlock(&f->wake_lock);
}

struct sync_job {
    int fd, *retired, n_retired;
    uint64_t written, repl, units;
};

static void take_job(struct aof_file *f, struct sync_job *j) {
    pthread_mutex_lock(&f->write_lock);
    if (!atomic_load(&f->is_held)) write_all(f); /* always, and what was put off */
    j->fd = f->fd;
    j->n_retired = f->n_retired;
    j->retired = f->retired;
    f->retired = NULL;
    f->n_retired = 0;
    atomic_store(&f->to_sync, false);
    j->written = atomic_load(&f->written);
    j->repl = atomic_load(&f->written_repl);
    j->units = f->out_units;
    pthread_mutex_unlock(&f->write_lock);
}

/* EINVAL: a file that cannot be synced (a pipe, /dev/null) needs none. */
static int sync_fd(int fd) {
    return fdatasync(fd) == 0 || errno == EINVAL ? 0 : errno;
}

static int run_job(struct aof_file *f, struct sync_job *j) {
    int err = 0;
    int64_t start = clock_mono_us();
    for (int i = 0; i < j->n_retired; i++) {
        int e = sync_fd(j->retired[i]);
        if (!err) err = e;
        close(j->retired[i]);
    }
    mem_free(j->retired);
    int e = j->fd >= 0 ? sync_fd(j->fd) : 0;
    if (!err) err = e;
    if (is_always(f)) note_latency(f, "aof-fsync-always", start);
    return err;
}

static void sync_failed(struct aof_file *f, int err) {
    if (is_always(f)) {
        log_warning("Can't persist AOF for fsync error when the AOF fsync policy is 'always': %s. Exiting...", strerror(err));
        die(f);
    }
    if (atomic_load(&f->fsync_err) == 0) log_warning("Fail to fsync the AOF file: %s", strerror(err));
    set_error(f, &f->fsync_err, err);
}

static void synced(struct aof_file *f, const struct sync_job *j) {
    set_error(f, &f->fsync_err, 0);
    atomic_store(&f->fsynced_repl, j->repl);
    atomic_store(&f->fsynced, j->written);
    if (is_always(f) && f->hooks.safe_up_to) f->hooks.safe_up_to(f->hooks.arg, j->written);
    if (f->hooks.synced) f->hooks.synced(f->hooks.arg);
}

/* An fsync of all units up to this one has ended; nobody has been told yet. */
static void note_sync(struct aof_file *f, uint64_t units, int64_t took_us) {
    uint64_t told = units - f->gather.units, waiting = atomic_load(&f->units) - units, all = told + waiting;
    f->gather.units = units;
    f->gather.goal = units + all - all / 8;
    f->gather.sync_us = f->gather.sync_us ? (f->gather.sync_us * 7 + took_us) / 8 : took_us;
    f->gather.ended_us = clock_mono_us();
}

/* Until most of those who were told at the end of the last fsync have written again, or it does not pay. */
static void gather(struct aof_file *f) {
    uint64_t goal = f->gather.goal;
    int64_t most = f->gather.sync_us / 2 < GATHER_MAX_US ? f->gather.sync_us / 2 : GATHER_MAX_US;
    int64_t left = f->gather.ended_us + (most >> f->gather.patience) - clock_mono_us();
    if (atomic_load(&f->units) >= goal || left <= 0) return;
    struct timespec until = time_in(left);
    pthread_mutex_lock(&f->wake_lock);
    atomic_store(&f->gather_goal, goal);
    atomic_store(&f->asleep, DOZING);
    bool in_time = true;
    while (in_time && atomic_load(&f->units) < goal && is_always(f) && !atomic_load(&f->stopping))
        in_time = pthread_cond_timedwait(&f->wake, &f->wake_lock, &until) == 0;
    atomic_store(&f->asleep, AWAKE);
    atomic_store(&f->gather_goal, 0);
    pthread_mutex_unlock(&f->wake_lock);
    if (in_time)
        f->gather.patience = 0;
    else if (f->gather.patience < 6)
        f->gather.patience++;
}

static void turn(struct aof_file *f) {
    struct sync_job j;
    bool spare = f->hooks.spare_disk && f->hooks.spare_disk(f->hooks.arg);
    if (is_always(f))
        gather(f);
    else
        f->synced_us = clock_mono_us();
    take_job(f, &j);
    if (spare && j.n_retired == 0) {
        /* Not synced, as was asked for; but nobody is to wait for it. */
        if (is_always(f) && f->hooks.safe_up_to) f->hooks.safe_up_to(f->hooks.arg, j.written);
        if (is_always(f) && !aof_file_is_behind(f)) usleep(1000);
        return;
    }
    int64_t start = clock_mono_us();
    atomic_store(&f->sync_since_us, start);
    int err = run_job(f, &j);
    atomic_store(&f->sync_since_us, 0);
    note_sync(f, j.units, clock_mono_us() - start);
    if (err)
        sync_failed(f, err);
    else
        synced(f, &j);
    if (is_always(f) || !aof_file_is_behind(f)) return;
    pthread_mutex_lock(&f->write_lock); /* what was put off meanwhile */
    if (!atomic_load(&f->is_held)) write_all(f);
    pthread_mutex_unlock(&f->write_lock);
}

static void *thread_main(void *arg) {
    struct aof_file *f = arg;
    pthread_setname_np(pthread_self(), "aof");
    thread_is_background();
    while (!atomic_load(&f->stopping)) {
        sleep_until_work(f);
        if (!atomic_load(&f->stopping)) turn(f);
    }
    return NULL;
}

static int start_thread(struct aof_file *f) {
    if (f->has_thread) return 0;
    int r = thread_start(&f->tid, thread_main, f);
    f->has_thread = r == 0;
    return r;
}

/* ---- life ---- */

struct aof_file *aof_file_new(const struct aof_file_hooks *hooks) {
    struct aof_file *f = mem_zalloc(sizeof *f);
    f->hooks = *hooks;
    f->fd = -1;
    atomic_store(&f->policy, AOF_FSYNC_EVERYSEC);
    pthread_mutex_init(&f->buf_lock, NULL);
    pthread_mutex_init(&f->write_lock, NULL);
    pthread_mutex_init(&f->wake_lock, NULL);
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&f->wake, &attr);
    pthread_condattr_destroy(&attr);
    return f;
}

void aof_file_stop(struct aof_file *f) {
    if (!f->has_thread) return;
    pthread_mutex_lock(&f->wake_lock);
    atomic_store(&f->stopping, true);
    pthread_cond_signal(&f->wake);
    pthread_mutex_unlock(&f->wake_lock);
    pthread_join(f->tid, NULL);
    f->has_thread = false;
}

struct aof_file *aof_file_free(struct aof_file *f) {
    if (!f) return NULL;
    aof_file_stop(f);
    for (int i = 0; i < f->n_retired; i++) close(f->retired[i]);
    mem_free(f->retired);
    if (f->fd >= 0) close(f->fd);
    buf_done(&f->pending);
    buf_done(&f->out);
    pthread_mutex_destroy(&f->buf_lock);
    pthread_mutex_destroy(&f->write_lock);
    pthread_mutex_destroy(&f->wake_lock);
    pthread_cond_destroy(&f->wake);
    mem_free(f);
    return NULL;
}

void aof_file_set_policy(struct aof_file *f, enum aof_fsync policy) {
    atomic_store(&f->policy, (int)policy);
    wake(f, true);
}

void aof_file_set_timestamps(struct aof_file *f, bool on) {
    atomic_store(&f->timestamps, on);
}

/* ---- the file ---- */

void aof_file_hold(struct aof_file *f) {
    pthread_mutex_lock(&f->write_lock);
    assert(!atomic_load(&f->is_held));
    atomic_store(&f->is_held, true);
    pthread_mutex_unlock(&f->write_lock);
}

void aof_file_let_go(struct aof_file *f) {
    pthread_mutex_lock(&f->write_lock);
    if (!is_always(f)) write_all(f);
    atomic_store(&f->is_held, false);
    pthread_mutex_unlock(&f->write_lock);
    wake(f, true);
}

static void retire(struct aof_file *f) {
    if (f->fd < 0) return;
    give_back_ahead(f);
    f->retired = mem_realloc(f->retired, sizeof(int) * ((size_t)f->n_retired + 1));
    f->retired[f->n_retired++] = f->fd;
    atomic_store(&f->to_sync, true);
    f->fd = -1;
}

int aof_file_switch(struct aof_file *f, int fd_take, int64_t size) {
    int r = start_thread(f);
    if (r) return r;
    pthread_mutex_lock(&f->write_lock);
    r = write_all(f);
    if (r == 0) {
        retire(f);
        f->fd = fd_take;
        f->reserved = 0;
        atomic_store(&f->size, size);
        set_error(f, &f->write_err, 0);
    }
    pthread_mutex_unlock(&f->write_lock);
    return r;
}

static void drop_buffers(struct aof_file *f) {
    pthread_mutex_lock(&f->buf_lock);
    buf_done(&f->pending);
    atomic_store(&f->written, atomic_load(&f->appended));
    atomic_store(&f->fsynced, atomic_load(&f->appended));
    pthread_mutex_unlock(&f->buf_lock);
    buf_done(&f->out);
    f->out_off = 0;
    atomic_store(&f->buffered, 0);
    set_error(f, &f->write_err, 0);
    set_error(f, &f->fsync_err, 0);
}

/* The descriptor goes the way of all, since an fsync of it may be under way. */
void aof_file_abandon(struct aof_file *f) {
    pthread_mutex_lock(&f->write_lock);
    retire(f);
    drop_buffers(f);
    pthread_mutex_unlock(&f->write_lock);
}

static int close_file(struct aof_file *f) {
    int r = write_all(f), err = sync_fd(f->fd);
    if (err) log_warning("Fail to fsync the AOF file: %s", strerror(err));
    if (r == 0 && err) r = -err;
    if (r == 0) atomic_store(&f->fsynced_repl, atomic_load(&f->written_repl));
    retire(f);
    drop_buffers(f);
    return r;
}

int aof_file_close(struct aof_file *f) {
    pthread_mutex_lock(&f->write_lock);
    int r = f->fd < 0 ? 0 : close_file(f);
    pthread_mutex_unlock(&f->write_lock);
    return r;
}

int aof_file_flush(struct aof_file *f, bool sync) {
    pthread_mutex_lock(&f->write_lock);
    int r = write_all(f);
    if (sync && r == 0 && f->fd >= 0) {
        uint64_t written = atomic_load(&f->written), repl = atomic_load(&f->written_repl);
        r = -sync_fd(f->fd);
        if (r == 0 && f->n_retired == 0) {
            atomic_store(&f->fsynced_repl, repl);
            atomic_store(&f->fsynced, written);
        }
    }
    pthread_mutex_unlock(&f->write_lock);
    return r;
}

bool aof_file_is_open(const struct aof_file *f) {
    struct aof_file *m = (struct aof_file *)(uintptr_t)f;
    pthread_mutex_lock(&m->write_lock);
    bool open = f->fd >= 0;
    pthread_mutex_unlock(&m->write_lock);
    return open;
}

void aof_file_set_total(struct aof_file *f, int64_t bytes) {
    atomic_store(&f->total, bytes);
}

/* ---- state ---- */

void aof_file_state_get(struct aof_file *f, struct aof_file_state *ret) {
    pthread_mutex_lock(&f->buf_lock);
    size_t pending = f->pending.len;
    pthread_mutex_unlock(&f->buf_lock);
    *ret = (struct aof_file_state){
        .appended = atomic_load(&f->appended),
        .written = atomic_load(&f->written),
        .fsynced = atomic_load(&f->fsynced),
        .repl_fsynced = atomic_load(&f->fsynced_repl),
        .total = atomic_load(&f->total),
        .file = atomic_load(&f->size),
        .buffered = atomic_load(&f->buffered) > pending ? atomic_load(&f->buffered) : pending,
        .delayed_fsyncs = atomic_load(&f->delayed_fsyncs),
        .fsync_runs = atomic_load(&f->sync_since_us) != 0,
        .write_err = atomic_load(&f->write_err),
        .fsync_err = atomic_load(&f->fsync_err),
    };
}

void aof_file_reset_stats(struct aof_file *f) {
    atomic_store(&f->delayed_fsyncs, 0);
}

const _Atomic uint64_t *aof_file_appended(const struct aof_file *f) {
    return &f->appended;
}

size_t aof_file_pending(const struct aof_file *f) {
    uint64_t written = atomic_load_explicit(&f->written, memory_order_acquire);
    return (size_t)(atomic_load_explicit(&f->appended, memory_order_acquire) - written);
}

uint64_t aof_file_fsynced(const struct aof_file *f) {
    return atomic_load(&((struct aof_file *)(uintptr_t)f)->fsynced);
}

uint64_t aof_file_repl_fsynced(const struct aof_file *f) {
    return atomic_load(&((struct aof_file *)(uintptr_t)f)->fsynced_repl);
}

int aof_file_error(const struct aof_file *f) {
    int err = atomic_load_explicit(&f->write_err, memory_order_relaxed);
    return err ? err : atomic_load_explicit(&f->fsync_err, memory_order_relaxed);
}
