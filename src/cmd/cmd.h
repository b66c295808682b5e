/*
 * Commands: one table entry each, with everything the server says or enforces about it (arity, flags, key specs, ACL categories,
 * documentation). A command sees its arguments, its session and a reply writer; never a socket, never a lock. The dispatcher
 * (dispatch.c) checks and locks; families (cmd_strings.c, ...) do the work.
 *
 * To add a command: write `static void xyz_command(struct cmd_ctx *c)`, add a struct cmd_spec to the family's array. Nothing
 * else.
 */
#ifndef KETTLE_CMD_CMD_H
#define KETTLE_CMD_CMD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/hist.h"
#include "base/slice.h"
#include "cmd/session.h"
#include "data/keyspace.h"
#include "proto/reply.h"

/* Flags, Redis's names (COMMAND INFO prints them lower-case, underscores kept). */
enum cmd_flag {
    CMD_WRITE = 1 << 0,
    CMD_READONLY = 1 << 1,
    CMD_DENYOOM = 1 << 2,
    CMD_ADMIN = 1 << 3,
    CMD_PUBSUB = 1 << 4,
    CMD_NOSCRIPT = 1 << 5,
    CMD_BLOCKING = 1 << 6,
    CMD_LOADING = 1 << 7,
    CMD_STALE = 1 << 8,
    CMD_SKIP_MONITOR = 1 << 9,
    CMD_SKIP_SLOWLOG = 1 << 10,
    CMD_ASKING = 1 << 11,
    CMD_FAST = 1 << 12,
    CMD_NO_AUTH = 1 << 13,
    CMD_MAY_REPLICATE = 1 << 14,
    CMD_NO_ASYNC_LOADING = 1 << 15,
    CMD_NO_MULTI = 1 << 16,
    CMD_ALLOW_BUSY = 1 << 17,
    CMD_MOVABLEKEYS = 1 << 18,
    CMD_NO_MANDATORY_KEYS = 1 << 19,
    /* not printed */
    CMD_SCRIPT = 1 << 23,     /* runs Lua, and may take its time */
    CMD_ALL_SHARDS = 1 << 24, /* runs with every shard locked (FLUSHALL, KEYS, RANDOMKEY, SWAPDB...) */
    CMD_SELF_LOCK =
        1 << 25, /* runs unlocked; takes locks through dispatch_lock()/dispatch_unlock() itself (SCAN, EXEC, DEBUG SLEEP) */
    CMD_TOUCHES_ARBITRARY_KEYS = 1 << 26,
    CMD_NEVER_QUEUED = 1 << 27, /* runs at once inside MULTI (EXEC, DISCARD, WATCH, MULTI, QUIT, RESET) */
    CMD_IS_EXEC = 1 << 28,
    CMD_SYSCMD = 1 << 30,   /* COMMAND DOCS: for those who work on the server itself */
    CMD_PROTECTED = 1 << 29 /* refused unless enabled by configuration (DEBUG, MODULE LOAD); the `before` hook decides */
};

/* ACL categories. */
enum cmd_cat {
    CAT_KEYSPACE = 1 << 0,
    CAT_READ = 1 << 1,
    CAT_WRITE = 1 << 2,
    CAT_SET = 1 << 3,
    CAT_SORTEDSET = 1 << 4,
    CAT_LIST = 1 << 5,
    CAT_HASH = 1 << 6,
    CAT_STRING = 1 << 7,
    CAT_BITMAP = 1 << 8,
    CAT_HYPERLOGLOG = 1 << 9,
    CAT_GEO = 1 << 10,
    CAT_STREAM = 1 << 11,
    CAT_PUBSUB = 1 << 12,
    CAT_ADMIN = 1 << 13,
    CAT_FAST = 1 << 14,
    CAT_SLOW = 1 << 15,
    CAT_BLOCKING = 1 << 16,
    CAT_DANGEROUS = 1 << 17,
    CAT_CONNECTION = 1 << 18,
    CAT_TRANSACTION = 1 << 19,
    CAT_SCRIPTING = 1 << 20
};
/* Implied ones are added at registration, as Redis does: write/readonly, admin -> admin+dangerous, pubsub, fast or slow,
 * blocking. */

struct cmd_bit_name {
    unsigned bit;
    const char *name;
};
extern const struct cmd_bit_name cmd_cat_names[]; /* "@keyspace"...; ends with name NULL */

