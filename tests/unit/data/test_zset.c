/* Sorted sets against a model, which is a sorted array: random changes of every kind in both encodings, the ranks and ranges of
 * all that is there, the tree's invariants; bulk loads, scans, listpacks from outside. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <math.h>
#include <setjmp.h>
#include <cmocka.h>

#include "base/alloc.h"
#include "base/hash.h"
#include "base/rand.h"
#include "data/limits.h"
#include "data/listpack.h"
#include "data/zset.h"
#include "data/ztree.h"

#define N_MAX 4000

struct pair {
    double score;
    char member[16];
};

static struct pair model[N_MAX];
static size_t n_model;
static struct obj *set;

static int setup(void **state) {
    (void)state;
    hash_seed_init();
    n_model = 0;
    set = zset_new(0, 0);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    set = obj_unref(set);
    atomic_store(&data_limits.zset_max_listpack_entries, 128);
    atomic_store(&data_limits.zset_max_listpack_value, 64);
    return 0;
}

static int pair_cmp(const void *a, const void *b) {
    const struct pair *x = a, *y = b;
    if (x->score != y->score) return x->score < y->score ? -1 : 1;
    return slice_cmp(slice_cstr(x->member), slice_cstr(y->member));
}

static struct pair *model_find(const char *member) {
    for (size_t i = 0; i < n_model; i++)
        if (!strcmp(model[i].member, member)) return &model[i];
    return NULL;
}

static void model_drop(size_t at, size_t n) {
    memmove(&model[at], &model[at + n], (n_model - at - n) * sizeof(*model));
    n_model -= n;
}

static void model_put(double score, const char *member) {
    struct pair p = { .score = score };
    snprintf(p.member, sizeof p.member, "%s", member);
    size_t at = 0;
    while (at < n_model && pair_cmp(&model[at], &p) < 0) at++;
    memmove(&model[at + 1], &model[at], (n_model - at) * sizeof(*model));
    model[at] = p;
    n_model++;
}

static void add(double score, const char *member) {
    struct pair *old = model_find(member);
    double got = NAN;
    enum zset_added expected = !old ? ZSET_ADDED : old->score == score ? ZSET_SAME : ZSET_UPDATED;
    assert_int_equal(zset_add(set, score, slice_cstr(member), 0, &got), expected);
    assert_true(got == score);
    if (expected == ZSET_SAME) return;
    if (old) model_drop((size_t)(old - model), 1);
    model_put(score, member);
}

static void drop(const char *member) {
    struct pair *old = model_find(member);
    assert_int_equal(zset_remove(set, slice_cstr(member)), old != NULL);
    if (old) model_drop((size_t)(old - model), 1);
}

static void walk(bool backwards) {
    struct zset_iter it;
    struct zset_item item;
    size_t from = n_model ? rand_below(n_model) : 0;
    zset_iter_init(&it, set, from, backwards);
    for (size_t i = from; i < n_model; i += backwards ? SIZE_MAX : 1) {
        assert_true(zset_iter_next(&it, &item));
        assert_true(item.score == model[i].score && slice_eq(item.member, slice_cstr(model[i].member)));
    }
    assert_false(zset_iter_next(&it, &item));
}

/* Everything there is, against the model. */
static void compare(void) {
    assert_true(zset_check(set));
    assert_int_equal(zset_len(set), n_model);
    walk(false);
    walk(true);
    for (size_t i = 0; i < n_model; i++) {
        uint64_t rank;
        double score, same;
        assert_true(zset_rank(set, slice_cstr(model[i].member), &rank, &score));
        assert_int_equal(rank, i);
        assert_true(zset_score(set, slice_cstr(model[i].member), &same));
        assert_true(score == model[i].score && same == score);
    }
}

static void compare_score_range(double a, double b) {
    struct zset_score_range r = { a, b, rand_below(2), rand_below(2) };
    struct zset_ranks got = zset_score_range(set, &r);
    uint64_t first = 0, n = 0;
    for (size_t i = 0; i < n_model; i++) {
        double s = model[i].score;
        bool above = r.min_ex ? s > r.min : s >= r.min, below = r.max_ex ? s < r.max : s <= r.max;
        first += !above;
        n += above && below;
    }
    assert_int_equal(got.n, n);
    if (n) assert_int_equal(got.first, first);
}

static double any_score(unsigned kinds) {
    static const double odd[] = { INFINITY, -INFINITY, 0.1, -2.5, 1e300, 5e-324, 0x1p63, -0x1p62 };
    if (rand_below(20) == 0) return odd[rand_below(sizeof odd / sizeof *odd)];
    return (double)rand_below(kinds) - kinds / 4;
}

