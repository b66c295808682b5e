/* Streams in RDB format. See rdb.h. Thread: as rdb_save.c and rdb_load.c. */
#include <string.h>

#include "base/alloc.h"
#include "data/listpack.h"
#include "data/rdb_priv.h"

#define ID_BYTES 16 /* big endian, so that they sort as bytes */

/* ---- saving ---- */

static void id_bytes(unsigned char *out, struct stream_id id) {
    for (int i = 0; i < 8; i++) {
        out[i] = (unsigned char)(id.ms >> 8 * (7 - i));
        out[8 + i] = (unsigned char)(id.seq >> 8 * (7 - i));
    }
}

static void put_raw_id(struct rdb_out *out, struct stream_id id) {
    unsigned char b[ID_BYTES];
    id_bytes(b, id);
    rdb_put(out, b, sizeof b);
}

static void put_id(struct rdb_out *out, struct stream_id id) {
    rdb_put_len(out, id.ms);
    rdb_put_len(out, id.seq);
}

static void save_consumer(struct rdb_out *out, const struct stream_consumer *c, enum rdb_type type) {
    rdb_put_string(out, (struct slice){ c->name, c->name_len });
    rdb_put_u64(out, (uint64_t)c->seen_ms);
    if (type == RDB_STREAM_3) rdb_put_u64(out, (uint64_t)c->active_ms);
    rdb_put_len(out, idmap_size(&c->pel));
    struct idmap_it it;
    for (bool there = idmap_first(&c->pel, &it); there; there = idmap_next(&it)) put_raw_id(out, idmap_it_id(&it));
}

static void save_group(struct rdb_out *out, const struct stream_group *g, enum rdb_type type) {
    rdb_put_string(out, (struct slice){ g->name, g->name_len });
    put_id(out, g->last_id);
    rdb_put_len(out, (uint64_t)g->entries_read);
    rdb_put_len(out, idmap_size(&g->pel));
    struct idmap_it it;
    for (bool there = idmap_first(&g->pel, &it); there; there = idmap_next(&it)) {
        const struct stream_nack *n = idmap_it_value(&it);
        put_raw_id(out, idmap_it_id(&it));
        rdb_put_u64(out, (uint64_t)n->delivery_ms);
        rdb_put_len(out, n->delivery_count);
    }
    rdb_put_len(out, g->n_consumers);
    for (size_t i = 0; i < g->n_consumers; i++) save_consumer(out, g->consumers[i], type);
}

void rdb_save_stream(struct rdb_out *out, const struct stream *s, enum rdb_type type) {
    struct idmap_it it;
    rdb_put_len(out, idmap_size(&s->nodes));
    for (bool there = idmap_first(&s->nodes, &it); there; there = idmap_next(&it)) {
        unsigned char b[ID_BYTES];
        const unsigned char *lp = idmap_it_value(&it);
        id_bytes(b, idmap_it_id(&it));
        rdb_put_blob(out, b, sizeof b);
        rdb_put_blob(out, lp, lp_bytes(lp));
    }
    rdb_put_len(out, s->length);
    put_id(out, s->last_id);
    put_id(out, s->first_id);
    put_id(out, s->max_deleted_id);
    rdb_put_len(out, s->entries_added);
    rdb_put_len(out, s->n_groups);
    for (size_t i = 0; i < s->n_groups; i++) save_group(out, s->groups[i], type);
}

/* ---- loading ---- */

static struct stream_id id_of(const unsigned char *b) {
    struct stream_id id = { 0, 0 };
    for (int i = 0; i < 8; i++) {
        id.ms = id.ms << 8 | b[i];
        id.seq = id.seq << 8 | b[8 + i];
    }
    return id;
}

static struct stream_id get_raw_id(struct rdb_in *in) {
    unsigned char b[ID_BYTES];
    rdb_get(in, b, sizeof b);
    return id_of(b);
}

static struct stream_id get_id(struct rdb_in *in) {
    struct stream_id id;
    id.ms = rdb_get_len(in, NULL);
    id.seq = rdb_get_len(in, NULL);
    return id;
}

static bool load_node(struct rdb_in *in, struct stream *s, uint64_t *entries) {
    char *key, *lp;
    size_t key_len, len;
    if (!rdb_get_string(in, &key, &key_len)) return false;
    struct stream_id master = key_len == ID_BYTES ? id_of((const unsigned char *)key) : STREAM_ID_MIN;
    mem_free(key);
    if (key_len != ID_BYTES) return rdb_fail(in, "a stream node's ID is no ID");
    if (!rdb_get_string(in, &lp, &len)) return false;
    uint64_t n;
    unsigned char *node = (unsigned char *)lp;
    if (stream_node_is_valid(node, len, &n) && stream_load_node(s, master, node)) {
        *entries += n;
        return true;
    }
    mem_free(lp);
    return rdb_fail(in, "a stream node is not valid");
}

