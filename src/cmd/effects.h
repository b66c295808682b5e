/*
 * What commands change, as commands for the append-only file and for replicas.
 *
 * Place in the flow: a command runs (dispatch_run); what it changed is added here, as the command itself or in the form it gave
 * with cmd_propagate, which does the same wherever and whenever it is run again. Keys that ran out or were evicted are added too.
 * When the unit of execution ends (a command, an EXEC, a script, a blocked client that was served, a turn of the cron), and
 * before its locks are released, engine_hooks.propagate_unit is given all of it at once.
 *
 *   ks_find notices an expired key --> effects_deleted: DEL key  \
 *   command changed something -----> as given                    +--> effects_end --> propagate_unit --> logs
 *   cmd_propagate -----------------> that form, or nothing      /
 *
 * So two changes of a key are given in the order in which they were made, and a transaction as a whole. What nobody wants
 * (engine.propagate_to) is not even encoded.
 *
 * Threads: each thread that runs commands has a slot of its own (session.slot), and gathers there. No lock. engine.propagate_to
 * changes with all shards locked.
 */
#ifndef KETTLE_CMD_EFFECTS_H
#define KETTLE_CMD_EFFECTS_H

#include "base/buf.h"
#include "cmd/dispatch.h"

enum effect_target { EFFECT_AOF = 1, EFFECT_REPL = 2, EFFECT_ALL = 3 }; /* as redis.set_repl has them */

struct effect {     /* one command */
    int db;         /* that it is for */
    unsigned to;    /* enum effect_target */
    size_t at, len; /* its bytes, an array of bulk strings as a client sends it */
};

struct effects { /* of a thread */
    int n, cap;
    struct effect *ops;
    struct buf bytes;
    char apart[24]; /* 64 bytes: a slot of its own in the cache, and quick to find */
};

/* What engine_hooks.propagate_unit is given: at least one operation, in order. Valid during the call. */
struct effects_unit {
    int n;
    const struct effect *ops;
    const char *bytes;
    bool is_whole;           /* several operations belong between MULTI and EXEC; else each is for itself (expired keys) */
    struct session *session; /* whose: repl_offset and aof_offset are to be set. NULL: nobody's */
};

/* Who wants what c changes: 0, nobody. */
static inline unsigned effects_wanted(const struct cmd_ctx *c) {
    unsigned to = atomic_load_explicit(&c->eng->propagate_to, memory_order_relaxed);
    if (__builtin_expect(!to, 1)) return 0;
    to &= c->s->effects_to;
    return c->script ? to & c->script_repl : to;
}

/* The slot of the calling thread, for what is no command's doing: said once when the thread begins; else 0. */
void effects_thread(unsigned slot);

/* As a client sends it. */
void effects_encode(struct buf *b, int argc, const struct slice *argv);
/* One operation: argv and then more, n_more of them (NULL: none). */
void effects_add(struct engine *e, unsigned slot, unsigned to, int db, int argc, const struct slice *argv, int n_more,
                 const struct slice *more);
/* A key ran out or was evicted; its shard is locked, or the fields of a hash did. lazy: as UNLINK. */
void effects_deleted(struct engine *e, int db, struct slice key, bool lazy);
void effects_fields_deleted(struct engine *e, int db, struct slice key, int n, const struct slice *fields);

void effects_hand_over(struct engine *e, unsigned slot, struct session *s, bool is_whole);
/* The unit ends: to be called before the locks are released under which its changes were made. */
static inline void effects_end(struct engine *e, unsigned slot, struct session *s, bool is_whole) {
    if (__builtin_expect(e->effects[slot].n != 0, 0)) effects_hand_over(e, slot, s, is_whole);
}
/* A script is stopped for a while, and its thread runs other commands: their effects are not the script's. Called again when it
 * goes on. */
void effects_swap(struct engine *e, unsigned slot, struct effects *aside);
void effects_clear(struct effects *ef);

#endif
