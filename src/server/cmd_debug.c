/*
 * DEBUG: what test suites of clients and operators use. Runs on the client's I/O thread; takes locks itself (CMD_SELF_LOCK).
 * Refused unless enable-debug-command allows it.
 */
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#ifdef HAVE_JEMALLOC
#include <jemalloc/jemalloc.h>
#endif

#include "base/alloc.h"
#include "base/crash.h"
#include "base/log.h"
#include "base/str.h"
#include "cmd/cmd_generic.h"
#include "data/dict.h"
#include "data/list.h"
#include "data/listpack.h"
#include "data/hash.h"
#include "data/set.h"
#include "data/zset.h"
#include "server/aof_server.h"
#include "server/client.h"
#include "server/debug.h"
#include "server/debug_value.h"
#include "server/loading.h"
#include "server/propagate.h"
#include "server/replication.h"

static struct server *server_of(struct cmd_ctx *c) {
    return c->eng->server;
}

/* False: a script holds the locks for long; replied BUSY. */
static bool lock(struct cmd_ctx *c, uint64_t mask) {
    if (loading_is_on(server_of(c))) { /* the keyspace is another thread's */
        reply_error(c->r, "LOADING Redis is loading the dataset in memory");
        return false;
    }
    if (dispatch_lock(c, mask)) return true;
    dispatch_reply_busy(c);
    return false;
}

static bool lock_key(struct cmd_ctx *c, struct slice key) {
    return lock(c, 1ULL << ks_shard_of(c->ks, key));
}

static bool lock_all(struct cmd_ctx *c) {
    return lock(c, ks_all_mask(ks_n_shards(c->ks)));
}

/* The key's entry, or NULL after "no such key"; its shard is locked. */
static struct entry *find_key(struct cmd_ctx *c, struct slice key) {
    struct entry *e = ks_find(c->ks, c->db, key, c->now_ms, KS_FIND_NO_TOUCH | KS_FIND_NO_STATS);
    if (!e) reply_error(c->r, "ERR no such key");
    return e;
}

static bool arg_is_zero(struct slice a) {
    return slice_eq(a, SLICE_LIT("0"));
}

/* ---- time ---- */

static void debug_sleep(struct cmd_ctx *c) {
    double s;
    if (!str_to_double(c->argv[2], &s)) s = 0;
    if (s > 0) {
        /* Redis is one thread: everybody sleeps. So every shard is held. */
        if (!lock_all(c)) return;
        struct timespec ts = { .tv_sec = (time_t)s, .tv_nsec = (long)((s - (double)(time_t)s) * 1e9) };
        while (nanosleep(&ts, &ts) != 0) {
        }
        dispatch_unlock(c);
    }
    reply_ok(c->r);
}

static void debug_set_active_expire(struct cmd_ctx *c) {
    ks_set_active_expire(c->ks, !arg_is_zero(c->argv[2]));
    reply_ok(c->r);
}

static void debug_pause_cron(struct cmd_ctx *c) {
    atomic_store(&server_of(c)->cron_paused, !arg_is_zero(c->argv[2]));
    reply_ok(c->r);
}

/* ---- values ---- */

static void debug_object(struct cmd_ctx *c) {
    if (!lock_key(c, c->argv[2])) return;
    struct entry *e = find_key(c, c->argv[2]);
    if (e) {
        struct obj *o = entry_value(e);
        struct buf line = { 0 };
        buf_printf(&line, "Value at:%p refcount:%u encoding:%s serializedlength:%zu lru:%u lru_seconds_idle:%u", (const void *)o,
                   generic_is_shared_integer(c->ks, o) ? INT_MAX : obj_refs(o), obj_encoding_name(o), debug_saved_len(o),
                   (unsigned)((c->now_ms / 1000 - entry_idle_s(e, c->now_ms)) & 0xffffff), entry_idle_s(e, c->now_ms));
        debug_append_facts(&line, o);
        reply_simple(c->r, buf_cstr(&line));
        buf_done(&line);
    }
    dispatch_unlock(c);
}

