/* Conversions between text and numbers, glob matching, quoting: with Redis's rules, locale never consulted. Any thread. */
#ifndef KETTLE_BASE_STR_H
#define KETTLE_BASE_STR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/slice.h"

#define STR_LL_MAX 21       /* room for any int64 and its NUL */
#define STR_DOUBLE_MAX 5200 /* room for any double or long double in %.17Lf form */

/* Strict: no spaces, no '+', no leading zeros ("-0" refused), whole input; false leaves *ret alone. The form that
 * round-trips, which is what the int encoding and INCR need. */
bool str_to_ll(struct slice s, int64_t *ret);
bool str_to_ull(struct slice s, uint64_t *ret);
/* Whole input; no leading space; nan refused; inf accepted in all of strtod's spellings. */
bool str_to_double(struct slice s, double *ret);
bool str_to_long_double(struct slice s, long double *ret);
/* Returns the length written, NUL not counted. buf >= STR_LL_MAX. */
size_t str_from_ll(char *buf, int64_t v);
size_t str_from_ull(char *buf, uint64_t v);
/* The form of RESP3 doubles and scores, which reads back equal: "3", "3.1", "1e+20", "1e-7", "inf", "-inf", "nan". Nearly always
 * the shortest that does; redis-server's in every case. buf >= 64. */
size_t str_from_double(char *buf, double v);
/* INCRBYFLOAT's form: "%.17Lf" with the trailing zeros and point cut, "-0" as "0". buf >= STR_DOUBLE_MAX. */
size_t str_from_long_double_human(char *buf, size_t cap, long double v);

/* Redis's glob: * ? [a-z] [^a] \x. The empty string matches the empty pattern only, not "*". Work is bounded by pattern x text,
 * whatever the pattern. */
bool str_glob(struct slice pattern, struct slice s, bool nocase);

/* "1kb" = 1024, "1k" = 1000, "2gb", as redis.conf; no sign, no "%"; no digits count as 0. *ret_err (may be NULL): whether the
 * value is malformed or beyond 64 bits; then 0 is returned. */
uint64_t str_to_mem(const char *s, bool *ret_err);
/* "1.50M", as used_memory_human. */
void str_from_bytes_human(char *buf, size_t cap, uint64_t n);

/* Appends "..." with \n \r \t \a \b \" \\ and \xHH escapes: what redis-cli and MONITOR print. */
void str_quote(struct buf *out, struct slice s);
/* Splits a line as redis.conf and inline commands do: blanks, "..." with escapes, '...'. NULL on unbalanced quotes, else an
 * array of *ret_argc buffers; free each data and the array with str_split_free. An empty line gives argc 0 and a non-NULL array.
 */
struct buf *str_split_args(struct slice line, int *ret_argc);
void str_split_free(struct buf *argv, int argc);
void str_to_lower(char *s, size_t len);

#endif
