/* RDB files as a whole: round trips, old versions and opcodes, files that are cut off or damaged anywhere. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "base/hash.h"
#include "cmd/script/script.h"
#include "data/hash.h"
#include "data/list.h"
#include "data/set.h"
#include "data/zset.h"
#include "persist/rdb_file.h"

#define NOW_MS 1700000000000LL

static struct keyspace *keyspace(void) {
    struct ks_opts o = { .n_dbs = 16, .n_shards = 4 };
    return ks_new(&o);
}

static struct entry *put(struct keyspace *ks, int db, const char *key, struct obj *o) {
    struct slice k = slice_cstr(key);
    ks_lock(ks, ks_all_mask(4));
    struct entry *e = ks_set(ks, db, k, o, false);
    ks_unlock(ks, ks_all_mask(4));
    return e;
}

static void put_text(struct keyspace *ks, int db, const char *key, const char *value) {
    put(ks, db, key, obj_string_new(value, strlen(value)));
}

static struct entry *find(struct keyspace *ks, int db, const char *key) {
    ks_lock(ks, ks_all_mask(4));
    struct entry *e = ks_find(ks, db, slice_cstr(key), 1, KS_FIND_NO_TOUCH);
    ks_unlock(ks, ks_all_mask(4));
    return e;
}

static void assert_text(struct keyspace *ks, int db, const char *key, const char *value) {
    char tmp[64];
    struct entry *e = find(ks, db, key);
    assert_non_null(e);
    struct slice s = obj_string_bytes(entry_value(e), tmp);
    assert_int_equal(s.len, strlen(value));
    assert_memory_equal(s.ptr, value, s.len);
}

struct result {
    int r;
    struct rdb_file_found found;
    char err[512];
};

/* A source that gives a few bytes at a time, each time where the ones before are not any more. */
struct drip {
    const char *p, *end;
    size_t size;
    unsigned char *piece;
};

static bool drip_more(struct rdb_in *in) {
    struct drip *d = in->arg;
    size_t left = (size_t)(d->end - d->p), n = left < d->size ? left : d->size;
    mem_free(d->piece);
    d->piece = NULL;
    if (n == 0) return false;
    d->piece = (unsigned char *)mem_memdup0(d->p, n);
    d->p += n;
    in->p = d->piece;
    in->end = d->piece + n;
    return true;
}

static uint64_t n_keys(const struct keyspace *ks) {
    uint64_t n = 0;
    for (int db = 0; db < ks_n_dbs(ks); db++) n += ks_size(ks, db);
    return n;
}

/* The same file, through several threads: the same outcome. */
static void load_split(struct slice file, const struct rdb_load_opts *o, size_t piece, const struct result *want,
                       const struct keyspace *want_ks) {
    struct keyspace *ks = keyspace();
    struct result x;
    struct drip d = { file.ptr, file.ptr + file.len, piece, NULL };
    struct rdb_in in = { .more = drip_more, .arg = &d };
    struct rdb_load_opts split = *o;
    split.n_threads = piece == 1000 ? 2 : 4; /* two leave short keys to the caller */
    x.r = rdb_file_load(&in, ks, false, NULL, &split, &x.found, x.err, sizeof x.err);
    assert_string_equal(x.err, want->err);
    assert_int_equal(x.r, want->r);
    if (x.r == 0) {
        assert_int_equal(in.end - in.p + (d.end - d.p), file.ptr + file.len - (file.ptr + want->found.bytes));
        assert_int_equal(x.found.bytes, want->found.bytes);
        assert_int_equal(x.found.keys, want->found.keys);
        assert_int_equal(x.found.expired, want->found.expired);
        assert_int_equal(x.found.empty, want->found.empty);
        assert_int_equal(x.found.last_db, want->found.last_db);
        assert_int_equal(x.found.has_checksum, want->found.has_checksum);
        assert_int_equal(n_keys(ks), n_keys(want_ks));
    }
    mem_free(d.piece);
    ks_free(ks);
}

static struct result load_opts(struct keyspace *ks, struct slice file, const struct rdb_load_opts *o) {
    struct result x;
    struct rdb_in in = { .p = (const unsigned char *)file.ptr, .end = (const unsigned char *)file.ptr + file.len };
    bool was_empty = n_keys(ks) == 0;
    x.r = rdb_file_load(&in, ks, false, NULL, o, &x.found, x.err, sizeof x.err);
    assert_true((x.r == 0) == (x.err[0] == 0));
    static const size_t pieces[] = { SIZE_MAX, 1000, 5 };
    for (unsigned i = 0; was_empty && !o->progress && i < (file.len < 10000 ? 3 : 2); i++) load_split(file, o, pieces[i], &x, ks);
    return x;
}

