/* Commands parsed ahead of their execution, so that what they look up is on its way from memory when their turn comes.
 *
 *   batch_begin  ->  batch_add for each command of a pipeline, until it says no  ->  batch_prefetch  ->  batch_run for each, in
 * order
 *
 * Only commands with one key at a fixed place are taken, outside MULTI, and none that blocks: nothing they do changes how or when
 * the next one is read. The memory their arguments point to stays as it is until they have run. One per I/O thread. */
#ifndef KETTLE_CMD_BATCH_H
#define KETTLE_CMD_BATCH_H

#include "cmd/dispatch.h"
#include "data/keyspace.h"

#define BATCH_MAX 16     /* commands; as many cache misses at once as processors can have, or a little more */
#define BATCH_MAX_ARGS 8 /* of a command */

struct batch {
    int n;
    unsigned turn; /* which shard is asked */
    struct ks_hint hint[BATCH_MAX];
    struct batched {
        size_t end; /* the caller's: where in its buffer the command ends */
        int argc;
        struct slice argv[BATCH_MAX_ARGS];
    } item[BATCH_MAX];
};

/* Empties it. False: the tables are so small that they may be in the processor's caches, and to look ahead would cost more than
 * it brings. */
bool batch_begin(struct batch *b, const struct engine *e, const struct session *s);
/* False: not taken, nothing is changed. */
bool batch_add(struct batch *b, struct engine *e, struct session *s, int argc, const struct slice *argv, size_t end);
/* Worth it when the tables are larger than the processor's caches; else it does nothing. */
void batch_prefetch(const struct batch *b, struct engine *e, const struct session *s);
/* dispatch() of item i. */
enum dispatch_result batch_run(const struct batch *b, int i, struct engine *e, struct session *s);

#endif
