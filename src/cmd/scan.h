/* What SCAN, HSCAN, SSCAN and ZSCAN share: the cursor, the options, the walk over a table and the reply's frame. Dispatching
 * thread, shards locked as the caller says.
 *
 * A family's command, in redis-server's order of checks:
 *
 *     if (!scan_cursor(c, c->argv[2], &cursor)) return;
 *     e = cmd_find_typed(...);                         absent: scan_reply_empty(c)
 *     if (!scan_options(c, 3, allowed, &opts)) return;
 *     table: struct scan_found f = { 0 };
 *            cursor = scan_dict(d, cursor, &opts, &f);  other encodings: all at once, the cursor is 0
 *            d = scan_reply_begin(c, cursor); reply_* what scan_matches(); reply_deferred_array(c->r, d, n); scan_found_done(&f);
 */
#ifndef KETTLE_CMD_SCAN_H
#define KETTLE_CMD_SCAN_H

#include "cmd/cmd.h"
#include "data/dict.h"

enum scan_opt { SCAN_TYPE = 1, SCAN_NOVALUES = 2 }; /* beside MATCH and COUNT, which all take */

struct scan_opts {
    struct slice pattern;   /* ptr NULL: everything */
    struct slice type_name; /* TYPE; ptr NULL: every type */
    int64_t count;          /* at least 1; 10 unless given */
    bool novalues;          /* NOVALUES */
};

/* A cursor as strtoul reads it, since that is what redis-server 7.2 takes: a sign, leading zeros, and nothing at all are fine.
 * Replies "ERR invalid cursor" and gives false otherwise. */
bool scan_cursor(struct cmd_ctx *c, struct slice a, uint64_t *ret);
/* The options from argv[first] on; allowed: enum scan_opt. Replies the error and gives false when they are wrong. */
bool scan_options(struct cmd_ctx *c, int first, unsigned allowed, struct scan_opts *ret);
/* How many steps a walk may take for COUNT, so that a sparse table cannot make one call endless. */
int64_t scan_max_steps(const struct scan_opts *o);

static inline bool scan_matches(const struct scan_opts *o, struct slice name) {
    return o->pattern.ptr == NULL || str_glob(o->pattern, name, false);
}

struct scan_found { /* items of a table, valid until it changes */
    void **items;
    size_t n, cap;
};
/* Walks on until COUNT items were met (matching or not) or the end. Returns the next cursor. */
uint64_t scan_dict(struct dict *d, uint64_t cursor, const struct scan_opts *o, struct scan_found *ret);
void scan_found_done(struct scan_found *f);

/* [cursor, [...]]: the inner array is open until the caller gives its length with reply_deferred_array. */
struct reply_deferred scan_reply_begin(struct cmd_ctx *c, uint64_t cursor);
void scan_reply_empty(struct cmd_ctx *c); /* "0" and nothing */

#endif
