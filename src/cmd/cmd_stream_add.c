/*
 * XADD, XTRIM, XDEL, XSETID: what changes a stream's entries.
 *
 * What replicas and the AOF get has the ID that was chosen, and, where trimming was approximate, what it came to.
 */
#include "cmd/cmd_stream.h"

#include <assert.h>

#include "base/alloc.h"
#include "data/limits.h"

#define TRIM_LIMIT_MAX 1000000 /* entries that an approximate trim without LIMIT looks at, at most */
#define TRIM_LIMIT_NODES 100
#define TRIM_LIMIT_DEFAULT 10000 /* where nodes have no limit of entries */

struct add_args {
    struct stream_trim trim;
    bool has_limit;
    int trim_arg; /* argv position of the threshold; 0: none */
    bool no_mkstream;
    struct stream_id id;
    bool id_given, auto_seq;
    int id_arg; /* argv position; 0: none */
};

/* ---- arguments ---- */

/* MAXLEN or MINID at argv[*i], with its "~" or "=" and threshold. */
static bool arg_trim(struct cmd_ctx *c, struct add_args *a, enum stream_trim_by by, int *i) {
    if (a->trim.by != STREAM_TRIM_NONE) {
        reply_error(c->r, "ERR syntax error, MAXLEN and MINID options at the same time are not compatible");
        return false;
    }
    struct slice next = c->argv[*i + 1];
    bool has_mark = *i + 2 < c->argc && next.len == 1 && (*next.ptr == '~' || *next.ptr == '=');
    a->trim.approx = has_mark && *next.ptr == '~';
    *i += has_mark ? 2 : 1;
    int64_t v = 0;
    if (by == STREAM_TRIM_MINID) {
        if (!stream_arg_id_strict(c, c->argv[*i], 0, &a->trim.minid)) return false;
    } else {
        if (!cmd_arg_ll(c, c->argv[*i], &v, NULL)) return false;
        if (v < 0) {
            reply_error(c->r, "ERR The MAXLEN argument must be >= 0.");
            return false;
        }
    }
    a->trim.maxlen = (uint64_t)v;
    a->trim.by = by;
    a->trim_arg = *i;
    return true;
}

static bool arg_limit(struct cmd_ctx *c, struct add_args *a, int *i) {
    int64_t v;
    if (!cmd_arg_ll(c, c->argv[++*i], &v, NULL)) return false;
    if (v < 0) {
        reply_error(c->r, "ERR The LIMIT argument must be >= 0.");
        return false;
    }
    a->trim.limit = (uint64_t)v;
    a->has_limit = true;
    return true;
}

static uint64_t default_limit(void) {
    int64_t entries = limit_get(&data_limits.stream_node_max_entries);
    if (entries <= 0) return TRIM_LIMIT_DEFAULT;
    return entries > TRIM_LIMIT_MAX / TRIM_LIMIT_NODES ? TRIM_LIMIT_MAX : (uint64_t)entries * TRIM_LIMIT_NODES;
}

static bool check_limit(struct cmd_ctx *c, struct add_args *a) {
    if (a->trim.limit && a->trim.by == STREAM_TRIM_NONE) {
        reply_error(c->r, "ERR syntax error, LIMIT cannot be used without specifying a trimming strategy");
        return false;
    }
    if (a->has_limit && !a->trim.approx) {
        reply_error(c->r, "ERR syntax error, LIMIT cannot be used without the special ~ option");
        return false;
    }
    if (!a->has_limit && a->trim.approx) a->trim.limit = default_limit();
    return true;
}

/* One option; is_add: XADD, where what is no option is the ID (*ret_end). */
static bool arg_option(struct cmd_ctx *c, struct add_args *a, bool is_add, int *i, bool *ret_end) {
    struct slice opt = c->argv[*i];
    bool more = *i + 1 < c->argc;
    if (is_add && opt.len == 1 && *opt.ptr == '*') {
        *ret_end = true;
    } else if (slice_ieq(opt, "maxlen") && more) {
        return arg_trim(c, a, STREAM_TRIM_MAXLEN, i);
    } else if (slice_ieq(opt, "minid") && more) {
        return arg_trim(c, a, STREAM_TRIM_MINID, i);
    } else if (slice_ieq(opt, "limit") && more) {
        return arg_limit(c, a, i);
    } else if (is_add && slice_ieq(opt, "nomkstream")) {
        a->no_mkstream = true;
    } else if (is_add) {
        *ret_end = a->id_given = true;
        if (!stream_parse_id_strict(opt, 0, &a->id, &a->auto_seq)) {
            reply_error(c->r, "ERR Invalid stream ID specified as stream command argument");
            return false;
        }
    } else {
        cmd_syntax_error(c);
        return false;
    }
    if (*ret_end) a->id_arg = *i;
    return true;
}

