/* Crash report: on SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT a backtrace, registers and the running command's name go to the log,
 * then the signal's default action ends the process (core included). Register contents are printed, memory is not: key material
 * and data stay out of the log. */
#ifndef KETTLE_BASE_CRASH_H
#define KETTLE_BASE_CRASH_H

void crash_install(const char *version_text);
/* The running command's name, per thread; static string or NULL. */
void crash_note_command(const char *name);
/* Called once from the handler, after the trace: must be async-signal-safe (remove the pid file). NULL for none. */
void crash_on_exit(void (*fn)(void));

#endif
