/* The string family through the dispatcher: replies byte for byte, effects (events, replicated form), zero-copy replies. */
#include "test_cmd_harness.h"

static void test_set_options_reply_as_documented(void **state) {
    static const struct harness_case cases[] = {
        { "SET k v", OK },
        { "GET k", "$1\r\nv\r\n" },
        { "GET absent", NIL },
        { "SET k w NX", NIL },
        { "SET k w XX", OK },
        { "SET absent w XX", NIL },
        { "EXISTS absent", ":0\r\n" },
        { "SET k x GET", "$1\r\nw\r\n" },
        { "SET k y NX GET", "$1\r\nx\r\n" },
        { "GET k", "$1\r\nx\r\n" },
        { "SET new 1 NX GET", NIL },
        { "GET new", "$1\r\n1\r\n" },
        { "SET none 1 XX GET", NIL },
        { "EXISTS none", ":0\r\n" },
        { "SET k v EX 100", OK },
        { "TTL k", ":100\r\n" },
        { "SET k v KEEPTTL", OK },
        { "TTL k", ":100\r\n" },
        { "SET k v", OK },
        { "TTL k", ":-1\r\n" },
        { "SET k v ex 100 EX 200", OK },
        { "TTL k", ":200\r\n" },
        { "SET k v EXAT 33177117420", OK },
        { "EXPIRETIME k", ":33177117420\r\n" },
        { "SET k v PXAT 33177117420123", OK },
        { "PEXPIRETIME k", ":33177117420123\r\n" },
        { "SET k v PXAT 1", OK },
        { "GET k", NIL },
        { "SETNX n 1", ":1\r\n" },
        { "SETNX n 2", ":0\r\n" },
        { "SETEX e 10 v", OK },
        { "TTL e", ":10\r\n" },
        { "PSETEX e 20000 v", OK },
        { "TTL e", ":20\r\n" },
        { "GETSET e w", "$1\r\nv\r\n" },
        { "TTL e", ":-1\r\n" },
        { "GETSET fresh w", NIL },
        { 0 },
    };
    harness_cases(*state, cases);
}

static void test_set_bad_options_give_errors(void **state) {
    static const struct harness_case cases[] = {
        { "SET k v NX XX", ERR_SYNTAX },
        { "SET k v EX", ERR_SYNTAX },
        { "SET k v EX 1 PX 1", ERR_SYNTAX },
        { "SET k v KEEPTTL EX 1", ERR_SYNTAX },
        { "SET k v EX 1 KEEPTTL", ERR_SYNTAX },
        { "SET k v PERSIST", ERR_SYNTAX },
        { "SET k v foo", ERR_SYNTAX },
        { "SET k v EX x", ERR_INT },
        { "SET k v EX 0", "-ERR invalid expire time in 'set' command\r\n" },
        { "SET k v PX -1", "-ERR invalid expire time in 'set' command\r\n" },
        { "SET k v EX 9223372036854775807", "-ERR invalid expire time in 'set' command\r\n" },
        { "SET k v PX 9223372036854775807", "-ERR invalid expire time in 'set' command\r\n" },
        { "SETEX k 0 v", "-ERR invalid expire time in 'setex' command\r\n" },
        { "PSETEX k 0 v", "-ERR invalid expire time in 'psetex' command\r\n" },
        { "SETEX k x v", ERR_INT },
        { "SET k", "-ERR wrong number of arguments for 'set' command\r\n" },
        { "EXISTS k", ":0\r\n" },
        { 0 },
    };
    harness_cases(*state, cases);
}

