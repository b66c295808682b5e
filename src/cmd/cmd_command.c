/*
 * COMMAND: the command table as clients and cluster proxies read it. Everything comes from struct cmd_spec. Any I/O thread; the
 * table does not change after start-up.
 */
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/str.h"
#include "cmd/dispatch.h"

static const struct cmd_bit_name cmd_flag_names[] = {
    { CMD_WRITE, "write" },
    { CMD_READONLY, "readonly" },
    { CMD_DENYOOM, "denyoom" },
    { CMD_ADMIN, "admin" },
    { CMD_PUBSUB, "pubsub" },
    { CMD_NOSCRIPT, "noscript" },
    { CMD_BLOCKING, "blocking" },
    { CMD_LOADING, "loading" },
    { CMD_STALE, "stale" },
    { CMD_SKIP_MONITOR, "skip_monitor" },
    { CMD_SKIP_SLOWLOG, "skip_slowlog" },
    { CMD_ASKING, "asking" },
    { CMD_FAST, "fast" },
    { CMD_NO_AUTH, "no_auth" },
    { CMD_NO_MANDATORY_KEYS, "no_mandatory_keys" },
    { CMD_NO_ASYNC_LOADING, "no_async_loading" },
    { CMD_NO_MULTI, "no_multi" },
    { CMD_MOVABLEKEYS, "movablekeys" },
    { CMD_ALLOW_BUSY, "allow_busy" },
    { 0, NULL },
};

static const struct cmd_bit_name key_flag_names[] = {
    { KEY_RO, "RO" },
    { KEY_RW, "RW" },
    { KEY_OW, "OW" },
    { KEY_RM, "RM" },
    { KEY_ACCESS, "access" },
    { KEY_UPDATE, "update" },
    { KEY_INSERT, "insert" },
    { KEY_DELETE, "delete" },
    { KEY_NOT_KEY, "not_key" },
    { KEY_INCOMPLETE, "incomplete" },
    { KEY_VARIABLE_FLAGS, "variable_flags" },
    { 0, NULL },
};

static void reply_flags(struct reply *r, unsigned flags, const struct cmd_bit_name *names) {
    size_t n = 0;
    for (const struct cmd_bit_name *f = names; f->name; f++) n += (flags & f->bit) != 0;
    reply_set(r, n);
    for (const struct cmd_bit_name *f = names; f->name; f++)
        if (flags & f->bit) reply_simple(r, f->name);
}

/* ---- INFO ---- */

/* The old form: first key, last key, step, from consecutive ranges at fixed places. */
static void legacy_range(const struct cmd_spec *s, int *first, int *last, int *step) {
    *first = *last = *step = 0;
    int prev_end = 0;
    for (int i = 0; i < CMD_MAX_KEYSPECS && s->keys[i].flags; i++) {
        const struct key_spec *k = &s->keys[i];
        if (k->begin != KEY_BEGIN_INDEX || k->find != KEY_FIND_RANGE || (i && k->keystep != 1) || (i && prev_end != k->index - 1))
            continue;
        if (!*first) {
            *first = k->index;
            *step = k->keystep;
        }
        *last = k->lastkey >= 0 ? k->index + k->lastkey : k->lastkey;
        prev_end = *last;
    }
}

static void reply_begin_search(struct reply *r, const struct key_spec *k) {
    reply_bulk_cstr(r, "begin_search");
    reply_map(r, 2);
    reply_bulk_cstr(r, "type");
    reply_bulk_cstr(r, k->begin == KEY_BEGIN_INDEX ? "index" : k->begin == KEY_BEGIN_KEYWORD ? "keyword" : "unknown");
    reply_bulk_cstr(r, "spec");
    if (k->begin == KEY_BEGIN_INDEX) {
        reply_map(r, 1);
        reply_bulk_cstr(r, "index");
        reply_int(r, k->index);
    } else if (k->begin == KEY_BEGIN_KEYWORD) {
        reply_map(r, 2);
        reply_bulk_cstr(r, "keyword");
        reply_bulk_cstr(r, k->keyword);
        reply_bulk_cstr(r, "startfrom");
        reply_int(r, k->index);
    } else {
        reply_map(r, 0);
    }
}

