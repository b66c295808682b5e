/* kettle-cli's pieces: options, output formats, sending, interactive mode, special modes. One thread. */
#ifndef KETTLE_TOOLS_CLI_H
#define KETTLE_TOOLS_CLI_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/slice.h"
#include "proto/resp_reply.h"
#include "tools/tool_conn.h"
#include "tools/tool_opts.h"

enum cli_output { CLI_STANDARD, CLI_RAW, CLI_CSV, CLI_JSON, CLI_QUOTED_JSON };

enum cli_mode {
    CLI_MODE_COMMAND, /* the words of the command line, or interactive when there are none */
    CLI_MODE_STAT,
    CLI_MODE_BIGKEYS,
    CLI_MODE_MEMKEYS,
    CLI_MODE_SCAN,
    CLI_MODE_LATENCY,
    CLI_MODE_LATENCY_HISTORY,
    CLI_MODE_INTRINSIC_LATENCY,
    CLI_MODE_PIPE,
    CLI_MODE_EVAL,
    CLI_MODE_RDB,
    CLI_MODE_REPLICA
};

struct cli_cfg {
    struct tool_target target;
    enum cli_output output;
    enum cli_mode mode;
    long repeat; /* negative: for ever */
    int64_t interval_us;
    const char *bulk_delim, *cmd_delim;
    int resp; /* 0: leave RESP2; 2, 3: asked for; 3 with resp_auto: try, silently */
    bool resp_auto;
    bool stdin_last;       /* -x */
    const char *stdin_tag; /* -X */
    bool cluster, fail_on_error, no_auth_warning, ask_pass, quoted_input, verbose, show_pushes;
    struct slice pattern; /* --pattern; ptr NULL: none */
    long scan_count;      /* --count; 0: server's default */
    long memkeys_samples; /* 0: server's default */
    int pipe_timeout_s;
    int intrinsic_s;
    const char *eval_file;
    const char *rdb_file; /* "-": standard output */
    bool functions_only;
    int argc; /* the words after the options */
    char **argv;
};

struct cli {
    struct cli_cfg cfg;
    struct ktls_ctx *tls_ctx;
    struct tool_conn conn;
    int db; /* selected now; cfg.target.db is what a reconnect selects */
    int db_before_multi;
    int resp_now;
    bool interactive; /* somebody sits at a terminal: lost commands are sent again, Ctrl-C gives the prompt back */
    bool in_multi;
    bool connected;               /* the last cli_connect succeeded and no I/O failed since */
    bool shutting_down;           /* SHUTDOWN sent: end of stream is success */
    bool redirected, send_asking; /* -c: the command is to be sent again */
    enum resp_type last_type;
};

/* Set by SIGINT, cleared by who reads it. */
extern volatile sig_atomic_t cli_interrupted;
void cli_catch_interrupt(bool on);

/* ---- cli_opts.c ---- */
/* Fills cfg; ends the process for --help, --version and mistakes. */
void cli_opts_parse(struct cli_cfg *cfg, int argc, char **argv);
/* ---- cli_usage.c ---- */
void cli_usage(void);

/* ---- cli_format.c, cli_json.c ---- */
/* Appends v as the mode prints it, the mode's final newline included. as_text: INFO and its like, raw whatever the mode is. */
void cli_format(struct buf *out, const struct cli_cfg *cfg, const struct resp_value *v, bool as_text);
/* An out-of-band message (RESP3 push). */
void cli_format_push(struct buf *out, const struct cli_cfg *cfg, const struct resp_value *v);
void cli_format_raw(struct buf *out, const struct cli_cfg *cfg, const struct resp_value *v);
void cli_format_json(struct buf *out, const struct resp_value *v, bool quoted);
void cli_print(const struct buf *out); /* to stdout, flushed; ends the process on a closed pipe */
static inline bool cli_is_error(const struct resp_value *v) {
    return v->type == RESP_T_ERROR || v->type == RESP_T_BLOB_ERROR;
}

/* ---- cli_connect.c ---- */
/* (Re)connects, AUTH, SELECT, HELLO. quiet: no message when the connect fails. 0 or negative. */
int cli_connect(struct cli *c, bool quiet);
void cli_drop(struct cli *c);                   /* closes */
void cli_print_conn_error(const struct cli *c); /* "Could not connect to Redis at ...: ..." or "Error: ..." */
void cli_select_again(struct cli *c);           /* after AUTH */
void cli_prompt(const struct cli *c, char *out, size_t cap);

/* ---- cli_send.c ---- */
/* One command `repeat` times, reconnecting once and following redirections. 0, or negative: it could not be sent or answered. */
int cli_issue(struct cli *c, int argc, const struct slice *argv, long repeat);

/* ---- cli_repl.c, cli_help.c ---- */
int cli_repl(struct cli *c);
void cli_help(struct cli *c, int argc, const struct slice *argv);

/* ---- cli_words.c ---- */
/* True for lines that carry a password (AUTH, ACL SETUSER, CONFIG SET requirepass, HELLO ... AUTH, MIGRATE ... AUTH). */
bool cli_is_sensitive(int argc, const struct slice *argv);
/* Replies that are texts for people, with lines of their own (INFO, CLIENT LIST, ...): printed as they are. */
bool cli_is_text_command(int argc, const struct slice *argv);

/* ---- special modes: each returns the exit status ---- */
int cli_scan_mode(struct cli *c);
int cli_bigkeys_mode(struct cli *c, bool by_memory);
int cli_stat_mode(struct cli *c);
int cli_latency_mode(struct cli *c, bool history);
int cli_intrinsic_latency_mode(struct cli *c);
int cli_pipe_mode(struct cli *c);
int cli_eval_mode(struct cli *c);
int cli_rdb_mode(struct cli *c);
int cli_replica_mode(struct cli *c); /* until the connection ends */
/* A command whose failure ends a special mode: prints and exits when it cannot be answered. Caller frees. */
struct resp_value *cli_must_call(struct cli *c, int argc, const struct slice *argv);
void cli_sleep_us(int64_t us); /* returns early on SIGINT */

#endif
