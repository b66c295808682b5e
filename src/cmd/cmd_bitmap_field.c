/*
 * BITFIELD and BITFIELD_RO: a string as an array of signed (i1..i64) and unsigned (u1..u63) integers at any bit offset.
 *
 * Flow: all operations are parsed and checked first; then the string is opened, for reading when every operation is a GET, else
 * grown once to the farthest bit written; then the operations run in order, each giving one reply. Arithmetic is done in 128
 * bits, in which no sum of two fields overflows: fitting a result back into its field is then a comparison, and wrapping a mask.
 */
#include "cmd/cmd_bitmap.h"

#include <assert.h>

#include "base/alloc.h"

enum field_verb { FIELD_GET, FIELD_SET, FIELD_INCRBY };
enum field_overflow { FIELD_WRAP, FIELD_SAT, FIELD_FAIL };

struct field_op {
    enum field_verb verb;
    enum field_overflow overflow;
    bool is_signed;
    unsigned bits;
    uint64_t at;   /* bit offset */
    int64_t value; /* to set, or to add */
};

struct field_prog {
    struct field_op *ops;
    int n;
    bool writes;
    uint64_t last_bit; /* farthest one written */
};

/* ---- parsing ---- */

static bool field_type(struct cmd_ctx *c, struct slice a, struct field_op *op) {
    int64_t bits;
    op->is_signed = a.len > 0 && a.ptr[0] == 'i';
    if (a.len < 2 || (!op->is_signed && a.ptr[0] != 'u') || !str_to_ll((struct slice){ a.ptr + 1, a.len - 1 }, &bits) ||
        bits < 1 || bits > (op->is_signed ? 64 : 63)) {
        reply_error(c->r, "ERR Invalid bitfield type. Use something like i16 u8. Note that u64 is not supported but i64 is.");
        return false;
    }
    op->bits = (unsigned)bits;
    return true;
}

static bool field_overflow_word(struct cmd_ctx *c, struct slice a, enum field_overflow *ret) {
    if (slice_ieq(a, "wrap"))
        *ret = FIELD_WRAP;
    else if (slice_ieq(a, "sat"))
        *ret = FIELD_SAT;
    else if (slice_ieq(a, "fail"))
        *ret = FIELD_FAIL;
    else {
        reply_error(c->r, "ERR Invalid OVERFLOW type specified");
        return false;
    }
    return true;
}

/* One GET, SET or INCRBY at argv[i]. Returns the arguments used, verb included; 0 when an error was replied. */
static int field_parse_op(struct cmd_ctx *c, int i, struct field_op *op) {
    int left = c->argc - i - 1;
    if (slice_ieq(c->argv[i], "get") && left >= 2)
        op->verb = FIELD_GET;
    else if (slice_ieq(c->argv[i], "set") && left >= 3)
        op->verb = FIELD_SET;
    else if (slice_ieq(c->argv[i], "incrby") && left >= 3)
        op->verb = FIELD_INCRBY;
    else {
        cmd_syntax_error(c);
        return 0;
    }
    if (!field_type(c, c->argv[i + 1], op) || !bitmap_offset_arg(c, c->argv[i + 2], op->bits, &op->at)) return 0;
    if (op->verb == FIELD_GET) return 3;
    return cmd_arg_ll(c, c->argv[i + 3], &op->value, NULL) ? 4 : 0;
}

static bool field_parse(struct cmd_ctx *c, struct field_prog *p) {
    enum field_overflow overflow = FIELD_WRAP;
    for (int i = 2; i < c->argc;) {
        if (slice_ieq(c->argv[i], "overflow") && i + 1 < c->argc) {
            if (!field_overflow_word(c, c->argv[i + 1], &overflow)) return false;
            i += 2;
            continue;
        }
        struct field_op *op = &p->ops[p->n];
        op->overflow = overflow;
        int used = field_parse_op(c, i, op);
        if (used == 0) return false;
        uint64_t last = op->at + op->bits - 1;
        if (op->verb != FIELD_GET) {
            p->writes = true;
            if (last > p->last_bit) p->last_bit = last;
        }
        p->n++;
        i += used;
    }
    return true;
}

/* ---- reading and writing a field: at most 9 bytes hold one ---- */

static uint64_t field_mask(unsigned bits) {
    return bits == 64 ? ~0ULL : (1ULL << bits) - 1;
}

/* The bytes around the field as one number; beyond the end of the string are zeros. *ret_shift: bits to the right of the field.
 */
static unsigned __int128 field_window(const uint8_t *p, size_t len, const struct field_op *op, unsigned *ret_shift) {
    size_t first = op->at >> 3, last = (op->at + op->bits - 1) >> 3;
    unsigned __int128 w = 0;
    for (size_t i = first; i <= last; i++) w = w << 8 | (i < len ? p[i] : 0);
    *ret_shift = 7 - (unsigned)((op->at + op->bits - 1) & 7);
    return w;
}

static uint64_t field_load(const uint8_t *p, size_t len, const struct field_op *op) {
    unsigned shift;
    unsigned __int128 w = field_window(p, len, op, &shift);
    return (uint64_t)(w >> shift) & field_mask(op->bits);
}

