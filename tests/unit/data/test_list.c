/* Lists against a plain array: every operation, every kind of node limit, with and without compression; conversions; what saving
 * and loading see. */
#include "data_test.h"

#include <stdlib.h>
#include <string.h>

#include "data/limits.h"
#include "data/list.h"

/* ---- the model ---- */

struct model {
    char **text; /* each NUL-terminated, of its own memory */
    size_t n, cap;
};

static void model_put(struct model *m, size_t at, const char *s) {
    if (m->n == m->cap) {
        m->cap = m->cap ? m->cap * 2 : 16;
        m->text = mem_realloc(m->text, m->cap * sizeof(*m->text));
    }
    memmove(m->text + at + 1, m->text + at, (m->n - at) * sizeof(*m->text));
    m->text[at] = mem_strdup(s);
    m->n++;
}

static void model_cut(struct model *m, size_t at, size_t n) {
    for (size_t i = 0; i < n; i++) mem_free(m->text[at + i]);
    memmove(m->text + at, m->text + at + n, (m->n - at - n) * sizeof(*m->text));
    m->n -= n;
}

static void model_done(struct model *m) {
    model_cut(m, 0, m->n);
    mem_free(m->text);
}

static size_t model_remove(struct model *m, const char *s, size_t max, bool backward) {
    size_t n = 0;
    for (size_t i = 0; i < m->n && n < max;) {
        size_t at = backward ? m->n - 1 - i : i;
        if (strcmp(m->text[at], s) == 0) {
            model_cut(m, at, 1);
            n++;
        } else {
            i++;
        }
    }
    return n;
}

/* ---- comparing ---- */

static void assert_elem(const struct list_elem *e, const char *want) {
    char tmp[STR_LL_MAX];
    struct slice s = list_elem_text(e, tmp);
    struct list_needle n = list_needle_of(slice_cstr(want));
    assert_int_equal(s.len, strlen(want));
    assert_memory_equal(s.ptr, want, s.len);
    assert_true(list_elem_eq(e, &n));
    if (e->str) assert_ptr_equal(s.ptr, obj_string_bytes(e->str, NULL).ptr);
}

static void assert_same(const struct obj *o, const struct model *m) {
    assert_int_equal(list_len(o), m->n);
    for (int backward = 0; backward < 2; backward++) {
        struct list_iter it;
        struct list_elem e;
        list_iter_init(&it, o, backward && m->n ? m->n - 1 : 0, backward);
        for (size_t i = 0; i < m->n; i++) {
            assert_true(list_iter_next(&it, &e));
            assert_elem(&e, m->text[backward ? m->n - 1 - i : i]);
        }
        assert_false(list_iter_next(&it, &e));
        assert_false(list_iter_next(&it, &e));
        list_iter_done(&it);
    }
}

static void assert_at(const struct obj *o, const struct model *m, size_t index) {
    struct list_iter it;
    struct list_elem e;
    list_iter_init(&it, o, index, false);
    assert_int_equal(list_iter_next(&it, &e), index < m->n);
    if (index < m->n) assert_elem(&e, m->text[index]);
    list_iter_done(&it);
}

/* What quicklist.c promises of its structure. */
static void assert_sound(const struct obj *o) {
    if (o->enc == OBJ_ENC_LISTPACK) {
        assert_true(lp_is_valid(o->u.ptr, lp_bytes(o->u.ptr), true, NULL, NULL));
        return;
    }
    const struct quicklist *q = o->u.ptr;
    uint64_t total = 0, rank = 0;
    void *scratch = NULL;
    for (uint32_t s = 0; s < q->segs.n; s++) {
        uint64_t in_seg = 0;
        assert_in_range(ql_seg(q, s)->n, 1, 256);
        for (uint32_t i = 0; i < ql_seg(q, s)->n; i++, rank++) {
            const struct gap_slot *node = ql_node(q, (struct ql_pos){ s, i });
            assert_true(node->count > 0);
            if (ql_is_plain(node)) {
                assert_int_equal(node->count, 1);
            } else {
                const unsigned char *lp = ql_read_packed(node, &scratch);
                assert_true(lp_is_valid(lp, lp_bytes(lp), true, NULL, NULL));
                assert_int_equal(lp_count(lp), node->count);
                assert_int_equal(lp_bytes(lp), ql_node_bytes(node));
            }
            bool is_end = rank < q->depth || rank + q->depth >= q->n_nodes;
            if (is_end || q->depth == 0) assert_true(node->kind == QL_PACKED || node->kind == QL_PLAIN);
            in_seg += node->count;
        }
        assert_int_equal(gap_at(&q->segs, s)->count, in_seg);
        total += in_seg;
    }
    assert_int_equal(q->n_nodes, rank);
    assert_int_equal(q->count, total);
    mem_free(scratch);
}

