/*
 * Lists: taking elements from the ends, from one list, from the first of several, or to move them. The waiting commands
 * (cmd_list_block.c) use the same parts, and replicate as the commands here.
 */
#include <limits.h>

#include "base/alloc.h"
#include "cmd/cmd_list.h"

bool list_end_arg(struct cmd_ctx *c, struct slice a, enum list_end *ret) {
    if (slice_ieq(a, "left")) {
        *ret = LIST_HEAD;
    } else if (slice_ieq(a, "right")) {
        *ret = LIST_TAIL;
    } else {
        cmd_syntax_error(c);
        return false;
    }
    return true;
}

/* ---- LPOP, RPOP ---- */

/* Replies n elements from an end, as an array, and takes them out. */
static void pop_range(struct cmd_ctx *c, struct obj *o, enum list_end end, uint64_t n) {
    uint64_t len = list_len(o);
    list_reply_range(c, o, end == LIST_HEAD ? 0 : len - 1, n, end == LIST_TAIL);
    list_delete(o, end == LIST_HEAD ? 0 : len - n, n);
}

static void pop_one(struct cmd_ctx *c, struct obj *o, enum list_end end) {
    uint64_t at = end == LIST_HEAD ? 0 : list_len(o) - 1;
    struct list_iter it;
    struct list_elem e;
    list_iter_init(&it, o, at, false);
    if (list_iter_next(&it, &e)) list_reply_elem(c, &e);
    list_iter_done(&it);
    list_delete(o, at, 1);
}

static void pop(struct cmd_ctx *c, enum list_end end) {
    int64_t count = 0;
    bool has_count = c->argc == 3, err;
    if (c->argc > 3) {
        reply_errorf(c->r, "ERR wrong number of arguments for '%s' command", c->cmd->full_name);
        return;
    }
    if (has_count && !cmd_arg_ll_range(c, c->argv[2], 0, INT64_MAX, &count, "ERR value is out of range, must be positive"))
        return;
    struct entry *e = cmd_find_typed(c, c->argv[1], OBJ_LIST, true, &err);
    if (err) return;
    if (!e) {
        if (has_count)
            reply_null_array(c->r);
        else
            reply_null(c->r);
        return;
    }
    struct obj *o = entry_value(e);
    uint64_t n = 1;
    if (!has_count) {
        pop_one(c, o, end);
    } else if (count == 0) {
        reply_array(c->r, 0);
        return;
    } else {
        n = (uint64_t)count < list_len(o) ? (uint64_t)count : list_len(o);
        pop_range(c, o, end, n);
    }
    list_popped(c, c->argv[1], o, end, n);
}

void list_lpop_command(struct cmd_ctx *c) {
    pop(c, LIST_HEAD);
}

void list_rpop_command(struct cmd_ctx *c) {
    pop(c, LIST_TAIL);
}

/* ---- LMPOP ---- */

void list_pop_with_key(struct cmd_ctx *c, struct slice key, struct obj *o, enum list_end end, uint64_t count) {
    char num[STR_LL_MAX];
    uint64_t n = count < list_len(o) ? count : list_len(o);
    reply_array(c->r, 2);
    reply_bulk_slice(c->r, key);
    pop_range(c, o, end, n);
    struct slice argv[] = { end == LIST_HEAD ? SLICE_LIT("LPOP") : SLICE_LIT("RPOP"), key, { num, str_from_ull(num, n) } };
    cmd_propagate(c, 3, argv);
    list_popped(c, key, o, end, n);
}

bool list_mpop_args(struct cmd_ctx *c, int at, struct list_mpop *ret) {
    int64_t n_keys, count = -1;
    if (!cmd_arg_ll_range(c, c->argv[at], 1, INT64_MAX, &n_keys, "ERR numkeys should be greater than 0")) return false;
    if (n_keys >= c->argc - at - 1) {
        cmd_syntax_error(c);
        return false;
    }
    *ret = (struct list_mpop){ .keys = c->argv + at + 1, .n_keys = (int)n_keys };
    int i = at + 1 + (int)n_keys;
    if (!list_end_arg(c, c->argv[i++], &ret->end)) return false;
    for (; i < c->argc; i += 2) {
        if (count != -1 || !slice_ieq(c->argv[i], "count") || i + 1 == c->argc) {
            cmd_syntax_error(c);
            return false;
        }
        if (!cmd_arg_ll_range(c, c->argv[i + 1], 1, INT64_MAX, &count, "ERR count should be greater than 0")) return false;
    }
    ret->count = count == -1 ? 1 : (uint64_t)count;
    return true;
}

