/*
 * `redis`, as scripts have it: redis.call and its relatives. A command that a script runs goes through dispatch_run like any
 * other, with a session of its own (scripts.s), because what it does to the session, SELECT for one, is not the client's
 * business, and its reply is for the script.
 */
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"
#include "cmd/acl.h"
#include "cmd/exec.h"
#include "cmd/script/script_priv.h"

#define REDIS_VERSION "7.2.4" /* what scripts that look at it are told */
#define REDIS_VERSION_NUM 0x00070204

enum { REPL_NONE = 0, REPL_AOF = 1, REPL_REPLICA = 2, REPL_ALL = 3 };

static struct script_run *run_of(lua_State *L) {
    return vm_of(L)->sc->run;
}

/* ---- errors ---- */

void api_push_error(lua_State *L, const char *text) {
    lua_createtable(L, 0, 2);
    if (*text == '-')
        lua_pushstring(L, text + 1);
    else
        lua_pushfstring(L, "ERR %s", text);
    lua_setfield(L, -2, "err");
}

static int raise(lua_State *L, const char *text) {
    api_push_error(L, text);
    return lua_error(L);
}

/* ---- redis.call ---- */

static void reserve_argv(struct scripts *sc, int n) {
    if (n <= sc->argv_cap) return;
    sc->argv_cap = n < 32 ? 32 : n;
    sc->argv = mem_realloc(sc->argv, sizeof *sc->argv * (size_t)sc->argv_cap);
    sc->numbers = mem_realloc(sc->numbers, sizeof *sc->numbers * (size_t)sc->argv_cap);
}

/* As redis-server: whole numbers without exponent. */
static struct slice number_text(double d, char *text) {
    if (d >= -TWO_TO_62 && d < TWO_TO_62 && d == (double)(int64_t)d) return (struct slice){ text, str_from_ll(text, (int64_t)d) };
    char wide[64];
    size_t n = str_from_double(wide, d);
    memcpy(text, wide, n);
    return (struct slice){ text, n };
}

/* The call's arguments; strings stay Lua's, which keeps them as long as they are on its stack. False: one is neither string nor
 * number. */
static bool take_arguments(lua_State *L, struct scripts *sc, int argc) {
    reserve_argv(sc, argc);
    for (int i = 0; i < argc; i++) {
        int type = lua_type(L, i + 1);
        if (type == LUA_TSTRING) {
            sc->argv[i].ptr = lua_tolstring(L, i + 1, &sc->argv[i].len);
        } else if (type == LUA_TNUMBER) {
            sc->argv[i] = number_text(lua_tonumber(L, i + 1), sc->numbers[i]);
        } else {
            return false;
        }
    }
    return true;
}

/* Commands that work without a client, and within the locks and the interpreter that a script has. redis-server's tests may run
 * all; here the others would change a connection that is not there, wait, or start another script in this one's interpreter. */
static bool is_allowed_for_tests(const struct scripts *sc, const struct cmd *cmd) {
    static const char *const others[] = { "save",          "bgsave", "bgrewriteaof", "script|exists", "function|list",
                                          "function|dump", NULL };
    if (!atomic_load_explicit(&sc->eng->allow_noscript, memory_order_relaxed)) return false;
    if ((cmd->flags & CMD_PROTECTED) || (cmd->parent && (cmd->cats & CAT_ADMIN) && !(cmd->cats & CAT_CONNECTION))) return true;
    for (int i = 0; others[i]; i++)
        if (strcmp(cmd->full_name, others[i]) == 0) return true;
    return false;
}

/* Why the script must not run the command, or NULL. What depends on the state of the server is not asked any more once the script
 * has written: half of its work would be done then. */
static const char *refusal(struct scripts *sc, struct script_run *run, const struct cmd *cmd, int argc) {
    if (!cmd) return "Unknown Redis command called from script";
    if (!cmd_arity_ok(cmd, argc) || !cmd->spec->run) return "Wrong number of args calling Redis command from script";
    if ((cmd->flags & CMD_NOSCRIPT) && !is_allowed_for_tests(sc, cmd)) return "This Redis command is not allowed from script";
    if (run->is_read_only && (cmd->flags & (CMD_WRITE | CMD_MAY_REPLICATE)))
        return "Write commands are not allowed from read-only scripts.";
    if (run->c->s->applies) return NULL; /* where it comes from it has run */
    if (!(cmd->flags & CMD_STALE) && run_is_stale(sc->eng)) return "Can not execute the command on a stale replica";
    if ((cmd->flags & CMD_WRITE) && !run->has_written) {
        static _Thread_local char text[512];
        const char *why = run_no_writes(sc->eng);
        if (why) snprintf(text, sizeof text, "-%s", why);
        if (why) return text;
    }
    if ((cmd->flags & CMD_DENYOOM) && run->out_of_memory && !run->has_written && !(run->flags & SCRIPT_ALLOW_OOM))
        return "-OOM command not allowed when used memory > 'maxmemory'.";
    return NULL;
}

