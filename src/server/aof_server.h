/* The append-only file of a server: loading it, appending to it, rewriting it. What is on the disk is persist/aof_manifest.h's,
 * what is being written persist/aof_file.h's; how they hang together with clients, configuration and children is here.
 *
 *   start     aof_load (the loader's thread), aof_start
 *   commands  effects -> propagate.c -> aof_file; replies wait in conn.h's gate (appendfsync always) or for write(2) (else)
 *   rewrite   aof_rewrite.c: new increment, fork, new base, manifest switched, history deleted
 *
 * Threads: docs/THREADS.md. */
#ifndef KETTLE_SERVER_AOF_SERVER_H
#define KETTLE_SERVER_AOF_SERVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct aof;
struct buf;
struct conn_gate;
struct cmd_ctx;
struct cmd;
struct io_thread;
struct server;

/* ---- start and end: main thread, or the loader's ---- */
struct aof *aof_new(struct server *srv); /* before the I/O threads are made; nothing is opened */
/* The I/O threads have ended, their loops are still there: everything is written and synced, thread "aof" ends. */
void aof_end(struct aof *a);
struct aof *aof_free(struct aof *a);
struct conn_gate *aof_gate(struct aof *a); /* for every thread's connections */
enum aof_loaded { AOF_LOADED = 0, AOF_NOTHING, AOF_LOAD_FAILED };
/* The data set of the configured manifest, or of an old-style file, which is moved into the directory first. `slot`: the calling
 * thread's. NOTHING: there is none, or it is empty. FAILED: logged, and the process must not go on. */
enum aof_loaded aof_load(struct server *srv, unsigned slot);
/* Start-up with appendonly yes: both. 0 or negative, logged. */
int aof_load_at_start(struct server *srv, unsigned slot);
/* appendonly yes: opens the files for appending, makes those that are missing. 0 or -errno, logged. After aof_load. */
int aof_start(struct server *srv);
/* SHUTDOWN, all shards locked: everything is written and synced. False: it must not end (the first base is not there yet). */
bool aof_prepare_exit(struct server *srv, bool is_forced);

/* ---- running ---- */
void aof_before_sleep(struct io_thread *th); /* before its replies are sent */
/* True: replies must not be sent before aof_before_sleep. Cheap; any I/O thread. */
bool aof_holds_replies(const struct server *srv);
void aof_cron(struct server *srv); /* thread 0 */
/* Another data set is in place, and no effect of a command's: what was logged so far is not what it is made of. Begins anew, as
 * if it were turned off and on. Any thread. */
void aof_data_replaced(struct server *srv);
/* CONFIG SET has changed something: takes shards, so not under config_set_lock. False: appendonly could not be turned on, and is
 * off again. in_exec: it is put off to the cron. */
bool aof_follow_config(struct server *srv, bool in_exec);
void aof_apply_config(struct server *srv); /* appendfsync, aof-timestamp-enabled: no locks taken */

/* ---- commands ---- */
void bgrewriteaof_command(struct cmd_ctx *c);
void debug_loadaof(struct cmd_ctx *c);

/* ---- figures ---- */
bool aof_is_on(const struct aof *a);                /* appendonly yes */
void aof_info(struct server *srv, struct buf *out); /* INFO persistence: its lines */
void aof_reset_stats(struct server *srv);           /* CONFIG RESETSTAT */
size_t aof_buffer_bytes(const struct server *srv);  /* of used memory, for maxmemory; cheap */
/* Bytes appended since the start that are on the disk: session.aof_offset is safe when this is as much. */
uint64_t aof_fsynced_offset(struct aof *a);
/* A replica has applied its primary's stream up to this offset. Its own thread. */
void aof_note_repl(struct aof *a, uint64_t repl_offset);
uint64_t aof_fsynced_repl_offset(struct aof *a); /* what is on the disk of that */

#endif