bool list_mpop(struct cmd_ctx *c, const struct list_mpop *m) {
    for (int i = 0; i < m->n_keys; i++) {
        bool err;
        struct entry *e = cmd_find_typed(c, m->keys[i], OBJ_LIST, true, &err);
        if (err) return true;
        if (!e) continue;
        list_pop_with_key(c, m->keys[i], entry_value(e), m->end, m->count);
        return true;
    }
    return false;
}

void list_lmpop_command(struct cmd_ctx *c) {
    struct list_mpop m;
    if (list_mpop_args(c, 1, &m) && !list_mpop(c, &m)) reply_null_array(c->r);
}

/* ---- LMOVE, RPOPLPUSH ---- */

#define ON_STACK 512 /* bytes of an element that are copied without allocating */

/* An element that was taken out of its list, as text or as the reference the list had. */
struct taken {
    struct list_value v;
    bool is_int;
    char small[ON_STACK];
    char *large;
};

static void take_out(struct obj *o, enum list_end end, struct taken *ret) {
    uint64_t at = end == LIST_HEAD ? 0 : list_len(o) - 1;
    struct list_iter it;
    struct list_elem e = { .is_int = false };
    char tmp[STR_LL_MAX];
    ret->large = NULL;
    list_iter_init(&it, o, at, false);
    list_iter_next(&it, &e);
    ret->is_int = e.is_int;
    ret->v = (struct list_value){ .text = list_elem_text(&e, tmp), .str = e.str ? obj_ref(e.str) : NULL };
    if (!e.str) {
        char *copy = ret->v.text.len <= ON_STACK ? ret->small : (ret->large = mem_alloc(ret->v.text.len));
        if (ret->v.text.len) memcpy(copy, ret->v.text.ptr, ret->v.text.len);
        ret->v.text.ptr = copy;
    }
    list_iter_done(&it);
    list_delete(o, at, 1);
}

bool list_move(struct cmd_ctx *c, struct entry *src, enum list_end from, enum list_end to) {
    struct slice src_key = c->argv[1], dst_key = c->argv[2];
    struct obj *s = entry_value(src), *fresh = NULL;
    struct taken t;
    bool err;
    struct entry *dst = cmd_find_typed(c, dst_key, OBJ_LIST, true, &err);
    if (err) return false;
    take_out(s, from, &t);
    struct list_elem e = { .text = t.v.text, .str = t.v.str };
    list_reply_elem(c, &e);
    struct obj *d = dst ? entry_value(dst) : (fresh = list_new());
    list_grow(d, 1, t.is_int ? 0 : t.v.text.len);
    list_push(d, to, t.v);
    mem_free(t.large);
    if (fresh) generic_put(c, c->db, dst_key, NULL, fresh, false);
    cmd_modified(c, c->db, dst_key);
    cmd_notify(c, 'l', to == LIST_HEAD ? "lpush" : "rpush", c->db, dst_key);
    list_popped(c, src_key, s, from, 1);
    return true;
}

static void move(struct cmd_ctx *c, enum list_end from, enum list_end to) {
    bool err;
    struct entry *e = cmd_find_typed(c, c->argv[1], OBJ_LIST, true, &err);
    if (err) return;
    if (e)
        list_move(c, e, from, to);
    else
        reply_null(c->r);
}

void list_lmove_command(struct cmd_ctx *c) {
    enum list_end from, to;
    if (list_end_arg(c, c->argv[3], &from) && list_end_arg(c, c->argv[4], &to)) move(c, from, to);
}

void list_rpoplpush_command(struct cmd_ctx *c) {
    move(c, LIST_TAIL, LIST_HEAD);
}
