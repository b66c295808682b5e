/* Values from RDB format. See rdb.h. Place in the flow: under RESTORE, and what reads files and full synchronisations. Thread:
 * the loader's; nothing here touches the keyspace.
 *
 * Nothing that is read is trusted. Compact encodings are walked once (lp_is_valid, intset_is_valid) and looked through for
 * members that are there twice; what is built element by element finds those by itself. */
#include <math.h>
#include <string.h>

#include "base/alloc.h"
#include "base/hash.h"
#include "data/hash.h"
#include "data/intset.h"
#include "data/list.h"
#include "data/listpack.h"
#include "data/rdb_priv.h"
#include "data/set.h"
#include "data/zset.h"

#define NODE_PLAIN 1
#define NODE_PACKED 2
#define SCORE_BYTES_MAX 256 /* as text, with its length */

static struct obj *fail(struct rdb_in *in, struct obj *o, const char *why) {
    rdb_fail(in, why);
    return obj_unref(o);
}

/* ---- listpacks ---- */

unsigned char *rdb_get_listpack(struct rdb_in *in) {
    char *bytes;
    size_t len;
    if (!rdb_get_string(in, &bytes, &len)) return NULL;
    if (lp_is_valid((unsigned char *)bytes, len, true, NULL, NULL)) return (unsigned char *)bytes;
    mem_free(bytes);
    rdb_fail(in, "a listpack is not valid");
    return NULL;
}

/* The same of an older encoding. */
static unsigned char *get_old(struct rdb_in *in, unsigned char *(*convert)(const unsigned char *bytes, size_t len)) {
    char *bytes;
    size_t len;
    if (!rdb_get_string(in, &bytes, &len)) return NULL;
    unsigned char *lp = convert((unsigned char *)bytes, len);
    mem_free(bytes);
    if (!lp) rdb_fail(in, "a ziplist or zipmap is not valid");
    return lp;
}

/* Of so few, any hash will do: nobody can make it slow. */
static uint64_t quick_hash(struct slice s) {
    uint64_t head = 0, tail = 0;
    memcpy(&head, s.ptr, s.len < 8 ? s.len : 8);
    if (s.len > 8) memcpy(&tail, s.ptr + s.len - 8, 8);
    uint64_t h = (head ^ s.len) * 0x9e3779b97f4a7c15ULL ^ tail;
    return (h ^ h >> 29) * 0xbf58476d1ce4e5b9ULL;
}

#define FEW 64 /* items */

static bool few_have_duplicates(const unsigned char *lp, size_t step) {
    const unsigned char *seen[FEW];
    uint64_t hash[FEW];
    uint8_t table[4 * FEW] = { 0 }; /* 1 + index; 0: none */
    size_t n = 0, i = 0;
    for (const unsigned char *p = lp_first(lp); p; p = lp_next(lp, p), i++) {
        char tmp[STR_LL_MAX];
        if (i % step) continue;
        struct slice s = lp_get(p, tmp);
        uint64_t h = quick_hash(s);
        size_t at = h >> 56;
        for (; table[at]; at = (at + 1) & (4 * FEW - 1))
            if (hash[table[at] - 1] == h && lp_eq(seen[table[at] - 1], s)) return true;
        seen[n] = p;
        hash[n] = h;
        table[at] = (uint8_t)++n;
    }
    return false;
}

/* Whether two of the elements 0, step, 2 * step... are equal. */
static bool has_duplicates(const unsigned char *lp, size_t step) {
    if (lp_count(lp) <= FEW * step) return few_have_duplicates(lp, step);
    size_t n = lp_count(lp) / step, slots = 4;
    while (slots < 2 * n) slots *= 2;
    const unsigned char **table = mem_zalloc(slots * sizeof *table);
    bool found = false;
    size_t i = 0;
    for (const unsigned char *p = lp_first(lp); p && !found; p = lp_next(lp, p), i++) {
        char tmp[STR_LL_MAX];
        if (i % step) continue;
        struct slice s = lp_get(p, tmp);
        size_t at = hash_bytes(s.ptr, s.len) & (slots - 1);
        while (table[at] && !(found = lp_eq(table[at], s))) at = (at + 1) & (slots - 1);
        table[at] = p;
    }
    mem_free(table);
    return found;
}

