/* The ordered map of IDs against an array; streams' nodes: counts, walking both ways, and hostile bytes. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "base/rand.h"
#include "data/listpack.h"
#include "data/stream.h"

#define MODEL_MAX 3000

static struct stream_id model[MODEL_MAX];
static size_t n_model;

static size_t model_place(struct stream_id id) {
    size_t i = 0;
    while (i < n_model && stream_id_cmp(model[i], id) < 0) i++;
    return i;
}

static void *value_of(struct stream_id id) {
    return (void *)(uintptr_t)(id.ms * 1000 + id.seq + 1);
}

static void assert_same(struct idmap *m) {
    struct idmap_it it;
    assert_int_equal(idmap_size(m), n_model);
    bool there = idmap_first(m, &it);
    for (size_t i = 0; i < n_model; i++, there = idmap_next(&it)) {
        assert_true(there && stream_id_cmp(idmap_it_id(&it), model[i]) == 0);
        assert_ptr_equal(idmap_it_value(&it), value_of(model[i]));
    }
    assert_false(there);
    there = idmap_last(m, &it);
    for (size_t i = n_model; i-- > 0; there = idmap_prev(&it))
        assert_true(there && stream_id_cmp(idmap_it_id(&it), model[i]) == 0);
    assert_false(there);
}

static void assert_seeks(struct idmap *m, struct stream_id id) {
    struct idmap_it it;
    size_t at = model_place(id);
    bool is_there = at < n_model && stream_id_cmp(model[at], id) == 0;
    assert_int_equal(idmap_get(m, id) != NULL, is_there);
    bool found = idmap_seek_ge(m, &it, id);
    assert_int_equal(found, at < n_model);
    if (found) assert_int_equal(stream_id_cmp(idmap_it_id(&it), model[at]), 0);
    found = idmap_seek_le(m, &it, id);
    assert_int_equal(found, is_there || at > 0);
    if (found) assert_int_equal(stream_id_cmp(idmap_it_id(&it), model[is_there ? at : at - 1]), 0);
}

static void put_or_remove(struct idmap *m, struct stream_id id, bool put) {
    size_t at = model_place(id);
    bool is_there = at < n_model && stream_id_cmp(model[at], id) == 0, is_new;
    if (put && n_model < MODEL_MAX) {
        void **slot = idmap_put(m, id, &is_new);
        assert_int_equal(is_new, !is_there);
        *slot = value_of(id);
        if (is_there) return;
        memmove(model + at + 1, model + at, (n_model - at) * sizeof *model);
        model[at] = id;
        n_model++;
    } else {
        assert_ptr_equal(idmap_remove(m, id), is_there ? value_of(id) : NULL);
        if (!is_there) return;
        n_model--;
        memmove(model + at, model + at + 1, (n_model - at) * sizeof *model);
    }
}

static void test_idmap_random_changes_equal_model(void **state) {
    (void)state;
    struct idmap m = { 0 };
    n_model = 0;
    for (int i = 0; i < 30000; i++) {
        struct stream_id id = { rand_below(600), rand_below(4) };
        unsigned put_percent = i / 5000 % 2 ? 30 : 70; /* grows and shrinks by turns */
        put_or_remove(&m, id, rand_below(100) < put_percent);
        if (i % 64 == 0) assert_same(&m);
        assert_seeks(&m, (struct stream_id){ rand_below(610), rand_below(4) });
    }
    idmap_done(&m, NULL);
}

static void test_idmap_queue_of_ids(void **state) {
    (void)state;
    struct idmap m = { 0 };
    n_model = 0;
    for (uint64_t i = 0; i < 20000; i++) { /* arrive at the end, leave from the front */
        put_or_remove(&m, (struct stream_id){ i, 0 }, true);
        if (i >= 500) put_or_remove(&m, (struct stream_id){ i - 500, 0 }, false);
        if (i % 500 == 0) assert_same(&m);
    }
    assert_true(idmap_mem(&m) < 64 * 1024);
    idmap_done(&m, NULL);
}

static void add(struct stream *s, uint64_t ms, const char *field) {
    char text[STR_LL_MAX];
    struct slice fv[] = { slice_cstr(field), { text, str_from_ull(text, ms) }, SLICE_LIT("other"), SLICE_LIT("v") };
    assert_true(stream_append(s, (struct stream_id){ ms, ms % 3 }, ms % 5 ? 2 : 1, fv));
}

static size_t count(struct stream *s, struct stream_id start, struct stream_id end, bool backwards) {
    struct stream_it it;
    size_t n = 0;
    stream_it_init(&it, s, start, end, backwards);
    while (stream_it_next(&it)) {
        struct slice field, value;
        int64_t v;
        size_t fields = it.n_fields;
        for (size_t i = 0; i < fields; i++) {
            stream_it_field(&it, &field, &value);
            if (i == 0) assert_true(str_to_ll(value, &v) && (uint64_t)v == it.id.ms);
        }
        n++;
    }
    return n;
}

