/*
 * What the kernel is asked for this process and its threads: processors, transparent huge pages, the out-of-memory killer's
 * score. Main thread at start-up; the score also by CONFIG SET, a change of role and forked children.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/log.h"
#include "base/thread.h"
#include "server/replication.h"
#include "server/server.h"

/* ---- small files of the kernel's ---- */

static int read_text(const char *path, char *text, size_t cap) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return -errno;
    ssize_t n = read(fd, text, cap - 1);
    int r = n < 0 ? -errno : 0;
    close(fd);
    text[n > 0 ? n : 0] = 0;
    return r;
}

static int write_text(const char *path, const char *text) {
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0) return -errno;
    int r = write(fd, text, strlen(text)) < 0 ? -errno : 0;
    close(fd);
    return r;
}

/* ---- processors ---- */

static bool cpus_of(struct config *cfg, const char *directive, cpu_set_t *ret) {
    char *text = config_other_dup(cfg, directive);
    bool has = text && *text && thread_parse_cpus(slice_cstr(text), ret) == 0;
    mem_free(text);
    return has;
}

static bool run_on(const cpu_set_t *cpus, const char *directive) {
    if (sched_setaffinity(0, sizeof *cpus, cpus) == 0) return true;
    log_warning("%s has no effect: %s", directive, strerror(errno));
    return false;
}

/* Threads inherit their creator's processors: background threads of a server that is bound must be let off them. */
void process_set_cpus(struct server *srv) {
    cpu_set_t serving, background, all;
    bool binds = cpus_of(srv->cfg, "server-cpulist", &serving), has_background = cpus_of(srv->cfg, "bio-cpulist", &background);
    if ((!binds && !has_background) || sched_getaffinity(0, sizeof all, &all) != 0) return;
    has_background = has_background && run_on(&background, "bio-cpulist"); /* tried here: the threads do not report */
    thread_set_background_cpus(has_background ? &background : &all);
    if (!binds || !run_on(&serving, "server-cpulist")) sched_setaffinity(0, sizeof all, &all);
}

/* ---- huge pages ---- */

/* A page that is copied on write, while a child lives, is 2 MiB then. */
void process_disable_thp(struct server *srv) {
    char mode[128];
    if (read_text("/sys/kernel/mm/transparent_hugepage/enabled", mode, sizeof mode) < 0 || !strstr(mode, "[always]")) return;
    if (cfg_get(&srv->cfg->disable_thp) && prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0) == 0) return;
    log_warning(
        "WARNING: transparent huge pages are enabled for all processes. Snapshots then take more memory, and the first "
        "writes during one more time. 'echo madvise > /sys/kernel/mm/transparent_hugepage/enabled' as root, and a restart, "
        "change that; so does 'disable-thp yes'.");
}

/* ---- the out-of-memory killer ---- */

#define OOM_FILE "/proc/self/oom_score_adj"
enum oom_role { OOM_PRIMARY = 0, OOM_REPLICA, OOM_CHILD };

static struct {
    pthread_mutex_t lock;
    bool is_ours; /* the score is not what the process was started with */
    int base;     /* which was this */
} oom = { .lock = PTHREAD_MUTEX_INITIALIZER };

static int oom_value(struct server *srv, enum oom_role role, int base) {
    int v[3] = { 0 };
    char *text = config_other_dup(srv->cfg, "oom-score-adj-values"), *at = text;
    for (int i = 0; text && i < 3; i++) v[i] = (int)strtol(at, &at, 10);
    mem_free(text);
    int score = v[role] + (cfg_get(&srv->cfg->oom_score_adj) == CFG_OOM_RELATIVE ? base : 0);
    return score > 1000 ? 1000 : score < -1000 ? -1000 : score;
}

static int oom_write(int score) {
    char text[16];
    snprintf(text, sizeof text, "%d\n", score);
    return write_text(OOM_FILE, text);
}

/* lock held. 0 or -errno, logged. */
static int oom_set(struct server *srv, enum oom_role role) {
    bool wanted = cfg_get(&srv->cfg->oom_score_adj) != CFG_OOM_NO;
    char text[32];
    if (!wanted && !oom.is_ours) return 0;
    if (!oom.is_ours) {
        int r = read_text(OOM_FILE, text, sizeof text);
        if (r < 0) {
            log_warning("Unable to read oom_score_adj: %s", strerror(-r));
            return r;
        }
        oom.base = (int)strtol(text, NULL, 10);
    }
    oom.is_ours = wanted;
    int r = oom_write(wanted ? oom_value(srv, role, oom.base) : oom.base);
    if (r < 0) log_warning("Unable to write oom_score_adj: %s", strerror(-r));
    return r;
}

const char *process_set_oom_score(struct server *srv) {
    pthread_mutex_lock(&oom.lock);
    int r = oom_set(srv, repl_is_replica(srv->repl) ? OOM_REPLICA : OOM_PRIMARY);
    pthread_mutex_unlock(&oom.lock);
    return r < 0 ? "Failed to set current oom_score_adj. Check server logs." : NULL;
}

/* ---- children ---- */

void process_child_prepare(struct server *srv, bool is_rewrite, struct process_child *ret) {
    memset(ret, 0, sizeof *ret);
    ret->has_cpus = cpus_of(srv->cfg, is_rewrite ? "aof-rewrite-cpulist" : "bgsave-cpulist", &ret->cpus);
    pthread_mutex_lock(&oom.lock);
    ret->has_oom_score = oom.is_ours;
    if (oom.is_ours) ret->oom_score = oom_value(srv, OOM_CHILD, oom.base);
    pthread_mutex_unlock(&oom.lock);
}

void process_child_apply(const struct process_child *p) {
    if (p->has_cpus) run_on(&p->cpus, "The child's list of processors");
    if (!p->has_oom_score) return;
    int r = oom_write(p->oom_score);
    if (r < 0) log_warning("Unable to write oom_score_adj: %s", strerror(-r));
}
