/* The record layer in memory (ktls_layer.c, ktls_seal.c): RFC 8448's records, lengths at their bounds, bytes that come in every
 * possible way, what is held and what is copied. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include "ktls_test.h"

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

static void make_keys(struct ktls_keys *k) {
    for (size_t i = 0; i < sizeof k->key; i++) k->key[i] = (uint8_t)(i * 7 + 1);
    for (size_t i = 0; i < sizeof k->iv; i++) k->iv[i] = (uint8_t)(i * 3);
}

/* Both directions under one key, so that what is sent can be received. */
static struct ktls_layer *new_layer(int version, int cipher) {
    struct ktls_layer *l = ktls_layer_new();
    struct ktls_keys k;
    make_keys(&k);
    for (int dir = 0; dir < KTLS_N_DIRS; dir++)
        assert_int_equal(
            ktls_aead_set(&l->aead[dir], (enum ktls_dir)dir, (enum ktls_version)version, (enum ktls_cipher)cipher, &k, 5), 0);
    return l;
}

static void put(struct ktls_layer *l, uint8_t type, const void *data, size_t len) {
    union {
        const void *in;
        void *out;
    } cast = { .in = data };
    struct iovec iov = { cast.out, len };
    assert_int_equal(ktls_layer_put(l, type, &iov, 0, len), 0);
}

/* ---- RFC 8448 section 3, "Simple 1-RTT Handshake": application data and close_notify of both sides ---- */

static const char client_secret[] =
    "9e 40 64 6c e7 9a 7f 9d c0 5a f8 88 9b ce 65 52 87 5a fa 0b 06 df 00 87 f7 92 eb b7 c1 75 04 a5";
static const char client_data[] =
    "17 03 03 00 43 a2 3f 70 54 b6 2c 94 d0 af fa fe 82 28 ba 55 cb ef ac ea 42 f9 14 aa 66 bc ab 3f 2b 98 19 a8"
    "a5 b4 6b 39 5b d5 4a 9a 20 44 1e 2b 62 97 4e 1f 5a 62 92 a2 97 70 14 bd 1e 3d ea e6 3a ee bb 21 69 49 15 e4";
static const char client_close[] = "17 03 03 00 13 c9 87 27 60 65 56 66 b7 4d 7f f1 15 3e fd 6d b6 d0 b0 e3";
static const char server_secret[] =
    "a1 1a f9 f0 55 31 f8 56 ad 47 11 6b 45 a9 50 32 82 04 b4 f4 4b fb 6b 3a 4b 4f 1f 3f cb 63 16 43";
static const char server_data[] =
    "17 03 03 00 43 2e 93 7e 11 ef 4a c7 40 e5 38 ad 36 00 5f c4 a4 69 32 fc 32 25 d0 5f 82 aa 1b 36 e3 0e fa f9"
    "7d 90 e6 df fc 60 2d cb 50 1a 59 a8 fc c4 9c 4b f2 e5 f0 a2 1c 00 47 c2 ab f3 32 54 0d d0 32 e1 67 c2 95 5d";
static const char server_close[] = "17 03 03 00 13 b5 8f d6 71 66 eb f5 99 d2 47 20 cf be 7e fa 7a 88 64 a9";

/* first: the sequence number of the data; a server's is 1, behind a session ticket. */
static void check_trace(const char *secret_hex, uint64_t first, const char *data_hex, const char *close_hex) {
    uint8_t secret[32], wire[256], data[50], buf[256];
    const uint8_t close_notify[2] = { 1, 0 };
    struct ktls_keys k;
    struct ktls_found f;
    size_t data_len = unhex(data_hex, wire), len = data_len + unhex(close_hex, wire + data_len);
    struct ktls_layer *l = ktls_layer_new();
    for (size_t i = 0; i < sizeof data; i++) data[i] = (uint8_t)i;
    unhex(secret_hex, secret);
    assert_int_equal(ktls_keys_tls13(KTLS_AES_128_GCM, secret, &k), 0);
    for (int dir = 0; dir < KTLS_N_DIRS; dir++)
        assert_int_equal(ktls_aead_set(&l->aead[dir], (enum ktls_dir)dir, KTLS_TLS13, KTLS_AES_128_GCM, &k, first), 0);
    put(l, KTLS_CT_DATA, data, sizeof data);
    put(l, KTLS_CT_ALERT, close_notify, 2);
    assert_int_equal(ktls_queue_len(&l->out), len);
    assert_memory_equal(l->out.data, wire, len);
    ktls_layer_lend(l, wire, len);
    assert_int_equal(ktls_layer_next(l, buf, sizeof buf, false, &f), 1);
    assert_int_equal(f.type, KTLS_CT_DATA);
    assert_true(f.direct);
    assert_int_equal(f.len, sizeof data);
    assert_memory_equal(buf, data, sizeof data);
    ktls_layer_used(l, &f, false);
    assert_int_equal(ktls_layer_next(l, buf, sizeof buf, false, &f), 1);
    assert_int_equal(f.type, KTLS_CT_ALERT);
    assert_int_equal(f.len, 2);
    assert_memory_equal(f.content, close_notify, 2);
    ktls_layer_used(l, &f, false);
    assert_int_equal(ktls_layer_next(l, buf, sizeof buf, false, &f), 0);
    ktls_layer_free(l);
}

