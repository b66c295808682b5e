/* Threads: which signals they take. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <signal.h>

#include "base/thread.h"

static void *note_mask(void *arg) {
    pthread_sigmask(SIG_BLOCK, NULL, arg);
    return arg;
}

static void test_thread_start_signals_blocked_but_faults(void **state) {
    (void)state;
    sigset_t mask;
    pthread_t thread;
    void *result;
    assert_int_equal(thread_start(&thread, note_mask, &mask), 0);
    assert_int_equal(pthread_join(thread, &result), 0);
    assert_ptr_equal(result, &mask);
    static const int blocked[] = { SIGTERM, SIGINT, SIGHUP, SIGPIPE, SIGALRM, SIGUSR1 };
    static const int faults[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT };
    for (size_t i = 0; i < sizeof blocked / sizeof *blocked; i++) assert_int_equal(sigismember(&mask, blocked[i]), 1);
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) assert_int_equal(sigismember(&mask, faults[i]), 0);
}

static void test_thread_start_mask_of_the_caller_is_as_before(void **state) {
    (void)state;
    sigset_t before, after, unused;
    pthread_t thread;
    sigemptyset(&before);
    sigaddset(&before, SIGUSR2);
    assert_int_equal(pthread_sigmask(SIG_SETMASK, &before, NULL), 0);
    assert_int_equal(thread_start(&thread, note_mask, &unused), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    pthread_sigmask(SIG_BLOCK, NULL, &after);
    for (int sig = 1; sig < 32; sig++) assert_int_equal(sigismember(&after, sig), sig == SIGUSR2);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_thread_start_signals_blocked_but_faults),
        cmocka_unit_test(test_thread_start_mask_of_the_caller_is_as_before),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
