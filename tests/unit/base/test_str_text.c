/* Glob patterns, quoting, splitting of lines, lower case, slices. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/rand.h"
#include "base/str.h"

#define COUNT(a) (sizeof(a) / sizeof *(a))

/* ---- slices ---- */

static void test_slice_eq_compares_bytes_and_length(void **state) {
    (void)state;
    assert_true(slice_eq((struct slice){ NULL, 0 }, SLICE_LIT("")));
    assert_true(slice_eq(SLICE_LIT("a\0b"), SLICE_LIT("a\0b")));
    assert_false(slice_eq(SLICE_LIT("a\0b"), SLICE_LIT("a\0c")));
    assert_false(slice_eq(SLICE_LIT("ab"), SLICE_LIT("abc")));
}

static void test_slice_ieq_ignores_ascii_case_only(void **state) {
    (void)state;
    assert_true(slice_ieq(SLICE_LIT("GeT"), "get"));
    assert_true(slice_ieq(SLICE_LIT(""), ""));
    assert_false(slice_ieq(SLICE_LIT("get\0"), "get"));
    assert_false(slice_ieq(SLICE_LIT("ge"), "get"));
    assert_false(slice_ieq(SLICE_LIT("@"), "`"));
    assert_false(slice_ieq(SLICE_LIT("\xc1"), "\xe1"));
}

/* ---- glob ---- */

struct glob_case {
    const char *pattern, *text;
    bool want;
};

static void assert_globs(const struct glob_case *c, size_t n, bool nocase) {
    for (size_t i = 0; i < n; i++)
        if (str_glob(slice_cstr(c[i].pattern), slice_cstr(c[i].text), nocase) != c[i].want)
            fail_msg("'%s' on '%s': not %d", c[i].pattern, c[i].text, c[i].want);
}

static void test_str_glob_stars_and_marks_match_as_told(void **state) {
    (void)state;
    static const struct glob_case cases[] = {
        { "", "", true },
        { "", "a", false },
        { "*", "", false },
        { "*", "anything", true },
        { "***", "", false },
        { "a*", "a", true },
        { "a**", "a", true },
        { "?", "", false },
        { "?", "a", true },
        { "?", "ab", false },
        { "a", "a", true },
        { "a", "b", false },
        { "a", "", false },
        { "a", "ab", false },
        { "h?llo", "hello", true },
        { "h?llo", "hllo", false },
        { "h*llo", "hllo", true },
        { "h*llo", "heeeello", true },
        { "*a", "bba", true },
        { "*a", "bab", false },
        { "a*", "a", true },
        { "a*b*c", "aXbYc", true },
        { "a*b*c", "acb", false },
        { "a**b", "ab", true },
        { "*?*", "", false },
        { "*?*", "x", true },
        { "??*", "x", false },
        { "*ab", "aab", true },
        { "*aab", "aaaab", true },
        { "*a*b*", "xbxa", false },
        { "user:*:name", "user:1:2:name", true },
        { "a*", "b", false },
        { "*.*", "a.b.c", true },
        { "A", "a", false },
        { "\xff*", "\xff\xfe", true },
        { "a?c", "a\nc", true },
    };
    assert_globs(cases, COUNT(cases), false);
}