static void test_set_effects_are_events_and_absolute_times(void **state) {
    struct harness *h = *state;
    harness_effects(h, "SET k v", OK, "n:new k@0;$:set k@0;");
    harness_effects(h, "SET k v", OK, "$:set k@0;");
    harness_effects(h, "SET k v NX", NIL, "");
    harness_effects(h, "SET k v EX 100", OK, "=> SET k v PXAT *;$:set k@0;g:expire k@0;");
    harness_effects(h, "SET k v PXAT 33177117420123", OK, "=> SET k v PXAT 33177117420123;$:set k@0;g:expire k@0;");
    harness_effects(h, "SET k w GET KEEPTTL", "$1\r\nv\r\n", "=> SET k w KEEPTTL;$:set k@0;");
    harness_effects(h, "SETEX k 5 v", OK, "=> SET k v PXAT *;$:set k@0;g:expire k@0;");
    harness_effects(h, "GETSET k x", "$1\r\nv\r\n", "=> SET k x;$:set k@0;");
    harness_effects(h, "GETDEL k", "$1\r\nx\r\n", "=> DEL k;g:del k@0;");
    harness_effects(h, "MSET a 1 a 2", OK, "n:new a@0;$:set a@0;$:set a@0;");
    harness_effects(h, "APPEND a x", ":2\r\n", "$:append a@0;");
    harness_effects(h, "SETRANGE a 1 yz", ":3\r\n", "$:setrange a@0;");
    harness_effects(h, "SETRANGE a 1 ''", ":3\r\n", "");
    harness_effects(h, "INCR n", ":1\r\n", "n:new n@0;$:incrby n@0;");
    harness_effects(h, "INCRBYFLOAT n 0.5", "$3\r\n1.5\r\n", "=> SET n 1.5 KEEPTTL;$:incrbyfloat n@0;");
}

static void test_getex_sets_clears_and_deletes(void **state) {
    struct harness *h = *state;
    static const struct harness_case errors[] = {
        { "SET k v", OK },
        { "GETEX k NX", ERR_SYNTAX },
        { "GETEX k KEEPTTL", ERR_SYNTAX },
        { "GETEX k EX 10 PERSIST", ERR_SYNTAX },
        { "GETEX k EX", ERR_SYNTAX },
        { "GETEX k EX 0", "-ERR invalid expire time in 'getex' command\r\n" },
        { "GETEX k EX x", ERR_INT },
        { "GETEX absent EX 10", NIL },
        { 0 },
    };
    harness_cases(h, errors);
    harness_effects(h, "GETEX k", "$1\r\nv\r\n", "");
    harness_effects(h, "GETEX k PERSIST", "$1\r\nv\r\n", "");
    harness_effects(h, "GETEX k EX 100", "$1\r\nv\r\n", "=> PEXPIREAT k *;g:expire k@0;");
    harness_effects(h, "TTL k", ":100\r\n", "");
    harness_effects(h, "GETEX k PERSIST", "$1\r\nv\r\n", "=> PERSIST k;g:persist k@0;");
    harness_effects(h, "GETEX k PXAT 1", "$1\r\nv\r\n", "=> DEL k;g:del k@0;");
    harness_effects(h, "EXISTS k", ":0\r\n", "*");
}

static void test_integers_count_and_refuse_overflow(void **state) {
    static const struct harness_case cases[] = {
        { "INCR n", ":1\r\n" },
        { "INCRBY n 41", ":42\r\n" },
        { "DECR n", ":41\r\n" },
        { "DECRBY n 50", ":-9\r\n" },
        { "OBJECT ENCODING n", "$3\r\nint\r\n" },
        { "SET n 9223372036854775807", OK },
        { "INCR n", "-ERR increment or decrement would overflow\r\n" },
        { "DECRBY n -1", "-ERR increment or decrement would overflow\r\n" },
        { "DECRBY n -9223372036854775808", "-ERR decrement would overflow\r\n" },
        { "INCRBY n x", ERR_INT },
        { "SET s ' 1'", OK },
        { "INCR s", ERR_INT },
        { "SET s 01", OK },
        { "INCR s", ERR_INT },
        { "SET t 5 EX 100", OK },
        { "INCR t", ":6\r\n" },
        { "TTL t", ":100\r\n" },
        { 0 },
    };
    harness_cases(*state, cases);
}

static void test_floats_print_in_plain_decimal(void **state) {
    static const struct harness_case cases[] = {
        { "SET f 10.50", OK },
        { "INCRBYFLOAT f 0.1", "$4\r\n10.6\r\n" },
        { "INCRBYFLOAT f -5", "$3\r\n5.6\r\n" },
        { "SET f 5.0e3", OK },
        { "INCRBYFLOAT f 2.0e2", "$4\r\n5200\r\n" },
        { "INCRBYFLOAT new 3", "$1\r\n3\r\n" },
        { "INCRBYFLOAT f x", "-ERR value is not a valid float\r\n" },
        { "INCRBYFLOAT f nan", "-ERR value is not a valid float\r\n" },
        { "INCRBYFLOAT f inf", "-ERR increment would produce NaN or Infinity\r\n" },
        { "SET s abc", OK },
        { "INCRBYFLOAT s 1", "-ERR value is not a valid float\r\n" },
        { 0 },
    };
    harness_cases(*state, cases);
}

