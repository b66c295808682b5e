/* Blocking commands, with three made for the test: a key holds a string, each byte of which is an element.
 *
 *   qput key bytes              appends; replies the length, before anybody is served
 *   qtake key... timeout        the first byte of the first key that has one, with the key's name
 *   qmove from to timeout       first byte of `from` to the end of `to`; WRONGTYPE when that is no string
 *   qpeek key n timeout         the bytes from the nth on, when there are any; an error when there is no key (as XREADGROUP) */
#include <pthread.h>

#include "base/rand.h"
#include "cmd/figures.h"
#include "test_cmd_harness.h"

static struct entry *find(struct cmd_ctx *c, struct slice key) {
    return ks_find(c->ks, c->db, key, c->now_ms, KS_FIND_WRITE);
}

static void append(struct cmd_ctx *c, struct slice key, struct slice bytes) {
    struct entry *e = find(c, key);
    char tmp[STR_LL_MAX];
    struct slice old = e ? obj_string_bytes(entry_value(e), tmp) : SLICE_LIT("");
    struct obj *o = obj_string_new_raw(old.len + bytes.len);
    char *p = obj_string_own(&o, 0);
    memcpy(p, old.ptr, old.len);
    memcpy(p + old.len, bytes.ptr, bytes.len);
    if (e) {
        obj_unref(*entry_value_slot(e));
        *entry_value_slot(e) = o; /* in place: only the command knows */
        cmd_signal_ready(c, c->db, key);
    } else {
        ks_set(c->ks, c->db, key, o, false);
    }
    cmd_modified(c, c->db, key);
}

static bool pop(struct cmd_ctx *c, struct slice key, char *ret) {
    struct entry *e = find(c, key);
    if (!e || entry_value(e)->type != OBJ_STRING) return false;
    char tmp[STR_LL_MAX];
    struct slice s = obj_string_bytes(entry_value(e), tmp);
    *ret = s.ptr[0];
    if (s.len == 1) {
        ks_delete(c->ks, c->db, key, false);
    } else {
        struct obj *rest = obj_string_new_text(s.ptr + 1, s.len - 1);
        obj_unref(*entry_value_slot(e));
        *entry_value_slot(e) = rest;
    }
    cmd_modified(c, c->db, key);
    return true;
}

static void put_command(struct cmd_ctx *c) {
    append(c, c->argv[1], c->argv[2]);
    char tmp[STR_LL_MAX];
    reply_int(c->r, (int64_t)obj_string_bytes(entry_value(find(c, c->argv[1])), tmp).len);
}

static void take_command(struct cmd_ctx *c) {
    int64_t deadline;
    char byte;
    if (!cmd_arg_timeout(c, c->argv[c->argc - 1], CMD_TIMEOUT_SECONDS, &deadline)) return;
    for (int i = 1; i < c->argc - 1; i++) {
        if (!pop(c, c->argv[i], &byte)) continue;
        reply_array(c->r, 2);
        reply_bulk_slice(c->r, c->argv[i]);
        reply_bulk(c->r, &byte, 1);
        cmd_propagate(c, 2, (struct slice[]){ SLICE_LIT("take1"), c->argv[i] });
        return;
    }
    struct cmd_block b = { .keys = c->argv + 1, .n_keys = c->argc - 2, .type = OBJ_STRING, .deadline_us = deadline };
    b.timed_out = reply_null_array;
    cmd_block_on_keys(c, &b);
}

static void move_command(struct cmd_ctx *c) {
    int64_t deadline;
    char byte;
    if (!cmd_arg_timeout(c, c->argv[3], CMD_TIMEOUT_SECONDS, &deadline)) return;
    struct entry *to = find(c, c->argv[2]), *from = find(c, c->argv[1]);
    if (from && to && entry_value(to)->type != OBJ_STRING) {
        cmd_wrongtype(c);
    } else if (pop(c, c->argv[1], &byte)) {
        append(c, c->argv[2], (struct slice){ &byte, 1 });
        reply_bulk(c->r, &byte, 1);
    } else {
        struct cmd_block b = { .keys = c->argv + 1, .n_keys = 1, .type = OBJ_STRING, .deadline_us = deadline };
        b.timed_out = reply_null;
        cmd_block_on_keys(c, &b);
    }
}

