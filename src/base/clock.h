/* Time. Monotonic for durations and deadlines, wall for what users see (expiry, TIME, LASTSAVE). Any thread. */
#ifndef KETTLE_BASE_CLOCK_H
#define KETTLE_BASE_CLOCK_H

#include <stdbool.h>
#include <stdint.h>

int64_t clock_mono_us(void); /* CLOCK_MONOTONIC, microseconds */
int64_t clock_mono_ns(void);
int64_t clock_wall_us(void); /* CLOCK_REALTIME, microseconds since the epoch */
int64_t clock_wall_ms(void);

/* ---- cheap clocks, for what happens with every command ----
 *
 * The processor's time stamp counter, where the kernel itself goes by it (clock source "tsc": it runs at one rate and alike on
 * all processors); elsewhere CLOCK_MONOTONIC in nanoseconds. */
void clock_init(void); /* once, before threads start: measures the counter's rate (5 ms). Without it: CLOCK_MONOTONIC */
uint64_t clock_ticks_us(uint64_t ticks); /* of a difference */
/* CLOCK_REALTIME at `ticks`, which clock_ticks() has just said: from a reading of this thread's at most a millisecond old. */
int64_t clock_wall_at_us(uint64_t ticks);

extern bool clock_has_tsc;

static inline uint64_t clock_ticks(void) {
#ifdef __x86_64__
    if (clock_has_tsc) return __builtin_ia32_rdtsc();
#endif
    return (uint64_t)clock_mono_ns();
}

#endif
