/* kettle-cli's command line.
 *
 * Flow: main() calls this first; words that are not options are the command to run. Options end at the first word without a dash,
 * as in redis-cli, so that commands may have arguments that look like options.
 * Threads: one. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/str.h"
#include "tools/cli.h"

static void fail(const char *text) __attribute__((noreturn));
static void fail(const char *text) {
    fprintf(stderr, "%s\n", text);
    exit(1);
}

static bool is(const char *word, const char *opt) {
    return strcmp(word, opt) == 0;
}

/* A word that may be quoted as in redis.conf. ptr NULL when it is badly quoted. The memory lives until exit. */
static struct slice unquote(const char *word) {
    struct slice out = { NULL, 0 };
    if (word[0] != '"' && word[0] != '\'') return slice_cstr(word);
    int argc;
    struct buf *argv = str_split_args(slice_cstr(word), &argc);
    if (argv && argc == 1) {
        out.ptr = tool_keep(buf_steal(&argv[0], &out.len));
    }
    if (argv) str_split_free(argv, argc);
    return out;
}

static bool yes_no(const char *word) {
    if (word[0] == 'y' || word[0] == 'Y') return true;
    if (word[0] == 'n' || word[0] == 'N') return false;
    fprintf(stderr, "Unknown --show-pushes value '%s' (valid: '[y]es', '[n]o')\n", word);
    exit(1);
}

/* ---- options without an argument ---- */

static bool output_flag(struct cli_cfg *cfg, const char *opt) {
    static const struct {
        const char *name;
        enum cli_output output;
    } table[] = { { "--raw", CLI_RAW },
                  { "--no-raw", CLI_STANDARD },
                  { "--csv", CLI_CSV },
                  { "--json", CLI_JSON },
                  { "--quoted-json", CLI_QUOTED_JSON } };
    for (size_t i = 0; i < sizeof(table) / sizeof(*table); i++) {
        if (is(opt, table[i].name)) {
            cfg->output = table[i].output;
            if (cfg->output >= CLI_JSON && cfg->resp == 0) {
                cfg->resp = 3;
                cfg->resp_auto = true;
            }
            return true;
        }
    }
    return false;
}

static bool mode_flag(struct cli_cfg *cfg, const char *opt) {
    static const struct {
        const char *name;
        enum cli_mode mode;
    } table[] = {
        { "--stat", CLI_MODE_STAT },       { "--bigkeys", CLI_MODE_BIGKEYS }, { "--memkeys", CLI_MODE_MEMKEYS },
        { "--scan", CLI_MODE_SCAN },       { "--latency", CLI_MODE_LATENCY }, { "--pipe", CLI_MODE_PIPE },
        { "--replica", CLI_MODE_REPLICA }, { "--slave", CLI_MODE_REPLICA },   { "--latency-history", CLI_MODE_LATENCY_HISTORY }
    };
    for (size_t i = 0; i < sizeof(table) / sizeof(*table); i++) {
        if (is(opt, table[i].name)) {
            cfg->mode = table[i].mode;
            return true;
        }
    }
    return false;
}

static void ask_resp(struct cli_cfg *cfg, int version) {
    if (cfg->resp != 0 && !cfg->resp_auto && cfg->resp != version) fail("Options -2 and -3 are mutually exclusive.");
    cfg->resp = version;
    cfg->resp_auto = false;
}

static bool plain_flag(struct cli_cfg *cfg, const char *opt) {
    const struct {
        const char *name;
        bool *dst;
    } table[] = { { "-x", &cfg->stdin_last },      { "-c", &cfg->cluster },
                  { "-e", &cfg->fail_on_error },   { "--no-auth-warning", &cfg->no_auth_warning },
                  { "--askpass", &cfg->ask_pass }, { "--quoted-input", &cfg->quoted_input },
                  { "--verbose", &cfg->verbose } };
    for (size_t i = 0; i < sizeof(table) / sizeof(*table); i++) {
        if (is(opt, table[i].name)) {
            *table[i].dst = true;
            return true;
        }
    }
    if (is(opt, "-2"))
        ask_resp(cfg, 2);
    else if (is(opt, "-3"))
        ask_resp(cfg, 3);
    else
        return false;
    return true;
}

static void information_flag(const char *opt, bool last) {
    if (is(opt, "--help") || (is(opt, "-h") && last)) {
        cli_usage();
        exit(0);
    }
    if (is(opt, "-v") || is(opt, "--version")) {
        printf("kettle-cli %s\n", TOOL_VERSION);
        exit(0);
    }
}

