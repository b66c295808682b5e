/*
 * The scripts' library `cmsgpack`: Lua values to MessagePack and back. Formats: the MessagePack specification, without the types
 * `bin` and `ext`, which scripts of redis-server cannot read either. Input is peers' bytes: every length is checked against what
 * is there, nothing is allocated by a claimed count, and nesting is bounded by Lua's stack.
 */
#include <math.h>
#include <string.h>

#include "cmd/script/script_priv.h"

#define MAX_NESTING 16 /* tables inside tables that are packed; what is deeper becomes nil */

/* ---- packing ---- */

static void put_be(luaL_Buffer *b, unsigned char type, uint64_t v, int bytes) {
    char text[9];
    text[0] = (char)type;
    for (int i = 0; i < bytes; i++) text[1 + i] = (char)(v >> (8 * (bytes - 1 - i)));
    luaL_addlstring(b, text, (size_t)bytes + 1);
}

static void put_int(luaL_Buffer *b, int64_t v) {
    if (v >= 0) {
        if (v <= 0x7f)
            luaL_addchar(b, (char)v);
        else if (v <= 0xff)
            put_be(b, 0xcc, (uint64_t)v, 1);
        else if (v <= 0xffff)
            put_be(b, 0xcd, (uint64_t)v, 2);
        else if (v <= 0xffffffffLL)
            put_be(b, 0xce, (uint64_t)v, 4);
        else
            put_be(b, 0xcf, (uint64_t)v, 8);
    } else if (v >= -32) {
        luaL_addchar(b, (char)v);
    } else if (v >= INT8_MIN) {
        put_be(b, 0xd0, (uint64_t)v, 1);
    } else if (v >= INT16_MIN) {
        put_be(b, 0xd1, (uint64_t)v, 2);
    } else if (v >= INT32_MIN) {
        put_be(b, 0xd2, (uint64_t)v, 4);
    } else {
        put_be(b, 0xd3, (uint64_t)v, 8);
    }
}

/* Whole numbers as integers, others in four bytes when these say it all. */
static void put_number(luaL_Buffer *b, double d) {
    if (d >= -TWO_TO_63 && d < TWO_TO_63 && d == floor(d)) {
        put_int(b, (int64_t)d);
        return;
    }
    float f = (float)d;
    if ((double)f == d) {
        uint32_t bits;
        memcpy(&bits, &f, sizeof bits);
        put_be(b, 0xca, bits, 4);
    } else {
        uint64_t bits;
        memcpy(&bits, &d, sizeof bits);
        put_be(b, 0xcb, bits, 8);
    }
}

static void put_string(luaL_Buffer *b, const char *s, size_t len) {
    if (len < 32)
        luaL_addchar(b, (char)(0xa0 | len));
    else if (len <= 0xff)
        put_be(b, 0xd9, len, 1);
    else if (len <= 0xffff)
        put_be(b, 0xda, len, 2);
    else
        put_be(b, 0xdb, len, 4);
    luaL_addlstring(b, s, len);
}

static void put_count(luaL_Buffer *b, size_t n, unsigned char fix, unsigned char wide) {
    if (n < 16)
        luaL_addchar(b, (char)(fix | n));
    else if (n <= 0xffff)
        put_be(b, wide, n, 2);
    else
        put_be(b, (unsigned char)(wide + 1), n, 4);
}

/* A table whose keys are 1..n is an array. */
static bool is_array(lua_State *L, int idx, size_t *ret_n) {
    size_t n = 0;
    double max = 0;
    bool whole = true;
    for (lua_pushnil(L); lua_next(L, idx); lua_pop(L, 1)) {
        double k = lua_type(L, -2) == LUA_TNUMBER ? lua_tonumber(L, -2) : 0;
        if (!(k > 0 && k < TWO_TO_53 && k == floor(k))) whole = false;
        if (k > max) max = k;
        n++;
    }
    *ret_n = n;
    return whole && max == (double)n;
}

/* luaL_Buffer keeps pieces on the stack, so whatever pushes or pops around it must leave it as it was: the packed value is read
 * by its absolute index. A piece of a table is therefore made into a string of its own. */
static void pack_value(lua_State *L, int idx, int nesting);

