/*
 * Which sessions a server resumes: the cache (TLS 1.2), tickets (both versions), and what a resumption must not get round.
 *
 * Place in the flow: ktls_session_setup() when a context is made; the callbacks inside OpenSSL's handshake, on the connection's
 * thread.
 *
 * A resumed handshake shows no certificate: what was verified in the full handshake is taken over. So that this is never more
 * than a full handshake would give now,
 *   - the session id context, which OpenSSL compares, is a digest of the verification mode, the trust anchors and the CRLs. A
 *     session made under others is not resumed, be it of this process before a reload, or of another one with the same keys;
 *   - a session lives session_cache_timeout_s from the full handshake on. Renewed tickets do not prolong it, as they would with
 *     OpenSSL alone, where each one starts its time anew (RFC 8446 4.6.1 asks for a limit);
 *   - nor does it outlive the client certificate it rests on, which OpenSSL does not look at again.
 * The deadline is written into the ticket beside the session (its "appdata": 8 bytes, big-endian, seconds since the epoch).
 */
#include "ktls_internal.h"

#include <dirent.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define DEFAULT_CACHE_SIZE 20480
#define DEFAULT_LIFETIME_S 300
#define DEADLINE_LEN 8
#define DIGEST_LEN 32

/* ---- How long ---- */

static int64_t not_after(const X509 *x) {
    struct tm tm;
    return ASN1_TIME_to_tm(X509_get0_notAfter(x), &tm) == 1 ? (int64_t)timegm(&tm) : 0;
}

/* When a session made now ends. */
static int64_t first_deadline(const struct ktls_conn *conn, const SSL_SESSION *s, int64_t now) {
    int64_t end = now + conn->ctx->session_lifetime_s;
    X509 *x = NULL;
    /* OpenSSL's getter does not take a const session; it changes nothing. */
    union {
        const SSL_SESSION *in;
        SSL_SESSION *out;
    } cast = { .in = s };
    if (conn->ctx->verify != KTLS_VERIFY_NONE) x = SSL_SESSION_get0_peer(cast.out);
    if (x && not_after(x) < end) end = not_after(x);
    return end;
}

static bool get_deadline(SSL_SESSION *s, int64_t *ret) {
    void *data = NULL;
    size_t len = 0;
    if (SSL_SESSION_get0_ticket_appdata(s, &data, &len) != 1 || len != DEADLINE_LEN || !data) return false;
    const uint8_t *p = data;
    uint64_t v = 0;
    for (int i = 0; i < DEADLINE_LEN; i++) v = v << 8 | p[i];
    *ret = (int64_t)v;
    return true;
}

/* A ticket is about to be sealed. */
static int on_make_ticket(SSL *ssl, void *arg) {
    const struct ktls_conn *conn = SSL_get_app_data(ssl);
    SSL_SESSION *s = SSL_get_session(ssl);
    int64_t now = time(NULL), end;
    (void)arg;
    if (!conn || !s) return 0;
    if (!get_deadline(s, &end)) {
        uint8_t be[DEADLINE_LEN];
        end = first_deadline(conn, s, now);
        for (int i = 0; i < DEADLINE_LEN; i++) be[i] = (uint8_t)((uint64_t)end >> (56 - 8 * i));
        if (SSL_SESSION_set1_ticket_appdata(s, be, sizeof be) != 1) return 0;
    }
    /* Counted from the session's own time; it is also the lifetime that the client is told. */
    int64_t left = end - (int64_t)SSL_SESSION_get_time(s);
    return SSL_SESSION_set_timeout(s, left > 1 ? (long)left : 1) == 1;
}

/* A ticket was opened, or not. */
static SSL_TICKET_RETURN on_ticket(SSL *ssl, SSL_SESSION *s, const unsigned char *name, size_t name_len, SSL_TICKET_STATUS status,
                                   void *arg) {
    int64_t end;
    (void)name, (void)name_len, (void)arg;
    if (status == SSL_TICKET_EMPTY || status == SSL_TICKET_NO_DECRYPT) return SSL_TICKET_RETURN_IGNORE_RENEW;
    if (status != SSL_TICKET_SUCCESS && status != SSL_TICKET_SUCCESS_RENEW) return SSL_TICKET_RETURN_ABORT;
    if (!get_deadline(s, &end) || end <= (int64_t)time(NULL)) {
        KTLS_COUNT(tickets_refused);
        return SSL_TICKET_RETURN_IGNORE_RENEW;
    }
    bool renew = status == SSL_TICKET_SUCCESS_RENEW || SSL_version(ssl) == TLS1_3_VERSION;
    return renew ? SSL_TICKET_RETURN_USE_RENEW : SSL_TICKET_RETURN_USE;
}

