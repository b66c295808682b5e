/*
 * How many records a key has protected, and what is done before they are too many.
 *
 * Place in the flow: started by the hand-over; the caller reports every send and recv (ktls_count_tx, ktls_count_rx), ktls_read
 * and ktls_write do it by themselves. Receiving side: the connection's thread; sending side: any thread that is in ktls_tx_end().
 *
 * In kernel mode data passes the library by, so the count is an upper bound: a send of n bytes makes at most 1 + n/8192 records
 * (the kernel fills them to 16 KiB; twice as many are reckoned with, since it closes one early when memory is short), and n bytes
 * received were at most n records. When the bound comes to the mark, getsockopt() tells the true number and the bound is set to
 * it:
 *
 *      0 ............................... soft ........ limit ............... hard
 *      |  exact < soft: the next look is when the bound  |                   |
 *      |  has grown by limit/16, or is at soft           | exact >= soft:    |
 *      |                                                 | change the key    | the peer had its chance: end
 *
 * So the true number is asked for at most once in limit/16 = 2^20 reckoned records. In user mode every record is counted, by
 * ktls_user.c or OpenSSL's message callback, and the bound is the number; in mode TX so it is with what is received.
 *
 * Records of length zero, which the kernel swallows, are seen only by the exact number. They are the peer's key's problem, and
 * the peer's to count (RFC 9846 5.5).
 */
#include "ktls_internal.h"

#include <errno.h>
#include <string.h>

#define GCM_LIMIT (UINT64_C(1) << 24)
#define GCM_HARD (UINT64_C(23726566) - (UINT64_C(1) << 20)) /* 2^24.5 (RFC 9846 5.5), less one step of ours */
#define CCM_LIMIT (UINT64_C(1) << 22)
#define CCM_HARD ((UINT64_C(1) << 23) - (UINT64_C(1) << 18)) /* 2^23 (RFC 9147 4.5.3), likewise */
#define NO_LIMIT (UINT64_C(1) << 48) /* ChaCha20-Poly1305: the sequence number would wrap before (RFC 9846 5.5) */

#define DEFAULT_KEY_UPDATES_PER_S 100
#define FREE_BYTES 65536 /* a KeyUpdate behind so much data costs less than the data did */

/* ---- Meters ---- */

static uint64_t step(const struct ktls_meter *m) {
    return m->limit / 16;
}

static uint64_t soft(const struct ktls_meter *m) {
    return m->limit - step(m);
}

static void next_look(struct ktls_meter *m, uint64_t exact, uint64_t mark) {
    uint64_t next = exact + step(m);
    m->check = next > mark ? next : mark;
}

static void suite_limit(const struct ktls_conn *conn, struct ktls_meter *m) {
    const char *name = conn->cipher_name ? conn->cipher_name : "";
    *m = (struct ktls_meter){ .limit = NO_LIMIT, .hard = NO_LIMIT };
    if (strstr(name, "GCM")) { /* by name: userspace has suites that the kernel lacks */
        m->limit = GCM_LIMIT;
        m->hard = GCM_HARD;
    } else if (strstr(name, "CCM")) {
        m->limit = CCM_LIMIT;
        m->hard = CCM_HARD;
    }
    uint64_t lower = conn->ctx->rekey_after_records;
    if (lower > 0 && lower < m->limit) m->limit = lower;
}

void ktls_meters_start(struct ktls_conn *conn) {
    struct ktls_probe probe = { .rekey = ENOTSUP };
    if (ktls_in_kernel(conn, KTLS_TX)) ktls_probe(&probe);
    conn->can_rekey = conn->version == KTLS_TLS13 && (conn->mode == KTLS_MODE_USER || probe.rekey == 0);
    for (int dir = 0; dir < KTLS_N_DIRS; dir++) {
        struct ktls_meter *m = &conn->meter[dir];
        suite_limit(conn, m);
        m->bound = conn->seq[dir];
        m->check = soft(m);
    }
}

void ktls_meter_reset(struct ktls_conn *conn, enum ktls_dir dir) {
    struct ktls_meter *m = &conn->meter[dir];
    m->bound = 0;
    m->check = soft(m);
}

