/* The server's TLS state: the current context, the kernel probe, figures. tls_ctx_get may be called by any thread; changes come
 * from CONFIG SET, one at a time. */
#ifndef KETTLE_SERVER_TLS_H
#define KETTLE_SERVER_TLS_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>

#include "base/hist.h"
#include "ktls/ktls.h"
#include "server/config.h"

#define TLS_MAX_CIPHER_NAMES 32

struct tls_state {
    pthread_mutex_t lock; /* ctx pointer and the cipher table; innermost */
    struct ktls_ctx *ctx; /* NULL: no TLS configured */
    struct ktls_probe probe;
    struct hist *handshake_us;
    struct {
        char name[64];
        uint64_t count;
    } ciphers[TLS_MAX_CIPHER_NAMES];
    int n_ciphers;
    _Atomic int64_t live_ktls, live_user; /* connections open now */
    _Atomic bool reason_logged;
    struct ktls_tickets *tickets; /* pointer under lock; NULL before the first tls_load */
    char *tickets_path;           /* what it was made of; changed by tls_load only. NULL: in memory */
};

int tls_init(struct tls_state *t);
void tls_done(struct tls_state *t);
/* Makes a context of the configuration and puts it in place; connections keep the one they started with. On failure nothing
 * changes and err says why. */
int tls_load(struct tls_state *t, struct config *cfg, char *err, size_t errlen);
struct ktls_ctx *tls_ctx_get(struct tls_state *t); /* a reference, or NULL; ktls_ctx_unref it */
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
/* "TLSv1.2 TLSv1.3" to KTLS_PROTO_* bits. 0: text empty. -1: a word is not known. */
int tls_parse_protocols(const char *text);

#endif
