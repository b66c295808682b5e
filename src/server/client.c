/*
 * Clients: from accepted socket to executed commands. All of it runs on the I/O thread that accepted the connection.
 *
 * Bytes that arrive are parsed where the loop put them; only an incomplete command is copied into qbuf. So an idle client holds
 * no buffer, and a simple command costs no allocation. A large argument is received into memory of its own, from the socket where
 * the transport allows it, and that memory becomes the value. Replies gather in conn.out and leave with one writev before the
 * loop sleeps, or at once where they are many (send_if_much).
 *
 * CLIENT PAUSE: the command that must wait stays unparsed in qbuf, reading stops, the client sits in th->paused until the pause
 * ends. A blocked client (client_block.c) keeps in qbuf what it sends meanwhile, and reading stops when that is much.
 */
#include "server/client.h"
#include "server/aof_server.h"
#include "cmd/effects.h"
#include "server/evict.h"
#include "server/monitor.h"
#include "server/observe.h"
#include "server/refusal.h"
#include "server/repl_wait.h"
#include "server/replica.h"
#include "server/repl_apply.h"
#include "server/repl_link.h"
#include "server/tracking.h"

#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/counter.h"
#include "base/log.h"
#include "net/listen.h"

#define UNAUTHENTICATED_QUERY_MAX (1024 * 1024)
#define QUERY_KEEP (1024 * 1024) /* a larger buffer that is mostly empty is given back */
#define LARGE_MIN 65536          /* bytes of an argument from which on it is received into memory of its own */
#define LARGE_FIRST 262144       /* bytes given to a large argument to begin with */
#define LARGE_GROWTH 4
#define SEND_AT_ONCE 65536        /* bytes of replies */
#define CLOSE_FLUSH_US 1000000    /* a closing client that takes none of its last reply for so long has lost it */
#define BLOCKED_QUERY_MAX 65536   /* bytes that a blocked client may have sent before it is not read any more */
#define MAX_PAUSE_WAIT_MS 3600000 /* then the timer looks again: a pause may be longer than the clock can count */
#define UNAUTHENTICATED_OUTPUT                                                                                                   \
    (1 << 20) /* of replies not read by a client that has not said who it is; more than one read makes */

static struct client *client_of_conn(struct conn *conn) {
    return list_entry(conn, struct client, conn);
}

static struct slice id_of(const void *item) {
    return (struct slice){ (const char *)&((const struct client *)item)->s.id, sizeof(uint64_t) };
}

static struct dict_type id_type = { .key = id_of };

void client_ids_init(struct io_thread *th) {
    dict_init(&th->by_id, &id_type);
}

struct client *client_by_id(struct io_thread *th, uint64_t id) {
    struct slice key = { (const char *)&id, sizeof id };
    return dict_find(&th->by_id, dict_hash(key), key);
}

/* ---- figures ---- */

/* For maxmemory-clients; what is being closed is counted as gone. */
static void count_memory(struct client *c) {
    size_t mem = sizeof *c + c->qbuf.cap + c->large.cap + c->conn.out.mem + c->s.queue_bytes;
    if (atomic_load_explicit(&c->flags, memory_order_relaxed) & CLIENT_CLOSING) mem = 0;
    int64_t before = atomic_exchange_explicit(&c->mem_counted, (int64_t)mem, memory_order_relaxed);
    if ((int64_t)mem == before) return;
    atomic_fetch_add_explicit(&c->th->clients_mem, (int64_t)mem - before, memory_order_relaxed);
    if ((int64_t)mem > before) evict_clients(c->srv);
}

static void publish(struct client *c) {
    uint64_t in = c->conn.bytes_in - c->bytes_in_seen, out = c->conn.bytes_out - c->bytes_out_seen;
    c->bytes_in_seen += in;
    c->bytes_out_seen += out;
    if (in) counter_add(&c->th->reads, 1);
    if (out) counter_add(&c->th->writes, 1);
    counter_add(&c->th->bytes_in, in);
    counter_add(&c->th->bytes_out, out);
    if (c->conn.transport == CONN_KTLS) {
        counter_add(&c->th->ktls_bytes_in, in);
        counter_add(&c->th->ktls_bytes_out, out);
    } else if (c->conn.transport == CONN_KTLS_TX) {
        counter_add(&c->th->ktls_bytes_out, out);
    }
    size_t queried = c->qbuf.len + c->large.len;
    atomic_store_explicit(&c->qbuf_len, queried, memory_order_relaxed);
    atomic_store_explicit(&c->qbuf_free, c->qbuf.cap + c->large.cap - queried, memory_order_relaxed);
    atomic_store_explicit(&c->out_bytes, c->conn.out.bytes, memory_order_relaxed);
    atomic_store_explicit(&c->out_mem, c->conn.out.mem, memory_order_relaxed);
    atomic_store_explicit(&c->multi_mem, c->s.queue_bytes, memory_order_relaxed);
    atomic_store_explicit(&c->out_segs, c->conn.out.nsegs, memory_order_relaxed);
    atomic_store_explicit(&c->out_batch, c->conn.out.own > c->conn.out.before ? c->conn.out.own : c->conn.out.before,
                          memory_order_relaxed);
    if (cfg_get(&c->srv->cfg->maxmemory_clients)) count_memory(c);
}

static enum ktls_mode tls_mode(const struct conn *conn) {
    if (conn->transport == CONN_KTLS) return KTLS_MODE_KERNEL;
    return conn->transport == CONN_KTLS_TX ? KTLS_MODE_TX : KTLS_MODE_USER;
}

static void describe(struct client *c, char *out, size_t cap) {
    struct buf b = { 0 };
    client_format(c, &b);
    snprintf(out, cap, "%s", buf_cstr(&b));
    buf_done(&b);
}

/* ---- limits ---- */

