/* Listpacks against an array of texts, their bytes, and hostile ones. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "base/rand.h"
#include "data/listpack.h"

#define MODEL_MAX 300

struct model {
    char *text[MODEL_MAX];
    size_t len[MODEL_MAX];
    size_t n;
};

static void model_insert(struct model *m, size_t at, struct slice s) {
    memmove(m->text + at + 1, m->text + at, (m->n - at) * sizeof *m->text);
    memmove(m->len + at + 1, m->len + at, (m->n - at) * sizeof *m->len);
    m->text[at] = mem_memdup0(s.ptr, s.len);
    m->len[at] = s.len;
    m->n++;
}

static void model_delete(struct model *m, size_t at, size_t n) {
    for (size_t i = 0; i < n; i++) mem_free(m->text[at + i]);
    memmove(m->text + at, m->text + at + n, (m->n - at - n) * sizeof *m->text);
    memmove(m->len + at, m->len + at + n, (m->n - at - n) * sizeof *m->len);
    m->n -= n;
}

static void assert_same(const unsigned char *lp, const struct model *m) {
    char tmp[STR_LL_MAX];
    assert_int_equal(lp_count(lp), m->n);
    assert_true(lp_is_valid(lp, lp_bytes(lp), true, NULL, NULL));
    const unsigned char *p = lp_first(lp);
    for (size_t i = 0; i < m->n; i++, p = lp_next(lp, p)) {
        assert_non_null(p);
        assert_true(slice_eq(lp_get(p, tmp), (struct slice){ m->text[i], m->len[i] }));
        assert_true(lp_eq(p, (struct slice){ m->text[i], m->len[i] }));
        assert_int_equal(lp_len(p), m->len[i]);
    }
    assert_null(p);
    p = lp_last(lp);
    for (size_t i = m->n; i-- > 0; p = lp_prev(lp, p)) {
        assert_true(slice_eq(lp_get(p, tmp), (struct slice){ m->text[i], m->len[i] }));
        assert_ptr_equal(lp_seek(lp, (long)i), p);
        assert_ptr_equal(lp_seek(lp, (long)i - (long)m->n), p);
    }
    assert_null(p);
    assert_null(lp_seek(lp, (long)m->n));
    assert_null(lp_seek(lp, -(long)m->n - 1));
}

/* Sizes at which the encoding changes, and integers of every width. */
static struct slice random_text(char *buf) {
    static const size_t lens[] = { 0, 1, 5, 20, 21, 62, 63, 64, 65, 126, 127, 128, 4095, 4096, 16370, 16380, 16383, 16390 };
    uint64_t r = rand_u64();
    if (r % 2) {
        int64_t v = (int64_t)rand_u64() >> (rand_u64() % 64);
        return (struct slice){ buf, str_from_ll(buf, v) };
    }
    size_t len = lens[rand_u64() % (rand_u64() % 8 ? 12 : sizeof lens / sizeof *lens)];
    for (size_t i = 0; i < len; i++) buf[i] = (char)rand_u64();
    return (struct slice){ buf, len };
}

static unsigned char *random_step(unsigned char *lp, struct model *m, char *buf) {
    struct slice s = random_text(buf);
    size_t at = m->n ? rand_u64() % m->n : 0;
    unsigned char *p = lp_seek(lp, (long)at), *q = NULL;
    uint64_t op = rand_u64() % 8;
    if (m->n + 1 >= MODEL_MAX) op = 7;
    if (!p || op == 0) {
        model_insert(m, m->n, s);
        return lp_append(lp, s);
    }
    if (op == 1) {
        model_insert(m, 0, s);
        return lp_prepend(lp, s);
    }
    if (op == 2 || op == 3) {
        model_insert(m, at + (op == 3), s);
        lp = lp_insert(lp, p, op == 3 ? LP_AFTER : LP_BEFORE, s, &q);
        assert_true(lp_eq(q, s));
        return lp;
    }
    if (op == 4 || op == 5) {
        model_delete(m, at, 1);
        model_insert(m, at, s);
        lp = lp_replace(lp, &p, s);
        assert_ptr_equal(p, lp_seek(lp, (long)at));
        return lp;
    }
    size_t n = op == 6 ? 1 : rand_u64() % 20, left = m->n - at;
    lp = lp_delete(lp, p, n, &q);
    model_delete(m, at, n < left ? n : left);
    assert_ptr_equal(q, at < m->n ? lp_seek(lp, (long)at) : NULL);
    return lp;
}

static void test_listpack_random_changes_equal_model(void **state) {
    (void)state;
    char *buf = mem_alloc(20000);
    struct model *m = mem_zalloc(sizeof *m);
    unsigned char *lp = lp_new(0);
    for (int i = 0; i < 20000; i++) {
        lp = random_step(lp, m, buf);
        if (i % 16 == 0) assert_same(lp, m);
        if (i % 500 == 0) lp = lp_shrink(lp);
    }
    assert_same(lp, m);
    model_delete(m, 0, m->n);
    mem_free(m);
    mem_free(lp);
    mem_free(buf);
}

static void assert_bytes(unsigned char *lp_take, const char *bytes, size_t len) {
    assert_int_equal(lp_bytes(lp_take), len);
    assert_memory_equal(lp_take, bytes, len);
    mem_free(lp_take);
}

