/*
 * Sets: intersection, union, difference.
 *
 * SINTER walks the smallest set and looks its members up in the others, the smaller of them first, where a miss is likelier.
 * SDIFF has two ways, and takes the one that promises less work: looking up each member of the first set in the others, largest
 * first, until one has it; or taking the members of the others out of a copy of the first set. What is only replied is not stored
 * before.
 *
 * Sources are looked up before anything changes, and stay valid until the result takes its place, also when it replaces one.
 */
#include "cmd/cmd_set.h"

#include <limits.h>
#include <stdlib.h>

#include "base/alloc.h"

struct sources {
    struct obj **sets; /* [n]; NULL: no such key */
    int n, n_absent;
    struct lp_index **index; /* [n], or NULL; see index_others */
};

/* argv[first..first + n]. False: WRONGTYPE was replied. */
static bool sources_find(struct cmd_ctx *c, int first, int n, struct sources *ret) {
    *ret = (struct sources){ .sets = mem_calloc((size_t)n, sizeof(*ret->sets)), .n = n };
    for (int i = 0; i < n; i++) {
        bool err;
        struct entry *e = cmd_find_typed(c, c->argv[first + i], OBJ_SET, false, &err);
        if (err) {
            mem_free(ret->sets);
            return false;
        }
        ret->sets[i] = e == NULL ? NULL : entry_value(e);
        ret->n_absent += e == NULL;
    }
    return true;
}

static void sources_done(struct sources *s) {
    for (int i = 0; s->index != NULL && i < s->n; i++) lp_index_free(s->index[i]);
    mem_free(s->index);
    mem_free(s->sets);
}

/* Before the members of the first set are looked up in the others. */
static void index_others(struct sources *s, uint64_t n_lookups) {
    s->index = mem_calloc((size_t)s->n, sizeof(*s->index));
    for (int i = 1; i < s->n; i++)
        if (s->sets[i] != NULL && s->sets[i] != s->sets[0]) s->index[i] = set_index_new(s->sets[i], n_lookups);
}

static bool other_has(const struct sources *s, int i, const struct set_member *m, uint64_t *hash) {
    return s->index[i] != NULL ? set_index_has(s->index[i], m) : set_has_member(s->sets[i], m, hash);
}

static int by_len(const void *a, const void *b) {
    uint64_t x = set_len(*(struct obj *const *)a), y = set_len(*(struct obj *const *)b);
    return (x > y) - (x < y);
}

/* Absent sets count as empty. */
static int by_len_falling(const void *a, const void *b) {
    const struct obj *left = *(struct obj *const *)a, *right = *(struct obj *const *)b;
    uint64_t x = left ? set_len(left) : 0, y = right ? set_len(right) : 0;
    return (x < y) - (x > y);
}

/* ---- where results go ---- */

struct result {
    struct cmd_ctx *c;
    struct obj *set; /* NULL: replied as they come, or counted only */
    uint64_t n, limit /* 0: none */;
    bool is_counted_only;
};

/* False: enough. */
static bool result_add(struct result *r, const struct set_member *m, uint64_t *hash) {
    r->n++;
    if (r->set != NULL)
        set_add_absent(r->set, m, hash);
    else if (!r->is_counted_only)
        set_reply_member(r->c, m);
    return r->limit == 0 || r->n < r->limit;
}

/* The result takes dst's place; an empty one deletes it. */
static void store(struct cmd_ctx *c, struct slice dst, struct obj *set_take, const char *event) {
    struct entry *old = cmd_find_write(c, dst);
    uint64_t n = set_len(set_take);
    if (n > 0) {
        generic_put(c, c->db, dst, old, set_take, false);
        cmd_modified(c, c->db, dst);
        cmd_notify(c, 's', event, c->db, dst);
    } else {
        obj_unref(set_take);
        if (old != NULL) {
            ks_delete(c->ks, c->db, dst, atomic_load_explicit(&c->eng->lazy_server_del, memory_order_relaxed));
            cmd_modified(c, c->db, dst);
            cmd_notify(c, 'g', "del", c->db, dst);
        }
    }
    reply_int(c->r, (int64_t)n);
}

static bool reply_each(void *arg, const struct set_member *m) {
    set_reply_member(arg, m);
    return true;
}

static void reply_whole(struct cmd_ctx *c, const struct obj *o) {
    reply_set(c->r, o == NULL ? 0 : set_len(o));
    if (o != NULL) set_each(o, reply_each, c);
}

/* ---- SINTER, SINTERCARD, SINTERSTORE ---- */

struct inter_walk {
    const struct sources *s; /* the smallest first */
    struct result *r;
};

