/* RESP reply parser and command writer, for programs that are clients.
 *
 * Place in the flow: tools (and later replica and MIGRATE links) read bytes with net/, this says where a reply ends and what it
 * is. Thread: any one at a time; there is no state but what the caller holds.
 *
 * Everything rests on next_token(): one header line with its number or text, and the body of a bulk. It touches no memory but
 * the buffer given. The skipper counts values still due. The tree is built in two passes: the first walks the tokens with a
 * bounded stack of counters and allocates nothing, so that a hostile "*1000000000" costs nothing until a thousand million
 * elements are there; the second, over a value known to be whole, cannot fail.
 *
 * Stricter than the request parser, because a server has no excuse: every line and every bulk must end in CRLF. */
#include "proto/resp_reply.h"

#include <assert.h>
#include <errno.h>
#include <math.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "base/str.h"

#define NUMBER_LINE_MAX 32 /* no length or integer is longer */

struct token {
    enum resp_type type;
    bool null; /* $-1, *-1 or _ */
    bool null_array;
    bool is_aggregate;
    uint64_t count; /* values inside: pairs are doubled */
    int64_t integer;
    struct slice text; /* line or body */
    size_t end;        /* offset behind it; of an aggregate, behind its header */
};

/* Offset of the CR of a line that starts at `pos`. 1, 0 (more needed; *scan moved on) or -EPROTO. */
static int find_line(const char *buf, size_t len, size_t pos, size_t max, size_t *scan, size_t *ret_cr) {
    size_t from = *scan > pos ? *scan : pos;
    const char *cr = from < len ? memchr(buf + from, '\r', len - from) : NULL;
    size_t at = cr ? (size_t)(cr - buf) : len;
    if (at - pos > max) return -EPROTO;
    *scan = at;
    if (at + 1 >= len) return 0;
    if (buf[at + 1] != '\n') return -EPROTO;
    *ret_cr = at;
    return 1;
}

static bool line_number(struct slice s, int64_t *ret) {
    if (s.len > 1 && s.ptr[0] == '+') {
        s.ptr++;
        s.len--;
        if (s.ptr[0] == '-') return false;
    }
    return str_to_ll(s, ret);
}

/* The body of a length-prefixed token. 1, 0 or -EPROTO. */
static int take_body(struct token *t, const char *buf, size_t len, size_t start, int64_t n) {
    size_t have = len - start;
    if (have < (uint64_t)n || have - (uint64_t)n < 2) return 0;
    t->text = (struct slice){ buf + start, (size_t)n };
    if (memcmp(buf + start + n, "\r\n", 2) != 0) return -EPROTO;
    if (t->type == RESP_T_VERBATIM && (n < 4 || t->text.ptr[3] != ':')) return -EPROTO;
    t->end = start + (size_t)n + 2;
    return 1;
}

/* Lengths: $ ! = * % ~ > | */
static int counted_token(struct token *t, const char *buf, size_t len, struct slice line, size_t after) {
    int64_t n = 0;
    if (!str_to_ll(line, &n) || n < -1) return -EPROTO;
    bool body = t->type == RESP_T_BULK || t->type == RESP_T_BLOB_ERROR || t->type == RESP_T_VERBATIM;
    if (n == -1) {
        if (t->type != RESP_T_BULK && t->type != RESP_T_ARRAY) return -EPROTO;
        t->null = true;
        t->null_array = t->type == RESP_T_ARRAY;
        t->type = RESP_T_NULL;
        return 1;
    }
    if (body) return take_body(t, buf, len, after, n);
    t->is_aggregate = true;
    t->count = (uint64_t)n;
    if (t->type == RESP_T_MAP || t->type == RESP_T_ATTR) t->count *= 2;
    return 1;
}

static int line_token(struct token *t, struct slice line) {
    t->text = line;
    switch (t->type) {
    case RESP_T_INT:
        return line_number(line, &t->integer) ? 1 : -EPROTO;
    case RESP_T_BOOL:
        if (line.len != 1 || (line.ptr[0] != 't' && line.ptr[0] != 'f')) return -EPROTO;
        t->integer = line.ptr[0] == 't';
        return 1;
    case RESP_T_NULL:
        t->null = true;
        return line.len == 0 ? 1 : -EPROTO;
    default:
        return 1;
    }
}

/* The token at pos. 1, 0 (more needed) or -EPROTO. *scan remembers how far a line was searched. */
static int next_token(const char *buf, size_t len, size_t pos, size_t *scan, struct token *t) {
    memset(t, 0, sizeof(*t));
    if (pos >= len) return 0;
    t->type = (enum resp_type)buf[pos];
    bool counted = memchr("$!=*%~>|", buf[pos], 8) != NULL;
    bool plain = memchr("+-,(:#_", buf[pos], 7) != NULL;
    if (!counted && !plain) return -EPROTO;
    bool text = t->type == RESP_T_STATUS || t->type == RESP_T_ERROR || t->type == RESP_T_BIGNUM || t->type == RESP_T_DOUBLE;
    size_t cr = 0;
    int r = find_line(buf, len, pos, text ? SIZE_MAX : NUMBER_LINE_MAX, scan, &cr);
    if (r <= 0) return r;
    struct slice line = { buf + pos + 1, cr - pos - 1 };
    t->end = cr + 2;
    return counted ? counted_token(t, buf, len, line, t->end) : line_token(t, line);
}

