/* The compact encodings of hashes. Place in the flow: hash.c sends small hashes here. Thread: the holder of the shard's lock.
 *
 *     listpack     field value field value ...
 *     listpackex   field value time field value time ...     times ascending, then those without, whose time is 0
 *
 * Invariant of listpackex: the order. So the soonest field is the first, and what is due is a run from the start. */
#include <assert.h>
#include <string.h>

#include "base/alloc.h"
#include "data/hash_priv.h"
#include "data/limits.h"
#include "data/listpack.h"

static bool is_timed(const struct obj *o) {
    return o->enc == OBJ_ENC_LISTPACK_EX;
}

static unsigned tuple_len(const struct obj *o) {
    return is_timed(o) ? 3 : 2;
}

static unsigned char *get_lp(const struct obj *o) {
    return is_timed(o) ? ((struct hash_lpx *)o->u.ptr)->lp : o->u.ptr;
}

static void put_lp(struct obj *o, unsigned char *lp) {
    if (is_timed(o))
        ((struct hash_lpx *)o->u.ptr)->lp = lp;
    else
        o->u.ptr = lp;
}

/* t: the third of a triple. */
static int64_t time_at(const unsigned char *t) {
    int64_t when;
    struct slice text;
    return lp_get_int(t, &when, &text) && when ? when : HASH_NO_TIME;
}

static unsigned char *find(const struct obj *o, struct slice field) {
    unsigned char *lp = get_lp(o), *first = lp_first(lp);
    return first ? lp_find(lp, first, field, tuple_len(o) - 1) : NULL;
}

static unsigned char *time_of(const struct obj *o, const unsigned char *p) {
    unsigned char *lp = get_lp(o);
    return lp_next(lp, lp_next(lp, p));
}

void pack_pair(const struct obj *o, const unsigned char *p, struct hash_pair *ret) {
    const unsigned char *v = lp_next(get_lp(o), p);
    ret->field = lp_get(p, ret->field_tmp);
    ret->value = lp_get(v, ret->value_tmp);
    ret->large = NULL;
    ret->when_ms = is_timed(o) ? time_at(lp_next(get_lp(o), v)) : HASH_NO_TIME;
}

bool pack_get(const struct obj *o, struct slice field, struct hash_pair *ret) {
    const unsigned char *p = find(o, field);
    if (p) pack_pair(o, p, ret);
    return p != NULL;
}

uint64_t pack_len(const struct obj *o) {
    return lp_count(get_lp(o)) / tuple_len(o);
}

unsigned char *pack_next(const struct obj *o, const unsigned char *p) {
    unsigned char *lp = get_lp(o);
    if (!p) return lp_first(lp);
    p = lp_next(lp, p);
    if (is_timed(o)) p = lp_next(lp, p);
    return lp_next(lp, p);
}

unsigned char *pack_nth(const struct obj *o, uint64_t nth) {
    return lp_seek(get_lp(o), (long)(nth * tuple_len(o)));
}

/* ---- changing ---- */

/* Puts a triple where its time belongs. */
static void insert_timed(struct obj *o, struct slice field, struct slice value, int64_t when_ms) {
    unsigned char *lp = get_lp(o), *p = NULL;
    if (when_ms != HASH_NO_TIME) {
        for (p = lp_first(lp); p; p = pack_next(o, p)) {
            int64_t other = time_at(time_of(o, p));
            if (other == HASH_NO_TIME || other > when_ms) break;
        }
    }
    if (!p) {
        lp = lp_append(lp_append(lp, field), value);
        put_lp(o, lp_append_int(lp, when_ms == HASH_NO_TIME ? 0 : when_ms));
        return;
    }
    lp = lp_insert(lp, p, LP_BEFORE, field, &p);
    lp = lp_insert(lp, p, LP_AFTER, value, &p);
    put_lp(o, lp_insert_int(lp, p, LP_AFTER, when_ms, NULL));
}

static void replace_value(struct obj *o, unsigned char *p, struct slice value) {
    unsigned char *lp = get_lp(o), *v = lp_next(lp, p);
    put_lp(o, lp_replace(lp, &v, value));
}

