/* States in which commands are refused. See refusal.h. Any thread. */
#include "server/refusal.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/crash.h"
#include "base/log.h"
#include "server/server.h"

static const char loading_text[] = "LOADING Redis is loading the dataset in memory";
static const char rdb_text[] =
    "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk. Commands that may modify "
    "the "
    "data set are disabled, because this instance is configured to report errors during writes if RDB snapshotting fails "
    "(stop-writes-on-bgsave-error option). Please check the Redis logs for details about the RDB error.";

static const char few_text[] = "NOREPLICAS Not enough good replicas to write.";

static const char read_only_text[] = "READONLY You can't write against a read only replica.";
static const char stale_text[] = "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.";

static pthread_mutex_t aof_lock = PTHREAD_MUTEX_INITIALIZER;
static char aof_error[128];

void refusal_set(struct server *srv, enum refusal why, bool on) {
    if (on)
        atomic_fetch_or(&srv->refusals, (unsigned)why);
    else
        atomic_fetch_and(&srv->refusals, ~(unsigned)why);
}

void refusal_set_aof_error(struct server *srv, const char *text) {
    (void)srv;
    pthread_mutex_lock(&aof_lock);
    snprintf(aof_error, sizeof aof_error, "%s", text);
    pthread_mutex_unlock(&aof_lock);
}

static const char *aof_text(void) {
    static _Thread_local char text[sizeof aof_error + 64];
    pthread_mutex_lock(&aof_lock);
    snprintf(text, sizeof text, "MISCONF Errors writing to the AOF file: %s", aof_error);
    pthread_mutex_unlock(&aof_lock);
    return text;
}

static const char *disk_error(unsigned now) {
    if (now & REFUSE_RDB_ERROR) return rdb_text;
    return now & REFUSE_AOF_ERROR ? aof_text() : NULL;
}

static bool is_ping(const struct cmd *cmd) {
    return cmd->spec->name && strcmp(cmd->spec->name, "ping") == 0;
}

const char *refusal_of(struct server *srv, const struct cmd *cmd, unsigned flags, bool *ret_postpone) {
    /* Acquire: what loading put where no shard's lock is taken to look, functions, is seen by who no longer finds LOADING. */
    unsigned now = atomic_load_explicit(&srv->refusals, memory_order_acquire);
    if (__builtin_expect(now == 0, 1)) return NULL;
    if ((now & (REFUSE_RDB_ERROR | REFUSE_AOF_ERROR)) && ((flags & CMD_WRITE) || is_ping(cmd))) return disk_error(now);
    if ((now & REFUSE_FEW_REPLICAS) && (flags & CMD_WRITE)) return few_text;
    if ((now & REFUSE_READ_ONLY) && (flags & CMD_WRITE)) return read_only_text;
    if ((now & REFUSE_STALE) && !(cmd->flags & CMD_STALE)) return stale_text;
    if ((now & REFUSE_LOADING) && !(cmd->flags & CMD_LOADING)) return loading_text;
    if ((now & REFUSE_ASYNC_LOADING) && (flags & CMD_NO_ASYNC_LOADING)) return loading_text;
    if (now & REFUSE_ENDING) *ret_postpone = true;
    return NULL;
}

bool refusal_is_stale(void *srv) {
    return atomic_load_explicit(&((struct server *)srv)->refusals, memory_order_relaxed) & REFUSE_STALE;
}

const char *refusal_of_write(void *srv) {
    unsigned now = atomic_load_explicit(&((struct server *)srv)->refusals, memory_order_relaxed);
    if (now & REFUSE_READ_ONLY) return read_only_text;
    const char *why = disk_error(now);
    return !why && (now & REFUSE_FEW_REPLICAS) ? few_text : why;
}

#define APPLIED_LOG_US 10000000

/* Redis's rule: what the primary has done cannot be refused, so a replica that must not lose it ends instead. */
void refusal_check_applied(struct server *srv) {
    static _Atomic int64_t logged_us;
    unsigned now = atomic_load_explicit(&srv->refusals, memory_order_relaxed);
    if (__builtin_expect(!(now & (REFUSE_RDB_ERROR | REFUSE_AOF_ERROR)), 1)) return;
    if (!cfg_get(&srv->cfg->replica_ignore_disk_write_errors)) {
        log_warning("Replica was unable to write command to disk.");
        crash_panic();
    }
    int64_t us = clock_mono_us(), last = atomic_load(&logged_us);
    if (last && us - last < APPLIED_LOG_US) return;
    atomic_store(&logged_us, us);
    log_warning("Replica is applying a command even though it is unable to write to disk.");
}

void refusal_note_applied(struct server *srv, struct reply *r, const char *who, const char *whom, const char *command,
                          bool panics) {
    if (!r->last_error[0]) return;
    log_warning("== CRITICAL == This %s is sending an error to its %s: '%s' after processing the command '%s'", who, whom,
                r->last_error, command);
    atomic_fetch_add_explicit(&srv->stats.unexpected_errors, 1, memory_order_relaxed);
    r->last_error[0] = '\0';
    if (!panics) return;
    log_warning("This %s panicked sending an error to its %s after processing the command '%s'", who, whom, command);
    crash_panic();
}