static bool is_authenticated(const struct client *c) {
    return c->s.authenticated || !atomic_load_explicit(&c->srv->eng.auth_required, memory_order_relaxed);
}

/* Whose limits of client-output-buffer-limit apply. */
static int output_class(struct client *c) {
    if (atomic_load_explicit(&c->flags, memory_order_relaxed) & CLIENT_REPLICA) return OBL_REPLICA;
    return pubsub_is_listening(c) ? OBL_PUBSUB : OBL_NORMAL;
}

/* A replica's are never below the size of the backlog: what that keeps for nothing closes no replica. */
static int64_t output_limit(const struct config *cfg, int class, int64_t limit) {
    int64_t backlog = cfg_get(&cfg->repl_backlog_size);
    return class == OBL_REPLICA && limit && limit < backlog ? backlog : limit;
}

static bool over_output_limit(struct client *c) {
    const struct config *cfg = c->srv->cfg;
    int class = output_class(c);
    size_t used = c->conn.out.mem > OBUF_CHUNK ? c->conn.out.mem - OBUF_CHUNK : 0; /* redis-server's first 16 KiB are free too */
    if (class == OBL_REPLICA) used = replica_pending(c);
    if (used > UNAUTHENTICATED_OUTPUT && !is_authenticated(c)) return true;
    int64_t hard = output_limit(cfg, class, cfg_get(&cfg->obuf_limit[class].hard));
    int64_t soft = output_limit(cfg, class, cfg_get(&cfg->obuf_limit[class].soft));
    if (hard && used >= (size_t)hard) return true;
    if (!soft || used < (size_t)soft) {
        c->soft_limit_on = false;
        return false;
    }
    int64_t now = loop_now_us(c->th->loop);
    if (!c->soft_limit_on) {
        c->soft_limit_on = true;
        c->soft_limit_since_us = now;
        return false;
    }
    return (now - c->soft_limit_since_us) / 1000000 >= cfg_get(&cfg->obuf_limit[class].soft_seconds);
}

static bool check_output_limit(struct client *c) {
    if (c->primary || conn_is_closing(&c->conn) || !over_output_limit(c)) return true;
    char text[1024];
    describe(c, text, sizeof text);
    log_warning("Client %s scheduled to be closed ASAP for overcoming of output buffer limits.", text);
    atomic_fetch_add_explicit(&c->srv->stats.output_buffer_closes, 1, memory_order_relaxed);
    conn_close(&c->conn, CONN_END_LOCAL, "");
    return false;
}

void client_pushed(struct client *c) {
    conn_flush_later(&c->conn);
    if (check_output_limit(c)) publish(c);
}

/* Queued commands have not run yet: they count as query buffer, and who has not logged in gets little of it. */
static bool check_query_limit(struct client *c) {
    size_t limit = (size_t)cfg_get(&c->srv->cfg->client_query_buffer_limit), used = c->qbuf.len + c->large.len + c->s.queue_bytes;
    bool authenticated = c->s.authenticated || !atomic_load_explicit(&c->srv->eng.auth_required, memory_order_relaxed);
    if (used <= limit && (authenticated || used <= UNAUTHENTICATED_QUERY_MAX)) return true;
    char text[1024];
    describe(c, text, sizeof text);
    log_warning("Closing client that reached max query buffer length: %s", text);
    atomic_fetch_add_explicit(&c->srv->stats.query_buffer_closes, 1, memory_order_relaxed);
    conn_close(&c->conn, CONN_END_LOCAL, "");
    return false;
}

/* ---- commands ---- */

void client_arm_unpause(struct io_thread *th) {
    int64_t left_ms = atomic_load(&th->srv->pause_until_ms) - clock_wall_ms();
    if (left_ms < 0) left_ms = 0;
    if (left_ms > MAX_PAUSE_WAIT_MS) left_ms = MAX_PAUSE_WAIT_MS;
    loop_timer_set(th->loop, &th->unpause, clock_mono_us() + left_ms * 1000 + 1000);
}

/* Large arguments back to where they came in the command, which is the first in qbuf. */
static void put_back_large(struct client *c) {
    size_t shift = 0;
    for (int i = 0; i < c->parser.n_large; i++) {
        const struct resp_large *l = &c->parser.large[i];
        size_t at = l->pos + shift, n = c->parser.argv[l->arg].len + 2;
        buf_reserve(&c->qbuf, n);
        memmove(c->qbuf.data + at + n, c->qbuf.data + at, c->qbuf.len - at);
        memcpy(c->qbuf.data + at, l->data, n);
        c->qbuf.len += n;
        shift += n;
    }
}

void client_put_off(struct client *c) {
    resp_parser_done(&c->parser); /* the command is parsed again when the pause is over */
    resp_parser_init(&c->parser);
    conn_pause_reading(&c->conn);
    list_remove(&c->paused_node);
    list_push_back(&c->th->paused, &c->paused_node);
    client_arm_unpause(c->th);
}

static void pause_client(struct client *c) {
    put_back_large(c);
    client_put_off(c);
}

static void protocol_error(struct client *c) {
    char text[256];
    snprintf(text, sizeof text, "ERR %s", c->parser.error);
    reply_error(&c->s.reply, text);
    engine_count_error(&c->srv->eng, text);
    char line[1024];
    describe(c, line, sizeof line);
    log_verbose("%s from client: %s", c->parser.error, line);
    client_close(c);
}

/* A browser tricked into talking to us sends "POST /..." or "Host: ...": nothing behind it may run. */
static bool is_http(struct slice name) {
    return slice_ieq(name, "post") || slice_ieq(name, "host:");
}

