/*
 * XREAD, XREADGROUP.
 *
 * The first that finds a stream with something to give opens the reply, whose length is filled in at the end. When none has, the
 * client waits: XREAD with each "$" replaced by what it meant when the command came, since it is run again when a key is ready.
 */
#include "cmd/cmd_stream.h"

#include "base/alloc.h"

struct read_args {
    bool is_group; /* XREADGROUP */
    int64_t count; /* 0: no limit */
    bool block;
    int64_t deadline_us;
    int keys, n; /* argv position of the first key; the IDs follow the n keys */
    bool has_group;
    struct slice group, consumer;
    bool no_ack;
    /* [n] each */
    struct stream_id *ids; /* to give what comes after */
    bool *is_new;          /* ">" */
    struct stream_group **groups;
    struct stream **streams; /* NULL: no such key */
};

#define FEW 8

struct few { /* room for the arrays of nearly every call */
    struct stream_id ids[FEW];
    bool is_new[FEW];
    struct stream_group *groups[FEW];
    struct stream *streams[FEW];
};

static void args_room(struct read_args *a, struct few *few) {
    bool is_few = a->n <= FEW;
    a->ids = is_few ? few->ids : mem_calloc((size_t)a->n, sizeof *a->ids);
    a->is_new = is_few ? few->is_new : mem_calloc((size_t)a->n, sizeof *a->is_new);
    a->groups = is_few ? few->groups : mem_calloc((size_t)a->n, sizeof *a->groups);
    a->streams = is_few ? few->streams : mem_calloc((size_t)a->n, sizeof *a->streams);
}

static void args_done(struct read_args *a) {
    if (a->n <= FEW) return;
    mem_free(a->ids);
    mem_free(a->is_new);
    mem_free(a->groups);
    mem_free(a->streams);
}

/* ---- arguments ---- */

static bool arg_streams(struct cmd_ctx *c, struct read_args *a, int at) {
    a->keys = at + 1;
    a->n = c->argc - a->keys;
    if (a->n % 2 != 0) {
        reply_errorf(c->r, "ERR Unbalanced '%s' list of streams: for each stream key an ID or '%s' must be specified.",
                     a->is_group ? "xreadgroup" : "xread", a->is_group ? ">" : "$");
        return false;
    }
    a->n /= 2;
    return true;
}

static bool only_in_group(struct cmd_ctx *c, const struct read_args *a, const char *option) {
    if (a->is_group) return true;
    reply_errorf(c->r, "ERR The %s option is only supported by XREADGROUP. You called XREAD instead.", option);
    return false;
}

static bool arg_option(struct cmd_ctx *c, struct read_args *a, int *i, bool *ret_end) {
    struct slice opt = c->argv[*i];
    int more = c->argc - *i - 1;
    if (slice_ieq(opt, "block") && more) {
        a->block = true;
        return cmd_arg_timeout(c, c->argv[++*i], CMD_TIMEOUT_MS, &a->deadline_us);
    }
    if (slice_ieq(opt, "count") && more) {
        if (!cmd_arg_ll(c, c->argv[++*i], &a->count, NULL)) return false;
        if (a->count < 0) a->count = 0;
        return true;
    }
    if (slice_ieq(opt, "streams") && more) {
        *ret_end = true;
        return arg_streams(c, a, *i);
    }
    if (slice_ieq(opt, "group") && more >= 2) {
        if (!only_in_group(c, a, "GROUP")) return false;
        a->has_group = true;
        a->group = c->argv[*i + 1];
        a->consumer = c->argv[*i + 2];
        *i += 2;
        return true;
    }
    if (slice_ieq(opt, "noack")) {
        a->no_ack = true;
        return only_in_group(c, a, "NOACK");
    }
    cmd_syntax_error(c);
    return false;
}

static bool parse_options(struct cmd_ctx *c, struct read_args *a) {
    bool end = false;
    for (int i = 1; i < c->argc && !end; i++)
        if (!arg_option(c, a, &i, &end)) return false;
    if (a->n == 0) {
        cmd_syntax_error(c);
        return false;
    }
    if (a->is_group && !a->has_group) {
        reply_error(c->r, "ERR Missing GROUP option for XREADGROUP");
        return false;
    }
    return true;
}