static struct result load(struct keyspace *ks, struct slice file) {
    struct rdb_load_opts o = { .now_ms = NOW_MS, .size = file.len };
    return load_opts(ks, file, &o);
}

#define LOAD(ks, lit) load(ks, (struct slice){ lit, sizeof(lit) - 1 })

static struct buf save(struct keyspace *ks, const struct rdb_file_info *more, bool compress, bool checksum) {
    struct rdb_file_info info = more ? *more : (struct rdb_file_info){ 0 };
    struct rdb_out out = { .compress = compress, .checksum = checksum };
    info.redis_ver = "7.2.4";
    info.ctime_s = NOW_MS / 1000;
    info.now_ms = NOW_MS;
    ks_lock(ks, ks_all_mask(4));
    /* A sink, since the checksum is of what has gone to one. */
    struct buf file = { 0 };
    FILE *f = tmpfile();
    struct rdb_file_sink sink = { .fd = fileno(f) };
    out.sink = rdb_file_sink_write;
    out.arg = &sink;
    assert_int_equal(rdb_file_write(&out, ks, NULL, &info, NULL), 0);
    ks_unlock(ks, ks_all_mask(4));
    rdb_out_done(&out);
    buf_reserve(&file, out.bytes);
    assert_int_equal(pread(sink.fd, file.data, out.bytes, 0), out.bytes);
    file.len = out.bytes;
    fclose(f);
    return file;
}

static struct keyspace *some_data(void) {
    struct keyspace *ks = keyspace();
    char key[32];
    for (int i = 0; i < 100; i++) {
        snprintf(key, sizeof key, "key:%d", i);
        put_text(ks, 0, key, i % 2 ? "12345" : "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa");
    }
    struct obj *h = hash_new();
    hash_set(h, SLICE_LIT("f"), SLICE_LIT("v"), 128, 64);
    struct entry *e = put(ks, 3, "h", h);
    ks_lock(ks, ks_all_mask(4));
    ks_set_expire(ks, 3, e, NOW_MS + 5000);
    ks_unlock(ks, ks_all_mask(4));
    put_text(ks, 15, "", "empty key");
    return ks;
}

static void assert_some_data(struct keyspace *ks) {
    char key[32];
    assert_int_equal(ks_size(ks, 0), 100);
    for (int i = 0; i < 100; i++) {
        snprintf(key, sizeof key, "key:%d", i);
        assert_text(ks, 0, key, i % 2 ? "12345" : "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa");
    }
    assert_int_equal(ks_size(ks, 3), 1);
    assert_int_equal(entry_expire_ms(find(ks, 3, "h")), NOW_MS + 5000);
    assert_text(ks, 15, "", "empty key");
}

static void test_rdb_file_round_trip(void **state) {
    (void)state;
    for (int variant = 0; variant < 4; variant++) {
        struct keyspace *from = some_data(), *to = keyspace();
        struct rdb_file_info info = { .repl_id = "0123456789012345678901234567890123456789",
                                      .repl_offset = 77,
                                      .repl_stream_db = 3,
                                      .aof_base = true,
                                      .used_mem = 1234 };
        struct buf file = save(from, &info, variant & 1, variant & 2);
        struct result x = load(to, buf_slice(&file));
        assert_int_equal(x.r, 0);
        assert_int_equal(x.found.version, 11);
        assert_true(x.found.has_repl && x.found.aof_base);
        assert_string_equal(x.found.repl_id, info.repl_id);
        assert_int_equal(x.found.repl_offset, 77);
        assert_int_equal(x.found.repl_stream_db, 3);
        assert_string_equal(x.found.redis_ver, "7.2.4");
        assert_int_equal(x.found.has_checksum, (variant & 2) != 0);
        assert_int_equal(x.found.keys, 102);
        assert_int_equal(x.found.bytes, file.len);
        assert_some_data(to);
        buf_done(&file);
        ks_free(from);
        ks_free(to);
    }
}

