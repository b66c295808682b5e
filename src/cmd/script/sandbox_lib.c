/*
 * Functions of Lua's libraries that scripts get in another form than Lua has them:
 *
 * - those that could get round read-only tables (sandbox_table.c): rawset, rawget, next, pairs, getmetatable, setmetatable and
 * what table.* has for changing tables;
 * - load and loadstring take no compiled code, which Lua does not check before it runs it. load collects all of the pieces before
 * it compiles, because Lua's own may lose the chunk's name to a garbage collection in a reader function;
 * - pcall gives the text of an error table, as redis-server's does; xpcall calls its handler where it can be interrupted;
 * - math.random, the same sequence after each start; os.clock alone of os;
 * - unpack, bit.tohex, cjson.encode and the pattern functions check sizes that the originals trust.
 */
#include <limits.h>
#include <string.h>
#include <time.h>

#include "cmd/script/script_priv.h"

#define MAX_PATTERN 16384 /* bytes: matching recurs with the pattern's length */
#define MAX_JSON_DEPTH 1000
#define MAX_JSON ((size_t)1 << 30) /* bytes: cjson counts in int and doubles */

/* ---- tables ---- */

static int lib_next(lua_State *L) {
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 2);
    protect_resolve(L, 1);
    if (lua_next(L, 1)) return 2;
    lua_pushnil(L);
    return 1;
}

static int lib_pairs(lua_State *L) {
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_pushvalue(L, 1);
    lua_pushnil(L);
    return 3;
}

static int lib_rawget(lua_State *L) {
    luaL_checktype(L, 1, LUA_TTABLE);
    luaL_checkany(L, 2);
    lua_settop(L, 2);
    protect_resolve(L, 1);
    lua_rawget(L, 1);
    return 1;
}

static int lib_rawset(lua_State *L) {
    luaL_checktype(L, 1, LUA_TTABLE);
    luaL_checkany(L, 2);
    luaL_checkany(L, 3);
    lua_settop(L, 3);
    if (protect_resolve(L, 1)) return protect_error(L);
    lua_rawset(L, 1);
    return 1;
}

/* Upvalues: what is shown as the metatable of strings, and the globals with what is shown as theirs. */
static int lib_getmetatable(lua_State *L) {
    luaL_checkany(L, 1);
    lua_settop(L, 1);
    if (lua_type(L, 1) == LUA_TSTRING) {
        lua_pushvalue(L, lua_upvalueindex(1));
        return 1;
    }
    if (lua_rawequal(L, 1, lua_upvalueindex(2))) {
        lua_pushvalue(L, lua_upvalueindex(3));
        return 1;
    }
    if (protect_resolve(L, 1) || !lua_getmetatable(L, 1)) {
        lua_pushnil(L);
        return 1;
    }
    luaL_getmetafield(L, 1, "__metatable");
    return 1;
}

static int lib_setmetatable(lua_State *L) {
    int t = lua_type(L, 2);
    luaL_checktype(L, 1, LUA_TTABLE);
    luaL_argcheck(L, t == LUA_TNIL || t == LUA_TTABLE, 2, "nil or table expected");
    lua_settop(L, 2);
    if (protect_resolve(L, 1)) return protect_error(L);
    if (luaL_getmetafield(L, 1, "__metatable")) return luaL_error(L, "cannot change a protected metatable");
    lua_setmetatable(L, 1);
    return 1;
}

/* Goes on as the function of Lua's own that is upvalue i: in this call, so that its errors name the script's line. */
static int original(lua_State *L, int i) {
    return lua_tocfunction(L, lua_upvalueindex(i))(L);
}

/* table.insert and others: upvalue 1 is Lua's own. */
static int lib_changes_table(lua_State *L) {
    if (lua_gettop(L) > 0 && protect_resolve(L, 1)) return protect_error(L);
    return original(L, 1);
}

/* table.foreach: the function it calls sees keys and values, not the table. */
static int lib_reads_table(lua_State *L) {
    if (lua_gettop(L) > 0) protect_resolve(L, 1);
    return original(L, 1);
}

