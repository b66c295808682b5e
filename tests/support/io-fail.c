/* A preloaded library that makes file operations fail or take long, for tests of durability.
 *
 *   LD_PRELOAD=build/peers/io-fail.so IOFAIL_MATCH=appendonlydir IOFAIL_CONTROL=/tmp/x/control kettle-server ...
 *
 * Files whose path contains IOFAIL_MATCH are concerned. As long as the control file exists its lines say what happens:
 *
 *   write ERRNO [BYTES]    write(2) takes BYTES of what it is given and fails when that is less; 0: nothing
 *   fsync ERRNO            fsync(2), fdatasync(2)
 *   truncate ERRNO         ftruncate(2)
 *   delay MS               fsync(2), fdatasync(2) take so much longer
 */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define EXPORTED __attribute__((visibility("default")))

EXPORTED ssize_t write(int fd, const void *p, size_t n);
EXPORTED int fsync(int fd);
EXPORTED int fdatasync(int fd);
EXPORTED int ftruncate(int fd, off_t len);

static bool concerns(int fd) {
    char link[40], path[512];
    const char *match = getenv("IOFAIL_MATCH");
    if (!match) return false;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    if (n < 0) return false;
    path[n] = 0;
    return strstr(path, match) != NULL;
}

/* The numbers behind `what` in the control file. False: there is no such line. */
static bool told(const char *what, long *ret_first, long *ret_second) {
    char text[256];
    const char *path = getenv("IOFAIL_CONTROL");
    int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
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

ssize_t write(int fd, const void *p, size_t n) {
    long err, bytes;
    if (fd > 2 && concerns(fd) && told("write", &err, &bytes)) {
        if (bytes > 0 && (size_t)bytes < n) return syscall(SYS_write, fd, p, (size_t)bytes);
        errno = (int)err;
        return -1;
    }
    return syscall(SYS_write, fd, p, n);
}

static bool sync_fails(int fd) {
    long value, unused;
    if (!concerns(fd)) return false;
    if (told("delay", &value, &unused)) {
        struct timespec t = { value / 1000, value % 1000 * 1000000 };
        nanosleep(&t, NULL);
    }
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
