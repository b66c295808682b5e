/* Text and numbers: limits, refusals, shortest forms, sizes. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/rand.h"
#include "base/str.h"

#define COUNT(a) (sizeof(a) / sizeof *(a))

/* ---- integers ---- */

static void test_str_to_ll_canonical_forms_are_read(void **state) {
    (void)state;
    static const struct {
        const char *text;
        int64_t want;
    } cases[] = {
        { "0", 0 },
        { "1", 1 },
        { "-1", -1 },
        { "9", 9 },
        { "10", 10 },
        { "-10", -10 },
        { "1234567890", 1234567890 },
        { "9223372036854775807", INT64_MAX },
        { "-9223372036854775808", INT64_MIN },
        { "9223372036854775799", INT64_MAX - 8 },
        { "-9223372036854775807", -INT64_MAX },
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        int64_t v = 77;
        assert_true(str_to_ll(slice_cstr(cases[i].text), &v));
        assert_true(v == cases[i].want);
    }
}

static void test_str_to_ll_anything_else_is_refused_and_leaves_result(void **state) {
    (void)state;
    static const struct slice cases[] = {
        SLICE_LIT(""),
        SLICE_LIT("-"),
        SLICE_LIT("+1"),
        SLICE_LIT("+0"),
        SLICE_LIT("-0"),
        SLICE_LIT("00"),
        SLICE_LIT("01"),
        SLICE_LIT("-01"),
        SLICE_LIT(" 1"),
        SLICE_LIT("1 "),
        SLICE_LIT("1\n"),
        SLICE_LIT("1\0"),
        SLICE_LIT("\0"),
        SLICE_LIT("--1"),
        SLICE_LIT("1-"),
        SLICE_LIT("1.0"),
        SLICE_LIT("1e3"),
        SLICE_LIT("0x10"),
        SLICE_LIT("a"),
        SLICE_LIT("1a"),
        SLICE_LIT("/"),
        SLICE_LIT(":"),
        SLICE_LIT("1\xb1"),
        SLICE_LIT("9223372036854775808"),
        SLICE_LIT("-9223372036854775809"),
        SLICE_LIT("18446744073709551615"),
        SLICE_LIT("18446744073709551616"),
        SLICE_LIT("-18446744073709551615"),
        SLICE_LIT("99999999999999999999"),
        SLICE_LIT("100000000000000000000"),
        SLICE_LIT("-100000000000000000000"),
        SLICE_LIT("000000000000000000000000000001"),
        { NULL, 0 },
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        int64_t v = 77;
        assert_false(str_to_ll(cases[i], &v));
        assert_int_equal(v, 77);
    }
}

static void test_str_to_ull_limits_are_exact(void **state) {
    (void)state;
    uint64_t v = 77;
    assert_false(str_to_ull(SLICE_LIT("18446744073709551616"), &v));
    assert_false(str_to_ull(SLICE_LIT("18446744073709551620"), &v));
    assert_false(str_to_ull(SLICE_LIT("-1"), &v));
    assert_false(str_to_ull(SLICE_LIT(""), &v));
    assert_false(str_to_ull(SLICE_LIT("007"), &v));
    assert_int_equal(v, 77);
    assert_true(str_to_ull(SLICE_LIT("18446744073709551615"), &v) && v == UINT64_MAX);
    assert_true(str_to_ull(SLICE_LIT("9223372036854775808"), &v) && v == 1ULL << 63);
    assert_true(str_to_ull(SLICE_LIT("0"), &v) && v == 0);
}

static void assert_ll_round_trip(int64_t v) {
    char got[STR_LL_MAX], want[32];
    int64_t back;
    size_t n = str_from_ll(got, v);
    snprintf(want, sizeof want, "%" PRId64, v);
    assert_string_equal(got, want);
    assert_int_equal(n, strlen(want));
    assert_true(str_to_ll((struct slice){ got, n }, &back));
    assert_true(back == v);
}

