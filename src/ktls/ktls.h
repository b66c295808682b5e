/*
 * libktls: TLS connections whose records the Linux kernel encrypts and decrypts.
 *
 * OpenSSL does the handshake; the traffic keys go to the kernel with setsockopt(SOL_TLS); from then on the descriptor is an
 * ordinary socket. Where the kernel cannot, the library does the same in userspace, and the reason is told.
 *
 *     ctx  = ktls_ctx_new(...)                      once, shared by all threads
 *     conn = ktls_conn_new(ctx, fd, ...)            per connected, non-blocking socket
 *     ktls_handshake(conn) ... until KTLS_DONE      poll(2) for what it asks in between
 *     ktls_conn_mode(conn)
 *       KTLS_MODE_KERNEL   recv/send/writev/sendfile/io_uring on the fd itself; on EIO call ktls_control()
 *       KTLS_MODE_USER     ktls_read/ktls_write, or the ktls_mem_* calls for a loop that does its own I/O
 *       KTLS_MODE_TX       send/writev/sendfile on the fd itself; received bytes by ktls_read or ktls_mem_input
 *     ktls_shutdown(conn), ktls_conn_free(conn), close(fd)
 *
 * Threads: a ctx may be used by many threads at once; a conn by one thread at a time, any thread. The exception are
 * ktls_tx_begin() and ktls_tx_end(): any number of threads, also beside one that is in another call on the conn. Errors: 0 or
 * positive on success, else a negative errno value or one of KTLS_E*; details in ktls_conn_error(). The library never logs, never
 * prints, never exits; out of memory is -ENOMEM. The fd stays the caller's: the library neither closes it nor changes its flags.
 * SIGPIPE is never raised (MSG_NOSIGNAL).
 */