/* kinds: how many different scores; members: how many different members. */
static void churn(unsigned steps, unsigned kinds, unsigned members) {
    for (unsigned i = 0; i < steps; i++) {
        char name[16];
        snprintf(name, sizeof name, rand_below(4) ? "m%u" : "%u", (unsigned)rand_below(members));
        unsigned roll = (unsigned)rand_below(100);
        if (roll < 65) {
            if (n_model < N_MAX - 1) add(any_score(kinds), name);
        } else if (roll < 95) {
            drop(name);
        } else if (roll < 98) {
            compare_score_range(any_score(kinds), any_score(kinds));
        } else if (n_model) {
            struct zset_ranks r = { rand_below(n_model), 0 };
            r.n = rand_below((n_model - r.first) / 8 + 2);
            if (r.n > n_model - r.first) r.n = n_model - r.first;
            zset_remove_ranks(set, r);
            model_drop(r.first, r.n);
        }
        if (i % 512 == 0) compare();
    }
    compare();
}

static void test_zset_small_churn_matches_model(void **state) {
    (void)state;
    churn(4000, 10, 60);
    assert_int_equal(set->enc, OBJ_ENC_LISTPACK);
}

static void test_zset_grows_over_limit_becomes_tree(void **state) {
    (void)state;
    for (unsigned i = 0; i < 128; i++) {
        char name[16];
        snprintf(name, sizeof name, "%u", i);
        add((double)(i % 7), name);
    }
    assert_int_equal(set->enc, OBJ_ENC_LISTPACK);
    compare();
    add(-1, "one more");
    assert_int_equal(set->enc, OBJ_ENC_SKIPLIST);
    compare();
}

static void test_zset_large_churn_matches_model(void **state) {
    (void)state;
    atomic_store(&data_limits.zset_max_listpack_entries, 0);
    churn(12000, 1000000, 3000);
}

static void test_zset_large_churn_few_scores_matches_model(void **state) {
    (void)state;
    atomic_store(&data_limits.zset_max_listpack_entries, 0);
    churn(12000, 3, 3000);
}

static void test_zset_emptied_and_filled_again(void **state) {
    (void)state;
    atomic_store(&data_limits.zset_max_listpack_entries, 0);
    for (unsigned round = 0; round < 6; round++) {
        for (int i = 0; i < 1500; i++) {
            char name[16];
            snprintf(name, sizeof name, "m%d", i);
            add(round % 3 == 0 ? i : round % 3 == 1 ? -i : i * 7919 % 1500, name);
        }
        compare();
        if (round % 2) {
            while (n_model) {
                char name[16];
                snprintf(name, sizeof name, "%s", model[round == 1 ? 0 : rand_below(n_model)].member);
                drop(name);
            }
        } else {
            zset_remove_ranks(set, (struct zset_ranks){ 0, n_model });
            n_model = 0;
        }
        compare();
    }
}

static void test_zset_ordered_input_fills_leaves(void **state) {
    (void)state;
    enum { N = 100000 };
    struct ztree up = { 0 }, down = { 0 };
    for (int i = 0; i < N; i++) {
        char name[16];
        int len = snprintf(name, sizeof name, "%d", i);
        ztree_insert(&up, zset_entry_new(i, (struct slice){ name, (size_t)len }));
        ztree_insert(&down, zset_entry_new(-i, (struct slice){ name, (size_t)len }));
    }
    assert_true(ztree_check(&up) && ztree_check(&down));
    assert_true(up.n_leaves <= N / 62 + 1);
    assert_true(down.n_leaves <= N / 61 + 1);
    ztree_clear(&up, mem_free);
    ztree_clear(&down, mem_free);
}

static void free_removed(void *arg, struct zset_entry *e) {
    ++*(uint64_t *)arg;
    mem_free(e);
}

