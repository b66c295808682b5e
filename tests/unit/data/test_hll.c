/* HyperLogLogs: both encodings against an array of registers, estimates against the truth, strings that are not what they say. */
#include "data_test.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "data/hll_priv.h"
#include "data/limits.h"

static struct slice number(uint64_t *n) {
    return (struct slice){ (const char *)n, sizeof(*n) };
}

static void assert_registers(const struct obj *o, const uint8_t *want) {
    uint8_t got[HLL_REGISTERS] = { 0 };
    assert_int_equal(hll_merge_into(got, o), 0);
    assert_memory_equal(got, want, HLL_REGISTERS);
}

static void test_hll_empty_one_is_one_run(void **state) {
    (void)state;
    struct obj *o = hll_new();
    uint64_t n = 7;
    assert_int_equal(obj_string_len(o), 18);
    assert_memory_equal(o->u.raw.data, "HYLL\1\0\0\0\0\0\0\0\0\0\0\0\x7f\xff", 18);
    assert_true(hll_is_one(o));
    assert_false(hll_is_dense(o));
    assert_true(hll_kept_estimate(o, &n));
    assert_int_equal(n, 0);
    assert_int_equal(hll_estimate(o, &n), 0);
    assert_int_equal(n, 0);
    obj_unref(o);
}

/* What redis-server 7.0 keeps after PFADD h a b c. */
static void test_hll_bytes_are_those_of_redis(void **state) {
    (void)state;
    static const char want[] = "HYLL\1\0\0\0\0\0\0\0\0\0\0\x80\x60\xf3\x80\x50\xb1\x84\x4b\xfb\x80\x42\x5a";
    struct obj *o = hll_new();
    uint64_t n;
    assert_int_equal(hll_add(&o, SLICE_LIT("a")), 1);
    assert_int_equal(hll_add(&o, SLICE_LIT("b")), 1);
    assert_int_equal(hll_add(&o, SLICE_LIT("c")), 1);
    assert_int_equal(hll_add(&o, SLICE_LIT("a")), 0);
    assert_int_equal(obj_string_len(o), sizeof(want) - 1);
    assert_memory_equal(o->u.raw.data, want, sizeof(want) - 1);
    assert_false(hll_kept_estimate(o, &n));
    assert_int_equal(hll_estimate(o, &n), 0);
    assert_int_equal(n, 3);
    hll_keep_estimate(&o, n);
    assert_true(hll_kept_estimate(o, &n));
    assert_int_equal(n, 3);
    hll_forget_estimate(&o);
    assert_false(hll_kept_estimate(o, &n));
    obj_unref(o);
}

static void test_hll_encodings_hold_the_same_registers(void **state) {
    (void)state;
    srand(1);
    atomic_store(&data_limits.hll_sparse_max_bytes, 20000);
    for (unsigned max = 1; max <= 51; max += 10) {
        uint8_t want[HLL_REGISTERS] = { 0 };
        struct obj *o = hll_new(), *one = hll_new(), *dense = hll_new();
        assert_int_equal(hll_to_dense(&dense), 0);
        for (unsigned round = 0; round < 60; round++) {
            for (unsigned k = 0; k <= round; k++) {
                unsigned at = (unsigned)rand() % (round % 2 ? 200 : HLL_REGISTERS), value = 1 + (unsigned)rand() % max;
                if (want[at] < value) want[at] = (uint8_t)value;
                struct hll_cursor cur = { 0, 0 };
                int r = hll_is_dense(one) ? -E2BIG : hll_sparse_raise(&one, &cur, at, (uint8_t)value);
                if (r == -E2BIG) assert_int_equal(hll_raise(&one, want), 0);
            }
            assert_int_equal(hll_raise(&o, want), 0);
            assert_int_equal(hll_raise(&dense, want), 0);
            assert_registers(o, want);
            assert_registers(one, want);
            assert_registers(dense, want);
            uint64_t a, b;
            assert_int_equal(hll_estimate(o, &a), 0);
            assert_int_equal(hll_estimate(dense, &b), 0);
            assert_int_equal(a, b);
            assert_int_equal(a, hll_estimate_of(want));
        }
        assert_int_equal(hll_is_dense(o), max > 32);
        obj_unref(o);
        obj_unref(one);
        obj_unref(dense);
    }
    atomic_store(&data_limits.hll_sparse_max_bytes, 3000);
}

