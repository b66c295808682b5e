/* Sets. See set.h. Place in the flow: the set commands, SORT, DUMP and RDB, sorted-set operations over sets. Thread: the holder
 * of the shard's lock; destroy may run on the lazyfree thread.
 *
 * A table's member is one allocation of its text behind its length: one byte, or 255 and eight more. With the slot in the dict a
 * short member costs about half of what an entry with a string costs in redis-server. */
#include "data/set.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/rand.h"
#include "data/intset.h"
#include "data/limits.h"
#include "data/listpack.h"

/* ---- members of tables ---- */

#define LONG_LEN 255

static struct slice item_text(const void *item) {
    const unsigned char *p = item;
    uint64_t len;
    if (*p < LONG_LEN) return (struct slice){ (const char *)p + 1, *p };
    memcpy(&len, p + 1, sizeof(len));
    return (struct slice){ (const char *)p + 1 + sizeof(len), len };
}

static void *item_new(struct slice text) {
    bool is_long = text.len >= LONG_LEN;
    const uint64_t len = text.len;
    size_t head = is_long ? 1 + sizeof(len) : 1;
    unsigned char *p = mem_alloc(head + text.len);
    *p = is_long ? LONG_LEN : (unsigned char)text.len;
    if (is_long) memcpy(p + 1, &len, sizeof(len));
    if (text.len) memcpy(p + head, text.ptr, text.len);
    return p;
}

static struct dict_type table_type = { .key = item_text, .dense = true };

void set_avoid_resize(bool avoid) {
    atomic_store_explicit(&table_type.avoid_resize, avoid, memory_order_relaxed);
}

static struct dict *table_new(void) {
    struct dict *d = mem_alloc(sizeof(*d));
    dict_init(d, &table_type);
    return d;
}

static uint64_t hash_of(struct slice text, uint64_t *hash) {
    if (!*hash) *hash = dict_hash(text);
    return *hash;
}

static bool table_add(struct dict *d, struct slice text, uint64_t *hash) {
    hash_of(text, hash);
    if (dict_find(d, *hash, text)) return false;
    dict_insert(d, *hash, item_new(text));
    return true;
}

/* ---- the encodings ---- */

struct obj *set_new(void) {
    return obj_new(OBJ_SET, OBJ_ENC_INTSET, intset_new());
}

static struct obj *new_of(enum obj_enc enc) {
    void *ptr = enc == OBJ_ENC_INTSET ? (void *)intset_new() : enc == OBJ_ENC_LISTPACK ? (void *)lp_new(0) : table_new();
    return obj_new(OBJ_SET, enc, ptr);
}

static bool exceeds(size_t n, const _Atomic int64_t *limit) {
    int64_t max = limit_get(limit);
    return max < 0 || n > (uint64_t)max;
}

struct obj *set_new_for(struct slice first, size_t expect) {
    int64_t num;
    if (str_to_ll(first, &num) && !exceeds(expect, &data_limits.set_max_intset_entries)) return new_of(OBJ_ENC_INTSET);
    return new_of(exceeds(expect, &data_limits.set_max_listpack_entries) ? OBJ_ENC_HASHTABLE : OBJ_ENC_LISTPACK);
}

uint64_t set_len(const struct obj *o) {
    switch (o->enc) {
    case OBJ_ENC_INTSET:
        return intset_len(o->u.ptr);
    case OBJ_ENC_LISTPACK:
        return lp_count(o->u.ptr);
    default:
        return dict_size(o->u.ptr);
    }
}

static void put_blob(struct obj *o, enum obj_enc enc, void *ptr) {
    mem_free(o->u.ptr);
    o->enc = (uint8_t)enc;
    o->u.ptr = ptr;
}

static bool add_to_table(void *arg, const struct set_member *m) {
    char tmp[STR_LL_MAX];
    struct slice text = set_member_text(m, tmp);
    dict_insert(arg, dict_hash(text), item_new(text));
    return true;
}

static void make_table(struct obj *o) {
    struct dict *d = table_new();
    set_each(o, add_to_table, d);
    put_blob(o, OBJ_ENC_HASHTABLE, d);
}

static bool append_to_lp(void *arg, const struct set_member *m) {
    unsigned char **lp = arg;
    *lp = m->text.ptr ? lp_append(*lp, m->text) : lp_append_int(*lp, m->num);
    return true;
}

void set_expect(struct obj *o, size_t more) {
    if ((o->enc == OBJ_ENC_LISTPACK && exceeds(more, &data_limits.set_max_listpack_entries)) ||
        (o->enc == OBJ_ENC_INTSET && exceeds(more, &data_limits.set_max_intset_entries)))
        make_table(o);
}

