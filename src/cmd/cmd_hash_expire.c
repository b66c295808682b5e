/*
 * Times of hash fields: HEXPIRE, HTTL, HPERSIST with their relatives (Redis 7.4), HGETEX, HSETEX, HGETDEL (Redis 8.0).
 *
 * Times are kept as absolute ones, and travel so: HPEXPIREAT, HSETEX ... PXAT. A field given a time that has passed is deleted on
 * the spot, and HDEL travels instead. Whoever sets a time tells the keyspace (ks_fields_changed), which takes the field away
 * then.
 */
#include "cmd/cmd_hash.h"

#include <limits.h>

#include "base/alloc.h"

enum { NO_FIELD = -2, NO_TIME = -1, REFUSED = 0, DONE = 1, DELETED = 2 }; /* what is replied for a field */

/* ---- arguments ---- */

/* A time argument to absolute milliseconds; base_ms 0: it is absolute. Replies the error. */
static bool field_time_arg(struct cmd_ctx *c, struct slice a, bool in_seconds, int64_t base_ms, int64_t *ret_ms) {
    int64_t v;
    if (!cmd_arg_ll(c, a, &v, NULL)) return false;
    if (v < 0) {
        reply_error(c->r, "ERR invalid expire time, must be >= 0");
        return false;
    }
    if ((in_seconds && v > HASH_TIME_MAX / 1000) || (in_seconds ? v * 1000 : v) > HASH_TIME_MAX - base_ms) {
        generic_expire_error(c);
        return false;
    }
    *ret_ms = (in_seconds ? v * 1000 : v) + base_ms;
    return true;
}

/* "FIELDS numfields field ..." from argv[at] to the end; the first field is argv[at + 2]. */
static bool fields_arg(struct cmd_ctx *c, int at, const char *bad_count) {
    int64_t n;
    if (at >= c->argc || !slice_ieq(c->argv[at], "fields")) {
        reply_error(c->r, "ERR Mandatory argument FIELDS is missing or not at the right position");
        return false;
    }
    if (at + 1 == c->argc) {
        reply_errorf(c->r, "ERR wrong number of arguments for '%s' command", c->cmd->full_name);
        return false;
    }
    if (!cmd_arg_ll_range(c, c->argv[at + 1], 1, LONG_MAX, &n, bad_count)) return false;
    if (n == c->argc - at - 2) return true;
    reply_error(c->r, "ERR The `numfields` parameter must match the number of arguments");
    return false;
}

#define BAD_COUNT "ERR Number of fields must be a positive integer"

static void reply_same(struct cmd_ctx *c, int n, int64_t v) {
    reply_array(c->r, (size_t)n);
    for (int i = 0; i < n; i++) reply_int(c->r, v);
}

/* ---- what a command did to fields, told at its end ---- */

struct changes {
    struct slice *fields; /* those changed; then argv of what is replicated */
    int n_timed, n_deleted, cap;
};

/* Room for the head of a replicated command before the fields. */
#define HEAD 5

static void changes_init(struct changes *ch, int n_fields) {
    *ch = (struct changes){ .fields = mem_calloc((size_t)n_fields + HEAD, sizeof(*ch->fields)), .cap = n_fields };
}

/* Gives a field that exists the time, or deletes it when that has passed. */
static int apply_time(struct cmd_ctx *c, struct obj *o, struct slice field, int64_t when_ms, struct changes *ch) {
    bool is_past = when_ms != HASH_NO_TIME && when_ms <= c->now_ms;
    ch->fields[HEAD + ch->n_timed + ch->n_deleted] = field;
    if (is_past) {
        hash_delete(o, field, c->now_ms);
        ch->n_deleted++;
        return DELETED;
    }
    hash_set_time(o, field, when_ms);
    ch->n_timed++;
    return DONE;
}

