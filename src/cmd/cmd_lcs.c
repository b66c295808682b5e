/*
 * LCS: the longest common subsequence of two strings, by dynamic programming.
 *
 *   T(i,j) = length for the first i bytes of a and the first j of b
 *          = 0                           i == 0 or j == 0
 *          = T(i-1,j-1) + 1              a[i-1] == b[j-1]
 *          = max(T(i-1,j), T(i,j-1))     otherwise
 *
 * The whole table is kept, 4 bytes a cell, because the walk back from T(|a|,|b|) to the origin spells the subsequence from its
 * end and, with IDX, the runs of bytes that follow one another in both strings. Ties go towards shorter b: which of several
 * equally long subsequences is found is part of the protocol. Two rows would do for LEN alone; Hirschberg's variant would do for
 * the string in linear memory, at twice the time and with other ties.
 */
#include "cmd/cmd_string.h"

#include "base/alloc.h"

struct lcs_opts {
    bool idx, len, with_match_len;
    int64_t min_match_len;
};

struct lcs {
    struct slice a, b;
    uint32_t *table; /* (|a|+1) rows of |b|+1 */
};

struct lcs_run { /* bytes a_at.., b_at.. are the same, n of them */
    uint32_t a_at, b_at, n;
};

static bool lcs_options(struct cmd_ctx *c, struct lcs_opts *o) {
    for (int i = 3; i < c->argc; i++) {
        struct slice word = c->argv[i];
        if (slice_ieq(word, "idx")) {
            o->idx = true;
        } else if (slice_ieq(word, "len")) {
            o->len = true;
        } else if (slice_ieq(word, "withmatchlen")) {
            o->with_match_len = true;
        } else if (slice_ieq(word, "minmatchlen") && i + 1 < c->argc) {
            if (!cmd_arg_ll(c, c->argv[++i], &o->min_match_len, NULL)) return false;
        } else {
            cmd_syntax_error(c);
            return false;
        }
    }
    if (o->idx && o->len) {
        reply_error(c->r, "ERR If you want both the length and indexes, please just use IDX.");
        return false;
    }
    return true;
}

/* Both values, empty when absent. A key of another type is refused with a text of LCS's own. */
static bool lcs_strings(struct cmd_ctx *c, struct lcs *l, char *tmp_a, char *tmp_b) {
    struct entry *ea = cmd_find_read(c, c->argv[1]), *eb = cmd_find_read(c, c->argv[2]);
    if ((ea != NULL && entry_value(ea)->type != OBJ_STRING) || (eb != NULL && entry_value(eb)->type != OBJ_STRING)) {
        reply_error(c->r, "ERR The specified keys must contain string values");
        return false;
    }
    l->a = ea == NULL ? SLICE_LIT("") : obj_string_bytes(entry_value(ea), tmp_a);
    l->b = eb == NULL ? SLICE_LIT("") : obj_string_bytes(entry_value(eb), tmp_b);
    return true;
}

static bool lcs_alloc(struct cmd_ctx *c, struct lcs *l) {
    size_t cells, bytes;
    if (l->a.len >= UINT32_MAX - 1 || l->b.len >= UINT32_MAX - 1) {
        reply_error(c->r, "ERR String too long for LCS");
        return false;
    }
    bool fits =
        !__builtin_mul_overflow(l->a.len + 1, l->b.len + 1, &cells) && !__builtin_mul_overflow(cells, sizeof(uint32_t), &bytes);
    if (fits && bytes > atomic_load_explicit(&c->eng->proto_max_bulk_len, memory_order_relaxed)) {
        reply_error(c->r, "ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len");
        return false;
    }
    l->table = fits ? mem_try_alloc(bytes) : NULL;
    if (l->table == NULL) reply_error(c->r, "ERR Insufficient memory, failed allocating transient memory for LCS");
    return l->table != NULL;
}

static uint32_t *lcs_at(const struct lcs *l, size_t i, size_t j) {
    return &l->table[i * (l->b.len + 1) + j];
}

