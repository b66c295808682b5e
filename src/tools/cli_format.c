/* Replies as text, byte for byte as redis-cli prints them: people compare and scripts cut.
 *
 * Flow: cli_send.c (and the special modes) hand a parsed reply; the text is appended to a buffer and written at once.
 * Nested aggregates in the standard form carry the index of each level, aligned under the first:
 *
 *     1) "a"
 *     2) 1) "b"
 *        2) (empty array)
 *     3) 1# "key" => (integer) 1
 *        2# "list" =>
 *           1) "c"
 *           2) "d"
 *
 * so each level's elements but the first get, before their index, blanks as wide as all indexes to their left. A map's value of
 * several lines starts on a line of its own.
 * Threads: one. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/str.h"
#include "tools/cli.h"

void cli_print(const struct buf *out) {
    if (out->len == 0) return;
    if (fwrite(out->data, 1, out->len, stdout) != out->len || fflush(stdout) != 0) exit(1);
}

static void append_slice(struct buf *out, struct slice s) {
    buf_append(out, s.ptr, s.len);
}

/* ---- standard ---- */

static const char *empty_text(enum resp_type type) {
    switch ((int)type) {
    case RESP_T_MAP:
        return "(empty hash)\n";
    case RESP_T_SET:
        return "(empty set)\n";
    case RESP_T_PUSH:
        return "(empty push)\n";
    default:
        return "(empty array)\n";
    }
}

static char index_mark(enum resp_type type) {
    switch ((int)type) {
    case RESP_T_MAP:
    case RESP_T_ATTR:
        return '#';
    case RESP_T_SET:
        return '~';
    case RESP_T_PUSH:
        return '>';
    default:
        return ')';
    }
}

static void format_tty(struct buf *out, const struct resp_value *v, int indent);

/* The value of a map's pair: behind the key when it is one line, else under it. */
static void format_tty_pair_value(struct buf *out, const struct resp_value *v, int indent) {
    struct buf text = { 0 };
    format_tty(&text, v, indent);
    bool aggregate = v->type == RESP_T_ARRAY || v->type == RESP_T_SET || v->type == RESP_T_PUSH || v->type == RESP_T_MAP;
    if (aggregate && memchr(text.data, '\n', text.len - 1)) buf_printf(out, "\n%*s", indent, "");
    buf_append(out, text.data, text.len);
    buf_done(&text);
}

static void format_tty_aggregate(struct buf *out, const struct resp_value *v, int indent) {
    bool map = v->type == RESP_T_MAP || v->type == RESP_T_ATTR;
    size_t step = map ? 2 : 1;
    if (v->n == 0) {
        buf_append_cstr(out, empty_text(v->type));
        return;
    }
    int width = snprintf(NULL, 0, "%zu", v->n / step);
    char mark = index_mark(v->type);
    for (size_t i = 0; i + step <= v->n; i += step) {
        buf_printf(out, "%*s%*zu%c ", i == 0 ? 0 : indent, "", width, i / step + 1, mark);
        format_tty(out, &v->el[i], indent + width + 2);
        if (map) {
            out->len--; /* the key's newline */
            buf_append_cstr(out, " => ");
            format_tty_pair_value(out, &v->el[i + 1], indent + width + 2);
        }
    }
}

static void format_tty(struct buf *out, const struct resp_value *v, int indent) {
    switch (v->type) {
    case RESP_T_ERROR:
    case RESP_T_BLOB_ERROR:
        buf_append_cstr(out, "(error) ");
        append_slice(out, v->str);
        break;
    case RESP_T_STATUS:
    case RESP_T_VERBATIM:
        append_slice(out, v->str);
        break;
    case RESP_T_INT:
        buf_printf(out, "(integer) %" PRId64, v->integer);
        break;
    case RESP_T_DOUBLE:
        buf_append_cstr(out, "(double) ");
        append_slice(out, v->str);
        break;
    case RESP_T_BIGNUM:
        buf_append_cstr(out, "(bignum) ");
        append_slice(out, v->str);
        break;
    case RESP_T_BULK:
        str_quote(out, v->str);
        break;
    case RESP_T_NULL:
        buf_append_cstr(out, "(nil)");
        break;
    case RESP_T_BOOL:
        buf_append_cstr(out, v->integer ? "(true)" : "(false)");
        break;
    case RESP_T_ARRAY:
    case RESP_T_SET:
    case RESP_T_PUSH:
    case RESP_T_MAP:
    case RESP_T_ATTR:
        format_tty_aggregate(out, v, indent);
        return;
    }
    buf_append_char(out, '\n');
}