/* Whether a listpack may hold one more, of len bytes. */
static bool lp_may_add(const struct obj *o, size_t n, size_t len) {
    if (exceeds(n + 1, &data_limits.set_max_listpack_entries) || exceeds(len, &data_limits.set_max_listpack_value)) return false;
    return o->enc != OBJ_ENC_LISTPACK || lp_has_room(o->u.ptr, len);
}

static size_t digits(int64_t v) {
    char tmp[STR_LL_MAX];
    return str_from_ll(tmp, v);
}

/* The intset gets a member that is no integer. */
static void leave_intset(struct obj *o, struct slice text) {
    uint32_t n = intset_len(o->u.ptr);
    size_t longest = 0;
    if (n) {
        size_t first = digits(intset_at(o->u.ptr, 0)), last = digits(intset_at(o->u.ptr, n - 1));
        longest = first > last ? first : last;
    }
    if (!lp_may_add(o, n, text.len > longest ? text.len : longest)) {
        make_table(o);
        return;
    }
    unsigned char *lp = lp_new(intset_bytes(o->u.ptr) + text.len);
    set_each(o, append_to_lp, &lp);
    put_blob(o, OBJ_ENC_LISTPACK, lp);
}

/* ---- adding, looking, removing ---- */

static bool add_int(struct obj *o, int64_t num) {
    bool added;
    o->u.ptr = intset_add(o->u.ptr, num, &added);
    if (added && exceeds(intset_len(o->u.ptr), &data_limits.set_max_intset_entries)) make_table(o);
    return added;
}

static bool lp_holds(const struct obj *o, struct slice text) {
    const unsigned char *first = lp_first(o->u.ptr);
    return first && lp_find(o->u.ptr, first, text, 0);
}

static bool add_text(struct obj *o, struct slice text, uint64_t *hash) {
    if (o->enc == OBJ_ENC_INTSET) leave_intset(o, text);
    if (o->enc == OBJ_ENC_LISTPACK) {
        if (lp_holds(o, text)) return false;
        if (lp_may_add(o, lp_count(o->u.ptr), text.len)) {
            o->u.ptr = lp_append(o->u.ptr, text);
            return true;
        }
        make_table(o);
    }
    return table_add(o->u.ptr, text, hash);
}

bool set_add(struct obj *o, struct slice member) {
    uint64_t hash = 0;
    int64_t num;
    if (o->enc == OBJ_ENC_INTSET && str_to_ll(member, &num)) return add_int(o, num);
    return add_text(o, member, &hash);
}

bool set_add_member(struct obj *o, const struct set_member *m, uint64_t *hash) {
    char tmp[STR_LL_MAX];
    int64_t num;
    if (o->enc == OBJ_ENC_INTSET && !m->text.ptr) return add_int(o, m->num);
    if (o->enc == OBJ_ENC_INTSET && str_to_ll(m->text, &num)) return add_int(o, num);
    return add_text(o, set_member_text(m, tmp), hash);
}

void set_add_absent(struct obj *o, const struct set_member *m, uint64_t *hash) {
    char tmp[STR_LL_MAX];
    if (o->enc == OBJ_ENC_LISTPACK) {
        struct slice text = set_member_text(m, tmp);
        if (lp_may_add(o, lp_count(o->u.ptr), text.len)) {
            void *lp = o->u.ptr;
            append_to_lp(&lp, m);
            o->u.ptr = lp;
            return;
        }
    }
    set_add_member(o, m, hash);
}

struct lp_index *set_index_new(const struct obj *o, uint64_t n_lookups) {
    return o->enc == OBJ_ENC_LISTPACK ? lp_index_new(o->u.ptr, 0, n_lookups) : NULL;
}

static bool has_text(const struct obj *o, struct slice text, uint64_t *hash) {
    int64_t num;
    if (o->enc == OBJ_ENC_INTSET) return str_to_ll(text, &num) && intset_has(o->u.ptr, num);
    if (o->enc == OBJ_ENC_LISTPACK) return lp_holds(o, text);
    return dict_find(o->u.ptr, hash_of(text, hash), text) != NULL;
}

bool set_has(const struct obj *o, struct slice member) {
    uint64_t hash = 0;
    return has_text(o, member, &hash);
}

bool set_has_member(const struct obj *o, const struct set_member *m, uint64_t *hash) {
    char tmp[STR_LL_MAX];
    if (o->enc == OBJ_ENC_INTSET && !m->text.ptr) return intset_has(o->u.ptr, m->num);
    return has_text(o, set_member_text(m, tmp), hash);
}

