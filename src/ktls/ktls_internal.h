/*
 * What the files of libktls share and nobody else sees: the context, the connection, and the seams between the modules.
 *
 *   ktls_ctx.c        files and options -> SSL_CTX
 *   ktls_cert.c       own certificates and keys (ktls_ctx_priv.h is between the files of the context)
 *   ktls_sni.c        which of them a client gets
 *   ktls_ocsp.c       OCSP responses, stapled
 *   ktls_trust.c      whose certificates are believed: CAs, CRLs, why one was refused
 *   ktls_peer.c       user names out of the peer's certificate
 *   ktls_suite.c      suites, their order, key exchange groups
 *   ktls_files.c      fingerprints of the files read, for hot reload
 *   ktls_wire.c       the BIO: bytes between socket (or memory) and OpenSSL, one whole record at a time during the handshake
 *   ktls_handshake.c  drives OpenSSL, collects secrets and sequence numbers, decides, hands over
 *   ktls_keys.c       secrets -> record keys (pure)
 *   ktls_kernel.c     every system call that concerns kernel TLS
 *   ktls_record.c     parser of control records (pure)
 *   ktls_control.c    alerts, KeyUpdate, close: the connection after the hand-over
 *   ktls_limit.c      counts records under each key, changes keys in time; KeyUpdates without end
 *   ktls_gate.c       sends in flight against records that must come after them
 *   ktls_user.c       user mode: the same connection as in the kernel, its records by ktls_layer.c
 *   ktls_layer.c      records received and to be sent, in memory (pure)
 *   ktls_seal.c       a TLS record protected and opened in userspace (pure)
 *   ktls_io.c         ktls_read/ktls_write in every mode, memory mode; OpenSSL's records, for suites that are not ours
 *   ktls_probe.c      what this kernel can
 *   ktls_floor.c      known holes of this kernel; ktls_gunzip.c unpacks the changelog it looks into
 *   ktls_conn.c       the connection object, its errors and its facts
 *   ktls_names.c      names and counters
 *   ktls_session.c    which sessions a server resumes
 *   ktls_tickets.c    the ring of keys under its tickets; ktls_ticket_files.c reads them from files
 *   ktls_resume.c     how a client comes to its sessions, after the hand-over too; ktls_store.c keeps them
 *   ktls_keylog.c     the key log file
 *   ktls_handoff.c    the connection given to another process
 *
 * States of a connection:
 *
 *   NEW --ktls_handshake--> HANDSHAKE --done, keys in the kernel--> OPEN, mode KERNEL (ssl, wire == NULL but for ktls_resume.c)
 *                               |   \---done, kernel cannot-------> OPEN, mode USER   (layer; or ssl, wire live on)
 *                               |   \---done, TX key in the kernel-> OPEN, mode TX    (layer, for reading only)
 *                               \--error--> FAILED <--fatal error-- OPEN
 */
#ifndef KTLS_INTERNAL_H
#define KTLS_INTERNAL_H

#include "ktls.h"

#include <openssl/ssl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "ktls_record.h"

#define KTLS_RECORD_HEADER 5
#define KTLS_RECORD_DATA_MAX 16384                         /* RFC 8446 5.1 */
#define KTLS_RECORD_BODY_MAX (KTLS_RECORD_DATA_MAX + 2048) /* RFC 5246 6.2.3, the larger of the two versions' limits */
#define KTLS_SECRET_MAX 48                                 /* SHA-384 */
#define KTLS_KEY_MAX 32
#define KTLS_IV_LEN 12

/* ---- ktls_keys.c: pure ---- */

/* Key and nonce base of one direction. For GCM and CCM under TLS 1.2 only iv[0..3] (the salt) is derived; the rest is the
 * explicit nonce, which whoever uses the keys sets to the record sequence number. */
struct ktls_keys {
    uint8_t key[KTLS_KEY_MAX];
    uint8_t iv[KTLS_IV_LEN];
};

size_t ktls_cipher_key_len(enum ktls_cipher cipher);
const EVP_MD *ktls_cipher_md(enum ktls_cipher cipher);
size_t ktls_cipher_secret_len(enum ktls_cipher cipher);
/* RFC 8446 7.1 with an empty context; out_len at most 255 * hash length. 0, -ENOMEM, -EINVAL. */
int ktls_hkdf_expand_label(const EVP_MD *md, const uint8_t *secret, size_t secret_len, const char *label, uint8_t *out,
                           size_t out_len);