static void test_layer_rfc8448_client(void **state) {
    (void)state;
    check_trace(client_secret, 0, client_data, client_close);
}

static void test_layer_rfc8448_server(void **state) {
    (void)state;
    check_trace(server_secret, 1, server_data, server_close);
}

/* ---- Headers ---- */

static int header_alert(int version, int cipher, uint8_t type, unsigned wire_version, size_t body) {
    struct ktls_layer *l = new_layer(version, cipher);
    const uint8_t h[5] = { type, (uint8_t)(wire_version >> 8), (uint8_t)wire_version, (uint8_t)(body >> 8), (uint8_t)body };
    size_t got = 0;
    const char *why = NULL;
    int alert = ktls_header_check((enum ktls_version)version, ktls_aead_before(&l->aead[KTLS_RX]), h, &got, &why);
    if (alert)
        assert_non_null(why);
    else
        assert_int_equal(got, body);
    ktls_layer_free(l);
    return alert;
}

static void test_header_lengths_at_their_bounds(void **state) {
    (void)state;
    for (int c = 0; c < KTLS_N_CIPHERS; c++) {
        size_t extra = c == KTLS_CHACHA20_POLY1305 ? 0 : 8;
        assert_int_equal(header_alert(KTLS_TLS12, c, 23, 0x303, extra + 16), 0);
        assert_int_equal(header_alert(KTLS_TLS12, c, 23, 0x303, extra + 15), KTLS_ALERT_BAD_RECORD_MAC);
        assert_int_equal(header_alert(KTLS_TLS12, c, 23, 0x303, extra + 16 + 16384), 0);
        assert_int_equal(header_alert(KTLS_TLS12, c, 23, 0x303, extra + 16 + 16385), KTLS_ALERT_RECORD_OVERFLOW);
        assert_int_equal(header_alert(KTLS_TLS13, c, 23, 0x303, 16), 0); /* told by its content: it has no type */
        assert_int_equal(header_alert(KTLS_TLS13, c, 23, 0x303, 0), KTLS_ALERT_BAD_RECORD_MAC);
        assert_int_equal(header_alert(KTLS_TLS13, c, 23, 0x303, 16 + 16385), 0);
        assert_int_equal(header_alert(KTLS_TLS13, c, 23, 0x303, 16 + 16386), KTLS_ALERT_RECORD_OVERFLOW);
        assert_int_equal(header_alert(KTLS_TLS13, c, 23, 0x303, 65535), KTLS_ALERT_RECORD_OVERFLOW);
    }
    for (int type = 0; type < 256; type++)
        if (type != 23) assert_int_equal(header_alert(KTLS_TLS13, 0, (uint8_t)type, 0x303, 30), KTLS_ALERT_UNEXPECTED_MESSAGE);
    assert_int_equal(header_alert(KTLS_TLS12, 0, 23, 0x302, 30), KTLS_ALERT_PROTOCOL_VERSION);
    assert_int_equal(header_alert(KTLS_TLS13, 0, 23, 0x403, 30), KTLS_ALERT_DECODE_ERROR);
}

/* Too long is said when the header is there, not when the record is. */
static void test_header_is_refused_before_the_record_is_there(void **state) {
    (void)state;
    struct ktls_layer *l = new_layer(KTLS_TLS13, KTLS_AES_128_GCM);
    uint8_t h[5] = { 23, 3, 3, 0xff, 0xff }, buf[16];
    struct ktls_found f;
    for (int i = 0; i < 5; i++) {
        assert_int_equal(ktls_layer_next(l, buf, sizeof buf, false, &f), 0);
        ktls_layer_lend(l, h + i, 1);
        assert_int_equal(ktls_layer_keep(l), 0);
    }
    assert_int_equal(ktls_layer_next(l, buf, sizeof buf, false, &f), -EPROTO);
    assert_int_equal(f.alert, KTLS_ALERT_RECORD_OVERFLOW);
    ktls_layer_free(l);
}

/* ---- In every way in which bytes may come ---- */

