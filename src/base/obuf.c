/*
 * Output queue of a connection. Replies are appended by command code through proto/reply.c, sent by net/conn_send.c. Owned by
 * the connection's thread.
 *
 * A list of segments of two kinds:
 *
 *   own chunk   cap > 0, data == bytes    [ sent | start ... end | room up to cap ]     appends go to the tail's room
 *   reference   cap == 0, data elsewhere  [ sent | start ... end ]                      release(arg) when it leaves the queue
 *
 * Sizes: the first chunk has 1 KiB; one that follows a full chunk has four times its size, up to OBUF_CHUNK. So a connection
 * with short replies holds 1 KiB, one with long replies pays few allocations. A connection whose last batch of replies took more
 * gets a first chunk for as much: the batches of a pipeline leave as one piece each. After a reference it starts at 1 KiB again:
 * a row of large values needs little between them.
 *
 * A mark is a chunk whose data starts MARK_ROOM bytes in: what follows the mark is appended to the same chunk, and the patch
 * is written just before it, so that both leave as one piece. Rejected: a segment for the place alone, which costs two
 * allocations and one iovec more per reply of unknown length.
 *
 * The kernel may be reading [start, end) (a send in flight) while more is appended: bytes that are queued never move.
 */
#include "base/obuf.h"

#include <assert.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "base/alloc.h"

#define FIRST_CHUNK 1024
#define MARK_ROOM 64
#define POOL_MIDDLE 4096 /* beside FIRST_CHUNK and OBUF_CHUNK */
#define POOL_MAX 64 /* spare chunks of a size; of the largest, whose pages the allocator would give back and fault in again: */
#define POOL_MAX_LARGE 32

struct obuf_seg {
    struct obuf_seg *next;
    const char *data;
    size_t start, end;
    size_t cap;
    void (*release)(void *arg);
    void *arg;
    char bytes[];
};

/* ---- segments ---- */

/* What the segment adds to ob->mem. For a reference the memory kept alive by it counts: output limits must see it. */
static size_t seg_mem(const struct obuf_seg *s) {
    return sizeof *s + (s->cap ? s->cap : s->end);
}

static void seg_push(struct obuf *ob, struct obuf_seg *s) {
    if (ob->tail)
        ob->tail->next = s;
    else
        ob->head = s;
    ob->tail = s;
    ob->nsegs++;
    ob->mem += seg_mem(s);
}

/* Which spares chunks of this size are, -1: they are not kept. */
static int pool_index(size_t total) {
    if (total == FIRST_CHUNK) return 0;
    if (total == POOL_MIDDLE) return 1;
    return total == OBUF_CHUNK ? 2 : -1;
}

static bool pool_give(struct obuf_pool *pool, struct obuf_seg *s) {
    int i = s->cap ? pool_index(s->cap + sizeof *s) : -1;
    if (i < 0 || pool->n[i] == (i == 2 ? POOL_MAX_LARGE : POOL_MAX)) return false;
    s->next = pool->spare[i];
    pool->spare[i] = s;
    pool->n[i]++;
    return true;
}

static struct obuf_seg *pool_take(struct obuf_pool *pool, size_t total) {
    int i = pool_index(total);
    struct obuf_seg *s = i < 0 ? NULL : pool->spare[i];
    if (!s) return NULL;
    pool->spare[i] = s->next;
    pool->n[i]--;
    return s;
}

void obuf_pool_done(struct obuf_pool *pool) {
    for (int i = 0; i < OBUF_POOL_SIZES; i++)
        for (struct obuf_seg *s = pool->spare[i], *next; s; s = next) {
            next = s->next;
            mem_free(s);
        }
    *pool = (struct obuf_pool){ 0 };
}

static void seg_free(struct obuf *ob, struct obuf_seg *s) {
    ob->mem -= seg_mem(s);
    ob->nsegs--;
    if (s->release) s->release(s->arg);
    if (!ob->pool || !pool_give(ob->pool, s)) mem_free(s);
}

static void pop_head(struct obuf *ob) {
    struct obuf_seg *s = ob->head;
    ob->head = s->next;
    if (!ob->head) ob->tail = NULL;
    seg_free(ob, s);
}

static struct obuf_seg *chunk_push(struct obuf *ob, size_t total) {
    struct obuf_seg *s = ob->pool ? pool_take(ob->pool, total) : NULL;
    if (!s) s = mem_alloc(total);
    *s = (struct obuf_seg){ .data = s->bytes, .cap = total - sizeof *s };
    seg_push(ob, s);
    return s;
}

/* A chunk for what did not fit into the tail. */
static struct obuf_seg *chunk_grow(struct obuf *ob, size_t at_least) {
    size_t total = FIRST_CHUNK, need = at_least + sizeof(struct obuf_seg);
    if (ob->tail && ob->tail->cap) total = (ob->tail->cap + sizeof(struct obuf_seg)) * 4;
    if (!ob->tail)
        while (total < ob->before + sizeof(struct obuf_seg) && total < OBUF_CHUNK) total *= 2;
    if (total > OBUF_CHUNK) total = OBUF_CHUNK;
    return chunk_push(ob, total > need ? total : need);
}

static bool tail_fits(const struct obuf *ob, size_t n) {
    return ob->tail && ob->tail->end + n <= ob->tail->cap; /* never true of a reference, unless n is 0 */
}

/* ---- filling ---- */

