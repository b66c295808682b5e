/*
 * An attempt's thread: connects to the primary, shakes hands, asks for the stream. Place in the flow: repl_link.c starts it; what
 * follows FULLRESYNC is in repl_receive.c; with the connection up to date it asks thread 0 to go on (link_step_*).
 *
 * Thread: its own, named "repl_link". All waiting is before deadlines of repl-timeout from the last byte on. Log lines are
 * redis-server's, where it has them.
 */
#include "server/repl_attempt.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/rand.h"
#include "base/thread.h"
#include "net/connect.h"

#define READERS_WAIT_US 5000

/* ---- life ---- */

void attempt_ref(struct repl_attempt *a) {
    atomic_fetch_add(&a->refs, 1);
}

void attempt_unref(struct repl_attempt *a) {
    if (!a || atomic_fetch_sub(&a->refs, 1) != 1) return;
    mem_free(a->host);
    mem_free(a->source);
    mem_free(a->announce_ip);
    mem_free(a->user);
    if (a->auth) ktls_wipe(a->auth, strlen(a->auth));
    mem_free(a->auth);
    ktls_ctx_unref(a->tls);
    for (int i = 0; i < a->n_libraries; i++) mem_free((void *)(uintptr_t)a->libraries[i].ptr);
    mem_free(a->libraries);
    mem_free(a->path);
    ks_free(a->data);
    pthread_mutex_destroy(&a->lock);
    pthread_cond_destroy(&a->changed);
    mem_free(a);
}

void attempt_cancel(struct repl_attempt *a) {
    pthread_mutex_lock(&a->lock);
    atomic_store(&a->cancelled, true);
    if (a->fd >= 0) shutdown(a->fd, SHUT_RDWR); /* whatever waits for it returns */
    pthread_cond_broadcast(&a->changed);
    pthread_mutex_unlock(&a->lock);
}

bool attempt_step(struct repl_attempt *a, void (*fn)(struct repl_attempt *a)) {
    pthread_mutex_lock(&a->lock);
    if (!attempt_is_cancelled(a)) {
        a->step = fn;
        attempt_ref(a);
        io_thread_post(&a->srv->threads[0], link_run_step, a); /* under the lock: nothing is posted after attempt_cancel */
        while (a->step && !attempt_is_cancelled(a)) pthread_cond_wait(&a->changed, &a->lock);
    }
    bool done = !a->step && !attempt_is_cancelled(a);
    pthread_mutex_unlock(&a->lock);
    return done;
}

const char *attempt_io_error(struct repl_attempt *a, int rc) {
    static __thread char text[256];
    if (rc == -ETIMEDOUT) return "Connection timed out";
    if (rc == -ENODATA || rc == 0) return "Connection closed by the primary";
    if (rc == -EMSGSIZE) return "the reply is too long";
    net_error_text(&a->io, rc, text, sizeof text);
    return text;
}

/* ---- handshake ---- */

