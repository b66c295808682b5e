/* Consumer groups, and what a stream must do as a value: copying, freeing, counting. See stream.h. Place in the flow: under the
 * stream commands. Thread: the holder of the shard's lock; destroy may run on the lazyfree thread.
 *
 * Invariant: a pending entry's record is in the group's map, which owns it, and in the map of exactly the consumer it names. */
#include "data/stream.h"

#include <string.h>

#include "base/alloc.h"
#include "data/listpack.h"

/* ---- names in order ---- */

/* Groups and consumers begin with their name: one search for both. */
struct named {
    char *name;
    size_t name_len;
};

static size_t name_place(void *const *items, size_t n, struct slice name, bool *ret_found) {
    size_t lo = 0, hi = n;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        const struct named *it = items[mid];
        if (slice_cmp((struct slice){ it->name, it->name_len }, name) < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    const struct named *it = lo < n ? items[lo] : NULL;
    *ret_found = it && slice_cmp((struct slice){ it->name, it->name_len }, name) == 0;
    return lo;
}

static void *name_find(void *const *items, size_t n, struct slice name) {
    bool found;
    size_t at = name_place(items, n, name, &found);
    return found ? items[at] : NULL;
}

/* A zeroed item of `size` bytes with that name in its place; NULL when there is one. */
static void *name_add(void ***items, size_t *n, size_t *cap, struct slice name, size_t size) {
    bool found;
    size_t at = name_place(*items, *n, name, &found);
    if (found) return NULL;
    if (*n == *cap) {
        *cap = *cap ? *cap * 2 : 2;
        *items = mem_realloc(*items, *cap * sizeof **items);
    }
    memmove(*items + at + 1, *items + at, (*n - at) * sizeof **items);
    struct named *it = mem_zalloc(size);
    it->name = mem_memdup0(name.ptr, name.len);
    it->name_len = name.len;
    (*items)[at] = it;
    ++*n;
    return it;
}

static void *name_remove(void **items, size_t *n, struct slice name) {
    bool found;
    size_t at = name_place(items, *n, name, &found);
    if (!found) return NULL;
    void *it = items[at];
    --*n;
    memmove(items + at, items + at + 1, (*n - at) * sizeof *items);
    return it;
}

/* ---- groups and consumers ---- */

struct stream_group *stream_group_find(const struct stream *s, struct slice name) {
    return name_find((void *const *)s->groups, s->n_groups, name);
}

struct stream_group *stream_group_create(struct stream *s, struct slice name, struct stream_id last_id, int64_t entries_read) {
    void **items = (void **)s->groups;
    struct stream_group *g = name_add(&items, &s->n_groups, &s->groups_cap, name, sizeof *g);
    s->groups = (struct stream_group **)items;
    if (!g) return NULL;
    g->last_id = last_id;
    g->entries_read = entries_read;
    return g;
}

static void consumer_free(struct stream_consumer *c) {
    idmap_done(&c->pel, NULL);
    mem_free(c->name);
    mem_free(c);
}

static void group_free(struct stream_group *g) {
    for (size_t i = 0; i < g->n_consumers; i++) consumer_free(g->consumers[i]);
    mem_free(g->consumers);
    idmap_done(&g->pel, mem_free);
    mem_free(g->name);
    mem_free(g);
}

bool stream_group_destroy(struct stream *s, struct slice name) {
    struct stream_group *g = name_remove((void **)s->groups, &s->n_groups, name);
    if (g) group_free(g);
    return g != NULL;
}

struct stream_consumer *stream_consumer_find(const struct stream_group *g, struct slice name) {
    return name_find((void *const *)g->consumers, g->n_consumers, name);
}

struct stream_consumer *stream_consumer_create(struct stream_group *g, struct slice name, int64_t now_ms) {
    void **items = (void **)g->consumers;
    struct stream_consumer *c = name_add(&items, &g->n_consumers, &g->consumers_cap, name, sizeof *c);
    g->consumers = (struct stream_consumer **)items;
    if (!c) return NULL;
    c->seen_ms = now_ms;
    c->active_ms = -1;
    return c;
}

uint64_t stream_consumer_delete(struct stream_group *g, struct slice name) {
    struct stream_consumer *c = name_remove((void **)g->consumers, &g->n_consumers, name);
    if (!c) return 0;
    uint64_t n = idmap_size(&c->pel);
    struct idmap_it it;
    for (bool there = idmap_first(&c->pel, &it); there; there = idmap_next(&it))
        mem_free(idmap_remove(&g->pel, idmap_it_id(&it)));
    consumer_free(c);
    return n;
}

/* ---- pending entries ---- */

struct stream_nack *stream_nack_find(const struct stream_group *g, struct stream_id id) {
    void **slot = idmap_get(&g->pel, id);
    return slot ? *slot : NULL;
}

static void pel_put(struct idmap *pel, struct stream_id id, struct stream_nack *n) {
    bool is_new;
    *idmap_put(pel, id, &is_new) = n;
}

struct stream_nack *stream_nack_add(struct stream_group *g, struct stream_consumer *c, struct stream_id id) {
    struct stream_nack *n = mem_zalloc(sizeof *n);
    n->consumer = c;
    n->delivery_count = 1;
    pel_put(&g->pel, id, n);
    if (c) pel_put(&c->pel, id, n);
    return n;
}

void stream_nack_move(struct stream_nack *n, struct stream_consumer *to, struct stream_id id) {
    if (n->consumer == to) return;
    if (n->consumer) idmap_remove(&n->consumer->pel, id);
    pel_put(&to->pel, id, n);
    n->consumer = to;
}

void stream_deliver(struct stream_group *g, struct stream_consumer *c, struct stream_id id, int64_t now_ms) {
    struct stream_nack *n = stream_nack_find(g, id);
    if (n)
        stream_nack_move(n, c, id);
    else
        n = stream_nack_add(g, c, id);
    n->delivery_ms = now_ms;
    n->delivery_count = 1;
}

bool stream_ack(struct stream_group *g, struct stream_id id) {
    struct stream_nack *n = idmap_remove(&g->pel, id);
    if (!n) return false;
    if (n->consumer) idmap_remove(&n->consumer->pel, id);
    mem_free(n);
    return true;
}

/* ---- how much is read ---- */

bool stream_may_have_holes(const struct stream *s, struct stream_id start, struct stream_id end) {
    if (s->length == 0 || stream_id_cmp(s->max_deleted_id, s->first_id) < 0) return false; /* nothing between what is there */
    return stream_id_cmp(start, s->max_deleted_id) <= 0 && stream_id_cmp(s->max_deleted_id, end) <= 0;
}

int64_t stream_entries_up_to(const struct stream *s, struct stream_id id) {
    if (s->entries_added == 0) return 0;
    int to_last = stream_id_cmp(id, s->last_id);
    if (s->length == 0 && to_last <= 0) return (int64_t)s->entries_added;
    if (stream_id_cmp(id, STREAM_ID_MIN) != 0 && stream_id_cmp(id, s->max_deleted_id) < 0) return STREAM_ENTRIES_READ_UNKNOWN;
    if (to_last == 0) return (int64_t)s->entries_added;
    if (to_last > 0) return STREAM_ENTRIES_READ_UNKNOWN;
    int to_first = stream_id_cmp(id, s->first_id);
    bool is_whole = stream_id_cmp(s->max_deleted_id, STREAM_ID_MIN) == 0 || stream_id_cmp(s->max_deleted_id, s->first_id) < 0;
    if (is_whole && to_first <= 0) return (int64_t)(s->entries_added - s->length) + (to_first == 0);
    return STREAM_ENTRIES_READ_UNKNOWN;
}

bool stream_group_lag(const struct stream *s, const struct stream_group *g, int64_t *ret) {
    *ret = 0;
    if (s->entries_added == 0) return true;
    int64_t read = g->entries_read;
    if (read == STREAM_ENTRIES_READ_UNKNOWN || stream_may_have_holes(s, g->last_id, STREAM_ID_MAX)) {
        bool is_all_ahead = stream_id_cmp(g->last_id, s->first_id) < 0 && stream_id_cmp(s->max_deleted_id, s->first_id) < 0;
        read = is_all_ahead ? (int64_t)(s->entries_added - s->length) : stream_entries_up_to(s, g->last_id);
    }
    *ret = (int64_t)(s->entries_added - (uint64_t)read);
    return read != STREAM_ENTRIES_READ_UNKNOWN;
}

void stream_group_advance(const struct stream *s, struct stream_group *g, struct stream_id id) {
    if (g->entries_read != STREAM_ENTRIES_READ_UNKNOWN && !stream_may_have_holes(s, id, STREAM_ID_MAX))
        g->entries_read++;
    else if (s->entries_added)
        g->entries_read = stream_entries_up_to(s, id);
    g->last_id = id;
}

/* ---- as a value ---- */

struct stream *stream_free(struct stream *s) {
    if (!s) return NULL;
    idmap_done(&s->nodes, mem_free);
    for (size_t i = 0; i < s->n_groups; i++) group_free(s->groups[i]);
    mem_free(s->groups);
    mem_free(s);
    return NULL;
}

static void destroy(struct obj *o) {
    stream_free(o->u.ptr);
}

static void group_copy(struct stream *to, const struct stream_group *g) {
    struct stream_group *copy = stream_group_create(to, (struct slice){ g->name, g->name_len }, g->last_id, g->entries_read);
    for (size_t i = 0; i < g->n_consumers; i++) {
        const struct stream_consumer *c = g->consumers[i];
        struct stream_consumer *cc = stream_consumer_create(copy, (struct slice){ c->name, c->name_len }, c->seen_ms);
        cc->active_ms = c->active_ms;
        struct idmap_it it;
        for (bool there = idmap_first(&c->pel, &it); there; there = idmap_next(&it)) {
            const struct stream_nack *n = idmap_it_value(&it);
            struct stream_nack *fresh = stream_nack_add(copy, cc, idmap_it_id(&it));
            fresh->delivery_ms = n->delivery_ms;
            fresh->delivery_count = n->delivery_count;
        }
    }
}

static void *dup(const struct obj *o) {
    const struct stream *s = o->u.ptr;
    struct stream *copy = stream_new();
    struct idmap_it it;
    for (bool there = idmap_first(&s->nodes, &it); there; there = idmap_next(&it))
        stream_load_node(copy, idmap_it_id(&it), lp_dup(idmap_it_value(&it)));
    copy->length = s->length;
    copy->last_id = s->last_id;
    copy->first_id = s->first_id;
    copy->max_deleted_id = s->max_deleted_id;
    copy->entries_added = s->entries_added;
    for (size_t i = 0; i < s->n_groups; i++) group_copy(copy, s->groups[i]);
    return copy;
}

static size_t group_mem(const struct stream_group *g) {
    size_t bytes = sizeof *g + g->name_len + 1 + g->consumers_cap * sizeof *g->consumers;
    bytes += idmap_mem(&g->pel) + idmap_size(&g->pel) * sizeof(struct stream_nack);
    for (size_t i = 0; i < g->n_consumers; i++)
        bytes += sizeof(struct stream_consumer) + g->consumers[i]->name_len + 1 + idmap_mem(&g->consumers[i]->pel);
    return bytes;
}

static size_t mem(const struct obj *o, size_t samples) {
    const struct stream *s = o->u.ptr;
    size_t bytes = sizeof *s + idmap_mem(&s->nodes) + s->groups_cap * sizeof *s->groups, seen = 0, sum = 0;
    struct idmap_it it;
    for (bool there = idmap_first(&s->nodes, &it); there && (samples == 0 || seen < samples); there = idmap_next(&it), seen++)
        sum += mem_usable(idmap_it_value(&it));
    if (seen) bytes += (size_t)((double)sum / (double)seen * (double)idmap_size(&s->nodes));
    for (size_t i = 0; i < s->n_groups; i++) bytes += group_mem(s->groups[i]);
    return bytes;
}

static size_t effort(const struct obj *o) {
    const struct stream *s = o->u.ptr;
    size_t n = idmap_size(&s->nodes);
    for (size_t i = 0; i < s->n_groups; i++) n += 1 + idmap_size(&s->groups[i]->pel) + s->groups[i]->n_consumers;
    return n ? n : 1;
}

const struct obj_ops obj_ops_stream = { .destroy = destroy, .dup = dup, .mem = mem, .effort = effort };
