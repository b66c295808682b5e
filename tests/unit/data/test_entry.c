/* Where a value lies: with its key in one allocation, or by itself, and every way from one to the other. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdlib.h>

#include "data_test.h"
#include "data/hash.h"
#include "data/lazyfree.h"

static int setup(void **state) {
    *state = ks_locked_new(2, 4, (struct ks_hooks){ 0 });
    return 0;
}

static int teardown(void **state) {
    ks_locked_free(*state);
    return 0;
}

static char pattern[4096];

static int prepare(void **state) {
    for (size_t i = 0; i < sizeof pattern; i++) pattern[i] = (char)('a' + i % 23);
    return seed_hash(state);
}

static struct slice text_of(size_t len) {
    return (struct slice){ pattern, len };
}

static bool is_near(const struct entry *e) {
    return obj_is_in_entry(entry_value(e));
}

static void assert_holds(struct keyspace *ks, struct slice key, const struct entry *e, struct slice text) {
    char tmp[STR_LL_MAX];
    assert_ptr_equal(find_quietly(ks, 0, key, T0), e);
    assert_true(slice_eq(entry_key(e), key));
    assert_true(slice_eq(obj_string_bytes(entry_value(e), tmp), text));
    assert_int_equal(obj_string_len(entry_value(e)), text.len);
    assert_int_equal(obj_refs(entry_value(e)), 1);
    assert_true(entry_mem_usage(e, 0) >= key.len + (entry_value(e)->enc == OBJ_ENC_INT ? sizeof(int64_t) : text.len));
}

static void test_small_strings_lie_with_their_key(void **state) {
    struct keyspace *ks = *state;
    static const struct {
        const char *text, *encoding;
    } cases[] = { { "", "embstr" }, { "x", "embstr" }, { "0", "int" }, { "-9223372036854775808", "int" }, { "007", "embstr" } };
    for (unsigned i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct slice text = slice_cstr(cases[i].text);
        struct entry *e = ks_set_string(ks, 0, KEY(i), text, false);
        assert_true(is_near(e));
        assert_holds(ks, KEY(i), e, text);
        assert_string_equal(obj_encoding_name(entry_value(e)), cases[i].encoding);
        e = ks_set(ks, 0, KEY(100 + i), obj_string_new(text.ptr, text.len), false); /* the object is used up */
        assert_true(is_near(e));
        assert_holds(ks, KEY(100 + i), e, text);
    }
    assert_string_equal(obj_encoding_name(entry_value(ks_set_string(ks, 0, KEY(1), text_of(44), false))), "embstr");
    assert_string_equal(obj_encoding_name(entry_value(ks_set_string(ks, 0, KEY(1), text_of(45), false))), "raw");
    struct slice number = SLICE_LIT("5");
    struct entry *e = ks_set(ks, 0, KEY(2), obj_string_new_text(number.ptr, number.len), false); /* INCRBYFLOAT's */
    assert_string_equal(obj_encoding_name(entry_value(e)), "embstr");
    assert_holds(ks, KEY(2), e, number);
}

/* Key and string of every length about the limit; keys about the lengths at which the layout changes. */
static void test_limits(void **state) {
    struct keyspace *ks = *state;
    static const size_t keys[] = { 0, 1, 16, 100, 171, 172, 179, 180, 181, 254, 255, 256, 300 };
    for (size_t k = 0; k < sizeof keys / sizeof keys[0]; k++) {
        struct slice key = { pattern + 1, keys[k] };
        for (size_t len = 0; len < 260; len++) {
            struct entry *e = ks_set_string(ks, 0, key, text_of(len), false);
            assert_int_equal(is_near(e), 12 + keys[k] + len <= 192);
            assert_holds(ks, key, e, text_of(len));
        }
        struct entry *e = ks_set_string(ks, 0, key, SLICE_LIT("12"), false);
        assert_int_equal(is_near(e), 20 + keys[k] <= 192);
        assert_holds(ks, key, e, SLICE_LIT("12"));
        assert_true(ks_delete(ks, 0, key, false));
    }
    assert_int_equal(ks_size(ks, 0), 0);
}

