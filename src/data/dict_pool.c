/* See dict_pool.h. Place in the flow: dict.c, when a bucket overflows. Thread: the dict's owner.
 *
 * Lines given back wait in a list through their first bytes; chunks are freed with the table only, which shrinks when few of its
 * items are left. */
#include "data/dict_pool.h"

#include <string.h>

#include "base/alloc.h"

#define BUCKETS_MIN 1024         /* of a table with a pool */
#define CHUNK_MIN ((size_t)4096) /* bytes */
#define CHUNK_MAX ((size_t)1024 * 1024)
#define CHUNKS_WANTED 64 /* of a table with as many overflow buckets as others */

/* At the head of a chunk; takes up a line, which keeps the rest on cache lines. */
struct chunk {
    struct chunk *next;
};

struct dict_pool {
    struct chunk *chunks;
    void *given;      /* lines given back */
    char *at, *end;   /* of the last chunk: what was never taken */
    size_t chunk_len; /* bytes, a power of two */
    size_t total;
};

struct dict_pool *dict_pool_new(uint64_t n_buckets) {
    if (n_buckets < BUCKETS_MIN) return NULL;
    size_t len = (size_t)n_buckets * DICT_LINE / CHUNKS_WANTED;
    struct dict_pool *pool = mem_zalloc(sizeof(*pool));
    pool->chunk_len = len < CHUNK_MIN ? CHUNK_MIN : len > CHUNK_MAX ? CHUNK_MAX : len;
    return pool;
}

void dict_pool_free(struct dict_pool *pool) {
    if (!pool) return;
    for (struct chunk *chunk = pool->chunks, *next; chunk; chunk = next) {
        next = chunk->next;
        mem_free(chunk);
    }
    mem_free(pool);
}

static void add_chunk(struct dict_pool *pool) {
    struct chunk *chunk = mem_alloc(pool->chunk_len);
    chunk->next = pool->chunks;
    pool->chunks = chunk;
    pool->at = (char *)chunk + DICT_LINE;
    pool->end = (char *)chunk + pool->chunk_len;
    pool->total += pool->chunk_len;
}

void *dict_pool_take(struct dict_pool *pool) {
    void *line = pool->given;
    if (line) {
        memcpy(&pool->given, line, sizeof(pool->given));
    } else {
        if (pool->at == pool->end) add_chunk(pool);
        line = pool->at;
        pool->at += DICT_LINE;
    }
    return memset(line, 0, DICT_LINE);
}

void dict_pool_give(struct dict_pool *pool, void *line) {
    memcpy(line, &pool->given, sizeof(pool->given));
    pool->given = line;
}

size_t dict_pool_mem(const struct dict_pool *pool) {
    return pool ? sizeof(*pool) + pool->total : 0;
}
