/* Hashes against a plain model, through all encodings, with times of fields; and the keyspace's part in expiring them. */
#include "data_test.h"

#include <string.h>

#include "base/buf.h"
#include "data/hash.h"
#include "data/limits.h"
#include "data/listpack.h"

/* ---- a model: one slot a field ---- */

#define FIELDS 300

struct model_field {
    bool is_there;
    char value[700];
    size_t len;
    int64_t when_ms;
};

struct model {
    struct model_field f[FIELDS];
    int64_t now_ms;
};

struct field_name {
    char text[400];
};

/* Some are integers, one is empty, one is long. */
static struct slice name_of(struct field_name *b, unsigned n) {
    int len = n % 3 == 0 ? snprintf(b->text, sizeof(b->text), "%u", n) : snprintf(b->text, sizeof(b->text), "field:%u", n);
    if (n == 7) return (struct slice){ "", 0 };
    if (n == 8) {
        memset(b->text, 'n', 300);
        return (struct slice){ b->text, 300 };
    }
    return (struct slice){ b->text, (size_t)len };
}
#define NAME(n) name_of(&(struct field_name){ { 0 } }, (n))

static unsigned number_of(struct slice name) {
    if (name.len == 0) return 7;
    if (name.len == 300) return 8;
    unsigned n = 0;
    for (size_t i = 0; i < name.len; i++)
        if (name.ptr[i] >= '0' && name.ptr[i] <= '9') n = n * 10 + (unsigned)(name.ptr[i] - '0');
    return n;
}

static bool model_live(const struct model *m, unsigned n) {
    return m->f[n].is_there && !(m->f[n].when_ms != HASH_NO_TIME && m->now_ms > m->f[n].when_ms);
}

static uint64_t model_count(const struct model *m, bool live_only) {
    uint64_t count = 0;
    for (unsigned i = 0; i < FIELDS; i++) count += live_only ? model_live(m, i) : m->f[i].is_there;
    return count;
}

static int64_t model_soonest(const struct model *m) {
    int64_t soonest = HASH_NO_TIME;
    for (unsigned i = 0; i < FIELDS; i++) {
        int64_t when = m->f[i].is_there ? m->f[i].when_ms : HASH_NO_TIME;
        if (when != HASH_NO_TIME && (soonest == HASH_NO_TIME || when < soonest)) soonest = when;
    }
    return soonest;
}

static void model_expire_one(void *arg, struct slice field) {
    struct model *m = arg;
    unsigned n = number_of(field);
    assert_true(m->f[n].is_there && !model_live(m, n));
    assert_int_equal(m->f[n].when_ms, model_soonest(m));
    m->f[n].is_there = false;
}

static void make_value(struct model_field *f) {
    switch (rand_below(4)) {
    case 0:
        f->len = (size_t)snprintf(f->value, sizeof(f->value), "%d", (int)rand_below(100000) - 50000);
        break;
    case 1:
        f->len = 0;
        break;
    default:
        f->len = rand_below(rand_below(8) ? 40 : sizeof(f->value));
        memset(f->value, 'a' + (int)rand_below(26), f->len);
    }
}

/* ---- comparing ---- */

struct seen {
    const struct model *m;
    uint64_t n;
    bool was[FIELDS];
};

static bool see(void *arg, const struct hash_pair *p) {
    struct seen *s = arg;
    unsigned n = number_of(p->field);
    assert_true(slice_eq(p->field, NAME(n)));
    assert_true(model_live(s->m, n) && !s->was[n]);
    assert_true(slice_eq(p->value, (struct slice){ s->m->f[n].value, s->m->f[n].len }));
    assert_int_equal(p->when_ms, s->m->f[n].when_ms);
    s->was[n] = true;
    s->n++;
    return true;
}

static void assert_same(const struct obj *o, const struct model *m) {
    struct seen s = { .m = m };
    assert_int_equal(hash_len(o), model_count(m, false));
    assert_int_equal(hash_len_live(o, m->now_ms), model_count(m, true));
    assert_true(hash_each(o, m->now_ms, see, &s));
    assert_int_equal(s.n, model_count(m, true));
    assert_int_equal(hash_soonest(o), model_soonest(m));
    void **refs = mem_calloc(hash_len(o) + 1, sizeof(*refs));
    struct seen by_ref = { .m = m };
    size_t n = hash_refs(o, m->now_ms, refs);
    for (size_t i = 0; i < n; i++) {
        struct hash_pair pair;
        assert_false(hash_ref_is_due(o, refs[i], m->now_ms));
        hash_ref_pair(o, refs[i], &pair);
        see(&by_ref, &pair);
    }
    assert_int_equal(by_ref.n, s.n);
    mem_free(refs);
    if (hash_len(o)) {
        struct hash_pair pair;
        hash_ref_pair(o, hash_random(o), &pair);
        assert_true(m->f[number_of(pair.field)].is_there);
    }
}