static void reply_find_keys(struct reply *r, const struct key_spec *k) {
    reply_bulk_cstr(r, "find_keys");
    reply_map(r, 2);
    reply_bulk_cstr(r, "type");
    reply_bulk_cstr(r, k->find == KEY_FIND_RANGE ? "range" : k->find == KEY_FIND_KEYNUM ? "keynum" : "unknown");
    reply_bulk_cstr(r, "spec");
    if (k->find == KEY_FIND_RANGE) {
        reply_map(r, 3);
        reply_bulk_cstr(r, "lastkey");
        reply_int(r, k->lastkey);
        reply_bulk_cstr(r, "keystep");
        reply_int(r, k->keystep);
        reply_bulk_cstr(r, "limit");
        reply_int(r, k->limit);
    } else if (k->find == KEY_FIND_KEYNUM) {
        reply_map(r, 3);
        reply_bulk_cstr(r, "keynumidx");
        reply_int(r, k->keynum_idx);
        reply_bulk_cstr(r, "firstkey");
        reply_int(r, k->first_key);
        reply_bulk_cstr(r, "keystep");
        reply_int(r, k->keystep);
    } else {
        reply_map(r, 0);
    }
}

static void reply_key_specs(struct reply *r, const struct cmd_spec *s) {
    size_t n = 0;
    while (n < CMD_MAX_KEYSPECS && s->keys[n].flags) n++;
    reply_set(r, n);
    for (size_t i = 0; i < n; i++) {
        const struct key_spec *k = &s->keys[i];
        reply_map(r, k->notes ? 4 : 3);
        if (k->notes) {
            reply_bulk_cstr(r, "notes");
            reply_bulk_cstr(r, k->notes);
        }
        reply_bulk_cstr(r, "flags");
        reply_flags(r, k->flags, key_flag_names);
        reply_begin_search(r, k);
        reply_find_keys(r, k);
    }
}

static void reply_info(struct reply *r, const struct cmd *c) {
    int first, last, step;
    size_t tips = 0;
    legacy_range(c->spec, &first, &last, &step);
    while (c->spec->tips && c->spec->tips[tips]) tips++;
    reply_array(r, 10);
    reply_bulk_cstr(r, c->full_name);
    reply_int(r, c->spec->arity);
    reply_flags(r, c->flags, cmd_flag_names);
    reply_int(r, first);
    reply_int(r, last);
    reply_int(r, step);
    reply_flags(r, c->cats, cmd_cat_names);
    reply_set(r, tips);
    for (size_t i = 0; i < tips; i++) reply_bulk_cstr(r, c->spec->tips[i]);
    reply_key_specs(r, c->spec);
    if (c->n_subs) {
        reply_array(r, (size_t)c->n_subs);
    } else {
        reply_set(r, 0); /* so says 7.2 */
    }
    for (int i = 0; i < c->n_subs; i++) reply_info(r, c->subs[i]);
}

static void each_info(struct cmd *c, void *arg) {
    reply_info(arg, c);
}

static void command_command(struct cmd_ctx *c) {
    reply_array(c->r, (size_t)cmd_count(c->eng->table));
    cmd_each(c->eng->table, each_info, c->r);
}

/* "name" or "name|sub". */
static struct cmd *lookup_full(struct cmd_ctx *c, struct slice name) {
    const char *bar = memchr(name.ptr, '|', name.len);
    if (!bar) return cmd_lookup(c->eng->table, name);
    struct slice parts[2] = { { name.ptr, (size_t)(bar - name.ptr) }, { bar + 1, name.len - (size_t)(bar - name.ptr) - 1 } };
    struct cmd *cmd = cmd_lookup_argv(c->eng->table, 2, parts);
    return cmd && cmd->parent ? cmd : NULL;
}

static void command_info_command(struct cmd_ctx *c) {
    if (c->argc == 2) {
        command_command(c);
        return;
    }
    reply_array(c->r, (size_t)c->argc - 2);
    for (int i = 2; i < c->argc; i++) {
        const struct cmd *cmd = lookup_full(c, c->argv[i]);
        if (cmd) {
            reply_info(c->r, cmd);
        } else {
            reply_null(c->r);
        }
    }
}

static void command_count_command(struct cmd_ctx *c) {
    reply_int(c->r, cmd_count(c->eng->table));
}