static void peek_command(struct cmd_ctx *c) {
    int64_t from, deadline;
    char tmp[STR_LL_MAX];
    if (!cmd_arg_timeout(c, c->argv[3], CMD_TIMEOUT_MS, &deadline)) return;
    struct entry *e = find(c, c->argv[1]);
    if (!e) {
        reply_error(c->r, "NOGROUP nothing there");
        return;
    }
    if (entry_value(e)->type != OBJ_STRING) {
        cmd_wrongtype(c);
        return;
    }
    struct slice s = obj_string_bytes(entry_value(e), tmp);
    if (slice_eq(c->argv[2], SLICE_LIT("$"))) {
        from = (int64_t)s.len;
    } else if (!cmd_arg_ll(c, c->argv[2], &from, NULL)) {
        return;
    }
    if (from < (int64_t)s.len) {
        reply_bulk(c->r, s.ptr + from, s.len - (size_t)from);
        return;
    }
    char text[24];
    int n = snprintf(text, sizeof text, "%lld", (long long)from);
    struct slice argv[] = { c->argv[0], c->argv[1], { text, (size_t)n }, c->argv[3] };
    struct cmd_block b = { .keys = c->argv + 1, .n_keys = 1, .type = OBJ_STRING, .on_nokey = true, .deadline_us = deadline };
    b.timed_out = reply_null_array;
    b.argv = argv;
    b.argc = 4;
    cmd_block_on_keys(c, &b);
}

#define ONE_KEY(at)                                                                                                              \
    { .flags = KEY_RW, .begin = KEY_BEGIN_INDEX, .index = (at), .find = KEY_FIND_RANGE, .lastkey = 0, .keystep = 1 }

static const struct cmd_spec specs[] = {
    { .name = "qput", .run = put_command, .arity = 3, .flags = CMD_WRITE, .keys = { ONE_KEY(1) } },
    { .name = "qtake",
      .run = take_command,
      .arity = -3,
      .flags = CMD_WRITE | CMD_BLOCKING,
      .keys = { { .flags = KEY_RW,
                  .begin = KEY_BEGIN_INDEX,
                  .index = 1,
                  .find = KEY_FIND_RANGE,
                  .lastkey = -2,
                  .keystep = 1 } } },
    { .name = "qmove", .run = move_command, .arity = 4, .flags = CMD_WRITE | CMD_BLOCKING, .keys = { ONE_KEY(1), ONE_KEY(2) } },
    { .name = "qpeek", .run = peek_command, .arity = 4, .flags = CMD_READONLY | CMD_BLOCKING, .keys = { ONE_KEY(1) } },
    { 0 },
};

static int block_setup(void **state) {
    struct harness *h = mem_zalloc(sizeof(*h));
    *state = h;
    harness_init(h, specs);
    return 0;
}

#define NILS "*-1\r\n"

static uint64_t blocked_keys(struct harness *h) {
    uint64_t n, nokey;
    ks_blocked_keys(h->ks, &n, &nokey);
    return n;
}

/* Nobody waits: no trace of it is left in the tables. */
static void assert_no_waiter(struct harness *h) {
    assert_int_equal(blocked_keys(h), 0);
    uint64_t all = ks_all_mask(8);
    ks_lock(h->ks, all);
    for (int i = 0; i < 8; i++) {
        assert_int_equal(ks_wait_needs(h->ks, 1ULL << i, true), 0);
        assert_int_equal(ks_wait_needs(h->ks, 1ULL << i, false), 0);
    }
    assert_false(ks_has_ready(h->ks, all));
    ks_unlock(h->ks, all);
}

/* ---- serving ---- */

static void test_block_push_serves_after_its_own_reply(void **state) {
    struct harness *h = *state;
    assert_string_equal(harness_run_as(h, 0, "qtake k 0"), "");
    assert_non_null(h->peer[0].s.waiter);
    assert_int_equal(blocked_keys(h), 1);
    assert_string_equal(harness_run(h, "qput k ab"), ":2\r\n");
    assert_string_equal(buf_cstr(&h->log), "n:new k@0;=> take1 k;");
    assert_string_equal(harness_reply(h, 0), "*2\r\n$1\r\nk\r\n$1\r\na\r\n");
    assert_null(h->peer[0].s.waiter);
    assert_string_equal(harness_run(h, "get k"), "$1\r\nb\r\n");
    assert_no_waiter(h);
}