static void test_rdb_file_access_clocks_are_kept(void **state) {
    (void)state;
    struct keyspace *from = keyspace(), *to = keyspace();
    put_text(from, 0, "k", "v");
    entry_set_idle_s(find(from, 0, "k"), 5000, NOW_MS);
    struct rdb_file_info info = { .access = RDB_ACCESS_IDLE };
    struct buf file = save(from, &info, false, true);
    assert_int_equal(load(to, buf_slice(&file)).r, 0);
    assert_int_equal(entry_idle_s(find(to, 0, "k"), NOW_MS), 5000);
    buf_done(&file);
    ks_use_lfu(from, true);
    entry_set_lfu(find(from, 0, "k"), 99, NOW_MS);
    info.access = RDB_ACCESS_FREQ;
    file = save(from, &info, false, true);
    ks_free(to);
    to = keyspace();
    ks_use_lfu(to, true);
    assert_int_equal(load(to, buf_slice(&file)).r, 0);
    assert_int_equal(entry_lfu(find(to, 0, "k"), NOW_MS), 99);
    buf_done(&file);
    ks_free(from);
    ks_free(to);
}

static void test_rdb_file_cut_anywhere_is_an_error(void **state) {
    (void)state;
    struct keyspace *from = some_data();
    struct buf file = save(from, NULL, true, true);
    for (size_t n = 0; n < file.len; n++) {
        struct keyspace *to = keyspace();
        char *cut = mem_memdup0(file.data, n); /* so that a sanitizer sees what reads behind it */
        struct result x = load(to, (struct slice){ cut, n });
        assert_int_equal(x.r, -EINVAL);
        mem_free(cut);
        ks_free(to);
    }
    buf_done(&file);
    ks_free(from);
}

static void test_rdb_file_with_flipped_bits_is_an_error(void **state) {
    (void)state;
    struct keyspace *from = some_data();
    struct buf file = save(from, NULL, true, true);
    for (size_t at = 0; at < file.len; at++) {
        char bit = (char)(1 << at % 8);
        file.data[at] = (char)(file.data[at] ^ bit);
        struct keyspace *to = keyspace();
        assert_true(load(to, buf_slice(&file)).r < 0);
        ks_free(to);
        file.data[at] = (char)(file.data[at] ^ bit);
    }
    buf_done(&file);
    ks_free(from);
}

static void test_rdb_file_old_versions_are_read(void **state) {
    (void)state;
    struct keyspace *ks = keyspace();
    /* Version 1: no checksum, times in seconds. */
    assert_int_equal(LOAD(ks, "REDIS0001\xfe\x02\xfd\x00\xca\x9a\x3b\x00\x01k\x01v"
                              "\xfd\xff\xff\xff\x7f\x00\x01l\x01w\xff")
                         .r,
                     0);
    assert_null(find(ks, 2, "k")); /* due since 2001 */
    assert_text(ks, 2, "l", "w");
    assert_int_equal(entry_expire_ms(find(ks, 2, "l")), 2147483647000LL);
    /* A future one. */
    struct result x = LOAD(ks, "REDIS0013\xff\0\0\0\0\0\0\0\0");
    assert_int_equal(x.r, -ENOTSUP);
    assert_string_equal(x.err, "Can't handle RDB format version 13");
    assert_int_equal(LOAD(ks, "REDIS0000\xff").r, -ENOTSUP);
    assert_int_equal(LOAD(ks, "REDIS00x1\xff").r, -ENOTSUP);
    x = LOAD(ks, "VALKEY080\xff");
    assert_int_equal(x.r, -EINVAL);
    assert_string_equal(x.err, "Wrong signature trying to load DB from file");
    ks_free(ks);
}

static void test_rdb_file_opcodes(void **state) {
    (void)state;
    struct keyspace *ks = keyspace();
    /* slot information is passed over; a checksum of 0 is none */
    assert_int_equal(LOAD(ks, "REDIS0011\xfe\x00\xf4\x05\x01\x00\xfb\x01\x00\x00\x01k\x01v\xff\0\0\0\0\0\0\0\0").r, 0);
    assert_text(ks, 0, "k", "v");
    struct result x = LOAD(ks, "REDIS0011\xf7\x81\x00\x00\x00\x00\x00\x00\x04\x00\xff");
    assert_int_equal(x.r, -ENOTSUP);
    assert_string_equal(x.err, "The RDB file contains AUX module data I can't load: no matching module 'AAAAAAAAB'");
    x = LOAD(ks, "REDIS0010\xf6\x01x\xff");
    assert_int_equal(x.r, -ENOTSUP);
    assert_string_equal(x.err, "Pre-release function format not supported.");
    x = LOAD(ks, "REDIS0011\xfe\x10\xff");
    assert_int_equal(x.r, -ENOTSUP);
    assert_string_equal(x.err,
                        "FATAL: Data file was created with a Redis server configured to handle more than 16 databases. Exiting");
    assert_int_equal(LOAD(ks, "REDIS0011\xfe\x00\xf0\x01k\x01v\xff").r, -EINVAL); /* no such type */
    /* A claim of 2^60 keys costs nothing. */
    x = LOAD(ks, "REDIS0011\xfe\x01\xfb\x81\x10\x00\x00\x00\x00\x00\x00\x00\x00\xff\0\0\0\0\0\0\0\0");
    assert_int_equal(x.r, 0);
    ks_free(ks);
}

