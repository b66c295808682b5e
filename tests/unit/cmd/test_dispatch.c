/* The dispatcher's gate: what the `before` hook allowed must not happen once the gate has been closed behind it (CLIENT PAUSE on
 * another thread, between the hook and the locks), for single commands and for EXEC; and the hook is asked again. And what
 * becomes of the lock of a command that is followed by others. */
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
        engine_move_gate(&h->eng);
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

/* ---- locks that are kept from one command of a row to the next ---- */

static bool is_kept(struct harness *h, const char *key) {
    int shard = ks_shard_of(h->ks, slice_cstr(key));
    if (!ks_trylock_shard(h->ks, shard)) return true;
    ks_unlock(h->ks, 1ULL << shard);
    return false;
}

/* However slow the machine is. */
static int setup_patient(void **state) {
    int r = harness_setup(state);
    ((struct harness *)*state)->eng.keep_below_us = UINT64_MAX;
    return r;
}

/* Once for a new shard, or for others to have their chance, and once more. */
static bool runs_and_keeps(struct harness *h, const char *line, const char *key) {
    harness_run(h, line);
    if (!is_kept(h, key)) harness_run(h, line);
    return is_kept(h, key);
}

static void test_dispatch_keeps_no_lock_after_slow_command(void **state) {
    struct harness *h = *state;
    h->s.in_row = true;
    assert_true(runs_and_keeps(h, "set k v", "k"));
    h->eng.keep_below_us = 0;
    assert_false(runs_and_keeps(h, "set k v", "k"));
}

static void test_dispatch_keeps_lock_within_row(void **state) {
    struct harness *h = *state;
    assert_false(runs_and_keeps(h, "set k v", "k"));
    h->s.in_row = true;
    assert_true(runs_and_keeps(h, "set k v", "k"));
    assert_string_equal(harness_run(h, "get k"), "$1\r\nv\r\n");
    assert_string_equal(harness_run(h, "append k w"), ":2\r\n");
    assert_true(runs_and_keeps(h, "get k", "k"));
    assert_int_not_equal(ks_shard_of(h->ks, SLICE_LIT("k")), ks_shard_of(h->ks, SLICE_LIT("q")));
    harness_run(h, "set q v"); /* another shard */
    assert_false(is_kept(h, "k"));
    assert_true(runs_and_keeps(h, "get k", "k"));
    ks_let_go();
    assert_false(is_kept(h, "k"));
}

/* Others get their chance at least as often as KS_KEEP_MAX says. */
static void test_dispatch_gives_kept_lock_back_now_and_then(void **state) {
    struct harness *h = *state;
    int run = 0, longest = 0;
    h->s.in_row = true;
    for (int i = 0; i < 2000; i++) {
        harness_run(h, "incr k");
        run = is_kept(h, "k") ? run + 1 : 0;
        if (run > longest) longest = run;
    }
    h->s.in_row = false;
    assert_string_equal(harness_run(h, "get k"), "$4\r\n2000\r\n");
    assert_false(is_kept(h, "k"));
    assert_in_range(longest, 1, KS_KEEP_MAX);
}

static void test_dispatch_keeps_no_lock_over_what_is_no_look_up(void **state) {
    struct harness *h = *state;
    const char *const lines[] = { "randomkey", "multi", "nosuch k", "get", "get k", "exec", "object freq q", "mget k q z" };
    h->s.in_row = true;
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        if (!h->s.in_multi) assert_true(runs_and_keeps(h, "set k v", "k"));
        harness_run(h, lines[i]);
        if (is_kept(h, "k")) print_error("after %s\n", lines[i]);
        assert_false(is_kept(h, "k"));
    }
    assert_true(runs_and_keeps(h, "set k v", "k"));
    close_gate_behind_next_command(h, false);
    assert_int_equal(run_words(h, 3, (const struct slice[]){ SLICE_LIT("set"), SLICE_LIT("k"), SLICE_LIT("v") }),
                     DISPATCH_POSTPONED);
    h->eng.hooks.before = NULL;
    assert_false(is_kept(h, "k"));
}

/* Who waits is served before the next command of the row, and what it needs besides is locked then. */
static void test_dispatch_serves_between_commands_of_row(void **state) {
    struct harness *h = *state;
    h->s.in_row = true;
    assert_true(runs_and_keeps(h, "exists k", "k"));
    ks_let_go();
    assert_string_equal(harness_run_as(h, 0, "blmove k q left right 0"), "");
    assert_true(runs_and_keeps(h, "exists k", "k"));
    assert_string_equal(harness_run(h, "rpush k a b"), ":2\r\n");
    assert_false(is_kept(h, "k"));
    assert_string_equal(harness_reply(h, 0), "$1\r\na\r\n");
    assert_string_equal(harness_run(h, "lrange k 0 -1"), "*1\r\n$1\r\nb\r\n");
    assert_string_equal(harness_run(h, "lrange q 0 -1"), "*1\r\n$1\r\na\r\n");
    ks_let_go();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_dispatch_gate_closed_behind_hook_postpones, harness_setup, harness_teardown),
        cmocka_unit_test_setup_teardown(test_dispatch_gate_closed_behind_hook_refuses, harness_setup, harness_teardown),
        cmocka_unit_test_setup_teardown(test_dispatch_gate_closed_behind_exec_keeps_transaction, harness_setup, harness_teardown),
        cmocka_unit_test_setup_teardown(test_dispatch_unknown_subcommand_names_command_as_typed, harness_setup, harness_teardown),
        cmocka_unit_test_setup_teardown(test_dispatch_keeps_lock_within_row, setup_patient, harness_teardown),
        cmocka_unit_test_setup_teardown(test_dispatch_keeps_no_lock_after_slow_command, setup_patient, harness_teardown),
        cmocka_unit_test_setup_teardown(test_dispatch_gives_kept_lock_back_now_and_then, setup_patient, harness_teardown),
        cmocka_unit_test_setup_teardown(test_dispatch_keeps_no_lock_over_what_is_no_look_up, setup_patient, harness_teardown),
        cmocka_unit_test_setup_teardown(test_dispatch_serves_between_commands_of_row, setup_patient, harness_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