/* RFC 8446 7.3: traffic secret -> "key", "iv". */
int ktls_keys_tls13(enum ktls_cipher cipher, const uint8_t *secret, struct ktls_keys *ret);
/* RFC 8446 7.2: the secret of the next generation, in place. */
int ktls_next_secret(enum ktls_cipher cipher, uint8_t *secret);
/* RFC 5246 6.3: master secret (48 bytes) and randoms (32 each) -> the keys of both directions. */
int ktls_keys_tls12(enum ktls_cipher cipher, const uint8_t *master, const uint8_t *client_random, const uint8_t *server_random,
                    struct ktls_keys *ret_client, struct ktls_keys *ret_server);

/* ---- ktls_seal.c ---- */

#define KTLS_TAG_LEN 16
#define KTLS_SEAL_OVERHEAD (KTLS_RECORD_HEADER + 8 + 1 + KTLS_TAG_LEN)

/* One direction's records under one key. Zero-initialised: no key. */
struct ktls_aead {
    EVP_CIPHER_CTX *evp; /* with the key; the nonce is set for each record */
    enum ktls_version version;
    enum ktls_cipher cipher;
    uint8_t iv[KTLS_IV_LEN];
    uint64_t seq; /* of the next record */
};
/* The (next) key. dir: TX seals, RX opens. 0; -ENOMEM, -EINVAL (no such cipher): there is no key then. */
int ktls_aead_set(struct ktls_aead *a, enum ktls_dir dir, enum ktls_version version, enum ktls_cipher cipher,
                  const struct ktls_keys *keys, uint64_t seq);
void ktls_aead_done(struct ktls_aead *a); /* wipes */
/* Bytes of a record before its text: header and explicit nonce. */
size_t ktls_aead_before(const struct ktls_aead *a);
/* Builds the next record, of len bytes (at most KTLS_RECORD_DATA_MAX) of the pieces, beginning `skip` bytes in; out has room for
 * len + KTLS_SEAL_OVERHEAD and does not overlap them. Its length; -ENOMEM, -EIO. */
ssize_t ktls_aead_seal(struct ktls_aead *a, uint8_t type, const struct iovec *iov, size_t skip, size_t len, uint8_t *out);
/* Opens the next record. rec: header, body, rec_len bytes in all; out: elsewhere, or exactly rec + ktls_aead_before(), with room
 * for the body less nonce and tag. The content's length, *ret_type its type; -EBADMSG; -ENOMSG: authentic, and of no type;
 * -ENOMEM.
 */
ssize_t ktls_aead_open(struct ktls_aead *a, uint8_t *rec, size_t rec_len, uint8_t *out, uint8_t *ret_type);

/* A single record of at most KTLS_RECORD_DATA_MAX bytes in out (room for len + KTLS_SEAL_OVERHEAD). Returns its length or -errno.
 */
ssize_t ktls_seal(enum ktls_version version, enum ktls_cipher cipher, const struct ktls_keys *keys, uint64_t seq, uint8_t type,
                  const uint8_t *data, size_t len, uint8_t *out);
/* The same of a text as it is to be encrypted (TLS 1.3: content, type, padding) behind a header that is taken as it is, at most
 * 2^16-1 bytes: a test makes records with it that no peer should send. */
ssize_t ktls_seal_text(enum ktls_version version, enum ktls_cipher cipher, const struct ktls_keys *keys, uint64_t seq,
                       const uint8_t *header, const uint8_t *text, size_t len, uint8_t *out);
/* Opens one whole record of rec_len bytes; out has room for rec_len. Returns the content's length, *ret_type its type; -EBADMSG,
 * -ENOMEM. */
ssize_t ktls_open(enum ktls_version version, enum ktls_cipher cipher, const struct ktls_keys *keys, uint64_t seq,
                  const uint8_t *rec, size_t rec_len, uint8_t *out, uint8_t *ret_type);

/* ---- ktls_wire.c ---- */

