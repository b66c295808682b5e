/* Sets against a plain model, through all encodings. */
#include "data_test.h"

#include <string.h>

#include "data/intset.h"
#include "data/limits.h"
#include "data/listpack.h"
#include "data/set.h"

#define MEMBERS 400

struct member_name {
    char text[400];
};

/* kind 0: integers; 1: integers and words, an empty one, a long one. */
static struct slice name_of(struct member_name *b, int kind, unsigned n) {
    bool is_num = kind == 0 || n % 2 == 0;
    if (kind == 1 && n == 7) return (struct slice){ "", 0 };
    if (kind == 1 && n == 9) {
        memset(b->text, 'n', 300);
        return (struct slice){ b->text, 300 };
    }
    int len = snprintf(b->text, sizeof(b->text), is_num ? "%u" : "word:%u", n);
    return (struct slice){ b->text, (size_t)len };
}
#define NAME(kind, n) name_of(&(struct member_name){ { 0 } }, (kind), (n))

static unsigned number_of(struct slice name) {
    if (name.len == 0) return 7;
    if (name.len == 300) return 9;
    unsigned n = 0;
    for (size_t i = 0; i < name.len; i++)
        if (name.ptr[i] >= '0' && name.ptr[i] <= '9') n = n * 10 + (unsigned)(name.ptr[i] - '0');
    return n;
}

struct seen {
    const bool *there;
    int kind;
    unsigned n;
    bool was[MEMBERS];
};

static bool see(void *arg, const struct set_member *m) {
    struct seen *s = arg;
    char tmp[STR_LL_MAX];
    struct slice text = set_member_text(m, tmp);
    unsigned n = number_of(text);
    assert_true(slice_eq(text, NAME(s->kind, n)));
    assert_true(s->there[n] && !s->was[n]);
    s->was[n] = true;
    s->n++;
    return true;
}

static unsigned count(const bool *there) {
    unsigned n = 0;
    for (unsigned i = 0; i < MEMBERS; i++) n += there[i];
    return n;
}

/* Of members by their texts and, where they have any, by their numbers. */
static void assert_index_agrees(const struct obj *o, const bool *there, int kind) {
    assert_null(set_index_new(o, 1));
    struct lp_index *x = set_index_new(o, MEMBERS);
    if (o->enc != OBJ_ENC_LISTPACK) assert_null(x);
    if (o->enc == OBJ_ENC_LISTPACK && set_len(o) > 100) assert_non_null(x);
    for (unsigned n = 0; x && n < MEMBERS; n++) {
        struct set_member m = { .text = NAME(kind, n) };
        assert_int_equal(set_index_has(x, &m), there[n]);
        if (n % 2) continue;
        m = (struct set_member){ .num = n };
        assert_int_equal(set_index_has(x, &m), there[n]);
        m.num = -1 - m.num;
        assert_false(set_index_has(x, &m));
    }
    lp_index_free(x);
}

static void assert_same(const struct obj *o, const bool *there, int kind) {
    struct seen s = { .there = there, .kind = kind }, by_ref = s;
    assert_int_equal(set_len(o), count(there));
    set_each(o, see, &s);
    assert_int_equal(s.n, count(there));
    assert_index_agrees(o, there, kind);
    void **refs = mem_calloc(s.n + 1, sizeof(*refs));
    set_refs(o, refs);
    for (unsigned i = 0; i < s.n; i++) {
        struct set_member m;
        assert_non_null(refs[i]);
        set_ref_member(o, refs[i], &m);
        see(&by_ref, &m);
    }
    mem_free(refs);
    if (s.n) {
        struct set_member m;
        char tmp[STR_LL_MAX];
        set_ref_member(o, set_random(o), &m);
        assert_true(there[number_of(set_member_text(&m, tmp))]);
    }
}

static void remove_some(struct obj *o, bool *there) {
    size_t size = set_len(o), n = size ? 1 + rand_below(size < 5 ? size : 5) : 0;
    void **refs = mem_calloc(size + 1, sizeof(*refs));
    set_refs(o, refs);
    for (size_t i = 0; i < n; i++) {
        size_t k = i + rand_below(size - i);
        void *ref = refs[k];
        struct set_member m;
        char tmp[STR_LL_MAX];
        refs[k] = refs[i];
        refs[i] = ref;
        set_ref_member(o, ref, &m);
        there[number_of(set_member_text(&m, tmp))] = false;
    }
    if (n) set_remove_refs(o, refs, n, refs + n, size - n);
    mem_free(refs);
}

static void step(struct obj *o, bool *there, int kind) {
    unsigned n = (unsigned)rand_below(MEMBERS);
    struct slice name = NAME(kind, n);
    struct set_member m = { .text = name };
    uint64_t hash = 0;
    switch (rand_below(8)) {
    case 0:
    case 1:
        assert_int_equal(set_add(o, name), !there[n]);
        there[n] = true;
        break;
    case 2:
        if (kind == 0) m = (struct set_member){ .num = n };
        if (there[n] || n % 3)
            assert_int_equal(set_add_member(o, &m, &hash), !there[n]);
        else
            set_add_absent(o, &m, &hash);
        there[n] = true;
        break;
    case 3:
        assert_int_equal(set_remove(o, name), there[n]);
        there[n] = false;
        break;
    case 4:
        assert_int_equal(set_remove_member(o, &m, &hash), there[n]);
        there[n] = false;
        break;
    case 5:
        if (kind == 0) m = (struct set_member){ .num = n };
        assert_int_equal(set_has_member(o, &m, &hash), there[n]);
        break;
    case 6:
        if (rand_below(20) == 0) remove_some(o, there);
        break;
    default:
        assert_int_equal(set_has(o, name), there[n]);
    }
}