/* A listpack of so many elements an item, none there twice; freed and NULL when it is not. */
static unsigned char *check_items(struct rdb_in *in, unsigned char *lp, size_t step) {
    const char *why = NULL;
    if (!lp) return NULL;
    size_t n = lp_count(lp);
    if (n == 0)
        why = rdb_empty;
    else if (n % step)
        why = "a listpack has half an item";
    else if (has_duplicates(lp, step))
        why = "a member is there twice";
    if (!why) return lp;
    mem_free(lp);
    rdb_fail(in, why);
    return NULL;
}

/* ---- strings and lists ---- */

static struct obj *string_obj(char *p_take, size_t len) {
    if (len > OBJ_INLINE_MAX) return obj_string_from_raw_take(p_take, len, len + 1);
    struct obj *o = obj_string_new(p_take, len);
    mem_free(p_take);
    return o;
}

static struct obj *load_string(struct rdb_in *in) {
    char *p;
    size_t len;
    return rdb_get_string(in, &p, &len) ? string_obj(p, len) : NULL;
}

static void push(struct obj *list, char *p_take, size_t len) {
    struct list_value v = { .text = { p_take, len } };
    if (list_wants_object(list, len)) {
        v.str = obj_string_from_raw_take(p_take, len, len + 1);
        list_push(list, LIST_TAIL, v);
    } else {
        list_push(list, LIST_TAIL, v);
        mem_free(p_take);
    }
}

static bool load_plain(struct rdb_in *in, struct obj *list) {
    char *p;
    size_t len;
    if (!rdb_get_string(in, &p, &len)) return false;
    push(list, p, len);
    return true;
}

static bool load_packed(struct obj *list, unsigned char *lp_take) {
    if (lp_take) list_append_listpack(list, lp_take);
    return lp_take != NULL;
}

static bool load_node(struct rdb_in *in, struct obj *list, unsigned type) {
    if (type == RDB_LIST) return load_plain(in, list);
    if (type == RDB_LIST_QUICKLIST) return load_packed(list, get_old(in, rdb_ziplist_to_listpack));
    uint64_t kind = rdb_get_len(in, NULL);
    if (kind == NODE_PLAIN) return load_plain(in, list);
    if (kind == NODE_PACKED) return load_packed(list, rdb_get_listpack(in));
    return rdb_fail(in, "a list has a node of unknown kind");
}

static struct obj *load_list(struct rdb_in *in, unsigned type) {
    struct obj *o = list_new_quicklist();
    if (type == RDB_LIST_ZIPLIST) {
        load_packed(o, get_old(in, rdb_ziplist_to_listpack));
    } else {
        uint64_t n = rdb_get_len(in, NULL);
        while (n-- > 0 && !in->err && load_node(in, o, type)) {
        }
    }
    if (in->err) return obj_unref(o);
    if (list_len(o) == 0) return fail(in, o, rdb_empty);
    list_fit(o);
    return o;
}

/* A string: where it was read (or in tmp), or as bytes of its own. */
struct text {
    char tmp[RDB_PEEK_TMP];
    char *owned; /* NULL: valid until more is read */
    struct slice s;
};

/* after: so many bytes may be read before the text is used. */
static bool get_text(struct rdb_in *in, struct text *t, size_t after) {
    const unsigned char *p = in->p;
    t->owned = NULL;
    if (rdb_take_string(in, t->tmp, &t->s)) {
        if ((size_t)(in->end - in->p) >= after) return true;
        in->p = p;
    }
    if (!rdb_get_string(in, &t->owned, &t->s.len)) return false;
    t->s.ptr = t->owned;
    return true;
}

/* ---- sets ---- */

static struct obj *load_set(struct rdb_in *in) {
    struct obj *o = NULL;
    char *p;
    size_t len;
    uint64_t n = rdb_get_len(in, NULL);
    for (uint64_t i = 0; i < n; i++) {
        if (!rdb_get_string(in, &p, &len)) return obj_unref(o);
        struct slice member = { p, len };
        if (!o) o = set_new_for(member, n > SIZE_MAX / 2 ? SIZE_MAX / 2 : (size_t)n);
        bool is_new = set_add(o, member);
        mem_free(p);
        if (!is_new) return fail(in, o, "a member is there twice");
    }
    if (!o) return fail(in, NULL, in->err ? in->err : rdb_empty);
    set_compact(o);
    return o;
}