static void count_refusal(struct scripts *sc, struct cmd *cmd, const char *text) {
    if (cmd) atomic_fetch_add_explicit(&cmd->rejected, 1, memory_order_relaxed);
    engine_count_error(sc->eng, *text == '-' ? text + 1 : "ERR");
}

static void run_command(struct scripts *sc, struct script_run *run, struct cmd *cmd, int argc) {
    struct cmd_ctx c = *run->c;
    if (cmd->flags & CMD_WRITE) run->has_written = true;
    c.cmd = cmd;
    c.argc = argc;
    c.argv = sc->argv;
    c.s = &sc->s;
    c.r = &sc->s.reply;
    c.db = atomic_load_explicit(&sc->s.db, memory_order_relaxed);
    c.in_exec = c.deny_blocking = true;
    c.script = run->c;
    c.script_repl = run->repl;
    c.start = clock_ticks();
    int key = dispatch_single_key(cmd);
    if (key > 0 && key < argc) ks_hint(c.ks, sc->argv[key]);
    dispatch_run(&c);
    ks_no_hint();
}

static void push_refusal(lua_State *L, struct scripts *sc, struct cmd *cmd, const char *text) {
    count_refusal(sc, cmd, text);
    api_push_error(L, text);
    lua_pushboolean(L, 1);
    lua_setfield(L, -2, "ignore_error_stats_update");
}

/* The text is freed before anything that Lua could raise. */
static void push_denial(lua_State *L, struct scripts *sc, struct cmd *cmd, char *text_take) {
    char text[512];
    snprintf(text, sizeof text, "-ERR %s", text_take);
    mem_free(text_take);
    push_refusal(L, sc, cmd, text);
}

/* True: what is pushed is an error. */
static bool call(lua_State *L) {
    struct scripts *sc = vm_of(L)->sc;
    struct script_run *run = sc->run;
    int argc = lua_gettop(L);
    if (argc == 0) {
        api_push_error(L, "Please specify at least one argument for this redis lib call");
        return true;
    }
    if (!take_arguments(L, sc, argc)) {
        api_push_error(L, "Lua redis lib command arguments must be strings or integers");
        return true;
    }
    luaL_checkstack(L, 20, NULL);
    struct cmd *cmd = dispatch_look_up(sc->eng, &sc->s, argc, sc->argv);
    const char *why = refusal(sc, run, cmd, argc);
    if (why) {
        push_refusal(L, sc, cmd, why);
        return true;
    }
    char *denied = acl_script_refusal(sc->eng, run->c->s, cmd, argc, sc->argv);
    if (denied) {
        push_denial(L, sc, cmd, denied);
        return true;
    }
    if ((cmd->flags & CMD_WRITE) && !control_may_write(run)) {
        api_push_error(L, control_kill_text(run));
        lua_error(L);
    }
    run_command(sc, run, cmd, argc);
    convert_reply(L, &sc->out, &sc->flat, run->resp);
    obuf_consume(&sc->out, sc->out.bytes);
    if (!lua_istable(L, -1)) return false;
    lua_getfield(L, -1, "err");
    bool is_error = lua_isstring(L, -1);
    lua_pop(L, 1);
    return is_error;
}

static int api_call(lua_State *L) {
    return call(L) ? lua_error(L) : 1;
}

static int api_pcall(lua_State *L) {
    call(L);
    return 1;
}

static int api_acl_check_cmd(lua_State *L) {
    struct scripts *sc = vm_of(L)->sc;
    int argc = lua_gettop(L);
    if (argc == 0) return raise(L, "Please specify at least one argument for this redis lib call");
    if (!take_arguments(L, sc, argc)) return raise(L, "Lua redis lib command arguments must be strings or integers");
    struct cmd *cmd = cmd_lookup_argv(sc->eng->table, argc, sc->argv);
    if (!cmd) return raise(L, "Invalid command passed to redis.acl_check_cmd()");
    lua_pushboolean(L, acl_session_may(sc->eng, sc->run->c->s, cmd, argc, sc->argv));
    return 1;
}

/* ---- the rest ---- */

static int api_log(lua_State *L) {
    static const enum log_level levels[] = { LOG_LEVEL_DEBUG, LOG_LEVEL_VERBOSE, LOG_LEVEL_NOTICE, LOG_LEVEL_WARNING };
    int argc = lua_gettop(L);
    if (argc < 2) return raise(L, "redis.log() requires two arguments or more.");
    if (!lua_isnumber(L, 1)) return raise(L, "First argument must be a number (log level).");
    lua_Integer level = lua_tointeger(L, 1);
    if (level < 0 || level > 3) return raise(L, "Invalid debug level.");
    if (levels[level] < log_get_level()) return 0;
    struct buf line = { 0 };
    for (int i = 2; i <= argc; i++) {
        size_t len;
        const char *s = lua_tolstring(L, i, &len);
        if (!s) continue;
        if (i > 2) buf_append_char(&line, ' ');
        buf_append(&line, s, len);
    }
    for (size_t i = 0; i < line.len; i++) /* a script's text must not look like a line of the server's */
        if (line.data[i] == '\n' || line.data[i] == '\r' || line.data[i] == 0) line.data[i] = ' ';
    log_msg(levels[level], "%s", buf_cstr(&line));
    buf_done(&line);
    return 0;
}

