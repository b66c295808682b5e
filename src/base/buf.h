/* A flat, growing byte buffer with an owner. One thread at a time. Zero-initialise (`struct buf b = { 0 }`) to start. */
#ifndef KETTLE_BASE_BUF_H
#define KETTLE_BASE_BUF_H

#include <stddef.h>
#include <stdarg.h>

#include "base/slice.h"

struct buf {
    char *data;
    size_t len;
    size_t cap;
};

void buf_reserve(struct buf *b, size_t extra); /* room for `extra` more bytes; grows by doubling */
void buf_append(struct buf *b, const void *p, size_t n);
void buf_append_cstr(struct buf *b, const char *s);
void buf_append_char(struct buf *b, char c);
void buf_printf(struct buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void buf_vprintf(struct buf *b, const char *fmt, va_list ap) __attribute__((format(printf, 2, 0)));
void buf_consume(struct buf *b, size_t n);       /* drop n bytes from the front (memmove) */
void buf_clear(struct buf *b);                   /* len = 0, memory kept */
void buf_done(struct buf *b);                    /* memory freed, b zeroed */
char *buf_steal(struct buf *b, size_t *ret_len); /* NUL-terminated; caller owns (mem_free); b zeroed */
const char *buf_cstr(struct buf *b);             /* NUL-terminated view, valid until the next change */

static inline struct slice buf_slice(const struct buf *b) {
    return (struct slice){ b->data, b->len };
}

#endif
