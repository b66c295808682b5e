/* Where a small value's compact encoding ends: redis.conf's *-max-listpack-*, set-max-intset-entries and the like. For the
 * process: commands, loading and RESTORE convert by the same rule. CONFIG SET writes, any thread reads; relaxed. */
#ifndef KETTLE_DATA_LIMITS_H
#define KETTLE_DATA_LIMITS_H

#include <stdatomic.h>
#include <stdint.h>

struct data_limits {
    _Atomic int64_t list_max_listpack_size; /* > 0: elements of a node; -1..-5: 4, 8, 16, 32, 64 KiB */
    _Atomic int64_t list_compress_depth;    /* nodes at each end that stay plain; 0: none is compressed */
    _Atomic int64_t hash_max_listpack_entries, hash_max_listpack_value /* bytes */;
    _Atomic int64_t set_max_intset_entries, set_max_listpack_entries, set_max_listpack_value /* bytes */;
    _Atomic int64_t zset_max_listpack_entries, zset_max_listpack_value /* bytes */;
    _Atomic int64_t stream_node_max_bytes, stream_node_max_entries; /* 0: no limit */
    _Atomic int64_t hll_sparse_max_bytes;
};

extern struct data_limits data_limits;

static inline int64_t limit_get(const _Atomic int64_t *v) {
    return atomic_load_explicit((_Atomic int64_t *)(uintptr_t)v, memory_order_relaxed);
}

#endif