/* ---- options with an argument ---- */

static bool number_option(struct cli_cfg *cfg, const char *opt, const char *word) {
    if (is(opt, "-n"))
        cfg->target.db = tool_int(word);
    else if (is(opt, "-r"))
        cfg->repeat = strtol(word, NULL, 10);
    else if (is(opt, "-i"))
        cfg->interval_us = (int64_t)fmin(fmax(strtod(word, NULL), 0) * 1e6, 1e15);
    else if (is(opt, "--count"))
        cfg->scan_count = strtol(word, NULL, 10);
    else if (is(opt, "--pipe-timeout"))
        cfg->pipe_timeout_s = tool_int(word);
    else if (is(opt, "--intrinsic-latency")) {
        cfg->mode = CLI_MODE_INTRINSIC_LATENCY;
        cfg->intrinsic_s = tool_int(word);
    } else if (is(opt, "--memkeys-samples")) {
        cfg->mode = CLI_MODE_MEMKEYS;
        cfg->memkeys_samples = strtol(word, NULL, 10);
    } else {
        return false;
    }
    return true;
}

static bool text_option(struct cli_cfg *cfg, const char *opt, const char *word) {
    if (is(opt, "-X"))
        cfg->stdin_tag = word;
    else if (is(opt, "-d"))
        cfg->bulk_delim = word;
    else if (is(opt, "-D"))
        cfg->cmd_delim = word;
    else if (is(opt, "--pattern"))
        cfg->pattern = slice_cstr(word);
    else if (is(opt, "--show-pushes"))
        cfg->show_pushes = yes_no(word);
    else if (is(opt, "--quoted-pattern")) {
        cfg->pattern = unquote(word);
        if (!cfg->pattern.ptr) fail("Invalid quoted string specified for --quoted-pattern.");
    } else if (is(opt, "--eval")) {
        cfg->mode = CLI_MODE_EVAL;
        cfg->eval_file = word;
    } else if (is(opt, "--rdb") || is(opt, "--functions-rdb")) {
        cfg->mode = CLI_MODE_RDB;
        cfg->rdb_file = word;
        cfg->functions_only = is(opt, "--functions-rdb");
    } else {
        return false;
    }
    return true;
}

/* ---- all ---- */

static void defaults(struct cli_cfg *cfg) {
    bool tty = isatty(STDOUT_FILENO) || getenv("FAKETTY");
    *cfg = (struct cli_cfg){ .repeat = 1, .bulk_delim = "\n", .cmd_delim = "\n", .pipe_timeout_s = 30 };
    tool_target_init(&cfg->target);
    cfg->output = tty ? CLI_STANDARD : CLI_RAW;
    cfg->show_pushes = isatty(STDOUT_FILENO);
    const char *pass = getenv("KETTLECLI_AUTH");
    if (!pass) pass = getenv("REDISCLI_AUTH");
    if (pass && *pass) cfg->target.pass = pass;
}

static void check(struct cli_cfg *cfg) {
    if (cfg->cluster && cfg->target.unix_path) fail("Options -c and -s are mutually exclusive.");
    if (cfg->stdin_last && cfg->stdin_tag) fail("Options -x and -X are mutually exclusive.");
    if (tool_pass_on_command_line() && !cfg->no_auth_warning && !cfg->ask_pass)
        fputs("Warning: Using a password with '-a' or '-u' option on the command line interface may not be safe.\n", stderr);
}

void cli_opts_parse(struct cli_cfg *cfg, int argc, char **argv) {
    defaults(cfg);
    int i;
    for (i = 1; i < argc; i++) {
        const char *opt = argv[i];
        bool last = i == argc - 1;
        information_flag(opt, last);
        if (tool_opt_parse(&cfg->target, argc, argv, &i) || output_flag(cfg, opt) || mode_flag(cfg, opt) || plain_flag(cfg, opt))
            continue;
        if (!last && (number_option(cfg, opt, argv[i + 1]) || text_option(cfg, opt, argv[i + 1]))) {
            i++;
            continue;
        }
        if (opt[0] == '-') {
            fprintf(stderr, "Unrecognized option or bad number of args for: '%s'\n", opt);
            exit(1);
        }
        break;
    }
    cfg->argc = argc - i;
    cfg->argv = argv + i;
    check(cfg);
}
