/* Inside scripting: what its files share. Nobody else includes it. Every shard is locked whenever any of it is used. */
#ifndef KETTLE_CMD_SCRIPT_SCRIPT_PRIV_H
#define KETTLE_CMD_SCRIPT_SCRIPT_PRIV_H

#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>
#include <pthread.h>

#include "base/buf.h"
#include "base/obuf.h"
#include "cmd/effects.h"
#include "cmd/figures.h"
#include "cmd/script/script.h"
#include "data/dict.h"

#define SHA1_HEX 40
/* Doubles beyond which whole numbers, and int64_t, end. */
#define TWO_TO_53 9007199254740992.0
#define TWO_TO_62 4611686018427387904.0
#define TWO_TO_63 9223372036854775808.0
#define TWO_TO_64 18446744073709551616.0
#define HOOK_INSTRUCTIONS 100000 /* between two looks at the clock */

enum script_flag { /* as scripts declare them */
                   SCRIPT_NO_WRITES = 1 << 0,
                   SCRIPT_ALLOW_OOM = 1 << 1,
                   SCRIPT_ALLOW_STALE = 1 << 2,
                   SCRIPT_NO_CLUSTER = 1 << 3,
                   SCRIPT_CROSS_SLOT = 1 << 4,
                   SCRIPT_COMPAT = 1 << 5 /* an EVAL without "#!": as before there were flags */
};
struct script_flag_name {
    unsigned flag;
    const char *name;
};
extern const struct script_flag_name script_flag_names[]; /* ends with name NULL */
unsigned script_flag_find(struct slice name);             /* 0: none */

/* ---- an interpreter (sandbox.c) ---- */

struct vm {
    lua_State *L;
    struct scripts *sc;
    _Atomic size_t bytes; /* that Lua has allocated */
    bool is_functions;
    unsigned runs; /* since the last step of garbage collection */
};

struct vm *vm_new(struct scripts *sc, bool is_functions);
struct vm *vm_free(struct vm *vm);
void vm_free_lazily(struct vm *vm_take);
struct vm *vm_of(lua_State *L);
/* While a library is loaded its code sees `redis` with register_function and little else. Functions only. */
void vm_set_loading(struct vm *vm, bool is_loading);
void vm_set_global(struct vm *vm, const char *name); /* pops the value; what scripts see, and cannot change */
int vm_error_handler(lua_State *L);                  /* for lua_pcall: any error becomes a table, with source and line */

/* Tables that scripts can read but not change (sandbox_table.c). Pops a table, pushes what stands for it. */
void protect_table(lua_State *L);
/* The same, and missing names are errors. */
void protect_globals(lua_State *L);
/* Replaces a protected table at idx by what it stands for. False: it is none. */
bool protect_resolve(lua_State *L, int idx);
void protect_exchange(lua_State *L);
int protect_missing_global(lua_State *L); /* raises it: an __index function */
int protect_error(lua_State *L);          /* "Attempt to modify a readonly table", raised */
/* Replaces in the table at the top, Lua's globals, the functions that could get round the protection. */
void sandbox_replace_functions(lua_State *L);
void sandbox_push_getmetatable(lua_State *L, int globals, int strings); /* absolute indices of their stand-ins */
void sandbox_guard_libraries(lua_State *L);                             /* and of string, table, math, cjson, bit */
int luaopen_cmsgpack(lua_State *L);
int luaopen_struct(lua_State *L);

/* ---- the script that runs (run.c) ---- */

struct script_run {
    struct cmd_ctx *c; /* EVAL, FCALL; NULL while a library is loaded */
    struct vm *vm;
    const char *name; /* SHA1, or the function's name: as errors show it */
    unsigned flags;   /* enum script_flag */
    bool is_read_only, is_eval;
    bool has_written; /* from here on it cannot be refused anything */
    bool out_of_memory;
    int resp;      /* 2 or 3: redis.setresp */
    unsigned repl; /* redis.set_repl's flags; 3: all */
    struct library *loading;
    int64_t deadline_us; /* of loading a library */
    int64_t start_us;
    bool is_slow;   /* past the threshold */
    bool is_killed; /* the hook raises on every line */
};

