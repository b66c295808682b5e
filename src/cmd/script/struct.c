/*
 * The scripts' library `struct`: values to bytes and back by a format string. The letters are those of the Lua struct library's
 * documentation (version 0.2 of it): < > endianness, ! alignment, x padding, b B h H l L i I T integers (i and I with a size),
 * f d floats, s a string and its zero byte, c characters (c0: as many as the value before says), blanks. Data and format are
 * peers' bytes.
 */
#include <ctype.h>
#include <limits.h>
#include <string.h>

#include "cmd/script/script_priv.h"

#define MAX_INT_SIZE 32
#define DEFAULT_ALIGN 8 /* of "!" alone */

struct layout {
    bool is_big;
    size_t align;
};

static bool is_native_big(void) {
    const uint16_t one = 1;
    return *(const unsigned char *)&one == 0;
}

/* A number in the format; def where there is none. */
static int format_number(lua_State *L, const char **fmt, int def) {
    if (!isdigit((unsigned char)**fmt)) return def;
    int n = 0;
    do {
        int digit = *(*fmt)++ - '0';
        if (n > (INT_MAX - digit) / 10) luaL_error(L, "integral size overflow");
        n = n * 10 + digit;
    } while (isdigit((unsigned char)**fmt));
    return n;
}

/* Bytes of an option, its own number taken from the format. 0: none, or not fixed. */
static size_t option_size(lua_State *L, char opt, const char **fmt) {
    int n;
    switch (opt) {
    case 'b':
    case 'B':
    case 'x':
        return 1;
    case 'h':
    case 'H':
        return sizeof(short);
    case 'l':
    case 'L':
        return sizeof(long);
    case 'T':
        return sizeof(size_t);
    case 'f':
        return sizeof(float);
    case 'd':
        return sizeof(double);
    case 'c':
        return (size_t)format_number(L, fmt, 1);
    case 'i':
    case 'I':
        n = format_number(L, fmt, sizeof(int));
        if (n > MAX_INT_SIZE) luaL_error(L, "integral size %d is larger than limit of %d", n, MAX_INT_SIZE);
        return (size_t)n;
    default:
        return 0;
    }
}

static size_t padding(size_t at, const struct layout *y, char opt, size_t size) {
    if (size == 0 || opt == 'c') return 0;
    if (size > y->align) size = y->align;
    return (size - (at & (size - 1))) & (size - 1);
}

/* What is no value. */
static void control_option(lua_State *L, char opt, const char **fmt, struct layout *y) {
    int n;
    switch (opt) {
    case ' ':
        return;
    case '<':
        y->is_big = false;
        return;
    case '>':
        y->is_big = true;
        return;
    case '!':
        n = format_number(L, fmt, DEFAULT_ALIGN);
        if (n == 0 || (n & (n - 1))) luaL_error(L, "alignment %d is not a power of 2", n);
        y->align = (size_t)n;
        return;
    default:
        luaL_argerror(L, 1, lua_pushfstring(L, "invalid format option '%c'", opt));
    }
}

static bool is_integer_option(char opt) {
    return opt != 0 && strchr("bBhHlLTiI", opt) != NULL;
}

/* ---- pack ---- */

/* What does not fit becomes 0, but for negative numbers: the least there is. */
static uint64_t number_bits(double d) {
    if (d >= TWO_TO_63) return d < TWO_TO_64 ? (uint64_t)d : 0;
    if (d >= -TWO_TO_63) return (uint64_t)(int64_t)d;
    return d < 0 ? (uint64_t)1 << 63 : 0;
}

static void pack_integer(luaL_Buffer *b, double d, size_t size, const struct layout *y) {
    char text[MAX_INT_SIZE];
    uint64_t v = number_bits(d);
    for (size_t i = 0; i < size; i++) {
        text[y->is_big ? size - 1 - i : i] = (char)v;
        v >>= 8;
    }
    luaL_addlstring(b, text, size);
}

static void set_order(char *bytes, size_t size, const struct layout *y) {
    if (y->is_big == is_native_big()) return;
    for (size_t i = 0; i < size / 2; i++) {
        char t = bytes[i];
        bytes[i] = bytes[size - 1 - i];
        bytes[size - 1 - i] = t;
    }
}

static void pack_float(luaL_Buffer *b, double d, size_t size, const struct layout *y) {
    char text[sizeof(double)];
    float f = (float)d;
    memcpy(text, size == sizeof f ? (const void *)&f : (const void *)&d, size);
    set_order(text, size, y);
    luaL_addlstring(b, text, size);
}

/* Returns how many bytes were added. */
static size_t pack_chars(lua_State *L, luaL_Buffer *b, char opt, size_t size, int arg) {
    size_t len;
    const char *s = luaL_checklstring(L, arg, &len);
    if (size == 0) size = len;
    luaL_argcheck(L, len >= size, arg + 1, "string too short");
    luaL_addlstring(b, s, size);
    if (opt == 's') luaL_addchar(b, '\0');
    return size + (opt == 's');
}

