/* Fuzzes the commands: bytes of a client, parsed and dispatched to an engine with every family that needs no server. No crash, no
 * leak, nothing that grows without bound; the reply is whole RESP, one for each command, by the project's other parser. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "base/hash.h"
#include "base/obuf.h"
#include "cmd/cmd.h"
#include "cmd/dispatch.h"
#include "cmd/session.h"
#include "proto/resp_parse.h"
#include "proto/resp_reply.h"

#define MAX_VALUE (64 * 1024)
#define MAX_COMMANDS 200

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool ok) {
    if (!ok) abort();
}

struct world {
    struct keyspace *ks;
    struct cmd_table *table;
    struct engine eng;
    struct obuf out;
    struct session s;
};

static void world_make(struct world *w) {
    struct ks_opts opts = { .n_dbs = 2, .n_shards = 4 };
    hash_seed_init();
    memset(w, 0, sizeof *w);
    w->ks = ks_new(&opts);
    w->table = cmd_table_new();
    cmd_table_register_data(w->table);
    engine_init(&w->eng, w->ks, w->table);
    atomic_store(&w->eng.proto_max_bulk_len, MAX_VALUE);
    session_init(&w->s, &w->out, 1);
}

static void world_done(struct world *w) {
    session_done(&w->s, w->ks);
    obuf_clear(&w->out);
    engine_done(&w->eng);
    cmd_table_free(w->table);
    ks_free(w->ks);
}

/* Each reply is one value, and nothing is behind it. */
static void check_reply(struct world *w) {
    struct buf bytes = { 0 };
    buf_reserve(&bytes, w->out.bytes + 1);
    bytes.len = obuf_copy(&w->out, bytes.data, w->out.bytes);
    obuf_clear(&w->out);
    struct resp_value *v = NULL;
    size_t used = 0;
    check(resp_value_parse(bytes.data, bytes.len, &used, &v) == 1);
    check(used == bytes.len);
    resp_value_free(v);
    buf_done(&bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct world w;
    struct resp_parser p;
    const struct resp_limits lim = { .max_bulk_len = MAX_VALUE, .max_inline = 4096, .authenticated = true };
    if (size > 16384) return 0;
    world_make(&w);
    resp_parser_init(&p);
    for (size_t off = 0, n = 0; off < size && n < MAX_COMMANDS; n++) {
        size_t used = 0;
        if (resp_parse(&p, &lim, (const char *)data + off, size - off, &used) != RESP_COMMAND) break;
        off += used;
        check(dispatch(&w.eng, &w.s, p.argc, p.argv) == DISPATCH_OK);
        check_reply(&w);
    }
    resp_parser_done(&p);
    world_done(&w);
    return 0;
}
