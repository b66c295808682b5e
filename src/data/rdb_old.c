/* Encodings that Redis wrote before version 7, into listpacks. See rdb.h. Thread: the loader's.
 *
 * Ziplist: bytes (4) | offset of the last entry (4) | entries (2) | entry ... | 0xff, little endian. An entry: length of the one
 * before (1 byte, or 254 and 4 bytes) | encoding | text. Zipmap: entries (1) | entry ... | 0xff. An entry: length of the field (1
 * byte, or 254 and 4 bytes) | field | length of the value | unused bytes behind it (1) | value | unused bytes. */
#include "base/alloc.h"
#include "data/listpack.h"
#include "data/rdb_priv.h"

#define LONG_LEN 254
#define END 255
#define ZIPLIST_HEADER 10

struct bytes {
    const unsigned char *p;
    size_t n;
};

static bool take(struct bytes *b, size_t n, const unsigned char **ret) {
    if (b->n < n) return false;
    *ret = b->p;
    b->p += n;
    b->n -= n;
    return true;
}

static uint32_t le32(const unsigned char *p) {
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

/* A length of one byte, or of four behind 254. */
static bool take_len(struct bytes *b, size_t *ret) {
    const unsigned char *p;
    if (!take(b, 1, &p)) return false;
    *ret = *p;
    if (*p != LONG_LEN) return *p != END;
    if (!take(b, 4, &p)) return false;
    *ret = le32(p);
    return true;
}

/* A number of `size` bytes, little endian. */
static bool take_int(struct bytes *b, unsigned size, int64_t *ret) {
    const unsigned char *p;
    if (!take(b, size, &p)) return false;
    uint64_t v = 0;
    for (unsigned i = 0; i < size; i++) v |= (uint64_t)p[i] << 8 * i;
    *ret = (int64_t)(v << (64 - 8 * size)) >> (64 - 8 * size);
    return true;
}

/* Length of a text entry from its encoding's first byte. */
static bool take_text_len(struct bytes *b, unsigned first, size_t *ret) {
    const unsigned char *p;
    *ret = first & 0x3f;
    if (first < 0x40) return true;
    if (first < 0x80) {
        if (!take(b, 1, &p)) return false;
        *ret = *ret << 8 | *p;
        return true;
    }
    if (first != 0x80 || !take(b, 4, &p)) return false;
    *ret = (size_t)p[0] << 24 | (size_t)p[1] << 16 | (size_t)p[2] << 8 | p[3];
    return true;
}

static bool take_number(struct bytes *b, unsigned first, int64_t *ret) {
    switch (first) {
    case 0xc0:
        return take_int(b, 2, ret);
    case 0xd0:
        return take_int(b, 4, ret);
    case 0xe0:
        return take_int(b, 8, ret);
    case 0xf0:
        return take_int(b, 3, ret);
    case 0xfe:
        return take_int(b, 1, ret);
    default:
        *ret = (int64_t)(first & 0x0f) - 1;
        return first >= 0xf1 && first <= 0xfd;
    }
}

static bool take_entry(struct bytes *b, unsigned char **lp) {
    const unsigned char *p;
    size_t len;
    int64_t v;
    if (!take_len(b, &len) || !take(b, 1, &p)) return false;
    unsigned first = *p;
    if (first >= 0xc0) {
        if (!take_number(b, first, &v)) return false;
        *lp = lp_append_int(*lp, v);
        return true;
    }
    if (!take_text_len(b, first, &len) || !take(b, len, &p) || !lp_has_room(*lp, len)) return false;
    *lp = lp_append(*lp, (struct slice){ (const char *)p, len });
    return true;
}

unsigned char *rdb_ziplist_to_listpack(const unsigned char *bytes, size_t len) {
    if (len <= ZIPLIST_HEADER || le32(bytes) != len) return NULL;
    struct bytes b = { bytes + ZIPLIST_HEADER, len - ZIPLIST_HEADER };
    unsigned char *lp = lp_new(len);
    while (b.n > 0 && *b.p != END) {
        if (take_entry(&b, &lp)) continue;
        mem_free(lp);
        return NULL;
    }
    if (b.n == 1) return lp_shrink(lp);
    mem_free(lp);
    return NULL;
}

static bool take_zipmap_text(struct bytes *b, bool is_value, unsigned char **lp) {
    const unsigned char *p, *unused;
    size_t len;
    if (!take_len(b, &len)) return false;
    unsigned free_bytes = 0;
    if (is_value) {
        if (!take(b, 1, &unused)) return false;
        free_bytes = *unused;
    }
    if (!take(b, len, &p) || !take(b, free_bytes, &unused) || !lp_has_room(*lp, len)) return false;
    *lp = lp_append(*lp, (struct slice){ (const char *)p, len });
    return true;
}

unsigned char *rdb_zipmap_to_listpack(const unsigned char *bytes, size_t len) {
    if (len < 2) return NULL;
    struct bytes b = { bytes + 1, len - 1 };
    unsigned char *lp = lp_new(len);
    while (b.n > 0 && *b.p != END) {
        if (take_zipmap_text(&b, false, &lp) && take_zipmap_text(&b, true, &lp)) continue;
        mem_free(lp);
        return NULL;
    }
    if (b.n == 1) return lp_shrink(lp);
    mem_free(lp);
    return NULL;
}
