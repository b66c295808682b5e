/*
 * Floating point and text, with redis-server's rules. Pure functions. Any thread. The programs leave LC_NUMERIC alone, so
 * strtod(3) and printf(3) speak C's decimal point.
 *
 * Scores are mostly integers and short decimals, and reading has a fast path for those, which rests on one fact (Clinger, 1990):
 * when an integer below 2^53 is divided by a power of ten of at most 10^22, both are exact as doubles, so the one rounding of the
 * division gives the very double that reading the decimal gives.
 */
#include "base/str.h"

#include <ctype.h>
#include <errno.h>
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/str_digits.h"

static const double pow10_exact[] = { 1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15 };

_Static_assert(FLT_EVAL_METHOD == 0, "the fast paths need doubles that are rounded at each operation (SSE2, not x87)");

/* ---- reading ---- */

#define SIMPLE_DIGITS 15

/* "-12.5": at most 15 digits and a point. */
static bool read_simple(struct slice s, double *ret) {
    if (s.len == 0 || s.len > SIMPLE_DIGITS + 2) return false;
    bool negative = s.ptr[0] == '-', point = false;
    uint64_t digits = 0;
    unsigned n = 0, decimals = 0;
    for (size_t i = negative; i < s.len; i++) {
        unsigned d = (unsigned)(unsigned char)s.ptr[i] - '0';
        if (d <= 9) {
            digits = digits * 10 + d;
            n++;
            decimals += point;
        } else if (s.ptr[i] == '.' && !point) {
            point = true;
        } else {
            return false;
        }
    }
    if (n == 0 || n > SIMPLE_DIGITS) return false;
    double v = (double)digits / pow10_exact[decimals];
    *ret = negative ? -v : v;
    return true;
}

/* strtod wants a NUL and skips leading blanks: both are settled here. */
static bool copy_text(struct slice s, char tmp[STR_DOUBLE_MAX]) {
    if (s.len == 0 || s.len >= STR_DOUBLE_MAX || isspace((unsigned char)s.ptr[0]) || memchr(s.ptr, 0, s.len)) return false;
    memcpy(tmp, s.ptr, s.len);
    tmp[s.len] = 0;
    return true;
}

bool str_to_double(struct slice s, double *ret) {
    char tmp[STR_DOUBLE_MAX], *end;
    if (read_simple(s, ret)) return true;
    if (!copy_text(s, tmp)) return false;
    errno = 0;
    double v = strtod(tmp, &end);
    if (end != tmp + s.len || isnan(v)) return false;
    if (errno == ERANGE && (isinf(v) || v == 0)) return false; /* denormal numbers set ERANGE too, and are fine */
    *ret = v;
    return true;
}

bool str_to_long_double(struct slice s, long double *ret) {
    char tmp[STR_DOUBLE_MAX], *end;
    if (!copy_text(s, tmp)) return false;
    errno = 0;
    long double v = strtold(tmp, &end);
    if (end != tmp + s.len || isnan(v)) return false;
    if (errno == ERANGE && (isinf(v) || v == 0)) return false;
    *ret = v;
    return true;
}

/* ---- writing ---- */

/* digits[0..n) times 10^exp10. */
struct decimal {
    char digits[STR_DIGITS_MAX];
    int n, exp10;
};

static size_t put_scientific(char *buf, const struct decimal *d) {
    char *p = buf;
    *p++ = d->digits[0];
    if (d->n > 1) {
        *p++ = '.';
        memcpy(p, d->digits + 1, (size_t)d->n - 1);
        p += d->n - 1;
    }
    int exponent = d->exp10 + d->n - 1;
    *p++ = 'e';
    *p++ = exponent < 0 ? '-' : '+';
    return (size_t)(p - buf) + str_from_ull(p, (uint64_t)abs(exponent));
}

/* Redis 7.2's choice of form (deps/fpconv): plain for up to seven added zeros, and for up to six decimals or a magnitude below
 * 10^4; else scientific. */
static size_t put_decimal(char *buf, const struct decimal *d) {
    int magnitude = abs(d->exp10 + d->n - 1), whole = d->n + d->exp10; /* digits before the point */
    char *p = buf;
    if (d->exp10 >= 0 && magnitude < d->n + 7) {
        memcpy(p, d->digits, (size_t)d->n);
        memset(p + d->n, '0', (size_t)d->exp10);
        p += whole;
    } else if (d->exp10 >= 0 || (d->exp10 <= -7 && magnitude >= 4)) {
        return put_scientific(buf, d);
    } else if (whole <= 0) {
        memcpy(p, "0.", 2);
        memset(p + 2, '0', (size_t)-whole);
        memcpy(p + 2 - whole, d->digits, (size_t)d->n);
        p += 2 - whole + d->n;
    } else {
        memcpy(p, d->digits, (size_t)whole);
        p[whole] = '.';
        memcpy(p + whole + 1, d->digits + whole, (size_t)(d->n - whole));
        p += d->n + 1;
    }
    *p = 0;
    return (size_t)(p - buf);
}

static size_t put_text(char *buf, const char *text) {
    size_t n = strlen(text);
    memcpy(buf, text, n + 1);
    return n;
}

size_t str_from_double(char *buf, double v) {
    if (isnan(v)) return put_text(buf, "nan");
    if (isinf(v)) return put_text(buf, v < 0 ? "-inf" : "inf");
    if (v == 0) return put_text(buf, signbit(v) ? "-0" : "0");
    if (fabs(v) <= 0x1p62 && v == (double)(int64_t)v) return str_from_ll(buf, (int64_t)v); /* the bound is redis-server's */
    struct decimal d;
    size_t sign = v < 0;
    buf[0] = '-';
    d.n = str_double_digits(fabs(v), d.digits, &d.exp10);
    return sign + put_decimal(buf + sign, &d);
}

size_t str_from_long_double_human(char *buf, size_t cap, long double v) {
    if (isinf(v)) return (size_t)snprintf(buf, cap, "%s", v > 0 ? "inf" : "-inf");
    int n = snprintf(buf, cap, "%.17Lf", v);
    if (n < 0 || (size_t)n >= cap) return 0;
    if (memchr(buf, '.', (size_t)n)) {
        while (buf[n - 1] == '0') n--;
        if (buf[n - 1] == '.') n--;
    }
    buf[n] = 0;
    return strcmp(buf, "-0") ? (size_t)n : put_text(buf, "0");
}
