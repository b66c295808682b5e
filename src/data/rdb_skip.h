/* Passing over values in RDB format, where only their end is wanted. Thread: the caller's. */
#ifndef KETTLE_DATA_RDB_SKIP_H
#define KETTLE_DATA_RDB_SKIP_H

#include "data/rdb_io.h"

void rdb_skip_string(struct rdb_in *in); /* in->err says whether there was one */
/* False: in->err says why the end of the value cannot be told: rdb_load_value refuses it, too, if maybe for another reason. True
 * says nothing about the value but where it ends, if it is one. */
bool rdb_skip_value(struct rdb_in *in, unsigned type);

#endif
