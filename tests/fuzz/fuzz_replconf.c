/* Fuzzes what a replica says: REPLCONF's options and PSYNC's request, any number of arguments of any bytes. No crash; what is
 * accepted is within its bounds; a partial resynchronization is granted only inside the history. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "repl/psync.h"

#define MAX_ARGS 16

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool ok) {
    if (!ok) abort();
}

/* Arguments are separated by zero bytes. */
static int split(const uint8_t *data, size_t size, struct slice *argv) {
    int argc = 0;
    const char *at = (const char *)data, *end = at + size;
    while (at < end && argc < MAX_ARGS) {
        const char *stop = memchr(at, 0, (size_t)(end - at));
        if (!stop) stop = end;
        argv[argc++] = (struct slice){ at, (size_t)(stop - at) };
        at = stop + 1;
    }
    return argc;
}

static void try_replconf(int argc, const struct slice *argv) {
    struct replconf rc;
    char err[512] = "";
    if (!replconf_parse(argc, argv, &rc, err, sizeof err)) check(strncmp(err, "ERR ", 4) == 0 && strlen(err) < sizeof err);
    check(rc.ip.len <= REPLCONF_IP_MAX && rc.port >= 0);
    check((rc.capa & ~(unsigned)(REPLICA_CAPA_EOF | REPLICA_CAPA_PSYNC2)) == 0);
    check((rc.filter & ~(unsigned)(REPLICA_NO_DATA | REPLICA_NO_FUNCTIONS)) == 0);
}

static void try_psync(int argc, const struct slice *argv) {
    static const char id[] = "0123456789abcdef0123456789abcdef01234567", id2[] = "76543210fedcba9876543210fedcba9876543210";
    struct psync_history h = { .id = id, .id2 = id2, .second_offset = 150, .has_backlog = true, .start = 100, .end = 200 };
    int64_t offset;
    uint64_t from = 0;
    if (argc < 2 || !str_to_ll(argv[1], &offset)) return;
    if (psync_decide(&h, argv[0], offset, &from) != PSYNC_CONTINUE) return;
    check(from >= h.start && from <= h.end && offset == (int64_t)from + 1);
    check(slice_ieq(argv[0], id) || (slice_ieq(argv[0], id2) && offset <= h.second_offset));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct slice argv[MAX_ARGS];
    int argc = split(data, size, argv);
    if (argc == 0) return 0;
    try_replconf(argc, argv);
    try_psync(argc, argv);
    return 0;
}
