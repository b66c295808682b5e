/* FCALL, FCALL_RO and FUNCTION. All shards are locked, but for FUNCTION KILL, STATS and HELP. */
#include "base/alloc.h"
#include "base/str.h"
#include "cmd/script/script_priv.h"

/* ---- calling ---- */

static void fcall(struct cmd_ctx *c, bool is_read_only) {
    struct scripts *sc = scripts_of(c);
    struct function *f = function_find(sc, c->argv[1]);
    int n_keys;
    dispatch_show(c);
    if (!f) {
        reply_error(c->r, "ERR Function not found");
        return;
    }
    if (!script_numkeys(c, "ERR Bad number of keys provided", &n_keys) || !run_allowed(c, f->flags, is_read_only)) return;
    struct script_run run = { .vm = sc->fn, .name = f->name, .flags = f->flags };
    run.is_read_only = is_read_only || (f->flags & SCRIPT_NO_WRITES);
    lua_rawgeti(sc->fn->L, LUA_REGISTRYINDEX, f->ref);
    script_push_arguments(sc->fn->L, c->argv + 3, n_keys);
    script_push_arguments(sc->fn->L, c->argv + 3 + n_keys, c->argc - 3 - n_keys);
    run_script(c, &run, 2);
}

void fcall_command(struct cmd_ctx *c) {
    fcall(c, false);
}

void fcall_ro_command(struct cmd_ctx *c) {
    fcall(c, true);
}

/* ---- libraries ---- */

static void unknown_form(struct cmd_ctx *c, const char *sub) {
    reply_errorf(c->r, "ERR unknown subcommand or wrong number of arguments for '%s'. Try FUNCTION HELP.", sub);
}

static void reply_owned_error(struct cmd_ctx *c, char *text_take) {
    reply_error(c->r, text_take);
    mem_free(text_take);
}

void function_load_command(struct cmd_ctx *c) {
    struct scripts *sc = scripts_of(c);
    bool replace = false;
    for (int i = 2; i < c->argc - 1; i++) {
        if (!slice_ieq(c->argv[i], "replace")) {
            reply_errorf(c->r, "ERR Unknown option given: %.*s", (int)(c->argv[i].len < 256 ? c->argv[i].len : 256),
                         c->argv[i].ptr);
            return;
        }
        replace = true;
    }
    struct slice code = c->argv[c->argc - 1];
    char *name, *error;
    size_t skip;
    if (!shebang_library(code, &name, &skip, &error)) {
        reply_owned_error(c, error);
        return;
    }
    bool exists = !replace && library_find(sc, slice_cstr(name));
    if (exists) reply_errorf(c->r, "ERR Library '%s' already exists", name);
    mem_free(name);
    if (exists) return;
    struct library *lib = library_load(sc, code, &error);
    if (!lib) {
        reply_owned_error(c, error);
        return;
    }
    if (!libraries_register(sc, &lib, 1, replace, "'", &error)) {
        library_discard(sc, lib);
        reply_owned_error(c, error);
        return;
    }
    cmd_dirty(c, 1);
    reply_bulk_cstr(c->r, lib->name);
}

void function_delete_command(struct cmd_ctx *c) {
    struct library *lib = library_find(scripts_of(c), c->argv[2]);
    if (!lib) {
        reply_error(c->r, "ERR Library not found");
        return;
    }
    library_delete(scripts_of(c), lib);
    cmd_dirty(c, 1);
    reply_ok(c->r);
}

void function_flush_command(struct cmd_ctx *c) {
    bool async;
    if (c->argc > 3) {
        unknown_form(c, "FLUSH");
        return;
    }
    if (!script_flush_mode(c, "ERR FUNCTION FLUSH only supports SYNC|ASYNC option", &async)) return;
    libraries_flush(scripts_of(c), async);
    cmd_dirty(c, 1);
    reply_ok(c->r);
}

static void reply_function(struct reply *r, const struct function *f) {
    size_t n = 0;
    reply_map(r, 3);
    reply_bulk_cstr(r, "name");
    reply_bulk_cstr(r, f->name);
    reply_bulk_cstr(r, "description");
    if (f->desc)
        reply_bulk_cstr(r, f->desc);
    else
        reply_null(r);
    reply_bulk_cstr(r, "flags");
    for (const struct script_flag_name *g = script_flag_names; g->name; g++) n += (f->flags & g->flag) != 0;
    reply_set(r, n);
    for (const struct script_flag_name *g = script_flag_names; g->name; g++)
        if (f->flags & g->flag) reply_simple(r, g->name);
}

static void reply_library(struct reply *r, const struct library *lib, bool with_code) {
    reply_map(r, with_code ? 4 : 3);
    reply_bulk_cstr(r, "library_name");
    reply_bulk_cstr(r, lib->name);
    reply_bulk_cstr(r, "engine");
    reply_bulk_cstr(r, "LUA");
    reply_bulk_cstr(r, "functions");
    reply_array(r, (size_t)lib->n_fns);
    for (int i = 0; i < lib->n_fns; i++) reply_function(r, lib->fns[i]);
    if (!with_code) return;
    reply_bulk_cstr(r, "library_code");
    reply_bulk(r, lib->code, lib->code_len);
}