/* ---- random operations ---- */

struct sizes {
    unsigned usual, rare; /* lengths of elements, at most */
};

/* Numbers, short words of which many are equal, and now and then something long. */
static const char *random_text(char *buf, struct sizes z) {
    unsigned kind = (unsigned)rand() % 16;
    if (kind < 4) {
        snprintf(buf, 32, "%d", rand() % 20 - 5);
    } else if (kind < 6) {
        snprintf(buf, 32, "%lld", (long long)rand() * rand() - (1LL << 40));
    } else {
        unsigned len = (unsigned)rand() % ((kind == 6 ? z.rare : z.usual) + 1);
        char letter = (char)('a' + rand() % (kind < 10 ? 2 : 26));
        for (unsigned i = 0; i < len; i++) buf[i] = (kind & 1) ? letter : (char)('a' + (letter + i * i) % 26);
        buf[len] = 0;
    }
    return buf;
}

static struct list_value value_of(struct obj *o, const char *s) {
    struct list_value v = { .text = slice_cstr(s) };
    if (list_wants_object(o, v.text.len)) {
        v.str = obj_string_from_raw_take(mem_memdup0(s, v.text.len), v.text.len, v.text.len + 1);
        v.text = obj_string_bytes(v.str, NULL);
    }
    return v;
}

static void op_push(struct obj *o, struct model *m, const char *s) {
    bool head = rand() & 1;
    list_grow(o, 1, strlen(s));
    list_push(o, head ? LIST_HEAD : LIST_TAIL, value_of(o, s));
    model_put(m, head ? 0 : m->n, s);
}

static void op_insert(struct obj *o, struct model *m, const char *s) {
    size_t at = (size_t)rand() % m->n;
    char *pivot = mem_strdup(m->text[at]);
    bool after = rand() & 1;
    for (at = 0; strcmp(m->text[at], pivot) != 0; at++) {
    }
    struct list_place place;
    assert_false(list_find(o, SLICE_LIT("no such pivot"), &place));
    assert_true(list_find(o, slice_cstr(pivot), &place));
    list_grow(o, 1, strlen(s));
    list_insert(o, place, after, value_of(o, s));
    model_put(m, at + after, s);
    mem_free(pivot);
}

static void op_set(struct obj *o, struct model *m, const char *s) {
    size_t at = (size_t)rand() % m->n;
    list_grow(o, 1, strlen(s));
    list_set(o, at, value_of(o, s));
    model_cut(m, at, 1);
    model_put(m, at, s);
    list_shrink(o);
}

static void op_delete(struct obj *o, struct model *m) {
    size_t n = 1 + (size_t)rand() % (rand() % 8 ? 4 : m->n), at = (size_t)rand() % m->n;
    if (rand() % 3 == 0) at = rand() & 1 ? 0 : m->n - (n < m->n ? n : m->n);
    if (n > m->n - at) n = m->n - at;
    list_delete(o, at, n);
    model_cut(m, at, n);
    list_shrink(o);
}

