/* Log: the form of a line, levels, files that move away, long lines, many threads. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/log.h"

static char dir[64], path[96];

static int setup(void **state) {
    (void)state;
    strcpy(dir, "/tmp/kettle-test-log-XXXXXX");
    if (!mkdtemp(dir)) return -1;
    snprintf(path, sizeof path, "%s/log", dir);
    log_set_level(LOG_LEVEL_DEBUG);
    log_set_role('M');
    return log_set_file(path);
}

static int teardown(void **state) {
    (void)state;
    log_set_file(NULL);
    unlink(path);
    return rmdir(dir);
}

static struct buf slurp(const char *file) {
    struct buf b = { 0 };
    int fd = open(file, O_RDONLY | O_CLOEXEC);
    ssize_t n = 0;
    buf_cstr(&b);
    if (fd < 0) return b;
    do {
        b.len += (size_t)n;
        buf_reserve(&b, 4096);
        n = read(fd, b.data + b.len, 4095);
    } while (n > 0);
    close(fd);
    buf_cstr(&b);
    return b;
}

static const char *take_digits(const char *p, size_t least, size_t most) {
    size_t n = strspn(p, "0123456789");
    assert_in_range(n, least, most);
    return p + n;
}

static const char *take(const char *p, const char *text) {
    assert_memory_equal(p, text, strlen(text));
    return p + strlen(text);
}

/* PID:ROLE DD Mon YYYY HH:MM:SS.mmm LEVEL message\n. Returns what follows the line. */
static const char *take_line(const char *p, char role, char mark, const char *message) {
    static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    char month[4] = "", role_text[4] = { ':', role, ' ' }, mark_text[4] = { ' ', mark, ' ' };
    assert_int_equal(atoi(p), (int)getpid());
    p = take(take_digits(p, 1, 10), role_text);
    p = take(take_digits(p, 2, 2), " ");
    memcpy(month, p, 3);
    const char *at = strstr(months, month);
    assert_non_null(at);
    assert_int_equal((at - months) % 3, 0);
    p = take(p + 3, " ");
    p = take(take_digits(p, 4, 4), " ");
    p = take(take_digits(p, 2, 2), ":");
    p = take(take_digits(p, 2, 2), ":");
    p = take(take_digits(p, 2, 2), ".");
    p = take(take_digits(p, 3, 3), mark_text);
    return take(take(p, message), "\n");
}

static void test_log_msg_line_has_redis_form(void **state) {
    (void)state;
    log_debug("d %d", 1);
    log_verbose("v");
    log_set_role('S');
    log_notice("%s", "n %s");
    log_set_role('C');
    log_warning("w");
    struct buf b = slurp(path);
    const char *p = take_line(b.data, 'M', '.', "d 1");
    p = take_line(p, 'M', '-', "v");
    p = take_line(p, 'S', '*', "n %s");
    p = take_line(p, 'C', '#', "w");
    assert_int_equal(*p, 0);
    buf_done(&b);
}

static void test_log_msg_time_is_local_now(void **state) {
    (void)state;
    time_t before = time(NULL);
    log_notice("x");
    struct buf b = slurp(path);
    struct tm tm = { .tm_isdst = -1 };
    assert_non_null(strptime(strchr(b.data, ' ') + 1, "%d %b %Y %H:%M:%S", &tm));
    time_t logged = mktime(&tm);
    assert_true(logged >= before - 1 && logged <= time(NULL) + 1);
    buf_done(&b);
}

/* A child forked off a threaded server may find the C library's locks taken: it goes by what its parent knew. */
static void test_log_msg_in_child_shows_the_parents_time_zone(void **state) {
    (void)state;
    log_notice("x");
    log_set_role('C');
    log_notice("x");
    struct buf b = slurp(path);
    const char *second = strchr(b.data, '\n') + 1;
    assert_memory_equal(strchr(b.data, ' '), strchr(second, ' '), sizeof " DD Mon YYYY HH:" - 1);
    buf_done(&b);
}

static void test_log_msg_below_level_is_dropped(void **state) {
    (void)state;
    static const char marks[] = ".-*#";
    for (int level = LOG_LEVEL_DEBUG; level <= LOG_LEVEL_NOTHING; level++) {
        unlink(path);
        log_set_level((enum log_level)level);
        assert_int_equal(log_get_level(), level);
        log_debug("m");
        log_verbose("m");
        log_notice("m");
        log_warning("m");
        struct buf b = slurp(path);
        const char *p = b.data;
        for (int l = level; l < LOG_LEVEL_NOTHING; l++) p = take_line(p, 'M', marks[l], "m");
        assert_int_equal(*p, 0);
        buf_done(&b);
    }
}

static void test_log_file_renamed_is_opened_anew(void **state) {
    (void)state;
    char moved[128];
    snprintf(moved, sizeof moved, "%s.1", path);
    log_notice("first");
    assert_int_equal(rename(path, moved), 0);
    log_notice("second");
    struct buf old = slurp(moved), new = slurp(path);
    assert_int_equal(*take_line(old.data, 'M', '*', "first"), 0);
    assert_int_equal(*take_line(new.data, 'M', '*', "second"), 0);
    unlink(moved);
    buf_done(&old);
    buf_done(&new);
}