static const unsigned char *listpack_of(const struct obj *o) {
    bool timed;
    size_t len;
    if (o->enc == OBJ_ENC_LISTPACK_EX || (o->enc == OBJ_ENC_LISTPACK && o->type == OBJ_HASH)) return hash_listpack(o, &timed);
    if (o->enc != OBJ_ENC_LISTPACK) return NULL;
    if (o->type == OBJ_ZSET) return zset_listpack(o);
    if (o->type == OBJ_SET) return set_blob(o, &len);
    return o->u.ptr;
}

static void debug_listpack(struct cmd_ctx *c) {
    if (!lock_key(c, c->argv[2])) return;
    struct entry *e = find_key(c, c->argv[2]);
    const unsigned char *lp = e ? listpack_of(entry_value(e)) : NULL;
    if (e && !lp) {
        reply_error(c->r, "ERR Not a listpack encoded object.");
    } else if (e) {
        char tmp[STR_LL_MAX];
        size_t i = 0;
        log_warning("listpack: %zu bytes, %zu elements", lp_bytes(lp), lp_count(lp));
        for (const unsigned char *p = lp_first(lp); p; p = lp_next(lp, p), i++) {
            struct slice s = lp_get(p, tmp);
            log_warning("  %zu: %zu bytes: %.*s", i, lp_entry_bytes(p), (int)(s.len < 64 ? s.len : 64), s.ptr);
        }
        reply_simple(c->r, "Listpack structure printed on stdout");
    }
    dispatch_unlock(c);
}

static void debug_packed_threshold(struct cmd_ctx *c) {
    char *text = mem_memdup0(c->argv[2].ptr, c->argv[2].len);
    bool err = true;
    uint64_t bytes = strlen(text) == c->argv[2].len ? str_to_mem(text, &err) : 0;
    mem_free(text);
    if (err || !ql_set_packed_threshold(bytes))
        reply_error(c->r, "ERR argument must be a memory value bigger than 1 and smaller than 4gb");
    else
        reply_ok(c->r);
}

/* ---- digests ---- */

static void reply_digest(struct cmd_ctx *c, const unsigned char *d) {
    char hex[2 * DEBUG_DIGEST_BYTES + 1];
    for (int i = 0; i < DEBUG_DIGEST_BYTES; i++) snprintf(hex + 2 * i, 3, "%02x", d[i]);
    reply_simple(c->r, hex);
}

static void debug_digest(struct cmd_ctx *c) {
    unsigned char d[DEBUG_DIGEST_BYTES];
    if (!lock_all(c)) return;
    debug_digest_all(c->ks, c->now_ms, d);
    dispatch_unlock(c);
    reply_digest(c, d);
}

static void debug_digest_values(struct cmd_ctx *c) {
    if (!lock_all(c)) return;
    reply_array(c->r, (size_t)c->argc - 2);
    for (int i = 2; i < c->argc; i++) {
        unsigned char d[DEBUG_DIGEST_BYTES] = { 0 };
        struct entry *e = ks_find(c->ks, c->db, c->argv[i], c->now_ms, KS_FIND_NO_TOUCH | KS_FIND_NO_STATS);
        if (e) debug_digest_value(e, c->now_ms, d);
        reply_digest(c, d);
    }
    dispatch_unlock(c);
}

/* ---- keys ---- */

static void debug_populate(struct cmd_ctx *c) {
    int64_t count, size = 0;
    struct slice prefix = c->argc > 3 ? c->argv[3] : SLICE_LIT("key");
    if (c->argc > 5) {
        cmd_unknown_sub(c);
        return;
    }
    if (!cmd_arg_ll_range(c, c->argv[2], 0, INT64_MAX, &count, "ERR value is out of range, must be positive")) return;
    if (c->argc > 4 && !cmd_arg_ll_range(c, c->argv[4], 0, INT32_MAX, &size, "ERR value is out of range, must be positive"))
        return;
    struct buf key = { 0 };
    if (!lock_all(c)) return;
    for (int64_t i = 0; i < count; i++) {
        char value[32];
        int len = snprintf(value, sizeof value, "value:%lld", (long long)i);
        buf_clear(&key);
        buf_append(&key, prefix.ptr, prefix.len);
        buf_printf(&key, ":%lld", (long long)i);
        if (ks_find(c->ks, c->db, buf_slice(&key), c->now_ms, KS_FIND_WRITE)) continue;
        struct obj *o = size ? obj_string_new_raw((size_t)size) : obj_string_new(value, (size_t)len);
        if (size) memcpy(o->u.raw.data, value, (size_t)(len < size ? len : size));
        ks_set(c->ks, c->db, buf_slice(&key), o, false);
        cmd_modified(c, c->db, buf_slice(&key));
    }
    dispatch_unlock(c);
    buf_done(&key);
    reply_ok(c->r);
}

