/*
 * The context: files and options in, a checked SSL_CTX out.
 *
 * Place in the flow: made at start-up or by CONFIG SET, then shared. Immutable once made, reference counted; any thread. What
 * OpenSSL changes in it afterwards (session cache, ticket keys) is under OpenSSL's own locks.
 */
#include "ktls_internal.h"

#include <errno.h>
#include <openssl/bn.h>
#include <openssl/crypto.h>
#include <openssl/dh.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Where an error text goes. */
struct errbuf {
    char *text;
    size_t cap;
};

static const char *set(const char *s) {
    return s && *s ? s : NULL;
}

/* The first error of OpenSSL's queue is the cause, the later ones what followed from it. */
static int config_error(struct errbuf *e, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static int config_error(struct errbuf *e, const char *fmt, ...) {
    unsigned long code = ERR_get_error();
    if (e->text && e->cap) {
        va_list ap;
        va_start(ap, fmt);
        int n = vsnprintf(e->text, e->cap, fmt, ap);
        va_end(ap);
        const char *reason = ERR_SYSTEM_ERROR(code) ? strerror(ERR_GET_REASON(code)) : ERR_reason_error_string(code);
        if (code != 0 && reason && n >= 0 && (size_t)n < e->cap) snprintf(e->text + n, e->cap - (size_t)n, ": %s", reason);
    }
    ERR_clear_error();
    return KTLS_ECONFIG;
}

/* ---- Certificate, key, trust anchors -----------------------------------------------------------------------------------------
 */

static int give_passphrase(char *buf, int cap, int rwflag, void *arg) {
    const char *pass = arg;
    (void)rwflag;
    if (!pass) return 0; /* never ask on a terminal */
    size_t len = strlen(pass);
    if (len > (size_t)cap) return 0;
    memcpy(buf, pass, len);
    return (int)len;
}

static int load_key(SSL_CTX *ssl, const struct ktls_ctx_opts *o, struct errbuf *e) {
    char *pass = NULL;
    if (set(o->key_pass) && !(pass = strdup(o->key_pass))) return -ENOMEM;
    SSL_CTX_set_default_passwd_cb(ssl, give_passphrase);
    SSL_CTX_set_default_passwd_cb_userdata(ssl, pass);
    int ok = SSL_CTX_use_PrivateKey_file(ssl, o->key_file, SSL_FILETYPE_PEM);
    SSL_CTX_set_default_passwd_cb_userdata(ssl, NULL);
    if (pass) {
        OPENSSL_cleanse(pass, strlen(pass));
        free(pass);
    }
    if (ok != 1) return config_error(e, "cannot load private key '%s'%s", o->key_file, pass ? " (is the passphrase right?)" : "");
    if (SSL_CTX_check_private_key(ssl) != 1)
        return config_error(e, "private key '%s' does not belong to certificate '%s'", o->key_file, o->cert_file);
    return 0;
}

static int load_cert(SSL_CTX *ssl, const struct ktls_ctx_opts *o, struct errbuf *e) {
    if (!set(o->cert_file) && !set(o->key_file))
        return o->role == KTLS_SERVER ? config_error(e, "a server needs a certificate file and a key file") : 0;
    if (!set(o->cert_file)) return config_error(e, "key file '%s' without a certificate file", o->key_file);
    if (!set(o->key_file)) return config_error(e, "certificate file '%s' without a key file", o->cert_file);
    if (SSL_CTX_use_certificate_chain_file(ssl, o->cert_file) != 1)
        return config_error(e, "cannot load certificate '%s'", o->cert_file);
    return load_key(ssl, o, e);
}

static int load_trust(SSL_CTX *ssl, const struct ktls_ctx_opts *o, struct errbuf *e) {
    if (set(o->ca_file) && SSL_CTX_load_verify_file(ssl, o->ca_file) != 1)
        return config_error(e, "cannot load CA certificates from '%s'", o->ca_file);
    if (set(o->ca_dir) && SSL_CTX_load_verify_dir(ssl, o->ca_dir) != 1)
        return config_error(e, "cannot use CA directory '%s'", o->ca_dir);
    if (!set(o->ca_file) && !set(o->ca_dir) && o->verify != KTLS_VERIFY_NONE && SSL_CTX_set_default_verify_paths(ssl) != 1)
        return config_error(e, "cannot use the system's CA certificates");
    if (o->role == KTLS_SERVER && set(o->ca_file) && o->verify != KTLS_VERIFY_NONE) {
        STACK_OF(X509_NAME) *names = SSL_load_client_CA_file(o->ca_file);
        if (!names) return config_error(e, "cannot read CA names from '%s'", o->ca_file);
        SSL_CTX_set_client_CA_list(ssl, names);
    }
    int mode = SSL_VERIFY_NONE;
    if (o->verify != KTLS_VERIFY_NONE) mode = SSL_VERIFY_PEER;
    if (o->verify == KTLS_VERIFY_REQUIRE) mode |= SSL_VERIFY_FAIL_IF_NO_PEER_CERT;
    SSL_CTX_set_verify(ssl, mode, NULL);
    return 0;
}

static int load_dh(SSL_CTX *ssl, const struct ktls_ctx_opts *o, struct errbuf *e) {
    if (o->role == KTLS_CLIENT) return 0;
    if (!set(o->dh_params_file)) {
        SSL_CTX_set_dh_auto(ssl, 1);
        return 0;
    }
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

/* ---- Protocol, ciphers ---- */

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

static int set_ciphers(SSL_CTX *ssl, const struct ktls_ctx_opts *o, struct errbuf *e) {
    if (set(o->ciphers) && SSL_CTX_set_cipher_list(ssl, o->ciphers) != 1)
        return config_error(e, "no usable cipher in '%s'", o->ciphers);
    if (set(o->ciphersuites) && SSL_CTX_set_ciphersuites(ssl, o->ciphersuites) != 1)
        return config_error(e, "no usable TLS 1.3 ciphersuite in '%s'", o->ciphersuites);
    if (o->prefer_server_ciphers) SSL_CTX_set_options(ssl, SSL_OP_CIPHER_SERVER_PREFERENCE);
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

/* ---- Facts about the own certificate ---- */

static void name_text(const X509_NAME *name, char *out, size_t cap) {
    BIO *b = BIO_new(BIO_s_mem());
    out[0] = 0;
    if (!b) return;
    if (X509_NAME_print_ex(b, name, 0, XN_FLAG_RFC2253) >= 0) {
        int n = BIO_read(b, out, (int)cap - 1);
        out[n > 0 ? n : 0] = 0;
    }
    BIO_free(b);
}

static int64_t asn1_seconds(const ASN1_TIME *t) {
    struct tm tm;
    return ASN1_TIME_to_tm(t, &tm) == 1 ? (int64_t)timegm(&tm) : 0;
}

static void describe_cert(struct ktls_ctx *ctx) {
    X509 *x = SSL_CTX_get0_certificate(ctx->ssl);
    if (!x) return;
    struct ktls_cert_info *c = &ctx->cert;
    name_text(X509_get_subject_name(x), c->subject, sizeof c->subject);
    name_text(X509_get_issuer_name(x), c->issuer, sizeof c->issuer);
    BIGNUM *bn = ASN1_INTEGER_to_BN(X509_get0_serialNumber(x), NULL);
    char *hex = bn ? BN_bn2hex(bn) : NULL;
    if (hex) snprintf(c->serial, sizeof c->serial, "%s", hex);
    OPENSSL_free(hex);
    BN_free(bn);
    c->not_before = asn1_seconds(X509_get0_notBefore(x));
    c->not_after = asn1_seconds(X509_get0_notAfter(x));
    ctx->has_cert = true;
}

/* ---- Life ---- */

static int configure(struct ktls_ctx *ctx, const struct ktls_ctx_opts *o, struct errbuf *e) {
    int r = set_protocols(ctx->ssl, o, e);
    if (r == 0) r = set_ciphers(ctx->ssl, o, e);
    if (r == 0) r = load_cert(ctx->ssl, o, e);
    if (r == 0) r = load_trust(ctx->ssl, o, e);
    if (r == 0) r = load_dh(ctx->ssl, o, e);
    if (r == 0) r = ktls_session_setup(ctx, o, e->text, e->cap); /* the trust anchors are part of what it looks at */
    if (r < 0) return r;
    set_modes(ctx->ssl);
    describe_cert(ctx);
    return 0;
}

int ktls_ctx_new(const struct ktls_ctx_opts *opts, struct ktls_ctx **ret, char *err, size_t errlen) {
    struct errbuf e = { err, errlen };
    struct ktls_ctx_opts o = { 0 };
    if (err && errlen) err[0] = 0;
    ERR_clear_error();
    if (opts->size < offsetof(struct ktls_ctx_opts, cert_file) || opts->size > sizeof o)
        return config_error(&e, "ktls_ctx_opts.size is not that of this library");
    memcpy(&o, opts, opts->size);

    struct ktls_ctx *ctx = calloc(1, sizeof *ctx);
    if (!ctx) return -ENOMEM;
    atomic_init(&ctx->refs, 1);
    ctx->role = o.role;
    ctx->policy = o.policy;
    ctx->verify = o.verify;
    ctx->ssl = SSL_CTX_new(o.role == KTLS_SERVER ? TLS_server_method() : TLS_client_method());
    int r = ctx->ssl ? configure(ctx, &o, &e) : -ENOMEM;
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
    SSL_CTX_free(ctx->ssl);
    ktls_tickets_unref(ctx->tickets);
    ktls_store_free(ctx->store);
    free(ctx);
    return NULL;
}

int ktls_ctx_cert_info(const struct ktls_ctx *ctx, struct ktls_cert_info *ret) {
    if (!ctx->has_cert) return -ENOENT;
    *ret = ctx->cert;
    return 0;
}