void ktls_meter_add(struct ktls_conn *conn, enum ktls_dir dir, uint64_t records) {
    struct ktls_meter *m = &conn->meter[dir];
    if (ktls_in_kernel(conn, dir)) /* several senders */
        atomic_fetch_add_explicit(&m->bound, records, memory_order_relaxed);
    else
        atomic_store_explicit(&m->bound, atomic_load_explicit(&m->bound, memory_order_relaxed) + records, memory_order_relaxed);
}

bool ktls_meter_due(const struct ktls_conn *conn, enum ktls_dir dir) {
    const struct ktls_meter *m = &conn->meter[dir];
    return atomic_load_explicit(&m->bound, memory_order_relaxed) >= atomic_load_explicit(&m->check, memory_order_relaxed);
}

/* One thread counts: a load and a store, no locked instruction. */
static int count(struct ktls_conn *conn, enum ktls_dir dir, uint64_t records) {
    struct ktls_meter *m = &conn->meter[dir];
    uint64_t now = atomic_load_explicit(&m->bound, memory_order_relaxed) + records;
    atomic_store_explicit(&m->bound, now, memory_order_relaxed);
    return now >= atomic_load_explicit(&m->check, memory_order_relaxed) ||
           atomic_load_explicit(&conn->limit_state, memory_order_relaxed) == KTLS_LIMIT_REACHED;
}

int ktls_count_tx(struct ktls_conn *conn, size_t bytes) {
    return count(conn, KTLS_TX, ktls_in_kernel(conn, KTLS_TX) && bytes > 0 ? 1 + bytes / RECKONED_RECORD : 0);
}

int ktls_count_rx(struct ktls_conn *conn, size_t bytes) {
    conn->rx_bytes += bytes;
    return count(conn, KTLS_RX, ktls_in_kernel(conn, KTLS_RX) ? bytes : 0);
}

/* ---- At the mark ---- */

/* Sets the bound to the true number. False: the kernel does not tell it. Records counted meanwhile by other threads stay counted.
 */
static bool make_exact(struct ktls_conn *conn, enum ktls_dir dir) {
    struct ktls_meter *m = &conn->meter[dir];
    uint64_t before = m->bound, seq;
    if (!ktls_in_kernel(conn, dir)) return true;
    if (ktls_kernel_get_seq(conn->fd, dir, conn->version, conn->cipher, &seq) < 0) return false;
    if (before > seq)
        atomic_fetch_sub(&m->bound, before - seq);
    else
        atomic_fetch_add(&m->bound, seq - before);
    return true;
}

static void must_end(struct ktls_conn *conn, struct ktls_meter *m) {
    enum ktls_limit_state far = KTLS_LIMIT_FAR;
    m->check = UINT64_MAX;
    if (atomic_compare_exchange_strong(&conn->limit_state, &far, KTLS_LIMIT_REACHED)) KTLS_COUNT(closed_record_limit);
}

/* OpenSSL sends at once; else the gate does, when it may. */
static void change_key(struct ktls_conn *conn, bool asks) {
    bool fresh = !(conn->due & KTLS_DUE_KEY_UPDATE);
    if (ktls_in_openssl(conn))
        fresh = ktls_key_update(conn, asks) >= 0;
    else
        ktls_gate_due(conn, KTLS_DUE_KEY_UPDATE, asks);
    if (!fresh) return;
    conn->rekeys_by_limit++;
    KTLS_COUNT(rekeys_by_limit);
}

/* A KeyUpdate is on its way out, or cannot begin now: the mark stays where it is. */
static bool is_pending(const struct ktls_conn *conn) {
    if (!ktls_in_openssl(conn)) return conn->due & KTLS_DUE_KEY_UPDATE;
    return conn->write_pending || SSL_get_key_update_type(conn->ssl) != SSL_KEY_UPDATE_NONE;
}

/* What is to be done once the lock is open. */
enum action { NOTHING, CHANGE, END };

static enum action look(struct ktls_conn *conn, enum ktls_dir dir) {
    struct ktls_meter *m = &conn->meter[dir];
    if (!ktls_meter_due(conn, dir) || is_pending(conn) || conn->tx_closed) return NOTHING;
    bool known = make_exact(conn, dir), asked = dir == KTLS_RX && conn->update_asked;
    uint64_t exact = m->bound, mark = asked && m->hard > soft(m) ? m->hard : soft(m);
    if (exact < mark) {
        next_look(m, exact, mark);
        return NOTHING;
    }
    if (conn->can_rekey && !asked) return CHANGE;
    if (dir == KTLS_TX || known) return END;
    /* The peer's records may be far fewer than its bytes: no reason to end anything. */
    m->check = exact + m->limit;
    return NOTHING;
}

