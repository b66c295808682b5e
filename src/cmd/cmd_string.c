/*
 * Strings, whole values: GET and SET with their relatives, and the option words that SET and GETEX share.
 *
 * Flow of a write: options parsed -> times made absolute -> old value replied (GET) -> condition (NX, XX) -> value stored ->
 * effects -> +OK. Nothing is changed before the last error that can be replied. Times travel to replicas and the AOF as absolute
 * ones (PXAT, PEXPIREAT).
 *
 * Values of at least 16 KiB are sent from where they lie: the reply holds a reference to the object, and whoever wants to change
 * the object meanwhile gets a copy (obj_string_own). Below that a copy is cheaper than the bookkeeping and the extra iovec.
 */
#include "cmd/cmd_string.h"

#include "proto/resp_parse.h"

#define ZERO_COPY_MIN 16384 /* bytes */

void string_reply_part(struct cmd_ctx *c, struct obj *o, size_t from, size_t len) {
    char tmp[STR_LL_MAX];
    struct slice s = obj_string_bytes(o, tmp);
    if (o->enc == OBJ_ENC_RAW && len >= ZERO_COPY_MIN)
        reply_bulk_ref(c->r, s.ptr + from, len, obj_unref_cb, obj_ref(o));
    else
        reply_bulk(c->r, s.ptr + from, len);
}

void string_reply_value(struct cmd_ctx *c, struct obj *o) {
    string_reply_part(c, o, 0, obj_string_len(o));
}

static bool has_large(const struct cmd_ctx *c) {
    return c->s->parser && c->s->parser->n_large;
}

struct obj *string_new_value(struct cmd_ctx *c, struct slice val) {
    size_t cap = 0;
    char *own = has_large(c) ? resp_parser_take_large(c->s->parser, val.ptr, &cap) : NULL;
    if (!own) return obj_string_new(val.ptr, val.len);
    struct obj *o = obj_string_from_raw_take(own, val.len, cap);
    resp_parser_keep(c->s->parser, val.ptr, obj_unref_cb, obj_ref(o)); /* argv outlives it, should the command replace it again */
    return o;
}

struct entry *string_put(struct cmd_ctx *c, struct slice key, struct entry *old, struct slice val, bool keep_ttl) {
    if (has_large(c)) return generic_put(c, c->db, key, old, string_new_value(c, val), keep_ttl);
    return generic_put_string(c, key, old, val, keep_ttl);
}

/* Replies the value of argv[1] or null. False when an error was replied; *ret_entry NULL when absent. */
static bool reply_current(struct cmd_ctx *c, struct entry **ret_entry) {
    bool err;
    struct entry *e = cmd_find_typed(c, c->argv[1], OBJ_STRING, false, &err);
    if (err) return false;
    if (e == NULL)
        reply_null(c->r);
    else
        string_reply_value(c, entry_value(e));
    *ret_entry = e;
    return true;
}

/* ---- options of SET and GETEX ---- */

enum set_flag {
    SET_NX = 1 << 0,
    SET_XX = 1 << 1,
    SET_GET = 1 << 2,
    SET_KEEPTTL = 1 << 3,
    SET_PERSIST = 1 << 4,
    SET_EX = 1 << 5,
    SET_PX = 1 << 6,
    SET_EXAT = 1 << 7,
    SET_PXAT = 1 << 8
};
#define SET_TIMES (SET_EX | SET_PX | SET_EXAT | SET_PXAT)
#define FOR_SET 1
#define FOR_GETEX 2

