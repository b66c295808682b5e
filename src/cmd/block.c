/*
 * Commands that wait for keys: blocking, serving, unblocking. See block.h for the states, cmd.h for what commands do.
 *
 * Place in the flow: a command calls cmd_block_on_keys under its locks; the dispatcher calls engine_unlock after every command,
 * which serves; the server's threads finish. Threads: each function says so in its header.
 *
 * Serving happens where the key was made ready, before the locks are released, so nobody comes between the push and those who
 * wait: first come, first served, for each key. It needs the locks of all keys of the commands that are run again (BLMOVE's
 * destination), which the pusher knows nothing of. Each shard therefore says what its waiters need (ks_wait_needs), and whoever
 * may make keys ready in it locks that too; one load when nobody waits. The alternative, to hand the key to the waiter's thread,
 * lets others steal the element in between and keeps no order.
 */
#include "cmd/block.h"

#include <math.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/str.h"
#include "cmd/acl.h"
#include "cmd/effects.h"
#include "cmd/exec.h"
#include "cmd/figures.h"

/* ---- arguments ---- */

/* Milliseconds from now to a deadline, with the limits redis-server has: by the wall clock. */
static bool deadline_in(struct cmd_ctx *c, int64_t ms, int64_t *ret_deadline_us) {
    if (ms < 0) {
        reply_error(c->r, "ERR timeout is negative");
        return false;
    }
    if (ms > INT64_MAX - cmd_clock_ms(c)) {
        reply_error(c->r, "ERR timeout is out of range");
        return false;
    }
    int64_t now_us = clock_mono_us();
    *ret_deadline_us = ms == 0 ? 0 : ms > (INT64_MAX - now_us) / 1000 ? INT64_MAX : now_us + ms * 1000;
    return true;
}

bool cmd_arg_timeout(struct cmd_ctx *c, struct slice a, enum cmd_timeout_unit unit, int64_t *ret_deadline_us) {
    int64_t ms;
    long double v;
    if (unit == CMD_TIMEOUT_MS) {
        return cmd_arg_ll(c, a, &ms, "ERR timeout is not an integer or out of range") && deadline_in(c, ms, ret_deadline_us);
    }
    if (!str_to_long_double(a, &v)) {
        reply_error(c->r, "ERR timeout is not a float or out of range");
        return false;
    }
    v = ceill(v * 1000);
    if (v >= 9223372036854775807.0L) {
        reply_error(c->r, "ERR timeout is out of range");
        return false;
    }
    return deadline_in(c, v < 0 ? -1 : (int64_t)v, ret_deadline_us);
}

/* ---- blocking ---- */

static struct slice copy_slice(struct slice from, char **p) {
    struct slice copy = { *p, from.len };
    if (from.len) memcpy(*p, from.ptr, from.len);
    *p += from.len;
    return copy;
}

static size_t total_len(const struct slice *v, int n) {
    size_t bytes = 0;
    for (int i = 0; i < n; i++) bytes += v[i].len;
    return bytes;
}

/* One block: the waiter, its keys, its argv, the bytes of both. */
static struct cmd_waiter *waiter_new(const struct cmd_ctx *c, const struct cmd_block *b) {
    const struct slice *argv = b->argv ? b->argv : c->argv;
    int argc = b->argv ? b->argc : c->argc;
    size_t n_keys = (size_t)b->n_keys, fixed = sizeof(struct cmd_waiter) + n_keys * sizeof(struct ks_wait_key);
    fixed += (size_t)argc * sizeof(struct slice);
    struct cmd_waiter *w = mem_zalloc(fixed + total_len(argv, argc) + total_len(b->keys, b->n_keys));
    char *bytes = (char *)w + fixed;
    w->wait = (struct ks_wait){
        .keys = (struct ks_wait_key *)(w + 1), .n_keys = b->n_keys, .db = c->db, .type = b->type, .on_nokey = b->on_nokey
    };
    w->argv = (struct slice *)(w->wait.keys + n_keys);
    w->argc = argc;
    for (int i = 0; i < argc; i++) w->argv[i] = copy_slice(argv[i], &bytes);
    for (int i = 0; i < b->n_keys; i++) w->wait.keys[i].key = copy_slice(b->keys[i], &bytes);
    w->wait.mask = n_keys ? dispatch_shards(c->eng, c->cmd, argc, w->argv) : 0;
    w->eng = c->eng;
    w->cmd = c->cmd;
    session_ghost(&w->s, c->s, &w->out);
    acl_share(&w->s, c->s);
    w->timed_out = b->timed_out;
    w->job = b->job;
    w->job_dropped = b->job_dropped;
    w->conclude = b->conclude;
    w->deadline_us = b->deadline_us;
    w->ticks = clock_ticks() - c->start;
    return w;
}