static bool parse_args(struct cmd_ctx *c, struct add_args *a, bool is_add) {
    bool end = false;
    memset(a, 0, sizeof *a);
    for (int i = 2; i < c->argc && !end; i++)
        if (!arg_option(c, a, is_add, &i, &end)) return false;
    if (!is_add && a->trim.by == STREAM_TRIM_NONE && !a->trim.limit) {
        reply_error(c->r, "ERR syntax error, XTRIM must be called with a trimming strategy");
        return false;
    }
    return check_limit(c, a);
}

/* ---- propagation ---- */

/* The threshold as it turned out: what an approximate trim left. */
static struct slice exact_threshold(const struct stream *s, const struct stream_trim *t, char *buf) {
    assert(s);
    if (t->by == STREAM_TRIM_MAXLEN) return (struct slice){ buf, str_from_ull(buf, s->length) };
    return stream_id_slice(buf, s->length ? s->first_id : t->minid); /* empty: nothing below what was asked for is left */
}

static void propagate_trim(struct cmd_ctx *c, const struct stream *s, const struct add_args *a) {
    char buf[STREAM_ID_CHARS];
    const struct slice argv[] = {
        c->argv[0],
        c->argv[1],
        a->trim.by == STREAM_TRIM_MAXLEN ? SLICE_LIT("MAXLEN") : SLICE_LIT("MINID"),
        SLICE_LIT("="),
        exact_threshold(s, &a->trim, buf),
    };
    if (a->trim.approx) cmd_propagate(c, 5, argv);
}

static void propagate_add(struct cmd_ctx *c, const struct stream *s, const struct add_args *a, struct slice id) {
    if (!cmd_propagates(c)) return;
    char buf[STREAM_ID_CHARS];
    int n = 0, fields = c->argc - a->id_arg - 1;
    struct slice *argv = mem_calloc((size_t)fields + 6, sizeof *argv);
    argv[n++] = c->argv[0];
    argv[n++] = c->argv[1];
    if (a->trim.by != STREAM_TRIM_NONE) {
        argv[n++] = a->trim.by == STREAM_TRIM_MAXLEN ? SLICE_LIT("MAXLEN") : SLICE_LIT("MINID");
        argv[n++] = SLICE_LIT("=");
        argv[n++] = a->trim.approx ? exact_threshold(s, &a->trim, buf) : c->argv[a->trim_arg];
    }
    argv[n++] = id;
    memcpy(argv + n, c->argv + a->id_arg + 1, (size_t)fields * sizeof *argv);
    cmd_propagate(c, n + fields, argv);
    mem_free(argv);
}

/* ---- XADD ---- */

/* The ID of the new entry. False: replied why there is none. */
static bool next_id(struct cmd_ctx *c, const struct add_args *a, struct stream_id last, struct stream_id *ret) {
    struct stream_id id = a->id;
    bool ok = true;
    if (stream_id_cmp(last, STREAM_ID_MAX) == 0) {
        reply_error(c->r, "ERR The stream has exhausted the last possible ID, unable to add more items");
        return false;
    }
    if (!a->id_given) {
        id = (struct stream_id){ (uint64_t)cmd_clock_ms(c), 0 };
        if (id.ms <= last.ms) {
            id = last;
            stream_id_incr(&id);
        }
    } else if (a->auto_seq && id.ms == last.ms) {
        ok = last.seq != UINT64_MAX;
        id.seq = last.seq + 1;
    }
    if (!ok || stream_id_cmp(id, last) <= 0) {
        reply_error(c->r, "ERR The ID specified in XADD is equal or smaller than the target stream top item");
        return false;
    }
    *ret = id;
    return true;
}

static bool check_fields(struct cmd_ctx *c, const struct add_args *a) {
    int fields = a->id_arg ? c->argc - a->id_arg - 1 : 0;
    if (fields < 2 || fields % 2 == 1) {
        reply_error(c->r, "ERR wrong number of arguments for 'xadd' command");
        return false;
    }
    if (a->id_given && !a->auto_seq && stream_id_cmp(a->id, STREAM_ID_MIN) == 0) {
        reply_error(c->r, "ERR The ID specified in XADD must be greater than 0-0");
        return false;
    }
    return true;
}

/* Appends to the stream of e, or of a new key. False: replied why not. */
static bool add_entry(struct cmd_ctx *c, const struct add_args *a, struct entry *e, struct stream **ret_s,
                      struct stream_id *ret_id) {
    struct slice key = c->argv[1];
    struct stream *s = e ? entry_value(e)->u.ptr : NULL;
    if (!next_id(c, a, s ? s->last_id : STREAM_ID_MIN, ret_id)) return false;
    struct obj *fresh = s ? NULL : stream_obj_new();
    if (fresh) s = fresh->u.ptr;
    if (!stream_append(s, *ret_id, (size_t)(c->argc - a->id_arg - 1) / 2, c->argv + a->id_arg + 1)) {
        obj_unref(fresh);
        reply_error(c->r, "ERR Elements are too large to be stored");
        return false;
    }
    if (fresh) generic_put(c, c->db, key, NULL, fresh, false);
    *ret_s = s;
    return true;
}