/* ---- skipper ---- */

int resp_skip(struct resp_skip *s, const char *buf, size_t len, size_t *ret_used) {
    if (!s->started) {
        s->started = true;
        s->todo = 1;
    }
    while (s->todo > 0) {
        struct token t;
        int r = next_token(buf, len, s->pos, &s->scan, &t);
        if (r <= 0) return r;
        /* With attributes in front, the outermost value is the first one met with nothing else due. */
        if (!s->outer_seen && s->todo == 1 && t.type != RESP_T_ATTR) {
            s->outer_seen = true;
            s->is_error = t.type == RESP_T_ERROR || t.type == RESP_T_BLOB_ERROR;
        }
        s->pos = t.end;
        /* An attribute is not a value: what it is attached to is still due. */
        s->todo -= t.type == RESP_T_ATTR ? 0 : 1;
        if (t.count > UINT64_MAX - s->todo) return -EPROTO;
        s->todo += t.count;
    }
    *ret_used = s->pos;
    return 1;
}

/* ---- tree ---- */

/* First pass. 1: a whole value of *ret_used bytes, no deeper than allowed; 0; -EPROTO. */
static int measure(const char *buf, size_t len, size_t *ret_used) {
    uint64_t due[RESP_MAX_DEPTH];
    int depth = 0;
    size_t pos = 0, scan = 0;
    for (;;) {
        struct token t;
        int r = next_token(buf, len, pos, &scan, &t);
        if (r <= 0) return r;
        bool uncounted = t.type == RESP_T_ATTR && depth > 0;
        pos = t.end;
        if (depth > 0 && !uncounted) due[depth - 1]--;
        if (t.is_aggregate) {
            if (depth == RESP_MAX_DEPTH) return -EPROTO;
            due[depth++] = t.count;
        }
        while (depth > 0 && due[depth - 1] == 0) depth--;
        if (depth == 0) break;
    }
    *ret_used = pos;
    return 1;
}

static struct slice own(struct slice s) {
    return (struct slice){ mem_memdup0(s.ptr, s.len), s.len };
}

static double token_double(struct slice s) {
    double v = 0;
    if (slice_ieq(s, "nan") || slice_ieq(s, "-nan")) return NAN;
    return str_to_double(s, &v) ? v : NAN;
}

static void fill_scalar(struct resp_value *v, const struct token *t) {
    switch (t->type) {
    case RESP_T_INT:
    case RESP_T_BOOL:
        v->integer = t->integer;
        break;
    case RESP_T_NULL:
        v->null_array = t->null_array;
        break;
    case RESP_T_VERBATIM:
        assert(t->text.ptr && t->text.len >= 4);
        memcpy(v->ext, t->text.ptr, 3);
        v->str = own((struct slice){ t->text.ptr + 4, t->text.len - 4 });
        break;
    case RESP_T_DOUBLE:
        v->dbl = token_double(t->text);
        v->str = own(t->text);
        break;
    default:
        v->str = own(t->text);
        break;
    }
}

/* Second pass: the value at pos, known to be whole. Returns the offset behind it. Recursion is bounded by measure(). */
static size_t build(struct resp_value *v, const char *buf, size_t len, size_t pos, bool nested) {
    struct token t;
    size_t scan = 0;
    next_token(buf, len, pos, &scan, &t);
    while (nested && t.type == RESP_T_ATTR) {
        struct resp_skip drop = { .pos = t.end, .started = true, .outer_seen = true, .todo = t.count };
        resp_skip(&drop, buf, len, &pos);
        scan = 0;
        next_token(buf, len, pos, &scan, &t);
    }
    v->type = t.type;
    pos = t.end;
    if (!t.is_aggregate) {
        fill_scalar(v, &t);
        return pos;
    }
    v->n = t.count;
    v->el = mem_calloc(v->n ? v->n : 1, sizeof(*v->el));
    for (size_t i = 0; i < v->n; i++) pos = build(&v->el[i], buf, len, pos, true);
    return pos;
}

int resp_value_parse(const char *buf, size_t len, size_t *ret_used, struct resp_value **ret) {
    size_t used = 0;
    int r = measure(buf, len, &used);
    if (r <= 0) return r;
    struct resp_value *v = mem_zalloc(sizeof(*v));
    build(v, buf, used, 0, false);
    *ret = v;
    *ret_used = used;
    return 1;
}

static void value_done(struct resp_value *v) {
    for (size_t i = 0; v->el && i < v->n; i++) value_done(&v->el[i]);
    mem_free(v->el);
    mem_free((void *)(uintptr_t)v->str.ptr);
}

struct resp_value *resp_value_free(struct resp_value *v) {
    if (v) {
        value_done(v);
        mem_free(v);
    }
    return NULL;
}

/* ---- commands ---- */

static void append_header(struct buf *out, char type, uint64_t n) {
    char text[STR_LL_MAX + 4];
    text[0] = type;
    size_t len = 1 + str_from_ull(text + 1, n);
    memcpy(text + len, "\r\n", 2);
    buf_append(out, text, len + 2);
}

void resp_write_command(struct buf *out, int argc, const struct slice *argv) {
    append_header(out, '*', (uint64_t)argc);
    for (int i = 0; i < argc; i++) {
        append_header(out, '$', argv[i].len);
        if (argv[i].len) buf_append(out, argv[i].ptr, argv[i].len);
        buf_append(out, "\r\n", 2);
    }
}
