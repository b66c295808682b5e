/*
 * A connection changes its owner: from one process to another, while data flows.
 *
 * Place in the flow: a kernel-TLS socket carries keys, sequence numbers and half-sent records with it, across SCM_RIGHTS, fork
 * and exec. What it does not carry is struct ktls_conn: the traffic secrets that a KeyUpdate derives from, what has been closed,
 * the facts of the handshake. ktls_export() writes these into a buffer, ktls_import() makes a connection of buffer and socket.
 * Where the records are not the kernel's, keys, numbers and a record that has come in part go along too. The calling thread is
 * the connection's.
 *
 * The state, numbers big-endian, "vector" is a length and that many bytes:
 *
 *   "KTLS"  u16 format  u32 length of all       u8 role  u16 TLS version  u16 suite (IANA)  u8 flags
 *   u8 u8   last alert in, out (255: none)      u8 n, n times u64 counts (list_counts)
 *   vector8 sending secret                      vector8 receiving secret (TLS 1.3; empty in TLS 1.2)
 *   vector16 server name                        vector16 peer's subject
 *   vector16 handshake message of which a part has been read
 * in format 2, for user mode and mode TX:
 *   u8 mode  u8 reason  u64 u64 number of the next record, sending, receiving
 *   vector16 record of which a part has been read; and the secrets of TLS 1.2 are keys with their nonce base
 *
 * The parser takes nothing on trust: it may be fed by a confused or hostile process. The length must be exact, every number in
 * its range, and the half-read message goes through the parser of control records again. Fuzzed by tests/fuzz/fuzz_ktls_import.c.
 *
 * Rejected: reading the keys back from the kernel (getsockopt TLS_TX gives them). KeyUpdate needs the secrets, which the kernel
 * never had. Rejected too: exporting with a KeyUpdate of ours due; its "no data before it" would bind two processes.
 */
#include "ktls_internal.h"
#include "ktls_usdt.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>

#include "ktls_handoff.h"

#define FORMAT_KERNEL 1
#define FORMAT_OWN 2
#define FLAG_RESUMED 1u
#define FLAG_PEER_CERT 2u
#define FLAG_RX_CLOSED 4u
#define FLAG_TX_CLOSED 8u
#define FLAGS_KNOWN 15u
#define NO_ALERT 255
#define TEXT_MAX 255

void ktls_wipe(void *buf, size_t len) {
    OPENSSL_cleanse(buf, len);
}

/* The counts that go along, in the order in which they are written. */
static void list_counts(struct ktls_conn *c, uint64_t *ret[KTLS_STATE_COUNTS]) {
    uint64_t *all[KTLS_STATE_COUNTS] = { &c->handshake_us,    &c->seq[KTLS_RX],   &c->seq[KTLS_TX],
                                         &c->control_records, &c->key_updates_in, &c->key_updates_out };
    memcpy(ret, all, sizeof all);
}

/* ---- Writing ---- */

struct out {
    uint8_t *p; /* NULL: only the length is wanted */
    size_t len;
};

static void put(struct out *o, const void *data, size_t len) {
    if (o->p && len > 0) memcpy(o->p + o->len, data, len);
    o->len += len;
}

static void put_number(struct out *o, uint64_t v, int bytes) {
    uint8_t be[8];
    for (int i = 0; i < bytes; i++) be[i] = (uint8_t)(v >> 8 * (bytes - 1 - i));
    put(o, be, (size_t)bytes);
    OPENSSL_cleanse(be, sizeof be);
}

static void put_vector(struct out *o, const void *data, size_t len, int len_bytes) {
    put_number(o, len, len_bytes);
    put(o, data, len);
}

static void put_text(struct out *o, const char *s) {
    put_vector(o, s, s ? strnlen(s, TEXT_MAX) : 0, 2);
}

static uint8_t alert_byte(int alert) {
    return alert < 0 ? NO_ALERT : (uint8_t)alert;
}

