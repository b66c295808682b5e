/*
 * User names out of the peer's certificate.
 *
 * Place in the flow: at the end of the handshake, on the connection's thread, once the certificate has verified. Everything in it
 * was signed by a trusted CA, but what a CA signs need not be what a server expects: names with NUL bytes, empty ones and longer
 * ones than 255 bytes are left out, and a subject with several common names has none, because readers disagree on which counts.
 */
#include <errno.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdlib.h>
#include <string.h>

#include "ktls_internal.h"

#define MAX_NAMES 16
#define NAME_MAX_LEN 255

struct names {
    char text[MAX_NAMES * (NAME_MAX_LEN + 1) + 1];
    size_t len;
    int n;
};

static void add_name(struct names *out, const unsigned char *p, int len) {
    if (out->n == MAX_NAMES || len < 1 || len > NAME_MAX_LEN || memchr(p, 0, (size_t)len)) return;
    memcpy(out->text + out->len, p, (size_t)len);
    out->len += (size_t)len;
    out->text[out->len++] = 0;
    out->n++;
}

/* 0, or -ENOMEM: a name that is there may be missing. */
static int add_common_name(struct names *out, X509 *x) {
    const X509_NAME *subject = X509_get_subject_name(x);
    int at = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);
    if (at < 0 || X509_NAME_get_index_by_NID(subject, NID_commonName, at) >= 0) return 0;
    unsigned char *utf8 = NULL;
    int len = ASN1_STRING_to_UTF8(&utf8, X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at)));
    if (len > 0) add_name(out, utf8, len);
    OPENSSL_free(utf8);
    return len < 0 && ktls_no_memory() ? -ENOMEM : 0;
}

static int add_uris(struct names *out, X509 *x) {
    GENERAL_NAMES *all = X509_get_ext_d2i(x, NID_subject_alt_name, NULL, NULL);
    for (int i = 0; i < sk_GENERAL_NAME_num(all); i++) {
        const GENERAL_NAME *g = sk_GENERAL_NAME_value(all, i);
        if (g->type != GEN_URI) continue;
        const ASN1_IA5STRING *uri = g->d.uniformResourceIdentifier;
        add_name(out, ASN1_STRING_get0_data(uri), ASN1_STRING_length(uri));
    }
    GENERAL_NAMES_free(all);
    return !all && ktls_no_memory() ? -ENOMEM : 0;
}

int ktls_peer_users(X509 *x, enum ktls_peer_user kind, char **ret) {
    struct names *found = calloc(1, sizeof *found);
    char *copy = NULL;
    int r = found ? 0 : -ENOMEM;
    ktls_forget_errors();
    if (r == 0 && kind == KTLS_PEER_USER_CN) r = add_common_name(found, x);
    if (r == 0 && kind == KTLS_PEER_USER_URI) r = add_uris(found, x);
    ERR_clear_error();
    if (r == 0 && found->n) {
        copy = malloc(found->len + 1);
        if (copy) memcpy(copy, found->text, found->len + 1);
        if (!copy) r = -ENOMEM;
    }
    free(found);
    if (copy || r == 0) *ret = copy;
    return r;
}

int ktls_peer_note(struct ktls_conn *conn, X509 *x) {
    if (conn->ctx->peer_user == KTLS_PEER_USER_OFF || conn->ctx->role != KTLS_SERVER) return 0;
    return ktls_peer_users(x, conn->ctx->peer_user, &conn->peer_users);
}

const char *ktls_conn_peer_user(const struct ktls_conn *conn, int i) {
    const char *p = conn->peer_users;
    if (!p || i < 0) return NULL;
    while (i-- > 0 && *p) p += strlen(p) + 1;
    return *p ? p : NULL;
}
