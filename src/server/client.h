/* A client: a connection with a session. Owned by its I/O thread. CLIENT LIST reads it from other threads: what it reads is
 * atomic, or a string that changes only under the owner's registry_lock. */
#ifndef KETTLE_SERVER_CLIENT_H
#define KETTLE_SERVER_CLIENT_H

#include "net/conn.h"
#include "proto/resp_parse.h"
#include "server/pubsub.h"
#include "server/server.h"

enum client_flag {
    CLIENT_UNIX = 1,
    CLIENT_TLS = 2,
    CLIENT_CLOSING = 4,
    CLIENT_NO_EVICT = 8,
    CLIENT_NO_TOUCH = 16,
    CLIENT_PUBSUB = 32, /* listens to a channel or pattern */
    CLIENT_BLOCKED = 64,
    CLIENT_MONITOR = 128,
    CLIENT_REPLICA = 512,  /* has sent SYNC or PSYNC: replica.h */
    CLIENT_PRIMARY = 1024, /* this server's primary, see primary */
    CLIENT_KILLED = 256    /* by CLIENT KILL: as good as gone. Set under the registry_lock by any thread */
};

struct client {
    struct conn conn;
    struct session s;
    struct server *srv;
    struct io_thread *th;
    struct list node;        /* th->clients */
    struct list paused_node; /* th->paused, or in no list */
    struct list woken_node;  /* th->woken, or in no list */
    struct list gone_node;   /* th->gone: closed, and waits for a script to end before it can be freed */
    bool is_suspended;       /* a script of its takes long: client_script.c */
    struct resp_parser parser;
    struct buf qbuf; /* what arrived and is not parsed yet; empty between whole commands */
    struct {
        char *data; /* NULL: none */
        size_t len, cap, need;
    } large; /* the argument under way, when it is received into memory of its own; its command's beginning is in qbuf */
    enum listener_kind kind;
    int fd;                          /* as shown by CLIENT LIST: the connection's own changes when it closes */
    const char *refusal;             /* sent once the connection is open, then it is closed */
    char *addr, *laddr;              /* (S) */
    char *name, *lib_name, *lib_ver; /* (S) NULL: not set */
    char *tls_text;                  /* (S) */
    char *tls_user;                  /* (S) by its certificate, see tls-auth-clients-user; NULL: none */
    struct cmd_waiter *blocked;      /* (S) s.waiter, once all of the client says so */
    struct loop_timer block_timer;
    bool is_woken_late; /* it was woken while a script had the shards, and block_timer is to see to it */
    bool soft_limit_on;
    bool counted_tls;
    int64_t created_us;
    int64_t soft_limit_since_us;
    uint64_t bytes_in_seen, bytes_out_seen;
    _Atomic(struct tracker *) tracker; /* tracking.c; NULL: none yet. Others may read under the registry_lock */
    struct list tracking_node;         /* th->tracking, or in no list */
    struct list monitor_node;          /* th->monitors, or in no list */
    struct primary_stream *primary; /* repl_apply.c: what it sends is this server's primary's stream; NULL: an ordinary client */
    struct client_subs *subs;       /* (S) pubsub.c; NULL: never listened to anything */
    struct replica *replica;        /* (S) replica.c; NULL: has said nothing of being one */
    struct list wait_node;          /* repl->waiting, or in no list; under repl->lock; repl_wait.c */
    bool waits_for_acks;            /* it is in that list; its thread's */
    struct client_wait {            /* WAIT, WAITAOF: what for. Does not change while wait_node is in the list */
        uint64_t offset, aof_offset;
        int64_t replicas, local;
        bool is_aof;
    } wait;
    /* for CLIENT LIST */
    _Atomic int64_t last_us; /* monotonic time of the last interaction */
    _Atomic unsigned flags;
    _Atomic unsigned sub_count[PUBSUB_KINDS];
    _Atomic size_t qbuf_len, qbuf_free, out_bytes, out_mem, multi_mem;
    _Atomic size_t argv_mem;              /* of the command that waits, or lists the clients: others are not under way for long */
    _Atomic unsigned out_segs, out_batch; /* of conn.out: its pieces; bytes of replies that left together, lately */
    _Atomic int64_t mem_counted;          /* of it, in th->clients_mem */
};

