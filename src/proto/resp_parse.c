/* RESP request parser: turns the bytes of a client into argv, without copying them.
 *
 * Place in the flow: net/ appends to the client's query buffer, this finds the next whole command in it, cmd/ runs it.
 * Thread: the connection's.
 *
 * A command is in one of three stages, told apart by two numbers:
 *
 *     multibulk_left == -1                    at the start: "*N\r\n", or an inline line
 *     multibulk_left > 0, bulk_len == -1      at a "$N\r\n" header
 *     multibulk_left > 0, bulk_len >= 0       inside the N bytes and their CRLF
 *
 * `pos` is where the current stage starts, `scan` how far a header line without its end was already looked through, so no byte
 * is looked at twice however small the pieces are. While a command is incomplete argv holds offsets (the buffer may move);
 * they become pointers when it is whole.
 *
 * The rules, limits and texts are redis-server 7.2's, its leniency included: a header ends at CR and the byte after it is
 * skipped unseen, as are the two bytes after a bulk. One thing is stricter: a header or inline line is too long when its end
 * is not within the limit, wherever the reads happened to fall; redis-server's answer depends on how the bytes arrived.
 *
 * Rejected: allocating argv by the announced count. Four bytes of input would then cost gigabytes. */
#include "proto/resp_parse.h"

#include <limits.h>
#include <stdio.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "base/str.h"

#define ARGV_FIRST 8
#define SPARE_MAX 64 /* arguments: an argv that is larger is not kept */
#define UNAUTH_MAX_ARGS 10
#define UNAUTH_MAX_BULK 16384
#define HEADER_MAX 65536 /* PROTO_INLINE_MAX_SIZE, which redis-server uses for headers too */

enum step { STEP_MORE, STEP_OK, STEP_BAD };

void resp_parser_init(struct resp_parser *p) {
    memset(p, 0, sizeof(*p));
    p->multibulk_left = -1;
    p->bulk_len = -1;
}

static void inline_args_free(struct resp_parser *p) {
    if (!p->inline_args) return;
    str_split_free(p->inline_args, p->inline_argc);
    p->inline_args = NULL;
    p->inline_argc = 0;
}

void resp_parser_let_go(struct resp_parser *p) {
    for (int i = 0; i < p->n_large; i++) {
        if (p->large[i].release) p->large[i].release(p->large[i].kept);
        p->large[i].release = NULL;
    }
}

static void large_free(struct resp_parser *p) {
    resp_parser_let_go(p);
    for (int i = 0; i < p->n_large; i++) mem_free(p->large[i].data);
    mem_free(p->large);
    p->large = NULL;
    p->n_large = 0;
}

void resp_parser_done(struct resp_parser *p) {
    inline_args_free(p);
    large_free(p);
    mem_free(p->argv);
    resp_parser_init(p);
}

void resp_parser_borrow(struct resp_parser *p, struct resp_argv *spare) {
    if (p->argv || !spare->argv) return;
    p->argv = spare->argv;
    p->argv_cap = spare->cap;
    *spare = (struct resp_argv){ 0 };
}

void resp_parser_trim(struct resp_parser *p, struct resp_argv *spare) {
    inline_args_free(p);
    if (p->multibulk_left >= 0) return;
    large_free(p);
    if (spare && !spare->argv && p->argv_cap <= SPARE_MAX)
        *spare = (struct resp_argv){ p->argv, p->argv_cap };
    else
        mem_free(p->argv);
    p->argv = NULL;
    p->argv_cap = 0;
    p->argc = 0;
}

static enum step fail(struct resp_parser *p, const char *text) {
    p->error = text;
    return STEP_BAD;
}

/* Doubles with the arguments that arrived. */
static void argv_grow(struct resp_parser *p) {
    int cap = p->argv_cap ? p->argv_cap : ARGV_FIRST / 2;
    cap = cap > INT_MAX / 2 ? INT_MAX : cap * 2;
    p->argv = mem_realloc(p->argv, (size_t)cap * sizeof(*p->argv));
    p->argv_cap = cap;
}

static inline void argv_push(struct resp_parser *p, struct slice s) {
    if (p->argc == p->argv_cap) argv_grow(p);
    p->argv[p->argc++] = s;
}

/* The offset travels in the pointer field until the command is whole. */
static inline const char *offset_as_ptr(size_t off) {
    return (const char *)(uintptr_t)off;
}

/* Length text of a header. Same language as string2ll: no sign but '-', no leading zero, no blank. */
static inline bool header_number(const char *p, size_t n, int64_t *ret) {
    if (n == 0 || n > 9 || p[0] < '1' || p[0] > '9') return str_to_ll((struct slice){ p, n }, ret);
    int64_t v = 0;
    for (size_t i = 0; i < n; i++) {
        if (p[i] < '0' || p[i] > '9') return false;
        v = v * 10 + (p[i] - '0');
    }
    *ret = v;
    return true;
}

