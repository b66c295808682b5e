/*
 * Single bits: SETBIT and GETBIT, and how every bitmap command reads an offset and opens a string for writing.
 */
#include "cmd/cmd_bitmap.h"

bool bitmap_offset_arg(struct cmd_ctx *c, struct slice a, unsigned width, uint64_t *ret) {
    uint64_t max_bytes = atomic_load_explicit(&c->eng->proto_max_bulk_len, memory_order_relaxed);
    bool is_index = width > 0 && a.len > 0 && a.ptr[0] == '#';
    struct slice digits = is_index ? (struct slice){ a.ptr + 1, a.len - 1 } : a;
    int64_t v;
    if (!str_to_ll(digits, &v) || v < 0 || (is_index && __builtin_mul_overflow(v, (int64_t)width, &v)) ||
        (uint64_t)v >> 3 >= max_bytes) {
        reply_error(c->r, "ERR bit offset is not an integer or out of range");
        return false;
    }
    *ret = (uint64_t)v;
    return true;
}

uint8_t *bitmap_for_write(struct cmd_ctx *c, uint64_t last_bit, size_t *ret_len, bool *ret_grown) {
    size_t need = (size_t)(last_bit >> 3) + 1;
    bool err;
    struct entry *e = cmd_find_typed(c, c->argv[1], OBJ_STRING, true, &err);
    if (err) return NULL;
    size_t old_len = e == NULL ? 0 : obj_string_len(entry_value(e));
    *ret_grown = old_len < need;
    *ret_len = old_len < need ? need : old_len;
    if (e == NULL) e = generic_put(c, c->db, c->argv[1], NULL, obj_string_new_raw(need), false);
    return (uint8_t *)ks_string_own(c->ks, c->db, c->argv[1], &e, *ret_len);
}

void bitmap_setbit_command(struct cmd_ctx *c) {
    uint64_t at;
    int64_t on;
    size_t len;
    bool grown;
    if (!bitmap_offset_arg(c, c->argv[2], 0, &at) ||
        !cmd_arg_ll_range(c, c->argv[3], 0, 1, &on, "ERR bit is not an integer or out of range"))
        return;
    uint8_t *p = bitmap_for_write(c, at, &len, &grown);
    if (p == NULL) return;
    unsigned shift = 7 - (at & 7), old = p[at >> 3] >> shift & 1;
    if (grown || old != (unsigned)on) {
        p[at >> 3] = (uint8_t)((p[at >> 3] & ~(1u << shift)) | (unsigned)on << shift);
        cmd_modified(c, c->db, c->argv[1]);
        cmd_notify(c, '$', "setbit", c->db, c->argv[1]);
    }
    reply_int(c->r, old);
}

void bitmap_getbit_command(struct cmd_ctx *c) {
    uint64_t at;
    bool err;
    char tmp[STR_LL_MAX];
    if (!bitmap_offset_arg(c, c->argv[2], 0, &at)) return;
    struct entry *e = cmd_find_typed(c, c->argv[1], OBJ_STRING, false, &err);
    if (err) return;
    struct slice s = e == NULL ? SLICE_LIT("") : obj_string_bytes(entry_value(e), tmp);
    reply_int(c->r, at >> 3 < s.len ? (uint8_t)s.ptr[at >> 3] >> (7 - (at & 7)) & 1 : 0);
}
