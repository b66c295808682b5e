/* Order of a sorted set: a counted B+-tree of entries by (score, member). Knows the rank of everything and the entry of every
 * rank in O(log n). Used by zset.c only, which also finds entries by member in a dict; both refer to the same entries and zset.c
 * owns them.
 *
 * No locking: the owner serialises. An entry's score is changed by ztree_move only while it is in a tree. */
#ifndef KETTLE_DATA_ZTREE_H
#define KETTLE_DATA_ZTREE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/slice.h"

/* Score and member in one allocation. A member of up to 254 bytes follows one byte with its length; a longer one follows the
 * byte 255 and eight bytes of length. */
struct zset_entry {
    double score;
    unsigned char data[];
};

#define ZSET_ENTRY_LONG 255

static inline struct slice zset_entry_member(const struct zset_entry *e) {
    if (e->data[0] != ZSET_ENTRY_LONG) return (struct slice){ (const char *)e->data + 1, e->data[0] };
    uint64_t len;
    memcpy(&len, e->data + 1, sizeof(len));
    return (struct slice){ (const char *)e->data + 1 + sizeof(len), len };
}
struct zset_entry *zset_entry_new(double score, struct slice member);

struct ztree_item {
    double score; /* the entry's, where a search reads it */
    struct zset_entry *e;
};

struct ztree_leaf;

struct ztree {
    void *root;      /* a leaf when height is 0, else an inner node; NULL when empty */
    unsigned height; /* inner nodes above each leaf */
    uint64_t n;
    uint64_t n_leaves, n_inners;
    struct ztree_leaf *first, *last;
};

/* A place in the tree: an entry, or the place behind the last one. Valid until the next change. */
struct ztree_pos {
    struct ztree_leaf *leaf;
    unsigned i;
};

/* A zeroed struct ztree is empty. */
void ztree_clear(struct ztree *t, void (*free_entry)(void *e)); /* free_entry may be NULL */
size_t ztree_mem(const struct ztree *t);                        /* bytes of the nodes */

/* The entry must not be there / must be there. */
void ztree_insert(struct ztree *t, struct zset_entry *e);
void ztree_remove(struct ztree *t, const struct zset_entry *e);
void ztree_move(struct ztree *t, struct zset_entry *e, double score);
/* Takes out n entries from rank `first` on; each is given to fn, which may free it. */
void ztree_remove_range(struct ztree *t, uint64_t first, uint64_t n, void (*fn)(void *arg, struct zset_entry *e), void *arg);
/* Fills an empty tree with n entries, given in order: no searching, full nodes. */
void ztree_load(struct ztree *t, const struct ztree_item *sorted, uint64_t n);

/* How many entries are below: all are found by one way down. or_equal: counts those that are equal too. */
uint64_t ztree_rank(const struct ztree *t, const struct zset_entry *e);
uint64_t ztree_count_score(const struct ztree *t, double score, bool or_equal);
uint64_t ztree_count_lex(const struct ztree *t, struct slice member, bool or_equal); /* by member alone: all scores are equal */

/* Walking. The place of a rank below n; the entry at a place, and steps from it. */
struct ztree_pos ztree_at(const struct ztree *t, uint64_t rank);
struct zset_entry *ztree_get(struct ztree_pos p);     /* NULL: no entry (leaf NULL) */
void ztree_fetch(struct ztree_pos p, bool backwards); /* has the first entries of a walk brought into the cache */
void ztree_next(struct ztree_pos *p);                 /* leaf NULL at the end */
void ztree_prev(struct ztree_pos *p);

int zset_entry_cmp(const struct zset_entry *a, const struct zset_entry *b);

bool ztree_check(const struct ztree *t); /* for tests: every invariant */

#endif
