/*
 * ACL: users and their rules, as commands. The caller's I/O thread.
 *
 * Those that take permissions away end with dispatch_close_gate: when they have replied, no command is running any more that was
 * let through by the rules before.
 */
#include "server/cmd_acl.h"

#include <errno.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/rand.h"

#define GENPASS_MAX_BITS 4096
#define GENPASS_BITS 256

static struct server *server_of(struct cmd_ctx *c) {
    return c->eng->server;
}

static void reply_text_take(struct reply *r, struct buf *text) {
    reply_bulk(r, text->data ? text->data : "", text->len);
    buf_done(text);
}

static void no_such_user(struct cmd_ctx *c, struct slice name) {
    reply_errorf(c->r, "ERR User '%.*s' not found", (int)name.len, name.ptr);
}

/* ---- changing ---- */

/* The rules on top of those the user has, all of them or none. 1: it is a new user, 0, or the error of rule *ret_bad. */
static int change_user(struct acl *a, struct slice name, const struct buf *rules, int n, int *ret_bad) {
    struct acl_env env = acl_env(a);
    acl_change_begin(a);
    const struct acl_user *old = acl_get(a, name);
    int r = old ? 0 : 1;
    struct acl_user *u = old ? acl_user_dup(old) : acl_user_new(&env);
    acl_user_unref(old);
    for (int i = 0; i < n && r >= 0; i++) {
        int e = acl_user_apply(u, &env, (struct slice){ rules[i].data, rules[i].len });
        if (e < 0) r = e;
        *ret_bad = i;
    }
    if (r >= 0) {
        acl_put(a, name, u);
    } else {
        acl_user_unref(u);
    }
    acl_change_end(a);
    return r;
}

void acl_setuser_command(struct cmd_ctx *c) {
    int n, bad = 0;
    if (!acl_name_is_valid(c->argv[2])) {
        reply_error(c->r, "ERR Usernames can't contain spaces or null characters");
        return;
    }
    struct buf *rules = acl_rules_merge(c->argc - 3, c->argv + 3, &n, &bad);
    if (!rules) {
        struct slice a = c->argv[3 + bad];
        reply_errorf(c->r, "ERR Unmatched parenthesis in acl selector starting at '%.*s'.", (int)a.len, a.ptr);
        return;
    }
    int r = change_user(c->eng->acl, c->argv[2], rules, n, &bad);
    if (r < 0) {
        reply_errorf(c->r, "ERR Error in ACL SETUSER modifier '%.*s': %s", (int)rules[bad].len, rules[bad].data,
                     acl_rule_error(r));
    } else {
        dispatch_close_gate(c);
        if (r == 0) server_users_changed(server_of(c), c->s, false);
        reply_ok(c->r);
    }
    acl_rules_free(rules, n);
}

void acl_deluser_command(struct cmd_ctx *c) {
    struct acl *a = c->eng->acl;
    int64_t deleted = 0;
    for (int i = 2; i < c->argc; i++) {
        if (!slice_eq(c->argv[i], SLICE_LIT(ACL_DEFAULT_USER))) continue;
        reply_error(c->r, "ERR The 'default' user cannot be removed");
        return;
    }
    acl_change_begin(a);
    for (int i = 2; i < c->argc; i++) deleted += acl_remove(a, c->argv[i]);
    acl_change_end(a);
    if (deleted) {
        dispatch_close_gate(c);
        server_users_changed(server_of(c), c->s, true);
    }
    reply_int(c->r, deleted);
}

/* ---- files ---- */

static bool has_file(struct cmd_ctx *c) {
    const char *path = server_of(c)->cfg->aclfile; /* set once, before the threads */
    if (path && *path) return true;
    reply_error(c->r, "ERR This Redis instance is not configured to use an ACL file. You may want to specify users via the ACL "
                      "SETUSER command and then issue a CONFIG REWRITE (assuming you have a Redis configuration file set) in "
                      "order to store users in the Redis configuration.");
    return false;
}

void acl_load_command(struct cmd_ctx *c) {
    struct server *srv = server_of(c);
    struct buf err = { 0 };
    if (!has_file(c)) return;
    pthread_mutex_lock(&srv->config_set_lock);
    bool ok = server_acl_load(srv, &err);
    pthread_mutex_unlock(&srv->config_set_lock);
    if (ok) {
        dispatch_close_gate(c);
        server_users_changed(srv, c->s, true);
        reply_ok(c->r);
    } else {
        reply_errorf(c->r, "ERR %s", buf_cstr(&err));
    }
    buf_done(&err);
}

