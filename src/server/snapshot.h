/* RDB snapshots: SAVE, BGSAVE, save points, the file loaded at start-up. */
#ifndef KETTLE_SERVER_SNAPSHOT_H
#define KETTLE_SERVER_SNAPSHOT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "persist/rdb_file.h"
#include "server/child.h"

struct buf;
struct propagate_point;
struct server;
struct snapshot;

struct snapshot *snapshot_new(void);
struct snapshot *snapshot_free(struct snapshot *s);

/* What a file says of the server, but for replication; takes no lock, so a child may call it. */
void snapshot_info(struct server *srv, struct rdb_file_info *ret);
/* And of replication, where there is a backlog: all shards locked, in the parent. id: room that lives as long as ret is used. */
void snapshot_repl_info(struct server *srv, const struct propagate_point *pt, struct rdb_file_info *ret, char id[41]);
/* rdbcompression, rdbchecksum, rdb-save-incremental-fsync. */
void snapshot_opts(struct server *srv, struct rdb_save_opts *ret);

char *snapshot_path(struct server *srv); /* dbfilename, in the working directory; owned by the caller. Not in a child */

/* How far the writing is: for INFO, and for the log when it takes long. In a child, or with all shards locked. */
struct saving {
    struct server *srv;
    bool in_child;
    uint64_t total; /* keys */
    int64_t began_us, logged_us;
};
/* rdb_file_write's, with *ret as its arg: all of the above from now on, and rdb-key-save-delay. */
struct rdb_progress snapshot_progress(struct saving *ret, struct server *srv);

/* ---- for whoever forks a child that writes the file (a full synchronisation by way of the disk) ---- */

void snapshot_forked(struct server *srv); /* child_opts.forked: in the parent, under the locks */
/* child_opts.run: into the file at path, with progress; 0, or the child's exit status. */
int snapshot_write_in_child(struct server *srv, const char *path, const struct rdb_file_info *info,
                            const struct rdb_save_opts *o);
void snapshot_ended(struct server *srv, const char *path, int pid, int status); /* child_opts.done: as BGSAVE's end */

/* ---- for whoever forks a child that writes to replicas: a save like others for INFO, but for what is on the disk ---- */

void snapshot_transfer_forked(struct server *srv); /* as snapshot_forked */
void snapshot_transfer_ended(struct server *srv, enum child_kind kind);

/* SAVE: the file is written by the caller, who holds all shards. False: failed, logged. */
bool snapshot_save(struct server *srv);
/* BGSAVE. locked: the caller holds all shards. 0, or -errno as child_start; logged. */
int snapshot_bgsave(struct server *srv, bool locked);
void snapshot_schedule(struct server *srv); /* as soon as no child is active */
void snapshot_cron(struct server *srv);     /* thread 0: save points, what is scheduled */
bool snapshot_has_save_points(const struct server *srv);
void snapshot_config_changed(struct server *srv); /* stop-writes-on-bgsave-error, save */
/* FLUSHALL, all shards locked: with save points the file is to be empty too. */
void snapshot_flushed(void *srv); /* engine_hooks.emptied */

/* Start-up: whether there is a file; and reads it, on the loader's thread, loading_begin done. 0 or negative, logged. */
bool snapshot_is_there(struct server *srv);
int snapshot_load_at_start(struct server *srv);
/* Reads the file into the keyspace, to what is there. o->arg: the server. locked: all shards are, by the caller. 0; -ENOENT:
 * there is none; negative, logged. */
int snapshot_load(struct server *srv, const char *path, const struct rdb_load_opts *o, bool locked);
/* What the last file that was loaded said of itself (replication's facts). Thread 0, or who has loaded it. */
const struct rdb_file_found *snapshot_found(const struct server *srv);

void snapshot_info_append(struct server *srv, struct buf *out); /* INFO persistence's lines of loading and RDB */
int64_t snapshot_last_save_s(const struct server *srv);

#endif
