/* Key derivation and record protection against RFC 8448, and TLS 1.2 against records that OpenSSL wrote. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include "ktls_test.h"

#include <openssl/hmac.h>

static size_t unhex(const char *s, uint8_t *out) {
    size_t n = 0;
    for (; *s; s++) {
        unsigned v;
        if (*s == ' ') continue;
        assert_int_equal(sscanf(s, "%2x", &v), 1);
        out[n++] = (uint8_t)v;
        s++;
    }
    return n;
}

/* RFC 8448 section 3, "Simple 1-RTT Handshake". */
static const char server_secret_0[] =
    "a1 1a f9 f0 55 31 f8 56 ad 47 11 6b 45 a9 50 32 82 04 b4 f4 4b fb 6b 3a 4b 4f 1f 3f cb 63 16 43";
static const char client_secret_0[] =
    "9e 40 64 6c e7 9a 7f 9d c0 5a f8 88 9b ce 65 52 87 5a fa 0b 06 df 00 87 f7 92 eb b7 c1 75 04 a5";

static void test_keys_tls13_rfc8448_server(void **state) {
    uint8_t secret[32], key[16], iv[12];
    struct ktls_keys k;
    (void)state;
    unhex(server_secret_0, secret);
    unhex("9f 02 28 3b 6c 9c 07 ef c2 6b b9 f2 ac 92 e3 56", key);
    unhex("cf 78 2b 88 dd 83 54 9a ad f1 e9 84", iv);
    assert_int_equal(ktls_keys_tls13(KTLS_AES_128_GCM, secret, &k), 0);
    assert_memory_equal(k.key, key, sizeof key);
    assert_memory_equal(k.iv, iv, sizeof iv);
}

static void test_keys_tls13_rfc8448_client(void **state) {
    uint8_t secret[32], key[16], iv[12];
    struct ktls_keys k;
    (void)state;
    unhex(client_secret_0, secret);
    unhex("17 42 2d da 59 6e d5 d9 ac d8 90 e3 c6 3f 50 51", key);
    unhex("5b 78 92 3d ee 08 57 90 33 e5 23 d9", iv);
    assert_int_equal(ktls_keys_tls13(KTLS_AES_128_GCM, secret, &k), 0);
    assert_memory_equal(k.key, key, sizeof key);
    assert_memory_equal(k.iv, iv, sizeof iv);
}

static void test_seal_open_rfc8448_record(void **state) {
    uint8_t secret[32], want[128], rec[128], text[128], data[50], type;
    struct ktls_keys k;
    (void)state;
    size_t len =
        unhex("17 03 03 00 43 a2 3f 70 54 b6 2c 94 d0 af fa fe 82 28 ba 55 cb ef ac ea 42 f9 14 aa 66 bc ab 3f 2b 98 19 a8"
              "a5 b4 6b 39 5b d5 4a 9a 20 44 1e 2b 62 97 4e 1f 5a 62 92 a2 97 70 14 bd 1e 3d ea e6 3a ee bb 21 69 49 15 e4",
              want);
    for (size_t i = 0; i < sizeof data; i++) data[i] = (uint8_t)i;
    unhex(client_secret_0, secret);
    assert_int_equal(ktls_keys_tls13(KTLS_AES_128_GCM, secret, &k), 0);
    assert_int_equal(ktls_seal(KTLS_TLS13, KTLS_AES_128_GCM, &k, 0, KTLS_CT_DATA, data, sizeof data, rec), len);
    assert_memory_equal(rec, want, len);
    assert_int_equal(ktls_open(KTLS_TLS13, KTLS_AES_128_GCM, &k, 0, want, len, text, &type), sizeof data);
    assert_int_equal(type, KTLS_CT_DATA);
    assert_memory_equal(text, data, sizeof data);
    want[len - 1] ^= 1;
    assert_int_equal(ktls_open(KTLS_TLS13, KTLS_AES_128_GCM, &k, 0, want, len, text, &type), -EBADMSG);
}

static void test_seal_open_every_suite_agree(void **state) {
    struct ktls_keys k;
    uint8_t rec[200], text[200], type;
    (void)state;
    for (size_t i = 0; i < sizeof k.key; i++) k.key[i] = (uint8_t)i;
    for (size_t i = 0; i < sizeof k.iv; i++) k.iv[i] = (uint8_t)(i * 3);
    for (int v = 0; v < KTLS_N_VERSIONS; v++) {
        for (int c = 0; c < KTLS_N_CIPHERS; c++) {
            ssize_t n = ktls_seal((enum ktls_version)v, (enum ktls_cipher)c, &k, 7, KTLS_CT_ALERT, (const uint8_t *)"ab", 2, rec);
            assert_true(n > 0);
            assert_int_equal(ktls_open((enum ktls_version)v, (enum ktls_cipher)c, &k, 7, rec, (size_t)n, text, &type), 2);
            assert_int_equal(type, KTLS_CT_ALERT);
            assert_int_equal(ktls_open((enum ktls_version)v, (enum ktls_cipher)c, &k, 8, rec, (size_t)n, text, &type), -EBADMSG);
        }
    }
}