/* Finds the header line that starts at pos. STEP_OK: *ret_cr is the offset of its CR, and the byte after it is there. */
static inline enum step find_header_end(struct resp_parser *p, const char *buf, size_t len, size_t *ret_cr, const char *too_big) {
    size_t end = len - p->pos > HEADER_MAX ? p->pos + HEADER_MAX + 1 : len;
    size_t from = p->scan > p->pos ? p->scan : p->pos;
    const char *cr = from < end ? memchr(buf + from, '\r', end - from) : NULL;
    if (!cr) {
        p->scan = end;
        return len - p->pos > HEADER_MAX ? fail(p, too_big) : STEP_MORE;
    }
    size_t at = (size_t)(cr - buf);
    if (at + 1 >= len) {
        p->scan = at;
        return STEP_MORE;
    }
    *ret_cr = at;
    return STEP_OK;
}

/* "*" and one digit, which nearly every command begins with, whole. 0: anything else. */
static inline int short_count(const char *h, size_t len) {
    return len >= 4 && h[1] >= '1' && h[1] <= '9' && h[2] == '\r' ? h[1] - '0' : 0;
}

/* "*N\r\n". STEP_OK with multibulk_left still -1: an empty command, skipped. */
static enum step parse_count(struct resp_parser *p, const struct resp_limits *lim, const char *buf, size_t len) {
    size_t cr = p->pos + 2;
    int64_t n = short_count(buf + p->pos, len - p->pos);
    if (n == 0) {
        enum step s = find_header_end(p, buf, len, &cr, "Protocol error: too big mbulk count string");
        if (s != STEP_OK) return s;
        if (!header_number(buf + p->pos + 1, cr - p->pos - 1, &n) || n > INT_MAX)
            return fail(p, "Protocol error: invalid multibulk length");
    }
    if (n > UNAUTH_MAX_ARGS && !lim->authenticated) return fail(p, "Protocol error: unauthenticated multibulk length");
    p->pos = cr + 2;
    p->argc = 0;
    p->bulk_len = -1;
    p->multibulk_left = n > 0 ? n : -1;
    return STEP_OK;
}

static enum step expected_dollar(struct resp_parser *p, char got) {
    /* redis-server prints the byte as it is, but for line ends, which would break the reply. A NUL cannot be in a C string. */
    if (got == '\r' || got == '\n') got = ' ';
    if (got == '\0')
        snprintf(p->error_buf, sizeof(p->error_buf), "Protocol error: expected '$', got ''");
    else
        snprintf(p->error_buf, sizeof(p->error_buf), "Protocol error: expected '$', got '%c'", got);
    return fail(p, p->error_buf);
}

/* The header nearly every argument has: "$" and one to four digits, whole. 0: anything else, for the slow way to look at. Returns
 * its length. */
static inline size_t short_header(const char *h, size_t len, int64_t *ret_n) {
    if (len < 7 || h[0] != '$') return 0;
    unsigned first = (unsigned)(h[1] - '0'), n = first;
    if (first > 9) return 0;
    for (size_t i = 2; i < 6; i++) {
        if (h[i] == '\r') {
            *ret_n = n;
            return first == 0 && i > 2 ? 0 : i + 2;
        }
        unsigned digit = (unsigned)(h[i] - '0');
        if (digit > 9) return 0;
        n = n * 10 + digit;
    }
    return 0;
}

/* "$N\r\n" */
static enum step parse_bulk_header(struct resp_parser *p, const struct resp_limits *lim, const char *buf, size_t len) {
    size_t cr = 0;
    enum step s = find_header_end(p, buf, len, &cr, "Protocol error: too big bulk count string");
    if (s != STEP_OK) return s;
    if (buf[p->pos] != '$') return expected_dollar(p, buf[p->pos]);
    int64_t n = 0;
    if (!header_number(buf + p->pos + 1, cr - p->pos - 1, &n) || n < 0 || (uint64_t)n > lim->max_bulk_len)
        return fail(p, "Protocol error: invalid bulk length");
    if (n > UNAUTH_MAX_BULK && !lim->authenticated) return fail(p, "Protocol error: unauthenticated bulk length");
    p->pos = cr + 2;
    p->bulk_len = n;
    return STEP_OK;
}

/* Arguments until the command is whole. */
static enum step parse_args(struct resp_parser *p, const struct resp_limits *lim, const char *buf, size_t len) {
    while (p->multibulk_left > 0) {
        if (p->bulk_len < 0) {
            size_t header = short_header(buf + p->pos, len - p->pos, &p->bulk_len);
            if (header && (uint64_t)p->bulk_len <= lim->max_bulk_len) {
                p->pos += header;
            } else {
                p->bulk_len = -1;
                enum step s = parse_bulk_header(p, lim, buf, len);
                if (s != STEP_OK) return s;
            }
        }
        size_t have = len - p->pos, n = (size_t)p->bulk_len;
        if (have < n || have - n < 2) return STEP_MORE;
        argv_push(p, (struct slice){ offset_as_ptr(p->pos), n });
        p->pos += n + 2;
        p->bulk_len = -1;
        p->multibulk_left--;
    }
    for (int i = 0; i < p->argc; i++) p->argv[i].ptr = buf + (uintptr_t)p->argv[i].ptr;
    for (int i = 0; i < p->n_large; i++) p->argv[p->large[i].arg].ptr = p->large[i].data;
    p->multibulk_left = -1;
    return STEP_OK;
}

