/* Sorted sets through the dispatcher: what is said of each change, and what is replicated in its place. Replies are the matter of
 * tests/integration/test_zsets.py. */
#include "test_cmd_harness.h"

#define NONE ""

static void test_changes_are_told(void **state) {
    struct harness *h = *state;
    harness_effects(h, "ZADD z 1 a 2 b", ":2\r\n", "n:new z@0;z:zadd z@0;");
    harness_effects(h, "ZADD z 1 a", ":0\r\n", NONE);
    harness_effects(h, "ZADD z XX 5 none", ":0\r\n", NONE);
    harness_effects(h, "ZADD none XX 5 a", ":0\r\n", NONE);
    harness_effects(h, "ZADD z 3 a 1 c", ":1\r\n", "z:zadd z@0;");
    harness_effects(h, "ZADD z INCR 1 a", "$1\r\n4\r\n", "z:zincr z@0;");
    harness_effects(h, "ZINCRBY z 0 a", "$1\r\n4\r\n", NONE);
    harness_effects(h, "ZINCRBY z 1.5 new", "$3\r\n1.5\r\n", "z:zincr z@0;");
    harness_effects(h, "ZREM z none", ":0\r\n", NONE);
    harness_effects(h, "ZREM z new c", ":2\r\n", "z:zrem z@0;");
    harness_effects(h, "ZREM z a b a", ":2\r\n", "z:zrem z@0;g:del z@0;");
    assert_string_equal(harness_run(h, "EXISTS z"), ":0\r\n");
}

static void test_range_removal_is_told(void **state) {
    struct harness *h = *state;
    harness_run(h, "ZADD z 1 a 2 b 3 c 4 d 5 e 6 f");
    harness_effects(h, "ZREMRANGEBYSCORE z (6 inf", ":0\r\n", NONE);
    harness_effects(h, "ZREMRANGEBYSCORE z (5 inf", ":1\r\n", "z:zremrangebyscore z@0;");
    harness_effects(h, "ZREMRANGEBYRANK z 9 10", ":0\r\n", NONE);
    harness_effects(h, "ZREMRANGEBYRANK z -1 -1", ":1\r\n", "z:zremrangebyrank z@0;");
    harness_effects(h, "ZREMRANGEBYLEX z [x [y", ":0\r\n", NONE);
    harness_effects(h, "ZREMRANGEBYLEX z - +", ":4\r\n", "z:zremrangebylex z@0;g:del z@0;");
}

static void test_pops_are_told_and_replicated_in_a_form_that_does_not_wait(void **state) {
    struct harness *h = *state;
    harness_run(h, "ZADD z 1 a 2 b 3 c 4 d 5 e 6 f 7 g");
    harness_effects(h, "ZPOPMIN none", "*0\r\n", NONE);
    harness_effects(h, "ZPOPMIN z 0", "*0\r\n", NONE);
    harness_effects(h, "ZPOPMIN z", "*2\r\n$1\r\na\r\n$1\r\n1\r\n", "z:zpopmin z@0;");
    harness_effects(h, "ZMPOP 2 none z MAX", "*2\r\n$1\r\nz\r\n*1\r\n*2\r\n$1\r\ng\r\n$1\r\n7\r\n",
                    "=> ZPOPMAX z 1;z:zpopmax z@0;");
    harness_effects(h, "BZPOPMAX none z 0", "*3\r\n$1\r\nz\r\n$1\r\nf\r\n$1\r\n6\r\n", "=> ZPOPMAX z;z:zpopmax z@0;");
    harness_effects(h, "BZPOPMIN z 0", "*3\r\n$1\r\nz\r\n$1\r\nb\r\n$1\r\n2\r\n", "=> ZPOPMIN z;z:zpopmin z@0;");
    harness_effects(h, "BZMPOP 0 1 z MIN COUNT 2",
                    "*2\r\n$1\r\nz\r\n*2\r\n*2\r\n$1\r\nc\r\n$1\r\n3\r\n*2\r\n$1\r\nd\r\n$1\r\n4\r\n",
                    "=> ZPOPMIN z 2;z:zpopmin z@0;");
    harness_effects(h, "ZMPOP 1 z MIN COUNT 10", "*2\r\n$1\r\nz\r\n*1\r\n*2\r\n$1\r\ne\r\n$1\r\n5\r\n",
                    "=> ZPOPMIN z 1;z:zpopmin z@0;g:del z@0;");
    harness_effects(h, "ZMPOP 1 z MIN", "*-1\r\n", NONE);
}