static void refuse_http(struct client *c) {
    static _Atomic int64_t last_us; /* one line a minute is enough */
    int64_t now = clock_mono_us(), before = atomic_load(&last_us);
    if ((before == 0 || now - before > 60000000) && atomic_compare_exchange_strong(&last_us, &before, now))
        log_warning("Possible SECURITY ATTACK detected. It looks like somebody is sending POST or Host: commands to Redis. "
                    "This is likely due to an attacker attempting to use Cross Protocol Scripting to compromise your Redis "
                    "instance. Connection from %s aborted.",
                    c->addr);
    conn_close(&c->conn, CONN_END_LOCAL, "");
}

static bool is_in_buffer(const struct resp_parser *p) {
    return !p->inline_args && p->n_large == 0;
}

/* Parses from *at on: commands that can wait for the ones behind them go to the thread's batch; the first one that cannot, or the
 * last one there is, stays in the parser (RESP_COMMAND). *at: behind what was parsed. */
static enum resp_result parse_ahead(struct client *c, char *data, size_t len, size_t *at) {
    const struct config *cfg = c->srv->cfg;
    struct resp_limits lim = {
        .max_bulk_len = (size_t)cfg_get(&cfg->proto_max_bulk_len),
        .max_inline = 64 * 1024,
        .authenticated = is_authenticated(c),
    };
    struct resp_parser *p = &c->parser;
    struct batch *b = &c->th->batch;
    bool ahead = batch_begin(b, &c->srv->eng, &c->s) && lim.authenticated;
    for (;;) {
        size_t used = 0;
        enum resp_result r = resp_parse(p, &lim, data + *at, len - *at, &used);
        *at += used;
        if (r != RESP_COMMAND || *at == len || !is_in_buffer(p)) return r;
        if (!ahead || !batch_add(b, &c->srv->eng, &c->s, p->argc, p->argv, *at)) return r;
    }
}

/* A replica that is answered to takes that for its stream. */
static bool is_rogue_replica(struct client *c) {
    if (__builtin_expect(!c->replica, 1) || conn_is_closing(&c->conn) || !replica_has_replied(c)) return false;
    const struct cmd *last = atomic_load_explicit(&c->s.last_cmd, memory_order_relaxed);
    char text[1024];
    describe(c, text, sizeof text);
    log_warning("Replica generated a reply to command '%s', disconnecting it: %s", last ? last->full_name : "<unknown>", text);
    conn_close(&c->conn, CONN_END_LOCAL, "");
    return true;
}

/* After a command. False: no more of this client's. */
static bool goes_on(struct client *c) {
    if (is_rogue_replica(c)) return false;
    if (c->s.close_after_reply) client_close(c);
    return check_output_limit(c) && !conn_is_closing(&c->conn) && !client_is_killed(c);
}

/* Neither paused nor blocked, and no script of its is under way. */
static bool may_run(const struct client *c) {
    return list_empty(&c->paused_node) && !c->s.waiter && !c->is_suspended;
}

static size_t run_whole(struct client *c, char *data, size_t len) {
    struct engine *eng = &c->srv->eng;
    struct batch *b = &c->th->batch;
    size_t off = 0, at = 0;
    while (at < len && !conn_is_closing(&c->conn)) {
        enum resp_result r = parse_ahead(c, data, len, &at);
        if (b->n) batch_prefetch(b, eng, &c->s);
        for (int i = 0; i < b->n; i++) {
            if (batch_run(b, i, eng, &c->s) == DISPATCH_POSTPONED) {
                pause_client(c);
                return off;
            }
            off = b->item[i].end;
            if (!goes_on(c)) return len;
        }
        if (r == RESP_ERROR) {
            protocol_error(c);
            return len;
        }
        if (r == RESP_NEED_MORE) return at;
        if (is_http(c->parser.argv[0])) {
            refuse_http(c);
            return len;
        }
        enum dispatch_result d = dispatch(eng, &c->s, c->parser.argc, c->parser.argv);
        if (d != DISPATCH_POSTPONED && d != DISPATCH_SUSPENDED) resp_parser_let_go(&c->parser);
        if (d == DISPATCH_POSTPONED) {
            pause_client(c);
            return off;
        }
        off = at;
        if (d == DISPATCH_BLOCKED) return off; /* it may have been served since: th->woken has it then */
        if (d == DISPATCH_SUSPENDED) {
            client_suspend(c);
            return off;
        }
        if (!goes_on(c)) return len;
    }
    return conn_is_closing(&c->conn) ? len : off;
}

/* Runs what is whole in data. Returns how many bytes are done with; the rest is to be kept. */
static size_t run_commands(struct client *c, char *data, size_t len) {
    c->s.in_row = true;
    size_t done = run_whole(c, data, len);
    ks_let_go();
    c->s.in_row = false;
    c->s.ended = 0;
    return done;
}

static void keep(struct client *c, const char *data, size_t len) {
    if (len == 0) return;
    size_t lacks = resp_parser_lacks(&c->parser, c->qbuf.len + len);
    /* Room for the argument under way, but never more than what has come already: a claimed length costs the server nothing. */
    size_t bound = c->qbuf.len + len > 32768 ? c->qbuf.len + len : 32768;
    buf_reserve(&c->qbuf, len + (lacks < bound ? lacks : bound));
    buf_append(&c->qbuf, data, len);
}

/* Grows with what has come, so that a claimed length costs little. */
static void reserve_large(struct client *c, size_t len) {
    if (len <= c->large.cap) return;
    size_t want = len > LARGE_FIRST / LARGE_GROWTH ? len * LARGE_GROWTH : LARGE_FIRST;
    c->large.cap = want < c->large.need ? want : c->large.need;
    c->large.data = mem_realloc(c->large.data, c->large.cap);
}

