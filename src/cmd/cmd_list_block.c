/*
 * Lists: the commands that wait for elements. Each is its counterpart of cmd_list_pop.c when there is something, waits for its
 * keys to become lists when there is not (cmd.h, "blocking"), and replicates as the counterpart. Inside EXEC and scripts nobody
 * waits: the reply is that of a time that ran out, but for BLMOVE and BRPOPLPUSH, whose null is then that of LMOVE.
 */
#include "cmd/cmd_list.h"

static void wait_for(struct cmd_ctx *c, const struct slice *keys, int n_keys, int64_t deadline_us) {
    struct cmd_block b = {
        .keys = keys, .n_keys = n_keys, .type = OBJ_LIST, .deadline_us = deadline_us, .timed_out = reply_null_array
    };
    cmd_block_on_keys(c, &b);
}

/* ---- BLPOP, BRPOP ---- */

/* Replies [key, element]. */
static void pop_one_with_key(struct cmd_ctx *c, struct slice key, struct obj *o, enum list_end end) {
    uint64_t at = end == LIST_HEAD ? 0 : list_len(o) - 1;
    struct list_iter it;
    struct list_elem e;
    reply_array(c->r, 2);
    reply_bulk_slice(c->r, key);
    list_iter_init(&it, o, at, false);
    if (list_iter_next(&it, &e)) list_reply_elem(c, &e);
    list_iter_done(&it);
    list_delete(o, at, 1);
    struct slice argv[] = { end == LIST_HEAD ? SLICE_LIT("LPOP") : SLICE_LIT("RPOP"), key };
    cmd_propagate(c, 2, argv);
    list_popped(c, key, o, end, 1);
}

static void blocking_pop(struct cmd_ctx *c, enum list_end end) {
    int64_t deadline_us;
    int n_keys = c->argc - 2;
    if (!cmd_arg_timeout(c, c->argv[c->argc - 1], CMD_TIMEOUT_SECONDS, &deadline_us)) return;
    for (int i = 1; i <= n_keys; i++) {
        bool err;
        struct entry *e = cmd_find_typed(c, c->argv[i], OBJ_LIST, true, &err);
        if (err) return;
        if (!e) continue;
        pop_one_with_key(c, c->argv[i], entry_value(e), end);
        return;
    }
    wait_for(c, c->argv + 1, n_keys, deadline_us);
}

void list_blpop_command(struct cmd_ctx *c) {
    blocking_pop(c, LIST_HEAD);
}

void list_brpop_command(struct cmd_ctx *c) {
    blocking_pop(c, LIST_TAIL);
}

void list_blmpop_command(struct cmd_ctx *c) {
    int64_t deadline_us;
    struct list_mpop m;
    if (!list_mpop_args(c, 2, &m) || !cmd_arg_timeout(c, c->argv[1], CMD_TIMEOUT_SECONDS, &deadline_us)) return;
    if (!list_mpop(c, &m)) wait_for(c, m.keys, m.n_keys, deadline_us);
}

/* ---- BLMOVE, BRPOPLPUSH ---- */

/* n_words: of the command without its timeout, which is what replicas get, by the name given. */
static void blocking_move(struct cmd_ctx *c, enum list_end from, enum list_end to, struct slice name, int n_words) {
    int64_t deadline_us;
    bool err;
    if (!cmd_arg_timeout(c, c->argv[n_words], CMD_TIMEOUT_SECONDS, &deadline_us)) return;
    struct entry *e = cmd_find_typed(c, c->argv[1], OBJ_LIST, true, &err);
    if (err) return;
    if (e) {
        struct slice argv[5] = { name };
        for (int i = 1; i < n_words; i++) argv[i] = c->argv[i];
        if (list_move(c, e, from, to)) cmd_propagate(c, n_words, argv);
    } else if (cmd_can_block(c)) {
        wait_for(c, c->argv + 1, 1, deadline_us);
    } else {
        reply_null(c->r);
    }
}

void list_blmove_command(struct cmd_ctx *c) {
    enum list_end from, to;
    if (list_end_arg(c, c->argv[3], &from) && list_end_arg(c, c->argv[4], &to)) blocking_move(c, from, to, SLICE_LIT("LMOVE"), 5);
}

void list_brpoplpush_command(struct cmd_ctx *c) {
    blocking_move(c, LIST_TAIL, LIST_HEAD, SLICE_LIT("RPOPLPUSH"), 3);
}
