/*
 * CLIENT: listing, killing, pausing and naming connections. Runs on the caller's I/O thread. Other threads' clients are read
 * under their thread's registry lock; what is to be done to them is posted to their thread.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/str.h"
#include "server/cmd_client.h"

static struct server *server_of(struct cmd_ctx *c) {
    return c->eng->server;
}

/* Client types of Redis; -1: no such name. */
static int client_type(struct slice name) {
    if (slice_ieq(name, "normal")) return 0;
    if (slice_ieq(name, "slave") || slice_ieq(name, "replica")) return 1;
    if (slice_ieq(name, "pubsub")) return 2;
    if (slice_ieq(name, "master")) return 3;
    return -1;
}

static int type_of(struct client *cl) {
    if (atomic_load_explicit(&cl->flags, memory_order_relaxed) & CLIENT_REPLICA) return 1;
    if (cl->primary) return 3;
    return pubsub_is_listening(cl) ? 2 : 0;
}

/* ---- LIST, INFO ---- */

struct line {
    uint64_t id;
    char *text;
};

static int by_id(const void *a, const void *b) {
    uint64_t x = ((const struct line *)a)->id, y = ((const struct line *)b)->id;
    return x < y ? -1 : x > y;
}

struct list_filter {
    const struct slice *ids; /* NULL: all */
    int n;
    int type; /* -1: any */
};

static bool wanted(const struct list_filter *f, uint64_t id) {
    if (f->n == 0) return true;
    for (int i = 0; i < f->n; i++) {
        int64_t v;
        if (str_to_ll(f->ids[i], &v) && (uint64_t)v == id) return true;
    }
    return false;
}

static const struct line *line_find(const struct line *line, size_t n, struct slice id) {
    int64_t v;
    if (!str_to_ll(id, &v)) return NULL;
    return bsearch(&(struct line){ .id = (uint64_t)v }, line, n, sizeof *line, by_id);
}

/* By id; where ids were asked for, in their order, as often as asked. Frees the texts. */
static void reply_lines(struct cmd_ctx *c, struct buf *lines, const struct list_filter *f) {
    struct buf out = { 0 };
    struct line *line = (struct line *)(void *)lines->data;
    size_t n = lines->len / sizeof *line, wants = f->n ? (size_t)f->n : n;
    if (n) qsort(line, n, sizeof *line, by_id);
    for (size_t i = 0; n && i < wants; i++) {
        const struct line *l = f->n ? line_find(line, n, f->ids[i]) : &line[i];
        if (!l) continue;
        buf_append_cstr(&out, l->text);
        buf_append_char(&out, '\n');
    }
    for (size_t i = 0; i < n; i++) mem_free(line[i].text);
    reply_verbatim(c->r, out.data ? out.data : "", out.len, "txt");
    buf_done(&out);
}

static void list_reply(struct cmd_ctx *c, const struct list_filter *f) {
    struct server *srv = server_of(c);
    struct buf lines = { 0 };
    for (int t = 0; t < srv->n_threads; t++) {
        struct io_thread *th = &srv->threads[t];
        pthread_mutex_lock(&th->registry_lock);
        list_for_each(n, &th->clients) {
            struct client *cl = list_entry(n, struct client, node);
            if (client_is_killed(cl) || !wanted(f, cl->s.id) || (f->type >= 0 && f->type != type_of(cl))) continue;
            struct buf one = { 0 };
            client_format(cl, &one);
            struct line l = { cl->s.id, buf_steal(&one, NULL) };
            buf_append(&lines, &l, sizeof l);
        }
        pthread_mutex_unlock(&th->registry_lock);
    }
    reply_lines(c, &lines, f);
    buf_done(&lines);
}

static void unknown_type(struct cmd_ctx *c, struct slice name) {
    reply_errorf(c->r, "ERR Unknown client type '%.*s'", (int)name.len, name.ptr);
}

void client_list_command(struct cmd_ctx *c) {
    struct list_filter f = { .type = -1 };
    if (c->argc == 4 && slice_ieq(c->argv[2], "type")) {
        int type = client_type(c->argv[3]);
        if (type < 0) {
            unknown_type(c, c->argv[3]);
            return;
        }
        f.type = type;
    } else if (c->argc > 3 && slice_ieq(c->argv[2], "id")) {
        for (int i = 3; i < c->argc; i++) {
            int64_t id;
            if (!cmd_arg_ll(c, c->argv[i], &id, "ERR Invalid client ID")) return;
        }
        f.ids = c->argv + 3;
        f.n = c->argc - 3;
    } else if (c->argc != 2) {
        cmd_syntax_error(c);
        return;
    }
    client_note_argv(client_of(c->s), c->argc, c->argv);
    list_reply(c, &f);
    client_note_argv(client_of(c->s), 0, NULL);
}

