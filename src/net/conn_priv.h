/* Between the files of conn: conn.c (life), conn_recv.c, conn_send.c. All on the connection's thread. */
#ifndef KETTLE_NET_CONN_PRIV_H
#define KETTLE_NET_CONN_PRIV_H

#include "net/conn.h"

#define CONN_TRUNCATED_TEXT "connection truncated (no close_notify)"
#define CONN_DISCARD_MAX (1024 * 1024) /* read and dropped while closing, at most */

static inline struct conn *conn_of(struct loop_io *io) {
    return list_entry(io, struct conn, io);
}

/* TLS: which half of the records is whose. */
static inline bool conn_kernel_sends(const struct conn *c) {
    return c->transport == CONN_KTLS || c->transport == CONN_KTLS_TX;
}
static inline bool conn_user_receives(const struct conn *c) {
    return c->transport == CONN_TLS_USER || c->transport == CONN_KTLS_TX;
}

/* conn.c */
void conn_arm(struct conn *c, int64_t when_us, void (*fn)(struct loop_timer *t));
/* An errno of recv or send; what: "read" or "write". */
void conn_io_failed(struct conn *c, int err, const char *what);
/* A negative result of ktls_*. */
void conn_tls_failed(struct conn *c, int err);
/* A TLS key has protected as many records as it may: what is queued is sent, then the connection ends in order. */
void conn_end_at_limit(struct conn *c);
/* conn_close, but what is queued or in flight is sent first: the peer has ended its side and still wants its replies. */
void conn_end_after_flush(struct conn *c, enum conn_end why, const char *text);
/* As conn_close, but nothing more is sent and what the peer sends is dropped for a moment, so that an alert survives. */
void conn_close_lingering(struct conn *c, enum conn_end why, const char *text);

/* conn_recv.c */
/* What a call about control records gave: goes on reading, ends, or waits for the socket. */
void conn_control_result(struct conn *c, int r);
void conn_on_recv(struct loop_io *io, char *data, ssize_t n);
/* Turns receiving on if the state of things allows; decrypts first what is held. From the loop only. */
void conn_start_reading(struct conn *c);
/* A count of TLS records says that it is time: the key is changed, or the connection ends. */
void conn_check_limits(struct conn *c);
/* ctl_blocked and the socket is writable: the answer to a control record goes out. */
void conn_finish_control(struct conn *c);

/* conn_send.c */
void conn_on_sent(struct loop_io *io, ssize_t n);
/* Sends as much as the socket takes; in FLUSHING goes on to close_notify and FIN. */
void conn_send_step(struct conn *c);
/* close_notify on the way to conn_close, tried once. */
void conn_notify_once(struct conn *c);
/* tls-user: what waits to be sent (an alert) goes out now or never. */
void conn_push_ciphertext(struct conn *c);

/* conn_gate.c; where the thread has a gate */
void conn_gate_note(struct conn *c);           /* there are new replies in the queue */
size_t conn_gate_allows(struct conn *c);       /* bytes of the queue that may be sent now */
void conn_gate_sent(struct conn *c, size_t n); /* they have left the queue */
void conn_gate_wait(struct conn *c);           /* tried again when the gate has opened further */
void conn_gate_release(struct conn_thread *t); /* it may have: those who wait are to be flushed */
bool conn_gate_sleep(struct conn_thread *t);   /* false: it has opened meanwhile */
/* conn_file.c */
bool conn_file_step(
    struct conn *c); /* out is empty: sends on. True when there is no file (any more) and nothing was queued for it */
void conn_drop_file(struct conn *c);

#endif