/* can_export() has seen that there is nothing else in it. */
static void write_layer(const struct ktls_conn *conn, struct out *o) {
    const struct ktls_layer *l = conn->layer;
    put_number(o, conn->mode, 1);
    put_number(o, conn->reason, 1);
    for (int dir = 0; dir < KTLS_N_DIRS; dir++) put_number(o, l->aead[dir].seq, 8);
    size_t len = ktls_queue_len(&l->in);
    put_vector(o, len ? l->in.data + l->in.off : NULL, len, 2);
}

/* Writes the state; total is its length, from a first round with o->p NULL. */
static void write_state(struct ktls_conn *conn, size_t total, struct out *o) {
    uint64_t *count[KTLS_STATE_COUNTS];
    unsigned flags = (conn->resumed ? FLAG_RESUMED : 0) | (conn->peer_cert ? FLAG_PEER_CERT : 0) |
                     (conn->rx_closed ? FLAG_RX_CLOSED : 0) | (conn->tx_closed ? FLAG_TX_CLOSED : 0);
    /* The reader holds a part of a message in head while its length is not known, then in part. */
    const struct ktls_record_reader *r = &conn->reader;
    const uint8_t *half = r->part ? r->part : r->head;
    size_t half_len = r->part_done ? 0 : r->have;
    put(o, "KTLS", 4);
    put_number(o, conn->layer ? FORMAT_OWN : FORMAT_KERNEL, 2);
    put_number(o, total, 4);
    put_number(o, conn->ctx->role, 1);
    put_number(o, conn->version == KTLS_TLS13 ? TLS1_3_VERSION : TLS1_2_VERSION, 2);
    put_number(o, conn->suite, 2);
    put_number(o, flags, 1);
    put_number(o, alert_byte(conn->alert_in), 1);
    put_number(o, alert_byte(conn->alert_out), 1);
    list_counts(conn, count);
    put_number(o, KTLS_STATE_COUNTS, 1);
    for (int i = 0; i < KTLS_STATE_COUNTS; i++) put_number(o, *count[i], 8);
    put_vector(o, conn->secret[KTLS_TX], conn->secret_len[KTLS_TX], 1);
    put_vector(o, conn->secret[KTLS_RX], conn->secret_len[KTLS_RX], 1);
    put_text(o, conn->name);
    put_text(o, conn->peer_subject);
    put_vector(o, half, half_len, 2);
    if (conn->layer) write_layer(conn, o);
}

/* The connection was given away: nothing may go out through it any more. */
static void give_away(struct ktls_conn *conn) {
    ktls_resume_end(conn); /* an object that waits for tickets holds secrets too */
    ktls_wipe_secrets(conn);
    ktls_record_done(&conn->reader);
    if (conn->layer) ktls_layer_clear(conn->layer);
    conn->given = true;
    ktls_gate_close(conn);
    ktls_fail(conn, -ESTALE, -1, 0, "the connection was handed to another owner");
    KTLS_COUNT(handoffs_out);
    KTLS_PROBE2(export, conn, conn->fd);
}

static int can_export(const struct ktls_conn *conn) {
    if (conn->mode == KTLS_MODE_NONE) return -ENOTCONN;
    if (ktls_in_openssl(conn)) return -EOPNOTSUPP;
    if (conn->state == KTLS_STATE_FAILED) return ktls_conn_error(conn)->err;
    const struct ktls_layer *l = conn->layer;
    if (l && (l->lent_len > 0 || ktls_queue_len(&l->out) > 0 || conn->write_pending > 0 || ktls_pending(conn) > 0))
        return -EAGAIN;
    return conn->due || conn->gate ? -EAGAIN : 0;
}

