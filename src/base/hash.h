/* Hashes: a keyed, flood-resistant one for tables (SipHash-1-3, key drawn once from getrandom(2) at start-up) and CRC16 for
 * cluster slots (CCITT/XMODEM polynomial, Redis Cluster specification, appendix A). Any thread. */
#ifndef KETTLE_BASE_HASH_H
#define KETTLE_BASE_HASH_H

#include <stddef.h>
#include <stdint.h>

#define HASH_SLOTS 16384

void hash_seed_init(void);                      /* draws the key; call once before the threads start */
uint64_t hash_bytes(const void *p, size_t len); /* keyed */
uint64_t hash_sip13(const void *p, size_t len, const uint8_t key[16]);
uint16_t hash_crc16(const void *p, size_t len);
/* Slot 0..16383 of a key: only the part between the first '{' and the next '}' counts, when it is not empty. */
uint16_t hash_slot(const void *key, size_t len);

#endif
