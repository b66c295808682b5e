/* Sets: encodings "intset" (intset.h), "listpack", and "hashtable", a dict of members that are one allocation each. Which one is
 * decided by data_limits.set_max_*, as in Redis 7.2; a set never goes back to a smaller one by itself.
 *
 * Members are texts; where a set holds them as integers they are given as such, to save conversions: see struct set_member.
 *
 * No locking: the lock of the key's shard is held. What comes from here is valid until the set changes. */
#ifndef KETTLE_DATA_SET_H
#define KETTLE_DATA_SET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/slice.h"
#include "base/str.h"
#include "data/dict.h"
#include "data/lp_index.h"
#include "data/object.h"

struct set_member {
    struct slice text; /* ptr NULL: it is num */
    int64_t num;
};

/* The member as text; a number is written into tmp. */
static inline struct slice set_member_text(const struct set_member *m, char tmp[STR_LL_MAX]) {
    return m->text.ptr ? m->text : (struct slice){ tmp, str_from_ll(tmp, m->num) };
}

struct obj *set_new(void); /* empty, "intset" */
/* Empty, to hold `first` and about `expect` members in all: the encoding SADD begins with. */
struct obj *set_new_for(struct slice first, size_t expect);
/* `more` members are about to come: becomes a table at once when that many will not fit the encoding. */
void set_expect(struct obj *o, size_t more);
uint64_t set_len(const struct obj *o);
bool set_add(struct obj *o, struct slice member); /* true when it is new */
bool set_has(const struct obj *o, struct slice member);
bool set_remove(struct obj *o, struct slice member); /* true when it was there */
/* The same for a member of another set. *hash, 0 at first, keeps the member's hash from one set to the next. */
bool set_add_member(struct obj *o, const struct set_member *m, uint64_t *hash);
/* A member that is known not to be there. */
void set_add_absent(struct obj *o, const struct set_member *m, uint64_t *hash);
bool set_has_member(const struct obj *o, const struct set_member *m, uint64_t *hash);
bool set_remove_member(struct obj *o, const struct set_member *m, uint64_t *hash);

/* Every member until fn gives false; false then. fn may not change the set. */
bool set_each(const struct obj *o, bool (*fn)(void *arg, const struct set_member *m), void *arg);
/* References to members, valid until the set changes. set_refs: all of them into ret (room for set_len). */
void set_refs(const struct obj *o, void **ret);
void set_ref_member(const struct obj *o, const void *ref, struct set_member *ret);
void *set_random(const struct obj *o);      /* a reference; the set is not empty */
struct dict *set_dict(const struct obj *o); /* tables: the dict of references. NULL for the other encodings */

/* For those who look up many members: lp_index.h, where a set would search for each from its start. Valid until the set changes.
 * NULL where it does not pay for n_lookups, or the set is quick by itself. */
struct lp_index *set_index_new(const struct obj *o, uint64_t n_lookups);
static inline bool set_index_has(const struct lp_index *x, const struct set_member *m) {
    return lp_index_find(x, m->text, m->num) != NULL;
}

/* Removes the members of refs; rest: all the others, which is needed where the set is no table and n > 1. Both are used up. */
void set_remove_refs(struct obj *o, void **refs, size_t n, void **rest, size_t n_rest);

/* A result that was built as it came: what holds integers only becomes an intset where the limits allow, a listpack that grew is
 * shrunk. */
void set_compact(struct obj *o);

/* ---- the compact encodings from and to files ---- */
/* NULL for tables; enc OBJ_ENC_INTSET: an intset, else a listpack. */
const unsigned char *set_blob(const struct obj *o, size_t *ret_len);
/* A set of an intset (intset_is_valid) or a listpack (lp_is_valid, no repeated members). Becomes a table when it exceeds the
 * limits. */
struct obj *set_from_blob(enum obj_enc enc, unsigned char *blob_take);

void set_avoid_resize(bool avoid); /* a child process is active */

extern const struct obj_ops set_ops;

#endif
