/* Large hashes: a dict of fields. Place in the flow: hash.c sends hashes beyond the limits of the compact encodings here. Thread:
 * the holder of the shard's lock; table_free may run on the lazyfree thread.
 *
 * A field, its value and its time are one allocation, packed without padding:
 *
 *     flags (1) | when (8) heap place (4): TIMED | name length (1; 8: LONG_NAME) | value length (1; 2: LONG_VALUE; none: LARGE)
 *               | name | value, or a struct obj * (LARGE)
 *
 * An ordinary short pair costs 3 bytes beside its text and its slot in the dict. Values of HASH_LARGE_MIN bytes and more are
 * string objects, so that a reply can refer to them. A field moves when its size changes: the dict's slot and the heap follow.
 *
 * Invariant: a field is in `times` exactly when it is TIMED, at the place it says. */
#include <assert.h>
#include <string.h>

#include "base/alloc.h"
#include "data/hash_priv.h"

enum { TIMED = 1, LONG_NAME = 2, LONG_VALUE = 4, LARGE = 8 };
#define TIME_BYTES 12
#define LONG_LEN 256 /* lengths below this take one byte */

struct hash_field {
    uint8_t flags;
    char rest[];
};

/* ---- layout ---- */

static size_t name_len_at(uint8_t flags) {
    return flags & TIMED ? TIME_BYTES : 0;
}

static size_t value_len_at(uint8_t flags) {
    return name_len_at(flags) + (flags & LONG_NAME ? sizeof(uint64_t) : 1);
}

static size_t name_at(uint8_t flags) {
    return value_len_at(flags) + (flags & LARGE ? 0 : flags & LONG_VALUE ? 2 : 1);
}

static size_t name_len(const struct hash_field *f) {
    const char *at = f->rest + name_len_at(f->flags);
    uint64_t len;
    if (!(f->flags & LONG_NAME)) return (unsigned char)*at;
    memcpy(&len, at, sizeof(len));
    return len;
}

static size_t value_len(const struct hash_field *f) {
    const char *at = f->rest + value_len_at(f->flags);
    uint16_t len;
    if (f->flags & LARGE) return sizeof(struct obj *);
    if (!(f->flags & LONG_VALUE)) return (unsigned char)*at;
    memcpy(&len, at, sizeof(len));
    return len;
}

static struct slice field_name(const struct hash_field *f) {
    return (struct slice){ f->rest + name_at(f->flags), name_len(f) };
}

static struct obj *field_large(const struct hash_field *f) {
    struct obj *o;
    memcpy(&o, f->rest + name_at(f->flags) + name_len(f), sizeof(o));
    return o;
}

static struct slice name_of_item(const void *item) {
    return field_name(item);
}

static struct dict_type table_type = { .key = name_of_item, .dense = true };

void hash_avoid_resize(bool avoid) {
    atomic_store_explicit(&table_type.avoid_resize, avoid, memory_order_relaxed);
}

static void put_value_len(struct hash_field *f, size_t len) {
    char *at = f->rest + value_len_at(f->flags);
    const uint16_t long_len = (uint16_t)len;
    if (f->flags & LARGE) return;
    if (f->flags & LONG_VALUE)
        memcpy(at, &long_len, sizeof(long_len));
    else
        *at = (char)len;
}

static uint8_t flags_for(size_t n_name, struct slice text, const struct obj *large, bool timed) {
    uint8_t flags = timed ? TIMED : 0;
    if (n_name >= LONG_LEN) flags |= LONG_NAME;
    if (large)
        flags |= LARGE;
    else if (text.len >= LONG_LEN)
        flags |= LONG_VALUE;
    return flags;
}

static struct hash_field *field_new(struct slice name, struct slice text, struct obj *large_take, bool timed) {
    if (large_take) text = (struct slice){ (const char *)&large_take, sizeof(large_take) };
    uint8_t flags = flags_for(name.len, text, large_take, timed);
    const uint64_t n_name = name.len;
    struct hash_field *f = mem_alloc(offsetof(struct hash_field, rest) + name_at(flags) + name.len + text.len);
    f->flags = flags;
    if (timed) memset(f->rest, 0xff, TIME_BYTES); /* HASH_NO_TIME, TIMEHEAP_NONE */
    if (flags & LONG_NAME)
        memcpy(f->rest + name_len_at(flags), &n_name, sizeof(n_name));
    else
        f->rest[name_len_at(flags)] = (char)name.len;
    put_value_len(f, text.len);
    char *at = f->rest + name_at(flags);
    if (name.len) memcpy(at, name.ptr, name.len);
    if (text.len) memcpy(at + name.len, text.ptr, text.len);
    return f;
}