static void test_block_first_come_first_served(void **state) {
    struct harness *h = *state;
    for (int i = 0; i < 4; i++) harness_run_as(h, i, i % 2 ? "qtake other k 0" : "qtake k 0");
    harness_run(h, "qput k abc");
    for (int i = 0; i < 3; i++) {
        char want[64];
        snprintf(want, sizeof want, "*2\r\n$1\r\nk\r\n$1\r\n%c\r\n", 'a' + i);
        assert_string_equal(harness_reply(h, i), want);
    }
    assert_string_equal(harness_reply(h, 3), "");
    assert_string_equal(harness_run(h, "exists k"), ":0\r\n");
    harness_run(h, "qput other z");
    assert_string_equal(harness_reply(h, 3), "*2\r\n$5\r\nother\r\n$1\r\nz\r\n");
    assert_no_waiter(h);
}

static void test_block_two_keys_in_exec_serves_in_argument_order(void **state) {
    struct harness *h = *state;
    harness_run_as(h, 0, "qtake b a b b 0");
    harness_run(h, "multi");
    harness_run(h, "qput a 1");
    harness_run(h, "qput b 2");
    assert_string_equal(harness_reply(h, 0), "");
    assert_string_equal(harness_run(h, "exec"), "*2\r\n:1\r\n:1\r\n");
    assert_string_equal(harness_reply(h, 0), "*2\r\n$1\r\nb\r\n$1\r\n2\r\n");
    assert_string_equal(harness_run(h, "get a"), "$1\r\n1\r\n");
    assert_no_waiter(h);
}

static void test_block_element_gone_within_exec_serves_nobody(void **state) {
    struct harness *h = *state;
    harness_run_as(h, 0, "qtake k 0");
    harness_run(h, "multi");
    harness_run(h, "qput k 1");
    harness_run(h, "del k");
    harness_run(h, "exec");
    assert_string_equal(harness_reply(h, 0), "");
    assert_int_equal(blocked_keys(h), 1);
    harness_run(h, "qput k 2");
    assert_string_equal(harness_reply(h, 0), "*2\r\n$1\r\nk\r\n$1\r\n2\r\n");
}

static void test_block_other_type_keeps_waiting_in_its_place(void **state) {
    struct harness *h = *state;
    harness_run_as(h, 0, "qtake k 0");
    harness_make_list(h, "k");
    harness_run(h, "exists k");
    assert_string_equal(harness_reply(h, 0), "");
    harness_run_as(h, 1, "qtake k 0");
    harness_run(h, "del k");
    harness_run(h, "qput k ab");
    assert_string_equal(harness_reply(h, 0), "*2\r\n$1\r\nk\r\n$1\r\na\r\n");
    assert_string_equal(harness_reply(h, 1), "*2\r\n$1\r\nk\r\n$1\r\nb\r\n");
}

static void test_block_chain_of_moves_ends_at_a_taker(void **state) {
    struct harness *h = *state;
    harness_run_as(h, 0, "qtake d 0");
    harness_run_as(h, 1, "qmove c d 0");
    harness_run_as(h, 2, "qmove b c 0");
    harness_run_as(h, 3, "qmove a b 0");
    assert_string_equal(harness_run(h, "qput a x"), ":1\r\n");
    for (int i = 1; i < 4; i++) assert_string_equal(harness_reply(h, i), "$1\r\nx\r\n");
    assert_string_equal(harness_reply(h, 0), "*2\r\n$1\r\nd\r\n$1\r\nx\r\n");
    assert_no_waiter(h);
}

static void test_block_move_in_a_circle_ends(void **state) {
    struct harness *h = *state;
    harness_run_as(h, 0, "qmove a b 0");
    harness_run_as(h, 1, "qmove b a 0");
    harness_run_as(h, 2, "qmove k k 0");
    harness_run(h, "qput a x");
    assert_string_equal(harness_reply(h, 0), "$1\r\nx\r\n");
    assert_string_equal(harness_reply(h, 1), "$1\r\nx\r\n");
    assert_string_equal(harness_run(h, "get a"), "$1\r\nx\r\n");
    harness_run(h, "qput k x");
    assert_string_equal(harness_reply(h, 2), "$1\r\nx\r\n");
    assert_no_waiter(h);
}

