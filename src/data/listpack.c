/* Listpacks. See listpack.h for the layout. Place in the flow: compact values and nodes of large ones. Thread: the owner's.
 *
 * First byte of an element:
 *
 *     0xxxxxxx                    integer 0..127
 *     10xxxxxx  text              text of up to 63 bytes
 *     110xxxxx xxxxxxxx           integer of 13 bits, two's complement
 *     1110xxxx xxxxxxxx  text     text of up to 4,095 bytes
 *     11110000 4 bytes   text     text, length little endian
 *     11110001 .. 11110100        integer of 16, 24, 32, 64 bits, little endian
 *     11111111                    the end
 *
 * The length behind an element is read backwards: seven bits a byte, the last byte of memory has the lowest ones, every byte but
 * the first of memory has bit 7 set.
 *
 * Invariants: the header's total is the number of bytes up to and with the end byte; the count is exact, or 65,535 when it is
 * 65,535 or more (or was once): then elements are counted by walking. Nothing here checks bytes it walks over: what comes from
 * outside goes through lp_is_valid once. */
#include "data/listpack.h"

#include <assert.h>
#include <string.h>

#include "base/alloc.h"

#define HEADER 6
#define END 0xff
#define COUNT_UNKNOWN 65535
#define MAX_INT_BYTES 9 /* encoded: one byte and 64 bits */
#define MAX_BACKLEN 5
#define INT_CHARS_MAX 20 /* longer text is never stored as an integer */

enum { STR6 = 0x80, INT13 = 0xc0, STR12 = 0xe0, STR32 = 0xf0, INT16 = 0xf1, INT24 = 0xf2, INT32 = 0xf3, INT64 = 0xf4 };

/* ---- header ---- */

