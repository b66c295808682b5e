/*
 * The dispatcher. See dispatch.h for the way of a command. Runs on the I/O thread of the session.
 *
 * Invariants
 * - A command runs with the locks of all shards its keys live in, taken in ascending order in one go, so that two commands never
 * wait for each other.
 * - No hook that may block or take another thread's lock for long runs under shard locks. Order: shard locks first, then any
 * other lock.
 * - The locks of a command that may change keys are those of everybody, too, who waits for keys in these shards (engine_lock), so
 * that before they are released those can be served whose keys have become ready.
 * - Of a pipeline whose commands go to the same shard again and again, the lock is kept from one to the next (ks_keep), with more
 * than one thread. Between the two, checks and hooks run as if no lock was held: what locks or waits lets go of it first. More
 * than one shard is not kept: commands whose keys differ would share few, and keep 16 of 64 from the others.
 * - In MULTI the union of shards is collected while queueing; EXEC adds the watched keys' and locks once.
 */
#include "cmd/dispatch.h"

#include <assert.h>
#include <ctype.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/crash.h"
#include "cmd/acl.h"
#include "cmd/effects.h"
#include "cmd/exec.h"
#include "cmd/figures.h"
#include "cmd/script/script.h"

#define KEEP_BELOW_US 3     /* a lock is kept after a command that took less: KS_KEEP_MAX of them take no more than 50 */
#define MAX_ERROR_CODES 128 /* a script or module inventing codes must not grow the table without end */

struct error_stat {
    char code[64];
    uint64_t count;
};

struct engine_errors {
    pthread_mutex_t lock; /* innermost: errors are rare, nothing is called under it */
    struct error_stat stat[MAX_ERROR_CODES];
    int n;
};

void engine_init(struct engine *e, struct keyspace *ks, struct cmd_table *t) {
    memset(e, 0, sizeof *e);
    e->ks = ks;
    e->table = t;
    atomic_store(&e->proto_max_bulk_len, 512ULL << 20);
    atomic_store(&e->ran_from_us, UINT64_MAX);
    e->keep_below_us = KEEP_BELOW_US;
    e->errors = mem_zalloc(sizeof *e->errors);
    e->figures = figures_new(cmd_ids(t));
    e->effects = mem_calloc(FIGURES_SLOTS, sizeof *e->effects);
    pthread_mutex_init(&e->errors->lock, NULL);
    e->scripts = scripts_new(e);
}

void engine_done(struct engine *e) {
    if (!e->errors) return;
    e->scripts = scripts_free(e->scripts);
    pthread_mutex_destroy(&e->errors->lock);
    mem_free(e->errors);
    e->errors = NULL;
    e->figures = figures_free(e->figures);
    for (int i = 0; i < FIGURES_SLOTS; i++) effects_clear(&e->effects[i]);
    mem_free(e->effects);
    e->effects = NULL;
}

/* ---- errors ---- */

void engine_count_error(struct engine *e, const char *text) {
    char code[sizeof(((struct error_stat *)0)->code)];
    size_t n = strcspn(text, " ");
    if (n >= sizeof code) n = sizeof code - 1;
    memcpy(code, text, n);
    code[n] = 0;
    atomic_fetch_add_explicit(&e->n_error_replies, 1, memory_order_relaxed);
    struct engine_errors *er = e->errors;
    pthread_mutex_lock(&er->lock);
    int i = 0;
    while (i < er->n && strcmp(er->stat[i].code, code) != 0) i++;
    if (i == er->n && er->n < MAX_ERROR_CODES) memcpy(er->stat[er->n++].code, code, n + 1);
    if (i < er->n) er->stat[i].count++;
    pthread_mutex_unlock(&er->lock);
}

static int by_code(const void *a, const void *b) {
    return strcmp(((const struct error_stat *)a)->code, ((const struct error_stat *)b)->code);
}