/* A session went into the cache (TLS 1.2 without tickets). */
static int on_cached(SSL *ssl, SSL_SESSION *s) {
    const struct ktls_conn *conn = SSL_get_app_data(ssl);
    int64_t made = (int64_t)SSL_SESSION_get_time(s);
    if (conn) {
        int64_t left = first_deadline(conn, s, made) - made;
        SSL_SESSION_set_timeout(s, left > 1 ? (long)left : 1);
    }
    return 0; /* the reference stays OpenSSL's */
}

/* ---- Under which trust ---- */

struct digests {
    uint8_t (*item)[DIGEST_LEN];
    size_t n, cap;
};

static int add_digest(struct digests *d, const void *data, size_t len) {
    if (d->n == d->cap) {
        size_t cap = d->cap ? d->cap * 2 : 64;
        void *p = realloc(d->item, cap * sizeof *d->item);
        if (!p) return -ENOMEM;
        d->item = p;
        d->cap = cap;
    }
    return EVP_Digest(data, len, d->item[d->n++], NULL, EVP_sha256(), NULL) == 1 ? 0 : -ENOMEM;
}

static int add_object(struct digests *d, const X509_OBJECT *obj) {
    unsigned char *der = NULL;
    const X509 *x = X509_OBJECT_get0_X509(obj);
    /* As with sessions: a getter that lacks the const. */
    union {
        const X509_OBJECT *in;
        X509_OBJECT *out;
    } cast = { .in = obj };
    X509_CRL *crl = x ? NULL : X509_OBJECT_get0_X509_CRL(cast.out);
    int len = x ? i2d_X509(x, &der) : crl ? i2d_X509_CRL(crl, &der) : 0;
    int r = len > 0 ? add_digest(d, der, (size_t)len) : len < 0 ? -ENOMEM : 0;
    OPENSSL_free(der);
    return r;
}

static int add_file(struct digests *d, const char *dir, const char *name) {
    char path[4096];
    static const size_t max = 1 << 20;
    if (snprintf(path, sizeof path, "%s/%s", dir, name) >= (int)sizeof path) return 0;
    FILE *f = fopen(path, "re");
    if (!f) return 0; /* OpenSSL could not read it either */
    char *data = malloc(max);
    int r = data ? add_digest(d, data, fread(data, 1, max, f)) : -ENOMEM;
    free(data);
    fclose(f);
    return r;
}

/* A hashed directory is read by OpenSSL when it needs an issuer: what counts here is what lies in it now. */
static int add_dir(struct digests *d, const char *dir) {
    DIR *h = opendir(dir);
    int r = 0;
    if (!h) return 0;
    for (struct dirent *e; r == 0 && (e = readdir(h));)
        if (e->d_name[0] != '.') r = add_file(d, dir, e->d_name);
    closedir(h);
    return r;
}

static int by_bytes(const void *a, const void *b) {
    return memcmp(a, b, DIGEST_LEN);
}

static int collect_trust(const struct ktls_ctx *ctx, const struct ktls_ctx_opts *o, struct digests *d) {
    const STACK_OF(X509_OBJECT) *objects = X509_STORE_get0_objects(SSL_CTX_get_cert_store(ctx->ssl));
    bool has_file = o->ca_file && *o->ca_file, has_dir = o->ca_dir && *o->ca_dir;
    int r = 0;
    for (int i = 0; r == 0 && i < sk_X509_OBJECT_num(objects); i++) r = add_object(d, sk_X509_OBJECT_value(objects, i));
    const char *dir = has_dir ? o->ca_dir : has_file ? NULL : X509_get_default_cert_dir();
    if (r == 0 && dir) r = add_dir(d, dir);
    return r;
}

static int set_id_context(const struct ktls_ctx *ctx, const struct ktls_ctx_opts *o) {
    static const char label[] = "libktls sessions 1";
    struct digests d = { 0 };
    uint8_t id[DIGEST_LEN], mode = (uint8_t)ctx->verify;
    int r = 0;
    if (ctx->verify != KTLS_VERIFY_NONE) r = collect_trust(ctx, o, &d);
    if (r == 0 && d.n > 1) qsort(d.item, d.n, sizeof *d.item, by_bytes); /* the same set in another order is the same trust */
    EVP_MD_CTX *md = r == 0 ? EVP_MD_CTX_new() : NULL;
    bool ok = md && EVP_DigestInit_ex(md, EVP_sha256(), NULL) == 1 && EVP_DigestUpdate(md, label, sizeof label) == 1 &&
              EVP_DigestUpdate(md, &mode, 1) == 1 && (d.n == 0 || EVP_DigestUpdate(md, d.item, d.n * sizeof *d.item) == 1) &&
              EVP_DigestFinal_ex(md, id, NULL) == 1 && SSL_CTX_set_session_id_context(ctx->ssl, id, sizeof id) == 1;
    EVP_MD_CTX_free(md);
    free(d.item);
    return ok ? 0 : -ENOMEM;
}