static void test_str_from_ll_round_trips_at_every_magnitude(void **state) {
    (void)state;
    for (int bit = 0; bit < 64; bit++)
        for (int off = -2; off <= 2; off++) assert_ll_round_trip((int64_t)((1ULL << bit) + (uint64_t)off));
    for (uint64_t p = 1; p <= 1000000000000000000ULL; p *= 10)
        for (int off = -1; off <= 1; off++) {
            assert_ll_round_trip((int64_t)p + off);
            assert_ll_round_trip(-(int64_t)p + off);
        }
    for (int i = 0; i < 20000; i++) assert_ll_round_trip((int64_t)(rand_u64() >> rand_below(64)) * (i & 1 ? 1 : -1));
}

static void test_str_from_ull_limits_fit(void **state) {
    (void)state;
    char buf[STR_LL_MAX];
    assert_int_equal(str_from_ull(buf, UINT64_MAX), 20);
    assert_string_equal(buf, "18446744073709551615");
    assert_int_equal(str_from_ull(buf, 0), 1);
    assert_string_equal(buf, "0");
    assert_int_equal(str_from_ll(buf, INT64_MIN), 20);
    assert_string_equal(buf, "-9223372036854775808");
}

/* ---- floating point ---- */

static void test_str_to_double_accepted_forms_are_read(void **state) {
    (void)state;
    static const struct {
        const char *text;
        double want;
    } cases[] = {
        { "0", 0 },
        { "1", 1 },
        { "-1.5", -1.5 },
        { "+2", 2 },
        { ".5", .5 },
        { "5.", 5 },
        { "007", 7 },
        { "1e3", 1000 },
        { "1E-3", .001 },
        { "0x10", 16 },
        { "inf", HUGE_VAL },
        { "+inf", HUGE_VAL },
        { "-inf", -HUGE_VAL },
        { "Infinity", HUGE_VAL },
        { "-INFINITY", -HUGE_VAL },
        { "1.7976931348623157e308", DBL_MAX },
        { "2.2250738585072014e-308", DBL_MIN },
        { "5e-324", 0x1p-1074 },
        { "1e-310", 1e-310 },
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        double v = 77;
        long double lv = 77;
        assert_true(str_to_double(slice_cstr(cases[i].text), &v));
        assert_true(v == cases[i].want);
        assert_true(str_to_long_double(slice_cstr(cases[i].text), &lv));
        assert_true((double)lv == cases[i].want);
    }
}

static void test_str_to_double_anything_else_is_refused_and_leaves_result(void **state) {
    (void)state;
    static const struct slice cases[] = {
        SLICE_LIT(""),
        SLICE_LIT(" 1"),
        SLICE_LIT("\t1"),
        SLICE_LIT("\n1"),
        SLICE_LIT("1 "),
        SLICE_LIT("1\n"),
        SLICE_LIT("1\0"),
        SLICE_LIT("\0"
                  "1"),
        SLICE_LIT("1\0"
                  "2"),
        SLICE_LIT("nan"),
        SLICE_LIT("-nan"),
        SLICE_LIT("NaN(1)"),
        SLICE_LIT("abc"),
        SLICE_LIT("1x"),
        SLICE_LIT("1e"),
        SLICE_LIT("--1"),
        SLICE_LIT("."),
        SLICE_LIT("-"),
        SLICE_LIT("1,5"),
        SLICE_LIT("infx"),
        SLICE_LIT("1e5000"),
        SLICE_LIT("-1e5000"),
        SLICE_LIT("1e-5000"),
        { NULL, 0 },
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        double v = 77;
        long double lv = 77;
        assert_false(str_to_double(cases[i], &v));
        assert_false(str_to_long_double(cases[i], &lv));
        assert_true(v == 77 && lv == 77);
    }
    double v = 77;
    assert_false(str_to_double(SLICE_LIT("1e309"), &v));
    assert_false(str_to_double(SLICE_LIT("1e-400"), &v));
    assert_true(v == 77);
}

