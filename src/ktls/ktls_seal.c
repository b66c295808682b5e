/*
 * One TLS record, built and opened in userspace.
 *
 * Place in the flow: not on it. It is the independent other end against which the probe (and the tests) check what the kernel
 * encrypts and decrypts. Pure functions over EVP, any thread.
 *
 *   TLS 1.2 GCM, CCM   header | 8 bytes explicit nonce | ciphertext | tag     aad: seq, type, version, length   RFC 5288 3, RFC
 * 6655 3 TLS 1.2 ChaCha20   header | ciphertext | tag                              nonce: iv xor seq                 RFC 7905 2
 *   TLS 1.3            header (type 23) | ciphertext of content, type | tag   nonce: iv xor seq, aad: header    RFC 8446 5.2
 */
#include "ktls_internal.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <string.h>

#define TAG_LEN 16
#define EXPLICIT_LEN 8

struct aead_input {
    uint8_t nonce[KTLS_IV_LEN];
    uint8_t aad[13];
    int aad_len;
};

static const EVP_CIPHER *evp_cipher(enum ktls_cipher cipher) {
    switch (cipher) {
    case KTLS_AES_128_GCM:
        return EVP_aes_128_gcm();
    case KTLS_AES_256_GCM:
        return EVP_aes_256_gcm();
    case KTLS_CHACHA20_POLY1305:
        return EVP_chacha20_poly1305();
    case KTLS_AES_128_CCM:
        return EVP_aes_128_ccm();
    default:
        return NULL;
    }
}

static size_t explicit_len(enum ktls_version version, enum ktls_cipher cipher) {
    return version == KTLS_TLS12 && cipher != KTLS_CHACHA20_POLY1305 ? EXPLICIT_LEN : 0;
}

static void put_header(uint8_t *p, uint8_t type, size_t len) {
    p[0] = type;
    p[1] = p[2] = 3;
    p[3] = (uint8_t)(len >> 8);
    p[4] = (uint8_t)len;
}

/* explicit: the explicit nonce, or NULL. content_len: of the plaintext. header: as on the wire. */
static void make_input(struct aead_input *in, enum ktls_version version, const struct ktls_keys *keys, uint64_t seq,
                       const uint8_t *explicit, const uint8_t *header, size_t content_len) {
    uint8_t be[8];
    for (int i = 0; i < 8; i++) be[i] = (uint8_t)(seq >> (56 - 8 * i));
    memcpy(in->nonce, keys->iv, sizeof in->nonce);
    if (explicit)
        memcpy(in->nonce + 4, explicit, EXPLICIT_LEN);
    else
        for (int i = 0; i < 8; i++) in->nonce[4 + i] ^= be[i];
    if (version == KTLS_TLS13) {
        memcpy(in->aad, header, KTLS_RECORD_HEADER);
        in->aad_len = KTLS_RECORD_HEADER;
        return;
    }
    memcpy(in->aad, be, 8);
    put_header(in->aad + 8, header[0], content_len);
    in->aad_len = 13;
}

/* CCM wants its tag length (and, to open, the tag) before the key and the text's length before anything else. */
static int crypt(enum ktls_cipher cipher, int enc, const uint8_t *key, const struct aead_input *in, const uint8_t *from, int len,
                 uint8_t *to, uint8_t *tag) {
    ktls_forget_errors();
    EVP_CIPHER_CTX *c = EVP_CIPHER_CTX_new();
    bool ccm = cipher == KTLS_AES_128_CCM;
    int n, ok = c && EVP_CipherInit_ex(c, evp_cipher(cipher), NULL, NULL, NULL, enc) == 1 &&
                EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_AEAD_SET_IVLEN, KTLS_IV_LEN, NULL) == 1;
    if (ok && (!enc || ccm)) ok = EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_AEAD_SET_TAG, TAG_LEN, enc ? NULL : tag) == 1;
    ok = ok && EVP_CipherInit_ex(c, NULL, NULL, key, in->nonce, enc) == 1;
    if (ok && ccm) ok = EVP_CipherUpdate(c, NULL, &n, NULL, len) == 1;
    ok = ok && EVP_CipherUpdate(c, NULL, &n, in->aad, in->aad_len) == 1 && EVP_CipherUpdate(c, to, &n, from, len) == 1;
    if (ok && (enc || !ccm)) ok = EVP_CipherFinal_ex(c, to + n, &n) == 1;
    if (ok && enc) ok = EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_AEAD_GET_TAG, TAG_LEN, tag) == 1;
    EVP_CIPHER_CTX_free(c);
    bool no_memory = ktls_no_memory() || !c;
    if (ok) return 0;
    return no_memory ? -ENOMEM : -EBADMSG;
}