static void test_rdb_file_duplicates_and_empty_keys(void **state) {
    (void)state;
    struct keyspace *ks = keyspace();
    static const char twice[] = "REDIS0003\xfe\x00\x00\x01k\x01v\x00\x01k\x01w\xff";
    struct result x = LOAD(ks, twice);
    assert_int_equal(x.r, -EINVAL);
    assert_string_equal(x.err, "RDB has duplicated key 'k' in DB 0");
    struct rdb_load_opts o = { .now_ms = NOW_MS, .allow_dup = true };
    assert_int_equal(load_opts(ks, (struct slice){ twice, sizeof twice - 1 }, &o).r, 0);
    assert_text(ks, 0, "k", "w");
    /* An empty list, set, hash, sorted set between others. */
    x = LOAD(ks, "REDIS0003\xfe\x00\x01\x01"
                 "a\x00\x02\x01"
                 "b\x00\x04\x01"
                 "c\x00\x03\x01"
                 "d\x00\x00\x01z\x01v\xff");
    assert_int_equal(x.r, 0);
    assert_int_equal(x.found.empty, 4);
    assert_text(ks, 0, "z", "v");
    ks_free(ks);
}

static void test_rdb_file_due_keys(void **state) {
    (void)state;
    struct keyspace *ks = keyspace();
    static const char file[] = "REDIS0004\xfe\x00\xfc\x01\0\0\0\0\0\0\0\x00\x01k\x01v\xff";
    struct result x = LOAD(ks, file);
    assert_int_equal(x.r, 0);
    assert_int_equal(x.found.expired, 1);
    assert_int_equal(ks_size(ks, 0), 0);
    struct rdb_load_opts o = { .now_ms = NOW_MS, .keep_expired = true };
    assert_int_equal(load_opts(ks, (struct slice){ file, sizeof file - 1 }, &o).r, 0);
    assert_int_equal(ks_size(ks, 0), 1);
    ks_free(ks);
}

static void test_rdb_file_what_follows_is_left(void **state) {
    (void)state;
    struct keyspace *from = some_data(), *to = keyspace();
    struct buf file = save(from, NULL, true, true);
    buf_append_cstr(&file, "*1\r\n$4\r\nPING\r\n");
    struct rdb_in in = { .p = (unsigned char *)file.data, .end = (unsigned char *)file.data + file.len };
    struct rdb_load_opts o = { .now_ms = NOW_MS };
    struct rdb_file_found found;
    char err[200];
    assert_int_equal(rdb_file_load(&in, to, false, NULL, &o, &found, err, sizeof err), 0);
    assert_int_equal(in.end - in.p, 14);
    assert_memory_equal(in.p, "*1\r\n$4\r\nPING\r\n", 14);
    buf_done(&file);
    ks_free(from);
    ks_free(to);
}

static bool stop_at_second(void *arg, uint64_t bytes, uint64_t keys) {
    (void)bytes;
    (void)keys;
    return ++*(int *)arg < 2;
}

static void test_rdb_file_cancelled(void **state) {
    (void)state;
    struct keyspace *from = some_data(), *to = keyspace();
    struct buf file = save(from, NULL, true, true);
    int calls = 0;
    struct rdb_load_opts o = { .now_ms = NOW_MS, .progress = stop_at_second, .arg = &calls, .key_delay_us = 1 };
    assert_int_equal(load_opts(to, buf_slice(&file), &o).r, -ECANCELED);
    assert_true(ks_size(to, 0) < 100);
    buf_done(&file);
    ks_free(from);
    ks_free(to);
}

static bool refuse(void *arg) {
    (void)arg;
    return false;
}