static bool remove_text(struct obj *o, struct slice text, uint64_t *hash) {
    int64_t num;
    bool removed = false;
    if (o->enc == OBJ_ENC_INTSET) {
        if (str_to_ll(text, &num)) o->u.ptr = intset_remove(o->u.ptr, num, &removed);
    } else if (o->enc == OBJ_ENC_LISTPACK) {
        unsigned char *p = lp_first(o->u.ptr);
        p = p ? lp_find(o->u.ptr, p, text, 0) : NULL;
        removed = p != NULL;
        if (removed) o->u.ptr = lp_delete(o->u.ptr, p, 1, NULL);
    } else {
        void *item = dict_remove(o->u.ptr, hash_of(text, hash), text);
        removed = item != NULL;
        mem_free(item);
    }
    return removed;
}

bool set_remove(struct obj *o, struct slice member) {
    uint64_t hash = 0;
    return remove_text(o, member, &hash);
}

bool set_remove_member(struct obj *o, const struct set_member *m, uint64_t *hash) {
    char tmp[STR_LL_MAX];
    return remove_text(o, set_member_text(m, tmp), hash);
}

/* ---- walks and picks ---- */

static void member_at(const unsigned char *p, struct set_member *ret) {
    if (lp_get_int(p, &ret->num, &ret->text)) ret->text = (struct slice){ NULL, 0 };
}

static void item_member(const void *item, struct set_member *ret) {
    *ret = (struct set_member){ .text = item_text(item) };
}

struct each_walk {
    bool (*fn)(void *arg, const struct set_member *m);
    void *arg;
};

static bool each_item(void *arg, void *item) {
    const struct each_walk *w = arg;
    struct set_member m;
    item_member(item, &m);
    return w->fn(w->arg, &m);
}

bool set_each(const struct obj *o, bool (*fn)(void *arg, const struct set_member *m), void *arg) {
    struct each_walk w = { fn, arg };
    struct set_member m = { .text = { NULL, 0 } };
    if (o->enc == OBJ_ENC_HASHTABLE) return dict_each(o->u.ptr, each_item, &w);
    if (o->enc == OBJ_ENC_INTSET) {
        for (uint32_t i = 0, n = intset_len(o->u.ptr); i < n; i++) {
            m.num = intset_at(o->u.ptr, i);
            if (!fn(arg, &m)) return false;
        }
        return true;
    }
    for (const unsigned char *p = lp_first(o->u.ptr); p; p = lp_next(o->u.ptr, p)) {
        member_at(p, &m);
        if (!fn(arg, &m)) return false;
    }
    return true;
}

/* Of an intset: the index and one, so that none is NULL. */
static void *int_ref(uint64_t i) {
    return (void *)(uintptr_t)(i + 1);
}

static bool collect_ref(void *arg, void *item) {
    void ***at = arg;
    *(*at)++ = item;
    return true;
}

void set_refs(const struct obj *o, void **ret) {
    if (o->enc == OBJ_ENC_HASHTABLE)
        dict_each(o->u.ptr, collect_ref, &ret);
    else if (o->enc == OBJ_ENC_INTSET)
        for (uint32_t i = 0, n = intset_len(o->u.ptr); i < n; i++) ret[i] = int_ref(i);
    else
        for (unsigned char *p = lp_first(o->u.ptr); p; p = lp_next(o->u.ptr, p)) *ret++ = p;
}

void set_ref_member(const struct obj *o, const void *ref, struct set_member *ret) {
    if (o->enc == OBJ_ENC_HASHTABLE)
        item_member(ref, ret);
    else if (o->enc == OBJ_ENC_INTSET)
        *ret = (struct set_member){ .num = intset_at(o->u.ptr, (uint32_t)((uintptr_t)ref - 1)) };
    else
        member_at(ref, ret);
}

void *set_random(const struct obj *o) {
    if (o->enc == OBJ_ENC_HASHTABLE) return dict_random(o->u.ptr);
    uint64_t i = rand_below(set_len(o));
    return o->enc == OBJ_ENC_INTSET ? int_ref(i) : lp_seek(o->u.ptr, (long)i);
}

struct dict *set_dict(const struct obj *o) {
    return o->enc == OBJ_ENC_HASHTABLE ? o->u.ptr : NULL;
}

static int by_address(const void *a, const void *b) {
    uintptr_t x = (uintptr_t) * (void *const *)a, y = (uintptr_t) * (void *const *)b;
    return (x > y) - (x < y);
}

