/* Where a tool connects and how, and the options of the command line that say so: the same letters and words in kettle-cli and
 * kettle-benchmark. One thread, before any other is started. */
#ifndef KETTLE_TOOLS_TOOL_OPTS_H
#define KETTLE_TOOLS_TOOL_OPTS_H

#include <stdbool.h>

#define TOOL_VERSION "0.1.0"

struct tool_tls {
    bool enabled;
    bool insecure;       /* no check of the server's certificate at all */
    bool no_verify_name; /* the chain is checked, the name in it is not */
    bool no_resume;      /* every TLS handshake in full */
    int sessions;        /* kept for resumption; 0: libktls's default */
    const char *sni;     /* NULL: the host */
    const char *ca_file, *ca_dir, *cert_file, *key_file, *ciphers, *ciphersuites;
};

/* All strings are owned by the process (argv, or allocated and kept until exit), except where a function says otherwise. */
struct tool_target {
    const char *host;
    int port;
    const char *unix_path; /* NULL: tcp */
    const char *user, *pass;
    int db;
    struct tool_tls tls;
};

void tool_target_init(struct tool_target *t); /* 127.0.0.1:6379 */

/* Looks at argv[*i]. 1: it was a connection option; *i is moved to its last word. 0: not one of these. Ends the process with a
 * message on a malformed URI. argc is the number of words; an option whose argument is missing is "not one of these".
 * Secrets given in argv are overwritten there after copying, so that `ps` does not show them for long. */
int tool_opt_parse(struct tool_target *t, int argc, char **argv, int *i);
/* True when a password came with -a, --pass or -u. */
bool tool_pass_on_command_line(void);

/* redis://[user:pass@]host[:port][/db], rediss:// and kettle:// likewise (rediss: TLS). 0 or -EINVAL (unknown scheme). */
int tool_uri_parse(struct tool_target *t, const char *uri);

/* Memory that is needed until the process ends, whoever forgets the pointer. Returns its argument (NULL is fine). */
char *tool_keep(char *ptr_take);

/* atoi's leniency with strtol's defined behaviour: text that is no number is 0, out of range is clamped. */
int tool_int(const char *s);
/* "host:port", "[v6]:port" or the socket's path. */
void tool_target_text(const struct tool_target *t, char *out, unsigned cap);
/* The lines of --help that describe TLS, without a heading; each line starts with `indent`. */
void tool_tls_usage(const char *indent);

#endif