static bool is_char(struct slice s, char ch) {
    return s.len == 1 && *s.ptr == ch;
}

/* The group of stream i, which must be there. */
static bool arg_group(struct cmd_ctx *c, struct read_args *a, int i) {
    struct slice key = c->argv[a->keys + i];
    const struct stream *s = a->streams[i];
    a->groups[i] = s ? stream_group_find(s, a->group) : NULL;
    if (a->groups[i]) return true;
    reply_errorf(c->r, "NOGROUP No such key '%.*s' or consumer group '%.*s' in XREADGROUP with GROUP option", (int)key.len,
                 key.ptr, (int)a->group.len, a->group.ptr);
    return false;
}

static bool arg_id(struct cmd_ctx *c, struct read_args *a, int i) {
    struct slice id = c->argv[a->keys + a->n + i];
    a->is_new[i] = false;
    if (is_char(id, '$')) {
        if (a->is_group) {
            reply_error(c->r, "ERR The $ ID is meaningless in the context of XREADGROUP: you want to read the history of this "
                              "consumer by specifying a proper ID, or use the > ID to get new messages. The $ ID would just "
                              "return an empty result set.");
            return false;
        }
        a->ids[i] = a->streams[i] ? a->streams[i]->last_id : STREAM_ID_MIN;
        return true;
    }
    if (is_char(id, '>')) {
        if (!a->is_group) {
            reply_error(c->r,
                        "ERR The > ID can be specified only when calling XREADGROUP using the GROUP <group> <consumer> option.");
            return false;
        }
        a->is_new[i] = true;
        return true;
    }
    if (!stream_arg_id_strict(c, id, 0, &a->ids[i])) return false;
    a->is_new[i] = a->is_group && stream_id_cmp(a->ids[i], STREAM_ID_MAX) == 0; /* the same to redis-server */
    return true;
}

static bool parse_streams(struct cmd_ctx *c, struct read_args *a) {
    for (int i = 0; i < a->n; i++) {
        bool err;
        a->streams[i] = stream_find(c, c->argv[a->keys + i], false, &err);
        if (err || (a->is_group && !arg_group(c, a, i)) || !arg_id(c, a, i)) return false;
    }
    return true;
}

/* ---- giving ---- */

struct output {
    struct reply_deferred d;
    size_t n; /* streams */
};

static void open_stream(struct cmd_ctx *c, struct output *out, struct slice key) {
    if (out->n++ == 0) out->d = reply_deferred_begin(c->r);
    if (c->r->resp == 2) reply_array(c->r, 2);
    reply_bulk_slice(c->r, key);
}

/* Entries after `after`, at most count of them. False: there are none. */
static bool give_entries(struct cmd_ctx *c, struct read_args *a, struct output *out, int i, struct stream *s) {
    struct slice key = c->argv[a->keys + i];
    struct stream_id start = a->is_new[i] ? a->groups[i]->last_id : a->ids[i];
    struct stream_group *g = a->groups[i];
    struct stream_consumer *consumer = NULL;
    if (a->is_new[i]) consumer = stream_use_consumer(c, key, a->group, g, a->consumer);
    if (stream_id_cmp(s->last_id, start) <= 0 || s->length == 0 || !stream_id_incr(&start)) return false;
    struct stream_it it;
    stream_it_init(&it, s, start, STREAM_ID_MAX, false);
    if (!stream_it_next(&it)) return false;
    open_stream(c, out, key);
    struct reply_deferred d = reply_deferred_begin(c->r);
    size_t n = 0;
    do {
        stream_reply_entry(c->r, &it);
        n++;
        if (!consumer) continue;
        if (stream_id_cmp(it.id, g->last_id) > 0) stream_group_advance(s, g, it.id);
        if (a->no_ack) continue;
        stream_deliver(g, consumer, it.id, cmd_clock_ms(c));
        stream_propagate_claim(c, key, a->group, g, it.id, stream_nack_find(g, it.id), a->consumer);
    } while ((a->count == 0 || n < (size_t)a->count) && stream_it_next(&it));
    reply_deferred_array(c->r, d, n);
    if (consumer) {
        if (!a->no_ack) consumer->active_ms = cmd_clock_ms(c);
        stream_propagate_group_id(c, key, a->group, g);
        cmd_dirty(c, 1);
    }
    return true;
}

