/* Entries: layout, and the access clock that eviction judges by. Place in the flow: the keyspace makes and finds them.
 * Thread: the holder of the shard's lock.
 *
 * The clock's 30 bits mean seconds of the last access (LRU; differences of up to 17 years), or 24 of them are as in
 * redis-server's LFU: 16 bits of minutes, at which the counter was last decayed, and a logarithmic counter of accesses of 8 bits.
 * After a change of policy the old values are noise for a while, as they are in redis-server. */
#include "data/entry.h"

#include <assert.h>
#include <string.h>

#include "base/alloc.h"
#include "base/rand.h"
#include "data/expiry.h"
#include "data/keyspace.h"
#include "data/ttl_pool.h"

#define LFU_NEW 5 /* counter of a new key: enough to survive until its second access */
#define LFU_MAX 255
#define LRU_IDLE_MAX (ENTRY_CLOCK_MASK / 2) /* seconds: 17 years */
#define DICT_SLOT_BYTES 9                   /* 64 bytes for 7 items */

/* For the process, not the keyspace: entry_lfu gets nothing but the entry. */
static _Atomic int lfu_log_factor = 10, lfu_decay_minutes = 1;

/* ---- layout ---- */

#define NEAR_HEAD (offsetof(struct entry, word) + offsetof(struct obj, u)) /* 12 */
_Static_assert(NEAR_HEAD == 12, "word and the head of an object");
_Static_assert(OBJ_IN_ENTRY == ~ENTRY_CLOCK_MASK, "every near form is known by the object's refs");

static size_t far_key_at(size_t key_len) {
    return offsetof(struct entry, tail) + (key_len >= ENTRY_LONG_KEY ? sizeof(uint32_t) : 0);
}

static size_t near_size(enum entry_form form, size_t key_len, size_t text_len) {
    return NEAR_HEAD + key_len + (form == ENTRY_INT ? sizeof(int64_t) : text_len);
}

/* What the allocator makes of n bytes: multiples of 16, from 128 on four sizes for each doubling. */
static size_t rounded(size_t n) {
    if (n <= 128) return (n + 15) & ~(size_t)15;
    size_t step = (size_t)1 << (61 - __builtin_clzl(n - 1));
    return (n + step - 1) & ~(step - 1);
}

static bool fits_near(enum entry_form form, size_t key_len, size_t text_len) {
    return key_len <= UINT8_MAX && text_len <= ENTRY_NEAR_MAX && near_size(form, key_len, text_len) <= ENTRY_NEAR_MAX;
}

/* ---- values to be stored ---- */

struct entry_val entry_val_string(struct slice key, struct slice text) {
    struct entry_val v = { .form = ENTRY_TEXT, .text = text };
    if (text.len <= OBJ_INT_CHARS_MAX && str_to_ll(text, &v.integer)) v.form = ENTRY_INT;
    if (fits_near(v.form, key.len, text.len)) return v;
    v.obj = v.form == ENTRY_INT ? obj_string_from_ll(v.integer) : obj_string_new_text(text.ptr, text.len);
    v.form = ENTRY_FAR;
    return v;
}

struct entry_val entry_val_obj(struct slice key, struct obj *val_take) {
    struct entry_val v = { .form = ENTRY_FAR, .obj = val_take };
    if (val_take->type != OBJ_STRING || val_take->enc == OBJ_ENC_RAW || obj_refs(val_take) != 1) return v;
    enum entry_form near = val_take->enc == OBJ_ENC_INT ? ENTRY_INT : ENTRY_TEXT;
    if (near == ENTRY_TEXT) v.text = obj_string_bytes(val_take, NULL);
    if (!fits_near(near, key.len, v.text.len)) return v;
    v.form = near;
    if (near == ENTRY_INT) v.integer = val_take->u.integer;
    return v;
}

/* ---- making ---- */

static struct entry *far_new(struct slice key, struct obj *val_take) {
    struct entry *e = mem_alloc(far_key_at(key.len) + key.len);
    e->far = val_take;
    e->key_len_1 = key.len < ENTRY_LONG_KEY ? (uint8_t)key.len : ENTRY_LONG_KEY;
    const uint32_t len = (uint32_t)key.len;
    if (key.len >= ENTRY_LONG_KEY) memcpy(e->tail, &len, sizeof(len));
    if (key.len) memcpy((char *)e + far_key_at(key.len), key.ptr, key.len);
    return e;
}

