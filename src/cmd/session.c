/*
 * Session state that outlives a command: MULTI's queue, WATCH's keys. Owned by the connection's I/O thread. Watches live in the
 * shards' tables, so adding and removing them takes the shards' locks; the flag they set is an atomic of the session.
 */
#include "cmd/session.h"

#include <assert.h>
#include <string.h>

#include "base/alloc.h"
#include "cmd/acl.h"
#include "cmd/effects.h"

void session_init(struct session *s, struct obuf *out, uint64_t id) {
    memset(s, 0, sizeof *s);
    reply_init(&s->reply, out, 2);
    s->id = id;
    atomic_store_explicit(&s->resp, 2, memory_order_relaxed);
    atomic_store_explicit(&s->multi_count, -1, memory_order_relaxed);
    s->user = mem_strdup("default");
    s->acl_free = true;
    s->effects_to = EFFECT_ALL;
}

void session_ghost(struct session *ghost, const struct session *s, struct obuf *out) {
    int resp = atomic_load_explicit(&s->resp, memory_order_relaxed);
    memset(ghost, 0, sizeof *ghost);
    reply_init(&ghost->reply, out, resp);
    ghost->reply.muted = s->reply.muted;
    ghost->id = s->id;
    atomic_store_explicit(&ghost->db, atomic_load_explicit(&s->db, memory_order_relaxed), memory_order_relaxed);
    atomic_store_explicit(&ghost->resp, resp, memory_order_relaxed);
    atomic_store_explicit(&ghost->multi_count, -1, memory_order_relaxed);
    ghost->authenticated = s->authenticated;
    ghost->user = s->user;
    ghost->no_touch = s->no_touch;
    ghost->no_evict = s->no_evict;
    ghost->tracks_reads = s->tracks_reads;
    ghost->caching = s->caching;
    ghost->effects_to = s->effects_to;
    ghost->owner = s->owner;
    ghost->home = s->home;
}

/* CLIENT REPLY: what the command before decided takes effect on this one, and SKIP ends after one. */
void session_advance_reply_mode(struct session *s) {
    if (s->reply_mode == REPLY_SKIP_THIS) s->reply_mode = REPLY_ON;
    if (s->reply_mode == REPLY_SKIP_NEXT) s->reply_mode = REPLY_SKIP_THIS;
    s->reply.muted = s->reply_mode == REPLY_OFF || s->reply_mode == REPLY_SKIP_THIS;
}

void session_set_resp(struct session *s, int resp) {
    s->reply.resp = resp;
    atomic_store_explicit(&s->resp, resp, memory_order_relaxed);
}

void session_unwatch_locked(struct session *s, struct keyspace *ks, uint64_t held) {
    (void)held; /* asserted by ks_watch_remove */
    for (int i = 0; i < s->n_watches; i++) {
        ks_watch_remove(ks, s->watches[i]);
        mem_free(s->watches[i]->key);
        mem_free(s->watches[i]);
    }
    mem_free(s->watches);
    s->watches = NULL;
    s->n_watches = s->watches_cap = 0;
    atomic_store_explicit(&s->watch_count, 0, memory_order_relaxed);
    atomic_store(&s->dirty_cas, false);
}

uint64_t session_watch_shards(const struct session *s, const struct keyspace *ks) {
    uint64_t mask = 0;
    for (int i = 0; i < s->n_watches; i++)
        mask |= 1ULL << ks_shard_of(ks, (struct slice){ s->watches[i]->key, s->watches[i]->key_len });
    return mask;
}

static void queue_drop(struct session *s) {
    for (int i = 0; i < s->queue_len; i++) mem_free(s->queue[i].argv);
    mem_free(s->queue);
    s->queue = NULL;
    s->queue_len = s->queue_cap = 0;
    s->queue_bytes = 0;
    s->queue_shards = 0;
    s->queue_flags = 0;
}

void session_end_multi(struct session *s) {
    queue_drop(s);
    s->in_multi = s->multi_abort = false;
    atomic_store_explicit(&s->multi_count, -1, memory_order_relaxed);
}

bool session_unwatch(struct session *s, struct keyspace *ks) {
    uint64_t mask = session_watch_shards(s, ks);
    if (mask && !ks_lock_unless_held(ks, mask)) return false;
    session_unwatch_locked(s, ks, mask);
    if (mask) ks_unlock(ks, mask);
    return true;
}

bool session_discard(struct session *s, struct keyspace *ks) {
    if (!session_unwatch(s, ks)) return false;
    session_end_multi(s);
    return true;
}

void session_done(struct session *s, struct keyspace *ks) {
    assert(!s->waiter);
    uint64_t mask = session_watch_shards(s, ks);
    if (mask) ks_lock(ks, mask);
    session_unwatch_locked(s, ks, mask);
    if (mask) ks_unlock(ks, mask);
    session_end_multi(s);
    acl_logout(s);
    mem_free(s->user);
    s->user = NULL;
}

/* One block: the argv array, then the bytes. */
void session_queue(struct session *s, struct cmd *cmd, int argc, const struct slice *argv) {
    size_t bytes = sizeof(struct slice) * (size_t)argc;
    for (int i = 0; i < argc; i++) bytes += argv[i].len;
    struct slice *copy = mem_alloc(bytes);
    char *p = (char *)(copy + argc);
    for (int i = 0; i < argc; i++) {
        if (argv[i].len) memcpy(p, argv[i].ptr, argv[i].len);
        copy[i] = (struct slice){ p, argv[i].len };
        p += argv[i].len;
    }
    if (s->queue_len == s->queue_cap) {
        s->queue_cap = s->queue_cap ? s->queue_cap * 2 : 4;
        s->queue = mem_realloc(s->queue, sizeof(*s->queue) * (size_t)s->queue_cap);
    }
    s->queue[s->queue_len++] = (struct queued_cmd){ cmd, argc, copy };
    s->queue_bytes += bytes + sizeof(struct queued_cmd);
    s->queue_flags |= cmd->flags;
    atomic_store_explicit(&s->multi_count, s->queue_len, memory_order_relaxed);
}

bool session_watch_key(struct session *s, struct keyspace *ks, int db, struct slice key, int64_t now_ms) {
    for (int i = 0; i < s->n_watches; i++) {
        const struct ks_watch *w = s->watches[i];
        if (w->db == db && slice_eq((struct slice){ w->key, w->key_len }, key)) return false;
    }
    struct ks_watch *w = mem_zalloc(sizeof *w);
    list_init(&w->node);
    w->dirty = &s->dirty_cas;
    w->db = db;
    w->key = mem_memdup0(key.ptr, key.len);
    w->key_len = key.len;
    if (s->n_watches == s->watches_cap) {
        s->watches_cap = s->watches_cap ? s->watches_cap * 2 : 4;
        s->watches = mem_realloc(s->watches, sizeof(struct ks_watch *) * (size_t)s->watches_cap);
    }
    s->watches[s->n_watches++] = w;
    atomic_store_explicit(&s->watch_count, s->n_watches, memory_order_relaxed);
    ks_watch_add(ks, w, now_ms);
    return true;
}
