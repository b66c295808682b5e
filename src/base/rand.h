/* Random numbers: fast per-thread xoshiro256** seeded from getrandom(2) for sampling; getrandom(2) itself for identifiers. */
#ifndef KETTLE_BASE_RAND_H
#define KETTLE_BASE_RAND_H

#include <stddef.h>
#include <stdint.h>

uint64_t rand_u64(void);                   /* any thread, not for secrets */
uint64_t rand_below(uint64_t n);           /* 0..n-1, n > 0, unbiased */
void rand_secure(void *p, size_t len);     /* getrandom(2); aborts when the kernel refuses */
void rand_hex_id(char *out, size_t chars); /* chars lower-case hex digits + NUL; secure */

#endif
