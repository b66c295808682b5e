/* --cpu-of: what a server on this machine spends while it is measured, without what connecting and closing cost it.
 *
 * Flow: bench_run.c asks before everybody starts and after the last reply. The scheduler's figures of a thread are brought up to
 * date when it goes to sleep, so both times wait until the process rests. Threads: the main one, while the others wait. */
#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tools/bench.h"

#define REST_MS 10
#define REST_NS 300000 /* a server's timers take less than that in REST_MS */
#define REST_TRIES 300

/* The first line of a file of /proc; false: there is none. */
static bool line_of(const char *path, char *out, int cap) {
    FILE *f = fopen(path, "re");
    if (!f) return false;
    bool ok = fgets(out, cap, f) != NULL;
    fclose(f);
    return ok;
}

/* Time on a CPU of all its threads (Linux, Documentation/scheduler/sched-stats.rst: the first figure of schedstat). */
static uint64_t run_ns(long pid) {
    char path[400], line[200];
    uint64_t sum = 0;
    snprintf(path, sizeof(path), "/proc/%ld/task", pid);
    DIR *dir = opendir(path);
    if (!dir) return 0;
    for (struct dirent *e; (e = readdir(dir));) {
        snprintf(path, sizeof(path), "/proc/%ld/task/%s/schedstat", pid, e->d_name);
        if (e->d_name[0] != '.' && line_of(path, line, sizeof(line))) sum += strtoull(line, NULL, 10);
    }
    closedir(dir);
    return sum;
}

/* utime and stime are the 14th and 15th field of /proc/PID/stat, counted from after the name, which may hold anything. */
static void ticks(long pid, struct bench_cpu *ret) {
    char path[64], line[1024];
    snprintf(path, sizeof(path), "/proc/%ld/stat", pid);
    const char *p = line_of(path, line, sizeof(line)) ? strrchr(line, ')') : NULL;
    for (int i = 0; p && i < 12; i++) p = strchr(p + 1, ' ');
    char *end = NULL;
    ret->user_ticks = p ? strtoull(p, &end, 10) : 0;
    ret->system_ticks = end ? strtoull(end, NULL, 10) : 0;
}

void bench_cpu_read(long pid, struct bench_cpu *ret) {
    const struct timespec rest = { .tv_nsec = REST_MS * 1000000L };
    *ret = (struct bench_cpu){ 0 };
    if (pid == 0) return;
    uint64_t now = run_ns(pid), last;
    int tries = 0;
    do {
        last = now;
        nanosleep(&rest, NULL);
        now = run_ns(pid);
    } while (now - last > REST_NS && ++tries < REST_TRIES);
    ret->run_ns = now;
    ticks(pid, ret);
}

void bench_cpu_print(long pid, const struct bench_cpu *before, const struct bench_cpu *after) {
    printf("  CPU of process %ld: %" PRIu64 " ns, user %" PRIu64 " ticks, system %" PRIu64 " ticks\n", pid,
           after->run_ns - before->run_ns, after->user_ticks - before->user_ticks, after->system_ticks - before->system_ticks);
}
