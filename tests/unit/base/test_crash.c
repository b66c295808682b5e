/* Crash report: a child dies by each signal; its log holds the report and nothing of its memory. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/crash.h"
#include "base/log.h"

#if defined(__has_feature) /* clang */
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#elif defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

#define SECRET "s3cr3t-key-material"

static char path[64];

static int setup(void **state) {
    (void)state;
    strcpy(path, "/tmp/kettle-test-crash-XXXXXX");
    int fd = mkstemp(path);
    if (fd < 0) return -1;
    close(fd);
    return log_set_file(path);
}

static int teardown(void **state) {
    (void)state;
    log_set_file(NULL);
    return unlink(path);
}

static void hook(void) {
    log_raw_signal_safe("[hook]\n", 7);
}

static void hook_that_crashes(void) {
    log_raw_signal_safe("[hook]\n", 7);
    raise(SIGBUS);
}

/* Runs `what` in a child under the handler; returns how the child ended, *ret_log what it logged. */
static int in_child(void (*what)(int), int arg, void (*on_exit_fn)(void), struct buf *ret_log) {
    char text[1024];
    int status = 0;
    ssize_t n;
    fflush(NULL);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        struct rlimit none = { 0, 0 };
        setrlimit(RLIMIT_CORE, &none);
        alarm(60);
        crash_install("Kettle 9.9.9-test");
        crash_on_exit(on_exit_fn);
        crash_note_command("debug|segfault");
        what(arg);
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    while ((n = read(fd, text, sizeof text)) > 0) buf_append(ret_log, text, (size_t)n);
    close(fd);
    buf_cstr(ret_log);
    return status;
}

static void assert_report(struct buf *log, const char *signal_name) {
    char by[64];
    snprintf(by, sizeof by, "Kettle 9.9.9-test crashed by signal: %s\n", signal_name);
    assert_non_null(strstr(log->data, "=== KETTLE BUG REPORT START"));
    assert_non_null(strstr(log->data, by));
    assert_non_null(strstr(log->data, "------ STACK TRACE ------"));
    assert_non_null(strstr(log->data, "------ REGISTERS ------"));
    assert_non_null(strstr(log->data, "=== KETTLE BUG REPORT END ==="));
    assert_null(strstr(log->data, SECRET));
#ifdef __x86_64__
    assert_non_null(strstr(log->data, "RIP:"));
#endif
}

static void skip_if_sanitized(void) {
    if (!SANITIZED) return;
    print_message("the sanitizer reports crashes itself: no handler is installed\n");
    skip();
}

static void raise_it(int sig) {
    char secret[] = SECRET;
    __asm__ volatile("" : : "r"(secret) : "memory");
    raise(sig);
}

static void abort_it(int arg) {
    (void)arg;
    abort();
}

static void touch_address(int arg) {
    *(volatile int *)(uintptr_t)arg = 1;
}

static void do_nothing(int arg) {
    (void)arg;
}

static void no_command(int sig) {
    crash_note_command(NULL);
    raise(sig);
}

static __attribute__((noinline)) int recurse(volatile char *outer) {
    volatile char frame[4096];
    frame[0] = outer[0];
    return frame[0] ? recurse(frame) + frame[0] : 0; /* never 0, but the compiler does not know */
}

static void overflow_stack(int arg) {
    volatile char first[1] = { (char)arg };
    recurse(first);
}

static void *thread_that_crashes(void *arg) {
    crash_note_command("in-thread");
    raise(*(int *)arg);
    return NULL;
}

static void crash_in_thread(int sig) {
    pthread_t t;
    pthread_create(&t, NULL, thread_that_crashes, &sig);
    pthread_join(t, NULL);
}

static void crash_in_many_threads(int sig) {
    pthread_t t[8];
    for (int i = 0; i < 8; i++) pthread_create(&t[i], NULL, thread_that_crashes, &sig);
    for (int i = 0; i < 8; i++) pthread_join(t[i], NULL);
}

static void test_crash_each_signal_reports_and_dies_by_it(void **state) {
    (void)state;
    static const struct {
        int sig;
        const char *name;
    } s[] = { { SIGSEGV, "SIGSEGV" }, { SIGBUS, "SIGBUS" }, { SIGFPE, "SIGFPE" }, { SIGILL, "SIGILL" }, { SIGABRT, "SIGABRT" } };
    skip_if_sanitized();
    for (size_t i = 0; i < sizeof s / sizeof *s; i++) {
        struct buf log = { 0 };
        if (truncate(path, 0) != 0) fail();
        int status = in_child(raise_it, s[i].sig, NULL, &log);
        assert_true(WIFSIGNALED(status));
        assert_int_equal(WTERMSIG(status), s[i].sig);
        assert_report(&log, s[i].name);
        assert_non_null(strstr(log.data, "Running command: debug|segfault\n"));
        buf_done(&log);
    }
}

