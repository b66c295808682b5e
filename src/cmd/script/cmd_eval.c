/* EVAL, EVALSHA, their _RO forms, and SCRIPT. All shards are locked, but for SCRIPT KILL, DEBUG and HELP. */
#include <ctype.h>

#include "base/str.h"
#include "cmd/script/script_priv.h"

bool script_numkeys(struct cmd_ctx *c, const char *not_a_number, int *ret) {
    int64_t n;
    if (!cmd_arg_ll(c, c->argv[2], &n, not_a_number)) return false;
    if (n > c->argc - 3) {
        reply_error(c->r, "ERR Number of keys can't be greater than number of args");
        return false;
    }
    if (n < 0) {
        reply_error(c->r, "ERR Number of keys can't be negative");
        return false;
    }
    *ret = (int)n;
    return true;
}

/* Pushes a table of n arguments. Lua raises when memory is out: then the whole server is at its end, as everywhere. */
void script_push_arguments(lua_State *L, const struct slice *argv, int n) {
    lua_createtable(L, n, 0);
    for (int i = 0; i < n; i++) {
        lua_pushlstring(L, argv[i].ptr, argv[i].len);
        lua_rawseti(L, -2, i + 1);
    }
}

static void run(struct cmd_ctx *c, struct script *s, int n_keys, bool is_read_only) {
    struct vm *vm = scripts_eval_vm(scripts_of(c));
    struct script_run run = { .vm = vm, .name = s->sha, .flags = s->flags, .is_eval = true };
    run.is_read_only = is_read_only || (s->flags & SCRIPT_NO_WRITES);
    if (!run_allowed(c, s->flags, is_read_only)) return;
    script_push_arguments(vm->L, c->argv + 3, n_keys);
    vm_set_global(vm, "KEYS");
    script_push_arguments(vm->L, c->argv + 3 + n_keys, c->argc - 3 - n_keys);
    vm_set_global(vm, "ARGV");
    lua_rawgeti(vm->L, LUA_REGISTRYINDEX, s->ref);
    run_script(c, &run, 0);
}

static void eval(struct cmd_ctx *c, bool is_read_only) {
    char sha[SHA1_HEX + 1];
    int n_keys;
    dispatch_show(c);
    if (!script_numkeys(c, NULL, &n_keys)) return;
    sha1_hex(c->argv[1], sha);
    struct script *s = cache_find(scripts_of(c), sha);
    if (!s) s = cache_add(c, c->argv[1], sha);
    if (s) run(c, s, n_keys, is_read_only);
}

static bool take_sha(struct slice arg, char out[SHA1_HEX + 1]) {
    if (arg.len != SHA1_HEX) return false;
    for (int i = 0; i < SHA1_HEX; i++) out[i] = (char)tolower((unsigned char)arg.ptr[i]);
    out[SHA1_HEX] = 0;
    return true;
}

static struct script *find_by_argument(struct cmd_ctx *c, struct slice arg) {
    char sha[SHA1_HEX + 1];
    return take_sha(arg, sha) ? cache_find(scripts_of(c), sha) : NULL;
}

static void evalsha(struct cmd_ctx *c, bool is_read_only) {
    int n_keys;
    dispatch_show(c);
    if (c->argv[1].len != SHA1_HEX) {
        reply_error(c->r, "NOSCRIPT No matching script. Please use EVAL.");
        return;
    }
    if (!script_numkeys(c, NULL, &n_keys)) return;
    struct script *s = find_by_argument(c, c->argv[1]);
    if (s)
        run(c, s, n_keys, is_read_only);
    else
        reply_error(c->r, "NOSCRIPT No matching script. Please use EVAL.");
}

void eval_command(struct cmd_ctx *c) {
    eval(c, false);
}

void eval_ro_command(struct cmd_ctx *c) {
    eval(c, true);
}

void evalsha_command(struct cmd_ctx *c) {
    evalsha(c, false);
}

void evalsha_ro_command(struct cmd_ctx *c) {
    evalsha(c, true);
}

/* ---- SCRIPT ---- */

void script_load_command(struct cmd_ctx *c) {
    char sha[SHA1_HEX + 1];
    sha1_hex(c->argv[2], sha);
    if (cache_find(scripts_of(c), sha) || cache_add(c, c->argv[2], sha)) reply_bulk(c->r, sha, SHA1_HEX);
    scripts_note_memory(scripts_of(c));
}

void script_exists_command(struct cmd_ctx *c) {
    reply_array(c->r, (size_t)c->argc - 2);
    for (int i = 2; i < c->argc; i++) reply_int(c->r, find_by_argument(c, c->argv[i]) != NULL);
}

bool script_flush_mode(struct cmd_ctx *c, const char *error, bool *ret_async) {
    *ret_async = atomic_load_explicit(&c->eng->lazy_user_flush, memory_order_relaxed);
    if (c->argc == 2) return true;
    if (c->argc == 3 && slice_ieq(c->argv[2], "async")) {
        *ret_async = true;
        return true;
    }
    if (c->argc == 3 && slice_ieq(c->argv[2], "sync")) {
        *ret_async = false;
        return true;
    }
    reply_error(c->r, error);
    return false;
}

void script_flush_command(struct cmd_ctx *c) {
    bool async;
    if (!script_flush_mode(c, "ERR SCRIPT FLUSH only support SYNC|ASYNC option", &async)) return;
    cache_flush(scripts_of(c), async);
    reply_ok(c->r);
}

/* There is no debugger; switching it off is always possible. */
void script_debug_command(struct cmd_ctx *c) {
    if (slice_ieq(c->argv[2], "no"))
        reply_ok(c->r);
    else if (slice_ieq(c->argv[2], "yes") || slice_ieq(c->argv[2], "sync"))
        reply_error(c->r, "ERR SCRIPT DEBUG is not supported by this server");
    else
        reply_error(c->r, "ERR Use SCRIPT DEBUG YES/SYNC/NO");
}

void script_help_command(struct cmd_ctx *c) {
    static const char *const lines[] = {
        "DEBUG (YES|SYNC|NO)",
        "    Debug mode of scripts; only NO can be set.",
        "EXISTS <sha1> [<sha1> ...]",
        "    Which of the scripts are in the cache.",
        "FLUSH [ASYNC|SYNC]",
        "    Empty the cache of scripts. Without a mode lazyfree-lazy-user-flush decides:",
        "    * ASYNC: memory is freed in the background.",
        "    * SYNC: memory is freed at once.",
        "KILL",
        "    End the script that runs, if it has not written.",
        "LOAD <script>",
        "    Put a script into the cache without running it.",
        NULL,
    };
    cmd_help(c, lines);
}