static void test_str_to_double_long_text_is_read_up_to_the_limit(void **state) {
    (void)state;
    static char text[STR_DOUBLE_MAX + 10];
    double v;
    long double lv;
    memset(text, '0', sizeof text);
    text[1] = '.';
    text[STR_DOUBLE_MAX - 2] = '1';
    text[0] = '7';
    assert_true(str_to_double((struct slice){ text, STR_DOUBLE_MAX - 1 }, &v) && v == 7);
    assert_true(str_to_long_double((struct slice){ text, STR_DOUBLE_MAX - 1 }, &lv) && lv == 7);
    assert_false(str_to_double((struct slice){ text, STR_DOUBLE_MAX + 5 }, &v));
}

static void test_str_to_double_does_not_read_past_the_slice(void **state) {
    (void)state;
    double v;
    assert_true(str_to_double((struct slice){ "123456", 3 }, &v) && v == 123);
    assert_true(str_to_double((struct slice){ "1e99", 1 }, &v) && v == 1);
}

static void assert_double_text(double v, const char *want) {
    char buf[64];
    size_t n = str_from_double(buf, v);
    assert_string_equal(buf, want);
    assert_int_equal(n, strlen(want));
}

static void test_str_from_double_known_values_have_shortest_form(void **state) {
    (void)state;
    static const struct {
        double v;
        const char *want;
    } cases[] = {
        { 0, "0" },
        { -0.0, "-0" },
        { 3, "3" },
        { -3, "-3" },
        { 3.1, "3.1" },
        { 0.1, "0.1" },
        { 0.1 + 0.2, "0.30000000000000004" },
        { 1.0 / 3, "0.3333333333333333" },
        { 2.0 / 3, "0.6666666666666666" },
        { 1e20, "1e+20" },
        { 1e16, "10000000000000000" },
        { 9007199254740992.0, "9007199254740992" },
        { -9007199254740993.0, "-9007199254740992" },
        { 123456.789, "123456.789" },
        { DBL_MAX, "1.7976931348623157e+308" },
        { DBL_MIN, "2.2250738585072014e-308" },
        { DBL_EPSILON, "2.220446049250313e-16" },
        { 17.25, "17.25" },
        { 1e-7, "1e-7" },
        { 1e-6, "0.000001" },
        { 0.00001234, "1.234e-5" },
        { 0.000000012, "1.2e-8" },
        { 1.5e300, "1.5e+300" },
        { 1e19, "1e+19" },
        { -1e19, "-1e+19" },
        { 0.0001234567890123, "1.234567890123e-4" },
        { 0.001234567890123, "0.001234567890123" },
        { 0.00001, "0.00001" },
        { 0x1p62, "4611686018427387904" },
        { 1.2345678901234567e23, "123456789012345670000000" },
        { 99999999999999.9, "99999999999999.9" },
        { 123456789012.000001, "123456789012" },
        { HUGE_VAL, "inf" },
        { -HUGE_VAL, "-inf" },
        { NAN, "nan" },
    };
    for (size_t i = 0; i < COUNT(cases); i++) assert_double_text(cases[i].v, cases[i].want);
}

static void test_str_from_double_subnormal_has_shortest_form(void **state) {
    (void)state;
    assert_double_text(0x1p-1074, "5e-324");
    assert_double_text(-0x1p-1074, "-5e-324");
    assert_double_text(0x1p-1073, "1e-323");
    assert_double_text(1e-310, "1e-310");
    assert_double_text(1.5e-320, "1.5e-320");
    assert_double_text(0x0.fffffffffffffp-1022, "2.225073858507201e-308");
}

/* Doubles below a power of two lie closer than above it: the nearest 16 digits do not read back, others do. */
static void test_str_from_double_power_of_two_has_shortest_form(void **state) {
    (void)state;
    assert_double_text(0x1p-44, "5.684341886080802e-14");
    assert_double_text(-0x1p-44, "-5.684341886080802e-14");
    assert_double_text(0x1p-24, "5.960464477539063e-8");
    assert_double_text(0x1p89, "6.189700196426902e+26");
    assert_double_text(0x1p976, "6.386688990511104e+293");
    assert_double_text(0x1p-1017, "7.120236347223045e-307");
    assert_double_text(0x1p-1, "0.5");
    assert_double_text(0x1p-1022, "2.2250738585072014e-308");
    assert_double_text(0x1p60, "1152921504606846976");
}

