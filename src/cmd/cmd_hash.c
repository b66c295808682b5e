/*
 * Hashes: setting, reading, counting. Times of single fields are in cmd_hash_expire.c, random picks and HSCAN in cmd_hash_walk.c.
 *
 * Due fields: the look-up of the key takes them away (ks_find), and whatever it left, on a replica or while clients are paused,
 * the functions of data/hash.h do not see, since they are given the command's time.
 */
#include "cmd/cmd_hash.h"

#include <math.h>

#include "cmd/cmd_string.h"

/* ---- shared with the rest of the family ---- */

struct obj *hash_for_write(struct cmd_ctx *c, struct slice key, struct entry **ret_e) {
    bool err;
    struct entry *e = cmd_find_typed(c, key, OBJ_HASH, true, &err);
    if (err) return NULL;
    if (e == NULL) e = generic_put(c, c->db, key, NULL, hash_new(), false);
    if (ret_e != NULL) *ret_e = e;
    return entry_value(e);
}

struct obj *hash_for_read(struct cmd_ctx *c, bool *ret_err) {
    struct entry *e = cmd_find_typed(c, c->argv[1], OBJ_HASH, false, ret_err);
    return e == NULL ? NULL : entry_value(e);
}

bool hash_put_arg(struct cmd_ctx *c, struct obj *o, struct slice field, struct slice value, unsigned flags) {
    if (value.len < HASH_LARGE_MIN) return hash_set(o, field, value, c->now_ms, flags);
    return hash_set_large(o, field, string_new_value(c, value), c->now_ms, flags);
}

void hash_reply_value(struct cmd_ctx *c, const struct hash_pair *p) {
    if (p->large != NULL)
        reply_bulk_ref(c->r, p->value.ptr, p->value.len, obj_unref_cb, obj_ref(p->large));
    else
        reply_bulk_slice(c->r, p->value);
}

bool hash_drop_if_empty(struct cmd_ctx *c, struct slice key, const struct obj *o) {
    if (hash_len(o) != 0) return false;
    ks_delete(c->ks, c->db, key, false);
    cmd_notify(c, 'g', "del", c->db, key);
    return true;
}

/* ---- HSET, HMSET, HSETNX ---- */

static bool is_hmset(const struct cmd_ctx *c) {
    return c->cmd->spec->name[1] == 'm';
}

void hash_set_command(struct cmd_ctx *c) {
    if (c->argc % 2 != 0) {
        reply_errorf(c->r, "ERR wrong number of arguments for '%s' command", c->cmd->full_name);
        return;
    }
    struct obj *o = hash_for_write(c, c->argv[1], NULL);
    if (o == NULL) return;
    int64_t n_new = 0;
    hash_expect(o, (size_t)(c->argc - 2) / 2, c->argv + 2);
    for (int i = 2; i < c->argc; i += 2) n_new += hash_put_arg(c, o, c->argv[i], c->argv[i + 1], 0);
    cmd_modified(c, c->db, c->argv[1]);
    cmd_notify(c, 'h', "hset", c->db, c->argv[1]);
    if (c->argc > 4) cmd_dirty(c, (uint64_t)(c->argc - 4) / 2);
    if (is_hmset(c))
        reply_ok(c->r);
    else
        reply_int(c->r, n_new);
}

void hash_setnx_command(struct cmd_ctx *c) {
    struct hash_pair pair;
    bool err;
    struct entry *e = cmd_find_typed(c, c->argv[1], OBJ_HASH, true, &err);
    if (err) return;
    if (e != NULL && hash_get(entry_value(e), c->argv[2], c->now_ms, &pair)) {
        reply_int(c->r, 0);
        return;
    }
    struct obj *o = hash_for_write(c, c->argv[1], NULL);
    hash_put_arg(c, o, c->argv[2], c->argv[3], 0);
    cmd_modified(c, c->db, c->argv[1]);
    cmd_notify(c, 'h', "hset", c->db, c->argv[1]);
    reply_int(c->r, 1);
}

/* ---- HGET, HMGET, HSTRLEN, HEXISTS, HLEN ---- */

static void reply_field(struct cmd_ctx *c, const struct obj *o, struct slice field) {
    struct hash_pair pair;
    if (o != NULL && hash_get(o, field, c->now_ms, &pair))
        hash_reply_value(c, &pair);
    else
        reply_null(c->r);
}

void hash_get_command(struct cmd_ctx *c) {
    bool err;
    const struct obj *o = hash_for_read(c, &err);
    if (!err) reply_field(c, o, c->argv[2]);
}

void hash_mget_command(struct cmd_ctx *c) {
    bool err;
    const struct obj *o = hash_for_read(c, &err);
    if (err) return;
    reply_array(c->r, (size_t)c->argc - 2);
    for (int i = 2; i < c->argc; i++) reply_field(c, o, c->argv[i]);
}

void hash_strlen_command(struct cmd_ctx *c) {
    struct hash_pair pair;
    bool err;
    const struct obj *o = hash_for_read(c, &err);
    if (err) return;
    reply_int(c->r, o != NULL && hash_get(o, c->argv[2], c->now_ms, &pair) ? (int64_t)pair.value.len : 0);
}

void hash_exists_command(struct cmd_ctx *c) {
    struct hash_pair pair;
    bool err;
    const struct obj *o = hash_for_read(c, &err);
    if (!err) reply_int(c->r, o != NULL && hash_get(o, c->argv[2], c->now_ms, &pair));
}

void hash_len_command(struct cmd_ctx *c) {
    bool err;
    const struct obj *o = hash_for_read(c, &err);
    if (!err) reply_int(c->r, o == NULL ? 0 : (int64_t)hash_len_live(o, c->now_ms));
}

