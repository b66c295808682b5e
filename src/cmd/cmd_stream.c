/*
 * Streams: what the family shares (IDs, entries as replies, effects). The commands are in cmd_stream_add.c, cmd_stream_range.c,
 * cmd_stream_read.c, cmd_stream_group.c, cmd_stream_claim.c and cmd_stream_info.c.
 */
#include "cmd/cmd_stream.h"

#include <errno.h>
#include <stdlib.h>

#define ID_TEXT_MAX 127 /* longer ones are no IDs: redis-server's bound */

/* ---- IDs ---- */

/* A half of an ID as redis-server reads it: leading zeros and what strtoull(3) takes besides are fine. */
static bool half_from_text(const char *s, uint64_t *ret) {
    int64_t v;
    if (str_to_ll(slice_cstr(s), &v)) {
        *ret = (uint64_t)v;
        return v >= 0;
    }
    char *end;
    errno = 0;
    *ret = strtoull(s, &end, 10);
    return errno == 0 && *s && !*end;
}

bool stream_parse_id_strict(struct slice a, uint64_t missing_seq, struct stream_id *ret, bool *ret_auto_seq) {
    char text[ID_TEXT_MAX + 1];
    struct stream_id id = { 0, missing_seq };
    if (ret_auto_seq) *ret_auto_seq = false;
    if (a.len > ID_TEXT_MAX || (a.len == 1 && (*a.ptr == '-' || *a.ptr == '+'))) return false;
    if (a.len) memcpy(text, a.ptr, a.len);
    text[a.len] = 0;
    char *dash = strchr(text, '-');
    if (dash) *dash = 0;
    if (!half_from_text(text, &id.ms)) return false;
    if (dash && ret_auto_seq && strcmp(dash + 1, "*") == 0) {
        id.seq = 0;
        *ret_auto_seq = true;
    } else if (dash && !half_from_text(dash + 1, &id.seq)) {
        return false;
    }
    *ret = id;
    return true;
}

static bool id_error(struct cmd_ctx *c) {
    reply_error(c->r, "ERR Invalid stream ID specified as stream command argument");
    return false;
}

bool stream_arg_id_strict(struct cmd_ctx *c, struct slice a, uint64_t missing_seq, struct stream_id *ret) {
    return stream_parse_id_strict(a, missing_seq, ret, NULL) || id_error(c);
}

bool stream_arg_id(struct cmd_ctx *c, struct slice a, uint64_t missing_seq, struct stream_id *ret) {
    if (a.len == 1 && *a.ptr == '-')
        *ret = STREAM_ID_MIN;
    else if (a.len == 1 && *a.ptr == '+')
        *ret = STREAM_ID_MAX;
    else
        return stream_arg_id_strict(c, a, missing_seq, ret);
    return true;
}

static bool arg_bound(struct cmd_ctx *c, struct slice a, uint64_t missing_seq, struct stream_id *ret, bool *ret_excluded) {
    *ret_excluded = a.len > 1 && *a.ptr == '(';
    if (!*ret_excluded) return stream_arg_id(c, a, missing_seq, ret);
    return stream_arg_id_strict(c, (struct slice){ a.ptr + 1, a.len - 1 }, missing_seq, ret);
}

bool stream_arg_start(struct cmd_ctx *c, struct slice a, struct stream_id *ret) {
    bool excluded;
    if (!arg_bound(c, a, 0, ret, &excluded)) return false;
    if (!excluded || stream_id_incr(ret)) return true;
    reply_error(c->r, "ERR invalid start ID for the interval");
    return false;
}

bool stream_arg_end(struct cmd_ctx *c, struct slice a, struct stream_id *ret) {
    bool excluded;
    if (!arg_bound(c, a, UINT64_MAX, ret, &excluded)) return false;
    if (!excluded || stream_id_decr(ret)) return true;
    reply_error(c->r, "ERR invalid end ID for the interval");
    return false;
}

struct slice stream_id_slice(char *buf, struct stream_id id) {
    return (struct slice){ buf, stream_id_text(buf, id) };
}

/* ---- looking up ---- */

struct stream *stream_find(struct cmd_ctx *c, struct slice key, bool for_write, bool *ret_err) {
    struct entry *e = cmd_find_typed(c, key, OBJ_STREAM, for_write, ret_err);
    return e ? entry_value(e)->u.ptr : NULL;
}

