/* A preloaded library that makes file operations fail or take long, for tests of durability.
 *
 *   LD_PRELOAD=build/peers/io-fail.so IOFAIL_MATCH=appendonlydir IOFAIL_CONTROL=/tmp/x/control kettle-server ...
 *
 * Files whose path, with a slash in front of it, contains IOFAIL_MATCH are concerned; as long as the control file exists its
 * lines say what happens:
 *
 *   write ERRNO [BYTES]    write(2) takes BYTES of what it is given and fails when that is less; 0: nothing
 *   fsync ERRNO            fsync(2), fdatasync(2)
 *   truncate ERRNO         ftruncate(2)
 *   range ERRNO            sync_file_range(2)
 *   open ERRNO             open(2) for writing
 *   rename ERRNO           rename(2) to such a path
 *   delay MS               fsync(2), fdatasync(2) take so much longer
 *   slow-write MS          write(2) does; slow-stat, slow-rename, slow-unlink: these
 *   count 1                each fsync(2), fdatasync(2) adds a byte to the file IOFAIL_CONTROL with .count behind it
 */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define EXPORTED __attribute__((visibility("default")))

EXPORTED ssize_t write(int fd, const void *p, size_t n);
EXPORTED int fsync(int fd);
EXPORTED int fdatasync(int fd);
EXPORTED int ftruncate(int fd, off_t len);
EXPORTED int sync_file_range(int fd, off64_t from, off64_t n, unsigned flags);
EXPORTED int open(const char *path, int flags, ...);
EXPORTED int rename(const char *from, const char *to);
EXPORTED int unlink(const char *path);
EXPORTED int stat(const char *path, struct stat *ret);

static bool concerns_path(const char *path) {
    char whole[512];
    const char *match = getenv("IOFAIL_MATCH");
    snprintf(whole, sizeof whole, "/%s", path);
    return match && strstr(whole, match);
}

static bool concerns(int fd) {
    char link[40], path[512];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    if (n < 0) return false;
    path[n] = 0;
    return concerns_path(path);
}

/* The numbers behind `what` in the control file. False: there is no such line. */
static bool told(const char *what, long *ret_first, long *ret_second) {
    char text[256];
    const char *path = getenv("IOFAIL_CONTROL");
    int fd = path ? (int)syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC) : -1;
    if (fd < 0) return false;
    ssize_t n = read(fd, text, sizeof text - 1);
    close(fd);
    text[n > 0 ? n : 0] = 0;
    char *at = NULL;
    for (char *line = strtok_r(text, "\n", &at); line; line = strtok_r(NULL, "\n", &at)) {
        char word[16];
        *ret_first = *ret_second = 0;
        if (sscanf(line, "%15s %ld %ld", word, ret_first, ret_second) >= 2 && !strcmp(word, what)) return true;
    }
    return false;
}

static void nap(const char *what) {
    long ms, unused;
    if (!told(what, &ms, &unused)) return;
    struct timespec t = { ms / 1000, ms % 1000 * 1000000 };
    nanosleep(&t, NULL);
}

ssize_t write(int fd, const void *p, size_t n) {
    long err, bytes;
    if (fd > 2 && concerns(fd)) nap("slow-write");
    if (fd > 2 && concerns(fd) && told("write", &err, &bytes)) {
        if (bytes > 0 && (size_t)bytes < n) return syscall(SYS_write, fd, p, (size_t)bytes);
        errno = (int)err;
        return -1;
    }
    return syscall(SYS_write, fd, p, n);
}

static void count(void) {
    char path[512];
    snprintf(path, sizeof path, "%s.count", getenv("IOFAIL_CONTROL"));
    int fd = (int)syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (fd < 0) return;
    syscall(SYS_write, fd, "f", 1);
    close(fd);
}

static bool sync_fails(int fd) {
    long value, unused;
    if (!concerns(fd)) return false;
    if (told("count", &value, &unused)) count();
    nap("delay");
    if (!told("fsync", &value, &unused)) return false;
    errno = (int)value;
    return true;
}

int fsync(int fd) {
    return sync_fails(fd) ? -1 : (int)syscall(SYS_fsync, fd);
}

int fdatasync(int fd) {
    return sync_fails(fd) ? -1 : (int)syscall(SYS_fdatasync, fd);
}

int ftruncate(int fd, off_t len) {
    long err, unused;
    if (concerns(fd) && told("truncate", &err, &unused)) {
        errno = (int)err;
        return -1;
    }
    return (int)syscall(SYS_ftruncate, fd, len);
}

int sync_file_range(int fd, off64_t from, off64_t n, unsigned flags) {
    long err, unused;
    if (concerns(fd) && told("range", &err, &unused)) {
        errno = (int)err;
        return -1;
    }
    return (int)syscall(SYS_sync_file_range, fd, from, n, flags);
}

int open(const char *path, int flags, ...) {
    long err, unused;
    va_list ap;
    va_start(ap, flags);
    unsigned mode = flags & O_CREAT ? va_arg(ap, unsigned) : 0;
    va_end(ap);
    if ((flags & O_ACCMODE) != O_RDONLY && concerns_path(path) && told("open", &err, &unused)) {
        errno = (int)err;
        return -1;
    }
    return (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}

int rename(const char *from, const char *to) {
    long err, unused;
    if (concerns_path(to)) nap("slow-rename");
    if (concerns_path(to) && told("rename", &err, &unused)) {
        errno = (int)err;
        return -1;
    }
    return (int)syscall(SYS_renameat, AT_FDCWD, from, AT_FDCWD, to);
}

int unlink(const char *path) {
    if (concerns_path(path)) nap("slow-unlink");
    return (int)syscall(SYS_unlinkat, AT_FDCWD, path, 0);
}

int stat(const char *path, struct stat *ret) {
    if (concerns_path(path)) nap("slow-stat");
    return fstatat(AT_FDCWD, path, ret, 0);
}
