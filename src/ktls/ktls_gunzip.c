/*
 * A small inflate (RFC 1951), for one purpose: Debian and Ubuntu keep the changelog of the running kernel's package gzipped, and
 * ktls_floor.c reads in it which holes the distribution has closed.
 *
 * Place in the flow: at start-up, once, and only when the kernel's version lies in the range of a known hole. Any thread; no
 * state. Rejected: zlib, which would be one more library that everybody who links libktls must have; and running gzip, because a
 * library does not start processes.
 *
 * Codes are decoded bit by bit (RFC 1951 3.2.2 numbers the codes of each length consecutively): slow beside a table, and fast
 * enough for one file.
 */
#include "ktls_gunzip.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define CODE_BITS_MAX 15
#define LITERALS 288
#define DISTANCES 30

struct inflate {
    const uint8_t *in;
    size_t len, at;
    uint32_t bits; /* not yet used, lowest first */
    int n_bits;
    uint8_t *out;
    size_t done, cap, max;
    int err;
};

/* A canonical code. The codes of one length are consecutive numbers, so a length needs only its first code, how many there are,
 * and where their symbols begin in the list of all symbols, which is in order of length, then code. */
struct code {
    struct {
        int first, count, symbols_at;
    } of[CODE_BITS_MAX + 1];
    uint16_t symbol[LITERALS];
};

static int fail(struct inflate *s, int err) {
    if (s->err == 0) s->err = err;
    return -1;
}

/* n bits as a number, or -1 with s->err. */
static int take_bits(struct inflate *s, int n) {
    while (s->n_bits < n) {
        if (s->at == s->len) return fail(s, -EBADMSG);
        s->bits |= (uint32_t)s->in[s->at++] << s->n_bits;
        s->n_bits += 8;
    }
    int v = (int)(s->bits & ((1u << n) - 1));
    s->bits >>= n;
    s->n_bits -= n;
    return v;
}

static int make_room(struct inflate *s, size_t len) {
    if (len > s->max - s->done) return fail(s, -EFBIG);
    if (s->cap - s->done > len) return 0; /* one more for the NUL */
    size_t cap = s->cap ? s->cap * 2 : 65536;
    while (cap - s->done <= len) cap *= 2;
    uint8_t *p = realloc(s->out, cap);
    if (!p) return fail(s, -ENOMEM);
    s->out = p;
    s->cap = cap;
    return 0;
}

/* Lengths of codes to codes. False: they are not a code (more codes than bits allow). An incomplete one is allowed: a stream that
 * uses what is not there fails then. */
static bool make_code(struct code *c, const uint8_t *lengths, int n) {
    int first = 0, at = 0;
    memset(c->of, 0, sizeof c->of);
    for (int i = 0; i < n; i++) c->of[lengths[i]].count += lengths[i] > 0;
    for (int len = 1; len <= CODE_BITS_MAX; len++) {
        c->of[len].first = first;
        c->of[len].symbols_at = at;
        at += c->of[len].count;
        first += c->of[len].count;
        if (first > 1 << len) return false;
        first *= 2;
    }
    int filled[CODE_BITS_MAX + 1] = { 0 };
    for (int i = 0; i < n; i++)
        if (lengths[i]) c->symbol[c->of[lengths[i]].symbols_at + filled[lengths[i]]++] = (uint16_t)i;
    return true;
}

static int take_symbol(struct inflate *s, const struct code *c) {
    int code = 0;
    for (int len = 1; len <= CODE_BITS_MAX; len++) {
        int bit = take_bits(s, 1);
        if (bit < 0) return -1;
        code = code << 1 | bit;
        int nth = code - c->of[len].first;
        if (nth < c->of[len].count) return c->symbol[c->of[len].symbols_at + nth];
    }
    return fail(s, -EBADMSG);
}

/* A repetition: length symbol 257..285, then a distance. */
static int copy_match(struct inflate *s, int symbol, const struct code *distances) {
    static const uint16_t len_base[29] = { 3,  4,  5,  6,  7,  8,  9,  10, 11,  13,  15,  17,  19,  23, 27,
                                           31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227, 258 };
    static const uint8_t len_extra[29] = {
        0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0
    };
    static const uint16_t dist_base[DISTANCES] = { 1,    2,    3,    4,    5,    7,    9,    13,    17,    25,
                                                   33,   49,   65,   97,   129,  193,  257,  385,   513,   769,
                                                   1025, 1537, 2049, 3073, 4097, 6145, 8193, 12289, 16385, 24577 };
    int i = symbol - 257;
    if (i >= 29) return fail(s, -EBADMSG);
    int extra = take_bits(s, len_extra[i]);
    int d = extra < 0 ? -1 : take_symbol(s, distances);
    if (d < 0) return -1;
    if (d >= DISTANCES) return fail(s, -EBADMSG);
    int more = take_bits(s, d < 2 ? 0 : d / 2 - 1);
    if (more < 0) return -1;
    size_t len = (size_t)len_base[i] + (size_t)extra, dist = (size_t)dist_base[d] + (size_t)more;
    if (dist > s->done) return fail(s, -EBADMSG);
    if (make_room(s, len) < 0) return -1;
    for (; len > 0; len--, s->done++) s->out[s->done] = s->out[s->done - dist]; /* may overlap: that is the repetition */
    return 0;
}