static void test_log_file_existing_is_appended_to(void **state) {
    (void)state;
    log_raw("one\n");
    assert_int_equal(log_set_file(path), 0);
    log_raw("two %d\n", 2);
    log_raw_signal_safe("three\n", 6);
    struct buf b = slurp(path);
    assert_string_equal(b.data, "one\ntwo 2\nthree\n");
    buf_done(&b);
}

static void test_log_set_file_that_cannot_be_opened_changes_nothing(void **state) {
    (void)state;
    assert_int_equal(log_set_file("/nonexistent-folder/log"), -ENOENT);
    assert_int_equal(log_set_file(dir), -EISDIR);
    log_raw("still here\n");
    struct buf b = slurp(path);
    assert_string_equal(b.data, "still here\n");
    buf_done(&b);
}

static void test_log_set_file_relative_path_survives_chdir(void **state) {
    (void)state;
    char *home = getcwd(NULL, 0);
    assert_int_equal(chdir(dir), 0);
    assert_int_equal(log_set_file("log"), 0);
    assert_int_equal(chdir("/"), 0);
    log_raw("here\n");
    assert_int_equal(chdir(home), 0);
    free(home);
    struct buf b = slurp(path);
    assert_string_equal(b.data, "here\n");
    buf_done(&b);
}

static void test_log_no_file_goes_to_standard_output(void **state) {
    (void)state;
    fflush(stdout);
    int saved = dup(STDOUT_FILENO), fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    assert_true(saved >= 0 && fd >= 0);
    dup2(fd, STDOUT_FILENO);
    log_set_file("");
    log_notice("to stdout");
    log_raw_signal_safe("raw\n", 4);
    bool still_open = fcntl(STDOUT_FILENO, F_GETFD) >= 0;
    dup2(saved, STDOUT_FILENO);
    close(saved);
    close(fd);
    assert_true(still_open);
    struct buf b = slurp(path);
    assert_string_equal(take_line(b.data, 'M', '*', "to stdout"), "raw\n");
    buf_done(&b);
}

static void test_log_msg_of_any_length_ends_with_one_newline(void **state) {
    (void)state;
    static char text[9000];
    static const size_t lens[] = { 0, 1, 4000, 4040, 4050, 4055, 4060, 4065, 4070, 4090, 4094, 4095, 4096, 4097, 8999 };
    for (size_t i = 0; i < sizeof lens / sizeof *lens; i++) {
        unlink(path);
        memset(text, 'a', lens[i]);
        text[lens[i]] = 0;
        log_notice("%s", text);
        log_raw("%s", text);
        log_raw("|");
        struct buf b = slurp(path);
        char *end = strchr(b.data, '\n');
        assert_non_null(end);
        assert_true(end - b.data < 4096);
        *end = 0;
        size_t kept = strlen(strstr(b.data, " * ") + 3);
        assert_true(kept == lens[i] || end - b.data >= 4090);
        size_t raw = strspn(end + 1, "a");
        assert_int_equal(raw, lens[i]);
        assert_string_equal(end + 1 + raw, "|");
        buf_done(&b);
    }
}

#define LINES 300

static void *write_lines(void *arg) {
    for (int i = 0; i < LINES; i++) log_notice("%s %d %0*d end", (const char *)arg, i, 200, 0);
    return NULL;
}

static void test_log_lines_of_threads_never_mix(void **state) {
    (void)state;
    static const char *const names[] = { "a", "b", "c", "d" };
    pthread_t t[4];
    int next[4] = { 0 };
    for (int i = 0; i < 4; i++) assert_int_equal(pthread_create(&t[i], NULL, write_lines, (void *)(uintptr_t)names[i]), 0);
    for (int i = 0; i < 4; i++) pthread_join(t[i], NULL);
    struct buf b = slurp(path);
    const char *p = b.data;
    for (int i = 0; i < 4 * LINES; i++) {
        char want[300];
        int who = strstr(p, " * ")[3] - 'a';
        assert_in_range(who, 0, 3);
        snprintf(want, sizeof want, "%s %d %0*d end", names[who], next[who]++, 200, 0);
        p = take_line(p, 'M', '*', want);
    }
    assert_int_equal(*p, 0);
    buf_done(&b);
}

static void test_log_any_call_keeps_errno_and_descriptors(void **state) {
    (void)state;
    int before = dup(STDOUT_FILENO);
    close(before);
    for (int i = 0; i < 50; i++) {
        errno = ENOTTY;
        log_raw_signal_safe("x", 1);
        assert_int_equal(errno, ENOTTY);
        log_notice("x");
        assert_int_equal(errno, ENOTTY);
    }
    int after = dup(STDOUT_FILENO);
    close(after);
    assert_int_equal(before, after);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        T(test_log_msg_line_has_redis_form),
        T(test_log_msg_time_is_local_now),
        T(test_log_msg_in_child_shows_the_parents_time_zone),
        T(test_log_msg_below_level_is_dropped),
        T(test_log_file_renamed_is_opened_anew),
        T(test_log_file_existing_is_appended_to),
        T(test_log_set_file_that_cannot_be_opened_changes_nothing),
        T(test_log_set_file_relative_path_survives_chdir),
        T(test_log_no_file_goes_to_standard_output),
        T(test_log_msg_of_any_length_ends_with_one_newline),
        T(test_log_lines_of_threads_never_mix),
        T(test_log_any_call_keeps_errno_and_descriptors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
