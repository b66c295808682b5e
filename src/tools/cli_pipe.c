/* --pipe: protocol from standard input to the server as fast as both can go, replies counted.
 *
 * Flow: main() calls cli_pipe_mode(). Both directions run at once over the non-blocking socket: a server that cannot send its
 * replies stops reading, so writing first and reading later would never end with large inputs. When the input is over, an ECHO of
 * twenty random bytes is sent; its reply is the last one.
 *
 *     READING INPUT --end of file--> DRAINING (magic ECHO sent) --its reply--> done
 *
 * Threads: one. */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/rand.h"
#include "tools/cli.h"

#define PIPE_CHUNK (64 * 1024)

struct pipe_state {
    struct tool_conn *conn;
    struct buf out;
    size_t sent;
    char magic[21];
    bool input_over, done;
    int64_t errors, replies, last_read_us;
};

static void die(const char *what, const char *why) __attribute__((noreturn));
static void die(const char *what, const char *why) {
    fprintf(stderr, "%s: %s\n", what, why);
    exit(1);
}

static const char *io_text(const struct tool_conn *c, ssize_t rc) {
    if (rc == 0) return "Server closed the connection";
    return c->io.tls ? ktls_conn_error(c->io.tls)->text : strerror((int)-rc);
}

static void read_input(struct pipe_state *p) {
    buf_clear(&p->out);
    p->sent = 0;
    buf_reserve(&p->out, PIPE_CHUNK);
    ssize_t n = read(STDIN_FILENO, p->out.data, PIPE_CHUNK);
    if (n > 0) {
        p->out.len = (size_t)n;
    } else if (n == 0) {
        /* The line end finishes an inline command without one; an empty line is no command. */
        buf_printf(&p->out, "\r\n*2\r\n$4\r\nECHO\r\n$20\r\n%s\r\n", p->magic);
        p->input_over = true;
        printf("All data transferred. Waiting for the last reply...\n");
        fflush(stdout);
    } else if (errno != EAGAIN && errno != EINTR) {
        fprintf(stderr, "Error reading from stdin: %s\n", strerror(errno));
        exit(1);
    }
}

static void write_some(struct pipe_state *p) {
    while (p->sent < p->out.len) {
        ssize_t n = tool_io_write(&p->conn->io, p->out.data + p->sent, p->out.len - p->sent);
        if (n == -EAGAIN) return;
        if (n < 0) die("Error writing to the server", io_text(p->conn, n));
        p->sent += (size_t)n;
    }
}

static void note_reply(struct pipe_state *p, const struct resp_value *v) {
    if (v->type == RESP_T_PUSH || v->type == RESP_T_ATTR) return;
    if (p->input_over && v->type == RESP_T_BULK && slice_eq(v->str, slice_cstr(p->magic))) {
        printf("Last reply received from server.\n");
        p->done = true;
        p->replies--;
    } else if (cli_is_error(v)) {
        fprintf(stderr, "%.*s\n", (int)v->str.len, v->str.ptr);
        p->errors++;
    }
    p->replies++;
}

/* Everything that is there. */
static void read_replies(struct pipe_state *p) {
    while (!p->done) {
        struct resp_value *v = NULL;
        int rc = tool_conn_try_recv(p->conn, &v);
        if (rc == 0) return;
        if (rc < 0) die("Error reading replies from server", p->conn->err);
        p->last_read_us = clock_mono_us();
        note_reply(p, v);
        resp_value_free(v);
    }
}

static void wait_ready(struct pipe_state *p) {
    bool writing = p->sent < p->out.len;
    struct pollfd fds[2] = {
        { .fd = p->conn->io.fd, .events = (short)(POLLIN | (writing ? POLLOUT : 0)) },
        { .fd = !writing && !p->input_over ? STDIN_FILENO : -1, .events = POLLIN },
    };
    if (p->conn->io.tls && ktls_pending(p->conn->io.tls) > 0) return;
    poll(fds, 2, 1000);
}

int cli_pipe_mode(struct cli *c) {
    struct pipe_state p = { .conn = &c->conn };
    if (cli_connect(c, false) != 0) return 1;
    rand_hex_id(p.magic, 20);
    int64_t timeout_us = (int64_t)c->cfg.pipe_timeout_s * 1000000;
    while (!p.done) {
        if (p.sent == p.out.len && !p.input_over) {
            struct pollfd in = { .fd = STDIN_FILENO, .events = POLLIN };
            if (poll(&in, 1, 0) > 0) read_input(&p);
            p.last_read_us = clock_mono_us();
        }
        write_some(&p);
        read_replies(&p);
        if (p.done) break;
        if (p.input_over && timeout_us > 0 && clock_mono_us() - p.last_read_us > timeout_us) {
            fprintf(stderr, "No replies for %d seconds: exiting.\n", c->cfg.pipe_timeout_s);
            p.errors++;
            break;
        }
        wait_ready(&p);
    }
    printf("errors: %" PRId64 ", replies: %" PRId64 "\n", p.errors, p.replies);
    buf_done(&p.out);
    return p.errors > 0;
}
