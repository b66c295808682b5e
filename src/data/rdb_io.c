/* RDB primitives. See rdb_io.h. Place in the flow: below rdb_save.c and rdb_load.c. Thread: the caller's.
 *
 * A length begins with two bits: 00: six bits of length follow in the byte; 01: fourteen, high ones first; 10: the byte is 0x80
 * or 0x81 and 32 or 64 bits follow, big endian; 11: no length but the kind of an encoded string, in the other six.
 *
 * Memory for a string is taken as its bytes come, never by what a length claims. */
#include "data/rdb_io.h"

#include <liblzf/lzf.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/crc64.h"
#include "base/str.h"

#define FLUSH_AT (64 * 1024)
#define PIECE (256 * 1024) /* bytes given to a string before they have come */
#define LZF_MIN 20         /* shorter strings are not compressed */
#define LZF_SAVES 4        /* bytes that must be saved */
#define LZF_MAX_RATIO 300  /* no LZF data unpacks to more: three bytes give up to 264 */
#define INT_CHARS_MAX 11   /* of a 32-bit number */

enum { ENC_INT8 = 0, ENC_INT16, ENC_INT32, ENC_LZF };

/* ---- writing ---- */

static void send(struct rdb_out *out, const void *p, size_t n) {
    if (out->err || n == 0) return;
    if (out->checksum) out->crc = crc64(out->crc, p, n);
    out->err = out->sink(out->arg, p, n);
}

static void flush(struct rdb_out *out) {
    if (!out->sink) return;
    send(out, out->buf.data, out->buf.len);
    buf_clear(&out->buf);
}

/* With a sink the buffer has room for FLUSH_AT bytes once it has been used, and is flushed before they are more. */
static void put_slowly(struct rdb_out *out, const void *p, size_t n) {
    if (out->sink) flush(out);
    if (out->sink && n >= FLUSH_AT) {
        send(out, p, n);
        return;
    }
    if (out->sink) buf_reserve(&out->buf, FLUSH_AT);
    buf_append(&out->buf, p, n);
}

void rdb_put(struct rdb_out *out, const void *p, size_t n) {
    if (out->err) return;
    out->bytes += n;
    if (n > out->buf.cap - out->buf.len) {
        put_slowly(out, p, n);
        return;
    }
    if (n) memcpy(out->buf.data + out->buf.len, p, n);
    out->buf.len += n;
}

int rdb_flush(struct rdb_out *out) {
    flush(out);
    return out->err;
}

void rdb_out_done(struct rdb_out *out) {
    buf_done(&out->buf);
}

void rdb_put_u8(struct rdb_out *out, uint8_t v) {
    rdb_put(out, &v, 1);
}

static void put_be(unsigned char *p, uint64_t v, int bytes) {
    for (int i = 0; i < bytes; i++) p[i] = (unsigned char)(v >> 8 * (bytes - 1 - i));
}

static void put_le(unsigned char *p, uint64_t v, int bytes) {
    for (int i = 0; i < bytes; i++) p[i] = (unsigned char)(v >> 8 * i);
}

void rdb_put_u64(struct rdb_out *out, uint64_t v) {
    unsigned char b[8];
    put_le(b, v, 8);
    rdb_put(out, b, 8);
}

void rdb_put_double(struct rdb_out *out, double v) {
    uint64_t bits;
    memcpy(&bits, &v, sizeof bits);
    rdb_put_u64(out, bits);
}

void rdb_put_len(struct rdb_out *out, uint64_t v) {
    unsigned char b[9];
    if (v < 64) {
        rdb_put_u8(out, (uint8_t)v);
    } else if (v < 16384) {
        put_be(b, v | 0x4000, 2);
        rdb_put(out, b, 2);
    } else {
        int bytes = v <= UINT32_MAX ? 4 : 8;
        b[0] = bytes == 4 ? 0x80 : 0x81;
        put_be(b + 1, v, bytes);
        rdb_put(out, b, 1 + (size_t)bytes);
    }
}

static void put_int(struct rdb_out *out, int64_t v) {
    unsigned char b[5];
    int kind = v >= INT8_MIN && v <= INT8_MAX ? ENC_INT8 : v >= INT16_MIN && v <= INT16_MAX ? ENC_INT16 : ENC_INT32;
    b[0] = (unsigned char)(0xc0 | kind);
    put_le(b + 1, (uint64_t)v, 1 << kind);
    rdb_put(out, b, 1 + (1u << kind));
}

