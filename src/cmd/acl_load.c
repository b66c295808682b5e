/*
 * Users as the text of a file: one on a line, "user NAME rule rule ...". All or nothing: a text with a mistake changes nothing,
 * and what is wrong is said for every line. Whoever reads the file; change_lock is taken here.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/str.h"
#include "cmd/acl_priv.h"

struct load {
    struct acl_env env;
    const char *path;
    int line;
    struct acl_set names; /* of users met, tag: index of the entry */
    struct acl_entry *list;
    int n, cap;
    struct buf *err;
};

static struct slice trimmed(struct slice s) {
    while (s.len && strchr(" \t\r\n", s.ptr[0]) && s.ptr[0]) s = (struct slice){ s.ptr + 1, s.len - 1 };
    while (s.len && strchr(" \t\r\n", s.ptr[s.len - 1]) && s.ptr[s.len - 1]) s.len--;
    return s;
}

/* Words between single blanks; several in a row give empty words, which are passed over. Quotes mean nothing here. */
static struct slice *words_of(struct slice line, int *ret_n) {
    struct slice *words = NULL;
    int n = 0, cap = 0;
    for (size_t at = 0; at < line.len;) {
        const char *blank = memchr(line.ptr + at, ' ', line.len - at);
        size_t len = blank ? (size_t)(blank - line.ptr) - at : line.len - at;
        if (n == cap) words = mem_realloc(words, sizeof(*words) * (size_t)(cap = cap ? cap * 2 : 16));
        words[n] = trimmed((struct slice){ line.ptr + at, len });
        n += words[n].len > 0;
        at += len + 1;
    }
    *ret_n = n;
    return words;
}

/* For a command nobody knows each is named; of all other mistakes on a line the first is, and what it is about is kept out of the
 * log: it may be a password. */
static void apply_rules(struct load *l, struct acl_user *u, int n, const struct slice *words) {
    bool said = false;
    int n_rules;
    struct buf *rules = acl_rules_merge(n, words, &n_rules, NULL);
    if (!rules) {
        buf_printf(l->err, "%s:%d: Unmatched parenthesis in selector definition.", l->path, l->line);
        return;
    }
    for (int i = 0; i < n_rules; i++) {
        int r = acl_user_apply(u, &l->env, buf_slice(&rules[i]));
        if (r == -ENOENT) {
            buf_printf(l->err, "%s:%d: Error in applying operation '%s': %s. ", l->path, l->line, buf_cstr(&rules[i]),
                       acl_rule_error(r));
        } else if (r && !said) {
            buf_printf(l->err, "%s:%d: %s. ", l->path, l->line, acl_rule_error(r));
            said = true;
        }
    }
    acl_rules_free(rules, n_rules);
}

static void load_user(struct load *l, int n, const struct slice *words) {
    if (n < 2 || !slice_eq(words[0], SLICE_LIT("user"))) {
        buf_printf(l->err, "%s:%d should start with user keyword followed by the username. ", l->path, l->line);
        return;
    }
    if (!acl_name_is_valid(words[1])) {
        buf_printf(l->err, "'%s:%d: username '%.*s' contains invalid characters. ", l->path, l->line, (int)words[1].len,
                   words[1].ptr);
        return;
    }
    if (acl_set_find(&l->names, words[1], -1)) {
        buf_printf(l->err, "WARNING: Duplicate user '%.*s' found on line %d. ", (int)words[1].len, words[1].ptr, l->line);
        return;
    }
    acl_set_add(&l->names, words[1], (unsigned)l->n, -1);
    if (l->n == l->cap) l->list = mem_realloc(l->list, sizeof(*l->list) * (size_t)(l->cap = l->cap ? l->cap * 2 : 16));
    struct acl_user *u = acl_user_new(&l->env);
    l->list[l->n++] = (struct acl_entry){ acl_account_new(words[1]), u };
    apply_rules(l, u, n - 2, words + 2);
    acl_user_finish(u);
}

static int by_name(const void *a, const void *b) {
    const struct acl_account *x = ((const struct acl_entry *)a)->account, *y = ((const struct acl_entry *)b)->account;
    return acl_name_cmp(x, (struct slice){ y->name, y->name_len });
}

static void add_default(struct load *l) {
    if (acl_set_find(&l->names, SLICE_LIT(ACL_DEFAULT_USER), -1)) return;
    struct acl_user *u = acl_user_new_root(&l->env);
    acl_user_finish(u);
    l->list = mem_realloc(l->list, sizeof(*l->list) * (size_t)(l->n + 1));
    l->list[l->n++] = (struct acl_entry){ acl_account_new(SLICE_LIT(ACL_DEFAULT_USER)), u };
}

bool acl_load_text(struct acl *a, const char *path, struct slice text, struct buf *err) {
    struct load l = { .env = acl_env(a), .path = path, .err = err };
    size_t errors = err->len;
    for (size_t at = 0; at < text.len;) {
        const char *nl = memchr(text.ptr + at, '\n', text.len - at);
        size_t len = nl ? (size_t)(nl - text.ptr) - at : text.len - at;
        struct slice line = trimmed((struct slice){ text.ptr + at, len });
        int n = 0;
        l.line++;
        at += len + 1;
        if (line.len == 0) continue;
        struct slice *words = words_of(line, &n);
        if (n) load_user(&l, n, words);
        mem_free(words);
    }
    if (err->len > errors) {
        acl_set_clear(&l.names);
        acl_list_free(l.list, l.n);
        buf_append_cstr(err, "WARNING: ACL errors detected, no change to the previously active ACL rules was performed");
        return false;
    }
    add_default(&l);
    acl_set_clear(&l.names);
    qsort(l.list, (size_t)l.n, sizeof *l.list, by_name);
    acl_change_begin(a);
    acl_replace_all(a, l.list, l.n);
    acl_change_end(a);
    return true;
}

static void put_quoted(struct buf *out, struct slice line) {
    for (size_t at = 0; at < line.len;) {
        const char *blank = memchr(line.ptr + at, ' ', line.len - at);
        struct slice word = { line.ptr + at, blank ? (size_t)(blank - line.ptr) - at : line.len - at };
        if (at) buf_append_char(out, ' ');
        if (memchr(word.ptr, '"', word.len) || memchr(word.ptr, '\'', word.len)) {
            str_quote(out, word);
        } else {
            buf_append(out, word.ptr, word.len);
        }
        at += word.len + 1;
    }
}

void acl_save_text(struct acl *a, struct buf *out, bool quoted) {
    int n;
    struct acl_entry *list = acl_list(a, &n);
    struct buf line = { 0 };
    for (int i = 0; i < n; i++) {
        buf_clear(&line);
        buf_printf(&line, "user %s ", acl_account_name(list[i].account));
        acl_user_describe(list[i].rules, &line);
        if (quoted) {
            put_quoted(out, buf_slice(&line));
        } else {
            buf_append(out, line.data, line.len);
        }
        buf_append_char(out, '\n');
    }
    mem_wipe(line.data, line.cap);
    buf_done(&line);
    acl_list_free(list, n);
}
