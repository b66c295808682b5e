/* The set family through the dispatcher: replies byte for byte, effects (events, replicated form), fairness of random picks. */
#include <math.h>

#include "test_cmd_harness.h"

#include "base/rand.h"

static void test_members_come_and_go(void **state) {
    static const struct harness_case cases[] = {
        { "SADD s 1 2 2 3", ":3\r\n" },
        { "SADD s 3", ":0\r\n" },
        { "SCARD s", ":3\r\n" },
        { "SCARD absent", ":0\r\n" },
        { "SISMEMBER s 2", ":1\r\n" },
        { "SISMEMBER s x", ":0\r\n" },
        { "SISMEMBER absent x", ":0\r\n" },
        { "SMISMEMBER s 1 x 3", "*3\r\n:1\r\n:0\r\n:1\r\n" },
        { "SMISMEMBER absent 1 x", "*2\r\n:0\r\n:0\r\n" },
        { "SMEMBERS s", "*3\r\n$1\r\n1\r\n$1\r\n2\r\n$1\r\n3\r\n" },
        { "SMEMBERS absent", "*0\r\n" },
        { "OBJECT ENCODING s", "$6\r\nintset\r\n" },
        { "SADD s a", ":1\r\n" },
        { "OBJECT ENCODING s", "$8\r\nlistpack\r\n" },
        { "SREM s a x 1", ":2\r\n" },
        { "SREM s 2 3 4", ":2\r\n" },
        { "EXISTS s", ":0\r\n" },
        { "SREM s 2", ":0\r\n" },
        { "SADD s", "-ERR wrong number of arguments for 'sadd' command\r\n" },
        { 0 },
    };
    harness_cases(*state, cases);
}

static void test_other_types_are_refused(void **state) {
    struct harness *h = *state;
    static const char *const lines[] = {
        "SADD t 1",        "SREM t 1",          "SCARD t",
        "SMEMBERS t",      "SISMEMBER t 1",     "SMISMEMBER t 1",
        "SMOVE t s 1",     "SMOVE s t 1",       "SPOP t",
        "SPOP t 1",        "SRANDMEMBER t",     "SRANDMEMBER t 1",
        "SSCAN t 0",       "SINTER s t",        "SINTER absent t",
        "SUNION t",        "SDIFF s t",         "SINTERCARD 2 s t",
        "SINTERSTORE d t", "SUNIONSTORE d s t", "SDIFFSTORE d absent t",
    };
    harness_run(h, "SET t text");
    harness_run(h, "SADD s 1");
    for (size_t i = 0; i < sizeof(lines) / sizeof(*lines); i++) assert_string_equal(harness_run(h, lines[i]), ERR_TYPE);
    assert_string_equal(harness_run(h, "SMOVE absent t 1"), ":0\r\n");
}

static void test_effects(void **state) {
    struct harness *h = *state;
    harness_effects(h, "SADD s 1 2 3", ":3\r\n", "n:new s@0;s:sadd s@0;");
    harness_effects(h, "SADD s 1", ":0\r\n", "");
    harness_effects(h, "SREM s x", ":0\r\n", "");
    harness_effects(h, "SREM s 3", ":1\r\n", "s:srem s@0;");
    harness_effects(h, "SMOVE s d 1", ":1\r\n", "s:srem s@0;n:new d@0;s:sadd d@0;");
    harness_effects(h, "SMOVE s d 1", ":0\r\n", "");
    harness_effects(h, "SMOVE s d 2", ":1\r\n", "s:srem s@0;g:del s@0;s:sadd d@0;");
    harness_effects(h, "SMOVE d d 2", ":1\r\n", "");
    harness_effects(h, "SMOVE d d x", ":0\r\n", "");
    harness_effects(h, "SPOP d 0", "*0\r\n", "");
    harness_effects(h, "SADD one 7", ":1\r\n", "*");
    harness_effects(h, "SPOP one", "$1\r\n7\r\n", "=> SREM one 7;s:spop one@0;g:del one@0;");
    harness_effects(h, "SPOP one", NIL, "");
    harness_effects(h, "SPOP d 5", "*2\r\n$1\r\n1\r\n$1\r\n2\r\n", "=> DEL d;s:spop d@0;g:del d@0;");
}

