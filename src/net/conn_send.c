/* Connection, sending side.
 *
 * Place in the flow: replies gather in `out`; once a turn, before the loop sleeps, conn_send_step() gives them to the socket.
 * Thread: the connection's.
 *
 * tcp, unix, kernel TLS and ktls-tx: up to LOOP_IOV_MAX pieces straight from the queue, no copy. The pieces of one sendmsg share
 * TLS records, and a batch that is not the last one ends at a multiple of the record size, so that bulk data goes out in full
 * ones.
 *
 * tls-user: batches of one record's size are encrypted until CIPHER_MIN of ciphertext waits, or up to CIPHER_MAX for a peer that
 * takes it as fast (a hundred slow readers must not hold a quarter of a megabyte each), then sent. libktls's buffer may move with
 * the next read or write, so a send that cannot finish at once gets a copy of the ciphertext (`cipher`), and nothing is encrypted
 * until that is gone: the queue of ciphertext is bounded and the rest stays plaintext in `out`. A few kilobytes get such a copy
 * at once: it costs less than a system call of their own, which io_uring saves by sending them with the turn's others.
 *
 * Flushing before a close goes: out empty -> close_notify -> FIN -> the peer's FIN (conn_recv.c) or the deadline.
 *
 * loop_send may complete at once, calling back into here; the flags in_send and in_step turn that recursion into a loop. */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#include "base/alloc.h"
#include "net/conn_priv.h"

#define RECORD_MAX 16384
#define CIPHER_MIN (64 * 1024)
#define CIPHER_MAX (256 * 1024)
#define BATCHED_MAX 4096 /* copied, and sent with what the turn's other connections send */

/* Shortens the pieces to `limit` bytes. Returns how many are left. */
static int cut_iov(struct iovec *iov, int cnt, size_t limit) {
    for (int i = 0; i < cnt; i++) {
        if (iov[i].iov_len >= limit) {
            iov[i].iov_len = limit;
            return limit ? i + 1 : i;
        }
        limit -= iov[i].iov_len;
    }
    return cnt;
}

/* Books the outcome of a loop_send. False: the connection failed. */
static bool account(struct conn *c, ssize_t n) {
    if (n < 0) {
        conn_io_failed(c, (int)-n, "write");
        return false;
    }
    if (n > 0) c->progress = true;
    if (c->transport != CONN_TLS_USER) {
        obuf_consume(&c->out, (size_t)n);
        conn_gate_sent(c, (size_t)n);
        c->bytes_out += (uint64_t)n;
        if (conn_kernel_sends(c) && ktls_count_tx(c->tls, (size_t)n)) conn_check_limits(c);
        return c->state != CONN_CLOSING && !c->write_shut;
    }
    c->cipher_off += (size_t)n;
    if (c->cipher_off == c->cipher_len) {
        mem_free(c->cipher);
        c->cipher = NULL;
    }
    return true;
}

/* False: in flight, or failed. */
static bool send_iov(struct conn *c, const struct iovec *iov, int cnt) {
    c->in_send = true;
    c->sent_now = false;
    loop_send(&c->io, iov, cnt);
    c->in_send = false;
    return c->sent_now && account(c, c->sent_n);
}

void conn_on_sent(struct loop_io *io, ssize_t n) {
    struct conn *c = conn_of(io);
    if (c->in_send) {
        c->sent_now = true;
        c->sent_n = n;
        return;
    }
    if (c->state != CONN_CLOSING && account(c, n)) conn_send_step(c);
}

/* ---- tcp, unix, kernel TLS, ktls-tx ---- */

/* True when everything is sent. */
static bool send_plain(struct conn *c) {
    size_t allowed;
    while ((allowed = conn_gate_allows(c)) > 0) {
        size_t bytes = 0;
        bool many = c->out.nsegs > CONN_IOV_OWN;
        if (many && !c->many) c->many = mem_alloc(LOOP_IOV_MAX * sizeof(*c->many));
        struct iovec *iov = many ? c->many : c->iov;
        int cnt = obuf_iov(&c->out, iov, many ? LOOP_IOV_MAX : CONN_IOV_OWN, &bytes);
        if (bytes > allowed)
            cnt = cut_iov(iov, cnt, allowed);
        else if (conn_kernel_sends(c) && bytes < c->out.bytes && bytes > RECORD_MAX)
            cnt = cut_iov(iov, cnt, bytes - bytes % RECORD_MAX);
        if (!send_iov(c, iov, cnt)) return false;
    }
    mem_free(c->many);
    c->many = NULL;
    return c->out.bytes == 0;
}

/* ---- tls-user ---- */

/* Plaintext from the queue into OpenSSL, until the bound. Returns the ciphertext waiting, or -1: failed. */
static ssize_t encrypt_some(struct conn *c, const void **ret_data) {
    size_t waiting = ktls_mem_output(c->tls, ret_data);
    size_t goal = c->cipher_goal > CIPHER_MIN ? c->cipher_goal : CIPHER_MIN, allowed;
    while (waiting < goal && (allowed = conn_gate_allows(c)) > 0) {
        size_t bytes = 0;
        struct iovec *iov = c->thread->iov;
        int cnt = obuf_iov(&c->out, iov, LOOP_IOV_MAX, &bytes);
        if (allowed < bytes) bytes = allowed;
        cnt = cut_iov(iov, cnt, bytes > RECORD_MAX ? RECORD_MAX : bytes);
        ssize_t n = ktls_writev(c->tls, iov, cnt);
        if (n <= 0) {
            conn_tls_failed(c, n < 0 ? (int)n : -EIO);
            return -1;
        }
        obuf_consume(&c->out, (size_t)n);
        conn_gate_sent(c, (size_t)n);
        c->bytes_out += (uint64_t)n;
        if (ktls_count_tx(c->tls, 0)) conn_check_limits(c);
        waiting = ktls_mem_output(c->tls, ret_data);
    }
    return (ssize_t)waiting;
}