static void test_block_error_of_the_second_run_is_the_reply(void **state) {
    struct harness *h = *state;
    harness_make_list(h, "to");
    harness_run_as(h, 0, "qmove from to 0");
    harness_run(h, "qput from x");
    assert_string_equal(harness_reply(h, 0), ERR_TYPE);
    assert_string_equal(harness_run(h, "get from"), "$1\r\nx\r\n");
    assert_no_waiter(h);
}

static void test_block_runs_again_with_replaced_arguments(void **state) {
    struct harness *h = *state;
    harness_run(h, "qput k ab");
    assert_string_equal(harness_run_as(h, 0, "qpeek k $ 0"), "");
    harness_run(h, "set other 1");
    harness_run(h, "qput k cd");
    assert_string_equal(harness_reply(h, 0), "$2\r\ncd\r\n");
}

static void test_block_nokey_is_woken_by_whatever_ends_the_key(void **state) {
    struct harness *h = *state;
    static const struct {
        const char *cmd, *reply;
    } ends[] = {
        { "del k", "-NOGROUP nothing there\r\n" },
        { "rename k other", "-NOGROUP nothing there\r\n" },
        { "flushdb", "-NOGROUP nothing there\r\n" },
        { "flushall", "-NOGROUP nothing there\r\n" },
        { "swapdb 0 1", "-NOGROUP nothing there\r\n" },
        { "move k 1", "-NOGROUP nothing there\r\n" },
        { "pexpire k -1", "-NOGROUP nothing there\r\n" },
        { "copy longer k replace", "$2\r\ncd\r\n" },
        { "rename longer k", "$2\r\ncd\r\n" },
        { "set k abef", "$2\r\nef\r\n" },
    };
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        harness_run(h, "flushall");
        harness_run(h, "qput k ab");
        harness_run(h, "qput longer abcd");
        assert_string_equal(harness_run_as(h, 0, "qpeek k 2 0"), "");
        harness_run(h, ends[i].cmd);
        const char *got = harness_reply(h, 0);
        if (strcmp(got, ends[i].reply) != 0) print_error("%s\n", ends[i].cmd);
        assert_string_equal(got, ends[i].reply);
        assert_no_waiter(h);
    }
}

static void test_block_swapdb_and_rename_bring_keys(void **state) {
    struct harness *h = *state;
    harness_run_as(h, 0, "qtake k 0");
    harness_run(h, "qput other 1");
    harness_run(h, "rename other k");
    assert_string_equal(harness_reply(h, 0), "*2\r\n$1\r\nk\r\n$1\r\n1\r\n");
    harness_run_as(h, 0, "qtake k 0");
    harness_run(h, "qput other 2");
    harness_run(h, "copy other k");
    assert_string_equal(harness_reply(h, 0), "*2\r\n$1\r\nk\r\n$1\r\n2\r\n");
    harness_run_as(h, 0, "qtake k 0");
    atomic_store(&h->s.db, 1);
    harness_run(h, "qput k 3");
    assert_string_equal(harness_reply(h, 0), "");
    harness_run(h, "swapdb 0 1");
    assert_string_equal(harness_reply(h, 0), "*2\r\n$1\r\nk\r\n$1\r\n3\r\n");
    assert_no_waiter(h);
}

static void test_block_expiry_wakes_nokey_from_a_read_and_from_the_cron(void **state) {
    struct harness *h = *state;
    for (int by_cron = 0; by_cron < 2; by_cron++) {
        harness_run(h, "qput k ab");
        assert_string_equal(harness_run_as(h, 0, "qpeek k $ 0"), "");
        harness_run(h, "pexpire k 1");
        int64_t until = clock_wall_ms() + 3;
        while (clock_wall_ms() < until) continue;
        if (by_cron) {
            bool more;
            for (int i = 0; i < 8; i++) {
                uint64_t locked = engine_lock(&h->eng, 1ULL << i, false);
                ks_expire_cycle(h->ks, i, clock_wall_ms(), 10, &more);
                engine_unlock(&h->eng, locked, 0);
            }
        } else {
            harness_run(h, "get k");
        }
        assert_string_equal(harness_reply(h, 0), "-NOGROUP nothing there\r\n");
    }
    assert_no_waiter(h);
}

