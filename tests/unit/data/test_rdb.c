/* Values in RDB format: what older versions wrote, round trips, and payloads with bytes changed. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "base/crc64.h"
#include "base/hash.h"
#include "base/rand.h"
#include "data/hash.h"
#include "data/list.h"
#include "data/listpack.h"
#include "data/rdb.h"
#include "data/rdb_skip.h"
#include "data/set.h"
#include "data/stream.h"
#include "data/zset.h"

static struct obj *load(unsigned type, const char *bytes, size_t len, const char **ret_err) {
    struct rdb_in in = { .p = (const unsigned char *)bytes, .end = (const unsigned char *)bytes + len };
    struct obj *o = rdb_load_value(&in, type, 0);
    assert_true((o == NULL) == (in.err != NULL));
    if (o || in.err == rdb_empty) { /* what passes over a value ends where the value does */
        struct rdb_in again = { .p = (const unsigned char *)bytes, .end = (const unsigned char *)bytes + len };
        assert_true(rdb_skip_value(&again, type));
        assert_true(again.p == in.p);
    }
    if (ret_err) *ret_err = in.err;
    return o;
}

#define LOAD(type, lit) load(type, lit, sizeof(lit) - 1, NULL)

static void assert_list(struct obj *o_take, const char *want) {
    struct buf got = { 0 };
    struct list_iter it;
    struct list_elem e;
    char tmp[STR_LL_MAX];
    assert_non_null(o_take);
    list_iter_init(&it, o_take, 0, false);
    while (list_iter_next(&it, &e)) {
        struct slice s = list_elem_text(&e, tmp);
        buf_printf(&got, "%.*s,", (int)s.len, s.ptr);
    }
    list_iter_done(&it);
    assert_string_equal(buf_cstr(&got), want);
    buf_done(&got);
    obj_unref(o_take);
}

/* Header, "hello", 12 (immediate), -2 (int8), 300 (int16), end. */
static void test_rdb_ziplist_is_read(void **state) {
    (void)state;
    assert_list(LOAD(RDB_LIST_ZIPLIST, "\x1b"
                                       "\x1b\0\0\0\x16\0\0\0\x04\0"
                                       "\x00\x05hello"
                                       "\x07\xfd"
                                       "\x02\xfe\xfe"
                                       "\x03\xc0\x2c\x01"
                                       "\xff"),
                "hello,12,-2,300,");
    assert_null(LOAD(RDB_LIST_ZIPLIST, "\x0b\x0b\0\0\0\x0a\0\0\0\0\0\xff")); /* empty */
    assert_null(LOAD(RDB_LIST_ZIPLIST, "\x0d\x0d\0\0\0\x0a\0\0\0\x01\0\x00\x05\xff"));
}

static void test_rdb_zipmap_is_read(void **state) {
    (void)state;
    struct obj *o = LOAD(RDB_HASH_ZIPMAP, "\x0e\x02\x01"
                                          "a\x02\x00"
                                          "bc\x01"
                                          "d\x01\x01"
                                          "e!\xff");
    struct hash_pair p;
    assert_non_null(o);
    assert_int_equal(hash_len(o), 2);
    assert_true(hash_get(o, SLICE_LIT("a"), 0, &p) && slice_eq(p.value, SLICE_LIT("bc")));
    assert_true(hash_get(o, SLICE_LIT("d"), 0, &p) && slice_eq(p.value, SLICE_LIT("e")));
    obj_unref(o);
}

static void test_rdb_old_zset_scores_are_text(void **state) {
    (void)state;
    struct obj *o = LOAD(RDB_ZSET, "\x02\x01"
                                   "a\x03"
                                   "1.5\x01"
                                   "b\xfe");
    double score;
    assert_true(o && zset_score(o, SLICE_LIT("a"), &score) && score == 1.5);
    assert_true(zset_score(o, SLICE_LIT("b"), &score) && score > 1e308);
    obj_unref(o);
    assert_null(LOAD(RDB_ZSET, "\x01\x01"
                               "a\xfd")); /* not a number */
}

