/*
 * Which certificate a client gets: by the name it asks for (SNI, RFC 6066 3), with the OCSP response that belongs to it.
 *
 * Place in the flow: OpenSSL calls back during the handshake, on the connection's thread; the table it reads does not change.
 *
 *   server name -> acknowledged when a certificate goes by it
 *   certificate -> the SSL's own certificates are replaced by the named ones; an unknown name keeps the default ones
 *   status      -> the OCSP response of the certificate that was chosen, while in date
 *
 * Rejected: an SSL_CTX for each name and SSL_set_SSL_CTX(), the usual way. It would take the callbacks of the hand-over, the
 * session settings and the verification from the other context, and each of them would have to be kept the same in all.
 */
#include <openssl/err.h>
#include <openssl/tls1.h>
#include <stdlib.h>
#include <string.h>

#include "ktls_ctx_priv.h"

/* ---- Names (RFC 6125 6.4) ---- */

static bool is_label_char(char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
}

bool ktls_sni_name(const char *name, bool wildcard_allowed, char *out) {
    size_t len = strlen(name), at = 0;
    if (len > 1 && name[len - 1] == '.') len--; /* a fully qualified name is the same name */
    if (len < 1 || len > 253) return false;
    for (size_t i = 0; i < len; i++) out[i] = name[i] >= 'A' && name[i] <= 'Z' ? (char)(name[i] - 'A' + 'a') : name[i];
    out[len] = 0;
    if (wildcard_allowed && len > 2 && out[0] == '*' && out[1] == '.') at = 2;
    bool in_label = false;
    for (; at < len; at++) {
        if (out[at] == '.' && !in_label) return false; /* an empty label */
        if (out[at] != '.' && !is_label_char(out[at])) return false;
        in_label = out[at] != '.';
    }
    return in_label;
}

int ktls_sni_compare(const void *a, const void *b) {
    const struct ktls_cert *x = a, *y = b;
    int r = strcmp(x->name, y->name);
    return r ? r : strcmp(x->key_type, y->key_type); /* qsort is not stable */
}

/* The first of that name and how many there are. */
static const struct ktls_cert *find_name(const struct ktls_ctx *ctx, const char *name, int *ret_n) {
    int lo = ctx->n_default, hi = ctx->n_certs;
    while (lo < hi) {
        int mid = lo + (hi - lo) / 2;
        if (strcmp(ctx->certs[mid].name, name) < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    *ret_n = 0;
    while (lo + *ret_n < ctx->n_certs && strcmp(ctx->certs[lo + *ret_n].name, name) == 0) ++*ret_n;
    return *ret_n ? &ctx->certs[lo] : NULL;
}

const struct ktls_cert *ktls_sni_find(const struct ktls_ctx *ctx, const char *name, int *ret_n) {
    char lower[256], *dot;
    *ret_n = 0;
    if (ctx->n_certs == ctx->n_default || !ktls_sni_name(name, false, lower)) return NULL;
    const struct ktls_cert *c = find_name(ctx, lower, ret_n);
    if (c || !(dot = strchr(lower, '.')) || dot == lower) return c;
    dot[-1] = '*'; /* one whole label, the leftmost, and no more */
    return find_name(ctx, dot - 1, ret_n);
}

/* ---- OpenSSL asks ---- */

static int on_server_name(SSL *ssl, int *alert, void *arg) {
    const char *name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
    int n;
    (void)alert;
    return name && ktls_sni_find(arg, name, &n) ? SSL_TLSEXT_ERR_OK : SSL_TLSEXT_ERR_NOACK;
}

static int on_certificate(SSL *ssl, void *arg) {
    const char *name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
    int n;
    const struct ktls_cert *c = name ? ktls_sni_find(arg, name, &n) : NULL;
    if (!c) return 1;
    SSL_certs_clear(ssl); /* or a default one of another key type could be chosen */
    for (int i = 0; i < n; i++)
        if (SSL_use_cert_and_key(ssl, c[i].leaf, c[i].key, c[i].chain, 1) != 1) return 0;
    return 1;
}

static int on_status(SSL *ssl, void *arg) {
    const struct ktls_ctx *ctx = arg;
    const X509 *chosen = SSL_get_certificate(ssl);
    const struct ktls_cert *c = NULL;
    for (int i = 0; i < ctx->n_certs && !c; i++)
        if (ctx->certs[i].leaf == chosen) c = &ctx->certs[i];
    if (!c || ktls_ocsp_state(c) != KTLS_OCSP_STAPLED) return SSL_TLSEXT_ERR_NOACK;
    uint8_t *copy = OPENSSL_memdup(c->ocsp, c->ocsp_len);
    if (!copy) return SSL_TLSEXT_ERR_NOACK;
    SSL_set_tlsext_status_ocsp_resp(ssl, copy, (long)c->ocsp_len); /* takes it */
    return SSL_TLSEXT_ERR_OK;
}

void ktls_sni_setup(struct ktls_ctx *ctx) {
    bool ocsp = false;
    for (int i = 0; i < ctx->n_certs; i++) ocsp |= ctx->certs[i].ocsp != NULL;
    if (ocsp) {
        SSL_CTX_set_tlsext_status_cb(ctx->ssl, on_status);
        SSL_CTX_set_tlsext_status_arg(ctx->ssl, ctx);
    }
    if (ctx->n_certs == ctx->n_default) return;
    SSL_CTX_set_tlsext_servername_callback(ctx->ssl, on_server_name);
    SSL_CTX_set_tlsext_servername_arg(ctx->ssl, ctx);
    SSL_CTX_set_cert_cb(ctx->ssl, on_certificate, ctx);
}
