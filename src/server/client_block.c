/*
 * Blocked clients: what their own I/O thread does about them, and what other threads ask of it. cmd/block.h has the states.
 *
 *   dispatch says BLOCKED -> client_block -> ... -> finish: reply, then what the client sent meanwhile is run
 *                                 |-- served by this thread: th->woken, finished before it sleeps, so that replies of a turn
 * leave |   together
 *                                 |-- served by another, CLIENT UNBLOCK: inbox
 *                                 `-- deadline: timer
 *
 * client.blocked says to other threads, under the registry lock, that there is a waiter, which then is not freed before the lock
 * is released.
 */
#include <sched.h>

#include "base/clock.h"
#include "base/counter.h"
#include "cmd/block.h"
#include "server/client.h"

#define MAX_TIMER_WAIT_US 3600000000LL /* then it looks again: a deadline may be further than the clock can count */

static void set_blocked(struct client *c, struct cmd_waiter *w) {
    pthread_mutex_lock(&c->th->registry_lock);
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
    atomic_fetch_and(&c->flags, ~(unsigned)CLIENT_BLOCKED);
    counter_sub(&c->th->n_blocked, 1);
    if (!c->s.waiter->deadline_us) return;
    loop_timer_cancel(c->th->loop, &c->block_timer);
    counter_sub(&c->th->n_block_timers, 1);
}

static void finish(struct client *c) {
    leave(c);
    block_finish(&c->s);
    client_run_kept(c);
}

static void timer_fired(struct loop_timer *t) {
    struct client *c = list_entry(t, struct client, block_timer);
    int64_t deadline = c->s.waiter->deadline_us;
    if (clock_mono_us() < deadline)
        arm(c, deadline);
    else if (block_time_out(c->s.waiter))
        finish(c);
}

void client_block(struct client *c) {
    struct cmd_waiter *w = c->s.waiter;
    set_blocked(c, w);
    atomic_fetch_or(&c->flags, CLIENT_BLOCKED);
    counter_add(&c->th->n_blocked, 1);
    if (!w->deadline_us) return;
    counter_add(&c->th->n_block_timers, 1);
    c->block_timer.fn = timer_fired;
    arm(c, w->deadline_us);
}

void client_block_abandon(struct client *c) {
    if (!c->s.waiter) return;
    leave(c);
    block_abandon(&c->s);
}

/* ---- woken ---- */

static void woken(struct cmd_waiter *w) {
    struct client *c = w->s.owner;
    if (w->is_orphan)
        block_free(w);
    else
        finish(c);
}

static void woken_by_other(struct inbox_msg *msg, void *owner) {
    (void)owner;
    woken(list_entry(msg, struct cmd_waiter, msg));
}

static void post(struct cmd_waiter *w) {
    struct io_thread *th = w->s.home;
    w->msg.run = woken_by_other;
    loop_post(th->loop, &w->msg);
}

void client_wake(void *srv, struct cmd_waiter *w, unsigned slot) {
    struct io_thread *th = w->s.home;
    (void)srv;
    if ((unsigned)th->index == slot)
        list_push_back(&th->woken, &w->node);
    else
        post(w);
}

/* What runs then may wake others: of this thread's, they come in the same loop. It ends, since nothing more is read meanwhile. */
void client_finish_woken(struct io_thread *th) {
    while (!list_empty(&th->woken)) {
        struct cmd_waiter *w = list_entry(th->woken.next, struct cmd_waiter, node);
        list_remove(&w->node);
        woken(w);
    }
}

/* ---- other clients' wishes ---- */

void client_block_kill(struct client *c) {
    block_claim(c->blocked, BLOCK_DROPPED);
}

/* WAITING: done. SERVING: somebody is about to serve it, or finds that it has to wait on. Anything else: it is not blocked. */
static enum block_state unblock_in(struct io_thread *th, uint64_t id, enum block_state to) {
    enum block_state was = BLOCK_DROPPED;
    pthread_mutex_lock(&th->registry_lock);
    list_for_each(n, &th->clients) {
        struct client *c = list_entry(n, struct client, node);
        if (c->s.id != id) continue;
        if (c->blocked) was = block_claim(c->blocked, to);
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
