/*
 * SAVE, BGSAVE, LASTSAVE, DEBUG RELOAD. Runs on the client's I/O thread; takes locks itself (CMD_SELF_LOCK).
 */
#include <errno.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "cmd/script/script.h"
#include "server/child.h"
#include "server/client.h"
#include "server/debug.h"
#include "server/loading.h"
#include "server/snapshot.h"

static struct server *server_of(struct cmd_ctx *c) {
    return c->eng->server;
}

/* False: replied to, or LOADING began while it waited for the locks, and the command is asked for again. */
static bool lock_all(struct cmd_ctx *c) {
    if (!dispatch_lock(c, ks_all_mask(ks_n_shards(c->ks)))) {
        dispatch_reply_busy(c);
        return false;
    }
    if (c->in_exec || !dispatch_is_stale(c)) return true;
    dispatch_unlock(c);
    return false;
}

static const char saving_text[] = "ERR Background save already in progress";

static bool is_saving(struct cmd_ctx *c) {
    if (!child_is_saving(server_of(c))) return false;
    reply_error(c->r, saving_text);
    return true;
}

static void save_command(struct cmd_ctx *c) {
    if (is_saving(c) || !lock_all(c)) return;
    bool saving = is_saving(c); /* a child may have been forked before the locks were taken: both write the same file */
    bool ok = !saving && snapshot_save(server_of(c));
    dispatch_unlock(c);
    if (saving) return;
    if (ok)
        reply_ok(c->r);
    else
        reply_error(c->r, "ERR");
}

static void start_bgsave(struct cmd_ctx *c) {
    if (!lock_all(c)) return;
    int r = snapshot_bgsave(server_of(c), true);
    dispatch_unlock(c);
    if (r == 0)
        reply_simple(c->r, "Background saving started");
    else
        reply_error(c->r, r == -EEXIST ? saving_text : "ERR");
}

static void bgsave_command(struct cmd_ctx *c) {
    struct server *srv = server_of(c);
    bool schedule = c->argc == 2 && slice_ieq(c->argv[1], "schedule");
    enum child_kind kind = child_kind_now(srv);
    if (c->argc > 1 && !schedule) {
        cmd_syntax_error(c);
    } else if (child_is_saving(srv)) {
        reply_error(c->r, saving_text);
    } else if (c->in_exec || (kind != CHILD_NONE && schedule)) {
        snapshot_schedule(srv);
        reply_simple(c->r, "Background saving scheduled");
    } else if (kind != CHILD_NONE) {
        reply_error(c->r, "ERR Another child process is active (AOF?): can't BGSAVE right now. Use BGSAVE SCHEDULE in order to "
                          "schedule a BGSAVE whenever possible.");
    } else {
        start_bgsave(c);
    }
}

static void lastsave_command(struct cmd_ctx *c) {
    reply_int(c->r, snapshot_last_save_s(server_of(c)));
}

/* ---- DEBUG RELOAD ---- */

struct reload {
    bool merge, no_flush, no_save;
};

static bool parse_reload(struct cmd_ctx *c, struct reload *ret) {
    *ret = (struct reload){ 0 };
    for (int i = 2; i < c->argc; i++) {
        if (slice_ieq(c->argv[i], "merge")) {
            ret->merge = true;
        } else if (slice_ieq(c->argv[i], "noflush")) {
            ret->no_flush = true;
        } else if (slice_ieq(c->argv[i], "nosave")) {
            ret->no_save = true;
        } else {
            reply_error(c->r, "ERR DEBUG RELOAD only supports the MERGE, NOFLUSH and NOSAVE options.");
            return false;
        }
    }
    return true;
}

/* All shards locked. NULL, or the error. */
static const char *reload(struct cmd_ctx *c, const struct reload *how) {
    struct server *srv = server_of(c);
    if (!how->no_save && child_is_saving(srv))
        return saving_text; /* its file would take the place of this one, or go to replicas */
    if (!how->no_save && !snapshot_save(srv)) return "ERR";
    struct rdb_load_opts o = {
        .now_ms = c->now_ms,
        .allow_dup = how->merge,
        .progress = loading_rdb_progress,
        .note = loading_rdb_note,
        .arg = srv,
        .key_delay_us = cfg_get(&srv->cfg->key_load_delay),
    };
    char *path = config_str_dup(srv->cfg, &srv->cfg->dbfilename);
    loading_begin(srv, 0, false);
    if (!how->no_flush) {
        ks_touch_watched_all(c->ks, -1);
        ks_flush(c->ks, -1, false);
        scripts_flush_libraries(c->eng->scripts, false);
    }
    int r = snapshot_load(srv, path ? path : "dump.rdb", &o, true);
    loading_end(srv);
    mem_free(path);
    if (r < 0) return "ERR Error trying to load the RDB dump, check server logs";
    log_warning("DB reloaded by DEBUG RELOAD");
    return NULL;
}

void debug_reload(struct cmd_ctx *c) {
    struct reload how;
    if (!parse_reload(c, &how) || !lock_all(c)) return;
    const char *error = reload(c, &how);
    dispatch_unlock(c);
    if (error)
        reply_error(c->r, error);
    else
        reply_ok(c->r);
}

/* ---- the table ---- */

static const struct cmd_arg bgsave_args[] = {
    { .name = "schedule", .type = ARG_PURE_TOKEN, .token = "SCHEDULE", .since = "3.2.2", .flags = ARG_OPTIONAL }, { 0 }
};
static const struct cmd_history bgsave_history[] = { { "3.2.2", "Added the `SCHEDULE` option." }, { 0 } };
static const char *const lastsave_tips[] = { "nondeterministic_output", NULL };

const struct cmd_spec cmd_specs_snapshot[] = {
    { .name = "save",
      .run = save_command,
      .arity = 1,
      .flags = CMD_ADMIN | CMD_NOSCRIPT | CMD_NO_ASYNC_LOADING | CMD_NO_MULTI | CMD_SELF_LOCK,
      .summary = "Writes the data set to its RDB file, and waits for it.",
      .since = "1.0.0",
      .group = "server",
      .complexity = "O(N) where N is the total number of keys in all databases" },
    { .name = "bgsave",
      .run = bgsave_command,
      .arity = -1,
      .flags = CMD_ADMIN | CMD_NOSCRIPT | CMD_NO_ASYNC_LOADING | CMD_SELF_LOCK,
      .summary = "Has a child process write the data set to its RDB file.",
      .since = "1.0.0",
      .group = "server",
      .complexity = "O(1)",
      .args = bgsave_args,
      .history = bgsave_history },
    { .name = "lastsave",
      .run = lastsave_command,
      .arity = 1,
      .cats = CAT_ADMIN | CAT_DANGEROUS,
      .flags = CMD_LOADING | CMD_STALE | CMD_FAST,
      .summary = "The time of the last snapshot.",
      .since = "1.0.0",
      .group = "server",
      .complexity = "O(1)",
      .tips = lastsave_tips },
    { 0 },
};