static void step(struct obj *o, struct model *m) {
    unsigned n = (unsigned)rand_below(FIELDS);
    struct model_field *f = &m->f[n];
    struct slice name = NAME(n);
    bool was_live = model_live(m, n);
    struct hash_pair pair;
    int64_t when_ms = m->now_ms + (int64_t)rand_below(50);
    switch (rand_below(9)) {
    case 0:
    case 1:
    case 2: {
        unsigned flags = rand_below(2) ? HASH_KEEP_TIME : 0;
        make_value(f);
        assert_int_equal(hash_set(o, name, (struct slice){ f->value, f->len }, m->now_ms, flags), !was_live);
        if (!was_live || !flags) f->when_ms = HASH_NO_TIME;
        f->is_there = true;
        break;
    }
    case 3:
        assert_int_equal(hash_delete(o, name, m->now_ms), was_live);
        if (was_live) f->is_there = false;
        break;
    case 4:
    case 5:
        if (!was_live) break;
        if (rand_below(4) == 0) when_ms = HASH_NO_TIME;
        hash_set_time(o, name, when_ms);
        f->when_ms = when_ms;
        break;
    case 6:
        m->now_ms += (int64_t)rand_below(10);
        assert_int_equal(hash_due(o, m->now_ms, 3),
                         model_count(m, false) - model_count(m, true) > 3 ? 3 : model_count(m, false) - model_count(m, true));
        break;
    case 7: {
        uint64_t due = model_count(m, false) - model_count(m, true);
        unsigned max = (unsigned)rand_below(5);
        assert_int_equal(hash_expire(o, m->now_ms, max, model_expire_one, m), due < max ? due : max);
        break;
    }
    default:
        assert_int_equal(hash_get(o, name, m->now_ms, &pair), was_live);
        assert_int_equal(hash_time(o, name, m->now_ms), was_live ? f->when_ms : HASH_NO_FIELD);
        if (was_live) assert_true(slice_eq(pair.value, (struct slice){ f->value, f->len }));
    }
}

static void run_model(int64_t max_entries, unsigned steps, enum obj_enc want) {
    static struct model m;
    memset(&m, 0, sizeof(m));
    m.now_ms = T0;
    atomic_store(&data_limits.hash_max_listpack_entries, max_entries);
    atomic_store(&data_limits.hash_max_listpack_value, 100000);
    struct obj *o = hash_new();
    assert_int_equal(o->enc, OBJ_ENC_LISTPACK);
    for (unsigned i = 0; i < steps; i++) {
        step(o, &m);
        if (i % 50 == 0) assert_same(o, &m);
        if (i % 200 == 0) {
            struct obj *copy = obj_dup(o);
            assert_int_equal(copy->enc, o->enc);
            obj_unref(o);
            o = copy;
        }
    }
    assert_same(o, &m);
    assert_int_equal(o->enc, want);
    assert_true(obj_mem_usage(o, 0) > 0 && obj_mem_usage(o, 5) > 0);
    obj_unref(o);
    atomic_store(&data_limits.hash_max_listpack_entries, 512);
    atomic_store(&data_limits.hash_max_listpack_value, 64);
}

static void test_random_operations_match_a_model(void **state) {
    (void)state;
    for (int i = 0; i < 4; i++) {
        run_model(100000, 4000, OBJ_ENC_LISTPACK_EX);
        run_model(0, 8000, OBJ_ENC_HASHTABLE);
        run_model(20, 8000, OBJ_ENC_HASHTABLE);
    }
}

/* ---- encodings ---- */

