/*
 * Looking ahead in a pipeline. See batch.h.
 *
 * Place in the flow: between the parser and the dispatcher, used by the server's client.c. Thread: the session's.
 *
 * A GET among millions of keys waits for three cache misses, each of which says where the next one is: bucket, entry, value. Of
 * sixteen commands the buckets are asked for together, then the entries, then the values.
 */
#include "cmd/batch.h"

#include "cmd/exec.h"

bool batch_begin(struct batch *b, const struct engine *e, const struct session *s) {
    b->n = 0;
    return ks_is_large(e->ks, atomic_load_explicit(&s->db, memory_order_relaxed), b->turn++);
}

bool batch_add(struct batch *b, struct engine *e, struct session *s, int argc, const struct slice *argv, size_t end) {
    if (b->n == BATCH_MAX || argc > BATCH_MAX_ARGS || s->in_multi) return false;
    const struct cmd *cmd = dispatch_look_up(e, s, argc, argv);
    int pos = cmd && !(cmd->flags & CMD_BLOCKING) && cmd_arity_ok(cmd, argc) ? dispatch_single_key(cmd) : 0;
    if (pos == 0 || pos >= argc) return false;
    struct batched *it = &b->item[b->n];
    it->argc = argc;
    it->end = end;
    memcpy(it->argv, argv, (size_t)argc * sizeof *argv);
    ks_hint_make(&b->hint[b->n++], argv[pos]);
    return true;
}

void batch_prefetch(const struct batch *b, struct engine *e, const struct session *s) {
    ks_prefetch(e->ks, atomic_load_explicit(&s->db, memory_order_relaxed), b->hint, b->n);
}

enum dispatch_result batch_run(const struct batch *b, int i, struct engine *e, struct session *s) {
    ks_use_hint(&b->hint[i]);
    enum dispatch_result r = dispatch(e, s, b->item[i].argc, b->item[i].argv);
    ks_no_hint(); /* it may have been refused */
    return r;
}
