/* Migrations under way: the threads that wait for other servers, and who may move which key.
 *
 *   command: dumps, watches its keys, client blocked --submit--> a thread of ours: sends, hears --mail--> client's I/O thread:
 *     deletes what was carried out and has not changed since, or sends that again ... --> reply
 *
 * A migration belongs to its client's I/O thread, but between migrate_submit and the mail to the thread that talks. */
#ifndef KETTLE_SERVER_MIGRATE_H
#define KETTLE_SERVER_MIGRATE_H

#include "cmd/dispatch.h"
#include "net/loop.h"
#include "repl/migrate_link.h"
#include "server/mail.h"

struct server;
struct io_thread;

struct migrate_key {
    struct ks_watch watch; /* the key's name, and the database; in the keyspace's table while is_watched */
    uint64_t hash;         /* of the name: most comparisons end here */
    _Atomic bool dirty;    /* changed since it was dumped. Set by whoever holds the shard */
    bool is_watched;
    bool is_over;         /* nothing more is to be done about it */
    bool is_there;        /* the other server has taken it, now or earlier */
    bool is_deleted;      /* here, by this migration */
    unsigned char answer; /* what an answer to its command begins with, if that was carried out; 0: it has none in this round */
};

struct migration {
    struct list node;  /* migrate.active; in no list: it deletes nothing, or is carried out at once */
    struct list queue; /* migrate.queue */
    struct mail mail;
    struct loop_timer timer; /* it cannot be finished now */
    struct server *srv;
    struct io_thread *home;
    const struct cmd *cmd;
    struct cmd_waiter *waiter; /* home's; NULL: its client has gone, and it goes on */
    struct session s;          /* a ghost: the client's may be gone */
    struct obuf out;
    int db;
    uint64_t shards;
    bool copy, replace;
    struct migrate_key *keys;
    int n_keys;
    /* the talk */
    struct migrate_target to; /* host and credentials are owned */
    struct migrate_link *link;
    struct buf commands;
    struct migrate_talk talk;
    unsigned char *answers; /* talk.answers; owned */
    enum migrate_failure failure;
    bool is_in_vain; /* this server has become a replica meanwhile: nothing may be deleted */
    int rounds;
    int64_t slowest_us; /* round so far */
    uint64_t ticks;     /* spent here, not waiting */
};

struct migrate *migrate_new(void);
/* After migrate_wait. What was under way is forgotten; the keys are where they were. Returns NULL. */
struct migrate *migrate_free(struct migrate *mg);
/* The server ends: talks are cut short, and nothing is heard of migrations any more. Any thread, at once. */
void migrate_stop(struct server *srv);
/* For the threads, some seconds at most; before the loops are freed. False: one is left, and nothing may be freed. */
bool migrate_wait(struct server *srv);
void migrate_cron(struct server *srv);        /* thread 0: idle links */
int migrate_cached_links(struct server *srv); /* INFO: migrate_cached_sockets */

/* The command's memory, zeroed. Freed by migration_free, which takes it out of all lists; its keys must be watched no more, or
 * their keyspace be gone. */
struct migration *migration_new(struct server *srv, const struct session *s);
void migration_free(struct migration *m);
/* The shards of its keys are locked. False: another migration has one of them, and will delete it. */
bool migrate_claim(struct server *srv, struct migration *m);
void migrate_release(struct server *srv, struct migration *m); /* the same locks, or the migration was never claimed */
/* m->talk on a thread of ours, then migration_settle on m->home. False: there are too many at a time. */
bool migrate_submit(struct server *srv, struct migration *m);
void migrate_talk_now(struct server *srv, struct migration *m); /* on the caller's thread */

/* cmd_migrate.c: the talk is over. Thread m->home, no locks. */
void migration_settle(struct migration *m);

#endif
