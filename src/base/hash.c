/*
 * Hashes. SipHash-1-3 (Aumasson, Bernstein) with a key of the process: fast on short keys, and a client that does not know
 * the key cannot make its keys collide. CRC16 gives the slot of a key, which chooses its shard and its cluster node: it is
 * computed for every key of every command. Any thread; the SipHash key is drawn before threads start.
 */
#include "base/hash.h"

#include <endian.h>
#include <string.h>

#include "base/rand.h"

#define ALWAYS_INLINE inline __attribute__((always_inline))

static uint8_t process_key[16];

static ALWAYS_INLINE uint64_t load8(const uint8_t *p) {
    uint64_t w;
    memcpy(&w, p, 8);
    return le64toh(w);
}

static ALWAYS_INLINE uint64_t load4(const uint8_t *p) {
    uint32_t w;
    memcpy(&w, p, 4);
    return le32toh(w);
}

/* The last len % 8 bytes at p, of a text of len bytes, as a little-endian number. Reads overlap what came before instead of
 * copying byte by byte: a memcpy of variable length costs more than the hash of a short key. */
static ALWAYS_INLINE uint64_t load_tail(const uint8_t *p, size_t len) {
    size_t n = len & 7;
    if (n == 0) return 0;
    if (len >= 8) return load8(p + n - 8) >> (8 * (8 - n));
    if (n >= 4) return load4(p) | load4(p + n - 4) << (8 * (n - 4));
    return (uint64_t)p[0] | (uint64_t)p[n / 2] << (8 * (n / 2)) | (uint64_t)p[n - 1] << (8 * (n - 1));
}

/* ---- SipHash-1-3 ---- */

#define ROTL(x, b) (((x) << (b)) | ((x) >> (64 - (b))))
#define ROUND                                                                                                                    \
    do {                                                                                                                         \
        v0 += v1;                                                                                                                \
        v2 += v3;                                                                                                                \
        v1 = ROTL(v1, 13) ^ v0;                                                                                                  \
        v3 = ROTL(v3, 16) ^ v2;                                                                                                  \
        v0 = ROTL(v0, 32);                                                                                                       \
        v2 += v1;                                                                                                                \
        v0 += v3;                                                                                                                \
        v1 = ROTL(v1, 17) ^ v2;                                                                                                  \
        v3 = ROTL(v3, 21) ^ v0;                                                                                                  \
        v2 = ROTL(v2, 32);                                                                                                       \
    } while (0)

static ALWAYS_INLINE uint64_t sip13(const uint8_t *p, size_t len, const uint8_t key[16]) {
    uint64_t k0 = load8(key), k1 = load8(key + 8);
    uint64_t v0 = 0x736f6d6570736575ULL ^ k0, v1 = 0x646f72616e646f6dULL ^ k1;
    uint64_t v2 = 0x6c7967656e657261ULL ^ k0, v3 = 0x7465646279746573ULL ^ k1;
    for (size_t words = len / 8; words; words--, p += 8) {
        uint64_t m = load8(p);
        v3 ^= m;
        ROUND;
        v0 ^= m;
    }
    uint64_t tail = load_tail(p, len) | (uint64_t)len << 56;
    v3 ^= tail;
    ROUND;
    v0 ^= tail;
    v2 ^= 0xff;
    ROUND;
    ROUND;
    ROUND;
    return v0 ^ v1 ^ v2 ^ v3;
}

void hash_seed_init(void) {
    rand_secure(process_key, sizeof process_key);
}

uint64_t hash_bytes(const void *p, size_t len) {
    return sip13(p, len, process_key);
}

uint64_t hash_sip13(const void *p, size_t len, const uint8_t key[16]) {
    return sip13(p, len, key);
}

/* ---- CRC16, polynomial 0x1021, initial value 0 (XMODEM) ---- */

/* crc_table[k][b]: byte b followed by k zero bytes. With eight tables eight bytes are looked up independently of each other,
 * instead of each waiting for the one before ("slicing by eight"). 4 KiB. */
static uint16_t crc_table[8][256];

__attribute__((constructor)) static void crc_table_init(void) {
    for (unsigned i = 0; i < 256; i++) {
        uint16_t crc = (uint16_t)(i << 8);
        for (int bit = 0; bit < 8; bit++) crc = (uint16_t)(crc & 0x8000 ? (crc << 1) ^ 0x1021 : crc << 1);
        crc_table[0][i] = crc;
    }
    for (unsigned i = 0; i < 256; i++)
        for (int k = 1; k < 8; k++) {
            uint16_t crc = crc_table[k - 1][i];
            crc_table[k][i] = (uint16_t)((crc << 8) ^ crc_table[0][crc >> 8]);
        }
}

uint16_t hash_crc16(const void *p, size_t len) {
    const uint8_t *at = p;
    uint16_t crc = 0;
    for (; len >= 8; len -= 8, at += 8)
        crc = crc_table[7][at[0] ^ (crc >> 8)] ^ crc_table[6][at[1] ^ (crc & 0xff)] ^ crc_table[5][at[2]] ^ crc_table[4][at[3]] ^
              crc_table[3][at[4]] ^ crc_table[2][at[5]] ^ crc_table[1][at[6]] ^ crc_table[0][at[7]];
    for (; len; len--) crc = (uint16_t)((crc << 8) ^ crc_table[0][(crc >> 8) ^ *at++]);
    return crc;
}

uint16_t hash_slot(const void *key, size_t len) {
    const char *open = len ? memchr(key, '{', len) : NULL;
    if (open) {
        size_t rest = len - (size_t)(open - (const char *)key) - 1;
        const char *close = memchr(open + 1, '}', rest);
        if (close && close != open + 1) return hash_crc16(open + 1, (size_t)(close - open - 1)) & (HASH_SLOTS - 1);
    }
    return hash_crc16(key, len) & (HASH_SLOTS - 1);
}