void engine_each_error(struct engine *e, void (*fn)(void *arg, const char *code, uint64_t count), void *arg) {
    struct engine_errors *er = e->errors;
    struct error_stat *copy = mem_alloc(sizeof er->stat);
    pthread_mutex_lock(&er->lock);
    int n = er->n;
    memcpy(copy, er->stat, sizeof(*copy) * (size_t)n);
    pthread_mutex_unlock(&er->lock);
    qsort(copy, (size_t)n, sizeof *copy, by_code);
    for (int i = 0; i < n; i++) fn(arg, copy[i].code, copy[i].count);
    mem_free(copy);
}

static void reset_cmd(struct cmd *c, void *arg) {
    atomic_store_explicit(&c->rejected, 0, memory_order_relaxed);
    atomic_store_explicit(&c->failed, 0, memory_order_relaxed);
    for (int i = 0; i < c->n_subs; i++) reset_cmd(c->subs[i], arg);
}

void engine_reset_stats(struct engine *e) {
    cmd_each(e->table, reset_cmd, NULL);
    figures_reset(e->figures);
    pthread_mutex_lock(&e->errors->lock);
    e->errors->n = 0;
    memset(e->errors->stat, 0, sizeof e->errors->stat);
    pthread_mutex_unlock(&e->errors->lock);
    atomic_store_explicit(&e->n_error_replies, 0, memory_order_relaxed);
    atomic_store_explicit(&e->n_payloads_checked, 0, memory_order_relaxed);
}

static void note_errors(struct engine *e, struct session *s) {
    if (s->reply.errors == 0) return;
    s->reply.errors = 0;
    engine_count_error(e, s->reply.last_error);
}

/* ---- refusals ---- */

static void reject(struct engine *e, struct session *s, struct cmd *cmd, const char *text) {
    ks_let_go();
    if (s->in_multi) s->multi_abort = true;
    if (cmd) atomic_fetch_add_explicit(&cmd->rejected, 1, memory_order_relaxed);
    if (cmd && (cmd->flags & CMD_IS_EXEC)) {
        const char *why = strncmp(text, "ERR ", 4) == 0 ? text + 4 : text;
        reply_errorf(&s->reply, "EXECABORT Transaction discarded because of: %s", why);
        if (!session_discard(s, e->ks)) session_end_multi(s);
    } else {
        reply_error(&s->reply, text);
    }
    note_errors(e, s);
}

static void reject_unknown(struct engine *e, struct session *s, int argc, const struct slice *argv) {
    char text[512], args[160];
    size_t n = 0;
    if (cmd_lookup(e->table, argv[0])) { /* a container: the name as typed, which rename-command may have chosen */
        char name[64] = "";
        size_t len = argv[0].len < sizeof name ? argv[0].len : sizeof name - 1;
        for (size_t i = 0; i < len; i++) name[i] = (char)toupper((unsigned char)argv[0].ptr[i]);
        snprintf(text, sizeof text, "ERR unknown subcommand '%.*s'. Try %.*s HELP.", (int)(argv[1].len < 128 ? argv[1].len : 128),
                 argv[1].ptr, (int)len, name);
        reject(e, s, NULL, text);
        return;
    }
    args[0] = 0;
    for (int i = 1; i < argc && n < 128; i++) {
        size_t room = 128 - n, len = argv[i].len < room ? argv[i].len : room;
        n += (size_t)snprintf(args + n, sizeof args - n, "'%.*s' ", (int)len, argv[i].ptr);
    }
    snprintf(text, sizeof text, "ERR unknown command '%.*s', with args beginning with: %s",
             (int)(argv[0].len < 128 ? argv[0].len : 128), argv[0].ptr, args);
    reject(e, s, NULL, text);
}

/* ---- shards ---- */