static void op_remove(struct obj *o, struct model *m) {
    char *s = mem_strdup(m->text[(size_t)rand() % m->n]);
    size_t max = rand() % 2 ? (size_t)rand() % 4 : SIZE_MAX;
    bool backward = rand() & 1;
    assert_int_equal(list_remove_equal(o, slice_cstr(s), max, backward ? LIST_TAIL : LIST_HEAD),
                     model_remove(m, s, max, backward));
    list_shrink(o);
    mem_free(s);
}

static void random_run(int64_t fill, int64_t depth, struct sizes z, unsigned n_ops, unsigned max_len) {
    static char text[70000];
    struct model m = { 0 };
    atomic_store(&data_limits.list_max_listpack_size, fill);
    atomic_store(&data_limits.list_compress_depth, depth);
    struct obj *o = list_new();
    for (unsigned i = 0; i < n_ops; i++) {
        unsigned op = (unsigned)rand() % 16;
        if (m.n == 0 || (op < 9 && m.n < max_len))
            op_push(o, &m, random_text(text, z));
        else if (op < 11)
            op_insert(o, &m, random_text(text, z));
        else if (op < 13)
            op_set(o, &m, random_text(text, z));
        else if (op < 15)
            op_delete(o, &m);
        else
            op_remove(o, &m);
        assert_sound(o);
        assert_at(o, &m, (size_t)rand() % (m.n + 1));
        if (i % 16 == 0) assert_same(o, &m);
    }
    struct obj *copy = obj_dup(o);
    assert_int_equal(copy->enc, o->enc);
    assert_sound(copy);
    assert_same(copy, &m);
    assert_true(obj_mem_usage(o, 0) > 0 && obj_mem_usage(o, 5) > 0 && obj_free_effort(o) >= 1);
    obj_unref(o);
    assert_same(copy, &m);
    obj_unref(copy);
    model_done(&m);
}

static void test_list_random_operations_match_an_array(void **state) {
    (void)state;
    static const int64_t fills[] = { -5, -4, -3, -2, -1, 0, 1, 2, 3, 10, 128, -100, 1000000 };
    srand(1);
    for (size_t i = 0; i < sizeof(fills) / sizeof(*fills); i++)
        for (int64_t depth = 0; depth < 4; depth++) {
            random_run(fills[i], depth, (struct sizes){ 60, 2000 }, 800, 300);
            random_run(fills[i], depth, (struct sizes){ 1000, 66000 }, 300, 100);
        }
}

/* Enough nodes for many segments, cut and joined. */
static void test_list_many_segments_match_an_array(void **state) {
    (void)state;
    srand(2);
    random_run(1, 0, (struct sizes){ 10, 20 }, 12000, 3000);
    random_run(2, 1, (struct sizes){ 70, 90 }, 6000, 3000);
}

static void test_list_packed_threshold_makes_plain_nodes(void **state) {
    (void)state;
    srand(3);
    assert_true(ql_set_packed_threshold(20));
    random_run(-2, 0, (struct sizes){ 30, 300 }, 3000, 300);
    random_run(3, 1, (struct sizes){ 120, 300 }, 2000, 300);
    assert_true(ql_set_packed_threshold(1));
    random_run(-1, 2, (struct sizes){ 30, 300 }, 1000, 300);
    assert_true(ql_set_packed_threshold(1 << 30));
    random_run(-2, 0, (struct sizes){ 3000, 30000 }, 500, 100);
    assert_false(ql_set_packed_threshold(1ULL << 32));
    assert_true(ql_set_packed_threshold(0));
}

/* ---- conversions ---- */

static struct obj *list_of(unsigned n, size_t len, int64_t fill) {
    char text[10000];
    atomic_store(&data_limits.list_max_listpack_size, fill);
    atomic_store(&data_limits.list_compress_depth, 0);
    struct obj *o = list_new();
    memset(text, 'x', sizeof(text));
    for (unsigned i = 0; i < n; i++) {
        list_grow(o, 1, len);
        list_push(o, LIST_TAIL, (struct list_value){ .text = { text, len } });
    }
    return o;
}

