/*
 * Sorted sets. Place in the flow: commands call it, zset_lp.c and ztree.c do the work of the two encodings. Thread: the holder of
 * the lock of the key's shard; destroying one may happen on the lazyfree thread.
 *
 * The large encoding: each entry (score and member, one allocation) is in the dict, which finds it by member, and in the tree,
 * which finds it by score and rank. A score that changes moves the entry in the tree; the dict does not notice.
 *
 * A set goes from the small to the large encoding when it outgrows the limits, and never back.
 */
#include "data/zset.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "data/dict.h"
#include "data/limits.h"
#include "data/zset_lp.h"
#include "data/ztree.h"

struct zset {
    struct dict members;
    struct ztree order;
};

static struct slice entry_member(const void *item) {
    return zset_entry_member(item);
}

static struct dict_type member_type = { .key = entry_member };

void zset_avoid_resize(bool avoid) {
    atomic_store_explicit(&member_type.avoid_resize, avoid, memory_order_relaxed);
}

static struct zset *zs_of(const struct obj *o) {
    assert(o->enc == OBJ_ENC_SKIPLIST);
    return o->u.ptr;
}

static unsigned char *lp_of(const struct obj *o) {
    return o->u.ptr;
}

static bool is_small(const struct obj *o) {
    return o->enc == OBJ_ENC_LISTPACK;
}

static struct zset *zs_new(void) {
    struct zset *z = mem_zalloc(sizeof(*z));
    dict_init(&z->members, &member_type);
    return z;
}

static void zs_free(struct zset *z) {
    ztree_clear(&z->order, NULL);
    dict_clear(&z->members, mem_free);
    mem_free(z);
}

static struct zset_entry *zs_find(struct zset *z, struct slice member) {
    return dict_find(&z->members, dict_hash(member), member);
}

/* ---- encodings ---- */

static bool fits_small(size_t n, size_t member_len) {
    return n <= (uint64_t)limit_get(&data_limits.zset_max_listpack_entries) &&
           member_len <= (uint64_t)limit_get(&data_limits.zset_max_listpack_value);
}

struct obj *zset_new(size_t n, size_t member_len) {
    if (fits_small(n, member_len)) return obj_new(OBJ_ZSET, OBJ_ENC_LISTPACK, lp_new(0));
    return obj_new(OBJ_ZSET, OBJ_ENC_SKIPLIST, zs_new());
}

uint64_t zset_len(const struct obj *o) {
    return is_small(o) ? lp_count(lp_of(o)) / 2 : zs_of(o)->order.n;
}

static struct zset *zs_from_lp(const unsigned char *lp) {
    struct zset *z = zs_new();
    size_t n = 0, cap = lp_count(lp) / 2;
    struct ztree_item *items = mem_calloc(cap, sizeof(*items));
    for (unsigned char *p = lp_first(lp); p; p = zlp_next(lp, p)) {
        char tmp[STR_LL_MAX];
        struct slice member = lp_get(p, tmp);
        double score = zlp_score(lp, p);
        struct zset_entry *e = zset_entry_new(score, member);
        dict_insert(&z->members, dict_hash(member), e);
        items[n++] = (struct ztree_item){ score, e };
    }
    ztree_load(&z->order, items, n);
    mem_free(items);
    return z;
}

static void make_large(struct obj *o) {
    unsigned char *lp = lp_of(o);
    o->u.ptr = zs_from_lp(lp);
    o->enc = OBJ_ENC_SKIPLIST;
    mem_free(lp);
}

void zset_expect(struct obj *o, size_t n) {
    if (is_small(o) && !fits_small(n, 0)) make_large(o);
}

/* ---- members ---- */

/* What flags make of a member that is there: ZSET_UPDATED with the score to store in *score, or why nothing is stored. */
static enum zset_added update_score(double now, unsigned flags, double *score) {
    if (flags & ZSET_NX) return ZSET_NOTHING;
    double to = flags & ZSET_INCR ? now + *score : *score;
    if (isnan(to)) return ZSET_NAN;
    if (((flags & ZSET_LT) && to >= now) || ((flags & ZSET_GT) && to <= now)) return ZSET_NOTHING;
    *score = to;
    return to == now ? ZSET_SAME : ZSET_UPDATED;
}

