/* A connection: bytes in, bytes out, over one of the transports, chosen once: tcp (kernel-TLS sockets included, after the
 * hand-over), tls-user (records in userspace, over memory), ktls-tx (sends as kernel TLS, receives as tls-user), unix. Owned by
 * one I/O thread from accept to close.
 *
 *   NEW --tls--> HANDSHAKE --ok--> OPEN --conn_close_after_flush--> FLUSHING --sent or timeout--> CLOSING --> on_closed
 *    \--plain------------------------^         \--error, EOF, conn_close-----------------------------^
 */
#ifndef KETTLE_NET_CONN_H
#define KETTLE_NET_CONN_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/obuf.h"
#include "ktls/ktls.h"
#include "net/loop.h"

enum conn_state { CONN_HANDSHAKE, CONN_OPEN, CONN_FLUSHING, CONN_CLOSING };
enum conn_transport { CONN_TCP, CONN_KTLS, CONN_TLS_USER, CONN_UNIX, CONN_KTLS_TX };

/* Why a connection ended: for the log and the counters. */
enum conn_end {
    CONN_END_LOCAL,
    CONN_END_EOF,
    CONN_END_ERROR,
    CONN_END_TLS,
    CONN_END_HANDSHAKE,
    CONN_END_HANDSHAKE_TIMEOUT,
    CONN_END_LIMIT
};

#define CONN_IOV_OWN 4

struct conn;

struct conn_ops {
    /* Handshake done (TLS) or at once for plain ones: may write, may close. Reading starts after it returns. */
    void (*on_open)(struct conn *c);
    /* New plaintext bytes; memory of the loop's (or where conn_receive_into said), writable, valid during the call. The callee
     * takes what it wants to keep by copying. It must look at all of them (call conn_pause_reading to get no more). */
    void (*on_data)(struct conn *c, char *data, size_t len);
    /* Output queue is empty again. May be NULL. */
    void (*on_drained)(struct conn *c);
    /* Last callback; frees the embedding structure. `text`: one line for the log ("" when there is nothing to say). */
    void (*on_closed)(struct conn *c, enum conn_end why, const char *text);
};

struct conn {
    struct loop_io io;
    const struct conn_ops *ops;
    enum conn_state state;
    enum conn_transport transport;
    struct ktls_conn *tls;          /* NULL without TLS; kept in every TLS mode for control records and close */
    struct obuf out;                /* replies not yet sent; append freely, then conn_flush_later */
    struct iovec iov[CONN_IOV_OWN]; /* of the send in flight; one of more pieces has */
    struct iovec *many;             /* LOOP_IOV_MAX of them, while such replies are queued */
    struct loop_timer timer;        /* handshake and closing deadlines */
    struct list flush_node;         /* in the thread's flush list */
    struct list handshake_node;     /* in the thread's list of handshakes that have something to do */
    uint64_t bytes_in, bytes_out;   /* plaintext */
    int end_err;
    enum conn_end end;
    char *end_text; /* NULL: nothing to say */
    bool reading_paused, write_shut, ctl_blocked;
    bool lent;   /* conn_lend_output */
    int file_fd; /* conn_send_file: -1 when there is none */
    uint64_t file_off, file_left;
    /* private to conn*.c */
    struct conn_thread *thread;
    bool opened;              /* on_open was called */
    bool in_send, sent_now;   /* inside loop_send; it completed at once, with sent_n */
    bool in_step, step_again; /* inside conn_send_step; it was called again meanwhile */
    bool drain_due;           /* on_drained is owed */
    bool notified;            /* close_notify was sent, or none is due */
    bool notify_blocked;      /* the kernel has no room for it yet */
    bool peer_eof;
    bool lingering; /* conn_close_lingering: nothing more is sent, an alert is given time */
    bool progress;  /* the socket took bytes since the closing deadline was set */
    int unacked;    /* bytes in the socket's send queue at that time */
    int64_t flush_timeout_us;
    ssize_t sent_n;
    size_t discarded; /* bytes read and dropped while closing */
    int64_t handshake_timeout_us;
    char *into; /* conn_receive_into, where userspace decrypts */
    size_t into_len;
    char *cipher; /* tls-user: ciphertext of the send in flight */
    size_t cipher_len, cipher_off;
    size_t cipher_goal; /* tls-user: so much is encrypted before it is sent */
    bool held;          /* replies wait for the gate: the first held_bytes for held_first, the rest for held_last */
    uint64_t held_first, held_last;
    size_t held_bytes;
};

/* What is to be safe before replies that tell of it are sent: the append-only file with `always`. Replies queued while *mark
 * stood at m go once `open` is m or more. One for all threads. */
struct conn_gate {
    const _Atomic uint64_t *mark;
    _Atomic uint64_t open; /* UINT64_MAX: nothing waits. Who moves it wakes the loops of threads with gate_waits */
};

