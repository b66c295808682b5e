/*
 * XLEN, XRANGE, XREVRANGE.
 */
#include "cmd/cmd_stream.h"

void stream_xlen_command(struct cmd_ctx *c) {
    bool err;
    struct stream *s = stream_find(c, c->argv[1], false, &err);
    if (!err) reply_int(c->r, s ? (int64_t)s->length : 0);
}

/* COUNT n from argv[4] on; -1: none given. */
static bool arg_count(struct cmd_ctx *c, int64_t *ret) {
    *ret = -1;
    for (int i = 4; i < c->argc; i++) {
        if (i + 1 == c->argc || !slice_ieq(c->argv[i], "count")) {
            cmd_syntax_error(c);
            return false;
        }
        if (!cmd_arg_ll(c, c->argv[++i], ret, NULL)) return false;
        if (*ret < 0) *ret = 0;
    }
    return true;
}

static void range(struct cmd_ctx *c, bool backwards) {
    struct stream_id start, end;
    int64_t count, n = 0;
    bool err;
    if (!stream_arg_start(c, c->argv[backwards ? 3 : 2], &start) || !stream_arg_end(c, c->argv[backwards ? 2 : 3], &end)) return;
    if (!arg_count(c, &count)) return;
    struct stream *s = stream_find(c, c->argv[1], false, &err);
    if (err) return;
    if (!s) {
        reply_array(c->r, 0);
        return;
    }
    if (count == 0) {
        reply_null_array(c->r);
        return;
    }
    struct reply_deferred d = reply_deferred_begin(c->r);
    struct stream_it it;
    stream_it_init(&it, s, start, end, backwards);
    for (; n != count && stream_it_next(&it); n++) stream_reply_entry(c->r, &it);
    reply_deferred_array(c->r, d, (size_t)n);
}

void stream_xrange_command(struct cmd_ctx *c) {
    range(c, false);
}

void stream_xrevrange_command(struct cmd_ctx *c) {
    range(c, true);
}