/* What is no table of chains has places and items only. */
static void put_table(struct buf *out, int table, const struct dict_stats *s, bool full) {
    buf_printf(out, "Hash table %d stats (%s):\n", table, table ? "rehashing target" : "main hash table");
    if (s->used == 0) {
        buf_append_cstr(out, "No stats available for empty dictionaries\n");
        return;
    }
    buf_printf(out, " table size: %llu\n number of elements: %llu\n", (unsigned long long)s->places, (unsigned long long)s->used);
    if (!full || !s->in_use) return;
    buf_printf(out,
               " different slots: %llu\n max chain length: %llu\n avg chain length (counted): %.02f\n"
               " avg chain length (computed): %.02f\n Chain length distribution:\n",
               (unsigned long long)s->in_use, (unsigned long long)s->longest, (double)s->used / (double)s->in_use,
               (double)s->used / (double)s->in_use);
    for (int i = 0; i < DICT_STATS_CHAINS; i++) {
        if (!s->of_len[i]) continue;
        buf_printf(out, "   %s%d: %llu (%.02f%%)\n", i == DICT_STATS_CHAINS - 1 ? ">= " : "", i, (unsigned long long)s->of_len[i],
                   (double)s->of_len[i] * 100 / (double)s->chains);
    }
}

static bool wants_full(const struct cmd_ctx *c) {
    return c->argc == 4 && slice_ieq(c->argv[3], "full");
}

static void reply_text(struct cmd_ctx *c, struct buf *out) {
    reply_verbatim(c->r, out->data, out->len, "txt");
    buf_done(out);
}

static void debug_htstats(struct cmd_ctx *c) {
    int64_t db;
    bool full = wants_full(c);
    if (!cmd_arg_ll(c, c->argv[2], &db, NULL)) return;
    if (db < 0 || db >= ks_n_dbs(c->ks)) {
        reply_error(c->r, "ERR Out of range database");
        return;
    }
    struct buf out = { 0 };
    struct dict_stats s;
    if (!lock_all(c)) return;
    buf_append_cstr(&out, "[Dictionary HT]\n");
    for (int table = 0; table < 2; table++) {
        ks_table_stats(c->ks, (int)db, table, &s);
        if (table == 0 || s.chains) put_table(&out, table, &s, full);
    }
    uint64_t n = ks_expires(c->ks, (int)db);
    buf_append_cstr(&out, "[Expires HT]\n");
    put_table(&out, 0, &(struct dict_stats){ .places = n, .used = n }, full);
    dispatch_unlock(c);
    reply_text(c, &out);
}

static void debug_htstats_key(struct cmd_ctx *c) {
    bool full = wants_full(c);
    if (!lock_key(c, c->argv[2])) return;
    struct entry *e = find_key(c, c->argv[2]);
    const struct obj *o = e ? entry_value(e) : NULL;
    const struct dict *d = o && o->enc == OBJ_ENC_HASHTABLE ? (o->type == OBJ_HASH ? hash_dict(o) : set_dict(o)) : NULL;
    struct buf out = { 0 };
    if (d) {
        for (int table = 0, n = dict_is_rehashing(d) ? 2 : 1; table < n; table++) {
            struct dict_stats s = { 0 };
            dict_stats_add(d, table, &s);
            put_table(&out, table, &s, full);
        }
        reply_text(c, &out);
    } else if (o && o->enc == OBJ_ENC_SKIPLIST) {
        put_table(&out, 0, &(struct dict_stats){ .places = zset_len(o), .used = zset_len(o) }, full);
        reply_text(c, &out);
    } else if (e) {
        reply_error(c->r, "ERR The value stored at the specified key is not represented using an hash table");
    }
    dispatch_unlock(c);
}

