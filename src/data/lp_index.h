/* Which element of a listpack is a given text, for those who look up many: a table by hash over a listpack that does not change
 * meanwhile. No locking: as the listpack's. */
#ifndef KETTLE_DATA_LP_INDEX_H
#define KETTLE_DATA_LP_INDEX_H

#include <stddef.h>
#include <stdint.h>

#include "base/slice.h"

struct lp_index;
/* Of every element but the `skip` that follow each, as lp_find. NULL where it does not pay for n_lookups. */
struct lp_index *lp_index_new(const unsigned char *lp, unsigned skip, uint64_t n_lookups);
struct lp_index *lp_index_free(struct lp_index *x); /* NULL is fine; always NULL */
/* text.ptr NULL: the number. NULL when it is not there. */
const unsigned char *lp_index_find(const struct lp_index *x, struct slice text, int64_t num);

#endif
