/* The threads of MIGRATE. See migrate.h.
 *
 * Place in the flow: between the command (cmd_migrate.c) and the network (repl/migrate_link.c). A thread for each talk under way,
 * so that one server that does not answer keeps nobody else's migration waiting; they stay for some seconds to be used again.
 * Lock order: migrate.lock is taken under shard locks, for a few instructions; posting the mail takes no other lock. */
#include "server/migrate.h"

#include <time.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/thread.h"
#include "cmd/block.h"
#include "server/server.h"

#define MAX_THREADS 256
#define THREAD_IDLE_S 10
#define STOP_WAIT_S 3

struct migrate {
    struct migrate_links *links;
    pthread_mutex_t lock; /* of what follows */
    pthread_cond_t work;  /* something is in the queue; or it is over */
    pthread_cond_t left;  /* a thread has ended */
    struct list queue;    /* to be talked about */
    struct list active;   /* claimed, or submitted */
    int n_threads, n_idle;
    bool is_over;
};

struct migrate *migrate_new(void) {
    struct migrate *mg = mem_zalloc(sizeof *mg);
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_mutex_init(&mg->lock, NULL);
    pthread_cond_init(&mg->work, &attr);
    pthread_cond_init(&mg->left, &attr);
    pthread_condattr_destroy(&attr);
    list_init(&mg->queue);
    list_init(&mg->active);
    mg->links = migrate_links_new();
    return mg;
}

struct migrate *migrate_free(struct migrate *mg) {
    if (!mg || mg->n_threads > 0) return NULL; /* one that still waits for a name server has it */
    while (!list_empty(&mg->active)) migration_free(list_entry(mg->active.next, struct migration, node));
    migrate_links_free(mg->links);
    pthread_cond_destroy(&mg->work);
    pthread_cond_destroy(&mg->left);
    pthread_mutex_destroy(&mg->lock);
    mem_free(mg);
    return NULL;
}

void migrate_stop(struct server *srv) {
    struct migrate *mg = srv->migrate;
    pthread_mutex_lock(&mg->lock);
    mg->is_over = true;
    pthread_cond_broadcast(&mg->work);
    pthread_mutex_unlock(&mg->lock);
    migrate_links_interrupt(mg->links);
}

static struct timespec in_seconds(int s) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    t.tv_sec += s;
    return t;
}

bool migrate_wait(struct server *srv) {
    struct migrate *mg = srv->migrate;
    struct timespec until = in_seconds(STOP_WAIT_S);
    int r = 0;
    pthread_mutex_lock(&mg->lock);
    while (mg->n_threads > 0 && r == 0) r = pthread_cond_timedwait(&mg->left, &mg->lock, &until);
    bool have_ended = mg->n_threads == 0;
    pthread_mutex_unlock(&mg->lock);
    return have_ended;
}

void migrate_cron(struct server *srv) {
    migrate_links_expire(srv->migrate->links, clock_mono_us());
}

int migrate_cached_links(struct server *srv) {
    return migrate_links_count(srv->migrate->links);
}

/* ---- a migration ---- */

struct migration *migration_new(struct server *srv, const struct session *s) {
    struct migration *m = mem_zalloc(sizeof *m);
    m->srv = srv;
    list_init(&m->node);
    list_init(&m->queue);
    session_ghost(&m->s, s, &m->out);
    m->s.slot = s->slot;
    m->home = s->home;
    return m;
}

void migration_free(struct migration *m) {
    migrate_release(m->srv, m);
    list_remove(&m->queue);
    for (int i = 0; i < m->n_keys; i++) mem_free(m->keys[i].watch.key);
    mem_free(m->keys);
    buf_done(&m->commands);
    mem_free(m->talk.done);
    mem_free(m->answers);
    mem_free((char *)(uintptr_t)m->to.host);
    if (m->to.pass.ptr) mem_wipe((char *)(uintptr_t)m->to.pass.ptr, m->to.pass.len);
    mem_free((char *)(uintptr_t)m->to.user.ptr);
    mem_free((char *)(uintptr_t)m->to.pass.ptr);
    ktls_ctx_unref(m->to.tls);
    migrate_link_put(m->srv->migrate->links, m->link);
    obuf_clear(&m->out);
    mem_free(m);
}

