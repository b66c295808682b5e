/*
 * BITOP: AND, OR, XOR, NOT of whole strings into a key. Shorter operands, and absent ones, are as if padded with zero bytes to
 * the longest.
 */
#include "cmd/cmd_bitmap.h"

#include "base/alloc.h"

enum bit_op { OP_AND, OP_OR, OP_XOR, OP_NOT };

static bool op_parse(struct cmd_ctx *c, enum bit_op *ret) {
    static const char *const names[] = { "and", "or", "xor", "not" };
    for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (!slice_ieq(c->argv[1], names[i])) continue;
        *ret = (enum bit_op)i;
        if (*ret != OP_NOT || c->argc == 4) return true;
        reply_error(c->r, "ERR BITOP NOT must be called with a single source key.");
        return false;
    }
    cmd_syntax_error(c);
    return false;
}

/* dst and s have n bytes; the compiler makes wide loops of these. */
static void op_apply(enum bit_op op, uint8_t *dst, const uint8_t *s, size_t n) {
    switch (op) {
    case OP_AND:
        for (size_t i = 0; i < n; i++) dst[i] &= s[i];
        break;
    case OP_OR:
        for (size_t i = 0; i < n; i++) dst[i] |= s[i];
        break;
    case OP_XOR:
        for (size_t i = 0; i < n; i++) dst[i] ^= s[i];
        break;
    case OP_NOT:
        for (size_t i = 0; i < n; i++) dst[i] = (uint8_t)~s[i];
        break;
    }
}

struct operand {
    struct slice s;
    char tmp[STR_LL_MAX]; /* digits of an int-encoded value */
};

/* The operands' bytes, which stay valid while the shards are locked and nothing is stored. False when an error was replied. */
static bool op_operands(struct cmd_ctx *c, struct operand *ops, int n, size_t *ret_max) {
    *ret_max = 0;
    for (int i = 0; i < n; i++) {
        bool err;
        struct entry *e = cmd_find_typed(c, c->argv[3 + i], OBJ_STRING, false, &err);
        if (err) return false;
        ops[i].s = e == NULL ? SLICE_LIT("") : obj_string_bytes(entry_value(e), ops[i].tmp);
        if (ops[i].s.len > *ret_max) *ret_max = ops[i].s.len;
    }
    return true;
}

static struct obj *op_result(enum bit_op op, const struct operand *ops, int n, size_t len) {
    struct obj *o = obj_string_new_raw(len);
    uint8_t *dst = (uint8_t *)o->u.raw.data;
    if (op == OP_NOT) {
        op_apply(op, dst, (const uint8_t *)ops[0].s.ptr, len);
        return o;
    }
    if (ops[0].s.len > 0) memcpy(dst, ops[0].s.ptr, ops[0].s.len);
    for (int i = 1; i < n; i++) {
        op_apply(op, dst, (const uint8_t *)ops[i].s.ptr, ops[i].s.len);
        if (op == OP_AND) memset(dst + ops[i].s.len, 0, len - ops[i].s.len);
    }
    return o;
}

static void op_store(struct cmd_ctx *c, struct obj *res_take) {
    struct slice key = c->argv[2];
    struct entry *old = cmd_find_write(c, key);
    if (res_take != NULL) {
        generic_put(c, c->db, key, old, res_take, false);
        cmd_modified(c, c->db, key);
        cmd_notify(c, '$', "set", c->db, key);
    } else if (old != NULL) {
        ks_delete(c->ks, c->db, key, atomic_load_explicit(&c->eng->lazy_server_del, memory_order_relaxed));
        cmd_modified(c, c->db, key);
        cmd_notify(c, 'g', "del", c->db, key);
    }
}

void bitmap_bitop_command(struct cmd_ctx *c) {
    enum bit_op op;
    int n = c->argc - 3;
    size_t len;
    if (!op_parse(c, &op)) return;
    struct operand *ops = mem_calloc((size_t)n, sizeof(*ops));
    if (op_operands(c, ops, n, &len)) {
        op_store(c, len > 0 ? op_result(op, ops, n, len) : NULL);
        reply_int(c->r, (int64_t)len);
    }
    mem_free(ops);
}