/* Returns how much of the data belongs to the large argument under way. */
static size_t add_to_large(struct client *c, const char *data, size_t len) {
    size_t lacks = c->large.need - c->large.len;
    if (len > lacks) len = lacks;
    reserve_large(c, c->large.len + (len ? len : 1));
    assert(c->large.data);
    char *to = c->large.data + c->large.len;
    if (data != to) memcpy(to, data, len);
    c->large.len += len;
    if (c->large.len == c->large.need) {
        resp_parser_put_large(&c->parser, c->large.data, c->large.cap);
        memset(&c->large, 0, sizeof c->large);
        conn_receive_into(&c->conn, NULL, 0);
    } else {
        reserve_large(c, c->large.len + 1);
        conn_receive_into(&c->conn, c->large.data + c->large.len, c->large.cap - c->large.len);
    }
    return len;
}

/* The command in qbuf has come to a large argument: the rest of it goes elsewhere. */
static void begin_large(struct client *c) {
    size_t need = resp_parser_large(&c->parser, c->qbuf.len, LARGE_MIN), at = c->parser.pos;
    if (need == 0 || c->large.data || conn_is_closing(&c->conn) || c->s.waiter || c->is_suspended) return;
    c->large.need = need;
    add_to_large(c, c->qbuf.data + at, c->qbuf.len - at);
    c->qbuf.len = at;
}

/* A large command has been carried out and a little of the next one is here: what held the large one is not kept for that. */
static void trim_query(struct client *c) {
    size_t need = c->qbuf.len + resp_parser_lacks(&c->parser, c->qbuf.len);
    if (c->qbuf.len == 0) {
        buf_done(&c->qbuf);
    } else if (c->qbuf.cap > QUERY_KEEP && need < c->qbuf.cap / 4) {
        struct buf small = { 0 };
        buf_append(&small, c->qbuf.data, c->qbuf.len);
        buf_done(&c->qbuf);
        c->qbuf = small;
    }
}

/* The first bytes of a connection without TLS are a TLS handshake record. */
static bool is_client_hello(const struct client *c, const char *data, size_t len) {
    return !c->conn.tls && c->conn.bytes_in == len && len >= 3 && data[0] == 0x16 && data[1] == 3 && data[2] <= 4;
}

/* Not an alert: to a reply that is no TLS, clients say "wrong version number", by which people know this mistake. */
static void refuse_tls(struct client *c) {
    log_warning("A client speaks TLS to a port without TLS; the tls-port is %lld (addr=%s laddr=%s)",
                (long long)cfg_get(&c->srv->cfg->tls_port), c->addr, c->laddr);
    reply_error(&c->s.reply, "ERR this port does not speak TLS");
    client_close(c);
}

/* Much is sent at once, while the processor's caches have it: gathered from all clients until the loop sleeps it would take fresh
 * memory each turn, and give it back. Not while others must hear of something first that the replies tell of (before_sleep of
 * the I/O thread). */
static void send_if_much(struct client *c) {
    if (c->conn.out.bytes < SEND_AT_ONCE || conn_is_closing(&c->conn)) return;
    if (c->th->changed_n || mail_waits(&c->th->mail) || aof_holds_replies(c->srv)) return;
    conn_flush_now(&c->conn);
    loop_submit(c->th->loop);
}

/* The primary's stream: to be parsed and counted elsewhere. */
static void on_stream(struct client *c, char *data, size_t len) {
    atomic_fetch_add_explicit(&c->srv->repl->bytes_in, len, memory_order_relaxed);
    resp_parser_borrow(&c->parser, &c->th->argv);
    repl_apply_data(c, data, len);
    resp_parser_trim(&c->parser, &c->th->argv);
    conn_flush_later(&c->conn);
    publish(c);
}

static void on_data(struct conn *conn, char *data, size_t len) {
    struct client *c = client_of_conn(conn);
    if (is_client_hello(c, data, len)) {
        refuse_tls(c);
        publish(c);
        return;
    }
    atomic_store_explicit(&c->last_us, loop_now_us(c->th->loop), memory_order_relaxed);
    if (c->replica) atomic_store_explicit(&c->replica->ack_us, loop_now_us(c->th->loop), memory_order_relaxed); /* it lives */
    if (mail_waits(&c->th->mail)) mail_deliver(c->th); /* posted before these bytes were sent, perhaps */
    if (conn_is_closing(conn) || client_is_killed(c)) return;
    if (c->primary) {
        on_stream(c, data, len);
        return;
    }
    resp_parser_borrow(&c->parser, &c->th->argv);
    if (c->large.data) {
        size_t used = add_to_large(c, data, len);
        data += used;
        len -= used;
    }
    if (c->large.data) {
        /* nothing to run yet */
    } else if (c->qbuf.len == 0 && may_run(c)) {
        size_t done = run_commands(c, data, len);
        keep(c, data + done, len - done);
    } else {
        keep(c, data, len);
        if (may_run(c)) buf_consume(&c->qbuf, run_commands(c, c->qbuf.data, c->qbuf.len));
    }
    if (c->s.waiter && c->qbuf.len >= BLOCKED_QUERY_MAX) conn_pause_reading(conn);
    begin_large(c);
    trim_query(c);
    resp_parser_trim(&c->parser, &c->th->argv);
    conn_flush_later(conn);
    send_if_much(c);
    if (!conn_is_closing(conn)) check_query_limit(c);
    publish(c);
}

void client_run_kept(struct client *c) {
    bool can = goes_on(c) && may_run(c) && !c->large.data;
    resp_parser_borrow(&c->parser, &c->th->argv);
    if (c->primary) repl_apply_kept(c);
    if (can) buf_consume(&c->qbuf, run_commands(c, c->qbuf.data, c->qbuf.len));
    begin_large(c);
    trim_query(c);
    resp_parser_trim(&c->parser, &c->th->argv);
    if (may_run(c)) conn_resume_reading(&c->conn);
    conn_flush_later(&c->conn);
    publish(c);
}

void client_resume_paused(struct io_thread *th) {
    struct list ready = LIST_INIT(ready);
    list_move_all(&ready, &th->paused);
    while (!list_empty(&ready)) {
        struct client *c = list_entry(ready.next, struct client, paused_node);
        list_remove(&c->paused_node);
        if (!conn_is_closing(&c->conn)) client_run_kept(c);
    }
}