#ifndef KTLS_H
#define KTLS_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#ifdef __cplusplus
extern "C" {
#endif

#define KTLS_API __attribute__((visibility("default")))
#define KTLS_VERSION_MAJOR 0
#define KTLS_VERSION_MINOR 1

struct ktls_ctx;
struct ktls_conn;
struct ktls_tickets;

/* ---- Results ---- */

/* Non-negative results of the drivers (handshake, control, shutdown, flush). */
#define KTLS_DONE 0       /* finished; for ktls_control(): carry on reading */
#define KTLS_WANT_READ 1  /* poll for POLLIN, then call again */
#define KTLS_WANT_WRITE 2 /* poll for POLLOUT, then call again */
#define KTLS_EOF 3        /* ktls_control(): close_notify received, the peer sends no more */

/* Errors beside errno's. All are below -4095, so they never collide with -errno. */
#define KTLS_EALERT (-5001)     /* the peer sent a fatal alert: see ktls_error.alert */
#define KTLS_EPROTOCOL (-5002)  /* the peer broke the protocol; an alert was sent where one could be */
#define KTLS_EVERIFY (-5003)    /* certificate missing, not trusted, expired, or of the wrong name */
#define KTLS_ENOTTLS (-5004)    /* the first bytes are not TLS (plaintext sent to a TLS port) */
#define KTLS_ETRUNCATED (-5005) /* FIN without close_notify */
#define KTLS_EKEYUPDATE (-5006) /* KeyUpdate received and this kernel cannot rekey; closed in order */
#define KTLS_ENOKTLS (-5007)    /* policy KTLS_POLICY_REQUIRE and the kernel cannot take this connection */
#define KTLS_ECONFIG (-5008)    /* a file or option of the context is wrong: the text says which */
#define KTLS_ERECORDLIMIT                                                                                                        \
    (-5009) /* as many records under one key as are safe, and the key cannot be changed: end the connection in order */

/* Static name of a result or error, "KTLS_EALERT", "ECONNRESET". */
KTLS_API const char *ktls_strerror(int err);
/* RFC 8446 6.2 name of an alert description, "handshake_failure"; "unknown" for others. Static. */
KTLS_API const char *ktls_alert_name(int alert);

/* ---- The kernel ---- */

enum ktls_version { KTLS_TLS12 = 0, KTLS_TLS13 = 1, KTLS_N_VERSIONS };
enum ktls_cipher {
    KTLS_AES_128_GCM = 0,
    KTLS_AES_256_GCM,
    KTLS_CHACHA20_POLY1305,
    KTLS_AES_128_CCM,
    KTLS_N_CIPHERS,
    KTLS_CIPHER_OTHER = 15
};
enum ktls_dir { KTLS_TX = 0, KTLS_RX = 1, KTLS_N_DIRS };

/* Why a connection is in userspace. */
enum ktls_reason {
    KTLS_REASON_NONE = 0,     /* it is in the kernel */
    KTLS_REASON_POLICY,       /* the caller asked for userspace */
    KTLS_REASON_NO_ULP,       /* TCP_ULP "tls": ENOENT: no CONFIG_TLS, or tls.ko not loaded (modprobe tls) */
    KTLS_REASON_PERMISSION,   /* EPERM/EACCES: seccomp or a security module */
    KTLS_REASON_NOT_TCP,      /* not a TCP socket */
    KTLS_REASON_CIPHER,       /* a suite the kernel does not know (CBC, or a missing crypto module) */
    KTLS_REASON_VERSION,      /* TLS 1.0/1.1, or a version this kernel lacks */
    KTLS_REASON_RECORD_LIMIT, /* the peer negotiated max_fragment_length (RFC 6066 4); the kernel would exceed it */
    KTLS_REASON_SETSOCKOPT,   /* the probe said yes and this socket's setsockopt still failed before anything was changed */
    KTLS_REASON_ADVISORY,     /* the caller asked for userspace because of a known hole of this kernel */
    KTLS_REASON_NO_REKEY,     /* TLS 1.3 on a kernel without KeyUpdate, and on_old_kernel is KTLS_OLD_KERNEL_USERSPACE */
    KTLS_N_REASONS
};
KTLS_API const char *ktls_reason_name(enum ktls_reason reason);   /* "no-ulp", ... static */
KTLS_API const char *ktls_reason_remedy(enum ktls_reason reason); /* one sentence for the operator, or ""; static */

struct ktls_probe {
    int usable;              /* 1: at least one cipher works both ways */
    enum ktls_reason reason; /* when not usable */
    int err;                 /* errno behind the reason */
    /* 0 works, else the errno that setsockopt or the data test gave */
    int result[KTLS_N_VERSIONS][KTLS_N_CIPHERS][KTLS_N_DIRS];
    int rekey;         /* TLS 1.3 second TLS_TX/TLS_RX: 0 works, else errno (EBUSY before 6.14) */
    int expect_no_pad; /* TLS_RX_EXPECT_NO_PAD: 0 works, padded records too (EBADMSG: those not), else errno */
    char kernel[65];   /* uname release */
    int read_seq;      /* getsockopt(TLS_TX, TLS_RX) tells the record sequence numbers: 0 works, else errno */
};

/* What this kernel can, found by doing it: data is sent and received over a loopback TCP pair for every version, cipher and
 * direction (about 2 ms). The first call probes and caches; later calls copy. Not kept: an answer that came of a shortage (no
 * descriptors, no memory); the next call probes again. Thread-safe. 0, or -errno when no socket pair could be made (the result
 * then says not usable, with that errno). */
KTLS_API int ktls_probe(struct ktls_probe *ret);
/* Probes again (after modprobe). Connections made before are not touched. */
KTLS_API int ktls_probe_again(struct ktls_probe *ret);

struct ktls_advisory {
    const char *cve;    /* "CVE-2025-39682"; static */
    const char *effect; /* what can happen, one line for a log; static */
    int peer; /* 1: bytes of a peer are enough to corrupt kernel memory; userspace TLS avoids it. 0: a local process, a race */
    char fixed_in[16]; /* the first release of this kernel's stable branch that has the fix, "6.1.149"; "" when there is none */
};
/* The known holes of kernel TLS that a kernel has: at most cap of them in ret; returns how many there are, -EINVAL when release
 * is not understood. release: as uname gives it; NULL: the running kernel. version: uname's version field or Ubuntu's
 * /proc/version_signature, from which the upstream version of a distribution's kernel is read; NULL: the running kernel's, or
 * none. changelog: path of the kernel package's changelog, gzipped or not; a hole that it names, at or below the entry of the
 * version that runs, is closed. NULL: for the running kernel, /usr/share/doc/linux-image-RELEASE/changelog.gz where there is one.
 * Reads files, at most some 100 ms; any thread. Ranges: the CVE records of kernel.org. A distribution that ports fixes without
 * such a changelog has fewer holes than this says: a reason to warn, not to refuse. */
KTLS_API int ktls_kernel_advisories(const char *release, const char *version, const char *changelog, struct ktls_advisory *ret,
                                    int cap);

/* ---- Context ---- */

enum ktls_role { KTLS_SERVER = 0, KTLS_CLIENT = 1 };
enum ktls_policy {
    KTLS_POLICY_AUTO = 0, /* kernel where the probe says both directions work, else userspace */
    KTLS_POLICY_REQUIRE,  /* kernel or the handshake fails with KTLS_ENOKTLS */
    KTLS_POLICY_OFF,      /* userspace */
    KTLS_POLICY_TX        /* the kernel sends where the probe says that it can, userspace receives; else userspace */
};
/* TLS 1.3 on a kernel that cannot take a second key (before Linux 6.14): such a connection ends, in order, when the peer sends a
 * KeyUpdate or a key has protected its share of records. In userspace it goes on. */
enum ktls_old_kernel { KTLS_OLD_KERNEL_OFFLOAD = 0, KTLS_OLD_KERNEL_USERSPACE };
enum ktls_verify { KTLS_VERIFY_NONE = 0, KTLS_VERIFY_OPTIONAL, KTLS_VERIFY_REQUIRE };

/* Bits for ktls_ctx_opts.protocols. */
#define KTLS_PROTO_TLS1 1u
#define KTLS_PROTO_TLS1_1 2u
#define KTLS_PROTO_TLS1_2 4u
#define KTLS_PROTO_TLS1_3 8u

/* One certificate with its key, as files. key_pass may be NULL. */
struct ktls_keypair {
    const char *cert_file; /* PEM, leaf first, then the chain */
    const char *key_file;  /* PEM */
    const char *key_pass;  /* passphrase of key_file */
};
/* A certificate for clients that ask for a name (SNI, RFC 6066 3). name: a DNS name, or "*." and a DNS name for every name with
 * one label more (RFC 6125 6.4.3); letter case does not matter; IDNs in their ASCII form. A name may come several times, with
 * keys of different types. */
struct ktls_sni_cert {
    const char *name;
    struct ktls_keypair pair;
};
/* Where ChaCha20-Poly1305 stands in the order of suites. */
enum ktls_chacha {
    KTLS_CHACHA_AUTO = 0, /* a processor without AES instructions: as FIRST, unless ciphers or ciphersuites is set. Others: with
                             prefer_server_ciphers, a client that names it first gets it (it has no AES instructions) */
    KTLS_CHACHA_FIRST,    /* moved to the front; a server's order then wins over the client's */
    KTLS_CHACHA_LISTED    /* where the lists have it */
};
/* What of a verified client certificate is a user name. */
enum ktls_peer_user {
    KTLS_PEER_USER_OFF = 0,
    KTLS_PEER_USER_CN, /* the subject's common name; none if the subject has several */
    KTLS_PEER_USER_URI /* the URIs among the subject's alternative names, in order */
};

/* Zero-initialise, set `size`, fill what differs. All strings are copied; NULL or "" means not set. */
struct ktls_ctx_opts {
    size_t size; /* sizeof(struct ktls_ctx_opts): lets the library grow the struct */
    enum ktls_role role;
    enum ktls_policy policy;
    enum ktls_verify verify;    /* of the peer's certificate. Client: REQUIRE also checks the name given to ktls_conn_new */
    unsigned protocols;         /* KTLS_PROTO_* bits; 0: TLS 1.2 and 1.3 */
    const char *cert_file;      /* PEM, leaf first, then the chain. A server must have one */
    const char *key_file;       /* PEM */
    const char *key_pass;       /* passphrase of key_file; wiped after use */
    const char *ca_file;        /* PEM trust anchors; with neither this nor ca_dir: the system's */
    const char *ca_dir;         /* hashed directory */
    const char *dh_params_file; /* PEM, TLS 1.2 DHE; NULL: automatic */
    const char *ciphers;        /* OpenSSL list, TLS 1.2 and below */
    const char *ciphersuites;   /* colon list, TLS 1.3 */
    int prefer_server_ciphers;
    int no_session_cache;        /* 1: no resumption (no tickets, no cache) */
    int session_cache_size;      /* TLS 1.2 entries; 0: 20480 */
    int session_cache_timeout_s; /* 0: 300 */
    int num_tickets;             /* TLS 1.3 tickets after a full handshake, 0..8; -1: 2. 0 also: no tickets in TLS 1.2 */
    /* Server: the keys its tickets are under (below). NULL: the context makes a ring of its own, in memory. Borrowed; the
     * context takes a reference. */
    struct ktls_tickets *tickets;
    /* Client: resumption. 0: none. 1..8: sessions are kept for connections that name their peer with ktls_conn_set_peer(), and
     * so many tickets are taken in from each connection after the hand-over; until then OpenSSL's object for the
     * connection, which holds its secrets, stays in memory. */
    int session_reuse;
    int session_reuse_peers;    /* peers remembered, least recently used goes first; 0: 64; at most 4096 */
    int session_reuse_per_peer; /* sessions kept for each, the oldest goes first; 0: 8; at most 1024 */
    /* Certificates beside cert_file's, each with a key of another type (RSA beside ECDSA; ML-DSA from OpenSSL 3.5): the peer's
     * signature algorithms choose. */
    const struct ktls_keypair *more_certs;
    int n_more_certs;
    /* Server: certificates by name. A name that matches none, or no name, gets cert_file and more_certs. An exact name wins over
     * a wildcard. */
    const struct ktls_sni_cert *sni_certs;
    int n_sni_certs;
    /* PEM, one CRL or more. The peer's chain is checked against them wholly: a CA of the chain without a CRL here, or with one
     * that is out of date, makes the verification fail (RFC 5280 6.3). */
    const char *crl_file;
    /* Server: OCSP responses, DER (RFC 6960), each given to whichever own certificates it is about; stapled while in date. */
    const char *const *ocsp_files;
    int n_ocsp_files;
    /* Key exchange groups, colon list in OpenSSL's names, best first; NULL: OpenSSL's own list (X25519MLKEM768 first from OpenSSL
     * 3.5 on). A name that this OpenSSL does not know is an error, or left out if a '?' stands before it. */
    const char *groups;
    enum ktls_chacha chacha;
    enum ktls_peer_user peer_user; /* server: fills ktls_conn_info.peer_user */
    enum ktls_reason off_reason;   /* KTLS_POLICY_OFF: the reason that is told; 0: KTLS_REASON_POLICY */
    /* FOR DEBUGGING ONLY: every connection's secrets are appended to this file (SSLKEYLOGFILE format, both modes); who reads it
     * can decrypt them. Made with mode 0600; refused when it is there and others may read it, or is not a regular file. */
    const char *keylog_file;
    /* Records one key protects before it is changed (see "The limit on records"); lowers the suite's own limit. 0: that one. */
    uint64_t rekey_after_records;
    enum ktls_old_kernel on_old_kernel;
    unsigned max_key_updates_per_s; /* received without cause, before the connection is ended; 0: 100 */
};

/* Makes a context; files are read and checked (key belongs to certificate, PEM is whole) now. *ret is untouched on failure and
 * err (errlen bytes, NUL-terminated, may be NULL) says what was wrong with which file; no key material in it.
 * 0, KTLS_ECONFIG, -ENOMEM. The caller owns one reference. */
KTLS_API int ktls_ctx_new(const struct ktls_ctx_opts *opts, struct ktls_ctx **ret, char *err, size_t errlen);
KTLS_API struct ktls_ctx *ktls_ctx_ref(struct ktls_ctx *ctx);   /* connections hold a reference of their own */
KTLS_API struct ktls_ctx *ktls_ctx_unref(struct ktls_ctx *ctx); /* NULL is fine; always returns NULL */

/* Client: forgets the sessions kept for resumption, wiped. peer as in ktls_conn_set_peer(); NULL: all. Any thread. */
KTLS_API void ktls_ctx_forget_sessions(struct ktls_ctx *ctx, const char *peer);

/* ---- Keys of session tickets (RFC 5077, RFC 8446 4.6.1), server ----
 *
 * A ring of keys under which a server's tickets are sealed: AES-256-CBC and HMAC-SHA256. The first key seals, all of them open; a
 * ticket under an older one is renewed. A ring outlives the contexts that use it, so tickets stay good over a change of
 * certificate. Counted references; all calls from any thread; keys that are dropped are wiped. */
#define KTLS_TICKET_KEYS_MAX 64 /* in a ring */

struct ktls_tickets_opts {
    size_t size; /* sizeof(struct ktls_tickets_opts) */
    /* NULL or "": keys are made in memory: tickets end with the process. Else a file, or a directory of files, of 80-byte keys:
     * 16 bytes name, 32 HMAC-SHA256, 32 AES-256 (what nginx and HAProxy take). A file holds one or several, raw or one per line
     * in base64. The first of the file seals; of a directory, the first of the file changed last (same time: the greater name).
     * Files whose name begins with a dot are not looked at. A key that is no longer there is dropped at once. */
    const char *path;
    int rotation_s; /* keys in memory: a new one every so many seconds; 0: 3600 */
    int lifetime_s; /* how long a ticket may live: an older key is kept so long after it last sealed; 0: 300 */
};
/* 0; KTLS_ECONFIG (a file is missing, empty, of the wrong length or holds a key twice: err says which); -ENOMEM. The caller owns
 * one reference. *ret is untouched on failure; no key material in err (errlen bytes, may be NULL). */
KTLS_API int ktls_tickets_new(const struct ktls_tickets_opts *opts, struct ktls_tickets **ret, char *err, size_t errlen);
KTLS_API struct ktls_tickets *ktls_tickets_ref(struct ktls_tickets *t);
KTLS_API struct ktls_tickets *ktls_tickets_unref(struct ktls_tickets *t); /* NULL is fine; always NULL */
/* What is due: a new key, the end of an old one, a look (stat) at the files. Handshakes do it by themselves, at most once a
 * second; a call now and then makes it happen without them, and tells. 1: the keys have changed since the last call;
 * 0: they have not; KTLS_ECONFIG: the files changed and are bad, the keys are as before, err says why (told once); -ENOMEM. */
KTLS_API int ktls_tickets_poll(struct ktls_tickets *t, char *err, size_t errlen);
/* Reads the files now. With keys in memory: begins a new key now. 0; KTLS_ECONFIG, -ENOMEM, -EIO (no random bytes): the keys
 * are as before. */
KTLS_API int ktls_tickets_reload(struct ktls_tickets *t, char *err, size_t errlen);
/* Changes the times (0: as above); keys stay. */
KTLS_API void ktls_tickets_set_times(struct ktls_tickets *t, int rotation_s, int lifetime_s);
KTLS_API int ktls_tickets_count(struct ktls_tickets *t); /* keys in the ring now, at least 1 */

struct ktls_cert_info {
    char subject[256]; /* RFC 2253 one line */
    char issuer[256];
    char serial[80];    /* hex */
    int64_t not_before; /* seconds since the epoch */
    int64_t not_after;
};
/* The context's own certificate. 0 or -ENOENT when it has none. */
KTLS_API int ktls_ctx_cert_info(const struct ktls_ctx *ctx, struct ktls_cert_info *ret);

enum ktls_ocsp {
    KTLS_OCSP_NONE = 0,
    KTLS_OCSP_STAPLED, /* clients that ask get it */
    KTLS_OCSP_STALE    /* out of date, or not yet in date: not sent */
};
struct ktls_cert_facts {
    struct ktls_cert_info info;
    char sni_name[256];  /* "": cert_file or one of more_certs */
    char key_type[32];   /* "EC", "RSA", "ED25519", "ML-DSA-65" ... */
    const char *file;    /* as long as ctx */
    int chain_len;       /* certificates behind the leaf */
    enum ktls_ocsp ocsp; /* now */
    int64_t ocsp_until;  /* nextUpdate of the response, seconds since the epoch; 0: none given */
};
/* Certificate i of the context: 0 is cert_file's, then more_certs, then sni_certs sorted by name. 0 or -ENOENT past the last. */
KTLS_API int ktls_ctx_cert_at(const struct ktls_ctx *ctx, int i, struct ktls_cert_facts *ret);
/* What was found when the context was made and is no error: a certificate that has expired, an OCSP response out of date ... One
 * line for a log, valid as long as ctx; NULL past the last. */
KTLS_API const char *ktls_ctx_warning(const struct ktls_ctx *ctx, int i);

/* When the first of the CRLs of crl_file goes out of date, seconds since the epoch: from then on peers of that CA are refused. 0:
 * no CRL, or none that says. */
KTLS_API int64_t ktls_ctx_crl_until(const struct ktls_ctx *ctx);

/* Fingerprints of the files the context was made from (device, inode, size, modification time, mode, owner; of a directory also
 * those of its entries), not of their contents. */
struct ktls_files_state {
    uint64_t loaded;   /* taken just before each file was read */
    uint64_t now;      /* the same files now; differs from `loaded`: something has changed since */
    char changed[256]; /* the first file that differs, "" when none does */
};
/* For hot reload: look now and then, make a new context when `now` differs from `loaded` and has stopped changing, and compare
 * the new context's own state after it is made: files written meanwhile show there. Calls stat(2) for each file: may block on a
 * network file system. Any thread. */
KTLS_API void ktls_ctx_files(const struct ktls_ctx *ctx, struct ktls_files_state *ret);
/* 1: this processor has instructions for AES-GCM (x86: AES and carry-less multiply; ARMv8: AES and PMULL; others: taken for yes).
 */
KTLS_API int ktls_cpu_has_aes(void);

/* ---- Connection ---- */

enum ktls_mode {
    KTLS_MODE_NONE = 0,
    KTLS_MODE_KERNEL,
    KTLS_MODE_USER,
    KTLS_MODE_TX /* half offload: the kernel encrypts what is sent, userspace decrypts what comes */
};

/* fd: connected, non-blocking stream socket; must outlive the conn. server_name: client only, DNS name or address literal for SNI
 * (never sent for addresses, RFC 6066 3) and for the check of the certificate's name; NULL: neither. 0, -ENOMEM, -EINVAL. */
KTLS_API int ktls_conn_new(struct ktls_ctx *ctx, int fd, const char *server_name, struct ktls_conn **ret);
/* Client: send server_name as SNI but do not check the certificate's name. Before the handshake. */
KTLS_API void ktls_conn_set_no_name_check(struct ktls_conn *conn);
/* Client with session_reuse: says whom fd is connected to ("host:port", any text), and so whose session may be resumed and where
 * new ones are kept. A session is resumed only with the same server_name and the same name check. TLS 1.3 sessions are used
 * once (RFC 8446 C.4), TLS 1.2 ones until they expire. Elsewhere it does nothing. Before the handshake. 0, -EINVAL (too late),
 * -ENOMEM. */
KTLS_API int ktls_conn_set_peer(struct ktls_conn *conn, const char *peer);
/* Wipes the secrets, frees. NULL is fine; always NULL. Does not send close_notify, does not close the fd. */
KTLS_API struct ktls_conn *ktls_conn_free(struct ktls_conn *conn);

/* Drives the handshake and, at its end, the hand-over. Reads no byte beyond the peer's last handshake record: what the peer
 * sent after it is still in the socket when this returns KTLS_DONE. KTLS_DONE, KTLS_WANT_READ, KTLS_WANT_WRITE, or an error
 * (KTLS_EALERT, KTLS_EPROTOCOL, KTLS_EVERIFY, KTLS_ENOTTLS, KTLS_ENOKTLS, -ECONNRESET, -EPIPE ...); after an error only
 * ktls_conn_error() and ktls_conn_free() make sense. A fatal alert was already sent where RFC 8446 6.2 wants one. */
KTLS_API int ktls_handshake(struct ktls_conn *conn);

KTLS_API enum ktls_mode ktls_conn_mode(const struct ktls_conn *conn);

struct ktls_conn_info {
    enum ktls_mode mode;
    enum ktls_reason reason; /* why userspace */
    int reason_errno;        /* errno behind KTLS_REASON_SETSOCKOPT and such, else 0 */
    const char *version;     /* "TLSv1.3"; static */
    const char *cipher;      /* OpenSSL/IANA name, "TLS_AES_128_GCM_SHA256"; static */
    enum ktls_version ver_id;
    enum ktls_cipher cipher_id;
    int resumed;               /* 1: abbreviated handshake / PSK */
    int peer_cert;             /* 1: the peer gave a certificate and it verified */
    char peer_subject[256];    /* "" without */
    char server_name[256];     /* server: SNI the client sent, or "" */
    uint64_t handshake_us;     /* first call to done */
    uint64_t rx_seq0, tx_seq0; /* record sequence numbers at the hand-over (diagnosis, tests) */
    uint64_t control_records;  /* control records met since */
    uint64_t key_updates_in, key_updates_out;
    char peer_user[256];     /* first user name of the peer's verified certificate, by ktls_ctx_opts.peer_user; "" without */
    char group[32];          /* key exchange group, "x25519", "X25519MLKEM768"; "" for a key exchange without one */
    int alert_in, alert_out; /* last alert received and sent, -1: none */
    uint64_t records_tx, records_rx; /* under the present keys, as counted: at least as many as there were */
    uint64_t rekeys_by_limit;        /* KeyUpdates of ours because a key had protected its share, either direction's */
};
/* 0, or -EAGAIN before the handshake is done (what is known is filled in). */
KTLS_API int ktls_conn_info(const struct ktls_conn *conn, struct ktls_conn_info *ret);
/* User name i that the peer's verified certificate gives, by ktls_ctx_opts.peer_user; URIs may be several, at most 16. UTF-8 of
 * the certificate's choice, at most 255 bytes, no NUL in it; anything else: escape it before it is shown. NULL past the last.
 * Valid as long as conn. */
KTLS_API const char *ktls_conn_peer_user(const struct ktls_conn *conn, int i);

struct ktls_error {
    int err;        /* the result that was returned */
    int alert;      /* alert sent or received, -1 for none */
    int alert_sent; /* 1: we sent it, 0: the peer did */
    char text[256]; /* one line for a log: no key material, no unescaped peer bytes */
};
/* The last error; a static "no error" before any. Valid until the next call on conn. */
KTLS_API const struct ktls_error *ktls_conn_error(const struct ktls_conn *conn);

/* ---- After the hand-over, KTLS_MODE_KERNEL ----
 *
 * KTLS_MODE_TX: what is about sending holds for it too. Control records come out of ktls_read(), which acts upon them:
 * ktls_flush() after it, and no data before that returned KTLS_DONE. ktls_control() is not for it (-EINVAL). */

/* recv gave EIO: the next record is not data. Takes in the control records at the head of the stream (alerts, KeyUpdate,
 * NewSessionTicket), bounded to 32 a call. KTLS_DONE: read on. KTLS_EOF: close_notify. KTLS_WANT_WRITE: an answer (KeyUpdate)
 * is due: poll for writing, call ktls_flush(), and send no data before it returned KTLS_DONE. KTLS_EALERT, KTLS_EPROTOCOL,
 * KTLS_EKEYUPDATE, -errno: end the connection (the alert, if one is due, was sent). */
KTLS_API int ktls_control(struct ktls_conn *conn);
/* Finishes what ktls_control() or ktls_key_update() left unsent. KTLS_DONE, KTLS_WANT_WRITE, -errno. */
KTLS_API int ktls_flush(struct ktls_conn *conn);
/* Sends a KeyUpdate and changes the sending key. request_peer: ask for the peer's too. Not between a partly sent MSG_MORE
 * record and its end. KTLS_DONE, KTLS_WANT_WRITE, -EOPNOTSUPP (TLS 1.2, or a kernel that cannot rekey), -errno. */
KTLS_API int ktls_key_update(struct ktls_conn *conn, int request_peer);
/* What an errno of recv/send on a kernel-TLS socket means: EBADMSG authentication failed, EMSGSIZE record too long, EINVAL bad
 * version, EKEYEXPIRED rekey pending. Sends the alert that is due; returns the KTLS_E* or -errno to report. err 0: recv returned
 * 0; gives KTLS_EOF after a close_notify; KTLS_DONE when it is not the end (data records of length zero stood before a control
 * record): read on; else KTLS_ETRUNCATED, counted. */
KTLS_API int ktls_io_error(struct ktls_conn *conn, int err);

/* ---- The limit on records under one key ---- */

/* AES-GCM and AES-CCM are safe for so many records under one key (RFC 9846 5.5; RFC 9147 4.5.3 for CCM) and the kernel does not
 * count them. The library does, if told what went through the socket, and changes the key in time: at 15/16 of 2^24 records (GCM)
 * or 2^22 (CCM), or of rekey_after_records. For the sending direction that is our KeyUpdate; for the receiving one a KeyUpdate
 * that asks for the peer's. ktls_read() and ktls_write() count by themselves.
 *
 * To be called after each send/recv on the fd with the bytes it took or gave: a few instructions, no system call. Nonzero: call
 * ktls_check_limits() before the next send. Where userspace does the work (both directions in user mode, receiving in
 * KTLS_MODE_TX) they add nothing, and say whether there is need of it all the same. */
KTLS_API int ktls_count_tx(struct ktls_conn *conn, size_t bytes);
KTLS_API int ktls_count_rx(struct ktls_conn *conn, size_t bytes);
/* Looks closer, at both directions: asks the kernel for the exact number (the count is an upper bound) and, where a key has had
 * its share, changes it. Not between a partly sent MSG_MORE record and its end. KTLS_DONE: go on. KTLS_WANT_WRITE: the KeyUpdate
 * is due: as from ktls_control(). KTLS_ERECORDLIMIT: the key cannot be changed (TLS 1.2, a kernel before 6.14, or the peer does
 * not follow): stop reading, send what must still go out (there is room for 2^20 records), then ktls_shutdown() and close; every
 * later call says the same. Who uses ktls_read() or ktls_write() without this call gets KTLS_ERECORDLIMIT from them, after they
 * have sent close_notify. -ENOTCONN before the handshake is done; -errno. Every mode. */
KTLS_API int ktls_check_limits(struct ktls_conn *conn);

/* Kernel mode and KTLS_MODE_TX, for several writing threads or sends in flight (io_uring). Our KeyUpdate must be the last record
 * under the old key, so no send may be under way when it goes out. Each send stands between a begin and an end; any thread. When
 * a KeyUpdate, or close_notify, is due, begin admits nobody, and the last end sends it. ktls_tx_begin: 0; -EAGAIN: not now,
 * poll(2) for POLLOUT and call again; -EPIPE: the sending side is closed; -EINVAL: the kernel does not send; the connection's
 * error. ktls_tx_end: bytes sent, 0 if none; counts them. KTLS_DONE; KTLS_WANT_WRITE: what is due did not fit the socket, the
 * next begin tries again (or ktls_flush()); KTLS_ERECORDLIMIT as above (the send itself counts); the connection's error. While
 * sends are in flight, ktls_control(), ktls_key_update(), ktls_check_limits() and ktls_shutdown() return KTLS_WANT_WRITE instead
 * of sending. Not to be mixed with ktls_write().
 *
 * A send may as well be another process's, and many: a begin, fork(2), and the child writes to the socket with write, send or
 * sendfile until it ends; then an end with all the bytes it wrote. Meanwhile the parent sends nothing, and goes on receiving:
 * KTLS_WANT_WRITE of the four calls above does not stop that, what is due is sent by the end. The child calls nothing of this
 * library for that connection. It must not write more than one key may protect: 2^24 records of AES-GCM are 256 GiB when they are
 * full, of AES-CCM a quarter of that (the parent may rekey before the begin, and ktls_tx_end() says when it was too much). */
KTLS_API int ktls_tx_begin(struct ktls_conn *conn);
KTLS_API int ktls_tx_end(struct ktls_conn *conn, size_t bytes);

/* ---- Every mode ---- */

/* Sends close_notify, once; later calls do nothing. KTLS_DONE, KTLS_WANT_WRITE, -errno. Call before close(2). */
KTLS_API int ktls_shutdown(struct ktls_conn *conn);

/* Non-blocking read/write over the fd, control records handled. Bytes > 0; 0: end of stream after close_notify (read);
 * -EAGAIN (poll for POLLIN when reading, POLLOUT when writing, or what ktls_conn_wants() says); errors as above;
 * KTLS_ETRUNCATED: FIN without close_notify. In kernel mode they are recv/sendmsg plus ktls_control(); in KTLS_MODE_TX writing is
 * sendmsg, and only reading takes a copy.
 * In user mode a write that gave -EAGAIN has begun a record: the next write must begin with the same bytes, at least as many (the
 * memory may differ; more may follow), else -EINVAL. */
KTLS_API ssize_t ktls_read(struct ktls_conn *conn, void *buf, size_t len);
KTLS_API ssize_t ktls_write(struct ktls_conn *conn, const void *buf, size_t len);
KTLS_API ssize_t ktls_writev(struct ktls_conn *conn, const struct iovec *iov, int iovcnt);
KTLS_API int ktls_conn_wants(const struct ktls_conn *conn); /* KTLS_WANT_READ or KTLS_WANT_WRITE after -EAGAIN */
/* Bytes taken out of the socket and not read, decrypted or in whole records: a poll on the fd would not show them. At least
 * one when ktls_read() has something to say. Always 0 in kernel mode. */
KTLS_API size_t ktls_pending(const struct ktls_conn *conn);

/* ---- KTLS_MODE_USER and KTLS_MODE_TX: the caller moves the ciphertext ---- */

/* Detaches the connection from its fd: from now on ktls_read() takes from what ktls_mem_input() gave and ktls_write*() adds to
 * what ktls_mem_output() shows (it never gives -EAGAIN: the caller bounds the queue by ktls_mem_output's length). In KTLS_MODE_TX
 * this is about receiving only: the fd goes on sending, alerts and KeyUpdates included, and ktls_mem_output() shows nothing. 0,
 * -EINVAL in kernel mode or before the handshake is done, -ENOMEM. */
KTLS_API int ktls_mem_start(struct ktls_conn *conn);
/* Ciphertext from the peer: wholly taken (copied). NULL with len 0: the peer closed. 0 or -ENOMEM. Read until -EAGAIN after each
 * call. */
KTLS_API int ktls_mem_input(struct ktls_conn *conn, const void *data, size_t len);
/* The same without the copy: the bytes stay the caller's and are written to while they are decrypted, until ktls_mem_keep(),
 * which copies what ktls_read() has left of them. Both 0 or -ENOMEM; then bytes are lost, and the connection must end. */
KTLS_API int ktls_mem_lend(struct ktls_conn *conn, void *data, size_t len);
KTLS_API int ktls_mem_keep(struct ktls_conn *conn);
/* Ciphertext to send: *ret_data valid until the next call that writes. Returns its length. */
KTLS_API size_t ktls_mem_output(struct ktls_conn *conn, const void **ret_data);
KTLS_API void ktls_mem_sent(struct ktls_conn *conn, size_t len); /* len bytes of it went out */

/* ---- To another process ---- */

/* Most that ktls_export() writes, in bytes. A connection without a half-read session ticket or record takes some 250. */
#define KTLS_EXPORT_MAX 53248

/* Writes what a new owner of the socket needs beside the descriptor into buf: role, version, suite, the two traffic secrets (TLS
 * 1.3), what is closed, counts, names for ktls_conn_info(), a half-read control message. The descriptor itself travels by
 * SCM_RIGHTS, fork or exec. Returns the bytes written; with buf NULL, the bytes that are needed now, and changes nothing.
 * On success the connection is given away: it sends nothing any more, no close_notify either, its calls give -ESTALE
 * (ktls_key_update(): -EPIPE), and only ktls_conn_free(), ktls_conn_info() and close(fd) remain.
 * THE BUFFER HOLDS KEYS: whoever has it can read the connection. Give it to nobody but the new owner, and ktls_wipe() it on both
 * sides. -EAGAIN: a KeyUpdate or close_notify is due, ktls_flush() first; in user mode and KTLS_MODE_TX also: a write is to be
 * repeated, ciphertext to be sent (ktls_mem_output()), or data to be read (ktls_pending()); -EOPNOTSUPP: a suite whose records
 * are OpenSSL's; -ENOBUFS: cap is too small; -ENOTCONN: before the handshake is done; -ENOMEM; the
 * connection's own error when it has failed. */
KTLS_API ssize_t ktls_export(struct ktls_conn *conn, void *buf, size_t cap);
/* The connection of a socket and the state that ktls_export() wrote, in this or another process. ctx: of the same role; its
 * certificates are not looked at. The state is checked throughout, and where the kernel does the records the socket must be
 * under kernel TLS with the state's version and cipher; that the two belong together is the caller's to see to. The conn is in
 * the mode it was in; memory mode ends with the export, and ktls_mem_start() begins it again. Session tickets that come after
 * this are counted and dropped (OpenSSL tells nobody the secret behind them). buf stays the caller's: ktls_wipe() it. 0; -EINVAL:
 * not such a state, or of the other role; -EPROTONOSUPPORT: written by a library with another format; -EPROTO: the socket has no
 * such keys; -EBADF; -ENOMEM. *ret is untouched on failure. */
KTLS_API int ktls_import(struct ktls_ctx *ctx, int fd, const void *buf, size_t len, struct ktls_conn **ret);
/* Overwrites len bytes so that the compiler keeps it (OPENSSL_cleanse). */
KTLS_API void ktls_wipe(void *buf, size_t len);

/* ---- Counters of the process ---- */

struct ktls_stats {
    uint64_t handshakes_ok[2]; /* by role */
    uint64_t handshakes_resumed[2];
    uint64_t handshakes_failed[2];
    uint64_t failed_alert, failed_protocol, failed_verify, failed_not_tls, failed_reset, failed_other;
    uint64_t mode_kernel, mode_user; /* connections that came out so */
    uint64_t version[5];             /* TLSv1, 1.1, 1.2, 1.3, other */
    uint64_t reason[KTLS_N_REASONS]; /* fallbacks by reason */
    uint64_t control_records;        /* met after the hand-over */
    uint64_t alerts_in, alerts_out;  /* close_notify included */
    uint64_t key_updates_in, key_updates_out;
    uint64_t tickets_in;                /* NewSessionTicket after the hand-over */
    uint64_t closed_key_update;         /* ended because the kernel cannot rekey */
    uint64_t truncated;                 /* FIN without close_notify */
    uint64_t sessions_kept;             /* client: sessions put by for resumption */
    uint64_t sessions_offered;          /* client: handshakes that offered one */
    uint64_t tickets_unknown;           /* server: tickets under a key that is not in the ring */
    uint64_t tickets_refused;           /* server: tickets opened but too old, or whose client certificate has expired */
    uint64_t handoffs_out, handoffs_in; /* ktls_export(), ktls_import() */
    uint64_t keylog_lines;              /* written to ktls_ctx_opts.keylog_file */
    uint64_t rekeys_by_limit;           /* KeyUpdates we sent because a key had protected its share of records */
    uint64_t closed_record_limit;       /* connections to be ended because such a key could not be changed */
    uint64_t key_update_floods;         /* connections ended because the peer sent KeyUpdates without cause and end */
    uint64_t mode_tx;                   /* connections that came out as KTLS_MODE_TX */
};
KTLS_API void ktls_stats(struct ktls_stats *ret); /* relaxed reads, any thread */

#ifdef __cplusplus
}
#endif
#endif
