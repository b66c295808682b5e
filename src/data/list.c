/* Lists: the two encodings behind one interface. See list.h. Place in the flow: commands and loaders -> here -> listpack or
 * quicklist. Thread: the holder of the shard's lock. */
#include "data/list.h"

#include <assert.h>

#include "base/alloc.h"
#include "data/limits.h"

#define INT_CHARS_MAX 20         /* as listpacks: longer text is never an integer */
#define WORTH_OBJECT (16 * 1024) /* bytes from which on a reply refers to a string instead of copying it */

static int64_t fill_now(void) {
    return limit_get(&data_limits.list_max_listpack_size);
}

static struct quicklist *new_quicklist(void) {
    return ql_new(fill_now(), limit_get(&data_limits.list_compress_depth));
}

struct obj *list_new(void) {
    return obj_new(OBJ_LIST, OBJ_ENC_LISTPACK, lp_new(0));
}

struct obj *list_new_quicklist(void) {
    return obj_new(OBJ_LIST, OBJ_ENC_QUICKLIST, new_quicklist());
}

static bool is_packed(const struct obj *o) {
    return o->enc == OBJ_ENC_LISTPACK;
}

static struct quicklist *ql_of(const struct obj *o) {
    return o->u.ptr;
}

uint64_t list_len(const struct obj *o) {
    return is_packed(o) ? lp_count(o->u.ptr) : ql_of(o)->count;
}

/* ---- conversions ---- */

static void to_quicklist(struct obj *o) {
    struct quicklist *q = new_quicklist();
    ql_append_listpack(q, o->u.ptr);
    o->u.ptr = q;
    o->enc = OBJ_ENC_QUICKLIST;
}

void list_grow(struct obj *o, uint64_t n, uint64_t bytes) {
    if (!is_packed(o)) return;
    if (ql_exceeds(fill_now(), lp_bytes(o->u.ptr) + bytes, lp_count(o->u.ptr) + n)) to_quicklist(o);
}

/* Of a list that is one packed node within the limit, or half of it. */
static void to_listpack(struct obj *o, unsigned divide) {
    struct quicklist *q = ql_of(o);
    size_t max_bytes;
    uint64_t max_count;
    if (q->n_nodes != 1) return;
    struct gap_slot *node = ql_node(q, ql_end_pos(q, LIST_HEAD));
    ql_node_limit(fill_now(), &max_bytes, &max_count);
    if (node->kind != QL_PACKED || lp_bytes(node->ptr) > max_bytes / divide || node->count > max_count / divide) return;
    o->u.ptr = lp_shrink(node->ptr);
    o->enc = OBJ_ENC_LISTPACK;
    *node = (struct gap_slot){ .kind = QL_PACKED };
    ql_free(q);
}

void list_shrink(struct obj *o) {
    if (!is_packed(o)) to_listpack(o, 2);
}

void list_fit(struct obj *o) {
    if (is_packed(o))
        list_grow(o, 0, 0);
    else
        to_listpack(o, 1);
}

/* ---- reading ---- */

struct slice list_elem_text(const struct list_elem *e, char tmp[STR_LL_MAX]) {
    return e->is_int ? (struct slice){ tmp, str_from_ll(tmp, e->num) } : e->text;
}

struct list_needle list_needle_of(struct slice s) {
    struct list_needle n = { .text = s };
    n.is_int = s.len > 0 && s.len <= INT_CHARS_MAX && str_to_ll(s, &n.num);
    return n;
}

/* The node at it->pos, from its element `offset` on; negative: from its end. */
static void enter_node(struct list_iter *it, long offset) {
    const struct gap_slot *node = ql_node(it->q, it->pos);
    it->is_plain = ql_is_plain(node);
    if (it->is_plain) return;
    it->lp = ql_read_packed(node, &it->scratch);
    it->p = lp_seek(it->lp, offset);
}

void list_iter_init(struct list_iter *it, const struct obj *o, uint64_t index, bool backward) {
    *it = (struct list_iter){ .backward = backward };
    if (index >= list_len(o)) {
        it->is_done = true;
    } else if (is_packed(o)) {
        it->lp = o->u.ptr;
        it->p = lp_seek(it->lp, (long)index);
    } else {
        uint64_t offset;
        it->q = ql_of(o);
        it->pos = ql_find(it->q, index, &offset);
        enter_node(it, (long)offset);
    }
}

