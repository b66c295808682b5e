/*
 * The dispatcher: takes one parsed command of a session through lookup, arity, authentication, MULTI queueing, shard locking,
 * execution, statistics. The only place (with the cron) that takes shard locks.
 *
 *   unknown/arity/noauth/oom... -> error reply (MULTI: marks the transaction aborted), counted in errorstats and `rejected`
 *   in MULTI, not EXEC/DISCARD/WATCH/MULTI/QUIT/RESET -> +QUEUED, shards of its keys added to the union
 *   else -> lock shards ascending, run, serve who waits for keys that became ready, unlock
 *        -> or the client is blocked (block.h)
 *
 * Any I/O thread may dispatch, each for its own sessions.
 */
#ifndef KETTLE_CMD_DISPATCH_H
#define KETTLE_CMD_DISPATCH_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "cmd/cmd.h"

struct acl_denial;
struct effects;
struct effects_unit;

/* What the rest of the server wants to know or decide; all may be NULL. Called on the dispatching thread. "No lock held": one may
 * be kept (ks_keep) that is given back as soon as another one is wanted; ks_let_go before anything that takes its time. */
struct engine_hooks {
    void *arg;
    /* Before execution or queueing, no lock held. NULL: go on. Else the error to reply ("OOM ...", static or thread-local text;
     * the transaction is aborted, the refusal counted). *ret_postpone true (CLIENT PAUSE): nothing is replied and dispatch
     * returns DISPATCH_POSTPONED. */
    const char *(*before)(void *arg, struct session *s, const struct cmd *cmd, int argc, const struct slice *argv,
                          bool *ret_postpone);
    /* No lock held. A command that blocks comes twice: with c->blocked when it begins to wait, and with c->retry, and the time
     * that all its runs took, once it has been served; but only once when its client is unblocked otherwise. */
    void (*after)(void *arg, struct cmd_ctx *c, uint64_t usec);
    /* After each command that took engine.ran_from_us or more, those inside EXEC and scripts too; its locks are still held. One
     * that blocks comes with c->blocked, and with c->retry, on whatever thread, whenever it is run again. */
    void (*ran)(void *arg, struct cmd_ctx *c, uint64_t usec);
    /* A command that runs others inside, and has CMD_SKIP_MONITOR for that, is about to run: MONITOR shows it before them. */
    void (*show)(void *arg, struct cmd_ctx *c);
    void (*modified)(void *arg, struct cmd_ctx *c, int db, struct slice key); /* shard lock held */
    void (*flushed)(void *arg, struct cmd_ctx *c, int db); /* FLUSHDB, FLUSHALL (db -1); all shard locks held */
    void (*emptied)(void *arg);                            /* FLUSHALL has emptied everything; all shard locks held */
    /* A read-only command of a session with tracks_reads has run; its shards are still locked. */
    void (*read)(void *arg, struct cmd_ctx *c);
    void (*notify)(void *arg, char cls, const char *event, int db, struct slice key); /* shard lock held */
    /* The form that a command gave (cmd_propagate), whether anybody wants it or not; shard lock held. For tests. */
    void (*propagate)(void *arg, struct cmd_ctx *c, int argc, const struct slice *argv);
    /* A unit of execution has ended (effects.h), the locks under which it made its changes are still held. Any thread. */
    void (*propagate_unit)(void *arg, const struct effects_unit *u);
    /* Of a session that applies what was carried out elsewhere (session.applies): a command or a transaction has run, and its
     * effects were handed over; the locks under which it made its changes are still held. Called for those without locks too. */
    void (*applied)(void *arg, struct cmd_ctx *c);
    /* A blocked client has been served: its thread (w->s.home) is to call block_finish soon. Shard locks are held: nothing that
     * is said later about these keys may come to the client before that. */
    void (*wake)(void *arg, struct cmd_waiter *w);
    /* A replica without its primary that is not to serve old data: scripts ask before each command. */
    bool (*is_stale)(void *arg);
    const char *(*no_writes)(
        void *arg); /* why a write inside a script is to be refused (static or thread-local text); NULL: it is not */
    bool (*out_of_memory)(void *arg);                                         /* maxmemory is exceeded */
    void (*denied)(void *arg, struct session *s, const struct acl_denial *d); /* access was refused; shard locks may be held */
};

struct acl;
struct engine_errors;
struct scripts;
struct figures;

