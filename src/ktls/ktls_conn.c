/*
 * The connection object: its life, its errors, what is known about it.
 *
 * Place in the flow: made for a connected socket, driven by ktls_handshake.c, then by ktls_control.c and ktls_io.c. One thread at
 * a time. In kernel mode it is all that is left in userspace: some 600 bytes, two traffic secrets among them (TLS 1.3), wiped
 * here.
 */
#include "ktls_internal.h"

#include <arpa/inet.h>
#include <errno.h>
#include <malloc.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

uint64_t ktls_now_ns(void) {
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* ---- Errors -------------------------------------------------------------------------------------------------------------------
 */

static const struct ktls_error no_error = { .alert = -1, .text = "no error" };
static const struct ktls_error lost_error = { .err = -ENOMEM, .alert = -1, .text = "out of memory, also for the error itself" };

/* A reading and a sending thread may fail at the same time. */
static pthread_mutex_t error_lock = PTHREAD_MUTEX_INITIALIZER;

/* False: there is no memory for it. */
static bool set_error(struct ktls_conn *conn, int err, int alert, int alert_sent, const char *fmt, va_list ap)
    __attribute__((format(printf, 5, 0)));
static bool set_error(struct ktls_conn *conn, int err, int alert, int alert_sent, const char *fmt, va_list ap) {
    pthread_mutex_lock(&error_lock);
    if (!conn->error) conn->error = malloc(sizeof *conn->error);
    if (conn->error) {
        conn->error->err = err;
        conn->error->alert = alert;
        conn->error->alert_sent = alert_sent;
        vsnprintf(conn->error->text, sizeof conn->error->text, fmt, ap);
    }
    bool kept = conn->error != NULL;
    conn->error_lost = !kept;
    pthread_mutex_unlock(&error_lock);
    return kept;
}

int ktls_fail(struct ktls_conn *conn, int err, int alert, int alert_sent, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    if (!set_error(conn, err, alert, alert_sent, fmt, ap)) err = -ENOMEM; /* later calls must fail too, and can say only this */
    va_end(ap);
    conn->state = KTLS_STATE_FAILED;
    return err;
}

int ktls_note(struct ktls_conn *conn, int err, int alert, int alert_sent, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    set_error(conn, err, alert, alert_sent, fmt, ap);
    va_end(ap);
    return err;
}

const struct ktls_error *ktls_conn_error(const struct ktls_conn *conn) {
    if (conn->error) return conn->error;
    return conn->error_lost ? &lost_error : &no_error;
}

/* Before every record: to look is cheap, to clear goes through all sixteen places of the queue whether there is anything or not.
 */
void ktls_forget_errors(void) {
    if (ERR_peek_error() != 0) ERR_clear_error();
    errno = 0;
}

void ktls_ssl_begin(struct ktls_conn *conn) {
    ktls_forget_errors();
    conn->no_memory = false;
}

/* OpenSSL does not always say it: some of its decoders drop the error, and what follows looks like a bad certificate. But malloc
 * has left its errno. */
bool ktls_no_memory(void) {
    bool found = errno == ENOMEM;
    for (unsigned long code; (code = ERR_get_error()) != 0;)
        found |= ERR_GET_REASON(code) == (ERR_SYSTEM_ERROR(code) ? ENOMEM : ERR_R_MALLOC_FAILURE);
    return found;
}

/* An error of OpenSSL's own: which class it is, with the alert that went out because of it. */
static int protocol_error(struct ktls_conn *conn, unsigned long code, bool no_memory, const char *what) {
    int reason = ERR_GET_REASON(code);
    const char *text = ERR_reason_error_string(code); /* none for an errno that OpenSSL put there */
    bool is_ssl = ERR_GET_LIB(code) == ERR_LIB_SSL;
    int sent = conn->alert_out > 0;
    if (no_memory || SSL_get_verify_result(conn->ssl) == X509_V_ERR_OUT_OF_MEM)
        return ktls_fail(conn, -ENOMEM, sent ? conn->alert_out : -1, sent, "%s: out of memory", what);
    if (is_ssl && reason == SSL_R_CERTIFICATE_VERIFY_FAILED)
        return ktls_fail(conn, KTLS_EVERIFY, conn->alert_out, sent, "certificate verify failed: %s (%s)",
                         X509_verify_cert_error_string(SSL_get_verify_result(conn->ssl)),
                         conn->refused_cert ? conn->refused_cert : "no certificate");
    if (is_ssl && reason == SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE)
        return ktls_fail(conn, KTLS_EVERIFY, conn->alert_out, sent, "the peer sent no certificate");
    /* By the error, not by alert_in: that may be a warning from before. */
    if (is_ssl && reason > SSL_AD_REASON_OFFSET && reason <= SSL_AD_REASON_OFFSET + 255) {
        int alert = reason - SSL_AD_REASON_OFFSET;
        return ktls_fail(conn, KTLS_EALERT, alert, 0, "peer sent fatal alert %s", ktls_alert_name(alert));
    }
    if (sent)
        return ktls_fail(conn, KTLS_EPROTOCOL, conn->alert_out, 1, "%s: %s (sent alert %s)", what, text ? text : "unknown cause",
                         ktls_alert_name(conn->alert_out));
    return ktls_fail(conn, KTLS_EPROTOCOL, -1, 0, "%s: %s", what, text ? text : "unknown cause");
}

int ktls_ssl_result(struct ktls_conn *conn, int ret, const char *what) {
    struct ktls_wire *w = conn->wire;
    unsigned long code = ERR_peek_error();
    int e = SSL_get_error(conn->ssl, ret);
    if (e == SSL_ERROR_WANT_READ) return KTLS_WANT_READ;
    if (e == SSL_ERROR_WANT_WRITE) return KTLS_WANT_WRITE;
    bool no_memory = ktls_no_memory() || conn->no_memory;
    if (w->not_tls) return ktls_fail(conn, KTLS_ENOTTLS, -1, 0, "%s: the first bytes are not TLS: %s", what, w->not_tls);
    if (e == SSL_ERROR_SSL) return protocol_error(conn, code, no_memory, what);
    if (w->eof) {
        if (!SSL_is_init_finished(conn->ssl))
            return ktls_fail(conn, -ECONNRESET, -1, 0, "%s: the peer closed the connection", what);
        KTLS_COUNT(truncated);
        return ktls_fail(conn, KTLS_ETRUNCATED, -1, 0, "%s: the peer closed without close_notify", what);
    }
    int err = w->err ? w->err : EIO;
    return ktls_fail(conn, -err, -1, 0, "%s: %s", what, strerrordesc_np(err));
}

/* ---- Secrets ---- */

void ktls_wipe_secrets(struct ktls_conn *conn) {
    OPENSSL_cleanse(conn->secret, sizeof conn->secret);
    conn->secret_len[KTLS_TX] = conn->secret_len[KTLS_RX] = 0;
}

#if defined(__has_attribute)
#if __has_attribute(zero_call_used_regs)
#define ZERO_REGISTERS __attribute__((zero_call_used_regs("all"))) /* gcc 11, clang 15 */
#endif
#endif
#ifndef ZERO_REGISTERS
#define ZERO_REGISTERS
#endif

/* The compiler clears the registers that it was told of; libc's functions use the wider ones that this processor has. */
static void clear_wide_registers(void) {
#if defined(__x86_64__) && !defined(__AVX512F__)
#define CLEAR(n) "vpxord %%zmm" #n ",%%zmm" #n ",%%zmm" #n "\n\t"
    if (__builtin_cpu_supports("avx512f"))
        __asm__ volatile(CLEAR(16) CLEAR(17) CLEAR(18) CLEAR(19) CLEAR(20) CLEAR(21) CLEAR(22) CLEAR(23) CLEAR(24) CLEAR(25)
                             CLEAR(26) CLEAR(27) CLEAR(28) CLEAR(29) CLEAR(30) CLEAR(31)::);
#undef CLEAR
    if (__builtin_cpu_supports("avx"))
        __asm__ volatile("vzeroall" ::
                             : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11",
                               "xmm12", "xmm13", "xmm14", "xmm15");
#endif
}

/* The registers too: a copy in a vector register goes to the stack with the next first call of a shared function. */
ZERO_REGISTERS __attribute__((noinline)) void ktls_burn_stack(void) {
    clear_wide_registers();
    uint8_t burn[32768]; /* more than any call here has */
    OPENSSL_cleanse(burn, sizeof burn);
}

/* OpenSSL keeps the application traffic secrets in arrays inside the SSL object and SSL_free() gives that block back unwiped.
 * Nothing public clears them, so the block is searched for the secrets, which are known here, and only these bytes are cleared;
 * the object needs them no more.
 *
 * Not known here are the generations after a KeyUpdate in user mode, and what OpenSSL derived without having the memory to tell
 * it. But the arrays are at the same place in every SSL object of a process: the first handshake that succeeds shows where. */
static atomic_size_t places[2]; /* of the server's and the client's secret, from 1; 0: not seen yet */

static atomic_size_t *place_of(const struct ktls_conn *conn, int dir) {
    return &places[(dir == KTLS_TX) != (conn->ctx->role == KTLS_SERVER)];
}

/* How many bytes of the SSL object may be touched. */
static size_t block_size(const struct ktls_conn *conn) {
    CRYPTO_malloc_fn m = NULL;
    CRYPTO_get_mem_functions(&m, NULL, NULL);
    return m == CRYPTO_malloc ? malloc_usable_size(conn->ssl) : 0; /* else the block is not malloc's */
}

void ktls_learn_places(const struct ktls_conn *conn) {
    for (int dir = 0; dir < KTLS_N_DIRS; dir++) {
        if (conn->secret_len[dir] == 0 || *place_of(conn, dir)) continue;
        const uint8_t *block = (const uint8_t *)conn->ssl;
        const uint8_t *hit = memmem(block, block_size(conn), conn->secret[dir], conn->secret_len[dir]);
        if (hit) *place_of(conn, dir) = (size_t)(hit - block) + 1;
    }
}

static void wipe_in_block(void *block, size_t left, const uint8_t *secret, size_t len) {
    uint8_t *p = block;
    while (len > 0 && left >= len) {
        uint8_t *hit = memmem(p, left, secret, len);
        if (!hit) return;
        OPENSSL_cleanse(hit, len);
        left -= (size_t)(hit + len - p);
        p = hit + len;
    }
}

void ktls_wipe_in_ssl(struct ktls_conn *conn, enum ktls_dir dir) {
    wipe_in_block(conn->ssl, block_size(conn), conn->secret[dir], conn->secret_len[dir]);
}

void ktls_free_ssl(struct ktls_conn *conn) {
    if (!conn->ssl) return;
    size_t size = block_size(conn), at;
    for (int dir = 0; dir < KTLS_N_DIRS && size > 0; dir++) {
        ktls_wipe_in_ssl(conn, (enum ktls_dir)dir);
        if (conn->resume) wipe_in_block(conn->ssl, size, ktls_resume_secrets(conn)[dir], conn->secret_len[dir]);
        if ((at = *place_of(conn, dir)) > 0) OPENSSL_cleanse((uint8_t *)conn->ssl + at - 1, KTLS_SECRET_MAX);
    }
    /* Without a shutdown OpenSSL takes the session for a broken one and throws it out of the cache. */
    if (conn->state != KTLS_STATE_FAILED) SSL_set_shutdown(conn->ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
    SSL_free(conn->ssl);
    conn->ssl = NULL;
    ERR_clear_error();
}

/* ---- Life ---- */

static bool is_address(const char *name) {
    struct in6_addr a;
    return inet_pton(AF_INET, name, &a) == 1 || inet_pton(AF_INET6, name, &a) == 1;
}

static int make_ssl(struct ktls_conn *conn) {
    conn->wire = ktls_wire_new(conn->fd);
    conn->ssl = conn->wire ? SSL_new(conn->ctx->ssl) : NULL;
    BIO *bio = conn->ssl ? ktls_wire_bio(conn->wire) : NULL;
    if (!bio) return -ENOMEM;
    SSL_set_bio(conn->ssl, bio, bio);
    if (SSL_set_app_data(conn->ssl, conn) != 1) return -ENOMEM; /* the callbacks would not know whose secrets they get */
    if (conn->ctx->role == KTLS_SERVER) {
        SSL_set_accept_state(conn->ssl);
        return 0;
    }
    SSL_set_connect_state(conn->ssl);
    ktls_forget_errors();
    if (!conn->name || is_address(conn->name) || SSL_set_tlsext_host_name(conn->ssl, conn->name) == 1) return 0;
    return ktls_no_memory() ? -ENOMEM : -EINVAL;
}

int ktls_conn_new(struct ktls_ctx *ctx, int fd, const char *server_name, struct ktls_conn **ret) {
    if (fd < 0) return -EINVAL;
    struct ktls_conn *conn = calloc(1, sizeof *conn);
    if (!conn) return -ENOMEM;
    conn->ctx = ktls_ctx_ref(ctx);
    conn->fd = fd;
    conn->alert_in = conn->alert_out = -1;
    conn->wants = KTLS_WANT_READ;
    conn->cipher = KTLS_CIPHER_OTHER;
    pthread_mutex_init(&conn->tx_lock, NULL);
    int r = 0;
    if (ctx->role == KTLS_CLIENT && server_name && *server_name && !(conn->name = strdup(server_name))) r = -ENOMEM;
    if (r == 0) r = make_ssl(conn);
    if (r < 0) {
        ktls_conn_free(conn);
        return r;
    }
    *ret = conn;
    return 0;
}

void ktls_conn_set_no_name_check(struct ktls_conn *conn) {
    conn->no_name_check = true;
}

struct ktls_conn *ktls_conn_free(struct ktls_conn *conn) {
    if (!conn) return NULL;
    ktls_resume_end(conn);
    ktls_free_ssl(conn);
    ktls_wire_free(conn->wire);
    ktls_layer_free(conn->layer);
    ktls_wipe_secrets(conn);
    ktls_record_done(&conn->reader);
    ktls_ctx_unref(conn->ctx);
    free(conn->error);
    free(conn->name);
    free(conn->peer_subject);
    free(conn->session_key);
    free(conn->refused_cert);
    free(conn->peer_users);
    pthread_mutex_destroy(&conn->tx_lock);
    free(conn);
    return NULL;
}

/* ---- Facts ---- */

enum ktls_mode ktls_conn_mode(const struct ktls_conn *conn) {
    return conn->mode;
}

int ktls_conn_wants(const struct ktls_conn *conn) {
    return conn->wants;
}

int ktls_conn_info(const struct ktls_conn *conn, struct ktls_conn_info *ret) {
    memset(ret, 0, sizeof *ret);
    ret->mode = conn->mode;
    ret->reason = conn->reason;
    ret->reason_errno = conn->reason_errno;
    ret->version = conn->version_name ? conn->version_name : "";
    ret->cipher = conn->cipher_name ? conn->cipher_name : "";
    ret->ver_id = conn->version;
    ret->cipher_id = conn->cipher;
    ret->resumed = conn->resumed;
    ret->peer_cert = conn->peer_cert;
    if (conn->peer_subject) snprintf(ret->peer_subject, sizeof ret->peer_subject, "%s", conn->peer_subject);
    if (conn->name && conn->ctx->role == KTLS_SERVER) snprintf(ret->server_name, sizeof ret->server_name, "%s", conn->name);
    ret->handshake_us = conn->handshake_us;
    ret->rx_seq0 = conn->seq[KTLS_RX];
    ret->tx_seq0 = conn->seq[KTLS_TX];
    ret->control_records = conn->control_records;
    ret->key_updates_in = conn->key_updates_in;
    ret->key_updates_out = conn->key_updates_out;
    const char *user = ktls_conn_peer_user(conn, 0);
    if (user) snprintf(ret->peer_user, sizeof ret->peer_user, "%s", user);
    if (conn->group) snprintf(ret->group, sizeof ret->group, "%s", conn->group);
    ret->alert_in = conn->alert_in;
    ret->alert_out = conn->alert_out;
    ret->records_tx = conn->meter[KTLS_TX].bound;
    ret->records_rx = conn->meter[KTLS_RX].bound;
    ret->rekeys_by_limit = conn->rekeys_by_limit;
    return conn->mode == KTLS_MODE_NONE ? -EAGAIN : 0;
}