/* Three levels: inner nodes are cut and merged too. */
static void test_ztree_deep_churn_stays_valid(void **state) {
    (void)state;
    enum { N = 200000 };
    struct ztree t = { 0 };
    struct zset_entry **all = mem_calloc(N, sizeof(*all));
    for (int i = 0; i < N; i++) {
        char name[16];
        int len = snprintf(name, sizeof name, "%d", i);
        all[i] = zset_entry_new((double)rand_below(N), (struct slice){ name, (size_t)len });
        ztree_insert(&t, all[i]);
    }
    assert_true(t.height >= 2 && ztree_check(&t));
    for (int i = 0; i < N; i++) ztree_move(&t, all[i], (double)rand_below(N));
    assert_true(ztree_check(&t));
    for (int i = 0; i < N; i += 2) {
        ztree_remove(&t, all[i]);
        mem_free(all[i]);
    }
    assert_true(ztree_check(&t) && t.n == N / 2);
    while (t.n) {
        uint64_t first = rand_below(t.n), n = rand_below(t.n - first) / 4 + 1, removed = 0, before = t.n;
        ztree_remove_range(&t, first, n, free_removed, &removed);
        assert_true(removed == n && t.n == before - n && ztree_check(&t));
    }
    mem_free(all);
}

static void test_ztree_load_any_size_is_valid(void **state) {
    (void)state;
    static const uint64_t sizes[] = { 0, 1, 5, 6, 7, 14, 15, 30, 31, 62, 63, 64, 124, 125, 3906, 3907, 4000, 250000 };
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        struct ztree t = { 0 };
        struct ztree_item *items = mem_calloc(sizes[s] + 1, sizeof(*items));
        for (uint64_t i = 0; i < sizes[s]; i++)
            items[i] = (struct ztree_item){ (double)i, zset_entry_new((double)i, SLICE_LIT("x")) };
        ztree_load(&t, items, sizes[s]);
        assert_true(ztree_check(&t));
        assert_int_equal(t.n, sizes[s]);
        for (uint64_t i = 0; i < sizes[s]; i += 1 + sizes[s] / 50) assert_int_equal(ztree_rank(&t, items[i].e), i);
        ztree_clear(&t, mem_free);
        mem_free(items);
    }
}

static void test_zset_flags(void **state) {
    (void)state;
    struct slice m = SLICE_LIT("m"), other = SLICE_LIT("other");
    for (int large = 0; large < 2; large++) {
        double s = 77;
        atomic_store(&data_limits.zset_max_listpack_entries, large ? 0 : 128);
        obj_unref(set);
        set = zset_new(1, 1);
        assert_int_equal(set->enc, large ? OBJ_ENC_SKIPLIST : OBJ_ENC_LISTPACK);
        assert_int_equal(zset_add(set, 1, m, ZSET_XX, &s), ZSET_NOTHING);
        assert_true(s == 77);
        assert_int_equal(zset_add(set, 1, m, ZSET_NX, &s), ZSET_ADDED);
        assert_int_equal(zset_add(set, 2, m, ZSET_NX, &s), ZSET_NOTHING);
        assert_int_equal(zset_add(set, 0, m, ZSET_GT, &s), ZSET_NOTHING);
        assert_int_equal(zset_add(set, 1, m, ZSET_GT, &s), ZSET_NOTHING);
        assert_int_equal(zset_add(set, 2, m, ZSET_LT, &s), ZSET_NOTHING);
        assert_int_equal(zset_add(set, 2, m, ZSET_GT | ZSET_XX, &s), ZSET_UPDATED);
        assert_int_equal(zset_add(set, 2.5, m, ZSET_INCR, &s), ZSET_UPDATED);
        assert_true(s == 4.5);
        assert_int_equal(zset_add(set, -1, m, ZSET_INCR | ZSET_GT, &s), ZSET_NOTHING);
        assert_int_equal(zset_add(set, 0, m, ZSET_INCR, &s), ZSET_SAME);
        assert_int_equal(zset_add(set, 3, other, ZSET_INCR | ZSET_LT, &s), ZSET_ADDED);
        assert_int_equal(zset_add(set, INFINITY, m, 0, &s), ZSET_UPDATED);
        assert_int_equal(zset_add(set, -INFINITY, m, ZSET_INCR, &s), ZSET_NAN);
        assert_true(zset_score(set, m, &s) && s == INFINITY);
        assert_false(zset_score(set, SLICE_LIT("absent"), &s));
        assert_int_equal(zset_len(set), 2);
        assert_true(zset_check(set));
    }
}

