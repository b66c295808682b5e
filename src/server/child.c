/* The forked child. See child.h. Place in the flow: BGSAVE, the rewrite of the append-only file, full synchronisations to
 * replicas. Threads: any I/O thread forks; thread 0 collects.
 *
 *     none -> starting (whoever wins the exchange; takes all shards, forks) -> running -> ended (thread 0's cron) -> none
 *
 * Parent and child share one page (struct report), through which the child says how far it is. */
#include "server/child.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/crash.h"
#include "base/log.h"
#include "server/latency.h"
#include "server/propagate.h"
#include "server/server.h"

#define EXIT_KILLED 255      /* what the child ends with after SIGUSR1 */
#define COLLECT_US 5000      /* between two looks for its end, to begin with */
#define COW_EVERY_US 1000000 /* the kernel walks all page tables for it */

struct report { /* shared by parent and child */
    _Atomic uint64_t keys, cow, cow_peak;
    _Atomic int64_t cow_at_us; /* monotonic */
    uint64_t cow_sum, n_cow;   /* the child's, for the mean */
};

struct children {
    _Atomic int state; /* enum child_kind; CHILD_NONE: none, starting or running */
    _Atomic pid_t pid; /* 0: none runs */
    pid_t parent;
    void (*collected)(void *arg, int status); /* of the one that runs; thread 0 reads these when pid is set */
    void (*done)(void *arg, int pid, int status);
    void *arg;
    struct report *report;
    struct loop_timer timer; /* thread 0's */
    _Atomic uint64_t forks, fork_usec, keys_total;
    _Atomic uint64_t last_cow[CHILD_REPL + 1];
};

static void timer_fired(struct loop_timer *t);

struct children *children_new(void) {
    struct children *ch = mem_zalloc(sizeof *ch);
    void *page = mmap(NULL, sizeof *ch->report, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED) {
        log_warning("Fatal: no memory for a page shared with children: %s", strerror(errno));
        crash_panic();
    }
    ch->report = page;
    ch->timer.fn = timer_fired;
    ch->parent = getpid();
    return ch;
}

struct children *children_free(struct children *ch) {
    if (!ch) return NULL;
    munmap(ch->report, sizeof *ch->report);
    mem_free(ch);
    return NULL;
}

pid_t child_pid(const struct server *srv) {
    return atomic_load(&srv->children->pid);
}

bool child_is_active(const struct server *srv) {
    return child_kind_now(srv) != CHILD_NONE;
}

enum child_kind child_kind_now(const struct server *srv) {
    return (enum child_kind)atomic_load_explicit(&srv->children->state, memory_order_acquire);
}

/* ---- in the child ---- */

static void on_usr1(int sig) {
    (void)sig;
    _exit(EXIT_KILLED);
}

/* SIGINT from a terminal goes to the child too: the parent decides what becomes of it. */
static void set_signals(void) {
    struct sigaction ignore = { .sa_handler = SIG_IGN }, end = { .sa_handler = on_usr1 };
    sigset_t none;
    sigaction(SIGINT, &ignore, NULL);
    sigaction(SIGTERM, &ignore, NULL);
    sigaction(SIGUSR1, &end, NULL);
    sigemptyset(&none);
    pthread_sigmask(SIG_SETMASK, &none, NULL);
}

static int by_number(const void *a, const void *b) {
    return *(const int *)a - *(const int *)b;
}

static void close_from_to(unsigned from, unsigned to) {
    if (from > to || syscall(SYS_close_range, from, to, 0) == 0) return;
    for (unsigned fd = from; fd <= to && fd < 65536; fd++) close((int)fd); /* before Linux 5.9 */
}

/* All but the standard ones and those that are to be kept. */
static void close_others(const struct child_opts *o) {
    int keep[256] = { 0 }, n = o->n_keep_fds < 256 ? o->n_keep_fds : 256;
    unsigned from = 3;
    for (int i = 0; i < n; i++) keep[i] = o->keep_fds[i];
    qsort(keep, (size_t)n, sizeof *keep, by_number);
    for (int i = 0; i < n; i++) {
        if (keep[i] < (int)from) continue;
        close_from_to(from, (unsigned)keep[i] - 1);
        from = (unsigned)keep[i] + 1;
    }
    close_from_to(from, ~0U);
}

