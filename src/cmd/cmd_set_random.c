/*
 * Sets: SPOP, SRANDMEMBER and SSCAN. Ways of choosing: cmd/pick.h. What SPOP took travels as SREM, so that replicas need not
 * draw, or as DEL when it was all.
 */
#include "cmd/cmd_set.h"

#include <limits.h>

#include "base/alloc.h"
#include "cmd/pick.h"
#include "cmd/scan.h"

static bool reply_each(void *arg, const struct set_member *m) {
    set_reply_member(arg, m);
    return true;
}

static void reply_ref(struct cmd_ctx *c, const struct obj *o, const void *ref) {
    struct set_member m;
    set_ref_member(o, ref, &m);
    set_reply_member(c, &m);
}

/* n different members, n < set_len: at the start of what is returned, which the caller frees; behind them the rest, unless the
 * set is a table. */
static void **pick_refs(const struct obj *o, size_t n) {
    struct dict *d = set_dict(o);
    size_t size = set_len(o);
    bool is_few = d != NULL && pick_is_few(n, size);
    void **refs = mem_calloc(is_few ? n : size, sizeof(*refs));
    if (is_few) {
        pick_from_dict(d, refs, n);
    } else {
        set_refs(o, refs);
        pick_shuffle(refs, size, n);
    }
    return refs;
}

/* ---- SPOP ---- */

static void propagate_srem(struct cmd_ctx *c, const struct obj *o, void *const *refs, size_t n) {
    enum { BATCH = 1024 };
    struct slice argv[2 + BATCH] = { SLICE_LIT("SREM"), c->argv[1] };
    char tmp[BATCH][STR_LL_MAX];
    for (size_t at = 0; at < n; at += BATCH) {
        size_t k = n - at < BATCH ? n - at : BATCH;
        for (size_t i = 0; i < k; i++) {
            struct set_member m;
            set_ref_member(o, refs[at + i], &m);
            argv[2 + i] = set_member_text(&m, tmp[i]);
        }
        cmd_propagate(c, (int)k + 2, argv);
    }
}

static void pop_end(struct cmd_ctx *c, const struct obj *o) {
    cmd_notify(c, 's', "spop", c->db, c->argv[1]);
    set_drop_if_empty(c, c->argv[1], o);
    cmd_modified(c, c->db, c->argv[1]);
}

static void pop_one(struct cmd_ctx *c, struct obj *o) {
    void *ref = set_random(o);
    reply_ref(c, o, ref);
    propagate_srem(c, o, &ref, 1);
    set_remove_refs(o, &ref, 1, NULL, 0);
    pop_end(c, o);
}

/* All of them: the key goes. */
static void pop_all(struct cmd_ctx *c, const struct obj *o) {
    bool lazy = atomic_load_explicit(&c->eng->lazy_server_del, memory_order_relaxed);
    struct slice argv[] = { lazy ? SLICE_LIT("UNLINK") : SLICE_LIT("DEL"), c->argv[1] };
    size_t n = set_len(o);
    reply_set(c->r, n);
    set_each(o, reply_each, c);
    cmd_propagate(c, 2, argv);
    cmd_notify(c, 's', "spop", c->db, c->argv[1]);
    ks_delete(c->ks, c->db, c->argv[1], true);
    cmd_notify(c, 'g', "del", c->db, c->argv[1]);
    cmd_modified(c, c->db, c->argv[1]);
    cmd_dirty(c, n - 1);
}

static void pop_some(struct cmd_ctx *c, struct obj *o, size_t n) {
    size_t size = set_len(o);
    void **refs = pick_refs(o, n);
    reply_set(c->r, n);
    for (size_t i = 0; i < n; i++) reply_ref(c, o, refs[i]);
    propagate_srem(c, o, refs, n);
    set_remove_refs(o, refs, n, refs + n, size - n);
    mem_free(refs);
    pop_end(c, o);
    cmd_dirty(c, n - 1);
}

static bool pop_count(struct cmd_ctx *c, int64_t *ret) {
    if (c->argc > 3) {
        cmd_syntax_error(c);
        return false;
    }
    return cmd_arg_ll_range(c, c->argv[2], 0, LONG_MAX, ret, "ERR value is out of range, must be positive");
}