static void test_list_grows_to_quicklist_at_the_limit(void **state) {
    (void)state;
    struct obj *o = list_of(128, 10, 128);
    assert_string_equal(obj_encoding_name(o), "listpack");
    list_grow(o, 1, 1);
    assert_string_equal(obj_encoding_name(o), "quicklist");
    obj_unref(o);
    o = list_of(81, 98, -2); /* 7 + 81 * 101 = 8,188 bytes */
    assert_string_equal(obj_encoding_name(o), "listpack");
    list_grow(o, 1, 4);
    assert_string_equal(obj_encoding_name(o), "listpack");
    list_grow(o, 1, 5);
    assert_string_equal(obj_encoding_name(o), "quicklist");
    obj_unref(o);
    o = list_of(1, 8193, 100); /* the safety limit of nodes limited by their number of elements */
    assert_string_equal(obj_encoding_name(o), "quicklist");
    obj_unref(o);
}

static void test_list_shrinks_to_listpack_at_half_the_limit(void **state) {
    (void)state;
    struct obj *o = list_of(20, 10, 10);
    assert_string_equal(obj_encoding_name(o), "quicklist");
    list_delete(o, 0, 14);
    list_shrink(o);
    assert_string_equal(obj_encoding_name(o), "quicklist");
    list_fit(o); /* one node, within the limit */
    assert_string_equal(obj_encoding_name(o), "listpack");
    obj_unref(o);
    o = list_of(20, 10, 10);
    list_delete(o, 5, 15);
    list_shrink(o);
    assert_string_equal(obj_encoding_name(o), "listpack");
    assert_int_equal(list_len(o), 5);
    obj_unref(o);
    o = list_of(1, 9000, -2);
    list_shrink(o); /* a large element by itself */
    assert_string_equal(obj_encoding_name(o), "quicklist");
    obj_unref(o);
}

/* ---- nodes ---- */

static void test_list_stats_count_full_nodes(void **state) {
    (void)state;
    struct list_stats st;
    struct obj *o = list_of(10, 10, 128);
    assert_false(list_stats(o, &st));
    obj_unref(o);
    o = list_of(1000, 100, -2);
    assert_true(list_stats(o, &st));
    assert_int_equal(st.nodes, 13); /* of 79 elements: 7 + 79 * 103 = 8,144 bytes */
    assert_int_equal(st.max, -2);
    assert_false(st.compressed);
    assert_int_equal(st.uncompressed_size, 13 * 7 + 1000 * 103);
    obj_unref(o);
}

static void test_list_compression_spares_the_ends(void **state) {
    (void)state;
    struct obj *raw = list_of(1000, 100, -2);
    atomic_store(&data_limits.list_compress_depth, 1);
    struct obj *o = list_new_quicklist();
    char text[100];
    memset(text, 'x', sizeof(text));
    for (unsigned i = 0; i < 1000; i++) list_push(o, LIST_TAIL, (struct list_value){ .text = { text, sizeof(text) } });
    assert_sound(o);
    const struct quicklist *q = o->u.ptr;
    for (uint32_t i = 1; i + 1 < q->n_nodes; i++) assert_int_equal(ql_node(q, (struct ql_pos){ 0, i })->kind, QL_LZF_PACKED);
    assert_true(obj_mem_usage(o, 0) < obj_mem_usage(raw, 0) / 3);
    obj_unref(o);
    obj_unref(raw);
}

struct rebuilt {
    struct obj *o;
    unsigned nodes, lzf;
};

static bool rebuild(void *arg, const struct list_node *n) {
    struct rebuilt *r = arg;
    r->nodes++;
    if (n->lzf.ptr) {
        r->lzf++;
        assert_true(n->lzf.len < n->raw_len);
        return true;
    }
    assert_int_equal(n->bytes.len, n->raw_len);
    if (n->is_plain)
        list_push(r->o, LIST_TAIL, (struct list_value){ .text = n->bytes });
    else
        list_append_listpack(r->o, lp_dup((const unsigned char *)n->bytes.ptr));
    return true;
}

