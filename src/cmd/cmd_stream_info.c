/*
 * XINFO.
 */
#include "cmd/cmd_stream.h"

#include <limits.h>

#define FULL_COUNT 10 /* entries and pending ones that FULL shows without COUNT */

static struct stream *info_stream(struct cmd_ctx *c) {
    bool err;
    struct stream *s = stream_find(c, c->argv[2], false, &err);
    if (!s && !err) reply_error(c->r, "ERR no such key");
    return s;
}

static void reply_read_and_lag(struct cmd_ctx *c, const struct stream *s, const struct stream_group *g) {
    int64_t lag;
    reply_bulk_cstr(c->r, "entries-read");
    if (g->entries_read == STREAM_ENTRIES_READ_UNKNOWN)
        reply_null(c->r);
    else
        reply_int(c->r, g->entries_read);
    reply_bulk_cstr(c->r, "lag");
    if (stream_group_lag(s, g, &lag))
        reply_int(c->r, lag);
    else
        reply_null(c->r);
}

static void reply_name(struct reply *r, const char *name, size_t len) {
    reply_bulk_cstr(r, "name");
    reply_bulk(r, name, len);
}

static int64_t since(const struct cmd_ctx *c, int64_t ms) {
    return c->now_ms > ms ? c->now_ms - ms : 0;
}

/* ---- XINFO STREAM ---- */

/* redis-server keeps nodes in a radix tree and shows its size; here the figure is that of a tree of one level. */
static void reply_head(struct cmd_ctx *c, const struct stream *s) {
    size_t nodes = idmap_size(&s->nodes);
    reply_bulk_cstr(c->r, "length");
    reply_int(c->r, (int64_t)s->length);
    reply_bulk_cstr(c->r, "radix-tree-keys");
    reply_int(c->r, (int64_t)nodes);
    reply_bulk_cstr(c->r, "radix-tree-nodes");
    reply_int(c->r, (int64_t)nodes + 1);
    reply_bulk_cstr(c->r, "last-generated-id");
    stream_reply_id(c->r, s->last_id);
    reply_bulk_cstr(c->r, "max-deleted-entry-id");
    stream_reply_id(c->r, s->max_deleted_id);
    reply_bulk_cstr(c->r, "entries-added");
    reply_int(c->r, (int64_t)s->entries_added);
    reply_bulk_cstr(c->r, "recorded-first-entry-id");
    stream_reply_id(c->r, s->first_id);
}

static void reply_edge(struct cmd_ctx *c, struct stream *s, bool first) {
    if (s->length == 0 || !stream_reply_entry_at(c->r, s, stream_edge_id(s, first))) reply_null(c->r);
}

static void reply_pel(struct cmd_ctx *c, const struct idmap *pel, size_t count, bool with_consumer) {
    size_t n = idmap_size(pel);
    if (count && n > count) n = count;
    reply_array(c->r, n);
    struct idmap_it it;
    for (bool there = idmap_first(pel, &it); there && n > 0; there = idmap_next(&it), n--) {
        const struct stream_nack *nack = idmap_it_value(&it);
        reply_array(c->r, with_consumer ? 4 : 3);
        stream_reply_id(c->r, idmap_it_id(&it));
        if (with_consumer) reply_bulk(c->r, nack->consumer->name, nack->consumer->name_len);
        reply_int(c->r, nack->delivery_ms);
        reply_int(c->r, (int64_t)nack->delivery_count);
    }
}

static void reply_full_consumer(struct cmd_ctx *c, const struct stream_consumer *consumer, size_t count) {
    reply_map(c->r, 5);
    reply_name(c->r, consumer->name, consumer->name_len);
    reply_bulk_cstr(c->r, "seen-time");
    reply_int(c->r, consumer->seen_ms);
    reply_bulk_cstr(c->r, "active-time");
    reply_int(c->r, consumer->active_ms);
    reply_bulk_cstr(c->r, "pel-count");
    reply_int(c->r, (int64_t)idmap_size(&consumer->pel));
    reply_bulk_cstr(c->r, "pending");
    reply_pel(c, &consumer->pel, count, false);
}

static void reply_full_group(struct cmd_ctx *c, const struct stream *s, const struct stream_group *g, size_t count) {
    reply_map(c->r, 7);
    reply_name(c->r, g->name, g->name_len);
    reply_bulk_cstr(c->r, "last-delivered-id");
    stream_reply_id(c->r, g->last_id);
    reply_read_and_lag(c, s, g);
    reply_bulk_cstr(c->r, "pel-count");
    reply_int(c->r, (int64_t)idmap_size(&g->pel));
    reply_bulk_cstr(c->r, "pending");
    reply_pel(c, &g->pel, count, true);
    reply_bulk_cstr(c->r, "consumers");
    reply_array(c->r, g->n_consumers);
    for (size_t i = 0; i < g->n_consumers; i++) reply_full_consumer(c, g->consumers[i], count);
}

