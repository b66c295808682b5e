/* Listpack: a sequence of short strings and integers in one allocation, walked in both directions. The compact encoding of small
 * lists, hashes, sets and sorted sets, and of the nodes of large lists and streams. The bytes are the format's of Redis (its
 * listpack specification), so that RDB files and DUMP payloads hold them as they are.
 *
 *     total bytes (4, little endian) | elements (2; 65535: count them) | element ... | 0xff
 *     element: encoding and data | length of these, backwards
 *
 * A listpack is at most 1 GiB (LP_MAX_BYTES); callers keep theirs far smaller. Functions that change one return its new address.
 * Element pointers (`p`) are valid until the next change. Integers in canonical decimal form are stored as integers, whoever
 * gives them as text gets the same text back. No locking: the owner serialises. */
#ifndef KETTLE_DATA_LISTPACK_H
#define KETTLE_DATA_LISTPACK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/slice.h"
#include "base/str.h"

#define LP_MAX_BYTES (1UL << 30)
#define LP_EMPTY_BYTES 7

unsigned char *lp_new(size_t cap); /* cap: bytes to have room for from the start; 0: none. Owned; mem_free */
unsigned char *lp_dup(const unsigned char *lp);
unsigned char *lp_shrink(unsigned char *lp); /* gives back what growing took ahead */
size_t lp_bytes(const unsigned char *lp);
size_t lp_count(const unsigned char *lp); /* elements; O(1) below 65,535, else it walks */
/* Whether one more element of len bytes may be added to it. */
bool lp_has_room(const unsigned char *lp, size_t len);

/* ---- walking: NULL at the end, or when there is none ---- */
unsigned char *lp_first(const unsigned char *lp);
unsigned char *lp_last(const unsigned char *lp);
unsigned char *lp_next(const unsigned char *lp, const unsigned char *p);
unsigned char *lp_prev(const unsigned char *lp, const unsigned char *p);
unsigned char *lp_seek(const unsigned char *lp, long index); /* negative: from the end, -1 the last. Walks from the nearer end */

/* ---- reading ---- */
/* The element's text; an integer's is written into tmp. Valid while both are. */
struct slice lp_get(const unsigned char *p, char tmp[STR_LL_MAX]);
/* True: an integer, in *ret_int. False: *ret_str is the text in the listpack. */
bool lp_get_int(const unsigned char *p, int64_t *ret_int, struct slice *ret_str);
size_t lp_len(const unsigned char *p); /* of the element as text */
bool lp_eq(const unsigned char *p, struct slice s);
/* The first element equal to s, from p on (p included), looking at every (skip + 1)th: 1 for the fields of a hash. NULL: none. */
unsigned char *lp_find(const unsigned char *lp, const unsigned char *p, struct slice s, unsigned skip);
size_t lp_entry_bytes(const unsigned char *p); /* what the element takes, all of it */

/* ---- changing ---- */
enum lp_where { LP_BEFORE, LP_AFTER, LP_REPLACE };
/* Puts s relative to p; *ret_p (may be NULL) is the new element. s must not point into lp. */
unsigned char *lp_insert(unsigned char *lp, const unsigned char *p, enum lp_where where, struct slice s, unsigned char **ret_p);
unsigned char *lp_insert_int(unsigned char *lp, const unsigned char *p, enum lp_where where, int64_t v, unsigned char **ret_p);
unsigned char *lp_append(unsigned char *lp, struct slice s);
unsigned char *lp_append_int(unsigned char *lp, int64_t v);
unsigned char *lp_prepend(unsigned char *lp, struct slice s);
/* *p is replaced, and is the new element afterwards. */
unsigned char *lp_replace(unsigned char *lp, unsigned char **p, struct slice s);
unsigned char *lp_replace_int(unsigned char *lp, unsigned char **p, int64_t v);
/* Deletes n elements from p on (fewer when there are fewer). *ret_p (may be NULL): what is now at p's place; NULL at the end. */
unsigned char *lp_delete(unsigned char *lp, const unsigned char *p, size_t n, unsigned char **ret_p);
unsigned char *lp_delete_range(unsigned char *lp, long index, size_t n); /* index as in lp_seek */
/* a's elements, then b's; both are taken. */
unsigned char *lp_join(unsigned char *a_take, unsigned char *b_take);

/* ---- what came from outside ---- */
/* Whether `bytes` bytes are a listpack: header, end, and with deep every element and the count. What is accepted can be used with
 * everything above. each (may be NULL, deep only): called for every element; false from it means not valid. */
bool lp_is_valid(const unsigned char *bytes, size_t len, bool deep, bool (*each)(void *arg, const unsigned char *p), void *arg);

#endif
