/*
 * I/O threads: each has a loop, its own listening sockets (SO_REUSEPORT, so the kernel spreads connections) and its clients.
 * Thread 0 runs in main() and also does the cron. What a thread wants of another goes through io_thread_post.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/thread.h"
#include "cmd/effects.h"
#include "cmd/script/script.h"
#include "net/listen.h"
#include "server/aof_server.h"
#include "server/client.h"
#include "server/migrate.h"
#include "server/pubsub.h"
#include "server/repl_wait.h"
#include "server/replica.h"
#include "server/tracking.h"

#define SHUTDOWN_US 1500000 /* clients get this long to read what is queued */

static _Thread_local struct io_thread *self;

struct io_thread *io_thread_self(void) {
    return self;
}

/* ---- posting ---- */

struct post {
    struct inbox_msg msg;
    void (*fn)(struct io_thread *th, void *arg);
    void *arg;
};

static void post_run(struct inbox_msg *msg, void *owner) {
    struct post *p = list_entry(msg, struct post, msg);
    p->fn(owner, p->arg);
    mem_free(p);
}

void io_thread_post(struct io_thread *th, void (*fn)(struct io_thread *th, void *arg), void *arg) {
    struct post *p = mem_zalloc(sizeof *p);
    p->msg.run = post_run;
    p->fn = fn;
    p->arg = arg;
    loop_post(th->loop, &p->msg);
}

/* ---- accepting ---- */

static void accept_posted(struct io_thread *th, void *arg) {
    client_accept(th, (int)(intptr_t)arg, LISTEN_UNIX);
}

/* A new TLS connection costs a private-key operation, another one next to nothing. */
static unsigned accepts_per_turn(struct server *srv, enum listener_kind kind) {
    return (unsigned)cfg_get(kind == LISTEN_TLS ? &srv->cfg->max_new_tls_connections_per_cycle
                                                : &srv->cfg->max_new_connections_per_cycle);
}

static void on_accept(struct loop_acceptor *a, int fd) {
    struct listener *l = a->arg;
    struct io_thread *th = l->thread;
    struct server *srv = th->srv;
    a->max_per_turn = accepts_per_turn(srv, l->kind); /* CONFIG SET may have changed it */
    if (fd < 0) {
        log_warning("Accepting client connection: %s", strerror(-fd));
        return;
    }
    if (l->kind != LISTEN_UNIX || srv->n_threads == 1) {
        client_accept(th, fd, l->kind);
        return;
    }
    /* A unix socket has one listener: its connections are dealt out in turn. */
    static _Atomic unsigned turn;
    struct io_thread *to = &srv->threads[atomic_fetch_add(&turn, 1) % (unsigned)srv->n_threads];
    if (to == th) {
        client_accept(th, fd, LISTEN_UNIX);
    } else {
        io_thread_post(to, accept_posted, (void *)(intptr_t)fd);
    }
}

/* ---- listeners ---- */

struct listen_plan { /* what one thread is to listen on */
    int fd[MAX_LISTENERS];
    enum listener_kind kind[MAX_LISTENERS];
    int n;
};

static void plan_close(struct listen_plan *plan) {
    for (int i = 0; i < plan->n; i++) close(plan->fd[i]);
    plan->n = 0;
}

/* SO_REUSEPORT would let two servers share a port by mistake: a bind without it tells first. */
static int port_is_free(const char *addr, int port, char *err, size_t errlen) {
    int fd = listen_tcp(addr, port, 1, false, err, errlen);
    if (fd < 0) return fd;
    close(fd);
    return 0;
}

/* Accepted sockets have their listener's mark. */
static void mark_socket(struct server *srv, int fd) {
    unsigned mark = (unsigned)cfg_get(&srv->cfg->socket_mark_id);
    if (mark && setsockopt(fd, SOL_SOCKET, SO_MARK, &mark, sizeof mark) < 0)
        log_warning("Unable to set the socket mark of a listening socket: %s", strerror(errno));
}