static void test_rdb_what_is_not_sound_is_refused(void **state) {
    (void)state;
    const char *err;
    assert_null(load(RDB_SET, "\x02\x01x\x01x", 5, &err));
    assert_string_equal(err, "a member is there twice");
    assert_null(load(RDB_HASH, "\x02\x01x\x01y\x01x\x01z", 9, &err));
    assert_string_equal(err, "a field is there twice");
    assert_null(load(RDB_SET, "\x00", 1, &err));
    assert_string_equal(err, "empty");
    assert_null(load(RDB_STRING, "\x81\x7f\xff\xff\xff\xff\xff\xff\xff", 9, &err));
    assert_null(load(RDB_STRING, "\xc3\x03\x80\xff\xff\xff\xff\x01\x02\x03", 10, &err)); /* unpacks to 4 GiB, it says */
    assert_null(load(RDB_MODULE_2, "\x00", 1, &err));
    assert_string_equal(err, "values of modules cannot be loaded");
    assert_null(load(99, "\x00", 1, &err));
    assert_null(load(RDB_LIST_QUICKLIST_2, "\x01\x03\x01x", 4, &err));
    assert_null(load(RDB_SET_LISTPACK, "\x0b\x0b\0\0\0\x02\0\x01\x01\x01\x01\xff", 12, &err));
}

/* ---- round trips ---- */

static struct slice random_text(char *buf, uint64_t i) {
    size_t len = rand_below(8) ? rand_below(30) : rand_below(300);
    if (rand_below(3) == 0) return (struct slice){ buf, str_from_ll(buf, (int64_t)rand_u64() >> rand_below(64)) };
    for (size_t k = 0; k < len; k++) buf[k] = (char)('a' + (i + k) % 3);
    return (struct slice){ buf, len };
}

static struct obj *random_obj(unsigned type) {
    uint64_t n = 1 + rand_below(rand_below(4) ? 20 : 900);
    char buf[400], buf2[400];
    struct obj *o = type == OBJ_LIST   ? list_new()
                    : type == OBJ_SET  ? set_new()
                    : type == OBJ_ZSET ? zset_new(0, 0)
                    : type == OBJ_HASH ? hash_new()
                                       : stream_obj_new();
    for (uint64_t i = 1; i <= n; i++) {
        struct slice a = random_text(buf, i), b = random_text(buf2, i);
        struct slice fv[] = { SLICE_LIT("field"), a };
        switch (type) {
        case OBJ_LIST:
            list_grow(o, 1, a.len);
            list_push(o, LIST_TAIL, (struct list_value){ .text = a });
            break;
        case OBJ_SET:
            set_add(o, a);
            break;
        case OBJ_ZSET:
            zset_add(o, (double)(int64_t)rand_u64() / 3, a, 0, NULL);
            break;
        case OBJ_HASH:
            hash_set(o, a, b, 0, 0);
            if (i % 5 == 0) hash_set_time(o, a, (int64_t)(1000000 + rand_below(1000)));
            break;
        default:
            stream_append(o->u.ptr, (struct stream_id){ i, 0 }, 1, fv);
        }
    }
    return o;
}

static void test_rdb_round_trip_and_changed_bytes(void **state) {
    (void)state;
    for (int round = 0; round < 1500; round++) {
        struct obj *o = random_obj(OBJ_LIST + (unsigned)round % 5);
        struct buf payload = { 0 }, again = { 0 };
        struct slice body;
        rdb_dump(&payload, o);
        assert_true(rdb_check_payload(buf_slice(&payload), &body));
        struct obj *copy = load((unsigned char)body.ptr[0], body.ptr + 1, body.len - 1, NULL);
        assert_non_null(copy);
        assert_int_equal(copy->type, o->type);
        rdb_dump(&again, copy);
        if (o->enc != OBJ_ENC_HASHTABLE && o->enc == copy->enc) assert_true(slice_eq(buf_slice(&again), buf_slice(&payload)));
        obj_unref(copy);
        for (int k = 0; k < 20; k++) {
            char *bytes = mem_memdup0(body.ptr, body.len);
            size_t len = rand_below(4) ? body.len : rand_below(body.len + 1);
            for (uint64_t i = 1 + rand_below(3); i > 0; i--) bytes[rand_below(body.len)] = (char)rand_u64();
            char *exact = mem_memdup0(bytes, len);
            copy = len > 1 ? load((unsigned char)exact[0], exact + 1, len - 1, NULL) : NULL;
            if (copy) { /* accepted: then it can be used */
                buf_clear(&again);
                rdb_dump(&again, copy);
            }
            obj_unref(copy);
            mem_free(exact);
            mem_free(bytes);
        }
        buf_done(&payload);
        buf_done(&again);
        obj_unref(o);
    }
}

