/* Fibers: work that returns, work that stops and goes on, long jumps, two fibers in turn. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/fiber.h"

#define STACK ((size_t)1 << 20)

struct job {
    struct fiber *f;
    int steps, done;
};

static void work(void *arg) {
    struct job *j = arg;
    for (int i = 0; i < j->steps; i++) {
        j->done++;
        if (i + 1 < j->steps) fiber_stop(j->f);
    }
}

static void test_fiber_work_that_returns_may_be_followed(void **state) {
    (void)state;
    struct job j = { .f = fiber_new(STACK), .steps = 1 };
    for (int i = 1; i <= 100; i++) {
        assert_true(fiber_run(j.f, work, &j));
        assert_int_equal(j.done, i);
    }
    assert_null(fiber_free(j.f));
}

static void test_fiber_stops_and_goes_on(void **state) {
    (void)state;
    struct job j = { .f = fiber_new(STACK), .steps = 1000 };
    assert_false(fiber_run(j.f, work, &j));
    for (int i = 2; i < 1000; i++) {
        assert_int_equal(j.done, i - 1);
        assert_false(fiber_continue(j.f));
    }
    assert_true(fiber_continue(j.f));
    assert_int_equal(j.done, 1000);
    fiber_free(j.f);
}

static void test_fiber_two_in_turn(void **state) {
    (void)state;
    struct job a = { .f = fiber_new(STACK), .steps = 3 }, b = { .f = fiber_new(STACK), .steps = 3 };
    assert_false(fiber_run(a.f, work, &a));
    assert_false(fiber_run(b.f, work, &b));
    assert_false(fiber_continue(a.f));
    assert_false(fiber_continue(b.f));
    assert_true(fiber_continue(b.f));
    assert_true(fiber_continue(a.f));
    assert_int_equal(a.done + b.done, 6);
    fiber_free(a.f);
    fiber_free(b.f);
}

static void test_fiber_stopped_one_may_be_freed(void **state) {
    (void)state;
    struct job j = { .f = fiber_new(STACK), .steps = 2 };
    assert_false(fiber_run(j.f, work, &j));
    fiber_free(j.f);
}

static jmp_buf back;

__attribute__((noinline)) static void jump(int depth) {
    volatile char pad[256];
    memset((char *)(uintptr_t)pad, depth, sizeof pad);
    if (depth <= 0)
        longjmp(back, 1);
    else if (depth < 1000)
        jump(depth - 1);
    assert_true(pad[0] >= 0 || pad[0] < 0);
}

static void work_that_jumps(void *arg) {
    struct job *j = arg;
    if (setjmp(back) == 0) jump(100);
    j->done++;
    fiber_stop(j->f);
    if (setjmp(back) == 0) jump(100);
    j->done++;
}

/* What Lua does with errors. */
static void test_fiber_long_jumps_inside(void **state) {
    (void)state;
    struct job j = { .f = fiber_new(STACK) };
    assert_false(fiber_run(j.f, work_that_jumps, &j));
    assert_true(fiber_continue(j.f));
    assert_int_equal(j.done, 2);
    fiber_free(j.f);
}

static void work_doubles(void *arg) {
    double *sum = arg;
    for (int i = 1; i <= 10; i++) sum[0] += 1.0 / i;
    memset(sum + 1, 0, sizeof *sum); /* SSE moves want an aligned stack */
}

static void test_fiber_stack_is_aligned(void **state) {
    (void)state;
    double sum[2] = { 0, 1 };
    struct fiber *f = fiber_new(STACK);
    assert_true(fiber_run(f, work_doubles, sum));
    assert_true(sum[0] > 2.92 && sum[0] < 2.93);
    fiber_free(f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fiber_work_that_returns_may_be_followed),
        cmocka_unit_test(test_fiber_stops_and_goes_on),
        cmocka_unit_test(test_fiber_two_in_turn),
        cmocka_unit_test(test_fiber_stopped_one_may_be_freed),
        cmocka_unit_test(test_fiber_long_jumps_inside),
        cmocka_unit_test(test_fiber_stack_is_aligned),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
