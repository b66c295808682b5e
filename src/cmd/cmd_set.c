/*
 * Sets: adding, removing, looking. Random picks and SSCAN are in cmd_set_random.c, operations on several sets in cmd_set_ops.c.
 */
#include "cmd/cmd_set.h"

struct obj *set_for_read(struct cmd_ctx *c, bool *ret_err) {
    struct entry *e = cmd_find_typed(c, c->argv[1], OBJ_SET, false, ret_err);
    return e == NULL ? NULL : entry_value(e);
}

void set_reply_member(struct cmd_ctx *c, const struct set_member *m) {
    char tmp[STR_LL_MAX];
    reply_bulk_slice(c->r, set_member_text(m, tmp));
}

bool set_drop_if_empty(struct cmd_ctx *c, struct slice key, const struct obj *o) {
    if (set_len(o) != 0) return false;
    ks_delete(c->ks, c->db, key, false);
    cmd_notify(c, 'g', "del", c->db, key);
    return true;
}

/* ---- SADD, SREM, SMOVE ---- */

void set_add_command(struct cmd_ctx *c) {
    struct slice key = c->argv[1];
    size_t n_args = (size_t)c->argc - 2;
    int64_t n = 0;
    bool err;
    struct entry *e = cmd_find_typed(c, key, OBJ_SET, true, &err);
    if (err) return;
    if (e == NULL)
        e = generic_put(c, c->db, key, NULL, set_new_for(c->argv[2], n_args), false);
    else
        set_expect(entry_value(e), n_args);
    struct obj *o = entry_value(e);
    for (int i = 2; i < c->argc; i++) n += set_add(o, c->argv[i]);
    if (n > 0) {
        cmd_modified(c, c->db, key);
        cmd_dirty(c, (uint64_t)n - 1);
        cmd_notify(c, 's', "sadd", c->db, key);
    }
    reply_int(c->r, n);
}

void set_rem_command(struct cmd_ctx *c) {
    struct slice key = c->argv[1];
    int64_t n = 0;
    bool err;
    struct entry *e = cmd_find_typed(c, key, OBJ_SET, true, &err);
    if (err) return;
    struct obj *o = e == NULL ? NULL : entry_value(e);
    for (int i = 2; o != NULL && i < c->argc && set_len(o) != 0; i++) n += set_remove(o, c->argv[i]);
    if (n > 0) {
        cmd_modified(c, c->db, key);
        cmd_dirty(c, (uint64_t)n - 1);
        cmd_notify(c, 's', "srem", c->db, key);
        set_drop_if_empty(c, key, o);
    }
    reply_int(c->r, n);
}

static void move_member(struct cmd_ctx *c, struct obj *from, struct entry *to, struct slice member) {
    struct slice from_key = c->argv[1], to_key = c->argv[2];
    cmd_notify(c, 's', "srem", c->db, from_key);
    set_drop_if_empty(c, from_key, from);
    cmd_modified(c, c->db, from_key);
    if (to == NULL) to = generic_put(c, c->db, to_key, NULL, set_new_for(member, 1), false);
    if (!set_add(entry_value(to), member)) return;
    cmd_modified(c, c->db, to_key);
    cmd_notify(c, 's', "sadd", c->db, to_key);
}

void set_move_command(struct cmd_ctx *c) {
    struct slice member = c->argv[3];
    bool err;
    struct entry *from = cmd_find_write(c, c->argv[1]);
    if (from == NULL) {
        reply_int(c->r, 0);
        return;
    }
    if (entry_value(from)->type != OBJ_SET) {
        cmd_wrongtype(c);
        return;
    }
    struct entry *to = cmd_find_typed(c, c->argv[2], OBJ_SET, true, &err);
    if (err) return;
    struct obj *o = entry_value(from);
    if (from == to) {
        reply_int(c->r, set_has(o, member));
        return;
    }
    bool moved = set_remove(o, member);
    if (moved) move_member(c, o, to, member);
    reply_int(c->r, moved);
}

/* ---- SCARD, SISMEMBER, SMISMEMBER, SMEMBERS ---- */

void set_card_command(struct cmd_ctx *c) {
    bool err;
    const struct obj *o = set_for_read(c, &err);
    if (!err) reply_int(c->r, o == NULL ? 0 : (int64_t)set_len(o));
}

void set_ismember_command(struct cmd_ctx *c) {
    bool err;
    const struct obj *o = set_for_read(c, &err);
    if (!err) reply_int(c->r, o != NULL && set_has(o, c->argv[2]));
}

void set_mismember_command(struct cmd_ctx *c) {
    bool err;
    const struct obj *o = set_for_read(c, &err);
    if (err) return;
    reply_array(c->r, (size_t)c->argc - 2);
    for (int i = 2; i < c->argc; i++) reply_int(c->r, o != NULL && set_has(o, c->argv[i]));
}

static bool reply_one(void *arg, const struct set_member *m) {
    set_reply_member(arg, m);
    return true;
}

void set_members_command(struct cmd_ctx *c) {
    bool err;
    const struct obj *o = set_for_read(c, &err);
    if (err) return;
    reply_set(c->r, o == NULL ? 0 : set_len(o));
    if (o != NULL) set_each(o, reply_one, c);
}