/* Reads what there is, cap bytes at a time, behind what is there already. */
static void read_all(struct ktls_layer *l, uint8_t *to, size_t *got, size_t cap) {
    struct ktls_found f;
    for (;;) {
        if (l->plain_len > 0) {
            *got += ktls_layer_give(l, to + *got, cap);
            continue;
        }
        int r = ktls_layer_next(l, to + *got, cap, false, &f);
        if (r == 0) return;
        assert_int_equal(r, 1);
        assert_int_equal(f.type, KTLS_CT_DATA);
        if (f.direct) *got += f.len;
        ktls_layer_used(l, &f, !f.direct);
    }
}

/* In pieces of `step` bytes, lent or copied, read `cap` bytes at a time. */
static void check_pieces(int version, int cipher, size_t step, size_t cap, bool lend) {
    static const size_t sizes[] = { 1, 0, 100, 17, 0, 1000, 16, 2 };
    static uint8_t data[4096], back[4096 + 32], wire[8192];
    struct ktls_layer *l = new_layer(version, cipher);
    size_t total = 0, got = 0;
    pattern(data, sizeof data, 3);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        put(l, KTLS_CT_DATA, data + total, sizes[i]);
        total += sizes[i];
    }
    size_t len = ktls_queue_len(&l->out);
    memcpy(wire, l->out.data, len);
    for (size_t at = 0; at < len; at += step) {
        size_t n = step < len - at ? step : len - at;
        if (lend)
            ktls_layer_lend(l, wire + at, n);
        else
            assert_int_equal(ktls_queue_add(&l->in, wire + at, n), 0);
        read_all(l, back, &got, cap);
        assert_int_equal(ktls_layer_keep(l), 0);
        assert_true(ktls_queue_len(&l->in) < 1100); /* never more than one record in part */
    }
    assert_int_equal(got, total);
    assert_memory_equal(back, data, total);
    assert_null(l->in.data); /* nothing is held */
    assert_int_equal(ktls_layer_pending(l), 0);
    ktls_layer_free(l);
}

static void test_records_in_pieces_of_every_size(void **state) {
    (void)state;
    static const size_t caps[] = { 1, 7, 17, 1001, 2000 };
    for (int v = 0; v < KTLS_N_VERSIONS; v++)
        for (int c = 0; c < KTLS_N_CIPHERS; c++)
            for (size_t k = 0; k < sizeof caps / sizeof caps[0]; k++)
                for (size_t step = 1; step < 1500; step += step < 70 ? 1 : 97) {
                    check_pieces(v, c, step, caps[k], true);
                    check_pieces(v, c, step, caps[k], false);
                }
}

/* What was opened in place stays when the lender takes his memory back. */
static void test_keep_copies_what_was_opened_and_not_read(void **state) {
    (void)state;
    struct ktls_layer *l = new_layer(KTLS_TLS13, KTLS_AES_128_GCM);
    uint8_t wire[256], buf[64];
    struct ktls_found f;
    put(l, KTLS_CT_DATA, "0123456789", 10);
    put(l, KTLS_CT_DATA, "abcdef", 6);
    size_t len = ktls_queue_len(&l->out);
    memcpy(wire, l->out.data, len);
    ktls_layer_lend(l, wire, len);
    assert_int_equal(ktls_layer_next(l, buf, 4, false, &f), 1);
    assert_false(f.direct);
    ktls_layer_used(l, &f, true);
    assert_int_equal(ktls_layer_give(l, buf, 4), 4);
    assert_int_equal(ktls_layer_keep(l), 0);
    memset(wire, 0xee, sizeof wire);
    assert_int_equal(ktls_layer_pending(l), 6);
    assert_int_equal(ktls_layer_give(l, buf + 4, 60), 6);
    assert_memory_equal(buf, "0123456789", 10);
    assert_int_equal(ktls_layer_pending(l), 7);                      /* a whole record: so much text at most */
    assert_int_equal(ktls_layer_next(l, buf, 6, true, &f), -ENOSPC); /* the type needs a byte too */
    assert_int_equal(ktls_layer_next(l, buf, 7, true, &f), 1);
    assert_int_equal(f.len, 6);
    assert_memory_equal(buf, "abcdef", 6);
    ktls_layer_used(l, &f, false);
    assert_null(l->in.data);
    ktls_layer_free(l);
}

/* ---- Sealing ---- */

