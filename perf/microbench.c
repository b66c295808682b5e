/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What the steps of a request cost on their own: parser, hash table, dispatcher. No sockets, one thread.
 *
 * Flow: perf/micro.sh links it with build/lib, runs it for nanoseconds (microbench ROUNDS) and, one bench at a time, under
 * callgrind for instructions (microbench NAME OPERATIONS): only body() is counted there, so that what prepares a bench is not.
 * Keys are picked by a fixed pseudo-random sequence, the same for every build. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "base/hash.h"
#include "base/obuf.h"
#include "cmd/batch.h"
#include "cmd/cmd.h"
#include "cmd/dispatch.h"
#include "cmd/effects.h"
#include "cmd/session.h"
#include "data/dict.h"
#include "proto/resp_parse.h"

#define BATCH 16
#define FEW 10000
#define MANY 1000000
#define RUN_NS 100000000u
#define MAX_ROUNDS 99

struct item {
    char key[32]; /* 16 characters */
};

struct state {
    long n_keys;
    uint64_t rng;
    struct item *items;
    struct dict_type type;
    struct dict dict;
    struct resp_parser parser;
    struct buf input; /* a command, or BATCH of them */
    struct keyspace *ks;
    struct cmd_table *table;
    struct engine eng;
    struct obuf out;
    struct session session;
    char value[100];
    uint64_t sink; /* results go here, so that they are computed */
};

struct bench {
    const char *name, *what;
    void (*op)(struct state *s);
    unsigned per_call; /* operations an op() is */
    long n_keys;
    const char *command; /* for `input`; NULL: none */
    unsigned repeat;     /* how often it stands there */
};

static long pick(struct state *s) {
    s->rng = s->rng * 6364136223846793005u + 1442695040888963407u;
    return (long)((s->rng >> 33) % (uint64_t)s->n_keys);
}

static struct slice key_of(const void *p) {
    const struct item *it = p;
    return (struct slice){ it->key, 16 };
}

/* ---- parser ---- */

static const struct resp_limits limits = { .max_bulk_len = 512u << 20, .max_inline = 64 * 1024, .authenticated = true };

static size_t parse_one(struct state *s, size_t at) {
    size_t used = 0;
    if (resp_parse(&s->parser, &limits, s->input.data + at, s->input.len - at, &used) != RESP_COMMAND) abort();
    return used;
}

static void op_parse(struct state *s) {
    for (size_t at = 0; at < s->input.len;) {
        at += parse_one(s, at);
        s->sink += s->parser.argv[s->parser.argc - 1].len;
    }
}

/* ---- hash table ---- */

static void op_hash(struct state *s) {
    s->sink += dict_hash(key_of(&s->items[pick(s)]));
}

static void op_find(struct state *s) {
    struct slice key = key_of(&s->items[pick(s)]);
    s->sink += dict_find(&s->dict, dict_hash(key), key) != NULL;
}

static void op_find_missing(struct state *s) {
    char text[16];
    memcpy(text, s->items[pick(s)].key, 16);
    text[0] = 'q';
    struct slice key = { text, 16 };
    s->sink += dict_find(&s->dict, dict_hash(key), key) != NULL;
}

static void op_remove_insert(struct state *s) {
    struct item *it = &s->items[pick(s)];
    uint64_t hash = dict_hash(key_of(it));
    dict_remove(&s->dict, hash, key_of(it));
    dict_insert(&s->dict, hash, it);
}

/* From empty to all keys, growing on the way. */
static void op_grow(struct state *s) {
    dict_clear(&s->dict, NULL);
    for (long i = 0; i < s->n_keys; i++) dict_insert(&s->dict, dict_hash(key_of(&s->items[i])), &s->items[i]);
}

/* ---- dispatcher ---- */

static void run(struct state *s, int argc, const struct slice *argv) {
    if (dispatch(&s->eng, &s->session, argc, argv) != DISPATCH_OK) abort();
    s->sink += s->out.bytes;
    obuf_consume(&s->out, s->out.bytes);
}

static void op_get(struct state *s) {
    run(s, 2, (struct slice[]){ SLICE_LIT("GET"), key_of(&s->items[pick(s)]) });
}

static void op_get_missing(struct state *s) {
    run(s, 2, (struct slice[]){ SLICE_LIT("GET"), SLICE_LIT("there is no such") });
}

static void op_set(struct state *s) {
    run(s, 3, (struct slice[]){ SLICE_LIT("SET"), key_of(&s->items[pick(s)]), { s->value, sizeof(s->value) } });
}

