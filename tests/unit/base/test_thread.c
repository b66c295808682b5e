/* Threads: which signals they take, which processors. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <errno.h>
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

static void test_thread_parse_cpus_lists(void **state) {
    (void)state;
    cpu_set_t set;
    assert_int_equal(thread_parse_cpus(slice_cstr("0,2-4,8-20:4,1023"), &set), 0);
    static const int in[] = { 0, 2, 3, 4, 8, 12, 16, 20, 1023 };
    for (size_t i = 0; i < sizeof in / sizeof *in; i++) assert_true(CPU_ISSET(in[i], &set));
    assert_int_equal(CPU_COUNT(&set), sizeof in / sizeof *in);
    static const char *const wrong[] = { "",   "x",     "1-",   "-1",  "3-1",  "0,",
                                         ",0", "0-4:0", "0-4:", "0 1", "1024", "99999999999999999999" };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        assert_int_equal(thread_parse_cpus(slice_cstr(wrong[i]), &set), -EINVAL);
    assert_int_equal(CPU_COUNT(&set), sizeof in / sizeof *in); /* untouched */
}

static void *note_cpus(void *arg) {
    thread_is_background();
    sched_getaffinity(0, sizeof(cpu_set_t), arg);
    return NULL;
}

static void test_thread_is_background_takes_its_processors(void **state) {
    (void)state;
    cpu_set_t all, one, found;
    pthread_t thread;
    assert_int_equal(sched_getaffinity(0, sizeof all, &all), 0);
    assert_int_equal(thread_start(&thread, note_cpus, &found), 0);
    pthread_join(thread, NULL);
    assert_true(CPU_EQUAL(&found, &all)); /* none were set */
    CPU_ZERO(&one);
    for (int cpu = 0; cpu < CPU_SETSIZE && !CPU_COUNT(&one); cpu++)
        if (CPU_ISSET(cpu, &all)) CPU_SET(cpu, &one);
    thread_set_background_cpus(&one);
    assert_int_equal(thread_start(&thread, note_cpus, &found), 0);
    pthread_join(thread, NULL);
    assert_true(CPU_EQUAL(&found, &one));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_thread_start_signals_blocked_but_faults),
        cmocka_unit_test(test_thread_start_mask_of_the_caller_is_as_before),
        cmocka_unit_test(test_thread_parse_cpus_lists),
        cmocka_unit_test(test_thread_is_background_takes_its_processors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
