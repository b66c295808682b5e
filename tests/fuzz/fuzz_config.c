/* The configuration parser: text of a file that somebody else may have written. */
#include <stddef.h>
#include <stdint.h>

#include "server/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char err[512];
    struct config *c = config_new();
    config_load_text(c, (const char *)data, size, err, sizeof err);
    config_free(c);
    return 0;
}
