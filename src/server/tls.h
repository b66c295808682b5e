/* The server's TLS state: the current context, the kernel probe, figures. tls_ctx_get may be called by any thread; changes come
 * from CONFIG SET, one at a time. */
#ifndef KETTLE_SERVER_TLS_H
#define KETTLE_SERVER_TLS_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/hist.h"
#include "ktls/ktls.h"
#include "server/config.h"

#define TLS_MAX_CIPHER_NAMES 32
#define TLS_MAX_ADVISORIES 16

/* tls_watch.c */
struct tls_watch {
    /* thread 0's */
    bool running; /* a check is under way, in a thread of its own */
    int64_t last_us;
    pthread_t thread;
    /* the check's while it runs, else thread 0's */
    uint64_t seen, failed;    /* fingerprints: of a change that may not be over yet, of the last set that was no good; 0: none */
    uint64_t told_generation; /* the context looked at last, and how many stale OCSP responses it had then */
    int told_stale;
    _Atomic bool finished;
};

struct tls_state {
    pthread_mutex_t lock;        /* the context pointers and the cipher table; innermost */
    struct ktls_ctx *ctx;        /* NULL: no TLS configured */
    struct ktls_ctx *client_ctx; /* for connections this server makes; NULL: no TLS, or no CA configured */
    struct ktls_probe probe;
    struct hist *handshake_us;
    struct {
        char name[64];
        uint64_t count;
    } ciphers[TLS_MAX_CIPHER_NAMES];
    int n_ciphers;
    _Atomic int64_t live_ktls, live_user, live_ktls_tx; /* connections open now */
    _Atomic bool reason_logged;
    struct ktls_tickets *tickets; /* pointer under lock; NULL before the first tls_load */
    char *tickets_path;           /* what it was made of; changed by tls_load only. NULL: in memory */
    struct tls_reloads {
        uint64_t ok, failed; /* after the start; under lock */
        int64_t last_s;      /* wall clock of the last one, either way; 0: none yet */
        char error[256];     /* why the last one failed, "" when it did not */
    } reloads;
    _Atomic uint64_t generation; /* contexts put in place so far */
    bool rollback_due;           /* a CONFIG SET failed here, its values are about to be put back; under the CONFIG SET lock */
    struct tls_watch watch;
    /* Known holes of this kernel, looked up by the first tls_load; n -1: not yet. Under lock. */
    struct ktls_advisory advisories[TLS_MAX_ADVISORIES];
    int n_advisories;
    bool advisories_logged;
};

int tls_init(struct tls_state *t);
void tls_done(struct tls_state *t);
/* Makes a context of the configuration and puts it in place; connections keep the one they started with. On failure nothing
 * changes and err says why. */
int tls_load(struct tls_state *t, struct config *cfg, char *err, size_t errlen);
/* The same as a reload, by CONFIG SET or because files changed: counted, and logged when it fails. Under the CONFIG SET lock. 0
 * or an error, then err says why; -EAGAIN: files changed while they were read, nothing was counted or changed. */
int tls_reload(struct tls_state *t, struct config *cfg, const char *why, char *err, size_t errlen);
struct ktls_ctx *tls_ctx_get(struct tls_state *t); /* a reference, or NULL; ktls_ctx_unref it */
/* The same for connections that this server makes (replication, MIGRATE, with tls-replication yes): tls-client-cert-file, else
 * the server's certificate; the other side's chain is verified. Its name is to be left alone (net_connect_opts.no_name_check), as
 * Redis does: links go to addresses. */
struct ktls_ctx *tls_client_ctx_get(struct tls_state *t);
/* ktls_ctx_files of both; client may be NULL. */
void tls_files_state(const struct ktls_ctx *server, const struct ktls_ctx *client, struct ktls_files_state *ret);
/* tls_tickets.c. The ring of ticket keys for a new context: the present one when path (NULL or "": in memory) is still the same,
 * so that tickets stay good over CONFIG SET; else a new one. *ret is a reference. 0, KTLS_ECONFIG with err filled, -ENOMEM. */
int tls_tickets_get(struct tls_state *t, const char *path, int rotation_s, int lifetime_s, struct ktls_tickets **ret, char *err,
                    size_t errlen);
/* The context with it is in place: it becomes the present one. Takes the reference. */
void tls_tickets_use(struct tls_state *t, struct ktls_tickets *ring_take, const char *path, int rotation_s, int lifetime_s);
void tls_tickets_cron(struct tls_state *t); /* about once a second, thread 0: rotation, changed files; logs */
int tls_tickets_count(struct tls_state *t); /* keys now, 0 without TLS; any thread */
void tls_count_open(struct tls_state *t, const struct ktls_conn_info *info);
void tls_count_close(struct tls_state *t, enum ktls_mode mode);
struct server;
/* tls_watch.c: looks after the files, every tls-auto-reload-interval seconds. Thread 0's cron. */
void tls_watch_tick(struct server *srv);
void tls_watch_stop(struct server *srv); /* waits for a check under way; main thread, at exit */
/* tls-ktls auto does not use the kernel because of a hole that a peer could use. */
bool tls_held_back(struct tls_state *t, struct config *cfg);
/* The CVEs, comma-separated, "" when there are none. */
void tls_advisory_names(struct tls_state *t, char *ret, size_t cap);
/* The kernel encrypts what is sent, in one suite at least: tls-ktls tx has a meaning. */
bool tls_kernel_sends(const struct ktls_probe *p);
/* Why tls-ktls yes cannot be kept to here; NULL: it can, or it is not yes. Valid until the thread's next call. */
const char *tls_refusal(const struct tls_state *t, struct config *cfg);
/* "TLSv1.2 TLSv1.3" to KTLS_PROTO_* bits. 0: text empty. -1: a word is not known. */
int tls_parse_protocols(const char *text);

#endif
