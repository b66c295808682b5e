/*
 * MONITOR. Place in the flow: a command has run -> one line, made once -> mail to each thread that has monitors -> their output
 * queues. A monitor that does not read is closed by its output limit like any other client.
 */
#include "server/monitor.h"

#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/str.h"
#include "server/client.h"
#include "server/observe.h"

struct monitor_line;

struct line_mail {
    struct mail mail;
    struct monitor_line *line;
};

struct monitor_line {
    _Atomic unsigned refs;
    size_t len;
    const char *text; /* behind the mails */
    struct line_mail mails[];
};

int monitor_count(struct server *srv) {
    return atomic_load_explicit(&srv->n_monitors, memory_order_relaxed);
}

void monitor_start(struct client *c) {
    struct io_thread *th = c->th;
    atomic_fetch_or(&c->flags, CLIENT_MONITOR);
    list_push_back(&th->monitors, &c->monitor_node);
    atomic_fetch_or(&c->srv->monitor_threads, 1ULL << th->index);
    atomic_fetch_add(&c->srv->n_monitors, 1);
    observe_update(c->srv);
}

void monitor_stop(struct client *c) {
    struct io_thread *th = c->th;
    if (!(atomic_load(&c->flags) & CLIENT_MONITOR)) return;
    atomic_fetch_and(&c->flags, ~(unsigned)CLIENT_MONITOR);
    list_remove(&c->monitor_node);
    if (list_empty(&th->monitors)) atomic_fetch_and(&c->srv->monitor_threads, ~(1ULL << th->index));
    atomic_fetch_sub(&c->srv->n_monitors, 1);
    observe_update(c->srv);
}

static void line_arrived(struct inbox_msg *msg, void *owner) {
    struct monitor_line *line = list_entry(list_entry(msg, struct mail, msg), struct line_mail, mail)->line;
    struct io_thread *th = owner;
    list_for_each(n, &th->monitors) {
        struct client *c = list_entry(n, struct client, monitor_node);
        if (!client_takes_pushes(c) || c->s.reply.muted) continue;
        obuf_append(&c->conn.out, line->text, line->len);
        client_pushed(c);
    }
    if (atomic_fetch_sub_explicit(&line->refs, 1, memory_order_acq_rel) == 1) mem_free(line);
}

static void make_text(const struct cmd_ctx *c, struct buf *out) {
    const struct client *cl = client_of(c->s);
    int64_t now = clock_wall_us();
    buf_printf(out, "+%lld.%06lld [%d ", (long long)(now / 1000000), (long long)(now % 1000000), atomic_load(&c->s->db));
    if (c->script) {
        buf_append_cstr(out, "lua]");
    } else if (cl->kind == LISTEN_UNIX) {
        buf_printf(out, "unix:%.*s]", (int)(strlen(cl->addr) - 2), cl->addr); /* its address is the path and ":0" */
    } else {
        buf_printf(out, "%s]", cl->addr);
    }
    for (int i = 0; i < c->argc; i++) {
        buf_append_char(out, ' ');
        str_quote(out, observe_is_secret(c, i) ? SLICE_LIT(OBSERVE_REDACTED) : c->argv[i]);
    }
    buf_append(out, "\r\n", 2);
}

void monitor_feed(struct server *srv, struct cmd_ctx *c) {
    struct buf text = { 0 };
    uint64_t threads = atomic_load(&srv->monitor_threads);
    unsigned n = (unsigned)__builtin_popcountll(threads), i = 0;
    if (n == 0) return;
    make_text(c, &text);
    size_t mails = n * sizeof(struct line_mail);
    struct monitor_line *line = mem_alloc(sizeof *line + mails + text.len);
    char *bytes = (char *)line->mails + mails;
    atomic_init(&line->refs, n);
    memcpy(bytes, text.data, text.len);
    line->text = bytes;
    line->len = text.len;
    for (uint64_t m = threads; m; m &= m - 1, i++) {
        line->mails[i] = (struct line_mail){ { { .run = line_arrived }, sizeof *line + text.len / n }, line };
        mail_post(&srv->threads[__builtin_ctzll(m)], &line->mails[i].mail);
    }
    buf_done(&text);
}

void monitor_show(void *srv, struct cmd_ctx *c) {
    if (monitor_count(srv) && c->s->owner) monitor_feed(srv, c);
}
