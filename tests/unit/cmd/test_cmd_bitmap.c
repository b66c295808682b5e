/* The bitmap family through the dispatcher: replies byte for byte, every overflow mode, and counting and searching against a
 * naive reference. */
#include "test_cmd_harness.h"

#include "base/rand.h"

static void test_single_bits(void **state) {
    static const struct harness_case cases[] = {
        { "SETBIT b 7 1", ":0\r\n" },
        { "GETBIT b 7", ":1\r\n" },
        { "GETBIT b 6", ":0\r\n" },
        { "GETBIT b 100", ":0\r\n" },
        { "SETBIT b 7 0", ":1\r\n" },
        { "STRLEN b", ":1\r\n" },
        { "SETBIT b 100 0", ":0\r\n" },
        { "STRLEN b", ":13\r\n" },
        { "SET n 1", OK },
        { "GETBIT n 3", ":1\r\n" },
        { "SETBIT n 6 1", ":0\r\n" },
        { "GET n", "$1\r\n3\r\n" },
        { "SETBIT b -1 1", "-ERR bit offset is not an integer or out of range\r\n" },
        { "SETBIT b x 1", "-ERR bit offset is not an integer or out of range\r\n" },
        { "SETBIT b #1 1", "-ERR bit offset is not an integer or out of range\r\n" },
        { "SETBIT b 4294967296 1", "-ERR bit offset is not an integer or out of range\r\n" },
        { "SETBIT b 0 2", "-ERR bit is not an integer or out of range\r\n" },
        { "SETBIT b 0 x", "-ERR bit is not an integer or out of range\r\n" },
        { "GETBIT none 0", ":0\r\n" },
        { 0 },
    };
    harness_cases(*state, cases);
}

static void test_effects_only_when_something_changed(void **state) {
    struct harness *h = *state;
    harness_effects(h, "SETBIT b 0 0", ":0\r\n", "n:new b@0;$:setbit b@0;");
    harness_effects(h, "SETBIT b 0 0", ":0\r\n", "");
    harness_effects(h, "SETBIT b 0 1", ":0\r\n", "$:setbit b@0;");
    harness_effects(h, "BITFIELD b SET u8 0 128", "*1\r\n:128\r\n", "");
    harness_effects(h, "BITFIELD b SET u8 0 1", "*1\r\n:128\r\n", "$:setbit b@0;");
    harness_effects(h, "BITOP NOT d b", ":1\r\n", "n:new d@0;$:set d@0;");
    harness_effects(h, "BITOP AND d none", ":0\r\n", "m:keymiss none@0;g:del d@0;");
    harness_effects(h, "BITOP AND d none", ":0\r\n", "m:keymiss none@0;");
}

static void test_bitcount_ranges(void **state) {
    static const struct harness_case cases[] = {
        { "SET s foobar", OK },
        { "BITCOUNT s", ":26\r\n" },
        { "BITCOUNT s 0 0", ":4\r\n" },
        { "BITCOUNT s 1 1", ":6\r\n" },
        { "BITCOUNT s 1 1 BYTE", ":6\r\n" },
        { "BITCOUNT s 5 30 BIT", ":17\r\n" },
        { "BITCOUNT s -2 -1", ":7\r\n" },
        { "BITCOUNT s -1 -2", ":0\r\n" },
        { "BITCOUNT s -100 -99", ":4\r\n" },
        { "BITCOUNT s -99 -100", ":0\r\n" },
        { "BITCOUNT s 10 20", ":0\r\n" },
        { "BITCOUNT none", ":0\r\n" },
        { "BITCOUNT none 0 -1", ":0\r\n" },
        { "BITCOUNT s 0", ERR_SYNTAX },
        { "BITCOUNT s 0 1 FOO", ERR_SYNTAX },
        { "BITCOUNT s 0 1 BIT BIT", ERR_SYNTAX },
        { "BITCOUNT s x 1", ERR_INT },
        { "BITCOUNT none 0", ERR_SYNTAX },
        { "BITCOUNT none 0 1 FOO", ERR_SYNTAX },
        { "BITCOUNT none 0 x", ERR_INT },
        { 0 },
    };
    harness_cases(*state, cases);
}

