/* CRC-64/REDIS: the Jones polynomial 0xad93d23594c935a9, reflected, initial value and final xor 0. What RDB files and DUMP
 * payloads end with. Any thread. */
#ifndef KETTLE_BASE_CRC64_H
#define KETTLE_BASE_CRC64_H

#include <stddef.h>
#include <stdint.h>

uint64_t crc64(uint64_t crc, const void *p, size_t len); /* crc: of what came before, 0 at the start */

#endif
