/* Reply writer: the wire form of every kind of reply, in RESP2 and RESP3, as redis-server 7.2 chooses it.
 *
 * Place in the flow: commands call it, the bytes gather in the connection's output queue, net/ sends them in one go.
 * Thread: the connection's.
 *
 * Headers and short strings are written straight into the tail chunk of the queue; only what does not fit in half a chunk goes
 * the general way. An error is counted and remembered even when the reply is muted (CLIENT REPLY OFF): errorstats count it. */
#include "proto/reply.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "base/str.h"

#define HEADER_ROOM 32   /* type byte, any int64, CRLF */
#define INLINE_BULK 1024 /* bulk strings up to here are written in one piece */
#define DOUBLE_TEXT 64   /* str_from_double's promise */
#define MIN_ERROR_CODE 3 /* "ERR", "ASK", "OOM": anything shorter is a word of prose */

void reply_init(struct reply *r, struct obuf *out, int resp) {
    memset(r, 0, sizeof(*r));
    r->out = out;
    r->resp = resp;
}

#define reply_lit(r, lit) obuf_append((r)->out, (lit), sizeof(lit) - 1)

static inline char *put_crlf(char *p) {
    p[0] = '\r';
    p[1] = '\n';
    return p + 2;
}

/* Type byte, number, CRLF. Returns the end. */
static inline char *put_header(char *p, char type, uint64_t n) {
    *p++ = type;
    if (n < 10)
        *p++ = (char)('0' + n);
    else
        p += str_from_ull(p, n);
    return put_crlf(p);
}

static void header(struct reply *r, char type, uint64_t n) {
    char *start = obuf_room(r->out, HEADER_ROOM);
    char *end = put_header(start, type, n);
    obuf_commit(r->out, (size_t)(end - start));
}

/* header, bytes, CRLF */
static void blob(struct reply *r, char type, const void *p, size_t len) {
    if (len <= INLINE_BULK) {
        char *start = obuf_room(r->out, len + HEADER_ROOM);
        char *at = put_header(start, type, len);
        if (len) memcpy(at, p, len);
        at = put_crlf(at + len);
        obuf_commit(r->out, (size_t)(at - start));
        return;
    }
    header(r, type, len);
    obuf_append(r->out, p, len);
    reply_lit(r, "\r\n");
}

/* type byte, text, CRLF */
static void line(struct reply *r, char type, const char *text, size_t len) {
    if (len <= INLINE_BULK) {
        char *start = obuf_room(r->out, len + 3);
        start[0] = type;
        if (len) memcpy(start + 1, text, len);
        put_crlf(start + 1 + len);
        obuf_commit(r->out, len + 3);
        return;
    }
    obuf_append(r->out, &type, 1);
    obuf_append(r->out, text, len);
    reply_lit(r, "\r\n");
}

void reply_simple(struct reply *r, const char *text) {
    if (!r->muted) line(r, '+', text, strlen(text));
}

/* ---- errors ---- */

static bool has_error_code(const char *text, size_t len) {
    size_t i = 0;
    while (i < len && ((text[i] >= 'A' && text[i] <= 'Z') || (i > 0 && (text[i] == '_' || (text[i] >= '0' && text[i] <= '9')))))
        i++;
    return i >= MIN_ERROR_CODE && (i == len || text[i] == ' ');
}

static void remember_error(struct reply *r, const char *prefix, const char *text, size_t len) {
    r->errors++;
    size_t at = strlen(prefix), room = sizeof(r->last_error) - 1 - at;
    memcpy(r->last_error, prefix, at);
    if (len > room) len = room;
    memcpy(r->last_error + at, text, len);
    r->last_error[at + len] = '\0';
    for (char *c = r->last_error; *c; c++)
        if (*c == '\r' || *c == '\n') *c = ' ';
}