void client_info_command(struct cmd_ctx *c) {
    struct client *cl = client_of(c->s);
    struct buf out = { 0 };
    client_note_argv(cl, c->argc, c->argv);
    pthread_mutex_lock(&cl->th->registry_lock);
    client_format(cl, &out);
    pthread_mutex_unlock(&cl->th->registry_lock);
    client_note_argv(cl, 0, NULL);
    buf_append_char(&out, '\n');
    reply_verbatim(c->r, out.data, out.len, "txt");
    buf_done(&out);
}

void client_id_command(struct cmd_ctx *c) {
    reply_int(c->r, (int64_t)c->s->id);
}

/* ---- KILL ---- */

struct kill_filter {
    struct slice addr, laddr, user;
    uint64_t id;
    int type; /* -1: any */
    bool by_id, skip_me;
};

static void kill_posted(struct io_thread *th, void *arg) {
    struct client *cl = client_by_id(th, (uint64_t)(uintptr_t)arg);
    if (cl) conn_close(&cl->conn, CONN_END_LOCAL, "");
}

/* Under its thread's registry_lock. To everybody it is gone when this returns; its thread has yet to close the connection. */
static void kill_one(struct client *cl) {
    atomic_fetch_or(&cl->flags, CLIENT_KILLED);
    client_block_kill(cl);
    pubsub_discount(cl);
    atomic_fetch_sub(&cl->srv->n_clients, 1);
    io_thread_post(cl->th, kill_posted, (void *)(uintptr_t)cl->s.id);
}

static bool kill_matches(const struct kill_filter *f, struct client *cl) {
    if (f->addr.ptr && !slice_eq(f->addr, slice_cstr(cl->addr))) return false;
    if (f->laddr.ptr && !slice_eq(f->laddr, slice_cstr(cl->laddr))) return false;
    if (f->user.ptr && (!cl->s.user || !slice_eq(f->user, slice_cstr(cl->s.user)))) return false;
    if (f->by_id && f->id != cl->s.id) return false;
    return f->type < 0 || f->type == type_of(cl);
}

static int64_t kill_all(struct cmd_ctx *c, const struct kill_filter *f) {
    struct server *srv = server_of(c);
    int64_t killed = 0;
    for (int t = 0; t < srv->n_threads; t++) {
        struct io_thread *th = &srv->threads[t];
        pthread_mutex_lock(&th->registry_lock);
        list_for_each(n, &th->clients) {
            struct client *cl = list_entry(n, struct client, node);
            bool me = &cl->s == c->s;
            if (!kill_matches(f, cl) || (me && f->skip_me)) continue;
            if (atomic_fetch_or(&cl->flags, CLIENT_CLOSING) & CLIENT_CLOSING) continue;
            killed++;
            if (me)
                c->s->close_after_reply = true; /* the reply goes out first */
            else
                kill_one(cl);
        }
        pthread_mutex_unlock(&th->registry_lock);
    }
    return killed;
}

/* One "NAME value" pair of the new form. False: replied an error. */
static bool kill_option(struct cmd_ctx *c, struct kill_filter *f, struct slice name, struct slice v) {
    int64_t id;
    if (slice_ieq(name, "id")) {
        if (!str_to_ll(v, &id) || id < 1) {
            reply_error(c->r, "ERR client-id should be greater than 0");
            return false;
        }
        f->id = (uint64_t)id;
        f->by_id = true;
    } else if (slice_ieq(name, "type")) {
        f->type = client_type(v);
        if (f->type < 0) {
            unknown_type(c, v);
            return false;
        }
    } else if (slice_ieq(name, "addr")) {
        f->addr = v;
    } else if (slice_ieq(name, "laddr")) {
        f->laddr = v;
    } else if (slice_ieq(name, "user")) {
        const struct acl_user *u = acl_get(c->eng->acl, v);
        if (!u) {
            reply_errorf(c->r, "ERR No such user '%.*s'", (int)v.len, v.ptr);
            return false;
        }
        acl_user_unref(u);
        f->user = v;
    } else if (slice_ieq(name, "skipme") && (slice_ieq(v, "yes") || slice_ieq(v, "no"))) {
        f->skip_me = slice_ieq(v, "yes");
    } else {
        cmd_syntax_error(c);
        return false;
    }
    return true;
}

