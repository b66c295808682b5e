/*
 * Lists: adding, reading and changing elements in place. Taking elements is in cmd_list_pop.c, waiting for them in
 * cmd_list_block.c.
 *
 * Flow of a change: arguments checked in redis-server's order -> list found -> list_grow (conversion by what is to come) -> data
 * -> effects. An empty list is never left behind: its key goes, with "del" after the command's own event.
 */
#include "cmd/cmd_list.h"

#include "cmd/cmd_string.h"

#define ZERO_COPY_MIN 16384 /* bytes, as strings */

/* ---- shared ---- */

struct list_value list_arg_value(struct cmd_ctx *c, const struct obj *o, struct slice a) {
    struct list_value v = { .text = a };
    if (list_wants_object(o, a.len)) {
        v.str = string_new_value(c, a);
        v.text = obj_string_bytes(v.str, NULL);
    }
    return v;
}

void list_reply_elem(struct cmd_ctx *c, const struct list_elem *e) {
    if (e->is_int)
        reply_bulk_ll(c->r, e->num);
    else if (e->str && e->text.len >= ZERO_COPY_MIN)
        reply_bulk_ref(c->r, e->text.ptr, e->text.len, obj_unref_cb, obj_ref(e->str));
    else
        reply_bulk(c->r, e->text.ptr, e->text.len);
}

void list_reply_range(struct cmd_ctx *c, const struct obj *o, uint64_t index, uint64_t n, bool backward) {
    struct list_iter it;
    struct list_elem e;
    reply_array(c->r, n);
    list_iter_init(&it, o, index, backward);
    while (n-- > 0 && list_iter_next(&it, &e)) list_reply_elem(c, &e);
    list_iter_done(&it);
}

/* After elements were deleted, the command's own event said. o NULL, or empty: the key goes. */
static void shortened(struct cmd_ctx *c, struct slice key, struct obj *o, uint64_t dirty) {
    if (!o || list_len(o) == 0) {
        ks_delete(c->ks, c->db, key, atomic_load_explicit(&c->eng->lazy_server_del, memory_order_relaxed));
        cmd_notify(c, 'g', "del", c->db, key);
    } else {
        list_shrink(o);
    }
    cmd_modified(c, c->db, key);
    if (dirty > 1) cmd_dirty(c, dirty - 1);
}

void list_popped(struct cmd_ctx *c, struct slice key, struct obj *o, enum list_end end, uint64_t n) {
    cmd_notify(c, 'l', end == LIST_HEAD ? "lpop" : "rpop", c->db, key);
    shortened(c, key, o, n);
}

/* The list of argv[1] for reading. NULL: absent, or WRONGTYPE was replied (*ret_err). */
static struct obj *find_read(struct cmd_ctx *c, bool *ret_err) {
    struct entry *e = cmd_find_typed(c, c->argv[1], OBJ_LIST, false, ret_err);
    return e ? entry_value(e) : NULL;
}

static struct obj *find_write(struct cmd_ctx *c, bool *ret_err) {
    struct entry *e = cmd_find_typed(c, c->argv[1], OBJ_LIST, true, ret_err);
    return e ? entry_value(e) : NULL;
}

/* ---- LPUSH, RPUSH, LPUSHX, RPUSHX ---- */

static void push(struct cmd_ctx *c, enum list_end end, bool only_existing) {
    bool err;
    struct obj *o = find_write(c, &err), *fresh = NULL;
    if (err) return;
    if (!o && only_existing) {
        reply_int(c->r, 0);
        return;
    }
    if (!o) o = fresh = list_new();
    uint64_t bytes = 0, n = (uint64_t)c->argc - 2;
    for (int i = 2; i < c->argc; i++) bytes += c->argv[i].len;
    list_grow(o, n, bytes);
    for (int i = 2; i < c->argc; i++) list_push(o, end, list_arg_value(c, o, c->argv[i]));
    reply_int(c->r, (int64_t)list_len(o));
    if (fresh) generic_put(c, c->db, c->argv[1], NULL, fresh, false);
    cmd_modified(c, c->db, c->argv[1]);
    if (n > 1) cmd_dirty(c, n - 1);
    cmd_notify(c, 'l', end == LIST_HEAD ? "lpush" : "rpush", c->db, c->argv[1]);
}

void list_lpush_command(struct cmd_ctx *c) {
    push(c, LIST_HEAD, false);
}

void list_rpush_command(struct cmd_ctx *c) {
    push(c, LIST_TAIL, false);
}

void list_lpushx_command(struct cmd_ctx *c) {
    push(c, LIST_HEAD, true);
}

