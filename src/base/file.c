/* See file.h. */
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"

int file_write_all(int fd, const void *p, size_t n) {
    const char *at = p;
    while (n > 0) {
        ssize_t w = write(fd, at, n);
        if (w < 0 && errno == EINTR) continue;
        if (w <= 0) return w < 0 ? -errno : -EIO;
        at += w;
        n -= (size_t)w;
    }
    return 0;
}

int file_sync_dir_of(const char *path) {
    const char *slash = strrchr(path, '/');
    char *dir = slash ? mem_memdup0(path, (size_t)(slash - path) + 1) : mem_strdup(".");
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC), r = fd < 0 ? -errno : 0;
    mem_free(dir);
    if (fd < 0) return r;
    if (fsync(fd) != 0 && errno != EBADF && errno != EINVAL) r = -errno;
    close(fd);
    return r;
}