/* ---- the protocol ---- */

static void reply_three(struct cmd_ctx *c, void (*head)(struct reply *r, size_t n)) {
    head(c->r, 3);
    for (int i = 0; i < 3; i++) reply_int(c->r, i);
}

static void reply_attributed(struct cmd_ctx *c) {
    if (c->r->resp >= 3) {
        reply_attribute(c->r, 1);
        reply_bulk_cstr(c->r, "key-popularity");
        reply_array(c->r, 2);
        reply_bulk_cstr(c->r, "key:123");
        reply_int(c->r, 90);
    }
    reply_bulk_cstr(c->r, "Some real reply following the attribute");
}

static void debug_protocol(struct cmd_ctx *c) {
    struct slice type = c->argv[2];
    if (slice_ieq(type, "string")) {
        reply_bulk_cstr(c->r, "Hello World");
    } else if (slice_ieq(type, "integer")) {
        reply_int(c->r, 12345);
    } else if (slice_ieq(type, "double")) {
        reply_double(c->r, 3.141);
    } else if (slice_ieq(type, "null")) {
        reply_null(c->r);
    } else if (slice_ieq(type, "array")) {
        reply_three(c, reply_array);
    } else if (slice_ieq(type, "set")) {
        reply_three(c, reply_set);
    } else if (slice_ieq(type, "map")) {
        reply_map(c->r, 3);
        for (int i = 0; i < 3; i++) {
            reply_int(c->r, i);
            reply_bool(c->r, i == 1);
        }
    } else if (slice_ieq(type, "attrib")) {
        reply_attributed(c);
    } else if (slice_ieq(type, "push") && c->r->resp < 3) {
        reply_error(c->r, "ERR RESP2 is not supported by this command");
    } else if (slice_ieq(type, "push")) {
        /* The reply first: what is pushed because of a command comes behind its reply, as in Redis 7.2. */
        reply_bulk_cstr(c->r, "Some real reply following the push reply");
        reply_push(c->r, 2);
        reply_bulk_cstr(c->r, "server-cpu-usage");
        reply_int(c->r, 42);
    } else if (slice_ieq(type, "true") || slice_ieq(type, "false")) {
        reply_bool(c->r, type.len == 4);
    } else if (slice_ieq(type, "verbatim")) {
        reply_verbatim(c->r, "This is a verbatim\nstring", 25, "txt");
    } else if (slice_ieq(type, "bignum")) {
        reply_bignum(c->r, SLICE_LIT("1234567999999999999999999999999999999"));
    } else {
        reply_error(c->r, "ERR Wrong protocol type name. Please use one of the following: "
                          "string|integer|double|bignum|null|array|set|map|attrib|push|verbatim|true|false");
    }
}

static void debug_error(struct cmd_ctx *c) {
    char text[1024];
    snprintf(text, sizeof text, "%.*s", (int)(c->argv[2].len < 1000 ? c->argv[2].len : 1000), c->argv[2].ptr);
    reply_error(c->r, text);
}

/* Reply buffers grow and shrink by what is in them: there is no peak to be kept, nor a job to be switched off. */
static void debug_replybuffer(struct cmd_ctx *c) {
    int64_t v;
    bool peak = slice_ieq(c->argv[2], "peak-reset-time"), resizing = slice_ieq(c->argv[2], "resizing");
    if (!peak && !resizing) {
        cmd_unknown_sub(c);
        return;
    }
    if (peak && (slice_ieq(c->argv[3], "never") || slice_ieq(c->argv[3], "reset")))
        reply_ok(c->r);
    else if (cmd_arg_ll(c, c->argv[3], &v, NULL))
        reply_ok(c->r);
}

static void debug_stringmatch_len(struct cmd_ctx *c) {
    reply_int(c->r, str_glob(c->argv[2], c->argv[3], false));
}

/* ---- the process ---- */

static void debug_log(struct cmd_ctx *c) {
    log_warning("DEBUG LOG: %.*s", (int)(c->argv[2].len < 1000 ? c->argv[2].len : 1000), c->argv[2].ptr);
    reply_ok(c->r);
}

static void debug_segfault(struct cmd_ctx *c) {
    (void)c;
    raise(SIGSEGV);
}