/* What is sent later is sent from memory that stays put. */
static void park_ciphertext(struct conn *c, const void *data, size_t len) {
    c->cipher = mem_alloc(len);
    memcpy(c->cipher, data, len);
    c->cipher_len = len;
    c->cipher_off = 0;
    ktls_mem_sent(c->tls, len);
}

static bool send_parked(struct conn *c) {
    while (c->cipher) {
        c->iov[0] = (struct iovec){ c->cipher + c->cipher_off, c->cipher_len - c->cipher_off };
        if (!send_iov(c, c->iov, 1)) return false;
    }
    return true;
}

/* How much is to be encrypted at once, after the socket took all of len bytes, or not. */
static void next_goal(struct conn *c, bool took_all, size_t len) {
    if (!took_all || len < CIPHER_MIN)
        c->cipher_goal = CIPHER_MIN;
    else if (len < CIPHER_MAX)
        c->cipher_goal = len * 2 < CIPHER_MAX ? len * 2 : CIPHER_MAX;
}

/* True when everything is sent. */
static bool send_user(struct conn *c) {
    for (;;) {
        if (!send_parked(c)) return false;
        const void *data = NULL;
        ssize_t len = encrypt_some(c, &data);
        if (len <= 0) return len == 0 && c->out.bytes == 0;
        if (len <= BATCHED_MAX) {
            park_ciphertext(c, data, (size_t)len);
            continue;
        }
        struct iovec piece = { (void *)(uintptr_t)data, (size_t)len };
        ssize_t n = loop_send_try(&c->io, &piece, 1);
        if (n >= 0) {
            c->progress = true;
            ktls_mem_sent(c->tls, (size_t)n);
            next_goal(c, n == len, (size_t)len);
        } else if (n == -EAGAIN) {
            next_goal(c, false, 0);
            park_ciphertext(c, data, (size_t)len);
        } else {
            conn_io_failed(c, (int)-n, "write");
            return false;
        }
    }
}

void conn_push_ciphertext(struct conn *c) {
    const void *data;
    size_t len = c->cipher ? 0 : ktls_mem_output(c->tls, &data); /* never between the halves of a record */
    if (len == 0) return;
    struct iovec piece = { (void *)(uintptr_t)data, len };
    loop_send_try(&c->io, &piece, 1);
}

void conn_notify_once(struct conn *c) {
    c->notified = true;
    if (c->lent || loop_send_busy(&c->io) || c->cipher) return; /* not before data, and not in the middle of a record */
    ktls_shutdown(c->tls);
    if (c->transport == CONN_TLS_USER) conn_push_ciphertext(c);
}

/* ---- the step ---- */

static bool send_queued(struct conn *c) {
    if (loop_send_busy(&c->io)) return false;
    return c->transport == CONN_TLS_USER ? send_user(c) : send_plain(c);
}

/* The queue is empty and the connection is FLUSHING: say goodbye, once. */
static void say_goodbye(struct conn *c) {
    if (!c->notified) {
        int r = ktls_shutdown(c->tls);
        if (r == KTLS_WANT_WRITE && conn_kernel_sends(c)) {
            c->notify_blocked = true;
            loop_recv_stop(&c->io);
            loop_poll(&c->io, POLLOUT);
            return;
        }
        c->notified = true;
        if (c->transport == CONN_TLS_USER && !send_user(c)) return;
    }
    if (!c->write_shut) {
        c->write_shut = true;
        /* Not on a kernel-TLS socket: the kernel may hold records outside of TCP's queue, and FIN would overtake them. There
         * close_notify says it. */
        if (!conn_kernel_sends(c)) shutdown(c->io.fd, SHUT_WR);
    }
    if (c->peer_eof || c->discarded >= CONN_DISCARD_MAX)
        conn_close(c, CONN_END_LOCAL, "");
    else
        loop_recv_start(&c->io);
}

static void one_step(struct conn *c) {
    if (c->out.bytes || conn_sends_file(c)) c->drain_due = true;
    if (!send_queued(c)) {
        if (c->held && c->state < CONN_CLOSING && !loop_send_busy(&c->io) && conn_gate_allows(c) == 0) conn_gate_wait(c);
        return;
    }
    if (!conn_file_step(c)) return;
    obuf_trim(&c->out); /* an idle connection holds no buffer, and the next one to reply finds this one warm in the cache */
    if (c->state == CONN_FLUSHING) {
        say_goodbye(c);
    } else if (c->state == CONN_OPEN && c->drain_due) {
        c->drain_due = false;
        if (c->ops->on_drained) c->ops->on_drained(c);
    }
}

static bool may_send(const struct conn *c) {
    return (c->state == CONN_OPEN || (c->state == CONN_FLUSHING && !c->write_shut)) && !c->ctl_blocked && !c->notify_blocked &&
           !c->lent;
}

void conn_send_step(struct conn *c) {
    c->step_again = true;
    if (c->in_step) return;
    c->in_step = true;
    while (c->step_again && may_send(c)) {
        c->step_again = false;
        one_step(c);
    }
    c->in_step = false;
}
