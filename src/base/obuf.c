/*
 * Output queue. A list of segments: own chunks (bytes follow the header) and references. The first chunk of a queue is small, later ones grow to OBUF_CHUNK, so a
 * connection with short replies holds 1 KiB and one with long replies pays few allocations. Owned by the connection's thread.
 */
#include "base/obuf.h"

#include <stdint.h>
#include <string.h>

#include "base/alloc.h"

#define FIRST_CHUNK 1024

struct obuf_seg {
    struct obuf_seg *next;
    const char *data;          /* own chunk: points to `bytes` */
    size_t start, end;         /* not yet sent: data[start..end) */
    size_t cap;                /* own chunk: room; reference: 0 */
    void (*release)(void *arg);
    void *arg;
    char bytes[];
};

static void append_seg(struct obuf *ob, struct obuf_seg *s) {
    s->next = NULL;
    if (ob->tail) {
        ob->tail->next = s;
    } else {
        ob->head = s;
    }
    ob->tail = s;
    ob->nsegs++;
    ob->mem += sizeof *s + s->cap;
}

static struct obuf_seg *chunk_new(struct obuf *ob, size_t at_least) {
    size_t total = ob->nsegs == 0 ? FIRST_CHUNK : ob->tail && ob->tail->cap ? (ob->tail->cap + sizeof(struct obuf_seg)) * 4 : OBUF_CHUNK;
    if (total > OBUF_CHUNK) total = OBUF_CHUNK;
    if (total < at_least + sizeof(struct obuf_seg)) total = at_least + sizeof(struct obuf_seg);
    struct obuf_seg *s = mem_alloc(total);
    *s = (struct obuf_seg){ .cap = total - sizeof *s };
    s->data = s->bytes;
    append_seg(ob, s);
    return s;
}

static void seg_free(struct obuf *ob, struct obuf_seg *s) {
    ob->mem -= sizeof *s + s->cap;
    ob->nsegs--;
    if (s->release) s->release(s->arg);
    mem_free(s);
}

static size_t room(const struct obuf_seg *s) {
    return s ? s->cap - (s->cap ? s->end : 0) : 0;
}

void obuf_append(struct obuf *ob, const void *p, size_t n) {
    const char *at = p;
    if (n == 0) return;
    ob->bytes += n;
    size_t fits = room(ob->tail);
    if (fits > n) fits = n;
    if (fits) {
        memcpy(ob->tail->bytes + ob->tail->end, at, fits);
        ob->tail->end += fits;
    }
    if (fits == n) return;
    struct obuf_seg *s = chunk_new(ob, n - fits);
    memcpy(s->bytes, at + fits, n - fits);
    s->end = n - fits;
}

char *obuf_room(struct obuf *ob, size_t n) {
    struct obuf_seg *s = ob->tail && room(ob->tail) >= n ? ob->tail : chunk_new(ob, n);
    return s->bytes + s->end;
}

void obuf_commit(struct obuf *ob, size_t used) {
    ob->tail->end += used;
    ob->bytes += used;
}

void obuf_append_ref(struct obuf *ob, const void *p, size_t n, void (*release)(void *arg), void *arg) {
    struct obuf_seg *s = mem_alloc(sizeof *s);
    *s = (struct obuf_seg){ .data = p, .end = n, .release = release, .arg = arg };
    append_seg(ob, s);
    ob->bytes += n;
    ob->mem += n; /* the memory is kept alive by this queue: output limits must see it */
}

void obuf_splice(struct obuf *dst, struct obuf *src) {
    if (!src->head) return;
    if (dst->tail) {
        dst->tail->next = src->head;
    } else {
        dst->head = src->head;
    }
    dst->tail = src->tail;
    dst->bytes += src->bytes;
    dst->mem += src->mem;
    dst->nsegs += src->nsegs;
    *src = (struct obuf){ 0 };
}

#define MARK_ROOM 64

struct obuf_mark obuf_reserve_mark(struct obuf *ob) {
    struct obuf_seg *s = mem_alloc(sizeof *s + MARK_ROOM);
    *s = (struct obuf_seg){ .cap = MARK_ROOM };
    s->data = s->bytes;
    append_seg(ob, s);
    chunk_new(ob, 1); /* what follows must not run into the reserved place */
    return (struct obuf_mark){ s };
}

void obuf_patch(struct obuf *ob, struct obuf_mark m, const void *p, size_t n) {
    memcpy(m.seg->bytes, p, n);
    m.seg->end = n;
    ob->bytes += n;
}

int obuf_iov(const struct obuf *ob, struct iovec *iov, int max, size_t *ret_bytes) {
    int n = 0;
    size_t sum = 0;
    for (const struct obuf_seg *s = ob->head; s && n < max; s = s->next) {
        if (s->end == s->start) continue;
        iov[n].iov_base = (char *)(uintptr_t)s->data + s->start;
        iov[n++].iov_len = s->end - s->start;
        sum += s->end - s->start;
    }
    if (ret_bytes) *ret_bytes = sum;
    return n;
}

static void pop_head(struct obuf *ob) {
    struct obuf_seg *s = ob->head;
    ob->head = s->next;
    if (!ob->head) ob->tail = NULL;
    if (!s->cap) ob->mem -= s->end;
    seg_free(ob, s);
}

void obuf_consume(struct obuf *ob, size_t n) {
    ob->bytes -= n;
    while (ob->head) {
        struct obuf_seg *s = ob->head;
        size_t left = s->end - s->start;
        if (n < left) {
            s->start += n;
            return;
        }
        n -= left;
        if (s == ob->tail && s->cap) { /* kept for the next reply */
            s->start = s->end = 0;
            return;
        }
        pop_head(ob);
    }
}

void obuf_truncate(struct obuf *ob, size_t bytes) {
    size_t seen = 0;
    struct obuf_seg *last = NULL;
    for (struct obuf_seg *s = ob->head; s && seen < bytes; s = s->next) {
        size_t left = s->end - s->start;
        if (seen + left > bytes) {
            if (!s->cap) ob->mem -= left - (bytes - seen);
            s->end = s->start + (bytes - seen);
        }
        seen += left;
        last = s;
    }
    struct obuf_seg *rest = last ? last->next : ob->head;
    if (last) {
        last->next = NULL;
    } else {
        ob->head = NULL;
    }
    ob->tail = last;
    while (rest) {
        struct obuf_seg *next = rest->next;
        if (!rest->cap) ob->mem -= rest->end;
        seg_free(ob, rest);
        rest = next;
    }
    ob->bytes = bytes < ob->bytes ? bytes : ob->bytes;
}

void obuf_clear(struct obuf *ob) {
    while (ob->head) pop_head(ob);
    *ob = (struct obuf){ 0 };
}

void obuf_trim(struct obuf *ob) {
    if (ob->bytes == 0) obuf_clear(ob);
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