static void test_str_glob_sets_match_as_told(void **state) {
    (void)state;
    static const struct glob_case cases[] = {
        { "h[ae]llo", "hello", true },
        { "h[ae]llo", "hallo", true },
        { "h[ae]llo", "hillo", false },
        { "h[^e]llo", "hallo", true },
        { "h[^e]llo", "hello", false },
        { "h[a-b]llo", "hallo", true },
        { "h[a-b]llo", "hbllo", true },
        { "h[a-b]llo", "hcllo", false },
        { "[b-a]", "a", true },
        { "[b-a]", "b", true },
        { "[b-a]", "c", false },
        { "[^a-c]", "b", false },
        { "[^a-c]", "d", true },
        { "[0-9a-f]x", "bx", true },
        { "[0-9a-f]x", "gx", false },
        { "[a-]", "-", false },
        { "[]", "", false },
        { "[]", "]", false },
        { "[]a]", "]", false },
        { "[]a]", "a", false },
        { "[^]", "a", true },
        { "[a]", "", false },
        { "[a", "a", true },
        { "[a", "b", false },
        { "[ab", "b", true },
        { "[^a", "b", true },
        { "[^a", "a", false },
        { "[", "[", false },
        { "[", "", false },
        { "[^", "a", true },
        { "[a-", "-", true },
        { "[a-", "a", true },
        { "[a-c", "b", true },
        { "x[", "x", false },
        { "[!a]", "!", true },
        { "[!a]", "b", false },
        { "[*]", "*", true },
        { "[*]", "a", false },
        { "[?]", "?", true },
        { "*[ab]", "xxb", true },
        { "*[ab]c", "aaabc", true },
        { "[\x80-\xff]", "\xc3", true },
        { "[\x80-\xff]", "a", false },
        { "[a-\xff]", "\xc3", false },
        { "[a-\xff]", "A", true },
        { "[a-c]*[x-z]", "bqqqy", true },
        { "[-a]", "-", true },
        { "[a^]", "^", true },
        { "[[]", "[", true },
        { "[[a]", "a", true },
    };
    assert_globs(cases, COUNT(cases), false);
}

static void test_str_glob_escapes_take_the_next_byte_literally(void **state) {
    (void)state;
    static const struct glob_case cases[] = {
        { "\\*", "*", true },     { "\\*", "a", false },   { "\\?", "?", true },     { "\\?", "a", false },
        { "\\[a]", "[a]", true }, { "\\[a]", "a", false }, { "\\\\", "\\", true },   { "\\a", "a", true },
        { "\\", "\\", true },     { "\\", "", false },     { "a\\", "a\\", true },   { "a\\", "a", false },
        { "*\\*", "ab*", true },  { "*\\*", "ab", false }, { "[\\]]", "]", true },   { "[\\^a]", "^", true },
        { "[\\-]", "-", true },   { "[a\\]", "]", true },  { "[\\a]", "\\", false }, { "[\\", "\\", true },
    };
    assert_globs(cases, COUNT(cases), false);
}

static void test_str_glob_nocase_folds_ascii_only(void **state) {
    (void)state;
    static const struct glob_case cases[] = {
        { "HELLO", "hello", true }, { "hello", "HELLO", true }, { "H?L*", "hElP", true }, { "[A-C]", "b", true },
        { "[a-c]", "B", true },     { "[a-c]", "D", false },    { "[^a-c]", "B", false }, { "[XY]", "y", true },
        { "\\A", "a", true },       { "@", "`", false },        { "[", "{", false },      { "\\[", "{", false },
        { "\xc1", "\xe1", false },  { "[^x]", "X", false },     { "1", "1", true },
    };
    assert_globs(cases, COUNT(cases), true);
}

static void test_str_glob_zero_bytes_are_ordinary(void **state) {
    (void)state;
    assert_true(str_glob(SLICE_LIT("a\0*"), SLICE_LIT("a\0bc"), false));
    assert_false(str_glob(SLICE_LIT("a\0b"), SLICE_LIT("a\0c"), false));
    assert_true(str_glob(SLICE_LIT("a?b"), SLICE_LIT("a\0b"), false));
    assert_true(str_glob(SLICE_LIT("[\0]"), SLICE_LIT("\0"), false));
    assert_true(str_glob((struct slice){ NULL, 0 }, (struct slice){ NULL, 0 }, false));
}

/* The definition, word for word; exponential, so for short inputs only. */
static bool glob_by_definition(const char *p, const char *s) {
    if (!*p) return !*s;
    if (*p == '*') return glob_by_definition(p + 1, s) || (*s && glob_by_definition(p, s + 1));
    return *s && (*p == '?' || *p == *s) && glob_by_definition(p + 1, s + 1);
}

