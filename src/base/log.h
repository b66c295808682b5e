/* The log, in redis-server's line format: "PID:ROLE DD Mon YYYY HH:MM:SS.mmm LEVEL message". One write(2) a line, so lines
 * of different threads never mix. Any thread. Never pass secrets or peers' raw bytes (use str_quote). */
#ifndef KETTLE_BASE_LOG_H
#define KETTLE_BASE_LOG_H

#include <stdbool.h>
#include <stddef.h>

#include "base/slice.h"

enum log_level { LOG_LEVEL_DEBUG = 0, LOG_LEVEL_VERBOSE = 1, LOG_LEVEL_NOTICE = 2, LOG_LEVEL_WARNING = 3, LOG_LEVEL_NOTHING = 4 };

void log_set_level(enum log_level level);
enum log_level log_get_level(void);
/* Empty or NULL: standard output. Opened for append at each line, as redis-server does, so that logrotate works.
 * 0 or -errno when the file cannot be opened (then nothing changes). */
int log_set_file(const char *path);
void log_set_role(char role); /* 'M' primary, 'S' replica, 'C' child (set it first thing after fork), 'X' sentinel */
int log_set_syslog(bool enabled, const char *ident, int facility); /* facility as in <syslog.h>; at start-up; 0 */

/* Longer lines than 4 KiB are cut. errno is preserved. */
void log_msg(enum log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Without prefix: banner, crash report. */
void log_raw(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* Async-signal-safe: writes the text as it is. */
void log_raw_signal_safe(const char *text, size_t len);
int log_fd_signal_safe(void); /* fd for backtrace_symbols_fd; do not close */

#define log_debug(...) log_msg(LOG_LEVEL_DEBUG, __VA_ARGS__)
#define log_verbose(...) log_msg(LOG_LEVEL_VERBOSE, __VA_ARGS__)
#define log_notice(...) log_msg(LOG_LEVEL_NOTICE, __VA_ARGS__)
#define log_warning(...) log_msg(LOG_LEVEL_WARNING, __VA_ARGS__)

#endif
