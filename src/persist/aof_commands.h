/* A data set as commands: the base of an append-only file without an RDB (aof-use-rdb-preamble no). Elements go 64 a command, so
 * that loading it stalls no more than a client's commands would. */
#ifndef KETTLE_PERSIST_AOF_COMMANDS_H
#define KETTLE_PERSIST_AOF_COMMANDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "data/keyspace.h"
#include "persist/rdb_file.h"

struct scripts;

#define AOF_ITEMS_PER_COMMAND 64

struct aof_commands_opts {
    int64_t timestamp_s; /* an annotation in front; 0: none */
    /* Takes the bytes. 0 or -errno, which ends the writing. */
    int (*sink)(void *arg, const void *p, size_t n);
    void *arg;                    /* sink's */
    struct rdb_progress progress; /* with an arg of its own */
};

/* The caller holds all shards, or is a forked child that did when it was forked. functions may be NULL. 0 or -errno. */
int aof_commands_write(struct keyspace *ks, const struct scripts *functions, const struct aof_commands_opts *o);

#endif
