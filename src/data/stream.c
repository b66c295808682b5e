/* Entries of streams: nodes, appending, walking, deleting, trimming. See stream.h for the layout. Place in the flow: under the
 * stream commands. Thread: the holder of the shard's lock; destroy may run on the lazyfree thread.
 *
 * Invariants: no node is without entries; the master's ID of a node is at or before the ID of every entry in it and above all of
 * the node before. last_id is never below an entry's ID. */
#include "data/stream.h"

#include <string.h>

#include "base/alloc.h"
#include "data/limits.h"
#include "data/listpack.h"

#define NODE_MAX_BYTES LP_MAX_BYTES
#define NODE_PREALLOC 256 /* bytes of a node to begin with */

struct stream *stream_new(void) {
    return mem_zalloc(sizeof(struct stream));
}

struct obj *stream_obj_new(void) {
    return obj_new(OBJ_STREAM, OBJ_ENC_STREAM, stream_new());
}

bool stream_id_incr(struct stream_id *id) {
    if (++id->seq == 0) id->ms++;
    return id->seq != 0 || id->ms != 0;
}

bool stream_id_decr(struct stream_id *id) {
    if (id->seq-- == 0) id->ms--;
    return !(id->seq == UINT64_MAX && id->ms == UINT64_MAX);
}

size_t stream_id_text(char *buf, struct stream_id id) {
    size_t n = str_from_ull(buf, id.ms);
    buf[n++] = '-';
    return n + str_from_ull(buf + n, id.seq);
}

/* ---- nodes ---- */

static int64_t int_at(const unsigned char *p) {
    int64_t v = 0;
    struct slice s;
    lp_get_int(p, &v, &s);
    return v;
}

static int64_t node_entries(const unsigned char *lp) {
    return int_at(lp_first(lp));
}

static int64_t node_deleted(const unsigned char *lp) {
    return int_at(lp_next(lp, lp_first(lp)));
}

/* The number of the master's fields and the first of them; gives the first entry (NULL: none). */
static unsigned char *node_master(const unsigned char *lp, size_t *ret_n, unsigned char **ret_fields) {
    unsigned char *p = lp_next(lp, lp_next(lp, lp_first(lp)));
    *ret_n = (size_t)int_at(p);
    p = lp_next(lp, p);
    *ret_fields = p;
    for (size_t i = 0; i < *ret_n; i++) p = lp_next(lp, p);
    return lp_next(lp, p); /* behind the closing 0 */
}

/* The elements of an entry and the next one's flags; NULL at the end. */
static unsigned char *entry_end(const unsigned char *lp, unsigned char *p, size_t n_master, size_t *ret_elements) {
    int64_t flags = int_at(p);
    size_t n = 3;
    unsigned char *q = lp_next(lp, lp_next(lp, lp_next(lp, p)));
    if (flags & STREAM_SAME_FIELDS) {
        n += n_master;
        for (size_t i = 0; i < n_master; i++) q = lp_next(lp, q);
    } else {
        size_t fields = (size_t)int_at(q);
        n += 1 + 2 * fields;
        q = lp_next(lp, q);
        for (size_t i = 0; i < 2 * fields; i++) q = lp_next(lp, q);
    }
    if (ret_elements) *ret_elements = n;
    return lp_next(lp, q); /* over the number of elements */
}

/* The flags of the entry that ends with the element before p (p NULL: with the last). */
static unsigned char *entry_before(const unsigned char *lp, unsigned char *p) {
    p = p ? lp_prev(lp, p) : lp_last(lp);
    for (int64_t n = int_at(p); n > 0; n--) p = lp_prev(lp, p);
    return p;
}

static struct stream_id entry_id(const unsigned char *lp, const unsigned char *p, struct stream_id master) {
    const unsigned char *ms = lp_next(lp, p);
    return (struct stream_id){ master.ms + (uint64_t)int_at(ms), master.seq + (uint64_t)int_at(lp_next(lp, ms)) };
}

static void **node_slot(struct stream *s, struct stream_id master) {
    return idmap_get(&s->nodes, master);
}

/* ---- appending ---- */

