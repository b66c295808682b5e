/*
 * The rules of users: one at a time, as text that an administrator, a configuration file or an ACL file gives, to a change of a
 * user's rules. Grammar and effects as documented for ACL SETUSER in Redis 7.2. Whoever makes the user; any thread.
 *
 * Of the rules about commands two forms are kept. Bits by command id are what checks look at. The rules as written, less those
 * that a later one covers, are what ACL LIST shows: which commands a category has may change with the next version, and a user's
 * rules must come back from a file with the meaning they were given.
 */
#include <ctype.h>
#include <errno.h>
#include <string.h>

#include "base/alloc.h"
#include "base/str.h"
#include "cmd/acl_priv.h"

static const struct slice no_text = { "", 0 };

static struct slice behind(struct slice s, size_t n) {
    return (struct slice){ s.ptr + n, s.len - n };
}

static bool has_blank(struct slice s) {
    for (size_t i = 0; i < s.len; i++)
        if (isspace((unsigned char)s.ptr[i]) || s.ptr[i] == 0) return true;
    return false;
}

bool acl_name_is_valid(struct slice name) {
    return !has_blank(name);
}

const char *acl_rule_error(int err) {
    switch (err) {
    case -ENOENT:
        return "Unknown command or category name in ACL";
    case -EINVAL:
        return "Syntax error";
    case -EEXIST:
        return "Adding a pattern after the * pattern (or the 'allkeys' flag) is not valid and does not have any effect. Try "
               "'resetkeys' to start with an empty list of patterns";
    case -EISDIR:
        return "Adding a pattern after the * pattern (or the 'allchannels' flag) is not valid and does not have any effect. Try "
               "'resetchannels' to start with an empty list of channels";
    case -ENODEV:
        return "The password you are trying to remove from the user does not exist";
    case -EBADMSG:
        return "The password hash must be exactly 64 characters and contain only lowercase hexadecimal characters";
    case -EALREADY:
        return "Duplicate user found. A user can only be defined once in config files";
    case -ECHILD:
        return "Allowing first-arg of a subcommand is not supported";
    default:
        return "Wrong format";
    }
}

/* ---- commands ---- */

static void set_bit(struct acl_selector *s, int id, bool allow) {
    uint64_t bit = 1ULL << (id & 63);
    if (allow) {
        s->bits[id >> 6] |= bit;
    } else {
        s->bits[id >> 6] &= ~bit;
        s->all_commands = false;
    }
}

static void allow_command(struct acl_selector *s, const struct cmd *c, bool allow) {
    set_bit(s, c->id, allow);
    acl_set_remove_group(&s->first_args, c->id);
    for (int i = 0; i < c->n_subs; i++) set_bit(s, c->subs[i]->id, allow);
}

struct category {
    struct acl_selector *sel;
    unsigned bit;
    bool allow;
};

static void allow_of_category(struct cmd *c, void *arg) {
    const struct category *cat = arg;
    if (c->cats & cat->bit) allow_command(cat->sel, c, cat->allow);
    for (int i = 0; i < c->n_subs; i++) allow_of_category(c->subs[i], arg);
}

/* Keeps a rule as written, in lower case, and drops those it makes void: the same one, and for a whole command those about its
 * subcommands. */
static void keep_rule(struct acl_selector *s, struct slice name, bool allow, int group, bool whole) {
    char *lower = mem_memdup0(name.ptr, name.len);
    str_to_lower(lower, name.len);
    name.ptr = lower;
    struct acl_item *old = acl_set_find(&s->rules, name, group);
    if (old) acl_set_remove(&s->rules, old);
    if (whole) acl_set_remove_group(&s->rules, group);
    acl_set_add(&s->rules, name, allow, group);
    mem_free(lower);
}

static int apply_category(struct acl_selector *s, const struct acl_env *env, struct slice name, bool allow) {
    unsigned bit = cmd_cat_find(behind(name, 1));
    if (!bit) return -ENOENT;
    struct category cat = { s, bit, allow };
    if (env->table) cmd_each_original(env->table, allow_of_category, &cat);
    keep_rule(s, name, allow, -1, false);
    return 0;
}

/* "select|0": a command with a first argument that is no subcommand. */
static int allow_first_arg(struct acl_selector *s, const struct cmd *c, struct slice name, struct slice arg) {
    if (has_blank(arg)) return -EINVAL; /* it could not be written to a file */
    char *lower = mem_memdup0(arg.ptr, arg.len);
    str_to_lower(lower, arg.len);
    struct slice key = { lower, arg.len };
    if (!acl_set_find(&s->first_args, key, c->id)) acl_set_add(&s->first_args, key, 1, c->id);
    mem_free(lower);
    keep_rule(s, name, true, c->id, false);
    return 0;
}