/* False: the set has to be large first. */
static bool small_add(struct obj *o, double *score, struct slice member, unsigned flags, enum zset_added *ret) {
    unsigned char *lp = lp_of(o), *p = zlp_find(lp, member);
    if (p) {
        *ret = update_score(zlp_score(lp, p), flags, score);
        if (*ret == ZSET_UPDATED) o->u.ptr = zlp_insert(zlp_delete(lp, p), *score, member);
        return true;
    }
    *ret = flags & ZSET_XX ? ZSET_NOTHING : ZSET_ADDED;
    if (flags & ZSET_XX) return true;
    if (!fits_small(lp_count(lp) / 2 + 1, member.len) || !lp_has_room(lp, member.len + ZSET_SCORE_MAX)) return false;
    o->u.ptr = zlp_insert(lp, *score, member);
    return true;
}

static enum zset_added large_add(struct zset *z, double *score, struct slice member, unsigned flags) {
    uint64_t hash = dict_hash(member);
    struct zset_entry *e = dict_find(&z->members, hash, member);
    if (e) {
        enum zset_added added = update_score(e->score, flags, score);
        if (added == ZSET_UPDATED) ztree_move(&z->order, e, *score);
        return added;
    }
    if (flags & ZSET_XX) return ZSET_NOTHING;
    e = zset_entry_new(*score, member);
    dict_insert(&z->members, hash, e);
    ztree_insert(&z->order, e);
    return ZSET_ADDED;
}

enum zset_added zset_add(struct obj *o, double score, struct slice member, unsigned flags, double *ret_score) {
    enum zset_added added;
    if (!is_small(o) || !small_add(o, &score, member, flags, &added)) {
        if (is_small(o)) make_large(o);
        added = large_add(zs_of(o), &score, member, flags);
    }
    if (ret_score && added != ZSET_NOTHING && added != ZSET_NAN) *ret_score = score;
    return added;
}

bool zset_remove(struct obj *o, struct slice member) {
    if (is_small(o)) {
        unsigned char *p = zlp_find(lp_of(o), member);
        if (p) o->u.ptr = zlp_delete(lp_of(o), p);
        return p != NULL;
    }
    struct zset *z = zs_of(o);
    struct zset_entry *e = dict_remove(&z->members, dict_hash(member), member);
    if (!e) return false;
    ztree_remove(&z->order, e);
    mem_free(e);
    return true;
}

bool zset_score(const struct obj *o, struct slice member, double *ret) {
    if (is_small(o)) {
        unsigned char *p = zlp_find(lp_of(o), member);
        if (p) *ret = zlp_score(lp_of(o), p);
        return p != NULL;
    }
    const struct zset_entry *e = zs_find(zs_of(o), member);
    if (e) *ret = e->score;
    return e != NULL;
}

struct lp_index *zset_index_new(const struct obj *o, uint64_t n_lookups) {
    return is_small(o) ? lp_index_new(lp_of(o), 1, n_lookups) : NULL;
}

bool zset_index_score(const struct lp_index *x, const struct obj *o, struct slice member, double *ret) {
    const unsigned char *p = lp_index_find(x, member, 0);
    if (p) *ret = zlp_score(lp_of(o), p);
    return p != NULL;
}

bool zset_rank(const struct obj *o, struct slice member, uint64_t *ret_rank, double *ret_score) {
    if (is_small(o)) {
        unsigned char *p = zlp_find_rank(lp_of(o), member, ret_rank);
        if (p && ret_score) *ret_score = zlp_score(lp_of(o), p);
        return p != NULL;
    }
    struct zset *z = zs_of(o);
    const struct zset_entry *e = zs_find(z, member);
    if (!e) return false;
    *ret_rank = ztree_rank(&z->order, e);
    if (ret_score) *ret_score = e->score;
    return true;
}

/* ---- ranges ---- */

static struct zset_ranks ranks_between(uint64_t first, uint64_t end) {
    return (struct zset_ranks){ first, end > first ? end - first : 0 };
}

struct zset_ranks zset_score_range(const struct obj *o, const struct zset_score_range *r) {
    if (is_small(o)) return zlp_score_range(lp_of(o), r);
    const struct ztree *t = &zs_of(o)->order;
    return ranks_between(ztree_count_score(t, r->min, r->min_ex), ztree_count_score(t, r->max, !r->max_ex));
}

static uint64_t lex_below(const struct ztree *t, enum zset_lex_end end, struct slice bound, bool or_equal) {
    if (end == ZSET_LEX_MIN) return 0;
    if (end == ZSET_LEX_MAX) return t->n;
    return ztree_count_lex(t, bound, or_equal);
}

