/* Allocation: sizes, copies, wiping, the end at out of memory. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/thread.h"

static volatile size_t huge = SIZE_MAX / 4; /* volatile: no compile-time warning about it */

static void test_alloc_size_zero_gives_pointer(void **state) {
    (void)state;
    void *p[] = { mem_alloc(0), mem_zalloc(0), mem_calloc(0, 8), mem_calloc(8, 0), mem_realloc(NULL, 0), mem_try_alloc(0) };
    for (size_t i = 0; i < sizeof p / sizeof *p; i++) {
        assert_non_null(p[i]);
        mem_free(p[i]);
    }
    mem_free(NULL);
}

static void test_zalloc_and_calloc_are_zeroed(void **state) {
    (void)state;
    for (int round = 0; round < 8; round++) { /* later rounds get used memory back */
        unsigned char *a = mem_zalloc(1000), *b = mem_calloc(10, 100);
        for (int i = 0; i < 1000; i++) assert_true(a[i] == 0 && b[i] == 0);
        memset(a, 0xff, 1000);
        memset(b, 0xff, 1000);
        mem_free(a);
        mem_free(b);
    }
}

static void test_realloc_keeps_contents(void **state) {
    (void)state;
    char *p = mem_strdup("0123456789");
    p = mem_realloc(p, 100000);
    assert_string_equal(p, "0123456789");
    p = mem_realloc(p, 11);
    assert_string_equal(p, "0123456789");
    mem_free(p);
}

static void test_copies_end_with_nul(void **state) {
    (void)state;
    char *a = mem_memdup0("ab\0cd", 5), *b = mem_memdup0(NULL, 0), *c = mem_asprintf("%s-%d", "x", 42);
    assert_memory_equal(a, "ab\0cd", 6);
    assert_string_equal(b, "");
    assert_string_equal(c, "x-42");
    mem_free(a);
    mem_free(b);
    mem_free(c);
    c = mem_asprintf("%*s", 5000, "x");
    assert_int_equal(strlen(c), 5000);
    mem_free(c);
}

static void test_usable_is_at_least_size(void **state) {
    (void)state;
    assert_int_equal(mem_usable(NULL), 0);
    for (size_t n = 1; n < 100000; n = n * 3 + 1) {
        void *p = mem_alloc(n);
        assert_true(mem_usable(p) >= n);
        mem_free(p);
    }
}

static void test_stats_see_an_allocation(void **state) {
    (void)state;
    struct mem_stats before, after;
    mem_stats_get(&before);
    size_t n = 64 << 20;
    char *p = mem_alloc(n);
    memset(p, 1, n);
    mem_stats_get(&after);
    assert_true(after.rss >= before.rss + n / 2);
#if defined(HAVE_JEMALLOC)
    assert_true(after.allocated >= before.allocated + n);
    assert_true(after.active >= after.allocated);
    assert_true(after.resident >= after.active);
    assert_true(after.mapped >= after.active);
    assert_true(strncmp(mem_allocator_name(), "jemalloc-5.", 11) == 0);
    assert_null(strchr(mem_allocator_name() + 9, '-'));
#else
    assert_string_equal(mem_allocator_name(), "libc");
#endif
    mem_free(p);
}

static void test_wipe_clears(void **state) {
    (void)state;
    char key[32];
    memset(key, 7, sizeof key);
    mem_wipe(key, 16);
    for (size_t i = 0; i < sizeof key; i++) assert_int_equal(key[i], i < 16 ? 0 : 7);
    mem_wipe(key, 0);
}

/* Under sanitizers the allocator itself ends the process, by exit. */
static void assert_ends(void (*fn)(void)) {
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        struct rlimit none = { 0, 0 };
        setrlimit(RLIMIT_CORE, &none);
        if (!freopen("/dev/null", "w", stdout) || !freopen("/dev/null", "w", stderr)) _exit(0);
        signal(SIGABRT, SIG_DFL);
        fn();
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
#if defined(HAVE_JEMALLOC)
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
#else
    assert_true(WIFSIGNALED(status) || WEXITSTATUS(status) != 0);
#endif
}

static void too_much(void) {
    mem_free(mem_alloc(huge));
}
static void calloc_overflow(void) {
    mem_free(mem_calloc(huge, 8));
}
static void realloc_too_much(void) {
    mem_free(mem_realloc(mem_alloc(1), huge));
}

static void test_out_of_memory_aborts(void **state) {
    (void)state;
    assert_ends(too_much);
    assert_ends(calloc_overflow);
    assert_ends(realloc_too_much);
}

static void test_try_alloc_too_much_gives_null(void **state) {
    (void)state;
#if defined(HAVE_JEMALLOC)
    assert_null(mem_try_alloc(huge));
#else
    print_message("skipped: the sanitizer's allocator ends the process instead\n");
    skip();
#endif
}

/* Blocks of many megabytes: zero when new, the same bytes and zeros behind when grown, in place where the allocator is not asked.
 */
static void check_zero(const char *p, size_t from, size_t to) {
    for (size_t i = from; i < to; i += 997) assert_int_equal(p[i], 0);
    if (from < to) assert_int_equal(p[to - 1], 0);
}

