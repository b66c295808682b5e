/* Reading an append-only file: commands (RESP arrays of bulk strings) and annotations (lines that begin with '#'), one after the
 * other, from a source of bytes. For loading, checking and fuzzing. What is read is not trusted: memory grows with what comes,
 * never by what is claimed. One thread at a time. */
#ifndef KETTLE_PERSIST_AOF_READ_H
#define KETTLE_PERSIST_AOF_READ_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/buf.h"
#include "base/slice.h"

#define AOF_ANNOTATION_MAX 1024 /* bytes of such a line, the newline included */

enum aof_read {
    AOF_READ_COMMAND,   /* argc, argv: valid until the next call */
    AOF_READ_NOTE,      /* argv[0]: an annotation without its newline */
    AOF_READ_END,       /* the file ends between two */
    AOF_READ_TRUNCATED, /* the file ends inside of one */
    AOF_READ_BAD,       /* not the format; err and err_at say what and where */
    AOF_READ_ERROR      /* the source failed: err_no */
};

struct aof_reader {
    ssize_t (*source)(void *arg, void *p, size_t n); /* bytes, 0: the end, -errno */
    void *arg;
    int64_t offset; /* in the file, of the next command or annotation; the caller sets it when the source begins elsewhere */
    int argc;
    struct slice *argv;
    int64_t lines; /* that commands consist of, so far */
    char err[96];
    int64_t err_at;
    int err_no;
    /* private */
    struct buf buf;
    size_t pos;   /* of the next byte in buf */
    size_t begun; /* where the command under way begins */
    int argv_cap;
    bool at_end;
};

void aof_reader_init(struct aof_reader *r, ssize_t (*source)(void *arg, void *p, size_t n), void *arg);
void aof_reader_done(struct aof_reader *r);
enum aof_read aof_reader_next(struct aof_reader *r);
/* What comes next, without taking it: the bytes that could be had, at most n. For the magic at the beginning of a file. */
size_t aof_reader_peek(struct aof_reader *r, size_t n, const char **ret);
/* Plain bytes, which are not commands (an RDB in front): at most n, 0 at the end, -errno. */
ssize_t aof_reader_take(struct aof_reader *r, void *p, size_t n);
ssize_t aof_read_fd(void *arg, void *p, size_t n); /* a source: arg is a pointer to the descriptor */

/* "#TS:1234": true, and the seconds. */
bool aof_note_timestamp(struct slice note, int64_t *ret_s);

#endif