/* A source that gives a byte or two at a time. */
struct drip {
    const unsigned char *p, *end;
};

static bool drip_more(struct rdb_in *in) {
    struct drip *d = in->arg;
    if (d->p == d->end) return false;
    in->p = d->p++;
    if (d->p < d->end) d->p++;
    in->end = d->p;
    return true;
}

static int collect(void *arg, const void *p, size_t n) {
    buf_append(arg, p, n);
    return 0;
}

static void test_rdb_in_pieces(void **state) {
    (void)state;
    struct buf file = { 0 };
    struct obj *o = random_obj(OBJ_HASH), *big = obj_string_new_raw(700000);
    struct rdb_out out = { .sink = collect, .arg = &file, .checksum = true };
    rdb_save_value(&out, big, RDB_STRING);
    rdb_save_value(&out, o, rdb_type_of(o, RDB_FORMS_FILE));
    assert_int_equal(rdb_flush(&out), 0);
    assert_int_equal(out.bytes, file.len);
    assert_int_equal(out.crc, crc64(0, file.data, file.len));
    rdb_out_done(&out);
    struct drip d = { (unsigned char *)file.data, (unsigned char *)file.data + file.len };
    struct rdb_in in = { .more = drip_more, .arg = &d };
    struct obj *s = rdb_load_value(&in, RDB_STRING, 0), *h = rdb_load_value(&in, rdb_type_of(o, RDB_FORMS_FILE), 0);
    assert_true(s && obj_string_len(s) == 700000 && h && hash_len(h) == hash_len(o));
    assert_null(rdb_load_value(&in, RDB_STRING, 0));
    assert_string_equal(in.err, "the data ends too early");
    obj_unref(s);
    obj_unref(h);
    obj_unref(o);
    obj_unref(big);
    buf_done(&file);
}

static void test_crc64_check_value(void **state) {
    (void)state;
    assert_int_equal(crc64(0, "123456789", 9), 0xe9c6d914c4b8d9caULL);
    char buf[100];
    for (size_t i = 0; i < sizeof buf; i++) buf[i] = (char)(i * 7);
    for (size_t cut = 0; cut <= sizeof buf; cut++)
        assert_int_equal(crc64(crc64(0, buf, cut), buf + cut, sizeof buf - cut), crc64(0, buf, sizeof buf));
}

/* A set's listpack of n members, of which the last is the one at `twin` again (-1: none). */
static struct obj *load_set_of(int n, int twin, const char **ret_err) {
    unsigned char *lp = lp_new(0);
    for (int i = 0; i < n; i++) {
        char text[64];
        int v = i == n - 1 && twin >= 0 ? twin : i;
        int len = v % 3 ? snprintf(text, sizeof text, "member-with-a-long-name-%d-and-an-end", v)
                        : snprintf(text, sizeof text, "%d", v);
        lp = lp_append(lp, (struct slice){ text, (size_t)len });
    }
    struct rdb_out out = { 0 };
    rdb_put_blob(&out, lp, lp_bytes(lp));
    struct obj *o = load(RDB_SET_LISTPACK, out.buf.data, out.buf.len, ret_err);
    mem_free(lp);
    rdb_out_done(&out);
    return o;
}

static void test_rdb_listpacks_with_twins_are_refused(void **state) {
    static const int sizes[] = { 2, 9, 63, 64, 65, 300 };
    (void)state;
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++) {
        const char *err;
        obj_unref(load_set_of(sizes[k], -1, &err));
        assert_null(err);
        for (int twin = 0; twin < sizes[k] - 1; twin++) {
            assert_null(load_set_of(sizes[k], twin, &err));
            assert_string_equal(err, "a member is there twice");
        }
    }
}

/* ---- large collections, in pieces ---- */

struct pieces {
    const unsigned char *p, *end;
    size_t size;
};

static bool next_piece(struct rdb_in *in) {
    struct pieces *from = in->arg;
    size_t left = (size_t)(from->end - from->p), n = left < from->size ? left : from->size;
    if (n == 0) return false;
    in->p = from->p;
    in->end = from->p += n;
    return true;
}

