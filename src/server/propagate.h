/*
 * From effects to logs: the append-only file's buffer and the replication backlog.
 *
 * Place in the flow: a thread ends a unit (cmd/effects.h) with its shards locked; here the unit gets what surrounds it in each
 * log (SELECT where the database changes, MULTI and EXEC around several operations), and is appended to both under one lock. So
 * both logs have all units in one order, in which the changes of any key stand as they were made.
 *
 * Threads: any. The lock is the innermost of all, and held while bytes are copied.
 */
#ifndef KETTLE_SERVER_PROPAGATE_H
#define KETTLE_SERVER_PROPAGATE_H

#include "base/slice.h"
#include "cmd/effects.h"

struct propagate;
struct server;

/* A log. `arg` lives as long as the server. */
struct propagate_sink {
    /* A whole unit: n pieces (at least one), one behind the other. Copies, and does not wait. Returns the offset of the log's end
     * behind it. Under the lock. */
    uint64_t (*append)(void *arg, const struct slice *pieces, int n);
    uint64_t (*offset)(void *arg); /* the log's end. Under the lock */
    /* Something was appended. The lock is released, the shards' are still held: posts, at most. NULL: not wanted. */
    void (*wake)(void *arg);
    void *arg;
};

struct propagate *propagate_new(void);
struct propagate *propagate_free(struct propagate *p);
/* which: EFFECT_AOF or EFFECT_REPL. NULL: that log is off. All shards locked, or before threads run. A log that begins starts
 * with SELECT. */
void propagate_set_sink(struct server *srv, enum effect_target which, const struct propagate_sink *sink);
void propagate_reselect(struct server *srv,
                        unsigned which); /* the next unit starts with SELECT, whatever was selected. Any thread */
void propagate_unit(void *srv, const struct effects_unit *u); /* engine_hooks.propagate_unit */
/* What is no change of data (PING, REPLCONF GETACK), for replicas. db -1: whatever is selected. Any thread. */
void propagate_repl_command(struct server *srv, int db, int argc, const struct slice *argv);

/* Where both logs end now. All shards locked. */
struct propagate_point {
    uint64_t repl_offset, aof_offset; /* 0: that log is off */
    int repl_db;                      /* selected there, or -1 */
};
void propagate_get_point(struct server *srv, struct propagate_point *ret);

#endif
