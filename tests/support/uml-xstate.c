/*
 * Lets User-Mode Linux of the 6.1 to 6.12 era run on processors with a large extended state (AMX): preloaded into the kernel's
 * own process by scripts/vm-run.
 *
 * Such a kernel saves and restores the floating-point state of its processes with ptrace and NT_X86_XSTATE, through a buffer
 * whose size was fixed when it was written. Reading into too small a buffer gives the first part. Writing a part is refused
 * (EFAULT), and the kernel then kills the process: the first one, so it panics at once. So a write of a part is made here into a
 * write of the whole: the present state of the tracee, with the caller's bytes over its beginning. What lies behind (the tiles of
 * AMX) stays what it was; nothing run here uses it.
 *
 * One thread traces, and a signal handler of such a kernel does not: a static buffer is enough, and the kernel's stacks are
 * small.
 */
#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

#ifndef NT_X86_XSTATE
#define NT_X86_XSTATE 0x202
#endif

#define XSTATE_MAX 65536 /* AMX's is 11,008 bytes */

static long set_whole(pid_t pid, const struct iovec *part) {
    static char whole[XSTATE_MAX] __attribute__((aligned(64)));
    struct iovec iov = { whole, sizeof whole };
    if (syscall(SYS_ptrace, PTRACE_GETREGSET, pid, NT_X86_XSTATE, &iov) < 0) return -1;
    if (iov.iov_len <= part->iov_len || iov.iov_len == sizeof whole) {
        errno = EFAULT;
        return -1;
    }
    memcpy(whole, part->iov_base, part->iov_len);
    return syscall(SYS_ptrace, PTRACE_SETREGSET, pid, NT_X86_XSTATE, &iov);
}

/* The C library's declaration names the first argument's type by an enum; both forms are passed alike. */
long ptrace(enum __ptrace_request request, ...) {
    va_list ap;
    va_start(ap, request);
    pid_t pid = va_arg(ap, pid_t);
    void *addr = va_arg(ap, void *);
    void *data = va_arg(ap, void *);
    va_end(ap);
    /* The kernel writes a peeked word to where data points; the library's function returns it. */
    long word = 0;
    int is_peek = request == PTRACE_PEEKTEXT || request == PTRACE_PEEKDATA || request == PTRACE_PEEKUSER;
    long r = syscall(SYS_ptrace, request, pid, addr, is_peek ? &word : data);
    if (r < 0 && errno == EFAULT && request == PTRACE_SETREGSET && addr == (void *)NT_X86_XSTATE) r = set_whole(pid, data);
    if (r < 0 || !is_peek) return r;
    errno = 0;
    return word;
}
