/* Memory: jemalloc (its names are malloc's own, so one set of calls serves both) or libc, behind functions that never return
 * NULL. Under all other modules; the only one to call malloc. Any thread. */
#include "base/alloc.h"

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#ifdef HAVE_JEMALLOC
#include <jemalloc/jemalloc.h>
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define COUNTED_BY_SANITIZER
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define COUNTED_BY_SANITIZER
#endif
#endif

#include "base/bigmem.h"
#include "base/crash.h"
#include "base/log.h"

_Noreturn static void out_of_memory(size_t size) {
    char text[96];
    int n = snprintf(text, sizeof text, "Out Of Memory allocating %zu bytes!\n", size);
    log_raw_signal_safe(text, (size_t)n);
    crash_panic();
}

/* ---- blocks of many megabytes ---- */

#ifdef HAVE_JEMALLOC
static inline bool is_big(const void *p) {
    return bigmem_has(p);
}

static inline void *big_alloc(size_t size) {
    return size >= BIGMEM_MIN ? bigmem_alloc(size) : NULL;
}
#else
static inline bool is_big(const void *p) {
    (void)p;
    return false;
}

static inline void *big_alloc(size_t size) {
    (void)size;
    return NULL;
}
#endif

/* One of the two blocks is a big one. */
static void *big_realloc(void *ptr, size_t size) {
    if (is_big(ptr) && size >= BIGMEM_MIN / 2 && bigmem_resize(ptr, size)) return ptr; /* half: not to and fro */
    void *p = big_alloc(size);
    if (!p && !is_big(ptr)) return realloc(ptr, size);
    if (!p) p = malloc(size ? size : 1);
    size_t old = mem_usable(ptr);
    if (p && ptr) memcpy(p, ptr, old < size ? old : size);
    if (p) mem_free(ptr);
    return p;
}

/* ---- all blocks ---- */

void *mem_try_alloc(size_t size) {
    void *p = big_alloc(size);
    return p ? p : malloc(size ? size : 1);
}

void *mem_try_realloc(void *ptr, size_t size) {
    return size >= BIGMEM_MIN || is_big(ptr) ? big_realloc(ptr, size) : realloc(ptr, size);
}

void *mem_alloc(size_t size) {
    void *p = mem_try_alloc(size);
    if (!p) out_of_memory(size);
    return p;
}

void *mem_zalloc(size_t size) {
    return mem_calloc(1, size);
}

void *mem_calloc(size_t count, size_t size) {
    bool too_large = size && count > SIZE_MAX / size;
    void *p = too_large ? NULL : big_alloc(count * size);
    if (!p) p = calloc(count ? count : 1, size ? size : 1);
    if (!p) out_of_memory(too_large ? SIZE_MAX : count * size);
    return p;
}

void *mem_realloc(void *ptr, size_t size) {
    void *p = mem_try_realloc(ptr, size ? size : 1);
    if (!p) out_of_memory(size);
    return p;
}

void *mem_grow_zeroed(void *ptr, size_t used, size_t size) {
    size_t touched = is_big(ptr) ? mem_usable(ptr) : used; /* behind it a big block is zero */
    char *p = is_big(ptr) ? NULL : big_alloc(size);
    if (p) {
        if (used) memcpy(p, ptr, used);
        mem_free(ptr);
        return p;
    }
    p = mem_realloc(ptr, size);
    if (!is_big(p)) touched = size;
    if (touched > used) memset(p + used, 0, (touched < size ? touched : size) - used);
    return p;
}

void mem_free(void *ptr) {
    if (is_big(ptr))
        bigmem_free(ptr);
    else
        free(ptr);
}

char *mem_strdup(const char *s) {
    return mem_memdup0(s, strlen(s));
}

char *mem_memdup0(const void *p, size_t len) {
    char *copy = mem_alloc(len + 1);
    if (len) memcpy(copy, p, len);
    copy[len] = 0;
    return copy;
}

char *mem_asprintf(const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    char *text = mem_alloc((size_t)(n < 0 ? 0 : n) + 1);
    va_start(ap, fmt);
    vsnprintf(text, (size_t)(n < 0 ? 0 : n) + 1, fmt, ap);
    va_end(ap);
    return text;
}

