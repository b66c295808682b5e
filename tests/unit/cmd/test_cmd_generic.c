/* Generic keys and whole databases through the dispatcher: replies byte for byte, effects, and SCAN's guarantee. */
#include "test_cmd_harness.h"

static void test_delete_and_count_keys(void **state) {
    static const struct harness_case cases[] = {
        { "MSET a 1 b 2 c 3 d 4", OK },
        { "EXISTS a b none a", ":3\r\n" },
        { "TOUCH a none b", ":2\r\n" },
        { "DEL a none a", ":1\r\n" },
        { "UNLINK b c none", ":2\r\n" },
        { "DBSIZE", ":1\r\n" },
        { "TYPE d", "+string\r\n" },
        { "TYPE none", "+none\r\n" },
        { "SET gone v PXAT 1", OK },
        { "DEL gone", ":0\r\n" },
        { "SET gone v PXAT 1", OK },
        { "EXISTS gone", ":0\r\n" },
        { 0 },
    };
    harness_cases(*state, cases);
}

static void test_expire_conditions(void **state) {
    static const struct harness_case cases[] = {
        { "SET k v", OK },
        { "EXPIRE none 10", ":0\r\n" },
        { "EXPIRE k 100 XX", ":0\r\n" },
        { "EXPIRE k 100 GT", ":0\r\n" },
        { "EXPIRE k 100 NX", ":1\r\n" },
        { "EXPIRE k 100 NX", ":0\r\n" },
        { "EXPIRE k 50 GT", ":0\r\n" },
        { "EXPIRE k 200 gt", ":1\r\n" },
        { "EXPIRE k 300 LT", ":0\r\n" },
        { "EXPIRE k 150 LT XX", ":1\r\n" },
        { "TTL k", ":150\r\n" },
        { "PEXPIRE k 60000", ":1\r\n" },
        { "TTL k", ":60\r\n" },
        { "EXPIREAT k 33177117420", ":1\r\n" },
        { "EXPIRETIME k", ":33177117420\r\n" },
        { "PEXPIREAT k 33177117420500", ":1\r\n" },
        { "PEXPIRETIME k", ":33177117420500\r\n" },
        { "EXPIRETIME k", ":33177117421\r\n" },
        { "PERSIST k", ":1\r\n" },
        { "PERSIST k", ":0\r\n" },
        { "PERSIST none", ":0\r\n" },
        { "TTL k", ":-1\r\n" },
        { "PTTL none", ":-2\r\n" },
        { "EXPIRETIME none", ":-2\r\n" },
        { "EXPIRE k 100 LT", ":1\r\n" },
        { "EXPIRE k 1 foo", "-ERR Unsupported option foo\r\n" },
        { "EXPIRE k 1 NX GT", "-ERR NX and XX, GT or LT options at the same time are not compatible\r\n" },
        { "EXPIRE k 1 NX XX", "-ERR NX and XX, GT or LT options at the same time are not compatible\r\n" },
        { "EXPIRE k 1 GT LT", "-ERR GT and LT options at the same time are not compatible\r\n" },
        { "EXPIRE k x", ERR_INT },
        { "EXPIRE k 9223372036854775807", "-ERR invalid expire time in 'expire' command\r\n" },
        { "EXPIRE k -9223372036854775808", "-ERR invalid expire time in 'expire' command\r\n" },
        { "PEXPIRE k 9223372036854775807", "-ERR invalid expire time in 'pexpire' command\r\n" },
        { "EXPIREAT k 9223372036854775807", "-ERR invalid expire time in 'expireat' command\r\n" },
        { "PEXPIRE k -9223372036854775808", ":1\r\n" },
        { "EXISTS k", ":0\r\n" },
        { 0 },
    };
    harness_cases(*state, cases);
}

