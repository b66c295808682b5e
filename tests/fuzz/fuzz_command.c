/* Fuzzes the commands: bytes of a client, parsed and dispatched to an engine with every family that needs no server. No crash, no
 * leak, nothing that grows without bound; the reply is whole RESP, one for each command, by the project's other parser. A command
 * that blocks keeps its session, and the next ones are another session's. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "base/hash.h"
#include "base/obuf.h"
#include "cmd/block.h"
#include "cmd/cmd.h"
#include "cmd/dispatch.h"
#include "cmd/session.h"
#include "proto/resp_parse.h"
#include "proto/resp_reply.h"

#define MAX_VALUE (64 * 1024)
#define MAX_COMMANDS 200
#define SESSIONS 4

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool ok) {
    if (!ok) abort();
}

struct speaker {
    struct session s;
    struct obuf out;
};

struct world {
    struct keyspace *ks;
    struct cmd_table *table;
    struct engine eng;
    struct speaker speakers[SESSIONS];
    unsigned turn;
};

/* Each reply is one value, and nothing is behind it. */
static void check_reply(struct obuf *out) {
    struct buf bytes = { 0 };
    buf_reserve(&bytes, out->bytes + 1);
    bytes.len = obuf_copy(out, bytes.data, out->bytes);
    obuf_clear(out);
    struct resp_value *v = NULL;
    size_t used = 0;
    check(resp_value_parse(bytes.data, bytes.len, &used, &v) == 1);
    check(used == bytes.len);
    resp_value_free(v);
    buf_done(&bytes);
}

static void end_wait(struct session *s) {
    struct obuf *out = s->reply.out;
    check(out->bytes == 0);
    block_finish(s);
    check_reply(out);
}

static void wake(void *arg, struct cmd_waiter *w) {
    (void)arg;
    end_wait(w->s.owner);
}

/* One that is not blocked; when all are, the next one's timeout has come. */
static struct session *next_speaker(struct world *w) {
    for (int i = 0; i < SESSIONS && w->speakers[w->turn].s.waiter; i++) w->turn = (w->turn + 1) % SESSIONS;
    struct session *s = &w->speakers[w->turn].s;
    if (!s->waiter) return s;
    check(block_time_out(s->waiter));
    end_wait(s);
    return s;
}

static void world_make(struct world *w) {
    struct ks_opts opts = { .n_dbs = 2, .n_shards = 4 };
    hash_seed_init();
    memset(w, 0, sizeof *w);
    w->ks = ks_new(&opts);
    w->table = cmd_table_new();
    cmd_table_register_data(w->table);
    engine_init(&w->eng, w->ks, w->table);
    atomic_store(&w->eng.proto_max_bulk_len, MAX_VALUE);
    w->eng.hooks.wake = wake;
    for (int i = 0; i < SESSIONS; i++) {
        struct speaker *sp = &w->speakers[i];
        session_init(&sp->s, &sp->out, (uint64_t)i + 1);
        sp->s.owner = &sp->s;
    }
}

static void world_done(struct world *w) {
    for (int i = 0; i < SESSIONS; i++) {
        block_abandon(&w->speakers[i].s);
        session_done(&w->speakers[i].s, w->ks);
        obuf_clear(&w->speakers[i].out);
    }
    engine_done(&w->eng);
    cmd_table_free(w->table);
    ks_free(w->ks);
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
        struct session *s = next_speaker(&w);
        enum dispatch_result r = dispatch(&w.eng, s, p.argc, p.argv);
        check(r == (s->waiter ? DISPATCH_BLOCKED : DISPATCH_OK));
        if (r == DISPATCH_OK) check_reply(s->reply.out);
    }
    resp_parser_done(&p);
    world_done(&w);
    return 0;
}
