/* Clocks: units, direction, agreement with each other and with the C library. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <time.h>

#include "base/clock.h"

static void test_clock_mono_never_goes_back(void **state) {
    (void)state;
    int64_t last = clock_mono_ns();
    assert_true(last > 0);
    for (int i = 0; i < 20000; i++) {
        int64_t now = clock_mono_ns();
        assert_true(now >= last);
        last = now;
    }
}

static void test_clock_mono_units_agree(void **state) {
    (void)state;
    int64_t before = clock_mono_ns(), us = clock_mono_us(), after = clock_mono_ns();
    assert_true(us >= before / 1000 && us <= after / 1000);
}

static void test_clock_wall_agrees_with_time(void **state) {
    (void)state;
    int64_t ms = clock_wall_ms(), us = clock_wall_us();
    assert_true(us >= ms * 1000);
    assert_true(us - ms * 1000 < 60 * 1000000LL);
    int64_t off = us / 1000000 - (int64_t)time(NULL);
    assert_true(off > -60 && off < 60);
}

static void test_clock_sleep_shows_in_mono(void **state) {
    (void)state;
    int64_t mono = clock_mono_us();
    struct timespec ts = { .tv_nsec = 20 * 1000 * 1000 };
    while (nanosleep(&ts, &ts) != 0) {
    }
    int64_t slept = clock_mono_us() - mono;
    assert_true(slept >= 20000);
    assert_true(slept < 60 * 1000000LL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_clock_mono_never_goes_back),
        cmocka_unit_test(test_clock_mono_units_agree),
        cmocka_unit_test(test_clock_wall_agrees_with_time),
        cmocka_unit_test(test_clock_sleep_shows_in_mono),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