static bool next_node(struct list_iter *it) {
    if (it->is_done || !it->q || !(it->backward ? ql_prev(it->q, &it->pos) : ql_next(it->q, &it->pos))) {
        it->is_done = true;
        return false;
    }
    enter_node(it, it->backward ? -1 : 0);
    return true;
}

bool list_iter_next(struct list_iter *it, struct list_elem *ret) {
    if (!it->p && !it->is_plain && !next_node(it)) return false;
    ret->str = NULL;
    if (it->is_plain) {
        const struct gap_slot *node = ql_node(it->q, it->pos);
        ret->is_int = false;
        ret->text = ql_read_plain(node, &it->scratch);
        if (node->kind == QL_PLAIN) ret->str = node->ptr;
        it->is_plain = false;
        it->p = NULL;
        return true;
    }
    ret->is_int = lp_get_int(it->p, &ret->num, &ret->text);
    it->p = it->backward ? lp_prev(it->lp, it->p) : lp_next(it->lp, it->p);
    return true;
}

void list_iter_done(struct list_iter *it) {
    mem_free(it->scratch);
}

/* ---- changing ---- */

bool list_wants_object(const struct obj *o, size_t len) {
    return len >= WORTH_OBJECT && ql_is_large(is_packed(o) ? fill_now() : ql_of(o)->fill, len);
}

/* Whatever the caller said beforehand, no listpack is stretched beyond what it can hold. */
static bool fits_packed(const struct obj *o, size_t len) {
    return is_packed(o) && lp_has_room(o->u.ptr, len);
}

void list_push(struct obj *o, enum list_end end, struct list_value v_take) {
    if (fits_packed(o, v_take.text.len)) {
        o->u.ptr = end == LIST_HEAD ? lp_prepend(o->u.ptr, v_take.text) : lp_append(o->u.ptr, v_take.text);
        obj_unref(v_take.str);
        return;
    }
    if (is_packed(o)) to_quicklist(o);
    ql_push(ql_of(o), end, v_take);
}

void list_set(struct obj *o, uint64_t index, struct list_value v_take) {
    if (fits_packed(o, v_take.text.len)) {
        unsigned char *p = lp_seek(o->u.ptr, (long)index);
        o->u.ptr = lp_replace(o->u.ptr, &p, v_take.text);
        obj_unref(v_take.str);
        return;
    }
    if (is_packed(o)) to_quicklist(o);
    uint64_t offset;
    struct ql_pos p = ql_find(ql_of(o), index, &offset);
    ql_replace(ql_of(o), p, offset, v_take);
}

static bool find_in_packed(const unsigned char *lp, const struct list_needle *n, uint64_t *ret_offset) {
    struct list_elem e = { .str = NULL };
    uint64_t i = 0;
    for (const unsigned char *p = lp_first(lp); p; p = lp_next(lp, p), i++) {
        e.is_int = lp_get_int(p, &e.num, &e.text);
        if (!list_elem_eq(&e, n)) continue;
        *ret_offset = i;
        return true;
    }
    return false;
}

/* The first element equal to the needle. */
static bool find_in_quicklist(const struct quicklist *q, const struct list_needle *n, struct ql_pos *ret, uint64_t *ret_offset) {
    void *scratch = NULL;
    bool found = false;
    *ret = (struct ql_pos){ 0, 0 };
    if (q->n_nodes == 0) return false;
    do {
        const struct gap_slot *node = ql_node(q, *ret);
        *ret_offset = 0;
        if (!ql_is_plain(node))
            found = find_in_packed(ql_read_packed(node, &scratch), n, ret_offset);
        else if (ql_node_bytes(node) == n->text.len)
            found = slice_eq(ql_read_plain(node, &scratch), n->text);
    } while (!found && ql_next(q, ret));
    mem_free(scratch);
    return found;
}

bool list_find(const struct obj *o, struct slice s, struct list_place *ret) {
    struct list_needle n = list_needle_of(s);
    *ret = (struct list_place){ .offset = 0 };
    if (is_packed(o)) return find_in_packed(o->u.ptr, &n, &ret->offset);
    return find_in_quicklist(ql_of(o), &n, &ret->pos, &ret->offset);
}

