/* Hashes: fields with values, and with times to live of single fields.
 *
 * Encodings (OBJECT ENCODING): "listpack", field and value in turn; "listpackex", field, value and time in turn, in the order of
 * the times, 0 for none, those last (what Redis 7.4 keeps in RDB files); "hashtable", see hash_table.c. A hash becomes a table by
 * data_limits.hash_max_listpack_*, and stays one.
 *
 * A field is due when now_ms > its time. A due field is as good as absent for every function that is given now_ms; it is there
 * until hash_expire takes it away. now_ms 0 sees everything, due or not.
 *
 * Whoever gives a field a time says ks_fields_changed (keyspace.h) afterwards, so that the field is taken away on time. Copies of
 * a hash (COPY, RESTORE) that ks_set or ks_replace puts into the keyspace are looked at there.
 *
 * No locking: the lock of the key's shard is held. Slices that come from here are valid until the hash changes. */
#ifndef KETTLE_DATA_HASH_H
#define KETTLE_DATA_HASH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/slice.h"
#include "base/str.h"
#include "data/dict.h"
#include "data/object.h"

#define HASH_NO_TIME (-1)  /* lives as long as the hash */
#define HASH_NO_FIELD (-2) /* hash_time: there is no such field */
#define HASH_TIME_MAX                                                                                                            \
    ((1LL << 46) - 1)        /* ms: the latest time HEXPIRE takes, as in Redis 7.4, whose structures hold no later ones */
#define HASH_LARGE_MIN 16384 /* bytes from which on a table keeps a value as a string object, which replies may refer to */

struct hash_pair {
    struct slice field, value;
    struct obj *large; /* not NULL: value is its bytes, and a reply may take a reference */
    int64_t when_ms;   /* or HASH_NO_TIME */
    char field_tmp[STR_LL_MAX], value_tmp[STR_LL_MAX];
};

struct obj *hash_new(void);                                  /* empty, "listpack" */
uint64_t hash_len(const struct obj *o);                      /* due ones included */
uint64_t hash_len_live(const struct obj *o, int64_t now_ms); /* without; O(1 + due fields) */
bool hash_get(const struct obj *o, struct slice field, int64_t now_ms, struct hash_pair *ret);

enum hash_set_flag { HASH_KEEP_TIME = 1 };
/* True when the field is new. An old one loses its time unless HASH_KEEP_TIME. */
bool hash_set(struct obj *o, struct slice field, struct slice value, int64_t now_ms, unsigned flags);
/* The same; the value is a string of at least HASH_LARGE_MIN bytes, whose reference is taken. */
bool hash_set_large(struct obj *o, struct slice field, struct obj *value_take, int64_t now_ms, unsigned flags);
bool hash_delete(struct obj *o, struct slice field, int64_t now_ms); /* true when it was there; a due one stays for hash_expire */
/* Before n_pairs are set from argv (fields and values in turn): makes a table of it at once when they will not fit. */
void hash_expect(struct obj *o, size_t n_pairs, const struct slice *argv);

/* ---- building ---- */
/* A table of fields that are hardly ever there twice: looked up all together, at the end. */
struct hash_builder;
bool hash_is_table_of(uint64_t n_fields); /* whether so many are beyond the compact encodings */
struct hash_builder *hash_builder_new(void);
struct hash_builder *hash_builder_free(struct hash_builder *b); /* NULL is fine; always NULL */
void hash_builder_add(struct hash_builder *b, struct slice field, struct slice value);
struct obj *hash_builder_finish(struct hash_builder *b_take); /* NULL: a field is there twice */

/* ---- times ---- */
int64_t hash_time(const struct obj *o, struct slice field, int64_t now_ms); /* or HASH_NO_TIME, HASH_NO_FIELD */
void hash_set_time(struct obj *o, struct slice field, int64_t when_ms);     /* the field exists; HASH_NO_TIME clears */
int64_t hash_soonest(const struct obj *o);                                  /* HASH_NO_TIME when no field has a time */
uint64_t hash_due(const struct obj *o, int64_t now_ms, uint64_t max);       /* due fields, counting up to max */
/* Takes away up to max due fields, soonest first; each is shown to gone before. Returns how many. The hash may be empty then. */
unsigned hash_expire(struct obj *o, int64_t now_ms, unsigned max, void (*gone)(void *arg, struct slice field), void *arg);

/* ---- walks and picks ---- */
/* Every live pair until fn gives false; false then. fn may not change the hash. */
bool hash_each(const struct obj *o, int64_t now_ms, bool (*fn)(void *arg, const struct hash_pair *p), void *arg);
/* References to fields, valid until the hash changes. hash_refs: all live ones into ret (room for hash_len); their number. */
size_t hash_refs(const struct obj *o, int64_t now_ms, void **ret);
void hash_ref_pair(const struct obj *o, const void *ref, struct hash_pair *ret);
bool hash_ref_is_due(const struct obj *o, const void *ref, int64_t now_ms);
void *hash_random(const struct obj *o); /* a reference to a random field, due or not; the hash is not empty */
/* Tables: the dict of references, for scanning and random picks. NULL for the other encodings. */
struct dict *hash_dict(const struct obj *o);

/* ---- what the compact encodings are made of, for RDB and DUMP ---- */
/* NULL when a table. *ret_timed: with times (listpackex). */
const unsigned char *hash_listpack(const struct obj *o, bool *ret_timed);
/* A hash of a listpack that lp_is_valid found to hold pairs (timed: triples, the last of each an integer, in order) without
 * repeated fields. Becomes a table when it exceeds the limits. */
struct obj *hash_from_listpack(unsigned char *lp_take, bool timed);
void hash_make_table(struct obj *o); /* whatever it is now */

/* ---- for the keyspace ---- */
/* Where the key's index entry is; UINT32_MAX: not in it. Hashes that never had a time have no such place (NULL). */
uint32_t *hash_index_pos(const struct obj *o);
void hash_avoid_resize(bool avoid); /* a child process is active */

extern const struct obj_ops hash_ops;

#endif