static int api_sha1hex(lua_State *L) {
    char hex[SHA1_HEX + 1];
    if (lua_gettop(L) != 1) return raise(L, "wrong number of arguments");
    size_t len;
    const char *s = lua_tolstring(L, 1, &len);
    sha1_hex((struct slice){ s ? s : "", s ? len : 0 }, hex);
    lua_pushstring(L, hex);
    return 1;
}

/* A table with one field, the string given. */
static int single_field(lua_State *L, const char *field) {
    if (lua_gettop(L) != 1 || lua_type(L, -1) != LUA_TSTRING) {
        api_push_error(L, "wrong number or type of arguments");
        return 1;
    }
    lua_createtable(L, 0, 1);
    lua_pushvalue(L, 1);
    lua_setfield(L, -2, field);
    return 1;
}

static int api_status_reply(lua_State *L) {
    return single_field(L, "ok");
}

/* A text of one word gets the code ERR before it; a dash in front, as on the wire, goes. */
static int api_error_reply(lua_State *L) {
    if (lua_gettop(L) != 1 || lua_type(L, -1) != LUA_TSTRING) return single_field(L, "err");
    size_t len;
    const char *s = lua_tolstring(L, 1, &len);
    bool dash = *s == '-', coded = memchr(s, ' ', len) != NULL;
    lua_pushstring(L, coded ? "" : "ERR ");
    lua_pushlstring(L, s + dash, len - dash);
    lua_concat(L, 2);
    lua_replace(L, 1);
    return single_field(L, "err");
}

static int api_set_repl(lua_State *L) {
    if (lua_gettop(L) != 1) return raise(L, "redis.set_repl() requires two arguments.");
    lua_Number flags = lua_tonumber(L, 1);
    if (!(flags >= REPL_NONE && flags <= REPL_ALL))
        return raise(L, "Invalid replication flags. Use REPL_AOF, REPL_REPLICA, REPL_ALL or REPL_NONE.");
    struct script_run *run = run_of(L);
    if (run) run->repl = (unsigned)flags;
    return 0;
}

static int api_replicate_commands(lua_State *L) {
    lua_pushboolean(L, 1);
    return 1;
}

static int api_setresp(lua_State *L) {
    if (lua_gettop(L) != 1) return raise(L, "redis.setresp() requires one argument.");
    lua_Integer resp = lua_tointeger(L, 1);
    if (resp != 2 && resp != 3) return raise(L, "RESP version must be 2 or 3.");
    struct script_run *run = run_of(L);
    run->resp = (int)resp;
    session_set_resp(&vm_of(L)->sc->s, (int)resp);
    return 0;
}

/* redis.breakpoint says whether it stopped: there is no debugger. */
static int api_breakpoint(lua_State *L) {
    lua_pushboolean(L, 0);
    return 1;
}

static int api_debug(lua_State *L) {
    (void)L;
    return 0;
}

static void put_integer(lua_State *L, const char *name, lua_Integer v) {
    lua_pushinteger(L, v);
    lua_setfield(L, -2, name);
}

/* What there is from the first line of a library on. */
static void put_common(lua_State *L) {
    lua_pushcfunction(L, api_log);
    lua_setfield(L, -2, "log");
    put_integer(L, "LOG_DEBUG", 0);
    put_integer(L, "LOG_VERBOSE", 1);
    put_integer(L, "LOG_NOTICE", 2);
    put_integer(L, "LOG_WARNING", 3);
    put_integer(L, "REDIS_VERSION_NUM", REDIS_VERSION_NUM);
    lua_pushliteral(L, REDIS_VERSION);
    lua_setfield(L, -2, "REDIS_VERSION");
}

void api_open(lua_State *L, bool is_functions) {
    static const luaL_Reg functions[] = { { "call", api_call },
                                          { "pcall", api_pcall },
                                          { "acl_check_cmd", api_acl_check_cmd },
                                          { "sha1hex", api_sha1hex },
                                          { "status_reply", api_status_reply },
                                          { "error_reply", api_error_reply },
                                          { "set_repl", api_set_repl },
                                          { "setresp", api_setresp },
                                          { NULL, NULL } };
    static const luaL_Reg eval_only[] = {
        { "replicate_commands", api_replicate_commands }, { "breakpoint", api_breakpoint }, { "debug", api_debug }, { NULL, NULL }
    };
    lua_createtable(L, 0, 24);
    put_common(L);
    luaL_register(L, NULL, functions);
    if (!is_functions) luaL_register(L, NULL, eval_only);
    put_integer(L, "REPL_NONE", REPL_NONE);
    put_integer(L, "REPL_AOF", REPL_AOF);
    put_integer(L, "REPL_SLAVE", REPL_REPLICA);
    put_integer(L, "REPL_REPLICA", REPL_REPLICA);
    put_integer(L, "REPL_ALL", REPL_ALL);
}

void api_open_loading(lua_State *L) {
    lua_createtable(L, 0, 8);
    put_common(L);
    lua_pushcfunction(L, api_register_function);
    lua_setfield(L, -2, "register_function");
}