static uint32_t get_u32(const unsigned char *p) {
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static void put_u32(unsigned char *p, uint32_t v) {
    for (int i = 0; i < 4; i++) p[i] = (unsigned char)(v >> 8 * i);
}

static unsigned get_count(const unsigned char *lp) {
    return lp[4] | (unsigned)lp[5] << 8;
}

static void put_count(unsigned char *lp, size_t n) {
    if (n > COUNT_UNKNOWN) n = COUNT_UNKNOWN;
    lp[4] = (unsigned char)n;
    lp[5] = (unsigned char)(n >> 8);
}

static void put_header(unsigned char *lp, size_t bytes, size_t n) {
    put_u32(lp, (uint32_t)bytes);
    put_count(lp, n);
}

/* Once unknown it stays so until the listpack is counted while small enough again. */
static void add_count(unsigned char *lp, long n) {
    unsigned now = get_count(lp);
    if (now != COUNT_UNKNOWN) put_count(lp, (size_t)((long)now + n));
}

size_t lp_bytes(const unsigned char *lp) {
    return get_u32(lp);
}

bool lp_has_room(const unsigned char *lp, size_t len) {
    return len <= LP_MAX_BYTES && lp_bytes(lp) + len + MAX_INT_BYTES + MAX_BACKLEN <= LP_MAX_BYTES;
}

unsigned char *lp_new(size_t cap) {
    unsigned char *lp = mem_alloc(cap > LP_EMPTY_BYTES ? cap : LP_EMPTY_BYTES);
    put_header(lp, LP_EMPTY_BYTES, 0);
    lp[HEADER] = END;
    return lp;
}

unsigned char *lp_dup(const unsigned char *lp) {
    size_t bytes = lp_bytes(lp);
    unsigned char *copy = mem_alloc(bytes);
    memcpy(copy, lp, bytes);
    return copy;
}

unsigned char *lp_shrink(unsigned char *lp) {
    return mem_usable(lp) > lp_bytes(lp) ? mem_realloc(lp, lp_bytes(lp)) : lp;
}

/* ---- one element ---- */

/* The bounds are the format's own: 16,383 takes three bytes although two would do. */
static size_t backlen_size(size_t len) {
    if (len <= 127) return 1;
    if (len < 16383) return 2;
    if (len < 2097151) return 3;
    return len < 268435455 ? 4 : 5;
}

static size_t put_backlen(unsigned char *p, size_t len) {
    size_t n = backlen_size(len);
    for (size_t i = n; i-- > 0; len >>= 7) p[i] = (unsigned char)((len & 127) | (i ? 128 : 0));
    return n;
}

/* p: the last byte of the length. */
static size_t get_backlen(const unsigned char *p) {
    size_t len = 0;
    for (unsigned shift = 0; shift <= 28; shift += 7, p--) {
        len |= (size_t)(*p & 127) << shift;
        if (!(*p & 128)) break;
    }
    return len;
}

/* Bytes of the encoding and data of an element. */
static size_t body_size(const unsigned char *p) {
    if (p[0] < 0x80) return 1;
    if (p[0] < 0xc0) return 1 + (size_t)(p[0] & 0x3f);
    if (p[0] < 0xe0) return 2;
    if (p[0] < 0xf0) return 2 + ((size_t)(p[0] & 0x0f) << 8 | p[1]);
    switch (p[0]) {
    case STR32:
        return 5 + (size_t)get_u32(p + 1);
    case INT16:
        return 3;
    case INT24:
        return 4;
    case INT32:
        return 5;
    case INT64:
        return 9;
    default:
        return 1; /* the end */
    }
}

size_t lp_entry_bytes(const unsigned char *p) {
    size_t body = body_size(p);
    return body + backlen_size(body);
}

static int64_t sign_extend(uint64_t v, unsigned bits) {
    return (int64_t)(v << (64 - bits)) >> (64 - bits);
}

static int64_t get_le(const unsigned char *p, unsigned bytes) {
    uint64_t v = 0;
    assert(bytes > 0);
    for (unsigned i = 0; i < bytes; i++) v |= (uint64_t)p[i] << 8 * i;
    return sign_extend(v, bytes * 8);
}

bool lp_get_int(const unsigned char *p, int64_t *ret_int, struct slice *ret_str) {
    const char *text = (const char *)p;
    if (p[0] < 0x80) {
        *ret_int = p[0];
    } else if (p[0] < 0xc0) {
        *ret_str = (struct slice){ text + 1, p[0] & 0x3f };
        return false;
    } else if (p[0] < 0xe0) {
        *ret_int = sign_extend((uint64_t)(p[0] & 0x1f) << 8 | p[1], 13);
    } else if (p[0] < 0xf0) {
        *ret_str = (struct slice){ text + 2, (size_t)(p[0] & 0x0f) << 8 | p[1] };
        return false;
    } else if (p[0] == STR32) {
        *ret_str = (struct slice){ text + 5, get_u32(p + 1) };
        return false;
    } else {
        *ret_int = get_le(p + 1, p[0] == INT64 ? 8 : (unsigned)(p[0] - INT16) + 2);
    }
    return true;
}

struct slice lp_get(const unsigned char *p, char tmp[STR_LL_MAX]) {
    int64_t v;
    struct slice s;
    if (!lp_get_int(p, &v, &s)) return s;
    return (struct slice){ tmp, str_from_ll(tmp, v) };
}

size_t lp_len(const unsigned char *p) {
    char tmp[STR_LL_MAX];
    return lp_get(p, tmp).len;
}

/* An integer as it is stored; the number of bytes. */
static size_t encode_int(unsigned char *out, int64_t v) {
    if (v >= 0 && v <= 127) {
        out[0] = (unsigned char)v;
        return 1;
    }
    if (v >= -4096 && v <= 4095) {
        out[0] = (unsigned char)(INT13 | ((uint64_t)v >> 8 & 0x1f));
        out[1] = (unsigned char)v;
        return 2;
    }
    unsigned bytes = v >= INT16_MIN && v <= INT16_MAX   ? 2
                     : v >= -8388608 && v <= 8388607    ? 3
                     : v >= INT32_MIN && v <= INT32_MAX ? 4
                                                        : 8;
    out[0] = (unsigned char)(bytes == 8 ? INT64 : INT16 + bytes - 2);
    for (unsigned i = 0; i < bytes; i++) out[1 + i] = (unsigned char)((uint64_t)v >> 8 * i);
    return 1 + bytes;
}

/* What goes in: an encoded integer, or a text with its header. */
struct item {
    unsigned char head[MAX_INT_BYTES];
    size_t head_len;
    struct slice text;
};

static void item_int(struct item *it, int64_t v) {
    it->head_len = encode_int(it->head, v);
    it->text = (struct slice){ NULL, 0 };
}

static void item_str(struct item *it, struct slice s) {
    int64_t v;
    if (s.len <= INT_CHARS_MAX && s.len > 0 && str_to_ll(s, &v)) {
        item_int(it, v);
        return;
    }
    it->text = s;
    if (s.len < 64) {
        it->head[0] = (unsigned char)(STR6 | s.len);
        it->head_len = 1;
    } else if (s.len < 4096) {
        it->head[0] = (unsigned char)(STR12 | s.len >> 8);
        it->head[1] = (unsigned char)s.len;
        it->head_len = 2;
    } else {
        it->head[0] = STR32;
        put_u32(it->head + 1, (uint32_t)s.len);
        it->head_len = 5;
    }
}

bool lp_eq(const unsigned char *p, struct slice s) {
    int64_t a, b;
    struct slice text;
    if (!lp_get_int(p, &a, &text)) return slice_eq(text, s);
    return s.len > 0 && s.len <= INT_CHARS_MAX && str_to_ll(s, &b) && a == b;
}

/* ---- walking ---- */

/* Element pointers of a const listpack are handed out for reading and changing alike, as strchr does. */
static unsigned char *at(const unsigned char *p) {
    return (unsigned char *)(uintptr_t)p;
}

unsigned char *lp_first(const unsigned char *lp) {
    return lp[HEADER] == END ? NULL : at(lp + HEADER);
}

static const unsigned char *end_of(const unsigned char *lp) {
    return lp + lp_bytes(lp) - 1;
}

/* The element that ends before p. */
static const unsigned char *before(const unsigned char *p) {
    size_t body = get_backlen(p - 1);
    return p - backlen_size(body) - body;
}

unsigned char *lp_last(const unsigned char *lp) {
    return lp[HEADER] == END ? NULL : at(before(end_of(lp)));
}

unsigned char *lp_next(const unsigned char *lp, const unsigned char *p) {
    (void)lp;
    p += lp_entry_bytes(p);
    return *p == END ? NULL : at(p);
}

unsigned char *lp_prev(const unsigned char *lp, const unsigned char *p) {
    return p == lp + HEADER ? NULL : at(before(p));
}

size_t lp_count(const unsigned char *lp) {
    unsigned n = get_count(lp);
    if (n != COUNT_UNKNOWN) return n;
    size_t count = 0;
    for (const unsigned char *p = lp_first(lp); p; p = lp_next(lp, p)) count++;
    return count;
}

unsigned char *lp_seek(const unsigned char *lp, long index) {
    unsigned n = get_count(lp);
    if (n != COUNT_UNKNOWN) {
        if (index < -(long)n || index >= (long)n) return NULL;
        if (index >= 0 && index > (long)n / 2) index -= n; /* nearer from the end */
        if (index < 0 && -index > (long)n / 2 + 1) index += n;
    }
    unsigned char *p;
    if (index >= 0) {
        p = lp_first(lp);
        while (p && index-- > 0) p = lp_next(lp, p);
    } else {
        p = lp_last(lp);
        while (p && ++index < 0) p = lp_prev(lp, p);
    }
    return p;
}

unsigned char *lp_find(const unsigned char *lp, const unsigned char *p, struct slice s, unsigned skip) {
    (void)lp;
    if (!p) return NULL;
    int64_t want, v;
    bool is_int = s.len > 0 && s.len <= INT_CHARS_MAX && str_to_ll(s, &want);
    struct slice text;
    for (unsigned to_skip = 0; *p != END; p += lp_entry_bytes(p)) {
        if (to_skip) {
            to_skip--;
            continue;
        }
        bool found = lp_get_int(p, &v, &text) ? is_int && v == want : !is_int && slice_eq(text, s);
        if (found) return at(p);
        to_skip = skip;
    }
    return NULL;
}

/* ---- changing ---- */

/* Makes room: the bytes from offset `at_off` on, `old` of them replaced by `fresh` ones. The new address; header's total is set.
 */
static unsigned char *splice(unsigned char *lp, size_t at_off, size_t old, size_t fresh) {
    size_t bytes = lp_bytes(lp), now = bytes - old + fresh;
    assert(now <= LP_MAX_BYTES);
    if (now > bytes && now > mem_usable(lp)) lp = mem_realloc(lp, now);
    memmove(lp + at_off + fresh, lp + at_off + old, bytes - at_off - old);
    put_u32(lp, (uint32_t)now);
    if (now < bytes / 2) lp = mem_realloc(lp, now);
    return lp;
}

static unsigned char *put_item(unsigned char *lp, size_t at_off, size_t old, const struct item *it, unsigned char **ret_p) {
    size_t body = it->head_len + it->text.len, fresh = body + backlen_size(body);
    lp = splice(lp, at_off, old, fresh);
    unsigned char *p = lp + at_off;
    memcpy(p, it->head, it->head_len);
    if (it->text.len) memcpy(p + it->head_len, it->text.ptr, it->text.len);
    put_backlen(p + body, body);
    if (old == 0) add_count(lp, 1);
    if (ret_p) *ret_p = p;
    return lp;
}

static unsigned char *insert_item(unsigned char *lp, const unsigned char *p, enum lp_where where, const struct item *it,
                                  unsigned char **ret_p) {
    size_t off = (size_t)(p - lp), size = where == LP_BEFORE ? 0 : lp_entry_bytes(p);
    if (where == LP_AFTER) return put_item(lp, off + size, 0, it, ret_p);
    return put_item(lp, off, where == LP_REPLACE ? size : 0, it, ret_p);
}

unsigned char *lp_insert(unsigned char *lp, const unsigned char *p, enum lp_where where, struct slice s, unsigned char **ret_p) {
    struct item it;
    item_str(&it, s);
    return insert_item(lp, p, where, &it, ret_p);
}

unsigned char *lp_insert_int(unsigned char *lp, const unsigned char *p, enum lp_where where, int64_t v, unsigned char **ret_p) {
    struct item it;
    item_int(&it, v);
    return insert_item(lp, p, where, &it, ret_p);
}

unsigned char *lp_append(unsigned char *lp, struct slice s) {
    struct item it;
    item_str(&it, s);
    return put_item(lp, lp_bytes(lp) - 1, 0, &it, NULL);
}

unsigned char *lp_append_int(unsigned char *lp, int64_t v) {
    struct item it;
    item_int(&it, v);
    return put_item(lp, lp_bytes(lp) - 1, 0, &it, NULL);
}

unsigned char *lp_prepend(unsigned char *lp, struct slice s) {
    struct item it;
    item_str(&it, s);
    return put_item(lp, HEADER, 0, &it, NULL);
}

unsigned char *lp_replace(unsigned char *lp, unsigned char **p, struct slice s) {
    return lp_insert(lp, *p, LP_REPLACE, s, p);
}

unsigned char *lp_replace_int(unsigned char *lp, unsigned char **p, int64_t v) {
    return lp_insert_int(lp, *p, LP_REPLACE, v, p);
}

unsigned char *lp_delete(unsigned char *lp, const unsigned char *p, size_t n, unsigned char **ret_p) {
    const unsigned char *q = p;
    size_t off = (size_t)(p - lp), gone = 0;
    while (gone < n && *q != END) {
        q += lp_entry_bytes(q);
        gone++;
    }
    lp = splice(lp, off, (size_t)(q - p), 0);
    add_count(lp, -(long)gone);
    if (ret_p) *ret_p = lp[off] == END ? NULL : lp + off;
    return lp;
}

unsigned char *lp_delete_range(unsigned char *lp, long index, size_t n) {
    unsigned char *p = n ? lp_seek(lp, index) : NULL;
    return p ? lp_delete(lp, p, n, NULL) : lp;
}

unsigned char *lp_join(unsigned char *a_take, unsigned char *b_take) {
    size_t a = lp_bytes(a_take), b = lp_bytes(b_take) - HEADER - 1; /* of b without header and end */
    size_t n = lp_count(a_take) + lp_count(b_take);
    assert(a + b <= LP_MAX_BYTES);
    a_take = mem_realloc(a_take, a + b);
    memcpy(a_take + a - 1, b_take + HEADER, b + 1);
    put_header(a_take, a + b, n);
    mem_free(b_take);
    return a_take;
}

/* ---- what came from outside ---- */

/* Bytes of the element's encoding that must be there before its size can be told; 0: no such encoding. */
static size_t head_size(unsigned char first) {
    if (first < 0xc0) return 1;
    if (first < 0xf0) return 2;
    return first == STR32 ? 5 : first <= INT64 ? 1 : 0;
}

/* The element at p, which must end before `end`. Its size, 0: not valid. */
static size_t valid_entry(const unsigned char *p, const unsigned char *end) {
    size_t left = (size_t)(end - p), head = head_size(*p);
    if (head == 0 || head > left) return 0;
    size_t body = body_size(p);
    if (body > left || backlen_size(body) > left - body) return 0;
    if (body <= 127) return p[body] == body ? body + 1 : 0;
    unsigned char expected[MAX_BACKLEN];
    size_t n = put_backlen(expected, body);
    return memcmp(expected, p + body, n) == 0 ? body + n : 0;
}

bool lp_is_valid(const unsigned char *bytes, size_t len, bool deep, bool (*each)(void *arg, const unsigned char *p), void *arg) {
    if (len < LP_EMPTY_BYTES || len > LP_MAX_BYTES || get_u32(bytes) != len || bytes[len - 1] != END) return false;
    if (!deep) return true;
    const unsigned char *p = bytes + HEADER, *end = bytes + len - 1;
    size_t n = 0, size;
    for (; p < end; p += size, n++) {
        size = valid_entry(p, end);
        if (size == 0 || (each && !each(arg, p))) return false;
    }
    return get_count(bytes) == COUNT_UNKNOWN || get_count(bytes) == n;
}
