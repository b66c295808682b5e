/* The tests: redis-benchmark's names and commands, so that results can be set side by side.
 *
 * Flow: main_benchmark.c passes a function; it is called with each selected test's request, ready to send.
 * Threads: the main thread; a test's bytes are read by all threads while it runs. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/str.h"
#include "tools/bench.h"

/* Words are split at blanks; DATA becomes the payload, SCORE a random score with -r and 0 without. */
struct test {
    const char *title, *names, *words;
};

static const struct test tests[] = {
    { "PING_INLINE", "ping_inline,ping", NULL },
    { "PING_MBULK", "ping_mbulk,ping", "PING" },
    { "SET", "set", "SET key:" BENCH_RAND " DATA" },
    { "GET", "get", "GET key:" BENCH_RAND },
    { "INCR", "incr", "INCR counter:" BENCH_RAND },
    { "LPUSH", "lpush", "LPUSH mylist DATA" },
    { "RPUSH", "rpush", "RPUSH mylist DATA" },
    { "LPOP", "lpop", "LPOP mylist" },
    { "RPOP", "rpop", "RPOP mylist" },
    { "SADD", "sadd", "SADD myset element:" BENCH_RAND },
    { "HSET", "hset", "HSET myhash element:" BENCH_RAND " DATA" },
    { "SPOP", "spop", "SPOP myset" },
    { "ZADD", "zadd", "ZADD myzset SCORE element:" BENCH_RAND },
    { "ZPOPMIN", "zpopmin", "ZPOPMIN myzset" },
    { "LPUSH (needed to benchmark LRANGE)", "lrange,lrange_100,lrange_300,lrange_500,lrange_600", "LPUSH mylist DATA" },
    { "LRANGE_100 (first 100 elements)", "lrange,lrange_100", "LRANGE mylist 0 99" },
    { "LRANGE_300 (first 300 elements)", "lrange,lrange_300", "LRANGE mylist 0 299" },
    { "LRANGE_500 (first 500 elements)", "lrange,lrange_500", "LRANGE mylist 0 499" },
    { "LRANGE_600 (first 600 elements)", "lrange,lrange_600", "LRANGE mylist 0 599" },
    { "MSET (10 keys)", "mset",
      "MSET key:" BENCH_RAND " DATA key:" BENCH_RAND " DATA key:" BENCH_RAND " DATA key:" BENCH_RAND " DATA key:" BENCH_RAND
      " DATA key:" BENCH_RAND " DATA key:" BENCH_RAND " DATA key:" BENCH_RAND " DATA key:" BENCH_RAND " DATA key:" BENCH_RAND
      " DATA" },
};

#define MAX_WORDS 24

static bool list_has(const char *list, const char *name, size_t len) {
    for (const char *p = list; *p;) {
        size_t n = strcspn(p, ",");
        if (n == len && strncasecmp(p, name, n) == 0) return true;
        p += n + (p[n] == ',');
    }
    return false;
}

static bool selected(const struct bench_cfg *cfg, const struct test *t) {
    if (!cfg->tests) return true;
    for (const char *p = cfg->tests; *p;) {
        size_t n = strcspn(p, ",");
        if (list_has(t->names, p, n)) return true;
        p += n + (p[n] == ',');
    }
    return false;
}

bool bench_is_test_name(const char *name, size_t len) {
    for (size_t i = 0; i < sizeof(tests) / sizeof(*tests); i++)
        if (list_has(tests[i].names, name, len)) return true;
    return false;
}

/* ---- requests ---- */

static void find_random(const struct bench_cfg *cfg, struct bench_cmd *cmd) {
    if (!cfg->random_keys) return;
    char *base = cmd->bytes.data;
    size_t left = cmd->bytes.len, at = 0;
    char *hit;
    while ((hit = memmem(base + at, left - at, BENCH_RAND, BENCH_RAND_LEN)) != NULL) {
        cmd->rand_at = mem_realloc(cmd->rand_at, (cmd->n_rand + 1) * sizeof(*cmd->rand_at));
        cmd->rand_at[cmd->n_rand++] = (size_t)(hit - base);
        at = (size_t)(hit - base) + BENCH_RAND_LEN;
    }
}