bool client_out_of_memory(void *srv) {
    return evict_is_needed(srv);
}

/* ---- CLIENT PAUSE ---- */

static bool client_pause_covers(struct server *srv, unsigned flags) {
    int64_t until = atomic_load_explicit(&srv->pause_until_ms, memory_order_relaxed);
    if (!until || clock_wall_ms() >= until) return false;
    return atomic_load(&srv->pause_all) || (flags & (CMD_WRITE | CMD_MAY_REPLICATE));
}

static void update_expiry(struct server *srv) { /* pause_lock held */
    ks_set_keep_expired(srv->ks, (atomic_load(&srv->pause_until_ms) ? KS_KEEP_ALL : 0u) |
                                     (repl_is_replica(srv->repl) ? KS_KEEP_FOREIGN : 0u));
}

void client_update_expiry(struct server *srv) {
    pthread_mutex_lock(&srv->pause_lock);
    update_expiry(srv);
    pthread_mutex_unlock(&srv->pause_lock);
}

/* While clients are paused the data set stays as it is: keys that run out are hidden, not deleted. */
void client_pause_begin(struct server *srv, int64_t until_ms, bool all) {
    int64_t now = clock_wall_ms();
    pthread_mutex_lock(&srv->pause_lock);
    int64_t until = atomic_load(&srv->pause_until_ms);
    bool running = until > now; /* a pause under way is never made weaker or shorter */
    atomic_store(&srv->pause_all, all || (running && atomic_load(&srv->pause_all)));
    if (!running || until_ms > until) atomic_store(&srv->pause_until_ms, until_ms);
    update_expiry(srv);
    pthread_mutex_unlock(&srv->pause_lock);
}

void client_pause_end(struct server *srv, int64_t now_ms) {
    if (!atomic_load_explicit(&srv->pause_until_ms, memory_order_relaxed)) return;
    pthread_mutex_lock(&srv->pause_lock);
    if (atomic_load(&srv->pause_until_ms) <= now_ms) {
        atomic_store(&srv->pause_until_ms, 0);
        update_expiry(srv);
    }
    pthread_mutex_unlock(&srv->pause_lock);
}

static bool is_loopback_peer(const struct client *c) {
    return c->kind == LISTEN_UNIX || strncmp(c->addr, "127.", 4) == 0 || strncmp(c->addr, "[::1]", 5) == 0;
}

#define PROTECTED_TEXT(name, option)                                                                                             \
    "ERR " name " command not allowed. If the " option " option is set to \"local\", you can run it from a local connection, "   \
    "otherwise you need to set this option in the configuration file, and then restart the server."

/* DEBUG, and MODULE's subcommands that change what is loaded. NULL: allowed. */
static const char *protected_refusal(const struct client *c, const struct cmd *cmd) {
    const struct config *cfg = c->srv->cfg;
    bool is_module = cmd->parent; /* DEBUG's subcommands are its own business */
    int64_t mode = cfg_get(is_module ? &cfg->enable_module_command : &cfg->enable_debug_command);
    if (mode == 1 || (mode == 2 && is_loopback_peer(c))) return NULL;
    return is_module ? PROTECTED_TEXT("MODULE", "enable-module-command") : PROTECTED_TEXT("DEBUG", "enable-debug-command");
}

const char *client_before_command(void *arg, struct session *s, const struct cmd *cmd, int argc, const struct slice *argv,
                                  bool *ret_postpone) {
    struct server *srv = arg;
    (void)argc;
    (void)argv;
    if (s->applies) { /* what was carried out elsewhere; unless this server follows somebody else by now */
        *ret_postpone = s->owner && (!repl_apply_is_current(client_of(s)) || client_pause_covers(srv, cmd->flags));
        if (s->owner && !*ret_postpone && (cmd->flags & CMD_WRITE)) refusal_check_applied(srv);
        return NULL;
    }
    if (cmd->flags & CMD_PROTECTED) {
        const char *refusal = protected_refusal(client_of(s), cmd);
        if (refusal) return refusal;
    }
    /* EXEC is what its queue is. While a transaction is queued anything is refused that would make the queue grow. */
    unsigned flags = cmd->flags & CMD_IS_EXEC ? s->queue_flags : cmd->flags;
    bool grows = (flags & CMD_DENYOOM) || (s->in_multi && !(cmd->flags & CMD_NEVER_QUEUED));
    if (evict_is_needed(srv) && evict_keys(srv, s->slot) == EVICT_FAILED && grows)
        return "OOM command not allowed when used memory > 'maxmemory'.";
    const char *refusal = refusal_of(srv, cmd, flags, ret_postpone);
    if (!refusal) refusal = pubsub_refusal(client_of(s), cmd);
    if (refusal) return refusal;
    /* What redis-server calls a replica: a monitor, too. */
    bool is_replica = atomic_load_explicit(&client_of(s)->flags, memory_order_relaxed) & (CLIENT_MONITOR | CLIENT_REPLICA);
    if (is_replica && (flags & (CMD_WRITE | CMD_READONLY | CMD_MAY_REPLICATE)))
        return "ERR Replica can't interact with the keyspace";
    bool sends_mail = flags & (CMD_WRITE | CMD_MAY_REPLICATE);
    /* A replica is never paused: without its REPLCONF ACK it would seem to lag, and be given up after repl-timeout. */
    *ret_postpone =
        *ret_postpone || (!is_replica && client_pause_covers(srv, flags)) || (sends_mail && mail_is_backed_up(client_of(s)->th));
    return NULL;
}

static bool is_client_command(const struct cmd *cmd) {
    return cmd->parent && strcmp(cmd->parent->spec->name, "client") == 0;
}

