/* Between the files that make a context (ktls_ctx.c, ktls_cert.c, ktls_sni.c, ktls_ocsp.c, ktls_trust.c, ktls_suite.c,
 * ktls_files.c). A context is changed only by the thread that makes it, before anyone else sees it. */
#ifndef KTLS_CTX_PRIV_H
#define KTLS_CTX_PRIV_H

#include "ktls_internal.h"

/* Where an error text goes. */
struct errbuf {
    char *text;
    size_t cap;
};

static inline const char *set(const char *s) {
    return s && *s ? s : NULL;
}

/* Writes the text with OpenSSL's reason behind it, empties OpenSSL's queue, returns KTLS_ECONFIG (-ENOMEM when that was the
 * reason). */
int ktls_config_error(struct errbuf *e, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
#define config_error ktls_config_error
/* Adds a line for ktls_ctx_warning(). 0 or -ENOMEM. */
int ktls_ctx_warn(struct ktls_ctx *ctx, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* ---- ktls_cert.c ---- */

struct ktls_cert {
    char *name; /* lower case; NULL: a default one */
    X509 *leaf;
    STACK_OF(X509) * chain; /* NULL: none in the file */
    EVP_PKEY *key;
    char *file;
    struct ktls_cert_info info;
    char key_type[32];
    uint8_t *ocsp; /* DER, NULL: none */
    size_t ocsp_len;
    int64_t ocsp_from, ocsp_until; /* until 0: no limit given */
};

/* Reads and checks all certificates of o and puts those without a name into ctx->ssl. 0, KTLS_ECONFIG, -ENOMEM. */
int ktls_cert_load(struct ktls_ctx *ctx, const struct ktls_ctx_opts *o, struct errbuf *e);
void ktls_cert_done(struct ktls_ctx *ctx);
int64_t ktls_asn1_seconds(const ASN1_TIME *t); /* seconds since the epoch; 0: not a time */
/* A copy of a small file; *ret is freed by the caller. -errno, -EFBIG. */
int ktls_read_file(const char *path, size_t max, uint8_t **ret, size_t *ret_len);

/* ---- ktls_sni.c ---- */

/* Lower case and without the final dot in out (room for 256). false: not a name that a certificate could be chosen by. */
bool ktls_sni_name(const char *name, bool wildcard_allowed, char *out);
/* The certificates for a name that a client sent (bytes of the peer's): *ret_n of them, NULL for none. */
const struct ktls_cert *ktls_sni_find(const struct ktls_ctx *ctx, const char *name, int *ret_n);
int ktls_sni_compare(const void *a, const void *b); /* of struct ktls_cert, for qsort */
void ktls_sni_setup(struct ktls_ctx *ctx);

/* ---- ktls_ocsp.c ---- */

int ktls_ocsp_load(struct ktls_ctx *ctx, const struct ktls_ctx_opts *o, struct errbuf *e);
enum ktls_ocsp ktls_ocsp_state(const struct ktls_cert *c);

/* ---- ktls_trust.c ---- */

int ktls_trust_load(struct ktls_ctx *ctx, const struct ktls_ctx_opts *o, struct errbuf *e);
/* OpenSSL decodes the extensions of a certificate when it first needs them, and one that was not decoded for want of memory
 * counts as invalid for ever. Done here by one thread, before others share it, with the answer looked at. 0 also when they are
 * bad; -ENOMEM.
 */
int ktls_decode_extensions(X509 *x);
/* The trust store's certificate of that name that signed x; borrowed, NULL: none. */
X509 *ktls_trust_issuer(const struct ktls_ctx *ctx, X509 *x);

/* ---- ktls_suite.c ---- */

int ktls_suite_set(SSL_CTX *ssl, const struct ktls_ctx_opts *o, struct errbuf *e);
int ktls_groups_set(SSL_CTX *ssl, const struct ktls_ctx_opts *o, struct errbuf *e);

/* ---- ktls_files.c ---- */

/* Notes the file with its fingerprint; call before reading it. 0 or -ENOMEM. */
int ktls_files_add(struct ktls_ctx *ctx, const char *path);
void ktls_files_done(struct ktls_ctx *ctx);

#endif
