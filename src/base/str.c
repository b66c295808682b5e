/*
 * Text and numbers with Redis's rules, whatever the locale. Pure functions. Any thread.
 */
#include "base/str.h"

#include <ctype.h>
#include <errno.h>
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"

/* ---- integers ---- */

bool str_to_ull(struct slice s, uint64_t *ret) {
    if (s.len == 0 || s.len > 20) return false;
    uint64_t v = (unsigned char)s.ptr[0] - (uint64_t)'0';
    if (v > 9 || (v == 0 && s.len > 1)) return false;
    size_t safe = s.len < 19 ? s.len : 19; /* so many digits cannot overflow */
    for (size_t i = 1; i < safe; i++) {
        unsigned d = (unsigned)(unsigned char)s.ptr[i] - '0';
        if (d > 9) return false;
        v = v * 10 + d;
    }
    if (s.len == 20) {
        unsigned d = (unsigned)(unsigned char)s.ptr[19] - '0';
        if (d > 9 || v > (UINT64_MAX - d) / 10) return false;
        v = v * 10 + d;
    }
    *ret = v;
    return true;
}

bool str_to_ll(struct slice s, int64_t *ret) {
    uint64_t v;
    if (s.len == 0 || s.ptr[0] != '-') {
        if (!str_to_ull(s, &v) || v > INT64_MAX) return false;
        *ret = (int64_t)v;
        return true;
    }
    if (!str_to_ull((struct slice){ s.ptr + 1, s.len - 1 }, &v) || v == 0 || v > (uint64_t)INT64_MAX + 1) return false;
    *ret = (int64_t)(0 - v);
    return true;
}

static const char digit_pairs[] =
    "0001020304050607080910111213141516171819202122232425262728293031323334353637383940414243444546474849"
    "5051525354555657585960616263646566676869707172737475767778798081828384858687888990919293949596979899";

/* Decimal digits of v: the bit length times log10(2) is right or one too low. */
static unsigned count_digits(uint64_t v) {
    static const uint64_t pow10[20] = {
        0 /* so that 0 has one digit */,
        10ULL,
        100ULL,
        1000ULL,
        10000ULL,
        100000ULL,
        1000000ULL,
        10000000ULL,
        100000000ULL,
        1000000000ULL,
        10000000000ULL,
        100000000000ULL,
        1000000000000ULL,
        10000000000000ULL,
        100000000000000ULL,
        1000000000000000ULL,
        10000000000000000ULL,
        100000000000000000ULL,
        1000000000000000000ULL,
        10000000000000000000ULL,
    };
    unsigned n = (64 - (unsigned)__builtin_clzll(v | 1)) * 1233 >> 12;
    return n + (v >= pow10[n]);
}

size_t str_from_ull(char *buf, uint64_t v) {
    unsigned n = count_digits(v);
    char *p = buf + n;
    *p = 0;
    while (v >= 100) {
        p -= 2;
        memcpy(p, digit_pairs + v % 100 * 2, 2);
        v /= 100;
    }
    if (v >= 10)
        memcpy(p - 2, digit_pairs + v * 2, 2);
    else
        p[-1] = (char)('0' + v);
    return n;
}

size_t str_from_ll(char *buf, int64_t v) {
    if (v >= 0) return str_from_ull(buf, (uint64_t)v);
    *buf = '-';
    return 1 + str_from_ull(buf + 1, 0 - (uint64_t)v);
}

/* ---- glob ---- */

static unsigned char fold(unsigned char c, bool nocase) {
    return nocase && c >= 'A' && c <= 'Z' ? (unsigned char)(c + 32) : c;
}

/* In signed order, as redis-server compares on x86. The ends change places before letter case is ignored, as there. */
static bool in_range(unsigned char from, unsigned char to, unsigned char c, bool nocase) {
    bool swap = (signed char)from > (signed char)to;
    signed char a = (signed char)fold(swap ? to : from, nocase), b = (signed char)fold(swap ? from : to, nocase);
    signed char x = (signed char)fold(c, nocase);
    return x >= a && x <= b;
}