static void test_effects_are_events_and_absolute_times(void **state) {
    struct harness *h = *state;
    harness_run(h, "MSET k v o v");
    harness_effects(h, "EXPIRE k 100", ":1\r\n", "=> PEXPIREAT k *;g:expire k@0;");
    harness_effects(h, "PERSIST k", ":1\r\n", "g:persist k@0;");
    harness_effects(h, "EXPIRE k 100 XX", ":0\r\n", "");
    harness_effects(h, "RENAME k o", OK, "n:new o@0;g:rename_from k@0;g:rename_to o@0;");
    harness_effects(h, "COPY o c", ":1\r\n", "n:new c@0;g:copy_to c@0;");
    harness_effects(h, "MOVE o 3", ":1\r\n", "n:new o@3;g:move_from o@0;g:move_to o@3;");
    harness_effects(h, "EXPIRE c -1", ":1\r\n", "=> DEL c;g:del c@0;");
    harness_effects(h, "SET d v", OK, "*");
    harness_effects(h, "DEL d d", ":1\r\n", "g:del d@0;");
    harness_effects(h, "EXISTS d", ":0\r\n", "m:keymiss d@0;");
    atomic_store(&h->eng.lazy_expire, true);
    harness_run(h, "SET e v");
    harness_effects(h, "PEXPIREAT e 1", ":1\r\n", "=> UNLINK e;g:del e@0;");
    harness_effects(h, "FLUSHDB", OK, "=> FLUSHDB;");
}

static void test_rename_keeps_value_and_expiry(void **state) {
    static const struct harness_case cases[] = {
        { "RENAME none x", "-ERR no such key\r\n" },
        { "RENAMENX none x", "-ERR no such key\r\n" },
        { "SET a 1 EX 100", OK },
        { "SET b 2", OK },
        { "RENAMENX a b", ":0\r\n" },
        { "RENAME a b", OK },
        { "GET b", "$1\r\n1\r\n" },
        { "TTL b", ":100\r\n" },
        { "EXISTS a", ":0\r\n" },
        { "RENAME b b", OK },
        { "RENAMENX b b", ":0\r\n" },
        { "RENAMENX b c", ":1\r\n" },
        { "SET p 1", OK },
        { "RENAME p c", OK },
        { "TTL c", ":-1\r\n" },
        { "DBSIZE", ":1\r\n" },
        { 0 },
    };
    harness_cases(*state, cases);
}

static void test_copy_and_move_between_databases(void **state) {
    struct harness *h = *state;
    static const struct harness_case cases[] = {
        { "SET a 1 EX 100", OK },
        { "COPY a b", ":1\r\n" },
        { "TTL b", ":100\r\n" },
        { "INCR b", ":2\r\n" },
        { "GET a", "$1\r\n1\r\n" },
        { "COPY a b", ":0\r\n" },
        { "COPY a b REPLACE", ":1\r\n" },
        { "GET b", "$1\r\n1\r\n" },
        { "COPY none b", ":0\r\n" },
        { "COPY a a", "-ERR source and destination objects are the same\r\n" },
        { "COPY a a DB 1", ":1\r\n" },
        { "COPY a a DB 1 REPLACE", ":1\r\n" },
        { "COPY a b DB 16", "-ERR DB index is out of range\r\n" },
        { "COPY a b DB x", ERR_INT },
        { "COPY a b DB", ERR_SYNTAX },
        { "COPY a b FOO", ERR_SYNTAX },
        { "MOVE b 1", ":1\r\n" },
        { "EXISTS b", ":0\r\n" },
        { "MOVE a 1", ":0\r\n" },
        { "MOVE none 1", ":0\r\n" },
        { "MOVE a 0", "-ERR source and destination objects are the same\r\n" },
        { "MOVE a 16", "-ERR DB index is out of range\r\n" },
        { "MOVE a -1", "-ERR DB index is out of range\r\n" },
        { "MOVE a x", ERR_INT },
        { "MOVE a 99999999999", "-ERR value is out of range, value must between -2147483648 and 2147483647\r\n" },
        { 0 },
    };
    static const struct harness_case in_db1[] = {
        { "DBSIZE", ":2\r\n" },
        { "TTL b", ":100\r\n" },
        { "SWAPDB 0 1", OK },
        { "DBSIZE", ":1\r\n" },
        { "SWAPDB x 1", "-ERR invalid first DB index\r\n" },
        { "SWAPDB 0 x", "-ERR invalid second DB index\r\n" },
        { "SWAPDB 0 16", "-ERR DB index is out of range\r\n" },
        { 0 },
    };
    harness_cases(h, cases);
    atomic_store(&h->s.db, 1);
    harness_cases(h, in_db1);
}

