/* A second stack for a thread: code that runs on it can stop in the middle, let the thread go on with something else, and be
 * continued later, by the same thread. A fiber belongs to the thread that made it. */
#ifndef KETTLE_BASE_FIBER_H
#define KETTLE_BASE_FIBER_H

#include <stdbool.h>
#include <stddef.h>

struct fiber;

/* stack_size: bytes of address space, rounded up to pages; memory is taken as it is used. A page that cannot be touched lies
 * below it. Out of memory ends the process. */
struct fiber *fiber_new(size_t stack_size);
struct fiber *fiber_free(struct fiber *f); /* NULL is fine; always NULL. What was stopped on it is given up */
/* Runs fn(arg) on the fiber until it returns (true: the fiber may be given something else) or stops (false). */
bool fiber_run(struct fiber *f, void (*fn)(void *arg), void *arg);
bool fiber_continue(struct fiber *f); /* goes on with what was stopped; as fiber_run */
void fiber_stop(struct fiber *f);     /* on the fiber: back to who ran or continued it, until it is continued */

#endif