static void near_write(struct obj *o, const struct entry_val *v) {
    if (v->form == ENTRY_INT) {
        o->u.integer = v->integer;
        return;
    }
    o->emb_len = (uint16_t)v->text.len;
    if (v->text.len) memmove(obj_emb(o), v->text.ptr, v->text.len);
}

static struct entry *near_new(struct slice key, const struct entry_val *v) {
    struct entry *e = mem_alloc(rounded(near_size(v->form, key.len, v->text.len)));
    struct obj *o = entry_near(e);
    o->type = OBJ_STRING;
    o->enc = v->form == ENTRY_INT ? OBJ_ENC_INT : OBJ_ENC_EMBSTR;
    o->key_len = (uint8_t)key.len;
    o->emb_len = 0;
    near_write(o, v);
    char *at = (char *)&o->u + (v->form == ENTRY_INT ? sizeof(int64_t) : 0);
    if (key.len) memcpy(at, key.ptr, key.len);
    obj_unref(v->obj);
    return e;
}

struct entry *entry_new(struct slice key, const struct entry_val *v, uint32_t clock) {
    struct entry *e = v->form == ENTRY_FAR ? far_new(key, v->obj) : near_new(key, v);
    e->ttl = 0;
    e->word = (uint32_t)v->form << ENTRY_FORM_SHIFT | clock;
    return e;
}

static bool text_fits_block(const struct obj *o, size_t len) {
    return len == o->emb_len ||
           (fits_near(ENTRY_TEXT, o->key_len, len) &&
            rounded(near_size(ENTRY_TEXT, o->key_len, len)) == rounded(near_size(ENTRY_TEXT, o->key_len, o->emb_len)));
}

static bool fits_block(const struct entry *e, const struct entry_val *v) {
    return v->form == ENTRY_INT || text_fits_block(entry_near(e), v->text.len);
}

static bool may_be_int(struct slice text) {
    return text.len - 1 < OBJ_INT_CHARS_MAX && text.ptr[0] <= '9';
}

bool entry_overwrite(struct entry *e, struct slice text) {
    struct obj *o = entry_near(e);
    if (entry_form_of(e) != ENTRY_TEXT || may_be_int(text) || !text_fits_block(o, text.len)) return false;
    o->emb_len = (uint16_t)text.len;
    if (text.len) memmove(obj_emb(o), text.ptr, text.len);
    return true;
}

struct entry *entry_put(struct entry *e, const struct entry_val *v, struct obj **ret_old) {
    enum entry_form form = entry_form_of(e);
    *ret_old = form == ENTRY_FAR ? e->far : NULL;
    if (form == v->form && form == ENTRY_FAR) {
        e->far = v->obj;
        return e;
    }
    if (form == v->form && fits_block(e, v)) {
        near_write(entry_near(e), v);
        obj_unref(v->obj);
        return e;
    }
    struct entry *now = entry_new(entry_key(e), v, e->word & ENTRY_CLOCK_MASK);
    now->ttl = e->ttl;
    return now;
}

void entry_free(void *arg) {
    struct entry *e = arg;
    if (!e) return;
    if (entry_form_of(e) == ENTRY_FAR) obj_unref(e->far);
    mem_free(e);
}

void entry_free_lazy(struct entry *e) {
    if (entry_form_of(e) == ENTRY_FAR) obj_unref_lazy(e->far);
    mem_free(e);
}

struct obj *entry_steal(struct entry *e) {
    struct obj *o = entry_form_of(e) == ENTRY_FAR ? e->far : obj_dup(entry_near(e));
    mem_free(e);
    return o;
}

/* ---- reading ---- */

struct slice entry_key(const struct entry *e) {
    enum entry_form form = entry_form_of(e);
    if (form != ENTRY_FAR) {
        const struct obj *o = entry_near(e);
        return (struct slice){ (const char *)&o->u + (form == ENTRY_INT ? sizeof(int64_t) : 0), o->key_len };
    }
    if (e->key_len_1 < ENTRY_LONG_KEY) return (struct slice){ e->tail, e->key_len_1 };
    uint32_t len;
    memcpy(&len, e->tail, sizeof(len));
    return (struct slice){ e->tail + sizeof(len), len };
}

struct slice entry_key_of(const void *e) {
    return entry_key(e);
}