/* Checks what the flags say about running it now; replies the error and gives false. */
bool run_allowed(struct cmd_ctx *c, unsigned flags, bool is_read_only);
/* Runs the function below n_args arguments at the top of the interpreter's stack, and replies. */
void run_script(struct cmd_ctx *c, struct script_run *run, int n_args);
void run_hook(lua_State *L, lua_Debug *d);
bool run_is_stale(struct engine *e);         /* only commands that may be run on a stale replica */
const char *run_no_writes(struct engine *e); /* why nothing may be written now, or NULL */

/* ---- control.c ---- */

enum run_state { RUN_NONE, RUN_READING, RUN_WRITING, RUN_KILLED }; /* WRITING: it has written, and cannot be killed */

struct own_stack { /* a thread's */
    struct fiber *fiber;
    struct cmd_ctx c;
    bool is_suspended;
    struct slice *argv;     /* c.argv once it is suspended: a copy */
    struct effects effects; /* of its unit so far, once it is suspended */
    int64_t slice_end_us;
};

void control_begin(struct script_run *run);
void control_end(struct script_run *run);
void control_look(lua_State *L, struct script_run *run); /* from the hook: may stop the script for a while, or end it */
void control_caught(lua_State *L);                       /* the script has caught an error: raises it again when it was ended */
/* Before the first write. False: it has been killed. */
bool control_may_write(struct script_run *run);
const char *control_kill_text(const struct script_run *run);

/* ---- everything ---- */

struct scripts {
    struct engine *eng;
    struct vm *eval, *fn; /* NULL: not made yet */
    struct dict_type cache_type, fn_type;
    struct dict cache;     /* struct script */
    struct dict functions; /* struct function */
    struct library **libs;
    int n_libs, libs_cap;
    struct script_run *run; /* NULL: none */
    uint64_t random;
    /* of the commands that a script runs */
    struct session s;
    struct obuf out;
    struct buf flat; /* a reply that came in pieces */
    struct slice *argv;
    char (*numbers)[32];
    int argv_cap;
    _Atomic uint64_t n_scripts, scripts_bytes, n_functions, n_libraries, functions_bytes;
    _Atomic uint64_t vm_eval_bytes, vm_fn_bytes;
    /* control.c's */
    struct own_stack stacks[FIGURES_SLOTS]; /* each its thread's */
    _Atomic int state;                      /* enum run_state */
    _Atomic bool runs_eval, is_stopping;
    _Atomic int64_t threshold_ms;
    pthread_mutex_t about_lock; /* what FUNCTION STATS shows of a slow script */
    struct {
        char *name; /* NULL: none */
        struct slice *argv;
        int argc;
        int64_t start_us;
    } about;
};

void scripts_seed(struct scripts *sc, int32_t seed); /* math.random's, of both interpreters */
int32_t scripts_random(struct scripts *sc);          /* 0..2^31-1 */
struct vm *scripts_eval_vm(struct scripts *sc);
struct vm *scripts_fn_vm(struct scripts *sc);
void scripts_note_memory(struct scripts *sc); /* for the figures, after an interpreter has run */

/* ---- api.c, convert.c ---- */
void api_open(lua_State *L, bool is_functions);      /* pushes the table `redis` */
void api_open_loading(lua_State *L);                 /* what it is while a library is loaded */
void api_push_error(lua_State *L, const char *text); /* {err = ...}: "-CODE text", or text, which gets ERR */
void convert_reply(lua_State *L, const struct obuf *out, struct buf *flat, int resp); /* pushes one value */
void convert_to_reply(struct script_run *run, lua_State *L, struct cmd_ctx *c);       /* pops one */
/* An error table's fields; text is "" when it has none. Valid while the table is on the stack. */
struct error_info {
    struct slice text, source, line;
    bool is_counted; /* it has been counted where it happened */
};
void convert_error_info(lua_State *L, int idx, struct error_info *ret); /* pushes up to three values that hold the strings */
void convert_reply_error(struct cmd_ctx *c, struct slice text, bool is_counted); /* as it is: no code is put before it */

