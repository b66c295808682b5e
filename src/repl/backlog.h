/* Replication backlog: the last part of the replication stream, as a chain of counted blocks that the replicas read from too.
 * What one replica has still to get is a cursor into the chain, so ten replicas that are slow hold the same memory as one; and
 * what a replica sends is the blocks' own bytes, by reference.
 *
 *      head                                            tail
 *   [ block ] -> [ block ] -> [ block ] -> [ block | room ]      appends
 *        ^            ^                         ^
 *        |            reader, slow              readers that are up to date
 *        first byte that a partial resynchronization can begin with
 *
 * Offsets count the bytes of the stream since replication began, as INFO's master_repl_offset does: `end` is that figure, and the
 * next byte to be written is the one PSYNC calls end + 1.
 *
 * Blocks leave at the head, whole ones, when the rest is still as long as the size allows and no reader stands in them: so a slow
 * reader keeps what it has yet to get beyond the size, and others may use it (as redis-server 7.0 does). Who reads is to be
 * stopped by the limit on output buffers (client-output-buffer-limit replica).
 *
 * Threads: any, each call locks inside for as long as a memcpy or a few pointers take. The lock is the innermost but the
 * allocator's. A block's bytes never change once they are written, so pieces that were read are looked at without the lock. */
#ifndef KETTLE_REPL_BACKLOG_H
#define KETTLE_REPL_BACKLOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/list.h"

struct backlog;
struct backlog_block;

struct backlog *backlog_new(uint64_t size);      /* closed, at offset 0; size: bytes to be kept at least */
struct backlog *backlog_free(struct backlog *b); /* readers are closed, pieces released. Returns NULL */
/* From now on what is appended is kept; nothing of what came before is there. Already open: nothing is changed. */
void backlog_open(struct backlog *b);
/* Drops the history. The offset stays where it is; what is appended while it is closed does not move it (a history with a gap
 * would need a new replication id). No reader may be open. */
void backlog_close(struct backlog *b);
bool backlog_is_open(const struct backlog *b); /* an atomic */
/* Another history begins (full resynchronization, a file loaded): the offset is set, what was there is gone. Stays open or
 * closed. Readers that are open stand at the new offset from then on, which makes no sense for a replica: close them first. */
void backlog_reset(struct backlog *b, uint64_t offset);
void backlog_set_size(struct backlog *b, uint64_t size); /* repl-backlog-size */

/* Returns the offset behind the appended bytes. */
uint64_t backlog_append(struct backlog *b, const void *p, size_t n);
uint64_t backlog_end(const struct backlog *b); /* an atomic: all that was appended before by this thread is in it */

struct backlog_info {
    bool open;
    uint64_t start, end; /* offsets; end - start bytes are there */
    uint64_t size;       /* as set */
    uint64_t mem;        /* bytes of the chain's blocks */
    uint64_t n_blocks;
    uint64_t n_readers;
};
uint64_t backlog_mem(const struct backlog *b); /* info.mem, an atomic */
void backlog_info(const struct backlog *b, struct backlog_info *ret);

/* ---- readers ---- */

struct backlog_reader {          /* embed, zero-initialise; one thread at a time */
    struct backlog_block *block; /* NULL: not open */
    size_t pos;                  /* in it */
    uint64_t offset;             /* of the next byte it gives; read it on the reader's own thread */
};

/* A reader whose first byte is the one at offset. False: that is not there any more, or not yet, or the backlog is closed. */
bool backlog_reader_open(struct backlog *b, struct backlog_reader *r, uint64_t offset);
/* The same place as another reader's, which may stand in what the size would have let go. */
void backlog_reader_copy(struct backlog *b, struct backlog_reader *r, const struct backlog_reader *from);
void backlog_reader_close(struct backlog *b, struct backlog_reader *r); /* not open: nothing */
static inline bool backlog_reader_is_open(const struct backlog_reader *r) {
    return r->block != NULL;
}

struct backlog_piece {
    const char *ptr;
    size_t len;
    void *ref; /* backlog_release(ref) when the bytes are done with: any thread */
};
/* The next bytes, at most max of them in at most n pieces; the reader moves behind them. Returns the number of pieces. */
int backlog_read(struct backlog *b, struct backlog_reader *r, size_t max, struct backlog_piece *pieces, int n);
void backlog_release(void *ref);

#endif