static int compressed_block(struct inflate *s, const struct code *literals, const struct code *distances) {
    for (;;) {
        int symbol = take_symbol(s, literals);
        if (symbol < 0) return -1;
        if (symbol == 256) return 0;
        if (symbol > 256) {
            if (copy_match(s, symbol, distances) < 0) return -1;
            continue;
        }
        if (make_room(s, 1) < 0) return -1;
        s->out[s->done++] = (uint8_t)symbol;
    }
}

static int stored_block(struct inflate *s) {
    s->bits = 0;
    s->n_bits = 0; /* to the next byte: never more than 7 bits are held back between symbols */
    if (s->len - s->at < 4) return fail(s, -EBADMSG);
    const uint8_t *p = s->in + s->at;
    size_t len = (size_t)p[0] | (size_t)p[1] << 8;
    if ((len ^ 0xffff) != ((size_t)p[2] | (size_t)p[3] << 8)) return fail(s, -EBADMSG);
    s->at += 4;
    if (s->len - s->at < len) return fail(s, -EBADMSG);
    if (make_room(s, len) < 0) return -1;
    if (len > 0) memcpy(s->out + s->done, s->in + s->at, len);
    s->done += len;
    s->at += len;
    return 0;
}

static int fixed_block(struct inflate *s) {
    uint8_t lengths[LITERALS];
    struct code literals, distances;
    for (int i = 0; i < LITERALS; i++) lengths[i] = i < 144 ? 8 : i < 256 ? 9 : i < 280 ? 7 : 8;
    make_code(&literals, lengths, LITERALS);
    memset(lengths, 5, DISTANCES);
    make_code(&distances, lengths, DISTANCES);
    return compressed_block(s, &literals, &distances);
}

/* The code lengths themselves are coded (RFC 1951 3.2.7). n: how many. */
static int take_lengths(struct inflate *s, const struct code *c, uint8_t *lengths, int n) {
    for (int i = 0; i < n;) {
        int symbol = take_symbol(s, c), times = 1;
        uint8_t value = (uint8_t)symbol;
        if (symbol < 0) return -1;
        if (symbol >= 16) {
            if (symbol == 16 && i == 0) return fail(s, -EBADMSG);
            value = symbol == 16 ? lengths[i - 1] : 0;
            int more = symbol == 16 ? take_bits(s, 2) : symbol == 17 ? take_bits(s, 3) : take_bits(s, 7);
            if (more < 0) return -1;
            times = more + (symbol == 18 ? 11 : 3);
        }
        if (times > n - i) return fail(s, -EBADMSG);
        while (times-- > 0) lengths[i++] = value;
    }
    return 0;
}

static int dynamic_block(struct inflate *s) {
    static const uint8_t order[19] = { 16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15 };
    uint8_t lengths[LITERALS + 32] = { 0 };
    struct code code, literals, distances;
    int n_lit = take_bits(s, 5), n_dist = take_bits(s, 5), n_code = take_bits(s, 4);
    if (n_lit < 0 || n_dist < 0 || n_code < 0) return -1;
    n_lit += 257;
    n_dist += 1;
    if (n_lit > 286 || n_dist > DISTANCES) return fail(s, -EBADMSG);
    for (int i = 0; i < n_code + 4; i++) {
        int len = take_bits(s, 3);
        if (len < 0) return -1;
        lengths[order[i]] = (uint8_t)len;
    }
    if (!make_code(&code, lengths, 19)) return fail(s, -EBADMSG);
    if (take_lengths(s, &code, lengths, n_lit + n_dist) < 0) return -1;
    if (!make_code(&literals, lengths, n_lit) || !make_code(&distances, lengths + n_lit, n_dist)) return fail(s, -EBADMSG);
    return compressed_block(s, &literals, &distances);
}

static void inflate_all(struct inflate *s) {
    int last = 0;
    while (!last && s->err == 0) {
        last = take_bits(s, 1);
        int type = take_bits(s, 2);
        if (type == 0)
            stored_block(s);
        else if (type == 1)
            fixed_block(s);
        else if (type == 2)
            dynamic_block(s);
        else
            fail(s, -EBADMSG);
    }
}

/* Length of the header (RFC 1952 2.3), 0 when it is none. */
static size_t header_len(const uint8_t *p, size_t len) {
    size_t at = 10;
    if (len < 18 || p[0] != 0x1f || p[1] != 0x8b || p[2] != 8 || (p[3] & 0xe0)) return 0;
    if (p[3] & 4) at += 2 + ((size_t)p[10] | (size_t)p[11] << 8);
    for (int text = 8; text <= 16; text *= 2) { /* FNAME, FCOMMENT: NUL-terminated */
        if (!(p[3] & text)) continue;
        while (at < len && p[at]) at++;
        at++;
    }
    if (p[3] & 2) at += 2;
    return at + 8 <= len ? at : 0;
}

int ktls_gunzip(const uint8_t *in, size_t len, size_t max, uint8_t **ret, size_t *ret_len) {
    size_t head = header_len(in, len);
    if (head == 0) return -EBADMSG;
    struct inflate s = { .in = in, .len = len, .at = head, .max = max };
    inflate_all(&s);
    if (s.err == 0) make_room(&s, 0);
    if (s.err == 0) {
        const uint8_t *p = in + s.at; /* CRC-32, then the length */
        if (len - s.at < 8 || (p[4] | (uint32_t)p[5] << 8 | (uint32_t)p[6] << 16 | (uint32_t)p[7] << 24) != (uint32_t)s.done)
            s.err = -EBADMSG;
    }
    if (s.err < 0) {
        free(s.out);
        return s.err;
    }
    s.out[s.done] = 0;
    *ret = s.out;
    *ret_len = s.done;
    return 0;
}
