/*
 * DEBUG DIGEST and DIGEST-VALUE: SHA-1 sums over keys and values, put together so that the order of what has none (keys, members
 * of sets, fields of hashes) does not matter. Two operations on a digest of 20 bytes:
 *
 *   xor(d, x)   d ^= SHA1(x)
 *   mix(d, x)   d ^= SHA1(x), then d = SHA1(d): for what has an order
 *
 * A pair is a digest of its own, mixed from 20 zero bytes, and enters the whole by xor, as 20 bytes of data; so does a key.
 *
 * The rules are redis-server's, so that data moved from one to the other can be compared.
 */
#include <openssl/sha.h>
#include <string.h>

#include "base/str.h"
#include "data/hash.h"
#include "data/list.h"
#include "data/set.h"
#include "data/stream.h"
#include "data/zset.h"
#include "server/debug.h"

#define N DEBUG_DIGEST_BYTES

static void xor_data(unsigned char d[N], const void *p, size_t len) {
    unsigned char sum[N];
    SHA1(p, len, sum);
    for (int i = 0; i < N; i++) d[i] ^= sum[i];
}

static void mix(unsigned char d[N], const void *p, size_t len) {
    unsigned char sum[N];
    xor_data(d, p, len);
    SHA1(d, N, sum);
    memcpy(d, sum, N);
}

static void mix_slice(unsigned char d[N], struct slice s) {
    mix(d, s.ptr, s.len);
}

static void mix_u32(unsigned char d[N], uint32_t v) { /* big endian, as on the wire */
    unsigned char b[4] = { (unsigned char)(v >> 24), (unsigned char)(v >> 16), (unsigned char)(v >> 8), (unsigned char)v };
    mix(d, b, sizeof b);
}

static void list_digest(const struct obj *o, unsigned char d[N]) {
    struct list_iter it;
    struct list_elem e;
    char tmp[STR_LL_MAX];
    list_iter_init(&it, o, 0, false);
    while (list_iter_next(&it, &e)) mix_slice(d, list_elem_text(&e, tmp));
    list_iter_done(&it);
}

static bool member_digest(void *arg, const struct set_member *m) {
    char tmp[STR_LL_MAX];
    struct slice s = set_member_text(m, tmp);
    xor_data(arg, s.ptr, s.len);
    return true;
}

static void zset_digest(const struct obj *o, unsigned char d[N]) {
    struct zset_iter it;
    struct zset_item item;
    char text[ZSET_SCORE_MAX];
    zset_iter_init(&it, o, 0, false);
    while (zset_iter_next(&it, &item)) {
        unsigned char one[N] = { 0 };
        mix_slice(one, item.member);
        mix(one, text, str_from_double(text, item.score));
        xor_data(d, one, N);
    }
}

static bool pair_digest(void *arg, const struct hash_pair *p) {
    unsigned char one[N] = { 0 };
    mix_slice(one, p->field);
    mix_slice(one, p->value);
    xor_data(arg, one, N);
    return true;
}

static void stream_digest(const struct obj *o, unsigned char d[N]) {
    struct stream_it it;
    stream_it_init(&it, o->u.ptr, STREAM_ID_MIN, STREAM_ID_MAX, false);
    while (stream_it_next(&it)) {
        char text[STREAM_ID_CHARS];
        size_t len = str_from_ull(text, it.id.ms);
        text[len++] = '.';
        mix(d, text, len + str_from_ull(text + len, it.id.seq));
        for (size_t n = it.n_fields; n > 0; n--) {
            struct slice field, value;
            stream_it_field(&it, &field, &value);
            mix_slice(d, field);
            mix_slice(d, value);
        }
    }
}

void debug_digest_value(const struct entry *e, int64_t now_ms, unsigned char d[N]) {
    static const uint32_t type_numbers[OBJ_N_TYPES] = { 0, 1, 2, 3, 4, 6 }; /* redis-server's: 5 is for modules */
    const struct obj *o = entry_value(e);
    char tmp[STR_LL_MAX];
    mix_u32(d, type_numbers[o->type]);
    switch ((enum obj_type)o->type) {
    case OBJ_LIST:
        list_digest(o, d);
        break;
    case OBJ_SET:
        set_each(o, member_digest, d);
        break;
    case OBJ_ZSET:
        zset_digest(o, d);
        break;
    case OBJ_HASH:
        hash_each(o, now_ms, pair_digest, d);
        break;
    case OBJ_STREAM:
        stream_digest(o, d);
        break;
    default:
        mix_slice(d, obj_string_bytes(o, tmp));
    }
    if (entry_expire_ms(e) != KS_NO_EXPIRE) xor_data(d, "!!expire!!", 10);
}

struct all {
    int64_t now_ms;
    unsigned char *digest;
};

static bool key_digest(void *arg, struct entry *e) {
    struct all *a = arg;
    unsigned char one[N] = { 0 };
    mix_slice(one, entry_key(e));
    debug_digest_value(e, a->now_ms, one);
    xor_data(a->digest, one, N);
    return true;
}

void debug_digest_all(struct keyspace *ks, int64_t now_ms, unsigned char d[N]) {
    struct all a = { now_ms, d };
    memset(d, 0, N);
    for (int db = 0; db < ks_n_dbs(ks); db++) {
        if (ks_size(ks, db) == 0) continue;
        mix_u32(d, (uint32_t)db);
        for (int s = 0; s < ks_n_shards(ks); s++) ks_each(ks, db, s, now_ms, key_digest, &a);
    }
}