/* Bytes waiting; data + off .. data + len. Zero-initialised is empty. */
struct ktls_queue {
    uint8_t *data;
    size_t off, len, cap;
    size_t peak, last_cap; /* most bytes since it was allocated; the size to begin with the next time, 0: any */
};
/* Room for len bytes (at least 1) behind the last one; who fills it adds to q->len. NULL: out of memory. */
uint8_t *ktls_queue_room(struct ktls_queue *q, size_t len);
int ktls_queue_add(struct ktls_queue *q, const void *data, size_t len);
void ktls_queue_drop(struct ktls_queue *q, size_t len);
void ktls_queue_done(struct ktls_queue *q);
static inline size_t ktls_queue_len(const struct ktls_queue *q) {
    return q->len - q->off;
}
/* Copies `len` bytes from the pieces, beginning `skip` bytes in. */
void ktls_gather(uint8_t *out, size_t len, const struct iovec *iov, size_t skip);

enum ktls_wire_mode {
    KTLS_WIRE_RECORD, /* handshake: exact records off the fd */
    KTLS_WIRE_STREAM, /* user mode: the fd as it is */
    KTLS_WIRE_MEM     /* user mode: the two queues */
};

/* Below the SSL object. Peeked bytes are a copy of what still is in the socket; owned ones have been taken out of it:
 *
 *      buf  |<--- given to OpenSSL --->|<--- not yet given --->|
 *           0                         off                     len
 *           |<----- owned ---->|<---- still in the socket ---->|
 *
 * Invariant: bytes past the record OpenSSL asked for are never owned. */
struct ktls_wire {
    int fd;
    enum ktls_wire_mode mode;
    uint8_t *buf; /* KTLS_WIRE_BUF bytes, from the first read to the end of the handshake */
    size_t off, len, owned;
    size_t record_left;  /* of the record at off, not yet given */
    int err;             /* errno of the last failed call */
    bool halted;         /* user mode: gives OpenSSL nothing more to read */
    bool eof;            /* the peer's FIN was seen */
    bool first_seen;     /* the first bytes were looked at */
    const char *not_tls; /* they are not TLS: what they look like */
    struct ktls_queue in, out;
};
#define KTLS_WIRE_BUF (KTLS_RECORD_HEADER + KTLS_RECORD_BODY_MAX)

struct ktls_wire *ktls_wire_new(int fd);
struct ktls_wire *ktls_wire_free(struct ktls_wire *w);
/* A BIO over w, which must outlive it. NULL: out of memory. */
BIO *ktls_wire_bio(struct ktls_wire *w);
/* End of the handshake: takes out of the socket exactly what OpenSSL was given, drops the buffer, continues in `mode`. 0 or
 * -errno. */
int ktls_wire_settle(struct ktls_wire *w, enum ktls_wire_mode mode);

/* ---- ktls_layer.c: pure ---- */

/* What is to be said about a header: 0, or the alert, with *ret_why (static). Else *ret_body is the length behind it. */
int ktls_header_check(enum ktls_version version, size_t before, const uint8_t *header, size_t *ret_body, const char **ret_why);

/* Received records, until they are opened and read. Bytes stand in `in`, which is the layer's, and behind them in `lent`, which
 * is the caller's for the length of a call. At their head may be what was opened and not all read: */
struct ktls_layer {
    struct ktls_aead aead[KTLS_N_DIRS]; /* where the kernel sends: RX only */
    struct ktls_queue in, out;
    uint8_t *lent;
    size_t lent_len;
    size_t plain_len; /* bytes of data at the head, then ... */
    size_t plain_gap; /* ... of their record, without meaning */
    bool mem;         /* the caller moves the ciphertext */
    bool eof;         /* mem: the peer closed */
};
struct ktls_layer *ktls_layer_new(void);
struct ktls_layer *ktls_layer_free(struct ktls_layer *l); /* wipes the keys. NULL is fine; always NULL */
void ktls_layer_clear(struct ktls_layer *l);              /* the same of what is in it */
/* Bytes that stay the caller's, written to, until ktls_layer_keep(), which copies what is left of them. 0, -ENOMEM. */
void ktls_layer_lend(struct ktls_layer *l, uint8_t *data, size_t len);
int ktls_layer_keep(struct ktls_layer *l);

/* What ktls_layer_next() has found. */
struct ktls_found {
    uint8_t type;
    const uint8_t *content; /* valid until ktls_layer_used() */
    size_t len;
    size_t size; /* of the whole record */
    bool direct; /* content is where the caller wanted it */
    int alert;   /* with -EPROTO: the one to send */
    const char *why;
};
/* Opens the next record; nothing opened earlier may be left. Its content goes to buf if the text fits room, else it stays where
 * it came. 1; 0: there is no whole record; -EPROTO: the connection must end; -ENOSPC: it would not fit, and `fit` was said:
 * nothing has been done; -ENOMEM. */
