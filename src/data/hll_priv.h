/* Between hll's files. */
#ifndef KETTLE_DATA_HLL_PRIV_H
#define KETTLE_DATA_HLL_PRIV_H

#include "data/hll.h"

#define HLL_HEADER 16
#define HLL_DENSE_BYTES (HLL_REGISTERS * 6 / 8)
#define HLL_VALUES 64 /* of six bits; a hash gives at most 51 */

enum { HLL_DENSE = 0, HLL_SPARSE = 1 };

static inline uint8_t hll_dense_get(const uint8_t *packed, unsigned i) {
    unsigned bit = i * 6, shift = bit & 7;
    unsigned two = packed[bit / 8] | (shift > 2 ? (unsigned)packed[bit / 8 + 1] << 8 : 0);
    return (two >> shift) & 63;
}

static inline void hll_dense_put(uint8_t *packed, unsigned i, uint8_t value) {
    unsigned bit = i * 6, shift = bit & 7;
    uint8_t *p = packed + bit / 8;
    p[0] = (uint8_t)((p[0] & ~(63U << shift)) | (unsigned)value << shift);
    if (shift > 2) p[1] = (uint8_t)((p[1] & ~(63U >> (8 - shift))) | (unsigned)value >> (8 - shift));
}

/* Where the next search of a sparse one starts: two opcodes before the register last raised, because changes reach one opcode
 * back. Zero-initialise. */
struct hll_cursor {
    size_t off;     /* of the opcode, from the first */
    unsigned first; /* its first register */
};
/* Raises register i to value at least; i not below that of the last call with the same cursor. 1, 0, -EINVAL; -E2BIG: the dense
 * encoding is needed. */
int hll_sparse_raise(struct obj **slot, struct hll_cursor *cur, unsigned i, uint8_t value);
/* The runs of a sparse one, which never exceed the registers: 0, -EINVAL when they do not add up (some were given then). */
int hll_each_run(const struct obj *o, void (*fn)(void *arg, const struct hll_run *run), void *arg);
/* The run at p, *ret_size bytes of it. False: not a run, or cut off by `end`. */
bool hll_run_at(const uint8_t *p, const uint8_t *end, struct hll_run *ret, unsigned *ret_size);

#endif
