/* The hash family through the dispatcher: replies byte for byte, effects (events, replicated form), times of fields. */
#include <math.h>

#include "test_cmd_harness.h"

#include "base/rand.h"
#include "data/limits.h"

#define ERR_FIELDS "-ERR Mandatory argument FIELDS is missing or not at the right position\r\n"
#define ERR_MISMATCH "-ERR The `numfields` parameter must match the number of arguments\r\n"

static void test_fields_are_set_and_read(void **state) {
    static const struct harness_case cases[] = {
        { "HSET h a 1 b 2", ":2\r\n" },
        { "HSET h a 3 c 4", ":1\r\n" },
        { "HMSET h a 3 d 5", OK },
        { "HSET h a", "-ERR wrong number of arguments for 'hset' command\r\n" },
        { "HMSET h a 1 b", "-ERR wrong number of arguments for 'hmset' command\r\n" },
        { "HGET h a", "$1\r\n3\r\n" },
        { "HGET h x", NIL },
        { "HGET absent x", NIL },
        { "HMGET h a x b", "*3\r\n$1\r\n3\r\n$-1\r\n$1\r\n2\r\n" },
        { "HMGET absent a b", "*2\r\n$-1\r\n$-1\r\n" },
        { "HLEN h", ":4\r\n" },
        { "HLEN absent", ":0\r\n" },
        { "HSTRLEN h a", ":1\r\n" },
        { "HSTRLEN h x", ":0\r\n" },
        { "HEXISTS h a", ":1\r\n" },
        { "HEXISTS h x", ":0\r\n" },
        { "HSETNX h a 9", ":0\r\n" },
        { "HSETNX h e 9", ":1\r\n" },
        { "HSETNX new e 9", ":1\r\n" },
        { "HKEYS h", "*5\r\n$1\r\na\r\n$1\r\nb\r\n$1\r\nc\r\n$1\r\nd\r\n$1\r\ne\r\n" },
        { "HVALS new", "*1\r\n$1\r\n9\r\n" },
        { "HGETALL new", "*2\r\n$1\r\ne\r\n$1\r\n9\r\n" },
        { "HGETALL absent", "*0\r\n" },
        { "HDEL h a b x", ":2\r\n" },
        { "HDEL h c d e", ":3\r\n" },
        { "EXISTS h", ":0\r\n" },
        { "HDEL h c", ":0\r\n" },
        { "TYPE new", "+hash\r\n" },
        { "OBJECT ENCODING new", "$8\r\nlistpack\r\n" },
        { 0 },
    };
    harness_cases(*state, cases);
}

static void test_numbers_count(void **state) {
    static const struct harness_case cases[] = {
        { "HINCRBY h n 5", ":5\r\n" },
        { "HINCRBY h n -7", ":-2\r\n" },
        { "HINCRBY h n x", ERR_INT },
        { "HSET h t text max 9223372036854775807 min -9223372036854775808", ":3\r\n" },
        { "HINCRBY h t 1", "-ERR hash value is not an integer\r\n" },
        { "HINCRBY h max 1", "-ERR increment or decrement would overflow\r\n" },
        { "HINCRBY h min -1", "-ERR increment or decrement would overflow\r\n" },
        { "HINCRBYFLOAT h n 0.5", "$4\r\n-1.5\r\n" },
        { "HINCRBYFLOAT h t 1", "-ERR hash value is not a float\r\n" },
        { "HINCRBYFLOAT h n x", "-ERR value is not a valid float\r\n" },
        { "HINCRBYFLOAT h n inf", "-ERR value is NaN or Infinity\r\n" },
        { "HSET h big 1e4932", ":1\r\n" },
        { "HINCRBYFLOAT h big 1e4932", "-ERR increment would produce NaN or Infinity\r\n" },
        { "HINCRBYFLOAT h f 3.0e3", "$4\r\n3000\r\n" },
        { "HINCRBY h none x", ERR_INT },
        { "HEXISTS h none", ":0\r\n" },
        { "HINCRBYFLOAT absent none x", "-ERR value is not a valid float\r\n" },
        { "EXISTS absent", ":0\r\n" },
        { 0 },
    };
    harness_cases(*state, cases);
}

