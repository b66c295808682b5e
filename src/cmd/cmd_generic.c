/*
 * Commands on keys whatever they hold: deleting, testing, renaming, copying, moving; and the helpers that the string and bitmap
 * families share with them.
 *
 * Flow: dispatcher (shards of the keys locked) -> command -> keyspace, then effects: cmd_modified (watchers, dirty), cmd_notify,
 * and cmd_propagate where the command as given would not replay to the same result. Owning thread: the dispatching I/O thread;
 * nothing here blocks.
 *
 * Invariant: an entry found by cmd_find_* is live at c->now_ms and stays at its address until it is deleted or its value replaced
 * (generic_put says where it is then), whatever happens to other keys.
 */
#include "cmd/cmd_generic.h"

#include <limits.h>

static bool lazy_server_del(const struct cmd_ctx *c) {
    return atomic_load_explicit(&c->eng->lazy_server_del, memory_order_relaxed);
}

struct entry *generic_put(struct cmd_ctx *c, int db, struct slice key, struct entry *old, struct obj *val_take, bool keep_ttl) {
    if (old == NULL) return ks_set(c->ks, db, key, val_take, false);
    /* In place: one table lookup for an overwrite instead of two. */
    ks_signal_ready(c->ks, db, key);
    struct entry *e = ks_replace(c->ks, db, key, old, val_take, lazy_server_del(c));
    if (!keep_ttl && entry_expire_ms(e) != KS_NO_EXPIRE) ks_set_expire(c->ks, db, e, KS_NO_EXPIRE);
    return e;
}

struct entry *generic_put_string(struct cmd_ctx *c, struct slice key, struct entry *old, struct slice text, bool keep_ttl) {
    if (old == NULL) return ks_set_string(c->ks, c->db, key, text, false);
    ks_signal_ready(c->ks, c->db, key);
    struct entry *e = ks_replace_string(c->ks, c->db, key, old, text, lazy_server_del(c));
    if (!keep_ttl && entry_expire_ms(e) != KS_NO_EXPIRE) ks_set_expire(c->ks, c->db, e, KS_NO_EXPIRE);
    return e;
}

struct entry *generic_peek(struct cmd_ctx *c, struct slice key, bool notify_miss) {
    struct entry *e = ks_find(c->ks, c->db, key, c->now_ms, KS_FIND_READ | KS_FIND_NO_TOUCH);
    if (e == NULL && notify_miss) cmd_notify(c, 'm', "keymiss", c->db, key);
    return e;
}

bool generic_db_arg(struct cmd_ctx *c, struct slice a, int *ret_db) {
    int64_t v;
    if (!cmd_arg_ll_range(c, a, INT_MIN, INT_MAX, &v, NULL)) return false;
    if (v < 0 || v >= ks_n_dbs(c->ks)) {
        reply_error(c->r, "ERR DB index is out of range");
        return false;
    }
    *ret_db = (int)v;
    return true;
}

/* ---- DEL, UNLINK ---- */

static void del_keys(struct cmd_ctx *c, bool lazy) {
    int64_t n = 0;
    for (int i = 1; i < c->argc; i++) {
        /* The lookup first: an expired key is removed as expired, and is not counted. */
        if (cmd_find_write(c, c->argv[i]) == NULL || !ks_delete(c->ks, c->db, c->argv[i], lazy)) continue;
        cmd_modified(c, c->db, c->argv[i]);
        cmd_notify(c, 'g', "del", c->db, c->argv[i]);
        n++;
    }
    reply_int(c->r, n);
}

void generic_del_command(struct cmd_ctx *c) {
    del_keys(c, atomic_load_explicit(&c->eng->lazy_user_del, memory_order_relaxed));
}

void generic_unlink_command(struct cmd_ctx *c) {
    del_keys(c, true);
}

/* ---- EXISTS, TOUCH, TYPE ---- */

void generic_exists_command(struct cmd_ctx *c) {
    int64_t n = 0;
    for (int i = 1; i < c->argc; i++) n += generic_peek(c, c->argv[i], true) != NULL;
    reply_int(c->r, n);
}

void generic_touch_command(struct cmd_ctx *c) {
    int64_t n = 0;
    for (int i = 1; i < c->argc; i++) {
        bool found = ks_find(c->ks, c->db, c->argv[i], c->now_ms, KS_FIND_READ) != NULL; /* touches even under CLIENT NO-TOUCH */
        if (!found) cmd_notify(c, 'm', "keymiss", c->db, c->argv[i]);
        n += found;
    }
    reply_int(c->r, n);
}

void generic_type_command(struct cmd_ctx *c) {
    struct entry *e = generic_peek(c, c->argv[1], true);
    reply_simple(c->r, e == NULL ? "none" : obj_type_name(entry_value(e)));
}