static bool inter_visit(void *arg, const struct set_member *m) {
    const struct inter_walk *w = arg;
    uint64_t hash = 0;
    for (int i = 1; i < w->s->n; i++)
        if (w->s->sets[i] != w->s->sets[0] && !other_has(w->s, i, m, &hash)) return true;
    return result_add(w->r, m, &hash);
}

static void inter_run(struct sources *s, struct result *r) {
    struct inter_walk w = { s, r };
    index_others(s, set_len(s->sets[0]));
    set_each(s->sets[0], inter_visit, &w);
}

/* The smallest first. */
static void inter_sort(struct sources *s) {
    if (!s->n_absent) qsort(s->sets, (size_t)s->n, sizeof(*s->sets), by_len);
}

void set_inter_command(struct cmd_ctx *c) {
    struct sources s;
    struct result r = { .c = c };
    if (!sources_find(c, 1, c->argc - 1, &s)) return;
    inter_sort(&s);
    struct reply_deferred d = reply_deferred_begin(c->r);
    if (!s.n_absent) inter_run(&s, &r);
    reply_deferred_set(c->r, d, r.n);
    sources_done(&s);
}

void set_interstore_command(struct cmd_ctx *c) {
    struct sources s;
    if (!sources_find(c, 2, c->argc - 2, &s)) return;
    inter_sort(&s);
    bool is_ints = s.n_absent || s.sets[0]->enc == OBJ_ENC_INTSET;
    struct result r = { .c = c, .set = is_ints ? set_new() : set_new_for(SLICE_LIT("-"), 1) };
    if (!s.n_absent) inter_run(&s, &r);
    set_compact(r.set);
    sources_done(&s);
    store(c, c->argv[1], r.set, "sinterstore");
}

void set_intercard_command(struct cmd_ctx *c) {
    int64_t n_keys, limit = 0;
    if (!cmd_arg_ll_range(c, c->argv[1], 1, LONG_MAX, &n_keys, "ERR numkeys should be greater than 0")) return;
    if (n_keys > c->argc - 2) {
        reply_error(c->r, "ERR Number of keys can't be greater than number of args");
        return;
    }
    for (int i = (int)n_keys + 2; i < c->argc; i += 2) {
        if (!slice_ieq(c->argv[i], "limit") || i + 1 == c->argc) {
            cmd_syntax_error(c);
            return;
        }
        if (!cmd_arg_ll_range(c, c->argv[i + 1], 0, LONG_MAX, &limit, "ERR LIMIT can't be negative")) return;
    }
    struct sources s;
    struct result r = { .c = c, .limit = (uint64_t)limit, .is_counted_only = true };
    if (!sources_find(c, 2, (int)n_keys, &s)) return;
    inter_sort(&s);
    if (!s.n_absent) inter_run(&s, &r);
    reply_int(c->r, (int64_t)r.n);
    sources_done(&s);
}

/* ---- SUNION, SUNIONSTORE ---- */

static bool union_visit(void *arg, const struct set_member *m) {
    uint64_t hash = 0;
    set_add_member(arg, m, &hash);
    return true;
}

#define UNION_LOOKUP_MAX 4 /* sets */

struct union_walk {
    const struct sources *s;
    int at; /* the set that is gone through */
    struct result *r;
};

static bool union_visit_new(void *arg, const struct set_member *m) {
    const struct union_walk *w = arg;
    uint64_t hash = 0;
    for (int i = 0; i < w->at; i++)
        if (other_has(w->s, i, m, &hash)) return true;
    return result_add(w->r, m, &hash);
}

/* Of a few sets: members are looked up in the sets before their own, the largest of which is the first. False: they are too many
 * for that, or hold integers only and are soon merged. */
static bool union_by_looking_up(struct sources *s, struct result *r) {
    struct union_walk w = { .s = s, .r = r };
    bool is_ints = true;
    int n = s->n - s->n_absent;
    if (n > UNION_LOOKUP_MAX) return false;
    for (int i = 0; i < s->n; i++) is_ints = is_ints && (s->sets[i] == NULL || s->sets[i]->enc == OBJ_ENC_INTSET);
    if (is_ints) return false;
    qsort(s->sets, (size_t)s->n, sizeof(*s->sets), by_len_falling);
    s->index = mem_calloc((size_t)s->n, sizeof(*s->index));
    for (int i = 0; i + 1 < n; i++) s->index[i] = set_index_new(s->sets[i], set_len(s->sets[i + 1]) * (uint64_t)(n - 1 - i));
    for (; w.at < n; w.at++) set_each(s->sets[w.at], union_visit_new, &w);
    return true;
}

