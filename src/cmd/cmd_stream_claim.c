/*
 * XCLAIM, XAUTOCLAIM: pending entries change hands. An entry that is no longer in the stream is dropped from what is pending
 * instead.
 */
#include "cmd/cmd_stream.h"

#include <limits.h>

#include "base/buf.h"

#define ATTEMPTS_PER_ENTRY 10 /* XAUTOCLAIM looks at this many pending entries for each it may give */

/* ---- XCLAIM ---- */

struct claim_args {
    int64_t min_idle_ms, delivery_ms;
    int64_t retry_count; /* -1: not given */
    bool force, just_id;
    struct stream_id last_id;
    int ids_end; /* argv position after the last ID; they begin at 5 */
};

static bool arg_min_idle(struct cmd_ctx *c, const char *msg, int64_t *ret) {
    if (!cmd_arg_ll(c, c->argv[4], ret, msg)) return false;
    if (*ret < 0) *ret = 0;
    return true;
}

static bool claim_option(struct cmd_ctx *c, struct claim_args *a, int *i) {
    struct slice opt = c->argv[*i];
    bool more = *i + 1 < c->argc;
    int64_t v;
    if (slice_ieq(opt, "force")) {
        a->force = true;
    } else if (slice_ieq(opt, "justid")) {
        a->just_id = true;
    } else if (more && slice_ieq(opt, "idle")) {
        if (!cmd_arg_ll(c, c->argv[++*i], &v, "ERR Invalid IDLE option argument for XCLAIM")) return false;
        if (__builtin_sub_overflow(cmd_clock_ms(c), v, &a->delivery_ms)) a->delivery_ms = -1;
    } else if (more && slice_ieq(opt, "time")) {
        return cmd_arg_ll(c, c->argv[++*i], &a->delivery_ms, "ERR Invalid TIME option argument for XCLAIM");
    } else if (more && slice_ieq(opt, "retrycount")) {
        return cmd_arg_ll(c, c->argv[++*i], &a->retry_count, "ERR Invalid RETRYCOUNT option argument for XCLAIM");
    } else if (more && slice_ieq(opt, "lastid")) {
        return stream_arg_id_strict(c, c->argv[++*i], 0, &a->last_id);
    } else {
        reply_errorf(c->r, "ERR Unrecognized XCLAIM option '%.*s'", (int)(opt.len < 128 ? opt.len : 128), opt.ptr);
        return false;
    }
    return true;
}

static bool parse_claim(struct cmd_ctx *c, struct claim_args *a) {
    struct stream_id id;
    *a = (struct claim_args){ .delivery_ms = -1, .retry_count = -1, .ids_end = 5 };
    if (!arg_min_idle(c, "ERR Invalid min-idle-time argument for XCLAIM", &a->min_idle_ms)) return false;
    while (a->ids_end < c->argc && stream_parse_id_strict(c->argv[a->ids_end], 0, &id, NULL)) a->ids_end++;
    for (int i = a->ids_end; i < c->argc; i++)
        if (!claim_option(c, a, &i)) return false;
    if (a->delivery_ms < 0 || a->delivery_ms > cmd_clock_ms(c)) a->delivery_ms = cmd_clock_ms(c);
    return true;
}

struct claim {
    struct stream *s;
    struct stream_group *g;
    struct stream_consumer *consumer;
    struct slice key, group, name;
    int64_t delivery_ms, retry_count;
    bool just_id;
};

/* Hands the entry over and replies it. */
static void claim_one(struct cmd_ctx *c, const struct claim *cl, struct stream_id id, struct stream_nack *n) {
    stream_nack_move(n, cl->consumer, id);
    n->delivery_ms = cl->delivery_ms;
    if (cl->retry_count >= 0)
        n->delivery_count = (uint64_t)cl->retry_count;
    else if (!cl->just_id)
        n->delivery_count++;
    if (cl->just_id)
        stream_reply_id(c->r, id);
    else
        stream_reply_entry_at(c->r, cl->s, id);
    cl->consumer->active_ms = cmd_clock_ms(c);
    stream_propagate_claim(c, cl->key, cl->group, cl->g, id, n, cl->name);
    cmd_dirty(c, 1);
}

static bool is_idle_enough(const struct cmd_ctx *c, const struct stream_nack *n, int64_t min_idle_ms) {
    return !n->consumer || min_idle_ms == 0 || cmd_clock_ms(c) - n->delivery_ms >= min_idle_ms;
}

/* Claimed, or not: then nothing is replied. */
static bool claim_id(struct cmd_ctx *c, const struct claim *cl, const struct claim_args *a, struct stream_id id) {
    struct stream_nack *n = stream_nack_find(cl->g, id);
    if (!stream_has(cl->s, id)) {
        if (n) {
            stream_propagate_claim(c, cl->key, cl->group, cl->g, id, n, cl->name);
            stream_ack(cl->g, id);
            cmd_dirty(c, 1);
        }
        return false;
    }
    if (!n && !a->force) return false;
    if (!n) n = stream_nack_add(cl->g, NULL, id);
    if (!is_idle_enough(c, n, a->min_idle_ms)) return false;
    claim_one(c, cl, id, n);
    return true;
}

