/* HyperLogLogs: elements, the dense encoding, whole values. See hll.h. The sparse encoding is in hll_sparse.c, the estimate in
 * hll_estimate.c. Thread: the holder of the shard's lock. */
#include <endian.h>
#include <errno.h>
#include <string.h>

#include "data/hll_priv.h"

#define HASH_BITS 64
#define INDEX_BITS 14
#define HASH_SEED 0xadc83b19ULL /* Redis's: registers of two servers are comparable */
#define STALE 0x80              /* in the estimate's last byte */

static const uint8_t *bytes_of(const struct obj *o) {
    return (const uint8_t *)obj_string_bytes(o, NULL).ptr; /* an integer is no HyperLogLog */
}

static size_t len_of(const struct obj *o) {
    return obj_string_bytes(o, NULL).len;
}

bool hll_is_one(const struct obj *o) {
    if (o->enc == OBJ_ENC_INT || len_of(o) < HLL_HEADER) return false;
    const uint8_t *b = bytes_of(o);
    if (memcmp(b, "HYLL", 4) != 0 || b[4] > HLL_SPARSE) return false;
    return b[4] == HLL_SPARSE || len_of(o) == HLL_HEADER + HLL_DENSE_BYTES;
}

bool hll_is_dense(const struct obj *o) {
    return bytes_of(o)[4] == HLL_DENSE;
}

struct obj *hll_new(void) {
    static const uint8_t all_zero[] = { 0x40 | (HLL_REGISTERS - 1) >> 8, (HLL_REGISTERS - 1) & 255 };
    struct obj *o = obj_string_new_raw(HLL_HEADER + sizeof(all_zero));
    memcpy(o->u.raw.data, "HYLL", 4);
    o->u.raw.data[4] = HLL_SPARSE;
    memcpy(o->u.raw.data + HLL_HEADER, all_zero, sizeof(all_zero));
    return o;
}

/* ---- the estimate that is kept ---- */

void hll_forget_estimate(struct obj **slot) {
    obj_string_own(slot, 0)[HLL_HEADER - 1] |= (char)STALE;
}

bool hll_kept_estimate(const struct obj *o, uint64_t *ret) {
    const uint8_t *b = bytes_of(o) + 8;
    uint64_t v = 0;
    if (b[7] & STALE) return false;
    for (int i = 0; i < 8; i++) v |= (uint64_t)b[i] << 8 * i;
    *ret = v;
    return true;
}

void hll_keep_estimate(struct obj **slot, uint64_t estimate) {
    char *b = obj_string_own(slot, 0) + 8;
    for (int i = 0; i < 8; i++) b[i] = (char)(estimate >> 8 * i);
}

/* ---- elements ---- */

static uint64_t load_le(const uint8_t *p, size_t n) {
    uint64_t v = 0;
    for (size_t i = 0; i < n; i++) v |= (uint64_t)p[i] << 8 * i;
    return v;
}

/* MurmurHash64A, of little-endian words on every machine. */
static uint64_t murmur64a(struct slice s, uint64_t seed) {
    const uint64_t m = 0xc6a4a7935bd1e995ULL;
    const uint8_t *p = (const uint8_t *)s.ptr;
    uint64_t h = seed ^ (s.len * m);
    size_t left = s.len;
    for (; left >= 8; p += 8, left -= 8) {
        uint64_t k;
        memcpy(&k, p, 8);
        k = le64toh(k) * m;
        k = (k ^ k >> 47) * m;
        h = (h ^ k) * m;
    }
    if (left) h = (h ^ load_le(p, left)) * m;
    h = (h ^ h >> 47) * m;
    return h ^ h >> 47;
}

/* The register of an element, and the value it asks for: the place of the lowest bit set in what the index leaves of the hash. */
static uint8_t place_of(struct slice element, unsigned *ret_index) {
    uint64_t h = murmur64a(element, HASH_SEED);
    *ret_index = h & (HLL_REGISTERS - 1);
    h = h >> INDEX_BITS | 1ULL << (HASH_BITS - INDEX_BITS);
    return (uint8_t)(__builtin_ctzll(h) + 1);
}

