/* CRC-64: the published check value, and every way through it against a bit at a time. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "base/crc64.h"
#include "base/rand.h"

static uint64_t bit_by_bit(uint64_t crc, const unsigned char *p, size_t n) {
    while (n--) {
        crc ^= *p++;
        for (int i = 0; i < 8; i++) crc = crc & 1 ? crc >> 1 ^ 0x95ac9329ac4bc9b5ULL : crc >> 1;
    }
    return crc;
}

static void test_crc64_check_value(void **state) {
    (void)state;
    assert_true(crc64(0, "123456789", 9) == 0xe9c6d914c4b8d9caULL);
    assert_true(crc64(7, "", 0) == 7);
}

static void test_crc64_all_lengths_and_places(void **state) {
    (void)state;
    unsigned char bytes[1200];
    for (size_t i = 0; i < sizeof bytes; i++) bytes[i] = (unsigned char)rand_below(256);
    for (size_t from = 0; from < 17; from++)
        for (size_t n = 0; n <= sizeof bytes - 17; n += n < 300 ? 1 : 37) {
            uint64_t before = n % 3 ? rand_below(UINT64_MAX) : 0;
            assert_true(crc64(before, bytes + from, n) == bit_by_bit(before, bytes + from, n));
        }
}

static void test_crc64_in_pieces(void **state) {
    (void)state;
    unsigned char bytes[3000];
    for (size_t i = 0; i < sizeof bytes; i++) bytes[i] = (unsigned char)(i * 37);
    for (size_t cut = 0; cut <= sizeof bytes; cut += 61)
        assert_true(crc64(crc64(0, bytes, cut), bytes + cut, sizeof bytes - cut) == crc64(0, bytes, sizeof bytes));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_crc64_check_value),
        cmocka_unit_test(test_crc64_all_lengths_and_places),
        cmocka_unit_test(test_crc64_in_pieces),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
