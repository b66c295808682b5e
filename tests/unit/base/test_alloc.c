/* Allocation: sizes, copies, wiping, the end at out of memory. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/alloc.h"

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

int main(void) {
    const struct CMUnitTest tests[] = {
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