static void test_other_types_are_refused(void **state) {
    struct harness *h = *state;
    static const char *const lines[] = {
        "HSET s a 1",
        "HMSET s a 1",
        "HSETNX s a 1",
        "HGET s a",
        "HMGET s a",
        "HGETALL s",
        "HKEYS s",
        "HVALS s",
        "HDEL s a",
        "HLEN s",
        "HSTRLEN s a",
        "HEXISTS s a",
        "HINCRBY s a 1",
        "HINCRBYFLOAT s a 1",
        "HRANDFIELD s",
        "HRANDFIELD s 2",
        "HSCAN s 0",
        "HEXPIRE s 1 FIELDS 1 a",
        "HTTL s FIELDS 1 a",
        "HPERSIST s FIELDS 1 a",
        "HGETEX s FIELDS 1 a",
        "HSETEX s FIELDS 1 a b",
        "HGETDEL s FIELDS 1 a",
    };
    harness_run(h, "SET s text");
    for (size_t i = 0; i < sizeof(lines) / sizeof(*lines); i++) assert_string_equal(harness_run(h, lines[i]), ERR_TYPE);
}

static void test_effects(void **state) {
    struct harness *h = *state;
    harness_effects(h, "HSET h a 1 b 2", ":2\r\n", "n:new h@0;h:hset h@0;");
    harness_effects(h, "HMSET h a 1", OK, "h:hset h@0;");
    harness_effects(h, "HSETNX h a 1", ":0\r\n", "");
    harness_effects(h, "HSETNX h c 1", ":1\r\n", "h:hset h@0;");
    harness_effects(h, "HINCRBY h a 1", ":2\r\n", "h:hincrby h@0;");
    harness_effects(h, "HINCRBYFLOAT h a 0.5", "$3\r\n2.5\r\n", "=> HSET h a 2.5;h:hincrbyfloat h@0;");
    harness_effects(h, "HDEL h x", ":0\r\n", "");
    harness_effects(h, "HDEL h a", ":1\r\n", "h:hdel h@0;");
    harness_effects(h, "HDEL h b c d", ":2\r\n", "h:hdel h@0;g:del h@0;");
}