/* Most commands: one key at a fixed place. */
static bool has_single_key(const struct key_spec *ks) {
    return ks[0].flags && !(ks[0].flags & KEY_INCOMPLETE) && !ks[1].flags && ks[0].begin == KEY_BEGIN_INDEX &&
           ks[0].find == KEY_FIND_RANGE && ks[0].lastkey == 0;
}

int dispatch_single_key(const struct cmd *cmd) {
    if (cmd->flags & (CMD_ALL_SHARDS | CMD_TOUCHES_ARBITRARY_KEYS | CMD_SELF_LOCK | CMD_NEVER_QUEUED)) return 0;
    return cmd->spec->run && has_single_key(cmd->spec->keys) ? cmd->spec->keys[0].index : 0;
}

/* db: of a command that is executed now, its argv staying as it is until ks_no_hint, so that its keys may be hinted; or -1. */
static uint64_t shards_of(const struct engine *e, const struct cmd *cmd, int argc, const struct slice *argv, int db) {
    if (cmd->flags & (CMD_ALL_SHARDS | CMD_TOUCHES_ARBITRARY_KEYS)) return ks_all_mask(ks_n_shards(e->ks));
    const struct key_spec *ks = cmd->spec->keys;
    if (!ks[0].flags && !cmd->spec->get_keys) return 0;
    if (has_single_key(ks)) return ks[0].index < argc ? 1ULL << ks_hint(e->ks, argv[ks[0].index]) : 0;
    int local[64], *pos = local;
    int n = cmd_keys(cmd, argc, argv, pos, NULL, 64);
    if (n > 64) {
        pos = mem_calloc((size_t)n, sizeof *pos);
        n = cmd_keys(cmd, argc, argv, pos, NULL, n);
    }
    uint64_t mask = 0;
    if (db >= 0)
        mask = ks_hints(e->ks, db, argv, pos, n);
    else
        for (int i = 0; i < n; i++) mask |= 1ULL << ks_shard_of(e->ks, argv[pos[i]]);
    if (pos != local) mem_free(pos);
    return mask;
}

uint64_t dispatch_shards(const struct engine *e, const struct cmd *cmd, int argc, const struct slice *argv) {
    return shards_of(e, cmd, argc, argv, -1);
}

bool dispatch_lock(struct cmd_ctx *c, uint64_t mask) {
    if (c->in_exec) return true; /* EXEC holds every shard for such commands */
    c->locked = engine_lock(c->eng, mask, !(c->cmd->flags & CMD_READONLY));
    return c->locked != 0;
}

void dispatch_reply_busy(struct cmd_ctx *c) {
    reply_error(c->r, scripts_busy_text(c->eng->scripts));
}

/* What its session applies is in the data now, and the locks say so to others. */
static void note_applied(struct cmd_ctx *c) {
    if (__builtin_expect(c->s->applies, 0) && c->eng->hooks.applied && !c->is_stale) c->eng->hooks.applied(c->eng->hooks.arg, c);
}

void dispatch_unlock(struct cmd_ctx *c) {
    if (c->in_exec) return;
    effects_end(c->eng, c->s->slot, c->s, true);
    note_applied(c);
    engine_unlock(c->eng, c->locked, c->s->slot);
    c->locked = 0;
}

void engine_move_gate(struct engine *e) {
    atomic_fetch_add(&e->gate, 1);
}

/* A command that held its locks before this one got them has done its work; one that gets them later sees the gate moved. */
void dispatch_close_gate(struct cmd_ctx *c) {
    engine_move_gate(c->eng);
    if (dispatch_lock(c, ks_all_mask(ks_n_shards(c->ks)))) dispatch_unlock(c);
}

void dispatch_show(struct cmd_ctx *c) {
    if (c->eng->hooks.show) c->eng->hooks.show(c->eng->hooks.arg, c);
}

bool dispatch_is_stale(struct cmd_ctx *c) {
    c->is_stale = atomic_load_explicit(&c->eng->gate, memory_order_acquire) != c->gate;
    return c->is_stale;
}

/* ---- running ---- */

