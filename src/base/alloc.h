/* Memory for the server: jemalloc where it is linked (release), the libc allocator under sanitizers. Blocks of 8 MiB and more are
 * not the allocator's (bigmem.h): they grow, and come zeroed, without their bytes being touched. Out of memory ends the process
 * with a message, so callers never see NULL. Any thread. */
#ifndef KETTLE_BASE_ALLOC_H
#define KETTLE_BASE_ALLOC_H

#include <stdbool.h>
#include <stddef.h>

/* size 0 gives a valid pointer that may be freed. */
void *mem_alloc(size_t size) __attribute__((malloc, returns_nonnull));
void *mem_zalloc(size_t size) __attribute__((malloc, returns_nonnull));
void *mem_calloc(size_t count, size_t size) __attribute__((malloc, returns_nonnull)); /* aborts on overflow */
void *mem_realloc(void *ptr, size_t size) __attribute__((returns_nonnull));
/* As mem_realloc, and what lies behind the first `used` bytes is zero. used <= size. */
void *mem_grow_zeroed(void *ptr, size_t used, size_t size) __attribute__((returns_nonnull));
/* As mem_alloc, but NULL when the memory is not there: for sizes a peer or a command asks for. */
void *mem_try_alloc(size_t size);
void *mem_try_realloc(void *ptr, size_t size); /* the same; ptr stays as it is then. size is not 0 */
void mem_free(void *ptr);                      /* NULL is fine */
char *mem_strdup(const char *s) __attribute__((malloc, returns_nonnull));
char *mem_memdup0(const void *p, size_t len) __attribute__((malloc, returns_nonnull)); /* copy + NUL */
char *mem_asprintf(const char *fmt, ...) __attribute__((format(printf, 1, 2), malloc, returns_nonnull));

/* Bytes really occupied by ptr's allocation. */
size_t mem_usable(void *ptr);

struct mem_stats {
    size_t allocated; /* bytes asked for by the program, as the allocator rounds them */
    size_t active;    /* bytes in active pages */
    size_t resident;  /* bytes the allocator holds resident */
    size_t mapped;    /* bytes the allocator has mapped */
    size_t rss;       /* resident set of the process, /proc/self/statm */
};
void mem_stats_get(struct mem_stats *ret);

/* Whether the allocator gives freed pages back to the system on a thread of its own; otherwise that happens when someone frees or
 * allocates, so not while nothing does. Without jemalloc nothing happens. Not before a fork that the process lives on in. */
void mem_purge_in_background(bool on);

/* For a thread that is going to take much memory and fill it, as loading does: while it is on, the pages of what it takes are
 * made by the thousand instead of one at each first write to one, which costs several times as much, and in a virtual machine ten
 * times. What is taken is the same. Needs jemalloc and Linux 5.14; else nothing happens. */
void mem_fill_ahead(bool on);

/* Bytes in use, all threads, as of now: exact and cheap enough to be asked before every command. Counted are the threads between
 * mem_thread_begin and mem_thread_end, from their start on; thread_start sees to those it starts, main() to itself. Without
 * jemalloc: mem_stats_get's figure, dearly. */
size_t mem_used(void);
void mem_thread_begin(void);
void mem_thread_end(void);

/* "jemalloc-5.3.0" or "libc": what INFO's mem_allocator says. Static string. */
const char *mem_allocator_name(void);

/* Overwrites len bytes so that the compiler cannot drop it. */
void mem_wipe(void *ptr, size_t len);

#endif
