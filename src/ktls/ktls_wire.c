/*
 * The BIO between OpenSSL and the socket, which never reads past the peer's last handshake record.
 *
 * Place in the flow: below the SSL object from its creation to its end. Owned by the connection, used by the connection's thread.
 *
 * Why it is exact. Whatever OpenSSL has read past the last handshake record is lost to the kernel. So during the handshake this
 * BIO looks at the socket with MSG_PEEK, finds the record boundaries itself (5 bytes of header, then the body), and gives OpenSSL
 * one record at a time, only when it asks. Bytes leave the socket when the next ones are needed, or at the end; then exactly what
 * was given. A flight of several records costs one peek and one read.
 *
 * A record that has arrived in part is the one OpenSSL is asking for: its bytes are taken out of the socket at once. If they
 * stayed, poll(2) would report the socket readable all the time and the caller would spin until the rest arrives.
 *
 * Rejected: OpenSSL's own socket BIO with read_ahead off. It is exact too, but reads header and body apart, two calls per record,
 * and it cannot look at the first bytes to tell plaintext from TLS.
 */
#include "ktls_internal.h"

#include <errno.h>
#include <openssl/bio.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

/* ---- Queues ---- */

#define QUEUE_MIN 4096

uint8_t *ktls_queue_room(struct ktls_queue *q, size_t len) {
    if (q->off > 0 && q->len + len > q->cap) {
        memmove(q->data, q->data + q->off, q->len - q->off);
        q->len -= q->off;
        q->off = 0;
    }
    if (q->len + len > q->cap) {
        size_t cap = q->cap ? q->cap : q->last_cap ? q->last_cap : QUEUE_MIN;
        while (cap < q->len + len) cap *= 2;
        uint8_t *p = realloc(q->data, cap);
        if (!p) return NULL;
        q->data = p;
        q->cap = cap;
    }
    if (q->len + len > q->peak) q->peak = q->len + len;
    return q->data + q->len;
}

int ktls_queue_add(struct ktls_queue *q, const void *data, size_t len) {
    uint8_t *p = len > 0 ? ktls_queue_room(q, len) : NULL;
    if (len > 0 && !p) return -ENOMEM;
    if (len > 0) memcpy(p, data, len);
    q->len += len;
    return 0;
}

void ktls_queue_drop(struct ktls_queue *q, size_t len) {
    q->off += len < q->len - q->off ? len : q->len - q->off;
    if (q->off < q->len) return;
    /* An idle connection holds no buffer. What this one needed is remembered, or half of what it had: growing step by step again
     * would copy as much as it saves. */
    size_t next = q->cap > QUEUE_MIN && q->peak < q->cap / 2 ? q->cap / 2 : q->cap;
    ktls_queue_done(q);
    q->last_cap = next;
}

void ktls_queue_done(struct ktls_queue *q) {
    free(q->data);
    *q = (struct ktls_queue){ 0 };
}

void ktls_gather(uint8_t *out, size_t len, const struct iovec *iov, size_t skip) {
    for (; len > 0; iov++) {
        if (skip >= iov->iov_len) {
            skip -= iov->iov_len;
            continue;
        }
        size_t n = iov->iov_len - skip < len ? iov->iov_len - skip : len;
        memcpy(out, (const uint8_t *)iov->iov_base + skip, n);
        out += n;
        len -= n;
        skip = 0;
    }
}

/* ---- Exact records ---- */

/* What first bytes that are no TLS record look like; NULL when they may be one. */
static const char *name_plaintext(const uint8_t *p, size_t len) {
    if (p[0] == KTLS_CT_HANDSHAKE || p[0] == KTLS_CT_ALERT) return len < 2 || p[1] == 3 ? NULL : "not a TLS record";
    static const char *const http[] = { "GET ", "POST", "HEAD", "PUT ", "HTTP", "OPTI", "DELE", "CONN" };
    for (size_t i = 0; i < sizeof http / sizeof http[0]; i++)
        if (len >= 4 && memcmp(p, http[i], 4) == 0) return "looks like HTTP plaintext";
    if (strchr("*+-:$", p[0]) && p[0] != 0) return "looks like Redis plaintext";
    if ((p[0] >= 'A' && p[0] <= 'Z') || (p[0] >= 'a' && p[0] <= 'z')) return "looks like plaintext (an inline Redis command?)";
    if (len >= 3 && (p[0] & 0x80) && p[2] == 1) return "an SSLv2 hello";
    return "not a TLS record";
}

static ssize_t recv_retry(int fd, void *buf, size_t len, int flags) {
    ssize_t n;
    do n = recv(fd, buf, len, flags | MSG_DONTWAIT);
    while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : n;
}

/* Takes the bytes up to buf + to out of the socket. They are there: they were peeked. */
static int own(struct ktls_wire *w, size_t to) {
    while (w->owned < to) {
        ssize_t n = recv_retry(w->fd, w->buf + w->owned, to - w->owned, 0);
        if (n <= 0) return n < 0 ? (int)n : -EIO;
        w->owned += (size_t)n;
    }
    return 0;
}

/* Length of the whole record at off, 0 when it is not all there. One that claims to be too long counts as its header: OpenSSL
 * refuses it with the right alert, and no more of it is read. */
static size_t whole_record(const struct ktls_wire *w) {
    size_t have = w->len - w->off;
    const uint8_t *p = w->buf + w->off;
    if (have < KTLS_RECORD_HEADER) return 0;
    size_t body = (size_t)p[3] << 8 | p[4];
    if (body > KTLS_RECORD_BODY_MAX) return KTLS_RECORD_HEADER;
    return have >= KTLS_RECORD_HEADER + body ? KTLS_RECORD_HEADER + body : 0;
}

