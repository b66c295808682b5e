/*
 * What makes a process a service: daemon, pid file, title, limits, signals, supervisor, banner. Main thread at start-up; the
 * title may also be set by CONFIG SET.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/log.h"
#include "server/replication.h"
#include "server/server.h"

#define RESERVED_FDS 32 /* log, /proc, certificates, what a library opens */

extern char **environ;

static struct {
    char *start;
    size_t len;
} title_area;
static char *pidfile_path;
static struct server *signal_server; /* what the signal handler marks */

void process_daemonize(void) {
    if (fork() != 0) _exit(0);
    setsid();
    int fd = open("/dev/null", O_RDWR);
    if (fd < 0) return;
    dup2(fd, STDIN_FILENO);
    dup2(fd, STDOUT_FILENO);
    dup2(fd, STDERR_FILENO);
    if (fd > STDERR_FILENO) close(fd);
}

int process_write_pidfile(const char *path) {
    FILE *f = fopen(path, "we");
    if (!f) return -errno;
    fprintf(f, "%d\n", (int)getpid());
    return fclose(f) == 0 ? 0 : -errno;
}

void process_remove_pidfile_at_exit(const char *path) {
    if (pidfile_path) {
        log_notice("Removing the pid file.");
        unlink(pidfile_path);
    }
    mem_free(pidfile_path);
    pidfile_path = path ? mem_strdup(path) : NULL;
}

/* The argument area, and the environment behind it once that is copied away, is where ps reads the title from. */
void process_title_init(int argc, char **argv) {
    char *end = argv[0];
    for (int i = 0; i < argc; i++)
        if (argv[i] == end) end = argv[i] + strlen(argv[i]) + 1;
    int n = 0;
    for (; environ[n]; n++)
        if (environ[n] == end) end = environ[n] + strlen(environ[n]) + 1;
    char **copy = mem_calloc((size_t)n + 1, sizeof *copy);
    for (int i = 0; i < n; i++) copy[i] = mem_strdup(environ[i]);
    environ = copy;
    title_area.start = argv[0];
    title_area.len = (size_t)(end - argv[0]);
}

void process_listen_text(struct server *srv, char *out, size_t cap) {
    struct config *cfg = srv->cfg;
    pthread_mutex_lock(&cfg->lock);
    long long port = cfg_get(&cfg->port) ? cfg_get(&cfg->port) : cfg_get(&cfg->tls_port);
    const char *addr = cfg->n_bind ? cfg->bind[0] : "*";
    addr += *addr == '-';
    if (port) {
        snprintf(out, cap, strchr(addr, ':') ? "[%s]:%lld" : "%s:%lld", addr, port);
    } else {
        snprintf(out, cap, "%s", cfg->unixsocket ? cfg->unixsocket : "");
    }
    pthread_mutex_unlock(&cfg->lock);
}

static void expand(struct server *srv, const char *template, struct buf *out) {
    char listen[256];
    process_listen_text(srv, listen, sizeof listen);
    char port[16], tls_port[16];
    snprintf(port, sizeof port, "%lld", (long long)cfg_get(&srv->cfg->port));
    snprintf(tls_port, sizeof tls_port, "%lld", (long long)cfg_get(&srv->cfg->tls_port));
    const struct {
        const char *name, *value;
    } vars[] = {
        { "{title}", srv->argv[0] },
        { "{listen-addr}", listen },
        { "{server-mode}", "" },
        { "{port}", port },
        { "{tls-port}", tls_port },
        { "{unixsocket}", srv->cfg->unixsocket ? srv->cfg->unixsocket : "" },
        { "{config-file}", srv->cfg->config_file ? srv->cfg->config_file : "" },
    };
    while (*template) {
        size_t i;
        for (i = 0; i < sizeof vars / sizeof *vars; i++)
            if (strncmp(template, vars[i].name, strlen(vars[i].name)) == 0) break;
        if (i < sizeof vars / sizeof *vars) {
            buf_append_cstr(out, vars[i].value);
            template += strlen(vars[i].name);
        } else {
            buf_append_char(out, *template ++);
        }
    }
    while (out->len && out->data[out->len - 1] == ' ') out->len--;
}

void process_title_text(const char *text) {
    if (!*text || !title_area.start) return;
    size_t len = strlen(text), n = len < title_area.len - 1 ? len : title_area.len - 1;
    memset(title_area.start, 0, title_area.len);
    memcpy(title_area.start, text, n);
}

void process_title_set(struct server *srv) {
    if (!cfg_get(&srv->cfg->set_proc_title) || !title_area.start) return;
    char *template = config_str_dup(srv->cfg, &srv->cfg->proc_title_template);
    struct buf text = { 0 };
    /* argv[0] is about to be overwritten: main kept a copy in srv->argv. */
    expand(srv, template ? template : "{title} {listen-addr} {server-mode}", &text);
    mem_free(template);
    process_title_text(buf_cstr(&text));
    buf_done(&text);
}

