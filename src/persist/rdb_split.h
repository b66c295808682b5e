/* Pieces of an RDB file on their way from the thread that reads it to others that work on them, and their outcome on its way back
 * in the order of the file. For rdb_file_load.c only.
 *
 *       reader: rdb_split_take ---- fills it ---- rdb_split_put          a ring of chunks:
 *                  ^                                   |
 *                  |  the outcome, in order            v                  retired .. taken .. put
 *                  +--- done <---- work() <---- one of the threads
 *
 * Bounded: by the number of chunks, and by the bytes in those that are not done. */
#ifndef KETTLE_PERSIST_RDB_SPLIT_H
#define KETTLE_PERSIST_RDB_SPLIT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "persist/rdb_file.h"

struct rdb_chunk {
    /* in */
    struct buf bytes; /* whole keys: what stands before each, type, name, value */
    uint64_t at;      /* where in the file they begin */
    int db;
    /* out */
    int result;
    char err[512];
    struct rdb_file_found found;
    struct buf empty; /* names of the first keys that were empty, a NUL behind each */
    bool is_done;     /* guarded by the split's lock */
};

struct rdb_split;

/* n_threads are started when there is something to do for them; where they cannot be, rdb_split_put does the work itself. work
 * runs in any of them. */
struct rdb_split *rdb_split_new(unsigned n_threads, void (*work)(void *arg, struct rdb_chunk *c), void *arg);
struct rdb_split *rdb_split_free(struct rdb_split *s); /* waits for the threads; always NULL; NULL is fine */
/* A chunk to be filled: it is empty, the reader's, and the only one at a time. There is one when rdb_split_is_full says no. */
struct rdb_chunk *rdb_split_take(struct rdb_split *s);
void rdb_split_put(struct rdb_split *s,
                   bool is_last); /* that one; is_last: nothing follows soon, no thread need be started for it */
/* Whether no more can be taken until one is retired. */
bool rdb_split_is_full(const struct rdb_split *s);
/* The oldest chunk that was put and is not retired, once it is done; NULL: there is none. Then the reader looks at its outcome
 * and: */
struct rdb_chunk *rdb_split_wait(struct rdb_split *s);
void rdb_split_retire(struct rdb_split *s);
/* What nobody has begun to work on is not worked on any more. */
void rdb_split_stop(struct rdb_split *s);

#endif
