/* Figures of commands: several threads writing while one reads, and a reset in between. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "base/clock.h"
#include "cmd/figures.h"

enum { THREADS = 4, CALLS = 50000 };

static struct figures *figures;
static const struct cmd cmds[2] = { { .id = 0 }, { .id = 1 } };
static atomic_bool go_on;

static void *write_some(void *arg) {
    unsigned slot = (unsigned)(uintptr_t)arg;
    for (int i = 0; i < CALLS; i++) {
        figures_note(figures, slot, &cmds[1], 3);
        figures_count(figures, slot, 1000);
        figures_add_dirty(figures, slot, 2);
    }
    return NULL;
}

static uint64_t calls_of(int i, uint64_t *ret_usec) {
    uint64_t calls;
    figures_of(figures, &cmds[i], &calls, ret_usec);
    return calls;
}

static void test_figures_of_threads_add_up(void **state) {
    (void)state;
    pthread_t t[THREADS];
    uint64_t usec, seen = 0;
    figures = figures_new(2);
    for (uintptr_t i = 0; i < THREADS; i++) pthread_create(&t[i], NULL, write_some, (void *)i);
    for (int i = 0; i < 1000; i++) {
        uint64_t now = calls_of(1, &usec);
        assert_true(now >= seen);
        seen = now;
    }
    for (int i = 0; i < THREADS; i++) pthread_join(t[i], NULL);
    assert_int_equal(calls_of(1, &usec), THREADS * CALLS);
    assert_int_equal(usec, THREADS * CALLS * 3);
    assert_int_equal(calls_of(0, &usec), 0);
    assert_int_equal(figures_commands(figures), THREADS * CALLS);
    assert_int_equal(figures_usec(figures), clock_ticks_us(1000ULL * THREADS * CALLS));
    assert_int_equal(figures_dirty(figures), THREADS * CALLS * 2);
    struct hist *h = hist_new();
    figures_latency(figures, &cmds[1], h);
    assert_int_equal(hist_count(h), THREADS * CALLS);
    assert_int_equal(hist_max(h), 3);
    hist_free(h);
    assert_null(figures_free(figures));
}

static void test_figures_reset(void **state) {
    (void)state;
    uint64_t usec;
    figures = figures_new(2);
    figures_note(figures, 5, &cmds[0], 100);
    figures_note(figures, 63, &cmds[0], 100);
    figures_count(figures, 5, 1);
    figures_add_dirty(figures, 5, 1);
    figures_reset(figures);
    assert_int_equal(calls_of(0, &usec), 0);
    assert_int_equal(figures_commands(figures), 0);
    figures_note(figures, 5, &cmds[0], 7); /* slot 63 stays behind */
    assert_int_equal(calls_of(0, &usec), 1);
    assert_int_equal(usec, 7);
    struct hist *h = hist_new();
    figures_latency(figures, &cmds[0], h);
    assert_int_equal(hist_count(h), 1);
    assert_int_equal(hist_max(h), 7);
    hist_free(h);
    assert_int_equal(figures_dirty(figures), 1);
    assert_null(figures_free(figures));
    assert_null(figures_free(NULL));
}

static void *write_on(void *arg) {
    unsigned slot = (unsigned)(uintptr_t)arg;
    while (atomic_load(&go_on)) figures_note(figures, slot, &cmds[0], 1);
    return NULL;
}

static void test_figures_reset_while_written(void **state) {
    (void)state;
    pthread_t t;
    uint64_t usec;
    figures = figures_new(2);
    atomic_store(&go_on, true);
    pthread_create(&t, NULL, write_on, NULL);
    for (int i = 0; i < 200; i++) {
        while (calls_of(0, &usec) < 1000) {
        }
        figures_reset(figures);
        assert_true(calls_of(0, &usec) < 1000000); /* nothing of before comes back */
    }
    atomic_store(&go_on, false);
    pthread_join(t, NULL);
    figures_free(figures);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_figures_of_threads_add_up),
        cmocka_unit_test(test_figures_reset),
        cmocka_unit_test(test_figures_reset_while_written),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