/* Pieces of all sizes become the record that one piece becomes; short ones are put together first, long ones are not. */
static void test_sealing_pieces_is_sealing_the_whole(void **state) {
    (void)state;
    static uint8_t data[16384], one[17000], two[17000], back[17000];
    static const size_t lens[] = { 0, 1, 15, 16, 1024, 1025, 4000, 16384 };
    struct ktls_keys k;
    make_keys(&k);
    pattern(data, sizeof data, 9);
    for (int v = 0; v < KTLS_N_VERSIONS; v++)
        for (int c = 0; c < KTLS_N_CIPHERS; c++)
            for (size_t i = 0; i < sizeof lens / sizeof lens[0]; i++) {
                size_t len = lens[i], third = len / 3;
                struct iovec iov[4] = { { data, third }, { NULL, 0 }, { data + third, 1 }, { data + third + 1, 16000 } };
                if (len == 0) iov[2].iov_len = 0;
                iov[3].iov_len = len - iov[0].iov_len - iov[2].iov_len;
                struct ktls_aead a = { .evp = NULL };
                uint8_t type = 0;
                assert_int_equal(ktls_aead_set(&a, KTLS_TX, (enum ktls_version)v, (enum ktls_cipher)c, &k, 7), 0);
                ssize_t n = ktls_seal((enum ktls_version)v, (enum ktls_cipher)c, &k, 7, KTLS_CT_DATA, data, len, one);
                assert_int_equal(ktls_aead_seal(&a, KTLS_CT_DATA, iov, 0, len, two), n);
                assert_memory_equal(one, two, n);
                if (len > 2) {
                    n = ktls_aead_seal(&a, KTLS_CT_DATA, iov, 2, len - 2, two);
                    ssize_t got = ktls_open((enum ktls_version)v, (enum ktls_cipher)c, &k, 8, two, (size_t)n, back, &type);
                    assert_int_equal(got, len - 2);
                    assert_memory_equal(back, data + 2, len - 2);
                }
                assert_int_equal(ktls_aead_seal(&a, KTLS_CT_DATA, iov, 0, 16385, two), -EINVAL);
                ktls_aead_done(&a);
            }
}

/* One bit anywhere, and the record is refused, its place wiped and its number not used up. */
static void test_a_changed_bit_is_refused_everywhere(void **state) {
    (void)state;
    for (int v = 0; v < KTLS_N_VERSIONS; v++)
        for (int c = 0; c < KTLS_N_CIPHERS; c++) {
            struct ktls_layer *l = new_layer(v, c);
            uint8_t wire[128], rec[128], buf[128], type;
            put(l, KTLS_CT_DATA, "0123456789", 10);
            size_t len = ktls_queue_len(&l->out);
            memcpy(wire, l->out.data, len);
            for (size_t bit = 40; bit < len * 8; bit++) { /* behind the header; that is in the table of records */
                memcpy(rec, wire, len);
                rec[bit / 8] ^= (uint8_t)(1 << bit % 8);
                memset(buf, 0xee, sizeof buf);
                assert_int_equal(ktls_aead_open(&l->aead[KTLS_RX], rec, len, buf, &type), -EBADMSG);
                for (int i = 0; i < 10; i++) assert_int_equal(buf[i], 0);
            }
            assert_int_equal(ktls_aead_open(&l->aead[KTLS_RX], wire, len, buf, &type), 10);
            assert_memory_equal(buf, "0123456789", 10);
            ktls_layer_free(l);
        }
}

/* A new key in the old one's place begins at zero. */
static void test_next_key_begins_anew(void **state) {
    (void)state;
    struct ktls_layer *l = new_layer(KTLS_TLS13, KTLS_AES_256_GCM);
    struct ktls_keys k;
    uint8_t buf[64], type;
    make_keys(&k);
    k.key[0] ^= 1;
    put(l, KTLS_CT_DATA, "old", 3);
    assert_int_equal(ktls_aead_set(&l->aead[KTLS_TX], KTLS_TX, KTLS_TLS13, KTLS_AES_256_GCM, &k, 0), 0);
    size_t old = ktls_queue_len(&l->out);
    put(l, KTLS_CT_DATA, "new", 3);
    uint8_t *p = l->out.data + old;
    size_t len = ktls_queue_len(&l->out) - old;
    assert_int_equal(ktls_open(KTLS_TLS13, KTLS_AES_256_GCM, &k, 0, p, len, buf, &type), 3);
    assert_memory_equal(buf, "new", 3);
    assert_int_equal(ktls_aead_set(&l->aead[KTLS_TX], KTLS_TX, KTLS_TLS13, KTLS_CIPHER_OTHER, &k, 0), -EINVAL);
    ktls_layer_free(l);
    assert_null(ktls_layer_free(NULL));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_layer_rfc8448_client),
        cmocka_unit_test(test_layer_rfc8448_server),
        cmocka_unit_test(test_header_lengths_at_their_bounds),
        cmocka_unit_test(test_header_is_refused_before_the_record_is_there),
        cmocka_unit_test(test_records_in_pieces_of_every_size),
        cmocka_unit_test(test_keep_copies_what_was_opened_and_not_read),
        cmocka_unit_test(test_sealing_pieces_is_sealing_the_whole),
        cmocka_unit_test(test_a_changed_bit_is_refused_everywhere),
        cmocka_unit_test(test_next_key_begins_anew),
    };
    return cmocka_run_group_tests(tests, setup_pki, teardown_pki);
}
