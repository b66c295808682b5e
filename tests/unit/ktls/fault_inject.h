/*
 * Faults on purpose: the test program's own malloc family and socket calls, which fail or come up short at the n-th call made
 * while the library is at work, and which know every block that it has.
 *
 * The program defines malloc, setsockopt, recv ... itself, so libktls, libcrypto, libssl and libc all come here, whatever the
 * build: AddressSanitizer and valgrind stand behind these definitions and see the same blocks as ever. (Under valgrind with
 * --soname-synonyms=somalloc=nouserintercepts, or it would put its own malloc in front.) Only between lib_enter() and lib_leave()
 * do calls count, and only blocks allocated there are the library's. One thread.
 *
 * A freed block of the library is searched for the secrets of the connection before it goes back: fault_needles.
 */
#ifndef FAULT_INJECT_H
#define FAULT_INJECT_H

#include <dlfcn.h>
#include <errno.h>
#include <execinfo.h>
#include <link.h>
#include <malloc.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define FAULT_SANITIZED 1
#endif
#if __has_feature(thread_sanitizer)
#define FAULT_OFF 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define FAULT_SANITIZED 1
#endif
#if defined(__SANITIZE_THREAD__)
#define FAULT_OFF 1
#endif

#ifdef FAULT_SANITIZED
void *__interceptor_malloc(size_t len);
void *__interceptor_calloc(size_t n, size_t len);
void *__interceptor_realloc(void *p, size_t len);
void __interceptor_free(void *p);
#define REAL(f) __interceptor_##f
/* LeakSanitizer knows what the dynamic linker keeps by its caller, which is hidden behind this file's malloc. */
const char *__lsan_default_suppressions(void);
__attribute__((visibility("default"))) const char *__lsan_default_suppressions(void) {
    return "leak:_dl_map_object_deps\nleak:dl_open_worker";
}
#else
void *__libc_malloc(size_t len);
void *__libc_calloc(size_t n, size_t len);
void *__libc_realloc(void *p, size_t len);
void __libc_free(void *p);
#define REAL(f) __libc_##f
#endif

#ifndef MAYBE_UNUSED
#define MAYBE_UNUSED __attribute__((unused))
#endif
#define PUBLIC __attribute__((visibility("default")))

/* ---- What fails ---- */

enum fault_kind {
    FAULT_NONE,
    FAULT_ALLOC,     /* malloc, calloc, realloc, whoever calls */
    FAULT_OWN_ALLOC, /* the same, but called by libktls, or by libc for it: not by OpenSSL */
    FAULT_SETSOCKOPT,
    FAULT_GETSOCKOPT,
    FAULT_RECV,
    FAULT_SEND,
    FAULT_RECVMSG,
    FAULT_SENDMSG,
    FAULT_PEER, /* the peer goes away: fault_cycle.h */
    FAULT_N_KINDS
};
static const char *const fault_kind_name[FAULT_N_KINDS] = { "none", "alloc", "own alloc", "setsockopt", "getsockopt",
                                                            "recv", "send",  "recvmsg",   "sendmsg",    "peer" };

#define FAULT_SHORT 1000 /* as an errno: the call moves some bytes only */

struct fault {
    enum fault_kind kind;
    unsigned at;    /* the call that fails, from 1 */
    unsigned times; /* so many in a row */
    int err;        /* errno, or FAULT_SHORT. Allocations: always ENOMEM */
};

static struct fault fault;
static unsigned fault_calls[FAULT_N_KINDS]; /* made by the library, by kind */
static unsigned fault_hits;
static bool in_library;

static bool fault_now(enum fault_kind kind) {
    unsigned n = ++fault_calls[kind];
    if (fault.kind != kind || n < fault.at || n - fault.at >= fault.times) return false;
    fault_hits++;
    return true;
}

/* ---- Who calls ---- */

static uintptr_t openssl_text[4][2];
static int n_openssl_text;

