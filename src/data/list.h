/* The list type: what every reader and writer of lists uses. Two encodings, as OBJECT ENCODING names them: a listpack while the
 * whole list fits into one node of a quicklist, else a quicklist (quicklist.h).
 *
 * Functions that add do not convert by themselves: the caller says beforehand what is to come (list_grow), and list_shrink when
 * elements are gone. An empty list is a value like any other here; commands delete its key.
 *
 * Locking: the shard of the key, as for every value. */
#ifndef KETTLE_DATA_LIST_H
#define KETTLE_DATA_LIST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "data/object.h"
#include "data/quicklist.h"

struct obj *list_new(void);           /* empty, a listpack */
struct obj *list_new_quicklist(void); /* empty, a quicklist with the limits as configured: loading; list_fit at the end */
uint64_t list_len(const struct obj *o);

/* ---- conversions, by list-max-listpack-size as configured ---- */
void list_grow(struct obj *o, uint64_t n, uint64_t bytes); /* before n elements of so many bytes in all are added */
void list_shrink(struct obj *o); /* after deleting: a quicklist becomes a listpack when it is down to half of one's limit */
void list_fit(struct obj *o);    /* after loading: to what its size asks for */

/* ---- reading ---- */
/* An element: an integer, or text. Valid until the list changes or the iterator goes on. */
struct list_elem {
    bool is_int;
    int64_t num;
    struct slice text;
    struct obj *str; /* not NULL: text is the bytes of this string, which may be shared by reference (obj_ref) */
};
/* The text; an integer's is written into tmp. */
struct slice list_elem_text(const struct list_elem *e, char tmp[STR_LL_MAX]);

/* Goes over the elements from `index` on (below the length; else there are none), towards the tail or the head. The list must not
 * change meanwhile. */
struct list_iter {
    const struct quicklist *q; /* NULL: listpack */
    struct ql_pos pos;
    bool backward, is_plain, is_done;
    const unsigned char *lp, *p; /* p: the next element. NULL: it is in the next node */
    void *scratch;               /* of a compressed node */
};
void list_iter_init(struct list_iter *it, const struct obj *o, uint64_t index, bool backward);
bool list_iter_next(struct list_iter *it, struct list_elem *ret);
void list_iter_done(struct list_iter *it);

/* A value looked for, ready to be compared with many elements. */
struct list_needle {
    struct slice text;
    bool is_int;
    int64_t num;
};
struct list_needle list_needle_of(struct slice s);
static inline bool list_elem_eq(const struct list_elem *e, const struct list_needle *n) {
    return e->is_int ? n->is_int && e->num == n->num : slice_eq(e->text, n->text);
}

/* ---- changing ---- */
void list_push(struct obj *o, enum list_end end, struct list_value v_take);
void list_set(struct obj *o, uint64_t index, struct list_value v_take); /* index below the length */
/* Beside an element found by list_find, the list unchanged since (list_grow may have come between). */
struct list_place {
    struct ql_pos pos;
    uint64_t offset;
};
bool list_find(const struct obj *o, struct slice s, struct list_place *ret); /* the first element equal to s */
void list_insert(struct obj *o, struct list_place at, bool after, struct list_value v_take);
void list_delete(struct obj *o, uint64_t index, uint64_t n); /* n elements that exist */
/* Deletes elements equal to s, at most max, from one end on. How many. */
uint64_t list_remove_equal(struct obj *o, struct slice s, uint64_t max, enum list_end from);
/* True: an element of this length is worth a string object of its own (list_value.str). */
bool list_wants_object(const struct obj *o, size_t len);

/* ---- loading and saving ---- */
/* Adds to a quicklist: nodes as they were saved, each a listpack that lp_is_valid accepted. */
void list_append_listpack(struct obj *o, unsigned char *lp_take);
struct list_node {
    bool is_plain;      /* bytes are one element; else a listpack */
    struct slice lzf;   /* the node as it is kept, compressed by LZF; ptr NULL: it is not */
    struct slice bytes; /* else */
    size_t raw_len;     /* uncompressed */
};
/* Every node in order (of a listpack: one), until fn returns false: false then. */
bool list_each_node(const struct obj *o, bool (*fn)(void *arg, const struct list_node *n), void *arg);

/* What DEBUG OBJECT tells of a quicklist. False: it is a listpack. */
struct list_stats {
    uint64_t nodes;
    double avg_node; /* elements */
    int max;         /* list-max-listpack-size it was made with */
    bool compressed; /* may have compressed nodes */
    size_t uncompressed_size;
};
bool list_stats(const struct obj *o, struct list_stats *ret);

extern const struct obj_ops list_ops;

#endif
