/*
 * The gate before the sending side of a kernel-TLS socket: a KeyUpdate is the last record under the old key, so it goes out when
 * no send is under way, and none begins before the new key is set (RFC 8446 4.6.3). close_notify, after which nothing may follow,
 * is held to the same.
 *
 * Place in the flow: ktls_tx_begin() and ktls_tx_end() around every send, by any number of threads; what is due is put before the
 * gate by the connection's thread (ktls_control.c) or by the sender whose record was the last its key may protect (ktls_limit.c).
 *
 *      gate = number of sends in flight | SHUT
 *
 *      begin   not SHUT: one more in flight.  SHUT: -EAGAIN; if none is in flight, what is due is tried first
 *      due     SHUT, under the lock; then a flush
 *      end     one less in flight; the last one out of a shut gate flushes
 *      flush   under the lock, and only with none in flight: KeyUpdate, TLS_TX, close_notify; then the gate opens
 *
 * Whoever shuts the gate either finds nobody in flight and flushes, or leaves it to the last one, who sees SHUT: both look at the
 * one atomic word, so neither is missed. A caller that never uses begin and end has nobody in flight and flushes at once.
 * A send costs two atomic operations on one word more than without the gate; the lock is taken only when something is due.
 */
#include "ktls_internal.h"

#include <errno.h>

/* Closed for good when the sending side is. tx_lock is held. */
static void set_gate(struct ktls_conn *conn) {
    if (conn->due || conn->tx_closed)
        atomic_fetch_or(&conn->gate, KTLS_GATE_SHUT);
    else
        atomic_fetch_and(&conn->gate, ~KTLS_GATE_SHUT);
}

void ktls_gate_due(struct ktls_conn *conn, unsigned due, bool asks) {
    pthread_mutex_lock(&conn->tx_lock);
    if (due & KTLS_DUE_KEY_UPDATE) conn->key_update_asks = asks || (conn->due & KTLS_DUE_KEY_UPDATE && conn->key_update_asks);
    if (asks) conn->update_asked = true;
    if (due & KTLS_DUE_CLOSE) conn->due &= ~KTLS_DUE_KEY_UPDATE; /* no data will follow it */
    if (!conn->tx_closed) conn->due |= due;
    set_gate(conn);
    pthread_mutex_unlock(&conn->tx_lock);
}

void ktls_gate_close(struct ktls_conn *conn) {
    pthread_mutex_lock(&conn->tx_lock);
    conn->tx_closed = true;
    conn->due = 0;
    set_gate(conn);
    pthread_mutex_unlock(&conn->tx_lock);
}

int ktls_gate_flush(struct ktls_conn *conn) {
    if (conn->due == 0) return KTLS_DONE;
    pthread_mutex_lock(&conn->tx_lock);
    int r = KTLS_DONE;
    if (conn->due && conn->gate != KTLS_GATE_SHUT)
        r = KTLS_WANT_WRITE; /* the last one in flight will do it */
    else if (conn->due)
        r = ktls_send_due(conn);
    set_gate(conn);
    pthread_mutex_unlock(&conn->tx_lock);
    if (r == KTLS_WANT_WRITE) conn->wants = KTLS_WANT_WRITE;
    return r;
}

int ktls_tx_begin(struct ktls_conn *conn) {
    if (!ktls_in_kernel(conn, KTLS_TX)) return -EINVAL;
    unsigned gate = atomic_load_explicit(&conn->gate, memory_order_relaxed);
    for (;;) {
        if (!(gate & KTLS_GATE_SHUT)) {
            if (atomic_compare_exchange_weak(&conn->gate, &gate, gate + 1)) return 0;
            continue;
        }
        if (conn->state == KTLS_STATE_FAILED) return ktls_conn_error(conn)->err;
        if (conn->tx_closed) return -EPIPE;
        if (gate != KTLS_GATE_SHUT) return -EAGAIN;
        int r = ktls_gate_flush(conn);
        if (r < 0) return r;
        gate = conn->gate;
        if (r == KTLS_WANT_WRITE || gate & KTLS_GATE_SHUT) return -EAGAIN;
    }
}

int ktls_tx_end(struct ktls_conn *conn, size_t bytes) {
    struct ktls_meter *m = &conn->meter[KTLS_TX];
    if (bytes > 0) ktls_meter_add(conn, KTLS_TX, 1 + bytes / RECKONED_RECORD);
    if (bytes > 0 && atomic_load_explicit(&m->bound, memory_order_relaxed) >= m->check) ktls_limit_check(conn, KTLS_TX);
    int r = KTLS_DONE;
    if (atomic_fetch_sub(&conn->gate, 1) == (KTLS_GATE_SHUT | 1)) r = ktls_gate_flush(conn);
    if (r < 0) return r;
    if (conn->state == KTLS_STATE_FAILED) return ktls_conn_error(conn)->err;
    if (conn->limit_state == KTLS_LIMIT_FAR) return r;
    conn->limit_state = KTLS_LIMIT_TOLD;
    return ktls_limit_error(conn);
}