static void test_pop_counts(void **state) {
    struct harness *h = *state;
    static const struct harness_case cases[] = {
        { "SPOP absent", NIL },
        { "SPOP absent 3", "*0\r\n" },
        { "SADD s a", ":1\r\n" },
        { "SPOP s -1", "-ERR value is out of range, must be positive\r\n" },
        { "SPOP s x", "-ERR value is out of range, must be positive\r\n" },
        { "SPOP s 1 2", ERR_SYNTAX },
        { "SPOP s 0", "*0\r\n" },
        { "SRANDMEMBER absent", NIL },
        { "SRANDMEMBER absent 3", "*0\r\n" },
        { "SRANDMEMBER s", "$1\r\na\r\n" },
        { "SRANDMEMBER s 3", "*1\r\n$1\r\na\r\n" },
        { "SRANDMEMBER s -2", "*2\r\n$1\r\na\r\n$1\r\na\r\n" },
        { "SRANDMEMBER s 0", "*0\r\n" },
        { "SRANDMEMBER s x", ERR_INT },
        { "SRANDMEMBER s 1 2", ERR_SYNTAX },
        { "SRANDMEMBER s -9223372036854775807", "-ERR value is out of range\r\n" },
        { 0 },
    };
    harness_cases(h, cases);
    session_set_resp(&h->s, 3);
    assert_string_equal(harness_run(h, "SRANDMEMBER s 3"), "*1\r\n$1\r\na\r\n");
    assert_string_equal(harness_run(h, "SMEMBERS s"), "~1\r\n$1\r\na\r\n");
    assert_string_equal(harness_run(h, "SPOP s 3"), "~1\r\n$1\r\na\r\n");
    assert_string_equal(harness_run(h, "SPOP s 3"), "~0\r\n");
    assert_string_equal(harness_run(h, "SINTER s"), "~0\r\n");
    session_set_resp(&h->s, 2);
}

static void test_operations(void **state) {
    static const struct harness_case cases[] = {
        { "SADD a 1 2 3 4", ":4\r\n" },
        { "SADD b 2 3 4 x", ":4\r\n" },
        { "SADD c 3 x", ":2\r\n" },
        { "SINTER a b c", "*1\r\n$1\r\n3\r\n" },
        { "SINTER a a", "*4\r\n$1\r\n1\r\n$1\r\n2\r\n$1\r\n3\r\n$1\r\n4\r\n" },
        { "SINTER a absent", "*0\r\n" },
        { "SINTERCARD 2 a b", ":3\r\n" },
        { "SINTERCARD 2 a b LIMIT 2", ":2\r\n" },
        { "SINTERCARD 2 a b LIMIT 0", ":3\r\n" },
        { "SINTERCARD 2 a absent", ":0\r\n" },
        { "SINTERCARD 0 a", "-ERR numkeys should be greater than 0\r\n" },
        { "SINTERCARD x a", "-ERR numkeys should be greater than 0\r\n" },
        { "SINTERCARD 3 a b", "-ERR Number of keys can't be greater than number of args\r\n" },
        { "SINTERCARD 2 a b LIMIT -1", "-ERR LIMIT can't be negative\r\n" },
        { "SINTERCARD 2 a b LIMIT x", "-ERR LIMIT can't be negative\r\n" },
        { "SINTERCARD 2 a b LIMIT", ERR_SYNTAX },
        { "SINTERCARD 1 a b", ERR_SYNTAX },
        { "SUNION c", "*2\r\n$1\r\n3\r\n$1\r\nx\r\n" },
        { "SUNION absent c", "*2\r\n$1\r\n3\r\n$1\r\nx\r\n" },
        { "SUNION absent", "*0\r\n" },
        { "SUNION a c", "*5\r\n$1\r\n1\r\n$1\r\n2\r\n$1\r\n3\r\n$1\r\n4\r\n$1\r\nx\r\n" },
        { "SDIFF a b", "*1\r\n$1\r\n1\r\n" },
        { "SDIFF a b a", "*0\r\n" },
        { "SDIFF absent a", "*0\r\n" },
        { "SDIFF a absent c", "*3\r\n$1\r\n1\r\n$1\r\n2\r\n$1\r\n4\r\n" },
        { "SDIFF a c absent absent absent absent", "*3\r\n$1\r\n1\r\n$1\r\n2\r\n$1\r\n4\r\n" },
        { "SINTERSTORE d a b", ":3\r\n" },
        { "OBJECT ENCODING d", "$6\r\nintset\r\n" },
        { "SINTERSTORE d c b", ":2\r\n" },
        { "OBJECT ENCODING d", "$8\r\nlistpack\r\n" },
        { "SUNIONSTORE a a c", ":5\r\n" },
        { "SDIFFSTORE a a c", ":3\r\n" },
        { "SMEMBERS a", "*3\r\n$1\r\n1\r\n$1\r\n2\r\n$1\r\n4\r\n" },
        { "SINTERSTORE a a absent", ":0\r\n" },
        { "EXISTS a", ":0\r\n" },
        { 0 },
    };
    harness_cases(*state, cases);
}