/* What changed something and has not said what does the same when it is run again. What a script or EXEC does was noted command
 * by command; DEBUG's changes are not for others. */
__attribute__((noinline)) static void run_and_note(struct cmd_ctx *c) {
    unsigned to = c->cmd->flags & (CMD_WRITE | CMD_MAY_REPLICATE) ? effects_wanted(c) : 0;
    uint64_t dirty_before = figures_dirty_of(c->eng->figures, c->s->slot);
    c->cmd->spec->run(c);
    if (!to || c->propagated || c->blocked || c->is_stale || (c->cmd->flags & CMD_SCRIPT)) return;
    if (figures_dirty_of(c->eng->figures, c->s->slot) == dirty_before) return;
    effects_add(c->eng, c->s->slot, to, c->db, c->argc, c->argv, 0, NULL);
}

void dispatch_run(struct cmd_ctx *c) {
    struct cmd *cmd = (struct cmd *)(uintptr_t)c->cmd;
    crash_note_command(cmd->full_name);
    if (__builtin_expect(atomic_load_explicit(&c->eng->propagate_to, memory_order_relaxed), 0))
        run_and_note(c);
    else
        cmd->spec->run(c);
    crash_note_command(NULL);
    if (c->is_stale) return;
    if (__builtin_expect(c->s->tracks_reads, 0) && (cmd->flags & (CMD_READONLY | CMD_SCRIPT)) == CMD_READONLY &&
        c->eng->hooks.read)
        c->eng->hooks.read(c->eng->hooks.arg, c);
    c->end = clock_ticks();
    uint64_t usec = clock_ticks_us(c->end - c->start);
    if (!c->blocked) figures_note(c->eng->figures, c->s->slot, cmd, usec);
    if (c->s->reply.errors || c->failed) atomic_fetch_add_explicit(&cmd->failed, 1, memory_order_relaxed);
    note_errors(c->eng, c->s);
    c->usec = usec;
    if (__builtin_expect(usec >= atomic_load_explicit(&c->eng->ran_from_us, memory_order_relaxed), 0) && c->eng->hooks.ran)
        c->eng->hooks.ran(c->eng->hooks.arg, c, usec);
}

/* A command that may take its time gets a stack of its own. EXEC is what its queue is. */
static bool may_take_long(const struct session *s, const struct cmd *cmd) {
    return (cmd->flags & CMD_SCRIPT) || ((cmd->flags & CMD_IS_EXEC) && (s->queue_flags & CMD_SCRIPT));
}

static bool keep_lock(const struct cmd_ctx *c) {
    return c->s->in_row && c->usec < c->eng->keep_below_us && !c->blocked && !c->is_stale && ks_keep(c->ks, c->locked);
}

/* After the command. False when the gate moved before the locks were held: nothing was done. */
static bool finish(struct cmd_ctx *c, enum dispatch_result *ret) {
    struct engine *e = c->eng;
    effects_end(e, c->s->slot, c->s, true);
    note_applied(c);
    if (c->locked && (ks_is_one_thread(e->ks) || !keep_lock(c))) engine_unlock_ended(e, c->locked, c->s->slot);
    ks_no_hint();
    if (c->is_stale) return false;
    if (c->s->in_row) c->s->ended = c->end;
    if (c->blocked)
        *ret = DISPATCH_BLOCKED;
    else
        figures_count(e->figures, c->s->slot, c->end - c->start);
    if (e->hooks.after) e->hooks.after(e->hooks.arg, c, c->usec);
    return true;
}