static void test_ranges_clamp_and_grow(void **state) {
    static const struct harness_case cases[] = {
        { "SET s 'This is a string'", OK },
        { "GETRANGE s 0 3", "$4\r\nThis\r\n" },
        { "GETRANGE s -3 -1", "$3\r\ning\r\n" },
        { "GETRANGE s 0 -1", "$16\r\nThis is a string\r\n" },
        { "GETRANGE s 10 100", "$6\r\nstring\r\n" },
        { "SUBSTR s 5 6", "$2\r\nis\r\n" },
        { "GETRANGE s 5 3", "$0\r\n\r\n" },
        { "GETRANGE s -1 -5", "$0\r\n\r\n" },
        { "GETRANGE s -100 -100", "$1\r\nT\r\n" },
        { "GETRANGE absent 0 -1", "$0\r\n\r\n" },
        { "GETRANGE s x 1", ERR_INT },
        { "SET n 12345", OK },
        { "GETRANGE n 1 2", "$2\r\n23\r\n" },
        { "STRLEN n", ":5\r\n" },
        { "STRLEN absent", ":0\r\n" },
        { "SETRANGE n 1 ab", ":5\r\n" },
        { "GET n", "$5\r\n1ab45\r\n" },
        { "SETRANGE pad 2 x", ":3\r\n" },
        { "STRLEN pad", ":3\r\n" },
        { "BITCOUNT pad", ":4\r\n" },
        { "SETRANGE none 5 ''", ":0\r\n" },
        { "EXISTS none", ":0\r\n" },
        { "SETRANGE n -1 x", "-ERR offset is out of range\r\n" },
        { "SETRANGE n 536870912 x", "-ERR string exceeds maximum allowed size (proto-max-bulk-len)\r\n" },
        { "SETRANGE n x x", ERR_INT },
        { "APPEND n ''", ":5\r\n" },
        { "APPEND n 6", ":6\r\n" },
        { "APPEND fresh 10", ":2\r\n" },
        { "APPEND fresh 1", ":3\r\n" },
        { "INCR fresh", ":102\r\n" },
        { 0 },
    };
    harness_cases(*state, cases);
}

static void test_many_keys_at_once(void **state) {
    static const struct harness_case cases[] = {
        { "MSET a 1 b 2 c 3", OK },
        { "MGET a b none c", "*4\r\n$1\r\n1\r\n$1\r\n2\r\n$-1\r\n$1\r\n3\r\n" },
        { "MSETNX d 4 a 9", ":0\r\n" },
        { "EXISTS d", ":0\r\n" },
        { "MSETNX d 4 d 5", ":1\r\n" },
        { "GET d", "$1\r\n5\r\n" },
        { "MSET a", "-ERR wrong number of arguments for 'mset' command\r\n" },
        { "MSET a 1 b", "-ERR wrong number of arguments for 'mset' command\r\n" },
        { "MSETNX a 1 b", "-ERR wrong number of arguments for 'msetnx' command\r\n" },
        { 0 },
    };
    harness_cases(*state, cases);
}

static void test_lcs_forms(void **state) {
    static const struct harness_case cases[] = {
        { "MSET k1 ohmytext k2 mynewtext", OK },
        { "LCS k1 k2", "$6\r\nmytext\r\n" },
        { "LCS k1 k2 LEN", ":6\r\n" },
        { "LCS k1 k2 IDX", "*4\r\n$7\r\nmatches\r\n*2\r\n*2\r\n*2\r\n:4\r\n:7\r\n*2\r\n:5\r\n:8\r\n*2\r\n*2\r\n:2\r\n:3\r\n*"
                           "2\r\n:0\r\n:1\r\n$3\r\nlen\r\n:6\r\n" },
        { "LCS k1 k2 IDX MINMATCHLEN 4 WITHMATCHLEN",
          "*4\r\n$7\r\nmatches\r\n*1\r\n*3\r\n*2\r\n:4\r\n:7\r\n*2\r\n:5\r\n:8\r\n:4\r\n$3\r\nlen\r\n:6\r\n" },
        { "LCS k1 none", "$0\r\n\r\n" },
        { "LCS k1 none IDX", "*4\r\n$7\r\nmatches\r\n*0\r\n$3\r\nlen\r\n:0\r\n" },
        { "LCS k1 k2 LEN IDX", "-ERR If you want both the length and indexes, please just use IDX.\r\n" },
        { "LCS k1 k2 MINMATCHLEN", ERR_SYNTAX },
        { "LCS k1 k2 FOO", ERR_SYNTAX },
        { 0 },
    };
    harness_cases(*state, cases);
}

