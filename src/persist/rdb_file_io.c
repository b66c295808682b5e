/* RDB files on the disk: written whole or not at all, and read in pieces. See rdb_file.h. Threads: the caller's; a forked child
 * may use all of it (no locks, nothing of libc's but system calls and snprintf). */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/file.h"
#include "persist/rdb_file.h"

#define SYNC_BYTES (4u << 20) /* incremental fsync */
#define READ_BYTES (256u << 10)

/* ---- writing ---- */

/* Has the kernel write out what has come since, and waits for what was begun the time before: so there is never much left for the
 * fsync at the end, and the disk is busy meanwhile. An error is told here, or nowhere: the kernel tells it once. */
static int sync_some(struct rdb_file_sink *s) {
    off_t from = (off_t)s->synced, n = (off_t)(s->written - s->synced);
    if (sync_file_range(s->fd, from, n, SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE) != 0 && fdatasync(s->fd) != 0 &&
        errno != EINVAL)
        return -errno;
    posix_fadvise(s->fd, 0, from, POSIX_FADV_DONTNEED); /* it will not be read soon */
    s->synced = s->written;
    return 0;
}

int rdb_file_sink_write(void *sink, const void *p, size_t n) {
    struct rdb_file_sink *s = sink;
    int r = file_write_all(s->fd, p, n);
    if (r) return r;
    s->written += n;
    return s->incremental_fsync && s->written - s->synced >= SYNC_BYTES ? sync_some(s) : 0;
}

/* The directory part of path, with its slash; 0: the working directory. */
static size_t dir_len(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? (size_t)(slash - path) + 1 : 0;
}

void rdb_file_temp_path(char *ret, size_t cap, const char *path, int pid) {
    snprintf(ret, cap, "%.*stemp-%d.rdb", (int)dir_len(path), path, pid);
}

static int write_temp(int fd, struct keyspace *ks, const struct scripts *functions, const struct rdb_file_info *info,
                      const struct rdb_save_opts *o, const struct rdb_progress *p) {
    struct rdb_file_sink sink = { .fd = fd, .incremental_fsync = o->incremental_fsync };
    struct rdb_out out = { .sink = rdb_file_sink_write, .arg = &sink, .compress = o->compress, .checksum = o->checksum };
    int r = rdb_file_write(&out, ks, functions, info, p);
    rdb_out_done(&out);
    if (r == 0 && fsync(fd) != 0) r = -errno;
    return r;
}

static void cwd_of(char *ret, size_t cap) {
    if (!getcwd(ret, cap)) snprintf(ret, cap, "unknown");
}

int rdb_file_save(const char *path, struct keyspace *ks, const struct scripts *functions, const struct rdb_file_info *info,
                  const struct rdb_save_opts *o, const struct rdb_progress *p, char *err, size_t cap) {
    char temp[4096], cwd[1024];
    cwd_of(cwd, sizeof cwd);
    rdb_file_temp_path(temp, sizeof temp, path, (int)getpid());
    int fd = open(temp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (fd < 0) {
        int e = errno;
        snprintf(err, cap, "Failed opening the temp RDB file %s (in server root dir %s) for saving: %s", temp, cwd, strerror(e));
        return -e;
    }
    int r = write_temp(fd, ks, functions, info, o, p);
    if (close(fd) != 0 && r == 0) r = -errno;
    if (r < 0) {
        snprintf(err, cap, "Write error while saving DB to the disk(%s): %s", path, strerror(-r));
    } else if (o->may_replace && !o->may_replace(o->arg)) {
        snprintf(err, cap, "The RDB file is not wanted any more");
        r = -ECANCELED;
    } else if (rename(temp, path) != 0) {
        r = -errno;
        snprintf(err, cap, "Error moving temp DB file %s on the final destination %s (in server root dir %s): %s", temp, path,
                 cwd, strerror(-r));
    } else if ((r = file_sync_dir_of(path)) < 0) {
        snprintf(err, cap, "Failed to fsync directory while saving DB: %s", strerror(-r));
        return r;
    }
    if (r < 0) unlink(temp);
    return r;
}

/* ---- reading ---- */

static bool read_more(struct rdb_in *in) {
    struct rdb_file_source *s = in->arg;
    ssize_t n;
    do {
        n = read(s->fd, s->buf, READ_BYTES);
    } while (n < 0 && errno == EINTR);
    if (n < 0) s->err = errno;
    if (n <= 0) return false;
    in->p = s->buf;
    in->end = s->buf + n;
    return true;
}

void rdb_file_source_init(struct rdb_file_source *s, struct rdb_in *in, int fd) {
    *s = (struct rdb_file_source){ .fd = fd, .buf = mem_alloc(READ_BYTES) };
    *in = (struct rdb_in){ .p = s->buf, .end = s->buf, .more = read_more, .arg = s };
    posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL);
}

void rdb_file_source_done(struct rdb_file_source *s) {
    mem_free(s->buf);
    s->buf = NULL;
}
