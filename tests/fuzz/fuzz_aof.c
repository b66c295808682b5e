/* Fuzzes what an append-only file consists of: the first byte says whether the rest is a manifest or the content of a file. A
 * manifest that is accepted reads back as the same; content that is accepted, written again, is the same bytes. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "persist/aof_manifest.h"
#include "persist/aof_read.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void manifest(struct slice text) {
    struct aof_manifest *m = NULL, *again = NULL;
    struct aof_manifest_error err;
    struct buf first = { 0 }, second = { 0 };
    if (aof_manifest_parse(text, &m, &err) != 0) {
        if (!err.why) abort();
        return;
    }
    aof_manifest_format(m, &first);
    bool is_empty = first.len == 0; /* comments only */
    if (!is_empty && aof_manifest_parse(buf_slice(&first), &again, &err) != 0) {
        /* Quoting may make a line longer than is read. */
        if (strcmp(err.why, "The AOF manifest file contains too long line") != 0) abort();
    } else if (!is_empty) {
        aof_manifest_format(again, &second);
        if (!slice_eq(buf_slice(&first), buf_slice(&second))) abort();
    }
    aof_manifest_next_base(m, "f", true);
    aof_manifest_next_incr(m, "f");
    aof_manifest_retire_incr(m, 1);
    aof_manifest_free(m);
    aof_manifest_free(again);
    buf_done(&first);
    buf_done(&second);
}

struct source {
    struct slice left;
    size_t piece;
};

static ssize_t give(void *arg, void *p, size_t n) {
    struct source *s = arg;
    if (n > s->piece) n = s->piece;
    if (n > s->left.len) n = s->left.len;
    if (n) memcpy(p, s->left.ptr, n);
    s->left = (struct slice){ s->left.ptr + n, s->left.len - n };
    return (ssize_t)n;
}

static void content(struct slice bytes, size_t piece) {
    struct source s = { bytes, piece };
    struct aof_reader r;
    aof_reader_init(&r, give, &s);
    for (;;) {
        int64_t from = r.offset;
        enum aof_read what = aof_reader_next(&r);
        if (what != AOF_READ_COMMAND && what != AOF_READ_NOTE) {
            if (what == AOF_READ_ERROR || r.offset != from) abort();
            if (what == AOF_READ_END && (size_t)r.offset != bytes.len) abort();
            if (what == AOF_READ_BAD && !*r.err) abort();
            break;
        }
        if (r.offset <= from || (size_t)r.offset > bytes.len) abort();
        const char *end = bytes.ptr + r.offset, *at = bytes.ptr + from;
        for (int i = 0; i < r.argc; i++) { /* each argument stands in what was read, in order */
            const char *found = r.argv[i].len ? memmem(at, (size_t)(end - at), r.argv[i].ptr, r.argv[i].len) : at;
            if (!found) abort();
            at = found + r.argv[i].len;
        }
    }
    aof_reader_done(&r);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size == 0) return 0;
    char *exact = mem_alloc(size - 1 ? size - 1 : 1);
    memcpy(exact, data + 1, size - 1);
    struct slice bytes = { exact, size - 1 };
    if (data[0] == 0)
        manifest(bytes);
    else
        content(bytes, data[0]);
    mem_free(exact);
    return 0;
}
