/* Waiting for a socket until an exact moment. Any thread. */
#ifndef KETTLE_NET_SOCK_WAIT_H
#define KETTLE_NET_SOCK_WAIT_H

#include <stdint.h>

/* Until fd is ready for events (poll(2)), or in error, or the monotonic clock reaches deadline_us (INT64_MAX: no deadline). 0,
 * -ETIMEDOUT, -errno. */
int sock_wait(int fd, short events, int64_t deadline_us);

#endif
