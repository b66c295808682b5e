/* kettle-cli: the command line client.
 *
 * Flow: options (cli_opts.c), then one of: a special mode (cli_keys, cli_stat, cli_latency, cli_pipe, cli_sync), a script (here),
 * a command given as words (here), or the interactive mode (cli_repl.c). Threads: one. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <termios.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/str.h"
#include "tools/cli.h"

/* ---- input from standard input ---- */

static void read_stream(struct buf *out, FILE *f) {
    for (;;) {
        buf_reserve(out, 16384);
        size_t n = fread(out->data + out->len, 1, out->cap - out->len, f);
        out->len += n;
        if (n == 0) return;
    }
}

/* Without ISIG: Ctrl-C must not leave the terminal without echo. */
static bool echo_off(struct termios *saved) {
    struct termios quiet;
    if (tcgetattr(STDIN_FILENO, saved) != 0) return false;
    quiet = *saved;
    quiet.c_lflag &= ~(tcflag_t)(ECHO | ICANON | ISIG);
    return tcsetattr(STDIN_FILENO, TCSAFLUSH, &quiet) == 0;
}

/* Up to the line's end. False: Ctrl-C. */
static bool read_password(struct buf *pass, bool tty) {
    char ch;
    while (read(STDIN_FILENO, &ch, 1) == 1 && ch != '\n' && ch != '\r') {
        if (tty && ch == 0x03) return false;
        if (tty && ch == 0x04) break;
        if (tty && (ch == 0x7f || ch == '\b')) {
            if (pass->len > 0) {
                pass->len--;
                fputs("\b \b", stderr);
            }
            continue;
        }
        buf_append_char(pass, ch);
        if (tty) fputc('*', stderr);
    }
    return true;
}

/* A password typed as stars, or a line of standard input; NULL: none. Kept until exit. */
static char *ask_password(void) {
    struct termios saved;
    struct buf pass = { 0 };
    bool tty = echo_off(&saved);
    if (tty) fputs("Please input password: ", stderr);
    bool typed = read_password(&pass, tty);
    if (tty) {
        tcsetattr(STDIN_FILENO, TCSAFLUSH, &saved);
        fputc('\n', stderr);
    }
    if (!typed) exit(1);
    if (pass.len == 0) return NULL;
    size_t len;
    return tool_keep(buf_steal(&pass, &len));
}

/* ---- a command of words ---- */

static bool unquote_word(const char *word, struct buf *out) {
    int n;
    struct buf *parts = str_split_args(slice_cstr(word), &n);
    bool ok = parts && n == 1;
    if (ok) buf_append(out, parts[0].data, parts[0].len);
    if (parts) str_split_free(parts, n);
    return ok;
}

/* The words, standard input put where -x or -X wants it. Everything lives until exit. 0 or 1 (told). */
static int gather_words(const struct cli_cfg *cfg, struct slice *argv, int *ret_argc) {
    struct buf in = { 0 };
    bool tag_found = false;
    int argc = cfg->argc;
    if (cfg->stdin_last || cfg->stdin_tag) read_stream(&in, stdin);
    tool_keep(in.data);
    for (int i = 0; i < argc; i++) {
        struct buf word = { 0 };
        argv[i] = slice_cstr(cfg->argv[i]);
        if (cfg->stdin_tag && strcmp(cfg->argv[i], cfg->stdin_tag) == 0 && !tag_found) {
            argv[i] = buf_slice(&in);
            tag_found = true;
        } else if (cfg->quoted_input) {
            if (!unquote_word(cfg->argv[i], &word)) {
                printf("Invalid quoted string\n");
                return 1;
            }
            argv[i] = buf_slice(&word);
            tool_keep(word.data);
        }
    }
    if (cfg->stdin_tag && !tag_found) {
        fprintf(stderr, "Using -X option but stdin tag not match.\n");
        return 1;
    }
    if (cfg->stdin_last) argv[argc++] = buf_slice(&in);
    *ret_argc = argc;
    return 0;
}

static int run_command(struct cli *c) {
    struct slice *argv = mem_calloc((size_t)c->cfg.argc + 1, sizeof(*argv));
    int argc = 0, status = gather_words(&c->cfg, argv, &argc);
    if (status == 0) status = cli_issue(c, argc, argv, c->cfg.repeat) != 0;
    mem_free(argv);
    return status;
}

/* EVAL script numkeys key ... arg ...: a lone comma ends the keys. */
int cli_eval_mode(struct cli *c) {
    FILE *f = fopen(c->cfg.eval_file, "re");
    if (!f) {
        fprintf(stderr, "Can't open file '%s': %s\n", c->cfg.eval_file, strerror(errno));
        return 1;
    }
    struct buf script = { 0 };
    read_stream(&script, f);
    fclose(f);

    struct slice *argv = mem_calloc((size_t)c->cfg.argc + 3, sizeof(*argv));
    char numkeys[16];
    int argc = 3, keys = -1;
    for (int i = 0; i < c->cfg.argc; i++) {
        if (keys < 0 && strcmp(c->cfg.argv[i], ",") == 0)
            keys = i;
        else
            argv[argc++] = slice_cstr(c->cfg.argv[i]);
    }
    snprintf(numkeys, sizeof(numkeys), "%d", keys < 0 ? c->cfg.argc : keys);
    argv[0] = SLICE_LIT("EVAL");
    argv[1] = buf_slice(&script);
    argv[2] = slice_cstr(numkeys);
    int status = cli_issue(c, argc, argv, c->cfg.repeat) != 0;
    mem_free(argv);
    buf_done(&script);
    return status;
}

/* ---- main ---- */

static int run_mode(struct cli *c) {
    switch (c->cfg.mode) {
    case CLI_MODE_STAT:
        return cli_stat_mode(c);
    case CLI_MODE_BIGKEYS:
        return cli_bigkeys_mode(c, false);
    case CLI_MODE_MEMKEYS:
        return cli_bigkeys_mode(c, true);
    case CLI_MODE_SCAN:
        return cli_scan_mode(c);
    case CLI_MODE_LATENCY:
        return cli_latency_mode(c, false);
    case CLI_MODE_LATENCY_HISTORY:
        return cli_latency_mode(c, true);
    case CLI_MODE_INTRINSIC_LATENCY:
        return cli_intrinsic_latency_mode(c);
    case CLI_MODE_PIPE:
        return cli_pipe_mode(c);
    case CLI_MODE_EVAL:
        return cli_eval_mode(c);
    case CLI_MODE_RDB:
        return cli_rdb_mode(c);
    case CLI_MODE_REPLICA:
        return cli_replica_mode(c);
    case CLI_MODE_COMMAND:
        break;
    }
    return c->cfg.argc > 0 ? run_command(c) : cli_repl(c);
}

int main(int argc, char **argv) {
    static struct cli cli = { .conn = { .io = { .fd = -1 } } };
    char err[300];

    cli_opts_parse(&cli.cfg, argc, argv);
    signal(SIGPIPE, SIG_IGN);
    if (cli.cfg.ask_pass) cli.cfg.target.pass = ask_password();
    if (cli.cfg.target.tls.enabled && tool_tls_ctx_new(&cli.cfg.target.tls, &cli.tls_ctx, err, sizeof(err)) != 0) {
        fprintf(stderr, "Could not negotiate a TLS connection: %s\n", err);
        return 1;
    }
    int status = run_mode(&cli);
    cli_drop(&cli);
    ktls_ctx_unref(cli.tls_ctx);
    return status;
}
