/* HyperLogLogs: how many different elements were seen, to within 0.81%, in 12 KiB. The value is a string whose bytes are those of
 * Redis, so that GET, SET, DUMP and files carry it between servers:
 *
 *     "HYLL" | encoding (1) | unused (3) | estimate (8, little endian) | registers
 *
 * The highest bit of the estimate says that it is out of date. Registers: 16,384 of six bits (dense), or runs (sparse):
 *
 *     00xxxxxx            1 to 64 registers of 0
 *     01xxxxxx xxxxxxxx   1 to 16,384 registers of 0
 *     1vvvvvxx            1 to 4 registers of the value 1 to 32
 *
 * Anybody can SET such a string: every function here checks what it walks over, -EINVAL where it is not what it must be.
 * Locking: the shard of the key, as for every value. */
#ifndef KETTLE_DATA_HLL_H
#define KETTLE_DATA_HLL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/slice.h"
#include "data/object.h"

#define HLL_REGISTERS 16384

bool hll_is_one(const struct obj *o); /* by its header and, when dense, its length; the registers may still be wrong */
struct obj *hll_new(void);            /* empty, sparse */

/* Functions that change one replace *slot where they must (obj_string_own). Adding makes it dense when a sparse one would grow
 * beyond hll-sparse-max-bytes, or could not hold a register's value. */

/* 1: a register rose. 0: nothing to do. -EINVAL: corrupted. The estimate is not marked out of date: hll_forget_estimate. */
int hll_add(struct obj **slot, struct slice element);
void hll_forget_estimate(struct obj **slot);
/* The kept estimate. False: out of date. */
bool hll_kept_estimate(const struct obj *o, uint64_t *ret);
void hll_keep_estimate(struct obj **slot, uint64_t estimate);
int hll_estimate(const struct obj *o, uint64_t *ret); /* from the registers: 0, -EINVAL */
bool hll_is_dense(const struct obj *o);
int hll_to_dense(struct obj **slot); /* 0, also when it is; -EINVAL */

/* Registers one by one: the union of several is the highest of each. */
int hll_merge_into(uint8_t regs[HLL_REGISTERS], const struct obj *o); /* 0, -EINVAL: some may be merged already */
uint64_t hll_estimate_of(const uint8_t regs[HLL_REGISTERS]);
/* Raises the registers that are lower than in regs. 0, -EINVAL. */
int hll_raise(struct obj **slot, const uint8_t regs[HLL_REGISTERS]);

/* The runs of a sparse one as they stand, whether they make sense or not: from *at (0 to start) on, one a call. A long run that
 * is cut in its middle is shown as if a zero byte followed, as in redis-server. False: no more. */
struct hll_run {
    uint8_t value;
    bool is_long; /* of zeros: which of the two encodings */
    unsigned len;
};
bool hll_next_run(const struct obj *o, size_t *at, struct hll_run *ret);

#endif