ssize_t ktls_export(struct ktls_conn *conn, void *buf, size_t cap) {
    struct out o = { NULL, 0 };
    int r = can_export(conn);
    if (r < 0) return r;
    write_state(conn, 0, &o);
    size_t total = o.len;
    if (!buf) return (ssize_t)total;
    if (cap < total) return -ENOBUFS;
    if (!conn->error && !(conn->error = malloc(sizeof *conn->error))) return -ENOMEM; /* give_away() must not fail */
    o = (struct out){ buf, 0 };
    write_state(conn, total, &o);
    give_away(conn);
    ktls_burn_stack();
    return (ssize_t)total;
}

/* ---- Reading ---- */

struct in {
    const uint8_t *p;
    size_t len;
    bool bad; /* something was missing: all that follows reads as zero */
};

static const uint8_t *get(struct in *in, size_t len) {
    if (in->bad || in->len < len) {
        in->bad = true;
        return NULL;
    }
    const uint8_t *p = in->p;
    in->p += len;
    in->len -= len;
    return p;
}

static uint64_t get_number(struct in *in, int bytes) {
    const uint8_t *p = get(in, (size_t)bytes);
    uint64_t v = 0;
    for (int i = 0; p && i < bytes; i++) v = v << 8 | p[i];
    return v;
}

static struct ktls_bytes get_vector(struct in *in, int len_bytes, size_t max) {
    struct ktls_bytes v = { NULL, 0 };
    size_t len = (size_t)get_number(in, len_bytes);
    if (len > max) in->bad = true;
    v.data = get(in, len);
    if (v.data) v.len = len;
    return v;
}

/* Text without a NUL: it becomes a C string. */
static struct ktls_bytes get_text(struct in *in) {
    struct ktls_bytes v = get_vector(in, 2, TEXT_MAX);
    if (v.len > 0 && memchr(v.data, 0, v.len)) in->bad = true;
    return v;
}

static void get_body(struct in *in, uint64_t format, struct ktls_handoff *s) {
    s->role = (unsigned)get_number(in, 1);
    s->tls_version = (unsigned)get_number(in, 2);
    s->suite = (uint16_t)get_number(in, 2);
    s->flags = (unsigned)get_number(in, 1);
    s->alert_in = (uint8_t)get_number(in, 1);
    s->alert_out = (uint8_t)get_number(in, 1);
    if (get_number(in, 1) != KTLS_STATE_COUNTS) in->bad = true;
    for (int i = 0; i < KTLS_STATE_COUNTS; i++) s->count[i] = get_number(in, 8);
    s->secret[KTLS_TX] = get_vector(in, 1, KTLS_SECRET_MAX);
    s->secret[KTLS_RX] = get_vector(in, 1, KTLS_SECRET_MAX);
    s->name = get_text(in);
    s->peer_subject = get_text(in);
    s->half = get_vector(in, 2, KTLS_HS_MESSAGE_MAX - 1);
    s->mode = KTLS_MODE_KERNEL;
    if (format == FORMAT_KERNEL) return;
    s->mode = (unsigned)get_number(in, 1);
    s->reason = (unsigned)get_number(in, 1);
    for (int dir = 0; dir < KTLS_N_DIRS; dir++) s->seq[dir] = get_number(in, 8);
    s->part = get_vector(in, 2, KTLS_WIRE_BUF - 1);
    if (s->mode == KTLS_MODE_TX ? s->reason != 0 || s->seq[KTLS_TX] != 0 : s->mode != KTLS_MODE_USER) in->bad = true;
    if (s->reason >= KTLS_N_REASONS) in->bad = true;
}