/* One [...] set at p (behind the bracket). Returns where it ends (at ']' or the pattern's last byte), *ret_hit whether c is in
 * it. */
static const char *glob_set(const char *p, const char *end, unsigned char c, bool nocase, bool *ret_hit) {
    bool negate = p < end && *p == '^', hit = false;
    if (negate) p++;
    for (;; p++) {
        if (p >= end) {
            p = end - 1; /* not closed: what there is counts */
            break;
        }
        if (*p == '\\' && end - p >= 2) {
            p++;
            hit |= (unsigned char)*p == c;
        } else if (*p == ']') {
            break;
        } else if (end - p >= 3 && p[1] == '-') {
            hit |= in_range((unsigned char)p[0], (unsigned char)p[2], c, nocase);
            p += 2;
        } else {
            hit |= fold((unsigned char)*p, nocase) == fold(c, nocase);
        }
    }
    *ret_hit = negate ? !hit : hit;
    return p;
}

/* Matches one pattern item (not '*') at p with byte c. Returns the next pattern position, or NULL. */
static const char *glob_one(const char *p, const char *end, unsigned char c, bool nocase) {
    bool hit;
    switch (*p) {
    case '?':
        return p + 1;
    case '[':
        p = glob_set(p + 1, end, c, nocase, &hit);
        return hit ? p + 1 : NULL;
    case '\\':
        if (end - p >= 2) p++;
        break;
    default:
        break;
    }
    return fold((unsigned char)*p, nocase) == fold(c, nocase) ? p + 1 : NULL;
}

/* Only the last star is ever retried: what an earlier one could swallow, a later one can too. So the work is at most pattern x
 * text. Rejected: redis-server's recursion, which is exponential in the number of stars but for its late cut-off. */
bool str_glob(struct slice pattern, struct slice s, bool nocase) {
    if (s.len == 0) return pattern.len == 0; /* there, not even "*" matches the empty string */
    const char *p = pattern.ptr, *pend = p + pattern.len, *t = s.ptr, *tend = t + s.len;
    const char *star = NULL, *star_text = NULL;
    while (t < tend) {
        if (p < pend && *p == '*') {
            while (p < pend && *p == '*') p++;
            if (p == pend) return true;
            star = p;
            star_text = t;
            continue;
        }
        const char *next = p < pend ? glob_one(p, pend, (unsigned char)*t, nocase) : NULL;
        if (next) {
            p = next;
            t++;
        } else if (star) {
            p = star;
            t = ++star_text;
        } else {
            return false;
        }
    }
    while (p < pend && *p == '*') p++;
    return p == pend;
}

/* ---- sizes ---- */

static bool parse_mem(const char *s, uint64_t *ret) {
    static const struct {
        const char *unit;
        uint64_t mul;
    } units[] = {
        { "", 1 },        { "b", 1 },        { "k", 1000 },       { "kb", 1 << 10 },
        { "m", 1000000 }, { "mb", 1 << 20 }, { "g", 1000000000 }, { "gb", 1 << 30 },
    };
    uint64_t v = 0;
    for (; *s >= '0' && *s <= '9'; s++)
        if (__builtin_mul_overflow(v, 10, &v) || __builtin_add_overflow(v, (uint64_t)(*s - '0'), &v)) return false;
    for (size_t i = 0; i < sizeof units / sizeof *units; i++)
        if (!strcasecmp(s, units[i].unit)) return !__builtin_mul_overflow(v, units[i].mul, ret);
    return false;
}

uint64_t str_to_mem(const char *s, bool *ret_err) {
    uint64_t v = 0;
    bool ok = parse_mem(s, &v);
    if (ret_err) *ret_err = !ok;
    return ok ? v : 0;
}

void str_from_bytes_human(char *buf, size_t cap, uint64_t n) {
    static const char units[] = "KMGTP";
    int u = 0;
    while (u < 5 && n >> (10 * (u + 2))) u++;
    if (n < 1024 || u == 5)
        snprintf(buf, cap, "%lluB", (unsigned long long)n);
    else
        snprintf(buf, cap, "%.2f%c", (double)n / (double)(1ULL << (10 * (u + 1))), units[u]);
}

