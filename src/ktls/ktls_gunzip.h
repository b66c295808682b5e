/* Unpacks a .gz file in memory (RFC 1952, RFC 1951), bounded. Pure. Fuzzed by tests/fuzz/fuzz_ktls_gunzip.c. */
#ifndef KTLS_GUNZIP_H
#define KTLS_GUNZIP_H

#include <stddef.h>
#include <stdint.h>

/* The first member's content, at most max bytes, in a block of malloc's that the caller frees; it is followed by a NUL that does
 * not count. 0; -EBADMSG: not a whole gzip file; -EFBIG: longer than max; -ENOMEM. Outputs are untouched on failure. */
int ktls_gunzip(const uint8_t *in, size_t len, size_t max, uint8_t **ret, size_t *ret_len);

#endif
