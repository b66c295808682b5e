/* The append-only file that is being written: what commands append, write(2), fsync(2).
 *
 *   threads that run commands: aof_file_append -> pending
 *   aof_file_write: pending -> out -> write(2)          by an I/O thread before it sleeps (everysec, no), by thread "aof"
 * (always) thread "aof": fdatasync(2)                          once a second, or as long as there is something (always)
 *
 * Offsets count the bytes appended since the server started, whichever file they went to: appended >= written >= fsynced. With
 * `always` one fsync is for all that was written before it: who waits for an offset is told when fsynced has passed it.
 *
 * Errors are Redis's: with `always` the process cannot promise anything any more and ends; otherwise the error is kept (writes
 * are refused meanwhile, aof_file_error), nothing of a short write stays in the file, and the same bytes are tried again.
 *
 * Threads: every function may be called by any thread but where it says otherwise. Locks are held for a copy or one write(2). */
#ifndef KETTLE_PERSIST_AOF_FILE_H
#define KETTLE_PERSIST_AOF_FILE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/slice.h"

enum aof_fsync { AOF_FSYNC_NO = 0, AOF_FSYNC_EVERYSEC, AOF_FSYNC_ALWAYS };

struct aof_file_hooks {
    void *arg;
    /* Thread "aof", with `always`: replies that wait for offsets up to this one may go. */
    void (*safe_up_to)(void *arg, uint64_t offset);
    void (*synced)(void *arg);     /* thread "aof": aof_file_fsynced has moved */
    bool (*spare_disk)(void *arg); /* no fsyncs now: no-appendfsync-on-rewrite, and a child is writing */
    bool (*child_runs)(void *arg); /* a forked child is writing: "aof-write-active-child" */
    void (*latency)(void *arg, const char *event, uint64_t usec);
    void (*error)(void *arg, int err); /* what aof_file_error says has changed. Any thread */
    void (*fatal)(void *arg);          /* logged already; does not return */
};

struct aof_file;
struct aof_file *aof_file_new(const struct aof_file_hooks *hooks); /* no file yet, no thread */
struct aof_file *aof_file_free(struct aof_file *f);                /* ends the thread; closes without writing */
void aof_file_stop(struct aof_file *f);                            /* ends the thread: no hook is called any more */
/* Before the first open, and whenever the setting changes. */
void aof_file_set_policy(struct aof_file *f, enum aof_fsync policy);
void aof_file_set_timestamps(struct aof_file *f, bool on); /* aof-timestamp-enabled: "#TS:1234\r\n" in front of units */

/* ---- appending ---- */
/* A whole unit: these pieces one behind the other, with the timestamp's annotation in front when that is due. One thread at a
 * time (the propagation's lock). The offset behind it. */
uint64_t aof_file_append(struct aof_file *f, const struct slice *pieces, int n);
/* What is appended so far stands for the replication stream up to this offset: repl_fsynced is that, once it is on disk. */
void aof_file_note_repl(struct aof_file *f, uint64_t repl_offset);

/* ---- writing ---- */
bool aof_file_is_behind(const struct aof_file *f); /* something is appended and not written */
/* Writes what there is; everysec may put it off for two seconds, where an fsync under way would keep it waiting. always: wakes
 * thread "aof". */
void aof_file_write(struct aof_file *f);
/* Everything written, and with sync also fsynced, in this call. 0 or -errno. */
int aof_file_flush(struct aof_file *f, bool sync);

/* ---- the file ---- */
/* No write(2) from here to aof_file_let_go but by who holds it: he changes which file is written, or the manifest. No lock is
 * held, and nobody waits: who would write leaves it to be written at the end. One holder at a time, the caller sees to that. */
void aof_file_hold(struct aof_file *f);
void aof_file_let_go(struct aof_file *f);
/* Held. Starts on fd_take, which is open for writing at its end, `size` bytes long. What is pending is written to the file that
 * was open before, which is synced and closed in the background. -errno: that could not be written, nothing changed and fd is
 * still the caller's. */
int aof_file_switch(struct aof_file *f, int fd_take, int64_t size);
/* Held. Drops what is pending, closes without sync: the file does not count any more. */
void aof_file_abandon(struct aof_file *f);
int aof_file_close(struct aof_file *f); /* held: written, fsynced, closed. 0 or -errno (closed all the same) */
bool aof_file_is_open(const struct aof_file *f);
void aof_file_set_total(struct aof_file *f, int64_t bytes); /* of all files of the manifest: then counted on */

/* ---- state ---- */
struct aof_file_state {
    uint64_t appended, written, fsynced;
    uint64_t repl_fsynced; /* offset of the replication stream that is on disk */
    int64_t total;         /* bytes of all files */
    int64_t file;          /* bytes of the one that is written */
    size_t buffered;       /* bytes of memory */
    uint64_t delayed_fsyncs;
    bool fsync_runs;
    int write_err, fsync_err; /* errno; 0: fine */
};
void aof_file_state_get(struct aof_file *f, struct aof_file_state *ret);
void aof_file_reset_stats(struct aof_file *f);                       /* delayed_fsyncs */
const _Atomic uint64_t *aof_file_appended(const struct aof_file *f); /* where the offset is kept */
size_t aof_file_pending(const struct aof_file *f);                   /* bytes appended and not written; no lock */
uint64_t aof_file_fsynced(const struct aof_file *f);
uint64_t aof_file_repl_fsynced(const struct aof_file *f);
int aof_file_error(const struct aof_file *f); /* errno for which writes are to be refused; 0: none. Cheap */

#endif