static void test_block_serving_touches_watchers(void **state) {
    struct harness *h = *state;
    harness_run_as(h, 0, "qmove a b 0");
    harness_run_as(h, 1, "watch b");
    harness_run(h, "qput a x");
    harness_run_as(h, 1, "multi");
    harness_run_as(h, 1, "get b");
    assert_string_equal(harness_run_as(h, 1, "exec"), NILS);
}

/* ---- not blocking, unblocking ---- */

static void test_block_in_exec_replies_as_if_timed_out(void **state) {
    struct harness *h = *state;
    harness_run(h, "multi");
    harness_run(h, "qtake k 0");
    harness_run(h, "qmove k l 0");
    assert_string_equal(harness_run(h, "exec"), "*2\r\n" NILS NIL);
    assert_no_waiter(h);
}

static void test_block_timeout_argument(void **state) {
    struct harness *h = *state;
    static const struct harness_case cases[] = {
        { "qtake k x", "-ERR timeout is not a float or out of range\r\n" },
        { "qtake k -0.5", "-ERR timeout is negative\r\n" },
        { "qtake k -inf", "-ERR timeout is negative\r\n" },
        { "qtake k inf", "-ERR timeout is out of range\r\n" },
        { "qtake k 1e300", "-ERR timeout is out of range\r\n" },
        { "qtake k 9223372036854775807", "-ERR timeout is out of range\r\n" },
        { "qtake k nan", "-ERR timeout is not a float or out of range\r\n" },
        { "qput p x", ":1\r\n" },
        { "qpeek p 1 x", "-ERR timeout is not an integer or out of range\r\n" },
        { "qpeek p 1 1.5", "-ERR timeout is not an integer or out of range\r\n" },
        { "qpeek p 1 -1", "-ERR timeout is negative\r\n" },
        { "qpeek p 1 9223372036854775807", "-ERR timeout is out of range\r\n" },
        { NULL, NULL },
    };
    harness_cases(h, cases);
    int64_t before = clock_mono_us();
    harness_run_as(h, 0, "qtake k 0.0001"); /* rounded up to a millisecond */
    assert_in_range(h->peer[0].s.waiter->deadline_us - before, 1000, 1000000);
    harness_run_as(h, 1, "qtake k 9000000000000000");
    assert_true(h->peer[1].s.waiter->deadline_us > before + 1000000000000);
}

static void test_block_time_out_once(void **state) {
    struct harness *h = *state;
    harness_run_as(h, 0, "qtake k 1");
    harness_run_as(h, 1, "qmove k l 1");
    assert_true(block_time_out(h->peer[0].s.waiter));
    block_finish(&h->peer[0].s);
    assert_true(block_time_out(h->peer[1].s.waiter));
    block_finish(&h->peer[1].s);
    assert_string_equal(harness_reply(h, 0), NILS);
    assert_string_equal(harness_reply(h, 1), NIL);
    uint64_t calls, usec;
    figures_of(h->eng.figures, cmd_lookup(h->table, SLICE_LIT("qtake")), &calls, &usec);
    assert_int_equal(calls, 1);
    assert_string_equal(harness_run(h, "qput k x"), ":1\r\n");
    assert_string_equal(harness_run(h, "get k"), "$1\r\nx\r\n");
    assert_no_waiter(h);
}

static void test_block_claimed_is_passed_over(void **state) {
    struct harness *h = *state;
    for (int i = 0; i < 4; i++) harness_run_as(h, i, "qtake k 0");
    assert_int_equal(block_claim(h->peer[0].s.waiter, BLOCK_UNBLOCKED_ERROR), BLOCK_WAITING);
    assert_int_equal(block_claim(h->peer[1].s.waiter, BLOCK_UNBLOCKED_TIMEOUT), BLOCK_WAITING);
    assert_int_equal(block_claim(h->peer[2].s.waiter, BLOCK_DROPPED), BLOCK_WAITING);
    assert_int_equal(block_claim(h->peer[0].s.waiter, BLOCK_UNBLOCKED_TIMEOUT), BLOCK_UNBLOCKED_ERROR);
    assert_false(block_time_out(h->peer[1].s.waiter));
    harness_run(h, "qput k a");
    assert_string_equal(harness_reply(h, 3), "*2\r\n$1\r\nk\r\n$1\r\na\r\n");
    block_finish(&h->peer[0].s);
    block_finish(&h->peer[1].s);
    block_abandon(&h->peer[2].s);
    assert_string_equal(harness_reply(h, 0), "-UNBLOCKED client unblocked via CLIENT UNBLOCK\r\n");
    assert_string_equal(harness_reply(h, 1), NILS);
    assert_string_equal(harness_reply(h, 2), "");
    assert_no_waiter(h);
}