static int lib_unpack(lua_State *L) {
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_Integer i = luaL_optinteger(L, 2, 1), e = luaL_opt(L, luaL_checkinteger, 3, (lua_Integer)lua_objlen(L, 1));
    if (i > e) return 0;
    if (i < INT_MIN || e > INT_MAX || e - i >= INT_MAX || !lua_checkstack(L, (int)(e - i + 1)))
        return luaL_error(L, "too many results to unpack");
    for (lua_Integer at = i; at <= e; at++) lua_rawgeti(L, 1, (int)at);
    return (int)(e - i + 1);
}

/* ---- code ---- */

/* Gives the function, or nil and what is wrong. What begins as compiled code does is taken for text by a blank before it. */
static int compile(lua_State *L, const char *code, size_t len, const char *name) {
    if (len > 0 && code[0] == LUA_SIGNATURE[0]) {
        lua_pushliteral(L, " ");
        lua_pushlstring(L, code, len);
        lua_concat(L, 2);
        code = lua_tolstring(L, -1, &len);
    }
    if (luaL_loadbuffer(L, code, len, name) == 0) return 1;
    lua_pushnil(L);
    lua_insert(L, -2);
    return 2;
}

static int lib_loadstring(lua_State *L) {
    size_t len;
    const char *code = luaL_checklstring(L, 1, &len);
    return compile(L, code, len, luaL_optstring(L, 2, code));
}

static int lib_load(lua_State *L) {
    const char *name = luaL_optstring(L, 2, "=(load)");
    luaL_checktype(L, 1, LUA_TFUNCTION);
    lua_settop(L, 2);
    lua_newtable(L);
    int n = 0;
    for (;;) {
        size_t len;
        lua_pushvalue(L, 1);
        if (lua_pcall(L, 0, 1, 0) != 0) {
            lua_pushnil(L);
            lua_insert(L, -2);
            return 2;
        }
        if (lua_isnil(L, -1)) break;
        if (!lua_isstring(L, -1)) {
            lua_pushnil(L);
            lua_pushliteral(L, "reader function must return a string");
            return 2;
        }
        lua_tolstring(L, -1, &len);
        if (len == 0) break;
        lua_rawseti(L, 3, ++n);
    }
    luaL_Buffer b;
    luaL_buffinit(L, &b);
    for (int i = 1; i <= n; i++) {
        lua_rawgeti(L, 3, i);
        luaL_addvalue(&b);
    }
    luaL_pushresult(&b);
    size_t len;
    const char *code = lua_tolstring(L, -1, &len);
    return compile(L, code, len, name);
}

static int lib_pcall(lua_State *L) {
    int n = lua_gettop(L);
    if (n == 0) {
        lua_pushboolean(L, 0);
        lua_pushliteral(L, "attempt to call a boolean value");
        return 2;
    }
    lua_pushboolean(L, 1);
    lua_insert(L, 1);
    if (lua_pcall(L, n - 1, LUA_MULTRET, 0) == 0) return lua_gettop(L);
    control_caught(L);
    lua_settop(L, 2);
    lua_pushboolean(L, 0);
    lua_replace(L, 1);
    if (lua_istable(L, 2)) {
        lua_getfield(L, 2, "err");
        if (lua_isstring(L, -1)) lua_replace(L, 2);
    }
    return lua_gettop(L);
}

/* The handler is called when the error has got here, not where it was raised, which no script can tell: with no debug library
 * there is no looking at the stack. Called by Lua there, one that does not return could not be ended (hooks are off then). */
static int lib_xpcall(lua_State *L) {
    luaL_checkany(L, 2);
    lua_settop(L, 2);
    lua_insert(L, 1);
    bool ok = lua_pcall(L, 0, LUA_MULTRET, 0) == 0;
    if (!ok) control_caught(L);
    if (!ok && lua_pcall(L, 1, 1, 0) != 0) {
        control_caught(L);
        lua_pop(L, 1);
        lua_pushliteral(L, "error in error handling");
    }
    lua_pushboolean(L, ok);
    if (ok)
        lua_replace(L, 1);
    else
        lua_insert(L, 1);
    return lua_gettop(L);
}

