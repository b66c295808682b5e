/* Hashes: each operation goes to the encoding's own file, and small hashes become tables here. Place in the flow: the hash
 * commands, SORT, DUMP and RDB, scripts. Thread: the holder of the shard's lock; destroy may run on the lazyfree thread. */
#include <assert.h>

#include "base/alloc.h"
#include "base/rand.h"
#include "data/hash_priv.h"
#include "data/limits.h"
#include "data/listpack.h"

static bool is_table(const struct obj *o) {
    return o->enc == OBJ_ENC_HASHTABLE;
}

static struct hash_table *table_of(const struct obj *o) {
    return o->u.ptr;
}

struct obj *hash_new(void) {
    return obj_new(OBJ_HASH, OBJ_ENC_LISTPACK, lp_new(0));
}

uint64_t hash_len(const struct obj *o) {
    return is_table(o) ? dict_size(&table_of(o)->dict) : pack_len(o);
}

uint64_t hash_due(const struct obj *o, int64_t now_ms, uint64_t max) {
    return is_table(o) ? timeheap_due(&table_of(o)->times, now_ms, max) : pack_due(o, now_ms, max);
}

uint64_t hash_len_live(const struct obj *o, int64_t now_ms) {
    return hash_len(o) - hash_due(o, now_ms, UINT64_MAX);
}

static struct hash_lpx *lpx_new(unsigned char *lp_take) {
    struct hash_lpx *x = mem_alloc(sizeof(*x));
    *x = (struct hash_lpx){ .head.index_pos = TIMEHEAP_NONE, .lp = lp_take };
    return x;
}

/* ---- becoming a table ---- */

static void free_pack(struct obj *o) {
    struct hash_lpx *x = o->enc == OBJ_ENC_LISTPACK_EX ? o->u.ptr : NULL;
    if (x) mem_free(x->lp);
    mem_free(o->u.ptr);
}

void hash_make_table(struct obj *o) {
    if (is_table(o)) return;
    struct hash_table *t = table_new();
    struct hash_pair pair;
    for (unsigned char *p = pack_next(o, NULL); p; p = pack_next(o, p)) {
        pack_pair(o, p, &pair);
        struct obj *large = pair.value.len >= HASH_LARGE_MIN ? obj_string_new_text(pair.value.ptr, pair.value.len) : NULL;
        table_set(t, pair.field, pair.value, large, 0, 0);
        if (pair.when_ms != HASH_NO_TIME) table_set_time(t, pair.field, pair.when_ms);
    }
    const uint32_t *pos = hash_index_pos(o);
    if (pos) t->head.index_pos = *pos;
    free_pack(o);
    o->enc = OBJ_ENC_HASHTABLE;
    o->u.ptr = t;
}

void hash_expect(struct obj *o, size_t n_pairs, const struct slice *argv) {
    if (!is_table(o) && !pack_fits(o, n_pairs, argv)) hash_make_table(o);
}

bool hash_is_table_of(uint64_t n_fields) {
    int64_t max = limit_get(&data_limits.hash_max_listpack_entries);
    return max < 0 || n_fields > (uint64_t)max;
}

static bool is_too_long(const struct obj *o) {
    return hash_is_table_of(pack_len(o));
}

/* ---- reading and changing ---- */

bool hash_get(const struct obj *o, struct slice field, int64_t now_ms, struct hash_pair *ret) {
    if (!is_table(o)) return pack_get(o, field, ret) && !hash_is_due(ret->when_ms, now_ms);
    const struct hash_field *f = table_find(table_of(o), field);
    if (!f || hash_is_due(field_time(f), now_ms)) return false;
    field_pair(f, ret);
    return true;
}

