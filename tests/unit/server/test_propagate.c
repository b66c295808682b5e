/* Units in the logs: what surrounds them, for each log by itself. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "server/propagate.h"
#include "server/server.h"

struct log_heard { /* what a log holds, lines "*2 $6 SELECT..." as commands of words */
    struct buf bytes;
    uint64_t base;
    int n_woken, n_appends;
};

static uint64_t append(void *arg, const struct slice *pieces, int n) {
    struct log_heard *l = arg;
    assert_true(n > 0);
    l->n_appends++;
    for (int i = 0; i < n; i++) buf_append(&l->bytes, pieces[i].ptr, pieces[i].len);
    return l->base + l->bytes.len;
}

static uint64_t offset(void *arg) {
    const struct log_heard *l = arg;
    return l->base + l->bytes.len;
}

static void woken(void *arg) {
    ((struct log_heard *)arg)->n_woken++;
}

struct bed {
    struct server *srv;
    struct log_heard aof, repl;
    struct effects_unit unit;
    struct effect ops[16];
    struct buf bytes;
};

static int setup(void **state) {
    struct bed *b = mem_zalloc(sizeof *b);
    b->srv = mem_zalloc(sizeof *b->srv);
    b->srv->prop = propagate_new();
    b->repl.base = 1000;
    *state = b;
    return 0;
}

static int teardown(void **state) {
    struct bed *b = *state;
    propagate_free(b->srv->prop);
    mem_free(b->srv);
    buf_done(&b->aof.bytes);
    buf_done(&b->repl.bytes);
    buf_done(&b->bytes);
    mem_free(b);
    return 0;
}

static void turn_on(struct bed *b, enum effect_target which) {
    const struct propagate_sink sink = { append, offset, woken, which == EFFECT_AOF ? &b->aof : &b->repl };
    propagate_set_sink(b->srv, which, &sink);
}

/* An operation of the next unit: a command of one word. */
static void add(struct bed *b, int db, unsigned to, const char *word) {
    const struct slice argv[] = { slice_cstr(word) };
    size_t at = b->bytes.len;
    effects_encode(&b->bytes, 1, argv);
    b->ops[b->unit.n++] = (struct effect){ .db = db, .to = to, .at = at, .len = b->bytes.len - at };
}

static void end_unit(struct bed *b, bool is_whole, struct session *s) {
    b->unit.ops = b->ops;
    b->unit.bytes = b->bytes.data;
    b->unit.is_whole = is_whole;
    b->unit.session = s;
    propagate_unit(b->srv, &b->unit);
    b->unit.n = 0;
    buf_clear(&b->bytes);
}

/* The words a log has got since the last look. */
static const char *words(struct log_heard *l) {
    static char text[512];
    size_t n = 0;
    const char *p = buf_cstr(&l->bytes) + 0;
    const char *end = p + l->bytes.len;
    while (p < end) {
        if (*p == '$') {
            size_t len = strtoul(p + 1, NULL, 10);
            p = strchr(p, '\n') + 1;
            if (n) text[n++] = ' ';
            memcpy(text + n, p, len);
            n += len;
            p += len + 2;
        } else {
            p = strchr(p, '\n') + 1;
        }
    }
    text[n] = 0;
    l->base += l->bytes.len;
    buf_clear(&l->bytes);
    return text;
}

static void test_propagate_selects_where_the_database_changes(void **state) {
    struct bed *b = *state;
    turn_on(b, EFFECT_AOF);
    add(b, 0, EFFECT_ALL, "A");
    end_unit(b, true, NULL);
    assert_string_equal(words(&b->aof), "SELECT 0 A");
    add(b, 0, EFFECT_ALL, "B");
    end_unit(b, true, NULL);
    add(b, 12, EFFECT_ALL, "C");
    end_unit(b, true, NULL);
    assert_string_equal(words(&b->aof), "B SELECT 12 C");
    propagate_reselect(b->srv, EFFECT_AOF);
    add(b, 12, EFFECT_ALL, "D");
    end_unit(b, true, NULL);
    add(b, 1000000, EFFECT_ALL, "E");
    end_unit(b, true, NULL);
    assert_string_equal(words(&b->aof), "SELECT 12 D SELECT 1000000 E");
    assert_int_equal(b->aof.n_appends, 5);
    assert_int_equal(b->aof.n_woken, 5);
}