static bool load_nodes(struct rdb_in *in, struct stream *s) {
    uint64_t entries = 0, n = rdb_get_len(in, NULL);
    for (; n > 0 && !in->err; n--)
        if (!load_node(in, s, &entries)) return false;
    s->length = rdb_get_len(in, NULL);
    if (s->length != entries) return rdb_fail(in, "a stream's length is not that of its nodes");
    return !in->err;
}

static bool load_pel(struct rdb_in *in, struct stream_group *g) {
    for (uint64_t n = rdb_get_len(in, NULL); n > 0 && !in->err; n--) {
        struct stream_id id = get_raw_id(in);
        uint64_t ms = rdb_get_u64(in), count = rdb_get_len(in, NULL);
        if (in->err) return false;
        if (stream_nack_find(g, id)) return rdb_fail(in, "an entry is pending twice");
        struct stream_nack *nack = stream_nack_add(g, NULL, id);
        nack->delivery_ms = (int64_t)ms;
        nack->delivery_count = count;
    }
    return !in->err;
}

static bool load_consumer(struct rdb_in *in, struct stream_group *g, unsigned type) {
    char *name;
    size_t len;
    if (!rdb_get_string(in, &name, &len)) return false;
    int64_t seen_ms = (int64_t)rdb_get_u64(in), active_ms = type == RDB_STREAM_3 ? (int64_t)rdb_get_u64(in) : seen_ms;
    struct stream_consumer *c = stream_consumer_create(g, (struct slice){ name, len }, seen_ms);
    mem_free(name);
    if (!c) return rdb_fail(in, "a consumer is there twice");
    c->active_ms = active_ms;
    for (uint64_t n = rdb_get_len(in, NULL); n > 0 && !in->err; n--) {
        struct stream_id id = get_raw_id(in);
        struct stream_nack *nack = in->err ? NULL : stream_nack_find(g, id);
        if (!nack || nack->consumer) return rdb_fail(in, "a consumer's pending entry is not its group's");
        stream_nack_move(nack, c, id);
    }
    return !in->err;
}

static bool load_group(struct rdb_in *in, struct stream *s, unsigned type) {
    char *name;
    size_t len;
    if (!rdb_get_string(in, &name, &len)) return false;
    struct stream_id last = get_id(in);
    int64_t read = type == RDB_STREAM ? STREAM_ENTRIES_READ_UNKNOWN : (int64_t)rdb_get_len(in, NULL);
    struct stream_group *g = in->err ? NULL : stream_group_create(s, (struct slice){ name, len }, last, read);
    mem_free(name);
    if (!g) return rdb_fail(in, "a consumer group is there twice");
    if (type == RDB_STREAM) g->entries_read = stream_entries_up_to(s, last);
    if (!load_pel(in, g)) return false;
    uint64_t owned = 0;
    for (uint64_t n = rdb_get_len(in, NULL); n > 0 && !in->err; n--)
        if (!load_consumer(in, g, type)) return false;
    for (size_t i = 0; i < g->n_consumers; i++) owned += idmap_size(&g->consumers[i]->pel);
    if (owned != idmap_size(&g->pel)) return rdb_fail(in, "a pending entry is no consumer's");
    return !in->err;
}

struct obj *rdb_load_stream(struct rdb_in *in, unsigned type) {
    struct obj *o = stream_obj_new();
    struct stream *s = o->u.ptr;
    bool ok = load_nodes(in, s);
    s->last_id = get_id(in);
    if (type == RDB_STREAM) {
        s->first_id = ok ? stream_edge_id(s, true) : STREAM_ID_MIN;
        s->entries_added = s->length;
    } else {
        s->first_id = get_id(in);
        s->max_deleted_id = get_id(in);
        s->entries_added = rdb_get_len(in, NULL);
    }
    ok = ok && !in->err;
    if (ok && s->length && stream_id_cmp(s->last_id, stream_edge_id(s, false)) < 0)
        ok = rdb_fail(in, "a stream's last ID is below its last entry's");
    for (uint64_t n = ok ? rdb_get_len(in, NULL) : 0; n > 0 && ok; n--) ok = load_group(in, s, type);
    return ok && !in->err ? o : obj_unref(o);
}
