/* Replies that wait until what they acknowledge is safe (conn.h, struct conn_gate).
 *
 * Place in the flow: conn_flush_later notes how far the log was when the replies in the queue were made; the sending side asks
 * how much of the queue may go. Thread: the connection's, but for `mark` and `open`, which others move.
 *
 * Two marks a connection: `held_first` for the first `held_bytes` of its queue, `held_last` for the rest. With one, a client
 * whose requests never pause would move its own mark ahead of every fsync and never hear anything. */
#include "net/conn_priv.h"

static uint64_t open_now(const struct conn *c) {
    return atomic_load_explicit(&c->thread->gate->open, memory_order_acquire);
}

void conn_gate_note(struct conn *c) {
    if (c->out.bytes == 0) return;
    uint64_t open = open_now(c);
    if (open == UINT64_MAX) {
        c->held = false;
        return;
    }
    uint64_t mark = atomic_load_explicit(c->thread->gate->mark, memory_order_acquire);
    if (!c->held || open >= c->held_last) {
        c->held = open < mark;
        c->held_first = mark;
        c->held_bytes = c->out.bytes;
    }
    c->held_last = mark;
}

size_t conn_gate_allows(struct conn *c) {
    if (!c->held) return c->out.bytes;
    uint64_t open = open_now(c);
    if (open >= c->held_last) {
        c->held = false;
        return c->out.bytes;
    }
    if (open < c->held_first) return 0;
    return c->held_bytes < c->out.bytes ? c->held_bytes : c->out.bytes;
}

void conn_gate_sent(struct conn *c, size_t n) {
    if (!c->held) return;
    c->held_bytes -= n < c->held_bytes ? n : c->held_bytes;
    if (c->held_bytes) return;
    c->held_first = c->held_last;
    c->held_bytes = c->out.bytes;
}

void conn_gate_wait(struct conn *c) {
    if (list_empty(&c->flush_node)) list_push_back(&c->thread->held, &c->flush_node);
}

void conn_gate_release(struct conn_thread *t) {
    if (list_empty(&t->held)) return;
    uint64_t open = atomic_load(&t->gate->open);
    if (open == t->gate_seen) return;
    t->gate_seen = open;
    while (!list_empty(&t->held)) {
        struct list *n = t->held.next;
        list_remove(n);
        list_push_back(&t->flush, n);
    }
}

bool conn_gate_sleep(struct conn_thread *t) {
    if (list_empty(&t->held)) return true;
    atomic_store(&t->gate_waits, true); /* before the last look: who opens the gate looks at it after that */
    return atomic_load(&t->gate->open) == t->gate_seen;
}
