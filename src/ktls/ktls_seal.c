/*
 * TLS records, protected and opened in userspace.
 *
 * Place in the flow: below the record layer of user mode (ktls_user.c), which keeps a struct ktls_aead for each direction, of the
 * connection's thread; and as single records (ktls_seal, ktls_open), the other end against which the probe and the tests check
 * what the kernel encrypts and decrypts. The ciphers are OpenSSL's (EVP).
 *
 *   TLS 1.2 GCM, CCM   header | 8 bytes explicit nonce | ciphertext | tag   aad: seq, type, version, length   RFC 5288 3, 6655 3
 *   TLS 1.2 ChaCha20   header | ciphertext | tag                            nonce: iv xor seq                 RFC 7905 2
 *   TLS 1.3            header (type 23) | ciphertext of content, type | tag   nonce: iv xor seq, aad: header  RFC 8446 5.2
 *
 * The key's schedule is made once, in ktls_aead_set(): a record sets the nonce and, to be opened, the tag, in one call. CCM wants
 * its text in one piece and its length before anything else; the others take it piece by piece, so that a large record needs no
 * copy of its text.
 */
#include "ktls_internal.h"

#include <endian.h>
#include <errno.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <string.h>

#define EXPLICIT_LEN 8
#define GATHER_MAX 1024 /* a text of so many bytes is put together before it is encrypted: cheaper than a call more */

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

static void put_be64(uint8_t *p, uint64_t v) {
    v = htobe64(v);
    memcpy(p, &v, sizeof v);
}

static void put_header(uint8_t *p, uint8_t type, size_t len) {
    p[0] = type;
    p[1] = p[2] = 3;
    p[3] = (uint8_t)(len >> 8);
    p[4] = (uint8_t)len;
}

/* header: as on the wire; explicit: the explicit nonce, or NULL; content_len: of the plaintext. */
static void make_input(struct aead_input *in, const struct ktls_aead *a, const uint8_t *header, const uint8_t *explicit,
                       size_t content_len) {
    uint8_t be[8];
    put_be64(be, a->seq);
    memcpy(in->nonce, a->iv, sizeof in->nonce);
    if (explicit)
        memcpy(in->nonce + 4, explicit, EXPLICIT_LEN);
    else
        for (int i = 0; i < 8; i++) in->nonce[4 + i] ^= be[i];
    if (a->version == KTLS_TLS13) {
        memcpy(in->aad, header, KTLS_RECORD_HEADER);
        in->aad_len = KTLS_RECORD_HEADER;
        return;
    }
    memcpy(in->aad, be, 8);
    put_header(in->aad + 8, header[0], content_len);
    in->aad_len = 13;
}

/* ---- One direction ---- */

/* CCM wants its tag's length before the key. */
static bool set_up(struct ktls_aead *a, const uint8_t *key, int enc) {
    if (EVP_CipherInit_ex(a->evp, evp_cipher(a->cipher), NULL, NULL, NULL, enc) != 1) return false;
    if (EVP_CIPHER_CTX_ctrl(a->evp, EVP_CTRL_AEAD_SET_IVLEN, KTLS_IV_LEN, NULL) != 1) return false;
    if (a->cipher == KTLS_AES_128_CCM && EVP_CIPHER_CTX_ctrl(a->evp, EVP_CTRL_AEAD_SET_TAG, KTLS_TAG_LEN, NULL) != 1)
        return false;
    return EVP_CipherInit_ex(a->evp, NULL, NULL, key, NULL, enc) == 1;
}

int ktls_aead_set(struct ktls_aead *a, enum ktls_dir dir, enum ktls_version version, enum ktls_cipher cipher,
                  const struct ktls_keys *keys, uint64_t seq) {
    if (!evp_cipher(cipher)) return -EINVAL;
    ktls_forget_errors();
    if (!a->evp) a->evp = EVP_CIPHER_CTX_new();
    a->version = version;
    a->cipher = cipher;
    a->seq = seq;
    memcpy(a->iv, keys->iv, sizeof a->iv);
    bool ok = a->evp && set_up(a, keys->key, dir == KTLS_TX);
    bool no_memory = ktls_no_memory() || !a->evp;
    if (ok) return 0;
    ktls_aead_done(a);
    return no_memory ? -ENOMEM : -EINVAL;
}