void stream_xadd_command(struct cmd_ctx *c) {
    struct add_args a;
    struct slice key = c->argv[1];
    struct stream *s;
    struct stream_id id;
    bool err;
    if (!parse_args(c, &a, true) || !check_fields(c, &a)) return;
    struct entry *e = cmd_find_typed(c, key, OBJ_STREAM, true, &err);
    if (err) return;
    if (!e && a.no_mkstream) {
        reply_null(c->r);
        return;
    }
    if (!add_entry(c, &a, e, &s, &id)) return;
    char text[STREAM_ID_CHARS];
    struct slice id_text = stream_id_slice(text, id);
    reply_bulk_slice(c->r, id_text);
    stream_changed(c, key, "xadd");
    if (stream_trim(s, &a.trim)) cmd_notify(c, 't', "xtrim", c->db, key);
    propagate_add(c, s, &a, id_text);
    if (e) cmd_signal_ready(c, c->db, key);
}

/* ---- XTRIM, XDEL, XSETID ---- */

void stream_xtrim_command(struct cmd_ctx *c) {
    struct add_args a;
    bool err;
    if (!parse_args(c, &a, false)) return;
    struct stream *s = stream_find(c, c->argv[1], true, &err);
    if (err) return;
    if (!s) {
        reply_int(c->r, 0);
        return;
    }
    uint64_t removed = stream_trim(s, &a.trim);
    if (removed) {
        cmd_modified(c, c->db, c->argv[1]);
        cmd_dirty(c, removed - 1);
        cmd_notify(c, 't', "xtrim", c->db, c->argv[1]);
        propagate_trim(c, s, &a);
    }
    reply_int(c->r, (int64_t)removed);
}

void stream_xdel_command(struct cmd_ctx *c) {
    bool err;
    struct stream_id id;
    struct stream *s = stream_find(c, c->argv[1], true, &err);
    if (err) return;
    if (!s) {
        reply_int(c->r, 0);
        return;
    }
    for (int i = 2; i < c->argc; i++) /* all are looked at before the first is deleted */
        if (!stream_arg_id_strict(c, c->argv[i], 0, &id)) return;
    int64_t removed = 0;
    for (int i = 2; i < c->argc; i++)
        if (stream_parse_id_strict(c->argv[i], 0, &id, NULL)) removed += stream_delete(s, id);
    if (removed) {
        stream_changed(c, c->argv[1], "xdel");
        cmd_dirty(c, (uint64_t)removed - 1);
    }
    reply_int(c->r, removed);
}

struct setid_args {
    struct stream_id id, max_deleted;
    int64_t entries_added; /* -1: not given */
    bool has_max_deleted;
};

static bool parse_setid(struct cmd_ctx *c, struct setid_args *a) {
    *a = (struct setid_args){ .entries_added = -1 };
    if (!stream_arg_id_strict(c, c->argv[2], 0, &a->id)) return false;
    for (int i = 3; i < c->argc; i++) {
        bool more = i + 1 < c->argc;
        if (more && slice_ieq(c->argv[i], "entriesadded")) {
            if (!cmd_arg_ll(c, c->argv[++i], &a->entries_added, NULL)) return false;
            if (a->entries_added < 0) {
                reply_error(c->r, "ERR entries_added must be positive");
                return false;
            }
        } else if (more && slice_ieq(c->argv[i], "maxdeletedid")) {
            a->has_max_deleted = true;
            if (!stream_arg_id_strict(c, c->argv[++i], 0, &a->max_deleted)) return false;
            if (stream_id_cmp(a->id, a->max_deleted) < 0) {
                reply_error(c->r, "ERR The ID specified in XSETID is smaller than the provided max_deleted_entry_id");
                return false;
            }
        } else {
            cmd_syntax_error(c);
            return false;
        }
    }
    return true;
}

static const char *setid_refusal(const struct stream *s, const struct setid_args *a) {
    if (stream_id_cmp(a->id, s->max_deleted_id) < 0)
        return "ERR The ID specified in XSETID is smaller than current max_deleted_entry_id";
    if (s->length && stream_id_cmp(a->id, stream_edge_id(s, false)) < 0)
        return "ERR The ID specified in XSETID is smaller than the target stream top item";
    if (s->length && a->entries_added != -1 && (uint64_t)a->entries_added < s->length)
        return "ERR The entries_added specified in XSETID is smaller than the target stream length";
    return NULL;
}

void stream_xsetid_command(struct cmd_ctx *c) {
    struct setid_args a;
    bool err;
    if (!parse_setid(c, &a)) return;
    struct stream *s = stream_find(c, c->argv[1], true, &err);
    if (err) return;
    const char *refusal = s ? setid_refusal(s, &a) : "ERR no such key";
    if (refusal) {
        reply_error(c->r, refusal);
        return;
    }
    s->last_id = a.id;
    if (a.entries_added != -1) s->entries_added = (uint64_t)a.entries_added;
    if (a.has_max_deleted && stream_id_cmp(a.max_deleted, STREAM_ID_MIN) != 0) s->max_deleted_id = a.max_deleted;
    reply_ok(c->r);
    stream_meta_changed(c, c->argv[1], "xsetid");
}