/* ---- DOCS ---- */

static void docs_field(struct reply *r, const char *name, const char *value) {
    if (!value) return;
    reply_bulk_cstr(r, name);
    reply_bulk_cstr(r, value);
}

static const struct cmd_bit_name arg_flag_names[] = {
    { ARG_OPTIONAL, "optional" }, { ARG_MULTIPLE, "multiple" }, { ARG_MULTIPLE_TOKEN, "multiple_token" }, { 0, NULL }
};

static void reply_args(struct reply *r, const struct cmd_arg *args) {
    static const char *const types[] = { "string",    "integer",    "double", "key",  "pattern",
                                         "unix-time", "pure-token", "oneof",  "block" };
    size_t n = 0;
    while (args[n].name) n++;
    reply_array(r, n);
    for (size_t i = 0; i < n; i++) {
        const struct cmd_arg *a = &args[i];
        bool shown = a->type != ARG_ONEOF && a->type != ARG_BLOCK; /* these have no text of their own to show */
        reply_map(r, 2u + shown + (a->type == ARG_KEY) + (a->token != NULL) + (a->since != NULL) + (a->deprecated_since != NULL) +
                         (a->flags != 0) + (a->sub != NULL));
        docs_field(r, "name", a->name);
        docs_field(r, "type", types[a->type]);
        if (shown) docs_field(r, "display_text", a->display ? a->display : a->name);
        if (a->type == ARG_KEY) {
            reply_bulk_cstr(r, "key_spec_index");
            reply_int(r, a->key_spec_index);
        }
        docs_field(r, "token", a->token);
        docs_field(r, "since", a->since);
        docs_field(r, "deprecated_since", a->deprecated_since);
        if (a->flags) {
            reply_bulk_cstr(r, "flags");
            reply_flags(r, a->flags, arg_flag_names);
        }
        if (a->sub) {
            reply_bulk_cstr(r, "arguments");
            reply_args(r, a->sub);
        }
    }
}

static void reply_history(struct reply *r, const struct cmd_history *h) {
    size_t n = 0;
    while (h[n].since) n++;
    reply_bulk_cstr(r, "history");
    reply_set(r, n);
    for (size_t i = 0; i < n; i++) {
        reply_array(r, 2);
        reply_bulk_cstr(r, h[i].since);
        reply_bulk_cstr(r, h[i].what);
    }
}

static void reply_docs(struct reply *r, const struct cmd *c) {
    const struct cmd_spec *s = c->spec;
    bool deprecated = s->deprecated_since != NULL, syscmd = s->flags & CMD_SYSCMD;
    reply_bulk_cstr(r, c->full_name);
    reply_map(r, (size_t)(s->summary != NULL) + (s->since != NULL) + (s->group != NULL) + (s->complexity != NULL) + deprecated +
                     (deprecated || syscmd) + (s->replaced_by != NULL) + (s->history != NULL) + (s->args != NULL) +
                     (c->n_subs > 0));
    docs_field(r, "summary", s->summary);
    docs_field(r, "since", s->since);
    docs_field(r, "group", s->group);
    docs_field(r, "complexity", s->complexity);
    if (deprecated || syscmd) {
        reply_bulk_cstr(r, "doc_flags");
        reply_set(r, (size_t)deprecated + syscmd);
        if (deprecated) reply_simple(r, "deprecated");
        if (syscmd) reply_simple(r, "syscmd");
    }
    docs_field(r, "deprecated_since", s->deprecated_since);
    docs_field(r, "replaced_by", s->replaced_by);
    if (s->history) reply_history(r, s->history);
    if (s->args) {
        reply_bulk_cstr(r, "arguments");
        reply_args(r, s->args);
    }
    if (c->n_subs > 0) {
        reply_bulk_cstr(r, "subcommands");
        reply_map(r, (size_t)c->n_subs);
        for (int i = 0; i < c->n_subs; i++) reply_docs(r, c->subs[i]);
    }
}

static void each_docs(struct cmd *c, void *arg) {
    reply_docs(arg, c);
}

