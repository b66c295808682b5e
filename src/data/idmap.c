/* Ordered map of stream IDs. See idmap.h. Place in the flow: inside streams (stream.c, stream_group.c). Thread: the holder of the
 * shard's lock.
 *
 * Invariants: no chunk in the array is empty; the IDs of a chunk ascend, and all of them are below those of the next. A chunk
 * that is full is halved, except that one at the end of the map is left full: what comes next is mostly larger than everything.
 * Chunks that have become small are joined with the one behind them. */
#include "data/idmap.h"

#include <string.h>

#include "base/alloc.h"

#define CHUNK_MAX 64
#define CHUNK_FIRST 4

struct idmap_chunk {
    unsigned n, cap;
    struct idmap_entry {
        struct stream_id id;
        void *value;
    } e[];
};

static size_t chunk_bytes(unsigned cap) {
    return sizeof(struct idmap_chunk) + cap * sizeof(struct idmap_entry);
}

static struct idmap_chunk *chunk_new(unsigned cap) {
    struct idmap_chunk *c = mem_alloc(chunk_bytes(cap));
    c->n = 0;
    c->cap = cap;
    return c;
}

static struct idmap_chunk *chunk_at(const struct idmap *m, size_t i) {
    return m->chunks[m->first + i];
}

void idmap_done(struct idmap *m, void (*free_value)(void *value)) {
    for (size_t i = 0; i < m->n; i++) {
        struct idmap_chunk *c = chunk_at(m, i);
        for (unsigned k = 0; free_value && k < c->n; k++) free_value(c->e[k].value);
        mem_free(c);
    }
    mem_free(m->chunks);
    *m = (struct idmap){ 0 };
}

size_t idmap_mem(const struct idmap *m) {
    size_t bytes = m->cap * sizeof *m->chunks;
    for (size_t i = 0; i < m->n; i++) bytes += chunk_bytes(chunk_at(m, i)->cap);
    return bytes;
}

/* ---- searching ---- */

/* The chunk that has the ID or would: the last one that does not begin after it, 0 when all do. */
static size_t find_chunk(const struct idmap *m, struct stream_id id) {
    size_t lo = 0, hi = m->n;
    while (hi - lo > 1) {
        size_t mid = lo + (hi - lo) / 2;
        if (stream_id_cmp(chunk_at(m, mid)->e[0].id, id) <= 0)
            lo = mid;
        else
            hi = mid;
    }
    return lo;
}

