/*
 * Replication backlog. See backlog.h for what it is.
 *
 * Place in the flow: server/propagate.c appends what commands have changed; server/repl_feed.c reads for each replica on the
 * replica's I/O thread and hands the pieces to its output queue. Threads: any.
 *
 * A block is held by the chain (one count, while it is in it) and by each piece that was read from it and is not released yet.
 * The chain lets go of blocks that no reader stands in; pieces under way keep their bytes alive beyond that. Readers are counted
 * apart from pieces (`readers`, under the lock), because a reader needs the chain from its block on, a piece only its own block.
 */
#include "repl/backlog.h"

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "base/alloc.h"

#define BLOCK_MIN (16 * 1024)
#define BLOCK_MAX (1024 * 1024)
#define BLOCKS_PER_BACKLOG 16 /* so that what is kept beyond the size is a sixteenth of it */

struct backlog_block {
    struct backlog_block *next;
    _Atomic unsigned refs;
    unsigned readers;
    uint64_t offset; /* of the first byte */
    size_t used, cap;
    char bytes[];
};

struct backlog {
    pthread_mutex_t lock;
    struct backlog_block *head, *tail;
    uint64_t size, n_blocks, n_readers;
    _Atomic uint64_t mem;
    _Atomic uint64_t end;
    _Atomic bool open;
};

/* ---- blocks ---- */

void backlog_release(void *ref) {
    struct backlog_block *k = ref;
    if (atomic_fetch_sub_explicit(&k->refs, 1, memory_order_acq_rel) == 1) mem_free(k);
}

static uint64_t end_of(const struct backlog *b) {
    return atomic_load_explicit(&b->end, memory_order_relaxed);
}

static size_t block_cap(const struct backlog *b, size_t want) {
    size_t limit = b->size / BLOCKS_PER_BACKLOG;
    if (limit > BLOCK_MAX) limit = BLOCK_MAX;
    if (limit < BLOCK_MIN) limit = BLOCK_MIN;
    size_t cap = b->head ? limit : BLOCK_MIN; /* a backlog that has just been opened may never get much */
    if (want > cap) cap = want < limit ? want : limit;
    return cap;
}

static void push_block(struct backlog *b, size_t want) {
    size_t cap = block_cap(b, want);
    struct backlog_block *k = mem_alloc(sizeof *k + cap);
    *k = (struct backlog_block){ .refs = 1, .offset = end_of(b), .cap = cap };
    if (b->tail)
        b->tail->next = k;
    else
        b->head = k;
    b->tail = k;
    atomic_fetch_add_explicit(&b->mem, sizeof *k + cap, memory_order_relaxed);
    b->n_blocks++;
}

static void pop_block(struct backlog *b) {
    struct backlog_block *k = b->head;
    b->head = k->next;
    if (!b->head) b->tail = NULL;
    atomic_fetch_sub_explicit(&b->mem, sizeof *k + k->cap, memory_order_relaxed);
    b->n_blocks--;
    backlog_release(k);
}

/* The last block always stays: readers that are up to date stand in it. */
static void trim(struct backlog *b) {
    while (b->head != b->tail && b->head->readers == 0 && end_of(b) - b->head->next->offset >= b->size) pop_block(b);
}

/* ---- life ---- */

struct backlog *backlog_new(uint64_t size) {
    struct backlog *b = mem_zalloc(sizeof *b);
    pthread_mutex_init(&b->lock, NULL);
    b->size = size;
    return b;
}

static void drop_history(struct backlog *b) {
    while (b->head) pop_block(b);
}

struct backlog *backlog_free(struct backlog *b) {
    if (!b) return NULL;
    assert(b->n_readers == 0);
    drop_history(b);
    pthread_mutex_destroy(&b->lock);
    mem_free(b);
    return NULL;
}

void backlog_open(struct backlog *b) {
    pthread_mutex_lock(&b->lock);
    if (!b->head) push_block(b, 0);
    atomic_store(&b->open, true);
    pthread_mutex_unlock(&b->lock);
}

void backlog_close(struct backlog *b) {
    pthread_mutex_lock(&b->lock);
    assert(b->n_readers == 0);
    atomic_store(&b->open, false);
    drop_history(b);
    pthread_mutex_unlock(&b->lock);
}

bool backlog_is_open(const struct backlog *b) {
    return atomic_load_explicit(&b->open, memory_order_acquire);
}