static void test_times_of_fields_have_effects(void **state) {
    struct harness *h = *state;
    harness_run(h, "HSET h a 1 b 2 c 3 d 4");
    harness_effects(h, "HEXPIRE h 100 FIELDS 2 a x", "*2\r\n:1\r\n:-2\r\n", "=> HPEXPIREAT h * FIELDS 1 a;h:hexpire h@0;");
    harness_effects(h, "HEXPIREAT h 33177117420 FIELDS 1 b", "*1\r\n:1\r\n",
                    "=> HPEXPIREAT h 33177117420000 FIELDS 1 b;h:hexpire h@0;");
    harness_effects(h, "HEXPIRE h 100 NX FIELDS 1 b", "*1\r\n:0\r\n", "");
    harness_effects(h, "HEXPIRE absent 100 FIELDS 2 a b", "*2\r\n:-2\r\n:-2\r\n", "");
    harness_effects(h, "HINCRBYFLOAT h b 1", "$1\r\n3\r\n", "=> HSETEX h KEEPTTL FIELDS 1 b 3;h:hincrbyfloat h@0;");
    harness_effects(h, "HINCRBY h b 1", ":4\r\n", "h:hincrby h@0;");
    harness_effects(h, "HEXPIRETIME h FIELDS 1 b", "*1\r\n:33177117420\r\n", "");
    harness_effects(h, "HPERSIST h FIELDS 3 a c x", "*3\r\n:1\r\n:-1\r\n:-2\r\n", "=> HPERSIST h FIELDS 1 a;h:hpersist h@0;");
    harness_effects(h, "HPERSIST h FIELDS 1 a", "*1\r\n:-1\r\n", "");
    harness_effects(h, "HPEXPIREAT h 1 FIELDS 2 a x", "*2\r\n:2\r\n:-2\r\n", "=> HDEL h a;h:hdel h@0;");
    harness_effects(h, "HGETEX h EX 100 FIELDS 2 b x", "*2\r\n$1\r\n4\r\n$-1\r\n", "=> HPEXPIREAT h * FIELDS 1 b;h:hexpire h@0;");
    harness_effects(h, "HGETEX h FIELDS 1 b", "*1\r\n$1\r\n4\r\n", "");
    harness_effects(h, "HGETEX h PERSIST FIELDS 2 b c", "*2\r\n$1\r\n4\r\n$1\r\n3\r\n",
                    "=> HPERSIST h FIELDS 1 b;h:hpersist h@0;");
    harness_effects(h, "HGETEX h PERSIST FIELDS 1 b", "*1\r\n$1\r\n4\r\n", "");
    harness_effects(h, "HGETEX h PX 0 FIELDS 1 b", "*1\r\n$1\r\n4\r\n", "=> HDEL h b;h:hdel h@0;");
    harness_effects(h, "HSETEX h EX 10 FIELDS 1 c 5", ":1\r\n", "=> HSETEX h PXAT * FIELDS 1 c 5;h:hset h@0;h:hexpire h@0;");
    harness_effects(h, "HSETEX h KEEPTTL FIELDS 1 c 6", ":1\r\n", "h:hset h@0;");
    harness_effects(h, "HTTL h FIELDS 1 c", "*1\r\n:10\r\n", "");
    harness_effects(h, "HSETEX h FIELDS 1 c 6", ":1\r\n", "h:hset h@0;");
    harness_effects(h, "HTTL h FIELDS 1 c", "*1\r\n:-1\r\n", "");
    harness_effects(h, "HSETEX h FNX FIELDS 2 c 6 n 1", ":0\r\n", "");
    harness_effects(h, "HSETEX h FXX FIELDS 2 c 6 n 1", ":0\r\n", "");
    harness_effects(h, "HSETEX absent FXX FIELDS 1 c 6", ":0\r\n", "");
    harness_effects(h, "HSETEX h FNX FIELDS 1 n 1", ":1\r\n", "=> HSETEX h FIELDS 1 n 1;h:hset h@0;");
    harness_effects(h, "HSETEX h PXAT 1 FIELDS 1 n 1", ":1\r\n", "=> HDEL h n;h:hset h@0;h:hdel h@0;");
    harness_effects(h, "HSETEX new PXAT 1 FIELDS 1 n 1", ":1\r\n",
                    "n:new new@0;=> HDEL new n;h:hset new@0;h:hdel new@0;g:del new@0;");
    harness_effects(h, "HGETDEL h FIELDS 2 c x", "*2\r\n$1\r\n6\r\n$-1\r\n", "=> HDEL h c;h:hdel h@0;");
    harness_effects(h, "HGETDEL h FIELDS 1 d", "*1\r\n$1\r\n4\r\n", "=> HDEL h d;h:hdel h@0;g:del h@0;");
    harness_effects(h, "HGETDEL h FIELDS 1 d", "*1\r\n$-1\r\n", "");
}

