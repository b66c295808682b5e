/* Fuzzes the reply parser: no crash, no over-read, and the tree and the skipper agree on where a reply ends. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "proto/resp_reply.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool ok) {
    if (!ok) abort();
}

/* Touches everything, so that ASan sees what is not there. */
static size_t weigh(const struct resp_value *v, int depth) {
    check(depth <= RESP_MAX_DEPTH);
    size_t sum = 1;
    for (size_t i = 0; i < v->str.len; i++) sum += (unsigned char)v->str.ptr[i];
    for (size_t i = 0; i < v->n; i++) sum += weigh(&v->el[i], depth + 1);
    return sum;
}

/* The end of the first reply by the tree, attributes in front included. 1, 0, -EPROTO. */
static int tree_end(const char *buf, size_t len, size_t *ret) {
    size_t pos = 0;
    for (;;) {
        struct resp_value *v = NULL;
        size_t used = 0;
        int r = resp_value_parse(buf + pos, len - pos, &used, &v);
        if (r <= 0) return r;
        check(used > 0 && used <= len - pos && weigh(v, 0) > 0);
        pos += used;
        bool attr = v->type == RESP_T_ATTR;
        resp_value_free(v);
        if (!attr) break;
    }
    *ret = pos;
    return 1;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char *buf = mem_alloc(size);
    if (size) memcpy(buf, data, size);
    size_t by_tree = 0, by_skip = 0, by_bytes = 0;
    int tree = tree_end(buf, size, &by_tree);
    struct resp_skip s = { 0 };
    int skip = resp_skip(&s, buf, size, &by_skip);
    /* The tree also refuses what is too deep. */
    check(tree != 1 || (skip == 1 && by_skip == by_tree));
    check(skip != 1 || tree != 0);
    if (size <= 2048) {
        struct resp_skip slow = { 0 };
        int r = 0;
        for (size_t len = 0; len <= size && r == 0; len++) r = resp_skip(&slow, buf, len, &by_bytes);
        check(r == skip && (r != 1 || (by_bytes == by_skip && slow.is_error == s.is_error)));
    }
    mem_free(buf);
    return 0;
}