static void reply_full(struct cmd_ctx *c, struct stream *s, size_t count) {
    reply_map(c->r, 9);
    reply_head(c, s);
    reply_bulk_cstr(c->r, "entries");
    struct reply_deferred d = reply_deferred_begin(c->r);
    struct stream_it it;
    size_t n = 0;
    stream_it_init(&it, s, STREAM_ID_MIN, STREAM_ID_MAX, false);
    for (; (count == 0 || n < count) && stream_it_next(&it); n++) stream_reply_entry(c->r, &it);
    reply_deferred_array(c->r, d, n);
    reply_bulk_cstr(c->r, "groups");
    reply_array(c->r, s->n_groups);
    for (size_t i = 0; i < s->n_groups; i++) reply_full_group(c, s, s->groups[i], count);
}

void stream_xinfo_stream_command(struct cmd_ctx *c) {
    int64_t count = FULL_COUNT;
    bool full = c->argc > 3;
    struct stream *s = info_stream(c);
    if (!s) return;
    if (full && (!slice_ieq(c->argv[3], "full") || (c->argc != 4 && (c->argc != 6 || !slice_ieq(c->argv[4], "count"))))) {
        cmd_unknown_sub(c);
        return;
    }
    if (c->argc == 6 && !cmd_arg_ll(c, c->argv[5], &count, NULL)) return;
    if (count < 0) count = FULL_COUNT;
    if (full) {
        reply_full(c, s, (size_t)count);
        return;
    }
    reply_map(c->r, 10);
    reply_head(c, s);
    reply_bulk_cstr(c->r, "groups");
    reply_int(c->r, (int64_t)s->n_groups);
    reply_bulk_cstr(c->r, "first-entry");
    reply_edge(c, s, true);
    reply_bulk_cstr(c->r, "last-entry");
    reply_edge(c, s, false);
}

/* ---- XINFO GROUPS, CONSUMERS ---- */

void stream_xinfo_groups_command(struct cmd_ctx *c) {
    const struct stream *s = info_stream(c);
    if (!s) return;
    reply_array(c->r, s->n_groups);
    for (size_t i = 0; i < s->n_groups; i++) {
        const struct stream_group *g = s->groups[i];
        reply_map(c->r, 6);
        reply_name(c->r, g->name, g->name_len);
        reply_bulk_cstr(c->r, "consumers");
        reply_int(c->r, (int64_t)g->n_consumers);
        reply_bulk_cstr(c->r, "pending");
        reply_int(c->r, (int64_t)idmap_size(&g->pel));
        reply_bulk_cstr(c->r, "last-delivered-id");
        stream_reply_id(c->r, g->last_id);
        reply_read_and_lag(c, s, g);
    }
}

void stream_xinfo_consumers_command(struct cmd_ctx *c) {
    const struct stream *s = info_stream(c);
    if (!s) return;
    const struct stream_group *g = stream_group_find(s, c->argv[3]);
    if (!g) {
        reply_errorf(c->r, "NOGROUP No such consumer group '%.*s' for key name '%.*s'", (int)c->argv[3].len, c->argv[3].ptr,
                     (int)c->argv[2].len, c->argv[2].ptr);
        return;
    }
    reply_array(c->r, g->n_consumers);
    for (size_t i = 0; i < g->n_consumers; i++) {
        const struct stream_consumer *consumer = g->consumers[i];
        reply_map(c->r, 4);
        reply_name(c->r, consumer->name, consumer->name_len);
        reply_bulk_cstr(c->r, "pending");
        reply_int(c->r, (int64_t)idmap_size(&consumer->pel));
        reply_bulk_cstr(c->r, "idle");
        reply_int(c->r, since(c, consumer->seen_ms));
        reply_bulk_cstr(c->r, "inactive");
        reply_int(c->r, consumer->active_ms < 0 ? -1 : since(c, consumer->active_ms));
    }
}

void stream_xinfo_help_command(struct cmd_ctx *c) {
    static const char *const lines[] = {
        "CONSUMERS <key> <groupname>",
        "    The consumers of a group.",
        "GROUPS <key>",
        "    The consumer groups of a stream.",
        "STREAM <key> [FULL [COUNT <count>]]",
        "    What a stream is made of.",
        NULL,
    };
    cmd_help(c, lines);
}