/* As the server does: with all shards locked. */
static int save_locked(const char *path, struct keyspace *ks, const struct rdb_file_info *info, const struct rdb_save_opts *o,
                       char *err, size_t cap) {
    ks_lock(ks, ks_all_mask(4));
    int r = rdb_file_save(path, ks, NULL, info, o, NULL, err, cap);
    ks_unlock(ks, ks_all_mask(4));
    return r;
}

static void test_rdb_file_save_replaces_whole(void **state) {
    (void)state;
    char dir[] = "/tmp/kettle-rdb-XXXXXX", path[64], temp[96], err[512];
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/dump.rdb", dir);
    struct keyspace *from = some_data(), *to = keyspace();
    struct rdb_file_info info = { .redis_ver = "7.2.4", .now_ms = NOW_MS };
    struct rdb_save_opts o = { .compress = true, .checksum = true, .incremental_fsync = true };
    assert_int_equal(save_locked(path, from, &info, &o, err, sizeof err), 0);
    /* A second one that is not wanted leaves the first, and nothing else. */
    o.may_replace = refuse;
    assert_int_equal(save_locked(path, to, &info, &o, err, sizeof err), -ECANCELED);
    rdb_file_temp_path(temp, sizeof temp, path, (int)getpid());
    assert_int_equal(access(temp, F_OK), -1);
    int fd = open(path, O_RDONLY);
    struct rdb_file_source src;
    struct rdb_in in;
    rdb_file_source_init(&src, &in, fd);
    struct rdb_load_opts lo = { .now_ms = NOW_MS };
    struct rdb_file_found found;
    assert_int_equal(rdb_file_load(&in, to, false, NULL, &lo, &found, err, sizeof err), 0);
    assert_some_data(to);
    rdb_file_source_done(&src);
    close(fd);
    unlink(path);
    rmdir(dir);
    assert_int_equal(save_locked(path, from, &info, &o, err, sizeof err), -ENOENT);
    assert_non_null(strstr(err, "Failed opening the temp RDB file"));
    ks_free(from);
    ks_free(to);
}

/* ---- several threads ---- */

#define MANY 60000

static void put_header(struct rdb_out *out) {
    rdb_put(out, "REDIS0011", 9);
    rdb_put_u8(out, 254); /* SELECTDB */
    rdb_put_len(out, 0);
}

static void put_end(struct rdb_out *out) {
    rdb_put_u8(out, 255);
    rdb_put_u64(out, 0);
}

static struct slice name_of(char tmp[32], unsigned i) {
    return (struct slice){ tmp, (size_t)snprintf(tmp, 32, "key:%u", i) };
}

/* Strings, numbers, sets, with times or without, some of which are past. */
static void put_key(struct rdb_out *out, unsigned i) {
    char tmp[32], text[400];
    memset(text, 'x', sizeof text);
    if (i % 7 == 3) {
        rdb_put_u8(out, 252); /* EXPIRETIME_MS */
        rdb_put_u64(out, (uint64_t)(NOW_MS + (i % 5 ? 100000 : -1)));
    }
    rdb_put_u8(out, i % 4 == 1 ? RDB_SET : RDB_STRING);
    rdb_put_string(out, name_of(tmp, i));
    if (i % 4 == 1) {
        rdb_put_len(out, i % 9);
        for (unsigned k = 0; k < i % 9; k++) rdb_put_string(out, name_of(tmp, k));
    } else if (i % 4 == 2) {
        rdb_put_string(out, (struct slice){ tmp, (size_t)snprintf(tmp, sizeof tmp, "%u", i) });
    } else {
        rdb_put_string(out, (struct slice){ text, i % sizeof text });
    }
}

static void test_rdb_file_several_threads(void **state) {
    (void)state;
    struct keyspace *ks = keyspace();
    struct rdb_out out = { 0 };
    put_header(&out);
    for (unsigned i = 0; i < MANY; i++) {
        put_key(&out, i);
        if (i % 20000 == 10000) { /* another database */
            rdb_put_u8(&out, 254);
            rdb_put_len(&out, i / 20000 + 1);
        }
    }
    put_end(&out);
    struct result x = load(ks, buf_slice(&out.buf));
    assert_string_equal(x.err, "");
    assert_true(x.found.expired > 1000 && x.found.empty > 1000);
    assert_int_equal(x.found.keys, MANY - x.found.expired - x.found.empty);
    rdb_out_done(&out);
    ks_free(ks);
}