/* The n-th of all words over these letters: "", a, b, ..., aa, ... */
static void spell(char *out, const char *letters, unsigned base, unsigned n) {
    for (; n; n = (n - 1) / base) *out++ = letters[(n - 1) % base];
    *out = 0;
}

static void test_str_glob_all_short_patterns_equal_definition(void **state) {
    (void)state;
    char p[16], s[16];
    for (unsigned i = 0; i < 1 + 4 + 16 + 64 + 256 + 1024; i++) {
        spell(p, "ab*?", 4, i);
        for (unsigned j = 0; j < (1 << 7) - 1; j++) {
            spell(s, "ab", 2, j);
            bool got = str_glob(slice_cstr(p), slice_cstr(s), false);
            bool want = *s ? glob_by_definition(p, s) : !*p; /* redis-server: only the empty pattern matches the empty string */
            if (got != want) fail_msg("'%s' on '%s': %d", p, s, got);
        }
    }
}

static void test_str_glob_hostile_patterns_finish_fast(void **state) {
    (void)state;
    static const char *const pieces[] = { "a*", "*a", "?*", "*?", "[a]*", "*a?", "**a", "a*[^b]" };
    enum { TEXT = 20000 };
    char *text = mem_alloc(TEXT);
    memset(text, 'a', TEXT);
    int64_t start = clock_mono_us();
    for (size_t i = 0; i < COUNT(pieces); i++) {
        struct buf p = { 0 };
        for (int n = 0; n < 500; n++) buf_append_cstr(&p, pieces[i]);
        buf_append_cstr(&p, "b");
        assert_false(str_glob(buf_slice(&p), (struct slice){ text, TEXT }, false));
        assert_false(str_glob(buf_slice(&p), (struct slice){ text, TEXT }, true));
        buf_done(&p);
    }
    struct buf p = { 0 };
    buf_append_char(&p, '*');
    for (int n = 0; n < 500; n++) buf_append_char(&p, 'a');
    buf_append_char(&p, 'b');
    assert_false(str_glob(buf_slice(&p), (struct slice){ text, TEXT }, false));
    buf_done(&p);
    assert_true(clock_mono_us() - start < 30 * 1000000LL); /* exponential work would take longer than there is time */
    mem_free(text);
}

/* Exact-size copies: a read behind either end shows under AddressSanitizer. */
static void test_str_glob_random_bytes_stay_inside(void **state) {
    (void)state;
    unsigned matched = 0;
    for (int i = 0; i < 100000; i++) {
        size_t np = rand_below(8), ns = rand_below(6);
        char *p = mem_alloc(np), *s = mem_alloc(ns);
        for (size_t j = 0; j < np; j++) p[j] = "ab*?[]^-\\"[rand_below(9)];
        for (size_t j = 0; j < ns; j++) s[j] = "ab]-\\^"[rand_below(6)];
        matched += str_glob((struct slice){ p, np }, (struct slice){ s, ns }, i & 1);
        mem_free(p);
        mem_free(s);
    }
    assert_true(matched > 0);
}

/* ---- quoting ---- */

static void test_str_quote_escapes_what_is_not_printable(void **state) {
    (void)state;
    static const struct {
        struct slice in;
        const char *want;
    } cases[] = {
        { SLICE_LIT(""), "\"\"" },
        { { NULL, 0 }, "\"\"" },
        { SLICE_LIT("plain ~text"), "\"plain ~text\"" },
        { SLICE_LIT("\n\r\t\a\b"), "\"\\n\\r\\t\\a\\b\"" },
        { SLICE_LIT("\"\\'"), "\"\\\"\\\\'\"" },
        { SLICE_LIT("\0\x01\x1f\x7f\x80\xff"), "\"\\x00\\x01\\x1f\\x7f\\x80\\xff\"" },
        { SLICE_LIT("\v\f\x1b"), "\"\\x0b\\x0c\\x1b\"" },
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct buf b = { 0 };
        buf_append_cstr(&b, "> ");
        str_quote(&b, cases[i].in);
        assert_memory_equal(buf_cstr(&b), "> ", 2);
        assert_string_equal(buf_cstr(&b) + 2, cases[i].want);
        buf_done(&b);
    }
}