/* Its effect is encoded, for a log that takes nothing. */
static void op_set_logged(struct state *s) {
    atomic_store_explicit(&s->eng.propagate_to, EFFECT_AOF, memory_order_relaxed);
    op_set(s);
    atomic_store_explicit(&s->eng.propagate_to, 0, memory_order_relaxed);
}

static void op_incr(struct state *s) {
    run(s, 2, (struct slice[]){ SLICE_LIT("INCR"), SLICE_LIT("a counter") });
}

/* Parsed and dispatched, as the server does with what one read brought. */
static void op_pipeline(struct state *s) {
    for (size_t at = 0; at < s->input.len;) {
        at += parse_one(s, at);
        if (dispatch(&s->eng, &s->session, s->parser.argc, s->parser.argv) != DISPATCH_OK) abort();
    }
    s->sink += s->out.bytes;
    obuf_consume(&s->out, s->out.bytes);
}

/* Another key into the GET at `at`. */
static void choose_key(struct state *s, size_t at) {
    char *key = s->input.data + at + sizeof("*2\r\n$3\r\nGET\r\n$16\r\nkey:") - 1;
    long n = pick(s);
    for (int i = 11; i >= 0; i--, n /= 10) key[i] = (char)('0' + n % 10);
}

static void op_one_by_one(struct state *s) {
    for (size_t at = 0, step = s->input.len / BATCH; at < s->input.len; at += step) choose_key(s, at);
    op_pipeline(s);
}

static void op_batch(struct state *s) {
    static struct batch b;
    b.n = 0;
    for (size_t at = 0; at < s->input.len;) {
        choose_key(s, at);
        at += parse_one(s, at);
        if (!batch_add(&b, &s->eng, &s->session, s->parser.argc, s->parser.argv, at)) abort();
    }
    batch_prefetch(&b, &s->eng, &s->session);
    for (int i = 0; i < b.n; i++)
        if (batch_run(&b, i, &s->eng, &s->session) != DISPATCH_OK) abort();
    s->sink += s->out.bytes;
    obuf_consume(&s->out, s->out.bytes);
}

#define V100 "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
#define GET_TEXT "*2\r\n$3\r\nGET\r\n$16\r\nkey:000000000042\r\n"
#define SET_TEXT "*3\r\n$3\r\nSET\r\n$16\r\nkey:000000000042\r\n$100\r\n" V100 "\r\n"

static const struct bench benches[] = {
    { "parse-get", "GET, alone in the buffer", op_parse, 1, 0, GET_TEXT, 1 },
    { "parse-get-16", "GET, 16 in the buffer", op_parse, BATCH, 0, GET_TEXT, BATCH },
    { "parse-set-100", "SET of 100 bytes", op_parse, 1, 0, SET_TEXT, 1 },
    { "parse-inline", "inline PING", op_parse, 1, 0, "PING\r\n", 1 },
    { "hash", "keyed hash of 16 bytes", op_hash, 1, FEW, NULL, 0 },
    { "dict-find", "hash and find among 10,000", op_find, 1, FEW, NULL, 0 },
    { "dict-find-1m", "hash and find among 1,000,000", op_find, 1, MANY, NULL, 0 },
    { "dict-find-missing", "hash and not find among 10,000", op_find_missing, 1, FEW, NULL, 0 },
    { "dict-remove-insert", "hash, remove and insert again", op_remove_insert, 1, FEW, NULL, 0 },
    { "dict-grow", "insert into a growing table, to 10,000", op_grow, FEW, FEW, NULL, 0 },
    { "dispatch-get", "GET of 100 bytes, 10,000 keys", op_get, 1, FEW, NULL, 0 },
    { "dispatch-get-1m", "GET of 100 bytes, 1,000,000 keys", op_get, 1, MANY, NULL, 0 },
    { "dispatch-get-missing", "GET of a key that is not there", op_get_missing, 1, FEW, NULL, 0 },
    { "dispatch-set", "SET of 100 bytes over the same", op_set, 1, FEW, NULL, 0 },
    { "dispatch-set-logged", "SET of 100 bytes over the same, encoded for a log", op_set_logged, 1, FEW, NULL, 0 },
    { "dispatch-incr", "INCR", op_incr, 1, FEW, NULL, 0 },
    { "pipeline-get-16", "16 GET parsed and dispatched", op_pipeline, BATCH, FEW, GET_TEXT, BATCH },
    { "random-get-16", "16 GET of random keys, 10,000, one after the other", op_one_by_one, BATCH, FEW, GET_TEXT, BATCH },
    { "batch-get-16", "the same, looked ahead as the server does", op_batch, BATCH, FEW, GET_TEXT, BATCH },
    { "random-get-16-1m", "16 GET of random keys, 1,000,000, one after the other", op_one_by_one, BATCH, MANY, GET_TEXT, BATCH },
    { "batch-get-16-1m", "the same, looked ahead", op_batch, BATCH, MANY, GET_TEXT, BATCH },
    { "pipeline-set-16", "16 SET of 100 bytes parsed and dispatched", op_pipeline, BATCH, FEW, SET_TEXT, BATCH },
};
#define N_BENCHES (sizeof(benches) / sizeof(*benches))

