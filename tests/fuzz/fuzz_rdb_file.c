/* Fuzzes whole RDB files. The first byte chooses how they come: in one piece or in pieces of a few bytes, into a keyspace or past
 * it, duplicates allowed or not. No crash, no over-read, no memory that was not paid for by bytes; what is accepted can be
 * written, and read back as the same number of keys. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/hash.h"
#include "persist/rdb_file.h"

#define NOW_MS 1700000000000LL

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct pieces {
    const unsigned char *at, *end;
    size_t each;
    unsigned char *piece; /* exactly as large as what is in it */
};

static bool more(struct rdb_in *in) {
    struct pieces *p = in->arg;
    size_t n = (size_t)(p->end - p->at) < p->each ? (size_t)(p->end - p->at) : p->each;
    if (n == 0) return false;
    mem_free(p->piece);
    p->piece = mem_alloc(n);
    memcpy(p->piece, p->at, n);
    p->at += n;
    in->p = p->piece;
    in->end = p->piece + n;
    return true;
}

static struct keyspace *keyspace(void) {
    struct ks_opts o = { .n_dbs = 16, .n_shards = 2 };
    return ks_new(&o);
}

static bool take_library(void *arg, struct slice code, char **ret_why) {
    (void)arg;
    (void)ret_why;
    return code.len == 0 || code.ptr[code.len - 1] != '!';
}

static void nobody(void *arg, const struct rdb_visited *v) {
    (void)arg;
    if (!v->value) abort();
}

static int load(struct keyspace *ks, const unsigned char *data, size_t size, size_t each, bool dup, unsigned n_threads,
                struct rdb_file_found *found) {
    static const struct rdb_visit visit = { .key = nobody };
    struct pieces p = { data, data + size, each, NULL };
    struct rdb_in in = { .more = more, .arg = &p };
    struct rdb_load_opts o = { .now_ms = NOW_MS, .keep_expired = dup, .allow_dup = dup, .size = size, .library = take_library };
    if (!ks) o.visit = &visit;
    o.n_threads = n_threads;
    char err[256];
    int r = rdb_file_load(&in, ks, true, NULL, &o, found, err, sizeof err);
    if ((r == 0) != (err[0] == 0)) abort();
    mem_free(p.piece);
    return r;
}

static void write_and_read(struct keyspace *ks, uint64_t keys) {
    struct rdb_file_info info = { .redis_ver = "7.2.4", .now_ms = NOW_MS };
    struct rdb_out out = { .compress = true };
    struct rdb_file_found found;
    if (rdb_file_write(&out, ks, NULL, &info, NULL) != 0) abort();
    struct keyspace *copy = keyspace();
    ks_lock(copy, 3);
    if (load(copy, (unsigned char *)out.buf.data, out.buf.len, SIZE_MAX, true, 0, &found) != 0 || found.keys != keys) abort();
    ks_unlock(copy, 3);
    ks_free(copy);
    rdb_out_done(&out);
}

/* The way several threads take, with the same outcome; files as short as these start none. */
static void load_split(const unsigned char *data, size_t size, size_t each, int want, const struct rdb_file_found *want_found) {
    struct rdb_file_found found;
    struct keyspace *ks = keyspace();
    ks_lock(ks, 3);
    int r = load(ks, data, size, each, false, 2, &found);
    ks_unlock(ks, 3);
    if ((r == 0) != (want == 0)) abort();
    if (r == 0 && (found.keys != want_found->keys || found.expired != want_found->expired || found.bytes != want_found->bytes))
        abort();
    ks_free(ks);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static bool is_ready;
    struct rdb_file_found found;
    if (!is_ready) hash_seed_init();
    is_ready = true;
    if (size == 0) return 0;
    unsigned how = data[0];
    size_t each = how & 1 ? SIZE_MAX : 1 + (how >> 4);
    if (how & 2) {
        load(NULL, data + 1, size - 1, each, how & 4, 0, &found);
        return 0;
    }
    struct keyspace *ks = keyspace();
    ks_lock(ks, 3);
    uint64_t keys = 0;
    int r = load(ks, data + 1, size - 1, each, how & 4, 0, &found);
    if (!(how & 4)) load_split(data + 1, size - 1, each, r, &found);
    if (r == 0) {
        for (int db = 0; db < 16; db++) keys += ks_size(ks, db);
        write_and_read(ks, keys);
    }
    ks_unlock(ks, 3);
    ks_free(ks);
    return 0;
}