/* Descriptors that are not clients': loops and listening sockets of every thread, twice while CONFIG SET changes ports. */
static rlim_t reserved_fds(struct server *srv) {
    pthread_mutex_lock(&srv->cfg->lock);
    int per_thread = 2 + 4 * (srv->cfg->n_bind ? srv->cfg->n_bind : 1);
    pthread_mutex_unlock(&srv->cfg->lock);
    return RESERVED_FDS + MAX_REFUSALS + (rlim_t)(cfg_get(&srv->cfg->io_threads) * per_thread);
}

int process_raise_nofile(struct server *srv) {
    rlim_t reserved = reserved_fds(srv), want = (rlim_t)cfg_get(&srv->cfg->maxclients) + reserved;
    struct rlimit lim;
    if (getrlimit(RLIMIT_NOFILE, &lim) != 0) {
        log_warning("Unable to obtain the current NOFILE limit (%s), assuming 1024 and setting the max clients configuration "
                    "accordingly.",
                    strerror(errno));
        atomic_store(&srv->cfg->maxclients, reserved < 1023 ? 1024 - (int64_t)reserved : 1);
        return 0;
    }
    if (lim.rlim_cur >= want) return 0;
    struct rlimit up = { .rlim_cur = want, .rlim_max = lim.rlim_max > want ? lim.rlim_max : want };
    if (setrlimit(RLIMIT_NOFILE, &up) == 0) {
        log_notice("Increased maximum number of open files to %llu (it was originally set to %llu).", (unsigned long long)want,
                   (unsigned long long)lim.rlim_cur);
        return 0;
    }
    up.rlim_cur = up.rlim_max = lim.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &up) != 0) up.rlim_cur = lim.rlim_cur;
    long long have = (long long)up.rlim_cur - (long long)reserved;
    if (have < 1) {
        log_warning(
            "Your current 'ulimit -n' of %llu is not enough for the server to start. Please increase your open file limit to "
            "at least %llu. Exiting.",
            (unsigned long long)up.rlim_cur, (unsigned long long)want);
        return -EMFILE;
    }
    log_warning("You requested maxclients of %lld requiring at least %llu max file descriptors.",
                (long long)cfg_get(&srv->cfg->maxclients), (unsigned long long)want);
    log_warning("Server can't set maximum open files to %llu because of OS error: %s.", (unsigned long long)want,
                strerror(EPERM));
    log_warning("Current maximum open files is %llu. maxclients has been reduced to %lld to compensate for low ulimit. If "
                "you need higher maxclients increase 'ulimit -n'.",
                (unsigned long long)up.rlim_cur, have);
    atomic_store(&srv->cfg->maxclients, have);
    return 0;
}

void process_check_backlog(struct server *srv) {
    FILE *f = fopen("/proc/sys/net/core/somaxconn", "re");
    long long most = 0, want = (long long)cfg_get(&srv->cfg->tcp_backlog);
    if (!f) return;
    if (fscanf(f, "%lld", &most) == 1 && most > 0 && most < want)
        log_warning(
            "WARNING: The TCP backlog setting of %lld cannot be enforced because /proc/sys/net/core/somaxconn is set to the "
            "lower value of %lld.",
            want, most);
    fclose(f);
}

static size_t put_number(char *out, uint64_t v) {
    char digits[20];
    size_t n = 0;
    do {
        digits[n++] = (char)('0' + v % 10);
        v /= 10;
    } while (v);
    for (size_t i = 0; i < n; i++) out[i] = digits[n - 1 - i];
    return n;
}

/* "PID:signal-handler (TIME) TEXT", redis-server's form, with async-signal-safe calls only. */
static void log_from_handler(const char *text) {
    static const char tag[] = ":signal-handler (";
    char line[160];
    size_t n = put_number(line, (uint64_t)getpid()), len = strlen(text);
    memcpy(line + n, tag, sizeof tag - 1);
    n += sizeof tag - 1;
    n += put_number(line + n, (uint64_t)time(NULL));
    line[n++] = ')';
    line[n++] = ' ';
    memcpy(line + n, text, len);
    n += len;
    line[n++] = '\n';
    log_raw_signal_safe(line, n);
}

static void on_terminate(int sig) {
    if (!signal_server) return;
    int saved = errno;
    if (atomic_load(&signal_server->shutdown_asked) && sig == SIGINT) {
        log_from_handler("You insist... exiting now.");
        if (pidfile_path) unlink(pidfile_path);
        _exit(1);
    }
    log_from_handler(sig == SIGINT ? "Received SIGINT scheduling shutdown..." : "Received SIGTERM scheduling shutdown...");
    atomic_store(&signal_server->shutdown_asked, sig == SIGINT ? SHUTDOWN_SIGINT : SHUTDOWN_SIGTERM);
    errno = saved;
}

