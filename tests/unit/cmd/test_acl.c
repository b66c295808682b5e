/* Access control: rules and their errors, what users look like, checks, live sessions, transactions, files, several threads. */
#include <errno.h>
#include <pthread.h>

#include "cmd/acl.h"
#include "cmd/acl_set.h"
#include "test_cmd_harness.h"

static struct harness *make(void **state) {
    struct harness *h = *state;
    if (!h->eng.acl) acl_init(&h->eng);
    return h;
}

static int teardown(void **state) {
    struct harness *h = *state;
    acl_logout(&h->s);
    acl_done(&h->eng);
    return harness_teardown(state);
}

/* Rules separated by commas. Returns the first error. */
static int set_user(struct harness *h, const char *name, const char *rules) {
    struct acl_env env = acl_env(h->eng.acl);
    const struct acl_user *old = acl_get(h->eng.acl, slice_cstr(name));
    struct acl_user *u = old ? acl_user_dup(old) : acl_user_new(&env);
    int r = 0;
    acl_user_unref(old);
    for (const char *p = rules; *p && r == 0;) {
        size_t n = strcspn(p, ",");
        r = acl_user_apply(u, &env, (struct slice){ p, n });
        p += n + (p[n] == ',');
    }
    if (r == 0) {
        acl_put(h->eng.acl, slice_cstr(name), u);
    } else {
        acl_user_unref(u);
    }
    return r;
}

static void assert_shown(struct harness *h, const char *name, const char *want) {
    struct buf text = { 0 };
    const struct acl_user *u = acl_get(h->eng.acl, slice_cstr(name));
    assert_non_null(u);
    acl_user_describe(u, &text);
    assert_string_equal(buf_cstr(&text), want);
    buf_done(&text);
    acl_user_unref(u);
}

static void test_acl_rules_shown(void **state) {
    static const struct {
        const char *rules, *shown;
    } cases[] = {
        { "", "off sanitize-payload resetchannels -@all" },
        { "on,nopass,allkeys,allchannels,allcommands", "on nopass sanitize-payload ~* &* +@all" },
        { "+get,+@string,-get,+object|encoding,+OBJECT|Freq",
          "off sanitize-payload resetchannels -@all +@string -get +object|encoding +object|freq" },
        { "+object|encoding,+set,+object,-set", "off sanitize-payload resetchannels -@all +object -set" },
        { "+@all,-@dangerous,+keys", "off sanitize-payload resetchannels +@all -@dangerous +keys" },
        { "+get|A,+get|b,+get|a", "off sanitize-payload resetchannels -@all +get|b +get|a" },
        { "+get|a,+get", "off sanitize-payload resetchannels -@all +get" },
        { "%R~a,%W~a,%W~b,~c,&x,&y,&x", "off sanitize-payload ~a %W~b ~c resetchannels &x &y -@all" },
        { "~a,~*", "off sanitize-payload ~* resetchannels -@all" },
        { "skip-sanitize-payload,(+get ~x),()", "off skip-sanitize-payload resetchannels -@all (~x resetchannels -@all +get) "
                                                "(resetchannels -@all)" },
        { "(~a),clearselectors,on,nopass,reset", "off sanitize-payload resetchannels -@all" },
        { "(\"~a\\\"b\" ~c) +set)", "off sanitize-payload resetchannels -@all (\"~a\\\"b\" \"~c)\" resetchannels -@all +set)" },
        { ">p,<p,>q,>q", "off sanitize-payload #8e35c2cd3bf6641bdb0e2050b76932cbb2e6034a0ddacc1d9bea82a6ba57f7cf resetchannels "
                         "-@all" },
        { ">q,nopass", "off nopass sanitize-payload resetchannels -@all" },
    };
    struct harness *h = make(state);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(set_user(h, "u", cases[i].rules), 0);
        assert_shown(h, "u", cases[i].shown);
        assert_true(acl_remove(h->eng.acl, SLICE_LIT("u")));
    }
}

