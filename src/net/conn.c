/* Connection: its life from accept to close.
 *
 * Place in the flow: the acceptor hands over an fd; conn_start() brings it up (TLS handshake included) and from then on bytes
 * come in through on_data and go out from the queue `out`. Thread: the I/O thread of the loop it was started on.
 *
 * One timer serves the whole life, because its uses never overlap:
 *
 *     until opened   "begin" (now), then the handshake's deadline
 *     OPEN           a deferred resume of reading (tls-user, ktls-tx)
 *     FLUSHING       the deadline given to conn_close_after_flush
 *
 * Closing has two speeds. conn_close() lets go at once: close_notify is tried, the loop closes the fd. conn_close_after_flush()
 * sends, says goodbye in order (close_notify, FIN) and reads on until the peer's FIN, because close(2) over unread bytes makes
 * the kernel send RST, and an RST that overtakes the reply destroys it in the peer's receive queue. A fatal TLS alert has the
 * same enemy, so TLS failures go the second way with nothing left to send.
 *
 * A callback may close the connection it is called for. Nothing is freed before on_closed, which comes from the loop at the end
 * of the turn, so code after a callback only has to look at `state`. */
#include "net/conn.h"

#include <errno.h>
#include <linux/sockios.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "net/conn_priv.h"

#define ALERT_LINGER_US 500000
#define ORDERLY_FLUSH_US 10000000
#define HANDSHAKE_BUDGET_US 500 /* of one turn: a storm of handshakes must not keep established connections waiting */
#define FLUSH_ROUNDS 16         /* of flush_output before the loop gets a turn */

static void io_poll(struct loop_io *io, short revents);
static void io_closed(struct loop_io *io);

static const struct loop_io_ops io_ops = {
    .on_recv = conn_on_recv,
    .on_sent = conn_on_sent,
    .on_poll = io_poll,
    .on_closed = io_closed,
};

static struct conn *conn_of_timer(struct loop_timer *t) {
    return list_entry(t, struct conn, timer);
}

void conn_arm(struct conn *c, int64_t when_us, void (*fn)(struct loop_timer *t)) {
    c->timer.fn = fn;
    loop_timer_set(c->io.loop, &c->timer, when_us);
}

/* ---- the thread's part ---- */

static void flush_again(struct loop_timer *t) {
    (void)t; /* its only purpose is that the loop does not sleep: the hook runs before each wait */
}

static void flush_hook(void *arg) {
    conn_thread_flush(arg);
}

int conn_thread_init(struct conn_thread *t, struct loop *l) {
    *t = (struct conn_thread){ .loop = l, .again = { .fn = flush_again }, .handshake_budget_us = HANDSHAKE_BUDGET_US };
    list_init(&t->flush);
    list_init(&t->handshakes);
    list_init(&t->held);
    t->scratch = mem_alloc(LOOP_RECV_BUF);
    loop_set_before_sleep(l, flush_hook, t);
    return 0;
}

static void flush_output(struct conn_thread *t) {
    for (int round = 0; round < FLUSH_ROUNDS && !list_empty(&t->flush); round++) {
        struct list batch = LIST_INIT(batch);
        list_move_all(&batch, &t->flush); /* what on_drained queues comes in the next round */
        while (!list_empty(&batch)) conn_flush_now(list_entry(batch.next, struct conn, flush_node));
    }
}

static void handshake_go(struct conn *c);

/* After the turn's replies are on their way: what arrives while this runs waits for one budget (or one private-key operation,
 * which is not divisible), and is answered before the next. First come, first served: nobody overtakes a peer that is ready. */
static void run_handshakes(struct conn_thread *t) {
    int64_t until = clock_mono_us() + t->handshake_budget_us;
    loop_submit(t->loop);
    do {
        struct list *n = t->handshakes.next;
        list_remove(n);
        handshake_go(list_entry(n, struct conn, handshake_node));
    } while (!list_empty(&t->handshakes) && clock_mono_us() < until);
}

void conn_thread_flush(struct conn_thread *t) {
    if (t->gate) conn_gate_release(t);
    flush_output(t);
    if (!list_empty(&t->handshakes)) {
        run_handshakes(t);
        flush_output(t); /* what was queued when they opened */
    }
    bool done = list_empty(&t->flush) && list_empty(&t->handshakes);
    if (t->gate && !conn_gate_sleep(t)) done = false;
    if (!done) loop_timer_set(t->loop, &t->again, loop_now_us(t->loop));
}