/* ---- cache.c, shebang.c ---- */
struct script {
    char sha[SHA1_HEX + 1];
    char *body;
    size_t body_len;
    unsigned flags;
    int ref; /* of the function, in the interpreter's registry */
};
void sha1_hex(struct slice s, char out[SHA1_HEX + 1]);
struct script *cache_find(struct scripts *sc, const char *sha);
struct script *cache_add(struct cmd_ctx *c, struct slice body, const char *sha); /* NULL: replied why not */
void cache_flush(struct scripts *sc, bool async);
/* Flags of an EVAL script. *ret_skip: bytes before the code. False: replied what is wrong. */
bool shebang_flags(struct cmd_ctx *c, struct slice body, unsigned *ret_flags, size_t *ret_skip);
/* Of a library. False: *ret_error is what is wrong (mem_free). Else *ret_name is owned. */
bool shebang_library(struct slice code, char **ret_name, size_t *ret_skip, char **ret_error);
bool shebang_name_ok(struct slice name);

/* ---- library.c, dump.c ---- */
struct function {
    char *name, *desc; /* desc NULL: none */
    unsigned flags;
    int ref;
    struct library *lib;
};
struct library {
    char *name;
    char *code;
    size_t code_len;
    struct function **fns;
    int n_fns;
};
/* Compiles and runs the library's code; nothing is registered yet. NULL: *ret_error (mem_free). */
struct library *library_load(struct scripts *sc, struct slice code, char **ret_error);
void library_discard(struct scripts *sc, struct library *lib_take); /* one that is not registered */
struct library *library_find(struct scripts *sc, struct slice name);
struct function *function_find(struct scripts *sc, struct slice name);
struct function *library_find_function(struct library *lib, struct slice name);
/* All of them or none. replace: in place of those of the same names. quote: around a name in the error. False: *ret_error. */
/* Whether they could be; the same errors. */
bool libraries_fit(struct scripts *sc, struct library *const *libs, int n, bool replace, const char *quote, char **ret_error);
bool libraries_register(struct scripts *sc, struct library **libs, int n, bool replace, const char *quote, char **ret_error);
void library_delete(struct scripts *sc, struct library *lib);
void libraries_flush(struct scripts *sc, bool async);
int api_register_function(lua_State *L);
void dump_libraries(const struct scripts *sc, struct buf *out);
/* Calls fn for every library in the payload until it gives false. False then, or with *ret_error set to what is wrong with the
 * payload (static). */
bool dump_parse(struct slice payload, bool (*fn)(void *arg, struct slice code), void *arg, const char **ret_error);

/* ---- the commands ---- */
void eval_command(struct cmd_ctx *c);
void eval_ro_command(struct cmd_ctx *c);
void evalsha_command(struct cmd_ctx *c);
void evalsha_ro_command(struct cmd_ctx *c);
void script_load_command(struct cmd_ctx *c);
void script_exists_command(struct cmd_ctx *c);
void script_flush_command(struct cmd_ctx *c);
void script_kill_command(struct cmd_ctx *c);
void script_debug_command(struct cmd_ctx *c);
void script_help_command(struct cmd_ctx *c);
void fcall_command(struct cmd_ctx *c);
void fcall_ro_command(struct cmd_ctx *c);
void function_load_command(struct cmd_ctx *c);
void function_delete_command(struct cmd_ctx *c);
void function_flush_command(struct cmd_ctx *c);
void function_list_command(struct cmd_ctx *c);
void function_dump_command(struct cmd_ctx *c);
void function_restore_command(struct cmd_ctx *c);
void function_kill_command(struct cmd_ctx *c);
void function_stats_command(struct cmd_ctx *c);
void function_help_command(struct cmd_ctx *c);
/* numkeys at argv[2], with what has to be right about it. False: replied. */
bool script_numkeys(struct cmd_ctx *c, const char *not_a_number, int *ret);
void script_push_arguments(lua_State *L, const struct slice *argv, int n); /* a table of them */
bool script_flush_mode(struct cmd_ctx *c, const char *error, bool *ret_async);

static inline struct scripts *scripts_of(struct cmd_ctx *c) {
    return c->eng->scripts;
}

#endif
