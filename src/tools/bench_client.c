/* The load: one thread with one epoll and its share of the clients.
 *
 * A client's life:
 *
 *     HANDSHAKE --done--> LOGIN --all replies--> READY --go--> RUNNING --no requests left--> IDLE
 *      (TLS only)          (AUTH, SELECT, ...)                  |  ^
 *                                                -k 0: batch done \--reconnect, HANDSHAKE ...
 *
 * With --rps a client that is about to send waits in the thread's queue until its turn is due.
 *
 * Flow: bench_run.c starts the threads; each connects its clients, waits at the barrier until all threads are ready, and then
 * keeps `pipeline` requests of each client under way until the shared counter says that enough were issued.
 *
 * What keeps it cheap: a request costs one send, one recv and its part of an epoll_wait. Sending is tried at once and epoll is
 * asked for writability only after EAGAIN; a read that brought the last awaited reply is not followed by one that would say
 * EAGAIN; one clock reading serves as the end of a batch and the start of the next; replies are skipped over, not parsed;
 * requests without random parts are sent from one shared buffer. Threads: a struct bench_thread and its clients belong to their
 * thread; struct bench_run is shared, its counters atomic. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "tools/bench.h"

#define SCRATCH_LEN (256 * 1024)
#define CONNECT_TIMEOUT_US (30 * 1000 * 1000)

enum client_state { CLIENT_HANDSHAKE, CLIENT_LOGIN, CLIENT_READY, CLIENT_RUNNING, CLIENT_IDLE };

struct bench_client {
    struct tool_conn conn; /* conn.in: the start of a reply that is not whole yet */
    struct bench_thread *thread;
    enum client_state state;
    uint32_t interest; /* epoll events asked for */
    const char *out;   /* what is being sent */
    size_t out_len, out_sent;
    char *own_out;         /* requests with random parts */
    unsigned long pending; /* replies awaited */
    struct bench_client *next_waiting;
    int64_t start_us; /* of the batch */
};

static void fail(struct bench_client *c, const char *what, const char *why) {
    struct bench_thread *t = c->thread;
    if (!t->failed) snprintf(t->fail_text, sizeof(t->fail_text), "%s: %s", what, why);
    t->failed = true;
    atomic_store(&t->run->stop, true);
}

static const char *io_text(const struct bench_client *c, ssize_t rc) {
    if (rc == 0) return "Server closed the connection";
    if (c->conn.io.tls) return ktls_conn_error(c->conn.io.tls)->text;
    return strerror((int)-rc);
}

/* A server that throws a client out says why first (maxclients, protected mode): that is the reason to give, not the broken pipe.
 */
static void fail_io(struct bench_client *c, const char *what, ssize_t rc) {
    struct bench_run *run = c->thread->run;
    struct buf *said = &c->conn.in;
    char text[600];
    if (said->len == 0) {
        buf_reserve(said, sizeof(text));
        ssize_t n = rc != 0 ? tool_io_read(&c->conn.io, said->data, sizeof(text)) : 0;
        if (n > 0) said->len = (size_t)n;
    }
    const char *end = said->len > 1 && said->data[0] == '-' ? memchr(said->data, '\r', said->len) : NULL;
    if (end) {
        snprintf(text, sizeof(text), "%.*s", (int)(end - said->data - 1), said->data + 1);
        fail(c, "Error from server", text);
        return;
    }
    pthread_mutex_lock(&run->lock); /* or it was taken for a reply */
    snprintf(text, sizeof(text), "%s%s%s", io_text(c, rc), run->first_error[0] ? ", after: " : "", run->first_error);
    pthread_mutex_unlock(&run->lock);
    fail(c, what, text);
}

static void want(struct bench_client *c, uint32_t events) {
    if (c->interest == events) return;
    struct epoll_event ev = { .events = events, .data.ptr = c };
    epoll_ctl(c->thread->epfd, c->interest ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, c->conn.io.fd, &ev);
    c->interest = events;
}

/* ---- sending ---- */

static void send_some(struct bench_client *c) {
    while (c->out_sent < c->out_len) {
        ssize_t n = tool_io_write(&c->conn.io, c->out + c->out_sent, c->out_len - c->out_sent);
        if (n == -EAGAIN) {
            want(c, EPOLLIN | EPOLLOUT);
            return;
        }
        if (n < 0) {
            fail_io(c, "Error writing to the server", n);
            return;
        }
        c->out_sent += (size_t)n;
    }
    want(c, EPOLLIN);
}