static void test_same_size_is_written_in_place(void **state) {
    struct keyspace *ks = *state;
    struct slice key = SLICE_LIT("key:123456");
    struct entry *e = ks_set_string(ks, 0, key, text_of(100), false); /* 122 bytes of 128 */
    for (size_t len = 91; len <= 106; len++) {
        assert_ptr_equal(ks_set_string(ks, 0, key, text_of(len), false), e);
        assert_holds(ks, key, e, text_of(len));
        assert_ptr_equal(ks_replace_string(ks, 0, key, e, text_of(len), false), e);
        assert_ptr_equal(ks_set(ks, 0, key, obj_string_new(pattern, len), false), e);
        assert_holds(ks, key, e, text_of(len));
    }
    e = ks_set_string(ks, 0, key, SLICE_LIT("1"), false);
    assert_ptr_equal(ks_set_string(ks, 0, key, SLICE_LIT("-1234567890123"), false), e);
    assert_holds(ks, key, e, SLICE_LIT("-1234567890123"));
}

/* Growing and shrinking over all forms, with a time to live or without; neighbours in the heap keep theirs. */
static void grow_and_shrink(struct keyspace *ks, int64_t when_ms) {
    static const size_t lens[] = { 0, 3, 20, 60, 100, 170, 171, 500, 2000, 171, 100, 3000, 20, 0, 2000 };
    for (unsigned i = 0; i < 20; i++) ks_set_expire(ks, 0, ks_set_string(ks, 0, KEY(i), text_of(i), false), T0 + 100 + i);
    struct slice key = SLICE_LIT("grows");
    struct entry *e = ks_set_string(ks, 0, key, SLICE_LIT("17"), false);
    if (when_ms != KS_NO_EXPIRE) ks_set_expire(ks, 0, e, when_ms);
    for (size_t i = 0; i < sizeof lens / sizeof lens[0]; i++) {
        e = i % 2 ? ks_set_string(ks, 0, key, text_of(lens[i]), true) : ks_replace_string(ks, 0, key, e, text_of(lens[i]), i % 3);
        assert_holds(ks, key, e, text_of(lens[i]));
        assert_int_equal(entry_expire_ms(e), when_ms);
    }
    unsigned due = when_ms == KS_NO_EXPIRE ? 20 : 21, n = 0;
    assert_int_equal(ks_expires(ks, 0), due);
    for (int shard = 0; shard < 4; shard++) {
        bool more;
        n += ks_expire_cycle(ks, shard, T0 + 1000, 100, &more);
    }
    assert_int_equal(n, due);
    assert_int_equal(ks_size(ks, 0), 21 - due);
    ks_delete(ks, 0, key, false);
}

static void test_grows_and_shrinks(void **state) {
    grow_and_shrink(*state, KS_NO_EXPIRE);
    grow_and_shrink(*state, T0 + 50);
    grow_and_shrink(*state, T0 + 110);
}

static void test_time_goes_when_not_kept(void **state) {
    struct keyspace *ks = *state;
    static const size_t lens[] = { 10, 11, 100, 1000, 10 };
    for (size_t i = 0; i < sizeof lens / sizeof lens[0]; i++) {
        ks_set_expire(ks, 0, ks_set_string(ks, 0, KEY(1), text_of(lens[i]), false), T0 + 5);
        assert_int_equal(ks_expires(ks, 0), 1);
        struct entry *e = ks_set_string(ks, 0, KEY(1), text_of(lens[(i + 1) % 5]), false);
        assert_int_equal(entry_expire_ms(e), KS_NO_EXPIRE);
        assert_int_equal(ks_expires(ks, 0), 0);
    }
}

static void test_clock_survives(void **state) {
    struct keyspace *ks = *state;
    struct entry *e = ks_set_string(ks, 0, KEY(1), text_of(3), false);
    entry_set_idle_s(e, 1234, T0);
    for (size_t len = 3; len < 600; len += 50) {
        e = ks_replace_string(ks, 0, KEY(1), e, text_of(len), false);
        assert_int_equal(entry_idle_s(e, T0), 1234);
    }
    e = ks_replace_string(ks, 0, KEY(1), e, SLICE_LIT("8"), false);
    assert_int_equal(entry_idle_s(e, T0 + 5000), 1239);
    entry_set_idle_s(e, UINT32_MAX, T0); /* more than can be told */
    assert_true(entry_idle_s(e, T0) > 16u * 365 * 86400);
    assert_holds(ks, KEY(1), e, SLICE_LIT("8"));
    entry_set_lfu(e, 200, T0);
    e = ks_replace_string(ks, 0, KEY(1), e, text_of(180), false);
    assert_int_equal(entry_lfu(e, T0), 200);
}