static void test_crash_abort_dies_by_sigabrt(void **state) {
    (void)state;
    struct buf log = { 0 };
    skip_if_sanitized();
    int status = in_child(abort_it, 0, NULL, &log);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
    assert_report(&log, "SIGABRT");
    buf_done(&log);
}

static void test_crash_bad_access_shows_the_address(void **state) {
    (void)state;
    struct buf log = { 0 };
    skip_if_sanitized();
    int status = in_child(touch_address, 0x123, NULL, &log);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
    assert_report(&log, "SIGSEGV");
    assert_non_null(strstr(log.data, "Accessing address: 0000000000000123\n"));
    buf_done(&log);
}

static void test_crash_stack_overflow_is_reported(void **state) {
    (void)state;
    struct buf log = { 0 };
    skip_if_sanitized();
    int status = in_child(overflow_stack, 1, NULL, &log);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
    assert_report(&log, "SIGSEGV");
    buf_done(&log);
}

static void test_crash_hook_runs_once_after_the_report(void **state) {
    (void)state;
    struct buf log = { 0 };
    skip_if_sanitized();
    int status = in_child(raise_it, SIGFPE, hook, &log);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGFPE);
    char *end = strstr(log.data, "=== KETTLE BUG REPORT END ==="), *at = strstr(log.data, "[hook]");
    assert_true(end && at && at > end);
    assert_null(strstr(at + 1, "[hook]"));
    buf_done(&log);
}

static void test_crash_inside_the_handler_dies_by_the_second_signal(void **state) {
    (void)state;
    struct buf log = { 0 };
    skip_if_sanitized();
    int status = in_child(raise_it, SIGSEGV, hook_that_crashes, &log);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGBUS);
    assert_report(&log, "SIGSEGV");
    assert_null(strstr(strstr(log.data, "REPORT START") + 1, "REPORT START"));
    buf_done(&log);
}

static void test_crash_without_command_says_none(void **state) {
    (void)state;
    struct buf log = { 0 };
    skip_if_sanitized();
    in_child(no_command, SIGILL, NULL, &log);
    assert_report(&log, "SIGILL");
    assert_non_null(strstr(log.data, "Running command: (none)\n"));
    buf_done(&log);
}

static void test_crash_in_thread_shows_that_threads_command(void **state) {
    (void)state;
    struct buf log = { 0 };
    skip_if_sanitized();
    int status = in_child(crash_in_thread, SIGBUS, NULL, &log);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS);
    assert_report(&log, "SIGBUS");
    assert_non_null(strstr(log.data, "Running command: in-thread\n"));
    buf_done(&log);
}

static void test_crash_in_many_threads_gives_one_whole_report(void **state) {
    (void)state;
    skip_if_sanitized();
    for (int i = 0; i < 20; i++) {
        struct buf log = { 0 };
        if (truncate(path, 0) != 0) fail();
        int status = in_child(crash_in_many_threads, SIGSEGV, NULL, &log);
        assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
        assert_report(&log, "SIGSEGV");
        assert_null(strstr(strstr(log.data, "REPORT START") + 1, "REPORT START"));
        buf_done(&log);
    }
}

static void test_crash_handler_installed_leaves_a_sound_program_alone(void **state) {
    (void)state;
    struct buf log = { 0 };
    int status = in_child(do_nothing, 0, hook, &log);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    assert_int_equal(log.len, 0);
    buf_done(&log);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        T(test_crash_each_signal_reports_and_dies_by_it),
        T(test_crash_abort_dies_by_sigabrt),
        T(test_crash_bad_access_shows_the_address),
        T(test_crash_stack_overflow_is_reported),
        T(test_crash_hook_runs_once_after_the_report),
        T(test_crash_inside_the_handler_dies_by_the_second_signal),
        T(test_crash_without_command_says_none),
        T(test_crash_in_thread_shows_that_threads_command),
        T(test_crash_in_many_threads_gives_one_whole_report),
        T(test_crash_handler_installed_leaves_a_sound_program_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