static void test_limits_decide_the_encoding(void **state) {
    (void)state;
    char long_text[65];
    memset(long_text, 'x', sizeof(long_text));
    struct obj *o = hash_new();
    for (unsigned i = 0; i < 512; i++) hash_set(o, KEY(i), SLICE_LIT("v"), T0, 0);
    assert_int_equal(o->enc, OBJ_ENC_LISTPACK);
    hash_set_time(o, KEY(5), T0 + 5);
    assert_int_equal(o->enc, OBJ_ENC_LISTPACK_EX);
    hash_set(o, KEY(512), SLICE_LIT("v"), T0, 0);
    assert_int_equal(o->enc, OBJ_ENC_HASHTABLE);
    assert_int_equal(hash_len(o), 513);
    assert_int_equal(hash_time(o, KEY(5), T0), T0 + 5);
    obj_unref(o);

    o = hash_new();
    hash_set(o, KEY(0), (struct slice){ long_text, 64 }, T0, 0);
    assert_int_equal(o->enc, OBJ_ENC_LISTPACK);
    hash_set(o, KEY(0), (struct slice){ long_text, 65 }, T0, 0);
    assert_int_equal(o->enc, OBJ_ENC_HASHTABLE);
    obj_unref(o);

    o = hash_new();
    const struct slice argv[] = { SLICE_LIT("f"), { long_text, 65 } };
    hash_expect(o, 1, argv);
    assert_int_equal(o->enc, OBJ_ENC_HASHTABLE);
    obj_unref(o);
}

static void test_listpacks_come_back_as_hashes(void **state) {
    (void)state;
    struct obj *o = hash_new();
    hash_set(o, SLICE_LIT("a"), SLICE_LIT("1"), T0, 0);
    hash_set(o, SLICE_LIT("b"), SLICE_LIT("2"), T0, 0);
    hash_set_time(o, SLICE_LIT("b"), T0 + 9);
    bool timed;
    const unsigned char *lp = hash_listpack(o, &timed);
    assert_true(timed);
    assert_int_equal(lp_count(lp), 6);
    assert_true(lp_eq(lp_first(lp), SLICE_LIT("b"))); /* the soonest first */
    struct obj *again = hash_from_listpack(lp_dup(lp), true);
    assert_int_equal(hash_time(again, SLICE_LIT("b"), T0), T0 + 9);
    assert_int_equal(hash_time(again, SLICE_LIT("a"), T0), HASH_NO_TIME);
    obj_unref(again);
    atomic_store(&data_limits.hash_max_listpack_entries, 1);
    again = hash_from_listpack(lp_dup(lp), true);
    assert_int_equal(again->enc, OBJ_ENC_HASHTABLE);
    assert_int_equal(hash_soonest(again), T0 + 9);
    obj_unref(again);
    atomic_store(&data_limits.hash_max_listpack_entries, 512);
    obj_unref(o);
}

static void test_large_values_are_objects(void **state) {
    (void)state;
    size_t len = 100000;
    char *text = mem_alloc(len);
    memset(text, 'q', len);
    struct hash_pair pair;
    struct obj *o = hash_new();
    hash_set(o, SLICE_LIT("f"), (struct slice){ text, len }, T0, 0);
    assert_true(hash_get(o, SLICE_LIT("f"), T0, &pair));
    assert_non_null(pair.large);
    assert_int_equal(pair.value.len, len);
    struct obj *held = obj_ref(pair.large);
    hash_set_time(o, SLICE_LIT("f"), T0 + 1);
    struct obj *copy = obj_dup(o);
    hash_set(o, SLICE_LIT("f"), SLICE_LIT("small"), T0, HASH_KEEP_TIME);
    assert_int_equal(hash_time(o, SLICE_LIT("f"), T0), T0 + 1);
    assert_int_equal(obj_string_len(held), len);
    assert_false(hash_set_large(o, SLICE_LIT("f"), held, T0, 0));
    assert_int_equal(hash_time(o, SLICE_LIT("f"), T0), HASH_NO_TIME);
    assert_true(hash_get(copy, SLICE_LIT("f"), T0, &pair));
    assert_int_equal(pair.value.len, len);
    obj_unref(o);
    obj_unref(copy);
    mem_free(text);
}

/* ---- in the keyspace ---- */

struct heard {
    struct buf log;
};

static void on_fields_expired(void *arg, int db, struct slice key, const struct slice *fields, unsigned n, bool is_key_gone) {
    struct heard *h = arg;
    buf_printf(&h->log, "%d:%.*s", db, (int)key.len, key.ptr);
    for (unsigned i = 0; i < n; i++) buf_printf(&h->log, " %.*s", (int)fields[i].len, fields[i].ptr);
    buf_append_cstr(&h->log, is_key_gone ? " gone;" : ";");
}