static void lcs_fill(struct lcs *l) {
    memset(lcs_at(l, 0, 0), 0, (l->b.len + 1) * sizeof(uint32_t));
    for (size_t i = 1; i <= l->a.len; i++) {
        const uint32_t *above = lcs_at(l, i - 1, 0);
        uint32_t *row = lcs_at(l, i, 0);
        row[0] = 0;
        for (size_t j = 1; j <= l->b.len; j++) {
            if (l->a.ptr[i - 1] == l->b.ptr[j - 1])
                row[j] = above[j - 1] + 1;
            else
                row[j] = above[j] > row[j - 1] ? above[j] : row[j - 1];
        }
    }
}

/* Walks back from (*i,*j) over differing bytes and then over the run of equal ones. False at the edge without a run; *i,*j are
 * moved. */
static bool lcs_next_run(const struct lcs *l, size_t *i, size_t *j, struct lcs_run *ret) {
    while (*i > 0 && *j > 0 && l->a.ptr[*i - 1] != l->b.ptr[*j - 1]) {
        if (*lcs_at(l, *i - 1, *j) > *lcs_at(l, *i, *j - 1))
            --*i;
        else
            --*j;
    }
    uint32_t n = 0;
    while (*i > 0 && *j > 0 && l->a.ptr[*i - 1] == l->b.ptr[*j - 1]) {
        --*i;
        --*j;
        n++;
    }
    *ret = (struct lcs_run){ (uint32_t)*i, (uint32_t)*j, n };
    return n > 0;
}

static void lcs_reply_range(struct reply *r, uint32_t at, uint32_t n) {
    reply_array(r, 2);
    reply_int(r, at);
    reply_int(r, (int64_t)at + n - 1);
}

static void lcs_reply_idx(struct cmd_ctx *c, const struct lcs *l, const struct lcs_opts *o) {
    size_t i = l->a.len, j = l->b.len, matches = 0;
    struct lcs_run run;
    reply_map(c->r, 2);
    reply_bulk_cstr(c->r, "matches");
    struct reply_deferred d = reply_deferred_begin(c->r);
    while (lcs_next_run(l, &i, &j, &run)) {
        if (run.n < o->min_match_len) continue;
        reply_array(c->r, o->with_match_len ? 3 : 2);
        lcs_reply_range(c->r, run.a_at, run.n);
        lcs_reply_range(c->r, run.b_at, run.n);
        if (o->with_match_len) reply_int(c->r, run.n);
        matches++;
    }
    reply_deferred_array(c->r, d, matches);
    reply_bulk_cstr(c->r, "len");
    reply_int(c->r, *lcs_at(l, l->a.len, l->b.len));
}

static void lcs_reply_string(struct cmd_ctx *c, const struct lcs *l) {
    size_t i = l->a.len, j = l->b.len;
    size_t len = *lcs_at(l, i, j), at = len;
    char *out = mem_alloc(len);
    struct lcs_run run;
    while (lcs_next_run(l, &i, &j, &run)) {
        at -= run.n;
        memcpy(out + at, l->a.ptr + run.a_at, run.n);
    }
    reply_bulk(c->r, out, len);
    mem_free(out);
}

void string_lcs_command(struct cmd_ctx *c) {
    struct lcs l = { .table = NULL };
    struct lcs_opts o = { .idx = false };
    char tmp_a[STR_LL_MAX], tmp_b[STR_LL_MAX];
    if (!lcs_strings(c, &l, tmp_a, tmp_b) || !lcs_options(c, &o) || !lcs_alloc(c, &l)) return;
    lcs_fill(&l);
    if (o.idx)
        lcs_reply_idx(c, &l, &o);
    else if (o.len)
        reply_int(c->r, *lcs_at(&l, l.a.len, l.b.len));
    else
        lcs_reply_string(c, &l);
    mem_free(l.table);
}
