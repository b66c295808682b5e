/*
 * For the tests in which everything happens at once: messages that show loss, doubling and wrong keys, and an OpenSSL peer on a
 * thread of its own that decrypts and checks every byte while it may send and change its key itself.
 */
#ifndef REKEY_PEER_H
#define REKEY_PEER_H

#include "ktls_test.h"

#include <pthread.h>

#define MSG_HEAD 8
#define MSG_MAX 16384
#define WRITERS_MAX 8

/* writer (1), 0 (1), body length (2), number (4), body. One message is one send and one record. */
static size_t make_msg(uint8_t *buf, unsigned writer, uint32_t number) {
    size_t body = (number * 2654435761u >> 7) % (number % 16 == 0 ? MSG_MAX - MSG_HEAD : 300);
    buf[0] = (uint8_t)writer;
    buf[1] = 0;
    buf[2] = (uint8_t)(body >> 8);
    buf[3] = (uint8_t)body;
    for (int i = 0; i < 4; i++) buf[4 + i] = (uint8_t)(number >> (24 - 8 * i));
    pattern(buf + MSG_HEAD, body, number + writer * 77);
    return MSG_HEAD + body;
}

/* Takes a stream of messages apart. */
struct checker {
    uint8_t buf[2 * MSG_MAX];
    size_t len;
    uint32_t next[WRITERS_MAX]; /* in order: the number that must come */
    uint8_t *seen[WRITERS_MAX]; /* in any order: by number */
    uint32_t per_writer;
    bool any_order;
    uint32_t messages;
    const char *wrong;
};

MAYBE_UNUSED static void check_msg(struct checker *c, const uint8_t *m, size_t len) {
    static _Thread_local uint8_t want[MSG_MAX];
    unsigned writer = m[0];
    uint32_t number = (uint32_t)m[4] << 24 | (uint32_t)m[5] << 16 | (uint32_t)m[6] << 8 | m[7];
    if (writer >= WRITERS_MAX || number >= c->per_writer) {
        c->wrong = "a message of nobody";
        return;
    }
    if (make_msg(want, writer, number) != len || memcmp(want, m, len) != 0) c->wrong = "a changed message";
    if (!c->any_order && c->next[writer]++ != number) c->wrong = "a lost or doubled message";
    if (c->any_order && c->seen[writer][number]++) c->wrong = "a doubled message";
    c->messages++;
}

MAYBE_UNUSED static void check_bytes(struct checker *c, const uint8_t *data, size_t len) {
    while (len > 0 && !c->wrong) {
        size_t n = sizeof c->buf - c->len < len ? sizeof c->buf - c->len : len, off = 0;
        memcpy(c->buf + c->len, data, n);
        c->len += n;
        data += n;
        len -= n;
        while (c->len - off >= MSG_HEAD && !c->wrong) {
            size_t whole = MSG_HEAD + ((size_t)c->buf[off + 2] << 8 | c->buf[off + 3]);
            if (whole > MSG_MAX) c->wrong = "a message of wrong length";
            if (c->len - off < whole) break;
            check_msg(c, c->buf + off, whole);
            off += whole;
        }
        memmove(c->buf, c->buf + off, c->len - off);
        c->len -= off;
    }
}

/* ---- The peer's thread ---- */

struct peer_thread {
    pthread_t id;
    struct session *s;
    struct checker in;    /* what the library's side sent */
    uint32_t want;        /* messages to receive */
    uint32_t to_send;     /* messages to send, as writer 0 */
    unsigned rekey_every; /* of its own messages; 0: never */
    uint64_t rekeys;
    const char *wrong;
    atomic_bool done_sending;
};

/* What fits the socket. */
static void peer_push(struct peer *p) {
    char *data;
    long n = BIO_get_mem_data(p->out, &data);
    while (n > 0) {
        ssize_t sent = send(p->fd, data, (size_t)n, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent <= 0) return;
        static _Thread_local char drop[65536];
        for (ssize_t left = sent; left > 0;) {
            int k = BIO_read(p->out, drop, left > (ssize_t)sizeof drop ? (int)sizeof drop : (int)left);
            if (k <= 0) return;
            left -= k;
        }
        n = BIO_get_mem_data(p->out, &data);
    }
}

static void peer_send_some(struct peer_thread *t, uint32_t *sent) {
    uint8_t msg[MSG_MAX];
    for (int i = 0; i < 8 && *sent < t->to_send && BIO_ctrl_pending(t->s->peer.out) < 262144; i++) {
        size_t len = make_msg(msg, 0, *sent);
        if (SSL_write(t->s->peer.ssl, msg, (int)len) != (int)len) return;
        ++*sent;
        if (t->rekey_every && *sent % t->rekey_every == 0) {
            int how = *sent % (2 * t->rekey_every) ? SSL_KEY_UPDATE_REQUESTED : SSL_KEY_UPDATE_NOT_REQUESTED;
            if (SSL_key_update(t->s->peer.ssl, how) == 1) t->rekeys++;
        }
    }
}

static void *peer_run(void *arg) {
    struct peer_thread *t = arg;
    struct peer *p = &t->s->peer;
    uint8_t buf[16384];
    uint32_t sent = 0;
    for (int idle = 0; idle < 3000 && !t->wrong; idle++) {
        bool all = t->in.messages == t->want && sent == t->to_send && BIO_ctrl_pending(p->out) == 0;
        if (all) return NULL;
        peer_send_some(t, &sent);
        peer_push(p);
        peer_feed(p);
        int n;
        while ((n = SSL_read(p->ssl, buf, sizeof buf)) > 0) {
            check_bytes(&t->in, buf, (size_t)n);
            idle = 0;
        }
        int e = SSL_get_error(p->ssl, n);
        if (e != SSL_ERROR_WANT_READ) t->wrong = e == SSL_ERROR_ZERO_RETURN ? "an early end" : "a record that OpenSSL refuses";
        if (t->in.wrong) t->wrong = t->in.wrong;
        short events = BIO_ctrl_pending(p->out) ? POLLIN | POLLOUT : POLLIN;
        wait_fd(p->fd, events, 10);
    }
    if (!t->wrong) t->wrong = "nothing more comes";
    return NULL;
}

MAYBE_UNUSED static void peer_thread_start(struct peer_thread *t, struct session *s, uint32_t writers, uint32_t per_writer,
                                           bool any_order) {
    t->s = s;
    t->want = writers * per_writer;
    t->in.per_writer = per_writer;
    t->in.any_order = any_order;
    for (int i = 0; any_order && i < WRITERS_MAX; i++) t->in.seen[i] = calloc(per_writer, 1);
    assert_int_equal(pthread_create(&t->id, NULL, peer_run, t), 0);
}

MAYBE_UNUSED static void peer_thread_join(struct peer_thread *t) {
    pthread_join(t->id, NULL);
    for (int i = 0; i < WRITERS_MAX; i++) free(t->in.seen[i]);
    if (t->wrong) print_message("the peer: %s after %u of %u messages\n", t->wrong, t->in.messages, t->want);
    assert_null(t->wrong);
    assert_int_equal(t->in.messages, t->want);
}

MAYBE_UNUSED static void open_busy(struct session *s, enum ktls_policy policy, uint64_t records, int cipher) {
    struct ktls_ctx_opts o = server_opts(policy);
    o.rekey_after_records = records;
    o.max_key_updates_per_s = 1000000;
    use_suite(&o, TLS1_3_VERSION, cipher);
    session_open(s, &o, TLS1_3_VERSION, tls13_suites[cipher]);
    fcntl(s->fd[1], F_SETFL, 0); /* sends wait for room in the kernel, under way all the while */
}

#endif
