/*
 * A script's run: what its flags say, its session, the call, its reply. All shards are locked.
 */
#include <string.h>

#include "base/clock.h"
#include "cmd/acl.h"
#include "cmd/script/script_priv.h"

#define RUNS_BETWEEN_GC 50 /* scripts, then the collector does a little */

static bool is_out_of_memory(struct engine *e) {
    return e->hooks.out_of_memory && e->hooks.out_of_memory(e->hooks.arg);
}

const char *run_no_writes(struct engine *e) {
    return e->hooks.no_writes ? e->hooks.no_writes(e->hooks.arg) : NULL;
}

bool run_is_stale(struct engine *e) {
    return e->hooks.is_stale && e->hooks.is_stale(e->hooks.arg);
}

bool run_allowed(struct cmd_ctx *c, unsigned flags, bool is_read_only) {
    if ((flags & SCRIPT_COMPAT) || c->s->applies) return true;
    if (!(flags & SCRIPT_ALLOW_STALE) && run_is_stale(c->eng)) {
        reply_error(c->r,
                    "MASTERDOWN Link with MASTER is down, replica-serve-stale-data is set to 'no' and 'allow-stale' flag is "
                    "not set on the script.");
        return false;
    }
    if (!(flags & SCRIPT_NO_WRITES) && is_read_only) {
        reply_error(c->r, "ERR Can not execute a script with write flag using *_ro command.");
        return false;
    }
    const char *why = flags & SCRIPT_NO_WRITES ? NULL : run_no_writes(c->eng);
    if (why) {
        bool read_only = strncmp(why, "READONLY", 8) == 0;
        reply_error(c->r, read_only ? "READONLY Can not run script with write flag on readonly replica." : why);
        return false;
    }
    if (!(flags & (SCRIPT_ALLOW_OOM | SCRIPT_NO_WRITES)) && is_out_of_memory(c->eng)) {
        reply_error(c->r, "OOM allow-oom flag is not set on the script, can not run it when used memory > 'maxmemory'");
        return false;
    }
    return true;
}

/* The session of the script's commands: the client's, as far as commands ask. */
static void begin_session(struct scripts *sc, struct session *client) {
    session_ghost(&sc->s, client, &sc->out);
    acl_share(&sc->s, client);
    sc->s.slot = client->slot;
    sc->s.tracks_reads = client->tracks_reads;
    sc->s.reply.muted = false;
    session_set_resp(&sc->s, 2);
}

/* Stack: the error. */
static void reply_failure(struct cmd_ctx *c, struct script_run *run) {
    lua_State *L = run->vm->L;
    if (!lua_istable(L, -1)) { /* the error handler did not get to run: out of memory */
        const char *text = lua_isstring(L, -1) ? lua_tostring(L, -1) : "execution failure";
        reply_errorf(c->r, "ERR Error running script %s, %.100s", run->name, text);
        return;
    }
    struct error_info info;
    struct buf text = { 0 };
    convert_error_info(L, lua_gettop(L), &info);
    buf_append(&text, info.text.ptr, info.text.len);
    if (info.line.len && info.source.len) {
        buf_printf(&text, " script: %s, on ", run->name);
        buf_append(&text, info.source.ptr, info.source.len);
        buf_append_char(&text, ':');
        buf_append(&text, info.line.ptr, info.line.len);
        buf_append_char(&text, '.');
    }
    convert_reply_error(c, buf_slice(&text), info.is_counted);
    buf_done(&text);
}

static void collect_some(struct vm *vm) {
    if (++vm->runs < RUNS_BETWEEN_GC) return;
    vm->runs = 0;
    lua_gc(vm->L, LUA_GCSTEP, 50);
}

void run_script(struct cmd_ctx *c, struct script_run *run, int n_args) {
    struct scripts *sc = scripts_of(c);
    lua_State *L = run->vm->L;
    run->c = c;
    run->resp = 2;
    run->repl = 3;
    run->out_of_memory = is_out_of_memory(c->eng);
    begin_session(sc, c->s);
    sc->run = run;
    control_begin(run);
    int function = lua_gettop(L) - n_args;
    lua_pushcfunction(L, vm_error_handler);
    lua_insert(L, function);
    int status = lua_pcall(L, n_args, 1, function);
    control_end(run);
    sc->run = NULL;
    acl_logout(&sc->s);
    if (status == 0)
        convert_to_reply(run, L, c);
    else
        reply_failure(c, run);
    lua_settop(L, 0);
    collect_some(run->vm);
    scripts_note_memory(sc);
}

void run_hook(lua_State *L, lua_Debug *d) {
    struct script_run *run = vm_of(L)->sc->run;
    (void)d;
    if (!run) return;
    if (!run->loading) {
        control_look(L, run);
    } else if (clock_mono_us() > run->deadline_us) {
        api_push_error(L, "FUNCTION LOAD timeout");
        lua_error(L);
    }
}
