/* Modes that walk the keyspace with SCAN: --scan, --bigkeys, --memkeys.
 *
 * Flow: main() calls one of them instead of running a command. One SCAN page at a time; the TYPE and size of a page's keys are
 * asked for in two pipelined batches, so the cost is two round trips a page and not two a key.
 * Threads: one. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "base/str.h"
#include "tools/cli.h"

static void fail(const char *text, struct slice detail) __attribute__((noreturn));
static void fail(const char *text, struct slice detail) {
    fprintf(stderr, "%s%.*s\n", text, (int)detail.len, detail.ptr ? detail.ptr : "");
    exit(1);
}

/* ---- SCAN ---- */

struct scan {
    char cursor[32];
    bool done;
};

/* One page: the whole reply, whose el[1] are the keys. The caller frees. */
static struct resp_value *scan_page(struct cli *c, struct scan *s) {
    struct slice argv[6] = { SLICE_LIT("SCAN"), slice_cstr(s->cursor) };
    char count[32];
    int argc = 2;
    if (c->cfg.pattern.ptr) {
        argv[argc++] = SLICE_LIT("MATCH");
        argv[argc++] = c->cfg.pattern;
    }
    if (c->cfg.scan_count > 0) {
        snprintf(count, sizeof(count), "%ld", c->cfg.scan_count);
        argv[argc++] = SLICE_LIT("COUNT");
        argv[argc++] = slice_cstr(count);
    }
    struct resp_value *v = cli_must_call(c, argc, argv);
    if (cli_is_error(v)) fail("SCAN error: ", v->str);
    if (v->type != RESP_T_ARRAY) fail("Non ARRAY response from SCAN!", (struct slice){ 0 });
    if (v->n != 2 || v->el[1].type != RESP_T_ARRAY || v->el[0].str.len >= sizeof(s->cursor))
        fail("Invalid element count from SCAN!", (struct slice){ 0 });
    snprintf(s->cursor, sizeof s->cursor, "%.*s", (int)v->el[0].str.len, v->el[0].str.ptr);
    s->done = strcmp(s->cursor, "0") == 0;
    return v;
}

static void print_keys(const struct cli *c, const struct resp_value *keys) {
    struct buf out = { 0 };
    for (size_t i = 0; i < keys->n; i++) {
        if (c->cfg.output == CLI_STANDARD)
            str_quote(&out, keys->el[i].str);
        else
            buf_append(&out, keys->el[i].str.ptr, keys->el[i].str.len);
        buf_append_char(&out, '\n');
    }
    cli_print(&out);
    buf_done(&out);
}

int cli_scan_mode(struct cli *c) {
    struct scan s = { .cursor = "0" };
    while (!s.done) {
        struct resp_value *page = scan_page(c, &s);
        print_keys(c, &page->el[1]);
        resp_value_free(page);
        if (c->cfg.interval_us > 0) cli_sleep_us(c->cfg.interval_us);
    }
    return 0;
}

/* ---- big keys ---- */

struct kind {
    const char *name, *size_command, *unit;
    uint64_t count, total, biggest;
    struct buf biggest_key; /* quoted */
};

#define MAX_KINDS 32 /* modules bring types of their own */

struct sampler {
    struct cli *cli;
    bool by_memory;
    struct kind kinds[MAX_KINDS];
    int n_kinds;
    uint64_t keys_total, sampled, key_bytes, pages;
};

static struct kind *find_kind(struct sampler *s, struct slice name) {
    for (int i = 0; i < s->n_kinds; i++)
        if (slice_ieq(name, s->kinds[i].name)) return &s->kinds[i];
    if (s->n_kinds == MAX_KINDS) return NULL;
    struct kind *k = &s->kinds[s->n_kinds++];
    k->name = mem_memdup0(name.ptr, name.len);
    k->unit = "?";
    return k;
}

static struct resp_value *must_recv(struct cli *c) {
    struct resp_value *v = NULL;
    if (tool_conn_recv(&c->conn, &v, TOOL_NO_DEADLINE) != 0) {
        fprintf(stderr, "Error: %s\n", c->conn.err);
        exit(1);
    }
    return v;
}

static void must_send(struct cli *c, struct buf *out) {
    if (tool_conn_send(&c->conn, buf_slice(out), TOOL_NO_DEADLINE) != 0) {
        fprintf(stderr, "Error: %s\n", c->conn.err);
        exit(1);
    }
    buf_done(out);
}

static void ask_types(struct sampler *s, const struct resp_value *keys, struct kind **kinds) {
    struct buf out = { 0 };
    for (size_t i = 0; i < keys->n; i++) {
        struct slice argv[2] = { SLICE_LIT("TYPE"), keys->el[i].str };
        resp_write_command(&out, 2, argv);
    }
    must_send(s->cli, &out);
    for (size_t i = 0; i < keys->n; i++) {
        struct resp_value *v = must_recv(s->cli);
        if (cli_is_error(v)) fail("TYPE returned an error: ", v->str);
        kinds[i] = v->type == RESP_T_STATUS && !slice_ieq(v->str, "none") ? find_kind(s, v->str) : NULL;
        resp_value_free(v);
    }
}

static int size_command(const struct sampler *s, const struct kind *k, struct slice key, char *samples, struct slice *argv) {
    if (!s->by_memory) {
        argv[0] = slice_cstr(k->size_command);
        argv[1] = key;
        return 2;
    }
    argv[0] = SLICE_LIT("MEMORY");
    argv[1] = SLICE_LIT("USAGE");
    argv[2] = key;
    if (s->cli->cfg.memkeys_samples <= 0) return 3;
    snprintf(samples, 32, "%ld", s->cli->cfg.memkeys_samples);
    argv[3] = SLICE_LIT("SAMPLES");
    argv[4] = slice_cstr(samples);
    return 5;
}

