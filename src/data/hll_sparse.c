/* HyperLogLogs, sparse: runs of registers. See hll.h for the opcodes. A register is raised by cutting the run that has it into at
 * most three; the runs from the one before it on are then joined where they have one value. The bytes come out as redis-server's,
 * so that two servers which are told the same keep the same string. */
#include <errno.h>
#include <string.h>

#include "data/hll_priv.h"
#include "data/limits.h"

#define ZERO_MAX 64
#define VALUE_MAX 32
#define RUN_MAX 4    /* registers of a value */
#define JOIN_STEPS 5 /* opcodes looked at after a change */
#define MAX_PIECES 5 /* bytes of three runs */

bool hll_run_at(const uint8_t *p, const uint8_t *end, struct hll_run *ret, unsigned *ret_size) {
    if (p >= end) return false;
    *ret_size = 1;
    if (*p & 0x80) {
        *ret = (struct hll_run){ .value = (uint8_t)((*p >> 2 & 31) + 1), .len = (*p & 3U) + 1 };
    } else if (*p & 0x40) {
        if (end - p < 2) return false;
        *ret_size = 2;
        *ret = (struct hll_run){ .is_long = true, .len = ((*p & 63U) << 8 | p[1]) + 1 };
    } else {
        *ret = (struct hll_run){ .len = (*p & 63U) + 1 };
    }
    return true;
}

static uint8_t value_op(uint8_t value, unsigned len) {
    return (uint8_t)(0x80 | (value - 1) << 2 | (len - 1));
}

static uint8_t *put_zeros(uint8_t *p, unsigned len) {
    if (len > ZERO_MAX) *p++ = (uint8_t)(0x40 | (len - 1) >> 8);
    *p++ = (uint8_t)(len - 1);
    return p;
}

static uint8_t *put_run(uint8_t *p, uint8_t value, unsigned len) {
    if (len == 0) return p;
    if (value == 0) return put_zeros(p, len);
    *p++ = value_op(value, len);
    return p;
}

/* Joins neighbours of one value, from `off` on. */
static void join(struct obj *o, size_t off) {
    uint8_t *p = (uint8_t *)o->u.raw.data + HLL_HEADER + off, *end = (uint8_t *)o->u.raw.data + o->u.raw.len;
    struct hll_run a, b;
    unsigned size, size_b;
    for (int i = 0; i < JOIN_STEPS && hll_run_at(p, end, &a, &size); i++) {
        if (a.value && hll_run_at(p + 1, end, &b, &size_b) && a.value == b.value && a.len + b.len <= RUN_MAX) {
            memmove(p, p + 1, (size_t)(end - p) - 1);
            *p = value_op(a.value, a.len + b.len);
            end--;
            o->u.raw.len--;
        } else {
            p += size;
        }
    }
}

struct found {
    struct hll_run run;
    unsigned size;                /* of its opcode */
    struct hll_cursor at, before; /* the opcode, and the one before it: itself when it is the first */
};

/* Finds the run that has register i, from the cursor on. False: there is none. It goes through thousands of opcodes, in which
 * short runs alternate at random: all of them but the rare long ones are measured without a branch. */
static bool find(const struct obj *o, struct hll_cursor *cur, unsigned i, struct found *ret) {
    const uint8_t *start = (const uint8_t *)o->u.raw.data + HLL_HEADER, *end = (const uint8_t *)o->u.raw.data + o->u.raw.len;
    struct hll_cursor at = *cur, before = *cur, earlier = *cur;
    struct hll_run long_run;
    while (start + at.off < end) {
        unsigned op = start[at.off], size = 1, len = (op & (63U >> (op >> 7) * 4)) + 1;
        if (__builtin_expect((op & 0xc0) == 0x40, 0)) {
            if (!hll_run_at(start + at.off, end, &long_run, &size)) return false;
            len = long_run.len;
        }
        if (i < at.first + len) {
            *cur = earlier;
            ret->at = at;
            ret->before = before;
            return hll_run_at(start + at.off, end, &ret->run, &ret->size);
        }
        earlier = before;
        before = at;
        at.off += size;
        at.first += len;
    }
    return false;
}

int hll_sparse_raise(struct obj **slot, struct hll_cursor *cur, unsigned i, uint8_t value) {
    struct found f;
    if (value > VALUE_MAX) return -E2BIG;
    obj_string_own(slot, 0);
    if (!find(*slot, cur, i, &f)) return -EINVAL;
    if (f.run.value >= value) return 0;
    uint8_t pieces[MAX_PIECES], *p = pieces;
    p = put_run(p, f.run.value, i - f.at.first);
    p = put_run(p, value, 1);
    p = put_run(p, f.run.value, f.at.first + f.run.len - 1 - i);
    size_t fresh = (size_t)(p - pieces), len = (*slot)->u.raw.len;
    if (fresh > f.size) {
        uint64_t max = (uint64_t)limit_get(&data_limits.hll_sparse_max_bytes);
        if (len + fresh - f.size > max) return -E2BIG;
        obj_string_own(slot, len + fresh - f.size);
    }
    uint8_t *at = (uint8_t *)(*slot)->u.raw.data + HLL_HEADER + f.at.off;
    memmove(at + fresh, at + f.size, len - HLL_HEADER - f.at.off - f.size);
    memcpy(at, pieces, fresh);
    (*slot)->u.raw.len = len + fresh - f.size;
    join(*slot, f.before.off);
    hll_forget_estimate(slot);
    return 1;
}
