/* Numbered records. See ttl_pool.h. Place in the flow: under the expiry heaps. Any thread. */
#include "data/ttl_pool.h"

#include <assert.h>
#include <pthread.h>
#include <stddef.h>

#include "base/alloc.h"

#define RUN 64   /* numbers exchanged at a time */
#define KEEP 256 /* more free ones than this are given back */

_Atomic(struct ttl *) ttl_chunks[1u << (32 - TTL_CHUNK_SHIFT)];

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct ttl_free all_free; /* under the lock, like used */
static uint32_t used = 1;        /* numbers ever given out */

static void push(struct ttl_free *f, uint32_t id) {
    ttl_at(id)->next = f->head;
    f->head = id;
    f->n++;
}

static uint32_t pop(struct ttl_free *f) {
    uint32_t id = f->head;
    f->head = ttl_at(id)->next;
    f->n--;
    return id;
}

static uint32_t fresh(void) {
    assert(used != 0); /* 2^32 keys with a time */
    _Atomic(struct ttl *) *chunk = &ttl_chunks[used >> TTL_CHUNK_SHIFT];
    if (!atomic_load_explicit(chunk, memory_order_relaxed))
        atomic_store_explicit(chunk, mem_alloc(TTL_CHUNK * sizeof(struct ttl)), memory_order_release);
    return used++;
}

uint32_t ttl_take(struct ttl_free *f) {
    if (f->n == 0) {
        pthread_mutex_lock(&lock);
        for (int i = 0; i < RUN; i++) push(f, all_free.n ? pop(&all_free) : fresh());
        pthread_mutex_unlock(&lock);
    }
    return pop(f);
}

static void give_some_back(struct ttl_free *f, uint32_t keep) {
    pthread_mutex_lock(&lock);
    while (f->n > keep) push(&all_free, pop(f));
    pthread_mutex_unlock(&lock);
}

void ttl_give(struct ttl_free *f, uint32_t id) {
    push(f, id);
    if (f->n >= KEEP + RUN) give_some_back(f, KEEP);
}

void ttl_give_back(struct ttl_free *f) {
    if (f->n) give_some_back(f, 0);
}
