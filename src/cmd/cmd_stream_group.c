/*
 * XGROUP, XACK, XPENDING.
 */
#include "cmd/cmd_stream.h"

/* ---- XGROUP ---- */

struct group_args {
    bool mkstream;
    int64_t entries_read;
};

static bool parse_group_options(struct cmd_ctx *c, bool is_create, struct group_args *a) {
    *a = (struct group_args){ .entries_read = STREAM_ENTRIES_READ_UNKNOWN };
    for (int i = 5; i < c->argc; i++) {
        if (is_create && slice_ieq(c->argv[i], "mkstream")) {
            a->mkstream = true;
        } else if (slice_ieq(c->argv[i], "entriesread") && i + 1 < c->argc) {
            if (!cmd_arg_ll(c, c->argv[++i], &a->entries_read, NULL)) return false;
            if (a->entries_read < 0 && a->entries_read != STREAM_ENTRIES_READ_UNKNOWN) {
                reply_error(c->r, "ERR value for ENTRIESREAD must be positive or -1");
                return false;
            }
        } else {
            cmd_unknown_sub(c);
            return false;
        }
    }
    return true;
}

/* The stream of argv[2]; may_miss: NULL without an error is fine. */
static struct stream *group_stream(struct cmd_ctx *c, bool may_miss, bool *ret_err) {
    struct stream *s = stream_find(c, c->argv[2], true, ret_err);
    if (s || *ret_err || may_miss) return s;
    *ret_err = true;
    reply_error(c->r,
                "ERR The XGROUP subcommand requires the key to exist. Note that for CREATE you may want to use the MKSTREAM "
                "option to create an empty stream automatically.");
    return NULL;
}

/* The group of argv[3], or NULL after the error. */
static struct stream_group *named_group(struct cmd_ctx *c, struct stream **ret_s) {
    bool err;
    struct slice key = c->argv[2], name = c->argv[3];
    *ret_s = group_stream(c, false, &err);
    if (err) return NULL;
    struct stream_group *g = stream_group_find(*ret_s, name);
    if (!g)
        reply_errorf(c->r, "NOGROUP No such consumer group '%.*s' for key name '%.*s'", (int)name.len, name.ptr, (int)key.len,
                     key.ptr);
    return g;
}

/* SETID takes "-" and "+" too. */
static bool arg_last_id(struct cmd_ctx *c, const struct stream *s, bool strict, struct stream_id *ret) {
    if (c->argv[4].len == 1 && *c->argv[4].ptr == '$') {
        *ret = s ? s->last_id : STREAM_ID_MIN;
        return true;
    }
    return strict ? stream_arg_id_strict(c, c->argv[4], 0, ret) : stream_arg_id(c, c->argv[4], 0, ret);
}

void stream_xgroup_create_command(struct cmd_ctx *c) {
    struct group_args a;
    struct stream_id id;
    bool err;
    if (!parse_group_options(c, true, &a)) return;
    struct stream *s = group_stream(c, a.mkstream, &err);
    if (err || !arg_last_id(c, s, true, &id)) return;
    bool is_new = s == NULL;
    if (is_new) {
        struct obj *o = stream_obj_new();
        s = o->u.ptr;
        generic_put(c, c->db, c->argv[2], NULL, o, false);
    }
    if (!stream_group_create(s, c->argv[3], id, a.entries_read)) {
        reply_error(c->r, "BUSYGROUP Consumer Group name already exists");
        return;
    }
    reply_ok(c->r);
    if (is_new) {
        stream_changed(c, c->argv[2], "xgroup-create");
    } else {
        stream_meta_changed(c, c->argv[2], "xgroup-create");
    }
}

void stream_xgroup_setid_command(struct cmd_ctx *c) {
    struct group_args a;
    struct stream *s;
    struct stream_id id;
    if (!parse_group_options(c, false, &a)) return;
    struct stream_group *g = named_group(c, &s);
    if (!g || !arg_last_id(c, s, false, &id)) return;
    g->last_id = id;
    g->entries_read = a.entries_read;
    reply_ok(c->r);
    stream_meta_changed(c, c->argv[2], "xgroup-setid");
}

void stream_xgroup_destroy_command(struct cmd_ctx *c) {
    bool err;
    struct stream *s = group_stream(c, false, &err);
    if (err) return;
    bool gone = stream_group_destroy(s, c->argv[3]);
    reply_int(c->r, gone);
    if (!gone) return;
    stream_meta_changed(c, c->argv[2], "xgroup-destroy");
    cmd_signal_ready(c, c->db, c->argv[2]); /* who reads for the group is told that it is gone */
}

void stream_xgroup_createconsumer_command(struct cmd_ctx *c) {
    struct stream *s;
    struct stream_group *g = named_group(c, &s);
    if (!g) return;
    bool is_new = stream_consumer_create(g, c->argv[4], cmd_clock_ms(c)) != NULL;
    reply_int(c->r, is_new);
    if (is_new) stream_meta_changed(c, c->argv[2], "xgroup-createconsumer");
}

void stream_xgroup_delconsumer_command(struct cmd_ctx *c) {
    struct stream *s;
    struct stream_group *g = named_group(c, &s);
    if (!g) return;
    bool is_there = stream_consumer_find(g, c->argv[4]) != NULL;
    reply_int(c->r, is_there ? (int64_t)stream_consumer_delete(g, c->argv[4]) : 0);
    if (is_there) stream_meta_changed(c, c->argv[2], "xgroup-delconsumer");
}

