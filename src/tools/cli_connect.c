/* kettle-cli's one connection: open, log in, open again.
 *
 * Flow: called before the first command, after a failure, after `connect` and after a redirection. What the user chose (user,
 * database, RESP version) is sent again each time, so that a reconnect is not noticed.
 * Threads: one. */
#include <stdio.h>
#include <stdlib.h>

#include "tools/cli.h"

#define CONNECT_TIMEOUT_US (15 * 1000 * 1000)

void cli_drop(struct cli *c) {
    tool_conn_close(&c->conn);
    c->connected = false;
    c->in_multi = false;
}

void cli_print_conn_error(const struct cli *c) {
    char where[300];
    tool_target_text(&c->cfg.target, where, sizeof(where));
    if (c->conn.tls_failed)
        fprintf(stderr, "Could not negotiate a TLS connection: %s\n", c->conn.err);
    else if (!c->connected)
        fprintf(stderr, "Could not connect to Redis at %s: %s\n", where, c->conn.err);
    else
        fprintf(stderr, "Error: %s\n", c->conn.err);
}

static void tell_path(const struct cli *c) {
    char where[300], tls[600];
    tool_target_text(&c->cfg.target, where, sizeof(where));
    tool_conn_tls_text(&c->conn, tls, sizeof(tls));
    fprintf(stderr, "Connected to %s: %s\n", where, tls);
}

static int lost(struct cli *c, int rc) {
    fprintf(stderr, "Error: %s\n", c->conn.err);
    cli_drop(c);
    return rc;
}

static int log_in(struct cli *c) {
    const struct tool_target *t = &c->cfg.target;
    int rc = 0;
    c->db = 0;
    c->resp_now = 2;
    if (t->pass) {
        rc = tool_conn_auth(&c->conn, t->user, t->pass, TOOL_NO_DEADLINE);
        if (rc == TOOL_REPLY_ERROR) fprintf(stderr, "AUTH failed: %s\n", c->conn.err);
    }
    if (rc >= 0 && t->db != 0) {
        rc = tool_conn_select(&c->conn, t->db, TOOL_NO_DEADLINE);
        if (rc == TOOL_REPLY_ERROR)
            fprintf(stderr, "SELECT %d failed: %s\n", t->db, c->conn.err);
        else
            c->db = t->db;
    }
    if (rc >= 0 && c->cfg.resp == 3) {
        rc = tool_conn_hello(&c->conn, 3, TOOL_NO_DEADLINE);
        if (rc == 0)
            c->resp_now = 3;
        else if (rc == TOOL_REPLY_ERROR && !c->cfg.resp_auto)
            fprintf(stderr, "HELLO 3 failed: %s\n", c->conn.err);
    }
    return rc < 0 ? lost(c, rc) : 0;
}

int cli_connect(struct cli *c, bool quiet) {
    cli_drop(c);
    /* Bounded: a TLS client and a plaintext server would each wait for the other to say something. */
    int rc = tool_conn_open(&c->conn, &c->cfg.target, c->tls_ctx, tool_deadline(CONNECT_TIMEOUT_US));
    if (rc != 0) {
        if (!quiet) cli_print_conn_error(c);
        return rc;
    }
    c->connected = true;
    if (c->cfg.verbose) tell_path(c);
    return log_in(c);
}

void cli_select_again(struct cli *c) {
    if (c->cfg.target.db == c->db) return;
    int rc = tool_conn_select(&c->conn, c->cfg.target.db, TOOL_NO_DEADLINE);
    if (rc == 0)
        c->db = c->cfg.target.db;
    else if (rc == TOOL_REPLY_ERROR)
        fprintf(stderr, "SELECT %d failed: %s\n", c->cfg.target.db, c->conn.err);
}

void cli_prompt(const struct cli *c, char *out, size_t cap) {
    char where[300], db[24] = "";
    if (!c->connected) {
        snprintf(out, cap, "not connected> ");
        return;
    }
    tool_target_text(&c->cfg.target, where, sizeof(where));
    if (c->db != 0) snprintf(db, sizeof(db), "[%d]", c->db);
    snprintf(out, cap, "%s%s%s%s> ", c->cfg.target.unix_path ? "redis " : "", where, db, c->in_multi ? "(TX)" : "");
}

struct resp_value *cli_must_call(struct cli *c, int argc, const struct slice *argv) {
    struct resp_value *v = NULL;
    if (!c->connected && cli_connect(c, false) != 0) exit(1);
    if (tool_conn_call(&c->conn, argc, argv, &v, TOOL_NO_DEADLINE) != 0) {
        fprintf(stderr, "Error: %s\n", c->conn.err);
        exit(1);
    }
    return v;
}