void client_kill_command(struct cmd_ctx *c) {
    struct kill_filter f = { .type = -1, .skip_me = true };
    if (c->argc == 3) { /* CLIENT KILL ip:port */
        f.addr = c->argv[2];
        f.skip_me = false;
        if (kill_all(c, &f) == 0) {
            reply_error(c->r, "ERR No such client");
        } else {
            reply_ok(c->r);
        }
        return;
    }
    for (int i = 2; i < c->argc; i += 2) {
        if (i + 1 >= c->argc) {
            cmd_syntax_error(c);
            return;
        }
        if (!kill_option(c, &f, c->argv[i], c->argv[i + 1])) return;
    }
    reply_int(c->r, kill_all(c, &f));
}

/* ---- names ---- */

static bool printable(struct slice v) {
    for (size_t i = 0; i < v.len; i++)
        if (v.ptr[i] < '!' || v.ptr[i] > '~') return false;
    return true;
}

void client_setname_command(struct cmd_ctx *c) {
    struct client *cl = client_of(c->s);
    if (!printable(c->argv[2])) {
        reply_error(c->r, "ERR Client names cannot contain spaces, newlines or special characters.");
        return;
    }
    client_set_string(cl, &cl->name, c->argv[2]);
    reply_ok(c->r);
}

void client_getname_command(struct cmd_ctx *c) {
    const struct client *cl = client_of(c->s);
    if (cl->name) {
        reply_bulk_cstr(c->r, cl->name);
    } else {
        reply_null(c->r);
    }
}

void client_setinfo_command(struct cmd_ctx *c) {
    struct client *cl = client_of(c->s);
    struct slice what = c->argv[2];
    bool is_name = slice_ieq(what, "lib-name");
    if (!is_name && !slice_ieq(what, "lib-ver")) {
        reply_errorf(c->r, "ERR Unrecognized option '%.*s'", (int)what.len, what.ptr);
        return;
    }
    if (!printable(c->argv[3])) {
        reply_errorf(c->r, "ERR %.*s cannot contain spaces, newlines or special characters.", (int)what.len, what.ptr);
        return;
    }
    client_set_string(cl, is_name ? &cl->lib_name : &cl->lib_ver, c->argv[3]);
    reply_ok(c->r);
}

/* ---- PAUSE ---- */

void client_pause_command(struct cmd_ctx *c) {
    struct server *srv = server_of(c);
    bool all = true;
    int64_t ms, now = clock_wall_ms();
    if (c->argc > 4) {
        cmd_unknown_sub(c);
        return;
    }
    if (c->argc == 4) {
        if (slice_ieq(c->argv[3], "write")) {
            all = false;
        } else if (!slice_ieq(c->argv[3], "all")) {
            reply_error(c->r, "ERR CLIENT PAUSE mode must be WRITE or ALL");
            return;
        }
    }
    if (!cmd_arg_ll(c, c->argv[2], &ms, "ERR timeout is not an integer or out of range")) return;
    if (ms < 0) {
        reply_error(c->r, "ERR timeout is negative");
        return;
    }
    if (ms > INT64_MAX - now) {
        reply_error(c->r, "ERR timeout is out of range");
        return;
    }
    client_pause_begin(srv, now + ms, all);
    dispatch_close_gate(c); /* the reply promises that nothing is being written any more */
    reply_ok(c->r);
}

static void resume_posted(struct io_thread *th, void *arg) {
    (void)arg;
    client_resume_paused(th);
}

void client_unpause_command(struct cmd_ctx *c) {
    struct server *srv = server_of(c);
    client_pause_end(srv, INT64_MAX);
    for (int t = 0; t < srv->n_threads; t++) io_thread_post(&srv->threads[t], resume_posted, NULL);
    reply_ok(c->r);
}

/* ---- switches ---- */

static int on_off(struct cmd_ctx *c, struct slice v) {
    if (slice_ieq(v, "on")) return 1;
    if (slice_ieq(v, "off")) return 0;
    cmd_syntax_error(c);
    return -1;
}

