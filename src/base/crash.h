/* Crash report: on SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT a backtrace, registers and the running command's name go to the log,
 * then the signal's default action ends the process (core included). Register contents are printed, memory is not: key material
 * and data stay out of the log. */
#ifndef KETTLE_BASE_CRASH_H
#define KETTLE_BASE_CRASH_H

#include <stdbool.h>

void crash_install(const char *version_text);
/* The running command's name, per thread; static string or NULL. */
void crash_note_command(const char *name);
/* Called once from the handler, after the trace: must be async-signal-safe (remove the pid file). NULL for none. */
void crash_on_exit(void (*fn)(void));
/* The process cannot go on, and the caller has logged why: a report and abort(3); or, after crash_exit_on_panic(true), a stack
 * trace and exit status 1, for whoever must not find a signal or a core. Any thread. */
_Noreturn void crash_panic(void);
void crash_exit_on_panic(bool on); /* use-exit-on-panic */

#endif
