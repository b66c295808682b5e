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
        check(p->inline_args || (s.ptr >= buf && s.ptr + s.len <= buf + len));
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

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 2 || size > 16384) return 0;
    const struct resp_limits lim = { .max_bulk_len = 1 << 20, .max_inline = 512, .authenticated = data[0] & 1 };
    const char *in = (const char *)data + 1;
    struct buf whole = { 0 }, pieces = { 0 };
    run(&lim, in, size - 1, size, &whole);
    run(&lim, in, size - 1, (size_t)(data[0] >> 1) + 1, &pieces);
    check(whole.len == pieces.len && (whole.len == 0 || memcmp(whole.data, pieces.data, whole.len) == 0));
    buf_done(&whole);
    buf_done(&pieces);
    return 0;
}