static void field_free(void *item) {
    struct hash_field *f = item;
    if (f->flags & LARGE) obj_unref(field_large(f));
    mem_free(f);
}

int64_t field_time(const struct hash_field *f) {
    int64_t when_ms = HASH_NO_TIME;
    if (f->flags & TIMED) memcpy(&when_ms, f->rest, sizeof(when_ms));
    return when_ms;
}

static uint32_t heap_pos(const struct hash_field *f) {
    uint32_t at;
    memcpy(&at, f->rest + sizeof(int64_t), sizeof(at));
    return at;
}

static void field_moved(void *what, uint32_t at) {
    struct hash_field *f = what;
    memcpy(f->rest + sizeof(int64_t), &at, sizeof(at));
}

void field_pair(const struct hash_field *f, struct hash_pair *ret) {
    ret->field = field_name(f);
    ret->when_ms = field_time(f);
    ret->large = f->flags & LARGE ? field_large(f) : NULL;
    if (ret->large)
        ret->value = obj_string_bytes(ret->large, ret->value_tmp);
    else
        ret->value = (struct slice){ ret->field.ptr + ret->field.len, value_len(f) };
}

/* ---- changing ---- */

struct hash_field *table_find(const struct hash_table *t, struct slice field) {
    return dict_find((struct dict *)(uintptr_t)&t->dict, dict_hash(field), field);
}

/* Another allocation for the same field takes the old one's places. */
static void replace_field(struct hash_table *t, struct hash_field **slot, struct hash_field *with) {
    struct hash_field *old = *slot;
    if ((old->flags & TIMED) && (with->flags & TIMED)) {
        memcpy(with->rest, old->rest, TIME_BYTES);
        t->times.items[heap_pos(old)].what = with;
    } else if (old->flags & TIMED) {
        timeheap_remove(&t->times, heap_pos(old), field_moved);
    }
    *slot = with;
    field_free(old);
}

/* In the allocation it has, where only the value's text changes and the lengths take as many bytes as before. */
static bool change_text(struct hash_table *t, struct hash_field **slot, struct slice text, bool keep_time) {
    struct hash_field *f = *slot;
    uint8_t flags = flags_for(name_len(f), text, NULL, keep_time && (f->flags & TIMED));
    if (flags != f->flags) return false;
    size_t before = value_len(f), fixed = name_at(flags) + name_len(f);
    if (text.len != before) {
        f = mem_realloc(f, offsetof(struct hash_field, rest) + fixed + text.len);
        if (flags & TIMED) t->times.items[heap_pos(f)].what = f;
        put_value_len(f, text.len);
        *slot = f;
    }
    if (text.len) memcpy(f->rest + fixed, text.ptr, text.len);
    return true;
}

bool table_set(struct hash_table *t, struct slice field, struct slice text, struct obj *large_take, int64_t now_ms,
               unsigned flags) {
    uint64_t hash = dict_hash(field);
    struct hash_field **slot = (struct hash_field **)dict_find_slot(&t->dict, hash, field);
    if (!slot) {
        dict_insert(&t->dict, hash, field_new(field, text, large_take, false));
        return true;
    }
    bool was_due = hash_is_due(field_time(*slot), now_ms);
    bool keep_time = (flags & HASH_KEEP_TIME) && !was_due;
    if (large_take || !change_text(t, slot, text, keep_time))
        replace_field(t, slot, field_new(field, text, large_take, keep_time && ((*slot)->flags & TIMED)));
    return was_due;
}

bool table_delete(struct hash_table *t, struct slice field, int64_t now_ms) {
    uint64_t hash = dict_hash(field);
    if (t->times.n) {
        const struct hash_field *there = dict_find(&t->dict, hash, field);
        if (there && hash_is_due(field_time(there), now_ms)) return false;
    }
    struct hash_field *f = dict_remove(&t->dict, hash, field);
    if (!f) return false;
    if (f->flags & TIMED) timeheap_remove(&t->times, heap_pos(f), field_moved);
    field_free(f);
    return true;
}