static void command_docs_command(struct cmd_ctx *c) {
    if (c->argc == 2) {
        reply_map(c->r, (size_t)cmd_count(c->eng->table));
        cmd_each(c->eng->table, each_docs, c->r);
        return;
    }
    struct reply_deferred d = reply_deferred_begin(c->r);
    size_t n = 0;
    for (int i = 2; i < c->argc; i++) {
        const struct cmd *cmd = lookup_full(c, c->argv[i]);
        if (!cmd) continue;
        reply_docs(c->r, cmd);
        n++;
    }
    reply_deferred_map(c->r, d, n);
}

/* ---- LIST ---- */

struct list_arg {
    struct reply *r;
    size_t n;
    struct slice pattern; /* ptr NULL: all */
    unsigned cat;
    bool by_cat;
};

static void list_one(struct cmd *c, void *arg) {
    struct list_arg *a = arg;
    bool keep = a->by_cat ? (c->cats & a->cat) != 0 : !a->pattern.ptr || str_glob(a->pattern, slice_cstr(c->full_name), true);
    if (keep) {
        reply_bulk_cstr(a->r, c->full_name);
        a->n++;
    }
    for (int i = 0; i < c->n_subs; i++) list_one(c->subs[i], arg);
}

static void command_list_command(struct cmd_ctx *c) {
    struct list_arg a = { .r = c->r };
    bool none = false;
    if (c->argc == 5 && slice_ieq(c->argv[2], "filterby")) {
        if (slice_ieq(c->argv[3], "module")) {
            none = true;
        } else if (slice_ieq(c->argv[3], "aclcat")) {
            a.by_cat = true;
            a.cat = cmd_cat_find(c->argv[4]);
        } else if (slice_ieq(c->argv[3], "pattern")) {
            a.pattern = c->argv[4];
        } else {
            cmd_syntax_error(c);
            return;
        }
    } else if (c->argc != 2) {
        cmd_syntax_error(c);
        return;
    }
    struct reply_deferred d = reply_deferred_begin(c->r);
    if (!none) cmd_each(c->eng->table, list_one, &a);
    reply_deferred_array(c->r, d, a.n);
}

/* ---- GETKEYS ---- */

static void getkeys(struct cmd_ctx *c, bool with_flags) {
    const struct slice *argv = c->argv + 2;
    int argc = c->argc - 2;
    struct cmd *cmd = cmd_lookup_argv(c->eng->table, argc, argv);
    if (!cmd) {
        reply_error(c->r, "ERR Invalid command specified");
        return;
    }
    if (!cmd->spec->keys[0].flags && !cmd->spec->get_keys) {
        reply_error(c->r, "ERR The command has no key arguments");
        return;
    }
    if (!cmd_arity_ok(cmd, argc)) {
        reply_error(c->r, "ERR Invalid number of arguments specified for command");
        return;
    }
    int n = cmd_keys(cmd, argc, argv, NULL, NULL, 0);
    if (n <= 0) {
        if (cmd->flags & CMD_NO_MANDATORY_KEYS) {
            reply_array(c->r, 0);
        } else {
            reply_error(c->r, "ERR Invalid arguments specified for command");
        }
        return;
    }
    int *pos = mem_calloc((size_t)n, sizeof *pos);
    unsigned *flags = mem_calloc((size_t)n, sizeof *flags);
    cmd_keys(cmd, argc, argv, pos, flags, n);
    reply_array(c->r, (size_t)n);
    for (int i = 0; i < n; i++) {
        if (with_flags) reply_array(c->r, 2);
        reply_bulk_slice(c->r, argv[pos[i]]);
        if (with_flags) reply_flags(c->r, flags[i], key_flag_names);
    }
    mem_free(pos);
    mem_free(flags);
}

static void command_getkeys_command(struct cmd_ctx *c) {
    getkeys(c, false);
}

static void command_getkeysandflags_command(struct cmd_ctx *c) {
    getkeys(c, true);
}

static void command_help_command(struct cmd_ctx *c) {
    static const char *const lines[] = {
        "(no subcommand)",
        "    Every command with its details.",
        "COUNT",
        "    How many commands there are.",
        "LIST",
        "    Names of the commands, filtered if wished.",
        "INFO [<command-name> ...]",
        "    Details of the commands named, or of all.",
        "DOCS [<command-name> ...]",
        "    Documentation of the commands named, or of all.",
        "GETKEYS <full-command>",
        "    The keys of a command line.",
        "GETKEYSANDFLAGS <full-command>",
        "    The keys of a command line, and how each is used.",
        NULL,
    };
    cmd_help(c, lines);
}

