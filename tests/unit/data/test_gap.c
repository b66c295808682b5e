/* The array with room at both ends, against a plain one. */
#include "data_test.h"

#include <stdlib.h>
#include <string.h>

#include "data/gap.h"

static void assert_same(const struct gap *g, const uint64_t *want, uint32_t n) {
    assert_int_equal(g->n, n);
    assert_true(g->first + g->n <= g->cap);
    for (uint32_t i = 0; i < n; i++) assert_int_equal(gap_at(g, i)->count, want[i]);
}

static void test_gap_random_changes_match_an_array(void **state) {
    (void)state;
    static uint64_t want[4096];
    uint32_t n = 0;
    struct gap g = { 0 };
    srand(1);
    for (unsigned step = 0; step < 60000; step++) {
        bool growing = step / 3000 % 2 == 0;
        uint32_t at = rand() % 3 == 0 ? 0 : rand() % 2 ? n : (uint32_t)rand() % (n + 1);
        if (n == 0 || (n < 4000 && rand() % 10 < (growing ? 7 : 3))) {
            gap_insert(&g, at, (struct gap_slot){ .count = step });
            memmove(want + at + 1, want + at, (n - at) * sizeof(*want));
            want[at] = step;
            n++;
        } else {
            uint32_t k = 1 + (uint32_t)rand() % (rand() % 20 ? 2 : n);
            if (at >= n) at = n - 1;
            if (k > n - at) k = n - at;
            gap_remove(&g, at, k);
            memmove(want + at, want + at + k, (n - at - k) * sizeof(*want));
            n -= k;
        }
        if (step % 50 == 0) assert_same(&g, want, n);
        if (step % 500 == 0 && n > 2) {
            struct gap tail = { 0 };
            gap_split(&g, n / 3, &tail);
            assert_same(&g, want, n / 3);
            assert_same(&tail, want + n / 3, n - n / 3);
            gap_join(&g, &tail);
            assert_int_equal(tail.n, 0);
            assert_same(&g, want, n);
        }
    }
    gap_done(&g);
    assert_null(g.slots);
}

/* A queue, filled at one end and emptied at the other, stays in a few slots. */
static void test_gap_queue_does_not_grow(void **state) {
    (void)state;
    struct gap g = { 0 };
    for (unsigned i = 0; i < 3; i++) gap_insert(&g, 0, (struct gap_slot){ .count = i });
    for (unsigned i = 3; i < 1000; i++) {
        gap_insert(&g, 0, (struct gap_slot){ .count = i });
        assert_int_equal(gap_at(&g, g.n - 1)->count, i - 3);
        gap_remove(&g, g.n - 1, 1);
        assert_true(g.cap <= 8);
    }
    for (unsigned i = 1000; i < 2000; i++) {
        gap_insert(&g, g.n, (struct gap_slot){ .count = i });
        gap_remove(&g, 0, 1);
        assert_true(g.cap <= 8);
    }
    gap_done(&g);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gap_random_changes_match_an_array),
        cmocka_unit_test(test_gap_queue_does_not_grow),
    };
    return cmocka_run_group_tests_name("gap", tests, NULL, NULL);
}
