/*
 * kettle-check-rdb FILE: reads an RDB file from end to end, without a server, and says what is in it or where it is damaged.
 * Output and exit status (0: sound, 1: not) are those of redis-check-rdb. Values are decoded and checked as the server does.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/hash.h"
#include "persist/rdb_file.h"
#include "tools/tool_opts.h"

struct check {
    struct rdb_file_found found; /* kept up to date while it reads */
    uint64_t keys, expires, already_expired;
    int64_t now_ms;
};

static const char *type_name(int type) {
    static const char *const names[] = { "string",
                                         "list-linked",
                                         "set-hashtable",
                                         "zset-v1",
                                         "hash-hashtable",
                                         "zset-v2",
                                         "module-pre-release",
                                         "module-value",
                                         "",
                                         "hash-zipmap",
                                         "list-ziplist",
                                         "set-intset",
                                         "zset-ziplist",
                                         "hash-ziplist",
                                         "quicklist",
                                         "stream",
                                         "hash-listpack",
                                         "zset-listpack",
                                         "quicklist-v2",
                                         "stream-v2",
                                         "set-listpack",
                                         "stream-v3",
                                         "",
                                         "",
                                         "hash-metadata",
                                         "hash-listpack-ex" };
    return type >= 0 && type < (int)(sizeof names / sizeof *names) && *names[type] ? names[type] : "unknown";
}

static void on_aux(void *arg, struct slice name, struct slice value) {
    const struct check *k = arg;
    printf("[offset %" PRIu64 "] AUX FIELD %.*s = '%.*s'\n", k->found.bytes, (int)name.len, name.ptr, (int)value.len, value.ptr);
}

static void on_db(void *arg, uint64_t db) {
    const struct check *k = arg;
    printf("[offset %" PRIu64 "] Selecting DB ID %" PRIu64 "\n", k->found.bytes, db);
}

static void on_key(void *arg, const struct rdb_visited *v) {
    struct check *k = arg;
    k->keys++;
    if (v->expire_ms == KS_NO_EXPIRE) return;
    k->expires++;
    if (v->expire_ms < k->now_ms) k->already_expired++;
}

static void print_totals(const struct check *k) {
    printf("[info] %" PRIu64 " keys read\n[info] %" PRIu64 " expires\n[info] %" PRIu64 " already expired\n", k->keys, k->expires,
           k->already_expired);
}

/* In redis-check-rdb's words, where it has some. */
static const char *in_its_words(const char *err) {
    if (strncmp(err, "Short read", 10) == 0) return "Unexpected EOF reading RDB file";
    return strncmp(err, "Wrong RDB checksum", 18) == 0 ? "RDB CRC error" : err;
}

static void print_error(const struct check *k, const char *err) {
    printf("--- RDB ERROR DETECTED ---\n[offset %" PRIu64 "] %s\n[additional info] While doing: %s\n", k->found.bytes, err,
           k->found.doing);
    if (k->found.has_key) printf("[additional info] Reading key '%s'\n", k->found.key);
    if (k->found.type >= 0) printf("[additional info] Reading type %d (%s)\n", k->found.type, type_name(k->found.type));
    print_totals(k);
}

static int check_file(const char *path) {
    static const struct rdb_visit visit = { .aux = on_aux, .db = on_db, .key = on_key };
    struct check k = { .now_ms = clock_wall_ms() };
    struct rdb_load_opts o = { .now_ms = k.now_ms, .keep_expired = true, .arg = &k, .visit = &visit };
    struct rdb_file_source src;
    struct rdb_in in;
    char err[1024];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        fprintf(stderr, "Cannot open file: %s: %s\n", path, strerror(errno));
        return 1;
    }
    printf("[offset 0] Checking RDB file %s\n", path);
    rdb_file_source_init(&src, &in, fd);
    int r = rdb_file_load(&in, NULL, false, NULL, &o, &k.found, err, sizeof err);
    if (r == 0) {
        if (k.found.version >= 5)
            printf("[offset %" PRIu64 "] %s\n", k.found.bytes,
                   k.found.has_checksum ? "Checksum OK" : "RDB file was saved with checksum disabled: no check performed.");
        printf("[offset %" PRIu64 "] \\o/ RDB looks OK! \\o/\n", k.found.bytes);
        print_totals(&k);
    } else {
        print_error(&k, src.err ? strerror(src.err) : in_its_words(err));
    }
    rdb_file_source_done(&src);
    close(fd);
    return r == 0 ? 0 : 1;
}

int main(int argc, char **argv) {
    if (argc != 2 || (argv[1][0] == '-' && argv[1][1])) {
        bool wants_help = argc == 2 && (!strcmp(argv[1], "-h") || !strcmp(argv[1], "--help"));
        if (argc == 2 && (!strcmp(argv[1], "-v") || !strcmp(argv[1], "--version"))) {
            printf("kettle-check-rdb %s\n", TOOL_VERSION);
            return 0;
        }
        fprintf(wants_help ? stdout : stderr, "Usage: %s <rdb-file-name>\n", argv[0]);
        return wants_help ? 0 : 1;
    }
    hash_seed_init();
    return check_file(argv[1]);
}