int ktls_layer_next(struct ktls_layer *l, uint8_t *buf, size_t room, bool fit, struct ktls_found *ret);
/* The record found is done with; keep_plain: its content stays at the head, to be read. */
void ktls_layer_used(struct ktls_layer *l, const struct ktls_found *f, bool keep_plain);
/* Copies out what was opened and not read. */
size_t ktls_layer_give(struct ktls_layer *l, uint8_t *buf, size_t cap);
/* Bytes that reading would give without more input, at least; never fewer than 1 when there is a whole record. */
size_t ktls_layer_pending(const struct ktls_layer *l);
/* One record behind those that wait. 0, -ENOMEM, -EIO. */
int ktls_layer_put(struct ktls_layer *l, uint8_t type, const struct iovec *iov, size_t skip, size_t len);

/* ---- ktls_user.c: the connection over that ---- */

/* Why user mode leaves the records to OpenSSL; NULL: it does not. */
const char *ktls_user_needs_openssl(const struct ktls_conn *conn);
/* At the end of the handshake: the record layer, with the keys of both directions, or of the receiving one, and the numbers of
 * their next records. 0, -errno. */
int ktls_user_start(struct ktls_conn *conn, const struct ktls_keys keys[KTLS_N_DIRS], const uint64_t seq[KTLS_N_DIRS]);
/* TLS 1.2 has no traffic secrets: where ktls_export() may want them, the keys are kept in their place. */
void ktls_keep_keys12(struct ktls_conn *conn, const struct ktls_keys keys[KTLS_N_DIRS]);
void ktls_keys_of_secret12(const uint8_t *secret, struct ktls_keys *ret);
ssize_t ktls_user_read(struct ktls_conn *conn, void *buf, size_t len);
ssize_t ktls_user_writev(struct ktls_conn *conn, const struct iovec *iov, int iovcnt);
/* Ciphertext to the socket, then what is due. KTLS_DONE, KTLS_WANT_WRITE, errors. Memory mode: what is due is put into the queue.
 */
int ktls_user_flush(struct ktls_conn *conn);
/* One control record. urgent: nothing is waited for. 0; -EAGAIN: not now; -errno. */
int ktls_user_send_control(struct ktls_conn *conn, uint8_t type, const uint8_t *data, size_t len, bool urgent);

/* ---- ktls_kernel.c ---- */

int ktls_kernel_attach(int fd); /* TCP_ULP "tls"; 0 also when it is attached already; -errno */
bool ktls_kernel_is_tcp(int fd);
/* Gives one direction's key to the kernel. 0 or -errno; the struct that was passed is wiped. */
int ktls_kernel_set_key(int fd, enum ktls_dir dir, enum ktls_version version, enum ktls_cipher cipher,
                        const struct ktls_keys *keys, uint64_t seq);
/* The sequence number of the next record of that direction: how many were protected by the present key. 0 or -errno. */
/* TLS 1.3 says what a record is behind its text and its padding, so the kernel opens it into memory of its own and copies. With
 * this it opens it where the reader wants it, and again when the record turns out to be padded or no data. Who pads all records
 * makes the kernel open each twice, which is no more than as many records more would cost. The receiving key must be there. 0 or
 * -errno. Only where the probe says that it works: Linux 6.1 and 6.12 have it and garble padded records. */
int ktls_kernel_expect_no_padding(int fd);
int ktls_kernel_get_seq(int fd, enum ktls_dir dir, enum ktls_version version, enum ktls_cipher cipher, uint64_t *ret_seq);
void ktls_kernel_clear_error(int fd); /* forgets the socket's pending error */
/* 1: the next record is not data. 0: it is, or there is none, or FIN. -errno. Consumes nothing. */
int ktls_kernel_peek_control(int fd);
/* recv gave 0. 1: it is the peer's FIN. 0: it is not, and there is more to read. -errno. Consumes nothing. */
int ktls_kernel_at_end(int fd);
/* Takes one control record of at most cap bytes. Length >= 0, *ret_type its type; -EAGAIN, -ECONNRESET (FIN), -errno. */
ssize_t ktls_kernel_recv_control(int fd, uint8_t *buf, size_t cap, uint8_t *ret_type);
/* Sends one record of that type, whole or not at all. 0 or -errno. */
int ktls_kernel_send_control(int fd, uint8_t type, const uint8_t *data, size_t len);

