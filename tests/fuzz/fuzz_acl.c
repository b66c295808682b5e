/* Fuzzes the rules of users, as ACL SETUSER and files give them: lines of a text, one rule each, to one user. What a user is
 * shown as makes the same user when it is read again; a text that is loaded as a file comes out as it was saved; checks of any
 * command line end. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/hash.h"
#include "cmd/acl.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct engine eng; /* the table is made once: it does not change */

static void check(bool ok) {
    if (!ok) abort();
}

static void start(void) {
    struct ks_opts opts = { .n_dbs = 1, .n_shards = 1 };
    if (eng.table) return;
    hash_seed_init();
    struct cmd_table *t = cmd_table_new();
    cmd_table_register_data(t);
    engine_init(&eng, ks_new(&opts), t);
    acl_init(&eng);
}

static int split(struct slice text, char at, struct slice *out, int cap) {
    int n = 0;
    for (size_t from = 0; from <= text.len && n < cap; n++) {
        const char *end = from < text.len ? memchr(text.ptr + from, at, text.len - from) : NULL;
        size_t len = end ? (size_t)(end - text.ptr) - from : text.len - from;
        out[n] = (struct slice){ text.ptr + from, len };
        from += len + 1;
    }
    return n;
}

#define MAX_WORDS 512

static const struct acl_user *user_of(const char *name, int n, const struct slice *words) {
    struct acl_env env = acl_env(eng.acl);
    struct acl_user *u = acl_user_new(&env);
    int n_rules;
    struct buf *rules = acl_rules_merge(n, words, &n_rules, NULL);
    for (int i = 0; i < n_rules; i++) check(acl_rule_error(acl_user_apply(u, &env, buf_slice(&rules[i]))) != NULL);
    acl_rules_free(rules, n_rules);
    acl_put(eng.acl, slice_cstr(name), u);
    return acl_get(eng.acl, slice_cstr(name));
}

static void check_lines(const struct acl_user *u, int n, const struct slice *words) {
    int pos;
    for (int i = 0; i + 4 < n; i += 5) {
        const struct cmd *cmd = cmd_lookup_argv(eng.table, 5, words + i);
        if (!cmd || !cmd_arity_ok(cmd, 5)) continue;
        acl_user_check(u, cmd, 5, words + i, &pos);
        check(pos >= 0 && pos < 5);
    }
}

static void check_rules(struct slice text) {
    static struct slice words[MAX_WORDS];
    struct buf first = { 0 }, second = { 0 };
    int n = split(text, '\n', words, MAX_WORDS);
    const struct acl_user *u = user_of("one", n, words);
    check_lines(u, n, words);
    acl_user_describe(u, &first);
    acl_user_unref(u);
    struct slice *again = mem_calloc(first.len + 1, sizeof *again);
    n = split(buf_slice(&first), ' ', again, (int)first.len + 1);
    u = user_of("two", n, again);
    acl_user_describe(u, &second);
    acl_user_unref(u);
    check(slice_eq(buf_slice(&first), buf_slice(&second)));
    mem_free(again);
    buf_done(&first);
    buf_done(&second);
}

static void check_file(struct slice text) {
    struct buf err = { 0 }, saved = { 0 }, again = { 0 };
    acl_load_text(eng.acl, "file", text, &err);
    acl_save_text(eng.acl, &saved, false);
    buf_clear(&err);
    check(acl_load_text(eng.acl, "file", buf_slice(&saved), &err));
    acl_save_text(eng.acl, &again, false);
    check(slice_eq(buf_slice(&saved), buf_slice(&again)));
    check(acl_load_text(eng.acl, "file", (struct slice){ "", 0 }, &err));
    buf_done(&err);
    buf_done(&saved);
    buf_done(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    start();
    if (size == 0 || size > 16384) return 0;
    struct slice text = { (const char *)data + 1, size - 1 };
    if (data[0] & 1) {
        check_rules(text);
    } else {
        check_file(text);
    }
    return 0;
}
