/* Flat byte buffer: what parsers read from and what builders of text write to. One thread at a time. */
#include "base/buf.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"

#define BUF_MIN 64

void buf_reserve(struct buf *b, size_t extra) {
    if (b->cap - b->len >= extra) return;
    size_t left = SIZE_MAX / 2 - b->len; /* a wish beyond that is one no allocator grants: it ends there, not in a wrapped sum */
    size_t want = b->len + (extra < left ? extra : left), cap = b->cap ? b->cap : BUF_MIN;
    while (cap < want) cap *= 2;
    b->data = mem_realloc(b->data, cap);
    b->cap = cap;
}

void buf_append(struct buf *b, const void *p, size_t n) {
    if (n == 0) return;
    buf_reserve(b, n);
    memcpy(b->data + b->len, p, n);
    b->len += n;
}

void buf_append_cstr(struct buf *b, const char *s) {
    buf_append(b, s, strlen(s));
}

void buf_append_char(struct buf *b, char c) {
    if (b->len == b->cap) buf_reserve(b, 1);
    b->data[b->len++] = c;
}

void buf_vprintf(struct buf *b, const char *fmt, va_list ap) {
    va_list again;
    va_copy(again, ap);
    buf_reserve(b, 128);
    int n = vsnprintf(b->data + b->len, b->cap - b->len, fmt, ap);
    if (n > 0 && (size_t)n >= b->cap - b->len) {
        buf_reserve(b, (size_t)n + 1);
        vsnprintf(b->data + b->len, b->cap - b->len, fmt, again);
    }
    if (n > 0) b->len += (size_t)n;
    va_end(again);
}

void buf_printf(struct buf *b, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    buf_vprintf(b, fmt, ap);
    va_end(ap);
}

void buf_consume(struct buf *b, size_t n) {
    if (n == 0) return;
    b->len -= n;
    if (b->len) memmove(b->data, b->data + n, b->len);
}

void buf_clear(struct buf *b) {
    b->len = 0;
}

void buf_done(struct buf *b) {
    mem_free(b->data);
    *b = (struct buf){ 0 };
}

const char *buf_cstr(struct buf *b) {
    buf_reserve(b, 1);
    b->data[b->len] = 0;
    return b->data;
}

char *buf_steal(struct buf *b, size_t *ret_len) {
    buf_cstr(b);
    char *data = b->data;
    if (ret_len) *ret_len = b->len;
    *b = (struct buf){ 0 };
    return data;
}
