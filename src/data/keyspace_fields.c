/* Times of hash fields. Place in the flow: HEXPIRE and its relatives set them, ks_find and the cron take away what is due.
 * Thread: the holder of the shard's lock.
 *
 * Each database of a shard has a heap of the keys whose hash has fields with times, by the soonest of these. A hash knows its
 * place in it (hash_index_pos). The time there may be too early (its field was deleted or given another time since): whoever
 * comes by at that time puts it right. It is never too late: who makes a field's time earlier says ks_fields_changed.
 *
 * Invariant: a key is in the heap when its value is a hash that has a field with a time; it leaves before the value does. */
#include "data/keyspace_priv.h"

#include "base/alloc.h"
#include "base/buf.h"
#include "data/hash.h"

static void entry_moved(void *what, uint32_t at) {
    const struct entry *e = what;
    *hash_index_pos(entry_obj(e)) = at;
}

/* NULL when the value is no hash with times. */
static uint32_t *index_pos(const struct entry *e) {
    return entry_obj(e)->type == OBJ_HASH ? hash_index_pos(entry_obj(e)) : NULL;
}

void fields_detach(struct shard_db *sd, struct entry *e) {
    if (!sd->fields.n) return;
    const uint32_t *pos = index_pos(e);
    if (pos && *pos != TIMEHEAP_NONE) timeheap_remove(&sd->fields, *pos, entry_moved);
}

void fields_reindex(struct shard_db *sd, struct entry *e) {
    const uint32_t *pos = index_pos(e);
    if (!pos) return;
    int64_t soonest = hash_soonest(entry_obj(e));
    if (soonest == HASH_NO_TIME)
        fields_detach(sd, e);
    else if (*pos == TIMEHEAP_NONE)
        timeheap_add(&sd->fields, soonest, e, entry_moved);
    else
        timeheap_change(&sd->fields, *pos, soonest, entry_moved);
}

void ks_fields_changed(struct keyspace *ks, int db, struct entry *e) {
    int shard = ks_shard_of(ks, entry_key(e));
    KS_ASSERT_LOCKED(ks, shard);
    struct shard_db *sd = shard_db_get(ks, shard, db);
    fields_reindex(sd, e);
    shard_db_publish(sd);
}

/* ---- taking away ---- */

/* The names of what went, for the hook. */
struct gone_fields {
    bool wanted;
    struct buf bytes;
    struct slice *names; /* ptr: an offset into bytes until all are there */
    unsigned n, cap;
};

static void note_gone(void *arg, struct slice field) {
    struct gone_fields *g = arg;
    if (!g->wanted) return;
    if (g->n == g->cap) {
        g->cap = g->cap ? g->cap * 2 : 16;
        g->names = mem_realloc(g->names, g->cap * sizeof(*g->names));
    }
    g->names[g->n++] = (struct slice){ (const char *)(uintptr_t)g->bytes.len, field.len };
    buf_append(&g->bytes, field.ptr, field.len);
}

static void tell_gone(struct keyspace *ks, int db, struct slice key, struct gone_fields *g, bool is_key_gone) {
    if (g->wanted) {
        for (unsigned i = 0; i < g->n; i++) {
            uintptr_t at = (uintptr_t)g->names[i].ptr;
            g->names[i].ptr = g->names[i].len ? g->bytes.data + at : "";
        }
        ks->hooks.fields_expired(ks->hooks.arg, db, key, g->names, g->n, is_key_gone);
    }
    buf_done(&g->bytes);
    mem_free(g->names);
}

bool expire_fields(struct keyspace *ks, int shard, struct shard_db *sd, struct entry *e, int64_t now_ms, unsigned max,
                   unsigned *ret_n) {
    struct gone_fields g = { .wanted = ks->hooks.fields_expired != NULL };
    unsigned n = hash_expire(entry_obj(e), now_ms, max, note_gone, &g);
    bool is_key_gone = hash_len(entry_obj(e)) == 0;
    struct slice key = entry_key(e);
    *ret_n = n;
    if (is_key_gone)
        shard_db_unlink(sd, e, dict_hash(key));
    else
        fields_reindex(sd, e);
    if (n) {
        counter_add(&ks->shards[shard].expired_fields, n);
        watch_touch(ks, shard, sd->db, key);
        if (is_key_gone && !block_none(&ks->shards[shard])) block_signal(ks, shard, sd->db, key, true);
        tell_gone(ks, sd->db, key, &g, is_key_gone);
    }
    if (is_key_gone) entry_free(e);
    return is_key_gone;
}

bool expire_fields_lazily(struct keyspace *ks, int shard, struct shard_db *sd, struct entry *e, int64_t now_ms) {
    enum { MAX = 1000 }; /* who has more due at once leaves them to the cron: readers see none of them anyway */
    int64_t soonest = hash_soonest(entry_obj(e));
    unsigned n;
    if (soonest == HASH_NO_TIME || now_ms <= soonest || hash_due(entry_obj(e), now_ms, MAX + 1) > MAX) return false;
    return expire_fields(ks, shard, sd, e, now_ms, MAX, &n);
}

bool fields_have_due(const struct shard_db *sd, int64_t now_ms) {
    return sd->fields.n && now_ms > sd->fields.items[0].when_ms;
}

bool fields_all_due(const struct shard_db *sd, const struct entry *e, int64_t now_ms) {
    const struct obj *o = entry_obj(e);
    if (!fields_have_due(sd, now_ms) || o->type != OBJ_HASH) return false;
    int64_t soonest = hash_soonest(o);
    return soonest != HASH_NO_TIME && now_ms > soonest && hash_len_live(o, now_ms) == 0;
}

unsigned fields_expire_db(struct keyspace *ks, int shard, struct shard_db *sd, int64_t now_ms, unsigned max) {
    unsigned n = 0;
    while (n < max && fields_have_due(sd, now_ms)) {
        unsigned gone;
        expire_fields(ks, shard, sd, sd->fields.items[0].what, now_ms, max - n, &gone);
        n += gone ? gone : 1; /* a key whose place was out of date is work too */
    }
    return n;
}