static void test_own_makes_it_raw_and_far(void **state) {
    struct keyspace *ks = *state;
    static const size_t lens[] = { 0, 5, 150, 171, 3000 };
    for (size_t i = 0; i < sizeof lens / sizeof lens[0]; i++) {
        struct entry *e = ks_set_string(ks, 0, KEY(1), text_of(lens[i]), false);
        ks_set_expire(ks, 0, e, T0 + 7);
        char *p = ks_string_own(ks, 0, KEY(1), &e, lens[i] + 10);
        memcpy(p + lens[i], pattern + lens[i], 10);
        assert_false(is_near(e));
        assert_holds(ks, KEY(1), e, text_of(lens[i] + 10));
        assert_string_equal(obj_encoding_name(entry_value(e)), "raw");
        assert_int_equal(entry_expire_ms(e), T0 + 7);
        assert_ptr_equal(ks_string_own(ks, 0, KEY(1), &e, 0), p);
        assert_ptr_equal(*entry_value_slot(e), entry_value(e));
        assert_holds(ks, KEY(1), ks_set_string(ks, 0, KEY(1), text_of(4), false), text_of(4)); /* and back */
    }
}

static void test_int_changes_in_place(void **state) {
    struct keyspace *ks = *state;
    struct entry *e = set_num(ks, 0, KEY(1), 41);
    assert_true(is_near(e));
    entry_value(e)->u.integer++;
    assert_holds(ks, KEY(1), e, SLICE_LIT("42"));
    e = ks_set(ks, 0, KEY(1), obj_string_new_raw(3000), false);
    e = ks_replace(ks, 0, KEY(1), e, obj_string_from_ll(-7), true);
    assert_true(is_near(e));
    assert_holds(ks, KEY(1), e, SLICE_LIT("-7"));
}

static void test_what_is_shared_stays_by_itself(void **state) {
    struct keyspace *ks = *state;
    struct obj *o = obj_string_new(pattern, 20), *held = obj_ref(o);
    struct entry *e = ks_set(ks, 0, KEY(1), o, false);
    assert_ptr_equal(entry_value(e), held);
    e = ks_set_string(ks, 0, KEY(1), text_of(20), false);
    assert_true(is_near(e));
    assert_true(slice_eq(obj_string_bytes(held, NULL), text_of(20)));
    obj_unref(held);
    o = obj_string_new_raw(20); /* made to be changed in place: stays raw */
    e = ks_set(ks, 0, KEY(1), o, false);
    assert_ptr_equal(entry_value(e), o);
}

static void test_steal_and_copy_outlive_the_key(void **state) {
    struct keyspace *ks = *state;
    char tmp[STR_LL_MAX];
    static const char *const texts[] = { "17", "", "some text", "a string that is much longer than forty-four bytes, so raw" };
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        struct slice text = slice_cstr(texts[i]);
        struct entry *e = ks_set_string(ks, 0, KEY(1), text, false);
        struct obj *copy = obj_dup(entry_value(e)), *stolen = ks_steal(ks, 0, KEY(1));
        assert_null(find_quietly(ks, 0, KEY(1), T0));
        assert_true(!obj_is_in_entry(copy) && !obj_is_in_entry(stolen) && copy != stolen);
        assert_int_equal(copy->enc, stolen->enc);
        assert_true(slice_eq(obj_string_bytes(copy, tmp), text));
        assert_true(slice_eq(obj_string_bytes(stolen, tmp), text));
        assert_holds(ks, KEY(2), ks_set(ks, 0, KEY(2), stolen, false), text); /* RENAME */
        assert_holds(ks, KEY(3), ks_set(ks, 0, KEY(3), copy, false), text);   /* COPY */
    }
}

static void test_to_a_hash_with_times_and_back(void **state) {
    struct keyspace *ks = *state;
    for (int i = 0; i < 4; i++) {
        struct slice text = text_of(i % 2 ? 10 : 1000), key = KEY((unsigned)i);
        struct entry *e = ks_set_string(ks, 0, key, text, false);
        struct obj *h = hash_new();
        hash_set(h, SLICE_LIT("f"), SLICE_LIT("v"), T0, 0);
        hash_set_time(h, SLICE_LIT("f"), T0 + 10);
        e = i < 2 ? ks_set(ks, 0, key, h, false) : ks_replace(ks, 0, key, e, h, false);
        assert_ptr_equal(entry_value(e), h);
        e = i < 2 ? ks_set_string(ks, 0, key, text, false) : ks_replace_string(ks, 0, key, e, text, true);
        assert_holds(ks, key, e, text);
    }
    for (int shard = 0; shard < 4; shard++) {
        bool more;
        assert_int_equal(ks_expire_cycle(ks, shard, T0 + 100, 100, &more), 0);
        assert_false(more);
    }
    assert_int_equal(ks_size(ks, 0), 4);
}

