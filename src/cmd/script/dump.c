/*
 * FUNCTION DUMP's payload: what an RDB file has for libraries, and the footer of DUMP.
 *
 *     { 245, string } ...  version (2 bytes, little-endian)  CRC-64 of all before it (8 bytes, little-endian)
 *
 * Strings are as in RDB files: a length and the bytes, or an integer, or compressed by LZF. They are written plain. What is read
 * comes from peers: lengths are checked against what is there, and a compressed string's claimed size against the most that its
 * bytes can become.
 */
#include <string.h>

#include <liblzf/lzf.h>

#include "base/alloc.h"
#include "base/crc64.h"
#include "base/str.h"
#include "cmd/script/script_priv.h"

#define OPCODE_LIBRARY 245
#define RDB_VERSION 11
#define FOOTER 10 /* bytes */
#define MAX_CODE ((uint64_t)512 << 20)
#define LZF_MAX_RATIO 88 /* three bytes become 264 at most */

static void put_le(struct buf *out, uint64_t v, int bytes) {
    for (int i = 0; i < bytes; i++) buf_append_char(out, (char)(v >> (8 * i)));
}

static void put_string(struct buf *out, const char *s, size_t len) {
    if (len < 64) {
        buf_append_char(out, (char)len);
    } else if (len < 16384) {
        buf_append_char(out, (char)(0x40 | len >> 8));
        buf_append_char(out, (char)len);
    } else {
        buf_append_char(out, (char)0x80);
        for (int i = 3; i >= 0; i--) buf_append_char(out, (char)(len >> (8 * i)));
    }
    buf_append(out, s, len);
}

void dump_libraries(const struct scripts *sc, struct buf *out) {
    for (int i = 0; i < sc->n_libs; i++) {
        buf_append_char(out, (char)OPCODE_LIBRARY);
        put_string(out, sc->libs[i]->code, sc->libs[i]->code_len);
    }
    put_le(out, RDB_VERSION, 2);
    put_le(out, crc64(0, out->data, out->len), 8);
}

/* ---- reading ---- */

static uint64_t get_le(const unsigned char *p, int bytes) {
    uint64_t v = 0;
    for (int i = bytes - 1; i >= 0; i--) v = v << 8 | p[i];
    return v;
}

static uint64_t get_be(const unsigned char *p, int bytes) {
    uint64_t v = 0;
    for (int i = 0; i < bytes; i++) v = v << 8 | p[i];
    return v;
}

static bool is_intact(struct slice payload) {
    if (payload.len < FOOTER) return false;
    const unsigned char *footer = (const unsigned char *)payload.ptr + payload.len - FOOTER;
    if (get_le(footer, 2) > RDB_VERSION) return false;
    return get_le(footer + 2, 8) == crc64(0, payload.ptr, payload.len - 8);
}

/* A length, or (bits 11 first) how the string is encoded. False: it ends too soon. */
static bool take_len(struct slice *in, uint64_t *ret, bool *ret_encoded) {
    if (in->len == 0) return false;
    const unsigned char *p = (const unsigned char *)in->ptr;
    unsigned kind = p[0] >> 6;
    size_t used = kind == 1 ? 2 : kind != 2 ? 1 : p[0] == 0x80 ? 5 : 9;
    if (in->len < used || (kind == 2 && p[0] != 0x80 && p[0] != 0x81)) return false;
    *ret_encoded = kind == 3;
    *ret = kind == 1 ? (uint64_t)(p[0] & 63) << 8 | p[1] : kind == 2 ? get_be(p + 1, (int)used - 1) : p[0] & 63;
    in->ptr += used;
    in->len -= used;
    return true;
}

static bool take_compressed(struct slice *in, struct buf *ret) {
    uint64_t packed, len;
    bool enc1, enc2;
    if (!take_len(in, &packed, &enc1) || !take_len(in, &len, &enc2) || enc1 || enc2) return false;
    if (packed > in->len || packed > MAX_CODE || len == 0 || len > MAX_CODE || len > packed * LZF_MAX_RATIO) return false;
    buf_reserve(ret, (size_t)len + 1);
    if (lzf_decompress(in->ptr, (unsigned)packed, ret->data, (unsigned)len) != len) return false;
    ret->len = (size_t)len;
    in->ptr += packed;
    in->len -= packed;
    return true;
}

static bool take_string(struct slice *in, struct buf *ret) {
    uint64_t len;
    bool encoded;
    if (!take_len(in, &len, &encoded)) return false;
    if (!encoded) {
        if (len > in->len) return false;
        buf_append(ret, in->ptr, (size_t)len);
        in->ptr += len;
        in->len -= len;
        return true;
    }
    if (len == 3) return take_compressed(in, ret);
    size_t bytes = len <= 2 ? (size_t)1 << len : 0; /* integers of 1, 2, 4 bytes */
    if (bytes == 0 || in->len < bytes) return false;
    int shift = 64 - 8 * (int)bytes;
    char text[STR_LL_MAX];
    int64_t v = (int64_t)(get_le((const unsigned char *)in->ptr, (int)bytes) << shift) >> shift;
    buf_append(ret, text, str_from_ll(text, v));
    in->ptr += bytes;
    in->len -= bytes;
    return true;
}

bool dump_parse(struct slice payload, bool (*fn)(void *arg, struct slice code), void *arg, const char **ret_error) {
    *ret_error = NULL;
    if (!is_intact(payload)) {
        *ret_error = "ERR DUMP payload version or checksum are wrong";
        return false;
    }
    struct slice in = { payload.ptr, payload.len - FOOTER };
    struct buf code = { 0 };
    bool ok = true;
    while (ok && in.len > 0) {
        buf_clear(&code);
        if ((unsigned char)in.ptr[0] != OPCODE_LIBRARY) {
            *ret_error = "ERR given type is not a function";
            break;
        }
        in.ptr++;
        in.len--;
        if (!take_string(&in, &code)) {
            *ret_error = "ERR Failed loading library payload";
            break;
        }
        ok = fn(arg, (struct slice){ code.data ? code.data : "", code.len });
    }
    buf_done(&code);
    return ok && !*ret_error;
}
