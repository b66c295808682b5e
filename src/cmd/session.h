/* What a command knows of the client that sent it. Owned by the connection's I/O thread; embedded in the server's client
 * structure. Fields marked (S) are read by other threads for CLIENT LIST: atomics, or strings changed only under the registry
 * lock of the owning thread (the server's hooks see to that). */
#ifndef KETTLE_CMD_SESSION_H
#define KETTLE_CMD_SESSION_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/slice.h"
#include "data/keyspace.h"
#include "proto/reply.h"

struct acl_account;
struct acl_user;
struct cmd;
struct cmd_waiter;
struct resp_parser;

struct queued_cmd { /* MULTI: a command kept until EXEC; owns one block holding argv and bytes */
    struct cmd *cmd;
    int argc;
    struct slice *argv;
};

enum session_reply_mode { REPLY_ON, REPLY_OFF, REPLY_SKIP_NEXT, REPLY_SKIP_THIS };

struct session {
    struct reply reply;
    uint64_t id;
    _Atomic int db;   /* (S) selected database */
    _Atomic int resp; /* (S) 2 or 3; reply.resp follows */
    bool authenticated;
    char *user; /* (S) "default"; owned */
    /* Access control's (acl.h): who it is (NULL: the default user), what is allowed as of acl_version, and whether that is all.
     */
    struct acl_account *account;
    const struct acl_user *acl;
    uint64_t acl_version;
    bool acl_free;
    enum session_reply_mode reply_mode;
    /* MULTI */
    bool in_multi;
    bool multi_abort; /* a queued command was refused: EXEC says EXECABORT */
    struct queued_cmd *queue;
    int queue_len, queue_cap;
    size_t queue_bytes;      /* memory of the queue */
    uint64_t queue_shards;   /* union of shards */
    unsigned queue_flags;    /* union of enum cmd_flag */
    _Atomic int multi_count; /* (S) -1 outside MULTI, for CLIENT LIST multi= */
    /* WATCH */
    struct ks_watch **watches;
    int n_watches, watches_cap;
    _Atomic int watch_count; /* (S) */
    _Atomic bool dirty_cas;  /* set by any thread, under the shard's lock */
    /* last command (S): pointers to registered commands, which live as long as the process */
    _Atomic(const struct cmd *) last_cmd;
    uint64_t last_name; /* the dispatcher's: a command's name as it was sent, and the command. 0: none */
    struct cmd *last_named;
    bool in_row;    /* the server's: its commands follow one another, nothing else is done between them; ks_let_go afterwards */
    uint64_t ended; /* clock_ticks() at the end of the last command in this row; 0: none */
    /* wishes of commands, carried out by the server after the command */
    bool close_after_reply; /* QUIT, CLIENT KILL of itself, protocol error */
    bool tracks_reads;      /* client-side caching: engine_hooks.read is wanted */
    bool caching;           /* CLIENT CACHING was said for the next command */
    bool no_touch;          /* CLIENT NO-TOUCH */
    bool no_evict;
    /* Applies a log, or its primary's stream: what stands there has been allowed and has happened, so nothing is refused, and
     * nothing has run out (the log says so by itself when it does). */
    bool applies;
    struct resp_parser *parser; /* where argv comes from; NULL: elsewhere */
    unsigned slot;              /* of the thread that runs its commands, in figures.h */
    /* Where its changes go (enum effect_target): both, as it begins; fewer for a session that applies what has been logged. */
    unsigned effects_to;
    uint64_t repl_offset, aof_offset; /* where the logs stood behind its last change, which WAIT waits for. 0: it made none */
    void *owner;                      /* server's struct client */
    void *home;                       /* the thread it belongs to; the server's struct io_thread */
    struct cmd_waiter *waiter;        /* while the client is blocked, see block.h; nothing else it sent is run meanwhile */
};

void session_init(struct session *s, struct obuf *out, uint64_t id);
/* Unwatches (takes shard locks), drops the queue, frees strings. No shard lock may be held. */
void session_done(struct session *s, struct keyspace *ks);
/* What a command that is run again for a blocked client, by any thread, sees in place of the client's session: a snapshot, with
 * an output queue of its own. It borrows strings, which do not change while the client is blocked, and needs no session_done. */
void session_ghost(struct session *ghost, const struct session *s, struct obuf *out);
void session_advance_reply_mode(struct session *s); /* after a command */
void session_set_resp(struct session *s, int resp);
/* DISCARD's and RESET's part: leaves MULTI, forgets watches. Takes shard locks: none may be held. False: they are not to be had
 * (ks_set_held), and nothing is changed. */
bool session_discard(struct session *s, struct keyspace *ks);
/* Forgets all watches; the caller holds the locks of session_watch_shards(). */
void session_unwatch_locked(struct session *s, struct keyspace *ks, uint64_t held);
/* The same, taking the locks: none may be held. False: they are not to be had (ks_set_held); the watches stay. */
bool session_unwatch(struct session *s, struct keyspace *ks);
uint64_t session_watch_shards(const struct session *s, const struct keyspace *ks);
void session_end_multi(struct session *s);                                                  /* drops the queue; watches stay */
void session_queue(struct session *s, struct cmd *cmd, int argc, const struct slice *argv); /* copies argv */
/* Watches a key (its shard locked). False when it was watched already. */
bool session_watch_key(struct session *s, struct keyspace *ks, int db, struct slice key, int64_t now_ms);

#endif