static void test_bad_arguments_of_times(void **state) {
    static const struct harness_case cases[] = {
        { "HSET h f v", ":1\r\n" },
        { "HEXPIRE h x FIELDS 1 f", ERR_INT },
        { "HEXPIRE h -1 FIELDS 1 f", "-ERR invalid expire time, must be >= 0\r\n" },
        { "HEXPIRE h 9223372036854775807 FIELDS 1 f", "-ERR invalid expire time in 'hexpire' command\r\n" },
        { "HPEXPIRE h 70368744177664 FIELDS 1 f", "-ERR invalid expire time in 'hpexpire' command\r\n" },
        { "HPEXPIREAT h 70368744177664 FIELDS 1 f", "-ERR invalid expire time in 'hpexpireat' command\r\n" },
        { "HPEXPIREAT h 70368744177663 FIELDS 1 f", "*1\r\n:1\r\n" },
        { "HPEXPIRETIME h FIELDS 1 f", "*1\r\n:70368744177663\r\n" },
        { "HEXPIRE h 1 FIELD 1 f", ERR_FIELDS },
        { "HEXPIRE h 1 NX GT FIELDS 1 f", ERR_FIELDS },
        { "HEXPIRE h 1 FIELDS 0 f", "-ERR Parameter `numFields` should be greater than 0\r\n" },
        { "HEXPIRE h 1 FIELDS 2 f", ERR_MISMATCH },
        { "HEXPIRE h 1 NX FIELDS 1", ERR_MISMATCH },
        { "HEXPIRE h 1 FIELDS 1", "-ERR wrong number of arguments for 'hexpire' command\r\n" },
        { "HTTL h FIELDS 0 f", "-ERR Number of fields must be a positive integer\r\n" },
        { "HTTL h FIELDS x f", "-ERR Number of fields must be a positive integer\r\n" },
        { "HTTL h FIELDS 2 f", ERR_MISMATCH },
        { "HPERSIST h 1 f g", ERR_FIELDS },
        { "HGETEX h FIELDS 2 f", ERR_MISMATCH },
        { "HGETEX h EX 10 FIELDS", "-ERR wrong number of arguments for 'hgetex' command\r\n" },
        { "HGETEX h EX x FIELDS 1 f", ERR_INT },
        { "HGETEX h PERSIST 1 f f", ERR_FIELDS },
        { "HGETEX h KEEPTTL FIELDS 1 f", ERR_FIELDS },
        { "HGETDEL h FIELDS 0 f", "-ERR Number of fields must be a positive integer\r\n" },
        { "HGETDEL h FIELDS 2 f", ERR_MISMATCH },
        { "HSETEX h FIELDS 1 f", "-ERR wrong number of arguments for 'hsetex' command\r\n" },
        { "HSETEX h FIELDS 2 f v", "-ERR wrong number of arguments for 'hsetex' command\r\n" },
        { "HSETEX h FIELDS 1 f v g", "-ERR wrong number of arguments for 'hsetex' command\r\n" },
        { "HSETEX h FIELDS x f v", "-ERR invalid number of fields\r\n" },
        { "HSETEX h FNX FXX FIELDS 1 f v", "-ERR Only one of FXX or FNX arguments can be specified\r\n" },
        { "HSETEX h EX 1 KEEPTTL FIELDS 1 f v", "-ERR Only one of EX, PX, EXAT, PXAT or KEEPTTL arguments can be specified\r\n" },
        { "HSETEX h PX -1 FIELDS 1 f v", "-ERR invalid expire time, must be >= 0\r\n" },
        { "HSETEX h what FIELDS 1 f v", "-ERR unknown argument: what\r\n" },
        { "HGET h f", "$1\r\nv\r\n" },
        { 0 },
    };
    harness_cases(*state, cases);
}

static void test_conditions(void **state) {
    static const struct harness_case cases[] = {
        { "HSET h t 1 n 2", ":2\r\n" },
        { "HPEXPIREAT h 5000000000000 FIELDS 1 t", "*1\r\n:1\r\n" },
        { "HPEXPIREAT h 5000000000000 XX FIELDS 2 t n", "*2\r\n:1\r\n:0\r\n" },
        { "HPEXPIREAT h 5000000000000 GT FIELDS 2 t n", "*2\r\n:0\r\n:0\r\n" },
        { "HPEXPIREAT h 6000000000000 gt FIELDS 2 t n", "*2\r\n:1\r\n:0\r\n" },
        { "HPEXPIREAT h 6000000000000 LT FIELDS 2 t n", "*2\r\n:0\r\n:1\r\n" },
        { "HPEXPIREAT h 5000000000000 LT FIELDS 2 t n", "*2\r\n:1\r\n:1\r\n" },
        { "HPEXPIREAT h 5000000000000 NX FIELDS 2 t n", "*2\r\n:0\r\n:0\r\n" },
        { "HPEXPIREAT h 1 NX FIELDS 1 t", "*1\r\n:0\r\n" },
        { "HSET h t 5", ":0\r\n" },
        { "HTTL h FIELDS 1 t", "*1\r\n:-1\r\n" },
        { "OBJECT ENCODING h", "$10\r\nlistpackex\r\n" },
        { 0 },
    };
    harness_cases(*state, cases);
}

