/* What is propagated of commands, transactions, scripts, blocked clients and keys that ran out: which units, with which
 * operations. */
#include <unistd.h>

#include "cmd/effects.h"
#include "test_cmd_harness.h"

/* The units heard since the last look: "[SET a 1|DEL b@1]" with the database where it is not 0, "(" in place of "[" where the
 * operations do not belong together, and the target where it is not all: "AOF:", "REPL:". */
static struct buf heard;
static struct session *heard_of;

static void print_op(const struct effects_unit *u, const struct effect *op) {
    const char *p = u->bytes + op->at, *end = p + op->len;
    if (op->to != EFFECT_ALL) buf_append_cstr(&heard, op->to == EFFECT_AOF ? "AOF:" : "REPL:");
    assert_int_equal(*p, '*');
    long n = strtol(p + 1, NULL, 10);
    p = memchr(p, '\n', (size_t)(end - p)) + 1;
    for (long i = 0; i < n; i++) {
        assert_int_equal(*p, '$');
        size_t len = strtoul(p + 1, NULL, 10);
        p = memchr(p, '\n', (size_t)(end - p)) + 1;
        if (i) buf_append_char(&heard, ' ');
        buf_append(&heard, p, len);
        p += len;
        assert_memory_equal(p, "\r\n", 2);
        p += 2;
    }
    assert_ptr_equal(p, end);
    if (op->db) buf_printf(&heard, "@%d", op->db);
}

static void hear(void *arg, const struct effects_unit *u) {
    (void)arg;
    assert_true(u->n > 0);
    buf_append_char(&heard, u->is_whole ? '[' : '(');
    for (int i = 0; i < u->n; i++) {
        if (i) buf_append_char(&heard, '|');
        print_op(u, &u->ops[i]);
    }
    buf_append_char(&heard, ']');
    heard_of = u->session;
}

static void expired(void *arg, int db, struct slice key) {
    effects_deleted(&((struct harness *)arg)->eng, db, key, false);
}

static void fields_expired(void *arg, int db, struct slice key, const struct slice *fields, unsigned n, bool is_key_gone) {
    (void)is_key_gone;
    effects_fields_deleted(&((struct harness *)arg)->eng, db, key, (int)n, fields);
}

/* The server's own, as far as it matters here. */
static void select_command(struct cmd_ctx *c) {
    atomic_store(&c->s->db, c->argv[1].ptr[0] - '0');
    reply_ok(c->r);
}

static const struct cmd_spec extra[] = { { .name = "select", .run = select_command, .arity = 2 }, { 0 } };

static int setup(void **state) {
    struct harness *h = mem_zalloc(sizeof *h);
    struct ks_opts opts = { .n_dbs = 16,
                            .n_shards = 8,
                            .hooks = { .arg = h, .expired = expired, .fields_expired = fields_expired } };
    harness_init(h, extra);
    ks_free(h->ks);
    h->ks = h->eng.ks = ks_new(&opts);
    h->eng.hooks.propagate_unit = hear;
    atomic_store(&h->eng.propagate_to, EFFECT_ALL);
    *state = h;
    return 0;
}

static int teardown(void **state) {
    buf_done(&heard);
    return harness_teardown(state);
}

static const char *heard_since(struct harness *h, const char *line) {
    buf_clear(&heard);
    harness_run(h, line);
    return buf_cstr(&heard);
}

static void check(struct harness *h, const char *const (*cases)[2]) {
    for (; (*cases)[0]; cases++) {
        const char *got = heard_since(h, (*cases)[0]);
        if (strcmp(got, (*cases)[1]) != 0) print_error("%s\n", (*cases)[0]);
        assert_string_equal(got, (*cases)[1]);
    }
}

static void test_effects_of_a_command_are_one_unit(void **state) {
    struct harness *h = *state;
    static const char *const cases[][2] = {
        { "SET a 1", "[SET a 1]" },
        { "GET a", "" },
        { "SET a 2 NX", "" },
        { "DEL none", "" },
        { "GETDEL a", "[DEL a]" },
        { "INCRBYFLOAT f 1.5", "[SET f 1.5 KEEPTTL]" },
        { "RPUSH l a b c", "[RPUSH l a b c]" },
        { "LTRIM l 0 -1", "" },
        { "LPUSH f x", "" },
        { "SELECT 3", "" },
        { "SET b 1", "[SET b 1@3]" },
        { "MOVE b 4", "[MOVE b 4@3]" },
        { "SET \"\" \"\"", "[SET  @3]" },
        { "FLUSHALL", "[FLUSHALL@3]" },
        { "FLUSHALL", "[FLUSHALL@3]" },
        { NULL, NULL },
    };
    check(h, cases);
    assert_ptr_equal(heard_of, &h->s);
}

static void test_effects_nobody_wants_are_not_gathered(void **state) {
    struct harness *h = *state;
    atomic_store(&h->eng.propagate_to, 0);
    assert_string_equal(heard_since(h, "SET a 1"), "");
    assert_null(h->eng.effects[0].bytes.data);
    atomic_store(&h->eng.propagate_to, EFFECT_ALL);
    h->s.effects_to = 0; /* a loader's */
    assert_string_equal(heard_since(h, "SET a 2"), "");
    h->s.effects_to = EFFECT_AOF; /* the primary's stream */
    assert_string_equal(heard_since(h, "SET a 3"), "[AOF:SET a 3]");
    h->s.effects_to = EFFECT_ALL;
}

