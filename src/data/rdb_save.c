/* Values into RDB format. See rdb.h. Place in the flow: under DUMP, and what writes files and full synchronisations. Thread: the
 * holder of the shard's lock, or a child process that has the memory to itself.
 *
 * Compact encodings are Redis's own bytes and go out as they are; the others element by element. */
#include <string.h>

#include "base/alloc.h"
#include "base/crc64.h"
#include "data/hash.h"
#include "data/list.h"
#include "data/listpack.h"
#include "data/rdb_priv.h"
#include "data/set.h"
#include "data/zset.h"

#define NODE_PLAIN 1 /* of a list: one element by itself */
#define NODE_PACKED 2

static enum rdb_type hash_type(const struct obj *o) {
    bool timed = hash_soonest(o) != HASH_NO_TIME;
    if (o->enc == OBJ_ENC_LISTPACK) return RDB_HASH_LISTPACK;
    if (o->enc == OBJ_ENC_LISTPACK_EX) return timed ? RDB_HASH_LISTPACK_EX : RDB_HASH;
    return timed ? RDB_HASH_METADATA : RDB_HASH;
}

static enum rdb_type set_type(const struct obj *o, enum rdb_forms forms) {
    if (o->enc == OBJ_ENC_INTSET) return RDB_SET_INTSET;
    return o->enc == OBJ_ENC_LISTPACK && forms == RDB_FORMS_FILE ? RDB_SET_LISTPACK : RDB_SET;
}

enum rdb_type rdb_type_of(const struct obj *o, enum rdb_forms forms) {
    switch ((enum obj_type)o->type) {
    case OBJ_LIST:
        return RDB_LIST_QUICKLIST_2;
    case OBJ_SET:
        return set_type(o, forms);
    case OBJ_ZSET:
        return o->enc == OBJ_ENC_LISTPACK ? RDB_ZSET_LISTPACK : RDB_ZSET_2;
    case OBJ_HASH:
        return hash_type(o);
    case OBJ_STREAM:
        return forms == RDB_FORMS_FILE ? RDB_STREAM_3 : RDB_STREAM_2;
    default:
        return RDB_STRING;
    }
}

int rdb_type_version(enum rdb_type type) {
    if (type >= RDB_HASH_METADATA) return 12;
    if (type >= RDB_SET_LISTPACK) return 11;
    return type >= RDB_HASH_LISTPACK ? 10 : 9;
}

/* ---- one type each ---- */

static void save_string(struct rdb_out *out, const struct obj *o) {
    char tmp[STR_LL_MAX];
    rdb_put_string(out, obj_string_bytes(o, tmp));
}

static void save_listpack(struct rdb_out *out, const unsigned char *lp) {
    rdb_put_blob(out, lp, lp_bytes(lp));
}

static bool save_node(void *arg, const struct list_node *n) {
    struct rdb_out *out = arg;
    rdb_put_len(out, n->is_plain ? NODE_PLAIN : NODE_PACKED);
    if (n->lzf.ptr)
        rdb_put_lzf(out, n->lzf, n->raw_len);
    else
        rdb_put_blob(out, n->bytes.ptr, n->bytes.len);
    return true;
}

static bool count_node(void *arg, const struct list_node *n) {
    (void)n;
    ++*(uint64_t *)arg;
    return true;
}

static void save_list(struct rdb_out *out, const struct obj *o) {
    uint64_t n = 0;
    list_each_node(o, count_node, &n);
    rdb_put_len(out, n);
    list_each_node(o, save_node, out);
}

static bool save_member(void *arg, const struct set_member *m) {
    char tmp[STR_LL_MAX];
    rdb_put_string(arg, set_member_text(m, tmp));
    return true;
}

static void save_set(struct rdb_out *out, const struct obj *o, enum rdb_type type) {
    size_t len;
    if (type == RDB_SET) {
        rdb_put_len(out, set_len(o));
        set_each(o, save_member, out);
    } else {
        const unsigned char *blob = set_blob(o, &len);
        rdb_put_blob(out, blob, len);
    }
}