struct zset_ranks zset_lex_range(const struct obj *o, const struct zset_lex_range *r, bool from_end) {
    if (is_small(o)) return zlp_lex_range(lp_of(o), r, from_end);
    const struct ztree *t = &zs_of(o)->order;
    return ranks_between(lex_below(t, r->min_end, r->min, r->min_end == ZSET_LEX_EXCL),
                         lex_below(t, r->max_end, r->max, r->max_end == ZSET_LEX_INCL));
}

static void drop_entry(void *arg, struct zset_entry *e) {
    struct slice member = zset_entry_member(e);
    dict_remove(arg, dict_hash(member), member);
    mem_free(e);
}

void zset_remove_ranks(struct obj *o, struct zset_ranks r) {
    if (r.n == 0) return;
    if (is_small(o)) {
        o->u.ptr = lp_delete_range(lp_of(o), (long)r.first * 2, r.n * 2);
        return;
    }
    struct zset *z = zs_of(o);
    ztree_remove_range(&z->order, r.first, r.n, drop_entry, &z->members);
}

/* ---- walking ---- */

void zset_iter_init(struct zset_iter *it, const struct obj *o, uint64_t rank, bool backwards) {
    *it = (struct zset_iter){ .o = o, .backwards = backwards };
    if (rank >= zset_len(o)) return;
    if (is_small(o)) {
        it->p = zlp_at(lp_of(o), rank);
    } else {
        struct ztree_pos pos = ztree_at(&zs_of(o)->order, rank);
        it->at.leaf = pos.leaf;
        it->at.i = pos.i;
        ztree_fetch(pos, backwards);
    }
}

static bool small_next(struct zset_iter *it, struct zset_item *ret) {
    unsigned char *lp = lp_of(it->o);
    if (!it->p) return false;
    *ret = (struct zset_item){ zlp_score(lp, it->p), lp_get(it->p, it->tmp) };
    it->p = it->backwards ? zlp_prev(lp, it->p) : zlp_next(lp, it->p);
    return true;
}

bool zset_iter_next(struct zset_iter *it, struct zset_item *ret) {
    if (is_small(it->o)) return small_next(it, ret);
    if (!it->at.leaf) return false;
    struct ztree_pos pos = { it->at.leaf, it->at.i };
    const struct zset_entry *e = ztree_get(pos);
    *ret = (struct zset_item){ e->score, zset_entry_member(e) };
    if (it->backwards)
        ztree_prev(&pos);
    else
        ztree_next(&pos);
    it->at.leaf = pos.leaf;
    it->at.i = pos.i;
    return true;
}

struct scan {
    void (*fn)(void *arg, const struct zset_item *item);
    void *arg;
};

static void scan_visit(void *arg, void *entry) {
    const struct scan *s = arg;
    const struct zset_entry *e = entry;
    struct zset_item item = { e->score, zset_entry_member(e) };
    s->fn(s->arg, &item);
}

uint64_t zset_scan(const struct obj *o, uint64_t cursor, void (*fn)(void *arg, const struct zset_item *item), void *arg) {
    struct scan s = { fn, arg };
    if (!is_small(o)) return dict_scan(&zs_of(o)->members, cursor, scan_visit, &s);
    struct zset_iter it;
    struct zset_item item;
    zset_iter_init(&it, o, 0, false);
    while (zset_iter_next(&it, &item)) fn(arg, &item);
    return 0;
}

/* ---- building ---- */

struct zset_builder {
    struct zset *z; /* its tree is empty */
    size_t bytes;   /* of members; one that was removed again counts too */
    struct dict_fill pushed;
};

struct zset_builder *zset_builder_new(void) {
    struct zset_builder *b = mem_zalloc(sizeof(*b));
    b->z = zs_new();
    return b;
}

struct zset_builder *zset_builder_free(struct zset_builder *b) {
    if (!b) return NULL;
    dict_fill_done(&b->pushed, b->z && dict_size(&b->z->members) == 0 ? mem_free : NULL);
    if (b->z) zs_free(b->z);
    mem_free(b);
    return NULL;
}

double *zset_builder_at(struct zset_builder *b, struct slice member, bool *ret_new) {
    uint64_t hash = dict_hash(member);
    struct zset_entry *e = dict_find(&b->z->members, hash, member);
    *ret_new = !e;
    if (!e) {
        e = zset_entry_new(0, member);
        dict_insert(&b->z->members, hash, e);
        b->bytes += member.len;
    }
    return &e->score;
}

