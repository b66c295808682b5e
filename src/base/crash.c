/*
 * Crash report. The handler runs on a stack of its own and uses only async-signal-safe calls (backtrace_symbols_fd writes without allocating; backtrace is warmed up at
 * installation because its first call loads a library). The signal is raised again with its default action at the end: core dumps stay possible.
 */
#include "base/crash.h"

#include <execinfo.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <ucontext.h>
#include <unistd.h>

#include "base/log.h"

#define STACK_BYTES (256 * 1024)

static const char *version = "";
static void (*exit_hook)(void);
static _Thread_local const char *running_command;

void crash_note_command(const char *name) {
    running_command = name;
}

void crash_on_exit(void (*fn)(void)) {
    exit_hook = fn;
}

static void put(int fd, const char *text) {
    size_t n = strlen(text);
    if (write(fd, text, n) < 0) return;
}

static void put_hex(int fd, const char *name, unsigned long long v) {
    char text[40], *p = text + sizeof text - 1;
    *p = 0;
    *--p = '\n';
    for (int i = 0; i < 16; i++, v >>= 4) *--p = "0123456789abcdef"[v & 15];
    put(fd, name);
    put(fd, p);
}

static void put_registers(int fd, const ucontext_t *uc) {
#if defined(__x86_64__)
    static const struct { int reg; const char *name; } regs[] = {
        { REG_RIP, "RIP:" }, { REG_RSP, "RSP:" }, { REG_RBP, "RBP:" }, { REG_RAX, "RAX:" }, { REG_RBX, "RBX:" }, { REG_RCX, "RCX:" },
        { REG_RDX, "RDX:" }, { REG_RSI, "RSI:" }, { REG_RDI, "RDI:" }, { REG_R8, "R8: " }, { REG_R9, "R9: " }, { REG_EFL, "EFL:" },
    };
    for (size_t i = 0; i < sizeof regs / sizeof *regs; i++) put_hex(fd, regs[i].name, (unsigned long long)uc->uc_mcontext.gregs[regs[i].reg]);
#else
    (void)uc;
    put(fd, "(registers are not shown on this architecture)\n");
#endif
}

static void die_by(int sig) {
    signal(sig, SIG_DFL);
    raise(sig);
}

static void on_crash(int sig, siginfo_t *info, void *context) {
    static atomic_flag busy = ATOMIC_FLAG_INIT;
    static _Thread_local volatile sig_atomic_t mine;
    if (mine) die_by(sig); /* the report itself crashed */
    if (atomic_flag_test_and_set(&busy))
        for (;;) pause(); /* another thread's report is on its way, and ends the process */
    mine = 1;
    int fd = log_fd_signal_safe();
    put(fd, "\n\n=== KETTLE BUG REPORT START: Cut & paste starting from here ===\n");
    put(fd, version);
    put(fd, " crashed by signal: ");
    put(fd, sig == SIGSEGV ? "SIGSEGV" : sig == SIGBUS ? "SIGBUS" : sig == SIGFPE ? "SIGFPE" : sig == SIGILL ? "SIGILL" : "SIGABRT");
    put_hex(fd, "\nAccessing address: ", (unsigned long long)(uintptr_t)info->si_addr);
    put(fd, "Running command: ");
    put(fd, running_command ? running_command : "(none)");
    put(fd, "\n\n------ STACK TRACE ------\n");
    void *frames[64];
    backtrace_symbols_fd(frames, backtrace(frames, 64), fd);
    put(fd, "\n------ REGISTERS ------\n");
    put_registers(fd, context);
    put(fd, "\n=== KETTLE BUG REPORT END ===\n");
    if (exit_hook) exit_hook();
    die_by(sig);
}

void crash_install(const char *version_text) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    version = version_text; /* the sanitizer's own report says more */
    (void)on_crash;
    return;
#endif
    static char stack[STACK_BYTES];
    void *warm[1];
    version = version_text;
    backtrace(warm, 1);
    stack_t ss = { .ss_sp = stack, .ss_size = sizeof stack };
    sigaltstack(&ss, NULL);
    struct sigaction sa = { .sa_sigaction = on_crash, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER };
    sigemptyset(&sa.sa_mask);
    static const int signals[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT };
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++) sigaction(signals[i], &sa, NULL);
}
