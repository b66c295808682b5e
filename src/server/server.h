/*
 * The server's parts and how they are wired. `struct server` is made by main() and handed down; the layers below never see it
 * (commands that live in server/ reach it through engine.server). Each field says who may touch it; docs/THREADS.md has the whole
 * table.
 */
#ifndef KETTLE_SERVER_SERVER_H
#define KETTLE_SERVER_SERVER_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/hist.h"
#include "base/list.h"
#include "cmd/batch.h"
#include "cmd/dispatch.h"
#include "data/dict.h"
#include "net/conn.h"
#include "net/loop.h"
#include "proto/resp_parse.h"
#include "server/acl_log.h"
#include "server/config.h"
#include "server/mail.h"
#include "server/tls.h"

#define KETTLE_VERSION "0.1.0"
#define REDIS_COMPAT_VERSION "7.2.4" /* what clients that look at redis_version are told */

#define MAX_IO_THREADS 64
#define MAX_REFUSALS 32 /* connections beyond maxclients that are told so at a time; the others are closed unheard */
#define MAX_LISTENERS (CONFIG_MAX_BIND * 2 + 1) /* tcp and tls on each address, the unix socket */

struct propagate;
struct server;

enum shutdown_asked {
    SHUTDOWN_NOT_ASKED = 0,
    SHUTDOWN_SIGTERM,
    SHUTDOWN_SIGINT,
    SHUTDOWN_BY_COMMAND,
    SHUTDOWN_READY /* all is written */
};
enum listener_kind { LISTEN_TCP = 0, LISTEN_TLS, LISTEN_UNIX };

struct listener {
    struct loop_acceptor acceptor;
    struct io_thread *thread;
    enum listener_kind kind;
    bool active;
};

/* One per I/O thread. Everything belongs to that thread, but for what says otherwise. */
struct io_thread {
    struct server *srv;
    int index;
    pthread_t tid;
    struct loop *loop; /* loop_post: any thread */
    struct batch batch;
    struct resp_argv argv; /* for whoever parses next */
    struct conn_thread conns;
    struct listener listeners[MAX_LISTENERS];
    int n_listeners;
    struct loop_timer cron;
    struct loop_timer unpause, woken_again, script_turn;
    bool stopping;
    int64_t stop_deadline_us;
    /* clients of this thread. The list and the (S) strings of the clients in it change only under registry_lock, taken by the
     * owner to change and by any thread to read. */
    pthread_mutex_t registry_lock;
    struct list clients;
    struct list *scan_at;                             /* idle check goes on here */
    _Alignas(64) struct mailbox mail;                 /* mail_post: any thread; on a cache line of its own */
    _Alignas(64) struct subscriptions *subscriptions; /* of its clients, pubsub.c */
    struct dict by_id;                                /* its clients by session.id */
    struct list monitors;                             /* client.monitor_node */
    struct list tracking;                             /* client.tracking_node: those with tracking on */
    struct changed *changed;                          /* keys changed in this turn that BCAST clients are to be told of */
    size_t changed_n, changed_cap;
    struct list paused;       /* clients put off by CLIENT PAUSE */
    struct list woken;        /* clients that are blocked no longer: what they sent meanwhile is to be run */
    struct list gone;         /* closed clients that wait for a script's end */
    struct list replicas;     /* replica.thread_node: those that get the replication stream */
    bool wants_acks;          /* a client of its waits for replicas: they are to be asked */
    _Atomic bool repl_due;    /* it is being woken because there is something for them; any thread sets it */
    struct client *scripting; /* whose script takes long; NULL: none */
    /* statistics: written by the owner, read by any (relaxed) */
    _Atomic uint64_t reads, writes, bytes_in, bytes_out, ktls_bytes_in, ktls_bytes_out;
    _Atomic uint64_t n_clients, n_blocked, n_block_timers; /* the latter two: under the registry_lock */
    _Atomic int64_t clients_mem;                           /* what its clients hold, while maxmemory-clients is set */
};

struct server_stats { /* relaxed atomics */
    _Atomic uint64_t connections, rejected, query_buffer_closes, output_buffer_closes, idle_closes;
    _Atomic uint64_t tls_handshake_timeouts;
    _Atomic uint64_t unexpected_errors; /* replied to the primary, or to an append-only file that is loaded */
    _Atomic uint64_t expire_us, expire_time_cap;
    _Atomic uint64_t main_sys_us, main_user_us; /* processor time of thread 0, sampled by its cron */
    _Atomic int64_t startup_memory;
    _Atomic int64_t peak_memory;
    _Atomic uint64_t evicted_keys, evicted_clients, eviction_us; /* eviction_us: all the time above maxmemory */
    _Atomic int64_t eviction_since_us;                           /* monotonic; 0: not above it */
    _Atomic uint64_t inst_ops, inst_in, inst_out;                /* per second, sampled by the cron */
    _Atomic uint64_t inst_repl_in, inst_repl_out, inst_turns;    /* the same */
    _Atomic uint64_t inst_turn_us;                               /* a turn of an event loop, on average */
    _Atomic uint64_t turns_from, busy_us_from;                   /* of the event loops, at CONFIG RESETSTAT */
    _Atomic int64_t input_buffer_max, output_buffer_max;
};