static const struct cmd_arg names_args[] = { { .name = "command-name", .type = ARG_STRING, .flags = ARG_OPTIONAL | ARG_MULTIPLE },
                                             { 0 } };
static const struct cmd_arg getkeys_args[] = { { .name = "command", .type = ARG_STRING },
                                               { .name = "arg", .type = ARG_STRING, .flags = ARG_OPTIONAL | ARG_MULTIPLE },
                                               { 0 } };
static const struct cmd_arg list_filters[] = {
    { .name = "module-name", .type = ARG_STRING, .token = "MODULE" },
    { .name = "category", .type = ARG_STRING, .token = "ACLCAT" },
    { .name = "pattern", .type = ARG_PATTERN, .token = "PATTERN" },
    { 0 },
};
static const struct cmd_arg list_args[] = {
    { .name = "filterby", .type = ARG_ONEOF, .token = "FILTERBY", .flags = ARG_OPTIONAL, .sub = list_filters }, { 0 }
};
static const struct cmd_history info_history[] = { { "7.0.0", "Without names it answers with every command." }, { 0 } };
static const char *const order_tips[] = { "nondeterministic_output_order", NULL };

#define FLAGS (CMD_LOADING | CMD_STALE)
static const struct cmd_spec command_subs[] = {
    { .name = "count",
      .run = command_count_command,
      .arity = 2,
      .flags = FLAGS,
      .cats = CAT_CONNECTION,
      .summary = "Number of commands.",
      .since = "2.8.13",
      .group = "server",
      .complexity = "O(1)" },
    { .name = "docs",
      .run = command_docs_command,
      .arity = -2,
      .flags = FLAGS,
      .cats = CAT_CONNECTION,
      .summary = "Documentation of commands.",
      .since = "7.0.0",
      .group = "server",
      .complexity = "O(N) where N is the number of commands to look up",
      .args = names_args,
      .tips = order_tips },
    { .name = "getkeys",
      .run = command_getkeys_command,
      .arity = -3,
      .flags = FLAGS,
      .cats = CAT_CONNECTION,
      .summary = "Keys of a command line.",
      .since = "2.8.13",
      .group = "server",
      .complexity = "O(N) where N is the number of arguments to the command",
      .args = getkeys_args },
    { .name = "getkeysandflags",
      .run = command_getkeysandflags_command,
      .arity = -3,
      .flags = FLAGS,
      .cats = CAT_CONNECTION,
      .summary = "Keys of a command line and what is done to them.",
      .since = "7.0.0",
      .group = "server",
      .complexity = "O(N) where N is the number of arguments to the command",
      .args = getkeys_args },
    { .name = "help",
      .run = command_help_command,
      .arity = 2,
      .flags = FLAGS,
      .cats = CAT_CONNECTION,
      .summary = "Lists the subcommands.",
      .since = "5.0.0",
      .group = "server",
      .complexity = "O(1)" },
    { .name = "info",
      .run = command_info_command,
      .arity = -2,
      .flags = FLAGS,
      .cats = CAT_CONNECTION,
      .summary = "Details of commands.",
      .since = "2.8.13",
      .group = "server",
      .complexity = "O(N) where N is the number of commands to look up",
      .args = names_args,
      .history = info_history,
      .tips = order_tips },
    { .name = "list",
      .run = command_list_command,
      .arity = -2,
      .flags = FLAGS,
      .cats = CAT_CONNECTION,
      .summary = "Names of commands.",
      .since = "7.0.0",
      .group = "server",
      .complexity = "O(N) where N is the total number of commands",
      .args = list_args,
      .tips = order_tips },
    { 0 },
};

const struct cmd_spec cmd_specs_command[] = {
    { .name = "command",
      .run = command_command,
      .arity = -1,
      .flags = FLAGS,
      .cats = CAT_CONNECTION,
      .subs = command_subs,
      .summary = "Details of every command.",
      .since = "2.8.13",
      .group = "server",
      .complexity = "O(N) where N is the total number of Redis commands",
      .tips = order_tips },
    { 0 },
};
