/* Strings: encodings, growth in place, sharing. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "data_test.h"
#include "data/lazyfree.h"

static const char *enc_of(const char *text) {
    struct obj *o = obj_string_new(text, strlen(text));
    const char *name = obj_encoding_name(o);
    char tmp[STR_LL_MAX];
    assert_true(slice_eq(obj_string_bytes(o, tmp), slice_cstr(text)));
    assert_int_equal(obj_string_len(o), strlen(text));
    obj_unref(o);
    return name;
}

static void test_string_new_canonical_integer_is_int(void **state) {
    (void)state;
    const char *const ints[] = { "0", "-1", "42", "9223372036854775807", "-9223372036854775808" };
    for (size_t i = 0; i < sizeof(ints) / sizeof(*ints); i++) assert_string_equal(enc_of(ints[i]), "int");
}

static void test_string_new_other_number_is_embstr(void **state) {
    (void)state;
    const char *const texts[] = {
        "", "-", "-0", "01", "+1", " 1", "1 ", "1.0", "9223372036854775808", "-9223372036854775809", "000000000000000000001"
    };
    for (size_t i = 0; i < sizeof(texts) / sizeof(*texts); i++) assert_string_equal(enc_of(texts[i]), "embstr");
}

static void test_string_new_length_limit_is_44(void **state) {
    (void)state;
    assert_string_equal(enc_of("12345678901234567890123456789012345678901234"), "embstr");
    assert_string_equal(enc_of("123456789012345678901234567890123456789012345"), "raw");
}

static void test_string_to_ll_reads_every_encoding(void **state) {
    (void)state;
    int64_t v = 7;
    struct obj *o = obj_string_new("-12", 3);
    assert_true(obj_string_to_ll(o, &v) && v == -12);
    obj_string_own(&o, 0);
    assert_string_equal(obj_encoding_name(o), "raw");
    assert_true(obj_string_to_ll(o, &v) && v == -12);
    obj_string_own(&o, 3)[0] = 'x';
    v = 7;
    assert_false(obj_string_to_ll(o, &v));
    assert_int_equal(v, 7);
    obj_unref(o);
}

static void test_string_own_zero_fills_and_keeps_bytes(void **state) {
    (void)state;
    struct obj *o = obj_string_new("hello", 5);
    char *p = obj_string_own(&o, 9);
    assert_memory_equal(p, "hello\0\0\0\0", 9);
    assert_int_equal(obj_string_len(o), 9);
    p = obj_string_own(&o, 4); /* never shortens */
    assert_int_equal(obj_string_len(o), 9);
    memset(p, 'a', 9);
    for (size_t len = 10; len < 5000; len++) {
        p = obj_string_own(&o, len);
        assert_int_equal(p[len - 1], 0);
        assert_int_equal(p[8], 'a');
        p[len - 1] = 'b';
    }
    obj_unref(o);
}

static void test_string_own_grows_ahead(void **state) {
    (void)state;
    struct obj *o = obj_string_new_raw(0);
    obj_string_own(&o, 1000);
    assert_int_equal(o->u.raw.cap, 2000);
    obj_string_own(&o, 3 << 20);
    assert_int_equal(o->u.raw.cap, 4 << 20);
    obj_unref(o);
}

static void test_string_own_shared_copies(void **state) {
    (void)state;
    struct obj *o = obj_string_new_raw(100), *reply = obj_ref(o);
    char *p = obj_string_own(&o, 100);
    assert_ptr_not_equal(o, reply);
    p[0] = 'x';
    char tmp[STR_LL_MAX];
    assert_int_equal(obj_string_bytes(reply, tmp).ptr[0], 0);
    obj_unref_cb(reply);
    char *again = obj_string_own(&o, 100);
    assert_ptr_equal(again, p);
    obj_unref(o);
}

static void test_dup_is_deep(void **state) {
    (void)state;
    const char *const texts[] = { "12", "short", "a string that is much longer than forty-four bytes, so raw" };
    for (size_t i = 0; i < 3; i++) {
        struct obj *a = obj_string_new(texts[i], strlen(texts[i])), *b = obj_dup(a);
        assert_ptr_not_equal(a, b);
        assert_int_equal(a->enc, b->enc);
        assert_null(obj_unref(a));
        char tmp[STR_LL_MAX];
        assert_true(slice_eq(obj_string_bytes(b, tmp), slice_cstr(texts[i])));
        assert_true(obj_mem_usage(b, 0) >= 12);
        obj_unref(b);
    }
    assert_null(obj_unref(NULL));
}

static void test_unref_lazy_large_goes_to_background(void **state) {
    (void)state;
    uint64_t before = lazyfree_freed();
    obj_unref_lazy(obj_string_new_raw(16));
    assert_int_equal(lazyfree_freed(), before);
    obj_unref_lazy(obj_string_new_raw(1 << 20));
    lazyfree_drain();
    assert_int_equal(lazyfree_freed(), before + 1);
    assert_int_equal(lazyfree_pending(), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_string_new_canonical_integer_is_int),
        cmocka_unit_test(test_string_new_other_number_is_embstr),
        cmocka_unit_test(test_string_new_length_limit_is_44),
        cmocka_unit_test(test_string_to_ll_reads_every_encoding),
        cmocka_unit_test(test_string_own_zero_fills_and_keeps_bytes),
        cmocka_unit_test(test_string_own_grows_ahead),
        cmocka_unit_test(test_string_own_shared_copies),
        cmocka_unit_test(test_dup_is_deep),
        cmocka_unit_test(test_unref_lazy_large_goes_to_background),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