void conn_thread_done(struct conn_thread *t) {
    loop_timer_cancel(t->loop, &t->again);
    loop_set_before_sleep(t->loop, NULL, NULL);
    mem_free(t->scratch);
    t->scratch = NULL;
    obuf_pool_done(&t->chunks);
}

/* ---- opening ---- */

static void opened(struct conn *c) {
    loop_timer_cancel(c->io.loop, &c->timer);
    c->state = CONN_OPEN;
    c->opened = true;
    c->ops->on_open(c);
    if (c->state != CONN_OPEN) return;
    if (c->out.bytes) conn_flush_later(c);
    conn_start_reading(c);
}

static enum conn_transport transport_of(const struct ktls_conn *tls) {
    if (!tls) return CONN_TCP;
    if (ktls_conn_mode(tls) == KTLS_MODE_KERNEL) return CONN_KTLS;
    return ktls_conn_mode(tls) == KTLS_MODE_TX ? CONN_KTLS_TX : CONN_TLS_USER;
}

static void handshake_done(struct conn *c) {
    int err = ktls_conn_mode(c->tls) == KTLS_MODE_KERNEL ? 0 : ktls_mem_start(c->tls);
    if (err < 0) {
        conn_close(c, CONN_END_HANDSHAKE, ktls_strerror(err));
        return;
    }
    c->transport = transport_of(c->tls);
    opened(c);
}

static void handshake_go(struct conn *c) {
    int r = ktls_handshake(c->tls);
    if (r == KTLS_WANT_READ)
        loop_poll(&c->io, POLLIN);
    else if (r == KTLS_WANT_WRITE)
        loop_poll(&c->io, POLLOUT);
    else if (r == KTLS_DONE)
        handshake_done(c);
    else
        conn_close_lingering(c, CONN_END_HANDSHAKE, ktls_conn_error(c->tls)->text);
}

/* The socket is ready for the next step: it waits in line, not in the kernel, where a crowd that is ready would fill every batch
 * of events and keep the established connections out of it. */
static void handshake_ready(struct conn *c) {
    if (list_empty(&c->handshake_node)) list_push_back(&c->thread->handshakes, &c->handshake_node);
}

static void handshake_expired(struct loop_timer *t) {
    conn_close(conn_of_timer(t), CONN_END_HANDSHAKE_TIMEOUT, "TLS handshake timed out");
}

static void begin(struct loop_timer *t) {
    struct conn *c = conn_of_timer(t);
    if (!c->tls) {
        opened(c);
        return;
    }
    if (c->handshake_timeout_us > 0) conn_arm(c, loop_now_us(c->io.loop) + c->handshake_timeout_us, handshake_expired);
    handshake_ready(c);
}

static void init(struct conn *c, struct conn_thread *t, int fd, const struct conn_ops *ops) {
    memset(c, 0, sizeof(*c));
    loop_io_init(&c->io, t->loop, fd, &io_ops);
    list_init(&c->flush_node);
    list_init(&c->handshake_node);
    c->thread = t;
    c->out.pool = &t->chunks;
    c->ops = ops;
    c->file_fd = -1;
}

static void begin_adopted(struct loop_timer *t) {
    opened(conn_of_timer(t));
}

void conn_adopt(struct conn *c, struct conn_thread *t, int fd, struct ktls_conn *tls_take, const struct conn_ops *ops) {
    init(c, t, fd, ops);
    c->tls = tls_take;
    c->transport = transport_of(tls_take);
    c->state = CONN_OPEN;
    c->notified = !tls_take;
    conn_arm(c, loop_now_us(t->loop), begin_adopted);
}

void conn_start(struct conn *c, struct conn_thread *t, int fd, const struct conn_ops *ops, const struct conn_params *p) {
    init(c, t, fd, ops);
    c->handshake_timeout_us = p->handshake_timeout_us;
    c->transport = p->is_unix ? CONN_UNIX : CONN_TCP;
    c->state = p->tls_ctx ? CONN_HANDSHAKE : CONN_OPEN;
    c->notified = true; /* until there is TLS to say goodbye in */
    if (p->tls_ctx) {
        int err = ktls_conn_new(p->tls_ctx, fd, NULL, &c->tls);
        if (err < 0) {
            conn_close(c, CONN_END_HANDSHAKE, ktls_strerror(err));
            return;
        }
        c->notified = false;
    }
    conn_arm(c, loop_now_us(t->loop), begin);
}