size_t mem_usable(void *ptr) {
    if (is_big(ptr)) return bigmem_size(ptr);
    return ptr ? malloc_usable_size(ptr) : 0;
}

static size_t rss_bytes(void) {
    char text[128];
    int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    if (fd < 0) return 0;
    ssize_t n = read(fd, text, sizeof text - 1);
    close(fd);
    if (n <= 0) return 0;
    text[n] = 0;
    char *at = strchr(text, ' ');
    return at ? (size_t)strtoull(at, NULL, 10) * (size_t)sysconf(_SC_PAGESIZE) : 0;
}

#ifdef HAVE_JEMALLOC
static size_t je_stat(const char *name) {
    size_t v = 0, len = sizeof v;
    mallctl(name, &v, &len, NULL, 0);
    return v;
}

void mem_stats_get(struct mem_stats *ret) {
    uint64_t epoch = 1;
    size_t len = sizeof epoch;
    mallctl("epoch", &epoch, &len, &epoch, len); /* figures are as of the last epoch */
    size_t big = bigmem_used();
    ret->allocated = je_stat("stats.allocated") + big;
    ret->active = je_stat("stats.active") + big;
    ret->resident = je_stat("stats.resident") + big;
    ret->mapped = je_stat("stats.mapped") + big;
    ret->rss = rss_bytes();
}

void mem_purge_in_background(bool on) {
    bool was = false;
    size_t len = sizeof was;
    if (mallctl("background_thread", &was, &len, NULL, 0) == 0 && was != on)
        mallctl("background_thread", NULL, NULL, &on, sizeof on);
}

/* jemalloc counts for each thread what it has taken and given back, in memory of that thread's. A slot points there while the
 * thread runs; what ended ones leave behind is in `ended`. A reader that has just read a slot's pointer may use it after the
 * thread has ended: that memory is the thread's stack and TLS block, which libc keeps for the next thread. */
#define COUNTED_THREADS 128

struct thread_bytes {
    _Atomic(uint64_t *) taken, given;
};

static struct thread_bytes counted[COUNTED_THREADS];
static _Atomic int n_counted; /* slots ever used */
static _Atomic int64_t ended;
static _Thread_local struct thread_bytes *my_slot;

static uint64_t *je_pointer(const char *name) {
    uint64_t *p = NULL;
    size_t len = sizeof p;
    return mallctl(name, &p, &len, NULL, 0) == 0 ? p : NULL;
}

void mem_thread_begin(void) {
    uint64_t *taken = je_pointer("thread.allocatedp"), *given = je_pointer("thread.deallocatedp"), *none;
    for (int i = 0; i < COUNTED_THREADS && taken && given && !my_slot; i++) {
        none = NULL;
        if (!atomic_compare_exchange_strong(&counted[i].given, &none, given)) continue;
        my_slot = &counted[i];
        int n = atomic_load(&n_counted);
        while (n <= i && !atomic_compare_exchange_weak(&n_counted, &n, i + 1)) {
        }
        atomic_store(&my_slot->taken, taken);
    }
}

void mem_thread_end(void) {
    if (!my_slot) return;
    uint64_t *taken = atomic_load(&my_slot->taken), *given = atomic_load(&my_slot->given);
    atomic_store(&my_slot->taken, NULL);
    atomic_fetch_add(&ended, (int64_t)(*taken - *given));
    atomic_store(&my_slot->given, NULL);
    my_slot = NULL;
}

static uint64_t read_counter(const uint64_t *p) {
    return __atomic_load_n(p, __ATOMIC_RELAXED);
}

size_t mem_used(void) {
    int64_t sum = atomic_load_explicit(&ended, memory_order_relaxed);
    int n = atomic_load_explicit(&n_counted, memory_order_acquire);
    for (int i = 0; i < n; i++) {
        const uint64_t *taken = atomic_load_explicit(&counted[i].taken, memory_order_acquire);
        const uint64_t *given = atomic_load_explicit(&counted[i].given, memory_order_acquire);
        if (taken && given) sum += (int64_t)(read_counter(taken) - read_counter(given));
    }
    return (sum > 0 ? (size_t)sum : 0) + bigmem_used();
}

