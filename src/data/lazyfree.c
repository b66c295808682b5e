/* Background freeing. Place in the flow: FLUSHALL ASYNC and UNLINK hand over whole tables and large values.
 * Threads: any producer, one consumer (this file's thread, detached, alive until the process ends).
 *
 * The queue is base's inbox: a producer pushes with one exchange and posts the semaphore only when the box was empty. No mutex is
 * involved, so that a fork() by another thread can never leave one locked in the child. */
#include "data/lazyfree.h"

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <time.h>

#include "base/alloc.h"
#include "base/inbox.h"
#include "base/thread.h"

struct lazyfree_job {
    struct inbox_msg msg; /* first: the consumer gets this */
    void (*fn)(void *arg);
    void *arg;
    uint64_t items;
};

static struct inbox box;
static sem_t wake;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static bool is_running; /* written once, inside pthread_once */
static _Atomic uint64_t pending, freed, jobs_left;

static void job_run(struct inbox_msg *msg, void *owner) {
    struct lazyfree_job *job = (struct lazyfree_job *)msg;
    (void)owner;
    job->fn(job->arg);
    atomic_fetch_sub_explicit(&pending, job->items, memory_order_relaxed);
    atomic_fetch_add_explicit(&freed, job->items, memory_order_relaxed);
    mem_free(job);
    atomic_fetch_sub_explicit(&jobs_left, 1, memory_order_release);
}

static void *lazyfree_main(void *arg) {
    (void)arg;
    thread_is_background();
    for (;;) {
        while (sem_wait(&wake) == -1 && errno == EINTR) {
        }
        for (struct inbox_msg *msg = inbox_take_all(&box), *next; msg; msg = next) {
            next = msg->next; /* run frees the message */
            msg->run(msg, NULL);
        }
    }
    return NULL;
}

static void lazyfree_start(void) {
    inbox_init(&box);
    if (sem_init(&wake, 0, 0)) return;
    pthread_t thread;
    if (thread_start(&thread, lazyfree_main, NULL) < 0) return;
    pthread_detach(thread);
    pthread_setname_np(thread, "kettle-lazyfree");
    is_running = true;
}

void lazyfree_push(void (*fn)(void *arg_take), void *arg_take, uint64_t items) {
    pthread_once(&once, lazyfree_start);
    if (!is_running) {
        fn(arg_take);
        atomic_fetch_add_explicit(&freed, items, memory_order_relaxed);
        return;
    }
    struct lazyfree_job *job = mem_alloc(sizeof(*job));
    *job = (struct lazyfree_job){ .msg.run = job_run, .fn = fn, .arg = arg_take, .items = items };
    atomic_fetch_add_explicit(&pending, items, memory_order_relaxed);
    atomic_fetch_add_explicit(&jobs_left, 1, memory_order_relaxed);
    if (inbox_push(&box, &job->msg)) sem_post(&wake);
}

uint64_t lazyfree_pending(void) {
    return atomic_load_explicit(&pending, memory_order_relaxed);
}

uint64_t lazyfree_freed(void) {
    return atomic_load_explicit(&freed, memory_order_relaxed);
}

void lazyfree_reset_stats(void) {
    atomic_store_explicit(&freed, 0, memory_order_relaxed);
}

/* Polls: it runs at shutdown and in tests only, and a condition variable would need a mutex in the producers' way. */
void lazyfree_drain(void) {
    const struct timespec nap = { .tv_nsec = 100 * 1000 };
    while (atomic_load_explicit(&jobs_left, memory_order_acquire)) nanosleep(&nap, NULL);
}