static void test_zset_lex_ranges(void **state) {
    (void)state;
    for (int large = 0; large < 2; large++) {
        atomic_store(&data_limits.zset_max_listpack_entries, large ? 0 : 128);
        obj_unref(set);
        set = zset_new(1, 1);
        n_model = 0;
        for (unsigned i = 0; i < 100; i++) {
            char name[16];
            snprintf(name, sizeof name, "%02u", i);
            add(0, name);
        }
        for (unsigned i = 0; i < 2000; i++) {
            char min[16], max[16];
            snprintf(min, sizeof min, "%02u%s", (unsigned)rand_below(101), rand_below(3) ? "" : "x");
            snprintf(max, sizeof max, "%02u%s", (unsigned)rand_below(101), rand_below(3) ? "" : "x");
            struct zset_lex_range r = { (enum zset_lex_end)rand_below(4), (enum zset_lex_end)rand_below(4), slice_cstr(min),
                                        slice_cstr(max) };
            uint64_t n = 0, first = 0;
            for (size_t k = 0; k < n_model; k++) {
                int lo = strcmp(model[k].member, min), hi = strcmp(model[k].member, max);
                bool above = r.min_end == ZSET_LEX_MIN || (r.min_end == ZSET_LEX_INCL && lo >= 0) ||
                             (r.min_end == ZSET_LEX_EXCL && lo > 0);
                bool below = r.max_end == ZSET_LEX_MAX || (r.max_end == ZSET_LEX_INCL && hi <= 0) ||
                             (r.max_end == ZSET_LEX_EXCL && hi < 0);
                first += !above;
                n += above && below;
            }
            struct zset_ranks got = zset_lex_range(set, &r, i % 2);
            assert_int_equal(got.n, n);
            if (n) assert_int_equal(got.first, first);
        }
    }
}

static void test_zset_long_members(void **state) {
    (void)state;
    char text[70000];
    double s;
    memset(text, 'x', sizeof text);
    static const size_t lens[] = { 0, 1, 63, 64, 65, 253, 254, 255, 256, 4096, sizeof text };
    for (size_t i = 0; i < sizeof lens / sizeof *lens; i++) {
        struct slice m = { text, lens[i] };
        assert_int_equal(zset_add(set, (double)i, m, 0, NULL), ZSET_ADDED);
        assert_int_equal(set->enc, lens[i] <= 64 ? OBJ_ENC_LISTPACK : OBJ_ENC_SKIPLIST);
    }
    assert_true(zset_check(set));
    for (size_t i = 0; i < sizeof lens / sizeof *lens; i++) {
        assert_true(zset_score(set, (struct slice){ text, lens[i] }, &s) && s == (double)i);
        assert_true(zset_remove(set, (struct slice){ text, lens[i] }));
    }
    assert_int_equal(zset_len(set), 0);
}

static void count_seen(void *arg, const struct zset_item *item) {
    assert_true(item->member.len > 0);
    ++*(size_t *)arg;
}

static void test_zset_scan_sees_all(void **state) {
    (void)state;
    size_t seen = 0;
    churn(300, 10, 50);
    assert_int_equal(zset_scan(set, 0, count_seen, &seen), 0);
    assert_int_equal(seen, n_model);
    churn(3000, 100, 2000);
    assert_int_equal(set->enc, OBJ_ENC_SKIPLIST);
    uint64_t cursor = 0;
    seen = 0;
    do cursor = zset_scan(set, cursor, count_seen, &seen);
    while (cursor);
    assert_true(seen >= n_model);
}

static void test_zset_dup_is_equal_and_apart(void **state) {
    (void)state;
    for (int large = 0; large < 2; large++) {
        if (large) churn(3000, 100, 2000);
        add(1, "a");
        struct obj *copy = obj_dup(set), *original = set;
        assert_int_equal(copy->enc, set->enc);
        drop("a");
        add(1, "a");
        add(5, "a");
        set = copy;
        model_drop((size_t)(model_find("a") - model), 1);
        model_put(1, "a");
        compare();
        assert_true(obj_mem_usage(copy, 0) > 16 && obj_mem_usage(copy, 5) > 16);
        assert_true(obj_free_effort(copy) == (copy->enc == OBJ_ENC_LISTPACK ? 1 : n_model));
        obj_unref(original);
    }
}

static void compare_next(void *arg, const struct zset_item *item) {
    const struct pair *p = &model[(*(size_t *)arg)++];
    assert_true(item->score == p->score && slice_eq(item->member, slice_cstr(p->member)));
}