void backlog_reset(struct backlog *b, uint64_t offset) {
    pthread_mutex_lock(&b->lock);
    assert(b->n_readers == 0);
    drop_history(b);
    atomic_store(&b->end, offset);
    if (atomic_load(&b->open)) push_block(b, 0);
    pthread_mutex_unlock(&b->lock);
}

void backlog_set_size(struct backlog *b, uint64_t size) {
    pthread_mutex_lock(&b->lock);
    b->size = size;
    trim(b);
    pthread_mutex_unlock(&b->lock);
}

/* ---- writing ---- */

uint64_t backlog_append(struct backlog *b, const void *p, size_t n) {
    const char *from = p;
    pthread_mutex_lock(&b->lock);
    uint64_t end = end_of(b);
    if (atomic_load_explicit(&b->open, memory_order_relaxed)) {
        while (n > 0) {
            struct backlog_block *k = b->tail;
            if (k->used == k->cap) {
                push_block(b, n);
                k = b->tail;
            }
            size_t fits = k->cap - k->used < n ? k->cap - k->used : n;
            memcpy(k->bytes + k->used, from, fits);
            k->used += fits;
            from += fits;
            n -= fits;
            end += fits;
            atomic_store_explicit(&b->end, end, memory_order_release);
        }
        trim(b);
    }
    pthread_mutex_unlock(&b->lock);
    return end;
}

uint64_t backlog_end(const struct backlog *b) {
    return atomic_load_explicit(&b->end, memory_order_acquire);
}

uint64_t backlog_mem(const struct backlog *b) {
    return atomic_load_explicit(&b->mem, memory_order_relaxed);
}

void backlog_info(const struct backlog *cb, struct backlog_info *ret) {
    struct backlog *b = (struct backlog *)(uintptr_t)cb;
    pthread_mutex_lock(&b->lock);
    uint64_t end = end_of(b);
    *ret = (struct backlog_info){ .open = atomic_load(&b->open), .start = b->head ? b->head->offset : end, .end = end };
    ret->size = b->size;
    ret->mem = backlog_mem(b);
    ret->n_blocks = b->n_blocks;
    ret->n_readers = b->n_readers;
    pthread_mutex_unlock(&b->lock);
}

/* ---- readers ---- */

static void stand_in(struct backlog *b, struct backlog_reader *r, struct backlog_block *k, uint64_t offset) {
    k->readers++;
    b->n_readers++;
    *r = (struct backlog_reader){ .block = k, .pos = (size_t)(offset - k->offset), .offset = offset };
}

bool backlog_reader_open(struct backlog *b, struct backlog_reader *r, uint64_t offset) {
    pthread_mutex_lock(&b->lock);
    struct backlog_block *k = b->head;
    bool is_there = k && offset >= k->offset && offset <= end_of(b);
    while (is_there && offset > k->offset + k->used) k = k->next;
    if (is_there) stand_in(b, r, k, offset);
    pthread_mutex_unlock(&b->lock);
    return is_there;
}

void backlog_reader_copy(struct backlog *b, struct backlog_reader *r, const struct backlog_reader *from) {
    pthread_mutex_lock(&b->lock);
    stand_in(b, r, from->block, from->offset);
    pthread_mutex_unlock(&b->lock);
}

void backlog_reader_close(struct backlog *b, struct backlog_reader *r) {
    if (!r->block) return;
    pthread_mutex_lock(&b->lock);
    r->block->readers--;
    b->n_readers--;
    r->block = NULL;
    trim(b);
    pthread_mutex_unlock(&b->lock);
}

/* To the block with the reader's next byte. False: there is none yet. */
static bool advance(struct backlog_reader *r) {
    while (r->pos == r->block->used && r->block->next) {
        r->block->readers--;
        r->block = r->block->next;
        r->block->readers++;
        r->pos = 0;
    }
    return r->pos < r->block->used;
}

int backlog_read(struct backlog *b, struct backlog_reader *r, size_t max, struct backlog_piece *pieces, int n) {
    int got = 0;
    if (r->offset == backlog_end(b)) return 0;
    pthread_mutex_lock(&b->lock);
    while (got < n && max > 0 && advance(r)) {
        struct backlog_block *k = r->block;
        size_t len = k->used - r->pos < max ? k->used - r->pos : max;
        atomic_fetch_add_explicit(&k->refs, 1, memory_order_relaxed);
        pieces[got++] = (struct backlog_piece){ k->bytes + r->pos, len, k };
        r->pos += len;
        r->offset += len;
        max -= len;
    }
    advance(r); /* what is read is kept no longer than the size says */
    trim(b);
    pthread_mutex_unlock(&b->lock);
    return got;
}