static struct cmd_waiter *woken[4];
static int n_woken;

static void wake_later(void *arg, struct cmd_waiter *w) {
    (void)arg;
    woken[n_woken++] = w;
}

static void test_block_session_that_ends_between_serving_and_wake(void **state) {
    struct harness *h = *state;
    n_woken = 0;
    h->eng.hooks.wake = wake_later;
    harness_run_as(h, 0, "qtake k 0");
    harness_run(h, "qput k ab");
    assert_int_equal(n_woken, 1);
    assert_int_equal(block_claim(woken[0], BLOCK_UNBLOCKED_ERROR), BLOCK_SERVED);
    assert_false(block_time_out(woken[0]));
    block_abandon(&h->peer[0].s);
    assert_true(woken[0]->is_orphan);
    block_free(woken[0]);
    assert_string_equal(harness_run(h, "get k"), "$1\r\nb\r\n");
    harness_run_as(h, 0, "qtake k2 0");
    block_claim(h->peer[0].s.waiter, BLOCK_UNBLOCKED_ERROR);
    struct cmd_waiter *w = h->peer[0].s.waiter;
    block_abandon(&h->peer[0].s);
    assert_true(w->is_orphan);
    block_free(w);
    assert_no_waiter(h);
}

static void test_block_muted_reply_and_skip_end_with_the_command(void **state) {
    struct harness *h = *state;
    h->peer[0].s.reply_mode = REPLY_SKIP_THIS;
    h->peer[0].s.reply.muted = true;
    harness_run_as(h, 0, "qtake k 0");
    harness_run(h, "qput k x");
    assert_string_equal(harness_reply(h, 0), "");
    assert_string_equal(harness_run_as(h, 0, "exists k"), ":0\r\n");
}

static void test_block_resp3_and_database_are_the_clients_own(void **state) {
    struct harness *h = *state;
    session_set_resp(&h->peer[0].s, 3);
    atomic_store(&h->peer[1].s.db, 2);
    harness_run_as(h, 0, "qtake k 0");
    harness_run_as(h, 1, "qtake k 0");
    harness_run(h, "qput k a");
    assert_string_equal(harness_reply(h, 1), "");
    assert_true(block_time_out(h->peer[1].s.waiter));
    block_finish(&h->peer[1].s);
    harness_run_as(h, 0, "qtake k 1");
    block_time_out(h->peer[0].s.waiter);
    harness_reply(h, 0);
    block_finish(&h->peer[0].s);
    assert_string_equal(harness_reply(h, 0), "_\r\n");
}

/* ---- threads ---- */

/* Every thread has a session of its own that takes, moves, puts and gives up, at random, over few keys. In the end everything put
 * was taken, or is still there. */
#define THREADS 4
#define TURNS 4000
#define KEYS 5

struct worker {
    struct harness *h;
    struct session s;
    struct obuf out;
    unsigned slot;
    _Atomic bool was_woken;
    uint64_t put, took, served, timed_out, unblocked;
};

static void wake_worker(void *arg, struct cmd_waiter *w) {
    struct worker *to = w->s.owner;
    (void)arg;
    atomic_store(&to->was_woken, true);
}

static void run_words(struct worker *w, const char *line) {
    int argc;
    struct buf *args = str_split_args(slice_cstr(line), &argc);
    struct slice argv[8];
    for (int i = 0; i < argc; i++) argv[i] = buf_slice(&args[i]);
    dispatch(&w->h->eng, &w->s, argc, argv);
    str_split_free(args, argc);
}

static void count_reply(struct worker *w, bool took) {
    char text[256];
    size_t n = obuf_copy(&w->out, text, sizeof text - 1);
    text[n] = 0;
    obuf_clear(&w->out);
    if (took && text[0] == '*' && text[1] == '2') w->took++;
}

static void wait_for_wake(struct worker *w) {
    while (!atomic_load(&w->was_woken)) sched_yield();
    atomic_store(&w->was_woken, false);
}