static void io_poll(struct loop_io *io, short revents) {
    struct conn *c = conn_of(io);
    (void)revents; /* errors show in the call that is tried next */
    if (c->state == CONN_HANDSHAKE) {
        handshake_ready(c);
    } else if (c->ctl_blocked) {
        conn_finish_control(c);
    } else if (c->notify_blocked) {
        c->notify_blocked = false;
        conn_send_step(c);
    }
}

/* ---- output lent to another process ---- */

bool conn_can_lend(const struct conn *c) {
    return c->transport != CONN_TLS_USER;
}

bool conn_lend_output(struct conn *c) {
    bool is_idle = c->out.bytes == 0 && !loop_send_busy(&c->io) && !conn_sends_file(c) && !c->ctl_blocked;
    if (c->state != CONN_OPEN || c->lent || !is_idle || !conn_can_lend(c)) return false;
    if (c->tls && ktls_tx_begin(c->tls) != 0) return false;
    c->lent = true;
    return true;
}

void conn_reclaim_output(struct conn *c, uint64_t bytes_sent) {
    if (!c->lent || c->state == CONN_CLOSING) return;
    c->lent = false;
    c->bytes_out += bytes_sent;
    int r = c->tls ? ktls_tx_end(c->tls, bytes_sent) : KTLS_DONE;
    if (r == KTLS_ERECORDLIMIT)
        conn_end_at_limit(c);
    else if (r != KTLS_DONE)
        conn_control_result(c, r);
    if (c->state < CONN_CLOSING) conn_flush_later(c);
}

/* ---- output and reading, as the owner sees them ---- */

void conn_flush_later(struct conn *c) {
    if (c->thread->gate) conn_gate_note(c);
    if (c->state < CONN_CLOSING && list_empty(&c->flush_node)) list_push_back(&c->thread->flush, &c->flush_node);
}

void conn_flush_now(struct conn *c) {
    list_remove(&c->flush_node);
    conn_send_step(c);
}

void conn_pause_reading(struct conn *c) {
    if (c->state > CONN_OPEN || c->reading_paused) return;
    c->reading_paused = true;
    if (c->opened) loop_recv_stop(&c->io);
}

static void resume(struct loop_timer *t) {
    conn_start_reading(conn_of_timer(t));
}

void conn_resume_reading(struct conn *c) {
    if (c->state > CONN_OPEN || !c->reading_paused) return;
    c->reading_paused = false;
    if (!c->opened) return;
    /* The record layer may hold bytes already decrypted; on_data for them must not come from inside this call. */
    if (conn_user_receives(c))
        conn_arm(c, loop_now_us(c->io.loop), resume);
    else
        conn_start_reading(c);
}

/* ---- closing ---- */

static void set_end(struct conn *c, enum conn_end why, const char *text) {
    c->end = why;
    mem_free(c->end_text);
    c->end_text = text && *text ? mem_memdup0(text, strlen(text)) : NULL;
}

void conn_close(struct conn *c, enum conn_end why, const char *text) {
    if (c->state == CONN_CLOSING) return;
    /* A lingering close has its reason already: what ends the lingering is not it. */
    if (!(c->state == CONN_FLUSHING && c->end != CONN_END_LOCAL)) set_end(c, why, text);
    bool established = c->state != CONN_HANDSHAKE;
    c->state = CONN_CLOSING;
    list_remove(&c->flush_node);
    list_remove(&c->handshake_node);
    loop_timer_cancel(c->io.loop, &c->timer);
    if (established && !c->notified && c->end != CONN_END_TLS) conn_notify_once(c);
    if (c->lent) shutdown(c->io.fd, SHUT_RDWR);
    conn_drop_file(c);
    loop_io_close(&c->io);
}

/* Bytes the kernel still holds for the peer. */
static int unacked(const struct conn *c) {
    int n = 0;
    return ioctl(c->io.fd, SIOCOUTQ, &n) == 0 ? n : 0;
}

/* Whether the peer took anything since the last look. The socket's buffer may be megabytes, and is not reported writable before a
 * third of it is free: so the kernel is asked too. */
static bool took_some(struct conn *c) {
    int left = unacked(c), before = c->unacked;
    c->unacked = left;
    if (c->write_shut && left == 0) return false; /* it has everything, and only keeps us waiting */
    return c->progress || left < before;
}

