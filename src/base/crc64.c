/* CRC-64, eight bytes a step: table[k][b] is what byte b contributes when k more bytes follow it. The tables (16 KiB) are made at
 * the first use. See crc64.h.
 *
 * Where the processor multiplies without carries (PCLMULQDQ), long runs go 64 bytes a step, ten times as fast: four blocks of 128
 * bits are kept, each of which stands for all before it at its place. To move a block on by n bits is to multiply its halves by
 * x^(n + 64) and x^n modulo the polynomial; in reflected order a product comes out one place off, so the constants have an x less
 * (Gopal et al., Fast CRC Computation for Generic Polynomials Using PCLMULQDQ, 2009). What is left at the end, 16 bytes, goes
 * through the tables. */
#include "base/crc64.h"

#include <pthread.h>
#include <stdbool.h>
#include <string.h>

#define POLY_REFLECTED 0x95ac9329ac4bc9b5ULL /* 0xad93d23594c935a9 with its bits in reverse order */

#if defined(__x86_64__)
#include <immintrin.h>
#define CARRYLESS __attribute__((target("pclmul,sse4.1")))
#define CARRYLESS_MIN 256             /* bytes from which on it pays */
static uint64_t by_512[2], by_128[2]; /* for the low and the high half of a block */
static bool has_carryless;
#endif

static uint64_t table[8][256];
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void make_tables(void) {
    for (unsigned b = 0; b < 256; b++) {
        uint64_t c = b;
        for (int i = 0; i < 8; i++) c = c & 1 ? c >> 1 ^ POLY_REFLECTED : c >> 1;
        table[0][b] = c;
    }
    for (unsigned b = 0; b < 256; b++)
        for (int k = 1; k < 8; k++) table[k][b] = table[0][table[k - 1][b] & 0xff] ^ table[k - 1][b] >> 8;
}

#if defined(__x86_64__)
/* x^n modulo the polynomial, reflected. */
static uint64_t power_of_x(unsigned n) {
    uint64_t v = 1ULL << 63;
    while (n--) v = v & 1 ? v >> 1 ^ POLY_REFLECTED : v >> 1;
    return v;
}

static void make_constants(void) {
    by_512[0] = power_of_x(512 + 64 - 1);
    by_512[1] = power_of_x(512 - 1);
    by_128[0] = power_of_x(128 + 64 - 1);
    by_128[1] = power_of_x(128 - 1);
    has_carryless = __builtin_cpu_supports("pclmul") && __builtin_cpu_supports("sse4.1");
}

CARRYLESS static inline __m128i moved_on(__m128i block, __m128i by) {
    return _mm_xor_si128(_mm_clmulepi64_si128(block, by, 0x00), _mm_clmulepi64_si128(block, by, 0x11));
}

CARRYLESS static inline __m128i block_at(const unsigned char *p) {
    return _mm_loadu_si128((const __m128i *)(const void *)p);
}

/* len is a multiple of 64, and not 0. The result is the sum of ret_rest alone. */
CARRYLESS static void carryless(uint64_t crc, const unsigned char *p, size_t len, unsigned char ret_rest[16]) {
    const __m128i far = _mm_set_epi64x((long long)by_512[1], (long long)by_512[0]);
    const __m128i near = _mm_set_epi64x((long long)by_128[1], (long long)by_128[0]);
    /* Four names and no array: the compiler would keep that in memory. */
    __m128i b0 = _mm_xor_si128(block_at(p), _mm_set_epi64x(0, (long long)crc));
    __m128i b1 = block_at(p + 16), b2 = block_at(p + 32), b3 = block_at(p + 48);
    for (p += 64, len -= 64; len > 0; p += 64, len -= 64) {
        b0 = _mm_xor_si128(moved_on(b0, far), block_at(p));
        b1 = _mm_xor_si128(moved_on(b1, far), block_at(p + 16));
        b2 = _mm_xor_si128(moved_on(b2, far), block_at(p + 32));
        b3 = _mm_xor_si128(moved_on(b3, far), block_at(p + 48));
    }
    b1 = _mm_xor_si128(moved_on(b0, near), b1);
    b2 = _mm_xor_si128(moved_on(b1, near), b2);
    b3 = _mm_xor_si128(moved_on(b2, near), b3);
    _mm_storeu_si128((__m128i *)(void *)ret_rest, b3);
}
#endif

static uint64_t by_tables(uint64_t crc, const unsigned char *p, size_t len) {
    for (; len >= 8; len -= 8, p += 8) {
        uint64_t v;
        memcpy(&v, p, 8);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
        v = __builtin_bswap64(v);
#endif
        crc ^= v;
        crc = table[7][crc & 0xff] ^ table[6][crc >> 8 & 0xff] ^ table[5][crc >> 16 & 0xff] ^ table[4][crc >> 24 & 0xff] ^
              table[3][crc >> 32 & 0xff] ^ table[2][crc >> 40 & 0xff] ^ table[1][crc >> 48 & 0xff] ^ table[0][crc >> 56];
    }
    while (len--) crc = table[0][(crc ^ *p++) & 0xff] ^ crc >> 8;
    return crc;
}

static void prepare(void) {
    make_tables();
#if defined(__x86_64__)
    make_constants();
#endif
}

uint64_t crc64(uint64_t crc, const void *data, size_t len) {
    const unsigned char *p = data;
    pthread_once(&once, prepare);
#if defined(__x86_64__)
    if (len >= CARRYLESS_MIN && has_carryless) {
        unsigned char rest[16];
        size_t n = len & ~(size_t)63;
        carryless(crc, p, n, rest);
        crc = by_tables(0, rest, sizeof rest);
        p += n;
        len -= n;
    }
#endif
    return by_tables(crc, p, len);
}
