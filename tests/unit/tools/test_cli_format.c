/* Reply formats, URIs and the words that keep a line out of the history. Expected texts are redis-cli 7.0.15's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>

#include "base/str.h"
#include "tools/cli.h"

static void check(enum cli_output how, const char *wire, const char *expected) {
    struct cli_cfg cfg = { .output = how, .bulk_delim = "\n", .cmd_delim = "\n" };
    struct resp_value *v = NULL;
    struct buf out = { 0 };
    size_t used;
    assert_int_equal(resp_value_parse(wire, strlen(wire), &used, &v), 1);
    cli_format(&out, &cfg, v, false);
    assert_string_equal(buf_cstr(&out), expected);
    buf_done(&out);
    resp_value_free(v);
}

static void test_format_scalar_standard_is_labelled(void **state) {
    (void)state;
    check(CLI_STANDARD, "+OK\r\n", "OK\n");
    check(CLI_STANDARD, "-ERR x\r\n", "(error) ERR x\n");
    check(CLI_STANDARD, ":12\r\n", "(integer) 12\n");
    check(CLI_STANDARD, ",3\r\n", "(double) 3\n");
    check(CLI_STANDARD, "#t\r\n", "(true)\n");
    check(CLI_STANDARD, "$-1\r\n", "(nil)\n");
    check(CLI_STANDARD, "$3\r\na\"\n\r\n", "\"a\\\"\\n\"\n");
    check(CLI_STANDARD, "=7\r\ntxt:a\nb\r\n", "a\nb\n");
}

static void test_format_nested_standard_is_aligned(void **state) {
    (void)state;
    check(CLI_STANDARD, "*0\r\n", "(empty array)\n");
    check(CLI_STANDARD, "%0\r\n", "(empty hash)\n");
    check(CLI_STANDARD, "~0\r\n", "(empty set)\n");
    check(CLI_STANDARD, "*2\r\n:1\r\n*2\r\n:2\r\n*1\r\n:3\r\n", "1) (integer) 1\n2) 1) (integer) 2\n   2) 1) (integer) 3\n");
    check(
        CLI_STANDARD, "*10\r\n:1\r\n:2\r\n:3\r\n:4\r\n:5\r\n:6\r\n:7\r\n:8\r\n:9\r\n*2\r\n:0\r\n:1\r\n",
        " 1) (integer) 1\n 2) (integer) 2\n 3) (integer) 3\n 4) (integer) 4\n 5) (integer) 5\n 6) (integer) 6\n 7) (integer) 7\n"
        " 8) (integer) 8\n 9) (integer) 9\n10) 1) (integer) 0\n    2) (integer) 1\n");
}

static void test_format_map_value_of_many_lines_has_own_line(void **state) {
    (void)state;
    check(CLI_STANDARD, "%1\r\n$1\r\nk\r\n:1\r\n", "1# \"k\" => (integer) 1\n");
    check(CLI_STANDARD, "%1\r\n$1\r\nk\r\n*1\r\n:1\r\n", "1# \"k\" => 1) (integer) 1\n");
    check(CLI_STANDARD, "%1\r\n$1\r\nk\r\n*2\r\n:1\r\n:2\r\n", "1# \"k\" => \n   1) (integer) 1\n   2) (integer) 2\n");
}

static void test_format_raw_joins_elements(void **state) {
    (void)state;
    check(CLI_RAW, "*2\r\n$1\r\na\r\n*2\r\n:1\r\n$-1\r\n", "a\n1\n\n");
    check(CLI_RAW, "%1\r\n$1\r\nk\r\n#f\r\n", "k (false)\n");
    check(CLI_RAW, "-ERR x\r\n", "ERR x\n\n");
}

static void test_format_csv_and_json(void **state) {
    (void)state;
    check(CLI_CSV, "*3\r\n$1\r\na\r\n:1\r\n$-1\r\n", "\"a\",1,NULL\n");
    check(CLI_CSV, "-ERR x\r\n", "ERROR,\"ERR x\"\n");
    check(CLI_JSON, "%2\r\n:0\r\n#f\r\n$1\r\nk\r\n~1\r\n$2\r\n\"\x01\r\n", "{\"0\":false,\"k\":[\"\\\"\\u0001\"]}\n");
    check(CLI_QUOTED_JSON, "$2\r\n\"\x01\r\n", "\"\\\\\\\"\\\\x01\"\n");
}

static void test_uri_parts_are_taken(void **state) {
    (void)state;
    struct tool_target t;
    tool_target_init(&t);
    assert_int_equal(tool_uri_parse(&t, "rediss://us%41r:p%3Aw@[::1]:7000/3"), 0);
    assert_string_equal(t.user, "usAr");
    assert_string_equal(t.pass, "p:w");
    assert_string_equal(t.host, "::1");
    assert_int_equal(t.port, 7000);
    assert_int_equal(t.db, 3);
    assert_true(t.tls.enabled);
    tool_target_init(&t);
    assert_int_equal(tool_uri_parse(&t, "kettle://pw@/2"), 0);
    assert_string_equal(t.pass, "pw");
    assert_string_equal(t.host, "127.0.0.1");
    assert_int_equal(t.port, 6379);
    assert_false(t.tls.enabled);
    assert_int_equal(tool_uri_parse(&t, "http://x"), -EINVAL);
}

static bool sensitive(const char *line) {
    int argc;
    struct buf *words = str_split_args(slice_cstr(line), &argc);
    struct slice argv[16];
    for (int i = 0; i < argc; i++) argv[i] = buf_slice(&words[i]);
    bool out = cli_is_sensitive(argc, argv);
    str_split_free(words, argc);
    return out;
}

static void test_sensitive_lines_are_known(void **state) {
    (void)state;
    assert_true(sensitive("auth x"));
    assert_true(sensitive("HELLO 3 AUTH u p"));
    assert_true(sensitive("acl setuser u >p"));
    assert_true(sensitive("config set maxmemory 1 requirepass x"));
    assert_true(sensitive("migrate h 1 k 0 5 copy auth2 u p"));
    assert_false(sensitive("hello 3"));
    assert_false(sensitive("get auth"));
    assert_false(sensitive("config get requirepass"));
    assert_false(sensitive("acl"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_format_scalar_standard_is_labelled),
        cmocka_unit_test(test_format_nested_standard_is_aligned),
        cmocka_unit_test(test_format_map_value_of_many_lines_has_own_line),
        cmocka_unit_test(test_format_raw_joins_elements),
        cmocka_unit_test(test_format_csv_and_json),
        cmocka_unit_test(test_uri_parts_are_taken),
        cmocka_unit_test(test_sensitive_lines_are_known),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
