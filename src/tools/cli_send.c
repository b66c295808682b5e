/* One command of the user's, from words to printed reply.
 *
 * Flow: cli_issue() makes sure there is a connection, sends, waits, prints, and follows what the command does to the session
 * (database, MULTI, RESP version, cluster redirection). MONITOR and the SUBSCRIBE family do not end: they print until the
 * connection is lost or Ctrl-C.
 *
 *     issue --not connected--> connect --ok--> exchange --reply--> printed --MOVED/ASK and -c--> connect there, exchange again
 *                                 |               \--connection lost--> connect, exchange once more (interactive only: a command
 *                                 \--no--> told         of a script may have been executed, so it is not sent twice)
 *
 * Ctrl-C: in a one-shot command it ends the program. In interactive mode waiting is cut into short pieces; an interrupt drops the
 * connection (the only way to abandon a reply) and gives the prompt back.
 * Threads: one. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "tools/cli.h"

#define INTERRUPT_POLL_US (100 * 1000)

volatile sig_atomic_t cli_interrupted;

static void on_interrupt(int sig) {
    (void)sig;
    cli_interrupted = 1;
}

void cli_catch_interrupt(bool on) {
    struct sigaction sa = { .sa_handler = on ? on_interrupt : SIG_DFL };
    cli_interrupted = 0;
    sigaction(SIGINT, &sa, NULL);
}

void cli_sleep_us(int64_t us) {
    struct timespec ts = { us / 1000000, (us % 1000000) * 1000 };
    nanosleep(&ts, NULL);
}

/* ---- what kind of command ---- */

enum endless { ENDLESS_NO, ENDLESS_MONITOR, ENDLESS_SUBSCRIBE };

static bool is_word(int argc, const struct slice *argv, int i, const char *word) {
    return i < argc && slice_ieq(argv[i], word);
}

static enum endless endless_kind(int argc, const struct slice *argv) {
    if (is_word(argc, argv, 0, "monitor")) return ENDLESS_MONITOR;
    if (is_word(argc, argv, 0, "subscribe") || is_word(argc, argv, 0, "psubscribe") || is_word(argc, argv, 0, "ssubscribe"))
        return ENDLESS_SUBSCRIBE;
    return ENDLESS_NO;
}

/* In RESP3 the only answer to these is push messages, one for each channel. 0: not such a command. */
static int pushes_expected(const struct cli *c, int argc, const struct slice *argv) {
    bool unsub =
        is_word(argc, argv, 0, "unsubscribe") || is_word(argc, argv, 0, "punsubscribe") || is_word(argc, argv, 0, "sunsubscribe");
    if (!unsub || c->resp_now != 3) return 0;
    return argc > 1 ? argc - 1 : 1;
}

/* ---- waiting for a reply ---- */

/* -EINTR: Ctrl-C in interactive mode. */
static int recv_value(struct cli *c, struct resp_value **ret) {
    if (!c->interactive) return tool_conn_recv(&c->conn, ret, TOOL_NO_DEADLINE);
    for (;;) {
        int rc = tool_conn_recv(&c->conn, ret, clock_mono_us() + INTERRUPT_POLL_US);
        if (cli_interrupted) {
            if (rc == 0) resp_value_free(*ret);
            return -EINTR;
        }
        if (rc != -ETIMEDOUT) return rc;
    }
}

static void show_push(const struct cli *c, const struct resp_value *v) {
    if (!c->cfg.show_pushes) return;
    struct buf out = { 0 };
    cli_format_push(&out, &c->cfg, v);
    cli_print(&out);
    buf_done(&out);
}

/* The next value that is a reply; push messages on the way are shown unless they are what is waited for. */
static int recv_reply(struct cli *c, bool pushes_too, struct resp_value **ret) {
    struct resp_value *v;
    int rc;
    while ((rc = recv_value(c, &v)) == 0) {
        bool push = v->type == RESP_T_PUSH;
        if (v->type != RESP_T_ATTR && (!push || pushes_too)) {
            c->last_type = v->type;
            *ret = v;
            return 0;
        }
        if (push) show_push(c, v);
        resp_value_free(v);
    }
    return rc;
}