void rdb_put_lzf(struct rdb_out *out, struct slice lzf, size_t raw_len) {
    rdb_put_u8(out, 0xc0 | ENC_LZF);
    rdb_put_len(out, lzf.len);
    rdb_put_len(out, raw_len);
    rdb_put(out, lzf.ptr, lzf.len);
}

static bool put_compressed(struct rdb_out *out, const void *p, size_t n) {
    if (n <= LZF_MIN || n > UINT32_MAX) return false;
    char *packed = mem_try_alloc(n - LZF_SAVES);
    unsigned len = packed ? lzf_compress(p, (unsigned)n, packed, (unsigned)(n - LZF_SAVES)) : 0;
    if (len) rdb_put_lzf(out, (struct slice){ packed, len }, n);
    mem_free(packed);
    return len > 0;
}

void rdb_put_blob(struct rdb_out *out, const void *p, size_t n) {
    if (out->compress && put_compressed(out, p, n)) return;
    rdb_put_len(out, n);
    rdb_put(out, p, n);
}

void rdb_put_string(struct rdb_out *out, struct slice s) {
    int64_t v;
    if (s.len > 0 && s.len <= INT_CHARS_MAX && str_to_ll(s, &v) && v >= INT32_MIN && v <= INT32_MAX)
        put_int(out, v);
    else
        rdb_put_blob(out, s.ptr, s.len);
}

/* ---- reading ---- */

const char rdb_empty[] = "empty";

bool rdb_fail(struct rdb_in *in, const char *why) {
    if (!in->err) in->err = why;
    if (in->err == rdb_empty) return false;
    in->p = in->end;
    in->more = NULL;
    return false;
}

bool rdb_get(struct rdb_in *in, void *ret, size_t n) {
    unsigned char *to = ret;
    while (n > 0) {
        size_t have = (size_t)(in->end - in->p), take = have < n ? have : n;
        if (take) { /* there may be no piece yet */
            memcpy(to, in->p, take);
            in->p += take;
            to += take;
        }
        n -= take;
        if (n > 0 && (!in->more || !in->more(in))) {
            memset(to, 0, n);
            return rdb_fail(in, "the data ends too early");
        }
    }
    return true;
}

uint8_t rdb_get_u8(struct rdb_in *in) {
    uint8_t v;
    rdb_get(in, &v, 1);
    return v;
}

static uint64_t get_le(const unsigned char *p, int bytes) {
    uint64_t v = 0;
    for (int i = 0; i < bytes; i++) v |= (uint64_t)p[i] << 8 * i;
    return v;
}

static uint64_t get_be(struct rdb_in *in, int bytes) {
    unsigned char b[8];
    uint64_t v = 0;
    rdb_get(in, b, (size_t)bytes);
    for (int i = 0; i < bytes; i++) v = v << 8 | b[i];
    return v;
}

uint64_t rdb_get_u64(struct rdb_in *in) {
    unsigned char b[8];
    rdb_get(in, b, 8);
    return get_le(b, 8);
}

double rdb_get_double(struct rdb_in *in) {
    uint64_t bits = rdb_get_u64(in);
    double v;
    memcpy(&v, &bits, sizeof v);
    return v;
}

uint64_t rdb_get_len(struct rdb_in *in, bool *ret_encoded) {
    uint8_t b = rdb_get_u8(in);
    if (ret_encoded) *ret_encoded = false;
    if (b < 0x40) return b;
    if (b < 0x80) return (uint64_t)(b & 0x3f) << 8 | rdb_get_u8(in);
    if (b == 0x80) return get_be(in, 4);
    if (b == 0x81) return get_be(in, 8);
    if (b >= 0xc0 && ret_encoded) {
        *ret_encoded = true;
        return b & 0x3f;
    }
    rdb_fail(in, "a length has no valid form");
    return 0;
}