/* Text with CR and LF as spaces: they would end the reply early and let data pose as protocol. */
static void append_sanitised(struct reply *r, const char *text, size_t len) {
    while (len > 0) {
        size_t n = strcspn(text, "\r\n");
        if (n > len) n = len;
        obuf_append(r->out, text, n);
        if (n == len) return;
        obuf_append(r->out, " ", 1);
        text += n + 1;
        len -= n + 1;
    }
}

void reply_error(struct reply *r, const char *text) {
    size_t len = strlen(text);
    while (len > 0 && (text[len - 1] == '\n' || text[len - 1] == '\r')) len--;
    const char *prefix = has_error_code(text, len) ? "" : "ERR ";
    remember_error(r, prefix, text, len);
    if (r->muted) return;
    obuf_append(r->out, "-", 1);
    obuf_append(r->out, prefix, strlen(prefix));
    append_sanitised(r, text, len);
    reply_lit(r, "\r\n");
}

void reply_errorf(struct reply *r, const char *fmt, ...) {
    char small[512];
    va_list ap, again;
    va_start(ap, fmt);
    va_copy(again, ap);
    int n = vsnprintf(small, sizeof(small), fmt, ap);
    va_end(ap);
    if (n >= 0 && (size_t)n < sizeof(small)) {
        reply_error(r, small);
    } else {
        struct buf b = { 0 };
        buf_vprintf(&b, fmt, again);
        reply_error(r, buf_cstr(&b));
        buf_done(&b);
    }
    va_end(again);
}

/* ---- numbers and strings ---- */

void reply_int(struct reply *r, int64_t v) {
    if (r->muted) return;
    if (v >= 0) {
        header(r, ':', (uint64_t)v);
        return;
    }
    char *start = obuf_room(r->out, HEADER_ROOM);
    start[0] = ':';
    char *end = put_crlf(start + 1 + str_from_ll(start + 1, v));
    obuf_commit(r->out, (size_t)(end - start));
}

void reply_bulk(struct reply *r, const void *p, size_t len) {
    if (!r->muted) blob(r, '$', p, len);
}

void reply_bulk_slice(struct reply *r, struct slice s) {
    reply_bulk(r, s.ptr, s.len);
}

void reply_bulk_cstr(struct reply *r, const char *s) {
    reply_bulk(r, s, strlen(s));
}

void reply_bulk_ll(struct reply *r, int64_t v) {
    char text[STR_LL_MAX];
    reply_bulk(r, text, str_from_ll(text, v));
}

void reply_bulkf(struct reply *r, const char *fmt, ...) {
    if (r->muted) return;
    struct buf b = { 0 };
    va_list ap;
    va_start(ap, fmt);
    buf_vprintf(&b, fmt, ap);
    va_end(ap);
    reply_bulk(r, b.data, b.len);
    buf_done(&b);
}

void reply_bulk_ref(struct reply *r, const void *p, size_t len, void (*release)(void *), void *arg) {
    if (r->muted) {
        release(arg);
        return;
    }
    header(r, '$', len);
    obuf_append_ref(r->out, p, len, release, arg);
    reply_lit(r, "\r\n");
}

void reply_null(struct reply *r) {
    if (r->muted) return;
    if (r->resp >= 3)
        reply_lit(r, "_\r\n");
    else
        reply_lit(r, "$-1\r\n");
}

void reply_null_array(struct reply *r) {
    if (r->muted) return;
    if (r->resp >= 3)
        reply_lit(r, "_\r\n");
    else
        reply_lit(r, "*-1\r\n");
}

void reply_bool(struct reply *r, bool v) {
    if (r->resp < 3)
        reply_int(r, v);
    else if (!r->muted)
        obuf_append(r->out, v ? "#t\r\n" : "#f\r\n", 4);
}

void reply_double(struct reply *r, double v) {
    if (r->muted) return;
    char text[DOUBLE_TEXT];
    size_t len = str_from_double(text, v);
    if (r->resp >= 3)
        line(r, ',', text, len);
    else
        blob(r, '$', text, len);
}

