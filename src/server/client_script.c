/*
 * Clients whose script takes long, and what others have to put off meanwhile. cmd/script/script.h has how such a script runs.
 *
 * The client is not read from until its script is done; the script gets some milliseconds of every turn of its thread's event
 * loop. It has all shards locked. A client that goes away then, with watches or keys that it waits for, stays in th->gone until
 * they can be taken out of the keyspace; and so does the script's own client until the script has ended.
 */
#include "base/clock.h"
#include "cmd/block.h"
#include "server/client.h"

bool client_may_lock(struct client *c) {
    uint64_t mask = session_watch_shards(&c->s, c->srv->ks) | (c->s.waiter ? c->s.waiter->wait.mask : 0);
    if (!mask) return true;
    /* Who holds them for a moment is waited for here, so that what comes next waits for a moment at most. */
    if (!ks_lock_unless_held(c->srv->ks, mask)) return false;
    ks_unlock(c->srv->ks, mask);
    return true;
}

void client_free_gone(struct io_thread *th) {
    list_for_each_safe(n, tmp, &th->gone) {
        struct client *c = list_entry(n, struct client, gone_node);
        if (!c->is_suspended && client_may_lock(c)) client_free(c);
    }
}

void client_suspend(struct client *c) {
    c->is_suspended = true;
    conn_pause_reading(&c->conn);
    c->th->scripting = c;
    loop_timer_set(c->th->loop, &c->th->script_turn, clock_mono_us());
}

static void turn(struct loop_timer *t) {
    struct io_thread *th = list_entry(t, struct io_thread, script_turn);
    struct client *c = th->scripting;
    if (dispatch_continue(&th->srv->eng, &c->s) == DISPATCH_SUSPENDED) {
        loop_timer_set(th->loop, t, clock_mono_us());
        return;
    }
    c->is_suspended = false;
    th->scripting = NULL;
    if (list_empty(&c->gone_node)) client_run_kept(c);
    client_free_gone(th);
}

void client_script_init(struct io_thread *th) {
    list_init(&th->gone);
    th->script_turn.fn = turn;
}
