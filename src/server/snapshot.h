/* RDB snapshots: SAVE, BGSAVE, save points, the file loaded at start-up. */
#ifndef KETTLE_SERVER_SNAPSHOT_H
#define KETTLE_SERVER_SNAPSHOT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "persist/rdb_file.h"

struct buf;
struct propagate_point;
struct server;
struct snapshot;

struct snapshot *snapshot_new(void);
struct snapshot *snapshot_free(struct snapshot *s);

/* What a file says of the server; ret points into static memory and into scratch. pt: where the logs are, all shards locked. In a
 * child it takes no lock. */
struct rdb_info_scratch {
    char repl_id[41];
};
void snapshot_info(struct server *srv, const struct propagate_point *pt, struct rdb_file_info *ret,
                   struct rdb_info_scratch *scratch);
/* rdbcompression, rdbchecksum, rdb-save-incremental-fsync. */
void snapshot_opts(struct server *srv, struct rdb_save_opts *ret);

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
/* Reads the file into the keyspace, to what is there. locked: all shards are, by the caller. 0; -ENOENT: there is none; negative,
 * logged. */
int snapshot_load(struct server *srv, const char *path, const struct rdb_load_opts *o, bool locked);

void snapshot_info_append(struct server *srv, struct buf *out); /* INFO persistence's lines of loading and RDB */
int64_t snapshot_last_save_s(const struct server *srv);

#endif