static void test_stored_results_have_effects(void **state) {
    struct harness *h = *state;
    harness_run(h, "SADD a 1 2");
    harness_run(h, "SET str text");
    harness_effects(h, "SINTERSTORE d a a", ":2\r\n", "n:new d@0;s:sinterstore d@0;");
    harness_effects(h, "SUNIONSTORE d a", ":2\r\n", "s:sunionstore d@0;");
    harness_effects(h, "SDIFFSTORE str a absent", ":2\r\n", "m:keymiss absent@0;s:sdiffstore str@0;");
    harness_effects(h, "SDIFFSTORE d a a", ":0\r\n", "g:del d@0;");
    harness_effects(h, "SDIFFSTORE d a a", ":0\r\n", "");
    assert_string_equal(harness_run(h, "TYPE str"), "+set\r\n");
}

/* Members "1000".."1999", or words of the same length with it. */
static void fill(struct harness *h, const char *key, int n, char letter) {
    char line[64];
    for (int i = 0; i < n; i++) {
        if (letter)
            snprintf(line, sizeof(line), "SADD %s %c%d", key, letter, 1000 + i);
        else
            snprintf(line, sizeof(line), "SADD %s %d", key, 1000 + i);
        harness_run(h, line);
    }
}

static const char *head_of(char *buf, size_t cap, int n) {
    snprintf(buf, cap, "*%d\r\n", n);
    return buf;
}

static void random_members(struct harness *h, const char *command, const char *key, int size, int count, bool is_letter) {
    enum { N = 1000, ROUNDS = 200 };
    static int hits[N];
    memset(hits, 0, sizeof(hits));
    char line[64], head[16];
    for (int r = 0; r < ROUNDS; r++) {
        bool seen[N] = { false };
        snprintf(line, sizeof(line), "COPY %s work REPLACE", key);
        harness_run(h, line);
        snprintf(line, sizeof(line), "%s work %d", command, count);
        const char *reply = harness_run(h, line);
        size_t n_head = strlen(head_of(head, sizeof(head), count));
        assert_memory_equal(reply, head, n_head);
        for (const char *p = reply + n_head; *p; p += is_letter ? 11 : 10) {
            int n = (int)strtol(p + 4 + is_letter, NULL, 10) - 1000;
            assert_true(n >= 0 && n < size && !seen[n]);
            seen[n] = true;
            hits[n]++;
        }
        if (command[1] != 'P') continue;
        int64_t left = strtoll(harness_run(h, "SCARD work") + 1, NULL, 10);
        assert_int_equal(left, size - count);
    }
    double p = count / (double)size, mean = ROUNDS * p, off = 6 * sqrt(ROUNDS * p * (1 - p)) + 12;
    for (int i = 0; i < size; i++) assert_true(fabs(hits[i] - mean) <= off);
}

static void test_random_members_are_fair_and_different(void **state) {
    struct harness *h = *state;
    fill(h, "ints", 400, 0);
    fill(h, "lp", 100, 'w');
    fill(h, "table", 1000, 'w');
    static const char *const commands[] = { "SRANDMEMBER", "SPOP" };
    for (int i = 0; i < 2; i++) {
        random_members(h, commands[i], "ints", 400, 10, false);
        random_members(h, commands[i], "ints", 400, 390, false);
        random_members(h, commands[i], "lp", 100, 2, true);
        random_members(h, commands[i], "lp", 100, 60, true);
        random_members(h, commands[i], "table", 1000, 5, true);
        random_members(h, commands[i], "table", 1000, 500, true);
        random_members(h, commands[i], "table", 1000, 990, true);
    }
    assert_string_equal(harness_run(h, "OBJECT ENCODING work"), "$9\r\nhashtable\r\n");
}

/* What SPOP took is replicated in full, in several SREM where it is much. */
static void test_pop_is_replicated_as_removals(void **state) {
    struct harness *h = *state;
    fill(h, "s", 3000, 'w');
    const char *reply = harness_run(h, "SPOP s 2500");
    int n = 0, batches = 0;
    for (const char *p = reply + strlen("*2500\r\n"); *p; p += 11) {
        char word[16];
        snprintf(word, sizeof(word), " %.5s", p + 4);
        assert_non_null(strstr(buf_cstr(&h->log), word));
        n++;
    }
    for (const char *p = buf_cstr(&h->log); (p = strstr(p, "=> SREM s ")); p++) batches++;
    assert_int_equal(n, 2500);
    assert_int_equal(batches, 3);
}