/* "MOVED 866 127.0.0.1:6381": an empty host means the one we talk to. */
static bool follow_redirection(struct cli *c, const struct resp_value *v) {
    char text[300], slot[16], host[256];
    bool ask = v->str.len > 4 && memcmp(v->str.ptr, "ASK ", 4) == 0;
    if (!ask && !(v->str.len > 6 && memcmp(v->str.ptr, "MOVED ", 6) == 0)) return false;
    snprintf(text, sizeof(text), "%.*s", (int)v->str.len, v->str.ptr);
    if (sscanf(text, "%*s %15s %255s", slot, host) != 2) return false;
    char *colon = strrchr(host, ':');
    if (!colon) return false;
    *colon = '\0';
    if (*host) c->cfg.target.host = tool_keep(mem_strdup(host));
    c->cfg.target.port = tool_int(colon + 1);
    c->redirected = true;
    c->send_asking = ask;
    if (c->interactive) printf("-> Redirected to slot [%s] located at %s:%d\n", slot, c->cfg.target.host, c->cfg.target.port);
    return true;
}

static void show_reply(struct cli *c, const struct resp_value *v, bool as_text) {
    if (cli_is_error(v)) {
        if (c->cfg.cluster && follow_redirection(c, v)) return;
        if (c->cfg.fail_on_error) {
            fprintf(stderr, "%.*s\n", (int)v->str.len, v->str.ptr);
            exit(1);
        }
    }
    struct buf out = { 0 };
    cli_format(&out, &c->cfg, v, as_text);
    cli_print(&out);
    buf_done(&out);
}

/* ---- what a command does to the session ---- */

static char *keep(struct slice s) {
    return tool_keep(mem_memdup0(s.ptr, s.len));
}

static void after_auth(struct cli *c, int argc, const struct slice *argv) {
    c->cfg.target.user = argc == 3 ? keep(argv[1]) : NULL; /* for the next reconnect */
    c->cfg.target.pass = keep(argv[argc - 1]);
    cli_select_again(c);
}

static void after_hello(struct cli *c, struct slice version) {
    if (slice_ieq(version, "2") || slice_ieq(version, "3")) {
        c->resp_now = c->cfg.resp = version.ptr[0] - '0';
        c->cfg.resp_auto = false;
    }
}

static void after_reset(struct cli *c) {
    c->db = c->cfg.target.db = 0;
    c->in_multi = false;
    c->resp_now = 2;
}

static void after_reply(struct cli *c, int argc, const struct slice *argv, const struct resp_value *v) {
    bool ok = !cli_is_error(v);
    if (argc == 2 && is_word(argc, argv, 0, "select") && ok) {
        char *n = mem_memdup0(argv[1].ptr, argv[1].len);
        c->db = c->cfg.target.db = tool_int(n);
        mem_free(n);
    } else if ((argc == 2 || argc == 3) && is_word(argc, argv, 0, "auth") && ok) {
        after_auth(c, argc, argv);
    } else if (argc >= 2 && is_word(argc, argv, 0, "hello") && ok) {
        after_hello(c, argv[1]);
    } else if (argc == 1 && is_word(argc, argv, 0, "multi") && ok) {
        c->in_multi = true;
        c->db_before_multi = c->db;
    } else if (argc == 1 && is_word(argc, argv, 0, "exec") && c->in_multi) {
        c->in_multi = false;
        if (!ok || v->type == RESP_T_NULL) /* a queued SELECT did not happen */
            c->db = c->cfg.target.db = c->db_before_multi;
    } else if (argc == 1 && is_word(argc, argv, 0, "discard") && ok) {
        c->in_multi = false;
        c->db = c->cfg.target.db = c->db_before_multi;
    } else if (argc == 1 && is_word(argc, argv, 0, "reset") && ok) {
        after_reset(c);
    }
}

/* ---- one exchange ---- */