static void cmd_done(struct bench_cmd *cmd) {
    mem_free(cmd->title);
    mem_free(cmd->rand_at);
    buf_done(&cmd->bytes);
}

static void build_test(const struct bench_cfg *cfg, const struct test *t, const char *data, struct bench_cmd *cmd) {
    struct slice argv[MAX_WORDS];
    int argc = 0;
    *cmd = (struct bench_cmd){ .title = mem_strdup(t->title), .payload_len = (size_t)cfg->data_len };
    if (!t->words) {
        buf_append_cstr(&cmd->bytes, "PING\r\n");
        return;
    }
    for (const char *p = t->words; *p && argc < MAX_WORDS;) {
        size_t n = strcspn(p, " ");
        struct slice word = { p, n };
        if (slice_eq(word, SLICE_LIT("DATA")))
            word = (struct slice){ data, (size_t)cfg->data_len };
        else if (slice_eq(word, SLICE_LIT("SCORE")))
            word = cfg->random_keys ? SLICE_LIT(BENCH_RAND) : SLICE_LIT("0");
        argv[argc++] = word;
        p += n + (p[n] == ' ');
    }
    resp_write_command(&cmd->bytes, argc, argv);
    find_random(cfg, cmd);
}

static char *read_stdin(size_t *ret_len) {
    struct buf in = { 0 };
    for (;;) {
        buf_reserve(&in, 16384);
        size_t n = fread(in.data + in.len, 1, in.cap - in.len, stdin);
        in.len += n;
        if (n == 0) return buf_steal(&in, ret_len);
    }
}

static void build_user_command(const struct bench_cfg *cfg, struct bench_cmd *cmd) {
    struct slice *argv = mem_calloc((size_t)cfg->argc + 1, sizeof(*argv));
    struct buf title = { 0 };
    char *last = NULL;
    int argc = 0;
    size_t len;
    *cmd = (struct bench_cmd){ 0 };
    for (int i = 0; i < cfg->argc; i++) {
        argv[argc++] = slice_cstr(cfg->argv[i]);
        buf_printf(&title, "%s%s", i ? " " : "", cfg->argv[i]);
    }
    if (cfg->stdin_last) {
        last = read_stdin(&len);
        argv[argc++] = (struct slice){ last, len };
        buf_append_cstr(&title, " (data from standard input)");
    }
    cmd->title = buf_steal(&title, &len);
    resp_write_command(&cmd->bytes, argc, argv);
    cmd->payload_len = cmd->bytes.len;
    find_random(cfg, cmd);
    mem_free(last);
    mem_free(argv);
}

/* Printable bytes that do not compress well: a server or a link that compresses gets no unreal gift. */
static char *make_data(const struct bench_cfg *cfg) {
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_";
    char *data = mem_alloc((size_t)cfg->data_len + 1);
    uint32_t x = 2463534242u;
    for (long i = 0; i < cfg->data_len; i++) {
        x ^= x << 13;
        x ^= x >> 17;
        x ^= x << 5;
        data[i] = letters[x & 63];
    }
    data[cfg->data_len] = '\0';
    return data;
}

int bench_for_each_test(const struct bench_cfg *cfg, int (*fn)(const struct bench_cmd *cmd, void *arg), void *arg) {
    struct bench_cmd cmd;
    int sum = 0;
    if (cfg->argc > 0) {
        build_user_command(cfg, &cmd);
        sum = fn(&cmd, arg);
        cmd_done(&cmd);
        return sum;
    }
    char *data = make_data(cfg);
    for (size_t i = 0; i < sizeof(tests) / sizeof(*tests); i++) {
        if (!selected(cfg, &tests[i])) continue;
        build_test(cfg, &tests[i], data, &cmd);
        sum += fn(&cmd, arg);
        cmd_done(&cmd);
    }
    mem_free(data);
    return sum;
}
