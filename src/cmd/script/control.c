/*
 * Scripts that take long: their stacks, SCRIPT KILL and FUNCTION KILL, FUNCTION STATS. See script.h.
 *
 *     NONE --run--> READING --first write--> WRITING          (scripts.state; a compare-and-swap each, so that a script is
 *                      `--SCRIPT KILL--> KILLED                never ended when it has begun to write)
 *
 * Lua calls a hook every so many instructions; past the threshold the hook gives the thread back to its event loop, from the
 * middle of whatever the script is in (pcall, a comparison for table.sort, a coroutine): that takes a stack of its own. A script
 * that stays inside one function of C is not reached, as in redis-server.
 */
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/crash.h"
#include "base/fiber.h"
#include "base/log.h"
#include "cmd/effects.h"
#include "cmd/exec.h"
#include "cmd/script/script_priv.h"

#define STACK_SIZE ((size_t)8 << 20)
#define SLICE_US 5000 /* that a slow script has of each turn of its thread's event loop */

/* ---- stacks ---- */

struct cmd_ctx *scripts_own_context(struct scripts *sc, const struct cmd_ctx *c) {
    struct own_stack *own = &sc->stacks[c->s->slot];
    if (!own->fiber) own->fiber = fiber_new(STACK_SIZE);
    mem_free(own->argv); /* of the last script that was suspended */
    own->argv = NULL;
    own->c = *c;
    return &own->c;
}

static void run_on_stack(void *arg) {
    dispatch_run(arg);
}

/* One block: the slices, then the bytes. */
static struct slice *copy_argv(int argc, const struct slice *argv) {
    size_t bytes = sizeof *argv * (size_t)argc;
    for (int i = 0; i < argc; i++) bytes += argv[i].len;
    struct slice *copy = mem_alloc(bytes);
    char *p = (char *)(copy + argc);
    for (int i = 0; i < argc; i++) {
        if (argv[i].len) memcpy(p, argv[i].ptr, argv[i].len);
        copy[i] = (struct slice){ p, argv[i].len };
        p += argv[i].len;
    }
    return copy;
}

bool scripts_run(struct scripts *sc, struct cmd_ctx *c) {
    struct own_stack *own = &sc->stacks[c->s->slot];
    if (fiber_run(own->fiber, run_on_stack, c)) return true;
    own->is_suspended = true;
    effects_swap(sc->eng, c->s->slot, &own->effects);
    own->argv = copy_argv(c->argc, c->argv); /* the buffer of the connection will be used for others */
    c->argv = own->argv;
    crash_note_command(NULL);
    return false;
}

struct cmd_ctx *scripts_continue(struct scripts *sc, unsigned slot) {
    struct own_stack *own = &sc->stacks[slot];
    own->slice_end_us = clock_mono_us() + SLICE_US;
    crash_note_command(own->c.cmd->full_name);
    effects_swap(sc->eng, slot, &own->effects);
    bool done = fiber_continue(own->fiber);
    crash_note_command(NULL);
    if (!done) {
        effects_swap(sc->eng, slot, &own->effects);
        return NULL;
    }
    own->is_suspended = false;
    return &own->c;
}

/* ---- the run ---- */

void scripts_set_threshold(struct scripts *sc, int64_t ms) {
    atomic_store_explicit(&sc->threshold_ms, ms, memory_order_relaxed);
}

void scripts_stop(struct scripts *sc) {
    atomic_store(&sc->is_stopping, true);
}

void control_begin(struct script_run *run) {
    struct scripts *sc = run->vm->sc;
    run->start_us = clock_mono_us();
    atomic_store_explicit(&sc->runs_eval, run->is_eval, memory_order_relaxed);
    atomic_store_explicit(&sc->state, RUN_READING, memory_order_release);
}

static void forget_about(struct scripts *sc) {
    pthread_mutex_lock(&sc->about_lock);
    mem_free(sc->about.name);
    mem_free(sc->about.argv);
    memset(&sc->about, 0, sizeof sc->about);
    pthread_mutex_unlock(&sc->about_lock);
}

void control_end(struct script_run *run) {
    struct scripts *sc = run->vm->sc;
    atomic_store_explicit(&sc->state, RUN_NONE, memory_order_release);
    if (run->is_killed) lua_sethook(run->vm->L, run_hook, LUA_MASKCOUNT, HOOK_INSTRUCTIONS);
    if (!run->is_slow) return;
    forget_about(sc);
    ks_set_held(sc->eng->ks, false);
}

bool control_may_write(struct script_run *run) {
    int state = RUN_READING;
    if (run->has_written) return true;
    return atomic_compare_exchange_strong(&run->vm->sc->state, &state, RUN_WRITING) || state == RUN_WRITING;
}

const char *control_kill_text(const struct script_run *run) {
    if (atomic_load(&run->vm->sc->is_stopping)) return "Script ended because the server does";
    return "Script killed by user with SCRIPT KILL..."; /* of functions, too */
}

/* From now on on every line, so that a pcall that catches it gets no further. */
static void kill_script(lua_State *L, struct script_run *run) {
    if (!run->is_killed) log_notice("%s", control_kill_text(run));
    run->is_killed = true;
    lua_sethook(L, run_hook, LUA_MASKLINE, 0);
    lua_sethook(run->vm->L, run_hook, LUA_MASKLINE, 0);
    api_push_error(L, control_kill_text(run));
    lua_error(L);
}

