/*
 * Applying the primary's stream. Place in the flow: the connection is a client of thread 0 (client_adopt); its bytes come here
 * instead of to client.c's parser, commands go through the dispatcher like everybody's, without replies.
 *
 *        applied            run                   received
 *   ------+------------------+---------------------+
 *         |  MULTI, queued   |  part of a command  |         raw: from `applied` on
 *         `- offset, backlog
 *
 * The offset moves over whole commands, and over transactions as a whole: if the connection ends in the middle of one, it is
 * asked for again from its beginning. It moves, and the bytes go to this server's own backlog, before the locks of the command
 * are released (repl_apply_commit): whoever holds all shards (REPLICAOF NO ONE on another thread, a fork) finds that what is in
 * the data is in the history, and nothing else. Commands that take no lock change no data, and count when they are done.
 *
 * Thread: thread 0's.
 */
#include "server/repl_apply.h"

#include <assert.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "repl/replica_handshake.h"
#include "server/aof_server.h"
#include "server/refusal.h"
#include "server/repl_link.h"
#include "server/replica.h"

#define RAW_MAX (1024 * 1024) /* bytes received while nothing may be run; then the primary has to wait */

struct primary_stream {
    uint64_t epoch;
    struct buf raw;    /* received, from the first byte that is not applied */
    size_t run;        /* bytes of raw whose commands have been run, or are queued */
    const char *bytes; /* raw, or what has just come, while commands are run */
    size_t applied;    /* bytes of it that are */
    size_t upto;       /* the end of the command being run; it counts when that, or its transaction, is done */
    bool is_committed; /* the command being run is counted */
};

static struct repl_link *link_of(const struct client *c) {
    return c->srv->repl->link;
}

bool repl_apply_is_current(const struct client *c) {
    return c->primary->epoch == atomic_load_explicit(&link_of(c)->epoch, memory_order_acquire);
}

/* ---- counting ---- */

/* Under repl->lock with the database: a fork sees both or neither. */
static void count(struct client *c, int db) {
    struct primary_stream *p = c->primary;
    struct repl *r = c->srv->repl;
    if (p->upto == p->applied || !repl_apply_is_current(c)) return;
    const char *bytes = p->bytes ? p->bytes : p->raw.data; /* a script that took long has ended between two runs */
    pthread_mutex_lock(&r->lock);
    uint64_t end = backlog_append(r->backlog, bytes + p->applied, p->upto - p->applied);
    r->link->stream_db = db;
    pthread_mutex_unlock(&r->lock);
    c->s.repl_offset = end;
    if (aof_is_on(c->srv->aof)) aof_note_repl(c->srv->aof, end);
    p->applied = p->upto;
}

void repl_apply_commit(void *srv, struct cmd_ctx *ctx) {
    struct client *c = client_of(ctx->s);
    (void)srv;
    if (!c || !c->primary) return; /* an append-only file is loaded */
    if (ctx->s->in_multi && !(ctx->cmd->flags & CMD_IS_EXEC)) return;
    count(c, atomic_load_explicit(&ctx->s->db, memory_order_relaxed));
    c->primary->is_committed = true;
}

/* ---- commands ---- */

static bool is_getack(const struct resp_parser *p) {
    return p->argc >= 2 && slice_ieq(p->argv[0], "replconf") && slice_ieq(p->argv[1], "getack");
}

static bool panics_on_error(const struct config *cfg) {
    return cfg_get(&cfg->propagation_error_behavior) != CFG_PROPAGATION_IGNORE && cfg_get(&cfg->replica_read_only);
}

static void broken(struct client *c) {
    log_warning("Protocol error (%s) from the primary: the link is closed", c->parser.error);
    conn_close(&c->conn, CONN_END_LOCAL, "");
}

/* Something keeps the command from being run now: it is parsed again later. */
static void put_off(struct client *c) {
    resp_parser_done(&c->parser);
    resp_parser_init(&c->parser);
    client_put_off(c);
}