static _Noreturn void live(struct server *srv, const struct child_opts *o, const struct propagate_point *pt, const char *title,
                           const struct process_child *asks) {
    log_set_role('C');
    set_signals();
    close_others(o);
    process_title_text(title);
    process_child_apply(asks);
    int r = o->run(o->arg, pt);
    child_note_keys(srv, atomic_load(&srv->children->report->keys));
    _exit(r);
}

/* Private dirty memory of this process: what was copied since the fork. 0: not to be had. */
static uint64_t private_dirty(void) {
    char text[2048];
    int fd = open("/proc/self/smaps_rollup", O_RDONLY | O_CLOEXEC);
    if (fd < 0) return 0;
    ssize_t n = read(fd, text, sizeof text - 1);
    close(fd);
    if (n <= 0) return 0;
    text[n] = 0;
    const char *at = strstr(text, "Private_Dirty:");
    return at ? strtoull(at + 14, NULL, 10) * 1024 : 0;
}

static void measure(struct report *r, int64_t now) {
    uint64_t cow = private_dirty();
    atomic_store_explicit(&r->cow, cow, memory_order_relaxed);
    if (cow > atomic_load_explicit(&r->cow_peak, memory_order_relaxed))
        atomic_store_explicit(&r->cow_peak, cow, memory_order_relaxed);
    r->cow_sum += cow;
    r->n_cow++;
    atomic_store_explicit(&r->cow_at_us, now, memory_order_relaxed);
}

void child_note_keys(struct server *srv, uint64_t done) {
    struct report *r = srv->children->report;
    atomic_store_explicit(&r->keys, done, memory_order_relaxed);
    int64_t now = clock_mono_us(), last = atomic_load_explicit(&r->cow_at_us, memory_order_relaxed);
    if (last && now - last < COW_EVERY_US && done) return;
    measure(r, now);
}

void child_log_cow(struct server *srv, const char *what) {
    struct report *r = srv->children->report;
    measure(r, clock_mono_us());
    log_notice("Fork CoW for %s: current %llu MB, peak %llu MB, average %llu MB", what,
               (unsigned long long)atomic_load(&r->cow) >> 20, (unsigned long long)atomic_load(&r->cow_peak) >> 20,
               (unsigned long long)(r->cow_sum / r->n_cow) >> 20);
}

bool child_is_self(const struct server *srv) {
    return getpid() != srv->children->parent;
}

bool child_is_orphan(const struct server *srv) {
    return child_is_self(srv) && getppid() != srv->children->parent;
}

/* ---- in the parent ---- */

static uint64_t count_keys(struct server *srv) {
    uint64_t n = 0;
    for (int db = 0; db < ks_n_dbs(srv->ks); db++) n += ks_size(srv->ks, db);
    return n;
}

static void begin_report(struct server *srv) {
    struct report *r = srv->children->report;
    atomic_store(&r->keys, 0);
    atomic_store(&r->cow, 0);
    atomic_store(&r->cow_peak, 0);
    atomic_store(&r->cow_at_us, 0);
    r->cow_sum = r->n_cow = 0;
    atomic_store(&srv->children->keys_total, count_keys(srv));
}

static void arm_timer(struct io_thread *th, void *arg) {
    (void)arg;
    loop_timer_set(th->loop, &th->srv->children->timer, clock_mono_us() + COLLECT_US);
}

/* Made before the fork: it takes a lock. */
static void make_title(struct server *srv, enum child_kind kind, char *ret, size_t cap) {
    static const char *const names[] = { "", "kettle-rdb-bgsave", "kettle-aof-rewrite", "kettle-rdb-to-slaves" };
    char where[128] = "";
    process_listen_text(srv, where, sizeof where);
    ret[0] = 0; /* as it is */
    if (cfg_get(&srv->cfg->set_proc_title)) snprintf(ret, cap, "%s %s", names[kind], where);
}

static pid_t fork_locked(struct server *srv, const struct child_opts *o) {
    struct children *ch = srv->children;
    struct propagate_point pt;
    char title[192];
    struct process_child asks;
    propagate_get_point(srv, &pt);
    make_title(srv, o->kind, title, sizeof title);
    process_child_prepare(srv, o->kind == CHILD_AOF, &asks);
    begin_report(srv);
    if (o->prepare) o->prepare(o->arg, &pt);
    int64_t start = clock_mono_us();
    pid_t pid = fork();
    if (pid == 0) live(srv, o, &pt, title, &asks);
    int e = errno;
    uint64_t took = (uint64_t)(clock_mono_us() - start);
    if (pid < 0) return -e;
    atomic_store(&ch->fork_usec, took);
    atomic_fetch_add(&ch->forks, 1);
    latency_note(srv, "fork", took);
    ks_set_child_active(srv->ks, true);
    if (o->forked) o->forked(o->arg, &pt);
    ch->collected = o->collected;
    ch->done = o->done;
    ch->arg = o->arg;
    atomic_store(&ch->pid, pid);
    return pid;
}

