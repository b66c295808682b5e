/* The manifest of the append-only file: text both ways, what is refused, names, the rewrite's steps, the file. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "persist/aof_manifest.h"

static struct aof_manifest *parse(const char *text) {
    struct aof_manifest *m = NULL;
    struct aof_manifest_error err;
    assert_int_equal(aof_manifest_parse(slice_cstr(text), &m, &err), 0);
    return m;
}

static void assert_text(const struct aof_manifest *m, const char *want) {
    struct buf b = { 0 };
    aof_manifest_format(m, &b);
    assert_string_equal(buf_cstr(&b), want);
    buf_done(&b);
}

static void refused(const char *text, const char *why, int line) {
    struct aof_manifest *m = (void *)1;
    struct aof_manifest_error err;
    assert_int_equal(aof_manifest_parse(slice_cstr(text), &m, &err), -EINVAL);
    assert_string_equal(err.why, why);
    assert_int_equal(err.line, line);
    assert_ptr_equal(m, (void *)1);
}

static void test_manifest_text_comes_back(void **state) {
    (void)state;
    const char *text = "file appendonly.aof.2.base.rdb seq 2 type b\n"
                       "file appendonly.aof.1.base.rdb seq 1 type h\n"
                       "file appendonly.aof.1.incr.aof seq 1 type h\n"
                       "file appendonly.aof.2.incr.aof seq 2 type i\n"
                       "file appendonly.aof.4.incr.aof seq 4 type i\n";
    struct aof_manifest *m = parse(text);
    assert_text(m, text);
    assert_int_equal(aof_manifest_count(m), 3);
    assert_string_equal(aof_manifest_at(m, 0)->name, "appendonly.aof.2.base.rdb");
    assert_string_equal(aof_manifest_at(m, 2)->name, "appendonly.aof.4.incr.aof");
    struct aof_manifest *d = aof_manifest_dup(m);
    aof_manifest_free(m);
    assert_text(d, text);
    assert_int_equal(d->base_seq, 2);
    assert_int_equal(d->incr_seq, 4);
    aof_manifest_free(d);
}

static void test_manifest_comments_quotes_unknown_keys(void **state) {
    (void)state;
    struct aof_manifest *m = parse("# made by hand\nSEQ 1 type i startoffset 12 file \"a b\\x41\"\r\n#\n");
    assert_int_equal(m->n_incr, 1);
    assert_string_equal(m->incr[0]->name, "a bA");
    assert_text(m, "file \"a bA\" seq 1 type i\n");
    aof_manifest_free(m);
}

static void test_manifest_refuses(void **state) {
    (void)state;
    const char *bad = "Invalid AOF manifest file format";
    refused("", "Found an empty AOF manifest", 0);
    refused("file a seq 1 type b", "The AOF manifest file contains too long line", 1);
    refused("\n", bad, 1);
    refused("file a seq 1 type\n", bad, 1);
    refused("file a seq 1\n", bad, 1);
    refused("file \"a seq 1 type b\n", bad, 1);
    refused("file a seq x type b\n", bad, 1);
    refused("file a seq 0 type b\n", bad, 1);
    refused("file a seq -1 type b\n", bad, 1);
    refused("file a seq 1 type \"\"\n", bad, 1);
    refused("file \"\" seq 1 type b\n", bad, 1);
    refused("file a\\x00b seq 1 type b\nfile \"a\\x00b\" seq 1 type i\n", "File can't be a path, just a filename", 1);
    refused("file \"a\\x00b\" seq 1 type i\n", bad, 1);
    refused("# x\nfile ../a seq 1 type b\n", "File can't be a path, just a filename", 2);
    refused("file a seq 1 type x\n", "Unknown AOF file type", 1);
    refused("file a seq 1 type b\nfile b seq 2 type b\n", "Found duplicate base file information", 2);
    refused("file a seq 2 type i\nfile b seq 2 type i\n", "Found a non-monotonic sequence number", 2);
    char line[2000];
    memset(line, 'x', sizeof line);
    memcpy(line + sizeof line - 2, "\n", 2);
    refused(line, "The AOF manifest file contains too long line", 1);
}

static void test_manifest_rewrite_steps(void **state) {
    (void)state;
    struct aof_manifest *m = aof_manifest_new();
    assert_string_equal(aof_manifest_next_base(m, "x.aof", true), "x.aof.1.base.rdb");
    assert_string_equal(aof_manifest_next_incr(m, "x.aof"), "x.aof.1.incr.aof");
    assert_string_equal(aof_manifest_next_incr(m, "x.aof"), "x.aof.2.incr.aof");
    assert_string_equal(aof_manifest_next_base(m, "x.aof", false), "x.aof.2.base.aof");
    aof_manifest_retire_incr(m, 1);
    assert_text(m, "file x.aof.2.base.aof seq 2 type b\nfile x.aof.1.base.rdb seq 1 type h\nfile x.aof.1.incr.aof seq 1 type h\n"
                   "file x.aof.2.incr.aof seq 2 type i\n");
    aof_manifest_forget_history(m);
    assert_text(m, "file x.aof.2.base.aof seq 2 type b\nfile x.aof.2.incr.aof seq 2 type i\n");
    aof_manifest_retire_incr(m, 1);
    assert_int_equal(m->n_history, 0);
    aof_manifest_retire_incr(m, 0);
    assert_null(aof_manifest_last_incr(m));
    aof_manifest_free(m);
    m = aof_manifest_new();
    aof_manifest_set_base(m, "appendonly.aof");
    assert_text(m, "file appendonly.aof seq 1 type b\n");
    assert_string_equal(aof_manifest_next_incr(m, "appendonly.aof"), "appendonly.aof.1.incr.aof");
    aof_manifest_free(m);
}

static void test_manifest_file(void **state) {
    (void)state;
    char dir[] = "/tmp/kettle-manifest-XXXXXX";
    struct aof_manifest_error err;
    struct aof_manifest *m = aof_manifest_new(), *got = NULL;
    assert_non_null(mkdtemp(dir));
    assert_int_equal(aof_manifest_load(dir, "a.manifest", &got, &err), -ENOENT);
    assert_int_equal(aof_manifest_load("/nowhere/at/all", "a.manifest", &got, &err), -ENOENT);
    aof_manifest_next_base(m, "a", true);
    const char *what = NULL;
    assert_int_equal(aof_manifest_save(m, dir, "a.manifest", &what), 0);
    assert_int_equal(aof_manifest_load(dir, "a.manifest", &got, &err), 0);
    assert_text(got, "file a.1.base.rdb seq 1 type b\n");
    aof_manifest_free(got);
    /* A temporary file that cannot be made leaves the old one. */
    char *temp = aof_path(dir, "temp-a.manifest"), *path = aof_path(dir, "a.manifest");
    assert_int_equal(mkdir(temp, 0700), 0);
    aof_manifest_next_incr(m, "a");
    assert_int_equal(aof_manifest_save(m, dir, "a.manifest", &what), -EISDIR);
    assert_string_equal(what, "open");
    assert_int_equal(aof_manifest_load(dir, "a.manifest", &got, &err), 0);
    assert_int_equal(got->n_incr, 0);
    aof_manifest_free(got);
    aof_manifest_free(m);
    assert_int_equal(rmdir(temp), 0);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(rmdir(dir), 0);
    mem_free(temp);
    mem_free(path);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_manifest_text_comes_back),
        cmocka_unit_test(test_manifest_comments_quotes_unknown_keys),
        cmocka_unit_test(test_manifest_refuses),
        cmocka_unit_test(test_manifest_rewrite_steps),
        cmocka_unit_test(test_manifest_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