/* The newest node, when one more entry of `bytes` goes into it. */
static unsigned char **open_node(struct stream *s, size_t bytes, struct stream_id *ret_master) {
    struct idmap_it last;
    if (!idmap_last(&s->nodes, &last)) return NULL;
    *ret_master = idmap_it_id(&last);
    unsigned char **slot = (unsigned char **)node_slot(s, *ret_master);
    int64_t max_bytes = limit_get(&data_limits.stream_node_max_bytes);
    int64_t max_entries = limit_get(&data_limits.stream_node_max_entries);
    if (max_bytes == 0 || max_bytes > (int64_t)NODE_MAX_BYTES) max_bytes = NODE_MAX_BYTES;
    bool is_full =
        lp_bytes(*slot) + bytes >= (size_t)max_bytes || (max_entries && node_entries(*slot) + node_deleted(*slot) >= max_entries);
    if (!is_full) return slot;
    *slot = lp_shrink(*slot);
    return NULL;
}

static unsigned char *node_new(size_t n, const struct slice *fv) {
    unsigned char *lp = lp_new(NODE_PREALLOC);
    lp = lp_append_int(lp, 1);
    lp = lp_append_int(lp, 0);
    lp = lp_append_int(lp, (int64_t)n);
    for (size_t i = 0; i < n; i++) lp = lp_append(lp, fv[2 * i]);
    return lp_append_int(lp, 0);
}

static bool has_master_fields(const unsigned char *lp, size_t n, const struct slice *fv) {
    size_t n_master;
    unsigned char *p;
    node_master(lp, &n_master, &p);
    if (n_master != n) return false;
    for (size_t i = 0; i < n; i++, p = lp_next(lp, p))
        if (!lp_eq(p, fv[2 * i])) return false;
    return true;
}

static unsigned char *count_entry(unsigned char *lp, int64_t entries, int64_t deleted) {
    unsigned char *p = lp_first(lp);
    lp = lp_replace_int(lp, &p, node_entries(lp) + entries);
    if (deleted == 0) return lp;
    p = lp_next(lp, p);
    return lp_replace_int(lp, &p, int_at(p) + deleted);
}

static unsigned char *append_entry(unsigned char *lp, struct stream_id master, struct stream_id id, bool same, size_t n,
                                   const struct slice *fv) {
    lp = lp_append_int(lp, same ? STREAM_SAME_FIELDS : 0);
    lp = lp_append_int(lp, (int64_t)(id.ms - master.ms));
    lp = lp_append_int(lp, (int64_t)(id.seq - master.seq));
    if (!same) lp = lp_append_int(lp, (int64_t)n);
    for (size_t i = 0; i < n; i++) {
        if (!same) lp = lp_append(lp, fv[2 * i]);
        lp = lp_append(lp, fv[2 * i + 1]);
    }
    return lp_append_int(lp, (int64_t)(same ? n + 3 : 2 * n + 4));
}

bool stream_append(struct stream *s, struct stream_id id, size_t n, const struct slice *fv) {
    size_t bytes = 0;
    for (size_t i = 0; i < 2 * n; i++) {
        bytes += fv[i].len;
        if (bytes > NODE_MAX_BYTES) return false;
    }
    /* Everything around the texts: 14 bytes at most for each, some numbers, and the fields twice in a new node. */
    if (2 * bytes + 2 * n * 28 + 200 > NODE_MAX_BYTES) return false;
    struct stream_id master = id;
    unsigned char **slot = open_node(s, bytes, &master);
    if (slot) {
        bool same = has_master_fields(*slot, n, fv);
        *slot = append_entry(count_entry(*slot, 1, 0), master, id, same, n, fv);
    } else {
        bool is_new;
        master = id;
        slot = (unsigned char **)idmap_put(&s->nodes, id, &is_new);
        *slot = append_entry(node_new(n, fv), id, id, true, n, fv);
    }
    s->length++;
    s->entries_added++;
    s->last_id = id;
    if (s->length == 1) s->first_id = id;
    return true;
}

/* ---- walking ---- */

void stream_it_init(struct stream_it *it, struct stream *s, struct stream_id start, struct stream_id end, bool backwards) {
    memset(it, 0, sizeof *it);
    it->s = s;
    it->start = start;
    it->end = end;
    it->backwards = backwards;
}

static bool enter_node(struct stream_it *it) {
    bool there;
    if (it->lp) {
        there = it->backwards ? idmap_prev(&it->node) : idmap_next(&it->node);
    } else if (it->backwards) {
        there = idmap_seek_le(&it->s->nodes, &it->node, it->end);
    } else { /* the node before may reach into the range */
        there = idmap_seek_le(&it->s->nodes, &it->node, it->start) || idmap_first(&it->s->nodes, &it->node);
    }
    if (!there) return false;
    it->lp = idmap_it_value(&it->node);
    it->master = idmap_it_id(&it->node);
    it->p = NULL;
    it->first = node_master(it->lp, &it->n_master, &it->master_fields);
    return true;
}