static void test_lcs_table_larger_than_limit_is_refused(void **state) {
    struct harness *h = *state;
    atomic_store(&h->eng.proto_max_bulk_len, 1024);
    harness_run(h, "MSET a 0123456789abcdef b 0123456789abcdef");
    assert_string_equal(harness_run(h, "LCS a b"),
                        "-ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len\r\n");
}

static void test_other_types_are_refused(void **state) {
    static const struct harness_case cases[] = {
        { "GET l", ERR_TYPE },           { "SET l v GET", ERR_TYPE },
        { "GETSET l v", ERR_TYPE },      { "GETDEL l", ERR_TYPE },
        { "GETEX l", ERR_TYPE },         { "INCR l", ERR_TYPE },
        { "INCRBYFLOAT l 1", ERR_TYPE }, { "APPEND l x", ERR_TYPE },
        { "STRLEN l", ERR_TYPE },        { "GETRANGE l 0 1", ERR_TYPE },
        { "SETRANGE l 0 x", ERR_TYPE },  { "LCS l l", "-ERR The specified keys must contain string values\r\n" },
        { "MGET l", "*1\r\n$-1\r\n" },   { "SET l v", OK },
        { "TYPE l", "+string\r\n" },     { 0 },
    };
    harness_make_list(*state, "l");
    harness_cases(*state, cases);
}

static void test_resp3_nulls_and_maps(void **state) {
    struct harness *h = *state;
    static const struct harness_case cases[] = {
        { "GET none", "_\r\n" },
        { "SET none v XX", "_\r\n" },
        { "MGET none", "*1\r\n_\r\n" },
        { "LCS none none IDX", "%2\r\n$7\r\nmatches\r\n*0\r\n$3\r\nlen\r\n:0\r\n" },
        { 0 },
    };
    session_set_resp(&h->s, 3);
    harness_cases(h, cases);
}

/* A large value goes out without a copy; what the client sees is the value at the time of the GET, whatever happens before it is
 * sent. */
static void test_get_large_value_survives_change_and_deletion(void **state) {
    struct harness *h = *state;
    size_t len = 100000, head = strlen("$100000\r\n");
    char *big = mem_alloc(len), *sent = mem_alloc(2 * len + 64);
    memset(big, 'x', len);
    struct slice set[] = { SLICE_LIT("SET"), SLICE_LIT("big"), { big, len } };
    struct slice get[] = { SLICE_LIT("GET"), SLICE_LIT("big") };
    struct slice change[] = { SLICE_LIT("SETRANGE"), SLICE_LIT("big"), SLICE_LIT("0"), SLICE_LIT("yyyy") };
    struct slice del[] = { SLICE_LIT("DEL"), SLICE_LIT("big") };
    assert_string_equal(harness_run_argv(h, 3, set), OK);
    dispatch(&h->eng, &h->s, 2, get);
    dispatch(&h->eng, &h->s, 4, change);
    dispatch(&h->eng, &h->s, 2, get);
    dispatch(&h->eng, &h->s, 2, del);
    size_t n = obuf_copy(&h->out, sent, 2 * len + 64);
    obuf_clear(&h->out);
    assert_true(n > 2 * len);
    assert_memory_equal(sent, "$100000\r\n", head);
    assert_memory_equal(sent + head, big, len);
    assert_memory_equal(sent + head + len + 2, ":100000\r\n$100000\r\nyyyyx", 23);
    mem_free(big);
    mem_free(sent);
}

#define T(f) cmocka_unit_test_setup_teardown(f, harness_setup, harness_teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        T(test_set_options_reply_as_documented),
        T(test_set_bad_options_give_errors),
        T(test_set_effects_are_events_and_absolute_times),
        T(test_getex_sets_clears_and_deletes),
        T(test_integers_count_and_refuse_overflow),
        T(test_floats_print_in_plain_decimal),
        T(test_ranges_clamp_and_grow),
        T(test_many_keys_at_once),
        T(test_lcs_forms),
        T(test_lcs_table_larger_than_limit_is_refused),
        T(test_other_types_are_refused),
        T(test_resp3_nulls_and_maps),
        T(test_get_large_value_survives_change_and_deletion),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
