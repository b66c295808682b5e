/* Interactive mode: prompt, line editing and history (libedit), and the words that are kettle-cli's own.
 *
 * Flow: main() comes here when the command line holds no command. A line is split as redis.conf lines are, words of our own are
 * acted on, everything else goes to cli_send.c. When standard input is not a terminal the same lines are read without prompt,
 * editing or history: `kettle-cli < script`.
 *
 * The history file is plain text, a line a command, so that redis-cli's can be used; it is appended to at once, 0600, and cut
 * when it grows over twice HISTORY_KEEP. Lines with passwords stay out of it and out of the editor's memory.
 *
 * Ctrl-C on the prompt ends the session as Ctrl-D does. It comes as a key, not as a signal: libedit restarts its read after a
 * signal handler, and leaving by one would take the TLS connection down without close_notify. Threads: one. */
#include <editline/readline.h>
#include <errno.h>
#include <fcntl.h>
#include <langinfo.h>
#include <locale.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/str.h"
#include "tools/cli.h"

#define HISTORY_KEEP 1000

/* ---- history ---- */

/* NULL: none. The caller frees. */
static char *history_path(void) {
    const char *path = getenv("KETTLECLI_HISTFILE");
    if (!path) path = getenv("REDISCLI_HISTFILE");
    if (path) return *path && strcmp(path, "/dev/null") != 0 ? mem_strdup(path) : NULL;
    const char *home = getenv("HOME");
    return home && *home ? mem_asprintf("%s/.kettlecli_history", home) : NULL;
}

static void history_rewrite(const char *path) {
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    FILE *f = fd >= 0 ? fdopen(fd, "w") : NULL;
    if (!f) {
        if (fd >= 0) close(fd);
        return;
    }
    for (int i = 0; i < history_length; i++) {
        HIST_ENTRY *e = history_get(history_base + i);
        if (e && e->line) fprintf(f, "%s\n", e->line);
    }
    fclose(f);
}

static void history_load(const char *path) {
    using_history();
    stifle_history(HISTORY_KEEP);
    FILE *f = path ? fopen(path, "re") : NULL;
    if (!f) return;
    char *line = NULL;
    size_t cap = 0, count = 0;
    while (getline(&line, &cap, f) > 0) {
        line[strcspn(line, "\r\n")] = '\0';
        if (*line) add_history(line);
        count++;
    }
    free(line);
    fclose(f);
    if (count > 2 * HISTORY_KEEP) history_rewrite(path);
}

static void history_note(const char *path, const char *line) {
    add_history(line);
    int fd = path ? open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600) : -1;
    if (fd < 0) return;
    char *text = mem_asprintf("%s\n", line);
    if (write(fd, text, strlen(text)) < 0) {
        /* the history is a convenience: a full disk must not disturb the session */
    }
    mem_free(text);
    close(fd);
}

/* ---- one line ---- */

struct repl {
    struct cli *cli;
    char *history; /* path or NULL */
    bool editing;  /* standard input is a terminal */
    bool done;
};

static void do_connect(struct cli *c, const struct slice *argv) {
    char *port = mem_memdup0(argv[2].ptr, argv[2].len);
    c->cfg.target.host = tool_keep(mem_memdup0(argv[1].ptr, argv[1].len));
    c->cfg.target.port = tool_int(port);
    c->cfg.target.unix_path = NULL;
    mem_free(port);
    cli_connect(c, false);
}

/* redis-cli's words, so that its users' habits meet no error. There are no hints to switch. */
static void set_preference(int argc, const struct slice *argv) {
    if (argc < 2 || !slice_ieq(argv[0], ":set"))
        printf("unknown kettle-cli internal command '%.*s'\n", (int)argv[0].len, argv[0].ptr);
    else if (slice_ieq(argv[1], "hints"))
        printf("kettle-cli shows no hints; \"help <command>\" does\n");
    else if (!slice_ieq(argv[1], "nohints"))
        printf("unknown kettle-cli preference '%.*s'\n", (int)argv[1].len, argv[1].ptr);
}

/* True when the line was for kettle-cli itself. */
static bool own_word(struct repl *r, int argc, const struct slice *argv) {
    if (slice_ieq(argv[0], "quit") || slice_ieq(argv[0], "exit"))
        r->done = true;
    else if (argc == 3 && slice_ieq(argv[0], "connect"))
        do_connect(r->cli, argv);
    else if (argc == 1 && slice_ieq(argv[0], "clear"))
        fputs("\x1b[H\x1b[2J", stdout);
    else if (slice_ieq(argv[0], "help") || slice_ieq(argv[0], "?"))
        cli_help(r->cli, argc, argv);
    else if (argv[0].ptr[0] == ':')
        set_preference(argc, argv);
    else
        return false;
    fflush(stdout);
    return true;
}

/* "5 PING": 5, and *ret_skip 1. 0: a count that is no count. */
static long repeat_prefix(int argc, const struct slice *argv, int *ret_skip) {
    *ret_skip = 0;
    if (argc < 2) return 1;
    char *word = mem_memdup0(argv[0].ptr, argv[0].len), *end;
    errno = 0;
    long n = strtol(word, &end, 10);
    bool number = *word && *end == '\0', bad = errno != 0 || n <= 0;
    mem_free(word);
    if (!number) return 1;
    *ret_skip = 1;
    return bad ? 0 : n;
}

