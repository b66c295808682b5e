/*
 * Fuzz target of what a peer's names go through: the server name a client asks for (src/ktls/ktls_sni.c) and the user names in
 * its certificate (src/ktls/ktls_peer.c).
 *
 * Input: byte 0 even: the rest is a server name; odd: the rest is a certificate in DER. Checked beside memory errors: the
 * certificate found is the one that a plain reading of RFC 6125 6.4.3 gives; user names are bounded in number and length.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "ktls_ctx_priv.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(int claim) {
    if (!claim) abort();
}

/* Sorted, as a context has them; the first one is the default. */
static char names[][32] = { "", "*.a.example.org", "*.example.org", "a.example.org", "example.org", "localhost", "x--y.test" };
enum { N = sizeof names / sizeof names[0] };

/* The index that a reader of the RFC would give, 0: the default. */
static int expected(const char *name) {
    char host[512];
    size_t len = strlen(name);
    snprintf(host, sizeof host, "%s", name);
    if (len > 1 && len < sizeof host && host[len - 1] == '.') host[--len] = 0;
    for (int i = 1; i < N; i++)
        if (names[i][0] != '*' && strcasecmp(names[i], host) == 0) return i;
    const char *dot = strchr(host, '.');
    for (int i = 1; dot && dot != host && i < N; i++)
        if (names[i][0] == '*' && strcasecmp(names[i] + 1, dot) == 0) {
            for (const char *p = host; p < dot; p++)
                if (!strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_", *p)) return 0;
            return dot - host > 253 - (long)strlen(dot) ? 0 : i;
        }
    return 0;
}

static void try_name(const uint8_t *data, size_t size) {
    static struct ktls_cert certs[N];
    struct ktls_ctx ctx = { .certs = certs, .n_certs = N, .n_default = 1 };
    char *name = malloc(size + 1);
    int n;
    if (!name) return;
    for (int i = 1; i < N; i++) certs[i].name = names[i];
    memcpy(name, data, size);
    name[size] = 0;
    const struct ktls_cert *c = ktls_sni_find(&ctx, name, &n);
    check(n == (c != NULL));
    check((c ? c - certs : 0) == expected(name));
    free(name);
}

static void try_certificate(const uint8_t *data, size_t size) {
    X509 *x = d2i_X509(NULL, &data, (long)size);
    for (int kind = KTLS_PEER_USER_CN; x && kind <= KTLS_PEER_USER_URI; kind++) {
        char *all = NULL;
        int n = 0;
        check(ktls_peer_users(x, (enum ktls_peer_user)kind, &all) == 0);
        for (char *p = all; p && *p; p += strlen(p) + 1, n++) check(strlen(p) <= 255);
        check(n <= (kind == KTLS_PEER_USER_CN ? 1 : 16) && (all == NULL) == (n == 0));
        free(all);
    }
    X509_free(x);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 1 || size > 65536) return 0;
    if (data[0] & 1) {
        try_certificate(data + 1, size - 1);
    } else {
        try_name(data + 1, size - 1);
    }
    return 0;
}
