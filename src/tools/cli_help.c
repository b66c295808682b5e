/* `help` in interactive mode: what the server itself says of its commands (COMMAND DOCS), so that it never lags behind.
 *
 * Flow: cli_repl.c calls cli_help(); the reply is asked for on the session's connection and printed as redis-cli prints its
 * table. RESP2 gives flat arrays of name, value and RESP3 maps; both are walked as pairs. Threads: one. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tools/cli.h"

static const char *const general = "To get help about commands of the server type:\n"
                                   "      \"help @<group>\" to get a list of commands in <group>\n"
                                   "      \"help <command>\" for help on <command>\n"
                                   "      \"connect <host> <port>\" to talk to another server\n"
                                   "      \"<n> <command>\" to run a command n times\n"
                                   "      \"clear\" to clear the screen\n"
                                   "      \"quit\" to exit\n";

static const struct resp_value *field(const struct resp_value *v, const char *name) {
    for (size_t i = 0; i + 1 < v->n; i += 2)
        if (slice_ieq(v->el[i].str, name)) return &v->el[i + 1];
    return NULL;
}

static struct slice text_field(const struct resp_value *v, const char *name) {
    const struct resp_value *f = field(v, name);
    return f ? f->str : SLICE_LIT("");
}

static bool has_flag(const struct resp_value *arg, const char *flag) {
    const struct resp_value *flags = field(arg, "flags");
    for (size_t i = 0; flags && i < flags->n; i++)
        if (slice_ieq(flags->el[i].str, flag)) return true;
    return false;
}

/* ---- synopsis ---- */

static void put_argument(struct buf *out, const struct resp_value *arg);

static void put_list(struct buf *out, const struct resp_value *args, const char *between) {
    for (size_t i = 0; args && i < args->n; i++) {
        if (i > 0) buf_append_cstr(out, between);
        put_argument(out, &args->el[i]);
    }
}

static void put_slice(struct buf *out, struct slice s) {
    buf_append(out, s.ptr, s.len);
}

/* The argument once: its token and its name, alternatives or parts. */
static void put_once(struct buf *out, const struct resp_value *arg, bool with_token) {
    struct slice type = text_field(arg, "type"), token = text_field(arg, "token");
    if (slice_ieq(type, "pure-token")) {
        put_slice(out, token);
        return;
    }
    if (with_token && token.len > 0) {
        put_slice(out, token);
        buf_append_char(out, ' ');
    }
    if (slice_ieq(type, "oneof"))
        put_list(out, field(arg, "arguments"), "|");
    else if (slice_ieq(type, "block"))
        put_list(out, field(arg, "arguments"), " ");
    else
        put_slice(out, field(arg, "display_text") ? text_field(arg, "display_text") : text_field(arg, "name"));
}

static void put_argument(struct buf *out, const struct resp_value *arg) {
    bool optional = has_flag(arg, "optional");
    if (optional) buf_append_char(out, '[');
    put_once(out, arg, true);
    if (has_flag(arg, "multiple")) {
        buf_append_cstr(out, " [");
        put_once(out, arg, has_flag(arg, "multiple_token"));
        buf_append_cstr(out, " ...]");
    }
    if (optional) buf_append_char(out, ']');
}

/* ---- printing ---- */

static void put_line(struct buf *out, const char *label, struct slice text) {
    if (text.len == 0) return;
    buf_printf(out, "  \x1b[33m%s:\x1b[0m ", label);
    put_slice(out, text);
    buf_append_cstr(out, "\r\n");
}

static void put_command(struct buf *out, struct slice name, const struct resp_value *doc, bool with_group) {
    buf_append_cstr(out, "\r\n  \x1b[1m");
    for (size_t i = 0; i < name.len; i++) { /* "config|get" is typed "CONFIG GET" */
        char ch = name.ptr[i];
        buf_append_char(out, ch == '|' ? ' ' : ch >= 'a' && ch <= 'z' ? (char)(ch - 32) : ch);
    }
    buf_append_cstr(out, "\x1b[0m \x1b[90m");
    put_list(out, field(doc, "arguments"), " ");
    buf_append_cstr(out, "\x1b[0m\r\n");
    put_line(out, "summary", text_field(doc, "summary"));
    put_line(out, "since", text_field(doc, "since"));
    if (with_group) put_line(out, "group", text_field(doc, "group"));
    const struct resp_value *subs = field(doc, "subcommands");
    for (size_t i = 0; subs && i + 1 < subs->n; i += 2) put_command(out, subs->el[i].str, &subs->el[i + 1], false);
}

static int by_name(const void *a, const void *b) {
    struct slice x = ((const struct resp_value *)a)->str, y = ((const struct resp_value *)b)->str;
    int diff = x.len && y.len ? strncasecmp(x.ptr, y.ptr, x.len < y.len ? x.len : y.len) : 0;
    return diff ? diff : (x.len > y.len) - (x.len < y.len);
}

static void put_docs(struct buf *out, const struct resp_value *docs, struct slice group) {
    if (docs->n % 2 == 0) qsort(docs->el, docs->n / 2, 2 * sizeof(*docs->el), by_name);
    for (size_t i = 0; i + 1 < docs->n; i += 2) {
        const struct resp_value *doc = &docs->el[i + 1];
        struct slice its_group = text_field(doc, "group");
        bool same = group.len && its_group.len == group.len && strncasecmp(its_group.ptr, group.ptr, group.len) == 0;
        if (group.len == 0 || same) put_command(out, docs->el[i].str, doc, group.len == 0);
    }
}

void cli_help(struct cli *c, int argc, const struct slice *argv) {
    if (argc == 1) {
        printf("kettle-cli %s\n%s", TOOL_VERSION, general);
        return;
    }
    struct slice group = { NULL, 0 };
    struct slice ask[3] = { SLICE_LIT("COMMAND"), SLICE_LIT("DOCS"), argv[1] };
    int n = 3;
    if (argv[1].len > 1 && argv[1].ptr[0] == '@') {
        group = (struct slice){ argv[1].ptr + 1, argv[1].len - 1 };
        n = 2;
    }
    struct resp_value *docs = NULL;
    if (!c->connected && cli_connect(c, false) != 0) return;
    if (tool_conn_call(&c->conn, n, ask, &docs, TOOL_NO_DEADLINE) != 0) {
        cli_print_conn_error(c);
        cli_drop(c);
        return;
    }
    struct buf out = { 0 };
    if (cli_is_error(docs))
        cli_format(&out, &c->cfg, docs, false);
    else
        put_docs(&out, docs, group);
    buf_append_cstr(&out, "\r\n");
    cli_print(&out);
    buf_done(&out);
    resp_value_free(docs);
}