static bool is_same_key(const struct migrate_key *a, const struct migrate_key *b) {
    struct slice x = { a->watch.key, a->watch.key_len }, y = { b->watch.key, b->watch.key_len };
    return a->hash == b->hash && slice_eq(x, y);
}

static bool shares_key(const struct migration *a, const struct migration *b) {
    if (a->db != b->db || !(a->shards & b->shards)) return false;
    for (int i = 0; i < a->n_keys; i++)
        for (int j = 0; j < b->n_keys; j++)
            if (is_same_key(&a->keys[i], &b->keys[j])) return true;
    return false;
}

bool migrate_claim(struct server *srv, struct migration *m) {
    struct migrate *mg = srv->migrate;
    bool is_free = true;
    pthread_mutex_lock(&mg->lock);
    list_for_each(n, &mg->active) {
        const struct migration *other = list_entry(n, struct migration, node);
        is_free = is_free && (other->copy || !shares_key(m, other));
    }
    if (is_free) list_push_back(&mg->active, &m->node);
    pthread_mutex_unlock(&mg->lock);
    return is_free;
}

void migrate_release(struct server *srv, struct migration *m) {
    pthread_mutex_lock(&srv->migrate->lock);
    list_remove(&m->node);
    pthread_mutex_unlock(&srv->migrate->lock);
}

/* ---- threads ---- */

void migrate_talk_now(struct server *srv, struct migration *m) {
    m->failure = migrate_talk(srv->migrate->links, &m->link, &m->talk);
    if (m->talk.took_us > m->slowest_us) m->slowest_us = m->talk.took_us;
}

static void settle_arrived(struct inbox_msg *msg, void *owner) {
    (void)owner;
    migration_settle(list_entry(list_entry(msg, struct mail, msg), struct migration, mail));
}

/* The next one. NULL: nothing has come for a while, or it is over. Locked. */
static struct migration *next_in_queue(struct migrate *mg) {
    struct timespec until = in_seconds(THREAD_IDLE_S);
    int r = 0;
    mg->n_idle++;
    while (list_empty(&mg->queue) && !mg->is_over && r == 0) r = pthread_cond_timedwait(&mg->work, &mg->lock, &until);
    mg->n_idle--;
    if (mg->is_over || list_empty(&mg->queue)) return NULL;
    struct migration *m = list_entry(mg->queue.next, struct migration, queue);
    list_remove(&m->queue);
    return m;
}

static void *talk_main(void *arg) {
    struct server *srv = arg;
    struct migrate *mg = srv->migrate;
    struct migration *m;
    pthread_setname_np(pthread_self(), "migrate");
    pthread_mutex_lock(&mg->lock);
    while ((m = next_in_queue(mg))) {
        pthread_mutex_unlock(&mg->lock);
        migrate_talk_now(srv, m);
        pthread_mutex_lock(&mg->lock);
        if (mg->is_over) break; /* who should be told may be gone; migrate_free has it */
        m->mail = (struct mail){ { .run = settle_arrived }, sizeof *m };
        mail_post(m->home, &m->mail);
    }
    mg->n_threads--;
    pthread_cond_signal(&mg->left);
    pthread_mutex_unlock(&mg->lock);
    return NULL;
}

/* Locked. */
static bool have_thread(struct server *srv, struct migrate *mg) {
    int waiting = 1; /* the new one */
    list_for_each(n, &mg->queue) waiting++;
    if (mg->n_idle >= waiting) return true;
    pthread_t th;
    if (mg->n_threads >= MAX_THREADS || thread_start(&th, talk_main, srv) != 0) return false;
    pthread_detach(th);
    mg->n_threads++;
    return true;
}

bool migrate_submit(struct server *srv, struct migration *m) {
    struct migrate *mg = srv->migrate;
    pthread_mutex_lock(&mg->lock);
    bool ok = have_thread(srv, mg);
    if (ok) {
        if (list_empty(&m->node)) list_push_back(&mg->active, &m->node);
        list_push_back(&mg->queue, &m->queue);
        pthread_cond_signal(&mg->work);
    }
    pthread_mutex_unlock(&mg->lock);
    return ok;
}
