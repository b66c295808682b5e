/*
 * Libraries of functions. FUNCTION LOAD compiles a library's code and runs it once, with a `redis` that has little more than
 * register_function; the functions it registers become callable when the whole library is in order.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/crash.h"
#include "cmd/script/script_priv.h"

#define LOAD_TIMEOUT_US 500000

/* ---- loading ---- */

static struct function *function_free(struct scripts *sc, struct function *f) {
    if (sc->fn && f->ref != LUA_NOREF) luaL_unref(sc->fn->L, LUA_REGISTRYINDEX, f->ref);
    mem_free(f->name);
    mem_free(f->desc);
    mem_free(f);
    return NULL;
}

void library_discard(struct scripts *sc, struct library *lib_take) {
    if (!lib_take) return;
    for (int i = 0; i < lib_take->n_fns; i++) function_free(sc, lib_take->fns[i]);
    mem_free(lib_take->fns);
    mem_free(lib_take->name);
    mem_free(lib_take->code);
    mem_free(lib_take);
}

struct function *library_find_function(struct library *lib, struct slice name) {
    for (int i = 0; i < lib->n_fns; i++)
        if (slice_eq(slice_cstr(lib->fns[i]->name), name)) return lib->fns[i];
    return NULL;
}

/* The text of the error at the top of the stack, owned. */
static char *error_text(lua_State *L, const char *before) {
    if (!lua_istable(L, -1)) {
        const char *text = lua_tostring(L, -1);
        return mem_asprintf("ERR %s%s", before, text ? text : "");
    }
    struct error_info info;
    convert_error_info(L, lua_gettop(L), &info);
    return mem_asprintf("ERR %s%.*s", before, (int)(info.text.len < 4096 ? info.text.len : 4096), info.text.ptr);
}

static int load_text(lua_State *L, struct slice code) {
    if (code.len == 0 || code.ptr[0] != LUA_SIGNATURE[0]) return luaL_loadbuffer(L, code.ptr, code.len, "@user_function");
    return luaL_loadbuffer(L, "", 0, "@user_function"); /* the first line's newline stands before the code: this cannot be */
}

/* Runs the library's code; false: *ret_error. */
static bool run_code(struct scripts *sc, struct library *lib, struct slice code, char **ret_error) {
    struct vm *vm = scripts_fn_vm(sc);
    lua_State *L = vm->L;
    lua_settop(L, 0);
    lua_pushcfunction(L, vm_error_handler);
    if (load_text(L, code) != 0) {
        *ret_error = error_text(L, "Error compiling function: ");
        lua_settop(L, 0);
        return false;
    }
    struct script_run run = { .vm = vm, .loading = lib, .resp = 2, .deadline_us = clock_mono_us() + LOAD_TIMEOUT_US };
    struct script_run *before = sc->run;
    sc->run = &run;
    vm_set_loading(vm, true);
    bool ok = lua_pcall(L, 0, 0, 1) == 0;
    vm_set_loading(vm, false);
    sc->run = before;
    if (!ok) *ret_error = error_text(L, "Error registering functions: ");
    lua_settop(L, 0);
    scripts_note_memory(sc);
    return ok;
}

struct library *library_load(struct scripts *sc, struct slice code, char **ret_error) {
    char *name;
    size_t skip;
    if (!shebang_library(code, &name, &skip, ret_error)) return NULL;
    struct library *lib = mem_zalloc(sizeof *lib);
    lib->name = name;
    lib->code = mem_memdup0(code.ptr, code.len);
    lib->code_len = code.len;
    if (run_code(sc, lib, (struct slice){ code.ptr + skip, code.len - skip }, ret_error)) {
        if (lib->n_fns) return lib;
        *ret_error = mem_strdup("ERR No functions registered");
    }
    library_discard(sc, lib);
    return NULL;
}

/* ---- redis.register_function ---- */

struct registration {
    const char *name; /* on Lua's stack */
    size_t name_len;
    const char *desc;
    size_t desc_len;
    int callback; /* stack index; 0: none */
    unsigned flags;
};

/* Does not come back, as lua_error does not. */
static _Noreturn int refuse(lua_State *L, const char *text) {
    api_push_error(L, text);
    lua_error(L);
    crash_panic();
}

static void take_flags(lua_State *L, int idx, struct registration *g) {
    if (!lua_istable(L, idx)) refuse(L, "flags argument to redis.register_function must be a table representing function flags");
    for (int i = 1;; i++) {
        lua_rawgeti(L, idx, i);
        if (lua_isnil(L, -1)) break;
        size_t len = 0;
        const char *s = lua_type(L, -1) == LUA_TSTRING ? lua_tolstring(L, -1, &len) : "";
        unsigned flag = script_flag_find((struct slice){ s, len });
        if (!flag) refuse(L, "unknown flag given");
        g->flags |= flag;
        lua_pop(L, 1);
    }
    lua_pop(L, 1);
}