static void test_acl_rule_errors(void **state) {
    static const struct {
        const char *rules;
        int err;
    } cases[] = {
        { "foo", -EINVAL },
        { "+nosuch", -ENOENT },
        { "-nosuch", -ENOENT },
        { "+@nosuch", -ENOENT },
        { "+object|nosuch", -ENOENT },
        { "-get|x", -ENOENT },
        { "+object|", -EINVAL },
        { "+object|freq|x", -ECHILD },
        { "+nosuch|x", -ENOENT },
        { "~*,~a", -EEXIST },
        { "~*,%R~a", -EEXIST },
        { "&*,&a", -EISDIR },
        { "%X~a", -EINVAL },
        { "%~a", -EINVAL },
        { "%R", -EINVAL },
        { "%RR~a", -EINVAL },
        { "~a b", -EINVAL },
        { "&a\tb", -EINVAL },
        { "<none", -ENODEV },
        { "#abc", -EBADMSG },
        { "!zz", -EBADMSG },
        { "(foo)", -EINVAL },
        { "(on)", -EINVAL },
        { "(+nosuch)", -ENOENT },
        { "(~* ~a)", -EEXIST },
        { "(", -EINVAL },
        { ")", -EINVAL },
        { "+get|a b", -EINVAL },
    };
    struct harness *h = make(state);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int r = set_user(h, "u", cases[i].rules);
        if (r != cases[i].err) print_error("%s\n", cases[i].rules);
        assert_int_equal(r, cases[i].err);
        assert_string_not_equal(acl_rule_error(r), "Wrong format");
        assert_null(acl_get(h->eng.acl, SLICE_LIT("u")));
    }
}

static void test_acl_rules_merge(void **state) {
    const struct slice argv[] = { SLICE_LIT("on"),  SLICE_LIT("(+get"), SLICE_LIT("~x"),
                                  SLICE_LIT("&y)"), SLICE_LIT("(~a)"),  SLICE_LIT("(b") };
    int n, bad = -1;
    (void)state;
    struct buf *rules = acl_rules_merge(5, argv, &n, &bad);
    assert_int_equal(n, 3);
    assert_string_equal(buf_cstr(&rules[1]), "(+get ~x &y)");
    assert_string_equal(buf_cstr(&rules[2]), "(~a)");
    acl_rules_free(rules, n);
    assert_null(acl_rules_merge(6, argv, &n, &bad));
    assert_int_equal(bad, 5);
}

static void assert_verdict(struct harness *h, const char *line, enum acl_verdict want, int want_pos) {
    int argc, pos = -1;
    struct buf *args = str_split_args(slice_cstr(line), &argc);
    struct slice argv[16];
    for (int i = 0; i < argc; i++) argv[i] = buf_slice(&args[i]);
    const struct acl_user *u = acl_get(h->eng.acl, SLICE_LIT("u"));
    const struct cmd *cmd = cmd_lookup_argv(h->table, argc, argv);
    assert_non_null(cmd);
    enum acl_verdict v = acl_user_check(u, cmd, argc, argv, &pos);
    if (v != want) print_error("%s\n", line);
    assert_int_equal(v, want);
    assert_int_equal(pos, want_pos);
    acl_user_unref(u);
    str_split_free(args, argc);
}

static void test_acl_checks(void **state) {
    struct harness *h = make(state);
    set_user(h, "u", "+@string,-append,%R~r*,%W~w*,~b");
    assert_verdict(h, "get r1", ACL_OK, 0);
    assert_verdict(h, "get w1", ACL_DENIED_KEY, 1);
    assert_verdict(h, "set w1 v", ACL_OK, 0);
    assert_verdict(h, "set w1 v get", ACL_DENIED_KEY, 1); /* that reads */
    assert_verdict(h, "mget r1 b w2", ACL_DENIED_KEY, 3);
    assert_verdict(h, "append b x", ACL_DENIED_CMD, 0);
    assert_verdict(h, "del b", ACL_DENIED_CMD, 0);
    set_user(h, "u", "(+append ~x),(+del +append ~y)");
    assert_verdict(h, "append x 1", ACL_OK, 0);
    assert_verdict(h, "del x", ACL_DENIED_KEY, 1); /* the nearest refusal counts */
    assert_verdict(h, "append z 1", ACL_DENIED_KEY, 1);
    set_user(h, "u", "reset,~*,+object|encoding,+getrange|k");
    assert_verdict(h, "object encoding x", ACL_OK, 0);
    assert_verdict(h, "object freq x", ACL_DENIED_CMD, 0);
    assert_verdict(h, "getrange K 0 1", ACL_OK, 0);
    assert_verdict(h, "getrange l 0 1", ACL_DENIED_CMD, 0);
    set_user(h, "u", "-@read");
    assert_verdict(h, "getrange K 0 1", ACL_DENIED_CMD, 0);
}

