/* The cheap clocks against the kernel's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include <unistd.h>

#include "base/clock.h"

static void compare(int loose_us) {
    uint64_t ticks = clock_ticks();
    int64_t ns = clock_mono_ns();
    usleep(200000);
    uint64_t by_ticks = clock_ticks_us(clock_ticks() - ticks);
    int64_t by_kernel = (clock_mono_ns() - ns) / 1000;
    assert_true(llabs((int64_t)by_ticks - by_kernel) < loose_us);
}

static void test_ticks_before_init(void **state) {
    (void)state;
    assert_false(clock_has_tsc);
    compare(20000);
}

static void test_ticks(void **state) {
    (void)state;
    clock_init();
    clock_init();
    print_message("time stamp counter: %s\n", clock_has_tsc ? "yes" : "no");
    compare(20000); /* of 200 ms: a rate that is wrong by a tenth would show; the rest is the machine being busy */
    assert_int_equal(clock_ticks_us(0), 0);
}

/* Between two readings of the kernel's clock, give or take what the cached one may be behind. */
static void test_wall_at(void **state) {
    (void)state;
    int64_t worst = 0;
    for (int i = 0; i < 20000; i++) {
        int64_t before = clock_wall_us(), at = clock_wall_at_us(clock_ticks()), after = clock_wall_us();
        int64_t off = at < before ? before - at : at > after ? at - after : 0;
        if (off > worst) worst = off;
    }
    assert_true(worst < 1000);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ticks_before_init),
        cmocka_unit_test(test_ticks),
        cmocka_unit_test(test_wall_at),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