static void test_object_tells_encodings(void **state) {
    struct harness *h = *state;
    static const struct harness_case cases[] = {
        { "SET i 123", OK },
        { "OBJECT ENCODING i", "$3\r\nint\r\n" },
        { "OBJECT REFCOUNT i", ":2147483647\r\n" },
        { "SET i 10000", OK },
        { "OBJECT REFCOUNT i", ":1\r\n" },
        { "SET e short", OK },
        { "OBJECT ENCODING e", "$6\r\nembstr\r\n" },
        { "OBJECT REFCOUNT e", ":1\r\n" },
        { "SET r 123456789012345678901234567890123456789012345", OK },
        { "OBJECT ENCODING r", "$3\r\nraw\r\n" },
        { "OBJECT IDLETIME i", ":0\r\n" },
        { "OBJECT FREQ i", "-ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note that when "
                           "switching between policies at runtime LRU and "
                           "LFU data will take some time to adjust.\r\n" },
        { "OBJECT ENCODING none", NIL },
        { "OBJECT FREQ none", NIL },
        { "OBJECT ENCODING", "-ERR wrong number of arguments for 'object|encoding' command\r\n" },
        { "OBJECT", "-ERR wrong number of arguments for 'object' command\r\n" },
        { "OBJECT foo i", "-ERR unknown subcommand 'foo'. Try OBJECT HELP.\r\n" },
        { 0 },
    };
    harness_cases(h, cases);
    ks_use_lfu(h->ks, true);
    assert_true(harness_run(h, "OBJECT FREQ i")[0] == ':');
    assert_non_null(strstr(harness_run(h, "OBJECT IDLETIME i"), "idle time not tracked"));
    const char *help = harness_run(h, "OBJECT HELP");
    assert_non_null(strstr(help, "+OBJECT <subcommand> [<arg> [value] [opt] ...]. Subcommands are:\r\n"));
}

static void test_flush_and_patterns(void **state) {
    static const struct harness_case cases[] = {
        { "RANDOMKEY", NIL },
        { "KEYS *", "*0\r\n" },
        { "SET hello 1", OK },
        { "KEYS h[a-e]llo", "*1\r\n$5\r\nhello\r\n" },
        { "KEYS x*", "*0\r\n" },
        { "RANDOMKEY", "$5\r\nhello\r\n" },
        { "FLUSHALL x", ERR_SYNTAX },
        { "FLUSHALL ASYNC SYNC", ERR_SYNTAX },
        { "FLUSHDB async", OK },
        { "DBSIZE", ":0\r\n" },
        { "SET a 1", OK },
        { "FLUSHALL SYNC", OK },
        { "FLUSHALL", OK },
        { "DBSIZE", ":0\r\n" },
        { 0 },
    };
    harness_cases(*state, cases);
}

static void test_scan_arguments(void **state) {
    static const struct harness_case cases[] = {
        { "SCAN 0", "*2\r\n$1\r\n0\r\n*0\r\n" },
        { "SCAN x", "-ERR invalid cursor\r\n" },
        { "SCAN ' 0'", "-ERR invalid cursor\r\n" },
        { "SCAN 18446744073709551616", "-ERR invalid cursor\r\n" },
        { "SCAN 0 COUNT 0", ERR_SYNTAX },
        { "SCAN 0 COUNT x", ERR_INT },
        { "SCAN 0 MATCH", ERR_SYNTAX },
        { "SCAN 0 FOO x", ERR_SYNTAX },
        { "SET only 1", OK },
        { "SCAN 0 COUNT 1000 TYPE string", "*2\r\n$1\r\n0\r\n*1\r\n$4\r\nonly\r\n" },
        { "SCAN 0 COUNT 1000 TYPE list", "*2\r\n$1\r\n0\r\n*0\r\n" },
        { "SCAN 0 COUNT 1000 TYPE nosuchtype", "*2\r\n$1\r\n0\r\n*0\r\n" },
        { "SCAN 0 COUNT 1000 MATCH o?ly", "*2\r\n$1\r\n0\r\n*1\r\n$4\r\nonly\r\n" },
        { "SCAN 0 COUNT 1000 MATCH x*", "*2\r\n$1\r\n0\r\n*0\r\n" },
        { 0 },
    };
    harness_cases(*state, cases);
}

