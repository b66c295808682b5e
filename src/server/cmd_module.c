/*
 * MODULE. There is no interface for modules here, so none is loaded, and none can be: what is asked for fails as it does in
 * redis-server where the file is no module. Clients ask by MODULE LIST what the server can do. Thread: the session's.
 */
#include "base/log.h"
#include "server/server.h"

static void list_command(struct cmd_ctx *c) {
    reply_array(c->r, 0);
}

static void load_command(struct cmd_ctx *c) {
    struct slice path = c->argv[2];
    log_warning("Module %.*s failed to load: this server has no interface for modules", (int)(path.len < 1000 ? path.len : 1000),
                path.ptr);
    reply_error(c->r, "ERR Error loading the extension. Please check the server logs.");
}

static void unload_command(struct cmd_ctx *c) {
    reply_error(c->r, "ERR Error unloading module: no such module with that name");
}

static void help_command(struct cmd_ctx *c) {
    static const char *const lines[] = {
        "LIST",
        "    The modules that are loaded: none.",
        "LOAD <path> [<arg> ...]",
        "    Fails: this server has no interface for modules.",
        "LOADEX <path> [[CONFIG NAME VALUE] [CONFIG NAME VALUE]] [ARGS ...]",
        "    The same.",
        "UNLOAD <name>",
        "    Fails: there is no such module.",
        NULL,
    };
    cmd_help(c, lines);
}

static const struct cmd_arg load_args[] = {
    { .name = "path", .type = ARG_STRING },
    { .name = "arg", .type = ARG_STRING, .flags = ARG_OPTIONAL | ARG_MULTIPLE },
    { 0 },
};
static const struct cmd_arg config_pair[] = { { .name = "name", .type = ARG_STRING },
                                              { .name = "value", .type = ARG_STRING },
                                              { 0 } };
static const struct cmd_arg loadex_args[] = {
    { .name = "path", .type = ARG_STRING },
    { .name = "configs",
      .type = ARG_BLOCK,
      .token = "CONFIG",
      .flags = ARG_OPTIONAL | ARG_MULTIPLE | ARG_MULTIPLE_TOKEN,
      .sub = config_pair },
    { .name = "args", .type = ARG_STRING, .token = "ARGS", .flags = ARG_OPTIONAL | ARG_MULTIPLE },
    { 0 },
};
static const struct cmd_arg unload_args[] = { { .name = "name", .type = ARG_STRING }, { 0 } };
static const char *const list_tips[] = { "nondeterministic_output_order", NULL };

#define CHANGES (CMD_ADMIN | CMD_NOSCRIPT | CMD_NO_ASYNC_LOADING | CMD_PROTECTED)
/* Name, function, arity, flags, summary, since, complexity; then what else there is. */
#define SUB(n, fn, ar, fl, sum, snc, cx, ...)                                                                                    \
    {                                                                                                                            \
        .name = n, .run = fn, .arity = ar, .flags = fl, .summary = sum, .since = snc, .complexity = cx, .group = "server",       \
        __VA_ARGS__                                                                                                              \
    }

static const struct cmd_spec module_subs[] = {
    SUB("help", help_command, 2, CMD_LOADING | CMD_STALE, "Lists the subcommands.", "5.0.0", "O(1)", .args = NULL),
    SUB("list", list_command, 2, CMD_ADMIN | CMD_NOSCRIPT, "The modules that are loaded.", "4.0.0", "O(N), N their number",
        .tips = list_tips),
    SUB("load", load_command, -3, CHANGES, "Loads a module.", "4.0.0", "O(1)", .args = load_args),
    SUB("loadex", load_command, -3, CHANGES, "Loads a module and configures it.", "7.0.0", "O(1)", .args = loadex_args),
    SUB("unload", unload_command, 3, CHANGES, "Unloads a module.", "4.0.0", "O(1)", .args = unload_args),
    { 0 },
};

const struct cmd_spec cmd_specs_module[] = {
    SUB("module", NULL, -2, 0, "Commands about modules.", "4.0.0", "Depends on subcommand.", .subs = module_subs),
    { 0 },
};
