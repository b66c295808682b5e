/* Quicklists: what changes in the middle. Nodes are cut where an element does not fit, and joined with their neighbours after
 * that, by the rules of redis-server: when a quicklist may become a listpack again depends on its nodes. */
#include "data/quicklist_priv.h"

#include "base/alloc.h"

#define GROWN_BYTES (256 * 1024) /* a node that replacing elements has made so large is cut */
#define FEW_MATCHES 8            /* so many elements are deleted one by one, of more the node is written anew */

/* Cuts the node before its element `at` (not 0): *p stays with the first part; returns the second's place. */
static struct ql_pos split(struct quicklist *q, struct ql_pos *p, uint64_t at) {
    ql_open(q, *p);
    struct gap_slot *node = ql_node(q, *p), right = { .kind = QL_PACKED, .count = node->count - at };
    right.ptr = lp_delete_range(lp_dup(node->ptr), 0, at);
    node->ptr = lp_delete_range(node->ptr, (long)at, right.count);
    ql_count(q, *p, -(int64_t)right.count);
    struct ql_pos r = ql_put_node_after(q, *p, right);
    *p = r;
    ql_prev(q, p);
    return r;
}

/* Joins the node with the next, when there is one and they fit into one. */
static bool join(struct quicklist *q, struct ql_pos p) {
    struct ql_pos next = p;
    if (!ql_next(q, &next)) return false;
    struct gap_slot *a = ql_node(q, p), *b = ql_node(q, next);
    if (ql_is_plain(a) || ql_is_plain(b)) return false;
    if (ql_exceeds(q->fill, ql_node_bytes(a) + ql_node_bytes(b) - LP_EMPTY_BYTES, a->count + b->count)) return false;
    ql_open(q, p);
    ql_open(q, next);
    uint64_t n = b->count;
    a->ptr = lp_join(a->ptr, b->ptr);
    ql_take_node(q, next);
    ql_count(q, p, (int64_t)n);
    return true;
}

/* Packs what a cut has opened, the node and its neighbours. */
static void close_around(struct quicklist *q, struct ql_pos centre) {
    struct ql_pos p = centre;
    if (q->depth == 0) return;
    ql_close(q, centre);
    if (ql_next(q, &p)) ql_close(q, p);
    p = centre;
    if (ql_prev(q, &p)) ql_close(q, p);
}

/* After a cut: the two nodes before the centre, the two behind it, then the centre with what is beside it. */
static void join_around(struct quicklist *q, struct ql_pos centre) {
    struct ql_pos p = centre;
    if (ql_next(q, &p)) join(q, p);
    struct ql_pos before = centre, first;
    if (ql_prev(q, &before)) {
        first = before;
        if (ql_prev(q, &first) && join(q, first)) {
            before = first;
            centre = first;
            ql_next(q, &centre);
        }
        if (join(q, before)) centre = before;
    }
    join(q, centre);
    close_around(q, centre);
}

static void put_beside(struct quicklist *q, struct ql_pos p, bool after, struct gap_slot node) {
    if (after)
        ql_put_node_after(q, p, node);
    else
        ql_put_node(q, p, node);
}

/* Adds to a packed node that takes it, at its first or last place. */
static void push_to(struct quicklist *q, struct ql_pos p, enum list_end end, struct list_value v_take) {
    ql_open(q, p);
    struct gap_slot *node = ql_node(q, p);
    node->ptr = end == LIST_HEAD ? lp_prepend(node->ptr, v_take.text) : lp_append(node->ptr, v_take.text);
    ql_count(q, p, 1);
    ql_close(q, p);
    obj_unref(v_take.str);
}

static void insert_packed(struct quicklist *q, struct ql_pos p, uint64_t offset, bool after, struct list_value v_take) {
    ql_open(q, p);
    struct gap_slot *node = ql_node(q, p);
    node->ptr = lp_insert(node->ptr, lp_seek(node->ptr, (long)offset), after ? LP_AFTER : LP_BEFORE, v_take.text, NULL);
    ql_count(q, p, 1);
    ql_close(q, p);
    obj_unref(v_take.str);
}

/* At the first or last place of a node that does not take it: into the neighbour there, or between the two. */
static void insert_at_edge(struct quicklist *q, struct ql_pos p, bool after, struct list_value v_take) {
    struct ql_pos beside = p;
    bool found = after ? ql_next(q, &beside) : ql_prev(q, &beside);
    if (found && ql_node_takes(q, ql_node(q, beside), v_take.text.len)) {
        push_to(q, beside, after ? LIST_HEAD : LIST_TAIL, v_take);
        return;
    }
    put_beside(q, p, after, ql_new_node(q, v_take));
    ql_fix_ends(q);
}