/* The socket has a key of that version and cipher in that direction. 0; -EPROTO: it has not; -errno. */
int ktls_kernel_check_key(int fd, enum ktls_dir dir, enum ktls_version version, enum ktls_cipher cipher);

/* ---- ktls_ctx.c ---- */

struct ktls_cert;
struct ktls_file;

struct ktls_ctx {
    atomic_int refs;
    SSL_CTX *ssl;
    enum ktls_role role;
    enum ktls_policy policy;
    enum ktls_reason off_reason; /* told when the policy is OFF */
    enum ktls_verify verify;
    struct ktls_tickets *tickets; /* server with tickets, else NULL */
    int session_lifetime_s;       /* server: from the full handshake to the last resumption */
    struct ktls_store *store;     /* client with session_reuse, else NULL */
    int session_reuse;
    struct ktls_cert *certs; /* default, alternatives, then by name */
    int n_certs, n_default;  /* n_default: those without a name */
    struct ktls_file *files;
    int n_files;
    char **warnings;
    int n_warnings;
    enum ktls_peer_user peer_user;
    int keylog_fd; /* -1: no key log file */
    uint64_t rekey_after_records;
    enum ktls_old_kernel on_old_kernel;
    unsigned max_key_updates_per_s;
    int64_t crl_until;
};

/* ---- ktls_keylog.c ---- */

/* The descriptor of a key log file, or -errno: -EPERM others may read it, -ENOTSUP not a regular file. */
int ktls_keylog_open(const char *path);
void ktls_keylog_line(int fd, const char *line);

/* ---- ktls_limit.c ---- */

/* Records of one direction under its present key. In kernel mode `bound` is an upper bound, in user mode the number. */
struct ktls_meter {
    _Atomic uint64_t bound;
    _Atomic uint64_t check; /* at this bound ktls_check_limits() has something to do */
    uint64_t limit, hard;   /* change the key at 15/16 of limit; never pass hard */
};

enum ktls_limit_state {
    KTLS_LIMIT_FAR,
    KTLS_LIMIT_REACHED, /* the connection must end; the caller does not know */
    KTLS_LIMIT_TOLD     /* it does, and is sending its last words */
};

/* Bytes that the kernel puts into one record, as the bound reckons: half of what it does. */
#define RECKONED_RECORD (KTLS_RECORD_DATA_MAX / 2)

/* Both meters, when the mode is decided: conn->seq records were protected by the present keys. */
void ktls_meters_start(struct ktls_conn *conn);
/* A new key in that direction. */
void ktls_meter_reset(struct ktls_conn *conn, enum ktls_dir dir);
void ktls_meter_add(struct ktls_conn *conn, enum ktls_dir dir, uint64_t records);
bool ktls_meter_due(const struct ktls_conn *conn, enum ktls_dir dir);
/* Looks at one direction if it is due; may leave KTLS_DUE_KEY_UPDATE behind, sends nothing in kernel mode. TX: any thread. */
void ktls_limit_check(struct ktls_conn *conn, enum ktls_dir dir);
/* For ktls_read and ktls_write, before: 0, or KTLS_ERECORDLIMIT after close_notify, -EAGAIN while that does not fit. After: n
 * bytes went through. */
int ktls_limit_enter(struct ktls_conn *conn);
void ktls_limit_leave(struct ktls_conn *conn, enum ktls_dir dir, size_t bytes);
/* Records and returns KTLS_ERECORDLIMIT, without making conn FAILED. */
int ktls_limit_error(struct ktls_conn *conn);
/* A KeyUpdate came in. True: one too many. */
bool ktls_key_update_flood(struct ktls_conn *conn);

/* ---- ktls_gate.c ---- */

#define KTLS_GATE_SHUT 0x80000000u /* something is due: nobody gets in */

/* Sends what is due, unless sends are in flight: KTLS_DONE (nothing is due any more), KTLS_WANT_WRITE, errors. */
int ktls_gate_flush(struct ktls_conn *conn);
/* Adds to what is due and shuts the gate. KeyUpdate: asks, also for the peer's. */
void ktls_gate_due(struct ktls_conn *conn, unsigned due, bool asks);
/* The sending side is over: nothing is due any more, nobody gets in. */
void ktls_gate_close(struct ktls_conn *conn);

