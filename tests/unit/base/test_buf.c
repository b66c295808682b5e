/* Flat buffers: growth, formatted text, taking from the front, handing the memory over. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "base/rand.h"

static void assert_holds(struct buf *b, const char *want) {
    assert_int_equal(b->len, strlen(want));
    assert_string_equal(buf_cstr(b), want);
}

static void test_buf_empty_is_valid_everywhere(void **state) {
    (void)state;
    struct buf b = { 0 };
    buf_append(&b, NULL, 0);
    buf_consume(&b, 0);
    buf_clear(&b);
    assert_null(b.data);
    assert_int_equal(buf_slice(&b).len, 0);
    buf_done(&b);
    assert_holds(&b, "");
    buf_done(&b);
    buf_done(&b);
    size_t len = 9;
    char *text = buf_steal(&b, &len);
    assert_int_equal(len, 0);
    assert_string_equal(text, "");
    mem_free(text);
}

static void test_buf_append_joins_pieces(void **state) {
    (void)state;
    struct buf b = { 0 };
    buf_append_cstr(&b, "one");
    buf_append_char(&b, ' ');
    buf_append(&b, "two\0three", 9);
    assert_int_equal(b.len, 13);
    assert_memory_equal(b.data, "one two\0three", 13);
    assert_true(slice_eq(buf_slice(&b), SLICE_LIT("one two\0three")));
    buf_done(&b);
    assert_null(b.data);
    assert_int_equal(b.len + b.cap, 0);
}

static void test_buf_reserve_at_capacity_edge_grows_once(void **state) {
    (void)state;
    struct buf b = { 0 };
    buf_reserve(&b, 1);
    size_t cap = b.cap;
    assert_true(cap >= 1);
    for (size_t i = 0; i < cap; i++) buf_append_char(&b, (char)i);
    assert_int_equal(b.cap, cap);
    buf_append_char(&b, 'x');
    assert_int_equal(b.cap, cap * 2);
    for (size_t i = 0; i < cap; i++) assert_int_equal(b.data[i], (char)i);
    buf_reserve(&b, 100000);
    assert_true(b.cap - b.len >= 100000);
    buf_done(&b);
}

static void test_buf_cstr_when_full_does_not_change_length(void **state) {
    (void)state;
    struct buf b = { 0 };
    buf_reserve(&b, 1);
    while (b.len < b.cap) buf_append_char(&b, 'a');
    size_t len = b.len;
    assert_int_equal(strlen(buf_cstr(&b)), len);
    assert_int_equal(b.len, len);
    buf_done(&b);
}

static void test_buf_printf_of_any_length_is_complete(void **state) {
    (void)state;
    char want[700];
    for (int width = 0; width < 600; width++) {
        struct buf b = { 0 };
        buf_append_cstr(&b, "<");
        buf_printf(&b, "%*d", width, 7);
        buf_printf(&b, "%s", "");
        buf_append_cstr(&b, ">");
        snprintf(want, sizeof want, "<%*d>", width, 7);
        assert_holds(&b, want);
        buf_done(&b);
    }
}

static void test_buf_consume_leaves_the_rest(void **state) {
    (void)state;
    struct buf b = { 0 };
    buf_append_cstr(&b, "0123456789");
    buf_consume(&b, 3);
    assert_holds(&b, "3456789");
    buf_consume(&b, 0);
    buf_append_cstr(&b, "ab");
    buf_consume(&b, 8);
    assert_holds(&b, "b");
    buf_consume(&b, 1);
    assert_holds(&b, "");
    buf_done(&b);
}

static void test_buf_clear_keeps_memory(void **state) {
    (void)state;
    struct buf b = { 0 };
    buf_append_cstr(&b, "something");
    size_t cap = b.cap;
    buf_clear(&b);
    assert_int_equal(b.len, 0);
    assert_int_equal(b.cap, cap);
    buf_done(&b);
}

static void test_buf_steal_hands_over_and_empties(void **state) {
    (void)state;
    struct buf b = { 0 };
    buf_append_cstr(&b, "mine");
    size_t len;
    char *text = buf_steal(&b, &len);
    assert_int_equal(len, 4);
    assert_string_equal(text, "mine");
    assert_null(b.data);
    assert_int_equal(b.len + b.cap, 0);
    mem_free(text);
    buf_append_cstr(&b, "again");
    text = buf_steal(&b, NULL);
    assert_string_equal(text, "again");
    mem_free(text);
}

static void test_buf_random_operations_equal_model(void **state) {
    (void)state;
    static char model[1 << 20];
    size_t len = 0;
    struct buf b = { 0 };
    for (int i = 0; i < 20000; i++) {
        size_t n = rand_below(300);
        if (rand_below(2) && len + n < sizeof model) {
            char piece[300];
            memset(piece, (int)rand_below(256), n);
            buf_append(&b, piece, n);
            memcpy(model + len, piece, n);
            len += n;
        } else {
            if (n > len) n = len;
            buf_consume(&b, n);
            len -= n;
            memmove(model, model + n, len);
        }
        assert_int_equal(b.len, len);
        if (len) assert_memory_equal(b.data, model, len);
    }
    buf_done(&b);
}

/* The wish must end the process: a sum that wraps would give a small buffer and an overrun. */
static void test_buf_reserve_beyond_address_space_ends_the_process(void **state) {
    (void)state;
    static const size_t wishes[] = { SIZE_MAX, SIZE_MAX - 5, SIZE_MAX / 2 + 1, SIZE_MAX / 2 };
    for (size_t i = 0; i < sizeof wishes / sizeof *wishes; i++) {
        pid_t pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
            struct rlimit none = { 0, 0 };
            setrlimit(RLIMIT_CORE, &none);
            close(STDOUT_FILENO);
            close(STDERR_FILENO);
            alarm(60); /* a loop that never ends counts as a failure, below */
            struct buf b = { 0 };
            buf_append_cstr(&b, "0123456789");
            buf_reserve(&b, wishes[i]);
            _exit(0);
        }
        int status;
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_false(WIFEXITED(status) && WEXITSTATUS(status) == 0);
        assert_false(WIFSIGNALED(status) && (WTERMSIG(status) == SIGALRM || WTERMSIG(status) == SIGSEGV));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_buf_empty_is_valid_everywhere),
        cmocka_unit_test(test_buf_append_joins_pieces),
        cmocka_unit_test(test_buf_reserve_at_capacity_edge_grows_once),
        cmocka_unit_test(test_buf_cstr_when_full_does_not_change_length),
        cmocka_unit_test(test_buf_printf_of_any_length_is_complete),
        cmocka_unit_test(test_buf_consume_leaves_the_rest),
        cmocka_unit_test(test_buf_clear_keeps_memory),
        cmocka_unit_test(test_buf_steal_hands_over_and_empties),
        cmocka_unit_test(test_buf_random_operations_equal_model),
        cmocka_unit_test(test_buf_reserve_beyond_address_space_ends_the_process),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
