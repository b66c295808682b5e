/* Clocks: thin over clock_gettime(2), which the vDSO answers without a system call. Any thread. */
#include "base/clock.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#define CALIBRATE_NS 5000000
#define ANCHOR_US 1000    /* a cached reading of the wall clock is good for so long */
#define ANCHOR_TICKS_US 2 /* two readings further apart than this had something between them */
#define SHIFT 32

bool clock_has_tsc;
static uint64_t us_per_tick = (1ULL << SHIFT) / 1000; /* times 2^SHIFT; of nanoseconds until clock_init */

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

/* ---- the time stamp counter ---- */

static bool kernel_uses_tsc(void) {
    char name[32] = "";
    FILE *f = fopen("/sys/devices/system/clocksource/clocksource0/current_clocksource", "re");
    if (!f) return false;
    bool ok = fgets(name, sizeof name, f) && strcmp(name, "tsc\n") == 0;
    fclose(f);
    return ok;
}

#ifdef __x86_64__
/* Both clocks at one moment: of a few tries the one with the least between. */
static void read_both(uint64_t *ret_tsc, int64_t *ret_ns) {
    uint64_t best = UINT64_MAX;
    for (int i = 0; i < 5; i++) {
        uint64_t before = __builtin_ia32_rdtsc();
        int64_t ns = clock_mono_ns();
        uint64_t after = __builtin_ia32_rdtsc();
        if (after - before >= best) continue;
        best = after - before;
        *ret_tsc = before + best / 2;
        *ret_ns = ns;
    }
}

void clock_init(void) {
    if (clock_has_tsc || !kernel_uses_tsc()) return;
    uint64_t tsc0, tsc1;
    int64_t ns0, ns1;
    struct timespec pause = { .tv_nsec = CALIBRATE_NS };
    read_both(&tsc0, &ns0);
    nanosleep(&pause, NULL);
    read_both(&tsc1, &ns1);
    if (tsc1 <= tsc0 || ns1 - ns0 < CALIBRATE_NS / 2) return;
    us_per_tick = (uint64_t)((double)(ns1 - ns0) / 1000 / (double)(tsc1 - tsc0) * (double)(1ULL << SHIFT));
    clock_has_tsc = true;
}
#else
void clock_init(void) {
}
#endif

uint64_t clock_ticks_us(uint64_t ticks) {
    return (uint64_t)(((unsigned __int128)ticks * us_per_tick) >> SHIFT);
}

int64_t clock_wall_at_us(uint64_t ticks) {
    static __thread uint64_t at;
    static __thread int64_t wall_us;
    uint64_t since = clock_ticks_us(ticks - at);
    if (wall_us && since < ANCHOR_US) return wall_us + (int64_t)since;
    for (int i = 0; i < 3; i++) {
        at = clock_ticks();
        wall_us = clock_wall_us();
        if (clock_ticks_us(clock_ticks() - at) < ANCHOR_TICKS_US) break;
    }
    return wall_us;
}
