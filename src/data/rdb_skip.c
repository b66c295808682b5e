/* Where values in RDB format end. See rdb_skip.h. Place in the flow: who reads files ahead of those who decode them. Thread: the
 * caller's.
 *
 * Only what says how long something is gets looked at: whether the bytes make a sound value is left to rdb_load_value. It is
 * bound to this file by one rule: what it reads of a value that it does not refuse is what is passed over here. */
#include "data/rdb_skip.h"

#include "data/rdb_priv.h"

enum { ENC_INT32 = 2, ENC_LZF = 3 };
#define RAW_ID_BYTES 16

static void skip_bytes(struct rdb_in *in, uint64_t n) {
    for (;;) {
        uint64_t have = (uint64_t)(in->end - in->p);
        if (n <= have) break;
        n -= have;
        in->p = in->end;
        if (!in->more || !in->more(in)) {
            rdb_fail(in, "the data ends too early");
            return;
        }
    }
    if (n) in->p += n;
}

/* The usual ones: 6 or 14 bits of length, and all of it is there. */
static bool skip_short(struct rdb_in *in) {
    const unsigned char *p = in->p;
    size_t there = (size_t)(in->end - p);
    if (there < 2 || p[0] >= 0x80) return false;
    size_t n = p[0] < 0x40 ? 1u + p[0] : 2 + ((size_t)(p[0] & 0x3f) << 8 | p[1]);
    if (n > there) return false;
    in->p = p + n;
    return true;
}

void rdb_skip_string(struct rdb_in *in) {
    bool encoded;
    if (skip_short(in)) return;
    uint64_t n = rdb_get_len(in, &encoded);
    if (encoded && n == ENC_LZF) {
        n = rdb_get_len(in, NULL);
        rdb_get_len(in, NULL);
    } else if (encoded && n > ENC_INT32) {
        rdb_fail(in, "a string has no known encoding");
    } else if (encoded) {
        n = 1ULL << n;
    }
    if (!in->err) skip_bytes(in, n);
}

static void skip_lens(struct rdb_in *in, unsigned n) {
    while (n-- > 0 && !in->err) rdb_get_len(in, NULL);
}

/* So many items, each of them `lens` lengths, `strings` strings, then `bytes` bytes. */
static void skip_items(struct rdb_in *in, unsigned lens, unsigned strings, unsigned bytes) {
    for (uint64_t n = rdb_get_len(in, NULL); n > 0 && !in->err; n--) {
        skip_lens(in, lens);
        for (unsigned i = 0; i < strings && !in->err; i++) rdb_skip_string(in);
        if (bytes && !in->err) skip_bytes(in, bytes);
    }
}

static void skip_old_zset(struct rdb_in *in) {
    for (uint64_t n = rdb_get_len(in, NULL); n > 0 && !in->err; n--) {
        rdb_skip_string(in);
        uint8_t len = in->err ? 0 : rdb_get_u8(in);
        if (len < 253) skip_bytes(in, len); /* else: infinite, or no number */
    }
}

static void skip_group(struct rdb_in *in, unsigned type) {
    rdb_skip_string(in);
    skip_lens(in, type == RDB_STREAM ? 2 : 3);
    for (uint64_t n = in->err ? 0 : rdb_get_len(in, NULL); n > 0 && !in->err; n--) { /* pending entries */
        skip_bytes(in, RAW_ID_BYTES + 8);
        skip_lens(in, 1);
    }
    for (uint64_t n = in->err ? 0 : rdb_get_len(in, NULL); n > 0 && !in->err; n--) { /* consumers */
        rdb_skip_string(in);
        if (!in->err) skip_bytes(in, type == RDB_STREAM_3 ? 16 : 8);
        if (!in->err) skip_items(in, 0, 0, RAW_ID_BYTES);
    }
}

static void skip_stream(struct rdb_in *in, unsigned type) {
    skip_items(in, 0, 2, 0);
    skip_lens(in, type == RDB_STREAM ? 3 : 8); /* length, IDs, entries added */
    for (uint64_t n = in->err ? 0 : rdb_get_len(in, NULL); n > 0 && !in->err; n--) skip_group(in, type);
}

bool rdb_skip_value(struct rdb_in *in, unsigned type) {
    switch (type) {
    case RDB_STRING:
    case RDB_HASH_ZIPMAP:
    case RDB_LIST_ZIPLIST:
    case RDB_SET_INTSET:
    case RDB_ZSET_ZIPLIST:
    case RDB_HASH_ZIPLIST:
    case RDB_HASH_LISTPACK:
    case RDB_ZSET_LISTPACK:
    case RDB_SET_LISTPACK:
        rdb_skip_string(in);
        break;
    case RDB_HASH_LISTPACK_EX:
        skip_bytes(in, 8);
        if (!in->err) rdb_skip_string(in);
        break;
    case RDB_LIST:
    case RDB_SET:
    case RDB_LIST_QUICKLIST:
        skip_items(in, 0, 1, 0);
        break;
    case RDB_HASH:
        skip_items(in, 0, 2, 0);
        break;
    case RDB_ZSET_2:
        skip_items(in, 0, 1, 8);
        break;
    case RDB_ZSET:
        skip_old_zset(in);
        break;
    case RDB_LIST_QUICKLIST_2:
        skip_items(in, 1, 1, 0); /* nodes: what is in them, and that */
        break;
    case RDB_HASH_METADATA:
        skip_bytes(in, 8);
        if (!in->err) skip_items(in, 1, 2, 0);
        break;
    case RDB_STREAM:
    case RDB_STREAM_2:
    case RDB_STREAM_3:
        skip_stream(in, type);
        break;
    default:
        return rdb_fail(in, "the type of a value is unknown");
    }
    return !in->err;
}