static int struct_pack(lua_State *L) {
    struct layout y = { is_native_big(), 1 };
    const char *fmt = luaL_checkstring(L, 1);
    size_t total = 0;
    int arg = 2;
    luaL_Buffer b;
    lua_pushnil(L); /* where the arguments end */
    int last = lua_gettop(L);
    luaL_buffinit(L, &b);
    while (*fmt) {
        char opt = *fmt++;
        size_t size = option_size(L, opt, &fmt), pad = padding(total, &y, opt, size);
        total += pad;
        while (pad-- > 0) luaL_addchar(&b, '\0');
        if (is_integer_option(opt) || opt == 'f' || opt == 'd' || opt == 'c' || opt == 's') {
            luaL_argcheck(L, arg <= last, arg, "value expected");
        }
        if (is_integer_option(opt)) {
            pack_integer(&b, luaL_checknumber(L, arg++), size, &y);
        } else if (opt == 'f' || opt == 'd') {
            pack_float(&b, luaL_checknumber(L, arg++), size, &y);
        } else if (opt == 'c' || opt == 's') {
            size = pack_chars(L, &b, opt, size, arg++);
        } else if (opt == 'x') {
            luaL_addchar(&b, '\0');
        } else {
            control_option(L, opt, &fmt, &y);
        }
        total += size;
    }
    luaL_pushresult(&b);
    return 1;
}

/* ---- unpack ---- */

static void push_integer(lua_State *L, const unsigned char *p, size_t size, bool is_signed, const struct layout *y) {
    uint64_t v = 0;
    for (size_t i = 0; i < size; i++) v = v << 8 | p[y->is_big ? i : size - 1 - i];
    if (!is_signed) {
        lua_pushnumber(L, (lua_Number)v);
        return;
    }
    uint64_t sign = ~(uint64_t)0 << ((size * 8 - 1) & 63);
    if (v & sign) v |= sign;
    lua_pushnumber(L, (lua_Number)(int64_t)v);
}

static void push_float(lua_State *L, const char *p, size_t size, const struct layout *y) {
    char text[sizeof(double)];
    memcpy(text, p, size);
    set_order(text, size, y);
    if (size == sizeof(float)) {
        float f;
        memcpy(&f, text, sizeof f);
        lua_pushnumber(L, (lua_Number)f);
    } else {
        double d;
        memcpy(&d, text, sizeof d);
        lua_pushnumber(L, d);
    }
}

static void check_data(lua_State *L, size_t len, size_t at, size_t size) {
    luaL_argcheck(L, size <= len && at <= len - size, 2, "data string too short");
}

/* c0's size, which is the value before it: taken from the stack. */
static size_t previous_size(lua_State *L, int n_values) {
    if (n_values == 0 || !lua_isnumber(L, -1)) luaL_error(L, "format 'c0' needs a previous size");
    double d = lua_tonumber(L, -1);
    lua_pop(L, 1);
    return d >= 0 && d < TWO_TO_62 ? (size_t)d : SIZE_MAX;
}

/* One value at `at`; *size grows to what it took. Returns how many values there are more of (0 for c0, which replaces one). */
static int unpack_one(lua_State *L, char opt, const char *data, size_t len, size_t at, size_t *size, const struct layout *y,
                      int n_values) {
    if (is_integer_option(opt)) {
        push_integer(L, (const unsigned char *)data + at, *size, islower((unsigned char)opt), y);
        return 1;
    }
    if (opt == 'f' || opt == 'd') {
        push_float(L, data + at, *size, y);
        return 1;
    }
    if (opt == 'c') {
        bool counted = *size == 0;
        if (counted) {
            *size = previous_size(L, n_values);
            check_data(L, len, at, *size);
        }
        lua_pushlstring(L, data + at, *size);
        return !counted;
    }
    const char *end = memchr(data + at, 0, len - at);
    if (!end) return luaL_error(L, "unfinished string in data");
    *size = (size_t)(end - (data + at)) + 1;
    lua_pushlstring(L, data + at, *size - 1);
    return 1;
}

static int struct_unpack(lua_State *L) {
    struct layout y = { is_native_big(), 1 };
    const char *fmt = luaL_checkstring(L, 1);
    size_t len;
    const char *data = luaL_checklstring(L, 2, &len);
    lua_Integer offset = luaL_optinteger(L, 3, 1);
    luaL_argcheck(L, offset != 0, 3, "offset must be 1 or greater");
    size_t at = (size_t)offset - 1;
    int n = 0;
    lua_settop(L, 2);
    while (*fmt) {
        char opt = *fmt++;
        size_t size = option_size(L, opt, &fmt);
        at += padding(at, &y, opt, size);
        check_data(L, len, at, size);
        luaL_checkstack(L, 2, "too many results");
        if (is_integer_option(opt) || opt == 'f' || opt == 'd' || opt == 'c' || opt == 's')
            n += unpack_one(L, opt, data, len, at, &size, &y, n);
        else if (opt != 'x')
            control_option(L, opt, &fmt, &y);
        at += size;
    }
    lua_pushnumber(L, (lua_Number)(at + 1));
    return n + 1;
}

static int struct_size(lua_State *L) {
    struct layout y = { is_native_big(), 1 };
    const char *fmt = luaL_checkstring(L, 1);
    size_t at = 0;
    while (*fmt) {
        char opt = *fmt++;
        size_t size = option_size(L, opt, &fmt);
        at += padding(at, &y, opt, size);
        if (opt == 's') luaL_argerror(L, 1, "option 's' has no fixed size");
        if (opt == 'c' && size == 0) luaL_argerror(L, 1, "option 'c0' has no fixed size");
        if (!isalnum((unsigned char)opt)) control_option(L, opt, &fmt, &y);
        at += size;
    }
    lua_pushnumber(L, (lua_Number)at);
    return 1;
}

int luaopen_struct(lua_State *L) {
    static const luaL_Reg functions[] = {
        { "pack", struct_pack }, { "unpack", struct_unpack }, { "size", struct_size }, { NULL, NULL }
    };
    lua_createtable(L, 0, 3);
    luaL_register(L, NULL, functions);
    return 1;
}
