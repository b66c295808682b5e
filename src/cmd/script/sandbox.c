/*
 * Interpreters. What a script sees is what is put here, and nothing of it can be changed: see sandbox_table.c and sandbox_lib.c.
 *
 * The globals that scripts run with are a stand-in, too. Behind it, for functions, are other globals while a library is loaded:
 * the two are exchanged in the stand-in's metatable, because functions keep the environment they were made in.
 */
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/crash.h"
#include "base/log.h"
#include "cmd/script/script_priv.h"
#include "data/lazyfree.h"

/* These come after lua.h: they include nothing. */
#include <lua-bitop.h>
#include <lua-cjson.h>

/* Places in the registry. */
static char globals_key, real_globals_key, loading_globals_key;

/* ---- memory ---- */

static void *vm_alloc(void *arg, void *ptr, size_t old_size, size_t size) {
    struct vm *vm = arg;
    size_t now = atomic_load_explicit(&vm->bytes, memory_order_relaxed) - old_size + size;
    if (size == 0) {
        mem_free(ptr);
        atomic_store_explicit(&vm->bytes, now, memory_order_relaxed);
        return NULL;
    }
    void *p = mem_try_realloc(ptr, size);
    if (p) atomic_store_explicit(&vm->bytes, now, memory_order_relaxed);
    return p;
}

struct vm *vm_of(lua_State *L) {
    void *vm;
    lua_getallocf(L, &vm);
    return vm;
}

/* ---- making one ---- */

static int panic(lua_State *L) {
    const char *text = lua_tostring(L, -1);
    log_warning("Lua: unprotected error: %s", text ? text : "(no text)");
    crash_panic();
}

static void open_library(lua_State *L, const char *name, lua_CFunction open) {
    lua_pushcfunction(L, open);
    lua_pushstring(L, name);
    lua_call(L, 1, 1);
    if (*name) lua_setfield(L, LUA_GLOBALSINDEX, name);
    lua_settop(L, 0);
}

/* From the table at `from` into the one at `to`; tables become stand-ins. */
static void copy_names(lua_State *L, int from, int to, const char *const *names) {
    for (; *names; names++) {
        lua_getfield(L, from, *names);
        if (lua_istable(L, -1)) protect_table(L);
        lua_setfield(L, to, *names);
    }
}

static void set_registry(lua_State *L, char *key, int idx) {
    lua_pushlightuserdata(L, key);
    lua_pushvalue(L, idx);
    lua_rawset(L, LUA_REGISTRYINDEX);
}

static void get_registry(lua_State *L, char *key) {
    lua_pushlightuserdata(L, key);
    lua_rawget(L, LUA_REGISTRYINDEX);
}

static void put_api(lua_State *L, int to) {
    protect_table(L);
    lua_pushvalue(L, -1);
    lua_setfield(L, to, "redis");
    lua_setfield(L, to, "server");
}

/* Stack: 1 the real globals. Pushes the globals of a library's code while it is loaded. */
static void open_loading(lua_State *L) {
    lua_newtable(L);
    api_open_loading(L);
    lua_createtable(L, 0, 1);
    lua_pushcfunction(L, protect_missing_global);
    lua_setfield(L, -2, "__index");
    lua_setmetatable(L, -2);
    put_api(L, lua_gettop(L) - 1);
    protect_globals(L);
}

