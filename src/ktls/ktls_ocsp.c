/*
 * OCSP responses from files (RFC 6960), to be stapled to the handshake (RFC 6066 8, RFC 8446 4.4.2.1).
 *
 * Place in the flow: read and checked while a context is made; the time is looked at again in every handshake. A response that is
 * no response, is about another certificate or is not signed by the issuer is an error of the configuration. One that is out of
 * date is not: the server goes on without it, and says so.
 */
#include <errno.h>
#include <openssl/err.h>
#include <openssl/ocsp.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "ktls_ctx_priv.h"

#define RESPONSE_MAX 65536
#define CLOCK_SKEW_S 300

enum ktls_ocsp ktls_ocsp_state(const struct ktls_cert *c) {
    int64_t now = (int64_t)time(NULL);
    if (!c->ocsp) return KTLS_OCSP_NONE;
    return c->ocsp_from > now + CLOCK_SKEW_S || (c->ocsp_until && c->ocsp_until <= now) ? KTLS_OCSP_STALE : KTLS_OCSP_STAPLED;
}

/* ---- To which certificate a response belongs ---- */

/* The certificate that signed c's leaf: the next of its chain, or one of the trust store, or itself. NULL: not known. */
static X509 *issuer_of(const struct ktls_ctx *ctx, const struct ktls_cert *c) {
    X509 *next = sk_X509_num(c->chain) > 0 ? sk_X509_value(c->chain, 0) : NULL;
    if (next && X509_check_issued(next, c->leaf) == X509_V_OK) return next;
    if (X509_check_issued(c->leaf, c->leaf) == X509_V_OK) return c->leaf;
    return ktls_trust_issuer(ctx, c->leaf);
}

/* RFC 6960 4.1.1: serial number, hash of the issuer's name; hash of its key where the issuer is known. */
static bool is_about(const OCSP_CERTID *id, const struct ktls_cert *c, X509 *issuer) {
    ASN1_OCTET_STRING *name_hash, *key_hash;
    ASN1_OBJECT *alg;
    ASN1_INTEGER *serial;
    uint8_t hash[EVP_MAX_MD_SIZE];
    unsigned len;
    OCSP_id_get0_info(&name_hash, &alg, &key_hash, &serial, (OCSP_CERTID *)(uintptr_t)id);
    const EVP_MD *md = EVP_get_digestbyobj(alg);
    if (!md || ASN1_INTEGER_cmp(serial, X509_get0_serialNumber(c->leaf)) != 0) return false;
    if (X509_NAME_digest(X509_get_issuer_name(c->leaf), md, hash, &len) != 1 || (int)len != ASN1_STRING_length(name_hash) ||
        memcmp(hash, ASN1_STRING_get0_data(name_hash), len) != 0)
        return false;
    if (!issuer) return true;
    return X509_pubkey_digest(issuer, md, hash, &len) == 1 && (int)len == ASN1_STRING_length(key_hash) &&
           memcmp(hash, ASN1_STRING_get0_data(key_hash), len) == 0;
}

/* The signer must be the issuer, or have a certificate for this from the issuer (RFC 6960 4.2.2.2). */
static bool is_signed(OCSP_BASICRESP *basic, X509 *issuer) {
    X509_STORE *store = X509_STORE_new();
    STACK_OF(X509) *certs = sk_X509_new_null();
    bool ok = store && certs && X509_STORE_add_cert(store, issuer) == 1 && sk_X509_push(certs, issuer) > 0;
    if (ok) X509_STORE_set_flags(store, X509_V_FLAG_PARTIAL_CHAIN); /* the issuer may be an intermediate CA */
    if (ok) ok = OCSP_basic_verify(basic, certs, store, 0) == 1;
    sk_X509_free(certs);
    X509_STORE_free(store);
    return ok;
}

/* ---- Taken over ---- */

struct response {
    const char *path;
    uint8_t *der;
    size_t len;
    OCSP_RESPONSE *whole;
    OCSP_BASICRESP *basic;
};