/* The compact encodings are built anew from what stays, in its order, instead of closing n holes. */
static void keep_refs(struct obj *o, void **refs, size_t n) {
    struct set_member m;
    bool added;
    unsigned char *blob = o->enc == OBJ_ENC_INTSET ? intset_new() : lp_new(lp_bytes(o->u.ptr));
    qsort(refs, n, sizeof(*refs), by_address);
    for (size_t i = 0; i < n; i++) {
        set_ref_member(o, refs[i], &m);
        if (o->enc == OBJ_ENC_INTSET)
            blob = intset_add(blob, m.num, &added);
        else
            append_to_lp(&blob, &m);
    }
    put_blob(o, o->enc, o->enc == OBJ_ENC_INTSET ? blob : lp_shrink(blob));
}

void set_remove_refs(struct obj *o, void **refs, size_t n, void **rest, size_t n_rest) {
    struct set_member m;
    if (o->enc != OBJ_ENC_HASHTABLE && n > 1) {
        keep_refs(o, rest, n_rest);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        uint64_t hash = 0;
        set_ref_member(o, refs[i], &m);
        set_remove_member(o, &m, &hash);
    }
}

/* ---- results ---- */

static bool add_to_intset(void *arg, const struct set_member *m) {
    unsigned char **is = arg;
    int64_t num = m->num;
    bool added;
    if (m->text.ptr && !str_to_ll(m->text, &num)) return false;
    *is = intset_add(*is, num, &added);
    return true;
}

void set_compact(struct obj *o) {
    if (o->enc != OBJ_ENC_INTSET && !exceeds(set_len(o), &data_limits.set_max_intset_entries)) {
        unsigned char *is = intset_new();
        if (set_each(o, add_to_intset, &is)) {
            struct dict *d = set_dict(o);
            if (d) dict_clear(d, mem_free);
            put_blob(o, OBJ_ENC_INTSET, is);
        } else {
            mem_free(is);
        }
    }
    if (o->enc == OBJ_ENC_LISTPACK) o->u.ptr = lp_shrink(o->u.ptr);
}

/* ---- files ---- */

const unsigned char *set_blob(const struct obj *o, size_t *ret_len) {
    if (o->enc == OBJ_ENC_HASHTABLE) return NULL;
    *ret_len = o->enc == OBJ_ENC_INTSET ? intset_bytes(o->u.ptr) : lp_bytes(o->u.ptr);
    return o->u.ptr;
}

struct obj *set_from_blob(enum obj_enc enc, unsigned char *blob_take) {
    assert(enc == OBJ_ENC_INTSET || enc == OBJ_ENC_LISTPACK);
    struct obj *o = obj_new(OBJ_SET, enc, blob_take);
    const _Atomic int64_t *limit =
        enc == OBJ_ENC_INTSET ? &data_limits.set_max_intset_entries : &data_limits.set_max_listpack_entries;
    if (exceeds(set_len(o), limit)) make_table(o);
    return o;
}

/* ---- what every type provides ---- */

static void destroy(struct obj *o) {
    struct dict *d = set_dict(o);
    if (d) dict_clear(d, mem_free);
    mem_free(o->u.ptr);
}

static void *dup(const struct obj *o) {
    if (o->enc == OBJ_ENC_INTSET) return intset_dup(o->u.ptr);
    if (o->enc == OBJ_ENC_LISTPACK) return lp_dup(o->u.ptr);
    struct dict *d = table_new();
    set_each(o, add_to_table, d);
    return d;
}

struct mem_sum {
    size_t bytes, left, seen;
};

static bool add_mem(void *arg, void *item) {
    struct mem_sum *s = arg;
    s->bytes += mem_usable(item);
    s->seen++;
    return --s->left > 0;
}

static size_t mem(const struct obj *o, size_t samples) {
    struct dict *d = set_dict(o);
    struct mem_sum s = { .left = samples ? samples : SIZE_MAX };
    if (!d) return mem_usable(o->u.ptr);
    dict_each(d, add_mem, &s);
    return sizeof(*d) + dict_mem(d) + (s.seen ? (size_t)((double)s.bytes / (double)s.seen * (double)dict_size(d)) : 0);
}

static size_t effort(const struct obj *o) {
    return o->enc == OBJ_ENC_HASHTABLE ? dict_size(o->u.ptr) : 1;
}

const struct obj_ops set_ops = { .destroy = destroy, .dup = dup, .mem = mem, .effort = effort };