void reply_human_long_double(struct reply *r, long double v) {
    if (r->muted) return;
    char text[STR_DOUBLE_MAX];
    reply_bulk(r, text, str_from_long_double_human(text, sizeof(text), v));
}

void reply_long_double(struct reply *r, long double v) {
    if (r->resp < 3) {
        reply_human_long_double(r, v);
    } else if (!r->muted) {
        char text[STR_DOUBLE_MAX];
        size_t len = str_from_long_double_human(text, sizeof(text), v);
        line(r, ',', text, len);
    }
}

void reply_bignum(struct reply *r, struct slice digits) {
    if (r->muted) return;
    if (r->resp >= 3)
        line(r, '(', digits.ptr, digits.len);
    else
        blob(r, '$', digits.ptr, digits.len);
}

void reply_verbatim(struct reply *r, const void *p, size_t len, const char ext[3]) {
    if (r->muted) return;
    if (r->resp < 3) {
        blob(r, '$', p, len);
        return;
    }
    char *start = obuf_room(r->out, HEADER_ROOM + 4);
    char *at = put_header(start, '=', len + 4);
    memcpy(at, ext, 3);
    at[3] = ':';
    obuf_commit(r->out, (size_t)(at + 4 - start));
    if (len) obuf_append(r->out, p, len);
    reply_lit(r, "\r\n");
}

void reply_raw(struct reply *r, const void *p, size_t len) {
    if (!r->muted && len) obuf_append(r->out, p, len);
}

/* ---- aggregates ---- */

static void aggregate(struct reply *r, char resp3_type, size_t n, size_t resp2_factor) {
    if (r->muted) return;
    if (r->resp >= 3)
        header(r, resp3_type, n);
    else
        header(r, '*', n * resp2_factor);
}

void reply_array(struct reply *r, size_t n) {
    aggregate(r, '*', n, 1);
}

void reply_map(struct reply *r, size_t pairs) {
    aggregate(r, '%', pairs, 2);
}

void reply_set(struct reply *r, size_t n) {
    aggregate(r, '~', n, 1);
}

void reply_push(struct reply *r, size_t n) {
    aggregate(r, '>', n, 1);
}

void reply_attribute(struct reply *r, size_t pairs) {
    if (!r->muted) header(r, '|', pairs);
}

struct reply_deferred reply_deferred_begin(struct reply *r) {
    struct reply_deferred d = { .muted = r->muted };
    if (!d.muted) d.mark = obuf_reserve_mark(r->out);
    return d;
}

static void deferred_end(struct reply *r, struct reply_deferred d, char resp3_type, size_t n, size_t resp2_factor) {
    if (d.muted) return;
    char text[HEADER_ROOM];
    char *end = r->resp >= 3 ? put_header(text, resp3_type, n) : put_header(text, '*', n * resp2_factor);
    obuf_patch(r->out, d.mark, text, (size_t)(end - text));
}

void reply_deferred_array(struct reply *r, struct reply_deferred d, size_t n) {
    deferred_end(r, d, '*', n, 1);
}

void reply_deferred_map(struct reply *r, struct reply_deferred d, size_t pairs) {
    deferred_end(r, d, '%', pairs, 2);
}

void reply_deferred_set(struct reply *r, struct reply_deferred d, size_t n) {
    deferred_end(r, d, '~', n, 1);
}

void reply_deferred_bulk(struct reply *r, struct reply_deferred d, const void *p, size_t len) {
    if (d.muted) return;
    char text[REPLY_DEFERRED_BULK_MAX + 8];
    assert(len <= REPLY_DEFERRED_BULK_MAX);
    int n = snprintf(text, sizeof text, "$%zu\r\n%.*s\r\n", len, (int)len, (const char *)p);
    obuf_patch(r->out, d.mark, text, (size_t)n);
}