/* As finish. */
static bool execute(struct engine *e, struct session *s, struct cmd *cmd, int argc, const struct slice *argv, uint64_t gate,
                    enum dispatch_result *ret) {
    struct cmd_ctx local = {
        .eng = e, .ks = e->ks, .s = s, .cmd = cmd, .argc = argc, .argv = argv, .r = &s->reply, .gate = gate
    };
    struct cmd_ctx *c = &local;
    bool long_one = may_take_long(s, cmd);
    c->db = atomic_load_explicit(&s->db, memory_order_relaxed);
    if (!(cmd->flags & CMD_SELF_LOCK))
        c->locked = shards_of(e, cmd, argc, argv, cmd->flags & (CMD_SCRIPT | CMD_BLOCKING) ? -1 : c->db);
    if (c->locked && !(c->locked = engine_lock(e, c->locked, !(cmd->flags & CMD_READONLY)))) {
        ks_no_hint();
        if (s->applies) return false;
        reject(e, s, cmd, scripts_busy_text(e->scripts));
        return true;
    }
    if (!c->locked) ks_let_go();
    if (long_one) c = scripts_own_context(e->scripts, &local);
    /* The counter takes as long to read as a short command's look-up: where nothing was waited for, the end of the one before
     * will do. */
    c->start = s->ended && ks_is_one_thread(e->ks) ? s->ended : clock_ticks();
    c->now_ms = s->applies
                    ? 0
                    : ks_now(e->ks, c->locked,
                             clock_wall_at_us(c->start) / 1000); /* with the locks held: in a shard, time does not go back */
    if (!c->locked || !dispatch_is_stale(c)) {
        if (!long_one) {
            dispatch_run(c);
        } else if (!scripts_run(e->scripts, c)) {
            ks_no_hint();
            *ret = DISPATCH_SUSPENDED;
            return true;
        }
    }
    return finish(c, ret);
}

enum dispatch_result dispatch_continue(struct engine *e, struct session *s) {
    enum dispatch_result result = DISPATCH_OK;
    struct cmd_ctx *c = scripts_continue(e->scripts, s->slot);
    if (!c) return DISPATCH_SUSPENDED;
    finish(c, &result);
    session_advance_reply_mode(s);
    return result;
}

static void queue(struct engine *e, struct session *s, struct cmd *cmd, int argc, const struct slice *argv) {
    uint64_t mask = cmd->flags & CMD_SELF_LOCK ? ks_all_mask(ks_n_shards(e->ks)) : dispatch_shards(e, cmd, argc, argv);
    ks_no_hint();
    ks_let_go();
    session_queue(s, cmd, argc, argv);
    s->queue_shards |= mask;
    reply_simple(&s->reply, "QUEUED");
}

/* The checks before a known command may run, in Redis's order. False: refused. */
static bool allowed(struct engine *e, struct session *s, struct cmd *cmd, int argc) {
    char text[200];
    if (!cmd_arity_ok(cmd, argc) || !cmd->spec->run) {
        snprintf(text, sizeof text, "ERR wrong number of arguments for '%s' command", cmd->full_name);
        reject(e, s, cmd, text);
        return false;
    }
    if (!s->authenticated && !s->applies && !(cmd->flags & CMD_NO_AUTH) &&
        atomic_load_explicit(&e->auth_required, memory_order_relaxed)) {
        reject(e, s, cmd, "NOAUTH Authentication required.");
        return false;
    }
    if (s->in_multi && (cmd->flags & CMD_NO_MULTI)) {
        reject(e, s, cmd, "ERR Command not allowed inside a transaction");
        return false;
    }
    return true;
}

/* Access control. False: refused; a client whose user was deleted hears nothing and is closed. */
static bool permitted(struct engine *e, struct session *s, struct cmd *cmd, int argc, const struct slice *argv) {
    int pos = 0;
    enum acl_verdict v = acl_check(e, s, cmd, argc, argv, &pos);
    if (v == ACL_OK) return true;
    if (v == ACL_GONE) {
        s->close_after_reply = true;
        return false;
    }
    atomic_store_explicit(&s->last_cmd, cmd, memory_order_relaxed); /* what the log shows of the client */
    acl_note_denied(e, s, v, s->in_multi ? ACL_MULTI : ACL_TOPLEVEL, cmd, argv, pos);
    char *why = acl_denied_text(v, acl_session_user(s), cmd, argv[pos], false), *text = mem_asprintf("NOPERM %s", why);
    reject(e, s, cmd, text);
    mem_free(why);
    mem_free(text);
    return false;
}