int ktls_state_parse(const void *buf, size_t len, struct ktls_handoff *ret) {
    struct in in = { buf, len, false };
    const uint8_t *magic = get(&in, 4);
    if (!magic || memcmp(magic, "KTLS", 4) != 0) return -EINVAL;
    uint64_t format = get_number(&in, 2), total = get_number(&in, 4);
    if (in.bad) return -EINVAL;
    if (format != FORMAT_KERNEL && format != FORMAT_OWN) return -EPROTONOSUPPORT;
    if (total != len || len > KTLS_EXPORT_MAX) return -EINVAL;
    memset(ret, 0, sizeof *ret);
    get_body(&in, format, ret);
    if (in.bad || in.len != 0) return -EINVAL;
    if (ret->role > KTLS_CLIENT || (ret->flags & ~FLAGS_KNOWN)) return -EINVAL;
    bool is_tls13 = ret->tls_version == TLS1_3_VERSION;
    if (!is_tls13 && ret->tls_version != TLS1_2_VERSION) return -EINVAL;
    if (is_tls13 != (ret->suite >> 8 == 0x13)) return -EINVAL; /* RFC 8446 B.4: 0x13xx, and only these */
    return is_tls13 || (ret->half.len == 0) ? 0 : -EINVAL;     /* TLS 1.2 has no message that may come */
}

/* The suite by its number, from OpenSSL's table; its cipher must be one the kernel has, its secrets as long as its hash. */
static int take_suite(struct ktls_conn *conn, const struct ktls_handoff *s) {
    const uint8_t id[2] = { (uint8_t)(s->suite >> 8), (uint8_t)s->suite };
    SSL *ssl = SSL_new(conn->ctx->ssl);
    if (!ssl) return -ENOMEM;
    const SSL_CIPHER *c = SSL_CIPHER_find(ssl, id);
    conn->cipher = c ? ktls_classify_cipher(c) : KTLS_CIPHER_OTHER;
    conn->cipher_name = c ? SSL_CIPHER_get_name(c) : NULL;
    SSL_free(ssl);
    if (conn->cipher == KTLS_CIPHER_OTHER) return -EINVAL;
    conn->suite = s->suite;
    for (int dir = 0; dir < KTLS_N_DIRS; dir++) {
        size_t want = ktls_in_kernel(conn, (enum ktls_dir)dir) ? 0 : KTLS_KEYS12_LEN;
        if (conn->version == KTLS_TLS13) want = ktls_cipher_secret_len(conn->cipher);
        if (s->secret[dir].len != want) return -EINVAL;
    }
    return 0;
}

static int take_text(char **ret, struct ktls_bytes v) {
    if (v.len == 0) return 0;
    *ret = strndup((const char *)v.data, v.len);
    return *ret ? 0 : -ENOMEM;
}

/* The half-read message as the reader would have met it: it must be acceptable so far, and not whole. */
static int take_half(struct ktls_conn *conn, struct ktls_bytes half) {
    struct ktls_event ev;
    if (half.len == 0) return 0;
    ktls_record_begin(&conn->reader, KTLS_CT_HANDSHAKE, half.data, half.len);
    int r = ktls_record_next(&conn->reader, &ev);
    conn->reader.data = NULL;
    conn->reader.len = 0;
    return r > 0 ? -EINVAL : r;
}

static int take_state(struct ktls_conn *conn, const struct ktls_handoff *s) {
    uint64_t *count[KTLS_STATE_COUNTS];
    conn->version = s->tls_version == TLS1_3_VERSION ? KTLS_TLS13 : KTLS_TLS12;
    conn->ssl_version = (int)s->tls_version;
    conn->version_name = conn->version == KTLS_TLS13 ? "TLSv1.3" : "TLSv1.2";
    conn->resumed = s->flags & FLAG_RESUMED;
    conn->peer_cert = s->flags & FLAG_PEER_CERT;
    conn->rx_closed = s->flags & FLAG_RX_CLOSED;
    conn->tx_closed = s->flags & FLAG_TX_CLOSED;
    conn->alert_in = s->alert_in == NO_ALERT ? -1 : s->alert_in;
    conn->alert_out = s->alert_out == NO_ALERT ? -1 : s->alert_out;
    list_counts(conn, count);
    for (int i = 0; i < KTLS_STATE_COUNTS; i++) *count[i] = s->count[i];
    conn->reader.is_client = conn->ctx->role == KTLS_CLIENT;
    conn->reader.is_tls13 = conn->version == KTLS_TLS13;
    int r = take_suite(conn, s);
    if (r == 0) r = take_text(&conn->name, s->name);
    if (r == 0) r = take_text(&conn->peer_subject, s->peer_subject);
    if (r == 0) r = take_half(conn, s->half);
    for (int dir = 0; r == 0 && dir < KTLS_N_DIRS; dir++) {
        if (s->secret[dir].len > 0) memcpy(conn->secret[dir], s->secret[dir].data, s->secret[dir].len);
        conn->secret_len[dir] = (uint8_t)s->secret[dir].len;
    }
    return r;
}