static void test_fields_go_at_their_time(void **state) {
    struct harness *h = *state;
    harness_run(h, "HSET h a 1 b 2");
    harness_run(h, "HSETEX h PX 5 FIELDS 1 a 1");
    int64_t until = clock_wall_ms() + 7;
    while (clock_wall_ms() < until) {
    }
    harness_effects(h, "HGET h a", NIL, "1 h:hexpired h@0;");
    harness_effects(h, "HLEN h", ":1\r\n", "");
    harness_run(h, "HPEXPIRE h 1 FIELDS 1 b");
    until = clock_wall_ms() + 3;
    while (clock_wall_ms() < until) {
    }
    harness_effects(h, "EXISTS h", ":0\r\n", "1 h:hexpired h@0;g:del h@0;*");
}

/* On a replica, and while clients are paused: nothing is deleted, and still nobody sees what is due. */
static void test_due_fields_that_stay_are_hidden(void **state) {
    struct harness *h = *state;
    static const struct harness_case cases[] = {
        { "HLEN h", ":1\r\n" },
        { "HGET h a", NIL },
        { "HGETALL h", "*2\r\n$1\r\nb\r\n$1\r\n2\r\n" },
        { "HKEYS h", "*1\r\n$1\r\nb\r\n" },
        { "HRANDFIELD h", "$1\r\nb\r\n" },
        { "HRANDFIELD h 5", "*1\r\n$1\r\nb\r\n" },
        { "HRANDFIELD h -2", "*2\r\n$1\r\nb\r\n$1\r\nb\r\n" },
        { "HSCAN h 0 COUNT 100", "*2\r\n$1\r\n0\r\n*2\r\n$1\r\nb\r\n$1\r\n2\r\n" },
        { "HTTL h FIELDS 1 a", "*1\r\n:-2\r\n" },
        { "HDEL h a", ":0\r\n" },
        { "HSETNX h a 5", ":1\r\n" },
        { "HTTL h FIELDS 1 a", "*1\r\n:-1\r\n" },
        { "HRANDFIELD gone", NIL },
        { "HGETALL gone", "*0\r\n" },
        { 0 },
    };
    for (int i = 0; i < 2; i++) {
        atomic_store(&data_limits.hash_max_listpack_entries, i ? 0 : 512);
        ks_set_keep_expired(h->ks, false);
        harness_run(h, "DEL h gone");
        harness_run(h, "HSET h a 1 b 2");
        harness_run(h, "HSET gone a 1");
        harness_run(h, "HPEXPIRE h 1 FIELDS 1 a");
        harness_run(h, "HPEXPIRE gone 1 FIELDS 1 a");
        int64_t until = clock_wall_ms() + 3;
        while (clock_wall_ms() < until) {
        }
        ks_set_keep_expired(h->ks, true);
        harness_cases(h, cases);
    }
    atomic_store(&data_limits.hash_max_listpack_entries, 512);
}

static void test_random_fields(void **state) {
    struct harness *h = *state;
    static const struct harness_case cases[] = {
        { "HRANDFIELD absent", NIL },
        { "HRANDFIELD absent 5", "*0\r\n" },
        { "HSET h a 1", ":1\r\n" },
        { "HRANDFIELD h", "$1\r\na\r\n" },
        { "HRANDFIELD h 5", "*1\r\n$1\r\na\r\n" },
        { "HRANDFIELD h -2", "*2\r\n$1\r\na\r\n$1\r\na\r\n" },
        { "HRANDFIELD h 5 WITHVALUES", "*2\r\n$1\r\na\r\n$1\r\n1\r\n" },
        { "HRANDFIELD h 0", "*0\r\n" },
        { "HRANDFIELD h x", ERR_INT },
        { "HRANDFIELD h 1 bad", ERR_SYNTAX },
        { "HRANDFIELD h 1 WITHVALUES x", ERR_SYNTAX },
        { "HRANDFIELD h -9223372036854775807", "-ERR value is out of range\r\n" },
        { "HRANDFIELD h 9223372036854775807 WITHVALUES", "-ERR value is out of range\r\n" },
        { "HRANDFIELD h 9223372036854775807", "*1\r\n$1\r\na\r\n" },
        { 0 },
    };
    harness_cases(h, cases);
    session_set_resp(&h->s, 3);
    assert_string_equal(harness_run(h, "HRANDFIELD h 5 WITHVALUES"), "*1\r\n*2\r\n$1\r\na\r\n$1\r\n1\r\n");
    assert_string_equal(harness_run(h, "HGETALL h"), "%1\r\n$1\r\na\r\n$1\r\n1\r\n");
    session_set_resp(&h->s, 2);
}

