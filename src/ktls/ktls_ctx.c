/*
 * The context: files and options in, a checked SSL_CTX out.
 *
 * Place in the flow: made at start-up or by CONFIG SET, then shared. Immutable once made, reference counted; any thread. What
 * OpenSSL changes in it afterwards (session cache, ticket keys) is under OpenSSL's own locks.
 */
#include "ktls_ctx_priv.h"

#include <errno.h>
#include <openssl/dh.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The first error of OpenSSL's queue is the cause, the later ones what followed from it. */
int ktls_config_error(struct errbuf *e, const char *fmt, ...) {
    unsigned long code = ERR_peek_error();
    bool no_memory = ktls_no_memory();
    if (e->text && e->cap) {
        va_list ap;
        va_start(ap, fmt);
        int n = vsnprintf(e->text, e->cap, fmt, ap);
        va_end(ap);
        const char *reason = ERR_SYSTEM_ERROR(code) ? strerror(ERR_GET_REASON(code)) : ERR_reason_error_string(code);
        if (code != 0 && reason && n >= 0 && (size_t)n < e->cap) snprintf(e->text + n, e->cap - (size_t)n, ": %s", reason);
    }
    return no_memory ? -ENOMEM : KTLS_ECONFIG;
}

int ktls_ctx_warn(struct ktls_ctx *ctx, const char *fmt, ...) {
    char **more = realloc(ctx->warnings, sizeof *more * (size_t)(ctx->n_warnings + 1)), *text;
    if (!more) return -ENOMEM;
    ctx->warnings = more;
    va_list ap;
    va_start(ap, fmt);
    int n = vasprintf(&text, fmt, ap);
    va_end(ap);
    if (n < 0) return -ENOMEM;
    more[ctx->n_warnings++] = text;
    return 0;
}

const char *ktls_ctx_warning(const struct ktls_ctx *ctx, int i) {
    return i >= 0 && i < ctx->n_warnings ? ctx->warnings[i] : NULL;
}

/* ---- Protocol ---- */

static int load_dh(struct ktls_ctx *ctx, const struct ktls_ctx_opts *o, struct errbuf *e) {
    if (o->role == KTLS_CLIENT) return 0;
    if (!set(o->dh_params_file)) {
        SSL_CTX_set_dh_auto(ctx->ssl, 1);
        return 0;
    }
    if (ktls_files_add(ctx, o->dh_params_file) < 0) return -ENOMEM;
    SSL_CTX *ssl = ctx->ssl;
    BIO *b = BIO_new_file(o->dh_params_file, "r");
    EVP_PKEY *dh = b ? PEM_read_bio_Parameters(b, NULL) : NULL;
    BIO_free(b);
    if (!dh || !EVP_PKEY_is_a(dh, "DH")) {
        EVP_PKEY_free(dh);
        return config_error(e, "no DH parameters in '%s'", o->dh_params_file);
    }
    if (SSL_CTX_set0_tmp_dh_pkey(ssl, dh) == 1) return 0;
    EVP_PKEY_free(dh);
    return config_error(e, "cannot use the DH parameters of '%s'", o->dh_params_file);
}

static int set_protocols(SSL_CTX *ssl, const struct ktls_ctx_opts *o, struct errbuf *e) {
    static const struct {
        unsigned bit;
        int version;
        uint64_t off;
    } all[] = { { KTLS_PROTO_TLS1, TLS1_VERSION, SSL_OP_NO_TLSv1 },
                { KTLS_PROTO_TLS1_1, TLS1_1_VERSION, SSL_OP_NO_TLSv1_1 },
                { KTLS_PROTO_TLS1_2, TLS1_2_VERSION, SSL_OP_NO_TLSv1_2 },
                { KTLS_PROTO_TLS1_3, TLS1_3_VERSION, SSL_OP_NO_TLSv1_3 } };
    unsigned want = o->protocols ? o->protocols : KTLS_PROTO_TLS1_2 | KTLS_PROTO_TLS1_3;
    int lowest = 0, highest = 0;
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        if (!(want & all[i].bit)) {
            SSL_CTX_set_options(ssl, all[i].off);
            continue;
        }
        if (!lowest) lowest = all[i].version;
        highest = all[i].version;
    }
    /* Explicit bounds win over those of the system's openssl.cnf. */
    if (!lowest || SSL_CTX_set_min_proto_version(ssl, lowest) != 1 || SSL_CTX_set_max_proto_version(ssl, highest) != 1)
        return config_error(e, "no usable protocol version in mask 0x%x", o->protocols);
    return 0;
}

