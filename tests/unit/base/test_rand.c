/* Random numbers: bounds, rough evenness, independence of threads, identifiers. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <pthread.h>
#include <string.h>

#include "base/rand.h"

static void test_rand_below_stays_below(void **state) {
    (void)state;
    static const uint64_t bounds[] = {
        1, 2, 3, 7, 10, 255, 256, 1000003, 1ULL << 32, (1ULL << 63) - 1, 1ULL << 63, (1ULL << 63) + 1, UINT64_MAX
    };
    for (size_t i = 0; i < sizeof bounds / sizeof *bounds; i++)
        for (int n = 0; n < 2000; n++) assert_true(rand_below(bounds[i]) < bounds[i]);
}

static void test_rand_below_one_is_zero(void **state) {
    (void)state;
    for (int i = 0; i < 1000; i++) assert_int_equal(rand_below(1), 0);
}

/* Chi-squared over k cells: the mean is k-1, the deviation sqrt(2(k-1)). Ten deviations never happen by chance. */
static void assert_even(unsigned k) {
    static unsigned hits[1024];
    const unsigned per_cell = 1000;
    memset(hits, 0, sizeof hits);
    for (unsigned i = 0; i < k * per_cell; i++) hits[rand_below(k)]++;
    double chi = 0;
    for (unsigned i = 0; i < k; i++) {
        double d = (double)hits[i] - per_cell;
        chi += d * d / per_cell;
    }
    double off = chi - (k - 1);
    assert_true(off * off < 100 * 2.0 * (k - 1));
}

static void test_rand_below_small_bounds_is_even(void **state) {
    (void)state;
    static const unsigned k[] = { 2, 3, 5, 10, 100, 1000, 1024 };
    for (size_t i = 0; i < sizeof k / sizeof *k; i++) assert_even(k[i]);
}

/* With a bound of 3/4 of the range, a plain multiply-shift or modulo would favour a third of the values two to one. */
static void test_rand_below_huge_bound_is_even(void **state) {
    (void)state;
    const uint64_t third = 1ULL << 62;
    unsigned hits[3] = { 0 };
    for (int i = 0; i < 30000; i++) hits[rand_below(3 * third) / third]++;
    for (int i = 0; i < 3; i++) assert_in_range(hits[i], 9200, 10800);
    unsigned parity = 0;
    for (int i = 0; i < 30000; i++) parity += rand_below(3 * third) & 1;
    assert_in_range(parity, 14000, 16000);
}

static void test_rand_u64_every_bit_moves(void **state) {
    (void)state;
    unsigned ones[64] = { 0 };
    for (int i = 0; i < 4000; i++)
        for (uint64_t v = rand_u64(), b = 0; b < 64; b++) ones[b] += v >> b & 1;
    for (int b = 0; b < 64; b++) assert_in_range(ones[b], 1700, 2300);
}

static void *draw(void *arg) {
    uint64_t *out = arg;
    for (int i = 0; i < 8; i++) out[i] = rand_u64();
    return NULL;
}

static void test_rand_u64_threads_draw_different_sequences(void **state) {
    (void)state;
    uint64_t a[8], b[8];
    pthread_t ta, tb;
    assert_int_equal(pthread_create(&ta, NULL, draw, a), 0);
    assert_int_equal(pthread_create(&tb, NULL, draw, b), 0);
    pthread_join(ta, NULL);
    pthread_join(tb, NULL);
    assert_memory_not_equal(a, b, sizeof a);
}

static void test_rand_secure_fills_exactly(void **state) {
    (void)state;
    unsigned char buf[1026], before[1026];
    static const size_t lens[] = { 0, 1, 255, 256, 257, 512, 1024 };
    for (size_t i = 0; i < sizeof lens / sizeof *lens; i++) {
        memset(buf, 0xee, sizeof buf);
        memset(before, 0xee, sizeof before);
        rand_secure(buf + 1, lens[i]);
        assert_int_equal(buf[0], 0xee);
        assert_int_equal(buf[1 + lens[i]], 0xee);
        if (lens[i] >= 64) assert_memory_not_equal(buf + 1 + lens[i] - 32, before, 32);
    }
}

static void test_rand_hex_id_has_lower_hex_digits(void **state) {
    (void)state;
    char a[42], b[42];
    memset(a, '!', sizeof a);
    rand_hex_id(a, 40);
    rand_hex_id(b, 40);
    assert_int_equal(strlen(a), 40);
    assert_int_equal(strspn(a, "0123456789abcdef"), 40);
    assert_int_equal(a[41], '!');
    assert_string_not_equal(a, b);
    rand_hex_id(a, 0);
    assert_string_equal(a, "");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rand_below_stays_below),          cmocka_unit_test(test_rand_below_one_is_zero),
        cmocka_unit_test(test_rand_below_small_bounds_is_even), cmocka_unit_test(test_rand_below_huge_bound_is_even),
        cmocka_unit_test(test_rand_u64_every_bit_moves),        cmocka_unit_test(test_rand_u64_threads_draw_different_sequences),
        cmocka_unit_test(test_rand_secure_fills_exactly),       cmocka_unit_test(test_rand_hex_id_has_lower_hex_digits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
