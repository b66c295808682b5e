/* HyperLogLogs that somebody SET: counted, merged, added to, made dense, in whatever order. The first bytes say what is done, the
 * rest is the string, behind a header that lets it through. */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "data/hll.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void one_step(struct obj **slot, uint8_t what, struct slice element, uint8_t *regs) {
    uint64_t n;
    struct hll_run run;
    size_t at = 0;
    switch (what & 7) {
    case 0:
        if (hll_estimate(*slot, &n) == 0) hll_keep_estimate(slot, n);
        break;
    case 1:
        hll_merge_into(regs, *slot);
        hll_estimate_of(regs);
        break;
    case 2:
        hll_raise(slot, regs);
        break;
    case 3:
        hll_to_dense(slot);
        break;
    case 4:
        while (!hll_is_dense(*slot) && hll_next_run(*slot, &at, &run)) assert(run.len >= 1 && run.len <= HLL_REGISTERS);
        break;
    default:
        hll_add(slot, element);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    uint8_t regs[HLL_REGISTERS] = { 0 };
    if (size < 16) return 0;
    struct obj *o = obj_string_new_text(data + 8, size - 8);
    if (data[0] & 1) {
        static const char head[] = "HYLL\1\0\0\0\0\0\0\0\0\0\0";
        memcpy(obj_string_own(&o, sizeof(head)), head, sizeof(head));
    }
    if (hll_is_one(o))
        for (int i = 1; i < 8; i++) one_step(&o, data[i], (struct slice){ (const char *)data + i, 4 }, regs);
    obj_unref(o);
    return 0;
}