/* Keys of one SCAN reply: adds each "key:<n>" to seen. Returns the next cursor. */
static unsigned long long scan_note(const char *reply, int *seen, int n) {
    unsigned long long cursor = strtoull(strchr(reply, '\n') + 1 + strcspn(strchr(reply, '\n') + 1, "\n") + 1, NULL, 10);
    for (const char *p = reply; (p = strstr(p, "key:")) != NULL; p += 4) {
        int i = atoi(p + 4);
        assert_in_range(i, 0, n - 1);
        seen[i]++;
    }
    return cursor;
}

static void test_scan_sees_every_key_that_stays(void **state) {
    enum { N = 2000 };
    struct harness *h = *state;
    int *seen = mem_calloc(N, sizeof(*seen));
    char line[64];
    for (int i = 0; i < N; i++) {
        snprintf(line, sizeof(line), "SET key:%d v", i);
        harness_run(h, line);
    }
    unsigned long long cursor = 0;
    int calls = 0;
    do {
        snprintf(line, sizeof(line), "SCAN %llu COUNT 50", cursor);
        cursor = scan_note(harness_run(h, line), seen, N);
        if (calls++ < N / 4) { /* half of the keys go, others come, the table resizes */
            snprintf(line, sizeof(line), "DEL key:%d", calls * 2 + 1);
            harness_run(h, line);
            snprintf(line, sizeof(line), "MSET new%d 1 new%d_ 1", calls, calls);
            harness_run(h, line);
        }
    } while (cursor != 0);
    assert_true(calls > 10);
    for (int i = 0; i < N; i += 2) assert_true(seen[i] >= 1);
    mem_free(seen);
}

static void test_scan_works_inside_exec(void **state) {
    struct harness *h = *state;
    harness_run(h, "SET k v");
    assert_string_equal(harness_run(h, "MULTI"), OK);
    assert_string_equal(harness_run(h, "SCAN 0 COUNT 1000"), "+QUEUED\r\n");
    assert_string_equal(harness_run(h, "KEYS *"), "+QUEUED\r\n");
    assert_string_equal(harness_run(h, "EXEC"), "*2\r\n*2\r\n$1\r\n0\r\n*1\r\n$1\r\nk\r\n*1\r\n$1\r\nk\r\n");
}

static void test_watch_aborts_after_each_kind_of_change(void **state) {
    static const char *const changes[] = { "SET k x",          "APPEND k x", "SETBIT k 0 1",  "DEL k",
                                           "EXPIRE k 100",     "RENAME k z", "MOVE k 1",      "FLUSHALL",
                                           "COPY o k REPLACE", "SWAPDB 0 1", "BITOP NOT k o", "GETDEL k",
                                           "GETEX k EX 10" };
    struct harness *h = *state;
    for (size_t i = 0; i < sizeof(changes) / sizeof(changes[0]); i++) {
        harness_run(h, "FLUSHALL");
        harness_run(h, "MSET k v o w");
        assert_string_equal(harness_run(h, "WATCH k"), OK);
        assert_true(harness_run(h, changes[i])[0] != '-');
        assert_string_equal(harness_run(h, "MULTI"), OK);
        assert_string_equal(harness_run(h, "GET o"), "+QUEUED\r\n");
        const char *got = harness_run(h, "EXEC");
        if (strcmp(got, "*-1\r\n") != 0) print_error("%s did not abort the transaction\n", changes[i]);
        assert_string_equal(got, "*-1\r\n");
    }
}

#define T(f) cmocka_unit_test_setup_teardown(f, harness_setup, harness_teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        T(test_delete_and_count_keys),
        T(test_expire_conditions),
        T(test_effects_are_events_and_absolute_times),
        T(test_rename_keeps_value_and_expiry),
        T(test_copy_and_move_between_databases),
        T(test_object_tells_encodings),
        T(test_flush_and_patterns),
        T(test_scan_arguments),
        T(test_scan_sees_every_key_that_stays),
        T(test_scan_works_inside_exec),
        T(test_watch_aborts_after_each_kind_of_change),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
