/*
 * The handshake and the hand-over.
 *
 * Place in the flow: ktls_handshake() is called by the connection's thread whenever the socket is ready, until it returns
 * KTLS_DONE.
 *
 *   1. attach      TCP_ULP "tls", when the policy and the probe allow the kernel. Without keys it changes nothing; it is done
 * first because it needs an ESTABLISHED socket: a peer that sends its data and its FIN behind the Finished would defeat it later.
 *   2. handshake   SSL_do_handshake() over the record-exact BIO (ktls_wire.c). On the way the callbacks here collect
 *                    - the traffic secrets (TLS 1.3), from the keylog callback;
 *                    - the number of records under the present key, from the message callback: +1 for each record header, 0 again
 * at a ChangeCipherSpec (TLS 1.2) and when the traffic secret of that direction appears (TLS 1.3). So session tickets are
 * counted, however many OpenSSL sent.
 *   3. settle      the BIO takes out of the socket exactly what OpenSSL was given.
 *   4. decide      kernel or userspace, from the cached probe, before the first key is set: TLS_RX cannot be undone.
 *   5. keys        to the kernel: RX, then TX. RX refused: nothing has changed, userspace. TX refused: the connection cannot go
 * on. Half offload: TX to the kernel, RX to a record layer of ours; userspace: both to that (ktls_user.c).
 *   6. free        the SSL object and its buffers; two traffic secrets stay for KeyUpdate. A client that resumes keeps the object
 * a little longer (ktls_resume.c). A suite of which only OpenSSL knows the records keeps it for good.
 *
 * Rejected: SSL_OP_ENABLE_KTLS, OpenSSL's own use of kernel TLS. It keeps the SSL object, needs SSL_read/SSL_write around every
 * call, and cannot rekey.
 */
#include "ktls_internal.h"
#include "ktls_usdt.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdlib.h>
#include <string.h>

/* ---- Callbacks ---- */