void zset_builder_push(struct zset_builder *b, struct slice member, double score) {
    dict_fill_add(&b->pushed, zset_entry_new(score, member));
    b->bytes += member.len;
}

bool zset_builder_settle(struct zset_builder *b) {
    return dict_fill_into(&b->pushed, &b->z->members, mem_free);
}

bool zset_builder_remove(struct zset_builder *b, struct slice member) {
    struct zset_entry *e = dict_remove(&b->z->members, dict_hash(member), member);
    mem_free(e);
    return e != NULL;
}

uint64_t zset_builder_len(const struct zset_builder *b) {
    return dict_size(&b->z->members);
}

struct collect {
    struct ztree_item *items;
    uint64_t n;
    size_t longest;
};

static bool collect_item(void *arg, void *entry) {
    struct collect *c = arg;
    struct zset_entry *e = entry;
    size_t len = zset_entry_member(e).len;
    c->items[c->n++] = (struct ztree_item){ e->score, e };
    if (len > c->longest) c->longest = len;
    return true;
}

static int item_cmp(const void *a, const void *b) {
    const struct ztree_item *x = a, *y = b;
    if (x->score != y->score) return x->score < y->score ? -1 : 1;
    return slice_cmp(zset_entry_member(x->e), zset_entry_member(y->e));
}

static struct obj *small_from_items(const struct ztree_item *items, uint64_t n, size_t bytes) {
    unsigned char *lp = lp_new(LP_EMPTY_BYTES + bytes + n * 8);
    for (uint64_t i = 0; i < n; i++) lp = zlp_append(lp, items[i].score, zset_entry_member(items[i].e));
    return obj_new(OBJ_ZSET, OBJ_ENC_LISTPACK, lp_shrink(lp));
}

static bool is_sorted(const struct ztree_item *items, uint64_t n, int sign) {
    for (uint64_t i = 1; i < n; i++)
        if (item_cmp(&items[i - 1], &items[i]) * sign >= 0) return false;
    return true;
}

/* Files have sets in order already, mostly from the highest down. */
static void sort_items(struct ztree_item *items, uint64_t n) {
    if (is_sorted(items, n, 1)) return;
    if (!is_sorted(items, n, -1)) {
        qsort(items, n, sizeof(*items), item_cmp);
        return;
    }
    for (uint64_t i = 0; i < n / 2; i++) {
        const struct ztree_item low = items[n - 1 - i];
        items[n - 1 - i] = items[i];
        items[i] = low;
    }
}

/* What the builder holds, in order; c.items is the caller's to free. */
static struct collect sorted_items(const struct zset_builder *b) {
    struct collect c = { .items = mem_calloc(zset_builder_len(b) + 1, sizeof(*c.items)) };
    if (b->pushed.n == zset_builder_len(b))
        for (size_t i = 0; i < b->pushed.n; i++) collect_item(&c, b->pushed.items[i]);
    else
        dict_each(&b->z->members, collect_item, &c);
    sort_items(c.items, c.n);
    return c;
}

void zset_builder_each(const struct zset_builder *b, void (*fn)(void *arg, const struct zset_item *item), void *arg) {
    struct collect c = sorted_items(b);
    for (uint64_t i = 0; i < c.n; i++) {
        struct zset_item item = { c.items[i].score, zset_entry_member(c.items[i].e) };
        fn(arg, &item);
    }
    mem_free(c.items);
}

struct obj *zset_builder_finish(struct zset_builder *b_take) {
    struct obj *o;
    struct collect c = sorted_items(b_take);
    if (fits_small(c.n, c.longest) && b_take->bytes + c.n * ZSET_SCORE_MAX < LP_MAX_BYTES) {
        o = small_from_items(c.items, c.n, b_take->bytes);
    } else {
        ztree_load(&b_take->z->order, c.items, c.n);
        o = obj_new(OBJ_ZSET, OBJ_ENC_SKIPLIST, b_take->z);
        b_take->z = NULL;
    }
    dict_fill_done(&b_take->pushed, NULL);
    mem_free(c.items);
    zset_builder_free(b_take);
    return o;
}

/* ---- what came from outside ---- */

#define FEW 32 /* up to here looking for each member among those after it costs less than a table */

