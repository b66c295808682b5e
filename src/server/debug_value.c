/* DEBUG OBJECT's facts about values. Runs on the dispatching thread under the lock of the key's shard. */
#include "server/debug_value.h"

#include "data/list.h"
#include "data/rdb.h"

static int discard(void *arg, const void *p, size_t n) {
    (void)arg;
    (void)p;
    (void)n;
    return 0;
}

size_t debug_saved_len(const struct obj *o) {
    struct rdb_out out = { .sink = discard, .compress = true };
    rdb_save_value(&out, o, rdb_type_of(o, RDB_FORMS_FILE));
    size_t len = out.bytes;
    rdb_out_done(&out);
    return len;
}

void debug_append_facts(struct buf *out, const struct obj *o) {
    struct list_stats st;
    if (o->type != OBJ_LIST || !list_stats(o, &st)) return;
    buf_printf(out, " ql_nodes:%llu ql_avg_node:%.2f ql_listpack_max:%d ql_compressed:%d ql_uncompressed_size:%zu",
               (unsigned long long)st.nodes, st.avg_node, st.max, st.compressed, st.uncompressed_size);
}
