/*
 * Hashes: HRANDFIELD and HSCAN. What is due is never shown. Ways of choosing: cmd/pick.h.
 */
#include "cmd/cmd_hash.h"

#include "base/alloc.h"
#include "base/rand.h"
#include "cmd/pick.h"
#include "cmd/scan.h"

/* ---- HRANDFIELD ---- */

struct rand_reply {
    struct cmd_ctx *c;
    const struct obj *o;
    bool withvalues;
};

static void rand_begin(const struct rand_reply *rr, size_t n) {
    bool is_flat = rr->withvalues && rr->c->r->resp == 2;
    reply_array(rr->c->r, is_flat ? n * 2 : n);
}

static void rand_one(const struct rand_reply *rr, const void *ref) {
    struct hash_pair pair;
    hash_ref_pair(rr->o, ref, &pair);
    if (rr->withvalues && rr->c->r->resp > 2) reply_array(rr->c->r, 2);
    reply_bulk_slice(rr->c->r, pair.field);
    if (rr->withvalues) hash_reply_value(rr->c, &pair);
}

/* All live fields; the caller frees. */
static void **live_refs(const struct rand_reply *rr, size_t *ret_n) {
    void **refs = mem_calloc(hash_len(rr->o) + 1, sizeof(*refs));
    *ret_n = hash_refs(rr->o, rr->c->now_ms, refs);
    return refs;
}

/* n draws that may repeat. */
static void rand_repeating(const struct rand_reply *rr, size_t n, bool all_live) {
    struct dict *d = all_live ? hash_dict(rr->o) : NULL;
    size_t size = 0;
    void **refs = d != NULL ? NULL : live_refs(rr, &size);
    rand_begin(rr, n);
    for (size_t i = 0; i < n; i++) rand_one(rr, d != NULL ? dict_random(d) : refs[rand_below(size)]);
    mem_free(refs);
}

/* n different ones, n < size. */
static void rand_distinct(const struct rand_reply *rr, size_t n, bool all_live) {
    struct dict *d = all_live ? hash_dict(rr->o) : NULL;
    void **refs;
    size_t size;
    if (d != NULL && pick_is_few(n, dict_size(d))) {
        refs = mem_calloc(n, sizeof(*refs));
        pick_from_dict(d, refs, n);
    } else {
        refs = live_refs(rr, &size);
        pick_shuffle(refs, size, n);
    }
    rand_begin(rr, n);
    for (size_t i = 0; i < n; i++) rand_one(rr, refs[i]);
    mem_free(refs);
}

static bool rand_all(void *arg, const struct hash_pair *p) {
    const struct rand_reply *rr = arg;
    if (rr->withvalues && rr->c->r->resp > 2) reply_array(rr->c->r, 2);
    reply_bulk_slice(rr->c->r, p->field);
    if (rr->withvalues) hash_reply_value(rr->c, p);
    return true;
}

static void rand_many(struct cmd_ctx *c, const struct obj *o, int64_t count, bool withvalues) {
    struct rand_reply rr = { c, o, withvalues };
    uint64_t size = o == NULL ? 0 : hash_len_live(o, c->now_ms), n = count < 0 ? 0 - (uint64_t)count : (uint64_t)count;
    if (size == 0 || n == 0) {
        reply_array(c->r, 0);
    } else if (count < 0) {
        rand_repeating(&rr, n, size == hash_len(o));
    } else if (n >= size) {
        rand_begin(&rr, size);
        hash_each(o, c->now_ms, rand_all, &rr);
    } else {
        rand_distinct(&rr, n, size == hash_len(o));
    }
}

/* False: the error was replied. */
static bool rand_options(struct cmd_ctx *c, int64_t *ret_count, bool *ret_withvalues) {
    if (!cmd_arg_ll_range(c, c->argv[2], -INT64_MAX, INT64_MAX, ret_count, NULL)) return false;
    if (c->argc > 4 || (c->argc == 4 && !slice_ieq(c->argv[3], "withvalues"))) {
        cmd_syntax_error(c);
        return false;
    }
    *ret_withvalues = c->argc == 4;
    int64_t max = *ret_withvalues ? INT64_MAX / 2 : INT64_MAX;
    if (*ret_count >= -max && *ret_count <= max) return pick_allows(c, *ret_count);
    reply_error(c->r, "ERR value is out of range");
    return false;
}

void hash_randfield_command(struct cmd_ctx *c) {
    int64_t count = 0;
    bool withvalues = false, err;
    if (c->argc > 2 && !rand_options(c, &count, &withvalues)) return;
    const struct obj *o = hash_for_read(c, &err);
    if (err) return;
    if (c->argc > 2) {
        rand_many(c, o, count, withvalues);
        return;
    }
    struct rand_reply rr = { c, o, false };
    size_t size = o == NULL ? 0 : hash_len_live(o, c->now_ms);
    if (size == 0) {
        reply_null(c->r);
    } else if (size == hash_len(o)) {
        rand_one(&rr, hash_random(o));
    } else {
        void **refs = live_refs(&rr, &size);
        rand_one(&rr, refs[rand_below(size)]);
        mem_free(refs);
    }
}

/* ---- HSCAN ---- */

struct hscan {
    struct cmd_ctx *c;
    struct scan_opts opts;
    size_t n; /* replied: fields and values */
};

static bool hscan_pair(void *arg, const struct hash_pair *p) {
    struct hscan *h = arg;
    if (!scan_matches(&h->opts, p->field)) return true;
    reply_bulk_slice(h->c->r, p->field);
    if (!h->opts.novalues) hash_reply_value(h->c, p);
    h->n += h->opts.novalues ? 1 : 2;
    return true;
}

void hash_scan_command(struct cmd_ctx *c) {
    struct hscan h = { .c = c };
    struct scan_found found = { 0 };
    struct hash_pair pair;
    uint64_t cursor;
    bool err;
    if (!scan_cursor(c, c->argv[2], &cursor)) return;
    const struct obj *o = hash_for_read(c, &err);
    if (err) return;
    if (o == NULL) {
        scan_reply_empty(c);
        return;
    }
    if (!scan_options(c, 3, SCAN_NOVALUES, &h.opts)) return;
    struct dict *d = hash_dict(o);
    cursor = d != NULL ? scan_dict(d, cursor, &h.opts, &found) : 0;
    struct reply_deferred open = scan_reply_begin(c, cursor);
    if (d == NULL) hash_each(o, c->now_ms, hscan_pair, &h);
    for (size_t i = 0; i < found.n; i++) {
        if (hash_ref_is_due(o, found.items[i], c->now_ms)) continue;
        hash_ref_pair(o, found.items[i], &pair);
        hscan_pair(&h, &pair);
    }
    reply_deferred_array(c->r, open, h.n);
    scan_found_done(&found);
}
