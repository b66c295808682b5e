/*
 * One run of the record table: a connection between the library and a raw peer, read in one of the four ways in which the
 * library is used, with a stream of data whose every byte is known.
 *
 * The peer and the application are one thread: what does not fit the socket is sent after the application has read.
 */
#ifndef RECORD_RUN_H
#define RECORD_RUN_H

#include "raw_peer.h"

#include <time.h>

enum way {
    KERNEL_READ, /* kernel mode, ktls_read() and ktls_write() */
    KERNEL_RECV, /* kernel mode, plain recv() and send(); ktls_control() and ktls_io_error() as they are called for */
    USER_READ,   /* userspace, ktls_read() and ktls_write() */
    USER_MEM,    /* userspace, the caller moves the ciphertext: ktls_mem_input(), ktls_mem_output() */
    N_WAYS
};

struct run {
    struct raw raw;
    struct session s;
    enum way way;
    int role; /* of the library */
    /* Bytes of data: sent in well-formed records; sent before the record that decides; read. */
    size_t good, sure, got;
    bool is_marked;
    int end;      /* -EAGAIN: it goes on; 0: end of stream; the error */
    bool is_gone; /* the peer has no socket any more */
    const char *wrong;
};

static const char *way_name(enum way way) {
    static const char *const names[N_WAYS] = { "kernel, ktls_read", "kernel, recv", "userspace, ktls_read", "userspace, memory" };
    return names[way];
}

static bool is_kernel(enum way way) {
    return way == KERNEL_READ || way == KERNEL_RECV;
}

