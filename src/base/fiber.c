/*
 * Fibers. See fiber.h. Place: used by cmd/ for scripts, which may run for long and must not keep their thread from its clients.
 *
 * On x86-64 a switch is the callee-saved registers and the stack pointer, a few nanoseconds: swapcontext(3) makes a system call
 * each time for the signal mask, which no code here changes. Other processors use swapcontext. The sanitizers are told of every
 * switch.
 */
#include "base/fiber.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/log.h"

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define FIBER_ASAN 1
#endif
#if __has_feature(thread_sanitizer)
#define FIBER_TSAN 1
#endif
#endif
#ifdef __SANITIZE_ADDRESS__
#define FIBER_ASAN 1
#endif
#ifdef __SANITIZE_THREAD__
#define FIBER_TSAN 1
#endif
#ifdef FIBER_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#ifdef FIBER_TSAN
#include <sanitizer/tsan_interface.h>
#endif
#ifndef __x86_64__
#include <ucontext.h>
#endif

struct side { /* where one of the two stacks stands while the other runs */
#ifdef __x86_64__
    void *sp;
#else
    ucontext_t context;
#endif
    void *sanitizer; /* ASan: its fake stack; TSan: its fiber */
    const void *bottom;
    size_t size;
};

struct fiber {
    struct side here, outside;
    char *map;
    size_t map_size;
    void (*fn)(void *arg);
    void *arg;
    bool returned;
};

static __thread struct fiber *entering; /* the fiber whose first switch this is */

#ifdef __x86_64__
/* Saves where this stack stands in *save, goes on where the other one stood. */
__attribute__((naked, noinline)) static void switch_stacks(__attribute__((unused)) void **save,
                                                           __attribute__((unused)) void *to) {
    __asm__("pushq %rbp\n\tpushq %rbx\n\tpushq %r12\n\tpushq %r13\n\tpushq %r14\n\tpushq %r15\n\t"
            "movq %rsp, (%rdi)\n\tmovq %rsi, %rsp\n\t"
            "popq %r15\n\tpopq %r14\n\tpopq %r13\n\tpopq %r12\n\tpopq %rbx\n\tpopq %rbp\n\tret");
}
#endif

static void landed(struct side *now, struct side *before) {
#ifdef FIBER_ASAN
    const void *bottom;
    size_t size;
    __sanitizer_finish_switch_fiber(now->sanitizer, &bottom, &size);
    if (!before->bottom) {
        before->bottom = bottom;
        before->size = size;
    }
#else
    (void)now;
    (void)before;
#endif
}

static void change(struct side *from, struct side *to) {
#ifdef FIBER_ASAN
    __sanitizer_start_switch_fiber(&from->sanitizer, to->bottom, to->size);
#endif
#ifdef FIBER_TSAN
    __tsan_switch_to_fiber(to->sanitizer, 0);
#endif
#ifdef __x86_64__
    switch_stacks(&from->sp, to->sp);
#else
    swapcontext(&from->context, &to->context);
#endif
    landed(from, to);
}

/* The fiber's outermost function: one piece of work after the other. Never returns. */
static void fiber_main(void) {
    struct fiber *f = entering;
    landed(&f->here, &f->outside);
    for (;;) {
        f->fn(f->arg);
        f->returned = true;
        change(&f->here, &f->outside);
    }
}

static void prepare(struct fiber *f) {
#ifdef __x86_64__
    uintptr_t *top = (uintptr_t *)(void *)(f->map + f->map_size);
    top[-1] = 0;                     /* fiber_main has no caller */
    top[-2] = (uintptr_t)fiber_main; /* where the first switch returns to, with the stack aligned as after a call */
    f->here.sp = top - 8;            /* six registers, all zero: the pages are fresh */
#else
    getcontext(&f->here.context);
    f->here.context.uc_stack.ss_sp = (void *)(uintptr_t)f->here.bottom;
    f->here.context.uc_stack.ss_size = f->here.size;
    f->here.context.uc_link = NULL;
    makecontext(&f->here.context, fiber_main, 0);
#endif
}

struct fiber *fiber_new(size_t stack_size) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    struct fiber *f = mem_zalloc(sizeof *f);
    f->map_size = (stack_size + page - 1) / page * page + page;
    f->map = mmap(NULL, f->map_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
    if (f->map == MAP_FAILED || mprotect(f->map, page, PROT_NONE) != 0) {
        log_warning("Out of memory: no stack of %zu bytes for scripts: %s", f->map_size, strerror(errno));
        abort();
    }
    f->here.bottom = f->map + page;
    f->here.size = f->map_size - page;
#ifdef FIBER_TSAN
    f->here.sanitizer = __tsan_create_fiber(0);
#endif
    prepare(f);
    return f;
}

struct fiber *fiber_free(struct fiber *f) {
    if (!f) return NULL;
#ifdef FIBER_TSAN
    __tsan_destroy_fiber(f->here.sanitizer);
#endif
#ifdef FIBER_ASAN
    __asan_unpoison_memory_region(f->here.bottom, f->here.size); /* frames that were given up */
#endif
    munmap(f->map, f->map_size);
    mem_free(f);
    return NULL;
}

bool fiber_continue(struct fiber *f) {
    f->returned = false;
    entering = f;
#ifdef FIBER_TSAN
    f->outside.sanitizer = __tsan_get_current_fiber();
#endif
    change(&f->outside, &f->here);
    return f->returned;
}

bool fiber_run(struct fiber *f, void (*fn)(void *arg), void *arg) {
    f->fn = fn;
    f->arg = arg;
    return fiber_continue(f);
}

void fiber_stop(struct fiber *f) {
    change(&f->here, &f->outside);
}