static int allow_by_bar(struct acl_selector *s, const struct acl_env *env, struct slice name, const char *bar) {
    struct slice head = { name.ptr, (size_t)(bar - name.ptr) }, tail = behind(name, head.len + 1);
    const struct cmd *c = env->table ? cmd_lookup_original(env->table, head) : NULL;
    if (!c) return -ENOENT;
    if (c->parent) return -ECHILD;
    if (tail.len == 0) return -EINVAL;
    if (!c->n_subs) return allow_first_arg(s, c, name, tail);
    const struct cmd *sub = cmd_lookup_original(env->table, name);
    if (!sub) return -ENOENT;
    allow_command(s, sub, true);
    keep_rule(s, name, true, c->id, false);
    return 0;
}

static int apply_command(struct acl_selector *s, const struct acl_env *env, struct slice name, bool allow) {
    const char *bar = allow ? memrchr(name.ptr, '|', name.len) : NULL;
    if (bar) return allow_by_bar(s, env, name, bar);
    const struct cmd *c = env->table ? cmd_lookup_original(env->table, name) : NULL;
    if (!c) return -ENOENT;
    allow_command(s, c, allow);
    keep_rule(s, slice_cstr(c->full_name), allow, c->parent ? c->parent->id : c->id, !c->parent);
    return 0;
}

static void allow_all_commands(struct acl_selector *s, int n_words, bool allow) {
    memset(s->bits, allow ? 0xff : 0, sizeof(*s->bits) * (size_t)n_words);
    s->all_commands = s->from_all = allow;
    acl_set_clear(&s->rules);
    acl_set_clear(&s->first_args);
}

/* ---- keys and channels ---- */

/* "~pattern" or "%RW~pattern". */
static int apply_key(struct acl_selector *s, struct slice rule) {
    unsigned perm = 0;
    size_t at = 1;
    if (s->all_keys) return -EEXIST;
    if (rule.ptr[0] == '~') {
        perm = ACL_READ | ACL_WRITE;
    } else {
        for (; at < rule.len && rule.ptr[at] != '~'; at++) {
            unsigned p = toupper((unsigned char)rule.ptr[at]) == 'R' ? ACL_READ : ACL_WRITE;
            if (!strchr("rRwW", rule.ptr[at]) || !rule.ptr[at] || (perm & p)) return -EINVAL;
            perm |= p;
        }
        if (!perm || at == rule.len) return -EINVAL;
        at++;
    }
    struct slice pattern = behind(rule, at);
    if (has_blank(pattern)) return -EINVAL;
    struct acl_item *it = acl_set_find(&s->keys, pattern, -1);
    if (it) {
        it->tag |= perm;
    } else {
        acl_set_add(&s->keys, pattern, perm, -1);
    }
    return 0;
}

static int apply_channel(struct acl_selector *s, struct slice rule) {
    struct slice pattern = behind(rule, 1);
    if (s->all_channels) return -EISDIR;
    if (has_blank(pattern)) return -EINVAL;
    if (!acl_set_find(&s->channels, pattern, -1)) acl_set_add(&s->channels, pattern, 0, -1);
    return 0;
}

static void all_keys(struct acl_selector *s, bool on) {
    s->all_keys = on;
    acl_set_clear(&s->keys);
}

static void all_channels(struct acl_selector *s, bool on) {
    s->all_channels = on;
    acl_set_clear(&s->channels);
}

/* ---- one rule ---- */

static bool is_one_of(struct slice rule, const char *a, const char *b) {
    return slice_ieq(rule, a) || slice_ieq(rule, b);
}

static int selector_apply(struct acl_selector *s, const struct acl_env *env, int n_words, struct slice rule) {
    if (is_one_of(rule, "allkeys", "~*")) {
        all_keys(s, true);
    } else if (slice_ieq(rule, "resetkeys")) {
        all_keys(s, false);
    } else if (is_one_of(rule, "allchannels", "&*")) {
        all_channels(s, true);
    } else if (slice_ieq(rule, "resetchannels")) {
        all_channels(s, false);
    } else if (is_one_of(rule, "allcommands", "+@all")) {
        allow_all_commands(s, n_words, true);
    } else if (is_one_of(rule, "nocommands", "-@all")) {
        allow_all_commands(s, n_words, false);
    } else if (rule.len == 0) {
        return 0;
    } else if (rule.ptr[0] == '~' || rule.ptr[0] == '%') {
        return apply_key(s, rule);
    } else if (rule.ptr[0] == '&') {
        return apply_channel(s, rule);
    } else if (rule.ptr[0] == '+' || rule.ptr[0] == '-') {
        bool allow = rule.ptr[0] == '+';
        struct slice name = behind(rule, 1);
        return name.len && name.ptr[0] == '@' ? apply_category(s, env, name, allow) : apply_command(s, env, name, allow);
    } else {
        return -EINVAL;
    }
    return 0;
}