/* A script takes long: only a few commands are answered. */
static bool is_refused_by_script(struct engine *e, struct session *s, struct cmd *cmd) {
    if (__builtin_expect(!ks_is_held(e->ks), 1) || (cmd->flags & CMD_ALLOW_BUSY)) return false;
    reject(e, s, cmd, scripts_busy_text(e->scripts));
    return true;
}

/* One attempt at a known command. False: the rules changed meanwhile, try again. */
static bool attempt(struct engine *e, struct session *s, struct cmd *cmd, int argc, const struct slice *argv,
                    enum dispatch_result *ret) {
    uint64_t gate = atomic_load_explicit(&e->gate, memory_order_acquire);
    if (s->applies && ks_is_held(e->ks)) { /* a client's command would be refused: this one has to wait */
        *ret = DISPATCH_POSTPONED;
        return true;
    }
    if (!s->applies && !permitted(e, s, cmd, argc, argv)) return true;
    if (e->hooks.before) {
        bool postpone = false;
        const char *refusal = e->hooks.before(e->hooks.arg, s, cmd, argc, argv, &postpone);
        if (refusal) {
            reject(e, s, cmd, refusal);
            return true;
        }
        if (is_refused_by_script(e, s, cmd)) return true;
        if (postpone) {
            ks_let_go();
            *ret = DISPATCH_POSTPONED;
            return true;
        }
    } else if (is_refused_by_script(e, s, cmd)) {
        return true;
    }
    atomic_store_explicit(&s->last_cmd, cmd, memory_order_relaxed);
    if (!s->in_multi || (cmd->flags & CMD_NEVER_QUEUED)) return execute(e, s, cmd, argc, argv, gate, ret);
    queue(e, s, cmd, argc, argv);
    return true;
}

/* A short name as a number, with its length in the highest byte. 0: too long. */
static uint64_t name_number(struct slice name) {
    const unsigned char *p = (const unsigned char *)name.ptr;
    size_t len = name.len;
    uint64_t n;
    if (len > 7 || len == 0) return 0;
    if (len >= 4) { /* two reads that overlap */
        uint32_t first, last;
        memcpy(&first, p, 4);
        memcpy(&last, p + len - 4, 4);
        n = first | (uint64_t)last << (8 * (len - 4));
    } else {
        n = p[0] | (uint64_t)p[len / 2] << (8 * (len / 2)) | (uint64_t)p[len - 1] << (8 * (len - 1));
    }
    return n | (uint64_t)len << 56;
}

/* Clients send the same command again and again, spelled the same. */
struct cmd *dispatch_look_up(struct engine *e, struct session *s, int argc, const struct slice *argv) {
    uint64_t n = name_number(argv[0]);
    if (n && n == s->last_name) return s->last_named;
    struct cmd *cmd = cmd_lookup_argv(e->table, argc, argv);
    if (n && cmd && !cmd->parent && !cmd->n_subs) {
        s->last_name = n;
        s->last_named = cmd;
    }
    return cmd;
}

enum dispatch_result dispatch(struct engine *e, struct session *s, int argc, const struct slice *argv) {
    enum dispatch_result result = DISPATCH_OK;
    assert(!s->waiter);
    struct cmd *cmd = dispatch_look_up(e, s, argc, argv);
    s->reply.errors = 0;
    if (!cmd) {
        reject_unknown(e, s, argc, argv);
    } else if (allowed(e, s, cmd, argc)) {
        while (!attempt(e, s, cmd, argc, argv, &result)) {
        }
    }
    if (result == DISPATCH_OK) session_advance_reply_mode(s);
    return result;
}