void stream_xclaim_command(struct cmd_ctx *c) {
    struct claim_args a;
    struct claim cl = { .key = c->argv[1], .group = c->argv[2], .name = c->argv[3] };
    cl.g = stream_arg_group(c, cl.key, cl.group, &cl.s);
    if (!cl.g || !parse_claim(c, &a)) return;
    cl.delivery_ms = a.delivery_ms;
    cl.retry_count = a.retry_count;
    cl.just_id = a.just_id;
    if (stream_id_cmp(a.last_id, cl.g->last_id) > 0) {
        cl.g->last_id = a.last_id;
        stream_propagate_group_id(c, cl.key, cl.group, cl.g);
        cmd_dirty(c, 1);
    }
    cl.consumer = stream_use_consumer(c, cl.key, cl.group, cl.g, cl.name);
    struct reply_deferred d = reply_deferred_begin(c->r);
    size_t n = 0;
    for (int i = 5; i < a.ids_end; i++) {
        struct stream_id id;
        if (stream_parse_id_strict(c->argv[i], 0, &id, NULL)) n += claim_id(c, &cl, &a, id);
    }
    reply_deferred_array(c->r, d, n);
}

/* ---- XAUTOCLAIM ---- */

static bool parse_autoclaim(struct cmd_ctx *c, int64_t *ret_min_idle_ms, struct stream_id *ret_start, int64_t *ret_count,
                            bool *ret_just_id) {
    *ret_count = 100;
    *ret_just_id = false;
    if (!arg_min_idle(c, "ERR Invalid min-idle-time argument for XAUTOCLAIM", ret_min_idle_ms)) return false;
    if (!stream_arg_start(c, c->argv[5], ret_start)) return false;
    for (int i = 6; i < c->argc; i++) {
        if (slice_ieq(c->argv[i], "count") && i + 1 < c->argc) {
            if (!cmd_arg_ll_range(c, c->argv[++i], 1,
                                  LONG_MAX / (int64_t)(sizeof(struct stream_id) > ATTEMPTS_PER_ENTRY ? sizeof(struct stream_id)
                                                                                                     : ATTEMPTS_PER_ENTRY),
                                  ret_count, "ERR COUNT must be > 0"))
                return false;
        } else if (slice_ieq(c->argv[i], "justid")) {
            *ret_just_id = true;
        } else {
            cmd_syntax_error(c);
            return false;
        }
    }
    return true;
}

/* Claims from *at on; *at is where the next call goes on, 0-0 at the end. IDs that are gone are gathered. */
static size_t autoclaim(struct cmd_ctx *c, const struct claim *cl, int64_t min_idle_ms, int64_t count, struct stream_id *at,
                        struct buf *gone) {
    size_t n = 0;
    struct idmap_it it;
    bool there = idmap_seek_ge(&cl->g->pel, &it, *at);
    for (int64_t attempts = count * ATTEMPTS_PER_ENTRY; there && attempts > 0 && count > 0; attempts--) {
        struct stream_id id = idmap_it_id(&it);
        struct stream_nack *nack = idmap_it_value(&it);
        if (!stream_has(cl->s, id)) {
            stream_propagate_claim(c, cl->key, cl->group, cl->g, id, nack, cl->name);
            stream_ack(cl->g, id);
            cmd_dirty(c, 1);
            buf_append(gone, &id, sizeof id);
            there = idmap_seek_ge(&cl->g->pel, &it, id);
            count--;
            continue;
        }
        if (is_idle_enough(c, nack, min_idle_ms)) { /* the group's own map stays as it is */
            claim_one(c, cl, id, nack);
            n++;
            count--;
        }
        there = idmap_next(&it);
    }
    *at = there ? idmap_it_id(&it) : STREAM_ID_MIN;
    return n;
}

void stream_xautoclaim_command(struct cmd_ctx *c) {
    struct claim cl = {
        .key = c->argv[1], .group = c->argv[2], .name = c->argv[3], .delivery_ms = cmd_clock_ms(c), .retry_count = -1
    };
    int64_t min_idle_ms, count;
    struct stream_id at;
    if (!parse_autoclaim(c, &min_idle_ms, &at, &count, &cl.just_id)) return;
    cl.g = stream_arg_group(c, cl.key, cl.group, &cl.s);
    if (!cl.g) return;
    cl.consumer = stream_use_consumer(c, cl.key, cl.group, cl.g, cl.name);
    struct buf gone = { 0 };
    reply_array(c->r, 3);
    struct reply_deferred next = reply_deferred_begin(c->r), entries = reply_deferred_begin(c->r);
    size_t n = autoclaim(c, &cl, min_idle_ms, count, &at, &gone);
    char text[STREAM_ID_CHARS];
    reply_deferred_bulk(c->r, next, text, stream_id_text(text, at));
    reply_deferred_array(c->r, entries, n);
    size_t n_gone = gone.len / sizeof(struct stream_id);
    reply_array(c->r, n_gone);
    for (size_t i = 0; i < n_gone; i++) {
        struct stream_id id;
        memcpy(&id, gone.data + i * sizeof id, sizeof id);
        stream_reply_id(c->r, id);
    }
    buf_done(&gone);
}
