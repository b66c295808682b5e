/* Compression of quicklist nodes away from the ends (list-compress-depth). Reading a compressed node unpacks it into memory of
 * the reader's and leaves it as it is; changing it unpacks it in place and packs it again.
 *
 * Bounds: a node of less than MIN_BYTES, or one that would shrink by less than MIN_GAIN, is left alone, as redis-server does; so
 * is one of more than MAX_BYTES, which would hold up the shard for tens of milliseconds. */
#include "data/quicklist_priv.h"

#include <assert.h>
#include <liblzf/lzf.h>
#include <string.h>

#include "base/alloc.h"

#define MIN_BYTES 48
#define MIN_GAIN 8
#define MAX_BYTES (4 << 20)

static bool is_lzf(const struct gap_slot *node) {
    return node->kind == QL_LZF_PACKED || node->kind == QL_LZF_PLAIN;
}

/* ---- reading ---- */

static void unpack(const struct ql_lzf *z, void *out) {
    unsigned n = lzf_decompress(z->data, z->len, out, z->raw_len);
    assert(n == z->raw_len);
    (void)n;
}

static void *unpack_to_scratch(const struct gap_slot *node, void **scratch) {
    const struct ql_lzf *z = node->ptr;
    mem_free(*scratch);
    *scratch = mem_alloc(z->raw_len);
    unpack(z, *scratch);
    return *scratch;
}

const unsigned char *ql_read_packed(const struct gap_slot *node, void **scratch) {
    return node->kind == QL_PACKED ? node->ptr : unpack_to_scratch(node, scratch);
}

struct slice ql_read_plain(const struct gap_slot *node, void **scratch) {
    if (node->kind == QL_PLAIN) return obj_string_bytes(node->ptr, NULL);
    size_t len = ql_node_bytes(node);
    return (struct slice){ unpack_to_scratch(node, scratch), len };
}

/* ---- packing ---- */

static void unpack_node(struct gap_slot *node) {
    if (!is_lzf(node)) return;
    struct ql_lzf *z = node->ptr;
    void *raw = mem_alloc(z->raw_len);
    unpack(z, raw);
    if (node->kind == QL_LZF_PLAIN) {
        node->ptr = obj_string_from_raw_take(raw, z->raw_len, z->raw_len);
        node->kind = QL_PLAIN;
    } else {
        node->ptr = raw;
        node->kind = QL_PACKED;
    }
    mem_free(z);
}

static void pack_node(struct gap_slot *node) {
    size_t len = ql_node_bytes(node);
    if (is_lzf(node) || len < MIN_BYTES || len > MAX_BYTES) return;
    struct ql_lzf *z = mem_alloc(sizeof(*z) + len - MIN_GAIN);
    const void *raw = node->kind == QL_PACKED ? node->ptr : obj_string_bytes(node->ptr, NULL).ptr;
    z->raw_len = (uint32_t)len;
    z->len = lzf_compress(raw, z->raw_len, z->data, (unsigned)(len - MIN_GAIN));
    if (z->len == 0) {
        mem_free(z);
        return;
    }
    bool plain = node->kind == QL_PLAIN;
    ql_free_node(node);
    node->ptr = mem_realloc(z, sizeof(*z) + z->len);
    node->kind = plain ? QL_LZF_PLAIN : QL_LZF_PACKED;
}

void ql_open(struct quicklist *q, struct ql_pos p) {
    unpack_node(ql_node(q, p));
}

/* The node `rank` nodes from an end. False: the list is shorter. */
static bool nth_from(const struct quicklist *q, enum list_end end, uint32_t rank, struct ql_pos *ret) {
    if (rank >= q->n_nodes) return false;
    for (uint32_t i = 0; i < q->segs.n; i++) {
        uint32_t seg = end == LIST_HEAD ? i : q->segs.n - 1 - i, n = ql_seg(q, seg)->n;
        if (rank < n) {
            *ret = (struct ql_pos){ seg, end == LIST_HEAD ? rank : n - 1 - rank };
            return true;
        }
        rank -= n;
    }
    return false;
}

static bool before(struct ql_pos a, struct ql_pos b) {
    return a.seg < b.seg || (a.seg == b.seg && a.node < b.node);
}

static bool is_interior(const struct quicklist *q, struct ql_pos p) {
    struct ql_pos first, last;
    if (q->depth == 0 || !nth_from(q, LIST_HEAD, q->depth, &first) || !nth_from(q, LIST_TAIL, q->depth, &last)) return false;
    return !before(p, first) && !before(last, p);
}

void ql_close(struct quicklist *q, struct ql_pos p) {
    if (is_interior(q, p)) pack_node(ql_node(q, p));
}

/* The node next to the last that stays as it is at that end. */
static void pack_first_interior(struct quicklist *q, enum list_end end) {
    struct ql_pos p;
    if (nth_from(q, end, q->depth, &p)) ql_close(q, p);
}

void ql_fix_end_grown(struct quicklist *q, enum list_end end) {
    if (q->depth) pack_first_interior(q, end);
}

void ql_fix_ends(struct quicklist *q) {
    if (q->depth == 0 || q->n_nodes == 0) return;
    struct ql_pos head = ql_end_pos(q, LIST_HEAD), tail = ql_end_pos(q, LIST_TAIL);
    bool more = true;
    for (unsigned i = 0; i < q->depth && more; i++) {
        ql_open(q, head);
        ql_open(q, tail);
        more = ql_next(q, &head) && ql_prev(q, &tail);
    }
    pack_first_interior(q, LIST_HEAD);
    pack_first_interior(q, LIST_TAIL);
}