/* What the consumer has pending after ids[i]: also when that is nothing. An entry that is gone is shown by its ID alone. */
static void give_history(struct cmd_ctx *c, struct read_args *a, struct output *out, int i, struct stream *s) {
    struct slice key = c->argv[a->keys + i];
    struct stream_group *g = a->groups[i];
    struct stream_consumer *consumer = stream_use_consumer(c, key, a->group, g, a->consumer);
    struct stream_id start = a->ids[i];
    stream_id_incr(&start); /* not the largest: that is ">" */
    open_stream(c, out, key);
    struct reply_deferred d = reply_deferred_begin(c->r);
    size_t n = 0;
    struct idmap_it it;
    bool there = idmap_seek_ge(&consumer->pel, &it, start);
    for (; there && (a->count == 0 || n < (size_t)a->count); there = idmap_next(&it), n++) {
        struct stream_id id = idmap_it_id(&it);
        if (stream_reply_entry_at(c->r, s, id)) {
            struct stream_nack *nack = idmap_it_value(&it);
            nack->delivery_ms = cmd_clock_ms(c);
            nack->delivery_count++;
        } else {
            reply_array(c->r, 2);
            stream_reply_id(c->r, id);
            reply_null_array(c->r);
        }
    }
    reply_deferred_array(c->r, d, n);
}

static bool give(struct cmd_ctx *c, struct read_args *a) {
    struct output out = { .n = 0 };
    for (int i = 0; i < a->n; i++) {
        struct stream *s = a->streams[i];
        if (!s) continue;
        if (a->is_group && !a->is_new[i])
            give_history(c, a, &out, i, s);
        else
            give_entries(c, a, &out, i, s);
    }
    if (out.n == 0) return false;
    if (c->r->resp == 2)
        reply_deferred_array(c->r, out.d, out.n);
    else
        reply_deferred_map(c->r, out.d, out.n);
    return true;
}

/* ---- waiting ---- */

static void wait_for_keys(struct cmd_ctx *c, const struct read_args *a) {
    struct slice *argv = mem_calloc((size_t)c->argc, sizeof *argv);
    char(*text)[STREAM_ID_CHARS] = mem_calloc((size_t)a->n, sizeof *text);
    memcpy(argv, c->argv, (size_t)c->argc * sizeof *argv);
    for (int i = 0; i < a->n; i++) {
        struct slice *id = &argv[a->keys + a->n + i];
        if (is_char(*id, '$')) *id = stream_id_slice(text[i], a->ids[i]);
    }
    cmd_block_on_keys(c, &(struct cmd_block){ .keys = c->argv + a->keys,
                                              .n_keys = a->n,
                                              .type = OBJ_STREAM,
                                              .on_nokey = a->is_group,
                                              .deadline_us = a->deadline_us,
                                              .timed_out = reply_null_array,
                                              .argv = argv,
                                              .argc = c->argc });
    mem_free(text);
    mem_free(argv);
}

static void read_streams(struct cmd_ctx *c, bool is_group) {
    struct read_args a = { .is_group = is_group };
    struct few few;
    if (!parse_options(c, &a)) return;
    args_room(&a, &few);
    if (parse_streams(c, &a) && !give(c, &a)) {
        if (a.block)
            wait_for_keys(c, &a);
        else
            reply_null_array(c->r);
    }
    args_done(&a);
}

void stream_xread_command(struct cmd_ctx *c) {
    read_streams(c, false);
}

void stream_xreadgroup_command(struct cmd_ctx *c) {
    read_streams(c, true);
}