/* The value at the top, under a name of redis.register_function{...}. It stays on the stack: what is taken points to it. */
static void take_named(lua_State *L, const char *key, struct registration *g) {
    int at = lua_gettop(L);
    if (strcasecmp(key, "function_name") == 0) {
        if (!lua_isstring(L, at)) refuse(L, "function_name argument given to redis.register_function must be a string");
        g->name = lua_tolstring(L, at, &g->name_len);
    } else if (strcasecmp(key, "description") == 0) {
        if (!lua_isstring(L, at)) refuse(L, "description argument given to redis.register_function must be a string");
        g->desc = lua_tolstring(L, at, &g->desc_len);
    } else if (strcasecmp(key, "callback") == 0) {
        if (!lua_isfunction(L, at)) refuse(L, "callback argument given to redis.register_function must be a function");
        g->callback = at;
    } else if (strcasecmp(key, "flags") == 0) {
        take_flags(L, at, g);
    } else {
        refuse(L, "unknown argument given to redis.register_function");
    }
}

static void take_table(lua_State *L, struct registration *g) {
    lua_pushnil(L);
    while (lua_next(L, 1)) {
        /* Values gather below the key, which lua_next needs at the top. */
        if (lua_type(L, -2) != LUA_TSTRING) refuse(L, "unknown argument given to redis.register_function");
        luaL_checkstack(L, 6, NULL);
        take_named(L, lua_tostring(L, -2), g);
        lua_pushvalue(L, -2);
    }
    if (!g->name) refuse(L, "redis.register_function must get a function name argument");
    if (!g->callback) refuse(L, "redis.register_function must get a callback argument");
}

static void take_positional(lua_State *L, struct registration *g) {
    if (!lua_isstring(L, 1)) refuse(L, "first argument to redis.register_function must be a string");
    g->name = lua_tolstring(L, 1, &g->name_len);
    if (!lua_isfunction(L, 2)) refuse(L, "second argument to redis.register_function must be a function");
    g->callback = 2;
}

int api_register_function(lua_State *L) {
    struct script_run *run = vm_of(L)->sc->run;
    struct registration g = { 0 };
    int argc = lua_gettop(L);
    if (!run || !run->loading) return refuse(L, "redis.register_function can only be called on FUNCTION LOAD command");
    if (argc < 1 || argc > 2) return refuse(L, "wrong number of arguments to redis.register_function");
    if (argc == 1) {
        if (!lua_istable(L, 1))
            return refuse(L,
                          "calling redis.register_function with a single argument is only applicable to Lua table (representing "
                          "named arguments).");
        take_table(L, &g);
    } else {
        take_positional(L, &g);
    }
    struct slice name = { g.name, g.name_len };
    if (!shebang_name_ok(name))
        return refuse(L, "Library names can only contain letters, numbers, or underscores(_) and must be at least one character "
                         "long");
    struct library *lib = run->loading;
    if (library_find_function(lib, name)) return refuse(L, "Function already exists in the library");
    lua_pushvalue(L, g.callback);
    struct function *f = mem_zalloc(sizeof *f);
    f->ref = luaL_ref(L, LUA_REGISTRYINDEX);
    f->name = mem_memdup0(name.ptr, name.len);
    f->desc = g.desc ? mem_memdup0(g.desc, g.desc_len) : NULL;
    f->flags = g.flags;
    f->lib = lib;
    lib->fns = mem_realloc(lib->fns, sizeof *lib->fns * (size_t)(lib->n_fns + 1));
    lib->fns[lib->n_fns++] = f;
    return 0;
}

/* ---- all of them ---- */

struct library *library_find(struct scripts *sc, struct slice name) {
    for (int i = 0; i < sc->n_libs; i++)
        if (slice_eq(slice_cstr(sc->libs[i]->name), name)) return sc->libs[i];
    return NULL;
}

struct function *function_find(struct scripts *sc, struct slice name) {
    return dict_find(&sc->functions, dict_hash(name), name);
}

static void note_size(struct scripts *sc) {
    uint64_t bytes = 0, n = 0;
    for (int i = 0; i < sc->n_libs; i++) {
        bytes += sc->libs[i]->code_len + sizeof(struct library);
        n += (uint64_t)sc->libs[i]->n_fns;
    }
    bytes += n * sizeof(struct function);
    atomic_store_explicit(&sc->n_functions, n, memory_order_relaxed);
    atomic_store_explicit(&sc->n_libraries, (uint64_t)sc->n_libs, memory_order_relaxed);
    atomic_store_explicit(&sc->functions_bytes, bytes, memory_order_relaxed);
}