/* "(rule rule ...)". Words are split as on a line of the configuration; with quotes that are not balanced there are none. */
static int add_selector(struct acl_user *u, const struct acl_env *env, struct slice rule) {
    struct acl_selector fresh;
    int argc = 0, r = 0;
    struct buf *argv = str_split_args((struct slice){ rule.ptr + 1, rule.len - 2 }, &argc);
    acl_selector_init(&fresh, u->n_words, env->all_channels);
    for (int i = 0; i < argc && r == 0; i++)
        r = selector_apply(&fresh, env, u->n_words, argv[i].len ? buf_slice(&argv[i]) : no_text);
    str_split_free(argv, argc);
    if (r == 0) {
        *acl_user_add_selector(u) = fresh;
    } else {
        acl_selector_done(&fresh);
    }
    return r;
}

static void clear_selectors(struct acl_user *u) {
    while (u->n_sel > 1) acl_selector_done(&u->sel[--u->n_sel]);
}

static void reset(struct acl_user *u, const struct acl_env *env) {
    acl_set_clear(&u->passwords);
    clear_selectors(u);
    acl_selector_done(&u->sel[0]);
    acl_selector_init(&u->sel[0], u->n_words, env->all_channels);
    u->on = u->nopass = u->skip_sanitize = false;
}

static int apply_password(struct acl_user *u, struct slice rule) {
    unsigned char digest[ACL_DIGEST_LEN];
    bool hashed = rule.ptr[0] == '#' || rule.ptr[0] == '!', add = rule.ptr[0] == '#' || rule.ptr[0] == '>';
    struct slice text = behind(rule, 1), key = { (const char *)digest, sizeof digest };
    int r = 0;
    if (!hashed) {
        acl_digest(text, digest);
    } else if (!acl_digest_from_hex(text, digest)) {
        return -EBADMSG;
    }
    struct acl_item *it = acl_set_find(&u->passwords, key, -1);
    if (add) {
        if (!it) acl_set_add(&u->passwords, key, 0, -1);
        u->nopass = false;
    } else if (it) {
        acl_set_remove(&u->passwords, it);
    } else {
        r = -ENODEV;
    }
    mem_wipe(digest, sizeof digest);
    return r;
}

int acl_user_apply(struct acl_user *u, const struct acl_env *env, struct slice rule) {
    if (slice_ieq(rule, "on") || slice_ieq(rule, "off")) {
        u->on = rule.len == 2;
    } else if (slice_ieq(rule, "nopass") || slice_ieq(rule, "resetpass")) {
        u->nopass = slice_ieq(rule, "nopass");
        acl_set_clear(&u->passwords);
    } else if (slice_ieq(rule, "sanitize-payload") || slice_ieq(rule, "skip-sanitize-payload")) {
        u->skip_sanitize = slice_ieq(rule, "skip-sanitize-payload");
    } else if (slice_ieq(rule, "clearselectors")) {
        clear_selectors(u);
    } else if (slice_ieq(rule, "reset")) {
        reset(u, env);
    } else if (rule.len && strchr("<>#!", rule.ptr[0]) && rule.ptr[0]) {
        return apply_password(u, rule);
    } else if (rule.len > 1 && rule.ptr[0] == '(' && rule.ptr[rule.len - 1] == ')') {
        return add_selector(u, env, rule);
    } else {
        return selector_apply(&u->sel[0], env, u->n_words, rule);
    }
    return 0;
}

/* ---- arguments ---- */

struct buf *acl_rules_merge(int argc, const struct slice *argv, int *ret_n, int *ret_bad) {
    struct buf *rules = mem_calloc((size_t)argc + 1, sizeof *rules);
    int n = 0, open = -1;
    for (int i = 0; i < argc; i++) {
        struct slice a = argv[i];
        bool closes = a.len && a.ptr[a.len - 1] == ')';
        if (open >= 0) buf_append_char(&rules[n], ' ');
        buf_reserve(&rules[n], a.len + 1);
        if (a.len) buf_append(&rules[n], a.ptr, a.len);
        if (open < 0 && a.len && a.ptr[0] == '(' && !closes) open = i;
        if (open >= 0 && !closes) continue;
        open = -1;
        n++;
    }
    if (open < 0) {
        *ret_n = n;
        return rules;
    }
    if (ret_bad) *ret_bad = open;
    acl_rules_free(rules, n + 1);
    *ret_n = 0;
    return NULL;
}

void acl_rules_free(struct buf *rules, int n) {
    if (!rules) return;
    for (int i = 0; i < n; i++) {
        if (rules[i].data) mem_wipe(rules[i].data, rules[i].cap);
        buf_done(&rules[i]);
    }
    mem_free(rules);
}