void acl_save_command(struct cmd_ctx *c) {
    struct server *srv = server_of(c);
    if (!has_file(c)) return;
    pthread_mutex_lock(&srv->config_set_lock);
    int r = server_acl_save(srv);
    pthread_mutex_unlock(&srv->config_set_lock);
    if (r == 0) {
        reply_ok(c->r);
    } else {
        reply_error(c->r, "ERR There was an error trying to save the ACLs. Please check the server logs for more information");
    }
}

/* ---- showing ---- */

void acl_list_command(struct cmd_ctx *c) {
    int n;
    struct acl_entry *list = acl_list(c->eng->acl, &n);
    reply_array(c->r, (size_t)n);
    for (int i = 0; i < n; i++) {
        struct buf text = { 0 };
        buf_printf(&text, "user %s ", acl_account_name(list[i].account));
        acl_user_describe(list[i].rules, &text);
        reply_text_take(c->r, &text);
    }
    acl_list_free(list, n);
}

void acl_users_command(struct cmd_ctx *c) {
    int n;
    struct acl_entry *list = acl_list(c->eng->acl, &n);
    reply_array(c->r, (size_t)n);
    for (int i = 0; i < n; i++) reply_bulk_cstr(c->r, acl_account_name(list[i].account));
    acl_list_free(list, n);
}

void acl_whoami_command(struct cmd_ctx *c) {
    reply_bulk_cstr(c->r, acl_session_user(c->s));
}

static void reply_selector(struct reply *r, const struct acl_user *u, int i) {
    struct buf text = { 0 };
    reply_bulk_cstr(r, "commands");
    acl_selector_commands(u, i, &text);
    reply_text_take(r, &text);
    reply_bulk_cstr(r, "keys");
    acl_selector_keys(u, i, &text);
    reply_text_take(r, &text);
    reply_bulk_cstr(r, "channels");
    acl_selector_channels(u, i, &text);
    reply_text_take(r, &text);
}

static void count_flag(void *arg, const char *flag) {
    (void)flag;
    ++*(size_t *)arg;
}

static void reply_flag(void *arg, const char *flag) {
    reply_bulk_cstr(arg, flag);
}

void acl_getuser_command(struct cmd_ctx *c) {
    const struct acl_user *u = acl_get(c->eng->acl, c->argv[2]);
    char hex[2 * ACL_DIGEST_LEN + 1];
    size_t n_flags = 0;
    if (!u) {
        reply_null(c->r);
        return;
    }
    reply_map(c->r, 6);
    reply_bulk_cstr(c->r, "flags");
    acl_user_each_flag(u, count_flag, &n_flags);
    reply_set(c->r, n_flags);
    acl_user_each_flag(u, reply_flag, c->r);
    reply_bulk_cstr(c->r, "passwords");
    reply_array(c->r, (size_t)acl_user_n_passwords(u));
    for (int i = 0; i < acl_user_n_passwords(u); i++) {
        acl_user_password_hex(u, i, hex);
        reply_bulk_cstr(c->r, hex);
    }
    reply_selector(c->r, u, 0);
    reply_bulk_cstr(c->r, "selectors");
    reply_array(c->r, (size_t)acl_user_n_selectors(u) - 1);
    for (int i = 1; i < acl_user_n_selectors(u); i++) {
        reply_map(c->r, 3);
        reply_selector(c->r, u, i);
    }
    acl_user_unref(u);
}

struct cat_arg {
    struct reply *r;
    unsigned bit;
    size_t n;
};

static void reply_if_in(struct cmd *cmd, void *arg) {
    struct cat_arg *a = arg;
    if (cmd->cats & a->bit) {
        reply_bulk_cstr(a->r, cmd->full_name);
        a->n++;
    }
    for (int i = 0; i < cmd->n_subs; i++) reply_if_in(cmd->subs[i], arg);
}

void acl_cat_command(struct cmd_ctx *c) {
    struct cat_arg a = { .r = c->r };
    if (c->argc > 3) {
        cmd_unknown_sub(c);
        return;
    }
    if (c->argc == 3 && !(a.bit = cmd_cat_find(c->argv[2]))) {
        reply_errorf(c->r, "ERR Unknown category '%.*s'", (int)(c->argv[2].len < 128 ? c->argv[2].len : 128), c->argv[2].ptr);
        return;
    }
    struct reply_deferred d = reply_deferred_begin(c->r);
    if (c->argc == 3) {
        cmd_each_original(c->eng->table, reply_if_in, &a);
    } else {
        for (; cmd_cat_names[a.n].name; a.n++) reply_bulk_cstr(c->r, cmd_cat_names[a.n].name + 1);
    }
    reply_deferred_array(c->r, d, a.n);
}