/* ---- ktls_conn.c ---- */

enum ktls_state { KTLS_STATE_NEW, KTLS_STATE_HANDSHAKE, KTLS_STATE_OPEN, KTLS_STATE_FAILED };

/* What ktls_flush() still has to send in kernel mode. */
#define KTLS_DUE_KEY_UPDATE 1u
#define KTLS_DUE_CLOSE 2u

struct ktls_conn {
    struct ktls_ctx *ctx;
    int fd;
    _Atomic enum ktls_state state; /* atomic: as all that ktls_tx_begin and ktls_tx_end look at, on threads of their own */
    enum ktls_mode mode;
    SSL *ssl;                 /* after the handshake: where OpenSSL does the records, or for ktls_resume.c; else NULL */
    struct ktls_wire *wire;   /* likewise */
    struct ktls_layer *layer; /* where this library does them, else NULL */
    struct ktls_error *error; /* allocated by the first error */
    bool error_lost;          /* there was no memory for it */
    bool no_memory;           /* seen while OpenSSL was at work, since ktls_ssl_begin() */
    char *name;               /* server: SNI received; client: the name to check and send */
    char *peer_subject;
    bool no_name_check;

    /* Handshake */
    uint64_t started_ns, handshake_us;
    int attach_err; /* of TCP_ULP, 0: attached */

    /* Facts, from the end of the handshake */
    enum ktls_reason reason;
    int reason_errno;
    int ssl_version; /* TLS1_3_VERSION ... */
    const char *version_name, *cipher_name;
    enum ktls_version version;
    enum ktls_cipher cipher;
    bool resumed, peer_cert;

    /* Key material: the two traffic secrets of TLS 1.3, by direction, for KeyUpdate. OpenSSL's records: the first generation,
     * only so that ktls_free_ssl() knows what to wipe. TLS 1.2 with records of ours: ktls_keep_keys12(). */
    uint8_t secret[KTLS_N_DIRS][KTLS_SECRET_MAX];
    uint8_t secret_len[KTLS_N_DIRS];
    uint64_t seq[KTLS_N_DIRS]; /* records under the present key, counted until the hand-over */

    /* After the hand-over */
    struct ktls_record_reader reader;
    _Atomic unsigned due;    /* KTLS_DUE_* */
    bool key_update_asks;    /* the KeyUpdate that is due asks for the peer's */
    bool rx_closed;          /* close_notify received */
    _Atomic bool tx_closed;  /* close_notify or a fatal alert sent */
    int alert_in, alert_out; /* last ones seen, -1: none */
    size_t write_pending;    /* user mode: length of the SSL_write that would block */
    _Atomic int wants;
    uint64_t control_records, key_updates_in, key_updates_out;

    char *session_key;          /* client: under what the store keeps this peer's sessions, NULL: it does not */
    bool session_offered;       /* one of them was offered in this handshake */
    struct ktls_resume *resume; /* not OpenSSL's records: ssl and wire still live, to read tickets; else NULL */
    char *refused_cert;         /* verification failed: which certificate of the chain */
    char *peer_users;           /* names one after the other, each with its NUL, an empty one at the end */
    const char *group;          /* of the key exchange; memory of ctx->ssl's */
    uint16_t suite;             /* IANA number */
    bool given;                 /* ktls_export() gave it to another owner */
    /* Control records out of a kernel socket: whoever changes due, key_update_asks or the sending key holds the lock. */
    pthread_mutex_t tx_lock;
    _Atomic unsigned gate; /* sends in flight, KTLS_GATE_SHUT */

    /* The limit on records */
    struct ktls_meter meter[KTLS_N_DIRS];
    _Atomic enum ktls_limit_state limit_state;
    bool can_rekey;
    _Atomic bool update_asked; /* the peer owes us a KeyUpdate */
    _Atomic uint64_t rekeys_by_limit;

    /* Received KeyUpdates without cause, in the second that began then; data received since the last one */
    uint64_t flood_began_ns, rx_bytes;
    unsigned flood_count;
    bool flooded;      /* OpenSSL's records: noticed inside OpenSSL, acted upon outside */
    bool renegotiated; /* likewise: OpenSSL has refused a renegotiation */
    uint64_t half_at;  /* rx_bytes behind the last control record */
};