/* To the next entry of the node, deleted or not. */
static bool step(struct stream_it *it) {
    if (it->backwards) {
        if (it->p == it->first) return false;
        it->p = entry_before(it->lp, it->p);
    } else {
        it->p = it->p ? entry_end(it->lp, it->p, it->n_master, NULL) : it->first;
    }
    return it->p != NULL;
}

static void open_entry(struct stream_it *it, int64_t flags) {
    unsigned char *p = lp_next(it->lp, lp_next(it->lp, lp_next(it->lp, it->p)));
    it->same_fields = flags & STREAM_SAME_FIELDS;
    if (it->same_fields) {
        it->n_fields = it->n_master;
        it->field = it->master_fields;
        it->value = p;
    } else {
        it->n_fields = (size_t)int_at(p);
        it->field = lp_next(it->lp, p);
        it->value = NULL;
    }
}

bool stream_it_next(struct stream_it *it) {
    for (;;) {
        if (!it->lp && !enter_node(it)) return false;
        if (!step(it)) {
            if (!enter_node(it)) return false;
            continue;
        }
        it->id = entry_id(it->lp, it->p, it->master);
        bool is_past = it->backwards ? stream_id_cmp(it->id, it->start) < 0 : stream_id_cmp(it->id, it->end) > 0;
        if (is_past) return false;
        int64_t flags = int_at(it->p);
        bool is_before = it->backwards ? stream_id_cmp(it->id, it->end) > 0 : stream_id_cmp(it->id, it->start) < 0;
        if (is_before || (flags & STREAM_DELETED)) continue;
        open_entry(it, flags);
        return true;
    }
}

void stream_it_field(struct stream_it *it, struct slice *ret_field, struct slice *ret_value) {
    *ret_field = lp_get(it->field, it->field_tmp);
    if (it->same_fields) {
        *ret_value = lp_get(it->value, it->value_tmp);
        it->value = lp_next(it->lp, it->value);
        it->field = lp_next(it->lp, it->field);
    } else {
        it->value = lp_next(it->lp, it->field);
        *ret_value = lp_get(it->value, it->value_tmp);
        it->field = lp_next(it->lp, it->value);
    }
}

bool stream_has(const struct stream *s, struct stream_id id) {
    struct stream_it it;
    stream_it_init(&it, (struct stream *)(uintptr_t)s, id, id, false);
    return stream_it_next(&it);
}

struct stream_id stream_edge_id(const struct stream *s, bool first) {
    struct stream_it it;
    stream_it_init(&it, (struct stream *)(uintptr_t)s, STREAM_ID_MIN, STREAM_ID_MAX, !first);
    return stream_it_next(&it) ? it.id : STREAM_ID_MIN;
}

/* ---- deleting ---- */

static void drop_node(struct stream *s, struct stream_id master) {
    mem_free(idmap_remove(&s->nodes, master));
}

static void note_first(struct stream *s) {
    s->first_id = s->length ? stream_edge_id(s, true) : STREAM_ID_MIN;
}

bool stream_delete(struct stream *s, struct stream_id id) {
    struct stream_it it;
    stream_it_init(&it, s, id, id, false);
    if (!stream_it_next(&it)) return false;
    if (node_entries(it.lp) == 1) {
        drop_node(s, it.master);
    } else {
        unsigned char *p = it.p;
        unsigned char *lp = lp_replace_int(it.lp, &p, int_at(p) | STREAM_DELETED);
        *node_slot(s, it.master) = count_entry(lp, -1, 1);
    }
    s->length--;
    if (stream_id_cmp(id, s->max_deleted_id) > 0) s->max_deleted_id = id;
    if (stream_id_cmp(id, s->first_id) == 0) note_first(s);
    return true;
}

/* ---- trimming ---- */

static bool is_done(const struct stream *s, const struct stream_trim *t) {
    return s->nodes.used == 0 || (t->by == STREAM_TRIM_MAXLEN && s->length <= t->maxlen);
}

static bool goes_whole(const struct stream *s, const struct stream_trim *t, const unsigned char *lp, struct stream_id master) {
    if (t->by == STREAM_TRIM_MAXLEN) return s->length - (uint64_t)node_entries(lp) >= t->maxlen;
    return stream_id_cmp(entry_id(lp, entry_before(lp, NULL), master), t->minid) < 0;
}