bool hash_set(struct obj *o, struct slice field, struct slice value, int64_t now_ms, unsigned flags) {
    if (!is_table(o)) {
        const struct slice pair[] = { field, value };
        if (pack_fits(o, 1, pair)) {
            bool is_new = pack_set(o, field, value, now_ms, flags);
            if (is_new && is_too_long(o)) hash_make_table(o);
            return is_new;
        }
        hash_make_table(o);
    }
    struct obj *large = value.len >= HASH_LARGE_MIN ? obj_string_new_text(value.ptr, value.len) : NULL;
    return table_set(table_of(o), field, value, large, now_ms, flags);
}

bool hash_set_large(struct obj *o, struct slice field, struct obj *value_take, int64_t now_ms, unsigned flags) {
    assert(value_take->type == OBJ_STRING && obj_string_len(value_take) >= HASH_LARGE_MIN);
    char tmp[STR_LL_MAX];
    const struct slice pair[] = { field, obj_string_bytes(value_take, tmp) };
    if (!is_table(o) && pack_fits(o, 1, pair)) {
        bool is_new = hash_set(o, field, pair[1], now_ms, flags);
        obj_unref(value_take);
        return is_new;
    }
    hash_make_table(o);
    return table_set(table_of(o), field, (struct slice){ NULL, 0 }, value_take, now_ms, flags);
}

bool hash_delete(struct obj *o, struct slice field, int64_t now_ms) {
    return is_table(o) ? table_delete(table_of(o), field, now_ms) : pack_delete(o, field, now_ms);
}

/* ---- times ---- */

int64_t hash_time(const struct obj *o, struct slice field, int64_t now_ms) {
    struct hash_pair pair;
    return hash_get(o, field, now_ms, &pair) ? pair.when_ms : HASH_NO_FIELD;
}

void hash_set_time(struct obj *o, struct slice field, int64_t when_ms) {
    if (is_table(o))
        table_set_time(table_of(o), field, when_ms);
    else
        pack_set_time(o, field, when_ms);
}

int64_t hash_soonest(const struct obj *o) {
    if (!is_table(o)) return pack_soonest(o);
    const struct timeheap *h = &table_of(o)->times;
    return h->n ? h->items[0].when_ms : HASH_NO_TIME;
}

unsigned hash_expire(struct obj *o, int64_t now_ms, unsigned max, void (*gone)(void *arg, struct slice field), void *arg) {
    return is_table(o) ? table_expire(table_of(o), now_ms, max, gone, arg) : pack_expire(o, now_ms, max, gone, arg);
}

uint32_t *hash_index_pos(const struct obj *o) {
    return o->enc == OBJ_ENC_LISTPACK ? NULL : &((struct hash_head *)o->u.ptr)->index_pos;
}

/* ---- building ---- */

struct hash_builder {
    struct dict_fill fields;
};

struct hash_builder *hash_builder_new(void) {
    return mem_zalloc(sizeof(struct hash_builder));
}

struct hash_builder *hash_builder_free(struct hash_builder *b) {
    if (b) dict_fill_done(&b->fields, table_field_free);
    mem_free(b);
    return NULL;
}

void hash_builder_add(struct hash_builder *b, struct slice field, struct slice value) {
    dict_fill_add(&b->fields, table_field_new(field, value));
}

struct obj *hash_builder_finish(struct hash_builder *b_take) {
    struct hash_table *t = table_new();
    bool ok = table_fill(t, &b_take->fields);
    dict_fill_done(&b_take->fields, NULL);
    mem_free(b_take);
    if (ok) return obj_new(OBJ_HASH, OBJ_ENC_HASHTABLE, t);
    table_free(t);
    return NULL;
}

/* ---- walks and picks ---- */

struct each_walk {
    int64_t now_ms;
    bool (*fn)(void *arg, const struct hash_pair *p);
    void *arg;
};

static bool each_field(void *arg, void *item) {
    const struct each_walk *w = arg;
    struct hash_pair pair;
    field_pair(item, &pair);
    return hash_is_due(pair.when_ms, w->now_ms) || w->fn(w->arg, &pair);
}