static int note_text(struct dl_phdr_info *info, size_t size, void *arg) {
    (void)size, (void)arg;
    if (!strstr(info->dlpi_name, "libcrypto") && !strstr(info->dlpi_name, "libssl")) return 0;
    for (int i = 0; i < info->dlpi_phnum && n_openssl_text < 4; i++) {
        if (info->dlpi_phdr[i].p_type != PT_LOAD || !(info->dlpi_phdr[i].p_flags & PF_X)) continue;
        openssl_text[n_openssl_text][0] = info->dlpi_addr + info->dlpi_phdr[i].p_vaddr;
        openssl_text[n_openssl_text++][1] = info->dlpi_addr + info->dlpi_phdr[i].p_vaddr + info->dlpi_phdr[i].p_memsz;
    }
    return 0;
}

static bool is_openssl(const void *caller) {
    for (int i = 0; i < n_openssl_text; i++)
        if ((uintptr_t)caller >= openssl_text[i][0] && (uintptr_t)caller < openssl_text[i][1]) return true;
    return false;
}

MAYBE_UNUSED static bool alloc_fails(const void *caller) {
    bool fails = fault_now(FAULT_ALLOC);
    if (!is_openssl(caller)) fails |= fault_now(FAULT_OWN_ALLOC);
    if (fails) errno = ENOMEM;
    return fails;
}

/* ---- The library's blocks ---- */

#define BLOCKS 65536 /* of the table; at most three quarters are used */
#define BLOCK_MASK 0x5a5a5a5a5a5a5a5au
#define TRACE_DEPTH 24

/* Pointers are kept masked, or LeakSanitizer would find every block referred to from here. */
struct block {
    uintptr_t masked; /* 0: free place */
    size_t len;
    uint64_t number; /* of the allocation */
};
static struct block blocks[BLOCKS];
static void *(*traces)[TRACE_DEPTH]; /* with fault_trace on: who allocated it, by place in the table; NULL behind the last */
static unsigned n_blocks;
static uint64_t n_allocated;
static bool fault_trace;
static void *volatile in_trace;

static unsigned block_place(const void *p) {
    return (unsigned)(((uintptr_t)p >> 4) * 0x9e3779b97f4a7c15u >> 40) % BLOCKS;
}

MAYBE_UNUSED static struct block *block_find(const void *p) {
    uintptr_t want = (uintptr_t)p ^ BLOCK_MASK;
    unsigned i = block_place(p);
    while (blocks[i].masked && blocks[i].masked != want) i = (i + 1) % BLOCKS;
    return blocks[i].masked ? &blocks[i] : NULL;
}

MAYBE_UNUSED static void block_add(void *p, size_t len) {
    if (!p || in_trace) return;
    if (++n_blocks > BLOCKS / 4 * 3) abort();
    unsigned i = block_place(p);
    while (blocks[i].masked) i = (i + 1) % BLOCKS;
    blocks[i].masked = (uintptr_t)p ^ BLOCK_MASK;
    blocks[i].len = len;
    blocks[i].number = ++n_allocated;
    if (!traces) return;
    memset(traces[i], 0, sizeof traces[i]);
    in_trace = p; /* backtrace() may allocate */
    if (fault_trace) backtrace(traces[i], TRACE_DEPTH);
    in_trace = NULL;
}

MAYBE_UNUSED static void trace_blocks(void) {
    size_t len = BLOCKS * sizeof *traces;
    fault_trace = true;
    if (!traces) traces = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (traces == MAP_FAILED) abort();
}

/* What stands behind it and would no longer be found moves up. */
MAYBE_UNUSED static void block_remove(struct block *b) {
    unsigned hole = (unsigned)(b - blocks);
    n_blocks--;
    for (unsigned i = (hole + 1) % BLOCKS; blocks[i].masked; i = (i + 1) % BLOCKS) {
        void *p = (void *)(blocks[i].masked ^ BLOCK_MASK);
        unsigned home = block_place(p);
        if ((i > hole && (home <= hole || home > i)) || (i < hole && home <= hole && home > i)) {
            blocks[hole] = blocks[i];
            if (traces) memcpy(traces[hole], traces[i], sizeof traces[i]);
            hole = i;
        }
    }
    blocks[hole].masked = 0;
}