/* Per thread: shared by the connections of one loop. */
struct conn_thread {
    struct loop *loop;
    struct list flush;              /* connections with output to send before the loop sleeps */
    struct list handshakes;         /* connections whose handshake can go a step further, first come first served */
    struct iovec iov[LOOP_IOV_MAX]; /* what is given to OpenSSL at once */
    struct obuf_pool chunks;        /* of the connections' output queues */
    char *scratch;                  /* decrypted bytes of tls-user and ktls-tx, LOOP_RECV_BUF */
    struct loop_timer again;        /* output was queued while flushing, or handshakes wait for their turn: no sleep yet */
    int64_t handshake_budget_us;
    struct conn_gate *gate;  /* NULL: none. Set before connections start */
    struct list held;        /* connections whose replies wait for the gate */
    uint64_t gate_seen;      /* where it was when they were looked at */
    _Atomic bool gate_waits; /* there are such: the loop is to be woken when the gate opens further */
};
/* Makes conn_thread_flush the loop's before-sleep hook; who sets a hook of his own after this calls conn_thread_flush from it.
 * It sends the turn's replies, then spends a bounded time on handshakes: whoever is connected waits for no more than that.
 * Always 0. */
int conn_thread_init(struct conn_thread *t, struct loop *l);
void conn_thread_flush(struct conn_thread *t);
void conn_thread_done(struct conn_thread *t);

struct conn_params {
    struct ktls_ctx *tls_ctx; /* NULL: plain */
    bool is_unix;
    int64_t handshake_timeout_us; /* 0: none */
};
/* Starts a connection over a connected, non-blocking fd, which it owns from here; clears *c. Callbacks come from the loop, none
 * from inside this call. Output may be queued and conn_close* called at once. */
void conn_start(struct conn *c, struct conn_thread *t, int fd, const struct conn_ops *ops, const struct conn_params *p);
/* As conn_start, for a connection that was established elsewhere, with net/syncio.h for one: its TLS handshake is done, and where
 * userspace decrypts ktls_mem_start was called. fd (non-blocking) and tls_take (NULL: plain) are the conn's from here; what
 * libktls has decrypted already comes by on_data. For a socket of IP only. */
void conn_adopt(struct conn *c, struct conn_thread *t, int fd, struct ktls_conn *tls_take, const struct conn_ops *ops);
void conn_flush_later(struct conn *c); /* once per batch of replies: sent before the loop sleeps, one writev */
void conn_flush_now(struct conn *c);
/* What comes next is put into buf, len bytes at most, where that spares a copy: on_data's data says where it is. len 0: no more.
 * From inside on_data only; buf must stay until the next call or on_closed, and each on_data sets it again or ends it. */
void conn_receive_into(struct conn *c, char *buf, size_t len);
/* Bytes off .. off + len of a file, behind what is queued; on_drained comes when they are sent. fd is the connection's from here
 * on: it closes it. What is queued meanwhile is sent between two pieces of the file, so better nothing is. tcp, unix and where
 * the kernel encrypts: sendfile(2), the bytes stay in the kernel; else they are read and encrypted here. A file that is shorter
 * ends the connection. One file at a time. */
void conn_send_file(struct conn *c, int fd, uint64_t off, uint64_t len);
static inline bool conn_sends_file(const struct conn *c) {
    return c->file_fd >= 0;
}
/* The sending side of the socket is somebody else's for a while: a forked child writes to it. From now on nothing is sent here,
 * not even the answer to a KeyUpdate, which is due after conn_reclaim_output; received is as ever. False: not now (something is
 * still to be sent, or the connection is closing: try again in on_drained) or, conn_can_lend false, never (userspace does the
 * records). A connection that closes meanwhile shuts the socket down, so that the child's writes fail. */
bool conn_can_lend(const struct conn *c);
bool conn_lend_output(struct conn *c);
void conn_reclaim_output(struct conn *c,
                         uint64_t bytes_sent); /* by the other: TLS counts them under its key. Not lent: nothing */
void conn_pause_reading(struct conn *c);
void conn_resume_reading(struct conn *c);
/* Sends what is queued, then close_notify and FIN, then waits for the peer's FIN and closes. It ends early when the peer takes
 * nothing for timeout_us (twice that at most), and so does the wait for its FIN: a large reply over a slow line arrives whole.
 * What the peer still sends is read and dropped (1 MiB at most), because closing over unread bytes makes the kernel send RST,
 * which may cost the peer the reply. No more on_data. During the handshake it closes at once. */
void conn_close_after_flush(struct conn *c, int64_t timeout_us);
/* Drops what is queued; close_notify is tried once. on_closed follows from the loop. Safe to call twice. */
void conn_close(struct conn *c, enum conn_end why, const char *text);
static inline bool conn_is_closing(const struct conn *c) {
    return c->state >= CONN_FLUSHING;
}
/* "ktls:TLSv1.3:TLS_AES_128_GCM_SHA256", "user:...", "ktls-tx:...", "no". */
void conn_tls_text(const struct conn *c, char *out, size_t cap);
/* "127.0.0.1:6379", "[::1]:6379", "/path:0" and "?:0" as Redis prints addresses. */
void conn_peer_text(const struct conn *c, char *out, size_t cap);
void conn_local_text(const struct conn *c, char *out, size_t cap);

#endif