static void test_acl_channels(void **state) {
    struct harness *h = make(state);
    set_user(h, "u", "&news:*,(&p*q)");
    const struct acl_user *u = acl_get(h->eng.acl, SLICE_LIT("u"));
    assert_true(acl_user_allows_channel(u, SLICE_LIT("news:1"), false));
    assert_false(acl_user_allows_channel(u, SLICE_LIT("new"), false));
    assert_true(acl_user_allows_channel(u, SLICE_LIT("news:*"), true));
    assert_false(acl_user_allows_channel(u, SLICE_LIT("news:1"), true));
    assert_true(acl_user_allows_channel(u, SLICE_LIT("pxq"), false));
    acl_user_unref(u);
}

static bool reads_all(struct harness *h, const char *rules) {
    const struct slice argv[] = { SLICE_LIT("get"), SLICE_LIT("k") };
    set_user(h, "u", "reset");
    set_user(h, "u", rules);
    const struct acl_user *u = acl_get(h->eng.acl, SLICE_LIT("u"));
    bool may = acl_user_reads_every_key(u, cmd_lookup(h->table, argv[0]), 2, argv);
    acl_user_unref(u);
    return may;
}

static void test_acl_reads_every_key(void **state) {
    struct harness *h = make(state);
    assert_true(reads_all(h, "+get,~*"));
    assert_true(reads_all(h, "+get,%R~*"));
    assert_false(reads_all(h, "+get,%W~*,~k"));
    assert_false(reads_all(h, "+get,~k"));
    assert_false(reads_all(h, "~*"));
    assert_true(reads_all(h, "(+get ~*)"));
}

static void test_acl_sessions_follow_changes(void **state) {
    struct harness *h = make(state);
    const struct slice wrong = SLICE_LIT("x"), right = SLICE_LIT("secret");
    set_user(h, "bob", "on,>secret,+@all,-@dangerous,~b*");
    assert_string_equal(harness_run(h, "set a 1"), "+OK\r\n");
    assert_false(acl_login(&h->eng, &h->s, SLICE_LIT("bob"), &wrong));
    assert_false(acl_login(&h->eng, &h->s, SLICE_LIT("eve"), &right));
    assert_string_equal(acl_session_user(&h->s), "default");
    assert_true(acl_login(&h->eng, &h->s, SLICE_LIT("bob"), &right));
    assert_string_equal(acl_session_user(&h->s), "bob");
    assert_string_equal(harness_run(h, "get a"), "-NOPERM No permissions to access a key\r\n");
    assert_string_equal(harness_run(h, "keys *"), "-NOPERM User bob has no permissions to run the 'keys' command\r\n");
    assert_int_equal(acl_n_denied(h->eng.acl, ACL_DENIED_KEY), 1);
    assert_int_equal(acl_n_denied(h->eng.acl, ACL_DENIED_CMD), 1);
    set_user(h, "bob", "allkeys");
    assert_string_equal(harness_run(h, "get a"), "$1\r\n1\r\n");
    set_user(h, "bob", "off");
    assert_string_equal(harness_run(h, "get a"), "$1\r\n1\r\n"); /* off is for logging in */
    assert_false(acl_login(&h->eng, &h->s, SLICE_LIT("bob"), &right));
    assert_true(acl_remove(h->eng.acl, SLICE_LIT("bob")));
    assert_string_equal(harness_run(h, "get a"), "");
    assert_true(h->s.close_after_reply);
    set_user(h, "bob", "on,nopass,+@all,~*,&*"); /* another bob */
    assert_true(acl_session_is_gone(&h->eng, &h->s));
    acl_logout(&h->s);
    assert_string_equal(harness_run(h, "get a"), "$1\r\n1\r\n");
}