bool cmd_can_block(const struct cmd_ctx *c) {
    return !c->in_exec && !c->deny_blocking && !c->s->applies;
}

void cmd_block_on_keys(struct cmd_ctx *c, const struct cmd_block *b) {
    if (!cmd_can_block(c)) {
        b->timed_out(c->r);
        return;
    }
    c->blocked = true;
    if (c->retry) return; /* it is where it was */
    struct cmd_waiter *w = waiter_new(c, b);
    c->s->waiter = w;
    ks_wait_add(c->ks, &w->wait);
}

void cmd_signal_ready(struct cmd_ctx *c, int db, struct slice key) {
    ks_signal_ready(c->ks, db, key);
}

/* ---- serving ---- */

uint64_t engine_lock(struct engine *e, uint64_t mask, bool creates) {
    return ks_lock_to_serve(e->ks, mask, creates);
}

struct serving {
    struct engine *eng;
    uint64_t locked;
    int64_t now_ms;
    unsigned slot;
};

/* The client's thread logs it (tell_after). */
static void deny(struct cmd_waiter *w) {
    char *why = acl_denied_text((enum acl_verdict)w->denied, acl_session_user(&w->s), w->cmd, w->argv[w->denied_pos], false);
    reply_errorf(&w->s.reply, "NOPERM %s", why);
    engine_count_error(w->eng, w->s.reply.last_error);
    mem_free(why);
}

static void serve(void *arg, struct ks_wait *wait) {
    struct serving *sv = arg;
    struct cmd_waiter *w = list_entry(wait, struct cmd_waiter, wait);
    int waiting = BLOCK_WAITING;
    if (!atomic_compare_exchange_strong(&w->state, &waiting, BLOCK_SERVING)) return; /* its thread is about to take it out */
    struct cmd_ctx c = { .eng = sv->eng, .ks = sv->eng->ks, .s = &w->s, .cmd = w->cmd, .argc = w->argc, .argv = w->argv };
    c.r = &w->s.reply;
    c.db = w->wait.db;
    c.now_ms = sv->now_ms;
    c.locked = sv->locked;
    c.retry = true;
    w->s.slot = sv->slot;
    w->s.reply.errors = 0;
    c.start = clock_ticks() - w->ticks;
    w->denied = (int)acl_check(w->eng, &w->s, w->cmd, w->argc, w->argv, &w->denied_pos);
    if (w->denied == ACL_OK) {
        dispatch_run(&c);
    } else {
        deny(w);
    }
    effects_end(sv->eng, sv->slot, &w->s, true);
    w->ticks = clock_ticks() - c.start;
    w->usec = c.usec;
    if (!c.blocked) {
        figures_count(sv->eng->figures, sv->slot, w->ticks);
        ks_wait_remove(sv->eng->ks, wait);
    }
    int serving = BLOCK_SERVING; /* or DROPPED by now: its thread frees it, when it gets the locks */
    bool is_kept = atomic_compare_exchange_strong(&w->state, &serving, c.blocked ? BLOCK_WAITING : BLOCK_SERVED);
    if (!c.blocked && is_kept) sv->eng->hooks.wake(sv->eng->hooks.arg, w); /* it may be gone from here on */
}

static void serve_and_unlock(struct engine *e, uint64_t locked, unsigned slot) {
    struct serving sv = { .eng = e, .locked = locked, .slot = slot };
    sv.now_ms = ks_now(e->ks, locked, clock_wall_ms());
    ks_serve(e->ks, locked, sv.now_ms, serve, &sv);
    ks_unlock(e->ks, locked);
}

void engine_unlock(struct engine *e, uint64_t locked, unsigned slot) {
    effects_end(e, slot, NULL, false);
    engine_unlock_ended(e, locked, slot);
}

void engine_unlock_ended(struct engine *e, uint64_t locked, unsigned slot) {
    if (!ks_unlock_unless_ready(e->ks, locked)) serve_and_unlock(e, locked, slot);
}