/* splitmix64: one multiplication or three, no shared state; --seed makes runs repeatable. */
static uint64_t next_random(struct bench_thread *t) {
    uint64_t z = (t->rng += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static void randomize(struct bench_client *c, long batch) {
    const struct bench_run *run = c->thread->run;
    for (long i = 0; i < batch; i++) {
        char *req = c->own_out + (size_t)i * run->cmd->bytes.len;
        for (size_t k = 0; k < run->cmd->n_rand; k++) {
            uint64_t v = run->cfg->keyspace ? next_random(c->thread) % run->cfg->keyspace : 0;
            char *p = req + run->cmd->rand_at[k] + BENCH_RAND_LEN;
            for (int d = 0; d < BENCH_RAND_LEN; d++, v /= 10) *--p = (char)('0' + v % 10);
        }
    }
}

/* ---- --rps ---- */

#define PACE_LAG_US 10000.0 /* what a thread that was kept from running makes up for; the rest is lost */

static bool all_issued(struct bench_run *run) {
    return atomic_load(&run->stop) || atomic_load_explicit(&run->issued, memory_order_relaxed) >= run->cfg->requests;
}

/* True: c is to send now. False: it waits for its turn. */
static bool pace(struct bench_client *c, int64_t now_us) {
    struct bench_thread *t = c->thread;
    double now = (double)now_us;
    if (t->interval_us == 0 || all_issued(t->run)) return true;
    if (now < t->due_us) {
        c->next_waiting = NULL;
        *t->waiting_end = c;
        t->waiting_end = &c->next_waiting;
        return false;
    }
    t->due_us = (t->due_us < now - PACE_LAG_US ? now - PACE_LAG_US : t->due_us) + t->interval_us;
    return true;
}

static struct bench_client *pace_pop(struct bench_thread *t) {
    struct bench_client *c = t->waiting;
    t->waiting = c->next_waiting;
    if (!t->waiting) t->waiting_end = &t->waiting;
    return c;
}

static void next_batch(struct bench_client *c, int64_t now_us) {
    if (!pace(c, now_us)) return;
    struct bench_run *run = c->thread->run;
    long total = run->cfg->requests, batch = run->cfg->pipeline;
    long issued = atomic_load(&run->stop) ? total : atomic_fetch_add_explicit(&run->issued, batch, memory_order_relaxed);
    if (issued >= total) {
        c->state = CLIENT_IDLE;
        c->thread->n_live--;
        return;
    }
    if (batch > total - issued) batch = total - issued;
    if (c->own_out) randomize(c, batch);
    c->state = CLIENT_RUNNING;
    c->out = c->own_out ? c->own_out : c->thread->shared_out.data;
    c->out_len = (size_t)batch * run->cmd->bytes.len;
    c->out_sent = 0;
    c->pending = (unsigned long)batch;
    c->start_us = now_us;
    send_some(c);
}

/* ---- connecting ---- */

static void note_tls(struct bench_client *c) {
    struct bench_run *run = c->thread->run;
    if (!c->conn.io.tls) return;
    pthread_mutex_lock(&run->lock);
    if (run->tls_text[0] == '\0') tool_conn_tls_text(&c->conn, run->tls_text, sizeof(run->tls_text));
    pthread_mutex_unlock(&run->lock);
}

/* Logged in: the first time wait for the others, after a reconnect go on. */
static void logged_in(struct bench_client *c, int64_t now_us) {
    if (c->thread->n_ready < c->thread->n_clients) {
        c->state = CLIENT_READY;
        c->thread->n_ready++;
    } else {
        next_batch(c, now_us);
    }
}

static void start_login(struct bench_client *c) {
    struct bench_run *run = c->thread->run;
    note_tls(c);
    if (run->login_replies == 0) {
        want(c, EPOLLIN);
        logged_in(c, clock_mono_us());
        return;
    }
    c->state = CLIENT_LOGIN;
    c->out = run->login.data;
    c->out_len = run->login.len;
    c->out_sent = 0;
    c->pending = run->login_replies;
    send_some(c);
}

static void handshake(struct bench_client *c) {
    int rc = ktls_handshake(c->conn.io.tls);
    if (rc == KTLS_WANT_READ)
        want(c, EPOLLIN);
    else if (rc == KTLS_WANT_WRITE)
        want(c, EPOLLOUT);
    else if (rc == KTLS_DONE)
        start_login(c);
    else
        fail(c, "Could not negotiate a TLS connection", ktls_conn_error(c->conn.io.tls)->text);
}

static void client_connect(struct bench_client *c) {
    const struct bench_cfg *cfg = c->thread->run->cfg;
    char what[400], where[300];
    c->interest = 0;
    if (tool_conn_start(&c->conn, &cfg->target, c->thread->run->tls_ctx, tool_deadline(CONNECT_TIMEOUT_US)) != 0) {
        tool_target_text(&cfg->target, where, sizeof(where));
        snprintf(what, sizeof(what), "Could not connect to Redis at %s", where);
        fail(c, what, c->conn.err);
        return;
    }
    c->state = CLIENT_HANDSHAKE;
    if (c->conn.io.tls)
        handshake(c);
    else
        start_login(c);
}

/* ---- replies ---- */

/* Errors that every further request would meet too: the test is given up. */
static bool is_refusal(const char *text) {
    return strncmp(text, "ERR unknown command", 19) == 0 || strncmp(text, "ERR unknown subcommand", 22) == 0 ||
           strncmp(text, "NOPERM", 6) == 0 || strncmp(text, "NOAUTH", 6) == 0 ||
           strncmp(text, "ERR wrong number of arguments", 29) == 0;
}

static void note_error_reply(struct bench_client *c, const char *reply, size_t len) {
    struct bench_run *run = c->thread->run;
    char text[256];
    size_t n = 0, skip = 1;
    if (reply[0] == '!') /* a blob error has its length first */
        while (skip < len && reply[skip - 1] != '\n') skip++;
    for (size_t i = skip; i < len && reply[i] != '\r' && n + 1 < sizeof(text); i++) text[n++] = reply[i];
    text[n] = '\0';
    if (c->state == CLIENT_LOGIN) {
        fail(c, "Error from server", text);
        return;
    }
    if (atomic_fetch_add(&run->errors, 1) == 0) {
        pthread_mutex_lock(&run->lock);
        snprintf(run->first_error, sizeof(run->first_error), "%s", text);
        pthread_mutex_unlock(&run->lock);
    }
    int64_t now = clock_mono_us(), shown = atomic_load(&run->shown_us);
    if (run->cfg->show_errors && now - shown > 1000000 && atomic_compare_exchange_strong(&run->shown_us, &shown, now))
        fprintf(stderr, "Error from server: %s\n", text);
    if (is_refusal(text)) {
        atomic_store(&run->refused, true);
        atomic_store(&run->stop, true);
    }
}

/* Counts whole replies at data. Returns the bytes they took, or -EPROTO. */
static ssize_t take_replies(struct bench_client *c, const char *data, size_t len, unsigned long *ret_replies) {
    size_t pos = 0, used;
    unsigned long n = 0;
    while (n < c->pending && pos < len) {
        int rc = resp_skip(&c->conn.skip, data + pos, len - pos, &used);
        if (rc < 0) return -EPROTO;
        if (rc == 0) break;
        if (c->conn.skip.is_error) note_error_reply(c, data + pos, used);
        if (data[pos] != '>') /* RESP3 push: invalidations of --enable-tracking */
            n++;
        c->conn.skip = (struct resp_skip){ 0 };
        pos += used;
    }
    *ret_replies = n;
    return (ssize_t)pos;
}

static void batch_done(struct bench_client *c, int64_t now_us) {
    if (c->thread->run->cfg->keep_alive) {
        next_batch(c, now_us);
        return;
    }
    tool_conn_close(&c->conn);
    if (atomic_load(&c->thread->run->stop) || atomic_load(&c->thread->run->issued) >= c->thread->run->cfg->requests) {
        c->state = CLIENT_IDLE;
        c->thread->n_live--;
    } else {
        client_connect(c);
    }
}

static void note_replies(struct bench_client *c, unsigned long n) {
    struct bench_run *run = c->thread->run;
    int64_t now = clock_mono_us();
    c->pending -= n;
    if (c->state == CLIENT_RUNNING) {
        uint64_t latency = (uint64_t)(now - c->start_us);
        for (unsigned long i = 0; i < n; i++) hist_add(c->thread->latency, latency);
        atomic_fetch_add_explicit(&run->finished, (long)n, memory_order_relaxed);
        atomic_fetch_add_explicit(&run->latency_sum_us, latency * n, memory_order_relaxed);
    }
    if (c->pending > 0 || c->thread->failed) return;
    if (c->state == CLIENT_LOGIN)
        logged_in(c, now);
    else
        batch_done(c, now);
}

/* One read. True: there may be more. */
static bool receive(struct bench_client *c) {
    struct bench_thread *t = c->thread;
    struct buf *kept = &c->conn.in;
    bool whole = kept->len == 0;
    char *at = t->scratch;
    size_t room = SCRATCH_LEN;
    if (!whole) {
        buf_reserve(kept, 16384);
        at = kept->data + kept->len;
        room = kept->cap - kept->len;
    }
    ssize_t n = tool_io_read(&c->conn.io, at, room);
    if (n == -EAGAIN) return false;
    if (n <= 0) {
        fail_io(c, "Error reading from the server", n);
        return false;
    }
    const char *data = whole ? at : kept->data;
    size_t len = whole ? (size_t)n : kept->len + (size_t)n;
    unsigned long replies = 0;
    ssize_t used = take_replies(c, data, len, &replies);
    if (used < 0) {
        fail(c, "Error reading from the server", "Protocol error");
        return false;
    }
    if (whole) {
        buf_append(kept, data + used, len - (size_t)used);
    } else {
        kept->len = len;
        buf_consume(kept, (size_t)used);
    }
    bool more = (size_t)n == room || c->conn.io.tls;
    if (replies > 0) {
        if (replies == c->pending) more = false; /* what follows has not been asked for yet */
        note_replies(c, replies);
    }
    return more && !t->failed;
}

static void on_event(struct bench_client *c, uint32_t events) {
    if (c->state == CLIENT_HANDSHAKE) {
        handshake(c);
        return;
    }
    if ((events & EPOLLOUT) && c->out_sent < c->out_len) send_some(c);
    if (events & (EPOLLIN | EPOLLHUP | EPOLLERR))
        while (receive(c)) {
        }
}

/* ---- the thread ---- */

static void turn(struct bench_thread *t) {
    struct epoll_event ev[256];
    struct timespec wait = { .tv_nsec = 100000000 };
    if (t->waiting) {
        double us = t->due_us - (double)clock_mono_us();
        wait.tv_nsec = us < 0 ? 0 : us < 100000 ? (long)(us * 1000) : 100000000;
    }
    int n = epoll_pwait2(t->epfd, ev, 256, &wait, NULL);
    for (int i = 0; i < n && !t->failed; i++) on_event(ev[i].data.ptr, ev[i].events);
    while (t->waiting && !t->failed && (all_issued(t->run) || (double)clock_mono_us() >= t->due_us))
        next_batch(pace_pop(t), clock_mono_us());
}

static void pace_init(struct bench_thread *t) {
    const struct bench_cfg *cfg = t->run->cfg;
    t->waiting = NULL;
    t->waiting_end = &t->waiting;
    if (cfg->rps == 0) return;
    t->interval_us = 1e6 * (double)cfg->pipeline * (double)t->run->n_threads / (double)cfg->rps;
    t->due_us = (double)clock_mono_us() + t->interval_us * t->index / (double)t->run->n_threads;
    prctl(PR_SET_TIMERSLACK, 1UL); /* the default of 50 us would send in bursts; this thread only */
}

static void make_requests(struct bench_thread *t) {
    const struct bench_run *run = t->run;
    if (!run->cmd) return;
    size_t one = run->cmd->bytes.len, all = one * (size_t)run->cfg->pipeline;
    bool random = run->cmd->n_rand > 0;
    if (!random)
        for (long i = 0; i < run->cfg->pipeline; i++) buf_append(&t->shared_out, run->cmd->bytes.data, one);
    for (long k = 0; random && k < t->n_clients; k++) {
        t->clients[k].own_out = mem_alloc(all);
        for (size_t at = 0; at < all; at += one) memcpy(t->clients[k].own_out + at, run->cmd->bytes.data, one);
    }
}

static void connect_all(struct bench_thread *t) {
    for (long i = 0; i < t->n_clients && !t->failed; i++) {
        t->clients[i] = (struct bench_client){ .conn = TOOL_CONN_INIT, .thread = t };
        client_connect(&t->clients[i]);
    }
    while (t->n_ready < t->n_clients && !atomic_load(&t->run->stop)) turn(t);
}

static void free_all(struct bench_thread *t) {
    for (long i = 0; i < t->n_clients; i++) {
        struct bench_client *c = &t->clients[i];
        if (c->thread) tool_conn_close(&c->conn);
        mem_free(c->own_out);
    }
    mem_free(t->clients);
    mem_free(t->scratch);
    buf_done(&t->shared_out);
    close(t->epfd);
}

void *bench_thread_main(void *arg) {
    struct bench_thread *t = arg;
    t->epfd = epoll_create1(EPOLL_CLOEXEC);
    t->clients = mem_calloc((size_t)t->n_clients + 1, sizeof(*t->clients));
    t->scratch = mem_alloc(SCRATCH_LEN);
    connect_all(t);
    make_requests(t);

    pthread_barrier_wait(&t->run->ready); /* all connected: the main thread notes the time */
    pthread_barrier_wait(&t->run->ready);
    if (t->run->cmd && !atomic_load(&t->run->stop)) {
        t->n_live = t->n_clients;
        pace_init(t);
        for (long i = 0; i < t->n_clients; i++) next_batch(&t->clients[i], clock_mono_us());
        while (t->n_live > 0 && !t->failed && !atomic_load(&t->run->stop)) turn(t);
    }
    while (!t->run->cmd && !atomic_load(&t->run->stop)) turn(t); /* idle mode */
    pthread_barrier_wait(&t->run->done);                         /* the end is timed before the connections are taken down */
    pthread_barrier_wait(&t->run->done);
    free_all(t);
    return NULL;
}