void ktls_aead_done(struct ktls_aead *a) {
    EVP_CIPHER_CTX_free(a->evp); /* wipes the key */
    a->evp = NULL;
    OPENSSL_cleanse(a->iv, sizeof a->iv);
}

size_t ktls_aead_before(const struct ktls_aead *a) {
    return KTLS_RECORD_HEADER + explicit_len(a->version, a->cipher);
}

/* 0, or what OpenSSL's failure means; err when memory has not run out. */
static int result(bool ok, int err) {
    if (ok) return 0;
    return ktls_no_memory() ? -ENOMEM : err;
}

/* What comes before the text, of len bytes in all. tag: to be opened with it, or NULL. */
static bool begin(struct ktls_aead *a, const struct aead_input *in, size_t len, uint8_t *tag) {
    OSSL_PARAM with_tag[2] = { OSSL_PARAM_construct_octet_string(OSSL_CIPHER_PARAM_AEAD_TAG, tag, KTLS_TAG_LEN),
                               OSSL_PARAM_construct_end() };
    int n;
    if (EVP_CipherInit_ex2(a->evp, NULL, NULL, in->nonce, -1, tag ? with_tag : NULL) != 1) return false;
    if (a->cipher == KTLS_AES_128_CCM && EVP_CipherUpdate(a->evp, NULL, &n, NULL, (int)len) != 1) return false;
    return EVP_CipherUpdate(a->evp, NULL, &n, in->aad, in->aad_len) == 1;
}

static bool finish(struct ktls_aead *a, uint8_t *end) {
    OSSL_PARAM tag[2] = { OSSL_PARAM_construct_octet_string(OSSL_CIPHER_PARAM_AEAD_TAG, end, KTLS_TAG_LEN),
                          OSSL_PARAM_construct_end() };
    int n;
    return EVP_CipherFinal_ex(a->evp, end, &n) == 1 && EVP_CIPHER_CTX_get_params(a->evp, tag) == 1;
}

/* The text of len bytes, then `more` bytes behind it that are in `last`. */
static bool encrypt(struct ktls_aead *a, const struct aead_input *in, const struct iovec *iov, size_t skip, size_t len,
                    const uint8_t *last, size_t more, uint8_t *to) {
    size_t at = 0;
    int n;
    if (a->cipher == KTLS_AES_128_CCM || len <= GATHER_MAX) {
        ktls_gather(to, len, iov, skip);
        if (more) memcpy(to + len, last, more);
        return begin(a, in, len + more, NULL) && EVP_CipherUpdate(a->evp, to, &n, to, (int)(len + more)) == 1 &&
               finish(a, to + len + more);
    }
    if (!begin(a, in, len + more, NULL)) return false;
    for (; at < len; iov++) {
        if (skip >= iov->iov_len) {
            skip -= iov->iov_len;
            continue;
        }
        size_t part = iov->iov_len - skip < len - at ? iov->iov_len - skip : len - at;
        if (EVP_CipherUpdate(a->evp, to + at, &n, (const uint8_t *)iov->iov_base + skip, (int)part) != 1) return false;
        at += part;
        skip = 0;
    }
    return (more == 0 || EVP_CipherUpdate(a->evp, to + at, &n, last, (int)more) == 1) && finish(a, to + len + more);
}

/* header is in out already. */
static ssize_t seal_behind_header(struct ktls_aead *a, const struct iovec *iov, size_t skip, size_t len, const uint8_t *last,
                                  size_t more, uint8_t *out) {
    size_t extra = explicit_len(a->version, a->cipher);
    struct aead_input in;
    if (extra) put_be64(out + KTLS_RECORD_HEADER, a->seq);
    make_input(&in, a, out, extra ? out + KTLS_RECORD_HEADER : NULL, len + more);
    errno = 0;
    int r = result(encrypt(a, &in, iov, skip, len, last, more, out + KTLS_RECORD_HEADER + extra), -EIO);
    if (r < 0) return r;
    a->seq++;
    return (ssize_t)(KTLS_RECORD_HEADER + extra + len + more + KTLS_TAG_LEN);
}