static void test_bitpos_ranges(void **state) {
    static const struct harness_case cases[] = {
        { "SET s \"\\xff\\xf0\\x00\"", OK },
        { "BITPOS s 0", ":12\r\n" },
        { "BITPOS s 1", ":0\r\n" },
        { "BITPOS s 1 2", ":-1\r\n" },
        { "BITPOS s 0 0 0", ":-1\r\n" },
        { "BITPOS s 0 0 -1 BYTE", ":12\r\n" },
        { "BITPOS s 1 7 15 BIT", ":7\r\n" },
        { "BITPOS s 0 7 15 BIT", ":12\r\n" },
        { "BITPOS s 1 12 -1 BIT", ":-1\r\n" },
        { "SET f \"\\xff\\xff\"", OK },
        { "BITPOS f 0", ":16\r\n" },
        { "BITPOS f 0 1", ":16\r\n" },
        { "BITPOS f 0 0 -1", ":-1\r\n" },
        { "BITPOS f 0 5", ":-1\r\n" },
        { "SET e ''", OK },
        { "BITPOS e 0", ":-1\r\n" },
        { "BITPOS none 0", ":0\r\n" },
        { "BITPOS none 1", ":-1\r\n" },
        { "BITPOS none 0 5 7", ":0\r\n" },
        { "BITPOS s 2", "-ERR The bit argument must be 1 or 0.\r\n" },
        { "BITPOS s x", ERR_INT },
        { "BITPOS none 0 0 1 FOO", ERR_SYNTAX },
        { "BITPOS none 0 x", ERR_INT },
        { "BITPOS s 0 0 1 BIT BIT", ERR_SYNTAX },
        { 0 },
    };
    harness_cases(*state, cases);
}

static void test_bitop_pads_with_zeros(void **state) {
    static const struct harness_case cases[] = {
        { "SET a \"\\x0f\\xff\"", OK },    { "SET b \"\\xf1\"", OK },
        { "BITOP AND d a b", ":2\r\n" },   { "GET d", "$2\r\n\x01" }, /* then a NUL byte, where this comparison ends */
        { "BITCOUNT d", ":1\r\n" },        { "BITOP or d a b none", ":2\r\n" },
        { "GET d", "$2\r\n\xff\xff\r\n" }, { "BITOP XOR d a b", ":2\r\n" },
        { "GET d", "$2\r\n\xfe\xff\r\n" }, { "BITOP NOT d b", ":1\r\n" },
        { "GET d", "$1\r\n\x0e\r\n" },     { "BITOP XOR a a a", ":2\r\n" },
        { "BITCOUNT a", ":0\r\n" },        { "BITOP NOT d none", ":0\r\n" },
        { "EXISTS d", ":0\r\n" },          { "BITOP NOT d a b", "-ERR BITOP NOT must be called with a single source key.\r\n" },
        { "BITOP FOO d a", ERR_SYNTAX },   { 0 },
    };
    harness_cases(*state, cases);
}

static void test_bitfield_overflow_modes(void **state) {
    static const struct harness_case cases[] = {
        { "BITFIELD k INCRBY i5 100 1 GET u4 0", "*2\r\n:1\r\n:0\r\n" },
        { "BITFIELD w SET u8 0 255 INCRBY u8 0 10", "*2\r\n:0\r\n:9\r\n" },
        { "BITFIELD w OVERFLOW SAT SET u8 0 250 INCRBY u8 0 10", "*2\r\n:9\r\n:255\r\n" },
        { "BITFIELD w OVERFLOW SAT INCRBY u8 0 -300", "*1\r\n:0\r\n" },
        { "BITFIELD w OVERFLOW FAIL INCRBY u8 0 -1", "*1\r\n$-1\r\n" },
        { "BITFIELD w OVERFLOW FAIL SET u8 0 256 GET u8 0", "*2\r\n$-1\r\n:0\r\n" },
        { "BITFIELD w SET u8 0 -1 GET u8 0", "*2\r\n:0\r\n:255\r\n" },
        { "BITFIELD w OVERFLOW SAT SET u8 0 -1 GET u8 0", "*2\r\n:255\r\n:255\r\n" },
        { "BITFIELD s SET i8 0 127 INCRBY i8 0 1", "*2\r\n:0\r\n:-128\r\n" },
        { "BITFIELD s OVERFLOW SAT INCRBY i8 0 -1", "*1\r\n:-128\r\n" },
        { "BITFIELD s OVERFLOW SAT INCRBY i8 0 1000", "*1\r\n:127\r\n" },
        { "BITFIELD s OVERFLOW FAIL INCRBY i8 0 1 OVERFLOW WRAP INCRBY i8 0 1", "*2\r\n$-1\r\n:-128\r\n" },
        { "BITFIELD s SET i8 #1 200 GET i8 8", "*2\r\n:0\r\n:-56\r\n" },
        { "BITFIELD l SET i64 3 9223372036854775807 INCRBY i64 3 1", "*2\r\n:0\r\n:-9223372036854775808\r\n" },
        { "BITFIELD l OVERFLOW SAT INCRBY i64 3 -1", "*1\r\n:-9223372036854775808\r\n" },
        { "BITFIELD l SET u63 5 9223372036854775807 GET u63 5", "*2\r\n:0\r\n:9223372036854775807\r\n" },
        { "BITFIELD l OVERFLOW FAIL INCRBY u63 5 1", "*1\r\n$-1\r\n" },
        { "BITFIELD q OVERFLOW SAT SET i8 0 -9223372036854775808 GET i8 0", "*2\r\n:0\r\n:127\r\n" },
        { "BITFIELD q OVERFLOW SAT SET i8 0 -9223372036854775600 GET i8 0", "*2\r\n:127\r\n:-128\r\n" },
        { "BITFIELD none GET u8 0", "*1\r\n:0\r\n" },
        { "EXISTS none", ":0\r\n" },
        { "BITFIELD_RO s GET i8 0 GET u1 0", "*2\r\n:-128\r\n:1\r\n" },
        { "BITFIELD s", "*0\r\n" },
        { 0 },
    };
    harness_cases(*state, cases);
}

