/* Values: making, sharing, growing and freeing them. Place in the flow: commands make and change them, entries hold them, replies
 * may refer to their bytes. Thread: the holder of the key's shard lock, but for the reference count, which any thread may change.
 *
 * Size of an allocation by encoding: int 16 bytes, embstr 8 + length, raw 32 plus its data. Only the members of the
 * encoding's own union arm may be touched; the rest of the struct is not there.
 *
 * Invariant that makes obj_unref cheap: who holds the only reference is alone with the object, nobody can add one behind its
 * back. So a count of 1 needs no atomic read-modify-write to be dropped. */
#include "data/object.h"

#include <assert.h>
#include <string.h>

#include "base/alloc.h"
#include "data/hash.h"
#include "data/lazyfree.h"
#include "data/list.h"
#include "data/stream.h"
#include "data/set.h"
#include "data/zset.h"

#define INT_SIZE (offsetof(struct obj, u) + sizeof(int64_t))
#define EMB_SIZE(len) (offsetof(struct obj, u) + (len))
#define PREALLOC_MAX (1024 * 1024)  /* growth doubles up to here, then adds this much: sds's rule */
#define LAZY_MIN_BYTES (256 * 1024) /* freeing less than this costs no more than handing it over */
#define LAZY_MIN_EFFORT 64          /* allocations, the same: redis-server's LAZYFREE_THRESHOLD */

static const struct obj_ops *const type_ops[OBJ_N_TYPES] = {
    [OBJ_STRING] = NULL, /* here */
    [OBJ_LIST] = &list_ops, [OBJ_ZSET] = &zset_ops, [OBJ_STREAM] = &obj_ops_stream, [OBJ_HASH] = &hash_ops, [OBJ_SET] = &set_ops,
};

/* NULL: a string. */
static const struct obj_ops *ops_of(const struct obj *o) {
    return type_ops[o->type];
}

static struct obj *obj_alloc(size_t size, uint8_t enc) {
    struct obj *o = mem_alloc(size);
    atomic_init(&o->refs, 1);
    o->type = OBJ_STRING;
    o->enc = enc & 15;
    o->key_len = 0;
    o->emb_len = 0;
    return o;
}

struct obj *obj_new(enum obj_type type, enum obj_enc enc, void *ptr_take) {
    struct obj *o = obj_alloc(offsetof(struct obj, u) + sizeof(void *), (uint8_t)enc);
    o->type = type & 15;
    o->u.ptr = ptr_take;
    return o;
}

struct obj *obj_string_from_ll(int64_t v) {
    struct obj *o = obj_alloc(INT_SIZE, OBJ_ENC_INT);
    o->u.integer = v;
    return o;
}

struct obj *obj_string_from_raw_take(char *data_take, size_t len, size_t cap) {
    struct obj *o = obj_alloc(sizeof(*o), OBJ_ENC_RAW);
    o->u.raw.data = data_take;
    o->u.raw.len = len;
    o->u.raw.cap = cap;
    return o;
}

static struct obj *obj_string_new_emb(const void *p, size_t len) {
    struct obj *o = obj_alloc(EMB_SIZE(len), OBJ_ENC_EMBSTR);
    o->emb_len = (uint16_t)len;
    if (len) memcpy(obj_emb(o), p, len);
    return o;
}

struct obj *obj_string_new(const void *p, size_t len) {
    int64_t v;
    if (len <= OBJ_INT_CHARS_MAX && str_to_ll((struct slice){ p, len }, &v)) return obj_string_from_ll(v);
    return obj_string_new_text(p, len);
}

struct obj *obj_string_new_text(const void *p, size_t len) {
    if (len <= OBJ_INLINE_MAX) return obj_string_new_emb(p, len);
    char *data = mem_alloc(len);
    memcpy(data, p, len);
    return obj_string_from_raw_take(data, len, len);
}

struct obj *obj_string_new_raw(size_t len) {
    return obj_string_from_raw_take(len ? mem_zalloc(len) : NULL, len, len);
}

struct obj *obj_ref(struct obj *o) {
    assert(!obj_is_in_entry(o));
    atomic_fetch_add_explicit(&o->refs, 1, memory_order_relaxed);
    return o;
}

uint32_t obj_refs(const struct obj *o) {
    return obj_is_in_entry(o) ? 1 : atomic_load_explicit(&o->refs, memory_order_acquire);
}

/* True when the caller's reference was the last one: the object is then its own to free. */
static bool obj_drop(struct obj *o) {
    if (atomic_load_explicit(&o->refs, memory_order_acquire) == 1) return true;
    assert(!obj_is_in_entry(o));
    return atomic_fetch_sub_explicit(&o->refs, 1, memory_order_acq_rel) == 1;
}

static void obj_destroy(void *arg) {
    struct obj *o = arg;
    if (ops_of(o))
        ops_of(o)->destroy(o);
    else if (o->enc == OBJ_ENC_RAW)
        mem_free(o->u.raw.data);
    mem_free(o);
}

struct obj *obj_unref(struct obj *o) {
    if (o && obj_drop(o)) obj_destroy(o);
    return NULL;
}

void obj_unref_cb(void *o) {
    obj_unref(o);
}

size_t obj_free_effort(const struct obj *o) {
    return ops_of(o) ? ops_of(o)->effort(o) : 1;
}