/* ---- RENAME, RENAMENX ---- */

static void rename_key(struct cmd_ctx *c, bool only_if_absent) {
    struct slice from = c->argv[1], to = c->argv[2];
    struct entry *e = cmd_find_write(c, from);
    if (e == NULL) {
        reply_error(c->r, "ERR no such key");
        return;
    }
    if (slice_eq(from, to)) {
        if (only_if_absent)
            reply_int(c->r, 0);
        else
            reply_ok(c->r);
        return;
    }
    struct entry *old = cmd_find_write(c, to);
    if (old != NULL && only_if_absent) {
        reply_int(c->r, 0);
        return;
    }
    int64_t expire_ms = entry_expire_ms(e);
    bool was_there = old != NULL;
    struct entry *moved = generic_put(c, c->db, to, old, ks_steal(c->ks, c->db, from), false);
    if (expire_ms != KS_NO_EXPIRE) cmd_set_expire(c, c->db, moved, expire_ms);
    if (was_there) cmd_notify(c, 'n', "new", c->db, to); /* another key in its place, not another value */
    cmd_modified(c, c->db, from);
    cmd_modified(c, c->db, to);
    cmd_notify(c, 'g', "rename_from", c->db, from);
    cmd_notify(c, 'g', "rename_to", c->db, to);
    if (only_if_absent)
        reply_int(c->r, 1);
    else
        reply_ok(c->r);
}

void generic_rename_command(struct cmd_ctx *c) {
    rename_key(c, false);
}

void generic_renamenx_command(struct cmd_ctx *c) {
    rename_key(c, true);
}

/* ---- COPY, MOVE ---- */

/* A key of another database, for writing: the shard is that of the name, so the lock held for this database's key covers it. */
static struct entry *find_write_in(struct cmd_ctx *c, int db, struct slice key) {
    return ks_find(c->ks, db, key, c->now_ms, KS_FIND_WRITE);
}

static bool copy_options(struct cmd_ctx *c, int *ret_db, bool *ret_replace) {
    for (int i = 3; i < c->argc; i++) {
        if (slice_ieq(c->argv[i], "replace")) {
            *ret_replace = true;
        } else if (slice_ieq(c->argv[i], "db") && i + 1 < c->argc) {
            if (!generic_db_arg(c, c->argv[++i], ret_db)) return false;
        } else {
            cmd_syntax_error(c);
            return false;
        }
    }
    return true;
}

void generic_copy_command(struct cmd_ctx *c) {
    struct slice from = c->argv[1], to = c->argv[2];
    int to_db = c->db;
    bool replace = false;
    if (!copy_options(c, &to_db, &replace)) return;
    if (to_db == c->db && slice_eq(from, to)) {
        reply_error(c->r, "ERR source and destination objects are the same");
        return;
    }
    struct entry *e = cmd_find_read(c, from);
    if (e == NULL) {
        reply_int(c->r, 0);
        return;
    }
    struct entry *old = find_write_in(c, to_db, to);
    if (old != NULL && !replace) {
        reply_int(c->r, 0);
        return;
    }
    int64_t expire_ms = entry_expire_ms(e);
    bool was_there = old != NULL;
    struct entry *made = generic_put(c, to_db, to, old, obj_dup(entry_value(e)), false);
    if (expire_ms != KS_NO_EXPIRE) cmd_set_expire(c, to_db, made, expire_ms);
    if (was_there) cmd_notify(c, 'n', "new", to_db, to);
    cmd_modified(c, to_db, to);
    cmd_notify(c, 'g', "copy_to", to_db, to);
    reply_int(c->r, 1);
}

void generic_move_command(struct cmd_ctx *c) {
    struct slice key = c->argv[1];
    int to_db;
    if (!generic_db_arg(c, c->argv[2], &to_db)) return;
    if (to_db == c->db) {
        reply_error(c->r, "ERR source and destination objects are the same");
        return;
    }
    struct entry *e = cmd_find_write(c, key);
    if (e == NULL || find_write_in(c, to_db, key) != NULL) {
        reply_int(c->r, 0);
        return;
    }
    int64_t expire_ms = entry_expire_ms(e);
    struct entry *moved = generic_put(c, to_db, key, NULL, ks_steal(c->ks, c->db, key), false);
    if (expire_ms != KS_NO_EXPIRE) cmd_set_expire(c, to_db, moved, expire_ms);
    cmd_modified(c, c->db, key);
    cmd_modified(c, to_db, key);
    cmd_notify(c, 'g', "move_from", c->db, key);
    cmd_notify(c, 'g', "move_to", to_db, key);
    reply_int(c->r, 1);
}