static void propagate_changes(struct cmd_ctx *c, const struct changes *ch, int64_t when_ms) {
    char num[STR_LL_MAX], count[STR_LL_MAX];
    int n = ch->n_timed + ch->n_deleted;
    struct slice *argv = ch->fields;
    if (ch->n_deleted) {
        argv += HEAD - 2;
        argv[0] = SLICE_LIT("HDEL");
        argv[1] = c->argv[1];
        cmd_propagate(c, n + 2, argv);
        return;
    }
    bool is_persist = when_ms == HASH_NO_TIME;
    argv += is_persist ? 1 : 0;
    int at = 0;
    argv[at++] = is_persist ? SLICE_LIT("HPERSIST") : SLICE_LIT("HPEXPIREAT");
    argv[at++] = c->argv[1];
    if (!is_persist) argv[at++] = (struct slice){ num, str_from_ll(num, when_ms) };
    argv[at++] = SLICE_LIT("FIELDS");
    argv[at++] = (struct slice){ count, str_from_ll(count, n) };
    cmd_propagate(c, n + at, argv);
}

/* All fields of one command get the same time: they are all deleted, or none is. */
static void changes_end(struct cmd_ctx *c, struct entry *e, struct changes *ch, int64_t when_ms) {
    struct slice key = c->argv[1];
    if (ch->n_timed || ch->n_deleted) {
        propagate_changes(c, ch, when_ms);
        cmd_modified(c, c->db, key);
        cmd_dirty(c, (uint64_t)(ch->n_timed + ch->n_deleted) - 1);
        cmd_notify(c, 'h', ch->n_deleted ? "hdel" : when_ms == HASH_NO_TIME ? "hpersist" : "hexpire", c->db, key);
        if (!hash_drop_if_empty(c, key, entry_value(e))) ks_fields_changed(c->ks, c->db, e);
    }
    mem_free(ch->fields);
}

/* ---- HEXPIRE, HPEXPIRE, HEXPIREAT, HPEXPIREAT ---- */

enum expire_if { ALWAYS, IF_NONE, IF_SOME, IF_LATER, IF_SOONER };

static enum expire_if condition_arg(struct slice a) {
    static const char *const words[] = { "nx", "xx", "gt", "lt" };
    for (int i = 0; i < 4; i++)
        if (slice_ieq(a, words[i])) return (enum expire_if)(i + 1);
    return ALWAYS;
}

/* A field without a time lives for ever: nothing is later, everything is sooner. */
static bool condition_met(enum expire_if cond, int64_t old_ms, int64_t new_ms) {
    switch (cond) {
    case IF_NONE:
        return old_ms == HASH_NO_TIME;
    case IF_SOME:
        return old_ms != HASH_NO_TIME;
    case IF_LATER:
        return old_ms != HASH_NO_TIME && new_ms > old_ms;
    case IF_SOONER:
        return old_ms == HASH_NO_TIME || new_ms < old_ms;
    default:
        return true;
    }
}

static void expire_fields_of(struct cmd_ctx *c, struct entry *e, int first, enum expire_if cond, int64_t when_ms) {
    struct obj *o = entry_value(e);
    struct changes ch;
    changes_init(&ch, c->argc - first);
    reply_array(c->r, (size_t)(c->argc - first));
    for (int i = first; i < c->argc; i++) {
        int64_t old_ms = hash_time(o, c->argv[i], c->now_ms);
        if (old_ms == HASH_NO_FIELD)
            reply_int(c->r, NO_FIELD);
        else if (!condition_met(cond, old_ms, when_ms))
            reply_int(c->r, REFUSED);
        else
            reply_int(c->r, apply_time(c, o, c->argv[i], when_ms, &ch));
    }
    changes_end(c, e, &ch, when_ms);
}

static void expire_generic(struct cmd_ctx *c, bool in_seconds, int64_t base_ms) {
    int64_t when_ms;
    bool err;
    struct entry *e = cmd_find_typed(c, c->argv[1], OBJ_HASH, true, &err);
    if (err || !field_time_arg(c, c->argv[2], in_seconds, base_ms, &when_ms)) return;
    enum expire_if cond = condition_arg(c->argv[3]);
    int at = cond == ALWAYS ? 3 : 4;
    if (!fields_arg(c, at, "ERR Parameter `numFields` should be greater than 0")) return;
    if (e == NULL)
        reply_same(c, c->argc - at - 2, NO_FIELD);
    else
        expire_fields_of(c, e, at + 2, cond, when_ms);
}

void hash_expire_command(struct cmd_ctx *c) {
    expire_generic(c, true, cmd_clock_ms(c));
}

void hash_pexpire_command(struct cmd_ctx *c) {
    expire_generic(c, false, cmd_clock_ms(c));
}