/* The kernel handles the records of that direction. */
static inline bool ktls_in_kernel(const struct ktls_conn *conn, enum ktls_dir dir) {
    return conn->mode == KTLS_MODE_KERNEL || (conn->mode == KTLS_MODE_TX && dir == KTLS_TX);
}

/* OpenSSL does the records of user mode: control records, KeyUpdates and limits are not ours. */
static inline bool ktls_in_openssl(const struct ktls_conn *conn) {
    return conn->mode == KTLS_MODE_USER && !conn->layer;
}

/* Records the error (printf style, own words only) and returns err; -ENOMEM when there is no memory to record it. alert -1: none.
 */
int ktls_fail(struct ktls_conn *conn, int err, int alert, int alert_sent, const char *fmt, ...)
    __attribute__((format(printf, 5, 6)));
/* The same without making conn FAILED: it goes on, to its end in order. Always err. */
int ktls_note(struct ktls_conn *conn, int err, int alert, int alert_sent, const char *fmt, ...)
    __attribute__((format(printf, 5, 6)));
/* Before each call of OpenSSL on conn->ssl whose failure ktls_ssl_result() is to explain. */
void ktls_ssl_begin(struct ktls_conn *conn);
/* Records what a failed OpenSSL call meant, by its return value; called right after it. Returns WANT_READ, WANT_WRITE or an
 * error. */
int ktls_ssl_result(struct ktls_conn *conn, int ret, const char *what);
/* Before calls of OpenSSL whose failure is to be explained: what has failed earlier does not count. */
void ktls_forget_errors(void);
/* After them: true when memory ran out since, whatever followed from it. Empties OpenSSL's queue of errors. */
bool ktls_no_memory(void);
/* Clears what calls that handled keys left on the stack below the caller: spilled registers, and the vector registers that the
 * dynamic linker saves there when it binds a function for the first time. */
void ktls_burn_stack(void);
/* Wipes the traffic secrets of conn. */
void ktls_wipe_secrets(struct ktls_conn *conn);
/* At the end of a handshake: where in SSL objects the traffic secrets are, if that is not known yet. */
void ktls_learn_places(const struct ktls_conn *conn);
/* Clears the traffic secret of one direction in the SSL object, which is to use it no more. */
void ktls_wipe_in_ssl(struct ktls_conn *conn, enum ktls_dir dir);
/* Frees the SSL object so that no traffic secret stays in freed memory and its session stays resumable. */
void ktls_free_ssl(struct ktls_conn *conn);
uint64_t ktls_now_ns(void);

/* ---- ktls_cert.c ---- */

/* A distinguished name in one line (RFC 2253), control characters and 8-bit ones escaped. */
void ktls_name_text(const X509_NAME *name, char *out, size_t cap);

/* ---- ktls_peer.c ---- */

/* Notes the user names of x, which has verified. 0, -ENOMEM. */
int ktls_peer_note(struct ktls_conn *conn, X509 *x);
/* *ret: the names as ktls_conn.peer_users has them, the caller's to free; NULL: none. 0; -ENOMEM, *ret untouched. */
int ktls_peer_users(X509 *x, enum ktls_peer_user kind, char **ret);

/* ---- ktls_control.c ---- */

/* Sends a fatal alert if the sending side is still open; never blocks. */
void ktls_send_fatal(struct ktls_conn *conn, int alert);
/* The same, and records and returns the error. */
int ktls_refuse(struct ktls_conn *conn, int err, int alert, const char *why);
/* Acts upon one control record. KTLS_DONE, KTLS_EOF, errors. */
int ktls_take_control(struct ktls_conn *conn, uint8_t type, const uint8_t *data, size_t len);
/* Data came between the records of a handshake message: sends the alert, returns the error. */
int ktls_refuse_data_between(struct ktls_conn *conn);
/* TLS 1.2: no_renegotiation and close_notify; returns the error. */
int ktls_refuse_renegotiation(struct ktls_conn *conn, const char *why);
/* Sends what is due; conn->tx_lock is held and no send is in flight. KTLS_DONE, KTLS_WANT_WRITE, errors. */
int ktls_send_due(struct ktls_conn *conn);

/* ---- ktls_session.c ---- */

/* Session cache, tickets and the session id context of ctx->ssl, once certificates and trust anchors are loaded. 0, KTLS_ECONFIG
 * with err filled, -ENOMEM. */
int ktls_session_setup(struct ktls_ctx *ctx, const struct ktls_ctx_opts *o, char *err, size_t errlen);

