/* The limits of compact encodings: Redis 7.2's defaults until the configuration is applied. See limits.h. */
#include "data/limits.h"

struct data_limits data_limits = {
    .list_max_listpack_size = -2,
    .list_compress_depth = 0,
    .hash_max_listpack_entries = 512,
    .hash_max_listpack_value = 64,
    .set_max_intset_entries = 512,
    .set_max_listpack_entries = 128,
    .set_max_listpack_value = 64,
    .zset_max_listpack_entries = 128,
    .zset_max_listpack_value = 64,
    .stream_node_max_bytes = 4096,
    .stream_node_max_entries = 100,
    .hll_sparse_max_bytes = 3000,
};
