/*
 * Tables that scripts can read and not change. What one script did to `redis`, to `string.rep` or to the globals would else be
 * seen by the next one, whoever sends it; and Debian's Lua has no read-only tables.
 *
 * Scripts never get hold of the table itself. What they get is a stand-in, an empty table whose metatable looks everything up in
 * the real one and refuses every assignment:
 *
 *     string (stand-in, empty) -- metatable { [&key] = real, __index = real, __newindex = raises }
 *
 * That much plain Lua can get round: rawset and table.insert would fill the stand-in, getmetatable would give the metatable,
 * setmetatable replace it. So the functions that do these things are replaced (sandbox_lib.c) by ones that know a stand-in by the
 * light userdata in its metatable, which no script can make or see. pairs and next go through the real table.
 *
 * Strings share a metatable, too: getmetatable("") gives a stand-in.
 */
#include "cmd/script/script_priv.h"

static char protect_key; /* its address marks a stand-in's metatable; the value there is the real table */

int protect_error(lua_State *L) {
    lua_pushliteral(L, "Attempt to modify a readonly table");
    return lua_error(L);
}

static int refuse_assignment(lua_State *L) {
    return luaL_error(L, "Attempt to modify a readonly table");
}

int protect_missing_global(lua_State *L) {
    const char *name = lua_type(L, 2) == LUA_TSTRING || lua_type(L, 2) == LUA_TNUMBER ? lua_tostring(L, 2) : luaL_typename(L, 2);
    return luaL_error(L, "Script attempted to access nonexistent global variable '%s'", name);
}

/* Stack: real -> stand-in. */
void protect_table(lua_State *L) {
    lua_newtable(L);
    lua_createtable(L, 0, 3);
    lua_pushlightuserdata(L, &protect_key);
    lua_pushvalue(L, -4);
    lua_rawset(L, -3);
    lua_pushvalue(L, -3);
    lua_setfield(L, -2, "__index");
    lua_pushcfunction(L, refuse_assignment);
    lua_setfield(L, -2, "__newindex");
    lua_setmetatable(L, -2);
    lua_remove(L, -2);
}

void protect_globals(lua_State *L) {
    lua_createtable(L, 0, 1);
    lua_pushcfunction(L, protect_missing_global);
    lua_setfield(L, -2, "__index");
    lua_setmetatable(L, -2);
    protect_table(L);
}

/* Pushes the real table of the stand-in at idx, or nothing. */
static bool push_real(lua_State *L, int idx) {
    if (!lua_istable(L, idx) || !lua_getmetatable(L, idx)) return false;
    lua_pushlightuserdata(L, &protect_key);
    lua_rawget(L, -2);
    lua_remove(L, -2);
    if (lua_istable(L, -1)) return true;
    lua_pop(L, 1);
    return false;
}

bool protect_resolve(lua_State *L, int idx) {
    if (!push_real(L, idx)) return false;
    lua_replace(L, idx);
    return true;
}

/* Stack: stand-in, another real table: both are popped, the stand-in stands for the other one from now on. */
void protect_exchange(lua_State *L) {
    lua_getmetatable(L, -2);
    lua_pushlightuserdata(L, &protect_key);
    lua_pushvalue(L, -3);
    lua_rawset(L, -3);
    lua_pushliteral(L, "__index");
    lua_pushvalue(L, -3);
    lua_rawset(L, -3);
    lua_pop(L, 3);
}