static void test_acl_default_user_decides_about_auth(void **state) {
    struct harness *h = make(state);
    assert_false(atomic_load(&h->eng.auth_required));
    set_user(h, "default", ">p");
    assert_true(atomic_load(&h->eng.auth_required));
    set_user(h, "default", "nopass");
    assert_false(atomic_load(&h->eng.auth_required));
    set_user(h, "default", "off");
    assert_true(atomic_load(&h->eng.auth_required));
    assert_string_equal(harness_run(h, "get a"), "-NOAUTH Authentication required.\r\n");
}

static void test_acl_transaction(void **state) {
    static const char changed[] =
        "*2\r\n+OK\r\n-NOPERM ACLs rules changed between the moment the transaction was accumulated and "
        "the EXEC call. This command is no longer allowed for the following reason: no permission to "
        "touch the specified keys\r\n";
    struct harness *h = make(state);
    set_user(h, "bob", "on,nopass,+@all,~a,~b");
    assert_true(acl_login(&h->eng, &h->s, SLICE_LIT("bob"), NULL));
    harness_run(h, "multi");
    assert_string_equal(harness_run(h, "set c 1"), "-NOPERM No permissions to access a key\r\n");
    assert_string_equal(harness_run(h, "exec"), "-EXECABORT Transaction discarded because of previous errors.\r\n");
    harness_run(h, "multi");
    assert_string_equal(harness_run(h, "set a 1"), "+QUEUED\r\n");
    assert_string_equal(harness_run(h, "set b 1"), "+QUEUED\r\n");
    set_user(h, "bob", "resetkeys,~a");
    assert_string_equal(harness_run(h, "exec"), changed);
    harness_run(h, "multi");
    set_user(h, "bob", "-exec");
    assert_string_equal(harness_run(h, "exec"), "-EXECABORT Transaction discarded because of: NOPERM User bob has no permissions "
                                                "to run the 'exec' command\r\n");
}

static void test_acl_file(void **state) {
    static const char good[] = "user bob on >x ~a (+get ~b)\n\nuser alice  on  nopass +@all\n";
    static const char bad[] = "user x on\nuse y\nuser x off\nuser z +nosuch foo bar\nuser w (+get\n";
    struct harness *h = make(state);
    struct buf err = { 0 }, text = { 0 };
    set_user(h, "eve", "on,nopass");
    assert_true(acl_login(&h->eng, &h->s, SLICE_LIT("eve"), NULL));
    assert_true(acl_load_text(h->eng.acl, "f", slice_cstr(good), &err));
    assert_true(acl_session_is_gone(&h->eng, &h->s));
    acl_save_text(h->eng.acl, &text, false);
    assert_string_equal(buf_cstr(&text),
                        "user alice on nopass sanitize-payload resetchannels +@all\n"
                        "user bob on sanitize-payload #2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881 ~a "
                        "resetchannels -@all (~b resetchannels -@all +get)\n"
                        "user default on nopass sanitize-payload ~* &* +@all\n");
    assert_false(acl_load_text(h->eng.acl, "f", slice_cstr(bad), &err));
    assert_string_equal(buf_cstr(&err),
                        "f:2 should start with user keyword followed by the username. WARNING: Duplicate user 'x' found on line "
                        "3. f:4: Error in applying operation '+nosuch': Unknown command or category name in ACL. f:4: Syntax "
                        "error. f:5: Unmatched parenthesis in selector definition.WARNING: ACL errors detected, no change to the "
                        "previously active ACL rules was performed");
    assert_null(acl_get(h->eng.acl, SLICE_LIT("x")));
    buf_clear(&text);
    set_user(h, "bob", "reset,~a'b");
    acl_save_text(h->eng.acl, &text, true);
    assert_non_null(strstr(buf_cstr(&text), "\nuser bob off sanitize-payload \"~a'b\" resetchannels -@all\n"));
    buf_done(&err);
    buf_done(&text);
}

static void test_acl_names_after_rename(void **state) {
    struct harness *h = make(state);
    assert_int_equal(cmd_table_rename(h->table, "get", "fetch"), 0);
    set_user(h, "bob", "on,nopass,+get,~*");
    assert_true(acl_login(&h->eng, &h->s, SLICE_LIT("bob"), NULL));
    assert_string_equal(harness_run(h, "fetch a"), "$-1\r\n");
    assert_int_equal(set_user(h, "bob", "+fetch"), -ENOENT);
}

