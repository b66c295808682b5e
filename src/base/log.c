/*
 * The log. A line is built on the stack and written by one write(2) with O_APPEND, so lines of different threads do not mix and no lock is held while writing. The file is
 * opened for each line: logrotate may move it away at any time. Any thread.
 */
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include "base/alloc.h"

#define LINE_MAX_BYTES 4096

static _Atomic int level = LOG_LEVEL_NOTICE;
static _Atomic char role = 'M';
/* Set at start-up. An old path is kept, a logging thread may be using it; the chain keeps it in sight of leak checkers. */
struct path {
    struct path *older;
    char text[];
};
static struct path *paths;
static _Atomic(const char *) file_path;
static _Atomic bool to_syslog;

void log_set_level(enum log_level l) {
    atomic_store_explicit(&level, (int)l, memory_order_relaxed);
}

enum log_level log_get_level(void) {
    return (enum log_level)atomic_load_explicit(&level, memory_order_relaxed);
}

void log_set_role(char r) {
    atomic_store_explicit(&role, r, memory_order_relaxed);
}

static int open_file(const char *path) {
    return open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);
}

int log_set_file(const char *path) {
    if (!path || !*path) {
        atomic_store(&file_path, NULL);
        return 0;
    }
    int fd = open_file(path);
    if (fd < 0) return -errno;
    close(fd);
    char *absolute = path[0] == '/' ? NULL : realpath(path, NULL);
    const char *text = absolute ? absolute : path;
    size_t size = strlen(text) + 1;
    struct path *p = mem_alloc(sizeof *p + size);
    memcpy(p->text, text, size);
    free(absolute);
    p->older = paths;
    paths = p;
    atomic_store(&file_path, p->text);
    return 0;
}

int log_set_syslog(bool enabled, const char *ident, int facility) {
    if (enabled) openlog(ident && *ident ? ident : "kettle", LOG_PID | LOG_NDELAY | LOG_NOWAIT, facility);
    atomic_store(&to_syslog, enabled);
    return 0;
}

static void write_all(int fd, const char *p, size_t n) {
    while (n) {
        ssize_t w = write(fd, p, n);
        if (w < 0 && errno == EINTR) continue;
        if (w <= 0) return;
        p += w;
        n -= (size_t)w;
    }
}

static void emit(const char *line, size_t n) {
    const char *path = atomic_load_explicit(&file_path, memory_order_acquire);
    int fd = path ? open_file(path) : STDOUT_FILENO;
    if (fd < 0) return;
    write_all(fd, line, n);
    if (path) close(fd);
}

static size_t stamp(char *out, size_t cap, enum log_level l) {
    static const char marks[] = ".-*#";
    struct timeval tv;
    struct tm tm;
    gettimeofday(&tv, NULL);
    localtime_r(&tv.tv_sec, &tm);
    int n = snprintf(out, cap, "%d:%c ", (int)getpid(), atomic_load_explicit(&role, memory_order_relaxed));
    n += (int)strftime(out + n, cap - (size_t)n, "%d %b %Y %H:%M:%S.", &tm);
    n += snprintf(out + n, cap - (size_t)n, "%03d %c ", (int)(tv.tv_usec / 1000), marks[l & 3]);
    return (size_t)n;
}

void log_msg(enum log_level l, const char *fmt, ...) {
    static const int priority[] = { LOG_DEBUG, LOG_INFO, LOG_NOTICE, LOG_WARNING };
    char line[LINE_MAX_BYTES];
    if ((int)l < atomic_load_explicit(&level, memory_order_relaxed)) return;
    size_t head = stamp(line, sizeof line, l);
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(line + head, sizeof line - head - 1, fmt, ap);
    va_end(ap);
    size_t len = head + (size_t)(n < 0 ? 0 : n);
    if (len > sizeof line - 2) len = sizeof line - 2;
    if (atomic_load(&to_syslog)) syslog(priority[l & 3], "%.*s", (int)(len - head), line + head);
    line[len++] = '\n';
    emit(line, len);
}

void log_raw(const char *fmt, ...) {
    char text[LINE_MAX_BYTES];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (n > 0) emit(text, (size_t)n < sizeof text ? (size_t)n : sizeof text - 1);
}

int log_fd_signal_safe(void) {
    const char *path = atomic_load_explicit(&file_path, memory_order_acquire);
    int fd = path ? open_file(path) : STDOUT_FILENO;
    return fd < 0 ? STDERR_FILENO : fd;
}

void log_raw_signal_safe(const char *text, size_t len) {
    int saved = errno, fd = log_fd_signal_safe();
    write_all(fd, text, len);
    if (fd > STDERR_FILENO) close(fd);
    errno = saved;
}
