/* Fuzzes what scripting parses of peers' bytes. The first byte says what the rest is: MessagePack or a packed structure for a
 * script's library, a library's or a script's text with its first line, a payload for FUNCTION RESTORE (with and without a footer
 * that is right), a whole script. No crash, no leak; the next script sees the same world as the first. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "base/crc64.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/obuf.h"
#include "cmd/cmd.h"
#include "cmd/dispatch.h"
#include "cmd/session.h"
#include "proto/resp_reply.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct keyspace *ks;
static struct cmd_table *table;
static struct engine eng;
static struct obuf out;
static struct session session;

static void check(bool ok) {
    if (!ok) abort();
}

static void make_world(void) {
    struct ks_opts opts = { .n_dbs = 1, .n_shards = 1 };
    if (ks) return;
    hash_seed_init();
    log_set_level(LOG_LEVEL_NOTHING);
    ks = ks_new(&opts);
    table = cmd_table_new();
    cmd_table_register_data(table);
    engine_init(&eng, ks, table);
    session_init(&session, &out, 1);
}

/* The reply is one value of RESP. */
static void run(int argc, const struct slice *argv, const char *expected) {
    struct buf bytes = { 0 };
    check(dispatch(&eng, &session, argc, argv) == DISPATCH_OK);
    buf_reserve(&bytes, out.bytes + 1);
    bytes.len = obuf_copy(&out, bytes.data, out.bytes);
    obuf_clear(&out);
    if (expected) check(strcmp(buf_cstr(&bytes), expected) == 0);
    struct resp_value *v = NULL;
    size_t used = 0;
    int r = resp_value_parse(bytes.data, bytes.len, &used, &v);
    if (r == 1) {
        check(used == bytes.len);
        resp_value_free(v);
    }
    buf_done(&bytes);
}

static void run_library(const char *script, struct slice arg) {
    const struct slice argv[] = { SLICE_LIT("eval"), slice_cstr(script), SLICE_LIT("0"), arg };
    run(4, argv, NULL);
}

static void restore(struct slice payload) {
    const struct slice argv[] = { SLICE_LIT("function"), SLICE_LIT("restore"), payload, SLICE_LIT("flush") };
    run(4, argv, NULL);
}

static void restore_with_footer(struct slice body) {
    struct buf b = { 0 };
    buf_append(&b, body.ptr, body.len);
    buf_append(&b, "\x0a\0", 2);
    uint64_t crc = crc64(0, b.data, b.len);
    for (int i = 0; i < 8; i++) buf_append_char(&b, (char)(crc >> (8 * i)));
    restore(buf_slice(&b));
    buf_done(&b);
}

/* Only the first line is the fuzzer's: its code could loop, and there is nobody to end it. */
static void first_lines(struct slice line) {
    struct buf b = { 0 };
    buf_append_cstr(&b, "#!lua ");
    for (size_t i = 0; i < line.len; i++) buf_append_char(&b, line.ptr[i] == '\n' ? ' ' : line.ptr[i]);
    buf_append_cstr(&b, "\nredis.register_function('f',function() return 1 end)");
    const struct slice library[] = { SLICE_LIT("function"), SLICE_LIT("load"), SLICE_LIT("replace"), buf_slice(&b) };
    run(4, library, NULL);
    const struct slice script[] = { SLICE_LIT("eval"),
                                    { b.data, b.len - strlen("redis.register_function('f',function() return 1 end)") },
                                    SLICE_LIT("0") };
    run(3, script, NULL);
    buf_done(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 1 || size > 16384) return 0;
    make_world();
    struct slice rest = { (const char *)data + 1, size - 1 };
    switch (data[0] % 6) {
    case 0:
        run_library("return {cmsgpack.unpack(ARGV[1])}", rest);
        break;
    case 1:
        run_library("local ok,v=pcall(cmsgpack.unpack,ARGV[1]) if ok then return cmsgpack.pack(v) end", rest);
        break;
    case 2:
        run_library("local f,d=ARGV[1]:match('^([^|]*)|(.*)$') if f then return {struct.unpack(f,d)} end", rest);
        break;
    case 3:
        restore(rest);
        break;
    case 4:
        restore_with_footer(rest);
        break;
    default:
        first_lines(rest);
        break;
    }
    const struct slice flush[] = { SLICE_LIT("function"), SLICE_LIT("flush") },
                       drop[] = { SLICE_LIT("script"), SLICE_LIT("flush") };
    const struct slice same[] = { SLICE_LIT("eval"), SLICE_LIT("return rawget(_G,'f')==nil and #cmsgpack.pack(1)"),
                                  SLICE_LIT("0") };
    run(3, same, ":1\r\n");
    run(2, flush, "+OK\r\n");
    if (data[0] % 6 == 5) run(2, drop, "+OK\r\n");
    return 0;
}