static void set_flag(struct client *cl, unsigned bit, bool on) {
    if (on) {
        atomic_fetch_or(&cl->flags, bit);
    } else {
        atomic_fetch_and(&cl->flags, ~bit);
    }
}

void client_no_evict_command(struct cmd_ctx *c) {
    int on = on_off(c, c->argv[2]);
    if (on < 0) return;
    c->s->no_evict = on;
    set_flag(client_of(c->s), CLIENT_NO_EVICT, on);
    reply_ok(c->r);
}

void client_no_touch_command(struct cmd_ctx *c) {
    int on = on_off(c, c->argv[2]);
    if (on < 0) return;
    c->s->no_touch = on;
    set_flag(client_of(c->s), CLIENT_NO_TOUCH, on);
    reply_ok(c->r);
}

void client_reply_command(struct cmd_ctx *c) {
    struct session *s = c->s;
    if (slice_ieq(c->argv[2], "on")) {
        s->reply_mode = REPLY_ON;
        s->reply.muted = false;
        reply_ok(c->r);
    } else if (slice_ieq(c->argv[2], "off")) {
        s->reply_mode = REPLY_OFF;
        s->reply.muted = true; /* the rest of a transaction too */
    } else if (slice_ieq(c->argv[2], "skip")) {
        if (s->reply_mode != REPLY_OFF) s->reply_mode = REPLY_SKIP_NEXT;
    } else {
        cmd_syntax_error(c);
    }
}

void client_unblock_command(struct cmd_ctx *c) {
    int64_t id;
    if (c->argc > 4) {
        cmd_unknown_sub(c);
        return;
    }
    if (c->argc == 4 && !slice_ieq(c->argv[3], "timeout") && !slice_ieq(c->argv[3], "error")) {
        reply_error(c->r, "ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR");
        return;
    }
    if (!cmd_arg_ll(c, c->argv[2], &id, NULL)) return;
    bool is_error = c->argc == 4 && slice_ieq(c->argv[3], "error");
    reply_int(c->r, id > 0 && client_unblock(server_of(c), (uint64_t)id, is_error));
}

void client_help_command(struct cmd_ctx *c) {
    static const char *const lines[] = {
        "CACHING (YES|NO)",
        "    Track, or do not track, the keys of the next command (OPTIN, OPTOUT).",
        "GETREDIR",
        "    Id of the client that receives this one's invalidations.",
        "GETNAME",
        "    Name of this connection.",
        "ID",
        "    Id of this connection.",
        "INFO",
        "    This connection, as CLIENT LIST shows it.",
        "KILL <ip:port>",
        "    Close the connection from ip:port.",
        "KILL <option> <value> [<option> <value> [...]]",
        "    Close connections. Options:",
        "    * ADDR (<ip:port>|<unixsocket>:0)",
        "      By the peer's address.",
        "    * LADDR (<ip:port>|<unixsocket>:0)",
        "      By the server's address.",
        "    * TYPE (NORMAL|MASTER|REPLICA|PUBSUB)",
        "      By kind.",
        "    * USER <username>",
        "      By user.",
        "    * SKIPME (YES|NO)",
        "      Spare the caller (default: yes).",
        "LIST [TYPE (NORMAL|MASTER|REPLICA|PUBSUB)] [ID <id> [...]]",
        "    Connections, a line each.",
        "UNPAUSE",
        "    End a pause.",
        "PAUSE <timeout> [WRITE|ALL]",
        "    Put off commands, or writes, for <timeout> milliseconds.",
        "REPLY (ON|OFF|SKIP)",
        "    Choose whether replies are sent.",
        "SETNAME <name>",
        "    Name this connection.",
        "SETINFO <option> <value>",
        "    Say which library (LIB-NAME, LIB-VER) speaks.",
        "UNBLOCK <clientid> [TIMEOUT|ERROR]",
        "    Wake a client in a blocking command.",
        "TRACKING (ON|OFF) [...]",
        "    Client-side caching.",
        "TRACKINGINFO",
        "    State of client-side caching of this connection.",
        "NO-EVICT (ON|OFF)",
        "    Spare this connection when clients are evicted.",
        "NO-TOUCH (ON|OFF)",
        "    Leave LRU/LFU of keys alone.",
        NULL,
    };
    cmd_help(c, lines);
}
