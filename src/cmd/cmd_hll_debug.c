/*
 * HyperLogLogs: PFDEBUG, which shows and changes how one is kept, and PFSELFTEST, which compares the implementation with a plain
 * array of registers and its estimates with the truth.
 */
#include <math.h>
#include <string.h>

#include "base/buf.h"
#include "base/rand.h"
#include "cmd/cmd_hll.h"

/* ---- PFDEBUG ---- */

static void show_registers(struct cmd_ctx *c, struct obj **slot) {
    uint8_t regs[HLL_REGISTERS] = { 0 };
    if (!hll_is_dense(*slot)) {
        if (hll_to_dense(slot) < 0) {
            hll_corrupted(c);
            return;
        }
        cmd_dirty(c, 1);
    }
    hll_merge_into(regs, *slot);
    reply_array(c->r, HLL_REGISTERS);
    for (unsigned i = 0; i < HLL_REGISTERS; i++) reply_int(c->r, regs[i]);
}

/* Corrupted ones too: that is what one looks for. */
static void show_runs(struct cmd_ctx *c, const struct obj *o) {
    struct buf out = { 0 };
    struct hll_run run;
    size_t at = 0;
    if (hll_is_dense(o)) {
        reply_error(c->r, "ERR HLL encoding is not sparse");
        return;
    }
    while (hll_next_run(o, &at, &run)) {
        if (out.len) buf_append_char(&out, ' ');
        if (run.value)
            buf_printf(&out, "v:%u,%u", run.value, run.len);
        else
            buf_printf(&out, "%c:%u", run.is_long ? 'Z' : 'z', run.len);
    }
    reply_bulk(c->r, out.data, out.len);
    buf_done(&out);
}

static void make_dense(struct cmd_ctx *c, struct obj **slot) {
    bool was_dense = hll_is_dense(*slot);
    if (hll_to_dense(slot) < 0) {
        hll_corrupted(c);
        return;
    }
    if (!was_dense) cmd_dirty(c, 1);
    reply_int(c->r, !was_dense);
}

void hll_pfdebug_command(struct cmd_ctx *c) {
    struct slice sub = c->argv[1];
    bool err;
    struct entry *e = hll_find(c, c->argv[2], true, &err);
    if (err) return;
    if (!e)
        reply_error(c->r, "ERR The specified key does not exist");
    else if (slice_ieq(sub, "getreg"))
        show_registers(c, entry_value_slot(e));
    else if (slice_ieq(sub, "decode"))
        show_runs(c, entry_value(e));
    else if (slice_ieq(sub, "encoding"))
        reply_simple(c->r, hll_is_dense(entry_value(e)) ? "dense" : "sparse");
    else if (slice_ieq(sub, "todense"))
        make_dense(c, entry_value_slot(e));
    else
        reply_errorf(c->r, "ERR Unknown PFDEBUG subcommand '%.*s'", (int)(sub.len < 128 ? sub.len : 128), sub.ptr);
}

/* ---- PFSELFTEST ---- */

#define ROUNDS 50
#define ELEMENTS 200000

static bool holds(const struct obj *o, const uint8_t want[HLL_REGISTERS]) {
    uint8_t got[HLL_REGISTERS] = { 0 };
    return hll_merge_into(got, o) == 0 && memcmp(got, want, HLL_REGISTERS) == 0;
}

/* Registers raised at random, in both encodings, are what an array of them is. */
static bool registers_hold(struct cmd_ctx *c) {
    uint8_t want[HLL_REGISTERS] = { 0 };
    struct obj *o = hll_new(), *dense = hll_new();
    bool ok = hll_to_dense(&dense) == 0;
    for (int round = 0; ok && round < ROUNDS; round++) {
        for (int k = 0; k < 1 << round / 4; k++) {
            uint8_t value = (uint8_t)(1 + rand_below(round < ROUNDS / 2 ? 32 : 51)), *r = &want[rand_below(HLL_REGISTERS)];
            if (*r < value) *r = value;
        }
        ok = hll_raise(&o, want) == 0 && hll_raise(&dense, want) == 0 && holds(o, want) && holds(dense, want);
    }
    obj_unref(o);
    obj_unref(dense);
    if (!ok) reply_error(c->r, "TESTFAILED A register does not hold what was put into it");
    return ok;
}

/* Within six standard errors, whatever the number. */
static bool estimates_are_close(struct cmd_ctx *c) {
    const double error = 1.04 / sqrt(HLL_REGISTERS);
    struct obj *o = hll_new(), *dense = hll_new();
    uint64_t seed = rand_u64(), next = 1, by_sparse, by_dense;
    bool ok = hll_to_dense(&dense) == 0;
    for (uint64_t n = 1; ok && n <= ELEMENTS; n++) {
        uint64_t element[2] = { seed, n };
        struct slice s = { (const char *)element, sizeof element };
        ok = hll_add(&o, s) >= 0 && hll_add(&dense, s) >= 0;
        if (n != next) continue;
        next = next < 10 ? next + 1 : next * 5 / 4;
        ok = ok && hll_estimate(o, &by_sparse) == 0 && hll_estimate(dense, &by_dense) == 0 && by_sparse == by_dense &&
             fabs((double)by_dense - (double)n) <= ceil(6 * error * (double)n);
        if (!ok) reply_errorf(c->r, "TESTFAILED An estimate is too far from %llu", (unsigned long long)n);
    }
    obj_unref(o);
    obj_unref(dense);
    return ok;
}

void hll_pfselftest_command(struct cmd_ctx *c) {
    if (registers_hold(c) && estimates_are_close(c)) reply_ok(c->r);
}
