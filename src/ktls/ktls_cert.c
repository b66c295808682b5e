/*
 * Own certificates: files in, checked pairs of certificate and key out, and what is known about each.
 *
 * Place in the flow: while a context is made. The default certificates go into the SSL_CTX, one for each type of key, where
 * OpenSSL chooses by the peer's signature algorithms; those with a name stay in the context's own table, for ktls_sni.c.
 */
#include <errno.h>
#include <fcntl.h>
#include <openssl/bn.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "ktls_ctx_priv.h"

#define MAX_CHAIN 32

/* ---- Facts ---- */

void ktls_name_text(const X509_NAME *name, char *out, size_t cap) {
    BIO *b = BIO_new(BIO_s_mem());
    out[0] = 0;
    if (!b) return;
    if (X509_NAME_print_ex(b, name, 0, XN_FLAG_RFC2253) >= 0) {
        int n = BIO_read(b, out, (int)cap - 1);
        out[n > 0 ? n : 0] = 0;
    }
    BIO_free(b);
}

int64_t ktls_asn1_seconds(const ASN1_TIME *t) {
    struct tm tm;
    return t && ASN1_TIME_to_tm(t, &tm) == 1 ? (int64_t)timegm(&tm) : 0;
}

static void describe(struct ktls_cert *c) {
    struct ktls_cert_info *i = &c->info;
    ktls_name_text(X509_get_subject_name(c->leaf), i->subject, sizeof i->subject);
    ktls_name_text(X509_get_issuer_name(c->leaf), i->issuer, sizeof i->issuer);
    BIGNUM *bn = ASN1_INTEGER_to_BN(X509_get0_serialNumber(c->leaf), NULL);
    char *hex = bn ? BN_bn2hex(bn) : NULL;
    if (hex) snprintf(i->serial, sizeof i->serial, "%s", hex);
    OPENSSL_free(hex);
    BN_free(bn);
    i->not_before = ktls_asn1_seconds(X509_get0_notBefore(c->leaf));
    i->not_after = ktls_asn1_seconds(X509_get0_notAfter(c->leaf));
    const char *type = EVP_PKEY_get0_type_name(c->key);
    snprintf(c->key_type, sizeof c->key_type, "%s", type ? type : OBJ_nid2sn(EVP_PKEY_get_base_id(c->key)));
}

/* ---- One pair of files ---- */

static int give_passphrase(char *buf, int cap, int rwflag, void *arg) {
    const char *pass = arg;
    (void)rwflag;
    if (!pass) return 0; /* never ask on a terminal */
    size_t len = strlen(pass);
    if (len > (size_t)cap) return 0;
    memcpy(buf, pass, len);
    return (int)len;
}

/* A file cut off in the middle of a certificate is an error; one cut off between two is caught by whoever reloads, since the file
 * still changes. */
static int load_chain(struct ktls_cert *c, const char *path, struct errbuf *e) {
    BIO *b = BIO_new_file(path, "r");
    X509 *x;
    c->leaf = b ? PEM_read_bio_X509_AUX(b, NULL, give_passphrase, NULL) : NULL;
    bool ok = c->leaf != NULL;
    while (ok && (x = PEM_read_bio_X509(b, NULL, give_passphrase, NULL))) {
        if (!c->chain) c->chain = sk_X509_new_null();
        ok = c->chain && sk_X509_num(c->chain) < MAX_CHAIN && sk_X509_push(c->chain, x) > 0;
        if (!ok) X509_free(x);
    }
    BIO_free(b);
    unsigned long end = ERR_peek_last_error();
    if (ok && ERR_GET_LIB(end) == ERR_LIB_PEM && ERR_GET_REASON(end) == PEM_R_NO_START_LINE) {
        ERR_clear_error();
        return 0;
    }
    return config_error(e, "cannot load certificate '%s'", path);
}

static int load_key(struct ktls_cert *c, const struct ktls_keypair *f, struct errbuf *e) {
    const char *pass = set(f->key_pass);
    BIO *b = BIO_new_file(f->key_file, "r");
    c->key = b ? PEM_read_bio_PrivateKey(b, NULL, give_passphrase, (void *)(uintptr_t)pass) : NULL;
    BIO_free(b);
    if (!c->key) return config_error(e, "cannot load private key '%s'%s", f->key_file, pass ? " (is the passphrase right?)" : "");
    ERR_clear_error();
    if (X509_check_private_key(c->leaf, c->key) != 1)
        return config_error(e, "private key '%s' does not belong to certificate '%s'", f->key_file, f->cert_file);
    return 0;
}

