/*
 * Starting a thread. Signals are blocked around pthread_create(3), so that the new thread has its mask from its first instruction
 * on; a fault must get through, or the kernel would end the process without a report. Any thread.
 */
#include "base/thread.h"

#include <signal.h>

#include "base/alloc.h"

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