void client_after_command(void *arg, struct cmd_ctx *ctx, uint64_t usec) {
    struct client *c = client_of(ctx->s);
    if (!c) return;                    /* loading */
    if (ctx->blocked) client_block(c); /* before mail that says it is served */
    if (ctx->retry) observe_waited(arg, ctx, usec);
    if (ctx->s->tracks_reads) tracking_trim(arg);
    if (c->s.caching && !ctx->s->in_multi && !is_client_command(ctx->cmd)) c->s.caching = false;
    if (mail_waits(&c->th->mail)) mail_deliver(c->th);
}

/* ---- life of a connection ---- */

static const char protected_text[] =
    "-DENIED Redis is running in protected mode because protected mode is enabled and no password is set for the default user. "
    "In this mode connections are only accepted from the loopback interface. "
    "If you want to connect from external computers, you may adopt one of the following solutions: "
    "1) Disable protected mode by sending 'CONFIG SET protected-mode no' from the loopback interface of the host the server runs "
    "on, "
    "only if it cannot be reached from the internet. Use CONFIG REWRITE to make this change permanent. "
    "2) Set protected-mode to no in the configuration file and restart the server. "
    "3) If the server was started by hand for testing, restart it with '--protected-mode no'. "
    "4) Set a password for the default user (requirepass). "
    "You need only one of these.\r\n";

/* One word in CLIENT LIST, whatever the certificate has: what is not a plain character is shown as \\xHH. */
static void set_tls_user(struct client *c, const char *user) {
    struct buf text = { 0 };
    for (const char *p = user; *p; p++)
        if (*p > ' ' && *p < 0x7f && *p != '\\')
            buf_append_char(&text, *p);
        else
            buf_printf(&text, "\\x%02x", (unsigned char)*p);
    client_set_string(c, &c->tls_user, buf_slice(&text));
    buf_done(&text);
}

static void on_open(struct conn *conn) {
    struct client *c = client_of_conn(conn);
    char text[200];
    if (conn->tls) {
        struct ktls_conn_info info;
        ktls_conn_info(conn->tls, &info);
        tls_count_open(&c->srv->tls, &info);
        c->counted_tls = true;
        conn_tls_text(conn, text, sizeof text);
        client_set_string(c, &c->tls_text, slice_cstr(text));
        set_tls_user(c, info.peer_user);
        if (*info.peer_user && !c->primary) auth_by_certificate(c, slice_cstr(info.peer_user));
    }
    if (c->primary) {
        repl_apply_kept(c); /* what came with the handshake's last answer */
        return;
    }
    if (!c->refusal && cfg_get(&c->srv->cfg->protected_mode) && !atomic_load(&c->srv->eng.auth_required) &&
        !is_loopback_peer(c)) {
        c->refusal = protected_text;
        atomic_fetch_add_explicit(&c->srv->stats.rejected, 1, memory_order_relaxed);
    }
    if (c->refusal) {
        reply_raw(&c->s.reply, c->refusal, strlen(c->refusal));
        conn_close_after_flush(conn, CLOSE_FLUSH_US);
    }
}

static void on_drained(struct conn *conn) {
    struct client *c = client_of_conn(conn);
    if (c->replica)
        replica_drained(c);
    else
        c->soft_limit_on = false;
    publish(c);
}

static void log_end(struct client *c, enum conn_end why, const char *text) {
    if (why == CONN_END_HANDSHAKE_TIMEOUT) {
        atomic_fetch_add_explicit(&c->srv->stats.tls_handshake_timeouts, 1, memory_order_relaxed);
        log_warning("Error accepting a client connection: TLS handshake timed out (addr=%s laddr=%s)", c->addr, c->laddr);
    } else if (why == CONN_END_HANDSHAKE) {
        log_warning("Error accepting a client connection: %s (addr=%s laddr=%s)", *text ? text : "TLS handshake failed", c->addr,
                    c->laddr);
    } else if (why == CONN_END_LIMIT) {
        log_notice("Closed a client connection in order: %s (addr=%s)", text, c->addr);
    } else if (why == CONN_END_TLS || (why == CONN_END_ERROR && *text)) {
        log_verbose("Reading from client: %s (addr=%s)", text, c->addr);
    } else if (why == CONN_END_EOF) {
        log_verbose("Client closed connection (addr=%s)%s%s", c->addr, *text ? ": " : "", text);
    }
}

static void on_closed(struct conn *conn, enum conn_end why, const char *text) {
    struct client *c = client_of_conn(conn);
    log_end(c, why, text);
    publish(c);
    if (c->primary) repl_link_lost(c);
    if (client_may_lock(c) && !c->is_suspended)
        client_free(c);
    else
        list_push_back(&c->th->gone, &c->gone_node);
}

/* Everything is let go; the connection is closed. */
void client_free(struct client *c) {
    struct io_thread *th = c->th;
    client_block_abandon(c);
    list_remove(&c->gone_node);
    atomic_fetch_sub_explicit(&th->clients_mem, atomic_exchange_explicit(&c->mem_counted, 0, memory_order_relaxed),
                              memory_order_relaxed);
    pthread_mutex_lock(&th->registry_lock);
    if (th->scan_at == &c->node) th->scan_at = c->node.next;
    list_remove(&c->node);
    pthread_mutex_unlock(&th->registry_lock);
    list_remove(&c->paused_node);
    list_remove(&c->woken_node);
    pubsub_forget(c);
    tracking_forget(c);
    monitor_stop(c);
    repl_wait_forget(c);
    replica_forget(c);
    dict_remove(&th->by_id, dict_hash(id_of(c)), id_of(c));
    if (c->counted_tls) tls_count_close(&c->srv->tls, tls_mode(&c->conn));
    session_done(&c->s, c->srv->ks);
    if (c->primary) repl_apply_free(c);
    resp_parser_done(&c->parser);
    buf_done(&c->qbuf);
    mem_free(c->large.data);
    if (!client_is_killed(c)) atomic_fetch_sub(&c->srv->n_clients, 1);
    atomic_fetch_sub_explicit(&th->n_clients, 1, memory_order_relaxed);
    mem_free(c->addr);
    mem_free(c->laddr);
    mem_free(c->name);
    mem_free(c->lib_name);
    mem_free(c->lib_ver);
    mem_free(c->tls_text);
    mem_free(c->tls_user);
    obuf_clear(&c->conn.out); /* what a script replied meanwhile */
    mem_free(c);
}

