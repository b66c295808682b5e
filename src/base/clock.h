/* Time. Monotonic for durations and deadlines, wall for what users see (expiry, TIME, LASTSAVE). Any thread. */
#ifndef KETTLE_BASE_CLOCK_H
#define KETTLE_BASE_CLOCK_H

#include <stdint.h>

int64_t clock_mono_us(void); /* CLOCK_MONOTONIC, microseconds */
int64_t clock_mono_ns(void);
int64_t clock_wall_us(void); /* CLOCK_REALTIME, microseconds since the epoch */
int64_t clock_wall_ms(void);

#endif
