/*
 * The TLS peers of tests/integration/test_peers.py: one program for each library, the same command line and the same output.
 *
 *     PEER server --cert F --key F [--http] COMMON
 *     PEER client --port P --ca F --send F [--expect F | --save F] [--lines] [--connections N] COMMON
 *     COMMON: [--version 1.2|1.3] [--suites LIST] [--update-every BYTES] [--policy user|kernel|tx]
 *     PEER client --jobs           one client for each line of standard input, which is its options; then {"done": true}
 *
 * Server: prints {"listening": PORT}, then serves one connection after the other: echoes what comes, or with --http answers
 * "GET /N" with N bytes of a pattern and "POST" with the body. It ends when its standard input does.
 * Client: each connection after the first offers the session of the one before. It sends the file in pieces of growing size
 * (--lines: line by line), and after each waits for as much to come back; all of it must equal the file of --expect. --save: the
 * whole file is sent, then what comes up to the end of the stream is written there.
 * Both print one line of JSON for each connection. --update-every: KeyUpdate after so many bytes sent, the peer's asked for too.
 *
 * tls_peer.c holds all of that but the TLS; each library's file defines the functions below. One thread.
 */
#ifndef TLS_PEER_H
#define TLS_PEER_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#define PEER_TIMEOUT_MS 20000
#define PEER_NAME "localhost" /* in the server's certificate */

struct peer_args {
    bool is_server, http, lines;
    bool only12, only13;
    int port, connections;
    size_t update_every;
    const char *cert, *key, *ca, *suites, *send, *expect, *save;
    const char *policy; /* ktls-peer's alone */
};

/* One connection: what is known about it, as printed. */
struct peer_conn {
    int fd; /* blocking, with PEER_TIMEOUT_MS set on it */
    const char *version, *cipher, *mode, *reason;
    bool resumed;
    bool clean; /* close_notify came */
    unsigned long long updates_in, updates_out;
    unsigned long long bytes_in, bytes_out, next_update;
    char error[300]; /* "" while all is well */
};

/* Makes the contexts; no session is known. args stays. False: said on stderr, the program ends with status 2. */
bool peer_init(const struct peer_args *args);
/* Frees what a client's peer_init() made. */
void peer_done(void);
/* Handshake on c->fd; fills the facts. False: c->error says why. */
bool peer_open(struct peer_conn *c);
/* Bytes > 0; 0: the stream ended (c->clean: by close_notify); -1: c->error. Blocks. */
ssize_t peer_read(struct peer_conn *c, void *buf, size_t len);
/* All of it, or false and c->error. Blocks. */
bool peer_write(struct peer_conn *c, const void *buf, size_t len);
/* KeyUpdate, the peer's asked for. False: c->error. A library that cannot says so. */
bool peer_update(struct peer_conn *c);
/* Sends close_notify. */
void peer_shutdown(struct peer_conn *c);
/* Keeps the session for the next connection, brings updates_in and updates_out up to date, frees. Also after a failed open. */
void peer_close(struct peer_conn *c);

__attribute__((format(printf, 2, 3))) bool peer_fail(struct peer_conn *c, const char *fmt, ...); /* always false */

#endif