/* Of all threads, since the start or (traffic) CONFIG RESETSTAT. */
struct server_traffic {
    uint64_t in, out, repl_in, repl_out; /* bytes; those of replication are in the others, too */
    uint64_t reads, writes, io_reads, io_writes;
};
struct server_turns { /* of the event loops, net/loop.h */
    uint64_t n, busy_us;
};

struct server {
    struct config *cfg;
    struct keyspace *ks;
    struct cmd_table *table;
    struct engine eng;
    struct io_thread threads[MAX_IO_THREADS];
    int n_threads;
    struct tls_state tls;
    struct server_stats stats;
    struct propagate *prop;           /* from effects to logs, propagate.h; its own lock */
    struct evict *evict;              /* evict.h */
    struct children *children;        /* the forked child, child.h; its own atomics */
    struct snapshot *snapshot;        /* RDB, snapshot.h; atomics */
    struct loading *loading;          /* loading.h; atomics */
    _Atomic unsigned refusals;        /* enum refusal: states in which commands are refused, refusal.h */
    struct aof *aof;                  /* aof_server.h; always there, whether appendonly or not */
    struct repl *repl;                /* replication.h; its own lock */
    struct migrate *migrate;          /* migrate.h; its own lock */
    pthread_mutex_t evict_lock;       /* one evict_clients at a time */
    struct tracking *tracking;        /* client-side caching, tracking.h; its own locks */
    struct slowlog *slowlog;          /* its own lock */
    struct latency *latency;          /* its own lock */
    _Atomic int n_monitors;           /* monitor.c */
    _Atomic uint64_t monitor_threads; /* mask: threads that have monitors */
    pthread_mutex_t observe_lock;     /* one observe_update at a time */
    struct pubsub *pubsub;            /* who listens to what, pubsub.h; its own locks */
    _Atomic int n_backed_up;          /* threads with too much mail, mail.c */
    _Atomic uint64_t next_client_id;
    _Atomic int64_t n_clients; /* all threads; counts connections in handshake too */
    /* CLIENT PAUSE; changed under pause_lock, read without; pause_all below */
    pthread_mutex_t pause_lock;
    _Atomic int64_t pause_until_ms; /* wall; 0: not paused */
    _Atomic bool pause_all;         /* every command, not only writes */
    struct acl_log acl_log;
    /* process */
    int64_t start_mono_us, start_wall_ms;
    char run_id[41];
    char *exec_path;
    int argc;
    enum cfg_supervised supervised; /* by whom, after start-up: never AUTO */
    char **argv;
    pthread_mutex_t config_set_lock; /* one CONFIG SET/REWRITE at a time */
    char *listening_on; /* addresses and ports of the listeners, as the configuration had them; under config_set_lock; owned */
    int listening_port, listening_tls_port; /* under config_set_lock once threads run; 0: none */
    _Atomic int shutdown_asked;             /* enum shutdown_asked */
    _Atomic unsigned shutdown_flags;        /* with SHUTDOWN_BY_COMMAND: its enum shutdown_flag */
    _Atomic bool shutdown_is_said;          /* in the log */
    int exit_status;                        /* of main(); thread 0 */
    _Atomic int threads_running;
    /* cron's memory for instantaneous figures; thread 0 only */
    uint64_t last_ops;
    struct server_traffic last_traffic;
    struct server_turns last_turns;
    int64_t last_sample_us;
    int cron_loops;
    _Atomic bool cron_paused; /* DEBUG PAUSE-CRON */
};

/* ---- io_thread.c ---- */
int io_threads_init(struct server *srv, int n); /* loops made, nothing started. 0 or -errno */
int io_threads_listen(struct server *srv);      /* all listeners of the configuration. 0 or -errno, logged */
void io_threads_start(struct server *srv);      /* threads 1..n-1 started */
void io_thread_run(struct io_thread *th);       /* thread 0: runs in the caller */
void io_threads_join(struct server *srv);
/* CONFIG SET port/tls-port/bind: opens everything new first, then swaps. False: nothing changed, logged why. Any I/O thread,
 * under config_set_lock. */