static int attach(struct ktls_ctx *ctx, struct ktls_cert *c, const struct response *r, OCSP_SINGLERESP *one, X509 *issuer,
                  struct errbuf *e) {
    ASN1_GENERALIZEDTIME *from, *until;
    int reason, status = OCSP_single_get0_status(one, &reason, NULL, &from, &until);
    if (issuer && !is_signed(r->basic, issuer))
        return config_error(e, "OCSP response '%s' is not signed by the issuer of '%s'", r->path, c->file);
    if (c->ocsp) return config_error(e, "two OCSP responses for certificate '%s', the second in '%s'", c->file, r->path);
    c->ocsp = malloc(r->len);
    if (!c->ocsp) return -ENOMEM;
    memcpy(c->ocsp, r->der, r->len);
    c->ocsp_len = r->len;
    c->ocsp_from = ktls_asn1_seconds(from);
    c->ocsp_until = ktls_asn1_seconds(until);
    int w = 0;
    if (!issuer)
        w = ktls_ctx_warn(ctx, "the signature of OCSP response '%s' cannot be checked: the issuer is neither in '%s' nor trusted",
                          r->path, c->file);
    if (w == 0 && status != V_OCSP_CERTSTATUS_GOOD)
        w = ktls_ctx_warn(ctx, "OCSP response '%s' says of certificate '%s': %s", r->path, c->file, OCSP_cert_status_str(status));
    if (w == 0 && ktls_ocsp_state(c) == KTLS_OCSP_STALE)
        w = ktls_ctx_warn(ctx, "OCSP response '%s' for '%s' is out of date and is not stapled", r->path, c->file);
    return w;
}

static int read_response(struct response *r, struct errbuf *e) {
    int err = ktls_read_file(r->path, RESPONSE_MAX, &r->der, &r->len);
    if (err == -ENOMEM) return err;
    if (err < 0) return config_error(e, "cannot read OCSP response '%s': %s", r->path, strerrordesc_np(-err));
    const uint8_t *p = r->der;
    r->whole = d2i_OCSP_RESPONSE(NULL, &p, (long)r->len);
    if (!r->whole || p != r->der + r->len) return config_error(e, "'%s' is not an OCSP response in DER", r->path);
    int status = OCSP_response_status(r->whole);
    if (status != OCSP_RESPONSE_STATUS_SUCCESSFUL)
        return config_error(e, "OCSP response '%s' is an error of the responder: %s", r->path, OCSP_response_status_str(status));
    r->basic = OCSP_response_get1_basic(r->whole);
    return r->basic ? 0 : config_error(e, "'%s' is not a basic OCSP response", r->path);
}

static int load_one(struct ktls_ctx *ctx, const char *path, struct errbuf *e) {
    struct response r = { .path = path };
    int err = ktls_files_add(ctx, path), found = 0;
    if (err == 0) err = read_response(&r, e);
    for (int i = 0; err == 0 && i < ctx->n_certs; i++) {
        struct ktls_cert *c = &ctx->certs[i];
        X509 *issuer = issuer_of(ctx, c);
        for (int k = 0; err == 0 && k < OCSP_resp_count(r.basic); k++) {
            OCSP_SINGLERESP *one = OCSP_resp_get0(r.basic, k);
            if (!is_about(OCSP_SINGLERESP_get0_id(one), c, issuer)) continue;
            found++;
            err = attach(ctx, c, &r, one, issuer, e);
            break;
        }
    }
    if (err == 0 && !found) err = config_error(e, "OCSP response '%s' is about none of the certificates", path);
    OCSP_BASICRESP_free(r.basic);
    OCSP_RESPONSE_free(r.whole);
    free(r.der);
    return err;
}

int ktls_ocsp_load(struct ktls_ctx *ctx, const struct ktls_ctx_opts *o, struct errbuf *e) {
    int r = 0;
    for (int i = 0; r == 0 && i < o->n_ocsp_files; i++)
        if (set(o->ocsp_files[i])) r = load_one(ctx, o->ocsp_files[i], e);
    ERR_clear_error();
    return r;
}