static struct entry *make_hash(struct keyspace *ks, int db, struct slice key, int64_t a_ms, int64_t b_ms) {
    struct obj *o = hash_new();
    hash_set(o, SLICE_LIT("a"), SLICE_LIT("1"), T0, 0);
    hash_set(o, SLICE_LIT("b"), SLICE_LIT("2"), T0, 0);
    hash_set_time(o, SLICE_LIT("a"), a_ms);
    hash_set_time(o, SLICE_LIT("b"), b_ms);
    return ks_set(ks, db, key, o, false);
}

static void assert_heard(struct heard *h, const char *want) {
    assert_string_equal(buf_cstr(&h->log), want);
    buf_clear(&h->log);
}

static void test_lookup_takes_due_fields_away(void **state) {
    (void)state;
    struct heard h = { 0 };
    struct keyspace *ks = ks_locked_new(2, 1, (struct ks_hooks){ .arg = &h, .fields_expired = on_fields_expired });
    make_hash(ks, 0, SLICE_LIT("k"), T0 + 10, T0 + 20);
    assert_non_null(find_quietly(ks, 0, SLICE_LIT("k"), T0 + 10));
    assert_heard(&h, "");
    struct entry *e = find_quietly(ks, 0, SLICE_LIT("k"), T0 + 11);
    assert_int_equal(hash_len(entry_value(e)), 1);
    assert_heard(&h, "0:k a;");
    assert_null(find_quietly(ks, 0, SLICE_LIT("k"), T0 + 21));
    assert_heard(&h, "0:k b gone;");
    assert_int_equal(ks_size(ks, 0), 0);
    struct ks_stats stats;
    ks_stats_get(ks, &stats);
    assert_int_equal(stats.expired_fields, 2);
    assert_int_equal(stats.expired, 0);
    buf_done(&h.log);
    ks_locked_free(ks);
}

static void test_kept_expired_fields_are_hidden(void **state) {
    (void)state;
    struct heard h = { 0 };
    struct keyspace *ks = ks_locked_new(1, 1, (struct ks_hooks){ .arg = &h, .fields_expired = on_fields_expired });
    make_hash(ks, 0, SLICE_LIT("k"), T0 + 10, T0 + 20);
    ks_set_keep_expired(ks, true);
    struct entry *e = find_quietly(ks, 0, SLICE_LIT("k"), T0 + 15);
    struct hash_pair pair;
    assert_int_equal(hash_len(entry_value(e)), 2);
    assert_int_equal(hash_len_live(entry_value(e), T0 + 15), 1);
    assert_false(hash_get(entry_value(e), SLICE_LIT("a"), T0 + 15, &pair));
    assert_false(hash_delete(entry_value(e), SLICE_LIT("a"), T0 + 15));
    assert_true(hash_get(entry_value(e), SLICE_LIT("a"), 0, &pair));
    bool more;
    assert_int_equal(ks_expire_cycle(ks, 0, T0 + 15, 10, &more), 0);
    assert_heard(&h, "");
    buf_done(&h.log);
    ks_locked_free(ks);
}

static void cycle(struct keyspace *ks, int64_t now_ms) {
    bool more = true;
    for (int i = 0; more && i < 1000; i++) ks_expire_cycle(ks, 0, now_ms, 3, &more);
    assert_false(more);
}

