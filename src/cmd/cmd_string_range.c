/*
 * Strings by parts: APPEND, STRLEN, GETRANGE (and SUBSTR, its old name), SETRANGE.
 *
 * Changes in place go through ks_string_own, which re-encodes ints and embstrs and copies a value that a reply still refers to.
 */
#include "cmd/cmd_string.h"

void string_append_command(struct cmd_ctx *c) {
    struct slice key = c->argv[1], val = c->argv[2];
    bool err;
    size_t len = val.len;
    struct entry *e = cmd_find_typed(c, key, OBJ_STRING, true, &err);
    if (err) return;
    if (e == NULL) {
        string_put(c, key, NULL, val, false);
    } else {
        size_t old_len = obj_string_len(entry_value(e));
        if (!cmd_check_string_len(c, old_len, val.len)) return;
        len = old_len + val.len;
        char *p = ks_string_own(c->ks, c->db, key, &e, len);
        if (val.len > 0) memcpy(p + old_len, val.ptr, val.len);
    }
    cmd_modified(c, c->db, key);
    cmd_notify(c, '$', "append", c->db, key);
    reply_int(c->r, (int64_t)len);
}

void string_strlen_command(struct cmd_ctx *c) {
    bool err;
    struct entry *e = cmd_find_typed(c, c->argv[1], OBJ_STRING, false, &err);
    if (!err) reply_int(c->r, e == NULL ? 0 : (int64_t)obj_string_len(entry_value(e)));
}

void string_getrange_command(struct cmd_ctx *c) {
    int64_t start, end;
    bool err;
    if (!cmd_arg_ll(c, c->argv[2], &start, NULL) || !cmd_arg_ll(c, c->argv[3], &end, NULL)) return;
    struct entry *e = cmd_find_typed(c, c->argv[1], OBJ_STRING, false, &err);
    if (err) return;
    int64_t len = e == NULL ? 0 : (int64_t)obj_string_len(entry_value(e));
    bool is_empty = len == 0 || (start < 0 && end < 0 && start > end);
    /* Counted from the end when negative; what falls before the first byte means the first byte, for the end of the range too. */
    if (start < 0) start = start + len > 0 ? start + len : 0;
    if (end < 0) end = end + len > 0 ? end + len : 0;
    if (end >= len) end = len - 1;
    if (is_empty || start > end)
        reply_bulk(c->r, "", 0);
    else
        string_reply_part(c, entry_value(e), (size_t)start, (size_t)(end - start + 1));
}

void string_setrange_command(struct cmd_ctx *c) {
    struct slice key = c->argv[1], val = c->argv[3];
    int64_t offset;
    bool err;
    if (!cmd_arg_ll(c, c->argv[2], &offset, NULL)) return;
    if (offset < 0) {
        reply_error(c->r, "ERR offset is out of range");
        return;
    }
    struct entry *e = cmd_find_typed(c, key, OBJ_STRING, true, &err);
    if (err) return;
    size_t old_len = e == NULL ? 0 : obj_string_len(entry_value(e));
    if (val.len == 0) {
        reply_int(c->r, (int64_t)old_len);
        return;
    }
    if (!cmd_check_string_len(c, (uint64_t)offset, val.len)) return;
    size_t need = (size_t)offset + val.len, len = need > old_len ? need : old_len;
    if (e == NULL) e = generic_put(c, c->db, key, NULL, obj_string_new_raw(len), false);
    memcpy(ks_string_own(c->ks, c->db, key, &e, len) + offset, val.ptr, val.len);
    cmd_modified(c, c->db, key);
    cmd_notify(c, '$', "setrange", c->db, key);
    reply_int(c->r, (int64_t)len);
}