static int significant_digits(const char *text) {
    int n = 0, zeros = 0;
    for (; *text && *text != 'e'; text++) {
        if (*text < '0' || *text > '9' || (n == 0 && *text == '0')) continue;
        if (*text == '0') {
            zeros++;
        } else {
            n += zeros + 1;
            zeros = 0;
        }
    }
    return n;
}

/* Redis's digits, which are not the fewest where its 64-bit arithmetic cannot tell. */
static void test_str_from_double_has_redis_digits(void **state) {
    (void)state;
    assert_double_text(2.7e22, "27000000000000002000000");
    assert_double_text(9.80737903043842e-309, "9.807379030438422e-309");
    assert_double_text(5e-324, "5e-324");
    assert_double_text(1e23, "99999999999999990000000");
}

/* Reads back, and with a digit less it would not. False: it would. */
static bool is_shortest(double v) {
    if (fabs(v) > 0x1p53 && fabs(v) <= 0x1p62) return true; /* all digits are shown, as of an integer */
    char buf[64], fewer[64];
    size_t n = str_from_double(buf, v);
    assert_int_equal(n, strlen(buf));
    assert_true(n < 32);
    assert_true(strtod(buf, NULL) == v);
    for (int d = significant_digits(buf) - 1; d > 0; d--) {
        snprintf(fewer, sizeof fewer, "%.*e", d - 1, v);
        if (strtod(fewer, NULL) == v) return false;
    }
    return true;
}

static void test_str_from_double_random_values_read_back_and_are_mostly_shortest(void **state) {
    (void)state;
    int longer = 0;
    for (int i = 0; i < 20000; i++) {
        uint64_t bits = rand_u64();
        double v;
        if (i % 4 == 0) bits &= 0x800fffffffffffffULL; /* subnormal */
        memcpy(&v, &bits, sizeof v);
        if (isfinite(v) && v != 0) longer += !is_shortest(v);
        v = (double)(int64_t)rand_below(100000000) / 1000;
        if (v != 0) longer += !is_shortest(v);
        v = (double)(int64_t)(rand_u64() >> rand_below(64));
        if (v != 0) longer += !is_shortest(-v);
    }
    for (int e = -1074; e < 1024; e++) longer += !is_shortest(ldexp(1, e));
    assert_in_range(longer, 0, 300);
}

static void test_str_from_long_double_human_cuts_zeros(void **state) {
    (void)state;
    static const struct {
        long double v;
        const char *want;
    } cases[] = {
        { 0, "0" },
        { -0.0L, "0" },
        { 3, "3" },
        { 100, "100" },
        { -100, "-100" },
        { 3.5L, "3.5" },
        { 10.6L, "10.6" },
        { 5000, "5000" },
        { 1e-17L, "0.00000000000000001" },
        { 1e-18L, "0" },
        { -1e-18L, "0" },
        { -0.25L, "-0.25" },
        { 1e20L, "100000000000000000000" },
        { HUGE_VALL, "inf" },
        { -HUGE_VALL, "-inf" },
    };
    char buf[STR_DOUBLE_MAX];
    for (size_t i = 0; i < COUNT(cases); i++) {
        size_t n = str_from_long_double_human(buf, sizeof buf, cases[i].v);
        assert_string_equal(buf, cases[i].want);
        assert_int_equal(n, strlen(buf));
    }
    size_t n = str_from_long_double_human(buf, sizeof buf, -LDBL_MAX);
    assert_true(n > 300 && n == strlen(buf) && strspn(buf + 1, "0123456789") == n - 1);
    assert_int_equal(str_from_long_double_human(buf, 4, 12345), 0);
}

/* ---- sizes ---- */