static void test_stores_are_told(void **state) {
    struct harness *h = *state;
    harness_run(h, "ZADD z 1 a 2 b");
    harness_run(h, "ZADD y 1 b 2 c");
    harness_effects(h, "ZUNIONSTORE d 2 z y", ":3\r\n", "n:new d@0;z:zunionstore d@0;");
    harness_effects(h, "ZINTERSTORE d 2 z y", ":1\r\n", "z:zinterstore d@0;");
    harness_effects(h, "ZDIFFSTORE d 2 z y", ":1\r\n", "z:zdiffstore d@0;");
    harness_effects(h, "ZRANGESTORE d z 0 -1", ":2\r\n", "z:zrangestore d@0;");
    harness_effects(h, "ZRANGESTORE d z 5 6", ":0\r\n", "g:del d@0;");
    harness_effects(h, "ZRANGESTORE d z 5 6", ":0\r\n", NONE);
    harness_effects(h, "ZDIFFSTORE z 2 z z", ":0\r\n", "g:del z@0;");
}

static void test_places_are_told(void **state) {
    struct harness *h = *state;
    harness_effects(h, "GEOADD g CH 13.361389 38.115556 a", ":1\r\n", "n:new g@0;z:zadd g@0;=> ZADD g CH 3479099956230698 a;");
    harness_effects(h, "GEOADD g 13.361389 38.115556 a", ":0\r\n", NONE);
    harness_effects(h, "GEOSEARCHSTORE d g FROMMEMBER a BYRADIUS 1 m", ":1\r\n", "n:new d@0;z:geosearchstore d@0;");
    harness_effects(h, "GEORADIUS g 13.361389 38.115556 1 m STORE d", ":1\r\n", "z:georadiusstore d@0;");
    harness_effects(h, "GEORADIUSBYMEMBER g a 1 m STOREDIST d", ":1\r\n", "z:georadiusstore d@0;");
    harness_effects(h, "GEORADIUS g 0 0 1 m STORE d", ":0\r\n", "g:del d@0;");
    harness_effects(h, "GEORADIUS g 0 0 1 m STORE d", ":0\r\n", NONE);
}

static void test_stores_lose_the_expiry(void **state) {
    static const struct harness_case cases[] = {
        { "SET d x EX 100", OK },
        { "ZADD z 1 a", ":1\r\n" },
        { "ZUNIONSTORE d 1 z", ":1\r\n" },
        { "TTL d", ":-1\r\n" },
        { "EXPIRE d 100", ":1\r\n" },
        { "ZADD d 5 b", ":1\r\n" },
        { "TTL d", ":100\r\n" },
        { "ZRANGESTORE d z 0 -1", ":1\r\n" },
        { "TTL d", ":-1\r\n" },
        { "COPY d e", ":1\r\n" },
        { "ZADD e 7 only-here", ":1\r\n" },
        { "ZCARD d", ":1\r\n" },
        { "ZCARD e", ":2\r\n" },
        { 0 },
    };
    harness_cases(*state, cases);
}

static void test_watched_keys_are_touched(void **state) {
    static const struct harness_case cases[] = {
        { "WATCH z", OK },
        { "ZADD z 1 a", ":1\r\n" },
        { "MULTI", OK },
        { "EXEC", "*-1\r\n" },
        { "WATCH z", OK },
        { "ZADD z 1 a", ":0\r\n" },
        { "MULTI", OK },
        { "EXEC", "*0\r\n" },
        { "WATCH z", OK },
        { "ZPOPMAX z", "*2\r\n$1\r\na\r\n$1\r\n1\r\n" },
        { "MULTI", OK },
        { "EXEC", "*-1\r\n" },
        { 0 },
    };
    harness_cases(*state, cases);
}

int main(void) {
#define T(f) cmocka_unit_test_setup_teardown(f, harness_setup, harness_teardown)
    const struct CMUnitTest tests[] = {
        T(test_changes_are_told),
        T(test_range_removal_is_told),
        T(test_pops_are_told_and_replicated_in_a_form_that_does_not_wait),
        T(test_stores_are_told),
        T(test_places_are_told),
        T(test_stores_lose_the_expiry),
        T(test_watched_keys_are_touched),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
