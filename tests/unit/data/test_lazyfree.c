/* The background thread: a fault in it is reported like one anywhere else. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <pthread.h>
#include <signal.h>

#include "data/lazyfree.h"

static void note_mask(void *arg) {
    pthread_sigmask(SIG_BLOCK, NULL, arg);
}

static void test_lazyfree_thread_takes_faults_and_no_other_signal(void **state) {
    (void)state;
    sigset_t mask;
    sigemptyset(&mask);
    lazyfree_push(note_mask, &mask, 1);
    lazyfree_drain();
    assert_int_equal(sigismember(&mask, SIGTERM), 1);
    assert_int_equal(sigismember(&mask, SIGINT), 1);
    assert_int_equal(sigismember(&mask, SIGSEGV), 0);
    assert_int_equal(sigismember(&mask, SIGABRT), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_lazyfree_thread_takes_faults_and_no_other_signal) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