static int plan_tcp(struct server *srv, struct listen_plan *plans, int port, enum listener_kind kind, bool check_free, char *err,
                    size_t errlen) {
    struct config *cfg = srv->cfg;
    for (int b = 0; b < cfg->n_bind; b++) {
        const char *addr = cfg->bind[b];
        bool optional = *addr == '-';
        addr += optional;
        int r = check_free ? port_is_free(addr, port, err, errlen) : 0;
        for (int t = 0; r == 0 && t < srv->n_threads; t++) {
            int fd = listen_tcp(addr, port, (int)cfg_get(&cfg->tcp_backlog), true, err, errlen);
            if (fd < 0) {
                r = fd;
                break;
            }
            mark_socket(srv, fd);
            struct listen_plan *p = &plans[t];
            p->fd[p->n] = fd;
            p->kind[p->n++] = kind;
        }
        if (r == 0) continue;
        log_warning("Warning: Could not create server TCP listening socket %s:%d: %s", addr, port, err);
        bool unavailable =
            r == -EADDRNOTAVAIL || r == -EAFNOSUPPORT || r == -EPROTONOSUPPORT || r == -ENOPROTOOPT || r == -ESOCKTNOSUPPORT;
        /* "*" and "::*" both by default: a machine without IPv6 still starts. */
        if (unavailable && (optional || strchr(addr, '*'))) continue;
        return r;
    }
    return 0;
}

static int plan_unix(struct config *cfg, struct listen_plan *plan, char *err, size_t errlen) {
    if (!cfg->unixsocket || !*cfg->unixsocket) return 0;
    int fd = listen_unix(cfg->unixsocket, (mode_t)cfg_get(&cfg->unixsocketperm), (int)cfg_get(&cfg->tcp_backlog), err, errlen);
    if (fd < 0) {
        log_warning("Failed opening Unix socket: %s", err);
        return fd;
    }
    plan->fd[plan->n] = fd;
    plan->kind[plan->n++] = LISTEN_UNIX;
    return 0;
}

/* A port this process listens on cannot be told from one another server has: it is not checked. */
static bool is_own_port(const struct server *srv, int port) {
    return port == srv->listening_port || port == srv->listening_tls_port;
}

static int make_plans(struct server *srv, struct listen_plan *plans, bool with_unix) {
    struct config *cfg = srv->cfg;
    char err[256] = "";
    int port = (int)cfg_get(&cfg->port), tls_port = (int)cfg_get(&cfg->tls_port), r = 0;
    pthread_mutex_lock(&cfg->lock);
    if (port && port == tls_port) {
        log_warning("port and tls-port are both %d.", port);
        r = -EADDRINUSE;
    }
    if (!r && port) {
        r = plan_tcp(srv, plans, port, LISTEN_TCP, !is_own_port(srv, port), err, sizeof err);
        if (r) log_warning("Failed listening on port %d (tcp), aborting.", port);
    }
    if (!r && tls_port) {
        r = plan_tcp(srv, plans, tls_port, LISTEN_TLS, !is_own_port(srv, tls_port), err, sizeof err);
        if (r) log_warning("Failed listening on port %d (tls), aborting.", tls_port);
    }
    if (!r && with_unix) r = plan_unix(cfg, &plans[0], err, sizeof err);
    pthread_mutex_unlock(&cfg->lock);
    if (!r) {
        srv->listening_port = port;
        srv->listening_tls_port = tls_port;
    }
    for (int t = 0; r && t < srv->n_threads; t++) plan_close(&plans[t]);
    return r;
}

/* What the configuration wants listened on, in one string. The caller frees it. */
static char *wanted_listeners(struct config *cfg) {
    struct buf text = { 0 };
    pthread_mutex_lock(&cfg->lock);
    buf_printf(&text, "%lld %lld", (long long)cfg_get(&cfg->port), (long long)cfg_get(&cfg->tls_port));
    for (int b = 0; b < cfg->n_bind; b++) buf_printf(&text, " %s", cfg->bind[b]);
    pthread_mutex_unlock(&cfg->lock);
    char *copy = mem_strdup(buf_cstr(&text));
    buf_done(&text);
    return copy;
}