ssize_t ktls_seal_text(enum ktls_version version, enum ktls_cipher cipher, const struct ktls_keys *keys, uint64_t seq,
                       const uint8_t *header, const uint8_t *text, size_t len, uint8_t *out) {
    size_t extra = explicit_len(version, cipher);
    uint8_t *to = out + KTLS_RECORD_HEADER + extra;
    if (len > UINT16_MAX || !evp_cipher(cipher)) return -EINVAL;
    memcpy(out, header, KTLS_RECORD_HEADER);
    for (size_t i = 0; i < extra; i++) out[KTLS_RECORD_HEADER + i] = (uint8_t)(seq >> (56 - 8 * i));
    struct aead_input in;
    make_input(&in, version, keys, seq, extra ? out + KTLS_RECORD_HEADER : NULL, out, len);
    int r = crypt(cipher, 1, keys->key, &in, text, (int)len, to, to + len);
    return r < 0 ? r : (ssize_t)(KTLS_RECORD_HEADER + extra + len + TAG_LEN);
}

ssize_t ktls_seal(enum ktls_version version, enum ktls_cipher cipher, const struct ktls_keys *keys, uint64_t seq, uint8_t type,
                  const uint8_t *data, size_t len, uint8_t *out) {
    uint8_t inner[KTLS_RECORD_DATA_MAX + 1], header[KTLS_RECORD_HEADER];
    if (len > KTLS_RECORD_DATA_MAX) return -EINVAL;
    memcpy(inner, data, len);
    inner[len] = type;
    size_t text_len = version == KTLS_TLS13 ? len + 1 : len;
    put_header(header, version == KTLS_TLS13 ? KTLS_CT_DATA : type, explicit_len(version, cipher) + text_len + TAG_LEN);
    return ktls_seal_text(version, cipher, keys, seq, header, inner, text_len, out);
}

ssize_t ktls_open(enum ktls_version version, enum ktls_cipher cipher, const struct ktls_keys *keys, uint64_t seq,
                  const uint8_t *rec, size_t rec_len, uint8_t *out, uint8_t *ret_type) {
    size_t extra = explicit_len(version, cipher);
    if (!evp_cipher(cipher) || rec_len < KTLS_RECORD_HEADER + extra + TAG_LEN) return -EBADMSG;
    const uint8_t *text = rec + KTLS_RECORD_HEADER + extra;
    size_t len = rec_len - KTLS_RECORD_HEADER - extra - TAG_LEN;
    uint8_t tag[TAG_LEN];
    memcpy(tag, text + len, TAG_LEN);
    struct aead_input in;
    make_input(&in, version, keys, seq, extra ? rec + KTLS_RECORD_HEADER : NULL, rec, len);
    int r = crypt(cipher, 0, keys->key, &in, text, (int)len, out, tag);
    if (r < 0) return r;
    *ret_type = rec[0];
    if (version == KTLS_TLS12) return (ssize_t)len;
    while (len > 0 && out[len - 1] == 0) len--; /* padding */
    if (len == 0) return -EBADMSG;
    *ret_type = out[--len];
    return (ssize_t)len;
}
