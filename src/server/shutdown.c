/* SHUTDOWN and the signals that ask for it. Place in the flow: the command on its client's thread, signals on thread 0 (cron);
 * then io_threads_stop, and main() takes the parts apart.
 *
 *     asked -> all shards locked: children killed, the last snapshot written, REFUSE_ENDING set -> unlocked -> threads stop
 *
 * Between the snapshot and the end nothing may be changed and acknowledged that is in no file: so the gate is moved while the
 * shards are locked, and whatever command comes after is put off until its connection closes. */
#include "server/shutdown.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/log.h"
#include "cmd/block.h"
#include "cmd/script/script.h"
#include "server/aof_server.h"
#include "server/child.h"
#include "server/client.h"
#include "server/loading.h"
#include "server/refusal.h"
#include "server/repl_shutdown.h"
#include "server/replication.h"
#include "server/snapshot.h"

/* ---- what is left to do ---- */

static void kill_children(struct server *srv) {
    enum child_kind kind = child_kind_now(srv);
    if (child_is_saving(srv)) log_warning("There is a child saving an .rdb. Killing it!");
    if (kind == CHILD_AOF) log_warning("There is a child rewriting the AOF. Killing it!");
    child_kill(srv, CHILD_NONE);
}

static bool wants_snapshot(struct server *srv, unsigned flags) {
    if (loading_is_on(srv) || (flags & SHUTDOWN_NOSAVE)) return false;
    return (flags & SHUTDOWN_SAVE) || snapshot_has_save_points(srv);
}

/* All shards locked. False: what had to be written could not be, and the server goes on. */
static bool finish(struct server *srv, unsigned flags) {
    if (!loading_is_on(srv) && !aof_prepare_exit(srv, flags & SHUTDOWN_FORCE)) return false;
    kill_children(srv);
    if (wants_snapshot(srv, flags)) {
        log_notice("Saving the final RDB snapshot before exiting.");
        process_notify_status(srv, "Saving the final RDB snapshot");
        if (!snapshot_save(srv)) {
            log_warning("Error trying to save the DB, can't exit.");
            process_notify_status(srv, "Error trying to save the DB, can't exit.");
            if (!(flags & SHUTDOWN_FORCE)) return false;
            log_warning("Exiting although the DB could not be saved (forced).");
        }
    }
    refusal_set(srv, REFUSE_ENDING, true);
    engine_move_gate(&srv->eng); /* who was let through before looks again */
    return true;
}

/* Before anything is waited for or written, and once: a signal is looked at by turn after turn of cron until it is done. */
static void log_asked(struct server *srv) {
    if (!atomic_exchange(&srv->shutdown_is_said, true)) log_notice("User requested shutdown...");
}

/* ---- SHUTDOWN ---- */

static bool parse(struct cmd_ctx *c, unsigned *ret_flags, bool *ret_abort) {
    static const struct {
        const char *name;
        unsigned flag;
    } words[] = {
        { "nosave", SHUTDOWN_NOSAVE }, { "save", SHUTDOWN_SAVE }, { "now", SHUTDOWN_NOW }, { "force", SHUTDOWN_FORCE }
    };
    *ret_flags = 0;
    *ret_abort = false;
    for (int i = 1; i < c->argc; i++) {
        unsigned flag = 0;
        for (size_t k = 0; k < sizeof words / sizeof *words; k++)
            if (slice_ieq(c->argv[i], words[k].name)) flag = words[k].flag;
        *ret_flags |= flag;
        if (!flag && !slice_ieq(c->argv[i], "abort")) return false;
        *ret_abort |= !flag;
    }
    return !(*ret_abort && *ret_flags) && (*ret_flags & (SHUTDOWN_SAVE | SHUTDOWN_NOSAVE)) != (SHUTDOWN_SAVE | SHUTDOWN_NOSAVE);
}

static void end_client(struct cmd_ctx *c, struct server *srv) {
    atomic_store(&srv->shutdown_asked, SHUTDOWN_READY);
    c->s->close_after_reply = true; /* as in redis-server, success is seen as the connection closing */
}

/* SHUTDOWN that has waited for replicas, and does not come to its end. */
static void reply_failed(struct session *s) {
    reply_error(&s->reply, "ERR Errors trying to SHUTDOWN. Check logs.");
}

static void end_waits(struct io_thread *th, void *arg) {
    (void)arg;
    list_for_each(n, &th->clients) {
        struct client *c = list_entry(n, struct client, node);
        if (c->s.waiter && c->s.waiter->conclude == reply_failed) client_block_end(c);
    }
}

