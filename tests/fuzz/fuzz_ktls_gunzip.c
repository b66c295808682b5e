/*
 * Fuzz target of the unpacking of a kernel package's changelog (src/ktls/ktls_gunzip.c). Checked beside memory errors: no more
 * than the bound comes out, and what came out is all there.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "ktls/ktls_gunzip.h"

#define BOUND (1u << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    uint8_t *text = NULL;
    size_t len = 0;
    unsigned sum = 0;
    if (ktls_gunzip(data, size, BOUND, &text, &len) < 0) return text != NULL ? (abort(), 0) : 0;
    if (len > BOUND || text[len] != 0) abort();
    for (size_t i = 0; i < len; i++) sum += text[i];
    free(text);
    return sum == 0xffffffff;
}
