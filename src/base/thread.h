/* Starting a thread. Any thread. */
#ifndef KETTLE_BASE_THREAD_H
#define KETTLE_BASE_THREAD_H

#include <pthread.h>

/* fn(arg) in a new thread that takes no signal but those of a fault (base/crash.h): the others are the main thread's. The caller
 * joins or detaches it. 0, or -errno of pthread_create(3): *ret_thread is then as it was. */
int thread_start(pthread_t *ret_thread, void *(*fn)(void *), void *arg);

#endif
