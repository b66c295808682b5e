/* The decimal digits of a double, as redis-server 7.2 prints it. For base/str_float.c. Any thread. */
#ifndef KETTLE_BASE_STR_DIGITS_H
#define KETTLE_BASE_STR_DIGITS_H

#include <stdint.h>

#define STR_DIGITS_MAX 20

/* v > 0, finite. Writes n digits (returned; at most 17, the first not 0, no NUL): v is about digits * 10^*ret_exp10. */
int str_double_digits(double v, char digits[STR_DIGITS_MAX], int *ret_exp10);

#endif
