/* States of the server in which commands are refused, or put off. One load for a command when there is none of them. */
#ifndef KETTLE_SERVER_REFUSAL_H
#define KETTLE_SERVER_REFUSAL_H

#include <stdbool.h>

#include "cmd/cmd.h"

struct server;

enum refusal {
    REFUSE_LOADING = 1 << 0,       /* -LOADING: all but CMD_LOADING */
    REFUSE_ASYNC_LOADING = 1 << 1, /* the same of CMD_NO_ASYNC_LOADING */
    REFUSE_RDB_ERROR = 1 << 2,     /* -MISCONF: writes, PING; the last BGSAVE failed */
    REFUSE_AOF_ERROR = 1 << 3,     /* the same; the append-only file cannot be written */
    REFUSE_ENDING = 1 << 4,        /* the last snapshot is being, or has been, written: everything is put off */
    REFUSE_FEW_REPLICAS = 1 << 5,  /* -NOREPLICAS: writes; min-replicas-to-write */
    REFUSE_READ_ONLY = 1 << 6,     /* -READONLY: writes; a replica with replica-read-only */
    REFUSE_STALE = 1 << 7          /* -MASTERDOWN: all but CMD_STALE; the link is down, replica-serve-stale-data no */
};

void refusal_set(struct server *srv, enum refusal why, bool on); /* any thread */
/* For hooks.before. flags: the command's, or those of all that is queued. NULL: it may run, unless *ret_postpone is set. Else the
 * error, which may be in memory of the calling thread. */
const char *refusal_of(struct server *srv, const struct cmd *cmd, unsigned flags, bool *ret_postpone);
bool refusal_is_stale(void *srv); /* hooks.is_stale */
/* A write comes from the primary: with errors on the disk the process ends, or goes on and says so
 * (replica-ignore-disk-write-errors). Thread 0. */
void refusal_check_applied(struct server *srv);
/* After a command of a log that this server applies: an error in reply says that it has other data than the log's writer, or
 * knows less. It is logged, counted in unexpected_error_replies and cleared; with panics the server ends. who ("server",
 * "replica") replied it to whom ("master"). */
void refusal_note_applied(struct server *srv, struct reply *r, const char *who, const char *whom, const char *command,
                          bool panics);
/* hooks.no_writes: the same for a write inside a script. */
const char *refusal_of_write(void *srv);
/* B: the text after "MISCONF Errors writing to the AOF file: "; set before REFUSE_AOF_ERROR is. Copied. */
void refusal_set_aof_error(struct server *srv, const char *text);

#endif