static void print_trace(void *const *trace, int depth) {
    char **names = backtrace_symbols(trace, depth);
    for (int k = 2; names && k < depth; k++) printf("      %s\n", names[k]);
    free(names);
}

MAYBE_UNUSED static void print_blocks_since(uint64_t number, unsigned max) {
    for (unsigned i = 0; i < BLOCKS && max > 0; i++) {
        if (!blocks[i].masked || blocks[i].number <= number) continue;
        printf("    left behind: %zu bytes\n", blocks[i].len);
        int depth = 0;
        while (traces && depth < TRACE_DEPTH && traces[i][depth]) depth++;
        if (depth > 0) print_trace(traces[i], depth);
        max--;
    }
}

/* ---- Secrets in what is freed ---- */

#ifndef NEEDLE_LEN
#define NEEDLE_LEN 16
#endif
#define NEEDLES_MAX 64

static struct {
    uint8_t byte[NEEDLE_LEN];
    const char *name;
} needle[NEEDLES_MAX];
static int n_needles;
static unsigned secrets_freed; /* found so far */
static const char *secret_name = "";
static size_t secret_block, secret_at;
static void *secret_trace[TRACE_DEPTH];
static int secret_depth;

static uint8_t needle_heads[8192]; /* a bit for each first two bytes */

MAYBE_UNUSED static void add_needle(const uint8_t *p, const char *name) {
    if (n_needles == NEEDLES_MAX) return;
    memcpy(needle[n_needles].byte, p, NEEDLE_LEN);
    needle[n_needles++].name = name;
    unsigned head = p[0] | (unsigned)p[1] << 8;
    needle_heads[head / 8] |= (uint8_t)(1u << head % 8);
}

MAYBE_UNUSED static void forget_needles(void) {
    for (int i = 0; i < n_needles; i++) needle_heads[(needle[i].byte[0] | (unsigned)needle[i].byte[1] << 8) / 8] = 0;
    n_needles = 0;
}

static void note_secret(int which, size_t len, size_t at) {
    secrets_freed++;
    secret_name = needle[which].name;
    secret_block = len;
    secret_at = at;
    in_trace = &secret_trace;
    secret_depth = backtrace(secret_trace, TRACE_DEPTH);
    in_trace = NULL;
}

static bool search_freed = true; /* valgrind would speak of every byte that was never written */

MAYBE_UNUSED static void search_block(const uint8_t *p, size_t len) {
    if (!search_freed) return;
    for (size_t at = 0; n_needles > 0 && at + NEEDLE_LEN <= len; at++) {
        unsigned head = p[at] | (unsigned)p[at + 1] << 8;
        if (!(needle_heads[head / 8] & 1u << head % 8)) continue;
        for (int i = 0; i < n_needles; i++)
            if (memcmp(p + at, needle[i].byte, NEEDLE_LEN) == 0) note_secret(i, len, at);
    }
}

/* ---- malloc and its kin ---- */

#ifndef FAULT_OFF

PUBLIC void *malloc(size_t len) {
    if (!in_library || in_trace) return REAL(malloc)(len);
    if (alloc_fails(__builtin_return_address(0))) return NULL;
    void *p = REAL(malloc)(len);
    block_add(p, len);
    return p;
}

PUBLIC void *calloc(size_t n, size_t len) {
    if (!in_library || in_trace) return REAL(calloc)(n, len);
    if (alloc_fails(__builtin_return_address(0))) return NULL;
    void *p = REAL(calloc)(n, len);
    block_add(p, n * len);
    return p;
}

PUBLIC void free(void *p) {
    struct block *b = p && n_blocks > 0 ? block_find(p) : NULL;
    if (b) {
        search_block(p, b->len);
        block_remove(b);
    }
    REAL(free)(p);
}

/* Always moves: what stays behind of a block is freed memory too. */
PUBLIC void *realloc(void *p, size_t len) {
    struct block *b = p && n_blocks > 0 ? block_find(p) : NULL;
    if (!b && !in_library) return REAL(realloc)(p, len);
    if (in_library && alloc_fails(__builtin_return_address(0))) return NULL;
    void *fresh = REAL(malloc)(len);
    if (!fresh) return NULL;
    size_t old = b ? b->len : p ? malloc_usable_size(p) : 0;
    if (old > 0) memcpy(fresh, p, old < len ? old : len);
    free(p);
    block_add(fresh, len);
    return fresh;
}