/* Many rules, added and taken away in every order that could cost more than it should. */
static void test_acl_set_many(void **state) {
    struct acl_set s = { 0 }, copy = { 0 };
    char text[32];
    (void)state;
    hash_seed_init();
    for (int i = 0; i < 200000; i++) {
        int n = snprintf(text, sizeof text, "%d", i);
        acl_set_add(&s, (struct slice){ text, (size_t)n }, (unsigned)i, i % 100);
        if (i % 2) acl_set_remove(&s, acl_set_find(&s, (struct slice){ text, (size_t)n }, i % 100));
        if (i % 1000 == 999) acl_set_remove_group(&s, i / 1000 % 100);
    }
    int live = 0, last = -1;
    for (const struct acl_item *it = NULL; (it = acl_set_next(&s, it)); live++) {
        assert_true((int)it->tag > last);
        last = (int)it->tag;
    }
    assert_int_equal(live, s.live);
    acl_set_copy(&copy, &s);
    acl_set_finish(&copy);
    assert_int_equal(copy.n, s.live);
    assert_non_null(acl_set_find(&copy, SLICE_LIT("199998"), 98));
    assert_null(acl_set_find(&copy, SLICE_LIT("199998"), 97));
    assert_null(acl_set_find(&copy, SLICE_LIT("199999"), 99));
    acl_set_remove_group(&copy, 98);
    assert_null(acl_set_find(&copy, SLICE_LIT("199998"), 98));
    acl_set_clear(&s);
    acl_set_clear(&copy);
}

/* Sessions on several threads, while their user changes between two states: each command sees one of them. */
struct worker {
    struct harness *h;
    pthread_t t;
    int allowed, denied;
};

static _Atomic bool go_on;

static void *work(void *arg) {
    struct worker *w = arg;
    const struct slice argv[] = { SLICE_LIT("get"), SLICE_LIT("k") };
    struct session s;
    struct obuf out = { 0 };
    session_init(&s, &out, 7);
    assert_true(acl_login(&w->h->eng, &s, SLICE_LIT("bob"), NULL));
    do { /* once at least, however late the thread gets a turn */
        int pos;
        enum acl_verdict v = acl_check(&w->h->eng, &s, cmd_lookup(w->h->table, argv[0]), 2, argv, &pos);
        if (v == ACL_OK) {
            w->allowed++;
        } else {
            w->denied++;
            assert_int_equal(v, ACL_DENIED_KEY);
        }
    } while (atomic_load(&go_on));
    session_done(&s, w->h->ks);
    return NULL;
}

static void test_acl_threads(void **state) {
    struct harness *h = make(state);
    struct worker w[3] = { { .h = h }, { .h = h }, { .h = h } };
    set_user(h, "bob", "on,nopass,+get,~k");
    atomic_store(&go_on, true);
    for (int i = 0; i < 3; i++) pthread_create(&w[i].t, NULL, work, &w[i]);
    for (int i = 0; i < 3000; i++) {
        set_user(h, "bob", i % 2 ? "resetkeys,~k" : "resetkeys,~other");
        set_user(h, "eve", "on");
        acl_remove(h->eng.acl, SLICE_LIT("eve"));
    }
    set_user(h, "bob", "resetkeys,~k");
    atomic_store(&go_on, false);
    for (int i = 0; i < 3; i++) pthread_join(w[i].t, NULL);
    assert_true(w[0].allowed + w[0].denied + w[1].allowed + w[1].denied > 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, harness_setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_acl_rules_shown),
        TEST(test_acl_rule_errors),
        cmocka_unit_test(test_acl_rules_merge),
        TEST(test_acl_checks),
        TEST(test_acl_channels),
        TEST(test_acl_reads_every_key),
        TEST(test_acl_sessions_follow_changes),
        TEST(test_acl_default_user_decides_about_auth),
        TEST(test_acl_transaction),
        TEST(test_acl_file),
        TEST(test_acl_names_after_rename),
        cmocka_unit_test(test_acl_set_many),
        TEST(test_acl_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