/* False: nothing more for now. */
static bool run_one(struct client *c) {
    struct primary_stream *p = c->primary;
    p->is_committed = false;
    if (is_getack(&c->parser)) {
        repl_link_send_ack(c->srv);
    } else {
        enum dispatch_result d = dispatch(&c->srv->eng, &c->s, c->parser.argc, c->parser.argv);
        if (d == DISPATCH_POSTPONED) {
            put_off(c);
            return false;
        }
        const struct cmd *cmd = atomic_load_explicit(&c->s.last_cmd, memory_order_relaxed);
        refusal_note_applied(c->srv, &c->s.reply, "replica", "master", cmd ? cmd->full_name : "?", panics_on_error(c->srv->cfg));
        if (d == DISPATCH_SUSPENDED) client_suspend(c);
    }
    resp_parser_let_go(&c->parser);
    p->run = p->upto;
    if (!p->is_committed && !c->s.in_multi) count(c, atomic_load_explicit(&c->s.db, memory_order_relaxed));
    return !c->is_suspended;
}

static bool may_go_on(const struct client *c) {
    return !conn_is_closing(&c->conn) && !client_is_killed(c) && list_empty(&c->paused_node) && !c->is_suspended &&
           repl_apply_is_current(c);
}

/* Runs what is whole. data: len bytes from the first one that is not applied. Returns how many of them are applied: those must
 * not be kept. */
static size_t run(struct client *c, const char *data, size_t len) {
    static const struct resp_limits lim = { .max_bulk_len = SIZE_MAX / 4, .max_inline = 64 * 1024, .authenticated = true };
    struct primary_stream *p = c->primary;
    p->bytes = data;
    p->upto = p->run;
    c->s.in_row = true;
    while (p->run < len && may_go_on(c)) {
        size_t used = 0;
        enum resp_result r = resp_parse(&c->parser, &lim, data + p->run, len - p->run, &used);
        p->upto = p->run + used;
        if (r == RESP_ERROR) {
            broken(c);
            break;
        }
        if (r == RESP_NEED_MORE) { /* what was used are empty lines */
            p->run = p->upto;
            if (!c->s.in_multi) count(c, atomic_load_explicit(&c->s.db, memory_order_relaxed));
            break;
        }
        if (!run_one(c)) break;
    }
    ks_let_go();
    c->s.in_row = false;
    c->s.ended = 0;
    size_t applied = p->applied;
    p->bytes = NULL;
    p->run -= applied;
    p->upto -= applied;
    p->applied = 0;
    return applied;
}

/* What was counted between two runs. */
static void drop_applied(struct primary_stream *p) {
    buf_consume(&p->raw, p->applied);
    p->run -= p->applied;
    p->applied = p->upto = 0;
}

static void run_raw(struct client *c) {
    struct primary_stream *p = c->primary;
    drop_applied(p);
    buf_consume(&p->raw, run(c, p->raw.data, p->raw.len));
    if (p->raw.len == 0) buf_done(&p->raw);
}

static void keep(struct primary_stream *p, const char *data, size_t len) {
    if (len) buf_append(&p->raw, data, len);
}

void repl_apply_data(struct client *c, char *data, size_t len) {
    struct primary_stream *p = c->primary;
    atomic_store_explicit(&link_of(c)->last_io_us, loop_now_us(c->th->loop), memory_order_relaxed);
    if (p->raw.len == 0 && may_go_on(c)) {
        size_t applied = run(c, data, len);
        keep(p, data + applied, len - applied);
    } else {
        keep(p, data, len);
        if (may_go_on(c)) run_raw(c);
    }
    if (p->raw.len > RAW_MAX && !may_go_on(c)) conn_pause_reading(&c->conn);
}

void repl_apply_kept(struct client *c) {
    if (may_go_on(c)) run_raw(c);
}

/* ---- life ---- */

struct primary_stream *repl_apply_new(void) {
    return mem_zalloc(sizeof(struct primary_stream));
}

void repl_apply_begin(struct client *c, uint64_t epoch, int db, struct slice left) {
    struct primary_stream *p = c->primary;
    p->epoch = epoch;
    atomic_store_explicit(&c->s.db, db, memory_order_relaxed);
    keep(p, left.ptr, left.len);
}

void repl_apply_free(struct client *c) {
    buf_done(&c->primary->raw);
    mem_free(c->primary);
    c->primary = NULL;
}
