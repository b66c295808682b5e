/* Inside hashes: what hash*.c share. Nobody else includes it. */
#ifndef KETTLE_DATA_HASH_PRIV_H
#define KETTLE_DATA_HASH_PRIV_H

#include "data/hash.h"
#include "data/timeheap.h"

/* What u.ptr of "listpackex" and "hashtable" begins with. */
struct hash_head {
    uint32_t index_pos; /* in the keyspace's index of hashes with times; TIMEHEAP_NONE */
};

struct hash_lpx {
    struct hash_head head;
    unsigned char *lp;
};

struct hash_table {
    struct hash_head head;
    struct timeheap times; /* of struct hash_field */
    struct dict dict;      /* of struct hash_field */
};

static inline bool hash_is_due(int64_t when_ms, int64_t now_ms) {
    return when_ms != HASH_NO_TIME && now_ms > when_ms;
}

/* ---- hash_pack.c: listpack and listpackex ---- */
void pack_pair(const struct obj *o, const unsigned char *p, struct hash_pair *ret); /* p: the field */
bool pack_get(const struct obj *o, struct slice field, struct hash_pair *ret);      /* due or not */
uint64_t pack_len(const struct obj *o);
bool pack_set(struct obj *o, struct slice field, struct slice value, int64_t now_ms, unsigned flags);
bool pack_delete(struct obj *o, struct slice field, int64_t now_ms);
void pack_set_time(struct obj *o, struct slice field, int64_t when_ms);
int64_t pack_soonest(const struct obj *o);
uint64_t pack_due(const struct obj *o, int64_t now_ms, uint64_t max);
unsigned pack_expire(struct obj *o, int64_t now_ms, unsigned max, void (*gone)(void *arg, struct slice field), void *arg);
unsigned char *pack_next(const struct obj *o, const unsigned char *p); /* field after field; p NULL: the first */
unsigned char *pack_nth(const struct obj *o, uint64_t nth);
bool pack_fits(const struct obj *o, size_t n_pairs, const struct slice *argv);

/* ---- hash_table.c ---- */
struct hash_field;
struct hash_table *table_new(void);
struct hash_field *table_field_new(struct slice field, struct slice value);
bool table_fill(struct hash_table *t, struct dict_fill *f); /* of fields; false: one is there twice, and all are freed */
void table_field_free(void *field);
void table_free(struct hash_table *t);
struct hash_table *table_dup(const struct hash_table *t);
size_t table_mem(const struct hash_table *t, size_t samples);
void field_pair(const struct hash_field *f, struct hash_pair *ret);
int64_t field_time(const struct hash_field *f);
struct hash_field *table_find(const struct hash_table *t, struct slice field);
/* Exactly one of text and large_take. */
bool table_set(struct hash_table *t, struct slice field, struct slice text, struct obj *large_take, int64_t now_ms,
               unsigned flags);
bool table_delete(struct hash_table *t, struct slice field, int64_t now_ms);
void table_set_time(struct hash_table *t, struct slice field, int64_t when_ms);
unsigned table_expire(struct hash_table *t, int64_t now_ms, unsigned max, void (*gone)(void *arg, struct slice field), void *arg);

#endif
