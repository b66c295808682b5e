/* The primary's stream, applied: the client of kind PRIMARY. Thread 0, but for repl_apply_commit, which holds shard locks. */
#ifndef KETTLE_SERVER_REPL_APPLY_H
#define KETTLE_SERVER_REPL_APPLY_H

#include "server/client.h"

struct primary_stream;

struct primary_stream *repl_apply_new(void);
/* c is a client made by client_adopt. db: selected in the stream where it goes on; left: what was received of it already. */
void repl_apply_begin(struct client *c, uint64_t epoch, int db, struct slice left);
void repl_apply_free(struct client *c);
void repl_apply_data(struct client *c, char *data, size_t len); /* its connection's on_data */
void repl_apply_kept(struct client *c);                         /* what was put off may be run now */
bool repl_apply_is_current(const struct client *c);             /* false: nothing more of it is to be applied. Any thread */
/* engine_hooks.applied: a command of the stream, or its transaction, has run; the locks it had are still held. */
void repl_apply_commit(void *srv, struct cmd_ctx *ctx);

#endif
