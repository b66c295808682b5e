/*
 * Whose certificates are believed: trust anchors, revocation lists, and a word on why one was refused.
 *
 * Place in the flow: loaded while a context is made; the verify callback runs in the handshake, on the connection's thread.
 */
#include <errno.h>
#include <openssl/bn.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ktls_ctx_priv.h"

/* ---- Refused, and which one ---- */

static void note_refused(struct ktls_conn *conn, X509 *x) {
    char subject[160], text[256];
    if (!x || conn->refused_cert) return;
    ktls_name_text(X509_get_subject_name(x), subject, sizeof subject);
    BIGNUM *bn = ASN1_INTEGER_to_BN(X509_get0_serialNumber(x), NULL);
    char *hex = bn ? BN_bn2hex(bn) : NULL;
    snprintf(text, sizeof text, "%s, serial %.60s", subject, hex ? hex : "?");
    conn->refused_cert = strdup(text);
    OPENSSL_free(hex);
    BN_free(bn);
}

static int on_verify(int ok, X509_STORE_CTX *sc) {
    const SSL *ssl = X509_STORE_CTX_get_ex_data(sc, SSL_get_ex_data_X509_STORE_CTX_idx());
    struct ktls_conn *conn = ssl ? SSL_get_app_data(ssl) : NULL;
    if (!ok && conn) note_refused(conn, X509_STORE_CTX_get_current_cert(sc));
    return ok;
}

/* ---- Trust anchors ---- */

X509 *ktls_trust_issuer(const struct ktls_ctx *ctx, X509 *x) {
    STACK_OF(X509_OBJECT) *all = X509_STORE_get0_objects(SSL_CTX_get_cert_store(ctx->ssl));
    for (int i = 0; i < sk_X509_OBJECT_num(all); i++) {
        X509 *ca = X509_OBJECT_get0_X509(sk_X509_OBJECT_value(all, i));
        if (ca && X509_check_issued(ca, x) == X509_V_OK) return ca;
    }
    return NULL;
}

static int load_anchors(struct ktls_ctx *ctx, const struct ktls_ctx_opts *o, struct errbuf *e) {
    SSL_CTX *ssl = ctx->ssl;
    if (set(o->ca_file) && ktls_files_add(ctx, o->ca_file) < 0) return -ENOMEM;
    if (set(o->ca_dir) && ktls_files_add(ctx, o->ca_dir) < 0) return -ENOMEM;
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
    return 0;
}

int ktls_decode_extensions(X509 *x) {
    ktls_forget_errors();
    X509_check_purpose(x, -1, 0);
    return ktls_no_memory() ? -ENOMEM : 0;
}

static int decode_anchors(struct ktls_ctx *ctx) {
    STACK_OF(X509_OBJECT) *all = X509_STORE_get0_objects(SSL_CTX_get_cert_store(ctx->ssl));
    for (int i = 0; i < sk_X509_OBJECT_num(all); i++) {
        X509 *ca = X509_OBJECT_get0_X509(sk_X509_OBJECT_value(all, i));
        if (ca && ktls_decode_extensions(ca) < 0) return -ENOMEM;
    }
    return 0;
}

/* ---- Revocation ---- */

/* A forged list, or one of a CA that has changed its key under the same name, would have every client refused. */
static int check_crl(struct ktls_ctx *ctx, X509_CRL *crl, const char *path, struct errbuf *e) {
    STACK_OF(X509_OBJECT) *all = X509_STORE_get0_objects(SSL_CTX_get_cert_store(ctx->ssl));
    char name[256];
    bool named = false;
    ktls_name_text(X509_CRL_get_issuer(crl), name, sizeof name);
    for (int i = 0; i < sk_X509_OBJECT_num(all); i++) {
        X509 *ca = X509_OBJECT_get0_X509(sk_X509_OBJECT_value(all, i));
        if (!ca || X509_NAME_cmp(X509_get_subject_name(ca), X509_CRL_get_issuer(crl)) != 0) continue;
        named = true;
        ktls_forget_errors();
        if (X509_CRL_verify(crl, X509_get0_pubkey(ca)) != 1) {
            if (ktls_no_memory()) return -ENOMEM;
            continue;
        }
        const ASN1_TIME *until = X509_CRL_get0_nextUpdate(crl);
        if (until && X509_cmp_current_time(until) < 0)
            return ktls_ctx_warn(ctx, "the CRL of %s in '%s' is out of date: certificates of that CA are refused", name, path);
        return 0;
    }
    return named ? config_error(e, "the CRL of %s in '%s' is not signed by that CA", name, path) : 0;
}

static int load_crls(struct ktls_ctx *ctx, const char *path, struct errbuf *e) {
    if (ktls_files_add(ctx, path) < 0) return -ENOMEM;
    X509_STORE *store = SSL_CTX_get_cert_store(ctx->ssl);
    BIO *b = BIO_new_file(path, "r");
    X509_CRL *crl;
    int n = 0, r = 0;
    while (r == 0 && b && (crl = PEM_read_bio_X509_CRL(b, NULL, NULL, NULL))) {
        int64_t until = ktls_asn1_seconds(X509_CRL_get0_nextUpdate(crl));
        if (until && (!ctx->crl_until || until < ctx->crl_until)) ctx->crl_until = until;
        r = check_crl(ctx, crl, path, e);
        if (r == 0 && X509_STORE_add_crl(store, crl) != 1) r = config_error(e, "cannot use a CRL of '%s'", path);
        X509_CRL_free(crl);
        n++;
    }
    BIO_free(b);
    if (r < 0) return r;
    unsigned long end = ERR_peek_last_error();
    if (n == 0 || ERR_GET_LIB(end) != ERR_LIB_PEM || ERR_GET_REASON(end) != PEM_R_NO_START_LINE)
        return config_error(e, "cannot load CRLs from '%s'", path);
    ERR_clear_error();
    X509_STORE_set_flags(store, X509_V_FLAG_CRL_CHECK | X509_V_FLAG_CRL_CHECK_ALL);
    return 0;
}

int64_t ktls_ctx_crl_until(const struct ktls_ctx *ctx) {
    return ctx->crl_until;
}

int ktls_trust_load(struct ktls_ctx *ctx, const struct ktls_ctx_opts *o, struct errbuf *e) {
    int r = load_anchors(ctx, o, e);
    if (r == 0 && set(o->crl_file)) r = load_crls(ctx, o->crl_file, e);
    if (r == 0) r = decode_anchors(ctx);
    if (r < 0) return r;
    int mode = SSL_VERIFY_NONE;
    if (o->verify != KTLS_VERIFY_NONE) mode = SSL_VERIFY_PEER;
    if (o->verify == KTLS_VERIFY_REQUIRE) mode |= SSL_VERIFY_FAIL_IF_NO_PEER_CERT;
    SSL_CTX_set_verify(ctx->ssl, mode, on_verify);
    return 0;
}