void ql_insert(struct quicklist *q, struct ql_pos p, uint64_t offset, bool after, struct list_value v_take) {
    struct gap_slot *node = ql_node(q, p);
    size_t len = v_take.text.len;
    if (ql_node_takes(q, node, len)) {
        insert_packed(q, p, offset, after, v_take);
        return;
    }
    if (after ? offset == node->count - 1 : offset == 0) {
        insert_at_edge(q, p, after, v_take);
        return;
    }
    struct ql_pos right = split(q, &p, after ? offset + 1 : offset);
    if (ql_is_large(q->fill, len)) {
        close_around(q, ql_put_node(q, right, ql_new_node(q, v_take)));
    } else if (after) {
        push_to(q, right, LIST_HEAD, v_take);
        join_around(q, p);
    } else {
        push_to(q, p, LIST_TAIL, v_take);
        join_around(q, right);
    }
    ql_fix_ends(q);
}

/* ---- replacing ---- */

static void replace_in_packed(struct quicklist *q, struct ql_pos p, uint64_t offset, struct list_value v_take) {
    ql_open(q, p);
    struct gap_slot *node = ql_node(q, p);
    unsigned char *e = lp_seek(node->ptr, (long)offset);
    node->ptr = lp_replace(node->ptr, &e, v_take.text);
    obj_unref(v_take.str);
    if (lp_bytes(node->ptr) > GROWN_BYTES && node->count > 1) {
        ql_close(q, split(q, &p, node->count / 2));
        ql_close(q, p);
        ql_fix_ends(q);
        return;
    }
    ql_close(q, p);
}

/* The whole node by another of one element. */
static void replace_node(struct quicklist *q, struct ql_pos p, struct list_value v_take) {
    struct gap_slot *node = ql_node(q, p), fresh = ql_new_node(q, v_take);
    ql_free_node(node);
    *node = fresh;
    ql_close(q, p);
}

/* A large element in place of one of several: it stands between what was before and what was behind. */
static void replace_by_large(struct quicklist *q, struct ql_pos p, uint64_t offset, struct list_value v_take) {
    if (offset + 1 < ql_node(q, p)->count) split(q, &p, offset + 1);
    struct ql_pos at = ql_put_node_after(q, p, ql_new_node(q, v_take));
    p = at;
    ql_prev(q, &p);
    ql_open(q, p);
    struct gap_slot *node = ql_node(q, p);
    if (node->count == 1) {
        ql_drop_node(q, p);
        ql_is_past_end(q, &p);
        at = p;
    } else {
        node->ptr = lp_delete_range(node->ptr, -1, 1);
        ql_count(q, p, -1);
    }
    join_around(q, at);
    ql_fix_ends(q);
}

void ql_replace(struct quicklist *q, struct ql_pos p, uint64_t offset, struct list_value v_take) {
    struct gap_slot *node = ql_node(q, p);
    bool large = ql_is_large(q->fill, v_take.text.len);
    struct ql_pos next = p;
    if (!ql_is_plain(node) && !large) {
        replace_in_packed(q, p, offset, v_take);
    } else if (large && !ql_is_plain(node) && node->count > 1) {
        replace_by_large(q, p, offset, v_take);
    } else if (!large && ql_next(q, &next) && ql_node_takes(q, ql_node(q, next), v_take.text.len)) {
        push_to(q, next, LIST_HEAD, v_take);
        ql_drop_node(q, p);
        ql_tidy(q, p.seg);
        ql_fix_ends(q);
    } else {
        replace_node(q, p, v_take);
    }
}

/* ---- deleting ---- */

/* Deletes up to n elements from `offset` of the node on. How many; *p is then the node to go on with. */
static uint64_t delete_in_node(struct quicklist *q, struct ql_pos *p, uint64_t offset, uint64_t n) {
    struct gap_slot *node = ql_node(q, *p);
    if (n > node->count - offset) n = node->count - offset;
    if (n == node->count) {
        ql_drop_node(q, *p);
    } else {
        ql_open(q, *p);
        node->ptr = lp_delete_range(node->ptr, (long)offset, n);
        ql_count(q, *p, -(int64_t)n);
        ql_close(q, *p);
        p->node++;
    }
    ql_is_past_end(q, p);
    return n;
}