/* Two OpenSSL ends over memory BIOs. */
static void shake(SSL *a, SSL *b) {
    for (int i = 0; i < 20; i++) {
        SSL_do_handshake(a);
        SSL_do_handshake(b);
    }
    assert_true(SSL_is_init_finished(a) && SSL_is_init_finished(b));
}

static void check_tls12(int cipher) {
    SSL_CTX *cc = peer_ctx(false, TLS1_2_VERSION, tls12_suites[cipher]),
            *sc = peer_ctx(true, TLS1_2_VERSION, tls12_suites[cipher]);
    SSL *c = SSL_new(cc), *s = SSL_new(sc);
    BIO *to_s = BIO_new(BIO_s_mem()), *to_c = BIO_new(BIO_s_mem());
    BIO_up_ref(to_s);
    BIO_up_ref(to_c);
    SSL_set_bio(c, to_c, to_s);
    SSL_set_bio(s, to_s, to_c);
    SSL_set_connect_state(c);
    SSL_set_accept_state(s);
    shake(c, s);

    uint8_t master[48], cr[32], sr[32], rec[300], text[300], type;
    struct ktls_keys ck, sk;
    assert_int_equal(SSL_SESSION_get_master_key(SSL_get_session(c), master, 48), 48);
    SSL_get_client_random(c, cr, 32);
    SSL_get_server_random(c, sr, 32);
    assert_int_equal(ktls_keys_tls12((enum ktls_cipher)cipher, master, cr, sr, &ck, &sk), 0);
    assert_int_equal(SSL_write(c, "to server", 9), 9);
    int n = BIO_read(to_s, rec, sizeof rec);
    assert_int_equal(ktls_open(KTLS_TLS12, (enum ktls_cipher)cipher, &ck, 1, rec, (size_t)n, text, &type), 9);
    assert_memory_equal(text, "to server", 9);
    /* and the other way: OpenSSL reads what we sealed, sequence number 1 after the server's Finished */
    ssize_t len = ktls_seal(KTLS_TLS12, (enum ktls_cipher)cipher, &sk, 1, KTLS_CT_DATA, (const uint8_t *)"to client", 9, rec);
    BIO_write(to_c, rec, (int)len);
    assert_int_equal(SSL_read(c, text, sizeof text), 9);
    assert_memory_equal(text, "to client", 9);
    SSL_free(c);
    SSL_free(s);
    SSL_CTX_free(cc);
    SSL_CTX_free(sc);
}

static void test_keys_tls12_every_suite_opens_openssl_records(void **state) {
    (void)state;
    for (int cipher = 0; cipher < KTLS_N_CIPHERS; cipher++) check_tls12(cipher);
}

/* The next generation: against a derivation written out by hand. */
static void test_next_secret_is_traffic_upd(void **state) {
    uint8_t secret[48], want[32];
    (void)state;
    unhex(client_secret_0, secret);
    assert_int_equal(ktls_hkdf_expand_label(EVP_sha256(), secret, 32, "traffic upd", want, 32), 0);
    uint8_t info[] = { 0, 32, 17, 't', 'l', 's', '1', '3', ' ', 't', 'r', 'a', 'f', 'f', 'i', 'c', ' ', 'u', 'p', 'd', 0, 1 },
            t1[32];
    unsigned n = 0;
    HMAC(EVP_sha256(), secret, 32, info, sizeof info, t1, &n);
    assert_memory_equal(want, t1, 32);
    assert_int_equal(ktls_next_secret(KTLS_AES_128_GCM, secret), 0);
    assert_memory_equal(secret, want, 32);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_keys_tls13_rfc8448_server),
        cmocka_unit_test(test_keys_tls13_rfc8448_client),
        cmocka_unit_test(test_seal_open_rfc8448_record),
        cmocka_unit_test(test_seal_open_every_suite_agree),
        cmocka_unit_test(test_keys_tls12_every_suite_opens_openssl_records),
        cmocka_unit_test(test_next_secret_is_traffic_upd),
    };
    return cmocka_run_group_tests(tests, setup_pki, teardown_pki);
}