/* ---- ktls_tickets.c, ktls_ticket_files.c ---- */

#define KTLS_TICKET_NAME 16
#define KTLS_TICKET_FILE_KEY 80

struct ktls_ticket_key {
    uint8_t name[KTLS_TICKET_NAME], hmac[32], aes[32];
    int64_t retired_s; /* monotonic time when it last sealed; 0: it seals, or it is from a file */
};
struct ktls_ticket_set {
    int n;
    struct ktls_ticket_key key[KTLS_TICKET_KEYS_MAX]; /* [0] seals */
};
/* OpenSSL's callback (SSL_CTX_set_tlsext_ticket_key_evp_cb). */
int ktls_on_ticket_key(SSL *ssl, unsigned char *name, unsigned char *iv, EVP_CIPHER_CTX *cipher, EVP_MAC_CTX *mac, int enc);
/* What ktls_tickets_poll() does, at a moment of the caller's. now_s: monotonic seconds. */
void ktls_tickets_tick(struct ktls_tickets *t, int64_t now_s);
/* Reads a file's bytes. 0, or KTLS_ECONFIG with a reason in *ret_why (static); ret->key[ret->n...] are appended. */
int ktls_ticket_parse(const uint8_t *data, size_t len, struct ktls_ticket_set *ret, const char **ret_why);
/* Reads the file or directory. 0, KTLS_ECONFIG with err filled, -ENOMEM. ret holds secrets either way: wipe it. */
int ktls_ticket_files_load(const char *path, struct ktls_ticket_set *ret, char *err, size_t errlen);
/* A number that changes when the files do; 0 when they changed so lately that the next change might not show. */
uint64_t ktls_ticket_files_stamp(const char *path);

/* ---- ktls_store.c: a client's sessions, any thread ---- */

struct ktls_store *ktls_store_new(int peers_max, int per_peer_max);
struct ktls_store *ktls_store_free(struct ktls_store *st);
/* Keeps a session until expires_s (wall clock). Of TLS 1.2 sessions the last one only. */
void ktls_store_put(struct ktls_store *st, const char *key, SSL_SESSION *session_take, int64_t expires_s);
/* The newest that has not expired, the caller's to free; TLS 1.3 sessions leave the store with it. NULL: none. */
SSL_SESSION *ktls_store_take(struct ktls_store *st, const char *key, int64_t now_s);
/* Forgets a peer's sessions; prefix: those of all keys that begin so. NULL: all. */
void ktls_store_drop(struct ktls_store *st, const char *key, bool prefix);
int ktls_store_count(struct ktls_store *st, const char *key); /* NULL: of all peers */

/* ---- ktls_resume.c: the client's side of resumption ---- */

void ktls_on_new_session(SSL *ssl, SSL_SESSION *session);
/* Before the handshake: offers a session if there is one. 0, -ENOMEM. */
int ktls_resume_offer(struct ktls_conn *conn);
/* The handshake ended, result r: keeps a TLS 1.2 session, forgets those that a failed handshake may have failed for. */
void ktls_resume_handshake_ended(struct ktls_conn *conn, int r);
/* At the hand-over: true when ssl and wire must stay for the tickets to come. */
bool ktls_resume_keep(struct ktls_conn *conn);
/* A NewSessionTicket, without its header. 0; -EBADMSG: malformed. Out of memory ends resumption, not the connection. */
int ktls_resume_ticket(struct ktls_conn *conn, const uint8_t *body, size_t len);
/* Ends it: ssl and wire freed, secrets wiped. */
void ktls_resume_end(struct ktls_conn *conn);
/* The secrets that ssl was handed over with, by direction; NULL when it was not kept. For ktls_free_ssl(). */
const uint8_t (*ktls_resume_secrets(const struct ktls_conn *conn))[KTLS_SECRET_MAX];

/* ---- ktls_handshake.c: callbacks that the context installs ---- */

void ktls_on_keylog(const SSL *ssl, const char *line);
void ktls_on_info(const SSL *ssl, int where, int ret);
/* KTLS_CIPHER_OTHER for what the kernel has not. */
enum ktls_cipher ktls_classify_cipher(const SSL_CIPHER *c);

/* ---- ktls_names.c ---- */

extern struct ktls_stats ktls_counters;
#define KTLS_COUNT(field) ((void)__atomic_fetch_add(&ktls_counters.field, 1, __ATOMIC_RELAXED))

#endif
