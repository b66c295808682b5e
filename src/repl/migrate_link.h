/* What MIGRATE says to another server and hears from it: connections that are kept for the next time, commands out, one line for
 * each back. Knows nothing of keys: it is given the bytes of RESTORE commands and says which of them were carried out.
 *
 *     take a kept link, or connect -> [AUTH] [SELECT] commands ... -> a line for each -> put the link back, or close it
 *
 * Waiting: the caller's thread waits, and no longer than the timeout without progress. Progress is: connected (look-up and
 * handshake included), 64 KiB sent, a line received; each of these has the whole timeout for itself, exactly (net/syncio.h),
 * however the bytes drip. That is what the command's timeout means to Redis: a large value may take longer, a silent peer may
 * not.
 *
 * Threads: any; a link is one thread's while it is taken, the set of links has a lock. */
#ifndef KETTLE_REPL_MIGRATE_LINK_H
#define KETTLE_REPL_MIGRATE_LINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/slice.h"
#include "net/syncio.h"

#define MIGRATE_LINKS_MAX 64 /* kept, or more while they are in use */
#define MIGRATE_LINK_IDLE_US (10LL * 1000000)
#define MIGRATE_LINE_MAX 1024 /* of a reply, with its end; a longer one is a protocol error */

struct migrate_links; /* the set */
struct migrate_link;

struct migrate_target {
    const char *host;
    int port;
    struct ktls_ctx *tls; /* NULL: plain. Borrowed */
    bool has_auth, has_user;
    struct slice user, pass;
    int64_t db;
    int64_t timeout_us; /* positive */
};

enum migrate_failure {
    MIGRATE_FINE,
    MIGRATE_CONNECTING, /* failed or timed out; nothing was sent */
    MIGRATE_WRITING,
    MIGRATE_READING, /* or what came was no reply */
    MIGRATE_REFUSED  /* the other server answered with an error */
};

struct migrate_talk {
    const struct migrate_target *to;
    struct slice commands; /* n of them, each answered with one line */
    int n;
    const unsigned char *answers; /* n: the byte that each answer begins with if the command was carried out; NULL: '+' */
    /* out */
    unsigned char *done;          /* n: 1 for each that was carried out, whatever failed besides; the caller's, zeroed */
    char error[MIGRATE_LINE_MAX]; /* MIGRATE_REFUSED: the first error, without its dash; else why, for the log */
    int64_t took_us;
};

struct migrate_links *migrate_links_new(void);
struct migrate_links *migrate_links_free(struct migrate_links *ls); /* none may be taken. Returns NULL */
/* Closes those that have not been used for MIGRATE_LINK_IDLE_US. */
void migrate_links_expire(struct migrate_links *ls, int64_t now_us);
/* Ends the waiting of those who talk now (they fail), and of all who try later. */
void migrate_links_interrupt(struct migrate_links *ls);
int migrate_links_count(struct migrate_links *ls); /* kept now */

/* One exchange. *link: NULL, or what the last exchange with the same target left; afterwards it is the caller's again (NULL: it
 * is closed), to talk on or to put back. A link that was kept and turns out to be dead before anything was heard (the other
 * server has restarted) is replaced by a new one, once, with the time beginning anew. */
enum migrate_failure migrate_talk(struct migrate_links *ls, struct migrate_link **link, struct migrate_talk *t);
/* Kept for the next one. NULL is fine. */
void migrate_link_put(struct migrate_links *ls, struct migrate_link *link_take);

struct migrate_heard {
    int n;  /* lines that came */
    int rc; /* 0, or why the link is of no use any more: of syncio_*, -EPROTO */
};
/* n answers: to AUTH and SELECT (is_intro), or to the commands. MIGRATE_FINE, MIGRATE_READING, MIGRATE_REFUSED. For migrate_talk,
 * and for the fuzzer. */
enum migrate_failure migrate_hear(struct syncio *io, struct migrate_talk *t, int n, bool is_intro, struct migrate_heard *h);

#endif