/* The same field with or without room for a time. The value moves along, a large one is not copied. */
static struct hash_field *field_resized(const struct hash_field *f, bool timed) {
    struct hash_pair pair;
    field_pair(f, &pair);
    return field_new(pair.field, pair.value, pair.large ? obj_ref(pair.large) : NULL, timed);
}

void table_set_time(struct hash_table *t, struct slice field, int64_t when_ms) {
    struct hash_field **slot = (struct hash_field **)dict_find_slot(&t->dict, dict_hash(field), field);
    assert(slot);
    if (when_ms == HASH_NO_TIME) {
        if ((*slot)->flags & TIMED) replace_field(t, slot, field_resized(*slot, false));
        return;
    }
    bool is_first = !((*slot)->flags & TIMED);
    if (is_first) replace_field(t, slot, field_resized(*slot, true));
    struct hash_field *f = *slot;
    memcpy(f->rest, &when_ms, sizeof(when_ms));
    if (is_first)
        timeheap_add(&t->times, when_ms, f, field_moved);
    else
        timeheap_change(&t->times, heap_pos(f), when_ms, field_moved);
}

unsigned table_expire(struct hash_table *t, int64_t now_ms, unsigned max, void (*gone)(void *arg, struct slice field),
                      void *arg) {
    unsigned n = 0;
    for (; n < max && t->times.n && now_ms > t->times.items[0].when_ms; n++) {
        struct hash_field *f = t->times.items[0].what;
        struct slice name = field_name(f);
        gone(arg, name);
        dict_remove(&t->dict, dict_hash(name), name);
        timeheap_remove(&t->times, 0, field_moved);
        field_free(f);
    }
    return n;
}

/* ---- whole tables ---- */

struct hash_table *table_new(void) {
    struct hash_table *t = mem_zalloc(sizeof(*t));
    t->head.index_pos = TIMEHEAP_NONE;
    dict_init(&t->dict, &table_type);
    return t;
}

struct hash_field *table_field_new(struct slice field, struct slice value) {
    struct obj *large = value.len >= HASH_LARGE_MIN ? obj_string_new_text(value.ptr, value.len) : NULL;
    return field_new(field, value, large, false);
}

void table_field_free(void *field) {
    field_free(field);
}

bool table_fill(struct hash_table *t, struct dict_fill *f) {
    return dict_fill_into(f, &t->dict, field_free);
}

void table_free(struct hash_table *t) {
    timeheap_clear(&t->times);
    dict_clear(&t->dict, field_free);
    mem_free(t);
}

static bool dup_field(void *arg, void *item) {
    struct hash_table *to = arg;
    struct hash_pair pair;
    field_pair(item, &pair);
    bool timed = pair.when_ms != HASH_NO_TIME;
    /* A large value is shared: strings are never changed in place while someone else holds them. */
    struct hash_field *f = field_new(pair.field, pair.value, pair.large ? obj_ref(pair.large) : NULL, timed);
    dict_insert(&to->dict, dict_hash(pair.field), f);
    if (timed) {
        memcpy(f->rest, &pair.when_ms, sizeof(pair.when_ms));
        timeheap_add(&to->times, pair.when_ms, f, field_moved);
    }
    return true;
}

struct hash_table *table_dup(const struct hash_table *t) {
    struct hash_table *to = table_new();
    dict_each((struct dict *)(uintptr_t)&t->dict, dup_field, to);
    return to;
}

struct mem_sum {
    size_t bytes, left, seen;
};

static bool add_mem(void *arg, void *item) {
    struct mem_sum *s = arg;
    const struct hash_field *f = item;
    s->bytes += mem_usable(item) + (f->flags & LARGE ? obj_mem_usage(field_large(f), 0) : 0);
    s->seen++;
    return --s->left > 0;
}

size_t table_mem(const struct hash_table *t, size_t samples) {
    struct mem_sum s = { .left = samples ? samples : SIZE_MAX };
    dict_each((struct dict *)(uintptr_t)&t->dict, add_mem, &s);
    size_t fixed = sizeof(*t) + dict_mem(&t->dict) + timeheap_mem(&t->times);
    return fixed + (s.seen ? (size_t)((double)s.bytes / (double)s.seen * (double)dict_size(&t->dict)) : 0);
}