bool pack_set(struct obj *o, struct slice field, struct slice value, int64_t now_ms, unsigned flags) {
    unsigned char *p = find(o, field);
    if (!is_timed(o)) {
        if (p)
            replace_value(o, p, value);
        else
            put_lp(o, lp_append(lp_append(get_lp(o), field), value));
        return !p;
    }
    int64_t when_ms = p ? time_at(time_of(o, p)) : HASH_NO_TIME;
    bool was_due = hash_is_due(when_ms, now_ms);
    if (p && (when_ms == HASH_NO_TIME || ((flags & HASH_KEEP_TIME) && !was_due))) {
        replace_value(o, p, value);
        return false;
    }
    bool is_new = !p || was_due;
    if (p) put_lp(o, lp_delete(get_lp(o), p, 3, NULL));
    insert_timed(o, field, value, HASH_NO_TIME);
    return is_new;
}

bool pack_delete(struct obj *o, struct slice field, int64_t now_ms) {
    unsigned char *p = find(o, field);
    if (!p || (is_timed(o) && hash_is_due(time_at(time_of(o, p)), now_ms))) return false;
    put_lp(o, lp_delete(get_lp(o), p, tuple_len(o), NULL));
    return true;
}

/* ---- times ---- */

static void make_timed(struct obj *o) {
    struct hash_lpx *x = mem_alloc(sizeof(*x));
    unsigned char *from = get_lp(o);
    struct hash_pair pair;
    *x = (struct hash_lpx){ .head.index_pos = TIMEHEAP_NONE, .lp = lp_new(lp_bytes(from) + 2 * pack_len(o)) };
    for (unsigned char *p = pack_next(o, NULL); p; p = pack_next(o, p)) {
        pack_pair(o, p, &pair);
        x->lp = lp_append_int(lp_append(lp_append(x->lp, pair.field), pair.value), 0);
    }
    mem_free(from);
    o->enc = OBJ_ENC_LISTPACK_EX;
    o->u.ptr = x;
}

void pack_set_time(struct obj *o, struct slice field, int64_t when_ms) {
    if (!is_timed(o)) {
        if (when_ms == HASH_NO_TIME) return;
        make_timed(o);
    }
    unsigned char *p = find(o, field);
    assert(p);
    struct hash_pair pair;
    pack_pair(o, p, &pair);
    if (pair.when_ms == when_ms) return;
    /* The value outlives its place: copied. Fields and values of this encoding are short. */
    size_t len = pair.value.len;
    char small[256], *value = len <= sizeof(small) ? small : mem_alloc(len);
    if (len) memcpy(value, pair.value.ptr, len);
    put_lp(o, lp_delete(get_lp(o), p, 3, NULL));
    insert_timed(o, field, (struct slice){ value, len }, when_ms);
    if (value != small) mem_free(value);
}

int64_t pack_soonest(const struct obj *o) {
    const unsigned char *p = is_timed(o) ? lp_first(get_lp(o)) : NULL;
    return p ? time_at(time_of(o, p)) : HASH_NO_TIME;
}

uint64_t pack_due(const struct obj *o, int64_t now_ms, uint64_t max) {
    uint64_t n = 0;
    if (!is_timed(o)) return 0;
    for (unsigned char *p = pack_next(o, NULL); p && n < max; p = pack_next(o, p)) {
        if (!hash_is_due(time_at(time_of(o, p)), now_ms)) break;
        n++;
    }
    return n;
}

unsigned pack_expire(struct obj *o, int64_t now_ms, unsigned max, void (*gone)(void *arg, struct slice field), void *arg) {
    unsigned n = (unsigned)pack_due(o, now_ms, max);
    char tmp[STR_LL_MAX];
    unsigned char *p = pack_next(o, NULL);
    for (unsigned i = 0; i < n; i++, p = pack_next(o, p)) gone(arg, lp_get(p, tmp));
    if (n) put_lp(o, lp_delete_range(get_lp(o), 0, (size_t)n * 3));
    return n;
}

/* ---- limits ---- */

bool pack_fits(const struct obj *o, size_t n_pairs, const struct slice *argv) {
    int64_t max_value = limit_get(&data_limits.hash_max_listpack_value);
    int64_t max_entries = limit_get(&data_limits.hash_max_listpack_entries);
    if (max_entries < 0 || n_pairs > (uint64_t)max_entries) return false;
    size_t bytes = 0;
    for (size_t i = 0; i < n_pairs * 2; i++) {
        if (argv[i].len > (uint64_t)max_value) return false;
        bytes += argv[i].len;
    }
    return lp_has_room(get_lp(o), bytes);
}
