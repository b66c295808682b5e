/*
 * Strings as numbers: INCR and its relatives on 64-bit integers, INCRBYFLOAT on long doubles. The expiry of the key stays.
 */
#include "cmd/cmd_string.h"

#include <math.h>

/* ---- INCR, DECR, INCRBY, DECRBY ---- */

static void store_integer(struct cmd_ctx *c, struct slice key, struct entry *e, int64_t v) {
    struct obj *o = e == NULL ? NULL : entry_value(e);
    if (o != NULL && o->enc == OBJ_ENC_INT && obj_refs(o) == 1)
        o->u.integer = v; /* the counter's hot path: no allocation */
    else
        generic_put(c, c->db, key, e, obj_string_from_ll(v), true);
}

static void incr_generic(struct cmd_ctx *c, int64_t by) {
    struct slice key = c->argv[1];
    int64_t v = 0;
    bool err;
    struct entry *e = cmd_find_typed(c, key, OBJ_STRING, true, &err);
    if (err) return;
    if (e != NULL && !obj_string_to_ll(entry_value(e), &v)) {
        reply_error(c->r, "ERR value is not an integer or out of range");
        return;
    }
    if (__builtin_add_overflow(v, by, &v)) {
        reply_error(c->r, "ERR increment or decrement would overflow");
        return;
    }
    store_integer(c, key, e, v);
    cmd_modified(c, c->db, key);
    cmd_notify(c, '$', "incrby", c->db, key);
    reply_int(c->r, v);
}

void string_incr_command(struct cmd_ctx *c) {
    incr_generic(c, 1);
}

void string_decr_command(struct cmd_ctx *c) {
    incr_generic(c, -1);
}

void string_incrby_command(struct cmd_ctx *c) {
    int64_t by;
    if (cmd_arg_ll(c, c->argv[2], &by, NULL)) incr_generic(c, by);
}

void string_decrby_command(struct cmd_ctx *c) {
    int64_t by;
    if (!cmd_arg_ll(c, c->argv[2], &by, NULL)) return;
    if (by == INT64_MIN) { /* has no negative */
        reply_error(c->r, "ERR decrement would overflow");
        return;
    }
    incr_generic(c, -by);
}

/* ---- INCRBYFLOAT ---- */

static bool float_operands(struct cmd_ctx *c, struct entry *e, long double *ret_value, long double *ret_by) {
    char tmp[STR_LL_MAX];
    long double v = 0, by;
    if ((e != NULL && !str_to_long_double(obj_string_bytes(entry_value(e), tmp), &v)) || !str_to_long_double(c->argv[2], &by)) {
        reply_error(c->r, "ERR value is not a valid float");
        return false;
    }
    *ret_value = v;
    *ret_by = by;
    return true;
}

void string_incrbyfloat_command(struct cmd_ctx *c) {
    struct slice key = c->argv[1];
    long double v, by;
    char text[STR_DOUBLE_MAX];
    bool err;
    struct entry *e = cmd_find_typed(c, key, OBJ_STRING, true, &err);
    if (err || !float_operands(c, e, &v, &by)) return;
    v += by;
    if (isnan(v) || isinf(v)) {
        reply_error(c->r, "ERR increment would produce NaN or Infinity");
        return;
    }
    struct slice val = { text, str_from_long_double_human(text, sizeof(text), v) };
    generic_put(c, c->db, key, e, obj_string_new_text(val.ptr, val.len), true);
    /* The sum, not the addend: replicas must not depend on each other's floating point. */
    struct slice argv[] = { SLICE_LIT("SET"), key, val, SLICE_LIT("KEEPTTL") };
    cmd_propagate(c, 4, argv);
    cmd_modified(c, c->db, key);
    cmd_notify(c, '$', "incrbyfloat", c->db, key);
    reply_bulk_slice(c->r, val);
}
