/* Random numbers: xoshiro256** (Blackman, Vigna) with a state per thread, for sampling; the kernel's for identifiers.
 * A forked child goes on with its parent's sequence, which sampling does not mind. Any thread. */
#include "base/rand.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

static _Thread_local uint64_t state[4];

void rand_secure(void *p, size_t len) {
    char *at = p;
    while (len) {
        ssize_t n = getrandom(at, len < 256 ? len : 256, 0);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) abort();
        at += n;
        len -= (size_t)n;
    }
}

static uint64_t rotl(uint64_t x, int k) {
    return (x << k) | (x >> (64 - k));
}

uint64_t rand_u64(void) {
    while (!(state[0] | state[1] | state[2] | state[3])) rand_secure(state, sizeof state);
    uint64_t out = rotl(state[1] * 5, 7) * 9, t = state[1] << 17;
    state[2] ^= state[0];
    state[3] ^= state[1];
    state[1] ^= state[2];
    state[0] ^= state[3];
    state[2] ^= t;
    state[3] = rotl(state[3], 45);
    return out;
}

/* Multiply-shift with rejection (Lemire): unbiased, seldom a second draw. */
uint64_t rand_below(uint64_t n) {
    unsigned __int128 m = (unsigned __int128)rand_u64() * n;
    uint64_t low = (uint64_t)m;
    if (low < n) {
        uint64_t floor = (0 - n) % n;
        while (low < floor) {
            m = (unsigned __int128)rand_u64() * n;
            low = (uint64_t)m;
        }
    }
    return (uint64_t)(m >> 64);
}

void rand_hex_id(char *out, size_t chars) {
    static const char hex[] = "0123456789abcdef";
    unsigned char bytes[32];
    for (size_t i = 0; i < chars; i++) {
        size_t at = i % (2 * sizeof bytes);
        if (at == 0) rand_secure(bytes, sizeof bytes);
        out[i] = hex[at & 1 ? bytes[at / 2] & 15 : bytes[at / 2] >> 4];
    }
    out[chars] = 0;
}
