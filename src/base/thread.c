/*
 * Starting a thread. Signals are blocked around pthread_create(3), so that the new thread has its mask from its first instruction
 * on; a fault must get through, or the kernel would end the process without a report. Any thread.
 */
#include "base/thread.h"

#include <signal.h>

int thread_start(pthread_t *ret_thread, void *(*fn)(void *), void *arg) {
    static const int faults[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT };
    sigset_t most, old;
    pthread_t thread;
    sigfillset(&most);
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) sigdelset(&most, faults[i]);
    pthread_sigmask(SIG_BLOCK, &most, &old);
    int r = pthread_create(&thread, NULL, fn, arg);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (r == 0) *ret_thread = thread;
    return -r;
}
