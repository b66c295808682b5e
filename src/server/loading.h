/* The data set is being read: from files at start-up, or from a primary. Meanwhile commands get -LOADING (all but those that are
 * allowed), and thread 0's cron leaves the keyspace alone.
 *
 * At start-up a thread of its own reads, while the I/O threads serve already. With `io-threads 1` shard locks are in name only:
 * nobody but who loads may touch the dicts then, which is just what LOADING means. */
#ifndef KETTLE_SERVER_LOADING_H
#define KETTLE_SERVER_LOADING_H

#include <stdbool.h>
#include <stdint.h>

#include "base/log.h"

struct server;
struct loading;

#define PROGRESS_LOG_US 5000000 /* what takes longer says in the log how far it is: loading, and saving (snapshot.h) */

struct loading *loading_new(void);
struct loading *loading_free(struct loading *l);

/* Any thread; one load at a time. is_async: the old data is served meanwhile (diskless load of a replica). total: bytes, 0:
 * unknown. */
void loading_begin(struct server *srv, uint64_t total, bool is_async);
void loading_set_total(struct server *srv, uint64_t total);
/* So many bytes of it all have been read; keys: of this file. Says so in the log every few seconds. False: stop, the server ends.
 */
bool loading_progress(struct server *srv, uint64_t bytes, uint64_t keys);
void loading_end(struct server *srv);
bool loading_is_on(const struct server *srv);       /* LOADING: the live data set is being read; any thread */
bool loading_is_on_async(const struct server *srv); /* any thread */
void loading_cancel(struct server *srv);            /* the next loading_progress says stop. Any thread */

/* rdb_load_opts.n_threads: as many as serve clients, but two at least, and no more than there are processors. */
unsigned loading_threads(const struct server *srv);
/* rdb_load_opts' functions, with the server as arg. */
bool loading_rdb_progress(void *srv, uint64_t bytes, uint64_t keys);
void loading_rdb_note(void *srv, enum log_level level, const char *text);

/* Start-up, before the I/O threads run: reads the append-only file or the RDB file in a thread of its own, if there is one; then
 * `ready` on thread 0. A file that cannot be read ends the server with status 1. */
void loading_start(struct server *srv, void (*ready)(struct server *srv));
void loading_join(struct server *srv); /* the server has ended: so does the thread */

struct loading_figures {
    bool on, async;
    int64_t start_s;
    uint64_t total, loaded, rdb_used_mem;
    int64_t eta_s;
};
void loading_figures_get(const struct server *srv, struct loading_figures *ret); /* any thread */
void loading_set_used_mem(struct server *srv, uint64_t bytes);                   /* as the file says it was */

#endif