void control_caught(lua_State *L) {
    struct script_run *run = vm_of(L)->sc->run;
    if (run && run->is_killed) kill_script(L, run);
}

static void become_slow(struct script_run *run, int64_t ran_ms) {
    struct scripts *sc = run->vm->sc;
    const struct cmd_ctx *c = run->c;
    log_warning("Slow script detected: still in execution after %lld milliseconds. You can try killing the script using the %s "
                "command. Script name is: %s.",
                (long long)ran_ms, run->is_eval ? "SCRIPT KILL" : "FUNCTION KILL", run->name);
    run->is_slow = true;
    pthread_mutex_lock(&sc->about_lock);
    sc->about.name = mem_strdup(run->name);
    sc->about.argv = copy_argv(c->argc, c->argv);
    sc->about.argc = c->argc;
    sc->about.start_us = run->start_us;
    pthread_mutex_unlock(&sc->about_lock);
    ks_set_held(sc->eng->ks, true);
}

static bool is_to_end(struct scripts *sc) {
    return atomic_load_explicit(&sc->state, memory_order_acquire) == RUN_KILLED || atomic_load(&sc->is_stopping);
}

void control_look(lua_State *L, struct script_run *run) {
    struct scripts *sc = run->vm->sc;
    if (is_to_end(sc)) kill_script(L, run);
    struct own_stack *own = &sc->stacks[run->c->s->slot];
    int64_t now_us = clock_mono_us(), threshold_ms = atomic_load_explicit(&sc->threshold_ms, memory_order_relaxed);
    if (!run->is_slow) {
        int64_t ran_ms = (now_us - run->start_us) / 1000;
        if (threshold_ms <= 0 || ran_ms < threshold_ms) return;
        become_slow(run, ran_ms);
    } else if (now_us < own->slice_end_us) {
        return;
    }
    fiber_stop(own->fiber);
    if (is_to_end(sc)) kill_script(L, run);
}

/* ---- commands; no lock is held ---- */

static const char busy_eval[] = "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.";
static const char busy_function[] = "BUSY Redis is busy running a script. You can only call FUNCTION KILL or SHUTDOWN NOSAVE.";

const char *scripts_busy_text(const struct scripts *sc) {
    return atomic_load_explicit(&sc->runs_eval, memory_order_relaxed) ? busy_eval : busy_function;
}

static const char notbusy[] = "NOTBUSY No scripts in execution right now.";
static const char unkillable[] = "UNKILLABLE Sorry the script already executed write commands against the dataset. You can "
                                 "either wait the script termination or "
                                 "kill the server in a hard way using the SHUTDOWN NOSAVE command.";

static void kill_running(struct cmd_ctx *c, bool is_eval) {
    struct scripts *sc = scripts_of(c);
    int state = RUN_READING;
    if (!ks_is_held(c->ks)) {
        reply_error(c->r, notbusy);
    } else if (atomic_load(&sc->state) == RUN_WRITING) {
        reply_error(c->r, unkillable);
    } else if (atomic_load(&sc->runs_eval) != is_eval) {
        reply_error(c->r, scripts_busy_text(sc));
    } else if (atomic_compare_exchange_strong(&sc->state, &state, RUN_KILLED) || state == RUN_KILLED) {
        reply_ok(c->r);
    } else {
        reply_error(c->r, state == RUN_WRITING ? unkillable : notbusy);
    }
}

void script_kill_command(struct cmd_ctx *c) {
    kill_running(c, true);
}

void function_kill_command(struct cmd_ctx *c) {
    kill_running(c, false);
}

static void reply_running(struct cmd_ctx *c, struct scripts *sc) {
    pthread_mutex_lock(&sc->about_lock);
    if (!sc->about.name) {
        reply_null(c->r);
    } else {
        reply_map(c->r, 3);
        reply_bulk_cstr(c->r, "name");
        reply_bulk_cstr(c->r, sc->about.name);
        reply_bulk_cstr(c->r, "command");
        reply_array(c->r, (size_t)sc->about.argc);
        for (int i = 0; i < sc->about.argc; i++) reply_bulk_slice(c->r, sc->about.argv[i]);
        reply_bulk_cstr(c->r, "duration_ms");
        reply_int(c->r, (clock_mono_us() - sc->about.start_us) / 1000);
    }
    pthread_mutex_unlock(&sc->about_lock);
}

void function_stats_command(struct cmd_ctx *c) {
    struct scripts_figures f;
    if (ks_is_held(c->ks) && atomic_load(&scripts_of(c)->runs_eval)) {
        dispatch_reply_busy(c);
        return;
    }
    scripts_figures_get(scripts_of(c), &f);
    reply_map(c->r, 2);
    reply_bulk_cstr(c->r, "running_script");
    reply_running(c, scripts_of(c));
    reply_bulk_cstr(c->r, "engines");
    reply_map(c->r, 1);
    reply_bulk_cstr(c->r, "LUA");
    reply_map(c->r, 2);
    reply_bulk_cstr(c->r, "libraries_count");
    reply_int(c->r, (int64_t)f.n_libraries);
    reply_bulk_cstr(c->r, "functions_count");
    reply_int(c->r, (int64_t)f.n_functions);
}