/* An option is a syntax error when one of `excludes` came before it. Repeating an option is fine, the last time given counts. */
static const struct set_option {
    const char *word;
    unsigned flag, excludes, where;
} set_options[] = {
    { "nx", SET_NX, SET_XX, FOR_SET },
    { "xx", SET_XX, SET_NX, FOR_SET },
    { "get", SET_GET, 0, FOR_SET },
    { "keepttl", SET_KEEPTTL, SET_TIMES, FOR_SET },
    { "persist", SET_PERSIST, SET_TIMES, FOR_GETEX },
    { "ex", SET_EX, SET_KEEPTTL | SET_PERSIST | (SET_TIMES & ~SET_EX), FOR_SET | FOR_GETEX },
    { "px", SET_PX, SET_KEEPTTL | SET_PERSIST | (SET_TIMES & ~SET_PX), FOR_SET | FOR_GETEX },
    { "exat", SET_EXAT, SET_KEEPTTL | SET_PERSIST | (SET_TIMES & ~SET_EXAT), FOR_SET | FOR_GETEX },
    { "pxat", SET_PXAT, SET_KEEPTTL | SET_PERSIST | (SET_TIMES & ~SET_PXAT), FOR_SET | FOR_GETEX },
};

static const struct set_option *set_option_find(struct slice word, unsigned where) {
    for (size_t i = 0; i < sizeof(set_options) / sizeof(set_options[0]); i++)
        if ((set_options[i].where & where) && slice_ieq(word, set_options[i].word)) return &set_options[i];
    return NULL;
}

/* *ret_time points to the time argument, or is left alone. */
static bool set_parse(struct cmd_ctx *c, int first, unsigned where, unsigned *ret_flags, struct slice *ret_time) {
    unsigned f = 0;
    for (int i = first; i < c->argc; i++) {
        const struct set_option *o = set_option_find(c->argv[i], where);
        if (o == NULL || (f & o->excludes) || ((o->flag & SET_TIMES) && i + 1 == c->argc)) {
            cmd_syntax_error(c);
            return false;
        }
        f |= o->flag;
        if (o->flag & SET_TIMES) *ret_time = c->argv[++i];
    }
    *ret_flags = f;
    return true;
}

static bool set_time(struct cmd_ctx *c, unsigned flags, struct slice arg, int64_t *ret_ms) {
    int64_t v, ms;
    if (!cmd_arg_ll(c, arg, &v, NULL)) return false;
    bool in_seconds = flags & (SET_EX | SET_EXAT);
    int64_t base_ms = flags & (SET_EX | SET_PX) ? cmd_clock_ms(c) : 0;
    if (v <= 0 || !generic_abs_time(v, in_seconds, base_ms, &ms)) {
        generic_expire_error(c);
        return false;
    }
    *ret_ms = ms;
    return true;
}

/* ---- SET, SETNX, SETEX, PSETEX ---- */

/* What replicas and the AOF get. As given, unless it carries a relative time, or a GET whose answer nobody reads. */
static void set_propagate(struct cmd_ctx *c, unsigned flags, struct slice val, int64_t when_ms) {
    char num[STR_LL_MAX];
    struct slice argv[5] = { SLICE_LIT("SET"), c->argv[1], val };
    if (flags & SET_TIMES) {
        argv[3] = SLICE_LIT("PXAT");
        argv[4] = (struct slice){ num, str_from_ll(num, when_ms) };
        cmd_propagate(c, 5, argv);
    } else if (flags & SET_GET) {
        argv[3] = SLICE_LIT("KEEPTTL");
        cmd_propagate(c, flags & SET_KEEPTTL ? 4 : 3, argv);
    }
}

/* Stores. False when the condition forbade it (nothing replied) or an error was replied (*ret_err). The old value is replied when
 * SET_GET. */
static bool set_generic(struct cmd_ctx *c, unsigned flags, struct slice val, struct slice time, bool *ret_err) {
    struct slice key = c->argv[1];
    int64_t when_ms = KS_NO_EXPIRE;
    struct entry *old;
    *ret_err = true;
    if ((flags & SET_TIMES) && !set_time(c, flags, time, &when_ms)) return false;
    if ((flags & SET_GET) && !reply_current(c, &old)) return false;
    *ret_err = false;
    old = cmd_find_write(c, key);
    if ((old != NULL && (flags & SET_NX)) || (old == NULL && (flags & SET_XX))) return false;

    /* An expiry that is replaced anyway is not taken out of the index first. */
    struct entry *e = string_put(c, key, old, val, flags & (SET_KEEPTTL | SET_TIMES));
    if (flags & SET_TIMES) cmd_set_expire(c, c->db, e, when_ms);
    set_propagate(c, flags, val, when_ms);
    cmd_modified(c, c->db, key);
    cmd_notify(c, '$', "set", c->db, key);
    if (flags & SET_TIMES) cmd_notify(c, 'g', "expire", c->db, key);
    return true;
}