enum key_flag {
    KEY_RO = 1 << 0,
    KEY_RW = 1 << 1,
    KEY_OW = 1 << 2,
    KEY_RM = 1 << 3,
    KEY_ACCESS = 1 << 4,
    KEY_UPDATE = 1 << 5,
    KEY_INSERT = 1 << 6,
    KEY_DELETE = 1 << 7,
    KEY_NOT_KEY = 1 << 8,
    KEY_INCOMPLETE = 1 << 9,
    KEY_VARIABLE_FLAGS = 1 << 10
};
enum key_begin { KEY_BEGIN_NONE = 0, KEY_BEGIN_INDEX, KEY_BEGIN_KEYWORD };
enum key_find { KEY_FIND_NONE = 0, KEY_FIND_RANGE, KEY_FIND_KEYNUM };

struct key_spec { /* redis.io "Command key specifications" */
    unsigned flags;
    enum key_begin begin;
    int index; /* INDEX: argv position; KEYWORD: start_from */
    const char *keyword;
    enum key_find find;
    int lastkey, keystep, limit; /* RANGE: lastkey relative to the first (negative: from the end) */
    int keynum_idx, first_key;   /* KEYNUM, with keystep */
    const char *notes;           /* COMMAND INFO shows it; NULL: none */
};

#define CMD_MAX_KEYSPECS 4

/* Which arguments are channels, for access control: the first (PUBLISH, SPUBLISH), or all (SUBSCRIBE, SSUBSCRIBE; PSUBSCRIBE's
 * are patterns). Leaving a channel needs no permission. */
enum cmd_channels { CMD_CHANNELS_NONE = 0, CMD_CHANNELS_PUBLISH, CMD_CHANNELS_SUBSCRIBE, CMD_CHANNELS_PSUBSCRIBE };

enum arg_type { ARG_STRING, ARG_INTEGER, ARG_DOUBLE, ARG_KEY, ARG_PATTERN, ARG_UNIX_TIME, ARG_PURE_TOKEN, ARG_ONEOF, ARG_BLOCK };
enum arg_flag { ARG_OPTIONAL = 1, ARG_MULTIPLE = 2, ARG_MULTIPLE_TOKEN = 4 };
struct cmd_arg { /* COMMAND DOCS "arguments"; arrays end with a zeroed element */
    const char *name;
    enum arg_type type;
    int key_spec_index; /* ARG_KEY; else 0 */
    const char *token, *since;
    unsigned flags;
    const struct cmd_arg *sub;
    const char *display, *deprecated_since; /* NULL: shown by name; not deprecated */
};
struct cmd_history {
    const char *since, *what;
}; /* ends with zeroed */

struct cmd_ctx;
struct cmd;

struct cmd_spec {
    const char *name;                       /* lower case; subcommand: the sub name only */
    void (*run)(struct cmd_ctx *c);         /* NULL for a container that has only subcommands */
    int arity;                              /* as Redis: name included; negative: at least */
    unsigned flags;                         /* enum cmd_flag */
    unsigned cats;                          /* enum cmd_cat, beyond the implied ones */
    struct key_spec keys[CMD_MAX_KEYSPECS]; /* flags 0 ends */
    /* For what specs cannot say (movable keys): writes argv positions (and enum key_flag into flags when not NULL), returns the
     * count, or -1 for bad syntax. */
    int (*get_keys)(int argc, const struct slice *argv, int *pos, unsigned *flags, int cap);
    enum cmd_channels channels;
    const struct cmd_spec *subs; /* ends with name NULL */
    const char *summary, *since, *complexity,
        *group; /* docs in our own words; group as Redis: "string", "generic", "connection", "server", "transactions", "bitmap" */
    const char *deprecated_since, *replaced_by; /* NULL when not */
    const char *const *tips;                    /* command tips, NULL-terminated, or NULL */
    const struct cmd_arg *args;
    const struct cmd_history *history;
};

struct cmd { /* registered: spec + what is rare. What happens with every call is in figures.h. */
    const struct cmd_spec *spec;
    char *full_name; /* "config|get" */
    const struct cmd *parent;
    struct cmd **subs;
    int n_subs;
    int id;               /* dense, from 0 */
    unsigned flags, cats; /* with implied ones */
    _Atomic uint64_t rejected, failed;
};

struct cmd_table;
struct cmd_table *cmd_table_new(void); /* empty */
struct cmd_table *cmd_table_free(struct cmd_table *t);
void cmd_table_register(struct cmd_table *t, const struct cmd_spec *specs); /* start-up only; array ends with name NULL */
/* rename-command: new_name "" removes. 0, -ENOENT, -EEXIST. Start-up only. */
int cmd_table_rename(struct cmd_table *t, const char *name, const char *new_name);
struct cmd *cmd_lookup(const struct cmd_table *t, struct slice name); /* container or plain, case-insensitive */
/* With subcommand: argv[1] for containers. NULL: unknown command or unknown subcommand. */
struct cmd *cmd_lookup_argv(const struct cmd_table *t, int argc, const struct slice *argv);
/* By the name it was registered by, "get" or "config|get", whatever rename-command has made of it: access control's names. */
struct cmd *cmd_lookup_original(const struct cmd_table *t, struct slice name);
void cmd_each_original(const struct cmd_table *t, void (*fn)(struct cmd *c, void *arg),
                       void *arg);        /* top level, removed ones too */