void hash_expireat_command(struct cmd_ctx *c) {
    expire_generic(c, true, 0);
}

void hash_pexpireat_command(struct cmd_ctx *c) {
    expire_generic(c, false, 0);
}

/* ---- HTTL, HPTTL, HEXPIRETIME, HPEXPIRETIME ---- */

static void ttl_generic(struct cmd_ctx *c, bool in_seconds, int64_t base_ms) {
    bool err;
    const struct obj *o = hash_for_read(c, &err);
    if (err || !fields_arg(c, 2, BAD_COUNT)) return;
    reply_array(c->r, (size_t)c->argc - 4);
    for (int i = 4; i < c->argc; i++) {
        int64_t when_ms = o == NULL ? HASH_NO_FIELD : hash_time(o, c->argv[i], c->now_ms);
        if (when_ms == HASH_NO_FIELD)
            reply_int(c->r, NO_FIELD);
        else if (when_ms == HASH_NO_TIME)
            reply_int(c->r, NO_TIME);
        else
            reply_int(c->r, in_seconds ? (when_ms - base_ms + 999) / 1000 : when_ms - base_ms);
    }
}

void hash_ttl_command(struct cmd_ctx *c) {
    ttl_generic(c, true, c->now_ms);
}

void hash_pttl_command(struct cmd_ctx *c) {
    ttl_generic(c, false, c->now_ms);
}

void hash_expiretime_command(struct cmd_ctx *c) {
    ttl_generic(c, true, 0);
}

void hash_pexpiretime_command(struct cmd_ctx *c) {
    ttl_generic(c, false, 0);
}

/* ---- HPERSIST ---- */

void hash_persist_command(struct cmd_ctx *c) {
    struct changes ch;
    bool err;
    struct entry *e = cmd_find_typed(c, c->argv[1], OBJ_HASH, true, &err);
    if (err || !fields_arg(c, 2, BAD_COUNT)) return;
    if (e == NULL) {
        reply_same(c, c->argc - 4, NO_FIELD);
        return;
    }
    struct obj *o = entry_value(e);
    changes_init(&ch, c->argc - 4);
    reply_array(c->r, (size_t)c->argc - 4);
    for (int i = 4; i < c->argc; i++) {
        int64_t when_ms = hash_time(o, c->argv[i], c->now_ms);
        if (when_ms == HASH_NO_FIELD || when_ms == HASH_NO_TIME)
            reply_int(c->r, when_ms == HASH_NO_FIELD ? NO_FIELD : NO_TIME);
        else
            reply_int(c->r, apply_time(c, o, c->argv[i], HASH_NO_TIME, &ch));
    }
    changes_end(c, e, &ch, HASH_NO_TIME);
}

/* ---- options of HGETEX and HSETEX ---- */

static const struct time_option {
    const char *word;
    bool in_seconds, is_relative;
} time_options[] = { { "ex", true, true }, { "px", false, true }, { "exat", true, false }, { "pxat", false, false } };

static const struct time_option *time_option_find(struct slice word) {
    for (size_t i = 0; i < sizeof(time_options) / sizeof(*time_options); i++)
        if (slice_ieq(word, time_options[i].word)) return &time_options[i];
    return NULL;
}

static bool option_time(struct cmd_ctx *c, const struct time_option *o, struct slice a, int64_t *ret_ms) {
    return field_time_arg(c, a, o->in_seconds, o->is_relative ? cmd_clock_ms(c) : 0, ret_ms);
}

/* ---- HGETEX ---- */

static void getex_fields(struct cmd_ctx *c, struct entry *e, int first, bool changes_time, int64_t when_ms) {
    struct obj *o = e == NULL ? NULL : entry_value(e);
    struct hash_pair pair;
    struct changes ch;
    changes_init(&ch, c->argc - first);
    reply_array(c->r, (size_t)(c->argc - first));
    for (int i = first; i < c->argc; i++) {
        if (o == NULL || !hash_get(o, c->argv[i], c->now_ms, &pair)) {
            reply_null(c->r);
            continue;
        }
        hash_reply_value(c, &pair);
        /* Persisting what has no time is no change. */
        if (changes_time && !(when_ms == HASH_NO_TIME && pair.when_ms == HASH_NO_TIME))
            apply_time(c, o, c->argv[i], when_ms, &ch);
    }
    changes_end(c, e, &ch, when_ms);
}

