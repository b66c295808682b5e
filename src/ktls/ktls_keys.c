/*
 * From secrets to record keys. Pure functions over bytes, any thread; every intermediate value is wiped.
 *
 * TLS 1.3: OpenSSL tells the two application traffic secrets (its keylog callback); key, iv and the secret of the next generation
 * come from HKDF-Expand-Label (RFC 8446 7.1-7.3). TLS 1.2: the key block comes from the master secret and the two randoms by the
 * PRF (RFC 5246 5, 6.3); AEAD suites have no MAC keys, so it is client key, server key, client iv, server iv.
 */
#include "ktls_internal.h"

#include <errno.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>
#include <string.h>

size_t ktls_cipher_key_len(enum ktls_cipher cipher) {
    return cipher == KTLS_AES_256_GCM || cipher == KTLS_CHACHA20_POLY1305 ? 32 : 16;
}

/* The hash of the suite: for these four it depends on the cipher only, in TLS 1.3 (RFC 8446 B.4) as in 1.2 (RFC 5288, 6655,
 * 7905). */
const EVP_MD *ktls_cipher_md(enum ktls_cipher cipher) {
    return cipher == KTLS_AES_256_GCM ? EVP_sha384() : EVP_sha256();
}

size_t ktls_cipher_secret_len(enum ktls_cipher cipher) {
    return (size_t)EVP_MD_get_size(ktls_cipher_md(cipher));
}

static int derive(const char *kdf_name, OSSL_PARAM *params, uint8_t *out, size_t out_len) {
    ktls_forget_errors();
    EVP_KDF *kdf = EVP_KDF_fetch(NULL, kdf_name, NULL);
    EVP_KDF_CTX *ctx = kdf ? EVP_KDF_CTX_new(kdf) : NULL;
    int r = ctx ? 0 : -ENOMEM;
    if (ctx && EVP_KDF_derive(ctx, out, out_len, params) != 1) r = ktls_no_memory() ? -ENOMEM : -EINVAL;
    EVP_KDF_CTX_free(ctx); /* wipes its copy of the secret */
    EVP_KDF_free(kdf);
    if (r < 0) {
        OPENSSL_cleanse(out, out_len);
        ERR_clear_error();
    }
    return r;
}

static OSSL_PARAM octets(const char *name, const void *data, size_t len) {
    union {
        const void *in;
        void *out;
    } cast = { .in = data }; /* OSSL_PARAM is used for both directions; these are only read */
    return OSSL_PARAM_construct_octet_string(name, cast.out, len);
}

static OSSL_PARAM digest_name(const EVP_MD *md, char *buf, size_t cap) {
    size_t len = strlen(EVP_MD_get0_name(md));
    memcpy(buf, EVP_MD_get0_name(md), len < cap ? len + 1 : cap);
    return OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, buf, 0);
}

int ktls_hkdf_expand_label(const EVP_MD *md, const uint8_t *secret, size_t secret_len, const char *label, uint8_t *out,
                           size_t out_len) {
    /* struct { uint16 length; opaque label<7..255> = "tls13 " + label; opaque context<0..255>; } HkdfLabel; */
    uint8_t info[2 + 1 + 6 + 32 + 1];
    size_t label_len = strlen(label);
    if (label_len > 32 || out_len > UINT16_MAX) return -EINVAL;
    info[0] = (uint8_t)(out_len >> 8);
    info[1] = (uint8_t)out_len;
    info[2] = (uint8_t)(6 + label_len);
    memcpy(info + 3, "tls13 ", 6);
    memcpy(info + 9, label, label_len);
    info[9 + label_len] = 0;

    char md_name[32];
    int mode = EVP_KDF_HKDF_MODE_EXPAND_ONLY;
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_int(OSSL_KDF_PARAM_MODE, &mode),
        digest_name(md, md_name, sizeof md_name),
        octets(OSSL_KDF_PARAM_KEY, secret, secret_len),
        octets(OSSL_KDF_PARAM_INFO, info, 10 + label_len),
        OSSL_PARAM_construct_end(),
    };
    return derive("HKDF", params, out, out_len);
}

int ktls_keys_tls13(enum ktls_cipher cipher, const uint8_t *secret, struct ktls_keys *ret) {
    const EVP_MD *md = ktls_cipher_md(cipher);
    size_t secret_len = ktls_cipher_secret_len(cipher);
    memset(ret, 0, sizeof *ret);
    int r = ktls_hkdf_expand_label(md, secret, secret_len, "key", ret->key, ktls_cipher_key_len(cipher));
    if (r == 0) r = ktls_hkdf_expand_label(md, secret, secret_len, "iv", ret->iv, sizeof ret->iv);
    if (r < 0) OPENSSL_cleanse(ret, sizeof *ret);
    return r;
}

int ktls_next_secret(enum ktls_cipher cipher, uint8_t *secret) {
    uint8_t next[KTLS_SECRET_MAX];
    size_t len = ktls_cipher_secret_len(cipher);
    int r = ktls_hkdf_expand_label(ktls_cipher_md(cipher), secret, len, "traffic upd", next, len);
    if (r == 0) memcpy(secret, next, len);
    OPENSSL_cleanse(next, sizeof next);
    return r;
}

int ktls_keys_tls12(enum ktls_cipher cipher, const uint8_t *master, const uint8_t *client_random, const uint8_t *server_random,
                    struct ktls_keys *ret_client, struct ktls_keys *ret_server) {
    size_t key_len = ktls_cipher_key_len(cipher);
    size_t iv_len = cipher == KTLS_CHACHA20_POLY1305 ? 12 : 4; /* RFC 7905 2; RFC 5288 3, RFC 6655 3 */
    size_t block_len = 2 * (key_len + iv_len);
    uint8_t block[2 * (KTLS_KEY_MAX + KTLS_IV_LEN)], seed[13 + 32 + 32];
    memcpy(seed, "key expansion", 13);
    memcpy(seed + 13, server_random, 32);
    memcpy(seed + 45, client_random, 32);

    char md_name[32];
    OSSL_PARAM params[] = {
        digest_name(ktls_cipher_md(cipher), md_name, sizeof md_name),
        octets(OSSL_KDF_PARAM_SECRET, master, 48),
        octets(OSSL_KDF_PARAM_SEED, seed, sizeof seed),
        OSSL_PARAM_construct_end(),
    };
    int r = derive("TLS1-PRF", params, block, block_len);
    if (r == 0) {
        memset(ret_client, 0, sizeof *ret_client);
        memset(ret_server, 0, sizeof *ret_server);
        memcpy(ret_client->key, block, key_len);
        memcpy(ret_server->key, block + key_len, key_len);
        memcpy(ret_client->iv, block + 2 * key_len, iv_len);
        memcpy(ret_server->iv, block + 2 * key_len + iv_len, iv_len);
    }
    OPENSSL_cleanse(block, sizeof block);
    return r;
}