ssize_t ktls_aead_seal(struct ktls_aead *a, uint8_t type, const struct iovec *iov, size_t skip, size_t len, uint8_t *out) {
    size_t more = a->version == KTLS_TLS13;
    if (len > KTLS_RECORD_DATA_MAX) return -EINVAL;
    put_header(out, more ? KTLS_CT_DATA : type, explicit_len(a->version, a->cipher) + len + more + KTLS_TAG_LEN);
    return seal_behind_header(a, iov, skip, len, &type, more, out);
}

ssize_t ktls_aead_open(struct ktls_aead *a, uint8_t *rec, size_t rec_len, uint8_t *out, uint8_t *ret_type) {
    size_t before = ktls_aead_before(a);
    struct aead_input in;
    int n;
    if (rec_len < before + KTLS_TAG_LEN) return -EBADMSG;
    uint8_t *text = rec + before;
    size_t len = rec_len - before - KTLS_TAG_LEN;
    make_input(&in, a, rec, before > KTLS_RECORD_HEADER ? rec + KTLS_RECORD_HEADER : NULL, len);
    errno = 0;
    bool ok = begin(a, &in, len, text + len) && EVP_CipherUpdate(a->evp, out, &n, text, (int)len) == 1;
    if (ok && a->cipher != KTLS_AES_128_CCM) ok = EVP_CipherFinal_ex(a->evp, out + len, &n) == 1;
    int r = result(ok, -EBADMSG);
    if (r < 0) {
        OPENSSL_cleanse(out, len); /* nobody is to see what is not authenticated */
        return r;
    }
    a->seq++;
    *ret_type = rec[0];
    if (a->version == KTLS_TLS12) return (ssize_t)len;
    while (len > 0 && out[len - 1] == 0) len--; /* padding */
    if (len == 0) return -ENOMSG;
    *ret_type = out[--len];
    return (ssize_t)len;
}

/* ---- Single records ---- */

ssize_t ktls_seal_text(enum ktls_version version, enum ktls_cipher cipher, const struct ktls_keys *keys, uint64_t seq,
                       const uint8_t *header, const uint8_t *text, size_t len, uint8_t *out) {
    struct ktls_aead a = { .evp = NULL };
    struct iovec none = { NULL, 0 };
    if (len > UINT16_MAX) return -EINVAL;
    int r = ktls_aead_set(&a, KTLS_TX, version, cipher, keys, seq);
    if (r < 0) return r;
    memcpy(out, header, KTLS_RECORD_HEADER);
    ssize_t n = seal_behind_header(&a, &none, 0, 0, text, len, out);
    ktls_aead_done(&a);
    return n;
}

ssize_t ktls_seal(enum ktls_version version, enum ktls_cipher cipher, const struct ktls_keys *keys, uint64_t seq, uint8_t type,
                  const uint8_t *data, size_t len, uint8_t *out) {
    struct ktls_aead a = { .evp = NULL };
    union {
        const uint8_t *in;
        void *out;
    } cast = { .in = data }; /* only read */
    struct iovec iov = { cast.out, len };
    int r = ktls_aead_set(&a, KTLS_TX, version, cipher, keys, seq);
    if (r < 0) return r;
    ssize_t n = ktls_aead_seal(&a, type, &iov, 0, len, out);
    ktls_aead_done(&a);
    return n;
}

ssize_t ktls_open(enum ktls_version version, enum ktls_cipher cipher, const struct ktls_keys *keys, uint64_t seq,
                  const uint8_t *rec, size_t rec_len, uint8_t *out, uint8_t *ret_type) {
    struct ktls_aead a = { .evp = NULL };
    union {
        const uint8_t *in;
        uint8_t *out;
    } cast = { .in = rec }; /* only read: out is elsewhere */
    int r = ktls_aead_set(&a, KTLS_RX, version, cipher, keys, seq);
    if (r < 0) return r;
    ssize_t n = ktls_aead_open(&a, cast.out, rec_len, out, ret_type);
    ktls_aead_done(&a);
    return n == -ENOMSG ? -EBADMSG : n;
}
