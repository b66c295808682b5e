/* Quicklists: limits, nodes and segments, the ends, whole lists. Place in the flow: list.c -> here -> listpacks and string
 * objects. What changes in the middle is in quicklist_edit.c, compression in quicklist_lzf.c. Thread: the owner's.
 *
 * Invariants: no node and no segment is empty; a slot's count is the number of elements below it, q->count their sum; a segment
 * has at most SEG_MAX nodes. With a compress depth d, the first and the last d nodes are not compressed.
 *
 * Rejected: one array of all nodes (an insertion in the middle of a list of 100 million elements would move 10 MB), and a
 * balanced tree (one level of segments is enough: 100 million elements of 100 bytes are 5,000 segments, whose counts are read in
 * sequence). */
#include "data/quicklist_priv.h"

#include <assert.h>
#include <stdatomic.h>
#include <string.h>

#include "base/alloc.h"

#define SEG_MAX 256
#define FILL_MAX INT16_MAX
#define FILL_MIN (-5)
#define SAFETY_BYTES 8192   /* of a node limited by its number of elements */
#define ENTRY_OVERHEAD 8    /* at most what a listpack adds to a text below 4 KiB, and what the limit counts for any */
#define PRESIZE_MIN_NODES 8 /* a list of this many full nodes is believed to fill the next one too */
#define THRESHOLD_MAX ((1ULL << 32) - (1 << 20))
#define PACKED_MAX (LP_MAX_BYTES / 2) /* whatever the settings: an element of a listpack */

/* ---- limits ---- */

static _Atomic uint64_t packed_threshold;

bool ql_set_packed_threshold(uint64_t bytes) {
    if (bytes > THRESHOLD_MAX) return false;
    atomic_store_explicit(&packed_threshold, bytes, memory_order_relaxed);
    return true;
}

static size_t size_limit(int64_t fill) {
    static const size_t limits[] = { 4096, 8192, 16384, 32768, 65536 };
    return limits[fill < FILL_MIN ? -FILL_MIN - 1 : -fill - 1];
}

void ql_node_limit(int64_t fill, size_t *ret_bytes, uint64_t *ret_count) {
    *ret_bytes = fill < 0 ? size_limit(fill) : SIZE_MAX;
    *ret_count = fill < 0 ? UINT64_MAX : fill == 0 ? 1 : (uint64_t)fill;
}

bool ql_exceeds(int64_t fill, size_t bytes, uint64_t count) {
    if (fill < 0) return bytes > size_limit(fill);
    return bytes > SAFETY_BYTES || count > (fill ? (uint64_t)fill : 1);
}

bool ql_is_large(int64_t fill, size_t len) {
    uint64_t threshold = atomic_load_explicit(&packed_threshold, memory_order_relaxed);
    if (threshold) return len >= threshold || len > PACKED_MAX;
    return len > (fill < 0 ? size_limit(fill) : SAFETY_BYTES);
}

bool ql_node_takes(const struct quicklist *q, const struct gap_slot *node, size_t len) {
    if (ql_is_plain(node) || ql_is_large(q->fill, len)) return false;
    return !ql_exceeds(q->fill, ql_node_bytes(node) + len + ENTRY_OVERHEAD, node->count + 1);
}

/* ---- whole lists ---- */

struct quicklist *ql_new(int64_t fill, int64_t depth) {
    struct quicklist *q = mem_zalloc(sizeof(*q));
    q->fill = (int16_t)(fill > FILL_MAX ? FILL_MAX : fill < FILL_MIN ? FILL_MIN : fill);
    q->depth = (uint16_t)(depth > UINT16_MAX ? UINT16_MAX : depth < 0 ? 0 : depth);
    return q;
}

void ql_free_node(struct gap_slot *node) {
    if (node->kind == QL_PLAIN)
        obj_unref(node->ptr);
    else
        mem_free(node->ptr);
}

static void free_seg(struct gap *seg) {
    for (uint32_t i = 0; i < seg->n; i++) ql_free_node(gap_at(seg, i));
    gap_done(seg);
    mem_free(seg);
}

void ql_free(struct quicklist *q) {
    for (uint32_t i = 0; i < q->segs.n; i++) free_seg(ql_seg(q, i));
    gap_done(&q->segs);
    mem_free(q);
}

static void *dup_content(const struct gap_slot *node) {
    if (node->kind == QL_PACKED) return lp_dup(node->ptr);
    if (node->kind == QL_PLAIN) return obj_ref(node->ptr);
    const struct ql_lzf *z = node->ptr;
    return mem_memdup0(z, sizeof(*z) + z->len);
}

