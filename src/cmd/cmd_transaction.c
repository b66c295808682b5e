/*
 * MULTI, EXEC, DISCARD, WATCH, UNWATCH. Session's I/O thread.
 *
 * EXEC locks the union of the queued commands' shards and the watched keys' shards once; checks the watches under those locks;
 * runs everything; unlocks. So nothing can slip between the check and the first command, and no other client sees a part of the
 * transaction.
 */
#include "base/clock.h"
#include "cmd/acl.h"
#include "cmd/exec.h"
#include "cmd/figures.h"
#include "cmd/script/script.h"

static void multi_command(struct cmd_ctx *c) {
    if (c->s->in_multi) {
        reply_error(c->r, "ERR MULTI calls can not be nested");
        return;
    }
    c->s->in_multi = true;
    atomic_store_explicit(&c->s->multi_count, 0, memory_order_relaxed);
    reply_ok(c->r);
}

static void discard_command(struct cmd_ctx *c) {
    if (!c->s->in_multi) {
        reply_error(c->r, "ERR DISCARD without MULTI");
        return;
    }
    if (session_discard(c->s, c->ks))
        reply_ok(c->r);
    else
        dispatch_reply_busy(c);
}

static bool watches_hold(struct cmd_ctx *c) {
    if (atomic_load(&c->s->dirty_cas)) return false;
    for (int i = 0; i < c->s->n_watches; i++)
        if (ks_watch_expired(c->ks, c->s->watches[i], c->now_ms)) return false;
    return true;
}

/* Rules may have changed since the command was queued, by a command of the same transaction too. False: replied why not. */
static bool still_permitted(struct cmd_ctx *c) {
    const char *why = "no permission";
    int pos = 0;
    enum acl_verdict v = acl_check(c->eng, c->s, c->cmd, c->argc, c->argv, &pos);
    if (v == ACL_OK) return true;
    if (v == ACL_DENIED_CMD) why = "no permission to execute the command or subcommand";
    if (v == ACL_DENIED_KEY) why = "no permission to touch the specified keys";
    if (v == ACL_DENIED_CHANNEL) why = "no permission to access one of the channels used as argument to the command";
    if (v != ACL_GONE) acl_note_denied(c->eng, c->s, v, ACL_MULTI, c->cmd, c->argv, pos);
    reply_errorf(c->r,
                 "NOPERM ACLs rules changed between the moment the transaction was accumulated and the EXEC call. "
                 "This command is no longer allowed for the following reason: %s",
                 why);
    return false;
}

static void run_queue(struct cmd_ctx *c) {
    struct session *s = c->s;
    reply_array(c->r, (size_t)s->queue_len);
    for (int i = 0; i < s->queue_len; i++) {
        const struct queued_cmd *q = &s->queue[i];
        struct cmd_ctx sub = *c;
        sub.cmd = q->cmd;
        sub.argc = q->argc;
        sub.argv = q->argv;
        sub.in_exec = true;
        sub.db = atomic_load_explicit(&s->db, memory_order_relaxed);
        sub.start = clock_ticks();
        if (!still_permitted(&sub)) continue;
        dispatch_run(&sub);
        figures_count(c->eng->figures, s->slot, 0);
    }
}

static void exec_command(struct cmd_ctx *c) {
    struct session *s = c->s;
    if (!s->in_multi) {
        reply_error(c->r, "ERR EXEC without MULTI");
        return;
    }
    if (s->multi_abort) {
        if (!session_discard(s, c->ks)) session_end_multi(s);
        reply_error(c->r, "EXECABORT Transaction discarded because of previous errors.");
        return;
    }
    uint64_t mask = s->queue_shards | session_watch_shards(s, c->ks);
    if (mask && !dispatch_lock(c, mask)) {
        c->is_stale = s->applies; /* it is tried again, and not lost */
        if (c->is_stale) return;
        reply_errorf(c->r, "EXECABORT Transaction discarded because of: %s", scripts_busy_text(c->eng->scripts));
        session_end_multi(s);
        return;
    }
    if (mask && dispatch_is_stale(c)) {
        dispatch_unlock(c);
        return;
    }
    c->now_ms = s->applies ? 0 : ks_now(c->ks, c->locked, clock_wall_at_us(clock_ticks()) / 1000);
    bool go = watches_hold(c);
    session_unwatch_locked(s, c->ks, mask);
    if (go) {
        run_queue(c);
    } else {
        reply_null_array(c->r);
    }
    if (mask) dispatch_unlock(c);
    session_end_multi(s);
}