void ktls_limit_check(struct ktls_conn *conn, enum ktls_dir dir) {
    if (!ktls_meter_due(conn, dir)) return;
    struct ktls_meter *m = &conn->meter[dir];
    /* Two senders that set the bound right at the same time would set it wrong. */
    if (dir == KTLS_TX) pthread_mutex_lock(&conn->tx_lock);
    enum action what = look(conn, dir);
    if (dir == KTLS_TX) pthread_mutex_unlock(&conn->tx_lock);
    if (what == END) must_end(conn, m);
    if (what != CHANGE) return;
    if (dir == KTLS_RX) m->check = m->hard > soft(m) ? m->hard : soft(m);
    change_key(conn, dir == KTLS_RX);
}

int ktls_limit_error(struct ktls_conn *conn) {
    const char *why = "the peer does not change its key";
    if (conn->version != KTLS_TLS13)
        why = "only TLS 1.3 can change keys";
    else if (!conn->can_rekey)
        why = "this kernel cannot change keys; Linux 6.14 or later can";
    return ktls_note(conn, KTLS_ERECORDLIMIT, KTLS_ALERT_CLOSE_NOTIFY, 1, "one key has protected as many records as it may: %s",
                     why);
}

int ktls_check_limits(struct ktls_conn *conn) {
    if (conn->mode == KTLS_MODE_NONE) return -ENOTCONN;
    if (conn->state == KTLS_STATE_FAILED) return ktls_conn_error(conn)->err;
    ktls_limit_check(conn, KTLS_RX);
    ktls_limit_check(conn, KTLS_TX);
    if (conn->limit_state != KTLS_LIMIT_FAR) {
        conn->limit_state = KTLS_LIMIT_TOLD;
        return ktls_limit_error(conn);
    }
    return ktls_in_openssl(conn) ? KTLS_DONE : ktls_flush(conn);
}

/* ---- For ktls_read and ktls_write ---- */

int ktls_limit_enter(struct ktls_conn *conn) {
    const struct ktls_meter *m = conn->meter;
    if (conn->limit_state == KTLS_LIMIT_FAR) return 0;
    if (conn->limit_state == KTLS_LIMIT_TOLD && m[KTLS_TX].bound < m[KTLS_TX].hard && m[KTLS_RX].bound < m[KTLS_RX].hard)
        return 0;
    int r = ktls_shutdown(conn);
    if (r == KTLS_WANT_WRITE) {
        conn->wants = KTLS_WANT_WRITE;
        return -EAGAIN;
    }
    ktls_limit_error(conn);
    conn->state = KTLS_STATE_FAILED;
    return ktls_conn_error(conn)->err; /* what later calls will say too */
}

/* What cannot be sent now is sent by the next write; an error shows in the next call. */
void ktls_limit_leave(struct ktls_conn *conn, enum ktls_dir dir, size_t bytes) {
    if (!(dir == KTLS_TX ? ktls_count_tx(conn, bytes) : ktls_count_rx(conn, bytes))) return;
    ktls_limit_check(conn, dir);
    if (!ktls_in_openssl(conn) && conn->due) ktls_flush(conn);
}

/* ---- KeyUpdates without end ---- */

bool ktls_key_update_flood(struct ktls_conn *conn) {
    bool has_cause = atomic_exchange(&conn->update_asked, false) || conn->rx_bytes >= FREE_BYTES;
    unsigned max = conn->ctx->max_key_updates_per_s ? conn->ctx->max_key_updates_per_s : DEFAULT_KEY_UPDATES_PER_S;
    conn->rx_bytes = 0;
    if (has_cause) return false;
    uint64_t now = ktls_now_ns();
    if (now - conn->flood_began_ns >= 1000000000u) {
        conn->flood_began_ns = now;
        conn->flood_count = 0;
    }
    if (++conn->flood_count <= max) return false;
    KTLS_COUNT(key_update_floods);
    return true;
}