/* ---- pages made ahead ---- */

/* jemalloc takes address space in large pieces and cuts from them what it needs, which it tells the arena's hooks: a piece about
 * to be used, before the thread that wants it writes to it. The hooks stay with the arena once they are there; other threads that
 * share it are not concerned. */
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif
#define AHEAD ((size_t)256 << 10) /* bytes: many small pieces at once */

static _Thread_local struct {
    bool on;
    uintptr_t from, to; /* made last */
} ahead;
static extent_hooks_t hooks_as_were, hooks_ahead;
static pthread_once_t hooks_once = PTHREAD_ONCE_INIT;

/* `used` bytes of `len` that are free are about to be. */
static void make_pages(void *at, size_t len, size_t used) {
    uintptr_t from = (uintptr_t)at;
    if (from >= ahead.from && from + used <= ahead.to) return;
    if (used < AHEAD) used = len < AHEAD ? len : AHEAD;
    if (madvise(at, used, MADV_POPULATE_WRITE) != 0 && errno == EINVAL) ahead.on = false; /* the kernel does not know it */
    ahead.from = from;
    ahead.to = from + used;
}

static bool split_ahead(extent_hooks_t *hooks, void *at, size_t len, size_t len_a, size_t len_b, bool committed, unsigned arena) {
    int e = errno;
    if (ahead.on) make_pages(at, len, len_a);
    errno = e;
    return hooks_as_were.split(hooks, at, len, len_a, len_b, committed, arena);
}

static void prepare_hooks(void) {
    extent_hooks_t *were = NULL;
    size_t len = sizeof were;
    if (mallctl("arena.0.extent_hooks", &were, &len, NULL, 0) != 0) return;
    hooks_as_were = hooks_ahead = *were;
    hooks_ahead.split = split_ahead;
}

void mem_fill_ahead(bool on) {
    unsigned arena;
    char name[48];
    size_t len = sizeof arena;
    ahead.on = false;
    if (!on || mallctl("thread.arena", &arena, &len, NULL, 0) != 0) return;
    pthread_once(&hooks_once, prepare_hooks);
    if (!hooks_ahead.split) return;
    extent_hooks_t *ours = &hooks_ahead;
    snprintf(name, sizeof name, "arena.%u.extent_hooks", arena);
    ahead.from = ahead.to = 0;
    ahead.on = mallctl(name, NULL, NULL, &ours, sizeof ours) == 0;
}

#define TEXT_OF(x) #x
#define TEXT(x) TEXT_OF(x)

const char *mem_allocator_name(void) {
    return "jemalloc-" TEXT(JEMALLOC_VERSION_MAJOR) "." TEXT(JEMALLOC_VERSION_MINOR) "." TEXT(JEMALLOC_VERSION_BUGFIX);
}
#else
void mem_purge_in_background(bool on) {
    (void)on;
}

#ifdef COUNTED_BY_SANITIZER
size_t __sanitizer_get_current_allocated_bytes(void); /* <sanitizer/allocator_interface.h>, which gcc comes without */

static size_t libc_allocated(void) {
    return __sanitizer_get_current_allocated_bytes();
}
#else
static size_t libc_allocated(void) {
    struct mallinfo2 mi = mallinfo2();
    return mi.uordblks + mi.hblkhd;
}
#endif

void mem_stats_get(struct mem_stats *ret) {
    ret->allocated = libc_allocated();
    ret->active = ret->allocated;
    ret->resident = ret->active;
    ret->mapped = ret->active;
    ret->rss = rss_bytes();
}

size_t mem_used(void) {
    return libc_allocated();
}

void mem_fill_ahead(bool on) {
    (void)on;
}

void mem_thread_begin(void) {
}

void mem_thread_end(void) {
}

const char *mem_allocator_name(void) {
    return "libc";
}
#endif

void mem_wipe(void *ptr, size_t len) {
    explicit_bzero(ptr, len);
}