static void closing_expired(struct loop_timer *t) {
    struct conn *c = conn_of_timer(t);
    if (!c->lingering && (c->held || took_some(c))) { /* a slow reader, not a dead one */
        c->progress = false;
        conn_arm(c, loop_now_us(c->io.loop) + c->flush_timeout_us, closing_expired);
        return;
    }
    conn_close(c, CONN_END_LOCAL, c->out.bytes || conn_sends_file(c) ? "output not taken in time" : "");
}

void conn_close_after_flush(struct conn *c, int64_t timeout_us) {
    if (c->state >= CONN_FLUSHING) return;
    if (c->state == CONN_HANDSHAKE || c->lent) {
        conn_close(c, CONN_END_LOCAL, "");
        return;
    }
    c->state = CONN_FLUSHING;
    c->end = CONN_END_LOCAL;
    c->progress = false;
    c->unacked = unacked(c);
    c->flush_timeout_us = timeout_us;
    conn_arm(c, loop_now_us(c->io.loop) + timeout_us, closing_expired);
    if (!c->ctl_blocked) loop_recv_start(&c->io);
    conn_flush_later(c);
}

void conn_end_at_limit(struct conn *c) {
    if (c->state >= CONN_FLUSHING) return;
    conn_close_after_flush(c, ORDERLY_FLUSH_US);
    set_end(c, CONN_END_LIMIT, ktls_conn_error(c->tls)->text);
}

void conn_end_after_flush(struct conn *c, enum conn_end why, const char *text) {
    if (c->out.bytes || c->cipher || loop_send_busy(&c->io) || conn_sends_file(c)) {
        conn_close_after_flush(c, ORDERLY_FLUSH_US);
        set_end(c, why, text);
    } else {
        conn_close(c, why, text);
    }
}

void conn_close_lingering(struct conn *c, enum conn_end why, const char *text) {
    if (c->state >= CONN_FLUSHING) return;
    set_end(c, why, text);
    c->state = CONN_FLUSHING;
    c->notified = c->write_shut = true;
    c->lingering = true;
    conn_drop_file(c);
    c->progress = c->ctl_blocked = false;
    list_remove(&c->flush_node);
    list_remove(&c->handshake_node);
    if (c->transport == CONN_TLS_USER) conn_push_ciphertext(c);
    loop_send_hold(&c->io, true);
    loop_poll(&c->io, 0);
    /* Not on a kernel-TLS socket: the kernel may hold the alert's record outside of TCP's queue, and FIN would overtake it. */
    if (c->lent || !conn_kernel_sends(c)) shutdown(c->io.fd, SHUT_WR);
    conn_arm(c, loop_now_us(c->io.loop) + ALERT_LINGER_US, closing_expired);
    loop_recv_start(&c->io);
}

void conn_io_failed(struct conn *c, int err, const char *what) {
    c->end_err = err;
    if (c->transport == CONN_KTLS) {
        conn_tls_failed(c, ktls_io_error(c->tls, err));
        return;
    }
    char text[128];
    const char *desc = strerrordesc_np(err);
    snprintf(text, sizeof(text), "%s: %s", what, desc ? desc : "unknown error");
    conn_close(c, CONN_END_ERROR, text);
}

void conn_tls_failed(struct conn *c, int err) {
    if (err == KTLS_ETRUNCATED)
        conn_close(c, CONN_END_EOF, CONN_TRUNCATED_TEXT);
    else if (err == -ECONNRESET || err == -EPIPE || err == -ETIMEDOUT)
        conn_close(c, CONN_END_ERROR, ktls_conn_error(c->tls)->text);
    else if (c->state == CONN_FLUSHING)
        conn_close(c, CONN_END_TLS, ktls_conn_error(c->tls)->text);
    else
        conn_close_lingering(c, CONN_END_TLS, ktls_conn_error(c->tls)->text);
}

static void io_closed(struct loop_io *io) {
    struct conn *c = conn_of(io);
    if (c->state != CONN_CLOSING) /* the loop could not watch the fd any longer */
        set_end(c, CONN_END_ERROR, "event loop cannot watch this connection");
    c->state = CONN_CLOSING;
    list_remove(&c->flush_node);
    list_remove(&c->handshake_node);
    loop_timer_cancel(io->loop, &c->timer);
    obuf_clear(&c->out);
    mem_free(c->cipher);
    c->cipher = NULL;
    mem_free(c->many);
    c->tls = ktls_conn_free(c->tls);
    char *text = c->end_text; /* c is gone after the call */
    c->ops->on_closed(c, c->end, text ? text : "");
    mem_free(text);
}