static const struct conn_ops client_conn_ops = {
    .on_open = on_open, .on_data = on_data, .on_drained = on_drained, .on_closed = on_closed
};

static void set_addresses(struct client *c) {
    char text[256];
    if (c->kind == LISTEN_UNIX) { /* the peer of a unix socket has no name: both ends are shown as the server's path */
        char *path = config_str_dup(c->srv->cfg, &c->srv->cfg->unixsocket);
        c->addr = mem_asprintf("%s:0", path ? path : "");
        c->laddr = mem_strdup(c->addr);
        mem_free(path);
        return;
    }
    conn_peer_text(&c->conn, text, sizeof text);
    c->addr = mem_strdup(text);
    conn_local_text(&c->conn, text, sizeof text);
    c->laddr = mem_strdup(text);
}

static const char maxclients_text[] = "-ERR max number of clients reached\r\n";

/* A connection too many is told so, over TLS after its handshake; but those being told must not eat up the descriptors. */
static bool is_beyond_refusal(struct server *srv, int fd, enum listener_kind kind) {
    if (atomic_load_explicit(&srv->n_clients, memory_order_relaxed) < cfg_get(&srv->cfg->maxclients) + MAX_REFUSALS) return false;
    if (kind != LISTEN_TLS && send(fd, maxclients_text, sizeof maxclients_text - 1, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
        log_debug("A refused client was gone already");
    atomic_fetch_add_explicit(&srv->stats.rejected, 1, memory_order_relaxed);
    close(fd);
    return true;
}

static struct client *client_new(struct io_thread *th, int fd, enum listener_kind kind) {
    struct server *srv = th->srv;
    struct client *c = mem_zalloc(sizeof *c);
    c->srv = srv;
    c->th = th;
    c->kind = kind;
    list_init(&c->node);
    list_init(&c->paused_node);
    list_init(&c->woken_node);
    list_init(&c->gone_node);
    list_init(&c->tracking_node);
    list_init(&c->monitor_node);
    list_init(&c->wait_node);
    resp_parser_init(&c->parser);
    session_init(&c->s, &c->conn.out, atomic_fetch_add(&srv->next_client_id, 1));
    c->s.owner = c;
    dict_insert(&th->by_id, dict_hash(id_of(c)), c);
    c->s.home = th;
    c->s.parser = &c->parser;
    c->s.slot = (unsigned)th->index;
    c->s.authenticated = !atomic_load(&srv->eng.auth_required);
    c->created_us = clock_mono_us();
    atomic_store(&c->last_us, c->created_us);
    atomic_store(&c->flags, (kind == LISTEN_UNIX ? CLIENT_UNIX : 0u) | (kind == LISTEN_TLS ? CLIENT_TLS : 0u));
    c->fd = c->conn.io.fd = fd;
    set_addresses(c);
    return c;
}

static void enlist(struct client *c) {
    pthread_mutex_lock(&c->th->registry_lock);
    list_push_back(&c->th->clients, &c->node);
    pthread_mutex_unlock(&c->th->registry_lock);
}

void client_accept(struct io_thread *th, int fd, enum listener_kind kind) {
    struct server *srv = th->srv;
    if (is_beyond_refusal(srv, fd, kind)) return;
    struct conn_params params = { .is_unix = kind == LISTEN_UNIX,
                                  .handshake_timeout_us = cfg_get(&srv->cfg->tls_handshake_timeout) * 1000000 };
    if (kind == LISTEN_TLS) {
        params.tls_ctx = tls_ctx_get(&srv->tls);
        if (!params.tls_ctx) {
            close(fd);
            return;
        }
    }
    if (kind != LISTEN_UNIX) sock_tune(fd, (int)cfg_get(&srv->cfg->tcp_keepalive));
    struct client *c = client_new(th, fd, kind);
    int64_t before = atomic_fetch_add(&srv->n_clients, 1);
    atomic_fetch_add_explicit(&th->n_clients, 1, memory_order_relaxed);
    if (before >= cfg_get(&srv->cfg->maxclients)) {
        c->refusal = maxclients_text;
        atomic_fetch_add_explicit(&srv->stats.rejected, 1, memory_order_relaxed);
    } else {
        atomic_fetch_add_explicit(&srv->stats.connections, 1, memory_order_relaxed);
    }
    enlist(c);
    if (th->stopping) c->refusal = "-ERR Server is shutting down\r\n";
    conn_start(&c->conn, &th->conns, fd, &client_conn_ops, &params);
    ktls_ctx_unref(params.tls_ctx);
}

struct client *client_adopt(struct io_thread *th, int fd, struct ktls_conn *tls_take) {
    struct server *srv = th->srv;
    sock_tune(fd, (int)cfg_get(&srv->cfg->tcp_keepalive));
    struct client *c = client_new(th, fd, tls_take ? LISTEN_TLS : LISTEN_TCP);
    atomic_fetch_or(&c->flags, CLIENT_PRIMARY);
    c->primary = repl_apply_new();
    mem_free(c->s.user);
    c->s.user = NULL; /* it may do everything, whatever the users are */
    c->s.authenticated = c->s.applies = true;
    c->s.effects_to = EFFECT_AOF;
    c->s.reply.muted = true;
    c->s.reply_mode = REPLY_OFF;
    atomic_fetch_add(&srv->n_clients, 1);
    atomic_fetch_add_explicit(&th->n_clients, 1, memory_order_relaxed);
    enlist(c);
    conn_adopt(&c->conn, &th->conns, fd, tls_take, &client_conn_ops);
    return c;
}

void client_close(struct client *c) {
    atomic_fetch_or(&c->flags, CLIENT_CLOSING);
    if (client_may_lock(c)) client_block_abandon(c); /* else once it is closed */
    conn_flush_later(&c->conn);
    conn_close_after_flush(&c->conn, CLOSE_FLUSH_US);
}

void client_check_idle(struct client *c, int64_t now_us) {
    if (conn_is_closing(&c->conn)) return;
    /* A client that still takes a long reply is not idle. */
    if (c->conn.bytes_out != c->bytes_out_seen) atomic_store_explicit(&c->last_us, now_us, memory_order_relaxed);
    publish(c);
    int64_t limit = cfg_get(&c->srv->cfg->timeout);
    bool listens = atomic_load_explicit(&c->flags, memory_order_relaxed) &
                   (CLIENT_PUBSUB | CLIENT_MONITOR | CLIENT_PRIMARY | CLIENT_REPLICA);
    if (limit && c->conn.state == CONN_OPEN && may_run(c) && !listens &&
        now_us - atomic_load_explicit(&c->last_us, memory_order_relaxed) > limit * 1000000) {
        log_verbose("Closing idle client");
        atomic_fetch_add_explicit(&c->srv->stats.idle_closes, 1, memory_order_relaxed);
        client_close(c);
        return;
    }
    check_output_limit(c);
}

void client_set_string(struct client *c, char **field, struct slice v) {
    char *fresh = v.len ? mem_memdup0(v.ptr, v.len) : NULL, *old;
    pthread_mutex_lock(&c->th->registry_lock);
    old = *field;
    *field = fresh;
    pthread_mutex_unlock(&c->th->registry_lock);
    mem_free(old);
}

static const char *flags_text(struct client *c, char *out) {
    char *p = out;
    unsigned f = atomic_load_explicit(&c->flags, memory_order_relaxed), tracking = tracking_flags(c);
    if (f & CLIENT_REPLICA) *p++ = 'S';
    if (f & CLIENT_MONITOR) *p++ = 'O';
    if (f & CLIENT_PRIMARY) *p++ = 'M';
    if (f & CLIENT_PUBSUB) *p++ = 'P';
    if (atomic_load_explicit(&c->s.multi_count, memory_order_relaxed) >= 0) *p++ = 'x';
    if (f & CLIENT_BLOCKED) *p++ = 'b';
    if (tracking & TRACKING_ON) *p++ = 't';
    if (tracking & TRACKING_BROKEN_REDIR) *p++ = 'R';
    if (tracking & TRACKING_BCAST) *p++ = 'B';
    if (atomic_load_explicit(&c->s.dirty_cas, memory_order_relaxed)) *p++ = 'd';
    if (f & CLIENT_CLOSING) *p++ = 'c';
    if (f & CLIENT_UNIX) *p++ = 'U';
    if (f & CLIENT_NO_EVICT) *p++ = 'e';
    if (f & CLIENT_NO_TOUCH) *p++ = 'T';
    if (p == out) *p++ = 'N';
    *p = 0;
    return out;
}

void client_note_argv(struct client *c, int argc, const struct slice *argv) {
    size_t bytes = 0;
    for (int i = 0; i < argc; i++) bytes += argv[i].len;
    atomic_store_explicit(&c->argv_mem, bytes, memory_order_relaxed);
}

#define RLX(x) atomic_load_explicit(&(x), memory_order_relaxed)

void client_format(struct client *c, struct buf *out) {
    char flags[16];
    int64_t now = clock_mono_us();
    const struct cmd *last = RLX(c->s.last_cmd);
    size_t qbuf = RLX(c->qbuf_len), qfree = RLX(c->qbuf_free), omem = RLX(c->out_mem), mmem = RLX(c->multi_mem);
    size_t argv_mem = RLX(c->argv_mem);
    unsigned segs = RLX(c->out_segs);
    buf_printf(
        out, "id=%llu addr=%s laddr=%s fd=%d name=%s age=%lld idle=%lld flags=%s db=%d sub=%u psub=%u ssub=%u multi=%d watch=%d",
        (unsigned long long)c->s.id, c->addr, c->laddr, c->fd, c->name ? c->name : "",
        (long long)((now - c->created_us) / 1000000), (long long)((now - RLX(c->last_us)) / 1000000), flags_text(c, flags),
        RLX(c->s.db), pubsub_count(c, PUBSUB_CHANNEL), pubsub_count(c, PUBSUB_PATTERN), pubsub_count(c, PUBSUB_SHARD),
        RLX(c->s.multi_count), RLX(c->s.watch_count));
    buf_printf(
        out,
        " qbuf=%zu qbuf-free=%zu argv-mem=%zu multi-mem=%zu rbs=%zu rbp=%u obl=%zu oll=%u omem=%zu tot-mem=%zu events=%s cmd=%s",
        qbuf, qfree, argv_mem, mmem, omem, RLX(c->out_batch), RLX(c->out_bytes), segs ? segs - 1 : 0, omem,
        sizeof *c + qbuf + qfree + argv_mem + omem + mmem, RLX(c->out_bytes) ? "rw" : "r", last ? last->full_name : "NULL");
    buf_printf(out, " user=%s redir=%lld resp=%d lib-name=%s lib-ver=%s tls=%s", c->s.user ? c->s.user : "(superuser)",
               tracking_flags(c) & TRACKING_ON ? (long long)tracking_redirect(c) : -1, RLX(c->s.resp),
               c->lib_name ? c->lib_name : "", c->lib_ver ? c->lib_ver : "", c->tls_text ? c->tls_text : "no");
    buf_printf(out, " tls-user=%s", c->tls_user ? c->tls_user : "");
}
