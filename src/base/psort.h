/* Sorting of which only a part of the result is wanted. Any thread. */
#ifndef KETTLE_BASE_PSORT_H
#define KETTLE_BASE_PSORT_H

#include <stddef.h>

/* Afterwards the elements from..to (both included; to < n) are those that sorting all n would put there, in order. Not stable;
 * what is equal comes out as from redis-server, which sorts by the same method where a LIMIT or COUNT leaves most of it aside. */
void psort(void *base, size_t n, size_t size, int (*cmp)(const void *a, const void *b), size_t from, size_t to);

#endif