static void adopt_plan(struct io_thread *th, const struct listen_plan *plan) {
    for (int i = 0; i < plan->n; i++) {
        struct listener *l = NULL;
        for (int k = 0; k < MAX_LISTENERS && !l; k++)
            if (!th->listeners[k].active) l = &th->listeners[k];
        memset(l, 0, sizeof *l);
        l->thread = th;
        l->kind = plan->kind[i];
        l->active = true;
        l->acceptor = (struct loop_acceptor){
            .fd = plan->fd[i], .on_accept = on_accept, .arg = l, .max_per_turn = accepts_per_turn(th->srv, l->kind)
        };
        loop_acceptor_start(&l->acceptor, th->loop);
    }
}

static void stop_listening(struct io_thread *th, bool unix_too) {
    for (int k = 0; k < MAX_LISTENERS; k++) {
        struct listener *l = &th->listeners[k];
        if (!l->active || (l->kind == LISTEN_UNIX && !unix_too)) continue;
        loop_acceptor_stop(&l->acceptor);
        l->active = false;
    }
}

int io_threads_listen(struct server *srv) {
    struct listen_plan *plans = mem_calloc((size_t)srv->n_threads, sizeof *plans);
    int r = make_plans(srv, plans, true);
    int total = 0;
    for (int t = 0; r == 0 && t < srv->n_threads; t++) {
        total += plans[t].n;
        adopt_plan(&srv->threads[t], &plans[t]);
    }
    mem_free(plans);
    if (r == 0) srv->listening_on = wanted_listeners(srv->cfg);
    if (r == 0 && total == 0) {
        log_warning("Configured to not listen anywhere, exiting.");
        r = -EINVAL;
    }
    return r;
}

static void relisten_posted(struct io_thread *th, void *arg) {
    struct listen_plan *plan = arg;
    stop_listening(th, false);
    if (th->stopping) {
        plan_close(plan);
    } else {
        adopt_plan(th, plan);
    }
    mem_free(plan);
}

/* Closing a listener resets the connections in its backlog: the old values again, after a CONFIG SET that failed, close none. */
bool io_threads_relisten(struct server *srv) {
    char *wanted = wanted_listeners(srv->cfg);
    if (srv->listening_on && strcmp(wanted, srv->listening_on) == 0) {
        mem_free(wanted);
        return true;
    }
    struct listen_plan *plans = mem_calloc((size_t)srv->n_threads, sizeof *plans);
    if (make_plans(srv, plans, false) != 0) {
        mem_free(plans);
        mem_free(wanted);
        return false;
    }
    mem_free(srv->listening_on);
    srv->listening_on = wanted;
    for (int t = 0; t < srv->n_threads; t++) {
        struct listen_plan *one = mem_alloc(sizeof *one);
        *one = plans[t];
        io_thread_post(&srv->threads[t], relisten_posted, one);
    }
    mem_free(plans);
    return true;
}

/* ---- life ---- */

static void before_sleep(void *arg) {
    struct io_thread *th = arg;
    if (mail_waits(&th->mail)) mail_deliver(th);
    client_run_woken(th);
    tracking_broadcast(th);
    if (mail_waits(&th->mail)) mail_deliver(th);
    repl_wait_before_sleep(th);
    repl_before_sleep(th);
    aof_before_sleep(th);
    conn_thread_flush(&th->conns);
    /* What came in last may have woken somebody. */
    if (!list_empty(&th->woken)) loop_timer_set(th->loop, &th->woken_again, clock_mono_us());
}

static void woken_again_fired(struct loop_timer *t) {
    client_run_woken(list_entry(t, struct io_thread, woken_again));
}

static void unpause_fired(struct loop_timer *t) {
    struct io_thread *th = list_entry(t, struct io_thread, unpause);
    int64_t until = atomic_load(&th->srv->pause_until_ms), now = clock_wall_ms();
    if (until && now < until) {
        client_arm_unpause(th);
        return;
    }
    client_resume_paused(th);
}