/* A line of words. STEP_OK with argc 0: an empty line, skipped. */
static enum step parse_inline(struct resp_parser *p, const struct resp_limits *lim, const char *buf, size_t len) {
    size_t end = len - p->pos > lim->max_inline ? p->pos + lim->max_inline + 1 : len;
    size_t from = p->scan > p->pos ? p->scan : p->pos;
    const char *lf = from < end ? memchr(buf + from, '\n', end - from) : NULL;
    if (!lf) {
        p->scan = end;
        return len - p->pos > lim->max_inline ? fail(p, "Protocol error: too big inline request") : STEP_MORE;
    }
    struct slice line = { buf + p->pos, (size_t)(lf - buf) - p->pos };
    if (line.len && line.ptr[line.len - 1] == '\r') line.len--;
    p->inline_args = str_split_args(line, &p->inline_argc);
    if (!p->inline_args) return fail(p, "Protocol error: unbalanced quotes in request");
    p->argc = 0;
    for (int i = 0; i < p->inline_argc; i++) {
        struct slice arg = buf_slice(&p->inline_args[i]);
        argv_push(p, arg.ptr ? arg : SLICE_LIT(""));
    }
    p->pos = (size_t)(lf - buf) + 1;
    if (p->argc == 0) inline_args_free(p);
    return STEP_OK;
}

/* One command or one empty command. */
static inline enum step parse_one(struct resp_parser *p, const struct resp_limits *lim, const char *buf, size_t len) {
    if (p->multibulk_left < 0) {
        if (p->pos >= len) return STEP_MORE;
        if (buf[p->pos] != '*') return parse_inline(p, lim, buf, len);
        enum step s = parse_count(p, lim, buf, len);
        if (s != STEP_OK || p->multibulk_left < 0) return s;
    }
    return parse_args(p, lim, buf, len);
}

enum resp_result resp_parse(struct resp_parser *p, const struct resp_limits *lim, const char *buf, size_t len, size_t *ret_used) {
    inline_args_free(p);
    *ret_used = 0;
    if (p->multibulk_left < 0) {
        p->argc = 0;
        if (p->large) large_free(p);
    }
    size_t skipped = 0;
    for (;;) {
        enum step s = parse_one(p, lim, buf + skipped, len - skipped);
        if (s == STEP_BAD) {
            p->multibulk_left = p->bulk_len = -1;
            p->pos = p->scan = 0;
            p->argc = 0;
            return RESP_ERROR;
        }
        if (s == STEP_MORE) {
            *ret_used = skipped;
            return RESP_NEED_MORE;
        }
        /* Offsets count from the start of the command, so an empty one before it moves the origin. */
        skipped += p->pos;
        p->pos = p->scan = 0;
        if (p->argc > 0) {
            *ret_used = skipped;
            return RESP_COMMAND;
        }
    }
}

size_t resp_parser_lacks(const struct resp_parser *p, size_t len) {
    if (p->bulk_len < 0) return 0;
    size_t have = len > p->pos ? len - p->pos : 0;
    size_t need = (size_t)p->bulk_len + 2;
    return need > have ? need - have : 0;
}

size_t resp_parser_large(const struct resp_parser *p, size_t len, size_t min) {
    bool large = p->multibulk_left > 0 && p->bulk_len >= 0 && (size_t)p->bulk_len >= min;
    return large && resp_parser_lacks(p, len) ? (size_t)p->bulk_len + 2 : 0;
}

void resp_parser_put_large(struct resp_parser *p, char *data_take, size_t cap) {
    p->large = mem_realloc(p->large, (size_t)(p->n_large + 1) * sizeof(*p->large));
    p->large[p->n_large++] = (struct resp_large){ .data = data_take, .cap = cap, .pos = p->pos, .arg = p->argc };
    argv_push(p, (struct slice){ NULL, (size_t)p->bulk_len });
    p->bulk_len = -1;
    p->multibulk_left--;
}

char *resp_parser_take_large(struct resp_parser *p, const char *ptr, size_t *ret_cap) {
    for (int i = 0; i < p->n_large; i++) {
        char *data = p->large[i].data;
        if (!data || data != ptr) continue;
        p->large[i].data = NULL;
        *ret_cap = p->large[i].cap;
        return data;
    }
    return NULL;
}

void resp_parser_keep(struct resp_parser *p, const char *ptr, void (*release)(void *kept), void *kept_take) {
    for (int i = 0; i < p->n_large; i++) {
        struct resp_large *l = &p->large[i];
        if (l->data || l->release || p->argv[l->arg].ptr != ptr) continue;
        l->release = release;
        l->kept = kept_take;
        return;
    }
    release(kept_take);
}