/* As many different fields as asked for, whatever the share, each about as often. */
static void test_random_fields_are_fair(void **state) {
    struct harness *h = *state;
    enum { N = 1000, ROUNDS = 300 };
    static const int counts[] = { 10, 200, 500, 900 };
    for (int i = 0; i < N; i++) {
        char line[64];
        snprintf(line, sizeof(line), "HSET big %d v", 1000 + i);
        harness_run(h, line);
    }
    for (size_t k = 0; k < sizeof(counts) / sizeof(*counts); k++) {
        static int hits[N];
        memset(hits, 0, sizeof(hits));
        char line[64], head[16];
        snprintf(line, sizeof(line), "HRANDFIELD big %d", counts[k]);
        int n_head = snprintf(head, sizeof(head), "*%d\r\n", counts[k]);
        for (int r = 0; r < ROUNDS; r++) {
            const char *reply = harness_run(h, line);
            bool seen[N] = { false };
            assert_memory_equal(reply, head, (size_t)n_head);
            for (const char *p = reply + n_head; *p; p += 10) {
                int n = (int)strtol(p + 4, NULL, 10) - 1000;
                assert_false(seen[n]);
                seen[n] = true;
                hits[n]++;
            }
        }
        /* Mean and variance of a binomial distribution: nothing further than 6 standard deviations off, and 12, since that of a
         * small mean has a long tail. */
        double p = counts[k] / (double)N, mean = ROUNDS * p, off = 6 * sqrt(ROUNDS * p * (1 - p)) + 12;
        for (int i = 0; i < N; i++) assert_true(fabs(hits[i] - mean) <= off);
    }
}

static void test_scan(void **state) {
    struct harness *h = *state;
    static const struct harness_case cases[] = {
        { "HSCAN absent 0", "*2\r\n$1\r\n0\r\n*0\r\n" },
        { "HSCAN absent x", "-ERR invalid cursor\r\n" },
        { "HSET h a 1 b 2", ":2\r\n" },
        { "HSCAN h 0", "*2\r\n$1\r\n0\r\n*4\r\n$1\r\na\r\n$1\r\n1\r\n$1\r\nb\r\n$1\r\n2\r\n" },
        { "HSCAN h 0 NOVALUES", "*2\r\n$1\r\n0\r\n*2\r\n$1\r\na\r\n$1\r\nb\r\n" },
        { "HSCAN h 0 MATCH a COUNT 1", "*2\r\n$1\r\n0\r\n*2\r\n$1\r\na\r\n$1\r\n1\r\n" },
        { "HSCAN h 0 COUNT 0", ERR_SYNTAX },
        { "HSCAN h 0 COUNT x", ERR_INT },
        { "HSCAN h 0 MATCH", ERR_SYNTAX },
        { "HSCAN h 0 TYPE hash", ERR_SYNTAX },
        { 0 },
    };
    harness_cases(h, cases);
}

#define WITH_HARNESS(test) cmocka_unit_test_setup_teardown(test, harness_setup, harness_teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        WITH_HARNESS(test_fields_are_set_and_read),
        WITH_HARNESS(test_numbers_count),
        WITH_HARNESS(test_other_types_are_refused),
        WITH_HARNESS(test_effects),
        WITH_HARNESS(test_times_of_fields_have_effects),
        WITH_HARNESS(test_bad_arguments_of_times),
        WITH_HARNESS(test_conditions),
        WITH_HARNESS(test_fields_go_at_their_time),
        WITH_HARNESS(test_due_fields_that_stay_are_hidden),
        WITH_HARNESS(test_random_fields),
        WITH_HARNESS(test_random_fields_are_fair),
        WITH_HARNESS(test_scan),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