void hash_getex_command(struct cmd_ctx *c) {
    int64_t when_ms = HASH_NO_TIME;
    int at = 2;
    bool err;
    struct entry *e = cmd_find_typed(c, c->argv[1], OBJ_HASH, true, &err);
    if (err) return;
    const struct time_option *o = time_option_find(c->argv[2]);
    if (o != NULL) {
        if (!option_time(c, o, c->argv[3], &when_ms)) return;
        at = 4;
    } else if (slice_ieq(c->argv[2], "persist")) {
        at = 3;
    }
    if (fields_arg(c, at, BAD_COUNT)) getex_fields(c, e, at + 2, at > 2, when_ms);
}

/* ---- HGETDEL ---- */

void hash_getdel_command(struct cmd_ctx *c) {
    struct hash_pair pair;
    struct changes ch;
    bool err;
    struct entry *e = cmd_find_typed(c, c->argv[1], OBJ_HASH, true, &err);
    if (err || !fields_arg(c, 2, BAD_COUNT)) return;
    struct obj *o = e == NULL ? NULL : entry_value(e);
    changes_init(&ch, c->argc - 4);
    reply_array(c->r, (size_t)c->argc - 4);
    for (int i = 4; i < c->argc; i++) {
        if (o == NULL || !hash_get(o, c->argv[i], c->now_ms, &pair)) {
            reply_null(c->r);
            continue;
        }
        hash_reply_value(c, &pair);
        hash_delete(o, c->argv[i], c->now_ms);
        ch.fields[HEAD + ch.n_deleted++] = c->argv[i];
    }
    changes_end(c, e, &ch, HASH_NO_TIME);
}

/* ---- HSETEX ---- */

enum setex_if { SET_ALWAYS, SET_IF_NONE, SET_IF_ALL };

struct setex_args {
    enum setex_if cond;
    bool keeps_time, is_timed;
    int64_t when_ms;
    int first, n_pairs;
};

static bool setex_fields_arg(struct cmd_ctx *c, int at, struct setex_args *ret) {
    int64_t n;
    bool has_room = at < c->argc - 3;
    if (has_room && !cmd_arg_ll_range(c, c->argv[at + 1], 1, INT_MAX, &n, "ERR invalid number of fields")) return false;
    int rest = c->argc - at - 2;
    if (!has_room || rest % 2 != 0 || n != rest / 2) {
        reply_errorf(c->r, "ERR wrong number of arguments for '%s' command", c->cmd->full_name);
        return false;
    }
    ret->first = at + 2;
    ret->n_pairs = rest / 2;
    return true;
}

static bool setex_option(struct cmd_ctx *c, int *at, struct setex_args *ret) {
    struct slice word = c->argv[*at];
    const struct time_option *o = time_option_find(word);
    bool is_keep = slice_ieq(word, "keepttl"), is_fnx = slice_ieq(word, "fnx"), is_fxx = slice_ieq(word, "fxx");
    if ((o != NULL || is_keep) && (ret->is_timed || ret->keeps_time)) {
        reply_error(c->r, "ERR Only one of EX, PX, EXAT, PXAT or KEEPTTL arguments can be specified");
        return false;
    }
    if ((is_fnx || is_fxx) && ret->cond != SET_ALWAYS) {
        reply_error(c->r, "ERR Only one of FXX or FNX arguments can be specified");
        return false;
    }
    if (o != NULL) {
        ret->is_timed = true;
        if (++*at < c->argc) return option_time(c, o, c->argv[*at], &ret->when_ms);
        reply_error(c->r, "ERR missing expire time");
        return false;
    }
    if (is_keep) {
        ret->keeps_time = true;
    } else if (is_fnx || is_fxx) {
        ret->cond = is_fnx ? SET_IF_NONE : SET_IF_ALL;
    } else {
        reply_errorf(c->r, "ERR unknown argument: %.*s", (int)(word.len < 128 ? word.len : 128), word.ptr);
        return false;
    }
    return true;
}