static void debug_panic(struct cmd_ctx *c) {
    (void)c;
    log_warning("DEBUG PANIC called");
    crash_panic();
}

static void debug_oom(struct cmd_ctx *c) {
    mem_free(mem_alloc(SIZE_MAX / 2)); /* ends the process */
    reply_ok(c->r);
}

static void debug_set_disable_deny_scripts(struct cmd_ctx *c) {
    atomic_store(&c->eng->allow_noscript, !arg_is_zero(c->argv[2]));
    reply_ok(c->r);
}

#ifdef HAVE_JEMALLOC
/* A name of jemalloc's, NUL-terminated; false: too long to be one. */
static bool mallctl_name(struct slice a, char *ret, size_t cap) {
    if (a.len >= cap || memchr(a.ptr, 0, a.len)) return false;
    memcpy(ret, a.ptr, a.len);
    ret[a.len] = 0;
    return true;
}

/* Integers of 8, 4 or 1 bytes: which, only the call tells. */
static bool mallctl_int(const char *name, const int64_t *fresh, int64_t *ret) {
    static const size_t sizes[] = { 8, 4, 1 };
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        size_t len = sizes[i];
        int64_t old = 0, v = fresh ? *fresh : 0;
        if (mallctl(name, &old, &len, fresh ? &v : NULL, fresh ? sizes[i] : 0) != 0) continue;
        *ret = old;
        return true;
    }
    return false;
}

static void debug_mallctl(struct cmd_ctx *c) {
    char name[128];
    int64_t v, old;
    if (c->argc == 4 && !cmd_arg_ll(c, c->argv[3], &v, NULL)) return;
    if (mallctl_name(c->argv[2], name, sizeof name) && mallctl_int(name, c->argc == 4 ? &v : NULL, &old))
        reply_int(c->r, old);
    else
        reply_error(c->r, "ERR no such name, or no number");
}

static void debug_mallctl_str(struct cmd_ctx *c) {
    char name[128];
    const char *old = NULL;
    size_t len = sizeof old;
    if (mallctl_name(c->argv[2], name, sizeof name) && mallctl(name, &old, &len, NULL, 0) == 0 && old)
        reply_bulk_cstr(c->r, old);
    else
        reply_null(c->r);
}
#else
static void debug_mallctl(struct cmd_ctx *c) {
    reply_error(c->r, "ERR the allocator is not jemalloc");
}

static void debug_mallctl_str(struct cmd_ctx *c) {
    debug_mallctl(c);
}
#endif

/* ---- which ---- */

static void debug_change_repl_id(struct cmd_ctx *c) {
    struct server *srv = c->eng->server;
    if (!lock_all(c)) return;
    log_notice("Changing replication IDs after receiving change-repl-id");
    repl_change_id(srv->repl);
    repl_clear_id2(srv->repl);
    dispatch_unlock(c);
    reply_ok(c->r);
}

/* A replica has no stream of its own: nothing is sent, as in redis-server. */
static void debug_replicate(struct cmd_ctx *c) {
    struct server *srv = c->eng->server;
    if (!lock_all(c)) return; /* the role does not change */
    if (!repl_is_replica(srv->repl)) propagate_repl_command(srv, -1, c->argc - 2, c->argv + 2);
    dispatch_unlock(c);
    reply_ok(c->r);
}

