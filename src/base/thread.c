/*
 * Starting a thread. Signals are blocked around pthread_create(3), so that the new thread has its mask from its first instruction
 * on; a fault must get through, or the kernel would end the process without a report. Any thread.
 */
#include "base/thread.h"

#include <errno.h>
#include <signal.h>
#include <stdbool.h>

#include "base/alloc.h"

static cpu_set_t background_cpus;
static bool has_background_cpus;

struct start {
    void *(*fn)(void *);
    void *arg;
};

static void *counted_main(void *arg) {
    struct start s = *(struct start *)arg;
    mem_thread_begin();
    mem_free(arg);
    void *r = s.fn(s.arg);
    mem_thread_end();
    return r;
}

int thread_start(pthread_t *ret_thread, void *(*fn)(void *), void *arg) {
    static const int faults[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT };
    sigset_t most, old;
    pthread_t thread;
    sigfillset(&most);
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) sigdelset(&most, faults[i]);
    struct start *start = mem_alloc(sizeof *start);
    *start = (struct start){ fn, arg };
    pthread_sigmask(SIG_BLOCK, &most, &old);
    int r = pthread_create(&thread, NULL, counted_main, start);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (r) mem_free(start);
    if (r == 0) *ret_thread = thread;
    return -r;
}

/* ---- processors ---- */

static bool take_char(struct slice *s, char c) {
    if (s->len == 0 || *s->ptr != c) return false;
    s->ptr++;
    s->len--;
    return true;
}

static bool take_number(struct slice *s, int *ret) {
    size_t had = s->len;
    for (*ret = 0; s->len && *s->ptr >= '0' && *s->ptr <= '9'; s->ptr++, s->len--)
        if ((*ret = *ret * 10 + (*s->ptr - '0')) >= CPU_SETSIZE) return false;
    return s->len < had;
}

static bool take_range(struct slice *s, cpu_set_t *set) {
    int from, to, step = 1;
    if (!take_number(s, &from)) return false;
    to = from;
    if (take_char(s, '-')) {
        if (!take_number(s, &to) || to < from) return false;
        if (take_char(s, ':') && (!take_number(s, &step) || step == 0)) return false;
    }
    for (int cpu = from; cpu <= to; cpu += step) CPU_SET(cpu, set);
    return true;
}

int thread_parse_cpus(struct slice list, cpu_set_t *ret) {
    cpu_set_t set;
    CPU_ZERO(&set);
    do {
        if (!take_range(&list, &set)) return -EINVAL;
    } while (take_char(&list, ','));
    if (list.len) return -EINVAL;
    *ret = set;
    return 0;
}

void thread_set_background_cpus(const cpu_set_t *cpus) {
    background_cpus = *cpus;
    has_background_cpus = true;
}

void thread_is_background(void) {
    if (has_background_cpus) sched_setaffinity(0, sizeof background_cpus, &background_cpus);
}