static bool setex_parse(struct cmd_ctx *c, struct setex_args *ret) {
    *ret = (struct setex_args){ .when_ms = HASH_NO_TIME };
    for (int i = 2; i < c->argc; i++) {
        if (slice_ieq(c->argv[i], "fields")) return setex_fields_arg(c, i, ret);
        if (!setex_option(c, &i, ret)) return false;
    }
    reply_error(c->r, "ERR Mandatory argument FIELDS is missing or not at the right position");
    return false;
}

static bool setex_condition(struct cmd_ctx *c, const struct obj *o, const struct setex_args *a) {
    struct hash_pair pair;
    if (a->cond == SET_ALWAYS) return true;
    for (int i = 0; i < a->n_pairs; i++) {
        bool exists = o != NULL && hash_get(o, c->argv[a->first + i * 2], c->now_ms, &pair);
        if (exists == (a->cond == SET_IF_NONE)) return false;
    }
    return true;
}

/* The condition was met here, so it does not travel; times travel absolute. */
static void setex_propagate(struct cmd_ctx *c, const struct setex_args *a) {
    char num[STR_LL_MAX];
    int n = 0, n_rest = c->argc - a->first + 2;
    if (!a->is_timed && a->cond == SET_ALWAYS) return;
    struct slice *argv = mem_calloc((size_t)n_rest + 4, sizeof(*argv));
    argv[n++] = SLICE_LIT("HSETEX");
    argv[n++] = c->argv[1];
    if (a->keeps_time) argv[n++] = SLICE_LIT("KEEPTTL");
    if (a->is_timed) {
        argv[n++] = SLICE_LIT("PXAT");
        argv[n++] = (struct slice){ num, str_from_ll(num, a->when_ms) };
    }
    memcpy(argv + n, c->argv + a->first - 2, (size_t)n_rest * sizeof(*argv));
    cmd_propagate(c, n + n_rest, argv);
    mem_free(argv);
}

/* The time has passed already: what was set goes again. */
static void setex_delete(struct cmd_ctx *c, struct obj *o, const struct setex_args *a) {
    struct slice *argv = mem_calloc((size_t)a->n_pairs + 2, sizeof(*argv));
    argv[0] = SLICE_LIT("HDEL");
    argv[1] = c->argv[1];
    for (int i = 0; i < a->n_pairs; i++) {
        argv[i + 2] = c->argv[a->first + i * 2];
        hash_delete(o, argv[i + 2], c->now_ms);
    }
    cmd_propagate(c, a->n_pairs + 2, argv);
    mem_free(argv);
}

static void setex_run(struct cmd_ctx *c, struct entry *e, const struct setex_args *a) {
    struct slice key = c->argv[1];
    struct obj *o = entry_value(e);
    bool is_past = a->is_timed && a->when_ms <= c->now_ms;
    hash_expect(o, (size_t)a->n_pairs, c->argv + a->first);
    for (int i = 0; i < a->n_pairs; i++) {
        struct slice field = c->argv[a->first + i * 2];
        hash_put_arg(c, o, field, c->argv[a->first + i * 2 + 1], a->keeps_time ? HASH_KEEP_TIME : 0);
        if (a->is_timed && !is_past) hash_set_time(o, field, a->when_ms);
    }
    if (is_past)
        setex_delete(c, o, a);
    else
        setex_propagate(c, a);
    cmd_modified(c, c->db, key);
    cmd_dirty(c, (uint64_t)a->n_pairs - 1);
    cmd_notify(c, 'h', "hset", c->db, key);
    if (a->is_timed) cmd_notify(c, 'h', is_past ? "hdel" : "hexpire", c->db, key);
    if (!hash_drop_if_empty(c, key, o) && a->is_timed) ks_fields_changed(c->ks, c->db, e);
}

void hash_setex_command(struct cmd_ctx *c) {
    struct setex_args a;
    bool err;
    if (!setex_parse(c, &a)) return;
    struct entry *e = cmd_find_typed(c, c->argv[1], OBJ_HASH, true, &err);
    if (err) return;
    if (!setex_condition(c, e == NULL ? NULL : entry_value(e), &a)) {
        reply_int(c->r, 0);
        return;
    }
    if (e == NULL) e = generic_put(c, c->db, c->argv[1], NULL, hash_new(), false);
    setex_run(c, e, &a);
    reply_int(c->r, 1);
}