static void pack_table(lua_State *L, int idx, int nesting) {
    size_t n;
    luaL_Buffer b;
    bool array = is_array(L, idx, &n);
    lua_createtable(L, n < 64 ? (int)n * 2 + 1 : 128, 0); /* the pieces, joined at the end */
    int pieces = lua_gettop(L), count = 0;
    luaL_buffinit(L, &b);
    put_count(&b, n, array ? 0x90 : 0x80, array ? 0xdc : 0xde);
    luaL_pushresult(&b);
    lua_rawseti(L, pieces, ++count);
    if (array) {
        for (size_t i = 1; i <= n; i++) {
            lua_rawgeti(L, idx, (int)i);
            pack_value(L, lua_gettop(L), nesting + 1);
            lua_rawseti(L, pieces, ++count);
            lua_pop(L, 1);
        }
    } else {
        for (lua_pushnil(L); lua_next(L, idx); lua_pop(L, 1)) {
            int key = lua_gettop(L) - 1;
            pack_value(L, key, nesting + 1);
            lua_rawseti(L, pieces, ++count);
            pack_value(L, key + 1, nesting + 1);
            lua_rawseti(L, pieces, ++count);
        }
    }
    luaL_buffinit(L, &b);
    for (int i = 1; i <= count; i++) {
        lua_rawgeti(L, pieces, i);
        luaL_addvalue(&b);
    }
    luaL_pushresult(&b);
    lua_replace(L, pieces);
}

/* Pushes the packed form of the value at idx. */
static void pack_value(lua_State *L, int idx, int nesting) {
    luaL_Buffer b;
    size_t len;
    const char *s;
    luaL_checkstack(L, 10, "in function cmsgpack.pack");
    if (lua_type(L, idx) == LUA_TTABLE && nesting < MAX_NESTING) {
        protect_resolve(L, idx);
        pack_table(L, idx, nesting);
        return;
    }
    luaL_buffinit(L, &b);
    switch (lua_type(L, idx)) {
    case LUA_TSTRING:
        s = lua_tolstring(L, idx, &len);
        put_string(&b, s, len);
        break;
    case LUA_TBOOLEAN:
        luaL_addchar(&b, (char)(lua_toboolean(L, idx) ? 0xc3 : 0xc2));
        break;
    case LUA_TNUMBER:
        put_number(&b, lua_tonumber(L, idx));
        break;
    default:
        luaL_addchar(&b, (char)0xc0);
        break;
    }
    luaL_pushresult(&b);
}

static int msgpack_pack(lua_State *L) {
    int n = lua_gettop(L);
    if (n == 0) return luaL_argerror(L, 0, "MessagePack pack needs input.");
    luaL_checkstack(L, n, "Too many arguments for MessagePack pack.");
    for (int i = 1; i <= n; i++) pack_value(L, i, 0);
    lua_concat(L, n);
    return 1;
}

/* ---- unpacking ---- */

struct cursor {
    const unsigned char *p;
    size_t left;
    const char *error;
};

static const char too_short[] = "Missing bytes in input.";
static const char bad_format[] = "Bad data format in input.";

static void unpack_value(lua_State *L, struct cursor *c);

static bool take(struct cursor *c, size_t n) {
    if (c->left < n) {
        c->error = too_short;
        return false;
    }
    c->p += n;
    c->left -= n;
    return true;
}

/* n bytes behind the type byte as a big-endian number. */
static bool take_number(struct cursor *c, int n, uint64_t *ret) {
    if (!take(c, (size_t)n + 1)) return false;
    uint64_t v = 0;
    for (int i = n; i > 0; i--) v = v << 8 | c->p[-i];
    *ret = v;
    return true;
}

static void unpack_string(lua_State *L, struct cursor *c, size_t len) {
    if (take(c, len)) lua_pushlstring(L, (const char *)c->p - len, len);
}

static void unpack_array(lua_State *L, struct cursor *c, uint64_t n) {
    lua_newtable(L);
    for (uint64_t i = 1; i <= n && !c->error; i++) {
        unpack_value(L, c);
        if (!c->error) lua_rawseti(L, -2, (int)i);
    }
}

static void unpack_map(lua_State *L, struct cursor *c, uint64_t n) {
    lua_newtable(L);
    for (uint64_t i = 0; i < n && !c->error; i++) {
        unpack_value(L, c);
        if (!c->error) unpack_value(L, c);
        if (!c->error) lua_settable(L, -3); /* raises what nil and NaN are as keys */
    }
}

static void unpack_float(lua_State *L, struct cursor *c, bool is_double) {
    uint64_t bits;
    if (!take_number(c, is_double ? 8 : 4, &bits)) return;
    if (is_double) {
        double d;
        memcpy(&d, &bits, sizeof d);
        lua_pushnumber(L, d);
    } else {
        uint32_t half = (uint32_t)bits;
        float f;
        memcpy(&f, &half, sizeof f);
        lua_pushnumber(L, (double)f);
    }
}

/* 0xcc..0xd3: unsigned of 1, 2, 4, 8 bytes, then signed. */
static void unpack_int(lua_State *L, struct cursor *c, unsigned char type) {
    uint64_t v;
    int bytes = 1 << (type & 3);
    if (!take_number(c, bytes, &v)) return;
    if (type < 0xd0) {
        /* As redis-server: the numbers from 2^63 on come out negative. */
        lua_pushnumber(L, bytes == 8 ? (double)(int64_t)v : (double)v);
        return;
    }
    int shift = 64 - 8 * bytes;
    lua_pushnumber(L, (double)((int64_t)(v << shift) >> shift));
}

