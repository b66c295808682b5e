/*
 * Suites, their order, and key exchange groups.
 *
 * Place in the flow: while a context is made. The order matters for speed, not for safety: without AES instructions AES-GCM costs
 * many times what ChaCha20-Poly1305 costs, in OpenSSL and in the kernel, at either end of the connection.
 */
#include <errno.h>
#include <openssl/err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ktls_ctx_priv.h"

#if defined(__aarch64__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

#define GROUP_NAME_MAX 64

int ktls_cpu_has_aes(void) {
#if defined(__x86_64__) || defined(__i386__)
    return __builtin_cpu_supports("aes") && __builtin_cpu_supports("pclmul");
#elif defined(__aarch64__)
    unsigned long caps = getauxval(AT_HWCAP);
    return (caps & HWCAP_AES) && (caps & HWCAP_PMULL);
#else
    return 1;
#endif
}

/* ---- Suites ---- */

static bool is_chacha(const SSL_CIPHER *c) {
    return SSL_CIPHER_get_cipher_nid(c) == NID_chacha20_poly1305;
}

/* The names of one version's suites as a colon list, ChaCha20-Poly1305 first, the order else kept. */
static char *chacha_first_list(const STACK_OF(SSL_CIPHER) * all, bool tls13) {
    size_t room = 1;
    for (int i = 0; i < sk_SSL_CIPHER_num(all); i++) room += strlen(SSL_CIPHER_get_name(sk_SSL_CIPHER_value(all, i))) + 1;
    char *out = malloc(room), *p = out;
    if (!out) return NULL;
    *p = 0;
    for (int pass = 0; pass < 2; pass++) {
        for (int i = 0; i < sk_SSL_CIPHER_num(all); i++) {
            const SSL_CIPHER *c = sk_SSL_CIPHER_value(all, i);
            if (is_chacha(c) != (pass == 0) || (strcmp(SSL_CIPHER_get_version(c), "TLSv1.3") == 0) != tls13) continue;
            p += snprintf(p, room - (size_t)(p - out), "%s%s", p == out ? "" : ":", SSL_CIPHER_get_name(c));
        }
    }
    return out;
}

static int put_chacha_first(SSL_CTX *ssl, struct errbuf *e) {
    const STACK_OF(SSL_CIPHER) *all = SSL_CTX_get_ciphers(ssl);
    char *old = chacha_first_list(all, false), *new = chacha_first_list(all, true);
    int r = old && new ? 0 : -ENOMEM;
    if (r == 0 && *old && SSL_CTX_set_cipher_list(ssl, old) != 1) r = config_error(e, "cannot put ChaCha20-Poly1305 first");
    if (r == 0 && *new &&SSL_CTX_set_ciphersuites(ssl, new) != 1) r = config_error(e, "cannot put ChaCha20-Poly1305 first");
    free(old);
    free(new);
    if (r == 0) SSL_CTX_set_options(ssl, SSL_OP_CIPHER_SERVER_PREFERENCE);
    return r;
}

int ktls_suite_set(SSL_CTX *ssl, const struct ktls_ctx_opts *o, struct errbuf *e) {
    if (set(o->ciphers) && SSL_CTX_set_cipher_list(ssl, o->ciphers) != 1)
        return config_error(e, "no usable cipher in '%s'", o->ciphers);
    if (set(o->ciphersuites) && SSL_CTX_set_ciphersuites(ssl, o->ciphersuites) != 1)
        return config_error(e, "no usable TLS 1.3 ciphersuite in '%s'", o->ciphersuites);
    if (o->prefer_server_ciphers) SSL_CTX_set_options(ssl, SSL_OP_CIPHER_SERVER_PREFERENCE);
    bool listed = set(o->ciphers) || set(o->ciphersuites);
    if (o->chacha == KTLS_CHACHA_FIRST || (o->chacha == KTLS_CHACHA_AUTO && !listed && !ktls_cpu_has_aes()))
        return put_chacha_first(ssl, e);
    if (o->chacha == KTLS_CHACHA_AUTO) SSL_CTX_set_options(ssl, SSL_OP_PRIORITIZE_CHACHA); /* only with server preference */
    return 0;
}

/* ---- Groups ---- */

/* The list is asked name by name, so that an unknown one can be named and '?' works before OpenSSL 3.3 too. */
static int group_is_known(SSL_CTX *scratch, char *name) {
    ktls_forget_errors();
    if (SSL_CTX_set1_groups_list(scratch, name) == 1) return 1;
    return ktls_no_memory() ? -ENOMEM : 0;
}

static int filter_groups(SSL_CTX *scratch, const char *list, char *out, struct errbuf *e) {
    char name[GROUP_NAME_MAX], *p = out;
    for (const char *at = list; *at;) {
        size_t n = strcspn(at, ":");
        bool may_miss = *at == '?';
        snprintf(name, sizeof name, "%.*s", (int)(n - may_miss), at + may_miss);
        int known = n > may_miss && n - may_miss < sizeof name ? group_is_known(scratch, name) : 0;
        if (known < 0) return known;
        if (!known && !may_miss)
            return config_error(e, "key exchange group '%s' is not known to %s (a '?' before the name allows that)", name,
                                OpenSSL_version(OPENSSL_VERSION_STRING));
        if (known) {
            if (p != out) *p++ = ':';
            memcpy(p, name, n - may_miss);
            p += n - may_miss;
        }
        at += n;
        if (*at == ':') at++;
    }
    *p = 0;
    return p == out ? config_error(e, "no usable key exchange group in '%s'", list) : 0;
}

int ktls_groups_set(SSL_CTX *ssl, const struct ktls_ctx_opts *o, struct errbuf *e) {
    if (!set(o->groups)) return 0;
    SSL_CTX *scratch = SSL_CTX_new(TLS_method());
    char *known = malloc(strlen(o->groups) + 1);
    int r = scratch && known ? filter_groups(scratch, o->groups, known, e) : -ENOMEM;
    if (r == 0 && SSL_CTX_set1_groups_list(ssl, known) != 1)
        r = config_error(e, "cannot use the key exchange groups '%s'", known);
    free(known);
    SSL_CTX_free(scratch);
    return r;
}