static void test_list_nodes_can_be_saved_and_loaded(void **state) {
    (void)state;
    struct obj *o = list_of(500, 100, -2);
    struct rebuilt r = { .o = list_new_quicklist() };
    char big[9000];
    memset(big, 'y', sizeof(big));
    list_push(o, LIST_TAIL, (struct list_value){ .text = { big, sizeof(big) } });
    assert_true(list_each_node(o, rebuild, &r));
    list_append_listpack(r.o, lp_new(0)); /* dropped */
    list_fit(r.o);
    assert_int_equal(r.nodes, 8);
    assert_int_equal(list_len(r.o), 501);
    assert_sound(r.o);
    obj_unref(r.o);
    obj_unref(o);
    o = list_of(3, 10, -2);
    r = (struct rebuilt){ .o = list_new_quicklist() };
    assert_true(list_each_node(o, rebuild, &r));
    list_fit(r.o);
    assert_string_equal(obj_encoding_name(r.o), "listpack");
    assert_int_equal(list_len(r.o), 3);
    obj_unref(r.o);
    obj_unref(o);
}

static void test_list_large_element_is_not_copied(void **state) {
    (void)state;
    struct obj *o = list_of(3, 10, -2);
    struct obj *big = obj_string_new_raw(1 << 20);
    struct list_iter it;
    struct list_elem e;
    list_grow(o, 1, 1 << 20);
    assert_true(list_wants_object(o, 1 << 20));
    list_push(o, LIST_TAIL, (struct list_value){ .text = obj_string_bytes(big, NULL), .str = obj_ref(big) });
    list_iter_init(&it, o, 3, false);
    assert_true(list_iter_next(&it, &e));
    assert_ptr_equal(e.str, big);
    list_iter_done(&it);
    list_set(o, 3, (struct list_value){ .text = SLICE_LIT("small") });
    obj_unref(o);
    obj_unref(big);
}

/* Removing all of one value from a list whose nodes are full of it must not move the rest once for each. */
static void test_list_remove_of_alternating_values_is_linear(void **state) {
    (void)state;
    struct model m = { 0 };
    atomic_store(&data_limits.list_max_listpack_size, -5);
    struct obj *o = list_new_quicklist();
    for (unsigned i = 0; i < 400000; i++)
        list_push(o, LIST_TAIL, (struct list_value){ .text = i & 1 ? SLICE_LIT("1") : SLICE_LIT("2") });
    assert_int_equal(list_remove_equal(o, SLICE_LIT("1"), 50000, LIST_TAIL), 50000);
    assert_int_equal(list_remove_equal(o, SLICE_LIT("1"), UINT64_MAX, LIST_HEAD), 150000);
    assert_int_equal(list_remove_equal(o, SLICE_LIT("1"), UINT64_MAX, LIST_HEAD), 0);
    assert_sound(o);
    assert_int_equal(list_remove_equal(o, SLICE_LIT("2"), UINT64_MAX, LIST_TAIL), 200000);
    assert_same(o, &m);
    assert_int_equal(list_remove_equal(o, SLICE_LIT("2"), UINT64_MAX, LIST_TAIL), 0);
    obj_unref(o);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_list_random_operations_match_an_array),
        cmocka_unit_test(test_list_many_segments_match_an_array),
        cmocka_unit_test(test_list_packed_threshold_makes_plain_nodes),
        cmocka_unit_test(test_list_grows_to_quicklist_at_the_limit),
        cmocka_unit_test(test_list_shrinks_to_listpack_at_half_the_limit),
        cmocka_unit_test(test_list_stats_count_full_nodes),
        cmocka_unit_test(test_list_compression_spares_the_ends),
        cmocka_unit_test(test_list_nodes_can_be_saved_and_loaded),
        cmocka_unit_test(test_list_large_element_is_not_copied),
        cmocka_unit_test(test_list_remove_of_alternating_values_is_linear),
    };
    return cmocka_run_group_tests_name("list", tests, seed_hash, NULL);
}