/* ---- LOG, DRYRUN, GENPASS, HELP ---- */

void acl_log_command(struct cmd_ctx *c) {
    struct server *srv = server_of(c);
    int64_t count = 10;
    if (c->argc > 3) {
        cmd_unknown_sub(c);
        return;
    }
    if (c->argc == 3 && slice_ieq(c->argv[2], "reset")) {
        acl_log_reset(&srv->acl_log);
        reply_ok(c->r);
        return;
    }
    if (c->argc == 3 && !cmd_arg_ll(c, c->argv[2], &count, NULL)) return;
    acl_log_reply(&srv->acl_log, c->r, count < 0 ? 0 : (size_t)count, clock_wall_ms());
}

void acl_dryrun_command(struct cmd_ctx *c) {
    const struct slice *argv = c->argv + 3;
    int argc = c->argc - 3, pos;
    const struct acl_user *u = acl_get(c->eng->acl, c->argv[2]);
    if (!u) {
        no_such_user(c, c->argv[2]);
        return;
    }
    const struct cmd *cmd = cmd_lookup_argv(c->eng->table, argc, argv);
    if (!cmd) {
        reply_errorf(c->r, "ERR Command '%.*s' not found", (int)argv[0].len, argv[0].ptr);
    } else if (!cmd_arity_ok(cmd, argc)) {
        reply_errorf(c->r, "ERR wrong number of arguments for '%s' command", cmd->full_name);
    } else {
        enum acl_verdict v = acl_user_check(u, cmd, argc, argv, &pos);
        char *user = mem_memdup0(c->argv[2].ptr, c->argv[2].len);
        char *why = v == ACL_OK ? NULL : acl_denied_text(v, user, cmd, argv[pos], true);
        if (why) {
            reply_bulk_cstr(c->r, why);
        } else {
            reply_ok(c->r);
        }
        mem_free(user);
        mem_free(why);
    }
    acl_user_unref(u);
}

void acl_genpass_command(struct cmd_ctx *c) {
    static const char digits[] = "0123456789abcdef";
    unsigned char bytes[GENPASS_MAX_BITS / 4];
    char text[GENPASS_MAX_BITS / 4];
    int64_t bits = GENPASS_BITS;
    if (c->argc > 3) {
        cmd_unknown_sub(c);
        return;
    }
    if (c->argc == 3) {
        if (!cmd_arg_ll(c, c->argv[2], &bits, NULL)) return;
        if (bits <= 0 || bits > GENPASS_MAX_BITS) {
            reply_errorf(
                c->r, "ERR ACL GENPASS argument must be the number of bits for the output password, a positive number up to %d",
                GENPASS_MAX_BITS);
            return;
        }
    }
    size_t n = (size_t)(bits + 3) / 4;
    rand_secure(bytes, n);
    for (size_t i = 0; i < n; i++) text[i] = digits[bytes[i] & 15];
    reply_bulk(c->r, text, n);
    mem_wipe(bytes, sizeof bytes);
    mem_wipe(text, sizeof text);
}

void acl_help_command(struct cmd_ctx *c) {
    static const char *const lines[] = {
        "CAT [<category>]",
        "    Command categories, or the commands of one.",
        "DELUSER <username> [<username> ...]",
        "    Delete users and close their connections.",
        "DRYRUN <username> <command> [<arg> ...]",
        "    Whether a user may run a command; it is not run.",
        "GETUSER <username>",
        "    A user's flags, passwords (as digests) and rules.",
        "GENPASS [<bits>]",
        "    A random password, of 256 bits unless told otherwise.",
        "LIST",
        "    Every user with his rules, as in an ACL file.",
        "LOAD",
        "    Read the users from the ACL file.",
        "LOG [<count> | RESET]",
        "    The latest refusals, or forget them.",
        "SAVE",
        "    Write the users to the ACL file.",
        "SETUSER <username> <rule> [<rule> ...]",
        "    Make or change a user.",
        "USERS",
        "    The names of all users.",
        "WHOAMI",
        "    The user of this connection.",
        NULL,
    };
    cmd_help(c, lines);
}