static int send_words(struct cli *c, int argc, const struct slice *argv) {
    struct buf out = { 0 };
    resp_write_command(&out, argc, argv);
    int rc = tool_conn_send(&c->conn, buf_slice(&out), TOOL_NO_DEADLINE);
    mem_wipe(out.data, out.len); /* it may have been AUTH */
    buf_done(&out);
    return rc;
}

/* Prints until an error reply (0) or the connection's end (negative). */
static int stream_replies(struct cli *c, enum endless kind) {
    if (kind == ENDLESS_SUBSCRIBE && c->cfg.output != CLI_RAW) {
        printf("Reading messages... (press Ctrl-C to quit)\n");
        fflush(stdout);
    }
    struct resp_value *v;
    int rc;
    while ((rc = recv_reply(c, true, &v)) == 0) {
        bool stop = cli_is_error(v);
        show_reply(c, v, false);
        resp_value_free(v);
        if (stop) return 0;
    }
    return rc;
}

/* 0, or negative: the connection is of no use any more. *ret_sent: the server may have seen the command. */
static int exchange(struct cli *c, int argc, const struct slice *argv, bool *ret_sent) {
    enum endless kind = endless_kind(argc, argv);
    int pushes = pushes_expected(c, argc, argv);
    struct resp_value *v;

    c->shutting_down = is_word(argc, argv, 0, "shutdown");
    *ret_sent = false;
    int rc = send_words(c, argc, argv);
    if (rc != 0) return rc;
    *ret_sent = true;
    if (kind != ENDLESS_NO) return stream_replies(c, kind);
    do {
        rc = recv_reply(c, pushes > 0, &v);
        if (rc != 0) return rc;
        show_reply(c, v, cli_is_text_command(argc, argv));
        if (!c->redirected) after_reply(c, argc, argv, v);
        if (cli_is_error(v)) pushes = 0;
        resp_value_free(v);
    } while (--pushes > 0);
    return 0;
}

static int connect_and_ask(struct cli *c) {
    if (c->redirected) cli_drop(c);
    if (!c->connected) {
        int rc = cli_connect(c, false);
        if (rc != 0) return rc;
    }
    c->redirected = false;
    if (c->send_asking) {
        struct resp_value *v = NULL;
        int rc = tool_conn_callv(&c->conn, &v, TOOL_NO_DEADLINE, "ASKING", NULL);
        if (rc == 0 && cli_is_error(v)) fprintf(stderr, "ASKING failed: %.*s\n", (int)v->str.len, v->str.ptr);
        resp_value_free(v);
        c->send_asking = false;
        return rc;
    }
    return 0;
}

/* A failed exchange: 0 to try it again. */
static int recover(struct cli *c, int rc, bool sent, bool again) {
    bool interrupted = rc == -EINTR && c->interactive;
    if (rc == -ENODATA && c->shutting_down) {
        cli_drop(c);
        return rc;
    }
    if (!interrupted && (again || (sent && !c->interactive))) {
        cli_print_conn_error(c);
        cli_drop(c);
        return rc;
    }
    cli_drop(c);
    if (interrupted) {
        cli_interrupted = 0;
        printf("\n"); /* the terminal shows ^C */
        cli_connect(c, true);
        return rc;
    }
    return 0;
}

int cli_issue(struct cli *c, int argc, const struct slice *argv, long repeat) {
    bool sent, again = false;
    while (repeat != 0) {
        int rc = connect_and_ask(c);
        if (rc != 0) return rc;
        rc = exchange(c, argc, argv, &sent);
        if (rc != 0) {
            rc = recover(c, rc, sent, again);
            if (rc == -ENODATA && c->shutting_down) return 0;
            if (rc != 0) return rc;
            again = true;
            continue;
        }
        if (c->redirected) continue;
        again = false;
        if (repeat > 0) repeat--;
        if (c->cfg.interval_us > 0) cli_sleep_us(c->cfg.interval_us);
        if (c->interactive && cli_interrupted) break;
    }
    return 0;
}
