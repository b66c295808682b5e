/* SipHash-1-3, CRC16, cluster slots. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <string.h>

#include "base/hash.h"
#include "base/rand.h"

/* SipHash-1-3, key 00..0f, inputs 00, 01, 02 ... of length 0..40. From a plain rendering of the paper, which was checked against
 * its SipHash-2-4 vector and against CPython 3.11's own SipHash-1-3. */
static const uint64_t sip13_vectors[] = {
    0xabac0158050fc4dc, 0xc9f49bf37d57ca93, 0x82cb9b024dc7d44d, 0x8bf80ab8e7ddf7fb, 0xcf75576088d38328, 0xdef9d52f49533b67,
    0xc50d2b50c59f22a7, 0xd3927d989bb11140, 0x369095118d299a8e, 0x25a48eb36c063de4, 0x79de85ee92ff097f, 0x70c118c1f94dc352,
    0x78a384b157b4d9a2, 0x306f760c1229ffa7, 0x605aa111c0f95d34, 0xd320d86d2a519956, 0xcc4fdd1a7d908b66, 0x9cf2689063dbd80c,
    0x8ffc389cb473e63e, 0xf21f9de58d297d1c, 0xc0dc2f46a6cce040, 0xb992abfe2b45f844, 0x7ffe7b9ba320872e, 0x525a0e7fdae6c123,
    0xf464aeb267349c8c, 0x45cd5928705b0979, 0x3a3e35e3ca9913a5, 0xa91dc74e4ade3b35, 0xfb0bed02ef6cd00d, 0x88d93cb44ab1e1f4,
    0x540f11d643c5e663, 0x2370dd1f8c21d1bc, 0x81157b6c16a7b60d, 0x4d54b9e57a8ff9bf, 0x759f12781f2a753e, 0xcea1a3bebf186b91,
    0x2cf508d3ada26206, 0xb6101c2da3c33057, 0xb3f47496ae3a36a1, 0x626b57547b108392, 0xc1d2363299e41531,
};

static const uint8_t key0f[16] = { 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15 };

static int setup(void **state) {
    (void)state;
    hash_seed_init();
    return 0;
}

static void test_hash_sip13_reference_inputs_give_reference_values(void **state) {
    (void)state;
    uint8_t in[41];
    for (size_t i = 0; i < sizeof in; i++) in[i] = (uint8_t)i;
    for (size_t n = 0; n <= 40; n++) assert_true(hash_sip13(in, n, key0f) == sip13_vectors[n]);
}

static void test_hash_sip13_any_alignment_is_equal(void **state) {
    (void)state;
    char room[80];
    for (size_t n = 0; n <= 40; n++) {
        for (size_t off = 0; off < 16; off++) {
            for (size_t i = 0; i < n; i++) room[off + i] = (char)i;
            assert_true(hash_sip13(room + off, n, key0f) == sip13_vectors[n]);
        }
    }
}

static void test_hash_bytes_depends_on_every_bit_and_on_length(void **state) {
    (void)state;
    uint8_t in[40];
    rand_secure(in, sizeof in);
    for (size_t n = 1; n <= 40; n++) {
        uint64_t h = hash_bytes(in, n);
        assert_true(h == hash_bytes(in, n));
        assert_true(h != hash_bytes(in, n - 1));
        for (size_t bit = 0; bit < n * 8; bit++) {
            in[bit / 8] ^= (uint8_t)(1u << bit % 8);
            assert_true(hash_bytes(in, n) != h);
            in[bit / 8] ^= (uint8_t)(1u << bit % 8);
        }
    }
    static const uint8_t zeros[40];
    for (size_t n = 1; n <= 40; n++) assert_true(hash_bytes(zeros, n) != hash_bytes(zeros, n - 1));
}

static void test_hash_seed_init_again_changes_the_key(void **state) {
    (void)state;
    uint64_t a = hash_bytes("key", 3);
    hash_seed_init();
    assert_true(hash_bytes("key", 3) != a);
}

static void test_hash_empty_null_is_accepted(void **state) {
    (void)state;
    assert_true(hash_bytes(NULL, 0) == hash_bytes("", 0));
    assert_int_equal(hash_crc16(NULL, 0), 0);
    assert_int_equal(hash_slot(NULL, 0), 0);
}