static void test_str_quote_every_byte_splits_back_to_itself(void **state) {
    (void)state;
    for (int i = 0; i < 3000; i++) {
        char in[64];
        size_t n = rand_below(sizeof in + 1);
        int argc;
        struct buf b = { 0 };
        rand_secure(in, n);
        if (i < 256) in[0] = (char)i, n = n ? n : 1;
        str_quote(&b, (struct slice){ in, n });
        struct buf *argv = str_split_args(buf_slice(&b), &argc);
        assert_non_null(argv);
        assert_int_equal(argc, 1);
        assert_true(slice_eq(buf_slice(&argv[0]), (struct slice){ in, n }));
        str_split_free(argv, argc);
        buf_done(&b);
    }
}

/* ---- splitting ---- */

static void assert_split(struct slice line, int want_argc, const struct slice *want) {
    int argc = -1;
    char *exact = mem_alloc(line.len);
    if (line.len) memcpy(exact, line.ptr, line.len);
    struct buf *argv = str_split_args((struct slice){ exact, line.len }, &argc);
    mem_free(exact);
    assert_non_null(argv);
    assert_int_equal(argc, want_argc);
    for (int i = 0; i < argc; i++) {
        assert_true(slice_eq(buf_slice(&argv[i]), want[i]));
        assert_non_null(argv[i].data);
    }
    str_split_free(argv, argc);
}

#define SPLIT(line, ...)                                                                                                         \
    assert_split(SLICE_LIT(line), (int)COUNT(((const struct slice[]){ __VA_ARGS__ })), (const struct slice[]){ __VA_ARGS__ })
#define L(s) SLICE_LIT(s)

static void test_str_split_args_blank_line_has_no_arguments(void **state) {
    (void)state;
    assert_split(SLICE_LIT(""), 0, NULL);
    assert_split((struct slice){ NULL, 0 }, 0, NULL);
    assert_split(SLICE_LIT(" \t\r\n\v\f "), 0, NULL);
}

static void test_str_split_args_words_are_separated_by_blanks(void **state) {
    (void)state;
    SPLIT("a", L("a"));
    SPLIT("  SET  key\tvalue\r\n", L("SET"), L("key"), L("value"));
    SPLIT("a b c d e f g h i", L("a"), L("b"), L("c"), L("d"), L("e"), L("f"), L("g"), L("h"), L("i"));
    SPLIT("a\\nb", L("a\\nb"));
    SPLIT("\xff\x80 x", L("\xff\x80"), L("x"));
    SPLIT("a\vb\fc \v d", L("a\vb\fc"), L("d"));
    SPLIT("a b\0c d", L("a"), L("b"));
    assert_split(SLICE_LIT("\0a"), 0, NULL);
}

static void test_str_split_args_double_quotes_take_escapes(void **state) {
    (void)state;
    SPLIT("\"\"", L(""));
    SPLIT("set \"\" \"\"", L("set"), L(""), L(""));
    SPLIT("\"a b\" c", L("a b"), L("c"));
    SPLIT("\"\\n\\r\\t\\b\\a\\\"\\\\\\q\"", L("\n\r\t\b\a\"\\q"));
    SPLIT("\"\\x41\\xfF\\x00z\"", L("A\xff\0z"));
    SPLIT("\"\\xg1\\x4\"", L("xg1x4"));
    SPLIT("\"it's\"", L("it's"));
    SPLIT("a\"b c\" d", L("ab c"), L("d"));
}

static void test_str_split_args_single_quotes_are_literal(void **state) {
    (void)state;
    SPLIT("''", L(""));
    SPLIT("'a b' c", L("a b"), L("c"));
    SPLIT("'\\n\\x41\\\\ '", L("\\n\\x41\\\\ "));
    SPLIT("'it\\'s'", L("it's"));
    SPLIT("'say \"x\"'", L("say \"x\""));
}

