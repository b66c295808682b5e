/* See bigmem.h. Place in the flow: base/alloc.c, for whoever asks for a large block. Any thread: a bitmap of the slots is all
 * that is shared; a block's size belongs to the block's owner.
 *
 * The window is address space without memory behind it. A block's pages are given back with the block, so that a slot is all
 * zeros when it is taken again. */
#include "base/bigmem.h"

#include <sys/mman.h>
#include <unistd.h>

#define WORDS (BIGMEM_SLOTS / 64)

_Atomic uintptr_t bigmem_window = BIGMEM_NOWHERE;
static _Atomic bool is_refused; /* the system gives no such window: a limit of address space, or strict accounting */
static _Atomic uint64_t taken[WORDS];
static size_t sizes[BIGMEM_SLOTS];
static _Atomic size_t used;

static size_t whole_pages(size_t size) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    return (size + page - 1) & ~(page - 1);
}

static bool have_window(void) {
    uintptr_t none = BIGMEM_NOWHERE;
    if (atomic_load(&bigmem_window) != none) return true;
    if (atomic_load(&is_refused)) return false;
    size_t len = BIGMEM_SLOT * BIGMEM_SLOTS;
    void *p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) {
        atomic_store(&is_refused, true);
        return false;
    }
    if (!atomic_compare_exchange_strong(&bigmem_window, &none, (uintptr_t)p)) munmap(p, len); /* another thread was first */
    return true;
}

static char *slot_at(size_t i) {
    return (char *)atomic_load_explicit(&bigmem_window, memory_order_relaxed) +
           i * BIGMEM_SLOT; // NOLINT(performance-no-int-to-ptr)
}

static size_t slot_of(const void *p) {
    return ((uintptr_t)p - atomic_load_explicit(&bigmem_window, memory_order_relaxed)) / BIGMEM_SLOT;
}

/* BIGMEM_SLOTS when all are taken. */
static size_t take_slot(void) {
    for (size_t i = 0; i < WORDS; i++) {
        uint64_t word = atomic_load_explicit(&taken[i], memory_order_relaxed);
        while (~word) {
            unsigned bit = (unsigned)__builtin_ctzll(~word);
            if (atomic_compare_exchange_weak(&taken[i], &word, word | 1ULL << bit)) return i * 64 + bit;
        }
    }
    return BIGMEM_SLOTS;
}

void *bigmem_alloc(size_t size) {
    if (size > BIGMEM_SLOT || !have_window()) return NULL;
    size_t i = take_slot();
    if (i == BIGMEM_SLOTS) return NULL;
    sizes[i] = whole_pages(size);
    atomic_fetch_add_explicit(&used, sizes[i], memory_order_relaxed);
    return slot_at(i);
}

static void give_back(size_t i, size_t from) {
    char *p = slot_at(i) + from;
    size_t len = sizes[i] - from;
    if (madvise(p, len, MADV_DONTNEED) == 0) return;
    /* They were locked. Where this fails too, the pages stay as they are. */
    (void)!mmap(p, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
}

bool bigmem_resize(void *p, size_t size) {
    size_t i = slot_of(p), pages = whole_pages(size);
    if (size > BIGMEM_SLOT) return false;
    if (pages < sizes[i]) give_back(i, pages);
    atomic_fetch_add_explicit(&used, pages - sizes[i], memory_order_relaxed); /* modulo 2^64 */
    sizes[i] = pages;
    return true;
}

void bigmem_free(void *p) {
    size_t i = slot_of(p);
    give_back(i, 0);
    atomic_fetch_sub_explicit(&used, sizes[i], memory_order_relaxed);
    atomic_fetch_and_explicit(&taken[i / 64], ~(1ULL << i % 64), memory_order_release);
}

size_t bigmem_size(const void *p) {
    return sizes[slot_of(p)];
}

size_t bigmem_used(void) {
    return atomic_load_explicit(&used, memory_order_relaxed);
}