/* What is first in the file is what is said, whoever finds it first. */
static void test_rdb_file_several_threads_say_the_first_error(void **state) {
    (void)state;
    for (int round = 0; round < 4; round++) {
        struct keyspace *ks = keyspace();
        struct rdb_out out = { 0 };
        put_header(&out);
        for (unsigned i = 0; i < MANY; i++) {
            put_key(&out, i);
            if (i == 20000 && round == 0) put_key(&out, 7);
            if (i == 20000 && round == 1) rdb_put(&out, "\x0b\x01k\x08nonsense", 12); /* an intset that is none */
            if (i == 20000 && round == 2) rdb_put(&out, "\x63", 1);                   /* a type that is none */
            if (i == 50000) rdb_put(&out, "\x0b\x01q\x08nonsense", 12);
        }
        put_end(&out);
        struct result x = load(ks, buf_slice(&out.buf));
        assert_int_equal(x.r, -EINVAL);
        assert_non_null(strstr(x.err, round == 0   ? "duplicated key 'key:7'"
                                      : round == 1 ? "key 'k': an intset is not valid"
                                      : round == 2 ? "the type of a value is unknown"
                                                   : "key 'q': an intset is not valid"));
        rdb_out_done(&out);
        ks_free(ks);
    }
}

/* Longer than a chunk may be: read again by who reads the file, from pieces that are gone. */
static void test_rdb_file_several_threads_and_large_values(void **state) {
    (void)state;
    struct keyspace *ks = keyspace();
    struct rdb_out out = { 0 };
    char *text = mem_zalloc(20 << 20), tmp[32];
    put_header(&out);
    for (unsigned i = 0; i < 12; i++) {
        put_key(&out, 2 * i);
        rdb_put_u8(&out, RDB_STRING);
        rdb_put_string(&out, name_of(tmp, 2 * i + 1));
        rdb_put_string(&out, (struct slice){ text, i % 5 == 3 ? 20 << 20 : (size_t)(i % 3 + 1) << 18 });
    }
    rdb_put(&out, "\xf9\x05", 2); /* FREQ of a key that is in another database */
    rdb_put(&out, "\xfe\x02", 2);
    put_key(&out, 2);
    put_end(&out);
    struct rdb_load_opts o = { .now_ms = NOW_MS };
    struct result x = { .r = 0 };
    struct rdb_in in = { .p = (const unsigned char *)out.buf.data, .end = (const unsigned char *)out.buf.data + out.buf.len };
    x.r = rdb_file_load(&in, ks, false, NULL, &o, &x.found, x.err, sizeof x.err);
    assert_int_equal(x.r, 0);
    assert_int_equal(x.found.keys, 24); /* and one that is past */
    load_split(buf_slice(&out.buf), &o, 100000, &x, ks);
    load_split(buf_slice(&out.buf), &o, SIZE_MAX, &x, ks);
    out.buf.len -= 9 + 30; /* and one that ends early */
    ks_free(ks);
    ks = keyspace();
    in = (struct rdb_in){ .p = (const unsigned char *)out.buf.data, .end = (const unsigned char *)out.buf.data + out.buf.len };
    x.r = rdb_file_load(&in, ks, false, NULL, &o, &x.found, x.err, sizeof x.err);
    assert_int_equal(x.r, -EINVAL);
    load_split(buf_slice(&out.buf), &o, 100000, &x, ks);
    mem_free(text);
    rdb_out_done(&out);
    ks_free(ks);
}

int main(void) {
    hash_seed_init();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rdb_file_round_trip),
        cmocka_unit_test(test_rdb_file_access_clocks_are_kept),
        cmocka_unit_test(test_rdb_file_cut_anywhere_is_an_error),
        cmocka_unit_test(test_rdb_file_with_flipped_bits_is_an_error),
        cmocka_unit_test(test_rdb_file_old_versions_are_read),
        cmocka_unit_test(test_rdb_file_opcodes),
        cmocka_unit_test(test_rdb_file_duplicates_and_empty_keys),
        cmocka_unit_test(test_rdb_file_due_keys),
        cmocka_unit_test(test_rdb_file_what_follows_is_left),
        cmocka_unit_test(test_rdb_file_cancelled),
        cmocka_unit_test(test_rdb_file_save_replaces_whole),
        cmocka_unit_test(test_rdb_file_several_threads),
        cmocka_unit_test(test_rdb_file_several_threads_say_the_first_error),
        cmocka_unit_test(test_rdb_file_several_threads_and_large_values),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