void function_list_command(struct cmd_ctx *c) {
    const struct scripts *sc = scripts_of(c);
    struct slice pattern = { 0 };
    bool with_code = false;
    for (int i = 2; i < c->argc; i++) {
        if (!with_code && slice_ieq(c->argv[i], "withcode")) {
            with_code = true;
        } else if (!pattern.ptr && slice_ieq(c->argv[i], "libraryname")) {
            if (i + 1 >= c->argc) {
                reply_error(c->r, "ERR library name argument was not given");
                return;
            }
            pattern = c->argv[++i];
        } else {
            reply_errorf(c->r, "ERR Unknown argument %.*s", (int)(c->argv[i].len < 256 ? c->argv[i].len : 256), c->argv[i].ptr);
            return;
        }
    }
    struct reply_deferred d = reply_deferred_begin(c->r);
    size_t n = 0;
    for (int i = 0; i < sc->n_libs; i++) {
        if (pattern.ptr && !str_glob(pattern, slice_cstr(sc->libs[i]->name), true)) continue;
        reply_library(c->r, sc->libs[i], with_code);
        n++;
    }
    reply_deferred_array(c->r, d, n);
}

/* ---- DUMP and RESTORE ---- */

void function_dump_command(struct cmd_ctx *c) {
    struct buf out = { 0 };
    dump_libraries(scripts_of(c), &out);
    reply_bulk(c->r, out.data, out.len);
    buf_done(&out);
}

struct restoring {
    struct scripts *sc;
    struct library **libs;
    int n;
    char *error;
};

static bool restore_one(void *arg, struct slice code) {
    struct restoring *re = arg;
    struct library *lib = library_load(re->sc, code, &re->error);
    if (!lib) return false;
    re->libs = mem_realloc(re->libs, sizeof *re->libs * (size_t)(re->n + 1));
    re->libs[re->n++] = lib;
    return true;
}

enum policy { POLICY_APPEND, POLICY_REPLACE, POLICY_FLUSH };

static bool take_policy(struct cmd_ctx *c, enum policy *ret) {
    *ret = POLICY_APPEND;
    if (c->argc == 3 || slice_ieq(c->argv[3], "append")) return true;
    if (slice_ieq(c->argv[3], "replace")) {
        *ret = POLICY_REPLACE;
    } else if (slice_ieq(c->argv[3], "flush")) {
        *ret = POLICY_FLUSH;
    } else {
        reply_error(c->r, "ERR Wrong restore policy given, value should be either FLUSH, APPEND or REPLACE.");
        return false;
    }
    return true;
}

/* FLUSH: the old libraries go once the new ones have been loaded without a fault. */
static void drop_all(struct scripts *sc) {
    while (sc->n_libs) library_delete(sc, sc->libs[sc->n_libs - 1]);
}

void function_restore_command(struct cmd_ctx *c) {
    struct restoring re = { .sc = scripts_of(c) };
    enum policy policy;
    const char *bad = NULL;
    if (c->argc > 4) {
        unknown_form(c, "RESTORE");
        return;
    }
    if (!take_policy(c, &policy)) return;
    bool ok = dump_parse(c->argv[2], restore_one, &re, &bad);
    if (bad) re.error = mem_strdup(bad);
    if (ok) {
        ok = libraries_fit(policy == POLICY_FLUSH ? NULL : re.sc, re.libs, re.n, policy == POLICY_REPLACE, "", &re.error);
    }
    if (ok) {
        if (policy == POLICY_FLUSH) drop_all(re.sc);
        ok = libraries_register(re.sc, re.libs, re.n, policy == POLICY_REPLACE, "", &re.error);
    }
    if (ok) {
        cmd_dirty(c, 1);
        reply_ok(c->r);
    } else {
        for (int i = 0; i < re.n; i++) library_discard(re.sc, re.libs[i]);
        reply_owned_error(c, re.error);
    }
    mem_free(re.libs);
}

void function_help_command(struct cmd_ctx *c) {
    static const char *const lines[] = {
        "LOAD [REPLACE] <FUNCTION CODE>",
        "    Make a library of the code.",
        "DELETE <LIBRARY NAME>",
        "    Delete a library.",
        "LIST [LIBRARYNAME PATTERN] [WITHCODE]",
        "    Libraries: name, engine, functions, and the code with WITHCODE; those that match the pattern.",
        "STATS",
        "    The function that runs: name, command, milliseconds so far. And the engines.",
        "KILL",
        "    End the function that runs, if it has not written.",
        "FLUSH [ASYNC|SYNC]",
        "    Delete all libraries. Without a mode lazyfree-lazy-user-flush decides:",
        "    * ASYNC: memory is freed in the background.",
        "    * SYNC: memory is freed at once.",
        "DUMP",
        "    All libraries, as RESTORE takes them.",
        "RESTORE <PAYLOAD> [FLUSH|APPEND|REPLACE]",
        "    Libraries from a DUMP:",
        "    * FLUSH: in place of all that are there.",
        "    * APPEND: besides; the same names are an error.",
        "    * REPLACE: in place of those of the same names.",
        NULL,
    };
    cmd_help(c, lines);
}