static void unpack_long(lua_State *L, struct cursor *c, unsigned char type) {
    uint64_t n;
    int bytes = type == 0xd9 ? 1 : type == 0xda || type == 0xdc || type == 0xde ? 2 : 4;
    if (!take_number(c, bytes, &n)) return;
    if (type <= 0xdb)
        unpack_string(L, c, (size_t)n);
    else if (type <= 0xdd)
        unpack_array(L, c, n);
    else
        unpack_map(L, c, n);
}

/* Pushes one value, unless c->error: then what is above is for the caller's error to clear away. */
static void unpack_value(lua_State *L, struct cursor *c) {
    if (c->left == 0) {
        c->error = too_short;
        return;
    }
    luaL_checkstack(L, 6, "in function mp_decode_to_lua_array");
    unsigned char t = *c->p;
    if (t < 0x80 || t >= 0xe0) {
        lua_pushnumber(L, (double)(signed char)t);
        take(c, 1);
    } else if (t < 0x90) {
        take(c, 1);
        unpack_map(L, c, t & 15);
    } else if (t < 0xa0) {
        take(c, 1);
        unpack_array(L, c, t & 15);
    } else if (t < 0xc0) {
        take(c, 1);
        unpack_string(L, c, t & 31);
    } else if (t == 0xc0) {
        lua_pushnil(L);
        take(c, 1);
    } else if (t == 0xc2 || t == 0xc3) {
        lua_pushboolean(L, t & 1);
        take(c, 1);
    } else if (t == 0xca || t == 0xcb) {
        unpack_float(L, c, t == 0xcb);
    } else if (t >= 0xcc && t <= 0xd3) {
        unpack_int(L, c, t);
    } else if (t >= 0xd9 && t <= 0xdf) {
        unpack_long(L, c, t);
    } else {
        c->error = bad_format;
    }
}

/* All there is; or, with says_where, `limit` values, and before them where to go on, or -1. */
static int unpack_some(lua_State *L, const char *s, size_t len, lua_Integer limit, lua_Integer offset, bool says_where) {
    if (offset < 0 || limit < 0)
        return luaL_error(L, "Invalid request to unpack with offset of %d and limit of %d.", (int)offset, (int)len);
    if ((size_t)offset > len) return luaL_error(L, "Start offset %d greater than input length %d.", (int)offset, (int)len);
    struct cursor c = { (const unsigned char *)s + offset, len - (size_t)offset, NULL };
    int n = 0;
    for (; c.left > 0 && (!says_where || n < limit); n++) {
        unpack_value(L, &c);
        if (c.error) return luaL_error(L, "%s", c.error);
    }
    if (!says_where) return n;
    luaL_checkstack(L, 1, "in function cmsgpack.unpack");
    lua_pushnumber(L, c.left == 0 ? -1 : (lua_Number)(len - c.left));
    lua_insert(L, 2);
    return n + 1;
}

static int msgpack_unpack(lua_State *L) {
    size_t len;
    const char *s = luaL_checklstring(L, 1, &len);
    lua_settop(L, 1);
    return unpack_some(L, s, len, 0, 0, false);
}

static int msgpack_unpack_one(lua_State *L) {
    size_t len;
    lua_Integer offset = luaL_optinteger(L, 2, 0);
    const char *s = luaL_checklstring(L, 1, &len);
    lua_settop(L, 1);
    return unpack_some(L, s, len, 1, offset, true);
}

static int msgpack_unpack_limit(lua_State *L) {
    size_t len;
    lua_Integer limit = luaL_checkinteger(L, 2), offset = luaL_optinteger(L, 3, 0);
    const char *s = luaL_checklstring(L, 1, &len);
    lua_settop(L, 1);
    return unpack_some(L, s, len, limit, offset, limit != 0 || offset != 0);
}

int luaopen_cmsgpack(lua_State *L) {
    static const luaL_Reg functions[] = { { "pack", msgpack_pack },
                                          { "unpack", msgpack_unpack },
                                          { "unpack_one", msgpack_unpack_one },
                                          { "unpack_limit", msgpack_unpack_limit },
                                          { NULL, NULL } };
    lua_createtable(L, 0, 8);
    luaL_register(L, NULL, functions);
    /* Names that scripts may look at to see what they have. */
    lua_pushliteral(L, "cmsgpack");
    lua_setfield(L, -2, "_NAME");
    lua_pushliteral(L, "lua-cmsgpack 0.4.0");
    lua_setfield(L, -2, "_VERSION");
    lua_pushliteral(L, "MessagePack for Lua");
    lua_setfield(L, -2, "_DESCRIPTION");
    return 1;
}