bool io_threads_relisten(struct server *srv);
void io_threads_stop(struct server *srv); /* asks every thread to close its clients in order and end. Any thread */
void io_thread_post(struct io_thread *th, void (*fn)(struct io_thread *th, void *arg), void *arg); /* runs fn on that thread */

struct io_thread *io_thread_self(void); /* the caller's; NULL when it is none */

/* ---- cron.c ---- */
void cron_start(struct io_thread *th); /* every thread: idle clients; thread 0: everything else */

/* ---- registration of commands that live here ---- */
extern const struct cmd_spec cmd_specs_acl[], cmd_specs_client[], cmd_specs_server[], cmd_specs_config[], cmd_specs_pubsub[],
    cmd_specs_observe[], cmd_specs_snapshot[], cmd_specs_migrate[], cmd_specs_replication[], cmd_specs_replicaof[],
    cmd_specs_module[];

/* ---- cmd_config.c ---- */
const char *server_apply_config(void *srv, const char *const *names, int n,
                                const char **ret_blamed); /* struct config_apply's function */
void server_apply_all(struct server *srv);                /* start-up: engine and keyspace settings from the configuration */

/* ---- auth.c ---- */
struct client;
void auth_set_password(struct server *srv, const char *pass); /* requirepass; NULL or "": none */
/* AUTH, HELLO AUTH. command: as typed, for the log of refusals. False: refused, and said so there. Both: the client's thread. */
bool auth_login(struct client *c, struct slice user, struct slice pass, struct slice command);
void auth_by_certificate(struct client *c, struct slice user); /* tls-auth-clients-user; without such a user nothing changes */
void auth_forget(struct client *c);                            /* RESET: who a new connection is */

/* ---- acl_server.c ---- */
int server_acl_start(struct server *srv);                  /* requirepass, `user` directives, aclfile. 0 or -EINVAL, logged */
bool server_acl_load(struct server *srv, struct buf *err); /* the ACL file; config_set_lock held once threads run */
int server_acl_save(struct server *srv);                   /* the same. 0 or -errno, logged */
void server_access_denied(void *srv, struct session *s, const struct acl_denial *d); /* engine_hooks.denied */
/* Users were deleted, or may have lost channels: connections that must not go on are closed. me: whose command it was. */
void server_users_changed(struct server *srv, struct session *me, bool deleted);

/* ---- info.c ---- */
/* Appends the sections asked for, in Redis's order. n 0: the default ones. */
void info_append(struct server *srv, struct buf *out, int n, const struct slice *sections);
void server_traffic_get(struct server *srv, struct server_traffic *ret);   /* any thread */
void server_turns_get(const struct server *srv, struct server_turns *ret); /* any thread */
void info_tls_certificates(struct server *srv, struct buf *out);           /* info_tls.c: the lines about them in section tls */

/* ---- process.c ---- */
void process_daemonize(void);
int process_write_pidfile(const char *path);
void process_remove_pidfile_at_exit(const char *path);
void process_title_init(int argc, char **argv);
void process_title_set(struct server *srv); /* by proc-title-template */
void process_title_text(const char *text);  /* "": stays as it is. A forked child may call it */
/* RLIMIT_NOFILE for maxclients; may lower maxclients. 0, or -EMFILE: not enough for a single client. Logged as Redis does. */
int process_raise_nofile(struct server *srv);
void process_check_backlog(struct server *srv); /* says when the kernel allows less than tcp-backlog */
void process_signals(struct server *srv);
void process_supervise(struct server *srv); /* by `supervised` and the environment: sets srv->supervised */
void process_notify_ready(struct server *srv);
void process_notify_stopping(struct server *srv);
void process_notify_status(struct server *srv, const char *text); /* what systemctl status shows. Any thread; does not wait */
void process_banner(struct server *srv);
/* SORT ALPHA's order by locale-collate. False: there is no such locale. At start-up, and under the CONFIG SET lock. */
bool server_apply_locale(struct server *srv);
/* What the kernel is asked for this process (process_kernel.c). */
void process_set_cpus(struct server *srv); /* by *-cpulist; before there are threads */
void process_disable_thp(struct server *srv);
/* By oom-score-adj and the role. NULL, or why not, logged. Any thread. */
const char *process_set_oom_score(struct server *srv);
struct process_child { /* what a forked child asks for itself: made before the fork, for it reads the configuration */
    bool has_cpus, has_oom_score;
    cpu_set_t cpus;
    int oom_score;
};
void process_child_prepare(struct server *srv, bool is_rewrite, struct process_child *ret);
void process_child_apply(const struct process_child *p);             /* in the child */
void process_listen_text(struct server *srv, char *out, size_t cap); /* {listen-addr} */

#endif