static void test_bitfield_bad_arguments(void **state) {
#define ERR_FIELD "-ERR Invalid bitfield type. Use something like i16 u8. Note that u64 is not supported but i64 is.\r\n"
    static const struct harness_case cases[] = {
        { "BITFIELD k GET u64 0", ERR_FIELD },
        { "BITFIELD k GET i65 0", ERR_FIELD },
        { "BITFIELD k GET i0 0", ERR_FIELD },
        { "BITFIELD k GET U8 0", ERR_FIELD },
        { "BITFIELD k GET u 0", ERR_FIELD },
        { "BITFIELD k GET u8 -1", "-ERR bit offset is not an integer or out of range\r\n" },
        { "BITFIELD k GET u8 #9223372036854775807", "-ERR bit offset is not an integer or out of range\r\n" },
        { "BITFIELD k GET u8", ERR_SYNTAX },
        { "BITFIELD k SET u8 0", ERR_SYNTAX },
        { "BITFIELD k SET u8 0 x", ERR_INT },
        { "BITFIELD k FOO", ERR_SYNTAX },
        { "BITFIELD k OVERFLOW FOO", "-ERR Invalid OVERFLOW type specified\r\n" },
        { "BITFIELD k OVERFLOW", ERR_SYNTAX },
        { "BITFIELD_RO k SET u8 0 1", "-ERR BITFIELD_RO only supports the GET subcommand\r\n" },
        { "EXISTS k", ":0\r\n" },
        { 0 },
    };
    harness_cases(*state, cases);
}

static void test_other_types_are_refused(void **state) {
    static const struct harness_case cases[] = {
        { "SETBIT l 0 1", ERR_TYPE },
        { "GETBIT l 0", ERR_TYPE },
        { "BITCOUNT l", ERR_TYPE },
        { "BITPOS l 1", ERR_TYPE },
        { "BITOP NOT d l", ERR_TYPE },
        { "BITFIELD l GET u8 0", ERR_TYPE },
        { "BITFIELD l SET u8 0 1", ERR_TYPE },
        { "BITOP NOT l none", ":0\r\n" },
        { 0 },
    };
    harness_make_list(*state, "l");
    harness_cases(*state, cases);
}

/* Counting and searching with every start and end in a string longer than a word, against one bit at a time. */
static void test_count_and_search_match_reference(void **state) {
    struct harness *h = *state;
    uint8_t bytes[20];
    char line[64], want[32];
    for (int round = 0; round < 4; round++) {
        for (size_t i = 0; i < sizeof(bytes); i++)
            bytes[i] = round == 0 ? 0 : round == 1 ? 0xff : rand_below(3) ? (round == 2 ? 0 : 0xff) : (uint8_t)rand_u64();
        struct slice set[] = { SLICE_LIT("SET"), SLICE_LIT("r"), { (const char *)bytes, sizeof(bytes) } };
        harness_run_argv(h, 3, set);
        for (int start = 0; start < 160; start += 3) {
            for (int end = start; end < 160; end += 7) {
                int count = 0, pos[2] = { -1, -1 };
                for (int i = end; i >= start; i--) {
                    int bit = bytes[i / 8] >> (7 - i % 8) & 1;
                    count += bit;
                    pos[bit] = i;
                }
                snprintf(line, sizeof(line), "BITCOUNT r %d %d BIT", start, end);
                snprintf(want, sizeof(want), ":%d\r\n", count);
                assert_string_equal(harness_run(h, line), want);
                for (int bit = 0; bit < 2; bit++) {
                    snprintf(line, sizeof(line), "BITPOS r %d %d %d BIT", bit, start, end);
                    snprintf(want, sizeof(want), ":%d\r\n", pos[bit]);
                    assert_string_equal(harness_run(h, line), want);
                }
            }
        }
    }
}

#define T(f) cmocka_unit_test_setup_teardown(f, harness_setup, harness_teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        T(test_single_bits),
        T(test_effects_only_when_something_changed),
        T(test_bitcount_ranges),
        T(test_bitpos_ranges),
        T(test_bitop_pads_with_zeros),
        T(test_bitfield_overflow_modes),
        T(test_bitfield_bad_arguments),
        T(test_other_types_are_refused),
        T(test_count_and_search_match_reference),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