/* n bytes as they are, and a NUL behind them. */
static char *get_bytes(struct rdb_in *in, uint64_t n) {
    uint64_t there = (uint64_t)(in->end - in->p);
    if (n > there && (!in->more || (in->max_string && n > in->max_string))) {
        rdb_fail(in, "a string is longer than what follows");
        return NULL;
    }
    size_t cap = n <= there || n < PIECE ? (size_t)n : PIECE, len = 0;
    char *p = mem_alloc(cap + 1);
    while (len < n) {
        if (len == cap) {
            cap = n - len < cap ? (size_t)n : 2 * cap;
            p = mem_realloc(p, cap + 1);
        }
        if (!rdb_get(in, p + len, cap - len)) {
            mem_free(p);
            return NULL;
        }
        len = cap;
    }
    p[n] = 0;
    return p;
}

static bool get_int(struct rdb_in *in, unsigned kind, char **ret, size_t *ret_len) {
    unsigned char b[4];
    int bytes = 1 << kind, unused = 64 - 8 * bytes;
    if (!rdb_get(in, b, (size_t)bytes)) return false;
    *ret = mem_alloc(STR_LL_MAX);
    *ret_len = str_from_ll(*ret, (int64_t)(get_le(b, bytes) << unused) >> unused);
    (*ret)[*ret_len] = 0;
    return true;
}

static bool get_lzf(struct rdb_in *in, char **ret, size_t *ret_len) {
    uint64_t packed_len = rdb_get_len(in, NULL), raw_len = rdb_get_len(in, NULL);
    if (in->err) return false;
    if (raw_len == 0 || raw_len > UINT32_MAX || packed_len > UINT32_MAX || raw_len / LZF_MAX_RATIO > packed_len ||
        (in->max_string && raw_len > in->max_string))
        return rdb_fail(in, "a compressed string has impossible lengths");
    char *packed = get_bytes(in, packed_len);
    if (!packed) return false;
    char *raw = mem_try_alloc(raw_len + 1);
    bool ok = raw && lzf_decompress(packed, (unsigned)packed_len, raw, (unsigned)raw_len) == raw_len;
    mem_free(packed);
    if (!ok) {
        mem_free(raw);
        return rdb_fail(in, "a compressed string cannot be unpacked");
    }
    raw[raw_len] = 0;
    *ret = raw;
    *ret_len = raw_len;
    return true;
}

bool rdb_get_string(struct rdb_in *in, char **ret, size_t *ret_len) {
    bool encoded;
    uint64_t n = rdb_get_len(in, &encoded);
    if (in->err) return false;
    if (encoded && n == ENC_LZF) return get_lzf(in, ret, ret_len);
    if (encoded) return n <= ENC_INT32 ? get_int(in, (unsigned)n, ret, ret_len) : rdb_fail(in, "a string has no known encoding");
    *ret = get_bytes(in, n);
    *ret_len = (size_t)n;
    return *ret != NULL;
}

bool rdb_take_string(struct rdb_in *in, char tmp[RDB_PEEK_TMP], struct slice *ret) {
    const unsigned char *p = in->p;
    size_t there = (size_t)(in->end - p);
    if (there < 2) return false;
    if (p[0] < 0x80) { /* 6 or 14 bits of length */
        size_t head = p[0] < 0x40 ? 1 : 2, n = head == 1 ? p[0] : (size_t)(p[0] & 0x3f) << 8 | p[1];
        if (there - head < n) return false;
        *ret = (struct slice){ (const char *)p + head, n };
        in->p += head + n;
        return true;
    }
    unsigned kind = p[0] & 0x3f;
    if (p[0] < 0xc0 || kind > ENC_INT32 || there < 1 + (1u << kind)) return false;
    int bytes = 1 << kind, unused = 64 - 8 * bytes;
    *ret = (struct slice){ tmp, str_from_ll(tmp, (int64_t)(get_le(p + 1, bytes) << unused) >> unused) };
    in->p += 1 + bytes;
    return true;
}

double rdb_get_text_double(struct rdb_in *in) {
    char text[256];
    uint8_t n = rdb_get_u8(in);
    double v = 0;
    if (n == 255) return -INFINITY;
    if (n == 254) return INFINITY;
    if (n == 253) return NAN;
    if (!rdb_get(in, text, n)) return 0;
    if (!str_to_double((struct slice){ text, n }, &v)) rdb_fail(in, "a number cannot be read");
    return v;
}