static void test_propagate_several_operations_are_a_transaction(void **state) {
    struct bed *b = *state;
    turn_on(b, EFFECT_AOF);
    add(b, 0, EFFECT_ALL, "A");
    add(b, 0, EFFECT_ALL, "B");
    add(b, 1, EFFECT_ALL, "C");
    end_unit(b, true, NULL);
    assert_string_equal(words(&b->aof), "MULTI SELECT 0 A B SELECT 1 C EXEC");
    assert_int_equal(b->aof.n_appends, 1);
    add(b, 1, EFFECT_ALL, "D");
    add(b, 1, EFFECT_ALL, "E");
    end_unit(b, false, NULL); /* keys that ran out */
    assert_string_equal(words(&b->aof), "D E");
}

static void test_propagate_each_log_gets_its_own(void **state) {
    struct bed *b = *state;
    struct session s = { 0 };
    turn_on(b, EFFECT_AOF);
    assert_int_equal(b->srv->eng.propagate_to, EFFECT_AOF);
    turn_on(b, EFFECT_REPL);
    assert_int_equal(b->srv->eng.propagate_to, EFFECT_ALL);
    add(b, 0, EFFECT_REPL, "P");
    end_unit(b, true, &s);
    assert_int_equal(s.repl_offset, 1000 + b->repl.bytes.len);
    assert_int_equal(s.aof_offset, 0);
    assert_int_equal(b->aof.n_woken, 0);
    assert_string_equal(words(&b->repl), "SELECT 0 P");
    add(b, 2, EFFECT_AOF, "A");
    add(b, 0, EFFECT_ALL, "B");
    add(b, 0, EFFECT_REPL, "C");
    add(b, 2, EFFECT_ALL, "D");
    end_unit(b, true, &s);
    assert_int_equal(s.aof_offset, b->aof.bytes.len);
    assert_string_equal(words(&b->aof), "MULTI SELECT 2 A SELECT 0 B SELECT 2 D EXEC");
    assert_string_equal(words(&b->repl), "MULTI B C SELECT 2 D EXEC");
    propagate_set_sink(b->srv, EFFECT_REPL, NULL);
    assert_int_equal(b->srv->eng.propagate_to, EFFECT_AOF);
    add(b, 2, EFFECT_ALL, "E");
    end_unit(b, true, NULL);
    assert_string_equal(words(&b->aof), "E");
    assert_string_equal(words(&b->repl), "");
}

static void test_propagate_commands_for_replicas_only(void **state) {
    struct bed *b = *state;
    const struct slice ping[] = { SLICE_LIT("PING") };
    struct propagate_point pt;
    propagate_repl_command(b->srv, -1, 1, ping); /* nobody listens */
    turn_on(b, EFFECT_AOF);
    turn_on(b, EFFECT_REPL);
    propagate_get_point(b->srv, &pt);
    assert_int_equal(pt.repl_offset, 1000);
    assert_int_equal(pt.repl_db, -1);
    propagate_repl_command(b->srv, -1, 1, ping);
    assert_string_equal(words(&b->repl), "PING");
    propagate_repl_command(b->srv, 3, 1, ping);
    assert_string_equal(words(&b->repl), "SELECT 3 PING");
    propagate_get_point(b->srv, &pt);
    assert_int_equal(pt.repl_db, 3);
    assert_int_equal(pt.aof_offset, 0);
    assert_int_equal(pt.repl_offset, b->repl.base);
    assert_string_equal(words(&b->aof), "");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_propagate_selects_where_the_database_changes, setup, teardown),
        cmocka_unit_test_setup_teardown(test_propagate_several_operations_are_a_transaction, setup, teardown),
        cmocka_unit_test_setup_teardown(test_propagate_each_log_gets_its_own, setup, teardown),
        cmocka_unit_test_setup_teardown(test_propagate_commands_for_replicas_only, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