static void test_flush_frees_both_kinds(void **state) {
    struct keyspace *ks = *state;
    for (int async = 0; async < 2; async++) {
        for (unsigned i = 0; i < 300; i++) {
            struct entry *e = ks_set_string(ks, 0, KEY(i), text_of(i), false);
            if (i % 3 == 0) ks_set_expire(ks, 0, e, T0 + i);
        }
        assert_int_equal(ks_flush(ks, 0, async), 300);
        lazyfree_drain();
        assert_int_equal(ks_size(ks, 0), 0);
    }
}

/* ---- everything at random, beside a model ---- */

#define N_MODEL 40
struct model {
    bool there;
    size_t len; /* of pattern; SIZE_MAX: the number */
    int64_t number, when_ms;
};

static struct slice model_text(const struct model *m, char *tmp) {
    return m->len == SIZE_MAX ? (struct slice){ tmp, str_from_ll(tmp, m->number) } : text_of(m->len);
}

static void random_step(struct keyspace *ks, struct model *m, struct slice key) {
    char tmp[STR_LL_MAX];
    struct entry *e = find_quietly(ks, 0, key, T0);
    struct model to = { true, rand_below(3) ? rand_below(220) : rand_below(2500), 0, KS_NO_EXPIRE };
    if (rand_below(4) == 0) to = (struct model){ true, SIZE_MAX, (int64_t)rand_u64(), KS_NO_EXPIRE };
    struct slice text = model_text(&to, tmp);
    bool keep = rand_below(2);
    switch (rand_below(7)) {
    case 0:
        ks_set_string(ks, 0, key, text, keep);
        break;
    case 1:
        ks_set(ks, 0, key, obj_string_new(text.ptr, text.len), keep);
        break;
    case 2:
        if (!e) return;
        ks_replace_string(ks, 0, key, e, text, rand_below(2));
        keep = true;
        break;
    case 3:
        if (!e) return;
        ks_replace(ks, 0, key, e, obj_string_new(text.ptr, text.len), rand_below(2));
        keep = true;
        break;
    case 4: /* APPEND */
        if (!e || m->len == SIZE_MAX) return;
        to.len = m->len + rand_below(50);
        if (to.len) memcpy(ks_string_own(ks, 0, key, &e, to.len), pattern, to.len);
        keep = true;
        break;
    case 5:
        if (e) ks_set_expire(ks, 0, e, m->when_ms = T0 + (int64_t)rand_below(1000));
        return;
    default:
        assert_int_equal(ks_delete(ks, 0, key, rand_below(2)), m->there);
        m->there = false;
        return;
    }
    if (keep && m->there) to.when_ms = m->when_ms;
    *m = to;
}

static void test_random_steps(void **state) {
    struct keyspace *ks = *state;
    struct model model[N_MODEL] = { 0 };
    char tmp[STR_LL_MAX];
    for (int i = 0; i < 60000; i++) {
        unsigned k = (unsigned)rand_below(N_MODEL);
        struct model *m = &model[k];
        random_step(ks, m, KEY(k));
        const struct entry *e = find_quietly(ks, 0, KEY(k), T0);
        assert_int_equal(e != NULL, m->there);
        if (!e) continue;
        assert_holds(ks, KEY(k), e, model_text(m, tmp));
        assert_int_equal(entry_expire_ms(e), m->when_ms);
    }
    unsigned n = 0, n_timed = 0;
    for (unsigned k = 0; k < N_MODEL; k++) {
        n += model[k].there;
        n_timed += model[k].there && model[k].when_ms != KS_NO_EXPIRE;
    }
    assert_int_equal(ks_size(ks, 0), n);
    assert_int_equal(ks_expires(ks, 0), n_timed);
}

int main(void) {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_small_strings_lie_with_their_key),
        T(test_limits),
        T(test_same_size_is_written_in_place),
        T(test_grows_and_shrinks),
        T(test_time_goes_when_not_kept),
        T(test_clock_survives),
        T(test_own_makes_it_raw_and_far),
        T(test_int_changes_in_place),
        T(test_what_is_shared_stays_by_itself),
        T(test_steal_and_copy_outlive_the_key),
        T(test_to_a_hash_with_times_and_back),
        T(test_flush_frees_both_kinds),
        T(test_random_steps),
    };
    return cmocka_run_group_tests(tests, prepare, NULL);
}
