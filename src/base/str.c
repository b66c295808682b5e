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
    uint64_t v = 0;
    if (s.len == 0 || s.len > 20) return false;
    if (s.ptr[0] == '0') {
        if (s.len != 1) return false;
        *ret = 0;
        return true;
    }
    for (size_t i = 0; i < s.len; i++) {
        unsigned d = (unsigned char)s.ptr[i] - '0';
        if (d > 9 || v > UINT64_MAX / 10 || (v == UINT64_MAX / 10 && d > UINT64_MAX % 10)) return false;
        v = v * 10 + d;
    }
    *ret = v;
    return true;
}

bool str_to_ll(struct slice s, int64_t *ret) {
    uint64_t v;
    bool neg = s.len && s.ptr[0] == '-';
    struct slice digits = { s.ptr + neg, s.len - neg };
    if (!str_to_ull(digits, &v)) return false;
    if (neg) {
        if (v == 0 || v > (uint64_t)INT64_MAX + 1) return false;
        *ret = (int64_t)(0 - v);
    } else {
        if (v > INT64_MAX) return false;
        *ret = (int64_t)v;
    }
    return true;
}

static const char digit_pairs[] = "0001020304050607080910111213141516171819202122232425262728293031323334353637383940414243444546474849"
                                  "5051525354555657585960616263646566676869707172737475767778798081828384858687888990919293949596979899";

size_t str_from_ull(char *buf, uint64_t v) {
    char tmp[20], *p = tmp + sizeof tmp;
    while (v >= 100) {
        p -= 2;
        memcpy(p, digit_pairs + v % 100 * 2, 2);
        v /= 100;
    }
    if (v >= 10) {
        p -= 2;
        memcpy(p, digit_pairs + v * 2, 2);
    } else {
        *--p = (char)('0' + v);
    }
    size_t n = (size_t)(tmp + sizeof tmp - p);
    memcpy(buf, p, n);
    buf[n] = 0;
    return n;
}

size_t str_from_ll(char *buf, int64_t v) {
    if (v >= 0) return str_from_ull(buf, (uint64_t)v);
    *buf = '-';
    return 1 + str_from_ull(buf + 1, 0 - (uint64_t)v);
}

/* ---- floating point ---- */

#define FLOAT_TEXT_MAX 5200 /* "%.17Lf" of the largest long double and some: what Redis takes */

/* strtod wants a NUL and skips leading blanks: both are settled here. */
static bool float_text(struct slice s, char *tmp, size_t cap) {
    if (s.len == 0 || s.len >= cap || isspace((unsigned char)s.ptr[0]) || memchr(s.ptr, 0, s.len)) return false;
    memcpy(tmp, s.ptr, s.len);
    tmp[s.len] = 0;
    return true;
}

bool str_to_double(struct slice s, double *ret) {
    char tmp[FLOAT_TEXT_MAX], *end;
    if (!float_text(s, tmp, sizeof tmp)) return false;
    errno = 0;
    double v = strtod(tmp, &end);
    if (end != tmp + s.len || isnan(v) || (errno == ERANGE && (v == HUGE_VAL || v == -HUGE_VAL || fpclassify(v) == FP_ZERO))) return false;
    *ret = v;
    return true;
}

bool str_to_long_double(struct slice s, long double *ret) {
    char tmp[FLOAT_TEXT_MAX], *end;
    if (!float_text(s, tmp, sizeof tmp)) return false;
    errno = 0;
    long double v = strtold(tmp, &end);
    if (end != tmp + s.len || isnan(v) || (errno == ERANGE && (v == HUGE_VALL || v == -HUGE_VALL || fpclassify(v) == FP_ZERO))) return false;
    *ret = v;
    return true;
}

size_t str_from_double(char *buf, double v) {
    if (isnan(v)) {
        memcpy(buf, "nan", 4);
        return 3;
    }
    if (isinf(v)) return (size_t)snprintf(buf, 64, "%s", v < 0 ? "-inf" : "inf");
    if (v == 0) return (size_t)snprintf(buf, 64, "%s", signbit(v) ? "-0" : "0");
    if (v > -1e17 && v < 1e17 && v == (double)(int64_t)v) return str_from_ll(buf, (int64_t)v);
    /* Every normal double survives 15 digits when it has a form that short; a subnormal has fewer significant bits, and so fewer digits. */
    int n = 0, exponent;
    bool is_power = fabs(frexp(v, &exponent)) == 0.5;
    for (int digits = fabs(v) < DBL_MIN ? 1 : 15; digits <= 17; digits++) { /* the first that reads back equal */
        if (is_power && digits == 16) {
            /* Below a power of two doubles lie twice as close as above it. What reads back equal is centred a little above the value. */
            n = snprintf(buf, 64, "%.16Lg", (long double)v * (1 + 0x1p-55L));
        } else {
            n = snprintf(buf, 64, "%.*g", digits, v);
        }
        if (strtod(buf, NULL) == v) break;
    }
    return (size_t)n;
}