void ql_delete_range(struct quicklist *q, uint64_t index, uint64_t n) {
    if (n == 0) return;
    uint64_t offset;
    uint32_t nodes = q->n_nodes;
    struct ql_pos p = ql_find(q, index, &offset);
    uint32_t first_seg = p.seg;
    while (n > 0) {
        uint64_t in_seg = gap_at(&q->segs, p.seg)->count;
        if (offset == 0 && p.node == 0 && in_seg <= n) {
            ql_drop_seg(q, p.seg);
            n -= in_seg;
        } else {
            n -= delete_in_node(q, &p, offset, n);
        }
        offset = 0;
    }
    if (q->n_nodes == nodes) return;
    ql_tidy(q, first_seg);
    ql_fix_ends(q);
}

static uint64_t count_matches(const unsigned char *lp, struct slice s) {
    uint64_t n = 0;
    for (unsigned char *p = lp_find(lp, lp_first(lp), s, 0); p; p = lp_find(lp, lp_next(lp, p), s, 0)) n++;
    return n;
}

static unsigned char *append_copy(unsigned char *lp, const unsigned char *p) {
    int64_t v;
    struct slice text;
    return lp_get_int(p, &v, &text) ? lp_append_int(lp, v) : lp_append(lp, text);
}

/* The listpack without n matches, those after the first `skip` ones. */
static unsigned char *without(unsigned char *lp, struct slice s, uint64_t skip, uint64_t n) {
    unsigned char *p = lp_find(lp, lp_first(lp), s, 0);
    while (skip--) p = lp_find(lp, lp_next(lp, p), s, 0);
    if (n <= FEW_MATCHES) {
        while (n--) {
            lp = lp_delete(lp, p, 1, &p);
            if (n) p = lp_find(lp, p, s, 0);
        }
        return lp;
    }
    unsigned char *fresh = lp_new(lp_bytes(lp)), *match = p;
    for (p = lp_first(lp); p; p = lp_next(lp, p)) {
        if (p != match) {
            fresh = append_copy(fresh, p);
            continue;
        }
        match = --n ? lp_find(lp, lp_next(lp, p), s, 0) : NULL;
    }
    mem_free(lp);
    return lp_shrink(fresh);
}

uint64_t ql_remove_packed(unsigned char **lp, struct slice s, uint64_t max, enum list_end from) {
    uint64_t found = count_matches(*lp, s), n = found < max ? found : max;
    if (n) *lp = without(*lp, s, from == LIST_HEAD ? 0 : found - n, n);
    return n;
}

/* How many of a node's elements are to go. They are gone when this returns, unless that is all of them. */
static uint64_t remove_in_node(struct quicklist *q, struct ql_pos p, struct slice s, uint64_t max, enum list_end from,
                               void **scratch) {
    struct gap_slot *node = ql_node(q, p);
    if (ql_is_plain(node)) return ql_node_bytes(node) == s.len && slice_eq(ql_read_plain(node, scratch), s);
    uint64_t found = count_matches(ql_read_packed(node, scratch), s), n = found < max ? found : max;
    if (n == 0 || n == node->count) return n;
    ql_open(q, p);
    unsigned char *lp = node->ptr;
    ql_remove_packed(&lp, s, max, from);
    node->ptr = lp;
    ql_count(q, p, -(int64_t)n);
    ql_close(q, p);
    return n;
}

uint64_t ql_remove(struct quicklist *q, struct slice s, uint64_t max, enum list_end from) {
    uint64_t left = max;
    uint32_t nodes = q->n_nodes;
    void *scratch = NULL;
    struct ql_pos p = ql_end_pos(q, from);
    for (bool more = true; more && left > 0;) {
        uint64_t had = ql_node(q, p)->count, n = remove_in_node(q, p, s, left, from, &scratch);
        left -= n;
        bool gone = n == had;
        if (gone) ql_drop_node(q, p);
        if (from == LIST_TAIL)
            more = ql_prev(q, &p);
        else
            more = gone ? !ql_is_past_end(q, &p) : ql_next(q, &p);
    }
    mem_free(scratch);
    if (q->n_nodes != nodes) {
        for (uint32_t seg = q->segs.n; seg-- > 0;) ql_tidy(q, seg);
        ql_fix_ends(q);
    }
    return max - left;
}