static bool is_worth_lazy(const struct obj *o) {
    if (ops_of(o)) return ops_of(o)->effort(o) > LAZY_MIN_EFFORT;
    return o->enc == OBJ_ENC_RAW && o->u.raw.cap >= LAZY_MIN_BYTES;
}

void obj_unref_lazy(struct obj *o) {
    if (!o || !obj_drop(o)) return;
    if (is_worth_lazy(o))
        lazyfree_push(obj_destroy, o, 1);
    else
        obj_destroy(o);
}

struct slice obj_string_bytes(const struct obj *o, char *tmp) {
    switch (o->enc) {
    case OBJ_ENC_INT:
        return (struct slice){ tmp, str_from_ll(tmp, o->u.integer) };
    case OBJ_ENC_EMBSTR:
        return (struct slice){ obj_emb(o), o->emb_len };
    default:
        return (struct slice){ o->u.raw.data, o->u.raw.len };
    }
}

size_t obj_string_len(const struct obj *o) {
    char tmp[STR_LL_MAX];
    return obj_string_bytes(o, tmp).len;
}

bool obj_string_to_ll(const struct obj *o, int64_t *ret) {
    if (o->enc == OBJ_ENC_INT) {
        *ret = o->u.integer;
        return true;
    }
    char tmp[STR_LL_MAX];
    struct slice s = obj_string_bytes(o, tmp);
    return s.len <= OBJ_INT_CHARS_MAX && str_to_ll(s, ret);
}

struct obj *obj_dup(const struct obj *o) {
    if (ops_of(o)) return obj_new(o->type, o->enc, ops_of(o)->dup(o));
    if (o->enc == OBJ_ENC_INT) return obj_string_from_ll(o->u.integer);
    if (o->enc == OBJ_ENC_EMBSTR) return obj_string_new_emb(obj_emb(o), o->emb_len);
    size_t len = o->u.raw.len;
    char *data = len ? mem_alloc(len) : NULL;
    if (len) memcpy(data, o->u.raw.data, len);
    return obj_string_from_raw_take(data, len, len);
}

/* Room for a string that grows to `len`: who appends once will append again. */
static size_t cap_for_growth(size_t len) {
    return len < PREALLOC_MAX ? len * 2 : len + PREALLOC_MAX;
}

/* Room for `cap` bytes, of which `used` stay and `more` will follow: zeros when they are many, which may come without being
 * written. */
static char *grow(char *data, size_t used, size_t more, size_t cap) {
    return more < PREALLOC_MAX ? mem_realloc(data, cap) : mem_grow_zeroed(data, used, cap);
}

struct obj *obj_string_new_raw_of(const struct obj *o, size_t min_len) {
    char tmp[STR_LL_MAX];
    struct slice old = obj_string_bytes(o, tmp);
    size_t len = old.len > min_len ? old.len : min_len;
    size_t cap = len > old.len ? cap_for_growth(len) : len;
    char *data = cap ? grow(NULL, 0, len - old.len, cap) : NULL;
    assert(data || len == 0);
    if (old.len) memcpy(data, old.ptr, old.len);
    if (len > old.len && len - old.len < PREALLOC_MAX) memset(data + old.len, 0, len - old.len);
    return obj_string_from_raw_take(data, len, cap);
}

char *obj_string_own(struct obj **slot, size_t min_len) {
    struct obj *o = *slot;
    assert(o->type == OBJ_STRING);
    if (o->enc != OBJ_ENC_RAW || atomic_load_explicit(&o->refs, memory_order_acquire) != 1) {
        *slot = obj_string_new_raw_of(o, min_len);
        obj_unref(o);
        return (*slot)->u.raw.data;
    }
    if (min_len > o->u.raw.len) {
        size_t more = min_len - o->u.raw.len;
        bool fits = min_len <= o->u.raw.cap;
        if (!fits) {
            o->u.raw.cap = cap_for_growth(min_len);
            o->u.raw.data = grow(o->u.raw.data, o->u.raw.len, more, o->u.raw.cap);
        }
        if (fits || more < PREALLOC_MAX) memset(o->u.raw.data + o->u.raw.len, 0, more);
        o->u.raw.len = min_len;
    }
    return o->u.raw.data;
}

const char *obj_type_name(const struct obj *o) {
    static const char *const names[OBJ_N_TYPES] = { "string", "list", "set", "zset", "hash", "stream" };
    return names[o->type];
}

const char *obj_encoding_name(const struct obj *o) {
    static const char *const names[OBJ_N_ENCS] = { "int",       "embstr", "raw",       "listpack", "listpackex",
                                                   "quicklist", "intset", "hashtable", "skiplist", "stream" };
    if (o->enc == OBJ_ENC_EMBSTR && o->emb_len > OBJ_EMBSTR_MAX) return names[OBJ_ENC_RAW];
    return names[o->enc];
}

size_t obj_mem_usage(const struct obj *o, size_t samples) {
    size_t size = mem_usable((void *)(uintptr_t)o);
    if (ops_of(o)) return size + ops_of(o)->mem(o, samples);
    if (o->enc == OBJ_ENC_RAW && o->u.raw.data) size += mem_usable(o->u.raw.data);
    return size;
}
