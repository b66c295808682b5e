/* Intset: a sorted array of integers in one allocation, the compact encoding of sets of integers. The bytes are Redis's, so that
 * RDB files and DUMP payloads hold them as they are:
 *
 *     width of a number (4: 2, 4 or 8) | numbers (4) | number ...     ascending; everything little endian
 *
 * Functions that change one return its new address. No locking: the owner serialises. */
#ifndef KETTLE_DATA_INTSET_H
#define KETTLE_DATA_INTSET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

unsigned char *intset_new(void);
unsigned char *intset_dup(const unsigned char *is);
size_t intset_bytes(const unsigned char *is);
uint32_t intset_len(const unsigned char *is);
int64_t intset_at(const unsigned char *is, uint32_t i); /* the ith smallest */
bool intset_has(const unsigned char *is, int64_t v);
unsigned char *intset_add(unsigned char *is, int64_t v, bool *ret_added);
unsigned char *intset_remove(unsigned char *is, int64_t v, bool *ret_removed);
/* Whether `len` bytes from outside are an intset that everything above can use. deep: the order too. */
bool intset_is_valid(const unsigned char *bytes, size_t len, bool deep);

#endif