/* ---- Setting up ---- */

static int setup_tickets(struct ktls_ctx *ctx, const struct ktls_ctx_opts *o, size_t n, char *err, size_t errlen) {
    SSL_CTX_set_num_tickets(ctx->ssl, n);
    if (n == 0) {
        SSL_CTX_set_options(ctx->ssl, SSL_OP_NO_TICKET);
        return 0;
    }
    if (o->tickets) {
        ctx->tickets = ktls_tickets_ref(o->tickets);
    } else {
        struct ktls_tickets_opts t = { .size = sizeof t, .lifetime_s = ctx->session_lifetime_s };
        int r = ktls_tickets_new(&t, &ctx->tickets, err, errlen);
        if (r < 0) return r;
    }
    SSL_CTX_set_tlsext_ticket_key_evp_cb(ctx->ssl, ktls_on_ticket_key);
    SSL_CTX_set_session_ticket_cb(ctx->ssl, on_make_ticket, on_ticket, NULL);
    return 0;
}

static int setup_server(struct ktls_ctx *ctx, const struct ktls_ctx_opts *o, char *err, size_t errlen) {
    if (o->no_session_cache) {
        SSL_CTX_set_session_cache_mode(ctx->ssl, SSL_SESS_CACHE_OFF);
        return setup_tickets(ctx, o, 0, err, errlen);
    }
    ctx->session_lifetime_s = o->session_cache_timeout_s > 0 ? o->session_cache_timeout_s : DEFAULT_LIFETIME_S;
    SSL_CTX_set_session_cache_mode(ctx->ssl, SSL_SESS_CACHE_SERVER);
    SSL_CTX_sess_set_cache_size(ctx->ssl, o->session_cache_size > 0 ? o->session_cache_size : DEFAULT_CACHE_SIZE);
    SSL_CTX_set_timeout(ctx->ssl, ctx->session_lifetime_s);
    SSL_CTX_sess_set_new_cb(ctx->ssl, on_cached);
    int r = set_id_context(ctx, o);
    return r < 0 ? r : setup_tickets(ctx, o, o->num_tickets < 0 ? 2 : (size_t)o->num_tickets, err, errlen);
}

static int on_client_session(SSL *ssl, SSL_SESSION *s) {
    ktls_on_new_session(ssl, s);
    return 0;
}

static int setup_client(struct ktls_ctx *ctx, const struct ktls_ctx_opts *o) {
    SSL_CTX_set_session_cache_mode(ctx->ssl, SSL_SESS_CACHE_OFF);
    if (o->session_reuse == 0) return 0;
    ctx->session_reuse = o->session_reuse;
    ctx->store = ktls_store_new(o->session_reuse_peers ? o->session_reuse_peers : 64,
                                o->session_reuse_per_peer ? o->session_reuse_per_peer : 8);
    if (!ctx->store) return -ENOMEM;
    SSL_CTX_set_session_cache_mode(ctx->ssl, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(ctx->ssl, on_client_session);
    return 0;
}

static int out_of_range(char *err, size_t errlen, const char *name, int value, int lowest, int highest) {
    if (value >= lowest && value <= highest) return 0;
    if (err && errlen) snprintf(err, errlen, "%s %d is not in %d..%d", name, value, lowest, highest);
    return KTLS_ECONFIG;
}

int ktls_session_setup(struct ktls_ctx *ctx, const struct ktls_ctx_opts *o, char *err, size_t errlen) {
    int r = out_of_range(err, errlen, "num_tickets", o->num_tickets, -1, 8);
    if (r == 0) r = out_of_range(err, errlen, "session_reuse", o->session_reuse, 0, 8);
    if (r == 0) r = out_of_range(err, errlen, "session_reuse_peers", o->session_reuse_peers, 0, 4096);
    if (r == 0) r = out_of_range(err, errlen, "session_reuse_per_peer", o->session_reuse_per_peer, 0, 1024);
    if (r < 0) return r;
    return ctx->role == KTLS_SERVER ? setup_server(ctx, o, err, errlen) : setup_client(ctx, o);
}

void ktls_ctx_forget_sessions(struct ktls_ctx *ctx, const char *peer) {
    if (!ctx->store) return;
    if (!peer) {
        ktls_store_drop(ctx->store, NULL, false);
        return;
    }
    char *prefix = NULL;
    if (asprintf(&prefix, "%s\n", peer) < 0) { /* no room to be exact: forgetting more does no harm */
        ktls_store_drop(ctx->store, NULL, false);
        return;
    }
    ktls_store_drop(ctx->store, prefix, true);
    free(prefix);
}
