/* Between the files that save and load values in RDB format. Nobody else includes it. */
#ifndef KETTLE_DATA_RDB_PRIV_H
#define KETTLE_DATA_RDB_PRIV_H

#include "data/rdb.h"
#include "data/stream.h"

/* rdb_stream.c */
void rdb_save_stream(struct rdb_out *out, const struct stream *s, enum rdb_type type);
struct obj *rdb_load_stream(struct rdb_in *in, unsigned type);

/* rdb_old.c: what older versions wrote, as a listpack; NULL: the bytes are none. */
unsigned char *rdb_ziplist_to_listpack(const unsigned char *bytes, size_t len);
unsigned char *rdb_zipmap_to_listpack(const unsigned char *bytes, size_t len); /* field and value in turn */

/* A listpack string whose elements are sound. NULL: failed. */
unsigned char *rdb_get_listpack(struct rdb_in *in);

#endif