static void unlink_library(struct scripts *sc, struct library *lib) {
    int at = 0;
    while (sc->libs[at] != lib) at++;
    memmove(&sc->libs[at], &sc->libs[at + 1], sizeof *sc->libs * (size_t)(sc->n_libs - at - 1));
    sc->n_libs--;
    for (int i = 0; i < lib->n_fns; i++) {
        struct slice name = slice_cstr(lib->fns[i]->name);
        dict_remove(&sc->functions, dict_hash(name), name);
    }
}

static void link_library(struct scripts *sc, struct library *lib) {
    if (sc->n_libs == sc->libs_cap) {
        sc->libs_cap = sc->libs_cap ? sc->libs_cap * 2 : 8;
        sc->libs = mem_realloc(sc->libs, sizeof(struct library *) * (size_t)sc->libs_cap);
    }
    sc->libs[sc->n_libs++] = lib;
    for (int i = 0; i < lib->n_fns; i++) dict_insert(&sc->functions, dict_hash(slice_cstr(lib->fns[i]->name)), lib->fns[i]);
}

static bool is_among(struct library *const *libs, int n, const char *name) {
    for (int i = 0; i < n; i++)
        if (strcmp(libs[i]->name, name) == 0) return true;
    return false;
}

static bool has_function(struct library *const *libs, int n, const char *name) {
    for (int i = 0; i < n; i++)
        if (library_find_function(libs[i], slice_cstr(name))) return true;
    return false;
}

/* sc NULL: nothing but libs themselves can stand in the way. */
bool libraries_fit(struct scripts *sc, struct library *const *libs, int n, bool replace, const char *quote, char **ret_error) {
    *ret_error = NULL;
    for (int i = 0; i < n && !*ret_error; i++) {
        const char *name = libs[i]->name;
        if (is_among(libs, i, name))
            *ret_error = mem_asprintf("ERR Library '%s' already exists", name);
        else if (sc && !replace && library_find(sc, slice_cstr(name)))
            *ret_error = mem_asprintf("ERR Library %s%s%s already exists", quote, name, quote);
        for (int k = 0; k < libs[i]->n_fns && !*ret_error; k++) {
            name = libs[i]->fns[k]->name;
            struct function *f = sc ? function_find(sc, slice_cstr(name)) : NULL;
            bool stays = f && !(replace && is_among(libs, n, f->lib->name));
            if (stays || has_function(libs, i, name)) *ret_error = mem_asprintf("ERR Function %s already exists", name);
        }
    }
    return !*ret_error;
}

bool libraries_register(struct scripts *sc, struct library **libs, int n, bool replace, const char *quote, char **ret_error) {
    if (!libraries_fit(sc, libs, n, replace, quote, ret_error)) return false;
    for (int i = 0; i < n; i++) {
        struct library *old = library_find(sc, slice_cstr(libs[i]->name));
        if (!old) continue;
        unlink_library(sc, old);
        library_discard(sc, old);
    }
    for (int i = 0; i < n; i++) link_library(sc, libs[i]);
    note_size(sc);
    return true;
}

void library_delete(struct scripts *sc, struct library *lib) {
    unlink_library(sc, lib);
    library_discard(sc, lib);
    note_size(sc);
}

void libraries_flush(struct scripts *sc, bool async) {
    struct vm *vm = sc->fn;
    sc->fn = NULL; /* the functions go with their interpreter */
    dict_clear(&sc->functions, NULL);
    for (int i = 0; i < sc->n_libs; i++) library_discard(sc, sc->libs[i]);
    sc->n_libs = 0;
    if (async)
        vm_free_lazily(vm);
    else
        vm_free(vm);
    note_size(sc);
    scripts_note_memory(sc);
}

/* ---- for files ---- */

void scripts_each_library(const struct scripts *sc, void (*fn)(void *arg, struct slice code), void *arg) {
    for (int i = 0; i < sc->n_libs; i++) fn(arg, (struct slice){ sc->libs[i]->code, sc->libs[i]->code_len });
}

int scripts_add_library(struct scripts *sc, struct slice code, bool replace, char **ret_error) {
    struct library *lib = library_load(sc, code, ret_error);
    if (!lib) return -EINVAL;
    if (libraries_register(sc, &lib, 1, replace, "'", ret_error)) return 0;
    library_discard(sc, lib);
    return -EINVAL;
}

void scripts_flush_libraries(struct scripts *sc, bool async) {
    libraries_flush(sc, async);
}
