/* CRC-64, eight bytes a step: table[k][b] is what byte b contributes when k more bytes follow it. The tables (16 KiB) are made at
 * the first use. See crc64.h. */
#include "base/crc64.h"

#include <pthread.h>
#include <string.h>

#define POLY_REFLECTED 0x95ac9329ac4bc9b5ULL /* 0xad93d23594c935a9 with its bits in reverse order */

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

uint64_t crc64(uint64_t crc, const void *data, size_t len) {
    const unsigned char *p = data;
    pthread_once(&once, make_tables);
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