static void set_modes(SSL_CTX *ssl) {
    /* SSL_OP_ENABLE_KTLS is not set, ever: together with moving write buffers OpenSSL would corrupt data. Early data stays at 0.
     */
    SSL_CTX_set_options(ssl, SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION);
    SSL_CTX_set_mode(ssl, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_read_ahead(ssl, 0);
    SSL_CTX_set_keylog_callback(ssl, ktls_on_keylog);
    SSL_CTX_set_info_callback(ssl, ktls_on_info);
}

static int open_keylog(struct ktls_ctx *ctx, const struct ktls_ctx_opts *o, struct errbuf *e) {
    if (!set(o->keylog_file)) return 0;
    int fd = ktls_keylog_open(o->keylog_file);
    if (fd == -EPERM) return config_error(e, "key log file '%s' may be read by others: it must have mode 0600", o->keylog_file);
    if (fd == -ENOTSUP || fd == -ELOOP) return config_error(e, "key log file '%s' is not a regular file", o->keylog_file);
    if (fd < 0) return config_error(e, "key log file '%s': %s", o->keylog_file, strerrordesc_np(-fd));
    ctx->keylog_fd = fd;
    return 0;
}

/* ---- Life ---- */

static int configure(struct ktls_ctx *ctx, const struct ktls_ctx_opts *o, struct errbuf *e) {
    int r = set_protocols(ctx->ssl, o, e);
    if (r == 0) r = ktls_suite_set(ctx->ssl, o, e);
    if (r == 0) r = ktls_groups_set(ctx->ssl, o, e);
    if (r == 0) r = ktls_cert_load(ctx, o, e);
    if (r == 0) r = ktls_trust_load(ctx, o, e);
    if (r == 0) r = ktls_ocsp_load(ctx, o, e);
    if (r == 0) r = load_dh(ctx, o, e);
    if (r == 0) r = ktls_session_setup(ctx, o, e->text, e->cap); /* the trust anchors are part of what it looks at */
    if (r < 0) return r;
    set_modes(ctx->ssl);
    ktls_sni_setup(ctx);
    return 0;
}

int ktls_ctx_new(const struct ktls_ctx_opts *opts, struct ktls_ctx **ret, char *err, size_t errlen) {
    struct errbuf e = { err, errlen };
    struct ktls_ctx_opts o = { 0 };
    if (err && errlen) err[0] = 0;
    ktls_forget_errors();
    if (opts->size < offsetof(struct ktls_ctx_opts, cert_file) || opts->size > sizeof o)
        return config_error(&e, "ktls_ctx_opts.size is not that of this library");
    memcpy(&o, opts, opts->size);

    if ((unsigned)o.off_reason >= KTLS_N_REASONS) return config_error(&e, "off_reason %d is unknown", (int)o.off_reason);

    struct ktls_ctx *ctx = calloc(1, sizeof *ctx);
    if (!ctx) return -ENOMEM;
    atomic_init(&ctx->refs, 1);
    ctx->keylog_fd = -1;
    ctx->role = o.role;
    ctx->policy = o.policy;
    ctx->off_reason = o.off_reason ? o.off_reason : KTLS_REASON_POLICY;
    ctx->verify = o.verify;
    ctx->peer_user = o.peer_user;
    ctx->rekey_after_records = o.rekey_after_records;
    ctx->on_old_kernel = o.on_old_kernel;
    ctx->max_key_updates_per_s = o.max_key_updates_per_s;
    ctx->ssl = SSL_CTX_new(o.role == KTLS_SERVER ? TLS_server_method() : TLS_client_method());
    int r = ctx->ssl ? configure(ctx, &o, &e) : -ENOMEM;
    if (r == 0) r = open_keylog(ctx, &o, &e);
    if (r < 0) {
        ERR_clear_error();
        ktls_ctx_unref(ctx);
        return r;
    }
    /* So that the first connection does not wait for the probe. */
    struct ktls_probe probe;
    if (ctx->policy != KTLS_POLICY_OFF) ktls_probe(&probe);
    *ret = ctx;
    return 0;
}

struct ktls_ctx *ktls_ctx_ref(struct ktls_ctx *ctx) {
    atomic_fetch_add_explicit(&ctx->refs, 1, memory_order_relaxed);
    return ctx;
}

struct ktls_ctx *ktls_ctx_unref(struct ktls_ctx *ctx) {
    if (!ctx || atomic_fetch_sub_explicit(&ctx->refs, 1, memory_order_acq_rel) != 1) return NULL;
    if (ctx->keylog_fd >= 0) close(ctx->keylog_fd);
    SSL_CTX_free(ctx->ssl);
    ktls_tickets_unref(ctx->tickets);
    ktls_store_free(ctx->store);
    ktls_cert_done(ctx);
    ktls_files_done(ctx);
    for (int i = 0; i < ctx->n_warnings; i++) free(ctx->warnings[i]);
    free(ctx->warnings);
    free(ctx);
    return NULL;
}