static void run_words(struct repl *r, const char *line, int argc, const struct slice *argv) {
    int skip;
    long repeat = repeat_prefix(argc, argv, &skip);
    if (repeat == 0) {
        printf("Invalid kettle-cli repeat command option value.\n");
        return;
    }
    if (r->editing && !cli_is_sensitive(argc - skip, argv + skip)) history_note(r->history, line);
    if (own_word(r, argc, argv)) return;

    int64_t start = clock_mono_us();
    if (r->editing) cli_catch_interrupt(true);
    cli_issue(r->cli, argc - skip, argv + skip, repeat);
    if (r->editing) cli_catch_interrupt(false);
    int64_t took = clock_mono_us() - start;
    if (took >= 500 * 1000 && r->cli->cfg.output == CLI_STANDARD) printf("(%.2fs)\n", (double)took / 1e6);
    fflush(stdout);
}

static void run_line(struct repl *r, const char *line) {
    int argc;
    struct buf *words = str_split_args(slice_cstr(line), &argc);
    if (!words) {
        printf("Invalid argument(s)\n");
        fflush(stdout);
        if (r->editing) add_history(line); /* to be mended; not written: it may hold a password */
        return;
    }
    if (argc > 0) {
        struct slice *argv = mem_calloc((size_t)argc, sizeof(*argv));
        for (int i = 0; i < argc; i++) argv[i] = words[i].len ? buf_slice(&words[i]) : SLICE_LIT("");
        run_words(r, line, argc, argv);
        mem_free(argv);
    }
    str_split_free(words, argc);
}

/* ---- reading lines ---- */

static int on_ctrl_c(int count, int key) {
    (void)count;
    (void)key;
    rl_done = 1; /* readline() returns NULL */
    return 0;
}

/* Characters, not bytes: what the terminal sends is UTF-8 unless the locale says something else. In the "C" locale libedit would
 * drop every byte over 127. */
static void set_characters(void) {
    if (!setlocale(LC_CTYPE, "") || strcmp(nl_langinfo(CODESET), "ANSI_X3.4-1968") == 0) setlocale(LC_CTYPE, "C.UTF-8");
}

static void editor_init(void) {
    set_characters();
    rl_readline_name = "kettle-cli";
    rl_initialize();
    rl_bind_key('\t', rl_insert);
    rl_add_defun("kettle-end", on_ctrl_c, 0x03);
}

static struct termios shell_tty; /* as we found it */

/* libedit has put back what it found, which is our change; then it hands the signal on to us. */
static void on_deadly_signal(int sig) {
    tcsetattr(STDIN_FILENO, TCSADRAIN, &shell_tty);
    signal(sig, SIG_DFL);
    raise(sig);
}

static void catch_deadly_signals(void (*handler)(int)) {
    static const int sigs[] = { SIGTERM, SIGHUP, SIGQUIT, SIGINT };
    for (size_t i = 0; i < sizeof(sigs) / sizeof(*sigs); i++) signal(sigs[i], handler);
}

/* Ctrl-C reaches readline() as a key. libedit has a word for that ("setty"), which has no effect in the versions in use. */
static char *edit_line(const char *prompt) {
    struct termios quiet;
    if (tcgetattr(STDIN_FILENO, &shell_tty) != 0) return readline(prompt);
    quiet = shell_tty;
    quiet.c_cc[VINTR] = _POSIX_VDISABLE;
    catch_deadly_signals(on_deadly_signal);
    tcsetattr(STDIN_FILENO, TCSADRAIN, &quiet);
    char *line = readline(prompt);
    tcsetattr(STDIN_FILENO, TCSADRAIN, &shell_tty);
    catch_deadly_signals(SIG_DFL);
    return line;
}

/* NULL at the end of input. The caller uses free(3). */
static char *next_line(struct repl *r) {
    if (r->editing) {
        char prompt[400];
        cli_prompt(r->cli, prompt, sizeof(prompt));
        return edit_line(prompt);
    }
    char *line = NULL;
    size_t cap = 0;
    if (getline(&line, &cap, stdin) < 0) {
        free(line);
        return NULL;
    }
    line[strcspn(line, "\r\n")] = '\0';
    return line;
}

int cli_repl(struct cli *c) {
    struct repl r = { .cli = c, .editing = isatty(STDIN_FILENO) };
    c->interactive = r.editing;   /* a script's command is not sent twice */
    c->cfg.fail_on_error = false; /* -e is for a command of the command line */
    if (r.editing) {
        editor_init();
        r.history = history_path();
        history_load(r.history);
    }
    cli_connect(c, false);

    char *line;
    while (!r.done && (line = next_line(&r))) {
        run_line(&r, line);
        mem_wipe(line, strlen(line));
        free(line);
    }
    if (r.editing && !r.done) printf("\n");
    mem_free(r.history);
    return 0;
}