static void test_big_blocks_grow_and_come_zeroed(void **state) {
    (void)state;
    const size_t mib = 1 << 20;
    for (int round = 0; round < 3; round++) { /* later rounds get used memory back */
        char *p = mem_calloc(16, mib), *other = mem_alloc(20 * mib);
        check_zero(p, 0, 16 * mib);
        memset(p, 'x', 16 * mib);
        memset(other, 'o', 20 * mib);
        char *was = p;
        p = mem_realloc(p, 300 * mib);
        if (strncmp(mem_allocator_name(), "jemalloc", 8) == 0) assert_ptr_equal(p, was);
        assert_true(mem_usable(p) >= 300 * mib);
        assert_true(p[0] == 'x' && p[16 * mib - 1] == 'x');
        p = mem_realloc(p, 12 * mib);
        p = mem_grow_zeroed(p, 10 * mib, 40 * mib);
        assert_true(p[0] == 'x' && p[10 * mib - 1] == 'x');
        check_zero(p, 10 * mib, 40 * mib);
        p = mem_realloc(p, 1000);
        for (size_t i = 0; i < 1000; i++) assert_int_equal(p[i], 'x');
        p = mem_grow_zeroed(p, 100, 200);
        check_zero(p, 100, 200);
        p = mem_grow_zeroed(p, 200, 9 * mib);
        assert_true(p[99] == 'x');
        check_zero(p, 100, 9 * mib);
        assert_true(other[0] == 'o' && other[20 * mib - 1] == 'o');
        mem_free(p);
        mem_free(other);
    }
}

static void test_big_blocks_are_counted(void **state) {
    (void)state;
    size_t before = mem_used();
    char *p = mem_try_alloc(64 << 20);
    assert_non_null(p);
    assert_true(mem_used() >= before + (64 << 20));
    p = mem_try_realloc(p, 128 << 20);
    assert_true(p && mem_used() >= before + (128 << 20));
    mem_free(p);
    assert_true(mem_used() < before + (1 << 20));
}

/* Larger than a slot of addresses. */
static void test_gigabytes_move(void **state) {
    (void)state;
    const size_t gib = 1 << 30;
    char *p = mem_try_alloc(9 << 20);
    assert_non_null(p);
    p[0] = 'a';
    char *q = mem_try_realloc(p, 2 * gib);
    if (!q) {
        mem_free(p);
        skip();
    }
    assert_true(q[0] == 'a' && mem_usable(q) >= 2 * gib);
    mem_free(q);
}

#define SMALL_BLOCKS 10000
#define SMALL_BYTES 1000

/* How many blocks lie on a page that is not there before they are written to. */
static unsigned n_missing(void) {
    static char *block[SMALL_BLOCKS];
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    unsigned n = 0;
    mem_fill_ahead(true);
    for (size_t i = 0; i < SMALL_BLOCKS; i++) {
        unsigned char there = 0;
        block[i] = mem_alloc(SMALL_BYTES);
        assert_int_equal(mincore(block[i] - ((uintptr_t)block[i] & (page - 1)), page, &there), 0);
        n += !(there & 1);
        memset(block[i], 1, SMALL_BYTES);
    }
    mem_fill_ahead(false);
    for (size_t i = 0; i < SMALL_BLOCKS; i++) mem_free(block[i]);
    return n;
}

static void *count_missing(void *arg) {
    *(unsigned *)arg = n_missing();
    return NULL;
}

/* In a thread of its own, which has an arena of its own: nothing is there yet. */
static void test_pages_are_made_ahead(void **state) {
    (void)state;
    pthread_t thread;
    unsigned n = 0;
    long page = sysconf(_SC_PAGESIZE);
    void *probe = mmap(NULL, (size_t)page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    bool is_known = madvise(probe, (size_t)page, 23) == 0; /* MADV_POPULATE_WRITE, Linux 5.14 */
    munmap(probe, (size_t)page);
    if (!is_known || strcmp(mem_allocator_name(), "libc") == 0) skip();
    assert_int_equal(thread_start(&thread, count_missing, &n), 0);
    pthread_join(thread, NULL);
    assert_true(n < (size_t)SMALL_BLOCKS * SMALL_BYTES / (size_t)page / 10);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_big_blocks_grow_and_come_zeroed),
        cmocka_unit_test(test_big_blocks_are_counted),
        cmocka_unit_test(test_gigabytes_move),
        cmocka_unit_test(test_pages_are_made_ahead),
        cmocka_unit_test(test_alloc_size_zero_gives_pointer),
        cmocka_unit_test(test_zalloc_and_calloc_are_zeroed),
        cmocka_unit_test(test_realloc_keeps_contents),
        cmocka_unit_test(test_copies_end_with_nul),
        cmocka_unit_test(test_usable_is_at_least_size),
        cmocka_unit_test(test_stats_see_an_allocation),
        cmocka_unit_test(test_wipe_clears),
        cmocka_unit_test(test_out_of_memory_aborts),
        cmocka_unit_test(test_try_alloc_too_much_gives_null),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