bool hash_each(const struct obj *o, int64_t now_ms, bool (*fn)(void *arg, const struct hash_pair *p), void *arg) {
    struct each_walk w = { now_ms, fn, arg };
    struct hash_pair pair;
    if (is_table(o)) return dict_each(&table_of(o)->dict, each_field, &w);
    for (unsigned char *p = pack_next(o, NULL); p; p = pack_next(o, p)) {
        pack_pair(o, p, &pair);
        if (!hash_is_due(pair.when_ms, now_ms) && !fn(arg, &pair)) return false;
    }
    return true;
}

struct refs_walk {
    int64_t now_ms;
    void **ret;
    size_t n;
};

static bool collect_ref(void *arg, void *item) {
    struct refs_walk *w = arg;
    if (!hash_is_due(field_time(item), w->now_ms)) w->ret[w->n++] = item;
    return true;
}

size_t hash_refs(const struct obj *o, int64_t now_ms, void **ret) {
    struct refs_walk w = { now_ms, ret, 0 };
    if (is_table(o)) {
        dict_each(&table_of(o)->dict, collect_ref, &w);
        return w.n;
    }
    for (unsigned char *p = pack_next(o, NULL); p; p = pack_next(o, p))
        if (!hash_ref_is_due(o, p, now_ms)) ret[w.n++] = p;
    return w.n;
}

void hash_ref_pair(const struct obj *o, const void *ref, struct hash_pair *ret) {
    if (is_table(o))
        field_pair(ref, ret);
    else
        pack_pair(o, ref, ret);
}

bool hash_ref_is_due(const struct obj *o, const void *ref, int64_t now_ms) {
    struct hash_pair pair;
    if (is_table(o)) return hash_is_due(field_time(ref), now_ms);
    if (o->enc == OBJ_ENC_LISTPACK) return false;
    pack_pair(o, ref, &pair);
    return hash_is_due(pair.when_ms, now_ms);
}

void *hash_random(const struct obj *o) {
    return is_table(o) ? dict_random(&table_of(o)->dict) : pack_nth(o, rand_below(pack_len(o)));
}

struct dict *hash_dict(const struct obj *o) {
    return is_table(o) ? &table_of(o)->dict : NULL;
}

/* ---- compact encodings from and to files ---- */

const unsigned char *hash_listpack(const struct obj *o, bool *ret_timed) {
    *ret_timed = o->enc == OBJ_ENC_LISTPACK_EX;
    if (is_table(o)) return NULL;
    return *ret_timed ? ((struct hash_lpx *)o->u.ptr)->lp : o->u.ptr;
}

struct obj *hash_from_listpack(unsigned char *lp_take, bool timed) {
    struct obj *o =
        timed ? obj_new(OBJ_HASH, OBJ_ENC_LISTPACK_EX, lpx_new(lp_take)) : obj_new(OBJ_HASH, OBJ_ENC_LISTPACK, lp_take);
    if (is_too_long(o)) hash_make_table(o);
    return o;
}

/* ---- what every type provides ---- */

static void destroy(struct obj *o) {
    if (is_table(o))
        table_free(table_of(o));
    else
        free_pack(o);
}

static void *dup(const struct obj *o) {
    if (is_table(o)) return table_dup(table_of(o));
    bool timed;
    unsigned char *lp = lp_dup(hash_listpack(o, &timed));
    return timed ? (void *)lpx_new(lp) : lp;
}

static size_t mem(const struct obj *o, size_t samples) {
    bool timed;
    if (is_table(o)) return table_mem(table_of(o), samples);
    const unsigned char *lp = hash_listpack(o, &timed);
    return mem_usable((void *)(uintptr_t)lp) + (timed ? mem_usable(o->u.ptr) : 0);
}

static size_t effort(const struct obj *o) {
    return is_table(o) ? dict_size(&table_of(o)->dict) : 1;
}

const struct obj_ops hash_ops = { .destroy = destroy, .dup = dup, .mem = mem, .effort = effort };
