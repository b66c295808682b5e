/* The forked child: a copy of the process that has the data set as it was at one moment, and all the time it wants to write it
 * down. At most one at a time.
 *
 * What a child may do (docs/THREADS.md): only the thread that forked lives in it, and whatever lock another thread had then is
 * taken for ever. All shard locks were held by this one, and memory (jemalloc), the log and stdio see to themselves; nothing else
 * may be locked: what is needed of the configuration is read before the fork. Descriptors are closed, but for the standard ones
 * and those the caller names: a client's connection must end when the parent closes it. It ends by _exit. */
#ifndef KETTLE_SERVER_CHILD_H
#define KETTLE_SERVER_CHILD_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct server;
struct children;
struct propagate_point;
struct buf;

enum child_kind { CHILD_NONE = 0, CHILD_RDB, CHILD_AOF, CHILD_REPL };

struct child_opts {
    enum child_kind kind;
    bool locked;         /* the caller holds all shards; else they are taken here, and released before this returns */
    const int *keep_fds; /* stay open in the child, besides 0, 1, 2 */
    int n_keep_fds;
    /* In the parent, under the locks, right before the fork: what the child must not lock for is read here. May be NULL. */
    void (*prepare)(void *arg, const struct propagate_point *pt);
    /* In the child. pt: where both logs were when it was forked. What it returns is its exit status (0: well). */
    int (*run)(void *arg, const struct propagate_point *pt);
    /* In the parent, right after the fork, still under the locks; may be NULL. */
    void (*forked)(void *arg, const struct propagate_point *pt);
    /* In the parent, on thread 0, once it has ended: waitpid's status. `collected` while it still counts as active, so that no
     * SAVE has replaced the file it has written; it starts no child. May be NULL. `done` when it is not active any more. */
    void (*collected)(void *arg, int status);
    void (*done)(void *arg, int pid, int status);
    void *arg;
};

struct children *children_new(void);
struct children *children_free(struct children *ch);
/* Its pid, or -EEXIST (there is one), -EBUSY (a script holds the shards for long), or -errno of fork, logged. Any I/O thread that
 * holds no lock but, with o->locked, all shards. */
pid_t child_start(struct server *srv, const struct child_opts *o);
bool child_is_active(const struct server *srv); /* any thread, also inside the child: of its parent then */
enum child_kind child_kind_now(const struct server *srv);
static inline bool child_is_saving(const struct server *srv) { /* an RDB, to a file or to replicas; any thread */
    enum child_kind kind = child_kind_now(srv);
    return kind == CHILD_RDB || kind == CHILD_REPL;
}
pid_t child_pid(const struct server *srv); /* any thread; 0: none runs */
/* Ends it, without its work; `done` is called in here when this is thread 0, else soon. SHUTDOWN, FLUSHALL, REPLICAOF. Nothing
 * when there is none, or its kind is another one than `kind` (CHILD_NONE: any). */
void child_kill(struct server *srv, enum child_kind kind);
void child_cron(struct server *srv); /* thread 0: collects it */
bool child_was_killed(int status);   /* by child_kill, or SIGUSR1: no failure */

/* ---- in the child ---- */
void child_note_keys(struct server *srv, uint64_t done);  /* now and then: how far it is; also measures what was copied */
void child_log_cow(struct server *srv, const char *what); /* at the end: what was copied, for the log */
bool child_is_self(const struct server *srv);             /* this process is a child */
bool child_is_orphan(const struct server *srv);           /* the parent is gone: what is written is not wanted */

/* ---- figures; any thread ---- */
struct child_figures {
    uint64_t forks, fork_usec;              /* the latest one's duration */
    uint64_t cow_size, cow_peak, cow_age_s; /* bytes copied on write by the child that runs */
    uint64_t keys_done, keys_total;
    uint64_t last_cow[CHILD_REPL + 1]; /* by kind, of the latest that ended */
};
void child_figures_get(const struct server *srv, struct child_figures *ret);
void child_figures_reset(struct server *srv); /* CONFIG RESETSTAT */

#endif