static void test_hll_estimates_are_within_their_error(void **state) {
    (void)state;
    struct obj *o = hll_new();
    double worst = 0;
    for (uint64_t n = 1, next = 1, got; n <= 300000; n++) {
        assert_true(hll_add(&o, number(&n)) >= 0);
        if (n != next) continue;
        next += 1 + next / 7;
        assert_int_equal(hll_estimate(o, &got), 0);
        double off = fabs((double)got - (double)n) / (double)n;
        if (n >= 1000 && off > worst) worst = off;
        assert_true(fabs((double)got - (double)n) <= ceil(0.04 * (double)n));
    }
    assert_true(worst < 0.04);
    assert_true(hll_is_dense(o));
    assert_int_equal(obj_string_len(o), 12304);
    obj_unref(o);
}

static void test_hll_becomes_dense_at_the_limit(void **state) {
    (void)state;
    atomic_store(&data_limits.hll_sparse_max_bytes, 100);
    struct obj *o = hll_new();
    uint64_t n = 0, a, b;
    while (!hll_is_dense(o)) {
        assert_true(obj_string_len(o) <= 100);
        n++;
        assert_true(hll_add(&o, number(&n)) >= 0);
    }
    assert_in_range(n, 20, 50);
    atomic_store(&data_limits.hll_sparse_max_bytes, 3000);
    struct obj *sparse = hll_new();
    for (uint64_t i = 1; i <= n; i++) hll_add(&sparse, number(&i));
    assert_false(hll_is_dense(sparse));
    assert_int_equal(hll_estimate(o, &a), 0);
    assert_int_equal(hll_estimate(sparse, &b), 0);
    assert_int_equal(a, b);
    obj_unref(o);
    obj_unref(sparse);
}

static void test_hll_what_is_no_hyperloglog(void **state) {
    (void)state;
    static const struct {
        const char *text;
        size_t len;
        bool is_one;
    } cases[] = {
        { "", 0, false },
        { "12345", 5, false },
        { "HYLL\1\0\0\0\0\0\0\0\0\0\0", 15, false },
        { "HYLL\1\0\0\0\0\0\0\0\0\0\0\0", 16, true },
        { "HYLL\2\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 18, false },
        { "HYLL\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 18, false },
        { "HYLM\1\0\0\0\0\0\0\0\0\0\0\0\x7f\xff", 18, false },
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        struct obj *o = obj_string_new(cases[i].text, cases[i].len);
        assert_int_equal(hll_is_one(o), cases[i].is_one);
        obj_unref(o);
    }
}

static void test_hll_corrupted_runs_are_refused(void **state) {
    (void)state;
    static const char *const runs[] = {
        "",                     /* no registers */
        "\x7f\xfe",             /* one too few */
        "\x7f\xff\x80",         /* one too many */
        "\x80\x7f\xff",         /* the same, in the last */
        "\x7f",                 /* cut off */
        "\x7f\xff\x40",         /* cut off behind the end */
        "\x7f\xff\x7f\xff\x81", /* twice */
    };
    for (size_t i = 0; i < sizeof(runs) / sizeof(*runs); i++) {
        char text[64] = "HYLL\1";
        uint64_t n;
        uint8_t regs[HLL_REGISTERS] = { 0 };
        memcpy(text + 16, runs[i], strlen(runs[i]));
        struct obj *o = obj_string_new(text, 16 + strlen(runs[i]));
        assert_true(hll_is_one(o));
        assert_int_equal(hll_estimate(o, &n), -EINVAL);
        assert_int_equal(hll_merge_into(regs, o), -EINVAL);
        assert_int_equal(hll_to_dense(&o), -EINVAL);
        struct hll_cursor cur = { 0, 0 };
        obj_string_own(&o, 0);
        int r = hll_sparse_raise(&o, &cur, HLL_REGISTERS - 1, 3);
        assert_true(r == -EINVAL || r == 1);
        obj_unref(o);
    }
    /* Registers that no hash gives: there is an estimate, and it is out of every range. */
    struct obj *o = obj_string_new_raw(12304);
    uint64_t n;
    memcpy(o->u.raw.data, "HYLL", 4);
    memset(o->u.raw.data + 16, 0xff, 12288);
    assert_int_equal(hll_estimate(o, &n), 0);
    assert_true(n == 1ULL << 63);
    obj_unref(o);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hll_empty_one_is_one_run),
        cmocka_unit_test(test_hll_bytes_are_those_of_redis),
        cmocka_unit_test(test_hll_encodings_hold_the_same_registers),
        cmocka_unit_test(test_hll_estimates_are_within_their_error),
        cmocka_unit_test(test_hll_becomes_dense_at_the_limit),
        cmocka_unit_test(test_hll_what_is_no_hyperloglog),
        cmocka_unit_test(test_hll_corrupted_runs_are_refused),
    };
    return cmocka_run_group_tests_name("hll", tests, seed_hash, NULL);
}
