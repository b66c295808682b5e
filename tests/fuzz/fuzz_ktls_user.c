/*
 * Fuzz target of user mode: what a peer may send after the handshake, through ktls_layer.c, ktls_user.c and ktls_control.c.
 *
 * The peer has the keys, as a hostile one has: the input says which records it seals and which bytes it sends as they are.
 *
 * Input: byte 0 role, version, suite, copied or lent; then operations of one byte each, with their operands (see step()).
 * Checked beside memory errors: what is read is a prefix of the data that was sealed; when it was read to its end, no more than
 * one record in part is held; an error stays the same error; and every record that comes out opens under the key and number that
 * the peer expects, and is data, an alert or a KeyUpdate.
 */
#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "ktls/ktls_handoff.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(int claim) {
    if (!claim) abort();
}

static struct ktls_ctx *context(enum ktls_role role) {
    static struct ktls_ctx *ctx[2];
    if (!ctx[role]) { /* a context without a certificate: ktls_ctx_new() would want one of a server */
        struct ktls_ctx_opts o = { .size = sizeof o, .role = KTLS_CLIENT, .policy = KTLS_POLICY_OFF };
        check(ktls_ctx_new(&o, &ctx[role], NULL, 0) == 0);
        ctx[role]->role = role;
    }
    return ctx[role];
}

struct input {
    const uint8_t *p;
    size_t len;
};

static uint8_t next(struct input *in) {
    if (in->len == 0) return 0;
    in->len--;
    return *in->p++;
}

static const uint8_t *bytes(struct input *in, size_t want, size_t *ret_len) {
    const uint8_t *p = in->p;
    *ret_len = want < in->len ? want : in->len;
    in->p += *ret_len;
    in->len -= *ret_len;
    return p;
}

#define WIRE_MAX 65536

struct world {
    struct ktls_conn *conn;
    bool lends, over;
    /* The peer. */
    uint8_t secret[KTLS_N_DIRS][KTLS_SECRET_MAX];
    struct ktls_aead aead[KTLS_N_DIRS];
    uint8_t wire[WIRE_MAX], data[WIRE_MAX]; /* sealed and not yet given; all data that was sealed */
    size_t wire_len, data_len, got;
    ssize_t end; /* the error that was met */
};

/* Fixed secrets for both sides; TLS 1.2 takes its keys from them in the same way. */
static void peer_key(struct world *w, enum ktls_dir dir) {
    struct ktls_keys k;
    check(ktls_keys_tls13(w->conn->cipher, w->secret[dir], &k) == 0);
    check(ktls_aead_set(&w->aead[dir], dir, w->conn->version, w->conn->cipher, &k, 0) == 0);
}

static bool start(struct world *w, uint8_t flags) {
    static const uint16_t suites[2][KTLS_N_CIPHERS] = { { 0xc02b, 0xc02c, 0xcca9, 0xc0ac }, { 0x1301, 0x1302, 0x1303, 0x1304 } };
    bool is_tls13 = flags & 2;
    enum ktls_role role = flags & 1 ? KTLS_CLIENT : KTLS_SERVER;
    struct ktls_keys keys[KTLS_N_DIRS];
    struct ktls_handoff s = { .role = role, .tls_version = is_tls13 ? TLS1_3_VERSION : TLS1_2_VERSION };
    enum ktls_cipher cipher = (enum ktls_cipher)(flags >> 2 & 3);
    s.suite = suites[is_tls13][cipher];
    s.alert_in = s.alert_out = 255;
    memset(w->secret[KTLS_TX], 1, sizeof w->secret[KTLS_TX]);
    memset(w->secret[KTLS_RX], 2, sizeof w->secret[KTLS_RX]);
    s.mode = KTLS_MODE_USER;
    for (int dir = 0; dir < KTLS_N_DIRS; dir++) {
        check(ktls_keys_tls13(cipher, w->secret[!dir], &keys[dir]) == 0);
        s.secret[dir] = (struct ktls_bytes){ (const uint8_t *)&keys[dir], KTLS_KEYS12_LEN };
        if (is_tls13) s.secret[dir] = (struct ktls_bytes){ w->secret[!dir], ktls_cipher_secret_len(cipher) };
    }
    if (ktls_conn_of_state(context(role), -1, &s, &w->conn) < 0) return false;
    for (int dir = 0; dir < KTLS_N_DIRS; dir++) peer_key(w, (enum ktls_dir)dir);
    check(ktls_mem_start(w->conn) == 0);
    w->lends = flags & 16;
    return true;
}

static void next_key(struct world *w, enum ktls_dir dir) {
    check(ktls_next_secret(w->conn->cipher, w->secret[dir]) == 0);
    peer_key(w, dir);
}

/* ---- The peer sends ---- */

static void seal(struct world *w, uint8_t type, const uint8_t *p, size_t len, size_t padding) {
    uint8_t text[1024];
    bool is_tls13 = w->conn->version == KTLS_TLS13;
    struct iovec iov = { text, len };
    if (WIRE_MAX - w->wire_len < sizeof text + 64 || WIRE_MAX - w->data_len < len) return;
    memset(text, 0, sizeof text);
    if (len > 0) memcpy(text, p, len);
    text[len] = type;
    if (is_tls13 && padding > 0) iov.iov_len = len + padding; /* the last zero stands where the type would */
    ssize_t n = ktls_aead_seal(&w->aead[KTLS_TX], iov.iov_len > len ? 0 : type, &iov, 0, iov.iov_len, w->wire + w->wire_len);
    check(n > 0);
    w->wire_len += (size_t)n;
    size_t at = len; /* of the type, as the receiver will find it */
    while (is_tls13 && at > 0 && text[at] == 0) at--;
    if (text[at] == KTLS_CT_DATA) {
        memcpy(w->data + w->data_len, text, at);
        w->data_len += at;
    }
    if (is_tls13 && text[at] == KTLS_CT_HANDSHAKE && at == 5 && memcmp(text, "\30\0\0\1", 4) == 0) next_key(w, KTLS_TX);
}

