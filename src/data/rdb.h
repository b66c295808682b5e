/* Values in Redis's RDB format: what DUMP, RESTORE, RDB files and replication have of each key.
 *
 * Written are the types of Redis 7.2 (RDB 11), and those of 7.4 for hashes whose fields have times. Read are all up to
 * Redis 7.4's and Valkey 8's, from the first on; values of modules are refused. What is read is not trusted: every structure is
 * checked before it is used, and takes memory as its bytes come. */
#ifndef KETTLE_DATA_RDB_H
#define KETTLE_DATA_RDB_H

#include "data/object.h"
#include "data/rdb_io.h"

#define RDB_VERSION 11      /* what files say */
#define RDB_VERSION_READ 12 /* the newest that is read */

enum rdb_type {
    RDB_STRING = 0,
    RDB_LIST = 1,
    RDB_SET = 2,
    RDB_ZSET = 3, /* scores as text */
    RDB_HASH = 4,
    RDB_ZSET_2 = 5, /* scores as doubles */
    RDB_MODULE_1 = 6,
    RDB_MODULE_2 = 7,
    RDB_HASH_ZIPMAP = 9,
    RDB_LIST_ZIPLIST = 10,
    RDB_SET_INTSET = 11,
    RDB_ZSET_ZIPLIST = 12,
    RDB_HASH_ZIPLIST = 13,
    RDB_LIST_QUICKLIST = 14, /* of ziplists */
    RDB_STREAM = 15,
    RDB_HASH_LISTPACK = 16,
    RDB_ZSET_LISTPACK = 17,
    RDB_LIST_QUICKLIST_2 = 18, /* of listpacks and plain elements */
    RDB_STREAM_2 = 19,         /* with first ID, deleted ID, entries added and read */
    RDB_SET_LISTPACK = 20,
    RDB_STREAM_3 = 21, /* with consumers' active time */
    RDB_HASH_METADATA = 24,
    RDB_HASH_LISTPACK_EX = 25
};

/* Which of them a value is written as. Two sets of forms: RDB_FORMS_FILE, those of Redis 7.2; and RDB_FORMS_DUMP, those that
 * Redis 7.0 reads as well, wherever nothing of the value is lost by it. */
enum rdb_forms { RDB_FORMS_FILE, RDB_FORMS_DUMP };
enum rdb_type rdb_type_of(const struct obj *o, enum rdb_forms forms);
/* The lowest RDB version whose readers know that type. */
int rdb_type_version(enum rdb_type type);
/* Writes the value, without its type. */
void rdb_save_value(struct rdb_out *out, const struct obj *o, enum rdb_type type);

/* Reads a value of that type. NULL: in->err says why. An aggregate without elements is an error ("empty"): no such keys exist.
 * now_ms: hash fields that are due by then are left out; 0: all are kept. */
struct obj *rdb_load_value(struct rdb_in *in, unsigned type, int64_t now_ms);

/* The payload of DUMP: type, value, RDB version (2 bytes), CRC64. Appended to ret. */
void rdb_dump(struct buf *ret, const struct obj *o);
/* False: version or checksum are wrong. *ret_body: without them. */
bool rdb_check_payload(struct slice payload, struct slice *ret_body);

#endif
