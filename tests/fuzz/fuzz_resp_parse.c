/* Fuzzes the request parser: no crash, argv inside the buffer, and the same commands however the bytes are cut into pieces.
 * The first byte chooses the size of the pieces and whether the client is authenticated. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "proto/resp_parse.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool ok) {
    if (!ok) abort();
}

static void note_command(const struct resp_parser *p, const char *buf, size_t len, struct buf *log) {
    buf_printf(log, "[%d", p->argc);
    for (int i = 0; i < p->argc; i++) {
        struct slice s = p->argv[i];
        bool aside = false;
        for (int k = 0; k < p->n_large; k++)
            aside |= p->large[k].arg == i && p->large[k].data == s.ptr && s.len + 2 == p->large[k].cap;
        check(aside || p->inline_args || (s.ptr >= buf && s.ptr + s.len <= buf + len));
        buf_printf(log, " %zu:", s.len);
        buf_append(log, s.ptr, s.len);
    }
    buf_append_char(log, ']');
}

/* What the parser made of the input, as text. */
static void run(const struct resp_limits *lim, const char *in, size_t len, size_t step, struct buf *log) {
    struct resp_parser p;
    resp_parser_init(&p);
    size_t start = 0, end = 0;
    enum resp_result r = RESP_NEED_MORE;
    while (end < len && r != RESP_ERROR) {
        end = len - end > step ? end + step : len;
        do {
            size_t have = end - start, used = 0;
            char *piece = mem_alloc(have); /* exact, so that ASan sees one byte too many */
            if (have) memcpy(piece, in + start, have);
            r = resp_parse(&p, lim, piece, have, &used);
            check(r == RESP_ERROR || used <= have);
            check(resp_parser_lacks(&p, have) <= lim->max_bulk_len + 2);
            if (r == RESP_COMMAND)
                note_command(&p, piece, have, log);
            else if (r == RESP_ERROR)
                buf_printf(log, "!%s", p.error);
            mem_free(piece);
            start += r == RESP_ERROR ? 0 : used;
        } while (r == RESP_COMMAND);
    }
    if (r != RESP_ERROR) buf_printf(log, "~%zu", len - start);
    resp_parser_done(&p);
}

/* The same, in pieces, with arguments of 8 bytes and more received aside, every other one of them taken. */
static void run_aside(const struct resp_limits *lim, const char *in, size_t len, size_t step, struct buf *log) {
    struct resp_parser p;
    resp_parser_init(&p);
    struct buf q = { 0 };
    char *arg = NULL;
    size_t have = 0, need = 0, taken = 0;
    enum resp_result r = RESP_NEED_MORE;
    for (size_t end = 0; end < len && r != RESP_ERROR;) {
        size_t n = len - end > step ? step : len - end, used = 0;
        const char *piece = in + end;
        end += n;
        if (arg) {
            size_t part = n < need - have ? n : need - have;
            memcpy(arg + have, piece, part);
            have += part;
            if (have < need) continue;
            resp_parser_put_large(&p, arg, need);
            arg = NULL;
            piece += part;
            n -= part;
        }
        buf_append(&q, piece, n);
        do {
            r = resp_parse(&p, lim, q.data, q.len, &used);
            if (r == RESP_COMMAND) {
                note_command(&p, q.data, q.len, log);
                for (int i = 0; i < p.argc; i++) {
                    size_t cap = 0;
                    if (++taken % 2) mem_free(resp_parser_take_large(&p, p.argv[i].ptr, &cap));
                }
            } else if (r == RESP_ERROR) {
                buf_printf(log, "!%s", p.error);
            }
            if (r != RESP_ERROR) buf_consume(&q, used);
        } while (r == RESP_COMMAND && q.len);
        need = r == RESP_NEED_MORE ? resp_parser_large(&p, q.len, 8) : 0;
        if (!need) continue;
        check(need <= lim->max_bulk_len + 2 && p.pos <= q.len && q.len - p.pos < need);
        arg = mem_alloc(need);
        have = q.len - p.pos;
        memcpy(arg, q.data + p.pos, have);
        q.len = p.pos;
    }
    size_t rest = q.len + (arg ? have : 0);
    for (int k = 0; k < p.n_large && p.multibulk_left >= 0; k++) rest += p.large[k].cap;
    if (r != RESP_ERROR) buf_printf(log, "~%zu", rest);
    mem_free(arg);
    resp_parser_done(&p);
    buf_done(&q);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 2 || size > 16384) return 0;
    const struct resp_limits lim = { .max_bulk_len = 1 << 20, .max_inline = 512, .authenticated = data[0] & 1 };
    const char *in = (const char *)data + 1;
    struct buf whole = { 0 }, pieces = { 0 }, aside = { 0 };
    run(&lim, in, size - 1, size, &whole);
    run(&lim, in, size - 1, (size_t)(data[0] >> 1) + 1, &pieces);
    run_aside(&lim, in, size - 1, (size_t)(data[0] >> 1) + 1, &aside);
    check(whole.len == aside.len && (whole.len == 0 || memcmp(whole.data, aside.data, whole.len) == 0));
    check(whole.len == pieces.len && (whole.len == 0 || memcmp(whole.data, pieces.data, whole.len) == 0));
    buf_done(&whole);
    buf_done(&pieces);
    buf_done(&aside);
    return 0;
}