static int hex_digit(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

static size_t parse_hex(const char *s, uint8_t *out, size_t cap) {
    size_t n = 0;
    while (n < cap) {
        int hi = hex_digit(s[0]), lo = hi < 0 ? -1 : hex_digit(s[1]);
        if (lo < 0) break;
        out[n++] = (uint8_t)(hi << 4 | lo);
        s += 2;
    }
    return n;
}

/* "CLIENT_TRAFFIC_SECRET_0 <client random> <secret>"; OpenSSL wipes the line itself. */
void ktls_on_keylog(const SSL *ssl, const char *line) {
    struct ktls_conn *conn = SSL_get_app_data(ssl);
    static const char *const label[2] = { "SERVER_TRAFFIC_SECRET_0 ", "CLIENT_TRAFFIC_SECRET_0 " }; /* by enum ktls_role */
    if (!conn || conn->mode != KTLS_MODE_NONE) return;
    if (conn->ctx->keylog_fd >= 0) ktls_keylog_line(conn->ctx->keylog_fd, line);
    for (int role = 0; role < 2; role++) {
        size_t len = strlen(label[role]);
        if (strncmp(line, label[role], len) != 0) continue;
        const char *secret = strchr(line + len, ' ');
        int dir = role == (int)conn->ctx->role ? KTLS_TX : KTLS_RX;
        conn->seq[dir] = 0;
        if (secret) conn->secret_len[dir] = (uint8_t)parse_hex(secret + 1, conn->secret[dir], KTLS_SECRET_MAX);
    }
}

/* OpenSSL is about to send something, which clears errno: an alert, it may be, because memory ran out. */
static void note_no_memory(struct ktls_conn *conn, int write_p) {
    if (write_p && errno == ENOMEM) conn->no_memory = true;
}

static void on_message(int write_p, int version, int content_type, const void *buf, size_t len, SSL *ssl, void *arg) {
    struct ktls_conn *conn = arg;
    (void)version, (void)ssl;
    if (content_type != SSL3_RT_HEADER || len < 1) return;
    note_no_memory(conn, write_p);
    uint64_t *seq = &conn->seq[write_p ? KTLS_TX : KTLS_RX];
    if (*(const uint8_t *)buf == KTLS_CT_CHANGE_CIPHER_SPEC)
        *seq = 0;
    else
        ++*seq;
}

/* After the handshake where OpenSSL does the records: what is counted elsewhere is counted here too. */
static void on_user_message(int write_p, int version, int content_type, const void *buf, size_t len, SSL *ssl, void *arg) {
    struct ktls_conn *conn = arg;
    (void)version, (void)ssl;
    if (content_type == SSL3_RT_HEADER) {
        note_no_memory(conn, write_p);
        ktls_meter_add(conn, write_p ? KTLS_TX : KTLS_RX, 1);
    }
    if (content_type != SSL3_RT_HANDSHAKE || len < 1) return;
    uint8_t type = *(const uint8_t *)buf;
    int asks = len > 4 ? ((const uint8_t *)buf)[4] : 0;
    if (type == SSL3_MT_KEY_UPDATE && write_p) {
        conn->key_updates_out++;
        KTLS_COUNT(key_updates_out);
        KTLS_PROBE3(rekey__out, conn, conn->fd, asks);
        ktls_meter_reset(conn, KTLS_TX);
    } else if (type == SSL3_MT_KEY_UPDATE) {
        conn->key_updates_in++;
        KTLS_COUNT(key_updates_in);
        KTLS_PROBE3(rekey__in, conn, conn->fd, asks);
        /* OpenSSL takes KeyUpdates for as long as there are any: it is made to come back. */
        if (ktls_key_update_flood(conn)) conn->flooded = conn->wire->halted = true;
        ktls_meter_reset(conn, KTLS_RX);
    } else if (type == SSL3_MT_NEWSESSION_TICKET && !write_p) {
        KTLS_COUNT(tickets_in);
    }
}

void ktls_on_info(const SSL *ssl, int where, int ret) {
    struct ktls_conn *conn = SSL_get_app_data(ssl);
    if (!conn || !(where & SSL_CB_ALERT)) return;
    if (where & SSL_CB_READ) {
        conn->alert_in = ret & 0xff;
        KTLS_COUNT(alerts_in);
        KTLS_PROBE3(alert__in, conn, conn->fd, conn->alert_in);
    } else {
        conn->alert_out = ret & 0xff;
        KTLS_COUNT(alerts_out);
        KTLS_PROBE3(alert__out, conn, conn->fd, conn->alert_out);
        /* After its warning OpenSSL would read on, over any number of such requests: it is made to come back. */
        if (conn->mode == KTLS_MODE_USER && conn->alert_out == KTLS_ALERT_NO_RENEGOTIATION)
            conn->renegotiated = conn->wire->halted = true;
    }
}

/* ---- Facts ---- */

enum ktls_cipher ktls_classify_cipher(const SSL_CIPHER *c) {
    const char *name = SSL_CIPHER_get_name(c);
    if (strstr(name, "CCM8") || strstr(name, "CCM_8")) return KTLS_CIPHER_OTHER; /* same nid, a tag the kernel does not know */
    switch (SSL_CIPHER_get_cipher_nid(c)) {
    case NID_aes_128_gcm:
        return KTLS_AES_128_GCM;
    case NID_aes_256_gcm:
        return KTLS_AES_256_GCM;
    case NID_chacha20_poly1305:
        return KTLS_CHACHA20_POLY1305;
    case NID_aes_128_ccm:
        return KTLS_AES_128_CCM;
    default:
        return KTLS_CIPHER_OTHER;
    }
}

static char *subject_of(X509 *x) {
    BIO *b = BIO_new(BIO_s_mem());
    char *copy = NULL, *text;
    if (b && X509_NAME_print_ex(b, X509_get_subject_name(x), 0, XN_FLAG_RFC2253) >= 0) {
        long len = BIO_get_mem_data(b, &text);
        copy = strndup(len > 0 ? text : "", len > 255 ? 255 : (size_t)len);
    }
    BIO_free(b);
    return copy;
}

/* Who the peer is decides what it may do: without memory for that the connection ends. 0, -ENOMEM. */
static int note_peer(struct ktls_conn *conn) {
    X509 *x = SSL_get0_peer_certificate(conn->ssl);
    if (x && conn->ctx->verify != KTLS_VERIFY_NONE && SSL_get_verify_result(conn->ssl) == X509_V_OK) {
        conn->peer_cert = true;
        conn->peer_subject = subject_of(x);
        if (!conn->peer_subject || ktls_peer_note(conn, x) < 0) return -ENOMEM;
    }
    const char *sni = conn->ctx->role == KTLS_SERVER ? SSL_get_servername(conn->ssl, TLSEXT_NAMETYPE_host_name) : NULL;
    return !sni || (conn->name = strndup(sni, 255)) ? 0 : -ENOMEM;
}

static void note_facts(struct ktls_conn *conn) {
    const SSL_CIPHER *c = SSL_get_current_cipher(conn->ssl);
    conn->handshake_us = (ktls_now_ns() - conn->started_ns) / 1000;
    conn->ssl_version = SSL_version(conn->ssl);
    conn->version = conn->ssl_version == TLS1_3_VERSION ? KTLS_TLS13 : KTLS_TLS12;
    conn->version_name = SSL_get_version(conn->ssl);
    conn->cipher = ktls_classify_cipher(c);
    conn->suite = SSL_CIPHER_get_protocol_id(c);
    conn->cipher_name = SSL_CIPHER_get_name(c);
    conn->resumed = SSL_session_reused(conn->ssl) == 1;
    int group = SSL_get_negotiated_group(conn->ssl);
    conn->group = group > 0 ? SSL_group_to_name(conn->ssl, group) : NULL;
    switch (conn->ssl_version) {
    case TLS1_VERSION:
        KTLS_COUNT(version[0]);
        break;
    case TLS1_1_VERSION:
        KTLS_COUNT(version[1]);
        break;
    case TLS1_2_VERSION:
        KTLS_COUNT(version[2]);
        break;
    case TLS1_3_VERSION:
        KTLS_COUNT(version[3]);
        break;
    default:
        KTLS_COUNT(version[4]);
        break;
    }
}

/* ---- The decision ---- */

/* The directions that the policy wants in the kernel: 0, or why one of them cannot be. row: by enum ktls_dir. */
static int probe_err(const struct ktls_conn *conn, const int *row) {
    if (conn->ctx->policy == KTLS_POLICY_TX) return row[KTLS_TX];
    return row[KTLS_RX] ? row[KTLS_RX] : row[KTLS_TX];
}

static bool can_send_some(const struct ktls_probe *probe) {
    for (int v = 0; v < KTLS_N_VERSIONS; v++)
        for (int c = 0; c < KTLS_N_CIPHERS; c++)
            if (probe->result[v][c][KTLS_TX] == 0) return true;
    return false;
}

/* What is known before the handshake: NONE when the kernel is possible for this socket. */
static enum ktls_reason socket_reason(const struct ktls_conn *conn, const struct ktls_probe *probe, int *ret_err) {
    *ret_err = 0;
    if (conn->ctx->policy == KTLS_POLICY_OFF) return conn->ctx->off_reason;
    if (!probe->usable && !(conn->ctx->policy == KTLS_POLICY_TX && can_send_some(probe))) {
        *ret_err = probe->err;
        return probe->reason;
    }
    return ktls_kernel_is_tcp(conn->fd) ? KTLS_REASON_NONE : KTLS_REASON_NOT_TCP;
}

/* What the negotiated version and suite say. */
static enum ktls_reason suite_reason(const struct ktls_conn *conn, const struct ktls_probe *probe, int *ret_err) {
    *ret_err = 0;
    if (conn->ssl_version != TLS1_2_VERSION && conn->ssl_version != TLS1_3_VERSION) return KTLS_REASON_VERSION;
    if (conn->cipher == KTLS_CIPHER_OTHER) return KTLS_REASON_CIPHER;
    const int(*row)[KTLS_N_DIRS] = probe->result[conn->version];
    *ret_err = probe_err(conn, row[conn->cipher]);
    if (*ret_err) {
        for (int c = 0; c < KTLS_N_CIPHERS; c++)
            if (!probe_err(conn, row[c])) return KTLS_REASON_CIPHER;
        return KTLS_REASON_VERSION;
    }
    if (conn->version == KTLS_TLS13 && conn->ctx->on_old_kernel == KTLS_OLD_KERNEL_USERSPACE && probe->rekey != 0) {
        *ret_err = probe->rekey;
        return KTLS_REASON_NO_REKEY;
    }
    const SSL_SESSION *s = SSL_get0_session(conn->ssl);
    if (s && SSL_SESSION_get_max_fragment_length(s) != TLSEXT_max_fragment_length_DISABLED) return KTLS_REASON_RECORD_LIMIT;
    return KTLS_REASON_NONE;
}

static enum ktls_reason decide(const struct ktls_conn *conn, int *ret_err) {
    struct ktls_probe probe = { 0 };
    if (conn->ctx->policy != KTLS_POLICY_OFF) ktls_probe(&probe);
    enum ktls_reason reason = socket_reason(conn, &probe, ret_err);
    if (reason == KTLS_REASON_NONE) reason = suite_reason(conn, &probe, ret_err);
    if (reason == KTLS_REASON_NONE && conn->attach_err) {
        *ret_err = -conn->attach_err;
        return *ret_err == EPERM || *ret_err == EACCES ? KTLS_REASON_PERMISSION : KTLS_REASON_SETSOCKOPT;
    }
    return reason;
}

/* ---- The hand-over ---- */

static int make_keys(struct ktls_conn *conn, struct ktls_keys keys[KTLS_N_DIRS]) {
    if (conn->version == KTLS_TLS13) {
        size_t len = ktls_cipher_secret_len(conn->cipher);
        if (conn->secret_len[KTLS_TX] != len || conn->secret_len[KTLS_RX] != len) return -EINVAL;
        int r = ktls_keys_tls13(conn->cipher, conn->secret[KTLS_RX], &keys[KTLS_RX]);
        return r < 0 ? r : ktls_keys_tls13(conn->cipher, conn->secret[KTLS_TX], &keys[KTLS_TX]);
    }
    uint8_t master[48], client_random[32], server_random[32];
    int r = -EINVAL;
    if (SSL_SESSION_get_master_key(SSL_get0_session(conn->ssl), master, sizeof master) == sizeof master &&
        SSL_get_client_random(conn->ssl, client_random, 32) == 32 && SSL_get_server_random(conn->ssl, server_random, 32) == 32) {
        bool server = conn->ctx->role == KTLS_SERVER;
        r = ktls_keys_tls12(conn->cipher, master, client_random, server_random, &keys[server ? KTLS_RX : KTLS_TX],
                            &keys[server ? KTLS_TX : KTLS_RX]);
    }
    OPENSSL_cleanse(master, sizeof master);
    return r;
}

/* 0: the keys are in the kernel. -errno with *ret_touched false: nothing was changed. */
static int give_keys(struct ktls_conn *conn, const struct ktls_keys keys[KTLS_N_DIRS], bool *ret_touched) {
    bool both = conn->ctx->policy != KTLS_POLICY_TX;
    int r = 0;
    *ret_touched = false;
    if (both) r = ktls_kernel_set_key(conn->fd, KTLS_RX, conn->version, conn->cipher, &keys[KTLS_RX], conn->seq[KTLS_RX]);
    if (r < 0) return r;
    *ret_touched = both;
    return ktls_kernel_set_key(conn->fd, KTLS_TX, conn->version, conn->cipher, &keys[KTLS_TX], conn->seq[KTLS_TX]);
}

/* From here on the records are not OpenSSL's. */
static void leave_openssl(struct ktls_conn *conn, const struct ktls_keys keys[KTLS_N_DIRS]) {
    conn->reader.is_client = conn->ctx->role == KTLS_CLIENT;
    conn->reader.is_tls13 = conn->version == KTLS_TLS13;
    if (!ktls_resume_keep(conn)) {
        ktls_free_ssl(conn);
        conn->wire = ktls_wire_free(conn->wire);
    }
    if (conn->version == KTLS_TLS13) return;
    ktls_wipe_secrets(conn);
    ktls_keep_keys12(conn, keys);
}

static void expect_no_padding(const struct ktls_conn *conn) {
    struct ktls_probe probe;
    if (conn->version == KTLS_TLS13 && ktls_probe(&probe) == 0 && probe.expect_no_pad == 0)
        ktls_kernel_expect_no_padding(conn->fd);
}

static int enter_kernel(struct ktls_conn *conn, const struct ktls_keys keys[KTLS_N_DIRS]) {
    bool half = conn->ctx->policy == KTLS_POLICY_TX;
    conn->mode = half ? KTLS_MODE_TX : KTLS_MODE_KERNEL;
    conn->reason = KTLS_REASON_NONE;
    int r = half ? ktls_user_start(conn, keys, conn->seq) : 0;
    if (r < 0) return ktls_fail(conn, r, -1, 0, "the receiving key: %s", ktls_strerror(r));
    leave_openssl(conn, keys);
    if (!half) expect_no_padding(conn);
    ktls_meters_start(conn);
    if (half)
        KTLS_COUNT(mode_tx);
    else
        KTLS_COUNT(mode_kernel);
    KTLS_PROBE4(handover, conn, conn->fd, conn->ssl_version, conn->cipher_name);
    return KTLS_DONE;
}

/* keys: NULL when OpenSSL must go on doing the records. */
static int enter_user(struct ktls_conn *conn, const struct ktls_keys *keys, enum ktls_reason reason, int err) {
    conn->reason = reason;
    conn->reason_errno = err;
    if (conn->ctx->policy == KTLS_POLICY_REQUIRE) {
        SSL_shutdown(conn->ssl);
        return ktls_fail(conn, KTLS_ENOKTLS, -1, 0, "kernel TLS is required and not available for %s %s: %s (errno %s). %s",
                         conn->version_name, conn->cipher_name, ktls_reason_name(reason), err ? ktls_strerror(-err) : "0",
                         ktls_reason_remedy(reason));
    }
    conn->mode = KTLS_MODE_USER;
    int r = keys ? ktls_user_start(conn, keys, conn->seq) : 0;
    if (r < 0) return ktls_fail(conn, r, -1, 0, "the keys: %s", ktls_strerror(r));
    if (keys)
        leave_openssl(conn, keys);
    else
        SSL_set_msg_callback(conn->ssl, on_user_message);
    ktls_meters_start(conn);
    KTLS_COUNT(mode_user);
    KTLS_COUNT(reason[reason]);
    KTLS_PROBE4(fallback, conn, conn->fd, ktls_reason_name(reason), err);
    return KTLS_DONE;
}

static int enter(struct ktls_conn *conn, const struct ktls_keys keys[KTLS_N_DIRS], enum ktls_reason reason, int err) {
    bool touched;
    if (reason != KTLS_REASON_NONE) return enter_user(conn, keys, reason, err);
    int r = give_keys(conn, keys, &touched);
    if (r == 0) return enter_kernel(conn, keys);
    if (touched)
        return ktls_fail(conn, r, -1, 0, "the kernel took the receiving key and refused the sending key: %s", ktls_strerror(r));
    return enter_user(conn, keys, KTLS_REASON_SETSOCKOPT, -r);
}

static int hand_over(struct ktls_conn *conn) {
    struct ktls_keys keys[KTLS_N_DIRS];
    int err;
    enum ktls_reason reason = decide(conn, &err);
    int r = ktls_wire_settle(conn->wire, KTLS_WIRE_STREAM);
    if (r < 0) return ktls_fail(conn, r, -1, 0, "reading the end of the handshake: %s", ktls_strerror(r));
    if (ktls_user_needs_openssl(conn)) return enter_user(conn, NULL, reason ? reason : KTLS_REASON_CIPHER, err);
    r = make_keys(conn, keys);
    if (r < 0) return ktls_fail(conn, r, -1, 0, "deriving the keys: %s", ktls_strerror(r));
    r = enter(conn, keys, reason, err);
    OPENSSL_cleanse(keys, sizeof keys);
    return r;
}

/* ---- The driver ---- */

/* 0, -EINVAL, -ENOMEM. */
static int set_expected_name(struct ktls_conn *conn) {
    if (conn->ctx->role != KTLS_CLIENT || !conn->name || conn->no_name_check || conn->ctx->verify != KTLS_VERIFY_REQUIRE)
        return 0;
    X509_VERIFY_PARAM *p = SSL_get0_param(conn->ssl);
    /* An address must match an iPAddress, a name a dNSName; partial wildcards stay out (RFC 6125 6.4.3). */
    ktls_forget_errors();
    if (X509_VERIFY_PARAM_set1_ip_asc(p, conn->name) == 1) return 0;
    if (ktls_no_memory()) return -ENOMEM;
    SSL_set_hostflags(conn->ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    if (SSL_set1_host(conn->ssl, conn->name) == 1) return 0;
    return ktls_no_memory() ? -ENOMEM : -EINVAL;
}

static int begin(struct ktls_conn *conn) {
    struct ktls_probe probe = { 0 };
    int err;
    conn->started_ns = ktls_now_ns();
    KTLS_PROBE3(handshake__start, conn, conn->fd, conn->ctx->role);
    conn->state = KTLS_STATE_HANDSHAKE;
    int r = set_expected_name(conn);
    if (r < 0) return ktls_fail(conn, r, -1, 0, "the server name cannot be checked: %s", ktls_strerror(r));
    SSL_set_msg_callback(conn->ssl, on_message);
    SSL_set_msg_callback_arg(conn->ssl, conn);
    if (ktls_resume_offer(conn) < 0) return ktls_fail(conn, -ENOMEM, -1, 0, "TLS handshake: out of memory");
    if (conn->ctx->policy != KTLS_POLICY_OFF) ktls_probe(&probe);
    enum ktls_reason reason = socket_reason(conn, &probe, &err);
    if (reason == KTLS_REASON_NONE) {
        conn->attach_err = ktls_kernel_attach(conn->fd);
    } else if (conn->ctx->policy == KTLS_POLICY_REQUIRE) {
        return ktls_fail(conn, KTLS_ENOKTLS, -1, 0, "kernel TLS is required and not available: %s (errno %s). %s",
                         ktls_reason_name(reason), err ? ktls_strerror(-err) : "0", ktls_reason_remedy(reason));
    }
    return 0;
}

static int count_failure(struct ktls_conn *conn, int r) {
    ktls_resume_handshake_ended(conn, r);
    KTLS_COUNT(handshakes_failed[conn->ctx->role]);
    KTLS_PROBE4(handshake__failed, conn, conn->fd, r, ktls_conn_error(conn)->text);
    switch (r) {
    case KTLS_EALERT:
        KTLS_COUNT(failed_alert);
        break;
    case KTLS_EPROTOCOL:
        KTLS_COUNT(failed_protocol);
        break;
    case KTLS_EVERIFY:
        KTLS_COUNT(failed_verify);
        break;
    case KTLS_ENOTTLS:
        KTLS_COUNT(failed_not_tls);
        break;
    case -ECONNRESET:
    case -EPIPE:
        KTLS_COUNT(failed_reset);
        break;
    default:
        KTLS_COUNT(failed_other);
        break;
    }
    return r;
}

int ktls_handshake(struct ktls_conn *conn) {
    int r = 0;
    if (conn->state == KTLS_STATE_OPEN) return KTLS_DONE;
    if (conn->state == KTLS_STATE_FAILED) return conn->error ? conn->error->err : -ENOMEM;
    ktls_forget_errors();
    if (conn->state == KTLS_STATE_NEW) r = begin(conn);
    if (r < 0) return count_failure(conn, r);
    ktls_ssl_begin(conn);
    r = SSL_do_handshake(conn->ssl);
    if (r != 1) {
        r = ktls_ssl_result(conn, r, "TLS handshake");
        return r < 0 ? count_failure(conn, r) : r;
    }
    ktls_learn_places(conn);
    note_facts(conn);
    r = note_peer(conn);
    if (r < 0) return count_failure(conn, ktls_fail(conn, r, -1, 0, "TLS handshake: out of memory"));
    ktls_resume_handshake_ended(conn, 0);
    r = hand_over(conn);
    ktls_burn_stack();
    if (r < 0) return count_failure(conn, r);
    conn->state = KTLS_STATE_OPEN;
    KTLS_COUNT(handshakes_ok[conn->ctx->role]);
    if (conn->resumed) KTLS_COUNT(handshakes_resumed[conn->ctx->role]);
    KTLS_PROBE4(handshake__done, conn, conn->fd, conn->handshake_us, conn->resumed);
    return KTLS_DONE;
}