static void watch_command(struct cmd_ctx *c) {
    if (c->s->in_multi) {
        reply_error(c->r, "ERR WATCH inside MULTI is not allowed");
        return;
    }
    /* A transaction already bound to fail gains nothing from more watches. */
    if (!atomic_load(&c->s->dirty_cas))
        for (int i = 1; i < c->argc; i++) session_watch_key(c->s, c->ks, c->db, c->argv[i], c->now_ms);
    reply_ok(c->r);
}

static void unwatch_command(struct cmd_ctx *c) {
    /* Queued in MULTI it does nothing: EXEC has forgotten the watches before the queue runs. */
    if (c->in_exec || session_unwatch(c->s, c->ks))
        reply_ok(c->r);
    else
        dispatch_reply_busy(c);
}

static const struct cmd_arg watch_args[] = { { .name = "key", .type = ARG_KEY, .flags = ARG_MULTIPLE }, { 0 } };

const struct cmd_spec cmd_specs_transaction[] = {
    { .name = "multi",
      .run = multi_command,
      .arity = 1,
      .cats = CAT_TRANSACTION,
      .flags = CMD_NOSCRIPT | CMD_LOADING | CMD_STALE | CMD_FAST | CMD_ALLOW_BUSY | CMD_NEVER_QUEUED,
      .summary = "Starts a transaction: later commands are queued until EXEC.",
      .since = "1.2.0",
      .complexity = "O(1)",
      .group = "transactions" },
    { .name = "exec",
      .run = exec_command,
      .arity = 1,
      .cats = CAT_TRANSACTION,
      .flags = CMD_NOSCRIPT | CMD_LOADING | CMD_STALE | CMD_SKIP_SLOWLOG | CMD_NEVER_QUEUED | CMD_IS_EXEC | CMD_SELF_LOCK,
      .summary = "Runs the queued commands as one atomic step.",
      .since = "1.2.0",
      .complexity = "Depends on commands in the transaction",
      .group = "transactions" },
    { .name = "discard",
      .run = discard_command,
      .arity = 1,
      .cats = CAT_TRANSACTION,
      .flags = CMD_NOSCRIPT | CMD_LOADING | CMD_STALE | CMD_FAST | CMD_ALLOW_BUSY | CMD_NEVER_QUEUED | CMD_SELF_LOCK,
      .summary = "Drops the queued commands and ends the transaction.",
      .since = "2.0.0",
      .complexity = "O(N), when N is the number of queued commands",
      .group = "transactions" },
    { .name = "watch",
      .run = watch_command,
      .arity = -2,
      .cats = CAT_TRANSACTION,
      .flags = CMD_NOSCRIPT | CMD_LOADING | CMD_STALE | CMD_FAST | CMD_ALLOW_BUSY | CMD_NEVER_QUEUED,
      .keys = { { .flags = KEY_RO, .begin = KEY_BEGIN_INDEX, .index = 1, .find = KEY_FIND_RANGE, .lastkey = -1, .keystep = 1 } },
      .summary = "Makes the next EXEC depend on keys staying unchanged.",
      .since = "2.2.0",
      .complexity = "O(1) for every key.",
      .group = "transactions",
      .args = watch_args },
    { .name = "unwatch",
      .run = unwatch_command,
      .arity = 1,
      .cats = CAT_TRANSACTION,
      .flags = CMD_NOSCRIPT | CMD_LOADING | CMD_STALE | CMD_FAST | CMD_ALLOW_BUSY | CMD_SELF_LOCK,
      .summary = "Forgets all watched keys of the connection.",
      .since = "2.2.0",
      .complexity = "O(1)",
      .group = "transactions" },
    { 0 },
};