unsigned cmd_cat_find(struct slice name); /* "keyspace": its bit, or 0 */
int cmd_count(const struct cmd_table *t);
int cmd_ids(const struct cmd_table *t); /* every struct cmd.id is below this, subcommands' too */
void cmd_each(const struct cmd_table *t, void (*fn)(struct cmd *c, void *arg), void *arg); /* top level, sorted by name */
bool cmd_arity_ok(const struct cmd *c, int argc);
/* Keys of a command line: argv positions into pos (cap of them). Returns the count (may exceed cap: call again with more room), 0
 * none, -1 invalid. */
int cmd_keys(const struct cmd *c, int argc, const struct slice *argv, int *pos, unsigned *flags, int cap);

/* ---- the running command ---- */
struct engine; /* dispatcher's context, dispatch.h */

struct cmd_ctx {
    struct engine *eng;
    struct keyspace *ks;
    struct session *s;
    const struct cmd *cmd;
    int argc;
    const struct slice *argv; /* memory of the connection's: valid during the call only */
    struct reply *r;
    int db;         /* s->db at the start of the command */
    int64_t now_ms; /* wall clock, constant for the command and for a whole EXEC; 0: nothing runs out (session.applies) */
    bool in_exec;
    uint64_t locked;    /* shards held */
    uint64_t gate;      /* engine.gate when the command was let through */
    bool is_stale;      /* the gate has moved since: nothing was done, the dispatcher asks again */
    bool deny_blocking; /* scripts: whoever runs a command from inside another one sets it */
    bool retry;         /* run again for a client that waited: a key it waits for is ready */
    bool blocked;       /* out: the client waits, nothing was replied */
    bool failed;        /* out: what was replied is an error, and has been counted already */
    bool propagated;    /* out: it has said by cmd_propagate what its effect is */
    /* The EVAL or FCALL that runs this; NULL: none. Its session is the client's, s is the script's. */
    const struct cmd_ctx *script;
    unsigned script_repl; /* redis.set_repl's flags then: 1 the AOF, 2 replicas */
    uint64_t start;       /* clock_ticks() when its locks were held */
    uint64_t end;         /* the same when it had run */
    uint64_t usec;        /* time it took, set when it has run */
};

/* ---- helpers for families ---- */
/* Effects. A command that changed something says so: to those who watch or track its keys, and because only such a command is
 * given to replicas and the append-only file (effects.h). */
void cmd_modified(struct cmd_ctx *c, int db, struct slice key); /* touches watchers, dirty++ */
void cmd_dirty(struct cmd_ctx *c, uint64_t n);                  /* changes without a key */
/* Keyspace notification: class letter as in notify-keyspace-events ('$' string, 'g' generic, 'x' expired, ...), event "set",
 * "del". */
void cmd_notify(struct cmd_ctx *c, char cls, const char *event, int db, struct slice key);
/* For replicas and the append-only file, in place of the command as given, what does the same there (no times that count from
 * now, nothing random, nothing that blocks): argv borrowed. Each call adds one. n 0: nothing. */
void cmd_propagate(struct cmd_ctx *c, int argc, const struct slice *argv);
/* The command as given, for replicas only, whether it changed anything or not (PUBLISH). */
void cmd_propagate_to_replicas(struct cmd_ctx *c);
bool cmd_propagates(const struct cmd_ctx *c); /* false: nobody wants to know; cmd_propagate may be left out */