void set_pop_command(struct cmd_ctx *c) {
    int64_t count = 1;
    bool err, has_count = c->argc > 2;
    if (has_count && !pop_count(c, &count)) return;
    struct entry *e = cmd_find_typed(c, c->argv[1], OBJ_SET, true, &err);
    if (err) return;
    struct obj *o = e == NULL ? NULL : entry_value(e);
    if (!has_count && o == NULL)
        reply_null(c->r);
    else if (!has_count)
        pop_one(c, o);
    else if (o == NULL || count == 0)
        reply_set(c->r, 0);
    else if ((uint64_t)count >= set_len(o))
        pop_all(c, o);
    else
        pop_some(c, o, (size_t)count);
}

/* ---- SRANDMEMBER ---- */

/* n draws that may repeat. */
static void rand_repeating(struct cmd_ctx *c, const struct obj *o, size_t n) {
    size_t size = set_len(o);
    void **refs = NULL;
    if (o->enc == OBJ_ENC_LISTPACK && n > 1) { /* so as not to walk to each of them */
        refs = mem_calloc(size, sizeof(*refs));
        set_refs(o, refs);
    }
    reply_array(c->r, n);
    for (size_t i = 0; i < n; i++) {
        if (refs != NULL) pick_shuffle(refs, size, 1);
        reply_ref(c, o, refs != NULL ? refs[0] : set_random(o));
    }
    mem_free(refs);
}

static void rand_many(struct cmd_ctx *c, const struct obj *o, int64_t count) {
    uint64_t size = o == NULL ? 0 : set_len(o), n = count < 0 ? 0 - (uint64_t)count : (uint64_t)count;
    if (size == 0 || n == 0) {
        reply_array(c->r, 0);
    } else if (count < 0 || n == 1) {
        rand_repeating(c, o, n);
    } else if (n >= size) {
        reply_array(c->r, size);
        set_each(o, reply_each, c);
    } else {
        void **refs = pick_refs(o, n);
        reply_array(c->r, n);
        for (size_t i = 0; i < n; i++) reply_ref(c, o, refs[i]);
        mem_free(refs);
    }
}

static bool rand_count(struct cmd_ctx *c, int64_t *ret) {
    if (c->argc > 3) {
        cmd_syntax_error(c);
        return false;
    }
    if (!cmd_arg_ll_range(c, c->argv[2], -INT64_MAX, INT64_MAX, ret, NULL)) return false;
    return pick_allows(c, *ret);
}

void set_randmember_command(struct cmd_ctx *c) {
    int64_t count = 0;
    bool err;
    if (c->argc > 2 && !rand_count(c, &count)) return;
    const struct obj *o = set_for_read(c, &err);
    if (err) return;
    if (c->argc > 2)
        rand_many(c, o, count);
    else if (o == NULL)
        reply_null(c->r);
    else
        reply_ref(c, o, set_random(o));
}

/* ---- SSCAN ---- */

struct sscan {
    struct cmd_ctx *c;
    struct scan_opts opts;
    size_t n; /* replied */
};

static bool sscan_member(void *arg, const struct set_member *m) {
    struct sscan *s = arg;
    char tmp[STR_LL_MAX];
    struct slice text = set_member_text(m, tmp);
    if (!scan_matches(&s->opts, text)) return true;
    reply_bulk_slice(s->c->r, text);
    s->n++;
    return true;
}

void set_scan_command(struct cmd_ctx *c) {
    struct sscan s = { .c = c };
    struct scan_found found = { 0 };
    struct set_member m;
    uint64_t cursor;
    bool err;
    if (!scan_cursor(c, c->argv[2], &cursor)) return;
    const struct obj *o = set_for_read(c, &err);
    if (err) return;
    if (o == NULL) {
        scan_reply_empty(c);
        return;
    }
    if (!scan_options(c, 3, 0, &s.opts)) return;
    struct dict *d = set_dict(o);
    cursor = d != NULL ? scan_dict(d, cursor, &s.opts, &found) : 0;
    struct reply_deferred open = scan_reply_begin(c, cursor);
    if (d == NULL) set_each(o, sscan_member, &s);
    for (size_t i = 0; i < found.n; i++) {
        set_ref_member(o, found.items[i], &m);
        sscan_member(&s, &m);
    }
    reply_deferred_array(c->r, open, s.n);
    scan_found_done(&found);
}