/* From the highest score down, as redis-server does: who loads it into a list ordered by score always adds at the front. */
static void save_zset(struct rdb_out *out, const struct obj *o) {
    struct zset_iter it;
    struct zset_item item;
    uint64_t n = zset_len(o);
    rdb_put_len(out, n);
    zset_iter_init(&it, o, n - 1, true);
    while (zset_iter_next(&it, &item)) {
        rdb_put_string(out, item.member);
        rdb_put_double(out, item.score);
    }
}

struct hash_save {
    struct rdb_out *out;
    int64_t soonest_ms; /* times are written as distances from it, plus 1; 0: none */
    bool timed;
};

static bool save_pair(void *arg, const struct hash_pair *p) {
    const struct hash_save *s = arg;
    if (s->timed) rdb_put_len(s->out, p->when_ms == HASH_NO_TIME ? 0 : (uint64_t)(p->when_ms - s->soonest_ms) + 1);
    rdb_put_string(s->out, p->field);
    rdb_put_string(s->out, p->value);
    return true;
}

static void save_hash(struct rdb_out *out, const struct obj *o, enum rdb_type type) {
    struct hash_save s = { .out = out, .soonest_ms = hash_soonest(o), .timed = type == RDB_HASH_METADATA };
    bool timed;
    if (type == RDB_HASH_METADATA || type == RDB_HASH_LISTPACK_EX) rdb_put_u64(out, (uint64_t)s.soonest_ms);
    if (type == RDB_HASH_LISTPACK || type == RDB_HASH_LISTPACK_EX) {
        save_listpack(out, hash_listpack(o, &timed));
        return;
    }
    rdb_put_len(out, hash_len(o));
    hash_each(o, 0, save_pair, &s);
}

void rdb_save_value(struct rdb_out *out, const struct obj *o, enum rdb_type type) {
    switch ((enum obj_type)o->type) {
    case OBJ_LIST:
        save_list(out, o);
        break;
    case OBJ_SET:
        save_set(out, o, type);
        break;
    case OBJ_ZSET:
        if (type == RDB_ZSET_LISTPACK)
            save_listpack(out, zset_listpack(o));
        else
            save_zset(out, o);
        break;
    case OBJ_HASH:
        save_hash(out, o, type);
        break;
    case OBJ_STREAM:
        rdb_save_stream(out, o->u.ptr, type);
        break;
    default:
        save_string(out, o);
    }
}

/* ---- payloads ---- */

#define FOOTER 10 /* version and checksum */

void rdb_dump(struct buf *ret, const struct obj *o) {
    enum rdb_type type = rdb_type_of(o, RDB_FORMS_DUMP);
    int version = rdb_type_version(type);
    size_t start = ret->len;
    struct rdb_out out = { .compress = true, .buf = *ret };
    rdb_put_u8(&out, (uint8_t)type);
    rdb_save_value(&out, o, type);
    rdb_put_u8(&out, (uint8_t)version);
    rdb_put_u8(&out, 0);
    rdb_put_u64(&out, crc64(0, out.buf.data + start, out.buf.len - start));
    *ret = out.buf;
}

bool rdb_check_payload(struct slice payload, struct slice *ret_body) {
    if (payload.len <= FOOTER) return false;
    const unsigned char *foot = (const unsigned char *)payload.ptr + payload.len - FOOTER;
    unsigned version = foot[0] | (unsigned)foot[1] << 8;
    uint64_t sum = 0;
    for (int i = 7; i >= 0; i--) sum = sum << 8 | foot[2 + i];
    *ret_body = (struct slice){ payload.ptr, payload.len - FOOTER };
    /* A checksum of 0 means that none was made: redis-server takes it for files only. */
    return version <= RDB_VERSION_READ && sum == crc64(0, payload.ptr, payload.len - 8);
}
