/* Output queue of a connection: chunks of bytes and references to memory owned elsewhere, in order, gathered into
 * iovecs for one writev. Owned by the connection's thread. Appending small replies costs a memcpy, no allocation:
 * the tail chunk is kept. Invariant: `bytes` is the sum of what is left in all segments. */
#ifndef KETTLE_BASE_OBUF_H
#define KETTLE_BASE_OBUF_H

#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

struct obuf_seg;

/* Chunks nobody uses at the moment: the queues of a thread hand them on, and the next to reply finds one that is warm in the
 * cache. Zero: empty. */
#define OBUF_POOL_SIZES 3
struct obuf_pool {
    struct obuf_seg *spare[OBUF_POOL_SIZES];
    unsigned n[OBUF_POOL_SIZES];
};
void obuf_pool_done(struct obuf_pool *pool);

struct obuf {
    struct obuf_seg *head; /* first segment not wholly sent */
    struct obuf_seg *tail;
    size_t bytes;           /* left to send */
    struct obuf_pool *pool; /* of the thread; NULL: none */
    size_t mem;             /* bytes of memory held: own chunks, and what references keep alive (output buffer limits count it) */
    unsigned nsegs;
    uint16_t own;    /* bytes of chunks sent since the queue was last empty, at most OBUF_CHUNK */
    uint16_t before; /* the same of the time before: so large the first chunk is made */
};

#define OBUF_CHUNK 16384 /* bytes of a usual chunk with its header: one TLS record's worth */

void obuf_append(struct obuf *ob, const void *p, size_t n);
/* Room for n contiguous bytes at the tail (n <= OBUF_CHUNK / 2); write there, then obuf_commit(used <= n). */
char *obuf_room(struct obuf *ob, size_t n);
void obuf_commit(struct obuf *ob, size_t used);
/* Queue memory owned elsewhere; release(arg) (may be NULL) is called once, on the owning thread, when it is sent or
 * dropped: at once for n = 0. It must not touch the queue. */
void obuf_append_ref(struct obuf *ob, const void *p, size_t n, void (*release)(void *arg), void *arg);
/* Moves everything of src to the end of dst; src is left empty. */
void obuf_splice(struct obuf *dst, struct obuf *src);

/* A place in the queue to be filled later (length of a reply not known yet). Valid until obuf_patch, or until the queue is
 * cleared, trimmed, or truncated to what it held before the mark. Sending goes past a place that is not filled yet, and it is
 * gone then: patch before the queue is consumed. One never filled is no harm, it stays empty. */
struct obuf_mark {
    struct obuf_seg *seg;
};
struct obuf_mark obuf_reserve_mark(struct obuf *ob);                           /* starts a new, empty segment */
void obuf_patch(struct obuf *ob, struct obuf_mark m, const void *p, size_t n); /* once; n <= 64 */

/* Up to max pieces of what is left, from the front. Returns the count; *ret_bytes their sum (may be NULL). */
int obuf_iov(const struct obuf *ob, struct iovec *iov, int max, size_t *ret_bytes);
void obuf_consume(struct obuf *ob, size_t n); /* n <= bytes were sent */
/* Cut everything appended after the queue held `bytes` bytes (CLIENT REPLY SKIP, errors in mid-reply); no effect when it holds
 * no more than that. */
void obuf_truncate(struct obuf *ob, size_t bytes);
void obuf_clear(struct obuf *ob); /* drops all, memory freed */
/* When the queue is empty: keep one small chunk or free everything (idle connections hold no buffer). */
void obuf_trim(struct obuf *ob);
/* Copies everything out (tests, INFO). Returns bytes copied, at most cap. */
size_t obuf_copy(const struct obuf *ob, char *out, size_t cap);

#endif