/* The wall clock, in ms, also where nothing runs out: what relative times count from. */
int64_t cmd_clock_ms(const struct cmd_ctx *c);
struct entry *cmd_find_read(struct cmd_ctx *c, struct slice key);
struct entry *cmd_find_write(struct cmd_ctx *c, struct slice key);
/* As above and of this type; replies WRONGTYPE and sets *ret_err otherwise. NULL with *ret_err false: absent. */
struct entry *cmd_find_typed(struct cmd_ctx *c, struct slice key, enum obj_type type, bool for_write, bool *ret_err);
/* EXPIRE and its like: ks_set_expire, or ks_set_expire_own where a replica is to delete the key. */
void cmd_set_expire(struct cmd_ctx *c, int db, struct entry *e, int64_t when_ms);
/* Argument to number; replies the error ("ERR value is not an integer or out of range" or msg) and gives false. */
bool cmd_arg_ll(struct cmd_ctx *c, struct slice a, int64_t *ret, const char *msg);
bool cmd_arg_ll_range(struct cmd_ctx *c, struct slice a, int64_t min, int64_t max, int64_t *ret, const char *msg);
bool cmd_arg_double(struct cmd_ctx *c, struct slice a, double *ret, const char *msg);
void cmd_syntax_error(struct cmd_ctx *c); /* "ERR syntax error" */
void cmd_wrongtype(struct cmd_ctx *c);
void cmd_unknown_sub(struct cmd_ctx *c); /* "ERR unknown subcommand or wrong number of arguments for '%s'. Try %s HELP." */
void cmd_help(struct cmd_ctx *c, const char *const *lines); /* the reply to "<command> HELP", framed as Redis does */
/* "proto-max-bulk-len" as set now: the largest string a command may build. Replies "ERR string exceeds maximum allowed size
 * (proto-max-bulk-len)". */
bool cmd_check_string_len(struct cmd_ctx *c, uint64_t size, uint64_t append);

/* ---- blocking (block.c) ----
 *
 * A command that finds nothing to do calls cmd_block_on_keys and returns. When one of the keys is ready the WHOLE command is run
 * again (c->retry), with all shards of its keys locked; it replies, and that reply is the client's, or it calls
 * cmd_block_on_keys again and goes on waiting, in its old place of the queue and with its old deadline. Ready: the key exists and
 * is of the type waited for; and with on_nokey also: it is gone, or of another type. The keyspace notices by itself what creates,
 * replaces or deletes a key (ks_set, ks_delete, ks_steal, ks_swap, ks_flush, expiry); only data that is added to a value in place
 * has to be told, by cmd_signal_ready. Served are those who wait longest, before the locks of whoever made the key ready are
 * released. What the command propagates then must be a form that does not block (LPOP, LMOVE...). */
struct cmd_block {
    const struct slice *keys; /* n_keys slices: copied. Of the command's keys, those that can make it go on */
    int n_keys;
    enum obj_type type;                  /* a key of this type can be ready */
    bool on_nokey;                       /* XREADGROUP: woken up also when a key is deleted or becomes something else */
    int64_t deadline_us;                 /* from cmd_arg_timeout; 0: none */
    void (*timed_out)(struct reply *r);  /* the reply then: reply_null_array, reply_null... */
    void (*conclude)(struct session *s); /* in place of timed_out, where the reply depends on the session (WAIT) */
    /* What is run again instead of the command as given (XREAD, `$` resolved): argc slices of the same command, copied. NULL: as
     * given. */
    const struct slice *argv;
    int argc;
    /* It waits for something that is no key (MIGRATE), which is told when the client waits no longer, on the session's thread.
     * CLIENT UNBLOCK leaves it alone. */
    void *job;
    void (*job_dropped)(void *job);
};
/* False inside EXEC and scripts: cmd_block_on_keys replies as if timed out then, so most commands need not ask. */
bool cmd_can_block(const struct cmd_ctx *c);
void cmd_block_on_keys(struct cmd_ctx *c, const struct cmd_block *b);
/* A timeout argument, in seconds with fractions or (XREAD) in milliseconds. 0 waits for ever: *ret_deadline_us is 0, else a time
 * of clock_mono_us. False: replied the error. */
enum cmd_timeout_unit { CMD_TIMEOUT_SECONDS, CMD_TIMEOUT_MS };
bool cmd_arg_timeout(struct cmd_ctx *c, struct slice a, enum cmd_timeout_unit unit, int64_t *ret_deadline_us);
/* Something was added to the value of an existing key that those who wait for the key may want (XADD; XGROUP DESTROY). */
void cmd_signal_ready(struct cmd_ctx *c, int db, struct slice key);

/* Families' arrays. cmd_table_register_data: those of this layer, which is all but the server's own. */
void cmd_table_register_data(struct cmd_table *t);
extern const struct cmd_spec cmd_specs_string[], cmd_specs_bitmap[], cmd_specs_generic[], cmd_specs_transaction[],
    cmd_specs_command[], cmd_specs_connection[], cmd_specs_list[], cmd_specs_hash[], cmd_specs_set[], cmd_specs_zset[],
    cmd_specs_geo[], cmd_specs_stream[], cmd_specs_hll[], cmd_specs_sort[], cmd_specs_dump[], cmd_specs_script[];

#endif