int io_threads_init(struct server *srv, int n) {
    static const enum loop_backend want[] = { LOOP_AUTO, LOOP_EPOLL, LOOP_URING };
    srv->n_threads = n;
    for (int i = 0; i < n; i++) {
        struct io_thread *th = &srv->threads[i];
        th->srv = srv;
        th->index = i;
        int wanted = (int)cfg_get(&srv->cfg->event_loop), r = loop_new(want[wanted], &th->loop);
        if (r == 0) r = conn_thread_init(&th->conns, th->loop);
        if (r < 0) {
            log_warning("Failed creating the event loop%s. Error message: '%s'",
                        wanted == CFG_LOOP_URING ? " (event-loop uring; 'event-loop auto' takes epoll where io_uring is missing)"
                                                 : "",
                        strerror(-r));
            return r;
        }
        th->conns.gate = aof_gate(srv->aof);
        loop_set_owner(th->loop, th);
        loop_set_yields(th->loop, n > 1);
        loop_set_before_sleep(th->loop, before_sleep, th);
        pthread_mutex_init(&th->registry_lock, NULL);
        list_init(&th->clients);
        list_init(&th->paused);
        client_script_init(th);
        list_init(&th->woken);
        th->scan_at = &th->clients;
        th->unpause.fn = unpause_fired;
        th->woken_again.fn = woken_again_fired;
        inbox_init(&th->mail.box);
        th->subscriptions = subscriptions_new();
        client_ids_init(th);
        list_init(&th->tracking);
        list_init(&th->monitors);
        list_init(&th->replicas);
    }
    return 0;
}

void io_thread_run(struct io_thread *th) {
    self = th;
    effects_thread((unsigned)th->index);
    cron_start(th);
    loop_run(th->loop);
}

static void *thread_main(void *arg) {
    struct io_thread *th = arg;
    char name[16];
    snprintf(name, sizeof name, "io_thd_%d", th->index);
    pthread_setname_np(pthread_self(), name);
    io_thread_run(th);
    return NULL;
}

void io_threads_start(struct server *srv) {
    for (int i = 1; i < srv->n_threads; i++) {
        int r = thread_start(&srv->threads[i].tid, thread_main, &srv->threads[i]);
        if (r) {
            log_warning("Fatal: Can't initialize IO thread: %s", strerror(-r));
            _exit(1);
        }
    }
}

static void stop_posted(struct io_thread *th, void *arg) {
    (void)arg;
    if (th->stopping) return;
    th->stopping = true;
    th->stop_deadline_us = clock_mono_us() + SHUTDOWN_US;
    stop_listening(th, true);
    list_for_each_safe(n, tmp, &th->clients) {
        struct client *c = list_entry(n, struct client, node);
        if (c->conn.state == CONN_HANDSHAKE) {
            conn_close(&c->conn, CONN_END_LOCAL, "");
        } else {
            client_close(c);
        }
    }
    /* The cron sees when the last one has gone and ends the loop. */
    loop_timer_set(th->loop, &th->cron, clock_mono_us());
}

void io_threads_stop(struct server *srv) {
    scripts_stop(srv->eng.scripts);
    migrate_stop(srv);
    for (int i = 0; i < srv->n_threads; i++) io_thread_post(&srv->threads[i], stop_posted, NULL);
}

void io_threads_join(struct server *srv) {
    for (int i = 1; i < srv->n_threads; i++) pthread_join(srv->threads[i].tid, NULL);
    aof_end(srv->aof); /* its thread posts to the loops */
    mem_free(srv->listening_on);
    srv->listening_on = NULL;
    for (int i = 0; i < srv->n_threads; i++) {
        struct io_thread *th = &srv->threads[i];
        mail_done(th);
        conn_thread_done(&th->conns);
        mem_free(th->argv.argv);
        th->loop = loop_free(th->loop);
        th->subscriptions = subscriptions_free(th->subscriptions);
        dict_clear(&th->by_id, NULL);
        pthread_mutex_destroy(&th->registry_lock);
    }
}
