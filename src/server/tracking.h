/* Client-side caching: who is told when a key changes. A client that asked for it (CLIENT TRACKING) has a tracker; the table
 * (tracking_table.h) says which trackers have read a key, the prefixes which want to hear of all keys that begin so. */
#ifndef KETTLE_SERVER_TRACKING_H
#define KETTLE_SERVER_TRACKING_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/list.h"
#include "base/slice.h"

struct client;
struct cmd_ctx;
struct io_thread;
struct server;
struct tracking_table;
struct prefixes;

enum tracking_flag {
    TRACKING_ON = 1,
    TRACKING_BCAST = 2,
    TRACKING_OPTIN = 4,
    TRACKING_OPTOUT = 8,
    TRACKING_NOLOOP = 16,
    TRACKING_BROKEN_REDIR = 32 /* the client that was to be told instead is gone */
};

/* A client's, from its first CLIENT TRACKING ON; outlives it where the table still refers to it. Changed by the client's thread,
 * read by any. */
struct tracker {
    _Atomic unsigned refs;
    _Atomic unsigned flags;    /* enum tracking_flag; 0: tells nobody */
    _Atomic uint64_t redirect; /* TRACKING_ADDRESS of who is told instead; 0: nobody */
    uint64_t id;
    int thread;
    struct list prefixes; /* memberships, guarded by the prefixes' lock */
};
#define TRACKING_ADDRESS(id, thread) ((uint64_t)(id) << 6 | (unsigned)(thread))

struct tracker *tracker_ref(struct tracker *t);
void tracker_unref(struct tracker *t);

struct tracking {
    struct tracking_table *table;
    struct prefixes *prefixes;
    _Atomic int64_t clients; /* with TRACKING_ON */
};
struct tracking *tracking_new(void);
struct tracking *tracking_free(struct tracking *t); /* NULL is fine; always NULL */

/* ---- the client's thread ---- */
/* redirect: TRACKING_ADDRESS or 0. prefixes: for TRACKING_BCAST, added to those it has; none at all: the empty one. */
void tracking_enable(struct client *c, unsigned flags, uint64_t redirect, int n_prefixes, const struct slice *prefixes);
void tracking_disable(struct client *c);      /* nothing when it is off */
void tracking_forget(struct client *c);       /* the client ends */
unsigned tracking_flags(struct client *c);    /* any thread */
uint64_t tracking_redirect(struct client *c); /* id, 0: none; any thread */
/* Commands are over: table entries beyond tracking-table-max-keys go. No lock held. */
void tracking_trim(struct server *srv);
/* Before it sleeps: what BCAST clients are told of this turn. */
void tracking_broadcast(struct io_thread *th);

/* ---- struct engine_hooks' and struct ks_hooks'; shard locks held ---- */
void tracking_read(void *srv, struct cmd_ctx *c);
void tracking_modified(void *srv, struct cmd_ctx *c, int db, struct slice key);
void tracking_flushed(void *srv, struct cmd_ctx *c, int db);
void tracking_gone(struct server *srv, struct slice key); /* expired or evicted */

/* ---- tracking_prefix.c ---- */
struct prefixes *prefixes_new(void);
struct prefixes *prefixes_free(struct prefixes *p);
uint64_t prefixes_count(const struct prefixes *p); /* different ones; no lock */
void prefixes_add(struct prefixes *p, struct slice text, struct tracker *who);
void prefixes_remove_all(struct prefixes *p, struct tracker *who);
void prefixes_of(struct prefixes *p, struct tracker *who, void (*fn)(void *arg, struct slice text),
                 void *arg);                               /* fn under the lock */
bool prefixes_match(struct prefixes *p, struct slice key); /* any of them */
/* fn for each member of each prefix, one prefix after the other; fn takes no lock but may post. */
void prefixes_each(struct prefixes *p, void (*begin)(void *arg, struct slice text), void (*fn)(void *arg, struct tracker *who),
                   void (*end)(void *arg), void *arg);

#endif