/* Looks for more bytes of the record at off. 1: some; 0: FIN; -EAGAIN, -errno. */
static int peek_more(struct ktls_wire *w) {
    if (!w->buf && !(w->buf = malloc(KTLS_WIRE_BUF))) return -ENOMEM;
    int r = own(w, w->len);
    if (r < 0) return r;
    memmove(w->buf, w->buf + w->off, w->len - w->off);
    w->len = w->owned = w->len - w->off;
    w->off = 0;
    ssize_t n = recv_retry(w->fd, w->buf + w->len, KTLS_WIRE_BUF - w->len, MSG_PEEK);
    if (n <= 0) return (int)n;
    w->len += (size_t)n;
    if (!w->first_seen) {
        w->not_tls = name_plaintext(w->buf, w->len);
        w->first_seen = w->len >= 2;
        if (w->not_tls) return -EPROTO;
    }
    return 1;
}

static ssize_t read_record(struct ktls_wire *w, void *out, size_t cap) {
    if (w->record_left == 0) {
        size_t size = w->len > w->off ? whole_record(w) : 0;
        if (size == 0) {
            int r = peek_more(w);
            if (r <= 0) return r;
            size = whole_record(w);
        }
        if (size == 0) {
            int r = own(w, w->len);
            return r < 0 ? r : -EAGAIN;
        }
        w->record_left = size;
    }
    size_t n = cap < w->record_left ? cap : w->record_left;
    memcpy(out, w->buf + w->off, n);
    w->off += n;
    w->record_left -= n;
    return (ssize_t)n;
}

int ktls_wire_settle(struct ktls_wire *w, enum ktls_wire_mode mode) {
    int r = own(w, w->off);
    if (r == -EAGAIN) r = -EIO; /* the bytes were peeked and are gone; waiting would bring others */
    free(w->buf);
    w->buf = NULL;
    w->off = w->len = w->owned = w->record_left = 0;
    w->mode = mode;
    return r;
}

/* ---- The BIO -----------------------------------------------------------------------------------------------------------------
 */

static ssize_t read_queue(struct ktls_wire *w, void *out, size_t cap) {
    size_t have = w->in.len - w->in.off;
    if (have == 0) return w->eof ? 0 : -EAGAIN;
    size_t n = cap < have ? cap : have;
    memcpy(out, w->in.data + w->in.off, n);
    ktls_queue_drop(&w->in, n);
    return (ssize_t)n;
}

static int on_read(BIO *b, char *out, int cap) {
    struct ktls_wire *w = BIO_get_data(b);
    ssize_t n;
    BIO_clear_retry_flags(b);
    if (w->halted) {
        BIO_set_retry_read(b);
        return -1;
    }
    switch (w->mode) {
    case KTLS_WIRE_RECORD:
        n = read_record(w, out, (size_t)cap);
        break;
    case KTLS_WIRE_STREAM:
        n = recv_retry(w->fd, out, (size_t)cap, 0);
        break;
    default:
        n = read_queue(w, out, (size_t)cap);
        break;
    }
    if (n > 0) return (int)n;
    /* The end is kept here and not told by BIO_eof: OpenSSL would answer a FIN with an alert decode_error. */
    if (n == 0) w->eof = true;
    w->err = (int)-n;
    if (n == -EAGAIN) BIO_set_retry_read(b);
    return n == 0 ? 0 : -1;
}

static int on_write(BIO *b, const char *data, int len) {
    struct ktls_wire *w = BIO_get_data(b);
    BIO_clear_retry_flags(b);
    if (w->mode == KTLS_WIRE_MEM) {
        int r = ktls_queue_add(&w->out, data, (size_t)len);
        if (r == 0) return len;
        w->err = -r;
        return -1;
    }
    ssize_t n;
    do n = send(w->fd, data, (size_t)len, MSG_NOSIGNAL | MSG_DONTWAIT);
    while (n < 0 && errno == EINTR);
    if (n >= 0) return (int)n;
    w->err = errno;
    if (w->err == EAGAIN) BIO_set_retry_write(b);
    return -1;
}

static long on_ctrl(BIO *b, int cmd, long num, void *ptr) {
    (void)b, (void)num, (void)ptr;
    return cmd == BIO_CTRL_FLUSH ? 1 : 0;
}

static int on_create(BIO *b) {
    BIO_set_init(b, 1);
    return 1;
}

/* Made once. Without memory the next connection tries again, which pthread_once() would not. */
static BIO_METHOD *get_method(void) {
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    static BIO_METHOD *method;
    pthread_mutex_lock(&lock);
    int index = method ? 0 : BIO_get_new_index();
    BIO_METHOD *m = method || index == -1 ? NULL : BIO_meth_new(index | BIO_TYPE_SOURCE_SINK, "ktls wire");
    if (m) {
        BIO_meth_set_read(m, on_read);
        BIO_meth_set_write(m, on_write);
        BIO_meth_set_ctrl(m, on_ctrl);
        BIO_meth_set_create(m, on_create);
        method = m;
    }
    m = method;
    pthread_mutex_unlock(&lock);
    return m;
}

BIO *ktls_wire_bio(struct ktls_wire *w) {
    const BIO_METHOD *method = get_method();
    BIO *b = method ? BIO_new(method) : NULL;
    if (b) BIO_set_data(b, w);
    return b;
}

struct ktls_wire *ktls_wire_new(int fd) {
    struct ktls_wire *w = calloc(1, sizeof *w);
    if (w) w->fd = fd;
    return w;
}

struct ktls_wire *ktls_wire_free(struct ktls_wire *w) {
    if (!w) return NULL;
    free(w->buf);
    ktls_queue_done(&w->in);
    ktls_queue_done(&w->out);
    free(w);
    return NULL;
}
