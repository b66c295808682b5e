/* Users as text: what ACL LIST, GETUSER and files show. Reads snapshots only; any thread. */
#include "base/str.h"
#include "cmd/acl_priv.h"

static void put_keys(const struct acl_selector *s, struct buf *out) {
    if (s->all_keys) {
        buf_append_cstr(out, "~*");
        return;
    }
    size_t begin = out->len;
    for (const struct acl_item *it = NULL; (it = acl_set_next(&s->keys, it));) {
        static const char *const prefix[] = { "", "%R~", "%W~", "~" };
        if (out->len > begin) buf_append_char(out, ' ');
        buf_append_cstr(out, prefix[it->tag & 3]);
        buf_append(out, it->text, it->len);
    }
}

static void put_channels(const struct acl_selector *s, struct buf *out) {
    if (s->all_channels) {
        buf_append_cstr(out, "&*");
        return;
    }
    size_t begin = out->len;
    for (const struct acl_item *it = NULL; (it = acl_set_next(&s->channels, it));) {
        if (out->len > begin) buf_append_char(out, ' ');
        buf_append_char(out, '&');
        buf_append(out, it->text, it->len);
    }
}

static void put_commands(const struct acl_selector *s, struct buf *out) {
    buf_append_cstr(out, s->from_all ? "+@all" : "-@all");
    for (const struct acl_item *it = NULL; (it = acl_set_next(&s->rules, it));) {
        buf_append_cstr(out, it->tag ? " +" : " -");
        buf_append(out, it->text, it->len);
    }
}

void acl_selector_describe(const struct acl_selector *s, struct buf *out) {
    size_t begin = out->len;
    put_keys(s, out);
    if (out->len > begin) buf_append_char(out, ' ');
    if (!s->all_channels) buf_append_cstr(out, "resetchannels ");
    begin = out->len;
    put_channels(s, out);
    if (out->len > begin) buf_append_char(out, ' ');
    put_commands(s, out);
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
    acl_selector_describe(&u->sel[0], out);
    for (int i = 1; i < u->n_sel; i++) {
        buf_append_cstr(out, " (");
        acl_selector_describe(&u->sel[i], out);
        buf_append_char(out, ')');
    }
}

int acl_user_n_selectors(const struct acl_user *u) {
    return u->n_sel;
}

void acl_selector_commands(const struct acl_user *u, int i, struct buf *out) {
    put_commands(&u->sel[i], out);
}

void acl_selector_keys(const struct acl_user *u, int i, struct buf *out) {
    put_keys(&u->sel[i], out);
}

void acl_selector_channels(const struct acl_user *u, int i, struct buf *out) {
    put_channels(&u->sel[i], out);
}
