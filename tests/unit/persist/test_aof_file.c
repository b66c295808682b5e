/* The append-only file that is written: order of bytes, offsets, switching files, what errors do. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/log.h"
#include "persist/aof_file.h"

static _Atomic uint64_t safe;

static void on_safe(void *arg, uint64_t offset) {
    (void)arg;
    atomic_store(&safe, offset);
}

static struct aof_file *new_file(enum aof_fsync policy) {
    struct aof_file_hooks hooks = { .safe_up_to = on_safe };
    struct aof_file *f = aof_file_new(&hooks);
    aof_file_set_policy(f, policy);
    atomic_store(&safe, 0);
    return f;
}

static int open_temp(char *path) {
    snprintf(path, 64, "/tmp/kettle-aof-XXXXXX");
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    return fd;
}

static void start_on(struct aof_file *f, int fd) {
    aof_file_hold(f);
    assert_int_equal(aof_file_switch(f, fd, 0), 0);
    aof_file_let_go(f);
}

static void assert_file(const char *path, const char *want) {
    char got[4096];
    int fd = open(path, O_RDONLY);
    ssize_t n = read(fd, got, sizeof got - 1);
    close(fd);
    assert_true(n >= 0);
    got[n] = 0;
    assert_string_equal(got, want);
}

static uint64_t put(struct aof_file *f, const char *text, uint64_t repl) {
    struct slice piece[2] = { slice_cstr("["), slice_cstr(text) };
    uint64_t end = aof_file_append(f, piece, 2);
    aof_file_note_repl(f, repl);
    return end;
}

static void test_file_keeps_order_and_counts(void **state) {
    (void)state;
    char path[64], other[64];
    struct aof_file *f = new_file(AOF_FSYNC_NO);
    start_on(f, open_temp(path));
    put(f, "a", 10);
    put(f, "b", 11);
    put(f, "c", 12);
    put(f, "d", 13);
    assert_true(aof_file_is_behind(f));
    aof_file_write(f);
    assert_false(aof_file_is_behind(f));
    assert_file(path, "[a[b[c[d");
    struct aof_file_state st;
    aof_file_state_get(f, &st);
    assert_int_equal(st.written, 8);
    assert_int_equal(st.total, st.written);
    assert_int_equal(st.fsynced, 0);
    /* What was pending belongs to the old file. */
    put(f, "e", 14);
    start_on(f, open_temp(other));
    put(f, "f", 15);
    assert_int_equal(aof_file_flush(f, false), 0);
    assert_file(path, "[a[b[c[d[e");
    assert_file(other, "[f");
    aof_file_free(f);
    unlink(path);
    unlink(other);
}

static void wait_safe(uint64_t offset) {
    for (int i = 0; i < 10000 && atomic_load(&safe) < offset; i++) usleep(1000);
    assert_true(atomic_load(&safe) >= offset);
}

static void test_file_always_syncs(void **state) {
    (void)state;
    char path[64];
    struct aof_file *f = new_file(AOF_FSYNC_ALWAYS);
    start_on(f, open_temp(path));
    for (int i = 1; i <= 100; i++) {
        uint64_t end = put(f, "x", (uint64_t)i);
        aof_file_write(f);
        if (i % 10 == 0) wait_safe(end);
    }
    assert_int_equal(aof_file_repl_fsynced(f), 100);
    assert_int_equal(aof_file_fsynced(f), 200);
    aof_file_free(f);
    unlink(path);
}

static void test_file_everysec_syncs_within_seconds(void **state) {
    (void)state;
    char path[64];
    struct aof_file *f = new_file(AOF_FSYNC_EVERYSEC);
    start_on(f, open_temp(path));
    uint64_t end = put(f, "x", 7);
    aof_file_write(f);
    for (int i = 0; i < 20000 && aof_file_fsynced(f) < end; i++) usleep(1000);
    assert_int_equal(aof_file_fsynced(f), end);
    assert_int_equal(aof_file_repl_fsynced(f), 7);
    aof_file_free(f);
    unlink(path);
}

static void test_file_full_disk_is_tried_again(void **state) {
    (void)state;
    char path[64];
    struct aof_file *f = new_file(AOF_FSYNC_NO);
    log_set_level(LOG_LEVEL_NOTHING);
    start_on(f, open("/dev/full", O_WRONLY));
    put(f, "abc", 1);
    aof_file_write(f);
    assert_int_equal(aof_file_error(f), ENOSPC);
    assert_true(aof_file_is_behind(f));
    put(f, "def", 2);
    aof_file_write(f);
    assert_int_equal(aof_file_flush(f, true), -ENOSPC);
    /* It cannot be left behind: its bytes would be missing. */
    int fd = open_temp(path);
    aof_file_hold(f);
    assert_int_equal(aof_file_switch(f, fd, 0), -ENOSPC);
    aof_file_abandon(f);
    aof_file_let_go(f);
    assert_int_equal(aof_file_error(f), 0);
    assert_false(aof_file_is_behind(f));
    start_on(f, fd);
    put(f, "ghi", 3);
    aof_file_hold(f);
    assert_int_equal(aof_file_close(f), 0);
    aof_file_let_go(f);
    assert_false(aof_file_is_open(f));
    assert_file(path, "[ghi");
    aof_file_free(f);
    unlink(path);
    log_set_level(LOG_LEVEL_NOTICE);
}

static void test_file_always_ends_the_process_on_errors(void **state) {
    (void)state;
    pid_t pid = fork();
    if (pid == 0) {
        log_set_level(LOG_LEVEL_NOTHING);
        struct aof_file *f = new_file(AOF_FSYNC_ALWAYS);
        start_on(f, open("/dev/full", O_WRONLY));
        put(f, "abc", 1);
        aof_file_write(f);
        sleep(30);
        _exit(7);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 1);
}

static void test_file_timestamps(void **state) {
    (void)state;
    char path[64], got[64] = "";
    struct aof_file *f = new_file(AOF_FSYNC_NO);
    aof_file_set_timestamps(f, true);
    start_on(f, open_temp(path));
    put(f, "a", 0);
    put(f, "b", 0);
    assert_int_equal(aof_file_flush(f, false), 0);
    int fd = open(path, O_RDONLY);
    assert_true(read(fd, got, sizeof got - 1) > 0);
    close(fd);
    assert_memory_equal(got, "#TS:", 4);
    assert_non_null(strstr(got, "\r\n[a[b"));
    aof_file_free(f);
    unlink(path);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_file_keeps_order_and_counts),
        cmocka_unit_test(test_file_always_syncs),
        cmocka_unit_test(test_file_everysec_syncs_within_seconds),
        cmocka_unit_test(test_file_full_disk_is_tried_again),
        cmocka_unit_test(test_file_always_ends_the_process_on_errors),
        cmocka_unit_test(test_file_timestamps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
