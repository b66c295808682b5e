/*
 * Passwords of users: kept as SHA-256 digests, given as text or as the digest in hexadecimal. Comparing looks at every digest a
 * user has and at every byte of it, so that the time a wrong password takes tells nothing. Any thread.
 */
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <string.h>

#include "cmd/acl_priv.h"

void acl_digest(struct slice password, unsigned char out[ACL_DIGEST_LEN]) {
    unsigned n = ACL_DIGEST_LEN;
    EVP_Digest(password.len ? password.ptr : "", password.len, out, &n, EVP_sha256(), NULL);
}

static int nibble(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool acl_digest_from_hex(struct slice hex, unsigned char out[ACL_DIGEST_LEN]) {
    if (hex.len != 2 * ACL_DIGEST_LEN) return false;
    for (size_t i = 0; i < ACL_DIGEST_LEN; i++) {
        int high = nibble(hex.ptr[2 * i]), low = nibble(hex.ptr[2 * i + 1]);
        if (high < 0 || low < 0) return false;
        out[i] = (unsigned char)(high << 4 | low);
    }
    return true;
}

bool acl_user_has_password(const struct acl_user *u, const unsigned char digest[ACL_DIGEST_LEN]) {
    unsigned found = 0;
    for (const struct acl_item *it = NULL; (it = acl_set_next(&u->passwords, it));)
        found |= CRYPTO_memcmp(it->text, digest, ACL_DIGEST_LEN) == 0;
    return found;
}

int acl_user_n_passwords(const struct acl_user *u) {
    return u->passwords.live;
}

void acl_user_password_hex(const struct acl_user *u, int i, char out[2 * ACL_DIGEST_LEN + 1]) {
    static const char digits[] = "0123456789abcdef";
    const unsigned char *d = (const unsigned char *)u->passwords.item[i].text;
    for (size_t k = 0; k < ACL_DIGEST_LEN; k++) {
        out[2 * k] = digits[d[k] >> 4];
        out[2 * k + 1] = digits[d[k] & 15];
    }
    out[2 * ACL_DIGEST_LEN] = 0;
}
