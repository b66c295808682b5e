/* Overflow buckets of one large hash table, cut from chunks that belong to it alone and go with it. From the allocator they would
 * lie between those of other tables: the half of them that a table twice as large does not need would stay behind as holes.
 * Private to dict.c. Thread: the dict's owner. */
#ifndef KETTLE_DATA_DICT_POOL_H
#define KETTLE_DATA_DICT_POOL_H

#include <stddef.h>
#include <stdint.h>

#define DICT_LINE 64 /* bytes of a bucket */

struct dict_pool;

struct dict_pool *dict_pool_new(uint64_t n_buckets); /* of the table it is for; NULL for one too small to need it */
void dict_pool_free(struct dict_pool *pool);         /* with all lines; NULL is fine */
void *dict_pool_take(struct dict_pool *pool);        /* a line of zeros */
void dict_pool_give(struct dict_pool *pool, void *line);
size_t dict_pool_mem(const struct dict_pool *pool); /* bytes of its chunks; NULL is fine */

#endif