static void test_listpack_bytes_are_the_formats(void **state) {
    (void)state;
    unsigned char *lp = lp_append(lp_new(0), SLICE_LIT("foobar"));
    lp = lp_append(lp, SLICE_LIT("1024"));
    lp = lp_append_int(lp, -1);
    lp = lp_append(lp, SLICE_LIT("0"));
    lp = lp_append_int(lp, 32767);
    static const char want[] = "\x1b\0\0\0\x05\0"
                               "\x86"
                               "foobar\x07"
                               "\xc4\x00\x02"
                               "\xdf\xff\x02"
                               "\x00\x01"
                               "\xf1\xff\x7f\x03"
                               "\xff";
    assert_bytes(lp, want, sizeof want - 1);
    assert_bytes(lp_new(0), "\x07\0\0\0\0\0\xff", 7);
}

static void test_listpack_text_that_is_no_canonical_integer_stays_text(void **state) {
    (void)state;
    static const char *const texts[] = { "", "-", "-0", "01", "+1", " 1", "1 ", "9223372036854775808", "000000000000000000001" };
    unsigned char *lp = lp_new(0);
    int64_t v;
    struct slice s;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        lp = lp_append(lp, slice_cstr(texts[i]));
        assert_false(lp_get_int(lp_last(lp), &v, &s));
        assert_true(slice_eq(s, slice_cstr(texts[i])));
    }
    mem_free(lp);
}

static void test_listpack_find_skips(void **state) {
    (void)state;
    unsigned char *lp = lp_new(0);
    static const char *const texts[] = { "a", "b", "b", "1", "1", "x" };
    for (size_t i = 0; i < 6; i++) lp = lp_append(lp, slice_cstr(texts[i]));
    assert_ptr_equal(lp_find(lp, lp_first(lp), SLICE_LIT("b"), 1), lp_seek(lp, 2));
    assert_ptr_equal(lp_find(lp, lp_first(lp), SLICE_LIT("b"), 0), lp_seek(lp, 1));
    assert_ptr_equal(lp_find(lp, lp_first(lp), SLICE_LIT("1"), 1), lp_seek(lp, 4));
    assert_null(lp_find(lp, lp_first(lp), SLICE_LIT("x"), 1));
    assert_null(lp_find(lp, NULL, SLICE_LIT("x"), 1));
    mem_free(lp);
}

static void test_listpack_counts_beyond_65535(void **state) {
    (void)state;
    unsigned char *lp = lp_new(400000), *other = lp_new(0);
    for (int i = 0; i < 65534; i++) lp = lp_append_int(lp, i);
    assert_int_equal(lp_count(lp), 65534);
    for (int i = 0; i < 10; i++) lp = lp_append_int(lp, i);
    assert_int_equal(lp_count(lp), 65544);
    assert_true(lp_is_valid(lp, lp_bytes(lp), true, NULL, NULL));
    other = lp_append_int(other, 7);
    lp = lp_join(other, lp);
    assert_int_equal(lp_count(lp), 65545);
    assert_true(lp_eq(lp_seek(lp, 65544), SLICE_LIT("9")));
    assert_true(lp_eq(lp_seek(lp, -65545), SLICE_LIT("7")));
    lp = lp_delete_range(lp, 1, 65543);
    assert_int_equal(lp_count(lp), 2);
    mem_free(lp);
}

/* Whatever is called valid can be walked: ASan watches. */
static void test_listpack_hostile_bytes_are_refused_or_walkable(void **state) {
    (void)state;
    char tmp[STR_LL_MAX], *buf = mem_alloc(20000);
    for (int round = 0; round < 20000; round++) {
        unsigned char *lp = lp_new(0);
        for (uint64_t i = rand_u64() % 6; i > 0; i--) {
            struct slice s = random_text(buf);
            lp = lp_append(lp, s.len > 200 ? (struct slice){ s.ptr, 200 } : s);
        }
        size_t len = lp_bytes(lp);
        for (uint64_t i = rand_u64() % 4; i > 0; i--) lp[rand_u64() % len] = (unsigned char)rand_u64();
        if (rand_u64() % 4 == 0) len = rand_u64() % (len + 1);
        unsigned char *exact = mem_alloc(len ? len : 1);
        memcpy(exact, lp, len);
        if (lp_is_valid(exact, len, true, NULL, NULL)) {
            size_t n = 0;
            for (const unsigned char *p = lp_first(exact); p; p = lp_next(exact, p)) n += 1 + lp_get(p, tmp).len * 0;
            assert_int_equal(n, lp_count(exact));
            for (const unsigned char *p = lp_last(exact); p; p = lp_prev(exact, p)) n--;
            assert_int_equal(n, 0);
        }
        mem_free(exact);
        mem_free(lp);
    }
    mem_free(buf);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_listpack_random_changes_equal_model),
        cmocka_unit_test(test_listpack_bytes_are_the_formats),
        cmocka_unit_test(test_listpack_text_that_is_no_canonical_integer_stays_text),
        cmocka_unit_test(test_listpack_find_skips),
        cmocka_unit_test(test_listpack_counts_beyond_65535),
        cmocka_unit_test(test_listpack_hostile_bytes_are_refused_or_walkable),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
