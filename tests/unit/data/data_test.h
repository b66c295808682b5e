/* What the tests of the data layer share. */
#ifndef KETTLE_DATA_TEST_H
#define KETTLE_DATA_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/hash.h"
#include "base/rand.h"
#include "data/keyspace.h"

#define T0 1000000000000LL /* a wall clock in ms */

struct key_buf {
    char text[32];
};

static inline struct slice key_of(struct key_buf *b, unsigned n) {
    int len = snprintf(b->text, sizeof(b->text), "key:%u", n);
    return (struct slice){ b->text, (size_t)len };
}
#define KEY(n) key_of(&(struct key_buf){ { 0 } }, (n))

static inline unsigned key_number(struct slice key) {
    unsigned n = 0;
    for (size_t i = 4; i < key.len; i++) n = n * 10 + (unsigned)(key.ptr[i] - '0');
    return n;
}

/* All shards locked for the test's duration. */
static inline struct keyspace *ks_locked_new(int n_dbs, int n_shards, struct ks_hooks hooks) {
    struct keyspace *ks = ks_new(&(struct ks_opts){ .n_dbs = n_dbs, .n_shards = n_shards, .hooks = hooks });
    ks_lock(ks, ks_all_mask(n_shards));
    return ks;
}

static inline void ks_locked_free(struct keyspace *ks) {
    ks_unlock(ks, ks_all_mask(ks_n_shards(ks)));
    ks_free(ks);
}

static inline struct entry *set_num(struct keyspace *ks, int db, struct slice key, int64_t v) {
    return ks_set(ks, db, key, obj_string_from_ll(v), false);
}

static inline struct entry *find_quietly(struct keyspace *ks, int db, struct slice key, int64_t now_ms) {
    return ks_find(ks, db, key, now_ms, KS_FIND_NO_STATS | KS_FIND_NO_TOUCH);
}

static inline int seed_hash(void **state) {
    (void)state;
    hash_seed_init();
    return 0;
}

#endif
