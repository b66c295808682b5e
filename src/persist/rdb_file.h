/* RDB files as a whole: magic, facts about them, functions, databases, checksum. What SAVE, BGSAVE, the base of an append-only
 * file and full synchronisations are made of. Values are data/rdb.h's.
 *
 *     "REDIS0011"  AUX key value ...  FUNCTION2 code ...
 *     { SELECTDB n  RESIZEDB keys expires  { [EXPIRETIME_MS t] [IDLE s | FREQ f] type key value } ... } ...
 *     EOF  CRC64 of all before it (8 bytes, little endian; 0: none was computed)
 *
 * Written is RDB 11 (Redis 7.2, Valkey 8); read is every version from 1 to 12. Nothing that is read is trusted: memory is taken
 * as bytes come, damage is an error with a text, never a crash. */
#ifndef KETTLE_PERSIST_RDB_FILE_H
#define KETTLE_PERSIST_RDB_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/log.h"
#include "base/slice.h"
#include "data/keyspace.h"
#include "data/rdb.h"

struct scripts;

/* ---- writing ---- */

enum rdb_access { RDB_ACCESS_NONE, RDB_ACCESS_IDLE, RDB_ACCESS_FREQ }; /* what eviction goes by: maxmemory-policy */

struct rdb_file_info {
    const char *redis_ver;
    int64_t ctime_s, used_mem;
    const char *repl_id; /* 40 hex digits, or NULL: no facts of replication */
    int64_t repl_offset; /* with repl_id */
    int repl_stream_db;  /* the database selected in the stream; with repl_id */
    int version;         /* 10: for Redis 7.0, in its forms; 0: RDB_VERSION */
    bool aof_base;       /* the file is the base of an append-only file */
    bool functions_only; /* no keys */
    bool no_functions;   /* keys only */
    enum rdb_access access;
    int64_t now_ms; /* wall clock; for access clocks */
};

struct rdb_progress {
    void *arg;
    void (*keys)(void *arg, uint64_t done); /* now and then: keys written so far */
    uint64_t delay_us;                      /* after each key: rdb-key-save-delay, for tests */
};

/* The whole data set. The caller holds all shards, or is a forked child that did when it was forked. p may be NULL. What is
 * written is flushed to out's sink at the end. 0, or -errno of the sink. */
int rdb_file_write(struct rdb_out *out, struct keyspace *ks, const struct scripts *functions, const struct rdb_file_info *info,
                   const struct rdb_progress *p);

struct rdb_save_opts {
    bool compress, checksum;
    bool incremental_fsync; /* every few megabytes instead of all at the end */
    /* Asked when everything is on the disk, before the file takes the place of the old one; false: it does not (-ECANCELED). */
    bool (*may_replace)(void *arg);
    void *arg;
};
/* Into `path`, by way of `temp-PID.rdb` beside it: fsync, rename, fsync of the directory; the old file stays until the new one is
 * on the disk. 0 or -errno; err says what failed, as redis-server's log does. */
int rdb_file_save(const char *path, struct keyspace *ks, const struct scripts *functions, const struct rdb_file_info *info,
                  const struct rdb_save_opts *o, const struct rdb_progress *p, char *err, size_t cap);
/* Where a process of that number writes to before it renames: for who has killed it. */
void rdb_file_temp_path(char *ret, size_t cap, const char *path, int pid);

/* A sink for struct rdb_out and aof_commands_opts: a file, with fsync on the way. */
struct rdb_file_sink {
    int fd;
    bool incremental_fsync;
    uint64_t written, synced; /* bytes */
};
int rdb_file_sink_write(void *sink, const void *p, size_t n); /* rdb_out.sink */

/* ---- reading ---- */

struct rdb_visited {
    int db;
    unsigned type; /* enum rdb_type, as in the file */
    struct slice key;
    const struct obj *value;
    int64_t expire_ms; /* KS_NO_EXPIRE: none */
};
/* For who looks into a file: called with rdb_load_opts.arg. */
struct rdb_visit {
    void (*aux)(void *arg, struct slice name, struct slice value);
    void (*db)(void *arg, uint64_t db);
    void (*key)(void *arg, const struct rdb_visited *v); /* in place of putting it into a keyspace */
};

struct rdb_load_opts {
    int64_t now_ms;    /* wall clock: what is due by then is dropped */
    bool keep_expired; /* a replica, or an append-only file's base: nothing is dropped */
    bool allow_dup;    /* a key or a library that is there already is replaced; else it is an error */
    bool no_functions; /* libraries in it are read and left out */
    uint64_t size;     /* bytes there may be in all, 0: unknown. Bounds what is reserved by a claimed number of keys */
    void *arg;         /* of the functions below; any of these may be NULL */
    /* Now and then. False: loading ends with -ECANCELED. */
    bool (*progress)(void *arg, uint64_t bytes, uint64_t keys);
    void (*note)(void *arg, enum log_level level, const char *text); /* what is worth a line of the log */
    /* A library, in place of making it one of `functions`. False: *ret_why (mem_free) says what is wrong with it. */
    bool (*library)(void *arg, struct slice code, char **ret_why);
    const struct rdb_visit *visit; /* NULL: none. Its functions may be NULL, too */
    int64_t key_delay_us;          /* key-load-delay, for tests: sleeps so long for each key */
    /* From 2 on: so many threads beside the caller's decode keys and put them into the keyspace, which the caller's finds in the
     * file; all else stays with the caller, and errors and notes come in the order of the file. Where a key that is there twice
     * is to be replaced, each key is to be shown or delayed, or nothing is kept: none. Nobody else touches the keyspace, or its
     * locks are used by all who do. */
    unsigned n_threads;
};

#define RDB_LOAD_THREADS_MAX 16

struct rdb_file_found {
    int version;
    bool has_repl; /* the three below were there */
    char repl_id[41];
    int64_t repl_offset;
    int repl_stream_db;
    bool aof_base; /* "aof-base" 1, or the old "aof-preamble" */
    bool has_checksum;
    int64_t ctime_s, used_mem; /* 0: not there */
    char redis_ver[32];        /* "": not there */
    uint64_t bytes;            /* read so far, the checksum included */
    uint64_t keys, expired, empty, functions;
    int last_db;       /* the database of the last key */
    const char *doing; /* what is read, as redis-check-rdb calls it: "read-key"... */
    bool has_key;
    char key[64]; /* the key that is read, cut off; with has_key */
    int type;     /* of its value; -1: not read yet */
};

/* Reads a whole file from `in`, whatever follows it stays there, into ks: added to what is there. Locks the shards it inserts
 * into by itself, for a few keys at a time; `locked`: the caller holds all, or nobody else knows of the keyspace. ks NULL:
 * nothing is kept. functions NULL: libraries are left out. 0; -EINVAL: damaged; -ENOTSUP: a version, a module or an old function
 * that cannot be read; -ECANCELED: by `progress`; then err says why, and what had been read stays in ks. */
int rdb_file_load(struct rdb_in *in, struct keyspace *ks, bool locked, struct scripts *functions, const struct rdb_load_opts *o,
                  struct rdb_file_found *ret, char *err, size_t cap);

/* A source for struct rdb_in: a file. */
struct rdb_file_source {
    int fd;
    unsigned char *buf; /* owned */
    int err;            /* errno of a read that failed; 0: none */
};
void rdb_file_source_init(struct rdb_file_source *s, struct rdb_in *in, int fd); /* fd stays the caller's */
void rdb_file_source_done(struct rdb_file_source *s);

#endif