static void test_str_to_mem_units_are_redis_ones(void **state) {
    (void)state;
    static const struct {
        const char *text;
        uint64_t want;
    } cases[] = {
        { "0", 0 },
        { "1", 1 },
        { "1b", 1 },
        { "1B", 1 },
        { "1k", 1000 },
        { "1K", 1000 },
        { "1kb", 1024 },
        { "1KB", 1024 },
        { "1Kb", 1024 },
        { "2m", 2000000 },
        { "2mb", 2 << 20 },
        { "3g", 3000000000ULL },
        { "3gb", 3ULL << 30 },
        { "3GB", 3ULL << 30 },
        { "0gb", 0 },
        { "007k", 7000 },
        { "18446744073709551615", UINT64_MAX },
        { "17179869183gb", 17179869183ULL << 30 },
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        bool err = true;
        assert_true(str_to_mem(cases[i].text, &err) == cases[i].want);
        assert_false(err);
        assert_true(str_to_mem(cases[i].text, NULL) == cases[i].want);
    }
}

static void test_str_to_mem_malformed_or_too_large_is_an_error(void **state) {
    (void)state;
    static const char *const cases[] = { "-1",
                                         "-",
                                         "-1kb",
                                         "1-",
                                         "1-2",
                                         "1 kb",
                                         " 1",
                                         "1kb ",
                                         "1tb",
                                         "1kbb",
                                         "1.5gb",
                                         "5%",
                                         "0x10",
                                         "+1",
                                         "1\xff",
                                         "18446744073709551616",
                                         "18446744073709551615k",
                                         "17179869184gb",
                                         "99999999999999999999999999999999999999999999999999" };
    for (size_t i = 0; i < COUNT(cases); i++) {
        bool err = false;
        assert_true(str_to_mem(cases[i], &err) == 0);
        assert_true(err);
        assert_true(str_to_mem(cases[i], NULL) == 0);
    }
}

static void test_str_from_bytes_human_picks_the_unit(void **state) {
    (void)state;
    static const struct {
        uint64_t n;
        const char *want;
    } cases[] = {
        { 0, "0B" },
        { 1, "1B" },
        { 1023, "1023B" },
        { 1024, "1.00K" },
        { 1536, "1.50K" },
        { 1572864, "1.50M" },
        { 1ULL << 30, "1.00G" },
        { 5ULL << 40, "5.00T" },
        { 7ULL << 50, "7.00P" },
        { 1048575, "1024.00K" },
        { 1048576, "1.00M" },
        { 1010101, "986.43K" },
        { (1ULL << 60) - 1, "1024.00P" },
        { 1ULL << 60, "1152921504606846976B" },
        { UINT64_MAX, "18446744073709551615B" },
    };
    char buf[64];
    for (size_t i = 0; i < COUNT(cases); i++) {
        str_from_bytes_human(buf, sizeof buf, cases[i].n);
        assert_string_equal(buf, cases[i].want);
    }
    memset(buf, '!', sizeof buf);
    str_from_bytes_human(buf, 4, 1572864);
    assert_memory_equal(buf, "1.5\0!", 5);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_str_to_ll_canonical_forms_are_read),
        cmocka_unit_test(test_str_to_ll_anything_else_is_refused_and_leaves_result),
        cmocka_unit_test(test_str_to_ull_limits_are_exact),
        cmocka_unit_test(test_str_from_ll_round_trips_at_every_magnitude),
        cmocka_unit_test(test_str_from_ull_limits_fit),
        cmocka_unit_test(test_str_to_double_accepted_forms_are_read),
        cmocka_unit_test(test_str_to_double_anything_else_is_refused_and_leaves_result),
        cmocka_unit_test(test_str_to_double_long_text_is_read_up_to_the_limit),
        cmocka_unit_test(test_str_to_double_does_not_read_past_the_slice),
        cmocka_unit_test(test_str_from_double_known_values_have_shortest_form),
        cmocka_unit_test(test_str_from_double_subnormal_has_shortest_form),
        cmocka_unit_test(test_str_from_double_power_of_two_has_shortest_form),
        cmocka_unit_test(test_str_from_double_has_redis_digits),
        cmocka_unit_test(test_str_from_double_random_values_read_back_and_are_mostly_shortest),
        cmocka_unit_test(test_str_from_long_double_human_cuts_zeros),
        cmocka_unit_test(test_str_to_mem_units_are_redis_ones),
        cmocka_unit_test(test_str_to_mem_malformed_or_too_large_is_an_error),
        cmocka_unit_test(test_str_from_bytes_human_picks_the_unit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