/* As a client's thread would: time out, be unblocked, or stay until it is served for a while. */
static void end_wait(struct worker *w) {
    unsigned how = (unsigned)rand_below(4);
    for (int spins = how == 0 ? 0 : 200; spins > 0 && !atomic_load(&w->was_woken); spins--) sched_yield();
    if (how == 1 && block_claim(w->s.waiter, BLOCK_UNBLOCKED_TIMEOUT) == BLOCK_WAITING) {
        w->unblocked++;
    } else if (block_time_out(w->s.waiter)) {
        w->timed_out++;
    } else {
        wait_for_wake(w);
        w->served++;
    }
    block_finish(&w->s);
}

static void one_turn(struct worker *w) {
    char line[64];
    unsigned a = (unsigned)rand_below(KEYS), b = (unsigned)rand_below(KEYS), what = (unsigned)rand_below(8);
    if (what < 3) {
        snprintf(line, sizeof line, "qput key%u x", a);
        w->put++;
    } else if (what < 6) {
        snprintf(line, sizeof line, "qtake key%u key%u 1", a, b);
    } else if (what < 7) {
        snprintf(line, sizeof line, "qmove key%u key%u 1", a, b);
    } else {
        snprintf(line, sizeof line, "exists key%u", a);
    }
    run_words(w, line);
    if (w->s.waiter) end_wait(w);
    count_reply(w, what >= 3 && what < 6);
}

static void *work(void *arg) {
    struct worker *w = arg;
    for (int i = 0; i < TURNS; i++) one_turn(w);
    return NULL;
}

static void test_block_threads_lose_nothing_and_serve_nothing_twice(void **state) {
    struct harness *h = *state;
    struct worker w[THREADS];
    pthread_t tid[THREADS];
    h->eng.hooks = (struct engine_hooks){ .arg = h, .wake = wake_worker };
    memset(w, 0, sizeof w);
    for (unsigned i = 0; i < THREADS; i++) {
        w[i].h = h;
        session_init(&w[i].s, &w[i].out, i + 10);
        w[i].s.owner = &w[i];
        w[i].s.slot = i;
    }
    for (int i = 0; i < THREADS; i++) assert_int_equal(pthread_create(&tid[i], NULL, work, &w[i]), 0);
    uint64_t put = 0, took = 0, served = 0, gone = 0, left = 0;
    for (int i = 0; i < THREADS; i++) {
        pthread_join(tid[i], NULL);
        put += w[i].put;
        took += w[i].took;
        served += w[i].served;
        gone += w[i].timed_out + w[i].unblocked;
        session_done(&w[i].s, h->ks);
        obuf_clear(&w[i].out);
    }
    for (int i = 0; i < KEYS; i++) {
        char line[32];
        snprintf(line, sizeof line, "strlen key%d", i);
        left += (uint64_t)atoll(harness_run(h, line) + 1);
    }
    assert_int_equal(put, took + left);
    assert_in_range(served, 1, put);
    assert_true(gone > 0);
    assert_no_waiter(h);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, block_setup, harness_teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_block_push_serves_after_its_own_reply),
        TEST(test_block_first_come_first_served),
        TEST(test_block_two_keys_in_exec_serves_in_argument_order),
        TEST(test_block_element_gone_within_exec_serves_nobody),
        TEST(test_block_other_type_keeps_waiting_in_its_place),
        TEST(test_block_chain_of_moves_ends_at_a_taker),
        TEST(test_block_move_in_a_circle_ends),
        TEST(test_block_error_of_the_second_run_is_the_reply),
        TEST(test_block_runs_again_with_replaced_arguments),
        TEST(test_block_nokey_is_woken_by_whatever_ends_the_key),
        TEST(test_block_swapdb_and_rename_bring_keys),
        TEST(test_block_expiry_wakes_nokey_from_a_read_and_from_the_cron),
        TEST(test_block_serving_touches_watchers),
        TEST(test_block_in_exec_replies_as_if_timed_out),
        TEST(test_block_timeout_argument),
        TEST(test_block_time_out_once),
        TEST(test_block_claimed_is_passed_over),
        TEST(test_block_session_that_ends_between_serving_and_wake),
        TEST(test_block_muted_reply_and_skip_end_with_the_command),
        TEST(test_block_resp3_and_database_are_the_clients_own),
        TEST(test_block_threads_lose_nothing_and_serve_nothing_twice),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