void client_ids_init(struct io_thread *th); /* start-up */
/* Bytes a client holds, buffers included; any thread. */
static inline size_t client_memory(struct client *c) {
    return sizeof *c + atomic_load_explicit(&c->qbuf_len, memory_order_relaxed) +
           atomic_load_explicit(&c->qbuf_free, memory_order_relaxed) + atomic_load_explicit(&c->out_mem, memory_order_relaxed) +
           atomic_load_explicit(&c->multi_mem, memory_order_relaxed);
}
void client_note_argv(struct client *c, int argc, const struct slice *argv); /* argv_mem; argc 0: none. Owner */
void client_accept(struct io_thread *th, int fd, enum listener_kind kind);
/* Thread 0: the connection to this server's primary, made elsewhere, becomes a client: its commands are applied, without replies
 * or limits (repl_apply.c). tls_take: NULL without TLS. */
struct client *client_adopt(struct io_thread *th, int fd, struct ktls_conn *tls_take);
void client_format(struct client *c, struct buf *out);          /* CLIENT LIST line without newline; owner's registry_lock held */
struct client *client_by_id(struct io_thread *th, uint64_t id); /* owner; NULL: th has none of that id */
void client_close(struct client *c);                            /* owner: after what is queued is sent */
/* Owner: something was put into the output queue that is no reply: it is sent soon, and limits are looked at. Closing, if it
 * comes to that, is not finished inside this call. */
void client_pushed(struct client *c);
static inline bool client_is_killed(const struct client *c) {
    return atomic_load_explicit(&((struct client *)(uintptr_t)c)->flags, memory_order_relaxed) & CLIENT_KILLED;
}
static inline bool client_takes_pushes(const struct client *c) { /* nothing comes behind the last reply */
    return !conn_is_closing(&c->conn) && !c->s.close_after_reply && !client_is_killed(c);
}
void client_put_off(struct client *c); /* owner: no more of its commands until the pause ends; they are parsed again then */
/* Whether keys that run out are deleted here: not on a replica, nor while clients are paused. Any thread, after a change of
 * either.
 */
void client_update_expiry(struct server *srv);
void client_resume_paused(struct io_thread *th);
void client_arm_unpause(struct io_thread *th); /* the timer that ends the pause of th's clients */
void client_check_idle(struct client *c, int64_t now_us);
void client_run_kept(struct client *c); /* owner: what was put off may run now */
void client_free(struct client *c);     /* owner: its connection is closed */
/* ---- client_script.c ---- */
void client_suspend(struct client *c); /* owner: its command has returned DISPATCH_SUSPENDED */
void client_script_init(struct io_thread *th);
/* Owner: whether what it has in the keyspace (watches, keys it waits for) can be taken out now: a script may have the locks. */
bool client_may_lock(struct client *c);
void client_free_gone(struct io_thread *th); /* owner: those that can be */
/* ---- client_block.c ---- */
void client_block(struct client *c);               /* owner: it has begun to wait */
void client_block_end(struct client *c);           /* owner: what it waits for is no key, and has come: as at its deadline */
void client_block_abandon(struct client *c);       /* owner: it ends; nothing when it is not blocked */
void client_run_woken(struct io_thread *th);       /* owner: before it sleeps */
void client_wake(void *srv, struct cmd_waiter *w); /* engine_hooks.wake */
void client_block_kill(
    struct client *c); /* CLIENT KILL: not to be served any more. Any thread, under the owner's registry_lock */
/* CLIENT UNBLOCK: true when the client was blocked, and is no longer served. Any thread. */
bool client_unblock(struct server *srv, uint64_t id, bool is_error);
/* This server has become a replica: those of th that wait hear so, and are closed. Any thread. */
void client_unblock_all(struct io_thread *th);
bool client_out_of_memory(void *srv); /* engine_hooks.out_of_memory */
const char *client_before_command(void *srv, struct session *s, const struct cmd *cmd, int argc, const struct slice *argv,
                                  bool *ret_postpone);
void client_after_command(void *srv, struct cmd_ctx *ctx, uint64_t usec);
/* CLIENT PAUSE and UNPAUSE. Any thread. */
void client_pause_begin(struct server *srv, int64_t until_ms, bool all);
void client_pause_end(struct server *srv, int64_t now_ms);              /* when it runs no longer than now_ms */
void client_set_string(struct client *c, char **field, struct slice v); /* under the registry lock */
static inline struct client *client_of(struct session *s) {
    return s->owner;
}

#endif