/* n members or fields, in disorder or in order; the one with number `twin` is there again at the end, in place of the last. */
static void put_collection(struct rdb_out *out, unsigned type, unsigned n, int twin, int order) {
    char name[300], value[20000];
    memset(name, 'n', sizeof name);
    memset(value, 'v', sizeof value);
    rdb_put_len(out, n);
    for (unsigned i = 0; i < n; i++) {
        unsigned id = twin >= 0 && i == n - 1 ? (unsigned)twin : order > 0 ? i : order < 0 ? n - i : i * 7919 % 10007;
        size_t len = id % 50 == 3 ? 290 : 6;
        snprintf(name, sizeof name, "%06u", id);
        name[6] = 'n';
        rdb_put_string(out, (struct slice){ name, len });
        if (type == RDB_ZSET_2)
            rdb_put_double(out, id / 2); /* pairs of equal ones */
        else
            rdb_put_string(out, (struct slice){ value, id % 100 == 5 ? sizeof value : id % 300 });
    }
}

static struct obj *load_collection(const struct rdb_out *out, unsigned type, size_t piece, const char **ret_err) {
    struct pieces from = { (const unsigned char *)out->buf.data, (const unsigned char *)out->buf.data + out->buf.len, piece };
    struct rdb_in in = { .more = next_piece, .arg = &from };
    struct obj *o = rdb_load_value(&in, type, 0);
    *ret_err = in.err;
    if (!o) return NULL;
    assert_true(in.p == in.end && from.p == from.end);
    from.p = (const unsigned char *)out->buf.data;
    struct rdb_in again = { .more = next_piece, .arg = &from };
    assert_true(rdb_skip_value(&again, type) && again.p == again.end && from.p == from.end);
    return o;
}

static void check_collection(const struct obj *o, unsigned type, unsigned n) {
    if (type == RDB_ZSET_2) {
        assert_int_equal(o->enc, OBJ_ENC_SKIPLIST);
        assert_true(zset_len(o) == n && zset_check(o));
        return;
    }
    struct hash_pair pair;
    assert_int_equal(o->enc, OBJ_ENC_HASHTABLE);
    assert_int_equal(hash_len(o), n);
    assert_true(hash_get(o, SLICE_LIT("000105"), 0, &pair) && pair.value.len == 20000 && pair.large);
    assert_true(hash_get(o, SLICE_LIT("000106"), 0, &pair) && pair.value.len == 106 && !pair.large);
}

static void test_rdb_large_collections_in_pieces(void **state) {
    (void)state;
    static const size_t sizes[] = { 1, 700, 1 << 20 };
    for (unsigned k = 0; k < 2 * 3 * 3; k++) {
        unsigned type = k % 2 ? RDB_HASH : RDB_ZSET_2, n = 1500;
        int order = (int)(k / 2 % 3) - 1;
        const char *err;
        struct rdb_out out = { 0 };
        put_collection(&out, type, n, -1, order);
        struct obj *o = load_collection(&out, type, sizes[k / 6], &err);
        assert_null(err);
        if (type == RDB_ZSET_2 || order) check_collection(o, type, n);
        obj_unref(o);
        out.buf.len--;
        assert_null(load_collection(&out, type, sizes[k / 6], &err));
        assert_string_equal(err, "the data ends too early");
        buf_clear(&out.buf);
        put_collection(&out, type, n, 777, 1);
        assert_null(load_collection(&out, type, sizes[k / 6], &err));
        assert_string_equal(err, type == RDB_HASH ? "a field is there twice" : "a member is there twice");
        rdb_out_done(&out);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_crc64_check_value),
        cmocka_unit_test(test_rdb_ziplist_is_read),
        cmocka_unit_test(test_rdb_zipmap_is_read),
        cmocka_unit_test(test_rdb_old_zset_scores_are_text),
        cmocka_unit_test(test_rdb_what_is_not_sound_is_refused),
        cmocka_unit_test(test_rdb_round_trip_and_changed_bytes),
        cmocka_unit_test(test_rdb_large_collections_in_pieces),
        cmocka_unit_test(test_rdb_in_pieces),
        cmocka_unit_test(test_rdb_listpacks_with_twins_are_refused),
    };
    hash_seed_init();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