static void test_effects_of_a_transaction_are_one_unit(void **state) {
    struct harness *h = *state;
    static const char *const lines[] = { "MULTI", "SET a 1", "GET a", "SELECT 1", "INCR n", "SELECT 0", "EXPIRE none 10", NULL };
    for (int i = 0; lines[i]; i++) assert_string_equal(heard_since(h, lines[i]), "");
    assert_string_equal(heard_since(h, "EXEC"), "[SET a 1|INCR n@1]");
    harness_run(h, "MULTI");
    harness_run(h, "GET a");
    assert_string_equal(heard_since(h, "EXEC"), "");
}

static void test_effects_of_a_script_are_its_commands(void **state) {
    struct harness *h = *state;
    static const char *const cases[][2] = {
        { "EVAL \"redis.call('set','a',1) redis.call('get','a') redis.call('spop','none') return redis.call('incr','a')\" 0",
          "[set a 1|incr a]" },
        { "EVAL \"return 1\" 0", "" },
        { "EVAL \"redis.set_repl(1) redis.call('set','a',1) redis.set_repl(2) redis.call('set','b',1) redis.set_repl(0) "
          "redis.call('set','c',1) redis.set_repl(3) redis.call('set','d',1)\" 0",
          "[AOF:set a 1|REPL:set b 1|set d 1]" },
        { "EVAL \"redis.call('select',2) redis.call('set','a',1)\" 0", "[set a 1@2]" },
        { "EVAL \"redis.call('set','a',1) error('x')\" 0", "[set a 1]" },
        { NULL, NULL },
    };
    check(h, cases);
}

static void test_effects_of_keys_that_ran_out_come_first(void **state) {
    struct harness *h = *state;
    harness_run(h, "SET a 1 PX 1");
    harness_run(h, "SET b 1 PX 1");
    harness_run(h, "HSET h f 1 g 2 k 3");
    harness_run(h, "HPEXPIRE h 1 FIELDS 2 f g");
    usleep(5000);
    assert_string_equal(heard_since(h, "GET a"), "[DEL a]");
    assert_string_equal(heard_since(h, "APPEND b x"), "[DEL b|APPEND b x]");
    assert_string_equal(heard_since(h, "HGET h k"), "[HDEL h f g]");
}

static void test_effects_of_the_cron_are_apart(void **state) {
    struct harness *h = *state;
    harness_run(h, "SET {k}a 1 PX 1");
    harness_run(h, "SET {k}b 1 PX 1");
    usleep(5000);
    buf_clear(&heard);
    bool more;
    int shard = ks_shard_of(h->ks, SLICE_LIT("{k}a"));
    uint64_t locked = engine_lock(&h->eng, 1ULL << shard, false);
    assert_int_equal(ks_expire_cycle(h->ks, shard, clock_wall_ms(), 100, &more), 2);
    engine_unlock(&h->eng, locked, 0);
    assert_string_equal(buf_cstr(&heard), "(DEL {k}a|DEL {k}b]");
    assert_null(heard_of);
}

static void test_effects_of_served_clients_are_units_behind(void **state) {
    struct harness *h = *state;
    harness_run_as(h, 0, "BLPOP l 0");
    harness_run_as(h, 1, "BLMOVE l m LEFT RIGHT 0");
    assert_string_equal(heard_since(h, "RPUSH l 1 2 3"), "[RPUSH l 1 2 3][LPOP l][LMOVE l m LEFT RIGHT]");
    harness_run_as(h, 0, "BZPOPMIN z 0");
    harness_run(h, "MULTI");
    harness_run(h, "ZADD z 1 a 2 b");
    harness_run(h, "SET x 1");
    assert_string_equal(heard_since(h, "EXEC"), "[ZADD z 1 a 2 b|SET x 1][ZPOPMIN z]");
}

static void test_effects_put_aside_do_not_mix(void **state) {
    struct harness *h = *state;
    struct effects aside = { 0 };
    const struct slice argv[] = { SLICE_LIT("INCR"), SLICE_LIT("n") };
    effects_add(&h->eng, 0, EFFECT_ALL, 0, 2, argv, 0, NULL);
    effects_swap(&h->eng, 0, &aside); /* a script stops for a while */
    assert_string_equal(heard_since(h, "SET other 1"), "[SET other 1]");
    effects_swap(&h->eng, 0, &aside);
    assert_string_equal(heard_since(h, "SET n 1"), "[INCR n|SET n 1]");
    effects_clear(&aside);
}

static void test_effects_large_ones_give_their_memory_back(void **state) {
    struct harness *h = *state;
    struct buf value = { 0 };
    buf_reserve(&value, 1 << 20);
    memset(value.data, 'x', 1 << 20);
    value.len = 1 << 20;
    const struct slice argv[] = { SLICE_LIT("SET"), SLICE_LIT("big"), buf_slice(&value) };
    buf_clear(&heard);
    harness_run_argv(h, 3, argv);
    assert_int_equal(heard.len, 1 + 8 + (1 << 20) + 1);
    assert_null(h->eng.effects[0].bytes.data);
    buf_done(&value);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_effects_of_a_command_are_one_unit, setup, teardown),
        cmocka_unit_test_setup_teardown(test_effects_nobody_wants_are_not_gathered, setup, teardown),
        cmocka_unit_test_setup_teardown(test_effects_of_a_transaction_are_one_unit, setup, teardown),
        cmocka_unit_test_setup_teardown(test_effects_of_a_script_are_its_commands, setup, teardown),
        cmocka_unit_test_setup_teardown(test_effects_of_keys_that_ran_out_come_first, setup, teardown),
        cmocka_unit_test_setup_teardown(test_effects_of_the_cron_are_apart, setup, teardown),
        cmocka_unit_test_setup_teardown(test_effects_of_served_clients_are_units_behind, setup, teardown),
        cmocka_unit_test_setup_teardown(test_effects_put_aside_do_not_mix, setup, teardown),
        cmocka_unit_test_setup_teardown(test_effects_large_ones_give_their_memory_back, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
