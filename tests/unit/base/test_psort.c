/* The partial sort: the wanted part is what sorting everything gives, for every size, range and kind of input. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <setjmp.h>
#include <cmocka.h>

#include "base/alloc.h"
#include "base/psort.h"
#include "base/rand.h"

struct item {
    int key;
    char pad[70]; /* larger than what is swapped at a time */
};

static long n_compared;

static int item_cmp(const void *a, const void *b) {
    const struct item *x = a, *y = b;
    n_compared++;
    return (x->key > y->key) - (x->key < y->key);
}

enum kind { RANDOM, FEW_KEYS, UP, DOWN, EQUAL, ORGAN_PIPE, N_KINDS };

static void fill(struct item *items, size_t n, enum kind kind) {
    for (size_t i = 0; i < n; i++) {
        int at = (int)i;
        int keys[N_KINDS] = { (int)rand_below(1000000), (int)rand_below(4), at, -at, 7, at < (int)n / 2 ? at : (int)n - at };
        items[i].key = keys[kind];
        memset(items[i].pad, keys[kind] & 0x7f, sizeof items[i].pad);
    }
}

static void check(size_t n, enum kind kind, size_t from, size_t to) {
    struct item *got = mem_calloc(n, sizeof(*got)), *want = mem_calloc(n, sizeof(*want));
    fill(got, n, kind);
    memcpy(want, got, n * sizeof(*got));
    psort(got, n, sizeof(*got), item_cmp, from, to);
    qsort(want, n, sizeof(*want), item_cmp);
    assert_memory_equal(&got[from], &want[from], (to - from + 1) * sizeof(*got));
    psort(got, n, sizeof(*got), item_cmp, 0, n - 1); /* nothing was lost */
    assert_memory_equal(got, want, n * sizeof(*got));
    mem_free(got);
    mem_free(want);
}

static void test_psort_any_range_is_sorted(void **state) {
    (void)state;
    static const size_t sizes[] = { 1, 2, 6, 7, 8, 39, 40, 41, 100, 3000 };
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++)
        for (int kind = 0; kind < N_KINDS; kind++)
            for (int round = 0; round < 8; round++) {
                size_t from = rand_below(sizes[s]), to = from + rand_below(sizes[s] - from);
                check(sizes[s], (enum kind)kind, round ? from : 0, to);
            }
}

/* The order of equal elements is part of the contract: this is what redis-server makes of GEOSEARCH ... COUNT 4 where places at
 * three distances take turns, the nearest coming first, last, or in the middle. */
static void test_psort_equal_elements_come_out_in_a_fixed_order(void **state) {
    (void)state;
    static const struct {
        int keys[12], expected[4];
    } cases[] = {
        { { 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2 }, { 1, 2, 0, 3 } },
        { { 0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1, 2 }, { 0, 3, 6, 9 } },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct {
            int key, id;
        } items[12];
        for (int k = 0; k < 12; k++) {
            items[k].key = cases[i].keys[k];
            items[k].id = k;
        }
        psort(items, 12, sizeof items[0], item_cmp, 0, 3);
        for (int k = 0; k < 4; k++) assert_int_equal(items[k].id, cases[i].expected[k]);
    }
}

/* McIlroy's antagonist: an input that is made up while it is sorted, against every choice of pivots. */
static int killer_values[20000], killer_gas, killer_solid, killer_candidate;

static int killer_cmp(const void *a, const void *b) {
    int x = *(const int *)a, y = *(const int *)b;
    n_compared++;
    if (killer_values[x] == killer_gas && killer_values[y] == killer_gas)
        killer_values[x == killer_candidate ? x : y] = killer_solid++;
    if (killer_values[x] == killer_gas)
        killer_candidate = x;
    else if (killer_values[y] == killer_gas)
        killer_candidate = y;
    return (killer_values[x] > killer_values[y]) - (killer_values[x] < killer_values[y]);
}

static void test_psort_no_input_is_quadratic(void **state) {
    (void)state;
    enum { N = 20000 };
    int *ids = mem_calloc(N, sizeof(*ids));
    killer_gas = N;
    killer_solid = 0;
    killer_candidate = 0;
    for (int i = 0; i < N; i++) {
        ids[i] = i;
        killer_values[i] = killer_gas;
    }
    n_compared = 0;
    psort(ids, N, sizeof(*ids), killer_cmp, 0, N - 1);
    assert_true(n_compared < 100L * N);
    mem_free(ids);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_psort_any_range_is_sorted),
        cmocka_unit_test(test_psort_equal_elements_come_out_in_a_fixed_order),
        cmocka_unit_test(test_psort_no_input_is_quadratic),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