static int open_all(lua_State *L) {
    static const char *const seen[] = {
        "_VERSION",     "assert",   "bit",      "cjson",      "cmsgpack", "collectgarbage", "coroutine", "error",
        "gcinfo",       "ipairs",   "load",     "loadstring", "math",     "next",           "os",        "pairs",
        "pcall",        "rawequal", "rawget",   "rawset",     "select",   "struct",         "string",    "table",
        "setmetatable", "tonumber", "tostring", "type",       "unpack",   "xpcall",         NULL
    };
    struct vm *vm = vm_of(L);
    open_library(L, "", luaopen_base);
    open_library(L, LUA_TABLIBNAME, luaopen_table);
    open_library(L, LUA_STRLIBNAME, luaopen_string);
    open_library(L, LUA_MATHLIBNAME, luaopen_math);
    open_library(L, "cjson", luaopen_cjson);
    open_library(L, "bit", luaopen_bit);
    open_library(L, "cmsgpack", luaopen_cmsgpack);
    open_library(L, "struct", luaopen_struct);
    lua_pushvalue(L, LUA_GLOBALSINDEX);
    sandbox_replace_functions(L);
    sandbox_guard_libraries(L);
    lua_newtable(L); /* 2: the globals that scripts see */
    copy_names(L, 1, 2, seen);
    api_open(L, vm->is_functions);
    put_api(L, 2);
    set_registry(L, &real_globals_key, 2);
    lua_pushvalue(L, 2);
    protect_globals(L); /* 3 */
    lua_pushvalue(L, 3);
    lua_setfield(L, 2, "_G");
    lua_getfield(L, 2, "string");
    sandbox_push_getmetatable(L, 3, 4);
    lua_setfield(L, 2, "getmetatable");
    set_registry(L, &globals_key, 3);
    if (vm->is_functions) {
        open_loading(L);
        /* What stands behind it is what is exchanged. */
        protect_resolve(L, lua_gettop(L));
        set_registry(L, &loading_globals_key, lua_gettop(L));
    }
    lua_pushvalue(L, 3);
    lua_replace(L, LUA_GLOBALSINDEX);
    return 0;
}

struct vm *vm_new(struct scripts *sc, bool is_functions) {
    struct vm *vm = mem_zalloc(sizeof *vm);
    vm->sc = sc;
    vm->is_functions = is_functions;
    vm->L = lua_newstate(vm_alloc, vm);
    if (!vm->L || lua_cpcall(vm->L, open_all, NULL) != 0) {
        log_warning("Out of memory: no Lua interpreter");
        crash_panic();
    }
    lua_atpanic(vm->L, panic);
    lua_sethook(vm->L, run_hook, LUA_MASKCOUNT, HOOK_INSTRUCTIONS);
    return vm;
}

struct vm *vm_free(struct vm *vm) {
    if (!vm) return NULL;
    lua_close(vm->L);
    mem_free(vm);
    return NULL;
}

static void free_cb(void *vm) {
    vm_free(vm);
}

void vm_free_lazily(struct vm *vm_take) {
    if (vm_take) lazyfree_push(free_cb, vm_take, 1);
}

void vm_set_global(struct vm *vm, const char *name) {
    lua_State *L = vm->L;
    get_registry(L, &real_globals_key);
    lua_insert(L, -2);
    lua_pushstring(L, name);
    lua_insert(L, -2);
    lua_rawset(L, -3);
    lua_pop(L, 1);
}

void vm_set_loading(struct vm *vm, bool is_loading) {
    lua_State *L = vm->L;
    get_registry(L, &globals_key);
    get_registry(L, is_loading ? &loading_globals_key : &real_globals_key);
    protect_exchange(L);
}

/* ---- errors ---- */

static bool where(lua_State *L, int level, lua_Debug *d) {
    return lua_getstack(L, level, d) && lua_getinfo(L, "nSl", d);
}

/* Pushes it as the Lua function tostring would, without calling anything of the script's. */
static void push_text(lua_State *L, int idx) {
    switch (lua_type(L, idx)) {
    case LUA_TSTRING:
    case LUA_TNUMBER:
        lua_pushvalue(L, idx);
        lua_tostring(L, -1);
        break;
    case LUA_TBOOLEAN:
        lua_pushstring(L, lua_toboolean(L, idx) ? "true" : "false");
        break;
    case LUA_TNIL:
        lua_pushliteral(L, "nil");
        break;
    default:
        lua_pushfstring(L, "%s: %p", luaL_typename(L, idx), lua_topointer(L, idx));
        break;
    }
}

int vm_error_handler(lua_State *L) {
    lua_Debug d;
    lua_settop(L, 1);
    bool known = where(L, 1, &d);
    if (known && d.what && strcmp(d.what, "C") == 0) known = where(L, 2, &d);
    if (!lua_istable(L, 1) || protect_resolve(L, 1)) {
        lua_newtable(L);
        lua_pushliteral(L, "ERR ");
        push_text(L, 1);
        lua_concat(L, 2);
        lua_setfield(L, 2, "err");
        lua_replace(L, 1);
    }
    if (!known) return 1;
    lua_pushliteral(L, "source");
    lua_pushstring(L, d.source);
    lua_rawset(L, 1);
    lua_pushliteral(L, "line");
    lua_pushinteger(L, d.currentline);
    lua_rawset(L, 1);
    return 1;
}
