/* Clocks: thin over clock_gettime(2), which the vDSO answers without a system call. Any thread. */
#include "base/clock.h"

#include <time.h>

int64_t clock_mono_ns(void) {
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

int64_t clock_mono_us(void) {
    return clock_mono_ns() / 1000;
}

int64_t clock_wall_us(void) {
    struct timespec ts;
    clock_gettime(CLOCK_REALTIME, &ts);
    return (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

int64_t clock_wall_ms(void) {
    return clock_wall_us() / 1000;
}
