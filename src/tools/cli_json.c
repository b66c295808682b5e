/* Replies as JSON (RFC 8259), as redis-cli --json and --quoted-json write them.
 *
 * Flow: called by cli_format.c. Text is passed through as it is in --json (the server's UTF-8 stays UTF-8); in --quoted-json it
 * is first quoted with \xHH escapes, so that any bytes survive as ASCII. Threads: one. */
#include <inttypes.h>

#include "base/str.h"
#include "tools/cli.h"

static void json_escape(struct buf *out, struct slice s) {
    buf_append_char(out, '"');
    for (size_t i = 0; i < s.len; i++) {
        char c = s.ptr[i];
        switch (c) {
        case '\\':
            buf_append_cstr(out, "\\\\");
            break;
        case '"':
            buf_append_cstr(out, "\\\"");
            break;
        case '\n':
            buf_append_cstr(out, "\\n");
            break;
        case '\f':
            buf_append_cstr(out, "\\f");
            break;
        case '\r':
            buf_append_cstr(out, "\\r");
            break;
        case '\t':
            buf_append_cstr(out, "\\t");
            break;
        case '\b':
            buf_append_cstr(out, "\\b");
            break;
        default:
            if ((unsigned char)c <= 0x1f)
                buf_printf(out, "\\u%04x", (unsigned)(unsigned char)c);
            else
                buf_append_char(out, c);
        }
    }
    buf_append_char(out, '"');
}

/* Quotes as for a terminal, then escapes that text for JSON. (redis-cli leaves the quotes inside unescaped, which no JSON parser
 * takes; this is the only place where the output differs.) */
static void json_quoted(struct buf *out, struct slice s) {
    struct buf q = { 0 };
    str_quote(&q, s);
    buf_append_char(out, '"');
    for (size_t i = 1; i + 1 < q.len; i++) {
        if (q.data[i] == '\\' || q.data[i] == '"') buf_append_char(out, '\\');
        buf_append_char(out, q.data[i]);
    }
    buf_append_char(out, '"');
    buf_done(&q);
}

static void json_text(struct buf *out, struct slice s, bool quoted) {
    if (quoted)
        json_quoted(out, s);
    else
        json_escape(out, s);
}

/* Keys must be strings in JSON; in RESP3 they may be anything. */
static void json_key(struct buf *out, const struct resp_value *v, bool quoted) {
    struct buf key = { 0 };
    cli_format_json(&key, v, quoted);
    if (key.len > 0 && key.data[0] == '"')
        buf_append(out, key.data, key.len);
    else
        json_escape(out, buf_slice(&key));
    buf_done(&key);
}

static void json_list(struct buf *out, const struct resp_value *v, bool quoted) {
    buf_append_char(out, '[');
    for (size_t i = 0; i < v->n; i++) {
        if (i > 0) buf_append_char(out, ',');
        cli_format_json(out, &v->el[i], quoted);
    }
    buf_append_char(out, ']');
}

static void json_map(struct buf *out, const struct resp_value *v, bool quoted) {
    buf_append_char(out, '{');
    for (size_t i = 0; i + 1 < v->n; i += 2) {
        if (i > 0) buf_append_char(out, ',');
        json_key(out, &v->el[i], quoted);
        buf_append_char(out, ':');
        cli_format_json(out, &v->el[i + 1], quoted);
    }
    buf_append_char(out, '}');
}

void cli_format_json(struct buf *out, const struct resp_value *v, bool quoted) {
    switch (v->type) {
    case RESP_T_ERROR:
    case RESP_T_BLOB_ERROR:
        buf_append_cstr(out, "error:");
        json_text(out, v->str, quoted);
        break;
    case RESP_T_STATUS:
    case RESP_T_BULK:
    case RESP_T_VERBATIM:
        json_text(out, v->str, quoted);
        break;
    case RESP_T_INT:
        buf_printf(out, "%" PRId64, v->integer);
        break;
    case RESP_T_DOUBLE:
    case RESP_T_BIGNUM:
        buf_append(out, v->str.ptr, v->str.len);
        break;
    case RESP_T_NULL:
        buf_append_cstr(out, "null");
        break;
    case RESP_T_BOOL:
        buf_append_cstr(out, v->integer ? "true" : "false");
        break;
    case RESP_T_ARRAY:
    case RESP_T_SET:
    case RESP_T_PUSH:
        json_list(out, v, quoted);
        break;
    case RESP_T_MAP:
    case RESP_T_ATTR:
        json_map(out, v, quoted);
        break;
    }
}
