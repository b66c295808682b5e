/* Blocks of many megabytes, which grow where they are. An allocator copies such a block to make it larger, and clears one that it
 * has had before: a tenth of a second and more for hundreds of megabytes, on the thread of some client. Here each block has a
 * gigabyte of addresses to itself: growing takes nothing, new bytes are zeros from the kernel, which come when they are touched.
 *
 * Private to base/alloc.c. Not in sanitizer builds, whose allocators watch what they gave. Any thread; no lock, so that a fork
 * leaves none behind. */
#ifndef KETTLE_BASE_BIGMEM_H
#define KETTLE_BASE_BIGMEM_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BIGMEM_MIN ((size_t)8 << 20)  /* bytes; smaller ones are the allocator's */
#define BIGMEM_SLOT ((size_t)1 << 30) /* the same of larger ones */
#define BIGMEM_SLOTS 8192
#define BIGMEM_NOWHERE ((uintptr_t)1 << 63) /* farther from any pointer than the window is large */

extern _Atomic uintptr_t bigmem_window; /* where the addresses begin; BIGMEM_NOWHERE before the first block */

static inline bool bigmem_has(const void *p) {
    return (uintptr_t)p - atomic_load_explicit(&bigmem_window, memory_order_relaxed) < BIGMEM_SLOT * BIGMEM_SLOTS;
}

void *bigmem_alloc(size_t size); /* zeros; NULL when it is too large, or nothing can be had */
/* False when it would be larger than BIGMEM_SLOT. What lies past the former size is zero. */
bool bigmem_resize(void *p, size_t size);
void bigmem_free(void *p);
size_t bigmem_size(const void *p); /* bytes, whole pages */
size_t bigmem_used(void);          /* of all blocks */

#endif