static int load_pair(struct ktls_ctx *ctx, const struct ktls_keypair *f, struct ktls_cert *c, struct errbuf *e) {
    if (!set(f->cert_file))
        return config_error(e, "key file '%s' without a certificate file", set(f->key_file) ? f->key_file : "");
    if (!set(f->key_file)) return config_error(e, "certificate file '%s' without a key file", f->cert_file);
    if (ktls_files_add(ctx, f->cert_file) < 0 || ktls_files_add(ctx, f->key_file) < 0 || !(c->file = strdup(f->cert_file)))
        return -ENOMEM;
    int r = load_chain(c, f->cert_file, e);
    if (r == 0) r = load_key(c, f, e);
    if (r == 0) describe(c);
    return r;
}

/* ---- What is odd, but no error ---- */

static int warn_validity(struct ktls_ctx *ctx, const struct ktls_cert *c) {
    int64_t now = (int64_t)time(NULL);
    if (c->info.not_after < now)
        return ktls_ctx_warn(ctx, "certificate '%s' (%s) has expired: peers that verify it refuse it", c->file, c->info.subject);
    if (c->info.not_before > now)
        return ktls_ctx_warn(ctx, "certificate '%s' (%s) is not valid yet: peers that verify it refuse it", c->file,
                             c->info.subject);
    return 0;
}

static int warn_chain(struct ktls_ctx *ctx, const struct ktls_cert *c) {
    X509 *below = c->leaf;
    int r = ktls_decode_extensions(c->leaf);
    if (r < 0) return r;
    for (int i = 0; i < sk_X509_num(c->chain); i++) {
        X509 *x = sk_X509_value(c->chain, i);
        if (ktls_decode_extensions(x) < 0) return -ENOMEM;
        if (X509_check_issued(x, below) != X509_V_OK)
            return ktls_ctx_warn(ctx, "the chain in '%s' is broken: certificate %d did not issue the one before it", c->file,
                                 i + 2);
        if (X509_cmp_current_time(X509_get0_notAfter(x)) < 0)
            return ktls_ctx_warn(ctx, "certificate %d of the chain in '%s' has expired", i + 2, c->file);
        below = x;
    }
    return 0;
}

static int warn_name(struct ktls_ctx *ctx, const struct ktls_cert *c) {
    char host[260];
    if (!c->name) return 0;
    bool wild = c->name[0] == '*';
    snprintf(host, sizeof host, "%s%s", wild ? "any" : "", wild ? c->name + 1 : c->name);
    ktls_forget_errors();
    if (X509_check_host(c->leaf, host, 0, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS, NULL) == 1) return 0;
    if (ktls_no_memory()) return -ENOMEM;
    return ktls_ctx_warn(ctx, "certificate '%s' is given to clients that ask for %s and is not valid for that name", c->file,
                         c->name);
}

/* ---- All of them ---- */

static int load_one(struct ktls_ctx *ctx, const struct ktls_keypair *f, const char *name, struct errbuf *e) {
    struct ktls_cert *more = realloc(ctx->certs, sizeof *more * (size_t)(ctx->n_certs + 1));
    if (!more) return -ENOMEM;
    ctx->certs = more;
    struct ktls_cert *c = &more[ctx->n_certs++];
    *c = (struct ktls_cert){ .name = name ? strdup(name) : NULL };
    if (name && !c->name) return -ENOMEM;
    int r = load_pair(ctx, f, c, e);
    if (r < 0) return r;
    for (const struct ktls_cert *o = ctx->certs; o < c; o++)
        if ((!o->name && !name) || (o->name && name && strcmp(o->name, name) == 0))
            if (strcmp(o->key_type, c->key_type) == 0)
                return config_error(e, "certificates '%s' and '%s' are both of type %s: only one of each type can be used",
                                    o->file, c->file, c->key_type);
    if ((r = warn_validity(ctx, c)) == 0 && (r = warn_chain(ctx, c)) == 0) r = warn_name(ctx, c);
    return r;
}

static int use_default(struct ktls_ctx *ctx, struct errbuf *e) {
    ctx->n_default = ctx->n_certs;
    for (int i = 0; i < ctx->n_default; i++) {
        const struct ktls_cert *c = &ctx->certs[i];
        if (SSL_CTX_use_cert_and_key(ctx->ssl, c->leaf, c->key, c->chain, 1) != 1)
            return config_error(e, "cannot use certificate '%s'", c->file);
    }
    return 0;
}

