/*
 * The log: called from everywhere above, library code excepted. A line is built on the stack and written by one write(2) with
 * O_APPEND, so lines of different threads do not mix and no lock is held while writing. The file is opened for each line:
 * logrotate may move it away at any time. Any thread.
 *
 * A child forked off a threaded server logs too, and may find any lock of libc taken for ever. So the date is computed here:
 * localtime_r(3) and gmtime_r(3) lock. The offset from UTC is asked for once a minute, and not at all by a child (role 'C').
 */
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/file.h"

#define LINE_MAX_BYTES 4096

/* A file the log was or is sent to. Never freed, as another thread may be opening it; there are very few. */
struct log_path {
    struct log_path *older;
    char text[];
};

static _Atomic int current_level = LOG_LEVEL_NOTICE;
static _Atomic char role = 'M';
static _Atomic(const char *) file_path; /* NULL: standard output */
static struct log_path *paths;          /* under paths_lock */
static pthread_mutex_t paths_lock = PTHREAD_MUTEX_INITIALIZER;
static _Atomic bool to_syslog;

void log_set_level(enum log_level level) {
    atomic_store_explicit(&current_level, (int)level, memory_order_relaxed);
}

enum log_level log_get_level(void) {
    return (enum log_level)atomic_load_explicit(&current_level, memory_order_relaxed);
}

void log_set_role(char r) {
    atomic_store_explicit(&role, r, memory_order_relaxed);
}

/* ---- where to ---- */

static int open_file(const char *path) {
    return open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);
}

int log_set_file(const char *path) {
    if (!path || !*path) {
        atomic_store_explicit(&file_path, NULL, memory_order_release);
        return 0;
    }
    int fd = open_file(path);
    if (fd < 0) return -errno;
    close(fd);
    char *absolute = realpath(path, NULL); /* the server may change its directory later */
    const char *chosen = absolute && path[0] != '/' ? absolute : path;
    struct log_path *p = mem_alloc(sizeof *p + strlen(chosen) + 1);
    memcpy(p->text, chosen, strlen(chosen) + 1);
    free(absolute);
    pthread_mutex_lock(&paths_lock);
    p->older = paths;
    paths = p;
    pthread_mutex_unlock(&paths_lock);
    atomic_store_explicit(&file_path, p->text, memory_order_release);
    return 0;
}

int log_set_syslog(bool enabled, const char *ident, int facility) {
    static char kept_ident[64]; /* openlog(3) keeps the pointer */
    if (enabled) {
        snprintf(kept_ident, sizeof kept_ident, "%s", ident && *ident ? ident : "kettle");
        openlog(kept_ident, LOG_PID | LOG_NDELAY | LOG_NOWAIT, facility);
    }
    atomic_store_explicit(&to_syslog, enabled, memory_order_relaxed);
    return 0;
}

static void emit(const char *line, size_t n) {
    const char *path = atomic_load_explicit(&file_path, memory_order_acquire);
    int fd = path ? open_file(path) : STDOUT_FILENO;
    if (fd < 0) return;
    file_write_all(fd, line, n);
    if (path) close(fd);
}

/* ---- the prefix ---- */

static int64_t utc_offset_s(int64_t now_s) {
    static _Atomic int64_t known_minute = -1, offset_s;
    int64_t minute = now_s / 60;
    if (atomic_load_explicit(&known_minute, memory_order_acquire) != minute &&
        atomic_load_explicit(&role, memory_order_relaxed) != 'C') {
        struct tm tm = { 0 };
        time_t t = (time_t)now_s;
        localtime_r(&t, &tm);
        atomic_store_explicit(&offset_s, tm.tm_gmtoff, memory_order_relaxed);
        atomic_store_explicit(&known_minute, minute, memory_order_release);
    }
    return atomic_load_explicit(&offset_s, memory_order_relaxed);
}

/* Gregorian date of a day number, counted from 1970-01-01. Years are taken from 1 March on, so that the leap day is the last:
 * http://howardhinnant.github.io/date_algorithms.html, civil_from_days. */
static void date_of(int64_t days, int *ret_year, int *ret_month0, int *ret_day) {
    days += 719468; /* from 0000-03-01 */
    int64_t era = days / 146097;
    int day_of_era = (int)(days - era * 146097);
    int year = (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
    int day_of_year = day_of_era - (365 * year + year / 4 - year / 100);
    int march0 = (5 * day_of_year + 2) / 153;
    *ret_day = day_of_year - (153 * march0 + 2) / 5 + 1;
    *ret_month0 = march0 < 10 ? march0 + 2 : march0 - 10;
    *ret_year = (int)(year + era * 400) + (march0 >= 10);
}

static size_t stamp(char *out, size_t cap, enum log_level l) {
    static const char marks[] = ".-*#",
                      months[12][4] = { "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec" };
    int64_t ms = clock_wall_ms(), s = ms / 1000;
    s += utc_offset_s(s);
    int year, month0, day, of_day = (int)(s % 86400);
    date_of(s / 86400, &year, &month0, &day);
    return (size_t)snprintf(out, cap, "%d:%c %02d %s %d %02d:%02d:%02d.%03d %c ", (int)getpid(),
                            atomic_load_explicit(&role, memory_order_relaxed), day, months[month0], year, of_day / 3600,
                            of_day / 60 % 60, of_day % 60, (int)(ms % 1000), marks[l & 3]);
}

/* ---- messages ---- */

void log_msg(enum log_level level, const char *fmt, ...) {
    static const int priority[] = { LOG_DEBUG, LOG_INFO, LOG_NOTICE, LOG_WARNING };
    char line[LINE_MAX_BYTES];
    if ((int)level < atomic_load_explicit(&current_level, memory_order_relaxed)) return;
    int saved = errno;
    size_t head = stamp(line, sizeof line, level);
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(line + head, sizeof line - head - 1, fmt, ap);
    va_end(ap);
    size_t len = head + (size_t)(n < 0 ? 0 : n);
    if (len > sizeof line - 2) len = sizeof line - 2;
    if (atomic_load_explicit(&to_syslog, memory_order_relaxed))
        syslog(priority[level & 3], "%.*s", (int)(len - head), line + head);
    line[len++] = '\n';
    emit(line, len);
    errno = saved;
}

void log_raw(const char *fmt, ...) {
    struct buf text = { 0 };
    va_list ap;
    va_start(ap, fmt);
    buf_vprintf(&text, fmt, ap);
    va_end(ap);
    emit(text.data, text.len);
    buf_done(&text);
}

int log_fd_signal_safe(void) {
    const char *path = atomic_load_explicit(&file_path, memory_order_acquire);
    int fd = path ? open_file(path) : STDOUT_FILENO;
    return fd < 0 ? STDERR_FILENO : fd;
}

void log_raw_signal_safe(const char *text, size_t len) {
    int saved = errno, fd = log_fd_signal_safe();
    file_write_all(fd, text, len);
    if (fd > STDERR_FILENO) close(fd);
    errno = saved;
}