size_t str_from_long_double_human(char *buf, size_t cap, long double v) {
    if (isinf(v)) return (size_t)snprintf(buf, cap, "%s", v > 0 ? "inf" : "-inf");
    int n = snprintf(buf, cap, "%.17Lf", v);
    if (n < 0 || (size_t)n >= cap) return 0;
    if (strchr(buf, '.')) {
        while (n > 0 && buf[n - 1] == '0') n--;
        if (n > 0 && buf[n - 1] == '.') n--;
    }
    buf[n] = 0;
    if (n == 2 && buf[0] == '-' && buf[1] == '0') {
        buf[0] = '0';
        buf[n = 1] = 0;
    }
    return (size_t)n;
}

/* ---- glob ---- */

static unsigned char fold(unsigned char c, bool nocase) {
    return nocase && c >= 'A' && c <= 'Z' ? (unsigned char)(c + 32) : c;
}

/* One [...] set at p (behind the bracket). Returns where it ends (at ']' or the pattern's last byte), *ret_hit whether c is in it. */
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
            unsigned char a = fold((unsigned char)p[0], nocase), b = fold((unsigned char)p[2], nocase), x = fold(c, nocase);
            if (a > b) {
                unsigned char t = a;
                a = b;
                b = t;
            }
            p += 2;
            hit |= x >= a && x <= b;
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

/* Only the last star is ever retried: what an earlier one could swallow, a later one can too. So the work is at most pattern x text. */
bool str_glob(struct slice pattern, struct slice s, bool nocase) {
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

uint64_t str_to_mem(const char *s, bool *ret_err) {
    static const struct { const char *unit; uint64_t mul; } units[] = {
        { "", 1 }, { "b", 1 }, { "k", 1000 }, { "kb", 1024 }, { "m", 1000000 }, { "mb", 1 << 20 }, { "g", 1000000000 }, { "gb", 1 << 30 },
    };
    size_t n = strspn(s, "-0123456789");
    uint64_t v, mul = 0;
    for (size_t i = 0; i < sizeof units / sizeof *units; i++)
        if (!strcasecmp(s + n, units[i].unit)) mul = units[i].mul;
    char digits[24];
    bool bad = mul == 0 || n == 0 || n >= sizeof digits || s[0] == '-';
    if (!bad) {
        memcpy(digits, s, n);
        digits[n] = 0;
        char *end;
        errno = 0;
        v = strtoull(digits, &end, 10);
        bad = errno || *end || (v && mul > UINT64_MAX / v);
    }
    if (ret_err) *ret_err = bad;
    return bad ? 0 : v * mul;
}

void str_from_bytes_human(char *buf, size_t cap, uint64_t n) {
    static const char units[] = "KMGTP";
    if (n < 1024) {
        snprintf(buf, cap, "%lluB", (unsigned long long)n);
        return;
    }
    double d = (double)n / 1024;
    int u = 0;
    while (d >= 1024 && u < 4) {
        d /= 1024;
        u++;
    }
    snprintf(buf, cap, "%.2f%c", d, units[u]);
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
    if (*p != '\\' || p + 1 >= end) {
        buf_append_char(out, *p);
        return p + 1;
    }
    if (p[1] == 'x' && end - p >= 4 && hex_digit(p[2]) >= 0 && hex_digit(p[3]) >= 0) {
        buf_append_char(out, (char)(hex_digit(p[2]) * 16 + hex_digit(p[3])));
        return p + 4;
    }
    const char *at = p[1] ? strchr(from, p[1]) : NULL;
    buf_append_char(out, at ? to[at - from] : p[1]);
    return p + 2;
}

/* One argument at p. NULL: quotes are not balanced. */
static const char *take_arg(const char *p, const char *end, struct buf *out) {
    char quote = 0;
    buf_reserve(out, 1); /* an empty argument is an argument too */
    for (;;) {
        if (p >= end) return quote ? NULL : p;
        if (quote == '"') {
            if (*p == '"') return p + 1 < end && !is_blank(p[1]) ? NULL : p + 1;
            p = take_escaped(p, end, out);
        } else if (quote == '\'') {
            if (*p == '\'') return p + 1 < end && !is_blank(p[1]) ? NULL : p + 1;
            if (*p == '\\' && p + 1 < end && p[1] == '\'') p++;
            buf_append_char(out, *p++);
        } else if (*p == '"' || *p == '\'') {
            quote = *p++;
        } else if (is_blank(*p) || *p == 0) {
            return p;
        } else {
            buf_append_char(out, *p++);
        }
    }
}

struct buf *str_split_args(struct slice line, int *ret_argc) {
    const char *p = line.ptr, *end = p + line.len;
    struct buf *argv = mem_zalloc(sizeof *argv);
    int argc = 0, cap = 1;
    for (;;) {
        while (p < end && is_blank(*p)) p++;
        if (p >= end || *p == 0) break;
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