/* ---- raw ---- */

static void format_raw_aggregate(struct buf *out, const struct cli_cfg *cfg, const struct resp_value *v) {
    bool map = v->type == RESP_T_MAP || v->type == RESP_T_ATTR;
    for (size_t i = 0; i < v->n; i++) {
        if (i > 0) buf_append_cstr(out, map && i % 2 ? " " : cfg->bulk_delim);
        cli_format_raw(out, cfg, &v->el[i]);
    }
}

void cli_format_raw(struct buf *out, const struct cli_cfg *cfg, const struct resp_value *v) {
    switch (v->type) {
    case RESP_T_NULL:
        break;
    case RESP_T_ERROR:
    case RESP_T_BLOB_ERROR:
        append_slice(out, v->str);
        buf_append_char(out, '\n');
        break;
    case RESP_T_STATUS:
    case RESP_T_BULK:
    case RESP_T_VERBATIM:
    case RESP_T_DOUBLE:
    case RESP_T_BIGNUM:
        append_slice(out, v->str);
        break;
    case RESP_T_INT:
        buf_printf(out, "%" PRId64, v->integer);
        break;
    case RESP_T_BOOL:
        buf_append_cstr(out, v->integer ? "(true)" : "(false)");
        break;
    case RESP_T_ARRAY:
    case RESP_T_SET:
    case RESP_T_PUSH:
    case RESP_T_MAP:
    case RESP_T_ATTR:
        format_raw_aggregate(out, cfg, v);
        break;
    }
}

/* ---- csv ---- */

static void format_csv(struct buf *out, const struct resp_value *v) {
    switch (v->type) {
    case RESP_T_ERROR:
    case RESP_T_BLOB_ERROR:
        buf_append_cstr(out, "ERROR,");
        str_quote(out, v->str);
        break;
    case RESP_T_STATUS:
    case RESP_T_BULK:
    case RESP_T_VERBATIM:
        str_quote(out, v->str);
        break;
    case RESP_T_INT:
        buf_printf(out, "%" PRId64, v->integer);
        break;
    case RESP_T_DOUBLE:
    case RESP_T_BIGNUM:
        append_slice(out, v->str);
        break;
    case RESP_T_NULL:
        buf_append_cstr(out, "NULL");
        break;
    case RESP_T_BOOL:
        buf_append_cstr(out, v->integer ? "true" : "false");
        break;
    case RESP_T_ARRAY:
    case RESP_T_SET:
    case RESP_T_PUSH:
    case RESP_T_MAP:
    case RESP_T_ATTR:
        for (size_t i = 0; i < v->n; i++) {
            if (i > 0) buf_append_char(out, ',');
            format_csv(out, &v->el[i]);
        }
        break;
    }
}

/* ---- all ---- */

void cli_format(struct buf *out, const struct cli_cfg *cfg, const struct resp_value *v, bool as_text) {
    if (as_text) {
        cli_format_raw(out, cfg, v);
        return;
    }
    switch (cfg->output) {
    case CLI_STANDARD:
        format_tty(out, v, 0);
        break;
    case CLI_RAW:
        cli_format_raw(out, cfg, v);
        buf_append_cstr(out, cfg->cmd_delim);
        break;
    case CLI_CSV:
        format_csv(out, v);
        buf_append_char(out, '\n');
        break;
    case CLI_JSON:
    case CLI_QUOTED_JSON:
        cli_format_json(out, v, cfg->output == CLI_QUOTED_JSON);
        buf_append_char(out, '\n');
        break;
    }
}

static bool is_invalidation(const struct resp_value *v) {
    return v->type == RESP_T_PUSH && v->n == 2 && slice_ieq(v->el[0].str, "invalidate") && v->el[1].type == RESP_T_ARRAY;
}

void cli_format_push(struct buf *out, const struct cli_cfg *cfg, const struct resp_value *v) {
    if (cfg->output != CLI_STANDARD || !is_invalidation(v)) {
        cli_format(out, cfg, v, false);
        return;
    }
    buf_append_cstr(out, "-> invalidate: ");
    for (size_t i = 0; i < v->el[1].n; i++) {
        buf_append_cstr(out, i ? ", '" : "'");
        append_slice(out, v->el[1].el[i].str);
        buf_append_char(out, '\'');
    }
    buf_append_char(out, '\n');
}
