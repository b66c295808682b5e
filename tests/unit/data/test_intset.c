/* Intsets: the bytes of the format, widening, and bytes from outside. */
#include "data_test.h"

#include <string.h>

#include "data/intset.h"

static unsigned char *add(unsigned char *is, int64_t v, bool want) {
    bool added;
    is = intset_add(is, v, &added);
    assert_int_equal(added, want);
    assert_true(intset_has(is, v));
    return is;
}

static void test_bytes_are_the_formats(void **state) {
    (void)state;
    static const unsigned char narrow[] = { 2, 0, 0, 0, 3, 0, 0, 0, 0xfe, 0xff, 1, 0, 0x39, 0x30 };
    static const unsigned char wide[] = { 4,    0,    0,    0,    4,    0,    0, 0, 0xfe, 0xff, 0xff, 0xff,
                                          0x01, 0x00, 0x00, 0x00, 0x39, 0x30, 0, 0, 0xff, 0xff, 0x00, 0x00 };
    unsigned char *is = add(add(add(intset_new(), 12345, true), -2, true), 1, true);
    assert_int_equal(intset_bytes(is), sizeof(narrow));
    assert_memory_equal(is, narrow, sizeof(narrow));
    is = add(is, 65535, true);
    assert_int_equal(intset_bytes(is), sizeof(wide));
    assert_memory_equal(is, wide, sizeof(wide));
    mem_free(is);
}

static void test_all_widths_sort(void **state) {
    (void)state;
    static const int64_t values[] = { 0,         -1,        INT16_MAX, INT16_MIN,        INT16_MAX + 1, INT16_MIN - 1,
                                      INT32_MAX, INT32_MIN, 1LL << 31, -(1LL << 31) - 1, INT64_MAX,     INT64_MIN };
    enum { N = sizeof(values) / sizeof(*values) };
    for (int round = 0; round < 200; round++) {
        int64_t shuffled[N];
        memcpy(shuffled, values, sizeof(values));
        for (int i = 0; i < N; i++) {
            int k = i + (int)rand_below((uint64_t)(N - i));
            int64_t v = shuffled[k];
            shuffled[k] = shuffled[i];
            shuffled[i] = v;
        }
        unsigned char *is = intset_new();
        for (int i = 0; i < N; i++) is = add(add(is, shuffled[i], true), shuffled[i], false);
        assert_int_equal(intset_len(is), N);
        assert_true(intset_is_valid(is, intset_bytes(is), true));
        bool removed;
        for (int i = 0; i < N; i++) {
            is = intset_remove(is, shuffled[i], &removed);
            assert_true(removed && !intset_has(is, shuffled[i]));
            is = intset_remove(is, shuffled[i], &removed);
            assert_false(removed);
        }
        assert_int_equal(intset_len(is), 0);
        mem_free(is);
    }
}

static void test_random_sets_match_a_bitmap(void **state) {
    (void)state;
    static bool there[2000];
    memset(there, 0, sizeof(there));
    unsigned char *is = intset_new();
    for (int i = 0; i < 20000; i++) {
        uint32_t v = (uint32_t)rand_below(2000);
        bool changed;
        if (rand_below(2)) {
            is = intset_add(is, v, &changed);
            assert_int_equal(changed, !there[v]);
            there[v] = true;
        } else {
            is = intset_remove(is, v, &changed);
            assert_int_equal(changed, there[v]);
            there[v] = false;
        }
    }
    uint32_t n = 0;
    for (uint32_t v = 0; v < 2000; v++) {
        assert_int_equal(intset_has(is, v), there[v]);
        if (there[v]) assert_int_equal(intset_at(is, n++), v);
    }
    assert_int_equal(n, intset_len(is));
    unsigned char *copy = intset_dup(is);
    assert_memory_equal(copy, is, intset_bytes(is));
    mem_free(copy);
    mem_free(is);
}

static void test_bad_bytes_are_refused(void **state) {
    (void)state;
    static const struct {
        const char *bytes;
        size_t len;
        bool shallow, deep;
    } cases[] = {
        { "\2\0\0\0\2\0\0\0\1\0\2\0", 12, true, true },
        { "\2\0\0\0\2\0\0\0\1\0\2", 11, false, false },
        { "\2\0\0\0\2\0\0\0\1\0\2\0\3\0", 14, false, false },
        { "\3\0\0\0\1\0\0\0\1\0\0", 11, false, false },
        { "\2\0\0\0\0\0\0\0", 8, false, false },
        { "\2\0\0\0\xff\xff\xff\xff", 8, false, false },
        { "\2\0\0\0\2\0\0\0\2\0\2\0", 12, true, false },
        { "\2\0\0\0\2\0\0\0\2\0\1\0", 12, true, false },
        { "\2\0\0", 3, false, false },
        { "\10\0\0\0\1\0\0\x20\1\0\0\0\0\0\0\0", 16, false, false },
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        assert_int_equal(intset_is_valid((const unsigned char *)cases[i].bytes, cases[i].len, false), cases[i].shallow);
        assert_int_equal(intset_is_valid((const unsigned char *)cases[i].bytes, cases[i].len, true), cases[i].deep);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bytes_are_the_formats),
        cmocka_unit_test(test_all_widths_sort),
        cmocka_unit_test(test_random_sets_match_a_bitmap),
        cmocka_unit_test(test_bad_bytes_are_refused),
    };
    return cmocka_run_group_tests(tests, seed_hash, NULL);
}