void list_rpushx_command(struct cmd_ctx *c) {
    push(c, LIST_TAIL, true);
}

/* ---- LLEN, LINDEX, LRANGE ---- */

void list_llen_command(struct cmd_ctx *c) {
    bool err;
    struct obj *o = find_read(c, &err);
    if (!err) reply_int(c->r, o ? (int64_t)list_len(o) : 0);
}

/* An index as given, from the end when negative. False: outside of the list. */
static bool resolve_index(const struct obj *o, int64_t index, uint64_t *ret) {
    uint64_t len = list_len(o), at = index < 0 ? len + (uint64_t)index : (uint64_t)index;
    if (index < 0 ? 0 - (uint64_t)index > len : at >= len) return false;
    *ret = at;
    return true;
}

void list_lindex_command(struct cmd_ctx *c) {
    bool err;
    int64_t index;
    uint64_t at;
    struct obj *o = find_read(c, &err);
    if (err) return;
    if (!o) {
        reply_null(c->r);
        return;
    }
    if (!cmd_arg_ll(c, c->argv[2], &index, NULL)) return;
    if (!resolve_index(o, index, &at)) {
        reply_null(c->r);
        return;
    }
    struct list_iter it;
    struct list_elem e;
    list_iter_init(&it, o, at, false);
    if (list_iter_next(&it, &e)) list_reply_elem(c, &e);
    list_iter_done(&it);
}

/* Indices from `start` to `stop`, both included, brought within the list. The number of elements; 0: none. */
static uint64_t resolve_range(const struct obj *o, int64_t start, int64_t stop, uint64_t *ret_first) {
    int64_t len = (int64_t)list_len(o);
    if (start < 0) start = start < -len ? 0 : start + len;
    if (stop < 0) stop += len;
    if (stop >= len) stop = len - 1;
    if (start > stop) return 0;
    *ret_first = (uint64_t)start;
    return (uint64_t)(stop - start) + 1;
}

void list_lrange_command(struct cmd_ctx *c) {
    int64_t start, stop;
    bool err;
    if (!cmd_arg_ll(c, c->argv[2], &start, NULL) || !cmd_arg_ll(c, c->argv[3], &stop, NULL)) return;
    struct obj *o = find_read(c, &err);
    if (err) return;
    uint64_t first = 0, n = o ? resolve_range(o, start, stop, &first) : 0;
    if (n == 0)
        reply_array(c->r, 0);
    else
        list_reply_range(c, o, first, n, false);
}

/* ---- LSET, LINSERT ---- */

void list_lset_command(struct cmd_ctx *c) {
    bool err;
    int64_t index;
    uint64_t at;
    struct obj *o = find_write(c, &err);
    if (err) return;
    if (!o) {
        reply_error(c->r, "ERR no such key");
        return;
    }
    if (!cmd_arg_ll(c, c->argv[2], &index, NULL)) return;
    list_grow(o, 1, c->argv[3].len);
    if (!resolve_index(o, index, &at)) {
        reply_error(c->r, "ERR index out of range");
        return;
    }
    list_set(o, at, list_arg_value(c, o, c->argv[3]));
    list_shrink(o);
    reply_ok(c->r);
    cmd_modified(c, c->db, c->argv[1]);
    cmd_notify(c, 'l', "lset", c->db, c->argv[1]);
}

void list_linsert_command(struct cmd_ctx *c) {
    bool err, after = slice_ieq(c->argv[2], "after");
    struct list_place place;
    if (!after && !slice_ieq(c->argv[2], "before")) {
        cmd_syntax_error(c);
        return;
    }
    struct obj *o = find_write(c, &err);
    if (err) return;
    if (!o) {
        reply_int(c->r, 0);
        return;
    }
    list_grow(o, 1, c->argv[4].len);
    if (!list_find(o, c->argv[3], &place)) {
        reply_int(c->r, -1);
        return;
    }
    list_insert(o, place, after, list_arg_value(c, o, c->argv[4]));
    reply_int(c->r, (int64_t)list_len(o));
    cmd_modified(c, c->db, c->argv[1]);
    cmd_notify(c, 'l', "linsert", c->db, c->argv[1]);
}

/* ---- LTRIM, LREM ---- */