static void field_store(uint8_t *p, size_t len, const struct field_op *op, uint64_t v) {
    unsigned shift;
    unsigned __int128 w = field_window(p, len, op, &shift);
    unsigned __int128 mask = (unsigned __int128)field_mask(op->bits) << shift;
    w = (w & ~mask) | ((unsigned __int128)v << shift & mask);
    for (size_t i = ((op->at + op->bits - 1) >> 3) + 1; i-- > op->at >> 3; w >>= 8) p[i] = (uint8_t)w;
}

/* ---- arithmetic ---- */

static int64_t field_number(uint64_t raw, const struct field_op *op) {
    if (op->is_signed && op->bits < 64 && (raw >> (op->bits - 1)) & 1) raw |= ~field_mask(op->bits);
    return (int64_t)raw;
}

/* Fits v into the field by the overflow rule; false: FIELD_FAIL and it does not fit. */
static bool field_fit(__int128 v, const struct field_op *op, int64_t *ret) {
    __int128 max = op->is_signed ? ((__int128)1 << (op->bits - 1)) - 1 : ((__int128)1 << op->bits) - 1;
    __int128 min = op->is_signed ? -max - 1 : 0;
    if (v >= min && v <= max)
        *ret = (int64_t)v;
    else if (op->overflow == FIELD_FAIL)
        return false;
    else if (op->overflow == FIELD_SAT)
        *ret = (int64_t)(v > max ? max : min);
    else
        *ret = field_number((uint64_t)v & field_mask(op->bits), op);
    return true;
}

/* The value of a SET as redis-server understands it. For an unsigned field a negative number is a huge one. For a signed field of
 * less than 64 bits the lowest int64 values count as too high, so that SAT stores the maximum: an overflow in its comparison,
 * kept, since replicas of either make must agree. */
static __int128 field_set_value(const struct field_op *op) {
    if (!op->is_signed) return (uint64_t)op->value;
    int64_t max = (int64_t)(field_mask(op->bits) >> 1);
    bool is_low = op->bits < 64 && op->value < max - INT64_MAX;
    return is_low ? ((__int128)1 << 64) + op->value : op->value;
}

/* Runs SET or INCRBY and replies. True when the string changed. */
static bool field_write(struct cmd_ctx *c, const struct field_op *op, uint8_t *p, size_t len) {
    int64_t old = field_number(field_load(p, len, op), op), now;
    __int128 wanted = op->verb == FIELD_INCRBY ? (__int128)old + op->value : field_set_value(op);
    if (!field_fit(wanted, op, &now)) {
        reply_null(c->r);
        return false;
    }
    field_store(p, len, op, (uint64_t)now);
    reply_int(c->r, op->verb == FIELD_SET ? old : now);
    return now != old;
}

/* ---- commands ---- */

static void field_run(struct cmd_ctx *c, const struct field_prog *prog) {
    const uint8_t *rp = NULL;
    uint8_t *wp = NULL;
    size_t len = 0;
    bool err, grown = false;
    char tmp[STR_LL_MAX];
    uint64_t changes = 0;
    if (prog->writes) {
        rp = wp = bitmap_for_write(c, prog->last_bit, &len, &grown);
        if (wp == NULL) return;
    } else {
        struct entry *e = cmd_find_typed(c, c->argv[1], OBJ_STRING, false, &err);
        if (err) return;
        struct slice s = e == NULL ? SLICE_LIT("") : obj_string_bytes(entry_value(e), tmp);
        rp = (const uint8_t *)s.ptr;
        len = s.len;
    }
    reply_array(c->r, (size_t)prog->n);
    for (int i = 0; i < prog->n; i++) {
        const struct field_op *op = &prog->ops[i];
        if (op->verb == FIELD_GET) {
            reply_int(c->r, field_number(field_load(rp, len, op), op));
        } else {
            assert(wp); /* prog->writes said so */
            changes += field_write(c, op, wp, len);
        }
    }
    /* A string that grew has changed even when every operation failed. */
    if (changes == 0 && !grown) return;
    cmd_modified(c, c->db, c->argv[1]);
    if (changes > 1) cmd_dirty(c, changes - 1);
    cmd_notify(c, '$', "setbit", c->db, c->argv[1]);
}

static void field_generic(struct cmd_ctx *c, bool read_only) {
    struct field_prog prog = { .ops = mem_calloc((size_t)c->argc, sizeof(struct field_op)) };
    if (field_parse(c, &prog)) {
        if (prog.writes && read_only)
            reply_error(c->r, "ERR BITFIELD_RO only supports the GET subcommand");
        else
            field_run(c, &prog);
    }
    mem_free(prog.ops);
}

void bitmap_bitfield_command(struct cmd_ctx *c) {
    field_generic(c, false);
}

void bitmap_bitfield_ro_command(struct cmd_ctx *c) {
    field_generic(c, true);
}

int bitmap_field_keys(int argc, const struct slice *argv, int *pos, unsigned *flags, int cap) {
    unsigned f = KEY_RO | KEY_ACCESS;
    for (int i = 2; i < argc; i++) {
        int left = argc - i - 1;
        if (slice_ieq(argv[i], "get") && left >= 2) {
            i += 2;
        } else if (slice_ieq(argv[i], "overflow") && left >= 1) {
            i += 1;
        } else {
            f = KEY_RW | KEY_ACCESS | KEY_UPDATE;
            break;
        }
    }
    if (cap >= 1) {
        pos[0] = 1;
        if (flags != NULL) flags[0] = f;
    }
    return 1;
}