void list_insert(struct obj *o, struct list_place at, bool after, struct list_value v_take) {
    if (fits_packed(o, v_take.text.len)) {
        unsigned char *p = lp_seek(o->u.ptr, (long)at.offset);
        o->u.ptr = lp_insert(o->u.ptr, p, after ? LP_AFTER : LP_BEFORE, v_take.text, NULL);
        obj_unref(v_take.str);
        return;
    }
    if (is_packed(o)) to_quicklist(o); /* its one node has the same offsets */
    ql_insert(ql_of(o), at.pos, at.offset, after, v_take);
}

void list_delete(struct obj *o, uint64_t index, uint64_t n) {
    if (is_packed(o))
        o->u.ptr = lp_delete_range(o->u.ptr, (long)index, n);
    else
        ql_delete_range(ql_of(o), index, n);
}

uint64_t list_remove_equal(struct obj *o, struct slice s, uint64_t max, enum list_end from) {
    if (!is_packed(o)) return ql_of(o)->n_nodes ? ql_remove(ql_of(o), s, max, from) : 0;
    unsigned char *lp = o->u.ptr;
    uint64_t n = ql_remove_packed(&lp, s, max, from);
    o->u.ptr = lp;
    return n;
}

/* ---- loading, saving, facts ---- */

void list_append_listpack(struct obj *o, unsigned char *lp_take) {
    assert(!is_packed(o));
    ql_append_listpack(ql_of(o), lp_take);
}

static struct list_node node_view(const struct gap_slot *node) {
    struct list_node n = { .is_plain = ql_is_plain(node), .raw_len = ql_node_bytes(node) };
    if (node->kind == QL_PACKED) {
        n.bytes = (struct slice){ node->ptr, n.raw_len };
    } else if (node->kind == QL_PLAIN) {
        n.bytes = obj_string_bytes(node->ptr, NULL);
    } else {
        const struct ql_lzf *z = node->ptr;
        n.lzf = (struct slice){ z->data, z->len };
    }
    return n;
}

bool list_each_node(const struct obj *o, bool (*fn)(void *arg, const struct list_node *n), void *arg) {
    struct ql_pos p = { 0, 0 };
    if (is_packed(o)) {
        struct gap_slot whole = { .ptr = o->u.ptr, .kind = QL_PACKED };
        struct list_node n = node_view(&whole);
        return fn(arg, &n);
    }
    if (ql_of(o)->n_nodes == 0) return true;
    do {
        struct list_node n = node_view(ql_node(ql_of(o), p));
        if (!fn(arg, &n)) return false;
    } while (ql_next(ql_of(o), &p));
    return true;
}

static bool add_raw_len(void *arg, const struct list_node *n) {
    *(size_t *)arg += n->raw_len;
    return true;
}

bool list_stats(const struct obj *o, struct list_stats *ret) {
    if (is_packed(o)) return false;
    const struct quicklist *q = ql_of(o);
    *ret = (struct list_stats){ .nodes = q->n_nodes, .max = q->fill, .compressed = q->depth != 0 };
    if (q->n_nodes) ret->avg_node = (double)q->count / q->n_nodes;
    list_each_node(o, add_raw_len, &ret->uncompressed_size);
    return true;
}

/* ---- as a type of value ---- */

static void list_destroy(struct obj *o) {
    if (is_packed(o))
        mem_free(o->u.ptr);
    else
        ql_free(ql_of(o));
}

static void *list_dup(const struct obj *o) {
    return is_packed(o) ? (void *)lp_dup(o->u.ptr) : (void *)ql_dup(ql_of(o));
}

static size_t list_mem(const struct obj *o, size_t samples) {
    if (is_packed(o)) return mem_usable(o->u.ptr);
    struct quicklist *q = ql_of(o);
    size_t size = mem_usable(q) + q->segs.cap * sizeof(struct gap_slot), nodes = 0;
    uint64_t seen = 0;
    for (uint32_t i = 0; i < q->segs.n; i++) size += sizeof(struct gap) + ql_seg(q, i)->cap * sizeof(struct gap_slot);
    if (q->n_nodes == 0) return size;
    struct ql_pos p = { 0, 0 };
    do {
        nodes += ql_node_mem(ql_node(q, p));
        seen++;
    } while ((samples == 0 || seen < samples) && ql_next(q, &p));
    return size + (size_t)((double)nodes / (double)seen * q->n_nodes);
}

static size_t list_effort(const struct obj *o) {
    return is_packed(o) ? 1 : ql_of(o)->n_nodes;
}

const struct obj_ops list_ops = { .destroy = list_destroy, .dup = list_dup, .mem = list_mem, .effort = list_effort };
