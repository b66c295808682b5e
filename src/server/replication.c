/*
 * Replication: the identity of the stream. See replication.h.
 */
#include "server/replication.h"

#include <string.h>

#include "base/alloc.h"
#include "base/log.h"
#include "base/rand.h"
#include "server/aof_server.h"
#include "server/propagate.h"
#include "server/replica.h"
#include "server/server.h"

bool repl_has_persistence(struct server *srv) {
    return aof_is_on(srv->aof) || cfg_get(&srv->cfg->n_save);
}

static void no_id(char *id) {
    memset(id, '0', REPL_ID_LEN);
    id[REPL_ID_LEN] = '\0';
}

struct repl *repl_new(struct server *srv) {
    struct repl *r = mem_zalloc(sizeof *r);
    r->srv = srv;
    pthread_mutex_init(&r->lock, NULL);
    r->backlog = backlog_new((uint64_t)cfg_get(&srv->cfg->repl_backlog_size));
    rand_hex_id(r->id, REPL_ID_LEN);
    no_id(r->id2);
    r->second_offset = -1;
    list_init(&r->replicas);
    list_init(&r->waiting);
    return r;
}

struct repl *repl_free(struct repl *r) {
    if (!r) return NULL;
    r->backlog = backlog_free(r->backlog);
    mem_free(r->failover.host);
    mem_free(r->sync_file.path);
    pthread_mutex_destroy(&r->lock);
    mem_free(r);
    return NULL;
}

void repl_change_id(struct repl *r) {
    pthread_mutex_lock(&r->lock);
    rand_hex_id(r->id, REPL_ID_LEN);
    pthread_mutex_unlock(&r->lock);
}

void repl_clear_id2(struct repl *r) {
    pthread_mutex_lock(&r->lock);
    no_id(r->id2);
    r->second_offset = -1;
    pthread_mutex_unlock(&r->lock);
}

/* The byte that the new history begins with is asked for under the old id too: its replicas have all that came before. */
void repl_shift_id(struct repl *r) {
    char old[REPL_ID_LEN + 1], fresh[REPL_ID_LEN + 1];
    int64_t second = (int64_t)repl_offset(r) + 1;
    pthread_mutex_lock(&r->lock);
    memcpy(old, r->id, sizeof old);
    memcpy(r->id2, r->id, sizeof old);
    r->second_offset = second;
    rand_hex_id(r->id, REPL_ID_LEN);
    memcpy(fresh, r->id, sizeof fresh);
    pthread_mutex_unlock(&r->lock);
    log_notice("Setting secondary replication ID to %s, valid up to offset: %lld. New replication ID is %s", old,
               (long long)second, fresh);
}

void repl_set_id(struct repl *r, const char *id) {
    pthread_mutex_lock(&r->lock);
    memcpy(r->id, id, REPL_ID_LEN);
    pthread_mutex_unlock(&r->lock);
}

void repl_copy_ids(struct repl *r, char id[REPL_ID_LEN + 1], char id2[REPL_ID_LEN + 1], int64_t *ret_second_offset) {
    pthread_mutex_lock(&r->lock);
    memcpy(id, r->id, REPL_ID_LEN + 1);
    memcpy(id2, r->id2, REPL_ID_LEN + 1);
    *ret_second_offset = r->second_offset;
    pthread_mutex_unlock(&r->lock);
}

/* ---- the log's end ---- */

static uint64_t sink_append(void *arg, const struct slice *pieces, int n) {
    struct repl *r = arg;
    uint64_t end = 0;
    for (int i = 0; i < n; i++) end = backlog_append(r->backlog, pieces[i].ptr, pieces[i].len);
    return end;
}

static uint64_t sink_offset(void *arg) {
    return repl_offset(arg);
}

static void sink_wake(void *arg) {
    repl_wake(arg);
}

void repl_update_sink(struct repl *r) {
    struct propagate_sink sink = { .append = sink_append, .offset = sink_offset, .wake = sink_wake, .arg = r };
    bool on = backlog_is_open(r->backlog) && !repl_is_replica(r);
    propagate_set_sink(r->srv, EFFECT_REPL, on ? &sink : NULL);
}

void repl_begin_history(struct repl *r) {
    char id[REPL_ID_LEN + 1], id2[REPL_ID_LEN + 1];
    int64_t second;
    if (backlog_is_open(r->backlog)) return;
    repl_change_id(r);
    repl_clear_id2(r);
    backlog_open(r->backlog);
    repl_update_sink(r);
    repl_copy_ids(r, id, id2, &second);
    log_notice("Replication backlog created, my new replication IDs are '%s' and '%s'", id, id2);
}
