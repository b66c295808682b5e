/* The encoding of lists that outgrow one listpack: a sequence of nodes, each a listpack of many elements, or one large element by
 * itself. Nodes stand in segments of up to 256, segments in one array; both levels know how many elements are below each slot, so
 * that any index of a list of millions is found in a few hundred sequential reads. The ends are O(1).
 *
 *     segs:   [ 20,480 | 20,480 | 17,002 ]          elements of the segment
 *                 |
 *     nodes:  [ 80 | 80 | 1 | 80 | 80 | ... ]       elements of the node
 *                 |         |
 *            listpack    string object (a large element)
 *
 * For list.c and those who save and load lists; commands use list.h. No locking: the owner of the value serialises.
 */
#ifndef KETTLE_DATA_QUICKLIST_H
#define KETTLE_DATA_QUICKLIST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/slice.h"
#include "data/gap.h"
#include "data/listpack.h"
#include "data/object.h"

enum ql_kind {
    QL_PACKED,     /* ptr: a listpack, never empty */
    QL_PLAIN,      /* ptr: a raw string object of which one reference is the node's; never changed */
    QL_LZF_PACKED, /* ptr: struct ql_lzf, the two above compressed */
    QL_LZF_PLAIN
};

struct ql_lzf {
    uint32_t raw_len, len; /* bytes before and after */
    char data[];
};

struct quicklist {
    uint64_t count;  /* elements */
    struct gap segs; /* slots: ptr is a struct gap of nodes, which is not empty */
    uint32_t n_nodes;
    int16_t fill;   /* list-max-listpack-size when it was made */
    uint16_t depth; /* list-compress-depth */
};

/* A node: the node-th of the seg-th segment. Good until nodes are inserted or removed. */
struct ql_pos {
    uint32_t seg, node;
};

enum list_end { LIST_HEAD, LIST_TAIL };

/* What is put in: text, or a string object that becomes a node of its own without a copy. */
struct list_value {
    struct slice text;
    struct obj *str; /* NULL, or a reference that is taken; text is its bytes */
};

struct quicklist *ql_new(int64_t fill, int64_t depth); /* as configured; brought within what fits */
void ql_free(struct quicklist *q);
struct quicklist *ql_dup(const struct quicklist *q);

/* ---- limits of nodes ---- */
/* Whether a node of so many bytes and elements is larger than `fill` (> 0 elements, < 0 bytes) allows. */
bool ql_exceeds(int64_t fill, size_t bytes, uint64_t count);
void ql_node_limit(int64_t fill, size_t *ret_bytes, uint64_t *ret_count); /* SIZE_MAX or UINT64_MAX: not limited by that */
bool ql_is_large(int64_t fill, size_t len);                               /* an element of this length gets a node of its own */
/* DEBUG QUICKLIST-PACKED-THRESHOLD: from how many bytes on elements are large; 0: what `fill` says. False: beyond 4 GiB. */
bool ql_set_packed_threshold(uint64_t bytes);

/* ---- walking ---- */
static inline struct gap *ql_seg(const struct quicklist *q, uint32_t i) {
    return gap_at(&q->segs, i)->ptr;
}
static inline struct gap_slot *ql_node(const struct quicklist *q, struct ql_pos p) {
    return gap_at(ql_seg(q, p.seg), p.node);
}
struct ql_pos ql_end_pos(const struct quicklist *q, enum list_end end); /* of a list that is not empty */
bool ql_next(const struct quicklist *q, struct ql_pos *p);              /* false: there is none, *p as it was */
bool ql_prev(const struct quicklist *q, struct ql_pos *p);
/* The node of the element at `index` (below count), *ret_offset: which of the node's it is. From the nearer end. */
struct ql_pos ql_find(const struct quicklist *q, uint64_t index, uint64_t *ret_offset);
size_t ql_node_bytes(const struct gap_slot *node); /* uncompressed */
size_t ql_node_mem(const struct gap_slot *node);   /* allocated */
static inline bool ql_is_plain(const struct gap_slot *node) {
    return node->kind == QL_PLAIN || node->kind == QL_LZF_PLAIN;
}
/* What a node holds, uncompressed: into *scratch (mem_alloc, the caller's to free; replaced when it is not NULL) when it has to
 * be. Valid until the node changes. */
const unsigned char *ql_read_packed(const struct gap_slot *node, void **scratch);
struct slice ql_read_plain(const struct gap_slot *node, void **scratch);

/* ---- changing ---- */
void ql_push(struct quicklist *q, enum list_end end, struct list_value v_take);
void ql_append_listpack(struct quicklist *q, unsigned char *lp_take); /* as a node of its own; an empty one is dropped */
/* Beside the element `offset` of the node. */
void ql_insert(struct quicklist *q, struct ql_pos p, uint64_t offset, bool after, struct list_value v_take);
void ql_replace(struct quicklist *q, struct ql_pos p, uint64_t offset, struct list_value v_take);
void ql_delete_range(struct quicklist *q, uint64_t index, uint64_t n); /* n elements that exist */
/* Deletes elements equal to s, at most `max`, from one end on. How many. */
uint64_t ql_remove(struct quicklist *q, struct slice s, uint64_t max, enum list_end from);
uint64_t ql_remove_packed(unsigned char **lp, struct slice s, uint64_t max, enum list_end from); /* the same in one listpack */

#endif