/* The first entry of a chunk that is not before the ID. */
static unsigned find_entry(const struct idmap_chunk *c, struct stream_id id) {
    unsigned lo = 0, hi = c->n;
    while (lo < hi) {
        unsigned mid = lo + (hi - lo) / 2;
        if (stream_id_cmp(c->e[mid].id, id) < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

static bool is_at(const struct idmap_chunk *c, unsigned at, struct stream_id id) {
    return at < c->n && stream_id_cmp(c->e[at].id, id) == 0;
}

void **idmap_get(const struct idmap *m, struct stream_id id) {
    if (m->n == 0) return NULL;
    struct idmap_chunk *c = chunk_at(m, find_chunk(m, id));
    unsigned at = find_entry(c, id);
    return is_at(c, at, id) ? &c->e[at].value : NULL;
}

/* ---- the array of chunks ---- */

static void chunks_insert(struct idmap *m, size_t i, struct idmap_chunk *c) {
    if (m->first + m->n == m->cap) {
        if (m->first > m->cap / 2) { /* what left at the front is room at the end */
            memmove(m->chunks, m->chunks + m->first, m->n * sizeof *m->chunks);
        } else {
            size_t cap = m->n ? m->n * 2 : 1;
            struct idmap_chunk **fresh = mem_calloc(cap, sizeof *fresh);
            if (m->n) memcpy(fresh, m->chunks + m->first, m->n * sizeof *fresh);
            mem_free(m->chunks);
            m->chunks = fresh;
            m->cap = cap;
        }
        m->first = 0;
    }
    struct idmap_chunk **at = m->chunks + m->first + i;
    memmove(at + 1, at, (m->n - i) * sizeof *at);
    *at = c;
    m->n++;
}

static void chunks_remove(struct idmap *m, size_t i) {
    mem_free(chunk_at(m, i));
    m->n--;
    if (i == 0) {
        m->first++;
    } else {
        struct idmap_chunk **at = m->chunks + m->first + i;
        memmove(at, at + 1, (m->n - i) * sizeof *at);
    }
    if (m->n == 0) idmap_done(m, NULL);
}

/* ---- changing ---- */

/* Room for one more in chunk i, where an entry goes to `at`: the chunk and the place may be others afterwards. */
static struct idmap_chunk *make_room(struct idmap *m, size_t i, unsigned *at) {
    struct idmap_chunk *c = chunk_at(m, i);
    if (c->n < c->cap) return c;
    if (c->cap < CHUNK_MAX) {
        c = mem_realloc(c, chunk_bytes(c->cap * 2));
        c->cap *= 2;
        m->chunks[m->first + i] = c;
        return c;
    }
    bool at_the_end = i + 1 == m->n && *at == c->n;
    struct idmap_chunk *second = chunk_new(at_the_end ? CHUNK_FIRST : CHUNK_MAX);
    unsigned keep = at_the_end ? c->n : c->n / 2;
    second->n = c->n - keep;
    memcpy(second->e, c->e + keep, second->n * sizeof *c->e);
    c->n = keep;
    chunks_insert(m, i + 1, second);
    if (*at < keep) return c;
    *at -= keep;
    return second;
}

void **idmap_put(struct idmap *m, struct stream_id id, bool *ret_new) {
    if (m->n == 0) chunks_insert(m, 0, chunk_new(CHUNK_FIRST));
    size_t i = find_chunk(m, id);
    struct idmap_chunk *c = chunk_at(m, i);
    unsigned at = find_entry(c, id);
    *ret_new = !is_at(c, at, id);
    if (!*ret_new) return &c->e[at].value;
    c = make_room(m, i, &at);
    memmove(c->e + at + 1, c->e + at, (c->n - at) * sizeof *c->e);
    c->e[at] = (struct idmap_entry){ id, NULL };
    c->n++;
    m->used++;
    return &c->e[at].value;
}

/* Chunk i has become small: it takes in the next one when both are small enough together. */
static void merge_with_next(struct idmap *m, size_t i) {
    if (i + 1 >= m->n) return;
    struct idmap_chunk *c = chunk_at(m, i), *next = chunk_at(m, i + 1);
    unsigned sum = c->n + next->n;
    if (sum > CHUNK_MAX / 2) return;
    if (c->cap < sum || c->cap > CHUNK_MAX / 2) {
        c = mem_realloc(c, chunk_bytes(CHUNK_MAX / 2));
        c->cap = CHUNK_MAX / 2;
        m->chunks[m->first + i] = c;
    }
    memcpy(c->e + c->n, next->e, next->n * sizeof *c->e);
    c->n = sum;
    chunks_remove(m, i + 1);
}

void *idmap_remove(struct idmap *m, struct stream_id id) {
    if (m->n == 0) return NULL;
    size_t i = find_chunk(m, id);
    struct idmap_chunk *c = chunk_at(m, i);
    unsigned at = find_entry(c, id);
    if (!is_at(c, at, id)) return NULL;
    void *value = c->e[at].value;
    c->n--;
    m->used--;
    memmove(c->e + at, c->e + at + 1, (c->n - at) * sizeof *c->e);
    if (c->n == 0)
        chunks_remove(m, i);
    else if (c->n <= CHUNK_MAX / 4)
        merge_with_next(m, i);
    return value;
}

/* ---- walking ---- */

static bool put_it(const struct idmap *m, struct idmap_it *it, size_t chunk, unsigned at) {
    *it = (struct idmap_it){ m, chunk, at };
    return true;
}

bool idmap_first(const struct idmap *m, struct idmap_it *it) {
    return m->n > 0 && put_it(m, it, 0, 0);
}

bool idmap_last(const struct idmap *m, struct idmap_it *it) {
    return m->n > 0 && put_it(m, it, m->n - 1, chunk_at(m, m->n - 1)->n - 1);
}

bool idmap_seek_ge(const struct idmap *m, struct idmap_it *it, struct stream_id id) {
    if (m->n == 0) return false;
    size_t i = find_chunk(m, id);
    unsigned at = find_entry(chunk_at(m, i), id);
    if (at < chunk_at(m, i)->n) return put_it(m, it, i, at);
    return i + 1 < m->n && put_it(m, it, i + 1, 0);
}

bool idmap_seek_le(const struct idmap *m, struct idmap_it *it, struct stream_id id) {
    if (m->n == 0) return false;
    size_t i = find_chunk(m, id);
    const struct idmap_chunk *c = chunk_at(m, i);
    unsigned at = find_entry(c, id);
    if (is_at(c, at, id)) return put_it(m, it, i, at);
    return at > 0 && put_it(m, it, i, at - 1); /* at 0 only in the first chunk */
}

bool idmap_next(struct idmap_it *it) {
    if (it->at + 1 < chunk_at(it->map, it->chunk)->n) return put_it(it->map, it, it->chunk, it->at + 1);
    return it->chunk + 1 < it->map->n && put_it(it->map, it, it->chunk + 1, 0);
}

bool idmap_prev(struct idmap_it *it) {
    if (it->at > 0) return put_it(it->map, it, it->chunk, it->at - 1);
    return it->chunk > 0 && put_it(it->map, it, it->chunk - 1, chunk_at(it->map, it->chunk - 1)->n - 1);
}

struct stream_id idmap_it_id(const struct idmap_it *it) {
    return chunk_at(it->map, it->chunk)->e[it->at].id;
}

void *idmap_it_value(const struct idmap_it *it) {
    return chunk_at(it->map, it->chunk)->e[it->at].value;
}