void string_set_command(struct cmd_ctx *c) {
    unsigned flags;
    struct slice time = { NULL, 0 };
    bool err;
    if (!set_parse(c, 3, FOR_SET, &flags, &time)) return;
    bool done = set_generic(c, flags, c->argv[2], time, &err);
    if (err || (flags & SET_GET)) return;
    if (done)
        reply_ok(c->r);
    else
        reply_null(c->r);
}

void string_setnx_command(struct cmd_ctx *c) {
    bool err;
    reply_int(c->r, set_generic(c, SET_NX, c->argv[2], (struct slice){ NULL, 0 }, &err));
}

void string_setex_command(struct cmd_ctx *c) {
    bool err;
    if (set_generic(c, SET_EX, c->argv[3], c->argv[2], &err)) reply_ok(c->r);
}

void string_psetex_command(struct cmd_ctx *c) {
    bool err;
    if (set_generic(c, SET_PX, c->argv[3], c->argv[2], &err)) reply_ok(c->r);
}

int string_set_keys(int argc, const struct slice *argv, int *pos, unsigned *flags, int cap) {
    unsigned f = KEY_OW | KEY_UPDATE;
    for (int i = 3; i < argc; i++)
        if (slice_ieq(argv[i], "get")) f = KEY_RW | KEY_ACCESS | KEY_UPDATE;
    if (cap >= 1) {
        pos[0] = 1;
        if (flags != NULL) flags[0] = f;
    }
    return 1;
}

/* ---- GET, GETSET, GETDEL, GETEX ---- */

void string_get_command(struct cmd_ctx *c) {
    struct entry *e;
    reply_current(c, &e);
}

void string_getset_command(struct cmd_ctx *c) {
    bool err;
    set_generic(c, SET_GET, c->argv[2], (struct slice){ NULL, 0 }, &err);
}

void string_getdel_command(struct cmd_ctx *c) {
    struct slice key = c->argv[1];
    struct entry *e;
    if (!reply_current(c, &e) || e == NULL) return;
    ks_delete(c->ks, c->db, key, atomic_load_explicit(&c->eng->lazy_user_del, memory_order_relaxed));
    struct slice argv[] = { SLICE_LIT("DEL"), key };
    cmd_propagate(c, 2, argv);
    cmd_modified(c, c->db, key);
    cmd_notify(c, 'g', "del", c->db, key);
}

static void getex_persist(struct cmd_ctx *c, struct entry *e) {
    struct slice argv[] = { SLICE_LIT("PERSIST"), c->argv[1] };
    if (entry_expire_ms(e) == KS_NO_EXPIRE) return;
    ks_set_expire(c->ks, c->db, e, KS_NO_EXPIRE);
    cmd_propagate(c, 2, argv);
    cmd_modified(c, c->db, c->argv[1]);
    cmd_notify(c, 'g', "persist", c->db, c->argv[1]);
}

void string_getex_command(struct cmd_ctx *c) {
    unsigned flags;
    struct slice time = { NULL, 0 };
    int64_t when_ms = KS_NO_EXPIRE;
    bool err;
    if (!set_parse(c, 2, FOR_GETEX, &flags, &time)) return;
    struct entry *e = cmd_find_typed(c, c->argv[1], OBJ_STRING, false, &err);
    if (err) return;
    if (e == NULL) {
        reply_null(c->r);
        return;
    }
    if ((flags & SET_TIMES) && !set_time(c, flags, time, &when_ms)) return;
    string_reply_value(c, entry_value(e));
    if (flags & SET_PERSIST)
        getex_persist(c, e);
    else if ((flags & SET_TIMES) && when_ms <= c->now_ms)
        generic_delete_expired(c, c->argv[1]);
    else if (flags & SET_TIMES)
        generic_set_expire(c, e, c->argv[1], when_ms);
}