static void build(unsigned n) {
    struct zset_builder *b = zset_builder_new();
    obj_unref(set);
    n_model = 0;
    for (unsigned i = 0; i < n; i++) {
        char name[16];
        bool is_new;
        snprintf(name, sizeof name, "m%u", (unsigned)rand_below(n));
        double score = any_score(50), *at = zset_builder_at(b, slice_cstr(name), &is_new);
        struct pair *old = model_find(name);
        assert_int_equal(is_new, !old);
        assert_true(*at == (old ? old->score : 0));
        *at = score;
        if (old) model_drop((size_t)(old - model), 1);
        model_put(score, name);
        if (rand_below(5)) continue;
        assert_true(zset_builder_remove(b, slice_cstr(name)));
        model_drop((size_t)(model_find(name) - model), 1);
    }
    assert_false(zset_builder_remove(b, SLICE_LIT("absent")));
    assert_int_equal(zset_builder_len(b), n_model);
    size_t at = 0;
    zset_builder_each(b, compare_next, &at);
    assert_int_equal(at, n_model);
    set = zset_builder_finish(b);
    assert_int_equal(set->enc, n_model <= 128 ? OBJ_ENC_LISTPACK : OBJ_ENC_SKIPLIST);
    compare();
}

static void test_zset_builder_makes_what_was_given(void **state) {
    (void)state;
    build(0);
    build(3);
    build(100);
    build(2000);
    zset_builder_free(zset_builder_new());
    zset_builder_free(NULL);
}

/* Elements given as text; NULL ends. */
static struct obj *from_elements(const char *const *text) {
    unsigned char *lp = lp_new(0);
    for (; *text; text++) lp = lp_append(lp, slice_cstr(*text));
    return zset_from_listpack(lp);
}

static void test_zset_from_listpack_refuses_what_is_no_set(void **state) {
    (void)state;
    static const char *const bad[][7] = {
        { "a", NULL },                               /* no score */
        { "a", "1", "b", NULL },                     /* the same */
        { "a", "x", NULL },                          /* a score that is none */
        { "a", "nan", NULL },                        /* the same */
        { "a", "", NULL },                           /* the same */
        { "a", "2", "b", "1", NULL },                /* scores not in order */
        { "b", "1", "a", "1", NULL },                /* members not in order */
        { "a", "1", "a", "1", NULL },                /* twice */
        { "a", "1", "b", "2", "a", "3", NULL },      /* twice, apart */
        { "a", "inf", "b", "-inf", "c", "0", NULL }, /* not in order */
    };
    static const char *const good[][9] = { { NULL },
                                           { "a", "1", NULL },
                                           { "a", "-inf", "b", "-2.5", "10", "0", "c", "inf", NULL },
                                           { "", "1", "1", "1", "11", "1", NULL } };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) assert_null(from_elements(bad[i]));
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        struct obj *o = from_elements(good[i]);
        assert_non_null(o);
        assert_true(zset_check(o) && zset_listpack(o));
        obj_unref(o);
    }
}

static void test_zset_from_listpack_beyond_limits_is_converted(void **state) {
    (void)state;
    for (int twice = 0; twice < 2; twice++) {
        unsigned char *lp = lp_new(0);
        for (int i = 0; i < 200; i++) {
            lp = lp_append_int(lp, twice && i == 150 ? 20 : i);
            lp = lp_append_int(lp, i);
        }
        struct obj *o = zset_from_listpack(lp);
        assert_int_equal(o == NULL, twice);
        if (!o) continue;
        assert_int_equal(o->enc, OBJ_ENC_SKIPLIST);
        assert_null(zset_listpack(o));
        assert_true(zset_check(o) && zset_len(o) == 200);
        obj_unref(o);
    }
}

static void test_zset_expect_converts_ahead(void **state) {
    (void)state;
    zset_expect(set, 128);
    assert_int_equal(set->enc, OBJ_ENC_LISTPACK);
    zset_expect(set, 129);
    assert_int_equal(set->enc, OBJ_ENC_SKIPLIST);
    churn(500, 20, 100);
}

int main(void) {
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_zset_small_churn_matches_model),
        T(test_zset_grows_over_limit_becomes_tree),
        T(test_zset_large_churn_matches_model),
        T(test_zset_large_churn_few_scores_matches_model),
        T(test_zset_emptied_and_filled_again),
        T(test_zset_ordered_input_fills_leaves),
        T(test_ztree_deep_churn_stays_valid),
        T(test_ztree_load_any_size_is_valid),
        T(test_zset_flags),
        T(test_zset_lex_ranges),
        T(test_zset_long_members),
        T(test_zset_scan_sees_all),
        T(test_zset_dup_is_equal_and_apart),
        T(test_zset_builder_makes_what_was_given),
        T(test_zset_from_listpack_refuses_what_is_no_set),
        T(test_zset_from_listpack_beyond_limits_is_converted),
        T(test_zset_expect_converts_ahead),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