#endif

/* ---- Socket calls: the system call itself stands behind them ---- */

/* True: the call fails with errno set. A short one gets a smaller *len. */
static bool call_fails(enum fault_kind kind, size_t *len) {
    if (!in_library || !fault_now(kind)) return false;
    if (fault.err == FAULT_SHORT) {
        if (len && *len > 1) *len = *len > 7 ? *len / 3 : 1;
        return false;
    }
    errno = fault.err;
    return true;
}

PUBLIC int setsockopt(int fd, int level, int name, const void *value, socklen_t len) {
    if (call_fails(FAULT_SETSOCKOPT, NULL)) return -1;
    return (int)syscall(SYS_setsockopt, fd, level, name, value, len);
}

PUBLIC int getsockopt(int fd, int level, int name, void *restrict value, socklen_t *restrict len) {
    if (call_fails(FAULT_GETSOCKOPT, NULL)) return -1;
    return (int)syscall(SYS_getsockopt, fd, level, name, value, len);
}

PUBLIC ssize_t recv(int fd, void *buf, size_t len, int flags) {
    if (call_fails(FAULT_RECV, &len)) return -1;
    return syscall(SYS_recvfrom, fd, buf, len, flags, NULL, NULL);
}

PUBLIC ssize_t send(int fd, const void *buf, size_t len, int flags) {
    if (call_fails(FAULT_SEND, &len)) return -1;
    return syscall(SYS_sendto, fd, buf, len, flags, NULL, 0);
}

PUBLIC ssize_t recvmsg(int fd, struct msghdr *msg, int flags) {
    if (call_fails(FAULT_RECVMSG, NULL)) return -1;
    return syscall(SYS_recvmsg, fd, msg, flags);
}

/* Short: only of data in one piece; the kernel takes a control record whole or not at all. */
PUBLIC ssize_t sendmsg(int fd, const struct msghdr *msg, int flags) {
    struct msghdr copy = *msg;
    struct iovec one;
    bool may_cut = msg->msg_iovlen >= 1 && !msg->msg_control;
    if (may_cut) one = msg->msg_iov[0];
    if (call_fails(FAULT_SENDMSG, may_cut ? &one.iov_len : NULL)) return -1;
    if (may_cut && one.iov_len != msg->msg_iov[0].iov_len) {
        copy.msg_iov = &one;
        copy.msg_iovlen = 1;
    }
    return syscall(SYS_sendmsg, fd, &copy, flags);
}

/* ---- Around each call of the library ---- */

/* ThreadSanitizer is asked for memory before it is ready when another malloc stands in front of it; and there are no threads
 * here. */
#ifdef FAULT_OFF
#define SKIP_IF_OFF()                                                                                                            \
    do {                                                                                                                         \
        print_message("skipped: under ThreadSanitizer malloc cannot be replaced\n");                                             \
        skip();                                                                                                                  \
    } while (0)
#else
#define SKIP_IF_OFF() ((void)0)
#endif

/* The value of a call of the library, during which faults happen. */
#define LIB(call)                                                                                                                \
    ({                                                                                                                           \
        in_library = true;                                                                                                       \
        __typeof__(call) result_ = (call);                                                                                       \
        in_library = false;                                                                                                      \
        result_;                                                                                                                 \
    })

/* Before anything fails: what backtrace() and printf allocate once is allocated now. */
static void fault_setup(void) {
    void *trace[2];
    static char buffer[BUFSIZ];
    setvbuf(stdout, buffer, _IOLBF, sizeof buffer);
    backtrace(trace, 2);
    dl_iterate_phdr(note_text, NULL);
}

static void fault_arm(struct fault f) {
    memset(fault_calls, 0, sizeof fault_calls);
    fault_hits = 0;
    fault = f;
}

#endif
