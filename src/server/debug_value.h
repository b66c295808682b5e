/* What DEBUG OBJECT tells of a value beyond its address and clock. The shard of its key is locked. */
#ifndef KETTLE_SERVER_DEBUG_VALUE_H
#define KETTLE_SERVER_DEBUG_VALUE_H

#include "base/buf.h"
#include "data/object.h"

size_t debug_saved_len(const struct obj *o);                   /* bytes in an RDB file, without the type */
void debug_append_facts(struct buf *out, const struct obj *o); /* " ql_nodes:2 ..." of a list; nothing for others */

#endif
