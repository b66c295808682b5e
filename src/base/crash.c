/*
 * Crash report. The handler runs on a stack of its own, so that an overflow of the thread's is reported too, and uses only
 * async-signal-safe calls (backtrace_symbols_fd writes without allocating; backtrace is warmed up at installation because its
 * first call loads a library). Then the signal is raised again with its default action: core dumps stay possible.
 *
 * sigaltstack(2) is per thread: crash_install() gives one to its caller, crash_note_command() to the thread that first runs a
 * command. Threads without one run the handler on their own stack.
 */
#include "base/crash.h"

#include <execinfo.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/log.h"
#include "base/str.h"

#define STACK_BYTES (128 * 1024) /* reserved; only what a report touches becomes resident */

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

static const struct {
    int sig;
    const char *name;
} signals[] = {
    { SIGSEGV, "SIGSEGV" }, { SIGBUS, "SIGBUS" }, { SIGFPE, "SIGFPE" }, { SIGILL, "SIGILL" }, { SIGABRT, "SIGABRT" }
};
#define N_SIGNALS (sizeof signals / sizeof *signals)

static const char *version = "";
static void (*exit_hook)(void);
static bool installed;
static pthread_key_t stack_key;
static _Thread_local const char *running_command;
static _Thread_local bool has_stack;

/* ---- the report ---- */

static void put(int fd, const char *text) {
    size_t n = strlen(text);
    if (write(fd, text, n) < 0) return;
}

static void put_hex(int fd, const char *name, unsigned long long v) {
    char text[18], *p = text + sizeof text - 1;
    *p = 0;
    *--p = '\n';
    for (int i = 0; i < 16; i++, v >>= 4) *--p = "0123456789abcdef"[v & 15];
    put(fd, name);
    put(fd, p);
}

static void put_number(int fd, const char *name, uint64_t v) {
    char text[STR_LL_MAX];
    str_from_ull(text, v);
    put(fd, name);
    put(fd, text);
    put(fd, "\n");
}

static void put_registers(int fd, const ucontext_t *uc) {
#if defined(__x86_64__)
    static const struct {
        int reg;
        const char *name;
    } regs[] = {
        { REG_RIP, "RIP:" }, { REG_RSP, "RSP:" }, { REG_RBP, "RBP:" }, { REG_RAX, "RAX:" }, { REG_RBX, "RBX:" },
        { REG_RCX, "RCX:" }, { REG_RDX, "RDX:" }, { REG_RSI, "RSI:" }, { REG_RDI, "RDI:" }, { REG_R8, "R8: " },
        { REG_R9, "R9: " },  { REG_R10, "R10:" }, { REG_R11, "R11:" }, { REG_R12, "R12:" }, { REG_R13, "R13:" },
        { REG_R14, "R14:" }, { REG_R15, "R15:" }, { REG_EFL, "EFL:" },
    };
    for (size_t i = 0; i < sizeof regs / sizeof *regs; i++)
        put_hex(fd, regs[i].name, (unsigned long long)uc->uc_mcontext.gregs[regs[i].reg]);
#else
    (void)uc;
    put(fd, "(registers are not shown on this architecture)\n");
#endif
}

static const char *signal_name(int sig) {
    for (size_t i = 0; i < N_SIGNALS; i++)
        if (signals[i].sig == sig) return signals[i].name;
    return "?";
}

static void report(int sig, const siginfo_t *info, const ucontext_t *uc) {
    int fd = log_fd_signal_safe();
    put(fd, "\n\n=== KETTLE BUG REPORT START: Cut & paste starting from here ===\n");
    put(fd, version);
    put(fd, " crashed by signal: ");
    put(fd, signal_name(sig));
    put(fd, "\n");
    if (info->si_code <= 0)
        put_number(fd, "Sent by process: ", (uint64_t)info->si_pid);
    else
        put_hex(fd, "Accessing address: ", (unsigned long long)(uintptr_t)info->si_addr);
    put(fd, "Running command: ");
    put(fd, running_command ? running_command : "(none)");
    put(fd, "\n\n------ STACK TRACE ------\n");
    void *frames[64];
    backtrace_symbols_fd(frames, backtrace(frames, 64), fd);
    put(fd, "\n------ REGISTERS ------\n");
    put_registers(fd, uc);
    put(fd, "\n=== KETTLE BUG REPORT END ===\n");
}

/* One report a process: another thread that crashes meanwhile waits for the end; a crash in the handler itself ends at once. */
static void on_crash(int sig, siginfo_t *info, void *context) {
    static _Atomic pid_t reporter;
    pid_t nobody = 0, me = gettid();
    if (atomic_compare_exchange_strong(&reporter, &nobody, me)) {
        report(sig, info, context);
        if (exit_hook) exit_hook();
    } else {
        while (nobody != me) pause();
    }
    signal(sig, SIG_DFL);
    raise(sig); /* blocked until the handler returns */
}

static _Atomic bool exits_on_panic;

void crash_exit_on_panic(bool on) {
    atomic_store_explicit(&exits_on_panic, on, memory_order_relaxed);
}

_Noreturn void crash_panic(void) {
    if (!atomic_load_explicit(&exits_on_panic, memory_order_relaxed)) abort();
    void *frames[64];
    if (!SANITIZED && installed) backtrace_symbols_fd(frames, backtrace(frames, 64), log_fd_signal_safe());
    if (exit_hook) exit_hook();
    _exit(1);
}

/* ---- installation ---- */

static void stack_drop(void *mem) {
    stack_t off = { .ss_flags = SS_DISABLE };
    sigaltstack(&off, NULL);
    mem_free(mem);
}

/* Out of line: crash_note_command, called twice a command, stays a few instructions. */
static __attribute__((noinline)) void stack_give(void) {
    has_stack = true;
    if (!installed) return;
    void *mem = mem_alloc(STACK_BYTES);
    stack_t ss = { .ss_sp = mem, .ss_size = STACK_BYTES };
    if (sigaltstack(&ss, NULL) || pthread_setspecific(stack_key, mem)) stack_drop(mem);
}

void crash_note_command(const char *name) {
    if (__builtin_expect(!has_stack, 0)) stack_give();
    running_command = name;
}

void crash_on_exit(void (*fn)(void)) {
    exit_hook = fn;
}

void crash_install(const char *version_text) {
    version = version_text;
    if (SANITIZED) return; /* the sanitizer's own report says more */
    void *warm[1];
    backtrace(warm, 1);
    if (!installed) installed = pthread_key_create(&stack_key, stack_drop) == 0;
    if (installed) stack_give();
    struct sigaction sa = { .sa_sigaction = on_crash, .sa_flags = SA_SIGINFO | SA_ONSTACK };
    sigemptyset(&sa.sa_mask);
    for (size_t i = 0; i < N_SIGNALS; i++) sigaction(signals[i].sig, &sa, NULL);
}
