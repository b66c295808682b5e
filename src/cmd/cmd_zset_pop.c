/*
 * Sorted sets, taking from an end: ZPOPMIN, ZPOPMAX, ZMPOP and the forms that wait, BZPOPMIN, BZPOPMAX, BZMPOP.
 *
 * A command that waits is run again as a whole when a key is ready (block.c); what it does then, and what it replicates, is the
 * same as if it had found the set the first time: ZPOPMIN or ZPOPMAX of the key that had something, with the number that was
 * taken.
 */
#include "cmd/cmd_zset.h"

enum pop_form {
    POP_FLAT,       /* member, score, member... */
    POP_PAIRS,      /* [member, score], ...: RESP3 when a count was given */
    POP_KEY_FLAT,   /* key, member, score */
    POP_KEY_NESTED, /* key, [[member, score], ...] */
};

struct pop {
    const struct slice *keys;
    int n_keys;
    bool from_max;
    int64_t count;
    enum pop_form form;
    bool has_count;   /* the replicated command names one */
    bool is_verbatim; /* replicated as given */
};

static void reply_head(struct cmd_ctx *c, const struct pop *p, struct slice key, uint64_t n) {
    switch (p->form) {
    case POP_FLAT:
        reply_array(c->r, n * 2);
        break;
    case POP_PAIRS:
        reply_array(c->r, n);
        break;
    case POP_KEY_FLAT:
        reply_array(c->r, n * 2 + 1);
        reply_bulk_slice(c->r, key);
        break;
    default:
        reply_array(c->r, 2);
        reply_bulk_slice(c->r, key);
        reply_array(c->r, n);
    }
}

static void pop_propagate(struct cmd_ctx *c, const struct pop *p, struct slice key, uint64_t n) {
    char num[STR_LL_MAX];
    struct slice argv[] = { p->from_max ? SLICE_LIT("ZPOPMAX") : SLICE_LIT("ZPOPMIN"), key, { num, str_from_ull(num, n) } };
    if (!p->is_verbatim) cmd_propagate(c, p->has_count ? 3 : 2, argv);
}

static void pop_from(struct cmd_ctx *c, const struct pop *p, struct slice key, struct obj *o) {
    struct zset_iter it;
    struct zset_item item;
    uint64_t len = zset_len(o), n = (uint64_t)p->count < len ? (uint64_t)p->count : len;
    reply_head(c, p, key, n);
    zset_iter_init(&it, o, p->from_max ? len - 1 : 0, p->from_max);
    for (uint64_t i = 0; i < n && zset_iter_next(&it, &item); i++) {
        if (p->form == POP_PAIRS || p->form == POP_KEY_NESTED) reply_array(c->r, 2);
        reply_bulk_slice(c->r, item.member);
        reply_double(c->r, item.score);
    }
    pop_propagate(c, p, key, n);
    if (n < len) zset_remove_ranks(o, (struct zset_ranks){ p->from_max ? len - n : 0, n });
    cmd_notify(c, 'z', p->from_max ? "zpopmax" : "zpopmin", c->db, key);
    if (n == len) zset_delete_key(c, key);
    cmd_modified(c, c->db, key);
    cmd_dirty(c, n - 1);
}

/* Pops from the first key that has a set. False: none has, and nothing was replied; true also when an error was. */
static bool pop_first(struct cmd_ctx *c, const struct pop *p) {
    for (int i = 0; i < p->n_keys; i++) {
        bool err;
        struct entry *e = cmd_find_typed(c, p->keys[i], OBJ_ZSET, true, &err);
        if (err) return true;
        if (!e) continue;
        if (p->count > 0)
            pop_from(c, p, p->keys[i], entry_value(e));
        else
            reply_array(c->r, 0);
        return true;
    }
    return false;
}

static void zpop(struct cmd_ctx *c, bool from_max) {
    struct pop p = { .keys = &c->argv[1], .n_keys = 1, .from_max = from_max, .count = 1, .is_verbatim = true };
    if (c->argc > 3) {
        cmd_syntax_error(c);
        return;
    }
    if (c->argc == 3) {
        if (!cmd_arg_ll_range(c, c->argv[2], 0, INT64_MAX, &p.count, "ERR value is out of range, must be positive")) return;
        if (c->r->resp >= 3) p.form = POP_PAIRS;
    }
    if (!pop_first(c, &p)) reply_array(c->r, 0);
}

void zset_zpopmin_command(struct cmd_ctx *c) {
    zpop(c, false);
}

void zset_zpopmax_command(struct cmd_ctx *c) {
    zpop(c, true);
}

/* ---- waiting ---- */

static void pop_or_wait(struct cmd_ctx *c, const struct pop *p, struct slice timeout) {
    struct cmd_block b = { .keys = p->keys, .n_keys = p->n_keys, .type = OBJ_ZSET, .timed_out = reply_null_array };
    if (!cmd_arg_timeout(c, timeout, CMD_TIMEOUT_SECONDS, &b.deadline_us)) return;
    if (!pop_first(c, p)) cmd_block_on_keys(c, &b);
}

static void bzpop(struct cmd_ctx *c, bool from_max) {
    struct pop p = { .keys = &c->argv[1], .n_keys = c->argc - 2, .from_max = from_max, .count = 1, .form = POP_KEY_FLAT };
    pop_or_wait(c, &p, c->argv[c->argc - 1]);
}

void zset_bzpopmin_command(struct cmd_ctx *c) {
    bzpop(c, false);
}

void zset_bzpopmax_command(struct cmd_ctx *c) {
    bzpop(c, true);
}

/* ---- ZMPOP, BZMPOP ---- */

/* numkeys key [key ...] <MIN | MAX> [COUNT count], from argv[at] on. */
static bool mpop_args(struct cmd_ctx *c, int at, struct pop *ret) {
    int64_t n_keys;
    bool counted = false;
    if (!cmd_arg_ll_range(c, c->argv[at], 1, INT64_MAX, &n_keys, "ERR numkeys should be greater than 0")) return false;
    if (n_keys >= c->argc - at - 1) {
        cmd_syntax_error(c);
        return false;
    }
    int i = at + 1 + (int)n_keys;
    *ret = (struct pop){ .keys = &c->argv[at + 1], .n_keys = (int)n_keys, .count = 1, .form = POP_KEY_NESTED, .has_count = true };
    ret->from_max = slice_ieq(c->argv[i], "max");
    if (!ret->from_max && !slice_ieq(c->argv[i], "min")) {
        cmd_syntax_error(c);
        return false;
    }
    for (i++; i < c->argc; i += 2) {
        if (counted || !slice_ieq(c->argv[i], "count") || i + 1 == c->argc) {
            cmd_syntax_error(c);
            return false;
        }
        counted = true;
        if (!cmd_arg_ll_range(c, c->argv[i + 1], 1, INT64_MAX, &ret->count, "ERR count should be greater than 0")) return false;
    }
    return true;
}

void zset_zmpop_command(struct cmd_ctx *c) {
    struct pop p;
    if (mpop_args(c, 1, &p) && !pop_first(c, &p)) reply_null_array(c->r);
}

void zset_bzmpop_command(struct cmd_ctx *c) {
    struct pop p;
    if (mpop_args(c, 2, &p)) pop_or_wait(c, &p, c->argv[1]);
}