static const char *const help_lines[] = {
    "CHANGE-REPL-ID",
    "    Change the replication IDs of the instance.",
    "DIGEST",
    "    A sum over all data: equal data, equal sum, as redis-server computes it.",
    "DIGEST-VALUE <key> [<key> ...]",
    "    The same of single values.",
    "ERROR <string>",
    "    Replies an error with that text.",
    "HTSTATS <dbid> [full]",
    "    Sizes of a database's tables; full: how long their chains are.",
    "HTSTATS-KEY <key> [full]",
    "    The same of the table of a value.",
    "LISTPACK <key>",
    "    Logs the elements of a value's listpack.",
    "LOG <message>",
    "    Writes <message> into the log.",
    "LOADAOF",
    "    Empties the data set and reads the append-only file.",
    "MALLCTL <key> [<val>]",
    "    Reads or sets a number of the allocator's.",
    "MALLCTL-STR <key>",
    "    Reads a text of the allocator's.",
    "OBJECT <key>",
    "    Low-level facts about a key's value.",
    "OOM",
    "    Ends the server as running out of memory does.",
    "PANIC",
    "    Ends the server as a failed check does.",
    "PAUSE-CRON <0|1>",
    "    Stops the periodic work.",
    "POPULATE <count> [<prefix>] [<size>]",
    "    Makes <count> keys named key:<num>, or <prefix>:<num>.",
    "PROTOCOL <type>",
    "    Replies a value of that type of the protocol.",
    "QUICKLIST-PACKED-THRESHOLD <size>",
    "    From how many bytes on an element of a list has a node of its own; 0: as",
    "    usual.",
    "RELOAD [MERGE] [NOFLUSH] [NOSAVE]",
    "    Writes the RDB file, empties the data set and reads the file back.",
    "    NOSAVE: reads the file there is; NOFLUSH: to what is there; MERGE: in place",
    "    of keys of the same names.",
    "REPLICATE <command> [<arg> ...]",
    "    Gives the command to replicas as it is, and to nobody else: they diverge.",
    "REPLYBUFFER PEAK-RESET-TIME <NEVER|RESET|time>",
    "REPLYBUFFER RESIZING <0|1>",
    "    Accepted; reply buffers have no such timers here.",
    "SEGFAULT",
    "    Ends the server with a fault.",
    "SET-ACTIVE-EXPIRE <0|1>",
    "    Switches the deletion of expired keys that nobody asks for.",
    "SET-DISABLE-DENY-SCRIPTS <0|1>",
    "    Lets scripts run commands that are denied to them.",
    "SLEEP <seconds>",
    "    Stops the server for <seconds>; fractions allowed.",
    "STRINGMATCH-LEN <pattern> <string>",
    "    1 when the pattern matches.",
    NULL,
};

static void debug_help(struct cmd_ctx *c) {
    cmd_help(c, help_lines);
}

static const struct {
    const char *name;
    void (*run)(struct cmd_ctx *c);
    int min, max; /* of argc */
} subcommands[] = {
    { "help", debug_help, 2, 2 },
    { "change-repl-id", debug_change_repl_id, 2, 2 },
    { "digest", debug_digest, 2, 2 },
    { "digest-value", debug_digest_values, 2, INT32_MAX },
    { "error", debug_error, 3, 3 },
    { "htstats", debug_htstats, 3, 4 },
    { "htstats-key", debug_htstats_key, 3, 4 },
    { "listpack", debug_listpack, 3, 3 },
    { "loadaof", debug_loadaof, 2, 2 },
    { "log", debug_log, 3, 3 },
    { "mallctl", debug_mallctl, 3, 4 },
    { "mallctl-str", debug_mallctl_str, 3, 3 },
    { "object", debug_object, 3, 4 },
    { "oom", debug_oom, 2, 2 },
    { "panic", debug_panic, 2, 2 },
    { "pause-cron", debug_pause_cron, 3, 3 },
    { "populate", debug_populate, 3, INT32_MAX },
    { "protocol", debug_protocol, 3, 3 },
    { "quicklist-packed-threshold", debug_packed_threshold, 3, 3 },
    { "reload", debug_reload, 2, 5 },
    { "replicate", debug_replicate, 3, INT32_MAX },
    { "replybuffer", debug_replybuffer, 4, 4 },
    { "segfault", debug_segfault, 2, 2 },
    { "set-active-expire", debug_set_active_expire, 3, 3 },
    { "set-disable-deny-scripts", debug_set_disable_deny_scripts, 3, 3 },
    { "sleep", debug_sleep, 3, 3 },
    { "stringmatch-len", debug_stringmatch_len, 4, 4 },
};

void debug_command(struct cmd_ctx *c) {
    for (size_t i = 0; i < sizeof subcommands / sizeof *subcommands; i++) {
        if (!slice_ieq(c->argv[1], subcommands[i].name) || c->argc < subcommands[i].min || c->argc > subcommands[i].max) continue;
        subcommands[i].run(c);
        return;
    }
    cmd_unknown_sub(c);
}
