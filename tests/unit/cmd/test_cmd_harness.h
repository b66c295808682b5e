/* For tests of command families: an engine with the families, one session, and what the effects hooks heard. A case is a request
 * line and the exact bytes of its reply; lines are split as redis-cli splits them, so "\x00" escapes work. h->peer are further
 * sessions, for commands that block: harness_run_as runs a command of theirs, which gives "" when it blocks, and harness_reply
 * what they were told since. Included by one test program at a time, hence static. */
#ifndef KETTLE_TEST_CMD_HARNESS_H
#define KETTLE_TEST_CMD_HARNESS_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/hash.h"
#include "base/obuf.h"
#include "base/str.h"
#include "cmd/block.h"
#include "cmd/cmd.h"
#include "cmd/dispatch.h"
#include "cmd/session.h"
#include "data/list.h"

#define HARNESS_PEERS 4

struct harness_peer {
    struct session s;
    struct obuf out;
};

struct harness {
    struct keyspace *ks;
    struct cmd_table *table;
    struct engine eng;
    struct obuf out;
    struct session s;
    struct harness_peer peer[HARNESS_PEERS];
    struct buf reply;
    struct buf
        log; /* "<class>:<event> <key>@<db>;" for notifications, "=> A B C;" for what is replicated in place of the command */
};

static void harness_notify(void *arg, char cls, const char *event, int db, struct slice key) {
    struct harness *h = arg;
    buf_printf(&h->log, "%c:%s %.*s@%d;", cls, event, (int)key.len, key.ptr, db);
}

static void harness_added(void *arg, int db, struct slice key) {
    if (((struct harness *)arg)->eng.hooks.notify) harness_notify(arg, 'n', "new", db, key);
}

static void harness_fields_expired(void *arg, int db, struct slice key, const struct slice *fields, unsigned n,
                                   bool is_key_gone) {
    struct harness *h = arg;
    (void)fields;
    buf_printf(&h->log, "%u ", n);
    harness_notify(arg, 'h', "hexpired", db, key);
    if (is_key_gone) harness_notify(arg, 'g', "del", db, key);
}

static void harness_propagate(void *arg, struct cmd_ctx *c, int argc, const struct slice *argv) {
    struct harness *h = arg;
    (void)c;
    buf_append_cstr(&h->log, "=>");
    for (int i = 0; i < argc; i++) buf_printf(&h->log, " %.*s", (int)argv[i].len, argv[i].ptr);
    buf_append_char(&h->log, ';');
}

static void harness_wake(void *arg, struct cmd_waiter *w) {
    (void)arg;
    block_finish(w->s.owner);
}

/* extra: more commands, or NULL. */
static void harness_init(struct harness *h, const struct cmd_spec *extra) {
    struct ks_opts opts = { .n_dbs = 16,
                            .n_shards = 8,
                            .hooks = { .arg = h, .added = harness_added, .fields_expired = harness_fields_expired } };
    hash_seed_init();
    h->ks = ks_new(&opts);
    h->table = cmd_table_new();
    cmd_table_register_data(h->table);
    if (extra) cmd_table_register(h->table, extra);
    engine_init(&h->eng, h->ks, h->table);
    h->eng.hooks.arg = h;
    h->eng.hooks.notify = harness_notify;
    atomic_store(&h->eng.notify_on, true);
    h->eng.hooks.propagate = harness_propagate;
    h->eng.hooks.wake = harness_wake;
    session_init(&h->s, &h->out, 1);
    h->s.owner = &h->s;
    for (int i = 0; i < HARNESS_PEERS; i++) {
        session_init(&h->peer[i].s, &h->peer[i].out, (uint64_t)i + 2);
        h->peer[i].s.owner = &h->peer[i].s;
    }
}

static inline int harness_setup(void **state) {
    struct harness *h = mem_zalloc(sizeof(*h));
    harness_init(h, NULL);
    *state = h;
    return 0;
}

