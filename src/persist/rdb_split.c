/* Chunks of an RDB file for several threads. See rdb_split.h. Place in the flow: under rdb_file_load.c. Threads: the reader's
 * (all functions), and those it starts here. */
#include "persist/rdb_split.h"

#include <pthread.h>

#include "base/alloc.h"
#include "base/thread.h"

#define CHUNKS_A_THREAD 4
#define CHUNKS_MAX (CHUNKS_A_THREAD * RDB_LOAD_THREADS_MAX)
#define WAITING_MAX ((size_t)32 << 20) /* bytes */
#define KEPT_MAX ((size_t)1 << 20)     /* a larger buffer is not kept for the next chunk */

struct rdb_split {
    void (*work)(void *arg, struct rdb_chunk *c);
    void *arg;
    unsigned n_threads, n_started, n_chunks;
    pthread_t threads[RDB_LOAD_THREADS_MAX];
    pthread_mutex_t lock;
    pthread_cond_t has_work, has_done;
    struct rdb_chunk *chunks;
    uint64_t n_put, n_begun; /* since the start: a chunk's place is that modulo n_chunks. Under the lock */
    bool ends, is_stopped;   /* under the lock */
    uint64_t n_retired;      /* the reader's, as is what follows */
    size_t waiting;          /* bytes put and not retired */
    bool cannot_start;
};

struct rdb_split *rdb_split_new(unsigned n_threads, void (*work)(void *arg, struct rdb_chunk *c), void *arg) {
    struct rdb_split *s = mem_zalloc(sizeof *s);
    s->work = work;
    s->arg = arg;
    s->n_threads = n_threads < RDB_LOAD_THREADS_MAX ? n_threads : RDB_LOAD_THREADS_MAX;
    s->n_chunks = CHUNKS_A_THREAD * s->n_threads;
    s->chunks = mem_calloc(s->n_chunks, sizeof *s->chunks);
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->has_work, NULL);
    pthread_cond_init(&s->has_done, NULL);
    return s;
}

static struct rdb_chunk *chunk_at(const struct rdb_split *s, uint64_t i) {
    return &s->chunks[i % s->n_chunks];
}

struct rdb_split *rdb_split_free(struct rdb_split *s) {
    if (!s) return NULL;
    pthread_mutex_lock(&s->lock);
    s->ends = true;
    pthread_cond_broadcast(&s->has_work);
    pthread_mutex_unlock(&s->lock);
    for (unsigned i = 0; i < s->n_started; i++) pthread_join(s->threads[i], NULL);
    for (unsigned i = 0; i < s->n_chunks; i++) {
        buf_done(&s->chunks[i].bytes);
        buf_done(&s->chunks[i].empty);
    }
    pthread_cond_destroy(&s->has_work);
    pthread_cond_destroy(&s->has_done);
    pthread_mutex_destroy(&s->lock);
    mem_free(s->chunks);
    mem_free(s);
    return NULL;
}

/* ---- the threads ---- */

static void *thread_main(void *arg) {
    struct rdb_split *s = arg;
    pthread_setname_np(pthread_self(), "loader_part");
    mem_fill_ahead(true);
    pthread_mutex_lock(&s->lock);
    for (;;) {
        while (s->n_begun == s->n_put && !s->ends) pthread_cond_wait(&s->has_work, &s->lock);
        if (s->n_begun == s->n_put) break;
        struct rdb_chunk *c = chunk_at(s, s->n_begun++);
        bool is_wanted = !s->is_stopped;
        pthread_mutex_unlock(&s->lock);
        if (is_wanted) s->work(s->arg, c);
        pthread_mutex_lock(&s->lock);
        c->is_done = true;
        pthread_cond_signal(&s->has_done);
    }
    pthread_mutex_unlock(&s->lock);
    mem_fill_ahead(false);
    return NULL;
}

static void start_threads(struct rdb_split *s) {
    while (s->n_started < s->n_threads && !s->cannot_start) {
        s->cannot_start = thread_start(&s->threads[s->n_started], thread_main, s) != 0;
        if (!s->cannot_start) s->n_started++;
    }
}

/* ---- the reader ---- */

bool rdb_split_is_full(const struct rdb_split *s) {
    return s->n_put - s->n_retired == s->n_chunks || s->waiting > WAITING_MAX;
}

struct rdb_chunk *rdb_split_take(struct rdb_split *s) {
    return chunk_at(s, s->n_put);
}

void rdb_split_put(struct rdb_split *s, bool is_last) {
    struct rdb_chunk *c = chunk_at(s, s->n_put);
    s->waiting += c->bytes.len;
    if (!is_last) start_threads(s);
    if (s->n_started == 0) s->work(s->arg, c);
    pthread_mutex_lock(&s->lock);
    c->is_done = s->n_started == 0;
    s->n_put++;
    if (c->is_done) s->n_begun++;
    pthread_cond_signal(&s->has_work);
    pthread_mutex_unlock(&s->lock);
}

struct rdb_chunk *rdb_split_wait(struct rdb_split *s) {
    if (s->n_retired == s->n_put) return NULL;
    struct rdb_chunk *c = chunk_at(s, s->n_retired);
    pthread_mutex_lock(&s->lock);
    while (!c->is_done) pthread_cond_wait(&s->has_done, &s->lock);
    pthread_mutex_unlock(&s->lock);
    return c;
}

void rdb_split_retire(struct rdb_split *s) {
    struct rdb_chunk *c = chunk_at(s, s->n_retired++);
    s->waiting -= c->bytes.len;
    if (c->bytes.cap > KEPT_MAX) buf_done(&c->bytes);
    buf_clear(&c->bytes);
    buf_clear(&c->empty);
    c->result = 0;
}

void rdb_split_stop(struct rdb_split *s) {
    pthread_mutex_lock(&s->lock);
    s->is_stopped = true;
    pthread_mutex_unlock(&s->lock);
}