/* Members that follow one another are in order and different; whether two that do not follow one another are the same. */
static bool has_twice(const unsigned char *lp, size_t n) {
    bool is_new = true;
    if (n <= FEW) {
        for (unsigned char *p = lp_first(lp), *next; p && (next = zlp_next(lp, p)); p = next) {
            char tmp[STR_LL_MAX];
            if (lp_find(lp, next, lp_get(p, tmp), 1)) return true;
        }
        return false;
    }
    struct zset_builder *b = zset_builder_new();
    for (unsigned char *p = lp_first(lp); p && is_new; p = zlp_next(lp, p)) {
        char tmp[STR_LL_MAX];
        zset_builder_at(b, lp_get(p, tmp), &is_new);
    }
    zset_builder_free(b);
    return !is_new;
}

static bool is_in_order(const unsigned char *lp) {
    double last = 0, score;
    char tmp[2][STR_LL_MAX];
    struct slice before = { NULL, 0 };
    unsigned turn = 0;
    for (unsigned char *p = lp_first(lp), *s; p; p = lp_next(lp, s), turn ^= 1) {
        s = lp_next(lp, p);
        if (!s || !zlp_parse_score(s, &score)) return false;
        struct slice member = lp_get(p, tmp[turn]);
        if (p != lp_first(lp) && (score < last || (score == last && slice_cmp(before, member) >= 0))) return false;
        before = member;
        last = score;
    }
    return true;
}

struct obj *zset_from_listpack(unsigned char *lp_take) {
    size_t longest = 0;
    if (!is_in_order(lp_take) || has_twice(lp_take, lp_count(lp_take) / 2)) {
        mem_free(lp_take);
        return NULL;
    }
    for (unsigned char *p = lp_first(lp_take); p; p = zlp_next(lp_take, p))
        if (lp_len(p) > longest) longest = lp_len(p);
    struct obj *o = obj_new(OBJ_ZSET, OBJ_ENC_LISTPACK, lp_take);
    if (!fits_small(zset_len(o), longest)) make_large(o);
    return o;
}

const unsigned char *zset_listpack(const struct obj *o) {
    return is_small(o) ? lp_of(o) : NULL;
}

/* ---- the object ---- */

static void ops_destroy(struct obj *o) {
    if (is_small(o))
        mem_free(o->u.ptr);
    else
        zs_free(o->u.ptr);
}

static struct zset *zs_dup(const struct zset *src) {
    struct zset *z = zs_new();
    if (!src->order.n) return z;
    struct ztree_item *items = mem_calloc(src->order.n, sizeof(*items));
    uint64_t n = 0;
    for (struct ztree_pos pos = ztree_at(&src->order, 0); pos.leaf; ztree_next(&pos)) {
        const struct zset_entry *e = ztree_get(pos);
        struct slice member = zset_entry_member(e);
        items[n] = (struct ztree_item){ e->score, zset_entry_new(e->score, member) };
        dict_insert(&z->members, dict_hash(member), items[n++].e);
    }
    ztree_load(&z->order, items, n);
    mem_free(items);
    return z;
}

static void *ops_dup(const struct obj *o) {
    if (is_small(o)) return lp_dup(lp_of(o));
    return zs_dup(zs_of(o));
}

static size_t ops_mem(const struct obj *o, size_t samples) {
    if (is_small(o)) return mem_usable(o->u.ptr);
    struct zset *z = zs_of(o);
    size_t bytes = mem_usable(z) + dict_mem(&z->members) + ztree_mem(&z->order), seen = 0;
    uint64_t n = 0;
    if (!z->order.n) return bytes;
    for (struct ztree_pos pos = ztree_at(&z->order, 0); pos.leaf && (!samples || n < samples); ztree_next(&pos), n++)
        seen += mem_usable(ztree_get(pos));
    return bytes + (size_t)((double)seen / (double)n * (double)z->order.n);
}

static size_t ops_effort(const struct obj *o) {
    return is_small(o) ? 1 : zs_of(o)->order.n;
}

const struct obj_ops zset_ops = { .destroy = ops_destroy, .dup = ops_dup, .mem = ops_mem, .effort = ops_effort };

bool zset_check(const struct obj *o) {
    if (is_small(o)) return is_in_order(lp_of(o)) && !has_twice(lp_of(o), zset_len(o));
    struct zset *z = zs_of(o);
    if (!ztree_check(&z->order) || dict_size(&z->members) != z->order.n) return false;
    if (!z->order.n) return true;
    for (struct ztree_pos pos = ztree_at(&z->order, 0); pos.leaf; ztree_next(&pos))
        if (zs_find(z, zset_entry_member(ztree_get(pos))) != ztree_get(pos)) return false;
    return true;
}
