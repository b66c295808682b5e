/* Looking ahead in a pipeline: what is taken into a batch, and that it changes no answer. */
#include "test_cmd_harness.h"

#include "cmd/batch.h"

#define N_KEYS 700000 /* enough for tables that are worth it */

static bool add(struct harness *h, struct batch *b, int argc, const struct slice *argv) {
    return batch_add(b, &h->eng, &h->s, argc, argv, 0);
}

#define ADD(...) add(h, &b, sizeof((struct slice[]){ __VA_ARGS__ }) / sizeof(struct slice), (struct slice[]){ __VA_ARGS__ })
#define L(text) SLICE_LIT(text)

static void test_only_plain_commands_of_one_key_are_taken(void **state) {
    struct harness *h = *state;
    struct batch b = { 0 };
    assert_true(ADD(L("GET"), L("k")));
    assert_true(ADD(L("set"), L("k"), L("v"), L("EX"), L("10")));
    assert_true(ADD(L("INCR"), L("k")));
    assert_int_equal(b.n, 3);
    assert_false(ADD(L("GET"))); /* arity */
    assert_false(ADD(L("NOSUCH"), L("k")));
    assert_false(ADD(L("MGET"), L("a"), L("b"))); /* several keys */
    assert_false(ADD(L("RENAME"), L("a"), L("b")));
    assert_false(ADD(L("KEYS"), L("*")));
    assert_false(ADD(L("MULTI")));
    assert_false(ADD(L("EXEC")));
    assert_false(ADD(L("WATCH"), L("k")));
    assert_false(ADD(L("SCAN"), L("0")));
    assert_false(ADD(L("SET"), L("k"), L("v"), L("EX"), L("10"), L("NX"), L("GET"), L("a"), L("b"))); /* too many arguments */
    assert_int_equal(b.n, 3);
    while (b.n < BATCH_MAX) assert_true(ADD(L("GET"), L("k")));
    assert_false(ADD(L("GET"), L("k")));
    assert_string_equal(harness_run(h, "MULTI"), "+OK\r\n");
    b.n = 0;
    assert_false(ADD(L("GET"), L("k")));
    assert_string_equal(harness_run(h, "DISCARD"), "+OK\r\n");
}

static const char *drain(struct harness *h) {
    buf_clear(&h->reply);
    buf_reserve(&h->reply, h->out.bytes + 1);
    h->reply.len = obuf_copy(&h->out, h->reply.data, h->out.bytes);
    obuf_clear(&h->out);
    return buf_cstr(&h->reply);
}

static void run(struct harness *h, struct batch *b) {
    batch_prefetch(b, &h->eng, &h->s);
    for (int i = 0; i < b->n; i++) assert_int_equal(batch_run(b, i, &h->eng, &h->s), DISPATCH_OK);
    b->n = 0;
}

/* Each sees what the one before did, its key's disappearance included. */
static void test_commands_run_in_order(void **state) {
    struct harness *h = *state;
    struct batch b = { 0 };
    char key[] = "k";
    struct slice k = { key, 1 };
    ADD(L("SET"), k, L("5"));
    ADD(L("INCR"), k);
    ADD(L("GET"), k);
    ADD(L("GETDEL"), k);
    ADD(L("GET"), k);
    ADD(L("APPEND"), k, L("xy"));
    ADD(L("INCR"), k);
    ADD(L("STRLEN"), k);
    run(h, &b);
    assert_string_equal(drain(h),
                        "+OK\r\n:6\r\n$1\r\n6\r\n$1\r\n6\r\n$-1\r\n:2\r\n-ERR value is not an integer or out of range\r\n:2\r\n");
    /* The memory of a key may hold another one afterwards. */
    key[0] = 'q';
    assert_string_equal(harness_run(h, "SET q 1"), "+OK\r\n");
    struct slice argv[] = { L("GET"), k };
    assert_string_equal(harness_run_argv(h, 2, argv), "$1\r\n1\r\n");
}

static const char *refuse(void *arg, struct session *s, const struct cmd *cmd, int argc, const struct slice *argv,
                          bool *postpone) {
    (void)arg, (void)s, (void)cmd, (void)argc, (void)argv, (void)postpone;
    return "OOM no";
}

static void test_a_refused_command_leaves_no_hint(void **state) {
    struct harness *h = *state;
    struct batch b = { 0 };
    char key[] = "a";
    struct slice k = { key, 1 };
    harness_run(h, "SET b 2");
    ADD(L("GET"), k);
    h->eng.hooks.before = refuse;
    run(h, &b);
    h->eng.hooks.before = NULL;
    assert_string_equal(drain(h), "-OOM no\r\n");
    key[0] = 'b';
    ks_lock(h->ks, 255);
    assert_non_null(ks_find(h->ks, 0, k, 1, KS_FIND_NO_TOUCH));
    ks_unlock(h->ks, 255);
}

/* Large tables, rehashing on the way; present and absent keys. */
static void test_large_tables(void **state) {
    struct harness *h = *state;
    char text[BATCH_MAX][24];
    struct batch ask = { 0 };
    for (int i = 0; i < 70; i++) assert_false(batch_begin(&ask, &h->eng, &h->s)); /* not worth it yet */
    for (int i = 0; i < N_KEYS; i++) {
        int n = snprintf(text[0], sizeof text[0], "key:%d", i);
        struct slice argv[] = { L("SET"), { text[0], (size_t)n }, { text[0] + 4, (size_t)n - 4 } };
        assert_int_equal(dispatch(&h->eng, &h->s, 3, argv), DISPATCH_OK);
        obuf_clear(&h->out);
    }
    assert_true(batch_begin(&ask, &h->eng, &h->s));
    for (int i = 0; i < 2 * N_KEYS; i += 97 * BATCH_MAX) {
        struct batch b = { 0 };
        struct buf want = { 0 };
        for (int j = 0; j < BATCH_MAX; j++) {
            int at = i + 97 * j, n = snprintf(text[j], sizeof text[j], "key:%d", at);
            struct slice argv[] = { L("GET"), { text[j], (size_t)n } };
            assert_true(add(h, &b, 2, argv));
            if (at < N_KEYS)
                buf_printf(&want, "$%d\r\n%d\r\n", n - 4, at);
            else
                buf_append_cstr(&want, "$-1\r\n");
        }
        run(h, &b);
        assert_string_equal(drain(h), buf_cstr(&want));
        buf_done(&want);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_only_plain_commands_of_one_key_are_taken, harness_setup, harness_teardown),
        cmocka_unit_test_setup_teardown(test_commands_run_in_order, harness_setup, harness_teardown),
        cmocka_unit_test_setup_teardown(test_a_refused_command_leaves_no_hint, harness_setup, harness_teardown),
        cmocka_unit_test_setup_teardown(test_large_tables, harness_setup, harness_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