struct obj *entry_value(const struct entry *e) {
    return entry_obj(e);
}

const void *entry_next_line(const struct entry *e) {
    return entry_form_of(e) == ENTRY_FAR ? (const void *)e->far : (const char *)e + 64;
}

struct obj **entry_value_slot(struct entry *e) {
    assert(entry_form_of(e) == ENTRY_FAR);
    return &e->far;
}

int64_t entry_expire_ms(const struct entry *e) {
    return e->ttl ? ttl_at(e->ttl)->when_ms : KS_NO_EXPIRE;
}

size_t entry_mem_usage(const struct entry *e, size_t samples) {
    size_t size = mem_usable((void *)(uintptr_t)e) + DICT_SLOT_BYTES;
    if (e->ttl) size += sizeof(struct expiry_item) + sizeof(struct ttl);
    return size + (entry_form_of(e) == ENTRY_FAR ? obj_mem_usage(e->far, samples) : 0);
}

/* ---- access clock ---- */

void entry_lfu_params(int log_factor, int decay_minutes) {
    atomic_store_explicit(&lfu_log_factor, log_factor, memory_order_relaxed);
    atomic_store_explicit(&lfu_decay_minutes, decay_minutes, memory_order_relaxed);
}

static uint32_t clock_of(const struct entry *e) {
    return e->word & ENTRY_CLOCK_MASK;
}

static void set_clock(struct entry *e, uint32_t clock) {
    e->word = (e->word & ~ENTRY_CLOCK_MASK) | clock;
}

static uint32_t lru_seconds(int64_t now_ms) {
    return (uint32_t)(now_ms / 1000) & ENTRY_CLOCK_MASK;
}

static uint32_t lfu_minutes(int64_t now_ms) {
    return (uint32_t)(now_ms / 60000) & 0xffff;
}

/* One off for every decay period since the last access. Minutes wrap after 45 days. */
static uint32_t lfu_decayed(uint32_t clock, int64_t now_ms) {
    uint32_t counter = clock & LFU_MAX;
    uint32_t elapsed = (lfu_minutes(now_ms) - (clock >> 8)) & 0xffff;
    int decay = atomic_load_explicit(&lfu_decay_minutes, memory_order_relaxed);
    uint32_t periods = decay > 0 ? elapsed / (uint32_t)decay : 0;
    return periods < counter ? counter - periods : 0;
}

/* The higher the counter, the less likely an access raises it: 255 stands for about a million accesses at factor 10. */
static uint32_t lfu_raised(uint32_t counter) {
    if (counter == LFU_MAX) return counter;
    double above = counter > LFU_NEW ? counter - LFU_NEW : 0;
    double p = 1.0 / (above * atomic_load_explicit(&lfu_log_factor, memory_order_relaxed) + 1);
    return counter + ((double)(rand_u64() >> 11) * 0x1p-53 < p);
}

uint32_t entry_clock_now(bool lfu, int64_t now_ms) {
    return lfu ? lfu_minutes(now_ms) << 8 | LFU_NEW : lru_seconds(now_ms);
}

void entry_touch(struct entry *e, bool lfu, int64_t now_ms) {
    uint32_t clock = lfu ? lfu_minutes(now_ms) << 8 | lfu_raised(lfu_decayed(clock_of(e), now_ms)) : lru_seconds(now_ms);
    if (clock_of(e) != clock) set_clock(e, clock); /* a read that changes nothing leaves the cache line clean */
}

uint32_t entry_idle_s(const struct entry *e, int64_t now_ms) {
    uint32_t idle = (lru_seconds(now_ms) - clock_of(e)) & ENTRY_CLOCK_MASK;
    return idle > LRU_IDLE_MAX ? 0 : idle; /* the wall clock stepped back */
}

uint8_t entry_lfu(const struct entry *e, int64_t now_ms) {
    return (uint8_t)lfu_decayed(clock_of(e), now_ms);
}

void entry_set_idle_s(struct entry *e, uint32_t idle_s, int64_t now_ms) {
    if (idle_s > LRU_IDLE_MAX) idle_s = LRU_IDLE_MAX;
    set_clock(e, (lru_seconds(now_ms) - idle_s) & ENTRY_CLOCK_MASK);
}

void entry_set_lfu(struct entry *e, uint8_t counter, int64_t now_ms) {
    set_clock(e, lfu_minutes(now_ms) << 8 | counter);
}