/* What would outlast the script (stop, setpause...) is not done. */
static int lib_collectgarbage(lua_State *L) {
    static const char *const options[] = { "collect", "count", "step", "stop", "restart", "setpause", "setstepmul", NULL };
    int option = luaL_checkoption(L, 1, "collect", options);
    int arg = luaL_optint(L, 2, 0);
    switch (option) {
    case 0:
        lua_pushinteger(L, lua_gc(L, LUA_GCCOLLECT, 0));
        return 1;
    case 1:
        lua_pushnumber(L, lua_gc(L, LUA_GCCOUNT, 0) + lua_gc(L, LUA_GCCOUNTB, 0) / 1024.0);
        return 1;
    case 2:
        lua_pushboolean(L, lua_gc(L, LUA_GCSTEP, arg));
        return 1;
    default:
        lua_pushinteger(L, 0);
        return 1;
    }
}

/* ---- math, os, bit ---- */

static int lib_random(lua_State *L) {
    double r = (double)(scripts_random(vm_of(L)->sc) % INT32_MAX) / (double)INT32_MAX;
    int n = lua_gettop(L);
    if (n == 0) {
        lua_pushnumber(L, r);
        return 1;
    }
    if (n > 2) return luaL_error(L, "wrong number of arguments");
    int low = n == 2 ? luaL_checkint(L, 1) : 1, high = luaL_checkint(L, n);
    luaL_argcheck(L, low <= high, n, "interval is empty");
    double span = (double)high - (double)low + 1, at = r * span;
    lua_pushnumber(L, (double)(int64_t)at + low);
    return 1;
}

static int lib_randomseed(lua_State *L) {
    scripts_seed(vm_of(L)->sc, (int32_t)luaL_checkint(L, 1));
    return 0;
}

static int lib_clock(lua_State *L) {
    lua_pushnumber(L, (double)clock() / CLOCKS_PER_SEC);
    return 1;
}

/* The original trusts that the count can be negated. Upvalue 1 is it. */
static int lib_tohex(lua_State *L) {
    luaL_checknumber(L, 1);
    lua_Number n = luaL_optnumber(L, 2, 8);
    lua_settop(L, 1);
    lua_pushnumber(L, n > 8 ? 8 : n < -8 ? -8 : n);
    return original(L, 1);
}

/* ---- strings ---- */

/* find, match, gmatch, gsub: upvalue 1 is Lua's own. */
static int lib_pattern(lua_State *L) {
    int n = lua_gettop(L);
    if (n >= 2 && lua_type(L, 2) == LUA_TSTRING && lua_objlen(L, 2) > MAX_PATTERN && !(n >= 4 && lua_toboolean(L, 4)))
        return luaL_error(L, "pattern too complex");
    return original(L, 1);
}

/* ---- cjson: upvalue 1 is its configuration, as the original has it, and 2 the original ---- */

/* Adds up what the value at idx may take at most; false: too much. What is too deep is cjson's to refuse. */
static bool json_fits(lua_State *L, int idx, size_t *bytes, int depth) {
    int type = lua_type(L, idx);
    *bytes += type == LUA_TSTRING ? lua_objlen(L, idx) * 6 + 3 : 33;
    if (*bytes > MAX_JSON) return false;
    if (type != LUA_TTABLE || depth > MAX_JSON_DEPTH) return true;
    if (!lua_checkstack(L, 4)) return false;
    bool fits = true;
    int key = lua_gettop(L) + 1;
    for (lua_pushnil(L); fits && lua_next(L, idx);) {
        fits = json_fits(L, key, bytes, depth + 1) && json_fits(L, key + 1, bytes, depth + 1);
        if (fits) lua_settop(L, key);
    }
    lua_settop(L, key - 1);
    return fits;
}

static int lib_json_encode(lua_State *L) {
    size_t bytes = 0;
    if (lua_gettop(L) == 1 && !json_fits(L, 1, &bytes, 0))
        return luaL_error(L, "Cannot serialise, the result would be too large");
    return original(L, 2);
}

static int lib_json_decode(lua_State *L) {
    if (lua_type(L, 1) == LUA_TSTRING && lua_objlen(L, 1) > MAX_JSON) return luaL_error(L, "Cannot parse, the text is too large");
    return original(L, 2);
}

static int lib_json_max_depth(lua_State *L) {
    if (lua_isnumber(L, 1) && lua_tonumber(L, 1) > MAX_JSON_DEPTH) {
        lua_pushinteger(L, MAX_JSON_DEPTH);
        lua_replace(L, 1);
    }
    return original(L, 2);
}

