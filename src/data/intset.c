/* Sorted arrays of integers. See intset.h. Place in the flow: small sets of integers. Thread: the owner's.
 *
 * A number that does not fit widens all of them; it is then less or greater than all that are there, so it goes to an end.
 * Numbers never become narrower. Invariants: ascending, no two equal, width 2, 4 or 8. */
#include "data/intset.h"

#include <assert.h>
#include <endian.h>
#include <string.h>

#include "base/alloc.h"

#define HEADER 8

static uint32_t get_u32(const unsigned char *p) {
    uint32_t v;
    memcpy(&v, p, sizeof(v));
    return le32toh(v);
}

static void put_u32(unsigned char *p, uint32_t v) {
    v = htole32(v);
    memcpy(p, &v, sizeof(v));
}

static uint32_t width_of(const unsigned char *is) {
    return get_u32(is);
}

static uint32_t width_for(int64_t v) {
    return v < INT32_MIN || v > INT32_MAX ? 8 : v < INT16_MIN || v > INT16_MAX ? 4 : 2;
}

static int64_t get(const unsigned char *is, uint32_t width, uint32_t i) {
    const unsigned char *p = is + HEADER + (size_t)i * width;
    uint64_t v8;
    uint32_t v4;
    uint16_t v2;
    switch (width) {
    case 8:
        memcpy(&v8, p, sizeof(v8));
        return (int64_t)le64toh(v8);
    case 4:
        memcpy(&v4, p, sizeof(v4));
        return (int32_t)le32toh(v4);
    default:
        memcpy(&v2, p, sizeof(v2));
        return (int16_t)le16toh(v2);
    }
}

static void put(unsigned char *is, uint32_t width, uint32_t i, int64_t v) {
    uint64_t le = htole64((uint64_t)v); /* the low bytes come first */
    memcpy(is + HEADER + (size_t)i * width, &le, width);
}

unsigned char *intset_new(void) {
    unsigned char *is = mem_alloc(HEADER);
    put_u32(is, 2);
    put_u32(is + 4, 0);
    return is;
}

size_t intset_bytes(const unsigned char *is) {
    return HEADER + (size_t)width_of(is) * intset_len(is);
}

unsigned char *intset_dup(const unsigned char *is) {
    size_t bytes = intset_bytes(is);
    return memcpy(mem_alloc(bytes), is, bytes);
}

uint32_t intset_len(const unsigned char *is) {
    return get_u32(is + 4);
}

int64_t intset_at(const unsigned char *is, uint32_t i) {
    assert(i < intset_len(is));
    return get(is, width_of(is), i);
}

/* True: at *ret_at. False: it would go there. */
static bool search(const unsigned char *is, int64_t v, uint32_t *ret_at) {
    uint32_t width = width_of(is), low = 0, high = intset_len(is);
    if (high && v > get(is, width, high - 1)) low = high; /* ascending insertions */
    while (low < high) {
        uint32_t mid = low + (high - low) / 2;
        int64_t there = get(is, width, mid);
        if (there == v) {
            *ret_at = mid;
            return true;
        }
        if (there < v)
            low = mid + 1;
        else
            high = mid;
    }
    *ret_at = low;
    return false;
}

bool intset_has(const unsigned char *is, int64_t v) {
    uint32_t at;
    return width_for(v) <= width_of(is) && search(is, v, &at);
}

static unsigned char *widen_and_add(unsigned char *is, int64_t v) {
    uint32_t from = width_of(is), to = width_for(v), n = intset_len(is), shift = v < 0;
    is = mem_realloc(is, HEADER + (size_t)to * (n + 1));
    for (uint32_t i = n; i-- > 0;) put(is, to, i + shift, get(is, from, i));
    put(is, to, shift ? 0 : n, v);
    put_u32(is, to);
    put_u32(is + 4, n + 1);
    return is;
}

unsigned char *intset_add(unsigned char *is, int64_t v, bool *ret_added) {
    uint32_t width = width_of(is), n = intset_len(is), at;
    *ret_added = true;
    if (width_for(v) > width) return widen_and_add(is, v);
    if (search(is, v, &at)) {
        *ret_added = false;
        return is;
    }
    is = mem_realloc(is, HEADER + (size_t)width * (n + 1));
    unsigned char *p = is + HEADER + (size_t)at * width;
    memmove(p + width, p, (size_t)(n - at) * width);
    put(is, width, at, v);
    put_u32(is + 4, n + 1);
    return is;
}

unsigned char *intset_remove(unsigned char *is, int64_t v, bool *ret_removed) {
    uint32_t width = width_of(is), n = intset_len(is), at;
    *ret_removed = width_for(v) <= width && search(is, v, &at);
    if (!*ret_removed) return is;
    unsigned char *p = is + HEADER + (size_t)at * width;
    memmove(p, p + width, (size_t)(n - at - 1) * width);
    put_u32(is + 4, n - 1);
    return mem_realloc(is, HEADER + (size_t)width * (n - 1));
}

bool intset_is_valid(const unsigned char *bytes, size_t len, bool deep) {
    if (len < HEADER) return false;
    uint32_t width = width_of(bytes), n = intset_len(bytes);
    if ((width != 2 && width != 4 && width != 8) || n == 0 || len - HEADER != (uint64_t)width * n) return false;
    for (uint32_t i = 1; deep && i < n; i++)
        if (get(bytes, width, i - 1) >= get(bytes, width, i)) return false;
    return true;
}
