/*
 * BITCOUNT and BITPOS: bits counted and searched within a range of bytes or of bits.
 *
 * Both turn what the client gave into one range of bits, first..last inclusive, and work on that: whole words in the middle,
 * masked bytes at the edges. Arguments are checked before the key is looked up, so that a malformed command is an error even for
 * an absent key.
 */
#include "cmd/cmd_bitmap.h"

struct bit_range {
    int64_t start, end; /* as given, in units; then bits */
    bool in_bits;
    bool end_given;
};

/* BYTE or BIT at argv[at], when there. */
static bool range_unit(struct cmd_ctx *c, int at, struct bit_range *r) {
    if (c->argc <= at) return true;
    if (c->argc == at + 1 && slice_ieq(c->argv[at], "bit")) {
        r->in_bits = true;
        return true;
    }
    if (c->argc == at + 1 && slice_ieq(c->argv[at], "byte")) return true;
    cmd_syntax_error(c);
    return false;
}

/* Makes the range one of bits within a string of len bytes. False when it is empty. */
static bool range_resolve(struct bit_range *r, size_t len) {
    int64_t total = r->in_bits ? (int64_t)len * 8 : (int64_t)len;
    int64_t start = r->start, end = r->end_given ? r->end : total - 1;
    if (start < 0) start = start + total > 0 ? start + total : 0;
    if (end < 0) end = end + total > 0 ? end + total : 0;
    if (end >= total) end = total - 1;
    if (start > end) return false;
    r->start = r->in_bits ? start : start * 8;
    r->end = r->in_bits ? end : end * 8 + 7;
    return true;
}

/* The bits of byte i that lie within first..last. */
static uint8_t edge_mask(size_t i, uint64_t first, uint64_t last) {
    uint8_t m = 0xff;
    if (i == first >> 3) m = (uint8_t)(m & 0xff >> (first & 7));
    if (i == last >> 3) m = (uint8_t)(m & 0xff << (7 - (last & 7)));
    return m;
}

static int64_t count_bytes(const uint8_t *p, size_t len) {
    int64_t n = 0;
    uint64_t w[4];
    for (; len >= sizeof(w); p += sizeof(w), len -= sizeof(w)) {
        memcpy(w, p, sizeof(w));
        n += __builtin_popcountll(w[0]) + __builtin_popcountll(w[1]) + __builtin_popcountll(w[2]) + __builtin_popcountll(w[3]);
    }
    for (; len > 0; p++, len--) n += __builtin_popcount(*p);
    return n;
}

static int64_t count_bits(const uint8_t *p, uint64_t first, uint64_t last) {
    size_t from = first >> 3, to = last >> 3;
    int64_t n = __builtin_popcount(p[from] & edge_mask(from, first, last));
    if (from == to) return n;
    return n + count_bytes(p + from + 1, to - from - 1) + __builtin_popcount(p[to] & edge_mask(to, first, last));
}

void bitmap_bitcount_command(struct cmd_ctx *c) {
    struct bit_range r = { 0 };
    char tmp[STR_LL_MAX];
    bool err;
    if (c->argc == 3 || c->argc > 5) {
        cmd_syntax_error(c);
        return;
    }
    if (c->argc >= 4) {
        if (!cmd_arg_ll(c, c->argv[2], &r.start, NULL) || !cmd_arg_ll(c, c->argv[3], &r.end, NULL) || !range_unit(c, 4, &r))
            return;
        r.end_given = true;
    }
    struct entry *e = cmd_find_typed(c, c->argv[1], OBJ_STRING, false, &err);
    if (err) return;
    struct slice s = e == NULL ? SLICE_LIT("") : obj_string_bytes(entry_value(e), tmp);
    bool is_empty = r.end_given && r.start < 0 && r.end < 0 && r.start > r.end; /* before clamping would make it byte 0 */
    if (is_empty || !range_resolve(&r, s.len))
        reply_int(c->r, 0);
    else
        reply_int(c->r, count_bits((const uint8_t *)s.ptr, (uint64_t)r.start, (uint64_t)r.end));
}

/* First bit equal to `bit` in first..last, or -1. */
static int64_t find_bit(const uint8_t *p, uint64_t first, uint64_t last, unsigned bit) {
    uint64_t skip = bit ? 0 : ~0ULL, w; /* a word without the bit */
    size_t from = first >> 3, to = last >> 3;
    for (size_t i = from; i <= to;) {
        if (i != from && i + sizeof(w) <= to) {
            memcpy(&w, p + i, sizeof(w));
            if (w == skip) {
                i += sizeof(w);
                continue;
            }
        }
        unsigned hits = (bit ? p[i] : (unsigned)~p[i]) & edge_mask(i, first, last);
        if (hits != 0) return (int64_t)(i * 8) + __builtin_clz(hits) - 24; /* of 32 bits, the low 8 */
        i++;
    }
    return -1;
}

void bitmap_bitpos_command(struct cmd_ctx *c) {
    struct bit_range r = { 0 };
    char tmp[STR_LL_MAX];
    int64_t bit;
    bool err;
    if (!cmd_arg_ll(c, c->argv[2], &bit, NULL)) return;
    if (bit != 0 && bit != 1) {
        reply_error(c->r, "ERR The bit argument must be 1 or 0.");
        return;
    }
    if (c->argc > 6) {
        cmd_syntax_error(c);
        return;
    }
    r.end_given = c->argc >= 5;
    if ((c->argc >= 4 && !cmd_arg_ll(c, c->argv[3], &r.start, NULL)) || !range_unit(c, 5, &r) ||
        (r.end_given && !cmd_arg_ll(c, c->argv[4], &r.end, NULL)))
        return;
    struct entry *e = cmd_find_typed(c, c->argv[1], OBJ_STRING, false, &err);
    if (err) return;
    if (e == NULL) { /* nothing is zeros without end */
        reply_int(c->r, bit ? -1 : 0);
        return;
    }
    struct slice s = obj_string_bytes(entry_value(e), tmp);
    if (!range_resolve(&r, s.len)) {
        reply_int(c->r, -1);
        return;
    }
    int64_t at = find_bit((const uint8_t *)s.ptr, (uint64_t)r.start, (uint64_t)r.end, (unsigned)bit);
    /* A string is followed by zeros, unless the client said where to stop looking. */
    if (at < 0 && bit == 0 && !r.end_given) at = r.end + 1;
    reply_int(c->r, at);
}