static struct obj *load_intset(struct rdb_in *in) {
    char *bytes;
    size_t len;
    if (!rdb_get_string(in, &bytes, &len)) return NULL;
    unsigned char *blob = (unsigned char *)bytes;
    const char *why = !intset_is_valid(blob, len, true) ? "an intset is not valid" : intset_len(blob) == 0 ? rdb_empty : NULL;
    if (!why) return set_from_blob(OBJ_ENC_INTSET, blob);
    mem_free(bytes);
    return fail(in, NULL, why);
}

static struct obj *load_set_listpack(struct rdb_in *in) {
    unsigned char *lp = check_items(in, rdb_get_listpack(in), 1);
    return lp ? set_from_blob(OBJ_ENC_LISTPACK, lp) : NULL;
}

/* ---- sorted sets ---- */

static struct obj *load_zset(struct rdb_in *in, unsigned type) {
    struct zset_builder *b = zset_builder_new();
    struct text member;
    for (uint64_t n = rdb_get_len(in, NULL); n > 0 && !in->err; n--) {
        if (!get_text(in, &member, SCORE_BYTES_MAX)) break;
        double v = type == RDB_ZSET ? rdb_get_text_double(in) : rdb_get_double(in);
        if (isnan(v))
            rdb_fail(in, "a score is not a number");
        else
            zset_builder_push(b, member.s, v);
        mem_free(member.owned);
    }
    if (!in->err && !zset_builder_settle(b)) rdb_fail(in, "a member is there twice");
    if (!in->err && zset_builder_len(b) == 0) rdb_fail(in, rdb_empty);
    if (!in->err) return zset_builder_finish(b);
    zset_builder_free(b);
    return NULL;
}

static struct obj *load_zset_listpack(struct rdb_in *in, unsigned char *lp) {
    if (lp && lp_count(lp) == 0) {
        mem_free(lp);
        return fail(in, NULL, rdb_empty);
    }
    struct obj *o = lp ? zset_from_listpack(lp) : NULL;
    if (!o) rdb_fail(in, "a listpack is no sorted set");
    return o;
}

/* ---- hashes ---- */

static void nobody(void *arg, struct slice field) {
    (void)arg;
    (void)field;
}

/* Without the fields that are due. What is empty then is no error: the key has simply gone. */
static struct obj *live_fields(struct rdb_in *in, struct obj *o, int64_t now_ms) {
    if (now_ms > 0 && hash_soonest(o) != HASH_NO_TIME) hash_expire(o, now_ms, UINT32_MAX, nobody, NULL);
    return hash_len(o) ? o : fail(in, o, rdb_empty);
}

static bool load_pair(struct rdb_in *in, struct obj *o, int64_t when_ms) {
    char *field, *value;
    size_t field_len, value_len;
    if (!rdb_get_string(in, &field, &field_len)) return false;
    bool ok = rdb_get_string(in, &value, &value_len);
    if (ok) {
        struct slice f = { field, field_len };
        ok = value_len >= HASH_LARGE_MIN ? hash_set_large(o, f, obj_string_from_raw_take(value, value_len, value_len + 1), 0, 0)
                                         : hash_set(o, f, (struct slice){ value, value_len }, 0, 0);
        if (value_len < HASH_LARGE_MIN) mem_free(value);
        if (ok && when_ms != HASH_NO_TIME) hash_set_time(o, f, when_ms);
        if (!ok) rdb_fail(in, "a field is there twice");
    }
    mem_free(field);
    return ok;
}

static void add_pair(struct rdb_in *in, struct hash_builder *b) {
    struct text field, value;
    const unsigned char *p = in->p;
    if (rdb_take_string(in, field.tmp, &field.s) && rdb_take_string(in, value.tmp, &value.s)) {
        hash_builder_add(b, field.s, value.s);
        return;
    }
    in->p = p;
    if (!rdb_get_string(in, &field.owned, &field.s.len)) return;
    field.s.ptr = field.owned;
    if (get_text(in, &value, 0)) {
        hash_builder_add(b, field.s, value.s);
        mem_free(value.owned);
    }
    mem_free(field.owned);
}

/* Many fields without times. */
static struct obj *load_hash_table(struct rdb_in *in, uint64_t n) {
    struct hash_builder *b = hash_builder_new();
    for (; n > 0 && !in->err; n--) add_pair(in, b);
    if (in->err) {
        hash_builder_free(b);
        return NULL;
    }
    struct obj *o = hash_builder_finish(b);
    return o ? o : fail(in, NULL, "a field is there twice");
}