static void test_str_split_args_unbalanced_quotes_give_null(void **state) {
    (void)state;
    static const struct slice cases[] = {
        SLICE_LIT("\""),      SLICE_LIT("'"),        SLICE_LIT("\"abc"),   SLICE_LIT("'abc"),
        SLICE_LIT("a \"b"),   SLICE_LIT("\"a\"b"),   SLICE_LIT("'a'b"),    SLICE_LIT("\"a\"\"b\""),
        SLICE_LIT("'a''b'"),  SLICE_LIT("\"a\"'b'"), SLICE_LIT("\"a\\\""), SLICE_LIT("'a\\'"),
        SLICE_LIT("'a\\\\'"), SLICE_LIT("\"\\"),     SLICE_LIT("\"\\x4"),  SLICE_LIT("one two three four five \"six"),
        SLICE_LIT("a\""),     SLICE_LIT("\"a\0b\""),
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        int argc = 5;
        char *exact = mem_alloc(cases[i].len);
        memcpy(exact, cases[i].ptr, cases[i].len);
        assert_null(str_split_args((struct slice){ exact, cases[i].len }, &argc));
        mem_free(exact);
    }
    str_split_free(NULL, 0);
}

static void test_str_split_args_random_bytes_stay_inside(void **state) {
    (void)state;
    for (int i = 0; i < 50000; i++) {
        size_t n = rand_below(16);
        char *line = mem_alloc(n);
        int argc = 0;
        for (size_t j = 0; j < n; j++) line[j] = "ab \"'\\x41\n\0"[rand_below(11)];
        struct buf *argv = str_split_args((struct slice){ line, n }, &argc);
        if (!argv) assert_int_equal(argc, 0);
        str_split_free(argv, argc);
        mem_free(line);
    }
}

static void test_str_to_lower_changes_capitals_only(void **state) {
    (void)state;
    char all[256];
    for (int i = 0; i < 256; i++) all[i] = (char)i;
    str_to_lower(all, sizeof all);
    for (int i = 0; i < 256; i++) assert_int_equal(all[i], (char)(i >= 'A' && i <= 'Z' ? i + 32 : i));
    char part[] = "ABCD";
    str_to_lower(part, 2);
    assert_string_equal(part, "abCD");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_slice_eq_compares_bytes_and_length),
        cmocka_unit_test(test_slice_ieq_ignores_ascii_case_only),
        cmocka_unit_test(test_str_glob_stars_and_marks_match_as_told),
        cmocka_unit_test(test_str_glob_sets_match_as_told),
        cmocka_unit_test(test_str_glob_escapes_take_the_next_byte_literally),
        cmocka_unit_test(test_str_glob_nocase_folds_ascii_only),
        cmocka_unit_test(test_str_glob_zero_bytes_are_ordinary),
        cmocka_unit_test(test_str_glob_all_short_patterns_equal_definition),
        cmocka_unit_test(test_str_glob_hostile_patterns_finish_fast),
        cmocka_unit_test(test_str_glob_random_bytes_stay_inside),
        cmocka_unit_test(test_str_quote_escapes_what_is_not_printable),
        cmocka_unit_test(test_str_quote_every_byte_splits_back_to_itself),
        cmocka_unit_test(test_str_split_args_blank_line_has_no_arguments),
        cmocka_unit_test(test_str_split_args_words_are_separated_by_blanks),
        cmocka_unit_test(test_str_split_args_double_quotes_take_escapes),
        cmocka_unit_test(test_str_split_args_single_quotes_are_literal),
        cmocka_unit_test(test_str_split_args_unbalanced_quotes_give_null),
        cmocka_unit_test(test_str_split_args_random_bytes_stay_inside),
        cmocka_unit_test(test_str_to_lower_changes_capitals_only),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
