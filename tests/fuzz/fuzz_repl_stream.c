/* Fuzzes what a replica reads from its primary: the lines of the handshake, the announcement of the RDB and its framing, then the
 * commands of the stream. The first byte says in what pieces the bytes come. Nothing is read beyond what there is, no piece is
 * larger than what was asked for, by length not a byte of the stream is taken, and what was parsed as a command is made of bytes
 * of the stream. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "proto/resp_parse.h"
#include "repl/replica_handshake.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool ok) {
    if (!ok) abort();
}

struct input {
    const char *p;
    size_t left;
};

static bool take_line(struct input *in, struct slice *ret) {
    const char *lf = in->left ? memchr(in->p, '\n', in->left) : NULL;
    if (!lf || lf - in->p >= REPLICA_LINE_MAX) return false;
    *ret = (struct slice){ in->p, (size_t)(lf - in->p) };
    in->left -= ret->len + 1;
    in->p = lf + 1;
    if (ret->len && ret->ptr[ret->len - 1] == '\r') ret->len--;
    return true;
}

/* False: no RDB is to come, or it is cut off. */
static bool read_rdb(struct input *in, size_t piece) {
    struct rdb_framing f;
    struct slice line;
    enum rdb_announced a;
    do {
        if (!take_line(in, &line)) return false;
        a = replica_parse_announcement(line, &f);
    } while (a == RDB_KEEPALIVE);
    if (a != RDB_BY_LENGTH && a != RDB_BY_MARK) return false;
    uint64_t total = 0;
    for (;;) {
        size_t n = rdb_framing_wants(&f, piece);
        check(n <= piece);
        if (n == 0) break;
        if (n > in->left) n = in->left;
        if (n == 0) return false;
        rdb_framing_took(&f, in->p, n);
        in->p += n;
        in->left -= n;
        total += n;
    }
    check(rdb_framing_is_whole(&f) && total == f.got);
    check(f.by_mark ? memcmp(in->p - REPLICA_MARK_LEN, f.mark, REPLICA_MARK_LEN) == 0 : total == f.total);
    return true;
}

static void read_stream(struct input *in) {
    struct resp_parser p;
    struct resp_limits lim = { .max_bulk_len = 1 << 20, .max_inline = 65536, .authenticated = true };
    resp_parser_init(&p);
    for (;;) {
        size_t used = 0;
        enum resp_result r = resp_parse(&p, &lim, in->p, in->left, &used);
        check(used <= in->left);
        for (int i = 0; r == RESP_COMMAND && !p.inline_args && i < p.argc; i++)
            check(p.argv[i].ptr >= in->p && p.argv[i].ptr + p.argv[i].len <= in->p + used);
        in->p += used;
        in->left -= used;
        if (r != RESP_COMMAND) break;
    }
    resp_parser_done(&p);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 1) return 0;
    struct input in = { (const char *)data + 1, size - 1 };
    size_t piece = 1 + data[0] % 64 * 7;
    struct slice line;
    struct psync_reply r;
    if (!take_line(&in, &line)) return 0;
    replica_is_alive(line);
    replica_parse_psync(line, &r);
    check(strlen(r.id) == 0 || strlen(r.id) == REPLICA_ID_LEN);
    if (r.kind == ANSWER_FULL) check(r.offset >= 0 && *r.id);
    if (r.kind == ANSWER_CONTINUE || (r.kind == ANSWER_FULL && read_rdb(&in, piece))) read_stream(&in);
    return 0;
}
