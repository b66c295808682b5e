/*
 * HyperLogLogs: adding, counting, merging. They are strings (data/hll.h), so that everything that copies, saves or sends strings
 * carries them. Counting keeps its result in the value and is a change of it: it touches watchers and is replicated.
 */
#include "cmd/cmd_hll.h"

#include <string.h>

void hll_corrupted(struct cmd_ctx *c) {
    reply_error(c->r, "INVALIDOBJ Corrupted HLL object detected");
}

struct entry *hll_find(struct cmd_ctx *c, struct slice key, bool for_write, bool *ret_err) {
    struct entry *e = cmd_find_typed(c, key, OBJ_STRING, for_write, ret_err);
    if (!e || hll_is_one(entry_value(e))) {
        if (e && for_write) ks_string_own(c->ks, c->db, key, &e, 0); /* raw from here on, as redis-server shows it */
        return e;
    }
    reply_error(c->r, "WRONGTYPE Key is not a valid HyperLogLog string value.");
    *ret_err = true;
    return NULL;
}

void hll_pfadd_command(struct cmd_ctx *c) {
    struct slice key = c->argv[1];
    bool err;
    struct entry *e = hll_find(c, key, true, &err);
    uint64_t changes = 0;
    if (err) return;
    if (!e) {
        e = generic_put(c, c->db, key, NULL, hll_new(), false);
        changes++;
    }
    struct obj **slot = entry_value_slot(e);
    for (int i = 2; i < c->argc; i++) {
        int r = hll_add(slot, c->argv[i]);
        if (r < 0) {
            hll_corrupted(c);
            return;
        }
        changes += (uint64_t)r;
    }
    reply_int(c->r, changes > 0);
    if (changes == 0) return;
    hll_forget_estimate(slot);
    cmd_modified(c, c->db, key);
    if (changes > 1) cmd_dirty(c, changes - 1);
    cmd_notify(c, '$', "pfadd", c->db, key);
}

/* ---- PFCOUNT ---- */

static void count_one(struct cmd_ctx *c) {
    bool err;
    uint64_t n;
    struct entry *e = hll_find(c, c->argv[1], false, &err);
    if (err) return;
    if (!e) {
        reply_int(c->r, 0);
        return;
    }
    ks_string_own(c->ks, c->db, c->argv[1], &e, 0);
    if (!hll_kept_estimate(entry_value(e), &n)) {
        if (hll_estimate(entry_value(e), &n) < 0) {
            hll_corrupted(c);
            return;
        }
        hll_keep_estimate(entry_value_slot(e), n);
        cmd_modified(c, c->db, c->argv[1]);
    }
    reply_int(c->r, (int64_t)n);
}

void hll_pfcount_command(struct cmd_ctx *c) {
    if (c->argc == 2) {
        count_one(c);
        return;
    }
    uint8_t regs[HLL_REGISTERS] = { 0 };
    for (int i = 1; i < c->argc; i++) {
        bool err;
        struct entry *e = hll_find(c, c->argv[i], false, &err);
        if (err) return;
        if (e && hll_merge_into(regs, entry_value(e)) < 0) {
            hll_corrupted(c);
            return;
        }
    }
    reply_int(c->r, (int64_t)hll_estimate_of(regs));
}

/* ---- PFMERGE ---- */

void hll_pfmerge_command(struct cmd_ctx *c) {
    struct slice key = c->argv[1];
    uint8_t regs[HLL_REGISTERS] = { 0 };
    bool dense = false;
    for (int i = 1; i < c->argc; i++) { /* with what the destination has */
        bool err;
        struct entry *e = hll_find(c, c->argv[i], false, &err);
        if (err) return;
        if (!e) continue;
        if (hll_merge_into(regs, entry_value(e)) < 0) {
            hll_corrupted(c);
            return;
        }
        if (hll_is_dense(entry_value(e))) dense = true;
    }
    struct entry *to = cmd_find_write(c, key);
    if (!to) to = generic_put(c, c->db, key, NULL, hll_new(), false);
    ks_string_own(c->ks, c->db, key, &to, 0);
    struct obj **slot = entry_value_slot(to);
    if ((dense && hll_to_dense(slot) < 0) || hll_raise(slot, regs) < 0) {
        hll_corrupted(c);
        return;
    }
    hll_forget_estimate(slot);
    reply_ok(c->r);
    cmd_modified(c, c->db, key);
    cmd_notify(c, '$', "pfadd", c->db, key);
}