static int harness_teardown(void **state) {
    struct harness *h = *state;
    for (int i = 0; i < HARNESS_PEERS; i++) {
        block_abandon(&h->peer[i].s);
        session_done(&h->peer[i].s, h->ks);
        obuf_clear(&h->peer[i].out);
    }
    block_abandon(&h->s);
    session_done(&h->s, h->ks);
    obuf_clear(&h->out);
    engine_done(&h->eng);
    cmd_table_free(h->table);
    ks_free(h->ks);
    buf_done(&h->reply);
    buf_done(&h->log);
    mem_free(h);
    return 0;
}

static const char *harness_take(struct harness *h, struct obuf *out) {
    buf_clear(&h->reply);
    buf_reserve(&h->reply, out->bytes + 1);
    h->reply.len = obuf_copy(out, h->reply.data, out->bytes);
    obuf_clear(out);
    return buf_cstr(&h->reply);
}

/* Runs one request; its reply, NUL-terminated, is valid until the next. */
static const char *harness_run_session(struct harness *h, struct session *s, int argc, const struct slice *argv) {
    buf_clear(&h->log);
    enum dispatch_result r = dispatch(&h->eng, s, argc, argv);
    assert_int_equal(r, s->waiter ? DISPATCH_BLOCKED : DISPATCH_OK);
    return harness_take(h, s->reply.out);
}

static inline const char *harness_run_argv(struct harness *h, int argc, const struct slice *argv) {
    return harness_run_session(h, &h->s, argc, argv);
}

static const char *harness_run_line(struct harness *h, struct session *s, const char *line) {
    int argc;
    struct buf *args = str_split_args(slice_cstr(line), &argc);
    assert_non_null(args);
    struct slice *argv = mem_calloc((size_t)argc, sizeof(*argv));
    for (int i = 0; i < argc; i++) argv[i] = buf_slice(&args[i]);
    const char *reply = harness_run_session(h, s, argc, argv);
    mem_free(argv);
    str_split_free(args, argc);
    return reply;
}

static const char *harness_run(struct harness *h, const char *line) {
    return harness_run_line(h, &h->s, line);
}

static inline const char *harness_run_as(struct harness *h, int peer, const char *line) {
    return harness_run_line(h, &h->peer[peer].s, line);
}

static inline const char *harness_reply(struct harness *h, int peer) {
    return harness_take(h, &h->peer[peer].out);
}

struct harness_case {
    const char *line, *reply;
};

static inline void harness_cases(struct harness *h, const struct harness_case *cases) {
    for (; cases->line != NULL; cases++) {
        const char *got = harness_run(h, cases->line);
        if (strcmp(got, cases->reply) != 0) print_error("%s\n", cases->line);
        assert_string_equal(got, cases->reply);
    }
}

/* The reply, and what the hooks heard; the latter as a glob pattern, for times. */
static inline void harness_effects(struct harness *h, const char *line, const char *reply, const char *log_glob) {
    const char *got = harness_run(h, line);
    if (strcmp(got, reply) != 0 || !str_glob(slice_cstr(log_glob), buf_slice(&h->log), false))
        print_error("%s: log %s\n", line, buf_cstr(&h->log));
    assert_string_equal(got, reply);
    assert_true(str_glob(slice_cstr(log_glob), buf_slice(&h->log), false));
}

#define OK "+OK\r\n"
#define NIL "$-1\r\n"
#define ERR_SYNTAX "-ERR syntax error\r\n"
#define ERR_INT "-ERR value is not an integer or out of range\r\n"
#define ERR_TYPE "-WRONGTYPE Operation against a key holding the wrong kind of value\r\n"

/* A key of another type, made without commands: the test is about others. */
static inline void harness_make_list(struct harness *h, const char *key) {
    struct slice k = slice_cstr(key);
    uint64_t mask = 1ULL << ks_shard_of(h->ks, k);
    ks_lock(h->ks, mask);
    struct obj *o = list_new();
    list_push(o, LIST_TAIL, (struct list_value){ .text = SLICE_LIT("1") });
    ks_set(h->ks, 0, k, o, false);
    ks_unlock(h->ks, mask);
}

#endif