static bool has_size(const struct sampler *s, const struct kind *k) {
    return k && (s->by_memory || k->size_command);
}

static void ask_sizes(struct sampler *s, const struct resp_value *keys, struct kind **kinds, uint64_t *sizes) {
    struct buf out = { 0 };
    struct slice argv[5];
    char samples[32];
    for (size_t i = 0; i < keys->n; i++)
        if (has_size(s, kinds[i])) resp_write_command(&out, size_command(s, kinds[i], keys->el[i].str, samples, argv), argv);
    if (out.len > 0) must_send(s->cli, &out);
    for (size_t i = 0; i < keys->n; i++) {
        sizes[i] = 0;
        if (!has_size(s, kinds[i])) continue;
        struct resp_value *v = must_recv(s->cli);
        if (v->type == RESP_T_INT)
            sizes[i] = v->integer > 0 ? (uint64_t)v->integer : 0;
        else
            fprintf(stderr, "Warning:  %s on '%.*s' failed (may have changed type)\n",
                    s->by_memory ? "MEMORY USAGE" : kinds[i]->size_command, (int)keys->el[i].str.len, keys->el[i].str.ptr);
        resp_value_free(v);
    }
}

static void note_key(struct sampler *s, struct kind *k, struct slice key, uint64_t size, double done) {
    const char *unit = s->by_memory ? "bytes" : k->unit;
    k->count++;
    k->total += size;
    s->sampled++;
    s->key_bytes += key.len;
    if (size > k->biggest) {
        k->biggest = size;
        buf_clear(&k->biggest_key);
        str_quote(&k->biggest_key, key);
        printf("[%05.2f%%] Biggest %-6s found so far '%s' with %" PRIu64 " %s\n", done, k->name, buf_cstr(&k->biggest_key), size,
               unit);
    }
    if (s->sampled % 1000000 == 0) printf("[%05.2f%%] Sampled %" PRIu64 " keys so far\n", done, s->sampled);
}

static void sample_page(struct sampler *s, const struct resp_value *keys) {
    if (keys->n == 0) return;
    struct kind **kinds = mem_calloc(keys->n, sizeof(*kinds));
    uint64_t *sizes = mem_calloc(keys->n, sizeof(*sizes));
    double done = s->keys_total ? 100.0 * (double)s->sampled / (double)s->keys_total : 0;
    ask_types(s, keys, kinds);
    ask_sizes(s, keys, kinds, sizes);
    for (size_t i = 0; i < keys->n; i++)
        if (kinds[i]) note_key(s, kinds[i], keys->el[i].str, sizes[i], done);
    fflush(stdout);
    mem_free(sizes);
    mem_free(kinds);
}

static void print_summary(struct sampler *s) {
    printf("\n-------- summary -------\n\n");
    printf("Sampled %" PRIu64 " keys in the keyspace!\n", s->sampled);
    printf("Total key length in bytes is %" PRIu64 " (avg len %.2f)\n\n", s->key_bytes,
           s->sampled ? (double)s->key_bytes / (double)s->sampled : 0);
    for (int i = 0; i < s->n_kinds; i++) {
        struct kind *k = &s->kinds[i];
        if (k->biggest > 0)
            printf("Biggest %6s found '%s' has %" PRIu64 " %s\n", k->name, buf_cstr(&k->biggest_key), k->biggest,
                   s->by_memory ? "bytes" : k->unit);
    }
    printf("\n");
    for (int i = 0; i < s->n_kinds; i++) {
        struct kind *k = &s->kinds[i];
        printf("%" PRIu64 " %ss with %" PRIu64 " %s (%05.2f%% of keys, avg size %.2f)\n", k->count, k->name, k->total,
               s->by_memory ? "bytes" : k->unit, s->sampled ? 100.0 * (double)k->count / (double)s->sampled : 0,
               k->count ? (double)k->total / (double)k->count : 0);
    }
}

int cli_bigkeys_mode(struct cli *c, bool by_memory) {
    static const struct kind known[] = {
        { .name = "list", .size_command = "LLEN", .unit = "items" },
        { .name = "hash", .size_command = "HLEN", .unit = "fields" },
        { .name = "string", .size_command = "STRLEN", .unit = "bytes" },
        { .name = "stream", .size_command = "XLEN", .unit = "entries" },
        { .name = "set", .size_command = "SCARD", .unit = "members" },
        { .name = "zset", .size_command = "ZCARD", .unit = "members" },
    };
    struct sampler s = { .cli = c, .by_memory = by_memory, .n_kinds = sizeof(known) / sizeof(*known) };
    memcpy(s.kinds, known, sizeof(known));
    struct resp_value *v = cli_must_call(c, 1, &SLICE_LIT("DBSIZE"));
    s.keys_total = v->type == RESP_T_INT ? (uint64_t)v->integer : 0;
    resp_value_free(v);

    printf("\n# Scanning the entire keyspace to find biggest keys as well as\n"
           "# average sizes per key type.  You can use -i 0.1 to sleep 0.1 sec\n"
           "# per 100 SCAN commands (not usually needed).\n\n");
    cli_catch_interrupt(true); /* Ctrl-C: the summary of what was seen */
    struct scan scan = { .cursor = "0" };
    while (!scan.done && !cli_interrupted) {
        struct resp_value *page = scan_page(c, &scan);
        sample_page(&s, &page->el[1]);
        resp_value_free(page);
        if (++s.pages % 100 == 0 && c->cfg.interval_us > 0) cli_sleep_us(c->cfg.interval_us);
    }
    print_summary(&s);
    for (int i = 0; i < s.n_kinds; i++) buf_done(&s.kinds[i].biggest_key);
    return 0;
}