struct engine {
    struct keyspace *ks;
    struct cmd_table *table;
    struct engine_hooks hooks;
    struct engine_errors *errors; /* errorstats; own lock */
    struct figures *figures;      /* commandstats, latencystats */
    struct effects *effects;      /* FIGURES_SLOTS of them, each its thread's */
    _Atomic unsigned
        propagate_to;        /* enum effect_target: who wants effects. Changes with all shards locked, or before threads run */
    void *server;            /* for families that live in server/ */
    struct scripts *scripts; /* interpreters, cached scripts, functions */
    struct acl *acl;         /* users; NULL: none, everything is allowed */
    _Atomic uint64_t acl_version; /* moves with every change of a user; 0: no users */
    /* Moved by engine_move_gate: what hooks.before allowed under an older value must be asked again. */
    _Atomic uint64_t gate;
    /* settings read by commands; relaxed atomics, CONFIG SET writes them */
    _Atomic uint64_t proto_max_bulk_len;
    _Atomic uint64_t ran_from_us; /* hooks.ran is called for commands that took so long; UINT64_MAX: never */
    uint64_t keep_below_us;       /* of a row of commands, a lock is kept after one that took less. Set before threads run */
    _Atomic bool notify_on;       /* hooks.notify is wanted */
    _Atomic bool allow_noscript;  /* DEBUG SET-DISABLE-DENY-SCRIPTS: scripts may run DEBUG and what administers the server */
    _Atomic bool auth_required;   /* the default user has a password */
    _Atomic bool lazy_user_del, lazy_expire, lazy_server_del, lazy_user_flush;
    /* counters, relaxed */
    _Atomic uint64_t n_error_replies;
    _Atomic uint64_t n_payloads_checked; /* of RESTORE, in a packed form: redis-server calls that sanitizing */
};

enum dispatch_result {
    DISPATCH_OK,
    DISPATCH_POSTPONED, /* keep argv, try again later */
    DISPATCH_BLOCKED,   /* s->waiter waits: nothing more of this session's may be run until block_finish */
    DISPATCH_SUSPENDED /* a script of its takes long: nothing more of this session's may be run until dispatch_continue is done */
};

/* Once t is complete: no command may be registered afterwards. */
void engine_init(struct engine *e, struct keyspace *ks, struct cmd_table *t);
void engine_done(struct engine *e);
/* Runs or queues one command. argc >= 1. Replies go to s->reply. */
enum dispatch_result dispatch(struct engine *e, struct session *s, int argc, const struct slice *argv);
/* Goes on for some milliseconds with the script that s has waiting, on the thread that ran dispatch: DISPATCH_SUSPENDED again, or
 * DISPATCH_OK. */
enum dispatch_result dispatch_continue(struct engine *e, struct session *s);
/* For those who change keys but are no command (cron): these and all shards that serving blocked clients takes. Returns what was
 * locked; 0: the locks are not to be had (ks_set_held). creates: keys may be created; else only deleted. */
uint64_t engine_lock(struct engine *e, uint64_t mask, bool creates);
/* Serves the blocked clients whose keys have become ready, and unlocks. slot: of the calling thread. */
void engine_unlock(struct engine *e, uint64_t locked, unsigned slot);
/* What hooks.before allowed until now is asked again by whoever has not got its locks yet. */
void engine_move_gate(struct engine *e);
/* For CMD_SELF_LOCK commands: c->locked follows. False: a script holds the locks for long; dispatch_reply_busy. */
bool dispatch_lock(struct cmd_ctx *c, uint64_t mask) __attribute__((warn_unused_result));
void dispatch_reply_busy(struct cmd_ctx *c);
void dispatch_unlock(struct cmd_ctx *c);
/* After a change that makes hooks.before refuse or postpone what it allowed until now (CLIENT PAUSE): when this returns, no
 * command that was let through under the old rules is still running or will run, but for a script that takes long already. For
 * CMD_SELF_LOCK commands. */
void dispatch_close_gate(struct cmd_ctx *c);
/* hooks.show, where there is one. */
void dispatch_show(struct cmd_ctx *c);
/* Locks held: true when the gate has moved since the command was let through; c->is_stale is set then. */
bool dispatch_is_stale(struct cmd_ctx *c);
/* An error reply that did not come from a command (protocol error, maxclients): counted in errorstats. */
void engine_count_error(struct engine *e, const char *text);
/* errorstats, sorted by code; fn(code, count). Thread-safe. */
void engine_each_error(struct engine *e, void (*fn)(void *arg, const char *code, uint64_t count), void *arg);
void engine_reset_stats(struct engine *e); /* CONFIG RESETSTAT's part: commandstats, latency, errorstats */

#endif
