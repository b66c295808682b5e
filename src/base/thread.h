/* Starting a thread. Any thread. */
#ifndef KETTLE_BASE_THREAD_H
#define KETTLE_BASE_THREAD_H

#include <pthread.h>
#include <sched.h>

#include "base/slice.h"

/* fn(arg) in a new thread that takes no signal but those of a fault (base/crash.h): the others are the main thread's. The caller
 * joins or detaches it. 0, or -errno of pthread_create(3): *ret_thread is then as it was. */
int thread_start(pthread_t *ret_thread, void *(*fn)(void *), void *arg);

/* "0,2-5,8-20:2" (every second one) as redis.conf's lists of processors. 0, or -EINVAL: not of this form, empty, or no processor
 * the kernel's sets have room for. */
int thread_parse_cpus(struct slice list, cpu_set_t *ret);
/* Where threads for background work are to run; a thread inherits those of its creator, which are for serving. Before there is
 * any other thread. */
void thread_set_background_cpus(const cpu_set_t *cpus);
/* The calling thread is one for background work. Does nothing when no processors were set. */
void thread_is_background(void);

#endif