struct quicklist *ql_dup(const struct quicklist *q) {
    struct quicklist *copy = ql_new(q->fill, q->depth);
    struct ql_pos p = { 0, 0 };
    if (q->n_nodes == 0) return copy;
    do {
        struct gap_slot node = *ql_node(q, p);
        node.ptr = dup_content(&node);
        ql_put_node_at_end(copy, LIST_TAIL, node);
    } while (ql_next(q, &p));
    return copy;
}

/* ---- walking ---- */

struct ql_pos ql_end_pos(const struct quicklist *q, enum list_end end) {
    if (end == LIST_HEAD) return (struct ql_pos){ 0, 0 };
    uint32_t seg = q->segs.n - 1;
    return (struct ql_pos){ seg, ql_seg(q, seg)->n - 1 };
}

bool ql_next(const struct quicklist *q, struct ql_pos *p) {
    if (p->node + 1 < ql_seg(q, p->seg)->n) {
        p->node++;
        return true;
    }
    if (p->seg + 1 >= q->segs.n) return false;
    *p = (struct ql_pos){ p->seg + 1, 0 };
    return true;
}

bool ql_prev(const struct quicklist *q, struct ql_pos *p) {
    if (p->node > 0) {
        p->node--;
        return true;
    }
    if (p->seg == 0) return false;
    *p = (struct ql_pos){ p->seg - 1, ql_seg(q, p->seg - 1)->n - 1 };
    return true;
}

/* The slot that has the index-th element, counted from the nearer end; *index is then within it. */
static uint32_t find_slot(const struct gap *g, uint64_t total, uint64_t *index) {
    uint32_t i = 0;
    if (*index < total / 2) {
        while (*index >= gap_at(g, i)->count) *index -= gap_at(g, i++)->count;
        return i;
    }
    uint64_t from_end = total - *index; /* 1: the last */
    for (i = g->n - 1; from_end > gap_at(g, i)->count; i--) from_end -= gap_at(g, i)->count;
    *index = gap_at(g, i)->count - from_end;
    return i;
}

struct ql_pos ql_find(const struct quicklist *q, uint64_t index, uint64_t *ret_offset) {
    struct ql_pos p;
    assert(index < q->count);
    p.seg = find_slot(&q->segs, q->count, &index);
    p.node = find_slot(ql_seg(q, p.seg), gap_at(&q->segs, p.seg)->count, &index);
    *ret_offset = index;
    return p;
}

size_t ql_node_bytes(const struct gap_slot *node) {
    switch ((enum ql_kind)node->kind) {
    case QL_PACKED:
        return lp_bytes(node->ptr);
    case QL_PLAIN:
        return obj_string_len(node->ptr);
    default:
        return ((const struct ql_lzf *)node->ptr)->raw_len;
    }
}

size_t ql_node_mem(const struct gap_slot *node) {
    return node->kind == QL_PLAIN ? obj_mem_usage(node->ptr, 0) : mem_usable(node->ptr);
}

/* ---- nodes and segments ---- */

static void new_seg(struct quicklist *q, uint32_t i, struct gap nodes, uint64_t count) {
    struct gap *seg = mem_alloc(sizeof(*seg));
    *seg = nodes;
    gap_insert(&q->segs, i, (struct gap_slot){ .ptr = seg, .count = count });
}

static uint64_t sum_of(const struct gap *seg) {
    uint64_t sum = 0;
    for (uint32_t i = 0; i < seg->n; i++) sum += gap_at(seg, i)->count;
    return sum;
}

/* A full segment: at its ends another one is begun, in the middle it is cut into halves. Where p is then. */
static struct ql_pos make_room(struct quicklist *q, struct ql_pos p) {
    struct gap *seg = ql_seg(q, p.seg);
    if (seg->n < SEG_MAX) return p;
    if (p.node == 0 || p.node == seg->n) {
        if (p.node) p.seg++;
        new_seg(q, p.seg, (struct gap){ 0 }, 0);
        return (struct ql_pos){ p.seg, 0 };
    }
    struct gap tail;
    gap_split(seg, SEG_MAX / 2, &tail);
    uint64_t count = sum_of(&tail);
    gap_at(&q->segs, p.seg)->count -= count;
    new_seg(q, p.seg + 1, tail, count);
    if (p.node > SEG_MAX / 2) p = (struct ql_pos){ p.seg + 1, p.node - SEG_MAX / 2 };
    return p;
}

struct ql_pos ql_put_node(struct quicklist *q, struct ql_pos p, struct gap_slot node) {
    if (q->segs.n == 0) new_seg(q, 0, (struct gap){ 0 }, 0);
    p = make_room(q, p);
    gap_insert(ql_seg(q, p.seg), p.node, node);
    gap_at(&q->segs, p.seg)->count += node.count;
    q->count += node.count;
    q->n_nodes++;
    return p;
}