static int64_t now_ms(void) {
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/* ---- The application ---- */

static void mem_to_socket(struct run *t) {
    const void *out;
    size_t n;
    while ((n = ktls_mem_output(t->s.conn, &out)) > 0) {
        ssize_t sent = send(t->s.fd[1], out, n, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent <= 0) return;
        ktls_mem_sent(t->s.conn, (size_t)sent);
    }
}

static ssize_t read_mem(struct run *t, void *buf, size_t cap) {
    static char wire[16384];
    ssize_t n = ktls_read(t->s.conn, buf, cap);
    if (n == -EAGAIN) {
        ssize_t got = recv(t->s.fd[1], wire, sizeof wire, MSG_DONTWAIT);
        if (got < 0) return -errno;
        assert_int_equal(ktls_mem_input(t->s.conn, got > 0 ? wire : NULL, (size_t)got), 0);
        n = ktls_read(t->s.conn, buf, cap);
    }
    mem_to_socket(t);
    return n;
}

static int control_done(struct run *t, int r) {
    while (r == KTLS_WANT_WRITE) {
        wait_fd(t->s.fd[1], POLLOUT, 100);
        r = ktls_flush(t->s.conn);
    }
    return r;
}

static ssize_t read_plain(struct run *t, void *buf, size_t cap) {
    for (;;) {
        ssize_t n = recv(t->s.fd[1], buf, cap, MSG_DONTWAIT);
        if (n > 0 && ktls_count_rx(t->s.conn, (size_t)n)) assert_int_equal(control_done(t, ktls_check_limits(t->s.conn)), 0);
        if (n > 0 || (n < 0 && errno == EAGAIN)) return n > 0 ? n : -EAGAIN;
        int r = n == 0 ? ktls_io_error(t->s.conn, 0) : 0;
        if (n < 0) r = errno == EIO ? control_done(t, ktls_control(t->s.conn)) : ktls_io_error(t->s.conn, errno);
        if (r == KTLS_EOF) return 0;
        if (r != KTLS_DONE) return r;
    }
}

static ssize_t app_read(struct run *t, void *buf, size_t cap) {
    if (t->way == USER_MEM) return read_mem(t, buf, cap);
    return t->way == KERNEL_RECV ? read_plain(t, buf, cap) : ktls_read(t->s.conn, buf, cap);
}

static ssize_t app_write(struct run *t, const void *data, size_t len) {
    ssize_t n = t->way == KERNEL_RECV ? send(t->s.fd[1], data, len, MSG_NOSIGNAL) : ktls_write(t->s.conn, data, len);
    if (t->way == USER_MEM) mem_to_socket(t);
    return n;
}

static int app_shutdown(struct run *t) {
    int r = control_done(t, ktls_shutdown(t->s.conn));
    if (t->way == USER_MEM) mem_to_socket(t);
    return r;
}

/* ---- The stream ---- */

static uint8_t stream_byte(size_t i) {
    return (uint8_t)(i * 31 + i / 251);
}

/* The application reads what there is. */
static void take(struct run *t) {
    static uint8_t buf[20000];
    while (t->end == -EAGAIN) {
        ssize_t n = app_read(t, buf, sizeof buf);
        if (n <= 0) t->end = (int)n;
        for (ssize_t i = 0; i < n; i++)
            if (buf[i] != stream_byte(t->got + (size_t)i)) t->wrong = "changed data";
        if (n > 0) t->got += (size_t)n;
        if (t->got > t->good) t->wrong = "data that must not be delivered";
        if (n == -EAGAIN) return;
    }
}

static void flush(struct run *t) {
    const uint8_t *p = t->raw.out;
    while (t->raw.out_len > 0) {
        ssize_t n = send(t->s.fd[0], p, t->raw.out_len, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n < 0 && t->end != -EAGAIN) n = (ssize_t)t->raw.out_len; /* nobody reads any more */
        if (n < 0) {
            wait_fd(t->s.fd[0], POLLOUT, 1);
            take(t);
            continue;
        }
        p += n;
        t->raw.out_len -= (size_t)n;
    }
}

/* A record with the next bytes of the stream. */
static void data_padded(struct run *t, size_t len, size_t padding) {
    static uint8_t buf[20000];
    for (size_t i = 0; i < len; i++) buf[i] = stream_byte(t->good + i);
    t->good += len;
    raw_padded(&t->raw, KTLS_CT_DATA, buf, len, padding);
}

static void data(struct run *t, size_t len) {
    data_padded(t, len, 0);
}

/* A record with data that must not be delivered. */
static void junk(struct run *t) {
    raw_record(&t->raw, KTLS_CT_DATA, "junk", 4);
}

/* What follows may end the connection: only data sent so far is sure to be delivered. */
static void mark(struct run *t) {
    t->sure = t->good;
    t->is_marked = true;
}

/* ---- Its end ---- */

/* Until the application has read everything (goes_on) or has met the end. */
static void settle(struct run *t, bool goes_on) {
    int64_t deadline = now_ms() + 5000;
    flush(t);
    for (take(t); t->end == -EAGAIN && now_ms() < deadline; take(t)) {
        if (goes_on && t->got >= t->good) return;
        wait_fd(t->s.fd[1], POLLIN, 10);
    }
}

static void await_peer(struct run *t, int alerts, size_t data_len, bool fin) {
    int64_t deadline = now_ms() + 5000;
    for (raw_take(&t->raw); now_ms() < deadline; raw_take(&t->raw)) {
        if (t->raw.wrong || t->raw.fin || t->raw.reset) return;
        if (!fin && t->raw.n_alerts >= alerts && t->raw.data_len >= data_len) return;
        wait_fd(t->s.fd[0], POLLIN, 10);
    }
}

/* The connection is whole: data both ways. */
static void exchange(struct run *t) {
    data(t, 11);
    settle(t, true);
    if (t->end != -EAGAIN || t->got != t->good) return;
    size_t before = t->raw.data_len;
    if (app_write(t, "answer", 6) != 6) t->wrong = "the answer cannot be sent";
    await_peer(t, 0, before + 6, false);
    if (t->raw.data_len != before + 6 || memcmp(t->raw.data + before, "answer", 6) != 0) t->wrong = "the answer does not come";
}

static void run_start(struct run *t, int version, int role, enum way way, enum ktls_cipher cipher) {
    enum ktls_policy policy = is_kernel(way) ? KTLS_POLICY_REQUIRE : KTLS_POLICY_OFF;
    struct ktls_ctx_opts o = role == KTLS_SERVER ? server_opts(policy) : client_opts(policy);
    memset(t, 0, sizeof *t);
    raw_open(&t->raw, &t->s, &o, version, cipher);
    t->way = way;
    t->role = role;
    t->end = -EAGAIN;
    if (way == USER_MEM) assert_int_equal(ktls_mem_start(t->s.conn), 0);
}

/* The application closes; n_alerts are awaited, then the end. */
static void run_close(struct run *t, int n_alerts) {
    app_shutdown(t);
    if (t->is_gone) return;
    await_peer(t, n_alerts, 0, false);
    shutdown(t->s.fd[1], SHUT_WR); /* not before: FIN could overtake what the kernel holds back */
    await_peer(t, 0, 0, true);
    if (t->raw.wrong) t->wrong = t->raw.wrong;
    if (!t->raw.fin) t->wrong = "no FIN";
}

#endif