static void wrap_json(lua_State *L, const char *name, lua_CFunction fn) {
    lua_getfield(L, -1, name);
    lua_getupvalue(L, -1, 1);
    lua_insert(L, -2);
    lua_pushcclosure(L, fn, 2);
    lua_setfield(L, -2, name);
}

static int lib_json_new(lua_State *L);

/* Of the table at the top. */
static void guard_json(lua_State *L) {
    wrap_json(L, "encode", lib_json_encode);
    wrap_json(L, "decode", lib_json_decode);
    wrap_json(L, "encode_max_depth", lib_json_max_depth);
    lua_getfield(L, -1, "new");
    lua_pushcclosure(L, lib_json_new, 1);
    lua_setfield(L, -2, "new");
}

static int lib_json_new(lua_State *L) {
    original(L, 1);
    guard_json(L);
    return 1;
}

/* ---- putting them in place ---- */

/* In the table at the top: name becomes fn with what was there as its upvalue. */
static void wrap(lua_State *L, const char *name, lua_CFunction fn) {
    lua_getfield(L, -1, name);
    lua_pushcclosure(L, fn, 1);
    lua_setfield(L, -2, name);
}

static void put(lua_State *L, const char *name, lua_CFunction fn) {
    lua_pushcfunction(L, fn);
    lua_setfield(L, -2, name);
}

/* What is shown as a metatable: {__index = value}, read-only. Stack: value -> it. */
static void shown_metatable(lua_State *L) {
    lua_createtable(L, 0, 1);
    lua_insert(L, -2);
    lua_setfield(L, -2, "__index");
    protect_table(L);
}

void sandbox_replace_functions(lua_State *L) {
    static const luaL_Reg own[] = {
        { "rawget", lib_rawget },
        { "rawset", lib_rawset },
        { "setmetatable", lib_setmetatable },
        { "unpack", lib_unpack },
        { "loadstring", lib_loadstring },
        { "load", lib_load },
        { "pcall", lib_pcall },
        { "xpcall", lib_xpcall },
        { "next", lib_next },
        { "collectgarbage", lib_collectgarbage },
        { NULL, NULL },
    };
    for (const luaL_Reg *f = own; f->name; f++) put(L, f->name, f->func);
    lua_pushcfunction(L, lib_next);
    lua_pushcclosure(L, lib_pairs, 1);
    lua_setfield(L, -2, "pairs");
}

/* Pushes getmetatable, once the stand-ins for the globals and for `string` are there. */
void sandbox_push_getmetatable(lua_State *L, int globals, int strings) {
    lua_pushvalue(L, strings);
    shown_metatable(L);
    lua_pushvalue(L, globals);
    lua_pushcfunction(L, protect_missing_global);
    shown_metatable(L);
    lua_pushcclosure(L, lib_getmetatable, 3);
}

void sandbox_guard_libraries(lua_State *L) {
    static const char *const changing[] = { "insert", "remove", "sort", "setn", NULL };
    static const char *const reading[] = { "foreach", "foreachi", NULL };
    static const char *const patterns[] = { "find", "match", "gmatch", "gfind", "gsub", NULL };
    lua_getfield(L, -1, "table");
    for (int i = 0; changing[i]; i++) wrap(L, changing[i], lib_changes_table);
    for (int i = 0; reading[i]; i++) wrap(L, reading[i], lib_reads_table);
    lua_pop(L, 1);
    lua_getfield(L, -1, "string");
    for (int i = 0; patterns[i]; i++) wrap(L, patterns[i], lib_pattern);
    lua_pushnil(L);
    lua_setfield(L, -2, "dump");
    lua_pop(L, 1);
    lua_getfield(L, -1, "math");
    put(L, "random", lib_random);
    put(L, "randomseed", lib_randomseed);
    lua_pop(L, 1);
    lua_createtable(L, 0, 1);
    put(L, "clock", lib_clock);
    lua_setfield(L, -2, "os");
    lua_getfield(L, -1, "bit");
    wrap(L, "tohex", lib_tohex);
    lua_pop(L, 1);
    lua_getfield(L, -1, "cjson");
    guard_json(L);
    lua_pop(L, 1);
}