static struct obj *union_of(struct sources *s) {
    struct obj *o = set_new();
    struct result r = { .set = o };
    if (union_by_looking_up(s, &r)) return o;
    for (int i = 0; i < s->n; i++)
        if (s->sets[i] != NULL) set_each(s->sets[i], union_visit, o);
    return o;
}

void set_union_command(struct cmd_ctx *c) {
    struct sources s;
    if (!sources_find(c, 1, c->argc - 1, &s)) return;
    if (s.n - s.n_absent <= 1) { /* nothing to unite */
        qsort(s.sets, (size_t)s.n, sizeof(*s.sets), by_len_falling);
        reply_whole(c, s.sets[0]);
    } else {
        struct result r = { .c = c };
        struct reply_deferred d = reply_deferred_begin(c->r);
        if (!union_by_looking_up(&s, &r)) {
            r.set = union_of(&s);
            r.n = set_len(r.set);
            set_each(r.set, reply_each, c);
            obj_unref_lazy(r.set);
        }
        reply_deferred_set(c->r, d, r.n);
    }
    sources_done(&s);
}

void set_unionstore_command(struct cmd_ctx *c) {
    struct sources s;
    if (!sources_find(c, 2, c->argc - 2, &s)) return;
    struct obj *o = union_of(&s);
    sources_done(&s);
    store(c, c->argv[1], o, "sunionstore");
}

/* ---- SDIFF, SDIFFSTORE ---- */

/* A set that is subtracted from itself leaves nothing. */
static bool diff_is_empty(const struct sources *s) {
    if (s->sets[0] == NULL) return true;
    for (int i = 1; i < s->n; i++)
        if (s->sets[i] == s->sets[0]) return true;
    return false;
}

/* A look-up that ends early counts half: most members are expected to be found in one of the others. */
static bool diff_by_looking_up(const struct sources *s) {
    double look_up = 0, take_out = 0;
    for (int i = 0; i < s->n; i++) {
        if (s->sets[i] == NULL) continue;
        look_up += (double)set_len(s->sets[0]);
        take_out += (double)set_len(s->sets[i]);
    }
    return look_up / 2 <= take_out;
}

struct diff_walk {
    const struct sources *s;
    struct result *r;
};

static bool diff_visit(void *arg, const struct set_member *m) {
    const struct diff_walk *w = arg;
    uint64_t hash = 0;
    for (int i = 1; i < w->s->n && w->s->sets[i] != NULL; i++)
        if (other_has(w->s, i, m, &hash)) return true;
    return result_add(w->r, m, &hash);
}

static void diff_run_looking_up(struct sources *s, struct result *r) {
    struct diff_walk w = { s, r };
    qsort(s->sets + 1, (size_t)s->n - 1, sizeof(*s->sets), by_len_falling);
    index_others(s, set_len(s->sets[0]));
    set_each(s->sets[0], diff_visit, &w);
}

static bool take_out_visit(void *arg, const struct set_member *m) {
    struct obj *o = arg;
    uint64_t hash = 0;
    set_remove_member(o, m, &hash);
    return set_len(o) > 0;
}

static struct obj *diff_taking_out(const struct sources *s) {
    struct obj *o = set_new();
    set_each(s->sets[0], union_visit, o);
    for (int i = 1; i < s->n && set_len(o) > 0; i++)
        if (s->sets[i] != NULL) set_each(s->sets[i], take_out_visit, o);
    return o;
}

void set_diff_command(struct cmd_ctx *c) {
    struct sources s;
    struct result r = { .c = c };
    if (!sources_find(c, 1, c->argc - 1, &s)) return;
    if (diff_is_empty(&s)) {
        reply_set(c->r, 0);
    } else if (diff_by_looking_up(&s)) {
        struct reply_deferred d = reply_deferred_begin(c->r);
        diff_run_looking_up(&s, &r);
        reply_deferred_set(c->r, d, r.n);
    } else {
        struct obj *o = diff_taking_out(&s);
        reply_whole(c, o);
        obj_unref_lazy(o);
    }
    sources_done(&s);
}

void set_diffstore_command(struct cmd_ctx *c) {
    struct sources s;
    if (!sources_find(c, 2, c->argc - 2, &s)) return;
    struct result r = { .c = c };
    if (diff_is_empty(&s)) {
        r.set = set_new();
    } else if (diff_by_looking_up(&s)) {
        r.set = set_new();
        diff_run_looking_up(&s, &r);
    } else {
        r.set = diff_taking_out(&s);
    }
    sources_done(&s);
    store(c, c->argv[1], r.set, "sdiffstore");
}