/* ---- quoting ---- */

void str_quote(struct buf *out, struct slice s) {
    static const char from[] = "\n\r\t\a\b\"\\", to[] = "nrtab\"\\";
    buf_append_char(out, '"');
    for (size_t i = 0; i < s.len; i++) {
        unsigned char c = (unsigned char)s.ptr[i];
        const char *esc = c ? strchr(from, c) : NULL;
        if (esc) {
            char pair[2] = { '\\', to[esc - from] };
            buf_append(out, pair, 2);
        } else if (c >= 0x20 && c < 0x7f) {
            buf_append_char(out, (char)c);
        } else {
            buf_printf(out, "\\x%02x", c);
        }
    }
    buf_append_char(out, '"');
}

static int hex_digit(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

static bool is_blank(char c) {
    return c == ' ' || (c >= '\t' && c <= '\r');
}

/* Inside "...": takes one character or escape at p, returns the next position. */
static const char *take_escaped(const char *p, const char *end, struct buf *out) {
    static const char from[] = "nrtba", to[] = "\n\r\t\b\a";
    if (*p != '\\' || end - p < 2) {
        buf_append_char(out, *p);
        return p + 1;
    }
    if (p[1] == 'x' && end - p >= 4 && hex_digit(p[2]) >= 0 && hex_digit(p[3]) >= 0) {
        buf_append_char(out, (char)(hex_digit(p[2]) * 16 + hex_digit(p[3])));
        return p + 4;
    }
    const char *at = strchr(from, p[1]);
    buf_append_char(out, at ? to[at - from] : p[1]);
    return p + 2;
}

/* One argument at p. NULL: quotes are not balanced. */
static const char *take_arg(const char *p, const char *end, struct buf *out) {
    char quote = 0;
    buf_reserve(out, 1); /* an empty argument is an argument too */
    for (;;) {
        if (p == end) return quote ? NULL : p;
        if (quote == '"') {
            if (*p == '"') return end - p > 1 && !is_blank(p[1]) ? NULL : p + 1;
            p = take_escaped(p, end, out);
        } else if (quote == '\'') {
            if (*p == '\'') return end - p > 1 && !is_blank(p[1]) ? NULL : p + 1;
            if (*p == '\\' && end - p > 1 && p[1] == '\'') p++;
            buf_append_char(out, *p++);
        } else if (*p == '"' || *p == '\'') {
            quote = *p++;
        } else if (*p == ' ' || *p == '\t' || *p == '\n' || *p == '\r') { /* not \v and \f, blanks elsewhere: as redis-server */
            return p;
        } else {
            buf_append_char(out, *p++);
        }
    }
}

struct buf *str_split_args(struct slice line, int *ret_argc) {
    const char *p = line.len ? line.ptr : "", *end = p + strnlen(p, line.len); /* a NUL ends the line */
    struct buf *argv = mem_zalloc(sizeof *argv);
    int argc = 0, cap = 1;
    for (;;) {
        while (p < end && is_blank(*p)) p++;
        if (p == end) break;
        if (argc == cap) argv = mem_realloc(argv, sizeof(*argv) * (size_t)(cap *= 2));
        argv[argc] = (struct buf){ 0 };
        p = take_arg(p, end, &argv[argc++]);
        if (!p) {
            str_split_free(argv, argc);
            *ret_argc = 0;
            return NULL;
        }
    }
    *ret_argc = argc;
    return argv;
}

void str_split_free(struct buf *argv, int argc) {
    if (!argv) return;
    for (int i = 0; i < argc; i++) buf_done(&argv[i]);
    mem_free(argv);
}

void str_to_lower(char *s, size_t len) {
    for (size_t i = 0; i < len; i++)
        if (s[i] >= 'A' && s[i] <= 'Z') s[i] = (char)(s[i] + 32);
}