static void run_model(int kind, int64_t max_ints, int64_t max_lp, enum obj_enc want) {
    bool there[MEMBERS] = { false };
    atomic_store(&data_limits.set_max_intset_entries, max_ints);
    atomic_store(&data_limits.set_max_listpack_entries, max_lp);
    atomic_store(&data_limits.set_max_listpack_value, 400);
    struct obj *o = set_new();
    for (int i = 0; i < 10000; i++) {
        step(o, there, kind);
        if (i % 100 == 0) assert_same(o, there, kind);
        if (i % 300 == 0) {
            struct obj *copy = obj_dup(o);
            assert_int_equal(copy->enc, o->enc);
            obj_unref(o);
            o = copy;
        }
    }
    assert_same(o, there, kind);
    assert_int_equal(o->enc, want);
    assert_true(obj_mem_usage(o, 0) > 0 && obj_mem_usage(o, 5) > 0);
    atomic_store(&data_limits.set_max_intset_entries, 512);
    atomic_store(&data_limits.set_max_listpack_entries, 128);
    atomic_store(&data_limits.set_max_listpack_value, 64);
    obj_unref(o);
}

static void test_random_operations_match_a_model(void **state) {
    (void)state;
    for (int i = 0; i < 4; i++) {
        run_model(0, 10000, 0, OBJ_ENC_INTSET);
        run_model(0, 20, 0, OBJ_ENC_HASHTABLE);
        run_model(1, 10, 10000, OBJ_ENC_LISTPACK);
        run_model(1, 10, 20, OBJ_ENC_HASHTABLE);
        run_model(1, 0, 0, OBJ_ENC_HASHTABLE);
    }
}

static void test_limits_decide_the_encoding(void **state) {
    (void)state;
    char long_text[65];
    struct key_buf num;
    memset(long_text, 'x', sizeof(long_text));
    struct obj *o = set_new_for(SLICE_LIT("1"), 1);
    assert_int_equal(o->enc, OBJ_ENC_INTSET);
    for (unsigned i = 0; i < 512; i++) set_add(o, (struct slice){ num.text, str_from_ll(num.text, i) });
    assert_int_equal(o->enc, OBJ_ENC_INTSET);
    struct obj *copy = obj_dup(o);
    set_add(copy, SLICE_LIT("512"));
    assert_int_equal(copy->enc, OBJ_ENC_HASHTABLE);
    set_compact(copy); /* one too many */
    assert_int_equal(copy->enc, OBJ_ENC_HASHTABLE);
    set_remove(copy, SLICE_LIT("512"));
    set_compact(copy);
    assert_int_equal(copy->enc, OBJ_ENC_INTSET);
    assert_int_equal(set_len(copy), 512);
    obj_unref(copy);
    set_add(o, SLICE_LIT("word")); /* too many for a listpack */
    assert_int_equal(o->enc, OBJ_ENC_HASHTABLE);
    obj_unref(o);

    o = set_new_for(SLICE_LIT("word"), 128);
    assert_int_equal(o->enc, OBJ_ENC_LISTPACK);
    set_expect(o, 129);
    assert_int_equal(o->enc, OBJ_ENC_HASHTABLE);
    obj_unref(o);

    o = set_new();
    set_add(o, SLICE_LIT("1"));
    set_add(o, (struct slice){ long_text, 64 });
    assert_int_equal(o->enc, OBJ_ENC_LISTPACK);
    set_add(o, (struct slice){ long_text, 65 });
    assert_int_equal(o->enc, OBJ_ENC_HASHTABLE);
    assert_true(set_has(o, SLICE_LIT("1")));
    obj_unref(o);
}

static void test_blobs_come_back_as_sets(void **state) {
    (void)state;
    size_t len;
    struct obj *o = set_new();
    for (unsigned i = 0; i < 100; i++) set_add(o, KEY(i));
    const unsigned char *blob = set_blob(o, &len);
    assert_int_equal(len, lp_bytes(blob));
    struct obj *again = set_from_blob(OBJ_ENC_LISTPACK, lp_dup(blob));
    assert_int_equal(again->enc, OBJ_ENC_LISTPACK);
    assert_int_equal(set_len(again), 100);
    obj_unref(again);
    atomic_store(&data_limits.set_max_listpack_entries, 99);
    again = set_from_blob(OBJ_ENC_LISTPACK, lp_dup(blob));
    atomic_store(&data_limits.set_max_listpack_entries, 128);
    assert_int_equal(again->enc, OBJ_ENC_HASHTABLE);
    assert_null(set_blob(again, &len));
    assert_true(set_has(again, KEY(99)));
    obj_unref(again);
    obj_unref(o);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_operations_match_a_model),
        cmocka_unit_test(test_limits_decide_the_encoding),
        cmocka_unit_test(test_blobs_come_back_as_sets),
    };
    return cmocka_run_group_tests(tests, seed_hash, NULL);
}
