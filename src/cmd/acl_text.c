/* Users as text: what ACL LIST, GETUSER and files show. Reads snapshots only; any thread. */
#include <string.h>

#include "base/str.h"
#include "cmd/acl_priv.h"

/* Inside a selector's parentheses a word is quoted that would be read as something else: one with quotes or a parenthesis. */
static void put_rule(struct buf *out, const char *prefix, const struct acl_item *it, bool in_selector) {
    static const char special[] = "\"')";
    bool plain = true;
    for (size_t i = 0; in_selector && i < it->len; i++) plain &= !strchr(special, it->text[i]);
    if (plain) {
        buf_append_cstr(out, prefix);
        buf_append(out, it->text, it->len);
        return;
    }
    struct buf word = { 0 };
    buf_append_cstr(&word, prefix);
    buf_append(&word, it->text, it->len);
    str_quote(out, buf_slice(&word));
    buf_done(&word);
}

static void put_keys(const struct acl_selector *s, struct buf *out, bool in_selector) {
    if (s->all_keys) {
        buf_append_cstr(out, "~*");
        return;
    }
    size_t begin = out->len;
    for (const struct acl_item *it = NULL; (it = acl_set_next(&s->keys, it));) {
        static const char *const prefix[] = { "", "%R~", "%W~", "~" };
        if (out->len > begin) buf_append_char(out, ' ');
        put_rule(out, prefix[it->tag & 3], it, in_selector);
    }
}

static void put_channels(const struct acl_selector *s, struct buf *out, bool in_selector) {
    if (s->all_channels) {
        buf_append_cstr(out, "&*");
        return;
    }
    size_t begin = out->len;
    for (const struct acl_item *it = NULL; (it = acl_set_next(&s->channels, it));) {
        if (out->len > begin) buf_append_char(out, ' ');
        put_rule(out, "&", it, in_selector);
    }
}

static void put_commands(const struct acl_selector *s, struct buf *out, bool in_selector) {
    buf_append_cstr(out, s->from_all ? "+@all" : "-@all");
    for (const struct acl_item *it = NULL; (it = acl_set_next(&s->rules, it));) {
        buf_append_char(out, ' ');
        put_rule(out, it->tag ? "+" : "-", it, in_selector);
    }
}

static void put_selector(const struct acl_selector *s, struct buf *out, bool in_selector) {
    size_t begin = out->len;
    put_keys(s, out, in_selector);
    if (out->len > begin) buf_append_char(out, ' ');
    if (!s->all_channels) buf_append_cstr(out, "resetchannels ");
    begin = out->len;
    put_channels(s, out, in_selector);
    if (out->len > begin) buf_append_char(out, ' ');
    put_commands(s, out, in_selector);
}

void acl_user_each_flag(const struct acl_user *u, void (*fn)(void *arg, const char *flag), void *arg) {
    fn(arg, u->on ? "on" : "off");
    if (u->nopass) fn(arg, "nopass");
    fn(arg, u->skip_sanitize ? "skip-sanitize-payload" : "sanitize-payload");
}

static void put_flag(void *arg, const char *flag) {
    buf_append_cstr(arg, flag);
    buf_append_char(arg, ' ');
}

void acl_user_describe(const struct acl_user *u, struct buf *out) {
    char hex[2 * ACL_DIGEST_LEN + 1];
    acl_user_each_flag(u, put_flag, out);
    for (int i = 0; i < acl_user_n_passwords(u); i++) {
        acl_user_password_hex(u, i, hex);
        buf_append_char(out, '#');
        buf_append(out, hex, 2 * ACL_DIGEST_LEN);
        buf_append_char(out, ' ');
    }
    put_selector(&u->sel[0], out, false);
    for (int i = 1; i < u->n_sel; i++) {
        buf_append_cstr(out, " (");
        put_selector(&u->sel[i], out, true);
        buf_append_char(out, ')');
    }
}

int acl_user_n_selectors(const struct acl_user *u) {
    return u->n_sel;
}

void acl_selector_commands(const struct acl_user *u, int i, struct buf *out) {
    put_commands(&u->sel[i], out, false);
}

void acl_selector_keys(const struct acl_user *u, int i, struct buf *out) {
    put_keys(&u->sel[i], out, false);
}

void acl_selector_channels(const struct acl_user *u, int i, struct buf *out) {
    put_channels(&u->sel[i], out, false);
}