static void raw(struct world *w, const uint8_t *p, size_t len) {
    if (WIRE_MAX - w->wire_len < len) return;
    memcpy(w->wire + w->wire_len, p, len);
    w->wire_len += len;
}

/* ---- The library reads ---- */

static void read_some(struct world *w, size_t cap) {
    uint8_t buf[4096];
    for (;;) {
        ssize_t n = ktls_read(w->conn, buf, cap);
        if (w->end < 0) check(n == w->end);
        if (n <= 0) {
            if (n == -EAGAIN) check(ktls_queue_len(&w->conn->layer->in) < KTLS_WIRE_BUF && ktls_pending(w->conn) == 0);
            if (n < 0 && n != -EAGAIN) w->end = n;
            if (n == 0) check(w->conn->rx_closed);
            w->over = n != -EAGAIN;
            return;
        }
        check((size_t)n <= cap && (size_t)n <= w->data_len - w->got);
        check(memcmp(buf, w->data + w->got, (size_t)n) == 0);
        w->got += (size_t)n;
    }
}

static void give(struct world *w, size_t step, size_t cap) {
    for (size_t at = 0; at < w->wire_len; at += step) {
        size_t n = step < w->wire_len - at ? step : w->wire_len - at;
        uint8_t *lent = malloc(n); /* of its own, so that a byte too many is seen */
        memcpy(lent, w->wire + at, n);
        check((w->lends ? ktls_mem_lend(w->conn, lent, n) : ktls_mem_input(w->conn, lent, n)) == 0);
        if (cap > 0) read_some(w, cap);
        check(ktls_mem_keep(w->conn) == 0);
        free(lent);
    }
    w->wire_len = 0;
}

/* ---- What comes out ---- */

static void take_output(struct world *w) {
    const void *out;
    size_t len = ktls_mem_output(w->conn, &out), at = 0;
    uint8_t *copy = malloc(len + 1), type;
    if (len > 0) memcpy(copy, out, len);
    while (at < len) {
        check(len - at > KTLS_RECORD_HEADER);
        size_t size = KTLS_RECORD_HEADER + ((size_t)copy[at + 3] << 8 | copy[at + 4]);
        check(size <= len - at);
        uint8_t *text = copy + at + ktls_aead_before(&w->aead[KTLS_RX]);
        ssize_t n = ktls_aead_open(&w->aead[KTLS_RX], copy + at, size, text, &type);
        check(n >= 0);
        if (type == KTLS_CT_ALERT)
            check(n == 2);
        else if (type == KTLS_CT_HANDSHAKE)
            check(n == 5 && text[0] == KTLS_HS_KEY_UPDATE);
        else
            check(type == KTLS_CT_DATA);
        if (type == KTLS_CT_HANDSHAKE) next_key(w, KTLS_RX);
        at += size;
    }
    ktls_mem_sent(w->conn, len);
    free(copy);
}

/* ---- Operations ---- */

static void step(struct world *w, struct input *in) {
    static const uint8_t types[8] = { 23, 23, 22, 21, 20, 24, 0, 99 };
    uint8_t op = next(in), arg = next(in);
    size_t len, cap = 1 + (size_t)arg * 16;
    const uint8_t *p;
    switch (op % 8) {
    case 0: /* a record: type, length, padding */
    case 1:
        p = bytes(in, arg, &len);
        seal(w, types[op >> 3 & 7], p, len, op & 1 ? 1 + (size_t)(op >> 6) * 100 : 0);
        break;
    case 2: /* bytes as they are */
        p = bytes(in, arg, &len);
        raw(w, p, len);
        break;
    case 3: /* all of it in pieces, read in pieces */
        give(w, op & 8 ? 1 + (size_t)(op >> 4) * 7 : WIRE_MAX, cap);
        break;
    case 4: /* given and not read */
        give(w, WIRE_MAX, 0);
        break;
    case 5: /* data of ours */
        check(ktls_write(w->conn, w->secret, arg < sizeof w->secret ? arg : sizeof w->secret) != -EAGAIN);
        break;
    case 6:
        ktls_key_update(w->conn, arg & 1);
        break;
    default:
        if (arg & 1) ktls_mem_input(w->conn, NULL, 0);
        if (arg & 2) ktls_shutdown(w->conn);
        ktls_check_limits(w->conn);
        break;
    }
    take_output(w);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static struct world w;
    struct input in = { data, size };
    memset(&w, 0, offsetof(struct world, wire));
    w.wire_len = w.data_len = w.got = 0;
    w.end = 0;
    if (!start(&w, next(&in))) return 0;
    while (in.len > 0 && !w.over) step(&w, &in);
    if (!w.over) give(&w, WIRE_MAX, sizeof w.secret);
    take_output(&w);
    for (int dir = 0; dir < KTLS_N_DIRS; dir++) ktls_aead_done(&w.aead[dir]);
    ktls_conn_free(w.conn);
    return 0;
}