void stream_xgroup_help_command(struct cmd_ctx *c) {
    static const char *const lines[] = {
        "CREATE <key> <groupname> <id|$> [option]",
        "    Makes a consumer group that gets what comes after <id>. Options are:",
        "    * MKSTREAM",
        "      Makes an empty stream when there is none.",
        "    * ENTRIESREAD entries_read",
        "      How many entries the group counts as read so far.",
        "CREATECONSUMER <key> <groupname> <consumer>",
        "    Makes a consumer in the group.",
        "DELCONSUMER <key> <groupname> <consumer>",
        "    Removes a consumer, with what it has pending.",
        "DESTROY <key> <groupname>",
        "    Removes the group.",
        "SETID <key> <groupname> <id|$> [ENTRIESREAD entries_read]",
        "    Sets the last ID delivered to the group.",
        NULL,
    };
    cmd_help(c, lines);
}

/* ---- XACK ---- */

void stream_xack_command(struct cmd_ctx *c) {
    bool err;
    struct stream_id id;
    struct stream *s = stream_find(c, c->argv[1], true, &err);
    if (err) return;
    struct stream_group *g = s ? stream_group_find(s, c->argv[2]) : NULL;
    if (!g) {
        reply_int(c->r, 0);
        return;
    }
    for (int i = 3; i < c->argc; i++) /* all are looked at before the first is acknowledged */
        if (!stream_arg_id_strict(c, c->argv[i], 0, &id)) return;
    int64_t n = 0;
    for (int i = 3; i < c->argc; i++)
        if (stream_parse_id_strict(c->argv[i], 0, &id, NULL)) n += stream_ack(g, id);
    if (n) cmd_dirty(c, (uint64_t)n);
    reply_int(c->r, n);
}

/* ---- XPENDING ---- */

struct pending_args {
    int64_t min_idle_ms, count;
    struct stream_id start, end;
    struct slice consumer; /* ptr NULL: of all */
};

static bool parse_pending(struct cmd_ctx *c, struct pending_args *a) {
    int at = 3;
    memset(a, 0, sizeof *a);
    if (c->argc < 6 || c->argc > 9) {
        cmd_syntax_error(c);
        return false;
    }
    if (slice_ieq(c->argv[3], "idle")) {
        if (!cmd_arg_ll(c, c->argv[4], &a->min_idle_ms, NULL)) return false;
        if (c->argc < 8) {
            cmd_syntax_error(c);
            return false;
        }
        at = 5;
    }
    if (!cmd_arg_ll(c, c->argv[at + 2], &a->count, NULL)) return false;
    if (a->count < 0) a->count = 0;
    if (!stream_arg_start(c, c->argv[at], &a->start) || !stream_arg_end(c, c->argv[at + 1], &a->end)) return false;
    if (at + 3 < c->argc) a->consumer = c->argv[at + 3];
    return true;
}

static void reply_pending_summary(struct cmd_ctx *c, const struct stream_group *g) {
    struct idmap_it it;
    reply_array(c->r, 4);
    reply_int(c->r, (int64_t)idmap_size(&g->pel));
    if (!idmap_first(&g->pel, &it)) {
        reply_null(c->r);
        reply_null(c->r);
        reply_null_array(c->r);
        return;
    }
    stream_reply_id(c->r, idmap_it_id(&it));
    idmap_last(&g->pel, &it);
    stream_reply_id(c->r, idmap_it_id(&it));
    struct reply_deferred d = reply_deferred_begin(c->r);
    size_t n = 0;
    for (size_t i = 0; i < g->n_consumers; i++) {
        const struct stream_consumer *consumer = g->consumers[i];
        if (idmap_size(&consumer->pel) == 0) continue;
        reply_array(c->r, 2);
        reply_bulk(c->r, consumer->name, consumer->name_len);
        reply_bulk_ll(c->r, (int64_t)idmap_size(&consumer->pel));
        n++;
    }
    reply_deferred_array(c->r, d, n);
}

static void reply_pending(struct cmd_ctx *c, const struct pending_args *a, const struct idmap *pel) {
    struct reply_deferred d = reply_deferred_begin(c->r);
    size_t n = 0;
    struct idmap_it it;
    for (bool there = idmap_seek_ge(pel, &it, a->start); there && n < (size_t)a->count; there = idmap_next(&it)) {
        struct stream_id id = idmap_it_id(&it);
        const struct stream_nack *nack = idmap_it_value(&it);
        if (stream_id_cmp(id, a->end) > 0) break;
        int64_t idle_ms = c->now_ms - nack->delivery_ms;
        if (idle_ms < 0) idle_ms = 0;
        if (a->min_idle_ms && idle_ms < a->min_idle_ms) continue;
        reply_array(c->r, 4);
        stream_reply_id(c->r, id);
        reply_bulk(c->r, nack->consumer->name, nack->consumer->name_len);
        reply_int(c->r, idle_ms);
        reply_int(c->r, (int64_t)nack->delivery_count);
        n++;
    }
    reply_deferred_array(c->r, d, n);
}

void stream_xpending_command(struct cmd_ctx *c) {
    struct pending_args a = { 0 };
    struct stream *s;
    if (c->argc != 3 && !parse_pending(c, &a)) return;
    bool err;
    s = stream_find(c, c->argv[1], false, &err);
    if (err) return;
    struct stream_group *g = s ? stream_group_find(s, c->argv[2]) : NULL;
    if (!g) {
        reply_errorf(c->r, "NOGROUP No such key '%.*s' or consumer group '%.*s'", (int)c->argv[1].len, c->argv[1].ptr,
                     (int)c->argv[2].len, c->argv[2].ptr);
        return;
    }
    if (c->argc == 3) {
        reply_pending_summary(c, g);
        return;
    }
    const struct stream_consumer *consumer = a.consumer.ptr ? stream_consumer_find(g, a.consumer) : NULL;
    if (a.consumer.ptr && !consumer)
        reply_array(c->r, 0);
    else
        reply_pending(c, &a, consumer ? &consumer->pel : &g->pel);
}