static void test_stream_walks_what_is_left(void **state) {
    (void)state;
    struct stream *s = stream_new();
    for (uint64_t i = 1; i <= 1000; i++) add(s, i, i % 11 ? "f" : "g");
    assert_int_equal(count(s, STREAM_ID_MIN, STREAM_ID_MAX, false), 1000);
    for (uint64_t i = 3; i <= 1000; i += 3) assert_true(stream_delete(s, (struct stream_id){ i, i % 3 }));
    assert_false(stream_delete(s, (struct stream_id){ 3, 0 }));
    assert_int_equal(s->length, 667);
    assert_int_equal(count(s, STREAM_ID_MIN, STREAM_ID_MAX, true), 667);
    assert_int_equal(count(s, (struct stream_id){ 10, 0 }, (struct stream_id){ 20, 9 }, false), 8);
    struct stream_trim t = { .by = STREAM_TRIM_MAXLEN, .maxlen = 100 };
    assert_int_equal(stream_trim(s, &t), 567);
    assert_int_equal(count(s, STREAM_ID_MIN, STREAM_ID_MAX, false), 100);
    assert_int_equal(s->first_id.ms, stream_edge_id(s, true).ms);
    t = (struct stream_trim){ .by = STREAM_TRIM_MINID, .minid = { 990, 0 }, .approx = true };
    stream_trim(s, &t); /* whole nodes: something before 990 may stay */
    assert_true(s->length >= 7 && count(s, STREAM_ID_MIN, STREAM_ID_MAX, false) == s->length);
    t.approx = false;
    stream_trim(s, &t);
    assert_int_equal(count(s, STREAM_ID_MIN, STREAM_ID_MAX, true), 7);
    assert_int_equal(s->length, 7);
    stream_free(s);
}

static void test_stream_copy_has_its_own_groups(void **state) {
    (void)state;
    struct obj *o = stream_obj_new();
    struct stream *s = o->u.ptr;
    for (uint64_t i = 1; i <= 50; i++) add(s, i, "f");
    struct stream_group *g = stream_group_create(s, SLICE_LIT("g"), STREAM_ID_MIN, 0);
    assert_null(stream_group_create(s, SLICE_LIT("g"), STREAM_ID_MIN, 0));
    struct stream_consumer *a = stream_consumer_create(g, SLICE_LIT("a"), 1), *b = stream_consumer_create(g, SLICE_LIT("b"), 1);
    for (uint64_t i = 1; i <= 20; i++) stream_deliver(g, a, (struct stream_id){ i, 0 }, 5);
    stream_deliver(g, b, (struct stream_id){ 7, 0 }, 6); /* changes hands */
    struct obj *copy = obj_dup(o);
    assert_int_equal(stream_consumer_delete(g, SLICE_LIT("a")), 19);
    assert_true(stream_ack(g, (struct stream_id){ 7, 0 }));
    assert_false(stream_ack(g, (struct stream_id){ 7, 0 }));
    struct stream_group *gc = stream_group_find(copy->u.ptr, SLICE_LIT("g"));
    assert_int_equal(idmap_size(&gc->pel), 20);
    assert_int_equal(stream_nack_find(gc, (struct stream_id){ 7, 0 })->delivery_ms, 6);
    assert_true(obj_mem_usage(copy, 0) > 500);
    obj_unref(o);
    assert_int_equal(count(copy->u.ptr, STREAM_ID_MIN, STREAM_ID_MAX, false), 50);
    obj_unref(copy);
}

/* Whatever is accepted as a node can be walked: ASan watches. */
static void test_stream_hostile_nodes(void **state) {
    (void)state;
    for (int round = 0; round < 20000; round++) {
        struct stream *s = stream_new(), *loaded = stream_new();
        for (uint64_t i = 1; i <= 1 + rand_below(6); i++) add(s, i, rand_below(3) ? "f" : "g");
        struct idmap_it it;
        idmap_first(&s->nodes, &it);
        unsigned char *lp = lp_dup(idmap_it_value(&it));
        size_t len = lp_bytes(lp);
        for (uint64_t i = rand_below(4); i > 0; i--) lp[rand_below(len)] = (unsigned char)rand_u64();
        uint64_t entries;
        if (stream_node_is_valid(lp, len, &entries) && stream_load_node(loaded, (struct stream_id){ 1, 1 }, lp)) {
            loaded->length = entries;
            struct stream_it walk;
            for (int back = 0; back < 2; back++) {
                stream_it_init(&walk, loaded, STREAM_ID_MIN, STREAM_ID_MAX, back);
                while (stream_it_next(&walk)) {
                    struct slice f, v;
                    for (size_t i = 0, n = walk.n_fields; i < n; i++) stream_it_field(&walk, &f, &v);
                }
            }
        } else {
            mem_free(lp);
        }
        stream_free(s);
        stream_free(loaded);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_idmap_random_changes_equal_model),
        cmocka_unit_test(test_idmap_queue_of_ids),
        cmocka_unit_test(test_stream_walks_what_is_left),
        cmocka_unit_test(test_stream_copy_has_its_own_groups),
        cmocka_unit_test(test_stream_hostile_nodes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