struct stream_group *stream_arg_group(struct cmd_ctx *c, struct slice key, struct slice group, struct stream **ret_stream) {
    bool err;
    struct stream *s = stream_find(c, key, true, &err);
    if (err) return NULL;
    struct stream_group *g = s ? stream_group_find(s, group) : NULL;
    if (!g)
        reply_errorf(c->r, "NOGROUP No such key '%.*s' or consumer group '%.*s'", (int)key.len, key.ptr, (int)group.len,
                     group.ptr);
    *ret_stream = s;
    return g;
}

/* ---- replies ---- */

void stream_reply_id(struct reply *r, struct stream_id id) {
    char text[STREAM_ID_CHARS];
    reply_bulk(r, text, stream_id_text(text, id));
}

void stream_reply_entry(struct reply *r, struct stream_it *it) {
    size_t n = it->n_fields;
    reply_array(r, 2);
    stream_reply_id(r, it->id);
    reply_array(r, 2 * n);
    for (size_t i = 0; i < n; i++) {
        struct slice field, value;
        stream_it_field(it, &field, &value);
        reply_bulk_slice(r, field);
        reply_bulk_slice(r, value);
    }
}

bool stream_reply_entry_at(struct reply *r, struct stream *s, struct stream_id id) {
    struct stream_it it;
    stream_it_init(&it, s, id, id, false);
    if (!stream_it_next(&it)) return false;
    stream_reply_entry(r, &it);
    return true;
}

/* ---- effects ---- */

void stream_changed(struct cmd_ctx *c, struct slice key, const char *event) {
    cmd_modified(c, c->db, key);
    cmd_notify(c, 't', event, c->db, key);
}

void stream_meta_changed(struct cmd_ctx *c, struct slice key, const char *event) {
    cmd_dirty(c, 1);
    cmd_notify(c, 't', event, c->db, key);
}

void stream_propagate_claim(struct cmd_ctx *c, struct slice key, struct slice group, const struct stream_group *g,
                            struct stream_id id, const struct stream_nack *n, struct slice consumer) {
    char id_text[STREAM_ID_CHARS], last_text[STREAM_ID_CHARS], time_text[STR_LL_MAX], count_text[STR_LL_MAX];
    const struct slice argv[] = {
        SLICE_LIT("XCLAIM"),
        key,
        group,
        consumer,
        SLICE_LIT("0"),
        stream_id_slice(id_text, id),
        SLICE_LIT("TIME"),
        { time_text, str_from_ll(time_text, n->delivery_ms) },
        SLICE_LIT("RETRYCOUNT"),
        { count_text, str_from_ull(count_text, n->delivery_count) },
        SLICE_LIT("FORCE"),
        SLICE_LIT("JUSTID"),
        SLICE_LIT("LASTID"),
        stream_id_slice(last_text, g->last_id),
    };
    cmd_propagate(c, sizeof argv / sizeof *argv, argv);
}

void stream_propagate_group_id(struct cmd_ctx *c, struct slice key, struct slice group, const struct stream_group *g) {
    char id_text[STREAM_ID_CHARS], read_text[STR_LL_MAX];
    const struct slice argv[] = {
        SLICE_LIT("XGROUP"),
        SLICE_LIT("SETID"),
        key,
        group,
        stream_id_slice(id_text, g->last_id),
        SLICE_LIT("ENTRIESREAD"),
        { read_text, str_from_ll(read_text, g->entries_read) },
    };
    cmd_propagate(c, sizeof argv / sizeof *argv, argv);
}

struct stream_consumer *stream_use_consumer(struct cmd_ctx *c, struct slice key, struct slice group, struct stream_group *g,
                                            struct slice name) {
    struct stream_consumer *consumer = stream_consumer_find(g, name);
    if (!consumer) {
        consumer = stream_consumer_create(g, name, cmd_clock_ms(c));
        const struct slice argv[] = { SLICE_LIT("XGROUP"), SLICE_LIT("CREATECONSUMER"), key, group, name };
        cmd_propagate(c, 5, argv);
        stream_meta_changed(c, key, "xgroup-createconsumer");
    }
    consumer->seen_ms = cmd_clock_ms(c);
    return consumer;
}
