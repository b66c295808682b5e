/* A borrowed run of bytes. Never owns, never NUL-terminated by promise. Any thread. */
#ifndef KETTLE_BASE_SLICE_H
#define KETTLE_BASE_SLICE_H

#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <strings.h>

struct slice {
    const char *ptr;
    size_t len;
};

#define SLICE_LIT(lit) ((struct slice){ (lit), sizeof(lit) - 1 })

static inline struct slice slice_cstr(const char *s) {
    return (struct slice){ s, strlen(s) };
}

static inline bool slice_eq(struct slice a, struct slice b) {
    return a.len == b.len && (a.len == 0 || memcmp(a.ptr, b.ptr, a.len) == 0);
}

/* By bytes, then by length: <0, 0, >0. */
static inline int slice_cmp(struct slice a, struct slice b) {
    size_t n = a.len < b.len ? a.len : b.len;
    int d = n ? memcmp(a.ptr, b.ptr, n) : 0;
    return d ? d : (a.len > b.len) - (a.len < b.len);
}

/* ASCII case-insensitive comparison with a C string (option words, command names). */
static inline bool slice_ieq(struct slice a, const char *s) {
    return strlen(s) == a.len && strncasecmp(a.ptr, s, a.len) == 0;
}

#endif
