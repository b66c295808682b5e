/*
 * The check of a command line against a user's rules. Place in the flow: the dispatcher, for every command of a session whose
 * user may not simply do everything; EXEC and scripts again for each of theirs. The session's thread; rules are snapshots, no
 * lock is taken but to fetch them anew after a change.
 *
 * Selectors stand side by side: one of them must allow all of a command line. Of those that do not, the one that came nearest
 * says what the error is.
 */
#include <string.h>

#include "base/alloc.h"
#include "base/str.h"
#include "cmd/acl_priv.h"

#define LOCAL_KEYS 64

struct line { /* a command line, and its keys once a selector has asked for them */
    const struct cmd *cmd;
    int argc;
    const struct slice *argv;
    int n_keys; /* -1: not known yet */
    int *pos, local_pos[LOCAL_KEYS];
    unsigned *flags, local_flags[LOCAL_KEYS];
};

static void find_keys(struct line *l) {
    l->pos = l->local_pos;
    l->flags = l->local_flags;
    int n = cmd_keys(l->cmd, l->argc, l->argv, l->pos, l->flags, LOCAL_KEYS);
    if (n > LOCAL_KEYS) {
        l->pos = mem_calloc((size_t)n, sizeof *l->pos);
        l->flags = mem_calloc((size_t)n, sizeof *l->flags);
        n = cmd_keys(l->cmd, l->argc, l->argv, l->pos, l->flags, n);
    }
    l->n_keys = n > 0 ? n : 0; /* a malformed line is the command's to refuse */
}

static void line_done(struct line *l) {
    if (l->n_keys <= LOCAL_KEYS) return;
    mem_free(l->pos);
    mem_free(l->flags);
}

static bool allows_command(const struct acl_selector *s, const struct line *l) {
    int id = l->cmd->id;
    if (s->all_commands || (l->cmd->flags & CMD_NO_AUTH) || (s->bits[id >> 6] >> (id & 63) & 1)) return true;
    if (l->argc < 2) return false;
    for (const struct acl_item *it = NULL; (it = acl_set_next(&s->first_args, it));)
        if (it->group == id && slice_ieq(l->argv[1], it->text)) return true;
    return false;
}

static bool allows_key(const struct acl_selector *s, struct slice key, unsigned key_flags) {
    unsigned need = 0;
    if (key_flags & KEY_ACCESS) need |= ACL_READ;
    if (key_flags & (KEY_INSERT | KEY_DELETE | KEY_UPDATE)) need |= ACL_WRITE;
    for (const struct acl_item *it = NULL; (it = acl_set_next(&s->keys, it));)
        if ((it->tag & need) == need && str_glob(acl_item_text(it), key, false)) return true;
    return false;
}

static bool allows_channel(const struct acl_selector *s, struct slice channel, bool is_pattern) {
    if (s->all_channels) return true;
    for (const struct acl_item *it = NULL; (it = acl_set_next(&s->channels, it));)
        if (is_pattern ? slice_eq(acl_item_text(it), channel) : str_glob(acl_item_text(it), channel, false)) return true;
    return false;
}

static enum acl_verdict check_channels(const struct acl_selector *s, const struct line *l, int *ret_pos) {
    enum cmd_channels kind = l->cmd->spec->channels;
    int last = kind == CMD_CHANNELS_PUBLISH ? 1 : l->argc - 1;
    if (kind == CMD_CHANNELS_NONE || s->all_channels) return ACL_OK;
    for (int i = 1; i <= last && i < l->argc; i++) {
        if (allows_channel(s, l->argv[i], kind == CMD_CHANNELS_PSUBSCRIBE)) continue;
        *ret_pos = i;
        return ACL_DENIED_CHANNEL;
    }
    return ACL_OK;
}

static enum acl_verdict selector_check(const struct acl_selector *s, struct line *l, int *ret_pos) {
    if (!allows_command(s, l)) return ACL_DENIED_CMD;
    bool has_keys = l->cmd->spec->keys[0].flags || l->cmd->spec->get_keys;
    if (!s->all_keys && has_keys) {
        if (l->n_keys < 0) find_keys(l);
        for (int i = 0; i < l->n_keys; i++) {
            if (allows_key(s, l->argv[l->pos[i]], l->flags[i])) continue;
            *ret_pos = l->pos[i];
            return ACL_DENIED_KEY;
        }
    }
    return check_channels(s, l, ret_pos);
}

enum acl_verdict acl_user_check(const struct acl_user *u, const struct cmd *cmd, int argc, const struct slice *argv,
                                int *ret_pos) {
    struct line l = { .cmd = cmd, .argc = argc, .argv = argv, .n_keys = -1 };
    enum acl_verdict worst = ACL_DENIED_CMD;
    int worst_pos = 0;
    for (int i = 0; i < u->n_sel; i++) {
        int pos = 0;
        enum acl_verdict v = selector_check(&u->sel[i], &l, &pos);
        if (v == ACL_OK) {
            worst = ACL_OK;
            break;
        }
        if (v > worst || (v == worst && pos > worst_pos)) {
            worst = v;
            worst_pos = pos;
        }
    }
    line_done(&l);
    *ret_pos = worst_pos;
    return worst;
}

bool acl_user_allows_channel(const struct acl_user *u, struct slice channel, bool is_pattern) {
    for (int i = 0; i < u->n_sel; i++)
        if (allows_channel(&u->sel[i], channel, is_pattern)) return true;
    return false;
}

static bool reads_every_key(const struct acl_selector *s) {
    const struct acl_item *it = s->all_keys ? NULL : acl_set_find(&s->keys, SLICE_LIT("*"), -1);
    return s->all_keys || (it && (it->tag & ACL_READ));
}

bool acl_user_reads_every_key(const struct acl_user *u, const struct cmd *cmd, int argc, const struct slice *argv) {
    struct line l = { .cmd = cmd, .argc = argc, .argv = argv, .n_keys = -1 };
    bool may = false;
    int pos;
    for (int i = 0; i < u->n_sel && !may; i++)
        may = reads_every_key(&u->sel[i]) && selector_check(&u->sel[i], &l, &pos) == ACL_OK;
    line_done(&l);
    return may;
}

char *acl_denied_text(enum acl_verdict v, const char *user, const struct cmd *cmd, struct slice object, bool verbose) {
    const char *what = v == ACL_DENIED_KEY ? "key" : "channel";
    if (v == ACL_DENIED_CMD || v == ACL_GONE)
        return mem_asprintf("User %s has no permissions to run the '%s' command", user, cmd->full_name);
    if (!verbose) return mem_asprintf("No permissions to access a %s", what);
    struct buf text = { 0 };
    buf_printf(&text, "User %s has no permissions to access the '", user);
    buf_append(&text, object.ptr, object.len);
    buf_printf(&text, "' %s", what);
    return buf_steal(&text, NULL);
}