/* What OpenSSL would refuse in a handshake (a key that is too small) is refused now. */
static int check_usable(const struct ktls_ctx *ctx, const struct ktls_cert *c, struct errbuf *e) {
    SSL_CTX *scratch = SSL_CTX_new(TLS_server_method());
    if (!scratch) return -ENOMEM;
    SSL_CTX_set_security_level(scratch, SSL_CTX_get_security_level(ctx->ssl));
    int ok = SSL_CTX_use_cert_and_key(scratch, c->leaf, c->key, c->chain, 1);
    SSL_CTX_free(scratch);
    return ok == 1 ? 0 : config_error(e, "cannot use certificate '%s'", c->file);
}

static int load_named(struct ktls_ctx *ctx, const struct ktls_ctx_opts *o, struct errbuf *e) {
    char name[256];
    int r = 0;
    for (int i = 0; r == 0 && i < o->n_sni_certs; i++) {
        const struct ktls_sni_cert *s = &o->sni_certs[i];
        if (!set(s->name) || !ktls_sni_name(s->name, true, name))
            return config_error(e, "'%s' is not a DNS name or *.name", s->name ? s->name : "");
        r = load_one(ctx, &s->pair, name, e);
        if (r == 0) r = check_usable(ctx, &ctx->certs[ctx->n_certs - 1], e);
    }
    if (r == 0 && ctx->n_certs > ctx->n_default)
        qsort(ctx->certs + ctx->n_default, (size_t)(ctx->n_certs - ctx->n_default), sizeof *ctx->certs, ktls_sni_compare);
    return r;
}

int ktls_cert_load(struct ktls_ctx *ctx, const struct ktls_ctx_opts *o, struct errbuf *e) {
    const struct ktls_keypair first = { o->cert_file, o->key_file, o->key_pass };
    bool any = set(first.cert_file) || set(first.key_file);
    if (!any && o->role == KTLS_SERVER) return config_error(e, "a server needs a certificate file and a key file");
    if (!any && o->n_more_certs > 0) return config_error(e, "an alternative certificate without a first one");
    if (o->n_sni_certs > 0 && o->role == KTLS_CLIENT) return config_error(e, "certificates by name are for servers");
    int r = any ? load_one(ctx, &first, NULL, e) : 0;
    for (int i = 0; r == 0 && i < o->n_more_certs; i++) r = load_one(ctx, &o->more_certs[i], NULL, e);
    if (r == 0) r = use_default(ctx, e);
    return r == 0 ? load_named(ctx, o, e) : r;
}

void ktls_cert_done(struct ktls_ctx *ctx) {
    for (int i = 0; i < ctx->n_certs; i++) {
        struct ktls_cert *c = &ctx->certs[i];
        X509_free(c->leaf);
        sk_X509_pop_free(c->chain, X509_free);
        EVP_PKEY_free(c->key);
        free(c->name);
        free(c->file);
        free(c->ocsp);
    }
    free(ctx->certs);
}

/* ---- Asked by the caller ---- */

int ktls_ctx_cert_info(const struct ktls_ctx *ctx, struct ktls_cert_info *ret) {
    if (ctx->n_default < 1) return -ENOENT;
    *ret = ctx->certs[0].info;
    return 0;
}

int ktls_ctx_cert_at(const struct ktls_ctx *ctx, int i, struct ktls_cert_facts *ret) {
    if (i < 0 || i >= ctx->n_certs) return -ENOENT;
    const struct ktls_cert *c = &ctx->certs[i];
    *ret = (struct ktls_cert_facts){ .info = c->info,
                                     .file = c->file,
                                     .chain_len = c->chain ? sk_X509_num(c->chain) : 0,
                                     .ocsp = ktls_ocsp_state(c),
                                     .ocsp_until = c->ocsp_until };
    if (c->name) snprintf(ret->sni_name, sizeof ret->sni_name, "%s", c->name);
    snprintf(ret->key_type, sizeof ret->key_type, "%s", c->key_type);
    return 0;
}

int ktls_read_file(const char *path, size_t max, uint8_t **ret, size_t *ret_len) {
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    if (fd < 0) return -errno;
    uint8_t *buf = malloc(max + 1);
    size_t len = 0;
    ssize_t n = buf ? 1 : -1;
    int r = buf ? 0 : -ENOMEM;
    while (n > 0 && len <= max) {
        n = read(fd, buf + len, max + 1 - len);
        if (n < 0 && errno != EINTR) r = -errno;
        if (n < 0 && errno == EINTR)
            n = 1;
        else if (n > 0)
            len += (size_t)n;
    }
    close(fd);
    if (r == 0 && len > max) r = -EFBIG;
    if (r < 0) {
        free(buf);
        return r;
    }
    *ret = buf;
    *ret_len = len;
    return 0;
}
