/*
 * Several strings at once: MGET, MSET, MSETNX. The dispatcher holds the shards of all the keys, so each command is atomic.
 */
#include "cmd/cmd_string.h"

void string_mget_command(struct cmd_ctx *c) {
    reply_array(c->r, (size_t)c->argc - 1);
    for (int i = 1; i < c->argc; i++) {
        struct entry *e = cmd_find_read(c, c->argv[i]);
        if (e == NULL || entry_value(e)->type != OBJ_STRING)
            reply_null(c->r);
        else
            string_reply_value(c, entry_value(e));
    }
}

static bool mset_pairs_ok(struct cmd_ctx *c) {
    if (c->argc % 2 == 1) return true;
    reply_errorf(c->r, "ERR wrong number of arguments for '%s' command", c->cmd->full_name);
    return false;
}

static void mset_store(struct cmd_ctx *c) {
    for (int i = 1; i < c->argc; i += 2) {
        struct slice key = c->argv[i], val = c->argv[i + 1];
        string_put(c, key, cmd_find_write(c, key), val, false);
        cmd_modified(c, c->db, key);
        cmd_notify(c, '$', "set", c->db, key);
    }
}

void string_mset_command(struct cmd_ctx *c) {
    if (!mset_pairs_ok(c)) return;
    mset_store(c);
    reply_ok(c->r);
}

void string_msetnx_command(struct cmd_ctx *c) {
    if (!mset_pairs_ok(c)) return;
    for (int i = 1; i < c->argc; i += 2) {
        if (cmd_find_write(c, c->argv[i]) != NULL) {
            reply_int(c->r, 0);
            return;
        }
    }
    mset_store(c);
    reply_int(c->r, 1);
}
