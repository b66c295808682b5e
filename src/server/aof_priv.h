/* Between the parts of the server's append-only file: aof_server.c, aof_load.c, aof_rewrite.c. */
#ifndef KETTLE_SERVER_AOF_PRIV_H
#define KETTLE_SERVER_AOF_PRIV_H

#include <pthread.h>
#include <stdatomic.h>

#include "net/conn.h"
#include "persist/aof_file.h"
#include "persist/aof_manifest.h"
#include "server/aof_server.h"
#include "server/server.h"

enum aof_state {
    AOF_OFF,
    AOF_ON,
    AOF_WAIT_REWRITE /* was turned on: gathers in a temporary increment until the first base is there */
};

struct aof {
    struct server *srv;
    struct aof_file *file;
    struct conn_gate gate;
    /* Who changes files or the state: one at a time, and who has it may wait for shards; nobody waits for it. */
    _Atomic bool busy;
    _Atomic int state;             /* enum aof_state; changed by who is busy */
    struct aof_manifest *manifest; /* by who is busy */
    _Atomic bool follow;           /* the configuration was changed where it could not be followed: the cron is to */
    _Atomic bool has_history;      /* files that aof-disable-auto-gc keeps */
    _Atomic bool replaced;         /* by aof_data_replaced: the cron is to begin anew */
    /* figures of rewrites; relaxed atomics */
    _Atomic bool scheduled;
    _Atomic int64_t rewrite_started_s, rewrite_last_s; /* -1: none */
    _Atomic bool rewrite_ok;
    _Atomic uint64_t rewrites, failures; /* failures: one after the other */
    _Atomic uint64_t last_cow;
    _Atomic int64_t base_size; /* bytes after the last rewrite, or at the start */
    int64_t retry_at_s;        /* thread 0: after failures, not before */
    unsigned retry_minutes;
    int64_t retry_write_us; /* thread 0 */
};

static inline enum aof_state aof_state_of(const struct aof *a) {
    return (enum aof_state)atomic_load_explicit(&((struct aof *)(uintptr_t)a)->state, memory_order_relaxed);
}

/* ---- aof_server.c ---- */
bool aof_try_busy(struct aof *a); /* false: somebody else is */
void aof_end_busy(struct aof *a);
char *aof_dir(struct server *srv);           /* appenddirname; the caller frees these */
char *aof_manifest_name(struct server *srv); /* appendfilename.manifest */
char *aof_file_path(struct server *srv, const char *name);
int aof_make_dir(struct server *srv);                                    /* 0 or -errno, logged */
int aof_save_manifest(struct server *srv, const struct aof_manifest *m); /* 0 or -errno, logged */
int64_t aof_size_of(struct server *srv, const char *name);               /* bytes, or -errno */
void aof_sink(struct aof *a, bool on); /* effects are appended from here on, or no more: all shards locked, or no threads yet */
int64_t aof_total_size(struct server *srv, const struct aof_manifest *m); /* bytes of base and increments; -errno: logged */

/* ---- aof_rewrite.c ---- */
/* Begins a rewrite; the caller is not busy and holds no shards. state: the one to go to when the child is under way (ON, OFF,
 * WAIT_REWRITE). 0; -EBUSY: a child is active or shards are not to be had; another -errno, logged. */
int aof_rewrite_begin(struct server *srv, enum aof_state state);
bool aof_rewrite_is_running(struct server *srv);
void aof_rewrite_kill(struct server *srv);                           /* its child, if that is what runs */
void aof_rewrite_cron(struct server *srv);                           /* thread 0: what was scheduled, and by size */
void aof_delete_history(struct server *srv, struct aof_manifest *m); /* busy; in the background where that may take long */
/* A base of what is in the keyspace now (nothing yet, at the start). 0 or -errno, logged. */
int aof_write_base(struct server *srv, const char *path);

#endif