/* The record layer, where there is one. */
static int take_layer(struct ktls_conn *conn, const struct ktls_handoff *s) {
    struct ktls_keys keys[KTLS_N_DIRS];
    int r = 0;
    if (conn->mode == KTLS_MODE_KERNEL) return 0;
    for (int dir = 0; r == 0 && dir < KTLS_N_DIRS; dir++) {
        if (conn->version == KTLS_TLS13)
            r = ktls_keys_tls13(conn->cipher, conn->secret[dir], &keys[dir]);
        else
            ktls_keys_of_secret12(conn->secret[dir], &keys[dir]);
    }
    if (r == 0) r = ktls_user_start(conn, keys, s->seq);
    OPENSSL_cleanse(keys, sizeof keys);
    if (r < 0) return r;
    if (ktls_queue_add(&conn->layer->in, s->part.data, s->part.len) < 0) return -ENOMEM;
    return ktls_layer_pending(conn->layer) == 0 ? 0 : -EINVAL; /* a part it must be, of a record that may come */
}

int ktls_conn_of_state(struct ktls_ctx *ctx, int fd, const struct ktls_handoff *s, struct ktls_conn **ret) {
    if ((int)s->role != (int)ctx->role) return -EINVAL;
    struct ktls_conn *conn = calloc(1, sizeof *conn);
    if (!conn) return -ENOMEM;
    conn->ctx = ktls_ctx_ref(ctx);
    conn->fd = fd;
    conn->wants = KTLS_WANT_READ;
    pthread_mutex_init(&conn->tx_lock, NULL);
    conn->mode = (enum ktls_mode)s->mode;
    conn->reason = (enum ktls_reason)s->reason;
    conn->state = KTLS_STATE_OPEN;
    int r = take_state(conn, s);
    if (r == 0) r = take_layer(conn, s);
    if (r < 0) {
        ktls_conn_free(conn);
        return r;
    }
    ktls_meters_start(conn);
    for (int dir = 0; dir < KTLS_N_DIRS; dir++) {
        uint64_t seq; /* the kernel knows how much of the present key is used up */
        if (!ktls_in_kernel(conn, (enum ktls_dir)dir))
            conn->meter[dir].bound = s->seq[dir];
        else if (ktls_kernel_get_seq(fd, dir, conn->version, conn->cipher, &seq) == 0)
            conn->meter[dir].bound = seq;
    }
    *ret = conn;
    return 0;
}

int ktls_import(struct ktls_ctx *ctx, int fd, const void *buf, size_t len, struct ktls_conn **ret) {
    struct ktls_handoff s;
    struct ktls_conn *conn = NULL;
    if (fd < 0) return -EINVAL;
    int r = ktls_state_parse(buf, len, &s);
    if (r == 0) r = ktls_conn_of_state(ctx, fd, &s, &conn);
    ktls_burn_stack();
    if (r < 0) return r;
    if (fcntl(fd, F_GETFD) < 0) r = -EBADF;
    for (int dir = 0; r == 0 && dir < KTLS_N_DIRS; dir++)
        if (ktls_in_kernel(conn, (enum ktls_dir)dir))
            r = ktls_kernel_check_key(fd, (enum ktls_dir)dir, conn->version, conn->cipher);
    if (r < 0) {
        ktls_conn_free(conn);
        return r;
    }
    KTLS_COUNT(handoffs_in);
    KTLS_PROBE2(import, conn, fd);
    *ret = conn;
    return 0;
}