/* It was called off, or failed: the server goes on. */
static void call_off(struct server *srv) {
    atomic_store(&srv->shutdown_asked, SHUTDOWN_NOT_ASKED);
    atomic_store(&srv->shutdown_is_said, false);
    repl_shutdown_cancel(srv);
    for (int t = 0; t < srv->n_threads; t++) io_thread_post(&srv->threads[t], end_waits, NULL);
}

static void abort_shutdown(struct cmd_ctx *c, struct server *srv) {
    int asked = atomic_load(&srv->shutdown_asked);
    if (asked == SHUTDOWN_NOT_ASKED || asked == SHUTDOWN_READY) {
        reply_error(c->r, "ERR No shutdown in progress.");
        return;
    }
    log_notice("Shutdown manually aborted.");
    call_off(srv);
    reply_ok(c->r);
}

/* Replicas are to get what they lack first: thread 0's cron goes on when they have. */
static void wait_for_replicas(struct cmd_ctx *c, struct server *srv, unsigned flags) {
    int none = SHUTDOWN_NOT_ASKED;
    log_asked(srv);
    atomic_store(&srv->shutdown_flags, flags);
    atomic_compare_exchange_strong(&srv->shutdown_asked, &none, SHUTDOWN_BY_COMMAND);
    cmd_block_on_keys(c, &(struct cmd_block){ .conclude = reply_failed });
}

void shutdown_command(struct cmd_ctx *c) {
    struct server *srv = c->eng->server;
    unsigned flags;
    bool is_abort;
    if (!parse(c, &flags, &is_abort)) {
        cmd_syntax_error(c);
    } else if (is_abort) {
        abort_shutdown(c, srv);
    } else if (!(flags & SHUTDOWN_NOW) && cmd_can_block(c) && repl_shutdown_is_wanted(srv->repl)) {
        wait_for_replicas(c, srv, flags);
    } else if ((flags & SHUTDOWN_NOSAVE) && ks_is_held(c->ks)) {
        log_asked(srv);
        kill_children(srv); /* the script ends with the server */
        end_client(c, srv);
    } else if (!dispatch_lock(c, ks_all_mask(ks_n_shards(c->ks)))) {
        dispatch_reply_busy(c);
    } else {
        log_asked(srv);
        bool done = finish(srv, flags);
        dispatch_unlock(c);
        if (done) {
            end_client(c, srv);
        } else {
            atomic_store(&srv->shutdown_is_said, false);
            reply_error(c->r, "ERR Errors trying to SHUTDOWN. Check logs.");
        }
    }
}

/* ---- signals ---- */

/* shutdown-on-sigterm, shutdown-on-sigint. */
static unsigned configured_flags(struct server *srv, bool is_sigint) {
    char *text = config_other_dup(srv->cfg, is_sigint ? "shutdown-on-sigint" : "shutdown-on-sigterm");
    unsigned flags = 0;
    if (text && strstr(text, "nosave"))
        flags |= SHUTDOWN_NOSAVE;
    else if (text && strstr(text, "save"))
        flags |= SHUTDOWN_SAVE;
    if (text && strstr(text, "now")) flags |= SHUTDOWN_NOW;
    if (text && strstr(text, "force")) flags |= SHUTDOWN_FORCE;
    mem_free(text);
    return flags;
}

static unsigned flags_of(struct server *srv, int asked) {
    if (asked == SHUTDOWN_BY_COMMAND) return atomic_load(&srv->shutdown_flags);
    return configured_flags(srv, asked == SHUTDOWN_SIGINT);
}

/* False: not yet, or not at all. */
static bool finish_by_signal(struct server *srv, int asked) {
    unsigned flags = flags_of(srv, asked);
    if (loading_is_on(srv)) {
        log_warning("Received shutdown signal during loading, exiting now.");
        loading_cancel(srv);
        return true;
    }
    log_asked(srv);
    if (!(flags & SHUTDOWN_NOW) && repl_shutdown_waits(srv)) return false;
    uint64_t locked = engine_lock(&srv->eng, ks_all_mask(ks_n_shards(srv->ks)), false);
    if (!locked) { /* a script runs for long: it is waited for only if there is something to write afterwards */
        if (wants_snapshot(srv, flags)) return false;
        kill_children(srv);
        return true;
    }
    bool done = finish(srv, flags);
    engine_unlock(&srv->eng, locked, 0);
    if (done) return true;
    log_warning("SIGTERM received but errors trying to shut down the server, check the logs for more information");
    call_off(srv);
    return false;
}

void shutdown_cron(struct server *srv) {
    int asked = atomic_load(&srv->shutdown_asked);
    if (asked == SHUTDOWN_NOT_ASKED || srv->threads[0].stopping) return;
    if (asked != SHUTDOWN_READY && !finish_by_signal(srv, asked)) return;
    process_notify_stopping(srv);
    io_threads_stop(srv);
}
