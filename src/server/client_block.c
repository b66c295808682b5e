/*
 * Blocked clients: what their own I/O thread does about them, and what other threads ask of it. cmd/block.h has the states.
 *
 *   a command has blocked -> client_block -> ... -> finish: the reply -> th->woken -> before the thread sleeps: what the client
 *                                 |                                                  has sent meanwhile is run
 *                                 |-- served, CLIENT UNBLOCK: mail
 *                                 `-- deadline: timer
 *
 * Mail, because a reply has its place among what else the client is told (invalidations of keys it has read, messages): it is
 * posted under the locks the command was run with. And nothing is run while mail is delivered.
 *
 * client.blocked says to other threads, under the registry lock, that there is a waiter, which then is not freed before the lock
 * is released.
 */
#include <sched.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/counter.h"
#include "cmd/block.h"
#include "server/client.h"
#include "server/mail.h"

#define HELD_RETRY_US 10000            /* between two looks whether a script has let go of the shards */
#define MAX_TIMER_WAIT_US 3600000000LL /* then it looks again: a deadline may be further than the clock can count */

static void count_blocked(struct client *c, const struct cmd_waiter *w, uint64_t n) {
    counter_add(&c->th->n_blocked, n);
    if (w->deadline_us) counter_add(&c->th->n_block_timers, n);
}

/* Who has been killed waits for nothing, even if its command was under way at that moment. */
static void set_blocked(struct client *c, struct cmd_waiter *w) {
    pthread_mutex_lock(&c->th->registry_lock);
    if (!client_is_killed(c))
        count_blocked(c, w ? w : c->blocked, w ? 1 : (uint64_t)-1);
    else if (w)
        block_claim(w, BLOCK_DROPPED);
    c->blocked = w;
    pthread_mutex_unlock(&c->th->registry_lock);
}

static void arm(struct client *c, int64_t deadline_us) {
    int64_t until = clock_mono_us() + MAX_TIMER_WAIT_US;
    loop_timer_set(c->th->loop, &c->block_timer, deadline_us < until ? deadline_us : until);
}

/* No longer blocked, whatever comes next; s.waiter is still there. */
static void leave(struct client *c) {
    set_blocked(c, NULL);
    client_note_argv(c, 0, NULL);
    atomic_fetch_and(&c->flags, ~(unsigned)CLIENT_BLOCKED);
    loop_timer_cancel(c->th->loop, &c->block_timer);
}

static void finish(struct client *c) {
    leave(c);
    c->is_woken_late = false;
    block_finish(&c->s);
    list_remove(&c->woken_node);
    list_push_back(&c->th->woken, &c->woken_node);
}

static void timer_fired(struct loop_timer *t) {
    struct client *c = list_entry(t, struct client, block_timer);
    int64_t deadline = c->s.waiter->deadline_us;
    if (clock_mono_us() < deadline)
        arm(c, deadline);
    else if (!client_may_lock(c))
        arm(c, clock_mono_us() + HELD_RETRY_US);
    else if (block_time_out(c->s.waiter))
        finish(c);
}

void client_block_end(struct client *c) {
    if (block_time_out(c->s.waiter)) finish(c);
}

void client_block(struct client *c) {
    struct cmd_waiter *w = c->s.waiter;
    client_note_argv(c, w->argc, w->argv);
    set_blocked(c, w);
    atomic_fetch_or(&c->flags, CLIENT_BLOCKED);
    if (!w->deadline_us) return;
    c->block_timer.fn = timer_fired;
    arm(c, w->deadline_us);
}

void client_block_abandon(struct client *c) {
    struct cmd_waiter *w = c->s.waiter;
    if (!w) return;
    leave(c);
    block_abandon(&c->s);
    if (c->is_woken_late) block_free(w); /* no wake is under way that would do it */
}

/* ---- woken ---- */

struct wake {
    struct mail mail;
    struct cmd_waiter *waiter;
};

static void late_fired(struct loop_timer *t) {
    struct client *c = list_entry(t, struct client, block_timer);
    if (client_may_lock(c))
        finish(c);
    else
        arm(c, clock_mono_us() + HELD_RETRY_US);
}

/* The wake has come, and has to come again. */
static void finish_later(struct client *c) {
    c->is_woken_late = true;
    c->block_timer.fn = late_fired;
    arm(c, clock_mono_us() + HELD_RETRY_US);
}

static void wake_arrived(struct inbox_msg *msg, void *owner) {
    struct wake *m = list_entry(list_entry(msg, struct mail, msg), struct wake, mail);
    struct io_thread *th = owner;
    if (m->waiter->is_orphan)
        block_free(m->waiter);
    else if (atomic_load(&m->waiter->state) != BLOCK_SERVED && ks_is_held(th->srv->ks))
        finish_later(m->waiter->s.owner); /* it is still in the keyspace's tables, which a script has */
    else
        finish(m->waiter->s.owner);
    mem_free(m);
}

static void post(struct cmd_waiter *w) {
    struct wake *m = mem_alloc(sizeof *m);
    *m = (struct wake){ .mail = { { .run = wake_arrived }, sizeof *m + sizeof *w }, .waiter = w };
    mail_post(w->s.home, &m->mail);
}

void client_wake(void *srv, struct cmd_waiter *w) {
    (void)srv;
    post(w);
}

/* What runs then may wake others of this thread's: they come in the same loop. It ends, since nothing is read meanwhile. */
void client_run_woken(struct io_thread *th) {
    while (!list_empty(&th->woken)) {
        struct client *c = list_entry(th->woken.next, struct client, woken_node);
        list_remove(&c->woken_node);
        client_run_kept(c);
    }
}

/* ---- other clients' wishes ---- */

void client_block_kill(struct client *c) {
    if (!c->blocked) return;
    block_claim(c->blocked, BLOCK_DROPPED);
    count_blocked(c, c->blocked, (uint64_t)-1);
}

/* WAITING: done. SERVING: somebody is about to serve it, or finds that it has to wait on. Anything else: it is not blocked. */
static enum block_state unblock_in(struct io_thread *th, uint64_t id, enum block_state to) {
    enum block_state was = BLOCK_DROPPED;
    pthread_mutex_lock(&th->registry_lock);
    list_for_each(n, &th->clients) {
        struct client *c = list_entry(n, struct client, node);
        if (c->s.id != id) continue;
        if (c->blocked && !c->blocked->job) was = block_claim(c->blocked, to);
        if (c->blocked && was == BLOCK_WAITING) post(c->blocked);
        break;
    }
    pthread_mutex_unlock(&th->registry_lock);
    return was;
}

bool client_unblock(struct server *srv, uint64_t id, bool is_error) {
    enum block_state to = is_error ? BLOCK_UNBLOCKED_ERROR : BLOCK_UNBLOCKED_TIMEOUT, was = BLOCK_DROPPED;
    for (int t = 0; t < srv->n_threads && was != BLOCK_WAITING; t++) {
        /* Who serves it has all locks that takes: those the caller holds (EXEC) keep nobody from getting done. */
        while ((was = unblock_in(&srv->threads[t], id, to)) == BLOCK_SERVING) sched_yield();
    }
    return was == BLOCK_WAITING;
}

void client_unblock_all(struct io_thread *th) {
    pthread_mutex_lock(&th->registry_lock);
    list_for_each(n, &th->clients) {
        struct client *c = list_entry(n, struct client, node);
        if (c->blocked && block_claim(c->blocked, BLOCK_UNBLOCKED_ROLE) == BLOCK_WAITING) post(c->blocked);
    }
    pthread_mutex_unlock(&th->registry_lock);
}
