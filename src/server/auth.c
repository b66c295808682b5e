/*
 * Passwords. What is stored and compared is the SHA-256 digest, in constant time, so that neither length nor content of the
 * password shows in the time a wrong one takes. Any I/O thread; auth_lock guards the digest.
 */
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <string.h>

#include "server/server.h"

static void digest(struct slice text, unsigned char out[32]) {
    unsigned n = 32;
    EVP_Digest(text.ptr ? text.ptr : "", text.len, out, &n, EVP_sha256(), NULL);
}

void auth_set_password(struct server *srv, const char *pass) {
    bool has = pass && *pass;
    pthread_mutex_lock(&srv->auth_lock);
    srv->has_pass = has;
    OPENSSL_cleanse(srv->pass_digest, sizeof srv->pass_digest);
    if (has) digest(slice_cstr(pass), srv->pass_digest);
    atomic_store(&srv->eng.auth_required, has);
    pthread_mutex_unlock(&srv->auth_lock);
}

bool auth_check(struct server *srv, struct slice user, struct slice pass) {
    unsigned char given[32];
    digest(pass, given);
    pthread_mutex_lock(&srv->auth_lock);
    bool ok = !srv->has_pass || CRYPTO_memcmp(given, srv->pass_digest, sizeof given) == 0;
    pthread_mutex_unlock(&srv->auth_lock);
    OPENSSL_cleanse(given, sizeof given);
    ok = ok && slice_eq(user, SLICE_LIT("default"));
    if (!ok) atomic_fetch_add_explicit(&srv->stats.auth_failures, 1, memory_order_relaxed);
    return ok;
}