static void test_hash_crc16_check_value_is_xmodem(void **state) {
    (void)state;
    assert_int_equal(hash_crc16("123456789", 9), 0x31C3);
    assert_int_equal(hash_crc16("", 0), 0);
    assert_int_equal(hash_crc16("\0\0\0", 3), 0);
    assert_int_equal(hash_crc16("foo", 3), 44950);
    assert_int_equal(hash_crc16("hello", 5), 50018);
}

/* The definition: one bit at a time. */
static uint16_t crc_by_bits(const uint8_t *p, size_t len) {
    uint16_t crc = 0;
    for (size_t i = 0; i < len; i++) {
        crc = (uint16_t)(crc ^ p[i] << 8);
        for (int bit = 0; bit < 8; bit++) crc = (uint16_t)(crc & 0x8000 ? (crc << 1) ^ 0x1021 : crc << 1);
    }
    return crc;
}

static void test_hash_crc16_any_length_and_alignment_equals_definition(void **state) {
    (void)state;
    uint8_t in[128];
    rand_secure(in, sizeof in);
    for (size_t off = 0; off < 9; off++)
        for (size_t n = 0; n + off <= sizeof in; n++) assert_int_equal(hash_crc16(in + off, n), crc_by_bits(in + off, n));
}

#define SLOT(s) hash_slot(s, sizeof(s) - 1)

static void test_hash_slot_plain_key_is_crc_modulo(void **state) {
    (void)state;
    assert_int_equal(SLOT("foo"), 12182);
    assert_int_equal(SLOT("bar"), 5061);
    assert_int_equal(SLOT("hello"), 866);
    assert_int_equal(SLOT("123456789"), 12739);
    assert_int_equal(SLOT(""), 0);
}

static void test_hash_slot_tag_counts_alone(void **state) {
    (void)state;
    assert_int_equal(SLOT("{user1000}.following"), 3443);
    assert_int_equal(SLOT("{user1000}.followers"), SLOT("user1000"));
    assert_int_equal(SLOT("x{foo}"), SLOT("foo"));
    assert_int_equal(SLOT("a\0b{foo}\0c"), SLOT("foo"));
    assert_int_equal(SLOT("foo{bar}{zap}"), SLOT("bar"));
    assert_int_equal(SLOT("foo{{bar}}zap"), SLOT("{bar"));
    assert_int_equal(SLOT("{{bar}"), 4015);
    assert_int_equal(SLOT("}{foo}"), SLOT("foo"));
}

static void test_hash_slot_empty_or_open_tag_counts_whole_key(void **state) {
    (void)state;
    static const char *const keys[] = { "foo{}{bar}", "{}", "{}foo", "{", "}", "foo{bar", "foo}bar", "foo}bar{", "{bar" };
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        assert_int_equal(hash_slot(keys[i], strlen(keys[i])), hash_crc16(keys[i], strlen(keys[i])) % HASH_SLOTS);
    assert_int_equal(SLOT("foo{}{bar}"), 8363);
}

static void test_hash_slot_random_keys_stay_in_range(void **state) {
    (void)state;
    for (int i = 0; i < 20000; i++) {
        char key[24];
        size_t n = rand_below(sizeof key + 1);
        for (size_t j = 0; j < n; j++) key[j] = "{}ab\xff"[rand_below(5)];
        assert_true(hash_slot(key, n) < HASH_SLOTS);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hash_sip13_reference_inputs_give_reference_values),
        cmocka_unit_test(test_hash_sip13_any_alignment_is_equal),
        cmocka_unit_test(test_hash_bytes_depends_on_every_bit_and_on_length),
        cmocka_unit_test(test_hash_seed_init_again_changes_the_key),
        cmocka_unit_test(test_hash_empty_null_is_accepted),
        cmocka_unit_test(test_hash_crc16_check_value_is_xmodem),
        cmocka_unit_test(test_hash_crc16_any_length_and_alignment_equals_definition),
        cmocka_unit_test(test_hash_slot_plain_key_is_crc_modulo),
        cmocka_unit_test(test_hash_slot_tag_counts_alone),
        cmocka_unit_test(test_hash_slot_empty_or_open_tag_counts_whole_key),
        cmocka_unit_test(test_hash_slot_random_keys_stay_in_range),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