static int dense_raise(struct obj **slot, unsigned i, uint8_t value) {
    uint8_t *packed = (uint8_t *)obj_string_own(slot, 0) + HLL_HEADER;
    if (hll_dense_get(packed, i) >= value) return 0;
    hll_dense_put(packed, i, value);
    return 1;
}

static int raise_one(struct obj **slot, struct hll_cursor *cur, unsigned i, uint8_t value) {
    if (!hll_is_dense(*slot)) {
        int r = hll_sparse_raise(slot, cur, i, value);
        if (r != -E2BIG) return r;
        r = hll_to_dense(slot);
        if (r < 0) return r;
    }
    return dense_raise(slot, i, value);
}

int hll_add(struct obj **slot, struct slice element) {
    unsigned i;
    uint8_t value = place_of(element, &i);
    struct hll_cursor from_start = { 0, 0 };
    return raise_one(slot, &from_start, i, value);
}

/* ---- whole ones ---- */

bool hll_next_run(const struct obj *o, size_t *at, struct hll_run *ret) {
    const uint8_t *p = bytes_of(o) + HLL_HEADER + *at, *end = bytes_of(o) + len_of(o);
    const uint8_t half[2] = { p < end ? *p : 0, 0 };
    unsigned size;
    if (!hll_run_at(p, end, ret, &size) && (p >= end || !hll_run_at(half, half + 2, ret, &size))) return false;
    *at += size;
    return true;
}

int hll_each_run(const struct obj *o, void (*fn)(void *arg, const struct hll_run *run), void *arg) {
    const uint8_t *p = bytes_of(o) + HLL_HEADER, *end = bytes_of(o) + len_of(o);
    struct hll_run run;
    unsigned total = 0, size;
    for (; hll_run_at(p, end, &run, &size); p += size) {
        if (run.len > HLL_REGISTERS - total) return -EINVAL;
        total += run.len;
        fn(arg, &run);
    }
    return p == end && total == HLL_REGISTERS ? 0 : -EINVAL;
}

struct filling {
    uint8_t *regs;
    unsigned at;
};

static void merge_run(void *arg, const struct hll_run *run) {
    struct filling *f = arg;
    for (unsigned i = f->at; run->value && i < f->at + run->len; i++)
        if (f->regs[i] < run->value) f->regs[i] = run->value;
    f->at += run->len;
}

static void merge_dense(uint8_t *regs, const uint8_t *packed) {
    for (unsigned i = 0; i < HLL_REGISTERS; i += 4, packed += 3) { /* three bytes are four registers */
        unsigned three = packed[0] | (unsigned)packed[1] << 8 | (unsigned)packed[2] << 16;
        for (unsigned k = 0; k < 4; k++) {
            uint8_t v = three >> 6 * k & 63;
            if (regs[i + k] < v) regs[i + k] = v;
        }
    }
}

int hll_merge_into(uint8_t regs[HLL_REGISTERS], const struct obj *o) {
    struct filling f = { .regs = regs };
    if (!hll_is_dense(o)) return hll_each_run(o, merge_run, &f);
    merge_dense(regs, bytes_of(o) + HLL_HEADER);
    return 0;
}

int hll_to_dense(struct obj **slot) {
    if (hll_is_dense(*slot)) return 0;
    uint8_t regs[HLL_REGISTERS] = { 0 };
    int r = hll_merge_into(regs, *slot);
    if (r < 0) return r;
    struct obj *dense = obj_string_new_raw(HLL_HEADER + HLL_DENSE_BYTES);
    uint8_t *out = (uint8_t *)dense->u.raw.data;
    memcpy(out, bytes_of(*slot), HLL_HEADER);
    out[4] = HLL_DENSE;
    for (unsigned i = 0; i < HLL_REGISTERS; i++)
        if (regs[i]) hll_dense_put(out + HLL_HEADER, i, regs[i]);
    obj_unref(*slot);
    *slot = dense;
    return 0;
}

int hll_raise(struct obj **slot, const uint8_t regs[HLL_REGISTERS]) {
    struct hll_cursor cur = { 0, 0 };
    for (unsigned i = 0; i < HLL_REGISTERS; i++) {
        int r = regs[i] ? raise_one(slot, &cur, i, regs[i]) : 0;
        if (r < 0) return r;
    }
    return 0;
}