static struct obj *load_hash(struct rdb_in *in, unsigned type, int64_t now_ms) {
    uint64_t soonest_ms = type == RDB_HASH_METADATA ? rdb_get_u64(in) : 0, n = rdb_get_len(in, NULL);
    if (type == RDB_HASH && n > 0 && hash_is_table_of(n)) return load_hash_table(in, n);
    struct obj *o = hash_new();
    for (; n > 0 && !in->err; n--) {
        uint64_t distance = type == RDB_HASH_METADATA ? rdb_get_len(in, NULL) : 0;
        if (soonest_ms > HASH_TIME_MAX || distance > HASH_TIME_MAX - soonest_ms + 1) {
            rdb_fail(in, "a field's time is out of range");
            break;
        }
        if (!load_pair(in, o, distance ? (int64_t)(soonest_ms + distance - 1) : HASH_NO_TIME)) break;
    }
    return in->err ? obj_unref(o) : live_fields(in, o, now_ms);
}

/* The third element of each item is a time, ascending, those without one last. */
static bool times_ascend(const unsigned char *lp) {
    int64_t last = 1, v;
    size_t i = 0;
    struct slice text;
    for (const unsigned char *p = lp_first(lp); p; p = lp_next(lp, p), i++) {
        if (i % 3 != 2) continue;
        if (!lp_get_int(p, &v, &text) || v < 0 || v > HASH_TIME_MAX || (v != 0 && (last == 0 || v < last))) return false;
        last = v;
    }
    return true;
}

static struct obj *load_hash_listpack(struct rdb_in *in, unsigned char *lp, bool timed, int64_t now_ms) {
    lp = check_items(in, lp, timed ? 3 : 2);
    if (!lp) return NULL;
    if (timed && !times_ascend(lp)) {
        mem_free(lp);
        return fail(in, NULL, "a hash's times are not valid");
    }
    return live_fields(in, hash_from_listpack(lp, timed), now_ms);
}

/* ---- all ---- */

static struct obj *load_hash_listpack_ex(struct rdb_in *in, int64_t now_ms) {
    rdb_get_u64(in); /* the soonest time: the listpack says it too */
    return load_hash_listpack(in, rdb_get_listpack(in), true, now_ms);
}

struct obj *rdb_load_value(struct rdb_in *in, unsigned type, int64_t now_ms) {
    switch (type) {
    case RDB_STRING:
        return load_string(in);
    case RDB_LIST:
    case RDB_LIST_ZIPLIST:
    case RDB_LIST_QUICKLIST:
    case RDB_LIST_QUICKLIST_2:
        return load_list(in, type);
    case RDB_SET:
        return load_set(in);
    case RDB_SET_INTSET:
        return load_intset(in);
    case RDB_SET_LISTPACK:
        return load_set_listpack(in);
    case RDB_ZSET:
    case RDB_ZSET_2:
        return load_zset(in, type);
    case RDB_ZSET_ZIPLIST:
        return load_zset_listpack(in, get_old(in, rdb_ziplist_to_listpack));
    case RDB_ZSET_LISTPACK:
        return load_zset_listpack(in, rdb_get_listpack(in));
    case RDB_HASH:
    case RDB_HASH_METADATA:
        return load_hash(in, type, now_ms);
    case RDB_HASH_ZIPMAP:
        return load_hash_listpack(in, get_old(in, rdb_zipmap_to_listpack), false, now_ms);
    case RDB_HASH_ZIPLIST:
        return load_hash_listpack(in, get_old(in, rdb_ziplist_to_listpack), false, now_ms);
    case RDB_HASH_LISTPACK:
        return load_hash_listpack(in, rdb_get_listpack(in), false, now_ms);
    case RDB_HASH_LISTPACK_EX:
        return load_hash_listpack_ex(in, now_ms);
    case RDB_STREAM:
    case RDB_STREAM_2:
    case RDB_STREAM_3:
        return rdb_load_stream(in, type);
    case RDB_MODULE_1:
    case RDB_MODULE_2:
        return fail(in, NULL, "values of modules cannot be loaded");
    default:
        return fail(in, NULL, "the type of a value is unknown");
    }
}