/* ---- HGETALL, HKEYS, HVALS ---- */

static bool reply_pair(void *arg, const struct hash_pair *p) {
    struct cmd_ctx *c = arg;
    reply_bulk_slice(c->r, p->field);
    hash_reply_value(c, p);
    return true;
}

static bool reply_name(void *arg, const struct hash_pair *p) {
    struct cmd_ctx *c = arg;
    reply_bulk_slice(c->r, p->field);
    return true;
}

static bool reply_only_value(void *arg, const struct hash_pair *p) {
    hash_reply_value(arg, p);
    return true;
}

static void reply_all(struct cmd_ctx *c, bool is_map, bool (*each)(void *arg, const struct hash_pair *p)) {
    bool err;
    const struct obj *o = hash_for_read(c, &err);
    if (err) return;
    size_t n = o == NULL ? 0 : hash_len_live(o, c->now_ms);
    if (is_map)
        reply_map(c->r, n);
    else
        reply_array(c->r, n);
    if (n) hash_each(o, c->now_ms, each, c);
}

void hash_getall_command(struct cmd_ctx *c) {
    reply_all(c, true, reply_pair);
}

void hash_keys_command(struct cmd_ctx *c) {
    reply_all(c, false, reply_name);
}

void hash_vals_command(struct cmd_ctx *c) {
    reply_all(c, false, reply_only_value);
}

/* ---- HDEL ---- */

void hash_del_command(struct cmd_ctx *c) {
    struct slice key = c->argv[1];
    int64_t n = 0;
    bool err;
    struct entry *e = cmd_find_typed(c, key, OBJ_HASH, true, &err);
    if (err) return;
    struct obj *o = e == NULL ? NULL : entry_value(e);
    for (int i = 2; o != NULL && i < c->argc && hash_len(o) != 0; i++) n += hash_delete(o, c->argv[i], c->now_ms);
    if (n > 0) {
        cmd_modified(c, c->db, key);
        cmd_dirty(c, (uint64_t)n - 1);
        cmd_notify(c, 'h', "hdel", c->db, key);
        hash_drop_if_empty(c, key, o);
    }
    reply_int(c->r, n);
}

/* ---- HINCRBY, HINCRBYFLOAT ---- */

/* The value to add to, as text; *ret_found false: absent. False: an error was replied. */
static bool number_field(struct cmd_ctx *c, struct hash_pair *ret, bool *ret_found) {
    bool err;
    struct entry *e = cmd_find_typed(c, c->argv[1], OBJ_HASH, true, &err);
    *ret_found = !err && e != NULL && hash_get(entry_value(e), c->argv[2], c->now_ms, ret);
    return !err;
}

static void store_number(struct cmd_ctx *c, struct slice text, const char *event) {
    struct obj *o = hash_for_write(c, c->argv[1], NULL);
    hash_set(o, c->argv[2], text, c->now_ms, HASH_KEEP_TIME);
    cmd_modified(c, c->db, c->argv[1]);
    cmd_notify(c, 'h', event, c->db, c->argv[1]);
}

void hash_incrby_command(struct cmd_ctx *c) {
    struct hash_pair pair;
    int64_t by, v = 0;
    bool found;
    if (!cmd_arg_ll(c, c->argv[3], &by, NULL) || !number_field(c, &pair, &found)) return;
    if (found && !str_to_ll(pair.value, &v)) {
        reply_error(c->r, "ERR hash value is not an integer");
        return;
    }
    if (__builtin_add_overflow(v, by, &v)) {
        reply_error(c->r, "ERR increment or decrement would overflow");
        return;
    }
    char text[STR_LL_MAX];
    store_number(c, (struct slice){ text, str_from_ll(text, v) }, "hincrby");
    reply_int(c->r, v);
}

/* The sum, not the addend: replicas must not depend on each other's floating point. HSETEX where the field has a time to keep. */
static void propagate_sum(struct cmd_ctx *c, struct slice text, bool is_timed) {
    struct slice set[] = { SLICE_LIT("HSET"), c->argv[1], c->argv[2], text };
    struct slice setex[] = { SLICE_LIT("HSETEX"), c->argv[1], SLICE_LIT("KEEPTTL"), SLICE_LIT("FIELDS"), SLICE_LIT("1"),
                             c->argv[2],          text };
    if (is_timed)
        cmd_propagate(c, 7, setex);
    else
        cmd_propagate(c, 4, set);
}

void hash_incrbyfloat_command(struct cmd_ctx *c) {
    struct hash_pair pair;
    long double by, v = 0;
    bool found;
    if (!str_to_long_double(c->argv[3], &by)) {
        reply_error(c->r, "ERR value is not a valid float");
        return;
    }
    if (isnan(by) || isinf(by)) {
        reply_error(c->r, "ERR value is NaN or Infinity");
        return;
    }
    if (!number_field(c, &pair, &found)) return;
    if (found && !str_to_long_double(pair.value, &v)) {
        reply_error(c->r, "ERR hash value is not a float");
        return;
    }
    v += by;
    if (isnan(v) || isinf(v)) {
        reply_error(c->r, "ERR increment would produce NaN or Infinity");
        return;
    }
    char buf[STR_DOUBLE_MAX];
    struct slice text = { buf, str_from_long_double_human(buf, sizeof(buf), v) };
    bool is_timed = found && pair.when_ms != HASH_NO_TIME;
    propagate_sum(c, text, is_timed);
    store_number(c, text, "hincrbyfloat");
    reply_bulk_slice(c->r, text);
}