static void append_grow(struct obuf *ob, const char *p, size_t n) {
    struct obuf_seg *tail = ob->tail;
    size_t fits = tail && tail->cap ? tail->cap - tail->end : 0;
    if (fits) {
        memcpy(tail->bytes + tail->end, p, fits);
        tail->end += fits;
    }
    struct obuf_seg *s = chunk_grow(ob, n - fits);
    memcpy(s->bytes, p + fits, n - fits);
    s->end = n - fits;
}

void obuf_append(struct obuf *ob, const void *p, size_t n) {
    if (n == 0) return;
    ob->bytes += n;
    if (__builtin_expect(!tail_fits(ob, n), 0)) {
        append_grow(ob, p, n);
        return;
    }
    memcpy(ob->tail->bytes + ob->tail->end, p, n);
    ob->tail->end += n;
}

char *obuf_room(struct obuf *ob, size_t n) {
    struct obuf_seg *s = tail_fits(ob, n) && ob->tail->cap ? ob->tail : chunk_grow(ob, n);
    return s->bytes + s->end;
}

void obuf_commit(struct obuf *ob, size_t used) {
    ob->tail->end += used;
    ob->bytes += used;
}

void obuf_append_ref(struct obuf *ob, const void *p, size_t n, void (*release)(void *arg), void *arg) {
    if (n == 0) {
        if (release) release(arg);
        return;
    }
    struct obuf_seg *s = mem_alloc(sizeof *s);
    *s = (struct obuf_seg){ .data = p, .end = n, .release = release, .arg = arg };
    seg_push(ob, s);
    ob->bytes += n;
}

void obuf_splice(struct obuf *dst, struct obuf *src) {
    /* Nothing, or only the chunk kept for the next reply. A mark alone is not nothing: its data starts further in. */
    if (src->bytes == 0 && src->head == src->tail && !(src->head && src->head->end)) {
        obuf_clear(src);
        return;
    }
    if (dst->tail)
        dst->tail->next = src->head;
    else
        dst->head = src->head;
    dst->tail = src->tail;
    dst->bytes += src->bytes;
    dst->mem += src->mem;
    dst->nsegs += src->nsegs;
    *src = (struct obuf){ .pool = src->pool };
}

struct obuf_mark obuf_reserve_mark(struct obuf *ob) {
    struct obuf_seg *s = chunk_push(ob, FIRST_CHUNK);
    s->start = s->end = MARK_ROOM;
    return (struct obuf_mark){ s };
}

void obuf_patch(struct obuf *ob, struct obuf_mark m, const void *p, size_t n) {
    struct obuf_seg *s = m.seg;
    assert(n <= MARK_ROOM && s->start == MARK_ROOM);
    s->start -= n;
    memcpy(s->bytes + s->start, p, n);
    ob->bytes += n;
}

/* ---- emptying ---- */

int obuf_iov(const struct obuf *ob, struct iovec *iov, int max, size_t *ret_bytes) {
    int n = 0;
    size_t sum = 0;
    for (const struct obuf_seg *s = ob->head; s && n < max; s = s->next) {
        size_t left = s->end - s->start;
        if (left == 0) continue;
        iov[n++] = (struct iovec){ (void *)(uintptr_t)(s->data + s->start), left };
        sum += left;
    }
    if (ret_bytes) *ret_bytes = sum;
    return n;
}

static void count_own(struct obuf *ob, size_t n) {
    ob->own = (uint16_t)(ob->own + n < OBUF_CHUNK ? ob->own + n : OBUF_CHUNK);
}

void obuf_consume(struct obuf *ob, size_t n) {
    assert(n <= ob->bytes);
    ob->bytes -= n;
    while (ob->head) {
        struct obuf_seg *s = ob->head;
        size_t left = s->end - s->start;
        if (n < left) {
            s->start += n;
            return;
        }
        n -= left;
        if (s->cap) count_own(ob, s->end);
        if (s == ob->tail && s->cap) { /* kept for the next reply */
            s->start = s->end = 0;
            return;
        }
        pop_head(ob);
    }
}

/* Shortens the segment to its first `left` bytes. */
static void seg_cut(struct obuf *ob, struct obuf_seg *s, size_t left) {
    ob->mem -= seg_mem(s);
    s->end = s->start + left;
    ob->mem += seg_mem(s);
}

void obuf_truncate(struct obuf *ob, size_t bytes) {
    if (bytes >= ob->bytes) return;
    struct obuf_seg *last = NULL, *rest = ob->head;
    for (size_t kept = 0; kept < bytes; rest = rest->next) {
        size_t left = rest->end - rest->start;
        if (left > bytes - kept) {
            left = bytes - kept;
            seg_cut(ob, rest, left);
        }
        kept += left;
        last = rest;
    }
    if (last)
        last->next = NULL;
    else
        ob->head = NULL;
    ob->tail = last;
    ob->bytes = bytes;
    while (rest) {
        struct obuf_seg *next = rest->next;
        seg_free(ob, rest);
        rest = next;
    }
}

void obuf_clear(struct obuf *ob) {
    ob->bytes = 0;
    while (ob->head) pop_head(ob);
}

void obuf_trim(struct obuf *ob) {
    if (ob->bytes) return;
    obuf_clear(ob);
    ob->before = ob->own;
    ob->own = 0;
}

size_t obuf_copy(const struct obuf *ob, char *out, size_t cap) {
    size_t n = 0;
    for (const struct obuf_seg *s = ob->head; s && n < cap; s = s->next) {
        size_t left = s->end - s->start;
        if (left > cap - n) left = cap - n;
        if (left) memcpy(out + n, s->data + s->start, left);
        n += left;
    }
    return n;
}