static void test_cycle_follows_the_key(void **state) {
    (void)state;
    struct heard h = { 0 };
    struct keyspace *ks = ks_locked_new(3, 1, (struct ks_hooks){ .arg = &h, .fields_expired = on_fields_expired });
    make_hash(ks, 0, SLICE_LIT("moved"), T0 + 10, T0 + 20);
    ks_set(ks, 1, SLICE_LIT("to"), ks_steal(ks, 0, SLICE_LIT("moved")), false);
    make_hash(ks, 0, SLICE_LIT("deleted"), T0 + 10, T0 + 20);
    ks_delete(ks, 0, SLICE_LIT("deleted"), true);
    make_hash(ks, 0, SLICE_LIT("overwritten"), T0 + 10, T0 + 20);
    ks_set(ks, 0, SLICE_LIT("overwritten"), obj_string_from_ll(1), false);
    struct entry *e = make_hash(ks, 0, SLICE_LIT("replaced"), T0 + 10, T0 + 20);
    ks_replace(ks, 0, SLICE_LIT("replaced"), e, obj_string_from_ll(1), false);
    e = set_num(ks, 0, SLICE_LIT("becomes"), 1);
    struct obj *o = obj_dup(entry_value(ks_find(ks, 1, SLICE_LIT("to"), T0, 0)));
    ks_replace(ks, 0, SLICE_LIT("becomes"), e, o, false);
    e = make_hash(ks, 0, SLICE_LIT("later"), T0 + 10, T0 + 20);
    hash_set_time(entry_value(e), SLICE_LIT("a"), T0 + 100); /* unsaid: found out when its time comes */
    hash_set_time(entry_value(e), SLICE_LIT("b"), T0 + 90);
    e = make_hash(ks, 0, SLICE_LIT("never"), T0 + 10, T0 + 20);
    hash_set_time(entry_value(e), SLICE_LIT("a"), HASH_NO_TIME);
    hash_set_time(entry_value(e), SLICE_LIT("b"), HASH_NO_TIME);
    ks_swap(ks, 1, 2);
    cycle(ks, T0 + 10);
    assert_heard(&h, "");
    cycle(ks, T0 + 15);
    assert_true(strstr(buf_cstr(&h.log), "2:to a;") && strstr(buf_cstr(&h.log), "0:becomes a;"));
    assert_int_equal(h.log.len, strlen("2:to a;0:becomes a;"));
    buf_clear(&h.log);
    cycle(ks, T0 + 30);
    assert_int_equal(h.log.len, strlen("2:to b gone;0:becomes b gone;"));
    buf_clear(&h.log);
    cycle(ks, T0 + 95);
    assert_heard(&h, "0:later b;");
    cycle(ks, T0 + 1000);
    assert_heard(&h, "0:later a gone;");
    assert_int_equal(ks_size(ks, 0), 3);
    buf_done(&h.log);
    ks_locked_free(ks);
}

static void test_index_survives_becoming_a_table(void **state) {
    (void)state;
    struct heard h = { 0 };
    struct keyspace *ks = ks_locked_new(1, 1, (struct ks_hooks){ .arg = &h, .fields_expired = on_fields_expired });
    struct entry *e = make_hash(ks, 0, SLICE_LIT("k"), T0 + 10, T0 + 20);
    hash_make_table(entry_value(e));
    hash_set_time(entry_value(e), SLICE_LIT("b"), T0 + 5);
    ks_fields_changed(ks, 0, e);
    cycle(ks, T0 + 6);
    assert_heard(&h, "0:k b;");
    ks_flush(ks, 0, true);
    cycle(ks, T0 + 60);
    assert_heard(&h, "");
    buf_done(&h.log);
    ks_locked_free(ks);
}

static void test_many_due_fields_are_left_to_the_cycle(void **state) {
    (void)state;
    struct keyspace *ks = ks_locked_new(1, 1, (struct ks_hooks){ 0 });
    struct obj *o = hash_new();
    for (unsigned i = 0; i < 5000; i++) {
        hash_set(o, KEY(i), SLICE_LIT("v"), T0, 0);
        hash_set_time(o, KEY(i), T0 + i % 7);
    }
    ks_set(ks, 0, SLICE_LIT("k"), o, false);
    assert_null(find_quietly(ks, 0, SLICE_LIT("k"), T0 + 100));
    struct entry *e = ks_find(ks, 0, SLICE_LIT("k"), T0 + 100, KS_FIND_WRITE); /* who writes goes on with what is there */
    assert_non_null(e);
    assert_int_equal(hash_len(entry_value(e)), 5000);
    assert_int_equal(hash_len_live(entry_value(e), T0 + 100), 0);
    bool more = false;
    unsigned n = ks_expire_cycle(ks, 0, T0 + 100, 100, &more);
    assert_int_equal(n, 100);
    assert_true(more);
    while (more) ks_expire_cycle(ks, 0, T0 + 100, 1000, &more);
    assert_int_equal(ks_size(ks, 0), 0);
    ks_locked_free(ks);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_operations_match_a_model),
        cmocka_unit_test(test_limits_decide_the_encoding),
        cmocka_unit_test(test_listpacks_come_back_as_hashes),
        cmocka_unit_test(test_large_values_are_objects),
        cmocka_unit_test(test_lookup_takes_due_fields_away),
        cmocka_unit_test(test_kept_expired_fields_are_hidden),
        cmocka_unit_test(test_cycle_follows_the_key),
        cmocka_unit_test(test_index_survives_becoming_a_table),
        cmocka_unit_test(test_many_due_fields_are_left_to_the_cycle),
    };
    return cmocka_run_group_tests(tests, seed_hash, NULL);
}
