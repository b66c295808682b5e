/* The list family through the dispatcher: what it tells watchers, listeners and replicas; replies that refer to elements. */
#include "test_cmd_harness.h"

static void test_push_says_new_and_push(void **state) {
    struct harness *h = *state;
    harness_effects(h, "RPUSH l a b", ":2\r\n", "n:new l@0;l:rpush l@0;");
    harness_effects(h, "LPUSH l c", ":3\r\n", "l:lpush l@0;");
    harness_effects(h, "RPUSHX l d", ":4\r\n", "l:rpush l@0;");
    harness_effects(h, "LPUSHX absent d", ":0\r\n", "");
}

static void test_taking_the_last_element_says_del(void **state) {
    struct harness *h = *state;
    harness_run(h, "RPUSH l a b c d e f g h");
    harness_effects(h, "LPOP l", "$1\r\na\r\n", "l:lpop l@0;");
    harness_effects(h, "RPOP l 2", "*2\r\n$1\r\nh\r\n$1\r\ng\r\n", "l:rpop l@0;");
    harness_effects(h, "LPOP l 0", "*0\r\n", "");
    harness_effects(h, "LSET l 0 x", OK, "l:lset l@0;");
    harness_effects(h, "LINSERT l AFTER x y", ":6\r\n", "l:linsert l@0;");
    harness_effects(h, "LINSERT l AFTER absent y", ":-1\r\n", "");
    harness_effects(h, "LREM l 0 absent", ":0\r\n", "");
    harness_effects(h, "LREM l 0 y", ":1\r\n", "l:lrem l@0;");
    harness_effects(h, "LTRIM l 0 -1", OK, "=>;l:ltrim l@0;"); /* nothing for replicas to do */
    harness_effects(h, "LTRIM l 1 -1", OK, "l:ltrim l@0;");
    harness_effects(h, "LTRIM l 5 1", OK, "l:ltrim l@0;g:del l@0;");
    harness_effects(h, "RPUSH l a", ":1\r\n", "n:new l@0;l:rpush l@0;");
    harness_effects(h, "LREM l 1 a", ":1\r\n", "l:lrem l@0;g:del l@0;");
    harness_effects(h, "RPUSH l a", ":1\r\n", "n:new l@0;l:rpush l@0;");
    harness_effects(h, "RPOP l", "$1\r\na\r\n", "l:rpop l@0;g:del l@0;");
    harness_effects(h, "EXISTS l", ":0\r\n", "m:keymiss l@0;");
}

static void test_moves_say_push_then_pop(void **state) {
    struct harness *h = *state;
    harness_run(h, "RPUSH a 1 2 3 4 5 6");
    harness_effects(h, "LMOVE a b LEFT RIGHT", "$1\r\n1\r\n", "n:new b@0;l:rpush b@0;l:lpop a@0;");
    harness_effects(h, "RPOPLPUSH a b", "$1\r\n6\r\n", "l:lpush b@0;l:rpop a@0;");
    harness_effects(h, "BLMOVE a b RIGHT LEFT 0", "$1\r\n5\r\n", "l:lpush b@0;l:rpop a@0;=> LMOVE a b RIGHT LEFT;");
    harness_effects(h, "BRPOPLPUSH a b 0", "$1\r\n4\r\n", "l:lpush b@0;l:rpop a@0;=> RPOPLPUSH a b;");
    harness_effects(h, "LMOVE a a LEFT LEFT", "$1\r\n2\r\n", "l:lpush a@0;l:lpop a@0;");
}

static void test_pops_of_several_keys_replicate_as_pops_of_one(void **state) {
    struct harness *h = *state;
    harness_run(h, "RPUSH l 1 2 3 4 5 6 7");
    harness_effects(h, "BLPOP none l 0", "*2\r\n$1\r\nl\r\n$1\r\n1\r\n", "=> LPOP l;l:lpop l@0;");
    harness_effects(h, "BRPOP l 0", "*2\r\n$1\r\nl\r\n$1\r\n7\r\n", "=> RPOP l;l:rpop l@0;");
    harness_effects(h, "LMPOP 1 l LEFT COUNT 2", "*2\r\n$1\r\nl\r\n*2\r\n$1\r\n2\r\n$1\r\n3\r\n", "=> LPOP l 2;l:lpop l@0;");
    harness_effects(h, "BLMPOP 0 1 l RIGHT COUNT 9", "*2\r\n$1\r\nl\r\n*3\r\n$1\r\n6\r\n$1\r\n5\r\n$1\r\n4\r\n",
                    "=> RPOP l 3;l:rpop l@0;g:del l@0;");
    harness_effects(h, "LMPOP 1 l LEFT", "*-1\r\n", "");
}

static void test_a_large_element_is_sent_from_where_it_lies(void **state) {
    struct harness *h = *state;
    size_t len = 100000;
    char *big = mem_alloc(len);
    memset(big, 'b', len);
    struct slice push[] = { SLICE_LIT("RPUSH"), SLICE_LIT("l"), { big, len } };
    struct slice pop[] = { SLICE_LIT("LPOP"), SLICE_LIT("l") };
    harness_run_argv(h, 3, push);
    assert_int_equal(dispatch(&h->eng, &h->s, 2, pop), DISPATCH_OK);
    assert_true(h->out.nsegs > 1); /* by reference, and the key is gone */
    struct buf all = { 0 };
    buf_reserve(&all, h->out.bytes);
    all.len = obuf_copy(&h->out, all.data, h->out.bytes);
    assert_int_equal(all.len, len + strlen("$100000\r\n\r\n"));
    assert_memory_equal(all.data + strlen("$100000\r\n"), big, len);
    buf_done(&all);
    obuf_clear(&h->out);
    assert_string_equal(harness_run(h, "EXISTS l"), ":0\r\n");
    mem_free(big);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_push_says_new_and_push, harness_setup, harness_teardown),
        cmocka_unit_test_setup_teardown(test_taking_the_last_element_says_del, harness_setup, harness_teardown),
        cmocka_unit_test_setup_teardown(test_moves_say_push_then_pop, harness_setup, harness_teardown),
        cmocka_unit_test_setup_teardown(test_pops_of_several_keys_replicate_as_pops_of_one, harness_setup, harness_teardown),
        cmocka_unit_test_setup_teardown(test_a_large_element_is_sent_from_where_it_lies, harness_setup, harness_teardown),
    };
    return cmocka_run_group_tests_name("cmd_list", tests, NULL, NULL);
}
