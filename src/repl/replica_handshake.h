/* What a replica says to its primary and makes of the answers, up to the end of the RDB: pure, no sockets. The primary is not
 * trusted: every line is of a known length, every number in its range, and nothing is allocated by what it claims.
 *
 *   PING, AUTH, REPLCONF ..., PSYNC  ->  +FULLRESYNC id offset   then ("\n")* and "$length" or "$EOF:mark", the RDB, the stream
 *                                    ->  +CONTINUE [id]          then the stream
 *
 * Used by the thread of the link (server/repl_attempt.c), one thread at a time. */
#ifndef KETTLE_REPL_REPLICA_HANDSHAKE_H
#define KETTLE_REPL_REPLICA_HANDSHAKE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/slice.h"

#define REPLICA_ID_LEN 40
#define REPLICA_MARK_LEN 40
#define REPLICA_LINE_MAX 1024 /* bytes of an answer; a longer one is no answer */

/* Appends a command: argv as an array of bulk strings. */
void replica_put_command(struct buf *out, int argc, const struct slice *argv);
/* PSYNC id offset [FAILOVER]; id NULL: nothing is known, "? -1". offset: the first byte wanted. */
void replica_put_psync(struct buf *out, const char *id, int64_t offset, bool failover);

/* The answer to PING says that somebody is there: +PONG, or an error that only wants a password. */
bool replica_is_alive(struct slice line);

enum psync_answer {
    ANSWER_FULL,     /* id and offset are set */
    ANSWER_CONTINUE, /* id is set when the primary has another one now, else "" */
    ANSWER_LATER,    /* it has no data to give at the moment */
    ANSWER_REFUSED,  /* an error */
    ANSWER_MALFORMED
};
struct psync_reply {
    enum psync_answer kind;
    char id[REPLICA_ID_LEN + 1];
    int64_t offset;
};
void replica_parse_psync(struct slice line, struct psync_reply *ret);

/* How the RDB comes: so many bytes, or until a mark that was announced. */
enum rdb_announced { RDB_KEEPALIVE, RDB_BY_LENGTH, RDB_BY_MARK, RDB_REFUSED, RDB_MALFORMED };
struct rdb_framing {
    bool by_mark;
    uint64_t total; /* by length: all of it; by mark: 0 */
    uint64_t got;   /* bytes so far, the mark included */
    char mark[REPLICA_MARK_LEN];
    char tail[REPLICA_MARK_LEN]; /* the last bytes, as many as there were */
};
/* A line before the RDB. *ret is set for RDB_BY_LENGTH and RDB_BY_MARK. */
enum rdb_announced replica_parse_announcement(struct slice line, struct rdb_framing *ret);
/* Bytes that may be read next, at most cap; 0: all of it is here. */
size_t rdb_framing_wants(const struct rdb_framing *f, size_t cap);
/* They came. The primary sends nothing behind a mark before it was told that the RDB has arrived: the mark is at the very end. */
void rdb_framing_took(struct rdb_framing *f, const char *p, size_t n);
bool rdb_framing_is_whole(const struct rdb_framing *f);

#endif