static bool failed(struct repl_attempt *a, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static bool failed(struct repl_attempt *a, const char *fmt, ...) {
    char text[REPLICA_LINE_MAX + 256];
    va_list ap;
    if (attempt_is_cancelled(a)) return false; /* nobody is interested in how it ended */
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    log_warning("%s", text);
    return false;
}

static bool send_commands(struct repl_attempt *a, struct buf *b) {
    int r = syncio_write_full(&a->io, b->data, b->len, attempt_deadline(a));
    ktls_wipe(b->data, b->len); /* AUTH */
    buf_done(b);
    return r == 0 || failed(a, "Sending command to master in replication handshake: %s", attempt_io_error(a, r));
}

static bool read_reply(struct repl_attempt *a, char line[REPLICA_LINE_MAX]) {
    ssize_t n = syncio_read_line(&a->io, line, REPLICA_LINE_MAX, attempt_deadline(a));
    if (n < 0) return failed(a, "Failed to read response from the server: %s", attempt_io_error(a, (int)n));
    return true;
}

static void put(struct buf *b, const char *one, const char *two, const char *three) {
    const struct slice argv[] = { slice_cstr(one), slice_cstr(two ? two : ""), slice_cstr(three ? three : "") };
    replica_put_command(b, three ? 3 : two ? 2 : 1, argv);
}

static bool ping(struct repl_attempt *a) {
    struct buf b = { 0 };
    char line[REPLICA_LINE_MAX];
    put(&b, "PING", NULL, NULL);
    if (!send_commands(a, &b) || !read_reply(a, line)) return false;
    if (!replica_is_alive(slice_cstr(line))) return failed(a, "Error reply to PING from master: '%s'", line);
    log_notice("Master replied to PING, replication can continue...");
    return true;
}

/* AUTH and what the primary is to know of this replica, in one go. */
static bool introduce(struct repl_attempt *a) {
    struct buf b = { 0 };
    char line[REPLICA_LINE_MAX], port[16];
    snprintf(port, sizeof port, "%d", a->announce_port);
    if (a->auth) put(&b, "AUTH", a->user ? a->user : a->auth, a->user ? a->auth : NULL);
    put(&b, "REPLCONF", "listening-port", port);
    if (a->announce_ip) put(&b, "REPLCONF", "ip-address", a->announce_ip);
    const struct slice capa[] = { SLICE_LIT("REPLCONF"), SLICE_LIT("capa"), SLICE_LIT("eof"), SLICE_LIT("capa"),
                                  SLICE_LIT("psync2") };
    replica_put_command(&b, 5, capa);
    if (!send_commands(a, &b)) return false;
    if (a->auth) {
        if (!read_reply(a, line)) return false;
        if (line[0] == '-') return failed(a, "Unable to AUTH to MASTER: %s", line);
    }
    if (!read_reply(a, line)) return false;
    if (line[0] == '-') log_notice("(Non critical) Master does not understand REPLCONF listening-port: %s", line);
    if (a->announce_ip) {
        if (!read_reply(a, line)) return false;
        if (line[0] == '-') log_notice("(Non critical) Master does not understand REPLCONF ip-address: %s", line);
    }
    if (!read_reply(a, line)) return false;
    if (line[0] == '-') log_notice("(Non critical) Master does not understand REPLCONF capa: %s", line);
    return true;
}

/* What Redis before 2.8 says. SYNC has no answer of its own: what comes next is the RDB. The history has no name that the primary
 * would know again, so it gets one of this server's own, which is what its replicas go on by. */
static bool ask_by_sync(struct repl_attempt *a) {
    log_notice("Retrying with SYNC...");
    int r = syncio_write_full(&a->io, "SYNC\r\n", 6, attempt_deadline(a));
    if (r < 0) return failed(a, "I/O error writing to MASTER: %s", attempt_io_error(a, r));
    a->is_pre_psync = true;
    a->answer = (struct psync_reply){ .kind = ANSWER_FULL };
    rand_hex_id(a->answer.id, REPLICA_ID_LEN);
    return true;
}

static bool refused(struct repl_attempt *a, const char *line) {
    if (strncmp(line, "-ERR", 4) == 0)
        log_notice("Master does not support PSYNC or is in error state (reply: %s)", line);
    else
        log_warning("Unexpected reply to PSYNC from master: %s", line);
    return !a->failover && !attempt_is_cancelled(a) && ask_by_sync(a); /* SYNC does not ask to take over */
}

static bool ask_for_stream(struct repl_attempt *a) {
    struct buf b = { 0 };
    char line[REPLICA_LINE_MAX];
    if (a->id[0])
        log_notice("Trying a partial resynchronization (request %s:%lld).", a->id, (long long)a->offset);
    else
        log_notice("Partial resynchronization not possible (no cached master)");
    replica_put_psync(&b, a->id[0] ? a->id : NULL, a->offset, a->failover);
    if (!send_commands(a, &b)) return false;
    do {
        if (!read_reply(a, line)) return false;
    } while (line[0] == '\0'); /* the primary is alive, and not ready */
    replica_parse_psync(slice_cstr(line), &a->answer);
    a->is_refused = a->answer.kind != ANSWER_FULL && a->answer.kind != ANSWER_CONTINUE;
    switch (a->answer.kind) {
    case ANSWER_FULL:
        log_notice("Full resync from master: %s:%lld", a->answer.id, (long long)a->answer.offset);
        return true;
    case ANSWER_CONTINUE:
        if (a->id[0]) {
            log_notice("Successful partial resynchronization with master.");
            return true;
        }
        return failed(a, "Unexpected reply to PSYNC from master: %s", line);
    case ANSWER_LATER:
        log_notice("Master is currently unable to PSYNC but should be in the future: %s", line);
        return false;
    case ANSWER_REFUSED:
        return refused(a, line);
    default:
        return failed(a, "Unexpected reply to PSYNC from master: %s", line);
    }
}

/* ---- the thread ---- */

static bool connect_to_primary(struct repl_attempt *a) {
    char err[256] = "";
    struct net_connect_opts o = { .host = a->host, .port = a->port, .source = a->source, .tls = a->tls, .no_name_check = true };
    int r = net_connect(&a->io, &o, attempt_deadline(a), err, sizeof err);
    pthread_mutex_lock(&a->lock);
    bool wanted = !attempt_is_cancelled(a);
    if (r == 0 && wanted) a->fd = a->io.fd;
    pthread_mutex_unlock(&a->lock);
    if (!wanted) return false;
    if (r == -ETIMEDOUT) return failed(a, "Timeout connecting to the MASTER...");
    if (r < 0) return failed(a, "Error condition on socket for SYNC: %s", err);
    log_notice("Non blocking connect for SYNC fired the event.");
    return true;
}

/* Replicas of this server are closed by their own threads. */
static void put_in_place(struct repl_attempt *a) {
    while (attempt_step(a, link_step_loaded) && a->must_wait) usleep(READERS_WAIT_US);
}

static void run(struct repl_attempt *a) {
    if (!connect_to_primary(a)) return;
    link_note_state(a, LINK_HANDSHAKE);
    if (!ping(a) || !introduce(a) || !ask_for_stream(a)) return;
    if (a->answer.kind == ANSWER_CONTINUE)
        attempt_step(a, link_step_continue);
    else if (attempt_receive(a))
        put_in_place(a);
}

static void *thread_main(void *arg) {
    struct repl_attempt *a = arg;
    pthread_setname_np(pthread_self(), "repl_link");
    run(a);
    /* The descriptor is closed only when nobody can shut down another one of the same number. */
    pthread_mutex_lock(&a->lock);
    a->fd = -1;
    pthread_mutex_unlock(&a->lock);
    if (!a->is_taken) {
        if (a->io.fd >= 0) syncio_close(&a->io, clock_mono_us());
        attempt_step(a, link_step_failed);
    }
    if (a->data && !a->is_taken && a->load == LOAD_SWAP)
        log_notice("MASTER <-> REPLICA sync: Discarding temporary DB in background");
    ks_free(a->data);
    a->data = NULL;
    struct repl_link *l = a->srv->repl->link;
    attempt_unref(a);
    atomic_fetch_sub_explicit(&l->n_threads, 1, memory_order_release); /* from here on nothing of the server's is touched */
    return NULL;
}

int attempt_start(struct repl_attempt *a) {
    pthread_t tid;
    struct repl_link *l = a->srv->repl->link;
    attempt_ref(a);
    atomic_fetch_add_explicit(&l->n_threads, 1, memory_order_relaxed);
    int r = thread_start(&tid, thread_main, a);
    if (r < 0) {
        atomic_fetch_sub_explicit(&l->n_threads, 1, memory_order_relaxed);
        attempt_unref(a);
        return r;
    }
    pthread_detach(tid);
    return 0;
}
