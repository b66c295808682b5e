/* What a replica asks its primary for: PSYNC's decision and REPLCONF's options, without sockets or clients. Pure functions, any
 * thread. The texts of errors are redis-server's. */
#ifndef KETTLE_REPL_PSYNC_H
#define KETTLE_REPL_PSYNC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/slice.h"

/* ---- PSYNC ---- */

struct psync_history {     /* what the primary can offer */
    const char *id, *id2;  /* 40 hex digits each */
    int64_t second_offset; /* id2 is good for offsets up to this one; -1: no id2 */
    bool has_backlog;
    uint64_t start, end; /* backlog_info */
};

enum psync_verdict {
    PSYNC_CONTINUE,      /* partial: from *ret_from on */
    PSYNC_FULL_ASKED,    /* "?": it has nothing to go on from */
    PSYNC_FULL_OTHER_ID, /* another history */
    PSYNC_FULL_PAST_ID2, /* id2's, but from behind where the histories part */
    PSYNC_FULL_NOT_KEPT  /* not in the backlog (any more, or not yet) */
};

/* offset: of the first byte the replica lacks, counted from 1, as PSYNC has it. *ret_from (PSYNC_CONTINUE): the same as the
 * backlog counts. */
enum psync_verdict psync_decide(const struct psync_history *h, struct slice id, int64_t offset, uint64_t *ret_from);

/* ---- REPLCONF ---- */

#define REPLCONF_IP_MAX 255 /* bytes */

enum replconf_set { /* which options were there */
                    REPLCONF_PORT = 1,
                    REPLCONF_IP = 2,
                    REPLCONF_CAPA = 4,
                    REPLCONF_ACK = 8,
                    REPLCONF_FACK = 16,
                    REPLCONF_GETACK = 32,
                    REPLCONF_RDB_ONLY = 64,
                    REPLCONF_FILTER = 128
};
enum replica_capa { REPLICA_CAPA_EOF = 1, REPLICA_CAPA_PSYNC2 = 2 };
enum replica_filter { REPLICA_NO_DATA = 1, REPLICA_NO_FUNCTIONS = 2 }; /* what is not wanted in the file */

struct replconf {
    unsigned set; /* enum replconf_set */
    int port;
    struct slice ip; /* of argv */
    unsigned capa;   /* to be added */
    int64_t ack, fack;
    bool rdb_only;
    unsigned filter;
};

/* Options in order, up to the first that is wrong: what came before it is in *ret (redis-server has carried it out by then).
 * True; false with the error reply in err. The ACK and GETACK forms get no reply. */
bool replconf_parse(int argc, const struct slice *argv, struct replconf *ret, char *err, size_t cap);

#endif
