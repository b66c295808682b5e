/* The dispatcher's gate: what the `before` hook allowed must not happen once the gate has been closed behind it (CLIENT PAUSE on
 * another thread, between the hook and the locks), for single commands and for EXEC; and the hook is asked again. */
#include "cmd/figures.h"
#include "test_cmd_harness.h"

static int asked;
static bool refuse_later; /* from the second call on: an error instead of "later" */

/* The first time: allowed, and the gate is closed at once, as by another thread. Then: not allowed. */
static const char *before(void *arg, struct session *s, const struct cmd *cmd, int argc, const struct slice *argv,
                          bool *ret_postpone) {
    struct harness *h = arg;
    (void)s;
    (void)argc;
    (void)argv;
    if (!(cmd->flags & (CMD_WRITE | CMD_IS_EXEC))) return NULL;
    if (asked++ == 0) {
        atomic_fetch_add(&h->eng.gate, 1);
        return NULL;
    }
    *ret_postpone = !refuse_later;
    return refuse_later ? "ERR refused now" : NULL;
}

static enum dispatch_result run_words(struct harness *h, int argc, const struct slice *argv) {
    enum dispatch_result r = dispatch(&h->eng, &h->s, argc, argv);
    buf_clear(&h->reply);
    buf_reserve(&h->reply, h->out.bytes + 1);
    h->reply.len = obuf_copy(&h->out, h->reply.data, h->out.bytes);
    obuf_clear(&h->out);
    return r;
}

static void close_gate_behind_next_command(struct harness *h, bool refuse) {
    asked = 0;
    refuse_later = refuse;
    h->eng.hooks.before = before;
}

static void test_dispatch_gate_closed_behind_hook_postpones(void **state) {
    struct harness *h = *state;
    const struct slice set[] = { SLICE_LIT("set"), SLICE_LIT("k"), SLICE_LIT("v") };
    close_gate_behind_next_command(h, false);
    assert_int_equal(run_words(h, 3, set), DISPATCH_POSTPONED);
    assert_int_equal(asked, 2);
    assert_int_equal(h->reply.len, 0);
    h->eng.hooks.before = NULL;
    assert_string_equal(harness_run(h, "exists k"), ":0\r\n");
    assert_int_equal(run_words(h, 3, set), DISPATCH_OK);
    assert_string_equal(harness_run(h, "get k"), "$1\r\nv\r\n");
    uint64_t calls, usec;
    figures_of(h->eng.figures, cmd_lookup(h->table, set[0]), &calls, &usec);
    assert_int_equal(calls, 1);
}

static void test_dispatch_gate_closed_behind_hook_refuses(void **state) {
    struct harness *h = *state;
    close_gate_behind_next_command(h, true);
    assert_string_equal(harness_run(h, "set k v"), "-ERR refused now\r\n");
    assert_string_equal(harness_run(h, "exists k"), ":0\r\n");
}

static void test_dispatch_gate_closed_behind_exec_keeps_transaction(void **state) {
    struct harness *h = *state;
    const struct slice exec[] = { SLICE_LIT("exec") };
    harness_run(h, "watch w");
    harness_run(h, "multi");
    assert_string_equal(harness_run(h, "set k v"), "+QUEUED\r\n");
    close_gate_behind_next_command(h, false);
    assert_int_equal(run_words(h, 1, exec), DISPATCH_POSTPONED);
    assert_int_equal(h->reply.len, 0);
    assert_true(h->s.in_multi);
    assert_int_equal(h->s.n_watches, 1);
    h->eng.hooks.before = NULL;
    assert_string_equal(harness_run(h, "exec"), "*1\r\n+OK\r\n");
    assert_string_equal(harness_run(h, "get k"), "$1\r\nv\r\n");
}

static void test_dispatch_unknown_subcommand_names_command_as_typed(void **state) {
    struct harness *h = *state;
    assert_int_equal(cmd_table_rename(h->table, "object", "thing"), 0);
    assert_string_equal(harness_run(h, "Thing nosuch k"), "-ERR unknown subcommand 'nosuch'. Try THING HELP.\r\n");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_dispatch_gate_closed_behind_hook_postpones, harness_setup, harness_teardown),
        cmocka_unit_test_setup_teardown(test_dispatch_gate_closed_behind_hook_refuses, harness_setup, harness_teardown),
        cmocka_unit_test_setup_teardown(test_dispatch_gate_closed_behind_exec_keeps_transaction, harness_setup, harness_teardown),
        cmocka_unit_test_setup_teardown(test_dispatch_unknown_subcommand_names_command_as_typed, harness_setup, harness_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