/* ---- unblocking ---- */

enum block_state block_claim(struct cmd_waiter *w, enum block_state to) {
    int state = BLOCK_WAITING;
    while (!atomic_compare_exchange_strong(&w->state, &state, (int)to) &&
           (state == BLOCK_WAITING || (state == BLOCK_SERVING && to == BLOCK_DROPPED))) {
    }
    return (enum block_state)state;
}

/* Claims it when it still waits, and takes it out of the tables. Returns the state before. */
static enum block_state take_out(struct cmd_waiter *w, enum block_state to) {
    struct keyspace *ks = w->eng->ks;
    if (atomic_load(&w->state) == BLOCK_SERVED) return BLOCK_SERVED; /* it is in no table */
    ks_lock(ks, w->wait.mask);
    enum block_state was = block_claim(w, to); /* under the locks nobody is serving it */
    if (was != BLOCK_SERVED) ks_wait_remove(ks, &w->wait);
    ks_unlock(ks, w->wait.mask);
    return was;
}

bool block_time_out(struct cmd_waiter *w) {
    return take_out(w, BLOCK_TIMED_OUT) == BLOCK_WAITING;
}

void block_free(struct cmd_waiter *w) {
    if (w->job_dropped) w->job_dropped(w->job);
    acl_logout(&w->s);
    obuf_clear(&w->out);
    mem_free(w);
}

static void count_unblocked(struct cmd_waiter *w, const struct session *s) {
    figures_note(w->eng->figures, s->slot, w->cmd, clock_ticks_us(w->ticks));
    figures_count(w->eng->figures, s->slot, w->ticks);
}

static void tell_after(struct cmd_waiter *w, struct session *s) {
    struct engine *e = w->eng;
    if (w->denied && w->denied != ACL_GONE)
        acl_note_denied(e, s, (enum acl_verdict)w->denied, ACL_TOPLEVEL, w->cmd, w->argv, w->denied_pos);
    if (!e->hooks.after) return;
    struct cmd_ctx c = { .eng = e, .ks = e->ks, .s = s, .cmd = w->cmd, .argc = w->argc, .argv = w->argv, .r = &s->reply };
    c.db = w->wait.db;
    c.now_ms = clock_wall_ms();
    c.retry = true;
    c.usec = w->usec;
    e->hooks.after(e->hooks.arg, &c, w->usec);
}

/* Whoever served it made the change for it. */
static void note_offsets(const struct cmd_waiter *w, struct session *s) {
    if (w->s.repl_offset) s->repl_offset = w->s.repl_offset;
    if (w->s.aof_offset) s->aof_offset = w->s.aof_offset;
}

void block_finish(struct session *s) {
    struct cmd_waiter *w = s->waiter;
    enum block_state state = take_out(w, BLOCK_DROPPED);
    s->waiter = NULL;
    s->reply.errors = 0;
    if (state == BLOCK_SERVED) {
        obuf_splice(s->reply.out, &w->out);
        note_offsets(w, s);
        tell_after(w, s);
    } else if (state == BLOCK_UNBLOCKED_ERROR) {
        reply_error(&s->reply, "UNBLOCKED client unblocked via CLIENT UNBLOCK");
        engine_count_error(w->eng, s->reply.last_error);
        count_unblocked(w, s);
    } else if (state == BLOCK_UNBLOCKED_ROLE) {
        reply_error(&s->reply, "UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)");
        engine_count_error(w->eng, s->reply.last_error);
        count_unblocked(w, s);
        s->close_after_reply = true;
    } else {
        if (w->conclude)
            w->conclude(s);
        else
            w->timed_out(&s->reply);
        count_unblocked(w, s);
    }
    session_advance_reply_mode(s);
    block_free(w);
}

void block_abandon(struct session *s) {
    struct cmd_waiter *w = s->waiter;
    if (!w) return;
    s->waiter = NULL;
    enum block_state state = take_out(w, BLOCK_DROPPED);
    bool is_woken = state == BLOCK_SERVED || state == BLOCK_UNBLOCKED_TIMEOUT || state == BLOCK_UNBLOCKED_ERROR ||
                    state == BLOCK_UNBLOCKED_ROLE;
    if (is_woken)
        w->is_orphan = true;
    else
        block_free(w);
}