void process_signals(struct server *srv) {
    signal_server = srv;
    signal(SIGHUP, SIG_IGN);
    signal(SIGPIPE, SIG_IGN);
    struct sigaction sa = { .sa_handler = on_terminate };
    sigemptyset(&sa.sa_mask);
    sigaction(SIGTERM, &sa, NULL);
    sigaction(SIGINT, &sa, NULL);
}

/* ---- supervisors ---- */

static bool has_env(const char *name) {
    const char *v = getenv(name);
    return v && *v;
}

/* One datagram of sd_notify(3)'s protocol. */
static void tell_systemd(const char *text, int flags) {
    const char *path = getenv("NOTIFY_SOCKET");
    struct sockaddr_un sa = { .sun_family = AF_UNIX };
    size_t n = path ? strlen(path) : 0;
    if (n == 0 || n >= sizeof sa.sun_path) return;
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0) return;
    for (size_t i = 0; i < n; i++) sa.sun_path[i] = path[i]; /* the rest is zero */
    if (*path == '@') sa.sun_path[0] = 0;
    socklen_t len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n);
    if (sendto(fd, text, strlen(text), MSG_NOSIGNAL | flags, (struct sockaddr *)&sa, len) < 0)
        log_warning("Cannot notify the supervisor: %s", strerror(errno));
    close(fd);
}

void process_supervise(struct server *srv) {
    int64_t mode = cfg_get(&srv->cfg->supervised);
    if (mode == CFG_SUPERVISED_AUTO)
        mode = has_env("UPSTART_JOB")     ? CFG_SUPERVISED_UPSTART
               : has_env("NOTIFY_SOCKET") ? CFG_SUPERVISED_SYSTEMD
                                          : CFG_SUPERVISED_NO;
    if (mode == CFG_SUPERVISED_UPSTART && !has_env("UPSTART_JOB")) {
        log_warning("Upstart supervision requested, but UPSTART_JOB not found!");
        mode = CFG_SUPERVISED_NO;
    } else if (mode == CFG_SUPERVISED_SYSTEMD && !has_env("NOTIFY_SOCKET")) {
        log_warning("systemd supervision requested or auto-detected, but NOTIFY_SOCKET not found!");
    } else if (mode == CFG_SUPERVISED_SYSTEMD) {
        log_notice("Supervised by systemd. Please make sure you set appropriate values for TimeoutStartSec and TimeoutStopSec in "
                   "your service unit.");
    }
    srv->supervised = (enum cfg_supervised)mode;
}

void process_notify_ready(struct server *srv) {
    if (srv->supervised == CFG_SUPERVISED_SYSTEMD)
        tell_systemd(repl_is_replica(srv->repl) ? "STATUS=Ready to accept connections in read-only mode. Waiting for MASTER <-> "
                                                  "REPLICA sync\nREADY=1\n"
                                                : "STATUS=Ready to accept connections\nREADY=1\n",
                     0);
    if (srv->supervised != CFG_SUPERVISED_UPSTART) return;
    log_notice("Supervised by upstart, will stop to signal readiness.");
    unsetenv("UPSTART_JOB");
    raise(SIGSTOP);
}

void process_notify_stopping(struct server *srv) {
    if (srv->supervised == CFG_SUPERVISED_SYSTEMD) tell_systemd("STOPPING=1\n", 0);
}

void process_notify_status(struct server *srv, const char *text) {
    char line[256];
    if (srv->supervised != CFG_SUPERVISED_SYSTEMD) return;
    snprintf(line, sizeof line, "STATUS=%s\n", text);
    tell_systemd(line, MSG_DONTWAIT);
}

void process_banner(struct server *srv) {
    struct config *cfg = srv->cfg;
    bool logo = cfg_get(&cfg->always_show_logo) ||
                (isatty(STDOUT_FILENO) && (!cfg->logfile || !*cfg->logfile) && !cfg_get(&cfg->syslog_enabled));
    long long port = cfg_get(&cfg->port), tls_port = cfg_get(&cfg->tls_port);
    char ports[80];
    if (port && tls_port) {
        snprintf(ports, sizeof ports, "Port: %lld, TLS port: %lld", port, tls_port);
    } else {
        snprintf(ports, sizeof ports, tls_port ? "TLS port: %lld" : "Port: %lld", tls_port ? tls_port : port);
    }
    if (!logo) {
        log_notice("Running mode=standalone, %s%lld%s",
                   port || !tls_port ? "port=" : "tls-port=", port || !tls_port ? port : tls_port, ".");
        if (port && tls_port) log_notice("TLS on port=%lld.", tls_port);
        return;
    }
    log_raw("\n"
            "         ( )  (    ) )\n"
            "        _______________        Kettle %s (Redis %s compatible) %d bit\n"
            "      _/               \\__\n"
            "     / |    kettle      | \\\\    Running in standalone mode\n"
            "     \\_|                |_/    %s\n"
            "       \\_______________/       PID: %ld\n\n",
            KETTLE_VERSION, REDIS_COMPAT_VERSION, (int)sizeof(long) * 8, ports, (long)getpid());
}