/* Operations on larger sets of all encodings against counting. */
static void test_operations_match_counting(void **state) {
    struct harness *h = *state;
    enum { N = 300, SETS = 4 };
    static bool in[SETS][N];
    for (int round = 0; round < 30; round++) {
        harness_run(h, "FLUSHALL");
        memset(in, 0, sizeof(in));
        for (int s = 0; s < SETS; s++) {
            uint64_t share = 1 + rand_below(10);
            for (int i = 0; i < N; i++) {
                char line[64];
                if (rand_below(10) >= share) continue;
                in[s][i] = true;
                snprintf(line, sizeof(line), s == 0 && round % 2 ? "SADD s%d w%d" : "SADD s%d %d", s, i);
                harness_run(h, line);
            }
        }
        int inter = 0, uni = 0, diff = 0;
        bool words = round % 2;
        for (int i = 0; i < N; i++) {
            int others = in[1][i] + in[2][i] + in[3][i];
            inter += others == 3 && (words || in[0][i]);
            uni += words ? (others > 0) + in[0][i] : others + in[0][i] > 0;
            diff += in[0][i] && (words || others == 0);
        }
        const char *first = words ? "s1" : "s0";
        char line[64];
        snprintf(line, sizeof(line), "SINTERSTORE d %s s1 s2 s3", first);
        assert_int_equal(strtol(harness_run(h, line) + 1, NULL, 10), inter);
        assert_int_equal(strtol(harness_run(h, "SUNIONSTORE d s0 s1 s2 s3") + 1, NULL, 10), uni);
        assert_int_equal(strtol(harness_run(h, "SDIFFSTORE d s0 s1 s2 s3") + 1, NULL, 10), diff);
        assert_int_equal(strtol(harness_run(h, "SDIFF s0 s1 s2 s3") + 1, NULL, 10), diff);
        assert_int_equal(strtol(harness_run(h, "SUNION s0 s1 s2 s3") + 1, NULL, 10), uni);
    }
}

static void test_scan(void **state) {
    struct harness *h = *state;
    static const struct harness_case cases[] = {
        { "SSCAN absent 0", "*2\r\n$1\r\n0\r\n*0\r\n" },
        { "SADD s 1 2 a", ":3\r\n" },
        { "SSCAN s 0", "*2\r\n$1\r\n0\r\n*3\r\n$1\r\n1\r\n$1\r\n2\r\n$1\r\na\r\n" },
        { "SSCAN s 0 MATCH a", "*2\r\n$1\r\n0\r\n*1\r\n$1\r\na\r\n" },
        { "SSCAN s 0 NOVALUES", "-ERR NOVALUES option can only be used in HSCAN\r\n" },
        { "SSCAN s 0 COUNT 0", ERR_SYNTAX },
        { "SSCAN s x", "-ERR invalid cursor\r\n" },
        { 0 },
    };
    harness_cases(h, cases);
    fill(h, "big", 2000, 'w');
    static bool seen[2000];
    memset(seen, 0, sizeof(seen));
    char cursor[32] = "0", line[64];
    int calls = 0;
    do {
        snprintf(line, sizeof(line), "SSCAN big %s COUNT 50", cursor);
        const char *p = harness_run(h, line);
        p = strchr(p + 4, '\n') + 1;
        size_t len = strcspn(p, "\r");
        memcpy(cursor, p, len);
        cursor[len] = 0;
        for (p = strchr(p + len + 2, '\n') + 1; *p; p += 11) seen[strtol(p + 5, NULL, 10) - 1000] = true;
        calls++;
    } while (strcmp(cursor, "0") != 0);
    for (int i = 0; i < 2000; i++) assert_true(seen[i]);
    assert_true(calls > 10 && calls < 60);
}

#define WITH_HARNESS(test) cmocka_unit_test_setup_teardown(test, harness_setup, harness_teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        WITH_HARNESS(test_members_come_and_go),
        WITH_HARNESS(test_other_types_are_refused),
        WITH_HARNESS(test_effects),
        WITH_HARNESS(test_pop_counts),
        WITH_HARNESS(test_operations),
        WITH_HARNESS(test_stored_results_have_effects),
        WITH_HARNESS(test_random_members_are_fair_and_different),
        WITH_HARNESS(test_pop_is_replicated_as_removals),
        WITH_HARNESS(test_operations_match_counting),
        WITH_HARNESS(test_scan),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