/* Entries at the front of the first node, one by one. */
static uint64_t trim_node(struct stream *s, const struct stream_trim *t, unsigned char *lp, struct stream_id master) {
    size_t n_master;
    unsigned char *fields, *p = node_master(lp, &n_master, &fields);
    uint64_t removed = 0;
    while (p) {
        if (t->by == STREAM_TRIM_MAXLEN ? s->length <= t->maxlen : stream_id_cmp(entry_id(lp, p, master), t->minid) >= 0) break;
        int64_t flags = int_at(p);
        if (!(flags & STREAM_DELETED)) {
            lp = lp_replace_int(lp, &p, flags | STREAM_DELETED); /* as long as before: no pointer moves */
            removed++;
            s->length--;
        }
        p = entry_end(lp, p, n_master, NULL);
    }
    *node_slot(s, master) = count_entry(lp, -(int64_t)removed, (int64_t)removed);
    return removed;
}

uint64_t stream_trim(struct stream *s, const struct stream_trim *t) {
    uint64_t removed = 0;
    struct idmap_it first;
    if (t->by == STREAM_TRIM_NONE) return 0;
    while (!is_done(s, t) && idmap_first(&s->nodes, &first)) {
        unsigned char *lp = idmap_it_value(&first);
        struct stream_id master = idmap_it_id(&first);
        uint64_t entries = (uint64_t)node_entries(lp);
        if (t->limit && removed + entries > t->limit) break;
        if (!goes_whole(s, t, lp, master)) {
            if (!t->approx) removed += trim_node(s, t, lp, master);
            break;
        }
        drop_node(s, master);
        s->length -= entries;
        removed += entries;
    }
    if (removed) note_first(s);
    return removed;
}

/* ---- loading ---- */

/* One element further that must be there and, when ret is given, an integer that is not negative. */
static bool take_int(const unsigned char *lp, const unsigned char **p, int64_t *ret) {
    struct slice s;
    if (!*p || !lp_get_int(*p, ret, &s)) return false;
    *p = lp_next(lp, *p);
    return true;
}

static bool skip(const unsigned char *lp, const unsigned char **p, int64_t n) {
    for (; n > 0 && *p; n--) *p = lp_next(lp, *p);
    return n == 0;
}

static bool entry_is_valid(const unsigned char *lp, const unsigned char **p, int64_t n_master, bool *ret_deleted) {
    int64_t flags, ms, seq, fields = 0, elements;
    if (!take_int(lp, p, &flags) || !take_int(lp, p, &ms) || !take_int(lp, p, &seq)) return false;
    bool same = flags & STREAM_SAME_FIELDS;
    if (!same && (!take_int(lp, p, &fields) || fields < 0 || fields > INT32_MAX)) return false;
    if (!skip(lp, p, same ? n_master : 2 * fields)) return false;
    *ret_deleted = flags & STREAM_DELETED;
    return take_int(lp, p, &elements) && elements == (same ? n_master + 3 : 2 * fields + 4);
}

bool stream_node_is_valid(const unsigned char *lp, size_t len, uint64_t *ret_entries) {
    int64_t entries, deleted, n_master, zero, n[2] = { 0, 0 };
    bool is_deleted;
    if (!lp_is_valid(lp, len, true, NULL, NULL)) return false;
    const unsigned char *p = lp_first(lp);
    if (!take_int(lp, &p, &entries) || !take_int(lp, &p, &deleted) || !take_int(lp, &p, &n_master) || n_master < 0) return false;
    if (!skip(lp, &p, n_master) || !take_int(lp, &p, &zero) || zero != 0) return false;
    while (p) {
        if (!entry_is_valid(lp, &p, n_master, &is_deleted)) return false;
        n[is_deleted]++;
    }
    *ret_entries = (uint64_t)n[0];
    return n[0] == entries && n[1] == deleted;
}

bool stream_load_node(struct stream *s, struct stream_id master, unsigned char *lp_take) {
    struct idmap_it last;
    bool is_new;
    if (idmap_last(&s->nodes, &last) && stream_id_cmp(idmap_it_id(&last), master) >= 0) return false;
    if (node_entries(lp_take) == 0) return false;
    *idmap_put(&s->nodes, master, &is_new) = lp_take;
    return true;
}