struct ql_pos ql_put_node_after(struct quicklist *q, struct ql_pos p, struct gap_slot node) {
    p.node++;
    return ql_put_node(q, p, node);
}

void ql_put_node_at_end(struct quicklist *q, enum list_end end, struct gap_slot node) {
    struct ql_pos p = { 0, 0 };
    if (end == LIST_TAIL && q->segs.n) p = (struct ql_pos){ q->segs.n - 1, ql_seg(q, q->segs.n - 1)->n };
    ql_put_node(q, p, node);
}

void ql_take_node(struct quicklist *q, struct ql_pos p) {
    struct gap *seg = ql_seg(q, p.seg);
    uint64_t count = gap_at(seg, p.node)->count;
    gap_at(&q->segs, p.seg)->count -= count;
    q->count -= count;
    q->n_nodes--;
    gap_remove(seg, p.node, 1);
    if (seg->n) return;
    mem_free(seg);
    gap_remove(&q->segs, p.seg, 1);
}

void ql_drop_node(struct quicklist *q, struct ql_pos p) {
    ql_free_node(ql_node(q, p));
    ql_take_node(q, p);
}

void ql_drop_seg(struct quicklist *q, uint32_t seg) {
    q->count -= gap_at(&q->segs, seg)->count;
    q->n_nodes -= ql_seg(q, seg)->n;
    free_seg(ql_seg(q, seg));
    gap_remove(&q->segs, seg, 1);
}

bool ql_is_past_end(const struct quicklist *q, struct ql_pos *p) {
    if (p->seg < q->segs.n && p->node >= ql_seg(q, p->seg)->n) *p = (struct ql_pos){ p->seg + 1, 0 };
    return p->seg >= q->segs.n;
}

/* Two neighbours of which each is short enough that the whole is not soon full again. */
static bool join_segs(struct quicklist *q, uint32_t left) {
    if (left + 1 >= q->segs.n) return false;
    struct gap *a = ql_seg(q, left), *b = ql_seg(q, left + 1);
    if (a->n + b->n > SEG_MAX / 2) return false;
    gap_join(a, b);
    gap_at(&q->segs, left)->count += gap_at(&q->segs, left + 1)->count;
    mem_free(b);
    gap_remove(&q->segs, left + 1, 1);
    return true;
}

void ql_tidy(struct quicklist *q, uint32_t seg) {
    if (seg < q->segs.n) join_segs(q, seg);
    if (seg > 0) join_segs(q, seg - 1);
}

void ql_count(struct quicklist *q, struct ql_pos p, int64_t delta) {
    ql_node(q, p)->count += (uint64_t)delta;
    gap_at(&q->segs, p.seg)->count += (uint64_t)delta;
    q->count += (uint64_t)delta;
}

/* ---- the ends ---- */

static size_t node_cap(const struct quicklist *q) {
    return q->n_nodes >= PRESIZE_MIN_NODES && q->fill < 0 ? size_limit(q->fill) : 0;
}

struct gap_slot ql_new_node(const struct quicklist *q, struct list_value v_take) {
    struct gap_slot node = { .count = 1, .kind = QL_PACKED };
    if (ql_is_large(q->fill, v_take.text.len)) {
        node.kind = QL_PLAIN;
        node.ptr = v_take.str;
        if (!node.ptr) {
            char *data = mem_alloc(v_take.text.len);
            if (v_take.text.len) memcpy(data, v_take.text.ptr, v_take.text.len);
            node.ptr = obj_string_from_raw_take(data, v_take.text.len, v_take.text.len);
        }
        return node;
    }
    node.ptr = lp_append(lp_new(node_cap(q)), v_take.text);
    obj_unref(v_take.str);
    return node;
}

void ql_push(struct quicklist *q, enum list_end end, struct list_value v_take) {
    if (q->n_nodes) {
        struct ql_pos p = ql_end_pos(q, end);
        struct gap_slot *node = ql_node(q, p);
        if (ql_node_takes(q, node, v_take.text.len)) {
            node->ptr = end == LIST_HEAD ? lp_prepend(node->ptr, v_take.text) : lp_append(node->ptr, v_take.text);
            ql_count(q, p, 1);
            obj_unref(v_take.str);
            return;
        }
    }
    ql_put_node_at_end(q, end, ql_new_node(q, v_take));
    ql_fix_end_grown(q, end);
}

void ql_append_listpack(struct quicklist *q, unsigned char *lp_take) {
    struct gap_slot node = { .ptr = lp_take, .count = lp_count(lp_take), .kind = QL_PACKED };
    if (node.count == 0) {
        mem_free(lp_take);
        return;
    }
    ql_put_node_at_end(q, LIST_TAIL, node);
    ql_fix_end_grown(q, LIST_TAIL);
}