void list_ltrim_command(struct cmd_ctx *c) {
    int64_t start, stop;
    bool err;
    if (!cmd_arg_ll(c, c->argv[2], &start, NULL) || !cmd_arg_ll(c, c->argv[3], &stop, NULL)) return;
    struct obj *o = find_write(c, &err);
    if (err) return;
    reply_ok(c->r);
    if (!o) return;
    uint64_t first = 0, len = list_len(o), keep = resolve_range(o, start, stop, &first), gone = len - keep;
    if (gone == 0) cmd_propagate(c, 0, NULL);
    if (keep > 0) { /* the end first, as it does not move the rest */
        list_delete(o, first + keep, len - first - keep);
        list_delete(o, 0, first);
    }
    cmd_notify(c, 'l', "ltrim", c->db, c->argv[1]);
    shortened(c, c->argv[1], keep ? o : NULL, gone);
}

void list_lrem_command(struct cmd_ctx *c) {
    int64_t count;
    bool err;
    if (!cmd_arg_ll_range(c, c->argv[2], -INT64_MAX, INT64_MAX, &count, NULL)) return;
    struct obj *o = find_write(c, &err);
    if (err) return;
    uint64_t max = count == 0 ? UINT64_MAX : count < 0 ? 0 - (uint64_t)count : (uint64_t)count;
    uint64_t n = o ? list_remove_equal(o, c->argv[3], max, count < 0 ? LIST_TAIL : LIST_HEAD) : 0;
    reply_int(c->r, (int64_t)n);
    if (n == 0) return;
    cmd_notify(c, 'l', "lrem", c->db, c->argv[1]);
    shortened(c, c->argv[1], o, n);
}

/* ---- LPOS ---- */

struct lpos_options {
    int64_t rank, count, max_len; /* count -1: not given */
};

static bool lpos_parse(struct cmd_ctx *c, struct lpos_options *ret) {
    *ret = (struct lpos_options){ .rank = 1, .count = -1 };
    for (int i = 3; i < c->argc; i += 2) {
        struct slice word = c->argv[i], arg = i + 1 < c->argc ? c->argv[i + 1] : (struct slice){ NULL, 0 };
        if (slice_ieq(word, "rank") && arg.ptr) {
            if (!cmd_arg_ll_range(c, arg, -INT64_MAX, INT64_MAX, &ret->rank, NULL)) return false;
            if (ret->rank == 0) {
                reply_error(c->r, "ERR RANK can't be zero: use 1 to start from the first match, 2 from the second ... or use "
                                  "negative to start from the end of the list");
                return false;
            }
        } else if (slice_ieq(word, "count") && arg.ptr) {
            if (!cmd_arg_ll_range(c, arg, 0, INT64_MAX, &ret->count, "ERR COUNT can't be negative")) return false;
        } else if (slice_ieq(word, "maxlen") && arg.ptr) {
            if (!cmd_arg_ll_range(c, arg, 0, INT64_MAX, &ret->max_len, "ERR MAXLEN can't be negative")) return false;
        } else {
            cmd_syntax_error(c);
            return false;
        }
    }
    return true;
}

/* Replies the indices of the matches; one, or null, when COUNT was not given. */
static void lpos_reply(struct cmd_ctx *c, const struct obj *o, const struct lpos_options *opt) {
    bool backward = opt->rank < 0, many = opt->count >= 0;
    uint64_t len = list_len(o), to_skip = (uint64_t)(backward ? -opt->rank : opt->rank) - 1, found = 0;
    uint64_t max = opt->max_len ? (uint64_t)opt->max_len : UINT64_MAX, want = many ? (uint64_t)opt->count : 1;
    struct list_needle needle = list_needle_of(c->argv[2]);
    struct reply_deferred d = { .muted = true };
    struct list_iter it;
    struct list_elem e;
    if (many) d = reply_deferred_begin(c->r);
    list_iter_init(&it, o, backward ? len - 1 : 0, backward);
    for (uint64_t i = 0; i < max && list_iter_next(&it, &e); i++) {
        if (!list_elem_eq(&e, &needle)) continue;
        if (to_skip) {
            to_skip--;
            continue;
        }
        reply_int(c->r, (int64_t)(backward ? len - 1 - i : i));
        if (++found == want) break; /* 0 wants all */
    }
    list_iter_done(&it);
    if (many)
        reply_deferred_array(c->r, d, found);
    else if (found == 0)
        reply_null(c->r);
}

void list_lpos_command(struct cmd_ctx *c) {
    struct lpos_options opt;
    bool err;
    if (!lpos_parse(c, &opt)) return;
    struct obj *o = find_read(c, &err);
    if (err) return;
    if (o)
        lpos_reply(c, o, &opt);
    else if (opt.count >= 0)
        reply_array(c->r, 0);
    else
        reply_null(c->r);
}