pid_t child_start(struct server *srv, const struct child_opts *o) {
    struct children *ch = srv->children;
    int none = CHILD_NONE;
    if (!atomic_compare_exchange_strong(&ch->state, &none, (int)o->kind)) return -EEXIST;
    uint64_t locked = o->locked ? 0 : engine_lock(&srv->eng, ks_all_mask(ks_n_shards(srv->ks)), false);
    pid_t pid = o->locked || locked ? fork_locked(srv, o) : -EBUSY;
    if (locked) {
        const struct io_thread *th = io_thread_self();
        engine_unlock(&srv->eng, locked, th ? (unsigned)th->index : 0);
    }
    if (pid > 0)
        io_thread_post(&srv->threads[0], arm_timer, NULL);
    else
        atomic_store(&ch->state, CHILD_NONE);
    return pid;
}

/* ---- its end; thread 0 ---- */

static void collected(struct server *srv, pid_t pid, int status) {
    struct children *ch = srv->children;
    enum child_kind kind = child_kind_now(srv);
    void (*done)(void *arg, int pid, int status) = ch->done;
    void *arg = ch->arg;
    if (ch->collected) ch->collected(arg, status);
    atomic_store(&ch->last_cow[kind], atomic_load(&ch->report->cow_peak));
    atomic_store(&ch->report->cow, 0);
    ks_set_child_active(srv->ks, false);
    atomic_store(&ch->pid, 0);
    atomic_store_explicit(&ch->state, CHILD_NONE, memory_order_release);
    if (done) done(arg, (int)pid, status);
}

static bool collect(struct server *srv, int flags) {
    pid_t pid = atomic_load(&srv->children->pid);
    int status = 0;
    if (!pid) return true;
    pid_t r;
    do {
        r = waitpid(pid, &status, flags);
    } while (r < 0 && errno == EINTR);
    if (r == 0) return false;
    if (r < 0) status = 1 << 8; /* somebody else has collected it: as if it had failed */
    collected(srv, pid, status);
    return true;
}

static void timer_fired(struct loop_timer *t) {
    struct io_thread *th = io_thread_self();
    if (!collect(th->srv, WNOHANG)) loop_timer_set(th->loop, t, clock_mono_us() + COLLECT_US);
}

void child_cron(struct server *srv) {
    collect(srv, WNOHANG);
}

void child_kill(struct server *srv, enum child_kind kind) {
    struct children *ch = srv->children;
    pid_t pid = atomic_load(&ch->pid);
    if (!pid || (kind != CHILD_NONE && child_kind_now(srv) != kind)) return;
    kill(pid, SIGUSR1);
    siginfo_t info;
    waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT); /* from now on it writes nothing more */
    const struct io_thread *th = io_thread_self();
    if (th && th->index == 0) collect(srv, 0);
}

bool child_was_killed(int status) {
    return (WIFEXITED(status) && WEXITSTATUS(status) == EXIT_KILLED) || (WIFSIGNALED(status) && WTERMSIG(status) == SIGUSR1);
}

/* ---- figures ---- */

void child_figures_get(const struct server *srv, struct child_figures *ret) {
    struct children *ch = srv->children;
    bool runs = atomic_load(&ch->pid) != 0;
    int64_t at = atomic_load(&ch->report->cow_at_us);
    *ret = (struct child_figures){ .forks = atomic_load(&ch->forks), .fork_usec = atomic_load(&ch->fork_usec) };
    for (int k = 0; k <= CHILD_REPL; k++) ret->last_cow[k] = atomic_load(&ch->last_cow[k]);
    if (!runs) return;
    ret->cow_size = atomic_load(&ch->report->cow);
    ret->cow_peak = atomic_load(&ch->report->cow_peak);
    ret->cow_age_s = at ? (uint64_t)(clock_mono_us() - at) / 1000000 : 0;
    ret->keys_done = atomic_load(&ch->report->keys);
    ret->keys_total = atomic_load(&ch->keys_total);
}

void child_figures_reset(struct server *srv) {
    atomic_store(&srv->children->forks, 0);
    atomic_store(&srv->children->fork_usec, 0);
}