/* ---- running ---- */

static void fill(struct state *s) {
    s->items = mem_calloc((size_t)s->n_keys + 1, sizeof(*s->items));
    s->type.key = key_of;
    dict_init(&s->dict, &s->type);
    for (long i = 0; i < s->n_keys; i++) {
        snprintf(s->items[i].key, sizeof(s->items[i].key), "key:%012ld", i);
        dict_insert(&s->dict, dict_hash(key_of(&s->items[i])), &s->items[i]);
        run(s, 3, (struct slice[]){ SLICE_LIT("SET"), key_of(&s->items[i]), { s->value, sizeof(s->value) } });
    }
}

static struct state *state_new(const struct bench *b) {
    struct state *s = mem_zalloc(sizeof(*s));
    struct ks_opts opts = { .n_dbs = 16, .n_shards = 64, .one_thread = true };
    s->ks = ks_new(&opts);
    s->table = cmd_table_new();
    cmd_table_register_data(s->table);
    engine_init(&s->eng, s->ks, s->table);
    session_init(&s->session, &s->out, 1);
    s->session.authenticated = true;
    resp_parser_init(&s->parser);
    memset(s->value, 'x', sizeof(s->value));
    s->n_keys = b->n_keys;
    s->rng = 42;
    fill(s);
    for (unsigned i = 0; i < b->repeat; i++) buf_append_cstr(&s->input, b->command);
    return s;
}

static struct state *state_free(struct state *s) {
    session_done(&s->session, s->ks);
    obuf_clear(&s->out);
    engine_done(&s->eng);
    cmd_table_free(s->table);
    ks_free(s->ks);
    dict_clear(&s->dict, NULL);
    resp_parser_done(&s->parser);
    buf_done(&s->input);
    mem_free(s->items);
    mem_free(s);
    return NULL;
}

/* The name is known to perf/micro.sh: callgrind collects inside of it only. */
__attribute__((noinline)) void body(const struct bench *b, struct state *s, long calls);
__attribute__((noinline)) void body(const struct bench *b, struct state *s, long calls) {
    for (long i = 0; i < calls; i++) b->op(s);
}

static uint64_t now_ns(void) {
    struct timespec ts;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts); /* what else runs on the machine does not count */
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void time_bench(const struct bench *b, int rounds) {
    double ns[MAX_ROUNDS];
    struct state *s = state_new(b);
    long calls = 1;
    for (uint64_t took = 0; took < RUN_NS / 4; calls *= 2) { /* also warms up */
        uint64_t start = now_ns();
        body(b, s, calls);
        took = now_ns() - start;
    }
    for (int i = 0; i < rounds; i++) {
        uint64_t start = now_ns();
        body(b, s, calls);
        ns[i] = (double)(now_ns() - start) / (double)calls / b->per_call;
    }
    qsort(ns, (size_t)rounds, sizeof(*ns), by_value);
    printf("%s\t%.1f\t%.1f\t%.1f\t%s\n", b->name, ns[rounds / 2], ns[0], ns[rounds - 1], b->what);
    fflush(stdout);
    state_free(s);
}

static int count_bench(const char *name, long operations) {
    for (size_t i = 0; i < N_BENCHES; i++) {
        const struct bench *b = &benches[i];
        if (strcmp(b->name, name) != 0) continue;
        struct state *s = state_new(b);
        long calls = operations / b->per_call > 0 ? operations / b->per_call : 1;
        body(b, s, 1); /* what is allocated once */
        body(b, s, calls);
        printf("%ld\n", (calls + 1) * b->per_call);
        state_free(s);
        return 0;
    }
    fprintf(stderr, "microbench: there is no %s\n", name);
    return 2;
}

int main(int argc, char **argv) {
    hash_seed_init();
    if (argc == 3) return count_bench(argv[1], strtol(argv[2], NULL, 10));
    long rounds = argc == 2 ? strtol(argv[1], NULL, 10) : 5;
    if (rounds < 1 || rounds > MAX_ROUNDS) {
        fprintf(stderr, "Usage: microbench [ROUNDS] | microbench NAME OPERATIONS\n");
        return 2;
    }
    for (size_t i = 0; i < N_BENCHES; i++) time_bench(&benches[i], (int)rounds);
    return 0;
}
